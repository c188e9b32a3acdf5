//! A file that is followed.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trefoil_model::{AttributeValue, Labels};
use trefoil_pipeline::{Entry, Moment, Pipeline};
use trefoil_runtime::limits;

use crate::identity::{Fingerprint, Inode};
use crate::line::{Line, LineReader};
use crate::metrics;
use crate::positions::Position;
use crate::source::Source;
use crate::workload;

/// Attribute that marks a line that was cut: its length in bytes before.
const CUT_LINE: &str = "trefoil.line_bytes";

/// What is read again after a restart.
#[derive(Debug)]
struct Replay {
    /// Lines that begin before this are read again only if they were held.
    until: u64,
    held: Vec<u64>,
}

/// Whether the path still leads to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Present,
    /// Renamed or removed at that time (monotonic); what is written to it is still read.
    Away(Duration),
}

/// A file that is followed.
pub(crate) struct Followed {
    pub(crate) id: u64,
    pub(crate) source: Arc<Source>,
    pub(crate) path: PathBuf,
    pub(crate) inode: Inode,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) reader: LineReader,
    pub(crate) handle: Option<File>,
    pub(crate) fate: Fate,
    /// Another file whose content this one has too, so far.
    pub(crate) copy_of: Option<u64>,
    /// A copy of a file that was truncated: it may still be growing to where that was read.
    pub(crate) is_copy: bool,
    /// Length when it was last looked at.
    pub(crate) size: u64,
    /// When it last grew, and when it was last looked at (monotonic).
    pub(crate) changed: Duration,
    pub(crate) polled: Option<Duration>,
    /// Its position differs from what is durable.
    pub(crate) is_dirty: bool,
    labels: Labels,
    pipeline: Option<Pipeline>,
    replay: Option<Replay>,
    last_time_ns: i64,
}

impl Followed {
    pub(crate) fn new(id: u64, source: Arc<Source>, path: &Path, inode: Inode, fingerprint: Fingerprint) -> Self {
        let mut labels = trefoil_model::labels::LabelsBuilder::new();
        for (name, value) in workload::labels(path) {
            labels.set(name, value);
        }
        labels.set("filename", path.to_string_lossy());
        for (name, value) in source.labels.iter() {
            labels.set(name, value);
        }
        Self {
            id,
            source,
            path: path.to_path_buf(),
            inode,
            fingerprint,
            reader: LineReader::at(0),
            handle: None,
            fate: Fate::Present,
            copy_of: None,
            is_copy: false,
            size: 0,
            changed: Duration::ZERO,
            polled: None,
            is_dirty: true,
            labels: labels.build(),
            pipeline: None,
            replay: None,
            last_time_ns: 0,
        }
    }

    /// Goes on where it was left.
    pub(crate) fn resume(&mut self, position: &Position) {
        self.resume_at(position.read, &position.held);
        self.is_copy = position.is_copy;
    }

    /// Goes on at an offset, and reads lines that were held before it again.
    pub(crate) fn resume_at(&mut self, read: u64, held: &[u64]) {
        let from = held.iter().copied().min().unwrap_or(read).min(read);
        self.reader = LineReader::at(from);
        if from < read {
            self.replay = Some(Replay { until: read, held: held.to_vec() });
        }
    }

    /// Where it stands, for the positions file.
    pub(crate) fn position(&self) -> Position {
        let mut held = Vec::new();
        if let Some(pipeline) = &self.pipeline {
            pipeline.held(&mut held);
        }
        let mut read = self.reader.offset;
        // What was not yet read again is held still.
        if let Some(replay) = &self.replay {
            held.extend(replay.held.iter().filter(|start| **start >= read));
            read = replay.until.max(read);
        }
        held.sort_unstable();
        held.dedup();
        Position {
            id: self.id,
            path: self.path.clone(),
            inode: self.inode,
            fingerprint: self.fingerprint,
            read,
            held,
            is_copy: self.is_copy,
        }
    }

    /// Bytes that are not yet read.
    pub(crate) fn lag(&self) -> u64 {
        if self.copy_of.is_some() { 0 } else { self.size.saturating_sub(self.reader.offset) }
    }

    pub(crate) fn is_holding(&self) -> bool {
        self.pipeline.as_ref().is_some_and(Pipeline::is_holding)
    }

    /// Makes entries of a line.
    pub(crate) fn take(&mut self, line: &Line<'_>, kept: usize, now: Moment, out: &mut Vec<Entry>) {
        if let Some(replay) = &self.replay {
            if line.start < replay.until {
                if !replay.held.contains(&line.start) {
                    return;
                }
            } else {
                self.replay = None;
            }
        }
        metrics::LINES.inc();
        metrics::BYTES.inc_by(line.length + 1);
        let (text, is_bad) = self.source.encoding.text(line.bytes);
        if is_bad {
            metrics::INVALID_LINES.inc();
        }
        let pipeline = self.pipeline.get_or_insert_with(|| Pipeline::new(&self.source.plan_for(&text)));
        // Lines that have no time of their own keep their order, and each has a time of its own.
        self.last_time_ns = now.wall_ns.max(self.last_time_ns.saturating_add(1));
        let mut text = text.into_owned();
        let is_cut = line.length > line.bytes.len() as u64 || text.len() > kept;
        if text.len() > kept {
            text.truncate(text.floor_char_boundary(kept));
        }
        let mut entry = Entry::new(self.labels.clone(), self.last_time_ns, text, line.start);
        if is_cut {
            limits::hit("log_line_cut_bytes");
            let length = AttributeValue::Int(i64::try_from(line.length).unwrap_or(i64::MAX));
            entry.record.attributes.push((CUT_LINE.to_owned(), length));
        }
        pipeline.push(entry, now, out);
    }

    /// Entries that were held long enough; all of them when the file has ended.
    pub(crate) fn flush(&mut self, all: bool, now: Moment, out: &mut Vec<Entry>) {
        let Some(pipeline) = &mut self.pipeline else { return };
        if all {
            pipeline.flush_all(now, out);
        } else {
            pipeline.flush_due(now, out);
        }
    }

    /// How long limits ask the reader to rest.
    pub(crate) fn take_wait(&mut self) -> Duration {
        self.pipeline.as_mut().map_or(Duration::ZERO, Pipeline::take_wait)
    }

    /// Starts at the beginning: the content is another one.
    pub(crate) fn restart(&mut self, fingerprint: Fingerprint) {
        self.fingerprint = fingerprint;
        self.reader = LineReader::at(0);
        self.replay = None;
        self.is_copy = false;
        self.pipeline = None;
        self.is_dirty = true;
        self.size = 0;
    }

    /// True when the file has no name any more.
    pub(crate) fn is_unlinked(metadata: &Metadata) -> bool {
        metadata.nlink() == 0
    }
}
