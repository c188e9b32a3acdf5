//! Spans to series: the metrics functions but `compare`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rustc_hash::FxHashMap;
use trefoil_model::{Labels, LabelsBuilder, SpanId, StoredTrace, TraceId};
use trefoil_promql::algebra::{ABSENT, Points, Series};

use super::{Context, Inspected, Partial, TraceExemplar, compare, fold, spans_of};
use crate::Error;
use crate::ast::{Attribute, MetricsFunction, MetricsLeaf, Pipeline, Value};
use crate::candidates::narrow;
use crate::field::attribute;
use crate::needs::{Conditions, Needs};
use crate::sets::{Sets, distinct_spans};
use crate::trace_view::TraceView;

/// What a series takes besides its values and labels.
const SERIES_BYTES: u64 = 256;

/// Calls `each` for every span of the result that starts within the grid, with its bucket. `needs` is what `each` looks
/// at.
pub(super) fn each_span(
    pipeline: &Pipeline,
    mut needs: Needs,
    context: &Context<'_>,
    inspected: &mut Inspected,
    mut each: impl FnMut(&TraceView<'_>, usize, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut query = spans_of(context.tenant, context.grid.covers());
    narrow(&mut query, pipeline);
    let mut one = |stored: &StoredTrace| -> Result<(), Error> {
        context.budget.check()?;
        inspected.traces += 1;
        for span in stored.groups.iter().flat_map(|g| &g.spans) {
            inspected.spans += 1;
            inspected.bytes += span.heap_bytes() as u64;
        }
        let trace = TraceView::new(stored);
        let sets = Sets { trace: &trace, budget: context.budget }.run(pipeline)?;
        for index in distinct_spans(&sets) {
            let index = index as usize;
            if let Some(bucket) = context.grid.bucket(trace.spans[index].span.start_ns) {
                each(&trace, index, bucket)?;
            }
        }
        Ok(())
    };
    let mut failure = None;
    needs.pipeline(pipeline);
    let conditions = Conditions::of(pipeline);
    let mut visit = |stored: &StoredTrace, _: i64| match one(stored) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    };
    conditions.tell(needs.wants(), |wants| context.reader.visit_wanted(&query, wants, context.budget, &mut visit))?;
    failure.map_or(Ok(()), Err)
}

/// What is kept of one group.
struct Group {
    labels: Vec<(String, Value)>,
    /// Sums, counts or extremes; [`ABSENT`] where there is none.
    values: Vec<f64>,
    /// How many values, for means.
    counts: Vec<f64>,
    /// Counts by the exponent of the bucket.
    buckets: BTreeMap<u32, Vec<f64>>,
    /// By slot of time.
    exemplars: BTreeMap<(u32, usize), TraceExemplar>,
    /// The slot that was last looked at, and the time of its exemplar.
    last_exemplar: Option<((u32, usize), i64)>,
}

/// The exponent of the power of two at or above a value; none below 2.
fn exponent(value: i64) -> Option<u32> {
    let value = u64::try_from(value).ok().filter(|v| *v >= 2)?;
    Some(u64::BITS - (value - 1).leading_zeros())
}

/// The labels of a group: nil ones are left out unless all are.
pub(super) fn labels_of(pairs: &[(String, Value)]) -> Labels {
    let mut builder = LabelsBuilder::new();
    for (name, value) in pairs.iter().filter(|(_, v)| *v != Value::Nil) {
        builder.set(name.as_str(), value.encode());
    }
    if let Some((name, value)) = pairs.first()
        && pairs.iter().all(|(_, v)| *v == Value::Nil)
    {
        builder.set(name.as_str(), value.encode());
    }
    builder.build()
}

pub(super) fn evaluate(leaf: &MetricsLeaf, context: &Context<'_>, inspected: &mut Inspected) -> Result<Partial, Error> {
    if let MetricsFunction::Compare { selection, top, window } = &leaf.function {
        return compare::evaluate(&leaf.pipeline, selection.as_ref(), *top, *window, context, inspected);
    }
    let mut groups = Groups { leaf, context, numbers: FxHashMap::default(), list: Vec::new(), key: String::new() };
    if let Some(plan) = fold::Plan::of(leaf) {
        fold::fold(&plan, &mut groups, inspected)?;
    } else {
        let mut needs = Needs::default();
        leaf.by.iter().chain(measured(&leaf.function)).for_each(|a| needs.attribute(a));
        each_span(&leaf.pipeline, needs, context, inspected, |trace, index, bucket| {
            let value = match measured(&leaf.function) {
                Some(a) => match number(attribute(trace, index, a).to_value()) {
                    Some(number) => Some(number),
                    None => return Ok(()),
                },
                None => None,
            };
            let group = groups.number(trace, index)?;
            let span = trace.spans[index].span;
            groups.push(group, value.as_ref(), (trace.id, span.span_id, span.start_ns), bucket)
        })?;
    }
    let mut partial = Partial {
        series: Vec::new(),
        name: leaf.by.is_empty().then(|| leaf.function.as_str().to_owned()),
        exemplars: FxHashMap::default(),
    };
    let mut sorted: Vec<(String, u32)> = groups.numbers.into_iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut list: Vec<Option<Group>> = groups.list.into_iter().map(Some).collect();
    for (_, number) in sorted {
        let Some(group) = list[number as usize].take() else { continue };
        context.budget.check()?;
        group.finish(&leaf.function, context, &mut partial)?;
    }
    Ok(partial)
}

/// The groups of a query.
pub(super) struct Groups<'q> {
    pub(super) leaf: &'q MetricsLeaf,
    pub(super) context: &'q Context<'q>,
    numbers: FxHashMap<String, u32>,
    list: Vec<Group>,
    key: String,
}

impl Groups<'_> {
    /// The number of the group of a span.
    pub(super) fn number(&mut self, trace: &TraceView<'_>, index: usize) -> Result<u32, Error> {
        let (leaf, context) = (self.leaf, self.context);
        let values: Vec<Value> = leaf.by.iter().map(|a| attribute(trace, index, a).to_value()).collect();
        self.key.clear();
        for value in &values {
            let text = value.encode();
            self.key.push_str(&text.len().to_string());
            self.key.push(':');
            self.key.push_str(&text);
        }
        if let Some(number) = self.numbers.get(&self.key) {
            return Ok(*number);
        }
        let labels: Vec<(String, Value)> = leaf.by.iter().map(ToString::to_string).zip(values).collect();
        context.budget.charge_series(1)?;
        context.budget.charge_bytes(SERIES_BYTES + 3 * self.key.len() as u64 + 16 * context.grid.steps as u64)?;
        let number = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(Group::new(labels, context.grid.steps));
        self.numbers.insert(self.key.clone(), number);
        Ok(number)
    }

    /// Counts a span, of which trace, id and start are told, in a group.
    pub(super) fn push(
        &mut self,
        group: u32,
        value: Option<&Value>,
        span: (TraceId, SpanId, i64),
        bucket: usize,
    ) -> Result<(), Error> {
        let Some(group) = self.list.get_mut(group as usize) else { return Ok(()) };
        group.push(&self.leaf.function, value, bucket, self.context)?;
        group.note(&self.leaf.function, value, span, bucket, self.context);
        Ok(())
    }
}

/// A value that can be measured.
pub(super) fn number(value: Value) -> Option<Value> {
    matches!(value, Value::Int(_) | Value::Float(_) | Value::Duration(_)).then_some(value)
}

/// The attribute that a function measures.
pub(super) fn measured(function: &MetricsFunction) -> Option<&Attribute> {
    match function {
        MetricsFunction::MinOverTime(a)
        | MetricsFunction::MaxOverTime(a)
        | MetricsFunction::AvgOverTime(a)
        | MetricsFunction::SumOverTime(a)
        | MetricsFunction::QuantileOverTime(a, _)
        | MetricsFunction::HistogramOverTime(a) => Some(a),
        MetricsFunction::Rate | MetricsFunction::CountOverTime | MetricsFunction::Compare { .. } => None,
    }
}

/// The exponent of the bucket of a value, and the upper bound that its label shows.
fn bucket_of(value: &Value) -> Option<u32> {
    match value {
        // Durations and numbers never meet in one bucket: the bound of a duration is in seconds.
        Value::Duration(ns) => exponent(*ns),
        Value::Int(n) => exponent(*n).map(|e| e + 128),
        _ => None,
    }
}

fn bound(bucket: u32) -> f64 {
    if bucket >= 128 { 2f64.powi((bucket - 128) as i32) } else { 2f64.powi(bucket as i32) / 1e9 }
}

fn point(series: &mut [f64], at: usize, change: impl FnOnce(Option<f64>) -> f64) {
    let old = series[at];
    series[at] = change((old.to_bits() != ABSENT.to_bits()).then_some(old));
}

impl Group {
    fn new(labels: Vec<(String, Value)>, steps: usize) -> Self {
        Self {
            labels,
            values: vec![ABSENT; steps],
            counts: vec![0.0; steps],
            buckets: BTreeMap::new(),
            exemplars: BTreeMap::new(),
            last_exemplar: None,
        }
    }

    fn push(
        &mut self,
        function: &MetricsFunction,
        value: Option<&Value>,
        at: usize,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        let number = value.and_then(Value::seconds).unwrap_or(0.0);
        match function {
            MetricsFunction::Rate | MetricsFunction::CountOverTime => self.counts[at] += 1.0,
            MetricsFunction::MinOverTime(_) => point(&mut self.values, at, |v| v.map_or(number, |v| v.min(number))),
            MetricsFunction::MaxOverTime(_) => point(&mut self.values, at, |v| v.map_or(number, |v| v.max(number))),
            MetricsFunction::AvgOverTime(_) | MetricsFunction::SumOverTime(_) => {
                point(&mut self.values, at, |v| v.unwrap_or(0.0) + number);
                self.counts[at] += 1.0;
            }
            MetricsFunction::QuantileOverTime(..) | MetricsFunction::HistogramOverTime(_) => {
                if let Some(bucket) = value.and_then(bucket_of) {
                    if !self.buckets.contains_key(&bucket) {
                        context.budget.charge_bytes(64 + 8 * context.grid.steps as u64)?;
                    }
                    self.buckets.entry(bucket).or_insert_with(|| vec![0.0; context.grid.steps])[at] += 1.0;
                }
            }
            MetricsFunction::Compare { .. } => {}
        }
        Ok(())
    }

    /// Keeps a span as an exemplar: of each slot of time the earliest, then the one of the least trace.
    fn note(
        &mut self,
        function: &MetricsFunction,
        value: Option<&Value>,
        (trace_id, span_id, time_ns): (TraceId, SpanId, i64),
        at: usize,
        context: &Context<'_>,
    ) {
        if context.exemplars == 0 {
            return;
        }
        let bucket = match function {
            MetricsFunction::HistogramOverTime(_) => value.and_then(bucket_of),
            _ => Some(0),
        };
        let Some(bucket) = bucket else { return };
        let slot = at * context.exemplars.min(context.grid.steps) / context.grid.steps;
        if self.last_exemplar.is_some_and(|(key, time)| key == (bucket, slot) && time < time_ns) {
            return;
        }
        let exemplar =
            TraceExemplar { trace_id, span_id, time_ns, value: value.and_then(Value::seconds).unwrap_or(f64::NAN) };
        let entry = self.exemplars.entry((bucket, slot)).or_insert_with(|| exemplar.clone());
        if (exemplar.time_ns, exemplar.trace_id) < (entry.time_ns, entry.trace_id) {
            *entry = exemplar;
        }
        self.last_exemplar = Some(((bucket, slot), entry.time_ns));
    }

    fn finish(self, function: &MetricsFunction, context: &Context<'_>, into: &mut Partial) -> Result<(), Error> {
        let steps = context.grid.steps;
        let mut add = |extra: Option<(&str, f64)>, values: Vec<f64>, exemplars: Vec<TraceExemplar>| {
            let mut pairs = self.labels.clone();
            if let Some((name, value)) = extra {
                pairs.push((name.to_owned(), Value::Float(value)));
            }
            let labels = labels_of(&pairs);
            let points = Points::from_floats(values);
            if points.is_void() {
                return;
            }
            let filled = exemplars.into_iter().map(|mut e| {
                if e.value.is_nan() {
                    let at = context.grid.bucket(e.time_ns);
                    e.value = at.and_then(|at| points.float(at)).unwrap_or(0.0);
                }
                e
            });
            if context.exemplars > 0 {
                into.exemplars.insert(labels.clone(), filled.collect());
            }
            into.series.push(Series::new(labels, points));
        };
        let of_bucket = |bucket: u32| {
            self.exemplars.range((bucket, 0)..=(bucket, usize::MAX)).map(|(_, e)| e.clone()).collect::<Vec<_>>()
        };
        match function {
            MetricsFunction::Rate => {
                let seconds = context.grid.seconds();
                add(None, self.counts.iter().map(|n| n / seconds).collect(), of_bucket(0));
            }
            MetricsFunction::CountOverTime => add(None, self.counts.clone(), of_bucket(0)),
            MetricsFunction::AvgOverTime(_) => {
                let mean = |(sum, n): (&f64, &f64)| if *n > 0.0 { sum / n } else { ABSENT };
                add(None, self.values.iter().zip(&self.counts).map(mean).collect(), of_bucket(0));
            }
            MetricsFunction::HistogramOverTime(_) => {
                for (bucket, counts) in &self.buckets {
                    add(Some(("__bucket", bound(*bucket))), counts.clone(), of_bucket(*bucket));
                }
            }
            MetricsFunction::QuantileOverTime(_, quantiles) if !self.buckets.is_empty() => {
                context.budget.charge_bytes((quantiles.len() * (steps * 8 + 256)) as u64)?;
                for q in quantiles {
                    let values = (0..steps).map(|at| quantile(*q, &self.buckets, at)).collect();
                    add(Some(("p", *q)), values, of_bucket(0));
                }
            }
            _ => add(None, self.values.clone(), of_bucket(0)),
        }
        Ok(())
    }
}

/// A quantile of counts by bucket, with exponential interpolation inside of the bucket; 0 when there is none.
fn quantile(q: f64, buckets: &BTreeMap<u32, Vec<f64>>, at: usize) -> f64 {
    let total: f64 = buckets.values().map(|counts| counts[at]).sum();
    if total == 0.0 {
        return 0.0;
    }
    let mut rank = (q * total).ceil();
    for (bucket, counts) in buckets {
        let count = counts[at];
        if count > 0.0 && rank <= count {
            return bound(*bucket) * 2f64.powf(rank / count - 1.0);
        }
        rank -= count;
    }
    buckets.keys().next_back().map_or(0.0, |bucket| bound(*bucket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two() {
        let cases = [(i64::MIN, None), (1, None), (2, Some(1)), (3, Some(2)), (4, Some(2)), (5, Some(3))];
        for (value, want) in cases {
            assert_eq!(exponent(value), want, "{value}");
        }
        assert_eq!(exponent(i64::MAX), Some(63));
    }
}
