//! Writers that know what was acknowledged, and the check that each acknowledged item is there exactly once and each
//! unknown one at most once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::{Http, wire};

/// Items in a batch.
const BATCH: u64 = 20;
/// Items a writer stops at, so that loops are bounded.
const ITEMS_MAX: u64 = 200_000;

/// The kinds of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Samples by remote write.
    Metrics,
    /// Lines by Loki push.
    Logs,
    /// Spans by OTLP over HTTP.
    Traces,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The server said that it has it.
    Acknowledged,
    /// No answer, or an error.
    Unknown,
}

/// What was written to one server over all its lives.
#[derive(Debug, Clone)]
pub struct Oracle {
    name: String,
    base_ms: i64,
    fates: Arc<Mutex<[BTreeMap<u64, Fate>; 3]>>,
}

/// Writers that run until stopped.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Stops the writers and waits for them.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a writer does not panic");
        }
    }
}

impl Oracle {
    /// An oracle whose items bear `name`; times begin a little in the past.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), base_ms: wire::now_ms() - 600_000, fates: Arc::default() }
    }

    /// Starts a writer for each signal.
    pub fn start(&self, http: &Http) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = [Signal::Metrics, Signal::Logs, Signal::Traces]
            .into_iter()
            .map(|signal| {
                let (oracle, http, stop) = (self.clone(), http.clone(), Arc::clone(&stop));
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) && oracle.write_batch(signal, &http) < ITEMS_MAX {}
                })
            })
            .collect();
        Writers { stop, threads }
    }

    /// Writes the next batch; the number of its first item.
    pub fn write_batch(&self, signal: Signal, http: &Http) -> u64 {
        let slot = signal as usize;
        let first = self.fates.lock().expect("no writer panics")[slot].last_key_value().map_or(0, |(seq, _)| seq + 1);
        let items = first..first + BATCH;
        {
            let mut fates = self.fates.lock().expect("no writer panics");
            items.clone().for_each(|seq| {
                fates[slot].insert(seq, Fate::Unknown);
            });
        }
        let answer = match signal {
            Signal::Metrics => {
                let samples: Vec<(i64, f64)> = items.clone().map(|s| (self.base_ms + s as i64, s as f64)).collect();
                let series = wire::series(&[("__name__", "oracle_sequence"), ("writer", &self.name)], &samples);
                http.post("/api/v1/write", wire::REMOTE_WRITE, wire::remote_write(vec![series]))
            }
            Signal::Logs => {
                let lines: Vec<_> =
                    items.clone().map(|s| (self.log_ns(s), format!("sequence={s} of the oracle"))).collect();
                let body = wire::loki_push(&[("service_name", "oracle"), ("writer", &self.name)], &lines);
                http.post("/loki/api/v1/push", &[("content-type", "application/json")], body)
            }
            Signal::Traces => {
                let spans = items
                    .clone()
                    .map(|s| {
                        let start = (self.base_ms as u64 + s) * 1_000_000;
                        wire::span(trace_id(first), (s + 1).to_be_bytes(), None, &format!("sequence {s}"), start)
                    })
                    .collect();
                http.post("/v1/traces", wire::OTLP, wire::otlp_spans("oracle", spans))
            }
        };
        if answer.is_ok_and(|a| matches!(a.status, 200 | 204)) {
            let mut fates = self.fates.lock().expect("no writer panics");
            items.for_each(|seq| {
                fates[slot].insert(seq, Fate::Acknowledged);
            });
        }
        first
    }

    fn log_ns(&self, seq: u64) -> u64 {
        self.base_ms as u64 * 1_000_000 + seq * 1000
    }

    /// Acknowledged items of a signal.
    pub fn acknowledged(&self, signal: Signal) -> usize {
        let fates = self.fates.lock().expect("no writer panics");
        fates[signal as usize].values().filter(|f| **f == Fate::Acknowledged).count()
    }

    /// Reads everything back and compares; the faults that were found.
    pub fn check(&self, http: &Http) -> Vec<String> {
        let mut faults = Vec::new();
        for signal in [Signal::Metrics, Signal::Logs, Signal::Traces] {
            let fates = self.fates.lock().expect("no writer panics")[signal as usize].clone();
            let found = match signal {
                Signal::Metrics => self.read_metrics(http),
                Signal::Logs => self.read_logs(http, fates.len() as u64),
                Signal::Traces => self.read_traces(http, fates.len() as u64),
            };
            for (seq, fate) in &fates {
                match (fate, found.get(seq).copied().unwrap_or(0)) {
                    (Fate::Acknowledged, 1) | (Fate::Unknown, 0 | 1) => {}
                    (fate, n) => faults.push(format!("{signal:?} item {seq}: {fate:?}, found {n} times")),
                }
            }
            for seq in found.keys().filter(|seq| !fates.contains_key(seq)) {
                faults.push(format!("{signal:?} item {seq} was never sent"));
            }
        }
        faults.truncate(20);
        faults
    }

    fn read_metrics(&self, http: &Http) -> BTreeMap<u64, u32> {
        let mut found = BTreeMap::new();
        let query = format!("oracle_sequence{{writer={:?}}}[1d]", self.name);
        for series in http.promql(&query).unwrap_or_else(|e| panic!("{query}: {e}")) {
            for sample in series["values"].as_array().into_iter().flatten() {
                let value: f64 = sample[1].as_str().and_then(|v| v.parse().ok()).expect("a sample has a value");
                let at_ms = (sample[0].as_f64().expect("a sample has a time") * 1000.0).round() as i64;
                assert_eq!(at_ms, self.base_ms + value as i64, "value and time of a sample belong together");
                *found.entry(value as u64).or_default() += 1;
            }
        }
        found
    }

    fn read_logs(&self, http: &Http, items: u64) -> BTreeMap<u64, u32> {
        let mut found = BTreeMap::new();
        let query = format!("{{writer={:?}}}", self.name);
        // Beyond the last item too, so that what was never sent would be found.
        for first in (0..items + 2000).step_by(2000) {
            let (start, end) = (self.log_ns(first).to_string(), self.log_ns(first + 2000).to_string());
            let answer = http
                .get(
                    "/loki/api/v1/query_range",
                    &[("query", &query), ("start", &start), ("end", &end), ("limit", "5000"), ("direction", "forward")],
                )
                .expect("the server answers");
            if answer.status == 500 && answer.text().contains("events/logs/parts") {
                // Damage is an error that names the part: nothing is found here.
                continue;
            }
            assert_eq!(answer.status, 200, "{}", answer.text());
            let json = answer.json();
            for stream in json["data"]["result"].as_array().into_iter().flatten() {
                for value in stream["values"].as_array().into_iter().flatten() {
                    let line = value[1].as_str().expect("a line");
                    let seq: u64 = line
                        .strip_prefix("sequence=")
                        .and_then(|l| l.strip_suffix(" of the oracle"))
                        .and_then(|n| n.parse().ok())
                        .unwrap_or_else(|| panic!("line {line:?} is not one of ours"));
                    assert_eq!(value[0].as_str(), Some(self.log_ns(seq).to_string().as_str()));
                    *found.entry(seq).or_default() += 1;
                }
            }
        }
        found
    }

    fn read_traces(&self, http: &Http, items: u64) -> BTreeMap<u64, u32> {
        let mut found = BTreeMap::new();
        for first in (0..items).step_by(BATCH as usize) {
            let id: String = trace_id(first).iter().map(|b| format!("{b:02x}")).collect();
            let answer = http.get(&format!("/jaeger/api/traces/{id}"), &[]).expect("the server answers");
            if answer.status == 404 {
                continue;
            }
            assert_eq!(answer.status, 200, "{}", answer.text());
            for span in answer.json()["data"][0]["spans"].as_array().into_iter().flatten() {
                let name = span["operationName"].as_str().and_then(|n| n.strip_prefix("sequence "));
                let seq = name.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("span {span} is not one of ours"));
                *found.entry(seq).or_default() += 1;
            }
        }
        found
    }
}

/// The trace of the batch that begins with this item.
fn trace_id(first: u64) -> [u8; 16] {
    (0x0a_0000_0000_0000_0000_u128 + u128::from(first) + 1).to_be_bytes()
}

/// The items of an array, for tests that walk answers.
pub fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
