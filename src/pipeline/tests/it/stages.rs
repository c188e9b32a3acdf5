//! What each stage does.

use prometheus::{Encoder, TextEncoder};
use trefoil_pipeline::Pipeline;

use crate::{check, entry, moment, plan};

#[test]
fn values_become_labels_metadata_time_and_line() {
    check(
        r#"
- regex:
    expression: '^(?P<time>\S+) (?P<level>\w+) (?P<component>\w+): (?P<msg>.*)$'
- timestamp: {source: time, format: RFC3339}
- labels:
    level:
    part: component
- structured_metadata: {whole: msg}
- output: {source: msg}
"#,
        &["2026-01-02T03:04:06.5Z warn db: slow", "no match"],
        &[
            "{level=warn,part=db} [whole=slow] 2026-01-02T03:04:06.5Z slow",
            "{} [] 2026-01-02T03:04:06.500000001Z no match",
        ],
    );
    check(
        r#"
- json:
    expressions: {ts: time, lvl: log.level, code: 'http.codes[0]', gone: nothing, whole: http}
    drop_malformed: true
- timestamp: {source: ts, format: UnixMs}
- labels: {lvl: , code: , gone: }
- structured_metadata: {whole: }
"#,
        &[r#"{"time":1767323046000,"log":{"level":"info"},"http":{"codes":[200,1]}}"#, "{broken"],
        &[
            r#"{code=200,lvl=info} [whole={"codes":[200,1]}] 2026-01-02T03:04:06Z {"time":1767323046000,"log":{"level":"info"},"http":{"codes":[200,1]}}"#,
        ],
    );
    check(
        "[{logfmt: {mapping: {lvl: level, took: }}}, {labels: {lvl: , took: }}]",
        &[r#"level=warn took="1 s" other=x"#],
        &[r#"{lvl=warn,took=1 s} [] now level=warn took="1 s" other=x"#],
    );
    check(
        "[{grok: {expression: ['^%{COMMONAPACHELOG}$', '%{NUMBER:n:int} things']}}, {labels: {verb: , response: , n: }}]",
        &[r#"10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /x HTTP/1.1" 404 -"#, "12 things"],
        &[
            r#"{response=404,verb=GET} [] now 10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /x HTTP/1.1" 404 -"#,
            "{n=12} [] now 12 things",
        ],
    );
    check(
        "[{regex: {expression: '(?P<a>.)(?P<b>.)', labels_from_groups: true}}, {static_labels: {c: x}}]",
        &["12"],
        &["{a=1,b=2,c=x} [] now 12"],
    );
}

#[test]
fn times_fall_back() {
    check(
        r#"
- regex: {expression: '^(?P<t>[^|]*)'}
- timestamp:
    source: t
    format: '2006-01-02 15:04:05'
    fallback_formats: [UnixDate, Unix]
    location: Europe/Berlin
    action_on_failure: skip
"#,
        &["2026-01-02 04:04:06|a", "1767323047|b", "what|c"],
        &[
            "{} [] 2026-01-02T03:04:06Z 2026-01-02 04:04:06|a",
            "{} [] 2026-01-02T03:04:07Z 1767323047|b",
            "{} [] now what|c",
        ],
    );
}

#[test]
fn labels_are_dropped_and_allowed() {
    check("[{static_labels: {a: x, b: y}}, {labeldrop: [a]}]", &["l"], &["{b=y} [] now l"]);
    check("[{static_labels: {a: x, b: y}}, {labelallow: [a, job, filename]}]", &["l"], &["{a=x} [] now l"]);
}

#[test]
fn lines_are_dropped() {
    check("[{drop: {expression: '.*debug.*'}}]", &["debug x", "info x"], &["{} [] now info x"]);
    check("[{drop: {longer_than: 3b}}]", &["1234", "123"], &["{} [] now 123"]);
    let json = "{json: {expressions: {level: , msg: }}}";
    check(
        &format!("[{json}, {{drop: {{source: level, value: debug}}}}]"),
        &[r#"{"level":"debug"}"#, r#"{"level":"info"}"#, "{}"],
        &[r#"{} [] now {"level":"info"}"#, "{} [] now {}"],
    );
    check(
        &format!("[{json}, {{drop: {{source: [level, msg], expression: '^debug;x'}}}}]"),
        &[r#"{"level":"debug","msg":"xy"}"#, r#"{"level":"debug","msg":"y"}"#],
        &[r#"{} [] now {"level":"debug","msg":"y"}"#],
    );
    check(
        "[{regex: {expression: '(?P<t>.*)'}}, {timestamp: {source: t, format: Unix}}, {drop: {older_than: 1h}}]",
        &["1767319000", "1767323000"],
        &["{} [] 2026-01-02T03:03:20Z 1767323000"],
    );
    check("[{sampling: {rate: 0}}]", &["a"], &[]);
    check("[{sampling: {rate: 1}}]", &["a"], &["{} [] now a"]);
}

#[test]
fn limits_drop_or_wait() {
    let mut dropping = Pipeline::new(&plan("[{limit: {rate: 1, burst: 2, drop: true}}]"));
    let mut out = Vec::new();
    for second in [0, 0, 0, 1, 1] {
        dropping.push(entry("x", 0), moment(second), &mut out);
    }
    assert_eq!(out.len(), 3);
    let mut waiting = Pipeline::new(&plan("[{limit: {rate: 2, burst: 1}}]"));
    out.clear();
    for _ in 0..3 {
        waiting.push(entry("x", 0), moment(0), &mut out);
    }
    assert_eq!((out.len(), waiting.take_wait().as_millis()), (3, 1_000));
    let by = plan(
        "[{regex: {expression: '(?P<u>.)'}}, {labels: {u: }}, {limit: {rate: 1, burst: 1, drop: true, by_label_name: u}}]",
    );
    let mut by = Pipeline::new(&by);
    out.clear();
    for line in ["a", "a", "b"] {
        by.push(entry(line, 0), moment(0), &mut out);
    }
    assert_eq!(out.len(), 2);
}

#[test]
fn texts_change() {
    check(
        r#"[{replace: {expression: 'password (\S+)', replace: '****'}}]"#,
        &["password a and password b", "none"],
        &["{} [] now password **** and password ****", "{} [] now none"],
    );
    check(
        r#"
- replace:
    expression: '^(?P<ip>\d+\.\d+\.\d+\.\d+) (\S+)'
    replace: '{{ if eq .Value "10.0.0.1" }}{{ Sha2Hash .Value "salt" | trunc 4 }}{{ else }}{{ .Value | ToUpper }}{{ end }}'
- labels: {ip: }
"#,
        &["10.0.0.1 frank x"],
        &["{ip=dc15} [] now dc15 FRANK x"],
    );
    check(
        r#"
- json: {expressions: {level: , app: , n: }}
- template: {source: level, template: '{{ if eq .Value "WARN" }}{{ Replace .Value "WARN" "OK" -1 }}{{ else }}{{ .Value }}{{ end }}'}
- template: {source: made, template: '{{ .app }}-{{ .n }}-{{ .job }}-{{ len .Entry }}'}
- template: {source: app, template: '{{ if .n }}{{ end }}'}
- labels: {level: , made: , app: }
"#,
        &[r#"{"level":"WARN","app":"x","n":3}"#],
        &[r#"{level=OK,made=x-3-a-32} [] now {"level":"WARN","app":"x","n":3}"#],
    );
    check(
        "[{static_labels: {pod: p, keep: k}}, {pack: {labels: [pod, none], ingest_timestamp: false}}]",
        &["line \"x\""],
        &[r#"{keep=k} [] now {"pod":"p","_entry":"line \"x\""}"#],
    );
    check("[{decolorize: }]", &["\u{1b}[31mred\u{1b}[0m plain"], &["{} [] now red plain"]);
}

#[test]
fn matching_lines_go_through_stages_of_their_own() {
    check(
        r#"
- match:
    selector: '{job="a"} |= "secret"'
    action: drop
    drop_counter_reason: secret
- match:
    selector: '{job="a"} |~ "^json"'
    stages:
    - regex: {expression: '^json (?P<doc>.*)'}
    - json: {source: doc, expressions: {app: }}
    - labels: {app: }
    - match:
        selector: '{app="x"}'
        stages: [{static_labels: {nested: "yes"}}]
- match:
    selector: '{job="b"}'
    stages: [{static_labels: {wrong: "yes"}}]
- tenant: {value: t}
"#,
        &["a secret", r#"json {"app":"x"}"#, r#"json {"app":"y"}"#, "plain"],
        &[r#"{app=x,nested=yes} [] now json {"app":"x"}"#, r#"{app=y} [] now json {"app":"y"}"#, "{} [] now plain"],
    );
}

const TRACE: [&str; 7] = [
    "stray line",
    "2026-01-02 03:04:05 ERROR boom",
    "java.lang.IllegalStateException: x",
    "\tat a.B.c(B.java:1)",
    "Caused by: y",
    "2026-01-02 03:04:06 INFO fine",
    "2026-01-02 03:04:07 INFO fine",
];

#[test]
fn stack_traces_are_joined() {
    check(
        r#"[{multiline: {firstline: '^\d{4}-'}}, {regex: {expression: '^(?s)\S+ \S+ (?P<level>\w+) '}}, {labels: {level: }}]"#,
        &TRACE,
        &[
            "{} [] now stray line",
            "{level=ERROR} [] now 2026-01-02 03:04:05 ERROR boom\njava.lang.IllegalStateException: x\n\tat a.B.c(B.java:1)\nCaused by: y",
            "{level=INFO} [] now 2026-01-02 03:04:06 INFO fine",
            "{level=INFO} [] now 2026-01-02 03:04:07 INFO fine",
        ],
    );
    check(
        r"[{multiline: {firstline: '^\d{4}-', max_lines: 2}}]",
        &TRACE[1..5],
        &[
            "{} [] now 2026-01-02 03:04:05 ERROR boom\njava.lang.IllegalStateException: x",
            "{} [] now \tat a.B.c(B.java:1)",
            "{} [] now Caused by: y",
        ],
    );
}

#[test]
fn what_is_held_is_known_and_goes_in_time() {
    let mut pipeline = Pipeline::new(&plan(r"[{multiline: {firstline: '^\d{4}-', max_wait_time: 3s}}]"));
    let mut out = Vec::new();
    for (i, line) in TRACE.iter().take(5).enumerate() {
        pipeline.push(entry(line, 10 * i as u64), moment(i as u64), &mut out);
    }
    assert_eq!(out.len(), 1);
    let held = |pipeline: &Pipeline| {
        let mut held = Vec::new();
        pipeline.held(&mut held);
        held
    };
    assert_eq!(held(&pipeline), [10, 20, 30, 40]);
    pipeline.flush_due(moment(6), &mut out);
    assert_eq!((out.len(), held(&pipeline).len()), (1, 4));
    pipeline.flush_due(moment(7), &mut out);
    assert_eq!((out.len(), held(&pipeline).len()), (2, 0));
    assert_eq!((out[1].sources.first, out[1].sources.more.as_slice()), (10, [20, 30, 40].as_slice()));
}

#[test]
fn a_joined_line_is_cut_at_its_limit() {
    let mut pipeline = Pipeline::new(&plan("[{multiline: {firstline: '^first'}}]"));
    let mut out = Vec::new();
    pipeline.push(entry("first", 0), moment(0), &mut out);
    for i in 1..100 {
        pipeline.push(entry(&"é".repeat(5_000), i), moment(0), &mut out);
    }
    pipeline.flush_all(moment(0), &mut out);
    assert_eq!(out.len(), 1);
    assert!(out[0].record.text.len() <= 256 << 10);
    let cut = trefoil_model::value::find(&out[0].record.attributes, "trefoil.line_bytes").map(|v| v.to_text());
    assert_eq!(cut.as_deref(), Some("990104"));
}

#[test]
fn lines_are_counted_on_the_metrics_page() {
    let stages = plan(
        r#"
- regex: {expression: 'took (?P<took>\S+) (?P<outcome>\w+)'}
- metrics:
    lines_total: {type: Counter, description: lines, config: {match_all: true, action: inc}}
    bytes_total: {type: counter, prefix: my_, config: {match_all: true, count_entry_bytes: true, action: add}}
    failed_total: {type: Counter, source: outcome, config: {value: fail, action: inc}}
    last_seconds: {type: Gauge, source: took, config: {action: set}}
    took_seconds: {type: Histogram, source: took, config: {buckets: [0.1, 1]}}
"#,
    );
    let mut pipeline = Pipeline::new(&stages);
    let mut out = Vec::new();
    for line in ["took 50ms ok", "took 0.5 fail", "took 2s fail"] {
        pipeline.push(entry(line, 0), moment(0), &mut out);
    }
    assert_eq!(out.len(), 3);
    let page = || {
        let mut text = Vec::new();
        TextEncoder::new().encode(&prometheus::gather(), &mut text).unwrap();
        String::from_utf8(text).unwrap()
    };
    let labels = r#"filename="/var/log/a.log",job="a""#;
    let shown = page();
    for want in [
        format!("promtail_custom_lines_total{{{labels}}} 3"),
        format!("my_bytes_total{{{labels}}} 37"),
        format!("promtail_custom_failed_total{{{labels}}} 2"),
        format!("promtail_custom_last_seconds{{{labels}}} 2"),
        format!("promtail_custom_took_seconds_bucket{{{labels},le=\"0.1\"}} 1"),
        format!("promtail_custom_took_seconds_bucket{{{labels},le=\"1\"}} 2"),
        format!("promtail_custom_took_seconds_bucket{{{labels},le=\"+Inf\"}} 3"),
        format!("promtail_custom_took_seconds_sum{{{labels}}} 2.55"),
        "# TYPE promtail_custom_took_seconds histogram".to_owned(),
    ] {
        assert!(shown.contains(&want), "{want} in {shown}");
    }
    drop((pipeline, stages));
    assert!(!page().contains("promtail_custom_lines_total"));
}
