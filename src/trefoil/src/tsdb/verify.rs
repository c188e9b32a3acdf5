//! `trefoil tsdb verify`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use trefoil_journal::{Committed, Position};
use trefoil_parts::objects::open_existing;
use trefoil_parts::remote::verify_objects;
use trefoil_parts::{PartSet, PartsError, redundancy};
use trefoil_runtime::{ReadOnlyVfs, RealVfs, SharedVfs, data_dir};
use trefoil_tsdb::{SeriesIds, Tsdb};

use super::{Opened, Place, day_text, lock, open, print};

/// Logs and traces, and where they lie in a data directory.
const EVENTS: [(&str, &str); 2] = [("logs", "events/logs"), ("traces", "events/traces")];

/// Longest time without a byte from an object store.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(30);

/// Checks all parts; an error when something is broken.
pub(super) fn run(place: &Place) -> anyhow::Result<()> {
    let has_metrics = place.data.join("metrics").is_dir();
    // Without metrics, or when they cannot be opened, logs and traces are looked at all the same.
    let (opened, failed) = match has_metrics || !place.data.join("events").is_dir() {
        false => (None, None),
        true => match open(&place.data, false) {
            Ok(opened) => (Some(opened), None),
            Err(error) if place.data.join("events").is_dir() => (None, Some(error)),
            Err(error) => return Err(error),
        },
    };
    let _lock = if opened.is_none() { Some(lock(&place.data, false)?) } else { None };
    if !has_metrics {
        data_dir::has_format(&*RealVfs::shared(), &place.data)?;
    }
    let mut known = SeriesIds::default();
    let (mut rows, mut broken, mut out_of_reach, mut samples) = (Vec::new(), 0, 0, 0);
    let parts = opened.as_ref().map(|opened| opened.store.part_infos()).unwrap_or_default();
    let (around, without_commit) = around_parts(place, opened.as_ref().map(|opened| &opened.store))?;
    broken += around.len();
    if !place.json {
        around.iter().try_for_each(|finding| print(finding))?;
    }
    for (Opened { store, .. }, part) in opened.iter().flat_map(|opened| parts.iter().map(move |part| (opened, part))) {
        let (found, unchecked) = match store.verify_part(part.id, &mut known) {
            Ok(found) => (found, None),
            Err(error) if part.is_remote => (Vec::new(), Some(trefoil_runtime::tasks::chain(&error))),
            Err(error) => return Err(error.into()),
        };
        broken += found.len();
        samples += part.samples;
        out_of_reach += usize::from(unchecked.is_some());
        if place.json {
            rows.push(json!({
                "part": part.id, "tenant": part.tenant.0, "day": day_text(part.day), "damage": found,
                "not_checked": unchecked,
            }));
        } else {
            if let Some(reason) = unchecked {
                let day = day_text(part.day);
                print(&format!("part {} of {day} is in the object store and was not checked: {reason}", part.id))?;
            }
            for finding in found {
                print(&format!("part {} of {}: {finding}", part.id, day_text(part.day)))?;
            }
        }
    }
    let events = remote_events(&place.data)?;
    broken += events.damage.len();
    out_of_reach += events.not_checked.len();
    if !place.json {
        events.damage.iter().chain(&events.not_checked).try_for_each(|finding| print(finding))?;
    }
    let around: Vec<String> = around.into_iter().chain(events.damage).collect();
    if place.json {
        print(&serde_json::to_string_pretty(
            &json!({ "parts": rows, "damage": around, "damage_count": broken, "not_checked_count": out_of_reach,
                "parts_without_commit": without_commit }),
        )?)?;
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let not_checked = match out_of_reach {
        0 => String::new(),
        n => format!("{n} parts are in the object store and could not be checked"),
    };
    if broken > 0 {
        let not_checked = if out_of_reach > 0 { format!("; {not_checked}") } else { not_checked };
        bail!("{broken} things are broken, in {} parts and what is around them{not_checked}", parts.len());
    }
    if out_of_reach > 0 {
        bail!("{not_checked}");
    }
    if !place.json {
        let remote = match parts.iter().filter(|p| p.is_remote).count() {
            0 => String::new(),
            n => format!("; {n} of them lie in the object store, whose checksums were compared"),
        };
        print(&format!("{} parts with {samples} samples are whole{remote}", parts.len()))?;
        if events.parts > 0 {
            let n = events.parts;
            print(&format!("{n} parts of logs lie in the object store, whose checksums were compared"))?;
        }
        if without_commit > 0 {
            print(&format!(
                "{without_commit} parts carry no commit of their own: those of earlier versions and of restored snapshots never \
                 do; should the catalog be lost, a repair knows less of them"
            ))?;
        }
    }
    Ok(())
}

/// What is known of parts of logs and traces in object stores.
#[derive(Default)]
struct RemoteEvents {
    parts: u64,
    damage: Vec<String>,
    not_checked: Vec<String>,
}

/// Reads the objects of all parts of logs and traces that lie in an object store. A store that does not answer is asked
/// once.
fn remote_events(data: &Path) -> anyhow::Result<RemoteEvents> {
    let vfs = RealVfs::shared();
    let mut seen = RemoteEvents::default();
    for (signal, set) in EVENTS {
        // Commits that cannot be read are told of elsewhere.
        let Ok(state) = trefoil_parts::at_rest::read_state(&vfs, &data.join(set)) else { continue };
        let mut down: BTreeMap<&str, String> = BTreeMap::new();
        for meta in state.parts.values() {
            let Some((url, _)) = meta.place() else { continue };
            seen.parts += 1;
            let of = format!("part {} of {signal} of {}", meta.id, day_text(meta.partition));
            let reason = match down.get(url) {
                Some(reason) => reason.clone(),
                None => match open_existing(url, SharedVfs::clone(&vfs), VERIFY_TIMEOUT) {
                    Err(error) => trefoil_runtime::tasks::chain(&error),
                    Ok(objects) => match verify_objects(&*objects, meta) {
                        Ok(()) => continue,
                        Err(error @ PartsError::CorruptFile { .. }) => {
                            seen.damage.push(format!("{of}: {}", trefoil_runtime::tasks::chain(&error)));
                            continue;
                        }
                        Err(error) => trefoil_runtime::tasks::chain(&error),
                    },
                },
            };
            seen.not_checked.push(format!("{of} is in the object store and was not checked: {reason}"));
            down.insert(url, reason);
        }
    }
    Ok(seen)
}

/// Opens the parts of logs or traces as a server does, to look at them only.
fn open_events(vfs: &SharedVfs, set: &Path, signal: &'static str) -> Result<PartSet, PartsError> {
    let view = ReadOnlyVfs::shared(SharedVfs::clone(vfs), None);
    // A journal that cannot be looked at is told below.
    let start = trefoil_journal::first_segment(vfs, &set.join("journal")).map(Into::into).unwrap_or_default();
    PartSet::open_beside(view, set, signal, None, start)
}

/// Up to where the parts of logs or traces hold what their journal had.
fn events_committed(set: &PartSet) -> Committed {
    let at = set.journal_position();
    let position = at.map_or(Position::default(), |(segment, offset)| Position { segment, offset });
    let sequence = set.attributes().get("journal_sequence").and_then(|number| number.parse().ok());
    // Before the first commit the journal begins with its first record.
    Committed { position, sequence: sequence.or(at.is_none().then_some(1)) }
}

/// Whether commits of logs or traces name a journal that is gone.
fn has_lost_journal(vfs: &SharedVfs, set: &Path, journal: &Path) -> bool {
    matches!(trefoil_journal::has_files(vfs, journal), Ok(false))
        && redundancy::was_at_work(vfs, set)
        && trefoil_parts::at_rest::read_state(vfs, set)
            .is_ok_and(|state| redundancy::needs_journal(state.journal, &state.attributes))
}

/// Whether one of these findings is of the same file.
fn is_told(finding: &str, told: &[String]) -> bool {
    finding.split_once(": ").is_some_and(|(path, _)| told.iter().any(|told| told.contains(path)))
}

/// What is wrong with commits and their copies, part folders and the journals of all signals; second, how many parts carry
/// no commit.
fn around_parts(place: &Place, metrics: Option<&Tsdb>) -> anyhow::Result<(Vec<String>, u64)> {
    let vfs = RealVfs::shared();
    let mut found: Vec<String> = crate::lost::folders(&vfs, &place.data)
        .iter()
        .map(|folder| format!("{}: the folder is gone, and with it all that was in it", folder.display()))
        .collect();
    let mut without_commit = 0;
    if let Some(store) = metrics {
        // What the journal of metrics says while it is replayed, the check below says with the file.
        found.extend(store.catalog_findings());
        found.extend(store.journal_unusable());
        let dir = place.data.join("metrics/journal");
        if dir.is_dir() {
            let damage = trefoil_journal::check_from(&vfs, &dir, "metrics", store.journal_committed());
            let damage = damage.context("journal of metrics")?;
            let lost = store.journal_copies_lost();
            found.extend(lost.into_iter().filter(|lost| !is_told(lost, &damage)));
            found.extend(damage);
        }
        without_commit += commits(&vfs, "metrics", &place.data.join("metrics/parts"), &mut found);
    }
    for (signal, set) in EVENTS {
        let dir = place.data.join(set);
        if dir.is_dir() {
            without_commit += around_events(&vfs, signal, &dir, &mut found)?;
        }
    }
    Ok((found, without_commit))
}

/// Looks at commits and part folders of a set; returns how many parts carry no commit.
fn commits(vfs: &SharedVfs, signal: &str, set: &Path, found: &mut Vec<String>) -> u64 {
    match redundancy::check(vfs, set) {
        Ok(seen) => {
            // Opening the store named damaged commits already.
            let lost: Vec<String> = seen.lost.into_iter().filter(|lost| !is_told(lost, found)).collect();
            found.extend(lost);
            seen.without_commit
        }
        Err(error) => {
            let error = trefoil_runtime::tasks::chain(&error);
            if !found.iter().any(|told| told.ends_with(&error)) {
                found.push(format!("commits of {signal}: {error}"));
            }
            0
        }
    }
}

/// Looks at all of logs or traces: commits, journal, and every byte of the parts.
fn around_events(vfs: &SharedVfs, signal: &'static str, dir: &Path, found: &mut Vec<String>) -> anyhow::Result<u64> {
    let mut committed = Committed::default();
    match open_events(vfs, dir, signal) {
        Ok(set) => {
            committed = events_committed(&set);
            found.extend(set.findings());
        }
        Err(error) => found.push(format!("commits of {signal}: {}", trefoil_runtime::tasks::chain(&error))),
    }
    let without_commit = commits(vfs, signal, dir, found);
    let journal = dir.join("journal");
    if has_lost_journal(vfs, dir, &journal) {
        let (journal, segment) = (journal.display(), committed.position.segment);
        found.push(format!("{journal}: the journal is gone, of which the last commit names segment {segment}"));
    }
    if journal.is_dir() {
        let damage = trefoil_journal::check_from(vfs, &journal, signal, committed);
        found.extend(damage.with_context(|| format!("journal of {signal}"))?);
    }
    if let Ok(damage) = redundancy::check_files(vfs, dir, &trefoil_events::damage) {
        found.extend(damage);
    }
    Ok(without_commit)
}
