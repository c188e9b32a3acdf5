//! What people type into a search box: words, phrases and fields.
//!
//! | text | lines |
//! | --- | --- |
//! | `timeout` | that hold it, in upper or lower case |
//! | `payment failed` | that hold both, anywhere |
//! | `"payment failed"` | that hold the phrase exactly |
//! | `a OR b` | that hold one of them; binds closer than the space |
//! | `-debug`, `-"health check"` | that do not hold it |
//! | `status:500`, `-status:500`, `user:"Ann B"` | whose field has, or has not, the value |
//! | `status:>499`, `took:<=1s`, `size:>1KB` | whose field compares so |
//! | `path:/api/*`, `path:~^/api`, `user:*` | whose field is like it, matches the regex, is there |
//!
//! Nothing is an error: what cannot be a field is text.

use super::chips::{Chip, Comparison};

/// A part of what was typed; all must hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Term {
    /// One of the texts is in the line.
    Any(Vec<Text>),
    /// The text is not in the line.
    Not(Text),
    /// A field.
    Field(Chip),
}

/// A text in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    /// In upper and lower case as typed.
    pub(super) is_exact: bool,
}

/// Reads what was typed.
pub(super) fn read(typed: &str) -> Vec<Term> {
    let mut terms: Vec<Term> = Vec::new();
    let mut rest = typed.trim_start();
    // Whether an `OR` stands before the term at hand.
    let mut or = false;
    while !rest.is_empty() {
        let (negated, behind) = match rest.strip_prefix('-') {
            Some(behind) if !behind.is_empty() && !behind.starts_with(char::is_whitespace) => (true, behind),
            _ => (false, rest),
        };
        let (term, after) = one(behind, negated);
        rest = after.trim_start();
        match term {
            Some(Term::Any(texts)) if !negated && is_word(&texts, "OR") => {
                or = matches!(terms.last(), Some(Term::Any(_))) && !rest.is_empty();
                continue;
            }
            Some(Term::Any(texts)) if !negated && is_word(&texts, "AND") => {}
            Some(Term::Any(mut texts)) if or => match terms.last_mut() {
                Some(Term::Any(before)) => before.append(&mut texts),
                _ => terms.push(Term::Any(texts)),
            },
            Some(term) => terms.push(term),
            None => {}
        }
        or = false;
    }
    terms
}

fn is_word(texts: &[Text], word: &str) -> bool {
    matches!(texts, [text] if !text.is_exact && text.text == word)
}

/// The term at the start, and what follows.
fn one(text: &str, negated: bool) -> (Option<Term>, &str) {
    if let Some((name, value)) = field(text) {
        let (quoted, value, rest) = match value.strip_prefix('"') {
            Some(inside) => {
                let (value, rest) = phrase(inside);
                (true, value, rest)
            }
            None => {
                let (value, rest) = word(value);
                (false, value.to_owned(), rest)
            }
        };
        let chip = chip(name, value, quoted, negated);
        return (Some(Term::Field(chip)), rest);
    }
    let (found, rest) = match text.strip_prefix('"') {
        Some(inside) => {
            let (phrase, rest) = phrase(inside);
            (Text { text: phrase, is_exact: true }, rest)
        }
        None => {
            let (word, rest) = word(text);
            (Text { text: word.to_owned(), is_exact: false }, rest)
        }
    };
    let term = match (found.text.is_empty(), negated) {
        (true, _) => None,
        (false, true) => Some(Term::Not(found)),
        (false, false) => Some(Term::Any(vec![found])),
    };
    (term, rest)
}

/// A name and what stands behind its colon, when that is a field: not the scheme of a URL, not the end of a sentence.
fn field(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '@')))?;
    let (name, rest) = text.split_at(end);
    let value = rest.strip_prefix(':')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '@'));
    // `a::b` is code, `http://` a URL.
    let is_value = !value.is_empty() && !value.starts_with([':', ' ', '\t', '\n']) && !value.starts_with("//");
    (is_name && is_value).then_some((name, value))
}

fn chip(name: &str, value: String, quoted: bool, negated: bool) -> Chip {
    let (comparison, value) = if quoted {
        (Comparison::Equal, value)
    } else {
        let prefixes = [
            (">=", Comparison::GreaterOrEqual),
            ("<=", Comparison::LessOrEqual),
            (">", Comparison::Greater),
            ("<", Comparison::Less),
            ("~", Comparison::Matches),
        ];
        match prefixes.iter().find_map(|(prefix, c)| Some((*c, value.strip_prefix(prefix)?))) {
            // An inequality of what is no number is text that begins so.
            Some((comparison, rest)) if comparison == Comparison::Matches || Chip::is_amount(rest) => {
                (comparison, rest.to_owned())
            }
            _ if value == "*" => (Comparison::NotEqual, String::new()),
            _ if value.contains('*') => {
                let parts: Vec<String> = value.split('*').map(trefoil_model::re2::escape).collect();
                (Comparison::Matches, parts.join(".*"))
            }
            _ => (Comparison::Equal, value),
        }
    };
    let chip = Chip { name: name.to_owned(), comparison, value };
    if negated { chip.negated() } else { chip }
}

/// Up to the next space.
fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}

/// Up to the closing quote, behind the opening one; `\` takes the next character as it is.
fn phrase(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (out, &text[at + 1..]),
            '\\' => match chars.next() {
                Some((_, next)) => out.push(next),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    (out, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &str, want: &str) {
        let text = |t: &Text| if t.is_exact { format!("{:?}", t.text) } else { t.text.clone() };
        let shown: Vec<String> = read(typed)
            .iter()
            .map(|term| match term {
                Term::Any(texts) => texts.iter().map(text).collect::<Vec<_>>().join("|"),
                Term::Not(t) => format!("-{}", text(t)),
                Term::Field(chip) => format!("[{chip}]"),
            })
            .collect();
        assert_eq!(shown.join(" "), want, "{typed}");
    }

    #[test]
    fn words_and_phrases() {
        check("  payment  failed ", "payment failed");
        check(r#""payment failed" -debug -"health \"check\"""#, r#""payment failed" -debug -"health \"check\"""#);
        check("a OR b OR \"c d\" e", r#"a|b|"c d" e"#);
        check("OR a OR", "a");
        check("a AND b", "a b");
        check("a OR -b", "a -b");
        check("- a --", "- a --");
        check(r#""open"#, r#""open""#);
        check(r#""" """#, "");
    }

    #[test]
    fn fields() {
        check("status:500 -status:500", r#"[status="500"] [status!="500"]"#);
        check(r#"user:"Ann B" http.path:/a"#, r#"[user="Ann B"] [http.path="/a"]"#);
        check("status:>499 took:<=1s size:>1KB x:>y", r#"[status>499] [took<=1s] [size>1KB] [x=">y"]"#);
        check("path:/api/* -path:~^/api user:*", r#"[path=~"/api/.*"] [path!~"^/api"] [user!=""]"#);
        check("-user:*", r#"[user=""]"#);
        check("a OR user:x b", r#"a [user="x"] b"#);
        check("http://a std::b 12:30 end: x", "http://a std::b 12:30 end: x");
    }
}
