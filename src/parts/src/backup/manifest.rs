//! The bytes of a manifest. See `FORMAT.md`.

use serde::{Deserialize, Serialize};

use super::{BackupError, OBJECTS};
use crate::framed::{self, Fault};

/// Newest version of the format that this build writes and reads.
pub(super) const VERSION: u32 = 4;
/// Version of manifests with damage of the source and without second copies.
const DAMAGE_VERSION: u32 = 3;
/// Version of manifests with files that came from an object store.
const ORIGIN_VERSION: u32 = 2;
/// Version of manifests with none of these. Builds that know nothing of them read it.
const LOCAL_VERSION: u32 = 1;
/// First word of a manifest.
const MAGIC: &str = "trefoil-backup";
/// Ending of the objects of second copies: equal files have one object, and damage of it would cost both copies.
const SECOND_SUFFIX: &str = "-second";

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where it lies in the data directory: plain names divided by `/`.
    pub path: String,
    /// Its length in bytes.
    pub len: u64,
    /// SHA-256 of its bytes, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// URL of the object that it was copied from; `None` for a file of the directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Whether it is the second copy of what another file holds, and so is kept apart from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub second: bool,
}

impl FileEntry {
    /// Returns the key of the object that holds its content.
    pub fn key(&self) -> String {
        let folder = self.sha256.get(..2).unwrap_or("00");
        let apart = if self.second { SECOND_SUFFIX } else { "" };
        format!("{OBJECTS}/{folder}/{}-{}{apart}", self.sha256, self.len)
    }

    fn is_sound(&self) -> bool {
        let is_plain = |word: &str| !word.is_empty() && word != "." && word != ".." && !word.contains(['\\', '\0']);
        self.path.split('/').all(is_plain)
            && self.sha256.len() == 64
            && self.sha256.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    }
}

/// What a backup consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name.
    pub name: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Its files.
    pub files: Vec<FileEntry>,
    /// What was damaged in the directory when the backup was made: one text a file. It is in the backup as it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_damage: Vec<String>,
}

impl Manifest {
    /// Returns the bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len).fold(0, u64::saturating_add)
    }

    /// The version that it is written as: the oldest that can say it.
    fn version(&self) -> u32 {
        if self.files.iter().any(|file| file.second) {
            return VERSION;
        }
        let has_origins = self.files.iter().any(|file| file.origin.is_some());
        match (self.source_damage.is_empty(), has_origins) {
            (false, _) => DAMAGE_VERSION,
            (true, true) => ORIGIN_VERSION,
            (true, false) => LOCAL_VERSION,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let body = serde_json::to_vec(self).expect("plain data has a JSON form");
        framed::encode(MAGIC, self.version(), &body)
    }

    pub(super) fn decode(name: &str, bytes: &[u8]) -> Result<Self, BackupError> {
        let damaged = |reason: &str| BackupError::Manifest { name: name.to_owned(), reason: reason.to_owned() };
        let (version, body) = framed::decode(MAGIC, LOCAL_VERSION..=VERSION, bytes).map_err(|fault| match fault {
            Fault::Damaged(reason) => damaged(reason),
            Fault::Version(found) => BackupError::Version { name: name.to_owned(), found },
        })?;
        let manifest: Self = serde_json::from_slice(body).map_err(|error| damaged(&error.to_string()))?;
        if manifest.version() != version {
            return Err(damaged("its version is not that of what it says"));
        }
        if manifest.name != name {
            return Err(damaged("it is a copy of another manifest"));
        }
        if let Some(file) = manifest.files.iter().find(|file| !file.is_sound()) {
            return Err(damaged(&format!("file {:?} has a path or checksum that cannot be", file.path)));
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(path: &str) -> Manifest {
        let file = FileEntry { path: path.to_owned(), len: 3, sha256: "ab".repeat(32), origin: None, second: false };
        let remote = FileEntry { path: "x".to_owned(), origin: Some("s3://b/x".to_owned()), ..file.clone() };
        Manifest { name: "one".to_owned(), created_ms: 7, files: vec![file, remote], source_damage: Vec::new() }
    }

    #[test]
    fn every_flip_and_every_cut_is_an_error() {
        let manifest = manifest("metrics/parts/a");
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode("one", &bytes).unwrap(), manifest);
        Manifest::decode("two", &bytes).unwrap_err();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode("one", &flipped).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Manifest::decode("one", &bytes[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn every_version_is_read() {
        let file = r#"{"path":"FORMAT","len":3,"sha256":"HASH"}"#.replace("HASH", &"ab".repeat(32));
        let bodies = [
            format!(r#"{{"name":"one","created_ms":7,"files":[{file}]}}"#),
            format!(r#"{{"name":"one","created_ms":7,"files":[{}]}}"#, file.replace("}", r#","origin":"s3://b/x"}"#)),
            format!(r#"{{"name":"one","created_ms":7,"files":[{file}],"source_damage":["file FORMAT"]}}"#),
            format!(r#"{{"name":"one","created_ms":7,"files":[{}]}}"#, file.replace("}", r#","second":true}"#)),
        ];
        for (version, body) in (1..).zip(&bodies) {
            let crc = crc32c::crc32c(body.as_bytes());
            let bytes = format!("trefoil-backup {version} {crc:08x} {}\n{body}", body.len());
            let manifest = Manifest::decode("one", bytes.as_bytes()).unwrap();
            assert_eq!((manifest.files.len(), manifest.source_damage.len()), (1, usize::from(version == 3)));
            assert_eq!(manifest.encode(), bytes.as_bytes(), "version {version}");
        }
    }

    #[test]
    fn a_version_that_knows_nothing_of_origins_reads_what_has_none() {
        let mut manifest = manifest("metrics/parts/a");
        assert!(manifest.encode().starts_with(b"trefoil-backup 2 "));
        manifest.files.truncate(1);
        let bytes = manifest.encode();
        assert!(bytes.starts_with(b"trefoil-backup 1 ") && !String::from_utf8_lossy(&bytes).contains("origin"));
    }

    #[test]
    fn paths_stay_in_the_directory() {
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/.", "a\\b", "a\0"] {
            let error = Manifest::decode("one", &manifest(bad).encode()).unwrap_err().to_string();
            assert!(error.contains("cannot be"), "{bad:?}: {error}");
        }
    }
}
