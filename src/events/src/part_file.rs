//! The file of a part: blocks, filters, term index, table, footer. See `FORMAT.md`, "Part file".

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use trefoil_parts::{PartFile, PartMeta, PartSet, PartWriter, PartsError};

use crate::EventsError;
use crate::index::{BlockIndex, IndexWriter};
use crate::metrics;
use crate::table::{BlockInfo, Table};
use crate::tokens::{BlockTerms, Condition};
use crate::wire::{Cursor, Malformed, pack, put_len, unpack};
use crate::{filter, wire};

/// Name of the file within its part.
pub(crate) const FILE: &str = "events";
/// Version of the format that this build writes.
pub(crate) const VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"TREFEVNT";
const HEADER_BYTES: usize = 12;
const FOOTER_BYTES: usize = 8 * 6 + 4 + 8;
/// Longest column of a block before compression that is read back.
const COLUMN_BYTES_MAX: usize = 1 << 30;

/// Encodes the columns of a block: each compressed when it pays, all under one checksum.
pub(crate) fn seal_columns(columns: &[Vec<u8>]) -> Vec<u8> {
    let packed: Vec<_> = columns.iter().map(|column| pack(column)).collect();
    let mut out = Vec::with_capacity(packed.iter().map(|(_, p)| p.len() + 8).sum::<usize>() + 8);
    put_len(&mut out, columns.len());
    for (column, (encoding, bytes)) in columns.iter().zip(&packed) {
        out.push(*encoding);
        put_len(&mut out, column.len());
        put_len(&mut out, bytes.len());
    }
    packed.iter().for_each(|(_, bytes)| out.extend_from_slice(bytes));
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

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

/// Writes the file of a part, block by block.
pub(crate) struct PartFileWriter {
    file: PartFile,
    index: IndexWriter,
    filters: Vec<u8>,
    /// The table so far; the caller fills what is not about blocks.
    pub(crate) table: Table,
}

impl PartFileWriter {
    pub(crate) fn create(writer: &PartWriter, kind: &'static str) -> Result<Self, EventsError> {
        let parts = |source| EventsError::Parts { kind, source };
        let mut file = writer.create_file(FILE).map_err(parts)?;
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&[0, 0]);
        file.write_all(&header).map_err(EventsError::Write)?;
        Ok(Self { file, index: IndexWriter::new()?, filters: Vec::new(), table: Table::default() })
    }

    /// Writes a block; fills the places and filter facts of `info`.
    pub(crate) fn add_block(
        &mut self,
        mut info: BlockInfo,
        columns: &[Vec<u8>],
        mut terms: BlockTerms,
    ) -> Result<(), EventsError> {
        let block = seal_columns(columns);
        info.offset = self.file.position();
        info.len = block.len() as u64;
        info.digit_run_max = terms.digit_run_max as u64;
        let filter = filter::build(&mut terms.keys);
        info.filter_offset = self.filters.len() as u64;
        if !filter.is_empty() {
            self.filters.extend_from_slice(&filter);
            self.filters.extend_from_slice(&crc32c::crc32c(&filter).to_le_bytes());
        }
        info.filter_len = self.filters.len() as u64 - info.filter_offset;
        self.index.add(&terms)?;
        self.file.write_all(&block).map_err(EventsError::Write)?;
        self.table.blocks.push(info);
        Ok(())
    }

    /// Writes what follows the blocks.
    pub(crate) fn finish(mut self, kind: &'static str) -> Result<(), EventsError> {
        let mut footer = Vec::with_capacity(FOOTER_BYTES);
        let mut index = self.index.finish()?;
        let crc = crc32c::crc32c(&index);
        index.extend_from_slice(&crc.to_le_bytes());
        let raw = self.table.encode();
        let (encoding, packed) = pack(&raw);
        let mut table = vec![encoding];
        put_len(&mut table, raw.len());
        table.extend_from_slice(&packed);
        let crc = crc32c::crc32c(&table);
        table.extend_from_slice(&crc.to_le_bytes());
        for section in [&self.filters, &index, &table] {
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

/// A part, open for reading. Holds its metadata, so that its files stay.
pub(crate) struct PartReader {
    pub(crate) meta: Arc<PartMeta>,
    path: std::path::PathBuf,
    bytes: Bytes,
    filters: (usize, usize),
    index: (usize, usize),
    /// Blocks, streams, services.
    pub(crate) table: Table,
    open_index: Mutex<Option<Arc<BlockIndex>>>,
}

impl PartReader {
    /// Maps a part and reads its table.
    pub(crate) fn open(set: &PartSet, meta: &Arc<PartMeta>, kind: &'static str) -> Result<Self, EventsError> {
        let bytes = set.map(meta, FILE).map_err(|source: PartsError| EventsError::Parts { kind, source })?;
        let path = set.path(meta, FILE);
        let corrupt = |section: &str, reason: &str| EventsError::Corrupt {
            path: path.clone(),
            section: section.to_owned(),
            reason: reason.to_owned(),
        };
        if bytes.len() < HEADER_BYTES + FOOTER_BYTES || &bytes[..8] != MAGIC {
            return Err(corrupt("header", "too short or wrong magic"));
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(corrupt("header", &format!("version {version}, this build reads {VERSION}")));
        }
        let footer = &bytes[bytes.len() - FOOTER_BYTES..];
        let sections = checked(&footer[..FOOTER_BYTES - 8]).ok_or_else(|| corrupt("footer", "checksum mismatch"))?;
        let mut ranges = Vec::with_capacity(3);
        for pair in sections.chunks_exact(16) {
            let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| pair[at + i]));
            let start = usize::try_from(number(0)).ok();
            let range = start.and_then(|start| Some((start, start.checked_add(usize::try_from(number(8)).ok()?)?)));
            ranges.push(range.filter(|r| r.1 <= bytes.len()).ok_or_else(|| corrupt("footer", "range"))?);
        }
        let [filters, index, table] = ranges.as_slice() else { return Err(corrupt("footer", "sections")) };
        let body = checked(&bytes[table.0..table.1]).ok_or_else(|| corrupt("table", "checksum mismatch"))?;
        let parse = || {
            let mut cursor = Cursor::new(body);
            let encoding = cursor.u8()?;
            let raw_len = usize::try_from(cursor.u64()?).map_err(|_| Malformed("length"))?;
            let raw = unpack(encoding, cursor.take(cursor.remaining())?, raw_len, COLUMN_BYTES_MAX)?;
            Table::decode(&raw)
        };
        let table = parse().map_err(|m| corrupt("table", &m.to_string()))?;
        Ok(Self {
            meta: Arc::clone(meta),
            filters: *filters,
            index: *index,
            path,
            bytes,
            table,
            open_index: Mutex::new(None),
        })
    }

    /// The columns of a block. Errors when it is damaged, which is counted.
    pub(crate) fn columns(&self, block: usize) -> Result<Columns<'_>, EventsError> {
        let info = self.table.blocks.get(block).ok_or_else(|| self.corrupt(block, "no such block"))?;
        self.range(info.offset, info.len)
            .ok_or(Malformed("place"))
            .and_then(Columns::open)
            .map_err(|m| self.corrupt(block, &m.to_string()))
    }

    /// The error for a damaged block; counts it.
    pub(crate) fn corrupt(&self, block: usize, reason: &str) -> EventsError {
        metrics::BLOCKS_CORRUPT.inc();
        EventsError::Corrupt { path: self.path.clone(), section: format!("block {block}"), reason: reason.to_owned() }
    }

    fn range(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
    }

    /// Whether the filter of a block may have a key; true when there is no telling.
    pub(crate) fn filter_contains(&self, info: &BlockInfo, key: u64) -> bool {
        if info.filter_len == 0 {
            return false;
        }
        match self.range(self.filters.0 as u64 + info.filter_offset, info.filter_len).and_then(checked) {
            Some(filter) => filter::contains(filter, key),
            None => {
                metrics::BLOCKS_CORRUPT.inc();
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
                Err(error) => tracing::warn!(path = %self.path.display(), %error, "term index was not used"),
            }
        }
        for condition in conditions {
            match condition {
                Condition::Key(key) => self.retain(blocks, |info| self.filter_contains(info, *key)),
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

    fn block_index(&self) -> Result<Arc<BlockIndex>, EventsError> {
        let mut open = self.open_index.lock();
        if let Some(index) = &*open {
            return Ok(Arc::clone(index));
        }
        let section = &self.bytes[self.index.0..self.index.1];
        let body = checked(section).ok_or_else(|| {
            metrics::BLOCKS_CORRUPT.inc();
            EventsError::Corrupt {
                path: self.path.clone(),
                section: "index".to_owned(),
                reason: "checksum mismatch".to_owned(),
            }
        })?;
        let index = Arc::new(BlockIndex::open(&self.bytes.slice_ref(body))?);
        *open = Some(Arc::clone(&index));
        Ok(index)
    }

    /// Bytes that the open index holds in memory.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.open_index.lock().as_ref().map_or(0, |index| index.bytes)
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
        Condition::Key(_) | Condition::KeyOrLonger(..) => {}
    }
    Ok(())
}

/// Writes a list of byte strings; used by tables.
pub(crate) fn put_texts<'a>(out: &mut Vec<u8>, texts: impl ExactSizeIterator<Item = &'a str>) {
    put_len(out, texts.len());
    texts.for_each(|text| wire::put_bytes(out, text.as_bytes()));
}
