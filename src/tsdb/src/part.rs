//! Parts: immutable files with the series of one tenant and day. See `FORMAT.md`.
//!
//! A part has two files: `index` ([`layout`] names its sections, [`column`] packs some, [`writer`]
//! makes it with the help of [`dictionary`], [`reader`] answers from the
//! mapped bytes) and `blocks` (the samples, see [`crate::encoding::block`]). Rows are numbered by the order of their
//! labels.

pub(crate) mod column;
mod dictionary;
pub(crate) mod layout;
pub(crate) mod postings;
pub(crate) mod reader;
pub(crate) mod writer;

pub(crate) use reader::PartReader;
pub(crate) use writer::PartBuilder;

#[cfg(test)]
mod tests;
