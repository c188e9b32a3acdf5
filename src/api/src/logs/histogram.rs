//! `histogram`: how many lines when, by level or by any other field.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use serde_json::{Value, json};
use trefoil_model::NanoRange;
use trefoil_model::labels::underscored;

use super::answer;
use super::compose::Asked;
use super::source::{Source, run};
use crate::error::ApiError;
use crate::loki::params::count;
use crate::loki::time::duration_ns;
use crate::params::Params;
use crate::prometheus::answer::PromResult;
use crate::prometheus::client_of;
use crate::state::AppState;

/// Steps when the client does not say how long one is.
const STEPS: i64 = 60;
/// Most steps.
const STEPS_MAX: i64 = 2000;
/// Series that are told apart; the rest is one.
const SERIES: usize = 12;
/// Lengths of steps that people read with ease, in seconds.
const ROUND_SECONDS: [i64; 16] =
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600];
const SECOND_NS: i64 = 1_000_000_000;
const DAY_NS: i64 = 86_400 * SECOND_NS;

/// `GET`, `POST /api/v1/logs/histogram`
pub(super) async fn histogram(State(state): State<AppState>, request: Request) -> PromResult {
    let client = client_of(&request);
    let params = Params::read(&state, request).await?;
    let asked = Asked::read(&state, &params)?;
    let by = match params.get("by") {
        "" => "detected_level".to_owned(),
        name => underscored(name).into_owned(),
    };
    let most = count(&params, "limit", SERIES)?;
    let step_ns = step(&params, asked.range)?;
    let data = run(&state, "/api/v1/logs/histogram", &client, asked, move |source, asked| {
        let query = asked.compose(source, &[&by])?;
        let counts = counts(source, &query, &by, asked.range, step_ns)?;
        Ok(json!({ "query": query, "by": by, "step": step_ns.to_string(), "series": series(counts, most) }))
    })
    .await?;
    answer(&state, &data)
}

/// `step` as a duration or in seconds, else one that gives about sixty steps.
fn step(params: &Params, range: NanoRange) -> Result<i64, ApiError> {
    let span = range.end_ns.saturating_sub(range.start_ns).max(1);
    let step_ns = match params.get("step") {
        "" => {
            let wanted = span / STEPS;
            let round = ROUND_SECONDS.iter().map(|s| s * SECOND_NS).find(|s| *s >= wanted);
            round.unwrap_or_else(|| (wanted / DAY_NS + 1) * DAY_NS)
        }
        text => match duration_ns(text) {
            Some(ns) if ns > 0 => ns,
            _ => return Err(ApiError::parameter("step", format!("{text:?} is no positive duration"))),
        },
    };
    if span / step_ns >= STEPS_MAX {
        return Err(ApiError::parameter("step", format!("more than {STEPS_MAX} steps")));
    }
    Ok(step_ns)
}

type Counts = BTreeMap<String, BTreeMap<i64, u64>>;

/// Counts by value and start of the step. Steps are multiples of their length, so that bars stay where they are from one
/// look to the next; lines outside the range are not counted.
fn counts(source: &Source<'_>, query: &str, by: &str, range: NanoRange, step_ns: i64) -> Result<Counts, ApiError> {
    let NanoRange { start_ns, end_ns } = range;
    let mut counts = Counts::new();
    let mut add = |value: &str, step: i64, count: f64| {
        if count > 0.0 {
            *counts.entry(value.to_owned()).or_default().entry(step).or_default() += count as u64;
        }
    };
    let count_query = |window_ns: i64| format!("sum by ({by}) (count_over_time({query} [{window_ns}ns]))");
    // Windows are open at the left: they end one nanosecond before the step does.
    let mut part = |from: i64, to: i64| -> Result<(), ApiError> {
        if from < to {
            for sample in source.instant(&count_query(to - from), to - 1)? {
                add(
                    sample.labels.get(by).unwrap_or(""),
                    from.div_euclid(step_ns).saturating_mul(step_ns),
                    sample.value,
                );
            }
        }
        Ok(())
    };
    let first = start_ns.div_euclid(step_ns).saturating_mul(step_ns);
    let first_whole = if first < start_ns { first.saturating_add(step_ns) } else { first };
    let end_whole = end_ns.div_euclid(step_ns).saturating_mul(step_ns);
    if first_whole >= end_whole {
        // At most two steps, none of them whole.
        let middle = first_whole.clamp(start_ns, end_ns);
        part(start_ns, middle)?;
        part(middle, end_ns)?;
        return Ok(counts);
    }
    part(start_ns, first_whole)?;
    part(end_whole, end_ns)?;
    let steps = end_whole.saturating_sub(first_whole) / step_ns;
    let at = first_whole.saturating_add(step_ns) - 1;
    for (labels, points) in source.matrix(&count_query(step_ns), at, step_ns, steps)? {
        for (step, value) in points {
            add(labels.get(by).unwrap_or(""), first_whole + step * step_ns, value);
        }
    }
    Ok(counts)
}

/// The series with most lines; the others are summed under `null`.
fn series(counts: Counts, most: usize) -> Value {
    let mut all: Vec<(Value, BTreeMap<i64, u64>)> = counts.into_iter().map(|(v, c)| (Value::from(v), c)).collect();
    all.sort_by_cached_key(|(_, steps)| std::cmp::Reverse(steps.values().sum::<u64>()));
    if all.len() > most {
        let mut rest: BTreeMap<i64, u64> = BTreeMap::new();
        for (step, count) in all.drain(most..).flat_map(|(_, steps)| steps) {
            *rest.entry(step).or_default() += count;
        }
        all.push((Value::Null, rest));
    }
    let shown = all.into_iter().map(|(value, steps)| {
        let total: u64 = steps.values().sum();
        let counts: Vec<Value> = steps.into_iter().map(|(t, count)| json!([t.to_string(), count])).collect();
        json!({ "value": value, "total": total, "counts": counts })
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        let check = |seconds: i64, query: &str, want: Result<i64, &str>| {
            let params = Params::from_query(query).expect("a query");
            match (step(&params, NanoRange::new(0, seconds * SECOND_NS)), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want * SECOND_NS, "{seconds} {query}"),
                (Err(error), Err(want)) if error.message.contains(want) => {}
                (got, want) => panic!("{seconds} {query}: {got:?}, want {want:?}"),
            }
        };
        check(60, "", Ok(1));
        check(3600, "", Ok(60));
        check(86_400, "", Ok(1800));
        check(90 * 86_400, "", Ok(2 * 86_400));
        check(3600, "step=90s", Ok(90));
        check(3600, "step=x", Err("no positive duration"));
        check(86_400, "step=1s", Err("more than 2000 steps"));
    }

    #[test]
    fn small_series_are_one() {
        let one = |n: u64| BTreeMap::from([(10, n)]);
        let counts = Counts::from([("a".into(), one(1)), ("b".into(), one(5)), ("c".into(), one(2))]);
        let shown = series(counts, 1);
        assert_eq!(
            shown,
            json!([
                {"value": "b", "total": 5, "counts": [["10", 5]]},
                {"value": null, "total": 3, "counts": [["10", 3]]},
            ])
        );
    }
}
