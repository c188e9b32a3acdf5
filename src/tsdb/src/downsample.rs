//! Downsampled stretches: making them, merging them, taking samples out of them; dedup of raw samples.
//!
//! The form is that of [`Rollup`]. A sample inside the bucket of a rollup is *counted*: the rollup's count and sum hold
//! it, or its number of histograms.

mod histograms;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::histograms::{histograms, may_be_reset};
use trefoil_model::{FloatHistogram, Rollup, SampleBuffer, TimeRange, is_stale_nan};

/// A bucket is taken for a gauge's when it has more falls than this, and more than one in [`FALL_SHARE`] samples.
const FALLS_MAX: usize = 2;
/// See [`FALLS_MAX`].
const FALL_SHARE: usize = 8;
/// Stands for the number of histograms in a bucket of which none was dropped.
pub(crate) const AS_MANY_AS_ARE_LEFT: u64 = i64::MAX as u64;

/// A rollup by its time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Timed {
    /// The bucket is `after < t <= until`.
    pub(crate) after: i64,
    pub(crate) until: i64,
    pub(crate) interval_ms: i64,
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) histograms: u64,
    /// Indices of its samples.
    pub(crate) begin: usize,
    pub(crate) end: usize,
}

/// The rollups of a buffer with their times and all their samples.
pub(crate) fn timed(buffer: &SampleBuffer) -> Vec<Timed> {
    let mut before = 0;
    buffer
        .rollups
        .iter()
        .filter_map(|r| {
            let end = r.end as usize;
            let (after, until) = r.bucket(*buffer.times.get(end.checked_sub(1)?)?);
            let begin = buffer.times[..end].partition_point(|t| *t <= after).max(before);
            before = end;
            let Rollup { interval_ms, count, sum, histograms, .. } = *r;
            Some(Timed { after, until, interval_ms, count, sum, histograms, begin, end })
        })
        .collect()
}

/// Gives `out` the rollups that have samples among those from index `from` on.
pub(crate) fn attach(out: &mut SampleBuffer, from: usize, rollups: impl IntoIterator<Item = Timed>) {
    for r in rollups {
        let end = from + out.times[from..].partition_point(|t| *t <= r.until);
        let Timed { interval_ms, count, sum, mut histograms, .. } = r;
        if histograms == AS_MANY_AS_ARE_LEFT {
            let begin = out.times[from..end].partition_point(|t| *t <= r.after) + from;
            histograms = histograms_within(out, begin, end);
        }
        if count + histograms > 0 && end > from && out.times[end - 1] > r.after {
            out.rollups.push(Rollup { end: end as u32, interval_ms, count, sum, histograms });
        }
    }
}

/// Number of the histograms, stale markers not counted, with an index in `begin..end`.
fn histograms_within(buffer: &SampleBuffer, begin: usize, end: usize) -> u64 {
    let place = |index: usize| buffer.histograms.partition_point(|(i, _)| (*i as usize) < index);
    let within = &buffer.histograms[place(begin)..place(end.max(begin))];
    within.iter().filter(|(_, h)| !h.is_stale()).count() as u64
}

/// Walks over the samples of a buffer.
struct Cursor<'a> {
    buffer: &'a SampleBuffer,
    at: usize,
    histogram: usize,
}

impl<'a> Cursor<'a> {
    fn new(buffer: &'a SampleBuffer) -> Self {
        Self { buffer, at: 0, histogram: 0 }
    }

    fn time(&self) -> Option<i64> {
        self.buffer.times.get(self.at).copied()
    }

    fn is_histogram(&self) -> bool {
        self.buffer.histograms.get(self.histogram).is_some_and(|(i, _)| *i as usize == self.at)
    }

    /// The value of a float sample that is not a stale marker.
    fn float(&self) -> Option<f64> {
        let v = self.buffer.values[self.at];
        (!self.is_histogram() && !is_stale_nan(v)).then_some(v)
    }

    /// Adds the sample to what a bucket holds, or takes it out.
    fn count_in(&self, bucket: &mut Timed, is_added: bool) {
        if is_stale_nan(self.buffer.values[self.at]) {
            return;
        }
        if self.is_histogram() {
            bucket.histograms = bucket.histograms.saturating_add_signed(if is_added { 1 } else { -1 });
        } else {
            let v = self.buffer.values[self.at];
            bucket.count = bucket.count.saturating_add_signed(if is_added { 1 } else { -1 });
            bucket.sum += if is_added { v } else { -v };
        }
    }

    fn copy_to(&self, out: &mut SampleBuffer) {
        let (t, start) = (self.buffer.times[self.at], self.buffer.starts.get(self.at).copied().unwrap_or(0));
        if self.is_histogram() {
            out.push_histogram(t, start, Arc::clone(&self.buffer.histograms[self.histogram].1));
        } else {
            out.push_float(t, start, self.buffer.values[self.at]);
        }
    }

    fn advance(&mut self) {
        if self.is_histogram() {
            self.histogram += 1;
        }
        self.at += 1;
    }
}

/// The float samples that are not stale markers: `None` for the others.
fn floats(buffer: &SampleBuffer) -> Vec<Option<f64>> {
    let mut cursor = Cursor::new(buffer);
    (0..buffer.len())
        .map(|_| {
            let v = cursor.float();
            cursor.advance();
            v
        })
        .collect()
}

/// Appends the samples that are to be kept, with these rollups.
fn copy_kept(buffer: &SampleBuffer, keep: &[bool], rollups: impl IntoIterator<Item = Timed>, out: &mut SampleBuffer) {
    let from = out.len();
    let mut cursor = Cursor::new(buffer);
    for keep in keep {
        if *keep {
            cursor.copy_to(out);
        }
        cursor.advance();
    }
    attach(out, from, rollups);
}

/// Merges buffers of which some have rollups; of equal times the sample of the last buffer wins. Raw samples inside a
/// bucket are counted in its rollup; of rollups that lie in each other the coarsest takes up the others.
pub(crate) fn merge_rolled(buffers: &[SampleBuffer], out: &mut SampleBuffer) {
    let spans: Vec<Vec<Timed>> = buffers.iter().map(timed).collect();
    let mut all: Vec<(i64, Timed)> = Vec::new();
    for (buffer, spans) in buffers.iter().zip(&spans) {
        all.extend(spans.iter().map(|s| (buffer.times[s.end - 1], *s)));
    }
    all.sort_by_key(|(_, s)| std::cmp::Reverse(s.interval_ms));
    let mut buckets: BTreeMap<i64, Timed> = BTreeMap::new();
    for (last, span) in all {
        match bucket_at(&mut buckets, last) {
            Some(b) => {
                b.count += span.count;
                b.sum += span.sum;
                b.histograms += span.histograms;
            }
            None => {
                buckets.insert(span.after, span);
            }
        }
    }
    let from = out.len();
    let mut cursors: Vec<Cursor<'_>> = buffers.iter().map(Cursor::new).collect();
    let mut next: Vec<usize> = vec![0; buffers.len()];
    while let Some(t) = cursors.iter().filter_map(Cursor::time).min() {
        let winner = cursors.iter().rposition(|c| c.time() == Some(t)).expect("one cursor has the smallest time");
        for (i, cursor) in cursors.iter_mut().enumerate() {
            if cursor.time() != Some(t) {
                continue;
            }
            while spans[i].get(next[i]).is_some_and(|s| s.end <= cursor.at) {
                next[i] += 1;
            }
            let is_counted = spans[i].get(next[i]).is_some_and(|s| s.begin <= cursor.at);
            if i == winner {
                cursor.copy_to(out);
            }
            if is_counted != (i == winner)
                && let Some(b) = bucket_at(&mut buckets, t)
            {
                cursor.count_in(b, i == winner);
            }
            cursor.advance();
        }
    }
    attach(out, from, buckets.into_values());
}

fn bucket_at(buckets: &mut BTreeMap<i64, Timed>, t: i64) -> Option<&mut Timed> {
    buckets.range_mut(..t).next_back().map(|(_, b)| b).filter(|b| t <= b.until)
}

/// The samples outside the ranges. A bucket that a range cuts keeps count and sum by the share of its time.
pub(crate) fn without(buffer: &SampleBuffer, ranges: &[TimeRange]) -> SampleBuffer {
    let keep: Vec<bool> = buffer.times.iter().map(|t| !ranges.iter().any(|r| r.contains(*t))).collect();
    let mut rollups = timed(buffer);
    let (floats, histograms) =
        if rollups.is_empty() { Default::default() } else { (floats(buffer), histograms(buffer)) };
    for r in &mut rollups {
        // Overlaps of the ranges among each other make this an estimate, as it is anyway.
        let length = (r.until - r.after) as f64;
        let is_cut = ranges.iter().any(|range| range.start_ms <= r.until && range.end_ms.saturating_sub(1) > r.after);
        for range in ranges {
            let cut = range
                .end_ms
                .saturating_sub(1)
                .min(r.until)
                .saturating_sub(range.start_ms.saturating_sub(1).max(r.after));
            if cut > 0 {
                let left = (1.0 - cut as f64 / length).max(0.0);
                r.count = (r.count as f64 * left).round() as u64;
                r.sum *= left;
                r.histograms = (r.histograms as f64 * left).round() as u64;
            }
        }
        // What is left of its samples is counted in any case.
        let is_left = |of: &dyn Fn(usize) -> bool| u64::from((r.begin..r.end).any(|i| keep[i] && of(i)));
        r.count = r.count.max(is_left(&|i| floats[i].is_some()));
        r.histograms = r.histograms.max(is_left(&|i| histograms.get(i).is_some_and(Option::is_some)));
        if is_cut {
            // The share of a sum may hold a part of a value that was deleted: what is left lies between what was kept.
            let left = || (r.begin..r.end).filter(|i| keep[*i]).filter_map(|i| floats[i]).filter(|v| v.is_finite());
            let (min, max) = (left().fold(f64::INFINITY, f64::min), left().fold(f64::NEG_INFINITY, f64::max));
            if min <= max && r.sum.is_finite() {
                let count = r.count as f64;
                r.sum = r.sum.clamp(min * count, max * count);
            }
        }
    }
    let mut out = SampleBuffer::default();
    copy_kept(buffer, &keep, rollups, &mut out);
    out
}

/// Appends of the samples in `range` those that dedup leaves: of each interval the last, values before stale markers.
/// Downsampled stretches stay as they are.
pub(crate) fn dedup(buffer: &SampleBuffer, interval_ms: i64, range: TimeRange, out: &mut SampleBuffer) {
    let rollups = timed(buffer);
    let mut keep = vec![false; buffer.len()];
    let mut next = 0;
    let mut at = 0;
    while at < buffer.len() {
        let number = number(buffer.times[at], interval_ms);
        let (mut end, mut counted) = (at, false);
        let mut best = at;
        while end < buffer.len() && self::number(buffer.times[end], interval_ms) == number {
            while rollups.get(next).is_some_and(|r: &Timed| r.end <= end) {
                next += 1;
            }
            counted |= rollups.get(next).is_some_and(|r| r.begin <= end);
            if !is_stale_nan(buffer.values[end]) || is_stale_nan(buffer.values[best]) {
                best = end;
            }
            end += 1;
        }
        if counted {
            keep[at..end].fill(true);
        } else {
            keep[best] = true;
        }
        at = end;
    }
    for (keep, t) in keep.iter_mut().zip(&buffer.times) {
        *keep &= range.contains(*t);
    }
    copy_kept(buffer, &keep, rollups, out);
}

fn number(t: i64, interval_ms: i64) -> i64 {
    t.div_euclid(interval_ms) + i64::from(t.rem_euclid(interval_ms) != 0)
}

/// The range widened to whole dedup intervals.
pub(crate) fn whole_intervals(range: TimeRange, interval_ms: i64) -> TimeRange {
    let first = range.start_ms.div_euclid(interval_ms).saturating_sub(1).saturating_mul(interval_ms);
    let last = range.end_ms.div_euclid(interval_ms).saturating_add(1).saturating_mul(interval_ms);
    TimeRange::new(first.saturating_add(1).min(range.start_ms), last.saturating_add(1).max(range.end_ms))
}

/// True when all falls of the metric are resets, by its name.
pub(crate) fn is_counter(labels: &trefoil_model::Labels) -> bool {
    ["_total", "_count", "_sum", "_bucket"].iter().any(|s| labels.metric_name().ends_with(s))
}

/// Downsamples the samples of one series and day to buckets of `interval_ms`; stretches that are coarser stay.
pub(crate) fn downsample(buffer: &SampleBuffer, interval_ms: i64, is_counter: bool) -> SampleBuffer {
    let (spans, values, histograms) = (timed(buffer), floats(buffer), histograms(buffer));
    let histogram_at = |i: usize| histograms.get(i).copied().flatten();
    // Stale markers.
    let mut keep: Vec<bool> = (0..buffer.len()).map(|i| values[i].is_none() && histogram_at(i).is_none()).collect();
    let mut is_counted = vec![false; buffer.len()];
    let mut is_fixed = vec![false; buffer.len()];
    let mut rollups = Vec::new();
    for s in &spans {
        is_counted[s.begin..s.end].fill(true);
        if s.interval_ms > interval_ms {
            is_fixed[s.begin..s.end].fill(true);
            keep[s.begin..s.end].fill(true);
            rollups.push(*s);
        }
    }
    let mut finer = spans.iter().filter(|s| s.interval_ms <= interval_ms).peekable();
    let mut previous: Option<(usize, f64)> = None;
    let mut previous_histogram: Option<(usize, &FloatHistogram)> = None;
    let mut at = 0;
    while at < buffer.len() {
        if is_fixed[at] {
            previous = values[at].map(|v| (at, v)).or(previous);
            previous_histogram = histogram_at(at).map(|h| (at, h.as_ref())).or(previous_histogram);
            at += 1;
            continue;
        }
        let (after, until) = Rollup::bucket_of(interval_ms, buffer.times[at]);
        let (mut count, mut sum, mut histogram_count, mut is_again) = (0, 0.0, 0, false);
        let mut last_histogram = None;
        let mut members: Vec<(usize, f64)> = Vec::new();
        let mut falls: Vec<(usize, usize)> = Vec::new();
        let mut end = at;
        while end < buffer.len() && !is_fixed[end] && buffer.times[end] <= until {
            if let Some(s) = finer.next_if(|s| s.end == end + 1) {
                count += s.count;
                sum += s.sum;
                histogram_count += s.histograms;
                is_again |= s.interval_ms == interval_ms;
            }
            if let Some(v) = values[end] {
                if !is_counted[end] {
                    count += 1;
                    sum += v;
                }
                match previous {
                    // Whether the day before ended higher is not known here.
                    None => keep[end] = true,
                    Some((p, before)) if v < before => falls.push((p, end)),
                    Some(_) => {}
                }
                previous = Some((end, v));
                members.push((end, v));
            }
            if let Some(h) = histogram_at(end) {
                histogram_count += u64::from(!is_counted[end]);
                match previous_histogram {
                    None => keep[end] = true,
                    Some((p, before)) if may_be_reset(before, h) => (keep[p], keep[end]) = (true, true),
                    Some(_) => {}
                }
                previous_histogram = Some((end, h.as_ref()));
                last_histogram = Some(end);
            }
            end += 1;
        }
        if let Some(last) = last_histogram {
            keep[last] = true;
        }
        // Falls that were kept once are kept again.
        let of = if is_again { count } else { members.len() as u64 };
        if is_counter || falls.len() <= FALLS_MAX || (falls.len() * FALL_SHARE) as u64 <= of {
            for (a, b) in falls {
                (keep[a], keep[b]) = (true, true);
            }
        }
        for i in extremes(&members) {
            keep[i] = true;
        }
        let histograms = histogram_count;
        rollups.push(Timed { after, until, interval_ms, count, sum, histograms, begin: 0, end: 0 });
        at = end;
    }
    let mut out = SampleBuffer::default();
    copy_kept(buffer, &keep, rollups, &mut out);
    out
}

/// Smallest, greatest and last of the samples of a bucket: the first with that value, or the last sample if it has it.
fn extremes(members: &[(usize, f64)]) -> impl Iterator<Item = usize> {
    let last = members.last().copied();
    let best = |better: fn(f64, f64) -> bool| {
        let mut best: Option<(usize, f64)> = None;
        for (i, v) in members {
            if !v.is_nan() && best.is_none_or(|(_, b)| better(*v, b)) {
                best = Some((*i, *v));
            }
        }
        best.filter(|(_, v)| last.is_none_or(|(_, l)| l != *v)).map(|(i, _)| i)
    };
    [best(|a, b| a < b), best(|a, b| a > b), last.map(|(i, _)| i)].into_iter().flatten()
}

#[cfg(test)]
mod tests;
