//! Fluentd's forward protocol as its clients speak it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use trefoil_tests::process::{Finished, run};
use trefoil_tests::wire::now_ns;
use trefoil_tests::{Peer, Server, ServerOptions, free_port, skipped};

use super::{PATIENCE, python, senders, wait_for_lines};

fn start(name: &str, port: u16, more: &str) -> Server {
    let trefoil = format!("  fluent_forward:\n    - {{ address: \"127.0.0.1:{port}\"{more} }}\n");
    Server::start(name, ServerOptions { trefoil, ..ServerOptions::default() })
}

fn send(python: &std::path::Path, arguments: &[&str]) -> Finished {
    run(Command::new(python).arg(senders()).args(arguments), b"")
}

#[test]
fn the_python_client() {
    let Some(python) = python() else {
        return skipped("the_python_client", "fluent-logger is not installed; run tests/install-tools");
    };
    let port = free_port();
    let server = start("fluent-logger", port, "");
    let began = now_ns();
    send(&python, &["fluent_logger", &port.to_string(), "\"web\"", "100"]).expect_success();
    let found = wait_for_lines(&server.http, r#"{fluent_tag="web.app"}"#, 100);
    for (i, line) in found.iter().enumerate() {
        assert_eq!(line.line, format!("fluent {i}"));
        let shown = line.labels(&["number", "user_id", "detected_level", "service_name", "job"]);
        assert_eq!(shown, format!("{i} {i} warn web.app fluent_forward"), "{line:?}");
        assert!(line.time_ns >= began && line.time_ns <= now_ns(), "{line:?}");
    }
    send(&python, &["fluent_handler", &port.to_string(), "\"handled\"", "10"]).expect_success();
    let found = wait_for_lines(&server.http, r#"{fluent_tag="handled"}"#, 10);
    assert!(found.iter().all(|l| l.label("detected_level") == "error"), "{found:?}");
}

#[test]
fn chunks_are_acknowledged_once_they_are_durable() {
    let test = "chunks_are_acknowledged_once_they_are_durable";
    let Some(python) = python() else {
        return skipped(test, "msgpack is not installed; run tests/install-tools");
    };
    let port = free_port();
    let dir = trefoil_tests::server::fresh_dir("forward-unix");
    let unix = dir.join("forward.sock");
    let second = format!(" }}\n    - {{ address: \"unix://{}\"", unix.display());
    let mut server = start("forward-acks", port, &second);
    let (tcp, unix) = (format!("\"{port}\""), format!("\"{}\"", unix.display()));
    for (mode, address) in [("message", &tcp), ("forward", &tcp), ("packed", &unix), ("gzip", &unix)] {
        let count = if mode == "message" { 1 } else { 100 };
        send(&python, &["forward", address, &format!("\"{mode}\""), "0", &count.to_string(), "\"c1\""])
            .expect_success();
        // Acknowledged: there at once, and after a crash.
        server.peer.kill();
        server.restart();
        let found = wait_for_lines(&server.http, &format!(r#"{{fluent_tag="app.{mode}"}}"#), count);
        let lines: BTreeSet<_> = found.iter().map(|l| l.line.clone()).collect();
        assert_eq!(lines, (0..count).map(|i| format!("{mode} {i}")).collect::<BTreeSet<_>>());
    }
    std::fs::remove_dir_all(dir).ok();
}

#[test]
fn a_client_waits_for_a_server_that_starts_later() {
    let test = "a_client_waits_for_a_server_that_starts_later";
    let Some(python) = python() else {
        return skipped(test, "msgpack is not installed; run tests/install-tools");
    };
    let port = free_port();
    let mut server = start("forward-later", port, "");
    server.peer.signal("TERM");
    assert_eq!(server.peer.wait(), Some(0));
    let mut command = Command::new(&python);
    command.arg(senders()).args(["forward", &format!("\"{port}\""), "\"packed\"", "0", "50", "\"c\""]);
    let mut client = Peer::start(&mut command, &server.dir.join("client.log")).unwrap();
    server.restart();
    assert_eq!(client.wait(), Some(0), "{}", client.output());
    wait_for_lines(&server.http, r#"{fluent_tag="app.packed"}"#, 50);
}

#[test]
fn who_has_no_key_stays_outside() {
    let Some(python) = python() else {
        return skipped("who_has_no_key_stays_outside", "msgpack is not installed; run tests/install-tools");
    };
    let port = free_port();
    let server = start("forward-key", port, ", shared_key: secret-key, users: { ann: pw }");
    let shake = |key: &str, user: &str, password: &str| {
        let quoted = [key, user, password].map(|t| format!("\"{t}\""));
        send(&python, &["handshake", &port.to_string(), &quoted[0], &quoted[1], &quoted[2]])
    };
    shake("secret-key", "ann", "pw").expect_success();
    wait_for_lines(&server.http, r#"{fluent_tag="in"}"#, 1);
    for (key, user, password) in [("other", "ann", "pw"), ("secret-key", "ann", "x"), ("secret-key", "", "")] {
        let refused = shake(key, user, password);
        assert!(refused.code == Some(1) && refused.output().contains("mismatch"), "{}", refused.output());
    }
    // An event without a handshake is not taken.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"\x93\xa1t\x01\x81\xa3log\xa1x").unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut helo = Vec::new();
    // The server closes, perhaps by a reset.
    stream.read_to_end(&mut helo).ok();
    wait_for_lines(&server.http, r#"{job="fluent_forward"}"#, 1);
}

#[test]
fn what_is_no_message_closes_the_connection() {
    let port = free_port();
    let server = start("forward-bad", port, ", udp_heartbeat: true");
    let deep = vec![0x91u8; 100_000];
    let bads: [&[u8]; 4] = [b"\xc1", b"\xdb\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", &deep];
    for bad in bads {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The server may close before all is sent.
        stream.write_all(bad).ok();
        let mut rest = Vec::new();
        assert!(
            stream.read_to_end(&mut rest).is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
                || rest.is_empty()
        );
    }
    // What is MessagePack and no event is passed over, and what follows it is taken.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"\xc0\x01\x90\x92\xa1t\xa1x\x94\xa1t\x00\x81\xa3log\xa2\xff\xfe\x81\xa5chunk\xa1c").unwrap();
    let mut ack = [0; 7];
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_exact(&mut ack).unwrap();
    assert_eq!(&ack, b"\x81\xa3ack\xa1c");
    assert_eq!(wait_for_lines(&server.http, r#"{fluent_tag="t"}"#, 1)[0].line, "\u{fffd}\u{fffd}");
    assert!(server.http.own_metric("trefoil_socket_dropped_total") >= 6.0);
    // A heartbeat is answered.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.send_to(b"\0", ("127.0.0.1", port)).unwrap();
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
}
