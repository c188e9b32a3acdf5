//! The query side of the dialect: `_search`, `_msearch`, `_mget`, `_count`, scrolls, points in time, mappings and `_cat/indices`.
//!
//! Scrolls and points in time hold nothing here: their ids say what was asked and where it goes on. What comes in while a
//! client pages may therefore be met by later pages; what was there at the start is met once.

mod cursor;
mod describe;
mod mget;

use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Map, Value as Json, json};
use trefoil_elastic::{Error, Indices, SearchAnswer, SearchRequest, Source};
use trefoil_ingest::body::{Encoding, inflate};
use trefoil_runtime::QueryContext;
use trefoil_runtime::memory::Reservation;

use super::bulk::refusal;
use super::filter_path::FilterPath;
use super::{Fault, json_bytes};
use crate::error::ApiError;
use crate::params::{Params, collect};
use crate::prometheus::client_of;
use crate::queries::QueryNote;
use crate::routes::{Access, Route};
use crate::state::{AppState, run_noted};
use cursor::{Pit, Scroll};

/// Most searches of one `_msearch`.
const SEARCHES_MAX: usize = 500;

/// The routes.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
        Route::get_post("/elasticsearch/_search", Access::Read, search),
        Route::get_post("/elasticsearch/{index}/_search", Access::Read, search_in),
        Route::get_post("/elasticsearch/_msearch", Access::Read, msearch),
        Route::get_post("/elasticsearch/{index}/_msearch", Access::Read, msearch_in),
        Route::get_post("/elasticsearch/_count", Access::Read, count),
        Route::get_post("/elasticsearch/{index}/_count", Access::Read, count_in),
        Route::get_post("/elasticsearch/_search/scroll", Access::Read, scroll),
        Route::get_post("/elasticsearch/_search/scroll/{scroll_id}", Access::Read, scroll_of),
        Route::new(&[Method::DELETE], "/elasticsearch/_search/scroll", Access::Read, close_scroll),
        Route::new(&[Method::DELETE], "/elasticsearch/_search/scroll/{scroll_id}", Access::Read, close_scroll),
        Route::post("/elasticsearch/{index}/_pit", Access::Read, open_pit),
        Route::new(&[Method::DELETE], "/elasticsearch/_pit", Access::Read, close_pit),
        Route::get("/elasticsearch/{index}/_doc/{id}", Access::Read, document),
        Route::get("/elasticsearch/{index}/_source/{id}", Access::Read, document_source),
    ];
    routes.extend(describe::routes());
    routes.extend(mget::routes());
    routes
}

/// A request as far as it is read before the query runs.
struct Asked {
    params: Params,
    body: Json,
    headers: HeaderMap,
    client: String,
    /// Memory that an inflated body holds.
    _memory: Option<Reservation>,
}

impl Asked {
    async fn read(state: &AppState, request: Request) -> Result<Self, Fault> {
        let (asked, body) = Self::raw(state, request).await?;
        let body = match body.iter().all(u8::is_ascii_whitespace) {
            true => match asked.params.get("source") {
                "" => Json::Null,
                text => json_of(text.as_bytes())?,
            },
            false => json_of(&body)?,
        };
        Ok(Self { body, ..asked })
    }

    /// With the body as it came.
    async fn raw(state: &AppState, request: Request) -> Result<(Self, bytes::Bytes), Fault> {
        let client = client_of(&request);
        let (parts, body) = request.into_parts();
        let params = Params::from_query(parts.uri.query().unwrap_or(""))?;
        let mut body = collect(body, state.limits.body_bytes_max, "body_bytes_max").await?;
        let mut memory = None;
        let encoding = Encoding::from_headers(&parts.headers).map_err(|error| refusal(&error))?;
        if encoding != Encoding::Identity {
            let held = state.clone();
            let work = move || inflate(encoding, body, &held.limits, &held.accountant);
            let inflated = tokio::task::spawn_blocking(work)
                .await
                .map_err(|_| ApiError::internal("a body could not be inflated"))?
                .map_err(|error| refusal(&error))?;
            body = inflated.bytes;
            memory = Some(inflated.reservation);
        }
        Ok((Self { params, body: Json::Null, headers: parts.headers, client, _memory: memory }, body))
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.params.get(name), "true" | "1") || self.params.all(name).any(|v| v == "true")
    }

    /// An answer, as far as the client wants to read it.
    fn answer(&self, status: StatusCode, body: Json) -> Response {
        let body = match FilterPath::parse(self.params.get("filter_path")) {
            Some(filter) => filter.apply(body),
            None => body,
        };
        json_bytes(status, body.to_string().into_bytes())
    }

    /// The body with what the URL says of it.
    fn search_body(&self) -> Result<Json, Fault> {
        let mut body = match &self.body {
            Json::Object(body) => body.clone(),
            Json::Null => Map::new(),
            _ => return Err(Fault::parsing("Expected [START_OBJECT] but found a value")),
        };
        let params = &self.params;
        for name in ["from", "size", "timeout", "terminate_after", "track_total_hits", "version", "seq_no_primary_term"]
        {
            let text = params.get(name);
            if !text.is_empty() {
                body.insert(name.to_owned(), json_scalar(text));
            }
        }
        for name in ["sort", "docvalue_fields", "stored_fields"] {
            let text = params.get(name);
            if !text.is_empty() {
                body.insert(name.to_owned(), text.split(',').map(Json::from).collect());
            }
        }
        if !params.get("q").is_empty() {
            body.insert("query".to_owned(), lucene(params));
        }
        source_filter(params, &mut body);
        Ok(Json::Object(body))
    }
}

/// `_source`, `_source_includes`, `_source_excludes` of a URL.
fn source_filter(params: &Params, body: &mut Map<String, Json>) {
    let list = |name: &str| -> Option<Json> {
        let text = params.get(name);
        (!text.is_empty()).then(|| text.split(',').map(Json::from).collect())
    };
    match params.get("_source") {
        "" => {}
        "true" => drop(body.insert("_source".to_owned(), json!(true))),
        "false" => drop(body.insert("_source".to_owned(), json!(false))),
        names => drop(body.insert("_source".to_owned(), names.split(',').map(Json::from).collect())),
    }
    let (includes, excludes) = (list("_source_includes"), list("_source_excludes"));
    if includes.is_some() || excludes.is_some() {
        let filter = json!({ "includes": includes.unwrap_or_default(), "excludes": excludes.unwrap_or_default() });
        body.insert("_source".to_owned(), filter);
    }
}

/// The query `q` of a URL.
fn lucene(params: &Params) -> Json {
    let mut query = json!({ "query": params.get("q") });
    for (param, name) in [("df", "default_field"), ("default_operator", "default_operator"), ("lenient", "lenient")] {
        if !params.get(param).is_empty() {
            query[name] = json_scalar(params.get(param));
        }
    }
    json!({ "query_string": query })
}

fn json_scalar(text: &str) -> Json {
    match (text, text.parse::<i64>()) {
        ("true", _) => json!(true),
        ("false", _) => json!(false),
        (_, Ok(number)) => json!(number),
        (text, _) => json!(text),
    }
}

fn json_of(bytes: &[u8]) -> Result<Json, Fault> {
    serde_json::from_slice(bytes).map_err(|error| Fault::parsing(format!("Failed to parse content to JSON: {error}")))
}

fn fault(error: Error) -> Fault {
    match error {
        Error::Store(error) => ApiError::from(error).into(),
        Error::Request { .. } => {
            // Only its body and status are written.
            Fault::new(StatusCode::BAD_REQUEST, "exception", error.to_string())
        }
    }
}

/// Whether a client asks for JSON where text is the default.
fn wants_json(headers: &HeaderMap) -> bool {
    headers.get(http::header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("json"))
}

/// Why a request has no answer, with its body.
enum Refusal {
    Fault(Fault),
    Elastic(Error),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Request { .. } => Self::Elastic(error),
            store => Self::Fault(fault(store)),
        }
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Fault(fault) => fault.status,
            Self::Elastic(error) => StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST),
        }
    }

    fn body(&self) -> Json {
        match self {
            Self::Fault(fault) => fault.body(),
            Self::Elastic(error) => error.body(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Fault(fault) => fault.into_response(),
            elastic => json_bytes(elastic.status(), elastic.body().to_string().into_bytes()),
        }
    }
}

type Answer = Result<Response, Refusal>;

fn respond(result: Answer) -> Response {
    result.unwrap_or_else(IntoResponse::into_response)
}

/// What a query is noted as while it runs.
fn note(path: &'static str, text: String, client: &str, now_ms: i64) -> QueryNote {
    let client = client.to_owned();
    QueryNote { path, query: text, start_ms: now_ms, end_ms: now_ms, step_ms: 0, client, rule_group: None }
}

/// Runs `work` through the gate with the store, the tenant and the budget of the query.
async fn run<T, F>(state: &AppState, timeout: Option<Duration>, note: QueryNote, work: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnOnce(Source<'_>) -> Result<T, Error> + Send + 'static,
{
    let (logs, tenant) = (state.logs.clone(), state.tenant);
    let work = move |context: &QueryContext| match work(Source { reader: logs.as_ref(), tenant, budget: context }) {
        Ok(answer) => Ok(Ok(answer)),
        Err(Error::Store(error)) => Err(ApiError::from(error)),
        Err(error) => Ok(Err(error)),
    };
    Ok(run_noted(state, timeout, note, work).await??)
}

/// Parses and runs one search. The names of `indices` must be there unless it is said that they need not.
async fn run_search(
    state: &AppState,
    body: Json,
    indices: Indices,
    (is_lenient, client): (bool, &str),
    scroll: Option<Scroll>,
) -> Result<(Map<String, Json>, Option<Json>), Refusal> {
    let now_ms = scroll.as_ref().map_or_else(|| state.clock.now_ms(), |s| s.now_ms);
    let mut request = SearchRequest::parse(&body, now_ms)?;
    let mut indices = indices;
    let mut pit_id = None;
    if let Some(id) = request.pit() {
        indices = Indices::parse(&Pit::read(id)?.index)?;
        pit_id = Some(id.to_owned());
    }
    if let Some(scroll) = &scroll {
        request = request.scrolled(scroll.after.as_ref())?;
    }
    let began = state.clock.monotonic();
    let text = body.to_string();
    let note = note("/elasticsearch/_search", text, client, now_ms);
    let max = state.limits.response_bytes_max;
    let answer: SearchAnswer = run(state, request.timeout(), note, move |source| {
        if !is_lenient {
            trefoil_elastic::check_names(&indices, source)?;
        }
        trefoil_elastic::search(&request, &indices, source)
    })
    .await?;
    let took = state.clock.monotonic().saturating_sub(began);
    let last_sort = answer.last_sort.clone();
    let mut all = answer.with_took(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    if let Some(id) = pit_id {
        all.insert("pit_id".to_owned(), json!(id));
    }
    // Measured by what is the greater part of it.
    let bytes = all.get("hits").map_or(0, |hits| hits.to_string().len());
    if bytes as u64 > max {
        return Err(ApiError::response_too_large(max).into());
    }
    Ok((all, last_sort))
}

async fn search(State(state): State<AppState>, request: Request) -> Response {
    respond(search_answer(&state, "", request).await)
}

async fn search_in(State(state): State<AppState>, Path(index): Path<String>, request: Request) -> Response {
    respond(search_answer(&state, &index, request).await)
}

async fn search_answer(state: &AppState, index: &str, request: Request) -> Answer {
    let asked = Asked::read(state, request).await?;
    let body = asked.search_body()?;
    let indices = Indices::parse(index)?;
    let scroll = match asked.params.get("scroll") {
        "" => None,
        _ => Some(Scroll {
            index: index.to_owned(),
            body: body.clone(),
            after: None,
            now_ms: state.clock.now_ms(),
            total: None,
        }),
    };
    let who = (asked.flag("ignore_unavailable"), asked.client.as_str());
    let (mut all, last_sort) = run_search(state, body, indices, who, scroll.clone()).await?;
    if let Some(scroll) = scroll {
        all = scrolled(all, &scroll, last_sort);
    }
    total_as_number(&asked, &mut all);
    Ok(asked.answer(StatusCode::OK, Json::Object(all)))
}

/// `rest_total_hits_as_int`: the total as clients of old read it.
fn total_as_number(asked: &Asked, all: &mut Map<String, Json>) {
    if asked.flag("rest_total_hits_as_int")
        && let Some(hits) = all.get_mut("hits")
    {
        let total = hits["total"]["value"].take();
        hits["total"] = if total.is_null() { json!(-1) } else { total };
    }
}

/// Adds the id with which a scroll goes on, and the total that its first page counted.
fn scrolled(mut all: Map<String, Json>, scroll: &Scroll, last_sort: Option<Json>) -> Map<String, Json> {
    let counted = all.get("hits").and_then(|hits| hits.get("total")).cloned();
    let total = scroll.total.clone().or(counted);
    if let (Some(Json::Object(hits)), Some(total)) = (all.get_mut("hits"), &total) {
        hits.insert("total".to_owned(), total.clone());
    }
    let after = last_sort.or_else(|| scroll.after.clone());
    let next = Scroll { after, total, ..scroll.clone() };
    let mut out = Map::new();
    out.insert("_scroll_id".to_owned(), json!(next.id()));
    out.extend(all);
    out
}

async fn scroll(State(state): State<AppState>, request: Request) -> Response {
    respond(scroll_answer(&state, None, request).await)
}

async fn scroll_of(State(state): State<AppState>, Path(id): Path<String>, request: Request) -> Response {
    respond(scroll_answer(&state, Some(id), request).await)
}

async fn scroll_answer(state: &AppState, id: Option<String>, request: Request) -> Answer {
    let asked = Asked::read(state, request).await?;
    let of_body = asked.body.get("scroll_id").and_then(Json::as_str).map(str::to_owned);
    let of_url = Some(asked.params.get("scroll_id").to_owned()).filter(|id| !id.is_empty());
    let id = id.or(of_body).or(of_url).ok_or_else(|| Error::validation("scrollId is missing"))?;
    let scroll = Scroll::read(&id)?;
    let indices = Indices::parse(&scroll.index)?;
    let (body, who) = (scroll.body.clone(), (true, asked.client.as_str()));
    let (all, last_sort) = run_search(state, body, indices, who, Some(scroll.clone())).await?;
    let mut all = scrolled(all, &scroll, last_sort);
    total_as_number(&asked, &mut all);
    Ok(asked.answer(StatusCode::OK, Json::Object(all)))
}

async fn close_scroll(State(state): State<AppState>, request: Request) -> Response {
    respond(close(&state, request, "scroll_id").await)
}

async fn close_pit(State(state): State<AppState>, request: Request) -> Response {
    respond(close(&state, request, "id").await)
}

/// There is nothing to free; clients are told that it was.
async fn close(state: &AppState, request: Request, name: &str) -> Answer {
    let asked = Asked::read(state, request).await?;
    let count = asked.body.get(name).and_then(Json::as_array).map_or(1, Vec::len);
    Ok(asked.answer(StatusCode::OK, json!({ "succeeded": true, "num_freed": count })))
}

async fn open_pit(State(state): State<AppState>, Path(index): Path<String>, request: Request) -> Response {
    let open = async {
        let asked = Asked::read(&state, request).await?;
        if asked.params.get("keep_alive").is_empty() {
            return Err(Error::validation("[keep_alive] is not specified").into());
        }
        let indices = Indices::parse(&index)?;
        if !asked.flag("ignore_unavailable") {
            let note = note("/elasticsearch/_pit", index.clone(), &asked.client, state.clock.now_ms());
            run(&state, None, note, move |source| trefoil_elastic::check_names(&indices, source)).await?;
        }
        let id = Pit { index, now_ms: state.clock.now_ms() }.id();
        Ok(asked.answer(StatusCode::OK, json!({ "id": id, "_shards": trefoil_elastic::shards() })))
    };
    respond(open.await)
}

async fn msearch(State(state): State<AppState>, request: Request) -> Response {
    respond(msearch_answer(&state, "", request).await)
}

async fn msearch_in(State(state): State<AppState>, Path(index): Path<String>, request: Request) -> Response {
    respond(msearch_answer(&state, &index, request).await)
}

async fn msearch_answer(state: &AppState, index: &str, request: Request) -> Answer {
    let (asked, body) = Asked::raw(state, request).await?;
    let began = state.clock.monotonic();
    let mut lines = body.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
    let mut responses = Vec::new();
    let mut bytes = 0u64;
    // A blank line may stand for a header without options.
    while let Some(header) = lines.next() {
        let Some(search) = lines.next() else {
            if header.iter().all(u8::is_ascii_whitespace) {
                break;
            }
            return Err(Error::validation("The msearch request must be terminated by a newline [\\n]").into());
        };
        if search.iter().all(u8::is_ascii_whitespace) {
            if header.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return Err(Error::validation("a header of the msearch request has no search below it").into());
        }
        if responses.len() >= SEARCHES_MAX {
            return Err(Error::illegal(format!("more than {SEARCHES_MAX} searches in one request")).into());
        }
        let header = if header.iter().all(u8::is_ascii_whitespace) { json!({}) } else { json_of(header)? };
        let search = json_of(search)?;
        let one = one_of_many(state, index, &asked, &header, search).await;
        let one = match one {
            Ok(mut all) => {
                total_as_number(&asked, &mut all);
                all.insert("status".to_owned(), json!(200));
                Json::Object(all)
            }
            // Overload and a client that left concern the whole request.
            Err(Refusal::Fault(fault)) if matches!(fault.status.as_u16(), 429 | 499) => return Err(fault.into()),
            Err(refusal) => refusal.body(),
        };
        bytes += one.get("hits").map_or(0, |h| h.to_string().len()) as u64;
        if bytes > state.limits.response_bytes_max {
            return Err(ApiError::response_too_large(state.limits.response_bytes_max).into());
        }
        responses.push(one);
    }
    if responses.is_empty() {
        return Err(Error::validation("no requests added").into());
    }
    let took = state.clock.monotonic().saturating_sub(began).as_millis();
    let body = json!({ "took": u64::try_from(took).unwrap_or(u64::MAX), "responses": responses });
    Ok(asked.answer(StatusCode::OK, body))
}

async fn one_of_many(
    state: &AppState,
    index: &str,
    asked: &Asked,
    header: &Json,
    search: Json,
) -> Result<Map<String, Json>, Refusal> {
    let names = match header.get("index").or_else(|| header.get("indices")) {
        Some(Json::String(name)) => name.clone(),
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(","),
        _ => index.to_owned(),
    };
    let is_lenient = match header.get("ignore_unavailable") {
        Some(value) => value == &json!(true) || value == "true",
        None => asked.flag("ignore_unavailable"),
    };
    let indices = Indices::parse(&names)?;
    let (all, _) = run_search(state, search, indices, (is_lenient, asked.client.as_str()), None).await?;
    Ok(all)
}

async fn count(State(state): State<AppState>, request: Request) -> Response {
    respond(count_answer(&state, "", request).await)
}

async fn count_in(State(state): State<AppState>, Path(index): Path<String>, request: Request) -> Response {
    respond(count_answer(&state, &index, request).await)
}

async fn count_answer(state: &AppState, index: &str, request: Request) -> Answer {
    let asked = Asked::read(state, request).await?;
    let indices = Indices::parse(index)?;
    let now_ms = state.clock.now_ms();
    let body = match asked.params.get("q") {
        "" => asked.body.clone(),
        _ => json!({ "query": lucene(&asked.params) }),
    };
    let (is_lenient, note) =
        (asked.flag("ignore_unavailable"), note("/elasticsearch/_count", body.to_string(), &asked.client, now_ms));
    let count = run(state, None, note, move |source| {
        if !is_lenient {
            trefoil_elastic::check_names(&indices, source)?;
        }
        trefoil_elastic::count(&body, now_ms, &indices, source)
    })
    .await?;
    Ok(asked.answer(StatusCode::OK, json!({ "count": count, "_shards": trefoil_elastic::shards() })))
}

async fn document(
    State(state): State<AppState>,
    Path((index, id)): Path<(String, String)>,
    request: Request,
) -> Response {
    respond(document_answer(&state, index, id, request, false).await)
}

async fn document_source(
    State(state): State<AppState>,
    Path((index, id)): Path<(String, String)>,
    request: Request,
) -> Response {
    respond(document_answer(&state, index, id, request, true).await)
}

async fn document_answer(state: &AppState, index: String, id: String, request: Request, source_only: bool) -> Answer {
    let asked = Asked::read(state, request).await?;
    let mut options = Map::new();
    source_filter(&asked.params, &mut options);
    let indices = Indices::parse(&index)?;
    let note = note("/elasticsearch/_doc", id.clone(), &asked.client, state.clock.now_ms());
    let work = move |source: Source<'_>| trefoil_elastic::document(&id, &Json::Object(options), &indices, source);
    let (is_there, body) = run(state, None, note, work).await?;
    let status = if is_there { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let body = if source_only && is_there { body["_source"].clone() } else { body };
    Ok(asked.answer(status, body))
}
