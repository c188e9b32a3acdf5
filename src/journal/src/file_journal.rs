//! The journal on the local disk: segment files, one writer thread, group commit.

mod mend;
mod queue;
mod recovery;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use trefoil_runtime::SharedVfs;

use self::queue::{Queue, Request};
use self::recovery::SegmentInfo;
use self::writer::Writer;
use crate::metrics::Metrics;
use crate::record::PAYLOAD_BYTES_MAX;
use crate::scan::{Found, Scan};
use crate::store::{Appended, CopiesReport, Damage, JournalStore, Position, ReplayReport, ReplayStop, Torn};
use crate::{JournalError, copies, record, segment};

/// How a journal on the local disk works.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Bytes after which a new segment is begun; replay holds one in memory. Default 16 MiB.
    pub segment_bytes: u64,
    /// How long a commit group waits for others, and only while the group before it had more records than this one
    /// has so far: a lone writer never waits. Default 2 ms, at most 10 ms.
    pub group_window: Duration,
    /// Bytes after which a group is committed at once. Default 8 MiB.
    pub group_bytes: usize,
    /// Records that may wait; further appends wait before they are queued. Default 1024.
    pub queue_max: usize,
    /// Name in metrics, logs and errors.
    pub name: &'static str,
    /// New segments get at least this number. Pass one more than the segment of the committed position, so that a
    /// journal that lost its files is not mistaken for the old one. Default 1.
    pub segment_min: u64,
    /// New records get at least this sequence number. Pass that of the committed position, for the same reason. Default 1.
    pub sequence_min: u64,
}

impl JournalOptions {
    /// The default options under a name.
    pub fn named(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            group_window: Duration::from_millis(2),
            group_bytes: 8 << 20,
            queue_max: 1024,
            name: "journal",
            segment_min: 1,
            sequence_min: 1,
        }
    }
}

/// A journal in a directory of segment files. Dropping it waits for what is queued.
pub struct FileJournal {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What the handle and the writer thread share.
struct Shared {
    vfs: SharedVfs,
    dir: PathBuf,
    name: &'static str,
    queue: Queue,
    /// Segments in order; the last one is written to, or was when the journal was opened.
    segments: Mutex<Vec<SegmentInfo>>,
    /// Segments that have a file with copies.
    copies: Mutex<BTreeSet<u64>>,
    /// What was found at the end when the journal was opened.
    torn: Option<Torn>,
    /// Records that copies prove to have been there, when not one segment is left.
    all_lost: Option<Damage>,
    /// Whether there was any file of the journal when it was opened.
    had_files: bool,
    /// End of the last synced record.
    end: Mutex<Position>,
    /// Sequence number after the last synced record.
    next_sequence: AtomicU64,
    read_only: AtomicBool,
    /// Why the last group was refused, when it was not for want of room.
    trouble: Mutex<Option<String>>,
    metrics: Metrics,
}

impl Shared {
    fn io(&self, action: String) -> impl FnOnce(std::io::Error) -> JournalError + use<> {
        let journal = self.name;
        move |source| JournalError::Io { journal, action, source }
    }

    fn read_only_error(&self) -> JournalError {
        let cause = self.trouble.lock().clone().unwrap_or_else(|| "its writer is gone".to_owned());
        JournalError::ReadOnly { journal: self.name, cause }
    }

    /// Removes a file that is no longer needed, or keeps it under another name.
    fn put_away(&self, path: &Path, is_damaged: bool) -> std::io::Result<()> {
        if !is_damaged {
            return self.vfs.remove_file(path);
        }
        let mut aside = path.as_os_str().to_owned();
        aside.push(segment::QUARANTINE_SUFFIX);
        self.vfs.rename(path, Path::new(&aside))
    }

    /// Gives a segment and its copies second names in a directory. Says whether the segment's is new.
    fn link(&self, number: u64, dir: &Path) -> Result<bool, JournalError> {
        use std::io::ErrorKind;
        let is_new = match self.vfs.hard_link(&segment::path(&self.dir, number), &segment::path(dir, number)) {
            Ok(()) => true,
            // A second attempt.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            // Truncated meanwhile.
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    && !self.segments.lock().iter().any(|kept| kept.number == number) =>
            {
                false
            }
            Err(error) => return Err(self.io(format!("link segment {number}"))(error)),
        };
        if self.copies.lock().contains(&number) {
            match self.vfs.hard_link(&copies::path(&self.dir, number), &copies::path(dir, number)) {
                Err(error) if !matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {
                    return Err(self.io(format!("link the copies of segment {number}"))(error));
                }
                _ => {}
            }
        }
        Ok(is_new)
    }

    /// Notes that a segment is damaged, once.
    fn report(&self, damage: &Damage) {
        if !damage.was_needed {
            tracing::warn!(
                journal = self.name,
                segment = damage.segment,
                from = damage.from,
                to = damage.to,
                "journal segment is damaged where its records are elsewhere already"
            );
            return;
        }
        if !damage.was_synced {
            tracing::warn!(
                journal = self.name,
                segment = damage.segment,
                from = damage.from,
                to = damage.to,
                first_missing = damage.first_missing,
                next_found = damage.next_found,
                "the last commit group before a restart is gone, its sync was not confirmed"
            );
            return;
        }
        let mut segments = self.segments.lock();
        let Some(info) = segments.iter_mut().find(|info| info.number == damage.segment) else { return };
        if info.damaged {
            return;
        }
        info.damaged = true;
        self.metrics.quarantined_segments.inc();
        tracing::error!(
            journal = self.name,
            segment = damage.segment,
            from = damage.from,
            to = damage.to,
            first_missing = damage.first_missing,
            next_found = damage.next_found,
            "journal segment is damaged, going on after the bad range"
        );
    }
}

impl FileJournal {
    /// Opens the journal in `dir`, creating the directory when it is missing.
    ///
    /// A torn tail of the newest segment is cut. Nothing is written until the first append, which begins a segment.
    pub fn open(vfs: SharedVfs, dir: &Path, options: JournalOptions) -> Result<Self, JournalError> {
        let recovered = recovery::recover(&vfs, dir, &options)?;
        let sequence_min = options.sequence_min;
        let segments = recovered.segments.clone();
        let shared = Arc::new(Shared {
            vfs,
            dir: dir.to_owned(),
            name: options.name,
            queue: Queue::new(options.queue_max.max(1)),
            end: Mutex::new(recovered.end),
            next_sequence: AtomicU64::new(recovered.next_sequence),
            segments: Mutex::new(segments),
            copies: Mutex::new(recovered.copies.clone()),
            torn: recovered.torn,
            all_lost: recovered.all_lost,
            had_files: recovered.had_files,
            read_only: AtomicBool::new(false),
            trouble: Mutex::default(),
            metrics: Metrics::new(options.name),
        });
        for damage in &recovered.damage {
            shared.report(&damage.since(Some(sequence_min)));
        }
        let writer = Writer::new(Arc::clone(&shared), options, &recovered);
        let thread = std::thread::Builder::new()
            .name(format!("journal-{}", shared.name))
            .spawn(move || writer.run())
            .map_err(shared.io("start the writer thread".to_owned()))?;
        Ok(Self { shared, writer: Mutex::new(Some(thread)) })
    }

    /// Appends like [`JournalStore::append`], for callers without a runtime. Blocks.
    pub fn append_blocking(&self, record: Bytes) -> Result<Appended, JournalError> {
        self.check(&record)?;
        let (reply, answer) = oneshot::channel();
        if !self.shared.queue.push_blocking(Request { record, copy: Bytes::new(), reply, permit: None }) {
            return Err(JournalError::Closed { journal: self.shared.name });
        }
        answer.blocking_recv().unwrap_or_else(|_| Err(self.shared.read_only_error()))
    }

    /// Refuses at once what can never be appended.
    fn check(&self, record: &Bytes) -> Result<(), JournalError> {
        let journal = self.shared.name;
        if record.is_empty() || record.len() > PAYLOAD_BYTES_MAX {
            trefoil_runtime::limits::hit("journal_record_bytes_max");
            return Err(JournalError::RecordSize { journal, bytes: record.len(), max: PAYLOAD_BYTES_MAX });
        }
        if self.is_read_only() {
            return Err(self.shared.read_only_error());
        }
        Ok(())
    }

    fn join(&self) {
        let thread = self.writer.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!(journal = self.shared.name, "journal writer panicked");
        }
    }
}

impl Drop for FileJournal {
    fn drop(&mut self) {
        self.shared.queue.close(false);
        self.join();
    }
}

#[async_trait::async_trait]
impl JournalStore for FileJournal {
    async fn append(&self, record: Bytes) -> Result<Appended, JournalError> {
        self.append_with_copy(record, Bytes::new()).await
    }

    async fn append_with_copy(&self, record: Bytes, copy: Bytes) -> Result<Appended, JournalError> {
        self.check(&record)?;
        let (reply, answer) = oneshot::channel();
        if !self.shared.queue.push(record, copy, reply).await {
            return Err(JournalError::Closed { journal: self.shared.name });
        }
        // The writer answers every request, unless it panicked: then nobody writes any more.
        answer.await.unwrap_or_else(|_| Err(self.shared.read_only_error()))
    }

    fn end(&self) -> Position {
        *self.shared.end.lock()
    }

    fn end_sequence(&self) -> (Position, u64) {
        let end = self.shared.end.lock();
        (*end, self.shared.next_sequence.load(Ordering::Acquire))
    }

    fn replay_since(
        &self,
        from: Position,
        sequence: Option<u64>,
        each: &mut dyn FnMut(Position, &[u8]) -> Result<(), ReplayStop>,
    ) -> Result<ReplayReport, JournalError> {
        let shared = &self.shared;
        let (end, end_sequence) = self.end_sequence();
        let segments: Vec<SegmentInfo> = shared.segments.lock().clone();
        let mut report = ReplayReport { end: from, torn: shared.torn, ..ReplayReport::default() };
        if segments.is_empty() {
            report.damage.extend(shared.all_lost);
        }
        let mut expected = None;
        // What the oldest segment must not begin behind.
        let mut begin = sequence;
        for (index, info) in segments.iter().enumerate() {
            if info.number < from.segment || info.number > end.segment {
                continue;
            }
            // Records from here on were acknowledged from the next segment, if from anywhere.
            let stop_sequence = segments
                .get(index + 1)
                .filter(|next| next.number <= end.segment)
                .map_or(Some(end_sequence), |next| next.first_sequence);
            // What is missing from here on may never have been synced. After an empty segment it is said again.
            let unproven = segments[index + 1..].iter().filter_map(|next| next.unproven_sequence).min();
            let path = segment::path(&shared.dir, info.number);
            let action = format!("read segment {}", info.number);
            // The newest segment may still grow or be cut, but never before `end`, behind which nothing is looked at.
            let bytes = shared.vfs.map(&path).map_err(shared.io(action))?;
            let len = if info.number == end.segment { bytes.len().min(end.offset as usize) } else { bytes.len() };
            let scan = Scan::new(&bytes[..len], expected).map_err(|found| JournalError::Version {
                journal: shared.name,
                segment: info.number,
                found,
            })?;
            let missing_before = match (expected.or(begin.take()), scan.expected()) {
                (Some(expected), Some(first)) if first > expected => Some((expected, first)),
                _ => None,
            };
            if let Some((first_missing, next_found)) = missing_before {
                let damage = Damage {
                    segment: info.number,
                    from: 0,
                    to: 0,
                    first_missing,
                    next_found,
                    was_synced: true,
                    was_needed: true,
                };
                let damage = damage.since(sequence);
                shared.report(&damage);
                report.damage.push(damage);
            }
            let known = report.damage.len();
            let outcome = replay_segment(info.number, scan, stop_sequence, from, &mut report, each);
            for damage in &mut report.damage[known..] {
                damage.was_synced = unproven.is_none_or(|unproven| damage.first_missing < unproven);
                *damage = damage.since(sequence);
                shared.report(damage);
            }
            match outcome {
                Ok(next) => expected = next.or(stop_sequence),
                Err((_, ReplayStop::Done)) => return Ok(report),
                Err((position, ReplayStop::Failed(source))) => {
                    return Err(JournalError::Stopped { journal: shared.name, position, source });
                }
            }
        }
        // A journal without any file is that of a copy of the parts alone.
        if end < from && shared.had_files && report.damage.is_empty() {
            let place = if end.segment == from.segment { end.offset } else { 0 };
            let (segment, next_found) = (from.segment, sequence.unwrap_or(end_sequence));
            let damage = Damage {
                segment,
                from: place.max(1),
                to: place.max(1),
                first_missing: next_found,
                next_found,
                was_synced: true,
                was_needed: true,
            };
            shared.report(&damage);
            report.damage.push(damage);
        }
        Ok(report)
    }

    fn copies(&self, each: &mut dyn FnMut(&[u8])) -> Result<CopiesReport, JournalError> {
        let shared = &self.shared;
        let numbers = shared.copies.lock().clone();
        let mut report = CopiesReport::default();
        for segment in numbers {
            let path = copies::path(&shared.dir, segment);
            let bytes = match shared.vfs.map(&path) {
                Ok(bytes) => bytes,
                // Truncated meanwhile, or as good as damaged.
                Err(error) => {
                    tracing::warn!(journal = shared.name, segment, %error, "copies of a journal segment are not readable");
                    report.damage.push(Torn { segment, from: 0, to: 0 });
                    continue;
                }
            };
            let bad = copies::read(&bytes, |copy| {
                report.copies += 1;
                each(copy.payload);
            });
            report.damage.extend(bad.into_iter().map(|(from, to)| Torn { segment, from, to }));
        }
        Ok(report)
    }

    fn copied(&self) -> BTreeMap<u64, BTreeSet<u64>> {
        self.shared.copied()
    }

    fn mend_copies(
        &self,
        segment: u64,
        copy_of: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<usize, JournalError> {
        self.shared.mend_copies(segment, copy_of)
    }

    fn truncate_before(&self, position: Position) -> Result<(), JournalError> {
        let shared = &self.shared;
        let removable: Vec<SegmentInfo> = {
            let segments = shared.segments.lock();
            let older = segments.len().saturating_sub(1);
            let wholly_before = |info: &&SegmentInfo| Position { segment: info.number, offset: info.bytes } <= position;
            segments[..older].iter().take_while(wholly_before).copied().collect()
        };
        let oldest_kept = shared.segments.lock().get(removable.len()).map_or(0, |info| info.number);
        // Also those whose segment is missing.
        let copies: Vec<u64> = shared.copies.lock().range(..oldest_kept.min(position.segment)).copied().collect();
        if removable.is_empty() && copies.is_empty() {
            return Ok(());
        }
        let damaged: BTreeSet<u64> = removable.iter().filter(|info| info.damaged).map(|info| info.number).collect();
        for info in removable {
            let path = segment::path(&shared.dir, info.number);
            let done = shared.put_away(&path, info.damaged);
            done.map_err(shared.io(format!("remove segment {}", info.number)))?;
            shared.segments.lock().retain(|kept| kept.number != info.number);
        }
        for number in copies {
            match shared.put_away(&copies::path(&shared.dir, number), damaged.contains(&number)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(shared.io(format!("remove the copies of segment {number}"))(error));
                }
                _ => shared.copies.lock().remove(&number),
            };
        }
        shared.vfs.sync_dir(&shared.dir).map_err(shared.io("sync the directory".to_owned()))
    }

    async fn rotate(&self) -> Result<Position, JournalError> {
        let journal = self.shared.name;
        let (reply, answer) = oneshot::channel();
        if !self.shared.queue.push(Bytes::new(), Bytes::new(), reply).await {
            return Err(JournalError::Closed { journal });
        }
        let ended = answer.await.unwrap_or_else(|_| Err(self.shared.read_only_error()))?;
        Ok(ended.position)
    }

    fn link_segments(&self, through: Position, dir: &Path) -> Result<(), JournalError> {
        let shared = &self.shared;
        trefoil_runtime::vfs::create_dir_durable(&*shared.vfs, dir)
            .map_err(shared.io(format!("create {}", dir.display())))?;
        let segments: Vec<SegmentInfo> = shared.segments.lock().clone();
        for info in segments.iter().filter(|info| info.number <= through.segment) {
            shared.link(info.number, dir)?;
        }
        shared.vfs.sync_dir(dir).map_err(shared.io(format!("sync {}", dir.display())))
    }

    fn first_segment(&self) -> Option<u64> {
        self.shared.segments.lock().first().map(|info| info.number)
    }

    fn keep(&self, segments: &BTreeSet<u64>) -> Result<usize, JournalError> {
        let shared = &self.shared;
        if segments.is_empty() || shared.vfs.is_read_only() {
            return Ok(0);
        }
        let dir = shared.dir.join(segment::LOST_DIR);
        trefoil_runtime::vfs::create_dir_durable(&*shared.vfs, &dir)
            .map_err(shared.io(format!("create {}", dir.display())))?;
        let mut kept = 0;
        for number in segments {
            kept += usize::from(shared.link(*number, &dir)?);
        }
        shared.metrics.kept_segments.inc_by(kept as u64);
        shared.vfs.sync_dir(&dir).map_err(shared.io(format!("sync {}", dir.display())))?;
        Ok(kept)
    }

    fn is_read_only(&self) -> bool {
        self.shared.read_only.load(Ordering::Acquire)
    }

    fn trouble(&self) -> Option<String> {
        let trouble = self.shared.trouble.lock().clone();
        trouble.or_else(|| self.is_read_only().then(|| self.shared.read_only_error().to_string()))
    }

    fn bytes(&self) -> u64 {
        self.shared.segments.lock().iter().map(|info| info.bytes).sum()
    }

    async fn close(&self) {
        self.shared.queue.close(true);
        self.shared.queue.drained().await;
    }
}

#[expect(clippy::type_complexity, reason = "the receiver's type is clearer in place")]
/// Delivers the records of one segment. Returns the sequence number after its last record, if it is known.
fn replay_segment(
    number: u64,
    scan: Scan<'_>,
    stop_sequence: Option<u64>,
    from: Position,
    report: &mut ReplayReport,
    each: &mut dyn FnMut(Position, &[u8]) -> Result<(), ReplayStop>,
) -> Result<Option<u64>, (Position, ReplayStop)> {
    let superseded = |sequence: u64| stop_sequence.is_some_and(|stop| sequence >= stop);
    let mut next = scan.expected();
    for found in scan {
        match found {
            Found::Record { start, end, record } => {
                if superseded(record.sequence) {
                    break;
                }
                next = Some(record.sequence + 1);
                let position = Position { segment: number, offset: end };
                let is_wanted = Position { segment: number, offset: start } >= from;
                if record.kind != record::RecordType::Data || !is_wanted {
                    continue;
                }
                each(position, record.payload).map_err(|stop| (position, stop))?;
                report.records += 1;
                report.bytes += record.payload.len() as u64;
                report.end = position;
            }
            Found::Gap { from, to, expected, found, .. } => {
                if expected.is_some_and(superseded) {
                    break;
                }
                let first_missing = Damage::first_missing(expected, found, to);
                report.damage.push(Damage {
                    segment: number,
                    from,
                    to,
                    first_missing,
                    next_found: found,
                    was_synced: true,
                    was_needed: true,
                });
            }
            Found::Tail { from, to } => {
                // Without a later segment the tail was cut at the end of what is synced, so it is empty.
                if let (Some(first_missing), Some(next_found)) = (next, stop_sequence)
                    && first_missing < next_found
                {
                    report.damage.push(Damage {
                        segment: number,
                        from,
                        to,
                        first_missing,
                        next_found,
                        was_synced: true,
                        was_needed: true,
                    });
                    next = Some(next_found);
                }
            }
        }
    }
    Ok(next)
}
