//! Syslog's severities (RFC 5424, 6.2.1), which GELF uses too.

use trefoil_model::{AttributeValue, LogRecord};

use crate::level::DETECTED_LEVEL;

/// By severity: its keyword, OpenTelemetry's severity number (logs data model, appendix B), and the level word of Loki.
pub(crate) const SEVERITIES: [(&str, u8, &str); 8] = [
    ("emerg", 21, "fatal"),
    ("alert", 19, "critical"),
    ("crit", 18, "critical"),
    ("err", 17, "error"),
    ("warning", 13, "warn"),
    ("notice", 10, "info"),
    ("info", 9, "info"),
    ("debug", 5, "debug"),
];

/// By facility: its keyword.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// Gives a record a severity from 0 (emergency) to 7 (debug); others are left alone. The attribute `detected_level`
/// comes with it, since the numbers alone do not tell critical from error.
pub(crate) fn set(record: &mut LogRecord, severity: u8) {
    if let Some((keyword, number, level)) = SEVERITIES.get(usize::from(severity)) {
        record.severity_number = *number;
        record.severity_text = (*keyword).to_owned();
        record.attributes.insert(0, (DETECTED_LEVEL.to_owned(), AttributeValue::String((*level).to_owned())));
    }
}

/// The keyword of a facility from 0 to 23.
pub(crate) fn facility(number: u8) -> Option<&'static str> {
    FACILITIES.get(usize::from(number)).copied()
}
