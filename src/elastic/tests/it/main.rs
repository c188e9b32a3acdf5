//! Integration tests of the query language.

mod aggs;
mod bad_input;
mod memory;
mod naive;
mod queries;
