//! `jaeger.thrift`: `Batch` and what is in it (<https://github.com/jaegertracing/jaeger-idl/blob/main/thrift/jaeger.thrift>).

use trefoil_model::{AttributeValue, Attributes};
use trefoil_runtime::Limits;

use super::draft::{Draft, Drafts, Log, Process, Reference, put};
use super::thrift::{Encoding, Reader, ThriftError, Type};

type Result<T> = std::result::Result<T, ThriftError>;

/// Reads a batch; spans go to `drafts` as they come, what they have beyond the limits is counted only.
pub(super) fn read(bytes: &[u8], encoding: Encoding, drafts: &mut Drafts<'_>) -> Result<()> {
    batch(&mut Reader::new(bytes, encoding), drafts)
}

/// Reads what an agent is sent: a call of `emitBatch`. False when something else is called.
pub(super) fn read_call(bytes: &[u8], drafts: &mut Drafts<'_>) -> Result<bool> {
    let mut reader = Reader::of_message(bytes);
    let call = reader.call()?;
    if call.name != b"emitBatch" || !call.is_call {
        return Ok(false);
    }
    let mut last = 0;
    while let Some(field) = reader.field(&mut last)? {
        match (field.id, field.kind) {
            (1, Type::Struct) => batch(&mut reader, drafts)?,
            _ => reader.skip(&field)?,
        }
    }
    Ok(true)
}

fn batch(reader: &mut Reader<'_>, drafts: &mut Drafts<'_>) -> Result<()> {
    let mut last = 0;
    let limits = drafts.limits();
    while let Some(field) = reader.field(&mut last)? {
        match (field.id, field.kind) {
            (1, Type::Struct) => drafts.process = process(reader, limits)?,
            (2, Type::List) => each(reader, |reader| {
                let draft = span(reader, limits)?;
                drafts.add(draft);
                Ok(())
            })?,
            _ => reader.skip(&field)?,
        }
    }
    Ok(())
}

/// Reads the structs of a list; lists of anything else are read over.
fn each<'a>(reader: &mut Reader<'a>, mut read: impl FnMut(&mut Reader<'a>) -> Result<()>) -> Result<()> {
    match reader.list()? {
        (Type::Struct, count) => (0..count).try_for_each(|_| read(reader)),
        (kind, count) => reader.skip_elements(kind, count),
    }
}

fn process(reader: &mut Reader<'_>, limits: &Limits) -> Result<Process> {
    let mut out = Process::default();
    let mut last = 0;
    while let Some(field) = reader.field(&mut last)? {
        match (field.id, field.kind) {
            (1, Type::Binary) => out.service = text(reader)?,
            (2, Type::List) => tags(reader, limits, &mut out.tags).map(drop)?,
            _ => reader.skip(&field)?,
        }
    }
    Ok(out)
}

fn span(reader: &mut Reader<'_>, limits: &Limits) -> Result<Draft> {
    let mut out = Draft::default();
    let (mut low, mut high) = (0, 0);
    let mut last = 0;
    while let Some(field) = reader.field(&mut last)? {
        match (field.id, field.kind) {
            (1, Type::I64) => low = reader.i64()?,
            (2, Type::I64) => high = reader.i64()?,
            (3, Type::I64) => out.span_id = reader.i64()?.to_be_bytes(),
            (4, Type::I64) => out.parent_span_id = reader.i64()?.to_be_bytes(),
            (5, Type::Binary) => out.name = text(reader)?,
            (6, Type::List) => each(reader, |reader| {
                let reference = reference(reader)?;
                out.add_reference(reference, limits);
                Ok(())
            })?,
            (7, Type::I32) => out.flags = reader.i32()? as u32,
            (8, Type::I64) => out.start_ns = reader.i64()?.saturating_mul(1000),
            (9, Type::I64) => out.duration_ns = reader.i64()?.saturating_mul(1000),
            (10, Type::List) => {
                let dropped = tags(reader, limits, &mut out.tags)?;
                out.dropped[0] = out.dropped[0].saturating_add(dropped);
            }
            (11, Type::List) => each(reader, |reader| {
                let log = log(reader, limits)?;
                out.add_log(log, limits);
                Ok(())
            })?,
            _ => reader.skip(&field)?,
        }
    }
    out.trace_id = trace_id(high, low);
    Ok(out)
}

fn trace_id(high: i64, low: i64) -> [u8; 16] {
    (u128::from(high as u64) << 64 | u128::from(low as u64)).to_be_bytes()
}

fn reference(reader: &mut Reader<'_>) -> Result<Reference> {
    let (mut kind, mut low, mut high, mut span_id) = (0, 0, 0, 0);
    let mut last = 0;
    while let Some(field) = reader.field(&mut last)? {
        match (field.id, field.kind) {
            (1, Type::I32) => kind = reader.i32()?,
            (2, Type::I64) => low = reader.i64()?,
            (3, Type::I64) => high = reader.i64()?,
            (4, Type::I64) => span_id = reader.i64()?,
            _ => reader.skip(&field)?,
        }
    }
    Ok(Reference { trace_id: trace_id(high, low), span_id: span_id.to_be_bytes(), is_child: kind == 0 })
}

fn log(reader: &mut Reader<'_>, limits: &Limits) -> Result<Log> {
    let mut out = Log::default();
    let mut last = 0;
    while let Some(field) = reader.field(&mut last)? {
        match (field.id, field.kind) {
            (1, Type::I64) => out.time_ns = reader.i64()?.saturating_mul(1000),
            (2, Type::List) => out.dropped = tags(reader, limits, &mut out.fields)?,
            _ => reader.skip(&field)?,
        }
    }
    Ok(out)
}

/// Reads tags; returns how many there were beyond the limit. The last of several with one name counts.
fn tags(reader: &mut Reader<'_>, limits: &Limits, out: &mut Attributes) -> Result<u32> {
    let mut dropped: u32 = 0;
    each(reader, |reader| {
        if let Some((name, value)) = tag(reader)?
            && !put(out, name, value, limits)
        {
            dropped = dropped.saturating_add(1);
        }
        Ok(())
    })?;
    Ok(dropped)
}

/// A tag; `None` without a name.
fn tag(reader: &mut Reader<'_>) -> Result<Option<(String, AttributeValue)>> {
    let (mut name, mut kind) = (String::new(), 0);
    let (mut string, mut double, mut bool, mut long): (&[u8], f64, bool, i64) = (&[], 0.0, false, 0);
    let mut binary: &[u8] = &[];
    let mut last = 0;
    while let Some(field) = reader.field(&mut last)? {
        match (field.id, field.kind) {
            (1, Type::Binary) => name = text(reader)?,
            (2, Type::I32) => kind = reader.i32()?,
            (3, Type::Binary) => string = reader.binary()?,
            (4, Type::Double) => double = reader.double()?,
            (5, Type::Bool) => bool = reader.bool(&field)?,
            (6, Type::I64) => long = reader.i64()?,
            (7, Type::Binary) => binary = reader.binary()?,
            _ => reader.skip(&field)?,
        }
    }
    let value = match kind {
        0 => AttributeValue::String(String::from_utf8_lossy(string).into_owned()),
        1 => AttributeValue::Double(double),
        2 => AttributeValue::Bool(bool),
        3 => AttributeValue::Int(long),
        4 => AttributeValue::Bytes(binary.to_vec()),
        _ => AttributeValue::Null,
    };
    Ok((!name.is_empty()).then_some((name, value)))
}

/// A text; what is not UTF-8 in it is replaced.
fn text(reader: &mut Reader<'_>) -> Result<String> {
    Ok(String::from_utf8_lossy(reader.binary()?).into_owned())
}
