//! Alerts on their way from the rules to whoever is told.

use crate::Labels;

/// One alert as rules hand it on; the body of Alertmanager's `POST /api/v2/alerts` holds the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Identity; `alertname` is among them.
    pub labels: Labels,
    /// Texts for people, in order of names.
    pub annotations: Vec<(String, String)>,
    /// When it became active, Unix milliseconds.
    pub starts_ms: i64,
    /// When it ended or, while it fires, when it counts as ended if nothing more is heard, Unix milliseconds.
    pub ends_ms: i64,
    /// Link to where it came from.
    pub generator_url: String,
}

impl Alert {
    /// True when it has ended at `now_ms`.
    pub fn is_resolved(&self, now_ms: i64) -> bool {
        self.ends_ms <= now_ms
    }
}

/// Takes alerts. Called with all that changed or must be repeated after each evaluation of a group.
#[async_trait::async_trait]
pub trait AlertReceiver: Send + Sync {
    /// Takes alerts; must not block for long (notifications are sent by tasks of the receiver).
    async fn receive(&self, alerts: Vec<Alert>);
}
