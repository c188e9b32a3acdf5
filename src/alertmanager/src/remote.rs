//! Alerts handed on: to several takers at once, and to other Alertmanagers over `POST /api/v2/alerts`.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde_json::json;
use tracing::warn;
use trefoil_client::HttpClient;
use trefoil_config::{AlertingConfig, LabelMap};
use trefoil_model::{Alert, AlertReceiver, Labels};

use crate::metrics;
use crate::webhook::{Pairs, rfc3339};

/// Hands alerts to several receivers.
pub struct FanOut(pub Vec<Arc<dyn AlertReceiver>>);

#[async_trait::async_trait]
impl AlertReceiver for FanOut {
    async fn receive(&self, alerts: Vec<Alert>) {
        for receiver in &self.0 {
            receiver.receive(alerts.clone()).await;
        }
    }
}

/// The labels with those external ones that are not among them.
pub(crate) fn with_external(labels: &Labels, external: &LabelMap) -> Labels {
    let mut out = labels.to_builder();
    for (name, value) in external.iter() {
        if out.get(name).is_none() {
            out.set(name, value);
        }
    }
    out.build()
}

struct Peer {
    url: String,
    client: HttpClient,
    timeout: Duration,
}

#[derive(Default)]
struct Peers {
    peers: Vec<Peer>,
    external_labels: LabelMap,
}

/// The Alertmanagers of `alerting.alertmanagers` (static ones).
#[derive(Default)]
pub struct RemoteAlertmanagers(RwLock<Arc<Peers>>);

impl RemoteAlertmanagers {
    /// Puts a configuration in force; on an error the old one stays.
    pub fn apply(&self, alerting: &AlertingConfig, external_labels: &LabelMap) -> Result<(), String> {
        let mut peers = Vec::new();
        for config in &alerting.alertmanagers {
            let client = HttpClient::new(&config.http, 10).map_err(|e| format!("alertmanager: {e}"))?;
            let prefix = config.path_prefix.trim_matches('/');
            let slash = if prefix.is_empty() { "" } else { "/" };
            for target in config.discovery.static_configs.iter().flat_map(|g| &g.targets) {
                peers.push(Peer {
                    url: format!("{}://{target}{slash}{prefix}/api/v2/alerts", config.scheme),
                    client: client.clone(),
                    timeout: config.timeout.as_std(),
                });
            }
        }
        *self.0.write() = Arc::new(Peers { peers, external_labels: external_labels.clone() });
        Ok(())
    }

    /// URLs of the Alertmanagers in force.
    pub fn urls(&self) -> Vec<String> {
        self.0.read().peers.iter().map(|p| p.url.clone()).collect()
    }
}

#[async_trait::async_trait]
impl AlertReceiver for RemoteAlertmanagers {
    async fn receive(&self, alerts: Vec<Alert>) {
        let current = Arc::clone(&self.0.read());
        if current.peers.is_empty() {
            return;
        }
        let body: Vec<_> = alerts
            .iter()
            .map(|alert| {
                let labels = with_external(&alert.labels, &current.external_labels);
                json!({
                    "labels": Pairs(labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()),
                    "annotations": Pairs(alert.annotations.clone()),
                    "startsAt": rfc3339(alert.starts_ms),
                    "endsAt": rfc3339(alert.ends_ms),
                    "generatorURL": alert.generator_url,
                })
            })
            .collect();
        for peer in &current.peers {
            let sent = async {
                let headers = peer.client.headers().map_err(|e| e.to_string())?;
                let request = peer.client.inner().post(&peer.url).headers(headers).timeout(peer.timeout).json(&body);
                let response = request.send().await.map_err(|e| e.to_string())?;
                if response.status().is_success() { Ok(()) } else { Err(format!("status {}", response.status())) }
            };
            match sent.await {
                Ok(()) => metrics::NOTIFICATIONS.with_label_values(&["alertmanager"]).inc(),
                Err(error) => {
                    metrics::FAILURES.with_label_values(&["alertmanager"]).inc();
                    warn!(alertmanager = %peer.url, %error, "alerts not handed on");
                }
            }
        }
    }
}
