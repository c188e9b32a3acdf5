//! Spans and the batches in which they are written.

use std::fmt;
use std::sync::Arc;

use crate::value::attributes_heap_bytes;
use crate::{Attributes, Resource, Scope, TenantId};

/// A 128-bit trace id; all zeros is invalid.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(pub [u8; 16]);

/// A 64-bit span id; all zeros is invalid.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub [u8; 8]);

impl TraceId {
    /// Reads hexadecimal of either case; fewer than 32 digits are filled with zeros on the left. `None` when it is
    /// empty, too long, not hexadecimal or zero.
    pub fn from_hex(text: &str) -> Option<Self> {
        hex_left_padded::<16>(text).map(Self)
    }

    /// From bytes of a wire message: `None` unless 16 bytes and not all zero.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let id: [u8; 16] = bytes.try_into().ok()?;
        id.iter().any(|b| *b != 0).then_some(Self(id))
    }
}

impl SpanId {
    /// Reads hexadecimal of either case; fewer than 16 digits are filled with zeros on the left.
    pub fn from_hex(text: &str) -> Option<Self> {
        hex_left_padded::<8>(text).map(Self)
    }

    /// From bytes of a wire message: `None` unless 8 bytes and not all zero.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let id: [u8; 8] = bytes.try_into().ok()?;
        id.iter().any(|b| *b != 0).then_some(Self(id))
    }
}

fn hex_left_padded<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.is_empty() || text.len() > N * 2 {
        return None;
    }
    let mut out = [0u8; N];
    for (i, c) in text.bytes().rev().enumerate() {
        let digit = char::from(c).to_digit(16)? as u8;
        out[N - 1 - i / 2] |= digit << (4 * (i % 2));
    }
    out.iter().any(|b| *b != 0).then_some(out)
}

macro_rules! hex_display {
    ($t:ty) => {
        impl fmt::Display for $t {
            /// Lower-case hexadecimal, full length.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
hex_display!(TraceId);
hex_display!(SpanId);

/// The role of a span (OTLP's numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum SpanKind {
    /// Not said.
    #[default]
    Unspecified = 0,
    /// Work inside the service.
    Internal = 1,
    /// Serves a request.
    Server = 2,
    /// Makes a request.
    Client = 3,
    /// Sends a message.
    Producer = 4,
    /// Receives a message.
    Consumer = 5,
}

impl SpanKind {
    /// From OTLP's number; unknown ones are `Unspecified`.
    pub fn from_number(n: i32) -> Self {
        match n {
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Unspecified,
        }
    }

    /// The lower-case word that Jaeger and TraceQL use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

/// The outcome of a span (OTLP's numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum StatusCode {
    /// Not said.
    #[default]
    Unset = 0,
    /// Said to be good.
    Ok = 1,
    /// Failed.
    Error = 2,
}

impl StatusCode {
    /// From OTLP's number; unknown ones are `Unset`.
    pub fn from_number(n: i32) -> Self {
        match n {
            1 => Self::Ok,
            2 => Self::Error,
            _ => Self::Unset,
        }
    }
}

/// Something that happened during a span.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpanEvent {
    /// Unix nanoseconds.
    pub time_ns: i64,
    /// Name.
    pub name: String,
    /// Attributes.
    pub attributes: Attributes,
    /// How many attributes the sender left out.
    pub dropped_attributes: u32,
}

/// A reference to a span of this or another trace.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanLink {
    /// Trace.
    pub trace_id: TraceId,
    /// Span.
    pub span_id: SpanId,
    /// W3C trace state.
    pub trace_state: String,
    /// Attributes.
    pub attributes: Attributes,
}

/// One span.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Trace.
    pub trace_id: TraceId,
    /// Span.
    pub span_id: SpanId,
    /// Parent; `None` for a root.
    pub parent_span_id: Option<SpanId>,
    /// W3C trace state.
    pub trace_state: String,
    /// W3C flags as OTLP carries them.
    pub flags: u32,
    /// Operation name.
    pub name: String,
    /// Role.
    pub kind: SpanKind,
    /// Start, Unix nanoseconds.
    pub start_ns: i64,
    /// End, Unix nanoseconds; not before the start.
    pub end_ns: i64,
    /// Attributes.
    pub attributes: Attributes,
    /// Events in the sender's order.
    pub events: Vec<SpanEvent>,
    /// Links.
    pub links: Vec<SpanLink>,
    /// Outcome.
    pub status_code: StatusCode,
    /// What the sender says of the outcome.
    pub status_message: String,
    /// How many attributes, events and links the sender left out.
    pub dropped: [u32; 3],
}

impl Span {
    /// Length in nanoseconds, never negative.
    pub fn duration_ns(&self) -> i64 {
        self.end_ns.saturating_sub(self.start_ns).max(0)
    }

    /// Approximate bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + self.name.len()
            + self.trace_state.len()
            + self.status_message.len()
            + attributes_heap_bytes(&self.attributes)
            + self
                .events
                .iter()
                .map(|e| size_of::<SpanEvent>() + e.name.len() + attributes_heap_bytes(&e.attributes))
                .sum::<usize>()
            + self.links.iter().map(|l| size_of::<SpanLink>() + attributes_heap_bytes(&l.attributes)).sum::<usize>()
    }
}

/// Spans of one resource and scope.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SpanGroup {
    /// Who sent them.
    pub resource: Arc<Resource>,
    /// Which library made them.
    pub scope: Arc<Scope>,
    /// Spans in any order.
    pub spans: Vec<Span>,
}

/// What one push writes. All of it becomes durable and visible together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TraceBatch {
    /// Tenant.
    pub tenant: TenantId,
    /// Groups.
    pub groups: Vec<SpanGroup>,
}

impl TraceBatch {
    /// Number of spans.
    pub fn span_count(&self) -> usize {
        self.groups.iter().map(|g| g.spans.len()).sum()
    }

    /// Approximate bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.groups
            .iter()
            .map(|g| {
                attributes_heap_bytes(&g.resource.attributes) + g.spans.iter().map(Span::heap_bytes).sum::<usize>()
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_and_print() {
        assert_eq!(TraceId::from_hex("ABC").unwrap().to_string(), "00000000000000000000000000000abc");
        assert_eq!(SpanId::from_hex("00f067aa0ba902b7").unwrap().to_string(), "00f067aa0ba902b7");
        for bad in ["", "0", "xyz", &"1".repeat(33)] {
            assert!(TraceId::from_hex(bad).is_none(), "{bad}");
        }
        assert!(TraceId::from_bytes(&[0; 16]).is_none());
        assert!(SpanId::from_bytes(&[1; 7]).is_none());
    }
}
