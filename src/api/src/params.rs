//! Parameters of a request: URL and form body merged, and the value forms that the dialects share.

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use percent_encoding::percent_decode;

use crate::connection::BodyTimeout;
use crate::error::{ApiError, ErrorKind};
use crate::state::AppState;

/// Most parameters of a request.
const PARAMS_MAX: usize = 10_000;
/// Times are kept within this many milliseconds of the epoch, so that sums with ranges cannot overflow. It is about
/// the year 287000.
pub const TIME_MS_MAX: i64 = 9_000_000_000_000_000;

/// Names and values in order: those of the body first, as they win over those of the URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads the parameters of the URL and, for `application/x-www-form-urlencoded` and `multipart/form-data`, of the
    /// body.
    ///
    /// Errors: 413 above `admin_body_bytes_max`, 408 when the body does not come in time.
    pub async fn read(state: &AppState, request: Request) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let mut all = Vec::new();
        let form = parts.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let kind = form.split(';').next().unwrap_or("").trim();
        let (is_form, is_multipart) = (
            kind.eq_ignore_ascii_case("application/x-www-form-urlencoded"),
            kind.eq_ignore_ascii_case("multipart/form-data"),
        );
        if is_form || is_multipart {
            let body = collect(body, state.limits.admin_body_bytes_max, "admin_body_bytes_max").await?;
            if is_form { parse_form(&body, &mut all)? } else { parse_multipart(form, body, &mut all).await? }
        }
        parse_form(parts.uri.query().unwrap_or("").as_bytes(), &mut all)?;
        Ok(Self(all))
    }

    /// Reads the parameters of a URL's query.
    pub fn from_query(query: &str) -> Result<Self, ApiError> {
        let mut all = Vec::new();
        parse_form(query.as_bytes(), &mut all)?;
        Ok(Self(all))
    }

    /// The first value, "" when there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// All values.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let name = name.to_owned();
        self.0.iter().filter(move |(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// A time in Unix milliseconds; `None` when it is not given.
    pub fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(None);
        }
        parse_time(text)
            .map(Some)
            .map_err(|e| ApiError::parameter(name, format!("invalid time value for '{name}': {e}")))
    }

    /// A time in Unix milliseconds that must be given.
    pub fn required_time(&self, name: &str) -> Result<i64, ApiError> {
        parse_time(self.get(name)).map_err(|e| ApiError::parameter(name, e))
    }

    /// A duration in milliseconds; `None` when it is not given.
    pub fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(None);
        }
        parse_duration(text).map(Some).map_err(|e| ApiError::parameter(name, e))
    }

    /// `limit`; 0 when it is not given, which means no limit.
    pub fn limit(&self, name: &str) -> Result<usize, ApiError> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(0);
        }
        match text.parse::<i64>() {
            Ok(n) if n < 0 => Err(ApiError::parameter(name, "limit must be non-negative")),
            Ok(n) => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
            Err(e) => Err(ApiError::parameter(name, format!("strconv.Atoi: parsing {text:?}: {}", number_fault(&e)))),
        }
    }
}

fn parse_form(text: &[u8], out: &mut Vec<(String, String)>) -> Result<(), ApiError> {
    for pair in text.split(|b| *b == b'&').filter(|p| !p.is_empty()) {
        // As in the reference: what cannot be decoded, or has the separator of old, is as if it were not there.
        if pair.contains(&b';') || !is_escaped_well(pair) {
            continue;
        }
        if out.len() >= PARAMS_MAX {
            return Err(ApiError::bad_data(format!("more than {PARAMS_MAX} parameters")));
        }
        let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        out.push((decode(&pair[..at])?, decode(pair.get(at + 1..).unwrap_or_default())?));
    }
    Ok(())
}

/// The fields of a `multipart/form-data` body; files are passed over.
async fn parse_multipart(form: &str, body: Bytes, out: &mut Vec<(String, String)>) -> Result<(), ApiError> {
    let bad = |e: multer::Error| ApiError::bad_data(format!("error parsing form values: {e}"));
    let boundary = multer::parse_boundary(form).map_err(bad)?;
    let mut fields = multer::Multipart::with_reader(&body[..], boundary);
    while let Some(field) = fields.next_field().await.map_err(bad)? {
        if out.len() >= PARAMS_MAX {
            return Err(ApiError::bad_data(format!("more than {PARAMS_MAX} parameters")));
        }
        if let (Some(name), None) = (field.name().map(str::to_owned), field.file_name()) {
            let value = field.bytes().await.map_err(bad)?;
            let value = String::from_utf8(value.into())
                .map_err(|_| ApiError::bad_data("error parsing form values: invalid UTF-8"))?;
            out.push((name, value));
        }
    }
    Ok(())
}

/// True when two hexadecimal digits follow every `%`.
fn is_escaped_well(text: &[u8]) -> bool {
    let digit = |b: Option<&u8>| b.is_some_and(u8::is_ascii_hexdigit);
    text.iter().enumerate().all(|(i, b)| *b != b'%' || digit(text.get(i + 1)) && digit(text.get(i + 2)))
}

fn decode(text: &[u8]) -> Result<String, ApiError> {
    let spaced: Vec<u8> = text.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    let bytes: Vec<u8> = percent_decode(&spaced).collect();
    String::from_utf8(bytes).map_err(|_| ApiError::bad_data("error parsing form values: invalid UTF-8"))
}

/// Reads a whole body of at most `max` bytes; `limit` is the name of that limit.
pub async fn collect(body: Body, max: u64, limit: &'static str) -> Result<Bytes, ApiError> {
    let too_large = || {
        trefoil_runtime::limits::hit(limit);
        ApiError::new(ErrorKind::TooLarge, format!("request body is larger than {max} bytes (limit {limit})"))
    };
    // Refused before it is read, when the sender says how long it is.
    if http_body::Body::size_hint(&body).lower() > max {
        return Err(too_large());
    }
    let limited = Limited::new(body, usize::try_from(max).unwrap_or(usize::MAX));
    match limited.collect().await {
        Ok(all) => Ok(all.to_bytes()),
        Err(error) if caused_by::<LengthLimitError>(error.as_ref()).is_some() => Err(too_large()),
        Err(error) => match caused_by::<BodyTimeout>(error.as_ref()) {
            Some(timeout) => Err(ApiError::new(ErrorKind::RequestTimeout, timeout.to_string())),
            None => Err(ApiError::bad_data(format!("request body could not be read: {error}"))),
        },
    }
}

fn caused_by<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What is wrong with a whole number, in Go's words.
pub(crate) fn number_fault(error: &std::num::ParseIntError) -> &'static str {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

/// Reads a boolean as Go does.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        other => Err(format!("strconv.ParseBool: parsing {other:?}: invalid syntax")),
    }
}

/// Reads a time: Unix seconds with a fraction, or RFC 3339. Rounded to milliseconds.
pub fn parse_time(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.is_finite()
    {
        // The fraction is rounded by itself, as in the reference: it has fewer digits than the whole.
        let ms = seconds.trunc() * 1000.0 + (seconds.fract() * 1000.0).round();
        return Ok((ms as i64).clamp(-TIME_MS_MAX, TIME_MS_MAX));
    }
    // What Prometheus prints as its least and greatest time, beyond the years of RFC 3339.
    match text {
        "-292273086-05-16T16:47:06Z" => return Ok(-TIME_MS_MAX),
        "292277025-08-18T07:12:54.999999999Z" => return Ok(TIME_MS_MAX),
        _ => {}
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(t) => Ok(t.as_millisecond()),
        Err(_) => Err(format!("cannot parse {text:?} to a valid timestamp")),
    }
}

/// Reads a duration into milliseconds: seconds with a fraction, or `1h30m`. As in the reference the product with 10^9
/// is cut to whole nanoseconds, and these to milliseconds: `1.001` is 1000 ms.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        let ns = seconds * 1e9;
        if ns.abs() >= i64::MAX as f64 {
            return Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"));
        }
        return Ok(ns as i64 / 1_000_000);
    }
    trefoil_promql::parse_duration(text).map_err(|_| format!("cannot parse {text:?} to a valid duration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_forms() {
        for (text, want) in [
            ("1435781430.781", Some(1_435_781_430_781)),
            ("1435781430", Some(1_435_781_430_000)),
            ("1795291140.0005", Some(1_795_291_140_000)),
            ("-1.5", Some(-1500)),
            ("2015-07-01T20:10:30.781Z", Some(1_435_781_430_781)),
            ("2015-07-01T22:10:30+02:00", Some(1_435_781_430_000)),
            ("1.7e15", Some(1_700_000_000_000_000_000.min(TIME_MS_MAX))),
            ("", None),
            ("foo", None),
            ("NaN", None),
            ("Inf", None),
        ] {
            assert_eq!(parse_time(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn durations_have_two_forms() {
        for (text, want) in [
            ("5m", Some(300_000)),
            ("1.5", Some(1500)),
            ("1.0015", Some(1001)),
            ("1.001", Some(1000)),
            ("-0.5", Some(-500)),
            ("x", None),
            ("1e30", None),
            ("0", Some(0)),
        ] {
            assert_eq!(parse_duration(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn forms_are_decoded() {
        let params = Params::from_query("a=1+2&b=%7B%7D&a=3&c").unwrap();
        assert_eq!(params.get("a"), "1 2");
        assert_eq!(params.all("a").collect::<Vec<_>>(), ["1 2", "3"]);
        assert_eq!((params.get("b"), params.get("c"), params.get("d")), ("{}", "", ""));
        assert!(Params::from_query("a=%ff").is_err());
        let odd = Params::from_query("a=1;b=2&c=%zz&d=%4&e=%41").unwrap();
        assert_eq!((odd.get("a"), odd.get("c"), odd.get("d"), odd.get("e")), ("", "", "", "A"));
    }
}
