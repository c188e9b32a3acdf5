//! Reading series: selection, the instant selector, and work over many series on all cores.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Instant;

use trefoil_model::{FloatHistogram, SampleBuffer, SelectRequest, SelectedSeries, TimeRange, is_stale_nan};

use super::eval::Evaluator;
use super::meter::Held;
use super::window::{Samples, Walk, mark_resets};
use super::{Context, EngineError, rolled};
use crate::algebra::series::HISTOGRAM_BYTES;
use crate::algebra::{Aggregator, AlgebraError, Points, Series};
use crate::annotations::Annotations;
use crate::ast::{At, VectorSelector};

/// From this many series on, work is spread over cores.
const PARALLEL_SERIES_MIN: usize = 64;
/// Series handed to a core at once, and as few when there are not many.
const CHUNK_SERIES: std::ops::RangeInclusive<usize> = 8..=32;
/// Into how many parts an aggregation over many series is split.
const AGGREGATE_PARTS: usize = 16;
/// Series evaluated before an aggregation takes them up.
pub(super) const STREAM_SERIES: usize = 1024;

/// Buffers that one thread reuses from series to series.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) buffer: SampleBuffer,
    pub(super) samples: Samples,
    pub(super) annotations: Annotations,
}

impl Scratch {
    /// Fills the buffer. `presence_only`: values are not looked at.
    pub(super) fn read(
        &mut self,
        series: &SelectedSeries,
        range: TimeRange,
        presence_only: bool,
    ) -> Result<(), EngineError> {
        self.buffer.clear();
        self.buffer.values_unneeded = presence_only;
        let read = series.source.read(range, &mut self.buffer);
        self.buffer.values_unneeded = false;
        Ok(read?)
    }
}

/// What a selected series takes besides its labels: where its samples are.
const SELECTED_BYTES: u64 = 256;
/// Points of series that are made before an aggregation takes them up.
const STREAM_POINTS: usize = 1 << 19;

/// How many series are evaluated before an aggregation takes them up.
pub(super) fn stream_series(steps: usize) -> usize {
    (STREAM_POINTS / steps.max(1)).clamp(PARALLEL_SERIES_MIN, STREAM_SERIES)
}

/// Makes an empty aggregation.
pub(super) type AggregatorFn<'f> = dyn Fn() -> Result<Aggregator<'f>, AlgebraError> + Sync + 'f;

/// Does `work` on `threads` threads at once, of which the caller's is one: it begins without waiting for another to wake
/// up.
fn on_all_threads(threads: usize, work: impl Fn() + Sync) {
    rayon::in_place_scope(|scope| {
        (1..threads).for_each(|_| scope.spawn(|_| work()));
        work();
    });
}

/// Evaluates one series; `None` leaves it out.
pub(super) type SeriesFn<'f> = dyn Fn(&SelectedSeries, &mut Scratch) -> Result<Option<Series>, EngineError> + Sync + 'f;

impl Context<'_> {
    /// The series of a selector with samples in `range`.
    pub(super) fn select(
        &self,
        selector: &VectorSelector,
        range: TimeRange,
    ) -> Result<Vec<SelectedSeries>, EngineError> {
        let began = Instant::now();
        self.budget.check()?;
        let request = SelectRequest { tenant: self.tenant, matchers: selector.matchers.clone(), range };
        let mark = self.meter.used();
        let selected = self.reader.select(&request, self.budget)?;
        // Stores that know better have taken more as they went.
        let least: u64 = selected.iter().map(|s| s.labels.heap_bytes() as u64 + SELECTED_BYTES).sum();
        let taken = self.meter.used().saturating_sub(mark);
        self.meter.take(least.saturating_sub(taken))?;
        self.series.fetch_add(selected.len() as u64, Ordering::Relaxed);
        let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.select_nanos.fetch_add(nanos, Ordering::Relaxed);
        Ok(selected)
    }

    /// What a series takes when it is made of float samples only.
    pub(super) fn ahead(&self, series: &SelectedSeries, steps: usize) -> u64 {
        Series::bytes_of(&series.labels, steps) as u64
    }

    /// Holds the memory of samples that were read.
    pub(super) fn hold_samples(&self, buffer: &SampleBuffer) -> Result<Held<'_>, EngineError> {
        let columns = (buffer.times.capacity() + buffer.values.capacity() + buffer.starts.capacity()) * 8;
        let mut last = None;
        let histograms = buffer.histograms.iter().map(|(_, h)| {
            let known = last.replace(Arc::as_ptr(h)) == Some(Arc::as_ptr(h));
            if known { 0 } else { HISTOGRAM_BYTES + h.heap_bytes() }
        });
        let bytes = columns + histograms.sum::<usize>() + buffer.histograms.capacity() * 16;
        Ok(self.meter.hold(bytes as u64)?)
    }

    /// Takes what a series needs beyond `ahead`, which was taken before it was made.
    fn take_rest(&self, series: Option<&Series>, ahead: u64) -> Result<u64, EngineError> {
        let bytes = series.map_or(0, |s| s.bytes() as u64);
        if bytes > ahead {
            self.meter.take(bytes - ahead)?;
        } else {
            self.meter.give(ahead - bytes);
        }
        Ok(bytes)
    }

    /// Applies `f` to each series, in order, on as many cores as pay. What comes out is charged to the budget.
    pub(super) fn map_series(
        &self,
        selected: &[SelectedSeries],
        steps: usize,
        f: &SeriesFn<'_>,
    ) -> Result<Vec<Series>, EngineError> {
        let run = |part: &[SelectedSeries]| -> Result<Vec<Series>, EngineError> {
            let mut scratch = Scratch::default();
            let mut out = Vec::with_capacity(part.len());
            for series in part {
                self.budget.check()?;
                let ahead = self.ahead(series, steps);
                self.meter.take(ahead)?;
                let made = f(series, &mut scratch)?;
                self.take_rest(made.as_ref(), ahead)?;
                if let Some(s) = made {
                    self.charge(s.points.sample_weight())?;
                    out.push(s);
                }
            }
            if !scratch.annotations.is_empty() {
                self.annotations.lock().expect("no thread panics while it adds a remark").extend(scratch.annotations);
            }
            Ok(out)
        };
        if selected.len() < PARALLEL_SERIES_MIN {
            return run(selected);
        }
        let threads = rayon::current_num_threads();
        let size = selected.len().div_ceil(4 * threads).clamp(*CHUNK_SERIES.start(), *CHUNK_SERIES.end());
        let chunks: Vec<_> = selected.chunks(size).collect();
        let made: Vec<OnceLock<Result<Vec<Series>, EngineError>>> = chunks.iter().map(|_| OnceLock::new()).collect();
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        on_all_threads(threads.min(chunks.len()), || {
            while !failed.load(Ordering::Relaxed)
                && let at = next.fetch_add(1, Ordering::Relaxed)
                && let Some(chunk) = chunks.get(at)
            {
                let result = run(chunk);
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                made[at].get_or_init(|| result);
            }
        });
        let mut out = Vec::with_capacity(selected.len());
        for part in made.into_iter().filter_map(OnceLock::into_inner) {
            out.append(&mut part?);
        }
        Ok(out)
    }

    fn each_series(
        &self,
        part: &[SelectedSeries],
        steps: usize,
        f: &SeriesFn<'_>,
        mut take: impl FnMut(Series) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut scratch = Scratch::default();
        for series in part {
            self.budget.check()?;
            let ahead = self.ahead(series, steps);
            self.meter.take(ahead)?;
            let made = f(series, &mut scratch)?;
            let bytes = self.take_rest(made.as_ref(), ahead)?;
            if let Some(s) = made {
                take(s)?;
            }
            self.meter.give(bytes);
        }
        if !scratch.annotations.is_empty() {
            self.annotations.lock().expect("no thread panics while it adds a remark").extend(scratch.annotations);
        }
        Ok(())
    }

    /// Makes and aggregates series on all cores. The parts do not depend on the number of cores, so that sums come
    /// out the same everywhere.
    pub(super) fn aggregate_parts<'r>(
        &self,
        selected: &[SelectedSeries],
        steps: usize,
        f: &SeriesFn<'_>,
        aggregator: &AggregatorFn<'r>,
        into: &mut Aggregator<'r>,
    ) -> Result<(), EngineError> {
        if selected.is_empty() {
            return Ok(());
        }
        let parts: Vec<_> = selected.chunks(selected.len().div_ceil(AGGREGATE_PARTS)).collect();
        let threads = rayon::current_num_threads().clamp(1, parts.len());
        let made = Mutex::new(Made { begun: 0, taken_up: 0, waiting: Vec::new(), error: None, into });
        let moved_on = Condvar::new();
        let work = || {
            let lock = || made.lock().expect("no thread panics while it takes up a part");
            loop {
                let at = {
                    let mut made = lock();
                    loop {
                        if made.error.is_some() || made.begun == parts.len() {
                            return;
                        }
                        // Each part may have all groups: few are held at once.
                        if made.begun <= made.taken_up + threads {
                            break;
                        }
                        // The part that is waited for is being made: nothing in it waits for another thread.
                        made = moved_on.wait(made).expect("no thread panics while it takes up a part");
                    }
                    made.begun += 1;
                    made.begun - 1
                };
                let part = aggregator().map_err(EngineError::from).and_then(|mut own| {
                    self.each_series(parts[at], steps, f, |s| Ok(own.push(s)?))?;
                    Ok(own)
                });
                lock().take_up(at, part);
                moved_on.notify_all();
            }
        };
        on_all_threads(threads, work);
        let error = made.into_inner().expect("no thread panics while it takes up a part").error;
        error.map_or(Ok(()), Err)
    }
}

/// Parts of an aggregation, taken up in order.
struct Made<'m, 'r> {
    begun: usize,
    taken_up: usize,
    /// Parts whose turn has not come.
    waiting: Vec<(usize, Aggregator<'r>)>,
    error: Option<EngineError>,
    into: &'m mut Aggregator<'r>,
}

impl<'r> Made<'_, 'r> {
    fn take_up(&mut self, at: usize, part: Result<Aggregator<'r>, EngineError>) {
        match part {
            Ok(part) => self.waiting.push((at, part)),
            Err(e) => {
                self.error.get_or_insert(e);
            }
        }
        while let Some(next) = self.waiting.iter().position(|(at, _)| *at == self.taken_up) {
            self.into.merge(self.waiting.swap_remove(next).1);
            self.taken_up += 1;
        }
    }
}

/// The half-open range of the samples with `after < t <= until`.
pub(super) fn read_range(after: i64, until: i64) -> TimeRange {
    TimeRange::new(after.saturating_add(1), until.saturating_add(1))
}

/// The time before a range in which a first histogram's predecessor is looked for.
pub(super) fn time_before(range: TimeRange, lookback: i64) -> TimeRange {
    TimeRange::new(range.start_ms.saturating_sub(lookback), range.start_ms)
}

/// [`mark_resets`] with the sample that the series has last in `before`.
pub(super) fn mark_first_reset(
    series: &SelectedSeries,
    before: TimeRange,
    buffer: &mut SampleBuffer,
) -> Result<(), EngineError> {
    let Some((first, _)) = buffer.histograms.first() else { return Ok(()) };
    let mut earlier = SampleBuffer::default();
    if *first == 0 {
        series.source.read(before, &mut earlier)?;
    }
    let last = earlier.histograms.last().filter(|(at, _)| *at as usize + 1 == earlier.times.len());
    mark_resets(buffer, last.map(|(_, h)| &**h));
    Ok(())
}

impl Evaluator<'_> {
    /// First and last time at which a selector is evaluated, `@` and offset applied.
    pub(super) fn selector_times(&self, at: Option<At>, offset_ms: i64) -> (i64, i64) {
        match at {
            Some(At::Time(t)) => (t - offset_ms, t - offset_ms),
            _ => (self.grid.start_ms - offset_ms, self.grid.end_ms() - offset_ms),
        }
    }

    /// The series of an instant selector and what makes a series of each.
    pub(super) fn vector_plan<'f>(
        &'f self,
        v: &'f VectorSelector,
    ) -> Result<(Vec<SelectedSeries>, Box<SeriesFn<'f>>), EngineError> {
        let lookback = self.context.options.lookback_ms;
        let (first, last) = self.selector_times(v.at, v.offset.ms());
        let range = self.context.instant_range(read_range(first.saturating_sub(lookback), last));
        let before = v.stats_only.then(|| time_before(range, lookback));
        let selected = self.context.select(v, before.map_or(range, |b| TimeRange::new(b.start_ms, range.end_ms)))?;
        let f = move |series: &SelectedSeries, scratch: &mut Scratch| {
            scratch.read(series, range, v.presence_only)?;
            if let Some(before) = before {
                mark_first_reset(series, before, &mut scratch.buffer)?;
            }
            let buffer = &scratch.buffer;
            self.context.count_read(buffer.len() as u64, 0);
            if buffer.is_empty() {
                return Ok(None);
            }
            self.context.charge(buffer.len() as u64)?;
            let _held = self.context.hold_samples(buffer)?;
            let points = if v.at.is_some() {
                self.instant_points(buffer, first, 1, lookback, v.stats_only).broadcast(self.grid.count)
            } else {
                self.instant_points(buffer, first, self.grid.count, lookback, v.stats_only)
            };
            self.context.release(buffer.len() as u64);
            Ok((!points.is_void()).then(|| Series::new(series.labels.clone(), points)))
        };
        Ok((selected, Box::new(f)))
    }

    /// At each step the last sample not older than `lookback`, unless it is a stale marker. `stats_only`: the buckets of
    /// histograms are not looked at.
    fn instant_points(
        &self,
        buffer: &SampleBuffer,
        first_ms: i64,
        count: usize,
        lookback: i64,
        stats_only: bool,
    ) -> Points {
        let mut points = Points::absent(count);
        let mut total = 0;
        each_instant(buffer, first_ms, self.grid.step_ms, count, lookback, |step, at, histogram| match histogram {
            Some(h) => {
                total += if stats_only { BARE_HISTOGRAM } else { counted(&buffer.histograms[h].1) };
                points.set_histogram(step, buffer.histograms[h].1.clone());
            }
            None => {
                total += 1;
                points.floats_mut()[step] = buffer.values[at];
            }
        });
        self.context.count_read(0, total);
        self.context.count_seen(total);
        points
    }

    /// The times in seconds (with `starts` the start timestamps) of the samples that an instant selector sees.
    pub(super) fn sample_times(&self, v: &VectorSelector, starts: bool) -> Result<Vec<Series>, EngineError> {
        let lookback = self.context.options.lookback_ms;
        let (first, last) = self.selector_times(v.at, v.offset.ms());
        let range = self.context.instant_range(read_range(first.saturating_sub(lookback), last));
        let selected = self.context.select(v, range)?;
        let f = |series: &SelectedSeries, scratch: &mut Scratch| {
            scratch.buffer.clear();
            series.source.read(range, &mut scratch.buffer)?;
            let buffer = &scratch.buffer;
            let _held = self.context.hold_samples(buffer)?;
            let count = if v.at.is_some() { 1 } else { self.grid.count };
            let (mut points, mut total) = (Points::absent(count), 0);
            each_instant(buffer, first, self.grid.step_ms, count, lookback, |step, at, _| {
                let t = if starts { buffer.starts.get(at).copied().unwrap_or(0) } else { buffer.times[at] };
                points.set_float(step, t as f64 / 1000.0);
                total += 1;
            });
            self.context.count_read(0, total);
            self.context.count_seen(total);
            let points = if v.at.is_some() { points.broadcast(self.grid.count) } else { points };
            Ok((!points.is_void()).then(|| Series::new(series.labels.clone(), points)))
        };
        self.context.map_series(&selected, self.grid.count, &f)
    }
}

/// As how many samples the statistics of the reference count a histogram: its bytes in the reference's memory, with its
/// time, in units of 16 bytes.
pub(super) fn counted(h: &FloatHistogram) -> u64 {
    let words = h.positive_spans.len()
        + h.negative_spans.len()
        + h.positive_buckets.len()
        + h.negative_buckets.len()
        + h.custom_values.len();
    BARE_HISTOGRAM + words as u64 / 2
}

/// As how many samples a histogram without buckets is counted.
const BARE_HISTOGRAM: u64 = 11;

/// As how many samples all of a buffer are counted, without stale markers.
pub(super) fn counted_all(buffer: &SampleBuffer) -> u64 {
    let histograms: u64 = buffer.histograms.iter().filter(|(_, h)| !h.is_stale()).map(|(_, h)| counted(h)).sum();
    let stale: usize = buffer.values.iter().map(|v| usize::from(is_stale_nan(*v))).sum();
    let stale_histograms = buffer.histograms.iter().filter(|(_, h)| h.is_stale()).count();
    let floats = buffer.len() - buffer.histograms.len() - stale.saturating_sub(stale_histograms);
    floats as u64 + histograms
}

/// Calls `f(step, index of the sample, index of its histogram)` for each step that sees a sample.
fn each_instant(
    buffer: &SampleBuffer,
    first_ms: i64,
    step_ms: i64,
    count: usize,
    lookback: i64,
    mut f: impl FnMut(usize, usize, Option<usize>),
) {
    let times = &buffer.times;
    let mut walk = Walk::default();
    let mut next_histogram = 0;
    let reaches = if buffer.rollups.is_empty() { Vec::new() } else { rolled::reaches(buffer) };
    let mut next_reach = 0;
    for step in 0..count {
        let t = first_ms + step_ms * step as i64;
        let Some(at) = walk.past(times, t).checked_sub(1) else { continue };
        let lookback =
            if reaches.is_empty() { lookback } else { rolled::lookback_of(&reaches, &mut next_reach, at, lookback) };
        if times[at] <= t.saturating_sub(lookback) || is_stale_nan(buffer.values[at]) {
            continue;
        }
        let histogram = if buffer.histograms.is_empty() {
            None
        } else {
            while buffer.histograms.get(next_histogram).is_some_and(|h| (h.0 as usize) < at) {
                next_histogram += 1;
            }
            buffer.histograms.get(next_histogram).filter(|h| h.0 as usize == at).map(|_| next_histogram)
        };
        f(step, at, histogram);
    }
}
