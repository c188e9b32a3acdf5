//! The crate `prometheus-parse` over the pages that both must read alike: values of plain gauges and counters.

use std::collections::BTreeMap;
use std::fs;

use trefoil_scrape::exposition::{Exposition, Line, TextFormat, series_labels};

use super::conformance_dir;

#[test]
fn plain_samples_agree() {
    let Some(dir) = conformance_dir("plain_samples_agree") else { return };
    let page = fs::read_to_string(dir.join("openmetrics/exposition-samples/node_exporter-linux.txt")).unwrap();
    let other = prometheus_parse::Scrape::parse(page.lines().map(|l| Ok(l.to_owned()))).unwrap();
    let mut ours = BTreeMap::new();
    for line in Exposition::new(page.as_bytes(), TextFormat::Classic).unwrap() {
        if let Line::Sample { series, value, .. } = line.unwrap() {
            ours.insert(series_labels(series).unwrap().build().to_string(), value);
        }
    }
    let mut compared = 0;
    for sample in other.samples {
        use prometheus_parse::Value;
        let (Value::Counter(v) | Value::Gauge(v) | Value::Untyped(v)) = sample.value else { continue };
        // It does not unescape values and splits them at commas and equals signs.
        if sample.labels.iter().any(|(_, l)| l.contains(['\\', ',', '=', '"'])) {
            continue;
        }
        let labels = sample.labels.iter().map(|(n, l)| (n.clone(), l.clone()));
        let labels = trefoil_model::Labels::from_pairs(labels.chain([("__name__".to_owned(), sample.metric.clone())]));
        if let Some(mine) = ours.get(&labels.to_string()) {
            assert!(mine.to_bits() == v.to_bits() || mine.is_nan() && v.is_nan(), "{labels}: {mine} and {v}");
            compared += 1;
        }
    }
    assert!(compared > 1500, "{compared}");
}
