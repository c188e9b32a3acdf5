//! Texts that whatever a pattern matches must hold, for indexes.

use regex_syntax::hir::{Hir, HirKind};

use super::{Flags, HEIGHT_ON_ANY_STACK, parse};

/// Most texts of an alternative.
const ALTERNATIVES_MAX: usize = 32;

/// For each item: what the pattern (not anchored) matches holds one of its texts. Empty when nothing is known.
pub fn required_texts(pattern: &str) -> Vec<Vec<String>> {
    match parse(pattern, Flags::default()) {
        Ok(parsed) if parsed.height <= HEIGHT_ON_ANY_STACK => of(&parsed.hir),
        _ => Vec::new(),
    }
}

fn of(hir: &Hir) -> Vec<Vec<String>> {
    match hir.kind() {
        HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
            Ok(text) if !text.is_empty() => vec![vec![text.to_owned()]],
            _ => Vec::new(),
        },
        HirKind::Capture(capture) => of(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min >= 1 => of(&repetition.sub),
        HirKind::Concat(parts) => parts.iter().flat_map(of).collect(),
        HirKind::Alternation(branches) => {
            let mut texts = Vec::new();
            for branch in branches {
                // Of each branch what says most.
                let least = |texts: &Vec<String>| texts.iter().map(String::len).min().unwrap_or(0);
                let Some(best) = of(branch).into_iter().max_by_key(least) else { return Vec::new() };
                texts.extend(best);
            }
            if texts.len() > ALTERNATIVES_MAX { Vec::new() } else { vec![texts] }
        }
        HirKind::Repetition(_) | HirKind::Class(_) | HirKind::Look(_) | HirKind::Empty => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_texts() {
        let check = |pattern: &str, wanted: &[&[&str]]| {
            assert_eq!(required_texts(pattern), wanted, "{pattern}");
        };
        check("u[0-9]*77[^0-9]", &[&["u"], &["77"]]);
        check("time(out|d out) after", &[&["time"], &["out", "d out"], &[" after"]]);
        check("a.*|", &[]);
        check("(abc)+x?", &[&["abc"]]);
        check("(?i)abc", &[]);
        check("^error$", &[&["error"]]);
        check("[", &[]);
    }
}
