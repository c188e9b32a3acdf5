//! gRPC methods as routes: a handler takes the request of a route and answers in gRPC's form.

use std::future::Future;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::codec::{CompressionEncoding, EnabledCompressionEncodings};
use tonic::server::Grpc;
use tonic_prost::ProstCodec;
use trefoil_runtime::QueryContext;

use crate::error::{ApiError, ErrorKind};
use crate::queries::QueryNote;
use crate::state::AppState;

/// Bytes of a message that asks for something.
pub(crate) const QUESTION_BYTES_MAX: usize = 1 << 20;
/// Parts of an answer that wait for the client.
const PARTS_MAX: usize = 16;

fn server<M, R>(message_bytes_max: usize) -> Grpc<ProstCodec<R, M>>
where
    M: Message + Default + 'static,
    R: Message + 'static,
{
    let mut accepted = EnabledCompressionEncodings::default();
    accepted.enable(CompressionEncoding::Gzip);
    accepted.enable(CompressionEncoding::Zstd);
    // Answers are bounded by `response_bytes_max`, and by what the receiver takes.
    Grpc::new(ProstCodec::default())
        .apply_compression_config(accepted, EnabledCompressionEncodings::default())
        .apply_max_message_size_config(Some(message_bytes_max), Some(usize::MAX))
}

/// Answers a call that has one answer; messages of more than `message_bytes_max` are refused while they inflate.
pub(crate) async fn unary<M, R, F>(
    request: Request,
    message_bytes_max: usize,
    mut answer: impl FnMut(M) -> F + Send,
) -> Response
where
    M: Message + Default + 'static,
    R: Message + 'static,
    F: Future<Output = Result<R, Status>> + Send,
{
    let service = tower::service_fn(move |request: tonic::Request<M>| {
        let answered = answer(request.into_inner());
        async move { answered.await.map(tonic::Response::new) }
    });
    server::<M, R>(message_bytes_max).unary(service, request).await.map(Body::new)
}

/// Answers a call that has many answers; when the client leaves, the stream is dropped.
pub(crate) async fn streaming<M, R, F, S>(request: Request, mut answer: impl FnMut(M) -> F + Send) -> Response
where
    M: Message + Default + 'static,
    R: Message + 'static,
    F: Future<Output = Result<S, Status>> + Send,
    S: Stream<Item = Result<R, Status>> + Send + 'static,
{
    let service = tower::service_fn(move |request: tonic::Request<M>| {
        let answered = answer(request.into_inner());
        async move { answered.await.map(tonic::Response::new) }
    });
    server::<M, R>(QUESTION_BYTES_MAX).server_streaming(service, request).await.map(Body::new)
}

/// Where work puts what it can tell before its end.
pub(crate) struct Partial<R>(mpsc::Sender<R>);

impl<R> Partial<R> {
    /// Tells a part of the answer. It is left out when the client reads slowly: the whole answer follows.
    pub(crate) fn tell(&self, part: R) {
        self.0.try_send(part).ok();
    }
}

struct Answers<R> {
    run: Option<BoxFuture<'static, Result<R, ApiError>>>,
    parts: mpsc::Receiver<R>,
    whole: Option<R>,
}

/// Runs `work` in its turn on behalf of a client; what it tells goes out at once, what it gives at last. Dropping the
/// stream ends the work.
pub(crate) fn answers<R, W>(
    state: AppState,
    client: Arc<str>,
    note: QueryNote,
    work: W,
) -> impl Stream<Item = Result<R, Status>> + Send
where
    R: Send + 'static,
    W: FnOnce(&QueryContext, &Partial<R>) -> Result<R, ApiError> + Send + 'static,
{
    let (sender, parts) = mpsc::channel(PARTS_MAX);
    let run = crate::gate::as_client(client, async move {
        let work = move |context: &QueryContext| work(context, &Partial(sender));
        state.gate.run_noted(&state, None, Some(note), work).await
    });
    let answers = Answers { run: Some(run.boxed()), parts, whole: None };
    futures::stream::unfold(answers, |mut answers| async move {
        loop {
            let Some(run) = &mut answers.run else {
                // What was told and not fetched yet goes before the whole.
                let next = answers.parts.try_recv().ok().or_else(|| answers.whole.take())?;
                return Some((Ok(next), answers));
            };
            tokio::select! {
                biased;
                Some(part) = answers.parts.recv() => return Some((Ok(part), answers)),
                result = run => {
                    answers.run = None;
                    match result {
                        Ok(whole) => answers.whole = Some(whole),
                        Err(error) => {
                            answers.parts.close();
                            while answers.parts.try_recv().is_ok() {}
                            return Some((Err(status(&error)), answers));
                        }
                    }
                }
            }
        }
    })
}

/// An error as gRPC tells it.
pub(crate) fn status(error: &ApiError) -> Status {
    let message = error.message.clone();
    match error.kind {
        ErrorKind::BadData | ErrorKind::Execution | ErrorKind::NotAcceptable => Status::invalid_argument(message),
        ErrorKind::Canceled => Status::cancelled(message),
        ErrorKind::Timeout | ErrorKind::RequestTimeout => Status::deadline_exceeded(message),
        ErrorKind::Internal => Status::internal(message),
        ErrorKind::NotFound => Status::not_found(message),
        ErrorKind::TooLarge => Status::resource_exhausted(message),
        ErrorKind::Forbidden => Status::permission_denied(message),
        ErrorKind::Unavailable => Status::unavailable(message),
    }
}
