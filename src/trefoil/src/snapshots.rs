//! Snapshots of all stores below `snapshots/` of the data directory.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use trefoil_model::{SnapshotTaker, StoreError};
use trefoil_runtime::vfs::create_dir_durable;
use trefoil_runtime::{DataDirLock, RealVfs, SharedVfs, Vfs as _, data_dir};

use crate::background::Stores;

/// Folder of the snapshots within the data directory.
pub(crate) const FOLDER: &str = "snapshots";
/// Ending of a snapshot that a backup of a running server works with. Its process holds the snapshot's lock.
pub(crate) const BACKUP_SUFFIX: &str = "-backup";
/// Ending of a snapshot that is not one yet.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Takes snapshots, one at a time.
pub(crate) struct Snapshots {
    stores: Stores,
    vfs: SharedVfs,
    dir: PathBuf,
    alone: tokio::sync::Mutex<()>,
}

/// A name from the time, sortable, as Prometheus has them: `20260102T030405Z-<16 hexadecimal digits>`. The first three of
/// the digits are the milliseconds, the others are random.
pub(crate) fn name_at(now_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(now_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let millisecond = time.as_millisecond().rem_euclid(1000);
    format!("{}-{millisecond:03x}{:013x}", time.strftime("%Y%m%dT%H%M%SZ"), rand::random::<u64>() >> 12)
}

/// Says so when the folder of metrics is gone from a data directory. It is made before that of logs and traces.
pub(crate) fn tell_lost_metrics(data: &Path) -> bool {
    let folder = data.join("metrics");
    let is_lost = !folder.exists() && data.join("events").exists();
    if is_lost {
        let folder = folder.display();
        tracing::error!(%folder, "the folder of the metrics store is gone, it is begun anew without what was in it");
    }
    is_lost
}

/// Keeps [`remove_stale`] away from snapshots that were asked for and are not locked yet. While backups hold it, others
/// may too.
pub(crate) fn gate(folder: &Path) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let gate = File::open(folder)?;
    gate.lock_shared()?;
    Ok(gate)
}

/// Removes the snapshots of backups that no process holds, all but `ours`. Returns what is to be said of each. Does nothing
/// while a backup is about to get its snapshot.
pub(crate) fn remove_stale(folder: &Path, ours: Option<&Path>) -> Vec<String> {
    let mut told = Vec::new();
    let Some(_gate) = File::open(folder).ok().filter(|gate| gate.try_lock().is_ok()) else { return told };
    for entry in RealVfs.read_dir(folder).unwrap_or_default() {
        let path = folder.join(&entry.name);
        if !entry.is_dir || ours == Some(path.as_path()) || !entry.name.ends_with(BACKUP_SUFFIX) {
            continue;
        }
        if let Ok(_lock) = DataDirLock::acquire(&path) {
            told.push(match RealVfs.remove_dir_all(&path) {
                Ok(()) => format!("removed {}, the snapshot of a backup that was cut off", path.display()),
                Err(error) => {
                    format!("{}, of a backup that was cut off, could not be removed: {error}", path.display())
                }
            });
        }
    }
    told
}

impl Snapshots {
    /// Takes snapshots of the stores of a data directory. Removes what was left half-done.
    pub(crate) fn new(stores: Stores, vfs: SharedVfs, data: &Path) -> io::Result<Self> {
        let dir = data.join(FOLDER);
        if vfs.exists(&dir) {
            for entry in vfs.read_dir(&dir)?.iter().filter(|e| e.is_dir && e.name.ends_with(TEMPORARY_SUFFIX)) {
                vfs.remove_dir_all(&dir.join(&entry.name))?;
            }
        }
        Ok(Self { stores, vfs, dir, alone: tokio::sync::Mutex::default() })
    }

    /// Removes the snapshots of backups that were cut off.
    pub(crate) fn remove_stale(&self) {
        for removed in remove_stale(&self.dir, None) {
            tracing::warn!("{removed}");
        }
    }

    async fn take(&self, temporary: &Path, with_memtables: bool) -> Result<(), StoreError> {
        let metrics = self.stores.metrics.snapshot_to(&temporary.join("metrics"), with_memtables).await;
        metrics.map_err(|error| StoreError::Io { context: "snapshot".into(), source: io::Error::other(error) })?;
        self.stores.events.snapshot_to(&temporary.join("events"), with_memtables).await?;
        Ok(())
    }
}

#[async_trait::async_trait]
impl SnapshotTaker for Snapshots {
    async fn snapshot(&self, with_memtables: bool, for_backup: bool) -> Result<String, StoreError> {
        let _alone = self.alone.lock().await;
        let started = self.stores.clock.monotonic();
        let suffix = if for_backup { BACKUP_SUFFIX } else { "" };
        let name = format!("{}{suffix}", name_at(self.stores.clock.now_ms()));
        let temporary = self.dir.join(format!("{name}{TEMPORARY_SUFFIX}"));
        let io = |source| StoreError::Io { context: format!("snapshot {name}"), source };
        let finish = || -> io::Result<()> {
            data_dir::check_format(&*self.vfs, &temporary).map_err(io::Error::other)?;
            self.vfs.sync_dir(&temporary)?;
            self.vfs.rename(&temporary, &self.dir.join(&name))?;
            self.vfs.sync_dir(&self.dir)
        };
        create_dir_durable(&*self.vfs, &temporary).map_err(io)?;
        let taken = match self.take(&temporary, with_memtables).await {
            Ok(()) => finish().map_err(io),
            Err(error) => Err(error),
        };
        if let Err(error) = taken {
            if self.vfs.exists(&temporary)
                && let Err(left) = self.vfs.remove_dir_all(&temporary)
            {
                // The next start removes it.
                tracing::warn!(snapshot = %temporary.display(), error = %left, "half a snapshot was not removed");
            }
            return Err(error);
        }
        let seconds = self.stores.clock.monotonic().saturating_sub(started).as_secs_f64();
        tracing::info!(name, with_memtables, seconds, "snapshot taken");
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_of_backups_that_ended_are_removed() {
        let dir = std::env::temp_dir().join(format!("trefoil-stale-{}-{}", std::process::id(), rand::random::<u64>()));
        let paths = ["cut-backup", "held-backup", "by-hand"].map(|name| dir.join(name));
        paths.iter().for_each(|path| std::fs::create_dir_all(path).unwrap());
        let held = DataDirLock::acquire(&paths[1]).unwrap();
        let asked = gate(&dir).unwrap();
        drop(gate(&dir).unwrap());
        assert!(remove_stale(&dir, None).is_empty(), "somebody waits for one of them");
        drop(asked);
        assert_eq!(remove_stale(&dir, None).len(), 1);
        assert_eq!(paths.each_ref().map(|path| path.exists()), [false, true, true]);
        drop(held);
        assert!(remove_stale(&dir, Some(&paths[1])).is_empty());
        assert_eq!(remove_stale(&dir, None).len(), 1);
        assert!(remove_stale(&dir.join("none"), None).is_empty());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn names_say_the_time() {
        let name = name_at(1_767_323_045_000);
        assert!(name.starts_with("20260102T030405Z-000") && name.len() == 33, "{name}");
        assert!(name_at(1_767_323_045_999) > name_at(1_767_323_045_998));
        assert_ne!(name_at(0), name_at(0));
    }
}
