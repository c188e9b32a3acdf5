//! The part of JMESPath (<https://jmespath.org/specification.html>) that names members: `a.b`, `"a-b".c`, `a[0]`,
//! `a[-1].b`, `a || b`, `@`. Projections, filters and functions are refused.

use serde_json::Value;

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Member(String),
    Index(i64),
}

/// A compiled expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonPath {
    /// The first that gives something counts.
    alternatives: Vec<Vec<Step>>,
}

impl JsonPath {
    /// Compiles an expression. Errors: what is wrong, and at which character.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let mut alternatives = Vec::new();
        let mut parser = Parser { text, at: 0 };
        loop {
            alternatives.push(parser.steps()?);
            parser.skip_space();
            if parser.at == text.len() {
                return Ok(Self { alternatives });
            }
            if !parser.take("||") {
                return Err(parser.fault("members and indexes are understood, nothing else"));
            }
        }
    }

    /// What the expression names; `None` for nothing and for null.
    pub(crate) fn find<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.alternatives.iter().find_map(|steps| {
            let mut at = value;
            for step in steps {
                at = match (step, at) {
                    (Step::Member(name), Value::Object(members)) => members.get(name)?,
                    (Step::Index(index), Value::Array(items)) => {
                        let index = if *index < 0 { index + items.len() as i64 } else { *index };
                        items.get(usize::try_from(index).ok()?)?
                    }
                    _ => return None,
                };
            }
            (!at.is_null()).then_some(at)
        })
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn fault(&self, what: &str) -> String {
        let character = self.text[..self.at].chars().count() + 1;
        format!("expression {:?}, character {character}: {what}", self.text)
    }

    fn steps(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        self.skip_space();
        if self.take("@") && !self.take(".") && !self.rest().starts_with('[') {
            return Ok(steps);
        }
        if !self.rest().starts_with('[') {
            steps.push(self.member()?);
        }
        loop {
            if self.take("[") {
                let end = self.rest().find(']').ok_or_else(|| self.fault("the index does not end"))?;
                let index = self.rest()[..end].trim().parse().map_err(|_| self.fault("the index must be a number"))?;
                self.at += end + 1;
                steps.push(Step::Index(index));
            } else if self.take(".") {
                steps.push(self.member()?);
            } else {
                return Ok(steps);
            }
        }
    }

    fn member(&mut self) -> Result<Step, String> {
        self.skip_space();
        if self.rest().starts_with('"') {
            let mut stream = serde_json::Deserializer::from_str(self.rest()).into_iter::<String>();
            return match stream.next() {
                Some(Ok(name)) => {
                    let length = stream.byte_offset();
                    self.at += length;
                    Ok(Step::Member(name))
                }
                _ => Err(self.fault("the quoted name does not end")),
            };
        }
        let fits = |(i, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit());
        let length = self.rest().char_indices().find(|(i, c)| !fits((*i, *c))).map_or(self.rest().len(), |(i, _)| i);
        if length == 0 {
            return Err(self.fault("a name is expected (names with other characters stand in double quotes)"));
        }
        let name = self.rest()[..length].to_owned();
        self.at += length;
        Ok(Step::Member(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_members() {
        let document: Value = serde_json::from_str(r#"{"a":{"b":[1,{"c":"x"}],"d-e":true,"n":null},"f":"g"}"#).unwrap();
        for (text, want) in [
            ("f", Some("\"g\"")),
            ("a.b[0]", Some("1")),
            ("a.b[-1].c", Some("\"x\"")),
            (r#"a."d-e""#, Some("true")),
            ("a.n", None),
            ("x || f", Some("\"g\"")),
            ("a.n||x", None),
            ("@.f", Some("\"g\"")),
            ("f.g", None),
        ] {
            let found = JsonPath::new(text).unwrap().find(&document).map(Value::to_string);
            assert_eq!(found.as_deref(), want, "{text}");
        }
        for bad in ["", "a.", "a[", "a[x]", "a[*]", "length(a)", "\"a", "a-b", "é"] {
            assert!(JsonPath::new(bad).is_err(), "{bad}");
        }
    }
}
