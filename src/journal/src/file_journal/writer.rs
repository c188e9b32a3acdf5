//! The writer thread: takes commit groups off the queue, writes each with one sync, answers its appenders.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use trefoil_runtime::VfsFile;

use super::queue::{Request, State};
use super::recovery::{Recovered, SegmentInfo};
use super::{JournalOptions, Shared};
use crate::JournalError;
use crate::record::{self, RecordType};
use crate::segment::{self, SegmentHeader};
use crate::store::{Appended, Position};

pub(super) struct Writer {
    shared: Arc<Shared>,
    options: JournalOptions,
    epoch: u64,
    next_segment: u64,
    /// See [`SegmentHeader::unproven_sequence`]; for the first segment that this writer begins.
    unproven_sequence: Option<u64>,
    /// `None` before the first append and after the file became unusable.
    current: Option<Current>,
    /// The encoded group, kept to reuse its memory.
    buffer: Vec<u8>,
}

/// The segment that is written to.
struct Current {
    file: Box<dyn VfsFile>,
    number: u64,
    /// Bytes that are synced.
    len: u64,
    /// Checksum that the next record names.
    previous: u32,
}

/// Why a group could not be written.
enum Failure {
    /// No room. The next group tries again.
    NoSpace,
    /// The file must not be used any more.
    Dead(&'static str, io::Error),
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Ends the queue even when the writer panics, so that nobody waits for an answer for ever.
struct EndOnDrop(Arc<Shared>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.read_only.store(true, Ordering::Release);
        }
        self.0.queue.end();
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, options: JournalOptions, recovered: &Recovered) -> Self {
        Self {
            shared,
            options,
            epoch: recovered.epoch,
            next_segment: recovered.next_segment,
            unproven_sequence: Some(recovered.unproven_sequence),
            current: None,
            buffer: Vec::new(),
        }
    }

    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _end = EndOnDrop(Arc::clone(&shared));
        let window = self.options.group_window.min(std::time::Duration::from_millis(10));
        let mut wanted = 1;
        loop {
            let (group, state) = shared.queue.take(wanted, window, self.options.group_bytes);
            if group.is_empty() {
                if state == State::Closing {
                    self.write_close_record();
                }
                return;
            }
            wanted = group.len();
            self.commit(group);
        }
    }

    /// Makes a group durable and answers it, whatever happens.
    fn commit(&mut self, group: Vec<Request>) {
        let (rotations, group): (Vec<_>, Vec<_>) = group.into_iter().partition(|request| request.record.is_empty());
        if !group.is_empty() {
            self.commit_records(group);
        }
        if !rotations.is_empty() {
            // The record proves to a reader of the segment alone that all before it was synced.
            self.write_close_record();
            self.current = None;
            let position = *self.shared.end.lock();
            for request in rotations {
                drop(request.reply.send(Ok(Appended { position })));
                drop(request.permit);
            }
        }
    }

    fn commit_records(&mut self, group: Vec<Request>) {
        let journal = self.shared.name;
        let payloads: Vec<&[u8]> = group.iter().map(|request| &request.record[..]).collect();
        match self.write_durably(RecordType::Data, &payloads) {
            Ok(ends) => {
                for (request, position) in group.into_iter().zip(ends) {
                    // An appender that no longer waits is no error.
                    drop(request.reply.send(Ok(Appended { position })));
                    drop(request.permit);
                }
            }
            Err(failure) => {
                for request in group {
                    let error = match failure {
                        Refusal::NoSpace => JournalError::NoSpace { journal },
                        Refusal::ReadOnly => JournalError::ReadOnly { journal },
                    };
                    drop(request.reply.send(Err(error)));
                }
            }
        }
    }

    /// Proves to the next reader that all before it was synced. Failing to write it loses nothing.
    fn write_close_record(&mut self) {
        if self.current.is_some() && !self.shared.read_only.load(Ordering::Acquire) {
            drop(self.write_durably(RecordType::Close, &[&[]]));
        }
    }

    /// Writes a group. When a file fails, the group is written again from memory to a new one, once.
    fn write_durably(&mut self, kind: RecordType, payloads: &[&[u8]]) -> Result<Vec<Position>, Refusal> {
        if self.shared.read_only.load(Ordering::Acquire) {
            return Err(Refusal::ReadOnly);
        }
        for attempt in 1..=2 {
            match self.try_write(kind, payloads) {
                Ok(ends) => return Ok(ends),
                Err(Failure::NoSpace) => {
                    tracing::warn!(journal = self.shared.name, "journal is out of disk space, refusing a group");
                    return Err(Refusal::NoSpace);
                }
                Err(Failure::Dead(action, error)) => {
                    self.shared.metrics.fsync_failures.inc();
                    self.current = None;
                    tracing::error!(journal = self.shared.name, action, attempt, %error, "journal segment failed");
                    if is_no_space(&error) {
                        return Err(Refusal::NoSpace);
                    }
                }
            }
        }
        self.shared.read_only.store(true, Ordering::Release);
        tracing::error!(journal = self.shared.name, "journal is read-only until a restart");
        Err(Refusal::ReadOnly)
    }

    fn try_write(&mut self, kind: RecordType, payloads: &[&[u8]]) -> Result<Vec<Position>, Failure> {
        if self.current.as_ref().is_some_and(|current| current.len >= self.options.segment_bytes) {
            self.current = None;
        }
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.begin_segment()?,
        };
        let first_sequence = self.shared.next_sequence.load(Ordering::Acquire);
        self.buffer.clear();
        let mut previous = current.previous;
        let mut ends = Vec::with_capacity(payloads.len());
        let mut sequence = first_sequence;
        for (index, payload) in (0u32..).zip(payloads) {
            previous = record::encode(&mut self.buffer, kind, sequence, index, previous, payload);
            ends.push(Position { segment: current.number, offset: current.len + self.buffer.len() as u64 });
            sequence += 1;
        }
        if let Err(error) = current.file.write_all(&self.buffer) {
            if is_no_space(&error) {
                // Back to the last good record. A file that cannot be cut is left as it is: the header of the next
                // segment says that the rest of it does not count.
                let path = segment::path(&self.shared.dir, current.number);
                let cut = self.shared.vfs.set_len(&path, current.len);
                if cut.is_ok() {
                    self.current = self.reopen(current);
                }
                return Err(Failure::NoSpace);
            }
            return Err(Failure::Dead("write", error));
        }
        let timer = self.shared.metrics.fsync_seconds.start_timer();
        current.file.sync_data().map_err(|error| Failure::Dead("sync", error))?;
        timer.observe_duration();
        self.unproven_sequence = None;

        current.len += self.buffer.len() as u64;
        current.previous = previous;
        self.shared.metrics.appended_bytes.inc_by(self.buffer.len() as u64);
        if kind == RecordType::Data {
            self.shared.metrics.appended_records.inc_by(payloads.len() as u64);
        }
        if let Some(info) = self.shared.segments.lock().last_mut() {
            info.bytes = current.len;
        }
        {
            // Both under the lock, so that a replay sees an end and the number that belongs to it.
            let mut end = self.shared.end.lock();
            *end = Position { segment: current.number, offset: current.len };
            self.shared.next_sequence.store(sequence, Ordering::Release);
        }
        self.current = Some(current);
        if self.buffer.capacity() > 2 * self.options.group_bytes {
            self.buffer = Vec::new();
        }
        Ok(ends)
    }

    /// Opens a segment again after it was cut, so that the file's own count is right.
    fn reopen(&self, current: Current) -> Option<Current> {
        let path = segment::path(&self.shared.dir, current.number);
        let Current { file, number, len, previous } = current;
        drop(file);
        let file = self.shared.vfs.open_append(&path).ok()?;
        (file.len() == len).then_some(Current { file, number, len, previous })
    }

    /// Begins a segment; its header and name are durable before the first record is written.
    fn begin_segment(&mut self) -> Result<Current, Failure> {
        let vfs = &self.shared.vfs;
        let number = self.next_segment;
        let first_sequence = self.shared.next_sequence.load(Ordering::Acquire);
        // Until a group is synced in a new segment, every new segment must say it.
        let unproven_sequence = self.unproven_sequence.unwrap_or(first_sequence);
        let header = SegmentHeader { segment: number, epoch: self.epoch, first_sequence, unproven_sequence };
        let (header, previous) = header.encode();
        let path = segment::path(&self.shared.dir, number);
        // A number is used once, also when the attempt fails and its file cannot be removed.
        self.next_segment += 1;
        let begin = || -> io::Result<Box<dyn VfsFile>> {
            let mut file = vfs.create(&path)?;
            file.write_all(&header)?;
            file.sync_all()?;
            vfs.sync_dir(&self.shared.dir)?;
            Ok(file)
        };
        let file = begin().map_err(|error| {
            // An empty segment left behind is removed when the journal is opened.
            drop(vfs.remove_file(&path));
            if is_no_space(&error) { Failure::NoSpace } else { Failure::Dead("begin a segment", error) }
        })?;
        let len = header.len() as u64;
        self.shared.segments.lock().push(SegmentInfo {
            number,
            bytes: len,
            first_sequence: Some(first_sequence),
            unproven_sequence: Some(unproven_sequence),
            damaged: false,
        });
        Ok(Current { file, number, len, previous })
    }
}

/// What the appenders of a group are told.
#[derive(Clone, Copy)]
enum Refusal {
    NoSpace,
    ReadOnly,
}
