//! Reading blocks of spans: light columns, rows that pass conditions, spans as far as they are wanted.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use trefoil_model::value::find;
use trefoil_model::{
    AttributeValue, ConditionScope, Resource, Scope, SpanId, SpanKind, SpanQuery, SpanWants, StatusCode, TraceId,
};

use crate::columns::BlockColumns;
use crate::packed_ints;
use crate::record::read_origin;
use crate::span_block::{Origin, StoredSpan};
use crate::span_build::{Heavy, SpanBuilder, empty_span};
use crate::span_columns::{
    DICTIONARY, FAR_PARENT, INTEGERS, MIXED, NO_PARENT, ORIGINS, PARENT_IDS, PARENTS, SEQUENCES, SET_OF, SETS, SHAPES,
    SPAN_IDS, TEXTS, TIMES, TRACES, VALUES, trace_ids,
};
use crate::table::BlockInfo;
use crate::wire::{Cursor, Malformed, StringTable, read_value, skip_value};

pub(crate) const BAD_REFERENCE: Malformed = Malformed("reference");

pub(crate) fn number(value: u64) -> Result<usize, Malformed> {
    usize::try_from(value).map_err(|_| Malformed("number"))
}

/// What spans of a set have in common, as indexes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetInfo {
    pub(crate) origin: u32,
    pub(crate) name: u32,
    pub(crate) kind: SpanKind,
    pub(crate) status: StatusCode,
    pub(crate) small: u32,
    pub(crate) shape: u32,
}

/// Service, and name and version of the scope.
#[derive(Debug)]
pub(crate) struct LightOrigin {
    pub(crate) service: String,
    scope: String,
    version: String,
}

/// What light columns say of a block.
pub(crate) struct Light {
    pub(crate) traces: Vec<TraceId>,
    /// For each trace the row after its last.
    pub(crate) trace_ends: Vec<u32>,
    pub(crate) starts: Vec<i64>,
    pub(crate) ends: Vec<i64>,
    pub(crate) set_of: Vec<u32>,
    pub(crate) sets: Vec<SetInfo>,
    pub(crate) names: Vec<String>,
    pub(crate) origins: Vec<LightOrigin>,
}

impl Light {
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The rows of a trace, by its place among the traces.
    pub(crate) fn rows_of(&self, trace: usize) -> std::ops::Range<usize> {
        let start = trace.checked_sub(1).map_or(0, |before| self.trace_ends[before] as usize);
        start..self.trace_ends[trace] as usize
    }
}

/// Trace state, flags, status message, dropped.
pub(crate) struct Small {
    pub(crate) state: String,
    pub(crate) flags: u32,
    pub(crate) message: String,
    pub(crate) dropped: [u32; 3],
}

/// Names of attributes, and which of them each shape has.
pub(crate) struct Shapes {
    pub(crate) smalls: Vec<Small>,
    /// With the column of the name less [`VALUES`], if it has one.
    pub(crate) names: Vec<(String, Option<usize>)>,
    pub(crate) shapes: Vec<Vec<u32>>,
}

/// The values of one name.
pub(crate) enum Values<'a> {
    /// Distinct values in one text, their places, and the number of each value.
    Dictionary(Cow<'a, [u8]>, Vec<usize>, Vec<u32>),
    Integers(Vec<u64>),
    Texts(Cow<'a, [u8]>, Vec<usize>),
    Mixed(Cow<'a, [u8]>, Vec<usize>),
}

impl Values<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Dictionary(_, _, of) => of.len(),
            Self::Integers(values) => values.len(),
            Self::Texts(_, places) | Self::Mixed(_, places) => places.len() - 1,
        }
    }

    /// How many [`Self::distinct`] values there are; some may be equal.
    pub(crate) fn distinct_len(&self) -> usize {
        match self {
            Self::Dictionary(_, places, _) => places.len() - 1,
            _ => self.len(),
        }
    }

    /// Which distinct value the value at a place is.
    pub(crate) fn number_of(&self, at: usize) -> Result<usize, Malformed> {
        match self {
            Self::Dictionary(_, _, of) => of.get(at).map(|n| *n as usize).ok_or(BAD_REFERENCE),
            _ if at < self.len() => Ok(at),
            _ => Err(BAD_REFERENCE),
        }
    }

    pub(crate) fn distinct(&self, number: usize) -> Result<AttributeValue, Malformed> {
        let slice = |bytes: &Cow<'_, [u8]>, places: &[usize]| {
            let (start, end) = (places.get(number).copied(), places.get(number + 1).copied());
            start.zip(end).and_then(|(start, end)| bytes.get(start..end).map(<[u8]>::to_vec)).ok_or(BAD_REFERENCE)
        };
        match self {
            Self::Dictionary(bytes, places, _) | Self::Mixed(bytes, places) => {
                read_value(&mut Cursor::new(&slice(bytes, places)?), &StringTable::none())
            }
            Self::Integers(values) => {
                values.get(number).map(|v| AttributeValue::Int((v ^ (1 << 63)) as i64)).ok_or(BAD_REFERENCE)
            }
            Self::Texts(bytes, places) => {
                let text = String::from_utf8(slice(bytes, places)?).map_err(|_| Malformed("text"))?;
                Ok(AttributeValue::String(text))
            }
        }
    }
}

/// A block of spans, open.
pub(crate) struct SpanRowsReader<'a> {
    pub(crate) columns: BlockColumns<'a>,
    pub(crate) count: usize,
    shapes: OnceCell<Shapes>,
    origins: OnceCell<Vec<Arc<Origin>>>,
}

impl<'a> SpanRowsReader<'a> {
    pub(crate) fn open(block: &'a [u8], info: &BlockInfo) -> Result<Self, Malformed> {
        let columns = BlockColumns::open(block)?;
        Ok(Self { columns, count: number(info.count)?, shapes: OnceCell::new(), origins: OnceCell::new() })
    }

    /// Ids of the traces, ascending.
    pub(crate) fn traces(&self) -> Result<Vec<TraceId>, Malformed> {
        Ok(trace_ids(&self.columns.get(TRACES)?).collect())
    }

    pub(crate) fn light(&self) -> Result<Light, Malformed> {
        let traces = self.traces()?;
        let times = self.columns.get(TIMES)?;
        let mut cursor = Cursor::new(&times);
        let min_t = cursor.i64()?;
        let counts = packed_ints::read(&mut cursor, traces.len())?;
        let firsts = read_scaled(&mut cursor, traces.len())?;
        let mut starts = read_scaled(&mut cursor, self.count)?;
        let lengths = read_scaled(&mut cursor, self.count)?;
        let (mut trace_ends, mut row) = (Vec::with_capacity(traces.len()), 0usize);
        for (count, first) in counts.iter().zip(&firsts) {
            let end = number(*count)?.checked_add(row).filter(|end| *end <= self.count).ok_or(Malformed("count"))?;
            let first = min_t.wrapping_add(*first as i64) as u64;
            starts[row..end].iter_mut().for_each(|start| *start = start.wrapping_add(first));
            row = end;
            trace_ends.push(u32::try_from(row).map_err(|_| Malformed("count"))?);
        }
        if row != self.count {
            return Err(Malformed("count"));
        }
        let starts: Vec<i64> = starts.into_iter().map(|start| start as i64).collect();
        let ends = starts.iter().zip(lengths).map(|(start, length)| start.wrapping_add(length as i64)).collect();
        let bytes = self.columns.get(SETS)?;
        let mut cursor = Cursor::new(&bytes);
        let strings = StringTable::read_from(&mut cursor)?;
        let mut origins = Vec::new();
        for _ in 0..cursor.count()? {
            let (service, scope) = (strings.get(&mut cursor)?.to_owned(), strings.get(&mut cursor)?.to_owned());
            origins.push(LightOrigin { service, scope, version: strings.get(&mut cursor)?.to_owned() });
        }
        let mut names = Vec::new();
        for _ in 0..cursor.count()? {
            names.push(strings.get(&mut cursor)?.to_owned());
        }
        let count = number(cursor.u64()?)?;
        if count > self.count {
            return Err(Malformed("count of sets"));
        }
        let mut column = || packed_ints::read(&mut cursor, count);
        let (of_origin, of_name, flags, small, shape) = (column()?, column()?, column()?, column()?, column()?);
        let mut sets = Vec::with_capacity(count);
        for i in 0..count {
            if of_origin[i] >= origins.len() as u64 || of_name[i] >= names.len() as u64 {
                return Err(BAD_REFERENCE);
            }
            let to_u32 = |n: u64| u32::try_from(n).map_err(|_| BAD_REFERENCE);
            sets.push(SetInfo {
                origin: to_u32(of_origin[i])?,
                name: to_u32(of_name[i])?,
                kind: SpanKind::from_number((flags[i] & 0xf) as i32),
                status: StatusCode::from_number((flags[i] >> 4 & 0xf) as i32),
                small: to_u32(small[i])?,
                shape: to_u32(shape[i])?,
            });
        }
        let set_of = read_numbers(&self.columns.get(SET_OF)?, sets.len(), self.count)?;
        Ok(Light { traces, trace_ends, starts, ends, set_of, sets, names, origins })
    }

    pub(crate) fn span_ids(&self) -> Result<Vec<SpanId>, Malformed> {
        let bytes = self.columns.get(SPAN_IDS)?;
        if bytes.len() != self.count * 8 {
            return Err(Malformed("span ids"));
        }
        Ok(bytes.chunks_exact(8).map(|id| SpanId(id.try_into().expect("chunks of 8 bytes"))).collect())
    }

    fn parent_codes(&self) -> Result<Vec<u64>, Malformed> {
        let bytes = self.columns.get(PARENTS)?;
        packed_ints::read(&mut Cursor::new(&bytes), self.count)
    }

    fn parents(&self, light: &Light, ids: &[SpanId]) -> Result<Vec<Option<SpanId>>, Malformed> {
        let codes = self.parent_codes()?;
        let far = self.columns.get(PARENT_IDS)?;
        let (mut far, mut out) = (far.chunks_exact(8), Vec::with_capacity(self.count));
        for trace in 0..light.traces.len() {
            let rows = light.rows_of(trace);
            for code in &codes[rows.clone()] {
                out.push(match *code {
                    NO_PARENT => None,
                    FAR_PARENT => {
                        let id = far.next().ok_or(Malformed("parents"))?;
                        Some(SpanId(id.try_into().expect("chunks of 8 bytes")))
                    }
                    place => Some(*ids[rows.clone()].get(number(place - 2)?).ok_or(BAD_REFERENCE)?),
                });
            }
        }
        Ok(out)
    }

    fn sequences(&self) -> Result<Vec<u64>, Malformed> {
        let bytes = self.columns.get(SEQUENCES)?;
        let mut last = 0u64;
        let mut out = packed_ints::read(&mut Cursor::new(&bytes), self.count)?;
        for sequence in &mut out {
            last = last.wrapping_add(((*sequence >> 1) as i64 ^ -((*sequence & 1) as i64)) as u64);
            *sequence = last;
        }
        Ok(out)
    }

    pub(crate) fn shapes(&self) -> Result<&Shapes, Malformed> {
        if let Some(shapes) = self.shapes.get() {
            return Ok(shapes);
        }
        let bytes = self.columns.get(SHAPES)?;
        let mut cursor = Cursor::new(&bytes);
        let strings = StringTable::read_from(&mut cursor)?;
        let mut smalls = Vec::new();
        for _ in 0..cursor.count()? {
            let state = strings.get(&mut cursor)?.to_owned();
            let flags = cursor.u32()?;
            let message = strings.get(&mut cursor)?.to_owned();
            smalls.push(Small { state, flags, message, dropped: [cursor.u32()?, cursor.u32()?, cursor.u32()?] });
        }
        let mut names = Vec::new();
        for _ in 0..cursor.count()? {
            let name = strings.get(&mut cursor)?.to_owned();
            names.push((name, number(cursor.u64()?)?.checked_sub(1)));
        }
        let mut shapes = Vec::new();
        for _ in 0..cursor.count()? {
            let count = cursor.count()?;
            let shape = (0..count).map(|_| cursor.u32()).collect::<Result<Vec<u32>, _>>()?;
            if shape.iter().any(|name| *name as usize >= names.len()) {
                return Err(BAD_REFERENCE);
            }
            shapes.push(shape);
        }
        Ok(self.shapes.get_or_init(|| Shapes { smalls, names, shapes }))
    }

    pub(crate) fn shape_of(&self, set: &SetInfo) -> Result<&[u32], Malformed> {
        self.shapes()?.shapes.get(set.shape as usize).map(Vec::as_slice).ok_or(BAD_REFERENCE)
    }

    /// Resources and scopes, whole.
    pub(crate) fn origins(&self) -> Result<&[Arc<Origin>], Malformed> {
        if let Some(origins) = self.origins.get() {
            return Ok(origins);
        }
        let bytes = self.columns.get(ORIGINS)?;
        let mut cursor = Cursor::new(&bytes);
        let strings = StringTable::read_from(&mut cursor)?;
        let mut origins = Vec::new();
        for _ in 0..cursor.count()? {
            let (resource, scope) = read_origin(&mut cursor, &strings)?;
            origins.push(Arc::new(Origin { resource: Arc::new(resource), scope: Arc::new(scope) }));
        }
        Ok(self.origins.get_or_init(|| origins))
    }

    /// The same as far as they are wanted.
    pub(crate) fn wanted_origins(&self, light: &Light, without_resources: bool) -> Result<Vec<Arc<Origin>>, Malformed> {
        if !without_resources {
            let origins = self.origins()?;
            return if origins.len() == light.origins.len() { Ok(origins.to_vec()) } else { Err(BAD_REFERENCE) };
        }
        let short = |origin: &LightOrigin| {
            let name = AttributeValue::String(origin.service.clone());
            let resource = Resource { attributes: vec![("service.name".to_owned(), name)], ..Resource::default() };
            let (name, version) = (origin.scope.clone(), origin.version.clone());
            let scope = Scope { name, version, ..Scope::default() };
            Arc::new(Origin { resource: Arc::new(resource), scope: Arc::new(scope) })
        };
        Ok(light.origins.iter().map(short).collect())
    }

    /// The values of a name with a column of its own.
    pub(crate) fn values(&self, column: usize) -> Result<Values<'a>, Malformed> {
        let index = column.checked_add(VALUES).ok_or(BAD_REFERENCE)?;
        let bytes = self.columns.get(index)?;
        let mut cursor = Cursor::new(&bytes);
        let (encoding, count) = (cursor.u8()?, number(cursor.u64()?)?);
        let after = |cursor: &Cursor<'_>, bytes: &Cow<'a, [u8]>| bytes.len() - cursor.remaining();
        match encoding {
            DICTIONARY => {
                let distinct = number(cursor.u64()?)?;
                let table = cursor.bytes()?;
                let places = places_of(table, distinct)?;
                let of = read_numbers(cursor.take(cursor.remaining())?, distinct, count)?;
                Ok(Values::Dictionary(table.to_vec().into(), places, of))
            }
            INTEGERS => packed_ints::read(&mut cursor, count).map(Values::Integers),
            TEXTS => {
                let lengths = packed_ints::read(&mut cursor, count)?;
                let (mut places, mut at) = (Vec::with_capacity(count + 1), after(&cursor, &bytes));
                places.push(at);
                for length in lengths {
                    at = number(length)?.checked_add(at).filter(|at| *at <= bytes.len()).ok_or(Malformed("length"))?;
                    places.push(at);
                }
                Ok(Values::Texts(bytes, places))
            }
            MIXED => {
                let rest = cursor.take(cursor.remaining())?;
                let places = places_of(rest, count)?;
                Ok(Values::Mixed(rest.to_vec().into(), places))
            }
            _ => Err(Malformed("encoding of values")),
        }
    }

    /// For each row whether it satisfies what light columns and columns of values say of a query. What they cannot say
    /// passes.
    pub(crate) fn passing(
        &self,
        light: &Light,
        query: &SpanQuery,
        wants: &SpanWants<'_>,
    ) -> Result<Vec<bool>, Malformed> {
        let mut sets: Vec<bool> = light
            .sets
            .iter()
            .map(|set| {
                query.operation.as_ref().is_none_or(|name| light.names[set.name as usize] == *name)
                    && query.service.as_ref().is_none_or(|s| light.origins[set.origin as usize].service == *s)
                    && wants.light.is_none_or(|light_of| light_of(&empty_span(set, &light.names)))
            })
            .collect();
        for condition in wants.conditions.iter().filter(|c| c.scope == ConditionScope::Resource) {
            let holds: Vec<bool> = match condition.name {
                "service.name" => {
                    let services = light.origins.iter().map(|o| AttributeValue::String(o.service.clone()));
                    services.map(|service| (condition.test)(&service)).collect()
                }
                name => {
                    let value = |origin: &Arc<Origin>| {
                        let value = find(&origin.resource.attributes, name);
                        (condition.test)(value.unwrap_or(&AttributeValue::Null))
                    };
                    self.origins()?.iter().map(value).collect()
                }
            };
            for (passes, set) in sets.iter_mut().zip(&light.sets) {
                *passes &= *holds.get(set.origin as usize).ok_or(BAD_REFERENCE)?;
            }
        }
        let is_timed = query.range.is_some() || query.min_duration_ns.is_some() || query.max_duration_ns.is_some();
        let row = |(i, set): (usize, &u32)| {
            let (start, end) = (light.starts[i], light.ends[i]);
            let length = end.saturating_sub(start).max(0);
            sets[*set as usize]
                && (!is_timed
                    || (query.range.is_none_or(|range| range.contains(start))
                        && query.min_duration_ns.is_none_or(|min| length >= min)
                        && query.max_duration_ns.is_none_or(|max| length <= max)))
        };
        let mut rows: Vec<bool> = light.set_of.iter().enumerate().map(row).collect();
        if wants.is_root && rows.contains(&true) {
            let codes = self.parent_codes()?;
            rows.iter_mut().zip(codes).for_each(|(row, code)| *row &= code == NO_PARENT);
        }
        for condition in wants.conditions.iter().filter(|c| c.scope == ConditionScope::Span) {
            if !rows.contains(&true) {
                break;
            }
            self.test_values(light, condition.name, condition.test, &mut rows)?;
        }
        Ok(rows)
    }

    /// Keeps of `rows` those whose first value of a name passes.
    fn test_values(
        &self,
        light: &Light,
        name: &str,
        test: &(dyn Fn(&AttributeValue) -> bool + Sync),
        rows: &mut [bool],
    ) -> Result<(), Malformed> {
        let shapes = self.shapes()?;
        let found = shapes.names.iter().position(|(n, _)| n == name);
        let without = test(&AttributeValue::Null);
        let Some(found) = found else {
            if !without {
                rows.fill(false);
            }
            return Ok(());
        };
        let times = |shape: &Vec<u32>| shape.iter().filter(|n| **n as usize == found).count();
        let times: Vec<usize> = shapes.shapes.iter().map(times).collect();
        let Some(column) = shapes.names[found].1 else {
            // Its values are with those of other rare names: who has one passes.
            for (row, set) in rows.iter_mut().zip(&light.set_of) {
                *row &= without || times[light.sets[*set as usize].shape as usize] > 0;
            }
            return Ok(());
        };
        let values = self.values(column)?;
        let mut known: Vec<Option<bool>> = vec![None; values.distinct_len()];
        let mut at = 0;
        for (row, set) in rows.iter_mut().zip(&light.set_of) {
            let count = *times.get(light.sets[*set as usize].shape as usize).ok_or(BAD_REFERENCE)?;
            if *row {
                *row = match count {
                    0 => without,
                    _ => {
                        let number = values.number_of(at)?;
                        let known = known.get_mut(number).ok_or(BAD_REFERENCE)?;
                        match *known {
                            Some(passes) => passes,
                            None => *known.insert(test(&values.distinct(number)?)),
                        }
                    }
                };
            }
            at += count;
        }
        Ok(())
    }

    /// The spans of the chosen rows, with what is wanted.
    pub(crate) fn spans(
        &self,
        light: &Light,
        rows: &[bool],
        wants: &SpanWants<'_>,
    ) -> Result<Vec<Arc<StoredSpan>>, Malformed> {
        let Some(first) = rows.iter().position(|row| *row) else { return Ok(Vec::new()) };
        let ids = self.span_ids()?;
        let parents = self.parents(light, &ids)?;
        let sequences = self.sequences()?;
        let origins = self.wanted_origins(light, wants.without_resources)?;
        let heavy = Heavy::open(self, wants)?;
        let mut builder = SpanBuilder::new(self, light, &heavy, wants)?;
        let mut out = Vec::new();
        let last = rows.iter().rposition(|row| *row).unwrap_or(first);
        let mut trace = 0;
        for row in 0..=last {
            while row >= light.trace_ends[trace] as usize {
                trace += 1;
            }
            if !rows[row] {
                builder.skip(row)?;
                continue;
            }
            let set = &light.sets[light.set_of[row] as usize];
            let mut span = builder.take(row)?;
            (span.trace_id, span.span_id, span.parent_span_id) = (light.traces[trace], ids[row], parents[row]);
            let origin = Arc::clone(&origins[set.origin as usize]);
            out.push(Arc::new(StoredSpan { sequence: sequences[row], origin, span }));
        }
        Ok(out)
    }
}

fn read_scaled(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<u64>, Malformed> {
    let unit = cursor.u64()?;
    let mut numbers = packed_ints::read(cursor, count)?;
    if unit != 1 {
        numbers.iter_mut().for_each(|n| *n = n.wrapping_mul(unit));
    }
    Ok(numbers)
}

/// Numbers below `limit`, in the width that this needs.
fn read_numbers(bytes: &[u8], limit: usize, count: usize) -> Result<Vec<u32>, Malformed> {
    let width = match limit {
        0..=1 => 0,
        2..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    };
    if count.checked_mul(width) != Some(bytes.len()) || (limit == 0 && count > 0) {
        return Err(Malformed("numbers"));
    }
    let numbers: Vec<u32> = match width {
        0 => vec![0; count],
        1 => bytes.iter().map(|n| u32::from(*n)).collect(),
        2 => bytes.chunks_exact(2).map(|n| u32::from(u16::from_le_bytes([n[0], n[1]]))).collect(),
        _ => bytes.chunks_exact(4).map(|n| u32::from_le_bytes(n.try_into().expect("four bytes"))).collect(),
    };
    if numbers.iter().any(|n| *n as usize >= limit) { Err(BAD_REFERENCE) } else { Ok(numbers) }
}

/// Where values begin that stand one behind the other, and where the last ends.
fn places_of(bytes: &[u8], count: usize) -> Result<Vec<usize>, Malformed> {
    if count > bytes.len() {
        return Err(Malformed("count"));
    }
    let (mut cursor, mut places) = (Cursor::new(bytes), Vec::with_capacity(count + 1));
    places.push(0);
    for _ in 0..count {
        skip_value(&mut cursor, &StringTable::none())?;
        places.push(bytes.len() - cursor.remaining());
    }
    Ok(places)
}
