//! The head of a Prometheus database: what is in no block yet. All of it is in the write-ahead log (checkpoint and
//! segments) and, for samples that came out of order, in the `wbl` folder; the memory-mapped `chunks_head` only repeat
//! it and are read where the log is damaged.

use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;
use trefoil_model::Labels;
use trefoil_runtime::Vfs;

use super::chunk::{self, Encoding, Value};
use super::record::{self, Entry};
use super::tombstones::Tombstones;
use super::wal::{read_segment, segments};
use crate::cursor::{Cursor, Malformed};
use crate::error::{Damage, TransferError};
use crate::import::Importer;

const HEAD_CHUNKS_MAGIC: u32 = 0x0130_bc91;
const HEAD_CHUNKS_HEADER: u64 = 8;
/// The highest bit of the encoding marks chunks that came out of order.
const OUT_OF_ORDER: u8 = 0x80;

/// The log's files in the order of writing: the last checkpoint, the segments behind it, the out-of-order log.
fn log_files(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<PathBuf>, TransferError> {
    let wal = dir.join("wal");
    let mut checkpoint: Option<(u64, PathBuf)> = None;
    if vfs.exists(&wal) {
        for entry in vfs.read_dir(&wal).map_err(TransferError::file(&wal))? {
            let number = entry.name.strip_prefix("checkpoint.").and_then(|n| n.parse::<u64>().ok());
            if let (true, Some(n)) = (entry.is_dir, number)
                && checkpoint.as_ref().is_none_or(|(last, _)| *last < n)
            {
                checkpoint = Some((n, wal.join(entry.name)));
            }
        }
    }
    let mut files = Vec::new();
    if let Some((_, path)) = &checkpoint {
        files.extend(segments(vfs, path)?);
    }
    let after = checkpoint.map(|(n, _)| n);
    files.extend(segments(vfs, &wal)?.into_iter().filter(|(n, _)| after.is_none_or(|a| *n > a)));
    files.extend(segments(vfs, &dir.join("wbl"))?);
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// True when a folder has a write-ahead log.
pub fn has_log(vfs: &dyn Vfs, dir: &Path) -> bool {
    vfs.exists(&dir.join("wal"))
}

/// Imports what is in the write-ahead log of a database.
pub fn import(vfs: &dyn Vfs, dir: &Path, into: &mut Importer<'_>) -> Result<(), TransferError> {
    let files = log_files(vfs, dir)?;
    let mut series: FxHashMap<u64, Labels> = FxHashMap::default();
    let mut tombstones = Tombstones::default();
    let mut damage = Vec::new();
    // First who is who and what is deleted, then the samples: so the order of records does not matter.
    for path in &files {
        let mut each = |data: &[u8]| {
            if !data.first().copied().is_some_and(record::is_definition) {
                return Ok(Ok(()));
            }
            Ok(record::read(data, &mut |reference, entry| match entry {
                Entry::Series(labels) => {
                    series.insert(reference, labels);
                }
                Entry::Tombstone(min_t, max_t) => tombstones.add(reference, min_t, max_t),
                Entry::Sample(..) | Entry::Exemplar(..) => {}
            }))
        };
        read_segment(vfs, path, &mut each, &mut |d| damage.push(d))?;
    }
    into.say(&format!("write-ahead log: {} series in {} files", series.len(), files.len()));
    let is_damaged = !damage.is_empty();
    damage.into_iter().for_each(|d| into.damage(d));
    let mut unknown = 0u64;
    for path in &files {
        let mut each = |data: &[u8]| {
            if data.first().copied().is_none_or(record::is_definition) {
                return Ok(Ok(()));
            }
            let mut entries = Vec::new();
            let read = record::read(data, &mut |reference, entry| entries.push((reference, entry)));
            for (reference, entry) in entries {
                match (series.get(&reference), entry) {
                    (None, Entry::Sample(..)) => unknown += 1,
                    (Some(labels), Entry::Sample(t, start, value)) => {
                        put(into, labels, &tombstones, reference, (t, start, value))?;
                    }
                    (Some(of), Entry::Exemplar(t, value, labels)) => into.exemplar(of, t, value, labels)?,
                    _ => {}
                }
            }
            Ok(read)
        };
        // Broken fragments were told in the first pass; a record with broken samples is new.
        let mut found = Vec::new();
        read_segment(vfs, path, &mut each, &mut |d| found.push(d))?;
        for d in found {
            if !into.report.damage.contains(&d) {
                into.damage(d);
            }
        }
        into.flush()?;
    }
    if unknown > 0 {
        let reason = format!("{unknown} samples name series that the log does not define");
        into.damage(Damage { path: dir.join("wal"), offset: 0, len: 0, reason });
    }
    if is_damaged { import_head_chunks(vfs, dir, &series, &tombstones, into) } else { Ok(()) }
}

fn put(
    into: &mut Importer<'_>,
    labels: &Labels,
    tombstones: &Tombstones,
    reference: u64,
    (t, start, value): (i64, i64, Value),
) -> Result<(), TransferError> {
    if tombstones.covers(reference, t) {
        into.report.deleted += 1;
        return Ok(());
    }
    match value {
        Value::Float(v) => into.float(labels, t, start, v),
        Value::Histogram(h) => into.histogram(labels, t, start, h),
    }
}

/// What a damaged log lost may stand in the chunks that were already mapped.
fn import_head_chunks(
    vfs: &dyn Vfs,
    dir: &Path,
    series: &FxHashMap<u64, Labels>,
    tombstones: &Tombstones,
    into: &mut Importer<'_>,
) -> Result<(), TransferError> {
    for (_, path) in segments(vfs, &dir.join("chunks_head"))? {
        let data = vfs.read(&path).map_err(TransferError::file(&path))?;
        let mut head = Cursor::new(&data);
        if (head.be32(), head.u8()) != (Ok(HEAD_CHUNKS_MAGIC), Ok(1)) {
            let reason = "is not a file of head chunks of version 1".to_owned();
            into.damage(Damage { path, offset: 0, len: 8, reason });
            continue;
        }
        let mut at = HEAD_CHUNKS_HEADER;
        while let Ok(mut from) = Cursor::at(&data, at) {
            // Files are made long and filled as chunks come.
            if from.rest().iter().take(32).all(|b| *b == 0) {
                break;
            }
            let before = from.rest().len();
            let mut samples = Vec::new();
            match head_chunk(&mut from, &mut |t, start, value| samples.push((t, start, value))) {
                Ok(reference) => {
                    if let Some(labels) = series.get(&reference) {
                        for sample in samples {
                            put(into, labels, tombstones, reference, sample)?;
                        }
                    }
                }
                Err(Malformed(reason)) => {
                    into.damage(Damage { path: path.clone(), offset: at, len: 0, reason: format!("chunk {reason}") });
                    break;
                }
            }
            at += (before - from.rest().len()) as u64;
        }
        into.flush()?;
    }
    Ok(())
}

fn head_chunk(from: &mut Cursor<'_>, each: &mut chunk::EachSample<'_>) -> Result<u64, Malformed> {
    let whole = from.rest();
    let reference = from.be64()?;
    from.bytes(16)?;
    let encoding = Encoding::from_byte(from.u8()? & !OUT_OF_ORDER).ok_or(Malformed("has an unknown encoding"))?;
    let len = from.count(1)?;
    let data = from.bytes(len)?;
    let body = &whole[..whole.len() - from.rest().len()];
    if crc32c::crc32c(body) != from.be32()? {
        return Err(Malformed("fails its checksum"));
    }
    chunk::decode(encoding, data, each)?;
    Ok(reference)
}
