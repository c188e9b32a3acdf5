//! The catalog: commits in order, whose sum is the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::PartsError;
use crate::blob_store::{BlobStore, PutError};
use crate::commit_file::{self, CommitFile};
use crate::meta::{PartId, PartMeta};

/// Commits after which one is written as a snapshot of the whole state.
pub const COMMITS_PER_SNAPSHOT: u64 = 64;

/// The sum of all commits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CatalogState {
    /// The published parts.
    pub parts: BTreeMap<PartId, Arc<PartMeta>>,
    /// The journal position up to which the parts hold what was journaled: segment, offset.
    pub journal: Option<(u64, u64)>,
    /// Small values of the store.
    pub attributes: BTreeMap<String, String>,
    /// Every part so far has an id below.
    pub next_part: u64,
}

/// A change of the state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// Parts to publish.
    pub add: Vec<Arc<PartMeta>>,
    /// Parts to remove.
    pub remove: Vec<PartId>,
    /// New journal position; `None` leaves it.
    pub journal: Option<(u64, u64)>,
    /// Values to set; the others stay.
    pub attributes: BTreeMap<String, String>,
    /// As in [`CatalogState::next_part`].
    pub next_part: u64,
}

impl CatalogState {
    /// Applies a change.
    pub fn apply(&mut self, change: &Change) {
        for id in &change.remove {
            self.parts.remove(id);
        }
        for meta in &change.add {
            self.parts.insert(meta.id, Arc::clone(meta));
        }
        self.journal = change.journal.or(self.journal);
        self.attributes.extend(change.attributes.iter().map(|(name, value)| (name.clone(), value.clone())));
        self.next_part = self.next_part.max(change.next_part);
    }
}

/// Keeps the state of a set of parts.
pub trait Catalog: Send + Sync {
    /// Returns the committed state.
    fn state(&self) -> CatalogState;
    /// Makes a change durable, all of it or nothing. After [`PartsError::Unknown`] every commit errors.
    fn commit(&self, change: &Change) -> Result<(), PartsError>;
}

/// A catalog of commit objects in a [`BlobStore`].
pub struct LocalCatalog<B> {
    blobs: B,
    inner: Mutex<Inner>,
}

struct Inner {
    state: CatalogState,
    /// Number of the newest commit; 0 before the first.
    sequence: u64,
    /// Number of the newest snapshot; 0 before the first.
    snapshot: u64,
    outcome_unknown: bool,
}

impl<B: BlobStore> LocalCatalog<B> {
    /// Reads the commits. Errors when one that counts is damaged, missing or of another version.
    pub fn open(blobs: B) -> Result<Self, PartsError> {
        let (inner, replaced) = load(&blobs)?;
        let catalog = Self { blobs, inner: Mutex::new(inner) };
        catalog.delete_before(replaced.into_iter());
        Ok(catalog)
    }

    /// Reads the state as [`Self::open`] does and changes nothing.
    pub fn read(blobs: &B) -> Result<CatalogState, PartsError> {
        load(blobs).map(|(inner, _)| inner.state)
    }

    /// Removes commits that a snapshot replaced. A failure is logged: they do no harm.
    fn delete_before(&self, sequences: impl Iterator<Item = u64>) {
        for sequence in sequences {
            let name = commit_file::name(sequence);
            if let Err(error) = self.blobs.delete(&name) {
                tracing::warn!(commit = name, %error, "old commit was not removed");
            }
        }
    }
}

/// The sum of the commits, and the numbers of those that a snapshot replaced.
fn load(blobs: &impl BlobStore) -> Result<(Inner, Vec<u64>), PartsError> {
    let io = |action, name: &str, source| PartsError::Io { action, path: name.into(), source };
    let keys = blobs.list().map_err(|error| io("list", "catalog", error))?;
    let mut sequences: Vec<u64> = keys.iter().filter_map(|key| commit_file::parse_name(key)).collect();
    sequences.sort_unstable();
    let mut needed: Vec<CommitFile> = Vec::new();
    let mut older = sequences.as_slice();
    while let Some((sequence, rest)) = older.split_last() {
        if let Some(later) = needed.last()
            && later.sequence != sequence + 1
        {
            return Err(PartsError::MissingCommit { sequence: later.sequence - 1 });
        }
        let name = commit_file::name(*sequence);
        let bytes = blobs.get(&name).map_err(|error| io("read commit", &name, error))?;
        let commit = commit_file::decode(*sequence, &bytes)?;
        older = rest;
        let is_snapshot = commit.snapshot;
        needed.push(commit);
        if is_snapshot {
            break;
        }
    }
    if let Some(first) = needed.last()
        && !first.snapshot
        && first.sequence != 1
    {
        return Err(PartsError::MissingCommit { sequence: first.sequence - 1 });
    }
    let mut inner = Inner { state: CatalogState::default(), sequence: 0, snapshot: 0, outcome_unknown: false };
    for commit in needed.into_iter().rev() {
        inner.sequence = commit.sequence;
        if commit.snapshot {
            inner.snapshot = commit.sequence;
        }
        inner.state.apply(&Change {
            add: commit.add.into_iter().map(|record| Arc::new(record.into())).collect(),
            remove: commit.remove.into_iter().map(PartId).collect(),
            journal: commit.journal,
            attributes: commit.attributes,
            next_part: commit.next_part,
        });
    }
    Ok((inner, older.to_vec()))
}

impl<B: BlobStore> Catalog for LocalCatalog<B> {
    fn state(&self) -> CatalogState {
        self.inner.lock().state.clone()
    }

    fn commit(&self, change: &Change) -> Result<(), PartsError> {
        let mut inner = self.inner.lock();
        let sequence = inner.sequence + 1;
        if inner.outcome_unknown {
            return Err(PartsError::Unknown { sequence });
        }
        let mut next = inner.state.clone();
        next.apply(change);
        let snapshot = sequence >= inner.snapshot + COMMITS_PER_SNAPSHOT;
        let file = if snapshot {
            CommitFile {
                sequence,
                snapshot,
                add: next.parts.values().map(|meta| (&**meta).into()).collect(),
                // Nothing to the state: their folders may go.
                remove: change.remove.iter().map(|id| id.0).collect(),
                journal: next.journal,
                attributes: next.attributes.clone(),
                next_part: next.next_part,
                journal_start: None,
            }
        } else {
            CommitFile {
                sequence,
                snapshot,
                add: change.add.iter().map(|meta| (&**meta).into()).collect(),
                remove: change.remove.iter().map(|id| id.0).collect(),
                journal: change.journal,
                attributes: change.attributes.clone(),
                next_part: next.next_part,
                journal_start: None,
            }
        };
        let name = commit_file::name(sequence);
        match self.blobs.put_new(&name, &commit_file::encode(&file)) {
            Ok(()) => {}
            Err(PutError::Exists) => return Err(PartsError::Conflict { sequence }),
            Err(PutError::Failed(source)) => {
                return Err(PartsError::Io { action: "write commit", path: name.into(), source });
            }
            Err(PutError::Unknown(error)) => {
                inner.outcome_unknown = true;
                tracing::error!(commit = name, %error, "outcome of a commit is unknown, commits stop until a restart");
                return Err(PartsError::Unknown { sequence });
            }
        }
        let replaced = inner.snapshot.max(1)..sequence;
        inner.state = next;
        inner.sequence = sequence;
        if snapshot {
            inner.snapshot = sequence;
            drop(inner);
            self.delete_before(replaced);
        }
        Ok(())
    }
}
