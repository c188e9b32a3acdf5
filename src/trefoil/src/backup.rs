//! `trefoil backup` and `trefoil restore`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use trefoil_parts::objects::{Objects, open_url};
use trefoil_parts::{BackupOptions, Backups};
use trefoil_runtime::{Clock, DataDirLock, RealClock, RealVfs, Vfs};

use crate::cli::{BackupArgs, BackupCommand, Output, RestoreArgs, Target};
use crate::snapshots;

/// Runs `backup`.
pub(crate) async fn run(arguments: BackupArgs) -> anyhow::Result<()> {
    match arguments.command {
        Some(command) => blocking(move || look_after(command)).await,
        None => create(arguments).await,
    }
}

/// Runs `restore`.
pub(crate) async fn restore(arguments: RestoreArgs) -> anyhow::Result<()> {
    blocking(move || {
        let objects = place(&arguments.from)?;
        let backups = Backups::at(&*objects);
        let manifest = backups.manifest(arguments.at.as_deref())?;
        backups.restore(&RealVfs, &manifest, &arguments.data_dir)?;
        let (name, dir) = (&manifest.name, arguments.data_dir.display());
        crate::print_line(&format!(
            "restored {name} to {dir}: {}",
            amount(manifest.files.len() as u64, manifest.bytes())
        ));
        Ok(())
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("background thread")?
}

fn place(url: &str) -> anyhow::Result<Arc<dyn Objects>> {
    open_url(url, RealVfs::shared()).with_context(|| format!("open {url}"))
}

fn amount(files: u64, bytes: u64) -> String {
    format!("{files} files, {bytes} bytes")
}

/// Makes a backup of a snapshot, a directory at rest, or a running server.
async fn create(arguments: BackupArgs) -> anyhow::Result<()> {
    let to = arguments.to.clone().context("--to is missing")?;
    let now_ms = RealClock::new().now_ms();
    let leaves_remote = arguments.leave_remote;
    if arguments.server.is_some() {
        let snapshot = take_snapshot(&arguments).await?;
        return blocking(move || {
            let made = copy(&snapshot, &to, now_ms, leaves_remote);
            let removed = RealVfs.remove_dir_all(&snapshot);
            made?;
            removed.with_context(|| format!("remove snapshot {}", snapshot.display()))
        })
        .await;
    }
    blocking(move || {
        if let Some(snapshot) = &arguments.snapshot {
            return copy(snapshot, &to, now_ms, leaves_remote);
        }
        let dir = arguments.data_dir.context("--data-dir is missing")?;
        if !dir.is_dir() {
            bail!("{} is not a directory", dir.display());
        }
        let _lock = DataDirLock::acquire(&dir)
            .map_err(|error| anyhow!("{error}; to back up a running server, give its --server URL"))?;
        copy(&dir, &to, now_ms, leaves_remote)
    })
    .await
}

fn copy(dir: &Path, to: &str, now_ms: i64, leaves_remote: bool) -> anyhow::Result<()> {
    let objects = place(to)?;
    let name = snapshots::name_at(now_ms);
    let open_place = |url: &str| open_url(url, RealVfs::shared());
    let options =
        BackupOptions { name: &name, created_ms: now_ms, open_place: (!leaves_remote).then_some(&open_place) };
    let report = Backups::at(&*objects).create(&RealVfs::shared(), dir, &options)?;
    let (all, new) = (amount(report.files, report.bytes), (report.new_objects, report.new_bytes));
    crate::print_line(&format!("backup {name}: {all}, {} objects with {} bytes are new", new.0, new.1));
    Ok(())
}

/// Asks a server for a snapshot; returns its folder.
async fn take_snapshot(arguments: &BackupArgs) -> anyhow::Result<PathBuf> {
    let target = Target {
        server: arguments.server.clone().context("--server is missing")?,
        authorization: arguments.authorization.clone(),
        ca_file: arguments.ca_file.clone(),
        insecure: arguments.insecure,
        output: Output::Json,
    };
    let data_dir = match &arguments.data_dir {
        Some(dir) => dir.clone(),
        None => {
            let flags = crate::query::ask(&target, "/api/v1/status/flags", &[]).await?;
            let path = flags["data"]["storage.tsdb.path"].as_str().filter(|path| Path::new(path).is_absolute());
            path.map(PathBuf::from).context("the server does not name its data directory; give --data-dir")?
        }
    };
    let answer = crate::query::post(&target, "/api/v1/admin/tsdb/snapshot", &[]).await.map_err(|error| {
        let is_off = format!("{error:#}").contains("admin APIs disabled");
        error.context(if is_off { SWITCHED_OFF } else { "take a snapshot" })
    })?;
    let name = answer["data"]["name"].as_str().context("the server does not name its snapshot")?;
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let snapshot = data_dir.join(snapshots::FOLDER).join(name);
    if name.is_empty() || !is_plain || !snapshot.is_dir() {
        bail!("snapshot {} is not on this machine; a backup needs the server's disk", snapshot.display());
    }
    Ok(snapshot)
}

/// What is to be done when the server takes no snapshots over HTTP.
const SWITCHED_OFF: &str = "take a snapshot: the server must be started with --web.enable-admin-api";

fn look_after(command: BackupCommand) -> anyhow::Result<()> {
    match command {
        BackupCommand::List { from } => {
            let objects = place(&from)?;
            let backups = Backups::at(&*objects);
            for name in backups.names()? {
                let line = match backups.manifest(Some(&name)) {
                    Ok(manifest) => format!("{name}  {}", amount(manifest.files.len() as u64, manifest.bytes())),
                    Err(error) => format!("{name}  {}", trefoil_runtime::tasks::chain(&error)),
                };
                crate::print_line(&line);
            }
            Ok(())
        }
        BackupCommand::Verify { from, at } => {
            let objects = place(&from)?;
            let backups = Backups::at(&*objects);
            let manifest = backups.manifest(at.as_deref())?;
            let faults = backups.verify(&manifest);
            for fault in &faults {
                crate::print_line(&trefoil_runtime::tasks::chain(fault));
            }
            if !faults.is_empty() {
                bail!("backup {} is damaged: {} objects", manifest.name, faults.len());
            }
            let all = amount(manifest.files.len() as u64, manifest.bytes());
            crate::print_line(&format!("backup {} is whole: {all}", manifest.name));
            Ok(())
        }
        BackupCommand::Prune { from, keep } => {
            let objects = place(&from)?;
            let report = Backups::at(&*objects).prune(keep)?;
            let (backups, objects, bytes) = (report.backups, report.objects, report.bytes);
            crate::print_line(&format!("removed {backups} backups and {objects} objects with {bytes} bytes"));
            Ok(())
        }
    }
}
