//! The page: the built files of `ui/dist`, embedded, and the one HTML file behind every route of the page.
//!
//! The HTML's `<base href>` is set to the path under which users reach the server, so that the page works behind a
//! prefix. Built without `ui/dist` the server says so in place of the page.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::routes::{Access, Route};
use crate::state::AppState;

#[derive(RustEmbed)]
#[folder = "../../ui/dist"]
#[allow_missing = true]
struct Files;

/// What is served in place of a page that was not built.
const STUB: &str = "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Trefoil</title></head>\n\
    <body>\n<h1>Trefoil</h1>\n<p>This server was built without its page. The APIs work all the same; build \
    <code>ui</code> before the server to have the page.</p>\n</body>\n</html>\n";
/// The tag in the built HTML whose path is replaced.
const BASE: &str = "<base href=\"/\"";

/// Paths of the page itself; each answers with the same HTML.
const PAGES: &[&str] = &[
    "/",
    "/explore",
    "/explore/{*rest}",
    "/graph",
    "/query",
    "/logs",
    "/traces",
    "/search",
    "/trace/{id}",
    "/services",
    "/services/{*rest}",
    "/map",
    "/dashboards",
    "/d/{uid}",
    "/d/{uid}/{slug}",
    "/alerts",
    "/rules",
    "/alerting/{*rest}",
    "/targets",
    "/status",
    "/status/{*rest}",
    "/settings",
    "/settings/{*rest}",
];

/// The routes of the page and its files.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes: Vec<Route> = PAGES.iter().map(|path| Route::get(path, Access::Public, html)).collect();
    routes.push(Route::get("/assets/{*path}", Access::Public, asset));
    routes
}

pub(crate) async fn html(State(state): State<AppState>, headers: HeaderMap) -> Response {
    let index = Files::get("index.html");
    let text = index.as_ref().and_then(|file| std::str::from_utf8(&file.data).ok());
    let body = with_base(text.unwrap_or(STUB), state.path_prefix());
    // The hash of the file and the path decide the text.
    let tag = index.map_or_else(|| "\"stub\"".to_owned(), |file| etag(&file, state.path_prefix()));
    let mut response =
        if matches_etag(&headers, &tag) { StatusCode::NOT_MODIFIED.into_response() } else { body.into_response() };
    set(&mut response, "text/html; charset=utf-8", "no-cache", &tag);
    response
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let name = format!("assets/{path}");
    let Some(file) = Files::get(&name) else {
        return (StatusCode::NOT_FOUND, "no such file\n").into_response();
    };
    let tag = etag(&file, "");
    let mut response = if matches_etag(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        content(&name, file, &headers)
    };
    // Names hold a hash of their content: what is once fetched never changes.
    set(&mut response, content_type(&name), "public, max-age=31536000, immutable", &tag);
    response
}

/// The file, or its compressed copy when there is one that the client takes.
fn content(name: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
    for (extension, encoding) in [("br", "br"), ("gz", "gzip")] {
        if let Some(compressed) = Files::get(&format!("{name}.{extension}")) {
            if !accepts(headers, encoding) {
                continue;
            }
            let mut response = compressed.data.into_owned().into_response();
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
            response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
            return response;
        }
    }
    file.data.into_owned().into_response()
}

fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).any(|offer| {
        let (name, quality) = offer.split_once(';').unwrap_or((offer, ""));
        name.trim() == encoding && !matches!(quality.trim(), "q=0" | "q=0.0")
    })
}

fn set(response: &mut Response, content_type: &'static str, cache: &'static str, tag: &str) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, tag);
    }
}

fn etag(file: &EmbeddedFile, variant: &str) -> String {
    let hash = hex::encode(&file.metadata.sha256_hash()[..12]);
    if variant.is_empty() { format!("\"{hash}\"") } else { format!("\"{hash}-{}\"", hex::encode(variant)) }
}

fn matches_etag(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|known| matches!(known.trim(), "*") || known.trim().trim_start_matches("W/") == tag)
}

/// Sets the path of `<base href>`.
fn with_base(html: &str, prefix: &str) -> String {
    if prefix.is_empty() {
        return html.to_owned();
    }
    html.replacen(BASE, &format!("<base href=\"{}/\"", escape(prefix)), 1)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "html" => "text/html; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_the_prefix() {
        let html = "<head><base href=\"/\" /></head>";
        assert_eq!(with_base(html, ""), html);
        assert_eq!(with_base(html, "/a/b"), "<head><base href=\"/a/b/\" /></head>");
        assert_eq!(with_base(html, "/\"><x"), "<head><base href=\"/&quot;&gt;&lt;x/\" /></head>");
    }

    #[test]
    fn the_built_page_has_a_base_to_replace() {
        if let Some(index) = Files::get("index.html") {
            assert!(std::str::from_utf8(&index.data).unwrap().contains(BASE));
        }
    }

    #[test]
    fn offers_of_encodings() {
        let headers = |v: &'static str| HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(v))]);
        assert!(accepts(&headers("gzip, br;q=0.5"), "br"));
        assert!(!accepts(&headers("gzip, br;q=0"), "br"));
        assert!(!accepts(&headers("identity"), "gzip"));
    }
}
