//! A simulated shop that sends real telemetry, so that a fresh server has something to show.
//!
//! gateway -> orders -> inventory and payments, with a cache, a broker, a worker and a database. Requests arrive at
//! random; each becomes one trace over the services, log lines that carry its ids, and measurements with exemplars.
//! Every few minutes the card processor behind payments turns slow and fails, long enough for an alert to fire, and
//! recovers.
//!
//! Reading order: [`shop`] (what happens to one request), [`pages`] (OpenMetrics pages to be scraped), [`send`] (OTLP
//! over gRPC and HTTP, Loki push), [`run`].
//!
//! Invariants: it is a client of the public ports and shares no code with ingestion; it knows no store and no
//! configuration.

pub mod pages;
mod run;
mod send;
mod shop;

pub use run::{DemoOptions, Shop};
