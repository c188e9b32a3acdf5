//! TLS of a listener: certificates from files or text, client certificates, and new files without a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use trefoil_config::http_client::TlsVersion;
use trefoil_config::trefoil::ListenerTls;
use trefoil_config::web_config::{ClientAuth, TlsServerConfig};

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {what} {}", path.display())]
    Read {
        /// What it is.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The text is not what it should be.
    #[error("{what} from {origin}: {reason}")]
    Pem {
        /// What it is.
        what: &'static str,
        /// Where it comes from.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// Key and certificate do not fit, or the settings contradict each other.
    #[error("tls settings: {0}")]
    Settings(String),
}

/// Where a PEM text comes from.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    File(PathBuf),
    Text(String),
}

impl Source {
    fn pick(file: Option<&PathBuf>, text: &str) -> Option<Self> {
        file.map(|f| Self::File(f.clone())).or_else(|| (!text.is_empty()).then(|| Self::Text(text.to_owned())))
    }

    fn read(&self, what: &'static str) -> Result<Vec<u8>, TlsError> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::File(path) => {
                std::fs::read(path).map_err(|source| TlsError::Read { what, path: path.clone(), source })
            }
        }
    }

    fn origin(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Text(_) => "the web configuration file".to_owned(),
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Text(_) => None,
        }
    }
}

/// What TLS of a listener is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsSettings {
    cert: Source,
    key: Source,
    client_ca: Option<Source>,
    client_must: bool,
    allowed_names: Vec<String>,
    tls12: bool,
    tls13: bool,
    http2: bool,
    for_senders: bool,
}

impl TlsSettings {
    /// From the settings of a listener.
    pub fn from_listener(tls: &ListenerTls) -> Result<Self, TlsError> {
        let missing = || TlsError::Settings("both cert_file and key_file are needed".to_owned());
        Ok(Self {
            cert: Source::pick(tls.cert_file.as_ref(), "").ok_or_else(missing)?,
            key: Source::pick(tls.key_file.as_ref(), "").ok_or_else(missing)?,
            client_ca: Source::pick(tls.client_ca_file.as_ref(), ""),
            client_must: true,
            allowed_names: Vec::new(),
            tls12: true,
            tls13: true,
            http2: true,
            for_senders: false,
        })
    }

    /// For senders that never read: there is no protocol to agree on, and no tickets that they leave unread, behind which
    /// they would not see that the connection has ended.
    pub(crate) fn for_senders(mut self) -> Self {
        self.for_senders = true;
        self
    }

    /// From Prometheus' web configuration file.
    ///
    /// `RequireAnyClientCert` is refused: certificates that nobody signed prove nothing.
    pub fn from_web(tls: &TlsServerConfig, http2: bool) -> Result<Self, TlsError> {
        let missing = || TlsError::Settings("both a certificate and a key are needed".to_owned());
        if tls.client_auth_type == ClientAuth::RequireAny {
            let message = "client_auth_type RequireAnyClientCert is not supported, use RequireAndVerifyClientCert";
            return Err(TlsError::Settings(message.to_owned()));
        }
        let verifies = matches!(tls.client_auth_type, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify);
        let key_text = tls.key.as_ref().map_or("", |k| k.expose());
        Ok(Self {
            cert: Source::pick(tls.cert_file.as_ref(), &tls.cert).ok_or_else(missing)?,
            key: Source::pick(tls.key_file.as_ref(), key_text).ok_or_else(missing)?,
            client_ca: Source::pick(tls.client_ca_file.as_ref(), &tls.client_ca).filter(|_| verifies),
            client_must: tls.client_auth_type == ClientAuth::RequireAndVerify,
            allowed_names: tls.client_allowed_sans.clone(),
            tls12: tls.min_version <= TlsVersion::Tls12,
            tls13: tls.max_version >= TlsVersion::Tls13,
            http2,
            for_senders: false,
        })
    }

    fn load(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut versions = Vec::new();
        if self.tls13 {
            versions.push(&rustls::version::TLS13);
        }
        if self.tls12 {
            versions.push(&rustls::version::TLS12);
        }
        let settings = |e: rustls::Error| TlsError::Settings(e.to_string());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(settings)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = rustls::RootCertStore::empty();
                for cert in certificates(ca, "client authority")? {
                    roots.add(cert).map_err(settings)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if self.client_must { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build().map_err(|e| TlsError::Settings(e.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = certificates(&self.cert, "certificate")?;
        let key_text = self.key.read("key")?;
        let key = PrivateKeyDer::from_pem_slice(&key_text).map_err(|e| TlsError::Pem {
            what: "key",
            origin: self.key.origin(),
            reason: e.to_string(),
        })?;
        let mut config = builder.with_single_cert(chain, key).map_err(settings)?;
        if self.for_senders {
            config.send_tls13_tickets = 0;
            return Ok(config);
        }
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if self.http2 {
            config.alpn_protocols.insert(0, b"h2".to_vec());
        }
        Ok(config)
    }

    /// When the files were last written; all `None` for texts.
    fn written(&self) -> Vec<Option<SystemTime>> {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()]
            .into_iter()
            .flatten()
            .map(|s| s.path().and_then(|p| std::fs::metadata(p).ok()).and_then(|m| m.modified().ok()))
            .collect()
    }
}

fn certificates(source: &Source, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fault = |reason: String| TlsError::Pem { what, origin: source.origin(), reason };
    let text = source.read(what)?;
    let all: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|e| fault(e.to_string()))?;
    if all.is_empty() { Err(fault("no certificate in it".to_owned())) } else { Ok(all) }
}

struct Loaded {
    written: Vec<Option<SystemTime>>,
    config: Arc<ServerConfig>,
}

/// Certificates that are read again when their files change.
pub struct TlsDoor {
    settings: TlsSettings,
    loaded: Mutex<Loaded>,
}

impl TlsDoor {
    /// Reads everything once; errors are those of the settings and files.
    pub fn new(settings: TlsSettings) -> Result<Self, TlsError> {
        let written = settings.written();
        let config = Arc::new(settings.load()?);
        Ok(Self { settings, loaded: Mutex::new(Loaded { written, config }) })
    }

    /// What to shake hands with: what the files say now, or what they last said while they are broken.
    pub fn current(&self) -> Arc<ServerConfig> {
        let written = self.settings.written();
        let mut loaded = self.loaded.lock();
        if loaded.written != written {
            match self.settings.load() {
                Ok(config) => {
                    tracing::info!(certificate = %self.settings.cert.origin(), "certificate read again");
                    loaded.config = Arc::new(config);
                }
                Err(error) => {
                    let error = trefoil_runtime::tasks::chain(&error);
                    tracing::warn!(%error, "certificate cannot be read again, the old one stays");
                }
            }
            loaded.written = written;
        }
        Arc::clone(&loaded.config)
    }

    /// True when the client's certificate bears a name that is allowed, or any name is.
    pub fn allows(&self, certificates: Option<&[CertificateDer<'_>]>) -> bool {
        if self.settings.allowed_names.is_empty() {
            return true;
        }
        let Some(first) = certificates.and_then(<[_]>::first) else { return !self.settings.client_must };
        let Ok(parsed) = ParsedCertificate::try_from(first) else { return false };
        self.settings.allowed_names.iter().any(|name| {
            ServerName::try_from(name.as_str())
                .is_ok_and(|name| rustls::client::verify_server_name(&parsed, &name).is_ok())
        })
    }
}
