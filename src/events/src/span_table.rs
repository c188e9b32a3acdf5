//! The table of a part of spans, from version 3 on. See `FORMAT.md`, "Part file, version 3".

use trefoil_model::{SpanKind, TraceId};

use crate::packed_ints;
use crate::table::{BlockInfo, OperationInfo, SpanStats, Table, TraceChunk};
use crate::wire::{Cursor, Malformed, StringTable, Strings, put_bytes, put_i64, put_len, put_u64};

/// Encodes the table.
pub(crate) fn encode(table: &Table) -> Vec<u8> {
    let mut out = Vec::new();
    let blocks = &table.blocks;
    let none = SpanStats::default();
    let stats = |block: &BlockInfo| block.spans.as_deref().cloned().unwrap_or_else(|| none.clone());
    let min_t = blocks.iter().map(|block| block.min_t).min().unwrap_or(0);
    put_len(&mut out, blocks.len());
    put_i64(&mut out, min_t);
    let mut column = |of: &dyn Fn(&BlockInfo) -> u64| {
        packed_ints::put(&mut out, &blocks.iter().map(of).collect::<Vec<_>>());
    };
    column(&|b| b.offset);
    column(&|b| b.len);
    column(&|b| b.filter_offset);
    column(&|b| b.filter_len);
    column(&|b| b.count);
    column(&|b| b.min_t.wrapping_sub(min_t) as u64);
    column(&|b| b.max_t.wrapping_sub(b.min_t) as u64);
    column(&|b| stats(b).min_duration);
    column(&|b| stats(b).max_duration);
    column(&|b| stats(b).errors);
    // 0 for unknown, else one more than there are.
    column(&|b| stats(b).operations.map_or(0, |all| all.len() as u64 + 1));
    for block in blocks {
        let (first, last) = block.traces.unwrap_or((TraceId([0; 16]), TraceId([0; 16])));
        out.extend_from_slice(&first.0);
        out.extend_from_slice(&last.0);
    }
    let all: Vec<u64> = blocks.iter().flat_map(|b| stats(b).operations.unwrap_or_default()).map(u64::from).collect();
    packed_ints::put(&mut out, &all);
    let (mut strings, mut operations) = (Strings::default(), Vec::new());
    put_len(&mut operations, table.operations.len());
    for operation in &table.operations {
        strings.put(&mut operations, &operation.service);
        strings.put(&mut operations, &operation.name);
        operations.push(operation.kind as u8);
        put_i64(&mut operations, operation.min_t);
        put_u64(&mut operations, operation.max_t.wrapping_sub(operation.min_t) as u64);
    }
    put_bytes(&mut out, &strings.finish());
    put_bytes(&mut out, &operations);
    put_len(&mut out, table.trace_chunks.len());
    for chunk in &table.trace_chunks {
        out.extend_from_slice(&chunk.first.0);
        put_u64(&mut out, chunk.offset);
        put_u64(&mut out, chunk.len);
        put_u64(&mut out, chunk.count);
    }
    out
}

/// Decodes what [`encode`] wrote.
pub(crate) fn decode(bytes: &[u8]) -> Result<Table, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let mut table = Table::default();
    let (count, least) = (cursor.count()?, cursor.i64()?);
    let mut column = || packed_ints::read(&mut cursor, count);
    let (offsets, lens, filter_offsets, filter_lens) = (column()?, column()?, column()?, column()?);
    let (counts, starts, lengths) = (column()?, column()?, column()?);
    let (shortest, longest, errors, operations) = (column()?, column()?, column()?, column()?);
    for i in 0..count {
        let min_t = least.wrapping_add(starts[i] as i64);
        table.blocks.push(BlockInfo {
            offset: offsets[i],
            len: lens[i],
            filter_offset: filter_offsets[i],
            filter_len: filter_lens[i],
            count: counts[i],
            min_t,
            max_t: min_t.wrapping_add(lengths[i] as i64),
            traces: Some((TraceId(cursor.array()?), TraceId(cursor.array()?))),
            spans: Some(Box::new(SpanStats {
                min_duration: shortest[i],
                max_duration: longest[i],
                errors: errors[i],
                operations: None,
            })),
            ..BlockInfo::default()
        });
    }
    let sum = operations.iter().try_fold(0u64, |sum, n| sum.checked_add(n.saturating_sub(1)));
    let sum = sum.and_then(|sum| usize::try_from(sum).ok()).ok_or(Malformed("operations of blocks"))?;
    let numbers = packed_ints::read(&mut cursor, sum)?;
    let mut rest = numbers.as_slice();
    for (block, count) in table.blocks.iter_mut().zip(&operations) {
        let Some(count) = count.checked_sub(1) else { continue };
        let (own, after) = rest.split_at(usize::try_from(count).map_err(|_| Malformed("operations of blocks"))?);
        rest = after;
        let own: Option<Vec<u32>> = own.iter().map(|n| u32::try_from(*n).ok()).collect();
        if let Some(stats) = &mut block.spans {
            stats.operations = Some(own.ok_or(Malformed("operations of blocks"))?);
        }
    }
    let strings = StringTable::read(cursor.bytes()?)?;
    let mut inner = Cursor::new(cursor.bytes()?);
    for _ in 0..inner.count()? {
        let service = strings.get(&mut inner)?.to_owned();
        let name = strings.get(&mut inner)?.to_owned();
        let kind = SpanKind::from_number(i32::from(inner.u8()?));
        let min_t = inner.i64()?;
        let max_t = min_t.wrapping_add(inner.u64()? as i64);
        table.operations.push(OperationInfo { service, name, kind, min_t, max_t });
    }
    if numbers.iter().any(|n| *n >= table.operations.len() as u64) {
        return Err(Malformed("operations of blocks"));
    }
    for _ in 0..cursor.count()? {
        table.trace_chunks.push(TraceChunk {
            first: TraceId(cursor.array()?),
            offset: cursor.u64()?,
            len: cursor.u64()?,
            count: cursor.u64()?,
        });
    }
    if cursor.is_empty() { Ok(table) } else { Err(Malformed("end of table")) }
}
