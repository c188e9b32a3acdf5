//! The bytes of a commit. See `FORMAT.md`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trefoil_model::TenantId;

use crate::PartsError;
use crate::framed::{self, Fault};
use crate::meta::{FileMeta, LOCATION, PartId, PartMeta};

/// Newest version of the format that this build writes and reads.
pub const VERSION: u32 = 3;
/// Version of commits that name a part in an object store.
const REMOTE_VERSION: u32 = 2;
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
    /// Only in `part.commit`: the oldest segment that the journal had when the commit that moves its position was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) journal_start: Option<u64>,
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
        Self {
            sequence: 1,
            snapshot: true,
            add,
            remove: Vec::new(),
            journal,
            attributes,
            next_part,
            journal_start: None,
        }
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
    let version = match (commit.journal_start, has_remote) {
        (Some(_), _) => VERSION,
        (None, true) => REMOTE_VERSION,
        (None, false) => LOCAL_VERSION,
    };
    framed::encode(MAGIC, version, &body)
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
    let (version, body) = framed::decode(MAGIC, LOCAL_VERSION..=VERSION, bytes).map_err(|fault| match fault {
        Fault::Damaged(reason) => damaged(reason),
        Fault::Version(found) => PartsError::Version { file: file.to_owned(), found },
    })?;
    let commit: CommitFile = serde_json::from_slice(body).map_err(|error| damaged(&error.to_string()))?;
    // The checksum does not cover the version.
    if (version == VERSION) != commit.journal_start.is_some() {
        return Err(damaged("its version is not that of what it says"));
    }
    Ok(commit)
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
            journal_start: None,
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
        assert!(bytes.starts_with(b"trefoil-commit 1 ") && !String::from_utf8_lossy(&bytes).contains("journal_start"));
        let beside_a_journal = CommitFile { journal_start: Some(4), ..commit };
        let bytes = encode(&beside_a_journal);
        assert!(bytes.starts_with(b"trefoil-commit 3 "));
        assert_eq!(decode(7, &bytes).unwrap(), beside_a_journal);
    }
}
