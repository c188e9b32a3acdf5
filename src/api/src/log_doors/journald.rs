//! systemd-journal-upload: a body of journal entries that may be as large as a journal, and may never end. Entries are
//! stored as they arrive, a batch at a time, so neither the limit of bodies nor that of their time holds here.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use trefoil_ingest::body::{Encoding, inflate};
use trefoil_ingest::journald::{Entry, Parser};
use trefoil_ingest::{Answer, FieldOptions, IngestError};

use super::{detached, field_options};
use crate::error::ApiError;
use crate::params::{Params, collect};
use crate::routes::{Access, Route};
use crate::state::AppState;

/// Where journals are uploaded.
pub(super) const PATHS: [&str; 3] = ["/upload", "/journald/upload", "/insert/journald/upload"];
/// A batch is written when it has so many entries or bytes, or when nothing more has arrived.
const BATCH_ENTRIES: usize = 1000;
const BATCH_BYTES: usize = 1 << 20;

/// The routes.
pub(super) fn routes() -> Vec<Route> {
    PATHS.iter().map(|path| Route::post_put(path, Access::Write, upload)).collect()
}

/// Why an upload ended early.
enum Failure {
    Api(ApiError),
    Ingest(IngestError),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<IngestError> for Failure {
    fn from(error: IngestError) -> Self {
        Self::Ingest(error)
    }
}

async fn upload(State(state): State<AppState>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut bytes = 0;
    let response = match receive(&state, &parts.headers, parts.uri.query().unwrap_or(""), body, &mut bytes).await {
        Ok(()) => (StatusCode::ACCEPTED, "OK.\n").into_response(),
        Err(Failure::Api(error)) => error.into_text(),
        Err(Failure::Ingest(error)) => crate::ingest_routes::into_response(Answer::error(&error)),
    };
    state.ingest.journal_answered(bytes, response.status());
    response
}

async fn receive(
    state: &AppState,
    headers: &HeaderMap,
    query: &str,
    body: Body,
    bytes: &mut u64,
) -> Result<(), Failure> {
    let options = field_options(headers, &Params::from_query(query)?).map_err(ApiError::bad_data)?;
    let mut batch = Batch { state, options, parser: Parser::new(&state.limits), entries: Vec::new(), bytes: 0 };
    let encoding = Encoding::from_headers(headers)?;
    if encoding != Encoding::Identity {
        // Compressed bodies are taken whole.
        let body = collect(body, state.limits.body_bytes_max, "body_bytes_max").await?;
        *bytes += body.len() as u64;
        let inflated = inflate(encoding, body, &state.limits, &state.accountant)?;
        for piece in inflated.bytes.chunks(BATCH_BYTES) {
            batch.feed(piece).await?;
        }
        return batch.finish().await;
    }
    let mut body = body;
    loop {
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => {
                batch.write().await?;
                body.frame().await
            }
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|e| ApiError::bad_data(format!("request body could not be read: {e}")))?;
        if let Some(data) = frame.data_ref() {
            *bytes += data.len() as u64;
            batch.feed(data).await?;
        }
    }
    batch.finish().await
}

/// Entries that wait to be written.
struct Batch<'a> {
    state: &'a AppState,
    options: FieldOptions,
    parser: Parser,
    entries: Vec<Entry>,
    bytes: usize,
}

impl Batch<'_> {
    async fn feed(&mut self, data: &[u8]) -> Result<(), Failure> {
        let before = self.entries.len();
        let fed = self.parser.feed(data, &mut self.entries);
        self.bytes += self.entries[before..].iter().map(Entry::heap_bytes).sum::<usize>();
        if let Err(error) = fed {
            // What came before is good.
            self.write().await?;
            return Err(IngestError::Malformed(error.to_string()).into());
        }
        if self.entries.len() >= BATCH_ENTRIES || self.bytes >= BATCH_BYTES {
            self.write().await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), Failure> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let entries = std::mem::take(&mut self.entries);
        self.bytes = 0;
        let (ingest, options) = (self.state.ingest.clone(), self.options.clone());
        let stored = detached(self.state, async move { ingest.journal_entries(entries, &options).await });
        // Entries that are refused one by one would be refused again: they are counted and logged, the upload goes on.
        stored.await??;
        Ok(())
    }

    async fn finish(mut self) -> Result<(), Failure> {
        let parser = std::mem::replace(&mut self.parser, Parser::new(&self.state.limits));
        let ended = parser.finish(&mut self.entries);
        self.write().await?;
        ended.map_err(|e| IngestError::Malformed(e.to_string()).into())
    }
}
