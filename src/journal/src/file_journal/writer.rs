//! The writer thread: takes commit groups off the queue, writes each with one sync, answers its appenders.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use trefoil_runtime::VfsFile;

use super::queue::{Request, State};
use super::recovery::{Recovered, SegmentInfo};
use super::{JournalOptions, Shared};
use crate::record::{self, RecordType};
use crate::segment::{self, SegmentHeader};
use crate::store::{Appended, Position};
use crate::{JournalError, copies};

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
    /// The copies of the segment that is written to, once there are some; without a file after an error.
    copies: Option<Copies>,
}

/// The file with the copies of a segment.
struct Copies {
    segment: u64,
    encoder: copies::Encoder,
    file: Option<Box<dyn VfsFile>>,
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
    /// A new file cannot be made. Nothing was written, so the next group tries again.
    NoFile(io::Error),
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
            copies: None,
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
                self.end_copies();
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
            self.end_copies();
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
                self.keep_copies(&group, &ends);
                for (request, position) in group.into_iter().zip(ends) {
                    // An appender that no longer waits is no error.
                    drop(request.reply.send(Ok(Appended { position })));
                    drop(request.permit);
                }
            }
            Err(failure) => {
                for request in group {
                    let error = match &failure {
                        Refusal::NoSpace => JournalError::NoSpace { journal },
                        Refusal::ReadOnly => self.shared.read_only_error(),
                        Refusal::NoFile(error) => JournalError::Io {
                            journal,
                            action: "begin a segment".to_owned(),
                            source: io::Error::new(error.kind(), error.to_string()),
                        },
                    };
                    drop(request.reply.send(Err(error)));
                }
            }
        }
    }

    /// Writes the copies of a group that was synced. A failure costs the copies of the segment, nothing else.
    fn keep_copies(&mut self, group: &[Request], ends: &[Position]) {
        let Some(segment) = ends.last().map(|end| end.segment) else { return };
        if group.iter().all(|request| request.copy.is_empty()) {
            return;
        }
        let mut bytes = Vec::new();
        if self.copies.as_ref().is_none_or(|copies| copies.segment != segment) {
            self.end_copies();
            let encoder = copies::Encoder::begin(segment, &mut bytes);
            let file = self.shared.vfs.create(&copies::path(&self.shared.dir, segment));
            let file = file.map_err(|error| self.copies_failed("create", &error)).ok();
            self.shared.copies.lock().extend(file.is_some().then_some(segment));
            self.copies = Some(Copies { segment, encoder, file });
        }
        let Some(copies) = &mut self.copies else { return };
        let Some(file) = &mut copies.file else { return };
        let first = self.shared.next_sequence.load(Ordering::Acquire).saturating_sub(group.len() as u64);
        for ((request, end), sequence) in group.iter().zip(ends).zip(first..) {
            if !request.copy.is_empty() {
                copies.encoder.add(sequence, end.offset, &request.copy, &mut bytes);
            }
        }
        if let Err(error) = file.write_all(&bytes) {
            copies.file = None;
            self.copies_failed("write", &error);
        }
    }

    /// Syncs the copies of a segment that gets no more.
    fn end_copies(&mut self) {
        if let Some(Copies { file: Some(mut file), .. }) = self.copies.take() {
            let synced = file.sync_data().and_then(|()| self.shared.vfs.sync_dir(&self.shared.dir));
            if let Err(error) = synced {
                self.copies_failed("sync", &error);
            }
        }
    }

    fn copies_failed(&self, action: &'static str, error: &io::Error) {
        self.shared.metrics.copy_failures.inc();
        tracing::warn!(journal = self.shared.name, action, %error, "copies of a journal segment failed, it has none");
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
        let mut last = String::new();
        for attempt in 1..=2 {
            match self.try_write(kind, payloads) {
                Ok(ends) => {
                    if self.shared.trouble.lock().take().is_some() {
                        tracing::info!(journal = self.shared.name, "journal takes records again");
                    }
                    return Ok(ends);
                }
                Err(Failure::NoFile(_)) if attempt == 1 => {}
                Err(Failure::NoFile(error)) => {
                    let cause = format!("begin a segment in {}: {error}", self.shared.dir.display());
                    let before = self.shared.trouble.lock().replace(cause.clone());
                    // Once, not for every group.
                    if before.as_ref() != Some(&cause) {
                        tracing::error!(journal = self.shared.name, cause, "journal takes no records");
                    }
                    return Err(Refusal::NoFile(error));
                }
                Err(Failure::NoSpace) => {
                    tracing::warn!(journal = self.shared.name, "journal is out of disk space, refusing a group");
                    return Err(Refusal::NoSpace);
                }
                Err(Failure::Dead(action, error)) => {
                    self.shared.metrics.fsync_failures.inc();
                    self.current = None;
                    tracing::error!(journal = self.shared.name, action, attempt, %error, "journal segment failed");
                    last = format!("{action}: {error}");
                    if is_no_space(&error) {
                        return Err(Refusal::NoSpace);
                    }
                }
            }
        }
        tracing::error!(journal = self.shared.name, cause = last, "journal is read-only until a restart");
        *self.shared.trouble.lock() = Some(last);
        self.shared.read_only.store(true, Ordering::Release);
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
        self.end_copies();
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
        let file = vfs.create(&path);
        let mut file =
            file.map_err(|error| if is_no_space(&error) { Failure::NoSpace } else { Failure::NoFile(error) })?;
        let mut begin = || -> io::Result<()> {
            file.write_all(&header)?;
            file.sync_all()?;
            vfs.sync_dir(&self.shared.dir)
        };
        begin().map_err(|error| {
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
enum Refusal {
    NoSpace,
    NoFile(io::Error),
    ReadOnly,
}
