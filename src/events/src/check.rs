//! What is refused and what is cut before a batch is written.

use trefoil_model::{
    AttributeValue, Attributes, Labels, LogBatch, LogRecord, Span, SpanGroup, TraceBatch, WriteReport,
};
use trefoil_runtime::{Limits, limits};

use crate::metrics;

/// Attribute that a cut line gets: the bytes it had.
pub const CUT_ATTRIBUTE: &str = "trefoil.cut";
const NS_PER_MS: i64 = 1_000_000;

/// Times that are accepted, in Unix milliseconds.
pub(crate) struct Window {
    pub(crate) oldest_ms: i64,
    pub(crate) newest_ms: i64,
}

impl Window {
    fn refuse(&self, time_ns: i64) -> Option<(&'static str, String)> {
        let time_ms = time_ns.div_euclid(NS_PER_MS);
        if time_ms < self.oldest_ms {
            Some(("too_old", format!("time {time_ns} is older than the retention")))
        } else if time_ms > self.newest_ms {
            Some(("too_far_in_future", format!("time {time_ns} is too far in the future")))
        } else {
            None
        }
    }
}

/// Removes what is refused from a batch and cuts what is too long. `window_of` gives the times of a stream.
pub(crate) fn check_logs(batch: &mut LogBatch, window_of: &dyn Fn(&Labels) -> Window, limits: &Limits) -> WriteReport {
    let mut report = WriteReport::default();
    for group in &mut batch.groups {
        let stream = &group.stream;
        let window = window_of(stream);
        let stream_reason = if stream.len() > limits.labels_per_series_max {
            Some((
                "labels",
                format!("{} stream labels are over the limit {}", stream.len(), limits.labels_per_series_max),
            ))
        } else if stream.as_packed().len() > limits.labels_bytes_max {
            let bytes = stream.as_packed().len();
            Some(("labels", format!("stream labels of {bytes} bytes are over the limit {}", limits.labels_bytes_max)))
        } else {
            None
        };
        if needs_cut(&group.shared, limits) {
            let mut shared = Attributes::clone(&group.shared);
            cut_attributes(&mut shared, limits);
            group.shared = shared.into();
        }
        group.records.retain_mut(|record| {
            let reason = stream_reason.clone().or_else(|| window.refuse(record.time_ns)).or_else(|| {
                let bytes = record.text.len();
                (bytes > limits.log_line_bytes_max).then(|| {
                    limits::hit("log_line_bytes_max");
                    ("line_too_long", format!("line of {bytes} bytes is over the limit {}", limits.log_line_bytes_max))
                })
            });
            match reason {
                Some((class, reason)) => {
                    metrics::REJECTED.with_label_values(&["logs", class]).inc();
                    report.reject(|| format!("stream {stream}: {reason}"));
                    false
                }
                None => {
                    cut_log(record, limits);
                    report.accepted += 1;
                    true
                }
            }
        });
    }
    batch.groups.retain(|group| !group.records.is_empty());
    report
}

fn cut_log(record: &mut LogRecord, limits: &Limits) {
    if needs_cut(&record.attributes, limits) {
        cut_attributes(&mut record.attributes, limits);
    }
    let bytes = record.text.len();
    if bytes > limits.log_line_cut_bytes {
        limits::hit("log_line_cut_bytes");
        record.text.truncate(boundary(&record.text, limits.log_line_cut_bytes));
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        record.attributes.push((CUT_ATTRIBUTE.to_owned(), AttributeValue::Int(bytes)));
    }
}

fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn needs_cut(attributes: &Attributes, limits: &Limits) -> bool {
    let bytes: usize = attributes.iter().map(|(n, v)| n.len() + v.heap_bytes()).sum();
    attributes.len() > limits.log_attributes_max
        || bytes > limits.log_attributes_bytes_max
        || attributes.iter().any(|(_, value)| depth(value) > limits.attribute_depth_max)
}

fn cut_attributes(attributes: &mut Attributes, limits: &Limits) {
    limits::hit("log_attributes_max");
    let mut bytes = 0;
    let mut count = 0;
    attributes.retain_mut(|(name, value)| {
        if depth(value) > limits.attribute_depth_max {
            flatten(value, limits.attribute_depth_max);
        }
        bytes += name.len() + value.heap_bytes();
        count += 1;
        count <= limits.log_attributes_max && bytes <= limits.log_attributes_bytes_max
    });
}

fn depth(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        AttributeValue::Map(map) => 1 + map.iter().map(|(_, v)| depth(v)).max().unwrap_or(0),
        _ => 0,
    }
}

/// Replaces what lies deeper than `levels` by null.
fn flatten(value: &mut AttributeValue, levels: usize) {
    match value {
        AttributeValue::Array(_) | AttributeValue::Map(_) if levels == 0 => *value = AttributeValue::Null,
        AttributeValue::Array(values) => values.iter_mut().for_each(|v| flatten(v, levels - 1)),
        AttributeValue::Map(map) => map.iter_mut().for_each(|(_, v)| flatten(v, levels - 1)),
        _ => {}
    }
}

/// Removes what is refused from a batch and cuts what is too long.
pub(crate) fn check_spans(batch: &mut TraceBatch, window: &Window, limits: &Limits) -> WriteReport {
    let mut report = WriteReport::default();
    for SpanGroup { spans, .. } in &mut batch.groups {
        spans.retain_mut(|span| {
            cut_span(span, limits);
            let reason = window.refuse(span.start_ns).or_else(|| {
                let bytes = span.heap_bytes();
                (bytes > limits.span_bytes_max).then(|| {
                    limits::hit("span_bytes_max");
                    ("span_too_large", format!("{bytes} bytes are over the limit {}", limits.span_bytes_max))
                })
            });
            match reason {
                Some((class, reason)) => {
                    metrics::REJECTED.with_label_values(&["traces", class]).inc();
                    report.reject(|| format!("span {} of trace {}: {reason}", span.span_id, span.trace_id));
                    false
                }
                None => {
                    report.accepted += 1;
                    true
                }
            }
        });
    }
    batch.groups.retain(|group| !group.spans.is_empty());
    report
}

fn cut_span(span: &mut Span, limits: &Limits) {
    let dropped = [
        cut_span_attributes(&mut span.attributes, limits),
        cut_list(&mut span.events, limits.span_events_max),
        cut_list(&mut span.links, limits.span_links_max),
    ];
    for (total, dropped) in span.dropped.iter_mut().zip(dropped) {
        *total = total.saturating_add(dropped);
    }
    for event in &mut span.events {
        let dropped = cut_span_attributes(&mut event.attributes, limits);
        event.dropped_attributes = event.dropped_attributes.saturating_add(dropped);
    }
    for link in &mut span.links {
        cut_span_attributes(&mut link.attributes, limits);
    }
    if span.end_ns < span.start_ns {
        span.end_ns = span.start_ns;
    }
}

fn cut_list<T>(list: &mut Vec<T>, max: usize) -> u32 {
    let dropped = list.len().saturating_sub(max);
    list.truncate(max);
    u32::try_from(dropped).unwrap_or(u32::MAX)
}

fn cut_span_attributes(attributes: &mut Attributes, limits: &Limits) -> u32 {
    let dropped = cut_list(attributes, limits.span_attributes_max);
    for (_, value) in attributes {
        if let AttributeValue::String(text) = value
            && text.len() > limits.span_attribute_value_bytes_max
        {
            limits::hit("span_attribute_value_bytes_max");
            text.truncate(boundary(text, limits.span_attribute_value_bytes_max));
        }
        if depth(value) > limits.attribute_depth_max {
            flatten(value, limits.attribute_depth_max);
        }
    }
    dropped
}
