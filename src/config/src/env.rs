//! Environment variables in values: `$NAME`, `${NAME}`, and `$$` for a dollar sign.

use crate::yaml::{Kind, Node, Value};

/// Expands as Go's `os.Expand` does; an undefined variable is empty.
///
/// A dollar sign that starts no name stays; `${` without an end is dropped.
pub(crate) fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let (name, after) = match tail.as_bytes().first() {
            Some(b'$') => {
                out.push('$');
                rest = &tail[1..];
                continue;
            }
            Some(b'{') => match tail[1..].split_once('}') {
                Some((name, after)) => (name, after),
                None => ("", &tail[1..]),
            },
            Some(c) if c.is_ascii_alphanumeric() || *c == b'_' => {
                let end = tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tail.len());
                // A digit is a name of its own, as in a shell.
                tail.split_at(if c.is_ascii_digit() { 1 } else { end })
            }
            _ => {
                out.push('$');
                rest = tail;
                continue;
            }
        };
        if name == "$" {
            out.push('$');
        } else if !name.is_empty() {
            out.push_str(&env(name).unwrap_or_default());
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Expands every value below a node; keys stay. A bcrypt hash, which is full of dollar signs, stays as it is.
pub(crate) fn expand_node(node: &mut Node, env: &dyn Fn(&str) -> Option<String>) {
    match &mut node.kind {
        Kind::Null => {}
        Kind::Scalar(scalar) => {
            if scalar.text.contains('$') && !is_bcrypt(&scalar.text) {
                let undefined = std::cell::RefCell::new(None);
                let noted = |name: &str| {
                    let value = env(name);
                    if value.is_none() {
                        undefined.borrow_mut().get_or_insert_with(|| name.to_owned());
                    }
                    value
                };
                scalar.text = expand(&scalar.text, &noted);
                scalar.undefined = undefined.into_inner();
            }
        }
        Kind::Seq(items) => items.iter_mut().for_each(|n| expand_node(n, env)),
        Kind::Map(entries) => {
            entries.iter_mut().filter(|e| !is_stages(&e.key)).for_each(|e| expand_node(&mut e.value, env));
        }
    }
}

/// Keys of pipeline stages, whose expressions and templates have dollar signs of their own.
fn is_stages(key: &str) -> bool {
    matches!(key, "pipeline_stages" | "multiline" | "stages")
}

/// Doubles the dollar signs of every value below, but for bcrypt hashes, so that [`expand_node`] gives it back.
pub(crate) fn escape_value(value: &mut Value) {
    match value {
        Value::Str(text) if text.contains('$') && !is_bcrypt(text) => *text = text.replace('$', "$$"),
        Value::Seq(items) => items.iter_mut().for_each(escape_value),
        Value::Map(entries) => {
            entries.iter_mut().filter(|(k, _)| !is_stages(k)).for_each(|(_, v)| escape_value(v));
        }
        _ => {}
    }
}

/// `$2a$`, `$2b$` or `$2y$`, two digits of cost, 53 characters of salt and hash.
pub(crate) fn is_bcrypt(text: &str) -> bool {
    let Some(rest) = ["$2a$", "$2b$", "$2y$"].iter().find_map(|p| text.strip_prefix(p)) else { return false };
    let bytes = rest.as_bytes();
    bytes.len() == 56
        && bytes[0].is_ascii_digit()
        && bytes[1].is_ascii_digit()
        && bytes[2] == b'$'
        && bytes[3..].iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_like_go() {
        let env = |name: &str| match name {
            "A" => Some("alpha".to_owned()),
            "B_1" => Some("beta".to_owned()),
            _ => None,
        };
        for (text, want) in [
            ("plain", "plain"),
            ("$A", "alpha"),
            ("${A}x$B_1", "alphaxbeta"),
            ("$Ax", ""),
            ("$$A", "$A"),
            ("${$}", "$"),
            ("$NONE|", "|"),
            ("a$", "a$"),
            ("a$ b", "a$ b"),
            ("$1x", "x"),
            ("${", ""),
            ("${}", ""),
            ("é$A", "éalpha"),
        ] {
            assert_eq!(expand(text, &env), want, "{text}");
        }
    }

    #[test]
    fn hashes_stay() {
        assert!(is_bcrypt("$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"));
        assert!(!is_bcrypt("$2y$10$short"));
    }

    #[test]
    fn what_is_printed_loads_again() {
        let text = "global:\n  external_labels: { a: 'x$$5', b: '$A' }\ntrefoil:\n  external_url: 'http://h/$$x'\n";
        let env = |name: &str| (name == "A").then(|| "alpha".to_owned());
        let parse = |text: &str| crate::Config::parse(text, std::path::Path::new(""), &env).unwrap().config;
        let first = parse(text);
        assert_eq!(first.global.external_labels.0["a"], "x$5");
        assert_eq!(parse(&first.to_yaml()), first);
    }
}
