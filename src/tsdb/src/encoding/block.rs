//! Blocks: a run of samples of one series and one kind, encoded, checksummed and decoded at once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use trefoil_model::{FloatHistogram, SampleBuffer, TimeRange};

use super::floats::{decode_floats, describe_floats, encode_floats};
use super::histogram::{decode_histogram, encode_histogram};
use super::rollups::{ROLLUPS, decode_rollups, encode_rollups};
use super::times::{ColumnId, Head, TimeColumns, cached, remember};
use super::varint::{Reader, put_ivarint, put_uvarint};
use super::wide::crc32c_append;
use super::{DecodeError, Effort};
use crate::downsample::Timed;
use crate::part::layout::HEADER_BYTES;

/// Most samples in a block that we write.
pub(crate) const BLOCK_SAMPLES_MAX: usize = 4096;
/// Most samples in a block that we read: what a damaged count can make us allocate.
const BLOCK_SAMPLES_READ_MAX: usize = 1 << 16;

const FLOATS: u8 = 0;
const HISTOGRAMS: u8 = 1;
/// A column of times, which stands among the blocks and is none.
const TIMES: u8 = 2;
/// Kinds from here to [`SHARED_LAST`] have their times in a column.
const SHARED: u8 = 4;
const SHARED_LAST: u8 = 7;
/// Bit of a kind with shared times: histograms, not floats.
const SHARED_HISTOGRAMS: u8 = 1;
/// Bit of a kind with shared times: there are starts.
const SHARED_STARTS: u8 = 2;
const STARTS_NONE: u8 = 0;
const STARTS_RUNS: u8 = 1;
const BODY_PLAIN: u8 = 0;
const BODY_LZ4: u8 = 1;
/// Stands for the series in the checksum of a column of times.
const NO_SERIES: u64 = u64::MAX;
/// Checksum of the bytes of [`NO_SERIES`].
const NO_SERIES_CRC: u32 = 0x4867_4bc7;
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

/// Encodes the samples of a part, series by series.
#[derive(Debug, Default)]
pub(crate) struct BlockEncoder {
    effort: Effort,
    columns: TimeColumns,
    payload: Vec<u8>,
}

impl BlockEncoder {
    pub(crate) fn new(effort: Effort) -> Self {
        Self { effort, ..Self::default() }
    }

    /// Appends all samples of a series as framed blocks, and columns of times that they need. Times ascend strictly.
    /// `out` is written to the file behind its first `written` bytes.
    pub(crate) fn encode_series(&mut self, series: u64, samples: &SampleBuffer, written: u64, out: &mut Vec<u8>) {
        let (effort, payload) = (self.effort, &mut self.payload);
        let out_start = out.len();
        encode_rollups(samples, |payload| put_block(series, payload, out));
        let mut histograms = samples.histograms.as_slice();
        let mut at = 0;
        while at < samples.len() {
            let limit = (at + BLOCK_SAMPLES_MAX).min(samples.len());
            let mut run = &histograms[..0];
            let end = match histograms.first() {
                Some((i, _)) if *i as usize == at => {
                    let n = histograms.iter().zip(at..limit).take_while(|((i, _), want)| *i as usize == *want).count();
                    (run, histograms) = histograms.split_at(n);
                    at + n
                }
                Some((i, _)) => limit.min(*i as usize),
                None => limit,
            };
            let column = self.columns.place(&samples.times[at..end], |encoded| {
                let place = written + (out.len() - out_start) as u64;
                payload.clear();
                payload.push(TIMES);
                payload.extend_from_slice(encoded);
                put_block(NO_SERIES, payload, out);
                place
            });
            let starts = samples.starts.get(at..end).unwrap_or_default();
            let has_starts = starts.iter().any(|s| *s != 0);
            payload.clear();
            let histogram_bit = if run.is_empty() { 0 } else { SHARED_HISTOGRAMS };
            payload.push(SHARED | histogram_bit | if has_starts { SHARED_STARTS } else { 0 });
            put_uvarint(payload, column);
            if has_starts {
                put_starts(starts, payload);
            }
            if run.is_empty() {
                encode_floats(effort, &samples.values[at..end], payload);
            } else {
                encode_histograms(run, payload);
            }
            put_block(series, payload, out);
            at = end;
        }
    }
}

/// Frame := length uvarint, payload, crc32c u32le over the series id (u64le) and the payload.
fn put_block(series: u64, payload: &[u8], out: &mut Vec<u8>) {
    put_uvarint(out, payload.len() as u64);
    out.extend_from_slice(payload);
    out.extend_from_slice(&checksum(series, payload).to_le_bytes());
}

fn checksum(series: u64, payload: &[u8]) -> u32 {
    let before = if series == NO_SERIES { NO_SERIES_CRC } else { crc32c_append(0, &series.to_le_bytes()) };
    crc32c_append(before, payload)
}

fn put_starts(starts: &[i64], out: &mut Vec<u8>) {
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
    /// Times that stand in a column of their own.
    times: Option<Column<'a>>,
    rest: Reader<'a>,
}

/// A column of times whose checksum held.
#[derive(Debug, Clone)]
struct Column<'a> {
    id: ColumnId,
    /// `None` when this thread remembers the times.
    encoded: Option<Reader<'a>>,
}

/// Walks over the frames of a series.
#[derive(Debug, Clone)]
pub(crate) struct Blocks<'a> {
    series: u64,
    rest: Reader<'a>,
    file: &'a [u8],
    file_id: u64,
    /// The last column that was passed and whose checksum held: the frame and what follows, and the payload.
    passed: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> Blocks<'a> {
    /// `data` is what [`BlockEncoder::encode_series`] wrote for the series `series`.
    pub(crate) fn new(series: u64, data: &'a [u8]) -> Self {
        Self { series, rest: Reader::new(data), file: &[], file_id: 0, passed: None }
    }

    /// Gives the file in which columns of times are found. Its id is one that no other file in this process ever has;
    /// with 0 no columns are remembered.
    pub(crate) fn in_file(mut self, file: &'a [u8], id: u64) -> Self {
        (self.file, self.file_id) = (file, id);
        self
    }

    fn read(&mut self) -> Result<Option<Block<'a>>, BlockError> {
        while !self.rest.is_empty() {
            let frame = self.rest.rest();
            let (payload, crc) = get_frame(&mut self.rest)?;
            // Columns are read when a block names them.
            let is_column = payload.first() == Some(&TIMES);
            if crc != checksum(if is_column { NO_SERIES } else { self.series }, payload) {
                return Err(BlockError::Checksum);
            }
            if !is_column {
                return self.parse(payload).map(Some);
            }
            self.passed = Some((frame, payload));
        }
        Ok(None)
    }

    fn parse(&self, payload: &'a [u8]) -> Result<Block<'a>, BlockError> {
        let mut rest = Reader::new(payload);
        let kind = rest.u8()?;
        let mut times = None;
        let Head { count, min_t, max_t } = if (SHARED..=SHARED_LAST).contains(&kind) {
            let at = usize::try_from(rest.uvarint()?).map_err(|_| DecodeError)?;
            let id = ColumnId { file: self.file_id, at };
            let mut encoded = None;
            let head = match cached(id, |head, _| head) {
                Some(head) => head,
                None => {
                    let mut from = Reader::new(&self.column(at)?[1..]);
                    let head = Head::read(&mut from, BLOCK_SAMPLES_READ_MAX)?;
                    encoded = Some(from);
                    head
                }
            };
            times = Some(Column { id, encoded });
            head
        } else {
            Head::read(&mut rest, BLOCK_SAMPLES_READ_MAX)?
        };
        Ok(Block { kind, count, min_t, max_t, times, rest })
    }

    /// The payload of the column of times that stands at this place of the file.
    fn column(&self, at: usize) -> Result<&'a [u8], BlockError> {
        let frame = self.file.get(at..).ok_or(DecodeError)?;
        if let Some((passed, payload)) = self.passed
            && std::ptr::eq(passed.as_ptr(), frame.as_ptr())
        {
            return Ok(payload);
        }
        let (payload, crc) = get_frame(&mut Reader::new(frame))?;
        if payload.first() != Some(&TIMES) || crc != checksum(NO_SERIES, payload) {
            return Err(BlockError::Checksum);
        }
        Ok(payload)
    }
}

fn get_frame<'a>(from: &mut Reader<'a>) -> Result<(&'a [u8], u32), BlockError> {
    let get = |from: &mut Reader<'a>| {
        let n = from.length(1)?;
        Ok((from.bytes(n)?, from.u32()?))
    };
    get(from).map_err(|_: DecodeError| BlockError::Checksum)
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Result<Block<'a>, BlockError>;

    fn next(&mut self) -> Option<Self::Item> {
        let block = self.read();
        if block.is_err() {
            // Where the next frame begins is no longer known for certain.
            self.rest = Reader::new(&[]);
        }
        block.transpose()
    }
}

impl<'a> Block<'a> {
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
        let result = self.decode_inside(range, out);
        if result.is_err() {
            out.times.truncate(start);
            out.values.truncate(start);
            out.starts.truncate(start);
            out.histograms.truncate(histogram_start);
        } else if !had_starts && out.starts.iter().all(|s| *s == 0) {
            out.starts.clear();
        }
        result
    }

    /// Which of the samples lie inside `range`.
    fn inside(&self, range: TimeRange, times: &[i64]) -> Range<usize> {
        if range.start_ms <= self.min_t && self.max_t < range.end_ms {
            return 0..times.len();
        }
        let before = |end: i64| times.partition_point(|t| *t < end);
        let (from, to) = (before(range.start_ms), before(range.end_ms));
        from..to.max(from)
    }

    fn decode_inside(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), DecodeError> {
        let mut from = self.rest.clone();
        let start = out.times.len();
        let head = Head { count: self.count, min_t: self.min_t, max_t: self.max_t };
        let all_times = |from: &mut Reader<'_>, times: &mut Vec<i64>| head.times(from, times);
        let cut = |times: &mut Vec<i64>| {
            let wanted = self.inside(range, &times[start..]);
            keep(times, start, &wanted);
            wanted
        };
        let (wanted, histograms, starts) = match &self.times {
            Some(column) => {
                let wanted = match &column.encoded {
                    Some(encoded) => {
                        all_times(&mut encoded.clone(), &mut out.times)?;
                        remember(column.id, head, &out.times[start..]);
                        cut(&mut out.times)
                    }
                    // A thread forgets nothing between finding a block and decoding it.
                    None => cached(column.id, |_, times| {
                        let wanted = self.inside(range, times);
                        out.times.extend_from_slice(&times[wanted.clone()]);
                        wanted
                    })
                    .ok_or(DecodeError)?,
                };
                let starts = if self.kind & SHARED_STARTS == 0 { STARTS_NONE } else { STARTS_RUNS };
                (wanted, self.kind & SHARED_HISTOGRAMS != 0, starts)
            }
            None => {
                all_times(&mut from, &mut out.times)?;
                let histograms = match self.kind {
                    FLOATS => false,
                    HISTOGRAMS => true,
                    _ => return Err(DecodeError),
                };
                (cut(&mut out.times), histograms, from.u8()?)
            }
        };
        self.decode_starts(starts, &wanted, &mut from, start, out)?;
        if histograms {
            self.decode_histograms(&wanted, &mut from, start, out)
        } else {
            decode_floats(&mut from, self.count, &wanted, !out.values_unneeded, &mut out.values)
        }
    }

    fn decode_starts(
        &self,
        form: u8,
        wanted: &Range<usize>,
        from: &mut Reader<'_>,
        start: usize,
        out: &mut SampleBuffer,
    ) -> Result<(), DecodeError> {
        match form {
            STARTS_NONE if out.starts.is_empty() => Ok(()),
            STARTS_NONE => {
                out.starts.resize(out.times.len(), 0);
                Ok(())
            }
            STARTS_RUNS => {
                out.starts.resize(start, 0);
                let end = start + self.count;
                let mut value = 0i64;
                for _ in 0..from.length(2)? {
                    let n = usize::try_from(from.uvarint()?).map_err(|_| DecodeError)?;
                    value = value.wrapping_add(from.ivarint()?);
                    if n > end - out.starts.len() {
                        return Err(DecodeError);
                    }
                    out.starts.resize(out.starts.len() + n, value);
                }
                if out.starts.len() != end {
                    return Err(DecodeError);
                }
                keep(&mut out.starts, start, wanted);
                Ok(())
            }
            _ => Err(DecodeError),
        }
    }

    fn decode_histograms(
        &self,
        wanted: &Range<usize>,
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
            if wanted.contains(&i) {
                out.values.push(if h.is_stale() { h.sum } else { f64::NAN });
                out.histograms.push(((start + i - wanted.start) as u32, Arc::clone(&h)));
            }
            before = Some(h);
        }
        Ok(())
    }
}

/// Of what stands behind `start` keeps `wanted`.
pub(super) fn keep<T>(column: &mut Vec<T>, start: usize, wanted: &Range<usize>) {
    column.truncate(start + wanted.end);
    column.drain(start..start + wanted.start);
}

/// Counts the frames of a whole file of blocks, and their bytes, by what is in them.
pub(crate) fn describe_blocks(file: &[u8], found: &mut BTreeMap<String, (u64, u64)>) {
    let mut from = Reader::new(file.get(HEADER_BYTES..).unwrap_or_default());
    let mut add = |what: String, bytes: usize| {
        let (count, sum) = found.entry(what).or_default();
        (*count, *sum) = (*count + 1, *sum + bytes as u64);
    };
    while let Ok((payload, _)) = get_frame(&mut from) {
        let mut rest = Reader::new(payload);
        let what = match rest.u8() {
            Ok(TIMES) => "times".to_owned(),
            Ok(SHARED) if rest.uvarint().is_ok() => format!("floats {}", describe_floats(rest.rest())),
            Ok(kind) => format!("kind {kind}"),
            Err(_) => "nothing".to_owned(),
        };
        add("blocks: lengths, checksums, columns".to_owned(), 5 + payload.len() - rest.rest().len());
        add(format!("blocks: {what}"), rest.rest().len());
    }
}
