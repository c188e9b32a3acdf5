//! Files of remote parts on the local disk: the least recently used ones go first.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use trefoil_runtime::SharedVfs;
use trefoil_runtime::vfs::create_dir_durable;

use super::RemoteOptions;
use super::outage::Outage;
use crate::meta::{FileMeta, PartId, PartMeta};
use crate::metrics::RemoteMetrics;
use crate::objects::{Objects, for_each_chunk};

/// Ending of a file that is being fetched.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// The cache of one set.
pub(crate) struct Cache {
    vfs: SharedVfs,
    dir: PathBuf,
    options: RemoteOptions,
    state: Mutex<State>,
    /// One download of a file at a time.
    fetching: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
    outage: Outage,
    /// Why the last fetch failed, unless the store answered.
    failure: Mutex<Option<String>>,
    evictions: AtomicU64,
    is_owned: AtomicBool,
    sweep_wanted: AtomicBool,
    metrics: RemoteMetrics,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Cached>,
    bytes: u64,
    /// Counts uses.
    clock: u64,
}

struct Cached {
    part: PartId,
    len: u64,
    used: u64,
    /// False for what was there at the start, until its first use.
    is_verified: bool,
}

fn file_name(part: PartId, file: &FileMeta) -> String {
    format!("{:020}-{:08x}-{}", part.0, file.crc32c, file.name)
}

impl Cache {
    /// Opens the cache in a directory: keeps the files of `parts`, removes all others.
    pub(crate) fn open(
        vfs: SharedVfs,
        dir: PathBuf,
        store: &str,
        options: RemoteOptions,
        parts: &[Arc<PartMeta>],
    ) -> io::Result<Self> {
        create_dir_durable(&*vfs, &dir)?;
        let remote = parts.iter().filter(|meta| meta.is_remote());
        let known: BTreeMap<String, (PartId, u64)> = remote
            .flat_map(|meta| meta.files.iter().map(|file| (file_name(meta.id, file), (meta.id, file.len))))
            .collect();
        let mut state = State::default();
        for entry in vfs.read_dir(&dir)? {
            match known.get(&entry.name) {
                Some((part, len)) if *len == entry.len => {
                    state.bytes += len;
                    let cached = Cached { part: *part, len: *len, used: 0, is_verified: false };
                    state.files.insert(entry.name, cached);
                }
                _ if entry.is_dir => vfs.remove_dir_all(&dir.join(&entry.name))?,
                _ => vfs.remove_file(&dir.join(&entry.name))?,
            }
        }
        let cache = Self {
            vfs,
            dir,
            options,
            state: Mutex::new(state),
            fetching: Mutex::default(),
            outage: Outage::default(),
            failure: Mutex::default(),
            evictions: AtomicU64::new(0),
            is_owned: AtomicBool::new(false),
            sweep_wanted: AtomicBool::new(true),
            metrics: RemoteMetrics::new(store),
        };
        cache.make_room("");
        Ok(cache)
    }

    pub(crate) fn objects(&self) -> &Arc<dyn Objects> {
        &self.options.objects
    }

    pub(crate) fn metrics(&self) -> &RemoteMetrics {
        &self.metrics
    }

    pub(crate) fn is_owned(&self) -> bool {
        self.is_owned.load(Ordering::Acquire)
    }

    pub(crate) fn set_owned(&self) {
        self.is_owned.store(true, Ordering::Release);
    }

    pub(crate) fn want_sweep(&self) {
        self.sweep_wanted.store(true, Ordering::Release);
    }

    pub(crate) fn take_wanted_sweep(&self) -> bool {
        self.sweep_wanted.swap(false, Ordering::AcqRel)
    }

    /// How many files were evicted so far.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Acquire)
    }

    /// Bytes of the files.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    pub(crate) fn has(&self, part: PartId, file: &FileMeta) -> bool {
        self.state.lock().files.contains_key(&file_name(part, file))
    }

    pub(crate) fn touch(&self, part: PartId) {
        let mut state = self.state.lock();
        state.clock += 1;
        let now = state.clock;
        let from = format!("{:020}-", part.0);
        let to = format!("{:020}-", part.0.saturating_add(1));
        state.files.range_mut(from..to).for_each(|(_, cached)| cached.used = now);
    }

    /// Maps a file, fetching it when it is not there.
    pub(crate) fn map(&self, part: PartId, file: &FileMeta, key: &str) -> io::Result<Bytes> {
        let name = file_name(part, file);
        let alone = Arc::clone(self.fetching.lock().entry(name.clone()).or_default());
        let mapped = {
            let _alone = alone.lock();
            self.map_alone(part, file, key, &name)
        };
        let mut fetching = self.fetching.lock();
        // This one and the one in the map.
        if Arc::strong_count(&alone) == 2 {
            fetching.remove(&name);
        }
        mapped
    }

    fn map_alone(&self, part: PartId, file: &FileMeta, key: &str, name: &str) -> io::Result<Bytes> {
        let path = self.dir.join(name);
        let is_verified = self.state.lock().files.get(name).map(|cached| cached.is_verified);
        if let Some(is_verified) = is_verified {
            // One that was evicted a moment ago is fetched again.
            if let Ok(content) = self.vfs.map(&path) {
                let is_whole = content.len() as u64 == file.len;
                if is_whole && (is_verified || crc32c::crc32c(&content) == file.crc32c) {
                    self.note(name, part, file.len);
                    return Ok(content);
                }
                tracing::warn!(path = %path.display(), "cached file of a part is damaged, fetching it again");
            }
            self.forget(name);
        }
        let fetched = self.outage.guard(|| self.fetch(file, key, &path));
        self.note_answer(fetched.as_ref().err());
        match &fetched {
            Ok(_) => {
                self.metrics.downloads.inc();
                self.metrics.downloaded_bytes.inc_by(file.len);
                self.note(name, part, file.len);
                self.make_room(name);
            }
            Err(_) => self.metrics.download_failures.inc(),
        }
        fetched
    }

    /// Notes whether the store answers. An object that is missing or damaged is an answer too.
    fn note_answer(&self, error: Option<&io::Error>) {
        let failure = match error.map(|error| (error.kind(), error)) {
            None | Some((io::ErrorKind::NotFound | io::ErrorKind::InvalidData, _)) => None,
            Some((_, error)) => Some(trefoil_runtime::tasks::chain(error)),
        };
        self.metrics.failing.set(i64::from(failure.is_some()));
        *self.failure.lock() = failure;
    }

    /// Why the last fetch failed, while the store does not answer.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    fn fetch(&self, file: &FileMeta, key: &str, path: &std::path::Path) -> io::Result<Bytes> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(TEMPORARY_SUFFIX);
        let temporary = PathBuf::from(temporary);
        if self.vfs.exists(&temporary) {
            self.vfs.remove_file(&temporary)?;
        }
        let mut output = self.vfs.create(&temporary)?;
        let mut found = 0;
        let fetched = for_each_chunk(&*self.options.objects, key, file.len, &mut |chunk| {
            self.outage.answered();
            found = crc32c::crc32c_append(found, chunk);
            output.write_all(chunk)
        });
        drop(output);
        let fetched = fetched.and_then(|()| {
            if found == file.crc32c {
                return Ok(());
            }
            Err(io::Error::new(io::ErrorKind::InvalidData, "the object does not have the checksum of its commit"))
        });
        // Not synced: after a power cut it is verified at its first use.
        if let Err(error) = fetched.and_then(|()| self.vfs.rename(&temporary, path)) {
            // The next start removes it.
            drop(self.vfs.remove_file(&temporary));
            return Err(error);
        }
        self.vfs.map(path)
    }

    /// Compares a cached file with its commit, and lets go of it when it is damaged; its next use fetches it again.
    /// Returns whether it was.
    pub(crate) fn forget_if_damaged(&self, part: PartId, file: &FileMeta) -> bool {
        let name = file_name(part, file);
        let path = self.dir.join(&name);
        if !self.state.lock().files.contains_key(&name) {
            return false;
        }
        let is_whole = |content: Bytes| content.len() as u64 == file.len && crc32c::crc32c(&content) == file.crc32c;
        if self.vfs.map(&path).is_ok_and(is_whole) {
            return false;
        }
        tracing::error!(path = %path.display(), "cached file of a part is damaged, fetching it again");
        self.forget(&name);
        // Whoever maps it lets go of it as of one that made room.
        self.evictions.fetch_add(1, Ordering::AcqRel);
        true
    }

    fn note(&self, name: &str, part: PartId, len: u64) {
        let mut state = self.state.lock();
        state.clock += 1;
        let cached = Cached { part, len, used: state.clock, is_verified: true };
        if state.files.insert(name.to_owned(), cached).is_none() {
            state.bytes += len;
        }
        self.metrics.cache_bytes.set(i64::try_from(state.bytes).unwrap_or(i64::MAX));
    }

    fn forget(&self, name: &str) {
        let mut state = self.state.lock();
        if let Some(cached) = state.files.remove(name) {
            state.bytes -= cached.len;
            self.metrics.cache_bytes.set(i64::try_from(state.bytes).unwrap_or(i64::MAX));
            // Should it stay, it is replaced or removed at the next start.
            if let Err(error) = self.vfs.remove_file(&self.dir.join(name)) {
                tracing::debug!(file = name, %error, "cached file was not removed");
            }
        }
    }

    /// Evicts files until the rest fits; not the one that was just asked for.
    fn make_room(&self, keep: &str) {
        loop {
            let oldest = {
                let state = self.state.lock();
                if state.bytes <= self.options.cache_bytes {
                    return;
                }
                let others = state.files.iter().filter(|(name, _)| *name != keep);
                others.min_by_key(|(_, cached)| cached.used).map(|(name, _)| name.clone())
            };
            let Some(oldest) = oldest else { return };
            self.forget(&oldest);
            self.evictions.fetch_add(1, Ordering::AcqRel);
            self.metrics.evictions.inc();
        }
    }

    /// Removes the files of parts that are not in the set any more.
    pub(crate) fn retain(&self, parts: &BTreeSet<PartId>) {
        let gone: Vec<String> = {
            let state = self.state.lock();
            let gone = state.files.iter().filter(|(_, cached)| !parts.contains(&cached.part));
            gone.map(|(name, _)| name.clone()).collect()
        };
        gone.iter().for_each(|name| self.forget(name));
    }
}
