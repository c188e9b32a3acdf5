//! What a rule file must hold beyond its form: expressions and templates.

use std::path::{Path, PathBuf};

use trefoil_config::{ConfigError, Diagnostic, RuleFile, RulePlaces};
use trefoil_promql::parser::{ParserOptions, parse};
use trefoil_template::alert::check_alert_template;

/// Says what is wrong with an expression, in the language of the rules that it stands in.
pub type CheckExpression<'a> = &'a dyn Fn(&str) -> Result<(), String>;

/// Checks the expressions as PromQL (with the features of `parser` switched on) and templates of a rule file: all faults with their places.
pub fn check_rule_file(rules: &RuleFile, file: Option<&Path>, parser: ParserOptions) -> Vec<Diagnostic> {
    check_rule_file_by(rules, file, &promql(parser))
}

fn promql(parser: ParserOptions) -> impl Fn(&str) -> Result<(), String> {
    move |text| parse(text, parser).map(|_| ()).map_err(|error| error.to_string())
}

/// As [`check_rule_file`], with the expressions in any language.
pub fn check_rule_file_by(rules: &RuleFile, file: Option<&Path>, check: CheckExpression<'_>) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    for group in &rules.groups {
        for rule in &group.rules {
            let of = |pos, message: String| {
                RulePlaces::diagnostic(file, pos, format!("group {:?}, rule {:?}: {message}", group.name, rule.name()))
            };
            if let Err(error) = check(&rule.expr) {
                faults.push(of(rule.places.expr, format!("could not parse expression: {error}")));
            }
            if !rule.is_alert() {
                continue;
            }
            for (name, text) in rule.labels.iter() {
                if let Err(error) = check_alert_template(text) {
                    faults.push(of(rule.places.labels, format!("label {name:?}: {error}")));
                }
            }
            for (name, text) in rule.annotations.iter() {
                if let Err(error) = check_alert_template(text) {
                    faults.push(of(rule.places.annotations, format!("annotation {name:?}: {error}")));
                }
            }
        }
    }
    faults
}

/// Loads and checks rule files of PromQL; all of them are good, or the faults of all of them come back.
pub fn load_rule_files(paths: &[PathBuf], parser: ParserOptions) -> Result<Vec<(PathBuf, RuleFile)>, Vec<ConfigError>> {
    load_rule_files_by(paths, &promql(parser))
}

/// As [`load_rule_files`], with the expressions in any language.
pub fn load_rule_files_by(
    paths: &[PathBuf],
    check: CheckExpression<'_>,
) -> Result<Vec<(PathBuf, RuleFile)>, Vec<ConfigError>> {
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        match RuleFile::load(path) {
            Ok(rules) => {
                let faults = check_rule_file_by(&rules, Some(path), check);
                if faults.is_empty() {
                    files.push((path.clone(), rules));
                } else {
                    errors.push(ConfigError::Invalid(faults));
                }
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(files) } else { Err(errors) }
}
