//! Which blocks a query of spans reads, and which of their spans may match.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;
use trefoil_model::{
    AttributeValue, BudgetError, ConditionScope, NanoRange, QueryBudget, SpanQuery, SpanWants, StatusCode, StoreError,
    TraceId, value,
};

use crate::engine::Snapshot;
use crate::part_file::{PartReader, SPANS_VERSION};
use crate::span_block::{OPERATION_TERM, SERVICE_TERM, StoredSpan, has_tag};
use crate::span_part::{Traces, read_block};
use crate::span_rows::{Light, SpanRowsReader};
use crate::tokens::{Condition, attribute_condition};

/// Whether a span satisfies everything that is given.
pub(crate) fn matches(query: &SpanQuery, stored: &StoredSpan) -> bool {
    trefoil_model::trace_visit::may_match(query, stored.origin.resource.service_name(), &stored.span)
        && query.tags.iter().all(|(name, value)| has_tag(stored, name, value))
}

/// Whether a span satisfies the query and the conditions, as far as they can be asked.
pub(crate) fn passes(query: &SpanQuery, wants: &SpanWants<'_>, stored: &StoredSpan) -> bool {
    matches(query, stored)
        && (!wants.is_error || stored.span.status_code == StatusCode::Error)
        && (!wants.is_root || stored.span.parent_span_id.is_none())
        && wants.light.is_none_or(|light| light(&stored.span))
        && wants.conditions.iter().all(|condition| match condition.scope {
            ConditionScope::Any => true,
            ConditionScope::Span => {
                let found = value::find(&stored.span.attributes, condition.name);
                (condition.test)(found.unwrap_or(&AttributeValue::Null))
            }
            ConditionScope::Resource if condition.name == "service.name" => {
                let service = stored.origin.resource.service_name().to_owned();
                (condition.test)(&AttributeValue::String(service))
            }
            ConditionScope::Resource => {
                let found = value::find(&stored.origin.resource.attributes, condition.name);
                (condition.test)(found.unwrap_or(&AttributeValue::Null))
            }
        })
}

/// What conditions ask of the term index.
struct Terms {
    /// Of service and name.
    named: Vec<Condition>,
    tags: Vec<Condition>,
    /// Alternatives, for parts whose index has elements of lists and links too.
    any: Vec<Vec<Condition>>,
}

impl Terms {
    fn of(query: &SpanQuery, wants: &SpanWants<'_>) -> Self {
        let terms = [(SERVICE_TERM, query.service.as_ref()), (OPERATION_TERM, query.operation.as_ref())];
        // A span without a service has no term for it.
        let terms = terms.into_iter().filter_map(|(n, v)| v.filter(|v| !v.is_empty()).map(|v| (n, v)));
        let named = terms.filter_map(|(name, value)| attribute_condition(name, value)).collect();
        let tags = query.tags.iter().filter_map(|(name, value)| attribute_condition(name, value)).collect();
        let mut any = Vec::new();
        for condition in wants.conditions.iter().filter(|c| !c.any_of.is_empty()) {
            let texts = condition.any_of.iter().map(|text| attribute_condition(condition.name, text));
            // Without a term for one of them the index tells nothing.
            any.extend(texts.collect::<Option<Vec<Condition>>>());
        }
        Self { named, tags, any }
    }
}

/// The blocks of a part that may have a matching span.
pub(crate) fn blocks_of(part: &PartReader, query: &SpanQuery, wants: &SpanWants<'_>) -> RoaringBitmap {
    let range = query.range.unwrap_or(NanoRange::ALL);
    let is_of = |(_, o): &(u32, &crate::table::OperationInfo)| {
        query.service.as_ref().is_none_or(|service| o.service == *service)
            && query.operation.as_ref().is_none_or(|name| o.name == *name)
    };
    let is_named = query.service.is_some() || query.operation.is_some();
    let operations: RoaringBitmap = match is_named {
        true => (0u32..).zip(&part.table.operations).filter(is_of).map(|(n, _)| n).collect(),
        false => RoaringBitmap::new(),
    };
    let may_have = |block: &crate::table::BlockInfo| {
        if query.range.is_some() && !range.overlaps(block.min_t, block.max_t) {
            return false;
        }
        let Some(stats) = &block.spans else { return true };
        let within = |limit: Option<i64>, holds: &dyn Fn(u64) -> bool| {
            limit.is_none_or(|limit| u64::try_from(limit).map_or(limit < 0, holds))
        };
        (!wants.is_error || stats.errors > 0)
            && within(query.min_duration_ns, &|min| stats.max_duration >= min)
            && query.max_duration_ns.is_none_or(|max| u64::try_from(max).is_ok_and(|max| stats.min_duration <= max))
            && (!is_named || stats.operations.as_ref().is_none_or(|own| own.iter().any(|n| operations.contains(*n))))
    };
    let blocks = (0u32..).zip(&part.table.blocks);
    let mut wanted: RoaringBitmap = blocks.filter(|(_, block)| may_have(block)).map(|(number, _)| number).collect();
    let terms = Terms::of(query, wants);
    if part.version < SPANS_VERSION {
        part.narrow(&mut wanted, &terms.named);
        part.narrow(&mut wanted, &terms.tags);
        return wanted;
    }
    // What is known of operations is as good as terms of service and name.
    part.narrow(&mut wanted, &terms.tags);
    for alternatives in &terms.any {
        if wanted.is_empty() {
            break;
        }
        let mut found = RoaringBitmap::new();
        for one in alternatives {
            let mut blocks = wanted.clone();
            part.narrow(&mut blocks, std::slice::from_ref(one));
            found |= blocks;
        }
        wanted &= found;
    }
    wanted
}

/// Spans of a block that may match, in rows.
pub(crate) struct Chosen<'a> {
    pub(crate) reader: SpanRowsReader<'a>,
    pub(crate) light: Light,
    pub(crate) rows: Vec<bool>,
    /// For each trace of the block service and name of its root; empty when they were not asked for.
    pub(crate) roots: Vec<Root>,
}

/// Service and name of the root of a trace, if it has one.
pub(crate) type Root = Option<(Arc<str>, Arc<str>)>;

/// The spans of a block of version 3 that may match. Tags are looked at too.
pub(crate) fn choose<'p>(
    part: &'p PartReader,
    block: usize,
    query: &SpanQuery,
    wants: &SpanWants<'_>,
) -> Result<Chosen<'p>, crate::EventsError> {
    let bytes = part.block(block)?;
    let read = || {
        let reader = SpanRowsReader::open(bytes, &part.table.blocks[block])?;
        let light = reader.light()?;
        let mut rows = reader.passing(&light, query, wants)?;
        if !query.tags.is_empty() {
            let spans = reader.spans(&light, &rows, &SpanWants::default())?;
            let mut spans = spans.iter();
            for row in rows.iter_mut().filter(|row| **row) {
                *row = spans.next().is_some_and(|stored| matches(query, stored));
            }
        }
        Ok(Chosen { reader, light, rows, roots: Vec::new() })
    };
    read().map_err(|m: crate::Malformed| part.corrupt(block, &m.to_string()))
}

/// Finds traces with a span that may match, newest first: by the latest start of such a span, then by id.
pub(crate) struct Finder<'s> {
    parts: &'s [Arc<PartReader>],
    query: &'s SpanQuery,
    wants: &'s SpanWants<'s>,
    /// Blocks by descending last start: it, part, block. The next is the last.
    blocks: Vec<(i64, usize, usize)>,
    latest: FxHashMap<TraceId, i64>,
    /// With entries that are no longer the latest of their trace.
    heap: BinaryHeap<(i64, Reverse<TraceId>)>,
    /// What is remembered of traces, in bytes that were charged.
    charged: u64,
}

/// What is remembered of a trace.
const TRACE_BYTES: u64 = 96;
/// Marks a trace that was found already.
const FOUND: i64 = i64::MAX;

impl<'s> Finder<'s> {
    pub(crate) fn new(
        snapshot: &'s Snapshot<Traces>,
        query: &'s SpanQuery,
        wants: &'s SpanWants<'s>,
        budget: &dyn QueryBudget,
    ) -> Result<Self, StoreError> {
        let mut finder = Self {
            parts: &snapshot.parts,
            query,
            wants,
            blocks: Vec::new(),
            latest: FxHashMap::default(),
            heap: BinaryHeap::new(),
            charged: 0,
        };
        for memtable in &snapshot.memtables {
            for stored in memtable.table.spans(query.tenant).iter().filter(|s| passes(query, wants, s)) {
                finder.note(stored.span.trace_id, stored.span.start_ns);
            }
        }
        for (index, part) in snapshot.parts.iter().enumerate() {
            budget.check()?;
            let blocks = blocks_of(part, query, wants);
            finder.blocks.extend(blocks.iter().map(|n| (part.table.blocks[n as usize].max_t, index, n as usize)));
        }
        finder.blocks.sort_unstable();
        Ok(finder)
    }

    fn note(&mut self, id: TraceId, start: i64) {
        match self.latest.get_mut(&id) {
            Some(latest) if *latest >= start => return,
            Some(latest) => *latest = start,
            None => drop(self.latest.insert(id, start)),
        }
        self.heap.push((start, Reverse(id)));
    }

    /// The next traces with their latest starts, at most so many; none at the end.
    pub(crate) fn next(&mut self, most: usize, budget: &dyn QueryBudget) -> Result<Vec<(i64, TraceId)>, StoreError> {
        let mut found = Vec::new();
        while found.len() < most {
            let bar = self.blocks.last().map(|(max_t, ..)| *max_t);
            match self.heap.peek() {
                // No block that is left has a later span, and of those that start then all are known.
                Some((start, _)) if bar.is_none_or(|bar| *start > bar) => {
                    let Some((start, Reverse(id))) = self.heap.pop() else { break };
                    if let Some(latest) = self.latest.get_mut(&id).filter(|latest| **latest == start) {
                        *latest = FOUND;
                        found.push((start, id));
                    }
                }
                _ if bar.is_some() => {
                    budget.check()?;
                    self.read_block()?;
                    self.charge(budget)?;
                }
                _ => break,
            }
        }
        Ok(found)
    }

    fn charge(&mut self, budget: &dyn QueryBudget) -> Result<(), BudgetError> {
        let held = self.latest.len() as u64 * TRACE_BYTES;
        if held > self.charged {
            budget.charge_bytes(held - self.charged)?;
            self.charged = held;
        }
        Ok(())
    }

    /// Gives back what was charged.
    pub(crate) fn release(self, budget: &dyn QueryBudget) {
        budget.release_bytes(self.charged);
    }

    /// Errors when the block is damaged.
    fn read_block(&mut self) -> Result<(), crate::EventsError> {
        let Some((_, part, block)) = self.blocks.pop() else { return Ok(()) };
        let part = &self.parts[part];
        let mut found: Vec<(TraceId, i64)> = Vec::new();
        if part.version < SPANS_VERSION {
            let spans = read_block(part, block, &|_| true, &SpanWants::default())?;
            let passing = spans.iter().filter(|s| passes(self.query, self.wants, s));
            found.extend(passing.map(|s| (s.span.trace_id, s.span.start_ns)));
        } else {
            let chosen = choose(part, block, self.query, self.wants)?;
            for (trace, id) in chosen.light.traces.iter().enumerate() {
                let rows = chosen.light.rows_of(trace);
                let starts = rows.filter(|row| chosen.rows[*row]).map(|row| chosen.light.starts[row]);
                found.extend(starts.max().map(|start| (*id, start)));
            }
        }
        for (id, start) in found {
            self.note(id, start);
        }
        Ok(())
    }
}
