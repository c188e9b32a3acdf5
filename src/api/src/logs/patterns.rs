//! `patterns`: the shapes of the lines of a search, since when they are there, and which of them are new.
//!
//! A pattern is new since a time when a line after it has that shape and no line of the day before it has: that is looked
//! up in the stored lines, so that a restart, which forgets what was learnt, makes nothing new.

use std::time::Duration;

use axum::extract::{Request, State};
use serde_json::{Value, json};
use trefoil_insight::patterns::PatternSeries;
use trefoil_model::{Direction, NanoRange};

use super::answer;
use super::chips::quoted;
use super::compose::Asked;
use super::source::{Source, run};
use crate::error::ApiError;
use crate::loki::params::{count, time};
use crate::loki::patterns::find;
use crate::loki::time::duration_ns;
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::state::AppState;

/// Patterns that are answered when the client does not say.
const PATTERNS: usize = 100;
/// How far back from `new_since` a line makes a pattern known, when the client does not say: a day.
const LOOKBACK_NS: i64 = 86_400 * SECOND_NS;
/// Most patterns of which stored lines are asked whether they are new.
const CHECKED_MAX: usize = 100;
/// How long that may take.
const CHECK_TIME: Duration = Duration::from_secs(10);
/// What stands for the parts that differ.
const CAPTURE: &str = "<_>";
/// Texts of a pattern by which blocks without it are passed over, and the fewest bytes of one.
const HINTS: (usize, usize) = (3, 3);
const SECOND_NS: i64 = 1_000_000_000;

/// `GET`, `POST /api/v1/logs/patterns`
pub(super) async fn patterns(State(state): State<AppState>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let mut asked = Asked::read(&state, &params)?;
    let most = count(&params, "limit", PATTERNS)?;
    let new_since = time(&params, "new_since")?;
    let lookback = match params.get("lookback") {
        "" => LOOKBACK_NS,
        text => duration_ns(text)
            .filter(|ns| *ns > 0)
            .ok_or_else(|| ApiError::parameter("lookback", format!("{text:?} is no positive duration")))?,
    };
    if let Some(since) = new_since {
        asked.range.start_ns = since.min(asked.range.end_ns);
    }
    let range = asked.range;
    let path = "/api/v1/logs/patterns";
    let query = run(&state, path, &client, asked.clone(), |source, asked| asked.compose(source, &[])).await?;
    let (mut found, is_learnt) = find(&state, query.clone(), range).await?;
    let mut checked = None;
    if let Some(since) = new_since {
        // What was seen before, by whoever learnt it, is known.
        found.retain(|p| p.first_seen_ns >= since);
        found.truncate(most.max(CHECKED_MAX));
        let before = NanoRange::new(since.saturating_sub(lookback), since);
        let (base, candidates, clock) = (query.clone(), found.clone(), state.clock.clone());
        let known = run(&state, path, &client, asked, move |source, _| {
            let began = clock.monotonic();
            let mut known = Vec::new();
            for pattern in candidates.iter().take(CHECKED_MAX) {
                if clock.monotonic().saturating_sub(began) > CHECK_TIME {
                    break;
                }
                known.push(is_known(source, &base, &pattern.pattern, before)?);
            }
            Ok(known)
        })
        .await?;
        checked = Some(known.len());
        let mut at = 0;
        found.retain(|_| {
            at += 1;
            !known.get(at - 1).copied().unwrap_or(false)
        });
        // Those that were not looked up come last.
        checked = checked.map(|n| n - known.iter().filter(|k| **k).count());
    }
    let total = found.len();
    found.truncate(most);
    let seconds = (range.end_ns.saturating_sub(range.start_ns) as f64 / SECOND_NS as f64).max(1.0);
    let shown: Vec<Value> =
        found.iter().enumerate().map(|(i, p)| pattern_json(p, seconds, checked.map(|n| i < n))).collect();
    let data = json!({
        "query": query,
        "learnt": is_learnt,
        "learntSince": state.insight.patterns.since_ns().map(|t| t.to_string()),
        "total": total,
        "patterns": shown,
    });
    answer(&state, &data)
}

fn pattern_json(pattern: &PatternSeries, seconds: f64, is_checked: Option<bool>) -> Value {
    let count: u64 = pattern.samples.iter().map(|s| s.1).sum();
    let counts: Vec<Value> =
        pattern.samples.iter().map(|(t, n)| json!([t.saturating_mul(SECOND_NS).to_string(), n])).collect();
    let mut shown = json!({
        "pattern": pattern.pattern,
        "level": pattern.level,
        "count": count,
        "perSecond": count as f64 / seconds,
        "firstSeen": pattern.first_seen_ns.to_string(),
        "lastSeen": pattern.last_seen_ns.to_string(),
        "counts": counts,
    });
    if let Some(is_checked) = is_checked {
        shown["checked"] = Value::from(is_checked);
    }
    shown
}

/// Whether a stored line has the shape.
fn is_known(source: &Source<'_>, base: &str, pattern: &str, range: NanoRange) -> Result<bool, ApiError> {
    let Some(filter) = pattern_filter(pattern) else { return Ok(false) };
    let query = format!("{base}\n{filter}");
    Ok(!source.newest(&query, range, Direction::Backward, 1)?.is_empty())
}

/// The line filters of a pattern: its longest texts, by which a store finds lines, and the pattern itself. `None` for one
/// that is no more than a capture.
fn pattern_filter(pattern: &str) -> Option<String> {
    let mut texts: Vec<&str> = pattern.split(CAPTURE).filter(|t| !t.is_empty()).collect();
    if texts.is_empty() {
        return None;
    }
    if !pattern.contains(CAPTURE) {
        return Some(format!("|= {}", quoted(pattern)));
    }
    texts.sort_by_key(|t| std::cmp::Reverse(t.len()));
    let (most, bytes_min) = HINTS;
    let hints = texts.iter().take(most).filter(|t| t.len() >= bytes_min).map(|t| format!("|= {}", quoted(t)));
    let filters: Vec<String> = hints.chain([format!("|> {}", quoted(pattern))]).collect();
    Some(filters.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_filters() {
        for (pattern, want) in [
            ("user <_> logged in", Some(r#"|= " logged in" |= "user " |> "user <_> logged in""#)),
            ("disk \"a\" full", Some(r#"|= "disk \"a\" full""#)),
            ("a=<_>", Some(r#"|> "a=<_>""#)),
            ("<_>", None),
        ] {
            let filter = pattern_filter(pattern);
            assert_eq!(filter.as_deref(), want, "{pattern}");
            let Some(filter) = filter else { continue };
            let query = format!("{{a=\"b\"}}\n{filter}");
            assert!(trefoil_logql::Engine::check(&query).is_ok(), "{query}");
        }
    }
}
