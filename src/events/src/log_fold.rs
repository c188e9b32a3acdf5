//! Reading log records in any order, in columns, on all threads of the pool; and counting them.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use trefoil_model::event_store::{ScanStats, VolumeQuery};
use trefoil_model::{
    AttributeWants, Labels, LogFold, LogQuery, LogRecord, LogRows, LogSet, LogVolume, LogWants, NanoRange, QueryBudget,
    StoreError,
};

use crate::EventsError;
use crate::log_block::{self, StoredLog};
use crate::log_filter::{Filter, KeptTest};
use crate::log_memtable::{Kept, Run};
use crate::log_plan::{BlockRead, Chosen, ChosenRows, LogSources, Plan, What, choose, within};
use crate::wire::Malformed;

/// Records that are delivered at once where they are not in columns.
const ROWS_AT_ONCE: usize = 512;
/// Records of a run that a thread looks at at once.
const RECORDS_AN_ITEM: usize = 8192;
/// Chunks likewise.
const CHUNKS_AN_ITEM: usize = 32;
/// Sets among which the next record's is sought, where records are not in columns.
const SETS_SOUGHT: usize = 8;

/// Delivers the wanted records of parts and runs, each to one of `folds`.
pub(crate) fn fold(
    query: &LogQuery,
    wants: &LogWants<'_>,
    budget: &dyn QueryBudget,
    sources: LogSources<'_>,
    folds: &mut [Box<dyn LogFold + '_>],
) -> Result<ScanStats, StoreError> {
    let filter = Filter::new(query, wants);
    let plan = Plan::new(query, &filter, sources, budget)?;
    let work = Work {
        plan: &plan,
        items: items(&plan),
        filter: &filter,
        budget,
        next: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        stats: Mutex::new(ScanStats::default()),
        failed: Mutex::new(None),
    };
    match folds {
        [] => {}
        [only] => work.run(only.as_mut()),
        many => {
            let work = &work;
            rayon::scope(|scope| {
                for fold in many {
                    scope.spawn(move |_| work.run(fold.as_mut()));
                }
            });
        }
    }
    match work.failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(work.stats.into_inner()),
    }
}

/// What a thread does at once.
enum Item<'w> {
    /// Records of a run, by their places.
    Run {
        stream: u32,
        run: &'w Run,
        range: Range<usize>,
    },
    /// Chunks of a run in which lines may be wanted.
    Chunks {
        stream: u32,
        run: &'w Run,
        chunks: &'w [u32],
    },
    Block {
        part: usize,
        block: usize,
    },
}

fn items<'w>(plan: &'w Plan<'_>) -> Vec<Item<'w>> {
    let mut items = Vec::new();
    for source in &plan.sources {
        match &source.what {
            What::Block { part, block } => items.push(Item::Block { part: *part, block: *block }),
            What::Run { stream, run, chunks: None } => {
                let stream = *stream;
                let Range { mut start, end } = within(run, plan.range(stream));
                while start < end {
                    let range = start..end.min(start + RECORDS_AN_ITEM);
                    start = range.end;
                    items.push(Item::Run { stream, run, range });
                }
            }
            What::Run { stream, run, chunks: Some(chunks) } => {
                let of_run = chunks.chunks(CHUNKS_AN_ITEM);
                items.extend(of_run.map(|chunks| Item::Chunks { stream: *stream, run, chunks }));
            }
        }
    }
    items
}

/// What the threads share.
struct Work<'w> {
    plan: &'w Plan<'w>,
    items: Vec<Item<'w>>,
    filter: &'w Filter<'w>,
    budget: &'w dyn QueryBudget,
    next: AtomicUsize,
    is_over: AtomicBool,
    stats: Mutex<ScanStats>,
    failed: Mutex<Option<StoreError>>,
}

impl Work<'_> {
    fn run(&self, fold: &mut (dyn LogFold + '_)) {
        let mut stats = ScanStats::default();
        while !self.is_over.load(Ordering::Relaxed) {
            let Some(item) = self.items.get(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            let flow = self.budget.check().map_err(StoreError::from).and_then(|()| match item {
                Item::Run { stream, run, range } => Ok(self.fold_run(*stream, &run[range.clone()], fold, &mut stats)),
                Item::Chunks { stream, run, chunks } => Ok(self.fold_chunks(*stream, (run, chunks), fold, &mut stats)),
                Item::Block { part, block } => self.fold_block((*part, *block), fold, &mut stats),
            });
            match flow {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => self.is_over.store(true, Ordering::Relaxed),
                Err(error) => {
                    self.is_over.store(true, Ordering::Relaxed);
                    self.failed.lock().get_or_insert(error);
                }
            }
        }
        self.stats.lock().add(stats);
    }

    fn test(&self, stream: u32) -> KeptTest {
        KeptTest::new(self.filter.needed(&self.plan.streams.labels[stream as usize]))
    }

    /// Delivers what is wanted of records of a run.
    fn fold_run(&self, stream: u32, run: &[Kept], fold: &mut dyn LogFold, stats: &mut ScanStats) -> ControlFlow<()> {
        let mut test = self.test(stream);
        run.chunks(ROWS_AT_ONCE).try_for_each(|logs| {
            stats.records += logs.len() as u64;
            stats.bytes += logs.iter().map(|log| log.text().len() as u64).sum::<u64>();
            let mut passes = |log: &&Kept| test.passes(self.filter, log) && self.filter.passes_text(log.text());
            let wanted: Vec<&Kept> = logs.iter().filter(&mut passes).collect();
            self.deliver_kept(stream, &wanted, fold)
        })
    }

    /// Delivers what is wanted of chunks of a run.
    fn fold_chunks(
        &self,
        stream: u32,
        (run, chunks): (&Run, &[u32]),
        fold: &mut dyn LogFold,
        stats: &mut ScanStats,
    ) -> ControlFlow<()> {
        let range = self.plan.range(stream);
        let mut test = self.test(stream);
        let (mut wanted, mut found) = (Vec::new(), Vec::new());
        for chunk in chunks {
            let chunk = &run.chunks()[*chunk as usize];
            let lines = &chunk.lines;
            found.clear();
            let (records, bytes) = self.filter.search_lines(chunk, &mut found);
            stats.records += records;
            stats.bytes += bytes;
            let mut near = (0, 0);
            wanted.extend(found.iter().filter_map(|line| {
                let log = run.record(lines, *line as usize, &mut near)?;
                (range.contains(log.time_ns) && test.passes(self.filter, log)).then_some(log)
            }));
            if wanted.len() >= ROWS_AT_ONCE {
                self.deliver_kept(stream, &wanted, fold)?;
                wanted.clear();
            }
        }
        self.deliver_kept(stream, &wanted, fold)
    }

    fn fold_block(
        &self,
        (part, block): (usize, usize),
        fold: &mut dyn LogFold,
        stats: &mut ScanStats,
    ) -> Result<ControlFlow<()>, StoreError> {
        let mut read = || -> Result<_, EventsError> {
            let runs = self.plan.parts[part].block_streams(block)?;
            let (chosen, read) = choose(self.plan, self.filter, (part, block), &runs)?;
            stats.blocks += 1;
            stats.records += read.records;
            stats.bytes += read.bytes;
            match chosen {
                Chosen::Columns(rows) if rows.rows.is_empty() => Ok(ControlFlow::Continue(())),
                Chosen::Columns(rows) => {
                    self.fold_rows(*rows, fold).map_err(|m| self.plan.parts[part].corrupt(block, &m.to_string()))
                }
                Chosen::Records(records) => {
                    for records in records.chunk_by(|a, b| a.0 == b.0) {
                        let logs: Vec<&StoredLog> = records.iter().map(|(_, log)| log).collect();
                        for logs in logs.chunks(ROWS_AT_ONCE) {
                            if self.deliver(records[0].0, logs, fold).is_break() {
                                return Ok(ControlFlow::Break(()));
                            }
                        }
                    }
                    Ok(ControlFlow::Continue(()))
                }
            }
        };
        Ok(read()?)
    }

    /// Delivers records of a memtable.
    fn deliver_kept(&self, stream: u32, logs: &[&Kept], fold: &mut dyn LogFold) -> ControlFlow<()> {
        if logs.is_empty() {
            return ControlFlow::Continue(());
        }
        let wants = &self.filter.wants;
        // Those that are not wholly described by what they have in common with others.
        let whole: Vec<Option<LogRecord>> =
            logs.iter().map(|log| (!log.is_in_common(&wants.attributes)).then(|| log.record())).collect();
        let mut sets: Vec<LogSet<'_>> = Vec::new();
        let mut set_of = Vec::with_capacity(logs.len());
        for (log, whole) in logs.iter().zip(&whole) {
            let (shared, common) = log.in_common();
            let record = whole.as_ref().unwrap_or(common);
            let is_same = |set: &LogSet<'_>| {
                (std::ptr::eq(set.shared, shared) || log_block::same(set.shared, shared))
                    && (std::ptr::eq(set.record, record) || same_as_wanted(set.record, record, &wants.attributes))
            };
            // Most are the same by their place.
            let is_it = |set: &LogSet<'_>| std::ptr::eq(set.record, record) && std::ptr::eq(set.shared, shared);
            let latest = || sets.iter().rev().take(SETS_SOUGHT);
            let index = match latest().position(is_it).or_else(|| latest().position(is_same)) {
                Some(back) => sets.len() - 1 - back,
                None => {
                    sets.push(LogSet { shared, record });
                    sets.len() - 1
                }
            };
            set_of.push(u32::try_from(index).unwrap_or(u32::MAX));
        }
        let times: Vec<i64> = logs.iter().map(|log| log.time_ns).collect();
        let texts: Vec<&str> = match wants.text {
            true => logs.iter().map(|log| log.text()).collect(),
            false => Vec::new(),
        };
        let text_bytes: Vec<u32> = logs.iter().map(|log| u32::try_from(log.text().len()).unwrap_or(u32::MAX)).collect();
        fold.rows(&LogRows {
            stream: &self.plan.streams.labels[stream as usize],
            stream_ref: u64::from(stream),
            times: &times,
            texts: &texts,
            text_bytes: &text_bytes,
            set_of: &set_of,
            sets: &sets,
        })
    }

    /// Delivers records that are not in columns.
    fn deliver(&self, stream: u32, logs: &[&StoredLog], fold: &mut dyn LogFold) -> ControlFlow<()> {
        if logs.is_empty() {
            return ControlFlow::Continue(());
        }
        let wants = &self.filter.wants;
        let mut sets: Vec<LogSet<'_>> = Vec::new();
        let mut set_of = Vec::with_capacity(logs.len());
        for log in logs {
            let is_same = |set: &LogSet<'_>| {
                (std::ptr::eq(set.shared, &*log.shared) || *set.shared == *log.shared)
                    && same_as_wanted(set.record, &log.record, &wants.attributes)
            };
            let found = sets.iter().rev().take(SETS_SOUGHT).position(is_same);
            let index = match found {
                Some(back) => sets.len() - 1 - back,
                None => {
                    sets.push(LogSet { shared: &log.shared, record: &log.record });
                    sets.len() - 1
                }
            };
            set_of.push(u32::try_from(index).unwrap_or(u32::MAX));
        }
        let times: Vec<i64> = logs.iter().map(|log| log.record.time_ns).collect();
        let texts: Vec<&str> = match wants.text {
            true => logs.iter().map(|log| log.record.text.as_str()).collect(),
            false => Vec::new(),
        };
        let length = |log: &&StoredLog| u32::try_from(log.record.text.len()).unwrap_or(u32::MAX);
        let text_bytes: Vec<u32> = logs.iter().map(length).collect();
        fold.rows(&LogRows {
            stream: &self.plan.streams.labels[stream as usize],
            stream_ref: u64::from(stream),
            times: &times,
            texts: &texts,
            text_bytes: &text_bytes,
            set_of: &set_of,
            sets: &sets,
        })
    }

    /// Delivers rows of a block, stream by stream.
    fn fold_rows(&self, mut rows: ChosenRows<'_>, fold: &mut dyn LogFold) -> Result<ControlFlow<()>, Malformed> {
        let wants = &self.filter.wants;
        let no_attributes = matches!(wants.attributes, AttributeWants::None);
        let none = (trefoil_model::Attributes::new(), empty_record());
        let sets = if no_attributes { None } else { Some(rows.sets()?) };
        let split = sets.as_ref().is_some_and(|(sets, _)| sets.is_split_by(&wants.attributes));
        if wants.text || (split && sets.as_ref().is_some_and(|(sets, _)| sets.needs_texts())) {
            rows.load_texts()?;
        } else {
            rows.load_lengths()?;
        }
        let rows = rows;
        let lengths = rows.lengths.as_deref().unwrap_or_default();
        let texts = rows.texts.as_ref();
        // Where records of a set differ, each is a set of its own.
        let mut whole: Vec<(u32, LogRecord)> = Vec::new();
        if let Some((sets, set_of)) = sets.as_ref().filter(|_| split) {
            rows.block.records(&rows.rows, &rows.times, texts, (sets, set_of), &mut |row, record| {
                whole.push((set_of[row], record));
            })?;
        }
        let delivered: Vec<LogSet<'_>> = match &sets {
            None => vec![LogSet { shared: &none.0, record: &none.1 }],
            Some((sets, _)) if split => {
                whole.iter().map(|(set, record)| LogSet { shared: &sets.sets[*set as usize].shared, record }).collect()
            }
            Some((sets, _)) => {
                sets.sets.iter().map(|set| LogSet { shared: &set.shared, record: set.common() }).collect()
            }
        };
        let mut start = 0;
        for (stream, end) in &rows.runs {
            let chosen = &rows.rows[start..*end];
            let first = start;
            start = *end;
            if chosen.is_empty() {
                continue;
            }
            let row = |row: &u32| *row as usize;
            let times: Vec<i64> = chosen.iter().map(|r| rows.times[row(r)]).collect();
            let text_bytes: Vec<u32> =
                chosen.iter().map(|r| u32::try_from(lengths[row(r)]).unwrap_or(u32::MAX)).collect();
            let text: Vec<&str> = match texts.filter(|_| wants.text) {
                Some(texts) => chosen.iter().map(|r| texts.get(row(r))).collect(),
                None => Vec::new(),
            };
            let set_of: Vec<u32> = match &sets {
                None => vec![0; chosen.len()],
                Some(_) if split => (first as u32..*end as u32).collect(),
                Some((_, set_of)) => chosen.iter().map(|r| set_of[row(r)]).collect(),
            };
            let flow = fold.rows(&LogRows {
                stream: &self.plan.streams.labels[*stream as usize],
                stream_ref: u64::from(*stream),
                times: &times,
                texts: &text,
                text_bytes: &text_bytes,
                set_of: &set_of,
                sets: &delivered,
            });
            if flow.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn empty_record() -> LogRecord {
    LogRecord {
        time_ns: 0,
        observed_ns: 0,
        severity_number: 0,
        severity_text: String::new(),
        text: String::new(),
        attributes: Vec::new(),
        trace_id: None,
        span_id: None,
    }
}

/// Whether two records are the same in all that is wanted of their attributes.
fn same_as_wanted(a: &LogRecord, b: &LogRecord, wants: &AttributeWants<'_>) -> bool {
    if matches!(wants, AttributeWants::None) {
        return true;
    }
    let wants_all = matches!(wants, AttributeWants::All);
    a.severity_number == b.severity_number
        && a.severity_text == b.severity_text
        && a.attributes == b.attributes
        && (a.trace_id == b.trace_id || !wants.wants("trace_id"))
        && (a.span_id == b.span_id || !wants.wants("span_id"))
        && (a.observed_ns == b.observed_ns || !wants_all)
}

/// Counts records by stream and step; see the contract.
pub(crate) fn volumes(
    query: &VolumeQuery<'_>,
    budget: &dyn QueryBudget,
    sources: LogSources<'_>,
    each: &mut dyn FnMut(&Labels, u64, usize, LogVolume),
) -> Result<ScanStats, StoreError> {
    let all = LogQuery::new(query.tenant, query.range, query.matchers.to_vec());
    let nothing_else = LogWants { text: false, attributes: AttributeWants::None, ..LogWants::default() };
    let plan = Plan::new(&all, &Filter::new(&all, &nothing_else), sources, budget)?;
    let mut stats = ScanStats::default();
    for source in &plan.sources {
        match &source.what {
            What::Run { stream, run, .. } => {
                budget.check()?;
                let run = &run[within(run, plan.range(*stream))];
                let labels = &plan.streams.labels[*stream as usize];
                by_step(
                    query,
                    run.len(),
                    &|at| run[at].time_ns,
                    &|at| run[at].text().len() as u64,
                    &mut |step, volume| {
                        each(labels, u64::from(*stream), step, volume);
                    },
                );
            }
            What::Block { part, block } => {
                budget.check()?;
                let read = block_volumes(query, &plan, (*part, *block), each)?;
                stats.blocks += u64::from(read.records > 0);
                stats.records += read.records;
            }
        }
    }
    Ok(stats)
}

/// Counts the records of a block, from its statistics where it can.
fn block_volumes(
    query: &VolumeQuery<'_>,
    plan: &Plan<'_>,
    (part, block): (usize, usize),
    each: &mut dyn FnMut(&Labels, u64, usize, LogVolume),
) -> Result<BlockRead, EventsError> {
    let reader = &plan.parts[part];
    let runs = reader.block_streams(block)?;
    let is_whole = |range: NanoRange, min_t: i64, max_t: i64| {
        range.contains(min_t) && range.contains(max_t) && query.step(min_t) == query.step(max_t)
    };
    let wanted = |stream: u32| plan.number(part, stream);
    let is_cut = runs.iter().any(|run| {
        let Some(number) = wanted(run.stream) else { return false };
        let range = plan.range(number);
        let is_in_range = range.overlaps(run.min_t, run.max_t);
        is_in_range && (!is_whole(range, run.min_t, run.max_t) || !plan.hidden(part, number).is_empty())
    });
    if !is_cut {
        for run in runs.iter() {
            let Some(number) = wanted(run.stream) else { continue };
            if !plan.range(number).overlaps(run.min_t, run.max_t) {
                continue;
            }
            let volume = LogVolume { records: run.count, bytes: run.text_bytes };
            each(&plan.streams.labels[number as usize], u64::from(number), query.step(run.min_t), volume);
        }
        return Ok(BlockRead::default());
    }
    let all = LogQuery::new(query.tenant, query.range, Vec::new());
    let filter = Filter::new(&all, &LogWants { text: false, ..LogWants::default() });
    let (chosen, read) = choose(plan, &filter, (part, block), &runs)?;
    match chosen {
        Chosen::Records(records) => {
            for (number, log) in &records {
                let volume = LogVolume { records: 1, bytes: log.record.text.len() as u64 };
                let labels = &plan.streams.labels[*number as usize];
                each(labels, u64::from(*number), query.step(log.record.time_ns), volume);
            }
        }
        Chosen::Columns(mut rows) => {
            rows.load_lengths().map_err(|m| reader.corrupt(block, &m.to_string()))?;
            let lengths = rows.lengths.as_deref().unwrap_or_default();
            let mut start = 0;
            for (number, end) in &rows.runs {
                let of_stream = &rows.rows[start..*end];
                start = *end;
                let labels = &plan.streams.labels[*number as usize];
                let time = |at: usize| rows.times[of_stream[at] as usize];
                let bytes = |at: usize| lengths[of_stream[at] as usize];
                by_step(query, of_stream.len(), &time, &bytes, &mut |step, volume| {
                    each(labels, u64::from(*number), step, volume);
                });
            }
        }
    }
    Ok(read)
}

/// Counts records of a stream, in order of time, by step.
fn by_step(
    query: &VolumeQuery<'_>,
    count: usize,
    time_ns: &dyn Fn(usize) -> i64,
    bytes: &dyn Fn(usize) -> u64,
    each: &mut dyn FnMut(usize, LogVolume),
) {
    let mut next = 0;
    while next < count {
        let first = time_ns(next);
        let end_ns = query.step_end_ns(first);
        let mut volume = LogVolume::default();
        while next < count && (volume.records == 0 || time_ns(next) < end_ns) {
            volume.add(LogVolume { records: 1, bytes: bytes(next) });
            next += 1;
        }
        each(query.step(first), volume);
    }
}
