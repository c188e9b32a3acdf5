//! The power goes, or an operation fails, at every operation of a scripted life.

use trefoil_model::TimeRange;
use trefoil_runtime::vfs::sim::{Fault, SimDisk};
use trefoil_tsdb::{Tsdb, TsdbError};

use crate::support::{BASE, DAY_MS, Model, Point, float, histogram, numbered, open, wait, write};

/// Long forms run when `TREFOIL_TORTURE` is set.
fn seeds() -> u64 {
    if std::env::var_os("TREFOIL_TORTURE").is_some() { 24 } else { 2 }
}

fn life(round: usize) -> Vec<Vec<(trefoil_model::Labels, Point)>> {
    (0..2)
        .map(|k| {
            let n = round * 2 + k;
            (0..4)
                .map(|s| {
                    // Some go back to what is in parts already.
                    let back = if s == 3 { n as i64 / 2 } else { 0 };
                    let t = BASE + (n % 2) as i64 * DAY_MS + (n as i64 - back) * 1000;
                    let value = if s == 2 {
                        crate::support::Value::Histogram(histogram(n as u32))
                    } else {
                        float(n as f64 + 0.5)
                    };
                    (numbered(s + n / 4), (t, 0, value))
                })
                .collect()
        })
        .collect()
}

/// Writes, flushes, merges, closes and opens; goes on after errors as a server would.
fn live(disk: &SimDisk, model: &mut Model) -> Result<(), TsdbError> {
    let mut db = open(disk)?;
    for round in 0..6 {
        for samples in life(round) {
            match write(&db, &samples) {
                Ok(_) => model.acknowledged(&samples),
                Err(_) => model.in_doubt(&samples),
            }
        }
        wait(db.flush()).ok();
        db.merge_once().ok();
        if round == 3 {
            wait(db.close());
            drop(db);
            db = open(disk)?;
        }
    }
    Ok(())
}

fn check_twice(disk: &SimDisk, model: &Model, context: &str) {
    let mut model = model.clone();
    for round in 0..2 {
        let db: Tsdb = open(disk).unwrap_or_else(|e| panic!("{context}: {e:?}"));
        assert!(db.catalog_findings().is_empty(), "{context}: {:?}", db.catalog_findings());
        model.check(&db, TimeRange::ALL, &format!("{context}, start {round}"));
        let more = vec![(numbered(1), (BASE + 50_000 + round, 0, float(9.25)))];
        write(&db, &more).unwrap();
        model.acknowledged(&more);
        wait(db.flush()).unwrap();
        while db.merge_once().unwrap() {}
        model.check(&db, TimeRange::ALL, &format!("{context}, start {round}, after more"));
        drop(db);
        disk.crash(0);
    }
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged() {
    let mut at = 0;
    loop {
        let mut struck = false;
        for seed in 0..seeds() {
            let disk = SimDisk::new();
            disk.fail_at(at, Fault::PowerCut);
            let mut model = Model::default();
            live(&disk, &mut model).ok();
            struck |= disk.op_count() > at;
            disk.clear_faults();
            disk.crash(if seed == 1 { 2 + at } else { seed });
            check_twice(&disk, &model, &format!("operation {at}, seed {seed}"));
        }
        if !struck {
            break;
        }
        at += 1;
    }
    assert!(at > 100, "the life has only {at} operations");
}

#[test]
fn an_error_at_any_operation_loses_nothing_acknowledged() {
    for fault in [Fault::Io, Fault::NoSpace] {
        for at in 0.. {
            let disk = SimDisk::new();
            disk.fail_at(at, fault);
            let mut model = Model::default();
            live(&disk, &mut model).ok();
            let struck = disk.op_count() > at;
            disk.clear_faults();
            disk.crash(1);
            check_twice(&disk, &model, &format!("{fault:?} at operation {at}"));
            if !struck {
                break;
            }
        }
    }
}
