//! Log files: found by globs, followed as they grow, are renamed, truncated and removed; each line once.
//!
//! Promises: a line is given to the event store at least once, and once when neither files nor store are interfered
//! with: where a batch ends is written down, durably, before the batch is, with marks by which the store can be asked
//! after a crash whether it got that batch. Nothing is skipped while the store refuses; memory does not depend on the
//! length of lines or files; open files are bounded.
//!
//! Reading order: [`source`] (what to read), [`globs`], [`line`](mod@line) (lines of one file), [`identity`] (which
//! file is which), `file` (a followed file), [`positions`] (what is durable), [`tailer`] (all files; steps),
//! [`run`](mod@run) (the task), `workload` (labels from container runtimes), [`metrics`].
//!
//! Invariants: this crate knows files, pipelines and the contracts of the event store. No sockets, no query languages.

mod file;
pub mod globs;
pub mod identity;
pub mod line;
pub mod metrics;
pub mod positions;
pub mod run;
pub mod source;
pub mod tailer;
mod workload;

#[doc = include_str!("../FORMAT.md")]
pub mod format {}

pub use run::{Intake, Tail, TailSetup};
pub use source::{Encoding, Format, Source, Start};
