//! Values to YAML text, in block style.

/// A value to be printed.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A number.
    Float(f64),
    /// Text; quoted where YAML would read something else.
    Str(String),
    /// A sequence.
    Seq(Vec<Value>),
    /// A mapping, in the order given.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Prints the value as a YAML document.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        match self {
            Self::Map(entries) if !entries.is_empty() => map(entries, 0, &mut out, false),
            Self::Seq(items) if !items.is_empty() => seq(items, 0, &mut out),
            other => {
                scalar(other, &mut out);
                out.push('\n');
            }
        }
        out
    }
}

fn indent(depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', depth * 2));
}

fn map(entries: &[(String, Value)], depth: usize, out: &mut String, first_in_place: bool) {
    for (i, (key, value)) in entries.iter().enumerate() {
        if i > 0 || !first_in_place {
            indent(depth, out);
        }
        text(key, out);
        out.push(':');
        match value {
            Value::Map(inner) if !inner.is_empty() => {
                out.push('\n');
                map(inner, depth + 1, out, false);
            }
            Value::Seq(items) if !items.is_empty() => {
                out.push('\n');
                seq(items, depth + 1, out);
            }
            other => {
                out.push(' ');
                scalar(other, out);
                out.push('\n');
            }
        }
    }
}

fn seq(items: &[Value], depth: usize, out: &mut String) {
    for item in items {
        indent(depth, out);
        out.push_str("- ");
        match item {
            Value::Map(inner) if !inner.is_empty() => map(inner, depth + 1, out, true),
            Value::Seq(inner) if !inner.is_empty() => {
                out.push('\n');
                seq(inner, depth + 1, out);
            }
            other => {
                scalar(other, out);
                out.push('\n');
            }
        }
    }
}

fn scalar(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::Float(n) => out.push_str(&n.to_string()),
        Value::Str(s) => text(s, out),
        Value::Seq(_) => out.push_str("[]"),
        Value::Map(_) => out.push_str("{}"),
    }
}

fn text(s: &str, out: &mut String) {
    if is_plain(s) {
        out.push_str(s);
        return;
    }
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\U{:08x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// True for durations and sizes such as `1m30s`, `512MB`, which no reader takes for a number.
fn is_quantity(s: &str) -> bool {
    s.starts_with(|c: char| c.is_ascii_digit())
        && s.ends_with(|c: char| c.is_ascii_alphabetic())
        && s.chars().all(|c| c.is_ascii_alphanumeric())
        && !s.contains(['x', 'o', 'e', 'E', 'b'])
}

/// True when the text can stand unquoted and is read back as this text by any YAML reader.
fn is_plain(s: &str) -> bool {
    let Some(first) = s.chars().next() else { return false };
    let starts_well =
        is_quantity(s) || first.is_alphabetic() || matches!(first, '/' | '_' | '$' | '(' | '<' | '.' | '+');
    let looks_typed = s.parse::<f64>().is_ok()
        || ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "~", ".inf", ".nan"]
            .iter()
            .any(|word| word.eq_ignore_ascii_case(s))
        || s == "<<";
    starts_well
        && !looks_typed
        && !s.ends_with(' ')
        && !s.ends_with(':')
        && !s.contains(": ")
        && !s.contains(" #")
        && !s.chars().any(|c| c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}'))
}
