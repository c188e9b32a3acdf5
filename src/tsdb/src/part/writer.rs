//! Writes parts: series come in the order of their labels, blocks go out as they come, the index at the end.

use std::collections::BTreeMap;

use trefoil_model::{Labels, SampleBuffer, SeriesId, time::DAY_MS};

use super::column::{hash_bits, put_column, put_pairs};
use super::layout::{Contents, Extent, NameEntry, PAGE_ROWS, VERSION, index_header};
use super::postings::put_postings;
use crate::encoding::Effort;
use crate::encoding::block::BlockEncoder;
use crate::encoding::varint::put_uvarint;

/// Pages of labels below this size are not worth compressing.
const PAGE_COMPRESS_MIN: usize = 64;
pub(crate) const PAGE_PLAIN: u8 = 0;
pub(crate) const PAGE_LZ4: u8 = 1;

struct RowInfo {
    id: SeriesId,
    labels: Labels,
    offset: u64,
    first: u32,
    last: u32,
}

/// Collects what the index must know.
pub(crate) struct PartBuilder {
    day: i64,
    rows: Vec<RowInfo>,
    offset: u64,
    samples: u64,
    min_t: i64,
    max_t: i64,
    encoder: BlockEncoder,
}

impl PartBuilder {
    /// `blocks_offset` is where the first block will stand in the file of blocks.
    pub(crate) fn new(day: i64, blocks_offset: usize) -> Self {
        let encoder = BlockEncoder::default();
        let offset = blocks_offset as u64;
        Self { day, rows: Vec::new(), offset, samples: 0, min_t: i64::MAX, max_t: i64::MIN, encoder }
    }

    /// What goes into the encoding of the series that follow; [`Effort::Fresh`] when nobody says.
    pub(crate) fn set_effort(&mut self, effort: Effort) {
        self.encoder = BlockEncoder::new(effort);
    }

    /// Number of series so far.
    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
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
    pub(crate) fn add(&mut self, id: SeriesId, labels: Labels, samples: &SampleBuffer, blocks: &mut Vec<u8>) {
        let (Some(first), Some(last)) = (samples.times.first(), samples.times.last()) else { return };
        debug_assert!(self.rows.last().is_none_or(|r| r.labels < labels), "series come in the order of their labels");
        let before = blocks.len();
        self.encoder.encode_series(id.0, samples, self.offset, blocks);
        let day_start = self.day * DAY_MS;
        let within = |t: i64| u32::try_from(t - day_start).expect("samples are of the part's day");
        self.rows.push(RowInfo { id, labels, offset: self.offset, first: within(*first), last: within(*last) });
        self.offset += (blocks.len() - before) as u64;
        self.samples += samples.len() as u64;
        self.min_t = self.min_t.min(*first);
        self.max_t = self.max_t.max(*last);
    }

    /// The bytes of the index file.
    pub(crate) fn index(&self) -> Vec<u8> {
        let mut out = index_header();
        let pages = self.put_pages(&mut out);
        let names = self.put_dictionaries(&mut out);
        let rows = u32::try_from(self.rows.len()).expect("a part has less than 2^32 series");
        let (hash_bits, row_bits) = hash_bits(rows);
        let hash = |r: &RowInfo| r.labels.stable_hash() >> (64 - hash_bits) << row_bits;
        let mut hashes: Vec<u64> = self.rows.iter().zip(0..).map(|(r, row)| hash(r) | row).collect();
        hashes.sort_unstable();
        let ends: Vec<u64> = self.rows.iter().map(|r| r.offset).chain([self.offset]).collect();
        let ids: Vec<u64> = self.rows.iter().map(|r| r.id.0).collect();
        let bounds: Vec<u64> = self.rows.iter().map(|r| u64::from(r.last) << 32 | u64::from(r.first)).collect();
        let mut put = |values: &[u64], put: fn(&[u64], &mut Vec<u8>)| {
            let start = out.len();
            put(values, &mut out);
            Extent::of(&out, start)
        };
        let ids = put(&ids, put_column);
        let offsets = put(&ends, put_column);
        let bounds = put(&bounds, put_pairs);
        let hashes = put(&hashes, put_column);
        let pages = put(&pages, |pages, out| out.extend(pages.iter().flat_map(|p| p.to_le_bytes())));
        let sections = [ids, offsets, bounds, hashes, pages];
        Contents { version: VERSION, day: self.day, rows, sections, names }.finish(&mut out);
        out
    }

    /// page := compression u8, plain length uvarint, data, crc32c u32le over all before;
    /// plain := (shared bytes uvarint, further bytes uvarint, bytes)*, each against the series before in the page.
    fn put_pages(&self, out: &mut Vec<u8>) -> Vec<u64> {
        let mut starts = Vec::with_capacity(self.rows.len() / PAGE_ROWS as usize + 2);
        for page in self.rows.chunks(PAGE_ROWS as usize) {
            let start = out.len();
            starts.push(start as u64);
            let mut plain = Vec::new();
            let mut before: &[u8] = &[];
            for row in page {
                let packed = row.labels.as_packed().as_bytes();
                let shared = before.iter().zip(packed).take_while(|(a, b)| a == b).count();
                put_uvarint(&mut plain, shared as u64);
                put_uvarint(&mut plain, (packed.len() - shared) as u64);
                plain.extend_from_slice(&packed[shared..]);
                before = packed;
            }
            let packed = (plain.len() >= PAGE_COMPRESS_MIN).then(|| lz4_flex::block::compress(&plain));
            let packed = packed.filter(|p| p.len() < plain.len());
            out.push(if packed.is_some() { PAGE_LZ4 } else { PAGE_PLAIN });
            put_uvarint(out, plain.len() as u64);
            out.extend_from_slice(packed.as_deref().unwrap_or(&plain));
            let crc = crc32c::crc32c(&out[start..]);
            out.extend_from_slice(&crc.to_le_bytes());
        }
        starts.push(out.len() as u64);
        starts
    }

    fn put_dictionaries(&self, out: &mut Vec<u8>) -> Vec<NameEntry> {
        let mut dictionaries: BTreeMap<&str, BTreeMap<&str, Vec<u32>>> = BTreeMap::new();
        for (row, info) in self.rows.iter().enumerate() {
            for (name, value) in &info.labels {
                dictionaries.entry(name).or_default().entry(value).or_default().push(row as u32);
            }
        }
        let mut names = Vec::with_capacity(dictionaries.len());
        for (name, values) in dictionaries {
            let mut fst = fst::MapBuilder::memory();
            let mut all: Vec<u32> = Vec::new();
            for (value, rows) in &values {
                fst.insert(value, out.len() as u64).expect("values ascend, as those of a B-tree do");
                put_postings(rows, out);
                all.extend(rows);
            }
            all.sort_unstable();
            let rows_at = out.len() as u64;
            put_postings(&all, out);
            let start = out.len();
            out.extend(fst.into_inner().expect("writing to memory does not fail"));
            names.push(NameEntry { name: name.to_owned(), values: Extent::of(out, start), rows_at });
        }
        names
    }
}
