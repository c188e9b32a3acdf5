//! Whether the files that a configuration names are there, as `promtool check config` asks.

use std::path::Path;

use crate::config::LoadedConfig;
use crate::http_client::{HttpClientConfig, TlsConfig};

impl LoadedConfig {
    /// Names every file of credentials or TLS that cannot be read, with the key that names it.
    ///
    /// A missing file of a service discovery is not among them: it may come later.
    pub fn missing_files(&self) -> Vec<String> {
        let mut out = Vec::new();
        for job in &self.scrape_configs {
            client(&format!("scrape config {:?}", job.job_name), &job.http, &mut out);
        }
        for (i, set) in self.config.alerting.alertmanagers.iter().enumerate() {
            client(&format!("alertmanagers[{i}]"), &set.http, &mut out);
        }
        for (key, listener) in self.config.trefoil.listeners.iter() {
            if let Some(tls) = &listener.tls {
                for (name, path) in [
                    ("cert_file", &tls.cert_file),
                    ("key_file", &tls.key_file),
                    ("client_ca_file", &tls.client_ca_file),
                ] {
                    check(&format!("trefoil.listeners.{key}"), name, path.as_deref(), &mut out);
                }
            }
        }
        for token in &self.config.trefoil.auth.bearer_tokens {
            let place = format!("bearer token {:?}", token.name);
            check(&place, "token_file", token.token_file.as_deref(), &mut out);
        }
        if let Some(tls) = self.web.as_ref().and_then(|w| w.tls_server_config.as_ref()) {
            for (name, path) in
                [("cert_file", &tls.cert_file), ("key_file", &tls.key_file), ("client_ca_file", &tls.client_ca_file)]
            {
                check("tls_server_config", name, path.as_deref(), &mut out);
            }
        }
        out
    }
}

fn client(place: &str, http: &HttpClientConfig, out: &mut Vec<String>) {
    if let Some(auth) = &http.authorization {
        check(place, "authorization credentials_file", auth.credentials_file.as_deref(), out);
    }
    if let Some(auth) = &http.basic_auth {
        check(place, "basic_auth username_file", auth.username_file.as_deref(), out);
        check(place, "basic_auth password_file", auth.password_file.as_deref(), out);
    }
    tls(place, &http.tls_config, out);
}

fn tls(place: &str, tls: &TlsConfig, out: &mut Vec<String>) {
    check(place, "tls_config ca_file", tls.ca_file.as_deref(), out);
    check(place, "tls_config cert_file", tls.cert_file.as_deref(), out);
    check(place, "tls_config key_file", tls.key_file.as_deref(), out);
}

fn check(place: &str, key: &str, path: Option<&Path>, out: &mut Vec<String>) {
    if let Some(path) = path
        && let Err(error) = std::fs::metadata(path)
    {
        out.push(format!("{place}: error checking {key} {}: {error}", path.display()));
    }
}
