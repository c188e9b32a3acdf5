//! The journal against a simulated disk that crashes, fails, fills up and rots, and against the real one.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod copies;
mod crash;
mod damage;
mod fixture;
mod model;
mod rotate;
mod support;
mod writing;
