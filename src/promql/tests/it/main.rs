//! Integration tests of the PromQL crate: the reference's scripts, and a second parser's opinion.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests, too, end a test that cannot go on")]

mod conformance;
mod garbage;
mod second_opinion;

/// The directory with the conformance data, or `None` after saying that `name` is skipped.
fn conformance_dir(name: &str) -> Option<std::path::PathBuf> {
    let dir = std::env::var_os("TREFOIL_CONFORMANCE").map_or_else(
        || std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/conformance")),
        Into::into,
    );
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: {name}");
    None
}
