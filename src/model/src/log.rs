//! Log records and the batches in which they are written.

use std::sync::Arc;

use crate::value::attributes_heap_bytes;
use crate::{Attributes, Labels, SpanId, TenantId, TraceId};

/// One log record, whatever door it came in by (DESIGN section 5 has the mapping).
#[derive(Debug, Clone, PartialEq)]
pub struct LogRecord {
    /// Unix nanoseconds of the event.
    pub time_ns: i64,
    /// Unix nanoseconds at which it was observed, 0 when unknown.
    pub observed_ns: i64,
    /// OpenTelemetry severity number, 0 when unknown, 1..=24 else (9 info, 13 warn, 17 error).
    pub severity_number: u8,
    /// Severity as the sender wrote it, "" when none.
    pub severity_text: String,
    /// The line.
    pub text: String,
    /// Structured metadata: record attributes and, for OTLP, the resource and scope attributes that are not
    /// stream labels. Names dotted as sent; `detected_level` is among them when ingest derived it.
    pub attributes: Attributes,
    /// Trace the record belongs to.
    pub trace_id: Option<TraceId>,
    /// Span the record belongs to.
    pub span_id: Option<SpanId>,
}

impl LogRecord {
    /// Approximate bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.text.len() + self.severity_text.len() + attributes_heap_bytes(&self.attributes)
    }
}

/// Records of one stream.
#[derive(Debug, Clone, PartialEq)]
pub struct LogGroup {
    /// Stream labels with names as sent (dotted for OTLP).
    pub stream: Labels,
    /// Attributes that all records of the group share (for OTLP: resource and scope attributes that are not stream
    /// labels); read as if each record had them, a record's own attribute of the same name wins.
    pub shared: Arc<Attributes>,
    /// Records in any order.
    pub records: Vec<LogRecord>,
}

/// What one push writes. All of it becomes durable and visible together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogBatch {
    /// Tenant.
    pub tenant: TenantId,
    /// Groups, one per stream (a stream may occur more than once).
    pub groups: Vec<LogGroup>,
}

impl LogBatch {
    /// Number of records.
    pub fn record_count(&self) -> usize {
        self.groups.iter().map(|g| g.records.len()).sum()
    }

    /// Approximate bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.groups
            .iter()
            .map(|g| {
                g.stream.heap_bytes()
                    + attributes_heap_bytes(&g.shared)
                    + g.records.iter().map(LogRecord::heap_bytes).sum::<usize>()
            })
            .sum()
    }
}

/// The level word that Loki's `detected_level` has for an OpenTelemetry severity number; `None` for 0.
pub fn level_of_severity(severity_number: u8) -> Option<&'static str> {
    match severity_number {
        1..=4 => Some("trace"),
        5..=8 => Some("debug"),
        9..=12 => Some("info"),
        13..=16 => Some("warn"),
        17..=20 => Some("error"),
        21..=24 => Some("fatal"),
        _ => None,
    }
}
