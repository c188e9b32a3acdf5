//! Pipelines for log entries on their way in: the stages of promtail, and grok.
//!
//! Promises: a list of stages written for promtail runs unchanged and gives what promtail gives; what is not run is
//! refused or warned of, with its place. No line panics; what a pipeline holds back (multiline, parts of container
//! lines) is bounded in time, lines and bytes, and it can name the source of every line that it holds.
//!
//! Reading order: [`entry`] (what travels), [`plan`] (from configuration to stages), [`pipeline`] (stages with their
//! state, over entries), `stages` (one file a family), `options` (how a stage reads its options), `json_path`, [`grok`].
//!
//! Invariants: this crate knows entries and stages. No files, no sockets, no stores; time is given by the caller.

pub mod entry;
pub mod grok;
mod json_path;
mod options;
pub mod pipeline;
pub mod plan;
mod sha3;
mod stages;

pub use entry::{Entry, Extracted, Found, Sources};
pub use pipeline::{Moment, Pipeline};
pub use plan::{Fault, Plan, Use};
