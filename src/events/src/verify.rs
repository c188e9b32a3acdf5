//! Where a part file is damaged, by the checksums within it. See `FORMAT.md`, "Part file".

use std::ops::Range;

use crate::columns::BlockColumns;
use crate::table::Table;
use crate::wire::{Cursor, Malformed, unpack};

const MAGIC: &[u8; 8] = b"TREFEVNT";
const HEADER_BYTES: usize = 12;
/// Offset and length of a section in the footer.
const PLACE_BYTES: usize = 16;
const TABLE_BYTES_MAX: usize = 1 << 30;

/// Looks for damage in the bytes of a part file: ranges of bytes, each with what lies there. Empty when all checksums are
/// right, and of a version that is not known here: the checksum of the whole file is for the caller to compare.
pub fn damage(file: &[u8]) -> Vec<(Range<u64>, String)> {
    let range = |start: usize, end: usize| start as u64..end as u64;
    let Some((header, _)) = file.split_at_checked(HEADER_BYTES) else {
        return vec![(range(0, file.len()), "header: cut".to_owned())];
    };
    let version = match (header.strip_prefix(MAGIC), header) {
        (Some([low, high, 0, 0]), _) => u16::from_le_bytes([*low, *high]),
        _ => return vec![(range(0, HEADER_BYTES), "header".to_owned())],
    };
    let sections = match version {
        // Filters, term index, table.
        1 => 3,
        // And streams, or summaries of traces.
        2 | 3 => 4,
        _ => return Vec::new(),
    };
    let footer_start = file.len().saturating_sub(sections * PLACE_BYTES + 4 + MAGIC.len()).max(HEADER_BYTES);
    let places = file[footer_start..].strip_suffix(MAGIC).and_then(checked).and_then(|body| places(body, file.len()));
    let Some(places) = places.filter(|places| places.len() == sections) else {
        // Nothing says where anything is.
        return vec![(range(footer_start, file.len()), "footer, without which the part cannot be read".to_owned())];
    };
    let mut found = Vec::new();
    let [filters, index, table] = [places[0].clone(), places[1].clone(), places[2].clone()];
    let streams = places.get(3).map_or(0, |streams| streams.start as u64);
    if checked(&file[index.clone()]).is_none() {
        found.push((range(index.start, index.end), "term index".to_owned()));
    }
    let decoded = checked(&file[table.clone()]).ok_or(Malformed("checksum")).and_then(|packed| decode(packed, version));
    match decoded {
        Ok(table) => {
            let mut look = |what: String, start: u64, len: u64, is_whole: &dyn Fn(&[u8]) -> bool| {
                let end = start.saturating_add(len);
                let bytes = usize::try_from(start).ok().zip(usize::try_from(end).ok());
                if !bytes.and_then(|(start, end)| file.get(start..end)).is_some_and(is_whole) {
                    found.push((start..end, what));
                }
            };
            let is_checked = |bytes: &[u8]| checked(bytes).is_some();
            let is_block: &dyn Fn(&[u8]) -> bool = match version {
                1 => &is_checked,
                _ => &|bytes| BlockColumns::open(bytes).and_then(|block| block.check()).is_ok(),
            };
            for (number, block) in table.blocks.iter().enumerate() {
                look(format!("block {number}"), block.offset, block.len, is_block);
                if block.filter_len > 0 {
                    let start = (filters.start as u64).saturating_add(block.filter_offset);
                    look(format!("filter of block {number}"), start, block.filter_len, &is_checked);
                }
                if block.streams_len > 0 {
                    let start = streams.saturating_add(block.streams_offset);
                    look(format!("streams of block {number}"), start, block.streams_len, &is_checked);
                }
            }
            for (number, chunk) in table.trace_chunks.iter().enumerate() {
                let start = streams.saturating_add(chunk.offset);
                let is_whole = |bytes: &[u8]| BlockColumns::open(bytes).and_then(|block| block.check()).is_ok();
                look(format!("summaries of traces {number}"), start, chunk.len, &is_whole);
            }
            for (number, (offset, len)) in table.chunks.iter().enumerate() {
                look(format!("stream labels {number}"), streams.saturating_add(*offset), *len, &is_checked);
            }
        }
        Err(_) => {
            let what = "table, without which the part cannot be read".to_owned();
            found.push((range(table.start, table.end), what));
        }
    }
    found.sort_by_key(|(range, _)| range.start);
    found
}

/// What comes before a CRC-32C of it, if it is right.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, crc) = bytes.split_at(bytes.len().checked_sub(4)?);
    (crc32c::crc32c(body).to_le_bytes() == *crc).then_some(body)
}

fn places(footer: &[u8], len: usize) -> Option<Vec<Range<usize>>> {
    footer
        .chunks_exact(PLACE_BYTES)
        .map(|place| {
            let number = |at: usize| usize::try_from(u64::from_le_bytes(std::array::from_fn(|i| place[at + i]))).ok();
            let start = number(0)?;
            let end = start.checked_add(number(8)?)?;
            (end <= len).then_some(start..end)
        })
        .collect()
}

fn decode(packed: &[u8], version: u16) -> Result<Table, Malformed> {
    let mut cursor = Cursor::new(packed);
    let encoding = cursor.u8()?;
    let raw_len = usize::try_from(cursor.u64()?).map_err(|_| Malformed("length"))?;
    Table::decode(&unpack(encoding, cursor.take(cursor.remaining())?, raw_len, TABLE_BYTES_MAX)?, version)
}
