//! Reading log records in order of time: a merge over runs of memtables and blocks, each opened when its time comes,
//! some at once on the pool. Where lines are looked at, each chunk of a run is looked at for itself.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use rayon::prelude::*;
use trefoil_model::event_store::ScanStats;
use trefoil_model::{Direction, Labels, LogQuery, LogWants, QueryBudget, StoreError};

use crate::EventsError;
use crate::log_block::StoredLog;
use crate::log_filter::{Filter, KeptTest};
use crate::log_memtable::{Kept, Run};
use crate::log_plan::{BlockRead, Chosen, LogSources, Plan, What, choose, within};

/// Records between two looks at the budget.
const CHECK_INTERVAL: u64 = 1024;
/// Bytes of lines that are looked at at once, before they are needed: at first, and at most.
const AHEAD_BYTES_MIN: u64 = 64 << 10;
const AHEAD_BYTES_MAX: u64 = 2 << 20;
/// Fewer bytes are not worth a second thread.
const ALONE_BYTES_MAX: u64 = 128 << 10;
/// Chunks that a thread looks at at once.
const CHUNKS_AT_ONCE: usize = 8;

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
    Run { stream: u32, run: Run, left: Range<usize>, test: KeptTest },
    /// What is left of the wanted lines of a chunk of a run, in the order of delivery.
    Lines { stream: u32, run: Run, chunk: u32, left: std::vec::IntoIter<u32>, near: (usize, usize), test: KeptTest },
}

/// A source, or one of its chunks, that was not looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pending {
    /// Greater for what comes earlier.
    order: i64,
    source: u32,
    /// [`NO_CHUNK`] for the source.
    chunk: u32,
}

/// In place of the number of a chunk.
const NO_CHUNK: u32 = u32::MAX;

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.order, self.source, self.chunk).cmp(&(other.order, other.source, other.chunk))
    }
}

/// What was looked at before it is needed. Damage of a block is an error when it is needed.
enum Looked {
    Run,
    Block(Result<Decoded, EventsError>),
    /// The wanted lines in the order of delivery, and what was read.
    Lines(Vec<u32>, BlockRead),
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

/// A scan over parts and runs.
pub(crate) struct Scan<'q> {
    query: &'q LogQuery,
    budget: &'q dyn QueryBudget,
    filter: Filter<'q>,
    stats: ScanStats,
    open_bytes: u64,
    open_bytes_charged: u64,
    /// How many bytes of lines are looked at at the next occasion.
    ahead: u64,
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
            ahead: AHEAD_BYTES_MIN,
        }
    }

    /// Where a source or a chunk stands in the order of delivery; see [`Pending::order`].
    fn order(&self, (min_t, max_t): (i64, i64)) -> i64 {
        match self.query.direction {
            // The reverse of the order of numbers.
            Direction::Forward => !min_t,
            Direction::Backward => max_t,
        }
    }

    /// All that is to be looked at, the earliest on top.
    fn pending(&self, plan: &Plan<'_>) -> BinaryHeap<Pending> {
        let mut all = Vec::new();
        for (source, number) in plan.sources.iter().zip(0u32..) {
            match &source.what {
                What::Run { run, chunks: Some(chunks), .. } => {
                    let of = |chunk: &u32| run.chunks()[*chunk as usize].bounds;
                    let pending = |chunk: &u32| Pending { order: self.order(of(chunk)), source: number, chunk: *chunk };
                    all.extend(chunks.iter().map(pending));
                }
                _ => {
                    let order = self.order((source.min_t, source.max_t));
                    all.push(Pending { order, source: number, chunk: NO_CHUNK });
                }
            }
        }
        BinaryHeap::from(all)
    }

    /// Delivers the records of the sources in order.
    pub(crate) fn run(mut self, sources: LogSources<'_>, each: &mut Each<'_>) -> Result<ScanStats, StoreError> {
        let plan = Plan::new(self.query, &self.filter, sources, self.budget)?;
        let mut pending = self.pending(&plan);
        let mut ready: VecDeque<(Pending, Looked)> = VecDeque::new();
        let mut open: Vec<Option<Open>> = Vec::new();
        let mut free: Vec<usize> = Vec::new();
        let mut heap: BinaryHeap<Head> = BinaryHeap::new();
        let mut delivered = 0u64;
        loop {
            while let Some(next) = ready.front().map(|(next, _)| next).or_else(|| pending.peek()) {
                let order = |head: &Head| self.order((head.log.record.time_ns, head.log.record.time_ns));
                if heap.peek().is_some_and(|head| next.order < order(head)) {
                    break;
                }
                self.budget.check()?;
                let Some((next, looked)) = ready.pop_front() else {
                    self.look_ahead(&plan, &mut pending, &mut ready)?;
                    continue;
                };
                let Some(opened) = self.open(&plan, next, looked)? else { continue };
                let slot = free.pop().unwrap_or_else(|| {
                    open.push(None);
                    open.len() - 1
                });
                open[slot] = Some(opened);
                self.advance(&plan, &mut open, &mut free, slot, &mut heap)?;
            }
            let Some(head) = heap.pop() else {
                if pending.is_empty() && ready.is_empty() {
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
            Records::Run { stream, run, left, test } => {
                self.next_of_run(run, left, test)?.map(|log| (*stream, Arc::new(log)))
            }
            Records::Lines { stream, run, chunk, left, near, test } => {
                let range = plan.range(*stream);
                let lines = &run.chunks()[*chunk as usize].lines;
                let next = left.find_map(|line| {
                    let log = run.record(lines, line as usize, near)?;
                    (range.contains(log.time_ns) && test.passes(&self.filter, log)).then(|| log.stored())
                });
                next.map(|log| (*stream, Arc::new(log)))
            }
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
    fn next_of_run(
        &mut self,
        run: &[Kept],
        left: &mut Range<usize>,
        test: &mut KeptTest,
    ) -> Result<Option<StoredLog>, StoreError> {
        loop {
            let next = match self.query.direction {
                Direction::Forward => left.next(),
                Direction::Backward => left.next_back(),
            };
            let Some(index) = next else { return Ok(None) };
            let log = &run[index];
            self.stats.records += 1;
            self.stats.bytes += log.text().len() as u64;
            if self.stats.records.is_multiple_of(CHECK_INTERVAL) {
                self.budget.check()?;
            }
            if test.passes(&self.filter, log) && self.filter.passes_text(log.text()) {
                return Ok(Some(log.stored()));
            }
        }
    }

    /// Opens what was looked at; `None` when there is nothing.
    fn open(&mut self, plan: &Plan<'_>, pending: Pending, looked: Looked) -> Result<Option<Open>, StoreError> {
        let what = &plan.sources[pending.source as usize].what;
        let test = |stream: u32| KeptTest::new(self.filter.needed(&plan.streams.labels[stream as usize]));
        Ok(match (what, looked) {
            (What::Run { stream, run, .. }, Looked::Lines(lines, read)) => {
                self.stats.records += read.records;
                self.stats.bytes += read.bytes;
                let (stream, run, chunk, test) = (*stream, Arc::clone(run), pending.chunk, test(*stream));
                let left = lines.into_iter();
                let records = Records::Lines { stream, run, chunk, left, near: (0, 0), test };
                Some(Open { records, place: 0, bytes: 0 })
            }
            (What::Run { stream, run, .. }, _) => {
                let (left, test) = (within(run, plan.range(*stream)), test(*stream));
                Some(Open {
                    records: Records::Run { stream: *stream, run: Arc::clone(run), left, test },
                    place: 0,
                    bytes: 0,
                })
            }
            (What::Block { block, .. }, Looked::Block(decoded)) => {
                let Decoded { records, bytes, read } = decoded?;
                self.stats.blocks += 1;
                self.stats.records += read.records;
                self.stats.bytes += read.bytes;
                Some(Open { records: Records::Block(records.into_iter()), place: *block, bytes })
            }
            (What::Block { .. }, _) => None,
        })
    }

    /// Looks at what comes next, on the pool where it is much: at first at little, later at more, so that a query that
    /// wants little reads little.
    fn look_ahead(
        &mut self,
        plan: &Plan<'_>,
        pending: &mut BinaryHeap<Pending>,
        ready: &mut VecDeque<(Pending, Looked)>,
    ) -> Result<(), StoreError> {
        let (mut next, mut bytes, mut has_blocks) = (Vec::new(), 0, false);
        while bytes < self.ahead
            && let Some(one) = pending.pop()
        {
            bytes += match &plan.sources[one.source as usize].what {
                What::Run { run, .. } => run.chunks().get(one.chunk as usize).map_or(0, |c| c.text().len() as u64),
                What::Block { part, block } => {
                    has_blocks = true;
                    plan.parts[*part].table.blocks[*block].text_bytes
                }
            };
            next.push(one);
        }
        self.ahead = (self.ahead * 2).min(AHEAD_BYTES_MAX);
        let this = &*self;
        let look = |one: &Pending| this.look(plan, *one);
        let looked: Vec<Looked> = match bytes <= ALONE_BYTES_MAX || next.len() < 2 {
            true => next.iter().map(look).collect(),
            false => {
                let at_once = if has_blocks { 1 } else { CHUNKS_AT_ONCE };
                next.par_iter().with_min_len(at_once).map(look).collect()
            }
        };
        for looked in &looked {
            if let Looked::Block(Ok(decoded)) = looked {
                self.open_bytes += decoded.bytes;
            }
        }
        ready.extend(next.into_iter().zip(looked));
        if self.open_bytes > self.open_bytes_charged {
            self.budget.charge_bytes(self.open_bytes - self.open_bytes_charged)?;
            self.open_bytes_charged = self.open_bytes;
        }
        Ok(())
    }

    fn look(&self, plan: &Plan<'_>, pending: Pending) -> Looked {
        match &plan.sources[pending.source as usize].what {
            What::Block { part, block } => Looked::Block(self.decode(plan, (*part, *block))),
            What::Run { run, .. } => match run.chunks().get(pending.chunk as usize) {
                None => Looked::Run,
                Some(chunk) => {
                    let (mut found, lines) = (Vec::new(), &chunk.lines);
                    let (records, bytes) = self.filter.search_lines(chunk, &mut found);
                    found.sort_unstable_by_key(|line| lines.key(*line));
                    if self.query.direction == Direction::Backward {
                        found.reverse();
                    }
                    Looked::Lines(found, BlockRead { records, bytes })
                }
            },
        }
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
