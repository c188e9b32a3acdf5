//! RFC 3164 as it is in use: `Mmm dd hh:mm:ss host tag[pid]: text`, of which anything may be missing.
//!
//! Also read are the ISO times of rsyslog's forward format, the sequence numbers, origin names, clock marks and
//! mnemonics of Cisco's devices, and AIX' `Message forwarded from`. A mnemonic such as `%SYS-5-CONFIG_I` stays in the
//! text and is the attribute `msg_id` too.

use jiff::tz::TimeZone;

use super::{Parsed, time};

/// Bytes of a tag at most; RFC 3164 has 32, many senders more.
const TAG_BYTES_MAX: usize = 128;
const HOST_BYTES_MAX: usize = 255;

/// Reads what follows the priority.
pub(super) fn parse(text: &str, zone: &TimeZone, now_ns: i64) -> Parsed {
    let mut parsed = Parsed::default();
    let stamped = match stamp(text, zone, now_ns) {
        Some((time_ns, rest)) => Some((time_ns, rest)),
        None => cisco_prefix(text, zone, now_ns, &mut parsed),
    };
    let rest = match stamped {
        Some((time_ns, rest)) => {
            parsed.time_ns = time_ns;
            after_time(rest, &mut parsed)
        }
        None => text.strip_prefix(' ').unwrap_or(text),
    };
    let text = tag(rest, &mut parsed);
    if let Some((mnemonic, _)) = text.strip_prefix('%').and_then(|t| t.split_once(':'))
        && mnemonic.len() <= TAG_BYTES_MAX
        && !mnemonic.contains(' ')
    {
        parsed.attribute("msg_id", mnemonic);
    }
    parsed.text = text.to_owned();
    parsed
}

/// A time at the start, with the marks of a clock that is not set, `*` and `.`.
fn stamp<'a>(text: &'a str, zone: &TimeZone, now_ns: i64) -> Option<(Option<i64>, &'a str)> {
    let text = text.trim_start_matches(' ');
    let bare = text.strip_prefix(['*', '.']).unwrap_or(text);
    let (time_ns, rest) = time::bsd(bare, zone, now_ns).or_else(|| time::iso(bare, zone))?;
    (rest.is_empty() || rest.starts_with([' ', ':'])).then_some((Some(time_ns), rest))
}

/// `123: time`, `host: time`, `123: host: time` and `123: %MNEMONIC`.
fn cisco_prefix<'a>(
    text: &'a str,
    zone: &TimeZone,
    now_ns: i64,
    parsed: &mut Parsed,
) -> Option<(Option<i64>, &'a str)> {
    let word = |text: &'a str| text.split_once(": ").filter(|(word, _)| !word.is_empty() && !word.contains(' '));
    let (first, rest) = word(text)?;
    let is_sequence = first.len() <= 10 && first.bytes().all(|b| b.is_ascii_digit());
    let sequence = if is_sequence { first } else { "" };
    let (host, found) = if let Some(found) = stamp(rest, zone, now_ns) {
        (if is_sequence { "" } else { first }, found)
    } else if is_sequence && rest.starts_with('%') {
        ("", (None, rest))
    } else if is_sequence
        && let Some((host, rest)) = word(rest)
        && let Some(found) = stamp(rest, zone, now_ns)
    {
        (host, found)
    } else {
        return None;
    };
    if !host.is_empty() && !is_host(host) {
        return None;
    }
    parsed.host = host.to_owned();
    parsed.attribute("sequence", sequence);
    Some(found)
}

/// Reads the host behind a time; returns what follows it.
fn after_time<'a>(rest: &'a str, parsed: &mut Parsed) -> &'a str {
    // Behind a colon there is no host.
    if let Some(rest) = rest.strip_prefix(':') {
        return rest.trim_start_matches(' ');
    }
    let rest = rest.trim_start_matches(' ');
    if let Some((host, after)) = rest.strip_prefix("Message forwarded from ").and_then(|r| r.split_once(": "))
        && is_host(host)
    {
        parsed.host = host.to_owned();
        return after;
    }
    if !parsed.host.is_empty() {
        return rest;
    }
    match rest.split_once(' ') {
        Some((host, after)) if is_host(host) && split_tag(rest).is_none() => {
            parsed.host = host.to_owned();
            // Devices with Cisco's EMBLEM format put a colon of its own behind the host.
            after.strip_prefix(": ").unwrap_or(after)
        }
        _ => rest,
    }
}

fn is_host(word: &str) -> bool {
    (1..=HOST_BYTES_MAX).contains(&word.len())
        && !word.ends_with(':')
        && word.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/' | '%' | '[' | ']' | '@'))
        && !word.starts_with(['%', '-', '[', '/'])
        || word.starts_with('[') && word.ends_with(']') && word[1..word.len() - 1].parse::<std::net::Ipv6Addr>().is_ok()
}

/// Takes `tag: ` or `tag[pid]: ` off; returns the text.
fn tag<'a>(rest: &'a str, parsed: &mut Parsed) -> &'a str {
    match split_tag(rest) {
        Some((name, pid, text)) => {
            parsed.app = name.to_owned();
            parsed.attribute("proc_id", pid);
            text
        }
        None => rest,
    }
}

/// Name, process id and text.
fn split_tag(rest: &str) -> Option<(&str, &str, &str)> {
    let is_part =
        |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '(' | ')' | '@' | '+' | '#' | '~' | '\\');
    let end = rest.find(|c: char| !is_part(c))?;
    let (name, tail) = rest.split_at(end);
    if name.is_empty() || name.len() > TAG_BYTES_MAX {
        return None;
    }
    if let Some((pid, after)) = tail.strip_prefix('[').and_then(|t| t.split_once(']')) {
        if pid.len() > TAG_BYTES_MAX || pid.contains([' ', '[', '"']) {
            return None;
        }
        return match after.strip_prefix(':') {
            Some(text) => Some((name, pid, text.strip_prefix(' ').unwrap_or(text))),
            // Without a colon it is a tag only with a number.
            None if !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()) => {
                Some((name, pid, after.strip_prefix(' ')?))
            }
            None => None,
        };
    }
    let text = tail.strip_prefix(':')?;
    // A number alone is a count, not a name; what follows a name is a space.
    let is_name = name.bytes().any(|b| !b.is_ascii_digit());
    (is_name && (text.is_empty() || text.starts_with(' '))).then(|| (name, "", text.strip_prefix(' ').unwrap_or(text)))
}
