//! `/api/v1/search/{metric_names,label_names,label_values}`: names and values that are like what somebody types, as
//! JSON lines: batches of results, then a line that says how it ended.

mod score;

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};
use trefoil_model::labels::METRIC_NAME;
use trefoil_model::{SelectRequest, TimeRange};

use self::score::{Algorithm, Search};
use super::answer::{PromResult, TRUNCATED};
use super::labels::{Faults, selectors};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::{App, AppState, run_query};

/// Results when the client names no `limit`, and in a batch when it names no `batch_size`.
const RESULTS_DEFAULT: usize = 100;
/// Most `search[]` parameters.
const TERMS_MAX: usize = 32;
/// How far back is searched when the client names no `start`, milliseconds.
const BACK_MS: i64 = 3_600_000;

/// What all three take.
struct Wanted {
    range: TimeRange,
    requests: Vec<SelectRequest>,
    search: Search,
    by_score: bool,
    descending: bool,
    with_score: bool,
    limit: usize,
    batch: usize,
}

fn boolean(params: &Params, name: &str, default: bool) -> Result<bool, ApiError> {
    match params.get(name) {
        "" => Ok(default),
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        other => Err(ApiError::bad_data(format!("invalid {name} {other:?}: must be boolean"))),
    }
}

fn positive(params: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    let text = params.get(name);
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<i64>().ok().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0) {
        Some(n) => Ok(Some(n)),
        None => Err(ApiError::bad_data(format!("invalid {name} {text:?}: must be a positive integer"))),
    }
}

impl Wanted {
    fn read(state: &App, params: &Params, what: &str) -> Result<Self, ApiError> {
        let now = state.clock.now_ms();
        let start = params.time("start")?.unwrap_or(now - BACK_MS);
        let end = params.time("end")?.unwrap_or(now);
        if end < start {
            return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
        }
        let range = TimeRange::new(start, end + 1);
        let requests = selectors(state, params, range, Faults::Bare)?;
        let terms: Vec<&str> = params.all("search[]").collect();
        if terms.len() > TERMS_MAX {
            let message = format!("too many search[] terms: got {}, maximum is {TERMS_MAX}", terms.len());
            return Err(ApiError::bad_data(message));
        }
        let threshold = match params.get("fuzz_threshold") {
            "" => 0,
            text => text
                .parse::<u8>()
                .ok()
                .filter(|n| *n <= 100)
                .ok_or_else(|| ApiError::bad_data(format!("invalid fuzz_threshold {text:?}: must be 0-100")))?,
        };
        let algorithm = match params.get("fuzz_alg") {
            "" | "subsequence" => Algorithm::Subsequence,
            "jarowinkler" => Algorithm::JaroWinkler,
            other => {
                let message = format!("unsupported fuzz_alg {other:?}: must be one of [subsequence jarowinkler]");
                return Err(ApiError::bad_data(message));
            }
        };
        let case_sensitive = boolean(params, "case_sensitive", true)?;
        let with_score = boolean(params, "include_score", false)?;
        let (sort_by, direction) = (params.get("sort_by"), params.get("sort_dir"));
        let fault = |message: String| Err(ApiError::bad_data(message));
        match (sort_by, direction) {
            ("", "") | ("alpha", "" | "asc" | "dsc") => {}
            ("score", "") if terms.is_empty() => {
                return fault("sort_by=score requires search[] to be set".to_owned());
            }
            ("score", "") => {}
            ("", _) => return fault("sort_dir is only valid when sort_by is set".to_owned()),
            ("score", _) => return fault("sort_dir is not supported for sort_by=score".to_owned()),
            ("alpha", other) => return fault(format!("invalid sort_dir {other:?}: must be \"asc\" or \"dsc\"")),
            (other, _) => {
                return fault(format!("invalid sort_by {other:?} for {what}: must be \"alpha\" or \"score\""));
            }
        }
        let most = state.limits.label_values_max;
        let limit = positive(params, "limit")?.unwrap_or(RESULTS_DEFAULT.min(most));
        if limit > most {
            let message = format!("limit {limit} exceeds the configured maximum ({most}, limit label_values_max)");
            return fault(message);
        }
        Ok(Self {
            range,
            requests,
            search: Search::new(&terms, f64::from(threshold) / 100.0, algorithm, case_sensitive),
            by_score: sort_by == "score",
            descending: direction == "dsc",
            with_score,
            limit,
            batch: positive(params, "batch_size")?.unwrap_or(RESULTS_DEFAULT).min(most),
        })
    }

    /// The names that are like what is searched, with their scores, in the order wanted.
    fn pick(&self, names: Vec<String>) -> Vec<(String, f64)> {
        let mut found: Vec<(String, f64)> =
            names.into_iter().filter_map(|name| self.search.score(&name).map(|score| (name, score))).collect();
        if self.by_score {
            found.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        } else {
            found.sort_by(|a, b| if self.descending { b.0.cmp(&a.0) } else { a.0.cmp(&b.0) });
        }
        found
    }

    /// The lines of the answer; `fields` makes a result of a name. `cut`: there was more than could be looked at.
    fn render(
        &self,
        mut found: Vec<(String, f64)>,
        cut: bool,
        response_bytes_max: u64,
        fields: impl Fn(String) -> Map<String, Value>,
    ) -> Result<String, ApiError> {
        let has_more = found.len() > self.limit;
        found.truncate(self.limit);
        let results: Vec<Value> = found
            .into_iter()
            .map(|(name, score)| {
                let mut result = fields(name);
                if self.with_score {
                    // After the name, before what else is known.
                    result.shift_insert(1, "score".to_owned(), json!(score));
                }
                Value::Object(result)
            })
            .collect();
        let mut out = String::new();
        let mut batches = results.chunks(self.batch.max(1));
        let first = batches.next().unwrap_or_default();
        let mut line = json!({ "results": first });
        if let Some(fields) = line.as_object_mut().filter(|_| cut) {
            fields.insert("warnings".to_owned(), json!([TRUNCATED]));
        }
        out.push_str(&format!("{line}\n"));
        for batch in batches {
            out.push_str(&format!("{}\n", json!({ "results": batch })));
            if out.len() as u64 > response_bytes_max {
                return Err(ApiError::response_too_large(response_bytes_max));
            }
        }
        out.push_str(&format!("{}\n", json!({ "status": "success", "has_more": has_more || cut })));
        Ok(out)
    }
}

fn lines(text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    let form = HeaderValue::from_static("application/x-ndjson; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, form);
    response
}

fn field(key: &str, value: String) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), Value::from(value))])
}

/// `GET`, `POST /api/v1/search/metric_names`
pub(super) async fn metric_names(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let wanted = Wanted::read(&state, &params, "metric_names")?;
    let with_metadata = boolean(&params, "include_metadata", false)?;
    let app = state.clone();
    let body = run_query(&state, None, move |budget| {
        let most = app.limits.label_values_max;
        let (names, cut) =
            app.metrics.label_values(app.tenant, METRIC_NAME, wanted.range, &wanted.requests, most, budget)?;
        let found = wanted.pick(names);
        let mut known = BTreeMap::new();
        if with_metadata && !found.is_empty() {
            for m in app.metrics.metadata(app.tenant, None, 0) {
                known.entry(m.name.clone()).or_insert(m);
            }
        }
        wanted.render(found, cut, app.limits.response_bytes_max, |name| {
            let metadata = known.get(&name);
            let mut out = field("name", name);
            if let Some(m) = metadata {
                for (key, value) in [("type", m.kind.as_str()), ("help", m.help.as_str()), ("unit", m.unit.as_str())] {
                    if !value.is_empty() {
                        out.insert(key.to_owned(), Value::from(value));
                    }
                }
            }
            out
        })
    })
    .await?;
    Ok(lines(body))
}

/// `GET`, `POST /api/v1/search/label_names`
pub(super) async fn label_names(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let wanted = Wanted::read(&state, &params, "label_names")?;
    let app = state.clone();
    let body = run_query(&state, None, move |budget| {
        let most = app.limits.label_values_max;
        let (names, cut) = app.metrics.label_names(app.tenant, wanted.range, &wanted.requests, most, budget)?;
        wanted.render(wanted.pick(names), cut, app.limits.response_bytes_max, |name| field("name", name))
    })
    .await?;
    Ok(lines(body))
}

/// `GET`, `POST /api/v1/search/label_values`
pub(super) async fn label_values(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let wanted = Wanted::read(&state, &params, "label_values")?;
    let label = params.get("label").to_owned();
    if label.is_empty() {
        return Err(ApiError::bad_data("missing required parameter \"label\"").into());
    }
    let app = state.clone();
    let body = run_query(&state, None, move |budget| {
        let most = app.limits.label_values_max;
        let (values, cut) =
            app.metrics.label_values(app.tenant, &label, wanted.range, &wanted.requests, most, budget)?;
        wanted.render(wanted.pick(values), cut, app.limits.response_bytes_max, |value| field("value", value))
    })
    .await?;
    Ok(lines(body))
}
