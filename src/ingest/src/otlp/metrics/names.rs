//! Metric and label names as Prometheus 3 translates them by default (`UnderscoreEscapingWithSuffixes`,
//! <https://prometheus.io/docs/guides/opentelemetry/>).

use std::borrow::Cow;

use trefoil_model::labels::is_legacy_label_name;

/// What of a metric decides about suffixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// A gauge: unit `1` gives `_ratio`.
    Gauge,
    /// A monotonic sum: gets `_total`.
    Counter,
    /// Anything else.
    Other,
}

const UNITS: [(&str, &str); 28] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("B", "bytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
    ("kBy", "kilobytes"),
];

const PER_UNITS: [(&str, &str); 7] =
    [("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

/// The name of the metric family: tokens joined by `_`, then the unit, then `total` or `ratio`.
pub fn metric_name(name: &str, unit: &str, kind: NameKind) -> String {
    let is_token = |c: char| c.is_ascii_alphanumeric() || c == ':';
    let mut tokens: Vec<&str> = name.split(|c| !is_token(c)).filter(|t| !t.is_empty()).collect();
    let (main, per) = unit_words(unit);
    let per_is_new = !per.is_empty() && !tokens.contains(&per.as_str());
    if !main.is_empty() && !tokens.contains(&main.as_str()) {
        tokens.push(&main);
    }
    if per_is_new {
        tokens.push("per");
        tokens.push(&per);
    }
    let last = match kind {
        NameKind::Counter => Some("total"),
        NameKind::Gauge if unit.trim() == "1" => Some("ratio"),
        _ => None,
    };
    if let Some(last) = last {
        tokens.retain(|t| *t != last);
        tokens.push(last);
    }
    let mut out = tokens.join("_");
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

/// The unit as metadata says it, "" when there is none.
pub fn unit_name(unit: &str) -> String {
    match unit_words(unit) {
        (main, per) if per.is_empty() => main,
        (main, per) if main.is_empty() => format!("per_{per}"),
        (main, per) => format!("{main}_per_{per}"),
    }
}

fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    (word(main, &UNITS), word(per, &PER_UNITS))
}

/// The word for a part of a unit; annotations in braces have none.
fn word(part: &str, table: &[(&str, &str)]) -> String {
    let part = part.trim();
    if part.contains(['{', '}']) {
        return String::new();
    }
    let word = table.iter().find(|(unit, _)| *unit == part).map_or(part, |(_, word)| *word);
    let is_kept = |c: char| c.is_ascii_alphanumeric() || c == ':';
    word.split(|c| !is_kept(c)).filter(|t| !t.is_empty()).collect::<Vec<_>>().join("_")
}

/// The name of a label: other characters than `[A-Za-z0-9_]` become `_`, a leading digit gets `key_`, a single leading
/// `_` gets `key`.
pub fn label_name(name: &str) -> Cow<'_, str> {
    if is_legacy_label_name(name) && !name.starts_with('_') {
        return Cow::Borrowed(name);
    }
    let mut out: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert_str(0, "key_");
    } else if out.starts_with('_') && !out.starts_with("__") {
        out.insert_str(0, "key");
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names() {
        use NameKind::{Counter, Gauge, Other};
        for (name, unit, kind, want) in [
            ("http.server.request.duration", "s", Other, "http_server_request_duration_seconds"),
            ("request_duration_seconds", "s", Other, "request_duration_seconds"),
            ("http.requests", "{request}", Counter, "http_requests_total"),
            ("http.requests", "", Counter, "http_requests_total"),
            ("total.requests", "", Counter, "requests_total"),
            ("system.cpu.utilization", "1", Gauge, "system_cpu_utilization_ratio"),
            ("jobs.ratio.now", "1", Gauge, "jobs_now_ratio"),
            ("queue.length", "1", Other, "queue_length"),
            ("network.io", "By", Counter, "network_io_bytes_total"),
            ("disk.speed", "By/s", Gauge, "disk_speed_bytes_per_second"),
            ("foo.second", "By/s", Gauge, "foo_second_bytes"),
            ("events", "1/s", Gauge, "events_per_second"),
            ("speed", "km/h", Gauge, "speed_km_per_hour"),
            ("a..b__c", "", Other, "a_b_c"),
            ("2xx.count", "", Other, "_2xx_count"),
            ("cpu", "%", Gauge, "cpu_percent"),
            ("x", "widgets per {day}", Gauge, "x"),
            ("job:foo", "ms", Other, "job:foo_milliseconds"),
            ("temperature", "°C", Gauge, "temperature_C"),
            ("mem", "KiBy", Gauge, "mem_kibibytes"),
        ] {
            assert_eq!(metric_name(name, unit, kind), want, "{name} {unit}");
        }
    }

    #[test]
    fn label_names() {
        for (name, want) in [
            ("http.method", "http_method"),
            ("ok", "ok"),
            ("1st", "key_1st"),
            ("_private", "key_private"),
            ("__meta__", "__meta__"),
            ("a..b", "a__b"),
            (".x", "key_x"),
            ("ü", "key_"),
        ] {
            assert_eq!(label_name(name), want, "{name}");
        }
    }

    #[test]
    fn unit_names() {
        for (unit, want) in
            [("s", "seconds"), ("By/s", "bytes_per_second"), ("1", ""), ("{x}", ""), ("1/s", "per_second")]
        {
            assert_eq!(unit_name(unit), want, "{unit}");
        }
    }
}
