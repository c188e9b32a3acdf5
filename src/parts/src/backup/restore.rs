//! From a backup to a data directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use trefoil_runtime::Vfs;
use trefoil_runtime::vfs::{create_dir_durable, parent_of};

use super::{BackupError, Backups, FileEntry, Manifest, failed};
use crate::commit_file::PART_COMMIT;
use crate::twin::{CATALOG, COPIES};

/// What was damaged in a backup that was restored all the same.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Files that are not there, because their objects are missing or have another length.
    pub left_out: Vec<BackupError>,
    /// Files that are there with wrong bytes.
    pub damaged: Vec<BackupError>,
    /// Second copies that are not there: what they are copies of is, so nothing is lost.
    pub second_copies: Vec<BackupError>,
}

/// What a file only repeats.
enum Repeats {
    /// Another file of the backup, by its path: a commit in the other folder, the journal beside a file of copies.
    File(String),
    /// The commits of its set: the one that a part carries.
    Commits,
}

/// What a file only repeats, if anything. See `FORMAT.md` of this crate and of the journal.
fn repeats(file: &FileEntry, paths: &BTreeSet<&str>) -> Option<Repeats> {
    let (folder, name) = file.path.rsplit_once('/')?;
    if name == PART_COMMIT {
        return Some(Repeats::Commits);
    }
    let other = match name.strip_suffix(".copies") {
        Some(stem) => format!("{folder}/{stem}.journal"),
        None => {
            let (above, folder) = folder.rsplit_once('/').unwrap_or(("", folder));
            let other = match folder {
                CATALOG => COPIES,
                COPIES => CATALOG,
                _ => return None,
            };
            format!("{above}/{other}/{name}")
        }
    };
    paths.contains(other.as_str()).then_some(Repeats::File(other))
}

fn is_commit(path: &str) -> bool {
    path.rsplit('/').nth(1).is_some_and(|folder| folder == CATALOG || folder == COPIES)
}

impl Backups<'_> {
    /// Writes the files of a backup to a directory that is missing or empty, verifying every checksum. The directory
    /// appears whole, by one rename, or not at all: a directory with the name and `.restore` appended is used before.
    ///
    /// A damaged object is an error, unless only second copies lie in it, which the first start writes anew. With
    /// `skip_damaged` it is none: what it is to hold is left out, or written as it is when its length is right, because the
    /// stores find the bad bytes by checksums of their own.
    pub fn restore(
        &self,
        vfs: &dyn Vfs,
        manifest: &Manifest,
        dir: &Path,
        skip_damaged: bool,
    ) -> Result<RestoreReport, BackupError> {
        if vfs.exists(dir) && !vfs.read_dir(dir).map_err(failed("list", dir.display()))?.is_empty() {
            return Err(BackupError::NotEmpty(dir.to_owned()));
        }
        let mut temporary = dir.as_os_str().to_owned();
        temporary.push(".restore");
        let temporary = PathBuf::from(temporary);
        if vfs.exists(&temporary) {
            vfs.remove_dir_all(&temporary).map_err(failed("remove", temporary.display()))?;
        }
        let restored = self.restore_files(vfs, manifest, &temporary, skip_damaged).and_then(|report| {
            if vfs.exists(dir) {
                // It is empty; a rename replaces files only.
                vfs.remove_dir_all(dir).map_err(failed("replace", dir.display()))?;
            }
            vfs.rename(&temporary, dir).map_err(failed("rename", temporary.display()))?;
            vfs.sync_dir(parent_of(dir)).map_err(failed("sync", parent_of(dir).display()))?;
            Ok(report)
        });
        if restored.is_err()
            && vfs.exists(&temporary)
            && let Err(error) = vfs.remove_dir_all(&temporary)
        {
            tracing::warn!(path = %temporary.display(), %error, "half a restore was not removed");
        }
        restored
    }

    fn restore_files(
        &self,
        vfs: &dyn Vfs,
        manifest: &Manifest,
        temporary: &Path,
        skip_damaged: bool,
    ) -> Result<RestoreReport, BackupError> {
        let mut report = RestoreReport::default();
        let paths: BTreeSet<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
        let (mut repeating, mut bad) = (Vec::new(), BTreeSet::new());
        create_dir_durable(vfs, temporary).map_err(failed("create", temporary.display()))?;
        let mut dirs = BTreeSet::from([temporary.to_owned()]);
        for file in &manifest.files {
            let path = temporary.join(&file.path);
            let parent = parent_of(&path);
            if !dirs.contains(parent) {
                vfs.create_dir_all(parent).map_err(failed("create", parent.display()))?;
                dirs.extend(parent.ancestors().take_while(|above| above.starts_with(temporary)).map(Path::to_owned));
            }
            let mut output = vfs.create(&path).map_err(failed("create", path.display()))?;
            let mut written = 0;
            let read = self.read(manifest, file, &mut |chunk| {
                written += chunk.len() as u64;
                output.write_all(chunk)
            });
            if let Err(error) = read {
                let repeats = repeats(file, &paths);
                if !matches!(error, BackupError::Object { .. }) || !(repeats.is_some() || skip_damaged) {
                    return Err(error);
                }
                bad.insert(file.path.as_str());
                if repeats.is_some() || written != file.len {
                    drop(output);
                    vfs.remove_file(&path).map_err(failed("remove", path.display()))?;
                    match repeats {
                        Some(repeats) => repeating.push((repeats, error)),
                        None => report.left_out.push(error),
                    }
                    continue;
                }
                report.damaged.push(error);
            }
            output.sync_all().map_err(failed("sync", path.display()))?;
        }
        // What repeats something is needed where that is not whole either.
        let is_lost = |repeats: &Repeats| matches!(repeats, Repeats::File(other) if bad.contains(other.as_str()));
        let has_lost_commits = repeating
            .iter()
            .any(|(repeats, _)| is_lost(repeats) && matches!(repeats, Repeats::File(p) if is_commit(p)));
        for (repeats, error) in repeating {
            let is_needed = is_lost(&repeats) || (has_lost_commits && matches!(repeats, Repeats::Commits));
            match (is_needed, skip_damaged) {
                (false, _) => report.second_copies.push(error),
                (true, true) => report.left_out.push(error),
                (true, false) => return Err(error),
            }
        }
        for dir in dirs.iter().rev() {
            vfs.sync_dir(dir).map_err(failed("sync", dir.display()))?;
        }
        Ok(report)
    }
}
