//! rsyslog and syslog-ng: what they take from an application arrives once, over a restart of either side.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use trefoil_tests::wire::now_ns;
use trefoil_tests::{Peer, Server, ServerOptions, find_program, free_port, skipped, wait_for, wait_for_result};

use super::{PATIENCE, lines, restart_in_order};

/// Debian's packages, unpacked beside the tests: the two cannot be installed together.
fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/debian")
}

/// A daemon that runs, and the socket on which it takes messages.
struct Daemon {
    peer: Peer,
    command: Box<dyn Fn() -> Command>,
    log: PathBuf,
    socket: PathBuf,
}

impl Daemon {
    fn start(command: Box<dyn Fn() -> Command>, dir: &Path) -> Self {
        let (log, socket) = (dir.join("daemon.log"), dir.join("log.sock"));
        let mut daemon = Self { peer: Peer::start(&mut command(), &log).unwrap(), command, log, socket };
        daemon.wait();
        daemon
    }

    fn wait(&mut self) {
        let socket = self.socket.clone();
        wait_for("the daemon to take messages", PATIENCE, || {
            assert!(self.peer.is_running(), "{}", self.peer.output());
            UnixDatagram::unbound().unwrap().connect(&socket).is_ok()
        });
    }

    /// Stops it in order, so that what it has not sent is kept, and starts it again.
    fn restart(&mut self) {
        self.peer.signal("TERM");
        self.peer.wait();
        std::fs::remove_file(&self.socket).ok();
        self.peer = Peer::start(&mut (self.command)(), &self.log).unwrap();
        self.wait();
    }

    fn say(&self, from: usize, to: usize) {
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(&self.socket).unwrap();
        for i in from..to {
            // Local priority 4, error; without a host, as applications send to /dev/log.
            socket.send(format!("<163>Nov 21 12:00:00 shop[{i}]: line {i}").as_bytes()).unwrap();
        }
    }
}

/// A server with a door for each way, and TLS with a certificate of its own.
fn server(name: &str) -> (Server, [u16; 3], PathBuf) {
    let dir = trefoil_tests::server::fresh_dir(&format!("{name}-tls"));
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let ports = [free_port(), free_port(), free_port()];
    let tls =
        format!("{{ cert_file: {}, key_file: {} }}", dir.join("cert.pem").display(), dir.join("key.pem").display());
    let trefoil = format!(
        "  syslog:\n    - {{ address: \"127.0.0.1:{}\", labels: {{ door: udp }} }}\n    - {{ address: \"127.0.0.1:{}\", protocol: tcp, labels: {{ door: tcp }} }}\n    - {{ address: \"127.0.0.1:{}\", protocol: tcp, tls: {tls}, labels: {{ door: tls }} }}\n",
        ports[0], ports[1], ports[2]
    );
    (Server::start(name, ServerOptions { trefoil, ..ServerOptions::default() }), ports, dir)
}

/// A door, the decimals of the times that come by it, and how many lines the daemon itself may lose when the server is
/// restarted: syslog-ng 3.38 does not look whether a TLS connection has ended before it writes.
type Door = (&'static str, u32, usize);

/// Waits until the last of so many lines is there by each door, and no more than may be are missing.
fn wait_for_all(server: &Server, doors: &[Door], count: usize, lost: usize) {
    for (door, _, may_lose) in doors {
        wait_for_result(&format!("{count} lines by {door}"), PATIENCE, || {
            let found = lines(&server.http, &format!(r#"{{door="{door}"}} |= "line""#))?;
            let last = format!("line {}", count - 1);
            let is_all = found.len() + may_lose * lost >= count && found.iter().any(|l| l.line == last);
            if is_all { Ok(()) } else { Err(format!("{} lines", found.len())) }
        });
    }
}

/// Says lines, restarts the daemon and the server between them, and looks for each line by each door.
fn check(mut server: Server, mut daemon: Daemon, doors: &[Door]) {
    let began = now_ns();
    daemon.say(0, 100);
    wait_for_all(&server, doors, 100, 0);
    restart_in_order(&mut server);
    daemon.say(100, 200);
    wait_for_all(&server, doors, 200, 1);
    daemon.restart();
    daemon.say(200, 300);
    wait_for_all(&server, doors, 300, 1);
    for (door, precision, _) in doors {
        let found = lines(&server.http, &format!(r#"{{door="{door}"}} |= "line""#)).unwrap();
        let once: BTreeSet<_> = found.iter().map(|l| l.line.clone()).collect();
        assert_eq!(once.len(), found.len(), "each once by {door}");
        for line in &found {
            let i = line.line.trim_start_matches("line ");
            let shown = line.labels(&["service_name", "proc_id", "detected_level", "facility"]);
            assert_eq!(shown, format!("shop {i} error local4"), "{line:?}");
            assert!(!line.label("host").is_empty(), "{line:?}");
            let unit = 10u64.pow(9 - *precision);
            assert!(line.time_ns / unit >= began / unit && line.time_ns <= now_ns(), "{line:?} since {began}");
        }
    }
}

#[test]
fn rsyslog() {
    let root = unpacked();
    let own = root.join("usr/sbin/rsyslogd");
    let Some(program) = own.is_file().then_some(own).or_else(|| find_program("rsyslogd")) else {
        return skipped("rsyslog", "rsyslogd is not there; run tests/install-tools");
    };
    let (server, [udp, tcp, tls], certificates) = server("rsyslog");
    let dir = server.dir.join("daemon");
    std::fs::create_dir_all(&dir).unwrap();
    let system = if program.starts_with(&root) { root.clone() } else { PathBuf::from("/") };
    let modules = system.join("usr/lib/x86_64-linux-gnu/rsyslog");
    let has_tls = modules.join("lmnsd_ossl.so").is_file();
    let d = dir.display();
    let target = |name: &str, more: &str| {
        format!(
            "action(type=\"omfwd\" target=\"127.0.0.1\" {more}\n  queue.type=\"LinkedList\" queue.filename=\"{name}\" queue.saveonshutdown=\"on\" action.resumeRetryCount=\"-1\" action.resumeInterval=\"1\")\n"
        )
    };
    let mut config = format!(
        "global(workDirectory=\"{d}\" defaultNetstreamDriverCAFile=\"{}\")\nmodule(load=\"imuxsock\" SysSock.Use=\"off\")\ninput(type=\"imuxsock\" Socket=\"{d}/log.sock\" IgnoreTimestamp=\"on\" CreatePath=\"on\" RateLimit.Interval=\"0\")\n",
        certificates.join("cert.pem").display()
    );
    let mut doors = vec![("tcp", 6, 0)];
    config += &target(
        "tcp",
        &format!(
            "port=\"{tcp}\" protocol=\"tcp\" TCP_Framing=\"octet-counted\" template=\"RSYSLOG_SyslogProtocol23Format\""
        ),
    );
    config += &format!(
        "action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{udp}\" protocol=\"udp\" template=\"RSYSLOG_ForwardFormat\")\n"
    );
    if has_tls {
        doors.push(("tls", 0, 0));
        config += &target(
            "tls",
            &format!(
                "port=\"{tls}\" protocol=\"tcp\" StreamDriver=\"ossl\" StreamDriverMode=\"1\" StreamDriverAuthMode=\"anon\" template=\"RSYSLOG_TraditionalForwardFormat\""
            ),
        );
    } else {
        skipped("rsyslog over TLS", "rsyslog-openssl is not there; run tests/install-tools");
    }
    write(&dir.join("rsyslog.conf"), &config);
    let command = move || {
        let mut command = Command::new(&program);
        command.env("LD_LIBRARY_PATH", root.join("usr/lib/x86_64-linux-gnu"));
        command.arg("-n").arg("-f").arg(dir.join("rsyslog.conf")).arg("-i").arg(dir.join("pid"));
        if program.starts_with(&root) {
            command.arg("-M").arg(&modules);
        }
        command
    };
    let daemon = Daemon::start(Box::new(command), &server.dir.join("daemon"));
    check(server, daemon, &doors);
    std::fs::remove_dir_all(certificates).ok();
}

#[test]
fn syslog_ng() {
    let root = unpacked();
    let own = root.join("usr/sbin/syslog-ng");
    let Some(program) = own.is_file().then_some(own).or_else(|| find_program("syslog-ng")) else {
        return skipped("syslog_ng", "syslog-ng is not there; run tests/install-tools");
    };
    let (server, [udp, tcp, tls], certificates) = server("syslog-ng");
    let dir = server.dir.join("daemon");
    std::fs::create_dir_all(&dir).unwrap();
    let d = dir.display();
    let config = format!(
        "@version: 3.38\noptions {{ keep-hostname(yes); keep-timestamp(no); time-reopen(1); frac-digits(3); }};\nsource s {{ unix-dgram(\"{d}/log.sock\"); }};\ndestination tcp {{ syslog(\"127.0.0.1\" transport(\"tcp\") port({tcp})); }};\ndestination tls {{ network(\"127.0.0.1\" transport(\"tls\") port({tls}) tls(peer-verify(optional-untrusted))); }};\ndestination udp {{ network(\"127.0.0.1\" transport(\"udp\") port({udp})); }};\nlog {{ source(s); destination(tcp); }};\nlog {{ source(s); destination(tls); }};\nlog {{ source(s); destination(udp); }};\n"
    );
    write(&dir.join("syslog-ng.conf"), &config);
    let modules = root.join("usr/lib/syslog-ng/3.38");
    let command = move || {
        let mut command = Command::new(&program);
        let libraries = ["usr/lib/syslog-ng", "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|l| root.join(l));
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
        command.arg("--foreground").arg("--no-caps").arg("-f").arg(dir.join("syslog-ng.conf"));
        command.arg("-R").arg(dir.join("persist")).arg("-c").arg(dir.join("ctl")).arg("-p").arg(dir.join("pid"));
        if program.starts_with(&root) {
            command.arg(format!("--module-path={}", modules.display()));
        }
        command
    };
    let daemon = Daemon::start(Box::new(command), &server.dir.join("daemon"));
    check(server, daemon, &[("tcp", 3, 0), ("tls", 0, 1)]);
    std::fs::remove_dir_all(certificates).ok();
}

fn write(path: &Path, text: &str) {
    std::fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}
