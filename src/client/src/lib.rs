//! The HTTP client made from an `http_config`: authentication, TLS, proxy, extra headers.
//!
//! Scrapes, webhooks and notifications use it, so that a setting means the same everywhere.
//!
//! Invariants: it knows the configuration's plain structs and nothing else of ours; credentials and headers that stand
//! in files are read afresh for each request.

mod verifier;

use std::path::Path;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use trefoil_config::{HttpClientConfig, Secret};

/// Why a client cannot be made or a request cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file named by the configuration cannot be read.
    #[error("read {what} from {path}")]
    File {
        /// Which setting names the file.
        what: &'static str,
        /// The file.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A setting is not valid.
    #[error("{0}")]
    Setting(String),
    /// The HTTP library refuses.
    #[error("build http client")]
    Build(#[source] reqwest::Error),
}

/// A client with what has to be read afresh for each request (files may be rotated).
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    config: HttpClientConfig,
}

impl HttpClient {
    /// Makes a client. Redirects: at most `redirects_max` when the configuration follows them; credentials do not
    /// follow to another origin.
    pub fn new(config: &HttpClientConfig, redirects_max: usize) -> Result<Self, ClientError> {
        // Which provider of cryptography is installed first does not matter: it is always this one.
        rustls::crypto::ring::default_provider().install_default().ok();
        let tls = &config.tls_config;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .pool_max_idle_per_host(8)
            .user_agent(concat!("Trefoil/", env!("CARGO_PKG_VERSION")))
            .redirect(if config.follow_redirects {
                reqwest::redirect::Policy::limited(redirects_max)
            } else {
                reqwest::redirect::Policy::none()
            });
        if !config.enable_http2 {
            builder = builder.http1_only();
        }
        let ca = inline_or_file("tls_config.ca", &tls.ca, tls.ca_file.as_deref())?;
        let cert = inline_or_file("tls_config.cert", &tls.cert, tls.cert_file.as_deref())?;
        let key = tls.key.as_ref().map_or("", Secret::expose);
        let key = inline_or_file("tls_config.key", key, tls.key_file.as_deref())?;
        let identity = match (&cert, &key) {
            (Some(cert), Some(key)) => Some((cert.as_str(), key.as_str())),
            (None, None) => None,
            _ => {
                let reason = "tls_config needs both a certificate and a key, or neither";
                return Err(ClientError::Setting(reason.to_owned()));
            }
        };
        match ca {
            Some(pem) if !tls.insecure_skip_verify => {
                let tls = verifier::tls_config(&pem, &tls.server_name, identity, config.enable_http2)?;
                builder = builder.tls_backend_preconfigured(tls);
            }
            _ => {
                if !tls.server_name.is_empty() && !tls.insecure_skip_verify {
                    let reason = "tls_config.server_name needs tls_config.ca or ca_file beside it";
                    return Err(ClientError::Setting(reason.to_owned()));
                }
                if let Some((cert, key)) = identity {
                    let bad = |e: reqwest::Error| ClientError::Setting(format!("client certificate is not PEM: {e}"));
                    let pem = format!("{cert}\n{key}");
                    builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).map_err(bad)?);
                }
                builder = builder.tls_danger_accept_invalid_certs(tls.insecure_skip_verify);
            }
        }
        match &config.proxy.proxy_url {
            Some(url) => {
                let proxy = reqwest::Proxy::all(url.as_str()).map_err(ClientError::Build)?;
                let no_proxy = reqwest::NoProxy::from_string(&config.proxy.no_proxy);
                builder = builder.proxy(proxy.no_proxy(no_proxy));
            }
            None if !config.proxy.proxy_from_environment => builder = builder.no_proxy(),
            None => {}
        }
        if config.oauth2.is_some() {
            return Err(ClientError::Setting("oauth2 is not supported yet".to_owned()));
        }
        Ok(Self { client: builder.build().map_err(ClientError::Build)?, config: config.clone() })
    }

    /// The client itself.
    pub fn inner(&self) -> &reqwest::Client {
        &self.client
    }

    /// The headers of one request: credentials and `http_headers`, read from their files now.
    pub fn headers(&self) -> Result<HeaderMap, ClientError> {
        let mut headers = HeaderMap::new();
        if let Some(basic) = &self.config.basic_auth {
            let user = inline_or_file("basic_auth.username", &basic.username, basic.username_file.as_deref())?;
            let password = basic.password.as_ref().map_or("", Secret::expose);
            let password = inline_or_file("basic_auth.password", password, basic.password_file.as_deref())?;
            let pair = format!("{}:{}", user.unwrap_or_default(), password.unwrap_or_default());
            insert(&mut headers, AUTHORIZATION, &format!("Basic {}", base64(pair.as_bytes())))?;
        } else if let Some(auth) = &self.config.authorization {
            let text = auth.credentials.as_ref().map_or("", Secret::expose);
            let credentials = inline_or_file("authorization.credentials", text, auth.credentials_file.as_deref())?;
            if let Some(credentials) = credentials {
                insert(&mut headers, AUTHORIZATION, &format!("{} {credentials}", auth.r#type))?;
            }
        }
        for (name, header) in &self.config.http_headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| ClientError::Setting(format!("{name:?} is not a header name")))?;
            let mut values: Vec<String> = header.values.clone();
            values.extend(header.secrets.iter().map(|s| s.expose().to_owned()));
            for file in &header.files {
                values.extend(inline_or_file("http_headers.files", "", Some(file))?);
            }
            for value in values {
                headers.append(name.clone(), header_value(&name, &value)?);
            }
        }
        Ok(headers)
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), ClientError> {
    let mut value = header_value(&name, value)?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

fn header_value(name: &HeaderName, value: &str) -> Result<HeaderValue, ClientError> {
    HeaderValue::from_str(value)
        .map_err(|_| ClientError::Setting(format!("the value of header {name} is not a header value")))
}

fn inline_or_file(what: &'static str, inline: &str, file: Option<&Path>) -> Result<Option<String>, ClientError> {
    if !inline.is_empty() {
        return Ok(Some(inline.to_owned()));
    }
    let Some(path) = file else { return Ok(None) };
    let text = std::fs::read_to_string(path).map_err(|source| ClientError::File {
        what,
        path: path.display().to_string(),
        source,
    })?;
    Ok(Some(text.trim().to_owned()))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
