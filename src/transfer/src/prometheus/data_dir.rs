//! A folder to import from: one block, a folder of blocks (a snapshot), or a whole data directory.

use std::path::{Path, PathBuf};

use trefoil_runtime::Vfs;

use super::block::{Block, is_block, read_meta};
use super::head;
use crate::error::{Damage, TransferError};
use crate::import::Importer;

/// What a folder holds.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Blocks, by their first time.
    pub blocks: Vec<PathBuf>,
    /// Folders with a write-ahead log.
    pub logs: Vec<PathBuf>,
}

/// How deep folders are looked into: a block of a snapshot lies at `snapshots/<time>/<block>`.
const DEPTH_MAX: usize = 6;

/// Folders of Trefoil's stores in a data directory that was Prometheus' before.
const TREFOILS: [&str; 2] = ["metrics", "events"];

/// Looks for blocks and write-ahead logs in a folder, not in the stores of Trefoil that lie beside them. Errors when there
/// are none.
pub fn find(vfs: &dyn Vfs, dir: &Path) -> Result<Found, TransferError> {
    let mut found = Found::default();
    look(vfs, dir, 0, &mut found)?;
    if found.blocks.is_empty() && found.logs.is_empty() {
        let reason = "holds neither a block nor a write-ahead log of Prometheus".to_owned();
        return Err(TransferError::Format { path: dir.to_owned(), reason });
    }
    // Of the same sample in two blocks the younger block wins; a block without a readable meta.json fails later.
    found.blocks.sort_by_cached_key(|b| {
        let meta = read_meta(vfs, b).ok();
        (meta.as_ref().map_or(i64::MIN, |m| m.min_time), meta.map(|m| m.ulid), b.clone())
    });
    Ok(found)
}

fn look(vfs: &dyn Vfs, dir: &Path, depth: usize, found: &mut Found) -> Result<(), TransferError> {
    if is_block(vfs, dir) {
        found.blocks.push(dir.to_owned());
        return Ok(());
    }
    if head::has_log(vfs, dir) {
        found.logs.push(dir.to_owned());
    }
    let has_format = vfs.exists(&dir.join(trefoil_runtime::data_dir::FORMAT_FILE));
    for entry in vfs.read_dir(dir).map_err(TransferError::file(dir))? {
        let is_trefoils = has_format && TREFOILS.contains(&entry.name.as_str());
        let is_own = matches!(entry.name.as_str(), "wal" | "wbl" | "chunks_head")
            || entry.name.ends_with(".tmp-for-creation")
            || entry.name.ends_with(".tmp-for-deletion");
        // Snapshots of a database repeat what is in it.
        let is_repeat = entry.name == "snapshots" && head::has_log(vfs, dir);
        if entry.is_dir && !is_own && !is_trefoils && !is_repeat && depth < DEPTH_MAX {
            look(vfs, &dir.join(entry.name), depth + 1, found)?;
        }
    }
    Ok(())
}

/// Imports all blocks and write-ahead logs of a folder. A block that cannot be opened is told as damage.
pub fn import(vfs: &dyn Vfs, dir: &Path, into: &mut Importer<'_>) -> Result<(), TransferError> {
    let found = find(vfs, dir)?;
    let count = found.blocks.len();
    for (n, path) in found.blocks.iter().enumerate() {
        let block = match Block::open(vfs, path) {
            Ok(block) => block,
            Err(error) => {
                let reason = format!("block skipped: {}", trefoil_runtime::tasks::chain(&error));
                into.damage(Damage { path: path.clone(), offset: 0, len: 0, reason });
                continue;
            }
        };
        let meta = block.meta();
        let range = into.options.range;
        if !range.overlaps(meta.min_time, meta.max_time.saturating_sub(1)) {
            continue;
        }
        let (place, series) = (path.display(), block.series_count());
        into.say(&format!("block {} of {count}: {place}, {series} series", n + 1));
        block.import(into)?;
    }
    for dir in &found.logs {
        head::import(vfs, dir, into)?;
    }
    Ok(())
}
