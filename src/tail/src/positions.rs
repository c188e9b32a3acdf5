//! How far each file was read, durably, and the marks of the batch that is being written.
//!
//! The file is a line `trefoil positions 1`, then records: eight hexadecimal digits (CRC-32C of what follows the blank),
//! a blank, a JSON object, an end of line. A record is appended and synced *before* the batch that it belongs to is
//! written, and says where files stand *behind* that batch. So when it is read back, every record but the last is
//! known to be done, and of the last one the store is asked by its marks; when the store does not have them, the record
//! does not count. Damage: reading ends at the first record that is torn or does not fit its checksum.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trefoil_model::{Labels, LogBatch};
use trefoil_runtime::vfs::{VfsFile, create_dir_durable, parent_of, write_atomic};
use trefoil_runtime::{SharedVfs, tasks};
use xxhash_rust::xxh3::xxh3_64;

use crate::identity::{Fingerprint, Inode};

const HEADER: &str = "trefoil positions 1\n";
/// The file is written anew when it is larger than this and than four times what it says.
const COMPACT_BYTES: u64 = 1 << 20;
/// Marks of a batch.
const MARKS_MAX: usize = 8;
/// Positions that are kept; beyond, those go that were not looked for longest.
const POSITIONS_MAX: usize = 100_000;

/// How far a file was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Number of the file.
    pub id: u64,
    /// Its path when it was last seen.
    pub path: PathBuf,
    /// Device and inode.
    pub inode: Inode,
    /// Its first bytes.
    pub fingerprint: Fingerprint,
    /// Lines that begin before this were read.
    pub read: u64,
    /// Beginnings of lines before `read` that are still held by a pipeline, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<u64>,
    /// The file is a copy that may still be growing to where its original was read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_copy: bool,
}

/// A record by which the store can be asked for a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Labels of its stream.
    pub stream: Vec<(String, String)>,
    /// Its time.
    pub time_ns: i64,
    /// Hash of its line.
    pub line_hash: u64,
}

impl Mark {
    /// The labels.
    pub fn labels(&self) -> Labels {
        Labels::from_pairs(self.stream.iter().map(|(n, v)| (n.as_str(), v.as_str())))
    }

    /// The hash of a line.
    pub fn hash(line: &str) -> u64 {
        xxh3_64(line.as_bytes())
    }
}

/// The marks of a batch: the last record of its first streams.
pub fn marks(batch: &LogBatch) -> Vec<Mark> {
    let groups = batch.groups.iter().filter(|group| !group.records.is_empty());
    groups
        .take(MARKS_MAX)
        .filter_map(|group| {
            let record = group.records.last()?;
            let stream = group.stream.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            Some(Mark { stream, time_ns: record.time_ns, line_hash: Mark::hash(&record.text) })
        })
        .collect()
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<Position>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gone: Vec<u64>,
    /// Patterns that were looked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    patterns: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    marks: Vec<Mark>,
}

/// What changed since the last record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// New positions of files.
    pub files: Vec<Position>,
    /// Files that are no more.
    pub gone: Vec<u64>,
    /// Patterns that were looked for the first time.
    pub patterns: Vec<String>,
}

impl Change {
    /// True when nothing changed.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.gone.is_empty() && self.patterns.is_empty()
    }
}

/// The positions file.
pub struct Positions {
    vfs: SharedVfs,
    path: PathBuf,
    file: Option<Box<dyn VfsFile>>,
    state: BTreeMap<u64, Position>,
    patterns: BTreeSet<String>,
    compacted_bytes: u64,
}

impl Positions {
    /// Opens the file, or starts without one. `is_stored` says of the marks of the last batch whether the store has them.
    pub fn open(vfs: SharedVfs, path: &Path, is_stored: &dyn Fn(&[Mark]) -> bool) -> io::Result<Self> {
        let mut out = Self {
            path: path.to_path_buf(),
            file: None,
            state: BTreeMap::new(),
            patterns: BTreeSet::new(),
            compacted_bytes: 0,
            vfs,
        };
        if out.vfs.exists(path) {
            let bytes = out.vfs.read(path)?;
            let text = bytes.strip_prefix(HEADER.as_bytes()).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} is no positions file of version 1", path.display()),
                )
            })?;
            out.replay(text, is_stored);
        } else {
            create_dir_durable(&*out.vfs, parent_of(path))?;
        }
        out.compact()?;
        Ok(out)
    }

    fn replay(&mut self, text: &[u8], is_stored: &dyn Fn(&[Mark]) -> bool) {
        let mut last: Option<Record> = None;
        for line in text.split_inclusive(|b| *b == b'\n') {
            let Some(record) = read_record(line) else {
                tracing::warn!(path = %self.path.display(), "positions file ends in a damaged record, which is left out");
                break;
            };
            if let Some(done) = last.replace(record) {
                self.apply(done.files, &done.gone, done.patterns);
            }
        }
        let Some(last) = last else { return };
        if last.marks.is_empty() || is_stored(&last.marks) {
            self.apply(last.files, &last.gone, last.patterns);
        } else {
            tracing::info!(files = last.files.len(), "the last batch of log files was not stored, it is read again");
        }
    }

    fn apply(&mut self, files: Vec<Position>, gone: &[u64], patterns: Vec<String>) {
        for id in gone {
            self.state.remove(id);
        }
        self.state.extend(files.into_iter().map(|position| (position.id, position)));
        self.patterns.extend(patterns);
        while self.state.len() > POSITIONS_MAX {
            self.state.pop_first();
        }
    }

    /// All positions by the number of the file.
    pub fn all(&self) -> &BTreeMap<u64, Position> {
        &self.state
    }

    /// True when the pattern was looked for before.
    pub fn knows(&self, pattern: &str) -> bool {
        self.patterns.contains(pattern)
    }

    /// Makes a change durable. `marks` are those of the batch that will be written next; none when nothing will.
    ///
    /// To be called only when the batch before is written. Errors leave the change undone; it may be tried again.
    pub fn append(&mut self, change: &Change, marks: Vec<Mark>) -> io::Result<()> {
        // What the records say of batches is settled by now, so that they may go.
        let is_large = match &self.file {
            Some(file) => file.len() > COMPACT_BYTES.max(4 * self.compacted_bytes),
            None => true,
        };
        if is_large {
            self.compact()?;
        }
        let record =
            Record { files: change.files.clone(), gone: change.gone.clone(), patterns: change.patterns.clone(), marks };
        let line = record_line(&record)?;
        let Some(file) = &mut self.file else { return Err(io::Error::other("positions file is not open")) };
        if let Err(error) = file.write_all(line.as_bytes()).and_then(|()| file.sync_data()) {
            // What was written of it is not known: the next attempt writes the file anew.
            self.file = None;
            return Err(error);
        }
        let Record { files, gone, patterns, .. } = record;
        self.apply(files, &gone, patterns);
        Ok(())
    }

    /// Writes the file anew.
    fn compact(&mut self) -> io::Result<()> {
        self.file = None;
        let mut text = HEADER.to_owned();
        let patterns = self.patterns.iter().cloned().collect();
        text.push_str(&record_line(&Record { patterns, ..Record::default() })?);
        for position in self.state.values() {
            text.push_str(&record_line(&Record { files: vec![position.clone()], ..Record::default() })?);
        }
        write_atomic(&*self.vfs, &self.path, text.as_bytes())?;
        self.compacted_bytes = text.len() as u64;
        self.file = Some(self.vfs.open_append(&self.path)?);
        Ok(())
    }
}

fn record_line(record: &Record) -> io::Result<String> {
    let json = serde_json::to_string(record).map_err(|error| io::Error::other(tasks::chain(&error)))?;
    Ok(format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())))
}

fn read_record(line: &[u8]) -> Option<Record> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (checksum, json) = line.split_once(' ')?;
    if u32::from_str_radix(checksum, 16).ok()? != crc32c::crc32c(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests;
