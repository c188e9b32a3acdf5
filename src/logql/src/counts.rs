//! Totals of lines, gathered in columns and on several threads: for results that depend on no order.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustc_hash::{FxHashMap, FxHashSet};
use trefoil_model::re2;
use trefoil_model::{
    AttributeWants, BudgetError, Labels, LogFold, LogRows, LogVolume, LogWants, QueryBudget, VolumeQuery,
};

use crate::Error;
use crate::ast::{LineFilter, LineNeedle, LineOp};
use crate::labels::{LineLabels, StreamLabels};
use crate::output::Stats;
use crate::pipeline::Scan;
use crate::range::Collector;

const DUPLICATE_SUFFIX: &str = "_extracted";
/// Most threads of a query.
const THREADS_MAX: usize = 8;

/// Which attributes a scan looks at.
pub(crate) struct Attributes(Option<Vec<String>>);

impl Attributes {
    pub(crate) fn none() -> Self {
        Self(Some(Vec::new()))
    }

    pub(crate) fn all() -> Self {
        Self(None)
    }

    pub(crate) fn named(wanted: &FxHashSet<String>) -> Self {
        // What stands in the way of a parsed label, which then has the suffix, is looked at too.
        let plain = wanted.iter().filter_map(|name| name.strip_suffix(DUPLICATE_SUFFIX));
        let mut names: Vec<String> = wanted.iter().map(String::as_str).chain(plain).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        Self(Some(names))
    }

    pub(crate) fn as_wants(&self) -> AttributeWants<'_> {
        match &self.0 {
            None => AttributeWants::All,
            Some(names) if names.is_empty() => AttributeWants::None,
            Some(names) => AttributeWants::Names(names),
        }
    }
}

/// Adds what lines that pass a filter must hold: for each item one of its texts.
pub(crate) fn required_texts(filter: &LineFilter, out: &mut Vec<Vec<String>>) {
    let texts = |needle: &LineNeedle| match (needle, filter.op) {
        (LineNeedle::Text(text), LineOp::Contains) if !text.is_empty() => vec![vec![text.clone()]],
        (LineNeedle::Text(text), LineOp::Regex) => re2::required_texts(text),
        _ => Vec::new(),
    };
    if let [only] = filter.alternatives.as_slice() {
        out.extend(texts(only));
        return;
    }
    let mut any = Vec::new();
    for needle in &filter.alternatives {
        let longest = |texts: &Vec<String>| texts.iter().map(String::len).min().unwrap_or(0);
        let Some(best) = texts(needle).into_iter().max_by_key(longest) else { return };
        any.extend(best);
    }
    out.push(any);
}

/// Series that were paid for.
#[derive(Default)]
pub(crate) struct Charged(Mutex<FxHashSet<Labels>>);

impl Charged {
    /// True the first time.
    pub(crate) fn insert(&self, labels: &Labels) -> bool {
        self.0.lock().expect("no holder panics").insert(labels.clone())
    }
}

/// Gathers what a scan finds into a collector of totals. False when that must be done line by line, in order; then
/// nothing was gathered.
pub(crate) fn fold(scan: &Scan<'_>, collector: &mut Collector<'_>, stats: &mut Stats) -> Result<bool, Error> {
    if !collector.is_total() || scan.range.start_ns >= scan.range.end_ns {
        return Ok(false);
    }
    if scan.pipeline.is_empty() && from_statistics(scan, collector, stats)? {
        return Ok(true);
    }
    let query = scan.query()?;
    let attributes = scan.attributes();
    let line: &(dyn Fn(&str) -> bool + Sync) = &|text| scan.pipeline.passes_leading(text);
    let wants = LogWants {
        text: scan.pipeline.looks_at_text(),
        attributes: attributes.as_wants(),
        line: scan.pipeline.has_leading().then_some(line),
        any_of: scan.any_of(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let charged = Arc::new(Charged::default());
    let read = AtomicU64::new(stats.bytes_processed);
    let mut folders: Vec<Folder<'_, '_>> = (0..threads)
        .map(|_| Folder {
            scan,
            read: &read,
            has_text: wants.text,
            collector: collector.sibling(&charged),
            labels: LineLabels::wanting(scan.wanted.clone()),
            streams: FxHashMap::default(),
            known: Vec::new(),
            stats: Stats::default(),
            failed: None,
        })
        .collect();
    let scanned = {
        let mut folds: Vec<Box<dyn LogFold + '_>> = Vec::new();
        folders.iter_mut().for_each(|folder| folds.push(Box::new(Borrowed(folder))));
        scan.source.reader.fold(&query, &wants, scan.source.budget, &mut folds)
    };
    for folder in &mut folders {
        match folder.failed.take() {
            // Which line shows its error first is a matter of order.
            Some(Error::Pipeline { .. }) => return Ok(false),
            Some(error) => return Err(error),
            None => {}
        }
    }
    let scanned = scanned?;
    let (mut lines, mut bytes) = (0, 0);
    for folder in folders {
        lines += folder.stats.lines_processed;
        bytes += folder.stats.bytes_processed;
        stats.lines_passed += folder.stats.lines_passed;
        stats.metadata_bytes += folder.stats.metadata_bytes;
        collector.merge(folder.collector);
    }
    stats.blocks += scanned.blocks;
    stats.records += scanned.records;
    stats.lines_processed += lines.max(scanned.records);
    stats.bytes_processed += bytes.max(scanned.bytes);
    if stats.bytes_processed > scan.source.scan_bytes_max {
        return Err(Error::Scan(scan.source.scan_bytes_max));
    }
    Ok(true)
}

/// Counts by stream labels alone, from what the store knows without reading lines. False when the result depends on
/// more; then nothing was gathered.
fn from_statistics(scan: &Scan<'_>, collector: &mut Collector<'_>, stats: &mut Stats) -> Result<bool, Error> {
    let Some(step_ns) = collector.statistics_step() else { return Ok(false) };
    let crate::pipeline::Source { reader, tenant, budget, .. } = scan.source;
    let query = VolumeQuery { tenant, range: scan.range, matchers: &scan.log.matchers, step_ns };
    let mut streams: FxHashMap<u64, Arc<StreamLabels>> = FxHashMap::default();
    let mut volumes: FxHashMap<(u64, usize), LogVolume> = FxHashMap::default();
    let fit = WhileFit { budget, is_fit: AtomicBool::new(true) };
    let scanned = reader.volumes(&query, &fit, &mut |stream, stream_ref, step, volume| {
        streams.entry(stream_ref).or_insert_with(|| {
            let labels = StreamLabels::new(stream);
            // A label that the stream lacks may be an attribute of a record.
            if !collector.names().is_some_and(|names| names.iter().all(|name| labels.has(name))) {
                fit.is_fit.store(false, Ordering::Relaxed);
            }
            Arc::new(labels)
        });
        volumes.entry((stream_ref, step)).or_default().add(volume);
    });
    if !fit.is_fit.into_inner() {
        budget.check()?;
        return Ok(false);
    }
    let scanned = scanned?;
    let mut labels = LineLabels::wanting(scan.wanted.clone());
    let mut groups: FxHashMap<u64, usize> = FxHashMap::default();
    #[expect(clippy::iter_over_hash_type, reason = "sums do not depend on the order")]
    for ((stream_ref, step), volume) in volumes {
        let time_ns = scan.range.start_ns.saturating_add(step_ns.saturating_mul(step as i64));
        let Some(steps) = collector.steps_of(time_ns) else { continue };
        let group = match groups.get(&stream_ref) {
            Some(group) => *group,
            None => {
                labels.start(&streams[&stream_ref]);
                let group = collector.group(&labels)?;
                groups.insert(stream_ref, group);
                group
            }
        };
        collector.count(group, steps, volume.records as f64, volume.bytes as f64);
        stats.lines_passed += volume.records;
    }
    stats.blocks += scanned.blocks;
    stats.records += scanned.records;
    stats.lines_processed += scanned.records;
    stats.bytes_processed += scanned.bytes;
    Ok(true)
}

/// A budget that ends counting as soon as its result is of no use.
struct WhileFit<'a> {
    budget: &'a dyn QueryBudget,
    is_fit: AtomicBool,
}

impl QueryBudget for WhileFit<'_> {
    fn check(&self) -> Result<(), BudgetError> {
        match self.is_fit.load(Ordering::Relaxed) {
            true => self.budget.check(),
            // Nobody sees it.
            false => Err(BudgetError::Canceled),
        }
    }

    fn charge_samples(&self, n: u64) -> Result<(), BudgetError> {
        self.budget.charge_samples(n)
    }

    fn release_samples(&self, n: u64) {
        self.budget.release_samples(n);
    }

    fn charge_series(&self, n: u64) -> Result<(), BudgetError> {
        self.budget.charge_series(n)
    }

    fn charge_bytes(&self, n: u64) -> Result<(), BudgetError> {
        self.budget.charge_bytes(n)
    }

    fn release_bytes(&self, n: u64) {
        self.budget.release_bytes(n);
    }
}

struct Borrowed<'f, 'a, 'c>(&'f mut Folder<'a, 'c>);

impl LogFold for Borrowed<'_, '_, '_> {
    fn rows(&mut self, rows: &LogRows<'_>) -> ControlFlow<()> {
        match self.0.add(rows) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.0.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

/// What becomes of the lines of a set.
#[derive(Clone, Copy)]
enum Known {
    Nothing,
    /// With the bytes of metadata that each has.
    Dropped(u64),
    OfGroup(usize, u64),
}

/// Gathers a share of the lines.
struct Folder<'a, 'c> {
    scan: &'a Scan<'a>,
    /// Bytes of lines that were read, by all folders.
    read: &'a AtomicU64,
    has_text: bool,
    collector: Collector<'c>,
    labels: LineLabels,
    streams: FxHashMap<u64, Arc<StreamLabels>>,
    /// What is known of the sets at hand, where lines of a set fare alike.
    known: Vec<Known>,
    stats: Stats,
    failed: Option<Error>,
}

impl Folder<'_, '_> {
    fn add(&mut self, rows: &LogRows<'_>) -> Result<(), Error> {
        let pipeline = self.scan.pipeline;
        let bytes: u64 = rows.text_bytes.iter().map(|bytes| u64::from(*bytes)).sum();
        let bytes_max = self.scan.source.scan_bytes_max;
        if self.read.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > bytes_max {
            return Err(Error::Scan(bytes_max));
        }
        let base = self.streams.entry(rows.stream_ref).or_insert_with(|| Arc::new(StreamLabels::new(rows.stream)));
        let base = Arc::clone(base);
        let are_alike = !pipeline.stages_look_at_text();
        self.known.clear();
        self.known.resize(rows.sets.len(), Known::Nothing);
        for row in 0..rows.len() {
            let time_ns = rows.times[row];
            let Some(steps) = self.collector.steps_of(time_ns) else { continue };
            let bytes = rows.text_bytes[row];
            self.stats.lines_processed += 1;
            self.stats.bytes_processed += u64::from(bytes);
            let text = if self.has_text { rows.texts[row] } else { "" };
            if self.has_text && !pipeline.passes_leading(text) {
                continue;
            }
            let set_at = rows.set_of[row] as usize;
            match self.known[set_at] {
                Known::OfGroup(group, metadata) => {
                    self.stats.lines_passed += 1;
                    self.stats.metadata_bytes += metadata;
                    self.collector.count(group, steps, 1.0, f64::from(bytes));
                    continue;
                }
                Known::Dropped(metadata) => {
                    self.stats.metadata_bytes += metadata;
                    continue;
                }
                Known::Nothing => {}
            }
            self.labels.start(&base);
            let mut metadata = 0;
            if self.scan.needs_labels {
                let set = &rows.sets[set_at];
                metadata = self.labels.add_attributes(set.shared, set.record);
                self.stats.metadata_bytes += metadata;
            }
            let Some(line) = pipeline.run(time_ns, text, &mut self.labels) else {
                if are_alike {
                    self.known[set_at] = Known::Dropped(metadata);
                }
                continue;
            };
            self.stats.lines_passed += 1;
            if are_alike && self.labels.error().is_none() {
                let group = self.collector.group(&self.labels)?;
                self.known[set_at] = Known::OfGroup(group, metadata);
                self.collector.count(group, steps, 1.0, f64::from(bytes));
            } else {
                let length = if self.has_text { line.len() } else { bytes as usize };
                self.collector.add(time_ns, length, &mut self.labels)?;
            }
        }
        Ok(())
    }
}
