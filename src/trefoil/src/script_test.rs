//! `trefoil test`: PromQL test scripts (the reference's `.test` format), LogQL and TraceQL case files against the engines.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use trefoil_promql::testing;

/// Findings of a file: how many tests it holds, and those that failed, each with its place.
type Findings = Result<(usize, Vec<String>), String>;

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
    /// LogQL case files in the format `trefoil-logql-cases/1`.
    Logql {
        /// The files; of a folder all that end in `.yaml`.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Prints one line in all, and the failures.
        #[arg(long)]
        quiet: bool,
    },
    /// TraceQL case files in the format `trefoil-traceql-cases/1`.
    Traceql {
        /// The files; of a folder all that end in `.yaml`.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Prints one line in all, and the failures.
        #[arg(long)]
        quiet: bool,
    },
}

fn promql(text: &str) -> Findings {
    let report = testing::run(text).map_err(|e| e.to_string())?;
    Ok((report.evals, report.failures.iter().map(|f| format!("{}: {}", f.line, f.message)).collect()))
}

fn logql(text: &str) -> Findings {
    let report = trefoil_logql::testing::run(text)?;
    Ok((report.cases.len(), report.failures.iter().map(|f| format!("{}: {}", f.id, f.message)).collect()))
}

fn traceql(text: &str) -> Findings {
    let report = trefoil_traceql::testing::run(text)?;
    Ok((report.cases.len(), report.failures.iter().map(|f| format!("{}: {}", f.id, f.message)).collect()))
}

/// Runs the scripts; the exit code is 1 when a test fails or a script cannot be read.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "printing the findings is what the command is for")]
pub(crate) fn run(command: TestCommand) -> ExitCode {
    let (files, quiet, ending, tests, runner): (_, _, _, _, fn(&str) -> Findings) = match command {
        TestCommand::Promql { files, quiet } => (files, quiet, "test", "evals", promql),
        TestCommand::Logql { files, quiet } => (files, quiet, "yaml", "cases", logql),
        TestCommand::Traceql { files, quiet } => (files, quiet, "yaml", "cases", traceql),
    };
    let (mut count, mut failed, mut unreadable) = (0, 0, 0);
    let scripts = match scripts(&files, ending) {
        Ok(scripts) => scripts,
        Err(message) => {
            eprintln!("FAILED: {message}");
            return ExitCode::FAILURE;
        }
    };
    for path in &scripts {
        match read(path).and_then(|text| runner(&text)) {
            Ok((found, failures)) => {
                count += found;
                failed += failures.len();
                for failure in &failures {
                    println!("FAILED: {}:{failure}", path.display());
                }
                if !quiet {
                    println!("{}: {} of {found} pass", path.display(), found - failures.len());
                }
            }
            Err(message) => {
                unreadable += 1;
                println!("FAILED: {}: {message}", path.display());
            }
        }
    }
    let passed = count - failed;
    println!("{} scripts, {count} {tests}: {passed} pass, {failed} fail, {unreadable} scripts unread", scripts.len());
    if failed + unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The scripts that were named, those of folders in the order of their names.
fn scripts(paths: &[PathBuf], ending: &str) -> Result<Vec<PathBuf>, String> {
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
            if file.extension().is_some_and(|e| e == ending) {
                found.push(file);
            }
        }
        if found.is_empty() {
            return Err(format!("{}: no file here ends in .{ending}", path.display()));
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
