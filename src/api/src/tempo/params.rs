//! Parameters of Tempo's searches and metrics queries.

use trefoil_model::NanoRange;
use trefoil_runtime::limits;

use crate::error::ApiError;
use crate::loki::time::{duration_ns, time_ns};
use crate::params::Params;
use crate::state::AppState;

pub(super) const SECOND_NS: i64 = 1_000_000_000;
/// How far back a metrics query goes that says nothing.
pub(super) const SINCE_NS: i64 = 3600 * SECOND_NS;
/// Steps of a metrics query that names no step.
const STEPS: i64 = 240;

fn time(params: &Params, name: &str) -> Result<Option<i64>, ApiError> {
    match params.get(name) {
        // Tempo's clients send 0 for none.
        "" | "0" => Ok(None),
        text => time_ns(text)
            .map(Some)
            .ok_or_else(|| ApiError::bad_data(format!("invalid {name} {text:?}: Unix seconds, or nanoseconds"))),
    }
}

fn ordered(start_ns: i64, end_ns: i64) -> Result<(), ApiError> {
    if end_ns < start_ns { Err(ApiError::bad_data("end must not be before start")) } else { Ok(()) }
}

/// The range of a search, both ends inside; a whole second as end is inside to its last nanosecond. All time when
/// nothing is said.
pub(super) fn search_range(params: &Params) -> Result<NanoRange, ApiError> {
    let start_ns = time(params, "start")?.unwrap_or(NanoRange::ALL.start_ns);
    let end_ns = match time(params, "end")? {
        None => NanoRange::ALL.end_ns,
        Some(end) => {
            ordered(start_ns, end)?;
            end.saturating_add(if end % SECOND_NS == 0 { SECOND_NS } else { 1 })
        }
    };
    Ok(NanoRange { start_ns, end_ns })
}

/// First and last nanosecond of a metrics query.
pub(super) fn metrics_range(params: &Params, now_ns: i64) -> Result<(i64, i64), ApiError> {
    let since = match params.get("since") {
        "" => SINCE_NS,
        text => duration_ns(text)
            .filter(|d| *d > 0)
            .ok_or_else(|| ApiError::bad_data(format!("invalid since {text:?}: a duration above 0")))?,
    };
    let end_ns = time(params, "end")?.unwrap_or(now_ns);
    let start_ns = time(params, "start")?.unwrap_or_else(|| end_ns.saturating_sub(since));
    ordered(start_ns, end_ns)?;
    Ok((start_ns, end_ns))
}

/// The step in nanoseconds; without one the range is divided into steps of whole seconds.
pub(super) fn step(params: &Params, (start_ns, end_ns): (i64, i64)) -> Result<i64, ApiError> {
    match params.get("step") {
        "" | "0" => Ok(usual_step((start_ns, end_ns))),
        text => duration_ns(text)
            .filter(|d| *d > 0)
            .ok_or_else(|| ApiError::bad_data(format!("invalid step {text:?}: a duration above 0"))),
    }
}

/// The step of a query that names none.
pub(super) fn usual_step((start_ns, end_ns): (i64, i64)) -> i64 {
    (end_ns.saturating_sub(start_ns) / STEPS / SECOND_NS * SECOND_NS).max(SECOND_NS)
}

/// A count with its default and its limit.
pub(super) fn count(params: &Params, name: &str, default: usize, most: usize) -> Result<usize, ApiError> {
    let text = params.get(name);
    if text.is_empty() {
        return Ok(default);
    }
    match text.parse::<usize>() {
        Ok(n) if n <= most => Ok(n),
        Ok(_) => Err(ApiError::bad_data(format!("{name} {text} is greater than {most}"))),
        Err(_) => Err(ApiError::bad_data(format!("invalid {name} {text:?}: a whole number"))),
    }
}

/// The text of a query within `query_bytes_max`.
pub(super) fn query_text<'a>(state: &AppState, params: &'a Params) -> Result<&'a str, ApiError> {
    let text = if params.get("q").is_empty() { params.get("query") } else { params.get("q") };
    check_length(state, text)?;
    Ok(text)
}

/// Refuses a query of more than `query_bytes_max`.
pub(super) fn check_length(state: &AppState, text: &str) -> Result<(), ApiError> {
    if text.len() > state.limits.query_bytes_max {
        limits::hit("query_bytes_max");
        let (is, max) = (text.len(), state.limits.query_bytes_max);
        return Err(ApiError::bad_data(format!("query has {is} bytes, more than {max} (limit query_bytes_max)")));
    }
    Ok(())
}

/// TraceQL for the older parameters `tags` (`name=value name="other value"`), `minDuration` and `maxDuration`.
pub(super) fn legacy(params: &Params) -> Result<String, ApiError> {
    let duration = |name: &str| match params.get(name) {
        "" => Ok(None),
        text => duration_ns(text)
            .filter(|d| *d >= 0)
            .map(Some)
            .ok_or_else(|| ApiError::bad_data(format!("invalid {name} {text:?}: a duration"))),
    };
    Ok(conditions(&pairs(params.get("tags"))?, duration("minDuration")?, duration("maxDuration")?))
}

/// TraceQL for tags and the least and greatest duration of a trace in nanoseconds.
pub(super) fn conditions(tags: &[(String, String)], min_ns: Option<i64>, max_ns: Option<i64>) -> String {
    let mut out: Vec<String> = tags.iter().map(|(name, value)| condition(name, value)).collect();
    for (op, ns) in [(">=", min_ns), ("<=", max_ns)] {
        out.extend(ns.map(|ns| format!("traceDuration {op} {ns}ns")));
    }
    format!("{{ {} }}", out.join(" && "))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// The value is compared as text with what may be a number or a boolean.
fn condition(name: &str, value: &str) -> String {
    let text = quoted(value);
    match name {
        "service.name" => format!("resource.service.name = {text}"),
        "name" => format!("name = {text}"),
        "root.name" => format!("rootName = {text}"),
        "root.service.name" => format!("rootServiceName = {text}"),
        "error" if value == "true" => "status = error".to_owned(),
        "status.code" if matches!(value, "ok" | "error" | "unset") => format!("status = {value}"),
        _ => {
            let attribute = format!(".{}", quoted(name));
            let is_number = !value.starts_with(['+', '.']) && value.parse::<f64>().is_ok_and(f64::is_finite);
            if is_number || value == "true" || value == "false" {
                format!("({attribute} = {text} || {attribute} = {value})")
            } else {
                format!("{attribute} = {text}")
            }
        }
    }
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, ApiError> {
    let fault = || ApiError::bad_data(format!("invalid tags {text:?}: name=value, or name=\"a value\""));
    let mut out = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(fault)?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(fault());
        }
        let mut value = String::new();
        let end = if let Some(inner) = after.strip_prefix('"') {
            let mut escaped = false;
            let mut end = None;
            for (at, c) in inner.char_indices() {
                match c {
                    _ if escaped => {
                        value.push(c);
                        escaped = false;
                    }
                    '\\' => escaped = true,
                    '"' => {
                        end = Some(at + 2);
                        break;
                    }
                    c => value.push(c),
                }
            }
            end.ok_or_else(fault)?
        } else {
            let end = after.find(char::is_whitespace).unwrap_or(after.len());
            value.push_str(&after[..end]);
            end
        };
        out.push((name.to_owned(), value));
        rest = after[end..].trim_start();
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_parameters_as_traceql() {
        let read = |text: &str| legacy(&Params::from_query(text).unwrap());
        assert_eq!(read("").unwrap(), "{  }");
        let query = "tags=service.name%3Dshop+http.status_code%3D200+a%3D%22b+%5C%22c%22&minDuration=1.5s";
        let want = "{ resource.service.name = \"shop\" && (.\"http.status_code\" = \"200\" || .\"http.status_code\" = 200) \
                    && .\"a\" = \"b \\\"c\" && traceDuration >= 1500000000ns }";
        assert_eq!(read(query).unwrap(), want);
        assert!(trefoil_traceql::parse(want).is_ok());
        for bad in ["tags=a", "tags=%3Db", "tags=a%3D%22b", "minDuration=soon"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_and_steps() {
        let params = |text: &str| Params::from_query(text).unwrap();
        let range = search_range(&params("start=10&end=20")).unwrap();
        assert_eq!(range, NanoRange::new(10 * SECOND_NS, 21 * SECOND_NS));
        assert_eq!(search_range(&params("start=0&end=0")).unwrap(), NanoRange::ALL);
        assert!(search_range(&params("start=20&end=10")).is_err());
        let now = 10_000 * SECOND_NS;
        let range = metrics_range(&params("since=2400s"), now).unwrap();
        assert_eq!(range, (now - 2400 * SECOND_NS, now));
        assert_eq!(step(&params(""), range).unwrap(), 10 * SECOND_NS);
        assert_eq!(step(&params("step=30s"), range).unwrap(), 30 * SECOND_NS);
        assert!(step(&params("step=-1"), range).is_err());
    }
}
