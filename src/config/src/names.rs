//! Which metric and label names are valid.

use crate::decode::{Decode, Encode, Sink, choice, scalar_text};
use crate::yaml::{Node, Value};

/// Which names are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValidationScheme {
    /// Any UTF-8 text that is not empty.
    Utf8,
    /// `[a-zA-Z_:][a-zA-Z0-9_:]*` (no colon in label names).
    Legacy,
}

impl ValidationScheme {
    /// The word for it in a file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "utf8",
            Self::Legacy => "legacy",
        }
    }

    /// True when a label may have this name.
    pub fn is_valid_label_name(self, name: &str) -> bool {
        match self {
            Self::Utf8 => !name.is_empty(),
            Self::Legacy => {
                let mut chars = name.chars();
                chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
                    && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
            }
        }
    }
}

impl Decode for ValidationScheme {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        match scalar_text(node, "a validation scheme", sink)? {
            "utf8" => Some(Self::Utf8),
            "legacy" => Some(Self::Legacy),
            "" => None,
            other => {
                sink.error(node.pos, format!("unrecognized ValidationScheme: {other:?} (one of: utf8, legacy)"));
                None
            }
        }
    }
}

impl Encode for ValidationScheme {
    fn encode(&self) -> Value {
        Value::Str(self.as_str().to_owned())
    }
}

choice! {
    /// How names outside the classic character set are asked for in a scrape.
    pub enum EscapingScheme: "name escaping method" {
        /// As they are.
        AllowUtf8 = "allow-utf-8",
        /// Other characters become underscores.
        Underscores = "underscores",
        /// Dots become `_dot_`, underscores double, others `__`.
        Dots = "dots",
        /// With the code point in hexadecimal.
        Values = "values",
    }
}
