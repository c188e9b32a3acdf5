//! Listeners: bound before any work starts, served by supervised tasks, drained at the end.
//!
//! [`Servers::bind`] takes the ports, [`Servers::serve`] begins to answer (`/-/healthy` only, everything else 503), and
//! [`Servers::open`] puts the routes in force once the stores are there.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{HeaderName, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::RwLock;
use prometheus::{IntCounterVec, IntGaugeVec, register_int_counter_vec, register_int_gauge_vec};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;
use trefoil_config::{ListenAddress, LoadedConfig};
use trefoil_runtime::{Limits, OnError, Phase, StartProgress, Stop, Tasks};

use crate::connection::{Activity, Peer, TimedBody, TrackedBody, Watched};
use crate::request_line::{Framing, Readable};
use crate::routes;
use crate::state::AppState;
use crate::tls::{TlsDoor, TlsError, TlsSettings};

static CONNECTIONS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!("trefoil_http_connections", "Open connections by listener.", &["listener"])
        .expect("unique metric name")
});
static ACCEPT_ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("trefoil_http_accept_errors_total", "Connections not accepted.", &["listener"])
        .expect("unique metric name")
});

/// How often a connection looks whether it is overdue.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long a request that must not be refused waits for the end of the start.
const START_WAIT: Duration = Duration::from_secs(30);
/// Wait after an accept that failed, as it does without free file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be taken.
    #[error("listener {listener}: cannot listen on {address}")]
    Address {
        /// Key of the listener in the configuration.
        listener: &'static str,
        /// Address as configured.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its certificates cannot be used.
    #[error("listener {listener}")]
    Tls {
        /// Key of the listener in the configuration.
        listener: &'static str,
        /// Why.
        #[source]
        source: TlsError,
    },
}

/// Which routes a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everything.
    Http,
    /// OTLP over gRPC.
    OtlpGrpc,
    /// OTLP over HTTP.
    OtlpHttp,
    /// Zipkin's spans.
    Zipkin,
    /// Jaeger's spans over HTTP.
    Jaeger,
}

impl Kind {
    /// The key in the configuration, and the label `listener` of the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::OtlpGrpc => "otlp_grpc",
            Self::OtlpHttp => "otlp_http",
            Self::Zipkin => "zipkin",
            Self::Jaeger => "jaeger",
        }
    }
}

/// A port that is taken.
pub struct Listener {
    kind: Kind,
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<TlsDoor>,
}

impl Listener {
    /// Takes a port. Errors name listener and address.
    pub async fn bind(kind: Kind, address: &ListenAddress, tls: Option<TlsSettings>) -> Result<Self, BindError> {
        let listener = kind.name();
        let fault = |source| BindError::Address { listener, address: address.to_string(), source };
        let tls = tls.map(TlsDoor::new).transpose().map_err(|source| BindError::Tls { listener, source })?;
        let socket = match address.socket_addr() {
            Some(socket) => TcpListener::bind(socket).await,
            None => TcpListener::bind((address.host(), address.port())).await,
        }
        .map_err(fault)?;
        let address = socket.local_addr().map_err(fault)?;
        Ok(Self { kind, socket, address, tls })
    }

    /// The address that was taken, its port chosen by the system when the configured one was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Routers once the state is there.
struct Open {
    state: AppState,
    http: Router,
    otlp_grpc: Router,
    otlp_http: Router,
    zipkin: Router,
    jaeger: Router,
    prefix: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What a connection needs to know of the process.
struct Shared {
    limits: Limits,
    /// What is told until `open` is set.
    start: StartProgress,
    open: RwLock<Option<Arc<Open>>>,
    /// Becomes true with `open`.
    opened: watch::Sender<bool>,
}

impl Shared {
    /// The routers; who `waits` gets them at the end of the start, unless that takes long.
    async fn opened(&self, waits: bool) -> Option<Arc<Open>> {
        let open = self.open.read().clone();
        if open.is_some() || !waits {
            return open;
        }
        let mut opened = self.opened.subscribe();
        // Also when nobody opens any more the wait ends.
        drop(tokio::time::timeout(START_WAIT, opened.wait_for(|is_open| *is_open)).await);
        self.open.read().clone()
    }
}

/// All listeners of the process.
pub struct Servers {
    listeners: Vec<Arc<Listener>>,
    shared: Arc<Shared>,
}

impl Servers {
    /// Takes the ports of all listeners that are enabled; nothing is answered yet.
    pub async fn bind(config: &LoadedConfig) -> Result<Self, BindError> {
        let doors = &config.config.trefoil.listeners;
        let mut listeners = Vec::new();
        for (kind, door) in [
            (Kind::Http, &doors.http),
            (Kind::OtlpGrpc, &doors.otlp_grpc),
            (Kind::OtlpHttp, &doors.otlp_http),
            (Kind::Zipkin, &doors.zipkin),
            (Kind::Jaeger, &doors.jaeger),
        ] {
            if !door.enabled {
                continue;
            }
            let web = config.web.as_ref().and_then(|w| {
                w.tls_server_config.as_ref().map(|tls| TlsSettings::from_web(tls, w.http_server_config.http2))
            });
            let own = door.tls.as_ref().map(TlsSettings::from_listener);
            let tls = own.or(web).transpose().map_err(|source| BindError::Tls { listener: kind.name(), source })?;
            for address in door.addresses() {
                listeners.push(Arc::new(Listener::bind(kind, address, tls.clone()).await?));
            }
        }
        let limits = config.config.trefoil.limits.limits.clone();
        Ok(Self {
            listeners,
            shared: Arc::new(Shared {
                limits,
                start: StartProgress::default(),
                open: RwLock::new(None),
                opened: watch::Sender::new(false),
            }),
        })
    }

    /// The address of a listener, its first one when it has several, when it is enabled.
    pub fn address(&self, kind: Kind) -> Option<SocketAddr> {
        self.addresses(kind).next()
    }

    /// All addresses of a listener.
    pub fn addresses(&self, kind: Kind) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().filter(move |l| l.kind == kind).map(|l| l.address)
    }

    /// Where the stores tell how far the start is; shown until [`Servers::open`].
    pub fn start_progress(&self) -> StartProgress {
        self.shared.start.clone()
    }

    /// Begins to accept; until [`Servers::open`] only `/-/healthy` says 200 and `_bulk` waits. The tasks end in [`Phase::Accept`]:
    /// accepting stops at once, connections finish what they are at.
    pub fn serve(&self, tasks: &Tasks) {
        for listener in &self.listeners {
            let (listener, shared, own) = (Arc::clone(listener), Arc::clone(&self.shared), tasks.clone());
            tracing::info!(
                listener = listener.kind.name(),
                address = %listener.address,
                tls = listener.tls.is_some(),
                "listening"
            );
            let permits = Arc::new(Semaphore::new(shared.limits.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
            tasks.spawn("accept", Phase::Accept, OnError::Stop, move |stop| {
                accept(Arc::clone(&listener), Arc::clone(&shared), own.clone(), Arc::clone(&permits), stop)
            });
        }
    }

    /// Puts the routes in force.
    pub fn open(&self, state: &AppState) {
        let config = state.config();
        let configured = config.web.iter().flat_map(|w| &w.http_server_config.headers);
        let headers = configured.filter_map(|(name, value)| {
            Some((HeaderName::try_from(name.as_str()).ok()?, HeaderValue::try_from(value.as_str()).ok()?))
        });
        let open = Open {
            http: routes::main_router(state),
            otlp_grpc: routes::router(state, routes::otlp_grpc(state)),
            otlp_http: routes::router(state, routes::otlp_http()),
            zipkin: routes::router(state, routes::zipkin()),
            jaeger: routes::router(state, routes::jaeger()),
            prefix: state.path_prefix().to_owned(),
            headers: headers.collect(),
            state: state.clone(),
        };
        *self.shared.open.write() = Some(Arc::new(open));
        self.shared.opened.send_replace(true);
    }
}

async fn accept(
    listener: Arc<Listener>,
    shared: Arc<Shared>,
    tasks: Tasks,
    permits: Arc<Semaphore>,
    stop: Stop,
) -> Result<(), trefoil_runtime::TaskError> {
    let name = listener.kind.name();
    loop {
        // Without a permit accepting pauses; clients wait in the system's queue.
        let permit = match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                trefoil_runtime::limits::hit("connections_max");
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    permit = Arc::clone(&permits).acquire_owned() => permit?,
                }
            }
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.socket.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                ACCEPT_ERRORS.with_label_values(&[name]).inc();
                tracing::debug!(listener = name, %error, "connection not accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let (listener, shared) = (Arc::clone(&listener), Arc::clone(&shared));
        tasks.spawn_once("connection", Phase::Accept, OnError::Log, move |stop| async move {
            let _permit = permit;
            let open = CONNECTIONS.with_label_values(&[name]);
            open.inc();
            let _open = Decrement(open);
            connection(&listener, &shared, stream, address, stop).await;
            Ok(())
        });
    }
}

struct Decrement(prometheus::IntGauge);

impl Drop for Decrement {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn connection(listener: &Listener, shared: &Arc<Shared>, stream: TcpStream, address: SocketAddr, stop: Stop) {
    // Without it small answers wait; nothing else is lost when it fails.
    stream.set_nodelay(true).ok();
    let Some(door) = &listener.tls else {
        return serve(listener.kind, shared, stream, address, stop).await;
    };
    let acceptor = tokio_rustls::TlsAcceptor::from(door.current());
    let shaken = tokio::select! {
        () = stop.cancelled() => return,
        shaken = tokio::time::timeout(shared.limits.header_timeout, acceptor.accept(stream)) => shaken,
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            ACCEPT_ERRORS.with_label_values(&[listener.kind.name()]).inc();
            tracing::debug!(listener = listener.kind.name(), %address, %error, "tls handshake failed");
            return;
        }
        Err(_) => {
            trefoil_runtime::limits::hit("header_timeout");
            return;
        }
    };
    if !door.allows(stream.get_ref().1.peer_certificates()) {
        tracing::debug!(listener = listener.kind.name(), %address, "client certificate bears no allowed name");
        return;
    }
    serve(listener.kind, shared, stream, address, stop).await;
}

async fn serve<S>(kind: Kind, shared: &Arc<Shared>, stream: S, address: SocketAddr, stop: Stop)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &shared.limits;
    let activity = Activity::new();
    let framing = Framing::new();
    let stream = Readable::new(stream, Arc::clone(&framing));
    let stream = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(limits.headers_max)
        .max_buf_size(limits.header_bytes_max.max(8192))
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams_max)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(Some(100))
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(Duration::from_secs(20));
    let (owner, tracked) = (Arc::clone(shared), Arc::clone(&activity));
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        framing.parsed(&request);
        let in_flight = tracked.begin();
        let shared = Arc::clone(&owner);
        async move {
            let timeout = shared.limits.body_timeout;
            let is_endless = crate::log_doors::is_endless(request.uri().path());
            let mut request = request.map(|body| Body::new(TimedBody::new(body, timeout, is_endless)));
            request.extensions_mut().insert(Peer { address });
            let response = answer(kind, &shared, request).await;
            Ok::<_, Infallible>(response.map(|body| TrackedBody::new(body, in_flight)))
        }
    });
    let connection = builder.serve_connection_with_upgrades(stream, service);
    let mut connection = std::pin::pin!(connection);
    let mut watch = tokio::time::interval(WATCH_EVERY);
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(listener = kind.name(), %address, %error, "connection ended");
                }
                return;
            }
            _ = watch.tick() => {
                if activity.is_overdue(limits.header_timeout, limits.idle_timeout) {
                    return;
                }
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Everything round the router: start-up, limits on the URI, prefix, CORS, headers.
async fn answer(kind: Kind, shared: &Shared, mut request: Request) -> Response {
    let uri_bytes = request.uri().path_and_query().map_or(0, |p| p.as_str().len());
    if uri_bytes > shared.limits.uri_bytes_max {
        trefoil_runtime::limits::hit("uri_bytes_max");
        return StatusCode::URI_TOO_LONG.into_response();
    }
    // HTTP/2 decodes headers before anybody counts them.
    if request.headers().len() > shared.limits.headers_max {
        trefoil_runtime::limits::hit("headers_max");
        return StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response();
    }
    // rsyslog's omelasticsearch drops its lines when the answer is anything but a result.
    let waits = request.uri().path().ends_with("/_bulk");
    let Some(open) = shared.opened(waits).await else { return starting(&request, &shared.start) };
    let origin = request.headers().get(http::header::ORIGIN).cloned();
    let origin = origin.filter(|o| is_shared(request.uri().path()) && open.state.origins.cors_allows(o));
    let mut response = if request.method() == Method::OPTIONS && kind != Kind::OtlpGrpc {
        StatusCode::NO_CONTENT.into_response()
    } else {
        if kind == Kind::Http && !open.prefix.is_empty() {
            if request.uri().path() == "/" {
                return redirect(&format!("{}/", open.prefix));
            }
            strip_prefix(&mut request, &open.prefix);
        }
        let router = match kind {
            Kind::Http => &open.http,
            Kind::OtlpGrpc => &open.otlp_grpc,
            Kind::OtlpHttp => &open.otlp_http,
            Kind::Zipkin => &open.zipkin,
            Kind::Jaeger => &open.jaeger,
        };
        match router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    };
    if !open.state.is_ready() && response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert("x-prometheus-stopping", HeaderValue::from_static("true"));
    }
    add_headers(&mut response, origin, &open.headers);
    response
}

/// Before the stores are there.
fn starting(request: &Request, start: &StartProgress) -> Response {
    if request.uri().path().ends_with("/-/healthy") {
        return "Trefoil is Healthy.\n".into_response();
    }
    if crate::auth::is_grpc(request.headers()) {
        return tonic::Status::unavailable("server is starting").into_http::<Body>();
    }
    let progress = match start.to_string() {
        text if text.is_empty() => text,
        text => format!(" ({text})"),
    };
    let text = format!("Service Unavailable: server is starting{progress}\n");
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
    response.headers_mut().insert("x-prometheus-stopping", HeaderValue::from_static("false"));
    response
}

fn redirect(to: &str) -> Response {
    let mut response = StatusCode::FOUND.into_response();
    if let Ok(to) = HeaderValue::try_from(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

/// Takes the path prefix of the external URL away. What comes without it (a proxy took it away) is served too.
fn strip_prefix(request: &mut Request, prefix: &str) {
    let Some(whole) = request.uri().path_and_query() else { return };
    let Some(rest) = whole.as_str().strip_prefix(prefix) else { return };
    let rest = match rest.chars().next() {
        Some('/') => rest.to_owned(),
        Some('?') | None => format!("/{rest}"),
        Some(_) => return,
    };
    let mut parts = request.uri().clone().into_parts();
    let Ok(path) = rest.parse() else { return };
    parts.path_and_query = Some(path);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

const CSP: &str = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; \
                   base-uri 'self'; frame-ancestors 'none'";

/// Whether pages of allowed origins may use a path: Prometheus' API, and OTLP from browsers. Loki and Jaeger let no
/// other pages read, and neither do we for logs and traces.
fn is_shared(path: &str) -> bool {
    let is_pushed = ["/v1/logs", "/v1/traces", "/v1/metrics", "/api/v2/spans"].iter().any(|p| path.ends_with(p));
    is_pushed || (path.contains("/api/v1/") && !path.contains("/loki/"))
}

/// CORS as Prometheus answers it, and what browsers should not do with our answers.
fn add_headers(response: &mut Response, origin: Option<HeaderValue>, configured: &[(HeaderName, HeaderValue)]) {
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        headers.insert(
            "access-control-allow-headers",
            HeaderValue::from_static("Accept, Authorization, Content-Type, Origin"),
        );
        headers.insert("access-control-allow-methods", HeaderValue::from_static("GET, POST, OPTIONS"));
        headers.insert("access-control-allow-origin", origin);
        headers.insert("access-control-expose-headers", HeaderValue::from_static("Date"));
        headers.append("vary", HeaderValue::from_static("Origin"));
    }
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("content-security-policy", CSP),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    for (name, value) in configured {
        headers.insert(name.clone(), value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_stripped() {
        for (prefix, from, to) in [
            ("/a", "/a/b?c=d", "/b?c=d"),
            ("/a", "/a", "/"),
            ("/a", "/a?x", "/?x"),
            ("/a", "/ab", "/ab"),
            ("/a", "/b", "/b"),
        ] {
            let mut request = Request::builder().uri(from).body(Body::empty()).unwrap();
            strip_prefix(&mut request, prefix);
            assert_eq!(request.uri().to_string(), to, "{from}");
        }
    }
}
