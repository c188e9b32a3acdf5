//! The cardinality guard and what it says.

use trefoil_model::{Labels, MatchOp, SampleBuffer, TenantId, TimeRange, Unlimited};
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_tsdb::{Tsdb, TsdbOptions};

use crate::support::{BASE, Point, float, labels, matcher, open, options, read, wait, write};

fn limited(disk: &SimDisk, per_job: u64) -> TsdbOptions {
    let mut options = options(disk);
    options.limits.series_active_per_job_max = per_job;
    options
}

fn of(job: &str, i: usize) -> Labels {
    labels(&[("__name__", "m"), ("job", job), ("path", &i.to_string())])
}

fn samples(job: &str, numbers: std::ops::Range<usize>, t: i64) -> Vec<(Labels, Point)> {
    numbers.map(|i| (of(job, i), (t, 0, float(i as f64)))).collect()
}

fn count(db: &Tsdb, job: &str) -> usize {
    read(db, 0, vec![matcher(MatchOp::Equal, "job", job)], TimeRange::ALL).len()
}

#[test]
fn only_new_series_of_the_offender_are_refused() {
    let disk = SimDisk::new();
    let db = Tsdb::open(limited(&disk, 10)).unwrap();
    let report = write(&db, &samples("bomb", 0..30, BASE)).unwrap();
    assert_eq!((report.accepted, report.rejected), (10, 20));
    assert_eq!(report.reasons.len(), 1, "one cause is said once");
    for part in ["series_active_per_job_max (10)", "job \"bomb\" has 10 series", "label \"path\" has about"] {
        assert!(report.reasons[0].contains(part), "{:?}", report.reasons);
    }
    // One batch may hold both, and what exists goes on.
    let mut mixed = samples("good", 0..10, BASE + 1);
    mixed.extend(samples("bomb", 0..20, BASE + 1));
    let report = write(&db, &mixed).unwrap();
    assert_eq!((report.accepted, report.rejected), (20, 10));
    assert_eq!((count(&db, "bomb"), count(&db, "good")), (10, 10));

    let cardinality = db.cardinality(TenantId(0), 5).unwrap();
    let offender = &cardinality.offenders[0];
    assert_eq!((&*offender.job, offender.series, offender.refused), ("bomb", 10, 20));
    assert_eq!((&*offender.label.name, &*offender.metric), ("path", "m"));
    wait(db.close());
}

#[test]
fn a_restart_counts_again_and_refuses_nothing_that_exists() {
    for flush in [false, true] {
        let disk = SimDisk::new();
        let db = Tsdb::open(limited(&disk, 10)).unwrap();
        write(&db, &samples("a", 0..10, BASE)).unwrap();
        if flush {
            wait(db.flush()).unwrap();
        }
        wait(db.close());
        drop(db);
        // Fewer are allowed now; all that exist go on.
        let db = Tsdb::open(limited(&disk, 5)).unwrap();
        assert_eq!(count(&db, "a"), 10);
        let report = write(&db, &samples("a", 0..12, BASE + 1000)).unwrap();
        assert_eq!((report.accepted, report.rejected), (10, 2), "flushed: {flush}");
        wait(db.close());
    }
}

#[test]
fn series_that_are_gone_make_room() {
    let disk = SimDisk::new();
    let db = Tsdb::open(limited(&disk, 10)).unwrap();
    for round in 0..5i64 {
        // Series are active until the flush after the next one.
        let numbers = round as usize * 5..(round as usize + 1) * 5;
        let report = write(&db, &samples("a", numbers, BASE + round)).unwrap();
        assert_eq!((report.accepted, report.rejected), (5, 0), "round {round}");
        wait(db.flush()).unwrap();
    }
    assert_eq!(count(&db, "a"), 25);
    wait(db.close());
}

/// The number of values that a refusal names.
fn values_named(reason: &str) -> u64 {
    let rest = reason.split("\"path\" has about ").nth(1).unwrap_or_else(|| panic!("{reason}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn after_a_restart_the_diagnosis_knows_the_series_that_were_there() {
    let disk = SimDisk::new();
    let db = Tsdb::open(limited(&disk, 1000)).unwrap();
    write(&db, &samples("a", 0..1000, BASE)).unwrap();
    drop(db);
    let db = Tsdb::open(limited(&disk, 1000)).unwrap();
    let report = write(&db, &samples("a", 1000..1002, BASE)).unwrap();
    assert_eq!((report.rejected, report.reasons.len()), (2, 1));
    let named = values_named(&report.reasons[0]);
    assert!(named.abs_diff(1000) < 200, "{named}");
}

#[test]
fn active_is_since_the_last_flush_but_one() {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    let series = || db.cardinality(TenantId(0), 3).unwrap().series;
    write(&db, &samples("a", 0..20, BASE)).unwrap();
    wait(db.flush()).unwrap();
    assert_eq!(series(), 20, "right after a flush");
    write(&db, &samples("a", 10..25, BASE + 1)).unwrap();
    let c = db.cardinality(TenantId(0), 1).unwrap();
    assert_eq!((c.series, c.label_pairs, c.series_by_metric[0].value, c.values_by_label[0].value), (25, 27, 25, 25));
    assert_eq!(c.series_by_pair[0].value, 25);
    wait(db.flush()).unwrap();
    assert_eq!(series(), 15);
    wait(db.close());
}

#[test]
fn cardinality_is_counted_from_the_index() {
    let disk = SimDisk::new();
    let db = open(&disk).unwrap();
    let mut batch = samples("a", 0..20, BASE);
    batch.extend(samples("bb", 0..10, BASE + 5));
    batch.push((labels(&[("__name__", "up"), ("job", "a")]), (BASE + 9, 0, float(1.0))));
    write(&db, &batch).unwrap();
    let c = db.cardinality(TenantId(0), 2).unwrap();
    let texts = |list: &[trefoil_model::Counted]| -> Vec<String> {
        list.iter().map(|c| format!("{} {}", c.name, c.value)).collect()
    };
    assert_eq!((c.series, c.label_pairs, c.times), (31, 24, Some((BASE, BASE + 9))));
    assert_eq!(texts(&c.series_by_metric), ["m 30", "up 1"]);
    assert_eq!(texts(&c.values_by_label), ["path 20", "__name__ 2"]);
    assert_eq!(texts(&c.bytes_by_label), ["path 30", "__name__ 3"]);
    assert_eq!(texts(&c.series_by_pair), ["__name__=m 30", "job=a 21"]);
    assert_eq!(c.offenders, []);
    assert_eq!(db.cardinality(TenantId(7), 2).unwrap().series, 0);
    wait(db.close());
}

#[test]
fn a_refused_series_of_exemplars_costs_nothing_else() {
    let disk = SimDisk::new();
    let db = Tsdb::open(limited(&disk, 1)).unwrap();
    write(&db, &samples("a", 0..1, BASE)).unwrap();
    let mut batch = crate::support::batch(&samples("a", 0..1, BASE + 1));
    let series = batch.add_series(of("a", 7));
    let exemplar = trefoil_model::Exemplar { series, t_ms: BASE, value: 1.0, labels: labels(&[("trace_id", "x")]) };
    batch.exemplars.push(exemplar);
    let report = wait(trefoil_model::MetricWriter::write(&db, batch)).unwrap();
    assert_eq!((report.accepted, report.rejected), (1, 0));
    let mut buffer = SampleBuffer::default();
    let request = crate::support::request(vec![matcher(MatchOp::Equal, "job", "a")], TimeRange::ALL);
    let found = trefoil_model::MetricReader::select(&db, &request, &Unlimited).unwrap();
    found[0].source.read(TimeRange::ALL, &mut buffer).unwrap();
    assert_eq!(buffer.len(), 2);
    wait(db.close());
}
