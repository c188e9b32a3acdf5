//! The columns of a block of log records in parts of version 1, for reading.

use std::sync::Arc;

use crate::log_block::StoredLog;
use crate::part_file::Columns;
use crate::record::read_log_ids;
use crate::wire::{Cursor, Malformed, StringTable, read_attributes};

const STRINGS: usize = 0;
const SHARED: usize = 1;
const RUNS: usize = 2;
const TIMES: usize = 3;
const SEQUENCES: usize = 4;
const IDS: usize = 5;
const TEXT_LENGTHS: usize = 6;
const TEXTS: usize = 7;
const ATTRIBUTES: usize = 8;

/// Decodes a block: calls `wanted(stream, time, text)` for each record and delivers those for which it holds, in the
/// order of the block. Returns how many were looked at and their bytes of text.
pub(crate) fn decode(
    columns: &Columns<'_>,
    wanted: &mut dyn FnMut(u32, i64, &str) -> bool,
    each: &mut dyn FnMut(u32, StoredLog),
) -> Result<(u64, u64), Malformed> {
    let strings = StringTable::read(columns.get(STRINGS)?)?;
    let mut cursor = Cursor::new(columns.get(SHARED)?);
    let mut groups = Vec::new();
    for _ in 0..cursor.count()? {
        groups.push(Arc::new(read_attributes(&mut cursor, &strings)?));
    }
    let mut runs = Cursor::new(columns.get(RUNS)?);
    let mut times = Cursor::new(columns.get(TIMES)?);
    let mut sequences = Cursor::new(columns.get(SEQUENCES)?);
    let mut ids = Cursor::new(columns.get(IDS)?);
    let mut lengths = Cursor::new(columns.get(TEXT_LENGTHS)?);
    let texts = std::str::from_utf8(columns.get(TEXTS)?).map_err(|_| Malformed("texts"))?;
    let mut attributes = Cursor::new(columns.get(ATTRIBUTES)?);
    let (mut time, mut sequence, mut at, mut seen) = (0i64, 0u64, 0usize, 0u64);
    for _ in 0..runs.count()? {
        let (stream, count) = (runs.u32()?, runs.u64()?);
        for _ in 0..count {
            time = time.wrapping_add(times.i64()?);
            sequence = sequence.wrapping_add(sequences.i64()? as u64);
            let len = usize::try_from(lengths.u64()?).map_err(|_| Malformed("text length"))?;
            let end = at.checked_add(len).ok_or(Malformed("text length"))?;
            let text = texts.get(at..end).ok_or(Malformed("text length"))?;
            at = end;
            seen += 1;
            let mut record = read_log_ids(&mut ids, time)?;
            let mut row = Cursor::new(attributes.bytes()?);
            if wanted(stream, time, text) {
                let group = usize::try_from(row.u64()?).map_err(|_| Malformed("group"))?;
                let shared = groups.get(group).ok_or(Malformed("group"))?;
                record.severity_text = strings.get(&mut row)?.to_owned();
                record.attributes = read_attributes(&mut row, &strings)?;
                record.text = text.to_owned();
                each(stream, StoredLog { sequence, shared: Arc::clone(shared), record });
            }
        }
    }
    Ok((seen, at as u64))
}
