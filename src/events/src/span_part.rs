//! Writing parts of spans: blocks of whole traces (a very long trace is cut), in slices by the start of the trace, sorted by trace id within a slice.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_model::{JournalMark, SpanObserver, SpanWants, TenantId, TraceId, TraceSampler, TraceToSample};
use trefoil_parts::{PartFacts, PartWriter, PendingPart};

use crate::EventsError;
use crate::columns::Packer;
use crate::engine::{Kind, Output};
use crate::metrics;
use crate::part_file::{PartFileWriter, PartReader, SPANS_VERSION, SealedBlock};
use crate::record;
use crate::span_block::{self, StoredSpan, sort_and_deduplicate};
use crate::span_columns::{self, Encoded};
use crate::span_rows::SpanRowsReader;
use crate::table::OperationInfo;
use crate::trace_index::TraceIndexWriter;
use crate::trace_memtable::TraceMemtable;
use crate::wire::Malformed;

/// Operations of a part's table; more are not listed, but are found by searches.
const OPERATIONS_MAX: usize = 100_000;

/// The kind of spans.
pub(crate) struct Traces;

impl Kind for Traces {
    const NAME: &'static str = "traces";
    type Batch = trefoil_model::TraceBatch;
    type Memtable = TraceMemtable;

    fn encode(batch: &Self::Batch) -> Vec<u8> {
        record::encode_spans(batch)
    }

    fn decode(bytes: &[u8]) -> Result<Self::Batch, Malformed> {
        record::decode_spans(bytes)
    }

    fn count(batch: &Self::Batch) -> u64 {
        batch.span_count() as u64
    }

    fn memtable_bytes(batch: &Self::Batch) -> u64 {
        (batch.heap_bytes() + batch.span_count() * 64) as u64
    }

    fn insert(memtable: &TraceMemtable, batch: Self::Batch, sequence: u64) {
        memtable.insert(batch, sequence);
    }

    fn observe(observer: &dyn SpanObserver, batch: &Self::Batch, replayed: Option<JournalMark>) {
        observer.observe(batch, replayed);
    }

    fn carry(memtable: &TraceMemtable, young_from: u64, bytes_max: usize) -> Vec<Self::Batch> {
        let (batches, was_cut) = memtable.carry(young_from, bytes_max);
        if was_cut {
            metrics::SAMPLED_EARLY.inc();
        }
        batches
    }

    fn keep_all(memtable: &TraceMemtable) {
        memtable.keep_all();
    }

    fn write(memtable: &TraceMemtable, output: &Output<'_>) -> Result<Vec<PendingPart>, EventsError> {
        let mut pending = Vec::new();
        for tenant in memtable.tenants() {
            let mut days: BTreeMap<i64, Vec<Arc<StoredSpan>>> = BTreeMap::new();
            let spans = match &output.sampler {
                None => memtable.spans(tenant),
                Some(sampler) => sampled(&**sampler, tenant, memtable.spans_to_write(tenant)),
            };
            for span in spans {
                days.entry(trefoil_model::time::day_of_ns(span.span.start_ns)).or_default().push(span);
            }
            for (day, spans) in days {
                let mut part = SpanPartWriter::begin(output, tenant, day)?;
                for slice in slices(spans, output.slice_bytes) {
                    part.write_slice(slice)?;
                }
                pending.push(part.finish(output, 0)?);
            }
        }
        Ok(pending)
    }

    fn merge(parts: &[Arc<PartReader>], output: &Output<'_>, level: u8) -> Result<Option<PendingPart>, EventsError> {
        let first = &parts.first().expect("a plan has two parts or more").meta;
        let mut writer = SpanPartWriter::begin(output, first.tenant, first.partition)?;
        let mut blocks: Vec<(i64, usize, usize)> = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            blocks.extend(part.table.blocks.iter().enumerate().map(|(number, b)| (b.min_t, index, number)));
        }
        blocks.sort_unstable();
        let (mut spans, mut bytes) = (Vec::new(), 0);
        for (_, part, block) in blocks {
            let read = read_block(&parts[part], block, &|_| true, &SpanWants::default())?;
            bytes += read.iter().map(|span| span.heap_bytes()).sum::<usize>();
            spans.extend(read);
            if bytes >= output.slice_bytes {
                bytes = 0;
                writer.write_slice(std::mem::take(&mut spans))?;
            }
        }
        writer.write_slice(spans)?;
        writer.finish(output, level).map(Some)
    }
}

/// The spans of the traces that are kept.
fn sampled(
    sampler: &dyn TraceSampler,
    tenant: TenantId,
    traces: Vec<(TraceId, Vec<Arc<StoredSpan>>)>,
) -> Vec<Arc<StoredSpan>> {
    let asked: Vec<TraceToSample<'_>> = traces
        .iter()
        .map(|(trace_id, spans)| TraceToSample {
            trace_id: *trace_id,
            spans: spans.iter().map(|stored| (&*stored.origin.resource, &stored.span)).collect(),
        })
        .collect();
    let kept = sampler.decide(tenant, &asked);
    traces.iter().zip(kept).filter(|(_, kept)| *kept).flat_map(|((_, spans), _)| spans.iter().cloned()).collect()
}

/// Decodes the spans of a block whose trace is wanted, as far as they are wanted; errors when it is damaged.
pub(crate) fn read_block(
    part: &PartReader,
    block: usize,
    wanted: &dyn Fn(TraceId) -> bool,
    wants: &SpanWants<'_>,
) -> Result<Vec<Arc<StoredSpan>>, EventsError> {
    let corrupt = |malformed: Malformed| part.corrupt(block, &malformed.to_string());
    if part.version < SPANS_VERSION {
        return span_block::decode_v1(&part.columns(block)?, wanted).map_err(corrupt);
    }
    let bytes = part.block(block)?;
    let read = || {
        let reader = SpanRowsReader::open(bytes, &part.table.blocks[block])?;
        let light = reader.light()?;
        let mut rows = vec![false; light.len()];
        for (trace, id) in light.traces.iter().enumerate() {
            if wanted(*id) {
                rows[light.rows_of(trace)].fill(true);
            }
        }
        reader.spans(&light, &rows, wants)
    };
    read().map_err(corrupt)
}

/// Cuts spans into slices of whole traces, by the first start of the trace.
fn slices(spans: Vec<Arc<StoredSpan>>, slice_bytes: usize) -> Vec<Vec<Arc<StoredSpan>>> {
    let mut starts: FxHashMap<TraceId, i64> = FxHashMap::default();
    for span in &spans {
        let start = starts.entry(span.span.trace_id).or_insert(i64::MAX);
        *start = (*start).min(span.span.start_ns);
    }
    let mut keyed: Vec<((i64, TraceId), Arc<StoredSpan>)> =
        spans.into_iter().map(|span| ((starts[&span.span.trace_id], span.span.trace_id), span)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    let (mut slices, mut slice, mut bytes, mut last) = (Vec::new(), Vec::new(), 0, None);
    for (key, span) in keyed {
        if bytes >= slice_bytes && last != Some(key) {
            slices.push(std::mem::take(&mut slice));
            bytes = 0;
        }
        last = Some(key);
        bytes += span.heap_bytes();
        slice.push(span);
    }
    slices.push(slice);
    slices
}

/// A block ends after so many times the bytes that the option says: light columns are read alone, so they may be long.
const BLOCK_FACTOR: usize = 8;
/// A trace that is longer than so many blocks is cut.
const TRACE_BLOCKS_MAX: usize = 4;

/// Writes a part from slices.
struct SpanPartWriter {
    writer: PartWriter,
    file: PartFileWriter,
    packer: Packer,
    traces: TraceIndexWriter,
    /// Numbers of operations by service, name, kind.
    operations: FxHashMap<(String, String, u8), u32>,
    slices: usize,
    block_bytes: usize,
    facts: PartFacts,
}

impl SpanPartWriter {
    fn begin(output: &Output<'_>, tenant: TenantId, day: i64) -> Result<Self, EventsError> {
        let writer = output
            .set
            .begin(tenant, day, Traces::NAME)
            .map_err(|source| EventsError::Parts { kind: Traces::NAME, source })?;
        let file = PartFileWriter::create(&writer, Traces::NAME, SPANS_VERSION)?;
        let facts = PartFacts { min_t: i64::MAX, max_t: i64::MIN, format: SPANS_VERSION, ..PartFacts::default() };
        Ok(Self {
            writer,
            file,
            packer: Packer::new(),
            traces: TraceIndexWriter::default(),
            operations: FxHashMap::default(),
            slices: 0,
            block_bytes: output.block_bytes * BLOCK_FACTOR,
            facts,
        })
    }

    /// Sorts spans by trace and writes their blocks; what was sent twice is written once.
    fn write_slice(&mut self, spans: Vec<Arc<StoredSpan>>) -> Result<(), EventsError> {
        let mut traces: BTreeMap<TraceId, Vec<Arc<StoredSpan>>> = BTreeMap::new();
        for span in spans {
            traces.entry(span.span.trace_id).or_default().push(span);
        }
        self.slices += 1;
        let (mut block, mut bytes) = (Vec::new(), 0);
        for (_, mut spans) in traces {
            sort_and_deduplicate(&mut spans);
            for span in spans {
                bytes += span.heap_bytes();
                block.push(span);
                if bytes >= self.block_bytes * TRACE_BLOCKS_MAX {
                    self.write_block(&mut block)?;
                    bytes = 0;
                }
            }
            if bytes >= self.block_bytes {
                self.write_block(&mut block)?;
                bytes = 0;
            }
        }
        self.write_block(&mut block)
    }

    fn write_block(&mut self, block: &mut Vec<Arc<StoredSpan>>) -> Result<(), EventsError> {
        if block.is_empty() {
            return Ok(());
        }
        let Encoded { mut info, columns, terms, operations } = span_columns::encode(block);
        self.facts.min_t = self.facts.min_t.min(info.min_t);
        self.facts.max_t = self.facts.max_t.max(info.max_t);
        self.facts.items += info.count;
        if let Some(stats) = &mut info.spans {
            stats.operations = self.note(operations);
        }
        let number = u32::try_from(self.file.table.blocks.len()).expect("blocks of a part fit in memory");
        self.traces.add_block(number, self.slices, block);
        block.clear();
        self.file.add_block(SealedBlock::new(info, self.packer.seal(&columns), terms))
    }

    /// Numbers the operations of a block; `None` when the table has no room for all of them.
    fn note(&mut self, operations: Vec<OperationInfo>) -> Option<Vec<u32>> {
        let (table, mut numbers, mut is_whole) = (&mut self.file.table.operations, Vec::new(), true);
        for operation in operations {
            let key = (operation.service.clone(), operation.name.clone(), operation.kind as u8);
            match self.operations.get(&key) {
                Some(number) => {
                    let known = &mut table[*number as usize];
                    known.min_t = known.min_t.min(operation.min_t);
                    known.max_t = known.max_t.max(operation.max_t);
                    numbers.push(*number);
                }
                None if table.len() >= OPERATIONS_MAX => {
                    trefoil_runtime::limits::hit("operations_per_part_max");
                    is_whole = false;
                }
                None => {
                    let number = u32::try_from(table.len()).expect("there are at most so many");
                    table.push(operation);
                    self.operations.insert(key, number);
                    numbers.push(number);
                }
            }
        }
        numbers.sort_unstable();
        is_whole.then_some(numbers)
    }

    fn finish(mut self, output: &Output<'_>, level: u8) -> Result<PendingPart, EventsError> {
        self.file.put_traces(self.traces);
        self.file.finish(Traces::NAME)?;
        self.facts.level = level;
        self.facts.created_ms = output.now_ms;
        self.writer.finish(self.facts).map_err(|source| EventsError::Parts { kind: Traces::NAME, source })
    }
}
