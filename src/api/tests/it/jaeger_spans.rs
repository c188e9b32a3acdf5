//! Jaeger's spans through the listeners.

use std::net::UdpSocket;
use std::sync::atomic::Ordering;
use std::time::Duration;

use trefoil_api::sockets::SpanSockets;

use crate::support::{TestServer, client, config, text};

/// A batch of one span in thrift's binary encoding.
fn batch() -> Vec<u8> {
    let mut out = vec![12, 0, 1, 11, 0, 1, 0, 0, 0, 3];
    out.extend(b"api\0");
    out.extend([15, 0, 2, 12, 0, 0, 0, 1]);
    for (id, value) in [(1_u8, 0xabc_i64), (3, 1), (8, 1_700_000_000_000_000)] {
        out.extend([10, 0, id]);
        out.extend(value.to_be_bytes());
    }
    out.extend([0, 0]);
    out
}

fn datagram() -> Vec<u8> {
    let mut out = vec![0x80, 1, 0, 4, 0, 0, 0, 9];
    out.extend(b"emitBatch");
    out.extend([0, 0, 0, 1, 12, 0, 1]);
    out.extend(batch());
    out.push(0);
    out
}

#[tokio::test]
async fn spans_come_in_by_both_ports() {
    let server = TestServer::start("    jaeger: '127.0.0.1:0'\n").await;
    let own = format!("http://{}", server.jaeger.expect("an address alone turns the listener on"));
    for url in [server.url("/api/traces"), format!("{own}/api/traces?format=jaeger.thrift")] {
        let request = client().post(&url).header("content-type", "application/x-thrift").body(batch());
        assert_eq!(text(request).await, (202, String::new()), "{url}");
    }
    assert_eq!(server.memory.spans_written.load(Ordering::SeqCst), 2);
    let bad = text(client().post(format!("{own}/api/traces")).body("[]")).await;
    assert_eq!(bad, (400, "malformed thrift: type is not known at byte 1\n".to_owned()));
    assert_eq!(text(client().get(format!("{own}/api/v1/labels"))).await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn only_who_may_write_sends_and_the_port_is_off_by_default() {
    let server = TestServer::start(
        "  auth: {bearer_tokens: [{name: w, token: write-write-write-write, scopes: [write]}, \
         {name: r, token: read-read-read-read-read, scopes: [read]}]}\n",
    )
    .await;
    assert_eq!(server.jaeger, None);
    for (token, status) in [("", 401), ("read-read-read-read-read", 403), ("write-write-write-write", 202)] {
        let mut request = client().post(server.url("/api/traces")).body(batch());
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        assert_eq!(text(request).await.0, status, "{token:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn datagrams_are_taken() {
    let server = TestServer::start("").await;
    let sockets = SpanSockets::bind(&config("  jaeger_udp: [{address: '127.0.0.1:0'}]\n")).await.expect("a port");
    let address = sockets.addresses().next().expect("one").to_owned();
    sockets.serve(&server.tasks, &server.state.ingest);
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a port");
    for bytes in [datagram(), b"nonsense".to_vec(), datagram()] {
        sender.send_to(&bytes, &address).expect("sent");
    }
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while server.memory.spans_written.load(Ordering::SeqCst) < 2 {
        assert!(tokio::time::Instant::now() < until, "datagrams are not taken");
        tokio::task::yield_now().await;
    }
    let memory = server.memory.clone();
    server.stop().await;
    assert_eq!(memory.spans_written.load(Ordering::SeqCst), 2);
}
