//! The second copies of definitions: a start looks whether each record that defines series has one, and writes those
//! anew that are gone.

use std::collections::{BTreeMap, BTreeSet};

use trefoil_journal::copies;

use crate::metrics;
use crate::record::Record;
use crate::store::{Inner, Tsdb};

/// Ends of the records that define series, by segment.
pub(crate) type Defining = BTreeMap<u64, BTreeSet<u64>>;

impl Tsdb {
    /// Copies of definitions that were not there at the start, each with its file. The records are unharmed, and a start
    /// that may write has written the copies anew.
    pub fn journal_copies_lost(&self) -> Vec<String> {
        self.inner.journal_found.lock().copies.clone()
    }
}

impl Inner {
    /// Says which records that define series have no whole copy, and gives them one. Before anything is appended.
    pub(crate) fn mend_copies(&self, defining: &Defining) {
        if defining.is_empty() {
            return;
        }
        let copied = self.journal.copied();
        for (segment, ends) in defining {
            let there = copied.get(segment);
            let lost = ends.iter().filter(|end| there.is_none_or(|there| !there.contains(end))).count();
            if lost == 0 {
                continue;
            }
            metrics::JOURNAL_COPIES_LOST.inc_by(lost as u64);
            let path = copies::path(&self.options.dir.join("journal"), *segment);
            let path = path.display();
            self.journal_found.lock().copies.push(format!(
                "{path}: the copies of {lost} records that define series are missing; the records are unharmed"
            ));
            if self.options.vfs.is_read_only() {
                continue;
            }
            let mut copy_of = |data: &[u8]| {
                let mut record = Record::decode(data).ok()?;
                let copy = record.encode_definitions();
                (!copy.is_empty()).then_some(copy)
            };
            match self.journal.mend_copies(*segment, &mut copy_of) {
                Ok(written) => {
                    tracing::warn!(%path, lost, written, "copies of definitions were missing and are written anew");
                }
                Err(error) => {
                    let error = trefoil_runtime::tasks::chain(&error);
                    tracing::error!(%path, lost, error, "copies of definitions are missing and could not be written");
                }
            }
        }
    }
}
