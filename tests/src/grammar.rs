//! Random PromQL: expressions that are valid by their types, as trees, so that a failing one can be made smaller.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The type of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number a step.
    Scalar,
    /// Series with a value a step.
    Vector,
    /// Series with a range of samples a step.
    Matrix,
}

/// A piece of a query.
#[derive(Debug, Clone)]
pub struct Node {
    /// Type.
    pub kind: Kind,
    /// Text round the children: one more than those.
    text: Vec<String>,
    children: Vec<Node>,
}

impl Node {
    fn leaf(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: vec![text.into()], children: Vec::new() }
    }

    /// `{}` in the text stands for the children, one after the other.
    fn of(kind: Kind, text: &str, children: Vec<Self>) -> Self {
        let text: Vec<String> = text.split("{}").map(str::to_owned).collect();
        assert_eq!(text.len(), children.len() + 1, "{text:?}");
        Self { kind, text, children }
    }

    /// The query.
    pub fn query(&self) -> String {
        let mut out = self.text[0].clone();
        for (child, text) in self.children.iter().zip(&self.text[1..]) {
            out.push_str(&child.query());
            out.push_str(text);
        }
        out
    }

    /// All queries that are one step simpler, the shortest first: a piece is replaced by one inside it, or by the
    /// simplest of its type, or loses its modifiers.
    pub fn simpler(&self) -> Vec<Self> {
        let length = self.query().len();
        let mut all = self.variants();
        all.retain(|n| n.query().len() < length);
        all.sort_by_key(|n| n.query().len());
        all.dedup_by_key(|n| n.query());
        all
    }

    fn variants(&self) -> Vec<Self> {
        let simplest = match self.kind {
            Kind::Scalar => "1",
            Kind::Vector => "gauge",
            Kind::Matrix => "gauge[1m]",
        };
        let mut out = vec![Self::leaf(self.kind, simplest)];
        let mut open: Vec<&Self> = self.children.iter().collect();
        while let Some(node) = open.pop() {
            open.extend(&node.children);
            if node.kind == self.kind {
                out.push(node.clone());
            }
        }
        if self.children.is_empty() {
            let text = &self.text[0];
            out.extend(
                [" offset ", " @ "].iter().filter_map(|m| text.find(m)).map(|i| Self::leaf(self.kind, &text[..i])),
            );
        }
        for (i, child) in self.children.iter().enumerate() {
            for variant in child.variants() {
                let mut node = self.clone();
                node.children[i] = variant;
                out.push(node);
            }
        }
        out
    }
}

/// Which language queries are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Prometheus 3.14's, with its experimental parts.
    New,
    /// What means the same in Prometheus 2.42: without native histograms, `limitk` and `limit_ratio`, duration
    /// expressions, durations and underscores in numbers, `anchored`, `smoothed` and `fill`, newer functions and names, those that
    /// treat NaN otherwise (deviations and parts of dates), `rate` and `increase` (behind a gap at the begin of the range
    /// the zero of a counter was found elsewhere), and `predict_linear` (with `@` it had values at some steps only).
    Old,
}

/// Makes queries. The same seed gives the same queries.
#[derive(Debug)]
pub struct Grammar {
    random: StdRng,
    dialect: Dialect,
}

const GAUGES: &[&str] =
    &["gauge", "gauge{job=\"a\"}", "gauge{inst=~\"[01]\"}", "gauge{job!=\"b\",inst!~\"3\"}", "sparse"];
const COUNTERS: &[&str] = &["requests_total", "requests_total{job=\"b\"}", "requests_total{inst=\"0\"}"];
const BUCKETS: &[&str] = &["latency_bucket", "latency_bucket{job=\"a\"}"];
const HISTOGRAMS: &[&str] = &["native", "native{job=\"a\"}", "native_gauge", "mixed"];
const OVER_TIME: &[&str] = &[
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "last_over_time",
    "present_over_time",
    "changes",
    "resets",
    "delta",
    "idelta",
    "deriv",
];
const OVER_TIME_NEW: &[&str] = &[
    "mad_over_time",
    "ts_of_min_over_time",
    "ts_of_max_over_time",
    "ts_of_last_over_time",
    "ts_of_first_over_time",
    "first_over_time",
    "rate",
    "increase",
    "irate",
];
const MATH: &[&str] = &[
    "abs",
    "ceil",
    "floor",
    "exp",
    "sqrt",
    "ln",
    "log2",
    "log10",
    "round",
    "sgn",
    "atan",
    "sinh",
    "tanh",
    "deg",
    "rad",
    "timestamp",
    "sort",
    "sort_desc",
    "minute",
    "hour",
    "day_of_week",
    "day_of_month",
    "month",
];
const AGGREGATIONS: &[&str] = &["sum", "avg", "min", "max", "count", "stddev", "stdvar", "group"];
const GROUPINGS: &[&str] =
    &["", " by (job)", " by (inst)", " by (job, inst)", " without (inst)", " by (le, job)", " by ()"];
const ARITHMETIC: &[&str] = &["+", "-", "*", "/", "%", "^"];
const COMPARISONS: &[&str] = &["==", "!=", ">", "<", ">=", "<="];
const MATCHINGS: &[&str] =
    &["", "on (job, inst) ", "ignoring (le) ", "on (job) group_left () ", "on (inst) group_right () ", "on (job) "];
/// What 2.42 has not, or means otherwise.
const NOT_OLD: &[&str] = &[
    "0x1f",
    "1_000",
    "5m",
    "NaN",
    "Inf",
    "day_of_month",
    "day_of_week",
    "first_over_time",
    "hour",
    "increase",
    "mad_over_time",
    "minute",
    "month",
    "rate",
    "stddev",
    "stddev_over_time",
    "stdvar",
    "stdvar_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];
const RANGES: &[&str] = &["1m", "2m", "5m", "37s", "15s", "10m"];
const NUMBERS: &[&str] = &["0", "1", "2", "-3", "0.5", "1e3", "100", "NaN", "Inf", "0x1f", "5m", "1_000"];

impl Grammar {
    /// A source of queries.
    pub fn new(seed: u64, dialect: Dialect) -> Self {
        Self { random: StdRng::seed_from_u64(seed), dialect }
    }

    fn is_old(&self) -> bool {
        self.dialect == Dialect::Old
    }

    /// One of those that the dialect has.
    fn pick_known<'a>(&mut self, from: &[&'a str], new: &[&str]) -> &'a str {
        loop {
            let one = self.pick(from);
            if !self.is_old() || !new.contains(&one) {
                return one;
            }
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.random.random_range(0..from.len())]
    }

    /// A query with a value at each step.
    pub fn query(&mut self) -> Node {
        if self.chance(5) { self.scalar(3) } else { self.vector(4) }
    }

    fn scalar(&mut self, depth: u32) -> Node {
        match self.random.random_range(0..10) {
            0 if depth > 0 => {
                let vector = self.vector(depth - 1);
                Node::of(Kind::Scalar, "scalar({})", vec![vector])
            }
            1 => Node::leaf(Kind::Scalar, "time()"),
            2 if depth > 0 => {
                let (op, a, b) = (self.pick(ARITHMETIC), self.scalar(depth - 1), self.scalar(depth - 1));
                Node::of(Kind::Scalar, &format!("({{}} {op} {{}})"), vec![a, b])
            }
            3 if depth > 0 => {
                let (op, a, b) = (self.pick(COMPARISONS), self.scalar(depth - 1), self.scalar(depth - 1));
                Node::of(Kind::Scalar, &format!("({{}} {op} bool {{}})"), vec![a, b])
            }
            4 => Node::leaf(Kind::Scalar, "pi()"),
            _ => Node::leaf(Kind::Scalar, self.pick_known(NUMBERS, NOT_OLD)),
        }
    }

    fn selector(&mut self) -> &'static str {
        match self.random.random_range(0..10) {
            0..5 => self.pick(GAUGES),
            5..7 => self.pick(COUNTERS),
            7 => self.pick(BUCKETS),
            _ if self.is_old() => self.pick(GAUGES),
            _ => self.pick(HISTOGRAMS),
        }
    }

    fn modifiers(&mut self) -> String {
        let mut out = String::new();
        if self.chance(15) {
            out.push_str(&format!(" offset {}{}", if self.chance(30) { "-" } else { "" }, self.pick(RANGES)));
        }
        if self.chance(8) {
            out.push_str(self.pick(&[" @ start()", " @ end()", " @ 1e9"]));
        }
        out
    }

    fn range(&mut self) -> String {
        if self.chance(6) && !self.is_old() {
            return self.pick(&["1m + 30s", "2m * 2", "max_of(step(), 1m)", "5m - 1", "min_of(2m, 10m)"]).to_owned();
        }
        self.pick(RANGES).to_owned()
    }

    fn matrix(&mut self, depth: u32, selector: Option<&'static str>) -> Node {
        if depth > 0 && selector.is_none() && self.chance(20) {
            let inner = self.vector(depth - 1);
            let step = self.pick(&["", "30s", "1m", "20s"]);
            let (range, modifiers) = (self.pick(RANGES), self.modifiers());
            return Node::of(Kind::Matrix, &format!("({{}})[{range}:{step}]{modifiers}"), vec![inner]);
        }
        let selector = match selector {
            Some(selector) => selector,
            None => self.selector(),
        };
        let (range, modifiers) = (self.range(), self.modifiers());
        Node::leaf(Kind::Matrix, format!("{selector}[{range}]{modifiers}"))
    }

    fn vector(&mut self, depth: u32) -> Node {
        use Kind::Vector;
        if depth == 0 {
            let (selector, modifiers) = (self.selector(), self.modifiers());
            return Node::leaf(Vector, format!("{selector}{modifiers}"));
        }
        match self.random.random_range(0..100) {
            0..12 => self.vector(0),
            12..30 => self.over_time(depth),
            30..40 => {
                let (name, inner) = (self.pick_known(MATH, NOT_OLD), self.vector(depth - 1));
                Node::of(Vector, &format!("{name}({{}})"), vec![inner])
            }
            40..58 => self.aggregation(depth),
            58..64 => {
                let (op, a, b) = (self.pick(ARITHMETIC), self.vector(depth - 1), self.scalar(depth - 1));
                if self.chance(50) {
                    Node::of(Vector, &format!("({{}} {op} {{}})"), vec![a, b])
                } else {
                    Node::of(Vector, &format!("({{}} {op} {{}})"), vec![b, a])
                }
            }
            64..69 => {
                let bool = if self.chance(40) { "bool " } else { "" };
                let (op, a, b) = (self.pick(COMPARISONS), self.vector(depth - 1), self.scalar(depth - 1));
                Node::of(Vector, &format!("({{}} {op} {bool}{{}})"), vec![a, b])
            }
            69..78 => {
                let op = if self.chance(70) { self.pick(ARITHMETIC) } else { self.pick(COMPARISONS) };
                let fill =
                    if self.chance(8) && !self.is_old() { self.pick(&["fill (0) ", "fill_left (1) "]) } else { "" };
                let (matching, a, b) = (self.pick(MATCHINGS), self.vector(depth - 1), self.vector(depth - 1));
                Node::of(Vector, &format!("({{}} {op} {matching}{fill}{{}})"), vec![a, b])
            }
            78..84 => {
                let op = self.pick(&["and", "or", "unless"]);
                let matching = self.pick(&["", "on (job) ", "ignoring (le) ", "on () "]);
                let (a, b) = (self.vector(depth - 1), self.vector(depth - 1));
                Node::of(Vector, &format!("({{}} {op} {matching}{{}})"), vec![a, b])
            }
            84..88 => self.quantile(depth),
            88..91 if !self.is_old() => self.histogram(depth),
            91..94 => {
                let (inner, low, high) = (self.vector(depth - 1), self.scalar(0), self.scalar(0));
                match self.random.random_range(0..4) {
                    0 => Node::of(Vector, "clamp_min({}, {})", vec![inner, low]),
                    1 => Node::of(Vector, "clamp_max({}, {})", vec![inner, high]),
                    2 => Node::of(Vector, "round({}, {})", vec![inner, high]),
                    _ => Node::of(Vector, "clamp({}, {}, {})", vec![inner, low, high]),
                }
            }
            94..96 => {
                let inner = self.vector(depth - 1);
                let call = self.pick(&[
                    "label_replace({}, \"new\", \"$1-x\", \"job\", \"(.*)\")",
                    "label_replace({}, \"inst\", \"\", \"inst\", \"1|2\")",
                    "label_join({}, \"both\", \"-\", \"job\", \"inst\")",
                ]);
                Node::of(Vector, call, vec![inner])
            }
            96..97 => {
                let inner = self.vector(depth - 1);
                Node::of(Vector, "absent({})", vec![inner])
            }
            97..98 => {
                let inner = self.scalar(depth - 1);
                Node::of(Vector, "vector({})", vec![inner])
            }
            _ => {
                let inner = self.vector(depth - 1);
                Node::of(Vector, "(-{})", vec![inner])
            }
        }
    }

    fn over_time(&mut self, depth: u32) -> Node {
        use Kind::Vector;
        match self.random.random_range(0..12) {
            0 => {
                let (q, range) = (self.scalar(0), self.matrix(depth - 1, None));
                Node::of(Vector, "quantile_over_time({}, {})", vec![q, range])
            }
            1 if !self.is_old() => {
                let (range, ahead) = (self.matrix(depth - 1, None), self.scalar(0));
                Node::of(Vector, "predict_linear({}, {})", vec![range, ahead])
            }
            2 => {
                let range = self.matrix(depth - 1, None);
                Node::of(Vector, "absent_over_time({})", vec![range])
            }
            3 if !self.is_old() => {
                let range = self.matrix(depth - 1, None);
                let smoothing = self.pick(&["0.1, 0.5", "0.5, 0.1", "0.9, 0.9"]);
                Node::of(Vector, &format!("double_exponential_smoothing({{}}, {smoothing})"), vec![range])
            }
            4 if !self.is_old() => {
                let (selector, range) = (self.selector(), self.pick(RANGES));
                let (mode, name) = match self.random.random_range(0..3) {
                    0 => ("anchored", self.pick(&["rate", "increase", "delta", "changes", "resets"])),
                    _ => ("smoothed", self.pick(&["rate", "increase", "delta"])),
                };
                Node::leaf(Vector, format!("{name}({selector}[{range}] {mode})"))
            }
            5..8 => {
                let name = self.pick_known(OVER_TIME_NEW, NOT_OLD);
                let selector = if self.chance(60) { Some(self.pick(COUNTERS)) } else { None };
                let range = self.matrix(depth - 1, selector);
                Node::of(Vector, &format!("{name}({{}})"), vec![range])
            }
            _ => {
                let (name, range) = (self.pick_known(OVER_TIME, NOT_OLD), self.matrix(depth - 1, None));
                Node::of(Vector, &format!("{name}({{}})"), vec![range])
            }
        }
    }

    fn aggregation(&mut self, depth: u32) -> Node {
        use Kind::Vector;
        let (grouping, inner) = (self.pick(GROUPINGS), self.vector(depth - 1));
        match self.random.random_range(0..12) {
            0 => {
                // Of equal values any may be taken: their sum is the same.
                let (op, k) = (self.pick(&["topk", "bottomk"]), self.pick(&["1", "2", "3", "0"]));
                Node::of(Vector, &format!("sum{grouping} ({op}{grouping} ({k}, {{}}))"), vec![inner])
            }
            1 => {
                let q = self.scalar(0);
                Node::of(Vector, &format!("quantile{grouping} ({{}}, {{}})"), vec![q, inner])
            }
            // The last digits depend on the order of sums.
            2 => {
                let call = format!("count_values{grouping} (\"value\", round(clamp({{}}, -1e6, 1e6), 0.01))");
                Node::of(Vector, &call, vec![inner])
            }
            // Which series are taken depends on the order in which the store has them.
            3 if !self.is_old() && self.chance(50) => {
                Node::of(Vector, &format!("count{grouping} (limitk{grouping} (2, {{}}))"), vec![inner])
            }
            3 if !self.is_old() => {
                let ratio = self.pick(&["0.5", "-0.3", "1"]);
                Node::of(Vector, &format!("limit_ratio{grouping} ({ratio}, {{}})"), vec![inner])
            }
            _ => {
                let op = self.pick_known(AGGREGATIONS, NOT_OLD);
                Node::of(Vector, &format!("{op}{grouping} ({{}})"), vec![inner])
            }
        }
    }

    fn quantile(&mut self, depth: u32) -> Node {
        use Kind::Vector;
        let selector = self.pick(BUCKETS);
        let inner = match self.random.random_range(0..4) {
            0 => Node::leaf(Vector, selector),
            1 => Node::leaf(Vector, format!("sum by (le) ({selector})")),
            2 => {
                let (name, range) = (if self.is_old() { "irate" } else { "rate" }, self.pick(RANGES));
                Node::leaf(Vector, format!("sum by (le, job) ({name}({selector}[{range}]))"))
            }
            _ if self.is_old() => Node::leaf(Vector, format!("max by (le, inst) ({selector})")),
            _ => self.histogram_vector(depth),
        };
        let q = self.scalar(0);
        Node::of(Vector, "histogram_quantile({}, {})", vec![q, inner])
    }

    fn histogram_vector(&mut self, depth: u32) -> Node {
        use Kind::Vector;
        let selector = self.pick(HISTOGRAMS);
        match self.random.random_range(0..5) {
            0 if depth > 1 => {
                let inner = self.histogram_vector(depth - 1);
                let op = self.pick(&["sum", "avg"]);
                let grouping = self.pick(GROUPINGS);
                Node::of(Vector, &format!("{op}{grouping} ({{}})"), vec![inner])
            }
            1 | 2 => {
                let (name, range) = (self.pick(&["rate", "increase", "delta", "sum_over_time"]), self.pick(RANGES));
                Node::leaf(Vector, format!("{name}({selector}[{range}])"))
            }
            3 if depth > 1 => {
                let inner = self.histogram_vector(depth - 1);
                let change = self.pick(&["* 2", "/ 4", "</ 1", ">/ 0.5", "* 0"]);
                Node::of(Vector, &format!("({{}} {change})"), vec![inner])
            }
            _ => Node::leaf(Vector, selector),
        }
    }

    fn histogram(&mut self, depth: u32) -> Node {
        use Kind::Vector;
        let inner = self.histogram_vector(depth);
        match self.random.random_range(0..3) {
            0 => {
                let (low, high) = (self.scalar(0), self.scalar(0));
                Node::of(Vector, "histogram_fraction({}, {}, {})", vec![low, high, inner])
            }
            1 => inner,
            _ => {
                let name = self.pick(&[
                    "histogram_count",
                    "histogram_sum",
                    "histogram_avg",
                    "histogram_stddev",
                    "histogram_stdvar",
                ]);
                Node::of(Vector, &format!("{name}({{}})"), vec![inner])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_repeat_and_get_simpler() {
        for dialect in [Dialect::New, Dialect::Old] {
            let (mut a, mut b) = (Grammar::new(5, dialect), Grammar::new(5, dialect));
            for _ in 0..200 {
                let query = a.query();
                assert_eq!(query.query(), b.query().query());
                let mut simplest = query;
                while let Some(next) = simplest.simpler().into_iter().next() {
                    assert_eq!(next.kind, simplest.kind);
                    simplest = next;
                }
                assert!(simplest.query().len() <= "gauge".len(), "{}", simplest.query());
            }
        }
    }
}
