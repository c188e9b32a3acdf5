//! `trefoil backup` and `trefoil restore`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use trefoil_parts::backup::Manifest;
use trefoil_parts::objects::{Objects, folder_of, open_existing, open_url_with};
use trefoil_parts::{BackupError, BackupOptions, Backups};
use trefoil_runtime::{Clock, DataDirLock, RealClock, RealVfs, Vfs, data_dir};

use crate::cli::{BackupArgs, BackupCommand, Output, Patience, RestoreArgs, Target};
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
        let objects = place_with_backups(&arguments.from, arguments.patience)?;
        let backups = Backups::at(&*objects);
        let manifest = chosen(&backups, arguments.at.as_deref())?;
        tell_source_damage(&manifest);
        let dir = std::path::absolute(&arguments.data_dir).context("--data-dir")?;
        if let Some(above) = dir.parent().and_then(data_dir_above) {
            let (dir, above) = (dir.display(), above.display());
            bail!("{dir} lies within the data directory {above}; what is restored belongs elsewhere");
        }
        let restored = backups.restore(&RealVfs, &manifest, &arguments.data_dir, arguments.skip_damaged);
        let is_object = matches!(restored, Err(BackupError::Object { .. }));
        let told = "nothing was restored; --skip-damaged restores all that is whole";
        let report = restored.map_err(anyhow::Error::from);
        let report = if is_object { report.context(told)? } else { report? };
        for fault in &report.second_copies {
            let fault = trefoil_runtime::tasks::chain(fault);
            warn(&format!("a second copy is left out, nothing is lost, the server writes it anew: {fault}"));
        }
        for fault in &report.left_out {
            warn(&format!("left out: {}", trefoil_runtime::tasks::chain(fault)));
        }
        for fault in &report.damaged {
            warn(&format!("restored with damage: {}", trefoil_runtime::tasks::chain(fault)));
        }
        let (name, dir) = (&manifest.name, arguments.data_dir.display());
        crate::print_line(&format!(
            "restored {name} to {dir}: {}",
            amount(manifest.files.len() as u64, manifest.bytes())
        ));
        if !report.left_out.is_empty() || !report.damaged.is_empty() {
            let (left_out, damaged) = (report.left_out.len(), report.damaged.len());
            bail!(
                "of these {left_out} files are left out and {damaged} are damaged; `trefoil tsdb verify` says what is lost, \
                 `trefoil tsdb repair` helps when commits are"
            );
        }
        Ok(())
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("background thread")?
}

fn place(url: &str, patience: Patience) -> anyhow::Result<Arc<dyn Objects>> {
    open_url_with(url, RealVfs::shared(), patience.timeout()).with_context(|| format!("open {url}"))
}

/// A place that is read; one that holds nothing is an error and is not made.
fn place_with_backups(url: &str, patience: Patience) -> anyhow::Result<Arc<dyn Objects>> {
    let objects =
        open_existing(url, RealVfs::shared(), patience.timeout()).with_context(|| format!("no backups at {url}"))?;
    let names = Backups::at(&*objects).names().with_context(|| format!("look for backups at {url}"))?;
    if names.is_empty() {
        bail!("no backups at {url}");
    }
    Ok(objects)
}

/// The backup of a name, or the newest.
fn chosen(backups: &Backups<'_>, name: Option<&str>) -> anyhow::Result<Manifest> {
    Ok(match name {
        Some(name) => backups.manifest(Some(name))?,
        None => backups.newest()?,
    })
}

/// Refuses a place within a data directory: a backup would grow by the ones before, and go with what it is to save.
fn check_outside(to: &str) -> anyhow::Result<()> {
    let Some(dir) = folder_of(to) else { return Ok(()) };
    match data_dir_above(&std::path::absolute(dir).with_context(|| format!("place {to}"))?) {
        Some(above) => bail!("{to} lies within the data directory {}; a backup belongs elsewhere", above.display()),
        None => Ok(()),
    }
}

/// The data directory that is, or holds, an absolute path.
fn data_dir_above(path: &Path) -> Option<PathBuf> {
    // What is not there yet lies below the first that is.
    let there = path.ancestors().find_map(|above| above.canonicalize().ok())?;
    let is_data_dir = |dir: &&Path| dir.join(data_dir::FORMAT_FILE).is_file() && dir.join("metrics").is_dir();
    there.ancestors().find(is_data_dir).map(Path::to_path_buf)
}

#[expect(clippy::print_stderr, reason = "what a person must know beside the result")]
fn warn(text: &str) {
    eprintln!("{text}");
}

fn tell_source_damage(manifest: &Manifest) {
    for damage in &manifest.source_damage {
        warn(&format!("damaged when it was backed up: {damage}"));
    }
}

fn amount(files: u64, bytes: u64) -> String {
    format!("{files} files, {bytes} bytes")
}

/// Makes a backup of a snapshot, a directory at rest, or a running server.
async fn create(arguments: BackupArgs) -> anyhow::Result<()> {
    let to = arguments.to.clone().context("--to is missing")?;
    let now_ms = RealClock::new().now_ms();
    let how = How { leaves_remote: arguments.leave_remote, recheck: arguments.verify, patience: arguments.patience };
    check_outside(&to)?;
    if arguments.server.is_some() {
        let (snapshot, gate) = take_snapshot(&arguments).await?;
        return blocking(move || {
            let (snapshot, lock) = take_over(snapshot, gate)?;
            let made = copy(&snapshot, &to, now_ms, how);
            let removed = RealVfs.remove_dir_all(&snapshot);
            drop(lock);
            made?;
            removed.with_context(|| format!("remove snapshot {}", snapshot.display()))
        })
        .await;
    }
    blocking(move || {
        if let Some(snapshot) = &arguments.snapshot {
            return copy(snapshot, &to, now_ms, how);
        }
        let dir = arguments.data_dir.context("--data-dir is missing")?;
        if !dir.is_dir() {
            bail!("{} is not a directory", dir.display());
        }
        let _lock = crate::tsdb::lock(&dir, false)?;
        copy(&dir, &to, now_ms, how)
    })
    .await
}

/// How a backup is made.
#[derive(Clone, Copy)]
struct How {
    leaves_remote: bool,
    recheck: bool,
    patience: Patience,
}

fn copy(dir: &Path, to: &str, now_ms: i64, how: How) -> anyhow::Result<()> {
    let objects = place(to, how.patience)?;
    let name = snapshots::name_at(now_ms);
    let open_place = |url: &str| open_url_with(url, RealVfs::shared(), how.patience.timeout());
    let options = BackupOptions {
        name: &name,
        created_ms: now_ms,
        open_place: (!how.leaves_remote).then_some(&open_place),
        recheck: how.recheck,
    };
    let report =
        Backups::at(&*objects).create(&RealVfs::shared(), dir, &options).with_context(|| format!("backup to {to}"))?;
    let (all, new) = (amount(report.files, report.bytes), (report.new_objects, report.new_bytes));
    crate::print_line(&format!("backup {name}: {all}, {} objects with {} bytes are new", new.0, new.1));
    if report.mended_objects > 0 {
        let count = report.mended_objects;
        warn(&format!("{count} objects of earlier backups were damaged at the place and were written again"));
    }
    for damage in &report.source_damage {
        warn(&format!("damaged: {damage}"));
    }
    if !report.source_damage.is_empty() {
        let count = report.source_damage.len();
        bail!("{count} files of the source are damaged or missing; the backup holds them as they are, and all others");
    }
    Ok(())
}

/// Locks a snapshot, marking it as a backup's when the server did not, and removes those of backups that ended before
/// they could.
fn take_over(snapshot: PathBuf, gate: File) -> anyhow::Result<(PathBuf, DataDirLock)> {
    // Locked under its old name, so that it never stands there marked and free.
    let lock = DataDirLock::acquire(&snapshot)?;
    let mut marked = snapshot;
    if !marked.to_string_lossy().ends_with(snapshots::BACKUP_SUFFIX) {
        let mut name = marked.as_os_str().to_owned();
        name.push(snapshots::BACKUP_SUFFIX);
        let name = PathBuf::from(name);
        RealVfs.rename(&marked, &name).with_context(|| format!("rename snapshot {}", marked.display()))?;
        marked = name;
    }
    drop(gate);
    let folder = marked.parent().unwrap_or(&marked);
    snapshots::remove_stale(folder, Some(&marked)).iter().for_each(|told| warn(told));
    Ok((marked, lock))
}

/// Asks a server for a snapshot; returns its folder, and what keeps others from removing it until it is locked.
async fn take_snapshot(arguments: &BackupArgs) -> anyhow::Result<(PathBuf, File)> {
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
    let folder = data_dir.join(snapshots::FOLDER);
    if !data_dir.is_dir() {
        bail!("{} is not on this machine; a backup needs the server's disk", data_dir.display());
    }
    let gate = blocking(move || snapshots::gate(&folder).context("folder of snapshots")).await?;
    let for_backup = [("for_backup", "true".to_owned())];
    let answer = crate::query::post(&target, "/api/v1/admin/tsdb/snapshot", &for_backup).await.map_err(|error| {
        let is_off = format!("{error:#}").contains("admin APIs disabled");
        error.context(if is_off { SWITCHED_OFF } else { "take a snapshot" })
    })?;
    let name = answer["data"]["name"].as_str().context("the server does not name its snapshot")?;
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let snapshot = data_dir.join(snapshots::FOLDER).join(name);
    if name.is_empty() || !is_plain || !snapshot.is_dir() {
        bail!("snapshot {} is not on this machine; a backup needs the server's disk", snapshot.display());
    }
    Ok((snapshot, gate))
}

/// What is to be done when the server takes no snapshots over HTTP.
const SWITCHED_OFF: &str = "take a snapshot: the server must be started with --web.enable-admin-api";

fn look_after(command: BackupCommand) -> anyhow::Result<()> {
    match command {
        BackupCommand::List { from, patience } => {
            let objects = place_with_backups(&from, patience)?;
            let backups = Backups::at(&*objects);
            for name in backups.names()? {
                let line = match backups.manifest(Some(&name)) {
                    Ok(manifest) => {
                        let all = amount(manifest.files.len() as u64, manifest.bytes());
                        let damage = match manifest.source_damage.len() {
                            0 => String::new(),
                            count => format!(", {count} files were damaged in the source"),
                        };
                        format!("{name}  {all}{damage}")
                    }
                    Err(error) => format!("{name}  {}", trefoil_runtime::tasks::chain(&error)),
                };
                crate::print_line(&line);
            }
            Ok(())
        }
        BackupCommand::Verify { from, at, patience } => {
            let objects = place_with_backups(&from, patience)?;
            let backups = Backups::at(&*objects);
            let manifest = chosen(&backups, at.as_deref())?;
            let mut faults = backups.verify(&manifest);
            if let Some(BackupError::Io { .. }) = faults.last()
                && !objects.is_local()
            {
                faults.iter().for_each(|fault| crate::print_line(&trefoil_runtime::tasks::chain(fault)));
                bail!("backup {} could not be checked to its end: {} does not answer", manifest.name, objects.url());
            }
            let open_place = |url: &str| open_existing(url, RealVfs::shared(), patience.timeout());
            let (left, left_count) = backups.verify_left_remote(&manifest, &open_place);
            // Damaged commits were named above.
            faults.extend(left.into_iter().filter(|fault| !matches!(fault, BackupError::Set { .. })));
            for fault in &faults {
                crate::print_line(&trefoil_runtime::tasks::chain(fault));
            }
            if !faults.is_empty() {
                bail!("backup {} is damaged: {} objects", manifest.name, faults.len());
            }
            let all = amount(manifest.files.len() as u64, manifest.bytes());
            if !manifest.source_damage.is_empty() {
                for damage in &manifest.source_damage {
                    crate::print_line(&format!("damaged when it was backed up: {damage}"));
                }
                let (name, count) = (&manifest.name, manifest.source_damage.len());
                bail!("backup {name} holds what was there, {all}, but {count} files were damaged or missing already");
            }
            let left = match left_count {
                0 => String::new(),
                count => format!("; {count} files that it left in an object store are there"),
            };
            crate::print_line(&format!("backup {} is whole: {all}{left}", manifest.name));
            Ok(())
        }
        BackupCommand::Prune { from, keep, drop_damaged, patience } => {
            let objects = place_with_backups(&from, patience)?;
            let report = Backups::at(&*objects).prune(keep, drop_damaged)?;
            let (backups, objects, bytes) = (report.backups, report.objects, report.bytes);
            crate::print_line(&format!("removed {backups} backups and {objects} objects with {bytes} bytes"));
            Ok(())
        }
    }
}
