//! Datadog's log intake: a list of objects, or one
//! (<https://docs.datadoghq.com/api/latest/logs/#send-logs>).
//!
//! `service`, `hostname`, `ddsource` and the tags that name where a log comes from ([`STREAM_TAGS`]) are stream labels; other
//! tags and all other members are attributes. `status` is the severity.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::IngestError;
use crate::documents::time::parse_value;
use crate::documents::{Builder, Defaults, Envelope, Field, FieldValue, Mapping, TimeUnit, parse_object};
use crate::ingest::Context;
use crate::json_lines::Decoded;
use crate::metric_limits::shorten;

/// What the members are by default.
pub(crate) const DEFAULTS: Defaults<'_> =
    Defaults { message: &["message"], time: &[], streams: &[], severity: &[], unit: TimeUnit::Milliseconds };
/// Tags that are stream labels.
pub const STREAM_TAGS: [&str; 8] = [
    "container_name",
    "env",
    "kube_cluster_name",
    "kube_container_name",
    "kube_deployment",
    "kube_namespace",
    "kube_node",
    "pod_name",
];
/// Most tags of a log.
const TAGS_MAX: usize = 256;

/// Decodes an inflated body. An object that cannot be taken is refused alone.
///
/// Errors: `Malformed` for what is neither a list nor an object.
pub(crate) fn decode(bytes: &[u8], mapping: &Mapping, context: &Context) -> Result<Decoded, IngestError> {
    let text = String::from_utf8_lossy(bytes);
    let trimmed = text.trim_ascii();
    let malformed = |e: serde_json::Error| IngestError::Malformed(format!("malformed JSON: {e}"));
    let entries: Vec<&RawValue> = match trimmed.as_bytes().first() {
        None => Vec::new(),
        Some(b'[') => serde_json::from_str(trimmed).map_err(malformed)?,
        // One object, or several one after another.
        Some(b'{') => {
            serde_json::Deserializer::from_str(trimmed).into_iter().collect::<Result<_, _>>().map_err(malformed)?
        }
        Some(_) => return Err(IngestError::Malformed("malformed JSON: expected a list of objects".to_owned())),
    };
    let mut builder = Builder::new(context, mapping);
    let mut decoded = Decoded { have_own_times: true, ..Decoded::default() };
    let mut fields = Vec::new();
    for (number, entry) in entries.into_iter().enumerate() {
        fields.clear();
        let added = parse_object(entry.get(), context.limits.json_depth_max, &mut fields)
            .and_then(|()| add(&mut fields, entry.get(), &mut builder));
        match added {
            Ok(has_own_time) => decoded.have_own_times &= has_own_time,
            Err(reason) => {
                decoded.report.reject(|| format!("log {} {:?}: {reason}", number + 1, shorten(entry.get())));
            }
        }
    }
    decoded.batch = builder.finish();
    Ok(decoded)
}

fn add(fields: &mut Vec<Field<'_>>, source: &str, builder: &mut Builder<'_>) -> Result<bool, String> {
    let mut labels: Vec<(&str, Cow<'_, str>)> = Vec::new();
    let mut severity = String::new();
    let mut time_ns = None;
    let mut tags = String::new();
    let mut failed = None;
    fields.retain(|field| {
        let label = match &*field.name {
            "service" => "service",
            "hostname" | "host" => "hostname",
            "ddsource" | "source" => "ddsource",
            "status" => {
                if let FieldValue::Text(text) = &field.value {
                    severity = text.clone().into_owned();
                }
                return severity.is_empty();
            }
            "timestamp" | "date" => {
                return match parse_value(&field.value, TimeUnit::Milliseconds) {
                    Ok(time) => {
                        time_ns = time_ns.or(time);
                        false
                    }
                    Err(()) => {
                        failed = Some(format!("{} is not a time", field.name));
                        false
                    }
                };
            }
            "ddtags" => {
                tags = field.value.text().into_owned();
                return false;
            }
            _ => return true,
        };
        let value = field.value.text().into_owned();
        if !value.is_empty() && labels.iter().all(|(name, _)| *name != label) {
            labels.push((label, Cow::Owned(value)));
        }
        false
    });
    if let Some(reason) = failed {
        return Err(reason);
    }
    for tag in tags.split(',').map(str::trim).filter(|t| !t.is_empty()).take(TAGS_MAX) {
        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
        match STREAM_TAGS.iter().find(|known| **known == name) {
            Some(known) if !value.is_empty() && labels.iter().all(|(label, _)| label != known) => {
                labels.push((known, Cow::Owned(value.to_owned())));
            }
            _ => fields.push(Field::text(name.to_owned(), value.to_owned())),
        }
    }
    // The order of a sender makes no other stream.
    labels.sort_unstable_by_key(|(name, _)| *name);
    let envelope = Envelope { time_ns, labels: &labels, severity: &severity, ..Envelope::default() };
    builder.add(fields, source, &envelope)?;
    Ok(time_ns.is_some())
}
