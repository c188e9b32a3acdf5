//! Making spans of the rows of a block, as far as they are wanted.

use std::borrow::Cow;

use trefoil_model::{Span, SpanEvent, SpanId, SpanLink, SpanWants, TraceId};

use crate::packed_ints;
use crate::span_columns::{EVENTS, LINKS, REST};
use crate::span_rows::{BAD_REFERENCE, Light, SetInfo, Shapes, SpanRowsReader, Values, number};
use crate::wire::{Cursor, Malformed, StringTable, read_attributes, read_value, skip_value};

/// Heavy columns as far as they are wanted, decompressed.
pub(crate) struct Heavy<'a> {
    rest: Cow<'a, [u8]>,
    events: Cow<'a, [u8]>,
    links: Cow<'a, [u8]>,
}

impl<'a> Heavy<'a> {
    pub(crate) fn open(reader: &SpanRowsReader<'a>, wants: &SpanWants<'_>) -> Result<Self, Malformed> {
        let column = |column: usize, is_wanted: bool| {
            if is_wanted { reader.columns.get(column) } else { Ok(Cow::Borrowed(&[][..])) }
        };
        let mut rare = reader.shapes()?.names.iter().filter(|(_, column)| column.is_none());
        Ok(Self {
            rest: column(REST, rare.any(|(name, _)| wants.attributes.wants(name)))?,
            events: column(EVENTS, !wants.without_events)?,
            links: column(LINKS, !wants.without_links)?,
        })
    }
}

/// Makes spans of rows, one row after the other.
pub(crate) struct SpanBuilder<'r, 'a> {
    reader: &'r SpanRowsReader<'a>,
    light: &'r Light,
    shapes: &'r Shapes,
    wants_messages: bool,
    /// For each name whether it is wanted.
    is_wanted: Vec<bool>,
    values: Vec<Option<Values<'a>>>,
    /// The next value of each column.
    next: Vec<usize>,
    rest: Option<Cursor<'r>>,
    events: Option<Lists<'r>>,
    links: Option<Lists<'r>>,
}

/// A column of events or links.
struct Lists<'r> {
    strings: StringTable<'r>,
    counts: Vec<u64>,
    rows: Cursor<'r>,
}

impl<'r> Lists<'r> {
    fn open(bytes: &'r [u8], rows: usize) -> Result<Option<Self>, Malformed> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut cursor = Cursor::new(bytes);
        let counts = packed_ints::read(&mut cursor, rows)?;
        let strings = StringTable::read_from(&mut cursor)?;
        Ok(Some(Self { strings, counts, rows: cursor }))
    }

    /// The next row's bytes and how many things are in them.
    fn next(&mut self, row: usize) -> Result<(usize, Cursor<'r>), Malformed> {
        let count = number(*self.counts.get(row).ok_or(BAD_REFERENCE)?)?;
        if count == 0 {
            return Ok((0, Cursor::new(&[])));
        }
        let bytes = self.rows.bytes()?;
        if count > bytes.len() { Err(Malformed("count")) } else { Ok((count, Cursor::new(bytes))) }
    }
}

impl<'r, 'a> SpanBuilder<'r, 'a> {
    pub(crate) fn new(
        reader: &'r SpanRowsReader<'a>,
        light: &'r Light,
        heavy: &'r Heavy<'a>,
        wants: &SpanWants<'_>,
    ) -> Result<Self, Malformed> {
        let shapes = reader.shapes()?;
        let is_wanted: Vec<bool> = shapes.names.iter().map(|(name, _)| wants.attributes.wants(name)).collect();
        let columns = shapes.names.iter().filter_map(|(_, column)| *column).max().map_or(0, |last| last + 1);
        if columns > shapes.names.len() {
            return Err(BAD_REFERENCE);
        }
        let mut values: Vec<Option<Values<'a>>> = (0..columns).map(|_| None).collect();
        for ((_, column), is_wanted) in shapes.names.iter().zip(&is_wanted) {
            if let Some(column) = column.filter(|_| *is_wanted) {
                values[column] = Some(reader.values(column)?);
            }
        }
        Ok(Self {
            reader,
            light,
            shapes,
            wants_messages: !wants.without_messages,
            is_wanted,
            values,
            next: vec![0; columns],
            rest: (!heavy.rest.is_empty()).then(|| Cursor::new(&heavy.rest)),
            events: Lists::open(&heavy.events, reader.count)?,
            links: Lists::open(&heavy.links, reader.count)?,
        })
    }

    /// Goes past a row.
    pub(crate) fn skip(&mut self, row: usize) -> Result<(), Malformed> {
        let set = &self.light.sets[self.light.set_of[row] as usize];
        for name in self.reader.shape_of(set)? {
            match self.shapes.names[*name as usize].1 {
                Some(column) => self.next[column] += 1,
                None => {
                    if let Some(rest) = &mut self.rest {
                        skip_value(rest, &StringTable::none())?;
                    }
                }
            }
        }
        for list in [&mut self.events, &mut self.links].into_iter().flatten() {
            list.next(row)?;
        }
        Ok(())
    }

    /// The span of the next row, without ids.
    pub(crate) fn take(&mut self, row: usize) -> Result<Span, Malformed> {
        let set = &self.light.sets[self.light.set_of[row] as usize];
        let mut span = empty_span(set, &self.light.names);
        (span.start_ns, span.end_ns) = (self.light.starts[row], self.light.ends[row]);
        if self.wants_messages {
            let small = self.shapes.smalls.get(set.small as usize).ok_or(BAD_REFERENCE)?;
            span.trace_state.clone_from(&small.state);
            span.status_message.clone_from(&small.message);
            (span.flags, span.dropped) = (small.flags, small.dropped);
        }
        let shape = self.reader.shape_of(set)?;
        span.attributes.reserve_exact(shape.iter().filter(|name| self.is_wanted[**name as usize]).count());
        for name in shape {
            let (text, column) = &self.shapes.names[*name as usize];
            let is_wanted = self.is_wanted[*name as usize];
            match column {
                Some(column) => {
                    if let Some(values) = self.values[*column].as_ref().filter(|_| is_wanted) {
                        let value = values.distinct(values.number_of(self.next[*column])?)?;
                        span.attributes.push((text.clone(), value));
                    }
                    self.next[*column] += 1;
                }
                None => {
                    if let Some(rest) = &mut self.rest {
                        let value = read_value(rest, &StringTable::none())?;
                        if is_wanted {
                            span.attributes.push((text.clone(), value));
                        }
                    }
                }
            }
        }
        self.read_events(row, &mut span)?;
        self.read_links(row, &mut span)?;
        Ok(span)
    }

    fn read_events(&mut self, row: usize, span: &mut Span) -> Result<(), Malformed> {
        let Some(list) = &mut self.events else { return Ok(()) };
        let (count, mut cursor) = list.next(row)?;
        let strings = &list.strings;
        for _ in 0..count {
            span.events.push(SpanEvent {
                time_ns: span.start_ns.wrapping_add(cursor.i64()?),
                name: strings.get(&mut cursor)?.to_owned(),
                attributes: read_attributes(&mut cursor, strings)?,
                dropped_attributes: cursor.u32()?,
            });
        }
        Ok(())
    }

    fn read_links(&mut self, row: usize, span: &mut Span) -> Result<(), Malformed> {
        let Some(list) = &mut self.links else { return Ok(()) };
        let (count, mut cursor) = list.next(row)?;
        let strings = &list.strings;
        for _ in 0..count {
            span.links.push(SpanLink {
                trace_id: TraceId(cursor.array()?),
                span_id: SpanId(cursor.array()?),
                trace_state: strings.get(&mut cursor)?.to_owned(),
                attributes: read_attributes(&mut cursor, strings)?,
            });
        }
        Ok(())
    }
}

/// A span of a set without ids, times and attributes.
pub(crate) fn empty_span(set: &SetInfo, names: &[String]) -> Span {
    Span {
        trace_id: TraceId([0; 16]),
        span_id: SpanId([0; 8]),
        parent_span_id: None,
        trace_state: String::new(),
        flags: 0,
        name: names[set.name as usize].clone(),
        kind: set.kind,
        start_ns: 0,
        end_ns: 0,
        attributes: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
        status_code: set.status,
        status_message: String::new(),
        dropped: [0; 3],
    }
}
