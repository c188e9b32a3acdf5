//! The journal record of a batch. See `FORMAT.md`, "Journal record".

use std::sync::Arc;

use trefoil_model::{FloatHistogram, Labels, MetricKind, MetricMetadata, SeriesId, TenantId};

use crate::encoding::DecodeError;
use crate::encoding::histogram::{decode_histogram, encode_histogram};
use crate::encoding::varint::{Reader, put_float, put_ivarint, put_text, put_uvarint};

const VERSION: u8 = 1;
const FLAG_LZ4: u8 = 1;
const FLAG_STARTS: u8 = 2;
/// Bodies with this many bytes of definitions and more are compressed: labels shrink well, samples do not.
const COMPRESS_MIN: usize = 512;
const BODY_BYTES_MAX: usize = 1 << 30;

/// What one batch adds, by series id. Everything is in the order of the batch.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) tenant: TenantId,
    /// Series that this record defines.
    pub(crate) series: Vec<(SeriesId, Labels)>,
    pub(crate) floats: Vec<FloatSample>,
    pub(crate) histograms: Vec<HistogramSample>,
    pub(crate) exemplars: Vec<ExemplarRecord>,
    pub(crate) metadata: Vec<MetricMetadata>,
}

/// A float sample by series id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FloatSample {
    pub(crate) series: SeriesId,
    pub(crate) t: i64,
    pub(crate) start: i64,
    pub(crate) value: f64,
}

impl PartialEq for FloatSample {
    fn eq(&self, other: &Self) -> bool {
        (self.series, self.t, self.start, self.value.to_bits())
            == (other.series, other.t, other.start, other.value.to_bits())
    }
}

/// A native-histogram sample by series id.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HistogramSample {
    pub(crate) series: SeriesId,
    pub(crate) t: i64,
    pub(crate) start: i64,
    pub(crate) value: Arc<FloatHistogram>,
}

/// An exemplar by series id.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExemplarRecord {
    pub(crate) series: SeriesId,
    pub(crate) t: i64,
    pub(crate) value: f64,
    pub(crate) labels: Labels,
}

/// Neighbours in a record differ little: ids, times and starts are written as differences.
#[derive(Default)]
struct Before {
    id: u64,
    t: i64,
    start: i64,
}

impl Before {
    fn put(&mut self, out: &mut Vec<u8>, id: SeriesId, t: i64, start: Option<i64>) {
        put_ivarint(out, id.0.wrapping_sub(self.id) as i64);
        put_ivarint(out, t.wrapping_sub(self.t));
        (self.id, self.t) = (id.0, t);
        if let Some(start) = start {
            put_ivarint(out, start.wrapping_sub(self.start));
            self.start = start;
        }
    }

    fn get(&mut self, from: &mut Reader<'_>, with_start: bool) -> Result<(SeriesId, i64, i64), DecodeError> {
        self.id = self.id.wrapping_add(from.ivarint()? as u64);
        self.t = self.t.wrapping_add(from.ivarint()?);
        if with_start {
            self.start = self.start.wrapping_add(from.ivarint()?);
        }
        Ok((SeriesId(self.id), self.t, self.start))
    }
}

impl Record {
    /// True when there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
            && self.floats.is_empty()
            && self.histograms.is_empty()
            && self.exemplars.is_empty()
            && self.metadata.is_empty()
    }

    /// A record of the definitions alone, for the copies of the journal; empty when there are none.
    pub(crate) fn encode_definitions(&mut self) -> Vec<u8> {
        if self.series.is_empty() {
            return Vec::new();
        }
        let series = std::mem::take(&mut self.series);
        let record = Self { tenant: self.tenant, series, ..Self::default() };
        let encoded = record.encode();
        self.series = record.series;
        encoded
    }

    /// The bytes for the journal.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let with_starts = self.floats.iter().any(|f| f.start != 0);
        let mut out = Vec::with_capacity(64 + self.floats.len() * 8);
        out.extend([VERSION, if with_starts { FLAG_STARTS } else { 0 }]);
        put_uvarint(&mut out, u64::from(self.tenant.0));
        put_uvarint(&mut out, self.series.len() as u64);
        let mut before = Before::default();
        for (id, labels) in &self.series {
            put_ivarint(&mut out, id.0.wrapping_sub(before.id) as i64);
            before.id = id.0;
            put_text(&mut out, labels.as_packed());
        }
        let definitions = out.len();
        put_uvarint(&mut out, self.floats.len() as u64);
        let mut before = Before::default();
        for f in &self.floats {
            before.put(&mut out, f.series, f.t, with_starts.then_some(f.start));
            put_float(&mut out, f.value);
        }
        put_uvarint(&mut out, self.histograms.len() as u64);
        let mut before = Before::default();
        let mut last: Option<&FloatHistogram> = None;
        for h in &self.histograms {
            before.put(&mut out, h.series, h.t, Some(h.start));
            encode_histogram(last, &h.value, &mut out);
            last = Some(&h.value);
        }
        put_uvarint(&mut out, self.exemplars.len() as u64);
        let mut before = Before::default();
        for e in &self.exemplars {
            before.put(&mut out, e.series, e.t, None);
            put_float(&mut out, e.value);
            put_text(&mut out, e.labels.as_packed());
        }
        put_uvarint(&mut out, self.metadata.len() as u64);
        for m in &self.metadata {
            out.push(kind_code(m.kind));
            put_text(&mut out, &m.name);
            put_text(&mut out, &m.help);
            put_text(&mut out, &m.unit);
        }
        let has_text = definitions >= COMPRESS_MIN || self.exemplars.len() + self.metadata.len() > 8;
        if has_text && out.len() >= COMPRESS_MIN { compressed(&out) } else { out }
    }

    /// Reads what [`Record::encode`] wrote.
    pub(crate) fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(data);
        if from.u8()? != VERSION {
            return Err(DecodeError);
        }
        let flags = from.u8()?;
        if flags & !(FLAG_LZ4 | FLAG_STARTS) != 0 {
            return Err(DecodeError);
        }
        let body;
        if flags & FLAG_LZ4 != 0 {
            let n = usize::try_from(from.uvarint()?).map_err(|_| DecodeError)?;
            if n > BODY_BYTES_MAX || n / 256 > from.rest().len() {
                return Err(DecodeError);
            }
            body = lz4_flex::block::decompress(from.rest(), n).map_err(|_| DecodeError)?;
            from = Reader::new(&body);
        }
        Self::decode_body(from, flags & FLAG_STARTS != 0)
    }

    fn decode_body(mut from: Reader<'_>, with_starts: bool) -> Result<Self, DecodeError> {
        let from = &mut from;
        let tenant = TenantId(u32::try_from(from.uvarint()?).map_err(|_| DecodeError)?);
        let mut record = Self { tenant, ..Self::default() };
        let labels = |from: &mut Reader<'_>| Labels::from_packed(from.text()?).ok_or(DecodeError);
        let mut before = Before::default();
        for _ in 0..from.length(2)? {
            before.id = before.id.wrapping_add(from.ivarint()? as u64);
            record.series.push((SeriesId(before.id), labels(from)?));
        }
        let mut before = Before::default();
        for _ in 0..from.length(3)? {
            let (series, t, start) = before.get(from, with_starts)?;
            record.floats.push(FloatSample { series, t, start, value: from.float()? });
        }
        let mut before = Before::default();
        for _ in 0..from.length(4)? {
            let (series, t, start) = before.get(from, true)?;
            let last = record.histograms.last().map(|h| h.value.as_ref());
            let value = Arc::new(decode_histogram(last, from)?);
            record.histograms.push(HistogramSample { series, t, start, value });
        }
        let mut before = Before::default();
        for _ in 0..from.length(4)? {
            let (series, t, _) = before.get(from, false)?;
            record.exemplars.push(ExemplarRecord { series, t, value: from.float()?, labels: labels(from)? });
        }
        for _ in 0..from.length(4)? {
            record.metadata.push(MetricMetadata {
                kind: kind_of(from.u8()?)?,
                name: from.text()?.to_owned(),
                help: from.text()?.to_owned(),
                unit: from.text()?.to_owned(),
            });
        }
        if from.is_empty() { Ok(record) } else { Err(DecodeError) }
    }
}

fn compressed(plain: &[u8]) -> Vec<u8> {
    let body = &plain[2..];
    let packed = lz4_flex::block::compress(body);
    let mut out = Vec::with_capacity(packed.len() + 8);
    out.extend([plain[0], plain[1] | FLAG_LZ4]);
    put_uvarint(&mut out, body.len() as u64);
    out.extend_from_slice(&packed);
    out
}

const KINDS: [MetricKind; 8] = [
    MetricKind::Unknown,
    MetricKind::Counter,
    MetricKind::Gauge,
    MetricKind::Histogram,
    MetricKind::GaugeHistogram,
    MetricKind::Summary,
    MetricKind::Info,
    MetricKind::StateSet,
];

fn kind_code(kind: MetricKind) -> u8 {
    KINDS.iter().position(|k| *k == kind).expect("the table has every kind") as u8
}

fn kind_of(code: u8) -> Result<MetricKind, DecodeError> {
    KINDS.get(usize::from(code)).copied().ok_or(DecodeError)
}
