//! The set of published parts of one store.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use trefoil_model::TenantId;
use trefoil_runtime::SharedVfs;
use trefoil_runtime::vfs::create_dir_durable;

use crate::PartsError;
use crate::catalog::{Catalog, CatalogState, Change, LocalCatalog};
use crate::commit_file::{self, CommitFile};
use crate::history::{self, JournalStart, Mark};
use crate::link::SetState;
use crate::meta::{PartId, PartMeta};
use crate::metrics::Metrics;
use crate::orphans::{self, PartFolder};
use crate::part_writer::{PartWriter, PendingPart};
use crate::remote::{Cache, RemoteOptions};
use crate::twin::{self, Seen, Twin};

/// What one commit changes, all at once.
#[derive(Default)]
pub struct Commit {
    /// Parts to publish.
    pub add: Vec<PendingPart>,
    /// Parts to remove; each must be in the set.
    pub remove: Vec<PartId>,
    /// New journal position (segment, offset); `None` leaves it.
    pub journal: Option<(u64, u64)>,
    /// Where the journal begins, in a commit that moves its position: should the commit be lost later, its parts prove that
    /// it was made (see [`JournalStart`]).
    pub journal_start: JournalStart,
    /// Values to set; the others stay.
    pub attributes: BTreeMap<String, String>,
}

/// The parts of one store in a directory. Clones share the set.
#[derive(Clone)]
pub struct PartSet(Arc<Inner>);

struct Inner {
    vfs: SharedVfs,
    dir: PathBuf,
    name: &'static str,
    catalog: Box<dyn Catalog>,
    next_part: AtomicU64,
    /// What readers see: replaced whole by a commit.
    published: RwLock<Published>,
    /// Removed parts whose files somebody may still read.
    removed: Mutex<Vec<Arc<PartMeta>>>,
    /// Directories that may have been created and not synced.
    unsynced_dirs: Mutex<BTreeSet<PathBuf>>,
    /// One commit at a time.
    committing: Mutex<()>,
    /// Number of the newest commit.
    sequence: AtomicU64,
    /// Whether it is written down that a commit was made.
    is_marked: AtomicBool,
    /// What was found wrong when the set was opened.
    findings: Mutex<Vec<String>>,
    metrics: Metrics,
    /// The object store and what is cached of it.
    cache: Option<Cache>,
}

#[derive(Clone)]
struct Published {
    parts: Arc<Vec<Arc<PartMeta>>>,
    journal: Option<(u64, u64)>,
    attributes: Arc<BTreeMap<String, String>>,
}

impl From<CatalogState> for Published {
    fn from(state: CatalogState) -> Self {
        let mut parts: Vec<_> = state.parts.into_values().collect();
        parts.sort_by_key(|meta| meta.order());
        Self { parts: Arc::new(parts), journal: state.journal, attributes: Arc::new(state.attributes) }
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PartsError {
    move |source| PartsError::Io { action, path: path.to_owned(), source }
}

impl PartSet {
    /// Opens a set, creating the directory when it is missing. Removes temporary files and parts that a commit removed;
    /// parts that no commit names are moved to the folder `lost`. A commit that is damaged or missing is taken from its
    /// copy; it errors when that is damaged too. A damaged file of a part is logged and its part stays.
    ///
    /// Over a file system that is read-only (see [`trefoil_runtime::vfs::ReadOnlyVfs`]) nothing is changed: all can be
    /// read, and commits fail.
    pub fn open(vfs: SharedVfs, dir: &Path, name: &'static str) -> Result<Self, PartsError> {
        Self::open_with(vfs, dir, name, None)
    }

    /// Opens a set as [`Self::open`] does, with an object store. Sends nothing.
    pub fn open_with(
        vfs: SharedVfs,
        dir: &Path,
        name: &'static str,
        remote: Option<RemoteOptions>,
    ) -> Result<Self, PartsError> {
        Self::open_beside(vfs, dir, name, remote, JournalStart::Unknown)
    }

    /// Opens a set as [`Self::open_with`] does, beside a journal that begins there now. Errors when the newest commit is
    /// lost and the journal does not hold the samples of its parts any more.
    pub fn open_beside(
        vfs: SharedVfs,
        dir: &Path,
        name: &'static str,
        remote: Option<RemoteOptions>,
        journal: JournalStart,
    ) -> Result<Self, PartsError> {
        for folder in [dir.join("parts"), dir.join("tmp")] {
            create_dir_durable(&*vfs, &folder).map_err(io("create", &folder))?;
        }
        let mark = Mark::read(&*vfs, dir).map_err(io("read", &dir.join(history::MARK)))?;
        let folders = Twin::open(Arc::clone(&vfs), dir, name).map_err(io("open", &dir.join(twin::CATALOG)))?;
        let (seen, findings) = (folders.seen().clone(), folders.findings());
        let catalog = LocalCatalog::open(folders)?;
        let state = catalog.state();
        let published = Published::from(state.clone());
        let cache_dir = dir.join("cache");
        let cache = match remote {
            None => None,
            Some(options) => Some(
                Cache::open(Arc::clone(&vfs), cache_dir.clone(), name, options, &published.parts)
                    .map_err(io("open", &cache_dir))?,
            ),
        };
        let inner = Inner {
            cache,
            vfs,
            dir: dir.to_owned(),
            name,
            catalog: Box::new(catalog),
            next_part: AtomicU64::new(state.next_part.max(1)),
            published: RwLock::new(published),
            removed: Mutex::new(Vec::new()),
            unsynced_dirs: Mutex::new(BTreeSet::new()),
            committing: Mutex::new(()),
            sequence: AtomicU64::new(seen.newest),
            is_marked: AtomicBool::new(mark == Mark::Committed),
            findings: Mutex::new(findings),
            metrics: Metrics::new(name),
        };
        inner.check_history(mark, &seen, journal)?;
        inner.tidy(&seen)?;
        inner.check_files();
        inner.show();
        Ok(Self(Arc::new(inner)))
    }

    /// Returns the published parts, sorted by (tenant, partition, first time, id). While somebody has the list, the
    /// files of its parts stay.
    pub fn parts(&self) -> Arc<Vec<Arc<PartMeta>>> {
        Arc::clone(&self.0.published.read().parts)
    }

    /// Returns the journal position (segment, offset) that the last commit reached.
    pub fn journal_position(&self) -> Option<(u64, u64)> {
        self.0.published.read().journal
    }

    /// Returns the store's values.
    pub fn attributes(&self) -> BTreeMap<String, String> {
        BTreeMap::clone(&self.0.published.read().attributes)
    }

    /// Returns what was found wrong with commits and part folders when the set was opened, each with its path.
    pub fn findings(&self) -> Vec<String> {
        self.0.findings.lock().clone()
    }

    /// Returns the state of the last commit.
    pub fn state(&self) -> SetState {
        let published = self.0.published.read().clone();
        let Published { parts, journal, attributes } = published;
        SetState { parts, journal, attributes, next_part: self.0.next_part.load(Ordering::Relaxed) }
    }

    pub(crate) fn vfs(&self) -> &SharedVfs {
        &self.0.vfs
    }

    /// Begins a part. `kind` is the store's own word.
    pub fn begin(&self, tenant: TenantId, partition: i64, kind: &str) -> Result<PartWriter, PartsError> {
        let id = PartId(self.0.next_part.fetch_add(1, Ordering::Relaxed));
        let folder = self.0.dir.join("tmp").join(format!("{:020}", id.0));
        PartWriter::begin(Arc::clone(&self.0.vfs), folder, id, tenant, partition, kind)
    }

    /// Publishes and removes parts and moves the journal position, all or nothing, durably.
    ///
    /// On an error the state is the old one and the parts to add are gone. After [`PartsError::Unknown`] nothing can
    /// be committed until the set is opened again. Blocks on the disk.
    pub fn commit(&self, mut commit: Commit) -> Result<(), PartsError> {
        let inner = &self.0;
        let _committing = inner.committing.lock();
        let result = inner.publish(&mut commit);
        match &result {
            Ok(()) => inner.metrics.commits.inc(),
            Err(error) => {
                inner.metrics.commit_failures.inc();
                tracing::error!(store = inner.name, error = %trefoil_runtime::tasks::chain(error), "commit failed");
            }
        }
        // An unknown commit may name the folders: the next open decides.
        if matches!(result, Ok(()) | Err(PartsError::Unknown { .. })) {
            commit.add.into_iter().for_each(PendingPart::keep);
        }
        self.collect_garbage();
        result
    }

    /// Returns the path of a file of a part.
    pub fn path(&self, part: &PartMeta, file: &str) -> PathBuf {
        self.folder(part).join(file)
    }

    /// Returns the folder of a part.
    pub fn folder(&self, part: &PartMeta) -> PathBuf {
        self.0.folder(part)
    }

    /// Maps a file of a part and checks its length; checksums of what is inside are the reader's.
    pub fn map(&self, part: &PartMeta, file: &str) -> Result<Bytes, PartsError> {
        let meta = part.file(file).ok_or_else(|| PartsError::NoSuchFile { part: part.id, file: file.to_owned() })?;
        if part.is_remote() {
            return self.map_remote(part, meta);
        }
        let path = self.path(part, file);
        let content = self.0.vfs.map(&path).map_err(io("read", &path))?;
        if content.len() as u64 == meta.len {
            return Ok(content);
        }
        self.0.metrics.damaged_files.inc();
        let reason = format!("it has {} bytes instead of {}", content.len(), meta.len);
        Err(PartsError::CorruptFile { part: part.id, file: file.to_owned(), reason })
    }

    /// Reads every file of a part and compares length and checksum with its commit.
    pub fn verify(&self, part: &PartMeta) -> Result<(), PartsError> {
        for file in &part.files {
            if crc32c::crc32c(&self.map(part, &file.name)?) != file.crc32c {
                self.0.metrics.damaged_files.inc();
                let reason = "checksum mismatch".to_owned();
                return Err(PartsError::CorruptFile { part: part.id, file: file.name.clone(), reason });
            }
        }
        Ok(())
    }

    /// Keeps a published part's files until the handle is dropped; `None` when it is not published.
    pub fn hold(&self, id: PartId) -> Option<PartHandle> {
        let parts = self.parts();
        let meta = Arc::clone(parts.iter().find(|meta| meta.id == id)?);
        Some(PartHandle { meta: Some(meta), set: self.clone() })
    }

    /// Removes the files of removed parts that nobody holds any more. Every commit and every dropped handle does it.
    pub fn collect_garbage(&self) {
        let unused: Vec<Arc<PartMeta>> = {
            let mut removed = self.0.removed.lock();
            // Only holders can make more of them, and the list has the last one.
            let (unused, used) =
                std::mem::take(&mut *removed).into_iter().partition(|meta| Arc::strong_count(meta) == 1);
            *removed = used;
            unused
        };
        if let Some(cache) = &self.0.cache
            && unused.iter().any(|meta| meta.is_remote())
        {
            cache.want_sweep();
            cache.retain(&self.known_parts().iter().map(|meta| meta.id).collect());
        }
        for meta in unused.iter().filter(|meta| !meta.is_remote()) {
            let folder = self.folder(meta);
            if let Err(error) = self.0.vfs.remove_dir_all(&folder) {
                // Opening the set removes it.
                tracing::warn!(store = self.0.name, part = meta.id.0, %error, "removed part's files were not removed");
            }
        }
    }

    /// Replaces the meta of a published part by one that says where it lies.
    pub(crate) fn relocate(&self, from: Arc<PartMeta>, to: Arc<PartMeta>) -> Result<(), PartsError> {
        let inner = &self.0;
        let committing = inner.committing.lock();
        if !inner.published.read().parts.iter().any(|meta| Arc::ptr_eq(meta, &from)) {
            return Err(PartsError::NoSuchPart(from.id));
        }
        let next_part = inner.next_part.load(Ordering::Relaxed);
        let result = inner.catalog.commit(&Change { add: vec![to], next_part, ..Change::default() });
        match &result {
            Ok(()) => {
                inner.metrics.commits.inc();
                inner.sequence.fetch_add(1, Ordering::Relaxed);
                *inner.published.write() = inner.catalog.state().into();
                inner.removed.lock().push(from);
                inner.show();
            }
            Err(_) => inner.metrics.commit_failures.inc(),
        }
        drop(committing);
        self.collect_garbage();
        result
    }

    /// The published parts and those that were removed and are still held.
    pub(crate) fn known_parts(&self) -> Vec<Arc<PartMeta>> {
        let removed = self.0.removed.lock();
        self.0.published.read().parts.iter().chain(removed.iter()).map(Arc::clone).collect()
    }

    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.0.cache.as_ref()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.0.name
    }

    /// Returns how many files have left the cache of remote parts for want of room, and the bytes that it has.
    pub fn cache_evictions_and_bytes(&self) -> (u64, u64) {
        self.0.cache.as_ref().map_or((0, 0), |cache| (cache.evictions(), cache.bytes()))
    }

    /// Returns how many removed parts are still held.
    pub fn removed_and_held(&self) -> usize {
        self.0.removed.lock().len()
    }
}

impl Inner {
    fn folder(&self, part: &PartMeta) -> PathBuf {
        self.partition_dir(part).join(format!("{:020}", part.id.0))
    }

    fn partition_dir(&self, part: &PartMeta) -> PathBuf {
        self.dir.join("parts").join(part.tenant.0.to_string()).join(part.partition.to_string())
    }

    fn publish(&self, commit: &mut Commit) -> Result<(), PartsError> {
        let before = self.catalog.state();
        for id in &commit.remove {
            if !before.parts.contains_key(id) {
                return Err(PartsError::NoSuchPart(*id));
            }
        }
        let sequence = self.sequence.load(Ordering::Relaxed) + 1;
        for pending in &mut commit.add {
            let meta = Arc::clone(pending.meta());
            pending.write_commit(&commit_file::encode(&CommitFile {
                sequence,
                snapshot: false,
                add: vec![(&*meta).into()],
                remove: commit.remove.iter().map(|id| id.0).collect(),
                // With the start or not at all: a repair must know what the position is worth.
                journal: commit.journal.filter(|_| commit.journal_start.segment().is_some()),
                attributes: commit.attributes.clone(),
                next_part: self.next_part.load(Ordering::Relaxed),
                journal_start: commit.journal.and(commit.journal_start.segment()),
            }))?;
            let folder = self.folder(&meta);
            let partition = self.partition_dir(&meta);
            if !self.vfs.exists(&partition) || self.unsynced_dirs.lock().contains(&partition) {
                self.unsynced_dirs.lock().insert(partition.clone());
                create_dir_durable(&*self.vfs, &partition).map_err(io("create", &partition))?;
                self.unsynced_dirs.lock().remove(&partition);
            }
            pending.move_to(folder.clone()).map_err(io("publish", &folder))?;
            self.vfs.sync_dir(&partition).map_err(io("sync", &partition))?;
        }
        let change = Change {
            add: commit.add.iter().map(|pending| Arc::clone(pending.meta())).collect(),
            remove: commit.remove.clone(),
            journal: commit.journal,
            attributes: commit.attributes.clone(),
            next_part: self.next_part.load(Ordering::Relaxed),
        };
        self.catalog.commit(&change)?;
        self.mark_committed();
        self.sequence.store(sequence, Ordering::Relaxed);
        *self.published.write() = self.catalog.state().into();
        let gone = commit.remove.iter().filter_map(|id| before.parts.get(id)).map(Arc::clone);
        self.removed.lock().extend(gone);
        self.show();
        Ok(())
    }

    fn show(&self) {
        let parts = Arc::clone(&self.published.read().parts);
        let bytes: u64 = parts.iter().map(|meta| meta.bytes).sum();
        let remote: Vec<u64> = parts.iter().filter(|meta| meta.is_remote()).map(|meta| meta.bytes).collect();
        self.metrics.remote.set(i64::try_from(remote.len()).unwrap_or(i64::MAX));
        self.metrics.remote_bytes.set(i64::try_from(remote.iter().sum::<u64>()).unwrap_or(i64::MAX));
        self.metrics.parts.set(i64::try_from(parts.len()).unwrap_or(i64::MAX));
        self.metrics.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Removes what is provably of no use: temporary folders, and folders of parts that a commit removed or moved to an
    /// object store. Part folders that no commit names are kept aside: they may be all that is left of samples when a
    /// commit is lost.
    fn tidy(&self, seen: &Seen) -> Result<(), PartsError> {
        let is_read_only = self.vfs.is_read_only();
        let temporary = self.dir.join("tmp");
        for entry in self.vfs.read_dir(&temporary).map_err(io("list", &temporary))? {
            if !is_read_only {
                self.remove_orphan(&temporary.join(&entry.name), entry.is_dir);
            }
        }
        let published = Arc::clone(&self.published.read().parts);
        let named: BTreeSet<PathBuf> =
            published.iter().filter(|meta| !meta.is_remote()).map(|meta| self.folder(meta)).collect();
        let remote: BTreeSet<u64> = published.iter().filter(|meta| meta.is_remote()).map(|meta| meta.id.0).collect();
        let parts = self.dir.join("parts");
        let folders = orphans::list(&*self.vfs, &parts).map_err(io("list", &parts))?;
        let missing: Vec<&PathBuf> = named.iter().filter(|folder| !self.vfs.exists(folder)).collect();
        for folder in &missing {
            tracing::error!(store = self.name, path = %folder.display(), "the folder of a part is missing");
            self.findings.lock().push(format!("{}: the folder of a part is missing", folder.display()));
        }
        for folder in folders.into_iter().filter(|folder| !named.contains(&folder.path)) {
            let id = folder.place[2].parse::<u64>();
            // Should it stay, its id must not be given to another part.
            if let Ok(id) = id {
                self.next_part.fetch_max(id.saturating_add(1), Ordering::Relaxed);
            }
            if id.is_ok_and(|id| seen.removed.contains(&id) || remote.contains(&id)) {
                if !is_read_only {
                    self.remove_orphan(&folder.path, folder.is_dir);
                }
                continue;
            }
            self.set_aside(&folder, seen.newest, !missing.is_empty());
        }
        self.tidy_lost(seen.newest)
    }

    /// Errors when commits were made that are not there, and writes down for the next time whether some were made.
    fn check_history(&self, mark: Mark, seen: &Seen, journal: JournalStart) -> Result<(), PartsError> {
        let parts = self.dir.join("parts");
        let folders = orphans::list(&*self.vfs, &parts).map_err(io("list", &parts))?;
        if seen.newest == 0 && mark.has_lost_all(folders.len()) {
            return Err(PartsError::NoCommits { dir: self.dir.clone(), parts: folders.len() });
        }
        if mark == Mark::Damaged {
            let path = self.dir.join(history::MARK);
            let path = path.display();
            tracing::error!(store = self.name, %path, "what says whether commits were made is damaged");
            self.findings.lock().push(format!("{path}: what says whether commits were made is damaged"));
        }
        let published = Arc::clone(&self.published.read().parts);
        let known: BTreeSet<u64> = published.iter().map(|meta| meta.id.0).chain(seen.removed.iter().copied()).collect();
        for folder in folders.iter().filter(|folder| folder.parsed().is_none_or(|(_, _, id)| !known.contains(&id))) {
            let Some(commit) = history::commit_of(&*self.vfs, folder) else { continue };
            if history::is_commit_lost(&commit, seen.newest, journal) {
                return Err(PartsError::LostCommit { sequence: commit.sequence, folder: folder.path.clone() });
            }
        }
        if !self.vfs.is_read_only() {
            match seen.newest {
                0 if matches!(mark, Mark::Absent | Mark::Damaged) => {
                    Mark::New.write(&*self.vfs, &self.dir).map_err(io("write", &self.dir.join(history::MARK)))?;
                }
                0 => {}
                _ => self.mark_committed(),
            }
        }
        Ok(())
    }

    /// Writes down that a commit was made. A failure is logged: the next commit or start does it.
    fn mark_committed(&self) {
        if self.is_marked.load(Ordering::Relaxed) {
            return;
        }
        match Mark::Committed.write(&*self.vfs, &self.dir) {
            Ok(()) => self.is_marked.store(true, Ordering::Relaxed),
            Err(error) => tracing::warn!(store = self.name, %error, "that commits are there was not written down"),
        }
    }

    fn set_aside(&self, folder: &PartFolder, newest: u64, is_damage: bool) {
        let path = folder.path.display();
        if self.vfs.is_read_only() {
            if is_damage {
                self.findings.lock().push(format!("{path}: no commit names this part, and other parts are missing"));
            }
            return;
        }
        match orphans::set_aside(&*self.vfs, &self.dir, folder, newest, is_damage) {
            Ok(to) if is_damage => {
                self.metrics.set_aside.inc();
                let to = to.display();
                tracing::error!(store = self.name, %path, %to, "part that no commit names is kept aside, repair the set");
                self.findings
                    .lock()
                    .push(format!("{path}: no commit names this part, and other parts are missing; moved to {to}"));
            }
            Ok(to) => {
                self.metrics.set_aside.inc();
                let to = to.display();
                tracing::warn!(store = self.name, %path, %to, "part that a crash left without a commit is kept aside");
            }
            Err(error) => {
                tracing::error!(store = self.name, %path, %error, "part that no commit names was not kept aside");
            }
        }
    }

    /// Lets what crashes left go after a while, and sees to it that no id is given twice.
    fn tidy_lost(&self, newest: u64) -> Result<(), PartsError> {
        if !self.vfs.is_read_only() {
            match orphans::remove_old(&*self.vfs, &self.dir, newest) {
                Ok(removed) => removed.iter().for_each(|path| {
                    tracing::info!(store = self.name, path = %path.display(), "removed what crashes left long ago");
                }),
                Err(error) => tracing::warn!(store = self.name, %error, "what crashes left was not removed"),
            }
        }
        let lost = self.dir.join(orphans::LOST);
        for (folder, _) in orphans::list_lost(&*self.vfs, &self.dir).map_err(io("list", &lost))? {
            let id = folder.place[2].split('.').next().and_then(|id| id.parse::<u64>().ok());
            self.next_part.fetch_max(id.map_or(0, |id| id.saturating_add(1)), Ordering::Relaxed);
        }
        Ok(())
    }

    fn remove_orphan(&self, path: &Path, is_dir: bool) {
        let result = if is_dir { self.vfs.remove_dir_all(path) } else { self.vfs.remove_file(path) };
        match result {
            Ok(()) => tracing::info!(store = self.name, path = %path.display(), "removed what no commit needs"),
            Err(error) => {
                tracing::warn!(store = self.name, path = %path.display(), %error, "orphan was not removed");
            }
        }
    }

    /// Looks whether every file is there with its length.
    fn check_files(&self) {
        for part in self.published.read().parts.iter().filter(|meta| !meta.is_remote()) {
            for file in &part.files {
                let path = self.folder(part).join(&file.name);
                let found = self.vfs.len(&path);
                if !matches!(found, Ok(len) if len == file.len) {
                    self.metrics.damaged_files.inc();
                    tracing::error!(
                        store = self.name, part = part.id.0, file = %path.display(), expected = file.len, ?found,
                        "file of a part is missing or has the wrong length"
                    );
                }
            }
        }
    }
}

/// Keeps the files of a part. Dereferences to its [`PartMeta`].
pub struct PartHandle {
    /// `None` only while it is dropped.
    meta: Option<Arc<PartMeta>>,
    set: PartSet,
}

impl Deref for PartHandle {
    type Target = PartMeta;

    fn deref(&self) -> &PartMeta {
        self.meta.as_ref().expect("taken only by drop")
    }
}

impl Drop for PartHandle {
    fn drop(&mut self) {
        drop(self.meta.take());
        self.set.collect_garbage();
    }
}
