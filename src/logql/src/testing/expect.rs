//! Holds results against what a case expects.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use trefoil_model::Labels;

use super::data::{Pairs, pairs, text, time};
use crate::{Entry, Output, StreamResult};

/// Relative difference that numbers may have.
const TOLERANCE: f64 = 1e-9;

fn to_pairs(labels: &Labels) -> Pairs {
    labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

/// Whether label sets agree; the expected value `*` stands for any text but the empty one.
fn same_labels(got: &Pairs, want: &Pairs) -> bool {
    got.len() == want.len()
        && want.iter().all(|(n, v)| got.get(n).is_some_and(|text| if v == "*" { !text.is_empty() } else { text == v }))
}

/// Whether a number is the expected one; NaN equals NaN.
pub(super) fn close(got: f64, want: &Json) -> bool {
    let want = match want {
        Json::String(s) => s.trim_start_matches('+').parse().ok(),
        other => other.as_f64(),
    };
    want.is_some_and(|want: f64| {
        got.is_nan() && want.is_nan() || got == want || (got - want).abs() <= TOLERANCE * want.abs()
    })
}

fn list(want: &Json) -> Result<&[Json], String> {
    want.as_array().map(Vec::as_slice).ok_or_else(|| format!("{want} is no list"))
}

/// Compares samples, in any order unless `ordered`.
pub(super) fn vector(output: &Output, want: &Json, ordered: bool) -> Result<(), String> {
    let Output::Vector { samples, .. } = output else { return Err(format!("no vector: {output:?}")) };
    let mut got: Vec<(Pairs, f64)> = samples.iter().map(|s| (to_pairs(&s.labels), s.value)).collect();
    let mut want: Vec<(Pairs, &Json)> = list(want)?.iter().map(|s| (pairs(&s["labels"]), &s["value"])).collect();
    if !ordered {
        got.sort_by(|a, b| a.0.cmp(&b.0));
        want.sort_by(|a, b| a.0.cmp(&b.0));
    }
    let same = got.len() == want.len() && got.iter().zip(&want).all(|(g, w)| g.0 == w.0 && close(g.1, w.1));
    if same { Ok(()) } else { Err(format!("wanted {want:?}, got {got:?}")) }
}

/// Compares series; each has a value or null for every step from `from` on.
pub(super) fn matrix(output: &Output, want: &Json, from: i64, step: i64) -> Result<(), String> {
    let Output::Matrix(series) = output else { return Err(format!("no matrix: {output:?}")) };
    let got: BTreeMap<Pairs, BTreeMap<i64, f64>> =
        series.iter().map(|s| (to_pairs(&s.labels), s.points.iter().copied().collect())).collect();
    let want = list(want)?;
    let same = got.len() == want.len()
        && want.iter().all(|series| {
            let Some(points) = got.get(&pairs(&series["labels"])) else { return false };
            let Some(values) = series["values"].as_array() else { return false };
            let expected = values.iter().filter(|v| !v.is_null()).count();
            expected == points.len()
                && values.iter().zip(0i64..).all(|(want, i)| match (points.get(&(from + step * i)), want) {
                    (None, Json::Null) => true,
                    (Some(v), want) if !want.is_null() => close(*v, want),
                    _ => false,
                })
        });
    if same { Ok(()) } else { Err(format!("wanted {want:?}, got {got:?}")) }
}

/// What an entry should be.
struct Wanted<'a> {
    reference: &'a str,
    time_ns: i64,
    line: String,
    /// `None` when only the categories are given.
    labels: Option<Pairs>,
    categories: Option<[Pairs; 3]>,
}

impl<'a> Wanted<'a> {
    fn read(want: &'a Json, data: &Json) -> Result<Self, String> {
        let reference = want.as_str().or(want["ref"].as_str()).ok_or_else(|| format!("{want}: no reference"))?;
        let none = || format!("no entry {reference:?} in the data set");
        let (id, index) = reference.split_once('#').ok_or_else(none)?;
        let index: usize = index.parse().map_err(|_| none())?;
        let streams = data["streams"].as_array().ok_or_else(none)?;
        let source = streams.iter().find(|s| s["id"] == id).ok_or_else(none)?;
        let loaded = source["entries"].get(index).ok_or_else(none)?;
        let categories = want.get("categories").map(|c| [pairs(&c["stream"]), pairs(&c["meta"]), pairs(&c["parsed"])]);
        let labels = match want.get("labels") {
            Some(labels) => Some(pairs(labels)),
            None if categories.is_some() => None,
            None => {
                let mut labels = pairs(&source["labels"]);
                for (name, value) in pairs(&loaded["meta"]) {
                    let name = if labels.contains_key(&name) { format!("{name}_extracted") } else { name };
                    labels.insert(name, value);
                }
                Some(labels)
            }
        };
        let line = text(want.get("line").unwrap_or(&loaded["line"]));
        Ok(Self { reference, time_ns: time(&loaded["at"])?, line, labels, categories })
    }

    fn is(&self, stream: &StreamResult, entry: &Entry) -> bool {
        let got = [
            to_pairs(&stream.labels),
            entry.structured_metadata.iter().cloned().collect::<Pairs>(),
            entry.parsed.iter().cloned().collect::<Pairs>(),
        ];
        let all: Pairs = got.iter().flatten().map(|(n, v)| (n.clone(), v.clone())).collect();
        entry.ts_ns == self.time_ns
            && entry.line == self.line
            && self.labels.as_ref().is_none_or(|want| same_labels(&all, want))
            && self.categories.as_ref().is_none_or(|want| got.iter().zip(want).all(|(g, w)| same_labels(g, w)))
    }
}

/// Compares the entries of all streams in order of time; of entries with the same time any order is right, as long as
/// those of one stream stand in theirs.
pub(super) fn entries(output: &Output, want: &Json, data: &Json, backward: bool) -> Result<(), String> {
    let Output::Streams(streams) = output else { return Err(format!("no streams: {output:?}")) };
    let mut got: Vec<(&StreamResult, &Entry)> =
        streams.iter().flat_map(|s| s.entries.iter().map(move |e| (s, e))).collect();
    got.sort_by(|a, b| if backward { b.1.ts_ns.cmp(&a.1.ts_ns) } else { a.1.ts_ns.cmp(&b.1.ts_ns) });
    let shown = || got.iter().map(|(s, e)| format!("\n    {} {e:?}", s.labels)).collect::<String>();
    let want = list(want)?.iter().map(|w| Wanted::read(w, data)).collect::<Result<Vec<_>, _>>()?;
    if got.len() != want.len() {
        return Err(format!("{} entries instead of {}:{}", got.len(), want.len(), shown()));
    }
    let mut at = 0;
    while at < got.len() {
        let time_ns = got[at].1.ts_ns;
        let end = at + got[at..].iter().take_while(|(_, e)| e.ts_ns == time_ns).count();
        let mut left: Vec<&(&StreamResult, &Entry)> = got[at..end].iter().collect();
        for wanted in &want[at..end] {
            let Some(found) = left.iter().position(|(s, e)| wanted.is(s, e)) else {
                return Err(format!(
                    "{}: wanted {:?} {:?} {:?}, got{}",
                    wanted.reference,
                    wanted.line,
                    wanted.labels,
                    wanted.categories,
                    shown()
                ));
            };
            left.remove(found);
        }
        at = end;
    }
    Ok(())
}
