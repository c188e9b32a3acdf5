//! Text that must not be shown.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::decode::{Decode, Encode, Sink, scalar_text};
use crate::yaml::{Node, Value};

/// What stands in place of a secret when it is printed.
pub(crate) const MASK: &str = "<secret>";

/// A secret text. Printing, debugging and serializing it all give `<secret>`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True when the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl Decode for Secret {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let text = scalar_text(node, "a string", sink)?;
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }
}

impl Encode for Secret {
    fn encode(&self) -> Value {
        Value::Str(MASK.to_owned())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
