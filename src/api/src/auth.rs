//! Who comes in: users with bcrypt hashes, bearer tokens with scopes, or everybody.
//!
//! Credentials are compared as HMACs under a key that lives as long as the process, in constant time; a password that
//! passed bcrypt once is remembered that way, so that bcrypt is not the price of every request.

mod foreign;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use prometheus::{IntCounterVec, register_int_counter_vec};
use ring::hmac;
use tokio::sync::Semaphore;
use trefoil_config::LoadedConfig;
use trefoil_config::trefoil::Scope;

use crate::connection::Peer;
use crate::routes::Access;
use crate::state::AppState;

static ATTEMPTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("trefoil_auth_attempts_total", "Requests with credentials by outcome.", &["outcome"])
        .expect("unique metric name")
});

/// bcrypt is slow on purpose: so many at once, the others wait.
static BCRYPT: Semaphore = Semaphore::const_new(2);
/// How long a request waits for its bcrypt.
const BCRYPT_WAIT: Duration = Duration::from_secs(10);
/// Longest accepted credential.
const CREDENTIAL_BYTES_MAX: usize = 4096 + 64;
/// Passwords that are remembered as good.
const REMEMBERED_MAX: usize = 1024;
/// Failed tries of an address in [`FAILURES_WINDOW`].
const FAILURES_MAX: u32 = 20;
const FAILURES_WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose failures are counted.
const ADDRESSES_MAX: usize = 10_000;
type Tag = [u8; 32];

/// Who a request comes from; in the extensions of admitted requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the user or token; empty for anonymous.
    pub name: String,
}

struct Token {
    name: String,
    tag: Tag,
    scopes: Vec<Scope>,
}

/// Who may come in; made anew at each reload.
pub struct Auth {
    users: BTreeMap<String, String>,
    tokens: Vec<Token>,
    key: hmac::Key,
    /// HMAC of `user:password` that passed, with the user.
    remembered: Mutex<Vec<(Tag, String)>>,
    failures: Arc<Failures>,
}

/// Failed tries by address.
#[derive(Default)]
struct Failures(Mutex<HashMap<IpAddr, (Duration, u32)>>);

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Unknown,
    Scope,
    TooManyTries,
    Busy,
}

impl Auth {
    /// Reads users and tokens of `trefoil.auth` and the users of the web configuration file.
    ///
    /// Errors when the file of a token cannot be read.
    pub fn from_config(config: &LoadedConfig) -> std::io::Result<Self> {
        let auth = &config.config.trefoil.auth;
        let web = config.web.iter().flat_map(|w| &w.basic_auth_users);
        let users = auth.basic_auth_users.iter().chain(web).map(|(n, h)| (n.clone(), h.expose().to_owned())).collect();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new())
            .map_err(|_| std::io::Error::other("the system gives no random bytes"))?;
        let mut tokens = Vec::new();
        for token in &auth.bearer_tokens {
            let secret = token.read()?;
            let tag = tag(&key, b"token", secret.expose().as_bytes());
            tokens.push(Token { name: token.name.clone(), tag, scopes: token.scopes.clone() });
        }
        Ok(Self { users, tokens, key, remembered: Mutex::default(), failures: Arc::default() })
    }

    /// Reads a new configuration; failed tries go on being counted.
    ///
    /// Errors as [`Auth::from_config`].
    pub fn renewed(&self, config: &LoadedConfig) -> std::io::Result<Self> {
        Ok(Self { failures: Arc::clone(&self.failures), ..Self::from_config(config)? })
    }

    /// True when nobody needs to say who they are.
    pub fn is_open(&self) -> bool {
        self.users.is_empty() && self.tokens.is_empty()
    }

    async fn identify(
        &self,
        headers: &HeaderMap,
        scope: Scope,
        peer: Option<IpAddr>,
        now: Duration,
    ) -> Result<Identity, Refusal> {
        let foreign = foreign::token(headers);
        let Some(header) = headers.get(AUTHORIZATION).or_else(|| headers.get(foreign::DATADOG_KEY)) else {
            return Err(Refusal::Unknown);
        };
        let credential = header.to_str().ok().filter(|h| h.len() <= CREDENTIAL_BYTES_MAX);
        let (scheme, rest) = credential.and_then(|h| h.trim().split_once(' ')).unwrap_or_default();
        let known = if let Some(token) = foreign {
            self.bearer(&token, scope)
        } else if scheme.eq_ignore_ascii_case("bearer") {
            self.bearer(rest.trim(), scope)
        } else if scheme.eq_ignore_ascii_case("basic") {
            self.basic(rest.trim(), peer, now).await
        } else {
            Err(Refusal::Unknown)
        };
        let outcome = match &known {
            Ok(_) => "ok",
            Err(Refusal::Scope) => "scope",
            Err(Refusal::Unknown) => "wrong",
            Err(Refusal::TooManyTries) => "limited",
            Err(Refusal::Busy) => "busy",
        };
        ATTEMPTS.with_label_values(&[outcome]).inc();
        if known == Err(Refusal::Unknown)
            && let Some(peer) = peer
            && !self.failures.count(peer, now)
        {
            return Err(Refusal::TooManyTries);
        }
        known
    }

    fn bearer(&self, token: &str, scope: Scope) -> Result<Identity, Refusal> {
        let tag = tag(&self.key, b"token", token.as_bytes());
        let found = self.tokens.iter().find(|t| same(&t.tag, &tag)).ok_or(Refusal::Unknown)?;
        if found.scopes.iter().any(|s| *s == scope || *s == Scope::Admin) {
            Ok(Identity { name: found.name.clone() })
        } else {
            Err(Refusal::Scope)
        }
    }

    async fn basic(&self, encoded: &str, peer: Option<IpAddr>, now: Duration) -> Result<Identity, Refusal> {
        let decoded = STANDARD.decode(encoded).ok().and_then(|b| String::from_utf8(b).ok()).ok_or(Refusal::Unknown)?;
        let (user, password) = decoded.split_once(':').ok_or(Refusal::Unknown)?;
        let tag = tag(&self.key, b"basic", decoded.as_bytes());
        let known = self.remembered.lock().iter().find(|(t, _)| same(t, &tag)).map(|(_, user)| user.clone());
        if let Some(name) = known {
            return Ok(Identity { name });
        }
        // Only what is not known yet is limited: a good client goes on while somebody else guesses.
        if peer.is_some_and(|ip| self.failures.exhausted(ip, now)) {
            return Err(Refusal::TooManyTries);
        }
        let own = self.users.get(user);
        let is_user = own.is_some();
        // An unknown user costs as much time as a known one.
        let Some(hash) = own.or_else(|| self.users.values().next()).cloned() else { return Err(Refusal::Unknown) };
        let password = password.to_owned();
        let permit = tokio::time::timeout(BCRYPT_WAIT, BCRYPT.acquire()).await;
        let Ok(Ok(_permit)) = permit else { return Err(Refusal::Busy) };
        let checked = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false)).await;
        if !is_user || !checked.unwrap_or(false) {
            return Err(Refusal::Unknown);
        }
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.push((tag, user.to_owned()));
        Ok(Identity { name: user.to_owned() })
    }

    fn challenge(&self) -> &'static str {
        if self.users.is_empty() { "Bearer realm=\"trefoil\"" } else { "Basic realm=\"trefoil\"" }
    }
}

impl Failures {
    /// Counts a failed try; false when it was one too many.
    fn count(&self, ip: IpAddr, now: Duration) -> bool {
        let mut by_address = self.0.lock();
        if by_address.len() >= ADDRESSES_MAX && !by_address.contains_key(&ip) {
            by_address.retain(|_, (since, _)| now.saturating_sub(*since) < FAILURES_WINDOW);
            if by_address.len() >= ADDRESSES_MAX {
                by_address.clear();
            }
        }
        let entry = by_address.entry(ip).or_insert((now, 0));
        if now.saturating_sub(entry.0) >= FAILURES_WINDOW {
            *entry = (now, 0);
        }
        entry.1 += 1;
        entry.1 <= FAILURES_MAX
    }

    fn exhausted(&self, ip: IpAddr, now: Duration) -> bool {
        let by_address = self.0.lock();
        by_address.get(&ip).is_some_and(|(since, n)| *n >= FAILURES_MAX && now.saturating_sub(*since) < FAILURES_WINDOW)
    }
}

fn tag(key: &hmac::Key, kind: &[u8], text: &[u8]) -> Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(kind);
    context.update(&[0]);
    context.update(text);
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// Compares in time that does not depend on where the two differ.
fn same(a: &Tag, b: &Tag) -> bool {
    a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

/// Lets a request in, with its [`Identity`] in the extensions, or answers it.
pub(crate) async fn admit(state: &AppState, access: Access, mut request: Request) -> Result<Request, Response> {
    let Some(scope) = access.scope() else { return Ok(request) };
    let auth = state.auth();
    let peer = request.extensions().get::<Peer>().map(|p| p.address.ip());
    if let Some(reason) = state.origins.refusal(access, &request, peer, auth.is_open()) {
        let (head, body) = request.into_parts();
        drain(body).await;
        return Err(foreign(reason, &head.headers));
    }
    if auth.is_open() {
        request.extensions_mut().insert(Identity { name: String::new() });
        return Ok(request);
    }
    match auth.identify(request.headers(), scope, peer, state.clock.monotonic()).await {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            Ok(request)
        }
        Err(refusal) => {
            let (head, body) = request.into_parts();
            drain(body).await;
            Err(refuse(refusal, scope, auth.challenge(), &head.headers))
        }
    }
}

fn foreign(reason: &str, headers: &HeaderMap) -> Response {
    if is_grpc(headers) {
        return tonic::Status::permission_denied(reason).into_http::<Body>();
    }
    (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response()
}

/// Most bytes of a refused request's body that are read, so that the sender gets to read the answer.
const DRAIN_BYTES_MAX: usize = 1 << 20;
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// Reads and drops a bounded body. Over HTTP/2 a stream whose body nobody read is reset, and the answer with it.
async fn drain(body: Body) {
    let mut body = body;
    let read = async {
        let mut left = DRAIN_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, |d| d.len());
            if bytes > left {
                return;
            }
            left -= bytes;
        }
    };
    // Whoever is slower is cut off.
    drop(tokio::time::timeout(DRAIN_TIME_MAX, read).await);
}

fn refuse(refusal: Refusal, scope: Scope, challenge: &'static str, headers: &HeaderMap) -> Response {
    let (status, code, text) = match refusal {
        Refusal::Unknown => (StatusCode::UNAUTHORIZED, tonic::Code::Unauthenticated, "unauthorized".to_owned()),
        Refusal::Scope => {
            (StatusCode::FORBIDDEN, tonic::Code::PermissionDenied, format!("token lacks the scope {}", scope.as_str()))
        }
        Refusal::TooManyTries => (
            StatusCode::TOO_MANY_REQUESTS,
            tonic::Code::ResourceExhausted,
            "too many failed tries from this address".to_owned(),
        ),
        Refusal::Busy => {
            (StatusCode::SERVICE_UNAVAILABLE, tonic::Code::Unavailable, "passwords cannot be checked now".to_owned())
        }
    };
    if is_grpc(headers) {
        return tonic::Status::new(code, text).into_http::<Body>();
    }
    let mut response = (status, format!("{text}\n")).into_response();
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    match refusal {
        Refusal::Unknown => {
            // The page asks for credentials itself; a Basic challenge would make the browser ask with its own dialog.
            let from_page = headers.get("sec-fetch-dest").is_some_and(|d| d == "empty");
            let challenge = if from_page { "Bearer" } else { challenge };
            out.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        Refusal::TooManyTries => {
            out.insert(RETRY_AFTER, HeaderValue::from(FAILURES_WINDOW.as_secs()));
        }
        Refusal::Busy => {
            out.insert(RETRY_AFTER, HeaderValue::from(5));
        }
        Refusal::Scope => {}
    }
    response
}

/// True for a gRPC request.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_address_and_time() {
        let failures = Failures::default();
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let now = Duration::from_secs(5);
        for _ in 0..FAILURES_MAX {
            assert!(failures.count(a, now));
        }
        assert!(!failures.count(a, now));
        assert!(failures.exhausted(a, now) && !failures.exhausted(b, now));
        assert!(failures.count(b, now));
        assert!(!failures.exhausted(a, now + FAILURES_WINDOW));
        assert!(failures.count(a, now + FAILURES_WINDOW));
    }
}
