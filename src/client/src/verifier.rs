//! Verification of a server against configured authorities, as Go's TLS does it for Prometheus.
//!
//! Two things differ from the library's own verifier: the name to verify may be configured (`server_name`), and a
//! certificate that is itself one of the configured authorities is accepted when it bears the name. Self-signed
//! certificates made by `openssl req -x509` are of that kind (they say that they are an authority).

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::ClientError;

#[derive(Debug)]
struct Verifier {
    library: Arc<WebPkiServerVerifier>,
    authorities: Vec<CertificateDer<'static>>,
    name: Option<ServerName<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = self.name.as_ref().unwrap_or(server_name);
        match self.library.verify_server_cert(end_entity, intermediates, name, ocsp_response, now) {
            // What the library says of an authority that stands for itself; its dates were not looked at yet, but the
            // operator named this very certificate.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.authorities.iter().any(|a| a.as_ref() == end_entity.as_ref()) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.library.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.library.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.library.supported_verify_schemes()
    }
}

/// TLS towards servers that the authorities of `ca` (PEM) vouch for. `name` replaces the host of the URL in the
/// verification; `identity` is the client's own certificate and key (PEM).
pub(crate) fn tls_config(
    ca: &str,
    name: &str,
    identity: Option<(&str, &str)>,
    http2: bool,
) -> Result<ClientConfig, ClientError> {
    let setting = |what: &str, error: &dyn std::fmt::Display| ClientError::Setting(format!("{what}: {error}"));
    let authorities = CertificateDer::pem_slice_iter(ca.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| setting("tls_config.ca is not PEM", &e))?;
    let mut roots = RootCertStore::empty();
    for authority in &authorities {
        roots.add(authority.clone()).map_err(|e| setting("tls_config.ca", &e))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let library = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|e| setting("tls_config.ca", &e))?;
    let name = match name {
        "" => None,
        name => Some(ServerName::try_from(name.to_owned()).map_err(|e| setting("tls_config.server_name", &e))?),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| setting("tls versions", &e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { library, authorities, name }));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = CertificateDer::pem_slice_iter(cert.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| setting("tls_config.cert is not PEM", &e))?;
            let key =
                PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| setting("tls_config.key is not PEM", &e))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| setting("client certificate", &e))?
        }
    };
    config.alpn_protocols = if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    /// A certificate for `localhost` that says it is an authority, as `openssl req -x509` makes it, and its key.
    fn self_signed() -> (String, String) {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    /// Shakes hands in memory with a server that bears `cert`.
    fn shake(cert: &(String, String), ca: &str, configured: &str, host: &str) -> Result<(), Error> {
        let chain = vec![CertificateDer::from_pem_slice(cert.0.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(cert.1.as_bytes()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let mut server = ServerConnection::new(Arc::new(server))?;
        let mut config = tls_config(ca, configured, None, false).unwrap();
        config.alpn_protocols.clear();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name)?;
        while client.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn a_self_signed_authority_stands_for_itself_under_its_name_only() {
        let (cert, other) = (self_signed(), self_signed());
        assert_eq!(shake(&cert, &cert.0, "", "localhost"), Ok(()));
        assert_eq!(shake(&cert, &cert.0, "localhost", "elsewhere"), Ok(()));
        assert!(shake(&cert, &cert.0, "", "elsewhere").is_err());
        assert!(shake(&cert, &other.0, "", "localhost").is_err());
        assert!(tls_config("nothing", "", None, true).is_err() || shake(&cert, "nothing", "", "localhost").is_err());
    }
}
