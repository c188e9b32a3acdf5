//! The store as a whole: what it consists of, opening and closing it.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use trefoil_journal::{Committed, FileJournal, JournalOptions, JournalStore, Position};
use trefoil_model::{Labels, StoreError, TenantId, TimeRange, WriteError};
use trefoil_parts::{Commit, ObjectStoreOptions, PartHandle, PartId, PartMeta, PartSet, redundancy};
use trefoil_runtime::{Accountant, DiskGuard, Limits, Pool, Reservation, SharedClock, SharedVfs, StartProgress};

use crate::changes::Changes;
use crate::error::TsdbError;
use crate::exemplars::Exemplars;
use crate::guard::Guard;
use crate::memtable::Memtable;
use crate::metadata::Metadata;
use crate::metrics;
use crate::part::PartReader;
use crate::part::layout::{BLOCKS_FILE, INDEX_FILE};
use crate::policy::{Lifecycle, Policy};
use crate::rewrite::PartKnowledge;
use crate::series::Registry;
use crate::tombstones::Tombstones;

/// Attribute of commits: the id that the next new series gets.
pub(crate) const NEXT_SERIES_ID: &str = "next_series_id";
/// Attribute of commits: the number of the last flush.
pub(crate) const FLUSH_SEQUENCE: &str = "flush_sequence";
/// Attribute of commits: the sequence number of the first journal record behind the commit's position.
pub(crate) const JOURNAL_SEQUENCE: &str = "journal_sequence";
/// Attributes of parts: the first and the last flush whose samples they hold.
pub(crate) const SEQUENCE_FIRST: &str = "sequence_first";
pub(crate) const SEQUENCE_LAST: &str = "sequence_last";
/// Attribute of parts: the last tombstone that was considered when the part was written.
pub(crate) const TOMBSTONE_LAST: &str = "tombstone_last";
/// Attribute of parts: longest interval of downsampled stretches, milliseconds.
pub(crate) const ROLLUP_MS: &str = "rollup_ms";
/// Attribute of parts: which downsampling was applied, see [`Lifecycle::downsampling_mark`].
pub(crate) const DOWNSAMPLED: &str = "downsampled";

/// How a store works.
#[derive(Clone)]
pub struct TsdbOptions {
    /// Directory of the store; `journal` and `parts` lie in it. Made when absent.
    pub dir: PathBuf,
    /// Files.
    pub vfs: SharedVfs,
    /// Time.
    pub clock: SharedClock,
    /// Memory.
    pub accountant: Accountant,
    /// Age after which samples are refused, not answered and dropped by whole days; `None` keeps them for ever.
    pub retention: Option<Duration>,
    /// What else becomes of old samples. `retention` above goes before that of the policy.
    pub policy: Policy,
    /// Limits of label sets, sample times, exemplars and metadata.
    pub limits: Limits,
    /// Bytes of samples in the memtable, without what their series take, that ask for a flush (sooner when the memtable
    /// pool is small). Default 256 MiB.
    pub flush_bytes: u64,
    /// Age of the memtable's first sample, counted from its arrival, that asks for a flush. Default 1 h.
    pub flush_interval: Duration,
    /// Where parts of past days go; `None` keeps all here.
    pub object_store: Option<ObjectStoreOptions>,
    /// Options of the journal. `segment_min` is set by the store.
    pub journal: JournalOptions,
    /// Where the replay of the journal is told of.
    pub start: StartProgress,
}

impl TsdbOptions {
    /// Defaults without retention and without a memory budget.
    pub fn new(dir: impl Into<PathBuf>, vfs: SharedVfs, clock: SharedClock) -> Self {
        Self {
            dir: dir.into(),
            vfs,
            clock,
            accountant: Accountant::unlimited(),
            retention: None,
            policy: Policy::default(),
            limits: Limits::default(),
            flush_bytes: 256 << 20,
            flush_interval: Duration::from_secs(3600),
            object_store: None,
            journal: JournalOptions::named("metrics"),
            start: StartProgress::default(),
        }
    }
}

/// A time-series store. Clones share it.
#[derive(Clone)]
pub struct Tsdb {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: TsdbOptions,
    pub(crate) journal: Arc<dyn JournalStore>,
    pub(crate) parts: PartSet,
    pub(crate) registry: Registry,
    pub(crate) guard: Guard,
    /// Held shared from before a record is appended until its samples are in the memtable, and alone while a memtable
    /// is frozen: the journal's end is then exactly what the memtable holds.
    pub(crate) gate: Arc<tokio::sync::RwLock<()>>,
    pub(crate) view: ArcSwap<View>,
    pub(crate) lifecycle: ArcSwap<Lifecycle>,
    /// What became visible or was taken away.
    pub(crate) changes: Changes,
    /// Held while the list of tombstones is changed and committed.
    pub(crate) tombstone_lock: Mutex<()>,
    /// Held while `view` is replaced.
    pub(crate) publish: Mutex<()>,
    /// See [`crate::series::SeriesEntry`]. Changes under the gate.
    pub(crate) journal_epoch: AtomicU32,
    pub(crate) exemplars: Mutex<Exemplars>,
    pub(crate) metadata: Mutex<Metadata>,
    /// One flush at a time.
    pub(crate) flush_lock: Arc<tokio::sync::Mutex<()>>,
    /// Parts in which a merge met damage; they are left alone.
    pub(crate) damaged: Mutex<BTreeSet<PartId>>,
    /// Monotonic milliseconds from which parts in an object store are merged again after a fetch failed.
    pub(crate) remote_merges_from_ms: AtomicI64,
    /// One merge or retention run at a time.
    pub(crate) merge_lock: Mutex<()>,
    /// Evictions from the cache of remote parts that the view takes account of. Locked while parts are moved.
    pub(crate) evictions_seen: Mutex<u64>,
    pub(crate) flush_wanted: AtomicBool,
    /// When the active memtable got its first sample (monotonic milliseconds), -1 before.
    pub(crate) first_write_ms: AtomicI64,
    pub(crate) closed: AtomicBool,
    /// What was found in the journal at the start.
    pub(crate) journal_found: Mutex<JournalFound>,
    /// Why the last flush failed, if it did.
    pub(crate) flush_trouble: Mutex<Option<String>>,
    /// What of the journal the last commit before the start covered.
    pub(crate) committed_at_start: Committed,
    /// Refuses writes while the disk is nearly full.
    pub(crate) disk: DiskGuard,
    /// What the memtables hold of the memtable pool.
    memory: Mutex<Reservation>,
}

/// What was found wrong in the journal at the start.
#[derive(Default)]
pub(crate) struct JournalFound {
    /// Ranges that are damaged or missing.
    pub(crate) damage: Vec<String>,
    /// What is intact and of no use.
    pub(crate) unusable: Vec<String>,
    /// Bytes at the end that are no whole record.
    pub(crate) torn: Option<String>,
    /// Second copies of definitions that were not there.
    pub(crate) copies: Vec<String>,
}

/// What queries read, replaced as a whole.
pub(crate) struct View {
    pub(crate) active: Arc<Memtable>,
    pub(crate) frozen: Option<Arc<Frozen>>,
    /// In the order in which their samples were written.
    pub(crate) parts: Vec<Arc<OpenPart>>,
    pub(crate) tombstones: Arc<Tombstones>,
}

/// A memtable on its way into parts.
pub(crate) struct Frozen {
    pub(crate) memtable: Arc<Memtable>,
    /// End of the journal records that it holds.
    pub(crate) position: Position,
    /// Sequence number of the first record behind `position`.
    pub(crate) sequence: u64,
    /// Records that must be in the journal behind `position` before that is committed, each with its definitions.
    pub(crate) carried: Vec<(Bytes, Bytes)>,
}

/// A part of the current commit.
pub(crate) struct OpenPart {
    pub(crate) meta: Arc<PartMeta>,
    pub(crate) sequence: (u64, u64),
    /// The last tombstone that was considered when it was written.
    pub(crate) tombstone: u64,
    /// Longest interval of its downsampled stretches, milliseconds; 0 when there are none.
    pub(crate) rollup_ms: i64,
    /// What is known of it under a policy and a list of tombstones.
    pub(crate) known: Arc<PartKnowledge>,
    /// What was found when it was opened; `None` for a part in an object store.
    local: Option<Result<PartReader, StoreError>>,
    /// The reader of a part in an object store, once a query wanted its samples.
    remote: OnceLock<PartReader>,
    /// A reader of its index alone, once somebody wanted that.
    remote_index: OnceLock<PartReader>,
    /// The reader that takes the place of both when damage was met in cached files, which were fetched again.
    remote_again: OnceLock<PartReader>,
    /// One at a time looks for damage in cached files; true once some was found.
    had_damage: Mutex<bool>,
    set: PartSet,
    /// Keeps the files while a query reads them.
    _handle: Option<PartHandle>,
}

impl OpenPart {
    fn open(parts: &PartSet, meta: &Arc<PartMeta>) -> Self {
        let number = |name| -> Option<u64> { meta.attributes.get(name).and_then(|v| v.parse().ok()) };
        let last = number(SEQUENCE_LAST).unwrap_or(meta.id.0);
        let sequence = (number(SEQUENCE_FIRST).unwrap_or(last), last);
        Self {
            meta: Arc::clone(meta),
            sequence,
            tombstone: number(TOMBSTONE_LAST).unwrap_or(0),
            rollup_ms: number(ROLLUP_MS).and_then(|n| i64::try_from(n).ok()).unwrap_or(0),
            known: Arc::default(),
            local: (!meta.is_remote()).then(|| Self::open_local(parts, meta)),
            remote: OnceLock::new(),
            remote_index: OnceLock::new(),
            remote_again: OnceLock::new(),
            had_damage: Mutex::default(),
            set: parts.clone(),
            _handle: parts.hold(meta.id),
        }
    }

    fn open_local(parts: &PartSet, meta: &PartMeta) -> Result<PartReader, StoreError> {
        let place = parts.path(meta, "").display().to_string();
        let place = place.trim_end_matches('/').to_owned();
        let map = |file| {
            parts.map(meta, file).map_err(|error| match StoreError::from(error) {
                StoreError::Corrupt(what) => StoreError::Corrupt(format!("{place}/{file}: {what}")),
                other => other,
            })
        };
        let reader = map(INDEX_FILE).and_then(|index| PartReader::open(place.clone(), index, map(BLOCKS_FILE)?));
        let reader = match reader {
            Ok(r) if r.day() != meta.partition => {
                Err(StoreError::Corrupt(format!("{place}/{INDEX_FILE} is of day {}, not {}", r.day(), meta.partition)))
            }
            other => other,
        };
        if let Err(error) = &reader {
            if let StoreError::Corrupt(what) = error {
                crate::damage_log::note(what);
            }
            let error = trefoil_runtime::tasks::chain(error);
            tracing::error!(part = meta.id.0, tenant = meta.tenant.0, day = meta.partition, error, "part not readable");
        }
        reader
    }

    fn open_remote(&self, with_blocks: bool) -> Result<PartReader, StoreError> {
        let index = self.set.map(&self.meta, INDEX_FILE)?;
        let place = self.meta.location().unwrap_or_default().to_owned();
        let reader = if with_blocks {
            PartReader::open(place, index, self.set.map(&self.meta, BLOCKS_FILE)?)?
        } else {
            PartReader::open_index(place, index)?
        };
        if reader.day() == self.meta.partition {
            return Ok(reader);
        }
        let (part, day) = (self.meta.id, self.meta.partition);
        Err(StoreError::Corrupt(format!("part {part} in the object store is of day {}, not {day}", reader.day())))
    }

    /// True when files that its readers map have left the cache: a new one lets their bytes go.
    fn is_stale(&self) -> bool {
        self.had_damage.try_lock().is_some_and(|had| *had)
            || (self.remote.get().is_some() && !self.set.is_cached(&self.meta))
            || (self.remote_index.get().is_some() && !self.set.is_file_cached(&self.meta, INDEX_FILE))
    }

    /// Says that nothing is known to be wrong with its files. Asks no object store.
    pub(crate) fn is_readable(&self) -> bool {
        self.local.as_ref().is_none_or(Result::is_ok)
    }

    /// A reader for everything but samples, or what is wrong with the files. Of a part in an object store it fetches
    /// the index only.
    pub(crate) fn index(&self) -> Result<&PartReader, StoreError> {
        if self.local.is_some() || self.remote.get().is_some() || self.remote_again.get().is_some() {
            return self.reader();
        }
        self.set.touch(&self.meta);
        if let Some(reader) = self.remote_index.get() {
            return Ok(reader);
        }
        let reader = self.open_remote(false)?;
        Ok(self.remote_index.get_or_init(|| reader))
    }

    /// The reader, or what is wrong with the files. Files in an object store are fetched first, which blocks; what
    /// fails is tried again by the next call.
    pub(crate) fn reader(&self) -> Result<&PartReader, StoreError> {
        if let Some(local) = &self.local {
            return local.as_ref().map_err(|error| match error {
                StoreError::Io { context, source } => StoreError::Io {
                    context: context.clone(),
                    source: std::io::Error::new(source.kind(), source.to_string()),
                },
                StoreError::Corrupt(what) => StoreError::Corrupt(what.clone()),
                other => StoreError::Corrupt(other.to_string()),
            });
        }
        self.set.touch(&self.meta);
        if let Some(reader) = self.remote_again.get().or_else(|| self.remote.get()) {
            return Ok(reader);
        }
        let reader = self.open_remote(true)?;
        // Another query may have been faster.
        Ok(self.remote.get_or_init(|| reader))
    }

    /// After a reader met damage: when it is that of cached files of an object store, these are fetched again, and there
    /// is a reader that may do better. `None` when the damage lies elsewhere.
    pub(crate) fn reader_after_damage(&self, damaged: Option<&PartReader>) -> Option<Result<&PartReader, StoreError>> {
        if self.local.is_some() {
            return None;
        }
        let mut had_damage = self.had_damage.lock();
        if self.set.forget_damaged_cache(&self.meta) {
            *had_damage = true;
            match self.open_remote(true) {
                Ok(reader) => drop(self.remote_again.set(reader)),
                Err(error) => return Some(Err(error)),
            }
        }
        let again = self.remote_again.get();
        again.filter(|again| damaged.is_none_or(|damaged| !std::ptr::eq(*again, damaged))).map(Ok)
    }

    /// True when it may have samples of the tenant in the range.
    pub(crate) fn overlaps(&self, tenant: TenantId, range: TimeRange) -> bool {
        self.meta.tenant == tenant && range.overlaps(self.meta.min_t, self.meta.max_t)
    }
}

impl Tsdb {
    /// Opens or makes a store and replays its journal. Blocks on the disk; call it from a blocking thread.
    ///
    /// Over a file system that is read-only (see [`trefoil_runtime::ReadOnlyVfs`]) nothing is changed: all can be read, and
    /// what the journal holds is in memory.
    pub fn open(mut options: TsdbOptions) -> Result<Self, TsdbError> {
        metrics::register();
        let journal_dir = options.dir.join("journal");
        let was_at_work = redundancy::was_at_work(&options.vfs, &options.dir.join("parts"));
        let has_journal = trefoil_journal::has_files(&options.vfs, &journal_dir)?;
        let parts = PartSet::open_beside(
            Arc::clone(&options.vfs),
            &options.dir.join("parts"),
            "metrics",
            options.object_store.as_ref().map(|tier| tier.remote.clone()),
            trefoil_journal::first_segment(&options.vfs, &journal_dir)?.into(),
        )?;
        let committed = parts.journal_position();
        options.journal.segment_min = options.journal.segment_min.max(committed.map_or(1, |(segment, _)| segment + 1));
        // Before the first commit the journal begins with its first record. Of older commits it is not known.
        let is_new = committed.is_none() && parts.parts().is_empty();
        let committed_at_start = Committed {
            position: committed.map_or(Position::default(), |(segment, offset)| Position { segment, offset }),
            sequence: attribute(&parts, JOURNAL_SEQUENCE)?.or(is_new.then_some(1)),
        };
        options.journal.sequence_min = options.journal.sequence_min.max(committed_at_start.sequence.unwrap_or(1));
        let journal = FileJournal::open(Arc::clone(&options.vfs), &journal_dir, options.journal.clone())?;
        probe(&options)?;
        let disk = DiskGuard::new(Arc::clone(&options.vfs), &options.dir, options.limits.disk_free_floor_bytes);
        let next_id = attribute(&parts, NEXT_SERIES_ID)?.unwrap_or(1);
        let memory = options.accountant.try_reserve(Pool::Memtable, 0).expect("nothing is always granted");
        let tombstones = Arc::new(Tombstones::read(&parts)?);
        let view = View { active: Arc::new(Memtable::new(1)), frozen: None, parts: Vec::new(), tombstones };
        let retention = options.retention.or(options.policy.retention);
        let policy = Policy { retention, ..options.policy.clone() };
        let inner = Inner {
            journal: Arc::new(journal),
            registry: Registry::new(next_id),
            guard: Guard::new(&options.limits, &options.accountant, Arc::clone(&options.clock)),
            gate: Arc::default(),
            view: ArcSwap::from_pointee(view),
            lifecycle: ArcSwap::from_pointee(Lifecycle::new(policy)),
            changes: Changes::default(),
            tombstone_lock: Mutex::default(),
            publish: Mutex::default(),
            journal_epoch: AtomicU32::new(1),
            exemplars: Mutex::new(Exemplars::new(options.limits.exemplars_max)),
            metadata: Mutex::new(Metadata::new(options.limits.metadata_families_max)),
            flush_lock: Arc::default(),
            damaged: Mutex::default(),
            remote_merges_from_ms: AtomicI64::new(0),
            merge_lock: Mutex::default(),
            evictions_seen: Mutex::default(),
            flush_wanted: AtomicBool::new(false),
            first_write_ms: AtomicI64::new(-1),
            closed: AtomicBool::new(false),
            journal_found: Mutex::default(),
            flush_trouble: Mutex::default(),
            committed_at_start,
            disk,
            memory: Mutex::new(memory),
            parts,
            options,
        };
        inner.publish_parts(|_| {});
        inner.parts.tell_unreachable();
        if !has_journal {
            inner.note_lost_journal(committed_at_start, was_at_work)?;
        }
        inner.replay(committed_at_start)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Refuses further writes, waits for those under way and closes the journal. What is in the memtable is replayed
    /// at the next start; call [`Tsdb::flush`] before to make that start quick.
    pub async fn close(&self) {
        let _alone = self.inner.gate.write().await;
        self.inner.closed.store(true, Ordering::Release);
        self.inner.journal.close().await;
    }

    /// True when a flush is due: by bytes, by age, or because writes were refused for want of memory.
    pub fn should_flush(&self) -> bool {
        self.inner.should_flush()
    }

    /// What was found wrong with the catalog and the part folders at the start, each with its place.
    pub fn catalog_findings(&self) -> Vec<String> {
        self.inner.parts.findings()
    }

    /// What was found damaged in the journal at the start, each with segment and range, and what in it is of no use.
    pub fn journal_findings(&self) -> Vec<String> {
        let found = self.inner.journal_found.lock();
        found.damage.iter().chain(&found.unusable).cloned().collect()
    }

    /// What of the journal was found intact at the start and is of no use, because what it leans on is lost.
    pub fn journal_unusable(&self) -> Vec<String> {
        self.inner.journal_found.lock().unusable.clone()
    }

    /// Bytes at the end of the journal that were no whole record at the start, if any: of a write that was cut off, or of
    /// damage.
    pub fn journal_torn(&self) -> Option<String> {
        self.inner.journal_found.lock().torn.clone()
    }

    /// Why no write can be acknowledged now, if that is known and not for want of room.
    pub fn write_trouble(&self) -> Option<String> {
        self.inner.journal.trouble()
    }

    /// Why the last flush failed, if it did: writes are durable, but their memory and the journal grow.
    pub fn flush_trouble(&self) -> Option<String> {
        self.inner.flush_trouble.lock().clone()
    }

    /// What of the journal the last commit before the start covered, for a check of the journal.
    pub fn journal_committed(&self) -> Committed {
        self.inner.committed_at_start
    }

    /// Bytes of the journal and of the parts on disk.
    pub fn disk_bytes(&self) -> u64 {
        let parts: u64 = self.inner.view.load().parts.iter().map(|p| p.meta.bytes).sum();
        parts + self.inner.journal.bytes()
    }

    /// True when writes are refused until a restart because the disk failed.
    pub fn is_read_only(&self) -> bool {
        self.inner.journal.is_read_only()
    }
}

/// Writes a file into each folder that the store writes to and removes it. A full disk is no error here: what is stored can
/// be read and deleted all the same.
fn probe(options: &TsdbOptions) -> Result<(), TsdbError> {
    let vfs = &options.vfs;
    if vfs.is_read_only() {
        return Ok(());
    }
    for folder in ["journal", "parts", "parts/catalog", "parts/tmp"] {
        let dir = options.dir.join(folder);
        let path = dir.join("write-probe.tmp");
        if !vfs.exists(&dir) {
            continue;
        }
        // One that a crash left.
        let left = if vfs.exists(&path) { vfs.remove_file(&path) } else { Ok(()) };
        let written = left.and_then(|()| vfs.create(&path).map(drop)).and_then(|()| vfs.remove_file(&path));
        match written {
            Err(source) if !matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                return Err(TsdbError::NotWritable { dir, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// A number that travels with commits.
pub(crate) fn attribute(parts: &PartSet, name: &'static str) -> Result<Option<u64>, TsdbError> {
    match parts.attributes().get(name) {
        None => Ok(None),
        Some(value) => match value.parse() {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(TsdbError::Attribute { name, value: value.clone() }),
        },
    }
}

impl Inner {
    pub(crate) fn should_flush(&self) -> bool {
        if self.options.vfs.is_read_only() {
            return false;
        }
        let view = self.view.load();
        if view.frozen.is_some() || self.flush_wanted.load(Ordering::Relaxed) {
            return true;
        }
        if view.active.series() == 0 {
            return false;
        }
        // Two memtables are in memory during a flush, and writes go on.
        let pool = self.options.accountant.limit(Pool::Memtable);
        let first = self.first_write_ms.load(Ordering::Relaxed);
        view.active.sample_bytes() >= self.options.flush_bytes
            || view.active.bytes() >= pool / 5 * 2
            || (first >= 0 && self.monotonic_ms() - first >= self.options.flush_interval.as_millis() as i64)
    }

    /// There is no journal. Says so where the last commit names a place in one, once: a copy of the parts alone has none.
    fn note_lost_journal(&self, committed: Committed, was_at_work: bool) -> Result<(), TsdbError> {
        let position = (committed.position.segment, committed.position.offset);
        if !redundancy::needs_journal(self.parts.journal_position(), &self.parts.attributes()) {
            return Ok(());
        }
        if was_at_work {
            self.tell_lost_journal(committed);
        }
        if !self.options.vfs.is_read_only() {
            let gone = (redundancy::JOURNAL_GONE.to_owned(), redundancy::journal_gone(position));
            self.parts.commit(Commit { attributes: [gone].into(), ..Commit::default() })?;
        }
        Ok(())
    }

    fn tell_lost_journal(&self, committed: Committed) {
        let dir = self.options.dir.join("journal");
        let (dir, segment) = (dir.display(), committed.position.segment);
        tracing::error!(%dir, segment, "the metrics journal is gone, what was acknowledged after the last flush is lost");
        self.journal_found.lock().unusable.push(format!(
            "{dir}: the journal is gone, of which the last commit names segment {segment}; what was acknowledged after the \
             last flush is lost"
        ));
    }

    pub(crate) fn monotonic_ms(&self) -> i64 {
        self.options.clock.monotonic().as_millis() as i64
    }

    /// Opens the parts of the current commit and lets `change` finish the view that queries get from now on.
    pub(crate) fn publish_parts(&self, change: impl FnOnce(&mut View)) {
        let _alone = self.publish.lock();
        let old = self.view.load_full();
        let known = |meta| old.parts.iter().find(|p| Arc::ptr_eq(&p.meta, meta));
        let mut parts: Vec<Arc<OpenPart>> = self
            .parts
            .parts()
            .iter()
            .map(|meta| match known(meta) {
                Some(part) if !part.is_stale() => Arc::clone(part),
                Some(part) => {
                    // What is known of its rows need not be fetched again.
                    let known = Arc::clone(&part.known);
                    Arc::new(OpenPart { known, ..OpenPart::open(&self.parts, meta) })
                }
                None => Arc::new(OpenPart::open(&self.parts, meta)),
            })
            .collect();
        parts.sort_by_key(|p| (p.sequence.1, p.meta.id));
        metrics::PARTS.set(parts.len() as i64);
        metrics::PARTS_UNREACHABLE.set(self.parts.unreachable_parts() as i64);
        metrics::PARTS_BYTES.set(parts.iter().map(|p| p.meta.bytes as i64).sum());
        let tombstones = old.tombstones.current(&self.parts);
        let mut view = View { active: Arc::clone(&old.active), frozen: old.frozen.clone(), parts, tombstones };
        change(&mut view);
        self.view.store(Arc::new(view));
        self.account_memory();
    }

    /// Brings the reservation of the memtable pool to what the memtables hold.
    pub(crate) fn account_memory(&self) {
        let view = self.view.load();
        let held = view.active.bytes() + view.frozen.as_ref().map_or(0, |f| f.memtable.bytes());
        metrics::MEMTABLE_BYTES.set(held as i64);
        metrics::SERIES_ACTIVE.set(self.guard.active() as i64);
        let mut memory = self.memory.lock();
        let before = memory.bytes();
        if held < before {
            memory.shrink(before - held);
        } else if memory.grow(held - before).is_err() {
            // What there is, so that the next writers find the pool full.
            let accountant = &self.options.accountant;
            let free = accountant.limit(Pool::Memtable).saturating_sub(accountant.used(Pool::Memtable));
            if memory.grow(free.min(held - before)).is_err() {
                tracing::debug!("another store took the rest of the memtable pool");
            }
            self.flush_wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Room in the memtable pool for a batch, or the answer to its sender.
    pub(crate) fn reserve(&self, pool: Pool, bytes: u64) -> Result<Reservation, WriteError> {
        self.options.accountant.try_reserve(pool, bytes).map_err(|e| {
            if pool == Pool::Memtable {
                self.flush_wanted.store(true, Ordering::Relaxed);
            }
            WriteError::Unavailable { reason: e.to_string(), retry_after: Duration::from_secs(5) }
        })
    }

    /// The id under which the parts know a series.
    pub(crate) fn id_in_parts(&self, tenant: TenantId, labels: &Labels) -> Option<u64> {
        let view = self.view.load();
        // A series that has samples in an object store only gets a new id: queries bring both together by labels.
        let of_tenant = view.parts.iter().rev().filter(|p| p.meta.tenant == tenant && !p.meta.is_remote());
        of_tenant.filter_map(|p| p.reader().ok()?.find(labels).ok()?).map(|id| id.0).next()
    }
}

#[cfg(test)]
mod tests;
