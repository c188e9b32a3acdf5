//! The values that templates compute with.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A template value. Clones are cheap.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// Go's nil; printed as `<no value>`.
    #[default]
    Nil,
    /// Boolean.
    Bool(bool),
    /// Whole number.
    Int(i64),
    /// Floating point.
    Float(f64),
    /// Text.
    String(Arc<str>),
    /// Text that HTML escaping leaves alone.
    Safe(Arc<str>),
    /// List.
    List(Arc<Vec<Value>>),
    /// Map.
    Map(Arc<Map>),
    /// Something of the caller's.
    Object(Arc<dyn Object>),
}

/// A map with text keys, iterated in order of keys as Go templates do.
#[derive(Debug, Clone, Default)]
pub struct Map {
    /// The members.
    pub entries: BTreeMap<String, Value>,
    /// What a missing key gives (`missingkey=zero`): "" for maps of texts, [`Value::Nil`] otherwise.
    pub zero: Value,
}

impl Map {
    /// A map of texts; missing keys are "".
    pub fn strings<K: Into<String>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let entries = pairs.into_iter().map(|(k, v)| (k.into(), Value::from(v.as_ref()))).collect();
        Self { entries, zero: Value::from("") }
    }

    /// A map of anything; missing keys are nil.
    pub fn any<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self { entries: pairs.into_iter().map(|(k, v)| (k.into(), v)).collect(), zero: Value::Nil }
    }

    /// The member or the zero value.
    pub fn get(&self, key: &str) -> Value {
        self.entries.get(key).unwrap_or(&self.zero).clone()
    }
}

/// A caller's own type within a template.
pub trait Object: fmt::Debug + Send + Sync {
    /// A field by name, `None` when there is none.
    fn field(&self, name: &str) -> Option<Value> {
        let _ = name;
        None
    }
    /// Calls a method, `None` when there is none of the name.
    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        let _ = (name, arguments);
        None
    }
    /// The text that an action prints.
    fn text(&self) -> String;
    /// Whether `if` takes it for true.
    fn truth(&self) -> bool {
        true
    }
    /// The list or map that `range`, `len` and `index` see, if it is a collection.
    fn items(&self) -> Option<Value> {
        None
    }
    /// For downcasts.
    fn as_any(&self) -> &dyn Any;
    /// The type's name in messages.
    fn type_name(&self) -> &'static str;
}

impl Value {
    /// A text value.
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Self::String(text.into())
    }

    /// A list value.
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(items))
    }

    /// A map value.
    pub fn map(map: Map) -> Self {
        Self::Map(Arc::new(map))
    }

    /// An object value.
    pub fn object(object: impl Object + 'static) -> Self {
        Self::Object(Arc::new(object))
    }

    /// The text, for texts only.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) | Self::Safe(s) => Some(s),
            _ => None,
        }
    }

    /// Go's truth: not false, zero, empty or nil.
    pub fn truth(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(b) => *b,
            Self::Int(i) => *i != 0,
            Self::Float(f) => *f != 0.0,
            Self::String(s) | Self::Safe(s) => !s.is_empty(),
            Self::List(l) => !l.is_empty(),
            Self::Map(m) => !m.entries.is_empty(),
            Self::Object(o) => o.truth(),
        }
    }

    /// The Go name of the type, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::String(_) => "string",
            Self::Safe(_) => "template.HTML",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Object(o) => o.type_name(),
        }
    }

    /// What an action prints.
    pub fn to_text(&self) -> String {
        match self {
            Self::Nil => "<no value>".to_owned(),
            other => crate::format::display(other),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(Arc::from(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(Arc::from(text))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}
