//! The columns of a block of spans. See `FORMAT.md`, "Block of spans".
//!
//! Light columns (ids, times, sets with service, name, kind, status) lie apart from the heavy ones; each is read alone.
//! Spans with the same origin, name, kind, status, small things and names of attributes share a *set*. The values of
//! each frequent attribute name have a column of their own.

use std::hash::Hash;
use std::sync::Arc;

use hashbrown::HashTable;
use rustc_hash::FxHashMap;
use trefoil_model::{AttributeValue, SpanId, StatusCode, TraceId};
use xxhash_rust::xxh3::xxh3_64;

use crate::columns::Column;
use crate::packed_ints;
use crate::record::put_origin;
use crate::span_block::{Origin, StoredSpan, add_event_terms, add_origin_terms, add_set_terms, add_value_terms};
use crate::table::{BlockInfo, OperationInfo, SpanStats};
use crate::tokens::BlockTerms;
use crate::wire::{Strings, put_attributes, put_bytes, put_i64, put_len, put_u64, put_value};

pub(crate) const TRACES: usize = 0;
pub(crate) const TIMES: usize = 1;
pub(crate) const SPAN_IDS: usize = 2;
pub(crate) const PARENTS: usize = 3;
pub(crate) const PARENT_IDS: usize = 4;
pub(crate) const SEQUENCES: usize = 5;
pub(crate) const SET_OF: usize = 6;
pub(crate) const SETS: usize = 7;
pub(crate) const ORIGINS: usize = 8;
pub(crate) const SHAPES: usize = 9;
pub(crate) const EVENTS: usize = 10;
pub(crate) const LINKS: usize = 11;
pub(crate) const REST: usize = 12;
/// The first column of the values of an attribute name.
pub(crate) const VALUES: usize = 13;

/// Encodings of values.
pub(crate) const DICTIONARY: u8 = 0;
pub(crate) const INTEGERS: u8 = 1;
pub(crate) const TEXTS: u8 = 2;
pub(crate) const MIXED: u8 = 3;

/// Codes of parents: none, one that is written out, or 2 + its place within the trace.
pub(crate) const NO_PARENT: u64 = 0;
pub(crate) const FAR_PARENT: u64 = 1;

/// Most names that have a column of their own.
const NAMES_MAX: usize = 512;
/// Names of fewer values have none.
const NAME_VALUES_MIN: usize = 4;
/// Units of time that spans are often in.
const SCALES: [u64; 3] = [1_000_000_000, 1_000_000, 1_000];

/// An encoded block.
pub(crate) struct Encoded {
    pub(crate) info: BlockInfo,
    pub(crate) columns: Vec<Column>,
    pub(crate) terms: BlockTerms,
    /// Operations of its spans, each once.
    pub(crate) operations: Vec<OperationInfo>,
}

/// Numbers things in the order in which they come.
struct Numbers<T>(FxHashMap<T, u32>, Vec<T>);

impl<T: Hash + Eq + Clone> Numbers<T> {
    fn new() -> Self {
        Self(FxHashMap::default(), Vec::new())
    }

    fn of(&mut self, thing: T) -> u32 {
        if let Some(number) = self.0.get(&thing) {
            return *number;
        }
        let number = u32::try_from(self.1.len()).expect("a block fits in memory");
        self.1.push(thing.clone());
        self.0.insert(thing, number);
        number
    }
}

/// What spans of a set have in common, as numbers.
type SetKey = [u32; 5];
/// Trace state, flags, status message, dropped.
type Small<'s> = (&'s str, u32, &'s str, [u32; 3]);

/// Encodes spans, sorted by trace id and within a trace by start.
pub(crate) fn encode(spans: &[Arc<StoredSpan>]) -> Encoded {
    let mut columns = vec![Column::default(); VALUES];
    let mut terms = BlockTerms::default();
    encode_traces(spans, &mut columns);
    let info = encode_times(spans, &mut columns);
    encode_ids(spans, &mut columns);

    let mut origins = OriginNumbers::default();
    let (mut names, mut smalls, mut sets) = (Numbers::new(), Numbers::<Small<'_>>::new(), Numbers::<SetKey>::new());
    let (mut attribute_names, mut shapes) = (Numbers::<&str>::new(), Numbers::<Vec<u32>>::new());
    let mut values: Vec<Vec<&AttributeValue>> = Vec::new();
    let (mut set_of, mut shape) = (Vec::with_capacity(spans.len()), Vec::new());
    for stored in spans {
        let span = &stored.span;
        shape.clear();
        for (name, value) in &span.attributes {
            let number = attribute_names.of(name);
            if number as usize == values.len() {
                values.push(Vec::new());
            }
            values[number as usize].push(value);
            shape.push(number);
        }
        let shape = match shapes.0.get(shape.as_slice()) {
            Some(number) => *number,
            None => shapes.of(shape.clone()),
        };
        let small = smalls.of((&span.trace_state, span.flags, &span.status_message, span.dropped));
        let flags = u32::from(span.kind as u8 | (span.status_code as u8) << 4);
        set_of.push(sets.of([origins.of(&stored.origin), names.of(span.name.as_str()), flags, small, shape]));
    }
    for origin in &origins.list {
        add_origin_terms(&mut terms, origin);
    }
    columns[SET_OF].bytes = encode_numbers(&set_of, sets.1.len());
    columns[SETS].bytes = encode_sets(&sets.1, &names.1, &origins.list);
    columns[ORIGINS].bytes = encode_origins(&origins.list);

    let mut frequent: Vec<u32> =
        (0..values.len() as u32).filter(|n| values[*n as usize].len() >= NAME_VALUES_MIN).collect();
    frequent.sort_by_key(|n| std::cmp::Reverse(values[*n as usize].len()));
    frequent.truncate(NAMES_MAX);
    frequent.sort_unstable();
    let mut places = vec![0u64; values.len()];
    for (place, number) in (1u64..).zip(&frequent) {
        places[*number as usize] = place;
        let name = attribute_names.1[*number as usize];
        columns.push(encode_values(name, &values[*number as usize], &mut terms));
    }
    columns[SHAPES].bytes = encode_shapes(&smalls.1, &attribute_names.1, &places, &shapes.1);
    encode_heavy(spans, &places, &attribute_names.0, &mut columns, &mut terms);
    for [_, name, flags, small, _] in &sets.1 {
        add_set_terms(&mut terms, names.1[*name as usize], *flags as u8, smalls.1[*small as usize].2);
    }
    let operations = operations_of(spans, &set_of, &sets.1, &names.1, &origins.list);
    Encoded { info, columns, terms, operations }
}

/// Numbers origins: after a merge, and of several pushes, equal ones come from several places.
#[derive(Default)]
struct OriginNumbers<'s> {
    by_place: FxHashMap<*const Origin, u32>,
    by_bytes: FxHashMap<Vec<u8>, u32>,
    list: Vec<&'s Origin>,
}

impl<'s> OriginNumbers<'s> {
    fn of(&mut self, origin: &'s Arc<Origin>) -> u32 {
        if let Some(number) = self.by_place.get(&Arc::as_ptr(origin)) {
            return *number;
        }
        let mut bytes = Vec::new();
        put_origin(&mut bytes, &mut Strings::none(), &origin.resource, &origin.scope);
        let number = *self.by_bytes.entry(bytes).or_insert_with(|| {
            self.list.push(origin);
            u32::try_from(self.list.len() - 1).expect("a block fits in memory")
        });
        self.by_place.insert(Arc::as_ptr(origin), number);
        number
    }
}

/// The ids of the traces.
fn encode_traces(spans: &[Arc<StoredSpan>], columns: &mut [Column]) {
    let mut bytes = Vec::new();
    for run in runs(spans) {
        bytes.extend_from_slice(&run[0].span.trace_id.0);
    }
    columns[TRACES] = Column { bytes, is_dense: true };
}

fn runs(spans: &[Arc<StoredSpan>]) -> impl Iterator<Item = &[Arc<StoredSpan>]> {
    spans.chunk_by(|a, b| a.span.trace_id == b.span.trace_id)
}

/// Divides by the greatest common unit and tells it.
fn scale(numbers: &mut [u64]) -> u64 {
    let scale = SCALES.into_iter().find(|scale| numbers.iter().all(|n| n.is_multiple_of(*scale))).unwrap_or(1);
    if scale > 1 {
        numbers.iter_mut().for_each(|n| *n /= scale);
    }
    scale
}

fn put_scaled(out: &mut Vec<u8>, mut numbers: Vec<u64>) {
    put_u64(out, scale(&mut numbers));
    packed_ints::put(out, &numbers);
}

/// Spans of each trace, its first start less the least, start of each span less that of its trace, lengths.
fn encode_times(spans: &[Arc<StoredSpan>], columns: &mut [Column]) -> BlockInfo {
    let mut info = BlockInfo { min_t: i64::MAX, max_t: i64::MIN, ..BlockInfo::default() };
    let mut stats = SpanStats { min_duration: u64::MAX, ..SpanStats::default() };
    for stored in spans {
        let span = &stored.span;
        info.min_t = info.min_t.min(span.start_ns);
        info.max_t = info.max_t.max(span.start_ns);
        let duration = span.duration_ns() as u64;
        stats.min_duration = stats.min_duration.min(duration);
        stats.max_duration = stats.max_duration.max(duration);
        stats.errors += u64::from(span.status_code == StatusCode::Error);
    }
    info.count = spans.len() as u64;
    info.traces = spans.first().zip(spans.last()).map(|(first, last)| (first.span.trace_id, last.span.trace_id));
    info.spans = Some(Box::new(stats));
    let (mut counts, mut firsts) = (Vec::new(), Vec::new());
    let (mut starts, mut lengths) = (Vec::with_capacity(spans.len()), Vec::with_capacity(spans.len()));
    for run in runs(spans) {
        let first = run[0].span.start_ns;
        counts.push(run.len() as u64);
        firsts.push(first.wrapping_sub(info.min_t) as u64);
        for stored in run {
            let span = &stored.span;
            starts.push(span.start_ns.wrapping_sub(first) as u64);
            lengths.push(span.end_ns.wrapping_sub(span.start_ns) as u64);
        }
    }
    let mut out = Vec::with_capacity(spans.len() * 8);
    put_i64(&mut out, info.min_t);
    packed_ints::put(&mut out, &counts);
    put_scaled(&mut out, firsts);
    put_scaled(&mut out, starts);
    put_scaled(&mut out, lengths);
    columns[TIMES] = Column { bytes: out, is_dense: true };
    info
}

fn encode_ids(spans: &[Arc<StoredSpan>], columns: &mut [Column]) {
    let mut ids = Vec::with_capacity(spans.len() * 8);
    let (mut parents, mut far, mut places) = (Vec::with_capacity(spans.len()), Vec::new(), FxHashMap::default());
    let (mut sequences, mut last) = (Vec::with_capacity(spans.len()), 0u64);
    for run in runs(spans) {
        places.clear();
        for (place, stored) in (0u64..).zip(run) {
            ids.extend_from_slice(&stored.span.span_id.0);
            places.entry(stored.span.span_id).or_insert(place);
            let distance = stored.sequence.wrapping_sub(last) as i64;
            // Zigzag: distances are small of either sign.
            sequences.push(((distance << 1) ^ (distance >> 63)) as u64);
            last = stored.sequence;
        }
        for stored in run {
            parents.push(match stored.span.parent_span_id {
                None => NO_PARENT,
                Some(SpanId(parent)) => match places.get(&SpanId(parent)) {
                    Some(place) => place + 2,
                    None => {
                        far.extend_from_slice(&parent);
                        FAR_PARENT
                    }
                },
            });
        }
    }
    columns[SPAN_IDS] = Column { bytes: ids, is_dense: true };
    columns[PARENT_IDS] = Column { bytes: far, is_dense: true };
    packed_ints::put(&mut columns[PARENTS].bytes, &parents);
    packed_ints::put(&mut columns[SEQUENCES].bytes, &sequences);
}

/// Numbers below `count` in the width that this needs; nothing for one.
fn encode_numbers(numbers: &[u32], count: usize) -> Vec<u8> {
    match count {
        0..=1 => Vec::new(),
        2..=0x100 => numbers.iter().map(|n| *n as u8).collect(),
        0x101..=0x1_0000 => numbers.iter().flat_map(|n| (*n as u16).to_le_bytes()).collect(),
        _ => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
    }
}

fn encode_sets(sets: &[SetKey], names: &[&str], origins: &[&Origin]) -> Vec<u8> {
    let (mut strings, mut body) = (Strings::default(), Vec::new());
    put_len(&mut body, origins.len());
    for origin in origins {
        strings.put(&mut body, origin.resource.service_name());
        strings.put(&mut body, &origin.scope.name);
        strings.put(&mut body, &origin.scope.version);
    }
    put_len(&mut body, names.len());
    names.iter().for_each(|name| strings.put(&mut body, name));
    put_len(&mut body, sets.len());
    for part in 0..5 {
        let numbers: Vec<u64> = sets.iter().map(|set| u64::from(set[part])).collect();
        packed_ints::put(&mut body, &numbers);
    }
    with_strings(strings, &body)
}

fn with_strings(strings: Strings, body: &[u8]) -> Vec<u8> {
    let mut out = strings.finish();
    out.extend_from_slice(body);
    out
}

fn encode_origins(origins: &[&Origin]) -> Vec<u8> {
    let (mut strings, mut body) = (Strings::default(), Vec::new());
    put_len(&mut body, origins.len());
    origins.iter().for_each(|o| put_origin(&mut body, &mut strings, &o.resource, &o.scope));
    with_strings(strings, &body)
}

fn encode_shapes(smalls: &[Small<'_>], names: &[&str], places: &[u64], shapes: &[Vec<u32>]) -> Vec<u8> {
    let (mut strings, mut body) = (Strings::default(), Vec::new());
    put_len(&mut body, smalls.len());
    for (state, flags, message, dropped) in smalls {
        strings.put(&mut body, state);
        put_u64(&mut body, u64::from(*flags));
        strings.put(&mut body, message);
        dropped.iter().for_each(|d| put_u64(&mut body, u64::from(*d)));
    }
    put_len(&mut body, names.len());
    for (name, place) in names.iter().zip(places) {
        strings.put(&mut body, name);
        put_u64(&mut body, *place);
    }
    put_len(&mut body, shapes.len());
    for shape in shapes {
        put_len(&mut body, shape.len());
        shape.iter().for_each(|name| put_u64(&mut body, u64::from(*name)));
    }
    with_strings(strings, &body)
}

/// The values of one name: a dictionary when they come again, else what suits their type.
fn encode_values(name: &str, values: &[&AttributeValue], terms: &mut BlockTerms) -> Column {
    let mut table: HashTable<u32> = HashTable::new();
    let (mut bytes, mut places, mut of) = (Vec::new(), vec![0u32], Vec::with_capacity(values.len()));
    let mut none = Strings::none();
    for value in values {
        let start = bytes.len();
        put_value(&mut bytes, &mut none, value);
        let encoded = |index: &u32| &bytes[places[*index as usize] as usize..places[*index as usize + 1] as usize];
        let hash = xxh3_64(&bytes[start..]);
        let known = table.find(hash, |index| *encoded(index) == bytes[start..]).copied();
        match known {
            Some(index) => {
                of.push(index);
                bytes.truncate(start);
            }
            None => {
                let index = u32::try_from(places.len() - 1).expect("a block fits in memory");
                places.push(u32::try_from(bytes.len()).expect("values of a block are below 4 GiB"));
                let encoded = |index: &u32| {
                    xxh3_64(&bytes[places[*index as usize] as usize..places[*index as usize + 1] as usize])
                };
                table.insert_unique(hash, index, encoded);
                of.push(index);
                add_value_terms(terms, name, value);
            }
        }
    }
    let distinct = places.len() - 1;
    if distinct <= values.len() / 2 {
        let mut out = vec![DICTIONARY];
        put_len(&mut out, values.len());
        put_len(&mut out, distinct);
        put_bytes(&mut out, &bytes);
        out.extend_from_slice(&encode_numbers(&of, distinct));
        return out.into();
    }
    let mut out = Vec::new();
    if values.iter().all(|v| matches!(v, AttributeValue::Int(_))) {
        out.push(INTEGERS);
        put_len(&mut out, values.len());
        let in_order = |v: &&AttributeValue| match v {
            AttributeValue::Int(n) => (*n as u64) ^ (1 << 63),
            _ => 0,
        };
        packed_ints::put(&mut out, &values.iter().map(in_order).collect::<Vec<_>>());
        return Column { bytes: out, is_dense: true };
    }
    if values.iter().all(|v| matches!(v, AttributeValue::String(_))) {
        out.push(TEXTS);
        put_len(&mut out, values.len());
        let texts = || values.iter().filter_map(|v| v.as_str());
        packed_ints::put(&mut out, &texts().map(|t| t.len() as u64).collect::<Vec<_>>());
        texts().for_each(|text| out.extend_from_slice(text.as_bytes()));
        return out.into();
    }
    out.push(MIXED);
    put_len(&mut out, values.len());
    values.iter().for_each(|value| put_value(&mut out, &mut none, value));
    out.into()
}

/// Events, links, and values of rare names.
fn encode_heavy(
    spans: &[Arc<StoredSpan>],
    places: &[u64],
    names: &FxHashMap<&str, u32>,
    columns: &mut [Column],
    terms: &mut BlockTerms,
) {
    let (mut counts, mut strings, mut body, mut row) = (Vec::new(), Strings::default(), Vec::new(), Vec::new());
    let (mut link_counts, mut link_strings, mut link_body) = (Vec::new(), Strings::default(), Vec::new());
    let mut rest = Vec::new();
    let has_rest = places.contains(&0);
    for stored in spans {
        let span = &stored.span;
        counts.push(span.events.len() as u64);
        if !span.events.is_empty() {
            row.clear();
            for event in &span.events {
                put_i64(&mut row, event.time_ns.wrapping_sub(span.start_ns));
                strings.put(&mut row, &event.name);
                put_attributes(&mut row, &mut strings, &event.attributes);
                put_u64(&mut row, u64::from(event.dropped_attributes));
                add_event_terms(terms, event);
            }
            put_bytes(&mut body, &row);
        }
        link_counts.push(span.links.len() as u64);
        if !span.links.is_empty() {
            row.clear();
            for link in &span.links {
                row.extend_from_slice(&link.trace_id.0);
                row.extend_from_slice(&link.span_id.0);
                link_strings.put(&mut row, &link.trace_state);
                put_attributes(&mut row, &mut link_strings, &link.attributes);
                link.attributes.iter().for_each(|(name, value)| add_value_terms(terms, name, value));
            }
            put_bytes(&mut link_body, &row);
        }
        if has_rest {
            for (name, value) in &span.attributes {
                if names.get(name.as_str()).is_some_and(|number| places[*number as usize] == 0) {
                    put_value(&mut rest, &mut Strings::none(), value);
                    add_value_terms(terms, name, value);
                }
            }
        }
    }
    for (column, counts, strings, body) in
        [(EVENTS, counts, strings, body), (LINKS, link_counts, link_strings, link_body)]
    {
        if counts.iter().any(|count| *count > 0) {
            let mut out = Vec::new();
            packed_ints::put(&mut out, &counts);
            out.extend_from_slice(&with_strings(strings, &body));
            columns[column].bytes = out;
        }
    }
    columns[REST].bytes = rest;
}

fn operations_of(
    spans: &[Arc<StoredSpan>],
    set_of: &[u32],
    sets: &[SetKey],
    names: &[&str],
    origins: &[&Origin],
) -> Vec<OperationInfo> {
    let mut times = vec![(i64::MAX, i64::MIN); sets.len()];
    for (stored, set) in spans.iter().zip(set_of) {
        let (min_t, max_t) = &mut times[*set as usize];
        *min_t = (*min_t).min(stored.span.start_ns);
        *max_t = (*max_t).max(stored.span.start_ns);
    }
    let mut found: FxHashMap<(&str, &str, u8), (i64, i64)> = FxHashMap::default();
    for ([origin, name, flags, ..], (min_t, max_t)) in sets.iter().zip(times) {
        let key = (origins[*origin as usize].resource.service_name(), names[*name as usize], *flags as u8 & 0xf);
        let known = found.entry(key).or_insert((i64::MAX, i64::MIN));
        *known = (known.0.min(min_t), known.1.max(max_t));
    }
    let operation = |((service, name, kind), (min_t, max_t)): ((&str, &str, u8), (i64, i64))| OperationInfo {
        service: service.to_owned(),
        name: name.to_owned(),
        kind: trefoil_model::SpanKind::from_number(i32::from(kind)),
        min_t,
        max_t,
    };
    found.into_iter().map(operation).collect()
}

/// The ids of a column of ids.
pub(crate) fn trace_ids(bytes: &[u8]) -> impl ExactSizeIterator<Item = TraceId> + '_ {
    bytes.chunks_exact(16).map(|id| TraceId(id.try_into().expect("chunks of 16 bytes")))
}
