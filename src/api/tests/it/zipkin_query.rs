//! Zipkin's query API through the router.

use http::StatusCode;
use serde_json::{Value, json};

use crate::jaeger::filled;
use crate::memory_events::{NOW_MS, Server, encoded};
use crate::support::{TestServer, client, text};

async fn get(server: &Server, path: &str) -> Value {
    let answer = server.get(&format!("/zipkin/api/v2/{path}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
    answer.json()
}

fn sizes(traces: &Value) -> Vec<usize> {
    traces.as_array().into_iter().flatten().map(|t| t.as_array().map_or(0, Vec::len)).collect()
}

#[tokio::test]
async fn names_and_traces() {
    let server = filled();
    assert_eq!(get(&server, "services").await, json!(["cart", "shop"]));
    assert_eq!(get(&server, "spans?serviceName=cart").await, json!(["add", "inner", "sweep"]));
    assert_eq!(get(&server, "remoteServices?serviceName=cart").await, json!([]));
    assert_eq!(get(&server, "autocompleteKeys").await, json!([]));
    let trace = get(&server, "trace/01010101010101010101010101010101").await;
    let want = json!({
        "traceId": "01010101010101010101010101010101",
        "parentId": "0101010101010101",
        "id": "0202020202020202",
        "kind": "SERVER",
        "name": "add",
        "timestamp": 1_699_999_940_000_000_i64,
        "duration": 5000,
        "localEndpoint": {"serviceName": "cart"},
        "tags": {"http.route": "/buy"},
    });
    assert_eq!((trace.as_array().unwrap().len(), &trace[1]), (4, &want));
    let many = get(&server, "traceMany?traceIds=abc,01010101010101010101010101010101,ff").await;
    assert_eq!(sizes(&many), [1, 4]);
    let edges = get(&server, &format!("dependencies?endTs={NOW_MS}&lookback=600000")).await;
    assert_eq!(edges, json!([{"parent": "shop", "child": "cart", "callCount": 2}]));
    for (path, status) in [
        ("trace/ff", 404),
        ("trace/x", 400),
        ("spans", 400),
        ("dependencies", 400),
        ("traceMany", 400),
        ("traces?limit=x", 400),
    ] {
        assert_eq!(server.get(&format!("/zipkin/api/v2/{path}")).await.status.as_u16(), status, "{path}");
    }
    assert_eq!(server.get("/zipkin/health").await.json()["status"], "UP");
    assert!(server.get("/zipkin/info").await.json()["zipkin"]["version"].is_string());
}

#[tokio::test]
async fn searches() {
    let server = filled();
    for (query, want) in [
        (String::new(), vec![1, 4]),
        ("serviceName=shop".to_owned(), vec![4]),
        ("serviceName=cart&spanName=sweep".to_owned(), vec![1]),
        ("serviceName=cart&spanName=all&limit=1".to_owned(), vec![1]),
        (format!("annotationQuery={}", encoded("http.route=/buy")), vec![1, 4]),
        (format!("annotationQuery={}", encoded("http.route=/none")), vec![]),
        (format!("serviceName=shop&annotationQuery={}", encoded("http.route=/buy and http.route")), vec![4]),
        ("annotationQuery=error".to_owned(), vec![]),
        ("remoteServiceName=db".to_owned(), vec![]),
        ("minDuration=5000&maxDuration=5000".to_owned(), vec![1, 4]),
        ("minDuration=5001".to_owned(), vec![]),
        (format!("endTs={NOW_MS}&lookback=30000"), vec![]),
        (format!("endTs={NOW_MS}&lookback=90000"), vec![1, 4]),
    ] {
        assert_eq!(sizes(&get(&server, &format!("traces?{query}")).await), want, "{query}");
    }
}

#[tokio::test]
async fn the_own_port_has_the_customary_paths() {
    let server = TestServer::start("    zipkin: '127.0.0.1:0'\n    jaeger: '127.0.0.1:0'\n").await;
    let zipkin = format!("http://{}", server.zipkin.expect("on"));
    for path in ["services", "spans?serviceName=a", "traces", "autocompleteKeys"] {
        assert_eq!(text(client().get(format!("{zipkin}/api/v2/{path}"))).await, (200, "[]".to_owned()), "{path}");
    }
    assert_eq!(text(client().get(format!("{zipkin}/health"))).await.0, 200);
    let jaeger = format!("http://{}", server.jaeger.expect("on"));
    for path in ["/", "/sampling", "/api/sampling"] {
        let (status, body) = text(client().get(format!("{jaeger}{path}?service=a"))).await;
        assert!(status == 200 && body.contains("PROBABILISTIC"), "{path}: {status} {body}");
    }
    server.stop().await;
}
