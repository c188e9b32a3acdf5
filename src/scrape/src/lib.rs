//! Scraping: pages of targets become batches of samples.
//!
//! Reading order: [`exposition`] (the text formats, without copying), [`relabel`], [`target`] (from an address to a
//! URL with labels), [`page`] (one page made into a batch: limits, staleness), [`fetch`] (HTTP),
//! [`scrape_loop`] (the life of one target), [`manager`] (all of them, and reloads).
//!
//! Invariants: this crate writes through [`trefoil_model::MetricWriter`] and knows no store; it takes its settings as
//! the plain structs of `trefoil-config` and never reads the configuration file. A page either counts as a whole or
//! not at all.

mod cache;
pub mod exposition;
pub mod fetch;
pub mod manager;
mod metrics;
pub mod page;
pub mod relabel;
pub mod scrape_loop;
pub mod target;

pub use exposition::{Exposition, ExpositionError, Line, TextFormat};
pub use manager::{ActiveTarget, DroppedTarget, ScrapeManager};
pub use relabel::{Relabel, RelabelError};
pub use scrape_loop::{Health, TargetStatus};
pub use target::Target;
