//! Snapshots: a second name for every file that holds what was acknowledged.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::TsdbError;
use crate::store::Tsdb;

/// Attempts to find journal and parts at one commit. Each one is lost to a flush that ended meanwhile.
const ATTEMPTS: usize = 16;

impl Tsdb {
    /// Writes a store into a directory that is missing or empty, by hard links: the parts of the current commit and,
    /// with `with_memtables`, the journal. Opened, it answers what was acknowledged before the call (perhaps more);
    /// without `with_memtables`, what was flushed. Nothing is flushed or copied. After an error the directory holds
    /// something half-done.
    pub async fn snapshot_to(&self, dir: &Path, with_memtables: bool) -> Result<(), TsdbError> {
        let inner = Arc::clone(&self.inner);
        if inner.closed.load(Ordering::Acquire) {
            return Err(TsdbError::Closed);
        }
        let mut state = inner.parts.state();
        if with_memtables {
            for _ in 0..ATTEMPTS {
                let end = inner.journal.rotate().await?;
                let (journal, to) = (Arc::clone(&inner.journal), dir.join("journal"));
                blocking(move || journal.link_segments(end, &to)).await??;
                // Where a flush moved the position meanwhile, records that it carried over may lie behind `end`.
                let now = inner.parts.state();
                let is_same = now.journal_position() == state.journal_position();
                state = now;
                if is_same {
                    break;
                }
            }
        }
        let to = dir.join("parts");
        blocking(move || inner.parts.link_to(&state, &to)).await??;
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TsdbError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| TsdbError::Stopped)
}
