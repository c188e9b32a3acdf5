//! Answers from a mapped part. Every range is checked against its checksum once, before its first use.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fst::{IntoStreamer, Streamer};
use rayon::prelude::*;
use roaring::RoaringBitmap;
use trefoil_model::{Labels, SampleBuffer, SeriesId, StoreError, TimeRange, time::DAY_MS};

use super::column;
use super::layout::{
    BLOCKS_FILE, Contents, Extent, HEADER_BYTES, INDEX_FILE, NameEntry, PAGE_ROWS, Section, check_blocks_header,
};
use super::postings::{add_postings, get_postings, postings_meet};
use super::writer::{PAGE_LZ4, PAGE_PLAIN};
use crate::damage_log;
use crate::encoding::DecodeError;
use crate::encoding::block::{BlockError, Blocks};
use crate::encoding::varint::Reader;
use crate::matching::{LabelIndex, Rows, VALUES_PER_CHECK, Wanted};

mod verify;

const PAGE_BYTES_MAX: usize = 64 << 20;
/// Pages that a core reads at once.
const PAGES_AT_ONCE: usize = 64;

/// The number of the next reader.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// An open part.
pub(crate) struct PartReader {
    /// For messages: where the part is.
    place: String,
    /// Different from that of every other reader.
    number: u64,
    index: Bytes,
    blocks: Bytes,
    contents: Contents,
    /// Whether the checksum of each section holds, once that is known.
    sections: [OnceLock<bool>; 5],
    /// The dictionary of each name of the contents, `None` when its checksum does not hold.
    dictionaries: Vec<OnceLock<Option<fst::Map<Bytes>>>>,
}

impl std::fmt::Debug for PartReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartReader").field("place", &self.place).field("rows", &self.contents.rows).finish()
    }
}

impl PartReader {
    /// Opens the two files of a part. Reads little more than the table of contents.
    pub(crate) fn open(place: String, index: Bytes, blocks: Bytes) -> Result<Self, StoreError> {
        let corrupt = |file: &str| StoreError::Corrupt(format!("{place}/{file} is not a readable file of a part"));
        let contents = Contents::read(&index).map_err(|_| corrupt(INDEX_FILE))?;
        check_blocks_header(&blocks).map_err(|_| corrupt(BLOCKS_FILE))?;
        let dictionaries = contents.names.iter().map(|_| OnceLock::new()).collect();
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        Ok(Self { place, number, index, blocks, contents, sections: Default::default(), dictionaries })
    }

    /// Opens the index alone: everything but samples. Reading those is an error.
    pub(crate) fn open_index(place: String, index: Bytes) -> Result<Self, StoreError> {
        Self::open(place, index, Bytes::from(super::layout::blocks_header()))
    }

    /// UTC day.
    pub(crate) fn day(&self) -> i64 {
        self.contents.day
    }

    /// Number of series.
    pub(crate) fn rows(&self) -> u32 {
        self.contents.rows
    }

    fn corrupt(&self, what: impl std::fmt::Display) -> StoreError {
        let text = format!("{}/{INDEX_FILE}: {what} fails its checksum", self.place);
        damage_log::note(&text);
        StoreError::Corrupt(text)
    }

    fn verified(&self, extent: Extent) -> Option<Bytes> {
        let data = self.index.slice(extent.range());
        (crc32c::crc32c(&data) == extent.crc).then_some(data)
    }

    fn section(&self, section: Section) -> Result<&[u8], StoreError> {
        let extent = self.contents.sections[section as usize];
        let holds = self.sections[section as usize].get_or_init(|| self.verified(extent).is_some());
        if *holds { Ok(&self.index[extent.range()]) } else { Err(self.corrupt(section.name())) }
    }

    fn u64_at(&self, section: Section, at: u32) -> Result<u64, StoreError> {
        let data = self.section(section)?;
        let at = at as usize * 8;
        let bytes = data.get(at..at + 8).ok_or_else(|| self.corrupt(section.name()))?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("the slice has eight bytes")))
    }

    /// A value of a column that is packed since version 2.
    fn value_at(&self, section: Section, at: u32) -> Result<u64, StoreError> {
        if self.contents.version == 1 {
            return self.u64_at(section, at);
        }
        column::get(self.section(section)?, at).map_err(|_| self.corrupt(section.name()))
    }

    /// The first bits of a hash, and a row.
    fn hash_at(&self, at: u32, row_bits: u32) -> Result<(u64, u32), StoreError> {
        let v = self.value_at(Section::Hashes, at)?;
        if self.contents.version == 1 {
            return Ok((v & u64::from(u32::MAX), (v >> 32) as u32));
        }
        Ok((v >> row_bits, (v & ((1 << row_bits) - 1)) as u32))
    }

    /// The id of a row's series.
    pub(crate) fn id(&self, row: u32) -> Result<SeriesId, StoreError> {
        self.value_at(Section::Ids, row).map(SeriesId)
    }

    /// First and last time of a row, Unix milliseconds.
    pub(crate) fn bounds(&self, row: u32) -> Result<(i64, i64), StoreError> {
        let pair = match self.contents.version {
            1 => self.u64_at(Section::Bounds, row)?,
            _ => column::get_pair(self.section(Section::Bounds)?, row).map_err(|_| self.corrupt("bounds"))?,
        };
        let (first, last) = (pair as u32, (pair >> 32) as u32);
        let day_start = self.contents.day.saturating_mul(DAY_MS);
        Ok((day_start.saturating_add(i64::from(first)), day_start.saturating_add(i64::from(last))))
    }

    /// Finds the id of a series by its labels.
    pub(crate) fn find(&self, labels: &Labels) -> Result<Option<SeriesId>, StoreError> {
        let (hash_bits, row_bits) = match self.contents.version {
            1 => (32, 32),
            _ => column::hash_bits(self.contents.rows),
        };
        let hash = labels.stable_hash() >> (64 - hash_bits);
        let (mut low, mut high) = (0, self.contents.rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.hash_at(middle, row_bits)?.0 < hash {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        for at in low..self.contents.rows {
            let (h, row) = self.hash_at(at, row_bits)?;
            if h != hash {
                break;
            }
            if self.labels(row)? == *labels {
                return self.id(row).map(Some);
            }
        }
        Ok(None)
    }

    /// The labels of one row.
    pub(crate) fn labels(&self, row: u32) -> Result<Labels, StoreError> {
        let mut found = None;
        self.read_page(row / PAGE_ROWS, &mut |r| r == row, &mut |_, labels| found = Some(labels))?;
        found.ok_or_else(|| self.corrupt(format_args!("page of row {row}")))
    }

    /// Calls `each` with the labels of the given rows, ascending.
    pub(crate) fn for_each_labels(
        &self,
        rows: &RoaringBitmap,
        each: &mut dyn FnMut(u32, Labels) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut rows = rows.iter().peekable();
        while let Some(first) = rows.peek().copied() {
            let page = first / PAGE_ROWS;
            let mut found = Vec::new();
            let mut want = |row| rows.next_if_eq(&row).is_some();
            self.read_page(page, &mut want, &mut |row, labels| found.push((row, labels)))?;
            if found.is_empty() {
                return Err(self.corrupt(format_args!("page {page}")));
            }
            found.into_iter().try_for_each(|(row, labels)| each(row, labels))?;
        }
        Ok(())
    }

    /// The labels of ascending rows, in their order. Many pages are read on all cores; `check` is asked now and then.
    pub(crate) fn labels_of(
        &self,
        rows: &[u32],
        check: &(dyn Fn() -> Result<(), StoreError> + Sync),
    ) -> Result<Vec<Labels>, StoreError> {
        let pages: Vec<&[u32]> = rows.chunk_by(|a, b| a / PAGE_ROWS == b / PAGE_ROWS).collect();
        let read = |pages: &[&[u32]]| -> Result<Vec<Labels>, StoreError> {
            check()?;
            let mut found = Vec::with_capacity(pages.iter().map(|rows| rows.len()).sum());
            for rows in pages {
                let (page, before) = (rows[0] / PAGE_ROWS, found.len());
                let mut rest = rows.iter().peekable();
                self.read_page(page, &mut |r| rest.next_if(|next| **next == r).is_some(), &mut |_, labels| {
                    found.push(labels);
                })?;
                if found.len() - before != rows.len() {
                    return Err(self.corrupt(format_args!("page {page}")));
                }
            }
            Ok(found)
        };
        if pages.len() < 2 * PAGES_AT_ONCE {
            return read(&pages);
        }
        let parts: Vec<Vec<Labels>> = pages.par_chunks(PAGES_AT_ONCE).map(read).collect::<Result<_, _>>()?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Calls `each` with the labels of those rows of a page that are wanted.
    pub(crate) fn read_page(
        &self,
        page: u32,
        want: &mut dyn FnMut(u32) -> bool,
        each: &mut dyn FnMut(u32, Labels),
    ) -> Result<(), StoreError> {
        let range = self.u64_at(Section::Pages, page)?..self.u64_at(Section::Pages, page + 1)?;
        let corrupt = || self.corrupt(format_args!("page {page}"));
        let data = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let data = data.and_then(|(a, b)| self.index.get(a..b)).ok_or_else(corrupt)?;
        self.decode_page(page, data, want, each).map_err(|_| corrupt())
    }

    fn decode_page(
        &self,
        page: u32,
        data: &[u8],
        want: &mut dyn FnMut(u32) -> bool,
        each: &mut dyn FnMut(u32, Labels),
    ) -> Result<(), DecodeError> {
        let (body, crc) = data.split_last_chunk::<4>().ok_or(DecodeError)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(DecodeError);
        }
        let mut from = Reader::new(body);
        let compression = from.u8()?;
        let n = usize::try_from(from.uvarint()?).map_err(|_| DecodeError)?;
        let unpacked;
        let plain = match compression {
            PAGE_PLAIN => from.rest(),
            PAGE_LZ4 if n <= PAGE_BYTES_MAX => {
                unpacked = lz4_flex::block::decompress(from.rest(), n).map_err(|_| DecodeError)?;
                &unpacked
            }
            _ => return Err(DecodeError),
        };
        let mut from = Reader::new(plain);
        let mut packed = Vec::new();
        for row in page * PAGE_ROWS..self.contents.rows.min((page + 1) * PAGE_ROWS) {
            let shared = usize::try_from(from.uvarint()?).map_err(|_| DecodeError)?;
            let n = from.length(1)?;
            if shared > packed.len() {
                return Err(DecodeError);
            }
            packed.truncate(shared);
            packed.extend_from_slice(from.bytes(n)?);
            if want(row) {
                let text = std::str::from_utf8(&packed).map_err(|_| DecodeError)?;
                each(row, Labels::from_packed(text).ok_or(DecodeError)?);
            }
        }
        Ok(())
    }

    /// Appends a row's samples in the range to `out`, whose times are all before them.
    pub(crate) fn read(&self, row: u32, range: TimeRange, out: &mut SampleBuffer) -> Result<(), StoreError> {
        let id = self.id(row)?;
        let extent = self.value_at(Section::Offsets, row)?..self.value_at(Section::Offsets, row + 1)?;
        let corrupt = |reason: &str| {
            let (place, start, end) = (&self.place, extent.start, extent.end);
            let text = format!("{place}/{BLOCKS_FILE}: a block in bytes {start}..{end} {reason}");
            damage_log::note(&text);
            StoreError::Corrupt(text)
        };
        let data = usize::try_from(extent.start).ok().zip(usize::try_from(extent.end).ok());
        let data = data.filter(|(start, _)| *start >= HEADER_BYTES).and_then(|(a, b)| self.blocks.get(a..b));
        let from = out.len();
        let mut rollups = Vec::new();
        let blocks =
            Blocks::new(id.0, data.ok_or_else(|| corrupt("is not in the file"))?).in_file(&self.blocks, self.number);
        for block in blocks {
            let block = block.map_err(|e| match e {
                BlockError::Checksum => corrupt("fails its checksum"),
                BlockError::Content => corrupt("has an unknown encoding"),
            })?;
            if block.has_rollups() {
                block.rollups(range, &mut rollups).map_err(|_| corrupt("does not decode"))?;
                continue;
            }
            if block.min_t >= range.end_ms {
                break;
            }
            if range.overlaps(block.min_t, block.max_t) {
                block.decode(range, out).map_err(|_| corrupt("does not decode"))?;
            }
        }
        if !rollups.is_empty() {
            crate::downsample::attach(out, from, rollups);
        }
        Ok(())
    }

    fn name(&self, name: &str) -> Option<(usize, &NameEntry)> {
        let at = self.contents.names.binary_search_by(|n| n.name.as_str().cmp(name)).ok()?;
        Some((at, &self.contents.names[at]))
    }

    fn dictionary(&self, at: usize) -> Result<&fst::Map<Bytes>, StoreError> {
        let entry = &self.contents.names[at];
        self.dictionaries[at]
            // An fst is walked without checks of its own: only verified bytes may reach it.
            .get_or_init(|| fst::Map::new(self.verified(entry.values)?).ok())
            .as_ref()
            .ok_or_else(|| self.corrupt(format_args!("dictionary of label {:?}", entry.name)))
    }

    fn postings(&self, at: u64) -> Result<RoaringBitmap, StoreError> {
        get_postings(self.postings_data(at)).map_err(|_| self.corrupt(format_args!("postings at {at}")))
    }

    fn postings_data(&self, at: u64) -> &[u8] {
        usize::try_from(at).ok().and_then(|at| self.index.get(at..)).unwrap_or_default()
    }

    /// Calls `each` with the wanted values and where their postings are.
    fn for_each_value(
        &self,
        name: &str,
        wanted: &Wanted<'_>,
        each: &mut dyn FnMut(&str, u64) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let Some((at, _)) = self.name(name) else { return Ok(()) };
        let dictionary = self.dictionary(at)?;
        let mut each = |value: &[u8], postings_at: u64| {
            let value = std::str::from_utf8(value).map_err(|_| self.corrupt("a label value"))?;
            each(value, postings_at)
        };
        match wanted {
            Wanted::All => {
                let mut stream = dictionary.stream();
                while let Some((value, at)) = stream.next() {
                    each(value, at)?;
                }
            }
            Wanted::Listed(values) => {
                for value in *values {
                    if let Some(at) = dictionary.get(value) {
                        each(value.as_bytes(), at)?;
                    }
                }
            }
            Wanted::Set(set) => {
                let mut stream = dictionary.search(&**set).into_stream();
                while let Some((value, at)) = stream.next() {
                    each(value, at)?;
                }
            }
            Wanted::Tested(prefix, m) => {
                let mut stream = dictionary.range().ge(prefix).into_stream();
                while let Some((value, at)) = stream.next() {
                    if !value.starts_with(prefix.as_bytes()) {
                        break;
                    }
                    let text = std::str::from_utf8(value).map_err(|_| self.corrupt("a label value"))?;
                    if m.matches(text) != m.op.is_negative() {
                        each(value, at)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl LabelIndex for PartReader {
    fn all_rows(&self) -> Result<RoaringBitmap, StoreError> {
        let mut rows = RoaringBitmap::new();
        rows.insert_range(0..self.contents.rows);
        Ok(rows)
    }

    fn rows_with_name(&self, name: &str) -> Result<RoaringBitmap, StoreError> {
        match self.name(name) {
            Some((_, entry)) => self.postings(entry.rows_at),
            None => Ok(RoaringBitmap::new()),
        }
    }

    fn rows_with_value(&self, name: &str, value: &str) -> Result<RoaringBitmap, StoreError> {
        let Some((at, _)) = self.name(name) else { return Ok(RoaringBitmap::new()) };
        match self.dictionary(at)?.get(value) {
            Some(at) => self.postings(at),
            None => Ok(RoaringBitmap::new()),
        }
    }

    fn rows_wanted(
        &self,
        name: &str,
        wanted: &Wanted<'_>,
        within: Option<&RoaringBitmap>,
        check: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<RoaringBitmap, StoreError> {
        let (mut few, mut many) = (Vec::new(), RoaringBitmap::new());
        let mut seen = 0u32;
        self.for_each_value(name, wanted, &mut |_, at| {
            seen = seen.wrapping_add(1);
            if seen.is_multiple_of(VALUES_PER_CHECK) {
                check()?;
            }
            let added = add_postings(self.postings_data(at), within, &mut few, &mut many);
            added.map_err(|_| self.corrupt(format_args!("postings at {at}")))
        })?;
        // In order a bitmap is built without searching.
        few.sort_unstable();
        many |= few.into_iter().collect::<RoaringBitmap>();
        Ok(many)
    }

    fn values(
        &self,
        name: &str,
        wanted: &Wanted<'_>,
        rows: Option<&Rows<'_>>,
        each: &mut dyn FnMut(&str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.for_each_value(name, wanted, &mut |value, at| {
            let has_row = match rows {
                None => Ok(true),
                Some(rows) => postings_meet(self.postings_data(at), rows),
            };
            if has_row.map_err(|_| self.corrupt(format_args!("postings at {at}")))? { each(value) } else { Ok(()) }
        })
    }

    fn names(
        &self,
        rows: Option<&Rows<'_>>,
        each: &mut dyn FnMut(&str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for entry in &self.contents.names {
            let has_row = match rows {
                None => true,
                Some(rows) => rows.meet(&self.postings(entry.rows_at)?),
            };
            if has_row {
                each(&entry.name)?;
            }
        }
        Ok(())
    }
}
