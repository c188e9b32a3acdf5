//! Parts of past days in an object store.

use std::sync::atomic::Ordering;

use trefoil_model::time::day_of_ms;
use trefoil_parts::{PartMeta, PartsError};

use crate::error::TsdbError;
use crate::merge::awaiting_merge;
use crate::store::Tsdb;

impl Tsdb {
    /// Parts that no query can read because the configuration does not name the place where they lie.
    pub fn unreachable_parts(&self) -> u64 {
        self.inner.parts.unreachable_parts()
    }

    /// Moves the oldest part that is due and waits for no merge to the object store; returns whether there was one, then call it again. Lets
    /// go of files that left the cache and deletes objects that no part needs any more. After an error the part lies
    /// where it lay. Blocks on network and disk.
    pub fn move_once(&self) -> Result<bool, TsdbError> {
        let inner = &self.inner;
        let Some(options) = &inner.options.object_store else { return Ok(false) };
        if inner.closed.load(Ordering::Acquire) {
            return Err(TsdbError::Closed);
        }
        let mut seen = inner.evictions_seen.lock();
        let (evictions, _) = inner.parts.cache_evictions_and_bytes();
        if *seen != evictions {
            *seen = evictions;
            inner.publish_parts(|_| {});
        }
        let now_ms = inner.options.clock.now_ms();
        let damaged = inner.damaged.lock().clone();
        let parts = inner.parts.parts();
        let is_wanted = |meta: &PartMeta| options.is_due(meta, now_ms) && !damaged.contains(&meta.id);
        let mut due: Vec<_> = parts.iter().filter(|meta| is_wanted(meta)).collect();
        if due.len() > 1 {
            // What a merge will take soon goes there merged. Without room for the merge it goes as it is.
            let view = inner.view.load();
            let waiting = awaiting_merge(&view.parts, &damaged, day_of_ms(now_ms));
            let bytes = due.iter().filter(|meta| waiting.contains(&meta.id)).map(|meta| meta.bytes).sum();
            if !waiting.is_empty() && inner.has_room_for(bytes) {
                due.retain(|meta| !waiting.contains(&meta.id));
            }
        }
        let Some(meta) = due.into_iter().min_by_key(|meta| (meta.partition, meta.id)) else {
            drop(parts);
            inner.parts.sweep_remote()?;
            return Ok(false);
        };
        let id = meta.id;
        let (day, bytes) = (meta.partition, meta.bytes);
        drop(parts);
        match inner.parts.upload(id) {
            Ok(_) => tracing::info!(part = id.0, day, bytes, "part moved to the object store"),
            // It was merged or removed meanwhile.
            Err(PartsError::NoSuchPart(_)) => return Ok(true),
            Err(error) => {
                if matches!(error, PartsError::CorruptFile { .. }) {
                    inner.damaged.lock().insert(id);
                }
                return Err(error.into());
            }
        }
        inner.publish_parts(|_| {});
        Ok(true)
    }
}
