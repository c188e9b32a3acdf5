//! Data of a Prometheus server, as `tsdb/docs/format` of prometheus/prometheus describes it.
//!
//! Reading order: [`data_dir`] (what is in a folder, and the import of all of it), [`block`] (folder of a block),
//! [`index`], [`tombstones`], [`chunk`] and `histogram_chunk` (samples), [`chunk_writer`] (the
//! other way), [`wal`] (segments and pages), [`record`]
//! (what a log's records mean), [`head`] (the import of the write-ahead log).

pub mod block;
pub mod chunk;
pub mod chunk_writer;
pub mod data_dir;
pub mod head;
mod histogram_chunk;
pub mod index;
pub mod record;
pub mod tombstones;
pub mod wal;
