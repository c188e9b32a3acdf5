//! `/api/v1/{series,labels,label/NAME/values,metadata,query_exemplars}`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use trefoil_model::{Matcher, SelectRequest, TimeRange};
use trefoil_promql::{format_value, parse_selector};

use super::answer::{PromResult, TRUNCATED, Writer, json, push_labels, push_list, push_string, push_time};
use super::query::read_query;
use crate::error::ApiError;
use crate::params::{Params, TIME_MS_MAX};
use crate::state::{App, AppState, run_query};

/// Most `match[]` parameters.
pub(super) const SELECTORS_MAX: usize = 1000;

/// Too many or too long `match[]` parameters.
pub(super) fn too_many() -> ApiError {
    ApiError::parameter("match[]", "too many or too long selectors")
}

/// The range of `start` and `end`, both included; all of time by default. `None` when it ends before it starts: that
/// has no data and is no error, as in the reference.
pub(super) fn range(params: &Params) -> Result<Option<TimeRange>, ApiError> {
    let start = params.time("start")?.unwrap_or(-TIME_MS_MAX);
    let end = params.time("end")?.unwrap_or(TIME_MS_MAX);
    Ok((end >= start).then(|| TimeRange::new(start, end + 1)))
}

/// How faults of `match[]` are told: the reference names the parameter in some calls only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Faults {
    Named,
    Bare,
}

impl Faults {
    fn tell(self, fault: impl std::fmt::Display) -> ApiError {
        match self {
            Self::Named => ApiError::parameter("match[]", fault),
            Self::Bare => ApiError::bad_data(fault.to_string()),
        }
    }
}

/// The selectors of `match[]`; each must ask for something.
pub(super) fn matchers(state: &App, params: &Params, faults: Faults) -> Result<Vec<Vec<Matcher>>, ApiError> {
    let mut out = Vec::new();
    for text in params.all("match[]") {
        if out.len() >= SELECTORS_MAX || text.len() > state.limits.query_bytes_max {
            return Err(too_many());
        }
        out.push(parse_selector(text).map_err(|e| faults.tell(e))?);
    }
    if out.iter().any(|one| one.iter().all(Matcher::matches_empty)) {
        return Err(faults.tell("match[] must contain at least one non-empty matcher"));
    }
    Ok(out)
}

/// The selectors of `match[]` over a range.
pub(super) fn selectors(
    state: &App,
    params: &Params,
    range: TimeRange,
    faults: Faults,
) -> Result<Vec<SelectRequest>, ApiError> {
    let tenant = state.tenant;
    let request = |matchers| SelectRequest { tenant, matchers, range };
    Ok(matchers(state, params, faults)?.into_iter().map(request).collect())
}

/// Nothing, in order.
fn empty() -> Response {
    json("{\"status\":\"success\",\"data\":[]}".to_owned())
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
    let range = range(&params)?;
    let requests = selectors(&state, &params, range.unwrap_or(TimeRange::ALL), Faults::Named)?;
    if range.is_none() {
        return Ok(empty());
    }
    let app = state.clone();
    let body = run_query(&state, None, move |budget| {
        let (series, cut) = app.metrics.series(&requests, limit, budget)?;
        let mut writer = Writer::new(app.limits.response_bytes_max);
        writer.out.push('[');
        // What is written is freed.
        for (i, labels) in series.into_iter().enumerate() {
            if i > 0 {
                writer.out.push(',');
            }
            push_labels(&mut writer.out, &labels);
            writer.check(budget)?;
        }
        writer.out.push(']');
        Ok(writer.finish(&truncated(cut), &[]).held_by(budget))
    })
    .await?;
    Ok(json(body))
}

/// `GET`, `POST /api/v1/labels`
pub(super) async fn names(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let limit = capped(params.limit("limit")?, state.limits.label_values_max);
    let range = range(&params)?;
    let requests = selectors(&state, &params, range.unwrap_or(TimeRange::ALL), Faults::Bare)?;
    let Some(range) = range else { return Ok(empty()) };
    let app = state.clone();
    let body = run_query(&state, None, move |budget| {
        let (names, cut) = app.metrics.label_names(app.tenant, range, &requests, limit, budget)?;
        let mut writer = Writer::new(app.limits.response_bytes_max);
        writer.texts(names, budget)?;
        Ok(writer.finish(&truncated(cut), &[]).held_by(budget))
    })
    .await?;
    Ok(json(body))
}

/// `GET /api/v1/label/NAME/values`
pub(super) async fn values(
    State(state): State<AppState>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> PromResult {
    let params = Params::read(&state, request).await?;
    let Ok(Path(name)) = name else {
        return Err(ApiError::bad_data("invalid label name: it is not UTF-8").into());
    };
    let name = unescape_name(&name);
    if name.is_empty() {
        return Err(ApiError::bad_data(format!("invalid label name: {name:?}")).into());
    }
    let limit = capped(params.limit("limit")?, state.limits.label_values_max);
    let range = range(&params)?;
    let requests = selectors(&state, &params, range.unwrap_or(TimeRange::ALL), Faults::Bare)?;
    let Some(range) = range else { return Ok(empty()) };
    let app = state.clone();
    let body = run_query(&state, None, move |budget| {
        let (values, cut) = app.metrics.label_values(app.tenant, &name, range, &requests, limit, budget)?;
        let mut writer = Writer::new(app.limits.response_bytes_max);
        writer.texts(values, budget)?;
        Ok(writer.finish(&truncated(cut), &[]).held_by(budget))
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
    out
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
        Ok(writer.finish(&[], &[]).held_by(budget))
    })
    .await?;
    Ok(json(body))
}

/// `GET`, `POST /api/v1/query_exemplars`
pub(super) async fn exemplars(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let range =
        range(&params)?.ok_or_else(|| ApiError::bad_data("end timestamp must not be before start timestamp"))?;
    let expr = read_query(&state, params.get("query"), |e| ApiError::bad_data(e.to_string()))?;
    let requests: Vec<SelectRequest> = expr
        .selectors()
        .into_iter()
        .map(|matchers| SelectRequest { tenant: state.tenant, matchers: matchers.to_vec(), range })
        .collect();
    // A query without selectors has no answer, not an empty one.
    if requests.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let app = state.clone();
    let body = run_query(&state, None, move |budget| {
        let mut writer = Writer::new(app.limits.response_bytes_max);
        writer.out.push('[');
        let found = app.metrics.exemplars(&requests, budget)?;
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
        Ok(writer.finish(&[], &[]).held_by(budget))
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
            ("U__", ""),
        ] {
            assert_eq!(unescape_name(text), want, "{text}");
        }
    }
}
