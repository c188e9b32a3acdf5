//! Deletions: which samples of which parts are not to be seen any more.
//!
//! A tombstone is one entry of the attribute `tombstones` of the commits. The memtable is flushed before it is made, so
//! that the number of that flush says what it hides: samples of parts with this number or a lower one. Merges leave
//! hidden samples out; a tombstone that no part needs any more is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use roaring::RoaringBitmap;
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use trefoil_model::{MatchOp, Matcher, SelectRequest, StoreError, TenantId, TimeRange, Unlimited};
use trefoil_parts::{Commit, PartSet};

use crate::error::TsdbError;
use crate::matching::select_rows;
use crate::metrics;
use crate::store::{FLUSH_SEQUENCE, Inner, OpenPart, Tsdb, attribute};

/// Attribute of commits.
const TOMBSTONES: &str = "tombstones";
/// Most deletions that wait for merges.
const TOMBSTONES_MAX: usize = 1000;

/// A deletion.
#[derive(Debug)]
pub(crate) struct Tombstone {
    pub(crate) id: u64,
    pub(crate) tenant: TenantId,
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) range: TimeRange,
    /// It hides what was flushed by this flush or before.
    pub(crate) sequence: u64,
}

/// The deletions that are not carried out in all parts, as of one commit.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    /// As committed.
    text: String,
    /// The last id that was given.
    pub(crate) last: u64,
    pub(crate) list: Vec<Tombstone>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredList {
    last: u64,
    list: Vec<Stored>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    id: u64,
    tenant: u32,
    /// Name, operator, value.
    matchers: Vec<(String, String, String)>,
    start_ms: i64,
    end_ms: i64,
    sequence: u64,
}

impl Tombstone {
    fn stored(&self) -> Stored {
        Stored {
            id: self.id,
            tenant: self.tenant.0,
            matchers: self
                .matchers
                .iter()
                .map(|m| (m.name.clone(), m.op.as_str().to_owned(), m.value.clone()))
                .collect(),
            start_ms: self.range.start_ms,
            end_ms: self.range.end_ms,
            sequence: self.sequence,
        }
    }

    fn from_stored(stored: Stored) -> Option<Self> {
        let matcher = |(name, op, value): (String, String, String)| {
            let all = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
            Matcher::new(all.into_iter().find(|o| o.as_str() == op)?, name, value).ok()
        };
        Some(Self {
            id: stored.id,
            tenant: TenantId(stored.tenant),
            matchers: stored.matchers.into_iter().map(matcher).collect::<Option<_>>()?,
            range: TimeRange::new(stored.start_ms, stored.end_ms),
            sequence: stored.sequence,
        })
    }

    /// True when samples of the part may be hidden by it.
    fn concerns(&self, part: &OpenPart) -> bool {
        self.id > part.tombstone
            && self.sequence >= part.sequence.1
            && self.tenant == part.meta.tenant
            && self.range.overlaps(part.meta.min_t, part.meta.max_t)
    }
}

impl Tombstones {
    /// What the last commit says.
    pub(crate) fn read(parts: &PartSet) -> Result<Self, TsdbError> {
        match parts.attributes().remove(TOMBSTONES) {
            None => Ok(Self::default()),
            Some(text) => {
                let found = Self::parse(&text).ok_or(TsdbError::Attribute { name: TOMBSTONES, value: text })?;
                metrics::TOMBSTONES.set(found.list.len() as i64);
                Ok(found)
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let stored: StoredList = serde_json::from_str(text).ok()?;
        let list = stored.list.into_iter().map(Tombstone::from_stored).collect::<Option<_>>()?;
        Some(Self { text: text.to_owned(), last: stored.last, list })
    }

    /// True when one of them may hide samples of the part.
    pub(crate) fn concern(&self, part: &OpenPart) -> bool {
        self.list.iter().any(|t| t.concerns(part))
    }

    /// These, or those of a later commit.
    pub(crate) fn current(self: &Arc<Self>, parts: &PartSet) -> Arc<Self> {
        match parts.attributes().remove(TOMBSTONES) {
            Some(text) if text != self.text => match Self::parse(&text) {
                Some(new) => {
                    metrics::TOMBSTONES.set(new.list.len() as i64);
                    Arc::new(new)
                }
                None => unreachable!("only this module writes the attribute"),
            },
            _ => Arc::clone(self),
        }
    }
}

fn text<'a>(last: u64, list: impl Iterator<Item = &'a Tombstone>) -> String {
    let list = StoredList { last, list: list.map(Tombstone::stored).collect() };
    serde_json::to_string(&list).expect("plain data has a JSON form")
}

/// What tombstones hide of a part.
#[derive(Debug, Default)]
pub(crate) struct Hidden {
    /// Rows without a sample that is left.
    pub(crate) dead: RoaringBitmap,
    /// Rows of which something is hidden, dead ones too.
    pub(crate) touched: RoaringBitmap,
    ranges: Vec<(TimeRange, RoaringBitmap)>,
}

impl Hidden {
    /// The hidden ranges of a row.
    pub(crate) fn ranges(&self, row: u32) -> Vec<TimeRange> {
        self.ranges.iter().filter(|(_, rows)| rows.contains(row)).map(|(range, _)| *range).collect()
    }

    fn of(part: &OpenPart, tombstones: &Tombstones) -> Result<Self, StoreError> {
        let reader = part.index()?;
        let mut hidden = Self::default();
        for t in tombstones.list.iter().filter(|t| t.concerns(part)) {
            let rows = rows_within(part, &t.matchers, t.range)?;
            if !rows.is_empty() {
                hidden.touched |= &rows;
                hidden.ranges.push((t.range, rows));
            }
        }
        for row in &hidden.touched {
            let (min_t, max_t) = reader.bounds(row)?;
            if covers(hidden.ranges(row), min_t, max_t) {
                hidden.dead.insert(row);
            }
        }
        Ok(hidden)
    }
}

/// True when the ranges together hold all times from `min_t` to `max_t`.
fn covers(mut ranges: Vec<TimeRange>, min_t: i64, max_t: i64) -> bool {
    ranges.sort_by_key(|r| r.start_ms);
    let mut next = min_t;
    for r in ranges {
        if r.start_ms <= next && r.end_ms > next {
            next = r.end_ms;
        }
    }
    next > max_t
}

/// Rows that match and whose times overlap the range.
fn rows_within(part: &OpenPart, matchers: &[Matcher], range: TimeRange) -> Result<RoaringBitmap, StoreError> {
    let reader = part.index()?;
    let mut inside = RoaringBitmap::new();
    for row in select_rows(reader, matchers, &Unlimited)? {
        let (min_t, max_t) = reader.bounds(row)?;
        if range.overlaps(min_t, max_t) {
            inside.insert(row);
        }
    }
    Ok(inside)
}

impl OpenPart {
    /// What is hidden of this part, `None` for nothing.
    pub(crate) fn hidden(&self, tombstones: &Arc<Tombstones>) -> Result<Option<Arc<Hidden>>, StoreError> {
        if !tombstones.list.iter().any(|t| t.concerns(self)) {
            return Ok(None);
        }
        let mut known = self.known.hidden.lock();
        let hidden = match &*known {
            Some((of, hidden)) if Arc::ptr_eq(of, tombstones) => Arc::clone(hidden),
            _ => {
                let hidden = Arc::new(Hidden::of(self, tombstones)?);
                *known = Some((Arc::clone(tombstones), Arc::clone(&hidden)));
                hidden
            }
        };
        Ok((!hidden.touched.is_empty()).then_some(hidden))
    }
}

impl Tsdb {
    /// Hides the samples that any of the requests selects, durably and at once; see
    /// [`trefoil_model::MetricAdmin::delete`]. Returns how many series were hit.
    pub async fn delete(&self, requests: &[SelectRequest]) -> Result<u64, TsdbError> {
        // Exemplars are in memory and in the journal only; the flush leaves what is taken out of them behind.
        let exemplars = self.inner.exemplars.lock().remove(requests);
        if exemplars > 0 {
            tracing::info!(exemplars, "exemplars deleted");
        }
        self.flush_all(exemplars > 0).await?;
        let (inner, requests) = (Arc::clone(&self.inner), requests.to_vec());
        tokio::task::spawn_blocking(move || inner.delete_flushed(&requests)).await.map_err(|_| TsdbError::Stopped)?
    }

    /// Rewrites the parts that hold deleted samples; returns how many that were.
    pub async fn clean_tombstones(&self) -> Result<u64, TsdbError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || inner.clean_tombstones()).await.map_err(|_| TsdbError::Stopped)?
    }
}

impl Inner {
    fn delete_flushed(&self, requests: &[SelectRequest]) -> Result<u64, TsdbError> {
        let _alone = self.tombstone_lock.lock();
        if self.closed.load(Ordering::Acquire) {
            return Err(TsdbError::Closed);
        }
        let view = self.view.load_full();
        let sequence = attribute(&self.parts, FLUSH_SEQUENCE)?.unwrap_or(0);
        let mut series: FxHashSet<(TenantId, u64)> = FxHashSet::default();
        let mut new = Vec::new();
        let mut last = view.tombstones.last;
        let mut is_store_down = false;
        for r in requests {
            let mut is_needed = false;
            for part in view.parts.iter().filter(|p| p.overlaps(r.tenant, r.range) && p.sequence.1 <= sequence) {
                // Of a part that cannot be read nothing is known: should it come back, the samples are gone. A store
                // that is out of reach is asked once.
                let index = if part.meta.is_remote() && is_store_down { None } else { part.index().ok() };
                let Some(reader) = index else {
                    is_store_down |= part.meta.is_remote();
                    is_needed = true;
                    continue;
                };
                let mut rows = rows_within(part, &r.matchers, r.range)?;
                if let Some(hidden) = part.hidden(&view.tombstones)? {
                    rows -= &hidden.dead;
                }
                is_needed |= !rows.is_empty();
                for row in rows {
                    series.insert((r.tenant, reader.id(row)?.0));
                }
            }
            if is_needed {
                last += 1;
                let (tenant, matchers, range) = (r.tenant, r.matchers.clone(), r.range);
                new.push(Tombstone { id: last, tenant, matchers, range, sequence });
            }
        }
        if new.is_empty() {
            return Ok(0);
        }
        let count = view.tombstones.list.len() + new.len();
        if count > TOMBSTONES_MAX {
            return Err(TsdbError::TooManyTombstones { count, max: TOMBSTONES_MAX });
        }
        self.commit_tombstones(last, view.tombstones.list.iter().chain(&new))?;
        metrics::SERIES_DELETED.inc_by(series.len() as u64);
        tracing::info!(series = series.len(), tombstones = count, "samples deleted");
        Ok(series.len() as u64)
    }

    fn commit_tombstones<'a>(&self, last: u64, list: impl Iterator<Item = &'a Tombstone>) -> Result<(), TsdbError> {
        let attributes = BTreeMap::from([(TOMBSTONES.to_owned(), text(last, list))]);
        self.parts.commit(Commit { attributes, ..Commit::default() })?;
        self.publish_parts(|_| {});
        self.changes.note_all();
        Ok(())
    }

    /// Drops the tombstones that no part needs.
    pub(crate) fn drop_tombstones(&self) -> Result<(), TsdbError> {
        let _alone = self.tombstone_lock.lock();
        let view = self.view.load_full();
        let mut needed = Vec::new();
        for t in &view.tombstones.list {
            let mut is_needed = false;
            for part in view.parts.iter().filter(|p| t.concerns(p)) {
                if is_needed {
                    break;
                }
                is_needed |= part.index().is_err() || !rows_within(part, &t.matchers, t.range)?.is_empty();
            }
            if is_needed {
                needed.push(t);
            }
        }
        if needed.len() < view.tombstones.list.len() {
            self.commit_tombstones(view.tombstones.last, needed.into_iter())?;
        }
        Ok(())
    }
}
