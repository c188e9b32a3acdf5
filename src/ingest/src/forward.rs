//! Fluentd's forward protocol, version 1
//! (<https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1>): what a message says.
//!
//! The line of an event is its `log`, `message` or `msg`, and the JSON text of the whole record when it has none of them;
//! all other keys are attributes, typed, the members of maps under dotted names. The tag is the stream label
//! `fluent_tag`; `service_name` comes from the keys that say it, else it is the tag.

pub mod msgpack;

use bytes::Bytes;
use trefoil_model::value::find;
use trefoil_model::{AttributeValue, Attributes, Labels};
use trefoil_runtime::limits::Limits;
use trefoil_runtime::memory::{Accountant, Reservation};

use crate::IngestError;
use crate::body::{Encoding, Inflated, grow, inflate, reserve};
use crate::received::{Received, flatten};
use msgpack::{Reader, Scanned, Scanner, Value};

/// Keys that hold the line, first match first.
const TEXT_KEYS: [&str; 3] = ["log", "message", "msg"];
/// Attributes from which `service_name` is taken, first match first.
const SERVICE_KEYS: [&str; 13] = [
    "service_name",
    "service.name",
    "service",
    "app",
    "application",
    "app_name",
    "kubernetes.labels.app.kubernetes.io/name",
    "kubernetes.labels.app",
    "kubernetes.container_name",
    "container_name",
    "container",
    "SYSLOG_IDENTIFIER",
    "ident",
];
const SERVICE_NAME: &str = "service_name";
/// Memory for an object while a message is decoded: itself, and as an attribute.
const OBJECT_BYTES: u64 = 96;
/// Bytes of a tag or service that is a label.
const LABEL_BYTES_MAX: usize = 1024;

/// A message of a client.
#[derive(Debug)]
pub enum Message {
    /// Events, in one of the four modes.
    Events(Events),
    /// The answer to our `HELO`.
    Ping(Ping),
    /// Anything that needs no answer: a nil, as some clients send to show that they live.
    Nothing,
}

/// Events of a message.
#[derive(Debug, Default)]
pub struct Events {
    /// The events.
    pub records: Vec<Received>,
    /// What the answer must repeat once the events are durable; none: no answer.
    pub chunk: Option<String>,
    /// Events that could not be read, and why the first one could not.
    pub malformed: u64,
    /// The reason.
    pub reason: String,
    /// Memory of all this.
    pub memory: Option<Reservation>,
}

/// What a client proves itself with; texts are as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// How the client calls itself.
    pub hostname: Vec<u8>,
    /// Its salt.
    pub salt: Vec<u8>,
    /// Hexadecimal SHA-512 of salt, hostname, nonce and shared key.
    pub digest: Vec<u8>,
    /// User, empty when the server asks for none.
    pub user: Vec<u8>,
    /// Hexadecimal SHA-512 of the server's salt, user and password.
    pub password_digest: Vec<u8>,
}

/// What a message is decoded with.
#[derive(Debug, Clone, Copy)]
pub struct ForwardOptions<'a> {
    /// Stream labels of all events. `service_name` in them goes before what an event says.
    pub labels: &'a Labels,
    /// The limits.
    pub limits: &'a Limits,
    /// Where memory is taken from.
    pub accountant: &'a Accountant,
    /// Receipt time in Unix nanoseconds.
    pub now_ns: i64,
}

/// Reads a message that a [`Scanner`] has delimited, which counted `objects` in it.
///
/// Errors: what is no message of the protocol (`Malformed`), what is too large, and `Unavailable`, the only one that is
/// worth sending again.
pub fn decode(message: &[u8], objects: usize, options: ForwardOptions<'_>) -> Result<Message, IngestError> {
    let memory = reserve(options.accountant, message.len() as u64 + objects as u64 * OBJECT_BYTES)?;
    let value = Reader::new(message).value().map_err(malformed)?;
    let items = match value {
        Value::Nil => return Ok(Message::Nothing),
        Value::Array(items) => items,
        other => return Err(IngestError::Malformed(format!("forward message is {}, not an array", other.kind()))),
    };
    let Some((Value::Str(tag) | Value::Bin(tag), rest)) = items.split_first() else {
        return Err(IngestError::Malformed("forward message has no tag".to_owned()));
    };
    if *tag == b"PING" && rest.len() >= 5 {
        return ping(rest).map(Message::Ping);
    }
    let tag = String::from_utf8_lossy(tag);
    let decoder = Decoder { options, tag: &tag };
    let mut events = Events { memory: Some(memory), ..Events::default() };
    let option = match rest {
        [Value::Array(entries), option @ ..] if !is_time_with_metadata(entries) => {
            for entry in entries {
                decoder.entry(entry, &mut events);
            }
            option.first()
        }
        [Value::Bin(packed) | Value::Str(packed), option @ ..] => {
            let option = option.first();
            // Said first, since what cannot be read must be answered too, or it is sent again for ever.
            events.chunk = chunk(option);
            if let Err(error) = decoder.packed(packed, option, &mut events) {
                if error.retry_after().is_some() {
                    return Err(error);
                }
                events.malformed += 1;
                events.reason = error.to_string();
            }
            option
        }
        [time, record @ Value::Map(_), option @ ..] => {
            decoder.event(time, record, &mut events);
            option.first()
        }
        _ => return Err(IngestError::Malformed("forward message has neither entries nor a record".to_owned())),
    };
    events.chunk = chunk(option);
    Ok(Message::Events(events))
}

fn malformed(error: msgpack::MsgpackError) -> IngestError {
    IngestError::Malformed(format!("forward message: {error}"))
}

fn chunk(option: Option<&Value<'_>>) -> Option<String> {
    match option?.get("chunk")? {
        Value::Str(chunk) | Value::Bin(chunk) => Some(String::from_utf8_lossy(chunk).into_owned()),
        _ => None,
    }
}

fn ping(items: &[Value<'_>]) -> Result<Ping, IngestError> {
    let text = |i: usize| match items.get(i) {
        Some(Value::Str(text) | Value::Bin(text)) => Ok(text.to_vec()),
        _ => Err(IngestError::Malformed("forward PING has a field that is no text".to_owned())),
    };
    Ok(Ping { hostname: text(0)?, salt: text(1)?, digest: text(2)?, user: text(3)?, password_digest: text(4)? })
}

/// Fluent Bit sends `[[time, metadata], record]` where others send `[time, record]`.
fn is_time_with_metadata(items: &[Value<'_>]) -> bool {
    matches!(items, [time, Value::Map(_)] if !matches!(time, Value::Array(_)))
}

struct Decoder<'a> {
    options: ForwardOptions<'a>,
    tag: &'a str,
}

impl Decoder<'_> {
    fn packed(&self, packed: &[u8], option: Option<&Value<'_>>, events: &mut Events) -> Result<(), IngestError> {
        // Metrics and traces of Fluent Bit have the form of logs.
        if let Some(Value::Int(signal @ 1..)) = option.and_then(|o| o.get("fluent_signal")) {
            return Err(IngestError::Unsupported(format!("forward message has signal {signal}; logs are taken")));
        }
        let encoding = match option.and_then(|o| o.get("compressed")) {
            None | Some(Value::Nil) => Encoding::Identity,
            Some(Value::Str(b"text")) => Encoding::Identity,
            Some(Value::Str(b"gzip")) => Encoding::Gzip,
            Some(Value::Str(b"zstd")) => Encoding::Zstd,
            Some(other) => {
                return Err(IngestError::Unsupported(format!("forward message is compressed with {}", other.text())));
            }
        };
        if encoding == Encoding::Identity {
            return self.stream(packed, events);
        }
        let ForwardOptions { limits, accountant, .. } = self.options;
        // Held until the entries are read, which have memory of their own.
        let Inflated { bytes, reservation: _inflated } =
            inflate(encoding, Bytes::copy_from_slice(packed), limits, accountant)?;
        self.stream(&bytes, events)
    }

    /// Reads `[time, record]` after `[time, record]`; those before a fault are kept.
    fn stream(&self, mut bytes: &[u8], events: &mut Events) -> Result<(), IngestError> {
        while !bytes.is_empty() {
            let mut scanner = Scanner::new(self.options.limits.json_depth_max, bytes.len());
            let Some(Scanned { bytes: end, objects }) = scanner.scan(bytes).map_err(malformed)? else {
                return Err(IngestError::Malformed("forward message: entries are cut short".to_owned()));
            };
            let (entry, rest) = bytes.split_at(end);
            bytes = rest;
            if let Some(memory) = &mut events.memory {
                grow(memory, end as u64 + objects as u64 * OBJECT_BYTES, self.options.accountant)?;
            }
            self.entry(&Reader::new(entry).value().map_err(malformed)?, events);
        }
        Ok(())
    }

    fn entry(&self, entry: &Value<'_>, events: &mut Events) {
        match entry {
            Value::Array(items) => match items.as_slice() {
                [time, record @ Value::Map(_), ..] => self.event(time, record, events),
                _ => refuse(events, "forward entry is not a time and a record"),
            },
            other => refuse(events, &format!("forward entry is {}, not an array", other.kind())),
        }
    }

    fn event(&self, time: &Value<'_>, record: &Value<'_>, events: &mut Events) {
        let (time, metadata) = match time {
            Value::Array(items) => (items.first().unwrap_or(&Value::Nil), items.get(1)),
            other => (other, None),
        };
        let Value::Map(members) = record else { return };
        let mut attributes = Attributes::with_capacity(members.len());
        let mut text: Option<(usize, String)> = None;
        for (key, value) in members {
            let key = key.text();
            let rank = TEXT_KEYS.iter().position(|k| *k == key);
            if let (Some(rank), Value::Str(line) | Value::Bin(line)) = (rank, value) {
                let line = String::from_utf8_lossy(line).into_owned();
                match &mut text {
                    Some((best, old)) if rank < *best => {
                        let old = std::mem::replace(old, line);
                        attributes.push((TEXT_KEYS[*best].to_owned(), AttributeValue::String(old)));
                        *best = rank;
                    }
                    Some(_) => attributes.push((key, AttributeValue::String(line))),
                    None => text = Some((rank, line)),
                }
                continue;
            }
            flatten(key, value.attribute(), self.options.limits.attribute_depth_max, &mut attributes);
        }
        let mut line = match text {
            Some((_, line)) => line,
            None => record.attribute().to_text(),
        };
        // The newline that a file had.
        if line.ends_with('\n') {
            line.truncate(line.trim_end_matches(['\n', '\r']).len());
        }
        if let Some(Value::Map(members)) = metadata {
            for (key, value) in members {
                flatten(key.text(), value.attribute(), self.options.limits.attribute_depth_max, &mut attributes);
            }
        }
        let mut received = Received::new(self.stream_of(&attributes), self.options.now_ns, line);
        received.record.time_ns = time_of(time).unwrap_or(0);
        received.record.attributes = attributes;
        events.records.push(received);
    }

    fn stream_of(&self, attributes: &Attributes) -> Labels {
        let mut stream = self.options.labels.to_builder();
        stream.set("fluent_tag", crate::metric_limits::cut(self.tag, LABEL_BYTES_MAX));
        if self.options.labels.get(SERVICE_NAME).is_none() {
            let found = SERVICE_KEYS.iter().find_map(|key| {
                let text = find(attributes, key)?.as_str()?.trim_start_matches('/');
                (!text.is_empty() && text.len() <= LABEL_BYTES_MAX).then_some(text)
            });
            stream.set(SERVICE_NAME, found.unwrap_or(crate::metric_limits::cut(self.tag, LABEL_BYTES_MAX)));
        }
        stream.build()
    }
}

fn refuse(events: &mut Events, reason: &str) {
    events.malformed += 1;
    if events.reason.is_empty() {
        events.reason = reason.to_owned();
    }
}

/// Unix nanoseconds; `None` for 0 and for what is no time.
fn time_of(time: &Value<'_>) -> Option<i64> {
    const NANOS: i64 = 1_000_000_000;
    let parts = |seconds: i64, nanos: i64| seconds.checked_mul(NANOS)?.checked_add(nanos);
    let word = |bytes: &[u8]| bytes.first_chunk::<4>().map(|b| i64::from(u32::from_be_bytes(*b)));
    let time_ns = match time {
        Value::Int(seconds) => parts(*seconds, 0),
        Value::Uint(seconds) => parts(i64::try_from(*seconds).ok()?, 0),
        Value::Float(seconds) if seconds.is_finite() && (0.0..9.2e9).contains(seconds) => Some((seconds * 1e9) as i64),
        // EventTime: seconds and nanoseconds.
        Value::Ext(0, bytes) if bytes.len() == 8 => parts(word(bytes)?, word(&bytes[4..])?),
        // MessagePack's own.
        Value::Ext(-1, bytes) => match bytes.len() {
            4 => parts(word(bytes)?, 0),
            8 => {
                let packed = u64::from_be_bytes(*bytes.first_chunk()?);
                parts((packed & 0x3_ffff_ffff) as i64, (packed >> 34) as i64)
            }
            12 => parts(i64::from_be_bytes(*bytes[4..].first_chunk()?), word(bytes)?),
            _ => None,
        },
        _ => None,
    };
    time_ns.filter(|ns| *ns > 0)
}

#[cfg(test)]
mod tests;
