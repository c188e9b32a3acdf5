//! `trefoil tsdb verify`.

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::json;
use trefoil_journal::{Committed, Position};
use trefoil_parts::redundancy;
use trefoil_runtime::{RealVfs, SharedVfs};
use trefoil_tsdb::{SeriesIds, Tsdb};

use super::{Place, day_text, open, print};

/// Checks all parts; an error when something is broken.
pub(super) fn run(place: &Place) -> anyhow::Result<()> {
    let opened = open(&place.data, false)?;
    let mut known = SeriesIds::default();
    let (mut rows, mut broken, mut out_of_reach, mut samples) = (Vec::new(), 0, 0, 0);
    let parts = opened.store.part_infos();
    let (around, without_commit) = around_parts(place, &opened.store)?;
    broken += around.len();
    if !place.json {
        around.iter().try_for_each(|finding| print(finding))?;
    }
    for part in &parts {
        let (found, unchecked) = match opened.store.verify_part(part.id, &mut known) {
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
    if place.json {
        print(&serde_json::to_string_pretty(
            &json!({ "parts": rows, "damage": around, "damage_count": broken, "not_checked_count": out_of_reach,
                "parts_without_commit": without_commit }),
        )?)?;
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
        if without_commit > 0 {
            print(&format!(
                "{without_commit} parts carry no commit of their own: those of earlier versions and of restored snapshots never \
                 do; should the catalog be lost, a repair knows less of them"
            ))?;
        }
    }
    Ok(())
}

/// Up to where the parts of logs or traces hold what their journal had.
fn events_committed(vfs: &SharedVfs, set: &Path) -> Option<Committed> {
    if !set.join("parts").is_dir() {
        return None;
    }
    let state = trefoil_parts::at_rest::read_state(vfs, set).ok()?;
    let position = state.journal.map_or(Position::default(), |(segment, offset)| Position { segment, offset });
    let sequence = state.attributes.get("journal_sequence").and_then(|number| number.parse().ok());
    // Before the first commit the journal begins with its first record.
    Some(Committed { position, sequence: sequence.or(state.journal.is_none().then_some(1)) })
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
fn around_parts(place: &Place, store: &Tsdb) -> anyhow::Result<(Vec<String>, u64)> {
    // What the journal of metrics says while it is replayed, the check below says with the file.
    let mut found = store.catalog_findings();
    found.extend(store.journal_unusable());
    let vfs = RealVfs::shared();
    let journals = [("metrics", "metrics"), ("logs", "events/logs"), ("traces", "events/traces")];
    for (signal, dir) in journals {
        let set = place.data.join(dir);
        let dir = set.join("journal");
        let committed = match signal {
            "metrics" => store.journal_committed(),
            // What is wrong with commits is said below.
            _ => events_committed(&vfs, &set).unwrap_or_default(),
        };
        if signal != "metrics" && has_lost_journal(&vfs, &set, &dir) {
            let (dir, segment) = (dir.display(), committed.position.segment);
            found.push(format!("{dir}: the journal is gone, of which the last commit names segment {segment}"));
        }
        if dir.is_dir() {
            let damage = trefoil_journal::check_from(&vfs, &dir, signal, committed);
            let damage = damage.with_context(|| format!("journal of {signal}"))?;
            if signal == "metrics" {
                let lost = store.journal_copies_lost();
                found.extend(lost.into_iter().filter(|lost| !is_told(lost, &damage)));
            }
            found.extend(damage);
        }
    }
    let mut without_commit = 0;
    for (signal, set) in [("metrics", "metrics/parts"), ("logs", "events/logs"), ("traces", "events/traces")] {
        let set = place.data.join(set);
        if set.join("parts").is_dir() {
            match redundancy::check(&vfs, &set) {
                Ok(seen) => {
                    // Opening the store of metrics named damaged commits already.
                    let lost: Vec<String> = seen.lost.into_iter().filter(|lost| !is_told(lost, &found)).collect();
                    found.extend(lost);
                    without_commit += seen.without_commit;
                }
                Err(error) => found.push(format!("commits of {signal}: {}", trefoil_runtime::tasks::chain(&error))),
            }
            // The parts of metrics are read block by block.
            if signal != "metrics"
                && let Ok(damage) = redundancy::check_files(&vfs, &set, &trefoil_events::damage)
            {
                found.extend(damage);
            }
        }
    }
    Ok((found, without_commit))
}
