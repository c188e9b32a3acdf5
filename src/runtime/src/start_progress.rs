//! How far a start has come: what the stores have replayed, for `/-/ready` and the log.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Least time between two looks of the log at one stage.
const LOG_EVERY: Duration = Duration::from_secs(2);

/// The stages of a start. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct StartProgress(Arc<Mutex<Vec<Arc<Stage>>>>);

#[derive(Debug)]
struct Stage {
    name: &'static str,
    records: AtomicU64,
    bytes: AtomicU64,
    bytes_total: u64,
    is_done: AtomicBool,
}

/// One stage: the replay of one journal. It is over when this is dropped.
#[derive(Debug)]
pub struct StartStage {
    stage: Arc<Stage>,
    /// When the log was written, monotonic.
    logged: Duration,
}

impl StartProgress {
    /// Begins a stage of about so many bytes. `now` is monotonic.
    pub fn begin(&self, name: &'static str, bytes_total: u64, now: Duration) -> StartStage {
        let stage = Arc::new(Stage {
            name,
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            bytes_total,
            is_done: AtomicBool::new(false),
        });
        self.0.lock().push(Arc::clone(&stage));
        StartStage { stage, logged: now }
    }
}

impl StartStage {
    /// Adds what was replayed; now and then that goes into the log. `now` is monotonic.
    pub fn add(&mut self, records: u64, bytes: u64, now: Duration) {
        let records = self.stage.records.fetch_add(records, Ordering::Relaxed) + records;
        let bytes = self.stage.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if now.saturating_sub(self.logged) >= LOG_EVERY {
            self.logged = now;
            let (journal, bytes_total) = (self.stage.name, self.stage.bytes_total);
            tracing::info!(journal, records, bytes, bytes_total, "replaying");
        }
    }
}

impl Drop for StartStage {
    fn drop(&mut self) {
        self.stage.is_done.store(true, Ordering::Relaxed);
    }
}

impl fmt::Display for StartProgress {
    /// `metrics: 1200 records, 30 of 100 MiB replayed; logs: ...`; nothing before the first stage.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, stage) in self.0.lock().iter().enumerate() {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            let (records, done) = (stage.records.load(Ordering::Relaxed), stage.bytes.load(Ordering::Relaxed));
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {records} records, ", stage.name)?;
            if stage.is_done.load(Ordering::Relaxed) {
                write!(f, "{} MiB replayed, done", mib(done))?;
            } else {
                // Headers and what is left out make the total a little larger or smaller.
                let total = stage.bytes_total.max(done);
                write!(f, "{} of {} MiB replayed", mib(done), mib(total))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_told() {
        let progress = StartProgress::default();
        assert_eq!(progress.to_string(), "");
        let mut metrics = progress.begin("metrics", 10 << 20, Duration::ZERO);
        metrics.add(7, 3 << 20, Duration::from_secs(5));
        assert_eq!(progress.to_string(), "metrics: 7 records, 3 of 10 MiB replayed");
        drop(metrics);
        let logs = progress.clone().begin("logs", 0, Duration::ZERO);
        assert_eq!(
            progress.to_string(),
            "metrics: 7 records, 3 MiB replayed, done; logs: 0 records, 0 of 0 MiB replayed"
        );
        drop(logs);
    }
}
