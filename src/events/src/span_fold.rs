//! Reading spans in any order, in columns, each once.
//!
//! A span that was sent twice may lie in two parts. Only the spans of traces that are in several places are held
//! against each other; those of all others go from their block to who asked.

use std::borrow::Cow;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use trefoil_model::{
    Attributes, NanoRange, QueryBudget, Span, SpanFold, SpanQuery, SpanRows, SpanSet, SpanWants, StoreError, TraceId,
};

use crate::EventsError;
use crate::engine::Snapshot;
use crate::part_file::{PartReader, SPANS_VERSION};
use crate::span_block::StoredSpan;
use crate::span_build::empty_span;
use crate::span_part::{Traces, read_block};
use crate::span_rows::{SpanRowsReader, Values};
use crate::span_scan::{Chosen, Root, blocks_of, choose, passes};
use crate::trace_index::TraceChunkReader;
use crate::trace_read::{fetch, release};
use crate::wire::Malformed;

/// Traces that are fetched at once.
const BATCH: usize = 1024;
/// What is remembered of a trace that is in several places.
const TRACE_BYTES: u64 = 32;

/// Takes spans: in rows, or by what is chosen of a block.
pub(crate) trait Taker {
    /// What must be there of spans that come in rows.
    fn wants(&self) -> SpanWants<'_>;
    /// Takes spans that do not come from one block.
    fn rows(&mut self, rows: &SpanRows<'_>) -> ControlFlow<()>;
    /// Takes spans of a block.
    fn block(&mut self, chosen: &Chosen<'_>) -> Result<ControlFlow<()>, Malformed>;
}

/// Hands all on to a fold.
struct Folding<'f> {
    wants: &'f SpanWants<'f>,
    fold: &'f mut (dyn SpanFold + 'f),
}

impl Taker for Folding<'_> {
    fn wants(&self) -> SpanWants<'_> {
        *self.wants
    }

    fn rows(&mut self, rows: &SpanRows<'_>) -> ControlFlow<()> {
        self.fold.rows(rows)
    }

    fn block(&mut self, chosen: &Chosen<'_>) -> Result<ControlFlow<()>, Malformed> {
        fold_rows(chosen, self.wants, self.fold)
    }
}

/// The rows of a taker as a fold.
struct Rows<'t>(&'t mut (dyn Taker + 't));

impl SpanFold for Rows<'_> {
    fn rows(&mut self, rows: &SpanRows<'_>) -> ControlFlow<()> {
        self.0.rows(rows)
    }
}

/// Delivers the spans that may match, each once, to `fold`. A damaged block that may have some is an error.
pub(crate) fn fold(
    snapshot: &Snapshot<Traces>,
    query: &SpanQuery,
    wants: &SpanWants<'_>,
    spans_max: usize,
    budget: &dyn QueryBudget,
    fold: &mut (dyn SpanFold + '_),
) -> Result<(), StoreError> {
    each_block(snapshot, query, wants, spans_max, budget, &mut Folding { wants, fold })
}

/// As [`fold`], for who takes blocks too.
pub(crate) fn each_block(
    snapshot: &Snapshot<Traces>,
    query: &SpanQuery,
    wants: &SpanWants<'_>,
    spans_max: usize,
    budget: &dyn QueryBudget,
    taker: &mut (dyn Taker + '_),
) -> Result<(), StoreError> {
    // Taken once: what comes meanwhile may be something again that a part has.
    let memtables: Vec<_> = snapshot.memtables.iter().map(|m| m.table.unique_spans(query.tenant)).collect();
    let with_roots = taker.wants().roots;
    // With their roots, traces are in several places wherever these are.
    let anywhere = SpanQuery { tenant: query.tenant, ..SpanQuery::default() };
    let shared = shared_traces(snapshot, &memtables, if with_roots { &anywhere } else { query }, budget)?;
    budget.charge_bytes(shared.len() as u64 * TRACE_BYTES)?;
    let mut blocks: Vec<(i64, usize, u32)> = Vec::new();
    for (index, part) in snapshot.parts.iter().enumerate().filter(|(_, part)| part.version >= SPANS_VERSION) {
        budget.check()?;
        let wanted = blocks_of(part, query, wants);
        blocks.extend(wanted.iter().map(|n| (part.table.blocks[n as usize].max_t, index, n)));
    }
    blocks.sort_unstable();
    let mut roots: Vec<Option<Roots>> = snapshot.parts.iter().map(|_| None).collect();
    let mut flow = fold_memtables(&memtables, query, wants, &shared, with_roots, &mut Rows(taker));
    if flow.is_continue() {
        flow = fold_shared(snapshot, query, spans_max, &shared, budget, taker)?;
    }
    for (_, part, block) in blocks.into_iter().rev() {
        if flow.is_break() {
            break;
        }
        budget.check()?;
        let (part, roots) = (&snapshot.parts[part], &mut roots[part]);
        let roots = match roots {
            Some(roots) => Some(&*roots),
            None if with_roots => Some(&*roots.insert(roots_of(part, budget)?)),
            None => None,
        };
        flow = fold_block(part, block as usize, query, wants, (&shared, roots), taker)?;
    }
    budget.release_bytes(shared.len() as u64 * TRACE_BYTES);
    Ok(())
}

/// The roots of the traces of a part.
type Roots = FxHashMap<TraceId, Root>;

/// What a root takes.
const ROOT_BYTES: u64 = 72;

/// The roots of a part, as its summaries say: they are right for traces that are in one place.
fn roots_of(part: &PartReader, budget: &dyn QueryBudget) -> Result<Roots, StoreError> {
    let mut roots = Roots::default();
    let mut texts: FxHashMap<String, Arc<str>> = FxHashMap::default();
    for (number, chunk) in part.table.trace_chunks.iter().enumerate() {
        budget.check()?;
        budget.charge_bytes(chunk.count * ROOT_BYTES)?;
        let read = TraceChunkReader::open(part, chunk).and_then(|reader| {
            let summaries = reader.summaries()?;
            Ok((reader.ids, summaries))
        });
        let (ids, summaries) = read.map_err(|m: Malformed| part.corrupt_summaries(number, &m.to_string()))?;
        for (id, summary) in ids.into_iter().zip(summaries) {
            let mut text = |text: String| match texts.get(&text) {
                Some(known) => Arc::clone(known),
                None => {
                    let shared: Arc<str> = text.as_str().into();
                    texts.insert(text, Arc::clone(&shared));
                    shared
                }
            };
            roots.insert(id, summary.root.map(|(_, service, name)| (text(service), text(name))));
        }
    }
    Ok(roots)
}

/// The ids of the traces of one place, in order.
enum Ids<'p> {
    Part { part: &'p PartReader, chunk: usize, ids: Vec<(TraceId, bool)>, at: usize },
    Listed { ids: Vec<(TraceId, bool)>, at: usize },
}

impl Ids<'_> {
    /// The next id, and whether its spans may be there twice.
    fn next(&mut self) -> Option<(TraceId, bool)> {
        match self {
            Self::Listed { ids, at } => {
                *at += 1;
                ids.get(*at - 1).copied()
            }
            Self::Part { part, chunk, ids, at } => loop {
                if let Some(id) = ids.get(*at) {
                    *at += 1;
                    return Some(*id);
                }
                let place = part.table.trace_chunks.get(*chunk)?;
                *chunk += 1;
                *at = 0;
                let read = TraceChunkReader::open(part, place).and_then(|reader| {
                    let is_split = reader.is_split()?;
                    Ok(reader.ids.iter().copied().zip(is_split).collect())
                });
                *ids = match read {
                    Ok(ids) => ids,
                    Err(malformed) => {
                        let malformed: Malformed = malformed;
                        part.corrupt_summaries(*chunk - 1, &malformed.to_string());
                        ids_of_blocks(part, *chunk - 1)
                    }
                };
            },
        }
    }
}

/// What blocks say instead of a damaged chunk: all may be there twice.
fn ids_of_blocks(part: &PartReader, chunk: usize) -> Vec<(TraceId, bool)> {
    let chunks = &part.table.trace_chunks;
    let first = chunks[chunk].first;
    let end = chunks.get(chunk + 1).map(|next| next.first);
    let mut found = Vec::new();
    for (number, block) in part.table.blocks.iter().enumerate() {
        if block.traces.is_some_and(|(_, last)| last >= first) {
            let read = part.block(number).map(|bytes| SpanRowsReader::open(bytes, block).and_then(|r| r.traces()));
            if let Ok(Ok(ids)) = read {
                found.extend(ids.into_iter().filter(|id| *id >= first && end.is_none_or(|end| *id < end)));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(|id| (id, true)).collect()
}

/// The traces that are in several places within the range of a query, and all that are in parts of version 1.
fn shared_traces(
    snapshot: &Snapshot<Traces>,
    memtables: &[Vec<Arc<StoredSpan>>],
    query: &SpanQuery,
    budget: &dyn QueryBudget,
) -> Result<FxHashSet<TraceId>, StoreError> {
    let range = query.range.unwrap_or(NanoRange::ALL);
    let mut places: Vec<Ids<'_>> = Vec::new();
    for spans in memtables {
        let mut ids: Vec<TraceId> = spans.iter().map(|s| s.span.trace_id).collect();
        ids.sort_unstable();
        ids.dedup();
        places.push(Ids::Listed { ids: ids.into_iter().map(|id| (id, false)).collect(), at: 0 });
    }
    for part in &snapshot.parts {
        budget.check()?;
        // The same span has the same start.
        if !range.overlaps(part.meta.min_t, part.meta.max_t) {
            continue;
        }
        if part.version >= SPANS_VERSION {
            places.push(Ids::Part { part, chunk: 0, ids: Vec::new(), at: 0 });
            continue;
        }
        let mut ids: FxHashSet<TraceId> = FxHashSet::default();
        for block in blocks_of(part, query, &SpanWants::default()) {
            budget.check()?;
            let spans = read_block(part, block as usize, &|_| true, &SpanWants::default())?;
            ids.extend(spans.iter().map(|s| s.span.trace_id));
        }
        let mut ids: Vec<(TraceId, bool)> = ids.into_iter().map(|id| (id, true)).collect();
        ids.sort_unstable();
        places.push(Ids::Listed { ids, at: 0 });
    }
    let mut shared = FxHashSet::default();
    let mut heap: BinaryHeap<std::cmp::Reverse<(TraceId, usize, bool)>> = BinaryHeap::new();
    for (index, place) in places.iter_mut().enumerate() {
        heap.extend(place.next().map(|(id, is_split)| std::cmp::Reverse((id, index, is_split))));
    }
    let (mut last, mut count) = (None, 0u64);
    while let Some(mut top) = heap.peek_mut() {
        let std::cmp::Reverse((id, index, is_split)) = *top;
        if is_split || last == Some(id) {
            shared.insert(id);
        }
        last = Some(id);
        match places[index].next() {
            Some((id, is_split)) => *top = std::cmp::Reverse((id, index, is_split)),
            None => drop(std::collections::binary_heap::PeekMut::pop(top)),
        }
        count += 1;
        if count.is_multiple_of(8192) {
            budget.check()?;
        }
    }
    Ok(shared)
}

fn fold_memtables(
    memtables: &[Vec<Arc<StoredSpan>>],
    query: &SpanQuery,
    wants: &SpanWants<'_>,
    shared: &FxHashSet<TraceId>,
    with_roots: bool,
    fold: &mut (dyn SpanFold + '_),
) -> ControlFlow<()> {
    for spans in memtables {
        let mut roots: FxHashMap<TraceId, &StoredSpan> = FxHashMap::default();
        for stored in spans.iter().filter(|s| with_roots && s.span.parent_span_id.is_none()) {
            let root = roots.entry(stored.span.trace_id).or_insert(stored);
            if (stored.span.start_ns, stored.span.span_id) < (root.span.start_ns, root.span.span_id) {
                *root = stored;
            }
        }
        let own = spans.iter().map(|s| &**s).filter(|s| !shared.contains(&s.span.trace_id));
        let passing: Vec<&StoredSpan> = own.filter(|s| passes(query, wants, s)).collect();
        for spans in passing.chunks(512) {
            deliver_spans(spans, with_roots.then_some(&roots), fold)?;
        }
    }
    ControlFlow::Continue(())
}

/// Delivers spans, each as a set of its own.
fn deliver_spans(
    spans: &[&StoredSpan],
    roots: Option<&FxHashMap<TraceId, &StoredSpan>>,
    fold: &mut (dyn SpanFold + '_),
) -> ControlFlow<()> {
    let root = |s: &&StoredSpan| {
        let root = roots.and_then(|roots| roots.get(&s.span.trace_id));
        root.map(|root| (root.origin.resource.service_name(), root.span.name.as_str()))
    };
    let roots: Vec<Option<(&str, &str)>> = if roots.is_some() { spans.iter().map(root).collect() } else { Vec::new() };
    let sets: Vec<SpanSet<'_>> =
        spans.iter().map(|s| SpanSet { resource: &s.origin.resource, scope: &s.origin.scope, span: &s.span }).collect();
    let numbers: Vec<u32> = (0..spans.len() as u32).collect();
    fold.rows(&SpanRows {
        trace_of: &numbers,
        traces: &spans.iter().map(|s| s.span.trace_id).collect::<Vec<_>>(),
        roots: &roots,
        span_ids: &spans.iter().map(|s| s.span.span_id).collect::<Vec<_>>(),
        starts: &spans.iter().map(|s| s.span.start_ns).collect::<Vec<_>>(),
        ends: &spans.iter().map(|s| s.span.end_ns).collect::<Vec<_>>(),
        set_of: &numbers,
        sets: &sets,
    })
}

fn fold_shared(
    snapshot: &Snapshot<Traces>,
    query: &SpanQuery,
    spans_max: usize,
    shared: &FxHashSet<TraceId>,
    budget: &dyn QueryBudget,
    taker: &mut (dyn Taker + '_),
) -> Result<ControlFlow<()>, StoreError> {
    let mut ids: Vec<TraceId> = shared.iter().copied().collect();
    ids.sort_unstable();
    for ids in ids.chunks(BATCH) {
        let wants = taker.wants();
        let (is_error, is_root) = (wants.is_error, wants.is_root);
        let traces = fetch(snapshot, query.tenant, ids, &wants, spans_max, budget)?;
        let mut flow = ControlFlow::Continue(());
        for trace in ids.iter().filter_map(|id| traces.get(id)) {
            let keep = |group: &trefoil_model::SpanGroup, span: &Span| {
                trefoil_model::trace_visit::may_match(query, group.resource.service_name(), span)
                    && (!is_error || span.status_code == trefoil_model::StatusCode::Error)
                    && (!is_root || span.parent_span_id.is_none())
            };
            flow = trefoil_model::span_columns::deliver(trace, &keep, &mut Rows(taker));
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

fn fold_block(
    part: &PartReader,
    block: usize,
    query: &SpanQuery,
    wants: &SpanWants<'_>,
    (shared, roots): (&FxHashSet<TraceId>, Option<&Roots>),
    taker: &mut (dyn Taker + '_),
) -> Result<ControlFlow<()>, EventsError> {
    let mut chosen = choose(part, block, query, wants)?;
    if let Some(roots) = roots {
        chosen.roots = chosen.light.traces.iter().map(|id| roots.get(id).cloned().flatten()).collect();
    }
    if !shared.is_empty() {
        for trace in 0..chosen.light.traces.len() {
            if shared.contains(&chosen.light.traces[trace]) {
                let rows = chosen.light.rows_of(trace);
                chosen.rows[rows].fill(false);
            }
        }
    }
    taker.block(&chosen).map_err(|m| part.corrupt(block, &m.to_string()))
}

/// Sets of a block, split by the values of wanted attributes.
struct Sets {
    /// For each picked row its set.
    of: Vec<u32>,
    /// For each the set of the block, and a span.
    list: Vec<(u32, Span)>,
}

impl Sets {
    /// Every span is a set of its own.
    fn each(chosen: &Chosen<'_>, picked: &[usize], wants: &SpanWants<'_>) -> Result<Self, Malformed> {
        let spans = chosen.reader.spans(&chosen.light, &chosen.rows, wants)?;
        let list = picked.iter().zip(&spans).map(|(row, s)| (chosen.light.set_of[*row], s.span.clone())).collect();
        Ok(Self { of: (0..picked.len() as u32).collect(), list })
    }
}

/// Delivers the chosen rows of a block.
pub(crate) fn fold_rows(
    chosen: &Chosen<'_>,
    wants: &SpanWants<'_>,
    fold: &mut (dyn SpanFold + '_),
) -> Result<ControlFlow<()>, Malformed> {
    let Chosen { reader, light, rows, roots } = chosen;
    let picked: Vec<usize> = (0..rows.len()).filter(|row| rows[*row]).collect();
    if picked.is_empty() {
        return Ok(ControlFlow::Continue(()));
    }
    let is_heavy = !wants.without_events || !wants.without_links;
    let ids = reader.span_ids()?;
    let sets = if is_heavy { Sets::each(chosen, &picked, wants)? } else { sets_of(chosen, &picked, wants)? };
    let origins = reader.wanted_origins(light, wants.without_resources)?;
    let origin = |set: u32| &origins[light.sets[set as usize].origin as usize];
    let list: Vec<SpanSet<'_>> = sets
        .list
        .iter()
        .map(|(set, span)| SpanSet { resource: &origin(*set).resource, scope: &origin(*set).scope, span })
        .collect();
    let mut trace_of = Vec::with_capacity(picked.len());
    let mut trace = 0;
    for row in &picked {
        while *row >= light.trace_ends[trace] as usize {
            trace += 1;
        }
        trace_of.push(trace as u32);
    }
    let picked_of = |all: &[i64]| picked.iter().map(|row| all[*row]).collect::<Vec<i64>>();
    let is_all = picked.len() == rows.len();
    let (starts, ends, span_ids) = match is_all {
        true => (Cow::Borrowed(&light.starts), Cow::Borrowed(&light.ends), ids),
        false => (
            Cow::Owned(picked_of(&light.starts)),
            Cow::Owned(picked_of(&light.ends)),
            picked.iter().map(|row| ids[*row]).collect(),
        ),
    };
    Ok(fold.rows(&SpanRows {
        trace_of: &trace_of,
        traces: &light.traces,
        roots: &roots.iter().map(|root| root.as_ref().map(|(s, n)| (&**s, &**n))).collect::<Vec<_>>(),
        span_ids: &span_ids,
        starts: &starts,
        ends: &ends,
        set_of: &sets.of,
        sets: &list,
    }))
}

/// Splits the sets of the picked rows by the values of the wanted attributes; a span stands for each.
fn sets_of(chosen: &Chosen<'_>, picked: &[usize], wants: &SpanWants<'_>) -> Result<Sets, Malformed> {
    let Chosen { reader, light, rows, .. } = chosen;
    let is_plain = matches!(wants.attributes, trefoil_model::SpanAttributeWants::Names([]));
    let shapes = if is_plain && wants.without_messages { None } else { Some(reader.shapes()?) };
    let smalls = shapes.filter(|_| !wants.without_messages).map(|shapes| &shapes.smalls);
    let wanted: Vec<(usize, &str, Option<usize>)> = shapes.map_or_else(Vec::new, |shapes| {
        let names = shapes.names.iter().enumerate().filter(|(_, (name, _))| wants.attributes.wants(name));
        names.map(|(number, (name, column))| (number, name.as_str(), *column)).collect()
    });
    // Rare names and many names: span by span.
    if wanted.iter().any(|(_, _, column)| column.is_none()) || wanted.len() > 8 {
        return Sets::each(chosen, picked, wants);
    }
    let mut current: Vec<u32> = light.set_of.clone();
    // Set and value of the first occurrence, one name after the other; what follows is added to the span.
    let mut list: Vec<(u32, Attributes)> = (0..light.sets.len() as u32).map(|set| (set, Vec::new())).collect();
    if let Some(shapes) = shapes {
        for (number, name, column) in &wanted {
            let Some(column) = column else { continue };
            let values: Values<'_> = reader.values(*column)?;
            let times = |shape: &Vec<u32>| shape.iter().filter(|n| **n as usize == *number).count();
            let times: Vec<usize> = shapes.shapes.iter().map(times).collect();
            let mut known: FxHashMap<(u32, u32), u32> = FxHashMap::default();
            let mut next_list: Vec<(u32, Attributes)> = Vec::new();
            let mut at = 0;
            for row in 0..current.len() {
                let shape = light.sets[light.set_of[row] as usize].shape as usize;
                let count = *times.get(shape).ok_or(Malformed("reference"))?;
                let here = at;
                at += count;
                if !rows[row] {
                    continue;
                }
                let value = match count {
                    0 => 0,
                    _ => u32::try_from(values.number_of(here)? + 1).map_err(|_| Malformed("reference"))?,
                };
                let key = (current[row], value);
                current[row] = match known.get(&key) {
                    Some(set) => *set,
                    None => {
                        let (set, attributes) = &list[key.0 as usize];
                        let mut attributes = attributes.clone();
                        if let Some(number) = value.checked_sub(1) {
                            attributes.push(((*name).to_owned(), values.distinct(number as usize)?));
                        }
                        let index = u32::try_from(next_list.len()).map_err(|_| Malformed("count"))?;
                        next_list.push((*set, attributes));
                        known.insert(key, index);
                        index
                    }
                };
            }
            list = next_list;
        }
    }
    let span = |(set, attributes): (u32, Attributes)| {
        let info = &light.sets[set as usize];
        let mut span = empty_span(info, &light.names);
        span.attributes = attributes;
        if let Some(smalls) = smalls {
            let small = smalls.get(info.small as usize).ok_or(Malformed("reference"))?;
            span.trace_state.clone_from(&small.state);
            span.status_message.clone_from(&small.message);
            (span.flags, span.dropped) = (small.flags, small.dropped);
        }
        Ok((set, span))
    };
    let of = picked.iter().map(|row| current[*row]).collect();
    Ok(Sets { of, list: list.into_iter().map(span).collect::<Result<_, Malformed>>()? })
}
