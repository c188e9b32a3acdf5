//! Lists of rows on disk.
//!
//! postings := kind u8, length uvarint, data, crc32c u32le over kind and data

use roaring::RoaringBitmap;

use crate::encoding::DecodeError;
use crate::encoding::varint::{Reader, put_uvarint};
use crate::matching::Rows;

/// Differences of ascending rows, uvarints.
const LIST: u8 = 0;
/// The portable roaring format.
const ROARING: u8 = 1;
/// Up to this many rows stand as a list.
const LIST_MAX: usize = 16;

/// Appends ascending rows.
pub(crate) fn put_postings(rows: &[u32], out: &mut Vec<u8>) {
    if rows.len() > LIST_MAX {
        return put_bitmap(rows.iter().copied().collect(), out);
    }
    let mut data = Vec::with_capacity(LIST_MAX * 5);
    let mut before = 0;
    for r in rows {
        put_uvarint(&mut data, u64::from(r - before));
        before = *r;
    }
    put(LIST, &data, out);
}

/// Appends rows that are a bitmap already.
pub(crate) fn put_bitmap(mut rows: RoaringBitmap, out: &mut Vec<u8>) {
    if rows.len() <= LIST_MAX as u64 {
        return put_postings(&rows.iter().collect::<Vec<_>>(), out);
    }
    rows.optimize();
    let mut data = Vec::with_capacity(rows.serialized_size());
    rows.serialize_into(&mut data).expect("writing to memory does not fail");
    put(ROARING, &data, out);
}

fn put(kind: u8, data: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    put_uvarint(out, data.len() as u64);
    out.extend_from_slice(data);
    let crc = checksum(kind, data);
    out.extend_from_slice(&crc.to_le_bytes());
}

fn checksum(kind: u8, data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), data)
}

/// Reads the postings at the front of `data`.
pub(crate) fn get_postings(data: &[u8]) -> Result<RoaringBitmap, DecodeError> {
    let mut rows = RoaringBitmap::new();
    match parse(data)? {
        (LIST, list) => for_each(list, |row| rows.insert(row))?,
        (_, bitmap) => rows = RoaringBitmap::deserialize_from(bitmap).map_err(|_| DecodeError)?,
    }
    Ok(rows)
}

/// Adds the postings at the front of `data`, those of `within` where that is given, to rows in any order, for
/// [`RoaringBitmap::from_iter`] of all at once, or to `many` when they are many.
pub(crate) fn add_postings(
    data: &[u8],
    within: Option<&RoaringBitmap>,
    few: &mut Vec<u32>,
    many: &mut RoaringBitmap,
) -> Result<(), DecodeError> {
    match parse(data)? {
        (LIST, list) => for_each(list, |row| {
            if within.is_none_or(|rows| rows.contains(row)) {
                few.push(row);
            }
            true
        }),
        (_, bitmap) => {
            let mut rows = RoaringBitmap::deserialize_from(bitmap).map_err(|_| DecodeError)?;
            if let Some(within) = within {
                rows &= within;
            }
            if rows.len() <= LIST_MAX as u64 {
                few.extend(rows);
            } else {
                *many |= rows;
            }
            Ok(())
        }
    }
}

/// Whether one of the postings at the front of `data` counts.
pub(crate) fn postings_meet(data: &[u8], rows: &Rows<'_>) -> Result<bool, DecodeError> {
    match parse(data)? {
        (LIST, list) => {
            let mut meet = false;
            for_each(list, |row| {
                meet = meet || rows.contains(row);
                true
            })?;
            Ok(meet)
        }
        (_, bitmap) => Ok(rows.meet(&RoaringBitmap::deserialize_from(bitmap).map_err(|_| DecodeError)?)),
    }
}

/// Kind and data, checked.
fn parse(data: &[u8]) -> Result<(u8, &[u8]), DecodeError> {
    let mut from = Reader::new(data);
    let kind = from.u8()?;
    let n = from.length(1)?;
    let data = from.bytes(n)?;
    if from.u32()? != checksum(kind, data) || kind > ROARING {
        return Err(DecodeError);
    }
    Ok((kind, data))
}

/// Rows of a list; the answer of `each` is of no interest.
fn for_each(list: &[u8], mut each: impl FnMut(u32) -> bool) -> Result<(), DecodeError> {
    let (mut from, mut row) = (Reader::new(list), 0u64);
    while !from.is_empty() {
        row = row.checked_add(from.uvarint()?).ok_or(DecodeError)?;
        each(u32::try_from(row).map_err(|_| DecodeError)?);
    }
    Ok(())
}
