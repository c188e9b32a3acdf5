//! Folders of stores that are gone from a data directory.

use std::path::{Path, PathBuf};

use trefoil_parts::redundancy;
use trefoil_runtime::SharedVfs;

/// The folders of stores, each with the set of parts in it. A server makes all of them when it starts first.
const STORES: [(&str, &str); 3] =
    [("metrics", "metrics/parts"), ("events/logs", "events/logs"), ("events/traces", "events/traces")];

/// Returns the folders that a server has made and that are not there any more, as far as the others tell. Copies of data
/// directories have no folder for what was empty, until a server starts on them.
pub(crate) fn folders(vfs: &SharedVfs, data: &Path) -> Vec<PathBuf> {
    let is_gone = |folder: &str| !data.join(folder).exists();
    // The folder of metrics alone may be that of samples that were imported.
    let events = STORES.iter().filter(|(folder, _)| *folder != "metrics");
    if !events.clone().any(|(_, set)| redundancy::was_opened(vfs, &data.join(set))) {
        return Vec::new();
    }
    STORES.iter().filter(|(folder, _)| is_gone(folder)).map(|(folder, _)| data.join(folder)).collect()
}

/// Says in the log which of logs and traces are gone.
pub(crate) fn tell_events(vfs: &SharedVfs, data: &Path) {
    for folder in folders(vfs, data).iter().filter(|folder| !folder.ends_with("metrics")) {
        let folder = folder.display();
        tracing::error!(%folder, "the folder of an event store is gone, it is begun anew without what was in it");
    }
}
