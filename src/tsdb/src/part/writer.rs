//! Writes parts: series come in the order of their labels, blocks go out as they come, the index at the end.

use trefoil_model::{Labels, SampleBuffer, SeriesId, time::DAY_MS};

use super::column::{hash_bits, put_column, put_pairs};
use super::dictionary::Dictionaries;
use super::layout::{Contents, Extent, PAGE_ROWS, VERSION, index_header};
use crate::encoding::Effort;
use crate::encoding::block::BlockEncoder;
use crate::encoding::varint::put_uvarint;

/// Pages of labels below this size are not worth compressing.
const PAGE_COMPRESS_MIN: usize = 64;
pub(crate) const PAGE_PLAIN: u8 = 0;
pub(crate) const PAGE_LZ4: u8 = 1;

/// Collects what the index must know: nothing that stays in memory until the end is larger than some words a series,
/// but for the different values of labels.
pub(crate) struct PartBuilder {
    day: i64,
    /// The index file so far: pages of labels.
    out: Vec<u8>,
    pages: PageWriter,
    dictionaries: Dictionaries,
    ids: Vec<u64>,
    offsets: Vec<u64>,
    /// Last and first millisecond within the day, as [`put_pairs`] takes them.
    bounds: Vec<u64>,
    hashes: Vec<u64>,
    offset: u64,
    samples: u64,
    min_t: i64,
    max_t: i64,
    encoder: BlockEncoder,
}

impl PartBuilder {
    /// `blocks_offset` is where the first block will stand in the file of blocks.
    pub(crate) fn new(day: i64, blocks_offset: usize) -> Self {
        Self {
            day,
            out: index_header(),
            pages: PageWriter::default(),
            dictionaries: Dictionaries::default(),
            ids: Vec::new(),
            offsets: Vec::new(),
            bounds: Vec::new(),
            hashes: Vec::new(),
            offset: blocks_offset as u64,
            samples: 0,
            min_t: i64::MAX,
            max_t: i64::MIN,
            encoder: BlockEncoder::default(),
        }
    }

    /// What goes into the encoding of the series that follow; [`Effort::Fresh`] when nobody says.
    pub(crate) fn set_effort(&mut self, effort: Effort) {
        self.encoder = BlockEncoder::new(effort);
    }

    /// Number of series so far.
    pub(crate) fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Number of samples so far.
    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    /// First and last time so far.
    pub(crate) fn bounds(&self) -> (i64, i64) {
        (self.min_t, self.max_t)
    }

    /// Adds a series whose labels come after those of the last one. Appends its blocks to `blocks`, which is what
    /// the caller writes to the file next. Samples must be of the part's day; a series without any is left out.
    pub(crate) fn add(&mut self, id: SeriesId, labels: &Labels, samples: &SampleBuffer, blocks: &mut Vec<u8>) {
        let (Some(first), Some(last)) = (samples.times.first(), samples.times.last()) else { return };
        let row = u32::try_from(self.ids.len()).expect("a part has less than 2^32 series");
        let before = blocks.len();
        self.encoder.encode_series(id.0, samples, self.offset, blocks);
        let day_start = self.day * DAY_MS;
        let within = |t: i64| u32::try_from(t - day_start).expect("samples are of the part's day");
        self.pages.add(labels, &mut self.out);
        self.dictionaries.add(row, labels);
        self.ids.push(id.0);
        self.offsets.push(self.offset);
        self.bounds.push(u64::from(within(*last)) << 32 | u64::from(within(*first)));
        self.hashes.push(labels.stable_hash());
        self.offset += (blocks.len() - before) as u64;
        self.samples += samples.len() as u64;
        self.min_t = self.min_t.min(*first);
        self.max_t = self.max_t.max(*last);
    }

    /// The bytes of the index file. To be called once, at the end; the numbers of rows and samples stay.
    pub(crate) fn index(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.out);
        let pages = std::mem::take(&mut self.pages).finish(&mut out);
        let names = std::mem::take(&mut self.dictionaries).put(&mut out);
        let rows = u32::try_from(self.ids.len()).expect("a part has less than 2^32 series");
        let (hash_bits, row_bits) = hash_bits(rows);
        let mut hashes = std::mem::take(&mut self.hashes);
        for (hash, row) in hashes.iter_mut().zip(0..) {
            *hash = *hash >> (64 - hash_bits) << row_bits | row;
        }
        hashes.sort_unstable();
        let mut put = |values: &[u64], put: fn(&[u64], &mut Vec<u8>)| {
            let start = out.len();
            put(values, &mut out);
            Extent::of(&out, start)
        };
        let ids = put(&self.ids, put_column);
        self.offsets.push(self.offset);
        let offsets = put(&std::mem::take(&mut self.offsets), put_column);
        let bounds = put(&std::mem::take(&mut self.bounds), put_pairs);
        let hashes = put(&hashes, put_column);
        let pages = put(&pages, |pages, out| out.extend(pages.iter().flat_map(|p| p.to_le_bytes())));
        let sections = [ids, offsets, bounds, hashes, pages];
        Contents { version: VERSION, day: self.day, rows, sections, names }.finish(&mut out);
        out
    }
}

/// Writes pages of labels as they come.
///
/// page := compression u8, plain length uvarint, data, crc32c u32le over all before;
/// plain := (shared bytes uvarint, further bytes uvarint, bytes)*, each against the series before in the page.
#[derive(Default)]
struct PageWriter {
    starts: Vec<u64>,
    plain: Vec<u8>,
    rows: u32,
    before: Option<Labels>,
}

impl PageWriter {
    fn add(&mut self, labels: &Labels, out: &mut Vec<u8>) {
        debug_assert!(self.before.as_ref().is_none_or(|b| b < labels), "series come in the order of their labels");
        let before = self.before.as_ref().filter(|_| self.rows > 0).map_or(&b""[..], |l| l.as_packed().as_bytes());
        let packed = labels.as_packed().as_bytes();
        let shared = before.iter().zip(packed).take_while(|(a, b)| a == b).count();
        put_uvarint(&mut self.plain, shared as u64);
        put_uvarint(&mut self.plain, (packed.len() - shared) as u64);
        self.plain.extend_from_slice(&packed[shared..]);
        self.before = Some(labels.clone());
        self.rows += 1;
        if self.rows == PAGE_ROWS {
            self.end_page(out);
        }
    }

    fn end_page(&mut self, out: &mut Vec<u8>) {
        let plain = &self.plain;
        let start = out.len();
        self.starts.push(start as u64);
        let packed = (plain.len() >= PAGE_COMPRESS_MIN).then(|| lz4_flex::block::compress(plain));
        let packed = packed.filter(|p| p.len() < plain.len());
        out.push(if packed.is_some() { PAGE_LZ4 } else { PAGE_PLAIN });
        put_uvarint(out, plain.len() as u64);
        out.extend_from_slice(packed.as_deref().unwrap_or(plain));
        let crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        self.plain.clear();
        self.rows = 0;
    }

    /// Where each page begins, and where the last one ends.
    fn finish(mut self, out: &mut Vec<u8>) -> Vec<u64> {
        if self.rows > 0 {
            self.end_page(out);
        }
        self.starts.push(out.len() as u64);
        self.starts
    }
}
