//! Which files are there, and what became of those that were.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use trefoil_pipeline::Moment;

use super::{GHOST_LIVES, Ghost, Tailer};
use crate::file::{Fate, Followed};
use crate::identity::{FINGERPRINT_BYTES, Fingerprint, Inode};
use crate::line::LineReader;
use crate::metrics;
use crate::source::{Source, Start};

/// A file of fewer bytes that begins as another one does is looked at again before it counts as its copy.
const COPY_BYTES_MIN: u64 = 64;
/// Bytes that are compared at either end of a copy.
const LOOK_BYTES: usize = 4096;

impl Tailer {
    /// Looks for files.
    pub(super) fn search(&mut self, now: Moment) {
        let begun = Instant::now();
        let is_first = self.searched.is_none();
        self.ghosts.retain(|ghost| now.monotonic.saturating_sub(ghost.at) < GHOST_LIVES);
        let mut found: Vec<(PathBuf, Arc<Source>, bool)> = Vec::new();
        let mut failed: Vec<(PathBuf, io::Error)> = Vec::new();
        let mut paths = FxHashSet::default();
        for source in &self.sources {
            for glob in &source.paths {
                let is_new = is_first && self.new_patterns.contains(glob.as_str());
                glob.expand(
                    &mut |path| {
                        if !source.excludes(&path) && paths.insert(path.clone()) {
                            found.push((path, Arc::clone(source), is_new));
                        }
                    },
                    &mut |path, error| failed.push((path.to_path_buf(), error)),
                );
            }
        }
        // An original comes before its copies.
        found.sort_by(|a, b| a.0.cmp(&b.0));
        for (path, error) in failed {
            self.tell(&path, &error);
        }
        let mut seen = FxHashSet::default();
        for (path, source, is_new) in found {
            // A link to nothing, or a file that went in between.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let inode = Inode::of(&metadata);
            if !metadata.is_file() || !seen.insert(inode) {
                continue;
            }
            if let Some(id) = self.by_inode.get(&inode) {
                if let Some(file) = self.files.iter_mut().find(|file| file.id == *id) {
                    if file.path != path {
                        metrics::change("renamed");
                        file.path = path;
                        file.is_dirty = true;
                    }
                    file.fate = Fate::Present;
                }
            } else if let Err(error) = self.adopt(&path, &source, inode, is_new, now.monotonic) {
                self.tell(&path, &error);
            }
        }
        for file in &mut self.files {
            if file.fate == Fate::Present && !seen.contains(&file.inode) {
                metrics::change("removed");
                file.fate = Fate::Away(now.monotonic);
            }
        }
        self.find_renamed(now);
        self.resolve_copies();
        self.searched = Some(now.monotonic);
        self.search_took = begun.elapsed();
    }

    /// Follows a file that is new here.
    fn adopt(
        &mut self,
        path: &Path,
        source: &Arc<Source>,
        inode: Inode,
        is_new: bool,
        now: Duration,
    ) -> io::Result<()> {
        if self.files.len() >= self.files_max {
            trefoil_runtime::limits::hit("tail_files_max");
            return Ok(());
        }
        let handle = File::open(path)?;
        // What was opened may be another file than what was looked at.
        let metadata = handle.metadata()?;
        if Inode::of(&metadata) != inode {
            return Ok(());
        }
        let size = metadata.len();
        let fingerprint = Fingerprint::of(&handle)?;
        let fits = |position: &&crate::positions::Position| {
            // The same path alone, on a disk that has another number now, must be sure of it.
            let is_whole = usize::from(position.fingerprint.length) == FINGERPRINT_BYTES;
            (position.inode == inode || (position.path == path && is_whole))
                && position.fingerprint.length > 0
                && (position.read <= size || position.is_copy)
                && matches!(position.fingerprint.grown(&handle), Ok(Some(_)))
        };
        let known = self.known.values().filter(fits).max_by_key(|position| position.inode == inode).cloned();
        // The inode was another file's before.
        let reused = self.known.values().find(|p| p.inode == inode && known.as_ref().is_none_or(|k| k.id != p.id));
        if let Some(id) = reused.map(|p| p.id)
            && let Some(old) = self.known.remove(&id)
        {
            self.change.gone.push(id);
            // It may have been truncated while we were away, and a copy may stand beside it.
            self.remember(Ghost {
                of: id,
                path: old.path,
                fingerprint: old.fingerprint,
                read: old.read,
                held: old.held,
                at: now,
            });
        }
        let id = known.as_ref().map_or(self.next_id, |position| position.id);
        self.next_id = self.next_id.max(id + 1);
        let mut file = Followed::new(id, Arc::clone(source), path, inode, fingerprint);
        match known {
            Some(position) => {
                self.known.remove(&id);
                file.resume(&position);
                file.is_dirty = position.path != path || position.inode != inode;
            }
            None => {
                if is_new && source.start == Start::End {
                    file.reader = LineReader::at(end_of_lines(&handle, size)?);
                }
                // A copy of a file that is about to be truncated waits until that has happened.
                let is_same = |print: &Fingerprint| print.length > 0 && matches!(print.grown(&handle), Ok(Some(_)));
                let mut ghosts = self.ghosts.iter().rev().filter(|ghost| is_copy_name(&ghost.path, path));
                let mut originals = self.files.iter().filter(|file| is_copy_name(&file.path, path));
                if let Some(ghost) = ghosts.find(|ghost| is_same(&ghost.fingerprint)) {
                    metrics::change("copied");
                    file.resume_at(ghost.read, &ghost.held);
                    file.is_copy = true;
                } else if let Some(original) = originals.find(|original| {
                    is_prefix(&handle, size, original) || (is_cut(original) && is_same(&original.fingerprint))
                }) {
                    if size < COPY_BYTES_MIN && size < original.size {
                        // It may be growing: the next search tells more.
                        return Ok(());
                    }
                    metrics::change("copied");
                    file.copy_of = Some(original.id);
                }
            }
        }
        if self.open < self.open_files_max {
            self.open += 1;
            file.handle = Some(handle);
        }
        self.by_inode.insert(inode, id);
        self.files.push(file);
        Ok(())
    }

    /// Copies go on where their originals were read, once those were truncated or are gone; what turns out to be no copy
    /// is read from its beginning.
    pub(super) fn resolve_copies(&mut self) {
        let mut resolved = Vec::new();
        for (at, file) in self.files.iter().enumerate() {
            let Some(of) = file.copy_of else { continue };
            let Ok(handle) = File::open(&file.path) else { continue };
            // An earlier life of the original is another content.
            let is_of = |print: &Fingerprint| matches!(print.grown(&handle), Ok(Some(_)));
            let ghost = self.ghosts.iter().rev().find(|ghost| ghost.of == of && is_of(&ghost.fingerprint));
            match (ghost, self.files.iter().find(|original| original.id == of)) {
                (Some(ghost), _) => resolved.push((at, Some(ghost.read))),
                (None, Some(original)) => {
                    let still = handle.metadata().map(|metadata| is_prefix(&handle, metadata.len(), original));
                    // When the original was cut just now, the next look at it says where it was read.
                    if matches!(still, Ok(false)) && !is_cut(original) {
                        resolved.push((at, None));
                    }
                }
                (None, None) => resolved.push((at, None)),
            }
        }
        for (at, read) in resolved {
            let file = &mut self.files[at];
            file.copy_of = None;
            file.reader = LineReader::at(read.unwrap_or(0));
            file.is_copy = read.is_some();
            file.is_dirty = true;
        }
    }

    /// Finds files that were renamed to names that nobody asked for, while they were closed or we were away, so that
    /// their last lines are read.
    fn find_renamed(&mut self, now: Moment) {
        for file in &mut self.files {
            if file.fate != Fate::Present && file.handle.is_none() {
                let found = find_sibling(&file.path, file.inode, &file.fingerprint);
                match found {
                    Some((_, handle)) => file.handle = Some(handle),
                    // Its directory is not there, and may come back.
                    None if !file.path.parent().is_some_and(Path::exists) => {
                        self.known.insert(file.id, file.position());
                        self.by_inode.remove(&file.inode);
                    }
                    // It is gone with what was not read of it.
                    None => {
                        if file.lag() > 0 {
                            metrics::error("lost");
                        }
                        self.change.gone.push(file.id);
                        self.by_inode.remove(&file.inode);
                    }
                }
            }
        }
        self.files.retain(|file| file.fate == Fate::Present || file.handle.is_some());
        let mut left: Vec<u64> = self.known.keys().copied().collect();
        left.sort_unstable();
        for id in left {
            let Some(position) = self.known.get(&id) else { continue };
            let source = self.sources.iter().find(|source| source.selects(&position.path));
            // Nobody asks for it now, or the disk that it is on is not there: its position is kept.
            let Some(source) = source.cloned() else { continue };
            if !position.path.parent().is_some_and(Path::exists) {
                continue;
            }
            let Some(position) = self.known.remove(&id) else { continue };
            match find_sibling(&position.path, position.inode, &position.fingerprint) {
                Some((_, handle)) if !self.by_inode.contains_key(&position.inode) => {
                    metrics::change("renamed");
                    let mut file = Followed::new(id, source, &position.path, position.inode, position.fingerprint);
                    file.resume(&position);
                    file.is_dirty = false;
                    file.handle = Some(handle);
                    file.fate = Fate::Away(now.monotonic);
                    self.by_inode.insert(position.inode, id);
                    self.files.push(file);
                }
                _ => self.change.gone.push(id),
            }
        }
    }
}

/// True when a file of the second name may be a copy of the first: it stands beside it and its name is longer.
fn is_copy_name(original: &Path, copy: &Path) -> bool {
    let (Some(name), Some(other)) = (original.file_name(), copy.file_name()) else { return false };
    let (name, other) = (name.to_string_lossy(), other.to_string_lossy());
    let stem = name.rsplit_once('.').map_or(&*name, |(stem, _)| stem);
    original.parent() == copy.parent()
        && other.len() > name.len()
        && (other.starts_with(&*name) || (stem.len() >= 2 && other.starts_with(stem)))
}

/// True when the file of so many bytes is the beginning of another one, as far as a look at its first and its last bytes
/// tells. Both may change meanwhile.
fn is_prefix(file: &File, size: u64, original: &Followed) -> bool {
    let compare = || -> io::Result<bool> {
        let opened;
        let other = match &original.handle {
            Some(handle) => handle,
            None => {
                opened = File::open(&original.path)?;
                &opened
            }
        };
        if size > other.metadata()?.len() {
            return Ok(false);
        }
        let mut buffers = [[0; LOOK_BYTES]; 2];
        for from in [0, size.saturating_sub(LOOK_BYTES as u64)] {
            let length = usize::try_from(size - from).unwrap_or(LOOK_BYTES).min(LOOK_BYTES);
            for (file, buffer) in [file, other].into_iter().zip(&mut buffers) {
                file.read_exact_at(&mut buffer[..length], from)?;
            }
            if buffers[0][..length] != buffers[1][..length] {
                return Ok(false);
            }
        }
        Ok(true)
    };
    compare().unwrap_or(false)
}

/// True when a file was truncated, and perhaps written anew, since it was looked at.
fn is_cut(file: &Followed) -> bool {
    let look = |handle: &File| -> io::Result<bool> {
        let is_shorter = handle.metadata()?.len() < file.reader.looked_at();
        Ok(is_shorter || file.fingerprint.grown(handle)?.is_none())
    };
    let looked = match &file.handle {
        Some(handle) => look(handle),
        None => File::open(&file.path).and_then(|handle| look(&handle)),
    };
    looked.unwrap_or(false)
}

/// A file in the same directory with the inode and the first bytes, whose name begins as that of the path.
fn find_sibling(path: &Path, inode: Inode, fingerprint: &Fingerprint) -> Option<(PathBuf, File)> {
    let stem = path.file_stem()?.to_string_lossy().into_owned();
    for entry in fs::read_dir(path.parent()?).ok()?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(&stem) {
            continue;
        }
        let Ok(metadata) = entry.metadata() else { continue };
        if !metadata.is_file() || Inode::of(&metadata) != inode {
            continue;
        }
        let file = File::open(entry.path()).ok()?;
        if Inode::of(&file.metadata().ok()?) == inode && matches!(fingerprint.grown(&file), Ok(Some(_))) {
            return Some((entry.path(), file));
        }
    }
    None
}

/// Where the last complete line ends.
fn end_of_lines(file: &File, size: u64) -> io::Result<u64> {
    let mut buffer = [0; 4096];
    let mut end = size;
    while end > 0 {
        let from = end.saturating_sub(buffer.len() as u64);
        let length = usize::try_from(end - from).unwrap_or(buffer.len());
        let n = file.read_at(&mut buffer[..length], from)?;
        if let Some(at) = buffer[..n].iter().rposition(|b| *b == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}
