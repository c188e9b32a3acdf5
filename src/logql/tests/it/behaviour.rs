//! What the conformance cases do not reach: dotted names, ids, levels, merging, limits.

use std::sync::Arc;

use trefoil_logql::{Answer, Engine, Error, InstantQuery, Output, RangeQuery, merge_labels};
use trefoil_model::{
    AttributeValue, Direction, Labels, LogGroup, LogRecord, Purse, SpanId, TenantId, TraceId, Unlimited,
};

use trefoil_logql::testing::GroupsReader;

fn record(time_ns: i64, text: &str) -> LogRecord {
    LogRecord {
        time_ns,
        observed_ns: 0,
        severity_number: 0,
        severity_text: String::new(),
        text: text.to_owned(),
        attributes: Vec::new(),
        trace_id: None,
        span_id: None,
    }
}

fn reader() -> GroupsReader {
    let text = |s: &str| AttributeValue::String(s.to_owned());
    let mut traced = record(1, "one");
    traced.trace_id = Some(TraceId([0xab; 16]));
    traced.span_id = Some(SpanId([1; 8]));
    traced.severity_number = 17;
    traced.severity_text = "ERR".to_owned();
    traced.attributes = vec![("http.status".to_owned(), AttributeValue::Int(500))];
    let mut shadowing = record(2, "two");
    shadowing.attributes = vec![("k8s.node".to_owned(), text("own")), ("service.name".to_owned(), text("meta"))];
    let shared = vec![("k8s.node".to_owned(), text("shared"))];
    GroupsReader {
        groups: vec![LogGroup {
            stream: Labels::from_pairs([("service.name", "api")]),
            shared: Arc::new(shared),
            records: vec![traced, shadowing, record(3, "three")],
        }],
    }
}

fn range(query: &str, limit: usize) -> Result<Answer, Error> {
    let request = RangeQuery {
        query,
        start_ns: 0,
        end_ns: 100,
        step_ns: 1,
        direction: Direction::Forward,
        limit,
        tenant: TenantId(0),
    };
    Engine::range(&request, &reader(), &Unlimited)
}

fn lines(query: &str, limit: usize) -> Vec<String> {
    let Output::Streams(streams) = range(query, limit).expect(query).output else { panic!("{query}: no streams") };
    merge_labels(&streams)
        .iter()
        .flat_map(|s| s.values.iter().map(|(_, line)| format!("{line} {:?}", s.labels)))
        .collect()
}

#[test]
fn opentelemetry_records() {
    let all = lines(r#"{service_name="api"}"#, 0);
    assert_eq!(all.len(), 3);
    assert!(all[0].contains(r#"("detected_level", "error")"#), "{}", all[0]);
    assert!(all[0].contains(r#"("http_status", "500")"#) && all[0].contains(r#"("severity_text", "ERR")"#));
    assert!(all[0].contains(r#"("trace_id", "abababababababababababababababab")"#));
    assert!(all[1].contains(r#"("k8s_node", "own")"#) && all[1].contains(r#"("service_name_extracted", "meta")"#));
    assert!(all[2].contains(r#"("k8s_node", "shared")"#));
    for (query, count) in [
        (r#"{service_name="api"} | trace_id="abababababababababababababababab""#, 1),
        (r#"{service_name="api"} | span_id="0101010101010101" |= "one""#, 1),
        (r#"{service_name="api"} | detected_level="error""#, 1),
        (r#"{service_name="api"} | http_status >= 500"#, 1),
        (r#"{service_name="api"} | service_name="api""#, 3),
        (r#"{service_name="api"} | k8s_node="shared""#, 2),
        (r#"{service_name="api"} | service_name_extracted="meta""#, 1),
        (r#"{service_name="api"} | trace_id="x" or http_status="500""#, 1),
    ] {
        assert_eq!(lines(query, 0).len(), count, "{query}");
    }
    assert_eq!(lines(r#"{service_name="api"}"#, 2).len(), 2);
}

fn instant(query: &str) -> Result<Output, Error> {
    let request = InstantQuery { query, time_ns: 10, tenant: TenantId(0) };
    Engine::instant(&request, &reader(), &Unlimited).map(|a| a.output)
}

#[test]
fn metric_queries() {
    let check = |query: &str, want: &[(&str, f64)]| {
        let Output::Vector { samples, .. } = instant(query).unwrap_or_else(|e| panic!("{query}: {e}")) else {
            panic!("{query}: no vector")
        };
        let got: Vec<(String, f64)> = samples.iter().map(|s| (s.labels.to_string(), s.value)).collect();
        let want: Vec<(String, f64)> = want.iter().map(|(l, v)| ((*l).to_owned(), *v)).collect();
        assert_eq!(got, want, "{query}");
    };
    check(r#"sum(count_over_time({service_name="api"}[1s]))"#, &[("{}", 3.0)]);
    check(
        r#"sum by (k8s_node) (count_over_time({service_name="api"}[1s]))"#,
        &[("{k8s_node=\"own\"}", 1.0), ("{k8s_node=\"shared\"}", 2.0)],
    );
    check(r#"sum(bytes_over_time({service_name="api"}[1s]))"#, &[("{}", 11.0)]);
    // No label is needed, so the parser and its errors are left out.
    check(r#"sum(count_over_time({service_name="api"} | json [1s]))"#, &[("{}", 3.0)]);
    check(r#"sum by (x) (count_over_time({service_name="api"} | json | drop __error__ [1s]))"#, &[("{}", 3.0)]);
    check(
        r#"topk(1, sum by (k8s_node) (count_over_time({service_name="api"}[1s])))"#,
        &[("{k8s_node=\"shared\"}", 2.0)],
    );
    let error = instant(r#"sum by (x) (count_over_time({service_name="api"} | json [1s]))"#).unwrap_err();
    assert!(matches!(&error, Error::Pipeline { error, .. } if error == "JSONParserErr"), "{error}");
    assert_eq!(error.status(), 400);
    let error = range("vector(1)", 0).map(|a| a.stats.entries_returned);
    assert_eq!(error.unwrap(), 101);
}

#[test]
fn the_bytes_read_have_a_limit() {
    let request = RangeQuery {
        query: r#"{service_name="api"} |= "three""#,
        start_ns: 0,
        end_ns: 100,
        step_ns: 1,
        direction: Direction::Forward,
        limit: 1,
        tenant: TenantId(0),
    };
    assert!(Engine::range_within(&request, &reader(), &Unlimited, 11).is_ok());
    let reader = GroupsReader { groups: reader().groups };
    let all = RangeQuery { query: r#"{service_name="api"}"#, limit: 0, ..request };
    let error = Engine::range_within(&all, &reader, &Unlimited, 10).unwrap_err();
    assert!(matches!(error, Error::Scan(10)) && error.status() == 400, "{error}");
}

#[test]
fn budgets_stop_queries() {
    let reader = reader();
    let request = RangeQuery {
        query: r#"{service_name="api"}"#,
        start_ns: 0,
        end_ns: 100,
        step_ns: 1,
        direction: Direction::Backward,
        limit: 0,
        tenant: TenantId(0),
    };
    let error = Engine::range(&request, &reader, &Purse::empty()).unwrap_err();
    assert_eq!(error.status(), 400, "{error}");
    let metric = RangeQuery { query: r#"rate({service_name="api"}[1s])"#, ..request };
    assert!(Engine::range(&metric, &reader, &Purse::empty()).is_err());
    let many = RangeQuery { query: "vector(1)", end_ns: 1_000_000, ..request };
    assert_eq!(Engine::range(&many, &reader, &Unlimited).unwrap_err().status(), 400);
}

#[test]
fn grouped_results_do_not_depend_on_what_is_left_out() {
    // Restricting extraction to the labels in use must not change which label gets the suffix.
    let mut conflicting = record(1, r#"{"level":"parsed","a":{"b":2},"service_name":"inner"}"#);
    conflicting.attributes = vec![("level".to_owned(), AttributeValue::String("meta".to_owned()))];
    let reader = GroupsReader {
        groups: vec![LogGroup {
            stream: Labels::from_pairs([("service.name", "api")]),
            shared: Arc::default(),
            records: vec![conflicting],
        }],
    };
    for (pipeline, by, want) in [
        ("json", "level", "{level=\"meta\"}"),
        ("json", "level_extracted", "{level_extracted=\"parsed\"}"),
        ("json", "service_name_extracted, a_b", "{a_b=\"2\", service_name_extracted=\"inner\"}"),
        ("json | label_format x=a_b", "x", "{x=\"2\"}"),
        ("json | label_format x=`{{ .level_extracted }}-{{ $.a_b }}`", "x", "{x=\"parsed-2\"}"),
        (
            "json | label_format x=`{{ range $k, $v := . }}{{ $k }},{{ end }}`",
            "x",
            "{x=\"a_b,level,level_extracted,service_name,service_name_extracted,\"}",
        ),
        ("json | line_format `{{ .level_extracted }}` | regexp `(?P<y>.*)`", "y", "{y=\"parsed\"}"),
        ("json | a_b > 1 | drop level=\"meta\"", "level", "{}"),
    ] {
        let query = format!(r#"sum by ({by}) (count_over_time({{service_name="api"}} | {pipeline} [1s]))"#);
        let request = InstantQuery { query: &query, time_ns: 10, tenant: TenantId(0) };
        let output = Engine::instant(&request, &reader, &Unlimited).unwrap_or_else(|e| panic!("{query}: {e}")).output;
        let Output::Vector { samples, .. } = output else { panic!("{query}: no vector") };
        assert_eq!(samples.iter().map(|s| s.labels.to_string()).collect::<Vec<_>>(), [want], "{query}");
    }
}
