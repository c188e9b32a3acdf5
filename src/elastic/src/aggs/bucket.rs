//! Keys of buckets and what a finished bucket holds.

use std::cmp::Ordering;

use serde_json::{Map, Value as Json, json};

use crate::date::floor_ms;
use crate::doc::Value;

/// The key of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Int(i64),
    /// The bits of a float that is not -0.
    Float(u64),
    Bool(bool),
    Text(String),
    /// Of several fields.
    List(Vec<Key>),
}

impl Key {
    pub(super) fn of(value: Value<'_>) -> Self {
        match value {
            Value::Text(text) => Self::Text(text.into_owned()),
            Value::Int(i) => Self::Int(i),
            Value::Float(f) => Self::float(f),
            Value::Bool(b) => Self::Bool(b),
            Value::Time(ns) => Self::Int(floor_ms(ns)),
        }
    }

    pub(super) fn float(f: f64) -> Self {
        Self::Float((f + 0.0).to_bits())
    }

    pub(super) fn of_json(json: &Json) -> Option<Self> {
        match json {
            Json::String(text) => Some(Self::Text(text.clone())),
            Json::Bool(b) => Some(Self::Bool(*b)),
            Json::Number(n) => n.as_i64().map(Self::Int).or_else(|| n.as_f64().map(Self::float)),
            _ => None,
        }
    }

    pub(super) fn json(&self) -> Json {
        match self {
            Self::Int(i) => json!(i),
            Self::Float(bits) => json!(f64::from_bits(*bits)),
            Self::Bool(b) => json!(u8::from(*b)),
            Self::Text(text) => json!(text),
            Self::List(keys) => Json::Array(keys.iter().map(Self::json).collect()),
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Int(i) => i.to_string(),
            Self::Float(bits) => f64::from_bits(*bits).to_string(),
            Self::Bool(b) => b.to_string(),
            Self::Text(text) => text.clone(),
            Self::List(keys) => keys.iter().map(Self::text).collect::<Vec<_>>().join("|"),
        }
    }

    pub(super) fn heap_bytes(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::List(keys) => keys.iter().map(|k| k.heap_bytes() + 32).sum(),
            _ => 0,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Int(i) => Some(*i as f64),
            Self::Float(bits) => Some(f64::from_bits(*bits)),
            Self::Bool(b) => Some(f64::from(u8::from(*b))),
            Self::Text(_) | Self::List(_) => None,
        }
    }

    /// Numbers by value, then texts by their bytes.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::List(a), Self::List(b)) => {
                let firsts = a.iter().zip(b).map(|(a, b)| a.order(b));
                firsts.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
            }
            (a, b) => match (a.number(), b.number()) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                (a, b) => b.is_some().cmp(&a.is_some()),
            },
        }
    }
}

/// A finished bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// What a keyed answer calls it.
    pub(super) name: Option<String>,
    /// `key`, `key_as_string`, `from`, `to`.
    pub(super) head: Vec<(&'static str, Json)>,
    pub(super) count: u64,
    pub(super) aggs: Vec<(String, Finished)>,
}

/// A finished aggregation.
#[derive(Debug)]
pub(super) enum Finished {
    Buckets { buckets: Vec<Bucket>, is_keyed: bool, head: Vec<(&'static str, Json)>, meta: Option<Json> },
    Single { bucket: Bucket, meta: Option<Json> },
    Figure { figure: Figure, meta: Option<Json> },
}

/// What a metric or a pipeline gives.
#[derive(Debug, Default)]
pub(super) struct Figure {
    pub(super) json: Map<String, Json>,
    /// Numbers by name, for pipelines and orders; `value` is the one that needs no name.
    pub(super) numbers: Vec<(String, f64)>,
}

impl Figure {
    /// `{"value": ..}`; null for what is no number.
    pub(super) fn value(value: Option<f64>) -> Self {
        let mut figure = Self::default();
        figure.set("value", value);
        figure
    }

    pub(super) fn set(&mut self, name: &str, value: Option<f64>) {
        let value = value.filter(|v| v.is_finite());
        self.json.insert(name.to_owned(), value.map_or(Json::Null, |v| json!(v)));
        if let Some(value) = value {
            self.numbers.push((name.to_owned(), value));
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.numbers.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
    }
}

impl Finished {
    pub(super) fn json(self) -> Json {
        let mut out = Map::new();
        let meta = match self {
            Self::Buckets { buckets, is_keyed, head, meta } => {
                out.extend(head.into_iter().map(|(n, v)| (n.to_owned(), v)));
                let buckets = if is_keyed {
                    let named = |mut b: Bucket| (b.name.take().unwrap_or_default(), Json::Object(b.json()));
                    Json::Object(buckets.into_iter().map(named).collect())
                } else {
                    Json::Array(buckets.into_iter().map(|b| Json::Object(b.json())).collect())
                };
                out.insert("buckets".to_owned(), buckets);
                meta
            }
            Self::Single { bucket, meta } => {
                out = bucket.json();
                meta
            }
            Self::Figure { figure, meta } => {
                out = figure.json;
                meta
            }
        };
        if let Some(meta) = meta {
            out.insert("meta".to_owned(), meta);
        }
        Json::Object(out)
    }
}

impl Bucket {
    fn json(self) -> Map<String, Json> {
        let mut out = Map::new();
        out.extend(self.head.into_iter().map(|(n, v)| (n.to_owned(), v)));
        out.insert("doc_count".to_owned(), json!(self.count));
        out.extend(self.aggs.into_iter().map(|(name, agg)| (name, agg.json())));
        out
    }

    pub(super) fn find(&self, name: &str) -> Option<&Finished> {
        self.aggs.iter().find(|(n, _)| n == name).map(|(_, a)| a)
    }

    /// The number at a path like `a>b.max` cut at its steps; `_count` is the number of documents.
    pub(super) fn number(&self, path: &[String]) -> Option<f64> {
        let (first, rest) = path.split_first()?;
        if first == "_count" {
            return Some(self.count as f64);
        }
        // A name may have a dot, so the longest that there is counts.
        let (found, inner) = match self.find(first) {
            Some(found) => (found, None),
            None => {
                let (name, inner) = split_figure(first)?;
                (self.find(name)?, Some(inner))
            }
        };
        match found {
            Finished::Single { bucket, .. } if !rest.is_empty() => bucket.number(rest),
            Finished::Single { bucket, .. } => {
                Some(bucket.count as f64).filter(|_| inner.is_none_or(|i| i == "_count"))
            }
            Finished::Figure { figure, .. } => {
                let name = inner.or(rest.first().map(String::as_str)).unwrap_or("value");
                figure.number(name).or_else(|| {
                    let number: f64 = name.parse().ok()?;
                    figure.numbers.iter().find(|(n, _)| n.parse() == Ok(number)).map(|(_, v)| *v)
                })
            }
            Finished::Buckets { .. } if inner == Some("_bucket_count") => match found {
                Finished::Buckets { buckets, .. } => Some(buckets.len() as f64),
                _ => None,
            },
            Finished::Buckets { buckets, .. } => {
                // `filters['name']>figure`.
                let name = inner?.trim_matches(['\'', '"']);
                let bucket = buckets.iter().find(|b| b.name.as_deref() == Some(name))?;
                if rest.is_empty() { Some(bucket.count as f64) } else { bucket.number(rest) }
            }
        }
    }
}

/// `name.figure` or `name[figure]`.
fn split_figure(text: &str) -> Option<(&str, &str)> {
    if let Some(inner) = text.strip_suffix(']') {
        return inner.split_once('[');
    }
    text.rsplit_once('.')
}

/// The steps of a path: `a>b.max` is `a`, `b.max`.
pub(super) fn steps(path: &str) -> Vec<String> {
    path.split('>').map(|s| s.trim().to_owned()).collect()
}
