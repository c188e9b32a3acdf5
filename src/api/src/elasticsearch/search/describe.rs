//! What there is: mappings, field capabilities, `_cat/indices`.

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value as Json, json};
use trefoil_elastic::{FieldCaps, IndexInfo, Indices};
use trefoil_model::NanoRange;

use super::{Answer, Asked, note, respond, run};
use crate::routes::{Access, Route};
use crate::state::AppState;

pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![
        Route::get_post("/elasticsearch/_field_caps", Access::Read, field_caps),
        Route::get_post("/elasticsearch/{index}/_field_caps", Access::Read, field_caps_in),
        Route::get("/elasticsearch/_cat/indices", Access::Read, cat),
        Route::get("/elasticsearch/_cat/indices/{index}", Access::Read, cat_of),
        Route::get("/elasticsearch/_mapping/field/{fields}", Access::Read, field_mapping),
        Route::get("/elasticsearch/{index}/_mapping/field/{fields}", Access::Read, field_mapping_in),
    ];
    for path in ["/elasticsearch/_mapping", "/elasticsearch/_mappings"] {
        routes.push(Route::get(path, Access::Read, mapping));
    }
    for path in ["/elasticsearch/{index}/_mapping", "/elasticsearch/{index}/_mappings"] {
        routes.push(Route::get(path, Access::Read, mapping_in));
        routes.push(Route::new(&[Method::PUT, Method::POST], path, Access::Write, put_mapping));
    }
    routes
}

async fn field_caps(State(state): State<AppState>, request: Request) -> Response {
    respond(caps_answer(&state, String::new(), request).await)
}

async fn field_caps_in(State(state): State<AppState>, Path(index): Path<String>, request: Request) -> Response {
    respond(caps_answer(&state, index, request).await)
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
}

async fn caps_answer(state: &AppState, index: String, request: Request) -> Answer {
    let asked = Asked::read(state, request).await?;
    let mut fields = list(asked.params.get("fields"));
    match asked.body.get("fields") {
        Some(Json::String(names)) => fields.extend(list(names)),
        Some(Json::Array(names)) => fields.extend(names.iter().filter_map(Json::as_str).map(str::to_owned)),
        _ => {}
    }
    let wanted = FieldCaps { fields, types: list(asked.params.get("types")) };
    let indices = Indices::parse(&index)?;
    let note = note("/elasticsearch/_field_caps", index, &asked.client, state.clock.now_ms());
    let work = move |source: trefoil_elastic::Source<'_>| {
        trefoil_elastic::field_caps(&wanted, &indices, NanoRange::ALL, source)
    };
    let body = run(state, None, note, work).await?;
    Ok(asked.answer(StatusCode::OK, body))
}

async fn mapping(State(state): State<AppState>, request: Request) -> Response {
    respond(mapping_answer(&state, String::new(), None, request).await)
}

async fn mapping_in(State(state): State<AppState>, Path(index): Path<String>, request: Request) -> Response {
    respond(mapping_answer(&state, index, None, request).await)
}

async fn field_mapping(State(state): State<AppState>, Path(fields): Path<String>, request: Request) -> Response {
    respond(mapping_answer(&state, String::new(), Some(list(&fields)), request).await)
}

async fn field_mapping_in(
    State(state): State<AppState>,
    Path((index, fields)): Path<(String, String)>,
    request: Request,
) -> Response {
    respond(mapping_answer(&state, index, Some(list(&fields)), request).await)
}

async fn mapping_answer(state: &AppState, index: String, fields: Option<Vec<String>>, request: Request) -> Answer {
    let asked = Asked::read(state, request).await?;
    let indices = Indices::parse(&index)?;
    let note = note("/elasticsearch/_mapping", index, &asked.client, state.clock.now_ms());
    let work = move |source: trefoil_elastic::Source<'_>| {
        trefoil_elastic::check_names(&indices, source)?;
        trefoil_elastic::mapping(fields.as_deref(), &indices, NanoRange::ALL, source)
    };
    let body = run(state, None, note, work).await?;
    Ok(asked.answer(StatusCode::OK, body))
}

/// Fields are of the type of what is sent; there is nothing to set up.
async fn put_mapping(State(state): State<AppState>, request: Request) -> Response {
    let put = async {
        let asked = Asked::read(&state, request).await?;
        Ok(asked.answer(StatusCode::OK, json!({ "acknowledged": true })))
    };
    respond(put.await)
}

async fn cat(State(state): State<AppState>, request: Request) -> Response {
    respond(cat_answer(&state, String::new(), request).await)
}

async fn cat_of(State(state): State<AppState>, Path(index): Path<String>, request: Request) -> Response {
    respond(cat_answer(&state, index, request).await)
}

/// Columns with the names by which they may be asked for.
const COLUMNS: [(&str, &[&str]); 10] = [
    ("health", &["h"]),
    ("status", &["s"]),
    ("index", &["i", "idx"]),
    ("uuid", &["id"]),
    ("pri", &["p", "shards.primary", "shardsPrimary"]),
    ("rep", &["r", "shards.replica", "shardsReplica"]),
    ("docs.count", &["dc", "docsCount"]),
    ("docs.deleted", &["dd", "docsDeleted"]),
    ("store.size", &["ss", "storeSize"]),
    ("pri.store.size", &["pss"]),
];

async fn cat_answer(state: &AppState, index: String, request: Request) -> Answer {
    let asked = Asked::read(state, request).await?;
    let indices = Indices::parse(&index)?;
    let note = note("/elasticsearch/_cat/indices", index, &asked.client, state.clock.now_ms());
    let work = move |source: trefoil_elastic::Source<'_>| {
        trefoil_elastic::check_names(&indices, source)?;
        trefoil_elastic::index_list(&indices, NanoRange::ALL, source)
    };
    let found = run(state, None, note, work).await?;
    let named = |name: &String| COLUMNS.iter().position(|(full, short)| full == name || short.contains(&name.as_str()));
    let columns: Vec<usize> = match asked.params.get("h") {
        "" => (0..COLUMNS.len()).collect(),
        names => list(names).iter().filter_map(named).collect(),
    };
    let in_bytes = !asked.params.get("bytes").is_empty();
    let rows: Vec<Vec<String>> =
        found.iter().map(|info| columns.iter().map(|c| cell(info, *c, in_bytes)).collect()).collect();
    if asked.params.get("format") == "json" || super::wants_json(&asked.headers) {
        let row = |cells: &Vec<String>| {
            columns
                .iter()
                .zip(cells)
                .map(|(c, cell)| (COLUMNS[*c].0.to_owned(), json!(cell)))
                .collect::<serde_json::Map<_, _>>()
        };
        return Ok(asked.answer(StatusCode::OK, rows.iter().map(row).collect()));
    }
    let mut table = rows;
    if asked.params.all("v").any(|v| v != "false") {
        table.insert(0, columns.iter().map(|c| COLUMNS[*c].0.to_owned()).collect());
    }
    let width = |at: usize| table.iter().map(|row| row[at].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in &table {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join(" ").trim_end());
        text.push('\n');
    }
    let mut response = text.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    Ok(response)
}

fn cell(info: &IndexInfo, column: usize, in_bytes: bool) -> String {
    match COLUMNS[column].0 {
        "health" => "green".to_owned(),
        "status" => "open".to_owned(),
        "index" => info.name.clone(),
        "uuid" => "_na_".to_owned(),
        "pri" => "1".to_owned(),
        "rep" | "docs.deleted" => "0".to_owned(),
        "docs.count" => info.documents.to_string(),
        _ if in_bytes => info.bytes.to_string(),
        _ => size_text(info.bytes),
    }
}

/// A size as `_cat` writes it.
fn size_text(bytes: u64) -> String {
    let units = [(1u64 << 40, "tb"), (1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1}{name}", bytes as f64 / *unit as f64),
        None => format!("{bytes}b"),
    }
}
