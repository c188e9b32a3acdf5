//! Pages in a browser: which may read our answers (CORS), and which requests they must not make on their user's behalf.
//!
//! A browser sends requests to this machine for any page that it shows. Two things tell such requests from those of
//! programs: `Origin` names the page, and `Host` the name under which the browser reached us, which is the attacker's
//! own when a page's name was pointed at 127.0.0.1 after it had loaded (DNS rebinding).

use std::net::IpAddr;

use axum::extract::Request;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Uri};
use trefoil_config::LoadedConfig;
use trefoil_model::{MatchOp, Matcher};

use crate::routes::Access;

/// Which origins and host names are ours or allowed; those of the start.
pub struct Origins {
    /// `trefoil.cors_origin`.
    cors: Option<Matcher>,
    /// Origin of the external URL, in lower case.
    own: String,
    /// Names under which this server is known, in lower case.
    names: Vec<String>,
}

impl Origins {
    /// Takes `trefoil.cors_origin`, the external URL, the names that listeners have, and the name of the machine.
    pub fn new(config: &LoadedConfig, external_url: &str) -> Self {
        let trefoil = &config.config.trefoil;
        let pattern = trefoil.cors_origin.as_str();
        // The configuration was checked; a pattern that does not compile allows nobody.
        let cors = (!pattern.is_empty()).then(|| Matcher::new(MatchOp::Regex, "origin", pattern).ok()).flatten();
        let uri: Option<Uri> = external_url.parse().ok();
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let listeners = trefoil.listeners.iter().flat_map(|(_, l)| l.addresses());
        let names = listeners
            .map(|a| a.host().to_owned())
            .chain(uri.as_ref().and_then(|u| u.host().map(str::to_owned)))
            .chain([machine.trim().to_owned()])
            .map(|name| name.to_ascii_lowercase())
            .filter(|name| !name.is_empty())
            .collect();
        let own = uri.and_then(|u| Some(format!("{}://{}", u.scheme_str()?, u.authority()?))).unwrap_or_default();
        Self { cors, own: own.to_ascii_lowercase(), names }
    }

    /// Whether pages of an origin may read answers.
    pub fn cors_allows(&self, origin: &HeaderValue) -> bool {
        let text = origin.to_str().ok();
        text.is_some_and(|text| self.cors.as_ref().is_some_and(|allowed| allowed.matches(text)))
    }

    /// Why a request that changes something is refused, whoever sends it. `anonymous`: nobody has to say who they are.
    ///
    /// Pages of other origins never administrate, and write only when CORS allows them. Without authentication what
    /// comes over loopback must also name us in `Host`, not somebody else.
    pub(crate) fn refusal(
        &self,
        access: Access,
        request: &Request,
        peer: Option<IpAddr>,
        anonymous: bool,
    ) -> Option<&'static str> {
        let headers = request.headers();
        let may_share = match access {
            Access::Public | Access::Read => return None,
            Access::Write => headers.get(ORIGIN).is_some_and(|origin| self.cors_allows(origin)),
            Access::Admin => false,
        };
        if !may_share && self.is_cross_site(headers, request.uri()) {
            return Some("request comes from a page of another origin");
        }
        if anonymous && peer.is_some_and(|ip| ip.to_canonical().is_loopback()) && !self.names_us(headers, request.uri())
        {
            return Some("the Host header names another server; set trefoil.external_url if it is this one");
        }
        None
    }

    /// True when a page of another origin makes a browser send the request. Requests without these headers come from
    /// no browser.
    fn is_cross_site(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        let origin = headers.get(ORIGIN).map(|v| v.to_str().unwrap_or("").to_ascii_lowercase());
        if origin.as_ref().is_some_and(|o| !o.is_empty() && *o == self.own) {
            return false;
        }
        if headers.get("sec-fetch-site").is_some_and(|v| v == "cross-site" || v == "same-site") {
            return true;
        }
        let Some(origin) = origin else { return false };
        let Some(host) = host(headers, uri) else { return headers.get("sec-fetch-site").is_none() };
        origin.split_once("://").is_none_or(|(_, at)| at != host)
    }

    fn names_us(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        // HTTP/1.0 need not say whom it asks; no browser speaks it.
        let Some(host) = host(headers, uri) else { return true };
        let name = without_port(&host);
        name.parse::<IpAddr>().is_ok()
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.names.iter().any(|own| own == name)
    }
}

/// The host that a request names, with its port, in lower case: HTTP/2 has it in the URI.
fn host(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let named = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(HOST)?.to_str().unwrap_or(""),
    };
    Some(named.to_ascii_lowercase())
}

fn without_port(host: &str) -> &str {
    if let Some(v6) = host.strip_prefix('[') {
        return v6.split(']').next().unwrap_or("");
    }
    host.split(':').next().unwrap_or("").trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::body::Body;

    use super::*;

    fn origins(cors: &str) -> Origins {
        let text = format!(
            "trefoil: {{cors_origin: '{cors}', listeners: {{http: 'box.lan:0'}}, insecure_allow_anonymous: true}}"
        );
        let config = trefoil_config::Config::parse(&text, Path::new("/"), &|_| None).unwrap();
        Origins::new(&config, "https://obs.example/prom")
    }

    /// Whether a request with these headers over loopback may write, and administrate.
    fn check(cors: &str, headers: &[(&str, &str)], want: (bool, bool)) {
        let mut request = Request::new(Body::empty());
        for (name, value) in headers {
            let name = http::HeaderName::try_from(*name).unwrap();
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        let origins = origins(cors);
        let let_in = |access| origins.refusal(access, &request, Some(IpAddr::from([127, 0, 0, 1])), true).is_none();
        assert_eq!((let_in(Access::Write), let_in(Access::Admin)), want, "{cors:?} {headers:?}");
        assert!(let_in(Access::Read));
    }

    #[test]
    fn other_origins_change_nothing() {
        let (yes, no) = ((true, true), (false, false));
        check("", &[], yes);
        check("", &[("host", "127.0.0.1:9090")], yes);
        check("", &[("origin", "http://127.0.0.1:9090"), ("host", "127.0.0.1:9090")], yes);
        check("", &[("origin", "http://evil"), ("host", "127.0.0.1:9090")], no);
        check("", &[("origin", "null"), ("host", "127.0.0.1:9090")], no);
        check("", &[("sec-fetch-site", "cross-site"), ("host", "localhost")], no);
        check("", &[("sec-fetch-site", "same-origin"), ("host", "localhost")], yes);
        // A proxy keeps the page's origin and names us itself.
        check("", &[("origin", "https://obs.example"), ("host", "localhost:9090")], yes);
        check("https://app\\..*", &[("origin", "https://app.example"), ("host", "localhost")], (true, false));
        check("https://app\\..*", &[("origin", "http://app.example"), ("host", "localhost")], no);
    }

    #[test]
    fn other_names_are_not_ours() {
        for (host, ours) in [
            ("localhost:9090", true),
            ("LOCALHOST", true),
            ("trefoil.localhost:1", true),
            ("[::1]:9090", true),
            ("10.1.2.3:9090", true),
            ("box.lan:9090", true),
            ("obs.example", true),
            ("obs.example.:443", true),
            ("evil.example:9090", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            check("", &[("host", host)], (ours, ours));
            // The page itself came from that name.
            check("", &[("host", host), ("origin", &format!("http://{host}"))], (ours, ours));
        }
    }

    #[test]
    fn names_count_on_loopback_without_authentication_only() {
        let mut request = Request::new(Body::empty());
        request.headers_mut().insert(HOST, HeaderValue::from_static("trefoil:9090"));
        let origins = origins("");
        let refused = |ip: [u8; 4], anonymous| {
            origins.refusal(Access::Write, &request, Some(IpAddr::from(ip)), anonymous).is_some()
        };
        assert!(refused([127, 0, 0, 1], true));
        assert!(!refused([127, 0, 0, 1], false) && !refused([10, 0, 0, 1], true));
    }
}
