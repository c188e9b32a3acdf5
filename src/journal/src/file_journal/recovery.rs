//! What opening a journal finds on the disk.

use std::collections::BTreeSet;
use std::path::Path;

use trefoil_runtime::SharedVfs;

use super::JournalOptions;
use crate::scan::{Found, Scan};
use crate::segment::{self, HeaderError, SegmentHeader};
use crate::store::{Damage, Position, Torn};
use crate::{JournalError, copies};

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
    /// Segments that have a file with copies.
    pub(super) copies: BTreeSet<u64>,
    pub(super) torn: Option<Torn>,
    /// Records that copies prove to have been there, when not one segment is left.
    pub(super) all_lost: Option<Damage>,
    pub(super) had_files: bool,
}

/// Lists the segments, reads the newest one to its end and cuts its torn tail.
pub(super) fn recover(vfs: &SharedVfs, dir: &Path, options: &JournalOptions) -> Result<Recovered, JournalError> {
    let journal = options.name;
    let io = |action: String| move |source| JournalError::Io { journal, action, source };
    trefoil_runtime::vfs::create_dir_durable(&**vfs, dir).map_err(io("create the directory".to_owned()))?;
    let mut numbers = Vec::new();
    let mut copies = BTreeSet::new();
    let mut next_segment = options.segment_min.max(1);
    for entry in vfs.read_dir(dir).map_err(io("list the directory".to_owned()))? {
        let name = entry.name.strip_suffix(segment::QUARANTINE_SUFFIX).unwrap_or(&entry.name);
        if let Some(number) = copies::parse_name(&entry.name) {
            copies.insert(number);
            next_segment = next_segment.max(number.saturating_add(1));
            continue;
        }
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
        torn: None,
        all_lost: None,
        had_files: !numbers.is_empty() || !copies.is_empty(),
        copies,
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
    let proven = newest_copies(vfs, dir, journal, &mut recovered);
    let next = recovered.next_sequence;
    if let Some((segment, end, sequence)) = proven
        && sequence >= next
    {
        // Its copy was written after its sync: what follows the last record was there.
        tracing::error!(journal, segment, end, "the end of the journal is lost, acknowledged records are missing");
        let next_found = sequence.saturating_add(1);
        if recovered.segments.is_empty() {
            recovered.all_lost = Some(Damage {
                segment,
                from: end,
                to: end,
                first_missing: next,
                next_found,
                was_synced: true,
                was_needed: true,
            });
        }
        recovered.next_sequence = next_found;
    }
    // What is known to have been synced needs no further proof.
    let proven = proven.map_or(0, |(_, _, sequence)| sequence.saturating_add(1)).max(options.sequence_min);
    recovered.next_sequence = recovered.next_sequence.max(options.sequence_min);
    recovered.unproven_sequence = recovered.unproven_sequence.max(proven);
    Ok(recovered)
}

/// Looks at the newest file with copies: a crash may have torn it, then only what is whole stays. Returns segment, end and
/// sequence number of the last record that its copies prove to have been synced.
fn newest_copies(
    vfs: &SharedVfs,
    dir: &Path,
    journal: &'static str,
    recovered: &mut Recovered,
) -> Option<(u64, u64, u64)> {
    let segment = *recovered.copies.last()?;
    let path = copies::path(dir, segment);
    let bytes = match vfs.map(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::warn!(journal, segment, %error, "copies of a journal segment are not readable");
            return None;
        }
    };
    let (mut last, mut whole) = (None, Vec::new());
    let mut encoder = copies::Encoder::begin(segment, &mut whole);
    let bad = copies::read(&bytes, |copy| {
        last = last.max(Some((segment, copy.end, copy.sequence)));
        encoder.add(copy.sequence, copy.end, copy.payload, &mut whole);
    });
    if !bad.is_empty() && !vfs.is_read_only() {
        tracing::warn!(journal, segment, "copies of the newest journal segment are not whole, the rest of them stays");
        let done = match last {
            Some(_) => trefoil_runtime::vfs::write_atomic(&**vfs, &path, &whole),
            None => {
                recovered.copies.remove(&segment);
                vfs.remove_file(&path)
            }
        };
        if let Err(error) = done {
            tracing::warn!(journal, segment, %error, "copies of a journal segment could not be mended");
        }
    }
    last
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
                let damage = Damage {
                    segment: info.number,
                    from,
                    to,
                    first_missing,
                    next_found: found,
                    was_synced: true,
                    was_needed: true,
                };
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
    if good < len {
        recovered.torn = Some(Torn { segment: info.number, from: good, to: len });
    }
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
