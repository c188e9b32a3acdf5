//! Chunks that the library of Prometheus 3 (v0.316.0) wrote, with what it reads from them.

use serde::Deserialize;

use super::*;
use crate::json_lines::HistogramText;

#[derive(Deserialize)]
struct Case {
    name: String,
    encoding: u8,
    data: String,
    samples: Vec<Want>,
}

#[derive(Deserialize)]
struct Want {
    t: i64,
    start: i64,
    #[serde(default)]
    bits: String,
    histogram: Option<HistogramText>,
}

fn cases() -> Vec<(Case, Vec<u8>)> {
    let lines = include_str!("../../../tests/fixtures/chunks.jsonl").lines();
    let bytes = |hex: &str| {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect::<Vec<u8>>()
    };
    lines
        .map(|line| {
            let case: Case = serde_json::from_str(line).unwrap();
            let data = bytes(&case.data);
            (case, data)
        })
        .collect()
}

#[test]
fn chunks_of_prometheus_are_read_to_the_bit() {
    let mut kinds = std::collections::BTreeSet::new();
    for (case, data) in cases() {
        kinds.insert(case.encoding);
        let mut got = Vec::new();
        let result = decode(Encoding::from_byte(case.encoding).unwrap(), &data, &mut |t, start, value| {
            got.push((t, start, value))
        });
        assert_eq!(result, Ok(()), "{}", case.name);
        assert_eq!(got.len(), case.samples.len(), "{}", case.name);
        for ((t, start, value), want) in got.iter().zip(&case.samples) {
            assert_eq!((*t, *start), (want.t, want.start), "{}", case.name);
            match (value, &want.histogram) {
                (Value::Float(v), None) => assert_eq!(format!("{:016x}", v.to_bits()), want.bits, "{}", case.name),
                (Value::Histogram(h), Some(text)) => {
                    let want = text.read().unwrap();
                    // A stale marker's sum is not equal to itself.
                    assert_eq!(format!("{h:?}"), format!("{want:?}"), "{}", case.name);
                    assert_eq!(h.sum.to_bits(), want.sum.to_bits(), "{}", case.name);
                }
                _ => panic!("{}: another kind of value", case.name),
            }
        }
    }
    assert_eq!(kinds.len(), 6, "{kinds:?}");
}

#[test]
fn broken_chunks_are_refused_without_panic() {
    for (case, data) in cases() {
        let encoding = Encoding::from_byte(case.encoding).unwrap();
        for cut in 0..data.len() {
            // What is cut may still hold whole samples, but not all.
            let mut count = 0;
            let result = decode(encoding, &data[..cut], &mut |_, _, _| count += 1);
            assert!(result.is_err() || count <= case.samples.len(), "{} cut to {cut}", case.name);
        }
        for at in 0..data.len() {
            for bit in [0, 3, 7] {
                let mut broken = data.clone();
                broken[at] ^= 1 << bit;
                decode(encoding, &broken, &mut |_, _, _| {}).ok();
            }
        }
    }
}
