//! Flipped bytes in parts: never a panic, never an invented record.

use std::collections::BTreeSet;

use rand::RngExt as _;
use trefoil_model::*;
use trefoil_runtime::Vfs as _;
use trefoil_runtime::sim::SimDisk;

use crate::support::*;

#[test]
fn flipped_bytes_lose_blocks_and_nothing_else() {
    let (disk, runtime, mut rng) = (SimDisk::new(), runtime(), rng(5));
    let store = open(&disk).unwrap();
    for _ in 0..30 {
        runtime.block_on(store.write_logs(LogBatch { tenant: TenantId(0), ..log_batch(&mut rng) })).unwrap();
        runtime.block_on(store.write_spans(TraceBatch { tenant: TenantId(0), ..trace_batch(&mut rng) })).unwrap();
    }
    runtime.block_on(store.close()).unwrap();
    let forward = everything(TenantId(0), Direction::Forward);
    let all: BTreeSet<String> = scan(&store, &forward, 0).iter().map(|l| format!("{l:?}")).collect();
    drop(store);
    let files: Vec<_> = disk.files().into_iter().filter(|path| path.ends_with("events")).collect();
    assert!(files.len() >= 4, "{files:?}");
    for path in &files {
        let whole = disk.read(path).unwrap();
        assert_eq!(trefoil_events::damage(&whole), []);
        // The version decides how the rest is read.
        for at in (0..whole.len()).step_by(7).filter(|at| !(8..10).contains(at)) {
            let mut content = whole.to_vec();
            content[at] ^= 1 << (at % 8);
            let found = trefoil_events::damage(&content);
            let holds = |(range, _): &(std::ops::Range<u64>, String)| range.contains(&(at as u64));
            assert!(found.len() == 1 && found.iter().all(holds), "{}, byte {at}: {found:?}", path.display());
            trefoil_events::damage(&whole[..at]);
        }
    }
    for round in 0..150 {
        let disk = disk.fork();
        let path = &files[round % files.len()];
        disk.corrupt(path, |content| {
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..content.len());
                content[at] ^= 1 << rng.random_range(0..8);
            }
        });
        let store = open(&disk).unwrap();
        let mut query = forward.clone();
        for needle in ["", "refused", "4bf92f35"] {
            query.needles = vec![needle.to_owned()];
            let found = scan(&store, &query, 0);
            assert!(found.iter().all(|l| all.contains(&format!("{l:?}"))), "round {round}");
        }
        let search = SpanQuery { service: Some("api".to_owned()), limit: 100, ..SpanQuery::default() };
        drop(store.find(&search, &Unlimited).unwrap());
        drop(store.trace(TenantId(0), trace_id(&mut rng), None, &Unlimited).unwrap());
        drop(store.services(TenantId(0), NanoRange::ALL, &Unlimited).unwrap());
        drop(store.merge_once());
    }
}
