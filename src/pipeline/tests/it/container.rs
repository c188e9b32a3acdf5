//! The formats of container runtimes.

use trefoil_pipeline::Pipeline;

use crate::{check, entry, moment, plan};

#[test]
fn docker_lines() {
    check(
        "[{docker: {}}]",
        &[
            r#"{"log":"hello \"x\"\n","stream":"stderr","time":"2026-01-02T03:04:06.123456789Z"}"#,
            r#"{"log":"first ","stream":"stdout","time":"2026-01-02T03:04:07Z"}"#,
            r#"{"log":"other\r\n","stream":"stderr","time":"2026-01-02T03:04:08Z"}"#,
            r#"{"log":"second\n","stream":"stdout","time":"2026-01-02T03:04:09Z"}"#,
            "not docker's",
            r#"{"log":"open","stream":"stdout","time":"2026-01-02T03:04:10Z"}"#,
        ],
        &[
            r#"{stream=stderr} [] 2026-01-02T03:04:06.123456789Z hello "x""#,
            "{stream=stderr} [] 2026-01-02T03:04:08Z other",
            "{stream=stdout} [] 2026-01-02T03:04:09Z first second",
            "{} [] now not docker's",
            "{stream=stdout} [] 2026-01-02T03:04:10Z open",
        ],
    );
}

#[test]
fn cri_lines() {
    check(
        "[{cri: {}}, {regex: {expression: '(?P<word>\\w+)$'}}, {labels: {word: }}]",
        &[
            "2026-01-02T03:04:06.000000001Z stderr F some log message",
            "2026-01-02T03:04:07Z stdout P par",
            "2026-01-02T03:04:08Z stderr F between",
            "2026-01-02T03:04:09Z stdout P ti",
            "2026-01-02T03:04:10+01:00 stdout F al",
            "2026-01-02T03:04:11Z stdout F ",
            "broken",
        ],
        &[
            "{stream=stderr,word=message} [] 2026-01-02T03:04:06.000000001Z some log message",
            "{stream=stderr,word=between} [] 2026-01-02T03:04:08Z between",
            "{stream=stdout,word=partial} [] 2026-01-02T02:04:10Z partial",
            "{stream=stdout} [] 2026-01-02T03:04:11Z ",
            "{word=broken} [] now broken",
        ],
    );
}

#[test]
fn parts_that_wait_are_known() {
    let mut pipeline = Pipeline::new(&plan("[{cri: {max_partial_lines: 3}}]"));
    let mut out = Vec::new();
    let mut held = Vec::new();
    for (i, flag) in ["P", "P", "P", "P"].iter().enumerate() {
        pipeline.push(entry(&format!("2026-01-02T03:04:06Z stdout {flag} {i}"), i as u64), moment(0), &mut out);
        if i == 1 {
            pipeline.held(&mut held);
        }
    }
    assert_eq!(held, [0, 1]);
    assert_eq!(out.iter().map(|e| e.record.text.as_str()).collect::<Vec<_>>(), ["012"]);
    assert!(pipeline.is_holding());
}
