//! Writing a part aside, before a commit publishes it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use trefoil_model::TenantId;
use trefoil_runtime::{SharedVfs, VfsFile};

use crate::PartsError;
use crate::commit_file::PART_COMMIT;
use crate::meta::{FileMeta, PartId, PartMeta};

/// What the writer of a part says of it.
#[derive(Debug, Clone, Default)]
pub struct PartFacts {
    /// See [`PartMeta::level`].
    pub level: u8,
    /// See [`PartMeta::min_t`].
    pub min_t: i64,
    /// See [`PartMeta::max_t`].
    pub max_t: i64,
    /// See [`PartMeta::items`].
    pub items: u64,
    /// See [`PartMeta::format`].
    pub format: u16,
    /// See [`PartMeta::attributes`].
    pub attributes: BTreeMap<String, String>,
    /// See [`PartMeta::created_ms`].
    pub created_ms: i64,
}

/// Removes a temporary folder, unless it became a part.
struct TemporaryFolder {
    vfs: SharedVfs,
    path: PathBuf,
    is_ours: bool,
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = self.vfs.remove_dir_all(&self.path)
        {
            // Opening the set removes it.
            tracing::warn!(path = %self.path.display(), %error, "temporary part was not removed");
        }
    }
}

#[derive(Default)]
struct Files {
    finished: Vec<FileMeta>,
    unfinished: Vec<String>,
}

impl Files {
    fn begin(&mut self, name: &str) -> Result<(), PartsError> {
        let is_taken =
            self.unfinished.iter().any(|taken| taken == name) || self.finished.iter().any(|file| file.name == name);
        let is_plain = !name.is_empty()
            && name.len() <= 200
            && !name.starts_with('.')
            && name != PART_COMMIT
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if is_taken || !is_plain {
            return Err(PartsError::FileName(name.to_owned()));
        }
        self.unfinished.push(name.to_owned());
        Ok(())
    }

    fn finish(&mut self, meta: FileMeta) {
        self.unfinished.retain(|name| *name != meta.name);
        self.finished.push(meta);
    }
}

/// Writes the files of a part into a temporary folder, which is removed when the writer is dropped.
pub struct PartWriter {
    vfs: SharedVfs,
    folder: TemporaryFolder,
    id: PartId,
    tenant: TenantId,
    partition: i64,
    kind: String,
    files: Arc<Mutex<Files>>,
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PartsError {
    move |source| PartsError::Io { action, path: path.to_owned(), source }
}

impl PartWriter {
    pub(crate) fn begin(
        vfs: SharedVfs,
        folder: PathBuf,
        id: PartId,
        tenant: TenantId,
        partition: i64,
        kind: &str,
    ) -> Result<Self, PartsError> {
        vfs.create_dir_all(&folder).map_err(io("create", &folder))?;
        let folder = TemporaryFolder { vfs: Arc::clone(&vfs), path: folder, is_ours: true };
        Ok(Self { vfs, folder, id, tenant, partition, kind: kind.to_owned(), files: Arc::default() })
    }

    /// Returns the id that the part will have.
    pub fn id(&self) -> PartId {
        self.id
    }

    /// Returns the temporary folder, for libraries that write files themselves; see [`Self::adopt_file`].
    pub fn dir(&self) -> &Path {
        &self.folder.path
    }

    /// Writes a whole file and syncs it. Names are ASCII letters, digits, `.`, `_` and `-`, not starting with `.`.
    pub fn write_file(&self, name: &str, content: &[u8]) -> Result<(), PartsError> {
        let mut file = self.create_file(name)?;
        file.write_all(content).map_err(io("write", &self.folder.path.join(name)))?;
        file.finish()?;
        Ok(())
    }

    /// Begins a file, which [`PartFile::finish`] must end.
    pub fn create_file(&self, name: &str) -> Result<PartFile, PartsError> {
        self.files.lock().begin(name)?;
        let path = self.folder.path.join(name);
        let file = self.vfs.create(&path).map_err(io("create", &path))?;
        Ok(PartFile { file, path, name: name.to_owned(), crc32c: 0, files: Arc::clone(&self.files) })
    }

    /// Takes in a file that somebody else wrote into [`Self::dir`]: reads it for its checksum and syncs it.
    pub fn adopt_file(&self, name: &str) -> Result<FileMeta, PartsError> {
        self.files.lock().begin(name)?;
        let path = self.folder.path.join(name);
        let content = self.vfs.map(&path).map_err(io("read", &path))?;
        let mut file = self.vfs.open_append(&path).map_err(io("open", &path))?;
        file.sync_all().map_err(io("sync", &path))?;
        let meta = FileMeta { name: name.to_owned(), len: content.len() as u64, crc32c: crc32c::crc32c(&content) };
        self.files.lock().finish(meta.clone());
        Ok(meta)
    }

    /// Ends the part: its files and their names are durable, and a commit may publish it.
    pub fn finish(self, facts: PartFacts) -> Result<PendingPart, PartsError> {
        let mut files = {
            let mut files = self.files.lock();
            if !files.unfinished.is_empty() {
                return Err(PartsError::UnfinishedFiles(files.unfinished.len()));
            }
            std::mem::take(&mut files.finished)
        };
        files.sort_by(|a, b| a.name.cmp(&b.name));
        self.vfs.sync_dir(&self.folder.path).map_err(io("sync", &self.folder.path))?;
        let meta = PartMeta {
            id: self.id,
            tenant: self.tenant,
            partition: self.partition,
            level: facts.level,
            min_t: facts.min_t,
            max_t: facts.max_t,
            items: facts.items,
            bytes: files.iter().map(|file| file.len).sum(),
            format: facts.format,
            kind: self.kind,
            files,
            attributes: facts.attributes,
            created_ms: facts.created_ms,
        };
        Ok(PendingPart { meta: Arc::new(meta), folder: self.folder })
    }
}

/// A file of a part that is being written. It is a [`VfsFile`] and an [`io::Write`].
pub struct PartFile {
    file: Box<dyn VfsFile>,
    path: PathBuf,
    name: String,
    crc32c: u32,
    files: Arc<Mutex<Files>>,
}

impl PartFile {
    /// Syncs the file and notes its length and checksum.
    pub fn finish(mut self) -> Result<FileMeta, PartsError> {
        self.file.sync_all().map_err(io("sync", &self.path))?;
        let meta = FileMeta { name: self.name.clone(), len: self.file.len(), crc32c: self.crc32c };
        self.files.lock().finish(meta.clone());
        Ok(meta)
    }

    /// Writes all of `bytes` at the end.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(())
    }

    /// Returns how many bytes were written.
    pub fn position(&self) -> u64 {
        self.file.len()
    }
}

impl VfsFile for PartFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Self::write_all(self, bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl io::Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::write_all(self, bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A part that is durable in its temporary folder and waits for a commit. Dropping it removes it.
pub struct PendingPart {
    meta: Arc<PartMeta>,
    folder: TemporaryFolder,
}

impl PendingPart {
    /// Returns what the part will be.
    pub fn meta(&self) -> &Arc<PartMeta> {
        &self.meta
    }

    /// Writes the commit that is to publish it beside its files, durably: should the catalog be lost, the part still says
    /// what it is.
    pub(crate) fn write_commit(&self, bytes: &[u8]) -> Result<(), PartsError> {
        let path = self.folder.path.join(PART_COMMIT);
        let mut file = self.folder.vfs.create(&path).map_err(io("create", &path))?;
        file.write_all(bytes).map_err(io("write", &path))?;
        file.sync_all().map_err(io("sync", &path))?;
        self.folder.vfs.sync_dir(&self.folder.path).map_err(io("sync", &self.folder.path))
    }

    /// Moves the folder to its place. It is still removed when the commit fails and this is dropped.
    pub(crate) fn move_to(&mut self, path: PathBuf) -> io::Result<()> {
        self.folder.vfs.rename(&self.folder.path, &path)?;
        self.folder.path = path;
        Ok(())
    }

    /// Leaves the folder where it is: a commit names it, or may name it.
    pub(crate) fn keep(mut self) {
        self.folder.is_ours = false;
    }
}
