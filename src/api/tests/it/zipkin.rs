//! Zipkin's spans through the listeners.

use std::sync::atomic::Ordering;

use crate::support::{TestServer, client, text};

const SPANS: &str = r#"[{"traceId":"463ac35c9f6413ad","id":"1","kind":"SERVER","name":"get","timestamp":1700000000000000,
    "duration":5,"localEndpoint":{"serviceName":"api"}}]"#;

#[tokio::test]
async fn spans_come_in_by_both_ports() {
    let server = TestServer::start("    zipkin: '127.0.0.1:0'\n").await;
    let own = format!("http://{}", server.zipkin.expect("an address alone turns the listener on"));
    for url in [server.url("/api/v2/spans"), server.url("/api/v1/spans"), format!("{own}/api/v2/spans")] {
        let request = client().post(&url).header("content-type", "application/json").body(SPANS);
        assert_eq!(text(request).await, (202, String::new()), "{url}");
    }
    assert_eq!(server.memory.spans_written.load(Ordering::SeqCst), 3);
    let bad = text(client().post(format!("{own}/api/v2/spans")).body(r#"[{"id":"1"}]"#)).await;
    assert_eq!(bad, (400, "1 spans were rejected, all others are stored: span 0: no traceId\n".to_owned()));
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
    assert_eq!(server.zipkin, None);
    for (token, status) in [("", 401), ("read-read-read-read-read", 403), ("write-write-write-write", 202)] {
        for path in ["/api/v1/spans", "/api/v2/spans"] {
            let mut request = client().post(server.url(path)).body(SPANS);
            if !token.is_empty() {
                request = request.bearer_auth(token);
            }
            assert_eq!(text(request).await.0, status, "{token:?} {path}");
        }
    }
    server.stop().await;
}
