//! The columns of a block of log records.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_model::{Attributes, LogRecord};

use crate::part_file::Columns;
use crate::record::{put_log_ids, read_log_ids};
use crate::table::{BlockInfo, BlockStream, level_index};
use crate::tokens::BlockTerms;
use crate::wire::{
    Cursor, Malformed, StringTable, Strings, put_attributes, put_bytes, put_i64, put_len, put_u64, read_attributes,
};

/// A log record as it is kept: with its place in the order of arrival and the attributes of its group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredLog {
    /// Order of arrival within the store; breaks ties of time within a stream.
    pub(crate) sequence: u64,
    /// Attributes of the group.
    pub(crate) shared: Arc<Attributes>,
    /// The record.
    pub(crate) record: LogRecord,
}

impl StoredLog {
    /// The order within a stream.
    pub(crate) fn key(&self) -> (i64, u64) {
        (self.record.time_ns, self.sequence)
    }
}

const STRINGS: usize = 0;
const SHARED: usize = 1;
const RUNS: usize = 2;
const TIMES: usize = 3;
const SEQUENCES: usize = 4;
const IDS: usize = 5;
const TEXT_LENGTHS: usize = 6;
const TEXTS: usize = 7;
const ATTRIBUTES: usize = 8;
const COLUMNS: usize = 9;

/// Encodes records, sorted by (stream, time, sequence): the columns, what is known of the block, its terms.
pub(crate) fn encode<'a>(records: impl Iterator<Item = (u32, &'a StoredLog)>) -> (BlockInfo, Vec<Vec<u8>>, BlockTerms) {
    let mut columns = vec![Vec::new(); COLUMNS];
    let (mut strings, mut terms) = (Strings::default(), BlockTerms::default());
    let mut info = BlockInfo { min_t: i64::MAX, max_t: i64::MIN, ..BlockInfo::default() };
    let mut groups: FxHashMap<*const Attributes, u64> = FxHashMap::default();
    let mut distinct: Vec<Arc<Attributes>> = Vec::new();
    let (mut last_time, mut last_sequence, mut row) = (0i64, 0u64, Vec::new());
    for (stream, log) in records {
        let record = &log.record;
        let group = *groups.entry(Arc::as_ptr(&log.shared)).or_insert_with(|| {
            // After a merge equal groups come from several places.
            let found = distinct.iter().rev().take(8).position(|g| *g == log.shared);
            match found {
                Some(back) => (distinct.len() - 1 - back) as u64,
                None => {
                    terms.add_attributes("", &log.shared);
                    distinct.push(Arc::clone(&log.shared));
                    distinct.len() as u64 - 1
                }
            }
        });
        put_i64(&mut columns[TIMES], record.time_ns.wrapping_sub(last_time));
        put_i64(&mut columns[SEQUENCES], log.sequence.wrapping_sub(last_sequence) as i64);
        (last_time, last_sequence) = (record.time_ns, log.sequence);
        put_log_ids(&mut columns[IDS], record);
        put_len(&mut columns[TEXT_LENGTHS], record.text.len());
        columns[TEXTS].extend_from_slice(record.text.as_bytes());
        row.clear();
        put_u64(&mut row, group);
        strings.put(&mut row, &record.severity_text);
        put_attributes(&mut row, &mut strings, &record.attributes);
        put_bytes(&mut columns[ATTRIBUTES], &row);
        add_terms(&mut terms, record);
        note(&mut info, stream, record);
    }
    put_len(&mut columns[SHARED], distinct.len());
    for group in &distinct {
        put_attributes(&mut columns[SHARED], &mut strings, group);
    }
    put_len(&mut columns[RUNS], info.streams.len());
    for run in &info.streams {
        put_u64(&mut columns[RUNS], u64::from(run.stream));
        put_u64(&mut columns[RUNS], run.count);
    }
    columns[STRINGS] = strings.finish();
    (info, columns, terms)
}

fn add_terms(terms: &mut BlockTerms, record: &LogRecord) {
    terms.add_text(&record.text);
    terms.add_attributes("", &record.attributes);
    if let Some(id) = record.trace_id {
        terms.add_term("trace_id", &id.to_string());
    }
    if let Some(id) = record.span_id {
        terms.add_term("span_id", &id.to_string());
    }
    if !record.severity_text.is_empty() {
        terms.add_term("severity_text", &record.severity_text);
    }
    if record.severity_number != 0 {
        terms.add_term("severity_number", &record.severity_number.to_string());
    }
}

fn note(info: &mut BlockInfo, stream: u32, record: &LogRecord) {
    let (time, bytes) = (record.time_ns, record.text.len() as u64);
    info.min_t = info.min_t.min(time);
    info.max_t = info.max_t.max(time);
    info.count += 1;
    info.text_bytes += bytes;
    info.levels[level_index(record.severity_number)] += 1;
    match info.streams.last_mut() {
        Some(run) if run.stream == stream => {
            run.count += 1;
            run.text_bytes += bytes;
            run.min_t = run.min_t.min(time);
            run.max_t = run.max_t.max(time);
        }
        _ => {
            info.streams.push(BlockStream { stream, count: 1, text_bytes: bytes, min_t: time, max_t: time });
        }
    }
}

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
