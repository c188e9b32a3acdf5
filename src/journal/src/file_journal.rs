//! The journal on the local disk: segment files, one writer thread, group commit.

mod queue;
mod recovery;
mod writer;

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
use crate::store::{Appended, Damage, JournalStore, Position, ReplayReport, ReplayStop};
use crate::{JournalError, record, segment};

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
    /// End of the last synced record.
    end: Mutex<Position>,
    /// Sequence number after the last synced record.
    next_sequence: AtomicU64,
    read_only: AtomicBool,
    metrics: Metrics,
}

impl Shared {
    fn io(&self, action: String) -> impl FnOnce(std::io::Error) -> JournalError + use<> {
        let journal = self.name;
        move |source| JournalError::Io { journal, action, source }
    }

    /// Notes that a segment is damaged, once.
    fn report(&self, damage: &Damage) {
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
        let segments = recovered.segments.clone();
        let shared = Arc::new(Shared {
            vfs,
            dir: dir.to_owned(),
            name: options.name,
            queue: Queue::new(options.queue_max.max(1)),
            end: Mutex::new(recovered.end),
            next_sequence: AtomicU64::new(recovered.next_sequence),
            segments: Mutex::new(segments),
            read_only: AtomicBool::new(false),
            metrics: Metrics::new(options.name),
        });
        for damage in &recovered.damage {
            shared.report(damage);
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
        if !self.shared.queue.push_blocking(Request { record, reply, permit: None }) {
            return Err(JournalError::Closed { journal: self.shared.name });
        }
        answer.blocking_recv().unwrap_or(Err(JournalError::ReadOnly { journal: self.shared.name }))
    }

    /// Refuses at once what can never be appended.
    fn check(&self, record: &Bytes) -> Result<(), JournalError> {
        let journal = self.shared.name;
        if record.is_empty() || record.len() > PAYLOAD_BYTES_MAX {
            trefoil_runtime::limits::hit("journal_record_bytes_max");
            return Err(JournalError::RecordSize { journal, bytes: record.len(), max: PAYLOAD_BYTES_MAX });
        }
        if self.is_read_only() {
            return Err(JournalError::ReadOnly { journal });
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
        self.check(&record)?;
        let (reply, answer) = oneshot::channel();
        if !self.shared.queue.push(record, reply).await {
            return Err(JournalError::Closed { journal: self.shared.name });
        }
        // The writer answers every request, unless it panicked: then nobody writes any more.
        answer.await.unwrap_or(Err(JournalError::ReadOnly { journal: self.shared.name }))
    }

    fn end(&self) -> Position {
        *self.shared.end.lock()
    }

    fn replay(
        &self,
        from: Position,
        each: &mut dyn FnMut(Position, &[u8]) -> Result<(), ReplayStop>,
    ) -> Result<ReplayReport, JournalError> {
        let shared = &self.shared;
        let (end, end_sequence) = {
            let end = shared.end.lock();
            (*end, shared.next_sequence.load(Ordering::Acquire))
        };
        let segments: Vec<SegmentInfo> = shared.segments.lock().clone();
        let mut report = ReplayReport { end: from, ..ReplayReport::default() };
        let mut expected = None;
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
            let missing_before = match (expected, scan.expected()) {
                (Some(expected), Some(first)) if first > expected => Some((expected, first)),
                _ => None,
            };
            if let Some((first_missing, next_found)) = missing_before {
                let damage =
                    Damage { segment: info.number, from: 0, to: 0, first_missing, next_found, was_synced: true };
                shared.report(&damage);
                report.damage.push(damage);
            }
            let known = report.damage.len();
            let outcome = replay_segment(info.number, scan, stop_sequence, from, &mut report, each);
            for damage in &mut report.damage[known..] {
                damage.was_synced = unproven.is_none_or(|unproven| damage.first_missing < unproven);
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
        Ok(report)
    }

    fn truncate_before(&self, position: Position) -> Result<(), JournalError> {
        let shared = &self.shared;
        let removable: Vec<SegmentInfo> = {
            let segments = shared.segments.lock();
            let older = segments.len().saturating_sub(1);
            let wholly_before = |info: &&SegmentInfo| Position { segment: info.number, offset: info.bytes } <= position;
            segments[..older].iter().take_while(wholly_before).copied().collect()
        };
        if removable.is_empty() {
            return Ok(());
        }
        for info in removable {
            let path = segment::path(&shared.dir, info.number);
            let done = if info.damaged {
                let mut aside = path.as_os_str().to_owned();
                aside.push(segment::QUARANTINE_SUFFIX);
                shared.vfs.rename(&path, Path::new(&aside))
            } else {
                shared.vfs.remove_file(&path)
            };
            done.map_err(shared.io(format!("remove segment {}", info.number)))?;
            shared.segments.lock().retain(|kept| kept.number != info.number);
        }
        shared.vfs.sync_dir(&shared.dir).map_err(shared.io("sync the directory".to_owned()))
    }

    async fn rotate(&self) -> Result<Position, JournalError> {
        let journal = self.shared.name;
        let (reply, answer) = oneshot::channel();
        if !self.shared.queue.push(Bytes::new(), reply).await {
            return Err(JournalError::Closed { journal });
        }
        let ended = answer.await.unwrap_or(Err(JournalError::ReadOnly { journal }))?;
        Ok(ended.position)
    }

    fn link_segments(&self, through: Position, dir: &Path) -> Result<(), JournalError> {
        let shared = &self.shared;
        trefoil_runtime::vfs::create_dir_durable(&*shared.vfs, dir)
            .map_err(shared.io(format!("create {}", dir.display())))?;
        let segments: Vec<SegmentInfo> = shared.segments.lock().clone();
        for info in segments.iter().filter(|info| info.number <= through.segment) {
            let linked =
                shared.vfs.hard_link(&segment::path(&shared.dir, info.number), &segment::path(dir, info.number));
            let is_truncated = || !shared.segments.lock().iter().any(|kept| kept.number == info.number);
            match linked {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_truncated() => {}
                // A second attempt.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                other => other.map_err(shared.io(format!("link segment {}", info.number)))?,
            }
        }
        shared.vfs.sync_dir(dir).map_err(shared.io(format!("sync {}", dir.display())))
    }

    fn first_segment(&self) -> Option<u64> {
        self.shared.segments.lock().first().map(|info| info.number)
    }

    fn is_read_only(&self) -> bool {
        self.shared.read_only.load(Ordering::Acquire)
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
                    });
                    next = Some(next_found);
                }
            }
        }
    }
    Ok(next)
}
