//! A store on a simulated disk and a naive model beside it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use trefoil_model::{
    FloatHistogram, FloatPoint, HistogramPoint, Labels, MatchOp, Matcher, MetricBatch, MetricReader, MetricWriter,
    SampleBuffer, SelectRequest, TenantId, TimeRange, Unlimited, WriteError, WriteReport,
};
use trefoil_runtime::SimClock;
use trefoil_runtime::vfs::sim::SimDisk;
use trefoil_tsdb::{Tsdb, TsdbError, TsdbOptions};

pub(crate) const DAY_MS: i64 = 86_400_000;
/// Some midnight.
pub(crate) const BASE: i64 = 19_700 * DAY_MS;
/// "Now" of every test that does not move the clock: noon three days later.
pub(crate) const NOW: i64 = BASE + 3 * DAY_MS + DAY_MS / 2;

pub(crate) fn options(disk: &SimDisk) -> TsdbOptions {
    TsdbOptions::new("/data/metrics", Arc::new(disk.clone()), SimClock::new(NOW))
}

pub(crate) fn open(disk: &SimDisk) -> Result<Tsdb, TsdbError> {
    Tsdb::open(options(disk))
}

pub(crate) fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

pub(crate) fn numbered(i: usize) -> Labels {
    let i = i.to_string();
    labels(&[("__name__", "m"), ("i", &i)])
}

pub(crate) fn histogram(v: u32) -> Arc<FloatHistogram> {
    Arc::new(FloatHistogram {
        zero_threshold: 1e-128,
        count: f64::from(v),
        sum: f64::from(v) * 0.7,
        zero_count: f64::from(v % 5),
        positive_spans: vec![trefoil_model::HistogramSpan { offset: 1, length: 1 + v % 2 }],
        positive_buckets: vec![f64::from(v); 1 + v as usize % 2],
        integer: true,
        ..FloatHistogram::default()
    })
}

pub(crate) fn request(matchers: Vec<Matcher>, range: TimeRange) -> SelectRequest {
    SelectRequest { tenant: TenantId(0), matchers, range }
}

pub(crate) fn matcher(op: MatchOp, name: &str, value: &str) -> Matcher {
    Matcher::new(op, name, value).unwrap()
}

/// A value in a form that compares bit by bit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Float(u64),
    Histogram(Arc<FloatHistogram>),
}

/// (time, start, value)
pub(crate) type Point = (i64, i64, Value);

pub(crate) fn float(v: f64) -> Value {
    Value::Float(v.to_bits())
}

pub(crate) fn points(buffer: &SampleBuffer) -> Vec<Point> {
    assert!(buffer.times.windows(2).all(|w| w[0] < w[1]), "times ascend: {:?}", buffer.times);
    assert_eq!(buffer.times.len(), buffer.values.len());
    assert!(buffer.starts.is_empty() || buffer.starts.len() == buffer.times.len());
    let histograms: BTreeMap<u32, &Arc<FloatHistogram>> = buffer.histograms.iter().map(|(i, h)| (*i, h)).collect();
    assert_eq!(histograms.len(), buffer.histograms.len());
    (0..buffer.len())
        .map(|i| {
            let value = match histograms.get(&(i as u32)) {
                Some(h) => Value::Histogram(Arc::clone(h)),
                None => float(buffer.values[i]),
            };
            (buffer.times[i], buffer.starts.get(i).copied().unwrap_or(0), value)
        })
        .collect()
}

/// Everything in a range, by labels.
pub(crate) fn read(db: &Tsdb, tenant: u32, matchers: Vec<Matcher>, range: TimeRange) -> BTreeMap<Labels, Vec<Point>> {
    let request = SelectRequest { tenant: TenantId(tenant), ..request(matchers, range) };
    let selected = db.select(&request, &Unlimited).unwrap();
    assert!(selected.windows(2).all(|w| w[0].labels < w[1].labels), "series are sorted and unique");
    let mut out = BTreeMap::new();
    for s in selected {
        let mut buffer = SampleBuffer::default();
        s.source.read(range, &mut buffer).unwrap();
        if !buffer.is_empty() {
            out.insert(s.labels, points(&buffer));
        }
    }
    out
}

pub(crate) fn batch(samples: &[(Labels, Point)]) -> MetricBatch {
    let mut batch = MetricBatch::default();
    for (labels, (t_ms, start_ms, value)) in samples {
        let known = batch.series.iter().position(|l| l == labels).map(|i| i as u32);
        let series = known.unwrap_or_else(|| batch.add_series(labels.clone()));
        match value {
            Value::Float(bits) => {
                let value = f64::from_bits(*bits);
                batch.floats.push(FloatPoint { series, t_ms: *t_ms, start_ms: *start_ms, value });
            }
            Value::Histogram(h) => {
                batch.histograms.push(HistogramPoint { series, t_ms: *t_ms, start_ms: *start_ms, value: Arc::clone(h) })
            }
        }
    }
    batch
}

pub(crate) fn write(db: &Tsdb, samples: &[(Labels, Point)]) -> Result<WriteReport, WriteError> {
    wait(db.write(batch(samples)))
}

type Allowed = Vec<Option<(i64, Value)>>;

/// What a store must answer: for every series and time the values that are allowed there. The first stands for the
/// last acknowledged one (`None`: there is none); others were written later without being acknowledged.
#[derive(Debug, Default, Clone)]
pub(crate) struct Model {
    series: BTreeMap<Labels, BTreeMap<i64, Allowed>>,
}

impl Model {
    pub(crate) fn acknowledged(&mut self, samples: &[(Labels, Point)]) {
        for (labels, (t, start, value)) in samples {
            self.series.entry(labels.clone()).or_default().insert(*t, vec![Some((*start, value.clone()))]);
        }
    }

    pub(crate) fn in_doubt(&mut self, samples: &[(Labels, Point)]) {
        for (labels, (t, start, value)) in samples {
            let allowed = self.series.entry(labels.clone()).or_default().entry(*t).or_insert_with(|| vec![None]);
            allowed.push(Some((*start, value.clone())));
        }
    }

    pub(crate) fn check(&self, db: &Tsdb, range: TimeRange, context: &str) {
        let mut got = read(db, 0, vec![matcher(MatchOp::Equal, "__name__", "m")], range);
        for (labels, times) in &self.series {
            let mut points: BTreeMap<i64, (i64, Value)> =
                got.remove(labels).unwrap_or_default().into_iter().map(|(t, s, v)| (t, (s, v))).collect();
            for (t, allowed) in times {
                let found = points.remove(t);
                if range.contains(*t) {
                    assert!(allowed.contains(&found), "{context}: {labels} at {t}: {found:?}, allowed {allowed:?}");
                }
            }
            assert!(points.is_empty(), "{context}: {labels} has samples that nobody wrote: {points:?}");
        }
        assert!(got.is_empty(), "{context}: series that nobody wrote: {got:?}");
    }
}
