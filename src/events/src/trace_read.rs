//! Reading spans: traces by their ids, searches, services and operations.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use trefoil_model::{
    BudgetError, NanoRange, QueryBudget, SpanGroup, SpanKind, SpanQuery, SpanWants, StoreError, StoredTrace, TenantId,
    TraceId,
};

use crate::engine::Snapshot;
use crate::part_file::{PartReader, SPANS_VERSION};
use crate::span_block::{Origin, StoredSpan, sort_and_deduplicate};
use crate::span_part::{Traces, read_block};
use crate::span_scan::Finder;
use crate::tokens::trace_key;
use crate::trace_index::{TraceChunkReader, chunk_of};

/// Traces of the first batch of a search; each further one is twice as large.
const BATCH_FIRST: usize = 32;
/// Traces of the largest batch.
const BATCH_MAX: usize = 2048;

/// Blocks of a part that have, or may have, spans of some traces, which must be sorted.
pub(crate) fn blocks_with(part: &PartReader, ids: &[TraceId]) -> BTreeSet<usize> {
    let mut blocks = BTreeSet::new();
    if part.version < SPANS_VERSION {
        for (number, block) in part.table.blocks.iter().enumerate() {
            let Some((first, last)) = block.traces else { continue };
            let from = ids.partition_point(|id| *id < first);
            let within = ids[from..].iter().take_while(|id| **id <= last);
            if within.into_iter().any(|id| part.filter_contains(block, trace_key(*id))) {
                blocks.insert(number);
            }
        }
        return blocks;
    }
    let mut rest = ids;
    while let Some(first) = rest.first() {
        let Some(number) = chunk_of(part, *first) else {
            rest = &rest[1..];
            continue;
        };
        let chunks = &part.table.trace_chunks;
        let end = chunks.get(number + 1).map_or(rest.len(), |next| rest.partition_point(|id| *id < next.first));
        let (of_chunk, after) = rest.split_at(end.max(1));
        rest = after;
        let read = TraceChunkReader::open(part, &chunks[number]).and_then(|reader| {
            let found: Vec<usize> = of_chunk.iter().filter_map(|id| reader.ids.binary_search(id).ok()).collect();
            if found.is_empty() {
                return Ok(());
            }
            let (places, all) = reader.blocks()?;
            for index in found {
                let of_trace = all.get(places[index]..places[index + 1]).unwrap_or_default();
                blocks.extend(of_trace.iter().filter_map(|block| usize::try_from(*block).ok()));
            }
            Ok(())
        });
        if let Err(malformed) = read {
            // It is told and counted. The blocks tell it too, only slower.
            part.corrupt_summaries(number, &malformed.to_string());
            let may_have = |block: &crate::table::BlockInfo| {
                block.traces.is_some_and(|(first, last)| of_chunk.iter().any(|id| first <= *id && *id <= last))
            };
            blocks.extend((0..).zip(&part.table.blocks).filter(|(_, block)| may_have(block)).map(|(number, _)| number));
        }
    }
    blocks
}

/// Keeps of sorted ids the traces that satisfy `wants.trace`, as far as one summary tells all of a trace.
fn keep_by_summary(
    snapshot: &Snapshot<Traces>,
    tenant: TenantId,
    ids: &mut Vec<TraceId>,
    wants: &SpanWants<'_>,
    spans_max: usize,
) {
    let Some(test) = wants.trace else { return };
    // How many places have the trace, and whether it may be wanted.
    let mut known: FxHashMap<TraceId, (u32, bool)> = FxHashMap::default();
    for memtable in &snapshot.memtables {
        for id in ids.iter().filter(|id| memtable.table.has(tenant, **id)) {
            known.insert(*id, (2, true));
        }
    }
    for part in &snapshot.parts {
        if part.version < SPANS_VERSION {
            // There are no summaries.
            return;
        }
        let mut rest = ids.as_slice();
        while let Some(first) = rest.first() {
            let Some(number) = chunk_of(part, *first) else {
                rest = &rest[1..];
                continue;
            };
            let chunks = &part.table.trace_chunks;
            let end = chunks.get(number + 1).map_or(rest.len(), |next| rest.partition_point(|id| *id < next.first));
            let (of_chunk, after) = rest.split_at(end.max(1));
            rest = after;
            let read = TraceChunkReader::open(part, &chunks[number]).and_then(|reader| {
                let found: Vec<usize> = of_chunk.iter().filter_map(|id| reader.ids.binary_search(id).ok()).collect();
                let summaries = if found.is_empty() { Vec::new() } else { reader.summaries()? };
                for index in found {
                    let summary = &summaries[index];
                    let may = summary.is_unsure || summary.spans > spans_max as u64 || test(&summary.facts());
                    let entry = known.entry(reader.ids[index]).or_insert((0, false));
                    *entry = (entry.0 + 1, entry.1 || may);
                }
                Ok(())
            });
            if read.is_err() {
                // Told when the blocks are looked for.
                return;
            }
        }
    }
    ids.retain(|id| known.get(id).is_none_or(|(places, may)| *places > 1 || *may));
}

/// The spans of some traces, each without what was sent twice, sorted by start. `ids` must be sorted. A damaged block that
/// has spans of theirs is an error.
pub(crate) fn fetch(
    snapshot: &Snapshot<Traces>,
    tenant: TenantId,
    ids: &[TraceId],
    wants: &SpanWants<'_>,
    spans_max: usize,
    budget: &dyn QueryBudget,
) -> Result<FxHashMap<TraceId, StoredTrace>, StoreError> {
    let mut found: FxHashMap<TraceId, Vec<Arc<StoredSpan>>> = FxHashMap::default();
    for memtable in &snapshot.memtables {
        for id in ids {
            let spans = memtable.table.trace(tenant, *id);
            if !spans.is_empty() {
                found.entry(*id).or_default().extend(spans);
            }
        }
    }
    let wanted: FxHashSet<TraceId> = ids.iter().copied().collect();
    for part in &snapshot.parts {
        budget.check()?;
        for block in blocks_with(part, ids) {
            budget.check()?;
            for span in read_block(part, block, &|id| wanted.contains(&id), wants)? {
                found.entry(span.span.trace_id).or_default().push(span);
            }
        }
    }
    let mut traces = FxHashMap::default();
    for trace_id in ids.iter().copied() {
        let Some(mut spans) = found.remove(&trace_id) else { continue };
        sort_and_deduplicate(&mut spans);
        if spans.len() > spans_max {
            trefoil_runtime::limits::hit("spans_per_trace_max");
            spans.truncate(spans_max);
        }
        if let Err(error) = budget.charge_bytes(spans.iter().map(|s| s.heap_bytes() as u64).sum()) {
            release(traces.values(), budget);
            return Err(error.into());
        }
        traces.insert(trace_id, StoredTrace { trace_id, groups: group(spans) });
    }
    Ok(traces)
}

/// Gives back what fetched traces took from the budget.
pub(crate) fn release<'t>(traces: impl Iterator<Item = &'t StoredTrace>, budget: &dyn QueryBudget) {
    let spans = traces.flat_map(|trace| &trace.groups).flat_map(|group| &group.spans);
    budget.release_bytes(spans.map(|span| span.heap_bytes() as u64 + 64).sum());
}

/// All spans of a trace, sorted by start, at most `spans_max`.
pub(crate) fn trace(
    snapshot: &Snapshot<Traces>,
    tenant: TenantId,
    id: TraceId,
    spans_max: usize,
    budget: &dyn QueryBudget,
) -> Result<Option<StoredTrace>, StoreError> {
    Ok(fetch(snapshot, tenant, &[id], &SpanWants::default(), spans_max, budget)?.remove(&id))
}

/// The newest traces with a matching span, whole, by its latest start, then by id.
pub(crate) fn find(
    snapshot: &Snapshot<Traces>,
    query: &SpanQuery,
    spans_max: usize,
    budget: &dyn QueryBudget,
) -> Result<Vec<StoredTrace>, StoreError> {
    let wants = SpanWants::default();
    let mut finder = Finder::new(snapshot, query, &wants, budget)?;
    let ids: Vec<TraceId> = finder.next(query.limit, budget)?.into_iter().map(|(_, id)| id).collect();
    finder.release(budget);
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    let mut traces = fetch(snapshot, query.tenant, &sorted, &wants, spans_max, budget)?;
    Ok(ids.into_iter().filter_map(|id| traces.remove(&id)).collect())
}

/// Delivers the traces with a span that may match, whole as far as they are wanted, newest first, each with the latest
/// start of such a span.
pub(crate) fn visit(
    snapshot: &Snapshot<Traces>,
    query: &SpanQuery,
    wants: &SpanWants<'_>,
    spans_max: usize,
    budget: &dyn QueryBudget,
    each: &mut dyn FnMut(&StoredTrace, i64) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let mut finder = Finder::new(snapshot, query, wants, budget)?;
    let mut most = BATCH_FIRST;
    loop {
        let batch = finder.next(most, budget)?;
        if batch.is_empty() || deliver(snapshot, query.tenant, &batch, wants, spans_max, budget, each)?.is_break() {
            break;
        }
        most = (most * 2).min(BATCH_MAX);
    }
    finder.release(budget);
    Ok(())
}

fn deliver(
    snapshot: &Snapshot<Traces>,
    tenant: TenantId,
    batch: &[(i64, TraceId)],
    wants: &SpanWants<'_>,
    spans_max: usize,
    budget: &dyn QueryBudget,
    each: &mut dyn FnMut(&StoredTrace, i64) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, StoreError> {
    let mut rest = batch;
    let mut most = batch.len();
    while !rest.is_empty() {
        let (now, after) = rest.split_at(most.min(rest.len()));
        let mut ids: Vec<TraceId> = now.iter().map(|(_, id)| *id).collect();
        ids.sort_unstable();
        keep_by_summary(snapshot, tenant, &mut ids, wants, spans_max);
        let traces = match fetch(snapshot, tenant, &ids, wants, spans_max, budget) {
            Ok(traces) => traces,
            // Traces may be huge: fewer at once may fit.
            Err(StoreError::Budget(BudgetError::Bytes(_))) if most > 1 => {
                most = (most.min(rest.len()) / 4).max(1);
                continue;
            }
            Err(error) => return Err(error),
        };
        rest = after;
        let found = now.iter().filter_map(|(latest, id)| traces.get(id).map(|trace| (trace, *latest)));
        let mut flow = ControlFlow::Continue(());
        for (trace, latest) in found {
            flow = each(trace, latest);
            if flow.is_break() {
                break;
            }
        }
        release(traces.values(), budget);
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Groups sorted spans by resource and scope, in order of first start.
fn group(spans: Vec<Arc<StoredSpan>>) -> Vec<SpanGroup> {
    let mut groups: Vec<SpanGroup> = Vec::new();
    let mut by_pointer: FxHashMap<*const Origin, usize> = FxHashMap::default();
    // The spans stay, so that no address is used twice.
    for stored in &spans {
        let index = *by_pointer.entry(Arc::as_ptr(&stored.origin)).or_insert_with(|| {
            let origin = &stored.origin;
            let same = |g: &SpanGroup| g.resource == origin.resource && g.scope == origin.scope;
            groups.iter().position(same).unwrap_or_else(|| {
                groups.push(SpanGroup {
                    resource: Arc::clone(&origin.resource),
                    scope: Arc::clone(&origin.scope),
                    spans: Vec::new(),
                });
                groups.len() - 1
            })
        });
        groups[index].spans.push(stored.span.clone());
    }
    groups
}

/// Service names, sorted. Of parts what their tables say: a service counts when its spans surround the range.
pub(crate) fn services(snapshot: &Snapshot<Traces>, tenant: TenantId, range: NanoRange) -> Vec<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for stored in snapshot.memtables.iter().flat_map(|m| m.table.spans(tenant)) {
        let name = stored.origin.resource.service_name();
        if range.contains(stored.span.start_ns) && !names.contains(name) {
            names.insert(name.to_owned());
        }
    }
    for operation in snapshot.parts.iter().flat_map(|part| &part.table.operations) {
        if range.overlaps(operation.min_t, operation.max_t) && !names.contains(&operation.service) {
            names.insert(operation.service.clone());
        }
    }
    names.remove("");
    names.into_iter().collect()
}

/// `(name, kind)` of the spans of a service, sorted, likewise.
pub(crate) fn operations(
    snapshot: &Snapshot<Traces>,
    tenant: TenantId,
    service: &str,
    range: NanoRange,
) -> Vec<(String, SpanKind)> {
    let mut found: BTreeMap<(String, u8), SpanKind> = BTreeMap::new();
    for stored in snapshot.memtables.iter().flat_map(|m| m.table.spans(tenant)) {
        let span = &stored.span;
        if range.contains(span.start_ns) && stored.origin.resource.service_name() == service {
            found.insert((span.name.clone(), span.kind as u8), span.kind);
        }
    }
    for operation in snapshot.parts.iter().flat_map(|part| &part.table.operations) {
        if operation.service == service && range.overlaps(operation.min_t, operation.max_t) {
            found.insert((operation.name.clone(), operation.kind as u8), operation.kind);
        }
    }
    found.into_iter().map(|((name, _), kind)| (name, kind)).collect()
}
