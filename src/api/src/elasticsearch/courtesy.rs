//! What shippers and clients ask before they send, answered so that they go on: who is there, whether a licence is active,
//! whether templates, policies and pipelines are in place. Nothing of that is needed here, so all of it is.
//!
//! None of these answers says anything about what is stored; therefore reading them needs no scope. Setting up is accepted
//! and changes nothing.

use std::sync::LazyLock;

use axum::extract::{Path, Request};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::filter_path::FilterPath;
use super::{ELASTICSEARCH_VERSION, Fault, json_answer};
use crate::params::Params;
use crate::routes::{Access, Route};

/// The id of the one cluster and node that there is, as such ids look.
const CLUSTER_ID: &str = "dHJlZm9pbC1jbHVzdGVyMQ";
const NAME: &str = "trefoil";

/// Paths at which things are set up: whoever asks is told that they are there, whoever puts them is told that it is done.
const SET_UP: &[&str] = &[
    "/elasticsearch/_alias",
    "/elasticsearch/_alias/{name}",
    "/elasticsearch/_cluster/settings",
    "/elasticsearch/_component_template/{name}",
    "/elasticsearch/_data_stream/{name}",
    "/elasticsearch/_ilm/policy",
    "/elasticsearch/_ilm/policy/{name}",
    "/elasticsearch/_index_template",
    "/elasticsearch/_index_template/{name}",
    "/elasticsearch/_ingest/pipeline",
    "/elasticsearch/_ingest/pipeline/{name}",
    "/elasticsearch/_security/role/{name}",
    "/elasticsearch/_template",
    "/elasticsearch/_template/{name}",
    "/elasticsearch/{index}/_alias",
    "/elasticsearch/{index}/_alias/{name}",
    "/elasticsearch/{index}/_settings",
];
/// Paths at which an index is told to do what it does anyhow.
const SHARDS: &[&str] = &[
    "/elasticsearch/_flush",
    "/elasticsearch/_forcemerge",
    "/elasticsearch/_refresh",
    "/elasticsearch/{index}/_flush",
    "/elasticsearch/{index}/_forcemerge",
    "/elasticsearch/{index}/_refresh",
];

/// The routes.
pub(super) fn routes() -> Vec<Route> {
    let mut routes = Vec::new();
    for path in ["/elasticsearch", "/elasticsearch/"] {
        routes.push(Route::get(path, Access::Public, about));
    }
    for path in SET_UP {
        routes.push(Route::get(path, Access::Public, is_set_up));
        routes.push(Route::post_put(path, Access::Write, acknowledge));
    }
    for path in SHARDS {
        routes.push(Route::get_post(path, Access::Public, shards));
    }
    for path in ["/elasticsearch/_cluster/health", "/elasticsearch/_cluster/health/{index}"] {
        routes.push(Route::get(path, Access::Public, health));
    }
    for path in ["/elasticsearch/_nodes", "/elasticsearch/_nodes/http", "/elasticsearch/_nodes/{ids}/http"] {
        routes.push(Route::get(path, Access::Public, nodes));
    }
    for path in ["/elasticsearch/_monitoring/bulk", "/elasticsearch/_xpack/monitoring/_bulk"] {
        routes.push(Route::post_put(path, Access::Write, monitoring));
    }
    routes.extend([
        Route::get("/elasticsearch/_license", Access::Public, license),
        Route::get("/elasticsearch/_xpack/license", Access::Public, license),
        Route::get("/elasticsearch/_xpack", Access::Public, xpack),
        Route::get("/elasticsearch/_cat/templates", Access::Public, cat_templates),
        Route::get("/elasticsearch/_cat/templates/{name}", Access::Public, cat_templates),
        Route::get("/elasticsearch/_cat/health", Access::Public, cat_health),
        Route::new(&[Method::HEAD], "/elasticsearch/{index}", Access::Public, index_exists),
        Route::new(&[Method::PUT], "/elasticsearch/{index}", Access::Write, create_index),
        Route::new(
            &[Method::GET, Method::POST, Method::PUT, Method::DELETE],
            "/elasticsearch/{*rest}",
            Access::Public,
            unknown,
        ),
    ]);
    routes
}

/// An answer, as far as the client wants to read it.
fn answer(request: &Request, body: Value) -> Response {
    let filter = Params::from_query(request.uri().query().unwrap_or(""))
        .ok()
        .and_then(|params| FilterPath::parse(params.get("filter_path")));
    let body = match filter {
        Some(filter) => filter.apply(body),
        None => body,
    };
    json_answer(StatusCode::OK, &body)
}

async fn about(request: Request) -> Response {
    let body = json!({
        "name": NAME,
        "cluster_name": NAME,
        "cluster_uuid": CLUSTER_ID,
        "version": {
            "number": ELASTICSEARCH_VERSION,
            "build_flavor": "default",
            "build_type": "tar",
            "build_hash": "0000000000000000000000000000000000000000",
            "build_date": "2024-08-05T10:05:34.233336849Z",
            "build_snapshot": false,
            "lucene_version": "9.11.1",
            "minimum_wire_compatibility_version": "7.17.0",
            "minimum_index_compatibility_version": "7.0.0",
        },
        "tagline": "You Know, for Search",
    });
    answer(&request, body)
}

async fn is_set_up(request: Request) -> Response {
    answer(&request, json!({}))
}

async fn acknowledge(request: Request) -> Response {
    answer(&request, json!({ "acknowledged": true }))
}

async fn shards(request: Request) -> Response {
    answer(&request, json!({ "_shards": { "total": 1, "successful": 1, "failed": 0 } }))
}

async fn health(request: Request) -> Response {
    let body = json!({
        "cluster_name": NAME,
        "status": "green",
        "timed_out": false,
        "number_of_nodes": 1,
        "number_of_data_nodes": 1,
        "active_primary_shards": 1,
        "active_shards": 1,
        "relocating_shards": 0,
        "initializing_shards": 0,
        "unassigned_shards": 0,
        "delayed_unassigned_shards": 0,
        "number_of_pending_tasks": 0,
        "number_of_in_flight_fetch": 0,
        "task_max_waiting_in_queue_millis": 0,
        "active_shards_percent_as_number": 100.0,
    });
    answer(&request, body)
}

/// Clients that look for more nodes find the one that they asked.
async fn nodes(request: Request) -> Response {
    let host = request.headers().get(http::header::HOST).and_then(|v| v.to_str().ok()).unwrap_or("localhost:9090");
    let body = json!({
        "_nodes": { "total": 1, "successful": 1, "failed": 0 },
        "cluster_name": NAME,
        "nodes": {
            CLUSTER_ID: {
                "name": NAME,
                "version": ELASTICSEARCH_VERSION,
                "build_flavor": "default",
                "roles": ["data", "ingest", "master"],
                "http": { "publish_address": host, "bound_address": [host], "max_content_length_in_bytes": 16 << 20 },
            },
        },
    });
    answer(&request, body)
}

async fn monitoring(request: Request) -> Response {
    answer(&request, json!({ "took": 0, "ignored": true, "errors": false }))
}

async fn license(request: Request) -> Response {
    static LICENSE: LazyLock<Value> = LazyLock::new(|| {
        json!({ "license": {
            "status": "active",
            "uid": "cbff45e7-0000-4000-8000-000000000000",
            "type": "basic",
            "issue_date": "2024-01-01T00:00:00.000Z",
            "issue_date_in_millis": 1_704_067_200_000u64,
            "max_nodes": 1000,
            "issued_to": NAME,
            "issuer": "elasticsearch",
            "start_date_in_millis": -1,
        } })
    });
    answer(&request, LICENSE.clone())
}

async fn xpack(request: Request) -> Response {
    let off = json!({ "available": false, "enabled": false });
    let body = json!({
        "build": { "hash": "0000000000000000000000000000000000000000", "date": "2024-08-05T10:05:34.233336849Z" },
        "license": { "uid": "cbff45e7-0000-4000-8000-000000000000", "type": "basic", "mode": "basic", "status": "active" },
        "features": { "ilm": { "available": true, "enabled": true }, "monitoring": off, "security": off, "ml": off },
        "tagline": "You know, for X",
    });
    answer(&request, body)
}

async fn cat_templates(request: Request) -> Response {
    cat(&request, json!([]), "")
}

async fn cat_health(request: Request) -> Response {
    let row = json!([{ "cluster": NAME, "status": "green", "node.total": "1", "node.data": "1" }]);
    cat(&request, row, "trefoil green 1 1\n")
}

/// An answer of `_cat`: lines for people, JSON for who asks for it.
fn cat(request: &Request, body: Value, text: &'static str) -> Response {
    let query = Params::from_query(request.uri().query().unwrap_or("")).unwrap_or_default();
    let accepts_json =
        request.headers().get(http::header::ACCEPT).is_some_and(|v| v.as_bytes().starts_with(b"application/"));
    if query.get("format") == "json" || accepts_json {
        return json_answer(StatusCode::OK, &body);
    }
    let mut response = text.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    response
}

/// Every index is there: the first document makes it.
async fn index_exists() -> Response {
    StatusCode::OK.into_response()
}

async fn create_index(Path(index): Path<String>, request: Request) -> Response {
    answer(&request, json!({ "acknowledged": true, "shards_acknowledged": true, "index": index }))
}

async fn unknown(request: Request) -> Response {
    let path = request.uri().path().strip_prefix(super::PREFIX).unwrap_or("").to_owned();
    let reason = format!("no handler found for uri [{path}] and method [{}]", request.method());
    Fault::new(StatusCode::NOT_FOUND, "resource_not_found_exception", reason).into_response()
}
