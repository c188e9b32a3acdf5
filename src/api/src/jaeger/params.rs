//! Parameters of Jaeger's search and dependencies.

use serde_json::Value;
use trefoil_model::{NanoRange, SpanQuery};

use crate::error::ApiError;
use crate::loki::time::units_ns;
use crate::params::Params;

/// Traces of an answer when no limit is given.
pub(super) const LIMIT: usize = 100;
/// Most traces of an answer; a greater limit is taken as this.
pub(super) const LIMIT_MAX: usize = 1500;
/// How far back a search reaches when its start is not given: two days.
const LOOKBACK_NS: i64 = 2 * 86_400_000_000_000;
/// How far back dependencies reach when it is not said: a day, in milliseconds.
const DEPENDENCIES_LOOKBACK_MS: i64 = 86_400_000;
/// Tags of a search.
pub(super) const TAGS_MAX: usize = 64;

/// Reads a search; the tenant is the caller's to set.
pub(super) fn search(params: &Params, now_ns: i64) -> Result<SpanQuery, ApiError> {
    let text = |name: &str| Some(params.get(name).to_owned()).filter(|t| !t.is_empty());
    let min_duration_ns = duration(params, "minDuration")?;
    let max_duration_ns = duration(params, "maxDuration")?;
    if let (Some(min), Some(max)) = (min_duration_ns, max_duration_ns)
        && max < min
    {
        return Err(ApiError::bad_data("'maxDuration' should be greater than 'minDuration'"));
    }
    let limit = match number(params, "limit")? {
        None => LIMIT,
        Some(n) if n > 0 => usize::try_from(n).unwrap_or(LIMIT_MAX).min(LIMIT_MAX),
        Some(_) => return Err(unreadable("limit", "it must be positive")),
    };
    Ok(SpanQuery {
        service: text("service"),
        operation: text("operation").filter(|o| o != "all"),
        tags: tags(params)?,
        min_duration_ns,
        max_duration_ns,
        range: Some(range(params, now_ns)?),
        limit,
        ..SpanQuery::default()
    })
}

/// `start` and `end` in microseconds, and `lookback` as a length of time when there is no start.
fn range(params: &Params, now_ns: i64) -> Result<NanoRange, ApiError> {
    let ns = |us: i64| us.saturating_mul(1000);
    // The end is a microsecond that belongs to the range.
    let end = number(params, "end")?.map_or(now_ns, |us| ns(us).saturating_add(1000));
    let lookback = match params.get("lookback") {
        "" | "custom" => LOOKBACK_NS,
        text => units_ns(text).ok_or_else(|| unreadable("lookback", text))?,
    };
    let start = number(params, "start")?.map_or_else(|| end.saturating_sub(lookback), ns);
    if end < start {
        return Err(ApiError::bad_data("'end' should be after 'start'"));
    }
    Ok(NanoRange::new(start, end))
}

/// `endTs` and `lookback` in milliseconds.
pub(super) fn dependency_range(params: &Params, now_ns: i64) -> Result<NanoRange, ApiError> {
    let ns = |ms: i64| ms.saturating_mul(1_000_000);
    let end = number(params, "endTs")?.map_or(now_ns, ns);
    let lookback = ns(number(params, "lookback")?.unwrap_or(DEPENDENCIES_LOOKBACK_MS));
    Ok(NanoRange::new(end.saturating_sub(lookback), end.saturating_add(1)))
}

fn unreadable(name: &str, why: &str) -> ApiError {
    ApiError::bad_data(format!("unable to parse param '{name}': {why}"))
}

fn number(params: &Params, name: &str) -> Result<Option<i64>, ApiError> {
    match params.get(name) {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| unreadable(name, &format!("{text:?} is no whole number"))),
    }
}

fn duration(params: &Params, name: &str) -> Result<Option<i64>, ApiError> {
    match params.get(name) {
        "" => Ok(None),
        text => units_ns(text).map(Some).ok_or_else(|| unreadable(name, &format!("{text:?} is no duration"))),
    }
}

/// `tag=name:value`, repeated, and `tags={"name":"value"}`, repeated.
fn tags(params: &Params) -> Result<Vec<(String, String)>, ApiError> {
    let mut tags = Vec::new();
    for text in params.all("tag") {
        let (name, value) = text.split_once(':').ok_or_else(|| {
            ApiError::bad_data(format!("malformed 'tag' parameter, expecting key:value, received: {text}"))
        })?;
        tags.push((name.to_owned(), value.to_owned()));
    }
    for text in params.all("tags").filter(|t| !t.is_empty()) {
        let malformed = |why: &str| ApiError::bad_data(format!("malformed 'tags' parameter, {why}: {text}"));
        let Ok(Value::Object(map)) = serde_json::from_str(text) else {
            return Err(malformed("expecting a JSON object"));
        };
        for (name, value) in map {
            let value = match value {
                Value::String(s) => s,
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                _ => return Err(malformed("expecting text values")),
            };
            tags.push((name, value));
        }
    }
    if tags.len() > TAGS_MAX {
        return Err(ApiError::bad_data(format!("more than {TAGS_MAX} tags")));
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000_000_000;

    fn read(query: &str) -> Result<SpanQuery, String> {
        search(&Params::from_query(query).unwrap(), NOW).map_err(|e| e.message)
    }

    #[test]
    fn a_search_with_everything() {
        let query = read(
            "service=a&operation=GET+%2F&minDuration=1.5s&maxDuration=2m&limit=5&start=1000&end=2000\
             &tag=a%3Ab%3Ac&tags=%7B%22x%22%3A%22y%22%2C%22n%22%3A1%7D",
        )
        .unwrap();
        assert_eq!((query.service.as_deref(), query.operation.as_deref()), (Some("a"), Some("GET /")));
        assert_eq!((query.min_duration_ns, query.max_duration_ns), (Some(1_500_000_000), Some(120_000_000_000)));
        assert_eq!((query.limit, query.range), (5, Some(NanoRange::new(1_000_000, 2_001_000))));
        let tags: Vec<_> = query.tags.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(tags, [("a", "b:c"), ("x", "y"), ("n", "1")]);
    }

    #[test]
    fn defaults() {
        let query = read("").unwrap();
        assert_eq!((query.service, query.operation, query.limit), (None, None, LIMIT));
        assert_eq!(query.range, Some(NanoRange::new(NOW - LOOKBACK_NS, NOW)));
        assert_eq!(read("lookback=1h").unwrap().range, Some(NanoRange::new(NOW - 3_600_000_000_000, NOW)));
        assert_eq!(read("limit=999999").unwrap().limit, LIMIT_MAX);
    }

    #[test]
    fn refusals() {
        for (query, want) in [
            ("limit=0", "unable to parse param 'limit': it must be positive"),
            ("start=x", "unable to parse param 'start': \"x\" is no whole number"),
            ("minDuration=5", "unable to parse param 'minDuration': \"5\" is no duration"),
            ("minDuration=2s&maxDuration=1s", "'maxDuration' should be greater than 'minDuration'"),
            ("tag=a", "malformed 'tag' parameter, expecting key:value, received: a"),
            ("tags=%5B%5D", "malformed 'tags' parameter, expecting a JSON object: []"),
            ("start=2000&end=1000", "'end' should be after 'start'"),
        ] {
            assert_eq!(read(query).map(|_| ()), Err(want.to_owned()), "{query}");
        }
    }
}
