//! Reading log records in order of time: a merge over runs of memtables and blocks, each opened when its time comes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::sync::Arc;

use memchr::memmem::Finder;
use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;
use trefoil_model::event_store::ScanStats;
use trefoil_model::labels::underscored;
use trefoil_model::{Direction, Labels, LogQuery, Matcher, QueryBudget, StoreError};

use crate::log_block::{self, StoredLog};
use crate::log_memtable::Run;
use crate::part_file::PartReader;
use crate::tokens::{Condition, attribute_condition, needle_conditions};

/// Records between two looks at the budget.
const CHECK_INTERVAL: u64 = 1024;

/// What a scan calls for each record: stream, its number within the query, the record.
pub(crate) type Each<'e> = dyn FnMut(&Labels, u64, &Arc<StoredLog>) -> ControlFlow<()> + 'e;

/// Whether stream labels satisfy every matcher; names are compared after underscoring.
pub(crate) fn stream_matches(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|matcher| matcher.matches(label_value(labels, &underscored(&matcher.name))))
}

fn label_value<'a>(labels: &'a Labels, name: &str) -> &'a str {
    labels.iter().find(|(n, _)| underscored(n) == name).map_or("", |(_, value)| value)
}

/// Something that can be opened when the merge comes to its time.
struct Source {
    /// First time in the order of delivery.
    bound: i64,
    what: What,
}

enum What {
    Run { stream: u32, run: Run },
    Block { part: usize, block: usize },
}

/// An open source: records in the order of delivery.
struct Open {
    records: Records,
    bytes: u64,
}

enum Records {
    /// Of a block, in the order of delivery.
    Block(std::vec::IntoIter<(u32, Arc<StoredLog>)>),
    /// What is left of a run, in the order of time.
    Run { stream: u32, run: Run, left: std::ops::Range<usize> },
}

impl Records {
    fn next(&mut self, direction: Direction) -> Option<(u32, Arc<StoredLog>)> {
        match self {
            Self::Block(records) => records.next(),
            Self::Run { stream, run, left } => {
                let index = match direction {
                    Direction::Forward => left.next()?,
                    Direction::Backward => left.next_back()?,
                };
                Some((*stream, Arc::clone(&run[index])))
            }
        }
    }
}

/// The next record of an open source.
struct Head {
    stream: u32,
    labels: Labels,
    log: Arc<StoredLog>,
    source: usize,
    direction: Direction,
}

impl Head {
    fn order(&self, other: &Self) -> Ordering {
        let by_time = self.log.record.time_ns.cmp(&other.log.record.time_ns);
        let by_stream = || if self.stream == other.stream { Ordering::Equal } else { self.labels.cmp(&other.labels) };
        by_time.then_with(by_stream).then_with(|| self.log.sequence.cmp(&other.log.sequence))
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

/// Gives streams numbers within a query.
#[derive(Default)]
struct Streams {
    numbers: FxHashMap<Labels, u32>,
    labels: Vec<Labels>,
}

impl Streams {
    fn number(&mut self, labels: &Labels) -> u32 {
        if let Some(number) = self.numbers.get(labels) {
            return *number;
        }
        let number = u32::try_from(self.labels.len()).expect("streams fit in memory");
        self.numbers.insert(labels.clone(), number);
        self.labels.push(labels.clone());
        number
    }
}

/// A scan over parts and runs.
pub(crate) struct Scan<'q> {
    query: &'q LogQuery,
    budget: &'q dyn QueryBudget,
    /// Whether a damaged block is an error; else it is left out.
    is_strict: bool,
    finders: Vec<Finder<'q>>,
    streams: Streams,
    /// For each part the number of each wanted stream.
    part_streams: Vec<Vec<Option<u32>>>,
    stats: ScanStats,
    open_bytes: u64,
    open_bytes_charged: u64,
}

impl<'q> Scan<'q> {
    pub(crate) fn new(query: &'q LogQuery, budget: &'q dyn QueryBudget, is_strict: bool) -> Self {
        let finders = query.needles.iter().filter(|n| !n.is_empty()).map(|n| Finder::new(n.as_bytes())).collect();
        Self {
            query,
            budget,
            is_strict,
            finders,
            streams: Streams::default(),
            part_streams: Vec::new(),
            stats: ScanStats::default(),
            open_bytes: 0,
            open_bytes_charged: 0,
        }
    }

    /// Delivers the records of `parts` and `runs` in order.
    pub(crate) fn run(
        mut self,
        parts: &[Arc<PartReader>],
        runs: Vec<(Labels, Run)>,
        each: &mut Each<'_>,
    ) -> Result<ScanStats, StoreError> {
        let direction = self.query.direction;
        let mut pending = self.sources(parts, runs)?;
        // The next to open is at the end.
        pending.sort_by_key(|source| match direction {
            Direction::Forward => std::cmp::Reverse(i128::from(source.bound)),
            Direction::Backward => std::cmp::Reverse(-i128::from(source.bound)),
        });
        let mut open: Vec<Option<Open>> = Vec::new();
        let mut free: Vec<usize> = Vec::new();
        let mut heap: BinaryHeap<Head> = BinaryHeap::new();
        let mut delivered = 0u64;
        loop {
            while let Some(source) = pending.last() {
                let is_due = heap.peek().is_none_or(|head| match direction {
                    Direction::Forward => source.bound <= head.log.record.time_ns,
                    Direction::Backward => source.bound >= head.log.record.time_ns,
                });
                if !is_due {
                    break;
                }
                let Some(source) = pending.pop() else { break };
                self.budget.check()?;
                let opened = self.open(parts, source.what)?;
                let slot = free.pop().unwrap_or_else(|| {
                    open.push(None);
                    open.len() - 1
                });
                open[slot] = Some(opened);
                self.advance(&mut open, &mut free, slot, &mut heap);
            }
            let Some(head) = heap.pop() else {
                if pending.is_empty() {
                    return Ok(self.stats);
                }
                continue;
            };
            delivered += 1;
            if matches!(open[head.source], Some(Open { records: Records::Run { .. }, .. })) {
                self.stats.records += 1;
                self.stats.bytes += head.log.record.text.len() as u64;
            }
            if delivered.is_multiple_of(CHECK_INTERVAL) {
                self.budget.check()?;
            }
            if each(&head.labels, u64::from(head.stream), &head.log).is_break() {
                return Ok(self.stats);
            }
            self.advance(&mut open, &mut free, head.source, &mut heap);
        }
    }

    /// Puts the next record of a source on the heap, or closes the source.
    fn advance(&mut self, open: &mut [Option<Open>], free: &mut Vec<usize>, slot: usize, heap: &mut BinaryHeap<Head>) {
        let Some(source) = open[slot].as_mut() else { return };
        match source.records.next(self.query.direction) {
            Some((stream, log)) => {
                let labels = self.streams.labels[stream as usize].clone();
                heap.push(Head { stream, labels, log, source: slot, direction: self.query.direction });
            }
            None => {
                self.open_bytes -= source.bytes;
                open[slot] = None;
                free.push(slot);
            }
        }
    }

    fn sources(&mut self, parts: &[Arc<PartReader>], runs: Vec<(Labels, Run)>) -> Result<Vec<Source>, StoreError> {
        let (range, direction) = (self.query.range, self.query.direction);
        let mut sources = Vec::new();
        for (labels, run) in runs {
            let edge = match direction {
                Direction::Forward => run.first(),
                Direction::Backward => run.last(),
            };
            let Some(bound) = edge.map(|log| log.record.time_ns) else { continue };
            sources.push(Source { bound, what: What::Run { stream: self.streams.number(&labels), run } });
        }
        let mut conditions: Vec<Condition> = Vec::new();
        let texts = self.query.needles.iter().chain(&self.query.words);
        texts.for_each(|text| needle_conditions(text, &mut conditions));
        conditions.extend(self.query.attribute_terms.iter().filter_map(|(n, v)| attribute_condition(n, v)));
        for (index, part) in parts.iter().enumerate() {
            self.budget.check()?;
            let mut wanted = Vec::with_capacity(part.table.streams.len());
            for labels in &part.table.streams {
                let is_wanted = stream_matches(labels, &self.query.matchers);
                wanted.push(is_wanted.then(|| self.streams.number(labels)));
            }
            let mut blocks = RoaringBitmap::new();
            for (number, block) in part.table.blocks.iter().enumerate() {
                let has_wanted = range.overlaps(block.min_t, block.max_t)
                    && block
                        .streams
                        .iter()
                        .any(|s| wanted[s.stream as usize].is_some() && range.overlaps(s.min_t, s.max_t));
                if has_wanted {
                    blocks.insert(u32::try_from(number).expect("tantivy documents are counted in u32"));
                }
            }
            part.narrow(&mut blocks, &conditions);
            sources.extend(blocks.iter().map(|number| {
                let block = &part.table.blocks[number as usize];
                let bound = match direction {
                    Direction::Forward => block.min_t,
                    Direction::Backward => block.max_t,
                };
                Source { bound, what: What::Block { part: index, block: number as usize } }
            }));
            self.part_streams.push(wanted);
        }
        Ok(sources)
    }

    fn open(&mut self, parts: &[Arc<PartReader>], what: What) -> Result<Open, StoreError> {
        let range = self.query.range;
        let (records, bytes) = match what {
            What::Run { stream, run } => {
                let start = run.partition_point(|log| log.record.time_ns < range.start_ns);
                let end = run.partition_point(|log| log.record.time_ns < range.end_ns).max(start);
                (Records::Run { stream, run, left: start..end }, 0)
            }
            What::Block { part: index, block } => {
                let part = &parts[index];
                let (mut records, bytes) = match self.decode(part, index, block) {
                    Ok(decoded) => decoded,
                    Err(error) if self.is_strict => return Err(error.into()),
                    Err(error) => {
                        tracing::error!(part = part.meta.id.0, %error, "block was left out of a query");
                        (Vec::new(), 0)
                    }
                };
                if self.query.direction == Direction::Backward {
                    records.reverse();
                }
                (Records::Block(records.into_iter()), bytes)
            }
        };
        self.open_bytes += bytes;
        if self.open_bytes > self.open_bytes_charged {
            self.budget.charge_bytes(self.open_bytes - self.open_bytes_charged)?;
            self.open_bytes_charged = self.open_bytes;
        }
        Ok(Open { records, bytes })
    }

    /// The wanted records of a block in forward order, and the bytes they take.
    #[expect(clippy::type_complexity, reason = "records and their bytes")]
    fn decode(
        &mut self,
        part: &PartReader,
        index: usize,
        block: usize,
    ) -> Result<(Vec<(u32, Arc<StoredLog>)>, u64), crate::EventsError> {
        let columns = part.columns(block)?;
        let (range, numbers, finders) = (self.query.range, &self.part_streams[index], &self.finders);
        let number = |stream: u32| numbers.get(stream as usize).copied().flatten();
        let (mut records, mut bytes) = (Vec::new(), 0u64);
        let (seen, text_bytes) = log_block::decode(
            &columns,
            &mut |stream, time, text| {
                range.contains(time)
                    && number(stream).is_some()
                    && finders.iter().all(|finder| finder.find(text.as_bytes()).is_some())
            },
            &mut |stream, log| {
                if let Some(stream) = number(stream) {
                    bytes += log.record.heap_bytes() as u64 + 64;
                    records.push((stream, Arc::new(log)));
                }
            },
        )
        .map_err(|malformed| part.corrupt(block, &malformed.to_string()))?;
        self.stats.blocks += 1;
        self.stats.records += seen;
        self.stats.bytes += text_bytes;
        let labels = &self.streams.labels;
        records.sort_by(|(a_stream, a), (b_stream, b)| {
            let by_stream = || {
                if a_stream == b_stream {
                    Ordering::Equal
                } else {
                    labels[*a_stream as usize].cmp(&labels[*b_stream as usize])
                }
            };
            a.record.time_ns.cmp(&b.record.time_ns).then_with(by_stream).then_with(|| a.sequence.cmp(&b.sequence))
        });
        Ok((records, bytes))
    }
}
