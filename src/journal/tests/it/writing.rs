//! Many writers, the real disk, closing, limits.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use trefoil_journal::{FileJournal, JournalError, JournalOptions, JournalStore, Position, ReplayStop};
use trefoil_model::WriteError;
use trefoil_runtime::RealVfs;
use trefoil_runtime::vfs::sim::SimDisk;

use crate::support::{open, payload, replay};

/// A directory of this test process, removed at the end.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("trefoil-journal-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn many_writers_share_syncs_and_keep_their_order() {
    const WRITERS: u64 = 16;
    const RECORDS: u64 = 40;
    let dir = TempDir::new("writers");
    let options = JournalOptions { segment_bytes: 20_000, queue_max: 5, ..JournalOptions::named("writers") };
    let journal = Arc::new(FileJournal::open(RealVfs::shared(), &dir.0.join("j"), options.clone()).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let ends: Vec<Vec<Position>> = runtime.block_on(futures::future::join_all((0..WRITERS).map(|writer| {
        let journal = Arc::clone(&journal);
        let work = async move {
            let mut ends = Vec::new();
            for record in 0..RECORDS {
                let appended = journal.append(payload(writer << 32 | record, 100)).await.unwrap();
                ends.push(appended.position);
            }
            ends
        };
        let task = runtime.handle().spawn(work);
        async move { task.await.unwrap() }
    })));
    assert!(ends.iter().all(|ends| ends.is_sorted()));
    drop(journal);
    let journal = FileJournal::open(RealVfs::shared(), &dir.0.join("j"), options).unwrap();
    let (numbers, report) = replay(&journal, Position::default());
    assert_eq!((numbers.len() as u64, report.damage.len()), (WRITERS * RECORDS, 0));
    for writer in 0..WRITERS {
        let own: Vec<u64> =
            numbers.iter().filter(|number| **number >> 32 == writer).map(|number| *number as u32 as u64).collect();
        assert_eq!(own, (0..RECORDS).collect::<Vec<_>>());
    }
    let samples = prometheus::gather();
    let family = samples.iter().find(|family| family.name() == "trefoil_journal_fsync_duration_seconds").unwrap();
    let own = family.get_metric().iter().find(|metric| metric.get_label()[0].value() == "writers").unwrap();
    assert!(own.get_histogram().get_sample_count() <= WRITERS * RECORDS);
}

#[tokio::test]
async fn closing_writes_what_is_queued_and_refuses_the_rest() {
    let disk = SimDisk::new();
    let journal = open(&disk, 1_000).unwrap();
    let appends = futures::future::join_all((0..5).map(|number| journal.append(payload(number, 10))));
    let (results, ()) = tokio::join!(appends, async {
        tokio::task::yield_now().await;
        journal.close().await;
    });
    assert!(results.iter().all(Result::is_ok));
    journal.close().await;
    let error = journal.append(payload(9, 9)).await.unwrap_err();
    assert!(matches!(error, JournalError::Closed { .. }));
    assert!(matches!(WriteError::from(error), WriteError::Closed));
    assert_eq!(replay(&journal, Position::default()).0, [0, 1, 2, 3, 4]);
}

#[test]
fn records_have_a_size() {
    let journal = open(&SimDisk::new(), 1_000).unwrap();
    let error = journal.append_blocking(Bytes::new()).unwrap_err();
    assert_eq!(error.to_string(), "journal test: a record has 1 to 67108864 bytes, this one has 0");
    assert!(matches!(WriteError::from(error), WriteError::Invalid(_)));
    let huge = Bytes::from(vec![0; (64 << 20) + 1]);
    journal.append_blocking(huge.clone()).unwrap_err();
    journal.append_blocking(huge.slice(1..)).unwrap();
}

#[test]
fn a_replay_starts_and_stops_where_it_is_told() {
    let journal = open(&SimDisk::new(), 200).unwrap();
    let ends: Vec<Position> =
        (0..10).map(|number| journal.append_blocking(payload(number, 50)).unwrap().position).collect();
    for (index, end) in ends.iter().enumerate() {
        assert_eq!(replay(&journal, *end).0, (index as u64 + 1..10).collect::<Vec<_>>());
    }
    let mut seen = 0;
    let report = journal.replay(ends[2], &mut |_, _| {
        seen += 1;
        if seen == 3 { Err(ReplayStop::Done) } else { Ok(()) }
    });
    assert_eq!((seen, report.unwrap().records), (3, 2));
    let error = journal.replay(ends[8], &mut |_, _| Err(std::io::Error::other("no room").into())).unwrap_err();
    assert!(matches!(error, JournalError::Stopped { position, .. } if position == ends[9]));

    let before = journal.bytes();
    journal.truncate_before(ends[5]).unwrap();
    assert!(journal.bytes() < before);
    assert_eq!(replay(&journal, ends[5]).0, [6, 7, 8, 9]);
}

#[test]
fn segment_numbers_start_where_they_are_told() {
    let disk = SimDisk::new();
    let options = JournalOptions { segment_min: 9, ..JournalOptions::named("test") };
    let journal = FileJournal::open(Arc::new(disk), std::path::Path::new("/j"), options).unwrap();
    assert_eq!(journal.append_blocking(payload(0, 1)).unwrap().position.segment, 9);
}
