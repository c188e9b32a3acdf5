//! Deletions hide exemplars too, also after a crash.

use trefoil_model::{Exemplar, MatchOp, MetricReader, MetricWriter, TimeRange, Unlimited};
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_tsdb::Tsdb;

use crate::support::{BASE, batch, float, labels, matcher, numbered, open, request, wait};

/// One exemplar for each of the times, at series `i`; with a sample when told so.
fn write(db: &Tsdb, i: usize, times: &[i64], with_sample: bool) {
    let samples = if with_sample { vec![(numbered(i), (BASE, 0, float(1.0)))] } else { Vec::new() };
    let mut batch = batch(&samples);
    if !with_sample {
        batch.add_series(numbered(i));
    }
    for t_ms in times {
        batch.exemplars.push(Exemplar { series: 0, t_ms: *t_ms, value: 1.0, labels: labels(&[("trace_id", "01")]) });
    }
    wait(db.write(batch)).unwrap();
}

/// The times of the exemplars of each series.
fn times(db: &Tsdb) -> Vec<Vec<i64>> {
    let found = db.exemplars(&[request(Vec::new(), TimeRange::ALL)], &Unlimited).unwrap();
    found.into_iter().map(|(_, list)| list.iter().map(|e| e.t_ms).collect()).collect()
}

#[test]
fn deleted_exemplars_stay_away() {
    for with_sample in [true, false] {
        let disk = SimDisk::new();
        let db = open(&disk).unwrap();
        write(&db, 0, &[BASE, BASE + 1000, BASE + 2000], with_sample);
        write(&db, 1, &[BASE], with_sample);
        let first = vec![matcher(MatchOp::Equal, "i", "0")];
        wait(db.delete(&[request(first.clone(), TimeRange::new(BASE, BASE + 1001))])).unwrap();
        assert_eq!(times(&db), [vec![BASE + 2000], vec![BASE]]);
        // What was carried into the journal by a flush does not come back either.
        wait(db.flush()).unwrap();
        wait(db.delete(&[request(first, TimeRange::ALL)])).unwrap();
        assert_eq!(times(&db), [[BASE]]);
        drop(db);
        disk.crash(1);
        let db = open(&disk).unwrap();
        assert_eq!(times(&db), [[BASE]], "after a crash, samples: {with_sample}");
        write(&db, 0, &[BASE], with_sample);
        assert_eq!(times(&db), [[BASE], [BASE]], "written after the deletion");
    }
}
