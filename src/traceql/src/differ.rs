//! What separates selected spans from others: TraceQL says which are which, [`trefoil_insight::traces::differ`] counts.
//!
//! Filters that look at each span by itself are answered from columns; others (structure, ids, roots) by whole traces.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use rustc_hash::FxHashMap;
use trefoil_insight::traces::differ::{BASELINE, Difference, Place, SELECTION, Tally};
use trefoil_model::span_values::{NO_CLASS, ValueCounter, ValuePlace, ValueRef, of_attributes};
use trefoil_model::{NanoRange, QueryBudget, Span, SpanQuery, SpanRows, SpanWants, StoredTrace, TenantId, TraceReader};

use crate::Error;
use crate::ast::{
    Attribute, FieldExpr, FieldKind, FieldOp, Intrinsic, Pipeline, Query, QueryKind, Scope, SetExpr, Stage,
};
use crate::candidates::narrow;
use crate::field::{Field, compare, evaluate};
use crate::needs::{Conditions, Needs, asks_root, local_filters, split};
use crate::parser::parse;
use crate::sets::{Sets, distinct_spans};
use crate::trace_view::{SpanView, TraceView};
use crate::value::{Value, status_word};

/// Attributes that are counted; those that come later are left out.
const ATTRIBUTES_MAX: usize = 1000;
/// Values of an attribute that are counted apart.
const VALUES_MAX: usize = 5000;

/// What is compared.
#[derive(Debug, Clone, Copy)]
pub struct DifferQuery<'a> {
    /// A search: the spans that are looked at.
    pub spans: &'a str,
    /// A search: those of them that are selected.
    pub selection: &'a str,
    /// A search: what they are held against; all that are not selected when it is empty.
    pub baseline: &'a str,
    /// Selected spans start here.
    pub range: NanoRange,
    /// Those of the baseline here.
    pub baseline_range: NanoRange,
    /// Most values of each attribute.
    pub values: usize,
    /// Tenant.
    pub tenant: TenantId,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct DifferAnswer {
    /// Spans of the baseline, and selected ones.
    pub totals: [u64; 2],
    /// The best first, but those that the selection itself asks for last.
    pub differences: Vec<Difference>,
    /// Names that the selection or the baseline ask for.
    pub asked: BTreeSet<String>,
    /// Whether some attributes were left out, for there are too many.
    pub is_cut: bool,
}

/// Ranks what separates selected spans from the baseline.
///
/// Errors: a query is refused or gives series, or the store or the budget fail.
pub fn what_differs(
    query: &DifferQuery<'_>,
    reader: &dyn TraceReader,
    budget: &dyn QueryBudget,
) -> Result<DifferAnswer, Error> {
    crate::figures::counted(|| {
        let (base, selection) = (parse(query.spans)?, parse(query.selection)?);
        let baseline = if query.baseline.is_empty() { None } else { Some(parse(query.baseline)?) };
        let sides = Sides {
            base: pipeline(&base)?,
            selection: pipeline(&selection)?,
            baseline: baseline.as_ref().map(pipeline).transpose()?,
            ranges: [query.baseline_range, query.range],
        };
        let tally = Tally::new(2, ATTRIBUTES_MAX, VALUES_MAX);
        let mut work = Work { tally, totals: [0; 2], spans: 0, charged: 0, budget };
        let (start, end) = (
            query.range.start_ns.min(query.baseline_range.start_ns),
            query.range.end_ns.max(query.baseline_range.end_ns),
        );
        let mut wanted = SpanQuery {
            tenant: query.tenant,
            range: Some(NanoRange { start_ns: start, end_ns: end }),
            ..SpanQuery::default()
        };
        narrow(&mut wanted, sides.base);
        match Local::of(&sides) {
            Some((filters, needs)) => by_columns(&filters, &sides, needs, &wanted, reader, &mut work)?,
            None => by_traces(&sides, &wanted, reader, &mut work)?,
        }
        let mut asked = BTreeSet::new();
        names_of(sides.selection, &mut asked);
        sides.baseline.iter().for_each(|baseline| names_of(baseline, &mut asked));
        let mut differences = work.tally.differences(work.totals, query.values);
        differences.sort_by_key(|difference| asked.contains(&difference.name));
        Ok(DifferAnswer { totals: work.totals, differences, asked, is_cut: work.tally.is_cut })
    })
}

fn pipeline(query: &Query) -> Result<&Pipeline, Error> {
    match &query.kind {
        QueryKind::Search(pipeline) => Ok(pipeline),
        _ => Err(Error::Query("a metrics query gives series, not spans".to_owned())),
    }
}

/// Which spans are which.
struct Sides<'q> {
    base: &'q Pipeline,
    selection: &'q Pipeline,
    baseline: Option<&'q Pipeline>,
    /// Of the baseline and the selection.
    ranges: [NanoRange; 2],
}

impl Sides<'_> {
    /// The class of a span of the base.
    fn class(&self, start: i64, is_selected: bool, is_baseline: impl FnOnce() -> bool) -> u32 {
        if is_selected && self.ranges[1].contains(start) {
            SELECTION
        } else if self.ranges[0].contains(start) && is_baseline() {
            BASELINE
        } else {
            NO_CLASS
        }
    }
}

/// Counts, and what they take.
struct Work<'w> {
    tally: Tally,
    /// Of two classes.
    totals: [u64; 2],
    /// Spans looked at.
    spans: u64,
    charged: u64,
    budget: &'w dyn QueryBudget,
}

impl Work<'_> {
    fn charge(&mut self) -> Result<(), Error> {
        self.budget.check()?;
        let held = self.tally.held_bytes();
        if held > self.charged {
            self.budget.charge_bytes(held - self.charged)?;
            self.charged = held;
        }
        Ok(())
    }
}

/// Filters that look at each span by itself.
#[derive(Default)]
struct Local<'q> {
    /// The same for all spans of a set.
    of_sets: Vec<&'q FieldExpr>,
    /// Comparisons of the length.
    of_durations: Vec<(FieldOp, &'q Value)>,
}

impl<'q> Local<'q> {
    /// Those of all sides: base, selection, baseline; `None` when one looks at more.
    fn of(sides: &Sides<'q>) -> Option<(Vec<Self>, Needs)> {
        let pipelines = [sides.base, sides.selection].into_iter().chain(sides.baseline);
        Self::of_filters(pipelines.map(local_filters).collect::<Option<_>>()?)
    }

    /// Those of some lists of filters, of which the first are the base.
    fn of_filters(all: Vec<Vec<&'q FieldExpr>>) -> Option<(Vec<Self>, Needs)> {
        let mut needs = Needs::default();
        let mut out = Vec::new();
        for (number, filters) in all.into_iter().enumerate() {
            let mut local = Self::default();
            for filter in filters {
                if let FieldKind::Binary(b) = &filter.kind
                    && let (FieldKind::Attribute(Attribute::Intrinsic(Intrinsic::Duration)), FieldKind::Value(value)) =
                        (&b.lhs.kind, &b.rhs.kind)
                    && b.op.is_comparison()
                    && b.regex.is_none()
                    && *value != Value::Nil
                {
                    local.of_durations.push((b.op, value));
                } else if number > 0 || !asks_root(filter) {
                    // Of the base the store delivers no others.
                    needs.field(filter);
                    local.of_sets.push(filter);
                }
            }
            out.push(local);
        }
        (!needs.trace && !needs.ids && !needs.duration).then_some((out, needs))
    }

    fn holds_length(&self, length: i64) -> bool {
        let holds =
            |(op, value): &(FieldOp, &Value)| compare(*op, &Field::Duration(length), &Field::of_value(value), None);
        self.of_durations.iter().all(holds)
    }
}

/// Counts intrinsics of a span, or of so many that have them in common.
pub(crate) fn tally_intrinsics(tally: &mut Tally, span: &Span, class: u32, count: u64) {
    for (name, text) in [
        ("name", span.name.as_str()),
        ("kind", span.kind.as_str()),
        ("status", status_word(span.status_code)),
        ("statusMessage", &span.status_message),
    ] {
        tally.attribute(Place::Intrinsic, name);
        tally.value(ValueRef::Text(text), class, count);
    }
}

/// Tells a tally of attributes.
pub(crate) struct Attributes<'t>(pub(crate) &'t mut Tally);

impl ValueCounter for Attributes<'_> {
    fn classify(&mut self, _: &SpanRows<'_>, _: &mut Vec<u32>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn attribute(&mut self, place: ValuePlace, name: &str) {
        self.0.attribute(place.into(), name);
    }

    fn value(&mut self, value: ValueRef<'_>, class: u32, count: u64) {
        self.0.value(value, class, count);
    }
}

/// Counts the attributes of a span and of who sent it.
pub(crate) fn tally_attributes(tally: &mut Tally, view: &SpanView<'_>, class: u32) {
    let mut counter = Attributes(tally);
    of_attributes(&mut counter, ValuePlace::Resource, &view.resource.attributes, class, 1);
    of_attributes(&mut counter, ValuePlace::Span, &view.span.attributes, class, 1);
}

/// The class of a span that starts then, of which is known whether it satisfies each filter.
type Class<'c> = dyn Fn(i64, &dyn Fn(usize) -> bool) -> u32 + 'c;

/// Counts over columns.
struct ByColumns<'c, 'w> {
    filters: &'c [Local<'c>],
    class: &'c Class<'c>,
    /// Whether roots are counted, else lengths are.
    with_roots: bool,
    work: &'c mut Work<'w>,
    failure: Option<Error>,
}

impl ByColumns<'_, '_> {
    fn take(&mut self, rows: &SpanRows<'_>, classes: &mut Vec<u32>) -> Result<(), Error> {
        self.work.charge()?;
        self.work.spans += rows.len() as u64;
        let view = TraceView::of_spans(rows.sets.iter().map(SpanView::from).collect());
        // For each set whether it satisfies what each filter asks of sets.
        let mut known: Vec<Option<[bool; 3]>> = vec![None; rows.sets.len()];
        let mut counts: FxHashMap<(u32, u32), u64> = FxHashMap::default();
        // Class and trace of the last spans, and how many of them there are.
        let mut last = ((NO_CLASS, 0), 0);
        self.work.tally.attribute(Place::Intrinsic, "duration");
        for row in 0..rows.len() {
            let set = rows.set_of[row];
            let of_set = *known[set as usize].get_or_insert_with(|| {
                let holds = |filter: &Local<'_>| {
                    filter.of_sets.iter().all(|filter| evaluate(&view, set as usize, filter).is_true())
                };
                // Without a baseline all others are it.
                std::array::from_fn(|side| self.filters.get(side).is_none_or(holds))
            });
            let length = rows.ends[row].saturating_sub(rows.starts[row]).max(0);
            let holds =
                |side: usize| of_set[side] && self.filters.get(side).is_none_or(|filter| filter.holds_length(length));
            let class = if holds(0) { (self.class)(rows.starts[row], &holds) } else { NO_CLASS };
            classes.push(class);
            if class == NO_CLASS {
                continue;
            }
            if !self.with_roots {
                self.work.tally.number(length, class, 1);
            }
            *counts.entry((set, class)).or_default() += 1;
            let trace = rows.trace_of[row];
            if self.with_roots && last.0 != (class, trace) {
                tally_root(&mut self.work.tally, rows, last);
                last = ((class, trace), 0);
            }
            last.1 += 1;
        }
        if self.with_roots {
            tally_root(&mut self.work.tally, rows, last);
        }
        let mut counts: Vec<((u32, u32), u64)> = counts.into_iter().collect();
        counts.sort_unstable();
        for ((set, class), count) in counts {
            if let Some(total) = self.work.totals.get_mut(class as usize) {
                *total += count;
            }
            tally_intrinsics(&mut self.work.tally, rows.sets[set as usize].span, class, count);
        }
        Ok(())
    }
}

/// Counts the root of so many spans of a trace and class.
fn tally_root(tally: &mut Tally, rows: &SpanRows<'_>, ((class, trace), count): ((u32, u32), u64)) {
    if let (Some(Some((service, name))), true) = (rows.roots.get(trace as usize), count > 0) {
        for (of, text) in [("rootName", name), ("rootServiceName", service)] {
            tally.attribute(Place::Intrinsic, of);
            tally.value(ValueRef::Text(text), class, count);
        }
    }
}

impl ValueCounter for ByColumns<'_, '_> {
    fn classify(&mut self, rows: &SpanRows<'_>, classes: &mut Vec<u32>) -> ControlFlow<()> {
        match self.take(rows, classes) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn attribute(&mut self, place: ValuePlace, name: &str) {
        self.work.tally.attribute(place.into(), name);
    }

    fn value(&mut self, value: ValueRef<'_>, class: u32, count: u64) {
        self.work.tally.value(value, class, count);
    }
}

fn by_columns(
    filters: &[Local<'_>],
    sides: &Sides<'_>,
    mut needs: Needs,
    query: &SpanQuery,
    reader: &dyn TraceReader,
    work: &mut Work<'_>,
) -> Result<(), Error> {
    needs.messages();
    let budget = work.budget;
    let conditions = Conditions::of(sides.base);
    let class = |start: i64, holds: &dyn Fn(usize) -> bool| sides.class(start, holds(1), || holds(2));
    let mut counter = ByColumns { filters, class: &class, with_roots: false, work, failure: None };
    conditions.tell(needs.wants(), |wants| reader.count_values(query, wants, budget, &mut counter))?;
    counter.failure.map_or(Ok(()), Err)
}

/// What `compare()` counts over columns.
pub(crate) struct Compared<'q> {
    /// The spans.
    pub(crate) pipeline: &'q Pipeline,
    /// Those that are selected; all when there is none.
    pub(crate) selection: Option<&'q FieldExpr>,
    /// The same for the store.
    pub(crate) query: &'q SpanQuery,
    /// The class of a span by its start and whether it is selected.
    pub(crate) class: &'q dyn Fn(i64, bool) -> u32,
}

impl Compared<'_> {
    /// Counts spans with their roots; how many were looked at. `None` when columns do not tell what is asked; then nothing
    /// is counted.
    pub(crate) fn tally(
        &self,
        tally: &mut Tally,
        reader: &dyn TraceReader,
        budget: &dyn QueryBudget,
    ) -> Result<Option<u64>, Error> {
        let mut selected = Vec::new();
        self.selection.iter().for_each(|filter| split(filter, &mut selected));
        let found = local_filters(self.pipeline).and_then(|base| Local::of_filters(vec![base, selected]));
        let Some((filters, mut needs)) = found else { return Ok(None) };
        needs.messages();
        let own = std::mem::replace(tally, Tally::new(0, 0, 0));
        let mut work = Work { tally: own, totals: [0; 2], spans: 0, charged: 0, budget };
        let class = |start: i64, holds: &dyn Fn(usize) -> bool| (self.class)(start, holds(1));
        let conditions = Conditions::of(self.pipeline);
        let mut counter =
            ByColumns { filters: &filters, class: &class, with_roots: true, work: &mut work, failure: None };
        let wants = SpanWants { roots: true, ..needs.wants() };
        conditions.tell(wants, |wants| reader.count_values(self.query, wants, budget, &mut counter))?;
        counter.failure.map_or(Ok(()), Err)?;
        work.charge()?;
        *tally = work.tally;
        Ok(Some(work.spans))
    }
}

fn by_traces(sides: &Sides<'_>, query: &SpanQuery, reader: &dyn TraceReader, work: &mut Work<'_>) -> Result<(), Error> {
    let mut needs = Needs::attributes();
    [sides.base, sides.selection].into_iter().chain(sides.baseline).for_each(|p| needs.pipeline(p));
    let budget = work.budget;
    let mut one = |stored: &StoredTrace| -> Result<(), Error> {
        work.charge()?;
        let trace = TraceView::new(stored);
        let of = |pipeline: &Pipeline| -> Result<BTreeSet<u32>, Error> {
            let sets = Sets { trace: &trace, budget }.run(pipeline)?;
            Ok(distinct_spans(&sets).into_iter().collect())
        };
        let (base, selection) = (of(sides.base)?, of(sides.selection)?);
        let baseline = sides.baseline.map(of).transpose()?;
        for index in base {
            let view = &trace.spans[index as usize];
            let class = sides.class(view.span.start_ns, selection.contains(&index), || {
                baseline.as_ref().is_none_or(|baseline| baseline.contains(&index))
            });
            if class == NO_CLASS {
                continue;
            }
            work.totals[class as usize] += 1;
            work.tally.attribute(Place::Intrinsic, "duration");
            work.tally.number(view.span.duration_ns(), class, 1);
            tally_intrinsics(&mut work.tally, view.span, class, 1);
            tally_attributes(&mut work.tally, view, class);
        }
        Ok(())
    };
    let mut failure = None;
    let mut visit = |stored: &StoredTrace, _: i64| match one(stored) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    };
    let conditions = Conditions::of(sides.base);
    conditions.tell(needs.wants(), |wants| reader.visit_wanted(query, wants, budget, &mut visit))?;
    failure.map_or(Ok(()), Err)
}

/// Names of attributes that a pipeline's filters ask for.
fn names_of(pipeline: &Pipeline, out: &mut BTreeSet<String>) {
    for stage in &pipeline.stages {
        match stage {
            Stage::Spans(set) => names_of_set(set, out),
            Stage::Aggregate(_) | Stage::By(_) | Stage::Coalesce | Stage::Select(_) => {}
        }
    }
}

fn names_of_set(set: &SetExpr, out: &mut BTreeSet<String>) {
    match set {
        SetExpr::Filter(filter) => filter.iter().for_each(|filter| names_of_field(filter, out)),
        SetExpr::Op { lhs, rhs, .. } => {
            names_of_set(lhs, out);
            names_of_set(rhs, out);
        }
        SetExpr::Pipeline(pipeline) => names_of(pipeline, out),
    }
}

fn names_of_field(expr: &FieldExpr, out: &mut BTreeSet<String>) {
    match &expr.kind {
        FieldKind::Value(_) => {}
        FieldKind::Attribute(Attribute::Named { scope: Scope::Event | Scope::Link, .. }) => {}
        FieldKind::Attribute(Attribute::Named { name, .. }) => drop(out.insert(name.clone())),
        FieldKind::Attribute(intrinsic) => drop(out.insert(intrinsic.to_string())),
        FieldKind::Unary(_, operand) => names_of_field(operand, out),
        FieldKind::Binary(b) => {
            names_of_field(&b.lhs, out);
            names_of_field(&b.rhs, out);
        }
    }
}
