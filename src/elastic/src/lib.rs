//! Elasticsearch's query language over the log store: the query DSL, Lucene's `query_string`, sort, aggregations and
//! what hits show.
//!
//! Promises: a request is answered as Elasticsearch 8 answers it where this crate's documentation does not say
//! otherwise; what is not supported is refused by name; bad input gives an error in Elasticsearch's words, never a
//! panic; nothing is held beyond the query's budget, and an answer has at most [`BUCKETS_MAX`] buckets and
//! [`RESULT_WINDOW_MAX`] hits.
//!
//! Reading order: `doc` (a record as a document), `analyze` and `date`, `query` (conditions), `dsl` and `lucene` (how
//! they are written), `hints` (what the store may leave out), `request`, `sort`, `hits`, `aggs`, [`search()`], `fields`
//! (mappings).
//!
//! Invariants: this crate knows the log contract of `trefoil-model` and JSON values; it knows no HTTP, no files and no
//! configuration. A hint given to the store holds for every document that satisfies the query, so answers do not
//! depend on hints.

mod aggs;
mod analyze;
mod date;
mod doc;
mod dsl;
mod error;
mod fields;
mod glob;
mod hints;
mod hits;
mod indices;
mod lucene;
mod query;
mod request;
mod search;
mod sort;

pub use aggs::BUCKETS_MAX;
pub use doc::{ID_ATTRIBUTE, INDEX, INDEX_ATTRIBUTE, MESSAGE, TIMESTAMP};
pub use error::{Error, body as error_body};
pub use fields::{FieldCaps, IndexInfo, field_caps, index_list, mapping};
pub use indices::Indices;
pub use request::{RESULT_WINDOW_MAX, SearchRequest};
pub use search::{SearchAnswer, Source, check_names, count, document, search, shards};
