//! Targets from files, an HTTP server and the DNS.

use std::path::PathBuf;

use crate::decode::{Sink, section};
use crate::duration::PromDuration;
use crate::http_client::HttpClientConfig;
use crate::values::ConfigUrl;
use crate::yaml::Node;

section! {
    /// `file_sd_configs`
    pub struct FileSdConfig {
        /// Paths of JSON or YAML files; the last part may hold one `*`. Not empty.
        pub files: Vec<PathBuf> = Vec::new(),
        /// Time between readings without a change being seen. Default 5m.
        pub refresh_interval: PromDuration = PromDuration::from_secs(300),
    }
    check FileSdConfig::check
}

impl FileSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let message = "file service discovery config must contain at least one path name";
        sink.require(!self.files.is_empty(), node.pos, message);
        for (i, path) in self.files.iter().enumerate() {
            let text = path.to_string_lossy();
            // `^[^*]*(\*[^/]*)?\.(json|yml|yaml|JSON|YML|YAML)$`
            let ends = [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"].iter().any(|e| text.ends_with(e));
            let pos = node.get("files").and_then(|n| n.item(i)).map_or(node.pos, |n| n.pos);
            let valid = ends && crate::globs::is_valid_pattern(&text);
            sink.require(valid, pos, format!("path name {text:?} is not valid for file discovery"));
        }
    }
}

section! {
    /// `http_sd_configs`
    pub struct HttpSdConfig {
        /// Where the target groups are fetched from. Required, `http` or `https`.
        pub url: String = String::new(),
        /// Time between fetches. Default 1m.
        pub refresh_interval: PromDuration = PromDuration::from_secs(60),
    }
    flatten {
        /// How the URL is reached.
        pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    check HttpSdConfig::check
}

impl HttpSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        check_url(&self.url, node, sink);
    }
}

/// A URL that must be there, with a host, over HTTP.
pub(crate) fn check_url(url: &str, node: &Node, sink: &mut Sink) {
    let pos = node.key_pos("url");
    if url.is_empty() {
        sink.error(pos, "URL is missing");
        return;
    }
    match ConfigUrl::parse(url) {
        Err(message) => sink.error(pos, message),
        Ok(parsed) if !matches!(parsed.scheme(), "http" | "https") => {
            sink.error(pos, "URL scheme must be 'http' or 'https'");
        }
        Ok(parsed) => sink.require(!parsed.host().is_empty(), pos, "host is missing in URL"),
    }
}

section! {
    /// `dns_sd_configs`
    pub struct DnsSdConfig {
        /// Names to look up. Not empty.
        pub names: Vec<String> = Vec::new(),
        /// Time between look-ups. Default 30s.
        pub refresh_interval: PromDuration = PromDuration::from_secs(30),
        /// SRV, A, AAAA, MX or NS. Default SRV.
        pub r#type: String = "SRV".to_owned(),
        /// Port of the targets; required unless the type is SRV.
        pub port: u16 = 0,
    }
    check DnsSdConfig::check
}

impl DnsSdConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        let message = "DNS-SD config must contain at least one SRV record name";
        sink.require(!self.names.is_empty(), node.pos, message);
        match self.r#type.to_ascii_uppercase().as_str() {
            "SRV" => {}
            "A" | "AAAA" | "MX" | "NS" => sink.require(
                self.port != 0,
                node.pos,
                "a port is required in DNS-SD configs for all record types except SRV",
            ),
            _ => sink.error(node.key_pos("type"), format!("invalid DNS-SD records type {}", self.r#type)),
        }
    }
}
