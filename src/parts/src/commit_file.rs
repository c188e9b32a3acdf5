//! The bytes of a commit. See `FORMAT.md`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trefoil_model::TenantId;

use crate::PartsError;
use crate::meta::{FileMeta, LOCATION, PartId, PartMeta};

/// Newest version of the format that this build writes and reads.
pub const VERSION: u32 = 2;
/// Version of commits that name no part in an object store. Builds that know nothing of object stores read these.
const LOCAL_VERSION: u32 = 1;
/// First word of a commit.
const MAGIC: &str = "trefoil-commit";
/// File in the folder of a part: the commit that published it, as far as it concerns the part.
pub(crate) const PART_COMMIT: &str = "part.commit";
/// Ending of a commit's name.
const SUFFIX: &str = ".commit";

/// What a commit file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommitFile {
    pub(crate) sequence: u64,
    /// Whether `add`, `journal` and `attributes` are the whole state, not a change of the one before.
    pub(crate) snapshot: bool,
    pub(crate) add: Vec<PartRecord>,
    pub(crate) remove: Vec<u64>,
    /// Segment and offset; in a change, `None` leaves it as it was.
    pub(crate) journal: Option<(u64, u64)>,
    /// In a change, values to set; the others stay.
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) next_part: u64,
}

impl CommitFile {
    /// The ids of the parts that it adds.
    pub(crate) fn part_ids(&self) -> impl Iterator<Item = u64> {
        self.add.iter().map(|part| part.id)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartRecord {
    id: u64,
    tenant: u32,
    partition: i64,
    level: u8,
    min_t: i64,
    max_t: i64,
    items: u64,
    format: u16,
    kind: String,
    files: Vec<FileRecord>,
    attributes: BTreeMap<String, String>,
    created_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRecord {
    name: String,
    len: u64,
    crc32c: u32,
}

impl From<&PartMeta> for PartRecord {
    fn from(meta: &PartMeta) -> Self {
        let file = |file: &FileMeta| FileRecord { name: file.name.clone(), len: file.len, crc32c: file.crc32c };
        Self {
            id: meta.id.0,
            tenant: meta.tenant.0,
            partition: meta.partition,
            level: meta.level,
            min_t: meta.min_t,
            max_t: meta.max_t,
            items: meta.items,
            format: meta.format,
            kind: meta.kind.clone(),
            files: meta.files.iter().map(file).collect(),
            attributes: meta.attributes.clone(),
            created_ms: meta.created_ms,
        }
    }
}

impl From<PartRecord> for PartMeta {
    fn from(record: PartRecord) -> Self {
        let file = |file: FileRecord| FileMeta { name: file.name, len: file.len, crc32c: file.crc32c };
        Self {
            id: PartId(record.id),
            tenant: TenantId(record.tenant),
            partition: record.partition,
            level: record.level,
            min_t: record.min_t,
            max_t: record.max_t,
            items: record.items,
            bytes: record.files.iter().map(|file| file.len).fold(0, u64::saturating_add),
            format: record.format,
            kind: record.kind,
            files: record.files.into_iter().map(file).collect(),
            attributes: record.attributes,
            created_ms: record.created_ms,
        }
    }
}

impl CommitFile {
    /// The first commit of a set: its whole state.
    pub(crate) fn whole<'a>(
        parts: impl Iterator<Item = &'a Arc<PartMeta>>,
        journal: Option<(u64, u64)>,
        attributes: BTreeMap<String, String>,
        next_part: u64,
    ) -> Self {
        let add = parts.map(|meta| (&**meta).into()).collect();
        Self { sequence: 1, snapshot: true, add, remove: Vec::new(), journal, attributes, next_part }
    }
}

/// Returns the name of a commit.
pub fn name(sequence: u64) -> String {
    format!("{sequence:020}{SUFFIX}")
}

/// Reads the sequence number from the name of a commit; `None` for other names.
pub fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

pub(crate) fn encode(commit: &CommitFile) -> Vec<u8> {
    let body = serde_json::to_vec(commit).expect("plain data has a JSON form");
    let has_remote = commit.add.iter().any(|part| part.attributes.contains_key(LOCATION));
    let version = if has_remote { VERSION } else { LOCAL_VERSION };
    let mut bytes = format!("{MAGIC} {version} {:08x} {}\n", crc32c::crc32c(&body), body.len()).into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}

pub(crate) fn decode(sequence: u64, bytes: &[u8]) -> Result<CommitFile, PartsError> {
    let commit = decode_any(&name(sequence), bytes)?;
    if commit.sequence != sequence {
        let reason = "it is a copy of another commit".to_owned();
        return Err(PartsError::CorruptCommit { file: name(sequence), reason });
    }
    Ok(commit)
}

/// Reads a commit of any number; `file` is for messages.
pub(crate) fn decode_any(file: &str, bytes: &[u8]) -> Result<CommitFile, PartsError> {
    let damaged = |reason: &str| PartsError::CorruptCommit { file: file.to_owned(), reason: reason.to_owned() };
    let end = bytes.iter().take(128).position(|byte| *byte == b'\n').ok_or_else(|| damaged("no header line"))?;
    let (header, body) = (&bytes[..end], &bytes[end + 1..]);
    let header = std::str::from_utf8(header).map_err(|_| damaged("header is not text"))?;
    let words: Vec<&str> = header.split(' ').collect();
    let [magic, version, checksum, len] = words[..] else { return Err(damaged("header has not four words")) };
    if magic != MAGIC {
        return Err(damaged("wrong first word"));
    }
    let version: u32 = version.parse().map_err(|_| damaged("version is not a number"))?;
    if !(LOCAL_VERSION..=VERSION).contains(&version) {
        return Err(PartsError::Version { file: file.to_owned(), found: version });
    }
    if len != body.len().to_string() {
        return Err(damaged("wrong length"));
    }
    if checksum != format!("{:08x}", crc32c::crc32c(body)) {
        return Err(damaged("checksum mismatch"));
    }
    serde_json::from_slice(body).map_err(|error| damaged(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flip_and_every_cut_is_an_error() {
        let commit = CommitFile {
            sequence: 7,
            snapshot: false,
            add: Vec::new(),
            remove: vec![1],
            journal: Some((2, 3)),
            attributes: BTreeMap::from([("next_series".to_owned(), "9".to_owned())]),
            next_part: 5,
        };
        let bytes = encode(&commit);
        assert_eq!(decode(7, &bytes).unwrap(), commit);
        decode(8, &bytes).unwrap_err();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(7, &flipped).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode(7, &bytes[..len]).is_err(), "cut at {len}");
        }
    }
}
