//! Limits of label sets and sample times, checked alike for every protocol that writes samples.

use trefoil_runtime::limits::{self, Limits};

/// Checks a sorted label set against the limits; the message says which limit is exceeded.
pub fn check_labels(pairs: &[(&str, &str)], limits: &Limits) -> Result<(), String> {
    if pairs.len() > limits.labels_per_series_max {
        limits::hit("labels_per_series_max");
        return Err(format!("{} labels, at most {} are taken", pairs.len(), limits.labels_per_series_max));
    }
    let mut bytes = 0;
    for (name, value) in pairs {
        if name.len() > limits.label_name_bytes_max {
            limits::hit("label_name_bytes_max");
            return Err(format!(
                "a label name of {} bytes, at most {} are taken",
                name.len(),
                limits.label_name_bytes_max
            ));
        }
        if value.len() > limits.label_value_bytes_max {
            limits::hit("label_value_bytes_max");
            return Err(format!(
                "value of label {name:?} has {} bytes, at most {} are taken",
                value.len(),
                limits.label_value_bytes_max
            ));
        }
        bytes += name.len() + value.len();
    }
    if bytes > limits.labels_bytes_max {
        limits::hit("labels_bytes_max");
        return Err(format!("labels of {bytes} bytes, at most {} are taken", limits.labels_bytes_max));
    }
    Ok(())
}

/// Cuts text to at most `max` bytes at a character boundary.
pub fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Up to 120 bytes of a text, to name an item in a message.
pub fn shorten(text: &str) -> &str {
    cut(text, 120)
}
