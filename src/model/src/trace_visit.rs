//! Visits all traces that a search finds without holding them all: pages of [`TraceReader::find`].

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{BudgetError, NanoRange, QueryBudget, SpanQuery, StoreError, StoredTrace, TraceId, TraceReader};

/// Traces of the first page; each further one is twice as large.
const PAGE_FIRST: usize = 64;
/// Traces of the largest page.
const PAGE_MAX: usize = 4096;
/// What is remembered of a trace that may be found again.
const SEEN_BYTES: u64 = 48;

/// Passes charges on and counts the bytes, to give them back after a page.
struct Tally<'a> {
    budget: &'a dyn QueryBudget,
    bytes: AtomicU64,
}

impl Tally<'_> {
    fn give_back(&self) {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        if bytes > 0 {
            self.budget.release_bytes(bytes);
        }
    }
}

impl QueryBudget for Tally<'_> {
    fn check(&self) -> Result<(), BudgetError> {
        self.budget.check()
    }
    fn charge_samples(&self, n: u64) -> Result<(), BudgetError> {
        self.budget.charge_samples(n)
    }
    fn release_samples(&self, n: u64) {
        self.budget.release_samples(n);
    }
    fn charge_series(&self, n: u64) -> Result<(), BudgetError> {
        self.budget.charge_series(n)
    }
    fn charge_bytes(&self, n: u64) -> Result<(), BudgetError> {
        self.budget.charge_bytes(n)?;
        self.bytes.fetch_add(n, Ordering::Relaxed);
        Ok(())
    }
    fn release_bytes(&self, n: u64) {
        let before = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |b| Some(b.saturating_sub(n)));
        self.budget.release_bytes(before.map_or(0, |b| b.min(n)));
    }
}

/// Whether a span satisfies what a query says of its time, service, name and duration. The tags are not looked at.
pub fn may_match(query: &SpanQuery, service: &str, span: &crate::Span) -> bool {
    query.range.is_none_or(|range| range.contains(span.start_ns))
        && query.min_duration_ns.is_none_or(|min| span.duration_ns() >= min)
        && query.max_duration_ns.is_none_or(|max| span.duration_ns() <= max)
        && query.operation.as_deref().is_none_or(|name| span.name == name)
        && query.service.as_deref().is_none_or(|wanted| service == wanted)
}

/// First and latest start of the spans that may match.
fn bounds(query: &SpanQuery, trace: &StoredTrace) -> Option<(i64, i64)> {
    let starts = trace.groups.iter().flat_map(|g| {
        let service = g.resource.service_name();
        g.spans.iter().filter(move |s| may_match(query, service, s)).map(|s| s.start_ns)
    });
    starts.fold(None, |so_far: Option<(i64, i64)>, t| {
        Some(so_far.map_or((t, t), |(first, last)| (first.min(t), last.max(t))))
    })
}

/// The latest start of a span of the trace that may match, by which searches are ordered.
pub fn latest_start(query: &SpanQuery, trace: &StoredTrace) -> Option<i64> {
    bounds(query, trace).map(|(_, last)| last)
}

/// See [`TraceReader::visit`].
pub(crate) fn pages<R: TraceReader + ?Sized>(
    reader: &R,
    query: &SpanQuery,
    budget: &dyn QueryBudget,
    each: &mut dyn FnMut(&StoredTrace) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let tally = Tally { budget, bytes: AtomicU64::new(0) };
    // Traces that were visited and may be found again, with their first start.
    let mut seen: HashMap<TraceId, i64> = HashMap::new();
    let mut page = SpanQuery { limit: PAGE_FIRST, ..query.clone() };
    let mut charged = 0;
    let mut page_max = PAGE_MAX;
    // The last page was not large enough to get on.
    let mut is_stuck = false;
    let result = loop {
        if let Err(error) = budget.check() {
            break Err(error.into());
        }
        let traces = match reader.find(&page, &tally) {
            Ok(traces) => traces,
            // Traces may be huge: fewer at once may fit.
            Err(StoreError::Budget(BudgetError::Bytes(_))) if page.limit > 1 && !is_stuck => {
                tally.give_back();
                page_max = (page.limit / 4).max(1);
                page.limit = page_max;
                continue;
            }
            Err(error) => break Err(error),
        };
        let is_full = traces.len() >= page.limit;
        let mut oldest = None;
        let mut is_over = false;
        for trace in &traces {
            let Some((first, last)) = bounds(&page, trace) else { continue };
            oldest = Some(last);
            if seen.insert(trace.trace_id, first).is_none() && each(trace).is_break() {
                is_over = true;
                break;
            }
        }
        drop(traces);
        tally.give_back();
        let Some(oldest) = oldest.filter(|_| is_full && !is_over) else { break Ok(()) };
        let range = page.range.unwrap_or(NanoRange::ALL);
        let end_ns = oldest.saturating_add(1);
        if end_ns >= range.end_ns {
            // So many spans start in the same nanosecond.
            is_stuck = true;
            page.limit = page.limit.saturating_mul(2);
            continue;
        }
        is_stuck = false;
        page.limit = page.limit.saturating_mul(2).min(page_max);
        page.range = Some(NanoRange { end_ns, ..range });
        seen.retain(|_, first| *first < end_ns);
        let held = seen.len() as u64 * SEEN_BYTES;
        if held > charged {
            if let Err(error) = budget.charge_bytes(held - charged) {
                break Err(error.into());
            }
            charged = held;
        }
    };
    tally.give_back();
    budget.release_bytes(charged);
    result
}
