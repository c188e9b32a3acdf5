//! What opening a journal finds on the disk.

use std::path::Path;

use trefoil_runtime::SharedVfs;

use super::JournalOptions;
use crate::JournalError;
use crate::scan::{Found, Scan};
use crate::segment::{self, HeaderError, SegmentHeader};
use crate::store::{Damage, Position};

/// A segment on the disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentInfo {
    pub(super) number: u64,
    pub(super) bytes: u64,
    /// Unknown when the header is damaged.
    pub(super) first_sequence: Option<u64>,
    /// See [`SegmentHeader::unproven_sequence`].
    pub(super) unproven_sequence: Option<u64>,
    pub(super) damaged: bool,
}

pub(super) struct Recovered {
    pub(super) segments: Vec<SegmentInfo>,
    pub(super) end: Position,
    pub(super) next_sequence: u64,
    /// First record of the last group, unless something after it proves that it was synced.
    pub(super) unproven_sequence: u64,
    pub(super) next_segment: u64,
    pub(super) epoch: u64,
    pub(super) damage: Vec<Damage>,
}

/// Lists the segments, reads the newest one to its end and cuts its torn tail.
pub(super) fn recover(vfs: &SharedVfs, dir: &Path, options: &JournalOptions) -> Result<Recovered, JournalError> {
    let journal = options.name;
    let io = |action: String| move |source| JournalError::Io { journal, action, source };
    trefoil_runtime::vfs::create_dir_durable(&**vfs, dir).map_err(io("create the directory".to_owned()))?;
    let mut numbers = Vec::new();
    let mut next_segment = options.segment_min.max(1);
    for entry in vfs.read_dir(dir).map_err(io("list the directory".to_owned()))? {
        let name = entry.name.strip_suffix(segment::QUARANTINE_SUFFIX).unwrap_or(&entry.name);
        let Some(number) = segment::parse_name(name) else { continue };
        next_segment = next_segment.max(number.saturating_add(1));
        if name == entry.name {
            numbers.push((number, entry.len));
        }
    }
    let mut recovered = Recovered {
        segments: Vec::new(),
        end: Position::default(),
        next_sequence: 1,
        unproven_sequence: 1,
        next_segment,
        epoch: 1,
        damage: Vec::new(),
    };
    for (number, bytes) in numbers {
        let path = segment::path(dir, number);
        let action = || format!("read segment {number}");
        // Only the header is looked at, so older segments need not be in memory.
        let content = vfs.map(&path).map_err(io(action()))?;
        let header = match SegmentHeader::decode(&content) {
            Ok((header, _)) if header.segment == number => {
                recovered.epoch = recovered.epoch.max(header.epoch.saturating_add(1));
                Some(header)
            }
            Ok((header, _)) => {
                let other = header.segment;
                tracing::error!(
                    journal,
                    segment = number,
                    other,
                    "journal file is a copy of another segment, left out"
                );
                continue;
            }
            Err(HeaderError::Version(found)) => return Err(JournalError::Version { journal, segment: number, found }),
            Err(HeaderError::Damaged) if content.len() <= segment::HEADER_BYTES => {
                // The header is synced before the first record is written: this segment never held one.
                tracing::warn!(journal, segment = number, "journal segment was never begun, removing it");
                vfs.remove_file(&path).map_err(io(format!("remove segment {number}")))?;
                continue;
            }
            Err(HeaderError::Damaged) => None,
        };
        recovered.segments.push(SegmentInfo {
            number,
            bytes,
            first_sequence: header.map(|header| header.first_sequence),
            unproven_sequence: header.map(|header| header.unproven_sequence),
            damaged: false,
        });
    }
    if let Some(info) = recovered.segments.last().copied() {
        let path = segment::path(dir, info.number);
        // Nobody else has the journal yet; what a cut takes away has been looked at before.
        let content = vfs.map(&path).map_err(io(format!("read segment {}", info.number)))?;
        read_newest(vfs, dir, options, &content, info, &mut recovered)?;
    }
    Ok(recovered)
}

fn read_newest(
    vfs: &SharedVfs,
    dir: &Path,
    options: &JournalOptions,
    content: &[u8],
    info: SegmentInfo,
    recovered: &mut Recovered,
) -> Result<(), JournalError> {
    let journal = options.name;
    let scan =
        Scan::new(content, None).map_err(|found| JournalError::Version { journal, segment: info.number, found })?;
    let mut good = if info.first_sequence.is_some() { segment::HEADER_BYTES as u64 } else { 0 };
    let mut next = scan.expected();
    let mut unproven = None;
    // Records after an unsynced gap belong to the same unacknowledged group as the gap: they are cut with it, unless
    // a later gap or group proves that the group was synced after all.
    let mut torn: Option<(u64, Damage)> = None;
    for found in scan {
        match found {
            Found::Record { end, record, .. } => {
                if let Some((sequence, damage)) = torn {
                    if record.group_sequence() <= sequence {
                        continue;
                    }
                    recovered.damage.push(damage);
                    torn = None;
                }
                good = end;
                next = Some(record.sequence + 1);
                unproven = Some(record.group_sequence());
            }
            Found::Gap { from, to, expected, found, was_synced } => {
                let first_missing = Damage::first_missing(expected, found, to);
                let damage =
                    Damage { segment: info.number, from, to, first_missing, next_found: found, was_synced: true };
                if was_synced {
                    recovered.damage.extend(torn.take().map(|(_, damage)| damage));
                    recovered.damage.push(damage);
                } else if torn.is_none() {
                    torn = Some((first_missing, damage));
                }
            }
            Found::Tail { .. } => {}
        }
    }
    let len = content.len() as u64;
    recovered.end = Position { segment: info.number, offset: good };
    recovered.next_sequence = match next {
        Some(next) => next,
        // Not one record is left and the header is gone: numbers go on above all that the segments can have held.
        None => {
            let known = recovered.segments.iter().filter_map(|info| info.first_sequence).max().unwrap_or(0);
            let bytes: u64 = recovered.segments.iter().map(|info| info.bytes).sum();
            known.saturating_add(bytes).saturating_add(1)
        }
    };
    recovered.unproven_sequence = match (unproven, info.unproven_sequence) {
        (Some(unproven), _) => unproven,
        // No record yet: what was unproven before it still is.
        (None, Some(before)) if next == info.first_sequence => before,
        (None, _) => recovered.next_sequence,
    };
    if good < len && info.first_sequence.is_some() {
        tracing::warn!(journal, segment = info.number, from = good, to = len, "cutting the torn tail of the journal");
        let path = segment::path(dir, info.number);
        vfs.set_len(&path, good).map_err(|source| JournalError::Io {
            journal,
            action: format!("cut segment {} to {good} bytes", info.number),
            source,
        })?;
        if let Some(info) = recovered.segments.last_mut() {
            info.bytes = good;
        }
    }
    Ok(())
}
