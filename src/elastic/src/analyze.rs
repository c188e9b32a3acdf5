//! The analyser of text fields: words as the standard tokenizer cuts them (Unicode UAX #29), lower-cased.
//!
//! A letter of ASCII comes out of a letter of ASCII only, so that a word of ASCII stands in the text byte for byte but
//! for the case of its letters, and can be looked for before the text is cut.

use std::borrow::Cow;
use std::ops::Range;

/// Longest word in characters; longer ones are cut there, as the standard tokenizer does.
const WORD_CHARS_MAX: usize = 255;

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    /// The word, lower-cased.
    pub(crate) text: Cow<'a, str>,
    /// Where it stands in the text.
    pub(crate) range: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    /// Joins what is beside it, as `_` does.
    Join,
    Katakana,
    /// A word by itself.
    Single,
    /// Goes with what stands before it.
    Extend,
    /// Joins letters.
    MidLetter,
    /// Joins digits.
    MidNumber,
    /// Joins letters and digits.
    MidBoth,
    Other,
}

fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        '0'..='9' => Class::Digit,
        '_' => Class::Join,
        '.' | '\'' | '\u{2018}' | '\u{2019}' | '\u{2024}' | '\u{fe52}' | '\u{ff07}' | '\u{ff0e}' => Class::MidBoth,
        ':' | '\u{b7}' | '\u{387}' | '\u{55f}' | '\u{5f4}' | '\u{2027}' | '\u{fe13}' | '\u{fe55}' | '\u{ff1a}' => {
            Class::MidLetter
        }
        ',' | ';' | '\u{37e}' | '\u{589}' | '\u{60c}' | '\u{2044}' | '\u{fe10}' | '\u{fe14}' => Class::MidNumber,
        c if c.is_ascii() => Class::Other,
        '\u{202f}' | '\u{203f}' | '\u{2040}' | '\u{2054}' | '\u{fe33}' | '\u{fe34}' | '\u{ff3f}' => Class::Join,
        '\u{300}'..='\u{36f}' | '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{20d0}'..='\u{20ff}' => {
            Class::Extend
        }
        '\u{30a1}'..='\u{30fa}' | '\u{30fc}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9d}' => {
            Class::Katakana
        }
        '\u{3041}'..='\u{309f}'
        | '\u{3400}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3fffd}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{2600}'..='\u{27bf}' => Class::Single,
        c if c.is_alphabetic() => Class::Letter,
        c if c.is_numeric() => Class::Digit,
        _ => Class::Other,
    }
}

/// Whether no boundary stands between two classes that touch.
fn joins(left: Class, right: Class) -> bool {
    use Class::{Digit, Join, Katakana, Letter};
    matches!(
        (left, right),
        (Letter | Digit, Letter | Digit)
            | (Katakana, Katakana)
            | (Letter | Digit | Katakana | Join, Join)
            | (Join, Letter | Digit | Katakana)
    )
}

/// Calls `each` with every word until it answers false.
pub(crate) fn words<'a>(text: &'a str, mut each: impl FnMut(Word<'a>) -> bool) {
    let mut chars = text.char_indices().peekable();
    while let Some((start, first)) = chars.next() {
        let mut left = class(first);
        let mut has_word = matches!(left, Class::Letter | Class::Digit | Class::Katakana | Class::Single);
        if !has_word && left != Class::Join {
            continue;
        }
        let (mut end, mut count) = (start + first.len_utf8(), 1);
        while let Some(&(at, c)) = chars.peek() {
            let right = class(c);
            let goes_on = match right {
                Class::Extend => true,
                _ if count >= WORD_CHARS_MAX => false,
                Class::MidLetter | Class::MidBoth if left == Class::Letter => {
                    next_class(text, at + c.len_utf8()) == Some(Class::Letter)
                }
                Class::MidNumber | Class::MidBoth if left == Class::Digit => {
                    next_class(text, at + c.len_utf8()) == Some(Class::Digit)
                }
                _ => joins(left, right),
            };
            if !goes_on {
                break;
            }
            chars.next();
            (end, count) = (at + c.len_utf8(), count + 1);
            has_word |= matches!(right, Class::Letter | Class::Digit | Class::Katakana);
            // After a mid character comes what it joins to, which is of the class before it.
            if !matches!(right, Class::Extend | Class::MidLetter | Class::MidNumber | Class::MidBoth) {
                left = right;
            }
        }
        if has_word && !each(Word { text: lower(&text[start..end]), range: start..end }) {
            return;
        }
    }
}

fn next_class(text: &str, at: usize) -> Option<Class> {
    text[at..].chars().next().map(class)
}

/// All words of a text.
pub(crate) fn word_texts(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    words(text, |word| {
        out.push(word.text.into_owned());
        true
    });
    out
}

/// The text in lower case, without making letters of ASCII of others.
pub(crate) fn lower(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Cow::Owned(text.to_ascii_lowercase());
        }
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c.to_ascii_lowercase());
        } else if c.to_lowercase().any(|l| l.is_ascii()) {
            out.push(c);
        } else {
            out.extend(c.to_lowercase());
        }
    }
    Cow::Owned(out)
}

/// Whether `word`, which is in lower case, stands in a text in either case of ASCII letters.
pub(crate) fn contains_ignoring_case(text: &str, word: &str) -> bool {
    let (text, word) = (text.as_bytes(), word.as_bytes());
    let Some((&first, rest)) = word.split_first() else { return true };
    if text.len() < word.len() {
        return false;
    }
    let last = text.len() - word.len();
    text[..=last]
        .iter()
        .enumerate()
        .any(|(at, b)| b.to_ascii_lowercase() == first && text[at + 1..=at + rest.len()].eq_ignore_ascii_case(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[&str]) {
        assert_eq!(word_texts(text), want, "{text}");
    }

    #[test]
    fn texts_are_cut_as_the_standard_tokenizer_does() {
        // The example of Elasticsearch's reference for the standard tokenizer.
        let example = "The 2 QUICK Brown-Foxes jumped over the lazy dog's bone.";
        check(example, &["the", "2", "quick", "brown", "foxes", "jumped", "over", "the", "lazy", "dog's", "bone"]);
        check("GET /api/v1/users?id=42 10.0.0.1:8080", &["get", "api", "v1", "users", "id", "42", "10.0.0.1", "8080"]);
        check("user.name=a_b err:x 1,000.5 v1.2 a.1", &["user.name", "a_b", "err:x", "1,000.5", "v1.2", "a", "1"]);
        check("日本 カタカナ Straße ÉTÉ", &["日", "本", "カタカナ", "straße", "été"]);
        check("__ _a_ ... e\u{301}t", &["_a_", "e\u{301}t"]);
        check(&"x".repeat(300), &[&"x".repeat(255), &"x".repeat(45)]);
    }

    #[test]
    fn case_is_ignored_for_ascii() {
        assert!(contains_ignoring_case("Connection REFUSED", "refused"));
        assert!(!contains_ignoring_case("refuse", "refused"));
        assert!(!contains_ignoring_case("\u{212a}elvin", "kelvin"));
        assert_eq!(lower("\u{212a}É"), "\u{212a}é");
    }
}
