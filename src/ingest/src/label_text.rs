//! Stream labels as text: `{name="value", ...}`, as Loki's push API carries them.

use trefoil_model::Labels;
use trefoil_model::labels::LabelsBuilder;

/// Reads a label set. Values are quoted like Go strings: `"..."` with escapes, or `` `...` `` without.
///
/// Errors: a message that names the column (in bytes, from 1).
pub fn parse(text: &str) -> Result<LabelsBuilder, String> {
    let mut parser = Parser { text, position: 0 };
    let mut labels = LabelsBuilder::new();
    parser.expect('{')?;
    if parser.accept('}') {
        return parser.end(labels);
    }
    loop {
        let name = parser.name()?;
        parser.expect('=')?;
        let value = parser.value()?;
        if labels.pairs().iter().any(|(n, _)| n == name) {
            return Err(parser.error(&format!("label {name:?} stands twice")));
        }
        labels.set(name, value);
        if parser.accept(',') {
            if parser.accept('}') {
                return parser.end(labels);
            }
            continue;
        }
        parser.expect('}')?;
        return parser.end(labels);
    }
}

/// Reads a label set that is not built upon any further.
pub fn parse_labels(text: &str) -> Result<Labels, String> {
    parse(text).map(LabelsBuilder::build)
}

struct Parser<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    fn error(&self, what: &str) -> String {
        format!("{what} at column {}", self.position + 1)
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.position += rest.len() - rest.trim_start().len();
    }

    fn accept(&mut self, c: char) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(c);
        if found {
            self.position += c.len_utf8();
        }
        found
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.accept(c) { Ok(()) } else { Err(self.error(&format!("expected {c:?}"))) }
    }

    fn end(&mut self, labels: LabelsBuilder) -> Result<LabelsBuilder, String> {
        self.skip_space();
        if self.rest().is_empty() { Ok(labels) } else { Err(self.error("unexpected text after the labels")) }
    }

    fn name(&mut self) -> Result<&'a str, String> {
        self.skip_space();
        let rest = self.rest();
        let is_name = |(i, b): (usize, u8)| b.is_ascii_alphabetic() || b == b'_' || (i > 0 && b.is_ascii_digit());
        let end = rest.bytes().enumerate().position(|ib| !is_name(ib)).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.error("expected a label name"));
        }
        self.position += end;
        Ok(&rest[..end])
    }

    fn value(&mut self) -> Result<String, String> {
        self.skip_space();
        let rest = self.rest();
        if let Some(raw) = rest.strip_prefix('`') {
            let end = raw.find('`').ok_or_else(|| self.error("label value is not closed"))?;
            self.position += end + 2;
            return Ok(raw[..end].to_owned());
        }
        let Some(quoted) = rest.strip_prefix('"') else {
            return Err(self.error("expected a quoted label value"));
        };
        let special = |b: u8| b == b'"' || b == b'\\';
        let plain = quoted.bytes().position(special).ok_or_else(|| self.error("label value is not closed"))?;
        if quoted.as_bytes()[plain] == b'"' {
            self.position += plain + 2;
            return Ok(quoted[..plain].to_owned());
        }
        self.position += 1;
        self.escaped_value()
    }

    fn escaped_value(&mut self) -> Result<String, String> {
        let mut bytes = Vec::new();
        loop {
            let rest = self.rest();
            let mut chars = rest.chars();
            match chars.next() {
                None => return Err(self.error("label value is not closed")),
                Some('"') => {
                    self.position += 1;
                    return String::from_utf8(bytes).map_err(|_| self.error("label value is not UTF-8"));
                }
                Some('\\') => {
                    let consumed = unescape(&rest[1..], &mut bytes).ok_or_else(|| self.error("unknown escape"))?;
                    self.position += 1 + consumed;
                }
                Some(c) => {
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    self.position += c.len_utf8();
                }
            }
        }
    }
}

/// Reads one escape of a Go string, without its backslash; returns how many bytes it has.
fn unescape(text: &str, out: &mut Vec<u8>) -> Option<usize> {
    let first = text.bytes().next()?;
    let simple = match first {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'\\' | b'"' | b'\'' => first,
        b'x' => {
            out.push(u8::from_str_radix(digits(text, 1, 2)?, 16).ok()?);
            return Some(3);
        }
        b'0'..=b'7' => {
            out.push(u8::from_str_radix(digits(text, 0, 3)?, 8).ok()?);
            return Some(3);
        }
        b'u' | b'U' => {
            let n = if first == b'u' { 4 } else { 8 };
            let c = char::from_u32(u32::from_str_radix(digits(text, 1, n)?, 16).ok()?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(1 + n);
        }
        _ => return None,
    };
    out.push(simple);
    Some(1)
}

fn digits(text: &str, start: usize, n: usize) -> Option<&str> {
    text.get(start..start + n).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Result<&[(&str, &str)], &str>) {
        let got = parse_labels(text);
        match (got, want) {
            (Ok(got), Ok(want)) => assert_eq!(got.iter().collect::<Vec<_>>(), want, "{text}"),
            (Err(got), Err(want)) => assert_eq!(got, want, "{text}"),
            (got, want) => panic!("{text}: got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn label_sets() {
        check("{}", Ok(&[]));
        check(r#" { b = "2" , a="1",} "#, Ok(&[("a", "1"), ("b", "2")]));
        check(r#"{a="x\n\"y\\\u00e9\x41\101"}"#, Ok(&[("a", "x\n\"y\\éAA")]));
        check("{a=`x\\n`}", Ok(&[("a", "x\\n")]));
        check(r#"{a="ü,}"}"#, Ok(&[("a", "ü,}")]));
        check(r#"{a=""}"#, Ok(&[]));
        check("", Err("expected '{' at column 1"));
        check("{a}", Err("expected '=' at column 3"));
        check(r#"{a="1" b="2"}"#, Err("expected '}' at column 8"));
        check(r#"{a="1"#, Err("label value is not closed at column 4"));
        check(r#"{a="\q"}"#, Err("unknown escape at column 5"));
        check(r#"{a="\u"#, Err("unknown escape at column 5"));
        check(r#"{a="\xff"}"#, Err("label value is not UTF-8 at column 10"));
        check(r#"{9a="1"}"#, Err("expected a label name at column 2"));
        check(r#"{a="1",a="2"}"#, Err("label \"a\" stands twice at column 13"));
        check(r#"{a="1"}x"#, Err("unexpected text after the labels at column 8"));
    }
}
