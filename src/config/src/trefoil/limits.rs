//! `trefoil.limits`: the limits of the runtime under their own names.

use std::time::Duration;

use trefoil_runtime::limits::Limits;

use crate::byte_size::ByteSize;
use crate::decode::{Decode, Encode, Fields, Sink, scalar_text};
use crate::duration::PromDuration;
use crate::yaml::{Node, Value};

/// Limits of the server. The keys are the fields of [`Limits`], which are also the names in
/// `trefoil_limit_hits_total`, and `memory_bytes`.
///
/// Numbers are plain, bytes may have units (`64MB`), times are durations (`60s`; `future_ms_max` too). None may be 0;
/// the word `unlimited` lifts a limit, and `series_active_max` takes `auto`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LimitsConfig {
    /// Memory of the process that ingest, memtables, queries and caches share. `None`, the default: 80 % of the
    /// control group's limit or of the machine's memory.
    pub memory_bytes: Option<ByteSize>,
    /// All others, with their defaults.
    pub limits: Limits,
}

/// A value of a limit.
trait LimitValue: Copy {
    /// Reads a value that is not 0; `Err` with what is wrong.
    fn read(key: &str, text: &str) -> Result<Self, String>;
    fn print(self, key: &str) -> Value;
}

/// The value that leaves a limit to the memory budget, and the key that takes it.
const AUTO: &str = "auto";
const AUTO_KEY: &str = "series_active_max";

/// Stands for "no limit" where a duration is asked for: no deadline that is computed from it overflows.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

fn whole(key: &str, text: &str) -> Result<u64, String> {
    if let Ok(number) = text.replace('_', "").parse() {
        return Ok(number);
    }
    if key.contains("bytes") {
        let size = ByteSize::parse(text)?;
        return u64::try_from(size.as_i64()).map_err(|_| format!("{text} is negative"));
    }
    if key.contains("_ms_") {
        return PromDuration::parse(text).map(|d| d.as_ms().unsigned_abs());
    }
    Err(format!("{text:?} is not a whole number"))
}

macro_rules! whole_numbers {
    ($($ty:ty),*) => { $(
        impl LimitValue for $ty {
            fn read(key: &str, text: &str) -> Result<Self, String> {
                if text == "unlimited" {
                    return Ok(<$ty>::MAX);
                }
                if text == AUTO && key == AUTO_KEY {
                    return Ok(0);
                }
                let value = <$ty>::try_from(whole(key, text)?).map_err(|_| format!("{text} is too large"))?;
                if value == 0 { Err("must not be 0: give a limit or the word unlimited".to_owned()) } else { Ok(value) }
            }

            fn print(self, key: &str) -> Value {
                if self == <$ty>::MAX {
                    return Value::Str("unlimited".to_owned());
                }
                if self == 0 && key == AUTO_KEY {
                    return Value::Str(AUTO.to_owned());
                }
                let number = i128::try_from(self).unwrap_or(i128::MAX);
                match i64::try_from(number) {
                    Ok(bytes) if key.contains("bytes") => ByteSize::from_bytes(bytes).encode(),
                    Ok(ms) if key.contains("_ms_") => PromDuration::from_ms(ms).encode(),
                    _ => Value::Int(number),
                }
            }
        }
    )* };
}
whole_numbers!(usize, u32, u64, i64);

impl LimitValue for Duration {
    fn read(_: &str, text: &str) -> Result<Self, String> {
        if text == "unlimited" {
            return Ok(FOREVER);
        }
        let value = PromDuration::parse(text)?.as_std();
        if value.is_zero() { Err("must not be 0: give a limit or the word unlimited".to_owned()) } else { Ok(value) }
    }

    fn print(self, _: &str) -> Value {
        if self >= FOREVER {
            return Value::Str("unlimited".to_owned());
        }
        PromDuration::from_ms(i64::try_from(self.as_millis()).unwrap_or(i64::MAX)).encode()
    }
}

fn take<T: LimitValue>(fields: &mut Fields<'_>, key: &'static str, slot: &mut T, sink: &mut Sink) {
    let Some(node) = fields.take_node(key) else { return };
    sink.within(key, |sink| {
        if let Some(text) = scalar_text(node, "a limit", sink) {
            match T::read(key, text) {
                Ok(value) => *slot = value,
                Err(message) => sink.error(node.pos, format!("limits.{key}: {message}")),
            }
        }
    });
}

macro_rules! limits {
    ($($field:ident,)*) => {
        impl LimitsConfig {
            fn read(fields: &mut Fields<'_>, sink: &mut Sink) -> Self {
                let mut out = Self::default();
                out.memory_bytes = fields.take("memory_bytes", None, sink);
                $( take(fields, stringify!($field), &mut out.limits.$field, sink); )*
                out
            }

            fn write(&self) -> Vec<(String, Value)> {
                let mut out = Vec::new();
                if let Some(bytes) = self.memory_bytes {
                    out.push(("memory_bytes".to_owned(), bytes.encode()));
                }
                $( out.push((
                    stringify!($field).to_owned(),
                    self.limits.$field.print(stringify!($field)),
                )); )*
                out
            }
        }
    };
}

limits! {
    connections_max, header_bytes_max, headers_max, uri_bytes_max, header_timeout, body_timeout, idle_timeout,
    http2_streams_max,
    body_bytes_max, body_inflated_bytes_max, inflate_ratio_max, json_depth_max,
    series_per_request_max, samples_per_request_max, labels_per_series_max, label_name_bytes_max,
    label_value_bytes_max, labels_bytes_max, future_ms_max, histogram_buckets_max, exemplars_max, metadata_bytes_max,
    metadata_families_max,
    series_active_max, series_active_per_job_max, series_new_per_minute_max, series_new_per_job_per_minute_max,
    log_line_bytes_max, log_line_cut_bytes, log_attributes_max, log_attributes_bytes_max, sent_again_max,
    attribute_depth_max,
    log_queue_bytes_max, log_connection_idle_timeout, gelf_open_messages_max, gelf_open_bytes_max,
    tail_files_max, tail_open_files_max,
    span_bytes_max, span_attributes_max, span_attribute_value_bytes_max, span_events_max, span_links_max,
    spans_per_trace_max, span_queue_bytes_max,
    span_metrics_series_max, service_graph_edges_max, service_graph_spans_max, spans_remembered_max,
    scrape_body_bytes_max, scrape_samples_max, scrape_concurrency_max, scrape_targets_max, scrape_redirects_max,
    query_bytes_max, query_timeout, query_concurrency, query_queue_max, query_queue_wait,
    query_samples_max, query_series_max, query_points_per_series_max, query_memory_bytes_max, query_cache_bytes_max,
    query_scan_bytes_max,
    log_entries_max, log_export_lines_max, label_values_max, series_api_max, response_bytes_max, tails_max,
    rule_series_max,
    notification_queue_max,
    disk_free_floor_bytes, admin_body_bytes_max,
}

impl Decode for LimitsConfig {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let mut fields = Fields::new(node, sink)?;
        let out = Self::read(&mut fields, sink);
        fields.finish(sink);
        let bytes = out.memory_bytes.map_or(ByteSize::gib(1), |b| b);
        let message = "limits.memory_bytes must be at least 64MB";
        sink.require(bytes >= ByteSize::mib(64), node.key_pos("memory_bytes"), message);
        Some(out)
    }
}

impl Encode for LimitsConfig {
    fn encode(&self) -> Value {
        Value::Map(self.write())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_key() {
        let keys: Vec<_> = LimitsConfig::default().write().into_iter().map(|(key, _)| key).collect();
        let names: Vec<_> = Limits::default().entries().into_iter().map(|(name, _)| name).collect();
        assert_eq!(keys, names);
    }
}
