//! The file of a part: blocks, filters, term index, table, footer. See `FORMAT.md`, "Part file".

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use trefoil_model::Labels;
use trefoil_parts::{PartFile, PartMeta, PartSet, PartWriter, PartsError};

use crate::EventsError;
use crate::columns::BlockColumns;
use crate::index::{BlockIndex, IndexWriter, JoinedTerms, join};
use crate::metrics;
use crate::table::{BlockInfo, BlockStream, CHUNK_STREAMS, Table, decode_streams, encode_streams};
use crate::tokens::{BlockTerms, Condition};
use crate::trace_index::TraceIndexWriter;
use crate::wire::{Cursor, Malformed, pack, put_len, unpack};
use crate::{filter, wire};

/// Name of the file within its part.
pub(crate) const FILE: &str = "events";
/// Version of parts of spans. Those of version 1 are still read.
pub(crate) const SPANS_VERSION: u16 = 3;
/// Version of parts of log records. Those of version 1 are still read.
pub(crate) const LOGS_VERSION: u16 = 2;
const MAGIC: &[u8; 8] = b"TREFEVNT";
const HEADER_BYTES: usize = 12;
const SECTION_BYTES: usize = 16;

/// Sections behind the blocks: filters, index, table, and from version 2 on streams, or of spans summaries.
fn sections(version: u16) -> usize {
    if version >= 2 { 4 } else { 3 }
}

fn footer_bytes(version: u16) -> usize {
    sections(version) * SECTION_BYTES + 4 + MAGIC.len()
}
/// Longest column of a block before compression that is read back.
const COLUMN_BYTES_MAX: usize = 1 << 30;

/// The columns of a block, checked.
pub(crate) struct Columns<'a> {
    columns: Vec<std::borrow::Cow<'a, [u8]>>,
}

impl<'a> Columns<'a> {
    pub(crate) fn open(block: &'a [u8]) -> Result<Self, Malformed> {
        let body = checked(block).ok_or(Malformed("checksum"))?;
        let mut cursor = Cursor::new(body);
        let count = cursor.count()?;
        let mut heads = Vec::with_capacity(count);
        for _ in 0..count {
            let encoding = cursor.u8()?;
            let raw = usize::try_from(cursor.u64()?).map_err(|_| Malformed("length"))?;
            let stored = usize::try_from(cursor.u64()?).map_err(|_| Malformed("length"))?;
            heads.push((encoding, raw, stored));
        }
        let mut columns = Vec::with_capacity(count);
        for (encoding, raw, stored) in heads {
            columns.push(unpack(encoding, cursor.take(stored)?, raw, COLUMN_BYTES_MAX)?);
        }
        Ok(Self { columns })
    }

    pub(crate) fn get(&self, index: usize) -> Result<&[u8], Malformed> {
        self.columns.get(index).map(|c| &**c).ok_or(Malformed("column"))
    }
}

/// What comes before a CRC-32C of it, if it is right.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, crc) = bytes.split_at(bytes.len().checked_sub(4)?);
    (crc32c::crc32c(body).to_le_bytes() == *crc).then_some(body)
}

/// A block as it is to be written.
pub(crate) struct SealedBlock {
    info: BlockInfo,
    bytes: Vec<u8>,
    filter: Vec<u8>,
    terms: JoinedTerms,
}

impl SealedBlock {
    /// `bytes` are those of the block; fills the filter facts of `info`.
    pub(crate) fn new(mut info: BlockInfo, bytes: Vec<u8>, mut terms: BlockTerms) -> Self {
        info.digit_run_max = terms.digit_run_max as u64;
        let filter = filter::build(&mut terms.keys);
        Self { info, bytes, filter, terms: JoinedTerms::from(&terms) }
    }
}

/// Writes the file of a part, block by block.
pub(crate) struct PartFileWriter {
    file: PartFile,
    version: u16,
    index: Option<IndexWriter>,
    /// Indexes of the parts whose blocks were copied.
    copied: Vec<tantivy::Index>,
    filters: Vec<u8>,
    streams: Vec<u8>,
    /// The table so far; the caller fills what is not about blocks.
    pub(crate) table: Table,
}

impl PartFileWriter {
    pub(crate) fn create(writer: &PartWriter, kind: &'static str, version: u16) -> Result<Self, EventsError> {
        let parts = |source| EventsError::Parts { kind, source };
        let mut file = writer.create_file(FILE).map_err(parts)?;
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&version.to_le_bytes());
        header.extend_from_slice(&[0, 0]);
        file.write_all(&header).map_err(EventsError::Write)?;
        Ok(Self {
            file,
            version,
            index: None,
            copied: Vec::new(),
            filters: Vec::new(),
            streams: Vec::new(),
            table: Table::default(),
        })
    }

    /// Writes a block; fills its places.
    pub(crate) fn add_block(&mut self, block: SealedBlock) -> Result<(), EventsError> {
        let index = match &mut self.index {
            Some(index) => index,
            None => self.index.insert(IndexWriter::new()?),
        };
        index.add(block.terms)?;
        self.push(block.info, &block.bytes, &block.filter)
    }

    fn push(&mut self, mut info: BlockInfo, block: &[u8], filter: &[u8]) -> Result<(), EventsError> {
        info.offset = self.file.position();
        info.len = block.len() as u64;
        info.filter_offset = self.filters.len() as u64;
        if !filter.is_empty() {
            self.filters.extend_from_slice(filter);
            self.filters.extend_from_slice(&crc32c::crc32c(filter).to_le_bytes());
        }
        info.filter_len = self.filters.len() as u64 - info.filter_offset;
        if self.version == LOGS_VERSION {
            let streams = encode_streams(&std::mem::take(&mut info.streams), info.min_t);
            (info.streams_offset, info.streams_len) = put_checked(&mut self.streams, &streams);
        }
        self.file.write_all(block).map_err(EventsError::Write)?;
        self.table.blocks.push(info);
        Ok(())
    }

    /// Copies the blocks of a part of the same version as they are; `number` gives its streams their numbers here.
    /// All copies come before the first new block. Errors when anything in the part is damaged.
    pub(crate) fn copy(&mut self, part: &PartReader, number: &mut dyn FnMut(u32) -> u32) -> Result<(), EventsError> {
        debug_assert!(self.index.is_none() && self.version == part.version && self.version >= 2, "copies come first");
        self.copied.push(part.block_index()?.index.clone());
        for (at, info) in part.table.blocks.iter().enumerate() {
            let block = part.block(at)?;
            BlockColumns::open(block).and_then(|b| b.check()).map_err(|m| part.corrupt(at, &m.to_string()))?;
            let filter = match part.filter(info) {
                Some(filter) => filter,
                None => return Err(part.corrupt(at, "filter checksum")),
            };
            let mut info = info.clone();
            info.streams = part.block_streams(at)?.into_owned();
            info.streams.iter_mut().for_each(|run| run.stream = number(run.stream));
            self.push(info, block, filter)?;
        }
        Ok(())
    }

    /// Writes the labels of the streams, in the order of their numbers.
    pub(crate) fn put_streams(&mut self, streams: &[Labels]) {
        self.table.stream_count = streams.len() as u64;
        for chunk in streams.chunks(CHUNK_STREAMS) {
            let mut raw = Vec::new();
            put_texts(&mut raw, chunk.iter().map(Labels::as_packed));
            let place = put_checked(&mut self.streams, &packed(&raw));
            self.table.chunks.push(place);
        }
    }

    /// Writes the summaries of traces.
    pub(crate) fn put_traces(&mut self, index: TraceIndexWriter) {
        self.table.trace_chunks = index.finish(&mut self.streams);
    }

    /// Writes what follows the blocks.
    pub(crate) fn finish(mut self, kind: &'static str) -> Result<(), EventsError> {
        let mut footer = Vec::with_capacity(footer_bytes(self.version));
        let index = match (self.index, self.copied.is_empty()) {
            (index, true) => index.map_or_else(IndexWriter::new, Ok)?.finish()?,
            (None, false) => join(self.copied)?,
            (Some(index), false) => {
                self.copied.push(tantivy::Index::open(index.finish()?).map_err(EventsError::Index)?);
                join(self.copied)?
            }
        };
        let mut index = index.to_bytes();
        let crc = crc32c::crc32c(&index);
        index.extend_from_slice(&crc.to_le_bytes());
        let mut table = packed(&self.table.encode(self.version));
        let crc = crc32c::crc32c(&table);
        table.extend_from_slice(&crc.to_le_bytes());
        for section in [&self.filters, &index, &table, &self.streams].into_iter().take(sections(self.version)) {
            footer.extend_from_slice(&self.file.position().to_le_bytes());
            footer.extend_from_slice(&(section.len() as u64).to_le_bytes());
            self.file.write_all(section).map_err(EventsError::Write)?;
        }
        let crc = crc32c::crc32c(&footer);
        footer.extend_from_slice(&crc.to_le_bytes());
        footer.extend_from_slice(MAGIC);
        self.file.write_all(&footer).map_err(EventsError::Write)?;
        self.file.finish().map_err(|source| EventsError::Parts { kind, source })?;
        Ok(())
    }
}

/// Appends bytes and their checksum; returns their place.
fn put_checked(out: &mut Vec<u8>, bytes: &[u8]) -> (u64, u64) {
    let start = out.len() as u64;
    out.extend_from_slice(bytes);
    out.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    (start, out.len() as u64 - start)
}

/// The `packed` of the format.
fn packed(raw: &[u8]) -> Vec<u8> {
    let (encoding, packed) = pack(raw);
    let mut out = vec![encoding];
    put_len(&mut out, raw.len());
    out.extend_from_slice(&packed);
    out
}

/// Undoes [`packed`].
fn unpacked(bytes: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let encoding = cursor.u8()?;
    let raw_len = usize::try_from(cursor.u64()?).map_err(|_| Malformed("length"))?;
    unpack(encoding, cursor.take(cursor.remaining())?, raw_len, COLUMN_BYTES_MAX)
}

/// A part, open for reading. Holds its metadata, so that its files stay.
pub(crate) struct PartReader {
    pub(crate) meta: Arc<PartMeta>,
    /// Of a part in an object store, its URL.
    path: std::path::PathBuf,
    bytes: Bytes,
    /// Version of its format.
    pub(crate) version: u16,
    filters: (usize, usize),
    index: (usize, usize),
    streams: (usize, usize),
    /// Blocks, streams, services.
    pub(crate) table: Table,
    open_index: Mutex<Option<Arc<BlockIndex>>>,
    /// What was found to be damaged.
    damaged: Mutex<BTreeSet<String>>,
}

impl PartReader {
    /// Maps a part and reads its table.
    pub(crate) fn open(set: &PartSet, meta: &Arc<PartMeta>, kind: &'static str) -> Result<Self, EventsError> {
        let path = match meta.location() {
            Some(location) => std::path::PathBuf::from(format!("{location}/{FILE}")),
            None => set.path(meta, FILE),
        };
        let bytes = set.map(meta, FILE).map_err(|source| match source {
            PartsError::CorruptFile { .. } => {
                EventsError::Corrupt { path: path.clone(), section: "all of it".to_owned(), reason: source.to_string() }
            }
            other => EventsError::Parts { kind, source: other },
        })?;
        let corrupt = |section: &str, reason: &str| EventsError::Corrupt {
            path: path.clone(),
            section: section.to_owned(),
            reason: reason.to_owned(),
        };
        let header_name = format!("header at bytes 0..{}", HEADER_BYTES.min(bytes.len()));
        if bytes.len() < HEADER_BYTES || &bytes[..8] != MAGIC {
            return Err(corrupt(&header_name, "too short or wrong magic"));
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if !(1..=SPANS_VERSION).contains(&version) {
            return Err(corrupt(&header_name, &format!("version {version}, this build reads up to {SPANS_VERSION}")));
        }
        let footer_start = bytes.len().saturating_sub(footer_bytes(version)).max(HEADER_BYTES);
        let footer_name = format!("footer at bytes {footer_start}..{}", bytes.len());
        let footer = &bytes[footer_start..];
        if footer.len() < footer_bytes(version) {
            return Err(corrupt(&footer_name, "too short"));
        }
        let places = checked(&footer[..footer.len() - 8]).ok_or_else(|| corrupt(&footer_name, "checksum mismatch"))?;
        let mut ranges = Vec::with_capacity(4);
        for pair in places.chunks_exact(SECTION_BYTES) {
            let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| pair[at + i]));
            let start = usize::try_from(number(0)).ok();
            let range = start.and_then(|start| Some((start, start.checked_add(usize::try_from(number(8)).ok()?)?)));
            ranges.push(range.filter(|r| r.1 <= bytes.len()).ok_or_else(|| corrupt(&footer_name, "range"))?);
        }
        // Before version 2 there is no section of streams.
        ranges.resize(4, (0, 0));
        let [filters, index, table, streams] = ranges.as_slice() else { return Err(corrupt(&footer_name, "sections")) };
        let table_name = format!("table at bytes {}..{}", table.0, table.1);
        let body = checked(&bytes[table.0..table.1]).ok_or_else(|| corrupt(&table_name, "checksum mismatch"))?;
        let parse = || Table::decode(&unpacked(body)?, version);
        let table = parse().map_err(|m| corrupt(&table_name, &m.to_string()))?;
        Ok(Self {
            meta: Arc::clone(meta),
            version,
            filters: *filters,
            index: *index,
            streams: *streams,
            path,
            bytes,
            table,
            open_index: Mutex::new(None),
            damaged: Mutex::default(),
        })
    }

    /// The bytes of a block.
    pub(crate) fn block(&self, block: usize) -> Result<&[u8], EventsError> {
        let info = self.table.blocks.get(block).ok_or_else(|| self.corrupt(block, "no such block"))?;
        self.range(info.offset, info.len).ok_or_else(|| self.corrupt(block, "place"))
    }

    /// The columns of a block of version 1. Errors when it is damaged, which is counted.
    pub(crate) fn columns(&self, block: usize) -> Result<Columns<'_>, EventsError> {
        Columns::open(self.block(block)?).map_err(|m| self.corrupt(block, &m.to_string()))
    }

    /// What a block has of each stream, in the order of its records. Errors when the list is damaged, which is counted.
    pub(crate) fn block_streams(&self, block: usize) -> Result<Cow<'_, [BlockStream]>, EventsError> {
        let info = self.table.blocks.get(block).ok_or_else(|| self.corrupt(block, "no such block"))?;
        if self.version < 2 {
            return Ok(Cow::Borrowed(&info.streams));
        }
        self.in_streams(info.streams_offset, info.streams_len)
            .and_then(|bytes| decode_streams(bytes, info, self.table.stream_count))
            .map(Cow::Owned)
            .map_err(|m| {
                let start = (self.streams.0 as u64).saturating_add(info.streams_offset);
                let end = start.saturating_add(info.streams_len);
                self.damage(format!("list of streams of block {block} at bytes {start}..{end}"), &m.to_string())
            })
    }

    /// The labels of the streams from number `chunk * CHUNK_STREAMS` on. Errors when they are damaged, which is
    /// counted.
    pub(crate) fn stream_chunk(&self, chunk: usize) -> Result<Vec<Labels>, EventsError> {
        if self.version < 2 {
            return Ok(self.table.streams.iter().skip(chunk * CHUNK_STREAMS).take(CHUNK_STREAMS).cloned().collect());
        }
        let read = || {
            let (offset, len) = *self.table.chunks.get(chunk).ok_or(Malformed("chunk"))?;
            let raw = unpacked(self.in_streams(offset, len)?)?;
            let mut cursor = Cursor::new(&raw);
            let count = cursor.count()?;
            let left = self.table.stream_count.saturating_sub((chunk * CHUNK_STREAMS) as u64);
            if count as u64 != left.min(CHUNK_STREAMS as u64) {
                return Err(Malformed("count of stream labels"));
            }
            (0..count).map(|_| Labels::from_packed(cursor.text()?).ok_or(Malformed("stream labels"))).collect()
        };
        read().map_err(|m: Malformed| {
            let (offset, len) = self.table.chunks.get(chunk).copied().unwrap_or_default();
            let start = (self.streams.0 as u64).saturating_add(offset);
            let section = format!("stream labels {chunk} at bytes {start}..{}", start.saturating_add(len));
            self.damage(section, &m.to_string())
        })
    }

    /// Bytes of the last section.
    pub(crate) fn in_last_section(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let (start, end) = self.streams;
        let within = offset.checked_add(len).is_some_and(|reach| reach <= (end - start) as u64);
        if within { self.range(start as u64 + offset, len) } else { None }
    }

    fn in_streams(&self, offset: u64, len: u64) -> Result<&[u8], Malformed> {
        self.in_last_section(offset, len).and_then(checked).ok_or(Malformed("checksum of streams"))
    }

    /// The filter of a block, empty for none; `None` when it is damaged.
    fn filter(&self, info: &BlockInfo) -> Option<&[u8]> {
        match info.filter_len {
            0 => Some(&[]),
            len => self.range(self.filters.0 as u64 + info.filter_offset, len).and_then(checked),
        }
    }

    /// The error for a damaged place, which is told and counted when it is met first.
    fn damage(&self, section: String, reason: &str) -> EventsError {
        if self.damaged.lock().insert(section.clone()) {
            metrics::BLOCKS_CORRUPT.inc();
            tracing::error!(path = %self.path.display(), section, reason, "part file is damaged");
        }
        EventsError::Corrupt { path: self.path.clone(), section, reason: reason.to_owned() }
    }

    /// Whether damage was met in it.
    pub(crate) fn is_damaged(&self) -> bool {
        !self.damaged.lock().is_empty()
    }

    /// The error for a damaged block, which is told and counted when it is met first.
    pub(crate) fn corrupt(&self, block: usize, reason: &str) -> EventsError {
        let section = match self.table.blocks.get(block) {
            Some(info) => format!("block {block} at bytes {}..{}", info.offset, info.offset.saturating_add(info.len)),
            None => format!("block {block}"),
        };
        self.damage(section, reason)
    }

    /// The error for damaged summaries of traces, likewise.
    pub(crate) fn corrupt_summaries(&self, chunk: usize, reason: &str) -> EventsError {
        let (offset, len) = self.table.trace_chunks.get(chunk).map_or((0, 0), |c| (c.offset, c.len));
        let start = (self.streams.0 as u64).saturating_add(offset);
        self.damage(format!("summaries of traces {chunk} at bytes {start}..{}", start.saturating_add(len)), reason)
    }

    fn range(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
    }

    /// Whether the filter of a block may have a key; true when there is no telling.
    pub(crate) fn filter_contains(&self, info: &BlockInfo, key: u64) -> bool {
        match self.filter(info) {
            Some(filter) => filter::contains(filter, key),
            None => {
                // It is not needed, only useful.
                let start = (self.filters.0 as u64).saturating_add(info.filter_offset);
                let end = start.saturating_add(info.filter_len);
                self.damage(format!("filter at bytes {start}..{end}"), "checksum mismatch");
                true
            }
        }
    }

    /// Keeps of `blocks` those that may satisfy every condition. Without a readable index it keeps all that the
    /// filters do not rule out.
    pub(crate) fn narrow(&self, blocks: &mut RoaringBitmap, conditions: &[Condition]) {
        if conditions.is_empty() || blocks.is_empty() {
            return;
        }
        if conditions.iter().any(|c| matches!(c, Condition::Token(_) | Condition::Term(_) | Condition::Edge(..))) {
            match self.block_index() {
                Ok(index) => {
                    // Cheap conditions first: they may leave nothing.
                    for pass in [false, true] {
                        for condition in conditions.iter().filter(|c| matches!(c, Condition::Edge(..)) == pass) {
                            if blocks.is_empty() {
                                return;
                            }
                            if let Err(error) = narrow_by_index(&index, blocks, condition) {
                                tracing::warn!(path = %self.path.display(), %error, "term index was not used");
                            }
                        }
                    }
                }
                // It was told, and is not needed, only useful.
                Err(error) => tracing::debug!(path = %self.path.display(), %error, "term index was not used"),
            }
        }
        for condition in conditions {
            match condition {
                Condition::Key(key) => self.retain(blocks, |info| self.filter_contains(info, *key)),
                Condition::EitherKey(a, b) => {
                    self.retain(blocks, |info| self.filter_contains(info, *a) || self.filter_contains(info, *b));
                }
                Condition::KeyOrLonger(key, len) => {
                    self.retain(blocks, |info| info.digit_run_max > *len as u64 || self.filter_contains(info, *key));
                }
                Condition::Token(_) | Condition::Term(_) | Condition::Edge(..) => {}
            }
        }
    }

    fn retain(&self, blocks: &mut RoaringBitmap, keep: impl Fn(&BlockInfo) -> bool) {
        *blocks = blocks.iter().filter(|b| self.table.blocks.get(*b as usize).is_some_and(&keep)).collect();
    }

    pub(crate) fn block_index(&self) -> Result<Arc<BlockIndex>, EventsError> {
        let mut open = self.open_index.lock();
        if let Some(index) = &*open {
            return Ok(Arc::clone(index));
        }
        let section = &self.bytes[self.index.0..self.index.1];
        let name = || format!("index at bytes {}..{}", self.index.0, self.index.1);
        let body = match self.damaged.lock().contains(&name()) {
            // It is large.
            true => None,
            false => checked(section),
        };
        let body = body.ok_or_else(|| self.damage(name(), "checksum mismatch"))?;
        let index = BlockIndex::open(&self.bytes.slice_ref(body), self.table.blocks.len());
        let index = Arc::new(index.map_err(|error| self.damage(name(), &error.to_string()))?);
        *open = Some(Arc::clone(&index));
        Ok(index)
    }

    /// Bytes that the open index holds in memory.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.open_index.lock().as_ref().map_or(0, |index| index.bytes())
    }

    /// Closes the index; the next query opens it again.
    pub(crate) fn close_index(&self) {
        *self.open_index.lock() = None;
    }
}

fn narrow_by_index(index: &BlockIndex, blocks: &mut RoaringBitmap, condition: &Condition) -> Result<(), EventsError> {
    match condition {
        Condition::Token(token) => *blocks &= index.token(token)?,
        Condition::Term(term) => *blocks &= index.term(term)?,
        Condition::Edge(edge, text) => {
            if let Some(found) = index.edge(*edge, text)? {
                *blocks &= found;
            }
        }
        Condition::Key(_) | Condition::EitherKey(..) | Condition::KeyOrLonger(..) => {}
    }
    Ok(())
}

/// Writes a list of byte strings; used by tables.
pub(crate) fn put_texts<'a>(out: &mut Vec<u8>, texts: impl ExactSizeIterator<Item = &'a str>) {
    put_len(out, texts.len());
    texts.for_each(|text| wire::put_bytes(out, text.as_bytes()));
}
