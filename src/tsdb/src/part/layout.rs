//! The skeleton of an index file: header, sections, table of contents, trailer.

use std::collections::BTreeMap;

use crate::encoding::DecodeError;
use crate::encoding::varint::{Reader, put_ivarint, put_text, put_uvarint};

/// Format version of `index` and `blocks` that is written, and [`trefoil_parts::PartMeta::format`]; all before it are
/// read.
pub(crate) const VERSION: u16 = 3;
/// Name of the index file in a part.
pub(crate) const INDEX_FILE: &str = "index";
/// Name of the file of blocks in a part.
pub(crate) const BLOCKS_FILE: &str = "blocks";
/// Series to a page of labels.
pub(crate) const PAGE_ROWS: u32 = 32;

const INDEX_MAGIC: &[u8; 6] = b"TFindx";
const BLOCKS_MAGIC: &[u8; 6] = b"TFblks";
const END_MAGIC: &[u8; 8] = b"TFindend";
/// Bytes of a header: magic and version.
pub(crate) const HEADER_BYTES: usize = 8;
const TRAILER_BYTES: usize = 24;

/// What a section holds; the position in the table of contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    /// Series id of each row: a column, see [`super::column`] (version 1: u64le).
    Ids,
    /// Where each row's blocks begin in `blocks`, and one more for where the last ends: a column (version 1: u64le).
    Offsets,
    /// First (low half) and last time of each row, milliseconds since the beginning of the day: pairs (version 1:
    /// u32le each).
    Bounds,
    /// First bits of the labels' hash and row, sorted: a column (version 1: the first 32 bits u32le, row u32le).
    Hashes,
    /// Where each page of labels begins in this file, u64le, and one more for where the last ends.
    Pages,
}

const SECTIONS: [Section; 5] = [Section::Ids, Section::Offsets, Section::Bounds, Section::Hashes, Section::Pages];

impl Section {
    /// For messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ids => "ids",
            Self::Offsets => "offsets",
            Self::Bounds => "bounds",
            Self::Hashes => "hashes",
            Self::Pages => "pages",
        }
    }
}

/// A checksummed range of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

impl Extent {
    pub(crate) fn of(file: &[u8], offset: usize) -> Self {
        let data = &file[offset..];
        Self { offset: offset as u64, len: data.len() as u64, crc: crc32c::crc32c(data) }
    }

    /// The bytes, whether or not their checksum holds.
    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        self.offset as usize..(self.offset + self.len) as usize
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_uvarint(out, self.offset);
        put_uvarint(out, self.len);
        out.extend_from_slice(&self.crc.to_le_bytes());
    }

    fn get(from: &mut Reader<'_>, file_len: u64) -> Result<Self, DecodeError> {
        let extent = Self { offset: from.uvarint()?, len: from.uvarint()?, crc: from.u32()? };
        match extent.offset.checked_add(extent.len) {
            Some(end) if end <= file_len => Ok(extent),
            _ => Err(DecodeError),
        }
    }
}

/// A label name: its dictionary and the rows that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameEntry {
    pub(crate) name: String,
    /// An fst from values to where their postings begin in this file.
    pub(crate) values: Extent,
    /// Where the postings of all rows with this label begin.
    pub(crate) rows_at: u64,
}

/// The table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Format version of the file.
    pub(crate) version: u16,
    /// UTC day.
    pub(crate) day: i64,
    /// Number of series.
    pub(crate) rows: u32,
    /// One for each [`Section`], in their order.
    pub(crate) sections: [Extent; 5],
    /// Sorted by name.
    pub(crate) names: Vec<NameEntry>,
}

/// The header of an index file.
pub(crate) fn index_header() -> Vec<u8> {
    header(INDEX_MAGIC)
}

/// The header of a file of blocks.
pub(crate) fn blocks_header() -> Vec<u8> {
    header(BLOCKS_MAGIC)
}

fn header(magic: &[u8; 6]) -> Vec<u8> {
    let mut out = magic.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out
}

/// Checks magic and version of a file of blocks.
pub(crate) fn check_blocks_header(file: &[u8]) -> Result<(), DecodeError> {
    check_header(file, BLOCKS_MAGIC).map(|_| ())
}

fn check_header(file: &[u8], magic: &[u8; 6]) -> Result<u16, DecodeError> {
    let header = file.first_chunk::<HEADER_BYTES>().ok_or(DecodeError)?;
    let version = u16::from_le_bytes([header[6], header[7]]);
    if header[..6] == *magic && (1..=VERSION).contains(&version) { Ok(version) } else { Err(DecodeError) }
}

impl Contents {
    /// Ends an index file.
    pub(crate) fn finish(&self, file: &mut Vec<u8>) {
        let offset = file.len();
        put_ivarint(file, self.day);
        put_uvarint(file, u64::from(self.rows));
        for extent in &self.sections {
            extent.put(file);
        }
        put_uvarint(file, self.names.len() as u64);
        for n in &self.names {
            put_text(file, &n.name);
            n.values.put(file);
            put_uvarint(file, n.rows_at);
        }
        let crc = crc32c::crc32c(&file[offset..]);
        let len = (file.len() - offset) as u32;
        file.extend_from_slice(&(offset as u64).to_le_bytes());
        file.extend_from_slice(&len.to_le_bytes());
        file.extend_from_slice(&crc.to_le_bytes());
        file.extend_from_slice(END_MAGIC);
    }

    /// Reads header, trailer and table of an index file.
    pub(crate) fn read(file: &[u8]) -> Result<Self, DecodeError> {
        let version = check_header(file, INDEX_MAGIC)?;
        let trailer_at = file.len().checked_sub(TRAILER_BYTES).ok_or(DecodeError)?;
        let mut from = Reader::new(&file[trailer_at..]);
        let (offset, len, crc) = (from.u64()?, u64::from(from.u32()?), from.u32()?);
        if from.rest() != END_MAGIC || offset.checked_add(len) != Some(trailer_at as u64) {
            return Err(DecodeError);
        }
        let table = &file[offset as usize..trailer_at];
        if crc32c::crc32c(table) != crc {
            return Err(DecodeError);
        }
        let mut from = Reader::new(table);
        let day = from.ivarint()?;
        let rows = u32::try_from(from.uvarint()?).map_err(|_| DecodeError)?;
        let mut sections = [Extent::default(); 5];
        for s in &mut sections {
            *s = Extent::get(&mut from, offset)?;
        }
        let n = u64::from(rows);
        let pages = u64::from(rows.div_ceil(PAGE_ROWS));
        let lengths = [n * 8, n * 8 + 8, n * 8, n * 8, pages * 8 + 8];
        // What is not of a length known beforehand is checked at its use.
        let known = if version == 1 { 0 } else { Section::Pages as usize };
        if sections.iter().zip(lengths).skip(known).any(|(s, want)| s.len != want) {
            return Err(DecodeError);
        }
        let mut names = Vec::new();
        for _ in 0..from.length(8)? {
            let name = from.text()?.to_owned();
            names.push(NameEntry { name, values: Extent::get(&mut from, offset)?, rows_at: from.uvarint()? });
        }
        if !names.is_sorted_by(|a, b| a.name < b.name) {
            return Err(DecodeError);
        }
        Ok(Self { version, day, rows, sections, names })
    }
}

/// Counts the bytes of an index by what they are for.
pub(crate) fn describe_index(file: &[u8], found: &mut BTreeMap<String, (u64, u64)>) {
    let Ok(contents) = Contents::read(file) else { return };
    let mut known = 0;
    let mut add = |what: &str, count: u64, bytes: u64| {
        known += bytes;
        found.insert(format!("index: {what}"), (count, bytes));
    };
    for (at, extent) in contents.sections.iter().enumerate() {
        add(SECTIONS[at].name(), u64::from(contents.rows), extent.len);
    }
    let pages = contents.sections[Section::Pages as usize];
    let last_page = file.get(pages.range()).and_then(|p| p.last_chunk::<8>()).map_or(0, |b| u64::from_le_bytes(*b));
    add("labels", u64::from(contents.rows), last_page.saturating_sub(HEADER_BYTES as u64));
    let values = contents.names.iter().map(|n| n.values.len).sum();
    add("dictionaries", contents.names.len() as u64, values);
    found.insert("index: postings and contents".to_owned(), (1, (file.len() as u64).saturating_sub(known)));
}
