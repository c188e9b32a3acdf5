//! Files beside the segments that hold a second time what later records lean on. See `FORMAT.md`, "Copies".
//!
//! The journal alone is whole after a crash; the copies are for bytes that rot. So they are written after the sync of
//! the records that they belong to, and synced only when their segment ends. What they say can therefore be relied on:
//! a copy of a record proves that the record was synced.

use std::path::{Path, PathBuf};

use crate::record::{self, RecordType};
use crate::scan::{Found, Scan};
use crate::segment::SegmentHeader;

/// Ending of the name of a file with copies.
pub const SUFFIX: &str = ".copies";
/// Bytes before a copy: sequence number and end of the record that it belongs to.
const PREFIX_BYTES: usize = 16;

/// Returns the path of the copies of a segment.
pub fn path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:020}{SUFFIX}"))
}

/// Reads the number from the name of a file with copies; `None` for other names.
pub fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The copies of one segment as they are written.
#[derive(Debug)]
pub(crate) struct Encoder {
    next: u64,
    previous: u32,
}

impl Encoder {
    /// Begins a file in `out`.
    pub(crate) fn begin(segment: u64, out: &mut Vec<u8>) -> Self {
        let header = SegmentHeader { segment, epoch: 0, first_sequence: 1, unproven_sequence: 1 };
        let (bytes, previous) = header.encode();
        out.extend_from_slice(&bytes);
        Self { next: 1, previous }
    }

    /// Appends the copy of a record with that sequence number and end.
    pub(crate) fn add(&mut self, sequence: u64, end: u64, copy: &[u8], out: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(PREFIX_BYTES + copy.len());
        payload.extend_from_slice(&sequence.to_le_bytes());
        payload.extend_from_slice(&end.to_le_bytes());
        payload.extend_from_slice(copy);
        self.previous = record::encode(out, RecordType::Data, self.next, 0, self.previous, &payload);
        self.next += 1;
    }
}

/// A copy as it lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copy<'a> {
    /// Sequence number of the record that it belongs to.
    pub(crate) sequence: u64,
    /// End of that record in its segment.
    pub(crate) end: u64,
    /// What was to be kept.
    pub(crate) payload: &'a [u8],
}

/// Calls `each` with the whole copies in the bytes of a file; returns the ranges that hold none.
pub(crate) fn read<'a>(bytes: &'a [u8], mut each: impl FnMut(Copy<'a>)) -> Vec<(u64, u64)> {
    // A file of another version is of no use to this one.
    let Ok(scan) = Scan::new(bytes, None) else { return vec![(0, bytes.len() as u64)] };
    let mut bad = Vec::new();
    for found in scan {
        match found {
            Found::Record { record, .. } => {
                if let Some((prefix, payload)) = record.payload.split_at_checked(PREFIX_BYTES) {
                    let number = |at: usize| {
                        prefix[at..at + 8].iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte))
                    };
                    each(Copy { sequence: number(0), end: number(8), payload });
                }
            }
            Found::Gap { from, to, .. } => bad.push((from, to)),
            Found::Tail { from, to } if from < to || to == 0 => bad.push((from, to)),
            Found::Tail { .. } => {}
        }
    }
    bad
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::begin(3, &mut bytes);
        for i in 0..5u64 {
            encoder.add(70 + 2 * i, 100 + i, &[i as u8; 20], &mut bytes);
        }
        bytes
    }

    fn payloads(bytes: &[u8]) -> (Vec<(u64, u64, u8)>, usize) {
        let mut found = Vec::new();
        let bad = read(bytes, |copy| found.push((copy.sequence, copy.end, copy.payload[0])));
        (found, bad.len())
    }

    #[test]
    fn copies_come_back_and_a_flipped_bit_costs_one() {
        let bytes = file();
        let all: Vec<_> = (0..5u64).map(|i| (70 + 2 * i, 100 + i, i as u8)).collect();
        assert_eq!(payloads(&bytes), (all.clone(), 0));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (found, bad) = payloads(&flipped);
            assert!(found.len() >= 4 && found.iter().all(|copy| all.contains(copy)), "bit {bit}: {found:?}");
            assert_eq!(bad, 1, "bit {bit}");
        }
        for len in 0..bytes.len() {
            let (found, bad) = payloads(&bytes[..len]);
            assert!(found.iter().all(|copy| all.contains(copy)), "cut to {len}");
            assert!(bad <= 1, "cut to {len}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(path(Path::new("/d"), 12), Path::new("/d/00000000000000000012.copies"));
        assert_eq!(parse_name("00000000000000000012.copies"), Some(12));
        for name in ["12.copies", "00000000000000000012.journal", "00000000000000000012.copies.damaged"] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
