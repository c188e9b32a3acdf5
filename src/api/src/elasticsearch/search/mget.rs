//! `_mget`: several documents by their ids.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value as Json, json};
use trefoil_elastic::{Error, Indices, Source};

use super::{Answer, Asked, note, respond, run, source_filter};
use crate::error::ApiError;
use crate::routes::{Access, Route};
use crate::state::AppState;

/// Most documents of one request.
const DOCUMENTS_MAX: usize = 1000;

/// The routes.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get_post("/elasticsearch/_mget", Access::Read, mget),
        Route::get_post("/elasticsearch/{index}/_mget", Access::Read, mget_in),
    ]
}

async fn mget(State(state): State<AppState>, request: Request) -> Response {
    respond(answer(&state, "", request).await)
}

async fn mget_in(State(state): State<AppState>, Path(index): Path<String>, request: Request) -> Response {
    respond(answer(&state, &index, request).await)
}

/// A document that is asked for.
#[derive(Debug, PartialEq)]
struct Wanted {
    id: String,
    index: String,
    /// What to show of it, as a search body has it.
    options: Map<String, Json>,
}

/// Reads `docs` or `ids`. `index` and `options` are those of the URL.
fn wanted(body: &Json, index: &str, options: &Map<String, Json>) -> Result<Vec<Wanted>, Error> {
    let mut all = Vec::new();
    let mut faults = Vec::new();
    let (docs, ids) = (body.get("docs").and_then(Json::as_array), body.get("ids").and_then(Json::as_array));
    let asked = docs.into_iter().chain(ids).flatten();
    for (i, one) in asked.enumerate() {
        // Of `ids` each is a bare id.
        let id = one.get("_id").or_else(|| one.get("id")).unwrap_or(one);
        let id = match id {
            Json::String(id) => id.clone(),
            Json::Number(id) => id.to_string(),
            _ => String::new(),
        };
        let of = one.get("_index").and_then(Json::as_str).unwrap_or(index).to_owned();
        if of.is_empty() {
            faults.push(format!("index is missing for doc {i}"));
        }
        if id.is_empty() {
            faults.push(format!("id is missing for doc {i}"));
        }
        let mut options = options.clone();
        if let Some(filter) = one.get("_source").or_else(|| one.get("_source_includes")) {
            options.insert("_source".to_owned(), filter.clone());
        }
        all.push(Wanted { id, index: of, options });
    }
    if all.is_empty() {
        faults.push("no documents to get".to_owned());
    }
    if all.len() > DOCUMENTS_MAX {
        faults.push(format!("more than {DOCUMENTS_MAX} documents"));
    }
    match faults.is_empty() {
        true => Ok(all),
        false => Err(Error::validation(faults.join(";"))),
    }
}

async fn answer(state: &AppState, index: &str, request: Request) -> Answer {
    let asked = Asked::read(state, request).await?;
    let mut options = Map::new();
    source_filter(&asked.params, &mut options);
    let wanted = wanted(&asked.body, index, &options)?;
    let text = wanted.iter().map(|w| w.id.as_str()).collect::<Vec<_>>().join(" ");
    let note = note("/elasticsearch/_mget", text, &asked.client, state.clock.now_ms());
    let max = state.limits.response_bytes_max;
    let work = move |source: Source<'_>| {
        let (mut docs, mut bytes) = (Vec::with_capacity(wanted.len()), 0u64);
        for one in wanted {
            let indices = Indices::parse(&one.index)?;
            let (_, doc) = trefoil_elastic::document(&one.id, &Json::Object(one.options), &indices, source)?;
            bytes = bytes.saturating_add(doc.to_string().len() as u64);
            if bytes > max {
                return Ok(None);
            }
            docs.push(doc);
        }
        Ok(Some(docs))
    };
    match run(state, None, note, work).await? {
        Some(docs) => Ok(asked.answer(StatusCode::OK, json!({ "docs": docs }))),
        None => Err(ApiError::response_too_large(max).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_named_in_two_ways() {
        let read = |body: Json, index: &str| {
            wanted(&body, index, &Map::new())
                .map(|all| all.into_iter().map(|w| format!("{}/{}", w.index, w.id)).collect::<Vec<_>>().join(" "))
                .map_err(|error| error.to_string())
        };
        let docs = json!({"docs": [{"_index": "a", "_id": "1"}, {"_id": 2}]});
        assert_eq!(read(docs.clone(), "b").as_deref(), Ok("a/1 b/2"));
        assert_eq!(read(json!({"ids": ["1", "2"]}), "b").as_deref(), Ok("b/1 b/2"));
        for (body, index, want) in [
            (docs, "", "index is missing for doc 1"),
            (json!({"docs": [{"_index": "a"}]}), "", "id is missing for doc 0"),
            (json!({"ids": []}), "b", "no documents to get"),
            (json!({"ids": vec!["x"; 1001]}), "b", "more than 1000 documents"),
        ] {
            let got = read(body, index);
            assert!(got.as_ref().is_err_and(|e| e.contains(want)), "{want}: {got:?}");
        }
    }
}
