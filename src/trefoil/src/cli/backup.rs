//! Arguments of `backup` and `restore`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

/// How long an object store is waited for.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Patience {
    /// Seconds without a byte from an object store after which a request that reads from it has failed.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    timeout: NonZeroU32,
}

impl Patience {
    /// Longest time of a request that reads.
    pub(crate) fn timeout(self) -> Duration {
        Duration::from_secs(self.timeout.get().into())
    }
}

/// Flags of `backup`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct BackupArgs {
    /// What to do with the backups at a place; without a command: make one.
    #[command(subcommand)]
    pub command: Option<BackupCommand>,
    /// Where to: s3://bucket/prefix (credentials by AWS_* in the environment), file:///dir or a folder.
    #[arg(long, required = true, value_name = "PLACE")]
    pub to: Option<String>,
    /// URL of a running server on this machine, which takes a snapshot first (it needs its admin API); the snapshot is
    /// removed in the end.
    #[arg(long, value_name = "URL", conflicts_with = "snapshot")]
    pub server: Option<String>,
    /// Value of the Authorization header, for example `Bearer …`.
    #[arg(long, env = "TREFOIL_AUTHORIZATION", hide_env_values = true)]
    pub authorization: Option<String>,
    /// PEM file of the authority that signed the server's certificate.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Does not verify the server's certificate.
    #[arg(long)]
    pub insecure: bool,
    /// Data directory that no server uses; with --server, the server's (default: the one it names).
    #[arg(long, value_name = "DIR", required_unless_present_any = ["server", "snapshot"])]
    pub data_dir: Option<PathBuf>,
    /// Folder of a snapshot.
    #[arg(long, value_name = "DIR", conflicts_with = "data_dir")]
    pub snapshot: Option<PathBuf>,
    /// Leaves parts in the object store where they are: the backup names them and does not copy them. What is restored
    /// from it needs that store, and the server that it came from must not run any more.
    #[arg(long)]
    pub leave_remote: bool,
    /// Reads what the place has already before trusting it, and writes it again when it is damaged. A folder is always
    /// read.
    #[arg(long)]
    pub verify: bool,
    /// How long the place is waited for.
    #[command(flatten)]
    pub patience: Patience,
}

/// What can be done with backups.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Lists the backups at a place, oldest first.
    List {
        /// Where they are: s3://bucket/prefix, file:///dir or a folder.
        #[arg(long, value_name = "PLACE")]
        from: String,
        /// How long the place is waited for.
        #[command(flatten)]
        patience: Patience,
    },
    /// Reads every object of a backup and compares checksums; names what is damaged, and what was damaged when it was
    /// backed up. Of parts that the backup left in an object store, the lengths of the objects are compared.
    Verify {
        /// Where it is.
        #[arg(long, value_name = "PLACE")]
        from: String,
        /// Name of the backup. Default: the newest.
        #[arg(long, value_name = "NAME")]
        at: Option<String>,
        /// How long the place is waited for.
        #[command(flatten)]
        patience: Patience,
    },
    /// Removes all but the newest backups, and the objects that only those needed. Not while a backup is being made.
    Prune {
        /// Where they are.
        #[arg(long, value_name = "PLACE")]
        from: String,
        /// How many stay, at least 1.
        #[arg(long, value_name = "N")]
        keep: NonZeroUsize,
        /// Also removes backups whose manifests are damaged, which would stop it otherwise: nothing says what they hold.
        #[arg(long)]
        drop_damaged: bool,
        /// How long the place is waited for.
        #[command(flatten)]
        patience: Patience,
    },
}

/// Flags of `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Where the backup is: s3://bucket/prefix, file:///dir or a folder.
    #[arg(long, value_name = "PLACE")]
    pub from: String,
    /// Name of the backup. Default: the newest.
    #[arg(long, value_name = "NAME")]
    pub at: Option<String>,
    /// Data directory to write: missing or empty.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Goes on when objects of the backup are damaged: names them and restores all others. Files whose objects have the
    /// right length are written with their bad bytes, which the server tells from good ones. The exit code is 1.
    #[arg(long)]
    pub skip_damaged: bool,
    /// How long the place is waited for.
    #[command(flatten)]
    pub patience: Patience,
}
