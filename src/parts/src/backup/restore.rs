//! From a backup to a data directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use trefoil_runtime::Vfs;
use trefoil_runtime::vfs::{create_dir_durable, parent_of};

use super::{BackupError, Backups, Manifest, failed};

impl Backups<'_> {
    /// Writes the files of a backup to a directory that is missing or empty, verifying every checksum. The directory
    /// appears whole, by one rename, or not at all: a directory with the name and `.restore` appended is used before.
    pub fn restore(&self, vfs: &dyn Vfs, manifest: &Manifest, dir: &Path) -> Result<(), BackupError> {
        if vfs.exists(dir) && !vfs.read_dir(dir).map_err(failed("list", dir.display()))?.is_empty() {
            return Err(BackupError::NotEmpty(dir.to_owned()));
        }
        let mut temporary = dir.as_os_str().to_owned();
        temporary.push(".restore");
        let temporary = PathBuf::from(temporary);
        if vfs.exists(&temporary) {
            vfs.remove_dir_all(&temporary).map_err(failed("remove", temporary.display()))?;
        }
        let restored = self.restore_files(vfs, manifest, &temporary).and_then(|()| {
            if vfs.exists(dir) {
                // It is empty; a rename replaces files only.
                vfs.remove_dir_all(dir).map_err(failed("replace", dir.display()))?;
            }
            vfs.rename(&temporary, dir).map_err(failed("rename", temporary.display()))?;
            vfs.sync_dir(parent_of(dir)).map_err(failed("sync", parent_of(dir).display()))
        });
        if restored.is_err()
            && vfs.exists(&temporary)
            && let Err(error) = vfs.remove_dir_all(&temporary)
        {
            tracing::warn!(path = %temporary.display(), %error, "half a restore was not removed");
        }
        restored
    }

    fn restore_files(&self, vfs: &dyn Vfs, manifest: &Manifest, temporary: &Path) -> Result<(), BackupError> {
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
            self.read(manifest, file, &mut |chunk| output.write_all(chunk))?;
            output.sync_all().map_err(failed("sync", path.display()))?;
        }
        for dir in dirs.iter().rev() {
            vfs.sync_dir(dir).map_err(failed("sync", dir.display()))?;
        }
        Ok(())
    }
}
