//! The time-series store: takes batches of samples, keeps them for ever or as long as told, answers queries.
//!
//! What it promises:
//! - An acknowledged batch is durable (its journal record is synced) and visible to the next query.
//! - Samples come back bit for bit: NaN payloads, stale markers, -0.0, subnormals.
//! - Of samples with the same series and time the one written last wins, in memory, at query and after merges.
//! - A crash at any point loses nothing acknowledged and doubles nothing. Damage is reported with its file, never
//!   answered around silently.
//!
//! Reading order: `store` (the parts of a store and how they hang together), `write`, `series` (the registry),
//! `guard` (who may have new series),
//! `record` (journal records), `memtable`, `flush`, `part` (files), `encoding`, `read`, `matching`, `value_set`,
//! `changes` (what readers that keep answers ask), `merge`, `policy`, `downsample`, `tombstones`, `rewrite`, `replay`,
//! `exemplars`, `metadata`, `inspect`, `clean` and `damage_log`, `definitions` (their second copies), `repair` (a catalog made anew), `tier` (parts in an
//! object store), `admin` (the contract of administration).
//!
//! Invariants: one id stands for one label set, for ever. Every journal epoch defines all series that it names, so
//! that replay from the committed position needs nothing else. Parts of a (tenant, day) have disjoint ranges of
//! flush sequence numbers, so that "written last" is known between any two of them.
//!
//! It must not know HTTP, wire formats, configuration files or query languages.
#![doc = include_str!("../FORMAT.md")]

mod admin;
mod by_shard;
mod cardinality;
mod changes;
mod clean;
mod damage_log;
mod definitions;
mod downsample;
mod encoding;
mod error;
mod exemplars;
mod flush;
mod guard;
mod inspect;
mod matching;
#[doc(hidden)]
pub mod measure;
mod memtable;
mod merge;
mod metadata;
mod metrics;
mod part;
mod policy;
mod read;
mod record;
mod repair;
mod replay;
mod rewrite;
mod series;
mod snapshot;
mod store;
mod tier;
mod tombstones;
mod value_set;
mod write;

pub use error::TsdbError;
pub use flush::FlushReport;
pub use inspect::{PartInfo, PartSeries, SeriesIds, Unflushed};
pub use policy::{DownsamplingRule, Policy, RetentionRule};
pub use read::{LeftOut, Salvage};
pub use repair::repair;
pub use store::{Tsdb, TsdbOptions};
pub use trefoil_parts::ObjectStoreOptions;
