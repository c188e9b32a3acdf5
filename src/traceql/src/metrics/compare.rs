//! `compare()`: how often each attribute has its values among the selected spans and among the others.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use trefoil_promql::algebra::{Points, Series};

use super::leaf::{each_span, labels_of};
use super::{Context, Inspected, Partial};
use crate::Error;
use crate::ast::{Attribute, FieldExpr, Intrinsic, Pipeline, Scope, Value};
use crate::field::{attribute, evaluate as evaluate_field};
use crate::needs::Needs;
use crate::trace_view::TraceView;

/// Values of one attribute that are counted apart; those that come later count in the total only.
const VALUES_MAX: usize = 2000;
/// Attributes that are counted; those that come later are left out.
const ATTRIBUTES_MAX: usize = 1000;

const INTRINSICS: [Intrinsic; 6] = [
    Intrinsic::Name,
    Intrinsic::Kind,
    Intrinsic::Status,
    Intrinsic::StatusMessage,
    Intrinsic::RootName,
    Intrinsic::RootServiceName,
];

/// Counts a step, of the others and of the selected.
type Counts = [Vec<f64>; 2];

#[derive(Default)]
struct Tally {
    total: Counts,
    values: FxHashMap<String, Counts>,
}

fn empty(context: &Context<'_>) -> Result<Counts, Error> {
    context.budget.charge_bytes(160 + 16 * context.grid.steps as u64)?;
    Ok([vec![0.0; context.grid.steps], vec![0.0; context.grid.steps]])
}

/// What a span tells about itself.
fn told(trace: &TraceView<'_>, index: usize) -> Vec<(Attribute, Value)> {
    let view = trace.spans[index];
    let named = |scope: Scope, name: &str| Attribute::Named { scope, name: name.to_owned() };
    let mut names: Vec<Attribute> = INTRINSICS.into_iter().map(Attribute::Intrinsic).collect();
    names.push(named(Scope::Resource, "service.name"));
    names.extend(view.resource.attributes.iter().map(|(n, _)| named(Scope::Resource, n)));
    names.extend(view.span.attributes.iter().map(|(n, _)| named(Scope::Span, n)));
    names.sort();
    names.dedup();
    let values = names.into_iter().map(|a| {
        let value = attribute(trace, index, &a).to_value();
        (a, value)
    });
    values.filter(|(_, v)| *v != Value::Nil && *v != Value::String(String::new())).collect()
}

pub(super) fn evaluate(
    pipeline: &Pipeline,
    selection: Option<&FieldExpr>,
    top: usize,
    window: Option<(i64, i64)>,
    context: &Context<'_>,
    inspected: &mut Inspected,
) -> Result<Partial, Error> {
    let mut tallies: BTreeMap<Attribute, Tally> = BTreeMap::new();
    let mut needs = Needs::attributes();
    selection.iter().for_each(|e| needs.field(e));
    each_span(pipeline, needs, context, inspected, |trace, index, bucket| {
        let start = trace.spans[index].span.start_ns;
        let selected = window.is_none_or(|(from, to)| from <= start && start <= to)
            && selection.is_none_or(|e| evaluate_field(trace, index, e).is_true());
        let side = usize::from(selected);
        for (name, value) in told(trace, index) {
            if !tallies.contains_key(&name) {
                if tallies.len() >= ATTRIBUTES_MAX {
                    continue;
                }
                let tally = Tally { total: empty(context)?, values: FxHashMap::default() };
                tallies.insert(name.clone(), tally);
            }
            let Some(tally) = tallies.get_mut(&name) else { continue };
            tally.total[side][bucket] += 1.0;
            let key = value.encode();
            if !tally.values.contains_key(&key) {
                if tally.values.len() >= VALUES_MAX {
                    continue;
                }
                context.budget.charge_bytes(key.len() as u64)?;
                tally.values.insert(key.clone(), empty(context)?);
            }
            if let Some(counts) = tally.values.get_mut(&key) {
                counts[side][bucket] += 1.0;
            }
        }
        Ok(())
    })?;
    let mut series = Vec::new();
    for (name, tally) in &tallies {
        context.budget.check()?;
        for (side, kind) in ["baseline", "selection"].into_iter().enumerate() {
            one_side(name, tally, side, kind, top, &mut series);
        }
    }
    context.budget.charge_series(series.len() as u64)?;
    Ok(Partial { series, name: None, exemplars: FxHashMap::default() })
}

fn one_side(name: &Attribute, tally: &Tally, side: usize, kind: &str, top: usize, series: &mut Vec<Series>) {
    let sum = |counts: &Counts| counts[side].iter().sum::<f64>();
    if sum(&tally.total) == 0.0 {
        return;
    }
    let mut add = |kind: String, value: Value, counts: &[f64]| {
        let meta = labels_of(&[("__meta_type".to_owned(), Value::String(kind))]);
        let mut builder = meta.to_builder();
        builder.set(name.to_string(), value.encode());
        series.push(Series::new(builder.build(), Points::from_floats(counts.to_vec())));
    };
    let mut values: Vec<(&String, &Counts)> = tally.values.iter().filter(|(_, c)| sum(c) > 0.0).collect();
    values.sort_by(|a, b| sum(b.1).total_cmp(&sum(a.1)).then_with(|| a.0.cmp(b.0)));
    for (value, counts) in values.into_iter().take(top) {
        add(kind.to_owned(), Value::decode(value), &counts[side]);
    }
    add(format!("{kind}_total"), Value::Nil, &tally.total[side]);
}
