//! The engine over the real store against a naive evaluator over all records in memory: random lines, random queries.
//!
//! The naive side works on its own tree of the query (`query`) and has its own filters, parsers and aggregations
//! (`naive`); it shares nothing with the engine but the model. A disagreement is made smaller before it is shown.

mod naive;
mod query;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use trefoil_events::{EventStore, EventStoreOptions};
use trefoil_logql::{Answer, Engine, Error, InstantQuery, Output, RangeQuery};
use trefoil_model::{
    AttributeValue, Direction, EventWriter, Labels, LogBatch, LogGroup, LogQuery, LogReader, LogRecord, NanoRange,
    TenantId, Unlimited,
};
use trefoil_runtime::sim::SimDisk;
use trefoil_runtime::{Accountant, Limits, SimClock};

use query::{LogQueryTree, Query};

/// 2026-01-10T00:00:00Z.
const NOW_MS: i64 = 1_768_003_200_000;
const SECOND: i64 = 1_000_000_000;
/// Records lie in the minutes before.
const END: i64 = NOW_MS * 1_000_000;
const SPAN_SECONDS: i64 = 300;
/// Stores, and queries on each.
const STORES: u64 = 50;
const QUERIES: usize = 100;

/// Random numbers with a seed.
pub(crate) struct Random(StdRng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A record as the naive side sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) stream: Vec<(String, String)>,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) time_ns: i64,
    pub(crate) line: String,
}

fn stream(random: &mut Random) -> Vec<(String, String)> {
    let mut labels = vec![("app", random.pick(&["api", "db", "web"]))];
    labels.push(("env", random.pick(&["dev", "prod"])));
    if random.one_in(3) {
        labels.push(("level", random.pick(&["info", "error"])));
    }
    labels.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

fn line(random: &mut Random) -> String {
    let level = random.pick(&["info", "warn", "error", "debug"]);
    let user = random.pick(&["ann", "bob", "eve", "mallory"]);
    let status = random.pick(&["200", "404", "500", "oops"]);
    let took = random.pick(&["1.5", "20", "3", "0.25", "-7", ""]);
    let word = random.pick(&["timeout", "time-out", "größe", "connection refused", "a=b", "GET /a/b"]);
    match random.below(5) {
        0 => format!("level={level} user={user} status={status} took={took} msg=\"{word}\""),
        1 => format!(
            r#"{{"level":"{level}","user":"{user}","http":{{"status":{},"path":"/{user}"}},"took":"{took}","list":[1,2],"none":null}}"#,
            if status == "oops" { "\"oops\"" } else { status }
        ),
        2 => format!("{user} {word} {status}"),
        3 => format!("{word} 10.0.0.{} {user} \u{1b}[31mred\u{1b}[0m", random.below(4)),
        _ => random.pick(&["", " ", "x", "timeout", "{not json", "=", "ünïcode"]).to_owned(),
    }
}

fn record(random: &mut Random) -> Record {
    let mut metadata = Vec::new();
    if random.one_in(2) {
        metadata.push(("trace_id".to_owned(), format!("t{}", random.below(6))));
    }
    if random.one_in(3) {
        metadata.push(("user".to_owned(), random.pick(&["ann", "zoe"]).to_owned()));
    }
    if random.one_in(6) {
        metadata.push(("app".to_owned(), "shadow".to_owned()));
    }
    // Often whole seconds, so that some stand on the edges of windows and some share their time.
    let seconds = random.below(SPAN_SECONDS as usize) as i64;
    let time_ns = END - SPAN_SECONDS * SECOND
        + seconds * SECOND
        + if random.one_in(2) { 0 } else { random.below(1_000_000_000) as i64 };
    Record { stream: stream(random), metadata, time_ns, line: line(random) }
}

fn group(record: &Record) -> LogGroup {
    let attributes = record.metadata.iter().map(|(n, v)| (n.clone(), AttributeValue::String(v.clone()))).collect();
    LogGroup {
        stream: Labels::from_pairs(record.stream.iter().cloned()),
        shared: Arc::default(),
        records: vec![LogRecord {
            time_ns: record.time_ns,
            observed_ns: 0,
            severity_number: 0,
            severity_text: String::new(),
            text: record.line.clone(),
            attributes,
            trace_id: None,
            span_id: None,
        }],
    }
}

fn open(disk: &SimDisk) -> EventStore {
    let clock = SimClock::new(NOW_MS);
    let mut options =
        EventStoreOptions::new(Path::new("/data/events"), Arc::new(disk.clone()), clock, Accountant::unlimited());
    // Small, so that few records make many blocks and merges.
    options.block_bytes = 600;
    options.slice_bytes = 2500;
    options.merge.parts_min = 2;
    options.journal.group_window = Duration::ZERO;
    options.journal.segment_bytes = 16 << 10;
    options.limits = Arc::new(Limits { disk_free_floor_bytes: 0, ..Limits::default() });
    EventStore::open(options).expect("an empty disk")
}

/// Writes the records in batches; flushes and merges come in between.
fn fill(store: &EventStore, records: &[Record], random: &mut Random, runtime: &tokio::runtime::Runtime) {
    let mut rest = records;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(1 + random.below(40)));
        rest = later;
        let batch = LogBatch { tenant: TenantId(0), groups: now.iter().map(group).collect() };
        let report = runtime.block_on(store.write_logs(batch)).expect("the disk has room");
        assert_eq!(report.rejected, 0, "{report:?}");
        match random.below(4) {
            0 => runtime.block_on(store.flush()).expect("a flush"),
            1 => while store.merge_once().expect("a merge") {},
            _ => {}
        }
    }
}

/// An answer of either side in a form that can be compared.
#[derive(Debug, PartialEq)]
pub(crate) enum Shown {
    /// Time, line and labels, in order of time; of equal times in any order.
    Lines(Vec<(i64, String, BTreeMap<String, String>)>),
    /// Labels to time to value.
    Series(BTreeMap<BTreeMap<String, String>, BTreeMap<i64, f64>>),
    /// A sample carries an error.
    Refused,
}

/// Lines without those that have the time of the last one, when a limit cut: which of them are in is the store's to say.
pub(crate) fn without_last_time(
    mut lines: Vec<(i64, String, BTreeMap<String, String>)>,
    limit: usize,
) -> Vec<(i64, String, BTreeMap<String, String>)> {
    if limit > 0 && lines.len() == limit {
        let last = lines.last().map(|l| l.0);
        lines.retain(|l| Some(l.0) != last);
    }
    lines
}

impl Shown {
    /// Only the values at each time, numbered, when the query takes some of many: of equal ones either may be taken.
    pub(crate) fn loosened(self, query: &Query) -> Self {
        let (Self::Series(series), Query::Metric { metric: query::Metric::Top(..), .. }) = (&self, query) else {
            return self;
        };
        let mut values: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        for (time, value) in series.values().flatten() {
            values.entry(*time).or_default().push(*value);
        }
        let mut out: BTreeMap<BTreeMap<String, String>, BTreeMap<i64, f64>> = BTreeMap::new();
        for (time, mut values) in values {
            values.sort_by(f64::total_cmp);
            for (i, value) in values.into_iter().enumerate() {
                out.entry(BTreeMap::from([("n".to_owned(), i.to_string())])).or_default().insert(time, value);
            }
        }
        Self::Series(out)
    }

    fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Lines(a), Self::Lines(b)) => {
                let sorted = |lines: &[(i64, String, BTreeMap<String, String>)]| {
                    let mut lines = lines.to_vec();
                    lines.sort();
                    lines
                };
                let times = |lines: &[(i64, String, BTreeMap<String, String>)]| -> Vec<i64> {
                    lines.iter().map(|l| l.0).collect()
                };
                times(a) == times(b) && sorted(a) == sorted(b)
            }
            (Self::Series(a), Self::Series(b)) => {
                a.len() == b.len()
                    && a.iter().zip(b).all(|((la, pa), (lb, pb))| {
                        la == lb
                            && pa.len() == pb.len()
                            && pa.iter().zip(pb).all(|((ta, va), (tb, vb))| ta == tb && close(*va, *vb))
                    })
            }
            (a, b) => a == b,
        }
    }
}

fn close(a: f64, b: f64) -> bool {
    a.is_nan() && b.is_nan() || a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-3)
}

fn pairs(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

fn shown(answer: Result<Answer, Error>, backward: bool) -> Shown {
    let output = match answer {
        Ok(answer) => answer.output,
        Err(Error::Pipeline { .. }) => return Shown::Refused,
        Err(other) => panic!("{other}"),
    };
    match output {
        Output::Streams(streams) => {
            let mut lines: Vec<_> = streams
                .iter()
                .flat_map(|s| s.entries.iter().map(move |e| (s, e)))
                .map(|(s, e)| {
                    let mut labels = pairs(&s.labels);
                    labels.extend(e.structured_metadata.iter().chain(&e.parsed).cloned());
                    labels.remove("__error_details__");
                    (e.ts_ns, e.line.clone(), labels)
                })
                .collect();
            lines.sort_by_key(|l| if backward { -l.0 } else { l.0 });
            Shown::Lines(lines)
        }
        Output::Vector { samples, time_ns } => {
            Shown::Series(samples.iter().map(|s| (pairs(&s.labels), BTreeMap::from([(time_ns, s.value)]))).collect())
        }
        Output::Matrix(series) => {
            Shown::Series(series.iter().map(|s| (pairs(&s.labels), s.points.iter().copied().collect())).collect())
        }
        Output::Scalar { .. } => panic!("no query here is a literal"),
    }
}

fn engine(query: &Query, reader: &dyn LogReader) -> Shown {
    let text = query.to_string();
    // The canonical form asks the same, so every other query is put in it.
    let canonical = trefoil_logql::format_query(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(trefoil_logql::format_query(&canonical).ok().as_ref(), Some(&canonical), "{text}");
    let text = if text.len().is_multiple_of(2) { text } else { canonical };
    let tenant = TenantId(0);
    match query {
        Query::Log { limit, backward, start_ns, end_ns, .. } => {
            let direction = if *backward { Direction::Backward } else { Direction::Forward };
            let request = RangeQuery {
                query: &text,
                start_ns: *start_ns,
                end_ns: *end_ns,
                step_ns: 1,
                direction,
                limit: *limit,
                tenant,
            };
            match shown(Engine::range(&request, reader, &Unlimited), *backward) {
                Shown::Lines(lines) => Shown::Lines(without_last_time(lines, *limit)),
                other => other,
            }
        }
        Query::Metric { start_ns, step_ns, steps: 1, .. } if *step_ns == 0 => {
            let request = InstantQuery { query: &text, time_ns: *start_ns, tenant };
            shown(Engine::instant(&request, reader, &Unlimited), false).loosened(query)
        }
        Query::Metric { start_ns, step_ns, steps, .. } => {
            let request = RangeQuery {
                query: &text,
                start_ns: *start_ns,
                end_ns: start_ns + step_ns * (*steps as i64 - 1),
                step_ns: *step_ns,
                direction: Direction::Backward,
                limit: 0,
                tenant,
            };
            shown(Engine::range(&request, reader, &Unlimited), false).loosened(query)
        }
    }
}

/// Whether engine and naive side differ over exactly these records, freshly written to memory.
fn differs(query: &Query, records: &[Record]) -> Option<(Shown, Shown)> {
    let reader = trefoil_logql::GroupsReader { groups: records.iter().map(group).collect() };
    let (got, want) = (engine(query, &reader), naive::evaluate(query, records));
    (!got.agrees(&want)).then_some((got, want))
}

/// Leaves out records and stages as long as the two still differ.
fn smallest(query: &Query, records: &[Record]) -> String {
    let (mut query, mut records) = (query.clone(), records.to_vec());
    if differs(&query, &records).is_none() {
        return format!("{query}: only the store's answer differs; {} records", records.len());
    }
    let mut size = records.len().div_ceil(2);
    while size >= 1 {
        let mut at = 0;
        while at < records.len() {
            let mut fewer = records.clone();
            fewer.drain(at..(at + size).min(fewer.len()));
            if differs(&query, &fewer).is_some() {
                records = fewer;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    'shorter: loop {
        for shorter in query.shorter() {
            if differs(&shorter, &records).is_some() {
                query = shorter;
                continue 'shorter;
            }
        }
        break;
    }
    let (got, want) = differs(&query, &records).expect("only what keeps the difference was taken");
    format!("{query}\n  over {records:#?}\n  engine {got:?}\n  naive  {want:?}")
}

#[test]
fn the_engine_agrees_with_a_naive_evaluator() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let first = std::env::var("TREFOIL_LOGQL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1u64);
    let (mut cases, mut not_empty) = (0, 0);
    for seed in first..first + STORES {
        let mut random = Random::new(seed);
        let mut records: Vec<Record> = Vec::new();
        for _ in 0..40 + random.below(160) {
            let next = record(&mut random);
            // Which of two equal times comes first is the store's to say, so a limit must not fall between them.
            if records.iter().all(|r| r.time_ns != next.time_ns) || random.one_in(8) {
                records.push(next);
            }
        }
        let store = open(&SimDisk::new());
        fill(&store, &records, &mut random, &runtime);
        let all = LogQuery::new(TenantId(0), NanoRange::new(i64::MIN, i64::MAX), Vec::new());
        let mut stored = 0;
        let scanned = store.scan(&all, &Unlimited, &mut |_| {
            stored += 1;
            ControlFlow::Continue(())
        });
        assert!(scanned.is_ok() && stored == records.len(), "seed {seed}: {stored} of {} records", records.len());
        for _ in 0..QUERIES {
            let query = query::random(&mut random, &records);
            let (got, want) = (engine(&query, &store), naive::evaluate(&query, &records));
            cases += 1;
            not_empty += usize::from(match &want {
                Shown::Lines(lines) => !lines.is_empty(),
                Shown::Series(series) => !series.is_empty(),
                Shown::Refused => false,
            });
            assert!(
                got.agrees(&want),
                "seed {seed}: {query}\n engine {got:?}\n naive  {want:?}\n smallest: {}",
                smallest(&query, &records)
            );
        }
    }
    assert!(cases >= 5000 && not_empty > cases / 3, "{cases} cases, {not_empty} with an answer");
}

#[test]
fn a_wrong_answer_would_be_seen() {
    let mut random = Random::new(3);
    let records: Vec<Record> = (0..50).map(|_| record(&mut random)).collect();
    let tree = LogQueryTree { matchers: vec![("app", "=~", ".+".to_owned())], stages: Vec::new() };
    let query = Query::Log { tree, limit: 0, backward: false, start_ns: END - SPAN_SECONDS * SECOND, end_ns: END };
    let reader = trefoil_logql::GroupsReader { groups: records[1..].iter().map(group).collect() };
    assert!(!engine(&query, &reader).agrees(&naive::evaluate(&query, &records)));
    assert!(differs(&query, &records).is_none());
}
