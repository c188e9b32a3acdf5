//! Objects as files of a folder.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::Mutex;
use trefoil_runtime::SharedVfs;
use trefoil_runtime::vfs::{create_dir_durable, parent_of};

use super::{ObjectInfo, Objects, check_key};

/// Ending of names that are not objects yet. Half-written ones are listed by nobody and stay until
/// [`Objects::remove_leftovers`].
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Objects as files below a folder. Several processes may read and write.
pub struct FolderObjects {
    vfs: SharedVfs,
    dir: PathBuf,
    url: String,
    /// Directories that are known to be there, durably.
    made: Mutex<BTreeSet<PathBuf>>,
}

impl FolderObjects {
    /// Opens a folder, creating it when it is missing.
    pub fn open(vfs: SharedVfs, dir: &Path) -> io::Result<Self> {
        create_dir_durable(&*vfs, dir)?;
        Ok(Self::existing(vfs, dir))
    }

    /// A folder that is there.
    pub(super) fn existing(vfs: SharedVfs, dir: &Path) -> Self {
        let url = format!("file://{}", dir.display());
        Self { vfs, dir: dir.to_owned(), url, made: Mutex::default() }
    }

    fn path(&self, key: &str) -> io::Result<PathBuf> {
        check_key(key)?;
        Ok(self.dir.join(key))
    }

    fn remove_temporary(&self, dir: &Path) -> io::Result<()> {
        for entry in self.vfs.read_dir(dir)? {
            let path = dir.join(&entry.name);
            if entry.is_dir {
                self.remove_temporary(&path)?;
            } else if entry.name.ends_with(TEMPORARY_SUFFIX) {
                self.vfs.remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn walk(&self, dir: &Path, key: &str, found: &mut Vec<ObjectInfo>) -> io::Result<()> {
        for entry in self.vfs.read_dir(dir)? {
            let below = if key.is_empty() { entry.name.clone() } else { format!("{key}/{}", entry.name) };
            if entry.is_dir {
                self.walk(&dir.join(&entry.name), &below, found)?;
            } else if !entry.name.ends_with(TEMPORARY_SUFFIX) {
                found.push(ObjectInfo { key: below, len: entry.len });
            }
        }
        Ok(())
    }
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| io::Error::other("no random bytes"))?;
    Ok(u64::from_le_bytes(bytes))
}

impl Objects for FolderObjects {
    fn put(&self, key: &str, content: Bytes) -> io::Result<()> {
        let path = self.path(key)?;
        let parent = parent_of(&path);
        if !self.made.lock().contains(parent) {
            create_dir_durable(&*self.vfs, parent)?;
            self.made.lock().insert(parent.to_owned());
        }
        // A name of its own: another process may write the same object now.
        let temporary = parent.join(format!("{:016x}{TEMPORARY_SUFFIX}", random()?));
        let mut file = self.vfs.create(&temporary)?;
        let written = file.write_all(&content).and_then(|()| file.sync_all());
        drop(file);
        if let Err(error) = written.and_then(|()| self.vfs.rename(&temporary, &path)) {
            // Nobody lists it; the first error is the one to tell.
            drop(self.vfs.remove_file(&temporary));
            return Err(error);
        }
        self.vfs.sync_dir(parent)
    }

    fn put_new(&self, key: &str, content: Bytes) -> io::Result<()> {
        if self.vfs.exists(&self.path(key)?) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.put(key, content)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> io::Result<Bytes> {
        // A folder of objects only gets new files.
        let content = self.vfs.map(&self.path(key)?)?;
        let wanted = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        match wanted {
            Some((start, end)) if start <= end && end <= content.len() => Ok(content.slice(start..end)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn len(&self, key: &str) -> io::Result<Option<u64>> {
        match self.vfs.len(&self.path(key)?) {
            Ok(len) => Ok(Some(len)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        match self.vfs.remove_file(&self.path(key)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<ObjectInfo>> {
        let dir = if prefix.is_empty() { self.dir.clone() } else { self.path(prefix)? };
        let mut found = Vec::new();
        if self.vfs.exists(&dir) {
            self.walk(&dir, prefix, &mut found)?;
        }
        found.sort();
        Ok(found)
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn is_local(&self) -> bool {
        true
    }

    fn remove_leftovers(&self, prefix: &str) -> io::Result<()> {
        let dir = if prefix.is_empty() { self.dir.clone() } else { self.path(prefix)? };
        if self.vfs.exists(&dir) { self.remove_temporary(&dir) } else { Ok(()) }
    }
}
