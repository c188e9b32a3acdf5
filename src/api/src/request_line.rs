//! Bytes in a request's target that URLs may not hold, but clients send: they are percent-encoded before hyper reads them.
//!
//! `curl -g 'http://host/api/v1/query?query={job="x"}'` is such a request; hyper refuses it without a word, Go's server
//! takes it. Only HTTP/1 is touched, and of it only the target in the request line, byte by byte, so that a read may end
//! anywhere.
//!
//! Where the next request line begins is never guessed. After the end of a head nothing more is handed on until hyper has
//! parsed that head and said how long the body is; when hyper and this module do not agree on where the head ends, or
//! when the length is not known (chunked bodies, upgrades), the rest of the connection passes as it is.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::Body as _;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};

/// Bytes that are read at once while a head is expected.
const CHUNK_BYTES: usize = 4096;

/// What the next byte is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Empty lines before a request line.
    Start,
    /// The method; how many of its bytes were those of `PRI`, with which HTTP/2 begins.
    Method { preface: u8 },
    /// The target.
    Target,
    /// A line of the head after the target.
    Line,
    /// A line begins; the head ends if it is empty.
    LineStart,
    /// A line began with CR.
    LineStartCr,
    /// The head has ended and hyper has not said what follows.
    Awaiting,
    /// So many bytes of a body.
    Body(u64),
    /// Whatever follows is left alone.
    Through,
}

/// What a connection's reader and its service share.
#[derive(Debug)]
pub(crate) struct Framing(Mutex<State>);

impl Framing {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Start)))
    }

    /// Says what hyper made of a head: to be called with every request, before its body is read.
    pub(crate) fn parsed(&self, request: &hyper::Request<hyper::body::Incoming>) {
        let is_plain = request.version() <= http::Version::HTTP_11
            && request.method() != http::Method::CONNECT
            && !request.headers().contains_key(http::header::UPGRADE);
        let length = if request.body().is_end_stream() { Some(0) } else { request.body().size_hint().exact() };
        self.follows(length.filter(|_| is_plain));
    }

    /// A body of so many bytes follows; `None`: nobody knows.
    fn follows(&self, length: Option<u64>) {
        let mut state = self.0.lock();
        *state = match (*state, length) {
            (State::Awaiting, Some(0)) => State::Start,
            (State::Awaiting, Some(length)) => State::Body(length),
            _ => State::Through,
        };
    }
}

/// A stream whose request lines hyper can read.
pub(crate) struct Readable<S> {
    inner: Take<S>,
    framing: Arc<Framing>,
    /// Read, not yet looked at.
    raw: Vec<u8>,
    raw_at: usize,
    /// Looked at, not yet handed on.
    out: Vec<u8>,
    out_at: usize,
}

impl<S: AsyncRead> Readable<S> {
    pub(crate) fn new(inner: S, framing: Arc<Framing>) -> Self {
        Self { inner: inner.take(u64::MAX), framing, raw: Vec::new(), raw_at: 0, out: Vec::new(), out_at: 0 }
    }

    /// Hands on what was looked at; false when there is nothing.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.out[self.out_at..];
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        self.out_at += n;
        if self.out_at == self.out.len() {
            self.out.clear();
            self.out_at = 0;
        }
        n > 0
    }

    /// Looks at what was read, up to the end of a head.
    fn look(&mut self) {
        let mut state = self.framing.0.lock();
        if *state == State::Awaiting {
            *state = State::Through;
        }
        while let Some(rest) = self.raw.get(self.raw_at..).filter(|r| !r.is_empty()) {
            match *state {
                State::Awaiting => break,
                State::Body(left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.out.extend_from_slice(&rest[..n]);
                    self.raw_at += n;
                    *state = after_body(left, n);
                }
                State::Through => {
                    self.out.extend_from_slice(rest);
                    self.raw_at = self.raw.len();
                }
                before => {
                    let byte = rest[0];
                    self.raw_at += 1;
                    if before == State::Target && must_be_encoded(byte) {
                        const HEX: &[u8; 16] = b"0123456789ABCDEF";
                        let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                        self.out.extend_from_slice(&[b'%', high, low]);
                    } else {
                        self.out.push(byte);
                    }
                    *state = after(before, byte);
                }
            }
        }
        if self.raw_at == self.raw.len() {
            self.raw = Vec::new();
            self.raw_at = 0;
        }
    }
}

fn after_body(left: u64, n: usize) -> State {
    match left - n as u64 {
        0 => State::Start,
        left => State::Body(left),
    }
}

/// What follows a byte of a head.
fn after(state: State, byte: u8) -> State {
    match (state, byte) {
        (State::Start, b'\r' | b'\n') => State::Start,
        (State::Start, b'P') => State::Method { preface: 1 },
        (State::Method { preface: 1 }, b'R') => State::Method { preface: 2 },
        (State::Method { preface: 2 }, b'I') => State::Method { preface: 3 },
        (State::Method { preface: 3 }, b' ') => State::Through,
        (State::Method { .. }, b' ') => State::Target,
        (State::Method { .. }, b'\n') => State::LineStart,
        (State::Start | State::Method { .. }, _) => State::Method { preface: 0 },
        (State::Target, b' ') => State::Line,
        (State::Target, b'\n') | (State::Line, b'\n') => State::LineStart,
        (State::Target, _) => State::Target,
        (State::LineStart, b'\r') => State::LineStartCr,
        (State::LineStart | State::LineStartCr, b'\n') => State::Awaiting,
        _ => State::Line,
    }
}

/// Printable bytes that are not in the grammar of URLs (RFC 3986, appendix A), and those of other alphabets. Control
/// characters stay, and hyper refuses them.
fn must_be_encoded(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80..)
}

impl<S: AsyncRead + Unpin> AsyncRead for Readable<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if buf.remaining() == 0 || this.give(buf) {
                return Poll::Ready(Ok(()));
            }
            if this.raw_at < this.raw.len() {
                this.look();
                continue;
            }
            let state = *this.framing.0.lock();
            let limit = match state {
                State::Awaiting | State::Through => u64::MAX,
                State::Body(left) => left,
                _ => {
                    let mut chunk = [0; CHUNK_BYTES];
                    let mut read = ReadBuf::new(&mut chunk);
                    ready!(Pin::new(this.inner.get_mut()).poll_read(cx, &mut read))?;
                    if read.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    (this.raw, this.raw_at) = (read.filled().to_vec(), 0);
                    continue;
                }
            };
            let before = buf.filled().len();
            this.inner.set_limit(limit);
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            let n = buf.filled().len() - before;
            let mut state = this.framing.0.lock();
            match *state {
                State::Body(left) => *state = after_body(left, n),
                // hyper looked for more of a head that has ended, as seen from here.
                State::Awaiting if n > 0 => *state = State::Through,
                _ => {}
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Readable<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.inner.get_mut()).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.inner.get_mut()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.get_ref().is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a text in pieces of a size.
    struct Pieces<'a>(&'a [u8], usize);

    impl AsyncRead for Pieces<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let n = self.0.len().min(self.1).min(buf.remaining());
            buf.put_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Poll::Ready(Ok(()))
        }
    }

    /// Reads requests as a server does, and returns all that it read. Bodies of heads with `chunked` have no known length.
    fn read_all(text: &[u8], piece: usize, room: usize) -> Vec<u8> {
        let framing = Framing::new();
        let mut stream = Readable::new(Pieces(text, piece), Arc::clone(&framing));
        let (mut out, mut from, mut in_head) = (Vec::new(), 0, true);
        let mut body = 0;
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            let mut space = vec![0; room];
            let mut buf = ReadBuf::new(&mut space);
            assert!(matches!(Pin::new(&mut stream).poll_read(&mut cx, &mut buf), Poll::Ready(Ok(()))));
            if buf.filled().is_empty() {
                return out;
            }
            out.extend_from_slice(buf.filled());
            loop {
                if in_head {
                    let Some(end) = out[from..].windows(4).position(|w| w == b"\r\n\r\n") else { break };
                    let head = String::from_utf8_lossy(&out[from..from + end]).into_owned();
                    from += end + 4;
                    let length = head.split("length: ").nth(1).map(|n| n.trim().parse().unwrap());
                    framing.follows(if head.contains("chunked") { None } else { Some(length.unwrap_or(0)) });
                    body = if head.contains("chunked") { u64::MAX } else { length.unwrap_or(0) };
                }
                let n = body.min((out.len() - from) as u64);
                (body, from) = (body - n, from + n as usize);
                in_head = body == 0;
                if !in_head {
                    break;
                }
            }
        }
    }

    fn check(text: &[u8], want: &str) {
        for piece in [1, 2, 3, 5, 7, 16, 100, 10_000] {
            for room in [1, 2, 24, 8192] {
                let got = read_all(text, piece, room);
                assert_eq!(String::from_utf8_lossy(&got), want, "pieces of {piece}, room for {room}");
            }
        }
    }

    #[test]
    fn targets_are_encoded_and_nothing_else() {
        let mut text = b"\r\nGET /q?x={a=\"b\"}&y=<|>\\^`".to_vec();
        text.extend_from_slice(b"\xc3\xa9\xff%7b HTTP/1.1\r\nhost: {h}\r\n\r\n");
        let want = "\r\nGET /q?x=%7Ba=%22b%22%7D&y=%3C%7C%3E%5C%5E%60%C3%A9%FF%7b HTTP/1.1\r\nhost: {h}\r\n\r\n";
        check(&text, want);
    }

    #[test]
    fn bodies_and_pipelined_requests() {
        // The body looks like requests.
        let body = "\r\n\r\nGET /{} HTTP/1.1\r\n\r\nPOST /{";
        let post = |target: &str| format!("POST {target} HTTP/1.1\r\nlength: {}\r\n\r\n{body}", body.len());
        let get = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n");
        let text = |open: &str| {
            let target = format!("/{open}");
            [get(&target), post(&target), get("/"), get(&target), post(&target), post(&target), get(&target)].concat()
        };
        check(text("{").as_bytes(), &text("%7B"));
    }

    #[test]
    fn what_follows_an_unknown_length_is_left_alone() {
        let first = "POST /{ HTTP/1.1\r\nchunked\r\n\r\n";
        let rest = "2\r\n{}\r\n0\r\n\r\nGET /{ HTTP/1.1\r\n\r\n";
        check(format!("{first}{rest}").as_bytes(), &format!("{}{rest}", first.replace('{', "%7B")));
        let http2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n GET /{ HTTP/1.1\r\n\r\n";
        check(http2.as_bytes(), http2);
    }

    #[test]
    fn other_ends_of_heads_stop_it() {
        // This reader knows CR LF only and goes on where the head has ended for us: nothing is touched from there on.
        let text = "GET /{ HTTP/1.1\nhost: x\n\nGET /{ HTTP/1.1\r\n\r\nGET /{ HTTP/1.1\r\n\r\n";
        check(text.as_bytes(), &text.replacen('{', "%7B", 1));
        // One that sees an end where we see none.
        let framing = Framing::new();
        framing.follows(Some(0));
        assert_eq!(*framing.0.lock(), State::Through);
    }
}
