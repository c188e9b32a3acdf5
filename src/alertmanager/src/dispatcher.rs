//! Route, groups and deliveries.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{info, warn};
use trefoil_client::HttpClient;
use trefoil_config::LabelMap;
use trefoil_config::trefoil::{InlineAlertmanager, WebhookConfig};
use trefoil_model::{Alert, AlertReceiver, Labels};
use trefoil_runtime::{SharedClock, Stop};

use crate::group::{AlertGroup, GroupTimes, Reason};
use crate::metrics;
use crate::remote::with_external;
use crate::webhook::message;

/// What is configured.
#[derive(Debug, Clone, Default)]
pub struct AlertmanagerOptions {
    /// Route and receivers.
    pub config: InlineAlertmanager,
    /// URL of this server, without a slash at the end.
    pub external_url: String,
    /// `global.external_labels`: every alert gets those that it does not have.
    pub external_labels: LabelMap,
}

/// A receiver that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("receiver {receiver:?}: {reason}")]
pub struct ReceiverError {
    /// Name of the receiver.
    pub receiver: String,
    /// What is wrong.
    pub reason: String,
}

/// Deliveries of one notification before it waits for the next flush.
const ATTEMPTS: u32 = 5;
const BACKOFF: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Most alerts held; more are refused with a warning.
const ALERTS_MAX: usize = 10_000;

struct Webhook {
    config: WebhookConfig,
    client: HttpClient,
}

struct Route {
    receiver: String,
    webhooks: Vec<Arc<Webhook>>,
    group_by: Vec<String>,
    times: GroupTimes,
    external_url: String,
    external_labels: LabelMap,
}

#[derive(Default)]
struct State {
    route: Option<Arc<Route>>,
    groups: BTreeMap<Labels, AlertGroup>,
}

/// Groups alerts and tells receivers. [`Dispatcher::run`] is its task.
pub struct Dispatcher {
    clock: SharedClock,
    state: Mutex<State>,
    changed: Notify,
}

impl Dispatcher {
    /// Makes a dispatcher without a route: alerts are dropped until one is applied.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, state: Mutex::default(), changed: Notify::new() }
    }

    /// Puts a configuration in force; on an error the old one stays. Groups start anew when the grouping changed.
    pub fn apply(&self, options: Option<&AlertmanagerOptions>) -> Result<(), ReceiverError> {
        let route = options.map(make_route).transpose()?.flatten().map(Arc::new);
        let mut state = self.state.lock();
        let grouping = |r: &Option<Arc<Route>>| r.as_ref().map(|r| r.group_by.clone());
        if grouping(&state.route) != grouping(&route) {
            state.groups.clear();
        }
        state.route = route;
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Groups with their alerts, for APIs.
    pub fn groups(&self) -> Vec<(Labels, Vec<Alert>)> {
        self.state.lock().groups.values().map(|g| (g.labels.clone(), g.alerts().cloned().collect())).collect()
    }

    /// Flushes groups when they are due, until told to stop.
    pub async fn run(self: Arc<Self>, stop: Stop) {
        loop {
            let now = self.clock.now_ms();
            let next = self.state.lock().groups.values().map(AlertGroup::next_flush_ms).min();
            let wait =
                next.map_or(Duration::from_secs(3600), |n| Duration::from_millis((n - now).max(0).unsigned_abs()));
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => continue,
                () = self.clock.sleep(wait) => {}
            }
            for (key, reason, alerts, route) in self.due() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    told = self.notify(&key, &alerts, &route) => {
                        if told {
                            info!(group = %key, ?reason, alerts = alerts.len(), receiver = %route.receiver, "notification sent");
                            if let Some(group) = self.state.lock().groups.get_mut(&key) {
                                group.told(&alerts, self.clock.now_ms());
                            }
                        }
                    }
                }
            }
        }
    }

    fn due(&self) -> Vec<(Labels, Reason, Vec<Alert>, Arc<Route>)> {
        let now = self.clock.now_ms();
        let mut state = self.state.lock();
        let Some(route) = state.route.clone() else { return Vec::new() };
        let mut due = Vec::new();
        for (key, group) in &mut state.groups {
            if group.next_flush_ms() <= now
                && let Some((reason, alerts)) = group.flush(now, route.times)
            {
                due.push((key.clone(), reason, alerts, Arc::clone(&route)));
            }
        }
        state.groups.retain(|_, g| !g.is_empty());
        metrics::ALERTS.set(state.groups.values().map(AlertGroup::len).sum::<usize>() as i64);
        due
    }

    /// Tells all webhooks of the receiver; true when each took it (or needs nothing told).
    async fn notify(&self, key: &Labels, alerts: &[Alert], route: &Route) -> bool {
        let mut all = true;
        for webhook in &route.webhooks {
            all &= self.deliver(key, alerts, route, webhook).await;
        }
        all
    }

    async fn deliver(&self, key: &Labels, alerts: &[Alert], route: &Route, webhook: &Webhook) -> bool {
        let now = self.clock.now_ms();
        let told: Vec<Alert> =
            alerts.iter().filter(|a| webhook.config.send_resolved || !a.is_resolved(now)).cloned().collect();
        if told.is_empty() {
            return true;
        }
        let body = message(&route.receiver, key, &told, now, webhook.config.max_alerts, &route.external_url);
        let mut backoff = BACKOFF;
        for attempt in 1..=ATTEMPTS {
            match post(webhook, &body).await {
                Ok(()) => {
                    metrics::NOTIFICATIONS.with_label_values(&["webhook"]).inc();
                    return true;
                }
                Err((error, retry)) => {
                    metrics::FAILURES.with_label_values(&["webhook"]).inc();
                    warn!(receiver = %route.receiver, attempt, %error, "notification failed");
                    if !retry || attempt == ATTEMPTS {
                        return false;
                    }
                }
            }
            self.clock.sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        false
    }
}

#[async_trait::async_trait]
impl AlertReceiver for Dispatcher {
    async fn receive(&self, alerts: Vec<Alert>) {
        let now = self.clock.now_ms();
        let mut state = self.state.lock();
        let Some(route) = state.route.clone() else { return };
        let mut held: usize = state.groups.values().map(AlertGroup::len).sum();
        let mut refused = 0;
        for mut alert in alerts {
            alert.labels = with_external(&alert.labels, &route.external_labels);
            let all = route.group_by.iter().any(|l| l == "...");
            let key = alert.labels.filter(|name| all || route.group_by.iter().any(|l| l == name));
            if held >= ALERTS_MAX && !state.groups.contains_key(&key) {
                refused += 1;
                continue;
            }
            held += 1;
            let group = state.groups.entry(key.clone()).or_insert_with(|| AlertGroup::new(key, now, route.times));
            group.insert(alert, now, route.times);
        }
        drop(state);
        if refused > 0 {
            warn!(refused, limit = ALERTS_MAX, "alerts refused: too many are held");
        }
        self.changed.notify_one();
    }
}

fn make_route(options: &AlertmanagerOptions) -> Result<Option<Route>, ReceiverError> {
    let Some(route) = &options.config.route else { return Ok(None) };
    let receiver = options.config.receivers.iter().find(|r| r.name == route.receiver);
    let fault = |reason: String| ReceiverError { receiver: route.receiver.clone(), reason };
    let receiver = receiver.ok_or_else(|| fault("not defined".to_owned()))?;
    let webhooks = receiver
        .webhook_configs
        .iter()
        .map(|config| {
            let client = HttpClient::new(&config.http_config, 10).map_err(|e| fault(e.to_string()))?;
            Ok(Arc::new(Webhook { config: config.clone(), client }))
        })
        .collect::<Result<_, ReceiverError>>()?;
    Ok(Some(Route {
        receiver: receiver.name.clone(),
        webhooks,
        group_by: route.group_by.clone(),
        times: GroupTimes {
            wait_ms: route.group_wait.as_ms(),
            interval_ms: route.group_interval.as_ms(),
            repeat_ms: route.repeat_interval.as_ms(),
        },
        external_url: options.external_url.clone(),
        external_labels: options.external_labels.clone(),
    }))
}

/// One request; the flag says whether it may help to try again.
async fn post(webhook: &Webhook, body: &crate::webhook::WebhookMessage) -> Result<(), (String, bool)> {
    let url = match (&webhook.config.url, &webhook.config.url_file) {
        (Some(url), _) => url.expose().to_owned(),
        (None, Some(file)) => read_url(file).map_err(|e| (e, true))?,
        (None, None) => return Err(("no url".to_owned(), false)),
    };
    let timeout = match webhook.config.timeout.as_std() {
        Duration::ZERO => Duration::from_secs(10),
        timeout => timeout,
    };
    let headers = webhook.client.headers().map_err(|e| (e.to_string(), true))?;
    let request = webhook.client.inner().post(url).headers(headers).timeout(timeout).json(body);
    // The URL may hold a secret.
    let response = request.send().await.map_err(|e| (e.without_url().to_string(), true))?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    Err((format!("webhook answered {status}"), status.is_server_error() || status.as_u16() == 429))
}

fn read_url(file: &PathBuf) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("read url_file {}: {e}", file.display()))?;
    Ok(text.trim().to_owned())
}
