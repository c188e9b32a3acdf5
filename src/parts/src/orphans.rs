//! Folders of parts that no commit names: what is provably of no use is removed, all else is kept aside.

use std::io;
use std::path::{Path, PathBuf};

use trefoil_runtime::Vfs;
use trefoil_runtime::vfs::{create_dir_durable, parent_of};

use crate::catalog::COMMITS_PER_SNAPSHOT;

/// Folder of what is kept aside.
pub(crate) const LOST: &str = "lost";
/// Folders in it, with the number of the newest commit then: what a crash left before its commit …
const LEFT_OVER: &str = "leftover-";
/// … and what was found beside damage, which is never removed.
const DAMAGE: &str = "damage-";
/// Commits after which what a crash left is removed.
const KEPT_COMMITS: u64 = COMMITS_PER_SNAPSHOT;

/// The folder of a part, wherever it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartFolder {
    pub(crate) path: PathBuf,
    /// `<tenant>/<partition>/<id>` as they are named.
    pub(crate) place: [String; 3],
    pub(crate) is_dir: bool,
}

impl PartFolder {
    /// Tenant, partition and id; `None` when a name is not one that this version writes.
    pub(crate) fn parsed(&self) -> Option<(u32, i64, u64)> {
        let [tenant, partition, id] = &self.place;
        Some((tenant.parse().ok()?, partition.parse().ok()?, id.parse().ok()?))
    }
}

/// Lists the folders of parts below `parts`: tenant, partition, part.
pub(crate) fn list(vfs: &dyn Vfs, parts: &Path) -> io::Result<Vec<PartFolder>> {
    let mut found = Vec::new();
    for tenant in vfs.read_dir(parts)?.into_iter().filter(|entry| entry.is_dir) {
        let tenant_dir = parts.join(&tenant.name);
        for partition in vfs.read_dir(&tenant_dir)?.into_iter().filter(|entry| entry.is_dir) {
            let partition_dir = tenant_dir.join(&partition.name);
            for part in vfs.read_dir(&partition_dir)? {
                found.push(PartFolder {
                    path: partition_dir.join(&part.name),
                    place: [tenant.name.clone(), partition.name.clone(), part.name],
                    is_dir: part.is_dir,
                });
            }
        }
    }
    Ok(found)
}

/// Lists the parts that are kept aside in a set; second, whether each was found beside damage.
pub(crate) fn list_lost(vfs: &dyn Vfs, dir: &Path) -> io::Result<Vec<(PartFolder, bool)>> {
    let lost = dir.join(LOST);
    let mut found = Vec::new();
    if vfs.exists(&lost) {
        for entry in vfs.read_dir(&lost)?.into_iter().filter(|entry| entry.is_dir) {
            let is_damage = !entry.name.starts_with(LEFT_OVER);
            found.extend(list(vfs, &lost.join(&entry.name))?.into_iter().map(|folder| (folder, is_damage)));
        }
    }
    Ok(found)
}

/// Moves a part folder to where nothing touches it. Returns its new path.
pub(crate) fn set_aside(
    vfs: &dyn Vfs,
    dir: &Path,
    folder: &PartFolder,
    newest: u64,
    is_damage: bool,
) -> io::Result<PathBuf> {
    let kind = if is_damage { DAMAGE } else { LEFT_OVER };
    let mut above = dir.join(LOST).join(format!("{kind}{newest:020}"));
    above.extend(&folder.place[..2]);
    create_dir_durable(vfs, &above)?;
    let mut path = above.join(&folder.place[2]);
    let mut attempt = 0;
    while vfs.exists(&path) {
        attempt += 1;
        path = above.join(format!("{}.{attempt}", folder.place[2]));
    }
    vfs.rename(&folder.path, &path)?;
    vfs.sync_dir(&above)?;
    vfs.sync_dir(parent_of(&folder.path))?;
    Ok(path)
}

/// Removes what crashes left long ago: the store has gone on without it for many commits. Returns the folders.
pub(crate) fn remove_old(vfs: &dyn Vfs, dir: &Path, newest: u64) -> io::Result<Vec<PathBuf>> {
    let lost = dir.join(LOST);
    let mut removed = Vec::new();
    if vfs.exists(&lost) {
        for entry in vfs.read_dir(&lost)? {
            let number = entry.name.strip_prefix(LEFT_OVER).and_then(|number| number.parse::<u64>().ok());
            if number.is_some_and(|number| number.saturating_add(KEPT_COMMITS) <= newest) {
                let path = lost.join(&entry.name);
                vfs.remove_dir_all(&path)?;
                removed.push(path);
            }
        }
    }
    Ok(removed)
}
