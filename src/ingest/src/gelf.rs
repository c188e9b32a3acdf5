//! GELF, Graylog's log format (<https://go2docs.graylog.org/current/getting_in_log_data/gelf.html>): a message is a JSON
//! object, over UDP in chunks perhaps ([`Chunks`]) and compressed perhaps ([`compression`]).
//!
//! `host` is a stream label; `service_name` is one too, taken from the additional fields that say it. The line is
//! `full_message` when that begins with `short_message`, else `short_message`. Other fields are attributes, additional
//! ones without their underscore. What the format demands and a sender left out does not cost the message: `version`
//! and `host` may be absent, `message` stands for `short_message`, numbers may be texts.

mod chunks;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use trefoil_model::{AttributeValue, Labels};

use crate::IngestError;
use crate::body::{Encoding, check_json_depth};
use crate::received::{Received, flatten};
use crate::syslog_level;

pub use chunks::{Chunk, ChunkError, Chunks, ChunksOptions};

/// Additional fields from which `service_name` is taken, first match first.
const SERVICE_FIELDS: [&str; 10] = [
    "_service_name",
    "_service.name",
    "_service",
    "_app",
    "_application",
    "_application_name",
    "_app_name",
    "_container_name",
    "_program",
    "facility",
];

/// How a datagram, or a message put together from chunks, is compressed, by its first bytes.
pub fn compression(message: &[u8]) -> Encoding {
    match message {
        [0x1f, 0x8b, ..] => Encoding::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Encoding::Zstd,
        // A JSON text begins with a brace or with white space, none of which is 8 modulo 16.
        [a, b, ..] if a & 0x0f == 8 && (u16::from(*a) << 8 | u16::from(*b)) % 31 == 0 => Encoding::Deflate,
        _ => Encoding::Identity,
    }
}

/// Decodes a message, inflated.
///
/// `labels` are the stream labels of all messages of this door; `now_ns` is the receipt time in Unix nanoseconds, which
/// also stands in for a `timestamp` that is absent or no number. Errors: `Malformed` for what is no JSON object and for
/// a message without a text; nesting beyond `json_depth_max` too.
pub fn decode(json: &[u8], labels: &Labels, json_depth_max: usize, now_ns: i64) -> Result<Received, IngestError> {
    let json = json.trim_ascii();
    check_json_depth(json, json_depth_max)?;
    if json.first().is_none_or(|b| *b != b'{') {
        return Err(IngestError::Malformed("malformed GELF message: expected a JSON object".to_owned()));
    }
    // A byte that is not UTF-8 becomes U+FFFD instead of costing the message.
    let text = String::from_utf8_lossy(json);
    let fields: Fields<'_> =
        serde_json::from_str(&text).map_err(|e| IngestError::Malformed(format!("malformed GELF message: {e}")))?;
    convert(fields, labels, json_depth_max, now_ns)
}

fn convert(fields: Fields<'_>, labels: &Labels, depth_max: usize, now_ns: i64) -> Result<Received, IngestError> {
    let (mut short, mut full, mut message) = (None, None, None);
    let mut received = Received::new(Labels::empty(), now_ns, String::new());
    let mut stream = labels.to_builder();
    let mut service: Option<(usize, String)> = None;
    for (name, raw) in fields.0 {
        let value = value_of(raw)?;
        if let Some(rank) = SERVICE_FIELDS.iter().position(|field| *field == name) {
            let text = value.to_text();
            if !text.is_empty() && service.as_ref().is_none_or(|(best, _)| rank < *best) {
                service = Some((rank, text));
            }
        }
        match name.as_str() {
            "version" => {}
            "host" => {
                stream.set("host", value.to_text());
            }
            "short_message" => short = Some(value.to_text()),
            "full_message" => full = Some(value.to_text()),
            "message" => message = Some(value.to_text()),
            "timestamp" => match nanoseconds(raw.get().trim_matches('"')) {
                Some(time_ns) => received.record.time_ns = time_ns,
                None => received.record.attributes.push((name, value)),
            },
            "level" => match value.to_text().parse::<u8>() {
                Ok(severity @ 0..=7) => syslog_level::set(&mut received.record, severity),
                _ => received.record.attributes.push((name, value)),
            },
            _ => {
                let bare = name.strip_prefix('_').filter(|n| !n.is_empty()).unwrap_or(&name);
                flatten(bare.to_owned(), value, depth_max, &mut received.record.attributes);
            }
        }
    }
    let present = |text: Option<String>| text.filter(|t| !t.is_empty());
    let (short, full) = (present(short).or_else(|| present(message)), present(full));
    received.record.text = match (short, full) {
        (None, None) => {
            return Err(IngestError::Malformed("GELF message has no short_message".to_owned()));
        }
        (Some(short), Some(full)) if !full.starts_with(short.trim_end()) => {
            received.record.attributes.push(("full_message".to_owned(), AttributeValue::String(full)));
            short
        }
        (_, Some(full)) => full,
        (Some(short), None) => short,
    };
    if let Some((_, service)) = service.filter(|_| stream.get("service_name").is_none()) {
        stream.set("service_name", service);
    }
    received.stream = stream.build();
    Ok(received)
}

fn value_of(raw: &RawValue) -> Result<AttributeValue, IngestError> {
    let value: serde_json::Value =
        serde_json::from_str(raw.get()).map_err(|e| IngestError::Malformed(format!("malformed GELF message: {e}")))?;
    Ok(attribute_value(value))
}

fn attribute_value(value: serde_json::Value) -> AttributeValue {
    match value {
        serde_json::Value::Null => AttributeValue::Null,
        serde_json::Value::Bool(b) => AttributeValue::Bool(b),
        serde_json::Value::Number(n) => match n.as_i64() {
            Some(i) => AttributeValue::Int(i),
            None => n.as_f64().map_or(AttributeValue::Null, AttributeValue::Double),
        },
        serde_json::Value::String(s) => AttributeValue::String(s),
        serde_json::Value::Array(items) => AttributeValue::Array(items.into_iter().map(attribute_value).collect()),
        serde_json::Value::Object(members) => {
            AttributeValue::Map(members.into_iter().map(|(n, v)| (n, attribute_value(v))).collect())
        }
    }
}

/// Reads decimal seconds since 1970 without the error of a binary fraction; more than nine decimals are cut.
fn nanoseconds(text: &str) -> Option<i64> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_plain = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_plain(whole) || !is_plain(fraction) {
        // An exponent, as some encoders write large numbers.
        let seconds: f64 = text.parse().ok().filter(|s: &f64| s.is_finite() && (0.0..9.2e9).contains(s))?;
        return Some((seconds * 1e9) as i64).filter(|ns| *ns > 0);
    }
    let digits = fraction.len().min(9);
    let nanos: i64 = if digits == 0 { 0 } else { fraction[..digits].parse::<i64>().ok()? };
    let nanos = nanos * 10i64.pow(9 - digits as u32);
    whole.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanos).filter(|ns| *ns > 0)
}

/// The members of an object in the sender's order.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields<'de>, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
mod tests;
