//! A disk in memory that loses what was not synced, tears writes, fills up and fails on demand.
//!
//! What it models:
//! - Bytes are durable after a sync of their file; at a crash any prefix of the unsynced rest survives, and pages
//!   of 512 bytes in it may read as zeros (the length reached the disk, the data did not).
//! - Names are durable after a sync of their directory. At a crash every file and directory keeps a prefix of its own
//!   unsynced name changes, independently of the others: a later rename may survive an earlier one.
//! - A failed sync drops its bytes for good: a later sync that succeeds does not save them.
//!
//! Clones share the disk. Every operation, reads included, counts and may be made to fail.

mod names;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use self::names::{Change, Names, Node, NodeId};
use super::{DirEntry, Vfs, VfsFile, parent_of};

/// Bytes that reach the disk together or not at all.
const SECTOR_BYTES: usize = 512;

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `EIO`. A write writes nothing, a sync loses its bytes.
    Io,
    /// `ENOSPC`. A write writes half of its bytes first.
    NoSpace,
    /// `EROFS`.
    ReadOnly,
    /// A write writes half of its bytes and then fails with `EIO`; other operations fail with `EIO`.
    ShortWrite,
    /// The power goes: this operation (a write half way) and all later ones fail until [`SimDisk::crash`].
    PowerCut,
}

/// A simulated disk. It implements [`Vfs`].
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    names: Names,
    files: BTreeMap<NodeId, Contents>,
    next_node: NodeId,
    /// Handles of an earlier generation are dead: they were open when the power went.
    generation: u64,
    ops: u64,
    faults: BTreeMap<u64, Fault>,
    /// How many of the next file syncs fail.
    failing_syncs: u64,
    powered_off: bool,
    capacity: Option<u64>,
}

#[derive(Default, Clone)]
struct Contents {
    data: Vec<u8>,
    /// How much of `data` is durable.
    synced: usize,
    /// Ranges that a failed sync dropped: they read well until the crash and as zeros afterwards.
    dropped: Vec<std::ops::Range<usize>>,
}

impl SimDisk {
    /// Creates an empty disk with a root directory and no bound on its size.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many operations were asked for so far.
    pub fn op_count(&self) -> u64 {
        self.0.lock().ops
    }

    /// Makes the operation with index `n` (counted from 0 over the life of the disk) fail.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        self.0.lock().faults.insert(n, fault);
    }

    /// Makes the next `count` file syncs fail with `EIO`, whenever they come.
    pub fn fail_syncs(&self, count: u64) {
        self.0.lock().failing_syncs = count;
    }

    /// Takes back all faults that have not struck.
    pub fn clear_faults(&self) {
        let mut state = self.0.lock();
        state.faults.clear();
        state.failing_syncs = 0;
    }

    /// Sets how many bytes all files together may hold.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.lock().capacity = Some(bytes);
    }

    /// Cuts the power and gives it back: open files die, unsynced bytes and names are lost or torn as `seed` decides.
    /// Seed 0 loses all that is not synced; seed 1 keeps all.
    pub fn crash(&self, seed: u64) {
        let mut state = self.0.lock();
        let mut random = StdRng::seed_from_u64(seed);
        state.powered_off = false;
        state.generation += 1;
        state.names.crash(|pending| match seed {
            0 => 0,
            1 => pending,
            _ => random.random_range(0..=pending),
        });
        let living = state.names.living();
        state.files.retain(|node, _| living.contains(node));
        for contents in state.files.values_mut() {
            contents.crash(seed, &mut random);
        }
    }

    /// Changes bytes of a file behind everybody's back, durably, as a bad disk would.
    pub fn corrupt(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock();
        let Ok(node) = state.file(path) else { return };
        let Some(contents) = state.files.get_mut(&node) else { return };
        change(&mut contents.data);
        contents.synced = contents.data.len();
    }

    /// Returns an independent copy of the disk as it is now, unsynced state and pending faults included.
    pub fn fork(&self) -> Self {
        let state = self.0.lock();
        Self(Arc::new(Mutex::new(State {
            names: state.names.clone(),
            files: state.files.clone(),
            next_node: state.next_node,
            generation: state.generation,
            ops: state.ops,
            faults: state.faults.clone(),
            failing_syncs: state.failing_syncs,
            powered_off: state.powered_off,
            capacity: state.capacity,
        })))
    }

    /// Returns the paths of all files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.0.lock().names.files()
    }
}

impl Contents {
    fn crash(&mut self, seed: u64, random: &mut StdRng) {
        let unsynced = self.data.len() - self.synced;
        let kept = match seed {
            0 => 0,
            1 => unsynced,
            _ => random.random_range(0..=unsynced),
        };
        self.data.truncate(self.synced + kept);
        if seed > 1 {
            let mut at = self.synced;
            while at < self.data.len() {
                let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(self.data.len());
                if random.random_range(0..4) == 0 {
                    self.data[at..end].fill(0);
                }
                at = end;
            }
        }
        let len = self.data.len();
        for range in self.dropped.drain(..) {
            self.data[range.start.min(len)..range.end.min(len)].fill(0);
        }
        self.synced = len;
    }
}

fn error(fault: Fault) -> io::Error {
    // Linux errno values, so that the kinds are those of the real calls.
    io::Error::from_raw_os_error(match fault {
        Fault::Io | Fault::ShortWrite | Fault::PowerCut => 5,
        Fault::NoSpace => 28,
        Fault::ReadOnly => 30,
    })
}

impl State {
    /// Counts an operation and returns the fault that strikes it.
    fn fault(&mut self) -> Option<Fault> {
        if self.powered_off {
            return Some(Fault::PowerCut);
        }
        let fault = self.faults.remove(&self.ops);
        self.ops += 1;
        self.powered_off = fault == Some(Fault::PowerCut);
        fault
    }

    fn begin(&mut self) -> io::Result<()> {
        match self.fault() {
            Some(fault) => Err(error(fault)),
            None => Ok(()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<NodeId> {
        match self.names.get(path) {
            Some(Node { id, is_dir: false }) => Ok(id),
            Some(_) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn new_node(&mut self, is_dir: bool) -> Node {
        self.next_node += 1;
        Node { id: self.next_node, is_dir }
    }

    fn parent_exists(&self, path: &Path) -> io::Result<()> {
        match self.names.get(parent_of(path)) {
            Some(Node { is_dir: true, .. }) => Ok(()),
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn used(&self) -> u64 {
        self.files.values().map(|contents| contents.data.len() as u64).sum()
    }

    fn drop_unlinked(&mut self, node: NodeId) {
        if !self.names.linked(node) {
            self.files.remove(&node);
        }
    }

    fn write(&mut self, node: NodeId, bytes: &[u8]) -> io::Result<()> {
        let fault = self.fault();
        let room = self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()));
        let (written, result) = match fault {
            Some(Fault::Io | Fault::ReadOnly) => (0, Err(fault)),
            Some(_) => (bytes.len() / 2, Err(fault)),
            None if (bytes.len() as u64) > room => (room as usize, Err(Some(Fault::NoSpace))),
            None => (bytes.len(), Ok(())),
        };
        // A file whose last name is gone has no contents here; its bytes are nobody's.
        if let Some(contents) = self.files.get_mut(&node) {
            contents.data.extend_from_slice(&bytes[..written]);
        }
        result.map_err(|fault| error(fault.unwrap_or(Fault::Io)))
    }

    fn sync(&mut self, node: NodeId) -> io::Result<()> {
        let mut fault = self.fault();
        if fault.is_none() && self.failing_syncs > 0 {
            self.failing_syncs -= 1;
            fault = Some(Fault::Io);
        }
        let Some(contents) = self.files.get_mut(&node) else { return fault.map_or(Ok(()), |fault| Err(error(fault))) };
        match fault {
            Some(Fault::PowerCut) => Err(error(Fault::PowerCut)),
            Some(fault) => {
                contents.dropped.push(contents.synced..contents.data.len());
                contents.synced = contents.data.len();
                Err(error(fault))
            }
            None => {
                contents.synced = contents.data.len();
                Ok(())
            }
        }
    }
}

struct SimFile {
    disk: SimDisk,
    node: NodeId,
    generation: u64,
    len: u64,
}

impl SimFile {
    fn with<T>(&mut self, work: impl FnOnce(&mut State, NodeId) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.0.lock();
        if state.generation != self.generation {
            return Err(error(Fault::PowerCut));
        }
        let before = state.files.get(&self.node).map_or(0, |contents| contents.data.len());
        let result = work(&mut state, self.node);
        let after = state.files.get(&self.node).map_or(0, |contents| contents.data.len());
        self.len += after.saturating_sub(before) as u64;
        result
    }
}

impl VfsFile for SimFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.with(|state, node| state.write(node, bytes))
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.with(State::sync)
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.with(State::sync)
    }

    fn len(&self) -> u64 {
        self.len
    }
}

impl Vfs for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let mut state = self.0.lock();
        state.begin()?;
        state.parent_exists(path)?;
        if state.names.get(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = state.new_node(false);
        state.files.insert(node.id, Contents::default());
        state.names.change(node, Change::Add(path.to_owned()));
        Ok(Box::new(SimFile { disk: self.clone(), node: node.id, generation: state.generation, len: 0 }))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let mut state = self.0.lock();
        state.begin()?;
        let node = state.file(path)?;
        let len = state.files[&node].data.len() as u64;
        Ok(Box::new(SimFile { disk: self.clone(), node, generation: state.generation, len }))
    }

    fn read(&self, path: &Path) -> io::Result<Bytes> {
        let mut state = self.0.lock();
        state.begin()?;
        let node = state.file(path)?;
        Ok(Bytes::copy_from_slice(&state.files[&node].data))
    }

    fn map(&self, path: &Path) -> io::Result<Bytes> {
        self.read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.begin()?;
        let node = state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.parent_exists(to)?;
        let replaced = state.names.get(to);
        match replaced {
            Some(target) if target == node => return Ok(()),
            Some(target) if target.is_dir || node.is_dir => return Err(io::ErrorKind::AlreadyExists.into()),
            _ => {}
        }
        state.names.change(node, Change::Rename(from.to_owned(), to.to_owned()));
        if let Some(target) = replaced {
            state.drop_unlinked(target.id);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.begin()?;
        let id = state.file(path)?;
        state.names.change(Node { id, is_dir: false }, Change::Remove(path.to_owned()));
        state.drop_unlinked(id);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let below = {
            let state = self.0.lock();
            state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
            state.names.below(path)
        };
        // One operation a name, as the system calls are; the deepest first.
        for (path, node) in below.into_iter().rev() {
            let mut state = self.0.lock();
            state.begin()?;
            state.names.change(node, Change::Remove(path));
            state.drop_unlinked(node.id);
        }
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let ancestors: Vec<_> = path.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        for dir in ancestors.into_iter().rev() {
            let mut state = self.0.lock();
            match state.names.get(dir) {
                Some(Node { is_dir: true, .. }) => {}
                Some(_) => return Err(io::ErrorKind::AlreadyExists.into()),
                None => {
                    state.begin()?;
                    let node = state.new_node(true);
                    state.names.change(node, Change::Add(dir.to_owned()));
                }
            }
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.begin()?;
        match state.names.get(path) {
            Some(Node { is_dir: true, .. }) => {
                state.names.sync_dir(path);
                Ok(())
            }
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.begin()?;
        let id = state.file(from)?;
        state.parent_exists(to)?;
        if state.names.get(to).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.names.change(Node { id, is_dir: false }, Change::Add(to.to_owned()));
        Ok(())
    }

    fn set_len(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        state.begin()?;
        let node = state.file(path)?;
        let len = len as usize;
        if let Some(contents) = state.files.get_mut(&node) {
            contents.data.resize(len, 0);
            contents.synced = contents.synced.min(len);
        }
        state.sync(node)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.0.lock();
        state.begin()?;
        match state.names.get(path) {
            Some(Node { is_dir: true, .. }) => {}
            Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        let children = state.names.children(path).into_iter().filter_map(|(path, node)| {
            let name = path.file_name()?.to_str()?.to_owned();
            let len = state.files.get(&node.id).map_or(0, |contents| contents.data.len() as u64);
            Some(DirEntry { name, is_dir: node.is_dir, len })
        });
        Ok(children.collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.lock().names.get(path).is_some()
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let mut state = self.0.lock();
        state.begin()?;
        let node = state.file(path)?;
        Ok(state.files[&node].data.len() as u64)
    }

    fn available_bytes(&self, _path: &Path) -> io::Result<u64> {
        let state = self.0.lock();
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }

    fn total_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.0.lock().capacity.unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
