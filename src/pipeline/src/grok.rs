//! Grok: named patterns in regular expressions, `%{NAME}`, `%{NAME:field}`, `%{NAME:field:int}`.
//!
//! The pattern names are those of Logstash's core set
//! (<https://www.elastic.co/guide/en/logstash/current/plugins-filters-grok.html>); their expressions are written for
//! Go's dialect, which has no look-around, so that they take the same texts where they stand between separators.

mod patterns;

use patterns::PATTERNS;

/// Deepest nesting of patterns.
const DEPTH_MAX: usize = 32;
/// Longest expanded expression in bytes.
const EXPANDED_BYTES_MAX: usize = 256 << 10;

/// What becomes of the text of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    /// It stays.
    Text,
    /// It stays; a group without a match is left out.
    Optional,
    /// A whole number.
    Whole,
    /// A number.
    Float,
}

impl Cast {
    /// The value of a text; what is no number stays a text.
    pub(crate) fn number(self, text: &str) -> crate::Found {
        let number = match self {
            Self::Text | Self::Optional => None,
            Self::Whole => {
                let whole = text.trim_start_matches('+').split('.').next().unwrap_or("");
                whole.parse::<i64>().ok().map(|n| n.to_string())
            }
            Self::Float => text.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| n.to_string()),
        };
        number.map_or_else(|| crate::Found::Text(text.to_owned()), crate::Found::Number)
    }
}

/// A field of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Name of its group.
    pub group: String,
    /// Its name: `[a][b]` is `a_b`, other characters become `_`.
    pub name: String,
    /// What becomes of its text.
    pub cast: Cast,
}

/// An expression without patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// The regular expression.
    pub pattern: String,
    /// Its fields.
    pub fields: Vec<Field>,
}

/// Puts the patterns into an expression; `own` ones go before the known ones. Errors: what is wrong.
pub fn expand(expression: &str, own: &[(String, String)]) -> Result<Expanded, String> {
    let mut expander = Expander { own, out: String::new(), fields: Vec::new() };
    expander.add(expression, 0)?;
    Ok(Expanded { pattern: expander.out, fields: expander.fields })
}

struct Expander<'a> {
    own: &'a [(String, String)],
    out: String,
    fields: Vec<Field>,
}

impl Expander<'_> {
    fn add(&mut self, text: &str, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("patterns are nested deeper than {DEPTH_MAX}"));
        }
        let mut rest = text;
        while let Some(at) = rest.find("%{") {
            self.put(&rest[..at])?;
            let end = rest[at..].find('}').ok_or("a pattern %{ does not end")? + at;
            self.pattern(&rest[at + 2..end], depth)?;
            rest = &rest[end + 1..];
        }
        self.put(rest)
    }

    /// Appends a text; groups named `(?<name>` are written `(?P<name>`.
    fn put(&mut self, text: &str) -> Result<(), String> {
        self.out.push_str(text);
        if self.out.len() > EXPANDED_BYTES_MAX {
            return Err(format!("the expression is longer than {EXPANDED_BYTES_MAX} bytes with its patterns"));
        }
        Ok(())
    }

    fn pattern(&mut self, inside: &str, depth: usize) -> Result<(), String> {
        let mut parts = inside.splitn(3, ':');
        let name = parts.next().unwrap_or("");
        let field = parts.next().filter(|f| !f.is_empty());
        let cast = match parts.next() {
            None | Some("string") => Cast::Optional,
            Some("int" | "long") => Cast::Whole,
            Some("float" | "double") => Cast::Float,
            Some(other) => return Err(format!("unknown type {other:?} in %{{{inside}}} (one of: int, float)")),
        };
        let own = self.own.iter().find(|(n, _)| n == name).map(|(_, text)| text.as_str());
        let known = || PATTERNS.iter().find(|(n, _)| *n == name).map(|(_, text)| *text);
        let text = own.or_else(known).ok_or_else(|| format!("unknown pattern {name:?}"))?;
        match field {
            None => self.put("(?:")?,
            Some(field) => {
                let group = format!("grok{}", self.fields.len());
                self.put(&format!("(?P<{group}>"))?;
                self.fields.push(Field { group, name: field_name(field), cast });
            }
        }
        self.add(text, depth + 1)?;
        self.put(")")
    }
}

fn field_name(field: &str) -> String {
    let flat = field.trim_start_matches('[').trim_end_matches(']').replace("][", "_");
    let mut out: String = flat.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

#[cfg(test)]
mod tests {
    use trefoil_model::re2::Regex;

    use super::*;

    fn check(expression: &str, text: &str, want: &[(&str, &str)]) {
        let expanded = expand(expression, &[("OWN".to_owned(), "[xyz]+".to_owned())]).unwrap();
        let regex = Regex::new(&expanded.pattern).unwrap_or_else(|e| panic!("{expression}: {e}"));
        let captures = regex.captures(text).unwrap_or_else(|| panic!("{expression} does not match {text}"));
        let found: Vec<(String, String)> = regex
            .names()
            .enumerate()
            .filter_map(|(i, name)| {
                let field = expanded.fields.iter().find(|f| Some(f.group.as_str()) == name)?;
                Some((field.name.clone(), captures.get(i)?.to_owned()))
            })
            .collect();
        let want: Vec<(String, String)> = want.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(found, want, "{expression}");
    }

    #[test]
    fn every_pattern_compiles() {
        for (name, _) in PATTERNS {
            let expanded = expand(&format!("%{{{name}:x}}"), &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
            Regex::new(&expanded.pattern).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }

    #[test]
    fn expressions_find_fields() {
        check(
            "%{IP:client} %{WORD:method} %{URIPATHPARAM:request} %{NUMBER:bytes:int} %{NUMBER:duration:float}",
            "55.3.244.1 GET /index.html?a=b 15824 0.043",
            &[
                ("client", "55.3.244.1"),
                ("method", "GET"),
                ("request", "/index.html?a=b"),
                ("bytes", "15824"),
                ("duration", "0.043"),
            ],
        );
        check(
            "^%{COMBINEDAPACHELOG}$",
            r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326 "http://x/y" "Mozilla/4.08 [en]""#,
            &[
                ("clientip", "127.0.0.1"),
                ("ident", "-"),
                ("auth", "frank"),
                ("timestamp", "10/Oct/2000:13:55:36 -0700"),
                ("verb", "GET"),
                ("request", "/a.gif"),
                ("httpversion", "1.0"),
                ("response", "200"),
                ("bytes", "2326"),
                ("referrer", "\"http://x/y\""),
                ("agent", "\"Mozilla/4.08 [en]\""),
            ],
        );
        check(
            "^%{SYSLOGLINE}$",
            "Nov 21 23:59:59 host.example sshd[123]: Accepted key",
            &[
                ("timestamp", "Nov 21 23:59:59"),
                ("logsource", "host.example"),
                ("program", "sshd"),
                ("pid", "123"),
                ("message", "Accepted key"),
            ],
        );
        check(
            "^%{TIMESTAMP_ISO8601:t} %{LOGLEVEL:l} %{OWN:o} %{GREEDYDATA:rest}$",
            "2026-11-21T23:59:59.123+01:00 WARN xyz and so on",
            &[("t", "2026-11-21T23:59:59.123+01:00"), ("l", "WARN"), ("o", "xyz"), ("rest", "and so on")],
        );
        check("%{IP:[source][ip]}", "x fe80::1 y", &[("source_ip", "fe80::1")]);
        check("%{HOSTNAME:h}:%{POSINT:p:int}", "a-b.c:80", &[("h", "a-b.c"), ("p", "80")]);
    }

    #[test]
    fn faults_are_told() {
        let fault = |expression: &str, own: &[(String, String)]| expand(expression, own).unwrap_err();
        assert!(fault("%{NONE:x}", &[]).contains("unknown pattern \"NONE\""));
        assert!(fault("%{IP", &[]).contains("does not end"));
        assert!(fault("%{IP:x:bool}", &[]).contains("unknown type"));
        assert!(fault("%{A}", &[("A".to_owned(), "%{A}".to_owned())]).contains("nested"));
        let twice = [("A".to_owned(), "%{B}%{B}%{B}%{B}".to_owned()), ("B".to_owned(), "x".repeat(100_000))];
        assert!(fault("%{A}", &twice).contains("longer"));
    }
}
