//! The event store against a naive model, power cuts, damage and a frozen fixture.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod concurrent;
mod crash;
mod damage;
mod fixture;
mod journal;
mod logs;
mod memtable;
mod record;
mod retention;
mod spans_wanted;
mod support;
mod tier;
mod traces;
