//! JSON lines, the form of VictoriaMetrics' `/api/v1/export` and `/api/v1/import`.
//!
//! ```text
//! {"metric":{"__name__":"up","job":"api"},"values":[1,null,"NaN"],"timestamps":[1000,2000,3000]}
//! ```
//!
//! Times are Unix milliseconds. Lossless to the bit: finite values are the shortest number that reads back the same
//! (`-0.0` too), infinities are "Infinity" and "-Infinity", `null` is the stale marker (that is what VictoriaMetrics
//! writes it as), "NaN" is the NaN of Prometheus (0x7ff8000000000001), and any other NaN stands as "NaN:" and its bits
//! in hexadecimal, which is ours alone. A field `starts` holds start timestamps when there are any, and native
//! histograms are in lines with a field `histograms` in the place of `values`; both are ours alone.
//!
//! A line holds at most [`LINE_SAMPLES_MAX`] samples, so a series may have many.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use trefoil_model::{CounterResetHint, FloatHistogram, HistogramSpan, Labels, STALE_NAN, SampleBuffer, is_stale_nan};

use crate::error::{Damage, TransferError};
use crate::export::{ExportReport, Exporter};
use crate::import::Importer;

/// Samples in a line that we write.
pub const LINE_SAMPLES_MAX: usize = 10_000;
/// The longest line that is read.
const LINE_BYTES_MAX: usize = 64 << 20;
/// The NaN that Prometheus computes with.
const NORMAL_NAN: u64 = 0x7ff8_0000_0000_0001;

#[derive(Deserialize)]
struct LineIn<'a> {
    metric: BTreeMap<String, String>,
    #[serde(borrow, default)]
    values: Vec<&'a RawValue>,
    #[serde(default)]
    histograms: Vec<HistogramText>,
    timestamps: Vec<i64>,
    #[serde(default)]
    starts: Vec<i64>,
}

/// A native histogram; floats are texts so that none is lost.
#[derive(Serialize, Deserialize)]
pub(crate) struct HistogramText {
    schema: i32,
    zero_threshold: String,
    zero_count: String,
    count: String,
    sum: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    positive_spans: Vec<(i32, u32)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    positive_buckets: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    negative_spans: Vec<(i32, u32)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    negative_buckets: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    custom_values: Vec<String>,
    /// unknown, reset, no_reset, gauge.
    #[serde(default)]
    reset: String,
    #[serde(default)]
    integer: bool,
}

fn value_text(value: f64) -> String {
    match value {
        v if is_stale_nan(v) => "null".to_owned(),
        v if v.to_bits() == NORMAL_NAN => "\"NaN\"".to_owned(),
        v if v.is_nan() => format!("\"NaN:{:016x}\"", v.to_bits()),
        f64::INFINITY => "\"Infinity\"".to_owned(),
        f64::NEG_INFINITY => "\"-Infinity\"".to_owned(),
        v => {
            let mut buffer = ryu::Buffer::new();
            let text = buffer.format_finite(v);
            // "-0" would be read as a whole number by some.
            let is_short = text != "-0.0";
            text.strip_suffix(".0").filter(|_| is_short).unwrap_or(text).to_owned()
        }
    }
}

fn read_value(text: &str) -> Option<f64> {
    if text == "null" {
        return Some(STALE_NAN);
    }
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    if let Some(bits) = inner.strip_prefix("NaN:") {
        return u64::from_str_radix(bits, 16).ok().map(f64::from_bits).filter(|v| v.is_nan());
    }
    match inner.to_ascii_lowercase().as_str() {
        "nan" => Some(f64::from_bits(NORMAL_NAN)),
        "infinity" | "+infinity" | "inf" | "+inf" => Some(f64::INFINITY),
        "-infinity" | "-inf" => Some(f64::NEG_INFINITY),
        // The standard library reads to the nearest float; what is too large for one is no number.
        number => number.parse().ok().filter(|v: &f64| v.is_finite()),
    }
}

impl HistogramText {
    fn of(h: &FloatHistogram) -> Self {
        let texts = |values: &[f64]| values.iter().map(|v| value_text(*v)).collect();
        let spans = |spans: &[HistogramSpan]| spans.iter().map(|s| (s.offset, s.length)).collect();
        let reset = match h.counter_reset_hint {
            CounterResetHint::Unknown => "unknown",
            CounterResetHint::CounterReset => "reset",
            CounterResetHint::NotCounterReset => "no_reset",
            CounterResetHint::Gauge => "gauge",
        };
        Self {
            schema: h.schema,
            zero_threshold: value_text(h.zero_threshold),
            zero_count: value_text(h.zero_count),
            count: value_text(h.count),
            sum: value_text(h.sum),
            positive_spans: spans(&h.positive_spans),
            positive_buckets: texts(&h.positive_buckets),
            negative_spans: spans(&h.negative_spans),
            negative_buckets: texts(&h.negative_buckets),
            custom_values: texts(&h.custom_values),
            reset: reset.to_owned(),
            integer: h.integer,
        }
    }

    pub(crate) fn read(&self) -> Option<FloatHistogram> {
        let values = |texts: &[String]| texts.iter().map(|t| read_value(t)).collect::<Option<Vec<f64>>>();
        let spans = |spans: &[(i32, u32)]| {
            spans.iter().map(|(offset, length)| HistogramSpan { offset: *offset, length: *length }).collect()
        };
        Some(FloatHistogram {
            schema: self.schema,
            zero_threshold: read_value(&self.zero_threshold)?,
            zero_count: read_value(&self.zero_count)?,
            count: read_value(&self.count)?,
            sum: read_value(&self.sum)?,
            positive_spans: spans(&self.positive_spans),
            positive_buckets: values(&self.positive_buckets)?,
            negative_spans: spans(&self.negative_spans),
            negative_buckets: values(&self.negative_buckets)?,
            custom_values: values(&self.custom_values)?,
            counter_reset_hint: match self.reset.as_str() {
                "reset" => CounterResetHint::CounterReset,
                "no_reset" => CounterResetHint::NotCounterReset,
                "gauge" => CounterResetHint::Gauge,
                _ => CounterResetHint::Unknown,
            },
            integer: self.integer,
        })
    }
}

/// Imports a file. A line that is wrong is told as damage and the rest is imported.
pub fn import(path: &Path, from: &mut dyn BufRead, into: &mut Importer<'_>) -> Result<(), TransferError> {
    let (mut line, mut at, mut number) = (Vec::new(), 0u64, 0u64);
    loop {
        line.clear();
        let mut limited = std::io::Read::take(&mut *from, LINE_BYTES_MAX as u64);
        number += 1;
        let n = match limited.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) => {
                let reason = format!("line {number}: cannot be read further: {error}");
                into.damage(Damage { path: path.to_owned(), offset: at, len: 0, reason });
                return Ok(());
            }
        };
        if n == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            let reason = format!("is longer than {LINE_BYTES_MAX} bytes");
            return Err(TransferError::Line { path: path.to_owned(), line: number, reason });
        }
        let offset = at;
        at += n as u64;
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        if let Err(reason) = import_line(text, into)? {
            let reason = format!("line {number}: {reason}");
            into.damage(Damage { path: path.to_owned(), offset, len: n as u64, reason });
        }
    }
}

fn import_line(text: &[u8], into: &mut Importer<'_>) -> Result<Result<(), String>, TransferError> {
    let line: LineIn<'_> = match serde_json::from_slice(text) {
        Ok(line) => line,
        Err(e) => return Ok(Err(e.to_string())),
    };
    let count = line.timestamps.len();
    if line.values.len() + line.histograms.len() != count || !(line.starts.is_empty() || line.starts.len() == count) {
        return Ok(Err("values, timestamps and starts are not equally many".to_owned()));
    }
    let labels = Labels::from_pairs(line.metric);
    if labels.is_empty() {
        return Ok(Err("metric has no labels".to_owned()));
    }
    let start = |i: usize| line.starts.get(i).copied().unwrap_or(0);
    // Either list is empty.
    if !line.histograms.is_empty() && !line.values.is_empty() {
        return Ok(Err("a line has values or histograms, not both".to_owned()));
    }
    for (i, (raw, t)) in line.values.iter().zip(&line.timestamps).enumerate() {
        let Some(value) = read_value(raw.get()) else { return Ok(Err(format!("value {} is not a number", raw.get()))) };
        into.float(&labels, *t, start(i), value)?;
    }
    for (i, (h, t)) in line.histograms.iter().zip(&line.timestamps).enumerate() {
        let Some(value) = h.read() else { return Ok(Err("a histogram has a text that is not a number".to_owned())) };
        into.histogram(&labels, *t, start(i), Arc::new(value))?;
    }
    Ok(Ok(()))
}

/// Writes the series of an exporter.
pub fn export(exporter: &Exporter<'_>, out: &mut dyn Write) -> Result<ExportReport, TransferError> {
    let mut report = ExportReport::default();
    let mut head = String::new();
    exporter.for_each(&mut |labels, samples, first| {
        if first {
            report.series += 1;
            head = head_of(labels);
        }
        report.samples += samples.len() as u64;
        put_lines(&head, samples, out)
    })?;
    out.flush()?;
    Ok(report)
}

fn head_of(labels: &Labels) -> String {
    let metric: serde_json::Map<String, serde_json::Value> =
        labels.iter().map(|(n, v)| (n.to_owned(), v.into())).collect();
    format!("{{\"metric\":{}", serde_json::Value::Object(metric))
}

/// Writes samples as lines: floats and histograms apart.
pub fn put_lines(head: &str, samples: &SampleBuffer, out: &mut dyn Write) -> Result<(), TransferError> {
    let mut histograms = samples.histograms.iter().peekable();
    let (mut floats, mut others) = (Vec::new(), Vec::new());
    for i in 0..samples.len() {
        match histograms.next_if(|(at, _)| *at as usize == i) {
            Some((_, h)) => others.push((i, h)),
            None => floats.push(i),
        }
    }
    let start = |i: usize| samples.starts.get(i).copied().unwrap_or(0);
    let rest = |out: &mut dyn Write, places: &[usize]| {
        let times: Vec<i64> = places.iter().map(|i| samples.times[*i]).collect();
        let starts: Vec<i64> = places.iter().map(|i| start(*i)).collect();
        write!(out, ",\"timestamps\":{}", list(times.iter().map(i64::to_string)))?;
        if starts.iter().any(|s| *s != 0) {
            write!(out, ",\"starts\":{}", list(starts.iter().map(i64::to_string)))?;
        }
        writeln!(out, "}}")
    };
    for places in floats.chunks(LINE_SAMPLES_MAX) {
        write!(out, "{head},\"values\":{}", list(places.iter().map(|i| value_text(samples.values[*i]))))?;
        rest(out, places)?;
    }
    for some in others.chunks(LINE_SAMPLES_MAX) {
        let texts: Vec<HistogramText> = some.iter().map(|(_, h)| HistogramText::of(h)).collect();
        let texts = serde_json::to_string(&texts).map_err(std::io::Error::from)?;
        write!(out, "{head},\"histograms\":{texts}")?;
        let places: Vec<usize> = some.iter().map(|(i, _)| *i).collect();
        rest(out, &places)?;
    }
    Ok(())
}

fn list(items: impl Iterator<Item = String>) -> String {
    let mut out = String::from("[");
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(&item);
    }
    out.push(']');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_bit_for_bit() {
        let odd = [0.1, -0.0, 5e-324, f64::MAX, 1e22, f64::INFINITY, f64::NEG_INFINITY, STALE_NAN, 123_456_789.125];
        let bits = odd.map(f64::to_bits).into_iter().chain([NORMAL_NAN, 0xfff8_0000_0000_0000, 0x7ff0_0000_0000_0003]);
        for v in bits.map(f64::from_bits) {
            let text = value_text(v);
            assert_eq!(read_value(&text).map(f64::to_bits), Some(v.to_bits()), "{text}");
        }
        assert_eq!(value_text(3.0), "3");
        for bad in ["\"x\"", "\"NaN:0\"", "1e400", "-1e309"] {
            assert_eq!(read_value(bad), None, "{bad}");
        }
    }
}
