//! What the memtable holds of one series.

use std::sync::Arc;

use trefoil_model::{FloatHistogram, SampleBuffer, TimeRange};

use super::chunk::FloatChunk;
use crate::encoding::DecodeError;
use crate::encoding::histogram::{decode_histogram, encode_histogram};
use crate::encoding::varint::{Reader, put_ivarint};
use crate::series::SeriesEntry;

/// Below this many samples the side buffer is never folded in.
const SIDE_MIN: usize = 32;

/// About what a shared histogram takes beside its buckets.
const HISTOGRAM_BYTES: usize = size_of::<FloatHistogram>() + 16;

/// A value of either kind.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Value {
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            _ => false,
        }
    }
}

/// A sample of either kind.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) t: i64,
    pub(crate) start: i64,
    pub(crate) value: Value,
}

/// A series with its samples, day by day.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) series: Arc<SeriesEntry>,
    /// Nearly always one or two.
    days: Vec<DayChunk>,
}

/// The samples of one series and day.
#[derive(Debug)]
struct DayChunk {
    day: i64,
    floats: FloatChunk,
    rare: Option<Box<Rare>>,
}

/// What most series do not have.
#[derive(Debug, Default)]
struct Rare {
    /// (index of the float sample from which on it holds, start timestamp)
    float_starts: Vec<(u32, i64)>,
    histograms: HistogramChunk,
    /// Samples that came out of order or again, in order of arrival. They win over the chunks.
    side: Vec<Sample>,
    /// Bytes behind the histograms in `side`.
    side_value_bytes: usize,
}

#[derive(Debug, Default)]
struct HistogramChunk {
    /// (time difference, start difference, histogram)*
    bytes: Vec<u8>,
    count: u32,
    first_t: i64,
    last_t: i64,
    last_start: i64,
    last: Option<Arc<FloatHistogram>>,
}

impl Row {
    pub(crate) fn new(series: Arc<SeriesEntry>) -> Self {
        Self { series, days: Vec::new() }
    }

    /// Adds a sample. Returns the change in heap bytes and whether it is the first one of its day.
    pub(crate) fn push(&mut self, sample: Sample) -> (isize, bool) {
        let day = trefoil_model::time::day_of_ms(sample.t);
        let (index, is_new) = match self.days.iter().rposition(|d| d.day == day) {
            Some(i) => (i, false),
            None => {
                self.days.reserve_exact(1);
                self.days.push(DayChunk { day, floats: FloatChunk::default(), rare: None });
                (self.days.len() - 1, true)
            }
        };
        let chunk = &mut self.days[index];
        let before = if is_new { 0 } else { chunk.heap_bytes() };
        chunk.push(sample);
        (chunk.heap_bytes() as isize - before as isize, is_new)
    }

    /// Reads a little of what [`Row::push`] will touch. The value means nothing.
    pub(crate) fn warm(&self) -> i64 {
        self.days.last().map_or(0, |d| d.day ^ d.floats.last_t())
    }

    /// Appends the samples of the range to `out`, days in order.
    pub(crate) fn read(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), DecodeError> {
        if let [day] = &self.days[..] {
            return day.read(range, out);
        }
        let mut days: Vec<&DayChunk> = self.days.iter().collect();
        days.sort_by_key(|d| d.day);
        days.into_iter().try_for_each(|d| d.read(range, out))
    }

    /// True when a sample may lie in the range.
    pub(crate) fn overlaps(&self, range: TimeRange) -> bool {
        self.days.iter().any(|d| d.bounds().is_some_and(|(min, max)| range.overlaps(min, max)))
    }
}

impl DayChunk {
    fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + self.floats.heap_bytes()
            + self.rare.as_ref().map_or(0, |r| {
                size_of::<Rare>()
                    + r.float_starts.capacity() * 16
                    + r.histograms.bytes.capacity()
                    + r.side.capacity() * size_of::<Sample>()
                    + r.side_value_bytes
            })
    }

    fn bounds(&self) -> Option<(i64, i64)> {
        let floats = (self.floats.count() > 0).then(|| (self.floats.first_t(), self.floats.last_t()));
        let Some(rare) = &self.rare else { return floats };
        let histograms = (rare.histograms.count > 0).then_some((rare.histograms.first_t, rare.histograms.last_t));
        let side = rare.side.iter().map(|s| s.t);
        let side = side.clone().min().zip(side.max());
        [floats, histograms, side].into_iter().flatten().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    fn push(&mut self, sample: Sample) {
        let last_float = (self.floats.count() > 0).then(|| self.floats.last_t());
        let last_histogram = self.rare.as_ref().filter(|r| r.histograms.count > 0).map(|r| r.histograms.last_t);
        let side_is_empty = self.rare.as_ref().is_none_or(|r| r.side.is_empty());
        if last_float.max(last_histogram).is_none_or(|last| sample.t > last) {
            self.append(sample);
            return;
        }
        if side_is_empty
            && last_float == Some(sample.t)
            && Value::Float(f64::from_bits(self.floats.last_bits())).same(&sample.value)
            && sample.start == self.last_float_start()
        {
            // Sent again: senders retry, and scrapes repeat explicit timestamps.
            return;
        }
        let in_order = self.floats.count() + self.rare.as_ref().map_or(0, |r| r.histograms.count);
        let rare = self.rare.get_or_insert_default();
        if let Value::Histogram(h) = &sample.value {
            rare.side_value_bytes += h.heap_bytes() + HISTOGRAM_BYTES;
        }
        rare.side.push(sample);
        if rare.side.len() >= SIDE_MIN.max(in_order as usize / 2) {
            self.fold();
        }
    }

    /// Appends a sample that is later than all others of the chunks.
    fn append(&mut self, sample: Sample) {
        match sample.value {
            Value::Float(v) => {
                if sample.start != self.last_float_start() {
                    let index = self.floats.count();
                    self.rare.get_or_insert_default().float_starts.push((index, sample.start));
                }
                self.floats.push(sample.t, v);
            }
            Value::Histogram(h) => self.rare.get_or_insert_default().histograms.push(sample.t, sample.start, h),
        }
    }

    fn last_float_start(&self) -> i64 {
        self.rare.as_ref().and_then(|r| r.float_starts.last()).map_or(0, |(_, start)| *start)
    }

    /// Writes the chunks anew with the side buffer merged in, so that it stays small beside them.
    fn fold(&mut self) {
        let mut all = SampleBuffer::default();
        if self.read(TimeRange::ALL, &mut all).is_err() {
            debug_assert!(false, "what the chunk wrote it reads back");
            return;
        }
        let mut anew = Self { day: self.day, floats: FloatChunk::default(), rare: None };
        for_each_sample(&all, |sample| anew.append(sample));
        *self = anew;
    }

    fn read(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), DecodeError> {
        if !self.bounds().is_some_and(|(min, max)| range.overlaps(min, max)) {
            return Ok(());
        }
        let Some(rare) = &self.rare else {
            self.floats.read(range, out)?;
            if !out.starts.is_empty() {
                out.starts.resize(out.times.len(), 0);
            }
            return Ok(());
        };
        if rare.histograms.count == 0 && rare.side.is_empty() {
            return self.read_floats(rare, range, out);
        }
        let mut floats = SampleBuffer::default();
        self.read_floats(rare, range, &mut floats)?;
        let mut samples = Vec::with_capacity(floats.len() + rare.histograms.count as usize + rare.side.len());
        for_each_sample(&floats, |sample| samples.push(sample));
        rare.histograms.read(range, &mut samples)?;
        samples.extend(rare.side.iter().filter(|s| range.contains(s.t)).cloned());
        // The sort is stable: of equal times the one that arrived last stands last, and wins.
        samples.sort_by_key(|s| s.t);
        for i in 0..samples.len() {
            if samples.get(i + 1).is_none_or(|next| next.t != samples[i].t) {
                let Sample { t, start, value } = &samples[i];
                match value {
                    Value::Float(v) => out.push_float(*t, *start, *v),
                    Value::Histogram(h) => out.push_histogram(*t, *start, Arc::clone(h)),
                }
            }
        }
        Ok(())
    }

    fn read_floats(&self, rare: &Rare, range: TimeRange, out: &mut SampleBuffer) -> Result<(), DecodeError> {
        let before = out.times.len();
        let first = self.floats.read(range, out)?;
        let count = out.times.len() - before;
        if count == 0 || (out.starts.is_empty() && rare.float_starts.is_empty()) {
            return Ok(());
        }
        let mut starts = Vec::with_capacity(count);
        let mut runs = rare.float_starts.iter().peekable();
        let mut start = 0;
        for i in (first..).take(count) {
            while let Some((_, s)) = runs.next_if(|(from, _)| *from <= i) {
                start = *s;
            }
            starts.push(start);
        }
        if !out.starts.is_empty() || starts.iter().any(|s| *s != 0) {
            out.starts.resize(before, 0);
            out.starts.append(&mut starts);
        }
        Ok(())
    }
}

impl HistogramChunk {
    fn push(&mut self, t: i64, start: i64, h: Arc<FloatHistogram>) {
        if self.count == 0 {
            self.first_t = t;
        }
        put_ivarint(&mut self.bytes, t.wrapping_sub(self.last_t));
        put_ivarint(&mut self.bytes, start.wrapping_sub(self.last_start));
        encode_histogram(self.last.as_deref(), &h, &mut self.bytes);
        (self.last_t, self.last_start, self.last) = (t, start, Some(h));
        self.count += 1;
    }

    fn read(&self, range: TimeRange, out: &mut Vec<Sample>) -> Result<(), DecodeError> {
        let mut from = Reader::new(&self.bytes);
        let (mut t, mut start) = (0i64, 0i64);
        let mut before: Option<Arc<FloatHistogram>> = None;
        for _ in 0..self.count {
            t = t.wrapping_add(from.ivarint()?);
            start = start.wrapping_add(from.ivarint()?);
            let h = Arc::new(decode_histogram(before.as_deref(), &mut from)?);
            if range.contains(t) {
                out.push(Sample { t, start, value: Value::Histogram(Arc::clone(&h)) });
            }
            before = Some(h);
        }
        Ok(())
    }
}

/// Takes a buffer apart again.
fn for_each_sample(buffer: &SampleBuffer, mut each: impl FnMut(Sample)) {
    let mut histograms = buffer.histograms.iter().peekable();
    for (i, (t, v)) in buffer.times.iter().zip(&buffer.values).enumerate() {
        let value = match histograms.next_if(|(at, _)| *at as usize == i) {
            Some((_, h)) => Value::Histogram(Arc::clone(h)),
            None => Value::Float(*v),
        };
        each(Sample { t: *t, start: buffer.starts.get(i).copied().unwrap_or(0), value });
    }
}
