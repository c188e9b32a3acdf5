//! Patterns such as `<ip> - <user> [<_>]`, for the `pattern` stage and the `|>` filter.

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// `None` for `<_>`.
    Capture(Option<String>),
}

/// A parsed pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    parts: Vec<Part>,
}

impl Pattern {
    /// For the `pattern` stage: at least one named capture, names unique.
    pub(crate) fn for_extraction(source: &str) -> Result<Self, String> {
        let pattern = Self::parse(source)?;
        let names: Vec<&str> = pattern.names().collect();
        if names.is_empty() {
            return Err("at least one capture is required".to_owned());
        }
        if let Some(name) = names.iter().enumerate().find(|(i, n)| names[..*i].contains(n)).map(|(_, n)| n) {
            return Err(format!("duplicate capture name ({name})"));
        }
        Ok(pattern)
    }

    /// For the line filter: only `<_>`.
    pub(crate) fn for_filter(source: &str) -> Result<Self, String> {
        let pattern = Self::parse(source)?;
        if let Some(name) = pattern.names().next() {
            return Err(format!("named captures are not allowed in a pattern filter (<{name}>)"));
        }
        Ok(pattern)
    }

    fn parse(source: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = source;
        while let Some(c) = rest.chars().next() {
            if let Some(name) = capture_name(rest) {
                if matches!(parts.last(), Some(Part::Capture(_))) {
                    return Err(format!("found consecutive capture '<{name}>': a literal must stand between captures"));
                }
                parts.push(Part::Capture((name != "_").then(|| name.to_owned())));
                rest = &rest[name.len() + 2..];
                continue;
            }
            match parts.last_mut() {
                Some(Part::Literal(text)) => text.push(c),
                _ => parts.push(Part::Literal(c.to_string())),
            }
            rest = &rest[c.len_utf8()..];
        }
        Ok(Self { parts })
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|p| match p {
            Part::Capture(Some(name)) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Calls `each` with name and text of every named capture found. When a literal is missing, the capture before
    /// it takes the rest and matching stops.
    pub(crate) fn captures<'a>(&self, line: &'a str, mut each: impl FnMut(&str, &'a str)) {
        let (mut rest, mut parts) = (line, self.parts.as_slice());
        if let [Part::Literal(text), after @ ..] = parts {
            let Some(tail) = rest.strip_prefix(text.as_str()) else { return };
            (rest, parts) = (tail, after);
        }
        while let [Part::Capture(name), after @ ..] = parts {
            let (captured, tail, done) = match after {
                [Part::Literal(text), ..] => match rest.split_once(text.as_str()) {
                    Some((head, tail)) => (head, tail, false),
                    None => (rest, "", true),
                },
                _ => (rest, "", true),
            };
            if let Some(name) = name {
                each(name, captured);
            }
            if done {
                return;
            }
            rest = tail;
            parts = &after[1..];
        }
    }

    /// Whether the whole line matches; captures are never empty.
    pub(crate) fn matches(&self, line: &str) -> bool {
        if self.parts.is_empty() || line.is_empty() {
            return self.parts.is_empty() && line.is_empty();
        }
        let mut at = 0;
        for (i, part) in self.parts.iter().enumerate() {
            let Part::Literal(text) = part else { continue };
            match line[at..].find(text.as_str()) {
                None => return false,
                Some(offset) if (i == 0) != (offset == 0) => return false,
                Some(offset) => at += offset + text.len(),
            }
        }
        let ends_on_capture = matches!(self.parts.last(), Some(Part::Capture(_)));
        ends_on_capture == (at < line.len())
    }
}

/// The name when the text starts with `<name>`.
fn capture_name(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('<')?.split_once('>')?;
    trefoil_model::labels::is_legacy_label_name(name).then_some(name)
}
