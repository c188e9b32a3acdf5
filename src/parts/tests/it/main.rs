//! A set of parts against a simulated disk that crashes, fails and rots.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod backup;
mod crash;
mod damage;
mod fixture;
mod holding;
mod lost;
mod redundancy;
mod remote;
mod remote_backup;
mod support;
