//! `trefoil check` and `trefoil config`: files, without running anything.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use trefoil_config::{Config, ConfigError, LoadedConfig, WebConfig};
use trefoil_promql::ParserOptions;
use trefoil_rules::load_rule_files;

use crate::cli::{CheckCommand, ServeArgs};
use crate::rule_files::load_logs;

/// The environment, for the places where it is expanded.
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Runs a check; the exit code is 1 when something is wrong.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "printing the findings is what the command is for")]
pub(crate) fn run(command: CheckCommand) -> ExitCode {
    let result = match command {
        CheckCommand::Config { file, syntax_only } => check_config(&file, syntax_only),
        CheckCommand::Rules { logs, files } => check_rules(&files, logs),
        CheckCommand::WebConfig { file } => WebConfig::load(&file)
            .map(|_| format!("SUCCESS: {} is a valid web configuration", file.display()))
            .map_err(|e| vec![chain(&e)]),
    };
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("FAILED: {fault}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints the effective configuration.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "printing it is what the command is for")]
pub(crate) fn print_config(arguments: &ServeArgs) -> ExitCode {
    match Config::load_with(arguments.config_file.as_deref(), &arguments.overrides(), &env) {
        Ok(loaded) => {
            print!("{}", loaded.config.to_yaml());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("FAILED: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn check_config(file: &Path, syntax_only: bool) -> Result<String, Vec<String>> {
    let loaded: LoadedConfig = Config::load(file).map_err(|e| vec![chain(&e)])?;
    let logs = crate::log_files::check(&loaded.config.trefoil.logs, Some(file)).map_err(|e| vec![chain(&e)])?;
    let warnings = loaded.warnings.iter().chain(&logs.warnings);
    let mut lines: Vec<String> = warnings.map(|w| format!("WARNING: {w}")).collect();
    if !syntax_only {
        let missing = loaded.missing_files();
        if !missing.is_empty() {
            return Err(missing);
        }
        let paths = loaded.config.rule_file_paths().map_err(|e| vec![chain(&e)])?;
        lines.push(check_rules(&paths, false)?);
        let paths = loaded.config.log_rule_file_paths().map_err(|e| vec![chain(&e)])?;
        if !paths.is_empty() {
            lines.push(check_rules(&paths, true)?);
        }
    }
    lines.push(format!("SUCCESS: {} is a valid configuration", file.display()));
    Ok(lines.join("\n"))
}

fn check_rules(paths: &[PathBuf], over_logs: bool) -> Result<String, Vec<String>> {
    let files = if over_logs { load_logs(paths) } else { load_rule_files(paths, ParserOptions::default()) };
    let files = files.map_err(|errors| errors.iter().map(chain).collect::<Vec<_>>())?;
    let rules: usize = files.iter().flat_map(|(_, f)| &f.groups).map(|g| g.rules.len()).sum();
    let what = if over_logs { "rule files over logs" } else { "rule files" };
    Ok(format!("SUCCESS: {} {what}, {rules} rules", files.len()))
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &ConfigError) -> String {
    trefoil_runtime::tasks::chain(error)
}
