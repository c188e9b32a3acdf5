//! The naive evaluator: every record, every stage, every step anew.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value as Json;

use super::query::{LogQueryTree, Metric, Query, Range, Stage};
use super::{Record, SECOND, Shown};

type Labels = BTreeMap<String, String>;

/// Where a label came from, beside 0, the stream; later ones hide earlier ones.
const METADATA: usize = 1;
const PARSED: usize = 2;

/// A line on its way.
struct Line {
    text: String,
    by: [Labels; 3],
    /// Names that the stream had at the start.
    of_stream: BTreeSet<String>,
    extracted: BTreeSet<String>,
    error: Option<&'static str>,
}

impl Line {
    fn new(record: &Record) -> Self {
        let stream: Labels = record.stream.iter().cloned().collect();
        let of_stream: BTreeSet<String> = stream.keys().cloned().collect();
        let mut metadata = Labels::new();
        for (name, value) in &record.metadata {
            let name = if of_stream.contains(name) { format!("{name}_extracted") } else { name.clone() };
            metadata.entry(name).or_insert_with(|| value.clone());
        }
        let by = [stream, metadata, Labels::new()];
        Self { text: record.line.clone(), by, of_stream, extracted: BTreeSet::new(), error: None }
    }

    fn get(&self, name: &str) -> Option<&str> {
        if name == "__error__" {
            return self.error;
        }
        self.by.iter().find_map(|labels| labels.get(name)).map(String::as_str)
    }

    fn category(&self, name: &str) -> Option<usize> {
        (0..3).find(|c| self.by[*c].contains_key(name))
    }

    fn remove(&mut self, name: &str) {
        self.by.iter_mut().for_each(|labels| {
            labels.remove(name);
        });
    }

    fn set(&mut self, category: usize, name: &str, value: &str) {
        if self.by[category + 1..].iter().any(|labels| labels.contains_key(name)) {
            return;
        }
        self.remove(name);
        self.by[category].insert(name.to_owned(), value.to_owned());
    }

    /// What a parser found: the first value of a name stays; names of the stream and of metadata get a suffix.
    fn extract(&mut self, name: &str, value: &str) {
        let taken = self.of_stream.contains(name) || self.by[METADATA].contains_key(name);
        let name = if taken { format!("{name}_extracted") } else { name.to_owned() };
        if self.extracted.insert(name.clone()) {
            self.set(PARSED, &name, value);
        }
    }

    fn all(&self) -> Labels {
        let mut all: Labels = self.by.iter().flatten().map(|(n, v)| (n.clone(), v.clone())).collect();
        if let Some(error) = self.error {
            all.insert("__error__".to_owned(), error.to_owned());
        }
        all
    }
}

fn whole(pattern: &str) -> Regex {
    Regex::new(&format!("^(?:{pattern})$")).expect("a pattern of the test")
}

fn compare_text(op: &str, value: &str, wanted: &str) -> bool {
    match op {
        "=" => value == wanted,
        "!=" => value != wanted,
        "=~" => whole(wanted).is_match(value),
        "!~" => !whole(wanted).is_match(value),
        other => panic!("{other}"),
    }
}

fn compare(op: &str, a: f64, b: f64) -> bool {
    match op {
        "==" => a == b,
        "!=" => a != b,
        ">" => a > b,
        ">=" => a >= b,
        "<" => a < b,
        "<=" => a <= b,
        other => panic!("{other}"),
    }
}

fn selected(tree: &LogQueryTree, record: &Record) -> bool {
    tree.matchers.iter().all(|(name, op, wanted)| {
        let value = record.stream.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v);
        compare_text(op, value, wanted)
    })
}

/// A pattern of `<_>` and texts as a regular expression with the shortest captures.
fn pattern_matches(pattern: &str, line: &str) -> bool {
    // Texts are looked for one after the other, each at its first place; captures hold at least a byte.
    let texts: Vec<&str> = pattern.split("<_>").collect();
    let mut rest = line;
    for (i, text) in texts.iter().enumerate() {
        let (first, last) = (i == 0, i + 1 == texts.len());
        if first {
            let Some(tail) = rest.strip_prefix(text) else { return false };
            rest = tail;
            if last {
                return rest.is_empty();
            }
        } else if text.is_empty() {
            return last && !rest.is_empty();
        } else {
            match rest.find(text) {
                None | Some(0) => return false,
                Some(at) => rest = &rest[at + text.len()..],
            }
            if last {
                return rest.is_empty();
            }
        }
    }
    false
}

fn line_passes(op: &str, needles: &[String], line: &str) -> bool {
    let found = needles.iter().any(|needle| match op {
        "|=" | "!=" => {
            line.as_bytes().windows(needle.len().max(1)).any(|w| needle.is_empty() || w == needle.as_bytes())
                || needle.is_empty()
        }
        "|~" | "!~" => Regex::new(needle).expect("a pattern of the test").is_match(line),
        _ => !line.is_empty() && pattern_matches(needle, line),
    });
    found != op.starts_with('!')
}

fn scalar_text(value: &Json) -> Option<String> {
    match value {
        Json::String(s) => Some(s.clone()),
        Json::Number(n) => Some(n.to_string()),
        Json::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

fn flat(prefix: &str, object: &serde_json::Map<String, Json>, out: &mut Vec<(String, String)>) {
    for (key, value) in object {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}_{key}") };
        match value {
            Json::Object(inner) => flat(&name, inner, out),
            other => out.extend(scalar_text(other).map(|text| (name, text))),
        }
    }
}

fn json(line: &mut Line) {
    let Ok(object) = serde_json::from_str::<serde_json::Map<String, Json>>(&line.text) else {
        line.error = Some("JSONParserErr");
        return;
    };
    let mut found = Vec::new();
    flat("", &object, &mut found);
    for (name, value) in found {
        line.extract(&name, &value);
    }
}

/// `key=value key="quoted value" bare`; a pair that is none is left out up to the next blank.
fn logfmt(line: &mut Line) {
    let chars: Vec<char> = line.text.chars().collect();
    let (mut at, mut found) = (0, Vec::new());
    let blank = |c: char| c <= ' ';
    while at < chars.len() {
        if blank(chars[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < chars.len() && !blank(chars[at]) && chars[at] != '=' && chars[at] != '"' {
            at += 1;
        }
        let key: String = chars[start..at].iter().collect();
        let mut good = true;
        if at < chars.len() && chars[at] == '=' && !key.is_empty() {
            at += 1;
            let mut value = String::new();
            if chars.get(at) == Some(&'"') {
                let open = at;
                at += 1;
                while at < chars.len() && chars[at] != '"' {
                    value.push(chars[at]);
                    at += 1;
                }
                good = at < chars.len() && chars.get(at + 1).is_none_or(|c| blank(*c));
                // Behind a quote that does not end reading goes on at the next blank.
                at = if at < chars.len() { at + 1 } else { open };
            } else {
                while at < chars.len() && !blank(chars[at]) {
                    good &= chars[at] != '=' && chars[at] != '"';
                    value.push(chars[at]);
                    at += 1;
                }
            }
            if good && !value.is_empty() {
                let key = key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
                found.push((key, value));
            }
        } else if at < chars.len() && !blank(chars[at]) {
            good = false;
        }
        while !good && at < chars.len() && !blank(chars[at]) {
            at += 1;
        }
    }
    let found: Vec<(String, String)> = found;
    for (name, value) in found {
        line.extract(&name, &value);
    }
}

fn json_path(line: &mut Line, label: &str, path: &[&str]) {
    if line.text.is_empty() {
        return;
    }
    let start = line.text.trim_start().chars().next();
    if !start.is_some_and(|c| "{[\"-".contains(c) || c.is_ascii_digit()) {
        line.error = Some("JSONParserErr");
        return;
    }
    let object: Json = serde_json::from_str(&line.text).unwrap_or(Json::Null);
    let found = path.iter().try_fold(&object, |at, key| at.get(key));
    let text = match found {
        None | Some(Json::Null) => String::new(),
        Some(value) => scalar_text(value).unwrap_or_else(|| value.to_string()),
    };
    line.extract(label, &text);
}

fn first_and_last(line: &mut Line) {
    // `<first> <_> <last>`
    let text = line.text.clone();
    let Some((first, rest)) = text.split_once(' ') else {
        line.extract("first", &text);
        return;
    };
    line.extract("first", first);
    if let Some((_, last)) = rest.split_once(' ') {
        line.extract("last", last);
    }
}

fn decolorized(text: &str) -> String {
    text.replace("\u{1b}[31m", "").replace("\u{1b}[0m", "")
}

/// False: the line is dropped.
fn stage(stage: &Stage, line: &mut Line) -> bool {
    match stage {
        Stage::Line(op, needles) => return line_passes(op, needles, &line.text),
        Stage::Json => json(line),
        Stage::Logfmt => logfmt(line),
        Stage::JsonPath(label, path) => json_path(line, label, path),
        Stage::Regexp => {
            let regex = Regex::new(r"(?-u:([0-9A-Za-z_]+) ([0-9A-Za-z_]+))").expect("a constant");
            let text = line.text.clone();
            if let Some(found) = regex.captures(&text) {
                line.extract("first", &found[1]);
                line.extract("second", &found[2]);
            }
        }
        Stage::Pattern => first_and_last(line),
        Stage::Decolorize => line.text = decolorized(&line.text),
        Stage::Text(name, op, wanted) => return compare_text(op, line.get(name).unwrap_or(""), wanted),
        Stage::Number(name, op, wanted) => {
            let Some(text) = line.get(name) else { return false };
            match text.parse::<f64>() {
                Ok(value) => return compare(op, value, *wanted),
                Err(_) => line.error = Some("LabelFilterErr"),
            }
        }
        Stage::Two(either, (a, x), (b, y)) => {
            let (a, b) = (line.get(a).unwrap_or("") == x, line.get(b).unwrap_or("") == y);
            return if *either { a || b } else { a && b };
        }
        Stage::LineFormat(a, b) => {
            let (a, b) = (line.get(a).unwrap_or(""), line.get(b).unwrap_or(""));
            line.text = format!("{a} [{b}] {}", line.text);
        }
        Stage::Rename(target, source) => {
            if let Some(category) = line.category(source) {
                let value = line.get(source).unwrap_or("").to_owned();
                line.set(category, target, &value);
                line.remove(source);
            }
        }
        Stage::Template(target, source) => {
            // Letter by letter, as in Go.
            let upper =
                |c: char| Some(c.to_uppercase()).filter(|u| u.len() == 1).and_then(|mut u| u.next()).unwrap_or(c);
            let value = format!("{}!", line.get(source).unwrap_or("").chars().map(upper).collect::<String>());
            line.set(PARSED, target, &value);
        }
        Stage::Drop(names) => names.iter().for_each(|name| line.remove(name)),
        Stage::Keep(names) => {
            for labels in &mut line.by {
                labels.retain(|name, _| names.contains(&name.as_str()));
            }
        }
    }
    true
}

fn processed(tree: &LogQueryTree, record: &Record) -> Option<Line> {
    let mut line = Line::new(record);
    tree.stages.iter().all(|s| stage(s, &mut line)).then_some(line)
}

fn lines(tree: &LogQueryTree, records: &[Record], start: i64, end: i64) -> Vec<(i64, Line)> {
    let inside = records.iter().filter(|r| r.time_ns >= start && r.time_ns < end && selected(tree, r));
    inside.filter_map(|r| Some((r.time_ns, processed(tree, r)?))).collect()
}

type Vector = BTreeMap<Labels, f64>;

struct Refused;

/// The answer of the naive side.
pub(crate) fn evaluate(query: &Query, records: &[Record]) -> Shown {
    match query {
        Query::Log { tree, backward, start_ns, end_ns, limit } => {
            let mut found: Vec<_> = lines(tree, records, *start_ns, *end_ns)
                .into_iter()
                .map(|(t, l)| (t, l.text.clone(), l.all()))
                .collect();
            found.sort_by_key(|(t, ..)| if *backward { -t } else { *t });
            if *limit > 0 {
                found.truncate(*limit);
            }
            Shown::Lines(super::without_last_time(found, *limit))
        }
        Query::Metric { metric, start_ns, step_ns, steps } => {
            let mut all: BTreeMap<Labels, BTreeMap<i64, f64>> = BTreeMap::new();
            for step in 0..*steps as i64 {
                let at = start_ns + step * step_ns;
                match vector(metric, records, at) {
                    Ok(found) => found.into_iter().for_each(|(labels, value)| {
                        all.entry(labels).or_default().insert(at, value);
                    }),
                    Err(Refused) => return Shown::Refused,
                }
            }
            Shown::Series(all).loosened(query)
        }
    }
}

fn without_empty(labels: Labels) -> Labels {
    labels.into_iter().filter(|(_, v)| !v.is_empty()).collect()
}

fn group(labels: &Labels, grouping: &Option<(bool, Vec<&'static str>)>) -> Labels {
    let Some((without, names)) = grouping else { return Labels::new() };
    labels
        .iter()
        .filter(|(name, _)| names.contains(&name.as_str()) != *without)
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect()
}

/// Whether the result of a range aggregation needs no label, so that parsers alone are left out with their errors.
fn needs_no_label(range: &Range, outer: Option<&Option<(bool, Vec<&'static str>)>>) -> bool {
    let empty =
        |g: &Option<(bool, Vec<&'static str>)>| g.as_ref().is_some_and(|(without, names)| !without && names.is_empty());
    let parsers = range.log.stages.iter().all(|s| {
        matches!(
            s,
            Stage::Line(..) | Stage::Json | Stage::Logfmt | Stage::JsonPath(..) | Stage::Regexp | Stage::Pattern
        )
    });
    let grouped = match (&range.grouping, outer) {
        (Some(_), _) => empty(&range.grouping),
        (None, Some(outer)) => outer.is_none() || empty(outer),
        (None, None) => false,
    };
    range.unwrap.is_none() && parsers && !range.without_errors && (grouped || range.function == "absent_over_time")
}

fn range(range: &Range, records: &[Record], at: i64, bare: bool) -> Result<Vector, Refused> {
    let end = at - range.offset_s * SECOND;
    let start = end - range.range_s * SECOND;
    let mut groups: BTreeMap<Labels, Vec<(i64, f64)>> = BTreeMap::new();
    let mut inside = lines(&range.log, records, start + 1, end + 1);
    inside.sort_by_key(|(t, _)| *t);
    for (time, mut line) in inside {
        let mut value = line.text.len() as f64;
        if let Some(label) = range.unwrap {
            let Some(text) = line.get(label).filter(|t| !t.is_empty()).map(str::to_owned) else { continue };
            match text.parse() {
                Ok(number) => value = number,
                Err(_) => line.error = Some("SampleExtractionErr"),
            }
        }
        if range.without_errors && line.error.is_some() {
            continue;
        }
        if line.error.is_some() && !bare {
            return Err(Refused);
        }
        let mut labels = without_empty(line.all());
        labels.remove("__error__");
        let key = match (&range.grouping, range.unwrap) {
            (Some(_), _) => group(&labels, &range.grouping),
            (None, Some(unwrapped)) => {
                labels.remove(unwrapped);
                labels
            }
            (None, None) => labels,
        };
        // Under `without` the unwrapped label is no label of the series either.
        let mut key = key;
        if let (Some((true, _)), Some(unwrapped)) = (&range.grouping, range.unwrap) {
            key.remove(unwrapped);
        }
        groups.entry(key).or_default().push((time, value));
    }
    if range.function == "absent_over_time" {
        if !groups.is_empty() {
            return Ok(Vector::new());
        }
        let mut fixed = Labels::new();
        for (name, op, value) in &range.log.matchers {
            let alone = range.log.matchers.iter().filter(|(n, ..)| n == name).count() == 1;
            if *op == "=" && alone && !value.is_empty() {
                fixed.insert((*name).to_owned(), value.clone());
            }
        }
        return Ok(Vector::from([(fixed, 1.0)]));
    }
    Ok(groups.into_iter().map(|(labels, samples)| (labels, reduced(range, &samples))).collect())
}

fn reduced(range: &Range, samples: &[(i64, f64)]) -> f64 {
    let values: Vec<f64> = samples.iter().map(|(_, v)| *v).collect();
    let (n, sum) = (values.len() as f64, values.iter().sum::<f64>());
    let seconds = range.range_s as f64;
    match range.function {
        "count_over_time" => n,
        "rate" if range.unwrap.is_none() => n / seconds,
        "rate" | "bytes_rate" => sum / seconds,
        "bytes_over_time" | "sum_over_time" => sum,
        "avg_over_time" => sum / n,
        "min_over_time" => values.iter().copied().fold(f64::INFINITY, f64::min),
        "max_over_time" => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "stdvar_over_time" => variance(&values),
        "stddev_over_time" => variance(&values).sqrt(),
        "first_over_time" => values[0],
        "last_over_time" => values[values.len() - 1],
        "quantile_over_time" => {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let rank = range.quantile.expect("it has one") * (n - 1.0);
            let (low, high) = (rank.floor() as usize, rank.ceil() as usize);
            sorted[low] + (sorted[high] - sorted[low]) * (rank - rank.floor())
        }
        other => panic!("{other}"),
    }
}

fn variance(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64
}

fn operated(op: &str, a: f64, b: f64) -> f64 {
    match op {
        "+" => a + b,
        "-" => a - b,
        "*" => a * b,
        "/" if b == 0.0 => f64::NAN,
        "/" => a / b,
        other => panic!("{other}"),
    }
}

fn vector(metric: &Metric, records: &[Record], at: i64) -> Result<Vector, Refused> {
    match metric {
        Metric::Range(r) => range(r, records, at, needs_no_label(r, None)),
        Metric::Aggregate(function, grouping, inner) => {
            // A sum of counts needs only the labels of its groups.
            let inner = match &**inner {
                Metric::Range(r)
                    if *function == "sum"
                        && matches!(
                            r.function,
                            "count_over_time" | "rate" | "bytes_over_time" | "bytes_rate" | "sum_over_time"
                        ) =>
                {
                    // The lines are grouped at once, so that `by` may name the unwrapped label.
                    let bare = needs_no_label(r, Some(grouping));
                    let grouped = Range { grouping: grouping.clone().or(Some((false, Vec::new()))), ..r.clone() };
                    range(&grouped, records, at, bare)?
                }
                other => vector(other, records, at)?,
            };
            let mut groups: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
            for (labels, value) in inner {
                groups.entry(group(&labels, grouping)).or_default().push(value);
            }
            Ok(groups
                .into_iter()
                .map(|(labels, values)| {
                    let (n, sum) = (values.len() as f64, values.iter().sum::<f64>());
                    let folded = |f: fn(f64, f64) -> f64| values.iter().copied().fold(f64::NAN, f);
                    let value = match *function {
                        "sum" => sum,
                        "avg" => sum / n,
                        "count" => n,
                        "min" => folded(f64::min),
                        "max" => folded(f64::max),
                        "stdvar" => variance(&values),
                        "stddev" => variance(&values).sqrt(),
                        other => panic!("{other}"),
                    };
                    (labels, value)
                })
                .collect())
        }
        Metric::Top(top, k, inner) => {
            let mut all: Vec<(Labels, f64)> = vector(inner, records, at)?.into_iter().collect();
            let order = |v: f64| {
                if v.is_nan() {
                    f64::INFINITY
                } else if *top {
                    -v
                } else {
                    v
                }
            };
            all.sort_by(|a, b| order(a.1).total_cmp(&order(b.1)));
            all.truncate(*k);
            Ok(all.into_iter().collect())
        }
        Metric::Scalar(op, n, left, inner) => {
            let inner = vector(inner, records, at)?;
            Ok(inner
                .into_iter()
                .filter_map(|(labels, value)| {
                    let (a, b) = if *left { (*n, value) } else { (value, *n) };
                    if matches!(*op, ">" | "<=" | "==") {
                        return compare(op, a, b).then_some((labels, value));
                    }
                    Some((labels, operated(op, a, b)))
                })
                .collect())
        }
        Metric::Binary(op, a, b) => {
            let (a, b) = (vector(a, records, at)?, vector(b, records, at)?);
            Ok(match *op {
                "and" => a.into_iter().filter(|(l, _)| b.contains_key(l)).collect(),
                "unless" => a.into_iter().filter(|(l, _)| !b.contains_key(l)).collect(),
                "or" => b.into_iter().chain(a).collect(),
                op => a.into_iter().filter_map(|(l, v)| Some((l.clone(), operated(op, v, *b.get(&l)?)))).collect(),
            })
        }
        Metric::Replace(target, source, inner) => {
            let mut out = Vector::new();
            for (mut labels, value) in vector(inner, records, at)? {
                let text = labels.get(*source).cloned().unwrap_or_default();
                if let Some(first) = text.chars().next() {
                    labels.insert((*target).to_owned(), format!("{first}-x"));
                }
                out.insert(labels, value);
            }
            Ok(out)
        }
    }
}
