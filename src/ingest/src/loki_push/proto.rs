//! `logproto.PushRequest`.

use trefoil_model::{AttributeValue, Attributes};

use super::Builder;
use crate::IngestError;
use crate::protobuf::{Field, Reader, WireError};

pub(super) fn decode(bytes: &[u8], builder: &mut Builder<'_>) -> Result<(), IngestError> {
    let mut request = Reader::new(bytes);
    while let Some(field) = request.field()? {
        if field.number == 1 {
            stream(field.message()?, builder)?;
        }
    }
    builder.finish();
    Ok(())
}

fn stream(reader: Reader<'_>, builder: &mut Builder<'_>) -> Result<(), WireError> {
    let mut labels = Some("");
    let mut entries = 0;
    let mut fields = reader;
    while let Some(field) = fields.field()? {
        match field.number {
            1 => labels = std::str::from_utf8(field.bytes()?).ok(),
            2 => entries += 1,
            _ => {}
        }
    }
    let opened = match labels {
        Some(labels) => builder.open_text(labels),
        None => Err("stream labels are not UTF-8".to_owned()),
    };
    if let Err(reason) = &opened {
        builder.reject(entries, reason);
    }
    let mut fields = reader;
    while let Some(field) = fields.field()? {
        if field.number == 2 {
            // Entries of a refused stream are read all the same: a broken request is refused wherever it is broken.
            let entry = entry(field.message()?)?;
            if let Ok(open) = &opened {
                builder.add(open, entry.time_ns, entry.line, entry.attributes);
            }
        }
    }
    Ok(())
}

struct Entry {
    time_ns: i64,
    line: String,
    attributes: Attributes,
}

fn entry(mut fields: Reader<'_>) -> Result<Entry, WireError> {
    let mut entry = Entry { time_ns: 0, line: String::new(), attributes: Attributes::new() };
    while let Some(field) = fields.field()? {
        match field.number {
            1 => entry.time_ns = timestamp(field.message()?)?,
            2 => entry.line = lossy(field)?,
            3 => {
                let (name, value) = pair(field.message()?)?;
                if !name.is_empty() {
                    entry.attributes.push((name, AttributeValue::String(value)));
                }
            }
            _ => {}
        }
    }
    Ok(entry)
}

fn timestamp(mut fields: Reader<'_>) -> Result<i64, WireError> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    while let Some(field) = fields.field()? {
        match field.number {
            1 => seconds = field.varint()? as i64,
            2 => nanos = i64::from(field.varint()? as i32),
            _ => {}
        }
    }
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

fn pair(mut fields: Reader<'_>) -> Result<(String, String), WireError> {
    let (mut name, mut value) = (String::new(), String::new());
    while let Some(field) = fields.field()? {
        match field.number {
            1 => name = lossy(field)?,
            2 => value = lossy(field)?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// Lines may hold any bytes; what is not UTF-8 becomes U+FFFD, as in Loki.
fn lossy(field: Field<'_>) -> Result<String, WireError> {
    Ok(String::from_utf8_lossy(field.bytes()?).into_owned())
}
