//! What stored traces tell when they are looked at as a whole.
//!
//! Map: [`tree`] (spans in a tree, whatever their ids say), [`skew`] (clocks that differ), [`critical`] (self times and the
//! critical path), [`analysis`] (all of this of one trace), [`call_tree`] (traces by the paths of their calls: two beside
//! each other, or many as a flame graph), [`differ`] (what separates selected spans from others), [`errors`] (errors by
//! type, shape of their message, and place).

pub mod analysis;
pub mod call_tree;
pub mod critical;
pub mod differ;
pub mod errors;
pub mod skew;
pub mod tree;
