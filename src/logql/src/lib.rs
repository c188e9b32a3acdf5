//! LogQL: the language of Grafana Loki 3, its parser and its engine.
//!
//! Promises: Loki's results and refusals; errors of a text carry line and column; log queries stop at their limit;
//! metric queries hold numbers, never lines; a query stops soon after its [budget](trefoil_model::QueryBudget) says
//! so. Text from outside (queries and lines) never panics.
//!
//! Reading order: [`ast`] and [`parser`] (with the lexer), [`engine`] (the entry), then what a line goes through:
//! `pipeline`, `labels` (the labels of one line, by where they came from), `stages` with their helpers (`json`,
//! `logfmt`, `pattern`, `ip`, `template_functions`), and what becomes of numbers: `range` (windows over lines) and
//! `metric` (operators, through the series algebra of `trefoil_promql`). [`mod@lines`] streams lines. [`entry_selector`] serves pipelines at ingest. [`mod@format_query`] writes queries back to text.
//!
//! Invariants: this crate knows the contract [`trefoil_model::LogReader`], never files, sockets, HTTP or
//! configuration. Stream label names are compared and shown underscored.

pub mod ast;
mod counts;
pub mod detect;
pub mod engine;
pub mod entry_selector;
pub mod error;
pub mod format_query;
pub mod groups_reader;
mod ip;
mod json;
mod labels;
mod lexer;
pub mod lines;
mod logfmt;
mod metric;
pub mod output;
pub mod parser;
mod pattern;
mod pipeline;
mod range;
mod stages;
mod template_functions;
pub mod testing;
mod units;

pub use detect::{DetectedField, FieldType, detect_fields};
pub use engine::{Engine, InstantQuery, QueryKind, RangeQuery};
pub use entry_selector::{EntrySelector, TemplateFunctions, decolorized, logfmt_fields};
pub use error::Error;
pub use format_query::format_query;
pub use groups_reader::GroupsReader;
pub use labels::{ERROR_DETAILS_LABEL, ERROR_LABEL};
pub use lines::{EachLine, each_line};
pub use output::{Answer, Entry, MatrixSeries, MergedStream, Output, Stats, StreamResult, VectorSample, merge_labels};
pub use parser::{parse, parse_selector};
