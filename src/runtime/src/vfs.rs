//! Files, injected: all storage code reads and writes through [`Vfs`], so that a simulated disk can stand in.
//!
//! The interface is synchronous and as small as the stores allow: files are created, appended to, synced, renamed,
//! read whole and removed; nothing is overwritten in place. A name is durable only after [`Vfs::sync_dir`] of its
//! directory, bytes only after a sync of their file.

mod mmap;
pub mod read_only;
pub mod real;
pub mod sim;

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use read_only::ReadOnlyVfs;
pub use real::RealVfs;

/// A file system that everybody shares.
pub type SharedVfs = Arc<dyn Vfs>;

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name within the directory. Entries whose name is not UTF-8 are not listed: none of them is ours.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length of a file in bytes; 0 for a directory.
    pub len: u64,
}

/// A file system. Paths are absolute or relative to the process.
pub trait Vfs: Send + Sync + 'static {
    /// Creates a file to write. Errors with `AlreadyExists` when the name is taken.
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// Opens an existing file to write at its end.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// Reads a whole file into memory.
    fn read(&self, path: &Path) -> io::Result<Bytes>;
    /// Maps a whole file into memory. Only for files of which nobody changes or cuts any more what is looked at.
    fn map(&self, path: &Path) -> io::Result<Bytes>;
    /// Renames a file or directory, replacing a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all that is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory and the missing ones above it. Not an error when it exists.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a second name. Errors with `AlreadyExists` when the name is taken.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Cuts (or extends with zeros) a file to `len` bytes and syncs it.
    fn set_len(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Lists a directory, sorted by name.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Returns whether something has this name.
    fn exists(&self, path: &Path) -> bool;
    /// Returns the length of a file in bytes.
    fn len(&self, path: &Path) -> io::Result<u64>;
    /// Returns how many bytes an unprivileged process can still write to the file system that holds `path`.
    fn available_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Returns whether this is a view that changes nothing; see [`ReadOnlyVfs`].
    fn is_read_only(&self) -> bool {
        false
    }
    /// Returns how many bytes the file system that holds `path` has in all, used or not.
    fn total_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// A file open for writing at its end.
#[expect(clippy::len_without_is_empty, reason = "length is a position here, emptiness is no question")]
pub trait VfsFile: Send {
    /// Writes all of `bytes` at the end. After an error an unknown prefix of them may have been written.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the bytes and the length durable. After an error the file must not be trusted: the kernel may have
    /// dropped the bytes, and a second call would lie.
    fn sync_data(&mut self) -> io::Result<()>;
    /// Makes bytes, length and metadata durable, with the same warning.
    fn sync_all(&mut self) -> io::Result<()>;
    /// Returns how many bytes the file has, those it had when it was opened included.
    fn len(&self) -> u64;
}

/// Replaces a file so that a crash leaves the old or the new content: temporary file, sync, rename, sync directory.
///
/// The temporary name is `path` with `.tmp` appended; a left-over one is replaced. Errors leave the old content.
pub fn write_atomic(vfs: &dyn Vfs, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    if vfs.exists(temporary) {
        vfs.remove_file(temporary)?;
    }
    let mut file = vfs.create(temporary)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    drop(file);
    if let Err(error) = written.and_then(|()| vfs.rename(temporary, path)) {
        // The next write would replace it anyway; the first error is the one to tell.
        drop(vfs.remove_file(temporary));
        return Err(error);
    }
    vfs.sync_dir(parent_of(path))
}

/// Returns the directory of a path; `.` for a bare name.
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Creates a directory and the missing ones above it, and makes their names durable.
///
/// Directories above that were there before are synced too, as far as that is allowed: an earlier attempt may have
/// failed between creating and syncing.
pub fn create_dir_durable(vfs: &dyn Vfs, path: &Path) -> io::Result<()> {
    let missing = path.ancestors().take_while(|above| !above.as_os_str().is_empty() && !vfs.exists(above)).count();
    vfs.create_dir_all(path)?;
    for (index, dir) in path.ancestors().enumerate() {
        if dir.as_os_str().is_empty() || dir.parent().is_none() {
            break;
        }
        let synced = vfs.sync_dir(parent_of(dir));
        if index < missing.max(1) {
            synced?;
        } else if let Err(error) = synced {
            tracing::debug!(path = %parent_of(dir).display(), %error, "directory above was not synced");
        }
    }
    Ok(())
}
