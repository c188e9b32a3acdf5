//! Reads a segment that may be damaged or torn.

use crate::record::{self, Record};
use crate::segment::{self, HeaderError, SegmentHeader};

/// What a scan comes upon, in the order of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// An intact record.
    Record {
        /// Its first byte.
        start: u64,
        /// The byte after it.
        end: u64,
        /// The record.
        record: Record<'a>,
    },
    /// A range that is not intact although an intact record follows it.
    Gap {
        /// First bad byte.
        from: u64,
        /// First byte of the record that follows.
        to: u64,
        /// Sequence number that was expected; `None` at the start of a segment whose header is damaged.
        expected: Option<u64>,
        /// Sequence number of the record that follows.
        found: u64,
        /// Whether the record that follows was written by a later group: what is missing had been synced before it.
        was_synced: bool,
    },
    /// The rest of the segment holds no intact record.
    Tail {
        /// First bad byte; the length of the segment when nothing is bad.
        from: u64,
        /// Bytes of the segment.
        to: u64,
    },
}

/// A scan through the bytes of one segment. Ends with [`Found::Tail`].
#[derive(Debug)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Number that the next record must have; unknown after a damaged header.
    expected: Option<u64>,
    /// Checksum that the next record must name; unknown after a gap.
    previous: Option<u32>,
    ended: bool,
}

impl<'a> Scan<'a> {
    /// Starts a scan. With a damaged header the search begins at the first byte and `expected` is used, when known.
    /// Errors with the version when the header is intact and not ours.
    pub fn new(bytes: &'a [u8], expected: Option<u64>) -> Result<Self, u16> {
        match SegmentHeader::decode(bytes) {
            Ok((header, checksum)) => Ok(Self {
                bytes,
                at: segment::HEADER_BYTES,
                expected: Some(header.first_sequence),
                previous: Some(checksum),
                ended: false,
            }),
            Err(HeaderError::Damaged) => Ok(Self { bytes, at: 0, expected, previous: None, ended: false }),
            Err(HeaderError::Version(version)) => Err(version),
        }
    }

    /// Returns the sequence number that the next record must have; `None` while it is unknown.
    pub fn expected(&self) -> Option<u64> {
        self.expected
    }

    fn intact_at(&self, at: usize) -> Option<Record<'a>> {
        let expected = self.expected;
        let (record, previous) =
            record::decode(&self.bytes[at..], |sequence| expected.is_none_or(|expected| sequence == expected))?;
        (at >= segment::HEADER_BYTES && self.previous.is_none_or(|wanted| wanted == previous)).then_some(record)
    }

    /// Finds the next intact record after a bad byte.
    fn search(&self) -> Option<(usize, Record<'a>)> {
        let rest = self.bytes.len() - self.at;
        let most = (rest / record::HEADER_BYTES) as u64;
        let plausible =
            |sequence: u64| self.expected.is_none_or(|expected| sequence >= expected && sequence - expected <= most);
        (self.at.max(segment::HEADER_BYTES)..self.bytes.len())
            .find_map(|at| record::decode(&self.bytes[at..], plausible).map(|(record, _)| (at, record)))
    }

    fn take(&mut self, at: usize, record: Record<'a>) -> Found<'a> {
        let end = at + record.encoded_len();
        self.at = end;
        self.expected = Some(record.sequence + 1);
        self.previous = Some(record.checksum);
        Found::Record { start: at as u64, end: end as u64, record }
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        if self.ended {
            return None;
        }
        if let Some(record) = self.intact_at(self.at) {
            return Some(self.take(self.at, record));
        }
        if self.at < self.bytes.len()
            && let Some((at, record)) = self.search()
        {
            let gap = Found::Gap {
                from: self.at as u64,
                to: at as u64,
                expected: self.expected,
                found: record.sequence,
                was_synced: self.expected.is_none_or(|expected| record.group_sequence() > expected),
            };
            // The next call reads the record that was found.
            self.at = at;
            self.expected = Some(record.sequence);
            self.previous = None;
            return Some(gap);
        }
        self.ended = true;
        Some(Found::Tail { from: self.at as u64, to: self.bytes.len() as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{RecordType, encode};

    /// A segment of records with the given (group index, payload length), sequence numbers from 10.
    fn segment(records: &[(u32, usize)]) -> (Vec<u8>, Vec<usize>) {
        let (header, mut previous) =
            SegmentHeader { segment: 1, epoch: 1, first_sequence: 10, unproven_sequence: 10 }.encode();
        let mut bytes = header.to_vec();
        let mut starts = Vec::new();
        for (sequence, (group_index, len)) in (10..).zip(records) {
            starts.push(bytes.len());
            let payload = vec![b'x'; *len];
            previous = encode(&mut bytes, RecordType::Data, sequence, *group_index, previous, &payload);
        }
        starts.push(bytes.len());
        (bytes, starts)
    }

    fn found(bytes: &[u8]) -> String {
        let scan = Scan::new(bytes, Some(10)).unwrap();
        let shown = scan.map(|found| match found {
            Found::Record { record, .. } => record.sequence.to_string(),
            Found::Gap { from, to, was_synced, .. } => format!("gap {from}..{to} {was_synced}"),
            Found::Tail { from, to } => format!("tail {}", to - from),
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn tells_damage_from_a_torn_group() {
        let (bytes, starts) = segment(&[(0, 5), (0, 5), (1, 5), (0, 5)]);
        assert_eq!(found(&bytes), "10, 11, 12, 13, tail 0");
        let flip = |record: usize| {
            let mut flipped = bytes.clone();
            flipped[starts[record] + 26] ^= 1;
            found(&flipped)
        };
        assert_eq!(flip(0), "gap 48..78 true, 11, 12, 13, tail 0");
        assert_eq!(flip(2), "10, 11, gap 108..138 true, 13, tail 0");
        assert_eq!(flip(3), "10, 11, 12, tail 30");
        let mut torn = bytes[..starts[3]].to_vec();
        torn[starts[1] + 3] ^= 1;
        assert_eq!(found(&torn), "10, gap 78..108 false, 12, tail 0");
        torn[2] ^= 1;
        assert_eq!(found(&torn), "gap 0..48 false, 10, gap 78..108 false, 12, tail 0");
        assert_eq!(found(&[]), "tail 0");
        assert_eq!(found(&[0; 4096]), "tail 4096");
    }
}
