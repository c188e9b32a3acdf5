//! Tests of the vocabulary that need more than one of its parts.

mod re2;
