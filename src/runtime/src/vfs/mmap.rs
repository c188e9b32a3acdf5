//! Maps immutable files into memory.
#![expect(unsafe_code, reason = "maps immutable, checksummed part files; reading them whole would double the memory")]

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;

/// Maps a whole file. The mapping ends when the last `Bytes` that shares it is dropped.
pub(super) fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new()); // An empty mapping is an error on Linux.
    }
    // SAFETY: callers look only at files, or beginnings of files, that are never written or cut again (the contract of
    // `Vfs::map`); removing the name keeps the mapping valid. The data directory is locked against other processes
    // of ours, and a foreign process that changes files in it could corrupt them by any other way as well.
    let mapping = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Bytes::from_owner(mapping))
}
