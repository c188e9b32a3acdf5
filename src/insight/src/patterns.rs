//! The shapes of log lines by service: learnt while lines come in, counted in steps of ten seconds, kept for three
//! hours in bounded memory.
//!
//! A pattern is written as the line filter `|>` takes it: text with `<_>` where lines differ. When many lines come in,
//! every eighth is looked at and counts for eight. After a restart there are none: who asks for a time before, or for
//! other labels than the service, has [`Miner`] look at stored lines.

mod counts;
mod miner;
mod tokens;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge, register_int_counter, register_int_gauge};
use rustc_hash::FxHashMap;
use trefoil_model::labels::underscored;
use trefoil_model::log::level_of_severity;
use trefoil_model::{Labels, LogBatch, LogRecord, NanoRange, TenantId};

pub use counts::{KEPT_SECONDS, STEP_SECONDS};
pub use miner::Miner;

/// Lines a second that are all looked at.
const LINES_PER_SECOND: u64 = 2000;
/// Beyond, one of so many is.
const STRIDE: u64 = 8;
/// Most services whose patterns are kept.
const SERVICES_MAX: usize = 512;
/// Bytes of all patterns.
const BYTES_MAX: usize = 32 << 20;
/// Bytes of a line that are copied: more than the miner looks at is not needed.
const LINE_BYTES_MAX: usize = 1100;
/// Service of a stream that names none.
const UNKNOWN_SERVICE: &str = "unknown_service";

static LINES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("trefoil_insight_pattern_lines_total", "Log lines that were looked at for their pattern.")
        .expect("unique metric name")
});
static EVICTED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "trefoil_insight_pattern_evictions_total",
        "How often patterns were forgotten because of the limits on services or bytes."
    )
    .expect("unique metric name")
});
static BYTES: LazyLock<IntGauge> = LazyLock::new(|| {
    register_int_gauge!("trefoil_insight_pattern_bytes", "Bytes that log patterns hold, about.")
        .expect("unique metric name")
});

/// The shape of one text: `<_>` in place of numbers, ids, times and amounts. What is behind the length that is looked at
/// is left out.
pub fn shape(text: &str) -> String {
    let mut tokens = tokens::Tokens::new();
    tokens.read(text);
    let mut out = tokens.delimiters.first().copied().unwrap_or("").to_owned();
    for (word, delimiter) in tokens.words.iter().zip(tokens.delimiters.iter().skip(1)) {
        out.push_str(if word.variable { "<_>" } else { word.text });
        out.push_str(delimiter);
    }
    out
}

/// A pattern with its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternSeries {
    /// As `|>` takes it.
    pub pattern: String,
    /// Level of its lines; `unknown` when they have none.
    pub level: &'static str,
    /// Start of the step in Unix seconds and count, in order of time.
    pub samples: Vec<(i64, u64)>,
    /// Lines since it is known.
    pub total: u64,
    /// Unix nanoseconds of its oldest line that was looked at.
    pub first_seen_ns: i64,
    /// Unix nanoseconds of its newest line that was looked at.
    pub last_seen_ns: i64,
}

impl PatternSeries {
    fn add(&mut self, samples: impl Iterator<Item = (i64, u64)>, total: u64, seen_ns: (i64, i64)) {
        for (at, count) in samples {
            match self.samples.binary_search_by_key(&at, |s| s.0) {
                Ok(i) => self.samples[i].1 += count,
                Err(i) => self.samples.insert(i, (at, count)),
            }
        }
        self.total = self.total.saturating_add(total);
        self.first_seen_ns = self.first_seen_ns.min(seen_ns.0);
        self.last_seen_ns = self.last_seen_ns.max(seen_ns.1);
    }

    /// Sums the counts by steps of so many seconds.
    pub fn in_steps(&mut self, seconds: i64) {
        let samples = std::mem::take(&mut self.samples);
        for (at, count) in samples {
            let at = at - at.rem_euclid(seconds.max(1));
            match self.samples.last_mut() {
                Some((last, sum)) if *last == at => *sum += count,
                _ => self.samples.push((at, count)),
            }
        }
    }
}

/// Most frequent first, then by text and level.
fn sorted(mut all: Vec<PatternSeries>) -> Vec<PatternSeries> {
    let sum = |p: &PatternSeries| p.samples.iter().map(|s| s.1).sum::<u64>();
    all.sort_by_cached_key(|p| (std::cmp::Reverse(sum(p)), p.pattern.clone(), p.level));
    all
}

/// Patterns of all services.
#[derive(Debug, Default)]
pub struct Patterns {
    services: Mutex<FxHashMap<(TenantId, Box<str>), Miner>>,
    /// The second that `lines_now` counts for.
    second: AtomicI64,
    lines_now: AtomicU64,
    /// Counts on, so that batches of any size are sampled evenly.
    turn: AtomicU64,
    /// Unix nanoseconds since when all lines were seen; 0: none yet.
    since_ns: AtomicI64,
    bytes: AtomicUsize,
}

/// Lines that were picked of a batch.
#[derive(Debug, Default)]
pub struct Sample {
    tenant: TenantId,
    groups: Vec<(Box<str>, Vec<Picked>)>,
    text: String,
}

#[derive(Debug)]
struct Picked {
    /// Where its text ends in the sample's.
    end: usize,
    level: Level,
    time_ns: i64,
    count: u32,
}

/// A level without a copy of its text, where possible.
#[derive(Debug)]
enum Level {
    Known(&'static str),
    Text(Box<str>),
}

/// The service of a stream.
pub fn service_of(stream: &Labels) -> &str {
    stream.iter().find(|(name, _)| underscored(name) == "service_name").map_or(UNKNOWN_SERVICE, |(_, value)| value)
}

/// The level of a record: `detected_level`, else that of its severity, else `unknown`.
pub fn level_of(record: &LogRecord) -> std::borrow::Cow<'_, str> {
    let detected = record.attributes.iter().find(|(name, _)| name == "detected_level");
    match detected.map(|(_, value)| value) {
        Some(trefoil_model::AttributeValue::String(level)) => level.as_str().into(),
        Some(other) => other.to_text().into(),
        None => level_of_severity(record.severity_number).unwrap_or("unknown").into(),
    }
}

impl Patterns {
    /// Picks lines of a batch to be [learnt](Self::learn) when it is stored. `now_ns`: Unix nanoseconds.
    pub fn sample(&self, batch: &LogBatch, now_ns: i64) -> Sample {
        let mut sample = Sample { tenant: batch.tenant, ..Sample::default() };
        self.since_ns.compare_exchange(0, now_ns, Ordering::Relaxed, Ordering::Relaxed).ok();
        let lines = batch.record_count() as u64;
        let second = now_ns.div_euclid(1_000_000_000);
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.lines_now.store(0, Ordering::Relaxed);
        }
        let stride =
            if self.lines_now.fetch_add(lines, Ordering::Relaxed) + lines <= LINES_PER_SECOND { 1 } else { STRIDE };
        let mut turn = self.turn.fetch_add(lines, Ordering::Relaxed);
        for group in &batch.groups {
            let mut picked = Vec::new();
            for record in &group.records {
                turn = turn.wrapping_add(1);
                if !turn.is_multiple_of(stride) {
                    continue;
                }
                let mut end = record.text.len().min(LINE_BYTES_MAX);
                while !record.text.is_char_boundary(end) {
                    end -= 1;
                }
                sample.text.push_str(&record.text[..end]);
                let level = match level_of(record) {
                    std::borrow::Cow::Borrowed("unknown") => Level::Known("unknown"),
                    level => Level::Text(level.into()),
                };
                let count = u32::try_from(stride).unwrap_or(1);
                picked.push(Picked { end: sample.text.len(), level, time_ns: record.time_ns, count });
            }
            if !picked.is_empty() {
                sample.groups.push((service_of(&group.stream).into(), picked));
            }
        }
        sample
    }

    /// Learns the shapes of the lines.
    pub fn learn(&self, sample: &Sample) {
        let mut start = 0;
        for (service, picked) in &sample.groups {
            // A lock for each group: others come in between.
            let mut services = self.services.lock();
            let key = (sample.tenant, service.clone());
            if !services.contains_key(&key) && services.len() >= SERVICES_MAX {
                self.bytes.fetch_sub(evict_oldest(&mut services), Ordering::Relaxed);
            }
            let miner = services.entry(key).or_default();
            let before = miner.bytes();
            for line in picked {
                let level = match &line.level {
                    Level::Known(level) => level,
                    Level::Text(level) => &**level,
                };
                miner.learn(&sample.text[start..line.end], level, line.time_ns, line.count);
                start = line.end;
            }
            LINES.inc_by(picked.len() as u64);
            // Only changed under the lock.
            let mut bytes = self.bytes.load(Ordering::Relaxed).saturating_sub(before) + miner.bytes();
            if bytes > BYTES_MAX {
                bytes = shrink(&mut services);
            }
            self.bytes.store(bytes, Ordering::Relaxed);
            BYTES.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// Since when lines were looked at, Unix nanoseconds; `None` before the first.
    pub fn since_ns(&self) -> Option<i64> {
        Some(self.since_ns.load(Ordering::Relaxed)).filter(|t| *t != 0)
    }

    /// The patterns of the services that are wanted, with a line in the range, most frequent first. The same pattern of
    /// several services is one.
    pub fn find(&self, tenant: TenantId, wanted: impl Fn(&str) -> bool, range: NanoRange) -> Vec<PatternSeries> {
        let services = self.services.lock();
        let mut found: FxHashMap<(String, &'static str), PatternSeries> = FxHashMap::default();
        for series in services
            .iter()
            .filter(|((of, service), _)| *of == tenant && wanted(service))
            .flat_map(|(_, miner)| miner.patterns(range))
        {
            let seen = (series.first_seen_ns, series.last_seen_ns);
            match found.entry((series.pattern.clone(), series.level)) {
                std::collections::hash_map::Entry::Occupied(mut known) => {
                    known.get_mut().add(series.samples.into_iter(), series.total, seen);
                }
                std::collections::hash_map::Entry::Vacant(free) => {
                    free.insert(series);
                }
            }
        }
        sorted(found.into_values().collect())
    }
}

type Services = FxHashMap<(TenantId, Box<str>), Miner>;

/// Forgets the service that was silent for longest; returns the bytes that it held.
fn evict_oldest(services: &mut Services) -> usize {
    let oldest = services.iter().min_by_key(|(_, miner)| miner.newest_ns()).map(|(key, _)| key.clone());
    EVICTED.inc();
    oldest.and_then(|key| services.remove(&key)).map_or(0, |miner| miner.bytes())
}

/// Makes every service forget a quarter of its patterns; returns the bytes that are left.
fn shrink(services: &mut Services) -> usize {
    EVICTED.inc();
    #[expect(clippy::iter_over_hash_type, reason = "each is thinned by itself, in whatever order")]
    for miner in services.values_mut() {
        let quarter = miner.patterns_held().div_ceil(4);
        miner.forget(quarter);
    }
    services.values().map(Miner::bytes).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trefoil_model::LogGroup;

    use super::*;

    fn batch(service: &str, lines: usize) -> LogBatch {
        let record = |i: usize| LogRecord {
            time_ns: 1_700_000_000_000_000_000,
            observed_ns: 0,
            severity_number: 17,
            severity_text: String::new(),
            text: format!("request {i} took {}ms", i * 3),
            attributes: Vec::new(),
            trace_id: None,
            span_id: None,
        };
        let stream = Labels::from_pairs([("service.name", service)]);
        let group = LogGroup { stream, shared: Arc::default(), records: (0..lines).map(record).collect() };
        LogBatch { tenant: TenantId(0), groups: vec![group] }
    }

    #[test]
    fn many_lines_are_sampled_and_counted_in_full() {
        let patterns = Patterns::default();
        for _ in 0..100 {
            let sample = patterns.sample(&batch("shop", 80), 1_700_000_000_000_000_000);
            patterns.learn(&sample);
        }
        let range = NanoRange::new(0, i64::MAX);
        let found = patterns.find(TenantId(0), |s| s == "shop", range);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].pattern.as_str(), found[0].level), ("request <_> took <_>", "error"));
        assert!(found[0].total.abs_diff(8000) <= 8, "{}", found[0].total);
        assert!(patterns.find(TenantId(0), |s| s == "cart", range).is_empty());
        assert!(patterns.find(TenantId(1), |_| true, range).is_empty());
    }

    #[test]
    fn services_are_bounded() {
        let patterns = Patterns::default();
        for i in 0..SERVICES_MAX + 50 {
            let sample = patterns.sample(&batch(&format!("s{i}"), 1), i as i64 * 2_000_000_000);
            patterns.learn(&sample);
        }
        assert_eq!(patterns.services.lock().len(), SERVICES_MAX);
    }
}
