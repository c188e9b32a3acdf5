//! `zipkin.proto3.ListOfSpans` (<https://github.com/openzipkin/zipkin-api/blob/master/zipkin.proto>).

use std::net::{Ipv4Addr, Ipv6Addr};

use trefoil_model::{SpanId, SpanKind, TraceId};

use super::{Batch, Draft, Endpoint};
use crate::IngestError;
use crate::protobuf::{Field, Reader, Value, WireError};

/// Reads spans. Errors: `Malformed` when the list itself cannot be read; nothing of it is stored then.
pub(super) fn each(bytes: &[u8], batch: &mut Batch<'_>) -> Result<(), IngestError> {
    let broken = |e: WireError| IngestError::Malformed(format!("malformed protobuf message: {e}"));
    let mut reader = Reader::new(bytes);
    let mut index = 0;
    while let Some(field) = reader.field().map_err(broken)? {
        if field.number != 1 {
            continue;
        }
        match read_span(field.message().map_err(broken)?) {
            Ok(draft) => batch.add(index, draft),
            Err(reason) => batch.reject(index, &reason),
        }
        index += 1;
    }
    Ok(())
}

fn read_span(mut reader: Reader<'_>) -> Result<Draft, String> {
    let wire = |e: WireError| e.to_string();
    let (mut trace_id, mut span_id, mut parent): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
    let mut draft = Draft::new(TraceId([0; 16]), SpanId([0; 8]));
    while let Some(field) = reader.field().map_err(wire)? {
        match field.number {
            1 => trace_id = field.bytes().map_err(wire)?,
            2 => parent = field.bytes().map_err(wire)?,
            3 => span_id = field.bytes().map_err(wire)?,
            4 => {
                draft.kind = match field.varint().map_err(wire)? {
                    1 => SpanKind::Client,
                    2 => SpanKind::Server,
                    3 => SpanKind::Producer,
                    4 => SpanKind::Consumer,
                    _ => SpanKind::Unspecified,
                }
            }
            5 => draft.name = text(&field).map_err(wire)?,
            6 => draft.start_us = fixed64(&field).map_err(wire)?,
            7 => draft.duration_us = field.varint().map_err(wire)?,
            8 => draft.local = endpoint(&field).map_err(wire)?,
            9 => draft.remote = endpoint(&field).map_err(wire)?,
            10 => draft.annotations.push(annotation(&field).map_err(wire)?),
            11 => {
                let (name, value) = tag(&field).map_err(wire)?;
                draft.tags.insert(name, value);
            }
            13 => draft.shared = field.varint().map_err(wire)? != 0,
            _ => {}
        }
    }
    let mut whole = [0; 16];
    match trace_id.len() {
        8 => whole[8..].copy_from_slice(trace_id),
        16 => whole.copy_from_slice(trace_id),
        n => return Err(format!("trace id must be 8 or 16 bytes, has {n}")),
    }
    draft.trace_id = TraceId::from_bytes(&whole).ok_or("trace id is zero")?;
    draft.span_id = SpanId::from_bytes(span_id)
        .ok_or_else(|| format!("span id must be 8 bytes and not zero, has {} bytes", span_id.len()))?;
    if !matches!(parent.len(), 0 | 8) {
        return Err(format!("parent id must be 8 bytes, has {}", parent.len()));
    }
    draft.parent_span_id = SpanId::from_bytes(parent);
    Ok(draft)
}

fn endpoint(field: &Field<'_>) -> Result<Endpoint, WireError> {
    let mut reader = field.message()?;
    let mut out = Endpoint::default();
    let mut v6 = None;
    while let Some(field) = reader.field()? {
        match field.number {
            1 => out.service = text(&field)?,
            // An address of a wrong length is none.
            2 => {
                if let Ok(bytes) = <[u8; 4]>::try_from(field.bytes()?) {
                    out.address = Ipv4Addr::from(bytes).to_string();
                }
            }
            3 => v6 = <[u8; 16]>::try_from(field.bytes()?).ok().map(|bytes| Ipv6Addr::from(bytes).to_string()),
            4 => out.port = u16::try_from(field.varint()?).unwrap_or(0),
            _ => {}
        }
    }
    if let Some(v6) = v6.filter(|_| out.address.is_empty()) {
        out.address = v6;
    }
    Ok(out)
}

fn annotation(field: &Field<'_>) -> Result<(u64, String), WireError> {
    let mut reader = field.message()?;
    let mut out = (0, String::new());
    while let Some(field) = reader.field()? {
        match field.number {
            1 => out.0 = fixed64(&field)?,
            2 => out.1 = text(&field)?,
            _ => {}
        }
    }
    Ok(out)
}

fn tag(field: &Field<'_>) -> Result<(String, String), WireError> {
    let mut reader = field.message()?;
    let mut out = (String::new(), String::new());
    while let Some(field) = reader.field()? {
        match field.number {
            1 => out.0 = text(&field)?,
            2 => out.1 = text(&field)?,
            _ => {}
        }
    }
    Ok(out)
}

/// A text; what is not UTF-8 in it is replaced.
fn text(field: &Field<'_>) -> Result<String, WireError> {
    Ok(String::from_utf8_lossy(field.bytes()?).into_owned())
}

fn fixed64(field: &Field<'_>) -> Result<u64, WireError> {
    match field.value {
        Value::Fixed64(v) => Ok(v),
        _ => field.varint(),
    }
}
