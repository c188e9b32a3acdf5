//! Paths with a `*` in their last part, as in `rule_files` and `scrape_config_files`.

use std::io;
use std::path::{Path, PathBuf};

/// True for `^[^*]*(\*[^/]*)?$`: no `*` but in the last part of the path.
pub(crate) fn is_valid_pattern(text: &str) -> bool {
    text.find('*').is_none_or(|star| !text[star..].contains('/'))
}

/// Lists the files that a path pattern names, sorted; a path without a pattern is itself, there or not.
///
/// `*`, `?` and `[...]` work in the last part of the path only. A directory that is not there gives no files.
pub fn expand(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(name) = pattern.file_name().and_then(|n| n.to_str()) else { return Ok(vec![pattern.to_path_buf()]) };
    if !name.contains(['*', '?', '[']) {
        return Ok(vec![pattern.to_path_buf()]);
    }
    let parent = pattern.parent().unwrap_or(Path::new(""));
    let dir = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut out = Vec::new();
    for entry in entries {
        let file_name = entry?.file_name();
        if file_name.to_str().is_some_and(|n| matches(name.as_bytes(), n.as_bytes())) {
            out.push(parent.join(file_name));
        }
    }
    out.sort();
    Ok(out)
}

/// Matches a name against `*`, `?`, `[a-z]`, `[^a-z]` and `\x`.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on after the last star: one more byte of the name eaten by it.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        if n == name.len() {
            return p == pattern.len();
        }
        match step(&pattern[p..], name[n]) {
            Some(len) => {
                p += len;
                n += 1;
            }
            None => match star {
                Some((after, eaten)) => {
                    p = after;
                    n = eaten + 1;
                    star = Some((after, eaten + 1));
                }
                None => return false,
            },
        }
    }
}

/// The length of the first piece of the pattern when it matches the byte.
fn step(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', c, ..] => (*c == byte).then_some(2),
        [b'[', rest @ ..] => {
            let end = rest.iter().skip(1).position(|c| *c == b']')? + 1;
            let (negated, set) = match rest[..end].split_first() {
                Some((b'^' | b'!', set)) => (true, set),
                _ => (false, &rest[..end]),
            };
            let mut found = false;
            let mut i = 0;
            while i < set.len() {
                if i + 2 < set.len() && set[i + 1] == b'-' {
                    found |= (set[i]..=set[i + 2]).contains(&byte);
                    i += 3;
                } else {
                    found |= set[i] == byte;
                    i += 1;
                }
            }
            (found != negated).then_some(end + 2)
        }
        [c, ..] => (*c == byte).then_some(1),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match() {
        for (pattern, name, want) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yaml", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("rule?.yml", "rule1.yml", true),
            ("rule[0-3].yml", "rule2.yml", true),
            ("rule[^0-3].yml", "rule2.yml", false),
            ("*", "", true),
            ("", "", true),
            ("[", "[", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), want, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_are_valid() {
        assert!(is_valid_pattern("a/b/*.yml") && is_valid_pattern("a") && !is_valid_pattern("a/*/*"));
    }
}
