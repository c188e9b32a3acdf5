//! Programs that a test starts and ends.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Ports handed out, below those that the kernel gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// A port on loopback that was free a moment ago; not one twice, so that tests that run beside each other do not get
/// in each other's way.
pub fn free_port() -> u16 {
    let count = u32::from(PORTS.end - PORTS.start);
    // Processes begin at different places.
    let first = std::process::id().wrapping_mul(97) % count;
    for _ in PORTS {
        let n = u32::from(NEXT_PORT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + ((first + n) % count) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port in {PORTS:?} is free");
}

/// The path of a program on the PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Says that a test is skipped and why. Tests that call it return at once.
#[expect(clippy::print_stdout, reason = "the one line that says what a run left out")]
pub fn skipped(test: &str, why: &str) {
    println!("skipped: {test}: {why}");
}

/// A folder of the conformance data, or nothing with a word that the test is skipped.
pub fn conformance(folder: &str, test: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TREFOIL_CONFORMANCE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance"), PathBuf::from);
    let dir = root.join(folder);
    if dir.is_dir() {
        return Some(dir);
    }
    skipped(test, &format!("{} is not there", dir.display()));
    None
}

/// What became of a program that ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code, `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Both outputs.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Itself, when the program ended well; panics with its output otherwise.
    pub fn expect_success(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.output());
        self
    }
}

/// Runs a program to its end with an input; kills it and panics when that takes longer than a minute.
pub fn run(command: &mut Command, input: &[u8]) -> Finished {
    run_within(command, input, Duration::from_secs(60))
}

/// As [`run`], with another limit.
pub fn run_within(command: &mut Command, input: &[u8], limit: Duration) -> Finished {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let pid = child.id();
    let (mut stdin, input) = (child.stdin.take().expect("it is piped"), input.to_vec());
    // A program that does not read all of its input may well be right.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let (done, ended) = mpsc::sync_channel(1);
    std::thread::spawn(move || drop(done.send(child.wait_with_output())));
    let Ok(output) = ended.recv_timeout(limit) else {
        drop(Command::new("kill").arg("-KILL").arg(pid.to_string()).status());
        panic!("{command:?} did not end");
    };
    writer.join().expect("the writer does not panic");
    let output = output.expect("a child can be waited for");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Finished { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// A started program; killed when dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    /// Where its output goes.
    pub log: PathBuf,
}

impl Peer {
    /// Starts a program with its output in `log`.
    pub fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let out = File::create(log)?;
        let err = out.try_clone()?;
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn()?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// kill -9.
    pub fn kill(&mut self) {
        // Already gone is as good as killed.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Sends a signal by name (`TERM`, `HUP`).
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.is_ok_and(|s| s.success()), "kill -{name} {}", self.pid());
    }

    /// Waits for the end; the exit code, `None` after a signal.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().ok().and_then(|s| s.code())
    }

    /// A line `Name:   123 kB` of `/proc/<pid>/status` in bytes.
    pub fn memory_bytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("{name} is not in the status of {}", self.pid())) * 1024
    }

    /// What it wrote so far.
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}
