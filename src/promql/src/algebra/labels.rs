//! `label_replace` and `label_join`.

use trefoil_model::Labels;
use trefoil_model::re2::Regex;

use super::series::{MERGE_BYTES, merge_equal};
use super::{AlgebraError, Room, Series};
use crate::format::replaced;

/// Where the value of `source` matches the (anchored) pattern, sets `destination` to `replacement` with `$1`,
/// `${name}` expanded; an empty result removes the label. Errors on a bad pattern, and when series become equal.
pub fn label_replace(
    series: Vec<Series>,
    destination: &str,
    replacement: &str,
    source: &str,
    pattern: &str,
) -> Result<Vec<Series>, AlgebraError> {
    let regex = Regex::anchored(pattern)
        .map_err(|_| AlgebraError::new(format!("invalid regular expression in label_replace(): {pattern}")))?;
    label_replace_with(series, destination, replacement, source, &regex, Room::default())
}

/// As [`label_replace`] with a pattern that is compiled already, and with the memory for the new labels taken from `room`.
pub fn label_replace_with(
    series: Vec<Series>,
    destination: &str,
    replacement: &str,
    source: &str,
    regex: &Regex,
    room: Room<'_>,
) -> Result<Vec<Series>, AlgebraError> {
    check_name(destination, "label_replace")?;
    let mut out = series;
    for s in &mut out {
        let replaced = {
            let value = s.labels.get(source).unwrap_or("");
            // The longest that can come of it.
            let most = replacement.len().saturating_add((replacement.len() / 2).saturating_mul(value.len()));
            room.take(most)?;
            room.give(most);
            regex.captures(value).map(|captures| {
                let mut text = String::new();
                captures.expand(replacement, &mut text);
                text
            })
        };
        if let Some(text) = replaced {
            set(s, destination, text, room)?;
        }
    }
    room.take(out.len() * MERGE_BYTES)?;
    merge_equal(out)
}

/// Sets `destination` to the values of `sources` joined by `separator`; an empty result removes the label.
pub fn label_join(
    series: Vec<Series>,
    destination: &str,
    separator: &str,
    sources: &[String],
) -> Result<Vec<Series>, AlgebraError> {
    label_join_within(series, destination, separator, sources, Room::default())
}

/// As [`label_join`], with the memory for the new labels taken from `room`.
pub fn label_join_within(
    series: Vec<Series>,
    destination: &str,
    separator: &str,
    sources: &[String],
    room: Room<'_>,
) -> Result<Vec<Series>, AlgebraError> {
    check_name(destination, "label_join")?;
    let mut out = series;
    for s in &mut out {
        let parts: Vec<&str> = sources.iter().map(|n| s.labels.get(n).unwrap_or("")).collect();
        let most = parts.iter().map(|p| p.len() + separator.len()).sum();
        room.take(most)?;
        room.give(most);
        let text = parts.join(separator);
        set(s, destination, text, room)?;
    }
    room.take(out.len() * MERGE_BYTES)?;
    merge_equal(out)
}

fn set(series: &mut Series, name: &str, value: String, room: Room<'_>) -> Result<(), AlgebraError> {
    room.take(series.labels.heap_bytes() + name.len() + value.len())?;
    if name == trefoil_model::labels::METRIC_NAME {
        series.drop_name = false;
    }
    let mut builder = series.labels.to_builder();
    builder.set(name, replaced(&value));
    series.labels = builder.build();
    Ok(())
}

fn check_name(name: &str, function: &str) -> Result<(), AlgebraError> {
    // Any non-empty UTF-8 text is a label name.
    if name.is_empty() || !crate::format::is_valid_utf8(name) {
        return Err(AlgebraError::new(format!("invalid destination label name in {function}(): {}", replaced(name))));
    }
    Ok(())
}

/// The label set with one more label.
pub fn with_label(labels: &Labels, name: &str, value: &str) -> Labels {
    let mut builder = labels.to_builder();
    builder.set(name, value);
    builder.build()
}
