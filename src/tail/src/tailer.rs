//! All files: one step looks for files, reads what is new, and says what to write and where files then stand.

mod discovery;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use trefoil_model::{Attributes, Labels, LogGroup};
use trefoil_pipeline::{Entry, Moment};
use trefoil_runtime::limits::Limits;

use crate::file::{Fate, Followed};
use crate::identity::{Fingerprint, Inode};
use crate::line::Stopped;
use crate::metrics;
use crate::positions::{Change, Position, Positions};
use crate::source::Source;

/// A batch is closed at this many bytes of lines, or at this many lines.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_LINES: usize = 10_000;
/// Bytes that one file gives before the next one is read.
const TURN_BYTES: u64 = 512 << 10;
/// How often files are looked for, at least; a search that takes long is repeated less often.
const SEARCH_EVERY: Duration = Duration::from_secs(1);
/// How often a file is looked at that has not grown for a while.
const QUIET_EVERY: Duration = Duration::from_secs(1);
/// A file that has not grown for so long is quiet.
const QUIET_AFTER: Duration = Duration::from_secs(10);
/// How long a renamed file is still read without growing, since its writer may not know yet.
const RENAMED_LINGERS: Duration = Duration::from_secs(30);
/// Likewise one without a name.
const REMOVED_LINGERS: Duration = Duration::from_secs(3);
/// Bytes of a line that are kept, whatever the limits are.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// Files that were truncated, whose copies may still appear.
const GHOSTS_MAX: usize = 256;
const GHOST_LIVES: Duration = Duration::from_secs(600);
/// Paths whose faults were told.
const TOLD_MAX: usize = 1_000;

/// What a truncated file was before.
struct Ghost {
    of: u64,
    path: PathBuf,
    fingerprint: Fingerprint,
    read: u64,
    held: Vec<u64>,
    at: Duration,
}

impl Ghost {
    /// What a file is now.
    fn of(file: &Followed, at: Duration) -> Self {
        let (of, path, fingerprint) = (file.id, file.path.clone(), file.fingerprint);
        Self { of, path, fingerprint, read: file.reader.offset, held: Vec::new(), at }
    }
}

/// What a step gives.
#[derive(Debug, Default)]
pub struct Work {
    /// What to write.
    pub groups: Vec<LogGroup>,
    /// Where files stand behind it.
    pub change: Change,
    /// There is more to read at once.
    pub more: bool,
    /// How long limits of pipelines ask to rest.
    pub wait: Duration,
}

/// Entries that are collected.
#[derive(Default)]
struct Batch {
    groups: Vec<LogGroup>,
    by_stream: FxHashMap<Labels, usize>,
    bytes: usize,
    lines: usize,
    no_attributes: Arc<Attributes>,
}

impl Batch {
    fn add(&mut self, entries: &mut Vec<Entry>) {
        for entry in entries.drain(..) {
            self.bytes += entry.record.text.len();
            self.lines += 1;
            let at = *self.by_stream.entry(entry.labels.clone()).or_insert_with(|| {
                let shared = Arc::clone(&self.no_attributes);
                self.groups.push(LogGroup { stream: entry.labels.clone(), shared, records: Vec::new() });
                self.groups.len() - 1
            });
            self.groups[at].records.push(entry.record);
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.lines >= BATCH_LINES
    }
}

/// All followed files.
pub struct Tailer {
    sources: Vec<Arc<Source>>,
    files: Vec<Followed>,
    by_inode: FxHashMap<Inode, u64>,
    /// Positions of files that were not found yet.
    known: FxHashMap<u64, Position>,
    ghosts: VecDeque<Ghost>,
    change: Change,
    next_id: u64,
    /// Where the next turn begins.
    cursor: usize,
    searched: Option<Duration>,
    search_took: Duration,
    /// Patterns that were never looked for before.
    new_patterns: FxHashSet<String>,
    told: FxHashSet<PathBuf>,
    buffer: Vec<u8>,
    kept: usize,
    /// Files that are open in this step.
    open: usize,
    files_max: usize,
    open_files_max: usize,
}

impl Tailer {
    /// Follows nothing yet.
    pub fn new(limits: &Limits) -> Self {
        Self {
            sources: Vec::new(),
            files: Vec::new(),
            by_inode: FxHashMap::default(),
            known: FxHashMap::default(),
            ghosts: VecDeque::new(),
            change: Change::default(),
            next_id: 1,
            cursor: 0,
            searched: None,
            search_took: Duration::ZERO,
            new_patterns: FxHashSet::default(),
            told: FxHashSet::default(),
            buffer: Vec::new(),
            kept: limits.log_line_cut_bytes.min(limits.log_line_bytes_max).min(KEPT_BYTES_MAX),
            open: 0,
            files_max: limits.tail_files_max,
            open_files_max: limits.tail_open_files_max.max(1),
        }
    }

    /// Follows other files from now on; those that stay go on where they are.
    pub fn set_sources(&mut self, sources: Vec<Source>, positions: &Positions) {
        self.known = positions.all().iter().map(|(id, position)| (*id, position.clone())).collect();
        self.next_id = positions.all().keys().next_back().map_or(1, |last| last + 1).max(self.next_id);
        // What has no path any more cannot be found again, so it stays with its old settings. The others are found and
        // go on from their positions; what they held is read again.
        self.files.retain(|file| file.handle.is_some() && file.fate != Fate::Present);
        for file in &self.files {
            self.known.remove(&file.id);
        }
        self.by_inode = self.files.iter().map(|file| (file.inode, file.id)).collect();
        self.sources = sources.into_iter().map(Arc::new).collect();
        let patterns = self.sources.iter().flat_map(|s| &s.paths).map(|glob| glob.as_str().to_owned());
        self.new_patterns = patterns.filter(|pattern| !positions.knows(pattern)).collect();
        self.change = Change { patterns: self.new_patterns.iter().cloned().collect(), ..Change::default() };
        self.change.patterns.sort_unstable();
        self.searched = None;
        self.told.clear();
    }

    /// True when nothing is configured and nothing is followed.
    pub fn is_idle(&self) -> bool {
        self.sources.is_empty() && self.files.is_empty()
    }

    /// Looks for files when that is due, and reads what is new, up to a batch.
    pub fn step(&mut self, now: Moment) -> Work {
        let is_due = self
            .searched
            .is_none_or(|at| now.monotonic.saturating_sub(at) >= SEARCH_EVERY.max(self.search_took.saturating_mul(20)));
        let mut batch = Batch::default();
        self.open = self.files.iter().filter(|file| file.handle.is_some()).count();
        if is_due {
            self.search(now);
        }
        let mut work = self.read_all(now, &mut batch);
        // A copy that waits has no position: it is found anew.
        for file in self.files.iter_mut().filter(|file| file.is_dirty && file.copy_of.is_none()) {
            self.change.files.push(file.position());
            file.is_dirty = false;
        }
        metrics::FILES.set(self.files.len() as i64);
        metrics::OPEN_FILES.set(self.files.iter().filter(|file| file.handle.is_some()).count() as i64);
        metrics::LAG_BYTES.set(self.files.iter().map(Followed::lag).sum::<u64>() as i64);
        work.groups = batch.groups;
        work.change = std::mem::take(&mut self.change);
        work
    }

    fn read_all(&mut self, now: Moment, batch: &mut Batch) -> Work {
        let mut work = Work::default();
        let mut ended = Vec::new();
        let count = self.files.len();
        for turn in 0..count {
            let at = (self.cursor + turn) % count;
            if batch.is_full() {
                work.more = true;
                self.cursor = at;
                break;
            }
            match self.read_one(at, now, batch) {
                Ok(Outcome::Idle) => {}
                Ok(Outcome::More) => work.more = true,
                Ok(Outcome::Ended) => ended.push(self.files[at].id),
                Err(error) => self.fault(at, &error),
            }
            work.wait = work.wait.max(self.files[at].take_wait());
        }
        let ended: Vec<Followed> = self.files.extract_if(.., |file| ended.contains(&file.id)).collect();
        for file in ended {
            self.by_inode.remove(&file.inode);
            self.remember(Ghost::of(&file, now.monotonic));
            // When the whole directory is not there (a disk that is not mounted), the file may come back.
            if file.path.parent().is_some_and(Path::exists) {
                self.change.gone.push(file.id);
            } else {
                self.change.files.push(file.position());
                self.known.insert(file.id, file.position());
            }
        }
        work
    }

    /// Reads what is new of a file.
    fn read_one(&mut self, at: usize, now: Moment, batch: &mut Batch) -> io::Result<Outcome> {
        let file = &mut self.files[at];
        let monotonic = now.monotonic;
        let is_quiet = monotonic.saturating_sub(file.changed) >= QUIET_AFTER;
        let waited = file.polled.is_none_or(|polled| monotonic.saturating_sub(polled) >= QUIET_EVERY);
        if file.copy_of.is_some() || (is_quiet && !waited && !file.is_holding()) {
            return Ok(Outcome::Idle);
        }
        file.polled = Some(monotonic);
        let mut entries = Vec::new();
        if file.is_holding() {
            file.flush(false, now, &mut entries);
            if !entries.is_empty() {
                file.is_dirty = true;
                batch.add(&mut entries);
            }
        }
        let metadata = match &file.handle {
            Some(handle) => handle.metadata()?,
            None => {
                let metadata = match fs::metadata(&file.path) {
                    Ok(metadata) => metadata,
                    // The search finds out what became of it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Idle),
                    Err(error) => return Err(error),
                };
                let is_read = metadata.len() == file.size && file.reader.looked_at() >= file.size;
                if Inode::of(&metadata) != file.inode || (is_read && file.size > 0) {
                    return Ok(Outcome::Idle);
                }
                let handle = fs::File::open(&file.path)?;
                let metadata = handle.metadata()?;
                if Inode::of(&metadata) != file.inode {
                    return Ok(Outcome::Idle);
                }
                file.handle = Some(handle);
                self.open += 1;
                metadata
            }
        };
        let Some(handle) = file.handle.take() else { return Ok(Outcome::Idle) };
        let outcome = self.read_open(at, &handle, &metadata, now, batch);
        let file = &mut self.files[at];
        if self.open > self.open_files_max && file.fate == Fate::Present {
            trefoil_runtime::limits::hit("tail_open_files_max");
            self.open -= 1;
        } else {
            file.handle = Some(handle);
        }
        outcome
    }

    fn read_open(
        &mut self,
        at: usize,
        handle: &fs::File,
        metadata: &fs::Metadata,
        now: Moment,
        batch: &mut Batch,
    ) -> io::Result<Outcome> {
        let file = &mut self.files[at];
        let size = metadata.len();
        if file.is_copy && size < file.reader.offset {
            return Ok(Outcome::Idle);
        }
        let mut entries = Vec::new();
        if size != file.size || size < file.reader.looked_at() {
            let fingerprint = if size < file.reader.looked_at() { None } else { file.fingerprint.grown(handle)? };
            match fingerprint {
                Some(fingerprint) => {
                    file.is_dirty |= fingerprint != file.fingerprint;
                    file.fingerprint = fingerprint;
                }
                None => {
                    file.flush(true, now, &mut entries);
                    batch.add(&mut entries);
                    metrics::change("truncated");
                    tracing::info!(path = %file.path.display(), "log file was truncated, it is read from its beginning");
                    let ghost = Ghost::of(file, now.monotonic);
                    file.restart(Fingerprint::of(handle)?);
                    self.remember(ghost);
                    // Its copy, if there is one, goes on where it was read.
                    self.resolve_copies();
                }
            }
        }
        let file = &mut self.files[at];
        if size > file.size {
            file.changed = now.monotonic;
        }
        file.size = size;
        let mut stopped = Stopped::End;
        if size > file.reader.looked_at() {
            let mut reader = std::mem::take(&mut file.reader);
            let until = reader.offset + TURN_BYTES;
            let before = reader.offset;
            let kept = self.kept;
            let read = reader.read(handle, file.source.encoding, kept, &mut self.buffer, &mut |line| {
                file.take(&line, kept, now, &mut entries);
                batch.add(&mut entries);
                line.start < until && !batch.is_full()
            });
            file.is_dirty |= reader.offset != before;
            file.reader = reader;
            stopped = read?;
        }
        let lingers = match file.fate {
            _ if stopped == Stopped::Enough => return Ok(Outcome::More),
            Fate::Present => return Ok(Outcome::Idle),
            Fate::Away(_) if Followed::is_unlinked(metadata) => REMOVED_LINGERS,
            Fate::Away(_) => RENAMED_LINGERS,
        };
        let Fate::Away(since) = file.fate else { return Ok(Outcome::Idle) };
        if now.monotonic.saturating_sub(since.max(file.changed)) < lingers {
            return Ok(Outcome::Idle);
        }
        self.end(at, handle, now, batch)?;
        Ok(Outcome::Ended)
    }

    /// Remembers what a file was before it was truncated.
    fn remember(&mut self, ghost: Ghost) {
        if self.ghosts.len() >= GHOSTS_MAX {
            self.ghosts.pop_front();
        }
        self.ghosts.push_back(ghost);
    }

    /// Reads what a file has behind its last end of line, and sends on what is held.
    fn end(&mut self, at: usize, handle: &fs::File, now: Moment, batch: &mut Batch) -> io::Result<()> {
        let file = &mut self.files[at];
        let mut entries = Vec::new();
        let mut reader = std::mem::take(&mut file.reader);
        let kept = self.kept;
        let read = reader.read_rest(handle, kept, &mut self.buffer, &mut |line| {
            file.take(&line, kept, now, &mut entries);
            true
        });
        file.reader = reader;
        read?;
        file.flush(true, now, &mut entries);
        batch.add(&mut entries);
        Ok(())
    }

    /// Tells of a fault with a file, once, and counts it.
    fn fault(&mut self, at: usize, error: &io::Error) {
        let path = self.files[at].path.clone();
        self.files[at].handle = None;
        self.files[at].reader.forget();
        self.tell(&path, error);
    }

    fn tell(&mut self, path: &Path, error: &io::Error) {
        metrics::error(match error.kind() {
            io::ErrorKind::PermissionDenied => "permission",
            io::ErrorKind::NotFound => "not_found",
            _ if error.raw_os_error() == Some(24) => "too_many_open_files",
            _ => "io",
        });
        if self.told.len() < TOLD_MAX && self.told.insert(path.to_path_buf()) {
            tracing::warn!(path = %path.display(), %error, "log file cannot be read, it is tried again");
        }
    }
}

enum Outcome {
    /// Nothing more for now.
    Idle,
    /// There is more.
    More,
    /// It is over with this file.
    Ended,
}

#[cfg(test)]
mod tests;
