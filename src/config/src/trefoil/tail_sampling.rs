//! Which traces are kept.

use crate::decode::{Sink, choice, section};
use crate::duration::PromDuration;
use crate::yaml::Node;

/// Policies at most.
const POLICIES_MAX: usize = 100;

choice! {
    /// What becomes of a trace.
    pub enum SamplingDecision: "decision" {
        /// It is kept.
        Keep = "keep",
        /// It is dropped.
        Drop = "drop",
    }
}

section! {
    /// What an attribute of a span, or of its resource, must be. One of `values`, `regex`, and `min` with or without `max`
    /// may be given; with none of them any value will do.
    pub struct SampledAttributeConfig {
        /// Name of the attribute. Required.
        pub name: String = String::new(),
        /// One of these texts.
        pub values: Vec<String> = Vec::new(),
        /// A regular expression that matches the whole text.
        pub regex: String = String::new(),
        /// A number that is not below it.
        pub min: Option<f64> = None,
        /// A number that is not above it.
        pub max: Option<f64> = None,
    }
    check SampledAttributeConfig::check
}

impl SampledAttributeConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(!self.name.is_empty(), node.pos, "an attribute of a sampling policy needs a name");
        let tests = [!self.values.is_empty(), !self.regex.is_empty(), self.min.is_some() || self.max.is_some()];
        let message = "of values, regex and min or max of a sampling policy's attribute only one may be given";
        sink.require(tests.iter().filter(|given| **given).count() <= 1, node.pos, message);
        if let Err(message) = trefoil_model::anchored(&self.regex) {
            let message = format!("sampling policy: {:?} is not a regular expression: {message}", self.regex);
            sink.error(node.key_pos("regex"), message);
        }
    }
}

section! {
    /// A policy of sampling: all that is given must hold of a trace.
    pub struct SamplingPolicyConfig {
        /// Its name in metrics. Required.
        pub name: String = String::new(),
        /// A span of the trace has the status error. Default false.
        pub errors: bool = false,
        /// From the first start to the last end of its spans there is at least so long. Default none.
        pub slower_than: Option<PromDuration> = None,
        /// A span of it has such an attribute. Default none.
        pub attribute: Option<SampledAttributeConfig> = None,
        /// Share of traces, by their id: from 0 to 1. Default 1.
        pub share: f64 = 1.0,
        /// Traces of a service that begin in the same second; the service is that of the root. Default none.
        pub traces_per_second: Option<u64> = None,
        /// What becomes of the traces: `keep` or `drop`. Default `keep`.
        pub decision: SamplingDecision = SamplingDecision::Keep,
    }
    check SamplingPolicyConfig::check
}

impl SamplingPolicyConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(!self.name.is_empty(), node.pos, "a sampling policy needs a name");
        let is_share = (0.0..=1.0).contains(&self.share);
        sink.require(is_share, node.key_pos("share"), "share of a sampling policy must be from 0 to 1");
    }
}

section! {
    /// Which traces are kept. The first policy that holds decides.
    pub struct TailSamplingConfig {
        /// Time after the last span of a trace before it is decided upon. Default 30s, from 1s to 1h.
        pub decision_wait: PromDuration = PromDuration::from_secs(30),
        /// Policies, in order. Default none.
        pub policies: Vec<SamplingPolicyConfig> = Vec::new(),
        /// What becomes of traces of which no policy holds: `keep` or `drop`. Default `keep`.
        pub default: SamplingDecision = SamplingDecision::Keep,
    }
    check TailSamplingConfig::check
}

impl TailSamplingConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let is_good = (1_000..=3_600_000).contains(&self.decision_wait.as_ms());
        sink.require(is_good, node.key_pos("decision_wait"), "sampling.decision_wait must be from 1s to 1h");
        let is_good = self.policies.len() <= POLICIES_MAX;
        sink.require(is_good, node.key_pos("policies"), format!("sampling.policies must be at most {POLICIES_MAX}"));
    }

    /// Whether any trace may be dropped.
    pub fn is_on(&self) -> bool {
        let drops = |decision: SamplingDecision| decision == SamplingDecision::Drop;
        drops(self.default) || self.policies.iter().any(|policy| drops(policy.decision))
    }
}
