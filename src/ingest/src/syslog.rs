//! Syslog messages: RFC 5424, and the many forms of RFC 3164 that are in use; [`frames`] cuts streams into messages.
//!
//! A message is never refused. What begins with a priority has its severity and facility from it; what is neither of the
//! two formats is kept whole. Host and application are stream labels: `host` (the sender's address when the message
//! names none) and `service_name`; everything else is an attribute: `facility`, `proc_id`, `msg_id`, `sequence`, and
//! `<id>.<name>` for each parameter of structured data. A time that a message lacks is that of its receipt.

pub mod frames;
mod rfc3164;
mod rfc5424;
mod time;

use std::net::IpAddr;

use jiff::tz::TimeZone;
use trefoil_model::{AttributeValue, Labels, LogRecord};
use trefoil_runtime::limits::Limits;

use crate::event_limits::CUT_LINE;
use crate::metric_limits::cut;
use crate::received::Received;
use crate::syslog_level;

/// Bytes of a header for which there is room beside a line of the full length.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// Which format a door takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Whichever a message has.
    #[default]
    Auto,
    /// RFC 5424; what is not is kept whole.
    Rfc5424,
    /// RFC 3164, whatever follows the priority.
    Rfc3164,
}

/// How the messages of a door are read.
#[derive(Debug, Clone)]
pub struct SyslogOptions {
    /// The format.
    pub format: Format,
    /// Zone of times that name none.
    pub timezone: TimeZone,
    /// Stream labels of all messages. `service_name` and `host` in them go before those of a message, whose own are then
    /// the attributes `app_name` and `hostname`.
    pub labels: Labels,
}

/// What a message says beside its text; texts are empty when it does not.
#[derive(Debug, Default)]
struct Parsed {
    time_ns: Option<i64>,
    host: String,
    app: String,
    attributes: Vec<(String, AttributeValue)>,
    text: String,
}

impl Parsed {
    fn attribute(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.attributes.push((name.to_owned(), AttributeValue::String(value.to_owned())));
        }
    }
}

/// Bytes of a message that are looked at; of longer ones the rest need not be kept.
pub fn message_bytes_max(limits: &Limits) -> usize {
    limits.log_line_cut_bytes.saturating_add(HEADER_BYTES_MAX)
}

/// Decodes a message without its framing.
///
/// `full_bytes` is its length as sent, more than `message` has when it was cut; `sender` stands in for a host that is
/// not named; `now_ns` is the receipt time in Unix nanoseconds.
pub fn decode(
    message: &[u8],
    full_bytes: usize,
    sender: Option<IpAddr>,
    options: &SyslogOptions,
    limits: &Limits,
    now_ns: i64,
) -> Received {
    let was_cut = full_bytes > message.len();
    // The end of a message over TCP without counts, and what some senders put after it all the same.
    let end = if was_cut {
        message.len()
    } else {
        message.iter().rposition(|b| !matches!(b, b'\n' | b'\r' | 0)).map_or(0, |i| i + 1)
    };
    // A byte that is not UTF-8 becomes U+FFFD instead of costing the message.
    let text = String::from_utf8_lossy(&message[..end]);
    let mut received = Received::new(Labels::empty(), now_ns, String::new());
    let mut parsed = match priority(&text) {
        Some((priority, rest)) => {
            let facility = syslog_level::facility(priority >> 3).unwrap_or_default();
            let mut parsed = body(rest, &text, options, now_ns);
            parsed.attributes.insert(0, ("facility".to_owned(), AttributeValue::String(facility.to_owned())));
            std::mem::swap(&mut received.record.attributes, &mut parsed.attributes);
            syslog_level::set(&mut received.record, priority & 7);
            parsed
        }
        None => Parsed { text: text.into_owned(), ..Parsed::default() },
    };
    received.record.time_ns = parsed.time_ns.unwrap_or(0);
    received.record.text = std::mem::take(&mut parsed.text);
    if was_cut {
        mark_cut(&mut received.record, full_bytes, limits);
    }
    if parsed.host.is_empty() {
        parsed.host = sender.map(|ip| ip.to_canonical().to_string()).unwrap_or_default();
    }
    received.stream = stream(&options.labels, parsed.host, parsed.app, &mut received.record);
    received
}

/// The number between angle brackets at the start, and what follows it.
fn priority(text: &str) -> Option<(u8, &str)> {
    let (digits, rest) = text.strip_prefix('<')?.split_once('>')?;
    let number: u8 = digits.parse().ok().filter(|n| *n <= 191)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then_some((number, rest))
}

fn body(rest: &str, whole: &str, options: &SyslogOptions, now_ns: i64) -> Parsed {
    let as_5424 = || rfc5424::parse(rest);
    let as_3164 = || rfc3164::parse(rest, &options.timezone, now_ns);
    let unknown = || Parsed { text: whole.to_owned(), ..Parsed::default() };
    match options.format {
        Format::Rfc3164 => as_3164(),
        Format::Rfc5424 => as_5424().unwrap_or_else(unknown),
        Format::Auto if rfc5424::has_version(rest) => as_5424().unwrap_or_else(unknown),
        Format::Auto => as_3164(),
    }
}

fn mark_cut(record: &mut LogRecord, full_bytes: usize, limits: &Limits) {
    trefoil_runtime::limits::hit("log_line_cut_bytes");
    record.text.truncate(cut(&record.text, limits.log_line_cut_bytes).len());
    record.attributes.push((CUT_LINE.to_owned(), AttributeValue::Int(full_bytes as i64)));
}

fn stream(labels: &Labels, host: String, app: String, record: &mut LogRecord) -> Labels {
    let mut stream = labels.to_builder();
    for (label, attribute, value) in [("host", "hostname", host), ("service_name", "app_name", app)] {
        if value.is_empty() {
            continue;
        }
        match labels.get(label) {
            None => {
                stream.set(label, value);
            }
            Some(_) => record.attributes.push((attribute.to_owned(), AttributeValue::String(value))),
        }
    }
    stream.build()
}

#[cfg(test)]
mod tests;
