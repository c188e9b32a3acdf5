//! Objects in a bucket, over the S3 API. The requests run on a thread of their own, so that callers may block anywhere.

use std::io;
use std::ops::Range;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use parking_lot::Mutex;

use super::{ObjectInfo, Objects, check_key};

/// Bytes of a part of longer content: the least that stores take.
const PUT_PART_BYTES: usize = 5 << 20;
/// Content up to this size goes in one request.
const SINGLE_PUT_BYTES_MAX: usize = PUT_PART_BYTES;
/// Content up to this size is sent within [`SMALL_PUT_TIMEOUT`].
const SMALL_PUT_BYTES_MAX: usize = 256 << 10;
/// Longest time of a request with little content or none.
const SMALL_PUT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time of a request with much content: nothing tells that bytes still flow while they are sent, so it is enough
/// for [`PUT_PART_BYTES`] at 20 kB a second.
const LARGE_PUT_TIMEOUT: Duration = Duration::from_secs(300);
/// Time within which a store that is there takes a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts after the first one of a request; the waits between them grow to [`RETRY_WAIT_MAX`].
const RETRIES_MAX: usize = 12;
/// Attempts after the first one, once a request was given up not long ago: who asks for many things does not wait for
/// each of them.
const RETRIES_IN_OUTAGE: usize = 2;
/// How long a request that was given up is remembered.
const OUTAGE: Duration = Duration::from_secs(60);
/// The first wait; each of the next ones is up to twice as long.
const RETRY_WAIT: Duration = Duration::from_millis(200);
/// The longest wait.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);
/// After this long nothing is attempted again: a store that restarts is there by then.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// No bound for a whole request, in the form of the client's options.
const NO_TIMEOUT: &str = "365days";
/// A request that fails sooner got an answer, if not a good one.
const QUICK: Duration = Duration::from_secs(1);

/// Clients with much and with little patience.
struct Clients {
    patient: AmazonS3,
    hasty: AmazonS3,
}

impl Clients {
    fn new(builder: &AmazonS3Builder, retry_timeout: Duration) -> Result<Self, object_store::Error> {
        let client = |max_retries| {
            let backoff = BackoffConfig { init_backoff: RETRY_WAIT, max_backoff: RETRY_WAIT_MAX, base: 2.0 };
            builder.clone().with_retry(RetryConfig { backoff, max_retries, retry_timeout }).build()
        };
        Ok(Self { patient: client(RETRIES_MAX)?, hasty: client(RETRIES_IN_OUTAGE)? })
    }
}

/// True when an answer came, if not the one that was hoped for.
fn is_answer(error: &object_store::Error) -> bool {
    !matches!(error, object_store::Error::Generic { .. })
}

/// A bucket, or what begins with a prefix in it.
pub struct S3Objects {
    store: Clients,
    /// The same for requests with much content.
    sender: Clients,
    /// The same for requests that read: they end when nothing comes for a time, not while bytes flow.
    reader: Clients,
    /// When a request was given up last while no other was answered.
    given_up: Mutex<Option<Instant>>,
    /// When a request was answered last.
    answered: Mutex<Option<Instant>>,
    /// Without slashes at its ends; empty for the whole bucket.
    prefix: String,
    url: String,
    /// Taken only by drop.
    runtime: Option<tokio::runtime::Runtime>,
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn to_io(error: object_store::Error) -> io::Error {
    let kind = match &error {
        object_store::Error::NotFound { .. } => io::ErrorKind::NotFound,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
            io::ErrorKind::AlreadyExists
        }
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, explain(&error))
}

/// Longest text of an error.
const TEXT_CHARS_MAX: usize = 500;

/// Says once what went wrong: each cause repeats the text of those below it.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    if text.contains("169.254.169.254") || text.contains("169.254.170.2") {
        return "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_ENDPOINT_URL for a store that \
                is not Amazon's); this machine's metadata service has none either"
            .to_owned();
    }
    if text.contains("URL scheme is not allowed") {
        return "AWS_ENDPOINT_URL is plain HTTP, which is refused; set AWS_ALLOW_HTTP=true to allow it".to_owned();
    }
    text.chars().take(TEXT_CHARS_MAX).collect()
}

impl S3Objects {
    /// Opens `s3://bucket/prefix` with what the environment says. A request that reads ends when nothing came for
    /// `read_timeout`, and is not repeated after that time. Sends nothing.
    pub fn open(url: &str, read_timeout: Duration) -> io::Result<Self> {
        let place = url.strip_prefix("s3://").unwrap_or(url).trim_end_matches('/');
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() || (!prefix.is_empty() && check_key(prefix).is_err()) {
            return Err(invalid(format!("{url:?} is not s3://bucket/prefix")));
        }
        let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        let limited = |key, limit: Duration| {
            let set = |builder: AmazonS3Builder, key, limit: Duration| {
                let limit = format!("{}ms", limit.as_millis().max(1));
                builder.with_config(AmazonS3ConfigKey::Client(key), limit)
            };
            set(set(builder.clone(), ClientConfigKey::ConnectTimeout, limit.min(CONNECT_TIMEOUT)), key, limit)
        };
        let small = limited(ClientConfigKey::Timeout, SMALL_PUT_TIMEOUT);
        let store = Clients::new(&small, RETRY_TIMEOUT).map_err(to_io)?;
        let large = limited(ClientConfigKey::Timeout, LARGE_PUT_TIMEOUT);
        let sender = Clients::new(&large, RETRY_TIMEOUT).map_err(to_io)?;
        let stalling = limited(ClientConfigKey::ReadTimeout, read_timeout)
            .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), NO_TIMEOUT);
        let reader = Clients::new(&stalling, RETRY_TIMEOUT.min(read_timeout)).map_err(to_io)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("object-store")
            .enable_all()
            .build()?;
        let url = format!("s3://{place}");
        Ok(Self {
            store,
            sender,
            reader,
            given_up: Mutex::default(),
            answered: Mutex::default(),
            prefix: prefix.to_owned(),
            url,
            runtime: Some(runtime),
        })
    }

    fn key(&self, key: &str) -> io::Result<Key> {
        check_key(key)?;
        let whole = if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) };
        Key::parse(whole).map_err(|error| invalid(error.to_string()))
    }

    /// The client for now.
    fn client(&self, clients: &Clients) -> AmazonS3 {
        let is_outage = self.given_up.lock().is_some_and(|at| at.elapsed() < OUTAGE);
        if is_outage { clients.hasty.clone() } else { clients.patient.clone() }
    }

    /// Runs a request that writes to its end.
    fn wait<T, F>(&self, request: impl FnOnce(AmazonS3) -> F) -> io::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, object_store::Error>> + Send + 'static,
    {
        self.run(request(self.client(&self.store)))
    }

    /// Runs a request that reads to its end.
    fn read<T, F>(&self, request: impl FnOnce(AmazonS3) -> F) -> io::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, object_store::Error>> + Send + 'static,
    {
        self.run(request(self.client(&self.reader)))
    }

    fn run<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, object_store::Error>> + Send + 'static,
    ) -> io::Result<T> {
        let begun = Instant::now();
        let (done, answer) = mpsc::sync_channel(1);
        let runtime = self.runtime.as_ref().expect("taken only by drop");
        runtime.spawn(async move {
            // Somebody waits for it below.
            drop(done.send(request.await));
        });
        let gone = |_| io::Error::other("the request to the object store ended without an answer");
        let answer = answer.recv().map_err(gone)?;
        if answer.as_ref().err().is_none_or(is_answer) {
            *self.answered.lock() = Some(Instant::now());
            *self.given_up.lock() = None;
        } else if self.answered.lock().is_none_or(|at| at < begun) {
            *self.given_up.lock() = Some(Instant::now());
        }
        answer.map_err(to_io)
    }
}

/// Writes an object, in parts when it is long.
async fn send(store: AmazonS3, key: Key, content: Bytes) -> Result<(), object_store::Error> {
    if content.len() <= SINGLE_PUT_BYTES_MAX {
        store.put(&key, PutPayload::from(content)).await?;
        return Ok(());
    }
    let mut upload = store.put_multipart(&key).await?;
    let mut rest = content;
    while !rest.is_empty() {
        let part = rest.split_to(rest.len().min(PUT_PART_BYTES));
        if let Err(error) = upload.put_part(PutPayload::from(part)).await {
            if let Err(left) = upload.abort().await {
                tracing::warn!(key = %key, error = %left, "unfinished upload was not removed");
            }
            return Err(error);
        }
    }
    upload.complete().await?;
    Ok(())
}

impl Drop for S3Objects {
    fn drop(&mut self) {
        // Allowed on async threads too.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Objects for S3Objects {
    fn put(&self, key: &str, content: Bytes) -> io::Result<()> {
        let key = self.key(key)?;
        let clients = if content.len() <= SMALL_PUT_BYTES_MAX { &self.store } else { &self.sender };
        self.run(send(self.client(clients), key, content))
    }

    fn put_new(&self, key: &str, content: Bytes) -> io::Result<()> {
        let key = self.key(key)?;
        self.wait(move |store| async move {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            store.put_opts(&key, PutPayload::from(content), options).await.map(drop)
        })
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> io::Result<Bytes> {
        let place = self.key(key)?;
        let (begun, end) = (Instant::now(), range.end);
        let read = self.read(move |store| async move { store.get_range(&place, range).await });
        match &read {
            // A quick refusal, perhaps because the object is shorter than it was.
            Err(error) if error.kind() == io::ErrorKind::Other && begun.elapsed() < QUICK => match self.len(key) {
                Ok(Some(len)) if len < end => {
                    let message = format!("object {key} in {} has {len} bytes, not {end} and more", self.url);
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, message))
                }
                _ => read,
            },
            _ => read,
        }
    }

    fn len(&self, key: &str) -> io::Result<Option<u64>> {
        let key = self.key(key)?;
        match self.read(move |store| async move { store.head(&key).await }) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        let key = self.key(key)?;
        match self.wait(move |store| async move { store.delete(&key).await }) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<ObjectInfo>> {
        let below = match (self.prefix.as_str(), prefix) {
            ("", "") => None,
            (ours, "") => Some(Key::parse(ours).map_err(|error| invalid(error.to_string()))?),
            (_, prefix) => Some(self.key(prefix)?),
        };
        let found: Vec<_> =
            self.read(move |store| async move { store.list(below.as_ref()).try_collect::<Vec<_>>().await })?;
        let mut infos: Vec<ObjectInfo> = found
            .into_iter()
            .filter_map(|meta| {
                let key = meta.location.as_ref();
                let key =
                    if self.prefix.is_empty() { key } else { key.strip_prefix(&self.prefix)?.strip_prefix('/')? };
                Some(ObjectInfo { key: key.to_owned(), len: meta.size })
            })
            .collect();
        infos.sort();
        Ok(infos)
    }

    fn url(&self) -> &str {
        &self.url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Cause {
        text: &'static str,
        #[source]
        source: Option<Box<Cause>>,
    }

    #[test]
    fn causes_are_said_once() {
        let check = |texts: &[&'static str], expected: &str| {
            let link = |source, text: &&'static str| Some(Box::new(Cause { text, source }));
            let error = texts.iter().rev().fold(None, link).unwrap();
            let text = explain(&*error);
            assert!(text.starts_with(expected), "{text}");
        };
        check(&["store: retry: no answer", "retry: no answer", "no answer"], "store: retry: no answer");
        check(&["request", "refused"], "request: refused");
        check(&["error", "PUT http://169.254.169.254/latest/api/token"], "no credentials: set AWS_ACCESS_KEY_ID");
        check(&["builder error", "URL scheme is not allowed"], "AWS_ENDPOINT_URL is plain HTTP");
    }
}
