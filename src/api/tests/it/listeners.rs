//! Listeners: HTTP/2, gRPC, TLS, limits, prefixes.

use std::sync::atomic::Ordering;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trefoil_api::Servers;

use crate::support::{TestServer, client, client_with, config, text};

fn export() -> ExportLogsServiceRequest {
    let record = LogRecord { time_unix_nano: 1_700_000_000_000_000_000, ..LogRecord::default() };
    let scope = ScopeLogs { log_records: vec![record], ..ScopeLogs::default() };
    let resource = ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![resource] }
}

#[tokio::test]
async fn otlp_over_grpc_works_on_both_ports() {
    let server = TestServer::start("").await;
    for address in [server.http, server.otlp_grpc] {
        let mut client = LogsServiceClient::connect(format!("http://{address}")).await.expect("connects");
        let response = client.export(export()).await.expect("stored").into_inner();
        assert_eq!(response.partial_success, None);
    }
    assert_eq!(server.memory.records_written.load(Ordering::SeqCst), 2);
    server.stop().await;
}

#[tokio::test]
async fn grpc_asks_for_the_scope_too() {
    let server = TestServer::start(
        "  auth: {bearer_tokens: [{name: w, token: write-write-write-write, scopes: [write]}, \
         {name: r, token: read-read-read-read-read, scopes: [read]}]}\n",
    )
    .await;
    for (token, want) in [
        (None, Some(tonic::Code::Unauthenticated)),
        (Some("Bearer read-read-read-read-read"), Some(tonic::Code::PermissionDenied)),
        (Some("Bearer write-write-write-write"), None),
    ] {
        for address in [server.http, server.otlp_grpc] {
            let mut client = LogsServiceClient::connect(format!("http://{address}")).await.expect("connects");
            let mut request = tonic::Request::new(export());
            if let Some(token) = token {
                request.metadata_mut().insert("authorization", token.parse().expect("metadata"));
            }
            let code = client.export(request).await.err().map(|status| status.code());
            assert_eq!(code, want, "{token:?} {address}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn otlp_over_http_works_on_all_paths() {
    let server = TestServer::start("").await;
    let own = format!("http://{}/v1/logs", server.otlp_http);
    for url in [own, server.url("/v1/logs"), server.url("/otlp/v1/logs")] {
        let request =
            client().post(&url).header("content-type", "application/x-protobuf").body(export().encode_to_vec());
        assert_eq!(text(request).await.0, 200, "{url}");
    }
    assert_eq!(server.memory.records_written.load(Ordering::SeqCst), 3);
    let only_otlp = format!("http://{}/api/v1/labels", server.otlp_http);
    assert_eq!(text(client().get(only_otlp)).await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn http2_is_spoken_in_clear_text() {
    let server = TestServer::start("").await;
    let response = client_with(|b| b.http2_prior_knowledge()).get(server.url("/-/healthy")).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, reqwest::Version::HTTP_2));
    server.stop().await;
}

#[tokio::test]
async fn bodies_and_heads_are_bounded() {
    let server = TestServer::start("  limits: {body_bytes_max: 1000, uri_bytes_max: 200, body_timeout: 1s}\n").await;
    for path in ["/api/v1/write", "/loki/api/v1/push", "/v1/logs", "/v1/traces", "/v1/metrics"] {
        for (size, too_large) in [(1000, false), (1001, true)] {
            let (code, _) = text(client().post(server.url(path)).body(vec![0; size])).await;
            assert_eq!(code == 413, too_large, "{path} {size}: {code}");
        }
    }
    assert_eq!(server.get(&format!("/-/healthy?{}", "x".repeat(300))).await.0, 414);
    let mut many = client().get(server.url("/-/healthy"));
    for i in 0..150 {
        many = many.header(format!("x-{i}"), "1");
    }
    assert_eq!(text(many).await.0, 431);
    // A body that does not come.
    let mut socket = tokio::net::TcpStream::connect(server.http).await.unwrap();
    let head = "POST /api/v1/write HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\nconnection: close\r\n\r\nabc";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn slow_heads_are_cut_off() {
    let server = TestServer::start("  limits: {header_timeout: 1s, idle_timeout: 1s}\n").await;
    for sent in ["", "GET / HT"] {
        let mut socket = tokio::net::TcpStream::connect(server.http).await.unwrap();
        socket.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Ends because the server closes; a reset is as good.
        socket.read_to_end(&mut answer).await.ok();
        assert!(answer.is_empty(), "{answer:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn answers_carry_headers_and_are_compressed() {
    let server = TestServer::start("  cors_origin: 'http://.*\\.example'\n").await;
    let response = client()
        .get(server.url("/api/v1/status/limits"))
        .header("accept-encoding", "gzip")
        .header("origin", "http://other.example")
        .send()
        .await
        .unwrap();
    let headers = response.headers();
    assert_eq!(headers["content-encoding"], "gzip");
    assert_eq!(headers["access-control-allow-origin"], "http://other.example");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["x-frame-options"], "DENY");
    for (path, origin, want) in [
        ("/api/v1/labels", "http://a.example", true),
        ("/v1/traces", "http://a.example", true),
        ("/api/v1/labels", "http://a.example.org", false),
        ("/loki/api/v1/labels", "http://a.example", false),
        ("/jaeger/api/services", "http://a.example", false),
    ] {
        let request = client().request(reqwest::Method::OPTIONS, server.url(path)).header("origin", origin);
        let shared = request.send().await.unwrap().headers().contains_key("access-control-allow-origin");
        assert_eq!(shared, want, "{path} {origin}");
    }
    let options = client().request(reqwest::Method::OPTIONS, server.url("/api/v1/query")).send().await.unwrap();
    assert_eq!(options.status(), 204);
    server.stop().await;
}

#[tokio::test]
async fn no_other_origin_reads_by_default() {
    let server = TestServer::start("").await;
    let request = client().get(server.url("/api/v1/labels")).header("origin", "http://other.example");
    let response = request.send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("access-control-allow-origin")), (200, None));
    server.stop().await;
}

#[tokio::test]
async fn all_addresses_of_a_listener_are_served() {
    let mut config = config("");
    let more = ["127.0.0.1:0", "127.0.0.2:0"].map(|a| trefoil_config::ListenAddress::parse(a).expect("parses"));
    config.config.trefoil.listeners.http.more_addresses = more.to_vec();
    let servers = Servers::bind(&config).await.expect("ports");
    let tasks = trefoil_runtime::Tasks::new(tokio::runtime::Handle::current());
    servers.serve(&tasks);
    let addresses: Vec<_> = servers.addresses(trefoil_api::server::Kind::Http).collect();
    assert_eq!(addresses.len(), 3);
    for address in addresses {
        assert_eq!(text(client().get(format!("http://{address}/-/healthy"))).await.0, 200, "{address}");
    }
    assert!(tasks.shutdown(std::time::Duration::from_secs(5)).await.finished);
}

#[tokio::test]
async fn the_prefix_of_the_external_url_is_honoured() {
    let server = TestServer::with(config(""), "http://host/prom/").await;
    for (path, want) in [("/prom/-/healthy", 200), ("/-/healthy", 200), ("/prom/api/v1/labels?limit=1", 200)] {
        assert_eq!(server.get(path).await.0, want, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn only_health_is_answered_until_the_stores_are_there() {
    let config = config("");
    let servers = Servers::bind(&config).await.expect("ports");
    let tasks = trefoil_runtime::Tasks::new(tokio::runtime::Handle::current());
    servers.serve(&tasks);
    let address = servers.address(trefoil_api::server::Kind::Http).expect("enabled");
    for (path, want) in [("/-/healthy", 200), ("/-/ready", 503), ("/api/v1/query", 503)] {
        assert_eq!(text(client().get(format!("http://{address}{path}"))).await.0, want, "{path}");
    }
    // A batch of rsyslog would be lost by a refusal: it waits.
    let server = TestServer::start("").await;
    let send = client()
        .post(format!("http://{address}/elasticsearch/_bulk"))
        .header("content-type", "application/x-ndjson")
        .body("{\"create\":{\"_index\":\"a\"}}\n{\"message\":\"x\"}\n");
    let opens = async {
        assert_eq!(text(client().get(format!("http://{address}/-/ready"))).await.0, 503);
        servers.open(&server.state);
    };
    let ((status, body), ()) = tokio::join!(text(send), opens);
    assert!(status == 200 && body.contains("\"errors\":false"), "{status} {body}");
    server.stop().await;
    assert!(tasks.shutdown(std::time::Duration::from_secs(5)).await.finished);
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut config = config("");
    let address = taken.local_addr().expect("address").to_string();
    config.config.trefoil.listeners.otlp_http.address = trefoil_config::ListenAddress::parse(&address).expect("parses");
    let error = Servers::bind(&config).await.err().expect("the port is taken").to_string();
    assert_eq!(error, format!("listener otlp_http: cannot listen on {address}"));
}

#[tokio::test]
async fn tls_and_users_of_the_web_configuration_file() {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("certificate");
    let (cert, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let directory = std::env::temp_dir().join(format!("trefoil-api-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("directory");
    let (cert_file, key_file) = (directory.join("cert.pem"), directory.join("key.pem"));
    std::fs::write(&cert_file, &cert).expect("written");
    std::fs::write(&key_file, key).expect("written");
    let hash = bcrypt::hash("secret", 4).expect("hash");
    let web = format!(
        "tls_server_config: {{cert_file: {}, key_file: {}}}\nbasic_auth_users: {{ann: '{hash}'}}\n\
         http_server_config: {{headers: {{Strict-Transport-Security: max-age=60}}}}\n",
        cert_file.display(),
        key_file.display()
    );
    let server = TestServer::with_web(&web).await;
    let root = reqwest::Certificate::from_pem(cert.as_bytes()).expect("certificate");
    let client = client_with(|b| b.tls_certs_only([root]));
    let url = format!("https://localhost:{}/api/v1/labels", server.http.port());
    let response = client.get(&url).basic_auth("ann", Some("secret")).send().await.expect("handshake");
    assert_eq!(response.status(), 200);
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert_eq!(response.headers()["strict-transport-security"], "max-age=60");
    assert_eq!(text(client.get(&url)).await.0, 401);
    // A new certificate is taken without a restart.
    let next = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("certificate");
    std::fs::write(&key_file, next.signing_key.serialize_pem()).expect("written");
    std::fs::write(&cert_file, next.cert.pem()).expect("written");
    let root = reqwest::Certificate::from_pem(next.cert.pem().as_bytes()).expect("certificate");
    let client = client_with(|b| b.tls_certs_only([root]));
    assert_eq!(text(client.get(&url).basic_auth("ann", Some("secret"))).await.0, 200);
    server.stop().await;
    std::fs::remove_dir_all(&directory).expect("removed");
}

#[tokio::test]
async fn client_certificates_are_asked_for() {
    let ca_key = rcgen::KeyPair::generate().expect("key");
    let mut ca = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).expect("certificate").pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let signed = |name: &str| {
        let key = rcgen::KeyPair::generate().expect("key");
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        (params.signed_by(&key, &issuer).expect("certificate").pem(), key.serialize_pem())
    };
    let (cert, key) = signed("localhost");
    let indented = |pem: &str| pem.trim_end().replace('\n', "\n    ");
    let web = format!(
        "tls_server_config:\n  cert: |\n    {}\n  key: |\n    {}\n  client_ca: |\n    {}\n  \
         client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [good]\n",
        indented(&cert),
        indented(&key),
        indented(&ca_pem)
    );
    let server = TestServer::with_web(&web).await;
    let url = format!("https://localhost:{}/api/v1/labels", server.http.port());
    for (name, let_in) in [(Some("good"), true), (Some("other"), false), (None, false)] {
        let root = reqwest::Certificate::from_pem(ca_pem.as_bytes()).expect("certificate");
        let client = client_with(|b| match name {
            None => b.tls_certs_only([root]),
            Some(name) => {
                let (cert, key) = signed(name);
                let identity = reqwest::Identity::from_pem(format!("{key}{cert}").as_bytes()).expect("identity");
                b.tls_certs_only([root]).identity(identity)
            }
        });
        let answered = client.get(&url).send().await.is_ok_and(|r| r.status() == 200);
        assert_eq!(answered, let_in, "{name:?}");
    }
    server.stop().await;
}

/// Sends bytes over one connection in pieces, and returns what comes back until the server closes it.
async fn raw(server: &TestServer, pieces: &[&[u8]]) -> String {
    let mut stream = tokio::net::TcpStream::connect(server.http).await.expect("connects");
    for piece in pieces {
        stream.write_all(piece).await.expect("is sent");
        stream.flush().await.expect("is sent");
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("is answered");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn targets_with_bytes_that_urls_may_not_hold_are_read() {
    let server = TestServer::start("").await;
    let close = "host: x\r\nconnection: close\r\n\r\n";
    for query in [r#"{a="b"}"#, r#"{a=~"<|>\\^`"}"#, "{a=\"\u{e4}\"}"] {
        let answer = raw(&server, &[format!("GET /api/v1/query?query={query} HTTP/1.1\r\n{close}").as_bytes()]).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{query}: {answer}");
    }
    // As Prometheus' documentation writes it, cut anywhere.
    let delete = "POST /api/v1/admin/tsdb/delete_series?match[]=up&match[]=process_start_time_seconds{job=\"prometheus\"} \
                  HTTP/1.1\r\n";
    let (a, b) = delete.split_at(60);
    let answer = raw(&server, &[a.as_bytes(), b.as_bytes(), close.as_bytes()]).await;
    assert!(!answer.starts_with("HTTP/1.1 400 "), "{answer}");

    // A kept connection: bodies hold what looks like a request line, and stay as they are.
    let query = "query={a=\"b\"}%26GET /{} HTTP/1.1\r\n\r\n";
    let form = "content-type: application/x-www-form-urlencoded";
    let head = "POST /api/v1/format_query HTTP/1.1\r\nhost: x";
    let fixed = format!("{head}\r\n{form}\r\ncontent-length: {}\r\n\r\n{query}", query.len());
    let chunked =
        format!("{head}\r\n{form}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{query}\r\n0\r\n\r\n", query.len());
    let get = "GET /api/v1/format_query?query={a=\"c\"} HTTP/1.1\r\nhost: x\r\n\r\n";
    let last = format!("GET /api/v1/format_query?query=d HTTP/1.1\r\n{close}");
    let answer = raw(&server, &[[get, &fixed, get, &fixed, get, &chunked, &last].concat().as_bytes()]).await;
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|rest| &rest[..3]).collect();
    assert_eq!(statuses, ["200", "400", "200", "400", "200", "400", "200"], "{answer}");
    server.stop().await;
}
