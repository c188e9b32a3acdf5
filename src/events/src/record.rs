//! The codec of journal records: a batch, self-contained. See `FORMAT.md`, "Journal record".

use std::sync::Arc;

use trefoil_model::{
    Labels, LogBatch, LogGroup, LogRecord, Resource, Scope, Span, SpanEvent, SpanGroup, SpanId, SpanKind, SpanLink,
    StatusCode, TenantId, TraceBatch, TraceId,
};

use crate::wire::{
    Cursor, Malformed, StringTable, Strings, pack, put_attributes, put_bytes, put_i64, put_len, put_u64,
    read_attributes, unpack,
};

/// Version of the record format that this build writes.
const VERSION: u8 = 1;
const KIND_LOGS: u8 = 1;
const KIND_SPANS: u8 = 2;
/// Longest record before compression that is read back.
const RAW_BYTES_MAX: usize = 1 << 30;

fn seal(kind: u8, tenant: TenantId, strings: Strings, body: &[u8]) -> Vec<u8> {
    let table = strings.finish();
    let mut raw = Vec::with_capacity(body.len() + table.len() + 16);
    put_u64(&mut raw, u64::from(tenant.0));
    put_bytes(&mut raw, &table);
    raw.extend_from_slice(body);
    let (encoding, packed) = pack(&raw);
    let mut out = Vec::with_capacity(packed.len() + 8);
    out.extend_from_slice(&[VERSION, kind, encoding]);
    put_len(&mut out, raw.len());
    out.extend_from_slice(&packed);
    out
}

fn open(record: &[u8], kind: u8) -> Result<std::borrow::Cow<'_, [u8]>, Malformed> {
    let mut cursor = Cursor::new(record);
    if cursor.u8()? != VERSION {
        return Err(Malformed("record version"));
    }
    if cursor.u8()? != kind {
        return Err(Malformed("record kind"));
    }
    let encoding = cursor.u8()?;
    let raw_len = usize::try_from(cursor.u64()?).map_err(|_| Malformed("length"))?;
    let rest = cursor.take(cursor.remaining())?;
    unpack(encoding, rest, raw_len, RAW_BYTES_MAX)
}

/// Encodes a batch of log records.
pub fn encode_logs(batch: &LogBatch) -> Vec<u8> {
    let (mut strings, mut body) = (Strings::default(), Vec::with_capacity(4096));
    put_len(&mut body, batch.groups.len());
    for group in &batch.groups {
        put_bytes(&mut body, group.stream.as_packed().as_bytes());
        put_attributes(&mut body, &mut strings, &group.shared);
        put_len(&mut body, group.records.len());
        let mut last = 0;
        for record in &group.records {
            put_i64(&mut body, record.time_ns.wrapping_sub(last));
            last = record.time_ns;
            put_log_ids(&mut body, record);
            put_bytes(&mut body, record.text.as_bytes());
            strings.put(&mut body, &record.severity_text);
            put_attributes(&mut body, &mut strings, &record.attributes);
        }
    }
    seal(KIND_LOGS, batch.tenant, strings, &body)
}

/// Decodes what [`encode_logs`] wrote.
pub fn decode_logs(record: &[u8]) -> Result<LogBatch, Malformed> {
    let raw = open(record, KIND_LOGS)?;
    let mut cursor = Cursor::new(&raw);
    let tenant = TenantId(cursor.u32()?);
    let strings = StringTable::read(cursor.bytes()?)?;
    let group_count = cursor.count()?;
    let mut groups = Vec::with_capacity(group_count.min(4096));
    for _ in 0..group_count {
        let stream = Labels::from_packed(cursor.text()?).ok_or(Malformed("stream labels"))?;
        let shared = Arc::new(read_attributes(&mut cursor, &strings)?);
        let count = cursor.count()?;
        let mut records = Vec::with_capacity(count.min(4096));
        let mut last = 0i64;
        for _ in 0..count {
            last = last.wrapping_add(cursor.i64()?);
            let mut record = read_log_ids(&mut cursor, last)?;
            record.text = cursor.text()?.to_owned();
            record.severity_text = strings.get(&mut cursor)?.to_owned();
            record.attributes = read_attributes(&mut cursor, &strings)?;
            records.push(record);
        }
        groups.push(LogGroup { stream, shared, records });
    }
    if !cursor.is_empty() {
        return Err(Malformed("end of record"));
    }
    Ok(LogBatch { tenant, groups })
}

/// Writes observed time, severity number and ids behind a byte of flags.
pub(crate) fn put_log_ids(out: &mut Vec<u8>, record: &LogRecord) {
    let flags = u8::from(record.observed_ns != 0)
        | u8::from(record.severity_number != 0) << 1
        | u8::from(record.trace_id.is_some()) << 2
        | u8::from(record.span_id.is_some()) << 3;
    out.push(flags);
    if record.observed_ns != 0 {
        put_i64(out, record.observed_ns.wrapping_sub(record.time_ns));
    }
    if record.severity_number != 0 {
        out.push(record.severity_number);
    }
    if let Some(id) = record.trace_id {
        out.extend_from_slice(&id.0);
    }
    if let Some(id) = record.span_id {
        out.extend_from_slice(&id.0);
    }
}

/// Reads what [`put_log_ids`] wrote into a record without texts and attributes.
pub(crate) fn read_log_ids(cursor: &mut Cursor<'_>, time_ns: i64) -> Result<LogRecord, Malformed> {
    let flags = cursor.u8()?;
    if flags & !0xf != 0 {
        return Err(Malformed("flags"));
    }
    let observed_ns = if flags & 1 != 0 { time_ns.wrapping_add(cursor.i64()?) } else { 0 };
    let severity_number = if flags & 2 != 0 { cursor.u8()? } else { 0 };
    let trace_id = if flags & 4 != 0 { Some(TraceId(cursor.array()?)) } else { None };
    let span_id = if flags & 8 != 0 { Some(SpanId(cursor.array()?)) } else { None };
    Ok(LogRecord {
        time_ns,
        observed_ns,
        severity_number,
        severity_text: String::new(),
        text: String::new(),
        attributes: Vec::new(),
        trace_id,
        span_id,
    })
}

/// Encodes a batch of spans.
pub fn encode_spans(batch: &TraceBatch) -> Vec<u8> {
    let (mut strings, mut body) = (Strings::default(), Vec::with_capacity(4096));
    put_len(&mut body, batch.groups.len());
    for group in &batch.groups {
        put_origin(&mut body, &mut strings, &group.resource, &group.scope);
        put_len(&mut body, group.spans.len());
        for span in &group.spans {
            body.extend_from_slice(&span.trace_id.0);
            put_span_light(&mut body, &mut strings, span);
            put_span_heavy(&mut body, &mut strings, span);
        }
    }
    seal(KIND_SPANS, batch.tenant, strings, &body)
}

/// Decodes what [`encode_spans`] wrote.
pub fn decode_spans(record: &[u8]) -> Result<TraceBatch, Malformed> {
    let raw = open(record, KIND_SPANS)?;
    let mut cursor = Cursor::new(&raw);
    let tenant = TenantId(cursor.u32()?);
    let strings = StringTable::read(cursor.bytes()?)?;
    let group_count = cursor.count()?;
    let mut groups = Vec::with_capacity(group_count.min(4096));
    for _ in 0..group_count {
        let (resource, scope) = read_origin(&mut cursor, &strings)?;
        let count = cursor.count()?;
        let mut spans = Vec::with_capacity(count.min(4096));
        for _ in 0..count {
            let trace_id = TraceId(cursor.array()?);
            let mut span = read_span_light(&mut cursor, &strings, trace_id)?;
            read_span_heavy(&mut cursor, &strings, &mut span)?;
            spans.push(span);
        }
        groups.push(SpanGroup { resource: Arc::new(resource), scope: Arc::new(scope), spans });
    }
    if !cursor.is_empty() {
        return Err(Malformed("end of record"));
    }
    Ok(TraceBatch { tenant, groups })
}

/// Writes a resource and a scope.
pub(crate) fn put_origin(out: &mut Vec<u8>, strings: &mut Strings, resource: &Resource, scope: &Scope) {
    put_attributes(out, strings, &resource.attributes);
    strings.put(out, &resource.schema_url);
    strings.put(out, &scope.name);
    strings.put(out, &scope.version);
    put_attributes(out, strings, &scope.attributes);
}

/// Reads what [`put_origin`] wrote.
pub(crate) fn read_origin<'a>(
    cursor: &mut Cursor<'a>,
    strings: &StringTable<'a>,
) -> Result<(Resource, Scope), Malformed> {
    let attributes = read_attributes(cursor, strings)?;
    let schema_url = strings.get(cursor)?.to_owned();
    let name = strings.get(cursor)?.to_owned();
    let version = strings.get(cursor)?.to_owned();
    let scope = Scope { name, version, attributes: read_attributes(cursor, strings)? };
    Ok((Resource { attributes, schema_url }, scope))
}

/// Writes what lists and searches of spans need: ids, name, kind, status, times.
pub(crate) fn put_span_light(out: &mut Vec<u8>, strings: &mut Strings, span: &Span) {
    out.extend_from_slice(&span.span_id.0);
    out.push(span.kind as u8 | (span.status_code as u8) << 4 | u8::from(span.parent_span_id.is_some()) << 7);
    if let Some(parent) = span.parent_span_id {
        out.extend_from_slice(&parent.0);
    }
    strings.put(out, &span.name);
    put_i64(out, span.start_ns);
    put_i64(out, span.end_ns.wrapping_sub(span.start_ns));
}

/// Reads what [`put_span_light`] wrote.
pub(crate) fn read_span_light<'a>(
    cursor: &mut Cursor<'a>,
    strings: &StringTable<'a>,
    trace_id: TraceId,
) -> Result<Span, Malformed> {
    let span_id = SpanId(cursor.array()?);
    let flags = cursor.u8()?;
    let parent_span_id = if flags & 0x80 != 0 { Some(SpanId(cursor.array()?)) } else { None };
    let name = strings.get(cursor)?.to_owned();
    let start_ns = cursor.i64()?;
    let end_ns = start_ns.wrapping_add(cursor.i64()?);
    Ok(Span {
        trace_id,
        span_id,
        parent_span_id,
        trace_state: String::new(),
        flags: 0,
        name,
        kind: SpanKind::from_number(i32::from(flags & 0xf)),
        start_ns,
        end_ns,
        attributes: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
        status_code: StatusCode::from_number(i32::from(flags >> 4 & 7)),
        status_message: String::new(),
        dropped: [0; 3],
    })
}

/// Writes the rest of a span: attributes, events, links and small things.
pub(crate) fn put_span_heavy(out: &mut Vec<u8>, strings: &mut Strings, span: &Span) {
    strings.put(out, &span.trace_state);
    put_u64(out, u64::from(span.flags));
    strings.put(out, &span.status_message);
    put_attributes(out, strings, &span.attributes);
    put_len(out, span.events.len());
    for event in &span.events {
        put_i64(out, event.time_ns.wrapping_sub(span.start_ns));
        strings.put(out, &event.name);
        put_attributes(out, strings, &event.attributes);
        put_u64(out, u64::from(event.dropped_attributes));
    }
    put_len(out, span.links.len());
    for link in &span.links {
        out.extend_from_slice(&link.trace_id.0);
        out.extend_from_slice(&link.span_id.0);
        strings.put(out, &link.trace_state);
        put_attributes(out, strings, &link.attributes);
    }
    for dropped in span.dropped {
        put_u64(out, u64::from(dropped));
    }
}

/// Reads what [`put_span_heavy`] wrote into `span`.
pub(crate) fn read_span_heavy<'a>(
    cursor: &mut Cursor<'a>,
    strings: &StringTable<'a>,
    span: &mut Span,
) -> Result<(), Malformed> {
    span.trace_state = strings.get(cursor)?.to_owned();
    span.flags = cursor.u32()?;
    span.status_message = strings.get(cursor)?.to_owned();
    span.attributes = read_attributes(cursor, strings)?;
    for _ in 0..cursor.count()? {
        span.events.push(SpanEvent {
            time_ns: span.start_ns.wrapping_add(cursor.i64()?),
            name: strings.get(cursor)?.to_owned(),
            attributes: read_attributes(cursor, strings)?,
            dropped_attributes: cursor.u32()?,
        });
    }
    for _ in 0..cursor.count()? {
        span.links.push(SpanLink {
            trace_id: TraceId(cursor.array()?),
            span_id: SpanId(cursor.array()?),
            trace_state: strings.get(cursor)?.to_owned(),
            attributes: read_attributes(cursor, strings)?,
        });
    }
    for dropped in &mut span.dropped {
        *dropped = cursor.u32()?;
    }
    Ok(())
}
