//! Binary operators between series, with vector matching.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_model::{FloatHistogram, Labels};

use super::aggregate::note;
use super::group::Grouper;
use super::scalar::scalar_op;
use super::series::without_metadata;
use super::{ABSENT, AlgebraError, AlgebraOptions, Notes, Point, Points, Room, Series};
use crate::annotations::NoteKind;
use crate::histogram;

/// A binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `atan2`
    Atan2,
    /// `==`
    Eq,
    /// `!=`
    NotEq,
    /// `<`
    Less,
    /// `<=`
    LessEq,
    /// `>`
    Greater,
    /// `>=`
    GreaterEq,
    /// `and`
    And,
    /// `or`
    Or,
    /// `unless`
    Unless,
    /// `</`: removes a histogram's observations above the scalar.
    TrimUpper,
    /// `>/`: removes a histogram's observations below the scalar.
    TrimLower,
}

impl BinaryOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Eq => "==",
            Self::NotEq => "!=",
            Self::Less => "<",
            Self::LessEq => "<=",
            Self::Greater => ">",
            Self::GreaterEq => ">=",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
        }
    }

    /// True for `== != < <= > >=`.
    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Eq | Self::NotEq | Self::Less | Self::LessEq | Self::Greater | Self::GreaterEq)
    }

    /// True for `and or unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// True when the result measures something else than the operands, so that their name goes.
    pub fn changes_meaning(self) -> bool {
        matches!(self, Self::Add | Self::Sub | Self::Mul | Self::Div | Self::Mod | Self::Pow | Self::Atan2)
    }
}

/// How many series of one side may match one of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Cardinality {
    /// One each.
    #[default]
    OneToOne,
    /// Many on the left (`group_left`).
    ManyToOne,
    /// Many on the right (`group_right`).
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// The matching modifiers of a binary operator.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matching {
    /// Cardinality.
    pub cardinality: Cardinality,
    /// True for `on`, false for `ignoring`.
    pub on: bool,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// The labels of `group_left` or `group_right`, taken from the "one" side.
    pub include: Vec<String>,
    /// Stands in for a missing left side; with `group_right` for the missing "many" side, as in the reference.
    pub fill_left: Option<f64>,
    /// Stands in for a missing right side; with `group_right` for the missing "one" side, as in the reference.
    pub fill_right: Option<f64>,
}

/// The result of an operator on two values: what it gives and whether a comparison holds.
struct Outcome {
    point: Option<Point>,
    holds: bool,
}

/// Applies `op` to each pair of matching series, step by step.
///
/// Errors when matching is ambiguous at some step; the texts are PromQL's.
#[expect(clippy::too_many_arguments, reason = "the operator's operands and modifiers are what they are")]
pub fn binary(
    op: BinaryOp,
    matching: &Matching,
    return_bool: bool,
    lhs: Vec<Series>,
    rhs: Vec<Series>,
    steps: usize,
    options: AlgebraOptions<'_>,
    notes: &mut Notes,
) -> Result<Vec<Series>, AlgebraError> {
    options.room.take((lhs.len() + rhs.len()) * MATCH_BYTES)?;
    if op.is_set() {
        return set_op(op, matching, lhs, rhs, steps, options.room);
    }
    let unfilled = matching.fill_left.is_none() && matching.fill_right.is_none();
    if (lhs.is_empty() && rhs.is_empty()) || (unfilled && (lhs.is_empty() || rhs.is_empty())) {
        return Ok(Vec::new());
    }
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
    // As in the reference, which exchanges the sides of `group_right` and not their fills: `fill_left` always stands in
    // for the "many" side there, `fill_right` for the "one".
    let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);

    let mut grouper = Grouper::new(matching.on, &matching.labels);
    let one_groups: Vec<usize> = one.iter().map(|s| grouper.of(&s.labels)).collect();
    let many_groups: Vec<usize> = many.iter().map(|s| grouper.of(&s.labels)).collect();
    let mut join = Join {
        op,
        matching,
        return_bool,
        swapped,
        options,
        steps,
        remarks: Vec::new(),
        error: None,
        out: Vec::new(),
        by_labels: FxHashMap::default(),
        over: None,
        seen_at: FxHashMap::default(),
        seen: Vec::new(),
        seen_one: vec![Vec::new(); grouper.len()],
    };
    // Where one series meets one series nothing can be ambiguous: no bookkeeping by step.
    let plain = join.plain_pairs(&many, &many_groups, &one, &one_groups, grouper.len());
    // Per match group and step, the index of the present series of the "one" side plus one.
    let present = join.index_one_side(&many, &one, &one_groups, &plain, &grouper);
    join.within_room()?;
    if join.fails_until(0)
        && let Some((_, error)) = join.error.take()
    {
        return Err(error);
    }
    let mut filler: FxHashMap<usize, Series> = FxHashMap::default();
    for (series, group) in many.into_iter().zip(many_groups) {
        join.within_room()?;
        match plain[group] {
            Some(partner) => join.pair_plain(series, &one[partner]),
            None => join.pair_many(&series, group, &present[group], &one, fill_one, &mut filler, &grouper),
        }
    }
    if let Some(fill) = fill_many {
        for (series, group) in one.iter().zip(&one_groups) {
            join.within_room()?;
            join.pair_unmatched(series, *group, fill, &grouper);
        }
    }
    join.within_room()?;
    if let Some((_, error)) = join.error {
        return Err(error);
    }
    for kind in join.remarks.into_iter().flatten() {
        note(notes, kind);
    }
    Ok(join.out.into_iter().filter(|s| !s.points.is_void()).collect())
}

struct Join<'a> {
    op: BinaryOp,
    matching: &'a Matching,
    return_bool: bool,
    swapped: bool,
    options: AlgebraOptions<'a>,
    steps: usize,
    /// For each step the last remark: one operation tells no more. Empty without any.
    remarks: Vec<Option<NoteKind>>,
    /// The ambiguity at the earliest step; of one step that of the "one" side.
    error: Option<(usize, AlgebraError)>,
    out: Vec<Series>,
    by_labels: FxHashMap<(Labels, bool), usize>,
    /// What there was no room for; the result is of no use then.
    over: Option<AlgebraError>,
    /// For each match group and result series its place in `seen`.
    seen_at: FxHashMap<(usize, usize), usize>,
    /// For many-to-one: the steps at which a result of these labels was made in this match group, even one that a
    /// comparison filtered out.
    seen: Vec<Vec<bool>>,
    /// For each match group the steps that have been matched.
    seen_one: Vec<Vec<bool>>,
}

impl Join<'_> {
    /// Takes memory; false, and an error to come, when there is no room.
    fn take(&mut self, bytes: usize) -> bool {
        if self.over.is_none() {
            self.over = self.options.room.take(bytes).err();
        }
        self.over.is_none()
    }

    fn within_room(&self) -> Result<(), AlgebraError> {
        self.over.clone().map_or(Ok(()), Err)
    }

    /// For each match group with one float series on both sides the index of that on the "one" side.
    fn plain_pairs(
        &self,
        many: &[Series],
        many_groups: &[usize],
        one: &[Series],
        one_groups: &[usize],
        groups: usize,
    ) -> Vec<Option<usize>> {
        let filled = self.matching.fill_left.is_some() || self.matching.fill_right.is_some();
        let trims = matches!(self.op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
        if self.matching.cardinality != Cardinality::OneToOne || filled || trims {
            return vec![None; groups];
        }
        let mut seen = vec![(0u32, 0u32); groups];
        let mut partner = vec![None; groups];
        for (s, g) in many.iter().zip(many_groups) {
            seen[*g].0 += if s.points.has_histograms() { 2 } else { 1 };
        }
        for (i, (s, g)) in one.iter().zip(one_groups).enumerate() {
            seen[*g].1 += if s.points.has_histograms() { 2 } else { 1 };
            partner[*g] = Some(i);
        }
        partner.into_iter().zip(seen).map(|(p, n)| p.filter(|_| n == (1, 1))).collect()
    }

    /// Computes all steps of two float series that match nothing else.
    fn pair_plain(&mut self, many: Series, one: &Series) {
        let labels = self.result_labels(&many.labels, &one.labels);
        self.take(labels.heap_bytes());
        let mut points = many.points;
        for (v, other) in points.floats_mut().iter_mut().zip(one.points.floats()) {
            if trefoil_model::is_stale_nan(*v) || trefoil_model::is_stale_nan(*other) {
                *v = ABSENT;
                continue;
            }
            let result = scalar_op(self.op, *v, *other);
            if !self.op.is_comparison() || self.return_bool {
                *v = result;
            } else if result == 0.0 {
                *v = ABSENT;
            }
        }
        let drop_name = self.return_bool && self.options.delayed_name_removal;
        self.out.push(Series { labels, points, drop_name });
    }

    /// Whether an ambiguity is known at `step` or before.
    fn fails_until(&self, step: usize) -> bool {
        self.error.as_ref().is_some_and(|(first, _)| *first <= step)
    }

    fn fail(&mut self, step: usize, error: impl FnOnce(&Self) -> AlgebraError) {
        if !self.fails_until(step) {
            self.error = Some((step, error(self)));
        }
    }

    fn index_one_side(
        &mut self,
        many: &[Series],
        one: &[Series],
        groups: &[usize],
        plain: &[Option<usize>],
        grouper: &Grouper,
    ) -> Vec<Vec<u32>> {
        let mut present: Vec<Vec<u32>> = vec![Vec::new(); grouper.len()];
        for (i, (series, group)) in one.iter().zip(groups).enumerate() {
            if plain[*group].is_some() {
                continue;
            }
            let slots = &mut present[*group];
            if slots.is_empty() {
                if !self.take(self.steps * size_of::<u32>()) {
                    return present;
                }
                slots.resize(self.steps, 0);
            }
            for (step, slot) in slots.iter_mut().enumerate() {
                if !series.points.is_present(step) {
                    continue;
                }
                if *slot != 0 && self.fails_until(step) {
                    continue;
                }
                if *slot != 0 {
                    // With nothing on the other side nothing is looked at.
                    let filled = self.matching.fill_left.is_some() || self.matching.fill_right.is_some();
                    if !filled && !many.iter().any(|s| s.points.is_present(step)) {
                        continue;
                    }
                    let other = &one[*slot as usize - 1];
                    self.fail(step, |join| join.duplicate(other, series));
                    continue;
                }
                *slot = i as u32 + 1;
            }
        }
        present
    }

    /// `b` comes after `a`.
    fn duplicate(&self, a: &Series, b: &Series) -> AlgebraError {
        let side = if self.swapped { "left" } else { "right" };
        AlgebraError::new(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
            self.match_labels(&b.labels),
            b.labels,
            a.labels,
        ))
    }

    fn match_labels(&self, labels: &Labels) -> Labels {
        let matching = self.matching;
        labels.filter(|n| {
            let listed = matching.labels.iter().any(|l| l == n);
            if matching.on { listed } else { !listed && n != trefoil_model::labels::METRIC_NAME }
        })
    }

    #[expect(clippy::too_many_arguments, reason = "one call, private")]
    fn pair_many(
        &mut self,
        series: &Series,
        group: usize,
        slots: &[u32],
        one: &[Series],
        fill_one: Option<f64>,
        filler: &mut FxHashMap<usize, Series>,
        grouper: &Grouper,
    ) {
        if fill_one.is_none()
            && let Some(partner) = self.only_partner(series, slots, one)
        {
            return self.pair_floats(series, group, slots, partner);
        }
        // The partner rarely changes from step to step: keep its result slot.
        let mut partner = u32::MAX;
        let mut target = Target::default();
        for step in 0..self.steps {
            if !series.points.is_present(step) {
                continue;
            }
            let slot = slots.get(step).copied().unwrap_or(0);
            let other: &Series = match (slot, fill_one) {
                (0, None) => continue,
                (0, Some(fill)) => filler.entry(group).or_insert_with(|| {
                    Series::new(grouper.key(group).clone(), Points::from_floats(vec![fill; self.steps]))
                }),
                (slot, _) => &one[slot as usize - 1],
            };
            if partner != slot {
                target = self.target(series, &other.labels, group);
                partner = slot;
            }
            self.apply(series, other, group, step, target);
        }
    }

    fn pair_unmatched(&mut self, series: &Series, group: usize, fill: f64, grouper: &Grouper) {
        let stand_in = Series::new(grouper.key(group).clone(), Points::from_floats(vec![fill; self.steps]));
        let mut target = None;
        for step in 0..self.steps {
            if !series.points.is_present(step) || self.seen_one[group].get(step).is_some_and(|s| *s) {
                continue;
            }
            let target = *target.get_or_insert_with(|| self.target(&stand_in, &series.labels, group));
            self.apply(&stand_in, series, group, step, target);
        }
    }

    /// Computes one step into the result series `target`. `many` and `one` are sides of the matching.
    fn apply(&mut self, many: &Series, one: &Series, group: usize, step: usize, target: Target) {
        let (l, r) = if self.swapped { (one, many) } else { (many, one) };
        let mut notes = Notes::new();
        let outcome = match (l.points.histogram(step), r.points.histogram(step)) {
            (None, None) => {
                let (x, y) = (l.points.floats()[step], r.points.floats()[step]);
                float_pair(self.op, x, y, &mut notes)
            }
            (x, y) => {
                let x = x.map_or_else(|| Operand::Float(l.points.floats()[step]), Operand::Histogram);
                let y = y.map_or_else(|| Operand::Float(r.points.floats()[step]), Operand::Histogram);
                mixed_pair(self.op, x, y, &mut notes)
            }
        };
        if let Some(kind) = notes.pop() {
            self.remarks.resize(self.steps, None);
            self.remarks[step] = Some(kind);
        }
        let Some(outcome) = outcome else { return };
        if !self.is_unique(group, step, target) {
            self.fail(step, |join| {
                AlgebraError::new(if join.matching.cardinality == Cardinality::OneToOne {
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                } else {
                    "multiple matches for labels: grouping labels must ensure unique matches"
                })
            });
            return;
        }
        let point = if self.return_bool {
            Some(Point::Float(f64::from(u8::from(outcome.holds))))
        } else if outcome.holds {
            outcome.point
        } else {
            None
        };
        if let Some(point) = point {
            self.out[target.series].points.set(step, Some(point));
        }
    }

    /// Whether this is the first result of these labels in its match group and step.
    fn is_unique(&mut self, group: usize, step: usize, target: Target) -> bool {
        let is_new = self.seen_one[group].is_empty();
        if is_new && !self.take(self.steps) {
            return true;
        }
        let matched = &mut self.seen_one[group];
        if is_new {
            matched.resize(self.steps, false);
        }
        let was_matched = std::mem::replace(&mut matched[step], true);
        if self.matching.cardinality == Cardinality::OneToOne {
            return !was_matched;
        }
        // Nowhere to remember it: there is no room, and no result.
        self.seen.get_mut(target.seen).is_none_or(|seen| !std::mem::replace(&mut seen[step], true))
    }

    /// The result series of a pair of a match group.
    fn target(&mut self, many: &Series, one: &Labels, group: usize) -> Target {
        let drop_name = self.return_bool && self.options.delayed_name_removal;
        let labels = self.result_labels(&many.labels, one);
        let key = (labels, drop_name);
        let steps = self.steps;
        let is_room = self.by_labels.contains_key(&key) || self.take(Series::bytes_of(&key.0, steps) + MATCH_BYTES);
        if !is_room && !self.out.is_empty() {
            return Target::default();
        }
        let out = &mut self.out;
        let series = *self.by_labels.entry(key).or_insert_with_key(|(labels, _)| {
            out.push(Series { labels: labels.clone(), points: Points::absent(steps), drop_name });
            out.len() - 1
        });
        if self.matching.cardinality == Cardinality::OneToOne {
            return Target { series, seen: 0, is_new: false };
        }
        if let Some(seen) = self.seen_at.get(&(group, series)) {
            return Target { series, seen: *seen, is_new: false };
        }
        let seen = self.seen.len();
        if self.take(steps + MATCH_BYTES) {
            self.seen_at.insert((group, series), seen);
            self.seen.push(vec![false; steps]);
        }
        Target { series, seen, is_new: true }
    }

    /// The series of the "one" side that a float series meets at all its steps, when it is but one and of floats too.
    fn only_partner<'o>(&self, many: &Series, slots: &[u32], one: &'o [Series]) -> Option<&'o Series> {
        let trims = matches!(self.op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
        if self.matching.cardinality == Cardinality::OneToOne || trims || many.points.has_histograms() {
            return None;
        }
        let slot = *slots.iter().find(|slot| **slot != 0)?;
        let partner = &one[slot as usize - 1];
        (!partner.points.has_histograms() && slots.iter().all(|s| *s == 0 || *s == slot)).then_some(partner)
    }

    /// Computes all steps of a float series with the only partner that it has.
    fn pair_floats(&mut self, many: &Series, group: usize, slots: &[u32], one: &Series) {
        if !slots.iter().enumerate().any(|(step, slot)| *slot != 0 && many.points.is_present(step)) {
            return;
        }
        let target = self.target(many, &one.labels, group);
        if !target.is_new {
            for (step, _) in slots.iter().enumerate().filter(|(_, slot)| **slot != 0) {
                if many.points.is_present(step) {
                    self.apply(many, one, group, step, target);
                }
            }
            return;
        }
        let is_first = self.seen_one[group].is_empty();
        if self.over.is_some() || (is_first && !self.take(self.steps)) {
            return;
        }
        self.seen_one[group].resize(self.steps, false);
        let (out, seen, matched) =
            (self.out[target.series].points.floats_mut(), &mut self.seen[target.seen], &mut self.seen_one[group]);
        for (step, (x, y)) in many.points.floats().iter().zip(one.points.floats()).enumerate() {
            if slots[step] == 0 || trefoil_model::is_stale_nan(*x) {
                continue;
            }
            (seen[step], matched[step]) = (true, true);
            let (l, r) = if self.swapped { (*y, *x) } else { (*x, *y) };
            let result = scalar_op(self.op, l, r);
            if !self.op.is_comparison() || self.return_bool {
                out[step] = result;
            } else if result != 0.0 {
                out[step] = l;
            }
        }
    }

    fn result_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let matching = self.matching;
        let drop_now = self.op.changes_meaning() || (self.return_bool && !self.options.delayed_name_removal);
        let base = if drop_now { without_metadata(many) } else { many.clone() };
        let base = if matching.cardinality == Cardinality::OneToOne {
            base.filter(|n| matching.labels.iter().any(|l| l == n) == matching.on)
        } else {
            base
        };
        if matching.include.is_empty() {
            return base;
        }
        let mut builder = base.to_builder();
        for name in &matching.include {
            builder.set(name.as_str(), one.get(name).unwrap_or(""));
        }
        builder.build()
    }
}

/// Where the result of a pair goes.
#[derive(Clone, Copy, Default)]
struct Target {
    /// Its place in `out`.
    series: usize,
    /// Its place in `seen`.
    seen: usize,
    /// Nothing was made of these labels in this match group before.
    is_new: bool,
}

/// What matching takes for each series: its groups and places in tables.
const MATCH_BYTES: usize = 320;

fn set_op(
    op: BinaryOp,
    matching: &Matching,
    lhs: Vec<Series>,
    rhs: Vec<Series>,
    steps: usize,
    room: Room<'_>,
) -> Result<Vec<Series>, AlgebraError> {
    let mut grouper = Grouper::new(matching.on, &matching.labels);
    let (base, other) = if op == BinaryOp::Or { (&rhs, &lhs) } else { (&lhs, &rhs) };
    let other_groups: Vec<usize> = other.iter().map(|s| grouper.of(&s.labels)).collect();
    let base_groups: Vec<usize> = base.iter().map(|s| grouper.of(&s.labels)).collect();
    let mut present: Vec<Vec<bool>> = vec![Vec::new(); grouper.len()];
    for (s, g) in other.iter().zip(&other_groups) {
        let slots = &mut present[*g];
        if slots.is_empty() {
            room.take(steps)?;
        }
        slots.resize(steps, false);
        for (step, slot) in slots.iter_mut().enumerate() {
            *slot |= s.points.is_present(step);
        }
    }
    let keep_when = op == BinaryOp::And;
    let filter = |mut s: Series, g: usize| -> Option<Series> {
        for step in 0..steps {
            if present[g].get(step).copied().unwrap_or(false) != keep_when {
                s.points.clear(step);
            }
        }
        (!s.points.is_void()).then_some(s)
    };
    if op != BinaryOp::Or {
        return Ok(lhs.into_iter().zip(base_groups).filter_map(|(s, g)| filter(s, g)).collect());
    }
    // What the left side lacks is taken from the right; equal label sets become one series.
    let mut index: FxHashMap<(Labels, bool), usize> =
        lhs.iter().enumerate().map(|(i, s)| ((s.labels.clone(), s.drop_name), i)).collect();
    let mut out = lhs;
    for (s, g) in rhs.into_iter().zip(base_groups) {
        let Some(s) = filter(s, g) else { continue };
        match index.entry((s.labels.clone(), s.drop_name)) {
            std::collections::hash_map::Entry::Occupied(e) => {
                let into = &mut out[*e.get()].points;
                for (step, point) in s.points.iter() {
                    into.set(step, Some(point));
                }
            }
            std::collections::hash_map::Entry::Vacant(e) => {
                e.insert(out.len());
                out.push(s);
            }
        }
    }
    Ok(out)
}

/// Applies `op` between each series and a scalar a step; series that are left empty are removed.
pub fn binary_scalar(
    op: BinaryOp,
    return_bool: bool,
    series: Vec<Series>,
    scalar: &[f64],
    scalar_on_left: bool,
    options: AlgebraOptions<'_>,
    notes: &mut Notes,
) -> Result<Vec<Series>, AlgebraError> {
    let mut out = Vec::with_capacity(series.len());
    for mut s in series {
        if s.points.has_histograms() {
            options.room.take(s.points.histogram_bytes())?;
            histogram_scalar(op, return_bool, &mut s.points, scalar, scalar_on_left, notes);
        } else {
            float_scalar(op, return_bool, s.points.floats_mut(), scalar, scalar_on_left, notes);
        }
        if op.changes_meaning() || return_bool {
            options.room.take(s.labels.heap_bytes())?;
            s.remove_name(options.delayed_name_removal);
        }
        if !s.points.is_void() {
            out.push(s);
        }
    }
    if !options.delayed_name_removal && (op.changes_meaning() || return_bool) {
        options.room.take(out.len() * super::series::MERGE_BYTES)?;
        return super::series::merge_equal(out);
    }
    Ok(out)
}

fn float_scalar(
    op: BinaryOp,
    return_bool: bool,
    values: &mut [f64],
    scalar: &[f64],
    scalar_on_left: bool,
    notes: &mut Notes,
) {
    let trim = matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
    for (v, s) in values.iter_mut().zip(scalar) {
        if trefoil_model::is_stale_nan(*v) {
            continue;
        }
        if trim {
            note(notes, NoteKind::IncompatibleTypes("float", op.as_str(), "float"));
            *v = ABSENT;
            continue;
        }
        let result = if scalar_on_left { scalar_op(op, *s, *v) } else { scalar_op(op, *v, *s) };
        if !op.is_comparison() || return_bool {
            *v = result;
        } else if result == 0.0 {
            *v = ABSENT;
        }
    }
}

fn histogram_scalar(
    op: BinaryOp,
    return_bool: bool,
    points: &mut Points,
    scalar: &[f64],
    scalar_on_left: bool,
    notes: &mut Notes,
) {
    for (step, s) in scalar.iter().enumerate() {
        let Some(point) = points.get(step) else { continue };
        let operand = match &point {
            Point::Float(v) => Operand::Float(*v),
            Point::Histogram(h) => Operand::Histogram(h),
        };
        let (l, r) = if scalar_on_left { (Operand::Float(*s), operand) } else { (operand, Operand::Float(*s)) };
        let outcome = match (&l, &r) {
            (Operand::Float(x), Operand::Float(y)) => float_pair(op, *x, *y, notes),
            _ => mixed_pair(op, l, r, notes),
        };
        let result = match outcome {
            None => None,
            Some(o) if return_bool => Some(Point::Float(f64::from(u8::from(o.holds)))),
            Some(o) if !o.holds => None,
            Some(_) if op.is_comparison() && scalar_on_left => Some(point),
            Some(o) => o.point,
        };
        points.set(step, result);
    }
}

#[derive(Clone, Copy)]
enum Operand<'a> {
    Float(f64),
    Histogram(&'a Arc<FloatHistogram>),
}

impl Operand<'_> {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Float(_) => "float",
            Self::Histogram(_) => "histogram",
        }
    }
}

#[inline]
fn float_pair(op: BinaryOp, l: f64, r: f64, notes: &mut Notes) -> Option<Outcome> {
    if matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper) {
        note(notes, NoteKind::IncompatibleTypes("float", op.as_str(), "float"));
        return None;
    }
    let result = scalar_op(op, l, r);
    Some(if op.is_comparison() {
        Outcome { point: Some(Point::Float(l)), holds: result != 0.0 }
    } else {
        Outcome { point: Some(Point::Float(result)), holds: true }
    })
}

/// At least one operand is a histogram. `None`: the operands do not go together, which is noted.
fn mixed_pair(op: BinaryOp, l: Operand<'_>, r: Operand<'_>, notes: &mut Notes) -> Option<Outcome> {
    let gives = |h: FloatHistogram| Some(Outcome { point: Some(Point::Histogram(Arc::new(h))), holds: true });
    match (l, op, r) {
        (Operand::Float(f), BinaryOp::Mul, Operand::Histogram(h))
        | (Operand::Histogram(h), BinaryOp::Mul, Operand::Float(f)) => gives(histogram::scaled(h, f)),
        (Operand::Histogram(h), BinaryOp::Div, Operand::Float(f)) => gives(histogram::divided(h, f)),
        (Operand::Histogram(h), BinaryOp::TrimUpper, Operand::Float(f)) => gives(histogram::trimmed(h, f, true)),
        (Operand::Histogram(h), BinaryOp::TrimLower, Operand::Float(f)) => gives(histogram::trimmed(h, f, false)),
        (Operand::Histogram(a), BinaryOp::Eq | BinaryOp::NotEq, Operand::Histogram(b)) => {
            let holds = histogram::equal(a, b) == (op == BinaryOp::Eq);
            Some(Outcome { point: Some(Point::Histogram(a.clone())), holds })
        }
        (Operand::Histogram(a), BinaryOp::Add | BinaryOp::Sub, Operand::Histogram(b)) => {
            let what = if op == BinaryOp::Add { "addition" } else { "subtraction" };
            let result = if op == BinaryOp::Add { histogram::sum(a, b) } else { histogram::difference(a, b) };
            match result {
                Err(histogram::IncompatibleSchema) => {
                    note(notes, NoteKind::IncompatibleBucketLayout(op.as_str()));
                    None
                }
                Ok((h, added)) => {
                    if added.hint_collision {
                        note(notes, NoteKind::CounterResetCollision(what));
                        return None;
                    }
                    if added.bounds_reconciled {
                        note(notes, NoteKind::MismatchedCustomBuckets(what));
                    }
                    gives(h)
                }
            }
        }
        (l, op, r) => {
            note(notes, NoteKind::IncompatibleTypes(l.type_name(), op.as_str(), r.type_name()));
            None
        }
    }
}

#[cfg(test)]
mod tests;
