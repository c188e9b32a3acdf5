//! `compare()`: how often each attribute has its values among the selected spans and among the others.

use rustc_hash::FxHashMap;
use trefoil_insight::traces::differ::{Counted, Place, Tally};
use trefoil_model::span_values::{NO_CLASS, ValueRef};
use trefoil_promql::algebra::{Points, Series};

use super::leaf::{each_span, labels_of};
use super::{Context, Inspected, Partial, spans_of};
use crate::Error;
use crate::ast::{Attribute, FieldExpr, Intrinsic, Pipeline, Scope, Value};
use crate::candidates::narrow;
use crate::differ::{Compared, tally_attributes, tally_intrinsics};
use crate::field::evaluate as evaluate_field;
use crate::needs::Needs;
use crate::value::{kind_of, status_of};

/// Values of one attribute that are counted apart; those that come later count in the total only.
const VALUES_MAX: usize = 2000;
/// Attributes that are counted; those that come later are left out.
const ATTRIBUTES_MAX: usize = 1000;

pub(super) fn evaluate(
    pipeline: &Pipeline,
    selection: Option<&FieldExpr>,
    top: usize,
    window: Option<(i64, i64)>,
    context: &Context<'_>,
    inspected: &mut Inspected,
) -> Result<Partial, Error> {
    let steps = context.grid.steps;
    // Those of the others first, then those of the selected.
    let mut tally = Tally::new(2 * steps, ATTRIBUTES_MAX, VALUES_MAX);
    let class = |start: i64, is_selected: bool| {
        let selected = is_selected && window.is_none_or(|(from, to)| from <= start && start <= to);
        context.grid.bucket(start).map_or(NO_CLASS, |bucket| (usize::from(selected) * steps + bucket) as u32)
    };
    let mut query = spans_of(context.tenant, context.grid.covers());
    narrow(&mut query, pipeline);
    let compared = Compared { pipeline, selection, query: &query, class: &class };
    match compared.tally(&mut tally, context.reader, context.budget)? {
        Some(spans) => inspected.spans += spans,
        None => by_traces(pipeline, selection, &class, context, inspected, &mut tally)?,
    }
    let mut series = Vec::new();
    tally.each(&mut |place, name, totals, values| {
        let Some(name) = attribute_of(place, name) else { return };
        let values: Vec<(Value, &[u64])> =
            values.filter_map(|(value, counts)| Some((value_of(&name, value)?, counts))).collect();
        for (side, kind) in ["baseline", "selection"].into_iter().enumerate() {
            let of = |counts: &[u64]| counts[side * steps..(side + 1) * steps].to_vec();
            let values = values.iter().map(|(value, counts)| (value, of(counts))).collect();
            one_side(&name, kind, values, &of(totals), top, &mut series);
        }
    });
    context.budget.check()?;
    context.budget.charge_series(series.len() as u64)?;
    Ok(Partial { series, name: None, exemplars: FxHashMap::default() })
}

/// Counts spans of whole traces.
fn by_traces(
    pipeline: &Pipeline,
    selection: Option<&FieldExpr>,
    class: &dyn Fn(i64, bool) -> u32,
    context: &Context<'_>,
    inspected: &mut Inspected,
    tally: &mut Tally,
) -> Result<(), Error> {
    let mut charged = 0;
    let mut needs = Needs::attributes();
    selection.iter().for_each(|e| needs.field(e));
    each_span(pipeline, needs, context, inspected, |trace, index, _| {
        let view = &trace.spans[index];
        let class = class(view.span.start_ns, selection.is_none_or(|e| evaluate_field(trace, index, e).is_true()));
        if class == NO_CLASS {
            return Ok(());
        }
        tally_intrinsics(tally, view.span, class, 1);
        if let Some(root) = trace.root.map(|root| &trace.spans[root]) {
            for (name, text) in
                [("rootName", root.span.name.as_str()), ("rootServiceName", root.resource.service_name())]
            {
                tally.attribute(Place::Intrinsic, name);
                tally.value(ValueRef::Text(text), class, 1);
            }
        }
        tally_attributes(tally, view, class);
        let held = tally.held_bytes();
        if held > charged {
            context.budget.charge_bytes(held - charged)?;
            charged = held;
        }
        Ok(())
    })
}

/// The attribute that was counted under a name.
fn attribute_of(place: Place, name: &str) -> Option<Attribute> {
    let named = |scope: Scope| Attribute::Named { scope, name: name.to_owned() };
    match place {
        Place::Resource => Some(named(Scope::Resource)),
        Place::Own => Some(named(Scope::Span)),
        Place::Intrinsic => Some(Attribute::Intrinsic(match name {
            "name" => Intrinsic::Name,
            "kind" => Intrinsic::Kind,
            "status" => Intrinsic::Status,
            "statusMessage" => Intrinsic::StatusMessage,
            "rootName" => Intrinsic::RootName,
            "rootServiceName" => Intrinsic::RootServiceName,
            _ => return None,
        })),
    }
}

fn value_of(name: &Attribute, value: &Counted) -> Option<Value> {
    Some(match (name, value) {
        (Attribute::Intrinsic(Intrinsic::Kind), Counted::Text(word)) => Value::Kind(kind_of(word)?),
        (Attribute::Intrinsic(Intrinsic::Status), Counted::Text(word)) => Value::Status(status_of(word)?),
        (_, Counted::Text(text)) => Value::String(text.to_string()),
        (_, Counted::Int(number)) => Value::Int(*number),
        (_, Counted::Float(number)) => Value::Float(*number),
        (_, Counted::Bool(is)) => Value::Bool(*is),
    })
}

fn one_side(
    name: &Attribute,
    kind: &str,
    values: Vec<(&Value, Vec<u64>)>,
    totals: &[u64],
    top: usize,
    series: &mut Vec<Series>,
) {
    let sum = |counts: &[u64]| counts.iter().sum::<u64>();
    if sum(totals) == 0 {
        return;
    }
    let mut add = |kind: String, value: String, counts: &[u64]| {
        let meta = labels_of(&[("__meta_type".to_owned(), Value::String(kind))]);
        let mut builder = meta.to_builder();
        builder.set(name.to_string(), value);
        let points = Points::from_floats(counts.iter().map(|n| *n as f64).collect());
        series.push(Series::new(builder.build(), points));
    };
    let mut values: Vec<(u64, String, Vec<u64>)> =
        values.into_iter().map(|(value, counts)| (sum(&counts), value.encode(), counts)).collect();
    values.retain(|(sum, ..)| *sum > 0);
    values.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    for (_, value, counts) in values.into_iter().take(top) {
        add(kind.to_owned(), value, &counts);
    }
    add(format!("{kind}_total"), Value::Nil.encode(), totals);
}
