//! Random queries over random data, asked of a real Prometheus and of us through both HTTP APIs.
//!
//! Prometheus 3.14 where `make test-peers` has built it; else Debian's 2.42, with the part of the language that means the
//! same there ([`Dialect::Old`] tells what it leaves out). Which differences are known, and why, is in [`known`].
//!
//! `TREFOIL_FUZZ` is the number of queries (else 2,000), `TREFOIL_FUZZ_MINUTES` ends earlier, `TREFOIL_FUZZ_SEED` is
//! where they begin (`random`: somewhere else each time), `TREFOIL_PROMETHEUS` another binary of 3.14.

mod answer;
mod compliance;
mod data;
mod known;

use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use trefoil_tests::grammar::{Dialect, Grammar, Node};
use trefoil_tests::server::fresh_dir;
use trefoil_tests::{Http, Peer, Server, ServerOptions, find_program, free_port, skipped, wait_for};

use self::answer::Answer;

/// Names of the experimental parts, the same for both.
const FEATURES: &str = "promql-experimental-functions,promql-extended-range-selectors,promql-binop-fill-modifiers";
/// Queries asked when nothing else is said.
const COUNT: u64 = 2000;
/// Queries made before they are asked.
const BATCH: u64 = 100;
/// Disagreements that are told.
const TOLD_MAX: usize = 10;
/// Simpler queries tried for one disagreement.
const SIMPLER_MAX: usize = 400;

/// Which Prometheus is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    /// 3.14, with its experimental parts.
    New,
    /// Debian's 2.42.
    Old,
}

/// A Prometheus that takes remote writes.
struct Reference {
    _peer: Peer,
    http: Http,
    age: Age,
}

/// What is installed, the newest first.
fn programs() -> Vec<(PathBuf, Age)> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/prometheus3/prometheus");
    let named = std::env::var_os("TREFOIL_PROMETHEUS").map(PathBuf::from);
    let new = named.or_else(|| built.is_file().then_some(built)).map(|path| (path, Age::New));
    new.into_iter().chain(find_program("prometheus").map(|path| (path, Age::Old))).collect()
}

fn start(program: &Path, age: Age) -> Reference {
    let (dir, port) = (fresh_dir("fuzz"), free_port());
    std::fs::write(dir.join("prometheus.yml"), "scrape_configs: []\n").unwrap();
    let features = if age == Age::New { FEATURES } else { "promql-at-modifier" };
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg(format!("--enable-feature={features}"))
        .arg("--web.enable-remote-write-receiver");
    let peer = Peer::start(&mut command, &dir.join("prometheus.log")).unwrap();
    let http = Http::new(format!("http://127.0.0.1:{port}"));
    wait_for("the reference to be ready", Duration::from_secs(60), || {
        http.get("/-/ready", &[]).is_ok_and(|a| a.status == 200)
    });
    Reference { _peer: peer, http, age }
}

/// Ours, with the same parts of the language.
fn start_ours(name: &str) -> Server {
    let args = vec![format!("--enable-feature={FEATURES}"), "--storage.tsdb.retention.time=200y".to_owned()];
    Server::start(name, ServerOptions { args, ..ServerOptions::default() })
}

/// What is asked about a query; times in milliseconds from the begin of the data.
#[derive(Debug, Clone, Copy)]
enum Ask {
    At(i64),
    Range {
        start: i64,
        end: i64,
        step: i64,
    },
    /// How it is formatted, and its tree.
    Syntax,
}

/// The same question to both; what differs.
fn difference(reference: &Reference, ours: &Http, query: &str, ask: Ask) -> Option<String> {
    let seconds = |ms: i64| format!("{:.3}", (data::BASE_MS + ms) as f64 / 1000.0);
    let exact = reference.age == Age::New;
    let answers = |path: &str, more: &[(&str, &str)]| {
        let parameters = [&[("query", query)][..], more].concat();
        let ask = |http: &Http| http.post_form(path, &parameters).unwrap();
        (ask(&reference.http), ask(ours))
    };
    let values = |path: &str, more: &[(&str, &str)]| {
        let (theirs, ours) = answers(path, more);
        answer::difference(&Answer::read(&theirs), &Answer::read(&ours), exact)
    };
    match ask {
        Ask::At(t) => values("/api/v1/query", &[("time", &seconds(t))]),
        Ask::Range { start, end, step } => {
            let (start, end, step) = (seconds(start), seconds(end), format!("{:.3}", step as f64 / 1000.0));
            values("/api/v1/query_range", &[("start", &start), ("end", &end), ("step", &step)])
        }
        Ask::Syntax if !exact => None,
        Ask::Syntax => ["/api/v1/format_query", "/api/v1/parse_query"].into_iter().find_map(|path| {
            let (theirs, ours) = answers(path, &[]);
            let (a, b) = (theirs.json(), ours.json());
            (a != b).then(|| format!("{path}:\n    theirs {a}\n    ours   {b}"))
        }),
    }
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn seed() -> u64 {
    match std::env::var("TREFOIL_FUZZ_SEED").as_deref() {
        Ok("random") => RandomState::new().hash_one(0),
        _ => setting("TREFOIL_FUZZ_SEED").unwrap_or(1),
    }
}

/// A query and what is asked about it.
struct Case {
    node: Node,
    asks: [Ask; 3],
}

impl Case {
    fn new(number: u64, node: Node, age: Age) -> Self {
        let late = if age == Age::Old { data::OLD_QUERY_SHIFT_MS } else { 0 };
        let begin = (number.wrapping_mul(7919) % 100) as i64 * 15_000 + late;
        let step = [15_000, 60_000, 37_000, 5_000][number as usize % 4];
        // Every other range ends behind its last step.
        let behind = if number % 8 < 4 { 0 } else { (number.wrapping_mul(7013) % step as u64) as i64 };
        let range = Ask::Range { start: begin, end: begin + 20 * step + behind, step };
        Self { node, asks: [Ask::Syntax, Ask::At(begin), range] }
    }

    /// What differs, told for the simplest query that differs too.
    fn fault(&self, reference: &Reference, ours: &Http) -> Option<String> {
        let fault = |node: &Node, ask: Ask| {
            let query = node.query();
            let fault = difference(reference, ours, &query, ask)?;
            known::reason(&query, &fault, reference.age).is_none().then_some(fault)
        };
        let (ask, mut why) = self.asks.into_iter().find_map(|ask| Some((ask, fault(&self.node, ask)?)))?;
        let mut node = self.node.clone();
        let mut tries = 0;
        while let Some((simpler, fault)) = node.simpler().into_iter().find_map(|simpler| {
            tries += 1;
            (tries <= SIMPLER_MAX).then(|| fault(&simpler, ask).map(|why| (simpler, why))).flatten()
        }) {
            (node, why) = (simpler, fault);
        }
        Some(format!("{}\n  {ask:?}: {why}\n  (in {})", node.query(), self.node.query()))
    }
}

#[test]
fn random_queries_have_the_reference_answers() {
    let name = "random_queries_have_the_reference_answers";
    let count = setting("TREFOIL_FUZZ").unwrap_or(COUNT);
    if count == 0 {
        return skipped(name, "TREFOIL_FUZZ is 0");
    }
    let Some((program, age)) = programs().into_iter().next() else {
        return skipped(name, "no prometheus is installed");
    };
    let (reference, server) = (start(&program, age), start_ours("fuzz"));
    for http in [&reference.http, &server.http] {
        data::write(http, age);
    }
    let (began, seed) = (Instant::now(), seed());
    let time = setting("TREFOIL_FUZZ_MINUTES").map(|minutes: u64| Duration::from_secs(60 * minutes));
    let dialect = if age == Age::New { Dialect::New } else { Dialect::Old };
    let mut grammar = Grammar::new(seed, dialect);
    let (mut faults, mut asked, mut left_out) = (Vec::new(), 0, 0);
    while asked < count && faults.len() < TOLD_MAX && time.is_none_or(|time| began.elapsed() < time) {
        let numbers = asked..count.min(asked + BATCH);
        asked = numbers.end;
        let mut cases: Vec<Case> = numbers.map(|i| Case::new(i, grammar.query(), age)).collect();
        let made = cases.len();
        cases.retain(|case| !known::is_left_out(&case.node.query(), age));
        left_out += made - cases.len();
        let (one, other) = cases.split_at(cases.len() / 2);
        let ask = |cases: &[Case]| -> Vec<String> {
            cases.iter().filter_map(|case| case.fault(&reference, &server.http)).collect()
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| ask(other));
            faults.extend(ask(one));
            faults.extend(other.join().unwrap());
        });
    }
    println!("{asked} queries of seed {seed} asked of the {age:?} reference but {left_out}, which are known to differ");
    let told = faults.len().min(TOLD_MAX);
    assert!(
        faults.is_empty(),
        "{} of {asked} queries of seed {seed} differ:\n{}",
        faults.len(),
        faults[..told].join("\n\n")
    );
}
