//! Running a request over the log store: narrowed scans, the best hits, counts.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use prometheus::{IntCounter, register_int_counter};
use serde_json::{Map, Value as Json, json};
use trefoil_model::{Direction, LogQuery, LogReader, NanoRange, QueryBudget, TenantId};

use crate::Error;
use crate::doc::{Doc, Field, Held, ID_ATTRIBUTE, INDEX, INDEX_ATTRIBUTE, Position};
use crate::hints::{Hints, Pass};
use crate::hits::Show;
use crate::indices::Indices;
use crate::query::{Ids, Query};
use crate::request::{SearchRequest, count_query};
use crate::sort::{Sort, SortValue, Values};

static SEARCHES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_elastic_searches_total", "Searches run").expect("unique metric name")
});
static SEARCHES_FAILED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_elastic_searches_failed_total", "Searches that gave an error")
        .expect("unique metric name")
});
static DOCUMENTS: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_elastic_documents_read_total", "Records that searches looked at")
        .expect("unique metric name")
});

/// Documents between two looks at the budget.
const CHECK_INTERVAL: u64 = 1024;

/// What is searched, for whom, and with which budget. Calls may take long: not for an async thread.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The store.
    pub reader: &'a dyn LogReader,
    /// Tenant.
    pub tenant: TenantId,
    /// Deadline and memory.
    pub budget: &'a dyn QueryBudget,
}

/// What a search found, but for the time that it took.
#[derive(Debug)]
pub struct SearchAnswer {
    /// The body: `timed_out`, `_shards`, `hits`, `aggregations`.
    pub body: Map<String, Json>,
    /// `sort` of the last hit, when there is one.
    pub last_sort: Option<Json>,
}

impl SearchAnswer {
    /// The whole body, with `took` in front.
    pub fn with_took(self, took_ms: u64) -> Map<String, Json> {
        let mut body = Map::new();
        body.insert("took".to_owned(), json!(took_ms));
        body.extend(self.body);
        body
    }
}

/// Runs a search.
pub fn search(request: &SearchRequest, indices: &Indices, source: Source<'_>) -> Result<SearchAnswer, Error> {
    SEARCHES.inc();
    let mut run = Run { source, indices, documents: 0 };
    let result = run.search(request);
    DOCUMENTS.inc_by(run.documents);
    result.inspect_err(|_| SEARCHES_FAILED.inc())
}

/// Counts the documents that satisfy the query of a body.
pub fn count(body: &Json, now_ms: i64, indices: &Indices, source: Source<'_>) -> Result<u64, Error> {
    let query = count_query(body, now_ms)?;
    let mut run = Run { source, indices, documents: 0 };
    let mut count = 0;
    run.scan(&query, Hints::of(&query), Direction::Backward, &mut |_| {
        count += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    DOCUMENTS.inc_by(run.documents);
    Ok(count)
}

/// The document of an id as `GET /{index}/_doc/{id}` shows it, and whether there is one.
pub fn document(id: &str, body: &Json, indices: &Indices, source: Source<'_>) -> Result<(bool, Json), Error> {
    let index = indices.single().unwrap_or(INDEX);
    let absent = json!({ "_index": index, "_id": id, "found": false });
    let show = Show::parse(body.as_object().unwrap_or(&Map::new()))?;
    let query = Query::Ids(Ids::new([id.to_owned()]));
    let mut narrowed =
        vec![Hints { attribute_terms: vec![(ID_ATTRIBUTE.to_owned(), id.to_owned())], ..Hints::of(&Query::All) }];
    if let Some(position) = Position::of_id(id) {
        let mut hints = Hints::of(&Query::All);
        hints.within(position.time_ns, position.time_ns.saturating_add(1));
        narrowed.insert(0, hints);
    }
    let mut run = Run { source, indices, documents: 0 };
    let (mut found, mut sequence) = (None, 0);
    for hints in narrowed {
        if found.is_some() {
            break;
        }
        run.scan(&query, hints, Direction::Backward, &mut |doc| {
            sequence = doc.position().sequence;
            found = Some(show.hit(doc, &Query::All, None));
            Ok(ControlFlow::Break(()))
        })?;
    }
    let Some(Json::Object(mut hit)) = found else { return Ok((false, absent)) };
    hit.remove("_score");
    let source = hit.remove("_source");
    for (key, value) in
        [("_version", json!(1)), ("_seq_no", json!(sequence)), ("_primary_term", json!(1)), ("found", json!(true))]
    {
        hit.insert(key.to_owned(), value);
    }
    if let Some(source) = source {
        hit.insert("_source".to_owned(), source);
    }
    Ok((true, Json::Object(hit)))
}

/// Errors with 404 when a name that is no pattern is that of no index.
pub fn check_names(indices: &Indices, source: Source<'_>) -> Result<(), Error> {
    for name in indices.names().iter().filter(|n| *n != INDEX) {
        let indices = Indices::parse(name)?;
        let mut run = Run { source, indices: &indices, documents: 0 };
        let mut is_there = false;
        run.scan(&Query::All, Hints::of(&Query::All), Direction::Backward, &mut |_| {
            is_there = true;
            Ok(ControlFlow::Break(()))
        })?;
        if !is_there {
            return Err(Error::no_index(name));
        }
    }
    Ok(())
}

/// A search that runs.
pub(crate) struct Run<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) indices: &'a Indices,
    pub(crate) documents: u64,
}

impl Run<'_> {
    /// Calls `each` with every document of the indices that satisfies the query, until it breaks. Where there is more
    /// than one pass, documents are in the order of time within each only, and breaking ends one.
    pub(crate) fn scan(
        &mut self,
        query: &Query,
        mut hints: Hints,
        direction: Direction,
        each: &mut dyn FnMut(&Doc<'_>) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let Source { reader, tenant, budget } = self.source;
        if hints.range.start_ns >= hints.range.end_ns {
            return Ok(());
        }
        if let Some(name) = self.indices.single()
            && name != INDEX
        {
            hints.terms.push((INDEX_ATTRIBUTE.to_owned(), name.to_owned()));
        }
        let streams = match hints.wants_streams() {
            true => reader.streams(tenant, hints.range, &[], budget)?,
            false => Vec::new(),
        };
        let mut documents = 0u64;
        for Pass { matchers, attribute_terms } in hints.passes(&streams) {
            let log_query = LogQuery {
                tenant,
                matchers,
                needles: hints.needles.clone(),
                words: hints.words.clone(),
                attribute_terms,
                range: hints.range,
                direction,
            };
            let mut failure = None;
            reader.scan(&log_query, budget, &mut |entry| {
                documents += 1;
                if documents.is_multiple_of(CHECK_INTERVAL)
                    && let Err(error) = budget.check()
                {
                    failure = Some(Error::Store(error.into()));
                    return ControlFlow::Break(());
                }
                let doc = Doc::new(entry);
                if !self.indices.has(&doc) || !query.matches(&doc) {
                    return ControlFlow::Continue(());
                }
                each(&doc).unwrap_or_else(|error| {
                    failure = Some(error);
                    ControlFlow::Break(())
                })
            })?;
            if let Some(error) = failure {
                return Err(error);
            }
        }
        self.documents += documents;
        Ok(())
    }

    fn search(&mut self, request: &SearchRequest) -> Result<SearchAnswer, Error> {
        let SearchRequest { query, sort, post_filter, .. } = request;
        let mut collected = request.aggs.start(self.source.budget);
        let mut best = Best::new(request, self.source.budget);
        let direction = if sort.newest_first() { Direction::Backward } else { Direction::Forward };
        let hints = Hints::of(query);
        let after_ms = request.after.as_deref().and_then(|after| sort.after_ms(after)).filter(|_| sort.is_by_time());
        // A page far down: what comes before it is not read again, but for the count.
        let is_page = after_ms.is_some() && request.aggs.is_empty() && request.terminate_after == u64::MAX;
        let mut total = Total { max: request.total_max, ..Total::default() };
        let mut narrowed = hints.clone();
        if let (true, Some(ms)) = (is_page, after_ms) {
            let (start, end) = (crate::date::ms_to_ns(ms), crate::date::ms_to_ns(ms.saturating_add(1)));
            match direction {
                Direction::Backward => narrowed.within(i64::MIN, end),
                Direction::Forward => narrowed.within(start, i64::MAX),
            }
            let mut counted = Total { max: request.total_max, ..Total::default() };
            if request.total_max > 0 {
                self.scan(query, hints, direction, &mut |doc| {
                    let is_hit = post_filter.as_ref().is_none_or(|f| f.matches(doc));
                    counted.add(is_hit);
                    Ok(if counted.is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
                })?;
            }
            total = counted;
        }
        let is_by_time = sort.is_by_time();
        let (mut seen, mut is_terminated) = (0u64, false);
        self.scan(query, narrowed, direction, &mut |doc| {
            collected.add(doc)?;
            seen += 1;
            if seen >= request.terminate_after {
                is_terminated = true;
            }
            let is_hit = post_filter.as_ref().is_none_or(|f| f.matches(doc));
            if !is_page {
                total.add(is_hit);
            }
            let is_done = if is_hit { best.offer(doc)? } else { false };
            let is_counted = is_page || total.is_over;
            Ok(if is_terminated || (request.aggs.is_empty() && is_by_time && is_done && is_counted) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        let mut body = Map::new();
        body.insert("timed_out".to_owned(), json!(false));
        if request.terminate_after != u64::MAX {
            body.insert("terminated_early".to_owned(), json!(is_terminated));
        }
        body.insert("_shards".to_owned(), shards());
        let (hits, last_sort) = best.hits(request, &total)?;
        body.insert("hits".to_owned(), hits);
        if !request.aggs.is_empty() {
            body.insert("aggregations".to_owned(), Json::Object(collected.finish(&request.aggs)?));
        }
        Ok(SearchAnswer { body, last_sort })
    }
}

/// One shard that is well.
pub fn shards() -> Json {
    json!({ "total": 1, "successful": 1, "skipped": 0, "failed": 0 })
}

/// Counts up to a limit.
#[derive(Debug, Default)]
struct Total {
    count: u64,
    max: u64,
    /// There are more than are counted.
    is_over: bool,
}

impl Total {
    fn add(&mut self, is_hit: bool) {
        if is_hit && self.count >= self.max {
            self.is_over = true;
        } else if is_hit {
            self.count += 1;
        }
    }
}

/// The best hits so far, in order.
struct Best<'a> {
    sort: &'a Sort,
    after: Option<&'a [SortValue]>,
    collapse: Option<&'a Field>,
    keep: usize,
    held: Vec<(Values, Held, u64)>,
    /// For each collapsed value where its best hit is told from others.
    by_value: HashMap<String, (Values, Held)>,
    budget: &'a dyn QueryBudget,
}

impl<'a> Best<'a> {
    fn new(request: &'a SearchRequest, budget: &'a dyn QueryBudget) -> Self {
        Self {
            sort: &request.sort,
            after: request.after.as_deref(),
            collapse: request.collapse.as_ref(),
            keep: request.from + request.size,
            held: Vec::new(),
            by_value: HashMap::new(),
            budget,
        }
    }

    /// Takes a document when it is among the best; answers whether no later one can be when documents come in the
    /// order of time.
    fn offer(&mut self, doc: &Doc<'_>) -> Result<bool, Error> {
        if self.keep == 0 {
            return Ok(true);
        }
        let values = self.sort.values(doc);
        if self.after.is_some_and(|after| !self.sort.is_after(&values, after)) {
            return Ok(false);
        }
        if let Some(field) = self.collapse {
            return self.collapsed(field, doc, values).map(|()| false);
        }
        let at = self.held.partition_point(|(held, ..)| self.sort.compare(held, &values) == Ordering::Less);
        if at >= self.keep {
            // Only a later millisecond is surely worse.
            let worst = self.held.last().map(|(worst, ..)| self.sort.time_ms(worst));
            return Ok(worst.is_some_and(|worst| worst != self.sort.time_ms(&values)));
        }
        let bytes = Held::bytes(doc);
        self.budget.charge_bytes(bytes).map_err(trefoil_model::StoreError::from)?;
        self.held.insert(at, (values, Held::new(doc), bytes));
        if self.held.len() > self.keep
            && let Some((.., bytes)) = self.held.pop()
        {
            self.budget.release_bytes(bytes);
        }
        Ok(false)
    }

    fn collapsed(&mut self, field: &Field, doc: &Doc<'_>, values: Values) -> Result<(), Error> {
        let mut key = None;
        doc.any(field, &mut |value| {
            key = Some(value.text().into_owned());
            true
        });
        let key = key.unwrap_or_default();
        if self.by_value.get(&key).is_none_or(|(best, _)| self.sort.compare(&values, best) == Ordering::Less) {
            let bytes = Held::bytes(doc) + key.len() as u64;
            self.budget.charge_bytes(bytes).map_err(trefoil_model::StoreError::from)?;
            self.by_value.insert(key, (values, Held::new(doc)));
        }
        Ok(())
    }

    /// `hits`, and the sort values of the last one.
    fn hits(mut self, request: &SearchRequest, total: &Total) -> Result<(Json, Option<Json>), Error> {
        let mut collapsed: Vec<(String, (Values, Held))> = self.by_value.drain().collect();
        collapsed.sort_by(|(_, (a, _)), (_, (b, _))| self.sort.compare(a, b));
        let field = self.collapse.map(|f| f.name().to_owned());
        let rows = self.held.into_iter().map(|(values, held, _)| (None, values, held));
        let rows = rows.chain(collapsed.into_iter().map(|(key, (values, held))| (Some(key), values, held)));
        let (mut hits, mut last) = (Vec::new(), None);
        for (key, values, held) in rows.skip(request.from).take(request.size) {
            let sort = request.sort.is_given.then(|| request.sort.json(&values));
            last = sort.clone().map(Json::Array);
            let mut hit = request.show.hit(&held.doc(), &request.query, sort);
            if let (Some(field), Some(key)) = (&field, key) {
                hit["fields"][field] = json!([key]);
            }
            hits.push(hit);
            self.budget.check().map_err(trefoil_model::StoreError::from)?;
        }
        let mut out = Map::new();
        if request.is_total_shown {
            let relation = if total.is_over { "gte" } else { "eq" };
            out.insert("total".to_owned(), json!({ "value": total.count, "relation": relation }));
        }
        let scored = !request.sort.is_given && !hits.is_empty();
        out.insert("max_score".to_owned(), if scored { json!(1.0) } else { Json::Null });
        out.insert("hits".to_owned(), Json::Array(hits));
        Ok((Json::Object(out), last))
    }
}

/// Records of a range in the order of time, newest first, until `each` breaks; for what is told of fields.
pub(crate) fn newest(
    source: Source<'_>,
    indices: &Indices,
    range: NanoRange,
    each: &mut dyn FnMut(&Doc<'_>) -> ControlFlow<()>,
) -> Result<(), Error> {
    let mut run = Run { source, indices, documents: 0 };
    let mut hints = Hints::of(&Query::All);
    hints.range = range;
    run.scan(&Query::All, hints, Direction::Backward, &mut |doc| Ok(each(doc)))
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}
