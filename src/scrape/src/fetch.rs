//! One request for a page: headers, timeout, limits that hold while the page inflates.

use std::io::Read;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use trefoil_config::{EscapingScheme, ScrapeProtocol};

use crate::exposition::TextFormat;
use trefoil_client::{ClientError, HttpClient};

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The client's settings are not usable.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Connecting, sending or reading failed.
    #[error("{0}")]
    Request(String),
    /// No complete answer within the scrape timeout.
    #[error("context deadline exceeded: no complete answer within {0:?}")]
    Timeout(Duration),
    /// Not 200.
    #[error("server returned HTTP status {0}")]
    Status(reqwest::StatusCode),
    /// Too large.
    #[error("body size limit exceeded: page larger than {0} bytes")]
    BodySize(u64),
    /// No known content type, and no fallback configured.
    #[error("received unsupported Content-Type {0:?} and no fallback_scrape_protocol specified for target")]
    ContentType(String),
    /// The compressed body cannot be inflated.
    #[error("inflate page: {0}")]
    Inflate(String),
}

/// What a pool asks of every target.
#[derive(Debug, Clone)]
pub struct FetchRules {
    /// Accept header.
    pub accept: HeaderValue,
    /// Offer gzip.
    pub compression: bool,
    /// Page bytes after decompression.
    pub body_bytes_max: u64,
    /// Taken when the content type says nothing known.
    pub fallback: Option<TextFormat>,
}

/// Builds the Accept header: the protocols in order of preference with falling weights. Only text formats are asked
/// for, as the protobuf form is not read.
pub fn accept_header(protocols: &[ScrapeProtocol], escaping: EscapingScheme) -> HeaderValue {
    let text: Vec<&ScrapeProtocol> = protocols.iter().filter(|p| **p != ScrapeProtocol::PrometheusProto).collect();
    let mut parts = Vec::new();
    let mut weight = text.len() + 1;
    for protocol in text {
        let escape = match protocol {
            ScrapeProtocol::OpenMetricsText1_0_0 | ScrapeProtocol::PrometheusText1_0_0 => {
                format!(";escaping={escaping}")
            }
            _ => String::new(),
        };
        parts.push(format!("{}{escape};q=0.{weight}", protocol.media_type()));
        weight -= 1;
    }
    parts.push(format!("*/*;q=0.{weight}"));
    HeaderValue::from_str(&parts.join(",")).expect("media types are header text")
}

/// Which format a content type announces.
pub fn format_of(content_type: &str) -> Option<TextFormat> {
    let media = content_type.split(';').next().unwrap_or("").trim();
    if media.eq_ignore_ascii_case("application/openmetrics-text") {
        Some(TextFormat::OpenMetrics)
    } else if media.eq_ignore_ascii_case("text/plain") {
        Some(TextFormat::Classic)
    } else {
        None
    }
}

/// Fetches a page. The timeout covers the whole of it.
pub async fn fetch(
    client: &HttpClient,
    url: &url::Url,
    rules: &FetchRules,
    timeout: Duration,
) -> Result<(Bytes, TextFormat), FetchError> {
    tokio::time::timeout(timeout, fetch_page(client, url, rules, timeout))
        .await
        .map_err(|_| FetchError::Timeout(timeout))?
}

async fn fetch_page(
    client: &HttpClient,
    url: &url::Url,
    rules: &FetchRules,
    timeout: Duration,
) -> Result<(Bytes, TextFormat), FetchError> {
    let mut headers = client.headers()?;
    headers.insert(ACCEPT, rules.accept.clone());
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(if rules.compression { "gzip" } else { "identity" }));
    let seconds = HeaderValue::from_str(&timeout.as_secs_f64().to_string()).expect("a number is header text");
    headers.insert("x-prometheus-scrape-timeout-seconds", seconds);
    let request = client.inner().get(url.clone()).headers(headers);
    let mut response = request.send().await.map_err(|e| FetchError::Request(chain(&e)))?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let content_type = header_text(response.headers(), CONTENT_TYPE.as_str());
    let format = format_of(&content_type).or(rules.fallback).ok_or(FetchError::ContentType(content_type))?;
    let gzip = header_text(response.headers(), CONTENT_ENCODING.as_str()).eq_ignore_ascii_case("gzip");
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| FetchError::Request(chain(&e)))? {
        if (body.len() + chunk.len()) as u64 > rules.body_bytes_max {
            return Err(FetchError::BodySize(rules.body_bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
    let body = body.freeze();
    let page = if gzip { inflate(&body, rules.body_bytes_max)? } else { body };
    Ok((page, format))
}

fn inflate(body: &[u8], bytes_max: u64) -> Result<Bytes, FetchError> {
    let mut page = Vec::with_capacity((body.len() * 8).min(1 << 20));
    flate2::read::MultiGzDecoder::new(body)
        .take(bytes_max + 1)
        .read_to_end(&mut page)
        .map_err(|e| FetchError::Inflate(e.to_string()))?;
    if page.len() as u64 > bytes_max {
        return Err(FetchError::BodySize(bytes_max));
    }
    Ok(Bytes::from(page))
}

fn header_text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).unwrap_or_default()
}

/// An error with its causes in one line; the URL stands in the target already.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(e) = cause {
        let part = e.to_string();
        if !text.ends_with(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
        cause = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_names_the_text_formats_in_order() {
        let accept = accept_header(&ScrapeProtocol::DEFAULTS, EscapingScheme::AllowUtf8);
        assert_eq!(
            accept.to_str().unwrap(),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        );
        assert!(
            !accept_header(&ScrapeProtocol::DEFAULTS_NATIVE, EscapingScheme::AllowUtf8)
                .to_str()
                .unwrap()
                .contains("protobuf")
        );
    }

    #[test]
    fn content_types() {
        for (text, want) in [
            ("text/plain; version=0.0.4; charset=utf-8", Some(TextFormat::Classic)),
            ("application/openmetrics-text; version=1.0.0", Some(TextFormat::OpenMetrics)),
            ("text/html", None),
            ("", None),
        ] {
            assert_eq!(format_of(text), want, "{text}");
        }
    }

    #[test]
    fn a_bomb_is_refused_while_it_inflates() {
        use std::io::Write;
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gz.write_all(&vec![0u8; 10 << 20]).unwrap();
        let bomb = gz.finish().unwrap();
        assert!(matches!(inflate(&bomb, 1 << 20), Err(FetchError::BodySize(_))));
        assert!(matches!(inflate(b"no gzip", 1 << 20), Err(FetchError::Inflate(_))));
    }
}
