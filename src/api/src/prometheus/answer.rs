//! The envelope of every answer, and JSON of what answers are made of, written as text without a tree in between.

use std::convert::Infallible;
use std::fmt::Write as _;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use trefoil_model::{FloatHistogram, Labels, QueryBudget};
use trefoil_promql::histogram::buckets::all_buckets;
use trefoil_promql::{ResultSeries, SampleValue, format_value, push_uint, push_value};
use trefoil_runtime::{QueryContext, Reservation};

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
pub fn json(body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A successful answer from a small tree.
pub fn success(data: &serde_json::Value) -> Response {
    json(format!("{{\"status\":\"success\",\"data\":{data}}}"))
}

/// The text of an answer, in pieces: a long one is never copied to make room, and what is sent is freed.
#[derive(Default)]
pub struct Text {
    pieces: Vec<Bytes>,
    held: Option<Reservation>,
}

impl Text {
    /// Keeps what the query took for the text until it is sent.
    pub(super) fn held_by(mut self, budget: &QueryContext) -> Self {
        self.held = Some(budget.keep(self.pieces.iter().map(|piece| piece.len() as u64).sum()));
        self
    }
}

impl From<Text> for Body {
    fn from(text: Text) -> Self {
        let Text { mut pieces, mut held } = text;
        if pieces.len() == 1 {
            return pieces.remove(0).into();
        }
        // The last piece is given back when the client took it and asks for more.
        let mut sent = 0;
        let each = pieces.into_iter().map(Some).chain([None]).filter_map(move |piece| {
            if let Some(held) = &mut held {
                held.shrink(sent);
            }
            sent = piece.as_ref().map_or(0, |piece| piece.len() as u64);
            piece.map(Ok::<_, Infallible>)
        });
        Self::from_stream(futures::stream::iter(each))
    }
}

/// Writes a successful answer piece by piece, within `response_bytes_max` and the query's memory.
pub struct Writer {
    /// The text since the last whole piece; data is appended here.
    pub out: String,
    pieces: Vec<Bytes>,
    /// Bytes of the whole pieces.
    behind: u64,
    max: u64,
    charged: u64,
}

/// The text grows by so much before it is charged again.
const CHARGE_STEP: u64 = 64 << 10;
/// A piece ends once it is so long.
const PIECE_BYTES: usize = 256 << 10;
/// Samples of a series between two looks at the length of the text.
const SAMPLES_BETWEEN: usize = 1024;
/// From so many samples on, an answer is written on all cores.
const SAMPLES_PARALLEL_MIN: usize = 8192;

impl Writer {
    /// Begins an answer: what follows is `data`.
    pub fn new(max: u64) -> Self {
        let out = String::from("{\"status\":\"success\",\"data\":");
        Self { out, pieces: Vec::new(), behind: 0, max, charged: 0 }
    }

    /// Errors when the text is larger than it may be; call it once an item.
    pub fn check(&mut self, budget: &dyn QueryBudget) -> Result<(), ApiError> {
        let length = self.behind + self.out.len() as u64;
        if length > self.max {
            return Err(ApiError::response_too_large(self.max));
        }
        // With the room that the piece has beyond its text.
        let held = self.behind + self.out.capacity() as u64;
        if held > self.charged {
            let more = (held - self.charged).max(CHARGE_STEP);
            budget.charge_bytes(more)?;
            budget.check()?;
            self.charged += more;
        }
        if self.out.len() >= PIECE_BYTES {
            // As long as the ones before: no room is left over, and none is copied.
            let next = String::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
            let mut piece = std::mem::replace(&mut self.out, next);
            piece.shrink_to_fit();
            self.behind += piece.len() as u64;
            self.pieces.push(Bytes::from(piece));
        }
        Ok(())
    }

    /// Writes a series of a matrix: `{"metric":…,"values":[…],"histograms":[…]}`.
    pub fn series(
        &mut self,
        labels: &Labels,
        samples: &[(i64, SampleValue)],
        budget: &dyn QueryBudget,
    ) -> Result<(), ApiError> {
        self.out.push_str("{\"metric\":");
        push_labels(&mut self.out, labels);
        for (name, is_histogram) in [("values", false), ("histograms", true)] {
            let mut written = 0;
            for (t, value) in samples {
                if matches!(value, SampleValue::Histogram(_)) != is_histogram {
                    continue;
                }
                if written == 0 {
                    write!(self.out, ",\"{name}\":[").expect(FMT);
                } else {
                    self.out.push(',');
                }
                match value {
                    SampleValue::Float(v) => push_float(&mut self.out, *t, *v),
                    SampleValue::Histogram(h) => push_histogram(&mut self.out, *t, h),
                }
                written += 1;
                if written % SAMPLES_BETWEEN == 0 {
                    self.check(budget)?;
                }
            }
            if written > 0 {
                self.out.push(']');
            }
        }
        self.out.push('}');
        self.check(budget)
    }

    /// Writes series as a list, a large one on all cores; what is written is freed.
    pub fn matrix(&mut self, series: Vec<ResultSeries>, budget: &dyn QueryBudget) -> Result<(), ApiError> {
        let samples: usize = series.iter().map(|one| one.samples.len()).sum();
        let threads = if samples < SAMPLES_PARALLEL_MIN { 1 } else { rayon::current_num_threads().min(series.len()) };
        self.out.push('[');
        if threads < 2 {
            self.list(series, budget)?;
        } else {
            let size = series.len().div_ceil(threads);
            let mut rest = series.into_iter();
            let mut parts: Vec<_> = (0..threads)
                .map(|_| (rest.by_ref().take(size).collect::<Vec<_>>(), Self::empty(self.max), Ok(())))
                .filter(|(series, ..)| !series.is_empty())
                .collect();
            rayon::in_place_scope(|scope| {
                let write = |part: &mut (Vec<ResultSeries>, Self, Result<(), ApiError>)| {
                    part.2 = part.1.list(std::mem::take(&mut part.0), budget);
                };
                let Some((own, others)) = parts.split_first_mut() else { return };
                for other in others {
                    scope.spawn(move |_| write(other));
                }
                write(own);
            });
            for (i, (_, writer, result)) in parts.into_iter().enumerate() {
                result?;
                comma(&mut self.out, i);
                self.append(writer);
                self.check(budget)?;
            }
        }
        self.out.push(']');
        Ok(())
    }

    fn list(&mut self, series: Vec<ResultSeries>, budget: &dyn QueryBudget) -> Result<(), ApiError> {
        for (i, one) in series.into_iter().enumerate() {
            comma(&mut self.out, i);
            self.series(&one.labels, &one.samples, budget)?;
        }
        Ok(())
    }

    /// A part of an answer.
    fn empty(max: u64) -> Self {
        Self { out: String::new(), pieces: Vec::new(), behind: 0, max, charged: 0 }
    }

    /// Puts a part behind what is there.
    fn append(&mut self, part: Self) {
        let before = std::mem::replace(&mut self.out, part.out);
        self.behind += before.len() as u64 + part.behind;
        self.charged += part.charged;
        self.pieces.push(Bytes::from(before));
        self.pieces.extend(part.pieces);
    }

    /// Writes texts as a list of strings; what is written is freed.
    pub fn texts(&mut self, texts: Vec<String>, budget: &dyn QueryBudget) -> Result<(), ApiError> {
        self.out.push('[');
        for (i, text) in texts.into_iter().enumerate() {
            if i > 0 {
                self.out.push(',');
            }
            push_string(&mut self.out, &text);
            self.check(budget)?;
        }
        self.out.push(']');
        Ok(())
    }

    /// Ends the answer.
    pub fn finish(mut self, warnings: &[String], infos: &[String]) -> Text {
        for (name, texts) in [("warnings", warnings), ("infos", infos)] {
            if texts.is_empty() {
                continue;
            }
            write!(self.out, ",\"{name}\":").expect(FMT);
            push_list(&mut self.out, texts, |out, text| push_string(out, text));
        }
        self.out.push('}');
        self.pieces.push(Bytes::from(self.out));
        Text { pieces: self.pieces, held: None }
    }
}

const FMT: &str = "writing to a String cannot fail";

/// Writes a comma before each but the first.
pub fn comma(out: &mut String, i: usize) {
    if i > 0 {
        out.push(',');
    }
}

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
    use std::time::Duration;

    use futures::StreamExt;
    use trefoil_model::{HistogramSpan, Purse};
    use trefoil_runtime::{Accountant, Limits, Pool, SimClock};

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

    #[tokio::test]
    async fn what_is_not_sent_stays_charged() {
        let (accountant, limits) = (Accountant::new(400 << 20), Limits::default());
        let budget = QueryContext::new(SimClock::new(0), Duration::from_secs(5), &limits, accountant.clone());
        let samples: Vec<(i64, SampleValue)> =
            (0..60_000).map(|t| (t * 1000, SampleValue::Float(t as f64 / 7.0))).collect();
        let mut writer = Writer::new(10 << 20);
        writer.series(&Labels::empty(), &samples, &budget).unwrap();
        let text = writer.finish(&[], &[]).held_by(&budget);
        let length: usize = text.pieces.iter().map(Bytes::len).sum();
        drop(budget);
        assert_eq!(accountant.used(Pool::Query), length as u64);
        let mut body = Body::from(text).into_data_stream();
        let first = body.next().await.unwrap().unwrap();
        assert_eq!(accountant.used(Pool::Query), length as u64);
        body.next().await.unwrap().unwrap();
        assert_eq!(accountant.used(Pool::Query), (length - first.len()) as u64);
        drop(body);
        assert_eq!(accountant.used(Pool::Query), 0);
    }

    #[test]
    fn long_answers_come_in_charged_pieces() {
        let samples: Vec<(i64, SampleValue)> =
            (0..60_000).map(|t| (t * 1000, SampleValue::Float(t as f64 / 7.0))).collect();
        let purse = Purse::default();
        let mut writer = Writer::new(10 << 20);
        writer.out.push('[');
        writer.series(&Labels::from_pairs([("a", "b")]), &samples, &purse).unwrap();
        writer.out.push(']');
        let text = writer.finish(&[], &[]);
        assert!(text.pieces.len() > 3, "{} pieces", text.pieces.len());
        assert!(text.pieces.iter().all(|piece| piece.len() < 2 * PIECE_BYTES));
        let whole = text.pieces.concat();
        let charged = purse.peak_bytes();
        assert!(charged >= whole.len() as u64 - 3 && charged < whole.len() as u64 + 2 * PIECE_BYTES as u64);
        let read: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(read["data"][0]["values"].as_array().unwrap().len(), 60_000);
        let mut writer = Writer::new(1 << 20);
        let error = writer.series(&Labels::empty(), &samples, &Purse::default()).unwrap_err();
        assert_eq!(error.message, "answer is larger than 1048576 bytes (limit response_bytes_max)");
    }

    #[test]
    fn large_lists_are_what_small_ones_would_be() {
        let series = |i: i64| ResultSeries {
            labels: Labels::from_pairs([("i", i.to_string())]),
            samples: (0..(i % 5 + 1) * 700).map(|t| (t * 1000, SampleValue::Float((t * i) as f64 / 7.0))).collect(),
        };
        let text = |max: u64, write: &dyn Fn(&mut Writer) -> Result<(), ApiError>| {
            let mut writer = Writer::new(max);
            write(&mut writer).map(|()| writer.finish(&[], &[]).pieces.concat()).map_err(|e| e.message)
        };
        for count in [0, 1, 2, 3, 31, 32, 100] {
            let many = || (0..count).map(series).collect::<Vec<_>>();
            let at_once = |w: &mut Writer| w.matrix(many(), &Purse::default());
            let one_by_one = |w: &mut Writer| {
                w.out.push('[');
                w.list(many(), &Purse::default())?;
                w.out.push(']');
                Ok(())
            };
            for max in [1 << 30, 1 << 20, 700 << 10] {
                assert_eq!(text(max, &at_once), text(max, &one_by_one), "{count} of {max}");
            }
        }
    }
}
