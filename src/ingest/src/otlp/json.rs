//! OTLP's JSON encoding (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>) to the protobuf messages.
//!
//! Read by hand from a JSON tree, because senders differ: 64-bit numbers as texts or numbers, ids in either case, `null`
//! for absent, unknown fields anywhere. An id that is not hexadecimal becomes an id of no valid length, so that its item
//! is rejected alone.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use serde_json::{Map, Value};

use crate::IngestError;
use crate::body::check_json_depth;

/// Reads a request for logs.
pub fn logs(bytes: &[u8], depth_max: usize) -> Result<ExportLogsServiceRequest, IngestError> {
    let mut request = root(bytes, depth_max)?;
    let resource_logs = request.list("resourceLogs", |r| {
        Ok(ResourceLogs {
            resource: r.resource()?,
            scope_logs: r.list("scopeLogs", |s| {
                Ok(ScopeLogs {
                    scope: s.scope()?,
                    log_records: s.list("logRecords", log_record)?,
                    schema_url: s.text("schemaUrl")?,
                })
            })?,
            schema_url: r.text("schemaUrl")?,
        })
    })?;
    Ok(ExportLogsServiceRequest { resource_logs })
}

/// Reads a request for traces.
pub fn traces(bytes: &[u8], depth_max: usize) -> Result<ExportTraceServiceRequest, IngestError> {
    let mut request = root(bytes, depth_max)?;
    let resource_spans = request.list("resourceSpans", |r| {
        Ok(ResourceSpans {
            resource: r.resource()?,
            scope_spans: r.list("scopeSpans", |s| {
                Ok(ScopeSpans { scope: s.scope()?, spans: s.list("spans", span)?, schema_url: s.text("schemaUrl")? })
            })?,
            schema_url: r.text("schemaUrl")?,
        })
    })?;
    Ok(ExportTraceServiceRequest { resource_spans })
}

/// Reads a request for metrics.
pub fn metrics(bytes: &[u8], depth_max: usize) -> Result<ExportMetricsServiceRequest, IngestError> {
    let mut request = root(bytes, depth_max)?;
    let resource_metrics = request.list("resourceMetrics", super::json_metrics::resource_metrics)?;
    Ok(ExportMetricsServiceRequest { resource_metrics })
}

fn root(bytes: &[u8], depth_max: usize) -> Result<Object, IngestError> {
    check_json_depth(bytes, depth_max)?;
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(Object(map)),
        Ok(_) => Err(IngestError::Malformed("malformed JSON request: expected an object".to_owned())),
        Err(e) => Err(IngestError::Malformed(format!("malformed JSON request: {e}"))),
    }
}

fn log_record(r: &mut Object) -> Result<LogRecord, IngestError> {
    Ok(LogRecord {
        time_unix_nano: r.u64("timeUnixNano")?,
        observed_time_unix_nano: r.u64("observedTimeUnixNano")?,
        severity_number: r.i32("severityNumber")?,
        severity_text: r.text("severityText")?,
        body: r.any("body")?,
        attributes: r.attributes("attributes")?,
        dropped_attributes_count: r.u32("droppedAttributesCount")?,
        flags: r.u32("flags")?,
        trace_id: r.id("traceId")?,
        span_id: r.id("spanId")?,
        event_name: r.text("eventName")?,
    })
}

fn span(s: &mut Object) -> Result<Span, IngestError> {
    Ok(Span {
        trace_id: s.id("traceId")?,
        span_id: s.id("spanId")?,
        trace_state: s.text("traceState")?,
        parent_span_id: s.id("parentSpanId")?,
        flags: s.u32("flags")?,
        name: s.text("name")?,
        kind: s.i32("kind")?,
        start_time_unix_nano: s.u64("startTimeUnixNano")?,
        end_time_unix_nano: s.u64("endTimeUnixNano")?,
        attributes: s.attributes("attributes")?,
        dropped_attributes_count: s.u32("droppedAttributesCount")?,
        events: s.list("events", |e| {
            Ok(Event {
                time_unix_nano: e.u64("timeUnixNano")?,
                name: e.text("name")?,
                attributes: e.attributes("attributes")?,
                dropped_attributes_count: e.u32("droppedAttributesCount")?,
            })
        })?,
        dropped_events_count: s.u32("droppedEventsCount")?,
        links: s.list("links", |l| {
            Ok(Link {
                trace_id: l.id("traceId")?,
                span_id: l.id("spanId")?,
                trace_state: l.text("traceState")?,
                attributes: l.attributes("attributes")?,
                dropped_attributes_count: l.u32("droppedAttributesCount")?,
                flags: l.u32("flags")?,
            })
        })?,
        dropped_links_count: s.u32("droppedLinksCount")?,
        status: s.object("status", |s| Ok(Status { message: s.text("message")?, code: s.i32("code")? }))?,
    })
}

/// A JSON object whose fields are taken out by name.
pub(super) struct Object(Map<String, Value>);

type Taken<T> = Result<T, IngestError>;

impl Object {
    /// Takes a field; `null` counts as absent.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.get_mut(name).map(Value::take).filter(|v| !v.is_null())
    }

    pub(super) fn list<T>(&mut self, name: &str, each: impl Fn(&mut Object) -> Taken<T>) -> Taken<Vec<T>> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .into_iter()
                .map(|item| match item {
                    Value::Object(map) => each(&mut Object(map)),
                    _ => Err(wrong(name, "a list of objects")),
                })
                .collect(),
            Some(_) => Err(wrong(name, "a list")),
        }
    }

    pub(super) fn object<T>(&mut self, name: &str, read: impl Fn(&mut Object) -> Taken<T>) -> Taken<Option<T>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => read(&mut Object(map)).map(Some),
            Some(_) => Err(wrong(name, "an object")),
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Taken<String> {
        match self.take(name) {
            None => Ok(String::new()),
            Some(Value::String(s)) => Ok(s),
            Some(_) => Err(wrong(name, "a text")),
        }
    }

    /// Hexadecimal as bytes. What is not hexadecimal gives one byte, which is no valid id.
    pub(super) fn id(&mut self, name: &str) -> Taken<Vec<u8>> {
        let text = self.text(name)?;
        Ok(hex::decode(text.as_bytes()).unwrap_or_else(|_| vec![0xff]))
    }

    pub(super) fn bool(&mut self, name: &str) -> Taken<bool> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(b)) => Ok(b),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }

    pub(super) fn u64(&mut self, name: &str) -> Taken<u64> {
        self.take(name).map_or(Ok(0), |v| u64_of(name, &v))
    }

    pub(super) fn i64(&mut self, name: &str) -> Taken<Option<i64>> {
        self.take(name).map(|v| i64_of(name, &v)).transpose()
    }

    pub(super) fn u32(&mut self, name: &str) -> Taken<u32> {
        u32::try_from(self.u64(name)?).map_err(|_| wrong(name, "a 32-bit number"))
    }

    pub(super) fn i32(&mut self, name: &str) -> Taken<i32> {
        i32::try_from(self.i64(name)?.unwrap_or(0)).map_err(|_| wrong(name, "a 32-bit number"))
    }

    pub(super) fn f64(&mut self, name: &str) -> Taken<Option<f64>> {
        self.take(name).map(|v| f64_of(name, &v)).transpose()
    }

    pub(super) fn u64_list(&mut self, name: &str) -> Taken<Vec<u64>> {
        self.numbers(name, u64_of)
    }

    pub(super) fn f64_list(&mut self, name: &str) -> Taken<Vec<f64>> {
        self.numbers(name, f64_of)
    }

    fn numbers<T>(&mut self, name: &str, read: impl Fn(&str, &Value) -> Taken<T>) -> Taken<Vec<T>> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items.iter().map(|v| read(name, v)).collect(),
            Some(_) => Err(wrong(name, "a list of numbers")),
        }
    }

    pub(super) fn attributes(&mut self, name: &str) -> Taken<Vec<KeyValue>> {
        self.list(name, |kv| Ok(KeyValue { key: kv.text("key")?, value: kv.any("value")?, key_strindex: 0 }))
    }

    pub(super) fn resource(&mut self) -> Taken<Option<Resource>> {
        self.object("resource", |r| {
            Ok(Resource {
                attributes: r.attributes("attributes")?,
                dropped_attributes_count: r.u32("droppedAttributesCount")?,
                entity_refs: Vec::new(),
            })
        })
    }

    pub(super) fn scope(&mut self) -> Taken<Option<InstrumentationScope>> {
        self.object("scope", |s| {
            Ok(InstrumentationScope {
                name: s.text("name")?,
                version: s.text("version")?,
                attributes: s.attributes("attributes")?,
                dropped_attributes_count: s.u32("droppedAttributesCount")?,
            })
        })
    }

    fn any(&mut self, name: &str) -> Taken<Option<AnyValue>> {
        self.object(name, any_value)
    }
}

fn any_value(o: &mut Object) -> Taken<AnyValue> {
    let value = if let Some(v) = o.take("stringValue") {
        match v {
            Value::String(s) => Some(Any::StringValue(s)),
            _ => return Err(wrong("stringValue", "a text")),
        }
    } else if let Some(v) = o.take("intValue") {
        Some(Any::IntValue(i64_of("intValue", &v)?))
    } else if let Some(v) = o.take("doubleValue") {
        Some(Any::DoubleValue(f64_of("doubleValue", &v)?))
    } else if let Some(v) = o.take("boolValue") {
        Some(Any::BoolValue(v.as_bool().ok_or_else(|| wrong("boolValue", "true or false"))?))
    } else if let Some(v) = o.take("bytesValue") {
        let text = v.as_str().ok_or_else(|| wrong("bytesValue", "a text"))?;
        Some(Any::BytesValue(base64_bytes(text).ok_or_else(|| wrong("bytesValue", "base64"))?))
    } else if let Some(array) = o.object("arrayValue", |a| Ok(ArrayValue { values: a.list("values", any_value)? }))? {
        Some(Any::ArrayValue(array))
    } else {
        o.object("kvlistValue", |m| Ok(KeyValueList { values: m.attributes("values")? }))?.map(Any::KvlistValue)
    };
    Ok(AnyValue { value })
}

/// Reads base64 of either alphabet, with or without padding.
fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    let standard: String = text
        .trim_end_matches('=')
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    STANDARD_NO_PAD.decode(standard).ok()
}

fn u64_of(name: &str, value: &Value) -> Taken<u64> {
    let number = match value {
        Value::Number(n) => n.as_u64().or_else(|| whole(n.as_f64()?).and_then(|i| u64::try_from(i).ok())),
        Value::String(s) => s.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| wrong(name, "a whole number that is not negative"))
}

fn i64_of(name: &str, value: &Value) -> Taken<i64> {
    let number = match value {
        Value::Number(n) => n.as_i64().or_else(|| whole(n.as_f64()?)),
        Value::String(s) => s.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| wrong(name, "a whole number"))
}

/// A whole number that was written with a fraction or exponent.
fn whole(n: f64) -> Option<i64> {
    (n.fract() == 0.0 && n.abs() < 9.0e18).then_some(n as i64)
}

fn f64_of(name: &str, value: &Value) -> Taken<f64> {
    let number = match value {
        Value::Number(n) => n.as_f64(),
        Value::String(s) => match s.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            other => other.parse().ok(),
        },
        _ => None,
    };
    number.ok_or_else(|| wrong(name, "a number"))
}

pub(super) fn wrong(name: &str, want: &str) -> IngestError {
    IngestError::Malformed(format!("malformed JSON request: field {name:?} must be {want}"))
}
