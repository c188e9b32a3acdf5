//! Chips: a field, a comparison and a value, as a page shows them beside the search box.

use std::fmt;

use trefoil_model::labels::underscored;

use crate::error::ApiError;

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, the whole value
    Matches,
    /// `!~`
    NotMatches,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
}

impl Comparison {
    fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Matches => "=~",
            Self::NotMatches => "!~",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
        }
    }

    /// Whether a label matcher of a selector can say it.
    pub(super) fn is_matcher(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual | Self::Matches | Self::NotMatches)
    }
}

/// A condition on a field. Shown as LogQL says it, the name as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chip {
    /// Name, dotted or underscored.
    pub(super) name: String,
    /// How it is compared.
    pub(super) comparison: Comparison,
    /// With what: text, a regex, or an amount (number, duration or size).
    pub(super) value: String,
}

impl Chip {
    /// Reads `name=value`, `name!=value`, `name=~regex`, `name!~regex`, `name>5`, `name>=5ms`, `name<5KB`, `name<=5`.
    ///
    /// Errors: there is no comparison or no name, or an inequality with something else than an amount.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        let bad = |what: &str| ApiError::parameter("filter", format!("{what} in {text:?}"));
        let at = text.find(['=', '!', '<', '>']).ok_or_else(|| bad("no comparison"))?;
        let (name, rest) = (text[..at].trim(), &text[at..]);
        let all = [
            ("=~", Comparison::Matches),
            ("!~", Comparison::NotMatches),
            ("!=", Comparison::NotEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<=", Comparison::LessOrEqual),
            ("=", Comparison::Equal),
            (">", Comparison::Greater),
            ("<", Comparison::Less),
        ];
        let found = all.iter().find_map(|(sign, c)| Some((*c, rest.strip_prefix(sign)?)));
        let (comparison, value) = found.ok_or_else(|| bad("no comparison"))?;
        if name.is_empty() {
            return Err(bad("no name"));
        }
        if !comparison.is_matcher() && !Self::is_amount(value) {
            return Err(bad("a comparison with something else than a number, duration or size"));
        }
        Ok(Self { name: name.to_owned(), comparison, value: value.to_owned() })
    }

    /// The name as LogQL knows it.
    pub(super) fn label(&self) -> String {
        underscored(&self.name).into_owned()
    }

    /// Whether a text is a number, a duration or a size, as LogQL takes it bare.
    pub(super) fn is_amount(text: &str) -> bool {
        text.len() <= 40
            && text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.')
            && text.contains(|c: char| c.is_ascii_digit())
            && text[1..].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
    }

    /// The opposite.
    pub(super) fn negated(self) -> Self {
        let comparison = match self.comparison {
            Comparison::Equal => Comparison::NotEqual,
            Comparison::NotEqual => Comparison::Equal,
            Comparison::Matches => Comparison::NotMatches,
            Comparison::NotMatches => Comparison::Matches,
            Comparison::Greater => Comparison::LessOrEqual,
            Comparison::GreaterOrEqual => Comparison::Less,
            Comparison::Less => Comparison::GreaterOrEqual,
            Comparison::LessOrEqual => Comparison::Greater,
        };
        Self { comparison, ..self }
    }

    /// As a matcher or a label filter of LogQL.
    pub(super) fn logql(&self) -> String {
        Self { name: self.label(), ..self.clone() }.to_string()
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.comparison.is_matcher() { quoted(&self.value) } else { self.value.clone() };
        write!(f, "{}{}{value}", self.name, self.comparison.as_str())
    }
}

/// Chips that ask one field for several values ask for any of them: they become one.
pub(super) fn joined(chips: Vec<Chip>) -> Vec<Chip> {
    let mut groups: Vec<(Chip, Vec<String>)> = Vec::new();
    for chip in chips {
        let is_same = |c: &Chip| c.comparison == Comparison::Equal && c.label() == chip.label();
        match groups.iter_mut().find(|(first, _)| chip.comparison == Comparison::Equal && is_same(first)) {
            Some((_, values)) if values.contains(&chip.value) => {}
            Some((_, values)) => values.push(chip.value),
            None => {
                let values = vec![chip.value.clone()];
                groups.push((chip, values));
            }
        }
    }
    let one = |(chip, values): (Chip, Vec<String>)| match values.as_slice() {
        [_] => chip,
        several => {
            let escaped: Vec<String> = several.iter().map(|v| trefoil_model::re2::escape(v)).collect();
            Chip { comparison: Comparison::Matches, value: escaped.join("|"), ..chip }
        }
    };
    groups.into_iter().map(one).collect()
}

/// A text as LogQL's literal.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chips_are_read() {
        for (text, want) in [
            ("level=error", Ok(r#"level="error""#)),
            ("http.path!=/a \"b\"", Ok(r#"http_path!="/a \"b\"""#)),
            ("a =~ x.*", Ok(r#"a=~" x.*""#)),
            ("a!~x", Ok(r#"a!~"x""#)),
            ("ms>=1.5", Ok("ms>=1.5")),
            ("took<10ms", Ok("took<10ms")),
            ("a=", Ok(r#"a="""#)),
            ("a=b=c", Ok(r#"a="b=c""#)),
            ("a>b", Err("a comparison with something else")),
            ("a>1) or (x", Err("a comparison with something else")),
            ("=x", Err("no name")),
            ("word", Err("no comparison")),
            ("a!b", Err("no comparison")),
        ] {
            match (Chip::parse(text), want) {
                (Ok(chip), Ok(want)) => assert_eq!(chip.logql(), want, "{text}"),
                (Err(error), Err(want)) if error.message.contains(want) => {}
                (got, want) => panic!("{text}: {got:?}, want {want:?}"),
            }
        }
    }

    #[test]
    fn several_values_of_a_field_are_alternatives() {
        let chips = ["a=x", "b=1", "a=y.z", "a=x", "a!=q", "a!=r"].map(|t| Chip::parse(t).expect("a chip"));
        let shown: Vec<String> = joined(chips.to_vec()).iter().map(Chip::logql).collect();
        assert_eq!(shown, [r#"a=~"x|y\\.z""#, r#"b="1""#, r#"a!="q""#, r#"a!="r""#]);
    }
}
