//! The event store: two engines behind the contracts of `trefoil_model::event_store`.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trefoil_journal::JournalOptions;
use trefoil_model::event_store::{ScanStats, VolumeQuery};
use trefoil_model::span_values::ValueCounter;
use trefoil_model::{
    Cancellation, Direction, EventWriter, Labels, LogAdmin, LogBatch, LogDeletion, LogDeletionState, LogEntry, LogFold,
    LogQuery, LogReader, LogVolume, LogWants, Matcher, NanoRange, QueryBudget, SpanFold, SpanKind, SpanObserver,
    SpanQuery, SpanWants, StoreError, StoredTrace, TenantId, TraceBatch, TraceId, TraceReader, TraceSampler,
    WriteError, WriteReport,
};
use trefoil_parts::{MergePolicy, ObjectStoreOptions, PartMeta};
use trefoil_runtime::{Accountant, Limits, SharedClock, SharedVfs, StartProgress};

use crate::EventsError;
use crate::check::{Window, check_logs, check_spans};
use crate::deletions::{DELETIONS_MAX, Deletions};
use crate::engine::{Engine, EngineOptions, Kind, Snapshot};
use crate::log_fold;
use crate::log_memtable::Runs;
use crate::log_part::Logs;
use crate::log_plan::{LogSources, stream_matches};
use crate::log_scan::Scan;
use crate::part_file::PartReader;
use crate::retention::LogRetention;
use crate::segments::{Numbers, OfStretch};
use crate::span_fold;
use crate::span_part::Traces;
use crate::span_values;
use crate::table::CHUNK_STREAMS;
use crate::trace_read;

/// How the store works.
#[derive(Clone)]
pub struct EventStoreOptions {
    /// Directory; `logs` and `traces` are made below it.
    pub dir: PathBuf,
    /// Files.
    pub vfs: SharedVfs,
    /// Time.
    pub clock: SharedClock,
    /// Memory.
    pub accountant: Accountant,
    /// How long log records are kept. Default 30 days.
    pub retention_logs: LogRetention,
    /// How long spans are kept, to the day; `None` for ever. Older ones are refused. Default 14 days.
    pub retention_traces: Option<Duration>,
    /// Bytes of a memtable after which it is written. Default 64 MiB.
    pub memtable_bytes_max: u64,
    /// Age of a memtable after which it is written. Default 60 s.
    pub memtable_age_max: Duration,
    /// How long a write waits for room when memtables hold three times [`Self::memtable_bytes_max`], before it is
    /// refused. Default 10 s.
    pub memtable_wait_max: Duration,
    /// Limits of records and spans.
    pub limits: Arc<Limits>,
    /// Which parts are merged. Default: at most 256 MiB at once.
    pub merge: MergePolicy,
    /// Bytes of events after which a block ends: what a query decodes at once. Default 128 KiB.
    pub block_bytes: usize,
    /// Bytes of events that are sorted by stream, or by trace, within a part; a query for the newest events opens
    /// about so much. Default 16 MiB.
    pub slice_bytes: usize,
    /// How journals work; the name is set by the store.
    pub journal: JournalOptions,
    /// Where the replay of the journals is told of.
    pub start: StartProgress,
    /// Where parts of log records of past days go; `None` keeps all here. Spans stay here.
    pub object_store: Option<ObjectStoreOptions>,
    /// Who sees spans as they come in. Default nobody.
    pub span_observer: Option<Arc<dyn SpanObserver>>,
    /// Who decides which traces parts have. Default nobody: all.
    pub trace_sampler: Option<Arc<dyn TraceSampler>>,
}

impl EventStoreOptions {
    /// The defaults for a directory.
    pub fn new(dir: impl Into<PathBuf>, vfs: SharedVfs, clock: SharedClock, accountant: Accountant) -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            dir: dir.into(),
            vfs,
            clock,
            accountant,
            retention_logs: LogRetention { keep: Some(DAY * 30), ..LogRetention::default() },
            retention_traces: Some(DAY * 14),
            memtable_bytes_max: 64 << 20,
            memtable_age_max: Duration::from_secs(60),
            memtable_wait_max: Duration::from_secs(10),
            limits: Arc::new(Limits::default()),
            merge: MergePolicy { bytes_max: 256 << 20, ..MergePolicy::default() },
            block_bytes: 128 << 10,
            slice_bytes: 16 << 20,
            journal: JournalOptions::default(),
            start: StartProgress::default(),
            object_store: None,
            span_observer: None,
            trace_sampler: None,
        }
    }

    fn engine(&self, name: &'static str, journal: &'static str, retention: LogRetention) -> EngineOptions {
        EngineOptions {
            dir: self.dir.join(name),
            vfs: Arc::clone(&self.vfs),
            clock: Arc::clone(&self.clock),
            accountant: self.accountant.clone(),
            retention: retention.into(),
            memtable_bytes_max: self.memtable_bytes_max,
            memtable_age_max: self.memtable_age_max,
            memtable_wait_max: self.memtable_wait_max,
            journal: JournalOptions { name: journal, ..self.journal.clone() },
            start: self.start.clone(),
            merge: self.merge.clone(),
            disk_free_floor_bytes: self.limits.disk_free_floor_bytes,
            block_bytes: self.block_bytes,
            slice_bytes: self.slice_bytes,
            object_store: None,
            observer: None,
            sampler: None,
        }
    }
}

/// The store of log records and spans. Clones share it.
#[derive(Clone)]
pub struct EventStore {
    logs: Arc<Engine<Logs>>,
    traces: Arc<Engine<Traces>>,
    limits: Arc<Limits>,
}

impl Snapshot<Logs> {
    fn sources(&self, runs: Runs) -> LogSources<'_> {
        LogSources { parts: &self.parts, runs, deletions: &self.deletions, retention: self.retention.at(self.now_ms) }
    }
}

impl EventStore {
    /// Opens the store: removes what an interrupted write left and replays the journals. Blocks on the disk.
    pub fn open(options: EventStoreOptions) -> Result<Self, EventsError> {
        let mut logs = options.engine("logs", "events_logs", options.retention_logs.clone());
        logs.object_store = options.object_store.clone();
        let logs = Engine::open(logs)?;
        let of_traces = LogRetention { keep: options.retention_traces, ..LogRetention::default() };
        let mut traces = options.engine("traces", "events_traces", of_traces);
        traces.observer = options.span_observer.clone();
        traces.sampler = options.trace_sampler.clone();
        let traces = Engine::open(traces)?;
        Ok(Self { logs: Arc::new(logs), traces: Arc::new(traces), limits: options.limits })
    }

    /// Whether a memtable is large or old enough to be written. Cheap; ask every second or so.
    pub fn should_flush(&self) -> bool {
        self.logs.should_flush() || self.traces.should_flush()
    }

    /// Waits until a memtable may be large enough to be written; ask [`Self::should_flush`] then. Cancel-safe.
    pub async fn until_full(&self) {
        tokio::select! {
            () = self.logs.until_full() => {}
            () = self.traces.until_full() => {}
        }
    }

    /// Writes the memtables as parts. On an error what was acknowledged stays in journal and memory, and the next
    /// call tries again. Not cancel-safe in time only: the work goes on when the future is dropped.
    pub async fn flush(&self) -> Result<(), EventsError> {
        let logs = self.logs.flush().await;
        self.traces.flush().await?;
        logs
    }

    /// Has the observer of spans note how it stands and keep that. Writes wait while it notes.
    pub async fn persist_observed(&self) {
        self.traces.persist_observed().await;
    }

    /// Writes only the memtables that [`Self::should_flush`] is about.
    pub async fn flush_due(&self) -> Result<(), EventsError> {
        let logs = if self.logs.should_flush() { self.logs.flush().await } else { Ok(()) };
        if self.traces.should_flush() {
            self.traces.flush().await?;
        }
        logs
    }

    /// Merges some parts of each kind when that is worth it; returns whether it did, then call it again. Blocks.
    pub fn merge_once(&self) -> Result<bool, EventsError> {
        let logs = self.logs.merge_once();
        let traces = self.traces.merge_once()?;
        Ok(logs? || traces)
    }

    /// Moves a part of log records to the object store when one is due; returns whether it did, then call it again. Also
    /// removes what nobody needs there. After an error the part lies where it lay. Blocks on network and disk.
    pub fn move_once(&self) -> Result<bool, EventsError> {
        self.logs.move_once()
    }

    /// Removes the days that are past the retention at `now_ms`; returns how many parts. Blocks on the disk.
    pub fn apply_retention(&self, now_ms: i64) -> Result<usize, EventsError> {
        let logs = self.logs.apply_retention(now_ms);
        let traces = self.traces.apply_retention(now_ms)?;
        Ok(logs? + traces)
    }

    /// Replaces how long log records are kept. Queries and writes follow at once, files with the next merges.
    pub fn set_log_retention(&self, retention: LogRetention) {
        self.logs.set_retention(retention.into());
    }

    /// Refuses further writes, writes the memtables as parts and closes the journals.
    pub async fn close(&self) -> Result<(), EventsError> {
        let logs = self.logs.close().await;
        self.traces.close().await?;
        logs
    }

    /// Writes a store into a directory that is missing or empty, by hard links: the parts of the current commits and,
    /// with `with_memtables`, the journals. Opened, it answers what was acknowledged before the call (perhaps more).
    /// After an error the directory holds something half-done.
    pub async fn snapshot_to(&self, dir: &Path, with_memtables: bool) -> Result<(), EventsError> {
        self.logs.snapshot_to(dir.join("logs"), with_memtables).await?;
        self.traces.snapshot_to(dir.join("traces"), with_memtables).await
    }

    /// The published parts of log records.
    pub fn log_parts(&self) -> Arc<Vec<Arc<PartMeta>>> {
        self.logs.parts()
    }

    /// The published parts of spans.
    pub fn trace_parts(&self) -> Arc<Vec<Arc<PartMeta>>> {
        self.traces.parts()
    }

    /// Changes the list of deletions, to its end even when the caller goes away.
    async fn change_deletions<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Deletions, &[Arc<PartMeta>], i64) -> (Option<Deletions>, T) + Send + 'static,
    ) -> Result<T, EventsError> {
        let logs = Arc::clone(&self.logs);
        #[expect(clippy::disallowed_methods, reason = "awaited here; it ends with its one commit")]
        let task = tokio::spawn(async move { logs.change_deletions(change).await });
        task.await.map_err(|error| EventsError::Write(std::io::Error::other(error)))?
    }

    /// The memtables and the parts of log records that overlap a range. A part that cannot be opened is an error.
    fn log_snapshot(
        &self,
        tenant: TenantId,
        range: NanoRange,
        budget: &dyn QueryBudget,
    ) -> Result<Snapshot<Logs>, StoreError> {
        let mut over = None;
        let mut snapshot = self.logs.snapshot(tenant, |meta| {
            if over.is_some() || !range.overlaps(meta.min_t, meta.max_t) {
                return false;
            }
            // To fetch one may take long.
            over = if meta.is_remote() { budget.check().err() } else { None };
            over.is_none()
        });
        if let Some(over) = over {
            return Err(over.into());
        }
        snapshot.unread.take().map_or(Ok(snapshot), |error| Err(error.into()))
    }

    /// The memtables and the parts of spans that overlap a range. A part that cannot be opened is an error.
    fn trace_snapshot(&self, tenant: TenantId, range: NanoRange) -> Result<Snapshot<Traces>, StoreError> {
        let mut snapshot = self.traces.snapshot(tenant, |meta| range.overlaps(meta.min_t, meta.max_t));
        snapshot.unread.take().map_or(Ok(snapshot), |error| Err(error.into()))
    }

    /// What a query of log records reads: parts, and runs of memtables.
    fn log_sources(
        &self,
        tenant: TenantId,
        range: NanoRange,
        matchers: &[Matcher],
        budget: &dyn QueryBudget,
    ) -> Result<(Snapshot<Logs>, Runs), StoreError> {
        let snapshot = self.log_snapshot(tenant, range, budget)?;
        let mut runs = Vec::new();
        for memtable in &snapshot.memtables {
            let mut wanted = |labels: &Labels| stream_matches(labels, matchers);
            runs.extend(memtable.table.runs(tenant, range, &mut wanted));
        }
        Ok((snapshot, runs))
    }

    fn window<K: Kind>(&self, engine: &Engine<K>) -> Window {
        let now_ms = engine.now_ms();
        let oldest_ms = engine.retention().at(now_ms).earliest_ms();
        Window { oldest_ms, newest_ms: now_ms.saturating_add(self.limits.future_ms_max) }
    }
}

/// The times of the parts that are read: a root may lie before the range of its trace's other spans.
fn folded_range(query: &SpanQuery, wants: &SpanWants<'_>) -> NanoRange {
    query.range.filter(|_| !wants.roots).unwrap_or(NanoRange::ALL)
}

/// The time of the last record of each stream of a part in blocks that overlap a range; `i64::MIN` for none.
fn last_times(part: &PartReader, range: NanoRange) -> Result<Vec<i64>, EventsError> {
    let mut last = vec![i64::MIN; usize::try_from(part.table.stream_count).unwrap_or(0)];
    for (number, block) in part.table.blocks.iter().enumerate() {
        if !range.overlaps(block.min_t, block.max_t) {
            continue;
        }
        for run in part.block_streams(number)?.iter().filter(|run| range.overlaps(run.min_t, run.max_t)) {
            let last = &mut last[run.stream as usize];
            *last = (*last).max(run.max_t);
        }
    }
    Ok(last)
}

#[async_trait::async_trait]
impl EventWriter for EventStore {
    async fn write_logs(&self, mut batch: LogBatch) -> Result<WriteReport, WriteError> {
        let (retention, now_ms) = (self.logs.retention(), self.logs.now_ms());
        let at = retention.at(now_ms);
        let newest_ms = now_ms.saturating_add(self.limits.future_ms_max);
        let window_of = |labels: &Labels| Window { oldest_ms: at.start_ms(labels), newest_ms };
        let report = check_logs(&mut batch, &window_of, &self.limits);
        self.logs.write(batch).await?;
        Ok(report)
    }

    async fn write_spans(&self, mut batch: TraceBatch) -> Result<WriteReport, WriteError> {
        let report = check_spans(&mut batch, &self.window(&self.traces), &self.limits);
        self.traces.write(batch).await?;
        Ok(report)
    }
}

impl LogReader for EventStore {
    fn scan(
        &self,
        query: &LogQuery,
        budget: &dyn QueryBudget,
        each: &mut dyn FnMut(LogEntry<'_>) -> ControlFlow<()>,
    ) -> Result<ScanStats, StoreError> {
        self.scan_wanted(query, &LogWants::default(), budget, each)
    }

    fn scan_wanted(
        &self,
        query: &LogQuery,
        wants: &LogWants<'_>,
        budget: &dyn QueryBudget,
        each: &mut dyn FnMut(LogEntry<'_>) -> ControlFlow<()>,
    ) -> Result<ScanStats, StoreError> {
        let mut stretches = self.logs.segments(query.tenant, query.range, 0);
        if query.direction == Direction::Backward {
            stretches.reverse();
        }
        let (numbers, mut stats, mut is_over) = (Numbers::default(), ScanStats::default(), false);
        for range in &stretches {
            budget.check()?;
            let query = LogQuery { range: *range, ..query.clone() };
            let (snapshot, runs) = self.log_sources(query.tenant, *range, &query.matchers, budget)?;
            let sources = snapshot.sources(runs);
            let mut numbering = numbers.of(&stretches);
            stats.add(Scan::new(&query, wants, budget).run(sources, &mut |stream, local, log| {
                let stream_ref = numbering.number(stream, local);
                let (sequence, shared, record) = (log.sequence, &log.shared, &log.record);
                let flow = each(LogEntry { stream, stream_ref, sequence, shared, record });
                is_over = flow.is_break();
                flow
            })?);
            if is_over {
                break;
            }
        }
        Ok(stats)
    }

    fn fold(
        &self,
        query: &LogQuery,
        wants: &LogWants<'_>,
        budget: &dyn QueryBudget,
        folds: &mut [Box<dyn LogFold + '_>],
    ) -> Result<ScanStats, StoreError> {
        let stretches = self.logs.segments(query.tenant, query.range, 0);
        let (numbers, mut stats, is_over) = (Numbers::default(), ScanStats::default(), AtomicBool::new(false));
        for range in &stretches {
            budget.check()?;
            let query = LogQuery { range: *range, ..query.clone() };
            let (snapshot, runs) = self.log_sources(query.tenant, *range, &query.matchers, budget)?;
            let sources = snapshot.sources(runs);
            if let [_] = &stretches[..] {
                return log_fold::fold(&query, wants, budget, sources, folds);
            }
            let of_stretch = |fold| -> Box<dyn LogFold + '_> {
                Box::new(OfStretch { fold, numbering: numbers.of(&stretches), is_over: &is_over })
            };
            let mut folds: Vec<_> = folds.iter_mut().map(|fold| of_stretch(fold.as_mut())).collect();
            stats.add(log_fold::fold(&query, wants, budget, sources, &mut folds)?);
            if is_over.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(stats)
    }

    fn volumes(
        &self,
        query: &VolumeQuery<'_>,
        budget: &dyn QueryBudget,
        each: &mut dyn FnMut(&Labels, u64, usize, LogVolume),
    ) -> Result<ScanStats, StoreError> {
        let stretches = self.logs.segments(query.tenant, query.range, query.step_ns);
        let (numbers, mut stats) = (Numbers::default(), ScanStats::default());
        for range in &stretches {
            budget.check()?;
            let (snapshot, runs) = self.log_sources(query.tenant, *range, query.matchers, budget)?;
            let sources = snapshot.sources(runs);
            // Each stretch begins with a step.
            let first = query.step(range.start_ns);
            let mut numbering = numbers.of(&stretches);
            let query = VolumeQuery { range: *range, ..*query };
            stats.add(log_fold::volumes(&query, budget, sources, &mut |stream, local, step, volume| {
                each(stream, numbering.number(stream, local), first + step, volume);
            })?);
        }
        Ok(stats)
    }

    /// As documented in the contract, except that of a block that reaches beyond the range a stream counts when its
    /// first and last record there surround the range.
    fn streams(
        &self,
        tenant: TenantId,
        range: NanoRange,
        matchers: &[Matcher],
        budget: &dyn QueryBudget,
    ) -> Result<Vec<Labels>, StoreError> {
        let mut found: BTreeSet<Labels> = BTreeSet::new();
        for range in self.logs.segments(tenant, range, 0) {
            let snapshot = self.log_snapshot(tenant, range, budget)?;
            let kept = snapshot.retention.at(snapshot.now_ms);
            for memtable in &snapshot.memtables {
                let mut wanted = |labels: &Labels| stream_matches(labels, matchers);
                for (labels, run) in memtable.table.runs(tenant, range, &mut wanted) {
                    let start_ns = range.start_ns.max(kept.start_ns(&labels));
                    let start = run.partition_point(|log| log.time_ns < start_ns);
                    if run.get(start).is_some_and(|log| range.contains(log.time_ns)) {
                        found.insert(labels);
                    }
                }
            }
            for part in &snapshot.parts {
                budget.check()?;
                let is_whole = range.contains(part.meta.min_t) && range.contains(part.meta.max_t);
                let last = match is_whole && kept.kept_by_all_ns() <= part.meta.min_t {
                    true => None,
                    false => Some(last_times(part, range)?),
                };
                let count = usize::try_from(part.table.stream_count).unwrap_or(usize::MAX);
                for chunk in 0..count.div_ceil(CHUNK_STREAMS) {
                    for (at, labels) in part.stream_chunk(chunk)?.into_iter().enumerate() {
                        let is_live = last.as_ref().is_none_or(|last| {
                            let last = last[chunk * CHUNK_STREAMS + at];
                            last > i64::MIN && last >= kept.start_ns(&labels)
                        });
                        if is_live && stream_matches(&labels, matchers) {
                            found.insert(labels);
                        }
                    }
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    fn admin(&self) -> Option<&dyn LogAdmin> {
        Some(self)
    }
}

#[async_trait::async_trait]
impl LogAdmin for EventStore {
    async fn delete(&self, deletion: LogDeletion) -> Result<u64, StoreError> {
        let change = move |before: &Deletions, parts: &[Arc<PartMeta>], now_ms: i64| {
            if before.waiting() >= DELETIONS_MAX {
                return (None, Err(EventsError::Deletions(before.waiting())));
            }
            let id = before.last + 1;
            let mut after = Deletions { last: id, list: before.list.clone() };
            after.list.push(Arc::new(LogDeletionState { id, deletion, created_ms: now_ms, is_done: false }));
            (Some(after.settled(parts)), Ok(id))
        };
        Ok(self.change_deletions(change).await??)
    }

    fn deletions(&self, tenant: TenantId) -> Vec<LogDeletionState> {
        let all = self.logs.deletions();
        all.list.iter().filter(|state| state.deletion.tenant == tenant).map(|s| LogDeletionState::clone(s)).collect()
    }

    async fn cancel(&self, tenant: TenantId, id: u64) -> Result<Cancellation, StoreError> {
        let change = move |before: &Deletions, _: &[Arc<PartMeta>], _: i64| {
            let found = before.list.iter().find(|state| state.id == id && state.deletion.tenant == tenant);
            match found {
                None => (None, Cancellation::Unknown),
                Some(state) if state.is_done => (None, Cancellation::TooLate),
                Some(_) => {
                    let list = before.list.iter().filter(|state| state.id != id).cloned().collect();
                    (Some(Deletions { last: before.last, list }), Cancellation::Cancelled)
                }
            }
        };
        Ok(self.change_deletions(change).await?)
    }
}

impl TraceReader for EventStore {
    /// With a range, the whole trace is returned when one of its spans starts in it.
    fn trace(
        &self,
        tenant: TenantId,
        id: TraceId,
        range: Option<NanoRange>,
        budget: &dyn QueryBudget,
    ) -> Result<Option<StoredTrace>, StoreError> {
        let snapshot = self.trace_snapshot(tenant, NanoRange::ALL)?;
        let found = trace_read::trace(&snapshot, tenant, id, self.limits.spans_per_trace_max, budget)?;
        Ok(found.filter(|trace| {
            let mut starts = trace.groups.iter().flat_map(|g| &g.spans).map(|span| span.start_ns);
            range.is_none_or(|range| starts.any(|start| range.contains(start)))
        }))
    }

    fn find(&self, query: &SpanQuery, budget: &dyn QueryBudget) -> Result<Vec<StoredTrace>, StoreError> {
        // Traces are returned whole, so the parts outside the range are needed too.
        let snapshot = self.trace_snapshot(query.tenant, NanoRange::ALL)?;
        trace_read::find(&snapshot, query, self.limits.spans_per_trace_max, budget)
    }

    fn visit(
        &self,
        query: &SpanQuery,
        budget: &dyn QueryBudget,
        each: &mut dyn FnMut(&StoredTrace) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.visit_wanted(query, &SpanWants::default(), budget, &mut |trace, _| each(trace))
    }

    fn visit_wanted(
        &self,
        query: &SpanQuery,
        wants: &SpanWants<'_>,
        budget: &dyn QueryBudget,
        each: &mut dyn FnMut(&StoredTrace, i64) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let snapshot = self.trace_snapshot(query.tenant, NanoRange::ALL)?;
        trace_read::visit(&snapshot, query, wants, self.limits.spans_per_trace_max, budget, each)
    }

    fn fold_spans(
        &self,
        query: &SpanQuery,
        wants: &SpanWants<'_>,
        budget: &dyn QueryBudget,
        fold: &mut (dyn SpanFold + '_),
    ) -> Result<(), StoreError> {
        let snapshot = self.trace_snapshot(query.tenant, folded_range(query, wants))?;
        span_fold::fold(&snapshot, query, wants, self.limits.spans_per_trace_max, budget, fold)
    }

    fn count_values(
        &self,
        query: &SpanQuery,
        wants: &SpanWants<'_>,
        budget: &dyn QueryBudget,
        counter: &mut (dyn ValueCounter + '_),
    ) -> Result<(), StoreError> {
        let snapshot = self.trace_snapshot(query.tenant, folded_range(query, wants))?;
        span_values::count(&snapshot, query, wants, self.limits.spans_per_trace_max, budget, counter)
    }

    fn services(
        &self,
        tenant: TenantId,
        range: NanoRange,
        budget: &dyn QueryBudget,
    ) -> Result<Vec<String>, StoreError> {
        budget.check()?;
        let snapshot = self.trace_snapshot(tenant, range)?;
        Ok(trace_read::services(&snapshot, tenant, range))
    }

    fn operations(
        &self,
        tenant: TenantId,
        service: &str,
        range: NanoRange,
        budget: &dyn QueryBudget,
    ) -> Result<Vec<(String, SpanKind)>, StoreError> {
        budget.check()?;
        let snapshot = self.trace_snapshot(tenant, range)?;
        Ok(trace_read::operations(&snapshot, tenant, service, range))
    }
}
