//! What the contract says, one promise a test.

use std::sync::Arc;
use std::time::Duration;

use trefoil_model::{
    Exemplar, Labels, MatchOp, MetricBatch, MetricKind, MetricMetadata, MetricReader, MetricWriter, Purse, STALE_NAN,
    SelectRequest, StoreError, TenantId, TimeRange, Unlimited, WriteError,
};
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_runtime::{Accountant, SimClock};
use trefoil_tsdb::Tsdb;

use crate::support::{
    BASE, DAY_MS, NOW, Value, batch, float, histogram, labels, matcher, numbered, open, options, read, request, wait,
    write,
};

fn all_names() -> Vec<trefoil_model::Matcher> {
    vec![matcher(MatchOp::Regex, "__name__", ".+")]
}

/// Runs the check on the memtable, after a flush, after a restart from the journal and after one from parts.
fn in_every_state(fill: impl Fn(&Tsdb), check: impl Fn(&Tsdb, &str)) {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    fill(&db);
    check(&db, "memtable");
    drop(db);
    disk.crash(0);
    let db = open(&disk).unwrap();
    check(&db, "replayed");
    wait(db.flush()).unwrap();
    check(&db, "flushed");
    wait(db.close());
    drop(db);
    let db = open(&disk).unwrap();
    check(&db, "opened");
    fill(&db);
    check(&db, "written again");
    wait(db.flush()).unwrap();
    check(&db, "flushed again");
    while db.merge_once().unwrap() {}
    check(&db, "merged");
}

#[test]
fn every_bit_comes_back() {
    let special = [
        0.0,
        -0.0,
        f64::NAN,
        f64::from_bits(0x7ff8_0000_0000_0abc),
        STALE_NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        5e-324,
    ];
    let points: Vec<_> = special.iter().enumerate().map(|(i, v)| (BASE + i as i64 * 1000, 0, float(*v))).collect();
    let samples: Vec<_> = points.iter().map(|p| (numbered(0), p.clone())).collect();
    in_every_state(
        |db| drop(write(db, &samples).unwrap()),
        |db, state| {
            let got = read(db, 0, all_names(), TimeRange::ALL);
            assert_eq!(got.into_iter().collect::<Vec<_>>(), [(numbered(0), points.clone())], "{state}");
        },
    );
}

#[test]
fn histograms_and_starts_come_back() {
    let points: Vec<_> = (0..20)
        .map(|i| {
            let value = if i % 7 == 3 { float(f64::from(i)) } else { Value::Histogram(histogram(i as u32)) };
            (BASE + i64::from(i) * 1000, if i > 10 { BASE - 5 } else { 0 }, value)
        })
        .collect();
    let samples: Vec<_> = points.iter().map(|p| (numbered(0), p.clone())).collect();
    in_every_state(
        |db| drop(write(db, &samples).unwrap()),
        |db, state| {
            assert_eq!(read(db, 0, all_names(), TimeRange::ALL)[&numbered(0)], points, "{state}");
            let some = read(db, 0, all_names(), TimeRange::new(BASE + 5000, BASE + 9000));
            assert_eq!(some[&numbered(0)], points[5..9], "{state}");
        },
    );
}

#[test]
fn the_last_write_wins() {
    let at = |t: i64, v: f64| (numbered(0), (BASE + t, 0, float(v)));
    in_every_state(
        |db| {
            write(db, &[at(1, 1.0), at(3, 3.0)]).unwrap();
            write(db, &[at(2, 2.0), at(3, 4.0), at(1, 5.0)]).unwrap();
            write(db, &[at(3, 3.0)]).unwrap();
        },
        |db, state| {
            let want = [(BASE + 1, 0, float(5.0)), (BASE + 2, 0, float(2.0)), (BASE + 3, 0, float(3.0))];
            assert_eq!(read(db, 0, all_names(), TimeRange::ALL)[&numbered(0)], want, "{state}");
        },
    );
}

#[test]
fn tenants_do_not_see_each_other() {
    in_every_state(
        |db| {
            for tenant in [0, 7] {
                let mut batch = batch(&[(numbered(tenant as usize), (BASE, 0, float(f64::from(tenant))))]);
                batch.series.push(numbered(100));
                batch.floats.push(trefoil_model::FloatPoint { series: 1, t_ms: BASE, start_ms: 0, value: 1.0 });
                batch.tenant = TenantId(tenant);
                wait(db.write(batch)).unwrap();
            }
        },
        |db, state| {
            for tenant in [0, 7] {
                let got: Vec<_> = read(db, tenant, vec![], TimeRange::ALL).into_keys().collect();
                let mut want = [numbered(tenant as usize), numbered(100)];
                want.sort();
                assert_eq!(got, want, "{state}");
                let (values, _) = db.label_values(TenantId(tenant), "i", TimeRange::ALL, &[], 0, &Unlimited).unwrap();
                let mut want = vec![tenant.to_string(), "100".to_owned()];
                want.sort();
                assert_eq!(values, want);
            }
            assert!(read(db, 1, vec![], TimeRange::ALL).is_empty());
        },
    );
}

fn fill_for_names(db: &Tsdb) {
    let mut batch = MetricBatch::default();
    for day in 0..2i64 {
        for i in 0..30 {
            let pod = format!("pod-{i}");
            let job = if i % 2 == 0 { "even" } else { "" };
            let name = if day == 0 { "first_day" } else { "second_day" };
            batch.push_float(labels(&[("__name__", name), ("pod", &pod), ("job", job)]), BASE + day * DAY_MS, 1.0);
        }
    }
    wait(db.write(batch)).unwrap();
}

#[test]
fn names_values_and_series_come_from_the_index() {
    let first_day = TimeRange::new(BASE, BASE + 1000);
    in_every_state(fill_for_names, |db, state| {
        let tenant = TenantId(0);
        let names = |range, requests: &[SelectRequest], limit| {
            db.label_names(tenant, range, requests, limit, &Unlimited).unwrap()
        };
        let values = |name: &str, range, requests: &[SelectRequest], limit| {
            db.label_values(tenant, name, range, requests, limit, &Unlimited).unwrap()
        };
        assert_eq!(names(TimeRange::ALL, &[], 0), (vec!["__name__".into(), "job".into(), "pod".into()], false));
        assert_eq!(names(TimeRange::ALL, &[], 2), (vec!["__name__".into(), "job".into()], true), "{state}");
        assert_eq!(values("__name__", first_day, &[], 0).0, ["first_day"], "{state}");
        assert_eq!(values("__name__", TimeRange::new(BASE - 10, BASE), &[], 0).0, [""; 0]);
        assert_eq!(values("__name__", TimeRange::ALL, &[], 0).0, ["first_day", "second_day"]);
        assert_eq!(values("pod", TimeRange::ALL, &[], 30).0.len(), 30);
        assert!(!values("pod", TimeRange::ALL, &[], 30).1);
        assert!(values("pod", TimeRange::ALL, &[], 29).1);
        let even = request(vec![matcher(MatchOp::Equal, "job", "even")], TimeRange::ALL);
        let odd = request(vec![matcher(MatchOp::Equal, "job", "")], first_day);
        assert_eq!(values("pod", TimeRange::ALL, std::slice::from_ref(&even), 0).0.len(), 15, "{state}");
        assert_eq!(names(TimeRange::ALL, std::slice::from_ref(&odd), 0).0, ["__name__", "pod"], "{state}");
        let (series, cut) = db.series(&[even.clone(), odd.clone()], 0, &Unlimited).unwrap();
        assert_eq!((series.len(), cut), (30 + 15, false), "{state}");
        assert!(series.is_sorted());
        let (series, cut) = db.series(&[even, odd], 10, &Unlimited).unwrap();
        assert_eq!((series.len(), cut), (10, true), "{state}");
    });
}

#[test]
fn names_and_values_are_those_of_series_with_samples_in_the_range() {
    const COUNT: i64 = 2000;
    let fill = |db: &Tsdb| {
        let mut batch = MetricBatch::default();
        for i in 0..COUNT {
            let (own, tens, parity) = (format!("{i}"), format!("{}", i / 10), format!("{}", i % 2));
            let name = if i < 1000 { "early" } else { "late" };
            let labels = labels(&[("__name__", "m"), ("own", &own), ("tens", &tens), ("parity", &parity), (name, "x")]);
            batch.push_float(labels, BASE + i * 1000, 1.0);
        }
        wait(db.write(batch)).unwrap();
    };
    let range = |from: i64, to: i64| TimeRange::new(BASE + from * 1000, BASE + to * 1000);
    let parity = |n: &str, from, to| request(vec![matcher(MatchOp::Equal, "parity", n)], range(from, to));
    // Requests, and the series that they select.
    let mut cases: Vec<(TimeRange, Vec<SelectRequest>, Vec<i64>)> = Vec::new();
    for (from, to) in [(0, COUNT), (0, 1), (500, 510), (995, 1005), (1990, 3000), (3000, 4000), (0, 1500)] {
        let inside = |n: i64| (from..to.min(COUNT)).filter(move |i| i % 2 == n);
        let mut all: Vec<i64> = inside(0).chain(inside(1)).collect();
        cases.push((range(from, to), Vec::new(), all.clone()));
        cases.push((range(from, to), vec![parity("0", from, to)], inside(0).collect()));
        all.retain(|i| i % 2 == 0 || *i < 700);
        cases.push((range(from, to), vec![parity("0", from, to), parity("1", from, to.min(700).max(from))], all));
    }
    in_every_state(fill, |db, state| {
        for (range, requests, series) in &cases {
            let want = |name: &str| {
                let mut values: Vec<String> = match name {
                    "own" => series.iter().map(i64::to_string).collect(),
                    "tens" => series.iter().map(|i| (i / 10).to_string()).collect(),
                    _ => series.iter().filter(|i| (**i < 1000) == (name == "early")).map(|_| "x".to_owned()).collect(),
                };
                values.sort_unstable();
                values.dedup();
                values
            };
            let (mut names, _) = db.label_names(TenantId(0), *range, requests, 0, &Unlimited).unwrap();
            names.retain(|n| n == "early" || n == "late");
            let some: Vec<&str> = ["early", "late"].into_iter().filter(|n| !want(n).is_empty()).collect();
            assert_eq!(names, some, "{state}, {range:?}, {} requests", requests.len());
            for name in ["own", "tens", "early", "late"] {
                let (values, _) = db.label_values(TenantId(0), name, *range, requests, 0, &Unlimited).unwrap();
                assert_eq!(values, want(name), "{name} {state}, {range:?}, {} requests", requests.len());
            }
        }
    });
}

#[test]
fn matchers_select_the_same_in_memory_and_on_disk() {
    let regex = |name: &str, value: &str| matcher(MatchOp::Regex, name, value);
    let cases = [
        (vec![regex("pod", "pod-1.")], 20),
        (vec![regex("pod", "pod-(1|2|33)")], 4),
        (vec![matcher(MatchOp::NotRegex, "pod", "pod-.")], 40),
        (vec![matcher(MatchOp::NotEqual, "job", "even")], 30),
        (vec![matcher(MatchOp::NotEqual, "job", "")], 30),
        (vec![regex("job", "even|")], 60),
        (vec![regex("job", ".+"), matcher(MatchOp::Equal, "__name__", "first_day")], 15),
        (vec![matcher(MatchOp::Equal, "nothing", "x")], 0),
    ];
    in_every_state(fill_for_names, |db, state| {
        for (matchers, want) in &cases {
            let got = read(db, 0, matchers.clone(), TimeRange::ALL).len();
            assert_eq!(got, *want, "{state}: {matchers:?}");
        }
    });
}

#[test]
fn exemplars_and_metadata_outlive_flush_and_restart() {
    let exemplar = |t: i64| Exemplar { series: 0, t_ms: BASE + t, value: 0.25, labels: labels(&[("trace_id", "ab")]) };
    let metadata = |help: &str| MetricMetadata {
        name: "m".into(),
        kind: MetricKind::Counter,
        help: help.into(),
        unit: String::new(),
    };
    in_every_state(
        |db| {
            let mut batch = batch(&[(numbered(0), (BASE, 0, float(1.0)))]);
            batch.exemplars = vec![exemplar(2), exemplar(1)];
            batch.metadata = vec![metadata("old"), metadata("new")];
            wait(db.write(batch)).unwrap();
        },
        |db, state| {
            let found = db.exemplars(&[request(all_names(), TimeRange::ALL)], &Unlimited).unwrap();
            assert_eq!(found, [(numbered(0), vec![exemplar(1), exemplar(2)])], "{state}");
            let none = db.exemplars(&[request(all_names(), TimeRange::new(BASE, BASE + 1))], &Unlimited).unwrap();
            assert!(none.is_empty());
            assert_eq!(db.metadata(TenantId(0), Some("m"), 0), [metadata("new"), metadata("old")], "{state}");
            assert_eq!(db.metadata(TenantId(0), None, 1).len(), 2);
            assert!(db.metadata(TenantId(1), None, 0).is_empty());
        },
    );
}

#[test]
fn bad_samples_are_refused_one_by_one() {
    let db = open(&SimDisk::new()).unwrap();
    let long = "x".repeat(9000);
    let report = write(
        &db,
        &[
            (numbered(0), (NOW + 10_000_000, 0, float(1.0))),
            (numbered(0), (BASE, 0, float(1.0))),
            (labels(&[("__name__", "m"), ("long", &long)]), (BASE, 0, float(1.0))),
            (Labels::empty(), (BASE, 0, float(1.0))),
            (numbered(1), (i64::MIN, 0, float(1.0))),
            (numbered(1), (i64::MAX, 0, float(1.0))),
        ],
    )
    .unwrap();
    assert_eq!((report.accepted, report.rejected, report.reasons.len()), (1, 5, 5), "{:?}", report.reasons);
    let mut bad = batch(&[(numbered(0), (BASE, 0, float(1.0)))]);
    bad.floats[0].series = 9;
    let report = wait(db.write(bad)).unwrap();
    assert_eq!((report.accepted, report.rejected), (0, 1));
    assert_eq!(read(&db, 0, vec![], TimeRange::ALL).len(), 1);
}

#[test]
fn retention_hides_refuses_and_drops() {
    let disk = SimDisk::new();
    let clock = SimClock::new(NOW);
    let mut with_retention = options(&disk);
    with_retention.clock = Arc::clone(&clock) as _;
    with_retention.retention = Some(Duration::from_secs(3 * 86_400));
    let db = Tsdb::open(with_retention).unwrap();
    let report = write(&db, &[(numbered(0), (BASE, 0, float(1.0)))]).unwrap();
    assert_eq!((report.accepted, report.rejected), (0, 1), "older than three days");
    write(&db, &[(numbered(0), (BASE + DAY_MS, 0, float(1.0))), (numbered(1), (NOW, 0, float(1.0)))]).unwrap();
    wait(db.flush()).unwrap();
    assert_eq!(db.apply_retention(NOW).unwrap(), 0);
    assert_eq!(read(&db, 0, vec![], TimeRange::ALL).len(), 2);
    clock.set(NOW + DAY_MS);
    assert_eq!(read(&db, 0, vec![], TimeRange::ALL).len(), 1, "hidden at once");
    let selected = db.select(&request(all_names(), TimeRange::ALL), &Unlimited).unwrap();
    assert_eq!(db.apply_retention(NOW + 2 * DAY_MS).unwrap(), 1);
    assert_eq!(disk.files().iter().filter(|f| f.ends_with("blocks")).count(), 1);
    assert_eq!(selected.len(), 1);
}

#[test]
fn series_stay_readable_while_their_parts_are_merged_away() {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    for k in 0..4 {
        write(&db, &[(numbered(0), (BASE + k, 0, float(k as f64)))]).unwrap();
        wait(db.flush()).unwrap();
    }
    let selected = db.select(&request(vec![], TimeRange::ALL), &Unlimited).unwrap();
    assert!(db.merge_once().unwrap());
    assert!(!db.merge_once().unwrap());
    let mut out = trefoil_model::SampleBuffer::default();
    selected[0].source.read(TimeRange::ALL, &mut out).unwrap();
    assert_eq!(out.times, [BASE, BASE + 1, BASE + 2, BASE + 3]);
    drop(selected);
    assert_eq!(disk.files().iter().filter(|f| f.ends_with("blocks")).count(), 1, "and then their files go");
}

#[test]
fn memory_is_bounded() {
    let disk = SimDisk::new();
    let mut small = options(&disk);
    small.accountant = Accountant::new(1 << 20);
    let db = Tsdb::open(small.clone()).unwrap();
    let mut refused = false;
    for round in 0..2000i64 {
        let samples: Vec<_> =
            (0..100).map(|i| (numbered(i), (BASE + round * 1000, 0, float(0.1 * round as f64)))).collect();
        match write(&db, &samples) {
            Ok(_) => {}
            Err(WriteError::Unavailable { .. }) => {
                refused = true;
                break;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused, "a memtable that nobody flushes is full some time");
    assert!(db.should_flush());
    wait(db.flush()).unwrap();
    write(&db, &[(numbered(0), (BASE, 0, float(1.0)))]).unwrap();
    drop(db);
    // The journal has more than the memtable may hold at once for a smaller budget.
    small.accountant = Accountant::new(1 << 19);
    let before = read(&Tsdb::open(small).unwrap(), 0, vec![], TimeRange::ALL);
    assert_eq!(before.len(), 100);
}

#[test]
fn replay_flushes_on_its_way_and_loses_nothing() {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    for round in 0..300i64 {
        let samples: Vec<_> =
            (0..50).map(|i| (numbered(i), (BASE + round * 1000, 0, float(0.1 * round as f64)))).collect();
        write(&db, &samples).unwrap();
    }
    let want = read(&db, 0, vec![], TimeRange::ALL);
    drop(db);
    disk.crash(0);
    let mut small = options(&disk);
    small.flush_bytes = 40_000;
    for _ in 0..2 {
        let db = Tsdb::open(small.clone()).unwrap();
        assert!(read(&db, 0, vec![], TimeRange::ALL) == want);
        assert!(disk.files().iter().filter(|f| f.ends_with("blocks")).count() > 1, "flushed during replay");
        drop(db);
        disk.crash(0);
    }
    let db = Tsdb::open(small).unwrap();
    write(&db, &[(numbered(0), (BASE, 0, float(9.0)))]).unwrap();
    wait(db.flush()).unwrap();
    assert_eq!(read(&db, 0, vec![], TimeRange::ALL)[&numbered(0)].len(), 300);
}

#[test]
fn selecting_charges_series() {
    let db = open(&SimDisk::new()).unwrap();
    write(&db, &[(numbered(0), (BASE, 0, float(1.0)))]).unwrap();
    let error = db.select(&request(vec![], TimeRange::ALL), &Purse::empty()).err().unwrap();
    assert!(matches!(error, StoreError::Budget(trefoil_model::BudgetError::Series(0))));
}

#[test]
fn series_answers_hold_no_more_than_their_limit() {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    let of = |i: usize| labels(&[("__name__", "m"), ("i", &format!("{:05}", i * 7919 % 10_000))]);
    // Some in both of two parts and in memory, some in one of them.
    for (round, numbers) in [0..4000usize, 2000..6000, 5000..9000].into_iter().enumerate() {
        let batch: Vec<_> = numbers.map(|i| (of(i), (BASE + round as i64, 0, float(1.0)))).collect();
        write(&db, &batch).unwrap();
        if round < 2 {
            wait(db.flush()).unwrap();
        }
    }
    let all = request(vec![], TimeRange::ALL);
    let some = request(vec![matcher(MatchOp::Regex, "i", ".*7")], TimeRange::ALL);
    for requests in [vec![all.clone()], vec![some.clone()], vec![some, all]] {
        let (whole, cut) = db.series(&requests, 0, &Unlimited).unwrap();
        assert!(!cut && whole.len() >= 900);
        for limit in [1, 2, 10, 500, whole.len() - 1, whole.len(), whole.len() + 1] {
            let budget = Purse::of_series(limit as u64 + 1);
            let (first, cut) = db.series(&requests, limit, &budget).unwrap();
            assert!(first == whole[..limit.min(whole.len())], "limit {limit}");
            assert_eq!(cut, limit < whole.len(), "limit {limit}");
        }
    }
}

#[test]
fn a_closed_store_refuses_writes() {
    let db = open(&SimDisk::new()).unwrap();
    wait(db.close());
    assert!(matches!(write(&db, &[(numbered(0), (BASE, 0, float(1.0)))]), Err(WriteError::Closed)));
}

#[test]
fn many_writers_at_once() {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let writers = (0..8usize).map(|w| {
            let db = db.clone();
            async move {
                for k in 0..60i64 {
                    let samples: Vec<_> =
                        (0..40).map(|i| (numbered(i), (BASE + k * 1000 + w as i64, 0, float(w as f64)))).collect();
                    db.write(batch(&samples)).await.unwrap();
                    if k % 10 == w as i64 {
                        db.flush().await.unwrap();
                    }
                }
            }
        });
        let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let background = {
            let (db, done) = (db.clone(), Arc::clone(&done));
            tokio::task::spawn_blocking(move || {
                let mut before = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    db.merge_once().unwrap();
                    let now: usize = read(&db, 0, vec![], TimeRange::ALL).values().map(Vec::len).sum();
                    assert!(now >= before, "a query saw {before} samples and a later one {now}");
                    before = now;
                }
            })
        };
        futures::future::join_all(writers).await;
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        background.await.unwrap();
    });
    let check = |db: &Tsdb| {
        let got = read(db, 0, vec![], TimeRange::ALL);
        assert_eq!(got.len(), 40);
        assert!(got.values().all(|points| points.len() == 60 * 8));
    };
    check(&db);
    drop(db);
    disk.crash(0);
    let db = open(&disk).unwrap();
    check(&db);
    while db.merge_once().unwrap() {}
    check(&db);
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let disk = SimDisk::new();
    let mut narrow = options(&disk);
    narrow.limits.disk_free_floor_bytes = 1 << 20;
    let db = Tsdb::open(narrow.clone()).unwrap();
    write(&db, &[(numbered(0), (BASE, 0, float(1.0)))]).unwrap();
    drop(db);
    disk.set_capacity(1 << 20);
    let db = Tsdb::open(narrow).unwrap();
    let error = write(&db, &[(numbered(0), (BASE, 0, float(2.0)))]).unwrap_err();
    assert!(matches!(error, WriteError::Unavailable { .. }), "{error}");
    assert_eq!(read(&db, 0, vec![], TimeRange::ALL).len(), 1, "queries go on");
    disk.set_capacity(1 << 30);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while write(&db, &[(numbered(0), (BASE, 0, float(2.0)))]).is_err() {
        assert!(std::time::Instant::now() < deadline, "room came back and was not seen");
        std::thread::yield_now();
    }
}

#[test]
fn a_series_that_was_away_comes_back_as_itself() {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    let one = |series: usize, t: i64| vec![(numbered(series), (BASE + t, 0, float(t as f64)))];
    write(&db, &one(0, 0)).unwrap();
    // Long enough without samples to leave memory; then a restart that knows only the parts.
    for t in 1..5 {
        write(&db, &one(1, t)).unwrap();
        wait(db.flush()).unwrap();
    }
    write(&db, &one(0, 5)).unwrap();
    wait(db.flush()).unwrap();
    drop(db);
    let db = open(&disk).unwrap();
    write(&db, &one(0, 6)).unwrap();
    wait(db.flush()).unwrap();
    let check = |db: &Tsdb| {
        let got = read(db, 0, vec![], TimeRange::ALL);
        assert_eq!(got.len(), 2);
        assert_eq!(got[&numbered(0)].iter().map(|p| p.0 - BASE).collect::<Vec<_>>(), [0, 5, 6]);
    };
    check(&db);
    while db.merge_once().unwrap() {}
    check(&db);
}
