//! `trefoil test promql`: runs PromQL test scripts (the reference's `.test` format) against the engine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use trefoil_promql::testing;

/// Bytes of a script; what is larger is refused.
const SCRIPT_BYTES_MAX: u64 = 64 << 20;

/// What can be tested.
#[derive(Debug, Subcommand)]
pub(crate) enum TestCommand {
    /// PromQL scripts in the format of Prometheus' `promqltest`; each instant eval is also run with `@` and as a range.
    Promql {
        /// The scripts; of a folder all that end in `.test`.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Prints one line in all, and the failures.
        #[arg(long)]
        quiet: bool,
    },
}

/// Runs the scripts; the exit code is 1 when an eval fails or a script cannot be read.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "printing the findings is what the command is for")]
pub(crate) fn run(command: TestCommand) -> ExitCode {
    let TestCommand::Promql { files, quiet } = command;
    let (mut evals, mut failed, mut unreadable) = (0, 0, 0);
    let scripts = match scripts(&files) {
        Ok(scripts) => scripts,
        Err(message) => {
            eprintln!("FAILED: {message}");
            return ExitCode::FAILURE;
        }
    };
    for path in &scripts {
        let report = read(path).and_then(|text| testing::run(&text).map_err(|e| e.to_string()));
        match report {
            Ok(report) => {
                evals += report.evals;
                failed += report.failures.len();
                for failure in &report.failures {
                    println!("FAILED: {}:{}: {}", path.display(), failure.line, failure.message);
                }
                if !quiet {
                    println!("{}: {} of {} pass", path.display(), report.evals - report.failures.len(), report.evals);
                }
            }
            Err(message) => {
                unreadable += 1;
                println!("FAILED: {}: {message}", path.display());
            }
        }
    }
    let passed = evals - failed;
    println!("{} scripts, {evals} evals: {passed} pass, {failed} fail, {unreadable} scripts unread", scripts.len());
    if failed + unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The scripts that were named, those of folders in the order of their names.
fn scripts(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut out = Vec::new();
    for path in paths {
        if !path.is_dir() {
            out.push(path.clone());
            continue;
        }
        let fault = |e: std::io::Error| format!("{}: {e}", path.display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(fault)? {
            let file = entry.map_err(fault)?.path();
            if file.extension().is_some_and(|e| e == "test") {
                found.push(file);
            }
        }
        if found.is_empty() {
            return Err(format!("{}: no file here ends in .test", path.display()));
        }
        found.sort();
        out.extend(found);
    }
    Ok(out)
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if bytes > SCRIPT_BYTES_MAX {
        return Err(format!("larger than {SCRIPT_BYTES_MAX} bytes"));
    }
    std::fs::read_to_string(path).map_err(|e| e.to_string())
}
