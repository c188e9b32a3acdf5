//! YAML text to a tree of nodes that know their places.
//!
//! The tree keeps every scalar as its text: what type it is, the reader decides. Anchors, aliases and merge keys
//! (`<<`) are resolved, repeated keys are faults, `!!binary` is decoded. Size, depth and the number of nodes
//! (aliases counted as often as they are used) have limits.

mod emit;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use granit_parser::{Event, Parser, ScalarStyle};

pub use emit::Value;

use crate::error::Pos;

/// Largest accepted file in bytes.
pub const FILE_BYTES_MAX: usize = 4 << 20;
/// Deepest accepted nesting.
pub const DEPTH_MAX: usize = 64;
/// Most nodes of a file, aliases expanded.
pub const NODES_MAX: usize = 500_000;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub pos: Pos,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Nothing, or `null`.
    Null,
    /// Text.
    Scalar(Scalar),
    /// A sequence.
    Seq(Vec<Node>),
    /// A mapping, in the order of the text.
    Map(Vec<Entry>),
}

/// A scalar as text.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// Its text; what type it is, the reader decides.
    pub text: String,
    /// True when quoted, a block scalar or binary: then it is a string and nothing else.
    pub quoted: bool,
    /// A quoted rendering of the bytes when a `!!binary` value is not UTF-8; `text` is then empty.
    pub invalid: Option<String>,
    /// An environment variable that the text names and that is not defined; it was taken for empty.
    pub undefined: Option<String>,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_pos: Pos,
    /// As [`Scalar::invalid`].
    pub key_invalid: Option<String>,
    /// The value.
    pub value: Node,
}

impl Node {
    /// Nothing, at a place.
    pub fn null(pos: Pos) -> Self {
        Self { pos, kind: Kind::Null }
    }

    /// True when nothing stands there.
    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    /// The value of a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
            _ => None,
        }
    }

    /// An item of a sequence.
    pub(crate) fn item(&self, index: usize) -> Option<&Node> {
        match &self.kind {
            Kind::Seq(items) => items.get(index),
            _ => None,
        }
    }

    /// Where a key of this mapping stands; the mapping's own place when it has no such key.
    pub fn key_pos(&self, key: &str) -> Pos {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|e| e.key == key).map_or(self.pos, |e| e.key_pos),
            _ => self.pos,
        }
    }

    /// What kind of value this is, for messages.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Scalar(_) => "a scalar",
            Kind::Seq(_) => "a sequence",
            Kind::Map(_) => "a mapping",
        }
    }
}

/// Parses a text that is not a configuration of its own. Errors: the faults with their places.
pub fn node(text: &str) -> Result<Node, Vec<(Pos, String)>> {
    parse(text).map(|document| document.root)
}

/// A parsed document.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) root: Node,
    /// Where a second document begins, which is not read.
    pub(crate) more: Option<Pos>,
}

type Fault = (Pos, String);

/// Parses the first document of `text`. An empty text is a null node.
///
/// Faults in the syntax end the parse; repeated keys and bad binaries are collected.
pub(crate) fn parse(text: &str) -> Result<Document, Vec<Fault>> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("file of {} bytes is larger than the limit of {FILE_BYTES_MAX} bytes", text.len());
        return Err(vec![(Pos::default(), message)]);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::default();
    for next in Parser::new_from_str(text) {
        match next {
            Ok((event, span)) => {
                let pos = Pos { line: span.start.line(), column: span.start.col() + 1 };
                if let Err(fault) = builder.event(event, pos) {
                    builder.faults.push(fault);
                    break;
                }
                if builder.more.is_some() {
                    break;
                }
            }
            Err(error) => {
                let pos = Pos { line: error.marker().line(), column: error.marker().col() + 1 };
                builder.faults.push((pos, format!("yaml: {}", error.info())));
                break;
            }
        }
    }
    if builder.faults.is_empty() {
        let root = builder.root.unwrap_or_else(|| Node::null(Pos::default()));
        Ok(Document { root, more: builder.more })
    } else {
        Err(builder.faults)
    }
}

enum Open {
    Seq { pos: Pos, anchor: usize, items: Vec<Node> },
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    pos: Pos,
    anchor: usize,
    entries: Vec<Entry>,
    keys: HashSet<(String, Option<String>)>,
    /// A key that waits for its value.
    key: Option<(Scalar, Pos)>,
    merges: Vec<Node>,
}

#[derive(Default)]
struct Builder {
    stack: Vec<Open>,
    /// Node, its height and its count of nodes.
    anchors: HashMap<usize, (Node, usize, usize)>,
    nodes: usize,
    faults: Vec<Fault>,
    root: Option<Node>,
    documents: usize,
    more: Option<Pos>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, pos: Pos) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.more = Some(pos);
                }
            }
            Event::Alias(id) => {
                let Some((node, height, count)) = self.anchors.get(&id) else {
                    return Err((pos, "yaml: alias of a value that contains itself".to_owned()));
                };
                if self.stack.len() + height > DEPTH_MAX {
                    return Err((pos, format!("yaml: nested deeper than {DEPTH_MAX} levels")));
                }
                self.nodes += count;
                // Faults of an alias are reported where it is used.
                let mut node = node.clone();
                node.pos = pos;
                self.limit(pos)?;
                self.place(node, 0)?;
            }
            Event::UnresolvedAlias(name) => return Err((pos, format!("yaml: unknown anchor '{name}' referenced"))),
            Event::Scalar(text, style, anchor, tag) => {
                self.nodes += 1;
                self.limit(pos)?;
                let quoted = style != ScalarStyle::Plain;
                let tag = tag.as_deref().map(granit_parser::Tag::suffix);
                let node = self.scalar(text.into_owned(), quoted, tag, pos);
                self.place(node, anchor)?;
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open(Open::Seq { pos, anchor, items: Vec::new() }, pos)?;
            }
            Event::MappingStart(_, anchor, _) => {
                self.open(Open::Map(OpenMap { pos, anchor, ..OpenMap::default() }), pos)?;
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Open::Seq { pos, anchor, items }) => self.place(Node { pos, kind: Kind::Seq(items) }, anchor)?,
                Some(Open::Map(mut map)) => {
                    for merge in std::mem::take(&mut map.merges) {
                        map.merge(merge)?;
                    }
                    self.place(Node { pos: map.pos, kind: Kind::Map(map.entries) }, map.anchor)?;
                }
                None => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn limit(&self, pos: Pos) -> Result<(), Fault> {
        if self.nodes > NODES_MAX { Err((pos, format!("yaml: more than {NODES_MAX} values"))) } else { Ok(()) }
    }

    fn open(&mut self, open: Open, pos: Pos) -> Result<(), Fault> {
        self.nodes += 1;
        self.limit(pos)?;
        if self.stack.len() >= DEPTH_MAX {
            return Err((pos, format!("yaml: nested deeper than {DEPTH_MAX} levels")));
        }
        self.stack.push(open);
        Ok(())
    }

    fn scalar(&mut self, text: String, quoted: bool, tag: Option<&str>, pos: Pos) -> Node {
        match tag {
            Some("binary") => {
                let packed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
                let scalar = match base64::engine::general_purpose::STANDARD.decode(packed) {
                    Ok(bytes) => match String::from_utf8(bytes) {
                        Ok(text) => Scalar { text, quoted: true, invalid: None, undefined: None },
                        Err(error) => {
                            let quote = quote_bytes(error.as_bytes());
                            Scalar { text: String::new(), quoted: true, invalid: Some(quote), undefined: None }
                        }
                    },
                    Err(_) => {
                        self.faults.push((pos, "yaml: !!binary value contains invalid base64 data".to_owned()));
                        Scalar { text: String::new(), quoted: true, invalid: None, undefined: None }
                    }
                };
                Node { pos, kind: Kind::Scalar(scalar) }
            }
            Some("null") => Node::null(pos),
            None if !quoted && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") => Node::null(pos),
            _ => Node {
                pos,
                kind: Kind::Scalar(Scalar {
                    text,
                    quoted: quoted || tag == Some("str"),
                    invalid: None,
                    undefined: None,
                }),
            },
        }
    }

    /// Puts a finished node into what is open, or makes it the root.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor > 0 {
            let (height, count) = measure(&node);
            self.anchors.insert(anchor, (node.clone(), height, count));
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::Seq { items, .. }) => items.push(node),
            Some(Open::Map(map)) => match map.key.take() {
                None => match node.kind {
                    Kind::Scalar(scalar) => map.key = Some((scalar, node.pos)),
                    Kind::Null => {
                        map.key = Some((
                            Scalar { text: String::new(), quoted: false, invalid: None, undefined: None },
                            node.pos,
                        ));
                    }
                    _ => return Err((node.pos, "yaml: a key must be a scalar".to_owned())),
                },
                Some((name, _)) if name.text == "<<" && !name.quoted => map.merges.push(node),
                Some((name, key_pos)) => {
                    if map.keys.insert((name.text.clone(), name.invalid.clone())) {
                        map.entries.push(Entry { key: name.text, key_pos, key_invalid: name.invalid, value: node });
                    } else {
                        self.faults.push((key_pos, format!("field {} already set in this mapping", name.text)));
                    }
                }
            },
        }
        Ok(())
    }
}

impl OpenMap {
    /// Takes what is not set from a mapping, or from several.
    fn merge(&mut self, from: Node) -> Result<(), Fault> {
        let pos = from.pos;
        let bad = || (pos, "yaml: map merge requires map or sequence of maps as the value".to_owned());
        match from.kind {
            Kind::Map(more) => {
                for entry in more {
                    if self.keys.insert((entry.key.clone(), entry.key_invalid.clone())) {
                        self.entries.push(entry);
                    }
                }
                Ok(())
            }
            Kind::Seq(items) => items.into_iter().try_for_each(|item| match item.kind {
                Kind::Map(_) => self.merge(item),
                _ => Err(bad()),
            }),
            _ => Err(bad()),
        }
    }
}

/// Height and number of nodes.
fn measure(node: &Node) -> (usize, usize) {
    let fold = |(height, count): (usize, usize), child: &Node| {
        let (h, c) = measure(child);
        (height.max(h), count + c)
    };
    let (height, count) = match &node.kind {
        Kind::Seq(items) => items.iter().fold((0, 0), fold),
        Kind::Map(entries) => entries.iter().map(|e| &e.value).fold((0, 0), fold),
        _ => (0, 0),
    };
    (height + 1, count + 1)
}

/// Bytes between double quotes, those that are no printable ASCII as `\x..`.
fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        out.push_str(&chunk.valid().escape_debug().to_string());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}
