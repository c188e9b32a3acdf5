//! The engine against the conformance cases, over a reader in memory, and tables of its own.

mod behaviour;
mod cases;
mod differential;
mod mutation;
mod positions;
