//! What to read: files by glob, and what becomes of their lines.

use std::path::Path;

use trefoil_model::Labels;
use trefoil_pipeline::{Plan, Use};

use crate::globs::Glob;

/// How the lines of a file are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Docker's or CRI's when the first line is of that form, else plain.
    Auto,
    /// Plain text.
    Raw,
    /// Docker's json-file.
    Docker,
    /// The format of Kubernetes' container runtimes.
    Cri,
    /// A JSON object a line, whose time is under `time`, `timestamp`, `ts` or `@timestamp`.
    Json,
}

/// How the bytes of a file are text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8; what is not becomes U+FFFD.
    Utf8,
    /// UTF-16, little end first; a byte order mark is taken off.
    Utf16Le,
    /// UTF-16, big end first.
    Utf16Be,
    /// ISO 8859-1 with the printable characters of Windows 1252.
    Latin1,
}

/// Where to begin with a file that is there when it is first looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At its first line.
    Beginning,
    /// Behind its last line. Files that appear later are read from their beginning.
    End,
}

/// A set of files.
#[derive(Debug, Clone)]
pub struct Source {
    /// Which files.
    pub paths: Vec<Glob>,
    /// Which of them not.
    pub exclude: Vec<Glob>,
    /// Labels of all lines; those that a path gives come behind.
    pub labels: Labels,
    /// What lines look like.
    pub format: Format,
    /// What bytes mean.
    pub encoding: Encoding,
    /// Where to begin.
    pub start: Start,
    /// What becomes of the lines, once the container format is off.
    pub plan: Plan,
}

impl Source {
    /// True when the path is one of this source.
    pub fn selects(&self, path: &Path) -> bool {
        self.paths.iter().any(|glob| glob.matches(path)) && !self.excludes(path)
    }

    /// True when the path is left out.
    pub fn excludes(&self, path: &Path) -> bool {
        self.exclude.iter().any(|glob| glob.matches(path))
            || path.extension().is_some_and(|ext| COMPRESSED.iter().any(|c| ext.eq_ignore_ascii_case(c)))
    }

    /// The stages for a file whose first line is `first`.
    pub(crate) fn plan_for(&self, first: &str) -> Plan {
        match self.format {
            Format::Raw => self.plan.clone(),
            Format::Docker => self.plan.clone().with_container(false),
            Format::Cri => self.plan.clone().with_container(true),
            Format::Json => self.plan.clone().after(&json_plan()),
            Format::Auto if looks_like_docker(first) => self.plan.clone().with_container(false),
            Format::Auto if looks_like_cri(first) => self.plan.clone().with_container(true),
            Format::Auto => self.plan.clone(),
        }
    }
}

/// Files that are never lines.
const COMPRESSED: [&str; 7] = ["gz", "bz2", "xz", "zst", "lz4", "zip", "z"];

const JSON_STAGES: &str = r#"
- json: {expressions: {__time: 'time || timestamp || ts || "@timestamp"'}}
- timestamp: {source: __time, format: RFC3339, fallback_formats: [Unix], action_on_failure: skip}
"#;

fn json_plan() -> Plan {
    let tree = trefoil_config::yaml::node(JSON_STAGES).expect("the constant is YAML");
    Plan::new(&tree, Use::Files).expect("the constant is a list of stages")
}

fn looks_like_docker(line: &str) -> bool {
    line.starts_with('{')
        && line.contains("\"log\":")
        && line.contains("\"time\":")
        && line.contains("\"stream\":\"std")
}

fn looks_like_cri(line: &str) -> bool {
    let mut parts = line.split(' ');
    let time = parts.next().unwrap_or("");
    time.len() >= 20
        && time.as_bytes()[4] == b'-'
        && time.contains('T')
        && matches!(parts.next(), Some("stdout" | "stderr"))
        && parts.next().is_some_and(|flags| flags.starts_with(['F', 'P']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told() {
        assert!(looks_like_docker(r#"{"log":"x\n","stream":"stdout","time":"2026-01-02T03:04:05Z"}"#));
        assert!(!looks_like_docker(r#"{"log":"x","time":"2026"}"#));
        assert!(looks_like_cri("2026-01-02T03:04:05.1Z stdout F x"));
        assert!(looks_like_cri("2026-01-02T03:04:05.123456789+01:00 stderr P x"));
        assert!(!looks_like_cri("2026-01-02T03:04:05.1Z x F x") && !looks_like_cri("é stdout F"));
    }
}
