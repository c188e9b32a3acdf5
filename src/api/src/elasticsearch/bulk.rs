//! `_bulk`, `_doc` and `_create`: documents in.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;
use trefoil_ingest::bulk::{Action, Item, Outcome};
use trefoil_ingest::{FieldOptions, IngestError};

use super::filter_path::FilterPath;
use super::{Fault, json_answer, json_bytes, kind_of};
use crate::log_doors::{detached, field_options};
use crate::params::{Params, collect};
use crate::routes::{Access, Route};
use crate::state::AppState;

/// The routes; those of VictoriaLogs' prefix too, so that its senders need another port only.
pub(super) fn routes() -> Vec<Route> {
    let mut routes: Vec<Route> = [
        "/elasticsearch/_bulk",
        "/elasticsearch/{index}/_bulk",
        // Senders of old name a type.
        "/elasticsearch/{index}/_doc/_bulk",
        "/insert/elasticsearch/_bulk",
    ]
    .into_iter()
    .map(|path| Route::post_put(path, Access::Write, bulk))
    .collect();
    routes.extend([
        Route::post("/elasticsearch/{index}/_doc", Access::Write, document),
        Route::post_put("/elasticsearch/{index}/_doc/{id}", Access::Write, document),
        Route::post_put("/elasticsearch/{index}/_create/{id}", Access::Write, document),
    ]);
    routes
}

/// The parts of a path below the dialect's prefix, decoded: index, then what follows.
fn segments(request: &Request) -> Vec<String> {
    let path = request.uri().path();
    let rest = path.strip_prefix("/insert").unwrap_or(path).strip_prefix(super::PREFIX).unwrap_or("");
    rest.split('/')
        .filter(|s| !s.is_empty())
        .map(|s| percent_encoding::percent_decode_str(s).decode_utf8_lossy().into_owned())
        .collect()
}

fn options(headers: &HeaderMap, params: &Params) -> Result<FieldOptions, Fault> {
    field_options(headers, params).map_err(Fault::illegal_argument)
}

async fn bulk(State(state): State<AppState>, request: Request) -> Response {
    match try_bulk(&state, request).await {
        Ok(response) => response,
        Err(fault) => fault.into_response(),
    }
}

async fn try_bulk(state: &AppState, request: Request) -> Result<Response, Fault> {
    let began = state.clock.monotonic();
    let index = segments(&request).into_iter().next().filter(|s| s != "_bulk");
    let (parts, body) = request.into_parts();
    let params = Params::from_query(parts.uri.query().unwrap_or(""))?;
    let options = options(&parts.headers, &params)?;
    let filter = FilterPath::parse(params.get("filter_path"));
    let body = read(state, body).await?;
    let ingest = state.ingest.clone();
    let stored = detached(state, async move { ingest.bulk(&parts.headers, body, index, options).await }).await;
    let items = stored?.map_err(|e| refusal(&e))?;
    let took_ms = state.clock.monotonic().saturating_sub(began).as_millis() as u64;
    Ok(json_bytes(StatusCode::OK, write_items(&items, took_ms, filter.as_ref(), state.start_ms as u64)))
}

async fn read(state: &AppState, body: Body) -> Result<bytes::Bytes, Fault> {
    Ok(collect(body, state.limits.body_bytes_max, "body_bytes_max").await?)
}

async fn document(State(state): State<AppState>, request: Request) -> Response {
    match try_document(&state, request).await {
        Ok(response) => response,
        Err(fault) => fault.into_response(),
    }
}

async fn try_document(state: &AppState, request: Request) -> Result<Response, Fault> {
    let mut path = segments(&request).into_iter();
    let (index, verb, id) = (path.next().unwrap_or_default(), path.next().unwrap_or_default(), path.next());
    let (parts, body) = request.into_parts();
    let params = Params::from_query(parts.uri.query().unwrap_or(""))?;
    let is_create = verb == "_create" || params.get("op_type") == "create";
    if parts.method == Method::PUT && id.is_none() {
        return Err(Fault::illegal_argument("an id is needed to put a document"));
    }
    let options = options(&parts.headers, &params)?;
    let action = if is_create { Action::Create } else { Action::Index };
    let body = read(state, body).await?;
    let ingest = state.ingest.clone();
    let headers = parts.headers;
    let stored = detached(state, async move { ingest.document(&headers, body, action, (index, id), options).await });
    let item = stored.await?.map_err(|e| refusal(&e))?;
    if let Outcome::Failed { status, kind, reason } = item.outcome {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        return Err(Fault::new(status, kind, reason));
    }
    let status = StatusCode::from_u16(item.outcome.status()).unwrap_or(StatusCode::CREATED);
    let (version, result) = outcome_words(&item.outcome);
    let id = item.id.as_deref().map_or_else(|| generated_id(state.start_ms as u64), str::to_owned);
    let body = json!({
        "_index": &*item.index, "_id": id, "_version": version, "result": result,
        "_shards": { "total": 1, "successful": 1, "failed": 0 }, "_seq_no": 0, "_primary_term": 1,
    });
    let body = match FilterPath::parse(params.get("filter_path")) {
        Some(filter) => filter.apply(body),
        None => body,
    };
    Ok(json_answer(status, &body))
}

/// A request that was refused as a whole. Overload is 429 here, as Elasticsearch says it.
pub(super) fn refusal(error: &IngestError) -> Fault {
    let status = match error.status() {
        StatusCode::SERVICE_UNAVAILABLE => StatusCode::TOO_MANY_REQUESTS,
        other => other,
    };
    let mut fault = Fault::new(status, kind_of(status), error.to_string());
    fault.retry_after = error.retry_after();
    fault
}

fn outcome_words(outcome: &Outcome) -> (u8, &'static str) {
    match outcome {
        Outcome::Unchanged => (2, "updated"),
        _ => (1, "created"),
    }
}

/// An id as Elasticsearch makes them up: 20 characters, different for every document of this process. It is not stored.
fn generated_id(start_ms: u64) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut id = String::with_capacity(20);
    push_hex(&mut id, start_ms, 10);
    push_hex(&mut id, NEXT.fetch_add(1, Ordering::Relaxed), 10);
    id
}

fn push_hex(out: &mut String, value: u64, digits: u32) {
    for place in (0..digits).rev() {
        out.push(char::from(b"0123456789abcdef"[(value >> (4 * place) & 15) as usize]));
    }
}

/// Which members of an item a client reads; decided once for all items of an action.
struct Members {
    index: bool,
    id: bool,
    version: bool,
    result: bool,
    shards: bool,
    seq_no: bool,
    primary_term: bool,
    status: bool,
    error_type: bool,
    error_reason: bool,
}

impl Members {
    fn of(filter: Option<&FilterPath>, action: Action) -> Self {
        let keeps = |rest: &[&str]| {
            filter.is_none_or(|f| {
                let path: Vec<&str> = ["items", action.as_str()].iter().chain(rest).copied().collect();
                f.keeps(&path)
            })
        };
        Self {
            index: keeps(&["_index"]),
            id: keeps(&["_id"]),
            version: keeps(&["_version"]),
            result: keeps(&["result"]),
            shards: keeps(&["_shards"]),
            seq_no: keeps(&["_seq_no"]),
            primary_term: keeps(&["_primary_term"]),
            status: keeps(&["status"]),
            error_type: keeps(&["error", "type"]),
            error_reason: keeps(&["error", "reason"]),
        }
    }
}

/// The answer, written straight into bytes: it has as many items as the request had documents.
fn write_items(items: &[Item], took_ms: u64, filter: Option<&FilterPath>, start_ms: u64) -> Vec<u8> {
    const ACTIONS: [Action; 4] = [Action::Index, Action::Create, Action::Update, Action::Delete];
    let members = ACTIONS.map(|action| Members::of(filter, action));
    let keeps = |name: &str| filter.is_none_or(|f| f.keeps(&[name]));
    let errors = items.iter().any(|item| matches!(item.outcome, Outcome::Failed { .. }));
    let mut out = String::with_capacity(64 + items.len() * if filter.is_none() { 192 } else { 64 });
    out.push('{');
    if keeps("errors") {
        out.push_str(if errors { "\"errors\":true" } else { "\"errors\":false" });
    }
    if keeps("took") {
        comma(&mut out);
        out.push_str("\"took\":");
        out.push_str(&took_ms.to_string());
    }
    let before = out.len();
    comma(&mut out);
    out.push_str("\"items\":[");
    let begin = out.len();
    for item in items {
        let at = out.len();
        if at > begin {
            out.push(',');
        }
        let place = ACTIONS.iter().position(|a| *a == item.action).unwrap_or(0);
        if !write_item(&mut out, item, &members[place], start_ms) {
            out.truncate(at);
        }
    }
    if out.len() == begin && filter.is_some() {
        out.truncate(before);
    } else {
        out.push(']');
    }
    out.push('}');
    out.into_bytes()
}

/// Writes an item; false when nothing of it is wanted.
fn write_item(out: &mut String, item: &Item, members: &Members, start_ms: u64) -> bool {
    out.push_str("{\"");
    out.push_str(item.action.as_str());
    out.push_str("\":{");
    let begin = out.len();
    if members.index {
        out.push_str("\"_index\":");
        text(out, &item.index);
    }
    if members.id {
        comma(out);
        out.push_str("\"_id\":");
        match item.id.as_deref() {
            Some(id) => text(out, id),
            None => text(out, &generated_id(start_ms)),
        }
    }
    if let Outcome::Failed { status, kind, reason } = &item.outcome {
        number(out, members.status, "status", u64::from(*status));
        if members.error_type || members.error_reason {
            comma(out);
            out.push_str("\"error\":{");
            if members.error_type {
                out.push_str("\"type\":");
                text(out, kind);
            }
            if members.error_reason {
                comma(out);
                out.push_str("\"reason\":");
                text(out, reason);
            }
            out.push('}');
        }
    } else {
        let (version, result) = outcome_words(&item.outcome);
        number(out, members.version, "_version", u64::from(version));
        if members.result {
            comma(out);
            out.push_str("\"result\":");
            text(out, result);
        }
        if members.shards {
            comma(out);
            out.push_str("\"_shards\":{\"total\":1,\"successful\":1,\"failed\":0}");
        }
        number(out, members.seq_no, "_seq_no", 0);
        number(out, members.primary_term, "_primary_term", 1);
        number(out, members.status, "status", u64::from(item.outcome.status()));
    }
    let wrote = out.len() > begin;
    out.push_str("}}");
    wrote
}

fn number(out: &mut String, wanted: bool, name: &str, value: u64) {
    if wanted {
        comma(out);
        out.push('"');
        out.push_str(name);
        out.push_str("\":");
        out.push_str(&value.to_string());
    }
}

fn comma(out: &mut String) {
    if !out.ends_with('{') {
        out.push(',');
    }
}

fn text(out: &mut String, text: &str) {
    let is_plain = text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\');
    if is_plain {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&json!(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn item(action: Action, id: Option<&str>, outcome: Outcome) -> Item {
        Item { action, index: Arc::from("logs"), id: id.map(Box::from), outcome }
    }

    fn check(filter: &str, want: &str) {
        let failed = Outcome::Failed { status: 400, kind: "t", reason: "say \"x\"".to_owned() };
        let items = [
            item(Action::Create, Some("a"), Outcome::Stored),
            item(Action::Index, Some("b"), failed),
            item(Action::Index, Some("c"), Outcome::Unchanged),
        ];
        let got = write_items(&items, 7, FilterPath::parse(filter).as_ref(), 1);
        let text = String::from_utf8(got).unwrap();
        // What is written by hand is what the general filter makes of the whole.
        let whole: serde_json::Value = serde_json::from_slice(&write_items(&items, 7, None, 1)).unwrap();
        let filtered = FilterPath::parse(filter).map_or(whole.clone(), |f| f.apply(whole));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), filtered, "{filter}");
        assert_eq!(text, want, "{filter}");
    }

    #[test]
    fn answers_have_an_item_for_each_action() {
        check(
            "",
            r#"{"errors":true,"took":7,"items":[{"create":{"_index":"logs","_id":"a","_version":1,"result":"created","_shards":{"total":1,"successful":1,"failed":0},"_seq_no":0,"_primary_term":1,"status":201}},{"index":{"_index":"logs","_id":"b","status":400,"error":{"type":"t","reason":"say \"x\""}}},{"index":{"_index":"logs","_id":"c","_version":2,"result":"updated","_shards":{"total":1,"successful":1,"failed":0},"_seq_no":0,"_primary_term":1,"status":200}}]}"#,
        );
        check(
            "errors,items.*.error,items.*.status",
            r#"{"errors":true,"items":[{"create":{"status":201}},{"index":{"status":400,"error":{"type":"t","reason":"say \"x\""}}},{"index":{"status":200}}]}"#,
        );
        check("items.*.error.reason", r#"{"items":[{"index":{"error":{"reason":"say \"x\""}}}]}"#);
        check("items.create.error", "{}");
        check("took", r#"{"took":7}"#);
        check("-items", r#"{"errors":true,"took":7}"#);
    }

    #[test]
    fn generated_ids_differ() {
        let (a, b) = (generated_id(5), generated_id(5));
        assert!(a != b && a.len() == 20 && a.starts_with("0000000005"));
    }
}
