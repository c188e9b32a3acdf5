//! What the tests against the real binary share: a server in a folder of its own, free ports, peers that are started
//! and ended with the test, waiting for a condition.
//!
//! Reading order: [`server`] (the binary), [`process`] (any other program), [`fake`] (a server that a test plays), [`seaweed`] (an S3 server),
//! [`http`] and [`grpc`] (clients), [`grammar`] (random queries), [`wire`] (messages), [`json`] (walking answers), [`wait`].

pub mod fake;
pub mod grammar;
pub mod grpc;
pub mod http;
pub mod json;
pub mod oracle;
pub mod process;
pub mod seaweed;
pub mod server;
pub mod wait;
pub mod wire;

pub use fake::FakeServer;
pub use http::Http;
pub use json::{items, text};
pub use process::{Finished, Peer, conformance, find_program, free_port, run, run_within, skipped};
pub use seaweed::Seaweed;
pub use server::{Server, ServerOptions};
pub use wait::{wait_for, wait_for_result};
