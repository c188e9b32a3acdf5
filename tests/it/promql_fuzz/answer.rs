//! Answers of the query API, and what differs between two.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use trefoil_tests::http;
use trefoil_tests::{items, text};

/// Greatest relative difference of two numbers that are the same.
const TOLERANCE: f64 = 1e-7;
/// Numbers nearer to 0 are 0: what is left when sums cancel out depends on their order.
const ZERO: f64 = 1e-9;
/// From so many remarks on, the reference cuts the list.
const REMARKS_MAX: usize = 9;

/// A histogram: count, sum, and buckets as boundaries rule, lower and upper bound with their population.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Point {
    Float(f64),
    Histogram(f64, f64, Vec<(i64, [f64; 3])>),
}

/// What a server said.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Error { status: u16, kind: String, text: String },
    Value { kind: String, series: BTreeMap<String, Vec<(i64, Point)>>, remarks: BTreeSet<String> },
}

fn number(value: &Value) -> f64 {
    text(value).parse().unwrap_or_else(|e| panic!("{value}: {e}"))
}

fn point(value: &Value) -> (i64, Point) {
    let t = (value[0].as_f64().unwrap_or(f64::NAN) * 1000.0).round() as i64;
    let Some(histogram) = value[1].as_object() else { return (t, Point::Float(number(&value[1]))) };
    let bucket = |b: &Value| (b[0].as_i64().unwrap_or(-1), [number(&b[1]), number(&b[2]), number(&b[3])]);
    let buckets = items(&value[1]["buckets"]).map(bucket).collect();
    (t, Point::Histogram(number(&histogram["count"]), number(&histogram["sum"]), buckets))
}

impl Answer {
    pub(super) fn read(answer: &http::Answer) -> Self {
        let json = answer.json();
        if answer.status != 200 {
            return Self::Error { status: answer.status, kind: text(&json["errorType"]), text: text(&json["error"]) };
        }
        let data = &json["data"];
        let kind = text(&data["resultType"]);
        let mut series = BTreeMap::new();
        if kind == "scalar" || kind == "string" {
            series.insert(String::new(), vec![point(&data["result"])]);
        } else {
            for one in items(&data["result"]) {
                let labels: BTreeMap<_, _> = one["metric"].as_object().into_iter().flatten().collect();
                let mut points: Vec<_> =
                    ["values", "histograms"].iter().flat_map(|k| items(&one[*k])).map(point).collect();
                points.extend(["value", "histogram"].iter().filter(|k| !one[**k].is_null()).map(|k| point(&one[*k])));
                points.sort_by_key(|p| p.0);
                series.insert(format!("{labels:?}"), points);
            }
        }
        let remarks =
            ["warnings", "infos"].iter().flat_map(|k| items(&json[*k])).map(|r| canonical_remark(&text(r))).collect();
        Self::Value { kind, series, remarks }
    }
}

/// Which series of several are named depends on the order in which a store has them.
fn canonical(text: &str) -> &str {
    if text.starts_with("found duplicate series") { "found duplicate series" } else { text }
}

/// How many samples had to be mended is left out: over a range the reference doubles the number at each step.
fn canonical_remark(text: &str) -> String {
    let Some((before, behind)) = text.split_once(", over ") else { return text.to_owned() };
    let behind = behind.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
    format!("{before}, over{behind}")
}

fn same(a: f64, b: f64) -> bool {
    a == b
        || (a.is_nan() && b.is_nan())
        || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
        || (a.abs() < ZERO && b.abs() < ZERO)
}

fn same_point(a: &Point, b: &Point) -> bool {
    match (a, b) {
        (Point::Float(a), Point::Float(b)) => same(*a, *b),
        (Point::Histogram(c, s, x), Point::Histogram(d, t, y)) => {
            let mut buckets =
                x.iter().zip(y).map(|(a, b)| a.0 == b.0 && a.1.iter().zip(&b.1).all(|(a, b)| same(*a, *b)));
            same(*c, *d) && same(*s, *t) && x.len() == y.len() && buckets.all(|is_same| is_same)
        }
        _ => false,
    }
}

/// The first difference. `exact`: texts of errors and remarks count too.
pub(super) fn difference(theirs: &Answer, ours: &Answer, exact: bool) -> Option<String> {
    match (theirs, ours) {
        (Answer::Error { status, kind, text }, Answer::Error { status: s, kind: k, text: t }) => (exact
            && (status, kind, canonical(text)) != (s, k, canonical(t)))
            .then(|| format!("theirs {status} {text:?}, ours {s} {t:?}")),
        (Answer::Error { text, .. }, Answer::Value { .. }) => Some(format!("theirs fails with {text:?}, ours not")),
        (Answer::Value { .. }, Answer::Error { text, .. }) => Some(format!("ours fails with {text:?}, theirs not")),
        (
            Answer::Value { kind, series, remarks },
            Answer::Value { kind: our_kind, series: our_series, remarks: our_remarks },
        ) => {
            if kind != our_kind {
                return Some(format!("theirs is a {kind}, ours a {our_kind}"));
            }
            if let Some(labels) = series.keys().find(|k| !our_series.contains_key(*k)) {
                return Some(format!("{} and {} series, ours misses {labels}", series.len(), our_series.len()));
            }
            if let Some(labels) = our_series.keys().find(|k| !series.contains_key(*k)) {
                return Some(format!("{} and {} series, only ours has {labels}", series.len(), our_series.len()));
            }
            for (labels, a) in series {
                let b = &our_series[labels];
                if let Some((x, y)) = a.iter().zip(b).find(|(x, y)| x.0 != y.0 || !same_point(&x.1, &y.1)) {
                    return Some(format!("{labels}: theirs {x:?}, ours {y:?}"));
                }
                if a.len() != b.len() {
                    return Some(format!("{labels}: {} and {} points", a.len(), b.len()));
                }
            }
            let few = remarks.len().max(our_remarks.len()) <= REMARKS_MAX;
            (exact && few && remarks != our_remarks)
                .then(|| format!("theirs remarks {remarks:?}, ours {our_remarks:?}"))
        }
    }
}
