//! The journal export format, as systemd-journal-upload sends it
//! (<https://systemd.io/JOURNAL_EXPORT_FORMATS/#journal-export-format>): fields as `NAME=text` or as a name, a length and
//! bytes; an empty line ends an entry. A body may never end, so [`Parser`] takes it piece by piece.
//!
//! `MESSAGE` is the text, `__REALTIME_TIMESTAMP` the time, `PRIORITY` the severity; `_HOSTNAME` and `_SYSTEMD_UNIT` are the
//! stream labels `host` and `unit`, and `service_name` is the unit without its suffix, else the identifier. Other fields
//! are attributes under their own names, but addresses inside the journal (`__…`).

use std::borrow::Cow;

use trefoil_model::{LogBatch, WriteReport};
use trefoil_runtime::limits::{self, Limits};
use xxhash_rust::xxh3::xxh3_64;

use crate::documents::time::{TimeUnit, parse_text};
use crate::documents::{Builder, Defaults, Envelope, Field, Mapping};
use crate::ingest::Context;
use crate::metric_limits::shorten;
use crate::syslog_level::SEVERITIES;

/// What the fields of an entry are by default: all stands beside them.
pub(crate) const DEFAULTS: Defaults<'_> =
    Defaults { message: &[], time: &[], streams: &[], severity: &[], unit: TimeUnit::Microseconds };
/// Longest name of a field, as in journald.
const NAME_BYTES_MAX: usize = 64;
/// Most fields of an entry, as in journald.
const FIELDS_MAX: usize = 1024;
/// An entry of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Names and values in the sender's order.
    pub fields: Vec<(String, Vec<u8>)>,
    bytes: usize,
}

impl Entry {
    /// Approximate bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.bytes + 64 * self.fields.len() + 64
    }

    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| String::from_utf8_lossy(value))
    }
}

/// The body is not in the export format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed journal export at byte {at}: {what}")]
pub struct Malformed {
    /// Where, counted from the beginning of the body.
    pub at: u64,
    /// What is wrong.
    pub what: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A field or the end of an entry.
    Line,
    /// The bytes of a field that is too large, with the line feed behind them.
    Skip(u64),
    /// The rest of a line that is too long.
    SkipLine,
}

/// Takes a body piece by piece.
#[derive(Debug)]
pub struct Parser {
    state: State,
    buffer: Vec<u8>,
    /// Bytes of the body before the buffer.
    passed: u64,
    entry: Entry,
    value_bytes_max: usize,
    entry_bytes_max: usize,
}

impl Parser {
    /// A parser that keeps values up to the length of a log line and entries up to four times that.
    pub fn new(limits: &Limits) -> Self {
        Self {
            state: State::Line,
            buffer: Vec::new(),
            passed: 0,
            entry: Entry::default(),
            value_bytes_max: limits.log_line_bytes_max,
            entry_bytes_max: limits.log_line_bytes_max.saturating_mul(4),
        }
    }

    /// Takes the next bytes and appends the entries that are complete.
    pub fn feed(&mut self, bytes: &[u8], entries: &mut Vec<Entry>) -> Result<(), Malformed> {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(next) = self.step(at, entries)? {
            at = next;
        }
        // What `step` left is the beginning of something.
        let keep_from = match self.state {
            State::Line => at,
            State::Skip(_) | State::SkipLine => self.buffer.len(),
        };
        self.passed += keep_from as u64;
        self.buffer.drain(..keep_from);
        Ok(())
    }

    /// Ends the body: an entry without its empty line counts, too.
    pub fn finish(mut self, entries: &mut Vec<Entry>) -> Result<(), Malformed> {
        if self.state != State::Line || !self.buffer.is_empty() {
            return Err(Malformed { at: self.passed, what: "body ends inside a field" });
        }
        self.end_entry(entries);
        Ok(())
    }

    /// Takes one field; `None` when its end has not come.
    fn step(&mut self, at: usize, entries: &mut Vec<Entry>) -> Result<Option<usize>, Malformed> {
        let rest = &self.buffer[at..];
        match self.state {
            State::Skip(left) => {
                let now = left.min(rest.len() as u64);
                self.state = if now == left { State::Line } else { State::Skip(left - now) };
                return Ok((now == left).then_some(at + now as usize));
            }
            State::SkipLine => {
                return Ok(memchr::memchr(b'\n', rest).map(|end| {
                    self.state = State::Line;
                    at + end + 1
                }));
            }
            State::Line => {}
        }
        let Some(end) = memchr::memchr(b'\n', rest) else {
            if rest.len() > self.value_bytes_max + NAME_BYTES_MAX + 1 {
                limits::hit("log_line_bytes_max");
                self.state = State::SkipLine;
            }
            return Ok(None);
        };
        let line = &rest[..end];
        let malformed = |what| Malformed { at: self.passed + at as u64, what };
        if line.is_empty() {
            self.end_entry(entries);
            return Ok(Some(at + 1));
        }
        if let Some(equals) = memchr::memchr(b'=', line) {
            let name = name(&line[..equals]).ok_or_else(|| malformed("not a name of a field"))?;
            let value = line[equals + 1..].to_vec();
            self.put(name, value);
            return Ok(Some(at + end + 1));
        }
        let name = name(line).ok_or_else(|| malformed("not a name of a field"))?;
        let Some(length) = rest.get(end + 1..end + 9) else { return Ok(None) };
        let length = u64::from_le_bytes(length.try_into().expect("a slice of eight bytes"));
        let from = end + 9;
        if length > self.value_bytes_max as u64 {
            if length > i64::MAX as u64 {
                return Err(malformed("length of a field is out of range"));
            }
            limits::hit("log_line_bytes_max");
            self.state = State::Skip(length + 1);
            return Ok(Some(at + from));
        }
        let to = from + length as usize;
        match rest.get(to) {
            None => Ok(None),
            Some(b'\n') => {
                let value = rest[from..to].to_vec();
                self.put(name, value);
                Ok(Some(at + to + 1))
            }
            Some(_) => Err(malformed("no line feed behind the bytes of a field")),
        }
    }

    fn put(&mut self, name: String, value: Vec<u8>) {
        let bytes = name.len() + value.len();
        if self.entry.fields.len() >= FIELDS_MAX || self.entry.bytes + bytes > self.entry_bytes_max {
            limits::hit("log_attributes_max");
            return;
        }
        self.entry.bytes += bytes;
        self.entry.fields.push((name, value));
    }

    fn end_entry(&mut self, entries: &mut Vec<Entry>) {
        // Several empty lines are no entries.
        if !self.entry.fields.is_empty() {
            entries.push(std::mem::take(&mut self.entry));
        }
    }
}

/// A name of a field: upper-case letters, digits and underscores.
fn name(bytes: &[u8]) -> Option<String> {
    let is_good = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    (!bytes.is_empty() && bytes.len() <= NAME_BYTES_MAX && bytes.iter().all(is_good))
        .then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// Entries as records.
#[derive(Debug, Default)]
pub(crate) struct Converted {
    pub(crate) batch: LogBatch,
    pub(crate) report: WriteReport,
    /// Fingerprints of the entries' addresses.
    pub(crate) cursors: Vec<u64>,
    /// Entries that were stored before.
    pub(crate) repeated: u64,
}

/// Makes records of entries; leaves out those that were stored minutes ago: who uploads a journal begins again at the last
/// entry of which it knows that it was taken.
pub(crate) fn convert(entries: &[Entry], mapping: &Mapping, context: &Context) -> Converted {
    let mut builder = Builder::new(context, mapping);
    let mut converted = Converted::default();
    let now_ms = context.clock.now_ms();
    for entry in entries {
        if let Some(cursor) = entry.get("__CURSOR") {
            let cursor = xxh3_64(cursor.as_bytes());
            if context.cursors.get(cursor, now_ms).is_some() {
                converted.repeated += 1;
                continue;
            }
            converted.cursors.push(cursor);
        }
        if let Err(reason) = add(entry, &mut builder) {
            let text = entry.get("MESSAGE").unwrap_or_default().into_owned();
            converted.report.reject(|| format!("entry {:?}: {reason}", shorten(&text)));
        }
    }
    converted.batch = builder.finish();
    converted
}

fn add(entry: &Entry, builder: &mut Builder<'_>) -> Result<(), String> {
    let time_ns = entry.get("__REALTIME_TIMESTAMP").and_then(|t| parse_text(&t, TimeUnit::Microseconds));
    let severity = entry.get("PRIORITY").and_then(|p| SEVERITIES.get(p.parse::<usize>().ok()?));
    let text = entry.get("MESSAGE").unwrap_or_default();
    let mut labels: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(3);
    let unit = entry.get("_SYSTEMD_UNIT").or_else(|| entry.get("UNIT")).or_else(|| entry.get("_SYSTEMD_USER_UNIT"));
    if let Some(host) = entry.get("_HOSTNAME") {
        labels.push(("host", host));
    }
    let service = unit
        .as_ref()
        .map(|u| Cow::Owned(u.strip_suffix(".service").unwrap_or(u).to_owned()))
        .or_else(|| entry.get("SYSLOG_IDENTIFIER"))
        .or_else(|| entry.get("_COMM"));
    if let Some(service) = service.filter(|s| !s.is_empty()) {
        labels.push(("service_name", service));
    }
    if let Some(unit) = unit {
        labels.push(("unit", unit));
    }
    let mut fields: Vec<Field<'_>> = entry
        .fields
        .iter()
        .filter(|(name, _)| !name.starts_with("__"))
        .filter(|(name, _)| !matches!(name.as_str(), "MESSAGE" | "PRIORITY" | "_HOSTNAME" | "_SYSTEMD_UNIT"))
        .map(|(name, value)| Field::text(name.as_str(), String::from_utf8_lossy(value)))
        .collect();
    let envelope = Envelope {
        time_ns,
        labels: &labels,
        text: Some(&text),
        severity: severity.map_or("", |(keyword, ..)| keyword),
        severity_number: severity.map_or(0, |(_, number, _)| *number),
        level: severity.map(|(.., level)| *level),
        ..Envelope::default()
    };
    builder.add(&mut fields, "", &envelope).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"__CURSOR=a\nMESSAGE=one\n\nMESSAGE\n\x05\0\0\0\0\0\0\0t\nw\no\nPRIORITY=3\n\n";

    fn parse(body: &[u8], piece: usize, limits: &Limits) -> Result<Vec<Entry>, Malformed> {
        let mut parser = Parser::new(limits);
        let mut entries = Vec::new();
        for bytes in body.chunks(piece.max(1)) {
            parser.feed(bytes, &mut entries)?;
        }
        parser.finish(&mut entries)?;
        Ok(entries)
    }

    fn shown(entries: &[Entry]) -> Vec<String> {
        entries
            .iter()
            .map(|e| {
                let fields: Vec<_> =
                    e.fields.iter().map(|(n, v)| format!("{n}={}", String::from_utf8_lossy(v))).collect();
                fields.join(" ")
            })
            .collect()
    }

    #[test]
    fn pieces_of_any_length_make_the_same_entries() {
        for piece in 1..=TWO.len() {
            let entries = parse(TWO, piece, &Limits::default()).unwrap();
            assert_eq!(shown(&entries), ["__CURSOR=a MESSAGE=one", "MESSAGE=t\nw\no PRIORITY=3"], "{piece}");
        }
        assert_eq!(shown(&parse(b"\n\nA=1\n", 9, &Limits::default()).unwrap()), ["A=1"]);
        assert_eq!(parse(b"", 1, &Limits::default()).unwrap(), []);
    }

    #[test]
    fn fields_that_are_too_large_are_left_out_alone() {
        let limits = Limits { log_line_bytes_max: 100, ..Limits::default() };
        let mut body = b"A=1\nBIG\n".to_vec();
        body.extend_from_slice(&5000u64.to_le_bytes());
        body.extend_from_slice(&[b'\n'; 5000]);
        body.extend_from_slice(b"\nB=2\nLONG=");
        body.extend_from_slice(&[b'x'; 5000]);
        body.extend_from_slice(b"\nC=3\n\n");
        for piece in [1, 7, 64] {
            assert_eq!(shown(&parse(&body, piece, &limits).unwrap()), ["A=1 B=2 C=3"], "{piece}");
        }
    }

    #[test]
    fn what_is_no_export_is_refused() {
        for (body, at) in [
            (&b"A=1\n<html>\n"[..], 4),
            (b"=x\n", 0),
            (b"A\n\x01\0\0\0\0\0\0\0xy", 0),
            (b"A\n\xff\xff\xff\xff\xff\xff\xff\xff", 0),
            (b"A=1\nB=unfinished", 4),
        ] {
            assert_eq!(parse(body, 3, &Limits::default()).unwrap_err().at, at, "{body:?}");
        }
    }
}
