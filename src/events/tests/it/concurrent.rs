//! Writers, flushes, merges and readers at the same time: every acknowledged record is read once by every query that
//! begins after its acknowledgement.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use trefoil_model::*;
use trefoil_runtime::sim::SimDisk;

use crate::support::*;

const WRITERS: u64 = 3;
const BATCHES: u64 = 150;

fn logs(writer: u64, number: u64) -> LogBatch {
    let record = LogRecord {
        time_ns: NOW - (number % 5) as i64 * SECOND,
        observed_ns: 0,
        severity_number: 0,
        severity_text: String::new(),
        text: format!("{writer} {number}"),
        attributes: Vec::new(),
        trace_id: None,
        span_id: None,
    };
    let stream = Labels::from_pairs([("writer", writer.to_string())]);
    LogBatch {
        tenant: TenantId(0),
        groups: vec![LogGroup { stream, shared: Default::default(), records: vec![record] }],
    }
}

fn spans(writer: u64, number: u64) -> TraceBatch {
    let mut span = span(&mut rng(number));
    span.trace_id = TraceId([writer as u8 + 1; 16]);
    span.span_id = SpanId((number + 1).to_be_bytes());
    TraceBatch { tenant: TenantId(0), groups: vec![SpanGroup { spans: vec![span], ..SpanGroup::default() }] }
}

#[test]
fn readers_see_every_acknowledged_event_once() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let acknowledged: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, acknowledged) = (&store, &acknowledged);
                scope.spawn(move || {
                    let runtime = runtime();
                    for number in 0..BATCHES {
                        runtime.block_on(store.write_logs(logs(writer, number))).unwrap();
                        runtime.block_on(store.write_spans(spans(writer, number))).unwrap();
                        acknowledged[writer as usize].store(number + 1, Ordering::Release);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let runtime = runtime();
            while !is_done.load(Ordering::Acquire) {
                runtime.block_on(store.flush()).unwrap();
            }
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                if !store.merge_once().unwrap() {
                    std::thread::yield_now();
                }
            }
        });
        loop {
            let last_round = writers.iter().all(|writer| writer.is_finished());
            let before: Vec<u64> = acknowledged.iter().map(|a| a.load(Ordering::Acquire)).collect();
            let mut found: BTreeMap<String, u64> = BTreeMap::new();
            for (_, _, record) in scan(&store, &everything(TenantId(0), Direction::Backward), 0) {
                *found.entry(record.text).or_default() += 1;
            }
            assert!(found.values().all(|count| *count == 1), "something is read twice");
            for (writer, count) in (0..WRITERS).zip(&before) {
                for number in 0..*count {
                    assert!(found.contains_key(&format!("{writer} {number}")), "{writer} {number} is missing");
                }
                let trace = store.trace(TenantId(0), TraceId([writer as u8 + 1; 16]), None, &Unlimited).unwrap();
                let spans = trace.map_or(0, |t| t.groups.iter().map(|g| g.spans.len() as u64).sum());
                assert!(spans >= *count && spans <= BATCHES, "{spans} spans of {writer}, {count} acknowledged");
            }
            if last_round {
                break;
            }
        }
        is_done.store(true, Ordering::Release);
    });
}
