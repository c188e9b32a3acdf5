//! `label_replace` and `label_join`.

use regex::Regex;
use trefoil_model::Labels;

use super::series::merge_equal;
use super::{AlgebraError, Series};
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
    let regex: Regex = trefoil_model::matcher::anchored(pattern)
        .map_err(|_| AlgebraError::new(format!("invalid regular expression in label_replace(): {pattern}")))?;
    check_name(destination, "label_replace")?;
    let mut out = series;
    for s in &mut out {
        let replaced = {
            let value = s.labels.get(source).unwrap_or("");
            regex.captures(value).map(|captures| {
                let mut text = String::new();
                captures.expand(&go_template(replacement), &mut text);
                text
            })
        };
        if let Some(text) = replaced {
            set(s, destination, text);
        }
    }
    merge_equal(out)
}

/// Sets `destination` to the values of `sources` joined by `separator`; an empty result removes the label.
pub fn label_join(
    series: Vec<Series>,
    destination: &str,
    separator: &str,
    sources: &[String],
) -> Result<Vec<Series>, AlgebraError> {
    check_name(destination, "label_join")?;
    let mut out = series;
    for s in &mut out {
        let parts: Vec<&str> = sources.iter().map(|n| s.labels.get(n).unwrap_or("")).collect();
        let text = parts.join(separator);
        set(s, destination, text);
    }
    merge_equal(out)
}

fn set(series: &mut Series, name: &str, value: String) {
    if name == trefoil_model::labels::METRIC_NAME {
        series.drop_name = false;
    }
    let mut builder = series.labels.to_builder();
    builder.set(name, replaced(&value));
    series.labels = builder.build();
}

fn check_name(name: &str, function: &str) -> Result<(), AlgebraError> {
    // Any non-empty UTF-8 text is a label name.
    if name.is_empty() || !crate::format::is_valid_utf8(name) {
        return Err(AlgebraError::new(format!("invalid destination label name in {function}(): {}", replaced(name))));
    }
    Ok(())
}

/// Go's templates take the longest run of word characters after `$`, as ours do, but `$1x` names group "1x" in
/// both; what differs is nothing but a lone `$`, which both keep.
fn go_template(replacement: &str) -> std::borrow::Cow<'_, str> {
    std::borrow::Cow::Borrowed(replacement)
}

/// The label set with one more label.
pub fn with_label(labels: &Labels, name: &str, value: &str) -> Labels {
    let mut builder = labels.to_builder();
    builder.set(name, value);
    builder.build()
}
