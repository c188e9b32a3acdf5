//! `/federate`: the newest sample of each matching series, as text that a Prometheus scrapes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use trefoil_model::labels::{METRIC_NAME, is_legacy_label_name, is_legacy_metric_name};
use trefoil_model::{Labels, QueryBudget, SampleBuffer, TimeRange, is_stale_nan};
use trefoil_promql::format_value;

use super::labels::selectors;
use crate::error::ApiError;
use crate::params::Params;
use crate::state::{App, AppState, run_query};

const FMT: &str = "writing to a String cannot fail";

/// `GET /federate`: text format 0.0.4, families untyped and sorted by name. Native histograms are left out: the text
/// format cannot carry them. Errors are plain text.
pub(super) async fn federate(State(state): State<AppState>, request: Request) -> Response {
    match answer(&state, request).await {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            let form = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8");
            response.headers_mut().insert(CONTENT_TYPE, form);
            response
        }
        Err(error) => error.into_text(),
    }
}

async fn answer(state: &AppState, request: Request) -> Result<String, ApiError> {
    let params = Params::read(state, request).await?;
    let now = state.clock.now_ms();
    let range = TimeRange::new(now - state.engine.options().lookback_ms, now + 1);
    let requests = selectors(state, &params, range)?;
    let app = state.clone();
    run_query(state, None, move |budget| {
        let mut newest: BTreeMap<(String, Labels), (i64, f64)> = BTreeMap::new();
        let external = app.config();
        let mut buffer = SampleBuffer::default();
        for request in &requests {
            for series in app.metrics.select(request, budget)? {
                budget.check()?;
                buffer.clear();
                series.source.read(range, &mut buffer)?;
                let (Some(&t), Some(&value)) = (buffer.times.last(), buffer.values.last()) else { continue };
                let histogram = buffer.histograms.last().is_some_and(|(i, _)| *i as usize + 1 == buffer.times.len());
                let name = series.labels.metric_name().to_owned();
                if is_stale_nan(value) || histogram || name.is_empty() {
                    continue;
                }
                let mut labels = series.labels.to_builder();
                labels.del(METRIC_NAME);
                for (name, value) in external.config.global.external_labels.iter() {
                    if labels.get(name).is_none() {
                        labels.set(name, value);
                    }
                }
                newest.insert((name, labels.build()), (t, value));
            }
        }
        render(&app, &newest, budget)
    })
    .await
}

fn render(
    state: &App,
    newest: &BTreeMap<(String, Labels), (i64, f64)>,
    budget: &dyn QueryBudget,
) -> Result<String, ApiError> {
    let mut out = String::new();
    let mut last = "";
    for (i, ((name, labels), (t, value))) in newest.iter().enumerate() {
        if i % 1024 == 0 {
            budget.check()?;
        }
        let legacy = is_legacy_metric_name(name);
        let shown = if legacy { name.clone() } else { quoted(name) };
        if name != last {
            writeln!(out, "# TYPE {shown} untyped").expect(FMT);
            last = name;
        }
        let mut parts: Vec<String> = Vec::new();
        if legacy {
            out.push_str(&shown);
        } else {
            parts.push(shown);
        }
        parts.extend(labels.iter().map(|(n, v)| {
            if is_legacy_label_name(n) { format!("{n}={}", quoted(v)) } else { format!("{}={}", quoted(n), quoted(v)) }
        }));
        if !parts.is_empty() {
            write!(out, "{{{}}}", parts.join(",")).expect(FMT);
        }
        writeln!(out, " {} {t}", format_value(*value)).expect(FMT);
        if out.len() as u64 > state.limits.response_bytes_max {
            return Err(ApiError::response_too_large(state.limits.response_bytes_max));
        }
    }
    Ok(out)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
