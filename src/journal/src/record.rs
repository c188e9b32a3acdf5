//! The bytes of one record. See `FORMAT.md`.

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 25;
/// Bytes a payload may have at most.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordType {
    /// A payload of the journal's user.
    Data = 1,
    /// The journal was closed in order; no payload. It proves that what lies before it was synced.
    Close = 2,
}

/// A record as it lies in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is.
    pub kind: RecordType,
    /// Its number in the journal; grows by one from record to record.
    pub sequence: u64,
    /// Its place in its commit group, from 0.
    pub group_index: u32,
    /// Its checksum.
    pub checksum: u32,
    /// Its payload.
    pub payload: &'a [u8],
}

impl Record<'_> {
    /// Returns how many bytes it takes in a segment.
    pub fn encoded_len(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// Returns the sequence number of the first record of its group.
    pub fn group_sequence(&self) -> u64 {
        self.sequence.saturating_sub(u64::from(self.group_index))
    }
}

/// Appends a record to `out` and returns its checksum, which is the `previous` of the next one.
pub fn encode(
    out: &mut Vec<u8>,
    kind: RecordType,
    sequence: u64,
    group_index: u32,
    previous: u32,
    payload: &[u8],
) -> u32 {
    let start = out.len();
    let len = u32::try_from(payload.len()).expect("payloads are far below 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.push(kind as u8);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&group_index.to_le_bytes());
    out.extend_from_slice(&previous.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&out[start..]), payload);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(payload);
    checksum
}

/// Reads the record at the start of `bytes`. Returns it with its `previous` field; `None` when it is cut or damaged.
///
/// `plausible` sees the sequence number before the checksum is computed, so that a search stays cheap.
pub fn decode(bytes: &[u8], plausible: impl FnOnce(u64) -> bool) -> Option<(Record<'_>, u32)> {
    let header = bytes.get(..HEADER_BYTES)?;
    let len = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
    let kind = match header[4] {
        1 => RecordType::Data,
        2 => RecordType::Close,
        _ => return None,
    };
    if len > PAYLOAD_BYTES_MAX || (kind == RecordType::Data) != (len > 0) {
        return None;
    }
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + len)?;
    let sequence = u64::from_le_bytes(header[5..13].try_into().ok()?);
    let group_index = u32::from_le_bytes(header[13..17].try_into().ok()?);
    let previous = u32::from_le_bytes(header[17..21].try_into().ok()?);
    let checksum = u32::from_le_bytes(header[21..25].try_into().ok()?);
    if !plausible(sequence) || u64::from(group_index) >= sequence {
        return None;
    }
    let computed = crc32c::crc32c_append(crc32c::crc32c(&header[..21]), payload);
    (computed == checksum).then_some((Record { kind, sequence, group_index, checksum, payload }, previous))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let mut bytes = Vec::new();
        let checksum = encode(&mut bytes, RecordType::Data, 7, 2, 99, b"payload");
        let (record, previous) = decode(&bytes, |_| true).unwrap();
        assert_eq!((record.sequence, record.group_sequence(), previous, record.checksum), (7, 5, 99, checksum));
        assert_eq!((record.payload, record.encoded_len()), (&b"payload"[..], bytes.len()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped, |_| true), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len], |_| true), None, "cut at {len}");
        }
    }
}
