//! Reads `key=value key2="a b" bare`.

use std::borrow::Cow;

/// What stands at one place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// A pair; of a bare key the value is empty.
    Pair(&'a str, Cow<'a, str>),
    /// A broken pair, with the reason; reading goes on behind the next blank.
    Broken(String),
}

/// The items of a line.
pub(crate) struct Items<'a> {
    line: &'a str,
    at: usize,
}

pub(crate) fn items(line: &str) -> Items<'_> {
    Items { line, at: 0 }
}

impl<'a> Items<'a> {
    fn broken(&mut self, what: &str) -> Item<'a> {
        let message = format!("{what} at byte {}", self.at);
        let rest = &self.line.as_bytes()[self.at..];
        self.at += rest.iter().position(|b| *b <= b' ').unwrap_or(rest.len());
        Item::Broken(message)
    }

    fn run(&self, stop: impl Fn(u8) -> bool) -> usize {
        let rest = &self.line.as_bytes()[self.at..];
        self.at + rest.iter().position(|b| stop(*b)).unwrap_or(rest.len())
    }

    fn quoted(&mut self) -> Result<Cow<'a, str>, &'static str> {
        let bytes = self.line.as_bytes();
        let start = self.at + 1;
        let mut i = start;
        while let Some(b) = bytes.get(i) {
            match b {
                b'\\' => i += 2,
                b'"' => {
                    self.at = i + 1;
                    return Ok(crate::json::unescape(&self.line[start..i]));
                }
                _ => i += 1,
            }
        }
        Err("unterminated quoted value")
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let bytes = self.line.as_bytes();
        while bytes.get(self.at).is_some_and(|b| *b <= b' ') {
            self.at += 1;
        }
        if self.at >= bytes.len() {
            return None;
        }
        let start = self.at;
        self.at = self.run(|b| b <= b' ' || b == b'=' || b == b'"');
        let key = &self.line[start..self.at];
        match bytes.get(self.at) {
            Some(b'=') if key.is_empty() => return Some(self.broken("unexpected '='")),
            Some(b'"') => return Some(self.broken("unexpected '\"'")),
            Some(b'=') => self.at += 1,
            _ => return Some(Item::Pair(key, Cow::Borrowed(""))),
        }
        if bytes.get(self.at) == Some(&b'"') {
            return Some(match self.quoted() {
                Ok(value) if bytes.get(self.at).is_none_or(|b| *b <= b' ') => Item::Pair(key, value),
                Ok(_) => self.broken("unexpected text behind a quoted value"),
                Err(what) => self.broken(what),
            });
        }
        let start = self.at;
        self.at = self.run(|b| b <= b' ' || b == b'=' || b == b'"');
        match bytes.get(self.at) {
            Some(b'=') => Some(self.broken("unexpected '='")),
            Some(b'"') => Some(self.broken("unexpected '\"'")),
            _ => Some(Item::Pair(key, Cow::Borrowed(&self.line[start..self.at]))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_lines() {
        let check = |line: &str, want: &str| {
            let shown: Vec<String> = items(line)
                .map(|item| match item {
                    Item::Pair(key, value) => format!("{key}={value}"),
                    Item::Broken(_) => "!".to_owned(),
                })
                .collect();
            assert_eq!(shown.join("|"), want, "{line}");
        };
        check("a=1 b=\"x \\\"y\\\"\" c", "a=1|b=x \"y\"|c=");
        check("a=b=c d=1", "!|d=1");
        check("bad\"x ok=1", "!|ok=1");
        check("a=\"open b=1", "!|b=1");
        check("=x a=é", "!|a=é");
        check("", "");
    }
}
