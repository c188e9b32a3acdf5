//! The exposition reader against pages that nobody here wrote.

mod conformance;
mod second_opinion;

use std::path::{Path, PathBuf};

use trefoil_scrape::exposition::{Exposition, Line, TextFormat, series_labels};

/// The folder of conformance data, or `None` after saying that the test is skipped.
#[expect(clippy::print_stdout, reason = "the one line that says what a run left out")]
fn conformance_dir(test: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("TREFOIL_CONFORMANCE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"), PathBuf::from);
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: {test}: no conformance data at {}", dir.display());
    None
}

/// Reads a page as a scrape does: the number of samples, or the first error.
fn read(page: &[u8], format: TextFormat) -> Result<usize, String> {
    let mut samples = 0;
    for line in Exposition::new(page, format).map_err(|e| e.to_string())? {
        if let Line::Sample { series, .. } = line.map_err(|e| e.to_string())? {
            series_labels(series)?;
            samples += 1;
        }
    }
    Ok(samples)
}
