//! Snapshots of all stores below `snapshots/` of the data directory.

use std::io;
use std::path::{Path, PathBuf};

use trefoil_model::{SnapshotTaker, StoreError};
use trefoil_runtime::vfs::create_dir_durable;
use trefoil_runtime::{SharedVfs, data_dir};

use crate::background::Stores;

/// Folder of the snapshots within the data directory.
pub(crate) const FOLDER: &str = "snapshots";
/// Ending of a snapshot that is not one yet.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Takes snapshots, one at a time.
pub(crate) struct Snapshots {
    stores: Stores,
    vfs: SharedVfs,
    dir: PathBuf,
    alone: tokio::sync::Mutex<()>,
}

/// A name from the time, sortable, as Prometheus has them: `20260102T030405Z-<16 hexadecimal digits>`.
pub(crate) fn name_at(now_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(now_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{}-{:016x}", time.strftime("%Y%m%dT%H%M%SZ"), rand::random::<u64>())
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

    async fn take(&self, temporary: &Path, with_memtables: bool) -> Result<(), StoreError> {
        let metrics = self.stores.metrics.snapshot_to(&temporary.join("metrics"), with_memtables).await;
        metrics.map_err(|error| StoreError::Io { context: "snapshot".into(), source: io::Error::other(error) })?;
        self.stores.events.snapshot_to(&temporary.join("events"), with_memtables).await?;
        Ok(())
    }
}

#[async_trait::async_trait]
impl SnapshotTaker for Snapshots {
    async fn snapshot(&self, with_memtables: bool) -> Result<String, StoreError> {
        let _alone = self.alone.lock().await;
        let started = self.stores.clock.monotonic();
        let name = name_at(self.stores.clock.now_ms());
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
    fn names_say_the_time() {
        let name = name_at(1_767_323_045_000);
        assert!(name.starts_with("20260102T030405Z-") && name.len() == 33, "{name}");
        assert_ne!(name_at(0), name_at(0));
    }
}
