//! The command line.

mod backup;
#[cfg(test)]
mod documented;
mod reference_flags;
#[cfg(test)]
mod reference_tests;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use trefoil_config::FlagOverrides;

pub(crate) use self::backup::{BackupArgs, BackupCommand, Patience, RestoreArgs};
pub(crate) use self::reference_flags::REFERENCE_FLAGS;

/// One server for metrics, logs and traces: scrapes, receives, stores, queries, alerts and shows them.
#[derive(Debug, Parser)]
#[command(name = "trefoil", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do; without a command and with flags only: serve.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the server.
    Serve(ServeArgs),
    /// Runs the server with a simulated shop that sends metrics, logs and traces to it.
    Demo(DemoArgs),
    /// Checks files without running anything.
    #[command(subcommand)]
    Check(CheckCommand),
    /// Shows the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Asks a server.
    #[command(subcommand)]
    Query(QueryCommand),
    /// Runs test scripts.
    #[command(subcommand)]
    Test(crate::script_test::TestCommand),
    /// Looks into the stored samples, brings them in and takes them out.
    #[command(subcommand)]
    Tsdb(crate::tsdb::TsdbCommand),
    /// Backs up a data directory, a snapshot or a running server; looks after backups.
    Backup(BackupArgs),
    /// Writes a backup to a new data directory.
    Restore(RestoreArgs),
    /// Prints the version.
    Version,
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Flags of `serve`; those of Prometheus have their names and meaning.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file: `prometheus.yml`, with our own settings below `trefoil:`. Without one: defaults.
    #[arg(long = "config.file", alias = "config", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Folder of the data. Default: `trefoil.data_dir`, else `data`.
    #[arg(long = "storage.tsdb.path", alias = "data", value_name = "DIR")]
    pub storage_path: Option<PathBuf>,
    /// How long metrics are kept, for example 15d.
    #[arg(long = "storage.tsdb.retention.time", alias = "storage.tsdb.retention", value_name = "DURATION")]
    pub retention_time: Option<String>,
    /// How many bytes of metrics are kept, for example 50GB.
    #[arg(long = "storage.tsdb.retention.size", value_name = "SIZE")]
    pub retention_size: Option<String>,
    /// How many percent of the disk metrics may take, instead of a number of bytes; 0: no limit.
    #[arg(long = "storage.tsdb.retention.percentage", value_name = "PERCENT")]
    pub retention_percentage: Option<String>,
    /// Address of the HTTP listener; may be given several times. Default 127.0.0.1:9090.
    #[arg(long = "web.listen-address", value_name = "HOST:PORT")]
    pub listen_address: Vec<String>,
    /// URL under which this server is reached from outside.
    #[arg(long = "web.external-url", value_name = "URL")]
    pub external_url: Option<String>,
    /// Allows reload and quit over HTTP.
    #[arg(long = "web.enable-lifecycle")]
    pub enable_lifecycle: bool,
    /// Allows deletion and snapshots over HTTP.
    #[arg(long = "web.enable-admin-api")]
    pub enable_admin_api: bool,
    /// Origins whose pages may read from a browser (CORS): a regular expression. Default: none.
    #[arg(long = "web.cors.origin", value_name = "REGEX")]
    pub cors_origin: Option<String>,
    /// Prometheus web configuration: TLS and users.
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config_file: Option<PathBuf>,
    /// How far back a query looks for the last sample of a series. Default 5m.
    #[arg(long = "query.lookback-delta", value_name = "DURATION")]
    pub query_lookback_delta: Option<String>,
    /// Longest time of a query. Default 60s.
    #[arg(long = "query.timeout", value_name = "DURATION")]
    pub query_timeout: Option<String>,
    /// Most queries at once; more wait. Default twice the cores, at least 8.
    #[arg(long = "query.max-concurrency", value_name = "N")]
    pub query_max_concurrency: Option<String>,
    /// Most samples that a query may hold at once. Default 50000000.
    #[arg(long = "query.max-samples", value_name = "N")]
    pub query_max_samples: Option<String>,
    /// Most connections of a listener. Default 4096.
    #[arg(long = "web.max-connections", value_name = "N")]
    pub max_connections: Option<String>,
    /// Most alerts that wait to be sent. Default 10000.
    #[arg(long = "alertmanager.notification-queue-capacity", value_name = "N")]
    pub notification_queue_capacity: Option<String>,
    /// Address of OTLP over gRPC. Default 127.0.0.1:4317.
    #[arg(long = "otlp.grpc-address", value_name = "HOST:PORT")]
    pub otlp_grpc_address: Option<String>,
    /// Address of OTLP over HTTP. Default 127.0.0.1:4318.
    #[arg(long = "otlp.http-address", value_name = "HOST:PORT")]
    pub otlp_http_address: Option<String>,
    /// Language features that are off by default, separated by commas: promql-experimental-functions,
    /// promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal, promql-per-step-stats,
    /// use-start-timestamps.
    #[arg(long = "enable-feature", value_name = "NAMES", value_delimiter = ',')]
    pub enable_feature: Vec<String>,
    /// Least severity that is logged: debug, info, warn, error.
    #[arg(long = "log.level", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Form of the log: text (or logfmt), json.
    #[arg(long = "log.format", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

impl ServeArgs {
    /// What the flags set over the configuration.
    pub(crate) fn overrides(&self) -> FlagOverrides {
        FlagOverrides {
            storage_tsdb_path: self.storage_path.clone(),
            storage_tsdb_retention_time: self.retention_time.clone(),
            storage_tsdb_retention_size: self.retention_size.clone(),
            storage_tsdb_retention_percentage: self.retention_percentage.clone(),
            web_listen_address: self.listen_address.clone(),
            web_external_url: self.external_url.clone(),
            web_enable_lifecycle: self.enable_lifecycle,
            web_enable_admin_api: self.enable_admin_api,
            web_cors_origin: self.cors_origin.clone(),
            web_config_file: self.web_config_file.clone(),
            log_level: self.log_level.clone(),
            log_format: self.log_format.clone(),
            query_lookback_delta: self.query_lookback_delta.clone(),
            query_timeout: self.query_timeout.clone(),
            query_max_concurrency: self.query_max_concurrency.clone(),
            query_max_samples: self.query_max_samples.clone(),
            web_max_connections: self.max_connections.clone(),
            alertmanager_notification_queue_capacity: self.notification_queue_capacity.clone(),
            otlp_grpc_address: self.otlp_grpc_address.clone(),
            otlp_http_address: self.otlp_http_address.clone(),
        }
    }
}

/// Flags of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The server's.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Requests a second that the shop gets.
    #[arg(long, default_value_t = 6.0)]
    pub rate: f64,
    /// Seconds until the first fault.
    #[arg(long, default_value_t = 60)]
    pub fault_after: u64,
    /// Seconds that a fault lasts.
    #[arg(long, default_value_t = 100)]
    pub fault_for: u64,
    /// Seconds from one fault to the next.
    #[arg(long, default_value_t = 300)]
    pub fault_every: u64,
}

/// What can be checked.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckCommand {
    /// Checks a configuration file and the files that it names.
    Config {
        /// The file.
        file: PathBuf,
        /// Does not look whether files that it names are there.
        #[arg(long)]
        syntax_only: bool,
    },
    /// Checks rule files.
    Rules {
        /// Their expressions are LogQL, as in the files of Loki's ruler.
        #[arg(long)]
        logs: bool,
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Checks a Prometheus web configuration file.
    WebConfig {
        /// The file.
        file: PathBuf,
    },
}

/// What can be shown.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Prints the effective configuration as YAML, secrets masked.
    Print(ServeArgs),
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns for people.
    Table,
    /// The server's JSON.
    Json,
}

/// Where to ask and how to print.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// URL of the server.
    #[arg(long, env = "TREFOIL_SERVER", default_value = "http://127.0.0.1:9090")]
    pub server: String,
    /// Value of the Authorization header, for example `Bearer …`.
    #[arg(long, env = "TREFOIL_AUTHORIZATION", hide_env_values = true)]
    pub authorization: Option<String>,
    /// PEM file of the authority that signed the server's certificate.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Does not verify the server's certificate.
    #[arg(long)]
    pub insecure: bool,
    /// Form of the answer.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// The time a query covers.
#[derive(Debug, Clone, Args)]
pub(crate) struct Window {
    /// Start: RFC 3339, Unix seconds, or a duration before now such as `1h`.
    #[arg(long, allow_negative_numbers = true)]
    pub start: Option<String>,
    /// End, likewise. Default now.
    #[arg(long, allow_negative_numbers = true)]
    pub end: Option<String>,
    /// Step of a range query, for example `15s`.
    #[arg(long)]
    pub step: Option<String>,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum QueryCommand {
    /// PromQL: at one time, or over a range with `--start`.
    Promql {
        /// The expression.
        query: String,
        /// Time range.
        #[command(flatten)]
        window: Window,
        /// Server and output.
        #[command(flatten)]
        target: Target,
    },
    /// LogQL, over the last hour unless `--start` says otherwise.
    Logql {
        /// The query.
        query: String,
        /// Most lines.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Time range.
        #[command(flatten)]
        window: Window,
        /// Server and output.
        #[command(flatten)]
        target: Target,
    },
    /// A trace by its id.
    Trace {
        /// 32 hexadecimal digits, leading zeros may be left out.
        id: String,
        /// Server and output.
        #[command(flatten)]
        target: Target,
    },
}

/// A flag of Prometheus that was taken out of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ignored {
    /// As it was given, with its dashes and without its value.
    pub(crate) flag: String,
    /// Its value.
    pub(crate) value: Option<String>,
}

/// The flags of `serve`, and those of them that take no value, with all their names.
fn flags_of_serve() -> (BTreeSet<String>, BTreeSet<String>) {
    let cli = Cli::command();
    let (mut all, mut switches) = (BTreeSet::new(), BTreeSet::new());
    let serve = cli.find_subcommand("serve").expect("the command line has the command serve");
    for argument in serve.get_arguments() {
        let aliases = argument.get_all_aliases().unwrap_or_default();
        let names = argument.get_long().into_iter().chain(aliases).map(str::to_owned);
        if matches!(argument.get_action(), clap::ArgAction::SetTrue) {
            switches.extend(names.clone());
        }
        all.extend(names);
    }
    (all, switches)
}

/// Ends the program as for a command line that cannot be read: with the message and exit code 2.
pub(crate) fn wrong_usage(message: &str) -> ! {
    Cli::command().error(clap::error::ErrorKind::ArgumentConflict, message).exit()
}

/// Makes Prometheus' command line ours: a line of flags alone is `serve`, and flags without a meaning here are taken
/// out. Returns the line and the flags that were taken out.
pub(crate) fn adapt(arguments: Vec<String>) -> (Vec<String>, Vec<Ignored>) {
    let mut arguments = arguments.into_iter();
    let mut line: Vec<String> = arguments.next().into_iter().collect();
    let mut rest: Vec<String> = arguments.collect();
    let first = rest.first().map(String::as_str);
    let wants_help = matches!(first, Some("-h" | "--help" | "-V" | "--version"));
    if first.is_some_and(|f| f.starts_with('-')) && !wants_help {
        rest.insert(0, "serve".to_owned());
    }
    let words = (rest.first().map(String::as_str), rest.get(1).map(String::as_str));
    if !matches!(words, (Some("serve" | "demo"), _) | (Some("config"), Some("print"))) {
        line.extend(rest);
        return (line, Vec::new());
    }
    let (ours, our_switches) = flags_of_serve();
    let foreign = |name: &str| REFERENCE_FLAGS.iter().find(|flag| flag.name == name && !ours.contains(name));
    let mut ignored = Vec::new();
    let mut rest = rest.into_iter().peekable();
    while let Some(argument) = rest.next() {
        let (flag, value) = match argument.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (argument.clone(), None),
        };
        let name = flag.strip_prefix("--").unwrap_or("");
        // Prometheus takes each switch as `--no-NAME` too; the default of all switches here is off.
        let is_switched_off = name
            .strip_prefix("no-")
            .is_some_and(|name| our_switches.contains(name) || foreign(name).is_some_and(|flag| flag.is_switch));
        if is_switched_off {
            ignored.push(Ignored { flag, value });
            continue;
        }
        match foreign(name) {
            Some(found) => {
                let takes_next =
                    !found.is_switch && value.is_none() && rest.peek().is_some_and(|next| !next.starts_with("--"));
                let value = if takes_next { rest.next() } else { value };
                ignored.push(Ignored { flag, value });
            }
            None => line.push(argument),
        }
    }
    (line, ignored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, want: &str, ignored: &[&str]) {
        let (got, dropped) = adapt(line.split(' ').map(str::to_owned).collect());
        let dropped: Vec<String> = dropped.into_iter().map(|i| i.flag).collect();
        assert_eq!(
            (got.join(" ").as_str(), dropped),
            (want, ignored.iter().map(|s| (*s).to_owned()).collect()),
            "{line}"
        );
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_unit_file_changes_by_one_word() {
        check(
            "trefoil --config.file=/etc/p.yml --storage.tsdb.path /var/p --web.console.templates /x --web.page-title=1m",
            "trefoil serve --config.file=/etc/p.yml --storage.tsdb.path /var/p",
            &["--web.console.templates", "--web.page-title"],
        );
        check("trefoil serve --storage.tsdb.wal-compression", "trefoil serve", &["--storage.tsdb.wal-compression"]);
        check("trefoil serve --no-web.enable-lifecycle", "trefoil serve", &["--no-web.enable-lifecycle"]);
        check(
            "trefoil serve --no-storage.tsdb.wal-compression",
            "trefoil serve",
            &["--no-storage.tsdb.wal-compression"],
        );
        check(
            "trefoil --web.enable-admin-api --web.cors.origin=.* --storage.tsdb.retention.percentage 80",
            "trefoil serve --web.enable-admin-api --web.cors.origin=.* --storage.tsdb.retention.percentage 80",
            &[],
        );
        check("trefoil serve --no-such-flag", "trefoil serve --no-such-flag", &[]);
        check("trefoil serve --no-config.file", "trefoil serve --no-config.file", &[]);
        check("trefoil config print --agent", "trefoil config print", &["--agent"]);
        check("trefoil --version", "trefoil --version", &[]);
        check("trefoil query promql up", "trefoil query promql up", &[]);
        let (line, _) = adapt(
            "trefoil --config.file=a --web.listen-address=:1 --web.listen-address=[::1]:2 --web.enable-lifecycle"
                .split(' ')
                .map(str::to_owned)
                .collect(),
        );
        assert!(Cli::try_parse_from(line).is_ok());
    }
}
