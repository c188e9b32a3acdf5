//! Reading spans: a trace by its id, searches, services and operations.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;
use trefoil_model::{
    NanoRange, QueryBudget, SpanGroup, SpanKind, SpanQuery, StoreError, StoredTrace, TenantId, TraceId,
};

use crate::engine::Snapshot;
use crate::part_file::PartReader;
use crate::span_block::{OPERATION_TERM, Origin, SERVICE_TERM, StoredSpan, has_tag, sort_and_deduplicate};
use crate::span_part::{Traces, read_block};
use crate::tokens::{Condition, attribute_condition, trace_key};

/// Decodes a block, or nothing of a damaged one, which is counted and logged.
fn spans_of(part: &PartReader, block: usize, only: Option<TraceId>) -> Vec<Arc<StoredSpan>> {
    read_block(part, block, only).unwrap_or_else(|error| {
        tracing::error!(part = part.meta.id.0, %error, "block was left out of a query");
        Vec::new()
    })
}

/// All spans of a trace, sorted by start, at most `spans_max`.
pub(crate) fn trace(
    snapshot: &Snapshot<Traces>,
    tenant: TenantId,
    id: TraceId,
    spans_max: usize,
    budget: &dyn QueryBudget,
) -> Result<Option<StoredTrace>, StoreError> {
    let mut spans: Vec<Arc<StoredSpan>> = Vec::new();
    for memtable in &snapshot.memtables {
        spans.extend(memtable.table.trace(tenant, id));
    }
    let key = trace_key(id);
    for part in &snapshot.parts {
        budget.check()?;
        for (number, block) in part.table.blocks.iter().enumerate() {
            let may_have =
                block.traces.is_some_and(|(first, last)| first <= id && id <= last) && part.filter_contains(block, key);
            if may_have {
                spans.extend(spans_of(part, number, Some(id)));
            }
        }
    }
    if spans.is_empty() {
        return Ok(None);
    }
    sort_and_deduplicate(&mut spans);
    if spans.len() > spans_max {
        trefoil_runtime::limits::hit("spans_per_trace_max");
        spans.truncate(spans_max);
    }
    budget.charge_bytes(spans.iter().map(|s| s.heap_bytes() as u64).sum())?;
    Ok(Some(StoredTrace { trace_id: id, groups: group(spans) }))
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

/// Whether a span satisfies everything that is given.
pub(crate) fn matches(query: &SpanQuery, stored: &StoredSpan) -> bool {
    let span = &stored.span;
    query.range.is_none_or(|range| range.contains(span.start_ns))
        && query.min_duration_ns.is_none_or(|min| span.duration_ns() >= min)
        && query.max_duration_ns.is_none_or(|max| span.duration_ns() <= max)
        && query.operation.as_deref().is_none_or(|name| span.name == name)
        && query.service.as_deref().is_none_or(|service| stored.origin.resource.service_name() == service)
        && query.tags.iter().all(|(name, value)| has_tag(stored, name, value))
}

/// The ids of the newest traces with a matching span, by its latest start, then by id.
pub(crate) fn find(
    snapshot: &Snapshot<Traces>,
    query: &SpanQuery,
    budget: &dyn QueryBudget,
) -> Result<Vec<TraceId>, StoreError> {
    let mut latest: FxHashMap<TraceId, i64> = FxHashMap::default();
    let note = |latest: &mut FxHashMap<TraceId, i64>, spans: &[Arc<StoredSpan>]| {
        for stored in spans.iter().filter(|stored| matches(query, stored)) {
            let start = latest.entry(stored.span.trace_id).or_insert(i64::MIN);
            *start = (*start).max(stored.span.start_ns);
        }
    };
    for memtable in &snapshot.memtables {
        note(&mut latest, &memtable.table.spans(query.tenant));
    }
    let mut conditions: Vec<Condition> = Vec::new();
    let terms = [(SERVICE_TERM, query.service.as_ref()), (OPERATION_TERM, query.operation.as_ref())];
    // A span without a service has no term for it.
    let terms = terms.into_iter().filter_map(|(n, v)| v.filter(|v| !v.is_empty()).map(|v| (n, v)));
    conditions.extend(terms.filter_map(|(name, value)| attribute_condition(name, value)));
    conditions.extend(query.tags.iter().filter_map(|(name, value)| attribute_condition(name, value)));
    let range = query.range.unwrap_or(NanoRange::ALL);
    let mut candidates: Vec<(Reverse<i64>, usize, usize)> = Vec::new();
    for (index, part) in snapshot.parts.iter().enumerate() {
        budget.check()?;
        let blocks = &part.table.blocks;
        let mut wanted: RoaringBitmap = (0u32..)
            .zip(blocks)
            .filter(|(_, block)| query.range.is_none() || range.overlaps(block.min_t, block.max_t))
            .map(|(number, _)| number)
            .collect();
        part.narrow(&mut wanted, &conditions);
        candidates.extend(wanted.iter().map(|n| (Reverse(blocks[n as usize].max_t), index, n as usize)));
    }
    candidates.sort_unstable();
    let mut bar = None;
    for (index, (Reverse(max_t), part, block)) in candidates.into_iter().enumerate() {
        budget.check()?;
        if index % 8 == 0 {
            bar = nth_latest(&latest, query.limit);
        }
        // Nothing in this block or those after it is later than what is found already.
        if bar.is_some_and(|bar| bar > max_t) {
            break;
        }
        note(&mut latest, &spans_of(&snapshot.parts[part], block, None));
    }
    let mut found: Vec<(Reverse<i64>, TraceId)> = latest.into_iter().map(|(id, t)| (Reverse(t), id)).collect();
    found.sort_unstable();
    found.truncate(query.limit);
    Ok(found.into_iter().map(|(_, id)| id).collect())
}

/// The latest start of the trace that is the last of the `limit` newest, when there are so many.
fn nth_latest(latest: &FxHashMap<TraceId, i64>, limit: usize) -> Option<i64> {
    if limit == 0 || latest.len() < limit {
        return None;
    }
    let mut starts: Vec<i64> = latest.values().copied().collect();
    let (_, nth, _) = starts.select_nth_unstable_by_key(limit - 1, |start| Reverse(*start));
    Some(*nth)
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
