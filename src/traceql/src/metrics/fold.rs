//! Metrics of pipelines that look at each span by itself, over columns: what spans of a set have in common is looked at
//! once for all of them.

use std::ops::ControlFlow;

use trefoil_model::{SpanFold, SpanRows};

use super::leaf::{Groups, measured, number};
use super::{Inspected, spans_of};
use crate::Error;
use crate::ast::{Attribute, FieldExpr, FieldKind, FieldOp, Intrinsic, MetricsLeaf, Value};
use crate::candidates::narrow;
use crate::field::{Field, attribute, compare, evaluate};
use crate::needs::{Conditions, Needs, asks_root, local_filters};
use crate::trace_view::{SpanView, TraceView};

/// What a span takes in columns, roughly.
const ROW_BYTES: u64 = 40;

/// How a query is answered from columns.
pub(super) struct Plan<'q> {
    /// The same for all spans of a set.
    of_sets: Vec<&'q FieldExpr>,
    /// Comparisons of the length.
    of_durations: Vec<(FieldOp, &'q Value)>,
    needs: Needs,
}

impl<'q> Plan<'q> {
    /// `None` when the query looks at more than that.
    pub(super) fn of(leaf: &'q MetricsLeaf) -> Option<Self> {
        let mut plan = Self { of_sets: Vec::new(), of_durations: Vec::new(), needs: Needs::default() };
        for filter in local_filters(&leaf.pipeline)? {
            if let FieldKind::Binary(b) = &filter.kind
                && let (FieldKind::Attribute(Attribute::Intrinsic(Intrinsic::Duration)), FieldKind::Value(value)) =
                    (&b.lhs.kind, &b.rhs.kind)
                && b.op.is_comparison()
                && b.regex.is_none()
                && *value != Value::Nil
            {
                plan.of_durations.push((b.op, value));
                continue;
            }
            if asks_root(filter) {
                // The store delivers no others.
                continue;
            }
            plan.needs.field(filter);
            plan.of_sets.push(filter);
        }
        leaf.by.iter().for_each(|a| plan.needs.attribute(a));
        let is_duration = |a: &&Attribute| matches!(a, Attribute::Intrinsic(Intrinsic::Duration));
        measured(&leaf.function).filter(|a| !is_duration(a)).into_iter().for_each(|a| plan.needs.attribute(a));
        let needs = &plan.needs;
        (!needs.trace && !needs.ids && !needs.duration).then_some(plan)
    }
}

/// What is known of a set.
#[derive(Clone, Copy)]
enum OfSet {
    NotSeen,
    LeftOut,
    Group(u32),
}

struct Work<'w, 'q> {
    plan: &'w Plan<'q>,
    groups: &'w mut Groups<'q>,
    inspected: &'w mut Inspected,
    failure: Option<Error>,
}

impl Work<'_, '_> {
    fn take(&mut self, rows: &SpanRows<'_>) -> Result<(), Error> {
        let (leaf, context) = (self.groups.leaf, self.groups.context);
        context.budget.check()?;
        let view = TraceView::of_spans(rows.sets.iter().map(SpanView::from).collect());
        let measured = measured(&leaf.function);
        let is_duration = matches!(measured, Some(Attribute::Intrinsic(Intrinsic::Duration)));
        let mut known = vec![OfSet::NotSeen; rows.sets.len()];
        let mut values: Vec<Option<Value>> = vec![None; if is_duration { 0 } else { rows.sets.len() }];
        let mut last_trace = None;
        for row in 0..rows.len() {
            let trace = rows.trace_of[row];
            if last_trace != Some(trace) {
                last_trace = Some(trace);
                self.inspected.traces += 1;
            }
            let (start, length) = (rows.starts[row], rows.ends[row].saturating_sub(rows.starts[row]).max(0));
            let Some(bucket) = context.grid.bucket(start) else { continue };
            let holds =
                |(op, value): &(FieldOp, &Value)| compare(*op, &Field::Duration(length), &Field::of_value(value), None);
            if !self.plan.of_durations.iter().all(holds) {
                continue;
            }
            let set = rows.set_of[row] as usize;
            if matches!(known[set], OfSet::NotSeen) {
                known[set] = OfSet::LeftOut;
                if self.plan.of_sets.iter().all(|filter| evaluate(&view, set, filter).is_true()) {
                    let value = measured.filter(|_| !is_duration).map(|a| number(attribute(&view, set, a).to_value()));
                    if !matches!(value, Some(None)) {
                        if let Some(value) = value {
                            values[set] = value;
                        }
                        known[set] = OfSet::Group(self.groups.number(&view, set)?);
                    }
                }
            }
            let OfSet::Group(group) = known[set] else { continue };
            let length = Value::Duration(length);
            let value = if is_duration { Some(&length) } else { values[set].as_ref() };
            self.groups.push(group, value, (rows.traces[trace as usize], rows.span_ids[row], start), bucket)?;
        }
        self.inspected.spans += rows.len() as u64;
        self.inspected.bytes += rows.len() as u64 * ROW_BYTES;
        Ok(())
    }
}

impl SpanFold for Work<'_, '_> {
    fn rows(&mut self, rows: &SpanRows<'_>) -> ControlFlow<()> {
        match self.take(rows) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

/// Fills the groups.
pub(super) fn fold<'q>(plan: &Plan<'q>, groups: &mut Groups<'q>, inspected: &mut Inspected) -> Result<(), Error> {
    let (leaf, context) = (groups.leaf, groups.context);
    let mut query = spans_of(context.tenant, context.grid.covers());
    narrow(&mut query, &leaf.pipeline);
    let conditions = Conditions::of(&leaf.pipeline);
    let needs = plan.needs.clone();
    let mut work = Work { plan, groups, inspected, failure: None };
    conditions.tell(needs.wants(), |wants| context.reader.fold_spans(&query, wants, context.budget, &mut work))?;
    work.failure.map_or(Ok(()), Err)
}
