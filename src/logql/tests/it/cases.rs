//! All cases of `conformance/logql`. Those in `known_failures.txt` must fail, all others must pass.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value as Json;
use trefoil_logql::{Engine, Error, InstantQuery, Output, RangeQuery, StreamResult, format_query};
use trefoil_model::{AttributeValue, Direction, Labels, LogGroup, LogRecord, TenantId, Unlimited};
use trefoil_template::go_time::parse_duration;

use crate::memory_reader::MemoryReader;

/// 2024-03-01T00:00:00Z
const EPOCH_NS: i64 = 1_709_251_200_000_000_000;

type Pairs = BTreeMap<String, String>;

fn time(offset: &Json) -> i64 {
    EPOCH_NS + duration(offset)
}

fn duration(text: &Json) -> i64 {
    let text = text.as_str().expect("a duration");
    parse_duration(text).unwrap_or_else(|| panic!("duration {text}"))
}

fn text(value: &Json) -> String {
    match value {
        Json::String(s) => s.clone(),
        other => other.to_string(),
    }
}

fn pairs(value: &Json) -> Pairs {
    value.as_object().into_iter().flatten().map(|(n, v)| (n.clone(), text(v))).collect()
}

fn load(data: &Json) -> MemoryReader {
    let streams = data["streams"].as_array().expect("streams");
    let groups = streams
        .iter()
        .map(|stream| LogGroup {
            stream: Labels::from_pairs(pairs(&stream["labels"])),
            shared: Arc::default(),
            records: stream["entries"].as_array().expect("entries").iter().map(record).collect(),
        })
        .collect();
    MemoryReader { groups }
}

fn record(entry: &Json) -> LogRecord {
    LogRecord {
        time_ns: time(&entry["at"]),
        observed_ns: 0,
        severity_number: 0,
        severity_text: String::new(),
        text: text(&entry["line"]),
        attributes: pairs(&entry["meta"]).into_iter().map(|(n, v)| (n, AttributeValue::String(v))).collect(),
        trace_id: None,
        span_id: None,
    }
}

fn labels_differ(got: &Pairs, want: &Pairs) -> bool {
    got.len() != want.len()
        || want.iter().any(|(n, v)| match got.get(n) {
            Some(text) => {
                if v == "*" {
                    text.is_empty()
                } else {
                    text != v
                }
            }
            None => true,
        })
}

fn close(got: f64, want: &Json) -> bool {
    let want = match want {
        Json::String(s) => s.trim_start_matches('+').parse().expect("a number"),
        other => other.as_f64().expect("a number"),
    };
    got.is_nan() && want.is_nan() || got == want || (got - want).abs() <= 1e-9 * want.abs()
}

struct Case<'a> {
    data: &'a Json,
    body: &'a Json,
}

impl Case<'_> {
    fn run(&self) -> Result<Output, Error> {
        let reader = load(self.data);
        let query = self.body["query"].as_str().expect("a query");
        let tenant = TenantId(0);
        let answer = if let Some(at) = self.body["instant"].get("at") {
            Engine::instant(&InstantQuery { query, time_ns: time(at), tenant }, &reader, &Unlimited)
        } else {
            let log = &self.body["log"];
            let range = &self.body["range"];
            let mode = if log.is_null() { range } else { log };
            let (start_ns, end_ns) =
                if mode.is_null() { (EPOCH_NS, EPOCH_NS) } else { (time(&mode["from"]), time(&mode["to"])) };
            let request = RangeQuery {
                query,
                start_ns,
                end_ns,
                step_ns: mode.get("step").map_or(0, duration),
                direction: match mode["direction"].as_str() {
                    Some("backward") => Direction::Backward,
                    _ => Direction::Forward,
                },
                limit: mode["limit"].as_u64().unwrap_or(0) as usize,
                tenant,
            };
            Engine::range(&request, &reader, &Unlimited)
        };
        answer.map(|a| a.output)
    }

    fn check(&self) -> Result<(), String> {
        let expect = &self.body["expect"];
        let got = self.run();
        if let Some(error) = expect.get("error") {
            let status = error["status"].as_u64().unwrap_or(500);
            return match got {
                Ok(_) => Err("was not refused".to_owned()),
                Err(e) if u64::from(e.status()) != status => Err(format!("status {} for {e}", e.status())),
                Err(_) => Ok(()),
            };
        }
        let output = got.map_err(|e| e.to_string())?;
        if let Some(want) = expect.get("entries") {
            let Output::Streams(streams) = output else { return Err("no streams".to_owned()) };
            return self.entries(&streams, want.as_array().expect("a list"));
        }
        if let Some(want) = expect.get("scalar") {
            return match output {
                Output::Scalar { value, .. } if close(value, want) => Ok(()),
                other => Err(format!("got {other:?}")),
            };
        }
        if let Some(want) = expect.get("vector") {
            let Output::Vector { samples, .. } = output else { return Err("no vector".to_owned()) };
            let mut got: Vec<(Pairs, f64)> = samples.iter().map(|s| (to_pairs(&s.labels), s.value)).collect();
            let mut want: Vec<(Pairs, &Json)> =
                want.as_array().expect("a list").iter().map(|s| (pairs(&s["labels"]), &s["value"])).collect();
            if expect["ordered"] != true {
                got.sort_by(|a, b| a.0.cmp(&b.0));
                want.sort_by(|a, b| a.0.cmp(&b.0));
            }
            let same = got.len() == want.len() && got.iter().zip(&want).all(|(g, w)| g.0 == w.0 && close(g.1, w.1));
            return if same { Ok(()) } else { Err(format!("got {got:?}")) };
        }
        let Output::Matrix(series) = output else { return Err("no matrix".to_owned()) };
        self.matrix(&series, expect["matrix"].as_array().expect("a list"))
    }

    fn matrix(&self, got: &[trefoil_logql::MatrixSeries], want: &[Json]) -> Result<(), String> {
        let range = &self.body["range"];
        let (from, step) = (time(&range["from"]), duration(&range["step"]));
        let got: BTreeMap<Pairs, BTreeMap<i64, f64>> =
            got.iter().map(|s| (to_pairs(&s.labels), s.points.iter().copied().collect())).collect();
        let same = got.len() == want.len()
            && want.iter().all(|series| {
                let Some(points) = got.get(&pairs(&series["labels"])) else { return false };
                let values = series["values"].as_array().expect("a list");
                values.iter().enumerate().all(|(i, want)| {
                    let point = points.get(&(from + step * i as i64));
                    match (point, want) {
                        (None, Json::Null) => true,
                        (Some(v), want) if !want.is_null() => close(*v, want),
                        _ => false,
                    }
                })
            });
        if same { Ok(()) } else { Err(format!("got {got:?}")) }
    }

    fn entries(&self, streams: &[StreamResult], want: &[Json]) -> Result<(), String> {
        let mut got: Vec<(&StreamResult, &trefoil_logql::Entry)> =
            streams.iter().flat_map(|s| s.entries.iter().map(move |e| (s, e))).collect();
        got.sort_by_key(|(_, e)| e.ts_ns);
        if self.body["log"]["direction"] == "backward" {
            got.reverse();
        }
        let shown = || got.iter().map(|(s, e)| format!("\n    {} {e:?}", s.labels)).collect::<String>();
        if got.len() != want.len() {
            return Err(format!("{} entries instead of {}:{}", got.len(), want.len(), shown()));
        }
        for ((stream, entry), want) in got.iter().zip(want) {
            let reference = want.as_str().or(want["ref"].as_str()).expect("a reference");
            let (id, index) = reference.split_once('#').expect("stream#index");
            let source = self.data["streams"].as_array().expect("streams").iter().find(|s| s["id"] == id).expect("id");
            let loaded = &source["entries"][index.parse::<usize>().expect("index")];
            let line = want.get("line").unwrap_or(&loaded["line"]);
            let stream_pairs = to_pairs(&stream.labels);
            let (meta, parsed): (Pairs, Pairs) =
                (entry.structured_metadata.iter().cloned().collect(), entry.parsed.iter().cloned().collect());
            let mut all = stream_pairs.clone();
            all.extend(meta.clone());
            all.extend(parsed.clone());
            let wanted = want.get("labels").map(pairs).unwrap_or_else(|| {
                let mut labels = pairs(&source["labels"]);
                for (name, value) in pairs(&loaded["meta"]) {
                    let name = if labels.contains_key(&name) { format!("{name}_extracted") } else { name };
                    labels.insert(name, value);
                }
                labels
            });
            let categories = want.get("categories");
            let miscategorised = categories.is_some_and(|c| {
                stream_pairs != pairs(&c["stream"]) || meta != pairs(&c["meta"]) || parsed != pairs(&c["parsed"])
            });
            let wrong = entry.ts_ns != time(&loaded["at"])
                || entry.line != text(line)
                || (labels_differ(&all, &wanted) && (categories.is_none() || want.get("labels").is_some()))
                || miscategorised;
            if wrong {
                return Err(format!("{reference}: wanted {line} {wanted:?} {categories:?}, got{}", shown()));
            }
        }
        Ok(())
    }
}

fn to_pairs(labels: &Labels) -> Pairs {
    labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

#[test]
fn conformance_cases() {
    let root = std::env::var("TREFOIL_CONFORMANCE")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/conformance").to_owned());
    let directory = PathBuf::from(root).join("logql");
    if !directory.exists() {
        println!("skipped: logql conformance cases");
        return;
    }
    let known: BTreeSet<&str> = include_str!("../known_failures.txt")
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| l.split_whitespace().next().expect("an id"))
        .collect();
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 8, "case files");
    let (mut complaints, mut run, mut seen) = (Vec::new(), 0, BTreeSet::new());
    for path in files {
        let source = std::fs::read_to_string(&path).expect("readable");
        let document: Json = serde_saphyr::from_str(&source).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let empty = serde_json::json!({"streams": []});
        for body in document["cases"].as_array().expect("cases") {
            let id = body["id"].as_str().expect("an id");
            let data = body["dataset"].as_str().map_or(&empty, |name| &document["datasets"][name]);
            run += 1;
            if let Ok(text) = format_query(body["query"].as_str().unwrap_or_default())
                && format_query(&text).ok().as_ref() != Some(&text)
            {
                complaints.push(format!("{id}: not stable in canonical form: {text}"));
            }
            seen.insert(id.to_owned());
            match (Case { data, body }.check(), known.contains(id)) {
                (Ok(()), true) => complaints.push(format!("{id}: passes now, take it out of known_failures.txt")),
                (Err(why), false) => complaints.push(format!("{id}: {}\n    {why}", body["query"])),
                _ => {}
            }
        }
    }
    complaints.extend(known.iter().filter(|id| !seen.contains(**id)).map(|id| format!("{id}: no such case")));
    assert!(run > 200, "{run} cases");
    assert!(complaints.is_empty(), "{} of {run} cases:\n{}", complaints.len(), complaints.join("\n"));
}
