//! The power goes, or an operation fails, at every operation of a scripted workload: what was acknowledged is there
//! once, what was not is there once or not at all.

use std::collections::BTreeSet;

use trefoil_events::EventStore;
use trefoil_model::*;
use trefoil_runtime::sim::{Fault, SimDisk};

use crate::support::*;

fn batch(number: usize) -> LogBatch {
    let record = |i: usize| LogRecord {
        time_ns: NOW - (number % 2) as i64 * 86_400 * SECOND + i as i64,
        observed_ns: 0,
        severity_number: 0,
        severity_text: String::new(),
        text: format!("batch {number} record {i} {}", "w ".repeat(50)),
        attributes: Vec::new(),
        trace_id: None,
        span_id: None,
    };
    let group = LogGroup {
        stream: Labels::from_pairs([("n", number.to_string())]),
        shared: Default::default(),
        records: (0..4).map(record).collect(),
    };
    LogBatch { tenant: TenantId(0), groups: vec![group] }
}

fn deletion() -> LogDeletion {
    LogDeletion {
        tenant: TenantId(0),
        query: "{}".to_owned(),
        matchers: Vec::new(),
        contains: vec!["nowhere".to_owned()],
        range: NanoRange::ALL,
    }
}

/// Runs the script until a step fails when `stop`; returns which batches were tried and acknowledged.
fn run(disk: &SimDisk, stop: bool) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let runtime = runtime();
    let (mut tried, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
    let Ok(store) = open(disk) else { return (tried, acknowledged) };
    for number in 0..8 {
        tried.insert(number);
        match runtime.block_on(store.write_logs(batch(number))) {
            Ok(_) => {
                acknowledged.insert(number);
            }
            Err(_) if stop => break,
            Err(_) => {}
        }
        let result = match number {
            1 | 3 | 6 => runtime.block_on(store.flush()),
            4 | 7 => store.merge_once().map(drop),
            // Of nothing: it flushes, commits and makes merges rewrite.
            5 => runtime.block_on(store.delete(deletion())).map(drop).map_err(trefoil_events::EventsError::Read),
            _ => Ok(()),
        };
        if result.is_err() && stop {
            break;
        }
    }
    (tried, acknowledged)
}

fn check(store: &EventStore, tried: &BTreeSet<usize>, acknowledged: &BTreeSet<usize>, context: &str) {
    let found = scan(store, &everything(TenantId(0), Direction::Forward), 0);
    let mut texts: Vec<&str> = found.iter().map(|(_, _, record)| record.text.as_str()).collect();
    texts.sort_unstable();
    let count = texts.len();
    texts.dedup();
    assert_eq!(texts.len(), count, "{context}: something is there twice");
    for number in 0..8 {
        let records = texts.iter().filter(|t| t.starts_with(&format!("batch {number} "))).count();
        if acknowledged.contains(&number) {
            assert_eq!(records, 4, "{context}: acknowledged batch {number}");
        } else {
            assert!(records == 0 || records == 4 && tried.contains(&number), "{context}: batch {number}: {records}");
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_a_power_cut() {
    let mut at = 0;
    loop {
        let disk = SimDisk::new();
        disk.fail_at(at, Fault::PowerCut);
        let (tried, acknowledged) = run(&disk, true);
        let struck = disk.op_count() > at;
        disk.clear_faults();
        disk.crash(at % 5);
        for round in 0..2 {
            let context = format!("operation {at}, round {round}");
            let store = open(&disk).unwrap();
            check(&store, &tried, &acknowledged, &context);
            let runtime = runtime();
            runtime.block_on(store.flush()).unwrap();
            check(&store, &tried, &acknowledged, &context);
            while store.merge_once().unwrap() {}
            check(&store, &tried, &acknowledged, &context);
            drop(store);
            disk.crash(0);
        }
        if !struck {
            break;
        }
        at += 1;
    }
    assert!(at > 60, "only {at} operations");
}

#[test]
fn a_failed_operation_loses_and_doubles_nothing() {
    for fault in [Fault::Io, Fault::NoSpace] {
        let mut at = 0;
        loop {
            let disk = SimDisk::new();
            disk.fail_at(at, fault);
            let (tried, acknowledged) = run(&disk, false);
            let struck = disk.op_count() > at;
            disk.clear_faults();
            disk.crash(at % 3);
            let store = open(&disk).unwrap();
            check(&store, &tried, &acknowledged, &format!("{fault:?} at operation {at}"));
            if !struck {
                break;
            }
            at += 3;
        }
    }
}
