//! The data directory: one process at a time, one known format.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::vfs::{Vfs, write_atomic};

/// Version of the layout of the data directory that this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;
/// Name of the file that holds the version: `trefoil <version>`.
pub const FORMAT_FILE: &str = "FORMAT";
/// Name of the file that is locked.
pub const LOCK_FILE: &str = "LOCK";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process uses it.
    #[error("data directory {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// Its layout is not the one that this build knows.
    #[error("data directory {} has format {found:?}, this build reads \"trefoil {FORMAT_VERSION}\"", dir.display())]
    Format {
        /// The directory.
        dir: PathBuf,
        /// The first bytes of its FORMAT file.
        found: String,
    },
    /// Its FORMAT file does not say a format.
    #[error(
        "data directory {} has a damaged {FORMAT_FILE} file: {found:?}; `trefoil tsdb repair` writes it anew", dir.display()
    )]
    DamagedFormat {
        /// The directory.
        dir: PathBuf,
        /// The first bytes of the file.
        found: String,
    },
    /// A file operation failed.
    #[error("data directory {}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Keeps other processes out of a data directory until it is dropped or the process ends.
#[derive(Debug)]
pub struct DataDirLock {
    file: Option<File>,
}

impl DataDirLock {
    /// Locks a directory of the machine's file system, creating it when it is missing. Does not wait.
    pub fn acquire(dir: &Path) -> Result<Self, DataDirError> {
        let io = |source| DataDirError::Io { dir: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(LOCK_FILE)).map_err(io)?;
        Self::lock(file, FlockOperation::NonBlockingLockExclusive, dir)
    }

    /// Locks a directory for one who only reads, and makes nothing in it: those who write are kept out, others who
    /// read are not. Does not wait. A directory without a file to lock, or whose file may not be opened, is not locked:
    /// see [`DataDirLock::is_held`].
    pub fn acquire_to_read(dir: &Path) -> Result<Self, DataDirError> {
        match File::open(dir.join(LOCK_FILE)) {
            Ok(file) => Self::lock(file, FlockOperation::NonBlockingLockShared, dir),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                Ok(Self { file: None })
            }
            Err(source) => Err(DataDirError::Io { dir: dir.to_owned(), source }),
        }
    }

    fn lock(file: File, operation: FlockOperation, dir: &Path) -> Result<Self, DataDirError> {
        match flock(&file, operation) {
            Ok(()) => Ok(Self { file: Some(file) }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::InUse(dir.to_owned())),
            // Some file systems that only read, and some on a network, have no locks.
            Err(rustix::io::Errno::NOLCK | rustix::io::Errno::NOTSUP)
                if operation == FlockOperation::NonBlockingLockShared =>
            {
                Ok(Self { file: None })
            }
            Err(errno) => Err(DataDirError::Io { dir: dir.to_owned(), source: errno.into() }),
        }
    }

    /// Whether others are really kept out.
    pub fn is_held(&self) -> bool {
        self.file.is_some()
    }
}

/// Says whether a directory holds the database of a Prometheus server (a log or blocks, which are not read), and whether
/// that server runs on it now. `None`: no such database.
pub fn foreign_database(dir: &Path) -> Option<bool> {
    let is_block = |dir: &Path| dir.join("meta.json").is_file() && dir.join("index").is_file();
    let is_prometheus = ["wal", "chunks_head"].iter().any(|name| dir.join(name).is_dir())
        || std::fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| is_block(&entry.path()));
    is_prometheus.then(|| {
        let lock = OpenOptions::new().write(true).open(dir.join("lock"));
        lock.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
    })
}

/// Checks the FORMAT file of a data directory, writing it when it is missing.
pub fn check_format(vfs: &dyn Vfs, dir: &Path) -> Result<(), DataDirError> {
    if has_format(vfs, dir)? {
        return Ok(());
    }
    let ours = format!("trefoil {FORMAT_VERSION}\n");
    write_atomic(vfs, &dir.join(FORMAT_FILE), ours.as_bytes())
        .map_err(|source| DataDirError::Io { dir: dir.to_owned(), source })
}

/// Checks the FORMAT file of a data directory and writes nothing; `false` when it has none.
pub fn has_format(vfs: &dyn Vfs, dir: &Path) -> Result<bool, DataDirError> {
    let path = dir.join(FORMAT_FILE);
    if !vfs.exists(&path) {
        return Ok(false);
    }
    let found = vfs.read(&path).map_err(|source| DataDirError::Io { dir: dir.to_owned(), source })?;
    if found.trim_ascii_end() == format!("trefoil {FORMAT_VERSION}").as_bytes() {
        return Ok(true);
    }
    let found = String::from_utf8_lossy(&found[..found.len().min(64)]).trim_end().to_owned();
    let version = found.strip_prefix("trefoil ").and_then(|version| version.parse::<u32>().ok());
    match version {
        Some(version) if version > FORMAT_VERSION => Err(DataDirError::Format { dir: dir.to_owned(), found }),
        _ => Err(DataDirError::DamagedFormat { dir: dir.to_owned(), found }),
    }
}

/// Writes the FORMAT file of a data directory anew; the caller knows that this is one. What it said is kept beside it.
pub fn repair_format(vfs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let path = dir.join(FORMAT_FILE);
    let damaged = vfs.read(&path)?;
    write_atomic(vfs, &dir.join(format!("{FORMAT_FILE}.damaged")), &damaged)?;
    write_atomic(vfs, &path, format!("trefoil {FORMAT_VERSION}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::sim::SimDisk;

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_gone() {
        let dir = std::env::temp_dir().join(format!("trefoil-lock-{}-{}", std::process::id(), rand::random::<u64>()));
        let first = DataDirLock::acquire(&dir).unwrap();
        assert!(matches!(DataDirLock::acquire(&dir), Err(DataDirError::InUse(_))));
        drop(first);
        DataDirLock::acquire(&dir).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn those_who_read_share_and_make_nothing() {
        let dir = std::env::temp_dir().join(format!("trefoil-read-{}-{}", std::process::id(), rand::random::<u64>()));
        std::fs::create_dir_all(&dir).unwrap();
        assert!(!DataDirLock::acquire_to_read(&dir).unwrap().is_held());
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        drop(DataDirLock::acquire(&dir).unwrap());
        let reader = DataDirLock::acquire_to_read(&dir).unwrap();
        assert!(reader.is_held() && DataDirLock::acquire_to_read(&dir).unwrap().is_held());
        assert!(matches!(DataDirLock::acquire(&dir), Err(DataDirError::InUse(_))));
        drop(reader);
        let writer = DataDirLock::acquire(&dir).unwrap();
        assert!(writer.is_held());
        assert!(matches!(DataDirLock::acquire_to_read(&dir), Err(DataDirError::InUse(_))));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn an_unknown_format_is_refused() {
        let disk = SimDisk::new();
        let dir = Path::new("/data");
        disk.create_dir_all(dir).unwrap();
        assert!(!has_format(&disk, dir).unwrap());
        check_format(&disk, dir).unwrap();
        check_format(&disk, dir).unwrap();
        assert!(has_format(&disk, dir).unwrap());
        write_atomic(&disk, &dir.join(FORMAT_FILE), b"trefoil 99\n").unwrap();
        let error = check_format(&disk, dir).unwrap_err().to_string();
        assert_eq!(error, "data directory /data has format \"trefoil 99\", this build reads \"trefoil 1\"");
    }

    #[test]
    fn a_damaged_format_is_told_from_another_version() {
        let disk = SimDisk::new();
        let dir = Path::new("/data");
        disk.create_dir_all(dir).unwrap();
        for text in ["", "trefoil", "trefoil x", "tsefoil 1\n", "trefoil 0\n", "\0\0\0\0"] {
            write_atomic(&disk, &dir.join(FORMAT_FILE), text.as_bytes()).unwrap();
            let error = check_format(&disk, dir).unwrap_err();
            assert!(matches!(error, DataDirError::DamagedFormat { .. }), "{error}");
            assert!(error.to_string().contains("repair"), "{error}");
            repair_format(&disk, dir).unwrap();
            assert!(has_format(&disk, dir).unwrap());
            assert_eq!(disk.read(&dir.join("FORMAT.damaged")).unwrap(), text.as_bytes());
        }
    }
}
