//! Tests against the real binary, real peers and the tree itself. One binary, so that linking happens once.

mod layers;
