//! The webhook receiver: Alertmanager's JSON, version 4.
//!
//! Source: "Configuration, webhook_config" of the Alertmanager documentation.

use serde::Serialize;
use trefoil_model::{Alert, Labels};

use crate::fingerprint::fingerprint;

/// Name and value pairs as a JSON object, in order of names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pairs(pub Vec<(String, String)>);

impl Serialize for Pairs {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(k, v)| (k, v)))
    }
}

/// One alert of a message.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookAlert {
    /// `firing` or `resolved`.
    pub status: &'static str,
    /// Labels.
    pub labels: Pairs,
    /// Annotations.
    pub annotations: Pairs,
    /// RFC 3339.
    pub starts_at: String,
    /// RFC 3339; the zero time while it fires.
    pub ends_at: String,
    /// Link to where it came from.
    #[serde(rename = "generatorURL")]
    pub generator_url: String,
    /// 16 hex digits.
    pub fingerprint: String,
}

/// The message.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookMessage {
    /// `4`.
    pub version: &'static str,
    /// Identifies the group.
    pub group_key: String,
    /// How many alerts `max_alerts` cut.
    pub truncated_alerts: u64,
    /// `firing` when any alert fires.
    pub status: &'static str,
    /// Name of the receiver.
    pub receiver: String,
    /// Labels the group is grouped by.
    pub group_labels: Pairs,
    /// Labels that all alerts share.
    pub common_labels: Pairs,
    /// Annotations that all alerts share.
    pub common_annotations: Pairs,
    /// URL of this server.
    #[serde(rename = "externalURL")]
    pub external_url: String,
    /// The alerts, firing ones first.
    pub alerts: Vec<WebhookAlert>,
}

const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Makes a message of a group's alerts at `now_ms`; `max_alerts` 0 for all.
pub fn message(
    receiver: &str,
    group: &Labels,
    alerts: &[Alert],
    now_ms: i64,
    max_alerts: u64,
    external_url: &str,
) -> WebhookMessage {
    let mut sorted: Vec<&Alert> = alerts.iter().collect();
    sorted.sort_by_key(|a| a.is_resolved(now_ms));
    let firing = sorted.first().is_some_and(|a| !a.is_resolved(now_ms));
    let common_labels = common(&sorted, |a| a.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect());
    let common_annotations = common(&sorted, |a| a.annotations.clone());
    let truncated = if max_alerts > 0 { (sorted.len() as u64).saturating_sub(max_alerts) } else { 0 };
    sorted.truncate(sorted.len() - truncated as usize);
    WebhookMessage {
        version: "4",
        group_key: format!("{{}}:{}", group_text(group)),
        truncated_alerts: truncated,
        status: status(firing),
        receiver: receiver.to_owned(),
        group_labels: pairs(group),
        common_labels,
        common_annotations,
        external_url: external_url.to_owned(),
        alerts: sorted.into_iter().map(|a| one(a, now_ms)).collect(),
    }
}

fn one(alert: &Alert, now_ms: i64) -> WebhookAlert {
    let resolved = alert.is_resolved(now_ms);
    WebhookAlert {
        status: status(!resolved),
        labels: pairs(&alert.labels),
        annotations: Pairs(alert.annotations.clone()),
        starts_at: rfc3339(alert.starts_ms),
        ends_at: if resolved { rfc3339(alert.ends_ms) } else { ZERO_TIME.to_owned() },
        generator_url: alert.generator_url.clone(),
        fingerprint: format!("{:016x}", fingerprint(&alert.labels)),
    }
}

fn status(firing: bool) -> &'static str {
    if firing { "firing" } else { "resolved" }
}

fn pairs(labels: &Labels) -> Pairs {
    Pairs(labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect())
}

fn common(alerts: &[&Alert], of: impl Fn(&Alert) -> Vec<(String, String)>) -> Pairs {
    let Some((first, rest)) = alerts.split_first() else { return Pairs::default() };
    let mut shared = of(first);
    for alert in rest {
        let theirs = of(alert);
        shared.retain(|pair| theirs.contains(pair));
    }
    Pairs(shared)
}

fn group_text(labels: &Labels) -> String {
    labels.to_string()
}

/// Unix milliseconds as RFC 3339 in UTC.
pub fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ZERO_TIME.to_owned(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(name: &str, ends_ms: i64) -> Alert {
        Alert {
            labels: Labels::from_pairs([("alertname", name), ("job", "j")]),
            annotations: vec![("summary".to_owned(), "s".to_owned())],
            starts_ms: 1_500,
            ends_ms,
            generator_url: "http://x".to_owned(),
        }
    }

    #[test]
    fn the_message_is_alertmanagers() {
        let group = Labels::from_pairs([("job", "j")]);
        let m = message("pager", &group, &[alert("gone", 2_000), alert("on", 90_000)], 3_000, 0, "http://me");
        let json = serde_json::to_value(&m).unwrap();
        assert_eq!(json["version"], "4");
        assert_eq!(json["status"], "firing");
        assert_eq!(json["groupKey"], "{}:{job=\"j\"}");
        assert_eq!(json["truncatedAlerts"], 0);
        assert_eq!(json["commonLabels"], serde_json::json!({"job": "j"}));
        assert_eq!(json["commonAnnotations"], serde_json::json!({"summary": "s"}));
        assert_eq!(json["externalURL"], "http://me");
        assert_eq!(json["alerts"][0]["labels"]["alertname"], "on");
        assert_eq!(json["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
        assert_eq!(json["alerts"][1]["status"], "resolved");
        assert_eq!(json["alerts"][1]["startsAt"], "1970-01-01T00:00:01.5Z");
        assert_eq!(json["alerts"][1]["endsAt"], "1970-01-01T00:00:02Z");
        assert_eq!(json["alerts"][1]["fingerprint"].as_str().unwrap().len(), 16);
        let cut = message("pager", &group, &[alert("gone", 2_000), alert("on", 90_000)], 3_000, 1, "");
        assert_eq!((cut.alerts.len(), cut.truncated_alerts), (1, 1));
    }
}
