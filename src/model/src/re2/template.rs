//! Replacement templates: `$1`, `$name`, `${name}`, `$$`.

use std::sync::LazyLock;

use regex_syntax::hir::ClassUnicode;

use super::class;

/// What stands after a `$`.
pub(super) enum Group<'a> {
    Number(usize),
    Name(&'a str),
}

/// Appends the template with its groups filled in.
pub(super) fn expand<'t>(template: &str, out: &mut String, value: impl Fn(Group<'_>) -> Option<&'t str>) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = name(after) {
            out.push_str(value(group(name)).unwrap_or(""));
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
}

/// The name, with or without braces, that a text begins with, and what comes after it.
fn name(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('{');
    let from = inner.unwrap_or(text);
    let end = from.find(|c| !is_name_char(c)).unwrap_or(from.len());
    if end == 0 {
        return None;
    }
    let (name, after) = from.split_at(end);
    match inner {
        Some(_) => Some((name, after.strip_prefix('}')?)),
        None => Some((name, after)),
    }
}

/// Numbers have no leading zeros and fewer than ten digits; what else looks like one is a name.
fn group(name: &str) -> Group<'_> {
    let plain = name.bytes().all(|b| b.is_ascii_digit()) && name.len() < 10 && (name == "0" || !name.starts_with('0'));
    match name.parse() {
        Ok(n) if plain => Group::Number(n),
        _ => Group::Name(name),
    }
}

fn is_name_char(c: char) -> bool {
    static LETTERS_AND_DIGITS: LazyLock<ClassUnicode> = LazyLock::new(|| {
        let mut all = class::named("L").expect("a category that exists");
        all.union(&class::named("Nd").expect("a category that exists"));
        all
    });
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    class::contains(&LETTERS_AND_DIGITS, c)
}
