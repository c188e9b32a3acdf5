//! GELF as Python's two handlers send it, and what is sent by hand.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::process::Command;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use trefoil_tests::process::run;
use trefoil_tests::wire::now_ns;
use trefoil_tests::{Server, ServerOptions, free_port, skipped, wait_for};

use super::{PATIENCE, python, senders, wait_for_lines};

fn start(name: &str) -> (Server, u16, u16) {
    let (udp, tcp) = (free_port(), free_port());
    let trefoil = format!(
        "  gelf:\n    - {{ address: \"127.0.0.1:{udp}\" }}\n    - {{ address: \"127.0.0.1:{tcp}\", protocol: tcp }}\n"
    );
    (Server::start(name, ServerOptions { trefoil, ..ServerOptions::default() }), udp, tcp)
}

#[test]
fn the_python_handlers() {
    let Some(python) = python() else {
        return skipped("the_python_handlers", "pygelf and graypy are not installed; run tests/install-tools");
    };
    let (server, udp, tcp) = start("gelf");
    let began = now_ns();
    let long = "long ".repeat(200);
    for package in ["pygelf", "graypy"] {
        for (transport, port) in [("udp", udp), ("tcp", tcp)] {
            let mut command = Command::new(&python);
            let text = format!("{transport} {long}");
            let words = [package, transport].map(|w| format!("\"{w}\""));
            command.arg(senders()).args([
                "gelf",
                &words[0],
                &words[1],
                &port.to_string(),
                "20",
                &format!("\"{text}\""),
            ]);
            run(&mut command, b"").expect_success();
        }
        let found = wait_for_lines(&server.http, &format!(r#"{{service_name="{package}"}}"#), 42);
        for line in &found {
            assert!(line.time_ns / 1_000_000_000 + 1 >= began / 1_000_000_000 && line.time_ns <= now_ns(), "{line:?}");
            let want = if line.line.contains("long") { "warn" } else { "error" };
            assert_eq!(line.label("detected_level"), want, "{line:?}");
            assert!(!line.label("host").is_empty(), "{line:?}");
        }
        let numbered = |i: usize| found.iter().filter(|l| l.label("number") == i.to_string()).count();
        assert!((0..20).all(|i| numbered(i) == 2), "{package}");
    }
}

#[test]
fn chunks_compression_and_nonsense() {
    let (server, udp, tcp) = start("gelf-by-hand");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |datagram: &[u8]| {
        socket.send_to(datagram, ("127.0.0.1", udp)).unwrap();
    };
    let message = |text: &str| format!(r#"{{"short_message":"{text}","host":"h","_app":"hand","timestamp":1}}"#);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(message("gzip").as_bytes()).unwrap();
    send(&gzip.finish().unwrap());
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(message("zlib").as_bytes()).unwrap();
    send(&zlib.finish().unwrap());
    send(message("plain").as_bytes());
    let chunked = message("chunked");
    let pieces: Vec<&[u8]> = chunked.as_bytes().chunks(10).collect();
    for (i, piece) in pieces.iter().enumerate().rev() {
        let mut chunk = b"\x1e\x0f01234567".to_vec();
        chunk.extend([i as u8, pieces.len() as u8]);
        chunk.extend(*piece);
        send(&chunk);
    }
    for nonsense in [&b""[..], b"{", b"\x1e\x0f", b"\x1e\x0f01234567\x05\x02x", b"\x1f\x8bxx", b"[]", b"\xff\xff"] {
        send(nonsense);
    }
    // Chunks of messages that never end.
    for i in 0u32..3000 {
        let mut chunk = b"\x1e\x0f0123".to_vec();
        chunk.extend(i.to_be_bytes());
        chunk.extend(b"\x00\x80some");
        send(&chunk);
    }
    let mut stream = TcpStream::connect(("127.0.0.1", tcp)).unwrap();
    stream.write_all(format!("{}\0\0{{\0{}\0", message("tcp"), message("tcp too")).as_bytes()).unwrap();
    // Too long a message costs itself alone.
    stream.write_all(&vec![b'x'; 10 << 20]).unwrap();
    stream.write_all(format!("\0{}", message("at the end")).as_bytes()).unwrap();
    drop(stream);
    let found = wait_for_lines(&server.http, r#"{service_name="hand", host="h"}"#, 7);
    let mut lines: Vec<_> = found.iter().map(|l| l.line.as_str()).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["at the end", "chunked", "gzip", "plain", "tcp", "tcp too", "zlib"]);
    assert!(found.iter().all(|l| l.label("trefoil_sent_time_ns") == "1000000000"), "{found:?}");
    wait_for("messages without an end to be given up", PATIENCE, || {
        server.http.own_metric("trefoil_socket_dropped_total") > 1500.0
    });
}
