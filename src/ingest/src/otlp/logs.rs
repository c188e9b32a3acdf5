//! OTLP log records as model log records.
//!
//! As in Loki's OTLP endpoint, some resource attributes become stream labels ([`STREAM_ATTRIBUTES`]); the other resource
//! attributes and the scope are shared attributes of the group. Names stay dotted.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord as WireRecord, ResourceLogs};
use trefoil_model::{AttributeValue, Attributes, Labels, LogBatch, LogGroup, LogRecord, SpanId, TraceId, WriteReport};
use trefoil_runtime::limits;

use super::attributes::{attributes, scope, value};
use super::nanoseconds;
use crate::event_limits::{limit_attributes, limit_record};
use crate::ingest::Context;
use crate::level;
use crate::metric_limits::{check_labels, shorten};

/// The resource attributes that Loki makes stream labels by default.
pub const STREAM_ATTRIBUTES: [&str; 17] = [
    "cloud.availability_zone",
    "cloud.region",
    "container.name",
    "deployment.environment",
    "deployment.environment.name",
    "k8s.cluster.name",
    "k8s.container.name",
    "k8s.cronjob.name",
    "k8s.daemonset.name",
    "k8s.deployment.name",
    "k8s.job.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.replicaset.name",
    "k8s.statefulset.name",
    "service.instance.id",
    "service.namespace",
];
const SERVICE_NAME: &str = "service.name";
const UNKNOWN_SERVICE: &str = "unknown_service";

/// A converted request.
#[derive(Debug, Default)]
pub struct Converted {
    /// What to store.
    pub batch: LogBatch,
    /// What was refused.
    pub report: WriteReport,
}

/// Converts a request; refuses records one by one.
pub(crate) fn convert(request: ExportLogsServiceRequest, context: &Context) -> Converted {
    let mut converted = Converted::default();
    converted.batch.tenant = context.options.tenant;
    let now_ns = context.clock.now_ns();
    for resource_logs in request.resource_logs {
        convert_resource(resource_logs, context, now_ns, &mut converted);
    }
    converted
}

fn convert_resource(resource_logs: ResourceLogs, context: &Context, now_ns: i64, converted: &mut Converted) {
    let depth_max = context.limits.attribute_depth_max;
    let resource = resource_logs.resource.map_or_else(Attributes::new, |r| attributes(r.attributes, depth_max));
    let (stream, others) = split_resource(resource, &context.options.stream_attributes);
    let pairs: Vec<_> = stream.iter().collect();
    if let Err(reason) = check_labels(&pairs, &context.limits) {
        for _ in resource_logs.scope_logs.iter().flat_map(|s| &s.log_records) {
            converted.report.reject(|| format!("log stream: {reason}"));
        }
        return;
    }
    let time_max = now_ns.saturating_add(context.limits.future_ms_max.saturating_mul(1_000_000));
    for scope_logs in resource_logs.scope_logs {
        let mut shared = others.clone();
        let scope = scope(scope_logs.scope, depth_max);
        for (name, text) in [("scope.name", scope.name), ("scope.version", scope.version)] {
            if !text.is_empty() {
                shared.push((name.to_owned(), AttributeValue::String(text)));
            }
        }
        shared.extend(scope.attributes);
        limit_attributes(&mut shared, &context.limits);
        let mut records = Vec::with_capacity(scope_logs.log_records.len());
        for wire in scope_logs.log_records {
            let mut record = convert_record(wire, context, now_ns, &stream);
            let checked = if record.time_ns > time_max {
                limits::hit("future_ms_max");
                Err(format!("timestamp {} is too far in the future", record.time_ns))
            } else {
                limit_record(&mut record, &context.limits)
            };
            match checked {
                Ok(()) => records.push(record),
                Err(reason) => {
                    converted.report.reject(|| format!("log record {:?}: {reason}", shorten(&record.text)));
                }
            }
        }
        if !records.is_empty() {
            converted.batch.groups.push(LogGroup { stream: stream.clone(), shared: Arc::new(shared), records });
        }
    }
}

/// Divides resource attributes into stream labels and the rest.
fn split_resource(resource: Attributes, promoted: &[String]) -> (Labels, Attributes) {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut others = Attributes::new();
    for (name, value) in resource {
        if name != SERVICE_NAME && !promoted.contains(&name) {
            others.push((name, value));
        } else if !pairs.iter().any(|(n, _)| *n == name) {
            pairs.push((name, value.to_text()));
        }
    }
    if !pairs.iter().any(|(n, v)| n == SERVICE_NAME && !v.is_empty()) {
        pairs.retain(|(n, _)| n != SERVICE_NAME);
        pairs.push((SERVICE_NAME.to_owned(), UNKNOWN_SERVICE.to_owned()));
    }
    (Labels::from_pairs(pairs), others)
}

fn convert_record(wire: WireRecord, context: &Context, now_ns: i64, stream: &Labels) -> LogRecord {
    let depth_max = context.limits.attribute_depth_max;
    let observed_ns = nanoseconds(wire.observed_time_unix_nano).unwrap_or(0);
    let time_ns = nanoseconds(wire.time_unix_nano).unwrap_or(if observed_ns > 0 { observed_ns } else { now_ns });
    let severity_number = u8::try_from(wire.severity_number).ok().filter(|n| *n <= 24).unwrap_or(0);
    let text = match value(wire.body, depth_max) {
        AttributeValue::String(text) => text,
        other => other.to_text(),
    };
    let mut attributes = attributes(wire.attributes, depth_max);
    for (name, number) in [("flags", wire.flags), ("dropped_attributes_count", wire.dropped_attributes_count)] {
        if number != 0 {
            attributes.push((name.to_owned(), AttributeValue::Int(i64::from(number))));
        }
    }
    if !wire.event_name.is_empty() {
        attributes.push(("event.name".to_owned(), AttributeValue::String(wire.event_name)));
    }
    if context.options.discover_log_levels && !level::has_detected_level(&attributes) {
        let level = level::detect(severity_number, &wire.severity_text, &attributes, stream, &text);
        attributes.insert(0, (level::DETECTED_LEVEL.to_owned(), AttributeValue::String(level.to_owned())));
    }
    LogRecord {
        time_ns,
        observed_ns,
        severity_number,
        severity_text: wire.severity_text,
        text,
        attributes,
        trace_id: TraceId::from_bytes(&wire.trace_id),
        span_id: SpanId::from_bytes(&wire.span_id),
    }
}
