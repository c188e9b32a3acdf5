//! The folder of a block: `meta.json`, `index`, `chunks/`, `tombstones`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;
use trefoil_model::{TimeRange, time::day_of_ms};
use trefoil_runtime::Vfs;

use super::chunk::{self, Encoding, Value};
use super::index::{ChunkRef, Index, SeriesEntry};
use super::tombstones::Tombstones;
use crate::cursor::{Cursor, Malformed};
use crate::error::{Damage, TransferError};
use crate::import::Importer;

const CHUNKS_MAGIC: u32 = 0x85bd_40dd;
/// Series after which a line of progress may be due.
const SERIES_PER_WORD: usize = 50_000;

/// What `meta.json` says.
#[derive(Debug, Clone, Deserialize)]
pub struct BlockMeta {
    /// Name of the block.
    #[serde(default)]
    pub ulid: String,
    /// First time, Unix milliseconds.
    #[serde(rename = "minTime")]
    pub min_time: i64,
    /// End, exclusive.
    #[serde(rename = "maxTime")]
    pub max_time: i64,
}

/// An open block.
pub struct Block {
    dir: PathBuf,
    meta: BlockMeta,
    index: Index,
    segments: Vec<(PathBuf, Bytes)>,
    tombstones: Tombstones,
    damage: Vec<Damage>,
}

/// True for a folder that has what a block has.
pub fn is_block(vfs: &dyn Vfs, dir: &Path) -> bool {
    vfs.exists(&dir.join("meta.json")) && vfs.exists(&dir.join("index"))
}

/// Reads `meta.json`.
pub fn read_meta(vfs: &dyn Vfs, dir: &Path) -> Result<BlockMeta, TransferError> {
    let path = dir.join("meta.json");
    let text = vfs.read(&path).map_err(TransferError::file(&path))?;
    serde_json::from_slice(&text).map_err(|e| TransferError::Format { path, reason: e.to_string() })
}

impl Block {
    /// Opens a block. Errors when its index cannot be read at all; lesser damage is told by the import.
    pub fn open(vfs: &dyn Vfs, dir: &Path) -> Result<Self, TransferError> {
        let meta = read_meta(vfs, dir)?;
        let mut damage = Vec::new();
        let path = dir.join("index");
        let data = vfs.map(&path).map_err(TransferError::file(&path))?;
        let (index, trouble) = Index::open(data).map_err(|e| TransferError::Format {
            path: path.clone(),
            reason: format!("byte {}: {}", e.offset, e.reason),
        })?;
        damage.extend(trouble.map(|t| Damage { path, offset: t.offset, len: 0, reason: t.reason }));
        let chunks = dir.join("chunks");
        let mut segments = Vec::new();
        for entry in vfs.read_dir(&chunks).map_err(TransferError::file(&chunks))? {
            let path = chunks.join(&entry.name);
            if entry.is_dir || !entry.name.bytes().all(|b| b.is_ascii_digit()) {
                continue;
            }
            let data = vfs.map(&path).map_err(TransferError::file(&path))?;
            let mut head = Cursor::new(&data);
            if (head.be32(), head.u8()) != (Ok(CHUNKS_MAGIC), Ok(1)) {
                let reason = "is not a file of chunks of version 1".to_owned();
                damage.push(Damage { path: path.clone(), offset: 0, len: 8, reason });
            }
            segments.push((path, data));
        }
        let path = dir.join("tombstones");
        let mut tombstones = Tombstones::default();
        if vfs.exists(&path) {
            let file = vfs.read(&path).map_err(TransferError::file(&path))?;
            match Tombstones::read(&file) {
                Ok(found) => tombstones = found,
                Err(Malformed(reason)) => {
                    let (len, reason) = (file.len() as u64, format!("{reason}; deleted samples come back"));
                    damage.push(Damage { path, offset: 0, len, reason });
                }
            }
        }
        Ok(Self { dir: dir.to_owned(), meta, index, segments, tombstones, damage })
    }

    /// What `meta.json` says.
    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// Number of series.
    pub fn series_count(&self) -> usize {
        self.index.len()
    }

    /// Finds a chunk's encoding and data; the error has the length when that is known.
    fn chunk(&self, at: &ChunkRef) -> Result<(Encoding, &[u8]), (u64, String)> {
        let Some((_, data)) = self.segments.get(at.segment as usize) else {
            return Err((0, format!("chunk file {} is not there", at.segment + 1)));
        };
        let mut from = Cursor::at(data, u64::from(at.offset)).map_err(|Malformed(e)| (0, format!("chunk {e}")))?;
        let before = from.rest().len();
        let len = from.count(1).map_err(|Malformed(e)| (0, format!("chunk {e}")))?;
        let whole = (before - from.rest().len() + 1 + len + 4) as u64;
        let body = crate::cursor::checked(&mut from, len + 1).map_err(|Malformed(e)| (whole, format!("chunk {e}")))?;
        match Encoding::from_byte(body[0]) {
            Some(encoding) => Ok((encoding, &body[1..])),
            None => Err((whole, format!("chunk has the unknown encoding {}", body[0]))),
        }
    }

    /// Imports all samples, day after day, so that what the store flushes is of few days.
    pub fn import(mut self, into: &mut Importer<'_>) -> Result<(), TransferError> {
        for damage in std::mem::take(&mut self.damage) {
            into.damage(damage);
        }
        let range = into.options.range;
        let mut days = BTreeSet::new();
        for n in 0..self.index.len() {
            match self.index.series(n) {
                Ok(series) => days.extend(chunks_in(&series, range).map(|c| day_of_ms(c.min_t))),
                Err(e) => {
                    let path = self.dir.join("index");
                    into.damage(Damage { path, offset: e.offset, len: 0, reason: e.reason });
                }
            }
        }
        for day in days {
            for n in 0..self.index.len() {
                if n % SERIES_PER_WORD == SERIES_PER_WORD - 1 {
                    let (count, samples) = (self.index.len(), into.report.samples);
                    into.say(&format!("  day {day}: series {n} of {count}, {samples} samples so far"));
                }
                // Broken ones were told above.
                if let Ok(series) = self.index.series(n) {
                    self.import_series(&series, day, into)?;
                }
            }
            into.flush()?;
        }
        Ok(())
    }

    /// Imports the chunks that begin on a day.
    fn import_series(&self, series: &SeriesEntry, day: i64, into: &mut Importer<'_>) -> Result<(), TransferError> {
        let mut samples = Vec::new();
        for at in chunks_in(series, into.options.range).filter(|c| day_of_ms(c.min_t) == day) {
            let found = self.chunk(at).and_then(|(encoding, data)| {
                let decoded = chunk::decode(encoding, data, &mut |t, start, value| samples.push((t, start, value)));
                decoded.map_err(|Malformed(e)| (data.len() as u64, format!("chunk {e}")))
            });
            if let Err((len, reason)) = found {
                let path = match self.segments.get(at.segment as usize) {
                    Some((path, _)) => path.clone(),
                    None => self.dir.join("chunks"),
                };
                let reason = format!("{reason} (of {})", series.labels);
                into.damage(Damage { path, offset: u64::from(at.offset), len, reason });
            }
            for (t, start, value) in samples.drain(..) {
                if self.tombstones.covers(series.reference, t) {
                    into.report.deleted += 1;
                    continue;
                }
                match value {
                    Value::Float(v) => into.float(&series.labels, t, start, v)?,
                    Value::Histogram(h) => into.histogram(&series.labels, t, start, h)?,
                }
            }
        }
        Ok(())
    }
}

fn chunks_in(series: &SeriesEntry, range: TimeRange) -> impl Iterator<Item = &ChunkRef> {
    series.chunks.iter().filter(move |c| range.overlaps(c.min_t, c.max_t))
}
