//! Labels of OTLP series: attributes, `job`, `instance`, promoted attributes, scope.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use trefoil_model::Labels;
use trefoil_model::labels::METRIC_NAME;
use trefoil_runtime::limits::Limits;

use super::names::label_name;
use crate::ingest::IngestOptions;
use crate::metric_limits::check_labels;
use crate::otlp::attributes::value;

const IDENTIFYING: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];
/// Depth to which a list or map is written as a label value.
const DEPTH_MAX: usize = 8;

/// A label whose value is not empty.
type Pair = (String, String);

/// The labels that every series of a resource and scope has.
#[derive(Debug, Clone, Default)]
pub struct BaseLabels {
    /// Sorted by name, names unique.
    pairs: Vec<Pair>,
}

impl BaseLabels {
    /// `job`, `instance` and the promoted attributes of a resource.
    pub fn of_resource(attributes: &[KeyValue], options: &IngestOptions) -> Self {
        let mut pairs: Vec<Pair> = Vec::new();
        for kv in attributes.iter().filter(|kv| options.promote_resource_attributes.contains(&kv.key)) {
            set(&mut pairs, &label_name(&kv.key), text(kv));
        }
        let find = |name: &str| attributes.iter().find(|kv| kv.key == name).map(text).filter(|v| !v.is_empty());
        if let Some(service) = find("service.name") {
            let job = match find("service.namespace") {
                Some(namespace) => format!("{namespace}/{service}"),
                None => service,
            };
            set(&mut pairs, "job", job);
        }
        if let Some(instance) = find("service.instance.id") {
            set(&mut pairs, "instance", instance);
        }
        Self { pairs }
    }

    /// The labels with those of a scope.
    pub fn with_scope(&self, scope: Option<&InstrumentationScope>, schema_url: &str) -> Self {
        let mut pairs = self.pairs.clone();
        if let Some(scope) = scope {
            for kv in &scope.attributes {
                set(&mut pairs, &format!("otel_scope_{}", label_name(&kv.key)), text(kv));
            }
            set(&mut pairs, "otel_scope_name", scope.name.clone());
            set(&mut pairs, "otel_scope_version", scope.version.clone());
        }
        set(&mut pairs, "otel_scope_schema_url", schema_url.to_owned());
        Self { pairs }
    }

    /// The labels of `target_info`, or `None` when the resource has no identity or nothing else to tell.
    pub fn target_info(&self, attributes: &[KeyValue], limits: &Limits) -> Option<Labels> {
        let has = |name: &str| self.pairs.iter().any(|(n, _)| n == name);
        let others: Vec<KeyValue> =
            attributes.iter().filter(|kv| !IDENTIFYING.contains(&kv.key.as_str())).cloned().collect();
        if others.is_empty() || !(has("job") || has("instance")) {
            return None;
        }
        PointLabels::new(others, self).series("target_info", None, limits, &mut String::new()).ok()
    }
}

fn set(pairs: &mut Vec<Pair>, name: &str, value: String) {
    if value.is_empty() {
        return;
    }
    match pairs.iter_mut().find(|(n, _)| n == name) {
        Some(pair) => pair.1 = value,
        None => pairs.push((name.to_owned(), value)),
    }
}

fn text(kv: &KeyValue) -> String {
    match kv.value.as_ref().and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(s)) => s.clone(),
        _ => value(kv.value.clone(), DEPTH_MAX).to_text(),
    }
}

/// The labels of one data point, without the metric name.
#[derive(Debug)]
pub struct PointLabels {
    pairs: Vec<Pair>,
}

impl PointLabels {
    /// Attributes of a point under the labels of its resource, which win. Attributes whose names become equal are joined
    /// by `;` in order of their names.
    pub fn new(mut attributes: Vec<KeyValue>, base: &BaseLabels) -> Self {
        attributes.sort_by(|a, b| a.key.cmp(&b.key));
        let mut pairs: Vec<Pair> = Vec::with_capacity(attributes.len() + base.pairs.len());
        for kv in attributes {
            let value = match kv.value.and_then(|v| v.value) {
                Some(Value::StringValue(s)) => s,
                other => {
                    value(Some(opentelemetry_proto::tonic::common::v1::AnyValue { value: other }), DEPTH_MAX).to_text()
                }
            };
            if kv.key.is_empty() || value.is_empty() {
                continue;
            }
            let name = match label_name(&kv.key) {
                Cow::Owned(name) => name,
                Cow::Borrowed(_) => kv.key,
            };
            match pairs.iter_mut().find(|(n, _)| *n == name) {
                Some(pair) => {
                    pair.1.push(';');
                    pair.1.push_str(&value);
                }
                None => pairs.push((name, value)),
            }
        }
        for (name, value) in &base.pairs {
            set(&mut pairs, name, value.clone());
        }
        Self { pairs }
    }

    /// The label set of a series of this point: with its metric name and one more label (`le`, `quantile`).
    ///
    /// Errors with the reason when it exceeds the limits.
    pub fn series(
        &self,
        metric_name: &str,
        extra: Option<(&str, &str)>,
        limits: &Limits,
        scratch: &mut String,
    ) -> Result<Labels, String> {
        let own = |name: &str| name == METRIC_NAME || extra.is_some_and(|(n, _)| n == name);
        let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(self.pairs.len() + 2);
        pairs.push((METRIC_NAME, metric_name));
        pairs.extend(extra);
        pairs.extend(self.pairs.iter().filter(|(n, _)| !own(n)).map(|(n, v)| (n.as_str(), v.as_str())));
        pairs.sort_unstable_by(|a, b| a.0.cmp(b.0));
        check_labels(&pairs, limits)?;
        Ok(Labels::from_sorted_with(scratch, pairs))
    }
}
