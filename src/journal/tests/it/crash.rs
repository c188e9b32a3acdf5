//! The power goes, or an operation fails, at every operation of every workload.

use trefoil_journal::JournalStore;
use trefoil_runtime::vfs::sim::{Fault, SimDisk};

use crate::support::{Model, is_torture, open, run, workloads};

fn seeds() -> u64 {
    if is_torture() { 40 } else { 5 }
}

/// After the power came back: all acknowledged is there, and the journal works again, twice.
fn check_after_crash(disk: &SimDisk, segment_bytes: u64, model: &mut Model, context: &str) {
    for round in 0..2 {
        let journal = open(disk, segment_bytes).unwrap();
        model.check(&journal, &format!("{context}, round {round}"));
        model.append(&journal, 2, 30).unwrap();
        model.check(&journal, &format!("{context}, round {round}, after appends"));
        drop(journal);
        disk.crash(0);
    }
    let journal = open(disk, segment_bytes).unwrap();
    model.check(&journal, &format!("{context}, at the end"));
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut_at_any_operation() {
    for (name, segment_bytes, steps) in workloads() {
        let mut at = 0;
        loop {
            let mut struck = false;
            for seed in 0..seeds() {
                let disk = SimDisk::new();
                disk.fail_at(at, Fault::PowerCut);
                let mut model = Model::default();
                struck |= run(&disk, segment_bytes, &steps, &mut model).is_err() || disk.op_count() > at;
                disk.clear_faults();
                disk.crash(seed + 100 * at * u64::from(seed > 1));
                check_after_crash(&disk, segment_bytes, &mut model, &format!("{name}, operation {at}, seed {seed}"));
            }
            if !struck {
                break;
            }
            at += 1;
        }
        assert!(at > 10, "{name} has only {at} operations");
    }
}

#[test]
fn an_error_at_any_operation_loses_nothing_acknowledged() {
    for (name, segment_bytes, steps) in workloads() {
        for fault in [Fault::Io, Fault::NoSpace, Fault::ReadOnly, Fault::ShortWrite] {
            for at in 0.. {
                let disk = SimDisk::new();
                disk.fail_at(at, fault);
                let mut model = Model::default();
                // A step that failed is not tried again; the rest of the script is.
                let mut steps = &steps[..];
                while !steps.is_empty() {
                    if run(&disk, segment_bytes, steps, &mut model).is_ok() {
                        break;
                    }
                    steps = &steps[1..];
                }
                let struck = disk.op_count() > at;
                disk.clear_faults();
                let context = format!("{name}, {fault:?} at operation {at}");
                let journal = open(&disk, segment_bytes).unwrap();
                model.check(&journal, &context);
                drop(journal);
                disk.crash(at % 7);
                check_after_crash(&disk, segment_bytes, &mut model, &context);
                if !struck {
                    break;
                }
            }
        }
    }
}

/// One failed sync costs a segment; the group is acknowledged only from the new one.
#[test]
fn a_failed_sync_moves_the_group_to_a_new_segment() {
    for seed in 0..seeds() {
        let disk = SimDisk::new();
        let mut model = Model::default();
        let journal = open(&disk, 1 << 20).unwrap();
        model.append(&journal, 1, 700).unwrap();
        disk.fail_syncs(1);
        model.append(&journal, 3, 700).unwrap();
        assert!(!journal.is_read_only());
        model.check(&journal, "after a failed sync");
        assert_eq!(journal.end().segment, 2);
        model.append(&journal, 1, 10).unwrap();
        drop(journal);
        disk.crash(seed);
        check_after_crash(&disk, 1 << 20, &mut model, &format!("failed sync, seed {seed}"));
    }
}

#[test]
fn two_failed_syncs_in_a_row_make_it_read_only() {
    for seed in 0..seeds() {
        let disk = SimDisk::new();
        let mut model = Model::default();
        let journal = open(&disk, 1 << 20).unwrap();
        model.append(&journal, 1, 700).unwrap();
        let end = journal.end();
        disk.fail_syncs(2);
        model.append(&journal, 1, 700).unwrap_err();
        assert!(journal.is_read_only());
        disk.clear_faults();
        model.append(&journal, 1, 700).unwrap_err();
        assert_eq!(journal.end(), end);
        model.check(&journal, "read-only");
        drop(journal);
        disk.crash(seed);
        check_after_crash(&disk, 1 << 20, &mut model, &format!("read-only, seed {seed}"));
    }
}

/// Whatever fits or does not fit, a full disk refuses, and room makes it work again without a restart.
#[test]
fn a_full_disk_refuses_and_recovers() {
    for room in (0..400).step_by(if is_torture() { 1 } else { 7 }) {
        let disk = SimDisk::new();
        let mut model = Model::default();
        let journal = open(&disk, 250).unwrap();
        disk.set_capacity(100 + room);
        let mut refused = 0;
        for _ in 0..8 {
            refused += u64::from(model.append(&journal, 1, 60).is_err());
            refused += u64::from(model.append(&journal, 2, 20).is_err());
        }
        assert!(refused > 0 && !journal.is_read_only());
        disk.set_capacity(1 << 30);
        model.append(&journal, 1, 60).unwrap();
        model.append(&journal, 2, 60).unwrap();
        model.check(&journal, &format!("room {room}"));
        drop(journal);
        disk.crash(room);
        check_after_crash(&disk, 250, &mut model, &format!("full disk, room {room}"));
    }
}
