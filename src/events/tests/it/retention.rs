//! Records are kept as long as the rule of their stream says: queries follow at once, parts with the next merges.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use trefoil_events::{EventStore, LogRetention, LogRetentionRule};
use trefoil_model::*;
use trefoil_runtime::SimClock;
use trefoil_runtime::sim::SimDisk;

use crate::support::*;

const HOUR: u64 = 3600;

/// `env="prod"` 12 hours, `service_name="db"` for ever, the others 36 hours.
fn rules() -> LogRetention {
    let rule = |name: &str, value: &str, hours: Option<u64>| LogRetentionRule {
        matchers: vec![Matcher::new(MatchOp::Equal, name, value).unwrap()],
        keep: hours.map(|hours| Duration::from_secs(hours * HOUR)),
    };
    LogRetention {
        keep: Some(Duration::from_secs(36 * HOUR)),
        bytes_max: None,
        rules: vec![rule("env", "prod", Some(12)), rule("service_name", "db", None)],
    }
}

/// From when on the rules keep records of a stream.
fn start_ns(labels: &Labels, now: i64) -> i64 {
    let has = |names: &[&str], value: &str| labels.iter().any(|(name, v)| names.contains(&name) && v == value);
    if has(&["env"], "prod") {
        now - 12 * HOUR as i64 * SECOND
    } else if has(&["service.name", "service_name"], "db") {
        i64::MIN
    } else {
        now - 36 * HOUR as i64 * SECOND
    }
}

fn shown<'a>(records: impl IntoIterator<Item = &'a Logged>) -> BTreeSet<String> {
    records.into_iter().map(|logged| format!("{logged:?}")).collect()
}

/// What all queries find is what is kept of `all`.
fn check(store: &EventStore, all: &[Logged], now: i64, context: &str) {
    let kept: Vec<&Logged> = all.iter().filter(|l| l.2.time_ns >= start_ns(&l.0, now)).collect();
    assert!(kept.len() < all.len() && kept.len() > all.len() / 4, "{context}: {} of {}", kept.len(), all.len());
    let middle = now - 30 * SECOND;
    for range in [NanoRange::ALL, NanoRange::new(i64::MIN, middle), NanoRange::new(now - 12 * 3600 * SECOND, i64::MAX)]
    {
        let wanted: Vec<&Logged> = kept.iter().copied().filter(|l| range.contains(l.2.time_ns)).collect();
        for direction in [Direction::Forward, Direction::Backward] {
            let query = LogQuery { range, ..everything(TenantId(0), direction) };
            assert_eq!(shown(&scan(store, &query, 0)), shown(wanted.iter().copied()), "{context}");
        }
        let mut records = 0;
        let query = VolumeQuery { tenant: TenantId(0), range, matchers: &[], step_ns: 3600 * SECOND };
        store.volumes(&query, &Unlimited, &mut |_, _, _, volume| records += volume.records).unwrap();
        assert_eq!(records, wanted.len() as u64, "{context}");
    }
    let streams = store.streams(TenantId(0), NanoRange::ALL, &[], &Unlimited).unwrap();
    let wanted: BTreeSet<&Labels> = kept.iter().map(|l| &l.0).collect();
    assert_eq!(streams.iter().collect::<BTreeSet<_>>(), wanted, "{context}");
}

/// How many records parts have: at least those that are kept, at most those of days that the rule of their stream
/// reaches.
fn bounds(all: &[Logged], now: i64) -> std::ops::RangeInclusive<u64> {
    let day = 24 * HOUR as i64 * SECOND;
    let kept = all.iter().filter(|l| l.2.time_ns >= start_ns(&l.0, now)).count();
    let most = all.iter().filter(|l| (l.2.time_ns.div_euclid(day) + 1) * day > start_ns(&l.0, now)).count();
    assert!(most < all.len());
    kept as u64..=most as u64
}

fn items(store: &EventStore) -> u64 {
    store.log_parts().iter().map(|meta| meta.items).sum()
}

#[test]
fn streams_are_kept_as_long_as_their_rules_say() {
    let (disk, runtime, mut rng, clock) = (SimDisk::new(), runtime(), rng(23), SimClock::new(NOW_MS));
    let mut options = options(&disk);
    options.clock = clock.clone();
    let store = EventStore::open(options).unwrap();
    for number in 0..60 {
        runtime.block_on(store.write_logs(LogBatch { tenant: TenantId(0), ..log_batch(&mut rng) })).unwrap();
        if number % 20 == 10 {
            runtime.block_on(store.flush()).unwrap();
        }
    }
    let all = scan(&store, &everything(TenantId(0), Direction::Forward), 0);
    let is_all = |store: &EventStore| scan(store, &everything(TenantId(0), Direction::Forward), 0).len() == all.len();
    store.set_log_retention(rules());
    check(&store, &all, NOW, "at once, in memtable and parts");
    store.set_log_retention(LogRetention::default());
    assert!(is_all(&store), "what is hidden alone comes back");
    store.set_log_retention(rules());
    runtime.block_on(store.flush()).unwrap();
    check(&store, &all, NOW, "in parts");
    let before = items(&store);
    assert_eq!(before, all.len() as u64);
    let mut merges = 0;
    while store.merge_once().unwrap() {
        merges += 1;
        check(&store, &all, NOW, "between merges");
        assert!(merges < 100, "merges do not end");
    }
    // What is not kept is gone where it is not with later records of its day.
    let left = items(&store);
    assert!(bounds(&all, NOW).contains(&left), "{left} of {before} after {merges} merges: {:?}", bounds(&all, NOW));
    check(&store, &all, NOW, "after merges");
    // Older ones are refused, by the rule of their stream.
    let at = |labels: &[(&str, &str)], hours: i64| {
        let record = LogRecord { time_ns: NOW - hours * 3600 * SECOND, ..log(&mut crate::support::rng(1)) };
        let stream = Labels::from_pairs(labels.iter().copied());
        let groups = vec![LogGroup { stream, shared: Arc::default(), records: vec![record] }];
        runtime.block_on(store.write_logs(LogBatch { tenant: TenantId(1), groups })).unwrap().accepted
    };
    for (labels, hours, accepted) in [
        ([("env", "prod"), ("service_name", "db")], 13, 0),
        ([("env", "prod"), ("service_name", "db")], 11, 1),
        ([("env", "dev"), ("service.name", "db")], 1000, 1),
        ([("env", "dev"), ("service.name", "api")], 37, 0),
        ([("env", "dev"), ("service.name", "api")], 35, 1),
    ] {
        assert_eq!(at(&labels, hours), accepted, "{labels:?} {hours}");
    }
    // As time goes by more is over.
    clock.advance(Duration::from_secs(48 * HOUR));
    while store.merge_once().unwrap() {}
    let later = NOW + 48 * 3600 * SECOND;
    let kept = all.iter().filter(|l| l.2.time_ns >= start_ns(&l.0, later)).count();
    let of_tenant: u64 = store.log_parts().iter().filter(|m| m.tenant == TenantId(0)).map(|m| m.items).sum();
    assert!(bounds(&all, later).contains(&of_tenant), "{of_tenant}: {:?}", bounds(&all, later));
    assert_eq!(scan(&store, &everything(TenantId(0), Direction::Forward), 0).len(), kept);
    assert_eq!(store.apply_retention(NOW_MS + 1000 * 86_400_000).unwrap(), 0, "some are kept for ever");
}
