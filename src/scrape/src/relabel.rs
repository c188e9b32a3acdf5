//! Relabelling: the rules that keep, drop and rewrite label sets.
//!
//! Semantics are those of `relabel_configs` in the Prometheus configuration documentation: patterns are anchored and
//! those of Go, `hashmod` takes the last eight bytes of the MD5 sum, big-endian, so that a sharded fleet keeps its shards.

use md5::{Digest, Md5};
use trefoil_config::{RelabelAction, RelabelConfig};
use trefoil_model::LabelsBuilder;
use trefoil_model::re2::Regex;

/// A rule that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("relabel rule {index}: {reason}")]
pub struct RelabelError {
    /// Which rule, counted from 0.
    pub index: usize,
    /// Its pattern.
    pub pattern: String,
    /// What is wrong with it, in the words of Prometheus.
    pub reason: String,
}

/// A list of rules, ready to run.
#[derive(Debug, Clone, Default)]
pub struct Relabel {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    action: RelabelAction,
    source_labels: Vec<String>,
    separator: String,
    regex: Regex,
    modulus: u64,
    target_label: String,
    replacement: String,
}

impl Relabel {
    /// Compiles checked rules.
    pub fn compile(configs: &[RelabelConfig]) -> Result<Self, RelabelError> {
        let rules = configs
            .iter()
            .enumerate()
            .map(|(index, c)| {
                let regex = Regex::anchored(&c.regex).map_err(|e| RelabelError {
                    index,
                    pattern: c.regex.clone(),
                    reason: e.to_string(),
                })?;
                Ok(Rule {
                    action: c.action,
                    source_labels: c.source_labels.clone(),
                    separator: c.separator.clone(),
                    regex,
                    modulus: c.modulus,
                    target_label: c.target_label.clone(),
                    replacement: c.replacement.clone(),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// True without rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Applies the rules in order; false when the label set is dropped.
    pub fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        self.rules.iter().all(|rule| rule.apply(labels))
    }
}

impl Rule {
    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        match self.action {
            RelabelAction::LabelMap => {
                let renamed: Vec<(String, String)> = labels
                    .pairs()
                    .iter()
                    .filter(|(_, value)| !value.is_empty())
                    .filter_map(|(name, value)| Some((self.expanded(name, &self.replacement)?, value.clone())))
                    .collect();
                for (name, value) in renamed {
                    labels.set(name, value);
                }
                return true;
            }
            RelabelAction::LabelDrop => {
                labels.retain(|name, _| !self.regex.is_match(name));
                return true;
            }
            RelabelAction::LabelKeep => {
                labels.retain(|name, _| self.regex.is_match(name));
                return true;
            }
            _ => {}
        }
        let joined = self
            .source_labels
            .iter()
            .map(|name| labels.get(name).unwrap_or(""))
            .collect::<Vec<_>>()
            .join(&self.separator);
        match self.action {
            RelabelAction::Keep => self.regex.is_match(&joined),
            RelabelAction::Drop => !self.regex.is_match(&joined),
            RelabelAction::KeepEqual => labels.get(&self.target_label).unwrap_or("") == joined,
            RelabelAction::DropEqual => labels.get(&self.target_label).unwrap_or("") != joined,
            RelabelAction::Lowercase => {
                labels.set(self.target_label.clone(), joined.to_lowercase());
                true
            }
            RelabelAction::Uppercase => {
                labels.set(self.target_label.clone(), joined.to_uppercase());
                true
            }
            RelabelAction::HashMod => {
                let sum = Md5::digest(joined.as_bytes());
                let tail = sum[8..16].try_into().expect("an MD5 sum has 16 bytes");
                let shard = u64::from_be_bytes(tail).checked_rem(self.modulus).unwrap_or(0);
                labels.set(self.target_label.clone(), shard.to_string());
                true
            }
            RelabelAction::Replace => {
                if let (Some(target), Some(value)) =
                    (self.expanded(&joined, &self.target_label), self.expanded(&joined, &self.replacement))
                    && !target.is_empty()
                {
                    // An empty value removes the label.
                    labels.set(target, value);
                }
                true
            }
            RelabelAction::LabelMap | RelabelAction::LabelDrop | RelabelAction::LabelKeep => true,
        }
    }

    /// The template filled from the groups of a match, `None` without a match.
    fn expanded(&self, text: &str, template: &str) -> Option<String> {
        let groups = self.regex.captures(text)?;
        let mut out = String::new();
        groups.expand(template, &mut out);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trefoil_model::Labels;

    fn check(rules: &[RelabelConfig], input: &[(&str, &str)], want: Option<&[(&str, &str)]>) {
        let mut labels = Labels::from_pairs(input.iter().copied()).to_builder();
        let kept = Relabel::compile(rules).unwrap().apply(&mut labels);
        let got = kept.then(|| labels.build());
        assert_eq!(got, want.map(|w| Labels::from_pairs(w.iter().copied())), "{rules:?} on {input:?}");
    }

    fn rule(action: RelabelAction) -> RelabelConfig {
        RelabelConfig { action, ..RelabelConfig::default() }
    }

    #[test]
    fn replace() {
        let mut r = rule(RelabelAction::Replace);
        r.source_labels = vec!["a".into(), "b".into()];
        r.regex = "(.*);(.*)".into();
        r.target_label = "${1}_t".into();
        r.replacement = "$2-x".into();
        check(std::slice::from_ref(&r), &[("a", "p"), ("b", "q")], Some(&[("a", "p"), ("b", "q"), ("p_t", "q-x")]));
        r.regex = "nope".into();
        check(std::slice::from_ref(&r), &[("a", "p")], Some(&[("a", "p")]));
        r = rule(RelabelAction::Replace);
        r.target_label = "a".into();
        r.replacement = String::new();
        check(&[r], &[("a", "p"), ("b", "q")], Some(&[("b", "q")]));
    }

    #[test]
    fn keep_and_drop() {
        let mut r = rule(RelabelAction::Keep);
        r.source_labels = vec!["a".into()];
        r.regex = "p|q".into();
        check(std::slice::from_ref(&r), &[("a", "p")], Some(&[("a", "p")]));
        check(std::slice::from_ref(&r), &[("a", "pq")], None);
        r.action = RelabelAction::Drop;
        check(std::slice::from_ref(&r), &[("a", "p")], None);
        r = rule(RelabelAction::KeepEqual);
        r.source_labels = vec!["a".into()];
        r.target_label = "b".into();
        check(std::slice::from_ref(&r), &[("a", "1"), ("b", "1")], Some(&[("a", "1"), ("b", "1")]));
        check(&[r], &[("a", "1"), ("b", "2")], None);
    }

    #[test]
    fn names() {
        let mut r = rule(RelabelAction::LabelMap);
        r.regex = "__meta_(.+)".into();
        check(std::slice::from_ref(&r), &[("__meta_x", "1")], Some(&[("__meta_x", "1"), ("x", "1")]));
        r.action = RelabelAction::LabelDrop;
        check(std::slice::from_ref(&r), &[("__meta_x", "1"), ("y", "2")], Some(&[("y", "2")]));
        r.action = RelabelAction::LabelKeep;
        check(&[r], &[("__meta_x", "1"), ("y", "2")], Some(&[("__meta_x", "1")]));
    }

    #[test]
    fn hashmod_is_the_reference_shard() {
        // MD5("foo") = acbd18db4cc2f85cedef654fccc4a4d8; 0xedef654fccc4a4d8 mod 1000 = 696.
        let mut r = rule(RelabelAction::HashMod);
        r.source_labels = vec!["a".into()];
        r.target_label = "shard".into();
        r.modulus = 1000;
        check(&[r], &[("a", "foo")], Some(&[("a", "foo"), ("shard", "696")]));
    }
}
