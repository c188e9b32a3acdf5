//! Damaged parts: never a panic, never an invented record, and never an answer that lacks some without saying so.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rand::RngExt as _;
use trefoil_events::EventStore;
use trefoil_model::*;
use trefoil_runtime::Vfs as _;
use trefoil_runtime::sim::SimDisk;

use crate::support::*;

/// What a scan finds, or what it says of damage, which must be a file of these.
fn try_scan(store: &EventStore, query: &LogQuery, files: &[PathBuf]) -> Result<Vec<Logged>, String> {
    let mut out = Vec::new();
    let each = &mut |entry: LogEntry<'_>| {
        out.push((entry.stream.clone(), entry.shared.clone(), entry.record.clone()));
        ControlFlow::Continue(())
    };
    match store.scan(query, &Unlimited, each) {
        Ok(_) => Ok(out),
        Err(error) => Err(names_file(error, files)),
    }
}

fn names_file(error: StoreError, files: &[PathBuf]) -> String {
    match error {
        StoreError::Corrupt(text) if files.iter().any(|file| text.contains(&file.display().to_string())) => text,
        other => panic!("{other}"),
    }
}

/// Collects spans from columns.
struct Collected(Vec<String>);

impl SpanFold for Collected {
    fn rows(&mut self, rows: &SpanRows<'_>) -> ControlFlow<()> {
        for row in 0..rows.len() {
            let set = &rows.sets[rows.set_of[row] as usize];
            let (trace, id) = (rows.traces[rows.trace_of[row] as usize], rows.span_ids[row]);
            let (name, kind) = (&set.span.name, set.span.kind);
            self.0.push(format!(
                "{trace} {id} {} {} {name} {kind:?} {:?}",
                rows.starts[row], rows.ends[row], set.resource
            ));
        }
        ControlFlow::Continue(())
    }
}

/// All spans, found by searches, by ids, from columns; and what is known of services and operations.
fn spans_by_all_ways(store: &EventStore) -> Vec<Result<Vec<String>, StoreError>> {
    let tenant = TenantId(0);
    let everything = SpanQuery { limit: usize::MAX, ..SpanQuery::default() };
    let flat = |traces: &[StoredTrace]| -> Vec<String> { traces.iter().map(|trace| format!("{trace:?}")).collect() };
    let searched = store.find(&everything, &Unlimited).map(|found| flat(&found));
    let narrow = SpanQuery { service: Some("api".to_owned()), ..everything.clone() };
    let narrowed = store.find(&narrow, &Unlimited).map(|found| flat(&found));
    let ids = (0..16).flat_map(|at| {
        (1..4).map(move |digit| {
            let mut id = [7; 16];
            id[at] = digit;
            TraceId(id)
        })
    });
    let by_id = ids.filter_map(|id| store.trace(tenant, id, None, &Unlimited).transpose());
    let by_id = by_id.collect::<Result<Vec<_>, _>>().map(|found| flat(&found));
    let mut collected = Collected(Vec::new());
    let folded = store.fold_spans(&everything, &SpanWants::default(), &Unlimited, &mut collected).map(|()| {
        collected.0.sort();
        collected.0
    });
    let services = store.services(tenant, NanoRange::ALL, &Unlimited);
    let operations = store.operations(tenant, "api", NanoRange::ALL, &Unlimited);
    let operations = operations.map(|found| found.iter().map(|o| format!("{o:?}")).collect());
    vec![searched, narrowed, by_id, folded, services, operations]
}

fn shown(found: &[Logged]) -> BTreeSet<String> {
    let all: BTreeSet<String> = found.iter().map(|logged| format!("{logged:?}")).collect();
    assert_eq!(all.len(), found.len(), "something is there twice");
    all
}

#[test]
fn flipped_bytes_are_answered_with_an_error_where_they_are_needed() {
    let (disk, runtime, mut rng) = (SimDisk::new(), runtime(), rng(5));
    let store = open(&disk).unwrap();
    for _ in 0..30 {
        runtime.block_on(store.write_logs(LogBatch { tenant: TenantId(0), ..log_batch(&mut rng) })).unwrap();
        runtime.block_on(store.write_spans(TraceBatch { tenant: TenantId(0), ..trace_batch(&mut rng) })).unwrap();
    }
    runtime.block_on(store.close()).unwrap();
    let forward = everything(TenantId(0), Direction::Forward);
    let needles = ["", "refused", "4bf92f35"];
    let with_needle = |needle: &str| LogQuery { needles: vec![needle.to_owned()], ..forward.clone() };
    let all = needles.map(|needle| shown(&scan(&store, &with_needle(needle), 0)));
    let spans: Vec<Vec<String>> = spans_by_all_ways(&store).into_iter().map(Result::unwrap).collect();
    assert!(spans.iter().all(|found| !found.is_empty()), "{spans:?}");
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
        for (needle, all) in needles.iter().zip(&all) {
            if let Ok(found) = try_scan(&store, &with_needle(needle), &files) {
                assert_eq!(&shown(&found), all, "round {round}");
            }
        }
        for (read, want) in spans_by_all_ways(&store).into_iter().zip(&spans) {
            match read {
                Ok(found) => assert_eq!(&found, want, "round {round}"),
                Err(error) => drop(names_file(error, &files)),
            }
        }
        drop(store.merge_once());
    }
}

fn content(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let mut found = Vec::new();
    disk.fork().corrupt(path, |content| found.clone_from(content));
    found
}

/// A store with several parts of log records, and the file of one of them.
struct Victim {
    disk: SimDisk,
    path: PathBuf,
    /// From its first record to behind its last one.
    range: NanoRange,
    all: BTreeSet<String>,
}

fn with_victim() -> Victim {
    let (disk, runtime, mut rng) = (SimDisk::new(), runtime(), rng(17));
    let store = open(&disk).unwrap();
    for _ in 0..8 {
        runtime.block_on(store.write_logs(LogBatch { tenant: TenantId(0), ..log_batch(&mut rng) })).unwrap();
    }
    runtime.block_on(store.close()).unwrap();
    let all = shown(&scan(&store, &everything(TenantId(0), Direction::Forward), 0));
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
    let range = NanoRange::new(victim.min_t, victim.max_t + 1);
    Victim { disk, path, range, all }
}

impl Victim {
    /// Every query finds all there is or names the damaged file, and those that do not need it find all. Returns
    /// whether all is found.
    fn check(&self, store: &EventStore, context: &str) -> bool {
        let files = std::slice::from_ref(&self.path);
        let forward = everything(TenantId(0), Direction::Forward);
        let found = try_scan(store, &forward, files);
        if let Ok(found) = &found {
            assert_eq!(shown(found), self.all, "{context}");
        }
        let count = |range| {
            let (mut records, query) = (0, VolumeQuery { tenant: TenantId(0), range, matchers: &[], step_ns: 0 });
            store.volumes(&query, &Unlimited, &mut |_, _, _, volume| records += volume.records)?;
            Ok::<u64, StoreError>(records)
        };
        // Volumes and labels read other columns and lists.
        match count(NanoRange::ALL) {
            Ok(records) => assert_eq!(records, self.all.len() as u64, "{context}"),
            Err(error) => drop(names_file(error, files)),
        }
        if let Err(error) = store.streams(TenantId(0), NanoRange::ALL, &[], &Unlimited) {
            names_file(error, files);
        }
        let mut elsewhere = 0;
        for range in [NanoRange::new(i64::MIN, self.range.start_ns), NanoRange::new(self.range.end_ns, i64::MAX)] {
            let found = try_scan(store, &LogQuery { range, ..forward.clone() }, files);
            let found = found.unwrap_or_else(|error| panic!("{context}: not needed: {error}"));
            assert!(shown(&found).is_subset(&self.all), "{context}");
            assert_eq!(count(range).unwrap(), found.len() as u64, "{context}");
            elsewhere += found.len();
        }
        let scan_of_it = LogQuery { range: self.range, ..forward.clone() };
        if let Ok(found) = try_scan(store, &scan_of_it, files) {
            assert_eq!(elsewhere + found.len(), self.all.len(), "{context}");
        }
        found.is_ok()
    }

    /// As [`Self::check`] for a file that is changed, and again after merges.
    fn check_changed(&self, context: &str, change: impl Fn(&mut Vec<u8>)) -> bool {
        let disk = self.disk.fork();
        disk.corrupt(&self.path, change);
        let store = open(&disk).unwrap_or_else(|e| panic!("{context}: {e}"));
        let is_whole = self.check(&store, context);
        // A merge fails once for what is damaged, and goes on with the others.
        let mut failures = 0;
        for _ in 0..10 {
            match store.merge_once() {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => failures += 1,
            }
        }
        assert!(failures <= 1, "{context}: {failures} merges failed");
        if !is_whole {
            assert!(!self.check(&store, context), "{context}: a merge dropped what is damaged");
        }
        is_whole
    }
}

#[test]
fn every_flipped_byte_of_a_part_is_met_only_by_who_needs_it() {
    let victim = with_victim();
    let len = content(&victim.disk, &victim.path).len();
    // All of them take a while; a step that is no power of two goes through all bits.
    let step = if std::env::var_os("TREFOIL_TORTURE").is_some() { 1 } else { 5 };
    let mut met = 0;
    for at in (0..len).step_by(step) {
        let context = format!("byte {at} of {len}");
        met += usize::from(!victim.check_changed(&context, |content| content[at] ^= 1 << (at % 8)));
    }
    assert!(met > len / step / 4, "{met} of {len} bytes matter");
}

#[test]
fn a_cut_zeroed_swapped_foreign_or_newer_part_is_met_only_by_who_needs_it() {
    let victim = with_victim();
    let whole = content(&victim.disk, &victim.path);
    let check = |context: String, change: &dyn Fn(&mut Vec<u8>)| victim.check_changed(&context, change);
    for len in (0..whole.len()).step_by(23) {
        assert!(!check(format!("cut at {len}"), &|content| content.truncate(len)), "{len}");
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
    assert!(!check("a newer version".to_owned(), &|content| content[8] = 99));
    assert!(!check("more behind it".to_owned(), &|content| content.extend_from_slice(b"more")));
    // The file of another part, whole in itself.
    let files = victim.disk.files();
    let other = files.into_iter().find(|other| other.ends_with("events") && *other != victim.path).unwrap();
    let foreign = content(&victim.disk, &other);
    assert!(!check("the file of another part".to_owned(), &|content| content.clone_from(&foreign)));
}

/// As for log records: every flipped byte of a part of spans is met only by who needs it, and told by all of these.
#[test]
fn every_flipped_byte_of_a_part_of_spans_is_told() {
    let (disk, runtime, mut rng) = (SimDisk::new(), runtime(), rng(23));
    let store = open(&disk).unwrap();
    for _ in 0..8 {
        runtime.block_on(store.write_spans(TraceBatch { tenant: TenantId(0), ..trace_batch(&mut rng) })).unwrap();
    }
    runtime.block_on(store.close()).unwrap();
    let want: Vec<Vec<String>> = spans_by_all_ways(&store).into_iter().map(Result::unwrap).collect();
    let largest = store.trace_parts().iter().max_by_key(|meta| meta.bytes).map(|m| (m.partition, m.id.0)).unwrap();
    drop(store);
    let (day, id) = largest;
    let is_it = |p: &PathBuf| {
        p.ends_with(format!("{day}/{id:020}/events")) && p.components().any(|c| c.as_os_str() == "traces")
    };
    let path = disk.files().into_iter().find(is_it).expect("a part has its file");
    let len = content(&disk, &path).len();
    let step = if std::env::var_os("TREFOIL_TORTURE").is_some() { 1 } else { 11 };
    let mut met = 0;
    for at in (0..len).step_by(step) {
        let disk = disk.fork();
        disk.corrupt(&path, |content| content[at] ^= 1 << (at % 8));
        let store = open(&disk).unwrap();
        // Twice: the second time it is known.
        let mut failed = 0;
        for _ in 0..2 {
            for (read, want) in spans_by_all_ways(&store).into_iter().zip(&want) {
                match read {
                    Ok(found) => assert_eq!(&found, want, "byte {at} of {len}"),
                    Err(error) => {
                        let text = names_file(error, std::slice::from_ref(&path));
                        assert!(text.contains(" at bytes "), "byte {at} of {len}: {text}");
                        failed += 1;
                    }
                }
            }
        }
        assert!(failed % 2 == 0, "byte {at} of {len}: {failed}");
        met += usize::from(failed > 0);
    }
    assert!(met > len / step / 4, "{met} of {len} bytes matter");
}
