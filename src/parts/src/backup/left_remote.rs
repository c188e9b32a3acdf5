//! Files that a backup leaves in an object store and only names: whether they are there.

use std::io;

use bytes::Bytes;

use super::{BackupError, Backups, FileEntry, Manifest, OpenPlace};
use crate::blob_store::{BlobStore, PutError};
use crate::catalog::{CatalogState, LocalCatalog};
use crate::commit_file;

/// The commits of a set in a backup.
struct Commits<'a> {
    backups: &'a Backups<'a>,
    manifest: &'a Manifest,
    /// Name and file of each.
    files: Vec<(&'a str, &'a FileEntry)>,
}

impl BlobStore for Commits<'_> {
    fn put_new(&self, _: &str, _: &[u8]) -> Result<(), PutError> {
        Err(PutError::Failed(io::ErrorKind::ReadOnlyFilesystem.into()))
    }

    fn get(&self, key: &str) -> io::Result<Bytes> {
        let found = self.files.iter().find(|(name, _)| *name == key).map(|(_, file)| file);
        let file = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let mut content = Vec::new();
        let read = self.backups.read(self.manifest, file, &mut |chunk| {
            content.extend_from_slice(chunk);
            Ok(())
        });
        read.map_err(io::Error::other)?;
        Ok(Bytes::from(content))
    }

    fn delete(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.iter().map(|(name, _)| (*name).to_owned()).collect())
    }
}

impl Backups<'_> {
    /// Asks for the length of every file that the parts of a backup have in an object store. Returns what is missing, has
    /// another length or cannot be asked for, and how many files there are. Their content is not read.
    pub fn verify_left_remote(&self, manifest: &Manifest, open: &OpenPlace<'_>) -> (Vec<BackupError>, u64) {
        let mut faults = Vec::new();
        let mut count = 0;
        for state in self.sets(manifest, &mut faults) {
            for meta in state.parts.values() {
                let Some((url, folder)) = meta.place() else { continue };
                count += meta.files.len() as u64;
                let failed = |place: &str, source| BackupError::Part { part: meta.id, place: place.to_owned(), source };
                let objects = match open(url) {
                    Ok(objects) => objects,
                    Err(error) => {
                        faults.push(failed(url, error));
                        continue;
                    }
                };
                for file in &meta.files {
                    let place = format!("{url}/{folder}/{}", file.name);
                    let reason = match objects.len(&format!("{folder}/{}", file.name)) {
                        Ok(Some(len)) if len == file.len => continue,
                        Ok(Some(len)) => format!("has {len} bytes instead of {}", file.len),
                        Ok(None) => "is missing".to_owned(),
                        Err(error) => {
                            // The next files would wait for the same time-out.
                            faults.push(failed(&place, error));
                            return (faults, count);
                        }
                    };
                    faults.push(BackupError::LeftRemote { backup: manifest.name.clone(), place, reason });
                }
            }
        }
        (faults, count)
    }

    /// The states of the sets in a backup.
    fn sets(&self, manifest: &Manifest, faults: &mut Vec<BackupError>) -> Vec<CatalogState> {
        let mut sets: std::collections::BTreeMap<&str, Commits<'_>> = std::collections::BTreeMap::new();
        for file in &manifest.files {
            let Some((folder, name)) = file.path.rsplit_once('/') else { continue };
            let Some(set) = folder.strip_suffix("/catalog") else { continue };
            if commit_file::parse_name(name).is_some() {
                let commits = || Commits { backups: self, manifest, files: Vec::new() };
                sets.entry(set).or_insert_with(commits).files.push((name, file));
            }
        }
        let mut states = Vec::with_capacity(sets.len());
        for (set, commits) in sets {
            match LocalCatalog::read(&commits) {
                Ok(state) => states.push(state),
                Err(source) => faults.push(BackupError::Set { dir: set.into(), source: Box::new(source) }),
            }
        }
        states
    }
}
