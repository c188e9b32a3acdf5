//! Durations and sizes as they are written in queries and in labels.

/// Nanoseconds of a duration in a query: Prometheus' form (`1d12h`), else Go's (`1.5h`).
pub(crate) fn parse_query_duration(text: &str) -> Option<i64> {
    trefoil_template::prometheus_funcs::parse_prometheus_duration(text)
        .and_then(|ms| ms.checked_mul(1_000_000))
        .or_else(|| trefoil_template::go_time::parse_duration(text))
}

/// Bytes of a size in a query; units are case-sensitive.
pub(crate) fn parse_query_bytes(text: &str) -> Option<u64> {
    const UNITS: [&str; 13] = ["B", "kB", "KB", "MB", "GB", "TB", "PB", "EB", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    UNITS.contains(&&text[at..]).then(|| parse_bytes(text))?
}

/// Bytes of a size in a label: `2KB`, `1.5 MiB`, `1,024`; units are case-insensitive.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ',')).unwrap_or(text.len());
    let number: f64 = text[..end].replace(',', "").parse().ok()?;
    let unit = text[end..].trim().to_ascii_lowercase();
    let scale = match unit.as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "p" | "pb" => 1e15,
        "e" | "eb" => 1e18,
        "ki" | "kib" => 1024.0,
        "mi" | "mib" => 1024f64.powi(2),
        "gi" | "gib" => 1024f64.powi(3),
        "ti" | "tib" => 1024f64.powi(4),
        "pi" | "pib" => 1024f64.powi(5),
        "ei" | "eib" => 1024f64.powi(6),
        _ => return None,
    };
    let bytes = number * scale;
    (bytes < 1.8e19).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations() {
        for (text, want) in [("2KB", Some(2000)), ("1.5MiB", Some(1_572_864)), ("1,024B", Some(1024)), ("64", Some(64))]
        {
            assert_eq!(parse_bytes(text), want, "{text}");
        }
        assert_eq!(parse_bytes("lots"), None);
        assert_eq!(parse_bytes("3kb"), Some(3000));
        assert_eq!(parse_query_bytes("3kb"), None);
        assert_eq!(parse_query_bytes("1KiB"), Some(1024));
        assert_eq!(parse_query_duration("1d"), Some(86_400_000_000_000));
        assert_eq!(parse_query_duration("1.5h"), Some(5_400_000_000_000));
        assert_eq!(parse_query_duration("5q"), None);
    }
}
