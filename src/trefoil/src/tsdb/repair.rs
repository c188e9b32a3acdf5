//! `trefoil tsdb repair`.

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use trefoil_parts::repair::{Adopted, Describe, PartPlace, RepairOptions, RepairReport};
use trefoil_parts::{CatalogState, PartMeta};
use trefoil_runtime::data_dir::{self, DataDirError};
use trefoil_runtime::{RealVfs, SharedVfs};

use super::{Place, lock, print};

/// Parts of logs and traces: they say what they are, or nobody does.
struct OnlyThemselves;

impl Describe for OnlyThemselves {
    fn describe(&mut self, _: &PartPlace) -> Result<PartMeta, String> {
        Err("it was written by an earlier version and does not say what it is".to_owned())
    }

    fn finish(&mut self, state: &mut CatalogState, adopted: &[Adopted]) {
        // What is in a part and in the journal as well would be there twice.
        state.journal = adopted.iter().filter_map(|part| part.journal).max().max(state.journal);
    }
}

/// Repairs the catalogs of a data directory.
pub(super) fn run(place: &Place, dry_run: bool, with_leftovers: bool) -> anyhow::Result<()> {
    let options = RepairOptions { is_dry: dry_run, with_leftovers, ..RepairOptions::default() };
    // What is not a data directory is left as it is, and so is one that is only looked at.
    if !["metrics", "events"].iter().any(|store| place.data.join(store).is_dir()) {
        bail!("{} is not a data directory (see --data)", place.data.display());
    }
    let vfs = RealVfs::shared();
    let has_bad_format = match data_dir::has_format(&*vfs, &place.data) {
        Ok(_) => false,
        Err(DataDirError::DamagedFormat { .. }) if is_plain(&place.data) => true,
        Err(error) => return Err(error.into()),
    };
    let _lock = lock(&place.data, !dry_run)?;
    if !dry_run {
        set_format(&vfs, &place.data, has_bad_format)?;
    }
    if has_bad_format && !place.json {
        let done = if dry_run { "would be written anew" } else { "was written anew" };
        print(&format!("the damaged file {} {done}", place.data.join(data_dir::FORMAT_FILE).display()))?;
    }
    let mut reports = Vec::new();
    let metrics = place.data.join("metrics");
    if metrics.join("parts").is_dir() {
        let report = trefoil_tsdb::repair(&vfs, &metrics, options).context("repair the metrics store")?;
        reports.push(("metrics", report));
    }
    for signal in ["logs", "traces"] {
        let dir = place.data.join("events").join(signal);
        if dir.join("parts").is_dir() {
            let journal = trefoil_journal::first_segment(&vfs, &dir.join("journal"))?.into();
            let report =
                trefoil_parts::repair::repair(&vfs, &dir, &mut OnlyThemselves, RepairOptions { journal, ..options });
            reports.push((signal, report.with_context(|| format!("repair the store of {signal}"))?));
        }
    }
    if place.json {
        let stores: Vec<Value> = reports.iter().map(|(signal, report)| to_json(signal, report)).collect();
        return print(&serde_json::to_string_pretty(&json!({
            "dry_run": dry_run, "damaged_format": has_bad_format, "stores": stores,
        }))?);
    }
    for (signal, report) in &reports {
        tell(signal, report, dry_run)?;
    }
    Ok(())
}

/// Says that a directory is a data directory whatever its FORMAT file says: a store of ours has its commits in it.
fn is_plain(data: &Path) -> bool {
    ["metrics/parts", "events/logs", "events/traces"].iter().any(|set| {
        let set = data.join(set);
        set.join("parts").is_dir() && ["catalog", "catalog-copies"].iter().any(|folder| set.join(folder).is_dir())
    })
}

fn set_format(vfs: &SharedVfs, data: &Path, is_bad: bool) -> anyhow::Result<()> {
    if is_bad {
        data_dir::repair_format(&**vfs, data).context("write the format of the data directory")?;
    }
    Ok(data_dir::check_format(&**vfs, data)?)
}

fn to_json(signal: &str, report: &RepairReport) -> Value {
    let ids = |ids: &[trefoil_parts::PartId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let left: Vec<Value> = report
        .left
        .iter()
        .map(|(path, reason)| json!({ "folder": path.display().to_string(), "reason": reason }))
        .collect();
    json!({
        "store": signal, "needed": report.is_needed, "commits": report.commits,
        "damaged_commits": report.damaged_commits, "named_parts": report.named, "adopted": ids(&report.adopted),
        "missing": ids(&report.missing), "left": left,
    })
}

fn tell(signal: &str, report: &RepairReport, dry_run: bool) -> anyhow::Result<()> {
    if !report.is_needed {
        return print(&format!("{signal}: {} parts, nothing to repair", report.named));
    }
    for commit in &report.damaged_commits {
        print(&format!("{signal}: commit {commit} is damaged or missing"))?;
    }
    for id in &report.adopted {
        print(&format!("{signal}: part {id} is taken in again"))?;
    }
    for id in &report.missing {
        print(&format!("{signal}: part {id} is gone, its samples are lost"))?;
    }
    for (path, reason) in &report.left {
        print(&format!("{signal}: {} is left where it is: {reason}", path.display()))?;
    }
    let done = if dry_run { "would be repaired" } else { "repaired" };
    let (named, adopted) = (report.named, report.adopted.len());
    print(&format!("{signal}: {done}, {named} parts as they were and {adopted} taken in again"))
}
