//! Log records that this process reads itself, made as those that are pushed.

use rustc_hash::FxHashMap;
use trefoil_model::value::find;
use trefoil_model::{AttributeValue, LogBatch, LogGroup, WriteReport};

use crate::event_limits::limit_record;
use crate::ingest::Ingest;
use crate::loki_push::with_service_name;
use crate::metric_limits::{check_labels, shorten};
use crate::{counters, level};

impl Ingest {
    /// Checks labels, adds `service_name` and `detected_level` as they are added to what is pushed, and applies limits.
    /// What cannot be stored is left out, counted under `protocol` and reported.
    pub fn prepare_logs(&self, protocol: &'static str, groups: Vec<LogGroup>) -> (LogBatch, WriteReport) {
        let (limits, options) = (&self.context.limits, &self.context.options);
        let mut report = WriteReport::default();
        let mut batch = LogBatch { tenant: options.tenant, groups: Vec::with_capacity(groups.len()) };
        let mut by_stream = FxHashMap::default();
        let latest_ns = self.context.clock.now_ns().saturating_add(limits.future_ms_max.saturating_mul(1_000_000));
        for mut group in groups {
            if options.discover_service_name {
                group.stream = with_service_name(group.stream);
            }
            let pairs: Vec<_> = group.stream.iter().collect();
            if let Err(reason) = check_labels(&pairs, limits) {
                for _ in &group.records {
                    report.reject(|| format!("stream {}: {reason}", shorten(&group.stream.to_string())));
                }
                continue;
            }
            let of_labels = level::of_labels(&group.stream);
            group.records.retain_mut(|record| {
                if options.discover_log_levels && !level::has_detected_level(&record.attributes) {
                    let level = of_labels.unwrap_or_else(|| {
                        let (number, text) = (record.severity_number, record.severity_text.as_str());
                        level::detect(number, text, &record.attributes, &group.stream, &record.text)
                    });
                    let level = AttributeValue::String(level.to_owned());
                    record.attributes.insert(0, (level::DETECTED_LEVEL.to_owned(), level));
                }
                let id = |name: &str| find(&record.attributes, name).and_then(AttributeValue::as_str);
                record.trace_id = record.trace_id.or_else(|| id("trace_id").and_then(trefoil_model::TraceId::from_hex));
                record.span_id = record.span_id.or_else(|| id("span_id").and_then(trefoil_model::SpanId::from_hex));
                let checked = if record.time_ns > latest_ns {
                    trefoil_runtime::limits::hit("future_ms_max");
                    Err(format!("timestamp {} is too far in the future", record.time_ns))
                } else {
                    limit_record(record, limits)
                };
                if let Err(reason) = &checked {
                    report.reject(|| format!("stream {}: {reason}", shorten(&group.stream.to_string())));
                }
                checked.is_ok()
            });
            if group.records.is_empty() {
                continue;
            }
            let at = *by_stream.entry(group.stream.clone()).or_insert(batch.groups.len());
            match batch.groups.get_mut(at) {
                Some(same) if same.shared == group.shared => same.records.append(&mut group.records),
                _ => batch.groups.push(group),
            }
        }
        counters::rejected(protocol, "invalid", report.rejected);
        (batch, report)
    }
}
