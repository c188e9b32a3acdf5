//! Making room where nothing can be rewritten: parts of which nothing is left are dropped by a commit alone.

use trefoil_model::StoreError;
use trefoil_parts::{Commit, PartId};

use crate::error::TsdbError;
use crate::store::Inner;

impl Inner {
    /// Drops the parts whose samples are all deleted; returns how many. Needs no room on the disk but that of a commit.
    /// The caller holds the merge lock.
    pub(crate) fn drop_dead(&self) -> Result<u64, TsdbError> {
        let view = self.view.load_full();
        let damaged = self.damaged.lock().clone();
        let mut remove: Vec<PartId> = Vec::new();
        for part in view.parts.iter().filter(|p| !p.meta.is_remote() && !damaged.contains(&p.meta.id)) {
            let Ok(reader) = part.reader() else { continue };
            // What cannot be told of a damaged part is for those who rewrite it to say.
            let Ok(Some(hidden)) = part.hidden(&view.tombstones) else { continue };
            if hidden.dead.len() == u64::from(reader.rows()) {
                remove.push(part.meta.id);
            }
        }
        // Queries may hold the old view; the files go when they are done.
        drop(view);
        let count = remove.len() as u64;
        if count > 0 {
            self.parts.commit(Commit { remove, ..Commit::default() })?;
            self.publish_parts(|_| {});
            self.drop_tombstones()?;
            tracing::info!(parts = count, "parts with nothing but deleted samples dropped");
        }
        Ok(count)
    }

    /// Errors when damaged parts still hold deleted samples: they cannot be rewritten.
    pub(crate) fn check_clean(&self) -> Result<(), TsdbError> {
        let view = self.view.load_full();
        let damaged = self.damaged.lock().clone();
        let is_left = |p: &&std::sync::Arc<crate::store::OpenPart>| {
            let is_damaged = damaged.contains(&p.meta.id) || (!p.meta.is_remote() && p.reader().is_err());
            is_damaged && view.tombstones.concern(p)
        };
        let left: Vec<String> = view.parts.iter().filter(is_left).map(|p| p.meta.id.to_string()).collect();
        if left.is_empty() {
            return Ok(());
        }
        let parts = left.join(", ");
        Err(StoreError::Corrupt(format!("deleted samples stay in damaged parts, which cannot be rewritten: {parts}"))
            .into())
    }
}
