//! `timestamp`: the time of an entry from a found value.

use std::sync::Arc;

use jiff::tz::TimeZone;
use rustc_hash::FxHashMap;
use trefoil_template::go_time::{Time, parse_layout};

use crate::entry::Entry;
use crate::options::{Options, Sink};
use crate::stages::State;

/// Most streams of a source whose last time is remembered.
const STREAMS_MAX: usize = 1_000;
const NS_PER_SECOND: i64 = 1_000_000_000;
const HALF_YEAR_NS: i64 = 183 * 86_400 * NS_PER_SECOND;

/// Formats that have a name.
const NAMED: [(&str, &str); 8] = [
    ("ANSIC", "Mon Jan _2 15:04:05 2006"),
    ("UnixDate", "Mon Jan _2 15:04:05 MST 2006"),
    ("RubyDate", "Mon Jan 02 15:04:05 -0700 2006"),
    ("RFC822", "02 Jan 06 15:04 MST"),
    ("RFC822Z", "02 Jan 06 15:04 -0700"),
    ("RFC850", "Monday, 02-Jan-06 15:04:05 MST"),
    ("RFC1123", "Mon, 02 Jan 2006 15:04:05 MST"),
    ("RFC1123Z", "Mon, 02 Jan 2006 15:04:05 -0700"),
];

#[derive(Debug)]
enum Format {
    /// Seconds, with or without a fraction.
    Unix,
    /// Whole numbers of so many nanoseconds.
    UnixUnits(i64),
    Rfc3339,
    Layout(String),
    /// A layout without a year, behind `2006 `.
    NoYear(String),
}

impl Format {
    fn new(text: &str) -> Self {
        match text {
            "Unix" => Self::Unix,
            "UnixMs" => Self::UnixUnits(1_000_000),
            "UnixUs" => Self::UnixUnits(1_000),
            "UnixNs" => Self::UnixUnits(1),
            "RFC3339" | "RFC3339Nano" => Self::Rfc3339,
            _ => {
                let layout = NAMED.iter().find(|(name, _)| *name == text).map_or(text, |(_, layout)| layout);
                if layout.contains("06") {
                    Self::Layout(layout.to_owned())
                } else {
                    Self::NoYear(format!("2006 {layout}"))
                }
            }
        }
    }

    fn parse(&self, text: &str, zone: &TimeZone, now_ns: i64) -> Option<i64> {
        match self {
            Self::Unix => {
                let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
                let seconds: i64 = whole.parse().ok()?;
                let digits = fraction.get(..fraction.len().min(9))?;
                if !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                let nanos: i64 = format!("{digits:0<9}").parse().ok()?;
                let sign = if whole.starts_with('-') { -1 } else { 1 };
                seconds.checked_mul(NS_PER_SECOND)?.checked_add(sign * nanos)
            }
            Self::UnixUnits(unit) => text.parse::<i64>().ok()?.checked_mul(*unit),
            Self::Rfc3339 => {
                // As Go has it, a zone must be there.
                let time: jiff::Timestamp = text.parse().ok()?;
                i64::try_from(time.as_nanosecond()).ok()
            }
            Self::Layout(layout) => parse_layout(layout, text, zone).map(|t| Time(t).unix_ns()),
            Self::NoYear(layout) => {
                let year = Time::from_unix_ns(now_ns).0.with_time_zone(zone.clone()).year();
                let of =
                    |year: i16| parse_layout(layout, &format!("{year:04} {text}"), zone).map(|t| Time(t).unix_ns());
                // The year that brings the time nearest to now: December in January is last year's.
                [year, year - 1, year + 1]
                    .into_iter()
                    .filter_map(of)
                    .find(|t| t.abs_diff(now_ns) <= HALF_YEAR_NS.unsigned_abs())
                    .or_else(|| of(year))
            }
        }
    }
}

/// `timestamp`
#[derive(Debug)]
pub(crate) struct Timestamp {
    source: Arc<str>,
    formats: Vec<Format>,
    zone: TimeZone,
    fudge: bool,
}

/// The last time of each stream of a source.
#[derive(Debug, Default)]
pub(crate) struct LastTimes(FxHashMap<u64, i64>);

impl Timestamp {
    pub(crate) fn new(options: &mut Options<'_>, sink: &mut Sink) -> Option<Self> {
        let source = options.required("source", sink);
        let format = options.required("format", sink);
        let mut formats: Vec<Format> = format.iter().map(|text| Format::new(text)).collect();
        formats.extend(options.list("fallback_formats", sink).iter().map(|text| Format::new(text)));
        let pos = options.node.key_pos("location");
        let zone = match options.text("location", sink).as_deref() {
            None | Some("" | "UTC") => TimeZone::UTC,
            Some("Local") => TimeZone::system(),
            Some(name) => TimeZone::get(name).unwrap_or_else(|_| {
                sink.fault(pos, format!("unknown time zone {name:?}"));
                TimeZone::UTC
            }),
        };
        let read = |text: &str| match text {
            "fudge" | "" => Some(true),
            "skip" => Some(false),
            _ => None,
        };
        let fudge = options.parsed("action_on_failure", "skip or fudge", read, sink).unwrap_or(true);
        Some(Self { source: Arc::from(source?), formats, zone, fudge })
    }

    pub(crate) fn run(&self, state: &mut State, entry: &mut Entry, now_ns: i64) {
        let State::Times(LastTimes(last)) = state else { return };
        let parsed = entry.extracted.with_text(&self.source, |text| {
            self.formats.iter().find_map(|format| format.parse(text, &self.zone, now_ns))
        });
        if !self.fudge {
            if let Some(Some(time_ns)) = parsed {
                entry.record.time_ns = time_ns;
            }
            return;
        }
        let stream = entry.labels.stable_hash();
        match parsed.flatten() {
            Some(time_ns) => {
                if last.len() >= STREAMS_MAX {
                    last.clear();
                }
                last.insert(stream, time_ns);
                entry.record.time_ns = time_ns;
            }
            // As near as can be told: just behind the entry before.
            None => {
                if let Some(time_ns) = last.get_mut(&stream) {
                    *time_ns = time_ns.saturating_add(1);
                    entry.record.time_ns = *time_ns;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        // 2026-01-02T03:04:05Z
        let now = 1_767_323_045 * NS_PER_SECOND;
        let berlin = TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::UTC);
        let check = |format: &str, text: &str, want: Option<&str>| {
            let found = Format::new(format).parse(text, &TimeZone::UTC, now);
            let want = want.map(|w| i64::try_from(w.parse::<jiff::Timestamp>().unwrap().as_nanosecond()).unwrap());
            assert_eq!(found, want, "{format} {text}");
        };
        check("RFC3339", "2026-01-02T03:04:05.678+01:00", Some("2026-01-02T02:04:05.678Z"));
        check("RFC3339Nano", "2026-01-02T03:04:05.000000001Z", Some("2026-01-02T03:04:05.000000001Z"));
        check("Unix", "1562708916.000000123", Some("2019-07-09T21:48:36.000000123Z"));
        check("Unix", "1562708916", Some("2019-07-09T21:48:36Z"));
        check("UnixMs", "1562708916414", Some("2019-07-09T21:48:36.414Z"));
        check("UnixUs", "1562708916414123", Some("2019-07-09T21:48:36.414123Z"));
        check("UnixNs", "1562708916000000123", Some("2019-07-09T21:48:36.000000123Z"));
        check("RFC1123", "Mon, 02 Jan 2006 15:04:05 UTC", Some("2006-01-02T15:04:05Z"));
        check("ANSIC", "Mon Jan  2 15:04:05 2006", Some("2006-01-02T15:04:05Z"));
        check("2006-01-02 15:04:05,000", "2026-01-02 03:04:05,250", Some("2026-01-02T03:04:05.25Z"));
        check("02/Jan/2006:15:04:05 -0700", "10/Oct/2025:13:55:36 -0700", Some("2025-10-10T20:55:36Z"));
        check("Jan _2 15:04:05", "Dec 31 23:59:59", Some("2025-12-31T23:59:59Z"));
        check("Jan _2 15:04:05", "Jan  2 03:04:05", Some("2026-01-02T03:04:05Z"));
        check("Unix", "x", None);
        check("Unix", "1.2x", None);
        check("RFC3339", "", None);
        let found = Format::new("2006-01-02 15:04").parse("2026-07-01 12:00", &berlin, now);
        assert_eq!(
            found.map(|ns| ns / NS_PER_SECOND % 86_400 / 3_600),
            Some(if berlin == TimeZone::UTC { 12 } else { 10 })
        );
    }
}
