//! The page and the dashboards through the router.

use http::StatusCode;
use serde_json::json;

use crate::memory_events::Server;

#[tokio::test]
async fn every_route_of_the_page_is_the_same_html() {
    let server = Server::new();
    let root = server.get("/").await;
    assert!(root.text().starts_with("<!doctype html>"));
    for path in [
        "/explore/metrics",
        "/graph?g0.expr=up",
        "/query",
        "/logs",
        "/traces",
        "/trace/abc",
        "/dashboards",
        "/d/trefoil",
        "/d/trefoil/trefoil?from=now-1h",
        "/alerts",
        "/rules",
        "/alerting/list",
        "/targets",
        "/status",
        "/status/flags",
        "/services",
        "/services/shop",
        "/map",
        "/settings",
    ] {
        let got = server.get(path).await;
        assert_eq!((got.status, &got.body), (StatusCode::OK, &root.body), "{path}");
        assert_eq!(got.headers["content-type"], "text/html; charset=utf-8");
        assert_eq!(got.headers["cache-control"], "no-cache");
    }
    let tag = root.headers["etag"].to_str().unwrap();
    assert_eq!(server.get_with("/", &[("if-none-match", tag)]).await.status, StatusCode::NOT_MODIFIED);
    // What looks like an API is none of the page's.
    for path in ["/api/v1/nope", "/loki/api/v1/nope", "/assets/nope.js"] {
        assert_eq!(server.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn the_base_is_the_prefix() {
    let plain = Server::new().get("/").await.text();
    let prefixed = Server::at("https://example.org/obs/").get("/logs").await.text();
    if plain.contains("<base href=\"/\"") {
        assert!(prefixed.contains("<base href=\"/obs/\""));
    } else {
        println_skipped("the_base_is_the_prefix: ui was not built");
    }
}

#[tokio::test]
async fn files_of_the_page_never_change() {
    let server = Server::new();
    let html = server.get("/").await.text();
    let Some(at) = html.find("assets/index-") else {
        return println_skipped("files_of_the_page_never_change: ui was not built");
    };
    let path: String = html[at..].chars().take_while(|c| *c != '"').collect();
    let got = server.get(&format!("/{path}")).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.headers["cache-control"], "public, max-age=31536000, immutable");
    assert!(got.headers["content-type"].to_str().unwrap().starts_with("text/"));
    let tag = got.headers["etag"].to_str().unwrap();
    let again = server.get_with(&format!("/{path}"), &[("if-none-match", tag)]).await;
    assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
}

#[tokio::test]
async fn only_pages_files_and_health_are_public() {
    let server = Server::new();
    let public: Vec<&str> = trefoil_api::routes::all(&server.state)
        .iter()
        .filter(|r| r.access == trefoil_api::Access::Public)
        .map(|r| r.path)
        .collect();
    assert!(public.contains(&"/assets/{*path}") && public.contains(&"/ready"));
    for prefix in ["/api/", "/loki/", "/jaeger/", "/tempo/", "/metrics", "/otlp/", "/federate"] {
        assert!(!public.iter().any(|p| p.starts_with(prefix)), "{prefix}");
    }
}

#[expect(clippy::print_stdout, reason = "says that a test had nothing to look at")]
fn println_skipped(what: &str) {
    println!("skipped: {what}");
}

#[tokio::test]
async fn dashboards_are_listed_and_fetched() {
    let server = Server::new();
    let list = server.get("/api/v1/trefoil/dashboards").await.json();
    assert_eq!(list["status"], "success");
    for entry in list["data"].as_array().unwrap() {
        let uid = entry["uid"].as_str().unwrap();
        let one = server.get(&format!("/api/v1/trefoil/dashboards/{uid}")).await.json();
        assert_eq!((&one["status"], &one["data"]["title"]), (&json!("success"), &entry["title"]));
    }
    let missing = server.get("/api/v1/trefoil/dashboards/nope").await;
    assert_eq!((missing.status, &missing.json()["errorType"]), (StatusCode::NOT_FOUND, &json!("not_found")));
}
