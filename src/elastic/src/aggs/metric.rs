//! Figures of the documents of a bucket.

use std::cmp::Ordering;

use rustc_hash::FxHashSet;
use serde_json::{Map, Value as Json, json};
use trefoil_model::QueryBudget;
use xxhash_rust::xxh3::xxh3_64;

use super::bucket::Figure;
use super::collect::{charge, each_number};
use crate::Error;
use crate::date::{self, Rounding};
use crate::doc::{Doc, Field, Held, Value};
use crate::hits::Show;
use crate::query::Query;
use crate::sort::{Sort, Values};

/// A metric aggregation.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) field: Option<Field>,
    /// Stands for documents without the field.
    pub(super) missing: Option<f64>,
    pub(super) kind: MetricKind,
}

#[derive(Debug)]
pub(super) enum MetricKind {
    Count,
    Avg,
    Sum,
    Min,
    Max,
    Stats,
    ExtendedStats {
        sigma: f64,
    },
    Cardinality,
    Percentiles {
        percents: Vec<f64>,
        is_keyed: bool,
    },
    PercentileRanks {
        values: Vec<f64>,
        is_keyed: bool,
    },
    MedianAbsoluteDeviation,
    TopMetrics {
        fields: Vec<String>,
        size: usize,
        sort: Sort,
    },
    TopHits {
        from: usize,
        size: usize,
        sort: Sort,
        show: Box<Show>,
    },
    /// Per so many milliseconds; of a field, the values' sum or their number.
    Rate {
        unit_ms: f64,
        is_count: bool,
    },
}

/// What a metric has collected.
#[derive(Debug)]
pub(super) enum MetricState {
    Stats(Stats),
    Values(Vec<f64>),
    /// Hashes of the values.
    Hashes(FxHashSet<u64>),
    Top {
        best: Vec<(Values, Held)>,
        count: u64,
    },
}

/// Sums that all simple figures are made of.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) count: u64,
    sum: Sum,
    squares: Sum,
    min: Option<f64>,
    max: Option<f64>,
}

/// A sum with compensation for what each addition rounds off.
#[derive(Debug, Default)]
struct Sum {
    value: f64,
    rest: f64,
}

impl Sum {
    fn add(&mut self, value: f64) {
        let sum = self.value + value;
        self.rest +=
            if self.value.abs() >= value.abs() { (self.value - sum) + value } else { (value - sum) + self.value };
        self.value = sum;
    }

    fn total(&self) -> f64 {
        self.value + self.rest
    }
}

impl Stats {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum.add(value);
        self.squares.add(value * value);
        self.min = Some(self.min.map_or(value, |m| m.min(value)));
        self.max = Some(self.max.map_or(value, |m| m.max(value)));
    }

    fn avg(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum.total() / self.count as f64)
    }

    pub(super) fn sum(&self) -> f64 {
        self.sum.total()
    }

    pub(super) fn figure(&self) -> Figure {
        let mut figure = Figure::default();
        figure.set("count", Some(self.count as f64));
        figure.json.insert("count".to_owned(), json!(self.count));
        figure.set("min", self.min);
        figure.set("max", self.max);
        figure.set("avg", self.avg());
        figure.set("sum", Some(self.sum.total()));
        figure
    }

    pub(super) fn extended(&self, sigma: f64) -> Figure {
        let mut figure = self.figure();
        let n = self.count as f64;
        let some = self.count > 0;
        let (sum, squares) = (self.sum.total(), self.squares.total());
        let mut deviation_squares = (squares - sum * sum / n).max(0.0);
        if self.min == self.max {
            deviation_squares = 0.0;
        }
        let population = some.then(|| deviation_squares / n);
        let sampling = (self.count > 1).then(|| deviation_squares / (n - 1.0));
        figure.set("sum_of_squares", some.then_some(squares));
        figure.set("variance", population);
        figure.set("variance_population", population);
        figure.set("variance_sampling", sampling);
        for (name, variance) in [
            ("std_deviation", population),
            ("std_deviation_population", population),
            ("std_deviation_sampling", sampling),
        ] {
            figure.set(name, variance.map(f64::sqrt));
        }
        let mut bounds = Figure::default();
        for (suffix, variance) in [("", population), ("_population", population), ("_sampling", sampling)] {
            let width = variance.map(|v| v.sqrt() * sigma);
            let at = |sign: f64| self.avg().zip(width).map(|(avg, width)| avg + sign * width);
            bounds.set(&format!("upper{suffix}"), at(1.0));
            bounds.set(&format!("lower{suffix}"), at(-1.0));
        }
        figure.numbers.extend(bounds.numbers.iter().map(|(n, v)| (format!("std_deviation_bounds.{n}"), *v)));
        figure
            .numbers
            .extend(bounds.numbers.iter().filter(|(n, _)| !n.contains('_')).map(|(n, v)| (format!("std_{n}"), *v)));
        figure.json.insert("std_deviation_bounds".to_owned(), Json::Object(bounds.json));
        figure
    }
}

impl MetricState {
    pub(super) fn new(metric: &Metric) -> Self {
        match metric.kind {
            MetricKind::Percentiles { .. }
            | MetricKind::PercentileRanks { .. }
            | MetricKind::MedianAbsoluteDeviation => Self::Values(Vec::new()),
            MetricKind::Cardinality => Self::Hashes(FxHashSet::default()),
            MetricKind::TopMetrics { .. } | MetricKind::TopHits { .. } => Self::Top { best: Vec::new(), count: 0 },
            _ => Self::Stats(Stats::default()),
        }
    }

    pub(super) fn add(&mut self, metric: &Metric, doc: &Doc<'_>, budget: &dyn QueryBudget) -> Result<(), Error> {
        match self {
            Self::Stats(stats) => match (&metric.kind, &metric.field) {
                // Values of any kind count.
                (MetricKind::Count, Some(field)) => {
                    let before = stats.count;
                    doc.any(field, &mut |_| {
                        stats.count += 1;
                        false
                    });
                    if stats.count == before && metric.missing.is_some() {
                        stats.count += 1;
                    }
                }
                (_, Some(field)) => each_number(doc, field, metric.missing, &mut |value| stats.add(value)),
                (_, None) => stats.add(1.0),
            },
            Self::Values(values) => {
                let (Some(field), before) = (&metric.field, values.capacity()) else { return Ok(()) };
                each_number(doc, field, metric.missing, &mut |value| values.push(value));
                if values.capacity() > before {
                    charge(budget, (values.capacity() - before) as u64 * 8)?;
                }
            }
            Self::Hashes(hashes) => {
                let (Some(field), before) = (&metric.field, hashes.capacity()) else { return Ok(()) };
                let mut had = false;
                doc.any(field, &mut |value| {
                    had = true;
                    hashes.insert(hash(&value));
                    false
                });
                if let (false, Some(missing)) = (had, metric.missing) {
                    hashes.insert(hash(&Value::Float(missing)));
                }
                if hashes.capacity() > before {
                    charge(budget, (hashes.capacity() - before) as u64 * 9)?;
                }
            }
            Self::Top { best, count } => {
                let (sort, keep) = match &metric.kind {
                    MetricKind::TopMetrics { sort, size, .. } => (sort, *size),
                    MetricKind::TopHits { sort, from, size, .. } => (sort, from + size),
                    _ => return Ok(()),
                };
                *count += 1;
                let values = sort.values(doc);
                let at = best.partition_point(|(held, _)| sort.compare(held, &values) == Ordering::Less);
                if at < keep {
                    if best.len() < keep {
                        charge(budget, Held::bytes(doc))?;
                    }
                    best.insert(at, (values, Held::new(doc)));
                    best.truncate(keep);
                }
            }
        }
        Ok(())
    }

    /// The figure. `bucket`: the rounding and key of the date histogram's bucket around it, and its documents.
    pub(super) fn finish(
        self,
        metric: &Metric,
        around: Option<(&Rounding, i64)>,
        documents: u64,
    ) -> Result<Figure, Error> {
        let stats = match self {
            Self::Stats(stats) => stats,
            Self::Values(values) => return Ok(of_values(metric, values)),
            Self::Hashes(hashes) => {
                let mut figure = Figure::value(Some(hashes.len() as f64));
                figure.json.insert("value".to_owned(), json!(hashes.len()));
                return Ok(figure);
            }
            Self::Top { best, count } => return Ok(of_top(metric, &best, count)),
        };
        let is_time = metric.field.as_ref().is_some_and(|f| *f == Field::Timestamp);
        let timed = |value: Option<f64>| {
            let mut figure = Figure::value(value);
            if let (true, Some(ms)) = (is_time, value) {
                let text = date::print_time(date::ms_to_ns(ms as i64));
                figure.json.insert("value_as_string".to_owned(), json!(text));
            }
            figure
        };
        Ok(match &metric.kind {
            MetricKind::Count => {
                let mut figure = Figure::value(Some(stats.count as f64));
                figure.json.insert("value".to_owned(), json!(stats.count));
                figure
            }
            MetricKind::Avg => timed(stats.avg()),
            MetricKind::Sum => Figure::value(Some(stats.sum())),
            MetricKind::Min => timed(stats.min),
            MetricKind::Max => timed(stats.max),
            MetricKind::ExtendedStats { sigma } => stats.extended(*sigma),
            MetricKind::Rate { unit_ms, is_count } => {
                let Some((rounding, key)) = around else {
                    return Err(Error::illegal(
                        "The rate aggregation can only be used inside a date histogram aggregation or composite aggregation \
                         with exactly one date histogram value source",
                    ));
                };
                let width = rounding.next(key).saturating_sub(key).max(1) as f64;
                let amount = match (&metric.field, is_count) {
                    (None, _) => documents as f64,
                    (Some(_), true) => stats.count as f64,
                    (Some(_), false) => stats.sum(),
                };
                Figure::value(Some(amount * unit_ms / width))
            }
            _ => stats.figure(),
        })
    }
}

fn hash(value: &Value<'_>) -> u64 {
    match value {
        Value::Text(text) => xxh3_64(text.as_bytes()),
        Value::Time(ns) => xxh3_64(&date::floor_ms(*ns).to_le_bytes()),
        value => {
            let number = value.number().unwrap_or_default() + 0.0;
            xxh3_64(&number.to_bits().to_be_bytes())
        }
    }
}

fn of_values(metric: &Metric, mut values: Vec<f64>) -> Figure {
    values.sort_by(f64::total_cmp);
    match &metric.kind {
        MetricKind::Percentiles { percents, is_keyed } => {
            let rows = percents.iter().map(|p| (*p, percentile(&values, *p)));
            listed(rows.collect(), *is_keyed)
        }
        MetricKind::PercentileRanks { values: wanted, is_keyed } => {
            let rank = |wanted: f64| {
                let below = values.partition_point(|v| *v < wanted);
                let equal = values[below..].partition_point(|v| *v <= wanted);
                (!values.is_empty()).then(|| (below as f64 + equal as f64 / 2.0) * 100.0 / values.len() as f64)
            };
            let last = values.last().copied();
            let rows = wanted.iter().map(|w| (*w, if last.is_some_and(|l| *w >= l) { Some(100.0) } else { rank(*w) }));
            listed(rows.collect(), *is_keyed)
        }
        _ => {
            let Some(median) = percentile(&values, 50.0) else { return Figure::value(None) };
            let mut apart: Vec<f64> = values.iter().map(|v| (v - median).abs()).collect();
            apart.sort_by(f64::total_cmp);
            Figure::value(percentile(&apart, 50.0))
        }
    }
}

fn listed(rows: Vec<(f64, Option<f64>)>, is_keyed: bool) -> Figure {
    let mut values = Figure::default();
    for (key, value) in &rows {
        values.set(&format!("{key:?}"), *value);
    }
    let json = if is_keyed {
        Json::Object(values.json)
    } else {
        Json::Array(rows.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect())
    };
    Figure { json: Map::from_iter([("values".to_owned(), json)]), numbers: values.numbers }
}

/// Of sorted values, between the two that are beside the place of the percentile.
pub(super) fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = (percent / 100.0 * sorted.len() as f64 - 0.5).clamp(0.0, last as f64);
    let (below, part) = (at.floor() as usize, at.fract());
    let above = sorted[(below + 1).min(last)];
    Some(if part == 0.0 { sorted[below] } else { sorted[below] + (above - sorted[below]) * part })
}

fn of_top(metric: &Metric, best: &[(Values, Held)], count: u64) -> Figure {
    let mut figure = Figure::default();
    match &metric.kind {
        MetricKind::TopMetrics { fields, sort, .. } => {
            let mut rows = Vec::new();
            for (at, (values, held)) in best.iter().enumerate() {
                let mut metrics = Map::new();
                for name in fields {
                    let mut first = None;
                    held.doc().any(&Field::new(name), &mut |value| {
                        first = Some(value.into_owned());
                        true
                    });
                    let number = first.as_ref().and_then(Value::number);
                    if let (0, Some(number)) = (at, number) {
                        figure.numbers.push((name.clone(), number));
                    }
                    let json = match (&first, number) {
                        (Some(Value::Time(_)), _) | (_, None) => first.as_ref().map_or(Json::Null, Value::json),
                        (_, Some(number)) => json!(number),
                    };
                    metrics.insert(name.clone(), json);
                }
                rows.push(json!({ "sort": sort.json_as_text(values), "metrics": metrics }));
            }
            figure.json.insert("top".to_owned(), Json::Array(rows));
        }
        MetricKind::TopHits { from, size, sort, show } => {
            let shown = best.iter().skip(*from).take(*size);
            let hit = |(values, held): &(Values, Held)| {
                show.hit(&held.doc(), &Query::All, sort.is_given.then(|| sort.json(values)))
            };
            let hits: Vec<Json> = shown.map(hit).collect();
            let max_score = if sort.is_given || hits.is_empty() { Json::Null } else { json!(1.0) };
            let hits = json!({ "total": { "value": count, "relation": "eq" }, "max_score": max_score, "hits": hits });
            figure.json.insert("hits".to_owned(), hits);
        }
        _ => {}
    }
    figure
}
