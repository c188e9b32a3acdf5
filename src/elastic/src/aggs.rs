//! Aggregations: buckets of documents, figures of them, and pipelines over buckets.
//!
//! All figures are exact; percentiles interpolate between the two values beside them. Memory is taken from the query's
//! budget. An answer has at most [`BUCKETS_MAX`] buckets.

mod bucket;
mod collect;
mod finish;
mod metric;
mod parse;
mod pipeline;
mod script;

use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json};
use trefoil_model::QueryBudget;
use trefoil_model::re2::Regex;

use crate::Error;
use crate::date::{Format, Rounding};
use crate::doc::{Doc, Field};
use crate::query::Query;
use bucket::Key;
use metric::Metric;
use pipeline::Pipeline;

pub(crate) use collect::Collected;

/// Most buckets of an answer, as Elasticsearch's `search.max_buckets`.
pub const BUCKETS_MAX: usize = 65_536;

/// The aggregations of one level, in the order of the request.
#[derive(Debug, Default)]
pub(crate) struct Aggs(Vec<Agg>);

#[derive(Debug)]
struct Agg {
    name: String,
    kind: Kind,
    subs: Aggs,
    meta: Option<Json>,
}

#[derive(Debug)]
enum Kind {
    Terms(Terms),
    DateHistogram(DateHistogram),
    Histogram(Histogram),
    Filters(Filters),
    Ranges(Ranges),
    Composite(Composite),
    /// All documents that satisfy a query.
    Filter(Query),
    /// Documents without a field.
    Missing(Field),
    /// All documents: `nested`, as fields have no parents here.
    Nested,
    Metric(Metric),
    Pipeline(Pipeline),
}

/// What buckets are ordered by, and whether descending.
#[derive(Debug, Clone, PartialEq)]
enum Order {
    Count(bool),
    Key(bool),
    /// The figure at a path.
    Figure(Vec<String>, bool),
}

#[derive(Debug)]
struct Terms {
    field: Field,
    size: usize,
    min_count: u64,
    order: Vec<Order>,
    missing: Option<Key>,
    include: Option<Choice>,
    exclude: Option<Choice>,
    format: Option<Format>,
    /// Several fields: `multi_terms`.
    others: Vec<Field>,
}

/// Values that are taken or left out.
#[derive(Debug)]
enum Choice {
    Pattern(Regex),
    Values(Vec<String>),
}

impl Choice {
    fn has(&self, text: &str) -> bool {
        match self {
            Self::Pattern(regex) => regex.is_match(text),
            Self::Values(values) => values.iter().any(|v| v == text),
        }
    }
}

#[derive(Debug)]
struct DateHistogram {
    field: Field,
    rounding: Rounding,
    min_count: u64,
    /// Unix milliseconds, both included.
    extended: Option<(i64, i64)>,
    hard: Option<(i64, i64)>,
    format: Format,
    missing_ms: Option<i64>,
    is_keyed: bool,
    order: Vec<Order>,
}

#[derive(Debug)]
struct Histogram {
    field: Field,
    interval: f64,
    offset: f64,
    min_count: u64,
    extended: Option<(f64, f64)>,
    hard: Option<(f64, f64)>,
    missing: Option<f64>,
    is_keyed: bool,
    order: Vec<Order>,
}

#[derive(Debug)]
struct Filters {
    /// With names when they are keyed.
    filters: Vec<(Option<String>, Query)>,
    /// Documents that satisfy none, under a name.
    other: Option<String>,
}

#[derive(Debug)]
struct Ranges {
    field: Field,
    ranges: Vec<OneRange>,
    missing: Option<f64>,
    is_keyed: bool,
    /// For `date_range`.
    format: Option<(Format, TimeZone)>,
}

/// `from <= value < to`.
#[derive(Debug)]
struct OneRange {
    key: Option<String>,
    from: Option<f64>,
    to: Option<f64>,
}

#[derive(Debug)]
struct Composite {
    sources: Vec<CompositeSource>,
    size: usize,
    after: Option<Vec<Option<Key>>>,
}

#[derive(Debug)]
struct CompositeSource {
    name: String,
    by: CompositeBy,
    is_descending: bool,
    takes_missing: bool,
}

#[derive(Debug)]
enum CompositeBy {
    Terms(Field),
    Date(Field, Rounding, Option<Format>),
    Histogram(Field, f64),
}

impl Aggs {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Begins to collect.
    pub(crate) fn start<'a>(&'a self, budget: &'a dyn QueryBudget) -> Collected<'a> {
        Collected::new(self, budget)
    }
}

impl Collected<'_> {
    /// Takes a document.
    pub(crate) fn add(&mut self, doc: &Doc<'_>) -> Result<(), Error> {
        collect::add_all(self.aggs, &mut self.states, doc, self.budget)
    }

    /// The answer: `aggregations`.
    pub(crate) fn finish(self, aggs: &Aggs) -> Result<Map<String, Json>, Error> {
        finish::finish(aggs, self.states)
    }
}
