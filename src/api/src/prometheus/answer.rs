//! The envelope of every answer, and JSON of what answers are made of, written as text without a tree in between.

use std::fmt::Write as _;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use trefoil_model::{FloatHistogram, Labels, QueryBudget};
use trefoil_promql::histogram::buckets::all_buckets;
use trefoil_promql::{SampleValue, format_value, push_uint, push_value};

use crate::error::{ApiError, ErrorKind};

/// What was cut because of `limit`.
pub const TRUNCATED: &str = "results truncated due to limit";

/// An error in Prometheus' envelope: `{"status":"error","errorType":…,"error":…}`.
#[derive(Debug, Clone)]
pub struct PromError(pub ApiError);

/// What handlers of this dialect give back.
pub type PromResult = Result<Response, PromError>;

impl<E: Into<ApiError>> From<E> for PromError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for PromError {
    fn into_response(self) -> Response {
        error(&self.0)
    }
}

/// An error in Prometheus' envelope.
pub fn error(error: &ApiError) -> Response {
    let status = match error.kind {
        ErrorKind::Timeout => StatusCode::SERVICE_UNAVAILABLE,
        kind => kind.status(),
    };
    let mut body = String::from("{\"status\":\"error\",\"errorType\":\"");
    body.push_str(error_type(error.kind));
    body.push_str("\",\"error\":");
    push_string(&mut body, &error.message);
    body.push('}');
    let mut response = json(body);
    *response.status_mut() = status;
    error.add_headers(&mut response);
    response
}

fn error_type(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::BadData | ErrorKind::TooLarge | ErrorKind::RequestTimeout | ErrorKind::Forbidden => "bad_data",
        ErrorKind::Execution => "execution",
        ErrorKind::Canceled => "canceled",
        ErrorKind::Timeout => "timeout",
        ErrorKind::Internal => "internal",
        ErrorKind::NotFound => "not_found",
        ErrorKind::NotAcceptable => "not_acceptable",
        ErrorKind::Unavailable => "unavailable",
    }
}

/// A JSON answer from text.
pub fn json(body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A successful answer from a small tree.
pub fn success(data: &serde_json::Value) -> Response {
    json(format!("{{\"status\":\"success\",\"data\":{data}}}"))
}

/// Writes a successful answer piece by piece, within `response_bytes_max` and the query's memory.
pub struct Writer {
    /// The text so far; data is appended here.
    pub out: String,
    max: u64,
    charged: u64,
}

/// The text grows by so much before it is charged again.
const CHARGE_STEP: u64 = 64 << 10;
/// Most items are shorter.
const ITEM_BYTES: u64 = 256 << 10;

impl Writer {
    /// Begins an answer: what follows is `data`.
    pub fn new(max: u64) -> Self {
        Self { out: String::from("{\"status\":\"success\",\"data\":"), max, charged: 0 }
    }

    /// Errors when the text is larger than it may be; call it once an item.
    pub fn check(&mut self, budget: &dyn QueryBudget) -> Result<(), ApiError> {
        let length = self.out.len() as u64;
        if length > self.max {
            return Err(ApiError::response_too_large(self.max));
        }
        if length > self.charged {
            let more = (length - self.charged).max(CHARGE_STEP);
            budget.charge_bytes(more)?;
            budget.check()?;
            self.charged += more;
        }
        // Room is taken in small steps, lest the text be doubled when it grows.
        let spare = self.out.capacity() as u64 - length;
        if length > CHARGE_STEP && spare < ITEM_BYTES {
            let ahead = length / 4 + ITEM_BYTES;
            budget.charge_bytes(ahead)?;
            self.charged += ahead;
            self.out.reserve_exact(ahead as usize);
        }
        Ok(())
    }

    /// Ends the answer.
    pub fn finish(mut self, warnings: &[String], infos: &[String]) -> String {
        for (name, texts) in [("warnings", warnings), ("infos", infos)] {
            if texts.is_empty() {
                continue;
            }
            write!(self.out, ",\"{name}\":").expect(FMT);
            push_list(&mut self.out, texts, |out, text| push_string(out, text));
        }
        self.out.push('}');
        self.out
    }
}

const FMT: &str = "writing to a String cannot fail";

/// Writes `[…]`.
pub fn push_list<T>(out: &mut String, items: impl IntoIterator<Item = T>, mut push: impl FnMut(&mut String, T)) {
    out.push('[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push(out, item);
    }
    out.push(']');
}

/// Writes a JSON string.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut from = 0;
    for (at, b) in text.bytes().enumerate() {
        let escape = match b {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        if escape.is_empty() {
            write!(out, "\\u{b:04x}").expect(FMT);
        } else {
            out.push_str(escape);
        }
        from = at + 1;
    }
    out.push_str(&text[from..]);
    out.push('"');
}

/// Writes labels as an object.
pub fn push_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_string(out, name);
        out.push(':');
        push_string(out, value);
    }
    out.push('}');
}

/// Writes Unix milliseconds as seconds with exactly three decimals or none.
pub fn push_time(out: &mut String, t_ms: i64) {
    if t_ms < 0 {
        out.push('-');
    }
    let t = t_ms.unsigned_abs();
    push_uint(out, t / 1000);
    if !t.is_multiple_of(1000) {
        write!(out, ".{:03}", t % 1000).expect(FMT);
    }
}

/// Writes `[time,"value"]`.
pub fn push_float(out: &mut String, t_ms: i64, value: f64) {
    out.push('[');
    push_time(out, t_ms);
    out.push_str(",\"");
    push_value(out, value);
    out.push_str("\"]");
}

/// Writes `[time,{histogram}]`.
pub fn push_histogram(out: &mut String, t_ms: i64, h: &FloatHistogram) {
    out.push('[');
    push_time(out, t_ms);
    write!(out, ",{{\"count\":\"{}\",\"sum\":\"{}\"", format_value(h.count), format_value(h.sum)).expect(FMT);
    let buckets: Vec<_> = all_buckets(h).into_iter().filter(|b| b.count != 0.0).collect();
    if !buckets.is_empty() {
        out.push_str(",\"buckets\":");
        push_list(out, buckets, |out, b| {
            let rule = match (b.lower_inclusive, b.upper_inclusive) {
                (false, true) => 0,
                (true, false) => 1,
                (false, false) => 2,
                (true, true) => 3,
            };
            let (lower, upper, count) = (format_value(b.lower), format_value(b.upper), format_value(b.count));
            write!(out, "[{rule},\"{lower}\",\"{upper}\",\"{count}\"]").expect(FMT);
        });
    }
    out.push_str("}]");
}

/// Writes the sample of an instant vector: `{"metric":…,"value":…}` or with `histogram`.
pub fn push_sample(out: &mut String, labels: &Labels, t_ms: i64, value: &SampleValue) {
    out.push_str("{\"metric\":");
    push_labels(out, labels);
    match value {
        SampleValue::Float(v) => {
            out.push_str(",\"value\":");
            push_float(out, t_ms, *v);
        }
        SampleValue::Histogram(h) => {
            out.push_str(",\"histogram\":");
            push_histogram(out, t_ms, h);
        }
    }
    out.push('}');
}

/// Writes a series of a matrix: `{"metric":…,"values":[…],"histograms":[…]}`.
pub fn push_series(out: &mut String, labels: &Labels, samples: &[(i64, SampleValue)]) {
    out.push_str("{\"metric\":");
    push_labels(out, labels);
    let floats = samples.iter().filter_map(|(t, v)| match v {
        SampleValue::Float(v) => Some((*t, *v)),
        SampleValue::Histogram(_) => None,
    });
    let histograms = samples.iter().filter_map(|(t, v)| match v {
        SampleValue::Float(_) => None,
        SampleValue::Histogram(h) => Some((*t, h)),
    });
    if floats.clone().next().is_some() {
        out.push_str(",\"values\":");
        push_list(out, floats, |out, (t, v)| push_float(out, t, v));
    }
    if histograms.clone().next().is_some() {
        out.push_str(",\"histograms\":");
        push_list(out, histograms, |out, (t, h)| push_histogram(out, t, h));
    }
    out.push('}');
}

/// A time as RFC 3339; 0 is Go's zero time.
pub fn rfc3339(t_ms: i64) -> String {
    if t_ms == 0 {
        return "0001-01-01T00:00:00Z".to_owned();
    }
    jiff::Timestamp::from_millisecond(t_ms).map_or_else(|_| "0001-01-01T00:00:00Z".to_owned(), |t| t.to_string())
}

/// Labels as a small tree.
pub fn label_map(labels: &Labels) -> serde_json::Value {
    labels.iter().map(|(n, v)| (n.to_owned(), serde_json::Value::from(v))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trefoil_model::HistogramSpan;

    use super::*;

    fn written(push: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        push(&mut out);
        out
    }

    #[test]
    fn times_have_three_decimals_or_none() {
        for (t, want) in [
            (1_435_781_430_781, "1435781430.781"),
            (1_435_781_430_000, "1435781430"),
            (1_435_781_430_700, "1435781430.700"),
            (5, "0.005"),
            (-1500, "-1.500"),
            (0, "0"),
        ] {
            assert_eq!(written(|out| push_time(out, t)), want);
        }
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(written(|out| push_string(out, "a\"b\\c\nd\u{1}é")), "\"a\\\"b\\\\c\\nd\\u0001é\"");
    }

    #[test]
    fn histograms_have_buckets_with_rules() {
        let h = FloatHistogram {
            schema: 0,
            zero_threshold: 0.001,
            zero_count: 2.0,
            count: 5.0,
            sum: 7.5,
            positive_spans: vec![HistogramSpan { offset: 0, length: 2 }],
            positive_buckets: vec![1.0, 2.0],
            ..FloatHistogram::default()
        };
        let sample = SampleValue::Histogram(Arc::new(h));
        assert_eq!(
            written(|out| push_sample(out, &Labels::from_pairs([("a", "b")]), 1500, &sample)),
            "{\"metric\":{\"a\":\"b\"},\"histogram\":[1.500,{\"count\":\"5\",\"sum\":\"7.5\",\"buckets\":[\
             [3,\"-0.001\",\"0.001\",\"2\"],[0,\"0.5\",\"1\",\"1\"],[0,\"1\",\"2\",\"2\"]]}]}"
        );
    }
}
