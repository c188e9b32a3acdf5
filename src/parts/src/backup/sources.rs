//! What goes into a backup, and from where: files of the directory, and parts that lie in an object store.
//!
//! A set with remote parts is backed up as the set that it would be if they lay here: their files at the places of local
//! parts, and one commit without locations and without the mark of the place's owner. So what is restored needs no
//! object store and never meets the directory that it came from there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use trefoil_runtime::{SharedVfs, data_dir};

use super::{BackupError, FILES_MAX, OpenPlace, failed};
use crate::at_rest;
use crate::catalog::CatalogState;
use crate::commit_file::{self, CommitFile};
use crate::meta::{FileMeta, LOCATION, PartId, PartMeta};
use crate::objects::{Objects, for_each_chunk};
use crate::orphans::LOST;
use crate::remote::OWNER_ATTRIBUTE;
use crate::twin::{CATALOG, COPIES};

/// Where the content of a file of a backup comes from.
pub(super) enum Source {
    /// The file of this path.
    File,
    /// Made for the backup.
    Made(Bytes),
    /// An object.
    Remote(RemoteFile),
}

/// What to back up.
#[derive(Default)]
pub(super) struct Sources {
    /// Where the files come from, by path.
    pub(super) by_path: BTreeMap<String, Source>,
    /// What commits say of the files of parts that lie here, by path.
    pub(super) expected: BTreeMap<String, Expected>,
    /// Sets whose commits cannot be read, and files that are missing.
    pub(super) damage: Vec<BackupError>,
}

/// What a commit says of a file.
pub(super) struct Expected {
    len: u64,
    crc32c: u32,
}

impl Expected {
    /// Says what is wrong with the content, if anything is.
    pub(super) fn fault(&self, content: &[u8]) -> Option<String> {
        if content.len() as u64 != self.len {
            return Some(format!("it has {} bytes instead of {}", content.len(), self.len));
        }
        (crc32c::crc32c(content) != self.crc32c).then(|| "it does not have the checksum of its commit".to_owned())
    }
}

/// A file of a part in an object store.
pub(super) struct RemoteFile {
    part: PartId,
    /// URL of the store, and the folder in it.
    place: (String, String),
    file: FileMeta,
    /// Folder of the set, relative to the directory.
    set: String,
}

impl RemoteFile {
    /// URL of the object. The folder's name has the checksums of its part: what is there once never changes.
    pub(super) fn origin(&self) -> String {
        format!("{}/{}/{}", self.place.0, self.place.1, self.file.name)
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.file.len
    }
}

/// Lists what to back up.
pub(super) fn list(vfs: &SharedVfs, dir: &Path, with_remote: bool) -> Result<Sources, BackupError> {
    let mut paths = Vec::new();
    walk(vfs, dir, "", &mut paths)?;
    let by_path = paths.into_iter().map(|path| (path, Source::File)).collect();
    let mut sources = Sources { by_path, ..Sources::default() };
    for set in sets(sources.by_path.keys()) {
        let state = match at_rest::read_state(vfs, &dir.join(&set)) {
            Ok(state) => state,
            Err(source) => {
                sources.damage.push(BackupError::Set { dir: dir.join(&set), source: Box::new(source) });
                continue;
            }
        };
        expect_files(&set, &state, &mut sources);
        if state.parts.values().any(|meta| meta.is_remote()) || state.attributes.contains_key(OWNER_ATTRIBUTE) {
            add_remote(&set, &state, with_remote, &mut sources.by_path);
        }
    }
    if sources.by_path.len() > FILES_MAX {
        return Err(BackupError::TooManyFiles(dir.to_owned()));
    }
    Ok(sources)
}

/// Collects the paths of the files to back up, relative and with `/`.
fn walk(vfs: &SharedVfs, root: &Path, below: &str, paths: &mut Vec<String>) -> Result<(), BackupError> {
    let dir = root.join(below);
    let entries = vfs.read_dir(&dir).map_err(failed("list", dir.display()))?;
    let is_set = entries.iter().any(|entry| entry.is_dir && entry.name == "catalog");
    for entry in entries {
        let is_top = below.is_empty();
        let is_left_out = (is_top && [data_dir::LOCK_FILE, "snapshots", "cache"].contains(&entry.name.as_str()))
            || entry.name.ends_with(".tmp")
            || (entry.is_dir && (entry.name == "tmp" || (is_set && ["cache", LOST].contains(&entry.name.as_str()))));
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

/// The folders of sets: those with a commit.
fn sets<'a>(paths: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    let set = |path: &String| {
        let (folder, name) = path.rsplit_once('/')?;
        commit_file::parse_name(name)?;
        folder.strip_suffix("/catalog").map(str::to_owned)
    };
    paths.filter_map(set).collect()
}

/// The path of a file of a part that lies here.
fn local_path(set: &str, meta: &PartMeta, file: &FileMeta) -> String {
    format!("{set}/parts/{}/{}/{:020}/{}", meta.tenant.0, meta.partition, meta.id.0, file.name)
}

/// Notes what the commits of a set say of the files that lie here.
fn expect_files(set: &str, state: &CatalogState, sources: &mut Sources) {
    for meta in state.parts.values().filter(|meta| !meta.is_remote()) {
        for file in &meta.files {
            let path = local_path(set, meta, file);
            if sources.by_path.contains_key(&path) {
                sources.expected.insert(path, Expected { len: file.len, crc32c: file.crc32c });
            } else {
                sources.damage.push(BackupError::Source { path, reason: "it is missing".to_owned() });
            }
        }
    }
}

/// Puts in a commit without the mark of the owner in the place of the set's own; with `as_local`, one for which remote
/// parts lie here, and their files.
fn add_remote(set: &str, state: &CatalogState, as_local: bool, sources: &mut BTreeMap<String, Source>) {
    let (catalog, copies) = (format!("{set}/{CATALOG}/"), format!("{set}/{COPIES}/"));
    // Parts carry the numbers of their commits: later ones must be higher in the copy too.
    let numbers = sources.keys().filter_map(|path| commit_file::parse_name(path.strip_prefix(&catalog)?));
    let newest = numbers.max().unwrap_or(1);
    sources.retain(|path, _| !path.starts_with(&catalog) && !path.starts_with(&copies));
    let mut parts = Vec::with_capacity(state.parts.len());
    for meta in state.parts.values() {
        let Some((url, folder)) = meta.place().filter(|_| as_local) else {
            parts.push(Arc::clone(meta));
            continue;
        };
        for file in &meta.files {
            let path = local_path(set, meta, file);
            let place = (url.to_owned(), folder.to_owned());
            let remote = RemoteFile { part: meta.id, place, file: file.clone(), set: set.to_owned() };
            sources.insert(path, Source::Remote(remote));
        }
        let mut local = PartMeta::clone(meta);
        local.attributes.remove(LOCATION);
        parts.push(Arc::new(local));
    }
    let mut attributes = state.attributes.clone();
    attributes.remove(OWNER_ATTRIBUTE);
    let whole = CommitFile::whole(parts.iter(), state.journal, attributes, state.next_part);
    let commit = CommitFile { sequence: newest, ..whole };
    let content = Bytes::from(commit_file::encode(&commit));
    for folder in [catalog, copies] {
        sources.insert(format!("{folder}{}", commit_file::name(commit.sequence)), Source::Made(content.clone()));
    }
}

/// Fetches objects into a file, one at a time.
pub(super) struct Fetcher<'a> {
    vfs: &'a SharedVfs,
    dir: &'a Path,
    open: &'a OpenPlace<'a>,
    places: BTreeMap<String, Arc<dyn Objects>>,
}

impl<'a> Fetcher<'a> {
    pub(super) fn new(vfs: &'a SharedVfs, dir: &'a Path, open: &'a OpenPlace<'a>) -> Self {
        Self { vfs, dir, open, places: BTreeMap::new() }
    }

    fn place(&mut self, url: &str) -> io::Result<Arc<dyn Objects>> {
        if let Some(known) = self.places.get(url) {
            return Ok(Arc::clone(known));
        }
        let objects = (self.open)(url)?;
        self.places.insert(url.to_owned(), Arc::clone(&objects));
        Ok(objects)
    }

    /// Fetches an object and hands out its bytes, and what is wrong with them when they do not have the checksum of the
    /// commit.
    pub(super) fn with<T>(
        &mut self,
        remote: &RemoteFile,
        work: impl FnOnce(Bytes, Option<String>) -> Result<T, BackupError>,
    ) -> Result<T, BackupError> {
        let failed_part = |source| BackupError::Part { part: remote.part, place: remote.origin(), source };
        let objects = self.place(&remote.place.0).map_err(failed_part)?;
        // Opening a set empties the folder.
        let folder = self.dir.join(&remote.set).join("tmp");
        let path = folder.join("backup");
        self.vfs.create_dir_all(&folder).map_err(failed("create", folder.display()))?;
        self.remove(&path)?;
        let mut output = self.vfs.create(&path).map_err(failed("create", path.display()))?;
        let mut found = 0;
        let key = format!("{}/{}", remote.place.1, remote.file.name);
        let fetched = for_each_chunk(&*objects, &key, remote.file.len, &mut |chunk| {
            found = crc32c::crc32c_append(found, chunk);
            output.write_all(chunk)
        });
        drop(output);
        let worked = match fetched {
            Ok(()) => {
                let fault =
                    (found != remote.file.crc32c).then(|| "it does not have the checksum of its commit".to_owned());
                let content = self.vfs.map(&path).map_err(failed("read", path.display()));
                content.and_then(|content| work(content, fault))
            }
            Err(error) => Err(failed_part(error)),
        };
        let removed = self.remove(&path);
        let done = worked?;
        removed.map(|()| done)
    }

    fn remove(&self, path: &Path) -> Result<(), BackupError> {
        if self.vfs.exists(path) {
            self.vfs.remove_file(path).map_err(failed("remove", path.display()))
        } else {
            Ok(())
        }
    }
}
