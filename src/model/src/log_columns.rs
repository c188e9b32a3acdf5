//! What a query looks at in log records, and records delivered in columns.

use std::fmt;
use std::ops::ControlFlow;

use crate::{Attributes, Labels, LogRecord};

/// Which attributes a query looks at: severity, ids and observed time count as attributes too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AttributeWants<'a> {
    /// None: they may be missing.
    None,
    /// Those of these names (after [`crate::labels::underscored`]); others may be missing.
    Names(&'a [String]),
    /// All.
    #[default]
    All,
}

impl AttributeWants<'_> {
    /// Whether an attribute of the name, which must be underscored, is looked at.
    pub fn wants(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::Names(names) => names.iter().any(|n| n == name),
            Self::All => true,
        }
    }
}

/// What a query looks at, so that a store reads and builds nothing else. All of it is a permission: a store may
/// deliver more.
#[derive(Clone, Copy)]
pub struct LogWants<'a> {
    /// Whether texts are looked at; else they may be empty.
    pub text: bool,
    /// Which attributes are looked at.
    pub attributes: AttributeWants<'a>,
    /// Lines for which this is false need not be delivered. It is called from several threads.
    pub line: Option<&'a (dyn Fn(&str) -> bool + Sync)>,
    /// Every wanted line holds, for each item, at least one of its texts.
    pub any_of: &'a [Vec<String>],
}

impl Default for LogWants<'_> {
    /// Everything.
    fn default() -> Self {
        Self { text: true, attributes: AttributeWants::All, line: None, any_of: &[] }
    }
}

impl fmt::Debug for LogWants<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWants")
            .field("text", &self.text)
            .field("attributes", &self.attributes)
            .field("line", &self.line.is_some())
            .field("any_of", &self.any_of)
            .finish()
    }
}

/// What several records have in common.
#[derive(Debug, Clone, Copy)]
pub struct LogSet<'a> {
    /// Attributes shared by the group of the records; a record's own win.
    pub shared: &'a Attributes,
    /// A record with their attributes, as far as they are wanted; its time and text mean nothing.
    pub record: &'a LogRecord,
}

/// Some records of one stream in order of time, column by column; each column has an item for each record.
#[derive(Debug, Clone, Copy)]
pub struct LogRows<'a> {
    /// Stream labels as stored.
    pub stream: &'a Labels,
    /// Identifies the stream within this query.
    pub stream_ref: u64,
    /// Unix nanoseconds.
    pub times: &'a [i64],
    /// Lines; empty when they are not wanted.
    pub texts: &'a [&'a str],
    /// Bytes of the lines.
    pub text_bytes: &'a [u32],
    /// For each record the index of its set in `sets`.
    pub set_of: &'a [u32],
    /// Sets; some may be of no record here.
    pub sets: &'a [LogSet<'a>],
}

impl LogRows<'_> {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// True without records.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }
}

/// Takes records in any order.
pub trait LogFold: Send {
    /// Takes some records; breaks when it wants no more.
    fn rows(&mut self, rows: &LogRows<'_>) -> ControlFlow<()>;
}

/// Records and bytes of text of one stream in one step of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogVolume {
    /// Records.
    pub records: u64,
    /// Bytes of text.
    pub bytes: u64,
}

impl LogVolume {
    /// Adds another.
    pub fn add(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}
