//! Patterns of paths: `*`, `?`, `[a-z]`, `{a,b}` within a part, `**` for any number of directories.

use std::fs;
use std::path::{Path, PathBuf};

/// Deepest directory below the fixed part that `**` goes into.
const DEPTH_MAX: usize = 32;
/// Most alternatives that braces may make.
const ALTERNATIVES_MAX: usize = 256;

/// A pattern of absolute paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    /// Parts of each alternative.
    alternatives: Vec<Vec<String>>,
}

impl Glob {
    /// Reads a pattern. Errors: what is wrong.
    pub fn new(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("path {text:?} must be absolute"));
        }
        let mut alternatives = Vec::new();
        for whole in braces(text)? {
            let mut parts: Vec<String> = whole.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
            // At the end it means all files below.
            if parts.last().is_some_and(|last| last == "**") {
                parts.push("*".to_owned());
            }
            alternatives.push(parts);
        }
        Ok(Self { text: text.to_owned(), alternatives })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True when the path is one of the pattern's.
    pub fn matches(&self, path: &Path) -> bool {
        let parts: Vec<&str> = path.iter().skip(1).filter_map(|part| part.to_str()).collect();
        self.alternatives.iter().any(|pattern| parts_match(pattern, &parts))
    }

    /// Calls `found` with each existing path that is not a directory, and `failed` with what cannot be listed.
    pub fn expand(&self, found: &mut dyn FnMut(PathBuf), failed: &mut dyn FnMut(&Path, std::io::Error)) {
        for pattern in &self.alternatives {
            walk(Path::new("/"), pattern, 0, found, failed);
        }
    }
}

/// The texts that braces stand for.
fn braces(text: &str) -> Result<Vec<String>, String> {
    let Some(open) = text.find('{') else { return Ok(vec![text.to_owned()]) };
    let mut depth = 0;
    let mut pieces = Vec::new();
    let mut from = open + 1;
    for (i, c) in text[open..].char_indices() {
        let at = open + i;
        match c {
            '{' => depth += 1,
            ',' if depth == 1 => {
                pieces.push(&text[from..at]);
                from = at + 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    pieces.push(&text[from..at]);
                    let mut out = Vec::new();
                    for piece in pieces {
                        out.extend(braces(&format!("{}{piece}{}", &text[..open], &text[at + 1..]))?);
                        if out.len() > ALTERNATIVES_MAX {
                            return Err(format!("path {text:?} has more than {ALTERNATIVES_MAX} alternatives"));
                        }
                    }
                    return Ok(out);
                }
            }
            _ => {}
        }
    }
    Err(format!("path {text:?} has a '{{' without '}}'"))
}

fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?', '[', '\\'])
}

fn walk(
    dir: &Path,
    pattern: &[String],
    depth: usize,
    found: &mut dyn FnMut(PathBuf),
    failed: &mut dyn FnMut(&Path, std::io::Error),
) {
    // What cannot be listed below a directory that was found by a pattern is somebody else's, or went in between.
    let Some((part, rest)) = pattern.split_first() else { return };
    if part == "**" {
        walk(dir, rest, depth, found, failed);
        if depth < DEPTH_MAX {
            // Links to directories are not followed here: they may lead in circles.
            list(dir, failed, &mut |name, kind| {
                if kind.is_dir() {
                    walk(&dir.join(name), pattern, depth + 1, found, &mut |_, _| {});
                }
            });
        }
        return;
    }
    if !is_pattern(part) {
        let path = dir.join(part);
        if rest.is_empty() {
            if fs::symlink_metadata(&path).is_ok_and(|m| !m.is_dir()) {
                found(path);
            }
        } else {
            walk(&path, rest, depth, found, failed);
        }
        return;
    }
    list(dir, failed, &mut |name, kind| {
        if part_matches(part.as_bytes(), name.as_bytes()) {
            let path = dir.join(name);
            if !rest.is_empty() {
                if kind.is_dir() || (kind.is_symlink() && path.is_dir()) {
                    walk(&path, rest, depth, found, &mut |_, _| {});
                }
            } else if !kind.is_dir() {
                found(path);
            }
        }
    });
}

fn list(dir: &Path, failed: &mut dyn FnMut(&Path, std::io::Error), each: &mut dyn FnMut(&str, fs::FileType)) {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                failed(dir, error);
            }
            return;
        }
    };
    for entry in entries.flatten() {
        if let (Some(name), Ok(kind)) = (entry.file_name().to_str(), entry.file_type()) {
            each(name, kind);
        }
    }
}

fn parts_match(pattern: &[String], parts: &[&str]) -> bool {
    match (pattern.split_first(), parts.split_first()) {
        (None, None) => true,
        (Some((head, rest)), _) if head == "**" => {
            parts_match(rest, parts) || parts.split_first().is_some_and(|(_, tail)| parts_match(pattern, tail))
        }
        (Some((head, rest)), Some((part, tail))) => {
            part_matches(head.as_bytes(), part.as_bytes()) && parts_match(rest, tail)
        }
        _ => false,
    }
}

/// Matches a name against `*`, `?`, `[a-z]`, `[^a-z]` and `\x`.
fn part_matches(pattern: &[u8], name: &[u8]) -> bool {
    trefoil_config::globs::matches(pattern, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match() {
        for (pattern, path, want) in [
            ("/var/log/*.log", "/var/log/a.log", true),
            ("/var/log/*.log", "/var/log/b/a.log", false),
            ("/var/log/**/*.log", "/var/log/a.log", true),
            ("/var/log/**/*.log", "/var/log/b/c/a.log", true),
            ("/var/log/**", "/var/log/b/c", true),
            ("/var/{log,tmp}/a.{log,txt}", "/var/tmp/a.txt", true),
            ("/var/{log,tmp}/a.{log,txt}", "/var/opt/a.txt", false),
            ("/a[0-9].log", "/a7.log", true),
            ("/a", "/a", true),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().matches(Path::new(path)), want, "{pattern} {path}");
        }
        for bad in ["a/*.log", "", "/a{b", "/{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}"] {
            assert!(Glob::new(bad).is_err(), "{bad}");
        }
    }
}
