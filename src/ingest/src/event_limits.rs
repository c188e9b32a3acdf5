//! Limits of log records and spans: what is cut (and marked), and what is refused.

use trefoil_model::{AttributeValue, Attributes, LogRecord, Span};
use trefoil_runtime::limits::{self, Limits};

use crate::metric_limits::cut;

/// Attribute that marks a line that was cut: its length in bytes before.
pub const CUT_LINE: &str = "trefoil.line_bytes";
/// Attribute that marks a record that lost attributes: how many.
pub const DROPPED_ATTRIBUTES: &str = "trefoil.dropped_attributes";

/// Applies the limits to a log record. Errors: the reason for which it is refused.
pub fn limit_record(record: &mut LogRecord, limits: &Limits) -> Result<(), String> {
    if record.text.len() > limits.log_line_bytes_max {
        limits::hit("log_line_bytes_max");
        return Err(format!("line has {} bytes, at most {} are taken", record.text.len(), limits.log_line_bytes_max));
    }
    limit_attributes(&mut record.attributes, limits);
    if record.text.len() > limits.log_line_cut_bytes {
        limits::hit("log_line_cut_bytes");
        let length = record.text.len();
        record.text.truncate(cut(&record.text, limits.log_line_cut_bytes).len());
        record.text.shrink_to_fit();
        record.attributes.push((CUT_LINE.to_owned(), AttributeValue::Int(length as i64)));
    }
    Ok(())
}

/// Leaves out attributes of a record, or those shared by a group, beyond count or bytes, and marks that.
pub fn limit_attributes(attributes: &mut Attributes, limits: &Limits) {
    let mut bytes = 0;
    let keep = attributes
        .iter()
        .take(limits.log_attributes_max)
        .take_while(|(name, value)| {
            bytes += name.len() + value.heap_bytes();
            bytes <= limits.log_attributes_bytes_max
        })
        .count();
    let dropped = attributes.len() - keep;
    if dropped > 0 {
        let over_count = keep == limits.log_attributes_max;
        limits::hit(if over_count { "log_attributes_max" } else { "log_attributes_bytes_max" });
        attributes.truncate(keep);
        attributes.push((DROPPED_ATTRIBUTES.to_owned(), AttributeValue::Int(dropped as i64)));
    }
}

/// Applies the limits to a span. What is left out is added to [`Span::dropped`]; values are cut. Errors: the reason for
/// which it is refused.
pub fn limit_span(span: &mut Span, limits: &Limits) -> Result<(), String> {
    span.dropped[0] = span.dropped[0].saturating_add(limit_span_attributes(&mut span.attributes, limits));
    span.dropped[1] =
        span.dropped[1].saturating_add(drop_tail(&mut span.events, limits.span_events_max, "span_events_max"));
    span.dropped[2] =
        span.dropped[2].saturating_add(drop_tail(&mut span.links, limits.span_links_max, "span_links_max"));
    for event in &mut span.events {
        let dropped = limit_span_attributes(&mut event.attributes, limits);
        event.dropped_attributes = event.dropped_attributes.saturating_add(dropped);
    }
    for link in &mut span.links {
        limit_span_attributes(&mut link.attributes, limits);
    }
    let bytes = span.heap_bytes();
    if bytes > limits.span_bytes_max {
        limits::hit("span_bytes_max");
        return Err(format!("span has {bytes} bytes, at most {} are taken", limits.span_bytes_max));
    }
    Ok(())
}

/// Leaves out attributes beyond the count and cuts their texts; returns how many were left out.
pub fn limit_span_attributes(attributes: &mut Attributes, limits: &Limits) -> u32 {
    let dropped = drop_tail(attributes, limits.span_attributes_max, "span_attributes_max");
    for (_, value) in attributes {
        let max = limits.span_attribute_value_bytes_max;
        let too_long = match *value {
            AttributeValue::String(ref mut s) if s.len() > max => {
                s.truncate(cut(s, max).len());
                s.shrink_to_fit();
                true
            }
            AttributeValue::Bytes(ref mut b) if b.len() > max => {
                b.truncate(max);
                b.shrink_to_fit();
                true
            }
            ref other @ (AttributeValue::Array(_) | AttributeValue::Map(_)) if other.heap_bytes() > 4 * max => {
                *value = AttributeValue::String(cut(&other.to_string(), max).to_owned());
                true
            }
            _ => false,
        };
        if too_long {
            limits::hit("span_attribute_value_bytes_max");
        }
    }
    dropped
}

fn drop_tail<T>(items: &mut Vec<T>, max: usize, limit: limits::LimitName) -> u32 {
    let dropped = items.len().saturating_sub(max);
    if dropped > 0 {
        limits::hit(limit);
        items.truncate(max);
    }
    u32::try_from(dropped).unwrap_or(u32::MAX)
}
