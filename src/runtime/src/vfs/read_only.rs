//! A file system that nobody can change through this view.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::{DirEntry, SharedVfs, Vfs, VfsFile};

/// Shows a file system as it is and changes nothing. What a store tidies up when it is opened (removing, cutting, making
/// directories) is accepted and has no effect; writing errors with `ReadOnlyFilesystem`. A directory that is missing
/// reads as an empty one.
pub struct ReadOnlyVfs {
    inner: SharedVfs,
    /// Below it everything passes.
    writable: Option<PathBuf>,
}

impl ReadOnlyVfs {
    /// A view of `inner`. Below `writable`, which holds nothing that cannot be fetched again, changes are made.
    pub fn shared(inner: SharedVfs, writable: Option<PathBuf>) -> SharedVfs {
        Arc::new(Self { inner, writable })
    }

    fn is_open(&self, path: &Path) -> bool {
        self.writable.as_ref().is_some_and(|writable| path.starts_with(writable))
    }

    fn check(&self, path: &Path) -> io::Result<()> {
        if self.is_open(path) { Ok(()) } else { Err(io::ErrorKind::ReadOnlyFilesystem.into()) }
    }
}

impl Vfs for ReadOnlyVfs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.check(path)?;
        self.inner.create(path)
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.check(path)?;
        self.inner.open_append(path)
    }

    fn read(&self, path: &Path) -> io::Result<Bytes> {
        self.inner.read(path)
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        self.inner.map(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(from)?;
        self.check(to)?;
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        if self.is_open(path) { self.inner.remove_file(path) } else { Ok(()) }
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        if self.is_open(path) { self.inner.remove_dir_all(path) } else { Ok(()) }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if self.is_open(path) { self.inner.create_dir_all(path) } else { Ok(()) }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.is_open(path) { self.inner.sync_dir(path) } else { Ok(()) }
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(to)?;
        self.inner.hard_link(from, to)
    }

    fn set_len(&self, path: &Path, len: u64) -> io::Result<()> {
        if self.is_open(path) { self.inner.set_len(path, len) } else { Ok(()) }
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        match self.inner.read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    }

    fn exists(&self, path: &Path) -> bool {
        self.inner.exists(path)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.inner.len(path)
    }

    fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.available_bytes(path)
    }

    fn total_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.total_bytes(path)
    }

    fn is_read_only(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::sim::SimDisk;

    #[test]
    fn nothing_changes_except_where_it_may() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/d/cache")).unwrap();
        disk.create(Path::new("/d/a")).unwrap().write_all(b"12").unwrap();
        let view = ReadOnlyVfs::shared(Arc::new(disk.clone()), Some("/d/cache".into()));
        let a = Path::new("/d/a");
        view.remove_file(a).unwrap();
        view.set_len(a, 1).unwrap();
        view.remove_dir_all(Path::new("/d")).unwrap();
        view.create_dir_all(Path::new("/d/new")).unwrap();
        for refused in [
            view.create(Path::new("/d/b")).err(),
            view.open_append(a).err(),
            view.rename(a, Path::new("/d/b")).err(),
            view.rename(a, Path::new("/d/cache/b")).err(),
            view.hard_link(a, Path::new("/d/b")).err(),
        ] {
            assert_eq!(refused.unwrap().kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
        assert_eq!(disk.files(), [Path::new("/d/a")]);
        assert_eq!(view.read(a).unwrap(), "12");
        assert!(!disk.exists(Path::new("/d/new")) && view.read_dir(Path::new("/d/new")).unwrap().is_empty());
        drop(view.create(Path::new("/d/cache/b")).unwrap());
        view.remove_file(Path::new("/d/cache/b")).unwrap();
        assert_eq!(disk.files(), [Path::new("/d/a")]);
    }
}
