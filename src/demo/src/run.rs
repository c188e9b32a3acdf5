//! The shop as a running thing: its pages on loopback, its requests once a tick, its fault.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use trefoil_runtime::{OnError, Phase, SharedClock, Tasks};

use crate::pages::{Call, Page};
use crate::send::{Sender, Timed};
use crate::shop::{SERVICES, Simulation};

/// Parts of the shop that have pages but send no spans.
const BACKENDS: [&str; 3] = ["cache", "broker", "database"];
const TICK: Duration = Duration::from_millis(500);
/// Requests of an outage of the server are thrown away beyond so many, as an SDK's queue would.
const BACKLOG_MAX: usize = 2_000;

/// Where the shop sends, and how it behaves.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// `http://host:port` of OTLP over gRPC.
    pub otlp_grpc: String,
    /// `http://host:port` of OTLP over HTTP.
    pub otlp_http: String,
    /// `http://host:port` of everything else.
    pub base: String,
    /// Value of the Authorization header, when the server asks for one.
    pub authorization: Option<String>,
    /// Requests a second. Default 6.
    pub rate: f64,
    /// Time from the start of one fault to the next. Default 5 min.
    pub fault_every: Duration,
    /// Length of a fault. Default 100 s. The first begins after `fault_after`.
    pub fault_for: Duration,
    /// Time until the first fault. Default 60 s.
    pub fault_after: Duration,
    /// Seed of the requests.
    pub seed: u64,
}

impl DemoOptions {
    /// The defaults for a server at these addresses.
    pub fn new(otlp_grpc: impl Into<String>, otlp_http: impl Into<String>, base: impl Into<String>) -> Self {
        Self {
            otlp_grpc: otlp_grpc.into(),
            otlp_http: otlp_http.into(),
            base: base.into(),
            authorization: None,
            rate: 6.0,
            fault_every: Duration::from_secs(300),
            fault_for: Duration::from_secs(100),
            fault_after: Duration::from_secs(60),
            seed: 7,
        }
    }

    /// True when the card processor is in trouble at this time after the start.
    fn fault_at(&self, since_start: Duration) -> bool {
        let Some(into) = since_start.checked_sub(self.fault_after) else { return false };
        let every = self.fault_every.as_millis().max(1);
        into.as_millis() % every < self.fault_for.as_millis()
    }
}

struct Part {
    name: &'static str,
    address: SocketAddr,
    page: Arc<Mutex<Page>>,
    listener: Option<TcpListener>,
}

/// The shop, its pages bound but not yet served.
pub struct Shop {
    parts: Vec<Part>,
}

impl Shop {
    /// Binds a page for every part on a free port of loopback.
    pub async fn bind() -> anyhow::Result<Self> {
        let mut parts = Vec::new();
        for name in SERVICES.into_iter().chain(BACKENDS) {
            let listener =
                TcpListener::bind(("127.0.0.1", 0)).await.with_context(|| format!("bind the page of {name}"))?;
            let address = listener.local_addr().context("address of a page")?;
            parts.push(Part { name, address, page: Arc::default(), listener: Some(listener) });
        }
        Ok(Self { parts })
    }

    /// The `scrape_configs` entry of the shop's pages, as YAML.
    pub fn scrape_config(&self) -> String {
        let mut out =
            String::from("- job_name: shop\n  scrape_interval: 5s\n  scrape_timeout: 4s\n  static_configs:\n");
        for part in &self.parts {
            out.push_str(&format!(
                "  - targets: [\"{}\"]\n    labels: {{ service: {}, namespace: shop }}\n",
                part.address, part.name
            ));
        }
        out
    }

    /// Rules of the shop, as a Prometheus rule file.
    pub fn rules() -> &'static str {
        r#"groups:
- name: shop
  interval: 5s
  rules:
  - record: service:shop_requests:rate1m
    expr: sum by (service, code) (rate(shop_requests_total[1m]))
  - record: service:shop_errors:ratio_rate1m
    expr: |
      sum by (service) (rate(shop_requests_total{code=~"5.."}[1m]))
        / sum by (service) (rate(shop_requests_total[1m]))
  - alert: PaymentsFailing
    expr: service:shop_errors:ratio_rate1m{service="payments"} > 0.1
    for: 15s
    labels:
      severity: page
    annotations:
      summary: "{{ $value | humanizePercentage }} of payments fail"
      description: "The card processor behind {{ $labels.service }} times out."
  - alert: ShopPartDown
    expr: up{job="shop"} == 0
    for: 30s
    labels:
      severity: page
    annotations:
      summary: "{{ $labels.service }} at {{ $labels.instance }} cannot be scraped"
"#
    }

    /// Serves the pages and sends requests until the tasks are told to stop.
    pub fn start(mut self, options: DemoOptions, tasks: &Tasks, clock: SharedClock) -> anyhow::Result<()> {
        for part in &mut self.parts {
            let listener = part.listener.take().expect("a page is served once");
            let router = Router::new().route("/metrics", get(page)).with_state(Arc::clone(&part.page));
            tasks.spawn_once("demo page", Phase::Background, OnError::Log, move |stop| async move {
                axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await?;
                Ok(())
            });
        }
        let mut sender =
            Sender::new(&options.otlp_grpc, &options.otlp_http, &options.base, options.authorization.clone())?;
        let parts = self.parts;
        tasks.spawn_once("demo shop", Phase::Accept, OnError::Log, move |stop| async move {
            let mut simulation = Simulation::new(options.seed);
            let begun = clock.monotonic();
            let mut backlog: Vec<Timed> = Vec::new();
            let mut waiting = 0.0;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = clock.sleep(TICK) => {}
                }
                let fault = options.fault_at(clock.monotonic().saturating_sub(begun));
                for _ in 0..simulation.arrivals(options.rate * TICK.as_secs_f64()) {
                    let request = simulation.request(fault);
                    let took_us = request.spans.iter().map(|s| s.end_us).max().unwrap_or(0);
                    // It ended just now.
                    let timed = Timed { start_ns: clock.now_ns() - took_us * 1000, request };
                    measure(&parts, &timed);
                    waiting += f64::from(u8::from(timed.request.queued));
                    backlog.push(timed);
                }
                waiting = (waiting * 0.6f64).floor();
                if let Some(broker) = parts.iter().find(|p| p.name == "broker") {
                    broker.page.lock().set(
                        "shop_broker_queue_messages",
                        "Messages that wait in the queue shipments.",
                        waiting,
                    );
                }
                if backlog.is_empty() {
                    continue;
                }
                match sender.send(&backlog).await {
                    Ok(()) => backlog.clear(),
                    Err(error) => {
                        tracing::debug!(error = format!("{error:#}"), "demo telemetry not sent");
                        if backlog.len() > BACKLOG_MAX {
                            backlog.drain(..backlog.len() - BACKLOG_MAX);
                        }
                    }
                }
            }
        });
        Ok(())
    }
}

/// Counts a request on the pages of all parts that it touched.
fn measure(parts: &[Part], timed: &Timed) {
    let trace = hex::encode(timed.request.trace);
    let page = |name: &str| parts.iter().find(|p| p.name == name).expect("every part has a page").page.lock();
    for call in &timed.request.calls {
        page(SERVICES[call.service]).observe(Call {
            route: call.route,
            code: call.code,
            seconds: call.seconds,
            trace: &trace,
            span: &hex::encode(call.span),
            at_s: timed.start_ns as f64 / 1e9,
        });
    }
    let hit = f64::from(u8::from(timed.request.cache_hit));
    let mut cache = page("cache");
    cache.add("shop_cache_hits", "Look-ups that the cache answered.", hit);
    cache.add("shop_cache_misses", "Look-ups that the cache did not answer.", 1.0 - hit);
    drop(cache);
    page("database").add("shop_database_statements", "SQL statements.", timed.request.db_statements as f64);
    let queued = f64::from(u8::from(timed.request.queued));
    page("broker").add("shop_broker_messages", "Messages published to the queue shipments.", queued);
}

async fn page(State(page): State<Arc<Mutex<Page>>>) -> impl IntoResponse {
    let text = page.lock().render();
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_and_go() {
        let options = DemoOptions::new("", "", "");
        let at = |s| options.fault_at(Duration::from_secs(s));
        assert_eq!(
            [at(0), at(59), at(60), at(159), at(160), at(359), at(360)],
            [false, false, true, true, false, false, true]
        );
    }
}
