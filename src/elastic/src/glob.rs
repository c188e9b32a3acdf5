//! Wildcards: `*` for any text, `?` for one character, `\` before a character that stands for itself.

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Char(char),
    One,
    Any,
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    items: Vec<Item>,
    parts: Vec<String>,
}

impl Glob {
    /// `has_one`: whether `?` is special.
    pub(crate) fn new(pattern: &str, has_one: bool) -> Self {
        let mut items = Vec::new();
        let mut parts = vec![String::new()];
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            match c {
                '*' => {
                    if items.last() != Some(&Item::Any) {
                        items.push(Item::Any);
                    }
                    parts.push(String::new());
                }
                '?' if has_one => {
                    items.push(Item::One);
                    parts.push(String::new());
                }
                c => {
                    let c = if c == '\\' { chars.next().unwrap_or('\\') } else { c };
                    items.push(Item::Char(c));
                    if let Some(part) = parts.last_mut() {
                        part.push(c);
                    }
                }
            }
        }
        parts.retain(|p| !p.is_empty());
        Self { items, parts }
    }

    /// Whether it matches every text.
    pub(crate) fn matches_all(&self) -> bool {
        self.items == [Item::Any]
    }

    /// Texts that everything that matches holds.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(String::as_str)
    }

    /// The pattern with every character replaced, in lower case for example.
    pub(crate) fn map(&self, change: impl Fn(&str) -> String) -> Self {
        let mut items = Vec::new();
        for item in &self.items {
            match item {
                Item::Char(c) => items.extend(change(c.encode_utf8(&mut [0; 4])).chars().map(Item::Char)),
                other => items.push(other.clone()),
            }
        }
        Self { items, parts: self.parts.iter().map(|p| change(p)).collect() }
    }

    /// Whether the whole text matches. Cost: at most the product of both lengths.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let (mut at, mut rest) = (0, text.chars());
        // Where to go on when it does not fit: after the last `*`, one character further in the text.
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            if self.items.get(at) == Some(&Item::Any) {
                at += 1;
                if at == self.items.len() {
                    return true;
                }
                retry = Some((at, rest.clone()));
                continue;
            }
            let mut ahead = rest.clone();
            let fits = match (self.items.get(at), ahead.next()) {
                (None, None) => return true,
                (Some(Item::One), Some(_)) => true,
                (Some(Item::Char(wanted)), Some(c)) => *wanted == c,
                _ => false,
            };
            if fits {
                (at, rest) = (at + 1, ahead);
                continue;
            }
            let Some((after, from)) = retry.as_mut() else { return false };
            if from.next().is_none() {
                return false;
            }
            (at, rest) = (*after, from.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_whole_texts() {
        for (pattern, text, want) in [
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b*b*", "abab", true),
            ("*b*b*", "ab", false),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("?é", "xé", true),
        ] {
            assert_eq!(Glob::new(pattern, true).matches(text), want, "{pattern} {text}");
        }
        assert!(!Glob::new("a?", false).matches("ab"));
        assert_eq!(Glob::new("foo*b?r", true).parts().collect::<Vec<_>>(), ["foo", "b", "r"]);
    }
}
