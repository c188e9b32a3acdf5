//! Tokens as senders of other products carry them: they count as bearer tokens.
//!
//! `Authorization: Splunk <token>` (HEC), `DD-API-KEY: <token>` (Datadog), and `Authorization: ApiKey <base64 of id:token>`
//! (Elasticsearch; the id is not looked at).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The header of Datadog's senders.
pub(super) const DATADOG_KEY: &str = "dd-api-key";

/// The token that a request carries in one of these ways. One in `Authorization` wins.
pub(super) fn token(headers: &HeaderMap) -> Option<String> {
    let Some(header) = headers.get(AUTHORIZATION) else {
        let key = headers.get(DATADOG_KEY)?.to_str().ok()?.trim();
        return Some(key.to_owned()).filter(|k| k.len() <= super::CREDENTIAL_BYTES_MAX);
    };
    let (scheme, rest) =
        header.to_str().ok().filter(|h| h.len() <= super::CREDENTIAL_BYTES_MAX)?.trim().split_once(' ')?;
    if scheme.eq_ignore_ascii_case("splunk") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("apikey") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    decoded.split_once(':').map(|(_, token)| token.to_owned())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn tokens_are_found() {
        for (name, value, want) in [
            ("authorization", "Splunk abc", Some("abc")),
            ("authorization", "splunk  abc ", Some("abc")),
            ("authorization", "ApiKey aWQ6YWJj", Some("abc")),
            ("authorization", "ApiKey !", None),
            ("authorization", "Bearer abc", None),
            ("authorization", "Basic aWQ6YWJj", None),
            ("authorization", "Splunk", None),
            ("dd-api-key", "abc", Some("abc")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            assert_eq!(token(&headers).as_deref(), want, "{name}: {value}");
        }
    }
}
