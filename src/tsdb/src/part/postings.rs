//! Lists of rows on disk.
//!
//! postings := kind u8, length uvarint, data, crc32c u32le over kind and data

use roaring::RoaringBitmap;

use crate::encoding::DecodeError;
use crate::encoding::varint::{Reader, put_uvarint};

/// Differences of ascending rows, uvarints.
const LIST: u8 = 0;
/// The portable roaring format.
const ROARING: u8 = 1;
/// Up to this many rows stand as a list.
const LIST_MAX: usize = 16;

/// Appends ascending rows.
pub(crate) fn put_postings(rows: &[u32], out: &mut Vec<u8>) {
    let mut data = Vec::new();
    let kind = if rows.len() <= LIST_MAX {
        let mut before = 0;
        for r in rows {
            put_uvarint(&mut data, u64::from(r - before));
            before = *r;
        }
        LIST
    } else {
        let mut bitmap: RoaringBitmap = rows.iter().copied().collect();
        bitmap.optimize();
        bitmap.serialize_into(&mut data).expect("writing to memory does not fail");
        ROARING
    };
    out.push(kind);
    put_uvarint(out, data.len() as u64);
    out.extend_from_slice(&data);
    let crc = checksum(kind, &data);
    out.extend_from_slice(&crc.to_le_bytes());
}

fn checksum(kind: u8, data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), data)
}

/// Reads the postings at the front of `data`.
pub(crate) fn get_postings(data: &[u8]) -> Result<RoaringBitmap, DecodeError> {
    let mut from = Reader::new(data);
    let kind = from.u8()?;
    let n = from.length(1)?;
    let data = from.bytes(n)?;
    if from.u32()? != checksum(kind, data) {
        return Err(DecodeError);
    }
    match kind {
        LIST => {
            let mut rows = RoaringBitmap::new();
            let (mut from, mut row) = (Reader::new(data), 0u64);
            while !from.is_empty() {
                row = row.checked_add(from.uvarint()?).ok_or(DecodeError)?;
                rows.insert(u32::try_from(row).map_err(|_| DecodeError)?);
            }
            Ok(rows)
        }
        ROARING => RoaringBitmap::deserialize_from(data).map_err(|_| DecodeError),
        _ => Err(DecodeError),
    }
}
