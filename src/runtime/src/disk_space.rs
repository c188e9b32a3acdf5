//! Refuses writes while the disk is nearly full, before the disk does it half way through a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use trefoil_model::WriteError;

use crate::limits;
use crate::vfs::SharedVfs;

/// How long an answer is used while there is room.
const FRESH_WITH_ROOM: Duration = Duration::from_millis(500);
/// How long an answer is used while there is none.
const FRESH_WITHOUT_ROOM: Duration = Duration::from_millis(100);
/// When a refused sender should come back.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Watches the free bytes of the file system that holds a directory. Clones share the answer.
#[derive(Clone)]
pub struct DiskGuard(Arc<Inner>);

struct Inner {
    vfs: SharedVfs,
    dir: PathBuf,
    floor_bytes: u64,
    start: Instant,
    /// Milliseconds since `start` up to which `available` is fresh.
    fresh_until_ms: AtomicU64,
    available: AtomicU64,
    /// Whether it was said that the disk is full.
    full: AtomicBool,
}

impl DiskGuard {
    /// Watches `dir`, which must exist, and refuses below `floor_bytes`.
    pub fn new(vfs: SharedVfs, dir: &Path, floor_bytes: u64) -> Self {
        Self(Arc::new(Inner {
            vfs,
            dir: dir.to_owned(),
            floor_bytes,
            start: Instant::now(),
            fresh_until_ms: AtomicU64::new(0),
            available: AtomicU64::new(u64::MAX),
            full: AtomicBool::new(false),
        }))
    }

    /// Errors with `Unavailable` when fewer bytes than the floor are free. The answer may be half a second old.
    pub fn check(&self) -> Result<(), WriteError> {
        let Some(reason) = self.shortage() else { return Ok(()) };
        limits::hit("disk_free_floor_bytes");
        Err(WriteError::Unavailable { reason, retry_after: RETRY_AFTER })
    }

    /// What [`DiskGuard::check`] would refuse a write for, in words; `None` when there is room.
    pub fn shortage(&self) -> Option<String> {
        let (available, floor) = (self.available_bytes(), self.0.floor_bytes);
        (available < floor).then(|| format!("disk is full: {available} bytes are free, writes need {floor} bytes free"))
    }

    /// Returns the bytes of the whole file system, used or not; `None` when it does not tell.
    pub fn total_bytes(&self) -> Option<u64> {
        let total = self.0.vfs.total_bytes(&self.0.dir);
        total.inspect_err(|error| tracing::warn!(dir = %self.0.dir.display(), %error, "disk size is unknown")).ok()
    }

    /// Returns the free bytes, at most half a second old. When asking fails, the last known answer stays.
    pub fn available_bytes(&self) -> u64 {
        let inner = &self.0;
        let now_ms = u64::try_from(inner.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now_ms < inner.fresh_until_ms.load(Ordering::Relaxed) {
            return inner.available.load(Ordering::Relaxed);
        }
        match inner.vfs.available_bytes(&inner.dir) {
            Ok(available) => inner.available.store(available, Ordering::Relaxed),
            Err(error) => tracing::warn!(dir = %inner.dir.display(), %error, "free disk space is unknown"),
        }
        let available = inner.available.load(Ordering::Relaxed);
        let full = available < inner.floor_bytes;
        if inner.full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::error!(dir = %inner.dir.display(), available, floor = inner.floor_bytes, "disk is full, writes are refused");
            } else {
                tracing::info!(dir = %inner.dir.display(), available, "disk has room again, writes are taken");
            }
        }
        let fresh = if available >= inner.floor_bytes { FRESH_WITH_ROOM } else { FRESH_WITHOUT_ROOM };
        let fresh_ms = u64::try_from(fresh.as_millis()).unwrap_or(u64::MAX);
        inner.fresh_until_ms.store(now_ms.saturating_add(fresh_ms), Ordering::Relaxed);
        available
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::Vfs as _;
    use crate::vfs::sim::SimDisk;

    #[test]
    fn refuses_below_the_floor_and_recovers() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/data")).unwrap();
        disk.set_capacity(50);
        let guard = DiskGuard::new(Arc::new(disk.clone()), Path::new("/data"), 100);
        assert!(matches!(guard.check(), Err(WriteError::Unavailable { .. })));
        disk.set_capacity(1_000);
        let deadline = Instant::now() + Duration::from_secs(20);
        while guard.check().is_err() {
            assert!(Instant::now() < deadline, "space came back and was not seen");
            std::thread::yield_now();
        }
    }
}
