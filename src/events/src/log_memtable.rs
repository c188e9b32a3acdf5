//! Log records that are not yet in a part.
//!
//! The lines of several groups of a batch lie one after the other, so that a text is sought in all of a group at once; a
//! filter tells when it is in none of them. Records share what they have beside line, times and ids, so that a
//! record takes little more than its line.

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::ops::{Deref, Range};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rustc_hash::{FxHashMap, FxHasher};
use trefoil_model::{
    AttributeWants, Attributes, Labels, LogBatch, LogGroup, LogRecord, NanoRange, SpanId, TenantId, TraceId,
};

use crate::grams::{self, Grams};
use crate::log_block::{StoredLog, ToWrite, hash_attributes, same};

/// Records of a stream.
pub(crate) type Run = Arc<Records>;
/// Runs with their streams.
pub(crate) type Runs = Vec<(Labels, Run)>;

/// Different rests of a batch, the latest, among which the next record's is sought.
const RESTS_SOUGHT: usize = 8;
/// Rests that are known of earlier batches.
const RESTS_KNOWN_MAX: usize = 4096;
/// Lines that lie together have at most about so many bytes.
const CHUNK_BYTES_MAX: usize = 256 << 10;
/// What a group of a batch takes beside its records, about.
const GROUP_BYTES: usize = size_of::<Chunk>() + size_of::<Lines>() + 64;
/// Bytes that a rest takes beside its attributes.
const REST_BYTES: usize = size_of::<Rest>() + 16;

/// Bytes that a record takes beside its line.
const RECORD_BYTES: usize = size_of::<Kept>() + size_of::<i64>() + size_of::<u32>();

/// Records of a stream, sorted by (time, sequence).
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    records: Vec<Kept>,
    /// Their lines, and those of no others.
    chunks: Vec<Chunk>,
}

impl Deref for Records {
    type Target = [Kept];

    fn deref(&self) -> &[Kept] {
        &self.records
    }
}

impl Records {
    /// All lines of the records, in any order.
    pub(crate) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The record of a line of a chunk. `near` is the line and the place of one that was found before, and is set.
    pub(crate) fn record(&self, lines: &Lines, index: usize, near: &mut (usize, usize)) -> Option<&Kept> {
        let key = (*lines.times.get(index)?, lines.first_sequence + index as u64);
        let guess = (near.1 + index).checked_sub(near.0);
        let guess = guess.filter(|place| self.records.get(*place).is_some_and(|log| log.key() == key));
        let place = guess.or_else(|| self.records.binary_search_by_key(&key, Kept::key).ok())?;
        *near = (index, place);
        self.records.get(place)
    }
}

/// Lines of a stream that came together.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    /// The first and the last of their times.
    pub(crate) bounds: (i64, i64),
    pub(crate) lines: Arc<Lines>,
    /// Which of the lines are of the stream.
    pub(crate) rows: Range<u32>,
}

impl Chunk {
    /// The places of its lines.
    pub(crate) fn range(&self) -> Range<usize> {
        self.rows.start as usize..self.rows.end as usize
    }

    /// Its lines, one after the other.
    pub(crate) fn text(&self) -> &str {
        let Range { start, end } = self.range();
        &self.lines.text[self.lines.end(start)..self.lines.end(end)]
    }
}

/// Lines of one or more streams that came together, one after the other.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) text: String,
    /// Where each line ends.
    pub(crate) ends: Vec<u32>,
    times: Vec<i64>,
    /// That of the first line; the others follow.
    first_sequence: u64,
    /// What the lines hold.
    pub(crate) grams: Grams,
}

impl Lines {
    fn new(records: &mut dyn Iterator<Item = &LogRecord>, count: usize, bytes: usize, first_sequence: u64) -> Self {
        let (mut text, mut ends) = (String::with_capacity(bytes), Vec::with_capacity(count));
        let mut times = Vec::with_capacity(count);
        for record in records {
            text.push_str(&record.text);
            ends.push(u32::try_from(text.len()).expect("lines of a chunk are smaller than 4 GiB"));
            times.push(record.time_ns);
        }
        let mut starts = std::iter::once(0).chain(ends.iter().map(|end| *end as usize));
        let mut start = starts.next().unwrap_or_default();
        let grams = Grams::of(
            bytes,
            starts.map(|end| {
                let line = &text[start..end];
                start = end;
                line
            }),
        );
        Self { text, ends, times, first_sequence, grams }
    }

    /// Where the line before one ends.
    fn end(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    /// A line.
    pub(crate) fn line(&self, index: usize) -> &str {
        &self.text[self.end(index)..self.ends[index] as usize]
    }

    /// What lines are ordered by within their stream.
    pub(crate) fn key(&self, index: u32) -> (i64, u32) {
        (self.times.get(index as usize).copied().unwrap_or_default(), index)
    }
}

/// What records of a batch have in common.
#[derive(Debug)]
struct Rest {
    shared: Arc<Attributes>,
    /// Without line, times and ids.
    record: LogRecord,
}

/// The rests of a memtable, by their hash, as far as they are known.
type Rests = Mutex<FxHashMap<u64, Arc<Rest>>>;

/// A rest, which is shared with earlier batches when it is the same.
fn known_rest(rests: &Rests, shared: &Arc<Attributes>, mut record: LogRecord) -> Arc<Rest> {
    let mut hasher = FxHasher::default();
    hash_attributes(shared, &mut hasher);
    hash_attributes(&record.attributes, &mut hasher);
    hasher.write_u8(record.severity_number);
    hasher.write(record.severity_text.as_bytes());
    let hash = hasher.finish();
    let mut rests = rests.lock();
    if let Some(rest) = rests.get(&hash)
        && has_same_rest((&rest.shared, &rest.record), (shared, &record))
    {
        return Arc::clone(rest);
    }
    if rests.len() >= RESTS_KNOWN_MAX {
        rests.clear();
    }
    record.text = String::new();
    (record.time_ns, record.observed_ns) = (0, 0);
    record.attributes.shrink_to_fit();
    let rest = Arc::new(Rest { shared: Arc::clone(shared), record });
    rests.insert(hash, Arc::clone(&rest));
    rest
}

/// A record of a memtable.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) time_ns: i64,
    sequence: u64,
    observed_ns: i64,
    lines: Arc<Lines>,
    start: u32,
    len: u32,
    rest: Arc<Rest>,
    ids: Option<Box<(Option<TraceId>, Option<SpanId>)>>,
}

impl Kept {
    /// The order within a stream.
    pub(crate) fn key(&self) -> (i64, u64) {
        (self.time_ns, self.sequence)
    }

    /// The line.
    pub(crate) fn text(&self) -> &str {
        &self.lines.text[self.start as usize..][..self.len as usize]
    }

    /// Attributes of the group, and the record as far as it is the same for many: at the same place for all of them.
    pub(crate) fn in_common(&self) -> (&Attributes, &LogRecord) {
        (&self.rest.shared, &self.rest.record)
    }

    /// Its ids.
    pub(crate) fn ids(&self) -> (Option<TraceId>, Option<SpanId>) {
        self.ids.as_deref().copied().unwrap_or_default()
    }

    /// Whether [`Self::in_common`] is all that is wanted beside line and time.
    pub(crate) fn is_in_common(&self, wants: &AttributeWants<'_>) -> bool {
        let has_ids = self.ids.is_some() && (wants.wants("trace_id") || wants.wants("span_id"));
        let has_observed = self.observed_ns != 0 && matches!(wants, AttributeWants::All);
        !has_ids && !has_observed
    }

    /// The record without its line.
    pub(crate) fn record(&self) -> LogRecord {
        let (trace_id, span_id) = self.ids();
        let mut record = self.rest.record.clone();
        record.time_ns = self.time_ns;
        record.observed_ns = self.observed_ns;
        record.trace_id = trace_id;
        record.span_id = span_id;
        record
    }

    /// The record by itself.
    pub(crate) fn stored(&self) -> StoredLog {
        let mut record = self.record();
        self.text().clone_into(&mut record.text);
        StoredLog { sequence: self.sequence, shared: Arc::clone(&self.rest.shared), record }
    }
}

impl ToWrite for &Kept {
    const SHARES: bool = true;

    fn time_ns(&self) -> i64 {
        self.time_ns
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn observed_ns(&self) -> i64 {
        self.observed_ns
    }

    fn ids(&self) -> (Option<TraceId>, Option<SpanId>) {
        Kept::ids(self)
    }

    fn text(&self) -> &str {
        Kept::text(self)
    }

    fn shared(&self) -> &Attributes {
        &self.rest.shared
    }

    fn common(&self) -> &LogRecord {
        &self.rest.record
    }
}

/// Bytes that a batch takes in a memtable.
pub(crate) fn batch_bytes(batch: &LogBatch) -> u64 {
    let (mut bytes, mut text_bytes) = (0, 0);
    let mut rests: Vec<(&Attributes, &LogRecord)> = Vec::new();
    for group in &batch.groups {
        bytes += GROUP_BYTES + group.stream.heap_bytes() + attributes_bytes(&group.shared);
        text_bytes += texts_bytes(group);
        for record in &group.records {
            bytes += RECORD_BYTES + record.text.len();
            if record.trace_id.is_some() || record.span_id.is_some() {
                bytes += 32;
            }
            let latest = &rests[rests.len().saturating_sub(RESTS_SOUGHT)..];
            if !latest.iter().any(|(shared, known)| has_same_rest((shared, known), (&group.shared, record))) {
                bytes += REST_BYTES + record.severity_text.len() + attributes_bytes(&record.attributes);
                rests.push((&group.shared, record));
            }
        }
    }
    // As if all had one filter.
    (bytes + grams::filter_bytes(text_bytes) + text_bytes.saturating_sub(grams::TEXT_BYTES_MAX) / 8) as u64
}

fn texts_bytes(group: &LogGroup) -> usize {
    group.records.iter().map(|record| record.text.len()).sum()
}

fn attributes_bytes(attributes: &Attributes) -> usize {
    attributes.iter().map(|(name, value)| name.len() + value.heap_bytes() + 64).sum()
}

fn has_same_rest((a_shared, a): (&Attributes, &LogRecord), (b_shared, b): (&Attributes, &LogRecord)) -> bool {
    a.severity_number == b.severity_number
        && a.severity_text == b.severity_text
        && same(&a.attributes, &b.attributes)
        && (std::ptr::eq(a_shared, b_shared) || same(a_shared, b_shared))
}

/// What batches share while they are packed.
struct Packing<'m> {
    /// The rests of this batch.
    rests: Vec<Arc<Rest>>,
    /// Those of all.
    known: &'m Rests,
    sequence: u64,
}

impl Packing<'_> {
    /// Packs groups whose lines are to lie together.
    fn pack_together(&mut self, groups: Vec<LogGroup>, bytes: usize, out: &mut Vec<(Labels, Records)>) {
        let count = groups.iter().map(|group| group.records.len()).sum();
        let mut records = groups.iter().flat_map(|group| &group.records);
        let lines = Arc::new(Lines::new(&mut records, count, bytes, self.sequence));
        let mut first = 0;
        for LogGroup { stream, shared, records } in groups {
            let mut packed = Records { records: Vec::with_capacity(records.len()), chunks: Vec::with_capacity(1) };
            self.pack(&shared, records, &lines, &mut first, &mut packed);
            packed.records.sort_by_key(Kept::key);
            out.push((stream, packed));
        }
    }

    /// Packs a group of many lines.
    fn pack_alone(&mut self, group: LogGroup) -> (Labels, Records) {
        let LogGroup { stream, shared, records } = group;
        let mut packed = Records { records: Vec::with_capacity(records.len()), chunks: Vec::new() };
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            let (mut chunk, mut bytes) = (Vec::new(), 0);
            while let Some(record) =
                records.next_if(|record| bytes == 0 || bytes + record.text.len() <= CHUNK_BYTES_MAX)
            {
                bytes += record.text.len();
                chunk.push(record);
            }
            let lines = Arc::new(Lines::new(&mut chunk.iter(), chunk.len(), bytes, self.sequence));
            self.pack(&shared, chunk, &lines, &mut 0, &mut packed);
        }
        packed.records.sort_by_key(Kept::key);
        (stream, packed)
    }

    /// Adds records of a group, in any order; `first` is the place of the first among the lines.
    fn pack(
        &mut self,
        shared: &Arc<Attributes>,
        records: Vec<LogRecord>,
        lines: &Arc<Lines>,
        first: &mut usize,
        out: &mut Records,
    ) {
        let range = *first..*first + records.len();
        let Some(times) = lines.times.get(range.clone()).filter(|times| !times.is_empty()) else { return };
        let least = times.iter().copied().min().unwrap_or(i64::MAX);
        let bounds = (least, times.iter().copied().max().unwrap_or(i64::MIN));
        let place = |at: usize| u32::try_from(at).expect("lines of a chunk are fewer than their bytes");
        let rows = place(range.start)..place(range.end);
        out.chunks.push(Chunk { bounds, lines: Arc::clone(lines), rows });
        let mut start = place(lines.end(*first));
        *first = range.end;
        for mut record in records {
            let len = u32::try_from(record.text.len()).expect("a line is smaller than 4 GiB");
            let ids = (record.trace_id.take(), record.span_id.take());
            let (time_ns, observed_ns) = (record.time_ns, record.observed_ns);
            let latest = &self.rests[self.rests.len().saturating_sub(RESTS_SOUGHT)..];
            let of_batch = latest.iter().find(|rest| has_same_rest((&rest.shared, &rest.record), (shared, &record)));
            let rest = match of_batch {
                Some(rest) => Arc::clone(rest),
                None => {
                    let rest = known_rest(self.known, shared, record);
                    self.rests.push(Arc::clone(&rest));
                    rest
                }
            };
            out.records.push(Kept {
                time_ns,
                sequence: self.sequence,
                observed_ns,
                lines: Arc::clone(lines),
                start,
                len,
                rest,
                ids: (ids.0.is_some() || ids.1.is_some()).then(|| Box::new(ids)),
            });
            start = start.saturating_add(len);
            self.sequence += 1;
        }
    }
}

/// Records of a stream as sorted runs; each is more than twice as long as the next, so that there are few.
#[derive(Debug, Default, Clone)]
struct Stream {
    runs: Vec<Run>,
}

impl Stream {
    fn add(&mut self, records: Records) {
        self.runs.push(Arc::new(records));
        while let [.., before, last] = self.runs.as_slice() {
            if before.len() > last.len() * 2 {
                break;
            }
            let last = self.runs.pop().expect("there are two");
            let before = self.runs.pop().expect("there are two");
            self.runs.push(Arc::new(merge(Arc::unwrap_or_clone(before), Arc::unwrap_or_clone(last))));
        }
    }
}

fn merge(a: Records, b: Records) -> Records {
    let mut out = Vec::with_capacity(a.len() + b.len());
    let mut chunks = a.chunks;
    chunks.extend(b.chunks);
    let (mut a, mut b) = (a.records.into_iter().peekable(), b.records.into_iter().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        let next = if x.key() <= y.key() { a.next() } else { b.next() };
        out.extend(next);
    }
    out.extend(a);
    out.extend(b);
    Records { records: out, chunks }
}

/// The log records of all tenants that are not yet in a part. Readers and writers share it.
#[derive(Debug, Default)]
pub(crate) struct LogMemtable {
    tenants: RwLock<BTreeMap<TenantId, FxHashMap<Labels, Stream>>>,
    rests: Rests,
}

impl LogMemtable {
    /// Inserts a batch; its records get sequences from `sequence` on.
    pub(crate) fn insert(&self, batch: LogBatch, sequence: u64) {
        let mut groups = Vec::with_capacity(batch.groups.len());
        let mut packing = Packing { rests: Vec::new(), known: &self.rests, sequence };
        let mut left = batch.groups.into_iter().peekable();
        while let Some(first) = left.next() {
            let mut bytes = texts_bytes(&first);
            if bytes > grams::TEXT_BYTES_MAX {
                groups.push(packing.pack_alone(first));
                continue;
            }
            let mut some = vec![first];
            while let Some(group) = left.next_if(|group| bytes + texts_bytes(group) <= grams::TEXT_BYTES_MAX) {
                bytes += texts_bytes(&group);
                some.push(group);
            }
            packing.pack_together(some, bytes, &mut groups);
        }
        // One lock for the whole batch: it becomes visible together.
        let mut tenants = self.tenants.write();
        let streams = tenants.entry(batch.tenant).or_default();
        for (labels, records) in groups {
            if !records.is_empty() {
                streams.entry(labels).or_insert_with(|| Stream { runs: Vec::with_capacity(1) }).add(records);
            }
        }
    }

    /// The runs of a tenant that overlap a range and whose stream is wanted.
    pub(crate) fn runs(&self, tenant: TenantId, range: NanoRange, wanted: &mut dyn FnMut(&Labels) -> bool) -> Runs {
        let tenants = self.tenants.read();
        let Some(streams) = tenants.get(&tenant) else { return Vec::new() };
        let mut out = Vec::new();
        #[expect(clippy::iter_over_hash_type, reason = "readers order what they get")]
        for (labels, stream) in streams {
            let overlaps = |run: &&Run| match (run.first(), run.last()) {
                (Some(first), Some(last)) => range.overlaps(first.time_ns, last.time_ns),
                _ => false,
            };
            if stream.runs.iter().any(|run| overlaps(&run)) && wanted(labels) {
                out.extend(stream.runs.iter().filter(overlaps).map(|run| (labels.clone(), Arc::clone(run))));
            }
        }
        out
    }

    /// Calls `each` with all runs, for who knows that nothing is inserted any more.
    pub(crate) fn each_stream<E>(
        &self,
        tenant: TenantId,
        each: impl FnOnce(&[(&Labels, &[Run])]) -> Result<(), E>,
    ) -> Result<(), E> {
        let tenants = self.tenants.read();
        let Some(streams) = tenants.get(&tenant) else { return Ok(()) };
        let all: Vec<_> = streams.iter().map(|(labels, stream)| (labels, stream.runs.as_slice())).collect();
        each(&all)
    }

    /// All tenants that have records.
    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        self.tenants.read().keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use trefoil_model::AttributeValue;

    use super::*;

    fn record(time_ns: i64, level: f64) -> LogRecord {
        LogRecord {
            time_ns,
            observed_ns: time_ns + 1,
            severity_number: 9,
            severity_text: "info".to_owned(),
            text: format!("line {time_ns} ") + &"x".repeat(time_ns as usize),
            attributes: vec![("level".to_owned(), AttributeValue::Double(level))],
            trace_id: (time_ns % 3 == 0).then_some(TraceId([3; 16])),
            span_id: (time_ns % 2 == 0).then_some(SpanId([2; 8])),
        }
    }

    /// The first of two groups that are packed together.
    fn packed(shared: &Arc<Attributes>, records: &[LogRecord], sequence: u64, known: &Rests) -> Records {
        let group = || LogGroup { stream: Labels::empty(), shared: Arc::clone(shared), records: records.to_vec() };
        let (mut packing, mut out) = (Packing { rests: Vec::new(), known, sequence }, Vec::new());
        packing.pack_together(vec![group(), group()], 2 * texts_bytes(&group()), &mut out);
        assert_eq!(packing.sequence, sequence + 2 * records.len() as u64);
        let chunk = &out[1].1.chunks()[0];
        let texts: Vec<&str> = chunk.range().map(|at| chunk.lines.line(at)).collect();
        assert!(texts.iter().zip(records).all(|(text, record)| *text == record.text) && texts.concat() == chunk.text());
        out.swap_remove(0).1
    }

    #[test]
    fn records_are_kept_to_the_bit_and_share_what_is_the_same() {
        let records: Vec<LogRecord> = (0..40).map(|n| record(n, if n % 2 == 0 { 0.0 } else { -0.0 })).collect();
        let shared = Arc::new(vec![("host".to_owned(), AttributeValue::Int(1))]);
        let known = Rests::default();
        let kept = packed(&shared, &records, 5, &known);
        for (at, (kept, record)) in kept.iter().zip(&records).enumerate() {
            let stored = kept.stored();
            assert_eq!((stored.sequence, &stored.shared), (5 + at as u64, &shared));
            assert_eq!(format!("{:?}", stored.record), format!("{record:?}"));
        }
        assert!(kept.iter().all(|k| Arc::ptr_eq(&k.lines, &kept[0].lines)));
        assert!(Arc::ptr_eq(&kept[0].rest, &kept[2].rest) && !Arc::ptr_eq(&kept[0].rest, &kept[1].rest));
        let later = packed(&Arc::new((*shared).clone()), &records, 45, &known);
        assert!(Arc::ptr_eq(&kept[0].rest, &later[0].rest) && later[39].stored().sequence == 84);
    }

    #[test]
    fn long_lines_lie_apart() {
        let mut records: Vec<LogRecord> = (0..4).map(|n| record(n, 0.0)).collect();
        records[1].text = "y".repeat(CHUNK_BYTES_MAX + 1);
        let group = LogGroup { stream: Labels::empty(), shared: Arc::default(), records: records.clone() };
        let known = Rests::default();
        let kept = Packing { rests: Vec::new(), known: &known, sequence: 0 }.pack_alone(group).1;
        assert!(kept.iter().zip(&records).all(|(kept, record)| kept.text() == record.text));
        assert!(!Arc::ptr_eq(&kept[0].lines, &kept[1].lines) && Arc::ptr_eq(&kept[2].lines, &kept[3].lines));
    }
}
