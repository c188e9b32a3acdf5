//! Incremental backups of a data directory at rest: files as objects named by their content, and one manifest a backup.
//!
//! See "Backups" in `FORMAT.md`. A file that was backed up before is not sent again. The manifest is written last, so a
//! backup is there whole or not at all.

mod manifest;
mod restore;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use trefoil_runtime::{Vfs, data_dir};

pub use manifest::{FileEntry, Manifest};

use crate::objects::{Objects, for_each_chunk};

/// Folder of the objects.
const OBJECTS: &str = "objects";
/// Folder of the manifests.
const MANIFESTS: &str = "backups";
/// Ending of a manifest.
const MANIFEST_SUFFIX: &str = ".manifest";
/// Most files of a backup.
const FILES_MAX: usize = 1_000_000;

/// Why a backup could not be made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or an object could not be read or written.
    #[error("{action} {name}")]
    Io {
        /// What was done.
        action: &'static str,
        /// The file, directory or object.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A manifest cannot be read.
    #[error("manifest {name} is damaged: {reason}")]
    Manifest {
        /// Its key.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A manifest was written by a version that this build does not read.
    #[error("manifest {name} has format version {found}, this build reads {}", manifest::VERSION)]
    Version {
        /// Its key.
        name: String,
        /// The version it says.
        found: u32,
    },
    /// An object does not have the content that it is named after.
    #[error("object {key} of file {path} in backup {backup} is damaged: {reason}")]
    Object {
        /// Name of the backup.
        backup: String,
        /// The file that needs it.
        path: String,
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no such backup.
    #[error("no backup {name} in {place}")]
    NoBackup {
        /// Its name, or `at all`.
        name: String,
        /// URL of the place.
        place: String,
    },
    /// The directory to restore to holds something.
    #[error("{} is not empty, a backup is restored to a new or empty directory only", .0.display())]
    NotEmpty(PathBuf),
    /// The directory to back up is not a data directory.
    #[error("{} is not a data directory: it has no file {}", .0.display(), data_dir::FORMAT_FILE)]
    NoDataDir(PathBuf),
    /// The directory has more files than a backup takes.
    #[error("{} has more than {FILES_MAX} files", .0.display())]
    TooManyFiles(PathBuf),
}

fn failed(action: &'static str, name: impl ToString) -> impl FnOnce(io::Error) -> BackupError {
    move |source| BackupError::Io { action, name: name.to_string(), source }
}

/// What a backup did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackupReport {
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were not there before.
    pub new_objects: u64,
    /// Their bytes.
    pub new_bytes: u64,
}

/// What [`Backups::prune`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PruneReport {
    /// Backups.
    pub backups: u64,
    /// Objects that no other backup needs.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The backups at one place. Backups and prunes of one place must not run at the same time.
pub struct Backups<'a> {
    objects: &'a dyn Objects,
}

impl<'a> Backups<'a> {
    /// The backups at a place.
    pub fn at(objects: &'a dyn Objects) -> Self {
        Self { objects }
    }

    /// Backs up a directory that nobody writes to, under a name. Left out are `LOCK`, `snapshots` and `cache` at the
    /// top, and temporary files and folders (`*.tmp`, `tmp`).
    pub fn create(&self, vfs: &dyn Vfs, dir: &Path, name: &str, created_ms: i64) -> Result<BackupReport, BackupError> {
        if !vfs.exists(&dir.join(data_dir::FORMAT_FILE)) {
            return Err(BackupError::NoDataDir(dir.to_owned()));
        }
        let mut paths = Vec::new();
        walk(vfs, dir, "", &mut paths)?;
        let listed = self.objects.list(OBJECTS).map_err(failed("list", OBJECTS))?;
        let mut there: BTreeMap<String, u64> = listed.into_iter().map(|info| (info.key, info.len)).collect();
        let mut report = BackupReport::default();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let content = vfs.map(&dir.join(&path)).map_err(failed("read", dir.join(&path).display()))?;
            let file = FileEntry { sha256: sha256(&content), len: content.len() as u64, path };
            let key = file.key();
            report.files += 1;
            report.bytes += file.len;
            // One of another length was cut while it was written, or damaged since.
            if there.get(&key) != Some(&file.len) {
                self.objects.put(&key, content).map_err(failed("write object", &key))?;
                there.insert(key, file.len);
                report.new_objects += 1;
                report.new_bytes += file.len;
            }
            files.push(file);
        }
        let manifest = Manifest { name: name.to_owned(), created_ms, files };
        let key = manifest_key(name);
        self.objects.put_new(&key, Bytes::from(manifest.encode())).map_err(failed("write manifest", &key))?;
        Ok(report)
    }

    /// Lists the names of the backups, oldest first.
    pub fn names(&self) -> Result<Vec<String>, BackupError> {
        let listed = self.objects.list(MANIFESTS).map_err(failed("list", MANIFESTS))?;
        let name =
            |key: &str| Some(key.strip_prefix(MANIFESTS)?.strip_prefix('/')?.strip_suffix(MANIFEST_SUFFIX)?.to_owned());
        Ok(listed.iter().filter_map(|info| name(&info.key)).collect())
    }

    /// Reads the manifest of a backup; of the newest one without a name.
    pub fn manifest(&self, name: Option<&str>) -> Result<Manifest, BackupError> {
        let missing =
            |name: &str| BackupError::NoBackup { name: name.to_owned(), place: self.objects.url().to_owned() };
        let name = match name {
            Some(name) => name.to_owned(),
            None => self.names()?.pop().ok_or_else(|| missing("at all"))?,
        };
        let key = manifest_key(&name);
        match self.objects.get(&key) {
            Ok(bytes) => Manifest::decode(&name, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing(&name)),
            Err(error) => Err(failed("read manifest", &key)(error)),
        }
    }

    /// Reads every object of a backup and compares it with its name. Returns what is damaged or missing; the rest is
    /// looked at all the same.
    pub fn verify(&self, manifest: &Manifest) -> Vec<BackupError> {
        let mut seen = BTreeSet::new();
        let mut faults = Vec::new();
        for file in &manifest.files {
            if seen.insert(file.key())
                && let Err(fault) = self.read(manifest, file, &mut |_| Ok(()))
            {
                faults.push(fault);
            }
        }
        faults
    }

    /// Keeps the newest `keep` backups and removes the others, and the objects that no backup needs any more.
    pub fn prune(&self, keep: usize) -> Result<PruneReport, BackupError> {
        let mut names = self.names()?;
        let gone = names.len().saturating_sub(keep);
        let kept = names.split_off(gone);
        // All that stay must be readable before anything goes.
        let mut needed = BTreeSet::new();
        for name in &kept {
            needed.extend(self.manifest(Some(name))?.files.iter().map(FileEntry::key));
        }
        let mut report = PruneReport::default();
        for name in names {
            let key = manifest_key(&name);
            self.objects.delete(&key).map_err(failed("remove manifest", &key))?;
            report.backups += 1;
        }
        for info in self.objects.list(OBJECTS).map_err(failed("list", OBJECTS))? {
            if !needed.contains(&info.key) {
                self.objects.delete(&info.key).map_err(failed("remove object", &info.key))?;
                report.objects += 1;
                report.bytes += info.len;
            }
        }
        Ok(report)
    }

    /// Reads the content of a file chunk by chunk and verifies it.
    fn read(
        &self,
        manifest: &Manifest,
        file: &FileEntry,
        each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), BackupError> {
        let key = file.key();
        let damaged = |reason: String| BackupError::Object {
            backup: manifest.name.clone(),
            path: file.path.clone(),
            key: key.clone(),
            reason,
        };
        match self.objects.len(&key).map_err(failed("read object", &key))? {
            None => return Err(damaged("it is missing".to_owned())),
            Some(len) if len != file.len => {
                return Err(damaged(format!("it has {len} bytes instead of {}", file.len)));
            }
            Some(_) => {}
        }
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        for_each_chunk(self.objects, &key, file.len, &mut |chunk| {
            hash.update(chunk);
            each(chunk)
        })
        .map_err(failed("read object", &key))?;
        if hex(hash.finish().as_ref()) != file.sha256 {
            return Err(damaged("checksum mismatch".to_owned()));
        }
        Ok(())
    }
}

fn manifest_key(name: &str) -> String {
    format!("{MANIFESTS}/{name}{MANIFEST_SUFFIX}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// Collects the paths of the files to back up, relative and with `/`.
fn walk(vfs: &dyn Vfs, root: &Path, below: &str, paths: &mut Vec<String>) -> Result<(), BackupError> {
    let dir = root.join(below);
    for entry in vfs.read_dir(&dir).map_err(failed("list", dir.display()))? {
        let is_top = below.is_empty();
        let is_left_out = (is_top && [data_dir::LOCK_FILE, "snapshots", "cache"].contains(&entry.name.as_str()))
            || entry.name.ends_with(".tmp")
            || (entry.is_dir && entry.name == "tmp");
        if is_left_out {
            continue;
        }
        let path = if is_top { entry.name.clone() } else { format!("{below}/{}", entry.name) };
        if entry.is_dir {
            walk(vfs, root, &path, paths)?;
        } else {
            if paths.len() >= FILES_MAX {
                return Err(BackupError::TooManyFiles(root.to_owned()));
            }
            paths.push(path);
        }
    }
    Ok(())
}
