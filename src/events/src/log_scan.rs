//! Reading log records in order of time: a merge over runs of memtables and blocks, each opened when its time comes,
//! some at once on the pool.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::sync::Arc;

use rayon::prelude::*;
use rustc_hash::FxHashMap;
use trefoil_model::event_store::ScanStats;
use trefoil_model::{Direction, Labels, LogQuery, LogWants, QueryBudget, StoreError};

use crate::EventsError;
use crate::log_block::StoredLog;
use crate::log_filter::Filter;
use crate::log_memtable::{Kept, Run};
use crate::log_plan::{BlockRead, Chosen, LogSources, Plan, What, choose, within};

/// Records between two looks at the budget.
const CHECK_INTERVAL: u64 = 1024;
/// Most blocks that are opened at once, before they are needed.
const AHEAD_MAX: usize = 16;

/// What a scan calls for each record: stream, its number within the query, the record.
pub(crate) type Each<'e> = dyn FnMut(&Labels, u64, &Arc<StoredLog>) -> ControlFlow<()> + 'e;

/// An open source: records in the order of delivery.
struct Open {
    records: Records,
    /// Index of the block: the last tie-break, should sequences be equal.
    place: usize,
    bytes: u64,
}

enum Records {
    /// Of a block, in the order of delivery.
    Block(std::vec::IntoIter<(u32, Arc<StoredLog>)>),
    /// What is left of a run, in the order of time.
    Run { stream: u32, run: Run, left: Left },
}

/// Places in a run that are still to be looked at, ascending.
enum Left {
    All(std::ops::Range<usize>),
    Some(std::vec::IntoIter<u32>),
}

impl Left {
    fn next(&mut self, direction: Direction) -> Option<usize> {
        match (self, direction) {
            (Self::All(left), Direction::Forward) => left.next(),
            (Self::All(left), Direction::Backward) => left.next_back(),
            (Self::Some(left), Direction::Forward) => left.next().map(|row| row as usize),
            (Self::Some(left), Direction::Backward) => left.next_back().map(|row| row as usize),
        }
    }
}

/// The next record of an open source.
struct Head {
    stream: u32,
    labels: Labels,
    log: Arc<StoredLog>,
    source: usize,
    place: usize,
    direction: Direction,
}

impl Head {
    fn order(&self, other: &Self) -> Ordering {
        let by_time = self.log.record.time_ns.cmp(&other.log.record.time_ns);
        let by_stream = || if self.stream == other.stream { Ordering::Equal } else { self.labels.cmp(&other.labels) };
        by_time
            .then_with(by_stream)
            .then_with(|| self.log.sequence.cmp(&other.log.sequence))
            .then_with(|| self.place.cmp(&other.place))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    /// The heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        match self.direction {
            Direction::Forward => other.order(self),
            Direction::Backward => self.order(other),
        }
    }
}

/// The wanted records of a block, in order, and what they take and took.
#[derive(Default)]
struct Decoded {
    records: Vec<(u32, Arc<StoredLog>)>,
    bytes: u64,
    read: BlockRead,
}

/// Blocks that were decoded before they are needed. Damage of one is an error when it is needed.
type Early = FxHashMap<(usize, usize), Result<Decoded, EventsError>>;

/// A scan over parts and runs.
pub(crate) struct Scan<'q> {
    query: &'q LogQuery,
    budget: &'q dyn QueryBudget,
    filter: Filter<'q>,
    stats: ScanStats,
    open_bytes: u64,
    open_bytes_charged: u64,
    /// How many blocks are opened at the next occasion.
    ahead: usize,
}

/// What takes records that are written anew.
type Rewritten<'e> = dyn FnMut(&Labels, Arc<StoredLog>) -> Result<(), EventsError> + 'e;

/// Delivers all records of parts in order, for writing them anew.
pub(crate) fn rewrite(
    query: &LogQuery,
    budget: &dyn QueryBudget,
    sources: LogSources<'_>,
    each: &mut Rewritten<'_>,
) -> Result<(), EventsError> {
    let mut failed = None;
    let scan = Scan::new(query, &LogWants::default(), budget);
    scan.run(sources, &mut |labels, _, log| match each(labels, Arc::clone(log)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })
    .map_err(EventsError::Read)?;
    failed.map_or(Ok(()), Err)
}

impl<'q> Scan<'q> {
    pub(crate) fn new(query: &'q LogQuery, wants: &LogWants<'q>, budget: &'q dyn QueryBudget) -> Self {
        Self {
            query,
            budget,
            filter: Filter::new(query, wants),
            stats: ScanStats::default(),
            open_bytes: 0,
            open_bytes_charged: 0,
            ahead: 1,
        }
    }

    /// Delivers the records of the sources in order.
    pub(crate) fn run(mut self, sources: LogSources<'_>, each: &mut Each<'_>) -> Result<ScanStats, StoreError> {
        let direction = self.query.direction;
        let any_of = self.filter.wants.any_of;
        let mut plan = Plan::new(self.query, any_of, sources, self.budget)?;
        let mut pending = std::mem::take(&mut plan.sources);
        // The next to open is at the end.
        pending.sort_by_key(|source| match direction {
            Direction::Forward => std::cmp::Reverse(i128::from(source.min_t)),
            Direction::Backward => std::cmp::Reverse(-i128::from(source.max_t)),
        });
        let mut open: Vec<Option<Open>> = Vec::new();
        let mut free: Vec<usize> = Vec::new();
        let mut heap: BinaryHeap<Head> = BinaryHeap::new();
        let mut early: Early = FxHashMap::default();
        let mut delivered = 0u64;
        loop {
            while let Some(source) = pending.last() {
                let is_due = heap.peek().is_none_or(|head| match direction {
                    Direction::Forward => source.min_t <= head.log.record.time_ns,
                    Direction::Backward => source.max_t >= head.log.record.time_ns,
                });
                if !is_due {
                    break;
                }
                self.budget.check()?;
                if let What::Block { part, block } = source.what
                    && !early.contains_key(&(part, block))
                {
                    self.decode_some(&plan, &pending, &mut early)?;
                }
                let Some(source) = pending.pop() else { break };
                let opened = self.open(&plan, source.what, &mut early)?;
                let slot = free.pop().unwrap_or_else(|| {
                    open.push(None);
                    open.len() - 1
                });
                open[slot] = Some(opened);
                self.advance(&plan, &mut open, &mut free, slot, &mut heap)?;
            }
            let Some(head) = heap.pop() else {
                if pending.is_empty() {
                    return Ok(self.stats);
                }
                continue;
            };
            delivered += 1;
            if delivered.is_multiple_of(CHECK_INTERVAL) {
                self.budget.check()?;
            }
            if each(&head.labels, u64::from(head.stream), &head.log).is_break() {
                return Ok(self.stats);
            }
            self.advance(&plan, &mut open, &mut free, head.source, &mut heap)?;
        }
    }

    /// Puts the next record of a source on the heap, or closes the source.
    fn advance(
        &mut self,
        plan: &Plan<'_>,
        open: &mut [Option<Open>],
        free: &mut Vec<usize>,
        slot: usize,
        heap: &mut BinaryHeap<Head>,
    ) -> Result<(), StoreError> {
        let direction = self.query.direction;
        let Some(source) = open[slot].as_mut() else { return Ok(()) };
        let next = match &mut source.records {
            Records::Block(records) => records.next(),
            Records::Run { stream, run, left } => self.next_of_run(run, left)?.map(|log| (*stream, Arc::new(log))),
        };
        match next {
            Some((stream, log)) => {
                let labels = plan.streams.labels[stream as usize].clone();
                heap.push(Head { stream, labels, log, source: slot, place: source.place, direction });
            }
            None => {
                self.open_bytes -= source.bytes;
                open[slot] = None;
                free.push(slot);
            }
        }
        Ok(())
    }

    /// The next wanted record of what is left of a run.
    fn next_of_run(&mut self, run: &[Kept], left: &mut Left) -> Result<Option<StoredLog>, StoreError> {
        loop {
            let Some(index) = left.next(self.query.direction) else { return Ok(None) };
            let log = &run[index];
            self.stats.records += 1;
            self.stats.bytes += log.text().len() as u64;
            if self.stats.records.is_multiple_of(CHECK_INTERVAL) {
                self.budget.check()?;
            }
            if self.filter.passes_text(log.text()) {
                return Ok(Some(log.stored()));
            }
        }
    }

    fn open(&mut self, plan: &Plan<'_>, what: What, early: &mut Early) -> Result<Open, StoreError> {
        Ok(match what {
            What::Run { stream, run, rows } => {
                let all = within(&run, plan.range(stream));
                let left = match rows {
                    None => Left::All(all),
                    Some(mut rows) => {
                        rows.retain(|row| all.contains(&(*row as usize)));
                        Left::Some(rows.into_iter())
                    }
                };
                Open { records: Records::Run { stream, run, left }, place: 0, bytes: 0 }
            }
            What::Block { part, block } => {
                let Decoded { records, bytes, read } = early.remove(&(part, block)).transpose()?.unwrap_or_default();
                self.stats.blocks += 1;
                self.stats.records += read.records;
                self.stats.bytes += read.bytes;
                Open { records: Records::Block(records.into_iter()), place: block, bytes }
            }
        })
    }

    /// Decodes the next blocks on the pool: at first one, later more, so that a query that wants little reads little.
    fn decode_some(
        &mut self,
        plan: &Plan<'_>,
        pending: &[crate::log_plan::Source],
        early: &mut Early,
    ) -> Result<(), StoreError> {
        let blocks: Vec<(usize, usize)> = pending
            .iter()
            .rev()
            .filter_map(|source| match source.what {
                What::Block { part, block } => Some((part, block)),
                What::Run { .. } => None,
            })
            .filter(|place| !early.contains_key(place))
            .take(self.ahead)
            .collect();
        self.ahead = (self.ahead * 2).min(AHEAD_MAX);
        let this = &*self;
        let decoded: Vec<Result<Decoded, EventsError>> = match blocks.as_slice() {
            [place] => vec![this.decode(plan, *place)],
            many => many.par_iter().map(|place| this.decode(plan, *place)).collect(),
        };
        for (place, decoded) in blocks.into_iter().zip(decoded) {
            self.open_bytes += decoded.as_ref().map_or(0, |decoded| decoded.bytes);
            early.insert(place, decoded);
        }
        if self.open_bytes > self.open_bytes_charged {
            self.budget.charge_bytes(self.open_bytes - self.open_bytes_charged)?;
            self.open_bytes_charged = self.open_bytes;
        }
        Ok(())
    }

    /// The wanted records of a block in the order of delivery.
    fn decode(&self, plan: &Plan<'_>, (part, block): (usize, usize)) -> Result<Decoded, EventsError> {
        let runs = plan.parts[part].block_streams(block)?;
        let (chosen, read) = choose(plan, &self.filter, (part, block), &runs)?;
        let mut records: Vec<(u32, Arc<StoredLog>)> = match chosen {
            Chosen::Records(records) => records.into_iter().map(|(stream, log)| (stream, Arc::new(log))).collect(),
            Chosen::Columns(mut rows) if !rows.rows.is_empty() => {
                let mut out = Vec::with_capacity(rows.rows.len());
                let mut build = || {
                    let sequences = rows.block.sequences()?;
                    rows.load_texts()?;
                    let (sets, set_of) = rows.sets()?;
                    let (texts, mut at, mut run) = (rows.texts.as_ref(), 0, 0);
                    rows.block.records(&rows.rows, &rows.times, texts, (&sets, &set_of), &mut |row, mut record| {
                        while rows.runs[run].1 <= at {
                            run += 1;
                        }
                        at += 1;
                        record.text = texts.map_or_else(String::new, |texts| texts.get(row).to_owned());
                        let shared = Arc::clone(&sets.sets[set_of[row] as usize].shared);
                        let log = StoredLog { sequence: sequences[row], shared, record };
                        out.push((rows.runs[run].0, Arc::new(log)));
                    })
                };
                build().map_err(|m| plan.parts[part].corrupt(block, &m.to_string()))?;
                out
            }
            Chosen::Columns(_) => Vec::new(),
        };
        let bytes = records.iter().map(|(_, log)| log.record.heap_bytes() as u64 + 64).sum();
        let labels = &plan.streams.labels;
        if records.windows(2).any(|pair| pair[0].0 != pair[1].0) {
            records.sort_by(|(a_stream, a), (b_stream, b)| {
                let by_stream = || match a_stream == b_stream {
                    true => Ordering::Equal,
                    false => labels[*a_stream as usize].cmp(&labels[*b_stream as usize]),
                };
                a.record.time_ns.cmp(&b.record.time_ns).then_with(by_stream).then_with(|| a.sequence.cmp(&b.sequence))
            });
        }
        if self.query.direction == Direction::Backward {
            records.reverse();
        }
        Ok(Decoded { records, bytes, read })
    }
}
