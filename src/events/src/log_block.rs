//! The columns of a block of log records. See `FORMAT.md`, "Block of log records".
//!
//! Records that differ only in time, text and ids share a *set*: what they have in common is kept once and a record
//! has the number of its set. Attributes whose values would make a set for nearly every record (*wide* ones) have a
//! column of their own instead.

use std::borrow::Cow;
use std::hash::Hasher;
use std::sync::Arc;

use hashbrown::HashTable;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};
use trefoil_model::labels::underscored;
use trefoil_model::{AttributeValue, AttributeWants, Attributes, LogRecord, SpanId, TraceId};

use crate::columns::{BlockColumns, Column};
use crate::log_filter::{Filter, Needed};
use crate::packed_ints;
use crate::table::{BlockInfo, BlockStream, level_index};
use crate::text_codec::{TextWriter, Texts};
use crate::tokens::{BlockTerms, find_runs};
use crate::wire::{
    Cursor, Malformed, StringTable, Strings, put_attributes, put_i64, put_len, put_u64, put_value, read_attributes,
    read_value, skip_value,
};

/// A log record as it is kept: with its place in the order of arrival and the attributes of its group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredLog {
    /// Order of arrival within the store; breaks ties of time within a stream.
    pub(crate) sequence: u64,
    /// Attributes of the group.
    pub(crate) shared: Arc<Attributes>,
    /// The record.
    pub(crate) record: LogRecord,
}

/// A log record to be written, however it is held.
pub(crate) trait ToWrite: Sync {
    /// Whether many records have the same [`Self::common`], at one place.
    const SHARES: bool;
    fn time_ns(&self) -> i64;
    fn sequence(&self) -> u64;
    /// 0 for none.
    fn observed_ns(&self) -> i64;
    fn ids(&self) -> (Option<TraceId>, Option<SpanId>);
    fn text(&self) -> &str;
    /// Attributes of the group.
    fn shared(&self) -> &Attributes;
    /// A record with the severity and the attributes; nothing else of it is looked at.
    fn common(&self) -> &LogRecord;
}

impl ToWrite for Arc<StoredLog> {
    const SHARES: bool = false;

    fn time_ns(&self) -> i64 {
        self.record.time_ns
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn observed_ns(&self) -> i64 {
        self.record.observed_ns
    }

    fn ids(&self) -> (Option<TraceId>, Option<SpanId>) {
        (self.record.trace_id, self.record.span_id)
    }

    fn text(&self) -> &str {
        &self.record.text
    }

    fn shared(&self) -> &Attributes {
        &self.shared
    }

    fn common(&self) -> &LogRecord {
        &self.record
    }
}

const TIMES: usize = 0;
const SEQUENCES: usize = 1;
const LENGTHS: usize = 2;
const SET_OF: usize = 3;
const SETS: usize = 4;
const TEXTS: usize = 5;
const TEXT_IDS: usize = 6;
const OBSERVED: usize = 7;
const ID_PLACES: usize = 8;
const ID_BYTES: usize = 9;
/// The first column of a wide attribute.
const WIDE: usize = 10;

/// What records of a set have beside times, texts and attributes.
const HAS_OBSERVED: u8 = 1;
const HAS_TRACE_ID: u8 = 2;
const HAS_SPAN_ID: u8 = 4;
/// In place of the type of a value: the value is in the column of its name.
const IS_WIDE: u8 = 9;
/// With fewer sets no attribute is wide.
const WIDE_SETS_MIN: usize = 64;
/// Most wide attributes of a block.
const WIDE_MAX: usize = 64;
/// Units of time that records are often in.
const SCALES: [u64; 3] = [1_000_000_000, 1_000_000, 1_000];

/// Encodes records, sorted by (stream, time, sequence): what is known of the block, the columns, its terms.
pub(crate) fn encode<R: ToWrite>(records: &[(u32, R)]) -> (BlockInfo, Vec<Column>, BlockTerms) {
    let sets = SetWriter::of(records);
    let mut terms = BlockTerms::default();
    let mut info = BlockInfo { min_t: i64::MAX, max_t: i64::MIN, ..BlockInfo::default() };
    let (mut texts, mut runs) = (TextWriter::default(), Vec::new());
    let (mut lengths, mut times) = (Vec::with_capacity(records.len()), Vec::with_capacity(records.len()));
    let (mut observed, mut id_places, mut id_bytes) = (Vec::new(), Vec::new(), Vec::new());
    let mut wide: Vec<Vec<u8>> = vec![Vec::new(); sets.wide.len()];
    for ((stream, log), set) in records.iter().zip(&sets.set_of) {
        let (text, time_ns, observed_ns) = (log.text(), log.time_ns(), log.observed_ns());
        find_runs(text, &mut runs);
        terms.add_runs(text, &runs);
        let ids_start = texts.add(text, time_ns, &runs);
        lengths.push(text.len() as u64);
        times.push(time_ns);
        if observed_ns != 0 {
            put_i64(&mut observed, observed_ns.wrapping_sub(time_ns));
        }
        let text_ids = &texts.ids[ids_start..];
        let (trace_id, span_id) = log.ids();
        if let Some(id) = trace_id {
            put_id(&id.0, text_ids, &mut id_places, &mut id_bytes);
            terms.add_id("trace_id", hex(&id.0, &mut [0; 32]));
        }
        if let Some(id) = span_id {
            put_id(&id.0, text_ids, &mut id_places, &mut id_bytes);
            terms.add_id("span_id", hex(&id.0, &mut [0; 16]));
        }
        if sets.sets[*set as usize].has_wide {
            for (name, value) in &log.common().attributes {
                if let Some(column) = sets.wide_column(name) {
                    terms.add_attribute("", name, value);
                    put_value(&mut wide[column], &mut Strings::none(), value);
                }
            }
        }
        note(&mut info, *stream, log);
    }
    sets.add_terms(&mut terms);
    let mut columns: Vec<Column> = vec![Column::default(); WIDE];
    columns[TIMES] = Column { bytes: encode_times(&times, &info), is_dense: true };
    columns[SEQUENCES] = encode_sequences(records).into();
    packed_ints::put(&mut columns[LENGTHS].bytes, &lengths);
    columns[SET_OF] = sets.encode_set_of().into();
    columns[SETS] = sets.encode().into();
    columns[TEXTS] = texts.texts.into();
    columns[TEXT_IDS] = Column { bytes: texts.ids, is_dense: true };
    columns[OBSERVED] = observed.into();
    columns[ID_PLACES] = id_places.into();
    columns[ID_BYTES] = Column { bytes: id_bytes, is_dense: true };
    columns.extend(wide.into_iter().map(Column::from));
    (info, columns, terms)
}

fn hex<'b>(bytes: &[u8], buffer: &'b mut [u8]) -> &'b str {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for (pair, byte) in buffer.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    std::str::from_utf8(buffer).expect("hexadecimal digits are ASCII")
}

/// Writes an id: 1 + its place, in units of eight bytes, among the ids of the line, or 0 and its bytes.
fn put_id(id: &[u8], text_ids: &[u8], places: &mut Vec<u8>, bytes: &mut Vec<u8>) {
    let place = text_ids.windows(id.len()).step_by(8).position(|w| w == id).and_then(|at| u8::try_from(at + 1).ok());
    match place {
        Some(place) => places.push(place),
        None => {
            places.push(0);
            bytes.extend_from_slice(id);
        }
    }
}

/// The least time, the unit, and in this unit the distance of each time to the one before in its stream, or for the
/// first of a stream to the least time.
fn encode_times(times: &[i64], info: &BlockInfo) -> Vec<u8> {
    let mut out = Vec::with_capacity(times.len() * 5 + 16);
    let mut distances = Vec::with_capacity(times.len());
    let mut rest = times;
    for run in &info.streams {
        let (of_run, after) = rest.split_at(usize::try_from(run.count).expect("records fit in memory"));
        rest = after;
        let mut last = info.min_t;
        for time in of_run {
            distances.push(time.wrapping_sub(last) as u64);
            last = *time;
        }
    }
    let scale = SCALES.into_iter().find(|scale| distances.iter().all(|d| d.is_multiple_of(*scale))).unwrap_or(1);
    if scale > 1 {
        distances.iter_mut().for_each(|d| *d /= scale);
    }
    put_i64(&mut out, info.min_t);
    put_u64(&mut out, scale);
    packed_ints::put(&mut out, &distances);
    out
}

/// 0 and the only sequence, or 1 and the distance of each to the one before.
fn encode_sequences<R: ToWrite>(records: &[(u32, R)]) -> Vec<u8> {
    let mut out = Vec::new();
    let first = records.first().map_or(0, |(_, log)| log.sequence());
    if records.iter().all(|(_, log)| log.sequence() == first) {
        out.push(0);
        put_u64(&mut out, first);
        return out;
    }
    out.push(1);
    let mut last = 0u64;
    for (_, log) in records {
        put_i64(&mut out, log.sequence().wrapping_sub(last) as i64);
        last = log.sequence();
    }
    out
}

fn note(info: &mut BlockInfo, stream: u32, log: &impl ToWrite) {
    let (time, bytes) = (log.time_ns(), log.text().len() as u64);
    info.min_t = info.min_t.min(time);
    info.max_t = info.max_t.max(time);
    info.count += 1;
    info.text_bytes += bytes;
    info.levels[level_index(log.common().severity_number)] += 1;
    match info.streams.last_mut() {
        Some(run) if run.stream == stream => {
            run.count += 1;
            run.text_bytes += bytes;
            run.min_t = run.min_t.min(time);
            run.max_t = run.max_t.max(time);
        }
        _ => {
            info.streams.push(BlockStream { stream, count: 1, text_bytes: bytes, min_t: time, max_t: time });
        }
    }
}

fn flags_of(log: &impl ToWrite) -> u8 {
    let (trace_id, span_id) = log.ids();
    (u8::from(log.observed_ns() != 0) * HAS_OBSERVED)
        | (u8::from(trace_id.is_some()) * HAS_TRACE_ID)
        | (u8::from(span_id.is_some()) * HAS_SPAN_ID)
}

/// A set, by the first record that is of it.
struct NewSet<'a> {
    hash: u64,
    group: u32,
    flags: u8,
    record: &'a LogRecord,
    has_wide: bool,
}

/// The sets of a block to be written.
struct SetWriter<'a> {
    groups: Vec<&'a Attributes>,
    sets: Vec<NewSet<'a>>,
    set_of: Vec<u32>,
    /// Names of wide attributes, sorted.
    wide: Vec<&'a str>,
}

impl<'a> SetWriter<'a> {
    fn of<R: ToWrite>(records: &'a [(u32, R)]) -> Self {
        let mut writer = Self { groups: Vec::new(), sets: Vec::new(), set_of: Vec::new(), wide: Vec::new() };
        let group_of = writer.find_groups(records);
        writer.find_sets(records, &group_of);
        if writer.sets.len() > WIDE_SETS_MIN && writer.sets.len() > records.len() / 8 {
            writer.wide = writer.find_wide();
            if !writer.wide.is_empty() {
                writer.find_sets(records, &group_of);
            }
        }
        writer
    }

    /// Numbers the attributes of groups; after a merge equal ones come from several places.
    fn find_groups<R: ToWrite>(&mut self, records: &'a [(u32, R)]) -> Vec<u32> {
        let mut by_place: FxHashMap<*const Attributes, u32> = FxHashMap::default();
        let mut by_hash: FxHashMap<u64, Vec<u32>> = FxHashMap::default();
        let mut numbers = Vec::with_capacity(records.len());
        for (_, log) in records {
            let shared = log.shared();
            let place = std::ptr::from_ref(shared);
            if let Some(number) = by_place.get(&place) {
                numbers.push(*number);
                continue;
            }
            let mut hasher = FxHasher::default();
            hash_attributes(shared, &mut hasher);
            let known = by_hash.entry(hasher.finish()).or_default();
            let equal = known.iter().copied().find(|number| same(self.groups[*number as usize], shared));
            let number = equal.unwrap_or_else(|| {
                let number = u32::try_from(self.groups.len()).expect("groups fit in memory");
                self.groups.push(shared);
                known.push(number);
                number
            });
            by_place.insert(place, number);
            numbers.push(number);
        }
        numbers
    }

    fn find_sets<R: ToWrite>(&mut self, records: &'a [(u32, R)], group_of: &[u32]) {
        let mut table: HashTable<u32> = HashTable::new();
        let mut by_place: FxHashMap<(*const LogRecord, u32, u8), u32> = FxHashMap::default();
        self.sets.clear();
        self.set_of.clear();
        for ((_, log), group) in records.iter().zip(group_of) {
            let (record, flags) = (log.common(), flags_of(log));
            let place = (std::ptr::from_ref(record), *group, flags);
            if R::SHARES
                && let Some(index) = by_place.get(&place)
            {
                self.set_of.push(*index);
                continue;
            }
            let (hash, has_wide) = self.hash(record, *group, flags);
            let (sets, wide) = (&self.sets, &self.wide);
            let is_same = |index: &u32| {
                let set = &sets[*index as usize];
                set.hash == hash && (set.group, set.flags) == (*group, flags) && same_set(set.record, record, wide)
            };
            let index = match table.find(hash, is_same) {
                Some(index) => *index,
                None => {
                    let index = u32::try_from(sets.len()).expect("sets fit in memory");
                    table.insert_unique(hash, index, |index| sets[*index as usize].hash);
                    self.sets.push(NewSet { hash, group: *group, flags, record, has_wide });
                    index
                }
            };
            if R::SHARES {
                by_place.insert(place, index);
            }
            self.set_of.push(index);
        }
    }

    fn hash(&self, record: &LogRecord, group: u32, flags: u8) -> (u64, bool) {
        let (mut hasher, mut has_wide) = (FxHasher::default(), false);
        hasher.write_u32(group);
        hasher.write_u8(record.severity_number);
        hasher.write_u8(flags);
        hasher.write(record.severity_text.as_bytes());
        for (name, value) in &record.attributes {
            hasher.write(name.as_bytes());
            match self.wide_column(name) {
                Some(_) => has_wide = true,
                None => hash_value(value, &mut hasher),
            }
        }
        // The table looks at the upper bits.
        (hasher.finish().wrapping_mul(0x9e37_79b9_7f4a_7c15), has_wide)
    }

    /// Names with so many values that they are what makes the sets many.
    fn find_wide(&self) -> Vec<&'a str> {
        let mut values: FxHashMap<&'a str, FxHashSet<u64>> = FxHashMap::default();
        for set in &self.sets {
            for (name, value) in &set.record.attributes {
                let mut hasher = FxHasher::default();
                hash_value(value, &mut hasher);
                values.entry(name.as_str()).or_default().insert(hasher.finish());
            }
        }
        let mut wide: Vec<(usize, &str)> = values
            .into_iter()
            .map(|(name, values)| (values.len(), name))
            .filter(|(distinct, _)| *distinct > WIDE_SETS_MIN / 2 && *distinct > self.sets.len() / 8)
            .collect();
        wide.sort_unstable_by(|a, b| b.cmp(a));
        wide.truncate(WIDE_MAX);
        let mut names: Vec<&str> = wide.into_iter().map(|(_, name)| name).collect();
        names.sort_unstable();
        names
    }

    fn wide_column(&self, name: &str) -> Option<usize> {
        if self.wide.is_empty() { None } else { self.wide.binary_search(&name).ok() }
    }

    fn encode_set_of(&self) -> Vec<u8> {
        match self.sets.len() {
            0..=1 => Vec::new(),
            2..=0x100 => self.set_of.iter().map(|set| *set as u8).collect(),
            0x101..=0x1_0000 => self.set_of.iter().flat_map(|set| (*set as u16).to_le_bytes()).collect(),
            _ => self.set_of.iter().flat_map(|set| set.to_le_bytes()).collect(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let (mut strings, mut body) = (Strings::default(), Vec::new());
        put_len(&mut body, self.wide.len());
        self.wide.iter().for_each(|name| strings.put(&mut body, name));
        put_len(&mut body, self.groups.len());
        self.groups.iter().for_each(|group| put_attributes(&mut body, &mut strings, group));
        put_len(&mut body, self.sets.len());
        for set in &self.sets {
            put_u64(&mut body, u64::from(set.group));
            body.push(set.flags);
            body.push(set.record.severity_number);
            strings.put(&mut body, &set.record.severity_text);
            put_len(&mut body, set.record.attributes.len());
            for (name, value) in &set.record.attributes {
                strings.put(&mut body, name);
                match self.wide_column(name) {
                    Some(_) => body.push(IS_WIDE),
                    None => put_value(&mut body, &mut strings, value),
                }
            }
        }
        let mut out = strings.finish();
        out.extend_from_slice(&body);
        out
    }

    fn add_terms(&self, terms: &mut BlockTerms) {
        self.groups.iter().for_each(|group| terms.add_attributes("", group));
        for NewSet { record, .. } in &self.sets {
            for (name, value) in &record.attributes {
                if self.wide_column(name).is_none() {
                    terms.add_attribute("", name, value);
                }
            }
            if !record.severity_text.is_empty() {
                terms.add_term("severity_text", &record.severity_text);
            }
            if record.severity_number != 0 {
                terms.add_term("severity_number", &record.severity_number.to_string());
            }
        }
    }
}

fn same_set(a: &LogRecord, b: &LogRecord, wide: &[&str]) -> bool {
    a.severity_number == b.severity_number
        && a.severity_text == b.severity_text
        && a.attributes.len() == b.attributes.len()
        && a.attributes.iter().zip(&b.attributes).all(|((a_name, a), (b_name, b))| {
            a_name == b_name && (same_value(a, b) || (!wide.is_empty() && wide.binary_search(&a_name.as_str()).is_ok()))
        })
}

pub(crate) fn same(a: &Attributes, b: &Attributes) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((a_name, a), (b_name, b))| a_name == b_name && same_value(a, b))
}

/// Equality of what is written: of floats the bits.
fn same_value(a: &AttributeValue, b: &AttributeValue) -> bool {
    use AttributeValue as V;
    match (a, b) {
        (V::Double(a), V::Double(b)) => a.to_bits() == b.to_bits(),
        (V::Array(a), V::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b)),
        (V::Map(a), V::Map(b)) => same(a, b),
        (a, b) => a == b,
    }
}

pub(crate) fn hash_attributes(attributes: &Attributes, hasher: &mut FxHasher) {
    for (name, value) in attributes {
        hasher.write(name.as_bytes());
        hash_value(value, hasher);
    }
}

fn hash_value(value: &AttributeValue, hasher: &mut FxHasher) {
    match value {
        AttributeValue::Null => hasher.write_u8(0),
        AttributeValue::String(text) => hasher.write(text.as_bytes()),
        AttributeValue::Bool(flag) => hasher.write_u8(1 + u8::from(*flag)),
        AttributeValue::Int(number) => hasher.write_i64(*number),
        AttributeValue::Double(number) => hasher.write_u64(number.to_bits()),
        AttributeValue::Bytes(bytes) => hasher.write(bytes),
        AttributeValue::Array(values) => {
            hasher.write_usize(values.len());
            values.iter().for_each(|value| hash_value(value, hasher));
        }
        AttributeValue::Map(attributes) => {
            hasher.write_usize(attributes.len());
            hash_attributes(attributes, hasher);
        }
    }
}

/// A set as read.
#[derive(Debug)]
pub(crate) struct Set {
    /// Attributes of the group.
    pub(crate) shared: Arc<Attributes>,
    flags: u8,
    /// A record of the set without time, text and ids; wide attributes are null.
    whole: LogRecord,
    /// The same without wide attributes, if there are any.
    light: Option<LogRecord>,
    /// Places of wide attributes in the record, and their columns.
    wide: Vec<(usize, usize)>,
}

impl Set {
    /// A record with what all records of the set have.
    pub(crate) fn common(&self) -> &LogRecord {
        self.light.as_ref().unwrap_or(&self.whole)
    }
}

/// The sets of a block.
#[derive(Debug)]
pub(crate) struct Sets {
    pub(crate) sets: Vec<Set>,
    /// Names of wide attributes.
    wide: Vec<String>,
    /// The flags of all.
    flags: u8,
}

impl Sets {
    /// Which of the sets may have records with the attributes that are needed.
    pub(crate) fn that_may_have(&self, filter: &Filter<'_>, needed: Needed) -> Vec<bool> {
        let wide: Vec<_> = self.wide.iter().map(|name| underscored(name)).collect();
        let of_set = |set: &Set| {
            let may_have = |name: &str| match name {
                "trace_id" if set.flags & HAS_TRACE_ID != 0 => true,
                "span_id" if set.flags & HAS_SPAN_ID != 0 => true,
                // The value may be a map.
                _ => !set.wide.is_empty() && wide.iter().any(|wide| name.starts_with(&**wide)),
            };
            filter.has_all(needed, &set.shared, set.common(), &may_have)
        };
        self.sets.iter().map(of_set).collect()
    }

    /// Whether ids of records may be those of their lines.
    pub(crate) fn needs_texts(&self) -> bool {
        self.flags & (HAS_TRACE_ID | HAS_SPAN_ID) != 0
    }

    /// Whether records of a set differ in something that is wanted.
    pub(crate) fn is_split_by(&self, wants: &AttributeWants<'_>) -> bool {
        let wants_all = matches!(wants, AttributeWants::All);
        (self.flags & HAS_TRACE_ID != 0 && wants.wants("trace_id"))
            || (self.flags & HAS_SPAN_ID != 0 && wants.wants("span_id"))
            || (self.flags & HAS_OBSERVED != 0 && wants_all)
            || self.wide.iter().any(|name| wants.wants(&underscored(name)))
    }
}

/// A block, read column by column.
pub(crate) struct LogBlock<'a> {
    columns: BlockColumns<'a>,
    /// What it has of each stream, in the order of its records.
    pub(crate) runs: &'a [BlockStream],
    /// Records.
    pub(crate) len: usize,
}

impl<'a> LogBlock<'a> {
    /// Opens a block; `info` and `runs` are what the part's table says of it.
    pub(crate) fn open(bytes: &'a [u8], info: &BlockInfo, runs: &'a [BlockStream]) -> Result<Self, Malformed> {
        let count = runs.iter().try_fold(0u64, |sum, run| sum.checked_add(run.count));
        if count != Some(info.count) {
            return Err(Malformed("counts of streams"));
        }
        let len = usize::try_from(info.count).map_err(|_| Malformed("count"))?;
        Ok(Self { columns: BlockColumns::open(bytes)?, runs, len })
    }

    pub(crate) fn times(&self) -> Result<Vec<i64>, Malformed> {
        let column = self.columns.get(TIMES)?;
        let mut cursor = Cursor::new(&column);
        let (least, scale) = (cursor.i64()?, cursor.u64()?);
        let distances = packed_ints::read(&mut cursor, self.len)?;
        let (mut out, mut distances) = (Vec::with_capacity(self.len), distances.into_iter());
        for run in self.runs {
            let mut time = least;
            for distance in distances.by_ref().take(usize::try_from(run.count).unwrap_or(usize::MAX)) {
                time = time.wrapping_add(distance.wrapping_mul(scale) as i64);
                out.push(time);
            }
        }
        Ok(out)
    }

    pub(crate) fn sequences(&self) -> Result<Vec<u64>, Malformed> {
        let column = self.columns.get(SEQUENCES)?;
        let mut cursor = Cursor::new(&column);
        match cursor.u8()? {
            0 => Ok(vec![cursor.u64()?; self.len]),
            1 => {
                let mut last = 0u64;
                (0..self.len)
                    .map(|_| {
                        last = last.wrapping_add(cursor.i64()? as u64);
                        Ok(last)
                    })
                    .collect()
            }
            _ => Err(Malformed("sequences")),
        }
    }

    pub(crate) fn lengths(&self) -> Result<Vec<u64>, Malformed> {
        packed_ints::read(&mut Cursor::new(&self.columns.get(LENGTHS)?), self.len)
    }

    pub(crate) fn texts(&self, times: &[i64], lengths: &[u64]) -> Result<Texts, Malformed> {
        Texts::read(&self.columns.get(TEXTS)?, &self.columns.get(TEXT_IDS)?, times, lengths)
    }

    /// The set of each record.
    pub(crate) fn set_of(&self, sets: &Sets) -> Result<Vec<u32>, Malformed> {
        let column = self.columns.get(SET_OF)?;
        let out: Vec<u32> = match sets.sets.len() {
            0..=1 => vec![0; self.len],
            2..=0x100 => column.iter().map(|set| u32::from(*set)).collect(),
            0x101..=0x1_0000 => {
                column.as_chunks::<2>().0.iter().map(|set| u32::from(u16::from_le_bytes(*set))).collect()
            }
            _ => column.as_chunks::<4>().0.iter().map(|set| u32::from_le_bytes(*set)).collect(),
        };
        let in_bounds = out.iter().all(|set| (*set as usize) < sets.sets.len());
        if out.len() == self.len && in_bounds { Ok(out) } else { Err(Malformed("sets of records")) }
    }

    pub(crate) fn sets(&self) -> Result<Sets, Malformed> {
        let column = self.columns.get(SETS)?;
        let mut cursor = Cursor::new(&column);
        let strings = StringTable::read_from(&mut cursor)?;
        let wide_count = cursor.count()?;
        let wide =
            (0..wide_count).map(|_| strings.get(&mut cursor).map(str::to_owned)).collect::<Result<Vec<_>, _>>()?;
        let group_count = cursor.count()?;
        let groups = (0..group_count)
            .map(|_| read_attributes(&mut cursor, &strings).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let set_count = cursor.count()?;
        let mut sets = Vec::with_capacity(set_count.min(4096));
        for _ in 0..set_count {
            sets.push(read_set(&mut cursor, &strings, &groups, &wide)?);
        }
        let flags = sets.iter().fold(0, |flags, set| flags | set.flags);
        Ok(Sets { sets, wide, flags })
    }

    /// Calls `each` with every chosen record, ascending, without its text. `texts` must be there when
    /// [`Sets::needs_texts`] says so.
    pub(crate) fn records(
        &self,
        chosen: &[u32],
        times: &[i64],
        texts: Option<&Texts>,
        (sets, set_of): (&Sets, &[u32]),
        each: &mut dyn FnMut(usize, LogRecord),
    ) -> Result<(), Malformed> {
        let has_ids = sets.flags & (HAS_TRACE_ID | HAS_SPAN_ID) != 0;
        let (observed, places, bytes) =
            (self.columns.get(OBSERVED)?, self.columns.get(ID_PLACES)?, self.columns.get(ID_BYTES)?);
        let text_ids = if has_ids { self.columns.get(TEXT_IDS)? } else { Cow::Borrowed(&[][..]) };
        let mut ids = Ids {
            places: Cursor::new(&places),
            bytes: Cursor::new(&bytes),
            text_ids: &text_ids,
            starts: texts.map_or(&[][..], |texts| &texts.id_starts),
        };
        let mut observed = Cursor::new(&observed);
        let wide = (0..sets.wide.len()).map(|i| self.columns.get(WIDE + i)).collect::<Result<Vec<_>, _>>()?;
        let mut wide: Vec<Cursor<'_>> = wide.iter().map(|column| Cursor::new(column)).collect();
        let none = StringTable::none();
        let mut chosen = chosen.iter().map(|row| *row as usize).peekable();
        for (row, set) in set_of.iter().enumerate() {
            let Some(next) = chosen.peek() else { break };
            let is_chosen = *next == row;
            let set = &sets.sets[*set as usize];
            if !is_chosen && set.flags == 0 && set.wide.is_empty() {
                continue;
            }
            let observed_by = if set.flags & HAS_OBSERVED != 0 { Some(observed.i64()?) } else { None };
            let trace_id = if set.flags & HAS_TRACE_ID != 0 { Some(TraceId(ids.take(row)?)) } else { None };
            let span_id = if set.flags & HAS_SPAN_ID != 0 { Some(SpanId(ids.take(row)?)) } else { None };
            if !is_chosen {
                for (_, column) in &set.wide {
                    skip_value(&mut wide[*column], &none)?;
                }
                continue;
            }
            chosen.next();
            let mut record = set.whole.clone();
            record.time_ns = times[row];
            record.observed_ns = observed_by.map_or(0, |by| record.time_ns.wrapping_add(by));
            record.trace_id = trace_id;
            record.span_id = span_id;
            for (place, column) in &set.wide {
                record.attributes[*place].1 = read_value(&mut wide[*column], &none)?;
            }
            each(row, record);
        }
        Ok(())
    }
}

/// The ids of records.
struct Ids<'a> {
    places: Cursor<'a>,
    bytes: Cursor<'a>,
    text_ids: &'a [u8],
    starts: &'a [u32],
}

impl Ids<'_> {
    fn take<const N: usize>(&mut self, row: usize) -> Result<[u8; N], Malformed> {
        const BAD: Malformed = Malformed("id of a record");
        let Some(place) = self.places.u8()?.checked_sub(1) else { return self.bytes.array() };
        let start = *self.starts.get(row).ok_or(BAD)? as usize + usize::from(place) * 8;
        let bytes = self.text_ids.get(start..start + N).ok_or(BAD)?;
        bytes.try_into().map_err(|_| BAD)
    }
}

fn read_set<'a>(
    cursor: &mut Cursor<'a>,
    strings: &StringTable<'a>,
    groups: &[Arc<Attributes>],
    wide_names: &[String],
) -> Result<Set, Malformed> {
    let group = usize::try_from(cursor.u64()?).map_err(|_| Malformed("group"))?;
    let shared = Arc::clone(groups.get(group).ok_or(Malformed("group"))?);
    let flags = cursor.u8()?;
    if flags & !(HAS_OBSERVED | HAS_TRACE_ID | HAS_SPAN_ID) != 0 {
        return Err(Malformed("flags"));
    }
    let severity_number = cursor.u8()?;
    let severity_text = strings.get(cursor)?.to_owned();
    let count = cursor.count()?;
    let (mut attributes, mut wide) = (Attributes::with_capacity(count.min(256)), Vec::new());
    for place in 0..count {
        let name = strings.get(cursor)?;
        if cursor.clone().u8()? == IS_WIDE {
            cursor.u8()?;
            let column = wide_names.iter().position(|wide| wide == name).ok_or(Malformed("wide attribute"))?;
            wide.push((place, column));
            attributes.push((name.to_owned(), AttributeValue::Null));
        } else {
            attributes.push((name.to_owned(), read_value(cursor, strings)?));
        }
    }
    let whole = LogRecord {
        time_ns: 0,
        observed_ns: 0,
        severity_number,
        severity_text,
        text: String::new(),
        attributes,
        trace_id: None,
        span_id: None,
    };
    let light = (!wide.is_empty()).then(|| {
        let mut light = whole.clone();
        let mut place = 0;
        light.attributes.retain(|_| {
            place += 1;
            !wide.iter().any(|(wide, _)| wide + 1 == place)
        });
        light
    });
    Ok(Set { shared, flags, whole, light, wide })
}
