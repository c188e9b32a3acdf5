//! Random queries over random data, asked of a real Prometheus and of us through both HTTP APIs.
//!
//! Prometheus 3.14 where `make test-peers` could build it; Debian's 2.42 means too many things otherwise (NaN in date
//! functions and deviations, windows closed on the left, matches counted after the comparison, no native histograms).
//! Both answer the list of compliance queries. `TREFOIL_FUZZ` is the number of queries (without it none are asked),
//! `TREFOIL_FUZZ_SEED` where they begin, `TREFOIL_PROMETHEUS` another binary.
//!
//! Known to differ, of 2,000 queries four to eight: hints of counter resets, which Prometheus finds when it stores native
//! histograms; places of remarks about subqueries and operands in parentheses; `fill_left` with `group_right`; functions
//! with parameters over a subquery with `@ start()` or `@ end()`, where 3.14 finds nothing; which of several bad values of
//! a parameter is named.

mod answer;
mod compliance;
mod data;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use trefoil_tests::grammar::{Grammar, Node};
use trefoil_tests::server::fresh_dir;
use trefoil_tests::{Http, Peer, Server, ServerOptions, find_program, free_port, skipped, wait_for};

use self::answer::Answer;

/// Names of the experimental parts, the same for both.
const FEATURES: &str = "promql-experimental-functions,promql-extended-range-selectors,promql-binop-fill-modifiers";
/// Disagreements that are told.
const TOLD_MAX: usize = 10;

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

#[test]
fn random_queries_have_the_reference_answers() {
    let Some(count) = std::env::var("TREFOIL_FUZZ").ok().and_then(|n| n.parse::<u64>().ok()) else {
        return skipped("random_queries_have_the_reference_answers", "TREFOIL_FUZZ names no number of queries");
    };
    let Some((program, age)) = programs().into_iter().find(|(_, age)| *age == Age::New) else {
        return skipped("random_queries_have_the_reference_answers", "Prometheus 3.14 is not built");
    };
    let (reference, server) = (start(&program, age), start_ours("fuzz"));
    for http in [&reference.http, &server.http] {
        data::write(http);
    }
    let seed = std::env::var("TREFOIL_FUZZ_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut grammar = Grammar::new(seed);
    let mut faults = Vec::new();
    for i in 0..count {
        let node = grammar.query();
        let begin = (i.wrapping_mul(7919) % 100) as i64 * 15_000;
        let step = [15_000, 60_000, 37_000, 5_000][i as usize % 4];
        let range = Ask::Range { start: begin, end: begin + 20 * step, step };
        for ask in [Ask::Syntax, Ask::At(begin), range] {
            if let Some(fault) = difference(&reference, &server.http, &node.query(), ask) {
                faults.push(smallest(&reference, &server.http, &node, ask, fault));
                break;
            }
        }
        if faults.len() >= TOLD_MAX {
            break;
        }
    }
    assert!(faults.is_empty(), "seed {seed}, disagreements:\n{}", faults.join("\n\n"));
}

/// The smallest piece of a query that both still answer differently.
fn smallest(reference: &Reference, ours: &Http, node: &Node, ask: Ask, fault: String) -> String {
    let (mut query, mut why) = (node.query(), fault);
    for piece in node.smaller() {
        let text = piece.query();
        if let Some(fault) = difference(reference, ours, &text, ask) {
            (query, why) = (text, fault);
            break;
        }
    }
    format!("{query}\n  {ask:?}: {why}\n  (in {})", node.query())
}
