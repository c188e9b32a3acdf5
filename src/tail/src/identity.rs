//! Which file is which: device and inode, and what its first bytes are, because inodes are used again.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes at the beginning that tell a file from others.
pub const FINGERPRINT_BYTES: usize = 1024;

/// Device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Inode {
    /// Device.
    pub device: u64,
    /// Number on the device.
    pub number: u64,
}

impl Inode {
    /// That of a file.
    pub fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino() }
    }
}

/// Length and hash of the first bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fingerprint {
    /// How many bytes, at most [`FINGERPRINT_BYTES`].
    pub length: u16,
    /// Their hash.
    pub hash: u64,
}

impl Fingerprint {
    /// That of a file, over as many bytes as there are.
    pub fn of(file: &File) -> io::Result<Self> {
        let mut buffer = [0; FINGERPRINT_BYTES];
        let length = read_start(file, &mut buffer)?;
        Ok(Self::of_bytes(&buffer[..length]))
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        Self { length: u16::try_from(bytes.len()).unwrap_or(u16::MAX), hash: xxh3_64(bytes) }
    }

    /// The fingerprint of the file now if it still begins with the bytes of this one; `None` when it is another file.
    pub fn grown(&self, file: &File) -> io::Result<Option<Self>> {
        let mut buffer = [0; FINGERPRINT_BYTES];
        let length = read_start(file, &mut buffer)?;
        let own = usize::from(self.length);
        Ok((length >= own && Self::of_bytes(&buffer[..own]) == *self).then(|| Self::of_bytes(&buffer[..length])))
    }
}

fn read_start(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], length as u64) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
