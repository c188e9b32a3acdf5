//! Tail sampling: which traces are kept, decided when all of their spans should have come.
//!
//! Spans are stored as they come, so that an acknowledgement means what it always means and everything derived counts all
//! of them; the store asks when it writes them as a part, and leaves out the traces that are not kept. The first policy
//! all of whose conditions hold decides. What was decided is remembered for spans that come later.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::LazyLock;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{IntCounterVec, register_int_counter_vec};
use rustc_hash::{FxHashMap, FxHasher};
use trefoil_model::{AttributeValue, StatusCode, TenantId, TraceId, TraceSampler, TraceToSample, re2::Regex, value};

/// Seconds of services whose traces are counted for a rate.
const SECONDS_MAX: usize = 100_000;
/// What traces are counted under that no policy decided.
const DEFAULT: &str = "default";

static TRACES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "trefoil_trace_sampling_traces_total",
        "Traces by the policy that decided and its decision: kept or dropped.",
        &["policy", "decision"]
    )
    .expect("unique metric name")
});
static SPANS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "trefoil_trace_sampling_spans_total",
        "Spans by the policy that decided on their trace and its decision: kept or dropped.",
        &["policy", "decision"]
    )
    .expect("unique metric name")
});

/// What an attribute of a span or of its resource must be.
#[derive(Debug, Clone)]
pub enum AttributeTest {
    /// There, with any value.
    Exists,
    /// One of these texts.
    OneOf(Vec<String>),
    /// A text that the expression matches whole.
    Matches(Box<Regex>),
    /// A number between two others, both included.
    Between(f64, f64),
}

/// All that is given must hold of a trace.
#[derive(Debug, Clone)]
pub struct SamplingPolicy {
    /// Its name in metrics.
    pub name: String,
    /// A span failed.
    pub has_errors: bool,
    /// From the first start to the last end there is at least so long.
    pub slower_than: Option<Duration>,
    /// A span, or its resource, has the attribute with such a value.
    pub attribute: Option<(String, AttributeTest)>,
    /// The share of traces, by their id: 0 to 1.
    pub share: f64,
    /// Traces of a service that begin in the same second. Those that begin first count; the service is the root's.
    pub traces_per_second: Option<u64>,
    /// Whether the traces are kept or dropped.
    pub keeps: bool,
}

impl Default for SamplingPolicy {
    fn default() -> Self {
        Self {
            name: String::new(),
            has_errors: false,
            slower_than: None,
            attribute: None,
            share: 1.0,
            traces_per_second: None,
            keeps: true,
        }
    }
}

/// How traces are sampled.
#[derive(Debug, Clone)]
pub struct SamplingOptions {
    /// Time after the last span of a trace before it is decided upon.
    pub decision_wait: Duration,
    /// In order: the first that holds decides.
    pub policies: Vec<SamplingPolicy>,
    /// Whether traces are kept of which no policy holds.
    pub keeps_rest: bool,
    /// Traces whose decision is remembered for late spans.
    pub remembered_max: usize,
}

/// Number of a policy; that of the default is one more than those of all.
type PolicyNumber = u16;

#[derive(Debug, Default)]
struct State {
    /// What was decided lately, in two generations.
    young: FxHashMap<(TenantId, TraceId), PolicyNumber>,
    old: FxHashMap<(TenantId, TraceId), PolicyNumber>,
    /// Traces by second, tenant, service and policy.
    rates: BTreeMap<(i64, TenantId, String, PolicyNumber), u64>,
}

/// Decides which traces are kept.
#[derive(Debug)]
pub struct TailSampler {
    options: SamplingOptions,
    state: Mutex<State>,
}

/// What policies ask of a trace.
struct Facts<'a, 'b> {
    trace: &'a TraceToSample<'b>,
    start_ns: i64,
    duration_ns: u64,
    has_errors: bool,
    /// Of the root, else of the earliest span.
    service: &'b str,
}

impl<'a, 'b> Facts<'a, 'b> {
    fn of(trace: &'a TraceToSample<'b>) -> Self {
        let spans = &trace.spans;
        let start_ns = spans.iter().map(|(_, span)| span.start_ns).min().unwrap_or(0);
        let end_ns = spans.iter().map(|(_, span)| span.end_ns).max().unwrap_or(0);
        let first = spans.iter().min_by_key(|(resource, span)| {
            (span.parent_span_id.is_some(), span.start_ns, span.span_id, resource.service_name())
        });
        Self {
            trace,
            start_ns,
            duration_ns: end_ns.abs_diff(start_ns),
            has_errors: spans.iter().any(|(_, span)| span.status_code == StatusCode::Error),
            service: first.map_or("", |(resource, _)| resource.service_name()),
        }
    }

    fn has(&self, name: &str, test: &AttributeTest) -> bool {
        self.trace.spans.iter().any(|(resource, span)| {
            let found = [value::find(&span.attributes, name), value::find(&resource.attributes, name)];
            found.into_iter().flatten().any(|value| test.holds(value))
        })
    }
}

impl AttributeTest {
    fn holds(&self, value: &AttributeValue) -> bool {
        if let AttributeValue::Array(items) = value {
            return items.iter().any(|item| self.holds(item));
        }
        let text = || match value {
            AttributeValue::String(text) => text.clone(),
            other => other.to_text(),
        };
        match self {
            Self::Exists => true,
            Self::OneOf(texts) => match value {
                AttributeValue::String(value) => texts.iter().any(|text| text == value),
                _ => texts.contains(&text()),
            },
            Self::Matches(regex) => match value {
                AttributeValue::String(value) => regex.is_match(value),
                _ => regex.is_match(&text()),
            },
            Self::Between(min, max) => {
                let number = match value {
                    AttributeValue::Int(n) => Some(*n as f64),
                    AttributeValue::Double(d) => Some(*d),
                    AttributeValue::String(text) => text.trim().parse().ok(),
                    _ => None,
                };
                number.is_some_and(|n: f64| *min <= n && n <= *max)
            }
        }
    }
}

/// A number below 1 that depends on the trace id alone. It is not the randomness of W3C's trace context: what was sampled by
/// that before would all be below its threshold.
pub fn share_of(id: TraceId) -> f64 {
    let mut hasher = FxHasher::default();
    let (high, low) = id.0.split_at(8);
    for half in [high, low] {
        hasher.write_u64(half.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }
    // The hash is mixed once more, since its low bits depend on little of the id.
    let mut mixed = hasher.finish();
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    ((mixed ^ (mixed >> 33)) >> 11) as f64 / (1u64 << 53) as f64
}

impl SamplingPolicy {
    /// Whether all but the rate holds.
    fn holds(&self, facts: &Facts<'_, '_>) -> bool {
        (!self.has_errors || facts.has_errors)
            && self.slower_than.is_none_or(|least| u128::from(facts.duration_ns) >= least.as_nanos())
            && (self.share >= 1.0 || share_of(facts.trace.trace_id) < self.share)
            && self.attribute.as_ref().is_none_or(|(name, test)| facts.has(name, test))
    }
}

impl State {
    fn known(&self, key: &(TenantId, TraceId)) -> Option<PolicyNumber> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    fn remember(&mut self, key: (TenantId, TraceId), policy: PolicyNumber, remembered_max: usize) {
        if self.young.len() >= (remembered_max / 2).max(1) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, policy);
    }

    /// Counts a trace of a service in a second when there are fewer than `most`; whether it did.
    fn take(&mut self, key: (i64, TenantId, String, PolicyNumber), most: u64) -> bool {
        let taken = self.rates.entry(key).or_default();
        let is_free = *taken < most;
        *taken += u64::from(is_free);
        while self.rates.len() > SECONDS_MAX {
            self.rates.pop_first();
        }
        is_free
    }
}

impl TailSampler {
    /// Remembers nothing yet.
    pub fn new(options: SamplingOptions) -> Self {
        Self { options, state: Mutex::default() }
    }

    fn policy(&self, tenant: TenantId, facts: &Facts<'_, '_>, state: &mut State) -> PolicyNumber {
        for (number, policy) in self.options.policies.iter().enumerate() {
            let number = number as PolicyNumber;
            if !policy.holds(facts) {
                continue;
            }
            let second = facts.start_ns.div_euclid(1_000_000_000);
            let key = || (second, tenant, facts.service.to_owned(), number);
            if policy.traces_per_second.is_none_or(|most| state.take(key(), most)) {
                return number;
            }
        }
        self.options.policies.len() as PolicyNumber
    }

    fn decision(&self, policy: PolicyNumber) -> (&str, bool) {
        let policy = self.options.policies.get(usize::from(policy));
        policy.map_or((DEFAULT, self.options.keeps_rest), |policy| (policy.name.as_str(), policy.keeps))
    }
}

impl TraceSampler for TailSampler {
    fn decision_wait(&self) -> Duration {
        self.options.decision_wait
    }

    fn decide(&self, tenant: TenantId, traces: &[TraceToSample<'_>]) -> Vec<bool> {
        let facts: Vec<Facts<'_, '_>> = traces.iter().map(Facts::of).collect();
        // Of the traces of a second those that begin first are kept, whatever the order in which they are asked about.
        let mut order: Vec<usize> = (0..traces.len()).collect();
        order.sort_by_key(|at| Reverse((facts[*at].start_ns, traces[*at].trace_id)));
        let mut out = vec![true; traces.len()];
        let mut state = self.state.lock();
        while let Some(at) = order.pop() {
            let trace = &traces[at];
            let key = (tenant, trace.trace_id);
            let known = state.known(&key);
            let policy = known.unwrap_or_else(|| self.policy(tenant, &facts[at], &mut state));
            let (name, keeps) = self.decision(policy);
            let labels = [name, if keeps { "kept" } else { "dropped" }];
            if known.is_none() {
                state.remember(key, policy, self.options.remembered_max);
                TRACES.with_label_values(&labels).inc();
            }
            SPANS.with_label_values(&labels).inc_by(trace.spans.len() as u64);
            out[at] = keeps;
        }
        out
    }
}
