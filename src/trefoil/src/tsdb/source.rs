//! The directory that is imported from: nobody may write to it while it is read.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::bail;
use trefoil_runtime::{RealVfs, data_dir};
use trefoil_transfer::prometheus;

/// Folders of a Prometheus database that a running server writes to.
const WRITTEN: [&str; 3] = ["wal", "wbl", "chunks_head"];
/// Files that are looked at for changes; a database with more is looked at in part.
const FILES_MAX: usize = 100_000;

/// Name, length and time of change of the files that a running server would change.
type Files = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// The databases of a source as they were when the import began.
pub(super) struct Source {
    databases: Vec<(PathBuf, Files)>,
}

impl Source {
    /// Refuses a source that is in use, as far as that can be seen: by the lock of Prometheus, by open files of another
    /// process (Linux), and one that is no source at all.
    pub(super) fn begin(path: &Path) -> anyhow::Result<Self> {
        // A data directory that Prometheus had before holds its blocks and log beside ours.
        let found = prometheus::data_dir::find(&RealVfs, path);
        if found.is_err() && path.join(data_dir::FORMAT_FILE).is_file() && path.join("metrics").is_dir() {
            let path = path.display();
            bail!(
                "{path} is a data directory of Trefoil; use `trefoil tsdb export --data {path} --format json` and import the \
                 file, or `trefoil backup` and `trefoil restore`"
            );
        }
        // A running server writes to the log; blocks never change.
        let databases = found?.logs;
        for database in &databases {
            let stop = "stop it, or import a snapshot of it";
            if data_dir::foreign_database(database) == Some(true) {
                bail!("{} is in use by a Prometheus server; {stop}", database.display());
            }
            if let Some((process, name)) = user_of(database) {
                bail!("{} is in use by process {process} ({name}); {stop}", database.display());
            }
        }
        let databases = databases.into_iter().map(|database| (database.clone(), files(&database))).collect();
        Ok(Self { databases })
    }

    /// An error when files changed since the beginning: what was imported may lack the newest samples.
    pub(super) fn end(&self) -> anyhow::Result<()> {
        for (database, before) in &self.databases {
            if files(database) != *before {
                bail!(
                    "{} was written to while it was read, so a server runs on it; what was read is imported, stop that \
                     server and import again for the rest",
                    database.display()
                );
            }
        }
        Ok(())
    }
}

fn files(database: &Path) -> Files {
    let mut found = Files::new();
    let mut folders: Vec<PathBuf> = WRITTEN.iter().map(|name| database.join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) if found.len() < FILES_MAX => found.push((entry.path(), meta.len(), meta.modified().ok())),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// A process that has a file open which a server writes to: its number and name. `None` where `/proc` does not tell.
fn user_of(database: &Path) -> Option<(u32, String)> {
    let database = database.canonicalize().ok()?;
    let written = WRITTEN.map(|name| database.join(name));
    let processes = std::fs::read_dir("/proc").ok()?;
    for process in processes.flatten() {
        let Some(number) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Of other users' processes nothing is told.
        for file in std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let target = std::fs::read_link(file.path()).unwrap_or_default();
            if written.iter().any(|folder| target.starts_with(folder)) {
                let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                return Some((number, name.trim().to_owned()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_source_that_is_written_to_is_found() {
        let dir = std::env::temp_dir().join(format!("trefoil-source-{}-{}", std::process::id(), rand::random::<u64>()));
        std::fs::create_dir_all(dir.join("wal")).unwrap();
        let mut segment = std::fs::File::create(dir.join("wal/00000000")).unwrap();
        // A test stands for the other process: on systems with /proc its open file is seen.
        if Path::new("/proc/self/fd").exists() {
            let error = Source::begin(&dir).err().unwrap().to_string();
            assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
        }
        segment.write_all(b"1").unwrap();
        drop(segment);
        let source = Source::begin(&dir).unwrap();
        source.end().unwrap();
        std::fs::write(dir.join("wal/00000001"), b"").unwrap();
        let error = source.end().unwrap_err().to_string();
        assert!(error.contains("was written to while it was read"), "{error}");
        std::fs::create_dir_all(dir.join("metrics")).unwrap();
        std::fs::write(dir.join(data_dir::FORMAT_FILE), "trefoil 1\n").unwrap();
        // Prometheus' log beside our own files is read.
        Source::begin(&dir).unwrap();
        std::fs::remove_dir_all(dir.join("wal")).unwrap();
        assert!(Source::begin(&dir).err().unwrap().to_string().contains("is a data directory of Trefoil"));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
