//! `trefoil tsdb verify`.

use anyhow::bail;
use serde_json::json;
use trefoil_tsdb::SeriesIds;

use super::{Place, day_text, open, print};

/// Checks all parts; an error when something is broken.
pub(super) fn run(place: &Place) -> anyhow::Result<()> {
    let opened = open(&place.data, false)?;
    let mut known = SeriesIds::default();
    let (mut rows, mut broken, mut samples) = (Vec::new(), 0, 0);
    let parts = opened.store.part_infos();
    for part in &parts {
        let found = opened.store.verify_part(part.id, &mut known)?;
        broken += found.len();
        samples += part.samples;
        if place.json {
            rows.push(json!({ "part": part.id, "tenant": part.tenant.0, "day": day_text(part.day), "damage": found }));
        } else {
            for finding in found {
                print(&format!("part {} of {}: {finding}", part.id, day_text(part.day)))?;
            }
        }
    }
    if place.json {
        print(&serde_json::to_string_pretty(&json!({ "parts": rows, "damage_count": broken }))?)?;
    }
    if broken > 0 {
        bail!("{broken} things are broken in {} parts", parts.len());
    }
    if !place.json {
        print(&format!("{} parts with {samples} samples are whole", parts.len()))?;
    }
    Ok(())
}
