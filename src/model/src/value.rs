//! Attribute values of events.

use std::fmt;

/// A typed attribute value, as OpenTelemetry's `AnyValue`.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    /// No value.
    Null,
    /// Text.
    String(String),
    /// Boolean.
    Bool(bool),
    /// Whole number.
    Int(i64),
    /// Floating point.
    Double(f64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// List.
    Array(Vec<AttributeValue>),
    /// Map, in the sender's order.
    Map(Attributes),
}

/// Attributes in the sender's order; names are dotted as sent. Of a repeated name the first counts.
pub type Attributes = Vec<(String, AttributeValue)>;

impl AttributeValue {
    /// The text, for `String` only.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }

    /// The value as text: strings as they are, lists and maps as JSON, bytes as base64, null as "".
    pub fn to_text(&self) -> String {
        match self {
            Self::String(s) => s.clone(),
            Self::Null => String::new(),
            other => other.to_string(),
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::String(s) => s.len(),
            Self::Bytes(b) => b.len(),
            Self::Array(a) => a.iter().map(|v| v.heap_bytes() + 32).sum(),
            Self::Map(m) => attributes_heap_bytes(m),
            _ => 0,
        }
    }
}

/// Bytes that attributes take on the heap.
pub fn attributes_heap_bytes(attributes: &Attributes) -> usize {
    attributes.iter().map(|(k, v)| k.len() + v.heap_bytes() + 56).sum()
}

/// Finds an attribute by name.
pub fn find<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a AttributeValue> {
    attributes.iter().find(|(n, _)| n == name).map(|(_, v)| v)
}

impl fmt::Display for AttributeValue {
    /// JSON, except that a top-level string is quoted too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::String(s) => write_json_string(f, s),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(i) => write!(f, "{i}"),
            Self::Double(d) if d.is_finite() => write!(f, "{d}"),
            Self::Double(d) => write!(f, "\"{d}\""),
            Self::Bytes(b) => {
                f.write_str("\"")?;
                f.write_str(&base64(b))?;
                f.write_str("\"")
            }
            Self::Array(a) => {
                f.write_str("[")?;
                for (i, v) in a.iter().enumerate() {
                    if i > 0 {
                        f.write_str(",")?;
                    }
                    fmt::Display::fmt(v, f)?;
                }
                f.write_str("]")
            }
            Self::Map(m) => {
                f.write_str("{")?;
                for (i, (k, v)) in m.iter().enumerate() {
                    if i > 0 {
                        f.write_str(",")?;
                    }
                    write_json_string(f, k)?;
                    f.write_str(":")?;
                    fmt::Display::fmt(v, f)?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_json_string(f: &mut fmt::Formatter<'_>, s: &str) -> fmt::Result {
    use fmt::Write;
    f.write_str("\"")?;
    for c in s.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if (c as u32) < 0x20 => write!(f, "\\u{:04x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_str("\"")
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let n = u32::from(chunk[0]) << 16
            | u32::from(chunk.get(1).copied().unwrap_or(0)) << 8
            | u32::from(chunk.get(2).copied().unwrap_or(0));
        for i in 0..4 {
            if i <= chunk.len() {
                out.push(char::from(ALPHABET[(n >> (18 - 6 * i)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// What sent the events: OpenTelemetry's resource.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resource {
    /// Attributes such as `service.name`.
    pub attributes: Attributes,
    /// Schema URL, "" when none.
    pub schema_url: String,
}

impl Resource {
    /// `service.name`, or "" when absent.
    pub fn service_name(&self) -> &str {
        find(&self.attributes, "service.name").and_then(AttributeValue::as_str).unwrap_or("")
    }
}

/// The instrumentation scope.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scope {
    /// Name of the library.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its attributes.
    pub attributes: Attributes,
}
