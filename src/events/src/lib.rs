//! The event store: log records and spans, searchable by any word and any attribute without configuration.
//!
//! Reading order: [`store`] ([`EventStore`], the contracts), `engine` (journal, memtables, flush, merge, retention;
//! `engine::tier`: object store; the same for both kinds), `check` (what is refused or cut), `wire` and [`record`] (the journal's encoding);
//! for logs `log_memtable`, `log_block` (with `columns`, `text_codec`, `packed_ints`; `log_block_v1` for old parts),
//! `log_part`, `log_plan` (what a query reads), `log_filter` (which lines), `log_scan` (in order), `log_fold` (in any
//! order, and counts), `segments` (days in an object store), `deletions`, `retention`; for spans `trace_memtable`, `span_block` (and old blocks), `span_columns`
//! (writing) with `span_rows` and `span_build` (reading), `trace_index` (summaries by trace id), `span_table`, `span_part`,
//! `span_scan` (which blocks and rows a query needs), `trace_read` (traces), `span_fold` (columns, in any order), `span_values` (how often attributes have their values); for both
//! `part_file`, `table`, `tokens` (what is indexed and what a needle tells),
//! `filter`, `index` (tantivy) and `bundle`, `metrics`.
//!
//! Invariants:
//! - What a write acknowledged is durable and in every later query once, whatever flushes, merges, crashes.
//! - Indexes and filters only leave blocks out; the answer is that of a scan over all of them.
//! - A damaged block is counted once; queries that need it fail. It is never merged away and never a panic.
//!
//! It must not know HTTP, wire formats of senders, query languages, nor configuration.
#![doc = include_str!("../FORMAT.md")]

mod bundle;
mod check;
mod columns;
mod deletions;
mod engine;
mod error;
mod filter;
mod grams;
mod in_order;
mod index;
mod log_block;
mod log_block_v1;
mod log_filter;
mod log_fold;
mod log_memtable;
mod log_part;
mod log_plan;
mod log_scan;
mod metrics;
mod packed_ints;
mod part_file;
pub mod record;
mod retention;
mod segments;
mod span_block;
mod span_build;
mod span_columns;
mod span_fold;
mod span_part;
mod span_rows;
mod span_scan;
mod span_table;
mod span_values;
pub mod store;
mod table;
mod text_codec;
mod tokens;
mod trace_index;
mod trace_memtable;
mod trace_read;
mod verify;
mod wire;

pub use check::CUT_ATTRIBUTE;
pub use error::EventsError;
pub use retention::{LogRetention, LogRetentionRule};
pub use store::{EventStore, EventStoreOptions};
pub use verify::damage;
pub use wire::Malformed;
