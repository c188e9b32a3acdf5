//! Relabelling rules as plain data. What they do to labels is `trefoil-scrape`'s.

use crate::decode::{Sink, choice, section};
use crate::names::ValidationScheme;
use crate::yaml::Node;

choice! {
    /// What a rule does.
    pub enum RelabelAction: "relabel action" in any case {
        /// Sets the target label to the replacement when the regex matches.
        Replace = "replace",
        /// Drops what does not match.
        Keep = "keep",
        /// Drops what matches.
        Drop = "drop",
        /// Drops when the joined source labels differ from the target label.
        KeepEqual = "keepequal",
        /// Drops when the joined source labels equal the target label.
        DropEqual = "dropequal",
        /// Sets the target label to a hash of the source labels modulo `modulus`.
        HashMod = "hashmod",
        /// Copies labels whose name matches to names given by the replacement.
        LabelMap = "labelmap",
        /// Removes labels whose name matches.
        LabelDrop = "labeldrop",
        /// Removes labels whose name does not match.
        LabelKeep = "labelkeep",
        /// Sets the target label to the source labels in lower case.
        Lowercase = "lowercase",
        /// Sets the target label to the source labels in upper case.
        Uppercase = "uppercase",
    }
}

/// The regex of a rule that names none: the whole value, captured.
pub const DEFAULT_REGEX: &str = "(.*)";
/// The replacement of a rule that names none.
pub const DEFAULT_REPLACEMENT: &str = "$1";
/// What stands between joined source labels when a rule does not say.
pub const DEFAULT_SEPARATOR: &str = ";";

section! {
    /// One relabelling rule, as in `relabel_configs`, `metric_relabel_configs`, `write_relabel_configs` and
    /// `alert_relabel_configs`.
    pub struct RelabelConfig {
        /// Labels whose values are joined with the separator. Default none.
        pub source_labels: Vec<String> = Vec::new(),
        /// What stands between joined values. Default `;`.
        pub separator: String = DEFAULT_SEPARATOR.to_owned(),
        /// Pattern for the joined value, anchored at both ends, `.` matches newlines. Default `(.*)`; it compiles.
        pub regex: String = DEFAULT_REGEX.to_owned(),
        /// Divisor for `hashmod`; not 0 there. Default 0.
        pub modulus: u64 = 0,
        /// The label that is written; `$1`, `${1}` allowed for `replace`. Default empty.
        pub target_label: String = String::new(),
        /// What is written; `$1`, `${1}` stand for groups. Default `$1`.
        pub replacement: String = DEFAULT_REPLACEMENT.to_owned(),
        /// What the rule does. Default `replace`.
        pub action: RelabelAction = RelabelAction::Replace,
    }
    check RelabelConfig::check
}

impl RelabelConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        // A null regex is the empty regex (it matches the empty value only), a null action is none.
        if node.get("regex").is_some_and(Node::is_null) {
            self.regex = String::new();
        }
        if node.get("action").is_some_and(Node::is_null) {
            sink.error(node.key_pos("action"), "relabel action cannot be empty");
        }
        if let Err(message) = trefoil_model::anchored(&self.regex) {
            sink.error(node.key_pos("regex"), message);
        }
    }

    /// True when the regex was not changed from its default.
    pub fn has_default_regex(&self) -> bool {
        self.regex == DEFAULT_REGEX
    }

    /// Checks which fields go with the action and whether label names are valid in the scheme, in the words of
    /// Prometheus; the first fault.
    pub fn validate(&self, scheme: ValidationScheme) -> Result<(), String> {
        use RelabelAction as A;
        let action = self.action;
        let writes =
            matches!(action, A::Replace | A::HashMod | A::Lowercase | A::Uppercase | A::KeepEqual | A::DropEqual);
        if self.modulus == 0 && action == A::HashMod {
            return Err("relabel configuration for hashmod requires non-zero modulus".to_owned());
        }
        if writes && self.target_label.is_empty() {
            return Err(format!("relabel configuration for {action} action requires 'target_label' value"));
        }
        let template = has_variable(&self.target_label);
        let name_holds = |name: &str, template: bool| {
            if template && scheme == ValidationScheme::Legacy {
                is_legacy_name_with_variables(name)
            } else {
                scheme.is_valid_label_name(name)
            }
        };
        if writes && !name_holds(&self.target_label, action == A::Replace && template) {
            return Err(format!("{:?} is invalid 'target_label' for {action} action", self.target_label));
        }
        let default_replacement = self.replacement == DEFAULT_REPLACEMENT;
        if matches!(action, A::Lowercase | A::Uppercase | A::KeepEqual | A::DropEqual) && !default_replacement {
            return Err(format!("'replacement' can not be set for {action} action"));
        }
        if action == A::LabelMap && !name_holds(&self.replacement, true) {
            return Err(format!("{:?} is invalid 'replacement' for {action} action", self.replacement));
        }
        let others_default = self.modulus == 0 && self.separator == DEFAULT_SEPARATOR && default_replacement;
        if matches!(action, A::KeepEqual | A::DropEqual) && !(self.has_default_regex() && others_default) {
            return Err(format!(
                "{action} action requires only 'source_labels' and `target_label`, and no other fields"
            ));
        }
        if matches!(action, A::LabelDrop | A::LabelKeep)
            && !(self.source_labels.is_empty() && self.target_label.is_empty() && others_default)
        {
            return Err(format!("{action} action requires only 'regex', and no other fields"));
        }
        Ok(())
    }
}

/// Checks a list of rules that was read from `node`, reporting each fault at its rule.
pub(crate) fn validate_all(rules: &[RelabelConfig], node: Option<&Node>, scheme: ValidationScheme, sink: &mut Sink) {
    for (i, rule) in rules.iter().enumerate() {
        if let Err(message) = rule.validate(scheme) {
            let pos = node.map_or_else(Default::default, |n| n.item(i).unwrap_or(n).pos);
            sink.error(pos, message);
        }
    }
}

/// True when the text has a `$` that stands for a group.
fn has_variable(text: &str) -> bool {
    text.contains('$')
}

/// `^(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+$`: label characters and variables, starting with no digit.
fn is_legacy_name_with_variables(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = text;
    let mut first = true;
    while let Some(c) = rest.chars().next() {
        if c == '$' {
            let tail = &rest[1..];
            let (name, after) = match tail.strip_prefix('{') {
                Some(inner) => match inner.split_once('}') {
                    Some(split) => split,
                    None => return false,
                },
                None => tail.split_at(tail.find(|c| !is_word(c)).unwrap_or(tail.len())),
            };
            if name.is_empty() || !name.chars().all(is_word) {
                return false;
            }
            rest = after;
        } else if is_word(c) && !(first && c.is_ascii_digit()) {
            rest = &rest[1..];
        } else {
            return false;
        }
        first = false;
    }
    !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &RelabelConfig, scheme: ValidationScheme, want: &str) {
        let got = rule.validate(scheme).err().unwrap_or_default();
        assert_eq!(got, want, "{rule:?}");
    }

    #[test]
    fn label_names_depend_on_the_scheme() {
        let rule = |target: &str| RelabelConfig { target_label: target.to_owned(), ..RelabelConfig::default() };
        check(&rule("a"), ValidationScheme::Legacy, "");
        check(&rule("${1}_x"), ValidationScheme::Legacy, "");
        check(&rule("a.b"), ValidationScheme::Utf8, "");
        check(&rule("a.b"), ValidationScheme::Legacy, "\"a.b\" is invalid 'target_label' for replace action");
        check(&rule("1a"), ValidationScheme::Legacy, "\"1a\" is invalid 'target_label' for replace action");
        check(&rule("${"), ValidationScheme::Legacy, "\"${\" is invalid 'target_label' for replace action");
    }
}
