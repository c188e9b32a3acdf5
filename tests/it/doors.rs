//! Who comes in: loopback, TLS and passwords as Prometheus' web configuration has them, tokens with scopes, and bodies
//! that are larger than they look.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64_of::basic;
use flate2::Compression;
use flate2::write::GzEncoder;
use trefoil_tests::server::{binary, fresh_dir};
use trefoil_tests::{Http, Peer, Server, ServerOptions, free_port, grpc, run, wait_for, wire};

const READ: &str = "Bearer only-for-reading-0123";
const WRITE: &str = "Bearer only-for-writing-0123";

/// A gRPC call of one span, as bytes.
fn one_span() -> Vec<u8> {
    wire::otlp_spans("doors", vec![wire::span([5; 16], [6; 8], None, "knock", wire::now_ns())])
}

/// Addresses on which a process listens for TCP.
fn listening(pid: u32) -> Vec<String> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    let sockets: Vec<String> =
        links.filter_map(|l| Some(l.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned())).collect();
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words[3] == "0A" && sockets.iter().any(|s| s == words[9]) {
                found.push(words[1].to_owned());
            }
        }
    }
    found
}

#[test]
fn nothing_listens_beyond_loopback() {
    let printed = run(Command::new(binary()).args(["config", "print"]), b"").expect_success().stdout;
    let addresses: Vec<&str> = printed.lines().filter(|l| l.trim().starts_with("address:")).collect();
    assert!(addresses.len() >= 3 && addresses.iter().all(|l| l.contains("127.0.0.1:")), "{addresses:?}");
    let server = Server::start("loopback", ServerOptions::default());
    let open = listening(server.peer.pid());
    assert_eq!(open.len(), 3, "{open:?}");
    // 127.0.0.1 as the kernel writes it.
    assert!(open.iter().all(|a| a.starts_with("0100007F:")), "{open:?}");
}

#[test]
fn beyond_loopback_only_with_authentication() {
    let dir = fresh_dir("beyond");
    for address in ["0.0.0.0", "[::]", ""] {
        let finished = run(
            Command::new(binary())
                .arg("serve")
                .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
                .arg(format!("--web.listen-address={address}:{}", free_port()))
                .arg(format!("--otlp.grpc-address=127.0.0.1:{}", free_port()))
                .arg(format!("--otlp.http-address=127.0.0.1:{}", free_port())),
            b"",
        );
        assert!(finished.code.is_some_and(|c| c != 0), "{address:?}: {finished:?}");
        assert!(finished.output().contains("authentication"), "{address:?}: {}", finished.output());
    }
}

#[test]
fn several_addresses_are_listened_on() {
    let more = [free_port(), free_port()];
    let args = vec![
        format!("--web.listen-address=127.0.0.1:{}", more[0]),
        format!("--web.listen-address=127.0.0.2:{}", more[1]),
    ];
    // The flags take the place of the file's address, at which the test would wait.
    let dir = fresh_dir("addresses");
    let mut command = Command::new(binary());
    command.arg("serve").arg(format!("--storage.tsdb.path={}", dir.join("data").display())).args(args);
    command.args(["--otlp.grpc-address=127.0.0.1:0", "--otlp.http-address=127.0.0.1:0"]);
    let peer = Peer::start(&mut command, &dir.join("trefoil.log")).unwrap();
    for (host, port) in [("127.0.0.1", more[0]), ("127.0.0.2", more[1])] {
        let http = Http::new(format!("http://{host}:{port}"));
        wait_for("the address to answer", Duration::from_secs(60), || {
            http.get("/api/v1/query", &[("query", "1")]).is_ok_and(|a| a.status == 200)
        });
    }
    assert_eq!(listening(peer.pid()).len(), 4);
}

#[test]
fn faults_of_flags_name_the_flag() {
    let flags = ["--web.listen-address=nowhere", "--log.level=loud", "--web.cors.origin=("];
    let finished = run(Command::new(binary()).arg("serve").args(flags), b"");
    assert!(finished.code.is_some_and(|c| c != 0), "{finished:?}");
    let output = finished.output();
    for flag in ["flag --web.listen-address: ", "flag --log.level: ", "flag --web.cors.origin: "] {
        assert!(output.contains(flag), "{output}");
    }
    assert!(!output.contains("1:1"), "{output}");
}

/// What a page in the browser of somebody on this machine could do.
#[test]
fn pages_of_other_sites_change_nothing() {
    let options = ServerOptions {
        trefoil: "  enable_lifecycle: true\n  enable_admin_api: true\n  cors_origin: 'https://app\\.example'\n"
            .to_owned(),
        ..ServerOptions::default()
    };
    let server = Server::start("browsers", options);
    let (http, own) = (&server.http, server.http.base.clone());
    let rebound = [("origin", "http://evil.example"), ("host", "evil.example")];
    let plain = ("content-type", "text/plain");
    let doors = ["/-/reload", "/-/quit", "/api/v1/admin/tsdb/delete_series?match[]=up", "/api/v1/write", "/v1/traces"];
    for path in doors.iter().chain(&["/loki/api/v1/push", "/otlp/v1/logs"]) {
        for headers in [&[("origin", "http://evil.example"), plain][..], &rebound, &[("host", "evil.example"), plain]] {
            let answer = http.post(path, headers, "").unwrap();
            assert_eq!(answer.status, 403, "{path} {headers:?}: {}", answer.text());
        }
    }
    for origin in [own.as_str(), "https://app.example"] {
        let headers = [wire::OTLP, &[("origin", origin)]].concat();
        let answer = http.post("/v1/traces", &headers, one_span()).unwrap();
        assert_eq!(answer.status, 200, "{origin}: {}", answer.text());
    }
    assert_eq!(http.post("/-/reload", &[("origin", "https://app.example")], "").unwrap().status, 403);
    assert_eq!(http.post("/-/reload", &[("origin", own.as_str())], "").unwrap().status, 200);
    for (origin, shared) in [("https://app.example", true), ("http://evil.example", false)] {
        let request = http.client.get(format!("{own}/api/v1/labels")).header("origin", origin);
        let answer = http.send(request).unwrap();
        assert_eq!(answer.headers.contains_key("access-control-allow-origin"), shared, "{origin}");
    }
}

/// A certificate for loopback, written into `dir`; the certificate in PEM.
fn make_certificate(dir: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let pem = made.cert.pem();
    std::fs::write(dir.join("server.crt"), &pem).unwrap();
    std::fs::write(dir.join("server.key"), made.signing_key.serialize_pem()).unwrap();
    pem
}

#[test]
fn a_web_config_file_of_prometheus_is_obeyed() {
    let dir = fresh_dir("web-config");
    let pem = make_certificate(&dir);
    let web = format!(
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  min_version: TLS12\n\
         http_server_config:\n  headers:\n    X-Frame-Options: deny\n\
         basic_auth_users:\n  ann: {}\n",
        bcrypt::hash("open sesame", 4).unwrap()
    );
    std::fs::write(dir.join("web.yml"), &web).unwrap();
    let checked = run(Command::new(binary()).args(["check", "web-config"]).arg(dir.join("web.yml")), b"");
    checked.expect_success();
    let options = ServerOptions {
        certificate: Some(pem.clone()),
        args: vec![format!("--web.config.file={}", dir.join("web.yml").display())],
        ..ServerOptions::default()
    };
    let server = Server::start("web-config", options);
    let http = &server.http;
    let without = http.get("/api/v1/query", &[("query", "1")]).unwrap();
    assert_eq!(without.status, 401, "{}", without.text());
    let asked = without.headers.get("www-authenticate").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    assert!(asked.starts_with("Basic"), "{asked:?}");
    let ann = basic("ann", "open sesame");
    for (authorization, status) in [
        (ann.as_str(), 200),
        (&basic("ann", "open window"), 401),
        (&basic("bob", "open sesame"), 401),
        (&basic("", ""), 401),
        ("Bearer open sesame", 401),
        ("Basic %%%", 401),
    ] {
        let answer = http.get_as(authorization, "/api/v1/query?query=1").unwrap();
        assert_eq!(answer.status, status, "{authorization}: {}", answer.text());
    }
    for path in ["/metrics", "/loki/api/v1/labels", "/jaeger/api/services", "/api/v1/status/config", "/api/v1/targets"]
    {
        assert_eq!(http.get(path, &[]).unwrap().status, 401, "{path}");
        assert_eq!(http.get_as(&ann, path).unwrap().status, 200, "{path}");
    }
    assert_eq!(http.get("/-/healthy", &[]).unwrap().status, 200);
    assert_eq!(
        http.get_as(&ann, "/metrics").unwrap().headers.get("x-frame-options").map(|v| v.as_bytes()),
        Some(&b"deny"[..])
    );
    // In clear text there is nothing behind this port.
    let clear = Http::new(format!("http://127.0.0.1:{}", server.http_port)).get("/-/healthy", &[]);
    assert!(!clear.is_ok_and(|a| a.status == 200), "clear text is answered");
    // The same holds for OTLP, over HTTP and gRPC, and for gRPC at the main port.
    let otlp = Http { base: format!("https://127.0.0.1:{}", server.otlp_http_port), client: http.client.clone() };
    assert_eq!(otlp.post("/v1/traces", wire::OTLP, one_span()).unwrap().status, 401);
    let with_ann = [wire::OTLP, &[("authorization", ann.as_str())]].concat();
    assert_eq!(otlp.post("/v1/traces", &with_ann, one_span()).unwrap().status, 200);
    for port in [server.otlp_grpc_port, server.http_port] {
        let base = format!("https://127.0.0.1:{port}");
        let wrong = basic("ann", "x");
        for (who, status) in [(None, 16), (Some(wrong.as_str()), 16), (Some(ann.as_str()), 0)] {
            let answer = grpc::call(&http.client, &base, grpc::TRACE_EXPORT, who, &one_span()).unwrap();
            assert_eq!(answer.status, status, "port {port}, {who:?}: {answer:?}");
        }
    }
}

#[test]
fn tokens_open_what_their_scopes_say() {
    let trefoil = "  enable_lifecycle: true\n  auth:\n    bearer_tokens:\n    \
        - { name: reader, token: only-for-reading-0123, scopes: [read] }\n    \
        - { name: writer, token: only-for-writing-0123, scopes: [write] }\n    \
        - { name: root, token: for-everything-01234567, scopes: [admin] }\n"
        .to_owned();
    let server = Server::start("tokens", ServerOptions { trefoil, ..ServerOptions::default() });
    let http = &server.http;
    let root = "Bearer for-everything-01234567";
    let sample = || wire::remote_write(vec![wire::series(&[("__name__", "knocks")], &[(wire::now_ms(), 1.0)])]);
    for (who, read, write, admin) in [
        (None, 401, 401, 401),
        (Some("Bearer nobody-has-this-token"), 401, 401, 401),
        (Some(READ), 200, 403, 403),
        (Some(WRITE), 403, 204, 403),
        (Some(root), 200, 204, 200),
    ] {
        let headers: Vec<(&str, &str)> = who.map(|w| ("authorization", w)).into_iter().collect();
        let as_sender = [wire::REMOTE_WRITE, &headers].concat();
        let written = http.post("/api/v1/write", &as_sender, sample()).unwrap();
        let written = if written.status == 200 { 204 } else { written.status };
        let asked = http.post("/api/v1/query?query=knocks", &headers, "").unwrap();
        let reloaded = http.post("/-/reload", &headers, "").unwrap();
        assert_eq!((asked.status, written, reloaded.status), (read, write, admin), "{who:?} {}", asked.text());
    }
    let base = format!("http://127.0.0.1:{}", server.otlp_grpc_port);
    let client = grpc::clear_text_client();
    for (who, status) in [(None, 16), (Some(READ), 7), (Some(WRITE), 0), (Some(root), 0)] {
        let answer = grpc::call(&client, &base, grpc::TRACE_EXPORT, who, &one_span()).unwrap();
        assert_eq!(answer.status, status, "{who:?} {answer:?}");
    }
    for path in ["/-/healthy", "/-/ready"] {
        assert_eq!(http.get(path, &[]).unwrap().status, 200, "{path}");
    }
    let config = http.get_as(root, "/api/v1/status/config").unwrap().text();
    assert!(!config.contains("only-for-reading") && config.contains("<secret>"), "{config}");
}

/// `bytes` zeros, compressed.
fn bomb(bytes: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let chunk = vec![0u8; 1 << 20];
    for _ in 0..bytes >> 20 {
        encoder.write_all(&chunk).unwrap();
    }
    encoder.finish().unwrap()
}

#[test]
fn limits_of_bodies_hold_while_inflating() {
    let server = Server::start("bombs", ServerOptions::default());
    let http = &server.http;
    let before = server.peer.memory_bytes("VmRSS");
    let gzip = bomb(1 << 30);
    assert!(gzip.len() < 2 << 20, "{}", gzip.len());
    let protobuf = [("content-type", "application/x-protobuf"), ("content-encoding", "gzip")];
    let json = [("content-type", "application/json"), ("content-encoding", "gzip")];
    for (path, headers) in
        [("/v1/traces", protobuf), ("/v1/metrics", protobuf), ("/v1/logs", json), ("/loki/api/v1/push", json)]
    {
        let answer = http.post(path, &headers, gzip.clone()).unwrap();
        assert_eq!(answer.status, 413, "{path}: {}", answer.text());
    }
    // Snappy that says it holds 4 GB.
    let lie = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
    for path in ["/api/v1/write", "/loki/api/v1/push"] {
        let answer = http.post(path, wire::REMOTE_WRITE, lie).unwrap();
        assert_eq!(answer.status, 413, "{path}: {}", answer.text());
    }
    // More than a body may have even as it is.
    let large = vec![b' '; 17 << 20];
    let answer = http.post("/v1/logs", &[("content-type", "application/json")], large);
    // The server may also hang up on the rest of it.
    assert!(answer.as_ref().map_or(true, |a| a.status == 413), "{answer:?}");
    let grown = server.peer.memory_bytes("VmHWM").saturating_sub(before);
    assert!(grown < 300 << 20, "memory grew by {grown} bytes");
    assert_eq!(http.promql_value("vector(1)"), Ok(1.0));
}

/// Base64 as HTTP's basic authentication needs it.
mod base64_of {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    /// The value of `Authorization` for a user and a password.
    pub(super) fn basic(user: &str, password: &str) -> String {
        let mut out = String::from("Basic ");
        for chunk in format!("{user}:{password}").as_bytes().chunks(3) {
            let n = chunk.iter().chain([0u8; 2].iter()).take(3).fold(0u32, |n, b| n << 8 | u32::from(*b));
            for i in 0..4 {
                let digit = DIGITS[(n >> (18 - 6 * i) & 63) as usize] as char;
                out.push(if i <= chunk.len() { digit } else { '=' });
            }
        }
        out
    }
}
