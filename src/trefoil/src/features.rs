//! `--enable-feature`: what is off by default, by Prometheus' names.

use trefoil_promql::{EngineOptions, ParserOptions};

use crate::flag_values::Given;

/// What was switched on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Features {
    /// Grammar.
    pub(crate) parser: ParserOptions,
    /// Evaluation.
    pub(crate) engine: EngineOptions,
    /// Whether `stats=all` tells the samples of each step.
    pub(crate) per_step_stats: bool,
    /// Names that mean nothing here.
    pub(crate) unknown: Vec<String>,
    /// What `/api/v1/status/flags` shows of the command line.
    pub(crate) given: Given,
}

/// Reads the names of features.
pub(crate) fn features(names: &[String]) -> Features {
    let mut features = Features::default();
    for name in names {
        match name.as_str() {
            "promql-experimental-functions" => features.parser.experimental_functions = true,
            "promql-extended-range-selectors" => features.parser.extended_range_selectors = true,
            "promql-binop-fill-modifiers" => features.parser.fill_modifiers = true,
            "promql-duration-expr" => features.parser.duration_expressions = true,
            "promql-delayed-name-removal" => features.engine.delayed_name_removal = true,
            "use-start-timestamps" => features.engine.start_timestamps = true,
            "promql-per-step-stats" => features.per_step_stats = true,
            _ => features.unknown.push(name.clone()),
        }
    }
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_prometheus() {
        let f = features(&["promql-experimental-functions".to_owned(), "native-histograms".to_owned()]);
        assert!(f.parser.experimental_functions && !f.parser.fill_modifiers);
        assert_eq!(f.unknown, ["native-histograms"]);
    }
}
