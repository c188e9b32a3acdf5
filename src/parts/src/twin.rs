//! Commits kept twice, in two folders: neither a changed byte nor a lost folder loses the catalog.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::Mutex;
use trefoil_runtime::SharedVfs;

use crate::blob_store::{BlobStore, LocalFolder, PutError};
use crate::commit_file::{self, CommitFile};
use crate::metrics;

/// Folder of the commits.
pub(crate) const CATALOG: &str = "catalog";
/// Folder of their copies.
pub(crate) const COPIES: &str = "catalog-copies";
/// Ending of a damaged commit that was kept aside.
pub(crate) const DAMAGED_SUFFIX: &str = ".damaged";

/// Two folders of the same commits. A commit counts once it is in the first; the second follows.
pub(crate) struct Twin {
    vfs: SharedVfs,
    dir: PathBuf,
    store: &'static str,
    first: LocalFolder,
    second: LocalFolder,
    seen: Seen,
    findings: Mutex<Vec<String>>,
}

/// What the commits say beside the state.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// Highest number of a commit, readable or not; 0 without any.
    pub(crate) newest: u64,
    /// Parts that a commit removed.
    pub(crate) removed: BTreeSet<u64>,
}

fn is_intact(sequence: u64, bytes: &[u8]) -> bool {
    // One of another version is intact and an error that must be seen.
    !matches!(commit_file::decode(sequence, bytes), Err(crate::PartsError::CorruptCommit { .. }))
}

/// The commits of one folder, read.
fn read_all(folder: &LocalFolder) -> io::Result<std::collections::BTreeMap<u64, io::Result<Bytes>>> {
    let keys = folder.list()?;
    let sequences = keys.iter().filter_map(|key| commit_file::parse_name(key));
    Ok(sequences.map(|sequence| (sequence, folder.get(&commit_file::name(sequence)))).collect())
}

impl Twin {
    /// Opens both folders in the directory of a set, making them when they are missing, and brings each up to the other:
    /// a commit that is damaged or missing in one is written again from the other. What cannot be mended is left to
    /// whoever reads it.
    pub(crate) fn open(vfs: SharedVfs, dir: &Path, store: &'static str) -> io::Result<Self> {
        let first = LocalFolder::open(SharedVfs::clone(&vfs), dir.join(CATALOG))?;
        let second = LocalFolder::open(SharedVfs::clone(&vfs), dir.join(COPIES))?;
        let (a, b) = (read_all(&first)?, read_all(&second)?);
        let mut twin =
            Self { vfs, dir: dir.to_owned(), store, first, second, seen: Seen::default(), findings: Mutex::default() };
        let intact = |sequence: u64, found: Option<&io::Result<Bytes>>| -> Option<Bytes> {
            found.and_then(|bytes| bytes.as_ref().ok()).filter(|bytes| is_intact(sequence, bytes)).cloned()
        };
        let all: BTreeSet<u64> = a.keys().chain(b.keys()).copied().collect();
        twin.seen.newest = all.last().copied().unwrap_or(0);
        let mut snapshot = 0;
        for sequence in &all {
            let bytes = intact(*sequence, a.get(sequence)).or_else(|| intact(*sequence, b.get(sequence)));
            if let Some(commit) = bytes.and_then(|bytes| commit_file::decode(*sequence, &bytes).ok()) {
                twin.note(&commit, &mut snapshot);
            }
        }
        // Older ones were replaced by a snapshot: a crash may have removed them from one folder only.
        for sequence in all.range(snapshot..) {
            let (in_first, in_second) = (a.get(sequence), b.get(sequence));
            match (intact(*sequence, in_first), intact(*sequence, in_second)) {
                (None, Some(bytes)) => twin.mend_first(*sequence, in_first, &bytes),
                (Some(bytes), None) => twin.mend_second(*sequence, in_second, &bytes),
                _ => {}
            }
        }
        Ok(twin)
    }

    fn note(&mut self, commit: &CommitFile, snapshot: &mut u64) {
        if commit.snapshot {
            *snapshot = commit.sequence;
        }
        for id in &commit.remove {
            self.seen.removed.insert(*id);
        }
        // The same id can be added again: a part that moved.
        for id in commit.part_ids() {
            self.seen.removed.remove(&id);
        }
    }

    /// What the commits say beside the state, as they were found.
    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// What was wrong and is mended.
    pub(crate) fn findings(&self) -> Vec<String> {
        self.findings.lock().clone()
    }

    fn report(&self, folder: &str, sequence: u64, found: Option<&io::Result<Bytes>>) {
        let what = match found {
            None => "is missing".to_owned(),
            Some(Ok(_)) => "is damaged".to_owned(),
            Some(Err(error)) => format!("cannot be read: {error}"),
        };
        let file = self.dir.join(folder).join(commit_file::name(sequence));
        metrics::damaged_commit(self.store);
        tracing::error!(store = self.store, file = %file.display(), what, "commit is damaged, its copy stands in");
        self.findings.lock().push(format!("commit {} {what}, its copy stands in", file.display()));
    }

    /// Keeps what is there aside and writes the commit anew.
    fn replace(&self, folder: &LocalFolder, name: &str, in_folder: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.dir.join(in_folder).join(name);
        if self.vfs.exists(&path) {
            self.vfs.rename(&path, &self.dir.join(in_folder).join(format!("{name}{DAMAGED_SUFFIX}")))?;
        }
        folder.put_new(name, bytes).map_err(|error| match error {
            PutError::Exists => io::ErrorKind::AlreadyExists.into(),
            PutError::Failed(error) | PutError::Unknown(error) => error,
        })
    }

    fn mend_first(&self, sequence: u64, found: Option<&io::Result<Bytes>>, bytes: &[u8]) {
        self.report(CATALOG, sequence, found);
        // A file that could not be read may be whole.
        if self.vfs.is_read_only() || matches!(found, Some(Err(_))) {
            return;
        }
        let name = commit_file::name(sequence);
        if let Err(error) = self.replace(&self.first, &name, CATALOG, bytes) {
            tracing::warn!(store = self.store, commit = name, %error, "commit was not written again");
        }
    }

    fn mend_second(&self, sequence: u64, found: Option<&io::Result<Bytes>>, bytes: &[u8]) {
        match found {
            // Directories of earlier versions have no copies; a crash may have been faster than the copy.
            None => {}
            found => self.report(COPIES, sequence, found),
        }
        if self.vfs.is_read_only() || matches!(found, Some(Err(_))) {
            return;
        }
        let name = commit_file::name(sequence);
        if let Err(error) = self.replace(&self.second, &name, COPIES, bytes) {
            tracing::warn!(store = self.store, commit = name, %error, "copy of a commit was not written");
        }
    }
}

impl BlobStore for Twin {
    fn put_new(&self, key: &str, content: &[u8]) -> Result<(), PutError> {
        self.first.put_new(key, content)?;
        // It is committed. Without a copy one is written when the set is opened again.
        if let Err(error) = self.replace(&self.second, key, COPIES, content) {
            tracing::warn!(store = self.store, commit = key, %error, "copy of a commit was not written");
        }
        Ok(())
    }

    fn get(&self, key: &str) -> io::Result<Bytes> {
        let first = self.first.get(key);
        let Some(sequence) = commit_file::parse_name(key) else { return first };
        if matches!(&first, Ok(bytes) if is_intact(sequence, bytes)) {
            return first;
        }
        match self.second.get(key) {
            Ok(bytes) if is_intact(sequence, &bytes) => Ok(bytes),
            _ => first,
        }
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        // The copy first: one that is left over would pass for a commit that the first folder lost.
        for (folder, name) in [(&self.second, COPIES), (&self.first, CATALOG)] {
            if self.vfs.exists(&self.dir.join(name).join(key)) {
                folder.delete(key)?;
            }
        }
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut keys = self.first.list()?;
        keys.extend(self.second.list()?);
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }
}
