//! Who may use which route: the whole table against every kind of client.

use reqwest::RequestBuilder;
use trefoil_api::{Access, Route, routes};

use crate::support::{TestServer, client, client_from, text};

const READ: &str = "read-read-read-read";
const WRITE: &str = "write-write-write-write";
const ADMIN: &str = "admin-admin-admin-admin";

fn users() -> String {
    let hash = bcrypt::hash("secret", 4).expect("hash");
    format!(
        "  auth:\n    basic_auth_users: {{user: '{hash}'}}\n    bearer_tokens:\n      \
         - {{name: reader, token: {READ}, scopes: [read]}}\n      \
         - {{name: writer, token: {WRITE}, scopes: [write]}}\n      \
         - {{name: admin, token: {ADMIN}, scopes: [admin]}}\n"
    )
}

fn request(server: &TestServer, client: &reqwest::Client, route: &Route) -> RequestBuilder {
    let mut path = String::new();
    for part in route.path.split('/').skip(1) {
        path.push('/');
        path.push_str(if part.starts_with('{') { "x" } else { part });
    }
    let method = reqwest::Method::from_bytes(route.methods[0].as_str().as_bytes()).expect("method");
    client.request(method, server.url(&path))
}

/// The status alone: a stream of events has no end.
async fn status(request: reqwest::RequestBuilder) -> u16 {
    request.send().await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn every_route_asks_for_its_scope() {
    let server = TestServer::start(&users()).await;
    let client = client();
    let table = routes::all(&server.state);
    assert!(table.len() > 40);
    for (i, route) in table.iter().enumerate() {
        // Wrong tries are limited by address.
        let stranger = client_from([127, 1, (i / 10) as u8, 2]);
        let ask = |token: &str| request(&server, &client, route).bearer_auth(token);
        let got = [
            status(request(&server, &client, route)).await,
            status(request(&server, &stranger, route).bearer_auth("wrong-wrong-wrong-wrong")).await,
            status(ask(READ)).await,
            status(ask(WRITE)).await,
            status(ask(ADMIN)).await,
        ];
        // 0: let in, whatever the handler says then.
        let got = got.map(|code| if matches!(code, 401 | 403 | 429) { code } else { 0 });
        let want = match route.access {
            Access::Public => [0; 5],
            Access::Read => [401, 401, 0, 403, 0],
            Access::Write => [401, 401, 403, 0, 0],
            Access::Admin => [401, 401, 403, 403, 0],
        };
        assert_eq!(got, want, "{:?} {}", route.methods, route.path);
    }
    server.stop().await;
}

#[tokio::test]
async fn only_health_and_files_of_the_page_are_public() {
    let server = TestServer::start("").await;
    let public: Vec<_> =
        routes::all(&server.state).into_iter().filter(|r| r.access == Access::Public).map(|r| r.path).collect();
    for path in public {
        let api = ["/api", "/loki", "/jaeger", "/tempo", "/otlp", "/v1", "/opentelemetry", "/metrics", "/federate"];
        assert!(!api.iter().any(|p| path.starts_with(p)), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn passwords_are_checked_and_tries_are_limited() {
    let server = TestServer::start(&users()).await;
    let url = server.url("/api/v1/labels");
    let client = client_from([127, 2, 0, 1]);
    let basic = |user: &str, password: &str| client.get(&url).basic_auth(user, Some(password));
    assert_eq!(text(basic("user", "secret")).await.0, 200);
    let refused = client.get(&url).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["www-authenticate"], "Basic realm=\"trefoil\"");
    for (user, password) in [("user", "wrong"), ("nobody", "secret"), ("user", "")] {
        assert_eq!(text(basic(user, password)).await.0, 401, "{user}");
    }
    let mut codes = Vec::new();
    for _ in 0..20 {
        codes.push(text(client.get(&url).bearer_auth("guess-guess-guess-guess")).await.0);
    }
    assert_eq!((codes[0], codes[19]), (401, 429), "{codes:?}");
    // Who was good before stays in; from elsewhere others come in too.
    assert_eq!(text(basic("user", "secret")).await.0, 200);
    assert_eq!(text(client_from([127, 2, 0, 2]).get(&url).basic_auth("user", Some("secret"))).await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_cannot_administrate() {
    let server = TestServer::start("").await;
    let own = format!("http://{}", server.http);
    for (origin, want) in [("http://evil.example", [403, 403]), (own.as_str(), [200, 200])] {
        let mut got = [0; 2];
        for (i, path) in ["/-/reload", "/v1/logs"].iter().enumerate() {
            let request = client().post(server.url(path)).header("origin", origin);
            got[i] = text(request.header("content-type", "application/json").body("{}")).await.0;
        }
        assert_eq!(got, want, "{origin}");
    }
    // A name of somebody else's that was made to point here.
    for (host, want) in [("evil.example", 403), ("localhost", 200)] {
        let request = client().post(server.url("/-/reload")).header("host", host);
        assert_eq!(text(request).await.0, want, "{host}");
    }
    server.stop().await;
}
