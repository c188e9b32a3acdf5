//! The store from outside, on a simulated disk.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod changes;
mod copies;
mod crash;
mod damage;
mod endurance;
mod exemplars;
mod few;
mod fixture;
mod fixture_commits;
mod fixture_downsampled;
mod fixture_remote;
mod functions;
mod guard;
mod life;
mod lost;
mod model;
mod regex;
mod scale;
mod snapshot;
mod store;
mod support;
mod tier;
mod tier_access;
mod tier_damage;
mod tier_merge;
mod trouble;

/// The server's own, so that what the long runs print of memory is what a server would hold.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
