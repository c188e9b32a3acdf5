//! `trefoil tsdb analyze`.

use std::collections::BTreeMap;

use anyhow::bail;
use roaring::RoaringTreemap;
use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use trefoil_model::{Labels, TenantId};
use trefoil_tsdb::SeriesIds;

use super::{Place, day_text, open, print, table};

/// Damaged places of a part that are printed.
const PLACES_PRINTED: usize = 10;

#[derive(Default)]
struct Cost {
    series: u64,
    bytes: u64,
}

#[derive(Default)]
struct Label {
    cost: Cost,
    values: u64,
}

#[derive(Default)]
struct Day {
    active: RoaringTreemap,
    new: u64,
    bytes: u64,
}

/// What is learned of all series; names and pairs are held once each.
#[derive(Default)]
struct Analysis {
    seen: RoaringTreemap,
    days: BTreeMap<i64, Day>,
    metrics: FxHashMap<String, Cost>,
    labels: FxHashMap<String, Label>,
    pairs: FxHashMap<String, Cost>,
}

fn entry<'a, T: Default>(map: &'a mut FxHashMap<String, T>, key: &str) -> &'a mut T {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), T::default());
    }
    map.get_mut(key).expect("it is there now")
}

impl Analysis {
    fn add(&mut self, day: i64, id: u64, labels: &Labels, bytes: u64) {
        let is_new = self.seen.insert(id);
        let of_day = self.days.entry(day).or_default();
        of_day.active.insert(id);
        of_day.new += u64::from(is_new);
        of_day.bytes += bytes;
        let add = |cost: &mut Cost| {
            cost.series += u64::from(is_new);
            cost.bytes += bytes;
        };
        add(entry(&mut self.metrics, labels.metric_name()));
        for (name, value) in labels {
            let pair = entry(&mut self.pairs, &format!("{name}={value}"));
            let is_first = pair.series == 0 && pair.bytes == 0;
            add(pair);
            let label = entry(&mut self.labels, name);
            add(&mut label.cost);
            label.values += u64::from(is_first);
        }
    }
}

/// A part of which not all series could be read. Those before the damage are counted.
struct Damaged {
    part: u64,
    day: String,
    folder: String,
    reason: String,
    /// What is wrong, with file and range.
    places: Vec<String>,
}

impl Damaged {
    fn json(&self) -> Value {
        json!({
            "part": self.part, "day": self.day, "folder": self.folder, "reason": self.reason, "places": self.places,
        })
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("part {} of {} ({}): {}", self.part, self.day, self.folder, self.reason)];
        lines.extend(self.places.iter().take(PLACES_PRINTED).map(|place| format!("  {place}")));
        if self.places.len() > PLACES_PRINTED {
            lines.push(format!("  {} more; see `trefoil tsdb verify`", self.places.len() - PLACES_PRINTED));
        }
        lines.join("\n")
    }
}

/// An error when parts were left out.
fn complete(damaged: &[Damaged], parts: usize) -> anyhow::Result<()> {
    if !damaged.is_empty() {
        bail!("{} of {parts} parts could not be read whole; the figures are of the rest", damaged.len());
    }
    Ok(())
}

/// Rows of a table, greatest first.
fn top(map: &FxHashMap<String, Cost>, limit: usize, by: fn(&Cost) -> u64) -> Vec<(&str, &Cost)> {
    let mut rows: Vec<(&str, &Cost)> = map.iter().map(|(name, cost)| (name.as_str(), cost)).collect();
    rows.sort_by(|a, b| by(b.1).cmp(&by(a.1)).then(a.0.cmp(b.0)));
    rows.truncate(limit);
    rows
}

/// Says what the series of a tenant are made of.
pub(super) fn run(place: &Place, tenant: TenantId, limit: usize) -> anyhow::Result<()> {
    let opened = open(&place.data, false)?;
    let mut found = Analysis::default();
    let (mut damaged, mut ids) = (Vec::new(), SeriesIds::default());
    let parts: Vec<_> = opened.store.part_infos().into_iter().filter(|p| p.tenant == tenant).collect();
    for part in &parts {
        let mut each = |s: trefoil_tsdb::PartSeries| found.add(part.day, s.id.0, &s.labels, s.bytes);
        if let Err(error) = opened.store.for_each_part_series(part.id, &mut each) {
            let (day, reason) = (day_text(part.day), trefoil_runtime::tasks::chain(&error));
            // Which bytes, when the file can be read at all.
            let places = if part.is_remote { Vec::new() } else { opened.store.verify_part(part.id, &mut ids)? };
            damaged.push(Damaged { part: part.id, day, folder: part.folder.clone(), reason, places });
        }
    }
    let unflushed: u64 = opened.store.unflushed().iter().filter(|u| u.tenant == tenant).map(|u| u.series).sum();
    let mut labels: Vec<(&str, &Label)> = found.labels.iter().map(|(n, l)| (n.as_str(), l)).collect();
    labels.sort_by(|a, b| b.1.values.cmp(&a.1.values).then(a.0.cmp(b.0)));
    labels.truncate(limit);
    let tables = [
        ("metrics by series", top(&found.metrics, limit, |c| c.series)),
        ("metrics by bytes of samples", top(&found.metrics, limit, |c| c.bytes)),
        ("label pairs by series", top(&found.pairs, limit, |c| c.series)),
        ("label pairs by bytes of samples", top(&found.pairs, limit, |c| c.bytes)),
    ];
    if place.json {
        let costs = |rows: &[(&str, &Cost)]| -> Value {
            rows.iter().map(|(name, c)| json!({ "name": name, "series": c.series, "bytes": c.bytes })).collect()
        };
        let days: Vec<Value> = found
            .days
            .iter()
            .map(|(day, d)| {
                json!({ "day": day_text(*day), "series": d.active.len(), "new_series": d.new, "bytes": d.bytes })
            })
            .collect();
        let labels: Vec<Value> = labels
            .iter()
            .map(
                |(name, l)| json!({ "name": name, "values": l.values, "series": l.cost.series, "bytes": l.cost.bytes }),
            )
            .collect();
        print(&serde_json::to_string_pretty(&json!({
            "damaged_parts": damaged.iter().map(Damaged::json).collect::<Vec<_>>(),
            "series": found.seen.len(), "label_pairs": found.pairs.len(), "unflushed_series": unflushed,
            "days": days, "labels": labels,
            "metrics_by_series": costs(&tables[0].1), "metrics_by_bytes": costs(&tables[1].1),
            "pairs_by_series": costs(&tables[2].1), "pairs_by_bytes": costs(&tables[3].1),
        }))?)?;
        return complete(&damaged, parts.len());
    }
    print(&format!("{} series, {} label pairs, {} metrics", found.seen.len(), found.pairs.len(), found.metrics.len()))?;
    if unflushed > 0 {
        print(&format!("{unflushed} series are in the journal; what they have there is not counted"))?;
    }
    let rows: Vec<Vec<String>> = found
        .days
        .iter()
        .map(|(day, d)| vec![day_text(*day), d.active.len().to_string(), d.new.to_string(), d.bytes.to_string()])
        .collect();
    print(&format!("\n{}", table(&["day", "series", "new series", "bytes"], &rows)))?;
    let rows: Vec<Vec<String>> = labels
        .iter()
        .map(|(n, l)| vec![(*n).to_owned(), l.values.to_string(), l.cost.series.to_string(), l.cost.bytes.to_string()])
        .collect();
    print(&format!("\nlabels by values\n{}", table(&["label", "values", "series", "bytes"], &rows)))?;
    for (title, rows) in &tables {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|(n, c)| vec![(*n).to_owned(), c.series.to_string(), c.bytes.to_string()]).collect();
        print(&format!("\n{title}\n{}", table(&["name", "series", "bytes"], &rows)))?;
    }
    if !damaged.is_empty() {
        let texts: Vec<String> = damaged.iter().map(Damaged::text).collect();
        print(&format!("\nparts that could not be read whole\n{}", texts.join("\n")))?;
    }
    complete(&damaged, parts.len())
}
