//! Copies of a set by hard links, for snapshots.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::PartsError;
use crate::blob_store::{BlobStore, LocalFolder, PutError};
use crate::commit_file::{self, CommitFile};
use crate::meta::PartMeta;
use crate::part_set::PartSet;

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PartsError {
    move |source| PartsError::Io { action, path: path.to_owned(), source }
}

/// The state of a set at one commit. While it is there, the files of its parts stay.
pub struct SetState {
    pub(crate) parts: Arc<Vec<Arc<PartMeta>>>,
    pub(crate) journal: Option<(u64, u64)>,
    pub(crate) attributes: Arc<BTreeMap<String, String>>,
    pub(crate) next_part: u64,
}

impl SetState {
    /// Returns the journal position (segment, offset) that the commit reached.
    pub fn journal_position(&self) -> Option<(u64, u64)> {
        self.journal
    }

    /// Returns the parts.
    pub fn parts(&self) -> &[Arc<PartMeta>] {
        &self.parts
    }
}

impl PartSet {
    /// Writes a set with this state into a directory that is missing or empty: hard links to the files of the parts
    /// that lie here, and one commit. What lies in an object store stays there and is named. Everything is durable
    /// when it returns. After an error the directory holds something half-done. Blocks on the disk.
    pub fn link_to(&self, state: &SetState, dir: &Path) -> Result<(), PartsError> {
        let vfs = self.vfs();
        let make = |path: &Path| vfs.create_dir_all(path).map_err(io("create", path));
        let sync = |path: &Path| vfs.sync_dir(path).map_err(io("sync", path));
        let parts_dir = dir.join("parts");
        make(&parts_dir)?;
        // Directories that hold directories, synced once at the end.
        let mut above = std::collections::BTreeSet::from([dir.to_owned(), parts_dir]);
        for meta in state.parts.iter().filter(|meta| !meta.is_remote()) {
            let source = self.folder(meta);
            let partition = dir.join("parts").join(meta.tenant.0.to_string()).join(meta.partition.to_string());
            let folder = partition.join(format!("{:020}", meta.id.0));
            make(&folder)?;
            for file in &meta.files {
                let path = source.join(&file.name);
                match vfs.hard_link(&path, &folder.join(&file.name)) {
                    // A damaged part stays as it is: the rest of the set is still worth a copy.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        tracing::error!(part = meta.id.0, file = %path.display(), "file of a part is missing in the copy");
                    }
                    other => other.map_err(io("link", &path))?,
                }
            }
            sync(&folder)?;
            above.extend(partition.parent().map(Path::to_owned));
            above.insert(partition);
        }
        above.iter().rev().try_for_each(|path| sync(path))?;
        let catalog_dir = dir.join("catalog");
        let catalog = LocalFolder::open(Arc::clone(vfs), catalog_dir.clone()).map_err(io("create", &catalog_dir))?;
        let mut attributes = BTreeMap::clone(&state.attributes);
        // The place in the object store stays with the set that moves parts there: a server on the copy may read them.
        attributes.remove(crate::remote::OWNER_ATTRIBUTE);
        let commit = CommitFile::whole(state.parts.iter(), state.journal, attributes, state.next_part);
        let name = commit_file::name(1);
        catalog.put_new(&name, &commit_file::encode(&commit)).map_err(|error| match error {
            PutError::Exists => PartsError::Conflict { sequence: 1 },
            PutError::Failed(source) | PutError::Unknown(source) => {
                PartsError::Io { action: "write commit", path: catalog_dir.join(name), source }
            }
        })
    }
}
