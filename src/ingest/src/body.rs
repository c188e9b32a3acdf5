//! Decompression of request bodies, bounded while it runs.
//!
//! A body has at most one encoding layer. Three caps hold: the body as sent, the body inflated, and the ratio of the
//! two once the inflated body passes 1 MiB. Memory for the inflated bytes is taken from the accountant before it is
//! allocated, step by step, so that a small body that claims to be large costs nothing.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use trefoil_runtime::limits::{self, Limits};
use trefoil_runtime::memory::{Accountant, OverBudget, Pool, Reservation};

use crate::IngestError;

/// Bytes above which the ratio cap holds; below, even a perfect bomb is small.
const RATIO_FREE_BYTES: u64 = 1 << 20;
/// Largest zstd window: 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Bytes by which the output grows at least.
const GROWTH_BYTES_MIN: usize = 64 << 10;
/// Bytes by which the output grows at most.
const GROWTH_BYTES_MAX: usize = 4 << 20;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// gzip (RFC 1952), one or several members.
    Gzip,
    /// zlib (RFC 1950), or bare deflate as some clients send it.
    Deflate,
    /// Zstandard.
    Zstd,
    /// Snappy block format (not framed).
    Snappy,
}

impl Encoding {
    /// Reads `Content-Encoding`; absent or `identity` is [`Encoding::Identity`].
    ///
    /// Errors: `Unsupported` for an unknown encoding, `Malformed` for more than one layer.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, IngestError> {
        let mut found = None;
        for value in headers.get_all(CONTENT_ENCODING) {
            let text =
                value.to_str().map_err(|_| IngestError::Malformed("content-encoding header is not text".to_owned()))?;
            for name in text.split(',').map(str::trim).filter(|n| !n.is_empty()) {
                if name.eq_ignore_ascii_case("identity") {
                    continue;
                }
                if found.is_some() {
                    return Err(IngestError::Malformed(
                        "content-encoding has more than one layer; one is taken".to_owned(),
                    ));
                }
                found = Some(Self::from_name(name)?);
            }
        }
        Ok(found.unwrap_or(Self::Identity))
    }

    fn from_name(name: &str) -> Result<Self, IngestError> {
        const NAMES: [(&str, Encoding); 6] = [
            ("gzip", Encoding::Gzip),
            ("x-gzip", Encoding::Gzip),
            ("deflate", Encoding::Deflate),
            ("zstd", Encoding::Zstd),
            ("snappy", Encoding::Snappy),
            ("x-snappy", Encoding::Snappy),
        ];
        NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, e)| *e).ok_or_else(|| {
            IngestError::Unsupported(format!(
                "content-encoding {name:?} is not supported; send gzip, deflate, zstd, snappy or identity"
            ))
        })
    }
}

/// A body as its protocol defines it, with the memory it holds.
#[derive(Debug)]
pub struct Inflated {
    /// The bytes.
    pub bytes: Bytes,
    /// Memory held for this request; grown for what is decoded from the bytes, given back on drop.
    pub reservation: Reservation,
}

/// Inflates a body under the caps of `limits`, with memory from [`Pool::Ingest`].
///
/// Errors: `TooLarge` beyond a size cap, `Bomb` beyond the ratio cap, `Malformed` for broken data, `Unavailable` when
/// the accountant has no memory left.
pub fn inflate(
    encoding: Encoding,
    body: Bytes,
    limits: &Limits,
    accountant: &Accountant,
) -> Result<Inflated, IngestError> {
    let sent = body.len() as u64;
    if sent > limits.body_bytes_max && encoding != Encoding::Identity {
        limits::hit("body_bytes_max");
        return Err(IngestError::TooLarge { state: "compressed", limit: limits.body_bytes_max });
    }
    let mut output = Output {
        accountant,
        bytes: Vec::new(),
        reservation: reserve(accountant, sent)?,
        inflated_max: limits.body_inflated_bytes_max,
        ratio_max_bytes: RATIO_FREE_BYTES.max(sent.saturating_mul(limits.inflate_ratio_max)),
    };
    let bytes = match encoding {
        Encoding::Identity => {
            if sent > limits.body_inflated_bytes_max {
                limits::hit("body_inflated_bytes_max");
                return Err(IngestError::TooLarge { state: "uncompressed", limit: limits.body_inflated_bytes_max });
            }
            body
        }
        Encoding::Snappy => {
            output.snappy(&body)?;
            Bytes::from(output.bytes)
        }
        Encoding::Gzip => {
            output.copy("gzip", flate2::bufread::MultiGzDecoder::new(&body[..]))?;
            Bytes::from(output.bytes)
        }
        Encoding::Deflate => {
            if has_zlib_header(&body) {
                output.copy("deflate", flate2::bufread::ZlibDecoder::new(&body[..]))?;
            } else {
                output.copy("deflate", flate2::bufread::DeflateDecoder::new(&body[..]))?;
            }
            Bytes::from(output.bytes)
        }
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&body[..])
                .map_err(|e| IngestError::Malformed(format!("zstd body: {e}")))?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(|e| IngestError::Malformed(format!("zstd body: {e}")))?;
            output.copy("zstd", decoder)?;
            Bytes::from(output.bytes)
        }
    };
    Ok(Inflated { bytes, reservation: output.reservation })
}

/// Takes memory for a request. Errors: as [`grow`].
pub fn reserve(accountant: &Accountant, bytes: u64) -> Result<Reservation, IngestError> {
    if bytes > accountant.limit(Pool::Ingest) {
        return Err(never_fits(accountant));
    }
    accountant.try_reserve(Pool::Ingest, bytes).map_err(over_budget)
}

/// Takes more memory for a request.
///
/// Errors: `TooLarge` when the request could not fit even if it were alone (the sender must not retry for ever),
/// `Unavailable` when others hold the memory now.
pub fn grow(reservation: &mut Reservation, more: u64, accountant: &Accountant) -> Result<(), IngestError> {
    if reservation.bytes().saturating_add(more) > accountant.limit(Pool::Ingest) {
        return Err(never_fits(accountant));
    }
    reservation.grow(more).map_err(over_budget)
}

fn never_fits(accountant: &Accountant) -> IngestError {
    limits::hit("ingest_bytes_in_flight");
    IngestError::TooLarge { state: "decoded", limit: accountant.limit(Pool::Ingest) }
}

fn over_budget(error: OverBudget) -> IngestError {
    limits::hit("ingest_bytes_in_flight");
    // Spread over 1..4 s by what was asked for, so that senders that were refused together do not return together.
    let spread = Duration::from_millis(error.asked % 3001);
    IngestError::Unavailable {
        reason: "no memory left for requests in flight".to_owned(),
        retry_after: Duration::from_secs(1) + spread,
    }
}

struct Output<'a> {
    accountant: &'a Accountant,
    bytes: Vec<u8>,
    reservation: Reservation,
    inflated_max: u64,
    ratio_max_bytes: u64,
}

impl Output<'_> {
    fn check(&self, len: u64) -> Result<(), IngestError> {
        if len > self.inflated_max {
            limits::hit("body_inflated_bytes_max");
            return Err(IngestError::TooLarge { state: "decompressed", limit: self.inflated_max });
        }
        if len > self.ratio_max_bytes {
            limits::hit("inflate_ratio_max");
            return Err(IngestError::Bomb { allowed: self.ratio_max_bytes });
        }
        Ok(())
    }

    fn snappy(&mut self, body: &[u8]) -> Result<(), IngestError> {
        let malformed = |e: snap::Error| IngestError::Malformed(format!("snappy body: {e}"));
        let len = snap::raw::decompress_len(body).map_err(malformed)?;
        self.check(len as u64)?;
        grow(&mut self.reservation, len as u64, self.accountant)?;
        self.bytes = vec![0; len];
        let written = snap::raw::Decoder::new().decompress(body, &mut self.bytes).map_err(malformed)?;
        self.bytes.truncate(written);
        Ok(())
    }

    fn copy(&mut self, name: &'static str, mut reader: impl Read) -> Result<(), IngestError> {
        let mut filled = 0;
        loop {
            if filled == self.bytes.len() {
                let step = filled.clamp(GROWTH_BYTES_MIN, GROWTH_BYTES_MAX);
                grow(&mut self.reservation, step as u64, self.accountant)?;
                self.bytes.resize(filled + step, 0);
            }
            match reader.read(&mut self.bytes[filled..]) {
                Ok(0) => {
                    self.bytes.truncate(filled);
                    return Ok(());
                }
                Ok(n) => {
                    filled += n;
                    self.check(filled as u64)?;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(IngestError::Malformed(format!("{name} body after {filled} inflated bytes: {e}")));
                }
            }
        }
    }
}

fn has_zlib_header(body: &[u8]) -> bool {
    match body {
        [a, b, ..] => a & 0x0f == 8 && (u16::from(*a) << 8 | u16::from(*b)) % 31 == 0,
        _ => false,
    }
}

/// The media type of `Content-Type` in lower case, without parameters; "" when absent.
pub fn media_type(headers: &HeaderMap) -> String {
    content_type(headers).split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// The value of a parameter of `Content-Type`.
pub fn media_type_parameter<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    content_type(headers).split(';').skip(1).find_map(|p| {
        let (n, v) = p.split_once('=')?;
        n.trim().eq_ignore_ascii_case(name).then(|| v.trim().trim_matches('"'))
    })
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("")
}

/// Checks that JSON nests at most `max` levels, before a parser recurses into it.
pub fn check_json_depth(json: &[u8], max: usize) -> Result<(), IngestError> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (i, b) in json.iter().enumerate() {
        if in_string {
            match b {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match b {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > max {
                    limits::hit("json_depth_max");
                    return Err(IngestError::Malformed(format!("JSON nests deeper than {max} levels at byte {i}")));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}
