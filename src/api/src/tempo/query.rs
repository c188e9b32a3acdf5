//! Tempo's TraceQL queries: searches, metrics, names and values of attributes.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde_json::{Value as Json, json};
use trefoil_model::{NanoRange, TenantId, TraceReader};
use trefoil_runtime::QueryContext;
use trefoil_traceql::ast::{Attribute, Intrinsic, Scope};
use trefoil_traceql::{
    Error, MetricsAnswer, MetricsInstantQuery, MetricsRangeQuery, SearchAnswer, SearchQuery, SetResult, TagQuery,
    TraceResult, Value, metrics_instant, metrics_range, parse_attribute, search, tag_names, tag_values,
};

use super::{Form, json::double, params};
use crate::error::{ApiError, ErrorKind};
use crate::params::Params;
use crate::prometheus::client_of;
use crate::queries::QueryNote;
use crate::routes::{Access, Route};
use crate::state::AppState;

/// Traces of a search that names no limit.
pub(super) const TRACES: usize = 20;
/// Most traces of a search.
pub(super) const TRACES_MAX: usize = 10_000;
/// Spans of a span set when nothing is said.
pub(super) const SPANS: usize = 3;
/// Most spans of a span set.
pub(super) const SPANS_MAX: usize = 1_000;
/// Names of a scope, or values, when nothing is said.
pub(super) const TAGS: usize = 5_000;
/// Most names or values.
pub(super) const TAGS_MAX: usize = 100_000;
/// Most exemplars of a metrics query.
pub(super) const EXEMPLARS_MAX: usize = trefoil_traceql::metrics::EXEMPLARS_MAX;

/// What stands for the service of a root span that did not come.
pub(super) const NO_ROOT: &str = "<root span not yet received>";

/// The routes.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/tempo/api/search", Access::Read, search_traces),
        Route::get("/tempo/api/search/tags", Access::Read, tags_v1),
        Route::get("/tempo/api/search/tag/{tag}/values", Access::Read, tag_values_v1),
        Route::get("/tempo/api/v2/search/tags", Access::Read, tags_v2),
        Route::get("/tempo/api/v2/search/tag/{tag}/values", Access::Read, tag_values_v2),
        Route::get("/tempo/api/metrics/query_range", Access::Read, query_range),
        Route::get("/tempo/api/metrics/query", Access::Read, query_instant),
    ]
}

/// Turns an engine's error into ours, with the status that the engine names.
pub(super) fn api_error(error: Error) -> ApiError {
    let kind = match error.status() {
        499 => ErrorKind::Canceled,
        504 => ErrorKind::Timeout,
        500 => ErrorKind::Internal,
        _ => ErrorKind::BadData,
    };
    match error {
        Error::Store(store) => ApiError { kind, ..ApiError::from(store) },
        other => ApiError::new(kind, other.to_string()),
    }
}

/// What is asked, for the list of queries that run.
pub(super) fn note(
    path: &'static str,
    client: String,
    query: &str,
    (start_ns, end_ns, step_ns): (i64, i64, i64),
) -> QueryNote {
    QueryNote {
        path,
        query: query.to_owned(),
        start_ms: start_ns / 1_000_000,
        end_ms: end_ns / 1_000_000,
        step_ms: step_ns / 1_000_000,
        client,
        rule_group: None,
    }
}

/// Runs `work` in its turn and writes what it gives.
async fn ask<F>(state: &AppState, note: QueryNote, work: F) -> Result<Response, ApiError>
where
    F: FnOnce(&QueryContext) -> Result<Json, ApiError> + Send + 'static,
{
    let bytes_max = state.limits.response_bytes_max;
    let work = move |context: &QueryContext| {
        let body = work(context)?.to_string().into_bytes();
        if body.len() as u64 > bytes_max { Err(ApiError::response_too_large(bytes_max)) } else { Ok(body) }
    };
    Ok(Form::Json.response(state.gate.run_noted(state, None, Some(note), work).await?))
}

fn answer(result: Result<Response, ApiError>) -> Response {
    result.unwrap_or_else(|mut error| {
        if error.kind == ErrorKind::Execution {
            error.kind = ErrorKind::BadData;
        }
        error.into_text()
    })
}

async fn search_traces(State(state): State<AppState>, request: Request) -> Response {
    answer(search_answer(&state, request).await)
}

async fn search_answer(state: &AppState, request: Request) -> Result<Response, ApiError> {
    let client = client_of(&request);
    let params = Params::read(state, request).await?;
    let mut text = params::query_text(state, &params)?.to_owned();
    if text.trim().is_empty() {
        text = params::legacy(&params)?;
    }
    let range = params::search_range(&params)?;
    let limit = params::count(&params, "limit", TRACES, TRACES_MAX)?;
    let spans_per_set = params::count(&params, "spss", SPANS, SPANS_MAX)?;
    let (limit, spans_per_set) =
        (if limit == 0 { TRACES } else { limit }, if spans_per_set == 0 { SPANS_MAX } else { spans_per_set });
    let note = note("/tempo/api/search", client, &text, (range.start_ns, range.end_ns, 0));
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    ask(state, note, move |context| {
        let query = SearchQuery { query: &text, range, limit, spans_per_set, tenant };
        Ok(search_json(&search(&query, traces.as_ref(), context).map_err(api_error)?))
    })
    .await
}

fn search_json(found: &SearchAnswer) -> Json {
    json!({
        "traces": found.traces.iter().map(trace_json).collect::<Vec<_>>(),
        "metrics": figures(found.inspected_traces, found.inspected_spans, found.inspected_bytes),
    })
}

fn figures(traces: u64, spans: u64, bytes: u64) -> Json {
    json!({
        "inspectedTraces": traces,
        "inspectedBytes": bytes.to_string(),
        "inspectedSpans": spans.to_string(),
        "completedJobs": 1,
        "totalJobs": 1,
    })
}

fn trace_json(trace: &TraceResult) -> Json {
    let sets: Vec<Json> = trace.sets.iter().map(set_json).collect();
    let (service, name) = trace.root.as_ref().map_or((NO_ROOT, ""), |(s, n)| (s, n));
    let stats =
        |s: &trefoil_traceql::ServiceStats| (s.name.clone(), json!({ "spanCount": s.spans, "errorCount": s.errors }));
    json!({
        "traceID": trace.trace_id.to_string(),
        "rootServiceName": service,
        "rootTraceName": name,
        "startTimeUnixNano": trace.start_ns.to_string(),
        "durationMs": trace.duration_ns / 1_000_000,
        "spanSet": sets.first(),
        "spanSets": sets,
        "serviceStats": trace.services.iter().map(stats).collect::<serde_json::Map<_, _>>(),
    })
}

fn set_json(set: &SetResult) -> Json {
    let span = |span: &trefoil_traceql::SpanResult| {
        let attributes: Vec<Json> =
            span.attributes.iter().map(|(a, v)| json!({ "key": a.bare_name(), "value": any_value(v) })).collect();
        json!({
            "spanID": span.span_id.to_string(),
            "name": span.name,
            "startTimeUnixNano": span.start_ns.to_string(),
            "durationNanos": span.duration_ns.to_string(),
            "attributes": attributes,
        })
    };
    json!({
        "spans": set.spans.iter().map(span).collect::<Vec<_>>(),
        "matched": set.matched,
        "attributes": labels(&set.attributes),
    })
}

fn labels(pairs: &[(String, Value)]) -> Json {
    pairs.iter().map(|(name, value)| json!({ "key": name, "value": any_value(value) })).collect()
}

/// A value as OpenTelemetry's `AnyValue`; what it has no type for is text.
fn any_value(value: &Value) -> Json {
    match value {
        Value::Int(i) => json!({ "intValue": i.to_string() }),
        Value::Float(x) => json!({ "doubleValue": double(*x) }),
        Value::Bool(b) => json!({ "boolValue": b }),
        other => json!({ "stringValue": other.to_text() }),
    }
}

async fn query_range(State(state): State<AppState>, request: Request) -> Response {
    answer(range_answer(&state, request).await)
}

async fn range_answer(state: &AppState, request: Request) -> Result<Response, ApiError> {
    let client = client_of(&request);
    let params = Params::read(state, request).await?;
    let text = params::query_text(state, &params)?.to_owned();
    let (start_ns, end_ns) = params::metrics_range(&params, state.clock.now_ns())?;
    let step_ns = params::step(&params, (start_ns, end_ns))?;
    let exemplars = params::count(&params, "exemplars", trefoil_traceql::metrics::EXEMPLARS_DEFAULT, EXEMPLARS_MAX)?;
    let note = note("/tempo/api/metrics/query_range", client, &text, (start_ns, end_ns, step_ns));
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    ask(state, note, move |context| {
        let query = MetricsRangeQuery { query: &text, start_ns, end_ns, step_ns, exemplars, tenant };
        Ok(range_json(&metrics_range(&query, traces.as_ref(), context).map_err(api_error)?))
    })
    .await
}

fn range_json(found: &MetricsAnswer) -> Json {
    let series = |s: &trefoil_traceql::MetricsSeries| {
        let samples = found.times_ns.iter().zip(&s.values);
        let samples: Vec<Json> = samples
            .filter_map(|(t, v)| v.map(|v| json!({ "timestampMs": (t / 1_000_000).to_string(), "value": double(v) })))
            .collect();
        let exemplar = |e: &trefoil_traceql::TraceExemplar| {
            json!({
                "labels": [{ "key": "trace:id", "value": { "stringValue": e.trace_id.to_string() } }],
                "value": double(e.value),
                "timestampMs": (e.time_ns / 1_000_000).to_string(),
            })
        };
        json!({
            "labels": labels(&s.labels),
            "samples": samples,
            "exemplars": s.exemplars.iter().map(exemplar).collect::<Vec<_>>(),
        })
    };
    json!({
        "series": found.series.iter().map(series).collect::<Vec<_>>(),
        "metrics": figures(found.inspected_traces, found.inspected_spans, found.inspected_bytes),
    })
}

async fn query_instant(State(state): State<AppState>, request: Request) -> Response {
    answer(instant_answer(&state, request).await)
}

async fn instant_answer(state: &AppState, request: Request) -> Result<Response, ApiError> {
    let client = client_of(&request);
    let params = Params::read(state, request).await?;
    let text = params::query_text(state, &params)?.to_owned();
    let (start_ns, end_ns) = params::metrics_range(&params, state.clock.now_ns())?;
    let note = note("/tempo/api/metrics/query", client, &text, (start_ns, end_ns, 0));
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    ask(state, note, move |context| {
        let query = MetricsInstantQuery { query: &text, start_ns, end_ns, tenant };
        Ok(instant_json(&metrics_instant(&query, traces.as_ref(), context).map_err(api_error)?))
    })
    .await
}

fn instant_json(found: &MetricsAnswer) -> Json {
    let series = |s: &trefoil_traceql::MetricsSeries| {
        let value = s.values.first().copied().flatten()?;
        Some(json!({ "labels": labels(&s.labels), "value": double(value) }))
    };
    json!({
        "series": found.series.iter().filter_map(series).collect::<Vec<_>>(),
        "metrics": figures(found.inspected_traces, found.inspected_spans, found.inspected_bytes),
    })
}

/// What names and values are asked of.
pub(super) struct Asked {
    pub(super) query: String,
    pub(super) range: NanoRange,
    pub(super) limit: usize,
    /// The scope that is asked for, "" for all.
    pub(super) scope: String,
    pub(super) note: QueryNote,
}

impl Asked {
    /// Names by scope, in the order in which Tempo shows the scopes.
    pub(super) fn names(
        &self,
        traces: &dyn TraceReader,
        tenant: TenantId,
        context: &QueryContext,
    ) -> Result<Vec<(&'static str, Vec<String>)>, ApiError> {
        let wants = |name: &str| matches!(self.scope.as_str(), "" | "none") || self.scope == name;
        let mut out = Vec::new();
        if self.scope != "intrinsic" {
            let mut found = tag_names(&self.query(tenant), traces, context).map_err(api_error)?;
            for scope in [Scope::Resource, Scope::Span, Scope::Event, Scope::Link, Scope::Instrumentation] {
                if let Some(names) = found.remove(&scope).filter(|_| wants(scope.as_str())) {
                    out.push((scope.as_str(), names.into_iter().collect()));
                }
            }
        }
        if wants("intrinsic") {
            out.push(("intrinsic", intrinsics().into_iter().map(str::to_owned).collect()));
        }
        Ok(out)
    }

    /// The values of an attribute.
    pub(super) fn values(
        &self,
        attribute: &Attribute,
        traces: &dyn TraceReader,
        tenant: TenantId,
        context: &QueryContext,
    ) -> Result<Vec<Value>, ApiError> {
        tag_values(attribute, &self.query(tenant), traces, context).map_err(api_error)
    }

    fn query(&self, tenant: TenantId) -> TagQuery<'_> {
        TagQuery { query: &self.query, range: self.range, limit: self.limit, tenant }
    }
}

/// Refuses what is no scope.
pub(super) fn check_scope(scope: &str) -> Result<(), ApiError> {
    let known = ["", "none", "span", "resource", "event", "link", "instrumentation", "intrinsic"];
    if known.contains(&scope) {
        return Ok(());
    }
    Err(ApiError::bad_data(format!("invalid scope {scope:?}: one of {}", known[2..].join(", "))))
}

/// The attribute with this name.
pub(super) fn named_attribute(tag: &str) -> Result<Attribute, ApiError> {
    parse_attribute(tag)
        .ok_or_else(|| ApiError::bad_data(format!("invalid tag {tag:?}: an attribute such as span.name is wanted")))
}

/// The name of an attribute in the first version, which knows no scopes: a service is a service.
pub(super) fn first_version(tag: String) -> String {
    match parse_attribute(&tag) {
        Some(Attribute::Named { scope: Scope::Any, name }) if name == "service.name" => format!("resource.{name}"),
        _ => tag,
    }
}

/// All names of attributes of all scopes together.
pub(super) fn attribute_names(scopes: Vec<(&'static str, Vec<String>)>) -> Vec<String> {
    let attributes = scopes.into_iter().filter(|(scope, _)| *scope != "intrinsic");
    let mut names: Vec<String> = attributes.flat_map(|(_, names)| names).collect();
    names.sort();
    names.dedup();
    names
}

/// Values as text, each once.
pub(super) fn value_texts(found: &[Value]) -> Vec<String> {
    let mut texts: Vec<String> = found.iter().map(Value::to_text).collect();
    texts.sort();
    texts.dedup();
    texts
}

/// The type of a value as Tempo tells it.
pub(super) fn type_word(value: &Value) -> &'static str {
    match value {
        Value::Int(_) => "int",
        Value::Float(_) => "float",
        Value::Bool(_) => "bool",
        Value::Duration(_) => "duration",
        Value::Status(_) | Value::Kind(_) => "keyword",
        Value::String(_) | Value::Nil => "string",
    }
}

async fn asked(state: &AppState, path: &'static str, request: Request) -> Result<Asked, ApiError> {
    let client = client_of(&request);
    let params = Params::read(state, request).await?;
    let query = params::query_text(state, &params)?.to_owned();
    let range = params::search_range(&params)?;
    let limit = match params::count(&params, "limit", TAGS, TAGS_MAX)? {
        0 => TAGS,
        limit => limit,
    };
    let scope = params.get("scope").to_owned();
    check_scope(&scope)?;
    let note = note(path, client, &query, (range.start_ns, range.end_ns, 0));
    Ok(Asked { query, range, limit, scope, note })
}

fn intrinsics() -> Vec<&'static str> {
    let hidden = [Intrinsic::NestedSetLeft, Intrinsic::NestedSetRight, Intrinsic::NestedSetParent];
    let shown = Intrinsic::ALL.into_iter().filter(|i| !hidden.contains(i));
    let mut names: Vec<&'static str> = shown.flat_map(|i| [i.as_str(), i.scoped()]).collect();
    names.sort_unstable();
    names.dedup();
    names
}

async fn names(
    state: &AppState,
    path: &'static str,
    request: Request,
    write: impl FnOnce(Vec<(&'static str, Vec<String>)>) -> Json + Send + 'static,
) -> Result<Response, ApiError> {
    let asked = asked(state, path, request).await?;
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    ask(state, asked.note.clone(), move |context| Ok(write(asked.names(traces.as_ref(), tenant, context)?))).await
}

async fn tags_v1(State(state): State<AppState>, request: Request) -> Response {
    let write = |scopes| json!({ "tagNames": attribute_names(scopes) });
    answer(names(&state, "/tempo/api/search/tags", request, write).await)
}

async fn tags_v2(State(state): State<AppState>, request: Request) -> Response {
    let write = |scopes: Vec<(&'static str, Vec<String>)>| {
        let scopes: Vec<Json> = scopes.into_iter().map(|(name, tags)| json!({ "name": name, "tags": tags })).collect();
        json!({ "scopes": scopes })
    };
    answer(names(&state, "/tempo/api/v2/search/tags", request, write).await)
}

async fn values(
    state: &AppState,
    path: &'static str,
    tag: &str,
    request: Request,
    write: impl FnOnce(Vec<Value>) -> Json + Send + 'static,
) -> Result<Response, ApiError> {
    let asked = asked(state, path, request).await?;
    let attribute = named_attribute(tag)?;
    let (traces, tenant) = (state.traces.clone(), state.tenant);
    ask(state, asked.note.clone(), move |context| {
        Ok(write(asked.values(&attribute, traces.as_ref(), tenant, context)?))
    })
    .await
}

async fn tag_values_v1(State(state): State<AppState>, Path(tag): Path<String>, request: Request) -> Response {
    let write = |found: Vec<Value>| json!({ "tagValues": value_texts(&found) });
    answer(values(&state, "/tempo/api/search/tag/values", &first_version(tag), request, write).await)
}

async fn tag_values_v2(State(state): State<AppState>, Path(tag): Path<String>, request: Request) -> Response {
    let write = |found: Vec<Value>| {
        let one = |value: &Value| json!({ "type": type_word(value), "value": value.to_text() });
        json!({ "tagValues": found.iter().map(one).collect::<Vec<_>>() })
    };
    answer(values(&state, "/tempo/api/v2/search/tag/values", &tag, request, write).await)
}
