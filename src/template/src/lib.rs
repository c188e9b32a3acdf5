//! Go's text/template language, as Prometheus, Alertmanager and LogQL use it.
//!
//! Reading order: [`value`] (what templates see), [`lexer`] and [`parser`] (text to [`ast`]), [`eval`] (the
//! interpreter with its limits), [`functions`] (how a caller adds functions), [`builtins`] and [`format`] (Go's own
//! functions and `fmt`), [`go_time`] (layouts and durations), [`prometheus_funcs`] and [`alert`] (alert templates).
//!
//! Invariants: a template comes from outside, so nothing here panics or runs unbounded: steps, output, nesting and
//! the length of every produced text are limited. Every error has a line and a column. This crate knows no labels,
//! queries, files, or sockets; what a template can reach is what the caller puts into its data and functions.

pub mod alert;
mod ast;
pub mod builtins;
mod eval;
pub mod format;
pub mod functions;
pub mod go_time;
mod lexer;
mod parser;
pub mod prometheus_funcs;
pub mod template;
pub mod value;

pub use alert::{AlertTemplateInput, QueryFn, QuerySample, check_alert_template, expand_alert_template};
pub use functions::{FuncMap, Functions};
pub use template::{Escape, Limits, Template, TemplateError};
pub use value::{Map, Object, Value};
