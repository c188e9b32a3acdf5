//! What is kept twice so that one loss is none: whether the second copies are there and whole. Nobody needs them until
//! the first are lost, so only a check that is asked for looks. And whether the files of parts are what their commits say.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use trefoil_runtime::SharedVfs;

use crate::PartsError;
use crate::at_rest;
use crate::catalog::CatalogState;
use crate::commit_file::{self, PART_COMMIT};
use crate::history::{self, Mark};
use crate::meta::PartMeta;
use crate::twin::{CATALOG, COPIES};

/// What a look at the second copies found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redundancy {
    /// What is damaged or missing, each with its path.
    pub lost: Vec<String>,
    /// Parts here that have no commit of their own. Those of earlier versions and of some backups never had one.
    pub without_commit: u64,
}

/// Looks whether the commits of a set lie in both folders, and whether the parts carry the commits that published them.
/// Changes nothing.
pub fn check(vfs: &SharedVfs, dir: &Path) -> Result<Redundancy, PartsError> {
    let mut found = Redundancy::default();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PartsError::Io { action: "look at", path, source }
    };
    let mark = Mark::read(&**vfs, dir).map_err(failed(dir))?;
    // Sets of earlier versions have no copies until they are opened to be written.
    if mark == Mark::Damaged {
        let path = dir.join(history::MARK);
        found.lost.push(format!("{}: what says whether commits were made is damaged", path.display()));
    }
    check_content(vfs, dir, &mut found).map_err(failed(dir))?;
    if mark == Mark::Committed {
        check_copies(vfs, dir, &mut found).map_err(failed(&dir.join(COPIES)))?;
    }
    let state = at_rest::read_state(vfs, dir)?;
    check_parts(vfs, dir, &state, &mut found);
    Ok(found)
}

/// Returns whether a set was at work and had commits, so that what lies beside it was there too. Copies of sets (snapshots)
/// were not, until they are opened to be written.
pub fn was_at_work(vfs: &SharedVfs, dir: &Path) -> bool {
    matches!(Mark::read(&**vfs, dir), Ok(Mark::Committed))
}

/// Returns whether a set was ever opened to be written, whether it has commits or not.
pub fn was_opened(vfs: &SharedVfs, dir: &Path) -> bool {
    matches!(Mark::read(&**vfs, dir), Ok(Mark::New | Mark::Committed | Mark::Damaged))
}

/// Value of a set: the journal position of which it was told, or is known, that there is no journal to it.
pub const JOURNAL_GONE: &str = "journal_gone";

/// Returns the text of [`JOURNAL_GONE`] for a position.
pub fn journal_gone(position: (u64, u64)) -> String {
    format!("{}:{}", position.0, position.1)
}

/// Returns whether a set that [`was_at_work`] has a journal beside it, by its journal position and its values.
pub fn needs_journal(journal: Option<(u64, u64)>, attributes: &BTreeMap<String, String>) -> bool {
    journal.is_some_and(|at| at.0 > 0 && attributes.get(JOURNAL_GONE) != Some(&journal_gone(at)))
}

/// Ranges of bytes of a file that are damaged, each with what lies there.
pub type DamagedRanges = Vec<(Range<u64>, String)>;

/// Compares every file of the parts of a set that lie here with what its commit says; returns what is wrong, each with its
/// path. Reads all of them. `damage_of` says of the content of a file with a wrong checksum where in it the damage is, and
/// what lies there, as far as it can be known. For stores that nobody opened; see also [`crate::PartSet::verify`].
pub fn check_files(
    vfs: &SharedVfs,
    dir: &Path,
    damage_of: &dyn Fn(&[u8]) -> DamagedRanges,
) -> Result<Vec<String>, PartsError> {
    let state = at_rest::read_state(vfs, dir)?;
    let mut found = Vec::new();
    for meta in state.parts.values().filter(|meta| !meta.is_remote()) {
        let folder = folder_of(dir, meta);
        for file in &meta.files {
            let path = folder.join(&file.name);
            let fault = match vfs.map(&path) {
                Ok(content) if content.len() as u64 != file.len => {
                    format!("has {} bytes instead of {}", content.len(), file.len)
                }
                Ok(content) if crc32c::crc32c(&content) == file.crc32c => continue,
                Ok(content) => {
                    let ranges = damage_of(&content);
                    for (Range { start, end }, what) in &ranges {
                        let path = path.display();
                        found.push(format!("{path}: bytes {start}..{end} of part {} are damaged: {what}", meta.id));
                    }
                    if !ranges.is_empty() {
                        continue;
                    }
                    "does not have the checksum of its commit".to_owned()
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => "is missing".to_owned(),
                Err(error) => format!("cannot be read: {error}"),
            };
            found.push(format!("{}: the file of part {} {fault}", path.display(), meta.id));
        }
    }
    Ok(found)
}

/// Where the files of a part that lies here are.
fn folder_of(dir: &Path, meta: &PartMeta) -> PathBuf {
    let folder = [meta.tenant.0.to_string(), meta.partition.to_string(), format!("{:020}", meta.id.0)];
    folder.iter().fold(dir.join("parts"), |path, name| path.join(name))
}

/// Looks whether the commits of both folders can be read.
fn check_content(vfs: &SharedVfs, dir: &Path, found: &mut Redundancy) -> io::Result<()> {
    for folder in [CATALOG, COPIES] {
        for number in numbers(vfs, &dir.join(folder))?.unwrap_or_default() {
            let path = dir.join(folder).join(commit_file::name(number));
            let fault = match vfs.read(&path) {
                Ok(bytes) => match commit_file::decode(number, &bytes) {
                    Ok(_) => continue,
                    Err(PartsError::CorruptCommit { reason, .. }) => format!("is damaged: {reason}"),
                    Err(error) => format!("cannot be read: {error}"),
                },
                Err(error) => format!("cannot be read: {error}"),
            };
            found.lost.push(format!("{}: the commit {fault}", path.display()));
        }
    }
    Ok(())
}

/// The numbers of the commits in a folder; `None` when there is no such folder.
fn numbers(vfs: &SharedVfs, folder: &Path) -> io::Result<Option<BTreeSet<u64>>> {
    if !vfs.exists(folder) {
        return Ok(None);
    }
    let files = vfs.read_dir(folder)?.into_iter().filter(|entry| !entry.is_dir);
    Ok(Some(files.filter_map(|entry| commit_file::parse_name(&entry.name)).collect()))
}

fn check_copies(vfs: &SharedVfs, dir: &Path, found: &mut Redundancy) -> io::Result<()> {
    let (first, second) = (numbers(vfs, &dir.join(CATALOG))?, numbers(vfs, &dir.join(COPIES))?);
    let Some(copies) = second else {
        found.lost.push(format!("{}: the copies of the commits are missing", dir.join(COPIES).display()));
        return Ok(());
    };
    let first = first.unwrap_or_default();
    // The newest one may have been cut off by a crash before its copy, and old ones while they were removed.
    let newest = first.last().copied().unwrap_or(0);
    let oldest = copies.first().copied().unwrap_or(0);
    for number in first.iter().filter(|number| !copies.contains(number) && **number != newest) {
        if *number < oldest && is_replaced(vfs, dir, *number, &first) {
            continue;
        }
        let path = dir.join(COPIES).join(commit_file::name(*number));
        found.lost.push(format!("{}: the copy of the commit is missing", path.display()));
    }
    Ok(())
}

/// Whether a later commit is a snapshot, so that this one is of no use.
fn is_replaced(vfs: &SharedVfs, dir: &Path, number: u64, all: &BTreeSet<u64>) -> bool {
    all.range(number + 1..).any(|later| {
        let bytes = vfs.read(&dir.join(CATALOG).join(commit_file::name(*later)));
        bytes.is_ok_and(|bytes| commit_file::decode(*later, &bytes).is_ok_and(|commit| commit.snapshot))
    })
}

fn check_parts(vfs: &SharedVfs, dir: &Path, state: &CatalogState, found: &mut Redundancy) {
    for meta in state.parts.values().filter(|meta| !meta.is_remote()) {
        let path = folder_of(dir, meta).join(PART_COMMIT);
        if !vfs.exists(&path) {
            found.without_commit += 1;
            continue;
        }
        let fault = match vfs.read(&path) {
            Ok(bytes) => fault_of(&bytes, meta),
            Err(error) => Some(format!("cannot be read: {error}")),
        };
        if let Some(fault) = fault {
            found.lost.push(format!("{}: the commit that the part carries {fault}", path.display()));
        }
    }
}

fn fault_of(bytes: &[u8], meta: &PartMeta) -> Option<String> {
    match commit_file::decode_any(PART_COMMIT, bytes) {
        Ok(commit) if commit.part_ids().any(|id| id == meta.id.0) => None,
        Ok(_) => Some("is that of another part".to_owned()),
        Err(PartsError::CorruptCommit { reason, .. }) => Some(format!("is damaged: {reason}")),
        Err(error) => Some(format!("cannot be read: {error}")),
    }
}
