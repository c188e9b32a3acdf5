//! What is counted of spans and which traces are kept, against a look at all spans at the end.

mod brute;
mod exact;
mod random_spans;
mod sampled;
mod stores;
