//! Log records: the store against a list.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rand::RngExt as _;
use rand::rngs::StdRng;
use trefoil_events::EventStore;
use trefoil_model::labels::underscored;
use trefoil_model::*;
use trefoil_runtime::sim::SimDisk;

use crate::support::*;
use crate::tier;

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

    fn delete(&mut self, deletion: &LogDeletion) {
        self.records.retain(|(tenant, (labels, _, record))| {
            !(*tenant == deletion.tenant
                && deletion.range.contains(record.time_ns)
                && selects(labels, &deletion.matchers)
                && deletion.contains.iter().all(|text| record.text.contains(text)))
        });
    }

    fn scan(&self, query: &LogQuery) -> Vec<Logged> {
        let matches = |labels: &Labels| selects(labels, &query.matchers);
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

fn selects(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|m| {
        let value = labels.iter().find(|(n, _)| underscored(n) == underscored(&m.name));
        m.matches(value.map_or("", |(_, v)| v))
    })
}

fn random_deletion(rng: &mut StdRng, model: &Model) -> LogDeletion {
    let LogQuery { tenant, matchers, range, .. } = random_query(rng);
    let all = model.scan(&everything(tenant, Direction::Forward));
    let contains = if rng.random() { vec![random_needle(rng, &all)] } else { Vec::new() };
    // Not too much: a part of the time.
    let range = if range == NanoRange::ALL { NanoRange::new(time(rng), time(rng)) } else { range };
    LogDeletion { tenant, query: "{}".to_owned(), matchers, contains, range }
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
        let first: Vec<_> = scan(store, &narrowed, limit).into_iter().filter(has).collect();
        let begins = wanted.starts_with(&first) && first.len() <= limit;
        assert!(begins, "{context}: first {limit} with {needle:?} of {query:?}: {first:?}");

        let mut by_word = query.clone();
        let is_upper = rng.random();
        by_word.words.push(if is_upper { needle.to_ascii_uppercase() } else { needle.to_ascii_lowercase() });
        let has_word = |l: &Logged| l.2.text.to_ascii_lowercase().contains(&needle.to_ascii_lowercase());
        let found: Vec<_> = scan(store, &by_word, 0).into_iter().filter(|l| has_word(l)).collect();
        let with_word: Vec<_> = expected.iter().filter(|l| has_word(l)).cloned().collect();
        assert_eq!(found, with_word, "{context}: word {needle:?} of {query:?}");

        let line = |text: &str| text.contains(&needle);
        let any_of = [vec![needle.clone(), "refused".to_owned()]];
        let any = |text: &str| text.contains(&needle) || text.contains("refused");
        for (passes, any_of) in [(&line as &(dyn Fn(&str) -> bool + Sync), &[][..]), (&any, &any_of[..])] {
            let wants = LogWants { line: Some(passes), any_of, ..LogWants::default() };
            let wanted: Vec<_> = expected.iter().filter(|l| passes(&l.2.text)).cloned().collect();
            assert_eq!(scan_wanted(store, &query, &wants), wanted, "{context}: lines with {needle:?} of {query:?}");
            check_fold(store, &query, &wants, &wanted, context);
        }
        check_fold(store, &narrowed, &LogWants::default(), &wanted, context);
        check_volumes(store, &query, rng, &expected, context);

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
    let found = store.streams(tenant, NanoRange::ALL, &[], &Unlimited).unwrap();
    if store.deletions(tenant).iter().all(|deletion| deletion.is_done) {
        assert_eq!(found, streams, "{context}: streams");
    } else {
        // Streams whose records are all hidden may still be listed.
        assert!(streams.iter().all(|stream| found.contains(stream)), "{context}: streams");
    }
}

fn scan_wanted(store: &EventStore, query: &LogQuery, wants: &LogWants<'_>) -> Vec<Logged> {
    let mut out = Vec::new();
    let mut each = |entry: LogEntry<'_>| {
        out.push((entry.stream.clone(), entry.shared.clone(), entry.record.clone()));
        ControlFlow::Continue(())
    };
    store.scan_wanted(query, wants, &Unlimited, &mut each).unwrap();
    out
}

/// Gathers what it is given.
#[derive(Default)]
struct Gather(Vec<(Logged, u32)>);

impl LogFold for Gather {
    fn rows(&mut self, rows: &LogRows<'_>) -> ControlFlow<()> {
        for i in 0..rows.len() {
            let set = rows.sets[rows.set_of[i] as usize];
            let text = rows.texts.get(i).map_or_else(String::new, |text| (*text).to_owned());
            let record = LogRecord { time_ns: rows.times[i], text, ..set.record.clone() };
            self.0.push(((rows.stream.clone(), set.shared.clone(), record), rows.text_bytes[i]));
        }
        ControlFlow::Continue(())
    }
}

fn gather(store: &EventStore, query: &LogQuery, wants: &LogWants<'_>) -> Vec<(Logged, u32)> {
    let mut gathers = [Gather::default(), Gather::default()];
    let mut folds: Vec<Box<dyn LogFold + '_>> = Vec::new();
    for gather in &mut gathers {
        folds.push(Box::new(Forward(gather)));
    }
    store.fold(query, wants, &Unlimited, &mut folds).unwrap();
    drop(folds);
    gathers.into_iter().flat_map(|gather| gather.0).collect()
}

struct Forward<'a>(&'a mut Gather);

impl LogFold for Forward<'_> {
    fn rows(&mut self, rows: &LogRows<'_>) -> ControlFlow<()> {
        self.0.rows(rows)
    }
}

fn check_fold(store: &EventStore, query: &LogQuery, wants: &LogWants<'_>, expected: &[Logged], context: &str) {
    let shown = |logged: &Logged| format!("{logged:?}");
    let has = |l: &Logged| query.needles.iter().all(|needle| l.2.text.contains(needle));
    let mut wanted: Vec<String> = expected.iter().map(shown).collect();
    let found = gather(store, query, wants);
    let mut found: Vec<String> = found
        .iter()
        .filter(|(logged, _)| has(logged))
        .map(|(logged, bytes)| {
            assert_eq!(logged.2.text.len() as u32, *bytes);
            shown(logged)
        })
        .collect();
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted, "{context}: fold of {query:?}");

    // What is not asked for may be missing, what is asked for is there.
    let names = ["k".to_owned(), "trace_id".to_owned()];
    for attributes in [AttributeWants::None, AttributeWants::Names(&names)] {
        let light = LogWants { text: false, attributes, ..*wants };
        let part = |logged: &Logged, bytes: u32| {
            let (stream, shared, record) = logged;
            let wanted = |name: &str| attributes.wants(&underscored(name));
            let of = |list: &Attributes| list.iter().filter(|(n, _)| wanted(n)).cloned().collect::<Attributes>();
            let id = record.trace_id.filter(|_| wanted("trace_id"));
            format!("{stream} {} {bytes} {:?} {:?} {id:?}", record.time_ns, of(shared), of(&record.attributes))
        };
        let mut wanted: Vec<String> = expected.iter().map(|l| part(l, l.2.text.len() as u32)).collect();
        if !query.needles.is_empty() && wants.line.is_none() {
            // Hints that the caller must verify on the text.
            continue;
        }
        let mut found: Vec<String> = gather(store, query, &light).iter().map(|(l, bytes)| part(l, *bytes)).collect();
        wanted.sort();
        found.sort();
        assert_eq!(found, wanted, "{context}: fold of {attributes:?} of {query:?}");
    }
}

fn check_volumes(store: &EventStore, query: &LogQuery, rng: &mut StdRng, expected: &[Logged], context: &str) {
    let step_ns = [0, SECOND, 7 * SECOND, 86_400 * SECOND][rng.random_range(0..4)];
    if step_ns > 0 && query.range == NanoRange::ALL {
        return;
    }
    let asked = VolumeQuery { tenant: query.tenant, range: query.range, matchers: &query.matchers, step_ns };
    let mut wanted: BTreeMap<(Labels, usize), LogVolume> = BTreeMap::new();
    for (stream, _, record) in expected {
        let one = LogVolume { records: 1, bytes: record.text.len() as u64 };
        wanted.entry((stream.clone(), asked.step(record.time_ns))).or_default().add(one);
    }
    let mut found: BTreeMap<(Labels, usize), LogVolume> = BTreeMap::new();
    let mut each = |stream: &Labels, _: u64, step: usize, volume: LogVolume| {
        found.entry((stream.clone(), step)).or_default().add(volume);
    };
    store.volumes(&asked, &Unlimited, &mut each).unwrap();
    assert_eq!(found, wanted, "{context}: volumes of {query:?} by {step_ns}");
}

#[test]
fn the_store_answers_as_a_list_does() {
    answers_as_a_list_does(0..10, &|disk| open(disk).unwrap());
}

#[test]
fn days_in_an_object_store_are_answered_as_a_list_does() {
    answers_as_a_list_does(10..12, &|disk| tier::open(disk, 1 << 20));
    // One file at a time.
    answers_as_a_list_does(12..13, &|disk| tier::open(disk, 1));
}

/// Without an object store nothing is moved.
fn answers_as_a_list_does(seeds: std::ops::Range<u64>, open: &dyn Fn(&SimDisk) -> EventStore) {
    for seed in seeds {
        let mut rng = rng(seed);
        let (disk, runtime, mut model) = (SimDisk::new(), runtime(), Model::default());
        let mut store = open(&disk);
        for step in 0..40 {
            let context = format!("seed {seed}, step {step}");
            match rng.random_range(0..11) {
                10 => {
                    let deletion = random_deletion(&mut rng, &model);
                    runtime.block_on(store.delete(deletion.clone())).unwrap();
                    model.delete(&deletion);
                }
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
                    store = open(&disk);
                }
            }
            if step % 4 == 0 {
                while store.move_once().unwrap() {}
            }
            check_queries(&store, &model, &mut rng, &context);
        }
        runtime.block_on(store.flush()).unwrap();
        while store.merge_once().unwrap() {
            check_queries(&store, &model, &mut rng, "after merges");
        }
        while store.move_once().unwrap() {}
        check_queries(&store, &model, &mut rng, "at the end");
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
    let mut word = query.clone();
    word.words.push(" 377 OF".to_owned());
    let stats = store.scan(&word, &Unlimited, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert!((1..3).contains(&stats.blocks), "{stats:?}");
}

#[test]
fn sequences_are_unique_and_stay() {
    let (disk, runtime, mut rng) = (SimDisk::new(), runtime(), rng(91));
    let mut store = open(&disk).unwrap();
    let sequences = |store: &EventStore, direction| {
        let mut found = Vec::new();
        let query = everything(TenantId(0), direction);
        let mut each = |entry: LogEntry<'_>| {
            found.push((entry.sequence, entry.record.time_ns, entry.record.text.clone()));
            ControlFlow::Continue(())
        };
        store.scan(&query, &Unlimited, &mut each).unwrap();
        found
    };
    for round in 0..8 {
        for _ in 0..4 {
            let mut batch = log_batch(&mut rng);
            batch.tenant = TenantId(0);
            runtime.block_on(store.write_logs(batch)).unwrap();
        }
        // The same time and line many times.
        let mut same = one(NOW, "same");
        let record = same.groups[0].records[0].clone();
        same.groups[0].records.extend(vec![record; 20]);
        runtime.block_on(store.write_logs(same)).unwrap();
        let before = sequences(&store, Direction::Forward);
        let unique: std::collections::BTreeSet<u64> = before.iter().map(|(sequence, ..)| *sequence).collect();
        assert_eq!(unique.len(), before.len(), "round {round}");
        runtime.block_on(store.flush()).unwrap();
        assert_eq!(sequences(&store, Direction::Forward), before, "flushed in round {round}");
        while store.merge_once().unwrap() {}
        if round % 3 == 2 {
            drop(store);
            store = open(&disk).unwrap();
        }
        let mut after = sequences(&store, Direction::Backward);
        after.reverse();
        assert_eq!(after, before, "merged in round {round}");
    }
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
fn deleted_records_are_hidden_then_gone() {
    let (disk, runtime) = (SimDisk::new(), runtime());
    let store = open(&disk).unwrap();
    for text in ["a secret", "b", "c secret"] {
        runtime.block_on(store.write_logs(one(NOW, text))).unwrap();
    }
    let deletion = LogDeletion {
        tenant: TenantId(0),
        query: "{} |= \"secret\"".to_owned(),
        matchers: Vec::new(),
        contains: vec!["secret".to_owned()],
        range: NanoRange::new(NOW, NOW + 1),
    };
    let texts = |store: &EventStore| -> Vec<String> {
        scan(store, &everything(TenantId(0), Direction::Forward), 0).into_iter().map(|l| l.2.text).collect()
    };
    let id = runtime.block_on(store.delete(deletion.clone())).unwrap();
    assert_eq!(texts(&store), ["b"]);
    assert_eq!(runtime.block_on(store.cancel(TenantId(1), id)).unwrap(), Cancellation::Unknown);
    assert_eq!(runtime.block_on(store.cancel(TenantId(0), id)).unwrap(), Cancellation::Cancelled);
    assert_eq!(texts(&store), ["a secret", "b", "c secret"]);
    let id = runtime.block_on(store.delete(deletion)).unwrap();
    runtime.block_on(store.write_logs(one(NOW, "new secret"))).unwrap();
    assert_eq!(texts(&store), ["b", "new secret"]);
    drop(store);
    disk.crash(0);
    let store = open(&disk).unwrap();
    assert_eq!(texts(&store), ["b", "new secret"]);
    assert!(!store.deletions(TenantId(0))[0].is_done);
    runtime.block_on(store.flush()).unwrap();
    while store.merge_once().unwrap() {}
    assert_eq!(texts(&store), ["b", "new secret"]);
    assert_eq!(store.log_parts().iter().map(|meta| meta.items).sum::<u64>(), 2);
    assert!(store.deletions(TenantId(0))[0].is_done);
    assert_eq!(runtime.block_on(store.cancel(TenantId(0), id)).unwrap(), Cancellation::TooLate);
}

#[test]
fn bytes_over_the_bound_go_with_their_days() {
    let (disk, runtime) = (SimDisk::new(), runtime());
    let mut options = options(&disk);
    options.retention_logs.bytes_max = Some(1);
    let store = EventStore::open(options).unwrap();
    for day in 0..3 {
        runtime.block_on(store.write_logs(one(NOW - day * 86_400 * SECOND, "x"))).unwrap();
    }
    runtime.block_on(store.flush()).unwrap();
    let files = || disk.files().into_iter().filter(|path| path.ends_with("events")).count();
    assert_eq!(files(), 3);
    assert_eq!(store.apply_retention(NOW_MS).unwrap(), 2);
    assert_eq!(scan(&store, &everything(TenantId(0), Direction::Forward), 0).len(), 1);
    assert_eq!(files(), 1, "their files are gone too");
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
