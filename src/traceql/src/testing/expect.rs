//! Compares answers with what case files expect.

use serde_json::Value as Json;

use super::data::{EPOCH_NS, duration, span_id, trace_id};
use crate::{MetricsAnswer, MetricsSeries, SearchAnswer, SetResult, Value};

/// Numbers are equal within this part of themselves.
const TOLERANCE: f64 = 1e-9;

fn close(got: f64, want: f64) -> bool {
    got == want || (got - want).abs() <= TOLERANCE * got.abs().max(want.abs())
}

/// Whether a value is what a case writes.
fn same(got: &Value, want: &Json) -> bool {
    match want {
        Json::Null => *got == Value::Nil,
        Json::Bool(b) => *got == Value::Bool(*b),
        Json::Number(n) => match got {
            Value::Int(i) => n.as_i64() == Some(*i) || n.as_f64().is_some_and(|n| close(*i as f64, n)),
            Value::Float(f) => n.as_f64().is_some_and(|n| close(*f, n)),
            _ => false,
        },
        Json::String(s) => match got {
            Value::String(g) => g == s,
            Value::Duration(d) => crate::value::parse_duration(s) == Some(*d),
            Value::Status(_) | Value::Kind(_) => got.to_text() == *s,
            _ => false,
        },
        Json::Array(_) | Json::Object(_) => false,
    }
}

fn list(value: &Json) -> &[Json] {
    value.as_array().map_or(&[][..], Vec::as_slice)
}

pub(super) fn traces(got: &SearchAnswer, want: &Json) -> Result<(), String> {
    let newest_first = got.traces.windows(2).all(|w| latest(&w[0].sets) >= latest(&w[1].sets));
    if !newest_first {
        return Err("traces are not newest first".to_owned());
    }
    let want = list(want);
    let ids: Vec<String> = got.traces.iter().map(|t| t.trace_id.to_string()).collect();
    for expected in want {
        let id = trace_id(&expected["trace"])?;
        let Some(found) = got.traces.iter().find(|t| t.trace_id == id) else {
            return Err(format!("trace {id} was not found, but {ids:?}"));
        };
        sets(&found.sets, list(&expected["sets"])).map_err(|e| format!("trace {id}: {e}"))?;
    }
    if got.traces.len() != want.len() { Err(format!("found {ids:?}")) } else { Ok(()) }
}

fn latest(sets: &[SetResult]) -> i64 {
    sets.iter().flat_map(|s| &s.spans).map(|s| s.start_ns).max().unwrap_or(i64::MIN)
}

fn sets(got: &[SetResult], want: &[Json]) -> Result<(), String> {
    let describe = || {
        let one = |s: &SetResult| {
            let ids: Vec<String> = s.spans.iter().map(|s| s.span_id.to_string()[..2].to_owned()).collect();
            format!("{ids:?} {:?}", s.attributes)
        };
        got.iter().map(one).collect::<Vec<_>>().join("; ")
    };
    if got.len() != want.len() {
        return Err(format!("{} span sets instead of {}: {}", got.len(), want.len(), describe()));
    }
    let mut free: Vec<&SetResult> = got.iter().collect();
    for expected in want {
        let mut ids = list(&expected["spans"]).iter().map(span_id).collect::<Result<Vec<_>, _>>()?;
        ids.sort();
        let fits = |s: &&SetResult| {
            let mut found: Vec<_> = s.spans.iter().map(|s| s.span_id).collect();
            found.sort();
            found == ids && s.matched == ids.len() && attributes(s, &expected["attributes"])
        };
        let Some(at) = free.iter().position(fits) else {
            return Err(format!("no span set {expected}, but {}", describe()));
        };
        selected(free.remove(at), &expected["selected"])?;
    }
    Ok(())
}

/// Attributes of a set; the name of a computed one may differ.
fn attributes(set: &SetResult, want: &Json) -> bool {
    let empty = serde_json::Map::new();
    let want = want.as_object().unwrap_or(&empty);
    want.len() == set.attributes.len()
        && want.iter().all(|(name, value)| {
            let named = set.attributes.iter().find(|(n, _)| n == name);
            named.map_or_else(|| set.attributes.iter().any(|(_, v)| same(v, value)), |(_, v)| same(v, value))
        })
}

fn selected(set: &SetResult, want: &Json) -> Result<(), String> {
    for (id, values) in want.as_object().into_iter().flatten() {
        let id = span_id(&Json::from(id.as_str()))?;
        let Some(span) = set.spans.iter().find(|s| s.span_id == id) else { return Err(format!("no span {id}")) };
        for (name, value) in values.as_object().into_iter().flatten() {
            let found = span.attributes.iter().find(|(a, _)| a.to_string() == *name);
            if !found.is_some_and(|(_, v)| same(v, value)) {
                return Err(format!("span {id} has {:?}, not {name}={value}", span.attributes));
            }
        }
    }
    Ok(())
}

pub(super) fn series(got: &MetricsAnswer, expect: &Json, is_instant: bool) -> Result<(), String> {
    if !is_instant {
        let times = list(&expect["times"]).iter().map(duration).collect::<Result<Vec<_>, _>>()?;
        let found: Vec<i64> = got.times_ns.iter().map(|t| t - EPOCH_NS).collect();
        if found != times {
            return Err(format!("times {found:?} instead of {times:?}"));
        }
    }
    let within_power_of_two = expect["accept"] == "within_power_of_two";
    let want = list(&expect["series"]);
    for expected in want {
        let labels = expected["labels"].as_object().ok_or("labels are no mapping")?;
        let fits = |s: &&MetricsSeries| {
            s.labels.len() == labels.len()
                && s.labels.iter().all(|(n, v)| labels.get(n).is_some_and(|want| same(v, want)))
        };
        let Some(found) = got.series.iter().find(fits) else {
            return Err(format!("no series {}, but {}", expected["labels"], described(got)));
        };
        let values = list(&expected["values"]);
        let agree = values.len() == found.values.len()
            && values.iter().zip(&found.values).all(|(want, got)| match (want.as_f64(), got) {
                (None, None) => true,
                (Some(want), Some(got)) if within_power_of_two && want > 0.0 => {
                    *got >= want / 2.0 * (1.0 - TOLERANCE) && *got <= want * 2.0 * (1.0 + TOLERANCE)
                }
                (Some(want), Some(got)) => close(*got, want) || close((got * 1e12).round() / 1e12, want),
                _ => false,
            });
        if !agree {
            return Err(format!("series {} has {:?}", expected["labels"], found.values));
        }
    }
    if expect["includes"] != true && got.series.len() != want.len() {
        return Err(format!("{} series instead of {}: {}", got.series.len(), want.len(), described(got)));
    }
    Ok(())
}

fn described(got: &MetricsAnswer) -> String {
    let one = |s: &MetricsSeries| format!("{:?} {:?}", s.labels, s.values);
    got.series.iter().map(one).collect::<Vec<_>>().join("; ")
}
