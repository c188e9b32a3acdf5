//! Queries as trees of the test's own, with their text.

use std::fmt;

use super::{END, Random, Record, SECOND, SPAN_SECONDS};

/// Names that labels of the data may have.
const NAMES: [&str; 12] = [
    "app",
    "env",
    "level",
    "user",
    "status",
    "took",
    "trace_id",
    "http_status",
    "http_path",
    "msg",
    "user_extracted",
    "app_extracted",
];

/// A selector with stages.
#[derive(Debug, Clone)]
pub(crate) struct LogQueryTree {
    /// Name, operator, value.
    pub(crate) matchers: Vec<(&'static str, &'static str, String)>,
    pub(crate) stages: Vec<Stage>,
}

/// A stage.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// Operator and alternatives.
    Line(&'static str, Vec<String>),
    Json,
    Logfmt,
    /// Label and member names.
    JsonPath(&'static str, Vec<&'static str>),
    /// `(?P<first>\w+) (?P<second>\w+)`
    Regexp,
    /// `<first> <_> <last>`
    Pattern,
    Decolorize,
    /// Name, operator, text.
    Text(&'static str, &'static str, String),
    /// Name, operator, number.
    Number(&'static str, &'static str, f64),
    /// Two text conditions, joined by `or` when true, else by `and`.
    Two(bool, (&'static str, String), (&'static str, String)),
    /// `{{.a}} [{{.b}}] {{__line__}}`
    LineFormat(&'static str, &'static str),
    /// Target and source label.
    Rename(&'static str, &'static str),
    /// Target, and the label whose upper case text it gets with `!` behind.
    Template(&'static str, &'static str),
    Drop(Vec<&'static str>),
    Keep(Vec<&'static str>),
}

/// A metric expression.
#[derive(Debug, Clone)]
pub(crate) enum Metric {
    Range(Range),
    /// Function, by (false) or without (true) labels, inner.
    Aggregate(&'static str, Option<(bool, Vec<&'static str>)>, Box<Metric>),
    /// k of `topk` or `bottomk`.
    Top(bool, usize, Box<Metric>),
    /// Operator, number, whether the number stands left, inner.
    Scalar(&'static str, f64, bool, Box<Metric>),
    /// Operator between two.
    Binary(&'static str, Box<Metric>, Box<Metric>),
    /// `label_replace(inner, "dst", "$1-x", "src", "(.)(.*)")`
    Replace(&'static str, &'static str, Box<Metric>),
}

/// A range aggregation.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    pub(crate) function: &'static str,
    pub(crate) quantile: Option<f64>,
    pub(crate) log: LogQueryTree,
    pub(crate) unwrap: Option<&'static str>,
    /// `__error__=""` behind it.
    pub(crate) without_errors: bool,
    pub(crate) range_s: i64,
    pub(crate) offset_s: i64,
    pub(crate) grouping: Option<(bool, Vec<&'static str>)>,
}

/// A query with its times.
#[derive(Debug, Clone)]
pub(crate) enum Query {
    Log {
        tree: LogQueryTree,
        limit: usize,
        backward: bool,
        start_ns: i64,
        end_ns: i64,
    },
    /// `step_ns` 0: an instant query.
    Metric {
        metric: Metric,
        start_ns: i64,
        step_ns: i64,
        steps: usize,
    },
}

fn quoted(text: &str) -> String {
    if text.contains('`') { format!("{text:?}") } else { format!("`{text}`") }
}

impl fmt::Display for LogQueryTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matchers: Vec<String> =
            self.matchers.iter().map(|(name, op, value)| format!("{name}{op}{}", quoted(value))).collect();
        write!(f, "{{{}}}", matchers.join(", "))?;
        for (i, stage) in self.stages.iter().enumerate() {
            let before = i.checked_sub(1).map(|i| &self.stages[i]);
            if matches!((before, stage), (Some(Stage::Drop(_) | Stage::Keep(_)), Stage::Line("!=" | "!~", _))) {
                // `drop a != "x"` would be a condition of `drop`.
                f.write_str(" |= ``")?;
            }
            write!(f, " {stage}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(op, needles) => {
                let needles: Vec<String> = needles.iter().map(|n| quoted(n)).collect();
                write!(f, "{op} {}", needles.join(" or "))
            }
            Self::Json => f.write_str("| json"),
            Self::Logfmt => f.write_str("| logfmt"),
            Self::JsonPath(label, path) => write!(f, "| json {label}=\"{}\"", path.join(".")),
            Self::Regexp => f.write_str(r"| regexp `(?P<first>\w+) (?P<second>\w+)`"),
            Self::Pattern => f.write_str("| pattern `<first> <_> <last>`"),
            Self::Decolorize => f.write_str("| decolorize"),
            Self::Text(name, op, value) => write!(f, "| {name}{op}{}", quoted(value)),
            Self::Number(name, op, value) => write!(f, "| {name} {op} {value}"),
            Self::Two(either, (a, x), (b, y)) => {
                let word = if *either { "or" } else { "and" };
                write!(f, "| {a}={} {word} {b}={}", quoted(x), quoted(y))
            }
            Self::LineFormat(a, b) => write!(f, "| line_format `{{{{.{a}}}}} [{{{{.{b}}}}}] {{{{__line__}}}}`"),
            Self::Rename(target, source) => write!(f, "| label_format {target}={source}"),
            Self::Template(target, source) => {
                write!(f, "| label_format {target}=`{{{{ .{source} | ToUpper }}}}!`")
            }
            Self::Drop(names) => write!(f, "| drop {}", names.join(", ")),
            Self::Keep(names) => write!(f, "| keep {}", names.join(", ")),
        }
    }
}

fn grouped(grouping: &Option<(bool, Vec<&'static str>)>) -> String {
    match grouping {
        None => String::new(),
        Some((without, names)) => format!("{} ({})", if *without { " without" } else { " by" }, names.join(", ")),
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantile = self.quantile.map_or(String::new(), |q| format!("{q}, "));
        let mut inner = self.log.to_string();
        if let Some(label) = self.unwrap {
            inner += &format!(" | unwrap {label}");
        }
        if self.without_errors {
            inner += " | __error__=\"\"";
        }
        let offset = if self.offset_s == 0 { String::new() } else { format!(" offset {}s", self.offset_s) };
        let grouping = grouped(&self.grouping);
        write!(f, "{}({quantile}{inner} [{}s]{offset}){grouping}", self.function, self.range_s)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(range) => write!(f, "{range}"),
            Self::Aggregate(function, grouping, inner) => write!(f, "{function}{} ({inner})", grouped(grouping)),
            Self::Top(top, k, inner) => write!(f, "{}({k}, {inner})", if *top { "topk" } else { "bottomk" }),
            Self::Scalar(op, n, true, inner) => write!(f, "({n} {op} {inner})"),
            Self::Scalar(op, n, false, inner) => write!(f, "({inner} {op} {n})"),
            Self::Binary(op, a, b) => write!(f, "({a} {op} {b})"),
            Self::Replace(target, source, inner) => {
                write!(f, "label_replace({inner}, \"{target}\", \"$1-x\", \"{source}\", \"(.)(.*)\")")
            }
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { tree, .. } => write!(f, "{tree}"),
            Self::Metric { metric, .. } => write!(f, "{metric}"),
        }
    }
}

impl LogQueryTree {
    fn shorter(&self) -> Vec<Self> {
        (0..self.stages.len())
            .map(|i| {
                let mut less = self.clone();
                less.stages.remove(i);
                less
            })
            .collect()
    }
}

impl Metric {
    fn shorter(&self) -> Vec<Self> {
        match self {
            Self::Range(range) => {
                range.log.shorter().into_iter().map(|log| Self::Range(Range { log, ..range.clone() })).collect()
            }
            Self::Aggregate(function, grouping, inner) => {
                let mut all = vec![(**inner).clone()];
                all.extend(
                    inner.shorter().into_iter().map(|i| Self::Aggregate(function, grouping.clone(), Box::new(i))),
                );
                all
            }
            Self::Top(_, _, inner) | Self::Scalar(_, _, _, inner) | Self::Replace(_, _, inner) => {
                vec![(**inner).clone()]
            }
            Self::Binary(_, a, b) => vec![(**a).clone(), (**b).clone()],
        }
    }
}

impl Query {
    /// The query with one thing less.
    pub(crate) fn shorter(&self) -> Vec<Self> {
        match self.clone() {
            Self::Log { tree, limit, backward, start_ns, end_ns } => {
                tree.shorter().into_iter().map(|tree| Self::Log { tree, limit, backward, start_ns, end_ns }).collect()
            }
            Self::Metric { metric, start_ns, step_ns, steps } => {
                metric.shorter().into_iter().map(|metric| Self::Metric { metric, start_ns, step_ns, steps }).collect()
            }
        }
    }
}

fn matchers(random: &mut Random) -> Vec<(&'static str, &'static str, String)> {
    let mut all = vec![match random.below(4) {
        0 => ("app", "=", random.pick(&["api", "db", "web", "none"]).to_owned()),
        1 => ("app", "=~", random.pick(&["api|db", ".+", "w.*", "."]).to_owned()),
        2 => ("env", "=", random.pick(&["dev", "prod"]).to_owned()),
        _ => ("app", "!=", String::new()),
    }];
    if random.one_in(3) {
        all.push(match random.below(3) {
            0 => ("env", "!~", "d.*".to_owned()),
            1 => ("level", "=", String::new()),
            _ => ("level", "!=", "info".to_owned()),
        });
    }
    all
}

fn line_filter(random: &mut Random, records: &[Record]) -> Stage {
    let needle = |random: &mut Random| {
        if !random.one_in(3) || records.is_empty() {
            return random
                .pick(&["timeout", "time", "ann", "status=", "größe", "500", "ou", "zzz", "10.0.0.1"])
                .to_owned();
        }
        // A piece of some line, at any place.
        let chars: Vec<char> = records[random.below(records.len())].line.chars().filter(|c| *c != '`').collect();
        let from = random.below(chars.len() + 1);
        chars[from..].iter().take(1 + random.below(12)).collect()
    };
    match random.below(8) {
        0..4 => {
            let mut needles = vec![needle(random)];
            while random.one_in(4) {
                needles.push(needle(random));
            }
            Stage::Line(random.pick(&["|=", "|=", "!="]), needles)
        }
        4..6 => {
            let patterns = ["time.?out", "^level", "(?i)ANN|BOB", "50\\d", "red.*$", "", "x{0}", "\\bstatus\\b"];
            Stage::Line(random.pick(&["|~", "!~"]), vec![random.pick(&patterns).to_owned()])
        }
        _ => {
            let patterns = ["<_>timeout<_>", "level=<_> user=<_> <_>", "<_> 10.0.0.<_>", "x", "<_>"];
            Stage::Line(random.pick(&["|>", "!>"]), vec![random.pick(&patterns).to_owned()])
        }
    }
}

fn label_filter(random: &mut Random) -> Stage {
    let values = ["ann", "info", "200", "", "t1", "api", "500"];
    match random.below(4) {
        0 => {
            let op = random.pick(&["=~", "!~"]);
            Stage::Text(random.pick(&NAMES), op, random.pick(&["a.*", "5..", "|info", ".+"]).to_owned())
        }
        1 => {
            let op = random.pick(&["==", "!=", ">", ">=", "<", "<="]);
            let name = random.pick(&["status", "took", "http_status", "user"]);
            Stage::Number(name, op, random.pick(&[200.0, 1.5, -7.0, 404.0]))
        }
        2 => {
            let one = |random: &mut Random| (random.pick(&NAMES), random.pick(&values).to_owned());
            Stage::Two(random.one_in(2), one(random), one(random))
        }
        _ => Stage::Text(random.pick(&NAMES), random.pick(&["=", "!="]), random.pick(&values).to_owned()),
    }
}

fn stages(random: &mut Random, records: &[Record]) -> Vec<Stage> {
    (0..random.below(5))
        .map(|_| match random.below(14) {
            0..4 => line_filter(random, records),
            4 => Stage::Json,
            5 => Stage::Logfmt,
            6 => match random.below(4) {
                0 => Stage::Regexp,
                1 => Stage::Pattern,
                2 => Stage::Decolorize,
                _ => Stage::JsonPath(
                    random.pick(&["status", "found"]),
                    vec!["http", random.pick(&["status", "path", "no"])],
                ),
            },
            7..10 => label_filter(random),
            10 => Stage::LineFormat(random.pick(&NAMES), random.pick(&NAMES)),
            11 => match random.one_in(2) {
                true => Stage::Rename(random.pick(&["renamed", "user", "app"]), random.pick(&NAMES)),
                false => Stage::Template(random.pick(&["made", "user", "level"]), random.pick(&NAMES)),
            },
            12 => Stage::Drop(names(random)),
            _ => Stage::Keep(names(random)),
        })
        .collect()
}

fn names(random: &mut Random) -> Vec<&'static str> {
    let mut all = vec![random.pick(&NAMES)];
    while random.one_in(2) {
        all.push(random.pick(&NAMES));
    }
    all
}

fn grouping(random: &mut Random) -> Option<(bool, Vec<&'static str>)> {
    match random.below(4) {
        0 => None,
        1 => Some((false, Vec::new())),
        _ => Some((random.one_in(3), names(random))),
    }
}

fn range(random: &mut Random, records: &[Record]) -> Range {
    let plain = ["count_over_time", "rate", "bytes_over_time", "bytes_rate", "absent_over_time"];
    let unwrapped = [
        "sum_over_time",
        "avg_over_time",
        "min_over_time",
        "max_over_time",
        "stddev_over_time",
        "stdvar_over_time",
        "first_over_time",
        "last_over_time",
        "quantile_over_time",
        "rate",
    ];
    let with_unwrap = random.one_in(2);
    let function = if with_unwrap { random.pick(&unwrapped) } else { random.pick(&plain) };
    let mut log = LogQueryTree { matchers: matchers(random), stages: stages(random, records) };
    if with_unwrap && !random.one_in(4) {
        log.stages.insert(0, if random.one_in(2) { Stage::Json } else { Stage::Logfmt });
    }
    let groups = with_unwrap && !matches!(function, "sum_over_time" | "rate");
    Range {
        function,
        quantile: (function == "quantile_over_time").then(|| random.pick(&[0.5, 0.9, 0.0, 1.0])),
        log,
        unwrap: with_unwrap.then(|| random.pick(&["status", "took", "http_status"])),
        without_errors: random.below(4) > 0,
        range_s: random.pick(&[1, 10, 30, 60, 400]),
        offset_s: random.pick(&[0, 0, 0, 20, -20]),
        grouping: groups.then(|| grouping(random)).flatten(),
    }
}

fn metric(random: &mut Random, records: &[Record], depth: usize) -> Metric {
    if depth == 0 {
        return Metric::Range(range(random, records));
    }
    let inner = |random: &mut Random| Box::new(metric(random, records, depth - 1));
    match random.below(8) {
        0..4 => {
            let functions = ["sum", "avg", "min", "max", "count", "stddev", "stdvar"];
            Metric::Aggregate(random.pick(&functions), grouping(random), inner(random))
        }
        4 | 5 => {
            let op = random.pick(&["+", "-", "*", "/", ">", "<=", "=="]);
            Metric::Scalar(op, random.pick(&[2.0, 0.0, 0.5]), random.one_in(2), inner(random))
        }
        6 => Metric::Binary(random.pick(&["or", "and", "unless", "+", "/"]), inner(random), inner(random)),
        _ => Metric::Replace("new", random.pick(&["app", "env", "user"]), inner(random)),
    }
}

/// A random query over the time of the records.
pub(crate) fn random(random: &mut Random, records: &[Record]) -> Query {
    let begin = END - SPAN_SECONDS * SECOND;
    if random.one_in(2) {
        let start = begin + random.below(200) as i64 * SECOND * i64::from(random.below(2) as i32);
        return Query::Log {
            tree: LogQueryTree { matchers: matchers(random), stages: stages(random, records) },
            limit: if random.one_in(3) { 1 + random.below(30) } else { 0 },
            backward: random.one_in(2),
            start_ns: start,
            end_ns: start + (1 + random.below(SPAN_SECONDS as usize) as i64) * SECOND,
        };
    }
    let depth = random.below(3);
    let mut metric = metric(random, records, depth);
    // Of equal values either may be taken, so nothing stands around these.
    if random.one_in(8) {
        metric = Metric::Top(random.one_in(2), 1 + random.below(3), Box::new(metric));
    }
    let start_ns = begin + random.below(SPAN_SECONDS as usize) as i64 * SECOND;
    if random.one_in(3) {
        return Query::Metric { metric, start_ns, step_ns: 0, steps: 1 };
    }
    let step_ns = random.pick(&[5, 15, 60]) * SECOND;
    Query::Metric { metric, start_ns, step_ns, steps: 1 + random.below(10) }
}
