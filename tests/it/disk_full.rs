//! A disk that fills up: 503 with Retry-After, queries go on, recovery when space returns, nothing acknowledged lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use trefoil_tests::oracle::{Oracle, Signal};
use trefoil_tests::server::fresh_dir;
use trefoil_tests::{Server, ServerOptions, skipped, wait_for, wire};

/// A small file system in memory; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(mebibytes: u32) -> Option<Self> {
        let dir = fresh_dir("small-disk");
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&dir).output();
        mounted.is_ok_and(|o| o.status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A disk that stays mounted only costs memory.
        Command::new("umount").arg("-l").arg(&self.0).output().ok();
    }
}

fn fill(path: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(path).unwrap();
    let chunk = vec![1u8; 64 << 10];
    // Bounded by the size of the disk.
    while file.write_all(&chunk).is_ok() {}
}

#[test]
fn disk_full_refuses_and_recovers() {
    let Some(disk) = SmallDisk::mount(192) else {
        return skipped("disk_full_refuses_and_recovers", "a file system cannot be mounted here");
    };
    let options = ServerOptions { data_dir: Some(disk.0.join("data")), ..ServerOptions::default() };
    let mut server = Server::start("disk-full", options);
    let oracle = Oracle::new("disk");
    for signal in [Signal::Metrics, Signal::Logs, Signal::Traces] {
        oracle.write_batch(signal, &server.http);
        assert_eq!(oracle.acknowledged(signal), 20, "{signal:?} before the disk is full");
    }
    let ballast = disk.0.join("ballast");
    fill(&ballast);
    let refused = |path: &str, headers: &[(&str, &str)], body: &dyn Fn(u64) -> Vec<u8>| {
        // What is already allocated in the journal may still be used up.
        let mut n = 0;
        wait_for("the full disk to be noticed", Duration::from_secs(30), || {
            n += 1;
            let answer = server.http.post(path, headers, body(n)).unwrap();
            if answer.status == 503 {
                assert!(answer.headers.contains_key("retry-after"), "{path}: {:?}", answer.headers);
            }
            answer.status == 503
        });
    };
    let now = wire::now_ms();
    refused("/api/v1/write", wire::REMOTE_WRITE, &|n| {
        wire::remote_write(vec![wire::series(&[("__name__", "filler"), ("n", &n.to_string())], &[(now, 1.0)])])
    });
    refused("/loki/api/v1/push", &[("content-type", "application/json")], &|n| {
        wire::loki_push(&[("service_name", "filler")], &[(wire::now_ns(), format!("{n} {}", "x".repeat(20_000)))])
    });
    refused("/v1/traces", wire::OTLP, &|n| {
        wire::otlp_spans("filler", vec![wire::span([9; 16], (n + 1).to_be_bytes(), None, "filler", wire::now_ns())])
    });
    // Queries go on, and who balances load is told.
    assert_eq!(oracle.check(&server.http), [""; 0], "while the disk is full");
    let ready = server.http.get("/-/ready", &[]).unwrap();
    assert!(ready.status == 503 && ready.text().contains("disk is full"), "{} {}", ready.status, ready.text());
    fs::remove_file(&ballast).unwrap();
    wait_for("readiness", Duration::from_secs(30), || server.http.get("/-/ready", &[]).unwrap().status == 200);
    for signal in [Signal::Metrics, Signal::Logs, Signal::Traces] {
        let before = oracle.acknowledged(signal);
        wait_for("writes to work again", Duration::from_secs(30), || {
            oracle.write_batch(signal, &server.http);
            oracle.acknowledged(signal) > before
        });
    }
    assert_eq!(oracle.check(&server.http), [""; 0], "after space returned");
    server.peer.kill();
    server.restart();
    assert_eq!(oracle.check(&server.http), [""; 0], "after a restart");
}
