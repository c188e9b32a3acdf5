//! The table of a part: what can be known of its blocks without reading them.

use trefoil_model::{Labels, SpanKind, TraceId};

use crate::packed_ints;
use crate::part_file::SPANS_VERSION;
use crate::span_table;
use crate::wire::{Cursor, Malformed, StringTable, put_i64, put_len, put_u64};

/// Numbers of severities: unknown, trace, debug, info, warn, error, fatal.
pub(crate) const LEVELS: usize = 7;

/// Stream labels in a chunk.
pub(crate) const CHUNK_STREAMS: usize = 512;

/// Encodes what a block has of each stream.
pub(crate) fn encode_streams(streams: &[BlockStream], block_min_t: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(streams.len() * 8 + 16);
    put_len(&mut out, streams.len());
    let mut column = |of: &dyn Fn(&BlockStream) -> u64| {
        let numbers: Vec<u64> = streams.iter().map(of).collect();
        packed_ints::put(&mut out, &numbers);
    };
    column(&|s| u64::from(s.stream));
    column(&|s| s.count);
    column(&|s| s.text_bytes);
    column(&|s| s.min_t.wrapping_sub(block_min_t) as u64);
    column(&|s| s.max_t.wrapping_sub(s.min_t) as u64);
    out
}

/// Decodes what [`encode_streams`] wrote.
pub(crate) fn decode_streams(bytes: &[u8], info: &BlockInfo, stream_count: u64) -> Result<Vec<BlockStream>, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let count = usize::try_from(cursor.u64()?).map_err(|_| Malformed("count of streams"))?;
    if count as u64 > info.count {
        return Err(Malformed("count of streams"));
    }
    let mut column = || packed_ints::read(&mut cursor, count);
    let (streams, counts, bytes, starts, lengths) = (column()?, column()?, column()?, column()?, column()?);
    let mut out = Vec::with_capacity(count);
    for i in 0..count {
        if streams[i] >= stream_count {
            return Err(Malformed("stream reference"));
        }
        let min_t = info.min_t.wrapping_add(starts[i] as i64);
        out.push(BlockStream {
            stream: u32::try_from(streams[i]).map_err(|_| Malformed("stream reference"))?,
            count: counts[i],
            text_bytes: bytes[i],
            min_t,
            max_t: min_t.wrapping_add(lengths[i] as i64),
        });
    }
    Ok(out)
}

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
    /// What it has of each stream, in the order of its records; empty for spans. From version 2 on the list lies in
    /// the section of streams, at the place below.
    pub(crate) streams: Vec<BlockStream>,
    /// Place of the list in the section of streams.
    pub(crate) streams_offset: u64,
    /// Length there, checksum included.
    pub(crate) streams_len: u64,
    /// First and last trace id, for spans.
    pub(crate) traces: Option<(TraceId, TraceId)>,
    /// What more is known of spans, from version 3 on.
    pub(crate) spans: Option<Box<SpanStats>>,
}

/// What is known of the spans of a block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SpanStats {
    /// Nanoseconds.
    pub(crate) min_duration: u64,
    /// Nanoseconds.
    pub(crate) max_duration: u64,
    /// Spans with an error.
    pub(crate) errors: u64,
    /// Indexes into [`Table::operations`], ascending; `None` when the table has not all of them.
    pub(crate) operations: Option<Vec<u32>>,
}

/// Where the summaries of some traces lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceChunk {
    /// Id of the first.
    pub(crate) first: TraceId,
    /// Place in the last section.
    pub(crate) offset: u64,
    /// Length there.
    pub(crate) len: u64,
    /// How many.
    pub(crate) count: u64,
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
    /// Stream labels; blocks refer to them by index. From version 2 on they lie in chunks in the section of streams.
    pub(crate) streams: Vec<Labels>,
    /// Number of streams.
    pub(crate) stream_count: u64,
    /// Places of chunks of [`CHUNK_STREAMS`] stream labels in the section of streams: offset and length, checksum
    /// included.
    pub(crate) chunks: Vec<(u64, u64)>,
    /// Operations of services.
    pub(crate) operations: Vec<OperationInfo>,
    /// Summaries of traces, by trace id; from version 3 on.
    pub(crate) trace_chunks: Vec<TraceChunk>,
}

impl Table {
    /// Encodes it as of the version that is written now for log records, or for spans.
    pub(crate) fn encode(&self, version: u16) -> Vec<u8> {
        if version == SPANS_VERSION {
            return span_table::encode(self);
        }
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
            put_u64(&mut out, block.streams_offset);
            put_u64(&mut out, block.streams_len);
        }
        put_u64(&mut out, self.stream_count);
        put_len(&mut out, self.chunks.len());
        for (offset, len) in &self.chunks {
            put_u64(&mut out, *offset);
            put_u64(&mut out, *len);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8], version: u16) -> Result<Self, Malformed> {
        if version == SPANS_VERSION {
            return span_table::decode(bytes);
        }
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
            if version >= 2 {
                (block.streams_offset, block.streams_len) = (cursor.u64()?, cursor.u64()?);
                table.blocks.push(block);
                continue;
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
        if version >= 2 {
            table.stream_count = cursor.u64()?;
            for _ in 0..cursor.count()? {
                table.chunks.push((cursor.u64()?, cursor.u64()?));
            }
            if table.stream_count > u64::from(u32::MAX)
                || table.stream_count.div_ceil(CHUNK_STREAMS as u64) != table.chunks.len() as u64
            {
                return Err(Malformed("chunks of streams"));
            }
            return Ok(table);
        }
        for _ in 0..cursor.count()? {
            table.streams.push(Labels::from_packed(cursor.text()?).ok_or(Malformed("stream labels"))?);
        }
        table.stream_count = table.streams.len() as u64;
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
