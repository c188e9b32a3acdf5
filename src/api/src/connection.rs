//! One connection: what it knows of itself, and when it is closed for saying nothing or too little.
//!
//! hyper bounds headers by size; time is bounded here: a connection without a request in flight is closed after
//! `idle_timeout`, one that began a request's head and does not end it after `header_timeout`; bodies must be there
//! within `body_timeout`.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Who is at the other end; in the extensions of every request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// Address of the other end of the connection.
    pub(crate) address: SocketAddr,
}

/// The clock of one connection.
#[derive(Debug)]
pub(crate) struct Activity {
    began: Instant,
    in_flight: AtomicUsize,
    /// Milliseconds since `began` of the last read or the last end of an answer.
    last_ms: AtomicU64,
    /// Milliseconds since `began`, plus one, of the first byte of a head that is not complete; 0: none.
    partial_ms: AtomicU64,
    /// HTTP/2: frames that are no request may come at any time.
    http2: AtomicBool,
    read_any: AtomicBool,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            in_flight: AtomicUsize::new(0),
            last_ms: AtomicU64::new(0),
            partial_ms: AtomicU64::new(0),
            http2: AtomicBool::new(false),
            read_any: AtomicBool::new(false),
        })
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn read(&self, bytes: &[u8]) {
        let now = self.now_ms();
        self.last_ms.store(now, Ordering::Relaxed);
        if !self.read_any.swap(true, Ordering::Relaxed) && bytes.starts_with(b"PRI") {
            self.http2.store(true, Ordering::Relaxed);
        }
        if !self.http2.load(Ordering::Relaxed) && self.in_flight.load(Ordering::Relaxed) == 0 {
            // An error says that the head began before.
            self.partial_ms.compare_exchange(0, now + 1, Ordering::Relaxed, Ordering::Relaxed).ok();
        }
    }

    /// A request's head is complete; its answer ends when the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.partial_ms.store(0, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// True when the connection must be closed now.
    pub(crate) fn is_overdue(&self, header_timeout: Duration, idle_timeout: Duration) -> bool {
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let now = self.now_ms();
        let since = |then: u64| Duration::from_millis(now.saturating_sub(then));
        let partial = self.partial_ms.load(Ordering::Relaxed);
        if partial > 0 && since(partial - 1) >= header_timeout {
            trefoil_runtime::limits::hit("header_timeout");
            return true;
        }
        if !self.read_any.load(Ordering::Relaxed) && since(0) >= header_timeout {
            trefoil_runtime::limits::hit("header_timeout");
            return true;
        }
        since(self.last_ms.load(Ordering::Relaxed)) >= idle_timeout
    }
}

/// A request whose answer has not ended.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.last_ms.store(self.0.now_ms(), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream whose reads are noted.
pub(crate) struct Watched<S> {
    inner: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(crate) fn new(inner: S, activity: Arc<Activity>) -> Self {
        Self { inner, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if let Some(new) = buf.filled().get(before..).filter(|n| !n.is_empty()) {
            self.activity.read(new);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// The body did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("request body did not come within {0:?} (limit body_timeout)")]
pub(crate) struct BodyTimeout(pub(crate) Duration);

/// How long an endless body may be silent.
const ENDLESS_SILENCE_MAX: Duration = Duration::from_secs(600);

/// A request's body that must end within a time; one that may be endless must go on within a time.
pub(crate) struct TimedBody {
    inner: hyper::body::Incoming,
    timeout: Duration,
    is_endless: bool,
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl TimedBody {
    pub(crate) fn new(inner: hyper::body::Incoming, timeout: Duration, is_endless: bool) -> Self {
        let timeout = if is_endless { timeout.max(ENDLESS_SILENCE_MAX) } else { timeout };
        Self { inner, timeout, is_endless, deadline: None }
    }
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            if self.is_endless {
                self.deadline = None;
            }
            return Poll::Ready(frame.map(|f| f.map_err(Into::into)));
        }
        let timeout = self.timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(deadline.as_mut().poll(cx));
        trefoil_runtime::limits::hit("body_timeout");
        Poll::Ready(Some(Err(BodyTimeout(timeout).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body that keeps its request in flight until it has ended.
pub(crate) struct TrackedBody {
    inner: Body,
    _in_flight: InFlight,
}

impl TrackedBody {
    pub(crate) fn new(inner: Body, in_flight: InFlight) -> Self {
        Self { inner, _in_flight: in_flight }
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
