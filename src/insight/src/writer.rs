//! The writer before the event store: shows what was stored to those who derive from it.

use std::sync::Arc;

use trefoil_model::{EventWriter, LogBatch, TraceBatch, WriteError, WriteReport};
use trefoil_runtime::clock::SharedClock;

use crate::Insight;

/// Writes to the store and, when that succeeded, tells patterns and live tails.
pub struct InsightWriter {
    inner: Arc<dyn EventWriter>,
    insight: Arc<Insight>,
    clock: SharedClock,
}

impl InsightWriter {
    /// Sits before `inner`.
    pub fn new(inner: Arc<dyn EventWriter>, insight: Arc<Insight>, clock: SharedClock) -> Self {
        Self { inner, insight, clock }
    }
}

#[async_trait::async_trait]
impl EventWriter for InsightWriter {
    async fn write_logs(&self, batch: LogBatch) -> Result<WriteReport, WriteError> {
        // The store takes the batch, so what is wanted of it is picked before and told after.
        let sample = self.insight.patterns.sample(&batch, self.clock.now_ns());
        let tapped = self.insight.tap.pick(&batch);
        let report = self.inner.write_logs(batch).await?;
        tapped.deliver();
        self.insight.patterns.learn(&sample);
        Ok(report)
    }

    async fn write_spans(&self, batch: TraceBatch) -> Result<WriteReport, WriteError> {
        self.inner.write_spans(batch).await
    }
}
