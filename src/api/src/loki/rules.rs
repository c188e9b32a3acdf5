//! The rules over logs as Loki's ruler tells them. Those over metrics belong to the Prometheus data source: listed here
//! they would show twice.
//!
//! A namespace is a rule file: its name, or its path where two files have the same name. Rules come from the
//! configuration alone; the calls that would change them are not there (405).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use trefoil_config::values::LabelMap;
use trefoil_config::yaml::Value;
use trefoil_config::{PromDuration, RuleConfig};
use trefoil_rules::GroupSnapshot;

use super::{json_value, refuse};
use crate::error::ApiError;
use crate::params::Params;
use crate::prometheus::rules::{RuleFilter, alerts_of, groups_of};
use crate::state::{App, AppState};

/// The groups with their namespaces, in order.
fn namespaces(state: &App) -> Vec<(String, GroupSnapshot)> {
    let groups = state.log_rules.as_ref().map(|r| r.snapshot()).unwrap_or_default();
    let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for group in &groups {
        let files = files.entry(short_name(group)).or_default();
        if !files.contains(&group.file) {
            files.push(group.file.clone());
        }
    }
    let name = |group: &GroupSnapshot| match files.get(&short_name(group)) {
        Some(same) if same.len() == 1 => short_name(group),
        _ => group.file.to_string_lossy().into_owned(),
    };
    groups.into_iter().map(|group| (name(&group), group)).collect()
}

fn short_name(group: &GroupSnapshot) -> String {
    group.file.file_name().unwrap_or(group.file.as_os_str()).to_string_lossy().into_owned()
}

/// `GET /loki/api/v1/rules`: the groups by namespace, in YAML. Without any Loki answers 404 in these words, which Grafana
/// takes for an empty list.
pub(super) async fn groups(State(state): State<AppState>) -> Response {
    by_namespace(namespaces(&state))
}

/// `GET /loki/api/v1/rules/{namespace}`
pub(super) async fn groups_within(State(state): State<AppState>, Path(namespace): Path<String>) -> Response {
    by_namespace(namespaces(&state).into_iter().filter(|(name, _)| *name == namespace).collect())
}

/// `GET /loki/api/v1/rules/{namespace}/{group}`
pub(super) async fn group(State(state): State<AppState>, Path((namespace, name)): Path<(String, String)>) -> Response {
    match namespaces(&state).iter().find(|(of, group)| *of == namespace && group.name == name) {
        Some((_, group)) => yaml(&group_value(group)),
        None => (StatusCode::NOT_FOUND, "group does not exist\n").into_response(),
    }
}

fn by_namespace(groups: Vec<(String, GroupSnapshot)>) -> Response {
    if groups.is_empty() {
        return (StatusCode::NOT_FOUND, "no rule groups found\n").into_response();
    }
    let mut all: Vec<(String, Value)> = Vec::new();
    for (name, group) in &groups {
        let value = group_value(group);
        match all.iter_mut().find(|(of, _)| of == name) {
            Some((_, Value::Seq(groups))) => groups.push(value),
            _ => all.push((name.clone(), Value::Seq(vec![value]))),
        }
    }
    yaml(&Value::Map(all))
}

fn yaml(value: &Value) -> Response {
    let mut response = value.to_yaml().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
    response
}

fn text(value: &str) -> Value {
    Value::Str(value.to_owned())
}

fn duration(time: Duration) -> Value {
    text(&PromDuration::from_ms(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)).to_string())
}

fn group_value(group: &GroupSnapshot) -> Value {
    let mut fields = vec![("name".to_owned(), text(&group.name)), ("interval".to_owned(), duration(group.interval))];
    if group.limit > 0 {
        fields.push(("limit".to_owned(), Value::Int(i128::from(group.limit))));
    }
    fields.push(("rules".to_owned(), Value::Seq(group.rules.iter().map(|r| rule_value(&r.config)).collect())));
    Value::Map(fields)
}

fn rule_value(rule: &RuleConfig) -> Value {
    let kind = if rule.is_alert() { "alert" } else { "record" };
    let mut fields = vec![(kind.to_owned(), text(rule.name())), ("expr".to_owned(), text(&rule.expr))];
    for (name, time) in [("for", rule.r#for), ("keep_firing_for", rule.keep_firing_for)] {
        if !time.is_zero() {
            fields.push((name.to_owned(), text(&time.to_string())));
        }
    }
    for (name, map) in [("labels", &rule.labels), ("annotations", &rule.annotations)] {
        if !map.0.is_empty() {
            fields.push((name.to_owned(), label_value(map)));
        }
    }
    Value::Map(fields)
}

fn label_value(labels: &LabelMap) -> Value {
    Value::Map(labels.iter().map(|(name, value)| (name.to_owned(), text(value))).collect())
}

/// `GET /prometheus/api/v1/rules`: the groups with their state in Prometheus' shape; `file` is the namespace.
pub(super) async fn rules(State(state): State<AppState>, request: Request) -> Response {
    let groups = async {
        let params = Params::read(&state, request).await?;
        let filter = RuleFilter::read(&state, &params)?;
        let mut groups = namespaces(&state);
        for (namespace, group) in &mut groups {
            group.file = PathBuf::from(std::mem::take(namespace));
        }
        let groups: Vec<GroupSnapshot> = groups.into_iter().map(|(_, group)| group).collect();
        Ok::<_, ApiError>(groups_of(&groups, &filter, &|expr| expr.to_owned()))
    };
    match groups.await {
        Ok(groups) => {
            json_value(&json!({ "status": "success", "data": { "groups": groups }, "errorType": "", "error": "" }))
        }
        Err(error) => refuse(error),
    }
}

/// `GET /prometheus/api/v1/alerts`
pub(super) async fn alerts(State(state): State<AppState>) -> Response {
    let groups = state.log_rules.as_ref().map(|r| r.snapshot()).unwrap_or_default();
    let alerts = alerts_of(&groups);
    json_value(&json!({ "status": "success", "data": { "alerts": alerts }, "errorType": "", "error": "" }))
}
