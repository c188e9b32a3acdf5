//! Memtables stay within their bound, however fast writers are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use trefoil_events::EventStore;
use trefoil_model::*;
use trefoil_runtime::sim::SimDisk;
use trefoil_runtime::{Accountant, Pool, SimClock};

use crate::support::*;

const MEMTABLE_BYTES: u64 = 20_000;
const BOUND: u64 = 3 * MEMTABLE_BYTES;
const WRITERS: u64 = 4;
const BATCHES: u64 = 120;

fn batch(writer: u64, number: u64) -> LogBatch {
    let record = |line: i64| LogRecord {
        time_ns: NOW - line,
        observed_ns: 0,
        severity_number: 9,
        severity_text: String::new(),
        text: format!("{writer} {number} {line} {}", "x".repeat(100)),
        attributes: vec![("detected_level".to_owned(), AttributeValue::String("info".to_owned()))],
        trace_id: None,
        span_id: None,
    };
    let stream = Labels::from_pairs([("writer", writer.to_string())]);
    let records = (0..10).map(record).collect();
    LogBatch { tenant: TenantId(0), groups: vec![LogGroup { stream, shared: Arc::default(), records }] }
}

fn open_bounded(disk: &SimDisk) -> (EventStore, Accountant, Arc<SimClock>) {
    let (accountant, clock) = (Accountant::new(1 << 30), SimClock::new(NOW_MS));
    let mut options = options(disk);
    options.accountant = accountant.clone();
    options.clock = clock.clone();
    options.memtable_bytes_max = MEMTABLE_BYTES;
    options.memtable_wait_max = Duration::from_secs(10);
    (EventStore::open(options).unwrap(), accountant, clock)
}

#[test]
fn writers_faster_than_the_flush_wait_within_the_bound() {
    let disk = SimDisk::new();
    let (store, accountant, _clock) = open_bounded(&disk);
    let is_done = AtomicBool::new(false);
    let most = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, accountant, most) = (&store, &accountant, &most);
                scope.spawn(move || {
                    let runtime = runtime();
                    for number in 0..BATCHES {
                        runtime.block_on(store.write_logs(batch(writer, number))).unwrap();
                        most.fetch_max(accountant.used(Pool::Memtable), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let runtime = runtime();
            while !is_done.load(Ordering::Acquire) {
                // With the last write the writers may leave without another call.
                runtime.block_on(async {
                    tokio::select! {
                        () = store.until_full() => {}
                        () = tokio::time::sleep(Duration::from_millis(1)) => {}
                    }
                });
                runtime.block_on(store.flush_due()).unwrap();
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        is_done.store(true, Ordering::Release);
    });
    let most = most.load(Ordering::Relaxed);
    assert!(most <= BOUND, "memtables held {most} bytes");
    assert!(store.log_parts().len() > 1, "there was more than a memtable holds");
    let found = scan(&store, &everything(TenantId(0), Direction::Forward), usize::MAX);
    assert_eq!(found.len() as u64, WRITERS * BATCHES * 10);
}

#[test]
fn without_a_flush_a_write_is_refused_after_its_wait() {
    let disk = SimDisk::new();
    let (store, accountant, clock) = open_bounded(&disk);
    let runtime = runtime();
    let mut accepted = 0;
    let refused = runtime.block_on(async {
        loop {
            let mut write = std::pin::pin!(store.write_logs(batch(0, accepted)));
            let written = loop {
                tokio::select! {
                    biased;
                    written = &mut write => break written,
                    // The journal works on a thread of its own, so that not every wait is one for room.
                    () = tokio::task::yield_now() => if clock.sleepers() > 0 {
                        clock.advance(Duration::from_secs(11));
                    },
                }
            };
            match written {
                Ok(_) => accepted += 1,
                Err(error) => break error,
            }
            assert!(accepted < 1000, "nothing is refused");
        }
    });
    match refused {
        WriteError::Unavailable { reason, retry_after } => {
            assert_eq!(reason, "memtables of the logs store are full: 60000 bytes wait to be written");
            assert!(retry_after > Duration::ZERO);
        }
        other => panic!("{other}"),
    }
    assert!(accountant.used(Pool::Memtable) <= BOUND);
    runtime.block_on(store.flush()).unwrap();
    assert_eq!(accountant.used(Pool::Memtable), 0);
    runtime.block_on(store.write_logs(batch(0, accepted))).unwrap();
    let found = scan(&store, &everything(TenantId(0), Direction::Forward), usize::MAX);
    assert_eq!(found.len() as u64, (accepted + 1) * 10);
}
