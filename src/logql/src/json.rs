//! A JSON reader that hands out pieces of the text, so that numbers stay as they were written.

use std::borrow::Cow;

const DEPTH_MAX: usize = 128;

/// The kinds of values that stages tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// A value within the text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a> {
    pub(crate) kind: Kind,
    /// As written; texts with their quotes.
    pub(crate) text: &'a str,
}

impl<'a> Raw<'a> {
    /// Texts unescaped, null empty, everything else as written.
    pub(crate) fn to_text(self) -> Cow<'a, str> {
        match self.kind {
            Kind::String => unescape(&self.text[1..self.text.len() - 1]),
            Kind::Null => Cow::Borrowed(""),
            _ => Cow::Borrowed(self.text),
        }
    }
}

/// Why a text is no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Byte at which reading stopped.
    pub(crate) at: usize,
    pub(crate) what: &'static str,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// Calls `each` with the members of the object that the text is, in order, until it returns false. Members before a
/// malformed place are delivered.
pub(crate) fn members<'a>(text: &'a str, mut each: impl FnMut(Cow<'a, str>, Raw<'a>) -> bool) -> Result<(), Malformed> {
    let mut reader = Reader { text, at: 0 };
    reader.blank();
    if reader.peek() != Some(b'{') {
        return reader.fail("expected an object");
    }
    reader.object(0, &mut each)?;
    Ok(())
}

/// Calls `each` with the elements of the array that the text is.
pub(crate) fn elements<'a>(text: &'a str, mut each: impl FnMut(Raw<'a>) -> bool) -> Result<(), Malformed> {
    let mut reader = Reader { text, at: 0 };
    reader.blank();
    if reader.peek() != Some(b'[') {
        return reader.fail("expected an array");
    }
    reader.array(0, &mut each)?;
    Ok(())
}

/// Reads the text as one value of any kind.
pub(crate) fn value(text: &str) -> Result<Raw<'_>, Malformed> {
    let mut reader = Reader { text, at: 0 };
    reader.blank();
    let value = reader.value(0)?;
    reader.blank();
    if reader.at < text.len() {
        return reader.fail("unexpected text behind the value");
    }
    Ok(value)
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed { at: self.at, what })
    }

    fn value(&mut self, depth: usize) -> Result<Raw<'a>, Malformed> {
        if depth > DEPTH_MAX {
            return self.fail("nested too deeply");
        }
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => {
                self.object(depth, &mut |_, _| true)?;
                Kind::Object
            }
            Some(b'[') => {
                self.array(depth, &mut |_| true)?;
                Kind::Array
            }
            Some(b'"') => {
                self.string()?;
                Kind::String
            }
            Some(b'-' | b'0'..=b'9') => {
                while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
                    self.at += 1;
                }
                if self.text[start..self.at].parse::<f64>().is_err() {
                    return self.fail("malformed number");
                }
                Kind::Number
            }
            _ => {
                let rest = &self.text[self.at..];
                let (word, kind) = if rest.starts_with("true") {
                    ("true", Kind::Bool)
                } else if rest.starts_with("false") {
                    ("false", Kind::Bool)
                } else if rest.starts_with("null") {
                    ("null", Kind::Null)
                } else {
                    return self.fail("expected a value");
                };
                self.at += word.len();
                kind
            }
        };
        Ok(Raw { kind, text: &self.text[start..self.at] })
    }

    /// Reads over a text and gives its inside.
    fn string(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let mut i = start;
        loop {
            match bytes.get(i..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
                None => return self.fail("unterminated string"),
                Some(offset) if bytes[i + offset] == b'"' => {
                    let end = i + offset;
                    self.at = end + 1;
                    return Ok(&self.text[start..end]);
                }
                Some(offset) => i += offset + 2,
            }
        }
    }

    fn object(&mut self, depth: usize, each: &mut dyn FnMut(Cow<'a, str>, Raw<'a>) -> bool) -> Result<bool, Malformed> {
        self.at += 1;
        self.blank();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(true);
        }
        loop {
            self.blank();
            if self.peek() != Some(b'"') {
                return self.fail("expected a member name");
            }
            let key = self.string()?;
            self.blank();
            if self.peek() != Some(b':') {
                return self.fail("expected ':'");
            }
            self.at += 1;
            self.blank();
            let value = self.value(depth + 1)?;
            if !each(unescape(key), value) {
                return Ok(false);
            }
            self.blank();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(true);
                }
                _ => return self.fail("expected ',' or '}'"),
            }
        }
    }

    fn array(&mut self, depth: usize, each: &mut dyn FnMut(Raw<'a>) -> bool) -> Result<bool, Malformed> {
        self.at += 1;
        self.blank();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(true);
        }
        loop {
            self.blank();
            let value = self.value(depth + 1)?;
            if !each(value) {
                return Ok(false);
            }
            self.blank();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(true);
                }
                _ => return self.fail("expected ',' or ']'"),
            }
        }
    }
}

/// Resolves JSON escapes; unknown ones and broken surrogates become U+FFFD.
pub(crate) fn unescape(body: &str) -> Cow<'_, str> {
    if !body.contains('\\') {
        return Cow::Borrowed(body);
    }
    let mut out = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(c) = rest.chars().next() else { break };
        rest = &rest[c.len_utf8()..];
        match c {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'u' => {
                let mut code = hex4(&mut rest);
                if let Some(high) = code.filter(|c| (0xd800..0xdc00).contains(c)) {
                    code = None;
                    if let Some(mut after) = rest.strip_prefix("\\u")
                        && let Some(low) = hex4(&mut after).filter(|c| (0xdc00..0xe000).contains(c))
                    {
                        rest = after;
                        code = Some(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
                    }
                }
                out.push(code.and_then(char::from_u32).unwrap_or('\u{fffd}'));
            }
            '"' | '\\' | '/' => out.push(c),
            _ => out.push('\u{fffd}'),
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn hex4(rest: &mut &str) -> Option<u32> {
    let digits = rest.get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    *rest = &rest[4..];
    u32::from_str_radix(digits, 16).ok()
}

/// One step of a path such as `a.b[0]["c d"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Member(String),
    Element(usize),
}

/// Parses a path of the `json` stage.
pub(crate) fn parse_path(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            if let Some(quoted) = inside.strip_prefix('"') {
                let mut escaped = false;
                let end = quoted.char_indices().find_map(|(i, c)| match c {
                    _ if escaped => {
                        escaped = false;
                        None
                    }
                    '\\' => {
                        escaped = true;
                        None
                    }
                    '"' => Some(i),
                    _ => None,
                });
                let end = end.ok_or_else(|| format!("unterminated member name in {path:?}"))?;
                steps.push(Step::Member(unescape(&quoted[..end]).into_owned()));
                rest = quoted[end + 1..].strip_prefix(']').ok_or_else(|| format!("missing ] in {path:?}"))?;
            } else {
                let (index, after) = inside.split_once(']').ok_or_else(|| format!("missing ] in {path:?}"))?;
                let index = index.trim().parse().map_err(|_| format!("{index:?} is no index in {path:?}"))?;
                steps.push(Step::Element(index));
                rest = after;
            }
            continue;
        }
        if !steps.is_empty() {
            rest = rest.strip_prefix('.').ok_or_else(|| format!("unexpected {rest:?} in {path:?}"))?;
        }
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '@' | '/' | ':' | '$')))
            .unwrap_or(rest.len());
        if end == 0 {
            return Err(format!("expected a member name in {path:?}"));
        }
        steps.push(Step::Member(rest[..end].to_owned()));
        rest = &rest[end..];
    }
    if steps.is_empty() {
        return Err("empty path".to_owned());
    }
    Ok(steps)
}

/// The value at a path; malformed text counts as missing from where it is malformed.
pub(crate) fn find<'a>(text: &'a str, path: &[Step]) -> Option<Raw<'a>> {
    let mut found: Option<Raw<'a>> = None;
    for step in path {
        let text = found.map_or(text, |raw| raw.text);
        let mut next = None;
        let outcome = match step {
            Step::Member(name) => members(text, |key, raw| {
                let hit = key == name.as_str();
                if hit {
                    next = Some(raw);
                }
                !hit
            }),
            Step::Element(index) => {
                let mut i = 0;
                elements(text, |raw| {
                    let hit = i == *index;
                    if hit {
                        next = Some(raw);
                    }
                    i += 1;
                    !hit
                })
            }
        };
        // What was found before a malformed place counts, so only a missing member ends the search.
        found = match (next, outcome) {
            (None, _) => return None,
            (next, Ok(()) | Err(Malformed { .. })) => next,
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let doc = r#"{"a":{"b":[1,{"c d":"x\n\u00e9"}]},"n":null,"e":1e3}"#;
        let check = |path: &str, want: Option<&str>| {
            let found = find(doc, &parse_path(path).unwrap()).map(Raw::to_text);
            assert_eq!(found.as_deref(), want, "{path}");
        };
        check("a.b[0]", Some("1"));
        check("a.b[1][\"c d\"]", Some("x\né"));
        check("[\"a\"].b[2]", None);
        check("n", Some(""));
        check("e", Some("1e3"));
        for bad in ["b[c", "a..b", "a[", "[\"x", "", "a b"] {
            assert!(parse_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn malformed_texts_never_panic() {
        let doc = r#"{"a":[1,2,{"b":"x\"y\ud83d\ude00"}],"c":true}"#;
        assert!(value(doc).is_ok());
        for end in 0..doc.len() {
            assert!(value(&doc[..end]).is_err());
            assert!(members(&doc[..end], |_, _| true).is_err());
        }
        assert!(value(&"[".repeat(1000)).is_err());
    }
}
