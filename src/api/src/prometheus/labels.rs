//! `/api/v1/{series,labels,label/NAME/values,metadata,query_exemplars}`.

use axum::extract::{Path, Request, State};
use trefoil_model::{SelectRequest, TimeRange};
use trefoil_promql::{format_value, parse_selector};

use super::answer::{PromResult, TRUNCATED, Writer, json, push_labels, push_list, push_string, push_time};
use super::query::{parse_query, push_texts};
use crate::error::ApiError;
use crate::params::{Params, TIME_MS_MAX};
use crate::state::{App, AppState, run_query};

/// Most `match[]` parameters.
const SELECTORS_MAX: usize = 1000;

/// The range of `start` and `end`, both included; all of time by default.
pub(super) fn range(params: &Params) -> Result<TimeRange, ApiError> {
    let start = params.time("start")?.unwrap_or(-TIME_MS_MAX);
    let end = params.time("end")?.unwrap_or(TIME_MS_MAX);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start timestamp"));
    }
    Ok(TimeRange::new(start, end + 1))
}

/// The selectors of `match[]` over a range.
pub(super) fn selectors(state: &App, params: &Params, range: TimeRange) -> Result<Vec<SelectRequest>, ApiError> {
    let mut out = Vec::new();
    for text in params.all("match[]") {
        if out.len() >= SELECTORS_MAX || text.len() > state.limits.query_bytes_max {
            return Err(ApiError::parameter("match[]", "too many or too long selectors"));
        }
        let matchers = parse_selector(text).map_err(|e| ApiError::parameter("match[]", e))?;
        if matchers.iter().all(trefoil_model::Matcher::matches_empty) {
            return Err(ApiError::parameter("match[]", "match[] must contain at least one non-empty matcher"));
        }
        out.push(SelectRequest { tenant: state.tenant, matchers, range });
    }
    Ok(out)
}

/// What the client wants, or what we give at most.
fn capped(wanted: usize, most: usize) -> usize {
    if wanted == 0 { most } else { wanted.min(most) }
}

fn truncated(cut: bool) -> Vec<String> {
    if cut { vec![TRUNCATED.to_owned()] } else { Vec::new() }
}

/// `GET`, `POST /api/v1/series`
pub(super) async fn series(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided").into());
    }
    let limit = capped(params.limit("limit")?, state.limits.series_api_max);
    let requests = selectors(&state, &params, range(&params)?)?;
    let app = state.clone();
    let body = run_query(&state, None, move |budget| {
        let (series, cut) = app.metrics.series(&requests, limit, budget)?;
        let mut writer = Writer::new(app.limits.response_bytes_max);
        writer.out.push('[');
        for (i, labels) in series.iter().enumerate() {
            if i > 0 {
                writer.out.push(',');
            }
            push_labels(&mut writer.out, labels);
            writer.check(budget)?;
        }
        writer.out.push(']');
        Ok(writer.finish(&truncated(cut), &[]))
    })
    .await?;
    Ok(json(body))
}

/// `GET`, `POST /api/v1/labels`
pub(super) async fn names(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let limit = capped(params.limit("limit")?, state.limits.label_values_max);
    let range = range(&params)?;
    let requests = selectors(&state, &params, range)?;
    let app = state.clone();
    let body = run_query(&state, None, move |budget| {
        let (names, cut) = app.metrics.label_names(app.tenant, range, &requests, limit, budget)?;
        let mut writer = Writer::new(app.limits.response_bytes_max);
        push_texts(&mut writer.out, &names);
        writer.check(budget)?;
        Ok(writer.finish(&truncated(cut), &[]))
    })
    .await?;
    Ok(json(body))
}

/// `GET /api/v1/label/NAME/values`
pub(super) async fn values(State(state): State<AppState>, Path(name): Path<String>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let name = unescape_name(&name);
    if name.is_empty() {
        return Err(ApiError::bad_data(format!("invalid label name: {name:?}")).into());
    }
    let limit = capped(params.limit("limit")?, state.limits.label_values_max);
    let range = range(&params)?;
    let requests = selectors(&state, &params, range)?;
    let app = state.clone();
    let body = run_query(&state, None, move |budget| {
        let (values, cut) = app.metrics.label_values(app.tenant, &name, range, &requests, limit, budget)?;
        let mut writer = Writer::new(app.limits.response_bytes_max);
        push_texts(&mut writer.out, &values);
        writer.check(budget)?;
        Ok(writer.finish(&truncated(cut), &[]))
    })
    .await?;
    Ok(json(body))
}

/// Undoes the escaping of names that are not legacy: `U__my_2e_name` is `my.name`, `__` is `_`. What is not such a form
/// stays as it is. Source: `UnescapeName` of prometheus/common, scheme "values".
pub(super) fn unescape_name(name: &str) -> String {
    let Some(rest) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        if c != '_' {
            out.push(c);
            continue;
        }
        let mut code = String::new();
        loop {
            match chars.next() {
                Some('_') => break,
                Some(c) if c.is_ascii_hexdigit() && code.len() < 6 => code.push(c),
                _ => return name.to_owned(),
            }
        }
        if code.is_empty() {
            out.push('_');
            continue;
        }
        match u32::from_str_radix(&code, 16).ok().and_then(char::from_u32) {
            Some(c) => out.push(c),
            None => return name.to_owned(),
        }
    }
    if out.is_empty() { name.to_owned() } else { out }
}

/// `GET /api/v1/metadata`
pub(super) async fn metadata(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    // Negative: no limit, as in the reference.
    let number = |name: &str| match params.get(name) {
        "" => Ok(None),
        text => match text.parse::<i64>() {
            Ok(n) => Ok(usize::try_from(n).ok()),
            Err(_) => Err(ApiError::bad_data(format!("{name} must be a number"))),
        },
    };
    let (limit, per_metric) = (number("limit")?, number("limit_per_metric")?.filter(|n| *n > 0));
    let metric = Some(params.get("metric").to_owned()).filter(|m| !m.is_empty());
    let app = state.clone();
    let body = run_query(&state, None, move |budget| {
        let mut writer = Writer::new(app.limits.response_bytes_max);
        writer.out.push('{');
        let all = match limit {
            Some(0) => Vec::new(),
            limit => app.metrics.metadata(app.tenant, metric.as_deref(), limit.unwrap_or(0)),
        };
        for (i, family) in all.chunk_by(|a, b| a.name == b.name).enumerate() {
            if limit.is_some_and(|most| i >= most) {
                break;
            }
            if i > 0 {
                writer.out.push(',');
            }
            push_string(&mut writer.out, &family[0].name);
            writer.out.push(':');
            let kept = family.len().min(per_metric.unwrap_or(usize::MAX));
            push_list(&mut writer.out, &family[..kept], |out, m| {
                out.push_str("{\"type\":");
                push_string(out, m.kind.as_str());
                out.push_str(",\"help\":");
                push_string(out, &m.help);
                out.push_str(",\"unit\":");
                push_string(out, &m.unit);
                out.push('}');
            });
            writer.check(budget)?;
        }
        writer.out.push('}');
        Ok(writer.finish(&[], &[]))
    })
    .await?;
    Ok(json(body))
}

/// `GET`, `POST /api/v1/query_exemplars`
pub(super) async fn exemplars(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let range = range(&params)?;
    let expr = parse_query(&state, params.get("query"))?;
    let requests: Vec<SelectRequest> = expr
        .selectors()
        .into_iter()
        .map(|matchers| SelectRequest { tenant: state.tenant, matchers: matchers.to_vec(), range })
        .collect();
    let app = state.clone();
    let body = run_query(&state, None, move |budget| {
        let mut writer = Writer::new(app.limits.response_bytes_max);
        writer.out.push('[');
        let found = if requests.is_empty() { Vec::new() } else { app.metrics.exemplars(&requests, budget)? };
        for (i, (labels, exemplars)) in found.iter().enumerate() {
            if i > 0 {
                writer.out.push(',');
            }
            writer.out.push_str("{\"seriesLabels\":");
            push_labels(&mut writer.out, labels);
            writer.out.push_str(",\"exemplars\":");
            push_list(&mut writer.out, exemplars, |out, e| {
                out.push_str("{\"labels\":");
                push_labels(out, &e.labels);
                out.push_str(",\"value\":\"");
                out.push_str(&format_value(e.value));
                out.push_str("\",\"timestamp\":");
                push_time(out, e.t_ms);
                out.push('}');
            });
            writer.out.push('}');
            writer.check(budget)?;
        }
        writer.out.push(']');
        Ok(writer.finish(&[], &[]))
    })
    .await?;
    Ok(json(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unescaped() {
        for (text, want) in [
            ("job", "job"),
            ("U__http_2e_status", "http.status"),
            ("U__a__b", "a_b"),
            ("U___1f600_", "\u{1f600}"),
            ("U__bad_zz_", "U__bad_zz_"),
            ("U__open_2e", "U__open_2e"),
            ("U__", "U__"),
        ] {
            assert_eq!(unescape_name(text), want, "{text}");
        }
    }
}
