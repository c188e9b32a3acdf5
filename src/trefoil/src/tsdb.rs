//! `trefoil tsdb`: what is stored, whether it is whole, and samples in and out.
//!
//! Commands work on the data directory of a server that does not run; `import` and `export` also on a running one.
//! Parts in an object store are found there by what their commits say; credentials come from the environment.
//! Reading order: this file (command line, opening), [`list`] and [`analyze`] and [`verify`], [`repair`], [`transfer`],
//! [`source`] (a directory that is imported from), [`remote`] (a running server as a source).

mod analyze;
mod list;
mod remote;
mod repair;
mod source;
mod transfer;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use trefoil_config::trefoil::ObjectStoreConfig;
use trefoil_model::{Matcher, TenantId, TimeRange};
use trefoil_parts::RemoteOptions;
use trefoil_parts::objects::open_url;
use trefoil_runtime::{Clock, DataDirError, DataDirLock, ReadOnlyVfs, RealClock, RealVfs, SharedVfs, data_dir};
use trefoil_tsdb::{ObjectStoreOptions, Tsdb, TsdbOptions};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum TsdbCommand {
    /// Lists the parts: day, level, series, samples, bytes, times, format, tenant, and whether they lie in an object
    /// store, which is not asked.
    List {
        /// Which directory.
        #[command(flatten)]
        place: Place,
    },
    /// Says what the series are made of: metrics, labels and pairs by series and bytes, new series by day. Of parts in an
    /// object store the index is fetched. A part that is damaged is named and left out; then the exit code is 1.
    Analyze {
        /// Which directory.
        #[command(flatten)]
        place: Place,
        /// Tenant.
        #[arg(long, default_value_t = 0)]
        tenant: u32,
        /// Rows of each table.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Checks commits, part folders, journals and every checksum of metrics, logs and traces; of metrics decodes every
    /// block and compares index and samples; of parts in an object store, lengths and checksums of the objects. Without
    /// metrics, or when they cannot be opened, it looks at logs and traces all the same. Exit code 1 when something is
    /// broken.
    Verify {
        /// Which directory.
        #[command(flatten)]
        place: Place,
    },
    /// Makes the catalogs of metrics, logs and traces anew from the commits that can be read and from what the parts say
    /// of themselves, when commits are damaged or lost. Removes nothing: damaged commits are kept under another name.
    Repair {
        /// Which directory.
        #[command(flatten)]
        place: Place,
        /// Only tells what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Takes in also the parts in `lost/leftover-...`, which a start took for what a crash left before its commit.
        #[arg(long)]
        leftovers: bool,
    },
    /// Prints samples as text: series, value, Unix milliseconds. What is damaged is named and left out; then the exit code
    /// is 1.
    Dump {
        /// Which samples.
        #[command(flatten)]
        selection: Selection,
        /// Which directory.
        #[command(flatten)]
        place: Place,
    },
    /// Imports Prometheus data (a block, a snapshot, a whole data directory with its write-ahead log), OpenMetrics
    /// files, or JSON lines as VictoriaMetrics exports them. May be repeated: the same samples replace themselves.
    Import(ImportArgs),
    /// Exports samples as OpenMetrics or JSON lines, or replays them to a remote-write receiver.
    Export(ExportArgs),
}

/// A data directory.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// Data directory of a server that does not run.
    #[arg(long, alias = "storage.tsdb.path", value_name = "DIR", default_value = "data")]
    pub data: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// A data directory or a running server.
#[derive(Debug, Clone, Args)]
pub(crate) struct Store {
    /// Data directory of a server that does not run.
    #[arg(long, alias = "storage.tsdb.path", value_name = "DIR", default_value = "data", conflicts_with = "server")]
    pub data: PathBuf,
    /// URL of a running server, instead of a data directory.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Value of the Authorization header for the server (or the receiver of a replay), for example `Bearer …`.
    #[arg(long, env = "TREFOIL_AUTHORIZATION", hide_env_values = true)]
    pub authorization: Option<String>,
    /// PEM file of the authority that signed the server's certificate.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Does not verify the server's certificate.
    #[arg(long)]
    pub insecure: bool,
}

/// Which samples.
#[derive(Debug, Clone, Args)]
pub(crate) struct Selection {
    /// Series selectors, for example '{job="api"}'; a series that any of them takes counts. None: all series.
    pub selectors: Vec<String>,
    /// Start: RFC 3339, Unix seconds, or a duration before now such as `1h`. Without: all there is.
    #[arg(long, allow_negative_numbers = true)]
    pub start: Option<String>,
    /// End, likewise, exclusive.
    #[arg(long, allow_negative_numbers = true)]
    pub end: Option<String>,
    /// Tenant.
    #[arg(long, default_value_t = 0)]
    pub tenant: u32,
}

/// Form of what is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportFormat {
    /// Folders are Prometheus data, `.json` and `.jsonl` files JSON lines, all others OpenMetrics.
    Auto,
    /// A block, a folder of blocks, or a whole data directory of Prometheus.
    Prometheus,
    /// OpenMetrics with timestamps.
    Openmetrics,
    /// The classic text format with timestamps.
    Text,
    /// JSON lines of VictoriaMetrics' `/api/v1/export`.
    Json,
}

/// Flags of `import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Files and folders; `-` reads standard input.
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Their form.
    #[arg(long, value_enum, default_value_t = ImportFormat::Auto)]
    pub format: ImportFormat,
    /// Where to.
    #[command(flatten)]
    pub store: Store,
    /// Leaves out samples before: RFC 3339, Unix seconds, or a duration before now.
    #[arg(long, allow_negative_numbers = true)]
    pub start: Option<String>,
    /// Leaves out samples from this time on, likewise.
    #[arg(long, allow_negative_numbers = true)]
    pub end: Option<String>,
    /// Tenant.
    #[arg(long, default_value_t = 0)]
    pub tenant: u32,
    /// Prints the result as JSON.
    #[arg(long)]
    pub json: bool,
    /// No lines of progress.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Form of what is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// OpenMetrics text, for `promtool tsdb create-blocks-from openmetrics`. Without stale markers and native
    /// histograms, which it cannot say.
    Openmetrics,
    /// JSON lines; VictoriaMetrics' `/api/v1/import` takes them. Lossless from a data directory or a snapshot's folder.
    /// From a server without start timestamps, stale markers, NaN payloads and native histograms, as all forms.
    Json,
    /// Remote write to the URL of `--to`.
    RemoteWrite,
}

/// Flags of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Which samples.
    #[command(flatten)]
    pub selection: Selection,
    /// Form.
    #[arg(long, value_enum, default_value_t = ExportFormat::Openmetrics)]
    pub format: ExportFormat,
    /// File to write; standard output without.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// URL of the remote-write receiver, for example `http://host:9090/api/v1/write`.
    #[arg(long, value_name = "URL", required_if_eq("format", "remote-write"))]
    pub to: Option<String>,
    /// Where from.
    #[command(flatten)]
    pub store: Store,
}

/// Runs a command.
pub(crate) async fn run(command: TsdbCommand) -> anyhow::Result<()> {
    // All of it waits for disks; requests go back to the runtime.
    tokio::task::spawn_blocking(move || match command {
        TsdbCommand::List { place } => list::run(&place),
        TsdbCommand::Analyze { place, tenant, limit } => analyze::run(&place, TenantId(tenant), limit),
        TsdbCommand::Verify { place } => verify::run(&place),
        TsdbCommand::Repair { place, dry_run, leftovers } => repair::run(&place, dry_run, leftovers),
        TsdbCommand::Dump { selection, place } => transfer::dump(&selection, &place),
        TsdbCommand::Import(arguments) => transfer::import(&arguments),
        TsdbCommand::Export(arguments) => transfer::export(&arguments),
    })
    .await
    .context("the command was stopped")?
}

/// The store of a data directory, and the lock that keeps servers out.
pub(crate) struct Opened {
    pub(crate) store: Tsdb,
    _lock: DataDirLock,
}

/// Locks a data directory for one who writes, or only reads and makes nothing in it. Says so when it cannot be locked.
pub(crate) fn lock(data: &Path, writes: bool) -> anyhow::Result<DataDirLock> {
    let locked = if writes { DataDirLock::acquire(data) } else { DataDirLock::acquire_to_read(data) };
    let lock = match locked {
        Err(error @ DataDirError::InUse(_)) => {
            return Err(error).context("stop the server first, or use --server where there is one");
        }
        other => other?,
    };
    if !lock.is_held() && data.join(data_dir::LOCK_FILE).exists() {
        say(&format!("{} cannot be locked; make sure that no server uses it meanwhile", data.display()));
    }
    Ok(lock)
}

/// A remark on standard error.
#[expect(clippy::print_stderr, reason = "what a person must know beside the result")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// Opens the store of a data directory, to be written to and made when it is missing with `create`, else to be read.
pub(crate) fn open(data: &Path, create: bool) -> anyhow::Result<Opened> {
    if !create && !data.join("metrics").is_dir() {
        bail!("{} is not a data directory with metrics (see --data)", data.display());
    }
    let mut lock = lock(data, create)?;
    let vfs = RealVfs::shared();
    if create {
        data_dir::check_format(&*vfs, data)?;
    } else {
        data_dir::has_format(&*vfs, data)?;
    }
    let dir = data.join("metrics");
    let remote = object_store(&vfs, data)?;
    // Who only looks changes nothing, whatever state the directory is in; but what is fetched is kept, by one at a time.
    let mut cache = None;
    if !create && remote.is_some() {
        drop(lock);
        lock = match DataDirLock::acquire(data) {
            Ok(lock) => {
                cache = Some(dir.join("parts").join("cache"));
                lock
            }
            Err(DataDirError::Io { .. }) => self::lock(data, false)?,
            Err(error) => return Err(error).context("stop the server first, or use --server where there is one"),
        };
    }
    let view = if create { Arc::clone(&vfs) } else { ReadOnlyVfs::shared(Arc::clone(&vfs), cache) };
    let mut options = TsdbOptions::new(dir, view, RealClock::shared());
    options.object_store = remote;
    // A back-fill touches many days: fewer, larger flushes make fewer parts.
    options.flush_bytes = 192 << 20;
    let store = Tsdb::open(options).context("open the metrics store")?;
    Ok(Opened { store, _lock: lock })
}

/// Reaches the parts that lie in an object store, where the catalog says that they are. Nothing is moved there.
fn object_store(vfs: &SharedVfs, data: &Path) -> anyhow::Result<Option<ObjectStoreOptions>> {
    let places = trefoil_parts::at_rest::places(vfs, &data.join("metrics").join("parts"));
    let places = places.context("open the metrics store")?;
    let Some(url) = places.first() else { return Ok(None) };
    if places.len() > 1 {
        bail!("parts lie in more than one object store: {}", places.join(", "));
    }
    let objects = open_url(url, Arc::clone(vfs))
        .with_context(|| format!("parts lie in the object store {url}, which cannot be opened"))?;
    let cache_bytes = ObjectStoreConfig::default().cache_bytes.as_u64();
    Ok(Some(ObjectStoreOptions { remote: RemoteOptions { objects, cache_bytes }, after: Duration::MAX }))
}

impl Selection {
    fn range(&self) -> anyhow::Result<TimeRange> {
        range(self.start.as_deref(), self.end.as_deref())
    }

    fn matchers(&self) -> anyhow::Result<Vec<Vec<Matcher>>> {
        self.selectors
            .iter()
            .map(|s| trefoil_promql::parser::parse_selector(s).with_context(|| format!("selector {s}")))
            .collect()
    }
}

fn range(start: Option<&str>, end: Option<&str>) -> anyhow::Result<TimeRange> {
    let now_ms = RealClock::new().now_ms();
    let time = |text: Option<&str>, otherwise| text.map_or(Ok(otherwise), |t| crate::query::time_ms(t, now_ms));
    let (start_ms, end_ms) = (time(start, i64::MIN)?, time(end, i64::MAX)?);
    if start_ms >= end_ms {
        bail!("--start is not before --end: there is nothing between them");
    }
    Ok(TimeRange::new(start_ms, end_ms))
}

/// Columns: the first left, all others to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let cells: Vec<String> = cells
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(i, (c, w))| if i == 0 { format!("{c:<w$}") } else { format!("{c:>w$}") })
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|r| line(r.iter().map(String::as_str).collect())));
    lines.join("\n")
}

/// A UTC day as people write it.
pub(crate) fn day_text(day: i64) -> String {
    let start = day.checked_mul(trefoil_model::time::DAY_MS).and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    start.map_or_else(|| day.to_string(), |t| t.strftime("%Y-%m-%d").to_string())
}

/// A time as people write it.
pub(crate) fn time_text(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |t| format!("{t:.3}"))
}

/// Prints to standard output; a closed pipe is an error like any other.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout().lock(), "{text}").context("write the answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["long".to_owned(), "5".to_owned()]];
        assert_eq!(table(&["name", "n"], &rows), "name   n\na     10\nlong   5");
        assert_eq!((day_text(0), day_text(i64::MAX)), ("1970-01-01".to_owned(), i64::MAX.to_string()));
    }
}
