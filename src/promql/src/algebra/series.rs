//! Series on a grid of steps: the data that the algebra works on.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_model::{FloatHistogram, Labels, STALE_NAN, is_stale_nan};

use super::AlgebraError;

/// Stands in [`Points::floats`] where a step has no float. No arithmetic yields these bits: the stale marker is
/// a signalling NaN, and operations on it give a quiet one.
pub const ABSENT: f64 = STALE_NAN;

/// What a series takes besides its labels and values: its place in lists and tables.
pub(crate) const SERIES_BYTES: usize = 160;
/// What a histogram takes besides its buckets.
pub(crate) const HISTOGRAM_BYTES: usize = size_of::<FloatHistogram>() + 16;

/// A value at one step.
#[derive(Debug, Clone, PartialEq)]
pub enum Point {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// The values of one series, one slot a step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Points {
    floats: Vec<f64>,
    /// Empty when there is no histogram at all, else as long as `floats`. A slot with a histogram has no float.
    histograms: Vec<Option<Arc<FloatHistogram>>>,
}

impl Points {
    /// No value at any of `steps` steps.
    pub fn absent(steps: usize) -> Self {
        Self { floats: vec![ABSENT; steps], histograms: Vec::new() }
    }

    /// Takes a column in which [`ABSENT`] marks steps without a value.
    pub fn from_floats(floats: Vec<f64>) -> Self {
        Self { floats, histograms: Vec::new() }
    }

    /// Takes a column of options.
    pub fn from_options(values: &[Option<f64>]) -> Self {
        Self::from_floats(values.iter().map(|v| v.unwrap_or(ABSENT)).collect())
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.floats.len()
    }

    /// True for a grid without steps.
    pub fn is_empty(&self) -> bool {
        self.floats.is_empty()
    }

    /// The float column; [`ABSENT`] where there is no float.
    pub fn floats(&self) -> &[f64] {
        &self.floats
    }

    /// The float column, to change in place; slots that hold a histogram must stay [`ABSENT`].
    pub fn floats_mut(&mut self) -> &mut [f64] {
        &mut self.floats
    }

    /// True when some step may hold a histogram.
    pub fn has_histograms(&self) -> bool {
        !self.histograms.is_empty()
    }

    /// The float at a step.
    pub fn float(&self, step: usize) -> Option<f64> {
        let v = self.floats[step];
        (!is_stale_nan(v)).then_some(v)
    }

    /// The histogram at a step.
    pub fn histogram(&self, step: usize) -> Option<&Arc<FloatHistogram>> {
        self.histograms.get(step).and_then(Option::as_ref)
    }

    /// The value at a step.
    pub fn get(&self, step: usize) -> Option<Point> {
        match self.histogram(step) {
            Some(h) => Some(Point::Histogram(h.clone())),
            None => self.float(step).map(Point::Float),
        }
    }

    /// True when the step has a value.
    pub fn is_present(&self, step: usize) -> bool {
        !is_stale_nan(self.floats[step]) || self.histogram(step).is_some()
    }

    /// Sets or clears a step.
    pub fn set(&mut self, step: usize, point: Option<Point>) {
        match point {
            Some(Point::Float(v)) => self.set_float(step, v),
            Some(Point::Histogram(h)) => self.set_histogram(step, h),
            None => self.clear(step),
        }
    }

    /// Sets a float.
    pub fn set_float(&mut self, step: usize, v: f64) {
        self.floats[step] = if is_stale_nan(v) { f64::NAN } else { v };
        if let Some(slot) = self.histograms.get_mut(step) {
            *slot = None;
        }
    }

    /// Sets a histogram.
    pub fn set_histogram(&mut self, step: usize, h: Arc<FloatHistogram>) {
        if self.histograms.is_empty() {
            self.histograms.resize(self.floats.len(), None);
        }
        self.floats[step] = ABSENT;
        self.histograms[step] = Some(h);
    }

    /// Removes the value of a step.
    pub fn clear(&mut self, step: usize) {
        self.floats[step] = ABSENT;
        if let Some(slot) = self.histograms.get_mut(step) {
            *slot = None;
        }
    }

    /// True when no step has a value.
    pub fn is_void(&self) -> bool {
        self.floats.iter().all(|v| is_stale_nan(*v)) && self.histograms.iter().all(Option::is_none)
    }

    /// Number of samples as the sample budget counts them (a histogram weighs as much as its buckets).
    pub fn sample_weight(&self) -> u64 {
        let floats = self.floats.iter().filter(|v| !is_stale_nan(**v)).count() as u64;
        let histograms: u64 = self.histograms.iter().flatten().map(|h| 1 + h.heap_bytes() as u64 / 16).sum();
        floats + histograms
    }

    /// Bytes on the heap. A histogram that stands at neighbouring steps counts once.
    pub fn heap_bytes(&self) -> usize {
        self.floats.capacity() * size_of::<f64>() + self.histogram_bytes()
    }

    /// Bytes on the heap that histograms take.
    pub fn histogram_bytes(&self) -> usize {
        let mut last: Option<&Arc<FloatHistogram>> = None;
        let mut bytes = self.histograms.capacity() * size_of::<usize>();
        for h in self.histograms.iter().flatten() {
            if !last.is_some_and(|l| Arc::ptr_eq(l, h)) {
                bytes += HISTOGRAM_BYTES + h.heap_bytes();
            }
            last = Some(h);
        }
        bytes
    }

    /// The values with their steps.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Point)> + '_ {
        (0..self.len()).filter_map(|i| self.get(i).map(|p| (i, p)))
    }

    /// The same value of step 0 at each of `steps` steps.
    pub fn broadcast(&self, steps: usize) -> Self {
        match self.get(0) {
            Some(Point::Float(v)) => Self::from_floats(vec![v; steps]),
            Some(Point::Histogram(h)) => Self { floats: vec![ABSENT; steps], histograms: vec![Some(h); steps] },
            None => Self::absent(steps),
        }
    }

    /// Applies `f` to every float and removes every histogram.
    pub fn map_floats(&mut self, mut f: impl FnMut(f64) -> f64) {
        self.histograms = Vec::new();
        for v in &mut self.floats {
            if !is_stale_nan(*v) {
                *v = f(*v);
            }
        }
    }
}

/// A label set with its values on the grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Labels.
    pub labels: Labels,
    /// Values, one slot a step of the grid.
    pub points: Points,
    /// True when `__name__` (with `__type__`, `__unit__`) is to be removed at the end of the query.
    pub drop_name: bool,
}

impl Series {
    /// A series that keeps its name.
    pub fn new(labels: Labels, points: Points) -> Self {
        Self { labels, points, drop_name: false }
    }

    /// Bytes that a series of these labels takes with a float at each of `steps` steps.
    pub fn bytes_of(labels: &Labels, steps: usize) -> usize {
        SERIES_BYTES + labels.heap_bytes() + steps * size_of::<f64>()
    }

    /// Bytes that the series takes.
    pub fn bytes(&self) -> usize {
        SERIES_BYTES + self.labels.heap_bytes() + self.points.heap_bytes()
    }

    /// Removes the name now, or marks it for later.
    pub fn remove_name(&mut self, delayed: bool) {
        if delayed {
            self.drop_name = true;
        } else {
            self.labels = without_metadata(&self.labels);
        }
    }
}

/// The labels without `__name__`, `__type__` and `__unit__`.
pub fn without_metadata(labels: &Labels) -> Labels {
    if labels.iter().any(|(n, _)| is_metadata_label(n)) {
        labels.filter(|n| !is_metadata_label(n))
    } else {
        labels.clone()
    }
}

/// True for the labels that describe the metric rather than the series.
pub fn is_metadata_label(name: &str) -> bool {
    matches!(name, "__name__" | "__type__" | "__unit__")
}

/// Ends delayed name removal: removes the names of marked series and merges what then has equal labels.
///
/// Errors when two such series have a value at the same step. Series without any value are left out.
pub fn cleanup_names(series: Vec<Series>) -> Result<Vec<Series>, AlgebraError> {
    let mut out: Vec<Series> = Vec::with_capacity(series.len());
    for mut s in series {
        if s.points.is_void() {
            continue;
        }
        if s.drop_name {
            s.labels = without_metadata(&s.labels);
            s.drop_name = false;
        }
        out.push(s);
    }
    merge_equal(out)
}

/// What [`merge_equal`] takes for each series, to be taken by who calls it.
pub(crate) const MERGE_BYTES: usize = 128;

/// Merges series with equal labels; errors when two have a value at the same step.
pub fn merge_equal(series: Vec<Series>) -> Result<Vec<Series>, AlgebraError> {
    let mut seen: FxHashMap<Labels, usize> = FxHashMap::default();
    seen.reserve(series.len());
    let mut out: Vec<Series> = Vec::with_capacity(series.len());
    for s in series {
        match seen.entry(s.labels.clone()) {
            std::collections::hash_map::Entry::Vacant(e) => {
                e.insert(out.len());
                out.push(s);
            }
            std::collections::hash_map::Entry::Occupied(e) => {
                let into = &mut out[*e.get()].points;
                for (i, p) in s.points.iter() {
                    if into.is_present(i) {
                        return Err(AlgebraError::new("vector cannot contain metrics with the same labelset"));
                    }
                    into.set(i, Some(p));
                }
            }
        }
    }
    Ok(out)
}
