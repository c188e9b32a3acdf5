//! The engine against the conformance cases, over a reader in memory, and tables of its own.

mod behaviour;
mod cases;
mod mutation;
mod positions;
