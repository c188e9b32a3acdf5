use std::sync::Arc;

use proptest::prelude::*;
use trefoil_model::{EventWriter, LogBatch, MetricBatch, MetricWriter, TraceBatch, WriteError, WriteReport};
use trefoil_runtime::clock::SimClock;
use trefoil_runtime::limits::Limits;
use trefoil_runtime::memory::Accountant;

use super::proto::{Batch, KeyValue, Log, Process, Span, SpanRef, Time, ValueType};
use super::thrift::Encoding::{Binary, Compact};
use super::*;
use crate::IngestOptions;

const NOW_US: i64 = 1_700_000_000_000_000;

struct Nowhere;

#[async_trait::async_trait]
impl MetricWriter for Nowhere {
    async fn write(&self, _: MetricBatch) -> Result<WriteReport, WriteError> {
        Ok(WriteReport::default())
    }
}

#[async_trait::async_trait]
impl EventWriter for Nowhere {
    async fn write_logs(&self, _: LogBatch) -> Result<WriteReport, WriteError> {
        Ok(WriteReport::default())
    }

    async fn write_spans(&self, batch: TraceBatch) -> Result<WriteReport, WriteError> {
        Ok(WriteReport { accepted: batch.span_count() as u64, ..WriteReport::default() })
    }
}

fn ingest() -> Ingest {
    let (limits, accountant) = (Limits::default(), Accountant::new(1 << 30));
    let clock = SimClock::new(NOW_US / 1000);
    Ingest::new(Arc::new(Nowhere), Arc::new(Nowhere), limits, accountant, clock, IngestOptions::default())
}

/// A value to be written.
#[derive(Debug, Clone)]
enum V {
    Bool(bool),
    Byte(u8),
    I16(i16),
    I32(i32),
    I64(i64),
    Double(f64),
    Text(Vec<u8>),
    List(Vec<V>),
    Map(Vec<(V, V)>),
    Struct(Vec<(i16, V)>),
}

fn s(text: &str) -> V {
    V::Text(text.as_bytes().to_vec())
}

impl V {
    fn code(&self, encoding: thrift::Encoding) -> u8 {
        let (binary, compact) = match self {
            Self::Bool(_) => (2, 1),
            Self::Byte(_) => (3, 3),
            Self::I16(_) => (6, 4),
            Self::I32(_) => (8, 5),
            Self::I64(_) => (10, 6),
            Self::Double(_) => (4, 7),
            Self::Text(_) => (11, 8),
            Self::List(_) => (15, 9),
            Self::Map(_) => (13, 11),
            Self::Struct(_) => (12, 12),
        };
        if encoding == Binary { binary } else { compact }
    }

    fn write(&self, encoding: thrift::Encoding, out: &mut Vec<u8>) {
        let is_binary = encoding == Binary;
        let length = |out: &mut Vec<u8>, n: usize| {
            if is_binary { out.extend((n as i32).to_be_bytes()) } else { varint(n as u64, out) }
        };
        match self {
            Self::Bool(b) => out.push(if is_binary { u8::from(*b) } else { 2 - u8::from(*b) }),
            Self::Byte(b) => out.push(*b),
            Self::I16(n) if is_binary => out.extend(n.to_be_bytes()),
            Self::I32(n) if is_binary => out.extend(n.to_be_bytes()),
            Self::I64(n) if is_binary => out.extend(n.to_be_bytes()),
            Self::I16(n) => zigzag((*n).into(), out),
            Self::I32(n) => zigzag((*n).into(), out),
            Self::I64(n) => zigzag(*n, out),
            Self::Double(x) => out.extend(if is_binary { x.to_be_bytes() } else { x.to_le_bytes() }),
            Self::Text(bytes) => {
                length(out, bytes.len());
                out.extend(bytes);
            }
            Self::List(items) => {
                let code = items.first().map_or(3, |v| v.code(encoding));
                if is_binary {
                    out.push(code);
                    length(out, items.len());
                } else if items.len() < 15 {
                    out.push((items.len() as u8) << 4 | code);
                } else {
                    out.push(0xf0 | code);
                    length(out, items.len());
                }
                items.iter().for_each(|v| v.write(encoding, out));
            }
            Self::Map(entries) => {
                let codes = entries.first().map_or((3, 3), |(k, v)| (k.code(encoding), v.code(encoding)));
                if is_binary {
                    out.extend([codes.0, codes.1]);
                    length(out, entries.len());
                } else {
                    length(out, entries.len());
                    if !entries.is_empty() {
                        out.push(codes.0 << 4 | codes.1);
                    }
                }
                for (key, value) in entries {
                    key.write(encoding, out);
                    value.write(encoding, out);
                }
            }
            Self::Struct(fields) => {
                let mut last = 0;
                for (id, value) in fields {
                    if is_binary {
                        out.push(value.code(encoding));
                        out.extend(id.to_be_bytes());
                        value.write(encoding, out);
                        continue;
                    }
                    let code = match value {
                        Self::Bool(false) => 2,
                        other => other.code(encoding),
                    };
                    match id - last {
                        step @ 1..=15 => out.push((step as u8) << 4 | code),
                        _ => {
                            out.push(code);
                            zigzag((*id).into(), out);
                        }
                    }
                    last = *id;
                    if !matches!(value, Self::Bool(_)) {
                        value.write(encoding, out);
                    }
                }
                out.push(0);
            }
        }
    }

    fn bytes(&self, encoding: thrift::Encoding) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(encoding, &mut out);
        out
    }

    /// A call with this argument, as a client sends it to an agent.
    fn call(&self, encoding: thrift::Encoding, name: &str) -> Vec<u8> {
        let mut out = match encoding {
            Binary => vec![0x80, 0x01, 0, 4],
            Compact => vec![0x82, 4 << 5 | 1, 7],
        };
        s(name).write(encoding, &mut out);
        if encoding == Binary {
            out.extend([0, 0, 0, 7]);
        }
        V::Struct(vec![(1, self.clone())]).write(encoding, &mut out);
        out
    }
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn zigzag(n: i64, out: &mut Vec<u8>) {
    varint((n << 1 ^ n >> 63) as u64, out);
}

fn tag(name: &str, value: V) -> V {
    let (kind, id) = match value {
        V::Double(_) => (1, 4),
        V::Bool(_) => (2, 5),
        V::I64(_) => (3, 6),
        _ => (0, 3),
    };
    V::Struct(vec![(1, s(name)), (2, V::I32(kind)), (id, value)])
}

fn bytes_tag(name: &str, value: &[u8]) -> V {
    V::Struct(vec![(1, s(name)), (2, V::I32(4)), (7, V::Text(value.to_vec()))])
}

fn reference(kind: i32, low: i64, span: i64) -> V {
    V::Struct(vec![(1, V::I32(kind)), (2, V::I64(low)), (3, V::I64(0)), (4, V::I64(span))])
}

/// A span of trace 0xabc that began now and took 7 µs, with further fields.
fn span(id: i64, parent: i64, name: &str, more: Vec<(i16, V)>) -> V {
    let mut fields = vec![
        (1, V::I64(0xabc)),
        (2, V::I64(0)),
        (3, V::I64(id)),
        (4, V::I64(parent)),
        (5, s(name)),
        (7, V::I32(3)),
        (8, V::I64(NOW_US)),
        (9, V::I64(7)),
    ];
    fields.extend(more);
    V::Struct(fields)
}

fn batch_of(tags: Vec<V>, spans: Vec<V>) -> V {
    V::Struct(vec![(1, V::Struct(vec![(1, s("shop")), (2, V::List(tags))])), (2, V::List(spans))])
}

fn decoded(batch: &V, encoding: thrift::Encoding) -> Converted {
    let ingest = ingest();
    let mut drafts = Drafts::new(&ingest.context);
    batch::read(&batch.bytes(encoding), encoding, &mut drafts).unwrap_or_else(|e| panic!("{e}"));
    drafts.finish()
}

/// Every span: `service/scope kind trace:span<parent name +start~duration status:message [attributes] events links`.
fn shown(batch: &TraceBatch) -> Vec<String> {
    let attributes = |all: &trefoil_model::Attributes| {
        all.iter().map(|(n, v)| format!("{n}={}", v.to_text())).collect::<Vec<_>>().join(" ")
    };
    let one = |(group, s): (&trefoil_model::SpanGroup, &trefoil_model::Span)| {
        let events =
            s.events.iter().map(|e| format!("{}@{}({})", e.name, e.time_ns / 1000 - NOW_US, attributes(&e.attributes)));
        let links = s.links.iter().map(|l| format!("{}:{}({})", l.trace_id, l.span_id, attributes(&l.attributes)));
        let id = |id: trefoil_model::SpanId| u64::from_be_bytes(id.0).to_string();
        format!(
            "{}/{} {:?} {}<{} {} +{}~{} {:?}:{} [{}] {} {}",
            group.resource.service_name(),
            group.scope.name,
            s.kind,
            id(s.span_id),
            s.parent_span_id.map(id).unwrap_or_default(),
            s.name,
            s.start_ns / 1000 - NOW_US,
            s.duration_ns() / 1000,
            s.status_code,
            s.status_message,
            attributes(&s.attributes),
            events.collect::<Vec<_>>().join(" "),
            links.collect::<Vec<_>>().join(" "),
        )
        .trim_end()
        .to_owned()
    };
    batch.groups.iter().flat_map(|g| g.spans.iter().map(move |s| (g, s))).map(one).collect()
}

fn example() -> V {
    let tags = vec![
        tag("span.kind", s("server")),
        tag("a", s("b")),
        tag("n", V::I64(-5)),
        tag("x", V::Double(0.5)),
        tag("on", V::Bool(true)),
        tag("off", V::Bool(false)),
        bytes_tag("raw", &[1, 2]),
        tag("a", s("c")),
        tag("w3c.tracestate", s("k=v")),
    ];
    let logs = vec![
        V::Struct(vec![(1, V::I64(NOW_US + 3)), (2, V::List(vec![tag("event", s("retry")), tag("n", V::I64(2))]))]),
        V::Struct(vec![(1, V::I64(0)), (2, V::List(Vec::new()))]),
    ];
    let links = vec![reference(0, 0xabc, 1), reference(1, 0xdef, 9), reference(0, 0xabc, 4)];
    let scoped = vec![(10, V::List(vec![tag("otel.scope.name", s("lib")), tag("otel.scope.version", s("1"))]))];
    batch_of(
        vec![tag("hostname", s("h1")), tag("jaeger.version", s("Python-4.8.0"))],
        vec![
            span(
                2,
                1,
                "GET /",
                vec![(6, V::List(links)), (10, V::List(tags)), (11, V::List(logs)), (12, V::Bool(true))],
            ),
            span(3, 0, "scoped", scoped),
        ],
    )
}

#[test]
fn a_batch_in_both_encodings() {
    for encoding in [Binary, Compact] {
        let converted = decoded(&example(), encoding);
        assert_eq!(converted.report.rejected, 0, "{:?}", converted.report);
        let want = [
            "shop/ Server 2<1 GET / +0~7 Unset: [a=c n=-5 x=0.5 on=true off=false raw=\"AQI=\"] \
             retry@3(n=2) @0() 00000000000000000000000000000def:0000000000000009(opentracing.ref_type=follows_from) \
             00000000000000000000000000000abc:0000000000000004(opentracing.ref_type=child_of)",
            "shop/lib Unspecified 3< scoped +0~7 Unset: []",
        ];
        assert_eq!(shown(&converted.batch), want, "{encoding:?}");
        let group = &converted.batch.groups[0];
        let resource: Vec<_> = group.resource.attributes.iter().map(|(n, v)| (n.as_str(), v.to_text())).collect();
        let want = [
            ("service.name", "shop".to_owned()),
            ("host.name", "h1".to_owned()),
            ("opencensus.exporterversion", "Jaeger-Python-4.8.0".to_owned()),
        ];
        assert_eq!(resource, want);
        let first = &group.spans[0];
        assert_eq!((first.trace_id.to_string().as_str(), first.flags), ("00000000000000000000000000000abc", 1));
        assert_eq!(first.trace_state, "k=v");
        let datagram = example().call(encoding, "emitBatch");
        let received = ingest().jaeger_datagram(&datagram).unwrap();
        assert_eq!((received.len(), &received.batch), (2, &converted.batch));
    }
}

#[test]
fn what_the_status_is_made_of() {
    let check = |tags: Vec<V>, want: &str| {
        let converted = decoded(&batch_of(Vec::new(), vec![span(2, 0, "s", vec![(10, V::List(tags))])]), Binary);
        let [one] = shown(&converted.batch).try_into().unwrap();
        assert_eq!(one.split_once("~7 ").unwrap().1, want);
    };
    check(vec![], "Unset: []");
    check(vec![tag("error", V::Bool(true))], "Error: []");
    check(vec![tag("error", V::Bool(false))], "Unset: [error=false]");
    check(vec![tag("error", s("true"))], "Unset: [error=true]");
    check(vec![tag("error", V::Bool(true)), tag("otel.status_code", s("OK"))], "Error: []");
    check(vec![tag("error", V::Bool(true)), tag("otel.status_description", s("no"))], "Error:no []");
    check(vec![tag("otel.status_code", s("ok")), tag("otel.status_description", s("d"))], "Ok:d []");
    check(vec![tag("otel.status_code", s("ERROR"))], "Error: []");
    check(vec![tag("http.status_code", V::I64(200))], "Unset: [http.status_code=200]");
    check(
        vec![tag("http.status_code", s("503")), tag("http.status_message", s("busy"))],
        "Error:busy [http.status_code=503 http.status_message=busy]",
    );
    check(vec![tag("http.status_code", V::I64(404)), tag("span.kind", s("server"))], "Unset: [http.status_code=404]");
    check(vec![tag("http.status_code", V::I64(404)), tag("span.kind", s("client"))], "Error: [http.status_code=404]");
}

#[test]
fn parents_come_from_references_too() {
    for (parent, references, want) in [
        (0, vec![reference(1, 0xabc, 5), reference(0, 0xabc, 6)], "2<6 "),
        (0, vec![reference(1, 0xabc, 5)], "2<5 "),
        (0, vec![reference(0, 0xdef, 5)], "2< "),
        (4, vec![reference(0, 0xabc, 5)], "2<4 "),
        (2, vec![], "2< "),
    ] {
        let converted =
            decoded(&batch_of(Vec::new(), vec![span(2, parent, "s", vec![(6, V::List(references))])]), Binary);
        let [one] = shown(&converted.batch).try_into().unwrap();
        assert!(one.contains(want), "{one} {want}");
    }
}

#[test]
fn a_span_that_cannot_be_taken_costs_no_other() {
    let without = |id: i16| match span(2, 0, "bad", vec![]) {
        V::Struct(fields) => V::Struct(fields.into_iter().filter(|(n, _)| *n != id).collect()),
        _ => unreachable!(),
    };
    let late = V::Struct(vec![(1, V::I64(1)), (3, V::I64(1)), (5, s("late")), (8, V::I64(NOW_US * 2))]);
    let spans = vec![without(1), without(3), without(8), late, span(9, 0, "good", vec![])];
    let converted = decoded(&batch_of(Vec::new(), spans), Compact);
    assert_eq!(shown(&converted.batch), ["shop/ Unspecified 9< good +0~7 Unset: []"]);
    let reasons: Vec<&str> = converted.report.reasons.iter().map(String::as_str).collect();
    let want = [
        "span 0 \"bad\": trace id is zero",
        "span 1 \"bad\": span id is zero",
        "span 2 \"bad\": span has no start time",
    ];
    assert_eq!((converted.report.rejected, &reasons[..3]), (4, &want[..]));
}

#[test]
fn unknown_fields_and_wrong_types_are_read_over() {
    let odd = V::Struct(vec![
        (1, V::Map(vec![(s("k"), V::List(vec![V::I16(1), V::I16(2)])), (s("l"), V::List(vec![]))])),
        (2, V::Map(Vec::new())),
        (3, V::Byte(1)),
        (4, V::List(vec![V::Bool(true), V::Bool(false)])),
        (40, V::Struct(vec![(1, V::Bool(false)), (2, V::Double(1.0))])),
    ]);
    for encoding in [Binary, Compact] {
        let process = V::Struct(vec![(1, s("shop")), (2, odd.clone()), (77, odd.clone())]);
        let one = span(2, 0, "s", vec![(6, s("no list")), (10, V::List(vec![V::I64(1)])), (60, odd.clone())]);
        let batch = V::Struct(vec![(2, V::List(vec![one])), (1, process), (3, V::I64(8)), (9, odd.clone())]);
        assert_eq!(shown(&decoded(&batch, encoding).batch), ["shop/ Unspecified 2< s +0~7 Unset: []"]);
    }
}

#[test]
fn what_is_beyond_the_limits_is_left_out_and_counted() {
    let many = (0..300).map(|i| tag(&format!("k{i}"), V::I64(i))).collect();
    let logs = (0..200).map(|i| V::Struct(vec![(1, V::I64(NOW_US + i))])).collect();
    let links = (0..150).map(|i| reference(1, 0xdef, i + 1)).collect();
    let one = span(2, 0, "s", vec![(6, V::List(links)), (10, V::List(many)), (11, V::List(logs))]);
    let converted = decoded(&batch_of(Vec::new(), vec![one]), Binary);
    let span = &converted.batch.groups[0].spans[0];
    assert_eq!((span.attributes.len(), span.events.len(), span.links.len()), (128, 128, 128));
    assert_eq!(span.dropped, [172, 72, 22]);
}

#[test]
fn broken_bytes() {
    let ingest = ingest();
    let good = example().bytes(Binary);
    for cut in 0..good.len() {
        let mut drafts = Drafts::new(&ingest.context);
        assert!(batch::read(&good[..cut], Binary, &mut drafts).is_err(), "{cut}");
    }
    let mut deep = V::Bool(true);
    for _ in 0..100 {
        deep = V::List(vec![deep]);
    }
    for (bytes, want) in [
        (vec![15, 0, 2, 12, 0x7f, 0xff, 0xff, 0xff], "list has more elements than there are bytes at byte 8"),
        (vec![15, 0, 2, 12, 0xff, 0xff, 0xff, 0xff, 0, 0], "list has more elements than there are bytes at byte 8"),
        (vec![12, 0, 1, 11, 0, 1, 0xff, 0xff, 0xff, 0xff], "length is negative at byte 10"),
        (vec![99, 0, 1], "type is not known at byte 1"),
        (V::Struct(vec![(9, deep)]).bytes(Binary), "value is nested too deeply"),
    ] {
        let mut drafts = Drafts::new(&ingest.context);
        let error = batch::read(&bytes, Binary, &mut drafts).unwrap_err().to_string();
        assert!(error.starts_with(want), "{error} {want}");
    }
    let refused = |bytes: &[u8]| ingest.jaeger_datagram(bytes).unwrap_err().to_string();
    assert_eq!(refused(&[]), "malformed thrift: value is cut at byte 0");
    assert_eq!(refused(b"hello"), "malformed thrift: value is cut at byte 4");
    assert_eq!(refused(&example().call(Compact, "emitZipkinBatch")), "only calls of emitBatch are taken");
}

#[tokio::test]
async fn requests_over_http() {
    let ingest = ingest();
    let send = async |kind: &'static str, body: Vec<u8>| {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", kind.parse().unwrap());
        let answer = ingest.jaeger_http(&headers, body.into()).await;
        (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).unwrap())
    };
    for kind in ["application/x-thrift", "application/vnd.apache.thrift.binary"] {
        assert_eq!(send(kind, example().bytes(Binary)).await, (202, String::new()));
    }
    assert_eq!(send("application/json", example().bytes(Binary)).await.0, 415);
    assert_eq!(send("application/x-thrift", b"[]".to_vec()).await.0, 400);
    let bad = batch_of(Vec::new(), vec![span(0, 0, "bad", vec![])]).bytes(Binary);
    let want = "1 spans were rejected, all others are stored: span 0 \"bad\": span id is zero\n";
    assert_eq!(send("application/x-thrift", bad).await, (400, want.to_owned()));
}

#[tokio::test]
async fn protobuf_gives_the_same_as_thrift() {
    let text =
        |key: &str, value: &str| KeyValue { key: key.to_owned(), v_str: value.to_owned(), ..KeyValue::default() };
    let int = |key: &str, value: i64| KeyValue {
        key: key.to_owned(),
        v_type: ValueType::Int64 as i32,
        v_int64: value,
        ..KeyValue::default()
    };
    let mut trace_id = vec![0; 14];
    trace_id.extend([0x0a, 0xbc]);
    let id = |n: u64| n.to_be_bytes().to_vec();
    let one = |n: u64, parent: u64| Span {
        trace_id: trace_id.clone(),
        span_id: id(n),
        operation_name: "GET /".to_owned(),
        references: vec![SpanRef { trace_id: trace_id.clone(), span_id: id(parent), ref_type: 0 }],
        flags: 1,
        start_time: Some(Time::from_ns(NOW_US * 1000)),
        duration: Some(Time::from_ns(7000)),
        tags: vec![text("span.kind", "client"), int("n", 5)],
        logs: vec![Log { timestamp: Some(Time::from_ns(NOW_US * 1000 + 3000)), fields: vec![text("event", "retry")] }],
        ..Span::default()
    };
    let mut other = one(3, 2);
    other.process = Some(Process { service_name: "cart".to_owned(), tags: Vec::new() });
    let process = Some(Process { service_name: "shop".to_owned(), tags: vec![text("hostname", "h1")] });
    let batch = Batch { spans: vec![one(2, 1), other], process };
    let ingest = ingest();
    let mut drafts = Drafts::new(&ingest.context);
    proto::each(PostSpansRequest { batch: Some(batch.clone()) }, &mut drafts);
    let converted = drafts.finish();
    let want =
        ["shop/ Client 2<1 GET / +0~7 Unset: [n=5] retry@3()", "cart/ Client 3<2 GET / +0~7 Unset: [n=5] retry@3()"];
    assert_eq!(shown(&converted.batch), want);
    assert!(ingest.jaeger_grpc(PostSpansRequest { batch: Some(batch.clone()) }).await.is_ok());
    assert!(ingest.jaeger_grpc(PostSpansRequest::default()).await.is_ok());
    let mut bad = batch;
    bad.spans[0].trace_id.pop();
    let refused = ingest.jaeger_grpc(PostSpansRequest { batch: Some(bad) }).await.unwrap_err();
    let want = "1 spans were rejected, all others are stored: span 0: trace id must be 16 bytes, has 15";
    assert_eq!((refused.code(), refused.message()), (tonic::Code::InvalidArgument, want));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever comes, reading ends, takes no more than the limits allow, and never panics.
    #[test]
    fn mutated_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
        is_compact in any::<bool>(),
        is_call in any::<bool>(),
    ) {
        let ingest = ingest();
        let encoding = if is_compact { Compact } else { Binary };
        let mut bytes = if is_call { example().call(encoding, "emitBatch") } else { example().bytes(encoding) };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let mut drafts = Drafts::new(&ingest.context);
        let read = if is_call {
            batch::read_call(&bytes, &mut drafts).map(drop)
        } else {
            batch::read(&bytes, encoding, &mut drafts)
        };
        if read.is_ok() {
            prop_assert!(drafts.finish().batch.span_count() <= bytes.len());
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        drop(ingest().jaeger_datagram(&bytes));
        let ingest = ingest();
        let mut drafts = Drafts::new(&ingest.context);
        drop(batch::read(&bytes, Binary, &mut drafts));
    }
}
