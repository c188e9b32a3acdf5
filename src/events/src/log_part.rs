//! Writing parts of log records.
//!
//! Records are cut by time into slices of about 16 MiB, and sorted by (stream, time, sequence) within a
//! slice: blocks are of one stream, and still a query that wants the newest records opens only the blocks of a slice.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_model::{Direction, Labels, LogQuery, NanoRange, TenantId, Unlimited};
use trefoil_parts::{PartFacts, PartWriter, PendingPart};

use crate::EventsError;
use crate::engine::{Kind, Output};
use crate::log_block::{self, StoredLog};
use crate::log_memtable::LogMemtable;
use crate::log_scan;
use crate::part_file::{PartFileWriter, PartReader, VERSION};
use crate::record;
use crate::wire::Malformed;

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
        (batch.heap_bytes() + batch.record_count() * 56) as u64
    }

    fn insert(memtable: &LogMemtable, batch: Self::Batch, sequence: u64) {
        memtable.insert(batch, sequence);
    }

    fn write(memtable: &LogMemtable, output: &Output<'_>) -> Result<Vec<PendingPart>, EventsError> {
        let mut pending = Vec::new();
        for tenant in memtable.tenants() {
            let mut days: std::collections::BTreeMap<i64, Vec<(Labels, Arc<StoredLog>)>> = Default::default();
            for (labels, run) in memtable.runs(tenant, NanoRange::ALL, &mut |_| true) {
                for log in run.iter() {
                    let day = trefoil_model::time::day_of_ns(log.record.time_ns);
                    days.entry(day).or_default().push((labels.clone(), Arc::clone(log)));
                }
            }
            for (day, mut logs) in days {
                logs.sort_by_key(|(_, log)| log.key());
                let mut part = LogPartWriter::begin(output, tenant, day)?;
                for (labels, log) in logs {
                    part.push(&labels, log)?;
                }
                pending.push(part.finish(output, 0)?);
            }
        }
        Ok(pending)
    }

    fn merge(parts: &[Arc<PartReader>], output: &Output<'_>, level: u8) -> Result<PendingPart, EventsError> {
        let first = &parts.first().expect("a plan has two parts or more").meta;
        let mut part = LogPartWriter::begin(output, first.tenant, first.partition)?;
        let query = LogQuery {
            tenant: first.tenant,
            matchers: Vec::new(),
            needles: Vec::new(),
            words: Vec::new(),
            attribute_terms: Vec::new(),
            range: NanoRange::ALL,
            direction: Direction::Forward,
        };
        let mut failed = None;
        log_scan::Scan::new(&query, &Unlimited, true)
            .run(parts, Vec::new(), &mut |labels, _, log| match part.push(labels, Arc::clone(log)) {
                Ok(()) => std::ops::ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    std::ops::ControlFlow::Break(())
                }
            })
            .map_err(EventsError::Read)?;
        match failed {
            Some(error) => Err(error),
            None => part.finish(output, level),
        }
    }
}

/// Writes a part from records in order of time.
struct LogPartWriter {
    writer: PartWriter,
    file: PartFileWriter,
    streams: FxHashMap<Labels, u32>,
    slice: Vec<(u32, Arc<StoredLog>)>,
    slice_bytes: usize,
    slice_bytes_max: usize,
    block_bytes: usize,
    facts: PartFacts,
}

impl LogPartWriter {
    fn begin(output: &Output<'_>, tenant: TenantId, day: i64) -> Result<Self, EventsError> {
        let writer = output
            .set
            .begin(tenant, day, Logs::NAME)
            .map_err(|source| EventsError::Parts { kind: Logs::NAME, source })?;
        let file = PartFileWriter::create(&writer, Logs::NAME)?;
        let facts = PartFacts { min_t: i64::MAX, max_t: i64::MIN, format: VERSION, ..PartFacts::default() };
        Ok(Self {
            writer,
            file,
            streams: FxHashMap::default(),
            slice: Vec::new(),
            slice_bytes: 0,
            slice_bytes_max: output.slice_bytes,
            block_bytes: output.block_bytes,
            facts,
        })
    }

    fn push(&mut self, labels: &Labels, log: Arc<StoredLog>) -> Result<(), EventsError> {
        let stream = match self.streams.get(labels) {
            Some(stream) => *stream,
            None => {
                let stream = u32::try_from(self.streams.len()).expect("records of a part fit in memory");
                self.streams.insert(labels.clone(), stream);
                self.file.table.streams.push(labels.clone());
                stream
            }
        };
        self.facts.min_t = self.facts.min_t.min(log.record.time_ns);
        self.facts.max_t = self.facts.max_t.max(log.record.time_ns);
        self.facts.items += 1;
        self.slice_bytes += size(&log);
        self.slice.push((stream, log));
        if self.slice_bytes >= self.slice_bytes_max { self.cut_slice() } else { Ok(()) }
    }

    fn cut_slice(&mut self) -> Result<(), EventsError> {
        let mut slice = std::mem::take(&mut self.slice);
        self.slice_bytes = 0;
        slice.sort_by_key(|(stream, log)| (*stream, log.key()));
        let mut rest = slice.as_slice();
        while !rest.is_empty() {
            let (block, after) = rest.split_at(block_len(rest, self.block_bytes));
            rest = after;
            let (info, columns, terms) = {
                let (info, columns, mut terms) = log_block::encode(block.iter().map(|(stream, log)| (*stream, &**log)));
                for run in &info.streams {
                    for (name, value) in &self.file.table.streams[run.stream as usize] {
                        terms.add_term(name, value);
                    }
                }
                (info, columns, terms)
            };
            self.file.add_block(info, &columns, terms)?;
        }
        Ok(())
    }

    fn finish(mut self, output: &Output<'_>, level: u8) -> Result<PendingPart, EventsError> {
        self.cut_slice()?;
        self.file.finish(Logs::NAME)?;
        self.facts.level = level;
        self.facts.created_ms = output.now_ms;
        self.writer.finish(self.facts).map_err(|source| EventsError::Parts { kind: Logs::NAME, source })
    }
}

/// How many records of a sorted slice, at least one, the next block takes. A block ends with its stream when it is half
/// full, so that large streams have their own and small ones share.
fn block_len(rest: &[(u32, Arc<StoredLog>)], block_bytes: usize) -> usize {
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

fn size(log: &StoredLog) -> usize {
    let attributes: usize = log.record.attributes.iter().map(|(n, v)| n.len() + v.heap_bytes() + 2).sum();
    log.record.text.len() + attributes + 32
}
