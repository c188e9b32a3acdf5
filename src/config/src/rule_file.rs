//! Rule files: groups of recording and alerting rules as plain data, checked except for what they mean.
//!
//! Source: "Defining recording rules" and "Alerting rules" of the Prometheus documentation. Only the first YAML document
//! of a file is read. Expressions and templates are checked by `trefoil-rules`, with the places kept here.

use std::path::{Path, PathBuf};

use crate::decode::{Fields, Section, Sink, decode_section, section};
use crate::duration::PromDuration;
use crate::error::{ConfigError, Diagnostic, Pos};
use crate::values::LabelMap;
use crate::yaml::{self, Node, Value};

/// Where the parts of a rule stand in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RulePlaces {
    /// The rule.
    pub rule: Pos,
    /// The value of `expr`.
    pub expr: Pos,
    /// The key `labels`.
    pub labels: Pos,
    /// The key `annotations`.
    pub annotations: Pos,
}

impl Section for RulePlaces {
    const KEYS: &'static [&'static str] = &[];

    fn read_over(_: Self, fields: &mut Fields<'_>, _: &mut Sink) -> Self {
        let node = fields.node;
        Self {
            rule: node.pos,
            expr: node.get("expr").map_or(node.pos, |n| n.pos),
            labels: node.key_pos("labels"),
            annotations: node.key_pos("annotations"),
        }
    }

    fn write(&self, _: &mut Vec<(String, Value)>) {}
}

section! {
    /// A recording rule (`record`) or an alerting rule (`alert`).
    pub struct RuleConfig {
        /// Metric that the rule writes. Exactly one of `record` and `alert` is set.
        pub record: String = String::new(),
        /// Name of the alert.
        pub alert: String = String::new(),
        /// PromQL expression. Required.
        pub expr: String = String::new(),
        /// How long the expression must hold before the alert fires. Default 0.
        pub r#for: PromDuration = PromDuration::ZERO,
        /// How long the alert goes on firing when the expression no longer holds. Default 0.
        pub keep_firing_for: PromDuration = PromDuration::ZERO,
        /// Labels that are set on the result; templates in alerting rules.
        pub labels: LabelMap = LabelMap::default(),
        /// Texts about the alert; templates.
        pub annotations: LabelMap = LabelMap::default(),
    }
    flatten {
        /// Where it stands.
        pub places: RulePlaces = RulePlaces::default(),
    }
    check RuleConfig::check
}

impl RuleConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        match (self.record.is_empty(), self.alert.is_empty()) {
            (true, true) => sink.error(node.pos, "one of 'record' or 'alert' must be set"),
            (false, false) => sink.error(node.pos, "only one of 'record' and 'alert' must be set"),
            _ => {}
        }
        if self.expr.is_empty() {
            sink.error(node.key_pos("expr"), "field 'expr' must be set in rule");
        }
        if !self.record.is_empty() {
            if !self.annotations.0.is_empty() {
                sink.error(node.key_pos("annotations"), "invalid field 'annotations' in recording rule");
            }
            if !self.r#for.is_zero() {
                sink.error(node.key_pos("for"), "invalid field 'for' in recording rule");
            }
            if !self.keep_firing_for.is_zero() {
                sink.error(node.key_pos("keep_firing_for"), "invalid field 'keep_firing_for' in recording rule");
            }
            if self.record.contains(['{', '}']) {
                let message = "braces present in the recording rule name; should it be in expr?";
                sink.error(node.key_pos("record"), format!("{message}: {}", self.record));
            }
        }
        for name in self.labels.0.keys().filter(|n| n.is_empty() || n.as_str() == "__name__") {
            sink.error(node.key_pos("labels"), format!("invalid label name: {name}"));
        }
    }

    /// True for an alerting rule.
    pub fn is_alert(&self) -> bool {
        !self.alert.is_empty()
    }

    /// The name of the alert or of the recorded metric.
    pub fn name(&self) -> &str {
        if self.is_alert() { &self.alert } else { &self.record }
    }
}

section! {
    /// Rules that are evaluated one after the other at the same time.
    pub struct RuleGroupConfig {
        /// Name, unique in its file.
        pub name: String = String::new(),
        /// Time between evaluations; zero: `global.evaluation_interval`.
        pub interval: PromDuration = PromDuration::ZERO,
        /// Most series or alerts of a rule; 0: no limit.
        pub limit: u64 = 0,
        /// How far in the past the rules are evaluated. Default `global.rule_query_offset`.
        pub query_offset: Option<PromDuration> = None,
        /// Labels added to all rules of the group; a rule's own win.
        pub labels: LabelMap = LabelMap::default(),
        /// The rules in order of evaluation.
        pub rules: Vec<RuleConfig> = Vec::new(),
    }
    check RuleGroupConfig::check
}

impl RuleGroupConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        sink.require(!self.name.is_empty(), node.pos, "groupname must not be empty");
        for name in self.labels.0.keys().filter(|n| n.is_empty() || n.as_str() == "__name__") {
            sink.error(node.key_pos("labels"), format!("invalid label name: {name}"));
        }
    }
}

section! {
    /// A rule file.
    pub struct RuleFile {
        /// The groups, in the order of the file.
        pub groups: Vec<RuleGroupConfig> = Vec::new(),
    }
    check RuleFile::check
}

impl RuleFile {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        for (i, group) in self.groups.iter().enumerate() {
            if self.groups[..i].iter().any(|g| g.name == group.name) {
                let pos = node.get("groups").and_then(|n| n.item(i)).map_or(node.pos, |n| n.pos);
                sink.error(pos, format!("groupname: \"{}\" is repeated in the same file", group.name));
            }
        }
    }

    /// Reads the text of a rule file; `file` is named in the errors.
    pub fn parse(text: &str, file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut sink = Sink::new(file, Path::new(""));
        let parsed = match yaml::parse(text) {
            Ok(document) => decode_section::<Self>(&document.root, &mut sink),
            Err(faults) => {
                for (pos, message) in faults {
                    sink.error(pos, message);
                }
                None
            }
        };
        match parsed {
            Some(rules) if sink.errors.is_empty() => Ok(rules),
            _ => Err(ConfigError::Invalid(sink.errors)),
        }
    }

    /// Reads a rule file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: PathBuf::from(path), source })?;
        Self::parse(&text, Some(path))
    }
}

impl RulePlaces {
    /// A fault at one of the places, for what is checked outside this crate.
    pub fn diagnostic(file: Option<&Path>, pos: Pos, message: impl Into<String>) -> Diagnostic {
        Diagnostic { file: file.map(Path::to_path_buf), pos, message: message.into() }
    }
}
