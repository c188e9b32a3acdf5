//! RFC 5424: `1 TIMESTAMP HOST APP PROCID MSGID [SD] MSG`, what follows the priority.

use trefoil_model::AttributeValue;

use super::{Parsed, time};

/// Values of a repeated parameter that are joined to a list, by parameters of its element that are looked at.
const JOINED_MAX: usize = 128;

/// True when a version follows the priority, as it does in no other format.
pub(super) fn has_version(rest: &str) -> bool {
    rest.split_once(' ').is_some_and(|(version, after)| {
        (1..=2).contains(&version.len())
            && version.bytes().all(|b| b.is_ascii_digit())
            && !version.starts_with('0')
            // `<13>5 apples` has no version; a time or none follows it.
            && after.starts_with(|c: char| c == '-' || c.is_ascii_digit())
    })
}

/// Reads a message; `None` when its header is not one.
pub(super) fn parse(rest: &str) -> Option<Parsed> {
    if !has_version(rest) {
        return None;
    }
    let (_, rest) = rest.split_once(' ')?;
    let mut parsed = Parsed::default();
    let (stamp, rest) = token(rest)?;
    if stamp != "-" {
        match time::rfc3339(stamp) {
            Some(time_ns) => parsed.time_ns = Some(time_ns),
            None if stamp.starts_with(|c: char| c.is_ascii_digit()) => parsed.attribute("timestamp", stamp),
            None => return None,
        }
    }
    let (host, rest) = token(rest)?;
    let (app, rest) = token(rest)?;
    let (proc_id, rest) = token(rest)?;
    let (msg_id, rest) = token(rest)?;
    parsed.host = known(host).to_owned();
    parsed.app = known(app).to_owned();
    parsed.attribute("proc_id", known(proc_id));
    parsed.attribute("msg_id", known(msg_id));
    // Structured data that is none belongs to the text: some senders leave it out.
    let text = structured_data(rest, &mut parsed).unwrap_or(rest);
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // The space that rsyslog leaves between a tag and its text; more of them are the text's own.
    let unspaced = text.strip_prefix(' ').filter(|t| !t.starts_with(' '));
    parsed.text = unspaced.unwrap_or(text).to_owned();
    Some(parsed)
}

/// The text up to the next space, and what follows it. The last one need not have a space behind it.
fn token(text: &str) -> Option<(&str, &str)> {
    let (token, rest) = text.split_once(' ').unwrap_or((text, ""));
    (!token.is_empty()).then_some((token, rest))
}

fn known(token: &str) -> &str {
    if token == "-" { "" } else { token }
}

/// Reads `-` or elements, and the space behind them; returns the message. `None`: there are none.
fn structured_data<'a>(text: &'a str, parsed: &mut Parsed) -> Option<&'a str> {
    let after = |rest: &'a str| if rest.is_empty() { Some(rest) } else { rest.strip_prefix(' ') };
    if let Some(rest) = text.strip_prefix('-') {
        return after(rest);
    }
    let mut rest = text;
    let mut attributes = Vec::new();
    while let Some(element) = rest.strip_prefix('[') {
        rest = self::element(element, &mut attributes)?;
    }
    if attributes.is_empty() && !text.is_empty() {
        return None;
    }
    let message = after(rest)?;
    parsed.attributes.append(&mut attributes);
    Some(message)
}

/// Reads an element behind its opening bracket; returns what follows the closing one.
fn element<'a>(text: &'a str, attributes: &mut Vec<(String, AttributeValue)>) -> Option<&'a str> {
    let id_end = text.find([' ', ']', '=', '"'])?;
    let (id, mut rest) = text.split_at(id_end);
    if id.is_empty() {
        return None;
    }
    let first = attributes.len();
    loop {
        if let Some(after) = rest.strip_prefix(']') {
            if attributes.len() == first {
                attributes.push((id.to_owned(), AttributeValue::String(String::new())));
            }
            return Some(after);
        }
        // More than one space, or one before the bracket, is seen in the wild.
        let trimmed = rest.trim_start_matches(' ');
        if trimmed.starts_with(']') {
            rest = trimmed;
            continue;
        }
        if trimmed.len() == rest.len() {
            return None;
        }
        let (name, quoted) = trimmed.split_once("=\"")?;
        if name.is_empty() || name.contains([' ', ']', '"']) {
            return None;
        }
        let (value, after) = quoted_value(quoted)?;
        rest = after;
        add(format!("{id}.{name}"), value, first, attributes);
    }
}

/// Adds a parameter; the values of a name that is repeated become a list.
fn add(name: String, value: String, first: usize, attributes: &mut Vec<(String, AttributeValue)>) {
    let value = AttributeValue::String(value);
    match attributes.iter_mut().skip(first).take(JOINED_MAX).find(|(n, _)| *n == name) {
        Some((_, AttributeValue::Array(values))) => values.push(value),
        Some((_, old)) => {
            let one = std::mem::replace(old, AttributeValue::Null);
            *old = AttributeValue::Array(vec![one, value]);
        }
        None => attributes.push((name, value)),
    }
}

/// Reads up to the closing quote; a backslash counts before a quote, a backslash and a closing bracket only.
fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let end = rest.find(['"', '\\'])?;
        value.push_str(&rest[..end]);
        let tail = &rest[end..];
        if let Some(after) = tail.strip_prefix('"') {
            return Some((value, after));
        }
        let escaped = &tail[1..];
        match escaped.chars().next()? {
            c @ ('"' | '\\' | ']') => {
                value.push(c);
                rest = &escaped[1..];
            }
            _ => {
                value.push('\\');
                rest = escaped;
            }
        }
    }
}
