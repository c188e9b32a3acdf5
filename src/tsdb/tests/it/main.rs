//! The store from outside, on a simulated disk.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod changes;
mod crash;
mod damage;
mod endurance;
mod exemplars;
mod fixture;
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
