//! `tempopb.StreamingQuerier`: what Grafana asks for when it streams, on the port of HTTP.
//!
//! A search sends the traces that are surely in its answer as it goes, newest first, and at last the whole answer. All
//! else is one message. When the client leaves, the query ends.

use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::response::Response;
use futures::Stream;
use prost::Message;
use tonic::Status;
use trefoil_model::NanoRange;
use trefoil_runtime::QueryContext;
use trefoil_traceql::{
    MetricsInstantQuery, MetricsRangeQuery, SearchQuery, metrics_instant, metrics_range, search_telling,
};

use super::messages::{
    self, MetadataMetrics, QueryInstantRequest, QueryInstantResponse, QueryRangeRequest, QueryRangeResponse,
    SearchRequest, SearchResponse, SearchTagValuesRequest, SearchTagValuesResponse, SearchTagValuesV2Response,
    SearchTagsRequest, SearchTagsResponse, SearchTagsV2Response, TagValue, TagsScope,
};
use super::params::{self, SECOND_NS};
use super::query::{self, Asked, api_error, note};
use crate::error::ApiError;
use crate::grpc::{self, Partial};
use crate::prometheus::client_of;
use crate::queries::QueryNote;
use crate::routes::{Access, Route};
use crate::state::AppState;

/// The least time between two partial answers.
const PARTIAL_EVERY: Duration = Duration::from_millis(100);

const SEARCH: &str = "/tempopb.StreamingQuerier/Search";
const TAGS: &str = "/tempopb.StreamingQuerier/SearchTags";
const TAGS_V2: &str = "/tempopb.StreamingQuerier/SearchTagsV2";
const VALUES: &str = "/tempopb.StreamingQuerier/SearchTagValues";
const VALUES_V2: &str = "/tempopb.StreamingQuerier/SearchTagValuesV2";
const RANGE: &str = "/tempopb.StreamingQuerier/MetricsQueryRange";
const INSTANT: &str = "/tempopb.StreamingQuerier/MetricsQueryInstant";

/// The routes.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post(SEARCH, Access::Read, search),
        Route::post(TAGS, Access::Read, tags),
        Route::post(TAGS_V2, Access::Read, tags_v2),
        Route::post(VALUES, Access::Read, values),
        Route::post(VALUES_V2, Access::Read, values_v2),
        Route::post(RANGE, Access::Read, range),
        Route::post(INSTANT, Access::Read, instant),
    ]
}

/// Answers with what `begin` gives: a note of the query, and the work that answers it.
async fn stream<M, R, W>(
    state: AppState,
    request: Request,
    begin: impl Fn(&AppState, M, String) -> Result<(QueryNote, W), ApiError> + Send + Sync,
) -> Response
where
    M: Message + Default + 'static,
    R: Message + 'static,
    W: FnOnce(&QueryContext, &Partial<R>) -> Result<R, ApiError> + Send + 'static,
{
    let (address, client) = (client_of(&request), crate::gate::client_of(&request));
    grpc::streaming(request, |message| {
        let begun: Result<(QueryNote, W), Status> =
            begin(&state, message, address.clone()).map_err(|error| grpc::status(&error));
        let (state, client) = (state.clone(), client.clone());
        async move {
            let (note, work) = begun?;
            let bytes_max = state.limits.response_bytes_max;
            let answers: std::pin::Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>> =
                Box::pin(grpc::answers(state, client, note, move |context, partial| {
                    let whole = work(context, partial)?;
                    if whole.encoded_len() as u64 > bytes_max {
                        return Err(ApiError::response_too_large(bytes_max));
                    }
                    Ok(whole)
                }));
            Ok(answers)
        }
    })
    .await
}

/// A range in whole seconds, both inside; 0: not said.
fn seconds(start: u32, end: u32) -> Result<NanoRange, ApiError> {
    let ns = |seconds: u32| i64::from(seconds) * SECOND_NS;
    let start_ns = if start == 0 { NanoRange::ALL.start_ns } else { ns(start) };
    let end_ns = if end == 0 { NanoRange::ALL.end_ns } else { ns(end) + SECOND_NS };
    if end != 0 && end < start {
        return Err(ApiError::bad_data("end must not be before start"));
    }
    Ok(NanoRange { start_ns, end_ns })
}

/// A number with its default for 0 and its limit.
fn limited(name: &str, n: u32, default: usize, most: usize) -> Result<usize, ApiError> {
    match n as usize {
        0 => Ok(default),
        n if n > most => Err(ApiError::bad_data(format!("{name} {n} is greater than {most}"))),
        n => Ok(n),
    }
}

async fn search(State(state): State<AppState>, request: Request) -> Response {
    stream::<SearchRequest, SearchResponse, _>(state, request, |state, asked, client| {
        params::check_length(state, &asked.query)?;
        let duration = |ms: u32| (ms > 0).then(|| i64::from(ms) * 1_000_000);
        let text = if asked.query.trim().is_empty() {
            let tags: Vec<_> = asked.tags.into_iter().collect();
            params::conditions(&tags, duration(asked.min_duration_ms), duration(asked.max_duration_ms))
        } else {
            asked.query
        };
        let range = seconds(asked.start, asked.end)?;
        let limit = limited("limit", asked.limit, query::TRACES, query::TRACES_MAX)?;
        let spans_per_set = limited("spss", asked.spans_per_span_set, query::SPANS, query::SPANS_MAX)?;
        let note = note(SEARCH, client, &text, (range.start_ns, range.end_ns, 0));
        let (traces, tenant) = (state.traces.clone(), state.tenant);
        Ok((note, move |context: &QueryContext, partial: &Partial<SearchResponse>| {
            let query = SearchQuery { query: &text, range, limit, spans_per_set, tenant };
            let (mut waiting, mut sent) = (Vec::new(), None::<Instant>);
            let found = search_telling(&query, traces.as_ref(), context, &mut |progress| {
                waiting.extend(progress.settled.into_iter().map(|t| messages::trace(t, query::NO_ROOT)));
                if !waiting.is_empty() && sent.is_none_or(|at| at.elapsed() >= PARTIAL_EVERY) {
                    sent = Some(Instant::now());
                    let metrics = Some(messages::search_metrics(progress.so_far, false));
                    partial.tell(SearchResponse { traces: std::mem::take(&mut waiting), metrics });
                }
            });
            let found = found.map_err(api_error)?;
            let metrics = Some(messages::search_metrics(&found, true));
            let traces = found.traces.iter().map(|t| messages::trace(t, query::NO_ROOT)).collect();
            Ok(SearchResponse { traces, metrics })
        }))
    })
    .await
}

/// What names are asked of.
fn asked_tags(
    path: &'static str,
    state: &AppState,
    asked: SearchTagsRequest,
    client: String,
) -> Result<Asked, ApiError> {
    params::check_length(state, &asked.query)?;
    query::check_scope(&asked.scope)?;
    let range = seconds(asked.start, asked.end)?;
    let limit = limited("limit", asked.max_tags_per_scope, query::TAGS, query::TAGS_MAX)?;
    let note = note(path, client, &asked.query, (range.start_ns, range.end_ns, 0));
    Ok(Asked { query: asked.query, range, limit, scope: asked.scope, note })
}

async fn tags(State(state): State<AppState>, request: Request) -> Response {
    stream::<SearchTagsRequest, SearchTagsResponse, _>(state, request, |state, asked, client| {
        let asked = asked_tags(TAGS, state, asked, client)?;
        let (traces, tenant) = (state.traces.clone(), state.tenant);
        Ok((asked.note.clone(), move |context: &QueryContext, _: &Partial<_>| {
            let tag_names = query::attribute_names(asked.names(traces.as_ref(), tenant, context)?);
            Ok(SearchTagsResponse { tag_names, metrics: Some(MetadataMetrics::done()) })
        }))
    })
    .await
}

async fn tags_v2(State(state): State<AppState>, request: Request) -> Response {
    stream::<SearchTagsRequest, SearchTagsV2Response, _>(state, request, |state, asked, client| {
        let asked = asked_tags(TAGS_V2, state, asked, client)?;
        let (traces, tenant) = (state.traces.clone(), state.tenant);
        Ok((asked.note.clone(), move |context: &QueryContext, _: &Partial<_>| {
            let found = asked.names(traces.as_ref(), tenant, context)?;
            let scopes = found.into_iter().map(|(name, tags)| TagsScope { name: name.to_owned(), tags });
            Ok(SearchTagsV2Response { scopes: scopes.collect(), metrics: Some(MetadataMetrics::done()) })
        }))
    })
    .await
}

/// What values are asked of.
fn asked_values(
    path: &'static str,
    state: &AppState,
    asked: SearchTagValuesRequest,
    client: String,
) -> Result<Asked, ApiError> {
    params::check_length(state, &asked.query)?;
    let range = seconds(asked.start, asked.end)?;
    let limit = limited("limit", asked.max_tag_values, query::TAGS, query::TAGS_MAX)?;
    let note = note(path, client, &asked.query, (range.start_ns, range.end_ns, 0));
    Ok(Asked { query: asked.query, range, limit, scope: String::new(), note })
}

async fn values(State(state): State<AppState>, request: Request) -> Response {
    stream::<SearchTagValuesRequest, SearchTagValuesResponse, _>(state, request, |state, asked, client| {
        let attribute = query::named_attribute(&query::first_version(asked.tag_name.clone()))?;
        let asked = asked_values(VALUES, state, asked, client)?;
        let (traces, tenant) = (state.traces.clone(), state.tenant);
        Ok((asked.note.clone(), move |context: &QueryContext, _: &Partial<_>| {
            let found = asked.values(&attribute, traces.as_ref(), tenant, context)?;
            let metrics = Some(MetadataMetrics::done());
            Ok(SearchTagValuesResponse { tag_values: query::value_texts(&found), metrics })
        }))
    })
    .await
}

async fn values_v2(State(state): State<AppState>, request: Request) -> Response {
    stream::<SearchTagValuesRequest, SearchTagValuesV2Response, _>(state, request, |state, asked, client| {
        let attribute = query::named_attribute(&asked.tag_name)?;
        let asked = asked_values(VALUES_V2, state, asked, client)?;
        let (traces, tenant) = (state.traces.clone(), state.tenant);
        Ok((asked.note.clone(), move |context: &QueryContext, _: &Partial<_>| {
            let found = asked.values(&attribute, traces.as_ref(), tenant, context)?;
            let values = found.iter().map(|v| TagValue { kind: query::type_word(v).to_owned(), value: v.to_text() });
            Ok(SearchTagValuesV2Response { tag_values: values.collect(), metrics: Some(MetadataMetrics::done()) })
        }))
    })
    .await
}

/// First and last nanosecond of a metrics query; 0: not said.
fn nanoseconds(start: u64, end: u64, now_ns: i64) -> Result<(i64, i64), ApiError> {
    let ns = |wire: u64| i64::try_from(wire).map_err(|_| ApiError::bad_data(format!("time {wire} is too far away")));
    let end_ns = if end == 0 { now_ns } else { ns(end)? };
    let start_ns = if start == 0 { end_ns.saturating_sub(params::SINCE_NS) } else { ns(start)? };
    if end_ns < start_ns {
        return Err(ApiError::bad_data("end must not be before start"));
    }
    Ok((start_ns, end_ns))
}

async fn range(State(state): State<AppState>, request: Request) -> Response {
    stream::<QueryRangeRequest, QueryRangeResponse, _>(state, request, |state, asked, client| {
        params::check_length(state, &asked.query)?;
        let (start_ns, end_ns) = nanoseconds(asked.start, asked.end, state.clock.now_ns())?;
        let step_ns = match i64::try_from(asked.step) {
            Ok(0) => params::usual_step((start_ns, end_ns)),
            Ok(step) => step,
            Err(_) => return Err(ApiError::bad_data("step is too long")),
        };
        let default = trefoil_traceql::metrics::EXEMPLARS_DEFAULT;
        let exemplars = limited("exemplars", asked.exemplars, default, query::EXEMPLARS_MAX)?;
        let note = note(RANGE, client, &asked.query, (start_ns, end_ns, step_ns));
        let (traces, tenant) = (state.traces.clone(), state.tenant);
        Ok((note, move |context: &QueryContext, _: &Partial<_>| {
            let query = MetricsRangeQuery { query: &asked.query, start_ns, end_ns, step_ns, exemplars, tenant };
            Ok(messages::range(&metrics_range(&query, traces.as_ref(), context).map_err(api_error)?))
        }))
    })
    .await
}

async fn instant(State(state): State<AppState>, request: Request) -> Response {
    stream::<QueryInstantRequest, QueryInstantResponse, _>(state, request, |state, asked, client| {
        params::check_length(state, &asked.query)?;
        let (start_ns, end_ns) = nanoseconds(asked.start, asked.end, state.clock.now_ns())?;
        let note = note(INSTANT, client, &asked.query, (start_ns, end_ns, 0));
        let (traces, tenant) = (state.traces.clone(), state.tenant);
        Ok((note, move |context: &QueryContext, _: &Partial<_>| {
            let query = MetricsInstantQuery { query: &asked.query, start_ns, end_ns, tenant };
            Ok(messages::instant(&metrics_instant(&query, traces.as_ref(), context).map_err(api_error)?))
        }))
    })
    .await
}
