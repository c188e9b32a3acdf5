//! A line as words and the delimiters between them.

use std::hash::Hasher;

use rustc_hash::FxHasher;

/// Bytes of a line that are looked at; what is behind counts as variable.
const LINE_BYTES_MAX: usize = 1024;
/// Words of a line that are looked at.
pub(super) const WORDS_MAX: usize = 120;
/// Longer words are variable.
const WORD_BYTES_MAX: usize = 48;

/// A word between delimiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    /// Looks like a number, an id, a time: variable from the first line on.
    pub(super) variable: bool,
    /// Names a field, as in `key=` and `"key":`.
    pub(super) key: bool,
}

/// A line taken apart: delimiter, word, delimiter, …; one delimiter more than words, the first and last may be empty.
#[derive(Debug, Default)]
pub(super) struct Tokens<'a> {
    pub(super) delimiters: Vec<&'a str>,
    pub(super) words: Vec<Word<'a>>,
    /// The line goes on behind the last delimiter.
    pub(super) cut: bool,
    /// The same for lines with the same delimiters.
    pub(super) skeleton: u64,
}

fn is_delimiter(b: u8) -> bool {
    matches!(
        b,
        b' ' | b'\t'
            | b'\r'
            | b'\n'
            | b'='
            | b':'
            | b','
            | b';'
            | b'|'
            | b'"'
            | b'\''
            | b'`'
            | b'('
            | b')'
            | b'['
            | b']'
            | b'{'
            | b'}'
            | b'<'
            | b'>'
            | b'/'
            | b'?'
            | b'&'
    )
}

impl<'a> Tokens<'a> {
    /// With room for a usual line.
    pub(super) fn new() -> Self {
        Self { delimiters: Vec::with_capacity(65), words: Vec::with_capacity(64), ..Self::default() }
    }

    /// Takes a line apart, into the buffers that are there.
    pub(super) fn read(&mut self, line: &'a str) {
        self.delimiters.clear();
        self.words.clear();
        self.cut = line.len() > LINE_BYTES_MAX;
        let mut end = line.len().min(LINE_BYTES_MAX);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let (text, bytes) = (&line[..end], &line.as_bytes()[..end]);
        let mut hasher = FxHasher::default();
        let mut at = 0;
        loop {
            let start = at;
            while at < end && is_delimiter(bytes[at]) {
                at += 1;
            }
            let delimiter = &text[start..at];
            hasher.write(delimiter.as_bytes());
            hasher.write_u8(0xff);
            self.finish_word(delimiter);
            self.delimiters.push(delimiter);
            if at >= end {
                break;
            }
            if self.words.len() >= WORDS_MAX {
                self.cut = true;
                break;
            }
            let start = at;
            let mut digits = 0usize;
            while at < end && !is_delimiter(bytes[at]) {
                digits += usize::from(bytes[at].is_ascii_digit());
                at += 1;
            }
            // One digit behind letters, as in `v1` and `h2`, is a name; others are numbers, amounts and ids.
            let variable = digits > 1 || bytes[start].is_ascii_digit() || at - start > WORD_BYTES_MAX;
            self.words.push(Word { text: &text[start..at], variable, key: false });
        }
        hasher.write_u8(u8::from(self.cut));
        self.skeleton = hasher.finish();
    }

    /// What stands behind the last word says what it is.
    fn finish_word(&mut self, behind: &str) {
        let Some(word) = self.words.last_mut() else { return };
        let before = self.delimiters.last().copied().unwrap_or("");
        word.key = behind.starts_with('=') || before.ends_with('"') && behind.starts_with("\":");
        // `<name>` would be read as a capture of that name.
        word.variable |= before.ends_with('<') && behind.starts_with('>');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, want: &str) {
        let mut tokens = Tokens::default();
        tokens.read(line);
        assert_eq!(tokens.delimiters.len(), tokens.words.len() + 1);
        let mut shown = tokens.delimiters[0].to_owned();
        for (word, delimiter) in tokens.words.iter().zip(&tokens.delimiters[1..]) {
            shown.push_str(if word.variable { "_" } else { word.text });
            shown.push_str(if word.key { "!" } else { "" });
            shown.push_str(delimiter);
        }
        assert_eq!(shown, want, "{line}");
    }

    #[test]
    fn words_and_delimiters() {
        check("", "");
        check("one", "one");
        check("GET /api/v1/users/42 HTTP/1.1", "GET /api/v1/users/_ HTTP/_");
        check("level=info took=12ms msg=\"a b\"", "level!=info took!=_ msg!=\"a b\"");
        check(r#"{"level":"info","n":7}"#, r#"{"level!":"info","n!":_}"#);
        check("a <b> 10.0.0.1:80 ü", "a <_> _:_ ü");
    }

    #[test]
    fn long_lines_are_cut() {
        let mut tokens = Tokens::default();
        let line = "é".repeat(2000);
        tokens.read(&line);
        assert!(tokens.cut && tokens.words.len() == 1);
        let line = "a ".repeat(400);
        tokens.read(&line);
        assert!(tokens.cut && tokens.words.len() == WORDS_MAX);
    }
}
