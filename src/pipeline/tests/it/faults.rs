//! Bad stages are refused with their place; nothing that a line holds panics.

use trefoil_config::yaml::node;
use trefoil_pipeline::{Pipeline, Plan, Use};

use crate::{entry, moment, plan};

#[track_caller]
fn check(stages: &str, place: &str, says: &str) {
    let faults = Plan::new(&node(stages).expect("a tree"), Use::Pushes).expect_err(stages);
    let found = faults.iter().any(|f| f.pos.to_string() == place && f.message.contains(says));
    assert!(found, "{stages}: {faults:?}");
}

#[test]
fn bad_stages_have_their_place() {
    check("x", "1:1", "must be a sequence");
    check("[x]", "1:2", "must be a mapping");
    check("- rejex: {}", "1:3", "unknown pipeline stage \"rejex\"");
    check("- regex: {expression: '(?P<a>'}", "1:11", "missing closing )");
    check("- regex: {expression: 'a'}", "1:11", "no named group");
    check("- regex:\n    source: x", "2:5", "needs expression");
    check("- regex: {expression: '(?P<a>.)', sauce: x}", "1:35", "field sauce not found in regex stage");
    check("- json: {expressions: {a: 'b[*]'}}", "1:24", "character 3");
    check("- json: {}", "1:9", "needs expressions");
    check("- timestamp: {source: a, format: RFC3339, location: Nowhere/None}", "1:43", "unknown time zone");
    check("- timestamp: {source: a, format: RFC3339, action_on_failure: cry}", "1:43", "skip or fudge");
    check("- template: {source: a, template: '{{ .x'}", "1:25", "invalid template");
    check("- template: {source: a, template: '{{ nofunc .x }}'}", "1:25", "not defined");
    check("- match: {selector: '{a=', stages: []}", "1:11", "parse error");
    check("- match: {selector: 'rate({a=\"b\"}[1m])', stages: []}", "1:11", "log query");
    check("- match: {selector: '{a=\"b\"}'}", "1:10", "needs stages");
    check("- match: {selector: '{a=\"b\"}', stages: [{labels: {'0x': }}]}", "1:51", "not a valid label name");
    check("- drop: {}", "1:9", "needs one of");
    check("- drop: {older_than: soon}", "1:10", "duration");
    check("- limit: {rate: 1, burst: 1}", "1:10", "drop: true here");
    check("- metrics: {a: {type: Timer}}", "1:16", "unknown type");
    check("- metrics: {a: {type: Counter, config: {action: dec}}}", "1:16", "inc, add");
    check("- metrics: {a: {type: Counter, prefix: trefoil_, config: {action: inc}}}", "1:16", "cannot be the name");
    check("- grok: {expression: '%{NOPE:x}'}", "1:10", "unknown pattern");
    check("- grok: {expression: '%{OWN:x}', patterns: {OWN: '('}}", "1:10", "missing closing )");
    check("- geoip: {db: x}", "1:10", "not run here");
    check("- tenant: {}", "1:11", "one of label");
    check("- replace: {expression: abc}", "1:13", "no group");
    let deep = (0..12).fold("[]".to_owned(), |inner, _| format!("[{{match: {{selector: '{{}}', stages: {inner}}}}}]"));
    let faults = Plan::new(&node(&deep).unwrap(), Use::Files).unwrap_err();
    assert!(faults[0].message.contains("nested deeper"), "{faults:?}");
    let many = format!("[{}]", "{decolorize: },".repeat(2_000));
    assert!(Plan::new(&node(&many).unwrap(), Use::Files).unwrap_err()[0].message.contains("1000 stages"));
}

#[test]
fn tenants_are_warned_of() {
    let plan = plan("[{tenant: {value: x}}]");
    assert!(plan.warnings()[0].message.contains("does nothing"));
}

#[test]
fn odd_lines_pass_every_stage() {
    let all = plan(
        r#"
- docker: {}
- cri: {}
- json: {expressions: {a: 'a.b[0]', t: }}
- logfmt: {mapping: {b: }}
- regex: {expression: '(?P<c>.*)'}
- grok: {expression: '%{COMBINEDAPACHELOG}'}
- timestamp: {source: t, format: '2006-01-02T15:04:05'}
- replace: {expression: '(.)(.?)', replace: '{{ .Value }}!'}
- template: {source: d, template: '{{ .c }}{{ .Entry }}'}
- labels: {b: , d: }
- multiline: {firstline: '^x'}
- pack: {labels: [d]}
- decolorize:
"#,
    );
    let mut pipeline = Pipeline::new(&all);
    let mut out = Vec::new();
    let nested = "[".repeat(100_000);
    let lines =
        ["", "\0", "é", "{", "\"", "{\"a\":", "{\"log\":1}", "\u{fffd}\u{1b}[", "= = =", nested.as_str(), "x\ny"];
    for (i, line) in lines.iter().enumerate() {
        pipeline.push(entry(line, i as u64), moment(0), &mut out);
    }
    pipeline.flush_all(moment(0), &mut out);
    assert_eq!(out.len(), lines.len());
}
