//! Writers that count what comes in: by doors that are not push protocols, and for the share of own telemetry.

use std::sync::Arc;

use trefoil_ingest::counters;
use trefoil_model::{EventWriter, LogBatch, MetricBatch, MetricWriter, TraceBatch, WriteError, WriteReport};

use crate::self_telemetry::Collector;

/// Counts under `protocol` what `inner` stores.
pub(crate) struct Counted<T: ?Sized> {
    /// Value of the label `protocol`.
    pub(crate) protocol: &'static str,
    /// The writer.
    pub(crate) inner: Arc<T>,
}

#[async_trait::async_trait]
impl MetricWriter for Counted<dyn MetricWriter> {
    async fn write(&self, batch: MetricBatch) -> Result<WriteReport, WriteError> {
        let report = self.inner.write(batch).await?;
        counters::samples(self.protocol, report.accepted);
        Ok(report)
    }
}

#[async_trait::async_trait]
impl EventWriter for Counted<dyn EventWriter> {
    async fn write_logs(&self, batch: LogBatch) -> Result<WriteReport, WriteError> {
        let report = self.inner.write_logs(batch).await?;
        counters::log_records(self.protocol, report.accepted);
        Ok(report)
    }

    async fn write_spans(&self, batch: TraceBatch) -> Result<WriteReport, WriteError> {
        let report = self.inner.write_spans(batch).await?;
        counters::spans(self.protocol, report.accepted);
        Ok(report)
    }
}

/// Tells the collector of own telemetry how much others send, of which it may be a share.
pub(crate) struct Credited {
    /// The collector.
    pub(crate) collector: Collector,
    /// The writer.
    pub(crate) inner: Arc<dyn EventWriter>,
}

#[async_trait::async_trait]
impl EventWriter for Credited {
    async fn write_logs(&self, batch: LogBatch) -> Result<WriteReport, WriteError> {
        let report = self.inner.write_logs(batch).await?;
        self.collector.credit(report.accepted, 0);
        Ok(report)
    }

    async fn write_spans(&self, batch: TraceBatch) -> Result<WriteReport, WriteError> {
        let report = self.inner.write_spans(batch).await?;
        self.collector.credit(0, report.accepted);
        Ok(report)
    }
}
