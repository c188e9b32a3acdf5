//! Range aggregations: lines to numbers, numbers in windows to series.

use std::ops::ControlFlow;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use trefoil_model::{Direction, Labels, MatchOp, Matcher, NanoRange, QueryBudget};
use trefoil_promql::algebra::{ABSENT, Points, Series, quantile};

use crate::Error;
use crate::ast::{Conversion, Grouping, RangeAggregation, RangeOp, Unwrap};
use crate::labels::LineLabels;
use crate::output::Stats;
use crate::pipeline::{Pipeline, Scan, Source};
use crate::stages::CompiledFilter;
use crate::units;

const EXTRACTION_ERROR: &str = "SampleExtractionErr";

/// The steps of a query: `start_ns + i * step_ns`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) start_ns: i64,
    pub(crate) step_ns: i64,
    pub(crate) steps: usize,
}

impl Grid {
    pub(crate) fn time(&self, step: usize) -> i64 {
        self.start_ns + self.step_ns * step as i64
    }
}

/// Windows `(t - range, t]` for the steps, moved by the offset.
#[derive(Debug, Clone, Copy)]
struct Windows {
    grid: Grid,
    range_ns: i64,
    offset_ns: i64,
}

impl Windows {
    /// First and last step whose window holds the time, if any does.
    fn of(&self, time_ns: i64) -> Option<(usize, usize)> {
        let (step, last) = (i128::from(self.grid.step_ns.max(1)), self.grid.steps as i128 - 1);
        let since = i128::from(time_ns) + i128::from(self.offset_ns) - i128::from(self.grid.start_ns);
        let ceiling = |n: i128| n.div_euclid(step) + i128::from(n.rem_euclid(step) != 0);
        let (from, to) = if last == 0 {
            let inside = since <= 0 && since + i128::from(self.range_ns) > 0;
            (0, if inside { 0 } else { -1 })
        } else {
            (ceiling(since).max(0), (ceiling(since + i128::from(self.range_ns)) - 1).min(last))
        };
        (from <= to).then(|| (usize::try_from(from).unwrap_or(0), usize::try_from(to).unwrap_or(0)))
    }

    fn scanned(&self) -> NanoRange {
        let first = self.grid.start_ns.saturating_sub(self.offset_ns);
        let last = self.grid.time(self.grid.steps - 1).saturating_sub(self.offset_ns);
        NanoRange::new(first.saturating_sub(self.range_ns).saturating_add(1), last.saturating_add(1))
    }

    /// Open start and closed end of a step's window.
    fn bounds(&self, step: usize) -> (i64, i64) {
        let end = self.grid.time(step).saturating_sub(self.offset_ns);
        (end.saturating_sub(self.range_ns), end)
    }
}

/// What is kept of a series while lines come in.
pub(crate) enum Kept {
    /// Per step the change of count and sum against the step before; exact, because both are whole numbers.
    Totals { counts: Vec<f64>, sums: Vec<f64> },
    /// Time and value.
    Samples(Vec<(i64, f64)>),
}

pub(crate) struct Group {
    labels: Labels,
    kept: Kept,
}

/// How the series of a line is found.
#[derive(Clone)]
pub(crate) enum Key {
    All,
    By(Vec<String>),
    Without(Vec<String>),
}

/// Gathers the lines of a range aggregation.
pub(crate) struct Collector<'a> {
    windows: Windows,
    totals: bool,
    key: Key,
    unwrap: Option<&'a Unwrap>,
    filters: Vec<CompiledFilter>,
    groups: Vec<Group>,
    known: FxHashMap<String, usize>,
    buffer: String,
    budget: &'a dyn QueryBudget,
    /// Series that are paid for, where several collectors work side by side.
    charged: Option<Arc<crate::counts::Charged>>,
}

/// Evaluates a range aggregation. `outer` is the grouping of a sum around it, which may be applied at once.
pub(crate) fn evaluate(
    aggregation: &RangeAggregation,
    outer: Option<&Grouping>,
    grid: Grid,
    source: Source<'_>,
    stats: &mut Stats,
) -> Result<Vec<Series>, Error> {
    let mut pipeline = Pipeline::new(&aggregation.log)?;
    let windows = Windows { grid, range_ns: aggregation.range_ns, offset_ns: aggregation.offset_ns };
    let grouping = aggregation.grouping.as_ref().or(outer);
    let unwrap = aggregation.unwrap.as_ref();
    let no_labels = grouping.is_some_and(|g| !g.without && g.labels.is_empty());
    let bare = unwrap.is_none() && (no_labels || aggregation.op == RangeOp::Absent) && pipeline.without_labels();
    let mut collector = Collector {
        windows,
        totals: unwrap.is_none() || aggregation.op == RangeOp::Absent,
        key: match grouping {
            _ if aggregation.op == RangeOp::Absent => Key::By(Vec::new()),
            None => Key::All,
            Some(Grouping { without: false, labels }) => Key::By(sorted(labels)),
            Some(Grouping { without: true, labels }) => Key::Without(sorted(labels)),
        },
        unwrap,
        filters: compile_filters(aggregation)?,
        groups: Vec::new(),
        known: FxHashMap::default(),
        buffer: String::new(),
        budget: source.budget,
        charged: None,
    };
    let scan = Scan {
        source,
        log: &aggregation.log,
        pipeline: &pipeline,
        range: windows.scanned(),
        direction: Direction::Forward,
        needs_labels: !bare,
        wanted: wanted_labels(&collector, &pipeline),
    };
    if !crate::counts::fold(&scan, &mut collector, stats)? {
        scan.run(stats, &|time| windows.of(time).is_some(), &mut |time_ns, text, labels| {
            collector.add(time_ns, text.len(), labels)?;
            Ok(ControlFlow::Continue(()))
        })?;
    }
    if aggregation.op == RangeOp::Absent {
        return Ok(absent(&collector.groups, &aggregation.log.matchers, grid.steps));
    }
    let mut series: Vec<Series> = collector
        .groups
        .into_iter()
        .map(|group| Series::new(group.labels, Points::from_floats(column(&group.kept, aggregation, &windows))))
        .filter(|series| !series.points.is_void())
        .collect();
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(series)
}

/// The labels that the result depends on, when the grouping names them.
fn wanted_labels(collector: &Collector<'_>, pipeline: &Pipeline) -> Option<FxHashSet<String>> {
    let Key::By(names) = &collector.key else {
        return None;
    };
    let mut wanted: FxHashSet<String> = names.iter().cloned().collect();
    wanted.extend(collector.unwrap.map(|u| u.label.clone()));
    for filter in &collector.filters {
        filter.add_used_labels(&mut wanted);
    }
    pipeline.add_used_labels(&mut wanted).then_some(wanted)
}

/// Compiles the label filters behind `unwrap`.
pub(crate) fn compile_filters(aggregation: &RangeAggregation) -> Result<Vec<CompiledFilter>, Error> {
    let filters = aggregation.unwrap.iter().flat_map(|u| &u.filters);
    filters.map(|f| CompiledFilter::new(f).or_else(|m| crate::lexer::fail(aggregation.log.position, m))).collect()
}

fn sorted(labels: &[String]) -> Vec<String> {
    let mut labels = labels.to_vec();
    labels.sort();
    labels.dedup();
    labels
}

impl<'a> Collector<'a> {
    /// Whether the result depends on no order, and on a line only through its labels and length.
    pub(crate) fn is_total(&self) -> bool {
        self.totals && self.unwrap.is_none() && self.filters.is_empty()
    }

    /// The names that the series are told apart by, when they are named.
    pub(crate) fn names(&self) -> Option<&[String]> {
        match &self.key {
            Key::By(names) => Some(names),
            Key::All | Key::Without(_) => None,
        }
    }

    /// Steps of time, from the start of what is scanned, that lie whole inside or outside of every window; 0 for one
    /// step. `None` when the series are not told apart by names.
    pub(crate) fn statistics_step(&self) -> Option<i64> {
        self.names()?;
        let Windows { grid, range_ns, .. } = self.windows;
        if grid.steps <= 1 {
            return Some(0);
        }
        let (mut a, mut b) = (range_ns, grid.step_ns);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        Some(a)
    }

    /// An empty one for the same result; see [`Self::merge`].
    pub(crate) fn sibling(&self, charged: &Arc<crate::counts::Charged>) -> Self {
        Self {
            windows: self.windows,
            totals: self.totals,
            key: self.key.clone(),
            unwrap: self.unwrap,
            filters: Vec::new(),
            groups: Vec::new(),
            known: FxHashMap::default(),
            buffer: String::new(),
            budget: self.budget,
            charged: Some(Arc::clone(charged)),
        }
    }

    /// Takes what a sibling gathered.
    pub(crate) fn merge(&mut self, other: Self) {
        let steps = self.windows.grid.steps as u64;
        let mut groups: Vec<Option<Group>> = other.groups.into_iter().map(Some).collect();
        #[expect(clippy::iter_over_hash_type, reason = "sums do not depend on the order")]
        for (key, at) in other.known {
            let Some(group) = groups[at].take() else { continue };
            let Some(own) = self.known.get(&key).copied() else {
                self.known.insert(key, self.groups.len());
                self.groups.push(group);
                continue;
            };
            self.budget.release_samples(steps);
            if let (Kept::Totals { counts, sums }, Kept::Totals { counts: more_counts, sums: more_sums }) =
                (&mut self.groups[own].kept, group.kept)
            {
                counts.iter_mut().zip(more_counts).for_each(|(a, b)| *a += b);
                sums.iter_mut().zip(more_sums).for_each(|(a, b)| *a += b);
            }
        }
    }

    /// First and last step whose window holds the time, if any does.
    pub(crate) fn steps_of(&self, time_ns: i64) -> Option<(usize, usize)> {
        self.windows.of(time_ns)
    }

    pub(crate) fn add(&mut self, time_ns: i64, bytes: usize, labels: &mut LineLabels) -> Result<(), Error> {
        let Some((first, last)) = self.windows.of(time_ns) else {
            return Ok(());
        };
        let value = match self.unwrap {
            None => bytes as f64,
            Some(unwrap) => match unwrapped(unwrap, labels) {
                Some(value) => value,
                None => return Ok(()),
            },
        };
        if !self.filters.iter().all(|f| f.passes(labels)) {
            return Ok(());
        }
        if let Some(error) = labels.error() {
            let shown = Labels::from_pairs(labels.all().filter(|(_, v)| !v.is_empty()));
            return Err(Error::Pipeline { error: error.to_owned(), series: shown.to_string() });
        }
        let at = self.group(labels)?;
        match &mut self.groups[at].kept {
            Kept::Totals { .. } => self.count(at, (first, last), 1.0, value),
            Kept::Samples(samples) => {
                self.budget.charge_samples(1)?;
                samples.push((time_ns, value));
            }
        }
        Ok(())
    }

    /// Adds lines and their sum to a group of totals at the steps from first to last.
    pub(crate) fn count(&mut self, at: usize, (first, last): (usize, usize), lines: f64, sum: f64) {
        if let Kept::Totals { counts, sums } = &mut self.groups[at].kept {
            counts[first] += lines;
            sums[first] += sum;
            if last + 1 < counts.len() {
                counts[last + 1] -= lines;
                sums[last + 1] -= sum;
            }
        }
    }

    pub(crate) fn group(&mut self, labels: &LineLabels) -> Result<usize, Error> {
        let mut pairs: Vec<(&str, &str)> = match &self.key {
            Key::By(names) => names
                .iter()
                .filter_map(|name| labels.get(name).filter(|v| !v.is_empty()).map(|v| (name.as_str(), v)))
                .collect(),
            Key::All | Key::Without(_) => {
                let hidden = |name: &str| {
                    self.unwrap.is_some_and(|u| u.label == name)
                        || matches!(&self.key, Key::Without(names) if names.iter().any(|n| n == name))
                };
                labels.all().filter(|(n, v)| !v.is_empty() && !hidden(n)).collect()
            }
        };
        pairs.sort_unstable();
        pairs.dedup_by(|b, a| a.0 == b.0);
        self.buffer.clear();
        for (name, value) in &pairs {
            for part in [name, value] {
                self.buffer.push_str(part);
                self.buffer.push('\u{0}');
            }
        }
        if let Some(at) = self.known.get(self.buffer.as_str()) {
            return Ok(*at);
        }
        let labels = Labels::from_sorted(pairs);
        let steps = self.windows.grid.steps;
        // Of those that fold side by side each keeps its own totals of a series, which counts once.
        if self.charged.as_ref().is_none_or(|charged| charged.insert(&labels)) {
            self.budget.charge_series(1)?;
        }
        let kept = if self.totals {
            self.budget.charge_samples(steps as u64)?;
            Kept::Totals { counts: vec![0.0; steps], sums: vec![0.0; steps] }
        } else {
            Kept::Samples(Vec::new())
        };
        self.groups.push(Group { labels, kept });
        self.known.insert(self.buffer.clone(), self.groups.len() - 1);
        Ok(self.groups.len() - 1)
    }
}

/// The value of the label; without one the line does not count.
fn unwrapped(unwrap: &Unwrap, labels: &mut LineLabels) -> Option<f64> {
    let text = labels.get(&unwrap.label).filter(|t| !t.is_empty())?;
    let value = match unwrap.conversion {
        Conversion::Number => text.parse().ok(),
        Conversion::Duration => trefoil_template::go_time::parse_duration(text).map(|ns| ns as f64 / 1e9),
        Conversion::Bytes => units::parse_bytes(text).map(|b| b as f64),
    };
    if value.is_none() {
        let details = format!("label {}: {text:?} is no value to unwrap", unwrap.label);
        labels.set_error(EXTRACTION_ERROR, details);
    }
    Some(value.unwrap_or(0.0))
}

/// 1 at the steps without any line; labels are those that the selector fixes.
fn absent(groups: &[Group], matchers: &[Matcher], steps: usize) -> Vec<Series> {
    let mut present = vec![false; steps];
    for group in groups {
        if let Kept::Totals { counts, .. } = &group.kept {
            let mut count = 0.0;
            for (step, change) in counts.iter().enumerate() {
                count += change;
                present[step] |= count > 0.0;
            }
        }
    }
    let fixed = matchers
        .iter()
        .filter(|m| m.op == MatchOp::Equal && matchers.iter().filter(|other| other.name == m.name).count() == 1);
    let labels = Labels::from_pairs(fixed.map(|m| (m.name.as_str(), m.value.as_str())));
    let points = Points::from_floats(present.iter().map(|p| if *p { ABSENT } else { 1.0 }).collect());
    if points.is_void() { Vec::new() } else { vec![Series::new(labels, points)] }
}

fn column(kept: &Kept, aggregation: &RangeAggregation, windows: &Windows) -> Vec<f64> {
    let seconds = aggregation.range_ns as f64 / 1e9;
    match kept {
        Kept::Totals { counts, sums } => {
            let (mut count, mut sum) = (0.0, 0.0);
            counts
                .iter()
                .zip(sums)
                .map(|(dc, ds)| {
                    count += dc;
                    sum += ds;
                    match aggregation.op {
                        _ if count <= 0.0 => ABSENT,
                        RangeOp::Rate => count / seconds,
                        RangeOp::Bytes => sum,
                        RangeOp::BytesRate => sum / seconds,
                        _ => count,
                    }
                })
                .collect()
        }
        Kept::Samples(samples) => {
            let (mut from, mut to) = (0, 0);
            (0..windows.grid.steps)
                .map(|step| {
                    let (start, end) = windows.bounds(step);
                    while samples.get(to).is_some_and(|(t, _)| *t <= end) {
                        to += 1;
                    }
                    while from < to && samples[from].0 <= start {
                        from += 1;
                    }
                    match &samples[from..to] {
                        [] => ABSENT,
                        window => reduce(aggregation, window, (start, end), seconds),
                    }
                })
                .collect()
        }
    }
}

/// One number of the samples of a window, of which there is at least one.
fn reduce(aggregation: &RangeAggregation, window: &[(i64, f64)], bounds: (i64, i64), seconds: f64) -> f64 {
    let values = || window.iter().map(|(_, v)| *v);
    match aggregation.op {
        RangeOp::Sum => values().sum(),
        RangeOp::Rate => values().sum::<f64>() / seconds,
        RangeOp::Avg => values().sum::<f64>() / window.len() as f64,
        RangeOp::Min => values().fold(f64::NAN, f64::min),
        RangeOp::Max => values().fold(f64::NAN, f64::max),
        RangeOp::Stdvar => variance(window),
        RangeOp::Stddev => variance(window).sqrt(),
        RangeOp::Quantile => quantile(aggregation.parameter.unwrap_or(f64::NAN), &mut values().collect::<Vec<f64>>()),
        RangeOp::First => window[0].1,
        RangeOp::Last => window[window.len() - 1].1,
        RangeOp::RateCounter => counter_rate(window, bounds, seconds),
        RangeOp::Count | RangeOp::Bytes | RangeOp::BytesRate | RangeOp::Absent => window.len() as f64,
    }
}

/// Population variance by Welford's method.
fn variance(window: &[(i64, f64)]) -> f64 {
    let (mut mean, mut squares) = (0.0, 0.0);
    for (i, (_, value)) in window.iter().enumerate() {
        let delta = value - mean;
        mean += delta / (i + 1) as f64;
        squares += delta * (value - mean);
    }
    squares / window.len() as f64
}

/// The increase a second, with resets added back and extrapolated to the window as Prometheus' `rate` does.
fn counter_rate(window: &[(i64, f64)], (start, end): (i64, i64), seconds: f64) -> f64 {
    let [first, .., last] = window else {
        return 0.0;
    };
    let resets: f64 = window.windows(2).filter(|w| w[1].1 < w[0].1).map(|w| w[0].1).sum();
    let increase = last.1 - first.1 + resets;
    let span = |a: i64, b: i64| (b - a) as f64 / 1e9;
    let sampled = span(first.0, last.0);
    let average = sampled / (window.len() - 1) as f64;
    let mut to_start = span(start, first.0);
    let to_end = span(last.0, end);
    if increase > 0.0 && first.1 >= 0.0 {
        // A counter cannot have been below zero.
        to_start = to_start.min(sampled * (first.1 / increase));
    }
    let threshold = average * 1.1;
    let extended = |gap: f64| if gap >= threshold { average / 2.0 } else { gap };
    let interval = sampled + extended(to_start) + extended(to_end);
    increase * (interval / sampled) / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_open_at_the_left() {
        let grid = Grid { start_ns: 20, step_ns: 20, steps: 4 };
        let windows = Windows { grid, range_ns: 20, offset_ns: 0 };
        assert_eq!(windows.of(0), None);
        assert_eq!(windows.of(1), Some((0, 0)));
        assert_eq!(windows.of(20), Some((0, 0)));
        assert_eq!(windows.of(21), Some((1, 1)));
        assert_eq!(windows.of(81), None);
        assert_eq!(windows.scanned(), NanoRange::new(1, 81));
        let wide = Windows { range_ns: 50, ..windows };
        assert_eq!(wide.of(21), Some((1, 2)));
        let sparse = Windows { range_ns: 5, ..windows };
        assert_eq!(sparse.of(30), None);
        let shifted = Windows { offset_ns: 20, ..windows };
        assert_eq!(shifted.of(20), Some((1, 1)));
    }
}
