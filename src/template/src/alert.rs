//! Labels and annotations of alerting rules.

use std::sync::Arc;

use crate::prometheus_funcs;
use crate::template::{Escape, Limits, Template, TemplateError};
use crate::value::{Map, Value};

/// One sample that `query` gave.
#[derive(Debug, Clone, PartialEq)]
pub struct QuerySample {
    /// Labels, the metric name among them.
    pub labels: Vec<(String, String)>,
    /// Value.
    pub value: f64,
}

/// Answers the template function `query`.
pub type QueryFn = Arc<dyn Fn(&str) -> Result<Vec<QuerySample>, String> + Send + Sync>;

/// What an alert template sees.
#[derive(Debug, Clone, Copy)]
pub struct AlertTemplateInput<'a> {
    /// `$labels`: labels of the series.
    pub labels: &'a [(String, String)],
    /// `$value`: value of the sample.
    pub value: f64,
    /// `$externalLabels`.
    pub external_labels: &'a [(String, String)],
    /// `$externalURL`, also behind `externalURL` and `pathPrefix`.
    pub external_url: &'a str,
    /// Time of the evaluation in Unix milliseconds, for `now`.
    pub now_ms: i64,
}

const VARIABLES: [&str; 4] = ["$labels", "$externalLabels", "$externalURL", "$value"];

/// Parses a label or annotation of an alerting rule and checks its functions, without rendering it.
pub fn check_alert_template(source: &str) -> Result<(), TemplateError> {
    let template = Template::parse_with_variables("alert", source, &VARIABLES)?;
    template.check_functions(&prometheus_funcs::functions("", 0, None))
}

/// Renders a label or annotation of an alerting rule. Texts without `{{` come back as they are.
///
/// Errors with a message that has line and column; Prometheus then uses `<error expanding template: …>` as the value.
pub fn expand_alert_template(
    source: &str,
    input: &AlertTemplateInput<'_>,
    query: Option<QueryFn>,
) -> Result<String, String> {
    if !source.contains("{{") {
        return Ok(source.to_owned());
    }
    let describe = |e: TemplateError| format!("error expanding template at line {}, col {}: {}", e.line, e.col, e.msg);
    let template = Template::parse_with_variables("alert", source, &VARIABLES).map_err(describe)?;
    let functions = prometheus_funcs::functions(input.external_url, input.now_ms, query);
    template.check_functions(&functions).map_err(describe)?;
    let labels = Value::map(Map::strings(input.labels.iter().map(|(n, v)| (n.as_str(), v))));
    let external = Value::map(Map::strings(input.external_labels.iter().map(|(n, v)| (n.as_str(), v))));
    let url = Value::from(input.external_url);
    let value = Value::Float(input.value);
    let data = Value::map(Map::any([
        ("Labels", labels.clone()),
        ("ExternalLabels", external.clone()),
        ("ExternalURL", url.clone()),
        ("Value", value.clone()),
    ]));
    let variables = [(VARIABLES[0], labels), (VARIABLES[1], external), (VARIABLES[2], url), (VARIABLES[3], value)];
    template.render_with(&data, &variables, &functions, Limits::default(), Escape::None).map_err(describe)
}
