//! Incremental backups of a data directory at rest: files as objects named by their content, and one manifest a backup.
//!
//! See "Backups" in `FORMAT.md`. A file that was backed up before is not sent again. The manifest is written last, so a
//! backup is there whole or not at all. Reading order: this file, [`sources`] (what goes into a backup), [`manifest`],
//! [`restore`], [`left_remote`] (what a backup only names).

mod left_remote;
mod manifest;
mod restore;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use trefoil_runtime::{SharedVfs, data_dir};

pub use manifest::{FileEntry, Manifest};
pub use restore::RestoreReport;

use self::sources::{Fetcher, Source, Sources};
use crate::PartsError;
use crate::meta::PartId;
use crate::objects::{Objects, for_each_chunk};
use crate::twin::COPIES;

/// Folder of the objects.
const OBJECTS: &str = "objects";
/// Folder of the manifests.
const MANIFESTS: &str = "backups";
/// Ending of a manifest.
const MANIFEST_SUFFIX: &str = ".manifest";
/// Most files of a backup.
const FILES_MAX: usize = 1_000_000;
/// Earlier backups in which the checksums of remote files are looked for.
const EARLIER_MAX: usize = 16;
/// Damaged files of the source that a manifest names; more are counted by the last one.
const SOURCE_DAMAGE_MAX: usize = 1000;

/// Opens an object store by its URL.
pub type OpenPlace<'a> = dyn Fn(&str) -> io::Result<Arc<dyn Objects>> + 'a;

/// What a new backup is.
#[derive(Clone, Copy)]
pub struct BackupOptions<'a> {
    /// Its name.
    pub name: &'a str,
    /// When it is made, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// How to reach the object stores in which parts lie, so that the backup holds these too; `None` leaves them where
    /// they are: then the backup only names them.
    pub open_place: Option<&'a OpenPlace<'a>>,
    /// Whether objects that are there already are read and compared, and written again when they are damaged. At a place
    /// on this machine ([`Objects::is_local`]) they always are.
    pub recheck: bool,
}

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
    /// The newest backup cannot be read; the newest of those before it that can is named.
    #[error(
        "the newest backup cannot be read; the newest whole manifest is that of {older}, which `--at {older}` takes"
    )]
    NewestDamaged {
        /// Name of the older backup.
        older: String,
        /// Why the newest cannot be read.
        #[source]
        source: Box<BackupError>,
    },
    /// Backups cannot be pruned: nothing says which objects one of them needs.
    #[error("nothing is removed, for nothing says which objects backup {name} needs; --drop-damaged gives it up")]
    Undecided {
        /// Name of the backup.
        name: String,
        /// Why its manifest cannot be read.
        #[source]
        source: Box<BackupError>,
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
    /// The commits of a set of parts in the directory cannot be read.
    #[error("set of parts in {}", dir.display())]
    Set {
        /// Its directory.
        dir: PathBuf,
        /// The cause.
        #[source]
        source: Box<PartsError>,
    },
    /// A file of a part that lies in an object store could not be fetched whole.
    #[error("fetch {place} of part {part} from the object store")]
    Part {
        /// The part.
        part: PartId,
        /// URL of the file.
        place: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file of the directory does not have the length or the checksum that its commit says.
    #[error("file {path} of the source is damaged: {reason}")]
    Source {
        /// Its path in the directory.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A file of a part that the backup only names is not in the object store.
    #[error("file {place}, which backup {backup} left in the object store, {reason}")]
    LeftRemote {
        /// Name of the backup.
        backup: String,
        /// URL of the file.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The directory has more files than a backup takes.
    #[error("{} has more than {FILES_MAX} files", .0.display())]
    TooManyFiles(PathBuf),
}

fn failed(action: &'static str, name: impl ToString) -> impl FnOnce(io::Error) -> BackupError {
    move |source| BackupError::Io { action, name: name.to_string(), source }
}

/// What a backup did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackupReport {
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were not there before.
    pub new_objects: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// Objects that were there, damaged, and were written again.
    pub mended_objects: u64,
    /// What is damaged in the source, with the file. It is in the backup as it is.
    pub source_damage: Vec<String>,
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

/// The backups at one place. Several may be made there at once; a prune wants to be alone.
pub struct Backups<'a> {
    objects: &'a dyn Objects,
}

impl<'a> Backups<'a> {
    /// The backups at a place.
    pub fn at(objects: &'a dyn Objects) -> Self {
        Self { objects }
    }

    /// Backs up a directory that nobody writes to. Left out are `LOCK`, `snapshots` and `cache` at the top, caches of
    /// remote parts, and temporary files and folders (`*.tmp`, `tmp`).
    pub fn create(
        &self,
        vfs: &SharedVfs,
        dir: &Path,
        options: &BackupOptions<'_>,
    ) -> Result<BackupReport, BackupError> {
        if !vfs.exists(&dir.join(data_dir::FORMAT_FILE)) {
            return Err(BackupError::NoDataDir(dir.to_owned()));
        }
        let Sources { by_path: sources, expected, damage } = sources::list(vfs, dir, options.open_place.is_some())?;
        let listed = self.objects.list(OBJECTS).map_err(failed("list", OBJECTS))?;
        let mut copy = Copy {
            objects: self.objects,
            there: listed.into_iter().map(|info| (info.key, info.len)).collect(),
            recheck: options.recheck || self.objects.is_local(),
            checked: BTreeSet::new(),
            report: BackupReport::default(),
            files: Vec::with_capacity(sources.len()),
        };
        damage.into_iter().for_each(|found| copy.damage(&found));
        let known = self.known_origins(&sources);
        let mut fetcher = options.open_place.map(|open| Fetcher::new(vfs, dir, open));
        for (path, source) in sources {
            match (source, &mut fetcher) {
                (Source::Made(content), _) => copy.add(path, None, content)?,
                (Source::Remote(remote), Some(fetcher)) => {
                    let origin = remote.origin();
                    match known.get(&origin).filter(|file| file.len == remote.len()) {
                        Some(file) if copy.has(file) => copy.note(FileEntry { path, ..file.clone() }),
                        _ => fetcher.with(&remote, |content, found| {
                            if let Some(reason) = found {
                                copy.damage(&BackupError::Source { path: remote.origin(), reason });
                                // Without the origin, so that the next backup looks again.
                                return copy.add(path, None, content);
                            }
                            copy.add(path, Some(origin), content)
                        })?,
                    }
                }
                _ => {
                    let place = dir.join(&path);
                    let content = vfs.map(&place).map_err(failed("read", place.display()))?;
                    if let Some(reason) = expected.get(&path).and_then(|file| file.fault(&content)) {
                        copy.damage(&BackupError::Source { path: path.clone(), reason });
                    }
                    copy.add(path, None, content)?;
                }
            }
        }
        let name = options.name.to_owned();
        let key = manifest_key(&name);
        let source_damage = copy.report.source_damage.clone();
        let manifest = Manifest { name, created_ms: options.created_ms, files: copy.files, source_damage };
        self.objects.put_new(&key, Bytes::from(manifest.encode())).map_err(failed("write manifest", &key))?;
        Ok(copy.report)
    }

    /// What earlier backups know of files of remote parts, so that these are not fetched again. By origin.
    fn known_origins(&self, sources: &BTreeMap<String, Source>) -> BTreeMap<String, FileEntry> {
        let remote = sources.values().filter_map(|source| match source {
            Source::Remote(remote) => Some(remote.origin()),
            _ => None,
        });
        let mut wanted: BTreeSet<String> = remote.collect();
        let mut known = BTreeMap::new();
        if wanted.is_empty() {
            return known;
        }
        // Without an answer they are fetched again, which costs time only.
        for name in self.names().unwrap_or_default().iter().rev().take(EARLIER_MAX) {
            for file in self.manifest(Some(name)).map(|manifest| manifest.files).unwrap_or_default() {
                if let Some(origin) = file.origin.clone()
                    && wanted.remove(&origin)
                {
                    known.insert(origin, file);
                }
            }
            if wanted.is_empty() {
                break;
            }
        }
        known
    }

    /// Lists the names of the backups, oldest first.
    pub fn names(&self) -> Result<Vec<String>, BackupError> {
        let listed = self.objects.list(MANIFESTS).map_err(failed("list", MANIFESTS))?;
        let name =
            |key: &str| Some(key.strip_prefix(MANIFESTS)?.strip_prefix('/')?.strip_suffix(MANIFEST_SUFFIX)?.to_owned());
        Ok(listed.iter().filter_map(|info| name(&info.key)).collect())
    }

    /// Reads the manifest of the newest backup. When it is damaged, the error names the newest one before it that is not.
    pub fn newest(&self) -> Result<Manifest, BackupError> {
        let error = match self.manifest(None) {
            Err(error @ (BackupError::Manifest { .. } | BackupError::Version { .. })) => error,
            other => return other,
        };
        let mut names = self.names()?;
        names.pop();
        match names.into_iter().rev().find(|name| self.manifest(Some(name)).is_ok()) {
            Some(older) => Err(BackupError::NewestDamaged { older, source: Box::new(error) }),
            None => Err(error),
        }
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
    /// looked at all the same, unless an object store does not answer: then an [`BackupError::Io`] is the last.
    pub fn verify(&self, manifest: &Manifest) -> Vec<BackupError> {
        let mut seen = BTreeSet::new();
        let mut faults = Vec::new();
        for file in &manifest.files {
            if seen.insert(file.key())
                && let Err(fault) = self.read(manifest, file, &mut |_| Ok(()))
            {
                // The next one would wait for the same time-out.
                let is_out_of_reach = matches!(fault, BackupError::Io { .. }) && !self.objects.is_local();
                faults.push(fault);
                if is_out_of_reach {
                    break;
                }
            }
        }
        faults
    }

    /// Keeps the newest `keep` backups and removes the others, the objects that no backup needs any more, and what
    /// writes that were cut off left behind. Not while a backup is made at the place. A damaged manifest is an error and
    /// nothing is removed; with `drop_damaged` it goes too and does not count as kept, while one that is whole stays.
    pub fn prune(&self, keep: NonZeroUsize, drop_damaged: bool) -> Result<PruneReport, BackupError> {
        let mut names = self.names()?;
        let mut damaged = Vec::new();
        if drop_damaged {
            let is_damaged = |name: &String| matches!(self.manifest(Some(name)), Err(BackupError::Manifest { .. }));
            (damaged, names) = names.into_iter().partition(is_damaged);
            if let (Some(name), true) = (damaged.last(), names.is_empty()) {
                // The objects of the last backup are all that is left of it.
                return self.manifest(Some(name)).map(|_| PruneReport::default());
            }
        }
        let gone = names.len().saturating_sub(keep.get());
        let kept = names.split_off(gone);
        // All that stay must be readable before anything goes.
        let mut needed = BTreeSet::new();
        for name in &kept {
            let manifest = self.manifest(Some(name)).map_err(|error| match error {
                error @ BackupError::Manifest { .. } => {
                    BackupError::Undecided { name: name.clone(), source: Box::new(error) }
                }
                other => other,
            })?;
            needed.extend(manifest.files.iter().map(FileEntry::key));
        }
        let mut report = PruneReport::default();
        for name in names.into_iter().chain(damaged) {
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
        self.objects.remove_leftovers("").map_err(failed("remove leftovers", self.objects.url()))?;
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

/// A backup under way.
struct Copy<'a> {
    objects: &'a dyn Objects,
    /// Keys and lengths of the objects at the place.
    there: BTreeMap<String, u64>,
    /// Whether those are read before they are trusted.
    recheck: bool,
    /// Keys of those that were.
    checked: BTreeSet<String>,
    report: BackupReport,
    files: Vec<FileEntry>,
}

impl Copy<'_> {
    /// Whether the place has the content of a file, as far as is looked.
    fn has(&mut self, file: &FileEntry) -> bool {
        let key = file.key();
        // One of another length was cut while it was written, or damaged since.
        if self.there.get(&key) != Some(&file.len) {
            return false;
        }
        if !self.recheck || self.checked.contains(&key) {
            return true;
        }
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        let read = for_each_chunk(self.objects, &key, file.len, &mut |chunk| {
            hash.update(chunk);
            Ok(())
        });
        if read.is_ok() && hex(hash.finish().as_ref()) == file.sha256 {
            self.checked.insert(key);
            return true;
        }
        tracing::warn!(object = key, place = self.objects.url(), "object of earlier backups is damaged");
        self.there.remove(&key);
        self.report.mended_objects += 1;
        false
    }

    /// Notes damage of the source.
    fn damage(&mut self, found: &BackupError) {
        let damage = &mut self.report.source_damage;
        match damage.len() {
            0..SOURCE_DAMAGE_MAX => damage.push(trefoil_runtime::tasks::chain(found)),
            SOURCE_DAMAGE_MAX => damage.push("and more".to_owned()),
            _ => {}
        }
    }

    fn note(&mut self, file: FileEntry) {
        self.report.files += 1;
        self.report.bytes += file.len;
        self.files.push(file);
    }

    fn add(&mut self, path: String, origin: Option<String>, content: Bytes) -> Result<(), BackupError> {
        let second = path.contains(&format!("/{COPIES}/"));
        let file = FileEntry { sha256: sha256(&content), len: content.len() as u64, path, origin, second };
        if !self.has(&file) {
            let key = file.key();
            self.objects.put(&key, content).map_err(failed("write object", &key))?;
            self.there.insert(key.clone(), file.len);
            self.checked.insert(key);
            self.report.new_objects += 1;
            self.report.new_bytes += file.len;
        }
        self.note(file);
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
