//! What loading a configuration can say: errors with a place each, and warnings.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A place in a file; both numbers count from 1, but for [`Pos::NOWHERE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pos {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Pos {
    /// No place in a file: the fault is in a flag.
    pub const NOWHERE: Self = Self { line: 0, column: 0 };
}

impl Default for Pos {
    fn default() -> Self {
        Self { line: 1, column: 1 }
    }
}

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One fault of a configuration file, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, when the text came from one.
    pub file: Option<PathBuf>,
    /// Where in the file.
    pub pos: Pos,
    /// What is wrong, in the words of Prometheus where it has some.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
        }
        if self.pos != Pos::NOWHERE {
            write!(f, "{}:", self.pos)?;
        }
        if self.file.is_some() || self.pos != Pos::NOWHERE {
            f.write_str(" ")?;
        }
        f.write_str(&self.message)
    }
}

/// A part of a valid configuration that is not run, or that will surprise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Path of the key, for example `scrape_configs[2].ec2_sd_configs`.
    pub key: String,
    /// Line of the key in its file, from 1.
    pub line: usize,
    /// What is not done and why.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.key, self.message)
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file could not be read.
    #[error("read configuration file {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The text is not a valid configuration; all faults that were found, in order of their places.
    #[error("{}", join(.0))]
    Invalid(Vec<Diagnostic>),
}

impl ConfigError {
    /// The faults with their places; empty when a file could not be read.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Read { .. } => &[],
            Self::Invalid(list) => list,
        }
    }
}

fn join(list: &[Diagnostic]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
