//! The query DSL against a naive evaluation, over random records and random queries; with what is narrowed, ordered and
//! paged on the way.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use trefoil_model::AttributeValue;

use crate::memory::{MemoryLogs, NOW_MS, record};

const WORDS: [&str; 8] = ["error", "Timeout", "refused", "GET", "ok", "retry", "disk7", "x"];
const FIELDS: [&str; 6] = ["service.name", "env", "user", "status", "ms", "tags"];
const VALUES: [&str; 8] = ["a", "b", "shop", "Shop", "200", "500", "1.5", "true"];

/// Fields with their values as texts, and `message`.
type Doc = BTreeMap<&'static str, Vec<String>>;

fn pick<'a>(rng: &mut StdRng, of: &[&'a str]) -> &'a str {
    of[rng.random_range(0..of.len())]
}

fn random_docs(rng: &mut StdRng) -> (MemoryLogs, Vec<(i64, Doc)>) {
    let mut logs = MemoryLogs::default();
    let mut docs = Vec::new();
    // In some runs every stream has the label, so that conditions on it become matchers.
    let always_named: bool = rng.random();
    for _ in 0..rng.random_range(1..40) {
        let time_ms = NOW_MS - rng.random_range(0..20i64) * 500;
        let mut doc = Doc::new();
        let mut stream = Vec::new();
        if always_named || rng.random() {
            stream.push(("service.name", pick(rng, &VALUES)));
        }
        if rng.random() {
            stream.push(("env", pick(rng, &VALUES)));
        }
        for (name, value) in &stream {
            doc.insert(name, vec![(*value).to_owned()]);
        }
        let text: Vec<&str> = (0..rng.random_range(0..5)).map(|_| pick(rng, &WORDS)).collect();
        let mut attributes = Vec::new();
        for name in FIELDS {
            if rng.random_bool(0.6) {
                continue;
            }
            let (value, texts) = match (name, rng.random_range(0..3)) {
                ("tags", _) => {
                    let all: Vec<&str> = (0..rng.random_range(1..3)).map(|_| pick(rng, &VALUES)).collect();
                    let list = all.iter().map(|v| AttributeValue::String((*v).to_owned())).collect();
                    (AttributeValue::Array(list), all.iter().map(|v| (*v).to_owned()).collect())
                }
                ("status", 0 | 1) => {
                    let n = rng.random_range(1..4) * 100;
                    (AttributeValue::Int(n), vec![n.to_string()])
                }
                ("ms", 0 | 1) => {
                    let n = f64::from(rng.random_range(0..6)) / 2.0;
                    (AttributeValue::Double(n), vec![n.to_string()])
                }
                _ => {
                    let value = pick(rng, &VALUES);
                    (AttributeValue::String(value.to_owned()), vec![value.to_owned()])
                }
            };
            attributes.push((name, value));
            // A label hides it.
            doc.entry(name).or_insert(texts);
        }
        doc.insert("message", vec![text.join(" ")]);
        logs.push(&stream, record(time_ms * 1_000_000, &text.join(" "), &attributes));
        docs.push((time_ms, doc));
    }
    (logs, docs)
}

type Predicate = Box<dyn Fn(i64, &Doc) -> bool>;

fn words(doc: &Doc) -> Vec<String> {
    doc["message"][0].split(' ').filter(|w| !w.is_empty()).map(str::to_lowercase).collect()
}

fn equal(value: &str, wanted: &str) -> bool {
    value == wanted
        || matches!((value.parse::<f64>(), wanted.parse::<f64>()), (Ok(a), Ok(b)) if a == b && value == wanted)
}

fn field(name: &'static str, test: impl Fn(&str) -> bool + 'static) -> Predicate {
    Box::new(move |_, doc| doc.get(name).is_some_and(|values| values.iter().any(|v| test(v))))
}

fn random_query(rng: &mut StdRng, depth: usize) -> (Value, Predicate) {
    let name = FIELDS[rng.random_range(0..FIELDS.len())];
    let value = pick(rng, &VALUES);
    let word = pick(rng, &WORDS);
    let lower = word.to_lowercase();
    match rng.random_range(0..if depth == 0 { 12 } else { 16 }) {
        0 => (json!({"term": {name: value}}), field(name, move |v| equal(v, value))),
        1 => {
            let list = [value, pick(rng, &VALUES)];
            (json!({"terms": {name: list}}), field(name, move |v| list.iter().any(|w| equal(v, w))))
        }
        2 => (json!({"match": {"message": word}}), Box::new(move |_, doc| words(doc).contains(&lower))),
        3 => {
            let other = pick(rng, &WORDS);
            let query = json!({"match": {"message": {"query": format!("{word} {other}"), "operator": "and"}}});
            let other = other.to_lowercase();
            (query, Box::new(move |_, doc| words(doc).contains(&lower) && words(doc).contains(&other)))
        }
        4 => {
            let other = pick(rng, &WORDS);
            let pair = [lower, other.to_lowercase()];
            let query = json!({"match_phrase": {"message": format!("{word} {other}")}});
            (query, Box::new(move |_, doc| words(doc).windows(2).any(|w| w == pair)))
        }
        5 => {
            let (low, high) = (f64::from(rng.random_range(0..3)) * 100.0, 300.0);
            let query = json!({"range": {"status": {"gt": low, "lte": high}}});
            (
                query,
                field("status", move |v| match v.parse::<f64>() {
                    Ok(n) => low < n && n <= high,
                    Err(_) => v > format!("{low:?}").as_str() && v <= "300.0",
                }),
            )
        }
        6 => (json!({"exists": {"field": name}}), field(name, |_| true)),
        7 => (json!({"prefix": {name: &value[..1]}}), field(name, move |v| v.starts_with(&value[..1]))),
        8 => {
            let start = lower[..1].to_owned();
            let query = json!({"query_string": {"query": format!("message:{}*", &word[..1])}});
            (query, Box::new(move |_, doc| words(doc).iter().any(|w| w.starts_with(&start))))
        }
        9 => {
            let query = json!({"query_string": {"query": format!("{name}:\"{value}\"")}});
            (query, field(name, move |v| equal(v, value)))
        }
        10 => {
            let from = NOW_MS - rng.random_range(0..20i64) * 500;
            (json!({"range": {"@timestamp": {"gte": from, "format": "epoch_millis"}}}), Box::new(move |t, _| t >= from))
        }
        11 => {
            let end = lower[lower.len() - 1..].to_owned();
            let query = json!({"wildcard": {"message": format!("*{end}")}});
            (query, Box::new(move |_, doc| words(doc).iter().any(|w| w.ends_with(&end))))
        }
        12 | 13 => {
            let mut parts: BTreeMap<&str, (Vec<Value>, Vec<Predicate>)> = BTreeMap::new();
            for kind in ["must", "filter", "should", "must_not"] {
                for _ in 0..rng.random_range(0..3) {
                    let (query, predicate) = random_query(rng, depth - 1);
                    let part = parts.entry(kind).or_default();
                    part.0.push(query);
                    part.1.push(predicate);
                }
            }
            let count = parts.get("should").map_or(0, |p| p.0.len());
            let mut body = json!({});
            for (kind, (queries, _)) in &parts {
                body[*kind] = json!(queries);
            }
            let has_must = parts.contains_key("must") || parts.contains_key("filter");
            let mut min = usize::from(!has_must && count > 0);
            if rng.random_bool(0.3) {
                min = rng.random_range(0..count + 1);
                body["minimum_should_match"] = json!(min);
            }
            let mut take = |kind: &str| parts.remove(kind).map(|p| p.1).unwrap_or_default();
            let (must, filter, should, must_not) = (take("must"), take("filter"), take("should"), take("must_not"));
            let predicate = move |t: i64, doc: &Doc| {
                must.iter().chain(&filter).all(|p| p(t, doc))
                    && !must_not.iter().any(|p| p(t, doc))
                    && should.iter().filter(|p| p(t, doc)).count() >= min
            };
            (json!({ "bool": body }), Box::new(predicate))
        }
        14 => {
            let (inner, predicate) = random_query(rng, depth - 1);
            (json!({"constant_score": {"filter": inner}}), predicate)
        }
        _ => {
            let query = json!({"query_string": {"query": format!("NOT message:{word} AND {name}:{value}")}});
            let has = field(name, move |v| equal(v, value));
            (query, Box::new(move |t, doc| !words(doc).contains(&lower) && has(t, doc)))
        }
    }
}

#[test]
fn answers_equal_a_naive_evaluation() {
    let mut rng = StdRng::seed_from_u64(20_260_101);
    for round in 0..400 {
        let (logs, docs) = random_docs(&mut rng);
        for _ in 0..12 {
            let (query, predicate) = random_query(&mut rng, 3);
            // Newest first; of one time, what came last.
            let mut want: Vec<(i64, usize)> =
                docs.iter().enumerate().filter(|(_, (t, d))| predicate(*t, d)).map(|(at, (t, _))| (*t, at)).collect();
            want.sort_unstable();
            want.reverse();
            let all =
                logs.ask("", json!({"query": query, "size": 100, "sort": [{"@timestamp": "desc"}, {"_doc": "desc"}]}));
            let positions = |answer: &Value| -> Vec<(i64, usize)> {
                let hits = answer["hits"]["hits"].as_array().unwrap_or_else(|| panic!("{query}: {answer}"));
                hits.iter()
                    .map(|hit| {
                        let sequence = &hit["_id"].as_str().unwrap()[16..];
                        (hit["sort"][0].as_i64().unwrap(), usize::from_str_radix(sequence, 16).unwrap() - 1)
                    })
                    .collect()
            };
            let got = positions(&all);
            assert_eq!(got, want, "round {round}: {query}\n{docs:?}");
            assert_eq!(all["hits"]["total"]["value"], json!(want.len()), "{query}");
            // A page below the first hits.
            if let Some(after) = all["hits"]["hits"].get(2).map(|h| h["sort"].clone()) {
                let page = logs.ask("", json!({
                    "query": query, "size": 4, "sort": [{"@timestamp": "desc"}, {"_doc": "desc"}], "search_after": after,
                }));
                let want: Vec<_> = want.iter().skip(3).take(4).copied().collect();
                assert_eq!(positions(&page), want, "round {round}: {query}");
            }
            let counted = logs.ask("", json!({"query": query, "size": 0, "aggs": {"t": {"terms": {"field": "service.name", "missing": "none"}}}}));
            let buckets = counted["aggregations"]["t"]["buckets"].as_array().unwrap();
            let sum: u64 = buckets.iter().map(|b| b["doc_count"].as_u64().unwrap()).sum();
            assert_eq!(sum as usize, want.len(), "{query}");
        }
    }
}
