//! `/federate`: the newest sample of each matching series, for a Prometheus that scrapes it.

mod exposition;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use trefoil_config::LabelMap;
use trefoil_model::labels::METRIC_NAME;
use trefoil_model::{FloatHistogram, Labels, QueryBudget, SampleBuffer, SelectRequest, TimeRange, is_stale_nan};
use trefoil_promql::parse_selector;

use self::exposition::{Encoder, Format, Kind, Line};
use super::labels::{SELECTORS_MAX, too_many};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::{App, AppState, run_query};

/// What the newest sample of a series takes, besides its name and labels.
const ENTRY_BYTES: usize = size_of::<(String, Labels)>() + size_of::<Newest>() + 64;
/// The text grows by so much before it is charged again.
const CHARGE_STEP: u64 = 64 << 10;

/// The newest sample of a series.
struct Newest {
    t_ms: i64,
    value: f64,
    histogram: Option<Arc<FloatHistogram>>,
}

/// `GET /federate`: families untyped and sorted by name, each sample with its time; protobuf for who asks for it, else
/// text, which leaves native histograms out. Series that ended are left out. Errors are plain text.
pub(super) async fn federate(State(state): State<AppState>, request: Request) -> Response {
    let format = Format::negotiate(request.headers());
    match answer(&state, format, request).await {
        Ok(body) => {
            let mut response = Response::new(Body::from(body));
            if let Ok(form) = HeaderValue::from_str(&format.content_type()) {
                response.headers_mut().insert(CONTENT_TYPE, form);
            }
            response
        }
        Err(error) => error.into_text(),
    }
}

async fn answer(state: &AppState, format: Format, request: Request) -> Result<Vec<u8>, ApiError> {
    let params = Params::read(state, request).await?;
    let now = state.clock.now_ms();
    let range = TimeRange::new(now - state.engine.options().lookback_ms, now + 1);
    let mut requests = Vec::new();
    for text in params.all("match[]") {
        if requests.len() >= SELECTORS_MAX || text.len() > state.limits.query_bytes_max {
            return Err(too_many());
        }
        let matchers = parse_selector(text).map_err(|e| ApiError::bad_data(e.to_string()))?;
        // `{}` selects nothing here, as with the reference.
        if matchers.is_empty() {
            continue;
        }
        requests.push(SelectRequest { tenant: state.tenant, matchers, range });
    }
    let app = state.clone();
    run_query(state, None, move |budget| {
        let mut newest: BTreeMap<(String, Labels), Newest> = BTreeMap::new();
        let mut buffer = SampleBuffer::default();
        for request in &requests {
            for series in app.metrics.select(request, budget)? {
                budget.check()?;
                buffer.clear();
                series.source.read(range, &mut buffer)?;
                let (Some(&t_ms), Some(&value)) = (buffer.times.last(), buffer.values.last()) else { continue };
                let last = buffer.histograms.last().filter(|(i, _)| *i as usize + 1 == buffer.times.len());
                let histogram = last.map(|(_, h)| Arc::clone(h));
                let name = series.labels.metric_name();
                let stale = is_stale_nan(value) || histogram.as_ref().is_some_and(|h| h.is_stale());
                if stale || name.is_empty() || histogram.as_ref().is_some_and(|h| !format.carries(h)) {
                    continue;
                }
                // The labels are those of the selection, which is charged until the end.
                let histogram_bytes = histogram.as_ref().map_or(0, |h| size_of::<FloatHistogram>() + h.heap_bytes());
                budget.charge_bytes((ENTRY_BYTES + name.len() + histogram_bytes) as u64)?;
                let key = (name.to_owned(), series.labels.clone());
                newest.insert(key, Newest { t_ms, value, histogram });
            }
        }
        render(&app, format, &newest, budget)
    })
    .await
}

/// External labels, and an empty `instance`: who scrapes this with `honor_labels` must not put its own there.
fn global_labels(external: &LabelMap) -> BTreeMap<&str, &str> {
    let mut all: BTreeMap<&str, &str> = external.iter().collect();
    all.entry("instance").or_insert("");
    all
}

fn render(
    state: &App,
    format: Format,
    newest: &BTreeMap<(String, Labels), Newest>,
    budget: &dyn QueryBudget,
) -> Result<Vec<u8>, ApiError> {
    let config = state.config();
    let global = global_labels(&config.config.global.external_labels);
    let mut encoder = Encoder::new(format);
    let mut family: Option<(&str, Kind)> = None;
    let mut charged = 0;
    for (i, ((name, own), one)) in newest.iter().enumerate() {
        if i % 1024 == 0 {
            budget.check()?;
        }
        // Floats and histograms of one name are families of their own.
        let kind = Kind::of(one.histogram.as_deref());
        if family != Some((name.as_str(), kind)) {
            encoder.family(name, kind);
            family = Some((name.as_str(), kind));
        }
        let mut labels: Vec<(&str, &str)> = own.iter().filter(|(n, _)| *n != METRIC_NAME).collect();
        labels.extend(global.iter().filter(|(n, _)| own.get(n).is_none()).map(|(n, v)| (*n, *v)));
        let histogram = one.histogram.as_deref();
        encoder.line(&Line { labels: &labels, t_ms: one.t_ms, value: one.value, histogram });
        // With the room that the text has when it grew.
        let held = 2 * encoder.len() as u64;
        if held > charged {
            let more = (held - charged).max(CHARGE_STEP);
            budget.charge_bytes(more)?;
            charged += more;
        }
        if encoder.len() as u64 > state.limits.response_bytes_max {
            return Err(ApiError::response_too_large(state.limits.response_bytes_max));
        }
    }
    Ok(encoder.finish())
}
