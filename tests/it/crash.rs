//! kill -9 under load from all three signals: what was acknowledged is there exactly once.

use std::time::{Duration, Instant};

use trefoil_tests::oracle::{Oracle, Signal};
use trefoil_tests::{Server, ServerOptions, wait_for};

fn cycles() -> u32 {
    if std::env::var_os("TREFOIL_TORTURE").is_some() { 200 } else { 20 }
}

#[test]
fn crash_kill_9_loses_nothing() {
    // Small memtables, so that flushes and journal truncation happen under the axe too.
    let trefoil = "  memtable: { flush_bytes: 1MB, flush_interval: 1s }\n  journal: { segment_bytes: 1MB }".to_owned();
    let mut server = Server::start("crash", ServerOptions { trefoil, ..ServerOptions::default() });
    let oracle = Oracle::new("crash");
    for cycle in 0..cycles() {
        let before = [Signal::Metrics, Signal::Logs, Signal::Traces].map(|s| oracle.acknowledged(s));
        let writers = oracle.start(&server.http);
        wait_for("every signal to be acknowledged", Duration::from_secs(30), || {
            [Signal::Metrics, Signal::Logs, Signal::Traces].iter().zip(before).all(|(s, b)| oracle.acknowledged(*s) > b)
        });
        // A different moment each time.
        let kill_at = Instant::now() + Duration::from_millis(u64::from(cycle * 37 % 250));
        wait_for("the moment to kill", Duration::from_secs(5), || Instant::now() >= kill_at);
        server.peer.kill();
        writers.stop();
        server.restart();
        if cycle % 10 == 9 {
            assert_eq!(oracle.check(&server.http), [""; 0], "after cycle {cycle}");
        }
    }
    let written = [Signal::Metrics, Signal::Logs, Signal::Traces].map(|s| oracle.acknowledged(s));
    assert!(written.iter().all(|n| *n >= 20 * cycles() as usize), "{written:?}");
    assert_eq!(oracle.check(&server.http), [""; 0]);
}
