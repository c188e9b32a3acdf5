//! What is asked of the stores: series of an entity, its log lines, its traces.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use serde_json::{Value, json};
use trefoil_insight::entity::{Entity, Selector, quoted};
use trefoil_logql::{Entry, RangeQuery, each_line};
use trefoil_model::{
    Direction, Labels, MatchOp, Matcher, NanoRange, QueryBudget, SelectRequest, StatusCode, StoredTrace, TimeRange,
    TraceId,
};
use trefoil_runtime::QueryContext;
use trefoil_traceql::{SearchQuery, TraceResult, search};

use crate::error::ApiError;
use crate::logs::line_json;
use crate::loki::logql_error;
use crate::state::AppState;
use crate::traces::traceql_error;

/// Metrics that are named of a selector.
const METRICS_MAX: usize = 200;
/// Selectors of an entity that are tried.
const SELECTORS_MAX: usize = 32;
/// All log streams, as far as LogQL lets ask for all: every door gives a line this label.
const ALL_STREAMS: &str = r#"{service_name=~".+"}"#;
/// Fields that hold the id of a trace.
const TRACE_FIELDS: [&str; 4] = ["trace_id", "traceID", "traceId", "traceid"];

/// Lines with the labels of their streams, newest first.
pub(super) type Lines = Vec<(Labels, Entry)>;

/// The stores as one request sees them.
pub(super) struct Reach<'a> {
    pub(super) state: &'a AppState,
    pub(super) context: &'a QueryContext,
}

/// The same in milliseconds, the ends inside.
fn ms(range: NanoRange) -> TimeRange {
    TimeRange::new(range.start_ns.div_euclid(1_000_000), range.end_ns.div_euclid(1_000_000).saturating_add(1))
}

impl Reach<'_> {
    /// The selectors under which an entity has series, with the names of their metrics.
    pub(super) fn metrics(&self, entity: &Entity, range: NanoRange) -> Result<Vec<Value>, ApiError> {
        let mut out = Vec::new();
        for selector in entity.metrics().into_iter().take(SELECTORS_MAX) {
            self.context.check()?;
            let request = SelectRequest { tenant: self.state.tenant, matchers: matchers(&selector)?, range: ms(range) };
            let (names, is_cut) = self.state.metrics.label_values(
                self.state.tenant,
                "__name__",
                ms(range),
                &[request],
                METRICS_MAX,
                self.context,
            )?;
            if !names.is_empty() {
                out.push(json!({
                    "by": selector.by,
                    "selector": selector.to_string(),
                    "metrics": names,
                    "isCut": is_cut,
                }));
            }
        }
        Ok(out)
    }

    /// The newest lines of a LogQL query.
    pub(super) fn lines(&self, query: &str, range: NanoRange, most: usize) -> Result<Lines, ApiError> {
        let (start_ns, end_ns, tenant) = (range.start_ns, range.end_ns, self.state.tenant);
        let asked =
            RangeQuery { query, start_ns, end_ns, step_ns: 1, direction: Direction::Backward, limit: 0, tenant };
        let mut lines = Lines::new();
        let bytes_max = self.state.limits.query_scan_bytes_max;
        each_line(&asked, self.state.logs.as_ref(), self.context, bytes_max, &mut |stream, entry| {
            self.context.charge_bytes(512 + entry.line.len() as u64)?;
            lines.push((stream, entry));
            Ok(if lines.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
        .map_err(logql_error)?;
        Ok(lines)
    }

    /// The newest lines of an entity by the narrowest of its names that has some, with the query.
    pub(super) fn lines_of(
        &self,
        entity: &Entity,
        range: NanoRange,
        most: usize,
    ) -> Result<Option<(String, Lines)>, ApiError> {
        for selector in entity.logs() {
            let query = selector.to_string();
            let lines = self.lines(&query, range, most)?;
            if !lines.is_empty() {
                return Ok(Some((query, lines)));
            }
        }
        Ok(None)
    }

    /// The newest lines that name a trace, in a field or in their text, with the queries.
    pub(super) fn lines_of_trace(
        &self,
        id: TraceId,
        range: NanoRange,
        most: usize,
    ) -> Result<(Vec<String>, Lines), ApiError> {
        let text = quoted(&id.to_string());
        let fields: Vec<String> = TRACE_FIELDS.iter().map(|name| format!("{name}={text}")).collect();
        let queries = vec![format!("{ALL_STREAMS} | {}", fields.join(" or ")), format!("{ALL_STREAMS} |= {text}")];
        let mut all = Lines::new();
        let mut seen: BTreeSet<(i64, String, String)> = BTreeSet::new();
        for query in &queries {
            for (stream, entry) in self.lines(query, range, most)? {
                if seen.insert((entry.ts_ns, stream.to_string(), entry.line.clone())) {
                    all.push((stream, entry));
                }
            }
        }
        all.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.ts_ns));
        all.truncate(most);
        Ok((queries, all))
    }

    /// The newest traces of a TraceQL search.
    pub(super) fn traces(&self, query: &str, range: NanoRange, most: usize) -> Result<Vec<Value>, ApiError> {
        let asked = SearchQuery { query, range, limit: most, spans_per_set: 1, tenant: self.state.tenant };
        let found = search(&asked, self.state.traces.as_ref(), self.context).map_err(traceql_error)?;
        Ok(found.traces.iter().map(found_json).collect())
    }

    /// A whole trace, or `None`.
    pub(super) fn trace(&self, id: TraceId) -> Result<Option<StoredTrace>, ApiError> {
        let found = self.state.traces.trace(self.state.tenant, id, None, self.context)?;
        Ok(found.filter(|t| t.groups.iter().any(|g| !g.spans.is_empty())))
    }
}

fn matchers(selector: &Selector) -> Result<Vec<Matcher>, ApiError> {
    let one = |(name, value, is_pattern): &(String, String, bool)| {
        let op = if *is_pattern { MatchOp::Regex } else { MatchOp::Equal };
        Matcher::new(op, name.clone(), value.clone()).map_err(|error| ApiError::internal(error.to_string()))
    };
    selector.labels.iter().map(one).collect()
}

fn found_json(found: &TraceResult) -> Value {
    let sum = |of: &dyn Fn(&trefoil_traceql::ServiceStats) -> u64| found.services.iter().map(of).sum::<u64>();
    let (service, name) = found.root.as_ref().map_or((Value::Null, Value::Null), |(s, n)| (json!(s), json!(n)));
    json!({
        "traceId": found.trace_id.to_string(),
        "rootService": service,
        "rootName": name,
        "start": found.start_ns.to_string(),
        "durationNs": found.duration_ns,
        "spans": sum(&|s| s.spans),
        "errors": sum(&|s| s.errors),
        "services": found.services.iter().map(|s| &s.name).collect::<Vec<_>>(),
    })
}

/// First start and last end of a trace.
pub(super) fn bounds(trace: &StoredTrace) -> NanoRange {
    let spans = || trace.groups.iter().flat_map(|g| &g.spans);
    let start_ns = spans().map(|s| s.start_ns).min().unwrap_or(0);
    let end_ns = spans().map(|s| s.end_ns.max(s.start_ns)).max().unwrap_or(0);
    NanoRange { start_ns, end_ns: end_ns.saturating_add(1) }
}

/// What is shown of a trace, as [`Reach::traces`] shows it.
pub(super) fn trace_json(trace: &StoredTrace) -> Value {
    let spans = || trace.groups.iter().flat_map(|g| g.spans.iter().map(move |s| (g.resource.service_name(), s)));
    let root = spans().filter(|(_, s)| s.parent_span_id.is_none()).min_by_key(|(_, s)| (s.start_ns, s.span_id));
    let services: BTreeMap<&str, ()> = spans().map(|(service, _)| (service, ())).collect();
    let NanoRange { start_ns, end_ns } = bounds(trace);
    json!({
        "traceId": trace.trace_id.to_string(),
        "rootService": root.map(|(service, _)| service),
        "rootName": root.map(|(_, span)| &span.name),
        "start": start_ns.to_string(),
        "durationNs": end_ns.saturating_sub(1).saturating_sub(start_ns),
        "spans": spans().count(),
        "errors": spans().filter(|(_, s)| s.status_code == StatusCode::Error).count(),
        "services": services.keys().collect::<Vec<_>>(),
    })
}

/// Lines as a page reads them.
pub(super) fn lines_json(lines: &[(Labels, Entry)]) -> Vec<Value> {
    lines.iter().map(|(stream, entry)| line_json(stream, entry)).collect()
}

/// The entity of each resource of a trace, each once.
pub(super) fn entities(trace: &StoredTrace) -> BTreeSet<Entity> {
    let entity = |group: &trefoil_model::SpanGroup| {
        let pairs: Vec<(&str, String)> =
            group.resource.attributes.iter().map(|(name, value)| (name.as_str(), value.to_text())).collect();
        Entity::of(pairs.iter().map(|(name, value)| (*name, value.as_str())))
    };
    trace.groups.iter().map(entity).filter(|entity| !entity.is_empty()).collect()
}
