//! `prometheus.WriteRequest` to a [`MetricBatch`], without an allocation per label.

use std::sync::Arc;

use trefoil_model::labels::METRIC_NAME;
use trefoil_model::{
    CounterResetHint, Exemplar, FloatHistogram, FloatPoint, HistogramPoint, HistogramSpan, Labels, MetricBatch,
    MetricKind, MetricMetadata, WriteReport,
};
use trefoil_runtime::limits::{self, Limits};

use crate::IngestError;
use crate::metric_limits::{check_labels, cut};
use crate::native_histogram::{SCHEMA_MAX, limit_buckets, reduce};
use crate::protobuf::{Field, Reader, WireError};

/// Bytes that a series with one sample has at least; to guess how many there are.
const SERIES_BYTES_TYPICAL: usize = 160;
/// Highest resolution that senders may have; above [`SCHEMA_MAX`] it is reduced.
const SCHEMA_SENT_MAX: i32 = 52;

/// A decoded request.
#[derive(Debug, Default)]
pub struct Decoded {
    /// What to store.
    pub batch: MetricBatch,
    /// Of `report.rejected`, those of series whose labels are not valid.
    pub samples_with_invalid_labels: u64,
    /// Items refused because of limits or because they are not valid.
    pub report: WriteReport,
}

/// Decodes an inflated request. `now_ms` bounds how far in the future samples may lie.
///
/// Errors: `Malformed` names the byte; `Limit` when there are too many series or samples. Nothing is stored then.
pub fn decode(bytes: &[u8], limits: &Limits, now_ms: i64) -> Result<Decoded, IngestError> {
    let guess = (bytes.len() / SERIES_BYTES_TYPICAL).min(limits.series_per_request_max);
    let mut decoder = Decoder {
        limits,
        t_max: now_ms.saturating_add(limits.future_ms_max),
        decoded: Decoded::default(),
        pairs: Vec::with_capacity(32),
        scratch: String::with_capacity(1024),
        series_seen: 0,
    };
    decoder.decoded.batch.series.reserve(guess);
    decoder.decoded.batch.floats.reserve(guess);
    decoder.request(Reader::new(bytes))?;
    Ok(decoder.decoded)
}

impl From<WireError> for IngestError {
    fn from(error: WireError) -> Self {
        Self::Malformed(format!("malformed protobuf message: {error}"))
    }
}

struct Decoder<'a> {
    limits: &'a Limits,
    t_max: i64,
    decoded: Decoded,
    pairs: Vec<(&'a str, &'a str)>,
    scratch: String,
    series_seen: usize,
}

impl<'a> Decoder<'a> {
    fn request(&mut self, mut reader: Reader<'a>) -> Result<(), IngestError> {
        while let Some(field) = reader.field()? {
            match field.number {
                1 => {
                    self.series_seen += 1;
                    if self.series_seen > self.limits.series_per_request_max {
                        return Err(over("series", self.limits.series_per_request_max, "series_per_request_max"));
                    }
                    self.series(field.message()?)?;
                }
                3 => self.metadata(field.message()?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn series(&mut self, mut reader: Reader<'a>) -> Result<(), IngestError> {
        self.pairs.clear();
        let mut fault: Option<&str> = None;
        let mut samples = 0u64;
        if let Some(n) = plain_labels(reader.remaining(), &mut self.pairs) {
            // What follows is read for its values only.
            reader.skip(n);
        } else {
            self.pairs.clear();
        }
        let plain = plain_sample(reader.remaining());
        let mut fields = reader;
        if plain.is_some() {
            samples = 1;
            fields.skip(fields.remaining().len());
        }
        while let Some(field) = fields.field()? {
            match field.number {
                1 => match label(field.message()?)? {
                    Some((_, "")) => {}
                    Some(pair) if !pair.0.is_empty() => self.pairs.push(pair),
                    Some(_) => fault = Some("a label has no name"),
                    None => fault = Some("a label is not valid UTF-8"),
                },
                2 | 4 => samples += 1,
                _ => {}
            }
        }
        if !self.pairs.is_sorted_by(|a, b| a.0 < b.0) {
            self.pairs.sort_by(|a, b| a.0.cmp(b.0));
            if self.pairs.windows(2).any(|w| w[0].0 == w[1].0) {
                fault = fault.or(Some("a label occurs twice"));
            }
        }
        if fault.is_none() && !self.pairs.iter().any(|(name, _)| *name == METRIC_NAME) {
            fault = Some("it has no metric name");
        }
        if let Some(fault) = fault {
            check_values(reader)?;
            self.decoded.samples_with_invalid_labels += samples.max(1);
            self.reject_labels(fault, samples.max(1));
            return Ok(());
        }
        if let Err(reason) = check_labels(&self.pairs, self.limits) {
            check_values(reader)?;
            let name = metric_name(&self.pairs).to_owned();
            for _ in 0..samples.max(1) {
                self.decoded.report.reject(|| format!("series of metric {name:?}: {reason}"));
            }
            return Ok(());
        }
        let labels = Labels::from_sorted_with(&mut self.scratch, self.pairs.iter().copied());
        let series = self.decoded.batch.add_series(labels);
        match plain {
            Some((value, t_ms)) => self.sample(series, t_ms, value),
            None => self.values(reader, series)?,
        }
        let batch = &self.decoded.batch;
        if batch.floats.len() + batch.histograms.len() > self.limits.samples_per_request_max {
            return Err(over("samples", self.limits.samples_per_request_max, "samples_per_request_max"));
        }
        Ok(())
    }

    #[cold]
    fn reject_labels(&mut self, fault: &str, samples: u64) {
        // What can be read of the labels; enough to find the sender.
        let mut shown = String::new();
        for (name, value) in self.pairs.iter().take(8) {
            let comma = if shown.is_empty() { "" } else { ", " };
            let (name, value) = (crate::metric_limits::shorten(name), crate::metric_limits::shorten(value));
            shown.push_str(&format!("{comma}{name}={value:?}"));
        }
        let more = if self.pairs.len() > 8 { ", ..." } else { "" };
        let report = &mut self.decoded.report;
        report.reject(|| format!("series {{{shown}{more}}}: {fault}"));
        report.rejected += samples - 1;
    }

    fn values(&mut self, mut fields: Reader<'a>, series: u32) -> Result<(), IngestError> {
        while let Some(field) = fields.field()? {
            match field.number {
                2 => {
                    let (value, t_ms) = sample(field.message()?)?;
                    self.sample(series, t_ms, value);
                }
                3 => self.exemplar(field.message()?, series)?,
                4 => {
                    let (t_ms, value) = histogram(field.message()?)?;
                    let value = value.and_then(|mut h| {
                        limit_buckets(&mut h, self.limits.histogram_buckets_max)?;
                        Ok(Arc::new(h))
                    });
                    match value {
                        _ if t_ms > self.t_max => self.reject_future(t_ms),
                        Ok(value) => {
                            self.decoded.batch.histograms.push(HistogramPoint { series, t_ms, start_ms: 0, value });
                        }
                        Err(reason) => {
                            let name = metric_name(&self.pairs).to_owned();
                            self.decoded.report.reject(|| format!("histogram {name:?}: {reason}"));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    #[inline]
    fn sample(&mut self, series: u32, t_ms: i64, value: f64) {
        if t_ms > self.t_max {
            self.reject_future(t_ms);
        } else {
            self.decoded.batch.floats.push(FloatPoint { series, t_ms, start_ms: 0, value });
        }
    }

    #[cold]
    fn reject_future(&mut self, t_ms: i64) {
        limits::hit("future_ms_max");
        let (name, max) = (metric_name(&self.pairs).to_owned(), self.t_max);
        self.decoded
            .report
            .reject(|| format!("sample of metric {name:?} at {t_ms} is too far in the future (after {max})"));
    }

    fn exemplar(&mut self, mut fields: Reader<'a>, series: u32) -> Result<(), IngestError> {
        let (mut value, mut t_ms) = (0.0, 0);
        let mut labels: Vec<(&str, &str)> = Vec::new();
        let mut valid = true;
        while let Some(field) = fields.field()? {
            match field.number {
                1 => match label(field.message()?)? {
                    Some((_, "")) => {}
                    Some(pair) => labels.push(pair),
                    None => valid = false,
                },
                2 => value = field.double()?,
                3 => t_ms = field.varint()? as i64,
                _ => {}
            }
        }
        labels.sort_by(|a, b| a.0.cmp(b.0));
        labels.dedup_by(|a, b| a.0 == b.0);
        // An exemplar that cannot be kept is left out; its sample stands.
        if valid && t_ms <= self.t_max && check_labels(&labels, self.limits).is_ok() {
            if self.decoded.batch.exemplars.len() >= self.limits.exemplars_max {
                limits::hit("exemplars_max");
                return Ok(());
            }
            let labels = Labels::from_sorted_with(&mut self.scratch, labels);
            self.decoded.batch.exemplars.push(Exemplar { series, t_ms, value, labels });
        }
        Ok(())
    }

    fn metadata(&mut self, mut fields: Reader<'a>) -> Result<(), IngestError> {
        let (mut kind, mut name, mut help, mut unit) = (MetricKind::Unknown, "", "", "");
        while let Some(field) = fields.field()? {
            match field.number {
                1 => kind = metric_kind(field.varint()?),
                2 => name = text(field)?.unwrap_or(""),
                4 => help = text(field)?.unwrap_or(""),
                5 => unit = text(field)?.unwrap_or(""),
                _ => {}
            }
        }
        if name.is_empty() || name.len() > self.limits.label_name_bytes_max {
            return Ok(());
        }
        if self.decoded.batch.metadata.len() >= self.limits.metadata_families_max {
            limits::hit("metadata_families_max");
            return Ok(());
        }
        let max = self.limits.metadata_bytes_max;
        self.decoded.batch.metadata.push(MetricMetadata {
            name: name.to_owned(),
            kind,
            help: cut(help, max).to_owned(),
            unit: cut(unit, max).to_owned(),
        });
        Ok(())
    }
}

fn over(what: &'static str, limit: usize, name: &'static str) -> IngestError {
    limits::hit(name);
    IngestError::Limit { what, limit: limit as u64, name }
}

fn metric_name<'a>(pairs: &[(&'a str, &'a str)]) -> &'a str {
    let name = pairs.iter().find(|(n, _)| *n == METRIC_NAME).map_or("", |(_, v)| *v);
    crate::metric_limits::shorten(name)
}

#[inline]
fn text<'a>(field: Field<'a>) -> Result<Option<&'a str>, WireError> {
    Ok(std::str::from_utf8(field.bytes()?).ok())
}

/// Reads the labels at the start of a series, as long as they look as all senders write them: name before value, no
/// length of 128 or more. Returns how many bytes they take, `None` when they look otherwise.
///
/// This is where remote write spends its time: one UTF-8 check over all labels, which hold no byte above 0x7f beside
/// their texts, instead of two a label.
#[inline]
fn plain_labels<'a>(bytes: &'a [u8], pairs: &mut Vec<(&'a str, &'a str)>) -> Option<usize> {
    let mut end = 0;
    while let [0x0a, length, ..] = bytes.get(end..)? {
        if *length >= 0x80 {
            return None;
        }
        end += 2 + usize::from(*length);
    }
    let text = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut start = 0;
    while start < end {
        let [_, length, 0x0a, name_length, ..] = bytes[start..] else { return None };
        let label_end = start + 2 + usize::from(length);
        let name_end = start + 4 + usize::from(name_length);
        let [0x12, value_length, ..] = *bytes.get(name_end..)? else { return None };
        if name_length == 0 || name_end + 2 + usize::from(value_length) != label_end {
            return None;
        }
        if value_length > 0 {
            pairs.push((text.get(start + 4..name_end)?, text.get(name_end + 2..label_end)?));
        }
        start = label_end;
    }
    Some(end)
}

/// Reads what follows the labels when it is one sample, value before time, and nothing else: what Prometheus sends.
#[inline]
fn plain_sample(bytes: &[u8]) -> Option<(f64, i64)> {
    let ([0x12, length], message) = bytes.split_first_chunk::<2>()? else { return None };
    if usize::from(*length) != message.len() {
        return None;
    }
    // A value of 0 is left out.
    let (value, rest) = match message.split_first_chunk::<9>() {
        Some(([0x09, bits @ ..], rest)) => (f64::from_le_bytes(*bits), rest),
        _ => (0.0, message),
    };
    let [0x10, time @ ..] = rest else { return None };
    let (last, others) = time.split_last()?;
    // Nine bytes are 63 bits; a negative time takes ten.
    if time.len() > 9 || *last >= 0x80 || others.iter().any(|b| *b < 0x80) {
        return None;
    }
    let t = time.iter().rev().fold(0u64, |t, b| t << 7 | u64::from(b & 0x7f));
    Some((value, t as i64))
}

/// A label, `None` when it is not UTF-8.
#[inline]
fn label(mut fields: Reader<'_>) -> Result<Option<(&str, &str)>, WireError> {
    let (mut name, mut value) = (Some(""), Some(""));
    while let Some(field) = fields.field()? {
        match field.number {
            1 => name = text(field)?,
            2 => value = text(field)?,
            _ => {}
        }
    }
    Ok(name.zip(value))
}

#[inline]
fn sample(mut fields: Reader<'_>) -> Result<(f64, i64), WireError> {
    let (mut value, mut t_ms) = (0.0, 0);
    if let Some(([0x09, bits @ ..], _)) = fields.remaining().split_first_chunk::<9>() {
        value = f64::from_le_bytes(*bits);
        fields.skip(9);
    }
    while let Some(field) = fields.field()? {
        match field.number {
            1 => value = field.double()?,
            2 => t_ms = field.varint()? as i64,
            _ => {}
        }
    }
    Ok((value, t_ms))
}

/// Reads the values of a series that is skipped, so that a broken request is refused wherever it is broken.
fn check_values(mut fields: Reader<'_>) -> Result<(), WireError> {
    while let Some(field) = fields.field()? {
        match field.number {
            2 => drop(sample(field.message()?)?),
            4 => drop(histogram(field.message()?)?),
            _ => {}
        }
    }
    Ok(())
}

fn metric_kind(number: u64) -> MetricKind {
    match number {
        1 => MetricKind::Counter,
        2 => MetricKind::Gauge,
        3 => MetricKind::Histogram,
        4 => MetricKind::GaugeHistogram,
        5 => MetricKind::Summary,
        6 => MetricKind::Info,
        7 => MetricKind::StateSet,
        _ => MetricKind::Unknown,
    }
}

/// Time and value of a native histogram; the inner error says why it cannot be stored.
fn histogram(mut fields: Reader<'_>) -> Result<(i64, Result<FloatHistogram, String>), WireError> {
    let mut h = FloatHistogram::default();
    let (mut t_ms, mut schema) = (0, 0i64);
    let (mut negative_deltas, mut positive_deltas) = (Vec::new(), Vec::new());
    while let Some(field) = fields.field()? {
        match field.number {
            1 => {
                h.count = field.varint()? as f64;
                h.integer = true;
            }
            2 => h.count = field.double()?,
            3 => h.sum = field.double()?,
            4 => schema = field.zigzag()?,
            5 => h.zero_threshold = field.double()?,
            6 => h.zero_count = field.varint()? as f64,
            7 => h.zero_count = field.double()?,
            8 => h.negative_spans.push(span(field.message()?)?),
            9 => field.zigzags(&mut negative_deltas)?,
            10 => field.doubles(&mut h.negative_buckets)?,
            11 => h.positive_spans.push(span(field.message()?)?),
            12 => field.zigzags(&mut positive_deltas)?,
            13 => field.doubles(&mut h.positive_buckets)?,
            14 => {
                h.counter_reset_hint = match field.varint()? {
                    1 => CounterResetHint::CounterReset,
                    2 => CounterResetHint::NotCounterReset,
                    3 => CounterResetHint::Gauge,
                    _ => CounterResetHint::Unknown,
                };
            }
            15 => t_ms = field.varint()? as i64,
            16 => field.doubles(&mut h.custom_values)?,
            _ => {}
        }
    }
    Ok((t_ms, finish_histogram(h, schema, &negative_deltas, &positive_deltas)))
}

fn finish_histogram(
    mut h: FloatHistogram,
    schema: i64,
    negative_deltas: &[i64],
    positive_deltas: &[i64],
) -> Result<FloatHistogram, String> {
    if h.integer {
        h.negative_buckets = absolute(negative_deltas);
        h.positive_buckets = absolute(positive_deltas);
    }
    h.schema = i32::try_from(schema).map_err(|_| format!("schema {schema} is out of range"))?;
    if (SCHEMA_MAX + 1..=SCHEMA_SENT_MAX).contains(&h.schema) {
        // Validate spans against buckets before indexes are computed from them.
        let sent = std::mem::replace(&mut h.schema, SCHEMA_MAX);
        h.validate()?;
        h.schema = sent;
        reduce(&mut h, SCHEMA_MAX)?;
    }
    h.validate()?;
    h.validate_count()?;
    Ok(h)
}

fn absolute(deltas: &[i64]) -> Vec<f64> {
    let mut sum = 0i64;
    deltas
        .iter()
        .map(|d| {
            sum = sum.wrapping_add(*d);
            sum as f64
        })
        .collect()
}

fn span(mut fields: Reader<'_>) -> Result<HistogramSpan, WireError> {
    let mut span = HistogramSpan { offset: 0, length: 0 };
    while let Some(field) = fields.field()? {
        match field.number {
            1 => span.offset = field.zigzag()? as i32,
            2 => span.length = field.varint()? as u32,
            _ => {}
        }
    }
    Ok(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_samples_read_as_all_others() {
        let (mut plain, mut others) = (0, 0);
        for value in [0.0f64, -0.0, 1.5, f64::NAN] {
            for t in [0i64, 1, 127, 128, 1_700_000_000_000, i64::MAX, -1, i64::MIN] {
                for swapped in [false, true] {
                    let mut message = Vec::new();
                    let put_value = |out: &mut Vec<u8>| {
                        if value.to_bits() != 0 {
                            prost::encoding::double::encode(1, &value, out);
                        }
                    };
                    if !swapped {
                        put_value(&mut message);
                    }
                    prost::encoding::int64::encode(2, &t, &mut message);
                    if swapped {
                        put_value(&mut message);
                    }
                    let mut bytes = vec![0x12, message.len() as u8];
                    bytes.extend(&message);
                    let (v, time) = sample(Reader::new(&message)).unwrap();
                    assert_eq!((v.to_bits(), time), (value.to_bits(), t));
                    match plain_sample(&bytes) {
                        Some((v, time)) => {
                            plain += 1;
                            assert_eq!((v.to_bits(), time), (value.to_bits(), t));
                        }
                        None => others += 1,
                    }
                    for cut in 0..bytes.len() {
                        assert_eq!(plain_sample(&bytes[..cut]), None, "cut to {cut}");
                    }
                    bytes.push(0x22);
                    assert_eq!(plain_sample(&bytes), None, "something follows");
                }
            }
        }
        assert!(plain >= 24 && others > 0, "{plain} plain, {others} others");
    }
}
