//! A journal with a model beside it: what was acknowledged, what was only tried.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trefoil_journal::{Appended, FileJournal, JournalError, JournalOptions, JournalStore, Position, ReplayReport};
use trefoil_runtime::vfs::sim::SimDisk;

pub(crate) const DIR: &str = "/data/journal";

/// Whether the long form was asked for.
pub(crate) fn is_torture() -> bool {
    std::env::var_os("TREFOIL_TORTURE").is_some_and(|value| value == "1")
}

pub(crate) fn options(segment_bytes: u64) -> JournalOptions {
    JournalOptions { segment_bytes, group_window: Duration::from_micros(50), ..JournalOptions::named("test") }
}

pub(crate) fn open(disk: &SimDisk, segment_bytes: u64) -> Result<FileJournal, JournalError> {
    FileJournal::open(Arc::new(disk.clone()), Path::new(DIR), options(segment_bytes))
}

/// A record that names itself.
pub(crate) fn payload(number: u64, len: usize) -> Bytes {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((0..len).map(|at| (number as u8).wrapping_mul(31).wrapping_add(at as u8)));
    bytes.into()
}

pub(crate) fn number_of(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().unwrap())
}

/// Returns the numbers of the records from `from` on.
pub(crate) fn replay(journal: &FileJournal, from: Position) -> (Vec<u64>, ReplayReport) {
    let mut numbers = Vec::new();
    let mut last = from;
    let report = journal
        .replay(from, &mut |position, bytes| {
            assert!(position > last, "positions ascend");
            last = position;
            let number = number_of(bytes);
            assert_eq!(bytes, payload(number, bytes.len() - 8), "record {number} has its bytes");
            numbers.push(number);
            Ok(())
        })
        .unwrap();
    assert_eq!((report.records as usize, report.end), (numbers.len(), last));
    (numbers, report)
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Appends of one length, at once.
    Append(usize, usize),
    /// Closes in order and opens again.
    Close,
    /// Drops and opens again.
    Reopen,
    /// Gives up what was appended until now.
    Truncate,
}

#[derive(Default, Clone)]
pub(crate) struct Model {
    next: u64,
    pub(crate) acked: Vec<(u64, Position)>,
    pub(crate) tried: BTreeSet<u64>,
    /// Where replays start.
    pub(crate) from: Position,
}

impl Model {
    /// Appends `count` records together and notes what became of them.
    pub(crate) fn append(&mut self, journal: &FileJournal, count: usize, len: usize) -> Result<(), JournalError> {
        let numbers: Vec<u64> = (self.next..self.next + count as u64).collect();
        self.next += count as u64;
        self.tried.extend(&numbers);
        let results: Vec<Result<Appended, JournalError>> = if count == 1 {
            vec![journal.append_blocking(payload(numbers[0], len))]
        } else {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let appends = numbers.iter().map(|number| journal.append(payload(*number, len)));
            runtime.block_on(futures::future::join_all(appends))
        };
        let mut first_error = Ok(());
        for (number, result) in numbers.into_iter().zip(results) {
            match result {
                Ok(appended) => {
                    assert!(appended.position <= journal.end());
                    self.acked.push((number, appended.position));
                }
                Err(error) if first_error.is_ok() => first_error = Err(error),
                Err(_) => {}
            }
        }
        first_error
    }

    /// Everything acknowledged is there once and in order; whatever else is there was tried.
    pub(crate) fn check(&self, journal: &FileJournal, context: &str) {
        let (numbers, report) = replay(journal, self.from);
        assert!(report.damage.iter().all(|damage| !damage.was_synced), "{context}: {report:?}");
        let found: BTreeSet<u64> = numbers.iter().copied().collect();
        assert_eq!(found.len(), numbers.len(), "{context}: a record twice in {numbers:?}");
        assert!(found.is_subset(&self.tried), "{context}: a record from nowhere in {numbers:?}");
        let wanted = self.acked.iter().filter(|(_, end)| *end > self.from).map(|(number, _)| *number);
        let acked: BTreeSet<u64> = self.acked.iter().map(|(number, _)| *number).collect();
        let delivered = numbers.iter().copied().filter(|number| acked.contains(number));
        assert_eq!(delivered.collect::<Vec<_>>(), wanted.collect::<Vec<_>>(), "{context}");
    }
}

/// Runs steps until one fails; errors say which. Opening is the first step.
pub(crate) fn run(disk: &SimDisk, segment_bytes: u64, steps: &[Step], model: &mut Model) -> Result<(), JournalError> {
    let mut journal = open(disk, segment_bytes)?;
    for step in steps {
        match *step {
            Step::Append(count, len) => model.append(&journal, count, len)?,
            Step::Close => {
                tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(journal.close());
                drop(journal);
                journal = open(disk, segment_bytes)?;
            }
            Step::Reopen => {
                drop(journal);
                journal = open(disk, segment_bytes)?;
            }
            Step::Truncate => {
                model.from = journal.end();
                journal.truncate_before(model.from)?;
            }
        }
    }
    Ok(())
}

/// Scripts that reach every path: rotation, groups, restarts, removal.
pub(crate) fn workloads() -> Vec<(&'static str, u64, Vec<Step>)> {
    use Step::{Append, Close, Reopen, Truncate};
    vec![
        ("one segment", 1 << 20, vec![Append(1, 10), Append(1, 600), Append(1, 1), Append(1, 2_000)]),
        ("groups", 1 << 20, vec![Append(4, 300), Append(1, 5), Append(7, 700), Append(2, 40)]),
        ("rotation", 200, vec![Append(1, 100), Append(1, 100), Append(3, 90), Append(1, 300), Append(1, 20)]),
        (
            "restarts",
            500,
            vec![Append(1, 50), Reopen, Append(2, 50), Close, Append(1, 50), Close, Reopen, Append(1, 9)],
        ),
        (
            "removal",
            150,
            vec![
                Append(1, 100),
                Append(1, 100),
                Truncate,
                Append(1, 100),
                Append(2, 200),
                Truncate,
                Truncate,
                Append(1, 10),
                Close,
                Truncate,
                Append(1, 100),
                Append(1, 1),
            ],
        ),
        (
            "large",
            4_000,
            vec![Append(3, 3_000), Append(1, 9_000), Truncate, Append(2, 5_000), Reopen, Append(1, 4_100)],
        ),
    ]
}
