use parking_lot::Mutex;
use trefoil_config::{LabelMap, PromDuration};

use super::*;

/// Gives the same vector to every query until it is changed.
struct Fixed(Mutex<Result<Vec<VectorSample>, String>>);

impl Evaluate for Fixed {
    fn instant(&self, _: &str, _: i64) -> Result<Vec<VectorSample>, String> {
        self.0.lock().clone()
    }
}

fn fixed(samples: &[(&[(&str, &str)], f64)]) -> Arc<dyn Evaluate> {
    let samples =
        samples.iter().map(|(l, v)| VectorSample { labels: Labels::from_pairs(l.iter().copied()), value: *v });
    Arc::new(Fixed(Mutex::new(Ok(samples.collect()))))
}

fn labels(pairs: &[(&str, &str)]) -> LabelMap {
    LabelMap(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
}

fn written(outcome: &Outcome) -> Vec<String> {
    let b = &outcome.batch;
    let value = |v: f64| if trefoil_model::is_stale_nan(v) { "stale".to_owned() } else { v.to_string() };
    b.floats.iter().map(|p| format!("{} {}", b.series[p.series as usize], value(p.value))).collect()
}

#[test]
fn a_recording_rule_renames_and_ends_what_is_gone() {
    let config =
        RuleConfig { record: "r".into(), expr: "x".into(), labels: labels(&[("team", "a")]), ..RuleConfig::default() };
    let mut rule = Rule::new(config);
    let context = RuleContext::default();
    let query = fixed(&[(&[("__name__", "x"), ("i", "1")], 5.0), (&[("i", "2")], 6.0)]);
    let outcome = rule.evaluate(&query, &context, 0, 15, 0);
    assert_eq!(written(&outcome), [r#"{__name__="r", i="1", team="a"} 5"#, r#"{__name__="r", i="2", team="a"} 6"#]);
    let outcome = rule.evaluate(&fixed(&[(&[("i", "1")], 7.0)]), &context, 15, 15, 0);
    assert_eq!(written(&outcome), [r#"{__name__="r", i="2", team="a"} stale"#, r#"{__name__="r", i="1", team="a"} 7"#]);
    let twice = fixed(&[(&[("__name__", "x")], 1.0), (&[("__name__", "y")], 1.0)]);
    assert!(written(&rule.evaluate(&twice, &context, 30, 15, 0)).is_empty());
    assert_eq!(rule.snapshot().health, RuleHealth::Err);
    assert!(rule.last_error().contains("same labelset"), "{}", rule.last_error());
}

#[test]
fn an_alert_goes_through_its_states() {
    let config = RuleConfig {
        alert: "Down".into(),
        expr: "up == 0".into(),
        r#for: PromDuration::from_ms(15),
        labels: labels(&[("severity", "page"), ("job", "{{ $labels.job }}!")]),
        annotations: labels(&[
            ("summary", "{{ $labels.instance }} is {{ $value }}"),
            ("bad", "{{ query \"a\" | first | nope }}"),
        ]),
        ..RuleConfig::default()
    };
    let mut rule = Rule::new(config);
    let context = RuleContext {
        external_url: "http://x".into(),
        explore_path: "/explore/metrics".into(),
        resend_ms: 60,
        ..RuleContext::default()
    };
    let down = fixed(&[(&[("__name__", "up"), ("job", "j"), ("instance", "i")], 0.0)]);
    let first = rule.evaluate(&down, &context, 0, 15, 0);
    assert!(first.alerts.is_empty());
    assert_eq!(
        written(&first),
        [
            r#"{__name__="ALERTS", alertname="Down", alertstate="pending", instance="i", job="j!", severity="page"} 1"#,
            r#"{__name__="ALERTS_FOR_STATE", alertname="Down", instance="i", job="j!", severity="page"} 0"#
        ]
    );
    let second = rule.evaluate(&down, &context, 15, 15, 0);
    assert_eq!(written(&second).len(), 3, "{:?}", written(&second));
    let alert = &second.alerts[0];
    assert_eq!(alert.annotations[1], ("summary".to_owned(), "i is 0".to_owned()));
    assert!(alert.annotations[0].1.starts_with("<error expanding template: "), "{:?}", alert.annotations);
    assert_eq!(alert.generator_url, "http://x/explore/metrics?q=up%20%3D%3D%200");
    assert_eq!(rule.snapshot().state, Some(AlertState::Firing));
    let third = rule.evaluate(&fixed(&[]), &context, 30, 15, 0);
    assert!(written(&third).iter().all(|w| w.ends_with("stale")));
    assert_eq!(third.alerts[0].ends_ms, 30);
}

#[test]
fn the_limit_drops_the_alerts() {
    let mut rule = Rule::new(RuleConfig { alert: "A".into(), expr: "x".into(), ..RuleConfig::default() });
    let query = fixed(&[(&[("i", "1")], 1.0), (&[("i", "2")], 1.0)]);
    let outcome = rule.evaluate(&query, &RuleContext::default(), 0, 15, 1);
    assert!(outcome.alerts.is_empty() && rule.snapshot().alerts.is_empty());
    assert_eq!(rule.last_error(), "exceeded limit of 1 with 2 alerts");
}

/// Another language than the results are asked in.
struct OverLogs(Results);

/// An alert that has been pending since second 100, and was last evaluated at second 400.
struct Results;

impl Evaluate for Results {
    fn instant(&self, expr: &str, _: i64) -> Result<Vec<VectorSample>, String> {
        assert!(expr.contains("ALERTS_FOR_STATE{alertname=\"A\"}"), "{expr}");
        let labels = Labels::from_pairs([("alertname", "A"), ("i", "1")]);
        let value = if expr.starts_with("timestamp") { 400.0 } else { 100.0 };
        Ok(vec![VectorSample { labels, value }])
    }
}

impl Evaluate for OverLogs {
    fn instant(&self, expr: &str, _: i64) -> Result<Vec<VectorSample>, String> {
        assert_eq!(expr, "count_over_time({a=\"b\"}[1m])");
        Ok(vec![VectorSample { labels: Labels::from_pairs([("i", "1")]), value: 1.0 }])
    }

    fn over_results(&self) -> Option<&dyn Evaluate> {
        Some(&self.0)
    }
}

#[test]
fn the_state_of_an_alert_is_read_back_from_the_results() {
    let mut rule = Rule::new(RuleConfig {
        alert: "A".into(),
        expr: "count_over_time({a=\"b\"}[1m])".into(),
        r#for: PromDuration::from_ms(900_000),
        ..RuleConfig::default()
    });
    let query: Arc<dyn Evaluate> = Arc::new(OverLogs(Results));
    let context = RuleContext { explore_path: "/logs".into(), resend_ms: 60_000, ..RuleContext::default() };
    rule.evaluate(&query, &context, 500_000, 15_000, 0);
    let alert = &rule.snapshot().alerts[0];
    // The hundred seconds of the outage do not count.
    assert_eq!((alert.state, alert.active_ms), (AlertState::Pending, 200_000));
    let fired = rule.evaluate(&query, &context, 1_100_000, 15_000, 0);
    assert_eq!(fired.alerts[0].generator_url, "/logs?q=count_over_time%28%7Ba%3D%22b%22%7D%5B1m%5D%29");
}
