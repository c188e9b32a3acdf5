//! PromQL: the language of Prometheus 3.14, its engine, and the series algebra that other languages share.
//!
//! Promises: the reference's results, errors and annotations, with their positions; a query never holds more than
//! its [budget](trefoil_model::QueryBudget) allows and stops soon after it is told to; text from outside never panics.
//!
//! Reading order: [`ast`], [`lexer`](self), [`parser`], [`functions`], [`printer`]; then [`algebra`] and
//! [`histogram`] (what is done to series), [`annotations`]; then [`engine`] and [`value`], [`cache`]; [`mod@format`] and
//! [`duration`] are small helpers; [`testing`] runs the `.test` scripts of the reference.
//!
//! Invariants: the crate reaches storage through the contracts of `trefoil-model` only. It must not know files,
//! sockets, configuration, JSON or HTTP. [`algebra`] must not know selectors or storage.

pub mod algebra;
pub mod annotations;
pub mod ast;
pub mod cache;
mod deep;
pub mod duration;
pub mod engine;
pub mod format;
pub mod functions;
pub mod histogram;
mod lexer;
pub mod parser;
pub mod printer;
pub mod testing;
pub mod value;

pub use ast::{Expr, ValueType};
pub use cache::{AtHand, InstantQuery, RangeQuery, ResultCache, few_series};
pub use deep::with_room_for;
pub use duration::{format_duration, parse_duration};
pub use engine::{Engine, EngineError, EngineOptions, ProfileNode, QueryOptions};
pub use format::{format_value, push_uint, push_value};
pub use parser::{ParseError, ParserOptions, parse, parse_selector};
pub use printer::pretty;
pub use value::{QueryResult, QueryStats, ResultSeries, Sample, SampleValue, Value};
