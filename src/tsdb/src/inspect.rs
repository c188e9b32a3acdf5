//! Looks into a store without changing it: what parts there are, what their series cost, whether all of it is whole.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_model::{Labels, SeriesId, StoreError, TenantId};
use trefoil_parts::PartsError;

use crate::error::TsdbError;
use crate::flush::SERIES;
use crate::store::{OpenPart, Tsdb};

/// What a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartInfo {
    /// Its number.
    pub id: u64,
    /// Whose samples.
    pub tenant: TenantId,
    /// UTC day: days since 1970-01-01.
    pub day: i64,
    /// How often its samples were merged.
    pub level: u8,
    /// Version of the format of its files.
    pub format: u16,
    /// Number of series; `None` when the index is not readable (of a part in an object store: when its commit does not
    /// say).
    pub series: Option<u64>,
    /// Number of samples.
    pub samples: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Time of the first sample, Unix milliseconds.
    pub min_t: i64,
    /// Time of the last sample, inclusive.
    pub max_t: i64,
    /// When it was written, Unix milliseconds.
    pub created_ms: i64,
    /// Its folder; of a part in an object store the URL.
    pub folder: String,
    /// Whether it lies in an object store. Then nothing was read to tell this.
    pub is_remote: bool,
    /// What keeps it from being read.
    pub error: Option<String>,
}

/// What is in memory and the journal only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unflushed {
    /// Whose samples.
    pub tenant: TenantId,
    /// UTC day.
    pub day: i64,
    /// Number of series with samples on that day.
    pub series: u64,
}

/// A series of a part.
#[derive(Debug, Clone)]
pub struct PartSeries {
    /// Its id, the same in all parts.
    pub id: SeriesId,
    /// Its labels.
    pub labels: Labels,
    /// Bytes of its blocks.
    pub bytes: u64,
}

/// Which label set each id stands for, to find an id that stands for two. 16 bytes and more a series.
#[derive(Debug, Default)]
pub struct SeriesIds(FxHashMap<(TenantId, u64), u64>);

impl Tsdb {
    fn part(&self, id: u64) -> Option<Arc<OpenPart>> {
        self.inner.view.load().parts.iter().find(|p| p.meta.id.0 == id).cloned()
    }

    /// All parts, by tenant, day and order of writing.
    pub fn part_infos(&self) -> Vec<PartInfo> {
        let view = self.inner.view.load();
        let mut infos: Vec<PartInfo> = view.parts.iter().map(|p| self.info(p)).collect();
        // Stable: parts of a view are in the order of writing.
        infos.sort_by_key(|p| (p.tenant, p.day));
        infos
    }

    fn info(&self, part: &OpenPart) -> PartInfo {
        let meta = &part.meta;
        let is_remote = meta.is_remote();
        let local = (!is_remote).then(|| part.reader());
        PartInfo {
            id: meta.id.0,
            tenant: meta.tenant,
            day: meta.partition,
            level: meta.level,
            format: meta.format,
            series: match &local {
                Some(reader) => reader.as_ref().ok().map(|r| u64::from(r.rows())),
                None => meta.attributes.get(SERIES).and_then(|n| n.parse().ok()),
            },
            samples: meta.items,
            bytes: meta.bytes,
            min_t: meta.min_t,
            max_t: meta.max_t,
            created_ms: meta.created_ms,
            folder: match meta.location() {
                Some(location) => location.to_owned(),
                None => self.inner.parts.folder(meta).display().to_string(),
            },
            is_remote,
            error: local.and_then(|reader| reader.err().map(|e| trefoil_runtime::tasks::chain(&e))),
        }
    }

    /// What is in memory and the journal only, by tenant and day.
    pub fn unflushed(&self) -> Vec<Unflushed> {
        let view = self.inner.view.load();
        let mut found: Vec<Unflushed> = Vec::new();
        for memtable in view.frozen.iter().map(|f| &f.memtable).chain([&view.active]) {
            for tenant in memtable.tenants() {
                for (day, rows) in memtable.days(tenant) {
                    found.push(Unflushed { tenant, day, series: rows.len() });
                }
            }
        }
        found.sort_by_key(|u| (u.tenant, u.day));
        found
    }

    /// The UTC days on which a tenant may have samples, ascending.
    pub fn days(&self, tenant: TenantId) -> Vec<i64> {
        let parts = self.part_infos().into_iter().filter(|p| p.tenant == tenant).map(|p| p.day);
        let memory = self.unflushed().into_iter().filter(|u| u.tenant == tenant).map(|u| u.day);
        let mut days: Vec<i64> = parts.chain(memory).collect();
        days.sort_unstable();
        days.dedup();
        days
    }

    /// Calls `each` with all series of a part in the order of their labels. Of a part in an object store the index is
    /// fetched. Errors: `Corrupt` at the first damage, `Io` when the store is out of reach.
    pub fn for_each_part_series(&self, id: u64, each: &mut dyn FnMut(PartSeries)) -> Result<(), StoreError> {
        let Some(part) = self.part(id) else { return Ok(()) };
        let reader = part.index()?;
        let mut rows = roaring::RoaringBitmap::new();
        rows.insert_range(0..reader.rows());
        reader.for_each_labels(&rows, &mut |row, labels| {
            let bytes = reader.row_bytes(row)?;
            each(PartSeries { id: reader.id(row)?, labels, bytes: bytes.end.saturating_sub(bytes.start) });
            Ok(())
        })
    }

    /// Checks everything in a part; returns what is wrong, each with file and place. Reads all its bytes. Of a part in an
    /// object store only lengths and checksums of the objects are compared with its commit, chunk by chunk; errors when
    /// the store is out of reach.
    pub fn verify_part(&self, id: u64, known: &mut SeriesIds) -> Result<Vec<String>, TsdbError> {
        let Some(part) = self.part(id) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        if part.meta.is_remote() {
            return match self.inner.parts.verify_objects(&part.meta) {
                Ok(()) => Ok(Vec::new()),
                Err(error @ PartsError::CorruptFile { .. }) => Ok(vec![error.to_string()]),
                Err(error) => Err(error.into()),
            };
        }
        match part.reader() {
            Ok(reader) => {
                let tenant = part.meta.tenant;
                let mut clashes = Vec::new();
                let mut row = |id: SeriesId, labels: &Labels| {
                    let hash = labels.stable_hash();
                    if *known.0.entry((tenant, id.0)).or_insert(hash) != hash {
                        clashes
                            .push(format!("part {}: id {} stands for {labels} and another series", part.meta.id, id.0));
                    }
                };
                reader.verify(&mut row, &mut found);
                found.append(&mut clashes);
            }
            Err(error) => found.push(trefoil_runtime::tasks::chain(&error)),
        }
        // Bytes that no checksum of ours covers, and whole files that changed.
        if let Err(error) = self.inner.parts.verify(&part.meta)
            && found.is_empty()
        {
            found.push(trefoil_runtime::tasks::chain(&error));
        }
        Ok(found)
    }
}
