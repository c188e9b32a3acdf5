//! The two forms in which `/federate` answers, and which of them a client gets: the text format 0.0.4 and length
//! delimited protobuf messages (`io.prometheus.client.MetricFamily`).

use std::fmt::Write as _;

use http::HeaderMap;
use http::header::ACCEPT;
use prost::Message;
use trefoil_model::FloatHistogram;
use trefoil_model::histogram::{CounterResetHint, Span};
use trefoil_model::labels::{is_legacy_label_name, is_legacy_metric_name};
use trefoil_promql::format::format_g;

const FMT: &str = "writing to a String cannot fail";

/// How names that are not legacy are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escaping {
    AllowUtf8,
    Underscores,
    Dots,
    Values,
}

/// What a client accepts: its `q`, the kind of body and what is said of it.
type Clause<'a> = (f64, &'a str, Vec<(&'a str, &'a str)>);

/// What a client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) protobuf: bool,
    pub(super) escaping: Escaping,
}

impl Format {
    /// Reads `Accept` as the reference does: the first form that is known, by descending `q`. A client that says
    /// nothing of names gets them with underscores. The two protobuf forms for people are not offered.
    pub(super) fn negotiate(headers: &HeaderMap) -> Self {
        let header = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
        let mut clauses: Vec<Clause<'_>> = header
            .split(',')
            .map(|clause| {
                let mut parts = clause.split(';').map(str::trim);
                let kind = parts.next().unwrap_or("");
                let parameters: Vec<_> = parts
                    .filter_map(|p| p.split_once('='))
                    .map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
                    .collect();
                let q = parameters.iter().find(|(n, _)| *n == "q").and_then(|(_, v)| v.parse().ok()).unwrap_or(1.0);
                (q, kind, parameters)
            })
            .collect();
        clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut escaping = Escaping::Underscores;
        for (_, kind, parameters) in clauses {
            let get = |name: &str| parameters.iter().find(|(n, _)| *n == name).map_or("", |(_, v)| *v);
            match get("escaping") {
                "allow-utf-8" => escaping = Escaping::AllowUtf8,
                "underscores" => escaping = Escaping::Underscores,
                "dots" => escaping = Escaping::Dots,
                "values" => escaping = Escaping::Values,
                _ => {}
            }
            match kind {
                "application/vnd.google.protobuf"
                    if get("proto") == "io.prometheus.client.MetricFamily" && get("encoding") == "delimited" =>
                {
                    return Self { protobuf: true, escaping };
                }
                "text/plain" if matches!(get("version"), "" | "0.0.4") => return Self { protobuf: false, escaping },
                _ => {}
            }
        }
        Self { protobuf: false, escaping }
    }

    /// `Content-Type` of the answer.
    pub(super) fn content_type(self) -> String {
        let form = if self.protobuf {
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
        } else {
            "text/plain; version=0.0.4; charset=utf-8"
        };
        let escaping = match self.escaping {
            Escaping::AllowUtf8 => "allow-utf-8",
            Escaping::Underscores => "underscores",
            Escaping::Dots => "dots",
            Escaping::Values => "values",
        };
        format!("{form}; escaping={escaping}")
    }

    /// Whether a histogram can be told: text has room for those with custom bounds only, as classic ones.
    pub(super) fn carries(self, h: &FloatHistogram) -> bool {
        self.protobuf || h.uses_custom_buckets()
    }
}

/// A name in the client's form.
fn escaped(name: &str, escaping: Escaping) -> String {
    let legacy = is_legacy_metric_name(name);
    if escaping == Escaping::AllowUtf8 || legacy && escaping != Escaping::Dots {
        return name.to_owned();
    }
    let mut out = String::from(if escaping == Escaping::Values { "U__" } else { "" });
    for (i, c) in name.char_indices() {
        let plain = c.is_ascii_alphabetic() || matches!(c, '_' | ':') || (c.is_ascii_digit() && i > 0);
        match escaping {
            Escaping::Dots if c == '.' => out.push_str("_dot_"),
            Escaping::Dots | Escaping::Values if c == '_' => out.push_str("__"),
            _ if plain => out.push(c),
            Escaping::Dots => out.push_str("__"),
            Escaping::Values => write!(out, "_{:x}_", u32::from(c)).expect(FMT),
            Escaping::Underscores | Escaping::AllowUtf8 => out.push('_'),
        }
    }
    out
}

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Untyped,
    Histogram,
    GaugeHistogram,
}

impl Kind {
    /// The kind of the family that a sample belongs to.
    pub(super) fn of(histogram: Option<&FloatHistogram>) -> Self {
        match histogram {
            None => Self::Untyped,
            Some(h) if h.counter_reset_hint == CounterResetHint::Gauge => Self::GaugeHistogram,
            Some(_) => Self::Histogram,
        }
    }
}

/// One series of a family.
pub(super) struct Line<'a> {
    /// Labels without the name; values may be empty.
    pub(super) labels: &'a [(&'a str, &'a str)],
    pub(super) t_ms: i64,
    pub(super) value: f64,
    pub(super) histogram: Option<&'a FloatHistogram>,
}

/// Writes families one after the other.
pub(super) struct Encoder {
    format: Format,
    pub(super) out: Vec<u8>,
    text: String,
    /// The family that is being filled: its name in the client's form, its kind, its messages.
    open: Option<wire::MetricFamily>,
    name: String,
}

impl Encoder {
    pub(super) fn new(format: Format) -> Self {
        Self { format, out: Vec::new(), text: String::new(), open: None, name: String::new() }
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.out.len() + self.text.len() + self.open.as_ref().map_or(0, |f| f.metric.len() * 64)
    }

    /// Begins a family.
    pub(super) fn family(&mut self, name: &str, kind: Kind) {
        self.close();
        self.name = escaped(name, self.format.escaping);
        if self.format.protobuf {
            let code = match kind {
                Kind::Untyped => wire::UNTYPED,
                Kind::Histogram => wire::HISTOGRAM,
                Kind::GaugeHistogram => wire::GAUGE_HISTOGRAM,
            };
            let family = wire::MetricFamily { name: Some(self.name.clone()), r#type: Some(code), metric: Vec::new() };
            self.open = Some(family);
            return;
        }
        // Text knows no gauge histograms.
        let kind = if kind == Kind::Untyped { "untyped" } else { "histogram" };
        let name = if is_legacy_metric_name(&self.name) { self.name.clone() } else { quoted(&self.name) };
        writeln!(self.text, "# TYPE {name} {kind}").expect(FMT);
    }

    /// Adds a series to the family.
    pub(super) fn line(&mut self, line: &Line<'_>) {
        if let Some(family) = &mut self.open {
            family.metric.push(message(line, self.format.escaping));
            return;
        }
        match line.histogram {
            None => self.sample("", line, None, line.value),
            Some(h) => {
                for (bound, count) in classic_buckets(h) {
                    self.sample("_bucket", line, Some(bound), count);
                }
                self.sample("_bucket", line, Some(f64::INFINITY), h.count);
                self.sample("_sum", line, None, h.sum);
                self.sample("_count", line, None, h.count);
            }
        }
    }

    fn sample(&mut self, suffix: &str, line: &Line<'_>, bound: Option<f64>, value: f64) {
        let name = format!("{}{suffix}", self.name);
        let legacy = is_legacy_metric_name(&name);
        let mut parts: Vec<String> = Vec::with_capacity(line.labels.len() + 1);
        if legacy {
            self.text.push_str(&name);
        } else {
            parts.push(quoted(&name));
        }
        parts.extend(line.labels.iter().map(|(n, v)| {
            let n = escaped(n, self.format.escaping);
            if is_legacy_label_name(&n) {
                format!("{n}={}", quoted(v))
            } else {
                format!("{}={}", quoted(&n), quoted(v))
            }
        }));
        parts.extend(bound.map(|b| format!("le=\"{}\"", format_g(b))));
        if !parts.is_empty() {
            write!(self.text, "{{{}}}", parts.join(",")).expect(FMT);
        }
        // Zero has no sign here.
        let value = if value == 0.0 { 0.0 } else { value };
        writeln!(self.text, " {} {}", format_g(value), line.t_ms).expect(FMT);
    }

    fn close(&mut self) {
        if let Some(family) = self.open.take().filter(|f| !f.metric.is_empty()) {
            self.out.extend_from_slice(&family.encode_length_delimited_to_vec());
        }
    }

    /// All of it.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.close();
        if self.format.protobuf { self.out } else { self.text.into_bytes() }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Upper bounds with the count of all below, without the bucket up to +Inf.
fn classic_buckets(h: &FloatHistogram) -> Vec<(f64, f64)> {
    let mut counts = vec![0.0; h.custom_values.len()];
    for (i, count) in h.positive() {
        if let Some(slot) = usize::try_from(i).ok().and_then(|i| counts.get_mut(i)) {
            *slot = count;
        }
    }
    let mut sum = 0.0;
    let below = counts.into_iter().map(|count| {
        sum += count;
        sum
    });
    h.custom_values.iter().copied().zip(below).collect()
}

fn message(line: &Line<'_>, escaping: Escaping) -> wire::Metric {
    let label = |(name, value): &(&str, &str)| wire::LabelPair {
        name: Some(escaped(name, escaping)),
        value: Some((*value).to_owned()),
    };
    let spans = |spans: &[Span]| -> Vec<wire::BucketSpan> {
        spans.iter().map(|s| wire::BucketSpan { offset: Some(s.offset), length: Some(s.length) }).collect()
    };
    let histogram = line.histogram.map(|h| {
        let mut out = wire::Histogram {
            sample_count_float: Some(h.count),
            sample_sum: Some(h.sum),
            ..wire::Histogram::default()
        };
        if h.uses_custom_buckets() {
            let bucket =
                |(bound, count)| wire::Bucket { upper_bound: Some(bound), cumulative_count_float: Some(count) };
            out.bucket = classic_buckets(h).into_iter().map(bucket).collect();
        } else {
            out.schema = Some(h.schema);
            out.zero_threshold = Some(h.zero_threshold);
            out.zero_count_float = Some(h.zero_count);
            out.positive_span = spans(&h.positive_spans);
            out.negative_span = spans(&h.negative_spans);
            out.positive_count = h.positive_buckets.clone();
            out.negative_count = h.negative_buckets.clone();
        }
        out
    });
    wire::Metric {
        label: line.labels.iter().map(label).collect(),
        untyped: histogram.is_none().then_some(wire::Untyped { value: Some(line.value) }),
        histogram,
        timestamp_ms: Some(line.t_ms),
    }
}

/// The messages that are sent, of `io/prometheus/client/metrics.proto`.
mod wire {
    pub(super) const UNTYPED: i32 = 3;
    pub(super) const HISTOGRAM: i32 = 4;
    pub(super) const GAUGE_HISTOGRAM: i32 = 5;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct LabelPair {
        #[prost(string, optional, tag = "1")]
        pub(super) name: Option<String>,
        #[prost(string, optional, tag = "2")]
        pub(super) value: Option<String>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Untyped {
        #[prost(double, optional, tag = "1")]
        pub(super) value: Option<f64>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Bucket {
        #[prost(double, optional, tag = "2")]
        pub(super) upper_bound: Option<f64>,
        #[prost(double, optional, tag = "4")]
        pub(super) cumulative_count_float: Option<f64>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct BucketSpan {
        #[prost(sint32, optional, tag = "1")]
        pub(super) offset: Option<i32>,
        #[prost(uint32, optional, tag = "2")]
        pub(super) length: Option<u32>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Histogram {
        #[prost(double, optional, tag = "4")]
        pub(super) sample_count_float: Option<f64>,
        #[prost(double, optional, tag = "2")]
        pub(super) sample_sum: Option<f64>,
        #[prost(message, repeated, tag = "3")]
        pub(super) bucket: Vec<Bucket>,
        #[prost(sint32, optional, tag = "5")]
        pub(super) schema: Option<i32>,
        #[prost(double, optional, tag = "6")]
        pub(super) zero_threshold: Option<f64>,
        #[prost(double, optional, tag = "8")]
        pub(super) zero_count_float: Option<f64>,
        #[prost(message, repeated, tag = "9")]
        pub(super) negative_span: Vec<BucketSpan>,
        #[prost(double, repeated, tag = "11")]
        pub(super) negative_count: Vec<f64>,
        #[prost(message, repeated, tag = "12")]
        pub(super) positive_span: Vec<BucketSpan>,
        #[prost(double, repeated, tag = "14")]
        pub(super) positive_count: Vec<f64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metric {
        #[prost(message, repeated, tag = "1")]
        pub(super) label: Vec<LabelPair>,
        #[prost(message, optional, tag = "5")]
        pub(super) untyped: Option<Untyped>,
        #[prost(message, optional, tag = "7")]
        pub(super) histogram: Option<Histogram>,
        #[prost(int64, optional, tag = "6")]
        pub(super) timestamp_ms: Option<i64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct MetricFamily {
        #[prost(string, optional, tag = "1")]
        pub(super) name: Option<String>,
        #[prost(int32, optional, tag = "3")]
        pub(super) r#type: Option<i32>,
        #[prost(message, repeated, tag = "4")]
        pub(super) metric: Vec<Metric>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

    #[test]
    fn the_client_chooses() {
        for (accept, protobuf, escaping) in [
            ("", false, Escaping::Underscores),
            ("*/*", false, Escaping::Underscores),
            ("text/plain;version=0.0.4;escaping=allow-utf-8", false, Escaping::AllowUtf8),
            (
                "text/plain;q=0.5,application/vnd.google.protobuf;proto=x;encoding=delimited",
                false,
                Escaping::Underscores,
            ),
            (&format!("text/plain;q=0.5;escaping=dots,{PROTOBUF};escaping=values;q=0.6"), true, Escaping::Values),
            (&format!("{PROTOBUF};q=0.2,text/plain;version=1.0.0;q=0.9"), true, Escaping::Underscores),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(Format::negotiate(&headers), Format { protobuf, escaping }, "{accept}");
        }
    }

    #[test]
    fn names_are_escaped() {
        for (name, escaping, want) in [
            ("my.name_é", Escaping::AllowUtf8, "my.name_é"),
            ("my.name_é", Escaping::Underscores, "my_name__"),
            ("my.name_é", Escaping::Dots, "my_dot_name____"),
            ("my.name_é", Escaping::Values, "U__my_2e_name___e9_"),
            ("1a", Escaping::Values, "U___31_a"),
            ("plain_name", Escaping::Values, "plain_name"),
            ("plain_name", Escaping::Dots, "plain__name"),
        ] {
            assert_eq!(escaped(name, escaping), want);
        }
    }

    fn encoded(protobuf: bool, h: &FloatHistogram) -> Vec<u8> {
        let mut encoder = Encoder::new(Format { protobuf, escaping: Escaping::AllowUtf8 });
        encoder.family("h", Kind::of(Some(h)));
        let labels = [("a", "x\"y"), ("instance", "")];
        encoder.line(&Line { labels: &labels, t_ms: 7, value: 0.0, histogram: Some(h) });
        encoder.family("f.loat", Kind::Untyped);
        encoder.line(&Line { labels: &[], t_ms: -1, value: 1e6, histogram: None });
        encoder.finish()
    }

    #[test]
    fn custom_buckets_are_classic_ones() {
        let h = FloatHistogram {
            schema: -53,
            count: 6.0,
            sum: 12.5,
            positive_spans: vec![Span { offset: 1, length: 2 }],
            positive_buckets: vec![2.0, 4.0],
            custom_values: vec![0.5, 1.0],
            ..FloatHistogram::default()
        };
        let text = String::from_utf8(encoded(false, &h)).unwrap();
        let want = "# TYPE h histogram\nh_bucket{a=\"x\\\"y\",instance=\"\",le=\"0.5\"} 0 7\n\
            h_bucket{a=\"x\\\"y\",instance=\"\",le=\"1\"} 2 7\nh_bucket{a=\"x\\\"y\",instance=\"\",le=\"+Inf\"} 6 7\n\
            h_sum{a=\"x\\\"y\",instance=\"\"} 12.5 7\nh_count{a=\"x\\\"y\",instance=\"\"} 6 7\n\
            # TYPE \"f.loat\" untyped\n{\"f.loat\"} 1e+06 -1\n";
        assert_eq!(text, want);
    }

    #[test]
    fn histograms_are_messages() {
        let h = FloatHistogram {
            schema: 3,
            count: 7.0,
            sum: 1.5,
            zero_count: 1.0,
            zero_threshold: 0.25,
            positive_spans: vec![Span { offset: -2, length: 2 }],
            positive_buckets: vec![2.0, 4.0],
            counter_reset_hint: CounterResetHint::Gauge,
            ..FloatHistogram::default()
        };
        let bytes = encoded(true, &h);
        let mut rest = bytes.as_slice();
        let first = wire::MetricFamily::decode_length_delimited(&mut rest).unwrap();
        let second = wire::MetricFamily::decode_length_delimited(&mut rest).unwrap();
        assert!(rest.is_empty());
        assert_eq!((first.name.as_deref(), first.r#type), (Some("h"), Some(wire::GAUGE_HISTOGRAM)));
        let got = first.metric[0].histogram.clone().unwrap();
        assert_eq!((got.schema, got.sample_count_float, got.zero_count_float), (Some(3), Some(7.0), Some(1.0)));
        assert_eq!((got.positive_span[0].offset, got.positive_count), (Some(-2), vec![2.0, 4.0]));
        assert_eq!((first.metric[0].label.len(), first.metric[0].timestamp_ms), (2, Some(7)));
        assert_eq!(second.metric[0].untyped.and_then(|u| u.value), Some(1e6));
    }
}
