//! From nodes to typed sections and back: every fault is collected with its place, none ends the work.
//!
//! [`section!`] declares a struct together with how it is read, checked, defaulted and printed, so that these cannot
//! drift apart. A null value leaves the default. Unknown keys are faults. What equals its default and is empty
//! (`""`, `0`, `false`, `[]`) is not printed.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use crate::error::{Diagnostic, Pos, Warning};
use crate::yaml::{Entry, Kind, Node, Value};

/// Most faults, and most warnings, that are kept of a file.
const REPORTS_MAX: usize = 1_000;

/// Where faults and warnings go, and what reading needs to know of its surroundings.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(crate) file: Option<PathBuf>,
    /// Relative paths are resolved against this directory.
    pub(crate) base_dir: PathBuf,
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Warning>,
    /// Said behind messages about what a section may not hold, for example ` for global config`.
    pub(crate) scope: String,
    path: Vec<String>,
}

impl Sink {
    pub(crate) fn new(file: Option<&Path>, base_dir: &Path) -> Self {
        Self { file: file.map(Path::to_path_buf), base_dir: base_dir.to_path_buf(), ..Self::default() }
    }

    pub(crate) fn error(&mut self, pos: Pos, message: impl Into<String>) {
        // Enough to see what is wrong with a file; a hostile one must not fill the memory.
        if self.errors.len() >= REPORTS_MAX {
            return;
        }
        self.errors.push(Diagnostic { file: self.file.clone(), pos, message: message.into() });
    }

    /// Warns about a key below the section that is being read.
    pub(crate) fn warn(&mut self, pos: Pos, key: &str, message: impl Into<String>) {
        if self.warnings.len() >= REPORTS_MAX {
            return;
        }
        let mut path = self.path.clone();
        if !key.is_empty() {
            path.push(key.to_owned());
        }
        let key = path.join(".").replace(".[", "[");
        self.warnings.push(Warning { key, line: pos.line, message: message.into() });
    }

    /// Reads something below a key or an index.
    pub(crate) fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.to_owned());
        let out = read(self);
        self.path.pop();
        out
    }

    /// The key that is being read, an index left out.
    pub(crate) fn key(&self) -> &str {
        self.path.iter().rev().find(|k| !k.starts_with('[')).map_or("", String::as_str)
    }

    /// Adds a message unless the condition holds.
    pub(crate) fn require(&mut self, holds: bool, pos: Pos, message: impl Into<String>) {
        if !holds {
            self.error(pos, message);
        }
    }
}

/// A type that can be read from a node that is not null.
pub(crate) trait Decode: Sized {
    /// `None` when a fault was reported, or when the value counts as not set.
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self>;

    /// What a null item of a sequence means; `None`: it is a fault.
    fn null() -> Option<Self> {
        None
    }
}

/// A type that can be printed.
pub(crate) trait Encode {
    fn encode(&self) -> Value;

    /// True when it need not be printed if it is the default too.
    fn is_empty(&self) -> bool {
        false
    }
}

/// A mapping with known keys.
pub(crate) trait Section: Sized {
    /// Its keys, those of sections that stand inline left out.
    const KEYS: &'static [&'static str];

    /// Reads the keys of this section over `base`, then checks the result.
    fn read_over(base: Self, fields: &mut Fields<'_>, sink: &mut Sink) -> Self;

    fn write(&self, out: &mut Vec<(String, Value)>);
}

/// The keys of a mapping that are not yet read.
pub(crate) struct Fields<'n> {
    pub(crate) node: &'n Node,
    rest: Vec<&'n Entry>,
}

impl<'n> Fields<'n> {
    pub(crate) fn new(node: &'n Node, sink: &mut Sink) -> Option<Self> {
        match &node.kind {
            Kind::Map(entries) => Some(Self { node, rest: entries.iter().collect() }),
            Kind::Null => Some(Self { node, rest: Vec::new() }),
            _ => {
                let message = format!("{} must be a mapping, got {}", place_name(sink.key()), node.kind_name());
                sink.error(node.pos, message);
                None
            }
        }
    }

    /// Reads the value of a key; `base` when it is missing, null or faulty.
    pub(crate) fn take<T: Decode>(&mut self, key: &str, base: T, sink: &mut Sink) -> T {
        let Some(index) = self.rest.iter().position(|e| e.key == key) else { return base };
        let entry = self.rest.remove(index);
        if entry.value.is_null() {
            return base;
        }
        sink.within(key, |sink| T::decode(&entry.value, sink)).unwrap_or(base)
    }

    /// Takes the node of a key, if there is one that is not null.
    pub(crate) fn take_node(&mut self, key: &str) -> Option<&'n Node> {
        let index = self.rest.iter().position(|e| e.key == key)?;
        let entry = self.rest.remove(index);
        (!entry.value.is_null()).then_some(&entry.value)
    }

    /// Reports the keys that nobody read.
    pub(crate) fn finish(self, sink: &mut Sink) {
        for entry in self.rest {
            let key = entry.key_invalid.as_deref().unwrap_or(&entry.key);
            let message = format!("field {key} not found in {}", place_name(sink.key()));
            sink.error(entry.key_pos, message);
        }
    }
}

fn place_name(key: &str) -> &str {
    if key.is_empty() { "the top level" } else { key }
}

/// Reads a whole section from a node.
pub(crate) fn decode_section<T: Section + Default>(node: &Node, sink: &mut Sink) -> Option<T> {
    let mut fields = Fields::new(node, sink)?;
    let own = scope_of(node, sink.key());
    let outer = std::mem::replace(&mut sink.scope, own);
    let out = T::read_over(T::default(), &mut fields, sink);
    fields.finish(sink);
    sink.scope = outer;
    Some(out)
}

/// How messages name the section a value belongs to, where Prometheus does.
fn scope_of(node: &Node, key: &str) -> String {
    match (node.get("job_name").map(|n| &n.kind), key) {
        (Some(Kind::Scalar(name)), _) => format!(" for scrape config with job name {:?}", name.text),
        (_, "global") => " for global config".to_owned(),
        _ => String::new(),
    }
}

/// Prints a whole section.
pub(crate) fn encode_section<T: Section>(section: &T) -> Value {
    let mut out = Vec::new();
    section.write(&mut out);
    Value::Map(out)
}

/// Declares a section of the configuration: `key: Type = default`, then sections whose keys stand inline, then a
/// check `fn(&mut Self, &Node, &mut Sink)` that is called with the mapping it was read from.
macro_rules! section {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$fmeta:meta])* $fvis:vis $field:ident : $ty:ty = $default:expr ),* $(,)?
        }
        $( flatten { $( $(#[$flmeta:meta])* pub $flat:ident : $flty:ty = $fldefault:expr ),* $(,)? } )?
        $( check $check:path )?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $( $(#[$fmeta])* $fvis $field: $ty, )*
            $( $( $(#[$flmeta])* pub $flat: $flty, )* )?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* $( $( $flat: $fldefault, )* )? }
            }
        }

        impl $crate::decode::Section for $name {
            const KEYS: &'static [&'static str] = &[$($crate::decode::key_of(stringify!($field))),*];

            fn read_over(
                base: Self,
                fields: &mut $crate::decode::Fields<'_>,
                sink: &mut $crate::decode::Sink,
            ) -> Self {
                #[allow(unused_mut, reason = "not every section has a check")]
                let mut out = Self {
                    $( $field: fields.take(
                        $crate::decode::key_of(stringify!($field)), base.$field, sink,
                    ), )*
                    $( $( $flat: $crate::decode::Section::read_over(base.$flat, fields, sink), )* )?
                };
                $( $check(&mut out, fields.node, sink); )?
                out
            }

            fn write(&self, out: &mut Vec<(String, $crate::yaml::Value)>) {
                let default = Self::default();
                $( $crate::decode::put($crate::decode::key_of(stringify!($field)), &self.$field, &default.$field, out); )*
                $( $( $crate::decode::Section::write(&self.$flat, out); )* )?
            }
        }

        impl $crate::decode::Decode for $name {
            fn decode(node: &$crate::yaml::Node, sink: &mut $crate::decode::Sink) -> Option<Self> {
                $crate::decode::decode_section(node, sink)
            }
        }

        impl $crate::decode::Encode for $name {
            fn encode(&self) -> $crate::yaml::Value {
                $crate::decode::encode_section(self)
            }

            fn is_empty(&self) -> bool {
                matches!(self.encode(), $crate::yaml::Value::Map(entries) if entries.is_empty())
            }
        }
    };
}
pub(crate) use section;

/// Declares an enum that is written as one of a few words; the text after the name is what a message calls it.
/// Upper case is as good as lower case when `in any case` is said.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $name:ident: $what:literal $(in any $case:ident)? {
            $( $(#[$vmeta:meta])* $variant:ident = $word:literal ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $( $(#[$vmeta])* $variant, )* }

        impl $name {
            /// All words in use.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word that stands for this in a file.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }

            /// Finds what a word stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $( $word => Some(Self::$variant), )* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::decode::Encode for $name {
            fn encode(&self) -> $crate::yaml::Value {
                $crate::yaml::Value::Str(self.as_str().to_owned())
            }
        }

        impl $crate::decode::Decode for $name {
            fn decode(node: &$crate::yaml::Node, sink: &mut $crate::decode::Sink) -> Option<Self> {
                let text = <String as $crate::decode::Decode>::decode(node, sink)?;
                let found = Self::from_word(&text)$(.or_else(|| {
                    const _: &str = stringify!($case);
                    Self::from_word(&text.to_ascii_lowercase())
                }))?;
                $crate::decode::word(&text, found, $what, Self::WORDS, node, sink)
            }
        }
    };
}
pub(crate) use choice;

/// Reports a word that stands for nothing.
pub(crate) fn word<T>(
    text: &str,
    found: Option<T>,
    what: &str,
    words: &[&str],
    node: &Node,
    sink: &mut Sink,
) -> Option<T> {
    if found.is_none() {
        sink.error(node.pos, format!("unknown {what} {text:?} (one of: {})", words.join(", ")));
    }
    found
}

/// Says of each name whether it stood there before; empty names do not count.
pub(crate) fn repeats<'a>(names: impl Iterator<Item = &'a str>) -> Vec<bool> {
    let mut seen = HashSet::new();
    names.map(|name| !name.is_empty() && !seen.insert(name)).collect()
}

/// The key of a field: its name, without the mark of a raw identifier.
pub(crate) const fn key_of(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

pub(crate) fn put<T: Encode + PartialEq>(key: &str, value: &T, default: &T, out: &mut Vec<(String, Value)>) {
    if !(value.is_empty() && value == default) {
        out.push((key.to_owned(), value.encode()));
    }
}

/// The text of a scalar; reports anything else.
pub(crate) fn scalar_text<'n>(node: &'n Node, what: &str, sink: &mut Sink) -> Option<&'n str> {
    match &node.kind {
        Kind::Scalar(scalar) => match &scalar.invalid {
            None => Some(&scalar.text),
            Some(quote) => {
                sink.error(node.pos, format!("{quote} is not valid UTF-8"));
                None
            }
        },
        _ => {
            let message = format!("{} must be {what}, got {}", place_name(sink.key()), node.kind_name());
            sink.error(node.pos, message);
            None
        }
    }
}

impl Decode for String {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        scalar_text(node, "a string", sink).map(str::to_owned)
    }

    fn null() -> Option<Self> {
        Some(String::new())
    }
}

impl Encode for String {
    fn encode(&self) -> Value {
        Value::Str(self.clone())
    }

    fn is_empty(&self) -> bool {
        str::is_empty(self)
    }
}

impl Decode for PathBuf {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let text = scalar_text(node, "a path", sink)?;
        // As in Prometheus an empty path is no path.
        (!text.is_empty()).then(|| sink.base_dir.join(text))
    }
}

impl Encode for PathBuf {
    fn encode(&self) -> Value {
        Value::Str(self.to_string_lossy().into_owned())
    }

    fn is_empty(&self) -> bool {
        self.as_os_str().is_empty()
    }
}

impl Decode for bool {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let text = scalar_text(node, "true or false", sink)?;
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Some(true),
            "false" | "no" | "off" | "n" => Some(false),
            _ => {
                let message = format!("cannot unmarshal {text:?} into {}: must be true or false", sink.key());
                sink.error(node.pos, message);
                None
            }
        }
    }
}

impl Encode for bool {
    fn encode(&self) -> Value {
        Value::Bool(*self)
    }

    fn is_empty(&self) -> bool {
        !self
    }
}

macro_rules! integers {
    ($($ty:ty),*) => { $(
        impl Decode for $ty {
            fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
                let text = scalar_text(node, "a whole number", sink)?;
                let value = whole_number(text).and_then(|n| <$ty>::try_from(n).ok());
                if value.is_none() {
                    let message = format!(
                        "cannot unmarshal {text:?} into {}: must be a whole number from {} to {}",
                        sink.key(), <$ty>::MIN, <$ty>::MAX
                    );
                    sink.error(node.pos, message);
                }
                value
            }
        }

        impl Encode for $ty {
            fn encode(&self) -> Value {
                Value::Int(i128::from(*self))
            }

            fn is_empty(&self) -> bool {
                *self == 0
            }
        }
    )* };
}
integers!(u16, u32, u64, i64);

fn whole_number(text: &str) -> Option<i128> {
    let digits = text.replace('_', "");
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let value = if let Some(hex) = digits.strip_prefix("0x") {
        i128::from_str_radix(hex, 16)
    } else if let Some(octal) = digits.strip_prefix("0o") {
        i128::from_str_radix(octal, 8)
    } else if digits.starts_with(|c: char| c.is_ascii_digit()) {
        digits.parse()
    } else {
        return None;
    };
    value.ok().map(|n| if negative { -n } else { n })
}

impl Decode for f64 {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let text = scalar_text(node, "a number", sink)?;
        let value = text.parse::<f64>().ok().filter(|n| n.is_finite());
        if value.is_none() {
            let message = format!("cannot unmarshal {text:?} into {}: must be a number", sink.key());
            sink.error(node.pos, message);
        }
        value
    }
}

impl Encode for f64 {
    fn encode(&self) -> Value {
        Value::Float(*self)
    }

    fn is_empty(&self) -> bool {
        *self == 0.0
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        T::decode(node, sink).map(Some)
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self) -> Value {
        self.as_ref().map_or(Value::Null, Encode::encode)
    }

    fn is_empty(&self) -> bool {
        self.is_none()
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let Kind::Seq(items) = &node.kind else {
            let message = format!("{} must be a sequence, got {}", place_name(sink.key()), node.kind_name());
            sink.error(node.pos, message);
            return None;
        };
        let mut out = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            if item.is_null() {
                match T::null() {
                    Some(value) => out.push(value),
                    None => {
                        let message = null_item(sink);
                        sink.error(item.pos, message);
                    }
                }
            } else if let Some(value) = sink.within(&format!("[{i}]"), |sink| T::decode(item, sink)) {
                out.push(value);
            }
        }
        Some(out)
    }
}

/// What Prometheus says of a null item.
fn null_item(sink: &Sink) -> String {
    let parent = sink.path.iter().rev().filter(|k| !k.starts_with('[')).nth(1).map_or("", String::as_str);
    match (parent, sink.key()) {
        ("alerting", "alert_relabel_configs") => "empty or null alert relabeling rule".to_owned(),
        ("alertmanagers", "relabel_configs") => "empty or null Alertmanager target relabeling rule".to_owned(),
        ("alertmanagers", "alert_relabel_configs") => "empty or null Alertmanager alert relabeling rule".to_owned(),
        (_, "relabel_configs") => "empty or null target relabeling rule in scrape config".to_owned(),
        (_, "metric_relabel_configs") => "empty or null metric relabeling rule in scrape config".to_owned(),
        (_, "write_relabel_configs") => "empty or null relabeling rule in remote write config".to_owned(),
        (_, "scrape_configs") => "empty or null scrape config section".to_owned(),
        (_, "remote_write") => "empty or null remote write config section".to_owned(),
        (_, "remote_read") => "empty or null remote read config section".to_owned(),
        (_, key) => format!("empty or null section in {key}"),
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self) -> Value {
        Value::Seq(self.iter().map(Encode::encode).collect())
    }

    fn is_empty(&self) -> bool {
        <[T]>::is_empty(self)
    }
}

impl<T: Decode> Decode for BTreeMap<String, T> {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            let message = format!("{} must be a mapping, got {}", place_name(sink.key()), node.kind_name());
            sink.error(node.pos, message);
            return None;
        };
        let mut out = BTreeMap::new();
        for entry in entries {
            if let Some(quote) = &entry.key_invalid {
                sink.error(entry.key_pos, format!("{quote} is not valid UTF-8"));
                continue;
            }
            let value = if entry.value.is_null() {
                let null = T::null();
                if null.is_none() {
                    let message = format!("{} has no value in {}", entry.key, place_name(sink.key()));
                    sink.error(entry.value.pos, message);
                }
                null
            } else {
                sink.within(&entry.key, |sink| T::decode(&entry.value, sink))
            };
            if let Some(value) = value {
                out.insert(entry.key.clone(), value);
            }
        }
        Some(out)
    }
}

impl<T: Encode> Encode for BTreeMap<String, T> {
    fn encode(&self) -> Value {
        Value::Map(self.iter().map(|(k, v)| (k.clone(), v.encode())).collect())
    }

    fn is_empty(&self) -> bool {
        BTreeMap::is_empty(self)
    }
}
