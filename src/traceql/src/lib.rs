//! TraceQL: the language of Grafana Tempo, its parser and its engine.
//!
//! Promises: Tempo's results and refusals, except that searches are exact and newest first; errors of a text carry
//! line and column; a query stops soon after its [budget](trefoil_model::QueryBudget) says so. Text and traces from
//! outside (cycles, missing parents, ids used twice) never panic.
//!
//! Reading order: [`ast`], [`mod@parser`] (with the lexer; types are checked there) and `print`; then `trace_view` (a trace
//! laid out for evaluation), `field` (an expression for one span), `sets` (pipelines over one trace), `candidates`
//! and `needs` (what the store can narrow, and what it need not read); [`search`](fn@search), [`each_trace`](fn@each_trace), [`differ`] and [`metrics`] are the entries, [`mod@tags`] tells names and values of
//! attributes. [`testing`] runs case files.
//!
//! Invariants: this crate knows the contract [`trefoil_model::TraceReader`], never files, sockets, HTTP or
//! configuration. Whole traces are evaluated, also where they leave the range of time.

pub mod ast;
mod candidates;
pub mod differ;
mod each_trace;
pub mod error;
mod field;
mod figures;
mod lexer;
pub mod metrics;
mod needs;
pub mod parser;
mod print;
mod search;
mod sets;
pub mod tags;
pub mod testing;
mod trace_view;
pub mod traces_reader;
pub mod value;

pub use differ::{DifferAnswer, DifferQuery, what_differs};
pub use each_trace::{TracesQuery, each_trace};
pub use error::{Error, Phase};
pub use metrics::{
    MetricsAnswer, MetricsInstantQuery, MetricsRangeQuery, MetricsSeries, TraceExemplar, metrics_instant, metrics_range,
};
pub use parser::parse;
pub use search::{
    SearchAnswer, SearchProgress, SearchQuery, ServiceStats, SetResult, SpanResult, TraceResult, search, search_telling,
};
pub use tags::{TagQuery, parse_attribute, tag_names, tag_values};
pub use traces_reader::TracesReader;
pub use value::Value;
