//! Objects under long keys: a folder here or a bucket of an object store. Backups and remote parts lie there.

mod folder;
#[cfg(feature = "s3")]
mod s3;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trefoil_runtime::SharedVfs;

pub use folder::FolderObjects;
#[cfg(feature = "s3")]
pub use s3::S3Objects;

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectInfo {
    /// Its key: words divided by `/`.
    pub key: String,
    /// Its length in bytes.
    pub len: u64,
}

/// A place for objects. Keys are words of ASCII letters, digits, `.`, `_` and `-`, divided by `/`; no word begins
/// with a dot. Everything blocks; nothing is retried for longer than some seconds.
pub trait Objects: Send + Sync {
    /// Creates or replaces an object, durably and all at once.
    fn put(&self, key: &str, content: Bytes) -> io::Result<()>;
    /// Creates an object; errors with `AlreadyExists` when the key is taken.
    fn put_new(&self, key: &str, content: Bytes) -> io::Result<()>;
    /// Reads a part of an object; errors with `NotFound` when there is none, and when the range is not within it.
    fn get_range(&self, key: &str, range: Range<u64>) -> io::Result<Bytes>;
    /// Returns the length of an object, `None` when there is none.
    fn len(&self, key: &str) -> io::Result<Option<u64>>;
    /// Removes an object. Not an error when there is none.
    fn delete(&self, key: &str) -> io::Result<()>;
    /// Lists the objects whose keys begin with `prefix` and a `/`, sorted by key. An empty prefix lists all.
    fn list(&self, prefix: &str) -> io::Result<Vec<ObjectInfo>>;
    /// The URL of the place, without a slash at the end.
    fn url(&self) -> &str;

    /// Returns whether reading costs no more than reading a file of this machine.
    fn is_local(&self) -> bool {
        false
    }

    /// Removes what writes that were cut off left behind below a prefix (a whole folder name, or empty for all). Not
    /// while somebody writes there.
    fn remove_leftovers(&self, _prefix: &str) -> io::Result<()> {
        Ok(())
    }

    /// Reads a whole object.
    fn get(&self, key: &str) -> io::Result<Bytes> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no object {key} in {}", self.url()));
        let len = self.len(key)?.ok_or_else(missing)?;
        if len == 0 { Ok(Bytes::new()) } else { self.get_range(key, 0..len) }
    }
}

/// Longest time of a request that reads, where nobody says otherwise.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of an object that are asked for at once by [`for_each_chunk`].
const CHUNK_BYTES: u64 = 8 << 20;

/// Reads an object of a known length chunk by chunk.
pub fn for_each_chunk(
    objects: &dyn Objects,
    key: &str,
    len: u64,
    each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut at = 0;
    while at < len {
        let end = len.min(at + CHUNK_BYTES);
        let chunk = objects.get_range(key, at..end)?;
        if chunk.len() as u64 != end - at {
            let message = format!("object {key} in {} gave {} bytes for {at}..{end}", objects.url(), chunk.len());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        each(&chunk)?;
        at = end;
    }
    Ok(())
}

/// Opens a place by its URL: `s3://bucket/prefix`, `file:///dir`, or the path of a folder. The folder is made when it
/// is missing. Credentials and endpoint of S3 come from the environment (`AWS_ACCESS_KEY_ID`,
/// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`).
pub fn open_url(url: &str, vfs: SharedVfs) -> io::Result<Arc<dyn Objects>> {
    open_url_with(url, vfs, READ_TIMEOUT)
}

/// As [`open_url`], with the longest time of a request that reads from an object store.
pub fn open_url_with(url: &str, vfs: SharedVfs, read_timeout: Duration) -> io::Result<Arc<dyn Objects>> {
    open(url, vfs, true, read_timeout)
}

/// Opens a place as [`open_url_with`] does; a folder that is missing is not made but `NotFound`.
pub fn open_existing(url: &str, vfs: SharedVfs, read_timeout: Duration) -> io::Result<Arc<dyn Objects>> {
    open(url, vfs, false, read_timeout)
}

/// Returns the folder of this machine that a URL names; `None` for anything else.
pub fn folder_of(url: &str) -> Option<&Path> {
    let url = url.trim_end_matches('/');
    match url.strip_prefix("file://") {
        Some(path) => path.starts_with('/').then(|| Path::new(path)),
        None => (!url.is_empty() && !url.contains("://")).then(|| Path::new(url)),
    }
}

#[cfg_attr(not(feature = "s3"), expect(unused_variables, reason = "folders are not waited for"))]
fn open(url: &str, vfs: SharedVfs, create: bool, read_timeout: Duration) -> io::Result<Arc<dyn Objects>> {
    if url.starts_with("s3://") {
        #[cfg(feature = "s3")]
        return Ok(Arc::new(S3Objects::open(url, read_timeout)?));
        #[cfg(not(feature = "s3"))]
        return Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no S3"));
    }
    let Some(dir) = folder_of(url) else {
        let message = if url.starts_with("file://") {
            format!("{url:?} names a host; a folder of this machine is file:///dir")
        } else {
            format!("{url:?} is neither s3://bucket/prefix nor file:///dir nor a folder")
        };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    };
    if !create && !vfs.exists(dir) {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no folder {}", dir.display())));
    }
    let folder = if create { FolderObjects::open(vfs, dir)? } else { FolderObjects::existing(vfs, dir) };
    Ok(Arc::new(folder))
}

/// Refuses keys that are not plain, so that none leaves its place.
pub(crate) fn check_key(key: &str) -> io::Result<()> {
    let is_plain = |word: &str| {
        !word.is_empty()
            && !word.starts_with('.')
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    if key.len() <= 900 && key.split('/').all(is_plain) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{key:?} cannot be the key of an object")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_in_their_place() {
        for good in ["a", "a/b.c", "objects/0f_-"] {
            check_key(good).unwrap();
        }
        for bad in ["", "/", "/a", "a/", "a//b", "../a", "a/..", "a/.b", "a b", "ä", "a\\b"] {
            assert!(check_key(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn urls_that_name_nothing_are_refused() {
        let disk = trefoil_runtime::vfs::sim::SimDisk::new();
        for bad in ["", "http://x/y", "file://host/dir", "s3://"] {
            assert!(open_url(bad, Arc::new(disk.clone())).is_err(), "{bad:?}");
        }
    }
}
