//! What the tests against the real binary share: a server in a folder of its own, free ports, peers that are started
//! and ended with the test, waiting for a condition.
//!
//! Reading order: [`server`] (the binary), [`process`] (any other program), [`wait`].

pub mod http;
pub mod oracle;
pub mod process;
pub mod server;
pub mod wait;
pub mod wire;

pub use http::Http;
pub use process::{Peer, find_program, free_port, skipped};
pub use server::{Server, ServerOptions};
pub use wait::{wait_for, wait_for_result};
