//! The life of immutable parts: written aside, published by one commit, merged, expired, removed.
//!
//! Reading order: [`meta`] (what a part is), [`part_set`] (the set of published parts), [`part_writer`] (writing one),
//! [`catalog`] and [`commit_file`] (how commits are stored), [`blob_store`] (where), [`retention`] and [`merge`] (what
//! to remove and what to merge), [`objects`], [`remote`] and `tier` (parts in an object store), [`link`] (snapshots), [`backup`],
//! [`at_rest`] (sets that nobody has open), [`history`] and [`repair`] (commits that are lost).
//!
//! Invariants:
//! - A commit publishes parts, removes parts and moves the journal position in one create-only file. A process that
//!   dies at any point leaves the old or the new state.
//! - A part never changes. Its files are removed only when a commit removed it and nobody holds its [`PartMeta`].
//! - Damage in the catalog is mended from the copies of the commits or an error that names the file, never an older state.
//!
//! It must not know what is in a part, nor what wrote it.
#![doc = include_str!("../FORMAT.md")]

pub mod at_rest;
pub mod backup;
pub mod blob_store;
pub mod catalog;
pub mod commit_file;
mod error;
mod framed;
pub mod history;
pub mod link;
pub mod merge;
pub mod meta;
mod metrics;
pub mod objects;
mod orphans;
pub mod part_set;
pub mod part_writer;
pub mod redundancy;
pub mod remote;
pub mod repair;
pub mod retention;
mod tier;
mod twin;

pub use backup::{BackupError, BackupOptions, Backups};
pub use blob_store::{BlobStore, LocalFolder};
pub use catalog::{Catalog, CatalogState, Change, LocalCatalog};
pub use error::PartsError;
pub use history::JournalStart;
pub use link::SetState;
pub use merge::{MergePlan, MergePolicy};
pub use meta::{FileMeta, PartId, PartMeta};
pub use objects::Objects;
pub use part_set::{Commit, PartHandle, PartSet};
pub use part_writer::{PartFacts, PartFile, PartWriter, PendingPart};
pub use remote::{RemoteOptions, RemoteState};
pub use tier::ObjectStoreOptions;
