//! Parameters of Zipkin's search and dependencies.

use trefoil_model::value::find;
use trefoil_model::{NanoRange, Span, SpanQuery, StatusCode, StoredTrace, TenantId};

use super::render::remote_service;
use crate::error::ApiError;
use crate::params::Params;

/// Traces of an answer when no limit is given.
const LIMIT: usize = 10;
/// Most traces of an answer; a greater limit is taken as this.
const LIMIT_MAX: usize = 1500;
/// How far back a search reaches that does not say it, in milliseconds: a day.
const LOOKBACK_MS: i64 = 86_400_000;
/// Conditions of an annotation query.
const CONDITIONS_MAX: usize = 64;

/// A search.
#[derive(Debug)]
pub(super) struct Search {
    /// What the store finds.
    pub(super) query: SpanQuery,
    /// Annotations or tags that a span must have.
    has: Vec<String>,
    /// The service on the other side.
    remote: String,
}

impl Search {
    /// Whether [`Self::matches`] says more than the query.
    pub(super) fn is_filtered(&self) -> bool {
        !self.has.is_empty() || !self.remote.is_empty()
    }

    /// Whether a span of the trace, of the service when one is named, has all that is asked beside the query.
    pub(super) fn matches(&self, trace: &StoredTrace) -> bool {
        let is_own = |service: &str| self.query.service.as_deref().is_none_or(|wanted| wanted == service);
        let own = trace.groups.iter().filter(|g| is_own(g.resource.service_name()));
        own.flat_map(|g| &g.spans).any(|span| {
            (self.remote.is_empty() || remote_service(span).as_deref() == Some(self.remote.as_str()))
                && self.has.iter().all(|word| has(span, word))
        })
    }
}

fn has(span: &Span, word: &str) -> bool {
    span.events.iter().any(|e| e.name == word)
        || find(&span.attributes, word).is_some()
        || (word == "error" && span.status_code == StatusCode::Error)
}

/// Reads a search.
pub(super) fn search(params: &Params, tenant: TenantId, now_ns: i64) -> Result<Search, ApiError> {
    let text = |name: &str| Some(params.get(name).to_owned()).filter(|t| !t.is_empty());
    let min_duration_us = number(params, "minDuration")?;
    let max_duration_us = number(params, "maxDuration")?;
    if let (Some(min), Some(max)) = (min_duration_us, max_duration_us)
        && max < min
    {
        return Err(ApiError::bad_data("maxDuration should not be less than minDuration"));
    }
    let limit = match number(params, "limit")? {
        None => LIMIT,
        Some(n) => usize::try_from(n).unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX),
    };
    let (mut tags, mut has) = (Vec::new(), Vec::new());
    for condition in params.get("annotationQuery").split(" and ").map(str::trim).filter(|c| !c.is_empty()) {
        match condition.split_once('=') {
            Some((name, value)) => tags.push((name.to_owned(), value.to_owned())),
            None => has.push(condition.to_owned()),
        }
    }
    if tags.len() + has.len() > CONDITIONS_MAX {
        return Err(ApiError::bad_data(format!("annotationQuery has more than {CONDITIONS_MAX} conditions")));
    }
    let ns = |us: i64| us.saturating_mul(1000);
    let query = SpanQuery {
        tenant,
        service: text("serviceName"),
        operation: text("spanName").filter(|name| name != "all"),
        tags,
        min_duration_ns: min_duration_us.map(ns),
        max_duration_ns: max_duration_us.map(|us| ns(us).saturating_add(999)),
        range: Some(range(params, now_ns)?),
        limit,
    };
    Ok(Search { query, has, remote: text("remoteServiceName").unwrap_or_default() })
}

/// `endTs` and `lookback` in milliseconds; the end is a millisecond that belongs to the range.
fn range(params: &Params, now_ns: i64) -> Result<NanoRange, ApiError> {
    let end_ns = match number(params, "endTs")? {
        Some(ms) => ms.saturating_add(1).saturating_mul(1_000_000),
        None => now_ns.saturating_add(1),
    };
    let lookback_ms = number(params, "lookback")?.unwrap_or(LOOKBACK_MS);
    Ok(NanoRange { start_ns: end_ns.saturating_sub(lookback_ms.saturating_mul(1_000_000)), end_ns })
}

/// The range of dependencies, whose end must be given.
pub(super) fn dependency_range(params: &Params) -> Result<NanoRange, ApiError> {
    if params.get("endTs").is_empty() {
        return Err(ApiError::bad_data("Required parameter 'endTs' is not present"));
    }
    range(params, 0)
}

/// A whole number that is not negative.
fn number(params: &Params, name: &str) -> Result<Option<i64>, ApiError> {
    match params.get(name) {
        "" => Ok(None),
        text => text
            .parse()
            .ok()
            .filter(|n: &i64| *n >= 0)
            .map(Some)
            .ok_or_else(|| ApiError::bad_data(format!("{name} {text:?} is no whole number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000_000_000;

    fn read(query: &str) -> Result<Search, String> {
        search(&Params::from_query(query).unwrap(), TenantId::default(), NOW).map_err(|e| e.message)
    }

    #[test]
    fn a_search_with_everything() {
        let found = read(
            "serviceName=a&spanName=get&remoteServiceName=b&annotationQuery=http.method%3DGET+and+cache.miss&\
             minDuration=5&maxDuration=7&endTs=2000&lookback=1000&limit=3",
        )
        .unwrap();
        let query = &found.query;
        assert_eq!((query.service.as_deref(), query.operation.as_deref()), (Some("a"), Some("get")));
        assert_eq!(query.tags, [("http.method".to_owned(), "GET".to_owned())]);
        assert_eq!((found.has.as_slice(), found.remote.as_str()), (&["cache.miss".to_owned()][..], "b"));
        assert_eq!((query.min_duration_ns, query.max_duration_ns, query.limit), (Some(5_000), Some(7_999), 3));
        assert_eq!(query.range, Some(NanoRange { start_ns: 1_001_000_000, end_ns: 2_001_000_000 }));
        assert!(found.is_filtered());
    }

    #[test]
    fn defaults_and_refusals() {
        let found = read("").unwrap();
        assert_eq!((found.query.limit, found.is_filtered()), (LIMIT, false));
        assert_eq!(found.query.range, Some(NanoRange { start_ns: NOW + 1 - LOOKBACK_MS * 1_000_000, end_ns: NOW + 1 }));
        assert_eq!(read("limit=0").unwrap().query.limit, 1);
        for (query, want) in [
            ("limit=-1", "limit \"-1\" is no whole number"),
            ("endTs=x", "endTs \"x\" is no whole number"),
            ("minDuration=2&maxDuration=1", "maxDuration should not be less than minDuration"),
        ] {
            assert_eq!(read(query).map(|_| ()), Err(want.to_owned()), "{query}");
        }
    }
}
