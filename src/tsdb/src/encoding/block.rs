//! Blocks: a run of samples of one series and one kind, encoded, checksummed and decoded at once.

use std::sync::Arc;

use trefoil_model::{FloatHistogram, SampleBuffer, TimeRange};

use super::DecodeError;
use super::floats::{decode_floats, encode_floats};
use super::histogram::{decode_histogram, encode_histogram};
use super::ints::{decode_ints, encode_ints};
use super::rollups::{ROLLUPS, decode_rollups, encode_rollups};
use super::varint::{Reader, put_ivarint, put_uvarint};
use crate::downsample::Timed;

/// Most samples in a block that we write.
pub(crate) const BLOCK_SAMPLES_MAX: usize = 8192;
/// Most samples in a block that we read: what a damaged count can make us allocate.
const BLOCK_SAMPLES_READ_MAX: usize = 1 << 16;

const FLOATS: u8 = 0;
const HISTOGRAMS: u8 = 1;
const TIMES_REGULAR: u8 = 0;
const TIMES_INTS: u8 = 1;
const STARTS_NONE: u8 = 0;
const STARTS_RUNS: u8 = 1;
const BODY_PLAIN: u8 = 0;
const BODY_LZ4: u8 = 1;
const HISTOGRAM_BODY_MAX: usize = 256 << 20;

/// Why a block is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockError {
    /// The frame runs past the end or its checksum does not hold.
    Checksum,
    /// The checksum holds but the content is not ours: written by something newer, or a bug.
    Content,
}

impl From<DecodeError> for BlockError {
    fn from(_: DecodeError) -> Self {
        Self::Content
    }
}

/// Appends all samples of a series as framed blocks. Times ascend strictly.
///
/// Frame := length uvarint, payload, crc32c u32le over the series id (u64le) and the payload.
pub(crate) fn encode_series(series: u64, samples: &SampleBuffer, out: &mut Vec<u8>) {
    encode_rollups(samples, |payload| put_block(series, payload, out));
    let mut payload = Vec::new();
    let mut histograms = samples.histograms.as_slice();
    let mut at = 0;
    while at < samples.len() {
        let limit = (at + BLOCK_SAMPLES_MAX).min(samples.len());
        payload.clear();
        if histograms.first().is_some_and(|(i, _)| *i as usize == at) {
            let n = histograms.iter().zip(at..limit).take_while(|((i, _), want)| *i as usize == *want).count();
            let (run, rest) = histograms.split_at(n);
            histograms = rest;
            encode_head(HISTOGRAMS, samples, at..at + n, &mut payload);
            encode_histograms(run, &mut payload);
            at += n;
        } else {
            let end = histograms.first().map_or(limit, |(i, _)| limit.min(*i as usize));
            encode_head(FLOATS, samples, at..end, &mut payload);
            encode_floats(&samples.values[at..end], &mut payload);
            at = end;
        }
        put_block(series, &payload, out);
    }
}

fn put_block(series: u64, payload: &[u8], out: &mut Vec<u8>) {
    put_uvarint(out, payload.len() as u64);
    out.extend_from_slice(payload);
    out.extend_from_slice(&checksum(series, payload).to_le_bytes());
}

fn checksum(series: u64, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&series.to_le_bytes()), payload)
}

fn encode_head(kind: u8, samples: &SampleBuffer, run: std::ops::Range<usize>, out: &mut Vec<u8>) {
    let times = &samples.times[run.clone()];
    let (first, last) = (times[0], times[times.len() - 1]);
    out.push(kind);
    put_uvarint(out, times.len() as u64);
    put_ivarint(out, first);
    put_uvarint(out, last.wrapping_sub(first) as u64);
    let step = times.get(1).map_or(0, |t| t.wrapping_sub(first));
    if times.windows(2).all(|w| w[1].wrapping_sub(w[0]) == step) {
        out.push(TIMES_REGULAR);
    } else {
        out.push(TIMES_INTS);
        encode_ints(times, out);
    }
    let starts = samples.starts.get(run).unwrap_or_default();
    if starts.iter().all(|s| *s == 0) {
        out.push(STARTS_NONE);
        return;
    }
    out.push(STARTS_RUNS);
    let runs: Vec<&[i64]> = starts.chunk_by(|a, b| a == b).collect();
    put_uvarint(out, runs.len() as u64);
    let mut before = 0i64;
    for r in runs {
        put_uvarint(out, r.len() as u64);
        put_ivarint(out, r[0].wrapping_sub(before));
        before = r[0];
    }
}

fn encode_histograms(run: &[(u32, Arc<FloatHistogram>)], out: &mut Vec<u8>) {
    let mut body = Vec::new();
    let mut before: Option<&FloatHistogram> = None;
    for (_, h) in run {
        encode_histogram(before, h, &mut body);
        before = Some(h);
    }
    let packed = lz4_flex::block::compress(&body);
    if packed.len() < body.len() {
        out.push(BODY_LZ4);
        put_uvarint(out, body.len() as u64);
        out.extend_from_slice(&packed);
    } else {
        out.push(BODY_PLAIN);
        out.extend_from_slice(&body);
    }
}

/// A frame whose checksum held.
#[derive(Debug, Clone)]
pub(crate) struct Block<'a> {
    kind: u8,
    count: usize,
    pub(crate) min_t: i64,
    pub(crate) max_t: i64,
    rest: Reader<'a>,
}

/// Walks over the frames of a series.
#[derive(Debug, Clone)]
pub(crate) struct Blocks<'a> {
    series: u64,
    rest: Reader<'a>,
}

impl<'a> Blocks<'a> {
    /// `data` is what [`encode_series`] wrote for the series `series`.
    pub(crate) fn new(series: u64, data: &'a [u8]) -> Self {
        Self { series, rest: Reader::new(data) }
    }

    fn read(&mut self) -> Result<Block<'a>, BlockError> {
        let n = self.rest.length(1).map_err(|_| BlockError::Checksum)?;
        let payload = self.rest.bytes(n).map_err(|_| BlockError::Checksum)?;
        let crc = self.rest.u32().map_err(|_| BlockError::Checksum)?;
        if crc != checksum(self.series, payload) {
            return Err(BlockError::Checksum);
        }
        Block::parse(payload).map_err(BlockError::from)
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Result<Block<'a>, BlockError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let block = self.read();
        if block.is_err() {
            // Where the next frame begins is no longer known for certain.
            self.rest = Reader::new(&[]);
        }
        Some(block)
    }
}

impl<'a> Block<'a> {
    fn parse(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut rest = Reader::new(payload);
        let kind = rest.u8()?;
        let count = rest.uvarint()?;
        let min_t = rest.ivarint()?;
        let max_t = min_t.wrapping_add(rest.uvarint()? as i64);
        if count == 0 || count > BLOCK_SAMPLES_READ_MAX as u64 || max_t < min_t {
            return Err(DecodeError);
        }
        Ok(Self { kind, count: count as usize, min_t, max_t, rest })
    }

    /// Number of samples.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// True when it holds rollups, not samples.
    pub(crate) fn has_rollups(&self) -> bool {
        self.kind == ROLLUPS
    }

    /// Appends the rollups that overlap the range.
    pub(crate) fn rollups(&self, range: TimeRange, out: &mut Vec<Timed>) -> Result<(), DecodeError> {
        if range.overlaps(self.min_t, self.max_t) {
            decode_rollups(&mut self.rest.clone(), self.count, out)?;
        }
        Ok(())
    }

    /// Appends the samples inside `range` to `out`, straight into its columns.
    pub(crate) fn decode(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), DecodeError> {
        let (start, histogram_start, had_starts) = (out.times.len(), out.histograms.len(), !out.starts.is_empty());
        let result = self.decode_all(out);
        if result.is_err() {
            cut(out, start, start, start);
            out.histograms.truncate(histogram_start);
            return result;
        }
        if range.start_ms <= self.min_t && self.max_t < range.end_ms {
            return Ok(());
        }
        let times = &out.times[start..];
        let from = start + times.partition_point(|t| *t < range.start_ms);
        let to = start + times.partition_point(|t| *t < range.end_ms);
        cut(out, start, from, to.max(from));
        if out.histograms.len() > histogram_start {
            let kept = |i: u32| (from..to).contains(&(i as usize));
            let mut tail = out.histograms.split_off(histogram_start);
            tail.retain_mut(|(i, _)| {
                let keep = kept(*i);
                *i = i.wrapping_sub((from - start) as u32);
                keep
            });
            out.histograms.append(&mut tail);
        }
        if !had_starts && out.starts.iter().all(|s| *s == 0) {
            out.starts.clear();
        }
        Ok(())
    }

    fn decode_all(&self, out: &mut SampleBuffer) -> Result<(), DecodeError> {
        let mut from = self.rest.clone();
        let start = out.times.len();
        match from.u8()? {
            TIMES_REGULAR => {
                let span = self.max_t.wrapping_sub(self.min_t) as u64;
                let step = span / (self.count as u64 - 1).max(1);
                out.times.extend((0..self.count as u64).map(|i| self.min_t.wrapping_add(step.wrapping_mul(i) as i64)));
            }
            TIMES_INTS => decode_ints(&mut from, self.count, &mut out.times)?,
            _ => return Err(DecodeError),
        }
        if out.times[start..].windows(2).any(|w| w[0] >= w[1])
            || out.times.last() != Some(&self.max_t)
            || out.times[start] != self.min_t
        {
            return Err(DecodeError);
        }
        self.decode_starts(&mut from, out)?;
        match self.kind {
            FLOATS => decode_floats(&mut from, self.count, &mut out.values),
            HISTOGRAMS => self.decode_histograms(&mut from, start, out),
            _ => Err(DecodeError),
        }
    }

    fn decode_starts(&self, from: &mut Reader<'_>, out: &mut SampleBuffer) -> Result<(), DecodeError> {
        let total = out.times.len();
        match from.u8()? {
            STARTS_NONE if out.starts.is_empty() => Ok(()),
            STARTS_NONE => {
                out.starts.resize(total, 0);
                Ok(())
            }
            STARTS_RUNS => {
                out.starts.resize(total - self.count, 0);
                let mut value = 0i64;
                for _ in 0..from.length(2)? {
                    let n = usize::try_from(from.uvarint()?).map_err(|_| DecodeError)?;
                    value = value.wrapping_add(from.ivarint()?);
                    if n > total - out.starts.len() {
                        return Err(DecodeError);
                    }
                    out.starts.resize(out.starts.len() + n, value);
                }
                if out.starts.len() == total { Ok(()) } else { Err(DecodeError) }
            }
            _ => Err(DecodeError),
        }
    }

    fn decode_histograms(
        &self,
        from: &mut Reader<'_>,
        start: usize,
        out: &mut SampleBuffer,
    ) -> Result<(), DecodeError> {
        let unpacked;
        let mut body = match from.u8()? {
            BODY_PLAIN => from.clone(),
            BODY_LZ4 => {
                let n = usize::try_from(from.uvarint()?).map_err(|_| DecodeError)?;
                // LZ4 cannot expand more than 255 times.
                if n > HISTOGRAM_BODY_MAX || n / 256 > from.rest().len() {
                    return Err(DecodeError);
                }
                unpacked = lz4_flex::block::decompress(from.rest(), n).map_err(|_| DecodeError)?;
                Reader::new(&unpacked)
            }
            _ => return Err(DecodeError),
        };
        let mut before: Option<Arc<FloatHistogram>> = None;
        for i in 0..self.count {
            let h = Arc::new(decode_histogram(before.as_deref(), &mut body)?);
            out.values.push(if h.is_stale() { h.sum } else { f64::NAN });
            out.histograms.push(((start + i) as u32, Arc::clone(&h)));
            before = Some(h);
        }
        Ok(())
    }
}

/// Keeps `from..to` of what stands behind `start` in all columns.
fn cut(out: &mut SampleBuffer, start: usize, from: usize, to: usize) {
    out.times.truncate(to);
    out.times.drain(start..from.min(to));
    out.values.truncate(to);
    if out.values.len() >= from {
        out.values.drain(start..from.min(to));
    }
    if !out.starts.is_empty() {
        out.starts.truncate(to);
        if out.starts.len() >= from {
            out.starts.drain(start..from.min(to));
        }
    }
}
