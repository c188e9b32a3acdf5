//! The body of a search.

use serde_json::{Map, Value as Json, json};

use crate::Error;
use crate::aggs::Aggs;
use crate::date;
use crate::doc::Field;
use crate::dsl::{self, Context, flag, scalar_text};
use crate::hits::Show;
use crate::query::Query;
use crate::sort::{Sort, SortValue};

/// Most hits that can be paged through with `from` and `size`, as Elasticsearch's `index.max_result_window`.
pub const RESULT_WINDOW_MAX: usize = 10_000;
/// Hits that are counted when the request does not say.
const TRACK_TOTAL_HITS: u64 = 10_000;
const SIZE: usize = 10;

/// What a search asks for.
#[derive(Debug)]
pub struct SearchRequest {
    pub(crate) query: Query,
    pub(crate) post_filter: Option<Query>,
    pub(crate) from: usize,
    pub(crate) size: usize,
    pub(crate) sort: Sort,
    pub(crate) after: Option<Vec<SortValue>>,
    /// So many hits are counted; 0: none, and the answer has no total.
    pub(crate) total_max: u64,
    pub(crate) is_total_shown: bool,
    pub(crate) terminate_after: u64,
    pub(crate) show: Show,
    pub(crate) aggs: Aggs,
    pub(crate) collapse: Option<Field>,
    /// Milliseconds after which the client gives up.
    timeout_ms: Option<i64>,
    pit: Option<String>,
}

impl SearchRequest {
    /// Reads a body. `now_ms` is what `now` means in it, Unix milliseconds.
    ///
    /// Errors: all that Elasticsearch refuses, in its words; what is not supported is refused by name.
    pub fn parse(body: &Json, now_ms: i64) -> Result<Self, Error> {
        let empty = Map::new();
        let body = match body {
            Json::Object(body) => body,
            Json::Null => &empty,
            _ => return Err(Error::parsing("Expected [START_OBJECT] but found a value")),
        };
        let mut context = Context::new(now_ms);
        let mut request = Self {
            query: Query::All,
            post_filter: None,
            from: 0,
            size: SIZE,
            sort: Sort::default(),
            after: None,
            total_max: TRACK_TOTAL_HITS,
            is_total_shown: true,
            terminate_after: u64::MAX,
            show: Show::parse(body)?,
            aggs: Aggs::default(),
            collapse: None,
            timeout_ms: None,
            pit: None,
        };
        for (key, value) in body {
            request.read(key, value, &mut context)?;
        }
        if let Some(after) = body.get("search_after").filter(|a| !a.is_null()) {
            if request.pit.is_some() {
                request.sort = request.sort.with_position();
            }
            if request.from > 0 {
                return Err(Error::validation("`from` parameter must be set to 0 when `search_after` is used"));
            }
            request.after = Some(request.sort.after(after)?);
        } else if request.pit.is_some() && request.size > 0 {
            request.sort = request.sort.with_position();
        }
        if request.from.saturating_add(request.size) > RESULT_WINDOW_MAX {
            let asked = request.from.saturating_add(request.size);
            return Err(Error::shard(
                "illegal_argument_exception",
                format!(
                    "Result window is too large, from + size must be less than or equal to: [{RESULT_WINDOW_MAX}] but \
                     was [{asked}]. See the scroll api for a more efficient way to request large data sets. This limit \
                     can be set by changing the [index.max_result_window] index level setting."
                ),
            ));
        }
        Ok(request)
    }

    fn read(&mut self, key: &str, value: &Json, context: &mut Context) -> Result<(), Error> {
        let whole = || {
            let number = scalar_text(value).and_then(|t| t.parse::<i64>().ok());
            let number = number.ok_or_else(|| Error::content(format!("[{key}] must be a whole number")))?;
            usize::try_from(number)
                .map_err(|_| Error::validation(format!("[{key}] parameter cannot be negative but was [{number}]")))
        };
        match key {
            "query" if value.is_null() => {}
            "query" => self.query = dsl::parse(value, context)?,
            "post_filter" if value.is_null() => {}
            "post_filter" => self.post_filter = Some(dsl::parse(value, context)?),
            "from" => self.from = whole()?,
            "size" => self.size = whole()?,
            "sort" => self.sort = Sort::parse(value)?,
            "aggs" | "aggregations" => self.aggs = Aggs::parse(value, context)?,
            "track_total_hits" => self.track_total(value)?,
            "terminate_after" => self.terminate_after = (whole()? as u64).checked_sub(1).map_or(u64::MAX, |n| n + 1),
            "timeout" => self.timeout_ms = scalar_text(value).and_then(|t| date::duration_ms(&t)).filter(|ms| *ms > 0),
            "collapse" => self.collapse = Some(collapse(value)?),
            "pit" => {
                let id = value.get("id").and_then(Json::as_str);
                self.pit = Some(id.ok_or_else(|| Error::content("[pit] requires [id]"))?.to_owned());
            }
            "min_score" if value.as_f64().is_some_and(|n| n > 1.0) => self.query = Query::None,
            "script_fields" | "runtime_mappings" | "suggest" | "rescore" | "knn" | "slice" | "retriever" => {
                let is_empty = value.is_null() || value == &json!({}) || value == &json!([]);
                if !is_empty {
                    return Err(Error::illegal(format!("[{key}] is not supported")));
                }
            }
            "search_after"
            | "_source"
            | "fields"
            | "docvalue_fields"
            | "stored_fields"
            | "highlight"
            | "min_score"
            | "version"
            | "seq_no_primary_term"
            | "explain"
            | "profile"
            | "track_scores"
            | "indices_boost"
            | "stats"
            | "ext"
            | "_name" => {}
            other => {
                let kind = if value.is_object() { "START_OBJECT" } else { "VALUE" };
                return Err(Error::parsing(format!("Unknown key for a {kind} in [{}].", date::cut(other))));
            }
        }
        Ok(())
    }

    /// `true`, `false` or a number.
    fn track_total(&mut self, value: &Json) -> Result<(), Error> {
        (self.total_max, self.is_total_shown) = match scalar_text(value).as_deref() {
            Some("true") => (u64::MAX, true),
            Some("false") => (0, false),
            Some(number) => match number.parse::<i64>() {
                Ok(-1) => (u64::MAX, true),
                Ok(n) if n >= 0 => (n as u64, true),
                _ => {
                    return Err(Error::illegal(format!(
                        "[track_total_hits] parameter must be positive or equals to -1, got {number}"
                    )));
                }
            },
            None => return Err(Error::content("[track_total_hits] must be a number or a boolean")),
        };
        Ok(())
    }

    /// The point in time that it names.
    pub fn pit(&self) -> Option<&str> {
        self.pit.as_deref()
    }

    /// How long the client wants to wait at most.
    pub fn timeout(&self) -> Option<std::time::Duration> {
        self.timeout_ms.map(|ms| std::time::Duration::from_millis(ms.unsigned_abs()))
    }

    /// Makes it a page of a scroll: ordered to the end, beginning after the hit whose sort values are given. The first
    /// page counts all hits, later ones none.
    ///
    /// Errors: `from` is set, no hits are asked for, or the values do not fit the sort.
    pub fn scrolled(mut self, after: Option<&Json>) -> Result<Self, Error> {
        if self.from > 0 {
            return Err(Error::validation("using [from] is not allowed in a scroll context"));
        }
        if self.size == 0 {
            return Err(Error::validation("[size] cannot be [0] in a scroll context"));
        }
        self.sort = self.sort.with_position();
        if let Some(after) = after {
            self.after = Some(self.sort.after(after)?);
            // As Elasticsearch: the first page alone has them. It counts for all.
            self.aggs = Aggs::default();
            (self.total_max, self.is_total_shown) = (0, false);
        } else {
            self.total_max = u64::MAX;
        }
        Ok(self)
    }
}

/// Reads the body of `_count`: the query alone.
pub(crate) fn count_query(body: &Json, now_ms: i64) -> Result<Query, Error> {
    let Json::Object(body) = body else { return Ok(Query::All) };
    let mut query = Query::All;
    for (key, value) in body {
        match key.as_str() {
            "query" if value.is_null() => {}
            "query" => query = dsl::parse(value, &mut Context::new(now_ms))?,
            other => return Err(Error::parsing(format!("request does not support [{}]", date::cut(other)))),
        }
    }
    Ok(query)
}

fn collapse(value: &Json) -> Result<Field, Error> {
    let object = value.as_object().ok_or_else(|| Error::content("[collapse] must be an object"))?;
    if object.contains_key("inner_hits") || flag(Some(object), "collapse") {
        return Err(Error::illegal("[collapse] with [inner_hits] is not supported"));
    }
    let field = object.get("field").and_then(Json::as_str);
    field.map(Field::new).ok_or_else(|| Error::content("[collapse] requires [field]"))
}
