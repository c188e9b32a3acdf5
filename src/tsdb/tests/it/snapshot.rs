//! Snapshots hold what was acknowledged, survive power cuts, and never harm the store they are taken from.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use trefoil_model::TimeRange;
use trefoil_runtime::SimClock;
use trefoil_runtime::vfs::sim::{Fault, SimDisk};
use trefoil_tsdb::{Tsdb, TsdbOptions};

use crate::support::{BASE, Model, NOW, Point, float, numbered, open, wait, write};

const TO: &str = "/data/snapshots/one/metrics";

fn open_copy(disk: &SimDisk, dir: &str) -> Tsdb {
    Tsdb::open(TsdbOptions::new(dir, Arc::new(disk.clone()), SimClock::new(NOW))).unwrap()
}

fn samples(n: i64) -> Vec<(trefoil_model::Labels, Point)> {
    (0..3).map(|s| (numbered(s), (BASE + n * 1000 + s as i64, 0, float(n as f64)))).collect()
}

/// A store with parts, a memtable and a model of both.
fn prepared(disk: &SimDisk) -> (Tsdb, Model) {
    let db = open(disk).unwrap();
    let mut model = Model::default();
    for n in 0..6 {
        write(&db, &samples(n)).unwrap();
        model.acknowledged(&samples(n));
        if n % 2 == 1 && n < 5 {
            wait(db.flush()).unwrap();
        }
    }
    (db, model)
}

#[test]
fn a_snapshot_answers_what_was_acknowledged_and_nothing_of_later() {
    let disk = SimDisk::new();
    let (db, model) = prepared(&disk);
    wait(db.snapshot_to(Path::new(TO), true)).unwrap();
    wait(db.snapshot_to(Path::new("/data/snapshots/two/metrics"), false)).unwrap();
    write(&db, &samples(50)).unwrap();
    wait(db.flush()).unwrap();
    while db.merge_once().unwrap() {}
    model.check(&open_copy(&disk, TO), TimeRange::ALL, "with memtables");
    let mut flushed = Model::default();
    (0..4).for_each(|n| flushed.acknowledged(&samples(n)));
    flushed.check(&open_copy(&disk, "/data/snapshots/two/metrics"), TimeRange::ALL, "without memtables");
    // Life in the copy does not reach the original.
    let copy = open_copy(&disk, TO);
    write(&copy, &samples(70)).unwrap();
    wait(copy.flush()).unwrap();
    while copy.merge_once().unwrap() {}
    let mut model = model;
    model.acknowledged(&samples(50));
    drop(db);
    model.check(&open(&disk).unwrap(), TimeRange::ALL, "the original");
}

#[test]
fn a_fault_at_any_operation_of_a_snapshot_harms_nothing() {
    let counting = SimDisk::new();
    let (db, _) = prepared(&counting);
    let start = counting.op_count();
    wait(db.snapshot_to(Path::new(TO), true)).unwrap();
    let end = counting.op_count();
    assert!(end > start + 10);
    for at in start..=end {
        for fault in [Fault::PowerCut, Fault::Io, Fault::NoSpace] {
            let context = format!("{fault:?} at operation {at}");
            let disk = SimDisk::new();
            let (db, model) = prepared(&disk);
            disk.fail_at(at, fault);
            let taken = wait(db.snapshot_to(Path::new(TO), true));
            if !matches!(fault, Fault::PowerCut) {
                disk.clear_faults();
                model.check(&db, TimeRange::ALL, &context);
            }
            drop(db);
            disk.clear_faults();
            disk.crash(at);
            model.check(&open(&disk).unwrap(), TimeRange::ALL, &context);
            if taken.is_ok() {
                model.check(&open_copy(&disk, TO), TimeRange::ALL, &format!("{context}, the snapshot"));
            }
        }
    }
}

#[test]
fn snapshots_beside_writes_flushes_and_merges_are_whole() {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let work = {
        let (db, stop) = (db.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                wait(db.flush()).unwrap();
                db.merge_once().unwrap();
            }
        })
    };
    let mut model = Model::default();
    for n in 0..30 {
        write(&db, &samples(n)).unwrap();
        model.acknowledged(&samples(n));
        let dir = format!("/data/snapshots/{n}/metrics");
        wait(db.snapshot_to(Path::new(&dir), true)).unwrap();
        model.check(&open_copy(&disk, &dir), TimeRange::ALL, &dir);
    }
    stop.store(true, Ordering::Relaxed);
    work.join().unwrap();
}
