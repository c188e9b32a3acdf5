//! Writing parts of log records.
//!
//! Records are cut by time into slices of about 16 MiB, and sorted by (stream, time, sequence) within a slice: blocks
//! are of one stream, and still a query that wants the newest records opens only the blocks of a slice. A merge copies
//! the blocks of parts that have whole slices, and writes the records of smaller parts anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_model::{Labels, LogQuery, NanoRange, TenantId, Unlimited};
use trefoil_parts::{PartFacts, PartWriter, PendingPart};

use crate::EventsError;
use crate::columns::Packer;
use crate::deletions::DELETIONS_DONE;
use crate::engine::{Kind, Output};
use crate::in_order::in_order;
use crate::log_block::{self, ToWrite};
use crate::log_memtable::{self, Kept, LogMemtable};
use crate::log_plan::LogSources;
use crate::log_scan;
use crate::part_file::{LOGS_VERSION, PartFileWriter, PartReader, SealedBlock};
use crate::record;
use crate::retention::Retention;
use crate::table::CHUNK_STREAMS;
use crate::wire::Malformed;

/// A merge writes anew parts of at most as many bytes of text as so many slices; further parts are copied.
const REWRITTEN_SLICES_MAX: u64 = 4;

/// The kind of log records.
pub(crate) struct Logs;

impl Kind for Logs {
    const NAME: &'static str = "logs";
    type Batch = trefoil_model::LogBatch;
    type Memtable = LogMemtable;

    fn encode(batch: &Self::Batch) -> Vec<u8> {
        record::encode_logs(batch)
    }

    fn decode(bytes: &[u8]) -> Result<Self::Batch, Malformed> {
        record::decode_logs(bytes)
    }

    fn count(batch: &Self::Batch) -> u64 {
        batch.record_count() as u64
    }

    fn memtable_bytes(batch: &Self::Batch) -> u64 {
        log_memtable::batch_bytes(batch)
    }

    fn insert(memtable: &LogMemtable, batch: Self::Batch, sequence: u64) {
        memtable.insert(batch, sequence);
    }

    fn write(memtable: &LogMemtable, output: &Output<'_>) -> Result<Vec<PendingPart>, EventsError> {
        let mut pending = Vec::new();
        for tenant in memtable.tenants() {
            memtable.each_stream(tenant, |streams| {
                let mut days: BTreeMap<i64, Vec<Row<'_>>> = BTreeMap::new();
                for (stream, (_, runs)) in streams.iter().enumerate() {
                    for log in runs.iter().flat_map(|run| run.iter()) {
                        let day = trefoil_model::time::day_of_ns(log.time_ns);
                        let (time, sequence) = log.key();
                        days.entry(day).or_default().push(Row { time, sequence, stream, log });
                    }
                }
                for (day, mut rows) in days {
                    rows.sort_unstable_by_key(|row| (row.time, row.sequence));
                    let mut part = LogPartWriter::begin(output, tenant, day)?;
                    let mut numbers: Vec<Option<u32>> = vec![None; streams.len()];
                    for Row { stream, log, .. } in rows {
                        let number = *numbers[stream].get_or_insert_with(|| part.add_stream(streams[stream].0));
                        part.push(number, log)?;
                    }
                    pending.push(part.finish(output, 0)?);
                }
                Ok(())
            })?;
        }
        Ok(pending)
    }

    fn has_past(part: &PartReader, retention: &Retention, now_ms: i64) -> Result<bool, EventsError> {
        let at = retention.at(now_ms);
        if at.kept_by_all_ns() <= part.meta.max_t {
            return Ok(false);
        }
        let count = usize::try_from(part.table.stream_count).unwrap_or(usize::MAX);
        for chunk in 0..count.div_ceil(CHUNK_STREAMS) {
            if part.stream_chunk(chunk)?.iter().any(|labels| at.start_ns(labels) > part.meta.max_t) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn merge(parts: &[Arc<PartReader>], output: &Output<'_>, level: u8) -> Result<Option<PendingPart>, EventsError> {
        let first = &parts.first().expect("a plan has two parts or more").meta;
        let mut part = LogPartWriter::begin(output, first.tenant, first.partition)?;
        let text_bytes = |part: &PartReader| part.table.blocks.iter().map(|block| block.text_bytes).sum::<u64>();
        let slice_bytes = output.slice_bytes as u64;
        let (mut copied, mut rewritten): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
        let mut smallest_first = parts.to_vec();
        smallest_first.sort_by_key(|part| (text_bytes(part), part.meta.id));
        let mut rewritten_bytes = 0;
        for part in smallest_first {
            let bytes = text_bytes(&part);
            let must = part.version != LOGS_VERSION
                || output.deletions.concern(&part.meta)
                || Self::has_past(&part, &output.retention, output.now_ms)?;
            // Those of the same time are in memory at once.
            if must || (bytes < slice_bytes && rewritten_bytes + bytes <= REWRITTEN_SLICES_MAX * slice_bytes) {
                rewritten_bytes += bytes;
                rewritten.push(part);
            } else {
                copied.push(part);
            }
        }
        for copied in &copied {
            part.copy(copied)?;
        }
        if !rewritten.is_empty() {
            let query = LogQuery::new(first.tenant, NanoRange::ALL, Vec::new());
            let sources = LogSources {
                parts: &rewritten,
                runs: Vec::new(),
                deletions: &output.deletions,
                retention: output.retention.at(output.now_ms),
            };
            log_scan::rewrite(&query, &Unlimited, sources, &mut |labels, log| {
                let number = part.number(labels);
                part.push(number, log)
            })?;
        }
        if part.facts.items == 0 { Ok(None) } else { part.finish(output, level).map(Some) }
    }
}

/// A record, with what it is sorted by and its stream.
struct Row<'m> {
    time: i64,
    sequence: u64,
    stream: usize,
    log: &'m Kept,
}

/// Writes a part from records in order of time.
struct LogPartWriter<R> {
    writer: PartWriter,
    file: PartFileWriter,
    numbers: FxHashMap<Labels, u32>,
    streams: Vec<Labels>,
    slice: Vec<(u32, R)>,
    slice_bytes: usize,
    slice_bytes_max: usize,
    block_bytes: usize,
    threads: usize,
    facts: PartFacts,
}

impl<R: ToWrite> LogPartWriter<R> {
    fn begin(output: &Output<'_>, tenant: TenantId, day: i64) -> Result<Self, EventsError> {
        let writer = output
            .set
            .begin(tenant, day, Logs::NAME)
            .map_err(|source| EventsError::Parts { kind: Logs::NAME, source })?;
        let file = PartFileWriter::create(&writer, Logs::NAME, LOGS_VERSION)?;
        let facts = PartFacts { min_t: i64::MAX, max_t: i64::MIN, format: LOGS_VERSION, ..PartFacts::default() };
        Ok(Self {
            writer,
            file,
            numbers: FxHashMap::default(),
            streams: Vec::new(),
            slice: Vec::new(),
            slice_bytes: 0,
            slice_bytes_max: output.slice_bytes,
            block_bytes: output.block_bytes,
            threads: output.threads,
            facts,
        })
    }

    /// The number of a stream in this part.
    fn number(&mut self, labels: &Labels) -> u32 {
        if let Some(number) = self.numbers.get(labels) {
            return *number;
        }
        let number = self.add_stream(labels);
        self.numbers.insert(labels.clone(), number);
        number
    }

    /// The number of a stream that has none, and that is not asked for again.
    fn add_stream(&mut self, labels: &Labels) -> u32 {
        let number = u32::try_from(self.streams.len()).expect("streams of a part fit in memory");
        self.streams.push(labels.clone());
        number
    }

    /// Copies the blocks of a part.
    fn copy(&mut self, part: &PartReader) -> Result<(), EventsError> {
        let count = usize::try_from(part.table.stream_count).unwrap_or(usize::MAX);
        let mut numbers = Vec::new();
        for chunk in 0..count.div_ceil(CHUNK_STREAMS) {
            numbers.extend(part.stream_chunk(chunk)?.iter().map(|labels| self.number(labels)));
        }
        self.file.copy(part, &mut |stream| numbers[stream as usize])?;
        for block in &part.table.blocks {
            self.facts.min_t = self.facts.min_t.min(block.min_t);
            self.facts.max_t = self.facts.max_t.max(block.max_t);
            self.facts.items += block.count;
        }
        Ok(())
    }

    fn push(&mut self, stream: u32, log: R) -> Result<(), EventsError> {
        self.facts.min_t = self.facts.min_t.min(log.time_ns());
        self.facts.max_t = self.facts.max_t.max(log.time_ns());
        self.facts.items += 1;
        self.slice_bytes += size(&log);
        self.slice.push((stream, log));
        if self.slice_bytes >= self.slice_bytes_max { self.cut_slice() } else { Ok(()) }
    }

    fn cut_slice(&mut self) -> Result<(), EventsError> {
        let mut slice = std::mem::take(&mut self.slice);
        self.slice_bytes = 0;
        // They come in order of time and sequence, which a stable sort keeps.
        slice.sort_by_key(|(stream, _)| *stream);
        let (mut rest, mut blocks) = (slice.as_slice(), Vec::new());
        while !rest.is_empty() {
            let (block, after) = rest.split_at(block_len(rest, self.block_bytes));
            rest = after;
            blocks.push(block);
        }
        let (streams, file) = (&self.streams, &mut self.file);
        let seal = |packer: &mut Packer, at: usize| {
            let (info, columns, mut terms) = log_block::encode(blocks[at]);
            let mut before = &Labels::empty();
            for run in &info.streams {
                let labels = &streams[run.stream as usize];
                // Streams that follow each other are often much the same.
                let mut known = before.iter();
                for label in labels {
                    if known.next() != Some(label) {
                        terms.add_term(label.0, label.1);
                    }
                }
                before = labels;
            }
            SealedBlock::new(info, packer.seal(&columns), terms)
        };
        in_order(blocks.len(), self.threads, &Packer::new, &seal, &mut |block| file.add_block(block))?;
        drop(blocks);
        slice.clear();
        self.slice = slice;
        Ok(())
    }

    fn finish(mut self, output: &Output<'_>, level: u8) -> Result<PendingPart, EventsError> {
        self.cut_slice()?;
        self.file.put_streams(&self.streams);
        self.file.finish(Logs::NAME)?;
        self.facts.level = level;
        self.facts.created_ms = output.now_ms;
        if output.deletions.last > 0 {
            self.facts.attributes.insert(DELETIONS_DONE.to_owned(), output.deletions.last.to_string());
        }
        self.writer.finish(self.facts).map_err(|source| EventsError::Parts { kind: Logs::NAME, source })
    }
}

/// How many records of a sorted slice, at least one, the next block takes. A block ends with its stream when it is half
/// full, so that large streams have their own and small ones share.
fn block_len<R: ToWrite>(rest: &[(u32, R)], block_bytes: usize) -> usize {
    let mut bytes = 0;
    for (index, (stream, log)) in rest.iter().enumerate() {
        let is_next_stream = index > 0 && rest[index - 1].0 != *stream;
        if bytes >= block_bytes || (is_next_stream && bytes >= block_bytes / 2) {
            return index;
        }
        bytes += size(log);
    }
    rest.len()
}

fn size(log: &impl ToWrite) -> usize {
    let attributes: usize = log.common().attributes.iter().map(|(n, v)| n.len() + v.heap_bytes() + 2).sum();
    log.text().len() + attributes + 32
}
