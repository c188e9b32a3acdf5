//! The life of events of one kind: journal, memtables, parts. Logs and traces are two instances.
//!
//! A write holds the gate shared from the append to the insertion. A freeze takes it exclusively, so that the end of
//! the journal is exactly what the frozen memtable reaches, and one commit publishes its parts with that position.

mod tier;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, RwLockReadGuard};
use trefoil_journal::{FileJournal, JournalOptions, JournalStore, Position, ReplayStop};
use trefoil_model::{JournalMark, SpanObserver, TenantId, TraceSampler, WriteError};
use trefoil_parts::{
    Commit, MergePlan, MergePolicy, ObjectStoreOptions, PartId, PartMeta, PartSet, PendingPart, redundancy, retention,
};
use trefoil_runtime::background::{self, Priority};
use trefoil_runtime::{Accountant, DiskGuard, Pool, Reservation, SharedClock, SharedVfs, StartProgress};

use crate::EventsError;
use crate::deletions::{DELETIONS, Deletions};
use crate::metrics;
use crate::part_file::PartReader;
use crate::retention::Retention;
use crate::wire::Malformed;

const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Memtables, the frozen and the active one, hold together at most so many times the bytes after which one is written.
const MEMTABLE_TIMES_MAX: u64 = 3;
/// Most threads that write a memtable.
const FLUSH_THREADS_MAX: usize = 4;
/// Batches from this size are encoded off the async threads.
const ENCODE_INLINE_BYTES_MAX: u64 = 64 << 10;
/// Bytes that open term indexes may hold per kind; above it all are closed and opened again as needed.
const INDEX_BYTES_MAX: u64 = 128 << 20;
/// How exactly is noted when what came, in milliseconds.
const ARRIVAL_MS: i64 = 250;
/// Store-level value: the next sequence after what is in parts.
const NEXT_SEQUENCE: &str = "next_sequence";
/// Store-level value: the sequence number of the first journal record behind the commit's position.
const JOURNAL_SEQUENCE: &str = "journal_sequence";

/// What differs between logs and traces.
pub(crate) trait Kind: Send + Sync + 'static {
    /// `logs` or `traces`.
    const NAME: &'static str;
    type Batch: Send + 'static;
    type Memtable: Default + Send + Sync;
    fn encode(batch: &Self::Batch) -> Vec<u8>;
    fn decode(record: &[u8]) -> Result<Self::Batch, Malformed>;
    fn count(batch: &Self::Batch) -> u64;
    /// Bytes that the batch takes in a memtable.
    fn memtable_bytes(batch: &Self::Batch) -> u64;
    fn insert(memtable: &Self::Memtable, batch: Self::Batch, sequence: u64);
    /// Shows a batch that is about to be inserted.
    fn observe(_observer: &dyn SpanObserver, _batch: &Self::Batch, _replayed: Option<JournalMark>) {}
    /// Takes what is not to be in parts yet, because it came from the sequence on: it is written again. At most about so
    /// many bytes.
    fn carry(_memtable: &Self::Memtable, _young_from: u64, _bytes_max: usize) -> Vec<Self::Batch> {
        Vec::new()
    }
    /// Undoes [`Self::carry`].
    fn keep_all(_memtable: &Self::Memtable) {}
    /// Writes a memtable as parts, one for each tenant and day.
    fn write(memtable: &Self::Memtable, output: &Output<'_>) -> Result<Vec<PendingPart>, EventsError>;
    /// Whether a part has records of which the retention keeps nothing up to the part's end.
    fn has_past(_part: &PartReader, _retention: &Retention, _now_ms: i64) -> Result<bool, EventsError> {
        Ok(false)
    }
    /// Merges parts of one tenant and day; `None` when nothing is left of them.
    fn merge(parts: &[Arc<PartReader>], output: &Output<'_>, level: u8) -> Result<Option<PendingPart>, EventsError>;
}

/// Where parts are written to.
pub(crate) struct Output<'a> {
    pub(crate) set: &'a PartSet,
    pub(crate) now_ms: i64,
    /// What parts of now leave out.
    pub(crate) deletions: Arc<Deletions>,
    /// Likewise.
    pub(crate) retention: Arc<Retention>,
    /// Decides which traces are kept.
    pub(crate) sampler: Option<Arc<dyn TraceSampler>>,
    /// A block ends after about this many bytes of events.
    pub(crate) block_bytes: usize,
    /// A slice ends after about this many bytes of events.
    pub(crate) slice_bytes: usize,
    /// On how many threads blocks are made.
    pub(crate) threads: usize,
}

/// How an engine works.
pub(crate) struct EngineOptions {
    pub(crate) dir: PathBuf,
    pub(crate) vfs: SharedVfs,
    pub(crate) clock: SharedClock,
    pub(crate) accountant: Accountant,
    pub(crate) retention: Retention,
    pub(crate) memtable_bytes_max: u64,
    pub(crate) memtable_age_max: Duration,
    /// How long a write waits for room in the memtables before it is refused.
    pub(crate) memtable_wait_max: Duration,
    pub(crate) journal: JournalOptions,
    pub(crate) start: StartProgress,
    pub(crate) merge: MergePolicy,
    pub(crate) disk_free_floor_bytes: u64,
    pub(crate) block_bytes: usize,
    pub(crate) slice_bytes: usize,
    /// Where parts of past days go; `None` keeps all here.
    pub(crate) object_store: Option<ObjectStoreOptions>,
    /// Who sees what is inserted.
    pub(crate) observer: Option<Arc<dyn SpanObserver>>,
    /// Who decides what parts have.
    pub(crate) sampler: Option<Arc<dyn TraceSampler>>,
}

/// A memtable with what it reserved.
pub(crate) struct Memtable<K: Kind> {
    pub(crate) table: K::Memtable,
    items: AtomicU64,
    /// When the first item came, on the monotonic clock in milliseconds; -1 before.
    first_ms: AtomicI64,
    reserved: Mutex<Reservation>,
}

struct Frozen<K: Kind> {
    memtable: Arc<Memtable<K>>,
    journal: Position,
    journal_sequence: u64,
    next_sequence: u64,
    /// The parts it becomes, set before they are published.
    parts: Mutex<Vec<PartId>>,
}

struct View<K: Kind> {
    active: Arc<Memtable<K>>,
    frozen: Option<Arc<Frozen<K>>>,
}

/// The retention for which a part was looked at, and which of its rules keep nothing of the part's time.
type Kept = (Arc<Retention>, Vec<bool>);

/// What a query reads: memtables and parts that together hold every item once.
pub(crate) struct Snapshot<K: Kind> {
    pub(crate) memtables: Vec<Arc<Memtable<K>>>,
    pub(crate) parts: Vec<Arc<PartReader>>,
    /// Why one of the wanted parts could not be opened.
    pub(crate) unread: Option<EventsError>,
    /// What is hidden of the parts.
    pub(crate) deletions: Arc<Deletions>,
    /// What is kept of all.
    pub(crate) retention: Arc<Retention>,
    /// The time to which it is applied, in Unix milliseconds.
    pub(crate) now_ms: i64,
}

/// Journal, memtables and parts of one kind.
pub(crate) struct Engine<K: Kind> {
    options: EngineOptions,
    journal: FileJournal,
    set: PartSet,
    disk: DiskGuard,
    gate: tokio::sync::RwLock<()>,
    flushing: tokio::sync::Mutex<()>,
    /// Told when the active memtable is large enough to be written.
    full: Notify,
    /// Told when the memtables have room again.
    room: Notify,
    /// The active memtable was large enough to be written before the frozen one was: the next flush is to be faster.
    is_behind: AtomicBool,
    view: RwLock<Arc<View<K>>>,
    next_sequence: AtomicU64,
    /// When what came, with a sampler: milliseconds on the monotonic clock, and the next sequence then.
    arrivals: Mutex<VecDeque<(i64, u64)>>,
    /// Held from a commit until the view shows it, so that parts are not replaced in between.
    publishing: Mutex<()>,
    merging: Mutex<BTreeSet<PartId>>,
    /// Parts that cannot be merged because they are damaged.
    damaged: Mutex<BTreeSet<PartId>>,
    /// Parts that could not be opened, which was told.
    unread: Mutex<BTreeSet<PartId>>,
    readers: Mutex<BTreeMap<PartId, Arc<PartReader>>>,
    deletions: RwLock<Arc<Deletions>>,
    retention: RwLock<Arc<Retention>>,
    /// Parts that have nothing of what the retention does not keep, with what it was and which of its rules were over.
    kept: Mutex<BTreeMap<PartId, Kept>>,
    tier: tier::State,
    is_closed: AtomicBool,
}

impl<K: Kind> Engine<K> {
    /// Opens the engine and replays its journal.
    pub(crate) fn open(mut options: EngineOptions) -> Result<Self, EventsError> {
        let retention = RwLock::new(Arc::new(std::mem::take(&mut options.retention)));
        let parts = |source| EventsError::Parts { kind: K::NAME, source };
        let journal_error = |source| EventsError::Journal { kind: K::NAME, source };
        let journal_dir = options.dir.join("journal");
        let start = trefoil_journal::first_segment(&options.vfs, &journal_dir).map_err(journal_error)?;
        let was_at_work = redundancy::was_at_work(&options.vfs, &options.dir);
        let has_journal = trefoil_journal::has_files(&options.vfs, &journal_dir).map_err(journal_error)?;
        let remote = options.object_store.as_ref().map(|tier| tier.remote.clone());
        let set = PartSet::open_beside(Arc::clone(&options.vfs), &options.dir, K::NAME, remote, start.into())
            .map_err(parts)?;
        set.tell_unreachable();
        let from =
            set.journal_position().map_or_else(Position::default, |(segment, offset)| Position { segment, offset });
        let journal_sequence = set.attributes().get(JOURNAL_SEQUENCE).and_then(|v| v.parse().ok());
        if !has_journal && redundancy::needs_journal(set.journal_position(), &set.attributes()) {
            if was_at_work {
                let (kind, dir, segment) = (K::NAME, journal_dir.display(), from.segment);
                tracing::error!(kind, %dir, segment, "the journal is gone, what was acknowledged after the last flush is lost");
            }
            if !options.vfs.is_read_only() {
                // Told once; a copy of the parts alone has none.
                let gone = redundancy::journal_gone((from.segment, from.offset));
                let attributes = BTreeMap::from([(redundancy::JOURNAL_GONE.to_owned(), gone)]);
                set.commit(Commit { attributes, ..Commit::default() }).map_err(parts)?;
            }
        }
        let mut journal_options = options.journal.clone();
        journal_options.segment_min = from.segment + 1;
        journal_options.sequence_min = journal_sequence.unwrap_or(1);
        let journal =
            FileJournal::open(Arc::clone(&options.vfs), &journal_dir, journal_options).map_err(journal_error)?;
        let sequence = set.attributes().get(NEXT_SEQUENCE).and_then(|v| v.parse().ok()).unwrap_or(1);
        let deletions = match set.attributes().get(DELETIONS) {
            None => Deletions::default(),
            Some(text) => Deletions::parse(text).ok_or_else(|| EventsError::Attribute {
                kind: K::NAME,
                name: DELETIONS,
                value: text.clone(),
            })?,
        };
        let disk = DiskGuard::new(Arc::clone(&options.vfs), &options.dir, options.disk_free_floor_bytes);
        let active = new_memtable::<K>(&options.accountant);
        let engine = Self {
            journal,
            set,
            disk,
            gate: tokio::sync::RwLock::new(()),
            flushing: tokio::sync::Mutex::new(()),
            full: Notify::new(),
            room: Notify::new(),
            is_behind: AtomicBool::new(false),
            view: RwLock::new(Arc::new(View { active, frozen: None })),
            next_sequence: AtomicU64::new(sequence),
            arrivals: Mutex::new(VecDeque::new()),
            publishing: Mutex::new(()),
            merging: Mutex::new(BTreeSet::new()),
            damaged: Mutex::new(BTreeSet::new()),
            unread: Mutex::new(BTreeSet::new()),
            readers: Mutex::new(BTreeMap::new()),
            deletions: RwLock::new(Arc::new(deletions)),
            retention,
            kept: Mutex::new(BTreeMap::new()),
            tier: tier::State::default(),
            is_closed: AtomicBool::new(false),
            options,
        };
        engine.replay(from, journal_sequence)?;
        engine.show();
        Ok(engine)
    }

    fn replay(&self, from: Position, sequence: Option<u64>) -> Result<(), EventsError> {
        let replayed = metrics::REPLAYED.with_label_values(&[K::NAME]);
        let memtable = Arc::clone(&self.view.read().active);
        let mut malformed = None;
        let bytes = self.journal.bytes().saturating_sub(from.offset);
        let mut progress = self.options.start.begin(K::NAME, bytes, self.options.clock.monotonic());
        let report = self
            .journal
            .replay_since(from, sequence, &mut |end, record| {
                let batch = K::decode(record).map_err(|error| {
                    malformed = Some(error);
                    ReplayStop::from(error)
                })?;
                if let Err(error) = memtable.reserved.lock().grow(K::memtable_bytes(&batch)) {
                    // It was acknowledged, so it must come in; new writes wait until it is flushed.
                    tracing::debug!(kind = K::NAME, %error, "replay goes over the memory budget");
                }
                self.insert(&memtable, batch, Some(mark_of(end)));
                replayed.inc();
                progress.add(1, record.len() as u64, self.options.clock.monotonic());
                Ok(())
            })
            .map_err(|source| match malformed {
                Some(source) => EventsError::Record { kind: K::NAME, source },
                None => EventsError::Journal { kind: K::NAME, source },
            })?;
        if report.records > 0 {
            tracing::info!(kind = K::NAME, records = report.records, bytes = report.bytes, "journal replayed");
        }
        if !report.damage.is_empty() {
            let damage = &report.damage;
            if damage.iter().any(|d| d.was_needed) {
                tracing::error!(kind = K::NAME, ?damage, "journal is damaged, records are missing");
            } else {
                tracing::warn!(kind = K::NAME, ?damage, "journal is damaged where nothing of it is needed");
            }
        }
        Ok(())
    }

    fn insert(&self, memtable: &Memtable<K>, batch: K::Batch, replayed: Option<JournalMark>) {
        let count = K::count(&batch);
        let sequence = self.next_sequence.fetch_add(count, Ordering::Relaxed);
        if let Some(observer) = &self.options.observer {
            K::observe(&**observer, &batch, replayed);
        }
        if self.options.sampler.is_some() {
            self.note_arrival(sequence);
        }
        K::insert(&memtable.table, batch, sequence);
        memtable.items.fetch_add(count, Ordering::Relaxed);
        // A value that is already there stays.
        let _previous =
            memtable.first_ms.compare_exchange(-1, self.monotonic_ms(), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn monotonic_ms(&self) -> i64 {
        i64::try_from(self.options.clock.monotonic().as_millis()).unwrap_or(i64::MAX)
    }

    /// Inserts what an earlier memtable has too.
    fn insert_carried(&self, memtable: &Memtable<K>, batch: K::Batch) {
        let count = K::count(&batch);
        let sequence = self.next_sequence.fetch_add(count, Ordering::Relaxed);
        K::insert(&memtable.table, batch, sequence);
        memtable.items.fetch_add(count, Ordering::Relaxed);
        memtable.first_ms.store(self.monotonic_ms(), Ordering::Relaxed);
    }

    fn note_arrival(&self, sequence: u64) {
        let now_ms = self.monotonic_ms();
        let mut arrivals = self.arrivals.lock();
        if arrivals.back().is_none_or(|(last, _)| now_ms.saturating_sub(*last) >= ARRIVAL_MS) {
            arrivals.push_back((now_ms, sequence));
        }
    }

    /// The sequence from which on items came within the last `wait`, or a little before.
    fn young_from(&self, wait: Duration) -> u64 {
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let since_ms = self.monotonic_ms().saturating_sub(wait_ms);
        let mut arrivals = self.arrivals.lock();
        while arrivals.get(1).is_some_and(|(next, _)| *next <= since_ms) {
            arrivals.pop_front();
        }
        match arrivals.front() {
            Some((first, _)) if *first > since_ms => 0,
            Some((first, sequence)) if first.saturating_add(ARRIVAL_MS) > since_ms => *sequence,
            Some(_) => arrivals.get(1).map_or(u64::MAX, |(_, next)| *next),
            None => u64::MAX,
        }
    }

    /// Writes what is not to be in parts yet once more, behind the end of the journal that the commit reaches.
    async fn carry(&self, sampler: &dyn TraceSampler, memtable: &Memtable<K>) -> Result<Vec<K::Batch>, EventsError> {
        let young_from = self.young_from(sampler.decision_wait());
        let bytes_max = usize::try_from(self.options.memtable_bytes_max / 2).unwrap_or(usize::MAX);
        let batches = K::carry(&memtable.table, young_from, bytes_max);
        let records: Vec<Vec<u8>> = batches.iter().map(K::encode).collect();
        for record in records {
            if let Err(source) = self.journal.append(record.into()).await {
                K::keep_all(&memtable.table);
                return Err(EventsError::Journal { kind: K::NAME, source });
            }
        }
        Ok(batches)
    }

    /// Writes a checked batch. When it returns, the batch is durable and visible.
    pub(crate) async fn write(&self, batch: K::Batch) -> Result<(), WriteError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(WriteError::Closed);
        }
        let count = K::count(&batch);
        if count == 0 {
            return Ok(());
        }
        self.disk.check()?;
        let bytes = K::memtable_bytes(&batch);
        let over = |error: trefoil_runtime::OverBudget| WriteError::Unavailable {
            reason: error.to_string(),
            retry_after: RETRY_AFTER,
        };
        let _ingest = self.options.accountant.try_reserve(Pool::Ingest, bytes).map_err(over)?;
        let (batch, record) = if bytes <= ENCODE_INLINE_BYTES_MAX {
            let record = K::encode(&batch);
            (batch, record)
        } else {
            tokio::task::spawn_blocking(move || {
                let record = K::encode(&batch);
                (batch, record)
            })
            .await
            .map_err(|error| WriteError::Unavailable { reason: error.to_string(), retry_after: RETRY_AFTER })?
        };
        let (_gate, memtable) = self.take_room(bytes).await?;
        if let Err(error) = self.journal.append(record.into()).await {
            memtable.reserved.lock().shrink(bytes);
            return Err(error.into());
        }
        self.insert(&memtable, batch, None);
        metrics::APPENDED.with_label_values(&[K::NAME]).inc_by(count);
        metrics::MEMTABLE_BYTES.with_label_values(&[K::NAME]).add(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Reserves bytes of the active memtable, and holds the gate. While the memtables are full it waits for a flush,
    /// for some time.
    async fn take_room(&self, bytes: u64) -> Result<(RwLockReadGuard<'_, ()>, Arc<Memtable<K>>), WriteError> {
        let bytes_max = self.options.memtable_bytes_max.saturating_mul(MEMTABLE_TIMES_MAX);
        let mut end = None;
        loop {
            let room = self.room.notified();
            let gate = self.gate.read().await;
            let view = Arc::clone(&self.view.read());
            let frozen = view.frozen.as_ref().map_or(0, |frozen| frozen.memtable.reserved.lock().bytes());
            {
                let mut reserved = view.active.reserved.lock();
                let held = reserved.bytes().saturating_add(frozen);
                // What is larger than all the room comes in when nothing else is there.
                if held == 0 || held.saturating_add(bytes) <= bytes_max {
                    reserved.grow(bytes).map_err(|error| WriteError::Unavailable {
                        reason: error.to_string(),
                        retry_after: RETRY_AFTER,
                    })?;
                    let is_full = reserved.bytes() >= self.options.memtable_bytes_max;
                    drop(reserved);
                    if is_full {
                        if view.frozen.is_some() {
                            self.is_behind.store(true, Ordering::Relaxed);
                        }
                        self.full.notify_one();
                    }
                    if end.is_some() {
                        metrics::WAITS.with_label_values(&[K::NAME, "room"]).inc();
                    }
                    return Ok((gate, Arc::clone(&view.active)));
                }
            }
            drop((gate, view));
            self.is_behind.store(true, Ordering::Relaxed);
            self.full.notify_one();
            let now = self.options.clock.monotonic();
            let end = *end.get_or_insert(now.saturating_add(self.options.memtable_wait_max));
            if now >= end {
                metrics::WAITS.with_label_values(&[K::NAME, "refused"]).inc();
                trefoil_runtime::limits::hit("memory_memtable");
                let reason =
                    format!("memtables of the {} store are full: {bytes_max} bytes wait to be written", K::NAME);
                return Err(WriteError::Unavailable { reason, retry_after: RETRY_AFTER });
            }
            tokio::select! {
                () = room => {}
                () = self.options.clock.sleep(end.saturating_sub(now)) => {}
            }
        }
    }

    /// Waits until the active memtable is large enough to be written.
    pub(crate) async fn until_full(&self) {
        self.full.notified().await;
    }

    /// Whether the memtable is large or old enough to be written, or one waits since a failed flush.
    pub(crate) fn should_flush(&self) -> bool {
        let view = Arc::clone(&self.view.read());
        if view.frozen.is_some() {
            return true;
        }
        let first_ms = view.active.first_ms.load(Ordering::Relaxed);
        if first_ms < 0 {
            return false;
        }
        let age_ms = self.monotonic_ms().saturating_sub(first_ms);
        view.active.reserved.lock().bytes() >= self.options.memtable_bytes_max
            || u128::try_from(age_ms).unwrap_or(0) >= self.options.memtable_age_max.as_millis()
    }

    /// Writes everything that was acknowledged before the call as parts.
    pub(crate) async fn flush(self: &Arc<Self>) -> Result<(), EventsError> {
        let _flushing = self.flushing.lock().await;
        self.flush_locked().await
    }

    /// As [`Self::flush`], for who holds the lock of flushes.
    async fn flush_locked(self: &Arc<Self>) -> Result<(), EventsError> {
        if self.view.read().frozen.is_some() {
            // An earlier flush failed after its freeze.
            self.write_frozen_off_thread().await?;
        }
        {
            let _gate = self.gate.write().await;
            let memtable = Arc::clone(&self.view.read().active);
            if memtable.items.load(Ordering::Relaxed) == 0 {
                return Ok(());
            }
            let (end, journal_sequence) = self.journal.end_sequence();
            let next_sequence = self.next_sequence.load(Ordering::Relaxed);
            let carried = match &self.options.sampler {
                Some(sampler) => self.carry(&**sampler, &memtable).await?,
                None => Vec::new(),
            };
            let parts = Mutex::new(Vec::new());
            let frozen = Frozen { memtable, journal: end, journal_sequence, next_sequence, parts };
            let active = new_memtable::<K>(&self.options.accountant);
            for batch in carried {
                if let Err(error) = active.reserved.lock().grow(K::memtable_bytes(&batch)) {
                    // It was acknowledged; new writes wait until it is flushed.
                    tracing::debug!(kind = K::NAME, %error, "what is carried over goes over the memory budget");
                }
                self.insert_carried(&active, batch);
            }
            if let Some(observer) = &self.options.observer {
                // What was carried over was seen when it came.
                observer.cut(mark_of(self.journal.end_sequence().0));
            }
            *self.view.write() = Arc::new(View { active, frozen: Some(Arc::new(frozen)) });
        }
        // The commit takes what was frozen out of the journal.
        if let Some(observer) = &self.options.observer {
            observer.persist().await;
        }
        self.write_frozen_off_thread().await
    }

    /// Has the observer note and keep how it stands.
    pub(crate) async fn persist_observed(&self) {
        let Some(observer) = &self.options.observer else { return };
        {
            let _gate = self.gate.write().await;
            observer.cut(mark_of(self.journal.end_sequence().0));
        }
        observer.persist().await;
    }

    async fn write_frozen_off_thread(self: &Arc<Self>) -> Result<(), EventsError> {
        let engine = Arc::clone(self);
        // A thread that has begun at a low priority may not be allowed to raise it.
        let is_behind = self.is_behind.swap(false, Ordering::Relaxed);
        let priority = if is_behind { Priority::Normal } else { Priority::Low };
        background::run("flush-events", priority, move || engine.write_frozen())
            .await
            .map_err(|error| EventsError::Write(std::io::Error::other(error)))?
    }

    fn write_frozen(&self) -> Result<(), EventsError> {
        let Some(frozen) = self.view.read().frozen.clone() else { return Ok(()) };
        let timer = metrics::FLUSH_SECONDS.with_label_values(&[K::NAME]).start_timer();
        let output = Output { threads: flush_threads(), ..self.output() };
        let add = K::write(&frozen.memtable.table, &output)?;
        *frozen.parts.lock() = add.iter().map(|pending| pending.meta().id).collect();
        {
            let _publishing = self.publishing.lock();
            self.set
                .commit(Commit {
                    add,
                    journal: Some((frozen.journal.segment, frozen.journal.offset)),
                    journal_start: self.journal.first_segment().into(),
                    attributes: BTreeMap::from([
                        (NEXT_SEQUENCE.to_owned(), frozen.next_sequence.to_string()),
                        (JOURNAL_SEQUENCE.to_owned(), frozen.journal_sequence.to_string()),
                    ]),
                    ..Commit::default()
                })
                .map_err(|source| EventsError::Parts { kind: K::NAME, source })?;
            let mut view = self.view.write();
            // Who no longer sees it must not find it reserved. Whoever still reads it holds it a little longer.
            frozen.memtable.reserved.lock().shrink(u64::MAX);
            *view = Arc::new(View { active: Arc::clone(&view.active), frozen: None });
        }
        let end = frozen.journal;
        drop(frozen);
        self.room.notify_waiters();
        timer.observe_duration();
        self.show();
        if let Err(error) = self.journal.truncate_before(end) {
            // The next flush tries again.
            tracing::warn!(kind = K::NAME, %error, "journal was not truncated");
        }
        Ok(())
    }

    /// What a query of a tenant reads. Of parts that cannot be opened one is named. Each part is opened, and fetched
    /// when it lies in an object store, before the next one is asked about.
    pub(crate) fn snapshot(&self, tenant: TenantId, mut wanted: impl FnMut(&PartMeta) -> bool) -> Snapshot<K> {
        let (view, metas) = loop {
            let view = Arc::clone(&self.view.read());
            let metas = self.set.parts();
            // Between the two reads a flush may have ended and its parts may have been merged away.
            if Arc::ptr_eq(&view, &self.view.read()) {
                break (view, metas);
            }
        };
        let mut memtables = vec![Arc::clone(&view.active)];
        if let Some(frozen) = &view.frozen {
            let parts = frozen.parts.lock();
            let is_published = metas.iter().any(|meta| parts.contains(&meta.id));
            if !is_published {
                memtables.push(Arc::clone(&frozen.memtable));
            }
        }
        self.bound_indexes();
        let chosen = metas.iter().filter(|meta| meta.tenant == tenant && wanted(meta));
        let (mut parts, mut unread) = (Vec::new(), None);
        for meta in chosen {
            match self.reader(meta) {
                Ok(reader) => parts.push(reader),
                Err(error) => unread = Some(error),
            }
        }
        // After the parts: a deletion that is newer than them hides what it should, an older one is still listed.
        let deletions = Arc::clone(&self.deletions.read());
        Snapshot { memtables, parts, unread, deletions, retention: self.retention(), now_ms: self.now_ms() }
    }

    fn reader(&self, meta: &Arc<PartMeta>) -> Result<Arc<PartReader>, EventsError> {
        // One of before the part was moved is of no use to who knows where it lies now.
        let known = self.readers.lock().get(&meta.id).filter(|reader| Arc::ptr_eq(&reader.meta, meta)).cloned();
        if let Some(reader) = known.filter(|reader| self.is_of_use(reader)) {
            return Ok(reader);
        }
        match self.open_reader(meta) {
            Ok(reader) => {
                let reader = Arc::new(reader);
                self.unread.lock().remove(&meta.id);
                let mut readers = self.readers.lock();
                // Files that are to go are not held longer than this query needs them.
                if self.set.parts().iter().any(|part| Arc::ptr_eq(part, meta)) {
                    readers.insert(meta.id, Arc::clone(&reader));
                }
                Ok(reader)
            }
            Err(error) => {
                if !tier::is_out_of_reach(&error) && self.unread.lock().insert(meta.id) {
                    metrics::BLOCKS_CORRUPT.inc();
                    let error = trefoil_runtime::tasks::chain(&error);
                    tracing::error!(kind = K::NAME, part = meta.id.0, error, "part cannot be read");
                }
                Err(error)
            }
        }
    }

    fn bound_indexes(&self) {
        let readers = self.readers.lock();
        if readers.values().map(|reader| reader.index_bytes()).sum::<u64>() > INDEX_BYTES_MAX {
            readers.values().for_each(|reader| reader.close_index());
        }
    }

    /// Merges some parts when that is worth it; returns whether it did. Blocks.
    pub(crate) fn merge_once(&self) -> Result<bool, EventsError> {
        let parts = |source| EventsError::Parts { kind: K::NAME, source };
        let (plan, metas) = {
            let mut merging = self.merging.lock();
            let metas = self.set.parts();
            let mut busy = merging.clone();
            busy.extend(self.damaged.lock().iter());
            let plan = self.plan_merge(&metas, &mut busy).or_else(|| {
                let part = self.plan_deletion(&metas, &busy).or_else(|| self.plan_retention(&metas, &busy));
                part.map(|meta| rewrite_of(&meta))
            });
            let Some(plan) = plan else { return Ok(false) };
            merging.extend(plan.parts.iter());
            let metas: Vec<_> = metas.iter().filter(|meta| plan.parts.contains(&meta.id)).map(Arc::clone).collect();
            (plan, metas)
        };
        let _done = Defer(|| {
            let mut merging = self.merging.lock();
            plan.parts.iter().for_each(|id| {
                merging.remove(id);
            });
        });
        let timer = metrics::MERGE_SECONDS.with_label_values(&[K::NAME]).start_timer();
        let output = self.output();
        if !self.has_room_to_fetch(&metas) {
            return Ok(true);
        }
        let readers = match metas.iter().map(|meta| self.reader(meta)).collect::<Result<Vec<_>, _>>() {
            Err(error) if self.put_off(&error) => return Ok(true),
            other => other,
        };
        let pending = readers.and_then(|readers| K::merge(&readers, &output, plan.level)).inspect_err(|error| {
            self.note_damaged(&plan.parts, error);
        })?;
        {
            let _publishing = self.publishing.lock();
            // Retention may have removed a part meanwhile; then the commit fails and the next plan is without it.
            let ids: BTreeSet<PartId> = plan.parts.iter().copied().collect();
            let mut left: Vec<Arc<PartMeta>> =
                self.set.parts().iter().filter(|meta| !ids.contains(&meta.id)).map(Arc::clone).collect();
            left.extend(pending.iter().map(|pending| Arc::clone(pending.meta())));
            let deletions = self.settled_deletions(&left);
            let attributes = deletions.iter().map(|d| (DELETIONS.to_owned(), d.text())).collect();
            self.set
                .commit(Commit {
                    add: pending.into_iter().collect(),
                    remove: plan.parts.clone(),
                    attributes,
                    ..Commit::default()
                })
                .map_err(parts)?;
            if let Some(deletions) = deletions {
                *self.deletions.write() = Arc::new(deletions);
            }
        }
        timer.observe_duration();
        drop(metas);
        self.show();
        Ok(true)
    }

    /// Keeps parts out of merges because of which one failed. What is readable in them stays readable; a merge would drop
    /// the rest for good.
    fn note_damaged(&self, parts: &[PartId], error: &EventsError) {
        let is_damaged = |reader: &&Arc<PartReader>| parts.contains(&reader.meta.id) && reader.is_damaged();
        let readers: Vec<Arc<PartReader>> = self.readers.lock().values().filter(is_damaged).cloned().collect();
        let mut found: Vec<PartId> = {
            let unread = self.unread.lock();
            parts.iter().filter(|id| unread.contains(id)).copied().collect()
        };
        if found.is_empty() && readers.is_empty() && matches!(error, EventsError::Corrupt { .. } | EventsError::Read(_))
        {
            found = parts.to_vec();
        }
        found.extend(readers.iter().filter(|reader| !self.is_mended(reader)).map(|reader| reader.meta.id));
        self.damaged.lock().extend(found);
    }

    /// A part that holds deleted events.
    fn plan_deletion(&self, metas: &[Arc<PartMeta>], busy: &BTreeSet<PartId>) -> Option<Arc<PartMeta>> {
        let deletions = Arc::clone(&self.deletions.read());
        if deletions.waiting() == 0 {
            return None;
        }
        metas.iter().find(|meta| !busy.contains(&meta.id) && deletions.concern(meta)).cloned()
    }

    /// A part that holds events which are not kept, beside others.
    fn plan_retention(&self, metas: &[Arc<PartMeta>], busy: &BTreeSet<PartId>) -> Option<Arc<PartMeta>> {
        let (retention, now_ms) = (self.retention(), self.now_ms());
        let at = retention.at(now_ms);
        for meta in metas.iter().filter(|meta| !busy.contains(&meta.id)) {
            let over = at.over_at(meta.max_t);
            let is_known = |(of, known): &Kept| Arc::ptr_eq(of, &retention) && *known == over;
            if !over.contains(&true)
                || self.is_left_to_its_day(meta, &over)
                || self.kept.lock().get(&meta.id).is_some_and(is_known)
            {
                continue;
            }
            match self.reader(meta).and_then(|part| K::has_past(&part, &retention, now_ms)) {
                Ok(true) => return Some(Arc::clone(meta)),
                Ok(false) => {
                    self.kept.lock().insert(meta.id, (Arc::clone(&retention), over));
                }
                Err(error) if self.put_off(&error) => return None,
                // It was told.
                Err(error) => self.note_damaged(&[meta.id], &error),
            }
        }
        None
    }

    /// What is kept.
    pub(crate) fn retention(&self) -> Arc<Retention> {
        Arc::clone(&self.retention.read())
    }

    /// Replaces what is kept. Queries and writes follow at once, files with the next merges.
    pub(crate) fn set_retention(&self, retention: Retention) {
        *self.retention.write() = Arc::new(retention);
    }

    /// The deletions once these are the parts, if that changes them.
    fn settled_deletions(&self, parts: &[Arc<PartMeta>]) -> Option<Deletions> {
        let deletions = Arc::clone(&self.deletions.read());
        let settled = deletions.settled(parts);
        (settled.waiting() != deletions.waiting()).then_some(settled)
    }

    /// The deletions as they are now.
    pub(crate) fn deletions(&self) -> Arc<Deletions> {
        Arc::clone(&self.deletions.read())
    }

    /// Writes what was acknowledged as parts, then changes the list of deletions durably: `change` gives the new list
    /// and what to answer, or just an answer.
    pub(crate) async fn change_deletions<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Deletions, &[Arc<PartMeta>], i64) -> (Option<Deletions>, T) + Send + 'static,
    ) -> Result<T, EventsError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(EventsError::Closed { kind: K::NAME });
        }
        let flushing = self.flushing.lock().await;
        // What is deleted is not to stay in the journal either, so its segments end here.
        let end = self.journal.rotate().await.map_err(|source| EventsError::Journal { kind: K::NAME, source })?;
        self.flush_locked().await?;
        let engine = Arc::clone(self);
        let work = move || {
            let _publishing = engine.publishing.lock();
            let before = engine.deletions();
            let (after, answer) = change(&before, &engine.set.parts(), engine.now_ms());
            if let Some(after) = after {
                let attributes = BTreeMap::from([(DELETIONS.to_owned(), after.text())]);
                // All before the end is in parts; without a flush just now the commits do not say so yet.
                let end = (end.segment, end.offset);
                let journal = engine.set.journal_position().is_none_or(|known| known < end).then_some(end);
                let journal_start = engine.journal.first_segment().into();
                engine
                    .set
                    .commit(Commit { attributes, journal, journal_start, ..Commit::default() })
                    .map_err(|source| EventsError::Parts { kind: K::NAME, source })?;
                *engine.deletions.write() = Arc::new(after);
                if let Err(error) = engine.journal.truncate_before(Position { segment: end.0, offset: end.1 }) {
                    // The next flush tries again.
                    tracing::warn!(kind = K::NAME, %error, "journal was not truncated");
                }
            }
            Ok(answer)
        };
        let answer = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| EventsError::Write(std::io::Error::other(error)))?;
        drop(flushing);
        answer
    }

    /// Removes the parts of days that are past the retention or too many. Blocks.
    pub(crate) fn apply_retention(&self, now_ms: i64) -> Result<usize, EventsError> {
        let parts = self.set.parts();
        let keeps = self.retention();
        let mut remove = match keeps.longest() {
            Some(max_age) => retention::expired(&parts, now_ms, max_age),
            None => Vec::new(),
        };
        if let Some(bytes_max) = keeps.bytes_max {
            let kept: Vec<_> = parts.iter().filter(|meta| !remove.contains(&meta.id)).cloned().collect();
            remove.extend(retention::over_bytes(&kept, bytes_max));
        }
        if remove.is_empty() {
            // A query may have held parts when they were removed.
            self.set.collect_garbage();
            return Ok(0);
        }
        let count = remove.len();
        let _publishing = self.publishing.lock();
        self.set
            .commit(Commit { remove, ..Commit::default() })
            .map_err(|source| EventsError::Parts { kind: K::NAME, source })?;
        tracing::info!(kind = K::NAME, parts = count, "parts past the retention removed");
        // Whoever holds them keeps their files.
        drop(parts);
        self.show();
        Ok(count)
    }

    /// Refuses further writes, writes the memtable as parts and closes the journal.
    pub(crate) async fn close(self: &Arc<Self>) -> Result<(), EventsError> {
        self.is_closed.store(true, Ordering::Release);
        let flushed = self.flush().await;
        self.journal.close().await;
        flushed
    }

    /// Writes a store of this kind into a directory by hard links; see [`crate::EventStore::snapshot_to`].
    pub(crate) async fn snapshot_to(self: &Arc<Self>, dir: PathBuf, with_memtables: bool) -> Result<(), EventsError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(EventsError::Closed { kind: K::NAME });
        }
        // First the journal, then the parts: what a flush takes out of the journal meanwhile is in the parts.
        let end = match with_memtables {
            true => Some(self.journal.rotate().await.map_err(|source| EventsError::Journal { kind: K::NAME, source })?),
            false => None,
        };
        let engine = Arc::clone(self);
        let work = move || {
            if let Some(end) = end {
                let linked = engine.journal.link_segments(end, &dir.join("journal"));
                linked.map_err(|source| EventsError::Journal { kind: K::NAME, source })?;
            }
            let state = engine.set.state();
            engine.set.link_to(&state, &dir).map_err(|source| EventsError::Parts { kind: K::NAME, source })
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| EventsError::Write(std::io::Error::other(error)))?
    }

    fn output(&self) -> Output<'_> {
        let EngineOptions { block_bytes, slice_bytes, .. } = self.options;
        let (deletions, retention) = (self.deletions(), self.retention());
        let (set, now_ms, sampler) = (&self.set, self.now_ms(), self.options.sampler.clone());
        Output { set, now_ms, deletions, retention, sampler, block_bytes, slice_bytes, threads: 1 }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> i64 {
        self.options.clock.now_ms()
    }

    /// The published parts.
    pub(crate) fn parts(&self) -> Arc<Vec<Arc<PartMeta>>> {
        self.set.parts()
    }

    /// Brings metrics and open readers up to date with the parts.
    fn show(&self) {
        let metas = self.set.parts();
        let ids: BTreeMap<PartId, &Arc<PartMeta>> = metas.iter().map(|meta| (meta.id, meta)).collect();
        self.readers.lock().retain(|id, reader| ids.get(id).is_some_and(|meta| Arc::ptr_eq(meta, &reader.meta)));
        self.kept.lock().retain(|id, _| ids.contains_key(id));
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        metrics::PARTS.with_label_values(&[K::NAME]).set(number(metas.len() as u64));
        metrics::PARTS_BYTES.with_label_values(&[K::NAME]).set(number(metas.iter().map(|m| m.bytes).sum()));
        metrics::PARTS_UNREACHABLE.with_label_values(&[K::NAME]).set(number(self.set.unreachable_parts()));
        let view = Arc::clone(&self.view.read());
        let frozen = view.frozen.as_ref().map_or(0, |frozen| frozen.memtable.reserved.lock().bytes());
        let bytes = view.active.reserved.lock().bytes() + frozen;
        metrics::MEMTABLE_BYTES.with_label_values(&[K::NAME]).set(number(bytes));
        self.set.collect_garbage();
    }
}

/// On how many threads a memtable is written.
fn flush_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(FLUSH_THREADS_MAX)
}

fn mark_of(position: Position) -> JournalMark {
    JournalMark { segment: position.segment, offset: position.offset }
}

/// A merge of one part alone.
fn rewrite_of(meta: &PartMeta) -> MergePlan {
    MergePlan {
        tenant: meta.tenant,
        partition: meta.partition,
        kind: meta.kind.clone(),
        parts: vec![meta.id],
        level: meta.level,
        bytes: meta.bytes,
    }
}

fn new_memtable<K: Kind>(accountant: &Accountant) -> Arc<Memtable<K>> {
    Arc::new(Memtable {
        table: K::Memtable::default(),
        items: AtomicU64::new(0),
        first_ms: AtomicI64::new(-1),
        reserved: Mutex::new(accountant.try_reserve(Pool::Memtable, 0).expect("nothing is always there")),
    })
}

/// Calls a function when it is dropped.
struct Defer<F: FnMut()>(F);

impl<F: FnMut()> Drop for Defer<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
