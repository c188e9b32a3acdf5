//! `logger` of util-linux, and what is sent by hand.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::Command;

use trefoil_tests::process::run;
use trefoil_tests::wire::now_ns;
use trefoil_tests::{Server, ServerOptions, find_program, free_port, skipped};

use super::{lines, restart_in_order, wait_for_lines};

struct Ports {
    udp: u16,
    tcp: u16,
}

fn start(name: &str) -> (Server, Ports) {
    let ports = Ports { udp: free_port(), tcp: free_port() };
    let trefoil = format!(
        "  syslog:\n    - {{ address: \"127.0.0.1:{}\" }}\n    - {{ address: \"127.0.0.1:{}\", protocol: tcp }}\n",
        ports.udp, ports.tcp
    );
    (Server::start(name, ServerOptions { trefoil, ..ServerOptions::default() }), ports)
}

#[test]
fn logger_in_all_its_forms() {
    let Some(logger) = find_program("logger") else {
        return skipped("logger_in_all_its_forms", "logger is not installed");
    };
    let (server, ports) = start("logger");
    let began = now_ns();
    let mut wanted = Vec::new();
    for (transport, port) in [("--udp", ports.udp), ("--tcp", ports.tcp)] {
        for format in ["--rfc3164", "--rfc5424", "--rfc5424=notq"] {
            for counted in [false, true] {
                if counted && transport == "--udp" {
                    continue;
                }
                let line = format!("over {transport} as {format} counted {counted}");
                let mut command = Command::new(&logger);
                command.args([transport, format, "--server", "127.0.0.1", "--port", &port.to_string()]);
                command.args(["--id=4711", "--tag", "shop", "--priority", "local3.warning"]);
                if counted {
                    command.arg("--octet-count");
                }
                run(command.arg(&line), b"").expect_success();
                wanted.push(line);
            }
        }
    }
    let found = wait_for_lines(&server.http, r#"{job="syslog", service_name="shop"}"#, wanted.len());
    for line in &found {
        assert!(wanted.contains(&line.line), "{line:?}");
        let labels = line.labels(&["detected_level", "severity_text", "facility", "proc_id"]);
        assert_eq!(labels, "warn warning local3 4711", "{line:?}");
        assert!(!line.label("host").is_empty(), "{line:?}");
        // RFC 3164 has whole seconds.
        assert!(line.time_ns / 1_000_000_000 >= began / 1_000_000_000 && line.time_ns <= now_ns(), "{line:?}");
        if line.line.contains("--rfc5424 ") {
            assert_eq!(line.label("timeQuality_tzKnown"), "1", "{line:?}");
        }
    }
}

#[test]
fn both_framings_in_one_connection_over_a_restart() {
    let (mut server, ports) = start("framing");
    let query = r#"{service_name="framed"}"#;
    let mut stream = TcpStream::connect(("127.0.0.1", ports.tcp)).unwrap();
    stream.write_all(b"<13>framed: one\n17 <13>framed: t\nwo\n<13>framed: three\0<13>framed: four").unwrap();
    let found = wait_for_lines(&server.http, query, 3);
    assert_eq!(found.iter().map(|l| l.line.as_str()).collect::<Vec<_>>(), ["one", "t\nwo", "three"]);
    // What was received is written when the server stops, the last line without its end too.
    restart_in_order(&mut server);
    wait_for_lines(&server.http, query, 4);
    let mut rest = Vec::new();
    assert_eq!(stream.read_to_end(&mut rest).unwrap_or(0), 0, "the server has closed");
}

#[test]
fn bad_messages_cost_nothing_but_themselves() {
    let (server, ports) = start("bad-syslog");
    let mut stream = TcpStream::connect(("127.0.0.1", ports.tcp)).unwrap();
    let long = vec![b'x'; 10 << 20];
    stream.write_all(format!("{} <13>bad: ", long.len() + 9).as_bytes()).unwrap();
    stream.write_all(&long).unwrap();
    stream.write_all(b"<13>bad: ").unwrap();
    stream.write_all(&long).unwrap();
    // Not UTF-8; no syslog; a length that is too short; times that cannot be.
    stream.write_all(b"\n<13>bad: \xff\xfe\nneither of them\n8 <13>bad: short\n").unwrap();
    for year in ["1970", "2200"] {
        stream.write_all(format!("<13>1 {year}-01-01T00:00:00Z h bad - - - in {year}\n").as_bytes()).unwrap();
    }
    stream.write_all(b"<13>bad: last\n").unwrap();
    let found = wait_for_lines(&server.http, r#"{service_name="bad"}"#, 7);
    let cut: Vec<_> = found.iter().filter(|l| l.line.starts_with("xxx")).collect();
    assert_eq!(cut.len(), 2);
    for line in cut {
        assert!(line.line.len() <= 256 << 10 && !line.label("trefoil_line_bytes").is_empty(), "{}", line.line.len());
    }
    for (line, sent) in [("in 1970", "0"), ("in 2200", "7258118400000000000")] {
        let found = found.iter().find(|l| l.line == line).unwrap();
        let shown = found.label("trefoil_sent_time_ns");
        assert!(shown == sent || (sent == "0" && shown.is_empty()), "{found:?}");
    }
    assert!(found.iter().any(|l| l.line == "\u{fffd}\u{fffd}"));
    let whole = lines(&server.http, r#"{job="syslog", service_name="syslog"} |= "neither of them""#).unwrap();
    assert_eq!(whole.len(), 1);
    assert_eq!(whole[0].line, "neither of them");
    // Datagrams that hold nothing or anything.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for datagram in [&b""[..], b"\0\0\0", b"<", b"<13>udp: ok", &long[..60_000]] {
        socket.send_to(datagram, ("127.0.0.1", ports.udp)).unwrap();
    }
    wait_for_lines(&server.http, r#"{service_name="udp"}"#, 1);
}

#[test]
fn many_messages_share_writes_and_arrive_once() {
    let (server, ports) = start("many-syslog");
    let mut stream = TcpStream::connect(("127.0.0.1", ports.tcp)).unwrap();
    for i in 0..5000 {
        stream.write_all(format!("<14>many: line {i}\n").as_bytes()).unwrap();
    }
    drop(stream);
    let found = wait_for_lines(&server.http, r#"{service_name="many"}"#, 5000);
    let mut numbers: Vec<usize> = found.iter().filter_map(|l| l.line.strip_prefix("line ")?.parse().ok()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..5000).collect::<Vec<_>>());
    assert_eq!(server.http.own_metric("trefoil_socket_messages_total"), 5000.0);
    assert_eq!(server.http.own_metric("trefoil_socket_dropped_total"), 0.0);
    let syncs = server.http.own_metric("trefoil_journal_fsync_duration_seconds_count");
    assert!(syncs < 2500.0, "{syncs} syncs for 5000 messages");
}
