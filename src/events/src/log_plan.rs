//! What a query of log records reads: streams, blocks of parts, runs of memtables; and the choice of records within.

use std::sync::Arc;

use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;
use trefoil_model::labels::underscored;
use trefoil_model::{
    Labels, LogDeletion, LogDeletionState, LogQuery, MatchOp, Matcher, NanoRange, QueryBudget, StoreError,
};

use crate::EventsError;
use crate::deletions::{self, Deletions};
use crate::log_block::{LogBlock, Sets, StoredLog};
use crate::log_block_v1;
use crate::log_filter::{ALTERNATIVES_MAX, Filter, KnownLines, Needed, Sought};
use crate::log_memtable::{Kept, Run, Runs};
use crate::part_file::PartReader;
use crate::retention::RetentionAt;
use crate::table::{BlockStream, CHUNK_STREAMS};
use crate::text_codec::Texts;
use crate::tokens::{Condition, attribute_condition, needle_conditions};
use crate::wire::Malformed;

/// Blocks between two looks at the budget.
const CHECK_BLOCKS: usize = 64;
/// Runs of memtables likewise.
const CHECK_RUNS: usize = 256;
/// A stream that is not wanted.
const NOT_WANTED: u32 = u32::MAX;
/// A stream that was not looked at.
const UNKNOWN: u32 = u32::MAX - 1;

/// Whether stream labels satisfy every matcher; names are compared after underscoring.
pub(crate) fn stream_matches(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|matcher| matcher.matches(label_value(labels, &underscored(&matcher.name))))
}

fn label_value<'a>(labels: &'a Labels, name: &str) -> &'a str {
    labels.iter().find(|(n, _)| underscored(n) == name).map_or("", |(_, value)| value)
}

/// Gives streams numbers within a query.
pub(crate) struct Streams<'p> {
    numbers: FxHashMap<Labels, u32>,
    /// By number.
    pub(crate) labels: Vec<Labels>,
    /// What of the query's range is kept, by number.
    ranges: Vec<NanoRange>,
    range: NanoRange,
    retention: RetentionAt<'p>,
}

impl Streams<'_> {
    fn number(&mut self, labels: &Labels) -> u32 {
        if let Some(number) = self.numbers.get(labels) {
            return *number;
        }
        let number = u32::try_from(self.labels.len()).expect("streams fit in memory");
        self.numbers.insert(labels.clone(), number);
        self.labels.push(labels.clone());
        let start_ns = self.retention.start_ns(labels).max(self.range.start_ns);
        self.ranges.push(NanoRange { start_ns, end_ns: self.range.end_ns });
        number
    }
}

/// Something that is opened when it is needed.
pub(crate) enum What {
    /// Of a memtable. `chunks`: those with lines that may be wanted, where lines are looked at, or else `None`.
    Run { stream: u32, run: Run, chunks: Option<Vec<u32>> },
    /// Of a part: its index and that of the block.
    Block { part: usize, block: usize },
}

/// What is read, and when.
pub(crate) struct Source {
    /// First and last time of its records.
    pub(crate) min_t: i64,
    pub(crate) max_t: i64,
    pub(crate) what: What,
}

/// Where a query reads.
pub(crate) struct LogSources<'s> {
    pub(crate) parts: &'s [Arc<PartReader>],
    /// Of memtables.
    pub(crate) runs: Runs,
    /// What is hidden of the parts.
    pub(crate) deletions: &'s Deletions,
    /// What is kept of all.
    pub(crate) retention: RetentionAt<'s>,
}

/// All that a query reads.
pub(crate) struct Plan<'p> {
    pub(crate) parts: &'p [Arc<PartReader>],
    pub(crate) streams: Streams<'p>,
    /// For each part the number of each stream, or a mark.
    numbers: Vec<Vec<u32>>,
    /// For each part the deletions that concern it.
    hidden: Vec<Vec<Arc<LogDeletionState>>>,
    pub(crate) sources: Vec<Source>,
}

impl<'p> Plan<'p> {
    /// Finds what may hold wanted records; `filter` is of the query. Damage is an error.
    pub(crate) fn new(
        query: &LogQuery,
        filter: &Filter<'_>,
        sources: LogSources<'p>,
        budget: &dyn QueryBudget,
    ) -> Result<Self, StoreError> {
        let LogSources { parts, runs, deletions, retention } = sources;
        let mut plan = Self {
            parts,
            streams: Streams {
                numbers: FxHashMap::default(),
                labels: Vec::new(),
                ranges: Vec::new(),
                range: query.range,
                retention,
            },
            numbers: Vec::new(),
            hidden: parts.iter().map(|part| deletions.of_part(&part.meta)).collect(),
            sources: Vec::new(),
        };
        let any_of = filter.wants.any_of;
        let sought = filter.looks_at_text().then(|| Sought::new(query, any_of));
        let mut known = KnownLines::default();
        for (done, (labels, run)) in runs.into_iter().enumerate() {
            if done % CHECK_RUNS == 0 {
                budget.check()?;
            }
            let chunks = sought.as_ref().map(|sought| sought.chunks(run.chunks(), query.range, &mut known));
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            if chunks.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
            let (min_t, max_t) = (first.time_ns, last.time_ns);
            let stream = plan.streams.number(&labels);
            if plan.range(stream).overlaps(min_t, max_t) {
                plan.sources.push(Source { min_t, max_t, what: What::Run { stream, run, chunks } });
            }
        }
        let mut conditions: Vec<Condition> = Vec::new();
        let texts = query.needles.iter().chain(&query.words);
        texts.for_each(|text| needle_conditions(text, &mut conditions));
        conditions.extend(query.attribute_terms.iter().filter_map(|(n, v)| attribute_condition(n, v)));
        let alternatives: Vec<Vec<Vec<Condition>>> = any_of.iter().filter_map(|texts| alternatives(texts)).collect();
        for (index, part) in parts.iter().enumerate() {
            budget.check()?;
            let stream_count = usize::try_from(part.table.stream_count).unwrap_or(usize::MAX);
            plan.numbers.push(vec![UNKNOWN; stream_count]);
            let mut blocks = RoaringBitmap::new();
            for (number, block) in part.table.blocks.iter().enumerate() {
                if query.range.overlaps(block.min_t, block.max_t) {
                    blocks.insert(u32::try_from(number).expect("tantivy documents are counted in u32"));
                }
            }
            part.narrow(&mut blocks, &conditions);
            if stream_count > CHUNK_STREAMS {
                // Many streams: their labels are looked up like words, so that few lists need be read.
                part.narrow(&mut blocks, &matcher_conditions(&query.matchers));
            }
            for group in &alternatives {
                let mut any = RoaringBitmap::new();
                for conditions in group {
                    let mut left = blocks.clone();
                    part.narrow(&mut left, conditions);
                    any |= left;
                }
                blocks = any;
            }
            for (done, block) in blocks.iter().enumerate() {
                if done % CHECK_BLOCKS == CHECK_BLOCKS - 1 {
                    budget.check()?;
                }
                if plan.has_wanted(query, index, block as usize)? {
                    let info = &part.table.blocks[block as usize];
                    let what = What::Block { part: index, block: block as usize };
                    plan.sources.push(Source { min_t: info.min_t, max_t: info.max_t, what });
                }
            }
        }
        Ok(plan)
    }

    /// Whether a block has records of a wanted stream in the range. Numbers its streams.
    fn has_wanted(&mut self, query: &LogQuery, part: usize, block: usize) -> Result<bool, EventsError> {
        let mut found = false;
        for run in self.parts[part].block_streams(block)?.iter() {
            if query.range.overlaps(run.min_t, run.max_t) {
                let number = self.resolve(query, part, run.stream)?;
                found |= number != NOT_WANTED && self.range(number).overlaps(run.min_t, run.max_t);
            }
        }
        Ok(found)
    }

    /// The number of a stream of a part; finds those of its whole chunk.
    fn resolve(&mut self, query: &LogQuery, part: usize, stream: u32) -> Result<u32, EventsError> {
        let known = self.numbers[part][stream as usize];
        if known != UNKNOWN {
            return Ok(known);
        }
        let chunk = stream as usize / CHUNK_STREAMS;
        for (at, labels) in self.parts[part].stream_chunk(chunk)?.iter().enumerate() {
            let is_wanted = stream_matches(labels, &query.matchers);
            let number = if is_wanted { self.streams.number(labels) } else { NOT_WANTED };
            if let Some(place) = self.numbers[part].get_mut(chunk * CHUNK_STREAMS + at) {
                *place = number;
            }
        }
        Ok(self.numbers[part][stream as usize])
    }

    /// The deletions that may hide records of a stream, by its number, in a part.
    pub(crate) fn hidden(&self, part: usize, number: u32) -> Vec<&LogDeletion> {
        let all = self.hidden[part].iter().map(|state| &state.deletion);
        all.filter(|deletion| deletions::selects(deletion, &self.streams.labels[number as usize])).collect()
    }

    /// What of the query's range is kept of a stream, by its number.
    pub(crate) fn range(&self, number: u32) -> NanoRange {
        self.streams.ranges[number as usize]
    }

    /// The number of a stream of a part, if it is wanted.
    pub(crate) fn number(&self, part: usize, stream: u32) -> Option<u32> {
        let number = *self.numbers[part].get(stream as usize)?;
        (number < UNKNOWN).then_some(number)
    }
}

/// For each text its conditions; `None` when one of them has none, so that the list does not narrow.
fn alternatives(texts: &[String]) -> Option<Vec<Vec<Condition>>> {
    if texts.is_empty() || texts.len() > ALTERNATIVES_MAX {
        return None;
    }
    let conditions = |text: &String| {
        let mut out = Vec::new();
        needle_conditions(text, &mut out);
        (!out.is_empty()).then_some(out)
    };
    texts.iter().map(conditions).collect()
}

/// The terms that blocks with a wanted stream have.
fn matcher_conditions(matchers: &[Matcher]) -> Vec<Condition> {
    let equal = matchers.iter().filter(|m| m.op == MatchOp::Equal && !m.value.is_empty());
    equal.filter_map(|m| attribute_condition(&underscored(&m.name), &m.value)).collect()
}

/// The records of a memtable's run within a range.
pub(crate) fn within(run: &[Kept], range: NanoRange) -> std::ops::Range<usize> {
    let start = run.partition_point(|log| log.time_ns < range.start_ns);
    start..run.partition_point(|log| log.time_ns < range.end_ns).max(start)
}

/// The wanted records of a block.
pub(crate) enum Chosen<'a> {
    /// Column by column.
    Columns(Box<ChosenRows<'a>>),
    /// Each for itself, with the number of its stream, in the order of the block.
    Records(Vec<(u32, StoredLog)>),
}

/// The wanted rows of a block.
pub(crate) struct ChosenRows<'a> {
    pub(crate) block: LogBlock<'a>,
    pub(crate) times: Vec<i64>,
    pub(crate) lengths: Option<Vec<u64>>,
    pub(crate) texts: Option<Texts>,
    /// Ascending.
    pub(crate) rows: Vec<u32>,
    /// For each stream of the block: its number, if it is wanted, and where its rows end among `rows`.
    pub(crate) runs: Vec<(u32, usize)>,
    /// What [`Self::sets`] gives, if it was read.
    sets: Option<(Sets, Vec<u32>)>,
}

impl ChosenRows<'_> {
    /// Reads texts, if they are not there yet.
    pub(crate) fn load_texts(&mut self) -> Result<&Texts, Malformed> {
        self.load_lengths()?;
        let texts = match self.texts.take() {
            Some(texts) => texts,
            None => self.block.texts(&self.times, self.lengths.as_deref().unwrap_or_default())?,
        };
        Ok(self.texts.insert(texts))
    }

    /// Reads the lengths of texts, if they are not there yet.
    pub(crate) fn load_lengths(&mut self) -> Result<(), Malformed> {
        if self.lengths.is_none() {
            self.lengths = Some(self.block.lengths()?);
        }
        Ok(())
    }

    /// Leaves out what deletions hide; `of` gives those of a stream.
    fn leave_out<'d>(&mut self, of: impl Fn(u32) -> Vec<&'d LogDeletion>) -> Result<(), Malformed> {
        let (mut start, mut rows) = (0, Vec::with_capacity(self.rows.len()));
        for run in 0..self.runs.len() {
            let (number, end) = self.runs[run];
            let hidden = of(number);
            if hidden.iter().any(|deletion| !deletion.contains.is_empty()) {
                self.load_texts()?;
            }
            let is_hidden = |row: &u32| {
                let row = *row as usize;
                let text = self.texts.as_ref().map_or("", |texts| texts.get(row));
                hidden.iter().any(|deletion| deletions::hides(deletion, self.times[row], text))
            };
            rows.extend(self.rows[start..end].iter().filter(|row| hidden.is_empty() || !is_hidden(row)));
            start = end;
            self.runs[run].1 = rows.len();
        }
        self.rows = rows;
        Ok(())
    }

    /// Reads the sets, and which is whose.
    pub(crate) fn sets(&mut self) -> Result<(Sets, Vec<u32>), Malformed> {
        self.sets.take().map_or_else(|| read_sets(&self.block), Ok)
    }
}

fn read_sets(block: &LogBlock<'_>) -> Result<(Sets, Vec<u32>), Malformed> {
    let sets = block.sets()?;
    let set_of = block.set_of(&sets)?;
    Ok((sets, set_of))
}

/// What was read of a block.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BlockRead {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// Chooses the wanted records of a block. `runs` must be what [`PartReader::block_streams`] gave.
pub(crate) fn choose<'a, 'p: 'a>(
    plan: &Plan<'p>,
    filter: &Filter<'_>,
    (part, block): (usize, usize),
    runs: &'a [BlockStream],
) -> Result<(Chosen<'a>, BlockRead), EventsError> {
    let parts: &'p [Arc<PartReader>] = plan.parts;
    let reader: &'p PartReader = &parts[part];
    let number = |stream: u32| plan.number(part, stream);
    let corrupt = |m: Malformed| reader.corrupt(block, &m.to_string());
    if reader.version < 2 {
        let columns = reader.columns(block)?;
        let mut records = Vec::new();
        let mut wanted = |stream: u32, time: i64, text: &str| {
            number(stream).is_some_and(|number| plan.range(number).contains(time)) && filter.passes_text(text)
        };
        let mut each = |stream: u32, log: StoredLog| records.extend(number(stream).map(|number| (number, log)));
        let (seen, bytes) = log_block_v1::decode(&columns, &mut wanted, &mut each).map_err(corrupt)?;
        records.retain(|(number, log)| {
            let hidden = plan.hidden(part, *number);
            !hidden.iter().any(|d| deletions::hides(d, log.record.time_ns, &log.record.text))
        });
        return Ok((Chosen::Records(records), BlockRead { records: seen, bytes }));
    }
    let bytes = reader.block(block)?;
    let open = LogBlock::open(bytes, &reader.table.blocks[block], runs).map_err(corrupt)?;
    let (mut chosen, read) = choose_rows(open, filter, plan, part).map_err(corrupt)?;
    if !plan.hidden[part].is_empty() {
        chosen.leave_out(|number| plan.hidden(part, number)).map_err(corrupt)?;
    }
    Ok((Chosen::Columns(Box::new(chosen)), read))
}

fn choose_rows<'a>(
    block: LogBlock<'a>,
    filter: &Filter<'_>,
    plan: &Plan<'_>,
    part: usize,
) -> Result<(ChosenRows<'a>, BlockRead), Malformed> {
    let times = block.times()?;
    let (mut rows, mut ends) = (Vec::new(), Vec::with_capacity(block.runs.len()));
    let mut chosen =
        ChosenRows { block, times, lengths: None, texts: None, rows: Vec::new(), runs: Vec::new(), sets: None };
    // Which sets records of a stream that are wanted may have.
    let mut may_have: Option<(Needed, Vec<bool>)> = None;
    let mut read = BlockRead::default();
    let mut start = 0;
    for run in chosen.block.runs {
        let end = start + usize::try_from(run.count).map_err(|_| Malformed("count"))?;
        let of_run = &chosen.times[start..end];
        let begin = start;
        start = end;
        let Some(number) = plan.number(part, run.stream) else { continue };
        let range = plan.range(number);
        let from = begin + of_run.partition_point(|time| *time < range.start_ns);
        let to = begin + of_run.partition_point(|time| *time < range.end_ns);
        if from >= to {
            continue;
        }
        read.records += (to - from) as u64;
        let needed = filter.needed(&plan.streams.labels[number as usize]);
        if !needed.is_nothing() && may_have.as_ref().is_none_or(|(of, _)| *of != needed) {
            let (sets, _) = match &chosen.sets {
                Some(sets) => sets,
                None => chosen.sets.insert(read_sets(&chosen.block)?),
            };
            may_have = Some((needed, sets.that_may_have(filter, needed)));
        }
        let set_of = chosen.sets.as_ref().map_or(&[][..], |(_, set_of)| set_of);
        let may_be = |row: usize| match &may_have {
            Some((of, sets)) if *of == needed => sets[set_of[row] as usize],
            _ => true,
        };
        if !(from..to).any(may_be) {
            ends.push((number, rows.len()));
            continue;
        }
        if filter.looks_at_text() {
            let texts = match &chosen.texts {
                Some(texts) => texts,
                None => {
                    let lengths = chosen.block.lengths()?;
                    let texts = chosen.block.texts(&chosen.times, &lengths)?;
                    chosen.lengths = Some(lengths);
                    chosen.texts.insert(texts)
                }
            };
            read.bytes += (texts.ends[to - 1] as usize - texts.start(from)) as u64;
            filter.search(texts, from..to, &may_be, &mut rows);
        } else {
            rows.extend((from..to).filter(|row| may_be(*row)).map(|row| row as u32));
        }
        ends.push((number, rows.len()));
    }
    chosen.rows = rows;
    chosen.runs = ends;
    Ok((chosen, read))
}
