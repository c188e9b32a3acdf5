//! How samples become bytes: variable-length integers, bit packing, float and histogram columns, blocks.
//!
//! Reading order: [`varint`], [`bits`], [`ints`], [`floats`], [`histogram`], [`rollups`], [`block`]. Everything here is total:
//! whatever bytes a decoder gets, it answers with values or [`DecodeError`], never with a panic.

pub(crate) mod bits;
pub(crate) mod block;
pub(crate) mod floats;
pub(crate) mod histogram;
pub(crate) mod ints;
pub(crate) mod rollups;
pub(crate) mod varint;

/// The bytes are cut short or are not what their encoder writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed encoding")]
pub(crate) struct DecodeError;

#[cfg(test)]
mod tests;
