//! The summaries of the traces of a part, by trace id: where their spans lie, and what searches tell of a trace.
//! See `FORMAT.md`, "Summaries of traces".

use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_model::{StatusCode, TraceFacts, TraceId};

use crate::columns::{BlockColumns, Column, Packer};
use crate::packed_ints;
use crate::part_file::PartReader;
use crate::span_block::StoredSpan;
use crate::span_columns::trace_ids;
use crate::table::TraceChunk;
use crate::wire::{Cursor, Malformed, StringTable, Strings, put_i64};

/// Traces in a chunk.
const CHUNK_TRACES: usize = 512;
const IDS: usize = 0;
const BLOCKS: usize = 1;
const NUMBERS: usize = 2;
const STRINGS: usize = 3;

/// What is known of a trace, or of its spans in one part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TraceSummary {
    /// First start.
    pub(crate) start_ns: i64,
    /// Last end.
    pub(crate) end_ns: i64,
    /// Spans.
    pub(crate) spans: u64,
    /// Spans with an error.
    pub(crate) errors: u64,
    /// Start, service and name of the first span without a parent.
    pub(crate) root: Option<(i64, String, String)>,
    /// Whether something may be wrong, because the spans come from several slices or roots begin together.
    pub(crate) is_unsure: bool,
}

impl TraceSummary {
    /// For who asks about the trace.
    pub(crate) fn facts(&self) -> TraceFacts<'_> {
        let root = self.root.as_ref().map(|(_, service, name)| (service.as_str(), name.as_str()));
        TraceFacts { root, start_ns: self.start_ns, end_ns: self.end_ns, spans: self.spans, errors: self.errors }
    }
}

/// A trace while its part is written; texts as numbers.
#[derive(Default)]
struct Row {
    slice: usize,
    is_split: bool,
    blocks: Vec<u32>,
    start_ns: i64,
    end_ns: i64,
    spans: u64,
    errors: u64,
    /// Start, service, name.
    root: Option<(i64, u32, u32)>,
    services: Vec<(u32, u64, u64)>,
}

/// Collects the summaries of a part.
#[derive(Default)]
pub(crate) struct TraceIndexWriter {
    rows: FxHashMap<TraceId, Row>,
    numbers: FxHashMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
}

impl TraceIndexWriter {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).expect("texts of a part fit in memory");
        self.texts.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    /// Notes the spans of a block, sorted by trace.
    pub(crate) fn add_block(&mut self, block: u32, slice: usize, spans: &[Arc<StoredSpan>]) {
        for run in spans.chunk_by(|a, b| a.span.trace_id == b.span.trace_id) {
            let id = run[0].span.trace_id;
            let mut row = self.rows.remove(&id).unwrap_or_default();
            row.is_split |= row.spans > 0 && row.slice != slice;
            row.slice = slice;
            if row.blocks.last() != Some(&block) {
                row.blocks.push(block);
            }
            let (mut service, mut last) = (0, None);
            for stored in run {
                let span = &stored.span;
                if last != Some(Arc::as_ptr(&stored.origin)) {
                    last = Some(Arc::as_ptr(&stored.origin));
                    service = self.number(stored.origin.resource.service_name());
                }
                let is_error = u64::from(span.status_code == StatusCode::Error);
                let end = span.end_ns.max(span.start_ns);
                if row.spans == 0 {
                    (row.start_ns, row.end_ns) = (span.start_ns, end);
                }
                row.start_ns = row.start_ns.min(span.start_ns);
                row.end_ns = row.end_ns.max(end);
                row.spans += 1;
                row.errors += is_error;
                if span.parent_span_id.is_none() {
                    let own = (span.start_ns, service, self.number(&span.name));
                    if row.root.is_none_or(|root| own.0 < root.0) {
                        row.root = Some(own);
                    } else if row.root.is_some_and(|root| own.0 == root.0 && own != root) {
                        // Which is the root their ids decide.
                        row.is_split = true;
                    }
                }
                match row.services.iter_mut().find(|(s, ..)| *s == service) {
                    Some((_, spans, errors)) => (*spans, *errors) = (*spans + 1, *errors + is_error),
                    None => row.services.push((service, 1, is_error)),
                }
            }
            self.rows.insert(id, row);
        }
    }

    /// Encodes the summaries into a section.
    pub(crate) fn finish(self, section: &mut Vec<u8>) -> Vec<TraceChunk> {
        let texts = self.texts;
        let mut rows: Vec<(TraceId, Row)> = self.rows.into_iter().collect();
        rows.sort_unstable_by_key(|(id, _)| *id);
        let mut packer = Packer::new();
        let mut chunks = Vec::new();
        for chunk in rows.chunks(CHUNK_TRACES) {
            let bytes = packer.seal(&encode_chunk(chunk, &texts));
            let (offset, len) = (section.len() as u64, bytes.len() as u64);
            section.extend_from_slice(&bytes);
            chunks.push(TraceChunk { first: chunk[0].0, offset, len, count: chunk.len() as u64 });
        }
        chunks
    }
}

fn encode_chunk(rows: &[(TraceId, Row)], texts: &[Box<str>]) -> Vec<Column> {
    let mut columns = vec![Column::default(); 4];
    columns[IDS].is_dense = true;
    for (id, _) in rows {
        columns[IDS].bytes.extend_from_slice(&id.0);
    }
    let put = |out: &mut Vec<u8>, of: &dyn Fn(&Row) -> u64| {
        packed_ints::put(out, &rows.iter().map(|(_, row)| of(row)).collect::<Vec<_>>());
    };
    let put_all = |out: &mut Vec<u8>, all: Vec<u64>| packed_ints::put(out, &all);
    let blocks = &mut columns[BLOCKS].bytes;
    put(blocks, &|row| row.blocks.len() as u64);
    put_all(blocks, rows.iter().flat_map(|(_, row)| row.blocks.iter().map(|b| u64::from(*b))).collect());

    let (mut strings, mut references) = (Strings::default(), Vec::new());
    let mut numbers: FxHashMap<u32, u64> = FxHashMap::default();
    let mut text = |number: u32| {
        let next = numbers.len() as u64;
        *numbers.entry(number).or_insert_with(|| {
            strings.put(&mut references, &texts[number as usize]);
            next
        })
    };
    // 0 for none.
    let root_names: Vec<u64> = rows.iter().map(|(_, row)| row.root.map_or(0, |(_, _, name)| text(name) + 1)).collect();
    let root_services: Vec<u64> =
        rows.iter().map(|(_, row)| row.root.map_or(0, |(_, service, _)| text(service) + 1)).collect();
    let services: Vec<u64> =
        rows.iter().flat_map(|(_, row)| &row.services).map(|(service, ..)| text(*service)).collect();
    let out = &mut columns[NUMBERS].bytes;
    let least = rows.iter().map(|(_, row)| row.start_ns).min().unwrap_or(0);
    put_i64(out, least);
    put(out, &|row| row.start_ns.wrapping_sub(least) as u64);
    put(out, &|row| row.end_ns.wrapping_sub(row.start_ns) as u64);
    put(out, &|row| row.spans << 1 | u64::from(row.is_split));
    put(out, &|row| row.errors);
    put(out, &|row| row.root.map_or(0, |root| root.0.wrapping_sub(row.start_ns) as u64));
    put_all(out, root_names);
    put_all(out, root_services);
    put(out, &|row| row.services.len() as u64);
    put_all(out, services);
    put_all(out, rows.iter().flat_map(|(_, row)| &row.services).map(|(_, spans, _)| *spans).collect());
    put_all(out, rows.iter().flat_map(|(_, row)| &row.services).map(|(_, _, errors)| *errors).collect());
    let mut table = strings.finish();
    crate::wire::put_len(&mut table, numbers.len());
    table.extend_from_slice(&references);
    columns[STRINGS].bytes = table;
    columns
}

fn sum(counts: &[u64], most: usize) -> Result<usize, Malformed> {
    let sum = counts.iter().try_fold(0u64, |sum, n| sum.checked_add(*n));
    sum.and_then(|sum| usize::try_from(sum).ok()).filter(|sum| *sum <= most).ok_or(Malformed("counts of a summary"))
}

/// A chunk of summaries, open.
pub(crate) struct TraceChunkReader<'a> {
    columns: BlockColumns<'a>,
    pub(crate) ids: Vec<TraceId>,
}

impl<'a> TraceChunkReader<'a> {
    pub(crate) fn open(part: &'a PartReader, chunk: &TraceChunk) -> Result<Self, Malformed> {
        let bytes = part.in_last_section(chunk.offset, chunk.len).ok_or(Malformed("place of summaries"))?;
        let columns = BlockColumns::open(bytes)?;
        let ids: Vec<TraceId> = trace_ids(&columns.get(IDS)?).collect();
        if ids.len() as u64 != chunk.count {
            return Err(Malformed("count of summaries"));
        }
        Ok(Self { columns, ids })
    }

    /// The blocks of each trace: where the trace's begin, and after the last where they end; and the blocks.
    pub(crate) fn blocks(&self) -> Result<(Vec<usize>, Vec<u64>), Malformed> {
        let bytes = self.columns.get(BLOCKS)?;
        let mut cursor = Cursor::new(&bytes);
        let counts = packed_ints::read(&mut cursor, self.ids.len())?;
        let all = packed_ints::read(&mut cursor, sum(&counts, 1 << 28)?)?;
        let mut places = vec![0];
        for count in &counts {
            // Below the sum, which is a number of things in memory.
            places.push(places[places.len() - 1] + *count as usize);
        }
        Ok((places, all))
    }

    /// For each trace whether its spans may be there twice, for they are in several slices (or roots begin together).
    pub(crate) fn is_split(&self) -> Result<Vec<bool>, Malformed> {
        let bytes = self.columns.get(NUMBERS)?;
        let mut cursor = Cursor::new(&bytes);
        let count = self.ids.len();
        cursor.i64()?;
        let (_, _, spans) = (
            packed_ints::read(&mut cursor, count)?,
            packed_ints::read(&mut cursor, count)?,
            packed_ints::read(&mut cursor, count)?,
        );
        Ok(spans.into_iter().map(|n| n & 1 == 1).collect())
    }

    /// All summaries, in the order of the ids.
    pub(crate) fn summaries(&self) -> Result<Vec<TraceSummary>, Malformed> {
        let texts = self.columns.get(STRINGS)?;
        let mut cursor = Cursor::new(&texts);
        let strings = StringTable::read_from(&mut cursor)?;
        let texts = (0..cursor.count()?).map(|_| strings.get(&mut cursor)).collect::<Result<Vec<_>, _>>()?;
        let text = |number: u64| {
            let text = usize::try_from(number).ok().and_then(|n| texts.get(n));
            text.map(|text| (*text).to_owned()).ok_or(Malformed("reference"))
        };
        let bytes = self.columns.get(NUMBERS)?;
        let mut cursor = Cursor::new(&bytes);
        let (count, least) = (self.ids.len(), cursor.i64()?);
        let mut column = || packed_ints::read(&mut cursor, count);
        let (starts, lengths, spans, errors) = (column()?, column()?, column()?, column()?);
        let (root_starts, root_names, root_services) = (column()?, column()?, column()?);
        let mut out = Vec::with_capacity(count);
        for i in 0..count {
            let start_ns = least.wrapping_add(starts[i] as i64);
            let root = match (root_names[i].checked_sub(1), root_services[i].checked_sub(1)) {
                (Some(name), Some(service)) => {
                    Some((start_ns.wrapping_add(root_starts[i] as i64), text(service)?, text(name)?))
                }
                _ => None,
            };
            out.push(TraceSummary {
                start_ns,
                end_ns: start_ns.wrapping_add(lengths[i] as i64),
                spans: spans[i] >> 1,
                errors: errors[i],
                root,
                is_unsure: spans[i] & 1 == 1,
            });
        }
        Ok(out)
    }
}

/// The chunk that would have a trace.
pub(crate) fn chunk_of(part: &PartReader, id: TraceId) -> Option<usize> {
    part.table.trace_chunks.partition_point(|chunk| chunk.first <= id).checked_sub(1)
}
