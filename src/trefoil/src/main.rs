//! The binary: command line, wiring, signals. No logic of its own.
//!
//! Reading order: [`cli`], [`serve`] (how a server is put together, reloaded and taken down), [`background`] (what the
//! stores need to have done now and then), [`logging`], [`self_telemetry`], [`memory`], [`demo`], [`check`], [`query`], [`query_log`],
//! [`flag_values`], [`script_test`], [`snapshots`], [`span_insight`], [`backup`],
//! [`tsdb`].

mod background;
mod backup;
mod check;
mod cli;
mod counted;
mod demo;
mod features;
mod flag_values;
mod log_files;
mod logging;
mod lost;
mod memory;
mod query;
mod query_log;
mod rule_files;
mod script_test;
mod self_telemetry;
mod serve;
mod snapshots;
mod span_insight;
mod tsdb;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command, ConfigCommand};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How the allocator is set up; the variable `MALLOC_CONF` goes before it. What is freed goes back to the system within
/// a tenth of a second instead of ten seconds: each phase of a large query frees what the next one takes again, on another
/// thread, so that freed memory that is kept would double what the budget of a query allows.
#[expect(
    unsafe_code,
    reason = "the allocator reads its settings from a symbol of this name before any code of ours runs"
)]
#[unsafe(export_name = "malloc_conf")]
static MALLOC_CONF: Option<&'static u8> = Some(&b"dirty_decay_ms:100\0"[0]);

fn main() -> ExitCode {
    let (line, ignored) = cli::adapt(std::env::args().collect());
    let cli = match Cli::try_parse_from(line) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match cli.command {
        Command::Serve(arguments) => run(serve::run(arguments, ignored)),
        Command::Demo(arguments) => run(demo::run(arguments)),
        Command::Check(command) => check::run(command),
        Command::Config(ConfigCommand::Print(arguments)) => check::print_config(&arguments),
        Command::Query(command) => {
            let now_ms = trefoil_runtime::Clock::now_ms(&trefoil_runtime::RealClock::new());
            run(query::run(command, now_ms))
        }
        Command::Test(command) => script_test::run(command),
        Command::Tsdb(command) => run(tsdb::run(command)),
        Command::Backup(arguments) => run(backup::run(arguments)),
        Command::Restore(arguments) => run(backup::restore(arguments)),
        Command::Version => {
            print_line(&format!(
                "trefoil {} (speaks the API of Prometheus {})",
                env!("CARGO_PKG_VERSION"),
                trefoil_api::state::PROMETHEUS_VERSION
            ));
            ExitCode::SUCCESS
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "trefoil", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

/// Runs a command to its end; an error is printed with its causes.
#[expect(clippy::print_stderr, reason = "the last word of a command that failed")]
fn run(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    // Whichever provider of cryptography is asked for, it is this one.
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("trefoil").build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "printing is what the command is for")]
fn print_line(text: &str) {
    println!("{text}");
}
