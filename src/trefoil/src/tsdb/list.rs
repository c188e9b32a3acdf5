//! `trefoil tsdb list`.

use serde_json::json;

use super::{Place, day_text, open, print, table, time_text};

/// Lists the parts.
pub(super) fn run(place: &Place) -> anyhow::Result<()> {
    let opened = open(&place.data, false)?;
    let (parts, unflushed) = (opened.store.part_infos(), opened.store.unflushed());
    if place.json {
        let rows: Vec<_> = parts
            .iter()
            .map(|p| {
                json!({
                    "part": p.id, "tenant": p.tenant.0, "day": day_text(p.day), "level": p.level, "format": p.format,
                    "series": p.series, "samples": p.samples, "bytes": p.bytes, "min_time_ms": p.min_t,
                    "max_time_ms": p.max_t, "created_ms": p.created_ms, "folder": p.folder, "remote": p.is_remote, "error": p.error,
                })
            })
            .collect();
        let memory: Vec<_> = unflushed
            .iter()
            .map(|u| json!({ "tenant": u.tenant.0, "day": day_text(u.day), "series": u.series }))
            .collect();
        return print(&serde_json::to_string_pretty(&json!({ "parts": rows, "unflushed": memory }))?);
    }
    let mut rows: Vec<Vec<String>> = parts
        .iter()
        .map(|p| {
            vec![
                p.id.to_string(),
                p.tenant.0.to_string(),
                day_text(p.day),
                p.level.to_string(),
                p.format.to_string(),
                match p.series {
                    Some(n) => n.to_string(),
                    None if p.is_remote => "?".to_owned(),
                    None => "broken".to_owned(),
                },
                p.samples.to_string(),
                p.bytes.to_string(),
                format!("{:.2}", p.bytes as f64 / p.samples.max(1) as f64),
                time_text(p.min_t),
                time_text(p.max_t),
                if p.is_remote { "object store" } else { "here" }.to_owned(),
            ]
        })
        .collect();
    for u in &unflushed {
        let mut row = vec!["journal".to_owned(), u.tenant.0.to_string(), day_text(u.day)];
        row.extend(["", "", &u.series.to_string(), "", "", "", "", "", "here"].map(str::to_owned));
        rows.push(row);
    }
    let head = [
        "part",
        "tenant",
        "day",
        "level",
        "format",
        "series",
        "samples",
        "bytes",
        "bytes/sample",
        "first",
        "last",
        "place",
    ];
    print(&table(&head, &rows))?;
    let (samples, bytes) = parts.iter().fold((0, 0), |(s, b), p| (s + p.samples, b + p.bytes));
    let remote: Vec<u64> = parts.iter().filter(|p| p.is_remote).map(|p| p.bytes).collect();
    let of_them = match remote.len() {
        0 => String::new(),
        n => format!("; {n} of them with {} bytes in the object store", remote.iter().sum::<u64>()),
    };
    print(&format!("{} parts, {samples} samples, {bytes} bytes{of_them}", parts.len()))
}
