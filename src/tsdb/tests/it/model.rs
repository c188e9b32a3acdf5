//! Random writes, flushes, merges and restarts against a naive model.

use proptest::prelude::*;
use trefoil_model::TimeRange;
use trefoil_runtime::vfs::sim::SimDisk;

use crate::support::{BASE, DAY_MS, Model, Point, float, histogram, numbered, open, wait, write};

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(usize, Point)>),
    Flush,
    Merge,
    Reopen,
    Crash(u64),
    Check(i64, i64),
}

fn point() -> impl Strategy<Value = (usize, Point)> {
    // Few distinct times, so that there are duplicates and disorder, over three days.
    let time = (0i64..3, 0i64..40).prop_map(|(day, slot)| BASE + day * DAY_MS + slot * 15_000);
    let start = prop_oneof![5 => Just(0i64), 1 => (0i64..3).prop_map(|s| BASE - s)];
    (0usize..6, time, start, any::<u32>(), any::<bool>()).prop_map(|(series, t, start, v, special)| {
        let value = match (series, special) {
            (0, _) => histogram(v % 100),
            (1, true) => return (series, (t, start, crate::support::Value::Histogram(histogram(v % 100)))),
            (_, true) => return (series, (t, start, float(f64::from_bits(u64::from(v) << 32 | u64::from(v))))),
            (_, false) => return (series, (t, start, float(f64::from(v % 1000) / 4.0))),
        };
        (series, (t, start, crate::support::Value::Histogram(value)))
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(point(), 1..40).prop_map(Step::Write),
        // In order, as most data are.
        4 => (0usize..6, 0i64..3, 1i64..60).prop_map(|(series, day, n)| Step::Write(
            (0..n).map(|i| (series, (BASE + day * DAY_MS + i * 15_000, 0, float(i as f64)))).collect()
        )),
        4 => Just(Step::Flush),
        2 => Just(Step::Merge),
        1 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(Step::Crash),
        2 => (-1i64..3 * 96, 0i64..96).prop_map(|(from, len)| Step::Check(from, len)),
    ]
}

fn run(steps: &[Step]) {
    let disk = SimDisk::new();
    let mut db = open(&disk).unwrap();
    let mut model = Model::default();
    for (i, step) in steps.iter().enumerate() {
        match step {
            Step::Write(points) => {
                let samples: Vec<_> = points.iter().map(|(s, p)| (numbered(*s), p.clone())).collect();
                // Within a batch floats come before histograms, so a batch must not have both for one time.
                let mut distinct = samples.clone();
                distinct.reverse();
                let mut seen = std::collections::BTreeSet::new();
                distinct.retain(|(l, (t, ..))| seen.insert((l.clone(), *t)));
                distinct.reverse();
                let report = write(&db, &distinct).unwrap();
                assert_eq!((report.accepted, report.rejected), (distinct.len() as u64, 0), "{:?}", report.reasons);
                model.acknowledged(&distinct);
            }
            Step::Flush => {
                wait(db.flush()).unwrap();
            }
            Step::Merge => while db.merge_once().unwrap() {},
            Step::Reopen => {
                wait(db.close());
                drop(db);
                db = open(&disk).unwrap();
            }
            Step::Crash(seed) => {
                drop(db);
                disk.crash(*seed);
                db = open(&disk).unwrap();
            }
            Step::Check(from, len) => {
                let from = BASE + from * DAY_MS / 96 + 7500;
                model.check(&db, TimeRange::new(from, from + len * DAY_MS / 96), &format!("step {i}"));
            }
        }
        model.check(&db, TimeRange::ALL, &format!("step {i} {}", format!("{step:?}").split('(').next().unwrap()));
    }
    drop(db);
    let db = open(&disk).unwrap();
    model.check(&db, TimeRange::ALL, "after the last restart");
}

/// Many more when `TREFOIL_TORTURE` is set.
fn cases() -> u32 {
    if std::env::var_os("TREFOIL_TORTURE").is_some() { 4000 } else { 96 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_store_answers_like_the_model(steps in prop::collection::vec(step(), 1..40)) {
        run(&steps);
    }
}
