//! Stages that join entries: `multiline`, and the parts of container lines (`docker`, `cri`).

use std::sync::Arc;
use std::time::Duration;

use trefoil_model::re2::Regex;
use trefoil_model::{AttributeValue, Labels};

use crate::entry::{Entry, Found};
use crate::options::{Options, Sink};
use crate::pipeline::Context;
use crate::stages::State;

/// Bytes of a joined entry that are kept; the rest is counted in an attribute.
const JOINED_BYTES_MAX: usize = 256 << 10;
/// Blocks that are open at once, by stream labels.
const OPEN_MAX: usize = 64;
/// Most parts of a container line, whatever is configured.
const PARTS_MAX: usize = 1_000;
/// Attribute that marks a joined entry that was cut: its length in bytes before.
const CUT_LINE: &str = "trefoil.line_bytes";

/// Open blocks, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Blocks(Vec<Block>);

#[derive(Debug)]
struct Block {
    labels: Labels,
    entry: Entry,
    lines: usize,
    /// Bytes with those that were cut.
    bytes: usize,
    /// When the last line came, on the monotonic clock.
    at: Duration,
}

impl Block {
    fn new(entry: Entry, at: Duration) -> Self {
        Self { labels: entry.labels.clone(), lines: 1, bytes: entry.record.text.len(), entry, at }
    }

    fn join(&mut self, between: &str, other: &Entry, at: Duration) {
        self.lines += 1;
        self.at = at;
        self.bytes += between.len() + other.record.text.len();
        self.entry.sources.join(&other.sources);
        let text = &mut self.entry.record.text;
        for piece in [between, other.record.text.as_str()] {
            let room = JOINED_BYTES_MAX.saturating_sub(text.len());
            let mut end = piece.len().min(room);
            while !piece.is_char_boundary(end) {
                end -= 1;
            }
            text.push_str(&piece[..end]);
        }
    }

    fn finish(mut self) -> Entry {
        if self.bytes > self.entry.record.text.len() {
            trefoil_runtime::limits::hit("log_line_cut_bytes");
            let bytes = AttributeValue::Int(i64::try_from(self.bytes).unwrap_or(i64::MAX));
            self.entry.record.attributes.push((CUT_LINE.to_owned(), bytes));
        }
        self.entry
    }
}

impl Blocks {
    fn position(&self, labels: &Labels) -> Option<usize> {
        self.0.iter().position(|block| block.labels == *labels)
    }

    pub(crate) fn held(&self, out: &mut Vec<u64>) {
        self.0.iter().for_each(|block| block.entry.sources.add_to(out));
    }

    pub(crate) fn is_holding(&self) -> bool {
        !self.0.is_empty()
    }

    /// Opens a block; the oldest one is finished when there are too many.
    fn open(&mut self, entry: Entry, at: Duration) -> Option<Entry> {
        let out = (self.0.len() >= OPEN_MAX).then(|| self.0.remove(0).finish());
        self.0.push(Block::new(entry, at));
        out
    }
}

/// `multiline`
#[derive(Debug)]
pub(crate) struct Multiline {
    first_line: Regex,
    lines_max: usize,
    wait: Duration,
}

impl Multiline {
    pub(crate) fn new(options: &mut Options<'_>, sink: &mut Sink) -> Option<Self> {
        let first_line = options.required_regex("firstline", sink);
        let pos = options.node.key_pos("max_lines");
        let lines_max = options.count("max_lines", sink).filter(|n| *n > 0).unwrap_or(128);
        if lines_max > 10_000 {
            sink.fault(pos, "max_lines of multiline stage must be at most 10000");
        }
        let wait = options.duration("max_wait_time", sink).unwrap_or(3_000_000_000);
        Some(Self { first_line: first_line?, lines_max, wait: Duration::from_nanos(wait.unsigned_abs()) })
    }

    /// Takes a line; returns what is complete by it.
    pub(crate) fn push(&self, state: &mut State, entry: Entry, context: &mut Context<'_>) -> Option<Entry> {
        let State::Blocks(blocks) = state else { return Some(entry) };
        let at = context.now.monotonic;
        let open = blocks.position(&entry.labels);
        if self.first_line.is_match(&entry.record.text) {
            if self.lines_max == 1 {
                return Some(entry);
            }
            return match open {
                Some(open) => {
                    let before = blocks.0.remove(open);
                    blocks.0.push(Block::new(entry, at));
                    Some(before.finish())
                }
                None => blocks.open(entry, at),
            };
        }
        // Without a first line before it, a line is an entry of its own.
        let Some(open) = open else { return Some(entry) };
        blocks.0[open].join("\n", &entry, at);
        (blocks.0[open].lines >= self.lines_max).then(|| blocks.0.remove(open).finish())
    }

    /// Gives what has waited long enough, or everything.
    pub(crate) fn flush(&self, state: &mut State, all: bool, context: &Context<'_>, out: &mut Vec<Entry>) {
        let State::Blocks(blocks) = state else { return };
        let now = context.now.monotonic;
        let due = blocks.0.extract_if(.., |block| all || now.saturating_sub(block.at) >= self.wait);
        out.extend(due.map(Block::finish));
    }
}

/// `docker` and `cri`: takes the line of a container runtime apart and joins its parts.
#[derive(Debug)]
pub(crate) struct Container {
    cri: bool,
    parts_max: usize,
    part_bytes_max: Option<usize>,
    names: Names,
}

/// Names under which the pieces are found.
#[derive(Debug)]
struct Names {
    stream: Arc<str>,
    time: Arc<str>,
    content: Arc<str>,
    flags: Arc<str>,
}

struct Piece {
    time: String,
    stream: String,
    text: String,
    is_part: bool,
}

impl Container {
    pub(crate) fn new(cri: bool) -> Self {
        let (time, content) = if cri { ("time", "content") } else { ("timestamp", "output") };
        let names = Names {
            stream: Arc::from("stream"),
            time: Arc::from(time),
            content: Arc::from(content),
            flags: Arc::from("flags"),
        };
        Self { cri, parts_max: PARTS_MAX, part_bytes_max: None, names }
    }

    pub(crate) fn cri(options: &mut Options<'_>, sink: &mut Sink) -> Option<Self> {
        let parts = options.count("max_partial_lines", sink).filter(|n| *n > 0);
        let bytes = options.bytes("max_partial_line_size", sink).filter(|n| *n > 0);
        let truncates = options.flag("max_partial_line_size_truncate", false, sink);
        Some(Self {
            parts_max: parts.unwrap_or(PARTS_MAX).min(PARTS_MAX),
            part_bytes_max: bytes.filter(|_| truncates),
            ..Self::new(true)
        })
    }

    fn piece(&self, line: &str) -> Option<Piece> {
        if self.cri {
            let mut parts = line.splitn(4, ' ');
            let (time, stream, flags) = (parts.next()?, parts.next()?, parts.next()?);
            // An empty line may come without the blank before it.
            let content = parts.next().unwrap_or("");
            if !matches!(stream, "stdout" | "stderr") || time.is_empty() || flags.is_empty() {
                return None;
            }
            let is_part = flags.split(':').next() == Some("P");
            return Some(Piece { time: time.to_owned(), stream: stream.to_owned(), text: content.to_owned(), is_part });
        }
        let document: serde_json::Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| document.get(name).and_then(serde_json::Value::as_str);
        let log = text("log")?;
        let whole = log.strip_suffix('\n');
        let content = whole.map_or(log, |line| line.strip_suffix('\r').unwrap_or(line));
        Some(Piece {
            time: text("time").unwrap_or("").to_owned(),
            stream: text("stream").unwrap_or("").to_owned(),
            text: content.to_owned(),
            is_part: whole.is_none(),
        })
    }

    /// Takes a line; returns what is complete by it. A line that is not of the format passes as it is.
    pub(crate) fn push(&self, state: &mut State, mut entry: Entry) -> Option<Entry> {
        let State::Blocks(blocks) = state else { return Some(entry) };
        let Some(mut piece) = self.piece(&entry.record.text) else { return Some(entry) };
        if let Some(time) = piece.time.parse().ok().and_then(|t: jiff::Timestamp| i64::try_from(t.as_nanosecond()).ok())
        {
            entry.record.time_ns = time;
        }
        if let Some(most) = self.part_bytes_max
            && piece.text.len() > most
        {
            piece.text.truncate(piece.text.floor_char_boundary(most));
        }
        if !piece.stream.is_empty() && entry.labels.get("stream") != Some(&piece.stream) {
            let mut builder = entry.labels.to_builder();
            builder.set("stream", piece.stream.clone());
            entry.labels = builder.build();
        }
        entry.record.text = piece.text;
        let open = blocks.position(&entry.labels);
        let mut whole = match open {
            Some(open) => {
                let at = blocks.0[open].at;
                blocks.0[open].join("", &entry, at);
                // The whole line has the time of its end.
                blocks.0[open].entry.record.time_ns = entry.record.time_ns;
                if piece.is_part && blocks.0[open].lines < self.parts_max {
                    return None;
                }
                blocks.0.remove(open).finish()
            }
            None if piece.is_part => blocks.open(entry, Duration::ZERO)?,
            None => entry,
        };
        self.note(&mut whole, piece.stream, piece.time);
        Some(whole)
    }

    /// Lets later stages find the pieces.
    fn note(&self, entry: &mut Entry, stream: String, time: String) {
        let text = entry.record.text.clone();
        let extracted = &mut entry.extracted;
        extracted.set(&self.names.stream, Found::Text(stream));
        extracted.set(&self.names.time, Found::Text(time));
        extracted.set(&self.names.content, Found::Text(text));
        if self.cri {
            extracted.set(&self.names.flags, Found::Text("F".to_owned()));
        }
    }

    /// Gives everything that is open.
    pub(crate) fn flush(&self, state: &mut State, out: &mut Vec<Entry>) {
        let State::Blocks(blocks) = state else { return };
        for block in blocks.0.drain(..) {
            let mut entry = block.finish();
            let stream = entry.labels.get("stream").unwrap_or("").to_owned();
            self.note(&mut entry, stream, String::new());
            out.push(entry);
        }
    }
}
