//! Waiting for a condition instead of sleeping.

use std::time::{Duration, Instant};

/// Waits until `condition` holds; panics with `what` after `timeout`.
pub fn wait_for(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    wait_for_result(what, timeout, || condition().then_some(()).ok_or_else(String::new));
}

/// Waits until `attempt` gives a value; panics with `what` and the last error after `timeout`.
pub fn wait_for_result<T>(what: &str, timeout: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) if Instant::now() >= deadline => panic!("waited {timeout:?} for {what}: {error}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
        }
    }
}
