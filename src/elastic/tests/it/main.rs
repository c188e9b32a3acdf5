//! Integration tests of the query language.

mod memory;
