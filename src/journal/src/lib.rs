//! The durable append-only log: a batch is acknowledged when its record here is synced.
//!
//! Reading order: [`store`] (the contract [`JournalStore`], positions, the replay report), [`record`] and [`segment`]
//! (the bytes), [`scan`] (reading a segment that may be damaged), [`copies`] (what is kept twice), [`file_journal`] (segment files on the local disk),
//! [`check`] (a look at a journal at rest).
//!
//! Invariants:
//! - [`JournalStore::append`] returns only after the record is durable; the order of positions is the durable order.
//! - Acknowledged data is never cut silently: only a tail that no later group proves to have been synced is cut;
//!   damage before that is reported with its exact range, what follows is replayed, and the segment is kept aside.
//! - A file whose sync failed is never written again.
//!
//! It must not know what records mean, nor where their memtables and parts are.
#![doc = include_str!("../FORMAT.md")]

mod check;
pub mod copies;
mod error;
pub mod file_journal;
mod metrics;
pub mod record;
pub mod scan;
pub mod segment;
pub mod store;

pub use check::{Committed, check, check_from, first_segment, has_files};
pub use error::JournalError;
pub use file_journal::{FileJournal, JournalOptions};
pub use store::{Appended, CopiesReport, Damage, JournalStore, Position, ReplayReport, ReplayStop, Torn};
