use std::sync::{Arc, Weak};

use trefoil_model::{FloatPoint, Labels, Matcher, MetricBatch, MetricReader, MetricWriter, SelectRequest, TenantId};
use trefoil_model::{TimeRange, Unlimited};
use trefoil_runtime::SimClock;
use trefoil_runtime::vfs::sim::SimDisk;

use super::{Tsdb, TsdbOptions};

const NOW: i64 = 1_700_000_000_000;

fn write(db: &Tsdb, runtime: &tokio::runtime::Runtime, t_ms: i64) {
    let mut batch = MetricBatch::default();
    for i in 0..100 {
        let series = batch.add_series(Labels::from_pairs([("__name__", "m".to_owned()), ("i", format!("{i}"))]));
        batch.floats.push(FloatPoint { series, t_ms, start_ms: 0, value: i as f64 });
    }
    assert_eq!(runtime.block_on(db.write(batch)).unwrap().accepted, 100);
}

/// What a store holds, without holding it.
fn held(db: &Tsdb) -> impl Fn() -> Vec<usize> + use<> {
    let inner = Arc::downgrade(&db.inner);
    let view = db.inner.view.load_full();
    let memtable = Arc::downgrade(&view.active);
    let series = Arc::downgrade(&view.active.with_row(0, |r| Arc::clone(&r.series)));
    let parts: Vec<_> = view.parts.iter().map(Arc::downgrade).collect();
    let view = Arc::downgrade(&view);
    move || {
        let parts = parts.iter().map(Weak::strong_count).sum();
        vec![inner.strong_count(), view.strong_count(), memtable.strong_count(), series.strong_count(), parts]
    }
}

#[test]
fn a_dropped_store_leaves_nothing() {
    let disk = SimDisk::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for round in 0..3 {
        let db = Tsdb::open(TsdbOptions::new("/data", Arc::new(disk.clone()), SimClock::new(NOW))).unwrap();
        write(&db, &runtime, NOW - 60_000 + round * 1000);
        runtime.block_on(db.flush()).unwrap();
        write(&db, &runtime, NOW - 30_000 + round * 1000);
        let request = SelectRequest {
            tenant: TenantId(0),
            matchers: vec![Matcher::equal("__name__", "m")],
            range: TimeRange::ALL,
        };
        let selected = db.select(&request, &Unlimited).unwrap();
        assert_eq!(selected.len(), 100);
        db.label_values(TenantId(0), "i", TimeRange::ALL, &[], 0, &Unlimited).unwrap();
        let held = held(&db);
        assert!(held().iter().all(|n| *n > 0), "{:?}", held());
        if round % 2 == 0 {
            runtime.block_on(db.close());
        }
        drop(db);
        // A selection holds what it reads, and no more.
        assert_eq!(held()[..2], [0, 0], "{:?} in round {round}", held());
        assert!(held()[2..].iter().all(|n| *n > 0), "{:?} in round {round}", held());
        drop(selected);
        assert_eq!(held(), [0; 5], "round {round}");
    }
}
