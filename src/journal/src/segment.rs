//! Names and headers of segment files. See `FORMAT.md`.

use std::path::{Path, PathBuf};

/// First bytes of a segment.
pub const MAGIC: [u8; 8] = *b"TREFJRNL";
/// Version of the format that this build writes and reads.
pub const VERSION: u16 = 1;
/// Bytes of a segment's header.
pub const HEADER_BYTES: usize = 48;
/// Ending of a segment's name.
pub const SUFFIX: &str = ".journal";
/// What is appended to the name of a damaged segment that was kept aside.
pub const QUARANTINE_SUFFIX: &str = ".damaged";
/// Folder of the journal in which segments are kept whose records could not all be used.
pub const LOST_DIR: &str = "lost";

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Number of the segment, as in its name.
    pub segment: u64,
    /// Grows by one each time the journal is opened and written to.
    pub epoch: u64,
    /// Sequence number of its first record. Records of the segment before with this number or a higher one were
    /// never acknowledged from there.
    pub first_sequence: u64,
    /// Records of the segments before from this number on were found after a restart without proof that they had been
    /// synced; `first_sequence` when there are none.
    pub unproven_sequence: u64,
}

/// Why a header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// It is cut, not a segment's, or does not have its checksum.
    Damaged,
    /// It is intact and of another version.
    Version(u16),
}

impl SegmentHeader {
    /// Returns the bytes and the checksum, which is the `previous` of the first record.
    pub fn encode(&self) -> ([u8; HEADER_BYTES], u32) {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        // Bytes 10 and 11 are reserved and 0.
        bytes[12..20].copy_from_slice(&self.segment.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[36..44].copy_from_slice(&self.unproven_sequence.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&checksum.to_le_bytes());
        (bytes, checksum)
    }

    /// Reads the header at the start of a segment, with its checksum.
    pub fn decode(bytes: &[u8]) -> Result<(Self, u32), HeaderError> {
        let bytes: &[u8; HEADER_BYTES] =
            bytes.get(..HEADER_BYTES).and_then(|bytes| bytes.try_into().ok()).ok_or(HeaderError::Damaged)?;
        let u64_at = |at: usize| bytes[at..at + 8].iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        let checksum = u32::from_le_bytes([bytes[44], bytes[45], bytes[46], bytes[47]]);
        if bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..44]) != checksum {
            return Err(HeaderError::Damaged);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let header =
            Self { segment: u64_at(12), epoch: u64_at(20), first_sequence: u64_at(28), unproven_sequence: u64_at(36) };
        Ok((header, checksum))
    }
}

/// Returns the path of a segment.
pub fn path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:020}{SUFFIX}"))
}

/// Reads the number from the name of a segment; `None` for other names.
pub fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_every_flip_is_seen() {
        let header = SegmentHeader { segment: 3, epoch: 2, first_sequence: u64::MAX - 1, unproven_sequence: 9 };
        let (bytes, checksum) = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok((header, checksum)));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&flipped), Err(HeaderError::Damaged), "bit {bit}");
        }
    }

    #[test]
    fn names() {
        let path = path(Path::new("/d"), 12);
        assert_eq!(path, Path::new("/d/00000000000000000012.journal"));
        assert_eq!(parse_name("00000000000000000012.journal"), Some(12));
        for name in ["12.journal", "00000000000000000012.journal.damaged", "0000000000000000001x.journal", "x"] {
            assert_eq!(parse_name(name), None, "{name}");
        }
        assert_eq!(parse_name("99999999999999999999.journal"), None);
    }
}
