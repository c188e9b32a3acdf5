//! Memory of what a connection holds of messages that are not complete, from the same budget as requests.

use std::time::Duration;

use trefoil_ingest::{Ingest, IngestError};
use trefoil_runtime::Stop;
use trefoil_runtime::memory::Reservation;

/// Bytes for which no memory is asked.
const FREE_BYTES: usize = 32 << 10;
/// Memory is asked for in steps of this.
const STEP_BYTES: usize = 256 << 10;
/// Wait before memory is asked for again.
const RETRY: Duration = Duration::from_millis(100);

/// Memory that is granted.
#[derive(Default)]
pub(super) struct Memory {
    steps: Vec<Reservation>,
}

impl Memory {
    /// Asks for memory for so many bytes, or gives back what is more than they need. Errors: there is none now.
    pub(super) fn cover(&mut self, bytes: usize, ingest: &Ingest) -> Result<(), IngestError> {
        let steps = bytes.saturating_sub(FREE_BYTES).div_ceil(STEP_BYTES);
        self.steps.truncate(steps);
        while self.steps.len() < steps {
            self.steps.push(ingest.reserve(STEP_BYTES as u64)?);
        }
        Ok(())
    }

    /// As [`Memory::cover`], but waits until there is memory, which slows the sender, or the server stops.
    pub(super) async fn wait_for(&mut self, bytes: usize, ingest: &Ingest, stop: &Stop) {
        while self.cover(bytes, ingest).is_err() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
}
