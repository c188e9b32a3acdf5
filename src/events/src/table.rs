//! The table of a part: what can be known of its blocks without reading them.

use trefoil_model::{Labels, SpanKind, TraceId};

use crate::part_file::put_texts;
use crate::wire::{Cursor, Malformed, StringTable, Strings, put_bytes, put_i64, put_len, put_u64};

/// Numbers of severities: unknown, trace, debug, info, warn, error, fatal.
pub(crate) const LEVELS: usize = 7;

/// The index into [`BlockInfo::levels`] of an OpenTelemetry severity number.
pub(crate) fn level_index(severity_number: u8) -> usize {
    match severity_number {
        n @ 1..=24 => usize::from(n - 1) / 4 + 1,
        _ => 0,
    }
}

/// What a block has of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockStream {
    /// Index into [`Table::streams`].
    pub(crate) stream: u32,
    /// Records.
    pub(crate) count: u64,
    /// Bytes of text.
    pub(crate) text_bytes: u64,
    /// First time.
    pub(crate) min_t: i64,
    /// Last time, inclusive.
    pub(crate) max_t: i64,
}

/// What is known of a block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct BlockInfo {
    /// Place in the file.
    pub(crate) offset: u64,
    /// Length in the file, checksum included.
    pub(crate) len: u64,
    /// Place in the section of filters.
    pub(crate) filter_offset: u64,
    /// Length there, checksum included; 0 for none.
    pub(crate) filter_len: u64,
    /// Length of the longest run of token bytes with a digit in the texts.
    pub(crate) digit_run_max: u64,
    /// First time (of spans: start).
    pub(crate) min_t: i64,
    /// Last time (of spans: start), inclusive.
    pub(crate) max_t: i64,
    /// Records or spans.
    pub(crate) count: u64,
    /// Bytes of text.
    pub(crate) text_bytes: u64,
    /// Records by level.
    pub(crate) levels: [u64; LEVELS],
    /// Streams, ascending; empty for spans.
    pub(crate) streams: Vec<BlockStream>,
    /// First and last trace id, for spans.
    pub(crate) traces: Option<(TraceId, TraceId)>,
}

/// An operation of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OperationInfo {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    /// First start.
    pub(crate) min_t: i64,
    /// Last start, inclusive.
    pub(crate) max_t: i64,
}

/// The table of a part.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Table {
    pub(crate) blocks: Vec<BlockInfo>,
    /// Stream labels; blocks refer to them by index.
    pub(crate) streams: Vec<Labels>,
    /// Operations of services, sorted by (service, name, kind).
    pub(crate) operations: Vec<OperationInfo>,
}

impl Table {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_len(&mut out, self.blocks.len());
        for block in &self.blocks {
            for number in [
                block.offset,
                block.len,
                block.filter_offset,
                block.filter_len,
                block.digit_run_max,
                block.count,
                block.text_bytes,
            ] {
                put_u64(&mut out, number);
            }
            put_i64(&mut out, block.min_t);
            put_u64(&mut out, block.max_t.wrapping_sub(block.min_t) as u64);
            block.levels.iter().for_each(|count| put_u64(&mut out, *count));
            put_len(&mut out, block.streams.len());
            for stream in &block.streams {
                put_u64(&mut out, u64::from(stream.stream));
                put_u64(&mut out, stream.count);
                put_u64(&mut out, stream.text_bytes);
                put_i64(&mut out, stream.min_t.wrapping_sub(block.min_t));
                put_u64(&mut out, stream.max_t.wrapping_sub(stream.min_t) as u64);
            }
            match &block.traces {
                None => out.push(0),
                Some((first, last)) => {
                    out.push(1);
                    out.extend_from_slice(&first.0);
                    out.extend_from_slice(&last.0);
                }
            }
        }
        put_texts(&mut out, self.streams.iter().map(Labels::as_packed));
        let (mut strings, mut operations) = (Strings::default(), Vec::new());
        put_len(&mut operations, self.operations.len());
        for operation in &self.operations {
            strings.put(&mut operations, &operation.service);
            strings.put(&mut operations, &operation.name);
            operations.push(operation.kind as u8);
            put_i64(&mut operations, operation.min_t);
            put_u64(&mut operations, operation.max_t.wrapping_sub(operation.min_t) as u64);
        }
        put_bytes(&mut out, &strings.finish());
        out.extend_from_slice(&operations);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let mut table = Self::default();
        for _ in 0..cursor.count()? {
            let mut block = BlockInfo {
                offset: cursor.u64()?,
                len: cursor.u64()?,
                filter_offset: cursor.u64()?,
                filter_len: cursor.u64()?,
                digit_run_max: cursor.u64()?,
                count: cursor.u64()?,
                text_bytes: cursor.u64()?,
                min_t: cursor.i64()?,
                ..BlockInfo::default()
            };
            block.max_t = block.min_t.wrapping_add(cursor.u64()? as i64);
            for level in &mut block.levels {
                *level = cursor.u64()?;
            }
            for _ in 0..cursor.count()? {
                let (stream, count, text_bytes) = (cursor.u32()?, cursor.u64()?, cursor.u64()?);
                let min_t = block.min_t.wrapping_add(cursor.i64()?);
                let max_t = min_t.wrapping_add(cursor.u64()? as i64);
                block.streams.push(BlockStream { stream, count, text_bytes, min_t, max_t });
            }
            block.traces = match cursor.u8()? {
                0 => None,
                1 => Some((TraceId(cursor.array()?), TraceId(cursor.array()?))),
                _ => return Err(Malformed("trace ids of a block")),
            };
            table.blocks.push(block);
        }
        for _ in 0..cursor.count()? {
            table.streams.push(Labels::from_packed(cursor.text()?).ok_or(Malformed("stream labels"))?);
        }
        if table.blocks.iter().flat_map(|b| &b.streams).any(|s| s.stream as usize >= table.streams.len()) {
            return Err(Malformed("stream reference"));
        }
        let strings = StringTable::read(cursor.bytes()?)?;
        for _ in 0..cursor.count()? {
            let service = strings.get(&mut cursor)?.to_owned();
            let name = strings.get(&mut cursor)?.to_owned();
            let kind = SpanKind::from_number(i32::from(cursor.u8()?));
            let min_t = cursor.i64()?;
            let max_t = min_t.wrapping_add(cursor.u64()? as i64);
            table.operations.push(OperationInfo { service, name, kind, min_t, max_t });
        }
        Ok(table)
    }
}
