//! `context`: the lines around a line, of its stream or of whatever the page pivots to (a host, a trace).

use axum::extract::{Request, State};
use serde_json::{Map, Value, json};
use trefoil_logql::Entry;
use trefoil_model::{Direction, Labels, NanoRange};

use super::chips::{Chip, Comparison};
use super::compose::Asked;
use super::source::{NO_BYTES_MAX, run};
use super::{answer, line_count, line_json};
use crate::error::ApiError;
use crate::loki::params::time;
use crate::loki::time::duration_ns;
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::state::AppState;

/// Lines on each side when the client does not say.
const LINES: usize = 10;
/// Lines of the same time that are given.
const SAME_TIME_MAX: usize = 200;
/// How far the lines may be away when the client does not say: a day.
const WITHIN_NS: i64 = 86_400 * 1_000_000_000;

/// `stream`: the labels of a stream as a JSON object, each a condition.
fn stream_chips(text: &str) -> Result<Vec<Chip>, ApiError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let labels: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| ApiError::parameter("stream", format!("not an object of labels: {error}")))?;
    labels
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(value) => Ok(Chip { name, comparison: Comparison::Equal, value }),
            other => Err(ApiError::parameter("stream", format!("the value of {name:?} is no text: {other}"))),
        })
        .collect()
}

/// `GET`, `POST /api/v1/logs/context`
pub(super) async fn around(State(state): State<AppState>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let Some(at) = time(&params, "time")? else {
        return Err(ApiError::parameter("time", "the time of a line must be given").into());
    };
    let within = match params.get("within") {
        "" => WITHIN_NS,
        text => duration_ns(text)
            .filter(|ns| *ns > 0)
            .ok_or_else(|| ApiError::parameter("within", format!("{text:?} is no positive duration")))?,
    };
    let side = |name: &str| -> Result<usize, ApiError> {
        // None at all on one side is how a page goes on at the other.
        if params.get(name) == "0" { Ok(0) } else { line_count(&state, &params, name, LINES) }
    };
    let (before, after) = (side("before")?, side("after")?);
    let mut asked = Asked::read(&state, &params)?;
    asked.range = NanoRange::new(at.saturating_sub(within), at.saturating_add(within));
    for chip in stream_chips(params.get("stream"))? {
        asked = asked.and(chip);
    }
    let data = run(&state, "/api/v1/logs/context", &client, asked, move |source, asked| {
        let query = asked.compose(source, &[])?;
        let behind = at.saturating_add(1);
        let read = |range: NanoRange, direction: Direction, limit: usize| {
            source.lines(&query, range, direction, (0, 0), (limit, NO_BYTES_MAX)).map(|page| page.lines)
        };
        let mut older = read(NanoRange::new(asked.range.start_ns, at), Direction::Backward, before)?;
        older.reverse();
        let same = read(NanoRange::new(at, behind), Direction::Forward, SAME_TIME_MAX)?;
        let newer = read(NanoRange::new(behind, asked.range.end_ns), Direction::Forward, after)?;
        let shown = |lines: &[(Labels, Entry)]| -> Value {
            lines.iter().map(|(stream, entry)| line_json(stream, entry)).collect()
        };
        Ok(json!({
            "query": query,
            "before": shown(&older),
            "at": shown(&same),
            "after": shown(&newer),
            "moreBefore": older.len() == before,
            "moreAfter": newer.len() == after,
        }))
    })
    .await?;
    answer(&state, &data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_conditions() {
        let chips = stream_chips(r#"{"app":"x","env":"a b"}"#).expect("labels");
        let shown: Vec<String> = chips.iter().map(Chip::logql).collect();
        assert_eq!(shown, [r#"app="x""#, r#"env="a b""#]);
        assert!(stream_chips("").expect("none").is_empty());
        for bad in ["x", "[]", r#"{"a":1}"#] {
            assert!(stream_chips(bad).is_err(), "{bad}");
        }
    }
}
