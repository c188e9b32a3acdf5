//! How samples become bytes: variable-length integers, bit packing, float and histogram columns, blocks.
//!
//! Reading order: [`varint`], [`bits`], [`wide`], [`unpack`], [`ints`], [`pco`], [`floats`], [`histogram`], [`times`], [`rollups`],
//! [`block`]. Everything here is total:
//! whatever bytes a decoder gets, it answers with values or [`DecodeError`], never with a panic.

pub(crate) mod bits;
pub(crate) mod block;
pub(crate) mod floats;
pub(crate) mod histogram;
pub(crate) mod ints;
pub(crate) mod pco;
pub(crate) mod rollups;
pub(crate) mod times;
pub(crate) mod unpack;
pub(crate) mod varint;
pub(crate) mod wide;

/// The bytes are cut short or are not what their encoder writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed encoding")]
pub(crate) struct DecodeError;

/// How much work goes into making a block small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Effort {
    /// For what will soon be written again: encodings that are fast to write and to read.
    #[default]
    Fresh,
    /// For what stays: all encodings compete.
    Merged,
}

#[cfg(test)]
mod tests;
