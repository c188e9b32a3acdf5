//! `metrics`: counters, gauges and histograms of lines, on the server's own metrics page.
//!
//! A metric lives as long as a plan that names it; plans that name it alike share it. A label set that was idle for
//! `max_idle_duration` goes.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto;
use rustc_hash::FxHashMap;
use trefoil_config::yaml::{Kind, Node};
use trefoil_model::Labels;
use trefoil_model::labels::is_legacy_metric_name;
use trefoil_template::go_time::parse_duration;

use crate::entry::{Entry, Found};
use crate::options::{Options, Sink};

/// Label sets of a metric; new ones beyond are not counted.
const LABEL_SETS_MAX: usize = 10_000;
const IDLE: i64 = 300_000_000_000;
const DEFAULT_PREFIX: &str = "promtail_custom_";
const DEFAULT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Inc,
    Dec,
    Add,
    Sub,
    Set,
    Observe,
}

#[derive(Debug, Clone, PartialEq)]
enum MetricKind {
    Counter,
    Gauge,
    Histogram(Vec<f64>),
}

#[derive(Debug, Default)]
struct Series {
    value: f64,
    /// Of a histogram: observations by bucket, the last for all.
    buckets: Vec<u64>,
    at: Duration,
}

#[derive(Debug)]
struct Family {
    name: String,
    help: String,
    kind: MetricKind,
    idle: Duration,
    series: Mutex<FxHashMap<Labels, Series>>,
    /// The latest time that a line brought.
    now: Mutex<Duration>,
}

/// All metrics of plans that are in use, by name.
static FAMILIES: LazyLock<Mutex<BTreeMap<String, Weak<Family>>>> = LazyLock::new(|| {
    // Registered with the first metric. It cannot clash: it describes nothing beforehand.
    drop(prometheus::register(Box::new(Page)));
    Mutex::default()
});

struct Page;

impl Collector for Page {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let families: Vec<Arc<Family>> = FAMILIES.lock().values().filter_map(Weak::upgrade).collect();
        families.iter().filter_map(|family| family.collect()).collect()
    }
}

impl Family {
    fn collect(&self) -> Option<proto::MetricFamily> {
        let now = *self.now.lock();
        let mut series = self.series.lock();
        series.retain(|_, s| now.saturating_sub(s.at) <= self.idle);
        if series.is_empty() {
            return None;
        }
        let mut sorted: Vec<(&Labels, &Series)> = series.iter().collect();
        sorted.sort_by(|a, b| a.0.as_packed().cmp(b.0.as_packed()));
        let metrics = sorted.into_iter().map(|(labels, series)| self.metric(labels, series)).collect();
        let mut out = proto::MetricFamily::default();
        out.set_name(self.name.clone());
        out.set_help(self.help.clone());
        out.set_field_type(match self.kind {
            MetricKind::Counter => proto::MetricType::COUNTER,
            MetricKind::Gauge => proto::MetricType::GAUGE,
            MetricKind::Histogram(_) => proto::MetricType::HISTOGRAM,
        });
        out.set_metric(metrics);
        Some(out)
    }

    fn metric(&self, labels: &Labels, series: &Series) -> proto::Metric {
        let pairs = labels.iter().map(|(name, value)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name(trefoil_model::labels::underscored(name).into_owned());
            pair.set_value(value.to_owned());
            pair
        });
        let mut out = proto::Metric::from_label(pairs.collect());
        match &self.kind {
            MetricKind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(series.value);
                out.set_counter(counter);
            }
            MetricKind::Gauge => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(series.value);
                out.set_gauge(gauge);
            }
            MetricKind::Histogram(bounds) => {
                let buckets = bounds.iter().zip(&series.buckets).map(|(bound, count)| {
                    let mut bucket = proto::Bucket::default();
                    bucket.set_upper_bound(*bound);
                    bucket.set_cumulative_count(*count);
                    bucket
                });
                let mut histogram = proto::Histogram::default();
                histogram.set_bucket(buckets.collect());
                histogram.set_sample_sum(series.value);
                histogram.set_sample_count(series.buckets.last().copied().unwrap_or(0));
                out.set_histogram(histogram);
            }
        }
        out
    }

    fn update(&self, labels: &Labels, action: Action, by: f64, now: Duration) {
        *self.now.lock() = now;
        let mut all = self.series.lock();
        if all.len() >= LABEL_SETS_MAX && !all.contains_key(labels) {
            all.retain(|_, s| now.saturating_sub(s.at) <= self.idle);
            if all.len() >= LABEL_SETS_MAX {
                return;
            }
        }
        let series = all.entry(labels.clone()).or_default();
        series.at = now;
        match (action, &self.kind) {
            (Action::Observe, MetricKind::Histogram(bounds)) => {
                series.buckets.resize(bounds.len() + 1, 0);
                for (count, bound) in series.buckets.iter_mut().zip(bounds.iter().copied().chain([f64::INFINITY])) {
                    *count += u64::from(by <= bound);
                }
                series.value += by;
            }
            (Action::Set, _) => series.value = by,
            (Action::Dec | Action::Sub, _) => series.value -= by,
            (Action::Inc | Action::Add | Action::Observe, _) => series.value += by,
        }
    }
}

#[derive(Debug)]
struct Metric {
    family: Arc<Family>,
    source: String,
    value: Option<String>,
    action: Action,
    match_all: bool,
    count_bytes: bool,
}

/// `metrics`
#[derive(Debug)]
pub(crate) struct Metrics(Vec<Metric>);

impl Metrics {
    pub(crate) fn new(node: &Node, sink: &mut Sink) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            sink.fault(node.pos, format!("metrics stage must be a mapping, got {}", node.kind_name()));
            return None;
        };
        let metrics = entries
            .iter()
            .filter_map(|e| {
                crate::plan::with_options("metrics", &e.value, sink, |options, sink| Metric::new(&e.key, options, sink))
            })
            .collect();
        Some(Self(metrics))
    }

    pub(crate) fn run(&self, entry: &Entry, now: Duration) {
        for metric in &self.0 {
            if let Some(by) = metric.amount(entry) {
                metric.family.update(&entry.labels, metric.action, by, now);
            }
        }
    }
}

impl Metric {
    fn new(name: &str, options: &mut Options<'_>, sink: &mut Sink) -> Option<Self> {
        let pos = options.node.pos;
        let kind = options.required("type", sink)?.to_ascii_lowercase();
        let help = options.text("description", sink).unwrap_or_default();
        let prefix =
            options.text("prefix", sink).filter(|p| !p.is_empty()).unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
        let source = options.text("source", sink).filter(|s| !s.is_empty()).unwrap_or_else(|| name.to_owned());
        let idle_pos = options.node.key_pos("max_idle_duration");
        let idle = options.duration("max_idle_duration", sink).unwrap_or(IDLE);
        if idle < 1_000_000_000 {
            sink.fault(idle_pos, "max_idle_duration of metrics stage must be at least 1s");
        }
        let full_name = format!("{prefix}{name}");
        // These are the server's own.
        let is_own = ["trefoil_", "process_", "go_", "prometheus_"].iter().any(|own| full_name.starts_with(own));
        if !is_legacy_metric_name(&full_name) || is_own {
            sink.fault(pos, format!("{full_name:?} cannot be the name of a metric of a pipeline"));
        }
        let empty = Node::null(pos);
        let config = options.node("config").unwrap_or(&empty);
        let mut config = Options::new("metrics", config, sink)?;
        let value = config.text("value", sink).filter(|v| !v.is_empty());
        let match_all = config.flag("match_all", false, sink);
        let count_bytes = config.flag("count_entry_bytes", false, sink);
        let action = config.text("action", sink).unwrap_or_default().to_ascii_lowercase();
        let buckets: Vec<String> = config.list("buckets", sink);
        config.finish(sink);
        let (kind, actions): (_, &[_]) = match kind.as_str() {
            "counter" => (MetricKind::Counter, &[("inc", Action::Inc), ("add", Action::Add)]),
            "gauge" => (
                MetricKind::Gauge,
                &[
                    ("set", Action::Set),
                    ("inc", Action::Inc),
                    ("dec", Action::Dec),
                    ("add", Action::Add),
                    ("sub", Action::Sub),
                ],
            ),
            "histogram" => {
                let bounds: Option<Vec<f64>> = buckets.iter().map(|b| b.parse().ok()).collect();
                let bounds = bounds.filter(|b| b.is_sorted_by(|a, b| a < b) && b.len() <= 1_000);
                let Some(bounds) = bounds else {
                    sink.fault(pos, "buckets of metrics stage must be ascending numbers");
                    return None;
                };
                let bounds = if bounds.is_empty() { DEFAULT_BUCKETS.to_vec() } else { bounds };
                (
                    MetricKind::Histogram(bounds),
                    &[("", Action::Observe), ("inc", Action::Observe), ("add", Action::Observe)],
                )
            }
            other => {
                sink.fault(pos, format!("unknown type {other:?} of metrics stage (one of: Counter, Gauge, Histogram)"));
                return None;
            }
        };
        let Some((_, action)) = actions.iter().find(|(word, _)| *word == action) else {
            let words: Vec<&str> = actions.iter().map(|(word, _)| *word).collect();
            sink.fault(pos, format!("action {action:?} of metrics stage must be one of: {}", words.join(", ")));
            return None;
        };
        if match_all && value.is_some() {
            sink.fault(pos, "metrics stage takes match_all or value, not both");
        }
        if count_bytes && !(match_all && *action == Action::Add) {
            sink.fault(pos, "count_entry_bytes of metrics stage needs match_all: true and action: add");
        }
        let idle = Duration::from_nanos(idle.unsigned_abs());
        let family = family(full_name, help, kind, idle).map_err(|message| sink.fault(pos, message)).ok()?;
        Some(Self { family, source, value, action: *action, match_all, count_bytes })
    }

    /// By how much the line changes the metric; `None`: not at all.
    fn amount(&self, entry: &Entry) -> Option<f64> {
        let is_step = matches!(self.action, Action::Inc | Action::Dec);
        if self.match_all {
            if self.count_bytes {
                return Some(entry.record.text.len() as f64);
            }
            if is_step {
                return Some(1.0);
            }
        }
        let found = entry.extracted.get(&self.source)?;
        if self.value.as_ref().is_some_and(|value| found.text() != value.as_str()) {
            return None;
        }
        if is_step {
            return Some(1.0);
        }
        let number = match found {
            Found::Bool(b) => Some(f64::from(u8::from(b))),
            Found::Number(text) | Found::Text(text) => {
                let seconds = || parse_duration(&text).map(|ns| ns as f64 / 1e9);
                text.parse().ok().or_else(seconds)
            }
        };
        // A counter only goes up.
        number.filter(|n: &f64| n.is_finite() && (*n >= 0.0 || self.family.kind != MetricKind::Counter))
    }
}

/// The metric of a name: the one that is there, or a new one.
fn family(name: String, help: String, kind: MetricKind, idle: Duration) -> Result<Arc<Family>, String> {
    let mut families = FAMILIES.lock();
    families.retain(|_, family| family.strong_count() > 0);
    if let Some(family) = families.get(&name).and_then(Weak::upgrade) {
        if family.kind == kind {
            return Ok(family);
        }
        // A reload may change it; two stages of one configuration may not differ, which cannot be told from that here.
        families.remove(&name);
    }
    let family = Family { name: name.clone(), help, kind, idle, series: Mutex::default(), now: Mutex::default() };
    let family = Arc::new(family);
    families.insert(name, Arc::downgrade(&family));
    Ok(family)
}
