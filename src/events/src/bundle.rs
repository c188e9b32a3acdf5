//! A tantivy directory in memory that can be written to, and one over the bytes of a section of a part.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use tantivy::HasLen;
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, OwnedBytes, TerminatingWrite, WatchCallback,
    WatchHandle, WritePtr,
};

use crate::wire::{Cursor, Malformed, put_bytes, put_len};

/// The files of one index. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bundle {
    files: Arc<RwLock<BTreeMap<PathBuf, Bytes>>>,
}

impl Bundle {
    /// Writes all files one behind the other.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let files = self.files.read();
        let mut out = Vec::new();
        put_len(&mut out, files.len());
        for (path, content) in files.iter() {
            put_bytes(&mut out, path.to_string_lossy().as_bytes());
            put_bytes(&mut out, content);
        }
        out
    }

    /// Reads what [`Self::to_bytes`] wrote; the files are slices of `bytes`.
    pub(crate) fn from_bytes(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let mut files = BTreeMap::new();
        for _ in 0..cursor.count()? {
            let name = PathBuf::from(cursor.text()?);
            let content = cursor.bytes()?;
            files.insert(name, bytes.slice_ref(content));
        }
        Ok(Self { files: Arc::new(RwLock::new(files)) })
    }
}

#[derive(Debug)]
struct Slice(Bytes);

impl HasLen for Slice {
    fn len(&self) -> usize {
        self.0.len()
    }
}

impl FileHandle for Slice {
    fn read_bytes(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        let content = self.0.get(range).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok(OwnedBytes::new(content.to_vec()))
    }
}

struct BundleWriter {
    bundle: Bundle,
    path: PathBuf,
    content: Vec<u8>,
}

impl Write for BundleWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.content.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TerminatingWrite for BundleWriter {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        let content = std::mem::take(&mut self.content);
        self.bundle.files.write().insert(self.path.clone(), content.into());
        Ok(())
    }
}

impl Directory for Bundle {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        match self.files.read().get(path) {
            Some(content) => Ok(Arc::new(Slice(content.clone()))),
            None => Err(OpenReadError::FileDoesNotExist(path.to_owned())),
        }
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        match self.files.write().remove(path) {
            Some(_) => Ok(()),
            None => Err(DeleteError::FileDoesNotExist(path.to_owned())),
        }
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        Ok(self.files.read().contains_key(path))
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        if self.files.read().contains_key(path) {
            return Err(OpenWriteError::FileAlreadyExists(path.to_owned()));
        }
        let writer = BundleWriter { bundle: self.clone(), path: path.to_owned(), content: Vec::new() };
        Ok(io::BufWriter::new(Box::new(writer)))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        match self.files.read().get(path) {
            Some(content) => Ok(content.to_vec()),
            None => Err(OpenReadError::FileDoesNotExist(path.to_owned())),
        }
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.files.write().insert(path.to_owned(), Bytes::copy_from_slice(data));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn acquire_lock(&self, _: &Lock) -> Result<DirectoryLock, LockError> {
        Ok(DirectoryLock::from(Box::new(())))
    }

    fn watch(&self, _: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}
