//! Aggregations over series, streaming into their groups.

use std::collections::BTreeMap;

use trefoil_model::{FloatHistogram, Labels};

use super::group::Grouper;
use super::kahan::{Mean, Sum};
use super::ranking::{rank, selected};
use super::scalar::quantile;
use super::series::{HISTOGRAM_BYTES, SERIES_BYTES};
use super::{AlgebraError, Notes, Points, Room, Series};
use crate::annotations::NoteKind;
use crate::format::{format_decimal, quote};
use crate::histogram::{self, HistogramMean, HistogramSum, IncompatibleSchema};

/// An aggregation operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    /// `sum`
    Sum,
    /// `avg`
    Avg,
    /// `min`
    Min,
    /// `max`
    Max,
    /// `count`
    Count,
    /// `group`
    Group,
    /// `stddev`
    Stddev,
    /// `stdvar`
    Stdvar,
    /// `topk`
    TopK,
    /// `bottomk`
    BottomK,
    /// `quantile`
    Quantile,
    /// `count_values`
    CountValues,
    /// `limitk`
    LimitK,
    /// `limit_ratio`
    LimitRatio,
}

impl AggregateOp {
    /// All operators.
    pub const ALL: [Self; 14] = [
        Self::Sum,
        Self::Avg,
        Self::Min,
        Self::Max,
        Self::Count,
        Self::Group,
        Self::Stddev,
        Self::Stdvar,
        Self::TopK,
        Self::BottomK,
        Self::Quantile,
        Self::CountValues,
        Self::LimitK,
        Self::LimitRatio,
    ];

    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Count => "count",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::TopK => "topk",
            Self::BottomK => "bottomk",
            Self::Quantile => "quantile",
            Self::CountValues => "count_values",
            Self::LimitK => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// True when the operator takes a parameter before its series.
    pub fn has_param(self) -> bool {
        self.keeps_input() || matches!(self, Self::Quantile | Self::CountValues)
    }

    /// True when the result is a part of the input with its labels.
    pub fn keeps_input(self) -> bool {
        matches!(self, Self::TopK | Self::BottomK | Self::LimitK | Self::LimitRatio)
    }

    /// True for operators behind the flag for experimental functions.
    pub fn is_experimental(self) -> bool {
        matches!(self, Self::LimitK | Self::LimitRatio)
    }
}

/// `by (...)` or `without (...)`; the default is `by ()`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grouping {
    /// True for `without`.
    pub without: bool,
    /// Label names as written.
    pub labels: Vec<String>,
}

/// The parameter of an aggregation.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Param {
    /// None is due.
    #[default]
    None,
    /// The same number at each step.
    Scalar(f64),
    /// A number a step.
    Column(Vec<f64>),
    /// A label name (`count_values`).
    Label(String),
}

impl Param {
    fn at(&self, step: usize) -> f64 {
        match self {
            Self::Scalar(v) => *v,
            Self::Column(c) => c.get(step).copied().unwrap_or(f64::NAN),
            Self::None | Self::Label(_) => f64::NAN,
        }
    }
}

/// Aggregates all of `series` at once; see [`Aggregator`].
pub fn aggregate(
    op: AggregateOp,
    grouping: &Grouping,
    param: &Param,
    series: Vec<Series>,
    notes: &mut Notes,
) -> Result<Vec<Series>, AlgebraError> {
    let Some(first) = series.first() else { return Ok(Vec::new()) };
    let steps = first.points.len();
    let mut aggregator = Aggregator::new(op, grouping.clone(), param.clone(), steps)?;
    for s in series {
        aggregator.push(s)?;
    }
    aggregator.finish(notes)
}

/// Takes series one by one and holds no more than its groups; topk and friends hold those series that may be in the
/// result. Memory is taken from its [`Room`].
#[derive(Debug)]
pub struct Aggregator<'a> {
    room: Room<'a>,
    /// Bytes taken from the room.
    taken: usize,
    /// So many kept series are looked at, whether they can be forgotten.
    forget_at: usize,
    /// Weight of the samples of forgotten series.
    forgotten: u64,
    op: AggregateOp,
    param: Param,
    steps: usize,
    grouper: Grouper,
    groups: Vec<Group>,
    kept: Vec<(Series, usize)>,
    notes: Notes,
}

#[derive(Debug)]
struct Group {
    drop_name: bool,
    cells: Cells,
}

/// The state of one group, a slot a step.
#[derive(Debug)]
enum Cells {
    Sum(Vec<SumCell>),
    Mean(Vec<MeanCell>),
    Extreme(Vec<Option<f64>>),
    Count(Vec<u64>),
    Spread(Vec<Spread>),
    Values(Vec<Vec<f64>>),
    Unused,
}

#[derive(Debug, Clone, Default)]
enum SumCell {
    #[default]
    Empty,
    Float(Sum),
    Histogram(Box<HistogramSum>),
    /// Floats and histograms, or buckets that do not go together: no result.
    Mixed {
        warn: bool,
    },
}

#[derive(Debug, Clone, Default)]
enum MeanCell {
    #[default]
    Empty,
    Float(Mean),
    Histogram(Box<HistogramMean>),
    Mixed {
        warn: bool,
    },
}

/// Welford's running variance.
#[derive(Debug, Clone, Copy, Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

/// How many points of series are kept before the first look at what can be forgotten.
const FORGET_POINTS: usize = 1 << 19;

/// As many series.
fn forget_min(steps: usize) -> usize {
    (FORGET_POINTS / steps.max(1)).clamp(64, 2048)
}

/// What a value takes in a group that holds all values, the growth of its list included.
const VALUE_BYTES: usize = 2 * size_of::<f64>();

impl<'a> Aggregator<'a> {
    /// Errors when the parameter is not a valid label name (`count_values`).
    pub fn new(op: AggregateOp, grouping: Grouping, param: Param, steps: usize) -> Result<Self, AlgebraError> {
        if let Param::Label(name) = &param
            && (name.is_empty() || !crate::format::is_valid_utf8(name))
        {
            return Err(AlgebraError::new(format!("invalid label name {}", quote(name))));
        }
        let mut names = grouping.labels;
        if let Param::Label(name) = &param
            && !grouping.without
        {
            names.push(name.clone());
        }
        let grouper = Grouper::new(!grouping.without, &names);
        Ok(Self {
            room: Room::default(),
            taken: 0,
            forget_at: forget_min(steps),
            forgotten: 0,
            op,
            param,
            steps,
            grouper,
            groups: Vec::new(),
            kept: Vec::new(),
            notes: Notes::new(),
        })
    }

    /// The same, holding no more than there is room for.
    pub fn within(self, room: Room<'a>) -> Self {
        Self { room, ..self }
    }

    fn take(&mut self, bytes: usize) -> Result<(), AlgebraError> {
        self.room.take(bytes)?;
        self.taken += bytes;
        Ok(())
    }

    /// Takes a series into its group. Errors when there is no room.
    pub fn push(&mut self, series: Series) -> Result<(), AlgebraError> {
        if self.op == AggregateOp::CountValues {
            return self.push_values(&series);
        }
        if series.points.is_void() {
            return Ok(());
        }
        let number = self.grouper.of(&series.labels);
        if self.op.keeps_input() {
            self.note_ignored(&series.points, matches!(self.op, AggregateOp::TopK | AggregateOp::BottomK));
            let group = if self.grouper.len() > self.groups.len() { Grouper::bytes_of(&series.labels) } else { 0 };
            if group > 0 {
                self.groups.push(Group { drop_name: false, cells: Cells::Unused });
            }
            self.take(group + series.bytes())?;
            self.kept.push((series, number));
            if self.kept.len() >= self.forget_at {
                self.forget();
            }
            return Ok(());
        }
        let floats_only =
            !matches!(self.op, AggregateOp::Sum | AggregateOp::Avg | AggregateOp::Count | AggregateOp::Group);
        self.note_ignored(&series.points, floats_only);
        if number == self.groups.len() {
            self.take(Grouper::bytes_of(self.grouper.key(number)) + Cells::bytes_of(self.op, self.steps))?;
            self.groups.push(Group { drop_name: false, cells: Cells::new(self.op, self.steps) });
        }
        let growth = self.groups[number].cells.growth(&series.points);
        self.take(growth)?;
        let group = &mut self.groups[number];
        group.drop_name |= series.drop_name;
        group.cells.add(self.op, &series, &mut self.notes);
        Ok(())
    }

    /// Lets go of kept series that cannot be in the result.
    fn forget(&mut self) {
        let params: Vec<f64> = (0..self.steps).map(|i| self.param.at(i)).collect();
        let (series, groups): (Vec<Series>, Vec<usize>) = std::mem::take(&mut self.kept).into_iter().unzip();
        let wanted = selected(self.op, &params, &series, &groups, self.grouper.len());
        let mut freed = 0;
        for ((s, group), wanted) in series.into_iter().zip(groups).zip(wanted) {
            if wanted {
                self.kept.push((s, group));
            } else {
                freed += s.bytes();
                self.forgotten += s.points.sample_weight();
            }
        }
        self.room.give(freed);
        self.taken -= freed;
        self.forget_at = forget_min(self.steps).max(self.kept.len() * 2);
    }

    /// Weight of the samples that were let go of since the last call.
    pub fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    /// True for operators whose partial results over parts of the input can be [merged](Self::merge).
    pub fn is_mergeable(op: AggregateOp) -> bool {
        matches!(op, AggregateOp::Sum | AggregateOp::Count | AggregateOp::Group | AggregateOp::Min | AggregateOp::Max)
    }

    /// Takes up what `other`, with the same operator, grouping and steps, has aggregated of later series.
    pub fn merge(&mut self, mut other: Self) {
        // What both have is there once from now on.
        self.taken += other.taken;
        for kind in other.notes.drain(..) {
            note(&mut self.notes, kind);
        }
        for (number, group) in other.groups.into_iter().enumerate() {
            let key = other.grouper.key(number);
            let target = self.grouper.of(key);
            if target == self.groups.len() {
                self.groups.push(group);
                continue;
            }
            let twice = Grouper::bytes_of(key) + Cells::bytes_of(self.op, self.steps);
            self.room.give(twice);
            self.taken -= twice;
            let into = &mut self.groups[target];
            into.drop_name |= group.drop_name;
            into.cells.merge(group.cells, self.op, key, &mut self.notes);
        }
    }

    fn note_ignored(&mut self, points: &Points, ignores: bool) {
        if ignores && points.has_histograms() && (0..self.steps).any(|i| points.histogram(i).is_some()) {
            note(&mut self.notes, NoteKind::HistogramIgnoredInAggregation(self.op.as_str()));
        }
    }

    /// Counts a series' values in the groups that have the value as a label.
    fn push_values(&mut self, series: &Series) -> Result<(), AlgebraError> {
        let Param::Label(label) = self.param.clone() else { return Ok(()) };
        let before = self.taken;
        let mut texts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (step, point) in series.points.iter() {
            let text = match point {
                super::Point::Float(v) => format_decimal(v),
                super::Point::Histogram(h) => histogram::text(&h),
            };
            match texts.get_mut(&text) {
                Some(steps) => steps.push(step),
                None => {
                    self.take(TEXT_BYTES + text.len())?;
                    texts.insert(text, vec![step]);
                }
            }
        }
        let passing = self.taken - before + series.points.len() * VALUE_BYTES;
        self.take(series.points.len() * VALUE_BYTES)?;
        for (text, steps) in texts {
            let labels = super::labels::with_label(&series.labels, &label, &text);
            let number = self.grouper.of(&labels);
            if number == self.groups.len() {
                self.take(Grouper::bytes_of(self.grouper.key(number)) + Cells::bytes_of(self.op, self.steps))?;
                let cells = Cells::Count(vec![0; self.steps]);
                self.groups.push(Group { drop_name: false, cells });
            }
            if let Cells::Count(counts) = &mut self.groups[number].cells {
                for step in steps {
                    counts[step] += 1;
                }
            }
        }
        self.room.give(passing);
        self.taken -= passing;
        Ok(())
    }

    /// The groups in order of appearance, or what was kept.
    pub fn finish(mut self, notes: &mut Notes) -> Result<Vec<Series>, AlgebraError> {
        if self.op.keeps_input() {
            let params: Vec<f64> = (0..self.steps).map(|i| self.param.at(i)).collect();
            let (series, groups): (Vec<Series>, Vec<usize>) = self.kept.into_iter().unzip();
            notes.append(&mut self.notes);
            return rank(self.op, &params, series, &groups, self.grouper.len(), self.room);
        }
        let mut out = Vec::with_capacity(self.groups.len());
        for (number, group) in self.groups.into_iter().enumerate() {
            let labels: Labels = self.grouper.key(number).clone();
            let points = group.cells.finish(self.op, &self.param, self.steps, &mut self.notes);
            if !points.is_void() {
                out.push(Series { labels, points, drop_name: group.drop_name });
            }
        }
        notes.append(&mut self.notes);
        Ok(out)
    }
}

/// What a text and the steps that have it take, besides the text.
const TEXT_BYTES: usize = 160;

/// Adds a note once.
pub(crate) fn note(notes: &mut Notes, kind: NoteKind) {
    if !notes.contains(&kind) {
        notes.push(kind);
    }
}

impl Cells {
    fn new(op: AggregateOp, steps: usize) -> Self {
        match op {
            AggregateOp::Sum => Self::Sum(vec![SumCell::Empty; steps]),
            AggregateOp::Avg => Self::Mean(vec![MeanCell::Empty; steps]),
            AggregateOp::Min | AggregateOp::Max => Self::Extreme(vec![None; steps]),
            AggregateOp::Count | AggregateOp::Group | AggregateOp::CountValues => Self::Count(vec![0; steps]),
            AggregateOp::Stddev | AggregateOp::Stdvar => Self::Spread(vec![Spread::default(); steps]),
            AggregateOp::Quantile => Self::Values(vec![Vec::new(); steps]),
            AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK | AggregateOp::LimitRatio => Self::Unused,
        }
    }

    /// Bytes that the state of a group takes, its result included.
    fn bytes_of(op: AggregateOp, steps: usize) -> usize {
        let cell = match op {
            AggregateOp::Sum => size_of::<SumCell>(),
            AggregateOp::Avg => size_of::<MeanCell>(),
            AggregateOp::Min | AggregateOp::Max => size_of::<Option<f64>>(),
            AggregateOp::Count | AggregateOp::Group | AggregateOp::CountValues => size_of::<u64>(),
            AggregateOp::Stddev | AggregateOp::Stdvar => size_of::<Spread>(),
            // The list, and the least that it takes.
            AggregateOp::Quantile => size_of::<Vec<f64>>() + 4 * size_of::<f64>(),
            AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK | AggregateOp::LimitRatio => 0,
        };
        SERIES_BYTES + cell.saturating_mul(steps)
    }

    /// Bytes by which the state grows with a series.
    fn growth(&self, points: &Points) -> usize {
        let histogram = |step: usize, is_empty: bool| match points.histogram(step) {
            Some(h) if is_empty => 2 * (HISTOGRAM_BYTES + h.heap_bytes()),
            _ => 0,
        };
        match self {
            Self::Values(_) => points.len() * VALUE_BYTES,
            Self::Sum(cells) if points.has_histograms() => {
                let growth = |(step, cell): (usize, &SumCell)| histogram(step, matches!(cell, SumCell::Empty));
                cells.iter().enumerate().map(growth).sum()
            }
            Self::Mean(cells) if points.has_histograms() => {
                let growth = |(step, cell): (usize, &MeanCell)| histogram(step, matches!(cell, MeanCell::Empty));
                cells.iter().enumerate().map(growth).sum()
            }
            _ => 0,
        }
    }

    fn merge(&mut self, other: Self, op: AggregateOp, labels: &Labels, notes: &mut Notes) {
        match (self, other) {
            (Self::Sum(cells), Self::Sum(others)) => {
                for (cell, other) in cells.iter_mut().zip(others) {
                    cell.merge(other, labels, notes);
                }
            }
            (Self::Count(cells), Self::Count(others)) => {
                for (cell, other) in cells.iter_mut().zip(others) {
                    *cell += other;
                }
            }
            (Self::Extreme(cells), Self::Extreme(others)) => {
                for (cell, other) in cells.iter_mut().zip(others) {
                    if let Some(v) = other {
                        take_extreme(op, cell, v);
                    }
                }
            }
            _ => unreachable!("only mergeable operators are merged"),
        }
    }

    fn add(&mut self, op: AggregateOp, series: &Series, notes: &mut Notes) {
        let points = &series.points;
        match self {
            Self::Sum(cells) => {
                for (step, cell) in cells.iter_mut().enumerate() {
                    if let Some(h) = points.histogram(step) {
                        cell.add_histogram(h, &series.labels, notes);
                    } else if let Some(v) = points.float(step) {
                        cell.add_float(v);
                    }
                }
            }
            Self::Mean(cells) => {
                for (step, cell) in cells.iter_mut().enumerate() {
                    if let Some(h) = points.histogram(step) {
                        cell.add_histogram(h, &series.labels, notes);
                    } else if let Some(v) = points.float(step) {
                        cell.add_float(v);
                    }
                }
            }
            Self::Extreme(cells) => {
                for (step, cell) in cells.iter_mut().enumerate() {
                    if let Some(v) = points.float(step) {
                        take_extreme(op, cell, v);
                    }
                }
            }
            Self::Count(cells) => {
                for (step, cell) in cells.iter_mut().enumerate() {
                    *cell += u64::from(points.is_present(step));
                }
            }
            Self::Spread(cells) => {
                for (step, cell) in cells.iter_mut().enumerate() {
                    if let Some(v) = points.float(step) {
                        cell.add(v);
                    }
                }
            }
            Self::Values(cells) => {
                for (step, cell) in cells.iter_mut().enumerate() {
                    cell.extend(points.float(step));
                }
            }
            Self::Unused => {}
        }
    }

    fn finish(self, op: AggregateOp, param: &Param, steps: usize, notes: &mut Notes) -> Points {
        let mut out = Points::absent(steps);
        match self {
            Self::Sum(cells) => {
                for (step, cell) in cells.into_iter().enumerate() {
                    match cell {
                        SumCell::Empty => {}
                        SumCell::Float(sum) => out.set_float(step, sum.value()),
                        SumCell::Histogram(sum) => {
                            note_collision(sum.has_hint_collision(), notes);
                            out.set_histogram(step, sum.finish().into());
                        }
                        SumCell::Mixed { warn } => note_mixed(warn, notes),
                    }
                }
            }
            Self::Mean(cells) => {
                for (step, cell) in cells.into_iter().enumerate() {
                    match cell {
                        MeanCell::Empty => {}
                        MeanCell::Float(mean) => out.set_float(step, mean.value()),
                        MeanCell::Histogram(mean) => {
                            note_collision(mean.has_hint_collision(), notes);
                            out.set_histogram(step, mean.finish().into());
                        }
                        MeanCell::Mixed { warn } => note_mixed(warn, notes),
                    }
                }
            }
            Self::Extreme(cells) => {
                for (step, cell) in cells.into_iter().enumerate() {
                    if let Some(v) = cell {
                        out.set_float(step, v);
                    }
                }
            }
            Self::Count(cells) => {
                for (step, n) in cells.into_iter().enumerate().filter(|(_, n)| *n > 0) {
                    out.set_float(step, if op == AggregateOp::Group { 1.0 } else { n as f64 });
                }
            }
            Self::Spread(cells) => {
                for (step, cell) in cells.into_iter().enumerate().filter(|(_, c)| c.count > 0.0) {
                    let variance = cell.squares / cell.count;
                    out.set_float(step, if op == AggregateOp::Stddev { variance.sqrt() } else { variance });
                }
            }
            Self::Values(cells) => {
                for (step, mut values) in cells.into_iter().enumerate().filter(|(_, v)| !v.is_empty()) {
                    out.set_float(step, quantile(param.at(step), &mut values));
                }
            }
            Self::Unused => {}
        }
        out
    }
}

fn take_extreme(op: AggregateOp, cell: &mut Option<f64>, v: f64) {
    let replace = match *cell {
        None => true,
        Some(old) => old.is_nan() || if op == AggregateOp::Max { old < v } else { old > v },
    };
    if replace {
        *cell = Some(v);
    }
}

fn note_collision(collision: bool, notes: &mut Notes) {
    if collision {
        note(notes, NoteKind::CounterResetCollision("aggregation"));
    }
}

fn note_mixed(warn: bool, notes: &mut Notes) {
    if warn {
        note(notes, NoteKind::MixedFloatsHistogramsAggregation);
    }
}

fn note_incompatible(labels: &Labels, notes: &mut Notes) {
    note(notes, NoteKind::MixedExponentialCustom(labels.metric_name().to_owned()));
}

fn note_added(added: Result<histogram::Added, IncompatibleSchema>, labels: &Labels, notes: &mut Notes) -> bool {
    match added {
        Ok(added) => {
            if added.bounds_reconciled {
                note(notes, NoteKind::MismatchedCustomBuckets("aggregation"));
            }
            true
        }
        Err(IncompatibleSchema) => {
            note_incompatible(labels, notes);
            false
        }
    }
}

impl SumCell {
    fn add_float(&mut self, v: f64) {
        match self {
            Self::Empty => *self = Self::Float(Sum::new(v)),
            Self::Float(sum) => sum.add(v),
            Self::Histogram(_) => *self = Self::Mixed { warn: true },
            Self::Mixed { .. } => {}
        }
    }

    fn add_histogram(&mut self, h: &FloatHistogram, labels: &Labels, notes: &mut Notes) {
        match self {
            Self::Empty => *self = Self::Histogram(Box::new(HistogramSum::new(h))),
            Self::Histogram(sum) => {
                if !note_added(sum.add(h), labels, notes) {
                    *self = Self::Mixed { warn: false };
                }
            }
            Self::Float(_) => *self = Self::Mixed { warn: true },
            Self::Mixed { .. } => {}
        }
    }
}

impl SumCell {
    fn merge(&mut self, other: Self, labels: &Labels, notes: &mut Notes) {
        match (&mut *self, other) {
            (_, Self::Empty) => {}
            (Self::Empty, other) => *self = other,
            (Self::Float(a), Self::Float(b)) => {
                a.add(b.sum);
                a.c += b.c;
            }
            (Self::Histogram(a), Self::Histogram(b)) => {
                if !note_added(a.merge(*b), labels, notes) {
                    *self = Self::Mixed { warn: false };
                }
            }
            (Self::Mixed { warn: a }, Self::Mixed { warn: b }) => *a |= b,
            (Self::Mixed { .. }, _) => {}
            (_, mixed @ Self::Mixed { .. }) => *self = mixed,
            (Self::Float(_) | Self::Histogram(_), _) => *self = Self::Mixed { warn: true },
        }
    }
}

impl MeanCell {
    fn add_float(&mut self, v: f64) {
        match self {
            Self::Empty => *self = Self::Float(Mean::new(v)),
            Self::Float(mean) => mean.add(v),
            Self::Histogram(_) => *self = Self::Mixed { warn: true },
            Self::Mixed { .. } => {}
        }
    }

    fn add_histogram(&mut self, h: &FloatHistogram, labels: &Labels, notes: &mut Notes) {
        match self {
            Self::Empty => *self = Self::Histogram(Box::new(HistogramMean::new(h))),
            Self::Histogram(mean) => {
                if !note_added(mean.add(h), labels, notes) {
                    *self = Self::Mixed { warn: false };
                }
            }
            Self::Float(_) => *self = Self::Mixed { warn: true },
            Self::Mixed { .. } => {}
        }
    }
}

impl Spread {
    fn add(&mut self, v: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.mean = v;
            self.squares = if v.is_finite() { 0.0 } else { f64::NAN };
            return;
        }
        let delta = v - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (v - self.mean);
    }
}
