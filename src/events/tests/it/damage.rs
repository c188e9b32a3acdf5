//! Flipped bytes in parts: never a panic, never an invented record.

use std::collections::BTreeSet;
use std::path::PathBuf;

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

fn content(disk: &SimDisk, path: &std::path::Path) -> Vec<u8> {
    let mut found = Vec::new();
    disk.fork().corrupt(path, |content| found.clone_from(content));
    found
}

/// A store with several parts of log records, the file of one of them, and what every query must find when that is
/// damaged: all that is in other parts.
fn with_victim() -> (SimDisk, PathBuf, BTreeSet<String>, BTreeSet<String>) {
    let (disk, runtime, mut rng) = (SimDisk::new(), runtime(), rng(17));
    let store = open(&disk).unwrap();
    for _ in 0..8 {
        runtime.block_on(store.write_logs(LogBatch { tenant: TenantId(0), ..log_batch(&mut rng) })).unwrap();
    }
    runtime.block_on(store.close()).unwrap();
    let forward = everything(TenantId(0), Direction::Forward);
    let all = scan(&store, &forward, 0);
    let shown = |logged: &Logged| format!("{logged:?}");
    let mut parts = store.log_parts().to_vec();
    assert!(parts.len() >= 3, "{}", parts.len());
    parts.sort_by_key(|meta| std::cmp::Reverse(meta.bytes));
    let victim = &parts[0];
    let (day, id) = (victim.partition, victim.id.0);
    let path = disk
        .files()
        .into_iter()
        .find(|path| path.ends_with(format!("{day}/{id:020}/events")))
        .expect("a part has its file");
    let is_elsewhere = |l: &&Logged| l.2.time_ns < victim.min_t || l.2.time_ns > victim.max_t;
    let elsewhere = all.iter().filter(is_elsewhere).map(shown).collect();
    (disk, path, all.iter().map(shown).collect(), elsewhere)
}

fn check_rest(disk: &SimDisk, all: &BTreeSet<String>, elsewhere: &BTreeSet<String>, context: &str) -> usize {
    let store = open(disk).unwrap_or_else(|e| panic!("{context}: {e}"));
    let found = scan(&store, &everything(TenantId(0), Direction::Forward), 0);
    let count = found.len();
    let found: BTreeSet<String> = found.iter().map(|l| format!("{l:?}")).collect();
    assert!(found.len() == count && found.is_subset(all), "{context}: something is invented or there twice");
    assert!(elsewhere.is_subset(&found), "{context}: records of other parts are missing");
    // Totals and volumes read other columns and lists.
    let mut volume = 0;
    let query = VolumeQuery { tenant: TenantId(0), range: NanoRange::ALL, matchers: &[], step_ns: 0 };
    store.volumes(&query, &Unlimited, &mut |_, _, _, v| volume += v.records).unwrap();
    assert!((elsewhere.len() as u64..=all.len() as u64).contains(&volume), "{context}: volume {volume}");
    count
}

#[test]
fn every_flipped_byte_of_a_part_costs_at_most_that_part() {
    let (disk, path, all, elsewhere) = with_victim();
    let len = content(&disk, &path).len();
    // All of them take a while; a step that is no power of two goes through all bits.
    let step = if std::env::var_os("TREFOIL_TORTURE").is_some() { 1 } else { 5 };
    let mut lost = 0;
    for at in (0..len).step_by(step) {
        let disk = disk.fork();
        disk.corrupt(&path, |content| content[at] ^= 1 << (at % 8));
        lost += usize::from(check_rest(&disk, &all, &elsewhere, &format!("byte {at} of {len}")) < all.len());
    }
    assert!(lost > len / step / 4, "{lost} of {len} bytes matter");
}

#[test]
fn a_cut_zeroed_swapped_foreign_or_newer_part_costs_at_most_that_part() {
    let (disk, path, all, elsewhere) = with_victim();
    let whole = content(&disk, &path);
    let check = |context: String, change: &dyn Fn(&mut Vec<u8>)| {
        let disk = disk.fork();
        disk.corrupt(&path, change);
        check_rest(&disk, &all, &elsewhere, &context);
    };
    for len in (0..whole.len()).step_by(23) {
        check(format!("cut at {len}"), &|content| content.truncate(len));
    }
    for at in (0..whole.len()).step_by(61) {
        let end = (at + 512).min(whole.len());
        check(format!("zeros from {at}"), &|content| content[at..end].fill(0));
        let other = (at * 7) % whole.len().saturating_sub(64);
        check(format!("pieces at {at} and {other} swapped"), &|content| {
            for i in 0..64.min(whole.len() - at) {
                content.swap(at + i, other + i);
            }
        });
    }
    check("a newer version".to_owned(), &|content| content[8] = 99);
    check("more behind it".to_owned(), &|content| content.extend_from_slice(b"more"));
    // The file of another part, whole in itself.
    let other = disk.files().into_iter().find(|other| other.ends_with("events") && *other != path).unwrap();
    let foreign = content(&disk, &other);
    check("the file of another part".to_owned(), &|content| content.clone_from(&foreign));
}
