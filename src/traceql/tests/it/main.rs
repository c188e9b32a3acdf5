//! Tests of the whole crate.
mod cases;
