//! The configuration as a user meets it: real files, bad files, our own section, flags, doors.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test program: helpers of tests are tests, too")]

mod conformance;
mod doors;
mod loading;
mod samples;
mod trefoil_section;

use std::path::{Path, PathBuf};

use trefoil_config::{Config, LoadedConfig};

/// A folder of the conformance data, or `None` where it is not there.
fn conformance_dir(name: &str, test: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TREFOIL_CONFORMANCE").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/conformance")),
        PathBuf::from,
    );
    let dir = root.join("config").join(name);
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: {test}");
    None
}

/// Loads a text; faults as `line:column: message` lines.
fn load(text: &str) -> Result<LoadedConfig, String> {
    load_with(text, &|_| None)
}

fn load_with(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<LoadedConfig, String> {
    Config::parse(text, Path::new("/base"), env).map_err(|e| e.to_string())
}

/// A directory under the system's temporary one that is removed at the end.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("trefoil-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
