//! Elasticsearch's `_bulk`: lines of an action and, below it, its document
//! (<https://www.elastic.co/guide/en/elasticsearch/reference/8.15/docs-bulk.html>).
//!
//! Every action has its own outcome; a document that cannot be taken costs no other. An action line that cannot be read
//! leaves it open what the lines below are: it refuses the request, as in Elasticsearch. `index` and `create` store; log
//! records do not change, so `update` and `delete` are refused. A document with an `_id` that was stored minutes ago is not
//! stored again (see [`crate::recent`]): `create` is told of the conflict, `index` that nothing changed.

use std::borrow::Cow;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use serde::Deserialize;
use serde_json::value::RawValue;
use trefoil_model::LogBatch;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::IngestError;
use crate::documents::{
    Builder, DEFAULT_INDEX, Defaults, Envelope, Field, Mapping, STREAM_FIELDS, TimeUnit, parse_object,
};
use crate::ingest::Context;
use crate::metric_limits::shorten;

/// What the fields of a document are by default.
pub(crate) const DEFAULTS: Defaults<'_> = Defaults {
    message: &["message", "_msg", "log", "msg"],
    time: &["@timestamp", "timestamp", "_time"],
    streams: &STREAM_FIELDS,
    severity: &["log.level"],
    unit: TimeUnit::Milliseconds,
};
/// The attribute that keeps the id that a sender gave to a document.
pub const ID_ATTRIBUTE: &str = "_id";
/// Longest name of an index and longest id, as in Elasticsearch.
const INDEX_BYTES_MAX: usize = 255;
const ID_BYTES_MAX: usize = 512;

/// What is to be done with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Store it, whether it is there or not.
    Index,
    /// Store it if it is not there.
    Create,
    /// Change it: refused.
    Update,
    /// Remove it: refused.
    Delete,
}

impl Action {
    /// Its name, as requests and answers have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// What became of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The document is stored.
    Stored,
    /// The same document was stored under that id before.
    Unchanged,
    /// Nothing was stored.
    Failed {
        /// HTTP status.
        status: u16,
        /// Elasticsearch's name for the failure.
        kind: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl Outcome {
    /// The HTTP status of the item.
    pub fn status(&self) -> u16 {
        match self {
            Self::Stored => 201,
            Self::Unchanged => 200,
            Self::Failed { status, .. } => *status,
        }
    }
}

/// One action of a request and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What was asked.
    pub action: Action,
    /// The index that was named.
    pub index: Arc<str>,
    /// The id that was given, if any.
    pub id: Option<Box<str>>,
    /// What became of it.
    pub outcome: Outcome,
}

/// A decoded request.
pub(crate) struct Decoded {
    pub(crate) batch: LogBatch,
    pub(crate) items: Vec<Item>,
    /// Times of the documents to store, with the item that each belongs to.
    pub(crate) times: Vec<(i64, u32)>,
    /// Fingerprints of ids and of their documents, of what is to be stored.
    pub(crate) ids: Vec<(u64, u64)>,
    /// Every document said its time.
    pub(crate) have_own_times: bool,
}

/// Decodes an inflated request. `default_index` is the one of the path, if any.
///
/// Errors: `Malformed` for a line that is no action where one must be, and for a document that is missing.
pub(crate) fn decode(
    bytes: &[u8],
    default_index: Option<&str>,
    mapping: &Mapping,
    context: &Context,
) -> Result<Decoded, IngestError> {
    // A byte that is not UTF-8 becomes U+FFFD instead of costing its document.
    let text = String::from_utf8_lossy(bytes);
    let mut reader = Reader::new(default_index, mapping, context);
    let mut lines = text.split('\n').enumerate();
    // Shippers repeat one action line for every document.
    let mut last: Option<(&str, Parsed)> = None;
    while let Some((number, line)) = lines.next() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let parsed = match &last {
            Some((same, parsed)) if *same == line && parsed.id.is_none() => parsed.clone(),
            _ => reader.parse_action(line).map_err(|reason| {
                let number = number + 1;
                IngestError::Malformed(format!("Malformed action/metadata line [{number}], {reason}"))
            })?,
        };
        last = Some((line, parsed.clone()));
        if parsed.action == Action::Delete {
            reader.refuse(parsed, "documents of this store are not deleted one by one");
            continue;
        }
        let Some((_, document)) = lines.next() else {
            let number = number + 1;
            return Err(IngestError::Malformed(format!("no document follows the action on line [{number}]")));
        };
        if parsed.action == Action::Update {
            reader.refuse(parsed, "documents of this store do not change");
            continue;
        }
        reader.document(parsed, document.trim_ascii());
    }
    if reader.items.is_empty() {
        return Err(IngestError::Malformed("request body is required".to_owned()));
    }
    Ok(reader.finish())
}

/// Decodes a single document, as `_doc` and `_create` bring it.
pub(crate) fn decode_one(
    bytes: &[u8],
    action: Action,
    index: &str,
    id: Option<&str>,
    mapping: &Mapping,
    context: &Context,
) -> Decoded {
    let text = String::from_utf8_lossy(bytes);
    let mut reader = Reader::new(Some(index), mapping, context);
    let parsed = Parsed { action, index: Arc::from(index), id: id.map(Box::from) };
    reader.document(parsed, text.trim_ascii());
    reader.finish()
}

#[derive(Deserialize)]
struct ActionLine<'a> {
    #[serde(borrow)]
    index: Option<Meta<'a>>,
    #[serde(borrow)]
    create: Option<Meta<'a>>,
    #[serde(borrow)]
    update: Option<Meta<'a>>,
    #[serde(borrow)]
    delete: Option<Meta<'a>>,
}

#[derive(Deserialize, Default)]
struct Meta<'a> {
    _index: Option<String>,
    #[serde(borrow)]
    _id: Option<&'a RawValue>,
}

#[derive(Clone)]
struct Parsed {
    action: Action,
    index: Arc<str>,
    id: Option<Box<str>>,
}

struct Reader<'c> {
    context: &'c Context,
    default_index: Arc<str>,
    builder: Builder<'c>,
    items: Vec<Item>,
    times: Vec<(i64, u32)>,
    ids: Vec<(u64, u64)>,
    ids_here: FxHashSet<u64>,
    have_own_times: bool,
    now_ms: i64,
}

impl<'c> Reader<'c> {
    fn new(default_index: Option<&str>, mapping: &'c Mapping, context: &'c Context) -> Self {
        Self {
            context,
            default_index: Arc::from(default_index.unwrap_or(DEFAULT_INDEX)),
            builder: Builder::new(context, mapping),
            items: Vec::new(),
            times: Vec::new(),
            ids: Vec::new(),
            ids_here: FxHashSet::default(),
            have_own_times: true,
            now_ms: context.clock.now_ms(),
        }
    }

    fn parse_action(&self, line: &str) -> Result<Parsed, String> {
        if !line.starts_with('{') {
            return Err(format!("expected START_OBJECT but found {:?}", shorten(line)));
        }
        let parsed: ActionLine<'_> = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let given = [
            (Action::Index, parsed.index),
            (Action::Create, parsed.create),
            (Action::Update, parsed.update),
            (Action::Delete, parsed.delete),
        ];
        let mut given = given.into_iter().filter_map(|(action, meta)| meta.map(|meta| (action, meta)));
        let (Some((action, meta)), None) = (given.next(), given.next()) else {
            return Err("expected one of create, delete, index or update".to_owned());
        };
        let index = match meta._index {
            Some(name) if *name != *self.default_index => Arc::from(name),
            _ => Arc::clone(&self.default_index),
        };
        let id = match meta._id.map(RawValue::get) {
            None | Some("null") => None,
            Some(raw) if raw.starts_with('"') => {
                Some(serde_json::from_str::<Cow<'_, str>>(raw).map_err(|e| e.to_string())?.into())
            }
            Some(raw) => Some(Box::from(raw)),
        };
        Ok(Parsed { action, index, id })
    }

    fn refuse(&mut self, parsed: Parsed, reason: &str) {
        self.put(parsed, failed(400, "illegal_argument_exception", reason));
    }

    fn put(&mut self, parsed: Parsed, outcome: Outcome) {
        let Parsed { action, index, id } = parsed;
        self.items.push(Item { action, index, id, outcome });
    }

    fn document(&mut self, parsed: Parsed, document: &str) {
        let outcome = self.take(&parsed, document);
        self.put(parsed, outcome);
    }

    fn take(&mut self, parsed: &Parsed, document: &str) -> Outcome {
        if let Err(reason) = check_index(&parsed.index) {
            return failed(400, "invalid_index_name_exception", reason);
        }
        let mut fingerprint = None;
        if let Some(id) = parsed.id.as_deref() {
            if id.is_empty() || id.len() > ID_BYTES_MAX {
                let reason = format!("id has {} bytes, 1 to {ID_BYTES_MAX} are taken", id.len());
                return failed(400, "illegal_argument_exception", reason);
            }
            let key = xxh3_64_with_seed(id.as_bytes(), xxh3_64(parsed.index.as_bytes()));
            let content = xxh3_64(document.as_bytes());
            let known = self.context.ids.get(key, self.now_ms);
            let is_here = self.ids_here.contains(&key);
            if parsed.action == Action::Create && (known.is_some() || is_here) {
                let reason =
                    format!("[{}]: version conflict, document already exists (current version [1])", shorten(id));
                return failed(409, "version_conflict_engine_exception", reason);
            }
            if known == Some(content) {
                return Outcome::Unchanged;
            }
            fingerprint = Some((key, content));
        }
        let mut fields: Vec<Field<'_>> = Vec::with_capacity(16);
        if let Err(reason) = parse_object(document, self.context.limits.json_depth_max, &mut fields) {
            return failed(400, "document_parsing_exception", format!("failed to parse: {reason}"));
        }
        if let Some(id) = parsed.id.as_deref() {
            fields.push(Field::text(ID_ATTRIBUTE, id));
        }
        let envelope = Envelope { index: Some(&parsed.index), ..Envelope::default() };
        match self.builder.add(&mut fields, document, &envelope) {
            Ok(placed) => {
                self.times.push((placed.time_ns, self.items.len() as u32));
                self.have_own_times &= placed.has_own_time;
                if let Some((key, content)) = fingerprint {
                    self.ids_here.insert(key);
                    self.ids.push((key, content));
                }
                Outcome::Stored
            }
            Err(reason) => failed(400, "document_parsing_exception", format!("failed to parse: {reason}")),
        }
    }

    fn finish(self) -> Decoded {
        Decoded {
            batch: self.builder.finish(),
            items: self.items,
            times: self.times,
            ids: self.ids,
            have_own_times: self.have_own_times,
        }
    }
}

fn failed(status: u16, kind: &'static str, reason: impl Into<String>) -> Outcome {
    Outcome::Failed { status, kind, reason: reason.into() }
}

/// Names that Elasticsearch refuses, too; upper case is taken.
fn check_index(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > INDEX_BYTES_MAX {
        return Err(format!("index name has {} bytes, 1 to {INDEX_BYTES_MAX} are taken", name.len()));
    }
    let is_bad =
        |c: char| c.is_control() || matches!(c, ' ' | '"' | '*' | '\\' | '<' | '|' | ',' | '>' | '/' | '?' | '#');
    match name.chars().find(|c| is_bad(*c)) {
        Some(c) => Err(format!("index name [{name}] must not hold {c:?}")),
        None => Ok(()),
    }
}

/// Marks the items of documents that the store refused for their times: those are the oldest ones, since what is too far
/// in the future never reaches it.
pub(crate) fn mark_rejected(items: &mut [Item], mut times: Vec<(i64, u32)>, rejected: u64, reasons: &[String]) {
    times.sort_unstable();
    let reason = reasons.first().map_or("refused by the store", String::as_str);
    for (_, item) in times.iter().take(usize::try_from(rejected).unwrap_or(usize::MAX)) {
        items[*item as usize].outcome = failed(400, "illegal_argument_exception", reason);
    }
}
