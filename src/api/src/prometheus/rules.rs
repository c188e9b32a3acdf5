//! `/api/v1/{rules,alerts,alertmanagers}`.

use std::time::Duration;

use axum::extract::{Request, State};
use serde_json::{Map, Value, json};
use trefoil_config::alerting::AlertmanagerConfig;
use trefoil_model::Matcher;
use trefoil_promql::format::format_e;
use trefoil_rules::{ActiveAlert, GroupSnapshot, RuleSnapshot};

use super::answer::{PromResult, label_map, rfc3339, success};
use super::labels::{Faults, matchers};
use crate::error::ApiError;
use crate::params::{Params, number_fault, parse_bool};
use crate::state::{App, AppState};

/// Which groups and rules a client asks for.
pub(crate) struct RuleFilter {
    alerts: bool,
    records: bool,
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    matchers: Vec<Vec<Matcher>>,
    with_alerts: bool,
}

impl RuleFilter {
    /// Reads the parameters of `/api/v1/rules` that narrow what is listed.
    ///
    /// Errors: a parameter cannot be read.
    pub(crate) fn read(state: &App, params: &Params) -> Result<Self, ApiError> {
        // Checked first, as in the reference.
        let matchers = matchers(state, params, Faults::Bare)?;
        let (alerts, records) = match params.get("type").to_ascii_lowercase().as_str() {
            "" => (true, true),
            "alert" => (true, false),
            "record" => (false, true),
            other => return Err(ApiError::parameter("type", format!("not supported value {other:?}"))),
        };
        let exclude = match params.get("exclude_alerts").to_ascii_lowercase().as_str() {
            "" => false,
            text => parse_bool(text)
                .map_err(|e| ApiError::parameter("exclude_alerts", format!("error converting exclude_alerts: {e}")))?,
        };
        let list = |name: &str| params.all(name).map(str::to_owned).collect::<Vec<_>>();
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
    let filter = RuleFilter::read(&state, &params)?;
    let token = params.get("group_next_token");
    let group_limit = match params.get("group_limit") {
        "" if !token.is_empty() => {
            let message = "group_limit needs to be present in order to paginate over the groups";
            return Err(ApiError::parameter("group_next_token", message).into());
        }
        "" => usize::MAX,
        text => match text.parse::<i32>().map(usize::try_from) {
            Ok(Ok(n)) if n > 0 => n,
            Ok(_) => {
                return Err(ApiError::parameter("group_limit", "group_limit needs to be greater than 0").into());
            }
            Err(e) => {
                let fault = number_fault(&e);
                let message =
                    format!("group_limit needs to be a valid number: strconv.ParseInt: parsing {text:?}: {fault}");
                return Err(ApiError::parameter("group_limit", message).into());
            }
        },
    };
    let all = state.rules.as_ref().map(|r| r.snapshot()).unwrap_or_default();
    let query_text = promql_text(&state);
    let mut next = None;
    let mut groups = Vec::new();
    let mut found = token.is_empty();
    for group in &all {
        found = found || group_token(group) == token;
        if !found || !filter.takes_group(group) {
            continue;
        }
        let Some(shown) = group_json(group, &filter, &query_text) else { continue };
        if groups.len() >= group_limit {
            next = Some(group_token(group));
            break;
        }
        groups.push(shown);
    }
    if !found {
        let message = format!("invalid group_next_token '{token}'. were rule groups changed?");
        return Err(ApiError::parameter("group_next_token", message).into());
    }
    let mut data = json!({ "groups": groups });
    if let (Some(next), Some(fields)) = (next, data.as_object_mut()) {
        fields.insert("groupNextToken".to_owned(), Value::from(next));
    }
    Ok(success(&data))
}

/// A query as the reference prints it; what it cannot parse was refused with the configuration.
fn promql_text(state: &App) -> impl Fn(&str) -> String {
    |text| state.engine.parse(text).map_or_else(|_| text.to_owned(), |expr| expr.to_string())
}

/// The groups that the filter takes, as the API shows them. `query_text` prints an expression.
pub(crate) fn groups_of(
    groups: &[GroupSnapshot],
    filter: &RuleFilter,
    query_text: &dyn Fn(&str) -> String,
) -> Vec<Value> {
    let taken = groups.iter().filter(|group| filter.takes_group(group));
    taken.filter_map(|group| group_json(group, filter, query_text)).collect()
}

/// A group as the API shows it; `None` when no rule is left of it.
fn group_json(group: &GroupSnapshot, filter: &RuleFilter, query_text: &dyn Fn(&str) -> String) -> Option<Value> {
    let taken = group.rules.iter().filter(|r| filter.takes_rule(r));
    let rules: Vec<Value> = taken.map(|r| rule(query_text(&r.config.expr), r, filter.with_alerts)).collect();
    (!rules.is_empty()).then(|| {
        json!({
            "name": group.name,
            "file": group.file.to_string_lossy(),
            "rules": rules,
            "interval": seconds(group.interval),
            "limit": group.limit,
            "evaluationTime": group.evaluation_time.as_secs_f64(),
            "lastEvaluation": rfc3339(group.last_evaluation_ms),
        })
    })
}

/// Seconds, without a fraction when there is none.
fn seconds(time: Duration) -> Value {
    if time.subsec_nanos() == 0 { Value::from(time.as_secs()) } else { Value::from(time.as_secs_f64()) }
}

/// Names a group for the next page: the page goes on with it.
fn group_token(group: &GroupSnapshot) -> String {
    let named = format!("{};{}", group.file.display(), group.name);
    hex::encode(ring::digest::digest(&ring::digest::SHA256, named.as_bytes()))
}

fn rule(query: String, rule: &RuleSnapshot, with_alerts: bool) -> Value {
    let config = &rule.config;
    let labels: Map<String, Value> = config.labels.iter().map(|(n, v)| (n.to_owned(), Value::from(v))).collect();
    let mut out = if config.is_alert() {
        let annotations: Map<String, Value> =
            config.annotations.iter().map(|(n, v)| (n.to_owned(), Value::from(v))).collect();
        let alerts: Option<Vec<Value>> = with_alerts.then(|| rule.alerts.iter().map(alert).collect());
        json!({
            "state": rule.state.map_or("unknown", |s| s.as_str()),
            "name": config.name(),
            "query": query,
            "duration": seconds(config.r#for.as_std()),
            "keepFiringFor": seconds(config.keep_firing_for.as_std()),
            "labels": labels,
            "annotations": annotations,
            "alerts": alerts,
        })
    } else {
        json!({ "name": config.name(), "query": query, "labels": labels })
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
    Ok(success(&json!({ "alerts": alerts_of(&groups) })))
}

/// All alerts of the groups that are pending or fire, as the API shows them.
pub(crate) fn alerts_of(groups: &[GroupSnapshot]) -> Vec<Value> {
    groups.iter().flat_map(|g| &g.rules).flat_map(|r| &r.alerts).map(alert).collect()
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
