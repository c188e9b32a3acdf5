//! The command line.

mod backup;
#[cfg(test)]
mod documented;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use trefoil_config::FlagOverrides;

pub(crate) use self::backup::{BackupArgs, BackupCommand, Patience, RestoreArgs};

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

/// Flags of Prometheus that may stand in a unit file and mean nothing here, with whether a value follows.
pub(crate) const IGNORED_FLAGS: &[(&str, bool)] = &[
    ("--query.lookback-delta", true),
    ("--query.max-concurrency", true),
    ("--query.max-samples", true),
    ("--query.timeout", true),
    ("--rules.alert.for-grace-period", true),
    ("--rules.alert.for-outage-tolerance", true),
    ("--rules.alert.resend-delay", true),
    ("--storage.remote.flush-deadline", true),
    ("--storage.tsdb.no-lockfile", false),
    ("--storage.tsdb.wal-compression", false),
    ("--storage.tsdb.min-block-duration", true),
    ("--storage.tsdb.max-block-duration", true),
    ("--web.console.libraries", true),
    ("--web.console.templates", true),
    ("--web.enable-otlp-receiver", false),
    ("--web.enable-remote-write-receiver", false),
    ("--web.max-connections", true),
    ("--web.page-title", true),
    ("--web.read-timeout", true),
    ("--web.route-prefix", true),
];

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
    #[arg(long)]
    pub start: Option<String>,
    /// End, likewise. Default now.
    #[arg(long)]
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

/// True for a switch, of ours or without a meaning here; Prometheus takes each as `--no-NAME` too.
fn is_switch(name: &str) -> bool {
    let ours = Cli::command();
    let serve = ours.find_subcommand("serve");
    serve
        .into_iter()
        .flat_map(clap::Command::get_arguments)
        .any(|argument| argument.get_long() == Some(name) && matches!(argument.get_action(), clap::ArgAction::SetTrue))
        || IGNORED_FLAGS.iter().any(|(flag, takes_value)| !takes_value && flag.strip_prefix("--") == Some(name))
}

/// Makes Prometheus' command line ours: a line of flags alone is `serve`, and flags without a meaning here are taken
/// out. Returns the line and the flags that were taken out.
pub(crate) fn adapt(arguments: Vec<String>) -> (Vec<String>, Vec<String>) {
    let mut arguments = arguments.into_iter();
    let mut line: Vec<String> = arguments.next().into_iter().collect();
    let mut rest: Vec<String> = arguments.collect();
    let first = rest.first().map(String::as_str);
    let wants_help = matches!(first, Some("-h" | "--help" | "-V" | "--version"));
    if first.is_some_and(|f| f.starts_with('-')) && !wants_help {
        rest.insert(0, "serve".to_owned());
    }
    let mut ignored = Vec::new();
    let serves = matches!(rest.first().map(String::as_str), Some("serve" | "demo"));
    let mut rest = rest.into_iter().peekable();
    while let Some(argument) = rest.next() {
        let (name, value) = argument.split_once('=').map_or((argument.as_str(), None), |(n, v)| (n, Some(v)));
        if serves && name.strip_prefix("--no-").is_some_and(is_switch) {
            // The default of all switches here is off.
            ignored.push(name.to_owned());
            continue;
        }
        match IGNORED_FLAGS.iter().find(|(flag, _)| serves && *flag == name) {
            Some((flag, takes_value)) => {
                if *takes_value && value.is_none() && rest.peek().is_some_and(|next| !next.starts_with("--")) {
                    rest.next();
                }
                ignored.push((*flag).to_owned());
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
            "trefoil --config.file=/etc/p.yml --storage.tsdb.path /var/p --web.console.templates /x --query.timeout=1m",
            "trefoil serve --config.file=/etc/p.yml --storage.tsdb.path /var/p",
            &["--web.console.templates", "--query.timeout"],
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
