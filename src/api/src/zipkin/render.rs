//! Stored spans in Zipkin's JSON of version 2, as OpenTelemetry maps them
//! (<https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/zipkin/>); what came as Zipkin's is given back so.

use std::net::{IpAddr, Ipv6Addr};

use serde_json::{Map, Value, json};
use trefoil_ingest::zipkin::{ABSENT_START, SHARED};
use trefoil_model::value::find;
use trefoil_model::{
    AttributeValue, Attributes, Span, SpanEvent, SpanGroup, SpanKind, StatusCode, StoredTrace, TraceId,
};

/// Attributes that are no tags, since an endpoint or the span itself has them.
const ELSEWHERE: [&str; 7] = [
    "peer.service",
    "network.peer.address",
    "network.peer.port",
    "network.local.address",
    "network.local.port",
    SHARED,
    ABSENT_START,
];

/// The first `spans_max` spans of a trace, by start.
pub(super) fn trace(stored: &StoredTrace, spans_max: usize) -> Value {
    let mut spans: Vec<(&SpanGroup, &Span)> =
        stored.groups.iter().flat_map(|g| g.spans.iter().map(move |s| (g, s))).collect();
    spans.sort_by_key(|(_, s)| (s.start_ns, s.parent_span_id.is_some(), s.span_id, s.kind as u8));
    if spans.len() > spans_max {
        trefoil_runtime::limits::hit("spans_per_trace_max");
        spans.truncate(spans_max);
    }
    spans.into_iter().map(|(group, s)| span(group, s)).collect()
}

/// The service on the other side of a span.
pub(super) fn remote_service(span: &Span) -> Option<String> {
    find(&span.attributes, "peer.service").map(AttributeValue::to_text).filter(|name| !name.is_empty())
}

fn span(group: &SpanGroup, span: &Span) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        out.insert(name.to_owned(), value);
    };
    put("traceId", json!(trace_id(span.trace_id)));
    if let Some(parent) = span.parent_span_id {
        put("parentId", json!(parent.to_string()));
    }
    put("id", json!(span.span_id.to_string()));
    let kind = match span.kind {
        SpanKind::Client => "CLIENT",
        SpanKind::Server => "SERVER",
        SpanKind::Producer => "PRODUCER",
        SpanKind::Consumer => "CONSUMER",
        SpanKind::Internal | SpanKind::Unspecified => "",
    };
    if !kind.is_empty() {
        put("kind", json!(kind));
    }
    if !span.name.is_empty() {
        put("name", json!(span.name));
    }
    if find(&span.attributes, ABSENT_START).is_none() {
        put("timestamp", json!(span.start_ns.div_euclid(1000)));
    }
    // What took any time at all took a microsecond at least.
    if span.duration_ns() > 0 {
        put("duration", json!((span.duration_ns() / 1000).max(1)));
    }
    let text = |name: &str| find(&span.attributes, name).map(AttributeValue::to_text).unwrap_or_default();
    let local = endpoint(group.resource.service_name(), &text("network.local.address"), &text("network.local.port"));
    if let Some(local) = local {
        put("localEndpoint", local);
    }
    let remote = endpoint(&text("peer.service"), &text("network.peer.address"), &text("network.peer.port"));
    if let Some(remote) = remote {
        put("remoteEndpoint", remote);
    }
    if !span.events.is_empty() {
        put("annotations", span.events.iter().map(annotation).collect());
    }
    let tags = tags(group, span);
    if !tags.is_empty() {
        put("tags", Value::Object(tags));
    }
    if find(&span.attributes, SHARED) == Some(&AttributeValue::Bool(true)) {
        put("shared", json!(true));
    }
    Value::Object(out)
}

/// An id of 64 bits has 16 digits, as it was sent.
fn trace_id(id: TraceId) -> String {
    let text = id.to_string();
    match text.strip_prefix("0000000000000000") {
        Some(short) => short.to_owned(),
        None => text,
    }
}

fn endpoint(service: &str, address: &str, port: &str) -> Option<Value> {
    let mut out = Map::new();
    if !service.is_empty() {
        out.insert("serviceName".to_owned(), json!(service));
    }
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => {
            out.insert("ipv4".to_owned(), json!(v4.to_string()));
        }
        Ok(IpAddr::V6(v6)) => {
            out.insert("ipv6".to_owned(), json!(Ipv6Addr::to_string(&v6)));
        }
        Err(_) => {}
    }
    if let Some(port) = port.parse::<u16>().ok().filter(|p| *p != 0) {
        out.insert("port".to_owned(), json!(port));
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

/// An event with its attributes as JSON behind its name.
fn annotation(event: &SpanEvent) -> Value {
    let value = if event.attributes.is_empty() {
        event.name.clone()
    } else {
        let attributes = AttributeValue::Map(event.attributes.clone());
        format!("{:?}: {attributes}", event.name)
    };
    json!({ "timestamp": event.time_ns.div_euclid(1000), "value": value })
}

fn tags(group: &SpanGroup, span: &Span) -> Map<String, Value> {
    let mut out = Map::new();
    let mut put = |name: &str, text: String| {
        if !name.is_empty() {
            out.entry(name.to_owned()).or_insert(Value::String(text));
        }
    };
    let rest = |all: &Attributes, skipped: &[&str], put: &mut dyn FnMut(&str, String)| {
        for (name, value) in all.iter().filter(|(n, _)| !skipped.contains(&n.as_str())) {
            put(name, value.to_text());
        }
    };
    rest(&span.attributes, &ELSEWHERE, &mut put);
    rest(&group.resource.attributes, &["service.name"], &mut put);
    for (name, text) in [
        ("otel.scope.name", &group.scope.name),
        ("otel.scope.version", &group.scope.version),
        ("w3c.tracestate", &span.trace_state),
    ] {
        if !text.is_empty() {
            put(name, text.clone());
        }
    }
    if span.kind == SpanKind::Internal {
        put("span.kind", "internal".to_owned());
    }
    match span.status_code {
        StatusCode::Unset => {}
        StatusCode::Ok => put("otel.status_code", "OK".to_owned()),
        StatusCode::Error => {
            put("otel.status_code", "ERROR".to_owned());
            put("error", if span.status_message.is_empty() { "true".to_owned() } else { span.status_message.clone() });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trefoil_model::{Resource, Scope, SpanId};

    use super::*;

    fn text(value: &str) -> AttributeValue {
        AttributeValue::String(value.to_owned())
    }

    fn group(spans: Vec<Span>) -> SpanGroup {
        let attributes = vec![("service.name".to_owned(), text("shop")), ("host.name".to_owned(), text("h1"))];
        let scope = Scope { name: "lib".to_owned(), ..Scope::default() };
        SpanGroup {
            resource: Arc::new(Resource { attributes, schema_url: String::new() }),
            scope: Arc::new(scope),
            spans,
        }
    }

    fn example() -> Span {
        let attribute = |name: &str, value: AttributeValue| (name.to_owned(), value);
        Span {
            trace_id: TraceId::from_hex("abc").unwrap(),
            span_id: SpanId([2; 8]),
            parent_span_id: Some(SpanId([1; 8])),
            trace_state: String::new(),
            flags: 0,
            name: "get".to_owned(),
            kind: SpanKind::Client,
            start_ns: 5_000_000,
            end_ns: 5_000_400,
            attributes: vec![
                attribute("peer.service", text("db")),
                attribute("network.peer.address", text("10.0.0.1")),
                attribute("network.peer.port", AttributeValue::Int(5432)),
                attribute("n", AttributeValue::Int(3)),
                attribute(SHARED, AttributeValue::Bool(true)),
            ],
            events: vec![
                SpanEvent { time_ns: 5_000_000, name: "retry".to_owned(), ..SpanEvent::default() },
                SpanEvent {
                    time_ns: 6_000_000,
                    name: "sent".to_owned(),
                    attributes: vec![attribute("bytes", AttributeValue::Int(1))],
                    dropped_attributes: 0,
                },
            ],
            links: Vec::new(),
            status_code: StatusCode::Error,
            status_message: "no".to_owned(),
            dropped: [0; 3],
        }
    }

    #[test]
    fn a_span_with_everything() {
        let stored = StoredTrace { trace_id: example().trace_id, groups: vec![group(vec![example()])] };
        let want = json!([{
            "traceId": "0000000000000abc",
            "parentId": "0101010101010101",
            "id": "0202020202020202",
            "kind": "CLIENT",
            "name": "get",
            "timestamp": 5000,
            "duration": 1,
            "localEndpoint": {"serviceName": "shop"},
            "remoteEndpoint": {"serviceName": "db", "ipv4": "10.0.0.1", "port": 5432},
            "annotations": [
                {"timestamp": 5000, "value": "retry"},
                {"timestamp": 6000, "value": "\"sent\": {\"bytes\":1}"},
            ],
            "tags": {
                "n": "3",
                "host.name": "h1",
                "otel.scope.name": "lib",
                "otel.status_code": "ERROR",
                "error": "no",
            },
            "shared": true,
        }]);
        assert_eq!(trace(&stored, 10), want);
        assert_eq!(trace(&stored, 0), json!([]));
    }
}
