//! `/api/v1/read`: remote read, as samples in one message or as a stream of chunks
//! (<https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/>).

use std::io;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use http::HeaderValue;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use prost::Message as _;
use tokio::sync::mpsc;
use trefoil_config::LabelMap;
use trefoil_model::{
    FloatHistogram, Labels, MatchOp, Matcher, QueryBudget, SampleBuffer, SelectRequest, TenantId, TimeRange,
};
use trefoil_runtime::QueryContext;
use trefoil_transfer::prometheus::chunk_writer::write_chunks;
use trefoil_transfer::prompb as wire;

use crate::error::{ApiError, ErrorKind};
use crate::params::{TIME_MS_MAX, collect};
use crate::queries::QueryNote;
use crate::state::{App, AppState, run_noted};

/// Bytes of a request before and after decompression; the reference's limit.
const REQUEST_BYTES_MAX: u64 = 32 << 20;
/// Queries of a request.
const QUERIES_MAX: usize = 100;
/// Matchers of a query.
const MATCHERS_MAX: usize = 1000;
/// About how large a frame of the stream gets; the reference's default.
const FRAME_BYTES: usize = 1 << 20;
/// Frames that wait for the client.
const FRAMES_WAITING: usize = 4;
/// Bytes of all frames that are there at once.
const FRAMES_BYTES_MAX: u64 = ((FRAMES_WAITING + 3) * FRAME_BYTES) as u64;
/// Samples are charged and the deadline is looked at every so many series.
const CHECK_EVERY: usize = 64;

/// `POST /api/v1/read`. Errors are plain text, as the reference's.
pub(super) async fn read(State(state): State<AppState>, request: Request) -> Response {
    match answer(&state, request).await {
        Ok(response) => response,
        Err(error) => error.into_text(),
    }
}

/// One query of a request.
struct Wanted {
    request: SelectRequest,
    range: TimeRange,
}

async fn answer(state: &AppState, request: Request) -> Result<Response, ApiError> {
    let client = super::query::client_of(&request);
    let (_, body) = request.into_parts();
    let compressed = collect(body, REQUEST_BYTES_MAX, "remote read request").await?;
    let request = decode(&compressed)?;
    let external = state.config().config.global.external_labels.clone();
    let wanted = wanted(state.tenant, &request, &external)?;
    let note = note(&request, client);
    let accepted = &request.accepted_response_types;
    let form = if accepted.is_empty() {
        wire::SAMPLES
    } else {
        let known = accepted.iter().copied().find(|t| matches!(*t, wire::SAMPLES | wire::STREAMED_XOR_CHUNKS));
        known.ok_or_else(|| {
            ApiError::bad_data(format!("server does not support any of the requested response types: {accepted:?}"))
        })?
    };
    if form == wire::STREAMED_XOR_CHUNKS {
        return stream(state, note, wanted, external).await;
    }
    let app = state.clone();
    let body = run_noted(state, None, note, move |budget| samples(&app, &wanted, &external, budget)).await?;
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    Ok(response)
}

fn decode(compressed: &[u8]) -> Result<wire::ReadRequest, ApiError> {
    let bad = |e: &dyn std::fmt::Display| ApiError::bad_data(format!("remote read request: {e}"));
    let length = snap::raw::decompress_len(compressed).map_err(|e| bad(&e))?;
    if length as u64 > REQUEST_BYTES_MAX {
        return Err(bad(&format!("snappy: decoded length {length} exceeds limit {REQUEST_BYTES_MAX}")));
    }
    let bytes = snap::raw::Decoder::new().decompress_vec(compressed).map_err(|e| bad(&e))?;
    wire::ReadRequest::decode(bytes.as_slice()).map_err(|e| bad(&e))
}

/// Checks the compressed body of a request as it is before anything is read, and tells how many queries it has.
///
/// Errors: `BadData` with the reason.
pub fn check_request(compressed: &[u8]) -> Result<usize, ApiError> {
    let request = decode(compressed)?;
    wanted(TenantId(0), &request, &LabelMap::default()).map(|wanted| wanted.len())
}

fn wanted(tenant: TenantId, request: &wire::ReadRequest, external: &LabelMap) -> Result<Vec<Wanted>, ApiError> {
    if request.queries.len() > QUERIES_MAX || request.queries.iter().any(|q| q.matchers.len() > MATCHERS_MAX) {
        let message = format!("more than {QUERIES_MAX} queries or {MATCHERS_MAX} matchers in a remote read request");
        return Err(ApiError::bad_data(message));
    }
    request
        .queries
        .iter()
        .map(|query| {
            let clamp = |t: i64| t.clamp(-TIME_MS_MAX, TIME_MS_MAX);
            let range = TimeRange::new(clamp(query.start_timestamp_ms), clamp(query.end_timestamp_ms) + 1);
            let matchers = query.matchers.iter().map(|m| matcher(m, external)).collect::<Result<_, _>>()?;
            Ok(Wanted { request: SelectRequest { tenant, matchers, range }, range })
        })
        .collect()
}

/// Who asks for an external label asks for what has none: it is added on the way out.
fn matcher(m: &wire::LabelMatcher, external: &LabelMap) -> Result<Matcher, ApiError> {
    let op = match m.r#type {
        0 => MatchOp::Equal,
        1 => MatchOp::NotEqual,
        2 => MatchOp::Regex,
        3 => MatchOp::NotRegex,
        other => return Err(ApiError::bad_data(format!("invalid matcher type {other}"))),
    };
    let is_external = op == MatchOp::Equal && external.iter().any(|(n, v)| n == m.name && v == m.value);
    let value = if is_external { "" } else { m.value.as_str() };
    Matcher::new(op, m.name.as_str(), value).map_err(|e| ApiError::bad_data(e.to_string()))
}

/// The request in words, for the list of active queries.
fn note(request: &wire::ReadRequest, client: String) -> QueryNote {
    let sign = |op: i32| ["=", "!=", "=~", "!~"].get(op as usize).copied().unwrap_or("?");
    let one = |q: &wire::Query| {
        let matchers: Vec<String> =
            q.matchers.iter().map(|m| format!("{}{}{:?}", m.name, sign(m.r#type), m.value)).collect();
        format!("{{{}}}", matchers.join(","))
    };
    QueryNote {
        path: "/api/v1/read",
        query: request.queries.iter().map(one).collect::<Vec<_>>().join(" "),
        start_ms: request.queries.iter().map(|q| q.start_timestamp_ms).min().unwrap_or(0),
        end_ms: request.queries.iter().map(|q| q.end_timestamp_ms).max().unwrap_or(0),
        step_ms: 0,
        client,
        rule_group: None,
    }
}

/// The labels of a series with the external ones that it does not have.
fn labels(own: &Labels, external: &LabelMap) -> Vec<wire::Label> {
    let mut all = own.to_builder();
    for (name, value) in external.iter() {
        if all.get(name).is_none() {
            all.set(name, value);
        }
    }
    let label = |(name, value): (&str, &str)| wire::Label { name: name.to_owned(), value: value.to_owned() };
    all.build().iter().map(label).collect()
}

/// Hands each series with its samples to `take`, in the order of their labels. What is charged for samples is given
/// back after each.
fn each_series(
    app: &App,
    wanted: &Wanted,
    budget: &QueryContext,
    mut take: impl FnMut(&Labels, &SampleBuffer) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    let mut buffer = SampleBuffer::default();
    for (i, series) in app.metrics.select(&wanted.request, budget)?.into_iter().enumerate() {
        if i % CHECK_EVERY == 0 {
            budget.check()?;
        }
        buffer.clear();
        series.source.read(wanted.range, &mut buffer)?;
        if buffer.is_empty() {
            continue;
        }
        let (n, bytes) = (buffer.len() as u64, 2 * buffer_bytes(&buffer));
        budget.charge_samples(n)?;
        // As they were read, and as chunks or before they are a message.
        budget.charge_bytes(bytes)?;
        let result = take(&series.labels, &buffer);
        budget.release_samples(n);
        budget.release_bytes(bytes);
        result?;
    }
    Ok(())
}

/// Bytes that samples take.
fn buffer_bytes(buffer: &SampleBuffer) -> u64 {
    let columns = (buffer.times.capacity() + buffer.values.capacity() + buffer.starts.capacity()) * 8;
    let histograms = buffer.histograms.iter().map(|(_, h)| size_of::<FloatHistogram>() + 32 + h.heap_bytes());
    (columns + histograms.sum::<usize>()) as u64
}

/// The compressed `ReadResponse`.
fn samples(app: &App, wanted: &[Wanted], external: &LabelMap, budget: &QueryContext) -> Result<Vec<u8>, ApiError> {
    let max = app.limits.response_bytes_max;
    let mut response = wire::ReadResponse::default();
    let mut bytes = 0u64;
    for query in wanted {
        let mut result = wire::QueryResult::default();
        each_series(app, query, budget, |own, buffer| {
            let series = wire::TimeSeries::of(labels(own, external), buffer, 0..buffer.len());
            let length = series.encoded_len() as u64 + 8;
            bytes += length;
            if bytes > max {
                return Err(ApiError::response_too_large(max));
            }
            // Once as a tree, once as bytes.
            budget.charge_bytes(length * 3)?;
            result.timeseries.push(series);
            Ok(())
        })?;
        response.results.push(result);
    }
    let message = response.encode_to_vec();
    drop(response);
    budget.charge_bytes(snap::raw::max_compress_len(message.len()) as u64)?;
    snap::raw::Encoder::new().compress_vec(&message).map_err(|e| ApiError::internal(e.to_string()))
}

/// Begins the stream once the first frame is there, so that what fails before has its status.
async fn stream(
    state: &AppState,
    note: QueryNote,
    wanted: Vec<Wanted>,
    external: LabelMap,
) -> Result<Response, ApiError> {
    let (frames, mut received) = mpsc::channel::<Result<Bytes, ApiError>>(FRAMES_WAITING);
    let app = state.clone();
    state.tasks.spawn_once(
        "remote read",
        trefoil_runtime::Phase::Accept,
        trefoil_runtime::OnError::Log,
        move |stop| async move {
            let (owner, to) = (app.clone(), frames.clone());
            let work = run_noted(&app, None, note, move |budget| chunks(&owner, &wanted, &external, budget, &to));
            let result = tokio::select! {
                result = work => result,
                // The receiver is dropped when the client leaves: that ends the work.
                () = frames.closed() => Ok(()),
                () = stop.cancelled() => Err(ApiError::new(ErrorKind::Canceled, "server is shutting down")),
            };
            if let Err(error) = result {
                // Nobody listens when the client has left.
                frames.send(Err(error)).await.ok();
            }
            Ok(())
        },
    );
    let first = match received.recv().await {
        Some(Ok(frame)) => Some(frame),
        Some(Err(error)) => return Err(error),
        None => None,
    };
    let rest =
        futures::stream::unfold(received, |mut received| async move { Some((received.recv().await?, received)) });
    let all = futures::stream::iter(first.map(Ok)).chain(rest.map(|f| f.map_err(io::Error::other)));
    let mut response = Response::new(Body::from_stream(all));
    let form = HeaderValue::from_static("application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse");
    response.headers_mut().insert(CONTENT_TYPE, form);
    Ok(response)
}

/// Sends every series as frames of chunks.
fn chunks(
    app: &App,
    wanted: &[Wanted],
    external: &LabelMap,
    budget: &QueryContext,
    to: &mpsc::Sender<Result<Bytes, ApiError>>,
) -> Result<(), ApiError> {
    let mut charged = 0;
    let mut send = |series: wire::ChunkedSeries, query: usize| {
        let message = wire::ChunkedReadResponse { chunked_series: vec![series], query_index: query as i64 };
        // As chunks, as a message and as a frame; the frames before wait for the client.
        if charged < FRAMES_BYTES_MAX {
            let bytes = 3 * message.encoded_len() as u64;
            budget.charge_bytes(bytes)?;
            charged += bytes;
        }
        let frame = frame(&message.encode_to_vec());
        budget.check()?;
        to.blocking_send(Ok(frame)).map_err(|_| ApiError::new(ErrorKind::Canceled, "client left"))
    };
    for (query, one) in wanted.iter().enumerate() {
        each_series(app, one, budget, |own, buffer| {
            let labels = labels(own, external);
            let mut series = wire::ChunkedSeries { labels: labels.clone(), chunks: Vec::new() };
            let mut bytes = 0;
            for chunk in write_chunks(buffer) {
                bytes += chunk.data.len() + 32;
                let r#type = i32::from(chunk.encoding.byte());
                let (min_time_ms, max_time_ms) = (chunk.min_t, chunk.max_t);
                series.chunks.push(wire::Chunk { min_time_ms, max_time_ms, r#type, data: chunk.data });
                if bytes >= FRAME_BYTES {
                    let full = wire::ChunkedSeries { labels: labels.clone(), chunks: Vec::new() };
                    send(std::mem::replace(&mut series, full), query)?;
                    bytes = 0;
                }
            }
            if series.chunks.is_empty() { Ok(()) } else { send(series, query) }
        })?;
    }
    Ok(())
}

/// Length as a varint, CRC-32C big-endian, message.
fn frame(message: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(message.len() + 14);
    prost::encoding::encode_varint(message.len() as u64, &mut out);
    out.extend(crc32c::crc32c(message).to_be_bytes());
    out.extend_from_slice(message);
    Bytes::from(out)
}
