//! The `tombstones` file of a block: what was deleted and is still there.

use rustc_hash::FxHashMap;

use crate::cursor::{Cursor, Malformed};

const MAGIC: u32 = 0x0130_ba30;
const HEADER_BYTES: usize = 5;

/// Deleted stretches of time by series, both ends included.
#[derive(Debug, Clone, Default)]
pub struct Tombstones {
    intervals: FxHashMap<u64, Vec<(i64, i64)>>,
}

impl Tombstones {
    /// Reads a file; an error says what is wrong with all of it.
    pub(crate) fn read(file: &[u8]) -> Result<Self, Malformed> {
        let mut from = Cursor::new(file);
        if from.be32()? != MAGIC || from.u8()? != 1 {
            return Err(Malformed("is not a tombstones file of version 1"));
        }
        let body = file.len().checked_sub(HEADER_BYTES + 4).ok_or(Malformed("ends too early"))?;
        let mut from = Cursor::new(crate::cursor::checked(&mut from, body)?);
        let mut found = Self::default();
        while !from.is_empty() {
            let series = from.uvarint()?;
            found.add(series, from.varint()?, from.varint()?);
        }
        Ok(found)
    }

    /// Adds a stretch.
    pub(crate) fn add(&mut self, series: u64, min_t: i64, max_t: i64) {
        self.intervals.entry(series).or_default().push((min_t, max_t));
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// True when the sample of this series at this time is deleted.
    pub fn covers(&self, series: u64, t: i64) -> bool {
        self.intervals.get(&series).is_some_and(|list| list.iter().any(|(min, max)| (*min..=*max).contains(&t)))
    }
}
