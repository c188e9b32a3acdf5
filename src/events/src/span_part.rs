//! Writing parts of spans: blocks of whole traces (of eight blocks' size a trace is cut), in slices by the start of the trace, sorted by trace id within a slice.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_model::{SpanKind, TenantId, TraceId};
use trefoil_parts::{PartFacts, PartWriter, PendingPart};

use crate::EventsError;
use crate::engine::{Kind, Output};
use crate::part_file::{PartFileWriter, PartReader, SPANS_VERSION, seal_columns};
use crate::record;
use crate::span_block::{self, StoredSpan, sort_and_deduplicate};
use crate::table::OperationInfo;
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

    fn write(memtable: &TraceMemtable, output: &Output<'_>) -> Result<Vec<PendingPart>, EventsError> {
        let mut pending = Vec::new();
        for tenant in memtable.tenants() {
            let mut days: BTreeMap<i64, Vec<Arc<StoredSpan>>> = BTreeMap::new();
            for span in memtable.spans(tenant) {
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
            let read = read_block(&parts[part], block, None)?;
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

/// Decodes a block of spans; errors when it is damaged.
pub(crate) fn read_block(
    part: &PartReader,
    block: usize,
    only: Option<TraceId>,
) -> Result<Vec<Arc<StoredSpan>>, EventsError> {
    let columns = part.columns(block)?;
    span_block::decode(&columns, only).map_err(|malformed| part.corrupt(block, &malformed.to_string()))
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

/// Writes a part from slices.
struct SpanPartWriter {
    writer: PartWriter,
    file: PartFileWriter,
    operations: BTreeMap<(String, String, u8), (i64, i64)>,
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
        Ok(Self { writer, file, operations: BTreeMap::new(), block_bytes: output.block_bytes, facts })
    }

    /// Sorts spans by trace and writes their blocks; what was sent twice is written once.
    fn write_slice(&mut self, spans: Vec<Arc<StoredSpan>>) -> Result<(), EventsError> {
        let mut traces: BTreeMap<TraceId, Vec<Arc<StoredSpan>>> = BTreeMap::new();
        for span in spans {
            traces.entry(span.span.trace_id).or_default().push(span);
        }
        let (mut block, mut bytes) = (Vec::new(), 0);
        for (_, mut spans) in traces {
            sort_and_deduplicate(&mut spans);
            for span in spans {
                self.note(&span);
                bytes += span.heap_bytes();
                block.push(span);
                if bytes >= self.block_bytes * 8 {
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
        let (info, columns, terms) = span_block::encode(block);
        block.clear();
        self.file.add_block(info, &seal_columns(&columns), terms)
    }

    fn note(&mut self, stored: &StoredSpan) {
        let span = &stored.span;
        self.facts.min_t = self.facts.min_t.min(span.start_ns);
        self.facts.max_t = self.facts.max_t.max(span.start_ns);
        self.facts.items += 1;
        let key = (stored.origin.resource.service_name().to_owned(), span.name.clone(), span.kind as u8);
        if self.operations.len() >= OPERATIONS_MAX && !self.operations.contains_key(&key) {
            trefoil_runtime::limits::hit("operations_per_part_max");
            return;
        }
        let times = self.operations.entry(key).or_insert((i64::MAX, i64::MIN));
        times.0 = times.0.min(span.start_ns);
        times.1 = times.1.max(span.start_ns);
    }

    fn finish(mut self, output: &Output<'_>, level: u8) -> Result<PendingPart, EventsError> {
        self.file.table.operations = self
            .operations
            .into_iter()
            .map(|((service, name, kind), (min_t, max_t))| OperationInfo {
                service,
                name,
                kind: SpanKind::from_number(i32::from(kind)),
                min_t,
                max_t,
            })
            .collect();
        self.file.finish(Traces::NAME)?;
        self.facts.level = level;
        self.facts.created_ms = output.now_ms;
        self.writer.finish(self.facts).map_err(|source| EventsError::Parts { kind: Traces::NAME, source })
    }
}
