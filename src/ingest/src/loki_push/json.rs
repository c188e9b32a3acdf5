//! `{"streams":[{"stream":{...},"values":[["<ns>","line",{...}?],...]}]}`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use trefoil_model::labels::{LabelsBuilder, is_legacy_label_name};
use trefoil_model::{AttributeValue, Attributes};

use super::Builder;
use crate::IngestError;
use crate::body::check_json_depth;
use crate::metric_limits::shorten;

pub(super) fn decode(bytes: &[u8], builder: &mut Builder<'_>) -> Result<(), IngestError> {
    check_json_depth(bytes, builder.context.limits.json_depth_max)?;
    // A derived reader would take a list for a struct.
    if bytes.trim_ascii_start().first().is_some_and(|b| *b != b'{') {
        return Err(IngestError::Malformed("malformed JSON push request: expected an object".to_owned()));
    }
    // A byte that is not UTF-8 becomes U+FFFD, as in Loki, instead of costing the whole batch.
    let text = String::from_utf8_lossy(bytes);
    let request: Request<'_> =
        serde_json::from_str(&text).map_err(|e| IngestError::Malformed(format!("malformed JSON push request: {e}")))?;
    for stream in request.streams {
        let mut labels = LabelsBuilder::new();
        for (name, value) in stream.stream.0 {
            labels.set(name, value);
        }
        let bad_name = labels.pairs().iter().map(|(name, _)| name).find(|name| !is_legacy_label_name(name));
        let opened = match bad_name {
            Some(name) => Err(format!("stream with label {:?}: not a label name", shorten(name))),
            None => builder.open(labels.build()),
        };
        match opened {
            Ok(open) => {
                for entry in stream.values {
                    let attributes: Attributes =
                        entry.attributes.into_iter().map(|(n, v)| (n, AttributeValue::String(v))).collect();
                    builder.add(&open, entry.time_ns, entry.line.into_owned(), attributes);
                }
            }
            Err(reason) => builder.reject(stream.values.len(), &reason),
        }
    }
    builder.finish();
    Ok(())
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, default)]
    streams: Vec<Stream<'a>>,
}

#[derive(Deserialize)]
struct Stream<'a> {
    #[serde(default)]
    stream: Pairs,
    #[serde(borrow, default)]
    values: Vec<Entry<'a>>,
}

/// Texts by name, in the sender's order.
#[derive(Default)]
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose values are strings")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct Entry<'a> {
    time_ns: i64,
    line: Cow<'a, str>,
    attributes: Vec<(String, String)>,
}

/// A text that is borrowed when it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Entry<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;
        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = Entry<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an entry [\"<unix nanoseconds>\", \"line\", {structured metadata}?]")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Entry<'de>, S::Error> {
                let time: Text<'de> = seq.next_element()?.ok_or_else(|| S::Error::invalid_length(0, &self))?;
                let time_ns = time.0.parse().map_err(|_| {
                    let shown = shorten(&time.0);
                    S::Error::custom(format!("timestamp {shown:?} is not a count of nanoseconds"))
                })?;
                let line: Text<'de> = seq.next_element()?.ok_or_else(|| S::Error::invalid_length(1, &self))?;
                let attributes = seq.next_element::<Pairs>()?.unwrap_or_default();
                if seq.next_element::<IgnoredAny>()?.is_some() {
                    return Err(S::Error::invalid_length(4, &self));
                }
                Ok(Entry { time_ns, line: line.0, attributes: attributes.0 })
            }
        }
        deserializer.deserialize_seq(EntryVisitor)
    }
}
