//! The power goes, or an operation fails, at every operation of every workload.

use trefoil_parts::PartsError;
use trefoil_runtime::vfs::sim::{Fault, SimDisk};

use crate::support::{Model, Step, is_torture, open, run, state, workloads};

fn check_after_crash(disk: &SimDisk, model: &mut Model, context: &str) {
    let set = open(disk).unwrap();
    model.check(disk, &set, context);
    model.step(&set, Step::Flush(1, 1)).unwrap();
    drop(set);
    disk.crash(0);
    let set = open(disk).unwrap();
    assert_eq!(state(disk, &set), model.now, "{context}, second crash");
}

/// In the short form, the long workload is looked at only around its snapshot.
fn is_left_out(name: &str, at: u64) -> bool {
    name == "snapshots" && !is_torture() && at > 60 && !at.is_multiple_of(13)
}

#[test]
fn a_power_cut_at_any_operation_leaves_the_old_or_the_new_state() {
    let seeds = if is_torture() { 40 } else { 5 };
    for (name, steps) in workloads() {
        let whole = SimDisk::new();
        run(&whole, &steps, &mut Model::default()).unwrap();
        for at in (0..=whole.op_count()).filter(|at| !is_left_out(name, *at)) {
            for seed in 0..seeds {
                let disk = SimDisk::new();
                disk.fail_at(at, Fault::PowerCut);
                let mut model = Model::default();
                // Dropped parts may still be removed when the power is gone, so the result says nothing.
                drop(run(&disk, &steps, &mut model));
                disk.clear_faults();
                disk.crash(if seed > 1 { seed + 100 * at } else { seed });
                check_after_crash(&disk, &mut model, &format!("{name}, operation {at}, seed {seed}"));
            }
        }
    }
}

#[test]
fn an_error_at_any_operation_leaves_the_old_or_the_new_state() {
    for (name, steps) in workloads() {
        let whole = SimDisk::new();
        run(&whole, &steps, &mut Model::default()).unwrap();
        for at in (0..whole.op_count()).filter(|at| !is_left_out(name, *at)) {
            for fault in [Fault::Io, Fault::NoSpace, Fault::ShortWrite, Fault::ReadOnly] {
                let context = format!("{name}, {fault:?} at operation {at}");
                let disk = SimDisk::new();
                disk.fail_at(at, fault);
                let mut model = Model::default();
                let mut set = None;
                for step in &steps {
                    // One fault: what fails once works when it is tried again, at the latest after opening again.
                    if matches!(step, Step::Reopen) {
                        set = None;
                    }
                    for attempt in 0.. {
                        let current = match set.take() {
                            Some(set) => set,
                            None => match open(&disk) {
                                Ok(opened) => {
                                    // Looked at on a copy, so that the fault does not strike the look.
                                    let copy = disk.fork();
                                    copy.clear_faults();
                                    model.check(&copy, &open(&copy).unwrap(), &context);
                                    opened
                                }
                                Err(_) => continue,
                            },
                        };
                        let result = model.step(&current, *step);
                        if !matches!(result, Err(PartsError::Unknown { .. })) {
                            set = Some(current);
                        }
                        if result.is_ok() {
                            break;
                        }
                        assert!(attempt < 3, "{context}: {result:?}");
                    }
                }
                drop(set);
                disk.clear_faults();
                let set = open(&disk).unwrap();
                model.check(&disk, &set, &context);
                drop(set);
                disk.crash(at % 5);
                check_after_crash(&disk, &mut model, &context);
            }
        }
    }
}

/// Two faults in a row at the end of a commit: its outcome is unknown, and the set says so and stops.
#[test]
fn an_unknown_outcome_stops_commits_until_the_set_is_opened_again() {
    let prepared = SimDisk::new();
    let mut ops = Vec::new();
    let set = open(&prepared).unwrap();
    let mut model = Model::default();
    model.step(&set, Step::Flush(1, 1)).unwrap();
    let start = prepared.op_count();
    model.step(&set, Step::Flush(1, 1)).unwrap();
    ops.extend(start..prepared.op_count());
    let mut unknown = 0;
    for at in ops {
        for seed in 0..4 {
            let disk = SimDisk::new();
            let set = open(&disk).unwrap();
            let mut model = Model::default();
            model.step(&set, Step::Flush(1, 1)).unwrap();
            for failing in at..at + 4 {
                disk.fail_at(failing, Fault::Io);
            }
            let result = model.step(&set, Step::Flush(1, 1));
            disk.clear_faults();
            if matches!(result, Err(PartsError::Unknown { .. })) {
                unknown += 1;
                let next = model.next.clone();
                assert!(matches!(model.step(&set, Step::Move), Err(PartsError::Unknown { .. })));
                model.next = next;
            }
            drop(set);
            disk.crash(seed);
            check_after_crash(&disk, &mut model, &format!("faults from operation {at}, seed {seed}"));
        }
    }
    assert!(unknown > 0);
}
