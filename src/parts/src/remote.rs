//! Parts whose files lie in an object store: moving them there, reading them through a cache on the local disk.
//!
//! A part is moved by one commit that replaces its meta by one with the attribute [`LOCATION`], after every object was
//! written and read back. So a crash at any point leaves the part here or there. What is left over is swept: local
//! folders when the set is opened, objects by [`PartSet::sweep_remote`].

mod cache;
mod outage;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

pub(crate) use self::cache::Cache;
use crate::PartsError;
use crate::meta::{FileMeta, LOCATION, PartId, PartMeta};
use crate::objects::{Objects, for_each_chunk};
use crate::part_set::PartSet;

/// Value of the catalog and object: whose parts lie at a place, so that two data directories do not share one.
pub(crate) const OWNER_ATTRIBUTE: &str = "object_store_owner";
/// Name of the object.
const OWNER: &str = "OWNER";

/// Where a set keeps the files of parts that are not to lie here.
#[derive(Clone)]
pub struct RemoteOptions {
    /// The place. It belongs to one data directory.
    pub objects: Arc<dyn Objects>,
    /// Bytes of the cache on the local disk. A single file that is larger is cached alone.
    pub cache_bytes: u64,
}

/// What is known of the parts in an object store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteState {
    /// Parts there.
    pub parts: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Parts of these that no query can read now: they lie at another place than the configured one, or the store does
    /// not answer and they are not cached whole.
    pub unreachable: u64,
    /// Why the last request to read failed; `None` when it was answered, or nobody asked since the start.
    pub error: Option<String>,
}

/// Returns the URL of a file of a part in an object store.
fn place(meta: &PartMeta, file: &str) -> String {
    format!("{}/{file}", meta.location().unwrap_or_default())
}

fn failed(meta: &PartMeta, file: &str) -> impl FnOnce(io::Error) -> PartsError {
    let (part, place) = (meta.id, place(meta, file));
    move |source| PartsError::Remote { part, place, source }
}

/// The key of a file of a part that lies at a place.
fn key_of(objects: &dyn Objects, meta: &PartMeta, file: &str) -> Result<String, PartsError> {
    let location = meta.location().unwrap_or_default();
    let folder = location.strip_prefix(objects.url()).and_then(|rest| rest.strip_prefix('/'));
    let folder = folder.ok_or_else(|| {
        let message = format!("the configured object store is {}", objects.url());
        failed(meta, file)(io::Error::new(io::ErrorKind::Unsupported, message))
    })?;
    Ok(format!("{folder}/{file}"))
}

/// Name of the folder of a part within its partition. Another part of the same id (after an older backup was restored)
/// has another one.
fn folder_name(meta: &PartMeta) -> String {
    let sums: Vec<u8> = meta.files.iter().flat_map(|file| file.crc32c.to_le_bytes()).collect();
    format!("{:020}-{:08x}", meta.id.0, crc32c::crc32c(&sums))
}

/// Writes an object and reads it back.
fn put_verified(objects: &dyn Objects, key: &str, file: &FileMeta, content: Bytes) -> io::Result<()> {
    objects.put(key, content)?;
    let mut found = 0;
    for_each_chunk(objects, key, file.len, &mut |chunk| {
        found = crc32c::crc32c_append(found, chunk);
        Ok(())
    })?;
    if found == file.crc32c {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the object does not have the checksum of what was written"))
}

/// Reads the objects of a remote part chunk by chunk, past any cache, and compares length and checksum with its
/// commit. Errors with [`PartsError::CorruptFile`] for what is missing or damaged. Blocks on the network.
pub fn verify_objects(objects: &dyn Objects, meta: &PartMeta) -> Result<(), PartsError> {
    for file in &meta.files {
        let key = key_of(objects, meta, &file.name)?;
        let damaged = |reason: String| {
            let reason = format!("object {} {reason}", place(meta, &file.name));
            PartsError::CorruptFile { part: meta.id, file: file.name.clone(), reason }
        };
        match objects.len(&key).map_err(failed(meta, &file.name))? {
            None => return Err(damaged("is missing".to_owned())),
            Some(len) if len != file.len => {
                return Err(damaged(format!("has {len} bytes instead of {}", file.len)));
            }
            Some(_) => {}
        }
        let mut found = 0;
        for_each_chunk(objects, &key, file.len, &mut |chunk| {
            found = crc32c::crc32c_append(found, chunk);
            Ok(())
        })
        .map_err(failed(meta, &file.name))?;
        if found != file.crc32c {
            return Err(damaged("has a wrong checksum".to_owned()));
        }
    }
    Ok(())
}

impl PartSet {
    fn remote(&self) -> Result<&Cache, PartsError> {
        self.cache().ok_or(PartsError::NoObjectStore)
    }

    /// Maps a file of a remote part out of the cache, fetching it when it is not there. Several readers share one
    /// download.
    pub(crate) fn map_remote(&self, meta: &PartMeta, file: &FileMeta) -> Result<Bytes, PartsError> {
        let Some(cache) = self.cache() else {
            let message = "no object store is configured";
            return Err(failed(meta, &file.name)(io::Error::new(io::ErrorKind::Unsupported, message)));
        };
        let key = key_of(&**cache.objects(), meta, &file.name)?;
        cache.map(meta.id, file, &key).map_err(failed(meta, &file.name))
    }

    /// Compares the cached files of a remote part with its commit, and lets go of those that are damaged: what maps them
    /// next fetches them again. Returns whether there were any.
    pub fn forget_damaged_cache(&self, meta: &PartMeta) -> bool {
        let Some(cache) = self.cache().filter(|_| meta.is_remote()) else { return false };
        // Every file is looked at.
        meta.files.iter().filter(|file| cache.forget_if_damaged(meta.id, file)).count() > 0
    }

    /// Returns how many parts lie at another place than the configured one, or anywhere when none is configured: nobody
    /// can read them.
    pub fn unreachable_parts(&self) -> u64 {
        let place = self.cache().map(|cache| format!("{}/", cache.objects().url()));
        let is_ours = |meta: &PartMeta| {
            let location = meta.location().unwrap_or_default();
            place.as_ref().is_some_and(|place| location.starts_with(place.as_str()))
        };
        self.parts().iter().filter(|meta| meta.is_remote() && !is_ours(meta)).count() as u64
    }

    /// Says in the log which parts no query can read because the configuration does not name their place.
    pub fn tell_unreachable(&self) {
        let parts = self.unreachable_parts();
        if parts == 0 {
            return;
        }
        let all = self.parts();
        let place = all.iter().filter(|meta| meta.is_remote()).find_map(|meta| meta.location()).unwrap_or_default();
        let configured = self.cache().map_or("none", |cache| cache.objects().url());
        tracing::error!(
            store = self.name(),
            parts,
            configured,
            example = place,
            "parts lie in an object store that is not the configured one: queries of their days fail"
        );
    }

    /// Returns what is known of the parts that lie in an object store. Asks nobody.
    pub fn remote_state(&self) -> RemoteState {
        let parts = self.parts();
        let remote: Vec<_> = parts.iter().filter(|meta| meta.is_remote()).collect();
        let error = self.cache().and_then(Cache::failure);
        let elsewhere = self.unreachable_parts();
        let is_cached =
            |meta: &PartMeta| self.cache().is_some_and(|cache| meta.files.iter().all(|file| cache.has(meta.id, file)));
        let out_of_reach = match &error {
            None => elsewhere,
            Some(_) => remote.iter().filter(|meta| !is_cached(meta)).count() as u64,
        };
        RemoteState {
            parts: remote.len() as u64,
            bytes: remote.iter().map(|meta| meta.bytes).sum(),
            unreachable: out_of_reach.max(elsewhere),
            error,
        }
    }

    /// Does [`verify_objects`] at the configured place.
    pub fn verify_objects(&self, meta: &PartMeta) -> Result<(), PartsError> {
        verify_objects(&**self.remote()?.objects(), meta)
    }

    /// Returns whether a file of a remote part is in the cache.
    pub fn is_file_cached(&self, meta: &PartMeta, file: &str) -> bool {
        let file = meta.file(file);
        self.cache().is_some_and(|cache| file.is_some_and(|file| cache.has(meta.id, file)))
    }

    /// Returns whether all files of a remote part are in the cache.
    pub fn is_cached(&self, meta: &PartMeta) -> bool {
        self.cache().is_some_and(|cache| meta.files.iter().all(|file| cache.has(meta.id, file)))
    }

    /// Notes that a remote part is in use, so that others leave the cache before it.
    pub fn touch(&self, meta: &PartMeta) {
        if let Some(cache) = self.cache() {
            cache.touch(meta.id);
        }
    }

    /// Moves a part to the object store: writes and verifies its objects, then commits that it lies there. Its local
    /// files go when nobody reads them any more. Returns false when it lies there already. Blocks on network and disk.
    pub fn upload(&self, id: PartId) -> Result<bool, PartsError> {
        let cache = self.remote()?;
        let objects = cache.objects();
        let meta = self.parts().iter().find(|meta| meta.id == id).map(Arc::clone).ok_or(PartsError::NoSuchPart(id))?;
        if meta.is_remote() {
            return Ok(false);
        }
        self.own_place()?;
        let (tenant, partition) = (meta.tenant.0, meta.partition);
        let folder = format!("{}/{tenant}/{partition}/{}", self.name(), folder_name(&meta));
        let mut moved = PartMeta::clone(&meta);
        moved.attributes.insert(LOCATION.to_owned(), format!("{}/{folder}", objects.url()));
        for file in &meta.files {
            let content = self.map(&meta, &file.name)?;
            if crc32c::crc32c(&content) != file.crc32c {
                let reason = "checksum mismatch".to_owned();
                return Err(PartsError::CorruptFile { part: id, file: file.name.clone(), reason });
            }
            let key = format!("{folder}/{}", file.name);
            if let Err(error) = put_verified(&**objects, &key, file, content) {
                cache.metrics().upload_failures.inc();
                return Err(failed(&moved, &file.name)(error));
            }
        }
        cache.metrics().uploads.inc();
        let committed = self.relocate(meta, Arc::new(moved));
        if committed.is_err() {
            // A merge or the retention was faster.
            cache.want_sweep();
        }
        committed.map(|()| true)
    }

    /// Makes the place ours, or finds that it is.
    fn own_place(&self) -> Result<(), PartsError> {
        let cache = self.remote()?;
        if cache.is_owned() {
            return Ok(());
        }
        let objects = cache.objects();
        let key = format!("{}/{OWNER}", self.name());
        let io = |source| PartsError::ObjectStore { url: objects.url().to_owned(), source };
        let found = match objects.get(&key) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io(error)),
        };
        let ours = match self.attributes().remove(OWNER_ATTRIBUTE) {
            Some(ours) => ours,
            None if found.is_some() => return Err(PartsError::NotOwner { url: objects.url().to_owned() }),
            None => {
                let mut random = [0u8; 16];
                ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random)
                    .map_err(|_| io(io::Error::other("no random bytes")))?;
                let ours: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
                let attributes = [(OWNER_ATTRIBUTE.to_owned(), ours.clone())].into();
                self.commit(crate::Commit { attributes, ..crate::Commit::default() })?;
                ours
            }
        };
        match found {
            Some(found) if found == ours => {}
            Some(_) => return Err(PartsError::NotOwner { url: objects.url().to_owned() }),
            None => objects.put_new(&key, Bytes::from(ours)).map_err(io)?,
        }
        // Nobody else writes here, and this process has not begun to.
        objects.remove_leftovers(self.name()).map_err(io)?;
        cache.set_owned();
        Ok(())
    }

    /// Deletes the objects of parts that are no longer in the set and that nobody reads, when there may be some.
    /// Returns how many objects that were. Blocks on the network.
    pub fn sweep_remote(&self) -> Result<usize, PartsError> {
        let cache = self.remote()?;
        if !cache.take_wanted_sweep() {
            return Ok(0);
        }
        let swept = self.sweep();
        if swept.is_err() {
            cache.want_sweep();
        }
        swept
    }

    fn sweep(&self) -> Result<usize, PartsError> {
        let objects = self.remote()?.objects();
        if !self.attributes().contains_key(OWNER_ATTRIBUTE) {
            // Nothing was ever written.
            return Ok(0);
        }
        self.own_place()?;
        let io = |source| PartsError::ObjectStore { url: objects.url().to_owned(), source };
        let listed = objects.list(self.name()).map_err(io)?;
        // After the listing, so that what was written meanwhile is known.
        let known: BTreeSet<String> = self.known_parts().iter().map(|meta| folder_name(meta)).collect();
        let mut count = 0;
        for info in listed {
            // <store>/<tenant>/<partition>/<folder>/<file>
            let Some(folder) = info.key.split('/').nth(3) else { continue };
            if !known.contains(folder) {
                objects.delete(&info.key).map_err(io)?;
                count += 1;
            }
        }
        Ok(count)
    }
}
