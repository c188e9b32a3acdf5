//! The one table of routes: what is served where, and what a client must be allowed to do for it.
//!
//! A dialect hands in its routes by a function `pub(crate) fn routes() -> Vec<Route>` that is listed in [`all`]. A
//! route cannot be made without saying its [`Access`].

use std::convert::Infallible;
use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on, on_service};
use http::{HeaderValue, Method, StatusCode};
use prometheus::{HistogramVec, IntCounterVec, register_histogram_vec, register_int_counter_vec};
use tower::Service;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tracing::{Instrument, info_span};
use trefoil_config::trefoil::Scope;

use crate::error::ApiError;
use crate::state::AppState;

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("trefoil_http_requests_total", "Requests by route and status.", &["route", "code"])
        .expect("unique metric name")
});
static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    register_histogram_vec!(
        "trefoil_http_request_duration_seconds",
        "Time from a request's headers to its answer's.",
        &["route"],
        vec![0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 20.0, 60.0]
    )
    .expect("unique metric name")
});

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a word: health and the page's static files, nothing else.
    Public,
    /// Whoever may read.
    Read,
    /// Whoever may send data in.
    Write,
    /// Whoever may administrate.
    Admin,
}

impl Access {
    /// The scope that is asked for.
    pub fn scope(self) -> Option<Scope> {
        match self {
            Self::Public => None,
            Self::Read => Some(Scope::Read),
            Self::Write => Some(Scope::Write),
            Self::Admin => Some(Scope::Admin),
        }
    }
}

/// One entry of the table.
pub struct Route {
    /// Methods served; `GET` serves `HEAD` too, unless the route is strict.
    pub methods: Vec<Method>,
    /// Path in axum's form (`/api/v1/label/{name}/values`); also the label `route` of the metrics.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    handler: MethodRouter<AppState, Infallible>,
}

impl Route {
    /// A route for the given methods.
    pub fn new<H, T>(methods: &[Method], path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        Self { methods: methods.to_vec(), path, access, handler: on(filter(methods), handler) }
    }

    /// A route for `GET`.
    pub fn get<H, T>(path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        Self::new(&[Method::GET], path, access, handler)
    }

    /// A route for `POST`.
    pub fn post<H, T>(path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        Self::new(&[Method::POST], path, access, handler)
    }

    /// A route for `GET` and `POST`.
    pub fn get_post<H, T>(path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        Self::new(&[Method::GET, Method::POST], path, access, handler)
    }

    /// A route for `POST` and `PUT`.
    pub fn post_put<H, T>(path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, AppState>,
        T: 'static,
    {
        Self::new(&[Method::POST, Method::PUT], path, access, handler)
    }

    /// Refuses `HEAD` and says in `Allow` what is served, as the reference does (its router, `web/web.go`).
    pub(crate) fn strict(mut self) -> Self {
        let mut allowed: Vec<&str> = self.methods.iter().map(Method::as_str).chain(["OPTIONS"]).collect();
        allowed.sort_unstable();
        let allowed = HeaderValue::try_from(allowed.join(", ")).expect("names of methods make a header");
        let refuse = move |request: Request| async move {
            let mut response = wrong_method(request).await;
            response.headers_mut().insert(http::header::ALLOW, allowed);
            response
        };
        self.handler = self.handler.head(refuse.clone()).fallback(refuse);
        self
    }

    /// A route for `POST` that a tower service serves, as gRPC services are.
    pub fn service<S>(path: &'static str, access: Access, service: S) -> Self
    where
        S: Service<Request, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Response: IntoResponse + 'static,
        S::Future: Send + 'static,
    {
        Self { methods: vec![Method::POST], path, access, handler: on_service(MethodFilter::POST, service) }
    }
}

fn filter(methods: &[Method]) -> MethodFilter {
    methods
        .iter()
        .filter_map(|m| MethodFilter::try_from(m.clone()).ok())
        .reduce(MethodFilter::or)
        .expect("every route names a method that axum knows")
}

/// All routes of the main listener.
pub fn all(state: &AppState) -> Vec<Route> {
    let mut routes = crate::prometheus::routes();
    routes.extend(crate::loki::routes());
    routes.extend(crate::tempo::routes());
    routes.extend(crate::jaeger::routes());
    routes.extend(crate::zipkin::routes());
    routes.extend(crate::elasticsearch::routes());
    routes.extend(crate::log_doors::routes());
    routes.extend(crate::logs::routes());
    routes.extend(crate::service_graph::routes());
    routes.extend(crate::traces::routes());
    routes.extend(crate::correlate::routes());
    routes.extend(crate::dashboards::routes());
    routes.extend(crate::page::routes());
    routes.extend(crate::ingest_routes::routes());
    routes.extend(crate::ingest_routes::grpc_routes(state));
    routes
}

/// The routes of the listener for OTLP over HTTP.
pub fn otlp_http() -> Vec<Route> {
    let mut routes = crate::ingest_routes::otlp_http_routes();
    routes.extend(crate::prometheus::health_routes());
    routes
}

/// The routes of the listener for Zipkin: its senders and its query API.
pub fn zipkin() -> Vec<Route> {
    let mut routes = crate::ingest_routes::zipkin_routes();
    routes.extend(crate::zipkin::own_routes());
    routes.extend(crate::prometheus::health_routes());
    routes
}

/// The routes of the listener for Jaeger's clients: spans and sampling.
pub fn jaeger() -> Vec<Route> {
    let mut routes = crate::jaeger::collector::http_routes();
    routes.extend(crate::jaeger::sampling::own_routes());
    routes.extend(crate::prometheus::health_routes());
    routes
}

/// The routes of the listener for OTLP over gRPC.
pub fn otlp_grpc(state: &AppState) -> Vec<Route> {
    crate::ingest_routes::grpc_routes(state)
}

/// The router of the main listener: all routes, compressed answers, the page for the rest.
pub fn main_router(state: &AppState) -> Router {
    router(state, all(state)).layer(CompressionLayer::new().compress_when(
        SizeAbove::new(1024).and(NotForContentType::GRPC).and(NotForContentType::SSE).and(NotForContentType::IMAGES),
    ))
}

/// What a route's middleware knows.
#[derive(Clone)]
struct Guarded {
    state: AppState,
    path: &'static str,
    access: Access,
}

/// Builds a router of a table: metrics, span and authentication round every handler.
pub fn router(state: &AppState, routes: Vec<Route>) -> Router {
    let mut router: Router<AppState> = Router::new();
    for route in routes {
        let guarded = Guarded { state: state.clone(), path: route.path, access: route.access };
        router = router.route(route.path, route.handler.layer(from_fn_with_state(guarded, guard)));
    }
    router.method_not_allowed_fallback(wrong_method).fallback(not_found).with_state(state.clone())
}

async fn wrong_method(request: Request) -> Response {
    if crate::auth::is_grpc(request.headers()) {
        return tonic::Status::unimplemented("no such method").into_http::<Body>();
    }
    let path = request.uri().path().to_owned();
    let form = [(http::header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    let response = (StatusCode::METHOD_NOT_ALLOWED, form, "Method Not Allowed\n").into_response();
    crate::log_doors::dress(&path, response)
}

async fn not_found(request: Request) -> Response {
    if crate::auth::is_grpc(request.headers()) {
        return tonic::Status::unimplemented("no such method").into_http::<Body>();
    }
    if crate::elasticsearch::owns(request.uri().path()) {
        return crate::elasticsearch::dress(crate::elasticsearch::courtesy::unknown(&request));
    }
    ApiError::not_found("404 page not found").into_text()
}

/// Measures, asks who it is, and hands on.
async fn guard(State(route): State<Guarded>, request: Request, next: Next) -> Response {
    let span = info_span!(
        "http",
        otel.name = format!("{} {}", request.method(), route.path),
        otel.kind = "server",
        method = %request.method(),
        route = route.path,
        http.response.status_code = tracing::field::Empty
    );
    let began = route.state.clock.monotonic();
    let response = async {
        match crate::auth::admit(&route.state, route.access, request).await {
            Ok(request) => crate::gate::as_client(crate::gate::client_of(&request), next.run(request)).await,
            Err(refusal) => refusal,
        }
    }
    .instrument(span.clone())
    .await;
    let response = crate::log_doors::dress(route.path, response);
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    REQUESTS.with_label_values(&[route.path, code(status)]).inc();
    let took = route.state.clock.monotonic().saturating_sub(began);
    SECONDS.with_label_values(&[route.path]).observe(took.as_secs_f64());
    response
}

/// A status as a label: few values, whatever a handler answers.
fn code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200 => "200",
        204 => "204",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        408 => "408",
        413 => "413",
        422 => "422",
        429 => "429",
        499 => "499",
        500 => "500",
        503 => "503",
        504 => "504",
        other => match other / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        },
    }
}
