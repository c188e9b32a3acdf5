//! `/api/v1/{rules,alerts,alertmanagers}`.

use axum::extract::{Request, State};
use serde_json::{Map, Value, json};
use trefoil_config::alerting::AlertmanagerConfig;
use trefoil_model::Matcher;
use trefoil_promql::format::format_e;
use trefoil_promql::parse_selector;
use trefoil_rules::{ActiveAlert, GroupSnapshot, RuleSnapshot};

use super::answer::{PromResult, label_map, rfc3339, success};
use crate::error::ApiError;
use crate::params::Params;
use crate::state::AppState;

struct Filter {
    alerts: bool,
    records: bool,
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    matchers: Vec<Vec<Matcher>>,
    with_alerts: bool,
}

impl Filter {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let (alerts, records) = match params.get("type").to_ascii_lowercase().as_str() {
            "" => (true, true),
            "alert" => (true, false),
            "record" => (false, true),
            other => return Err(ApiError::parameter("type", format!("not supported value {other:?}"))),
        };
        let exclude = match params.get("exclude_alerts").to_ascii_lowercase().as_str() {
            "" | "false" | "0" | "f" => false,
            "true" | "1" | "t" => true,
            _ => return Err(ApiError::parameter("exclude_alerts", "not a boolean")),
        };
        let list = |name: &str| params.all(name).map(str::to_owned).collect::<Vec<_>>();
        let matchers = params
            .all("match[]")
            .map(|text| parse_selector(text).map_err(|e| ApiError::parameter("match[]", e)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            alerts,
            records,
            names: list("rule_name[]"),
            groups: list("rule_group[]"),
            files: list("file[]"),
            matchers,
            with_alerts: !exclude,
        })
    }

    fn takes_group(&self, group: &GroupSnapshot) -> bool {
        let file = group.file.to_string_lossy();
        (self.groups.is_empty() || self.groups.contains(&group.name))
            && (self.files.is_empty() || self.files.iter().any(|f| *f == file))
    }

    fn takes_rule(&self, rule: &RuleSnapshot) -> bool {
        let kind = if rule.config.is_alert() { self.alerts } else { self.records };
        let label = |m: &Matcher| {
            let value = rule.config.labels.iter().find(|(n, _)| *n == m.name).map_or("", |(_, v)| v);
            m.matches(value)
        };
        kind && (self.names.is_empty() || self.names.iter().any(|n| n == rule.config.name()))
            && (self.matchers.is_empty() || self.matchers.iter().any(|all| all.iter().all(label)))
    }
}

/// `GET /api/v1/rules`
pub(super) async fn rules(State(state): State<AppState>, request: Request) -> PromResult {
    let params = Params::read(&state, request).await?;
    let filter = Filter::read(&params)?;
    let group_limit = match params.get("group_limit") {
        "" => usize::MAX,
        text => match text.parse::<usize>() {
            Ok(n) if n > 0 => n,
            _ => {
                return Err(
                    ApiError::parameter("group_limit", "group_limit needs to be a valid positive number").into()
                );
            }
        },
    };
    let token = params.get("group_next_token");
    if !token.is_empty() && group_limit == usize::MAX {
        let message = "group_limit needs to be present in order to paginate over the groups";
        return Err(ApiError::parameter("group_limit", message).into());
    }
    let all = state.rules.as_ref().map(|r| r.snapshot()).unwrap_or_default();
    let mut next = None;
    let mut groups = Vec::new();
    let mut found = token.is_empty();
    for group in all.iter().filter(|g| filter.takes_group(g)) {
        found |= group_token(group) == token;
        if !found {
            continue;
        }
        let rules: Vec<Value> =
            group.rules.iter().filter(|r| filter.takes_rule(r)).map(|r| rule(r, filter.with_alerts)).collect();
        if rules.is_empty() {
            continue;
        }
        if groups.len() >= group_limit {
            next = Some(group_token(group));
            break;
        }
        groups.push(json!({
            "name": group.name,
            "file": group.file.to_string_lossy(),
            "rules": rules,
            "interval": group.interval.as_secs_f64(),
            "limit": group.limit,
            "evaluationTime": group.evaluation_time.as_secs_f64(),
            "lastEvaluation": rfc3339(group.last_evaluation_ms),
        }));
    }
    if !found {
        let message = "invalid group_next_token, or the group it names is gone";
        return Err(ApiError::parameter("group_next_token", message).into());
    }
    let mut data = json!({ "groups": groups });
    if let (Some(next), Some(fields)) = (next, data.as_object_mut()) {
        fields.insert("groupNextToken".to_owned(), Value::from(next));
    }
    Ok(success(&data))
}

/// Names a group for the next page: the page goes on with it.
fn group_token(group: &GroupSnapshot) -> String {
    hex::encode(format!("{};{}", group.file.display(), group.name))
}

fn rule(rule: &RuleSnapshot, with_alerts: bool) -> Value {
    let config = &rule.config;
    let labels: Map<String, Value> = config.labels.iter().map(|(n, v)| (n.to_owned(), Value::from(v))).collect();
    let mut out = if config.is_alert() {
        let annotations: Map<String, Value> =
            config.annotations.iter().map(|(n, v)| (n.to_owned(), Value::from(v))).collect();
        let alerts: Vec<Value> = if with_alerts { rule.alerts.iter().map(alert).collect() } else { Vec::new() };
        json!({
            "state": rule.state.map_or("unknown", |s| s.as_str()),
            "name": config.name(),
            "query": config.expr,
            "duration": config.r#for.as_std().as_secs_f64(),
            "keepFiringFor": config.keep_firing_for.as_std().as_secs_f64(),
            "labels": labels,
            "annotations": annotations,
            "alerts": alerts,
        })
    } else {
        json!({ "name": config.name(), "query": config.expr, "labels": labels })
    };
    if let Some(fields) = out.as_object_mut() {
        fields.insert("health".to_owned(), Value::from(rule.health.as_str()));
        if !rule.last_error.is_empty() {
            fields.insert("lastError".to_owned(), Value::from(rule.last_error.as_str()));
        }
        fields.insert("evaluationTime".to_owned(), Value::from(rule.evaluation_time.as_secs_f64()));
        fields.insert("lastEvaluation".to_owned(), Value::from(rfc3339(rule.last_evaluation_ms)));
        fields.insert("type".to_owned(), Value::from(if config.is_alert() { "alerting" } else { "recording" }));
    }
    out
}

fn alert(alert: &ActiveAlert) -> Value {
    let annotations: Map<String, Value> =
        alert.annotations.iter().map(|(n, v)| (n.clone(), Value::from(v.as_str()))).collect();
    let mut out = json!({
        "labels": label_map(&alert.labels),
        "annotations": annotations,
        "state": alert.state.as_str(),
        "activeAt": rfc3339(alert.active_ms),
        "value": format_e(alert.value),
    });
    if let (Some(since), Some(fields)) = (alert.keep_firing_since_ms, out.as_object_mut()) {
        fields.insert("keepFiringSince".to_owned(), Value::from(rfc3339(since)));
    }
    out
}

/// `GET /api/v1/alerts`
pub(super) async fn alerts(State(state): State<AppState>) -> PromResult {
    let groups = state.rules.as_ref().map(|r| r.snapshot()).unwrap_or_default();
    let alerts: Vec<Value> = groups.iter().flat_map(|g| &g.rules).flat_map(|r| &r.alerts).map(alert).collect();
    Ok(success(&json!({ "alerts": alerts })))
}

/// `GET /api/v1/alertmanagers`
pub(super) async fn alertmanagers(State(state): State<AppState>) -> PromResult {
    let loaded = state.config();
    let active: Vec<Value> = loaded
        .config
        .alerting
        .alertmanagers
        .iter()
        .flat_map(|set| set.discovery.static_configs.iter().flat_map(|g| &g.targets).map(|t| url(set, t)))
        .map(|url| json!({ "url": url }))
        .collect();
    Ok(success(&json!({ "activeAlertmanagers": active, "droppedAlertmanagers": [] })))
}

fn url(set: &AlertmanagerConfig, target: &str) -> String {
    let prefix = set.path_prefix.trim_matches('/');
    let slash = if prefix.is_empty() { "" } else { "/" };
    format!("{}://{target}/{prefix}{slash}api/v2/alerts", set.scheme.as_str())
}
