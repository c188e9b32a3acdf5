//! Log records: the store against a list.

use rand::RngExt as _;
use rand::rngs::StdRng;
use trefoil_events::EventStore;
use trefoil_model::labels::underscored;
use trefoil_model::*;
use trefoil_runtime::sim::SimDisk;

use crate::support::*;

/// All acknowledged records of both tenants in order of arrival.
#[derive(Default)]
struct Model {
    records: Vec<(TenantId, Logged)>,
}

impl Model {
    fn add(&mut self, batch: &LogBatch) {
        for group in &batch.groups {
            for record in &group.records {
                let shared = Attributes::clone(&group.shared);
                self.records.push((batch.tenant, (group.stream.clone(), shared, record.clone())));
            }
        }
    }

    fn scan(&self, query: &LogQuery) -> Vec<Logged> {
        let matches = |labels: &Labels| {
            query.matchers.iter().all(|m| {
                let value = labels.iter().find(|(n, _)| underscored(n) == underscored(&m.name));
                m.matches(value.map_or("", |(_, v)| v))
            })
        };
        let mut found: Vec<Logged> = self
            .records
            .iter()
            .filter(|(tenant, (labels, _, r))| {
                *tenant == query.tenant && query.range.contains(r.time_ns) && matches(labels)
            })
            .map(|(_, logged)| logged.clone())
            .collect();
        found.sort_by(|a, b| a.2.time_ns.cmp(&b.2.time_ns).then_with(|| a.0.cmp(&b.0)));
        if query.direction == Direction::Backward {
            found.reverse();
        }
        found
    }
}

fn random_query(rng: &mut StdRng) -> LogQuery {
    let direction = if rng.random() { Direction::Forward } else { Direction::Backward };
    let mut query = everything(TenantId(rng.random_range(0..2)), direction);
    if rng.random() {
        let (a, b) = (time(rng), time(rng));
        query.range = NanoRange::new(a.min(b), a.max(b) + rng.random_range(0..2));
    }
    if rng.random() {
        let (op, name, value) = match rng.random_range(0..5) {
            0 => (MatchOp::Equal, "service_name", "api"),
            1 => (MatchOp::NotEqual, "env", "prod"),
            2 => (MatchOp::Regex, "service.name", "a.*|d.*"),
            3 => (MatchOp::NotRegex, "service_name", "api|web"),
            _ => (MatchOp::Equal, "env", ""),
        };
        query.matchers.push(Matcher::new(op, name, value).unwrap());
    }
    query
}

/// A piece of a random line, cut at characters, or something that is nowhere.
fn random_needle(rng: &mut StdRng, all: &[Logged]) -> String {
    let text: Vec<char> = match rng.random_range(0..8) {
        0 => line(rng).chars().collect(),
        _ if all.is_empty() => Vec::new(),
        _ => all[rng.random_range(0..all.len())].2.text.chars().collect(),
    };
    if text.is_empty() {
        return String::new();
    }
    let start = rng.random_range(0..text.len());
    let end = rng.random_range(start..text.len()) + 1;
    text[start..end].iter().collect()
}

fn text_of_attributes(logged: &Logged) -> Vec<(String, String)> {
    let (_, shared, record) = logged;
    let mut terms: Vec<(String, String)> = record
        .attributes
        .iter()
        .chain(shared)
        .map(|(name, value)| (underscored(name).into_owned(), value.to_text()))
        .collect();
    terms.extend(record.trace_id.map(|id| ("trace_id".to_owned(), id.to_string())));
    terms.extend(record.span_id.map(|id| ("span_id".to_owned(), id.to_string())));
    terms
}

fn check_queries(store: &EventStore, model: &Model, rng: &mut StdRng, context: &str) {
    for _ in 0..6 {
        let query = random_query(rng);
        let expected = model.scan(&query);
        assert_eq!(scan(store, &query, 0), expected, "{context}: {query:?}");
        let limit = rng.random_range(1..5);
        let first: Vec<_> = expected.iter().take(limit).cloned().collect();
        assert_eq!(scan(store, &query, limit), first, "{context}: first {limit} of {query:?}");

        let mut narrowed = query.clone();
        let needle = random_needle(rng, &expected);
        narrowed.needles.push(needle.clone());
        let has = |logged: &Logged| logged.2.text.contains(&needle);
        let found: Vec<_> = scan(store, &narrowed, 0).into_iter().filter(has).collect();
        let wanted: Vec<_> = expected.iter().filter(|l| has(l)).cloned().collect();
        assert_eq!(found, wanted, "{context}: needle {needle:?} of {query:?}");

        if let Some(some) = expected.get(rng.random_range(0..expected.len().max(1))) {
            let mut narrowed = query.clone();
            let terms = text_of_attributes(some);
            if terms.is_empty() {
                continue;
            }
            let term = terms[rng.random_range(0..terms.len())].clone();
            narrowed.attribute_terms.push(term.clone());
            let has = |logged: &Logged| text_of_attributes(logged).contains(&term);
            let found: Vec<_> = scan(store, &narrowed, 0).into_iter().filter(has).collect();
            let wanted: Vec<_> = expected.iter().filter(|l| has(l)).cloned().collect();
            assert_eq!(found, wanted, "{context}: term {term:?} of {query:?}");
        }
    }
    let tenant = TenantId(0);
    let mut streams: Vec<Labels> =
        model.records.iter().filter(|(t, _)| *t == tenant).map(|(_, (labels, ..))| labels.clone()).collect();
    streams.sort();
    streams.dedup();
    assert_eq!(store.streams(tenant, NanoRange::ALL, &[], &Unlimited).unwrap(), streams, "{context}: streams");
}

#[test]
fn the_store_answers_as_a_list_does() {
    for seed in 0..25 {
        let mut rng = rng(seed);
        let (disk, runtime, mut model) = (SimDisk::new(), runtime(), Model::default());
        let mut store = open(&disk).unwrap();
        for step in 0..40 {
            let context = format!("seed {seed}, step {step}");
            match rng.random_range(0..10) {
                0..6 => {
                    let batch = log_batch(&mut rng);
                    let report = runtime.block_on(store.write_logs(batch.clone())).unwrap();
                    assert_eq!((report.accepted, report.rejected), (batch.record_count() as u64, 0), "{report:?}");
                    model.add(&batch);
                }
                6 | 7 => runtime.block_on(store.flush()).unwrap(),
                8 => {
                    store.merge_once().unwrap();
                }
                _ => {
                    if rng.random() {
                        runtime.block_on(store.close()).unwrap();
                    }
                    drop(store);
                    if rng.random() {
                        disk.crash(0);
                    }
                    store = open(&disk).unwrap();
                }
            }
            check_queries(&store, &model, &mut rng, &context);
        }
        runtime.block_on(store.flush()).unwrap();
        while store.merge_once().unwrap() {
            check_queries(&store, &model, &mut rng, "after merges");
        }
    }
}

fn one(time_ns: i64, text: &str) -> LogBatch {
    let record = LogRecord {
        time_ns,
        observed_ns: 0,
        severity_number: 9,
        severity_text: String::new(),
        text: text.to_owned(),
        attributes: Vec::new(),
        trace_id: None,
        span_id: None,
    };
    let group = LogGroup {
        stream: Labels::from_pairs([("service.name", "api")]),
        shared: Default::default(),
        records: vec![record],
    };
    LogBatch { tenant: TenantId(0), groups: vec![group] }
}

#[test]
fn a_limited_query_reads_few_blocks() {
    let (disk, runtime) = (SimDisk::new(), runtime());
    let store = open(&disk).unwrap();
    for i in 0..400 {
        let mut batch = one(NOW - i * SECOND, "");
        batch.groups[0].records[0].text = format!("line {i} of many with some more text {}", "x ".repeat(40));
        runtime.block_on(store.write_logs(batch)).unwrap();
    }
    runtime.block_on(store.flush()).unwrap();
    let query = everything(TenantId(0), Direction::Backward);
    let mut left = 5;
    let stats = store
        .scan(&query, &Unlimited, &mut |_| {
            left -= 1;
            if left == 0 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
        })
        .unwrap();
    // A slice has about 15 records.
    assert!(stats.records < 60, "{stats:?}");
    let mut needle = query.clone();
    needle.needles.push(" 377 of".to_owned());
    let stats = store.scan(&needle, &Unlimited, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert!((1..3).contains(&stats.blocks), "{stats:?}");
}

#[test]
fn limits_cut_and_refuse() {
    let (disk, runtime) = (SimDisk::new(), runtime());
    let store = open(&disk).unwrap();
    let write = |batch| runtime.block_on(store.write_logs(batch)).unwrap();
    let long = "ü".repeat(200_000);
    assert_eq!(write(one(NOW, &long)).accepted, 1);
    let found = scan(&store, &everything(TenantId(0), Direction::Forward), 0);
    assert_eq!(found[0].2.text.len(), 256 << 10);
    assert_eq!(found[0].2.attributes, [("trefoil.cut".to_owned(), AttributeValue::Int(400_000))]);
    for (batch, reason) in [
        (one(NOW, &"x".repeat((1 << 20) + 1)), "line of 1048577 bytes is over the limit 1048576"),
        (one(0, "old"), "is older than the retention"),
        (one(NOW + 3600 * SECOND, "new"), "is too far in the future"),
        (one(i64::MAX, "never"), "is too far in the future"),
    ] {
        let report = write(batch);
        assert_eq!((report.accepted, report.rejected), (0, 1), "{report:?}");
        assert!(report.reasons[0].contains(reason), "{report:?}");
    }
}

#[test]
fn memory_over_the_budget_is_refused_and_comes_back() {
    let (disk, runtime) = (SimDisk::new(), runtime());
    let mut options = options(&disk);
    options.accountant = trefoil_runtime::Accountant::new(100_000);
    let store = trefoil_events::EventStore::open(options).unwrap();
    let mut written = 0;
    let error = loop {
        match runtime.block_on(store.write_logs(one(NOW, &"y".repeat(5000)))) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, WriteError::Unavailable { .. }), "{error}");
    runtime.block_on(store.flush()).unwrap();
    runtime.block_on(store.write_logs(one(NOW, "z"))).unwrap();
    assert_eq!(scan(&store, &everything(TenantId(0), Direction::Forward), 0).len(), written + 1);
}

#[test]
fn retention_drops_whole_days() {
    let (disk, runtime) = (SimDisk::new(), runtime());
    let store = open(&disk).unwrap();
    for day in 0..3 {
        runtime.block_on(store.write_logs(one(NOW - day * 86_400 * SECOND, "x"))).unwrap();
    }
    runtime.block_on(store.flush()).unwrap();
    assert_eq!(store.log_parts().len(), 3);
    assert_eq!(store.apply_retention(NOW_MS).unwrap(), 0);
    assert_eq!(store.apply_retention(NOW_MS + 29 * 86_400_000).unwrap(), 1);
    assert_eq!(scan(&store, &everything(TenantId(0), Direction::Forward), 0).len(), 2);
}
