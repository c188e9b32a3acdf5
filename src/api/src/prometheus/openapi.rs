//! `/api/v1/openapi.yaml`: the description of what is served, made from the table of routes, so that it names all of it
//! and nothing else. Routes of Prometheus' API are told in full ([`describe`]), those of other dialects by path and
//! method: their formats are those of Loki, Tempo, Jaeger and OTLP.

mod describe;

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::Method;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Map, Value, json};

use self::describe::{Answer, Kind, OPERATIONS, Operation, Parameter};
use super::answer::{PromError, push_string};
use crate::params::Params;
use crate::routes::{self, Access, Route};
use crate::state::AppState;

/// Paths are told relative to this one.
const BASE: &str = "/api/v1";

/// `GET /api/v1/openapi.yaml`
pub(super) async fn serve(State(state): State<AppState>, request: Request) -> Response {
    let params = match Params::from_query(request.uri().query().unwrap_or("")) {
        Ok(params) => params,
        Err(error) => return PromError(error).into_response(),
    };
    let version = if matches!(params.get("openapi_version"), "3.2" | "3.2.0") { "3.2.0" } else { "3.1.0" };
    let document = document(&routes::all(&state), version, &state.external_url, &state.build.version);
    let mut body = String::new();
    yaml(&mut body, &document, 0);
    let headers =
        [(CONTENT_TYPE, "application/yaml; charset=utf-8"), (CACHE_CONTROL, "no-cache, no-store, must-revalidate")];
    (headers, body).into_response()
}

/// The description of routes.
fn document(routes: &[Route], version: &str, external_url: &str, build: &str) -> Value {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for route in routes {
        let path = route.path.replace("{*", "{");
        let (shown, outside) = match path.strip_prefix(BASE) {
            Some(rest) if rest.starts_with('/') => (rest.to_owned(), false),
            _ => (path.clone(), true),
        };
        let item = paths.entry(shown).or_default();
        if outside {
            item.insert("servers".to_owned(), json!([{ "url": external_url }]));
        }
        let known = OPERATIONS.iter().find(|o| o.path == route.path);
        for method in &route.methods {
            item.insert(method.as_str().to_ascii_lowercase(), operation(route, method, &path, known));
        }
    }
    let tags = [
        ("query", "Evaluate PromQL."),
        ("series", "Series and their newest samples."),
        ("labels", "Names and values of labels."),
        ("metadata", "Names and metadata of metrics."),
        ("targets", "What is scraped."),
        ("rules", "Recording and alerting rules."),
        ("alerts", "Alerts and where they go."),
        ("status", "What the server is and how it fares."),
        ("features", "What the server can do."),
        ("notifications", "What the operator should know."),
        ("remote", "Remote read and write."),
        ("otlp", "OpenTelemetry's protocol."),
        ("admin", "Change what is stored, or the process."),
        ("other", "Loki, Tempo, Jaeger, the page and its files."),
    ];
    json!({
        "openapi": version,
        "info": {
            "title": "Trefoil",
            "description": "Metrics over Prometheus' HTTP API, logs over Loki's, traces over Tempo's and Jaeger's.",
            "version": if build.is_empty() { "0.0.0" } else { build },
        },
        "servers": [{ "url": format!("{external_url}{BASE}") }],
        "tags": tags.iter().map(|(name, about)| json!({ "name": name, "description": about })).collect::<Vec<_>>(),
        "paths": paths,
        "components": { "schemas": schemas(), "responses": { "Error": {
            "description": "Why there is no answer.",
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
        } } },
    })
}

fn operation(route: &Route, method: &Method, path: &str, known: Option<&Operation>) -> Value {
    // The page's script may be named with dots and the like.
    let id: String = path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let mut parameters: Vec<Value> = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let mut out = Map::new();
    out.insert("operationId".to_owned(), json!(format!("{}{id}", method.as_str().to_ascii_lowercase())));
    out.insert("tags".to_owned(), json!([known.map_or("other", |o| o.tag)]));
    out.insert("summary".to_owned(), json!(known.map_or("See the API of this dialect.", |o| o.about)));
    let scope = match route.access {
        Access::Public => "nobody's; it is open",
        Access::Read => "read",
        Access::Write => "write",
        Access::Admin => "admin",
    };
    out.insert("description".to_owned(), json!(format!("Scope that a token needs: {scope}.")));
    if let Some(known) = known {
        let as_form = method == Method::POST && known.body.is_none() && !known.parameters.is_empty();
        if as_form {
            let properties: Map<String, Value> =
                known.parameters.iter().map(|p| (p.name.to_owned(), schema(p))).collect();
            let required: Vec<&str> = known.parameters.iter().filter(|p| p.required).map(|p| p.name).collect();
            let mut form = json!({ "type": "object", "properties": properties });
            if let (false, Some(fields)) = (required.is_empty(), form.as_object_mut()) {
                fields.insert("required".to_owned(), json!(required));
            }
            out.insert(
                "requestBody".to_owned(),
                json!({ "content": { "application/x-www-form-urlencoded": { "schema": form } } }),
            );
        } else {
            parameters.extend(known.parameters.iter().map(|p| {
                let about = p.about;
                json!({ "name": p.name, "in": "query", "required": p.required, "description": about, "schema": schema(p) })
            }));
        }
        if let Some(kind) = known.body {
            let content = json!({ kind: { "schema": { "type": "string", "format": "binary" } } });
            out.insert("requestBody".to_owned(), json!({ "required": true, "content": content }));
        }
    }
    if !parameters.is_empty() {
        out.insert("parameters".to_owned(), Value::from(parameters));
    }
    let good = match known.map(|o| o.answer) {
        Some(Answer::Data(name)) => {
            let data = json!({ "$ref": format!("#/components/schemas/{name}") });
            let all = json!([
                { "$ref": "#/components/schemas/Success" },
                { "type": "object", "required": ["data"], "properties": { "data": data } },
            ]);
            let content = json!({ "application/json": { "schema": { "allOf": all } } });
            json!({ "200": { "description": "The answer.", "content": content } })
        }
        Some(Answer::Nothing) => json!({ "204": { "description": "Done." } }),
        Some(Answer::Other(kind)) => {
            let content = json!({ kind: { "schema": { "type": "string" } } });
            json!({ "200": { "description": "The answer.", "content": content } })
        }
        None => json!({ "200": { "description": "The answer." } }),
    };
    let mut responses = good.as_object().cloned().unwrap_or_default();
    if route.path.starts_with(BASE) {
        responses.insert("default".to_owned(), json!({ "$ref": "#/components/responses/Error" }));
    }
    out.insert("responses".to_owned(), Value::Object(responses));
    Value::Object(out)
}

fn schema(p: &Parameter) -> Value {
    match p.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Time => json!({ "$ref": "#/components/schemas/Time" }),
        Kind::Duration => json!({ "$ref": "#/components/schemas/Duration" }),
        Kind::Whole => json!({ "type": "integer", "minimum": 0 }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
    }
}

fn schemas() -> Value {
    let text = || json!({ "type": "string" });
    let list = |items: Value| json!({ "type": "array", "items": items });
    let labels = || json!({ "$ref": "#/components/schemas/LabelSet" });
    let object = json!({ "type": "object", "additionalProperties": true });
    let point = json!({
        "description": "Unix seconds, and the value as text: NaN, +Inf and -Inf are values too.",
        "type": "array", "prefixItems": [{ "type": "number" }, text()], "minItems": 2, "maxItems": 2,
    });
    let histogram = json!({
        "description": "Unix seconds, and a native histogram.",
        "type": "array",
        "prefixItems": [{ "type": "number" }, {
            "type": "object",
            "required": ["count", "sum"],
            "properties": { "count": text(), "sum": text(), "buckets": list(json!({ "type": "array" })) },
        }],
        "minItems": 2, "maxItems": 2,
    });
    let series = json!({
        "type": "object",
        "required": ["metric"],
        "properties": {
            "metric": labels(), "value": point, "histogram": histogram,
            "values": list(point.clone()), "histograms": list(histogram.clone()),
        },
    });
    let exemplar = json!({
        "type": "object",
        "required": ["labels", "value", "timestamp"],
        "properties": { "labels": labels(), "value": text(), "timestamp": { "type": "number" } },
    });
    let metadata = json!({
        "type": "object",
        "required": ["type", "help", "unit"],
        "properties": { "type": text(), "help": text(), "unit": text() },
    });
    let mut all = json!({
        "Time": {
            "description": "Unix seconds with a fraction, or RFC 3339.",
            "oneOf": [text(), { "type": "number" }],
        },
        "Duration": {
            "description": "Seconds with a fraction, or numbers with units as in 1h30m.",
            "oneOf": [text(), { "type": "number" }],
        },
        "Success": {
            "type": "object",
            "required": ["status"],
            "properties": {
                "status": { "type": "string", "enum": ["success"] },
                "warnings": list(text()),
                "infos": list(text()),
            },
        },
        "Error": {
            "type": "object",
            "required": ["status", "errorType", "error"],
            "properties": {
                "status": { "type": "string", "enum": ["error"] },
                "errorType": { "type": "string", "enum": [
                    "bad_data", "execution", "canceled", "timeout", "internal", "not_found", "not_acceptable", "unavailable",
                ] },
                "error": text(),
            },
        },
        "LabelSet": { "type": "object", "additionalProperties": text() },
        "LabelSets": list(labels()),
        "Text": text(),
        "Texts": list(text()),
        "TextMap": { "type": "object", "additionalProperties": text() },
        "Object": object,
        "Objects": list(object.clone()),
        "Yaml": { "type": "object", "required": ["yaml"], "properties": { "yaml": text() } },
        "Series": series,
        "Metadata": { "type": "object", "additionalProperties": list(metadata) },
        "Exemplars": list(json!({
            "type": "object",
            "required": ["seriesLabels", "exemplars"],
            "properties": { "seriesLabels": labels(), "exemplars": list(exemplar) },
        })),
    });
    if let Some(fields) = all.as_object_mut() {
        let result = json!({
            "description": "Series of a vector or matrix; of a scalar or string its time and text.",
            "type": "array",
            "items": { "oneOf": [{ "$ref": "#/components/schemas/Series" }, { "type": "number" }, text()] },
        });
        fields.insert(
            "QueryResult".to_owned(),
            json!({
                "type": "object",
                "required": ["resultType", "result"],
                "properties": {
                    "resultType": { "type": "string", "enum": ["vector", "matrix", "scalar", "string"] },
                    "result": result,
                    "stats": object,
                },
            }),
        );
    }
    all
}

/// Writes a value as YAML in block style; texts are quoted as in JSON, which is YAML.
fn yaml(out: &mut String, value: &Value, indent: usize) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                out.push_str(&pad);
                let plain = name.chars().all(|c| c.is_ascii_alphabetic());
                if plain {
                    out.push_str(name)
                } else {
                    push_string(out, name)
                }
                below(out, value, indent);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&pad);
                out.push('-');
                below_item(out, item, indent);
            }
        }
        other => {
            out.push_str(&pad);
            scalar(out, other);
        }
    }
}

fn below(out: &mut String, value: &Value, indent: usize) {
    out.push(':');
    below_item(out, value, indent);
}

fn below_item(out: &mut String, value: &Value, indent: usize) {
    let nested = match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if nested {
        out.push('\n');
        yaml(out, value, indent + 2);
    } else {
        out.push(' ');
        scalar(out, value);
    }
}

fn scalar(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => push_string(out, text),
        other => out.push_str(&other.to_string()),
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn routed() -> Vec<Route> {
        let mut routes = super::super::routes();
        routes.extend(crate::loki::routes());
        routes.extend(crate::ingest_routes::routes());
        routes
    }

    /// Every value below, with its key.
    fn walk<'a>(value: &'a Value, take: &mut impl FnMut(&str, &'a Value)) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, v)| {
                take(name, v);
                walk(v, take);
            }),
            Value::Array(items) => items.iter().for_each(|v| walk(v, take)),
            _ => {}
        }
    }

    #[test]
    fn all_routes_are_told_once() {
        let routes = routed();
        let of_dialect: BTreeSet<&str> = super::super::routes().iter().map(|r| r.path).collect();
        let described: BTreeSet<&str> = OPERATIONS.iter().map(|o| o.path).collect();
        assert_eq!(described.len(), OPERATIONS.len());
        let pushed = BTreeSet::from(["/api/v1/write", "/api/v1/otlp/v1/metrics"]);
        let missing: Vec<_> = of_dialect.difference(&described).collect();
        let gone: Vec<_> = described.difference(&of_dialect).filter(|p| !pushed.contains(*p)).collect();
        assert!(missing.is_empty() && gone.is_empty(), "not described: {missing:?}, not routed: {gone:?}");
        let document = document(&routes, "3.1.0", "http://h", "1");
        for route in &routes {
            let path = route.path.replace("{*", "{");
            let shown = path.strip_prefix(BASE).filter(|p| p.starts_with('/')).unwrap_or(&path);
            for method in &route.methods {
                let told = &document["paths"][shown][method.as_str().to_ascii_lowercase()];
                assert!(told["responses"].is_object(), "{method} {}", route.path);
            }
        }
        let (mut ids, mut operations) = (BTreeSet::new(), 0);
        walk(&document, &mut |name, value| {
            if name == "operationId" {
                operations += 1;
                ids.insert(value.as_str().unwrap().to_owned());
            }
            if name == "$ref" {
                let pointer = value.as_str().unwrap().trim_start_matches('#');
                assert!(document.pointer(pointer).is_some(), "{value}");
            }
        });
        assert_eq!(ids.len(), operations);
    }

    #[test]
    fn yaml_is_in_blocks() {
        let mut out = String::new();
        yaml(&mut out, &json!({ "200": {}, "a": [{ "b": 1 }, "x: y"], "c": { "d": [] } }), 0);
        assert_eq!(out, "\"200\": {}\na:\n  -\n    b: 1\n  - \"x: y\"\nc:\n  d: []\n");
    }
}
