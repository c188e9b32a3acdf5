//! A catalog made anew from what is left: the commits that can be read, and what the parts say of themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trefoil_model::TenantId;
use trefoil_runtime::SharedVfs;
use trefoil_runtime::vfs::{create_dir_durable, parent_of};

use crate::PartsError;
use crate::blob_store::{BlobStore, LocalFolder, PutError};
use crate::catalog::{CatalogState, Change};
use crate::commit_file::{self, CommitFile};
use crate::history::{self, JournalStart, Mark};
use crate::meta::{PartId, PartMeta};
use crate::orphans::{self, PartFolder};
use crate::twin::{self, Twin};

/// Where a part lies that no commit names and that says nothing of itself.
#[derive(Debug, Clone)]
pub struct PartPlace {
    /// Its folder.
    pub folder: PathBuf,
    /// As its path says.
    pub tenant: TenantId,
    /// As its path says.
    pub partition: i64,
    /// As its path says.
    pub id: PartId,
}

/// What the store knows of its own parts.
pub trait Describe {
    /// Reads what a part is from its files; parts of versions before 3 do not say. Errors with the reason.
    fn describe(&mut self, place: &PartPlace) -> Result<PartMeta, String>;

    /// Looks whether a part can be beside those that were taken before, the parts of the commits first. Errors with the
    /// reason why not; the part is then left where it is.
    fn admit(&mut self, _folder: &Path, _meta: &PartMeta) -> Result<(), String> {
        Ok(())
    }

    /// Looks at the state before it is written, and sets the values that follow from the parts.
    fn finish(&mut self, state: &mut CatalogState, adopted: &[Adopted]);
}

/// A part that no readable commit names and that is taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Its id.
    pub id: PartId,
    /// Where its files lie now.
    pub folder: PathBuf,
    /// Whether [`Describe::describe`] said what it is.
    pub is_described: bool,
    /// The journal position of the commit that published it, when that is lost and moved the position.
    pub journal: Option<(u64, u64)>,
}

/// How to repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepairOptions {
    /// Only tells.
    pub is_dry: bool,
    /// Takes in also what a start took for the left-over of a crash, although nothing else is damaged.
    pub with_leftovers: bool,
    /// Where the journal beside the set begins.
    pub journal: JournalStart,
}

/// What a repair found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Commits that could be read, those of the copies included.
    pub commits: usize,
    /// Commits that are damaged or missing in both folders.
    pub damaged_commits: Vec<String>,
    /// Parts that commits name and whose files are there.
    pub named: usize,
    /// Parts that are in the set again although no readable commit names them.
    pub adopted: Vec<PartId>,
    /// Parts that commits name and whose folders are gone.
    pub missing: Vec<PartId>,
    /// Folders that could not be taken in, with the reason. They are not touched.
    pub left: Vec<(PathBuf, String)>,
    /// Whether a new commit was written, or would be. Without it nothing needed a repair.
    pub is_needed: bool,
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PartsError {
    move |source| PartsError::Io { action, path: path.to_owned(), source }
}

/// Commits of both folders.
struct Commits {
    good: BTreeMap<u64, CommitFile>,
    /// Highest number of any file.
    newest: u64,
    bad_files: Vec<PathBuf>,
}

fn read_commits(vfs: &SharedVfs, dir: &Path) -> Result<Commits, PartsError> {
    let mut found = Commits { good: BTreeMap::new(), newest: 0, bad_files: Vec::new() };
    let mut newer = BTreeMap::new();
    for folder in [twin::CATALOG, twin::COPIES] {
        let folder = dir.join(folder);
        if !vfs.exists(&folder) {
            continue;
        }
        for entry in vfs.read_dir(&folder).map_err(io("list", &folder))? {
            let Some(sequence) = commit_file::parse_name(&entry.name) else { continue };
            let path = folder.join(&entry.name);
            found.newest = found.newest.max(sequence);
            let bytes = vfs.read(&path).map_err(io("read", &path))?;
            match commit_file::decode(sequence, &bytes) {
                Ok(commit) => {
                    found.good.entry(sequence).or_insert(commit);
                }
                Err(error @ PartsError::Version { .. }) => {
                    newer.insert(sequence, error);
                    found.bad_files.push(path);
                }
                Err(_) => found.bad_files.push(path),
            }
        }
    }
    // A changed byte can make a commit look like one of another version, but not both copies.
    if let Some((_, error)) = newer.into_iter().find(|(sequence, _)| !found.good.contains_key(sequence)) {
        return Err(error);
    }
    Ok(found)
}

fn change_of(commit: &CommitFile) -> Change {
    Change {
        add: commit.add.iter().map(|record| Arc::new(record.clone().into())).collect(),
        remove: commit.remove.iter().map(|id| PartId(*id)).collect(),
        journal: commit.journal,
        attributes: commit.attributes.clone(),
        next_part: commit.next_part,
    }
}

/// A part on the disk that may be taken in.
struct Candidate {
    folder: PartFolder,
    id: u64,
    meta: PartMeta,
    /// Number of its commit and what that removed and set; `None` for a described one.
    commit: Option<CommitFile>,
}

/// What a part's folder says, checked against its place and its files.
fn candidate(vfs: &SharedVfs, folder: &PartFolder, describe: &mut dyn Describe) -> Result<Candidate, String> {
    let (tenant, partition, id) = folder.parsed().ok_or("its path is not that of a part")?;
    if !folder.is_dir {
        return Err("it is not a folder".to_owned());
    }
    let own = vfs.read(&folder.path.join(commit_file::PART_COMMIT)).ok();
    let commit = own.and_then(|bytes| commit_file::decode_any(commit_file::PART_COMMIT, &bytes).ok());
    let own = commit.as_ref().and_then(|commit| Some(PartMeta::from(commit.add.first()?.clone())));
    let meta = match own {
        Some(meta) => meta,
        None => {
            let place = PartPlace { folder: folder.path.clone(), tenant: TenantId(tenant), partition, id: PartId(id) };
            describe.describe(&place)?
        }
    };
    if (meta.tenant.0, meta.partition, meta.id.0) != (tenant, partition, id) {
        return Err(format!("it is a copy of part {} of tenant {}", meta.id, meta.tenant.0));
    }
    for file in &meta.files {
        match vfs.len(&folder.path.join(&file.name)) {
            Ok(len) if len == file.len => {}
            Ok(len) => return Err(format!("file {} has {len} bytes instead of {}", file.name, file.len)),
            Err(error) => return Err(format!("file {}: {error}", file.name)),
        }
    }
    Ok(Candidate { folder: folder.clone(), id, meta, commit })
}

/// Writes a commit that names every part which is there, so that the set opens again. Damaged commits are kept aside
/// under another name; no part is removed. Nobody else may have the set open.
///
/// Parts that no readable commit names are taken in only when commits are missing or parts are, or when that is asked for: a
/// folder that a crash left before its commit holds nothing that is not elsewhere.
pub fn repair(
    vfs: &SharedVfs,
    dir: &Path,
    describe: &mut dyn Describe,
    options: RepairOptions,
) -> Result<RepairReport, PartsError> {
    let commits = read_commits(vfs, dir)?;
    let mut report = RepairReport { commits: commits.good.len(), ..RepairReport::default() };
    // The newest whole state, and all changes after it that can be read.
    let base = commits.good.values().rev().find(|commit| commit.snapshot).map_or(0, |commit| commit.sequence);
    let mut state = CatalogState::default();
    let mut removed: BTreeSet<u64> = BTreeSet::new();
    for commit in commits.good.range(base..).map(|(_, commit)| commit) {
        state.apply(&change_of(commit));
        removed.extend(&commit.remove);
        for id in commit.part_ids() {
            removed.remove(&id);
        }
    }
    for sequence in base.max(1)..=commits.newest {
        if !commits.good.contains_key(&sequence) {
            report.damaged_commits.push(commit_file::name(sequence));
        }
    }
    let parts_dir = dir.join("parts");
    let mut folders: Vec<(PartFolder, bool)> = match vfs.exists(&parts_dir) {
        true => orphans::list(&**vfs, &parts_dir).map_err(io("list", &parts_dir))?,
        false => Vec::new(),
    }
    .into_iter()
    .map(|folder| (folder, true))
    .collect();
    let lost = orphans::list_lost(&**vfs, dir).map_err(io("list", &dir.join(orphans::LOST)))?;
    let has_damage = lost.iter().any(|(_, is_damage)| *is_damage);
    folders.extend(lost.into_iter().map(|(folder, _)| (folder, false)));
    let mut in_place: BTreeSet<u64> = BTreeSet::new();
    for (folder, _) in folders.iter().filter(|(_, is_in_place)| *is_in_place) {
        in_place.extend(folder.parsed().map(|(_, _, id)| id));
    }
    let is_gone = |meta: &Arc<PartMeta>| !meta.is_remote() && !in_place.contains(&meta.id.0);
    let gone: BTreeSet<u64> = state.parts.values().filter(|meta| is_gone(meta)).map(|meta| meta.id.0).collect();
    let mark = Mark::read(&**vfs, dir).map_err(io("read", &dir.join(history::MARK)))?;
    let has_none = commits.newest == 0 && (!folders.is_empty() || mark == Mark::Committed);
    let is_unnamed = |folder: &PartFolder| {
        folder.parsed().is_none_or(|(_, _, id)| !state.parts.contains_key(&PartId(id)) && !removed.contains(&id))
    };
    let is_newest_lost = folders.iter().any(|(folder, is_in_place)| {
        *is_in_place
            && is_unnamed(folder)
            && history::commit_of(&**vfs, folder)
                .is_some_and(|commit| history::is_commit_lost(&commit, commits.newest, options.journal))
    });
    let has_leftovers = options.with_leftovers && folders.iter().any(|(folder, _)| is_unnamed(folder));
    let is_incomplete = !report.damaged_commits.is_empty()
        || !gone.is_empty()
        || has_damage
        || has_none
        || is_newest_lost
        || has_leftovers;
    report.is_needed = is_incomplete || !commits.bad_files.is_empty();

    let mut candidates: BTreeMap<u64, Candidate> = BTreeMap::new();
    for (folder, is_in_place) in folders.iter().filter(|_| is_incomplete) {
        let id = folder.parsed().map(|(_, _, id)| id);
        let is_named = id.is_some_and(|id| state.parts.contains_key(&PartId(id)));
        if (is_named && (*is_in_place || id.is_some_and(|id| in_place.contains(&id))))
            || id.is_some_and(|id| removed.contains(&id))
        {
            continue;
        }
        match candidate(vfs, folder, describe) {
            Ok(found) => {
                candidates.entry(found.id).or_insert(found);
            }
            Err(reason) => report.left.push((folder.path.clone(), reason)),
        }
    }
    let mut ordered: Vec<&Candidate> = candidates.values().collect();
    ordered.sort_by_key(|c| (c.commit.as_ref().map_or(0, |commit| commit.sequence), c.id));
    let place = |names: [&str; 2]| parts_dir.join(names[0]).join(names[1]);
    if !ordered.is_empty() {
        for meta in state.parts.values().filter(|meta| !meta.is_remote() && in_place.contains(&meta.id.0)) {
            let folder = place([&meta.tenant.0.to_string(), &meta.partition.to_string()]);
            // A commit names it: it is there, whatever is said of it.
            drop(describe.admit(&folder.join(format!("{:020}", meta.id.0)), meta));
        }
    }
    ordered.retain(|c| match describe.admit(&c.folder.path, &c.meta) {
        Ok(()) => true,
        Err(reason) => {
            report.left.push((c.folder.path.clone(), reason));
            false
        }
    });
    let newest_good = commits.good.keys().next_back().copied().unwrap_or(0);
    let mut replaced: BTreeSet<u64> = BTreeSet::new();
    for c in &ordered {
        let Some(commit) = &c.commit else { continue };
        replaced.extend(&commit.remove);
        if commit.sequence > newest_good {
            state.attributes.extend(commit.attributes.clone());
            state.next_part = state.next_part.max(commit.next_part);
        }
    }
    for id in &replaced {
        state.parts.remove(&PartId(*id));
    }
    let mut adopted = Vec::new();
    let mut moves = Vec::new();
    for c in ordered.iter().filter(|c| !replaced.contains(&c.id)) {
        let meta = Arc::new(c.meta.clone());
        report.adopted.push(meta.id);
        let journal =
            c.commit.as_ref().filter(|commit| commit.sequence > newest_good).and_then(|commit| commit.journal);
        let folder = c.folder.path.clone();
        adopted.push(Adopted { id: meta.id, folder, is_described: c.commit.is_none(), journal });
        let to = place([&c.folder.place[0], &c.folder.place[1]]);
        moves.push((c.folder.path.clone(), to.join(format!("{:020}", c.id))));
        state.parts.insert(meta.id, meta);
    }
    for id in gone {
        if !report.adopted.contains(&PartId(id)) && state.parts.remove(&PartId(id)).is_some() {
            report.missing.push(PartId(id));
        }
    }
    report.named = state.parts.len() - report.adopted.len();
    let highest = state.parts.keys().next_back().map_or(0, |id| id.0);
    let highest = folders.iter().filter_map(|(folder, _)| folder.parsed()).map(|p| p.2).fold(highest, u64::max);
    state.next_part = state.next_part.max(highest.saturating_add(1));
    describe.finish(&mut state, &adopted);
    if options.is_dry || !report.is_needed {
        return Ok(report);
    }
    let highest_copy = ordered.iter().filter_map(|c| Some(c.commit.as_ref()?.sequence)).max().unwrap_or(0);
    let sequence = commits.newest.max(highest_copy) + 1;
    removed.extend(&replaced);
    write(vfs, dir, &commits.bad_files, &moves, &state, removed, sequence)?;
    Ok(report)
}

fn write(
    vfs: &SharedVfs,
    dir: &Path,
    bad_files: &[PathBuf],
    moves: &[(PathBuf, PathBuf)],
    state: &CatalogState,
    removed: BTreeSet<u64>,
    sequence: u64,
) -> Result<(), PartsError> {
    for (from, to) in moves.iter().filter(|(from, to)| from != to) {
        let above = parent_of(to);
        create_dir_durable(&**vfs, above).map_err(io("create", above))?;
        vfs.rename(from, to).map_err(io("move", from))?;
        vfs.sync_dir(above).map_err(io("sync", above))?;
    }
    for path in bad_files {
        let mut aside = path.as_os_str().to_owned();
        aside.push(twin::DAMAGED_SUFFIX);
        vfs.rename(path, Path::new(&aside)).map_err(io("rename", path))?;
    }
    let commit = CommitFile {
        sequence,
        snapshot: true,
        add: state.parts.values().map(|meta| (&**meta).into()).collect(),
        remove: removed.into_iter().filter(|id| !state.parts.contains_key(&PartId(*id))).collect(),
        journal: state.journal,
        attributes: state.attributes.clone(),
        next_part: state.next_part,
        journal_start: None,
    };
    let folder = dir.join(twin::CATALOG);
    LocalFolder::open(Arc::clone(vfs), folder.clone()).map_err(io("open", &folder))?;
    let folders = Twin::open(Arc::clone(vfs), dir, "repair").map_err(io("open", &folder))?;
    let name = commit_file::name(sequence);
    folders.put_new(&name, &commit_file::encode(&commit)).map_err(|error| match error {
        PutError::Exists => PartsError::Conflict { sequence },
        PutError::Failed(source) | PutError::Unknown(source) => {
            PartsError::Io { action: "write commit", path: folder.join(name), source }
        }
    })
}
