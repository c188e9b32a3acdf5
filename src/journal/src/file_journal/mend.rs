//! Copies that are gone or not whole, written again from the records.

use std::collections::{BTreeMap, BTreeSet};

use super::Shared;
use crate::record::RecordType;
use crate::scan::{Found, Scan};
use crate::{JournalError, copies, segment};

impl Shared {
    /// By segment, the ends of the records that have a whole copy.
    pub(super) fn copied(&self) -> BTreeMap<u64, BTreeSet<u64>> {
        let numbers = self.copies.lock().clone();
        let mut found = BTreeMap::new();
        for number in numbers {
            // One that cannot be read has none.
            let Ok(bytes) = self.vfs.map(&copies::path(&self.dir, number)) else { continue };
            let ends: &mut BTreeSet<u64> = found.entry(number).or_default();
            copies::read(&bytes, |copy| {
                ends.insert(copy.end);
            });
        }
        found
    }

    /// Writes the copies of a segment anew: those that are whole, and of all other records what `copy_of` makes of them.
    pub(super) fn mend_copies(
        &self,
        number: u64,
        copy_of: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<usize, JournalError> {
        let failed = || self.io(format!("write the copies of segment {number} again"));
        let path = copies::path(&self.dir, number);
        let from = segment::path(&self.dir, number);
        let bytes = self.vfs.map(&from).map_err(failed())?;
        let end = *self.end.lock();
        let len = if number == end.segment { bytes.len().min(end.offset as usize) } else { bytes.len() };
        let mut all: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
        if let Ok(old) = self.vfs.map(&path) {
            copies::read(&old, |copy| {
                all.insert((copy.sequence, copy.end), copy.payload.to_vec());
            });
        }
        let Ok(scan) = Scan::new(&bytes[..len], None) else { return Ok(0) };
        let mut written = 0;
        for found in scan {
            let Found::Record { end, record, .. } = found else { continue };
            if record.kind != RecordType::Data || all.contains_key(&(record.sequence, end)) {
                continue;
            }
            if let Some(copy) = copy_of(record.payload) {
                all.insert((record.sequence, end), copy);
                written += 1;
            }
        }
        if number == end.segment {
            // A copy proves that its record was synced, which nobody knows of the last ones.
            self.vfs.set_len(&from, bytes.len() as u64).map_err(failed())?;
        }
        let mut out = Vec::new();
        let mut encoder = copies::Encoder::begin(number, &mut out);
        for ((sequence, end), copy) in &all {
            encoder.add(*sequence, *end, copy, &mut out);
        }
        trefoil_runtime::vfs::write_atomic(&*self.vfs, &path, &out).map_err(failed())?;
        self.copies.lock().insert(number);
        Ok(written)
    }
}
