//! A manager over a simulated clock: order within a group, aligned times, reloads, hand-over of alerts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use trefoil_config::RuleFile;
use trefoil_model::{Alert, AlertReceiver, Labels, MetricBatch, MetricWriter, WriteError, WriteReport, is_stale_nan};
use trefoil_rules::{Evaluate, RuleManager, RuleOptions, VectorSample};
use trefoil_runtime::{SharedClock, SimClock, Tasks};

/// The last written value of every series; `up` is what the test sets.
#[derive(Default)]
struct World {
    series: Mutex<std::collections::BTreeMap<Labels, f64>>,
    writes: Mutex<Vec<(String, i64)>>,
    alerts: Mutex<Vec<Alert>>,
}

#[async_trait::async_trait]
impl MetricWriter for World {
    async fn write(&self, batch: MetricBatch) -> Result<WriteReport, WriteError> {
        for p in &batch.floats {
            let labels = &batch.series[p.series as usize];
            self.writes.lock().push((labels.metric_name().to_owned(), p.t_ms));
            if is_stale_nan(p.value) {
                self.series.lock().remove(labels);
            } else {
                self.series.lock().insert(labels.clone(), p.value);
            }
        }
        Ok(WriteReport::default())
    }
}

#[async_trait::async_trait]
impl AlertReceiver for World {
    async fn receive(&self, alerts: Vec<Alert>) {
        self.alerts.lock().extend(alerts);
    }
}

impl Evaluate for World {
    /// Knows selectors without labels only.
    fn instant(&self, expr: &str, _: i64) -> Result<Vec<VectorSample>, String> {
        let series = self.series.lock();
        let found = series.iter().filter(|(l, _)| l.metric_name() == expr);
        Ok(found.map(|(l, v)| VectorSample { labels: l.clone(), value: *v }).collect())
    }
}

const RULES: &str = "groups:\n- name: g\n  rules:\n  - record: first\n    expr: base\n  - record: second\n    expr: first\n  - alert: On\n    expr: second\n    labels: { severity: page }\n";

fn options() -> RuleOptions {
    RuleOptions {
        interval_ms: 10_000,
        query_offset_ms: 0,
        external_labels: Vec::new(),
        external_url: "http://x".to_owned(),
        explore_path: "/explore/metrics".into(),
        resend_ms: 60_000,
    }
}

/// Advances the clock until `done` holds.
async fn advance_until(clock: &SimClock, what: &str, done: impl Fn() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        clock.advance(Duration::from_millis(500));
        // The group's task and its blocking threads run on real time.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never came: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_evaluates_in_order_and_a_reload_keeps_its_state() {
    let world = Arc::new(World::default());
    world.series.lock().insert(Labels::from_pairs([("__name__", "base"), ("i", "1")]), 3.0);
    let clock = SimClock::new(1_000_000);
    let shared: SharedClock = clock.clone();
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let manager = RuleManager::new(world.clone(), world.clone(), world.clone(), shared, tasks.clone());
    let file = |text: &str| vec![(PathBuf::from("r.yml"), RuleFile::parse(text, None).unwrap())];
    manager.apply(&file(RULES), &options());
    advance_until(&clock, "the first alert", || !world.alerts.lock().is_empty()).await;
    let first = world.alerts.lock()[0].clone();
    assert_eq!(first.labels, Labels::from_pairs([("alertname", "On"), ("i", "1"), ("severity", "page")]));
    let writes = world.writes.lock().clone();
    let at = writes[0].1;
    assert_eq!(writes[..2], [("first".to_owned(), at), ("second".to_owned(), at)], "in order, at one time");
    advance_until(&clock, "the second evaluation", || {
        world.writes.lock().iter().any(|(name, t)| name == "first" && *t == at + 10_000)
    })
    .await;

    // Another rule joins: the alert goes on firing since the same time.
    let active = manager.snapshot()[0].rules[2].alerts[0].active_ms;
    manager.apply(&file(&format!("{RULES}  - record: third\n    expr: first\n")), &options());
    advance_until(&clock, "the new rule", || world.writes.lock().iter().any(|(name, _)| name == "third")).await;
    assert_eq!(manager.snapshot()[0].rules[2].alerts[0].active_ms, active);

    // The alert's cause goes away, then the rules: nothing is left behind.
    world.series.lock().retain(|l, _| l.metric_name() != "base");
    advance_until(&clock, "the end of the alert", || {
        world.alerts.lock().last().is_some_and(|a| a.ends_ms <= a.starts_ms + 3_600_000 && a.is_resolved(i64::MAX))
    })
    .await;
    manager.apply(&[], &options());
    advance_until(&clock, "all series to end", || world.series.lock().is_empty()).await;
    assert!(manager.snapshot().is_empty());
    assert!(tasks.shutdown(Duration::from_secs(10)).await.finished);
}
