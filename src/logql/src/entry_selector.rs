//! A log query applied to single entries that are not stored, as pipelines need it.

use std::sync::Arc;

use trefoil_model::labels::underscored;
use trefoil_model::{Attributes, Labels, Matcher};
use trefoil_template::{FuncMap, Functions, Value};

use crate::Error;
use crate::ast::{Expr, Position};
use crate::labels::{Category, LineLabels, StreamLabels};
use crate::lexer::fail;
use crate::parser;
use crate::pipeline::Pipeline;
use crate::template_functions::LineFunctions;

/// A selector with its pipeline, for example `{app="x"} |= "error" | logfmt | level="warn"`. Clones share it.
#[derive(Debug, Clone)]
pub struct EntrySelector {
    matchers: Arc<[Matcher]>,
    pipeline: Arc<Pipeline>,
}

impl EntrySelector {
    /// Compiles a log query. `{}` selects everything. Errors: what is no log query, with line and column.
    pub fn new(query: &str) -> Result<Self, Error> {
        let (matchers, pipeline) = if let Ok(matchers) = parser::parse_selector(query) {
            let position = Position { line: 1, col: 1 };
            let nothing = crate::ast::LogExpr { position, matchers: matchers.clone(), stages: Vec::new() };
            (matchers, Pipeline::new(&nothing)?)
        } else {
            match parser::parse(query)? {
                Expr::Log(log) => (log.matchers.clone(), Pipeline::new(&log)?),
                _ => return fail(Position { line: 1, col: 1 }, "a log query is needed, not a metric query".to_owned()),
            }
        };
        Ok(Self { matchers: matchers.into(), pipeline: Arc::new(pipeline) })
    }

    /// True when the entry passes matchers and pipeline. What the pipeline makes of line and labels is not kept.
    pub fn matches(&self, labels: &Labels, metadata: &Attributes, time_ns: i64, line: &str) -> bool {
        let has = |matcher: &Matcher| {
            let value = labels.get(&matcher.name).or_else(|| {
                labels.iter().find(|(name, _)| underscored(name) == matcher.name.as_str()).map(|(_, value)| value)
            });
            matcher.matches(value.unwrap_or(""))
        };
        if !self.matchers.iter().all(has) {
            return false;
        }
        if self.pipeline.is_empty() {
            return true;
        }
        if !self.pipeline.passes_leading(line) {
            return false;
        }
        let mut of_line = LineLabels::default();
        of_line.start(&Arc::new(StreamLabels::new(labels)));
        for (name, value) in metadata {
            of_line.set(Category::Metadata, &underscored(name), value.to_text());
        }
        self.pipeline.run(time_ns, line, &mut of_line).is_some()
    }
}

/// The fields of a logfmt line in their order, broken ones left out; a bare key has an empty value.
pub fn logfmt_fields(line: &str) -> impl Iterator<Item = (&str, std::borrow::Cow<'_, str>)> {
    crate::logfmt::items(line).filter_map(|item| match item {
        crate::logfmt::Item::Pair(key, value) => Some((key, value)),
        crate::logfmt::Item::Broken(_) => None,
    })
}

/// `line` without the control sequences of terminals (colours, cursor movement, titles); `None` when it has none.
pub fn decolorized(line: &str) -> Option<String> {
    static SEQUENCES: std::sync::LazyLock<regex::Regex> = std::sync::LazyLock::new(|| {
        regex::Regex::new(crate::stages::ANSI_SEQUENCES).expect("the pattern is a constant that compiles")
    });
    match SEQUENCES.replace_all(line, "") {
        std::borrow::Cow::Owned(plain) => Some(plain),
        std::borrow::Cow::Borrowed(_) => None,
    }
}

/// The functions of LogQL's templates over one line, with more of a caller's behind them.
pub struct TemplateFunctions<'a> {
    line: LineFunctions<'a>,
    more: &'a FuncMap,
}

impl<'a> TemplateFunctions<'a> {
    /// The functions for a line and its time; `more` is asked for names that LogQL does not have.
    pub fn new(line: &'a str, time_ns: i64, more: &'a FuncMap) -> Self {
        Self { line: LineFunctions { line, time_ns }, more }
    }
}

impl Functions for TemplateFunctions<'_> {
    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        self.line.call(name, arguments).or_else(|| self.more.call(name, arguments))
    }

    fn has(&self, name: &str) -> bool {
        self.line.has(name) || self.more.has(name)
    }
}

#[cfg(test)]
mod tests {
    use trefoil_model::AttributeValue;

    use super::*;

    #[test]
    fn entries_are_selected() {
        let labels = Labels::from_pairs([("app", "x"), ("k8s.pod.name", "p")]);
        let metadata = vec![("trace.id".to_owned(), AttributeValue::String("7".to_owned()))];
        for (query, want) in [
            ("{}", true),
            (r#"{app="x"}"#, true),
            (r#"{app="y"}"#, false),
            (r#"{k8s_pod_name="p"}"#, true),
            (r#"{app="x"} |= "lo""#, true),
            (r#"{app="x"} != "lo""#, false),
            (r#"{app="x"} | logfmt | level="warn""#, true),
            (r#"{app="x"} | logfmt | level="info""#, false),
            (r#"{app="x"} | trace_id="7""#, true),
        ] {
            let selector = EntrySelector::new(query).unwrap();
            assert_eq!(selector.matches(&labels, &metadata, 0, "level=warn msg=hello"), want, "{query}");
        }
        assert!(EntrySelector::new(r#"rate({app="x"}[1m])"#).is_err());
        assert!(EntrySelector::new(r#"{app="x"#).is_err());
    }
}
