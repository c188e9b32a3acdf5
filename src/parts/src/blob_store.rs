//! Where small named objects lie: a folder here, an object store later.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use trefoil_runtime::SharedVfs;

/// Why an object was not created.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The key is taken. Nothing was changed.
    #[error("object exists already")]
    Exists,
    /// It failed, and the object is not there and will not appear.
    #[error("object was not created")]
    Failed(#[source] io::Error),
    /// It failed, and whether the object is there after a crash is not known.
    #[error("object may or may not have been created")]
    Unknown(#[source] io::Error),
}

/// A place for objects that are created once and never changed. Keys are file names, without separators.
pub trait BlobStore: Send + Sync {
    /// Creates an object, durably and all at once.
    fn put_new(&self, key: &str, content: &[u8]) -> Result<(), PutError>;
    /// Reads an object.
    fn get(&self, key: &str) -> io::Result<Bytes>;
    /// Removes an object. It may come back after a crash.
    fn delete(&self, key: &str) -> io::Result<()>;
    /// Lists the keys, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
}

/// Ending of names that are not objects yet.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Objects as files in a directory. One process, one writer at a time.
pub struct LocalFolder {
    vfs: SharedVfs,
    dir: PathBuf,
}

impl LocalFolder {
    /// Opens a folder, creating it when it is missing and removing what half-done writes left.
    pub fn open(vfs: SharedVfs, dir: PathBuf) -> io::Result<Self> {
        trefoil_runtime::vfs::create_dir_durable(&*vfs, &dir)?;
        for entry in vfs.read_dir(&dir)? {
            if entry.name.ends_with(TEMPORARY_SUFFIX) {
                vfs.remove_file(&dir.join(&entry.name))?;
            }
        }
        Ok(Self { vfs, dir })
    }
}

impl BlobStore for LocalFolder {
    fn put_new(&self, key: &str, content: &[u8]) -> Result<(), PutError> {
        let path = self.dir.join(key);
        if self.vfs.exists(&path) {
            return Err(PutError::Exists);
        }
        let temporary = self.dir.join(format!("{key}{TEMPORARY_SUFFIX}"));
        if self.vfs.exists(&temporary) {
            self.vfs.remove_file(&temporary).map_err(PutError::Failed)?;
        }
        let write = || {
            let mut file = self.vfs.create(&temporary)?;
            file.write_all(content)?;
            file.sync_all()
        };
        if let Err(error) = write() {
            drop(self.vfs.remove_file(&temporary)); // The next write would replace it.
            return Err(PutError::Failed(error));
        }
        let published = self.vfs.rename(&temporary, &path).and_then(|()| self.vfs.sync_dir(&self.dir));
        let Err(error) = published else { return Ok(()) };
        // The new name may be on the disk. It is certain to be gone only when its removal is durable.
        let take_back = || {
            for path in [&temporary, &path] {
                if self.vfs.exists(path) {
                    self.vfs.remove_file(path)?;
                }
            }
            self.vfs.sync_dir(&self.dir)
        };
        Err(if take_back().is_ok() { PutError::Failed(error) } else { PutError::Unknown(error) })
    }

    fn get(&self, key: &str) -> io::Result<Bytes> {
        self.vfs.read(&self.dir.join(key))
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        self.vfs.remove_file(&self.dir.join(key))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let entries = self.vfs.read_dir(&self.dir)?;
        Ok(entries.into_iter().filter(|entry| !entry.is_dir).map(|entry| entry.name).collect())
    }
}
