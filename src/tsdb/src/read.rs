//! Queries: series of memtables and parts, brought together; samples of one series, merged by time.

mod few;
mod first_labels;
mod growing;
mod merge;
mod salvage;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;
use trefoil_model::{
    Exemplar, Labels, MetricMetadata, MetricReader, QueryBudget, Rollup, SampleBuffer, SelectRequest, SelectedSeries,
    SeriesSource, StoreError, TenantId, TimeRange,
};

use self::growing::Growing;
pub(crate) use self::merge::merge_buffers;
pub use self::salvage::{LeftOut, Salvage};
use crate::downsample::{dedup, whole_intervals, without};
use crate::matching::{LabelIndex, RowCheck, Rows, VALUES_PER_CHECK, Wanted, select_rows, wanted_values};
use crate::memtable::Memtable;
use crate::store::{Inner, OpenPart, Tsdb, View};
use crate::tombstones::Hidden;

/// Series after which a query looks at its deadline.
const SERIES_PER_CHECK: usize = 256;

/// Where samples of a series are.
#[derive(Clone)]
enum Piece {
    /// With what is hidden of the row.
    Part(Arc<OpenPart>, u32, Option<Arc<Hidden>>),
    Memtable(Arc<Memtable>, u32),
}

impl Piece {
    /// Its place in the order of writing.
    fn written(&self) -> (bool, u64) {
        match self {
            Self::Part(part, ..) => (false, part.sequence.1),
            Self::Memtable(memtable, _) => (true, u64::from(memtable.epoch())),
        }
    }
}

/// A series of a query's answer.
struct Handle {
    /// In the order in which their samples were written: of equal times the later piece wins.
    pieces: Vec<Piece>,
    /// Retention: nothing before is answered.
    visible_from_ms: i64,
    dedup_ms: Option<i64>,
}

impl SeriesSource for Handle {
    fn read(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), StoreError> {
        let range = TimeRange::new(range.start_ms.max(self.visible_from_ms), range.end_ms);
        let Some(interval_ms) = self.dedup_ms else { return self.read_all(range, out) };
        if range.start_ms >= range.end_ms {
            return Ok(());
        }
        let mut samples = SampleBuffer::default();
        self.read_all(whole_intervals(range, interval_ms), &mut samples)?;
        dedup(&samples, interval_ms, range, out);
        Ok(())
    }
}

impl Handle {
    fn read_all(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), StoreError> {
        if let [Piece::Part(part, row, hidden)] = &self.pieces[..] {
            return read_part(part, *row, hidden.as_deref(), range, out);
        }
        if let [Piece::Memtable(memtable, row)] = &self.pieces[..] {
            return read_memtable(memtable, *row, range, out);
        }
        let mut sources = Vec::with_capacity(self.pieces.len());
        for (rank, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Part(part, row, _) => {
                    let (mut min_t, mut max_t) = part.index()?.bounds(*row)?;
                    if part.rollup_ms > 0 {
                        // What others have inside its buckets is counted there.
                        min_t = Rollup::bucket_of(part.rollup_ms, min_t).0.saturating_add(1);
                        max_t = Rollup::bucket_of(part.rollup_ms, max_t).1;
                    }
                    if range.overlaps(min_t, max_t) {
                        sources.push(Source { min_t, max_t, rank, samples: None, piece });
                    }
                }
                // Memtables change while we look: what is read once counts.
                Piece::Memtable(memtable, row) => {
                    let mut samples = SampleBuffer::default();
                    read_memtable(memtable, *row, range, &mut samples)?;
                    if let (Some(min_t), Some(max_t)) = (samples.times.first(), samples.times.last()) {
                        let (min_t, max_t) = (*min_t, *max_t);
                        sources.push(Source { min_t, max_t, rank, samples: Some(samples), piece });
                    }
                }
            }
        }
        sources.sort_by_key(|s| (s.min_t, s.rank));
        let mut rest = sources.as_mut_slice();
        while !rest.is_empty() {
            let mut end = rest[0].max_t;
            let mut n = 1;
            while n < rest.len() && rest[n].min_t <= end {
                end = end.max(rest[n].max_t);
                n += 1;
            }
            let (together, after) = rest.split_at_mut(n);
            read_together(together, range, out)?;
            rest = after;
        }
        Ok(())
    }
}

struct Source<'a> {
    min_t: i64,
    max_t: i64,
    rank: usize,
    samples: Option<SampleBuffer>,
    piece: &'a Piece,
}

/// Reads sources whose times overlap.
fn read_together(sources: &mut [Source<'_>], range: TimeRange, out: &mut SampleBuffer) -> Result<(), StoreError> {
    if let [Source { piece: Piece::Part(part, row, hidden), .. }] = sources {
        return read_part(part, *row, hidden.as_deref(), range, out);
    }
    sources.sort_by_key(|s| s.rank);
    let mut buffers = Vec::with_capacity(sources.len());
    for s in sources {
        buffers.push(match (s.samples.take(), s.piece) {
            (Some(samples), _) => samples,
            (None, Piece::Part(part, row, hidden)) => {
                let mut samples = SampleBuffer::default();
                read_part(part, *row, hidden.as_deref(), range, &mut samples)?;
                samples
            }
            (None, Piece::Memtable(..)) => unreachable!("memtables are read before"),
        });
    }
    merge_buffers(&buffers, out);
    Ok(())
}

fn read_part(
    part: &OpenPart,
    row: u32,
    hidden: Option<&Hidden>,
    range: TimeRange,
    out: &mut SampleBuffer,
) -> Result<(), StoreError> {
    let Some(hidden) = hidden else { return read_row(part, row, range, out) };
    let mut samples = SampleBuffer::default();
    read_row(part, row, range, &mut samples)?;
    merge_buffers(&[without(&samples, &hidden.ranges(row))], out);
    Ok(())
}

/// Reads a row; once more when the damage is that of a cached file, which is then fetched again.
fn read_row(part: &OpenPart, row: u32, range: TimeRange, out: &mut SampleBuffer) -> Result<(), StoreError> {
    let reader = part.reader()?;
    if !part.meta.is_remote() {
        return reader.read(row, range, out);
    }
    let mut samples = SampleBuffer::default();
    let is_first = out.is_empty();
    let into = if is_first { &mut *out } else { &mut samples };
    match reader.read(row, range, into) {
        Err(StoreError::Corrupt(what)) => {
            let again = part.reader_after_damage(Some(reader)).ok_or(StoreError::Corrupt(what))??;
            into.clear();
            again.read(row, range, into)?;
        }
        other => other?,
    }
    if !is_first {
        merge_buffers(&[samples], out);
    }
    Ok(())
}

fn read_memtable(memtable: &Memtable, row: u32, range: TimeRange, out: &mut SampleBuffer) -> Result<(), StoreError> {
    memtable.read(row, range, out).map_err(|e| StoreError::Corrupt(format!("memtable row {row}: {e}")))
}

impl View {
    /// Frozen before active: that is the order of writing.
    fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        self.frozen.iter().map(|f| &f.memtable).chain([&self.active])
    }

    fn parts_of(&self, tenant: TenantId, range: TimeRange) -> impl Iterator<Item = &Arc<OpenPart>> {
        self.parts.iter().filter(move |p| p.overlaps(tenant, range))
    }
}

/// The rows of a part that match and have samples in the range.
fn part_rows(part: &OpenPart, request: &SelectRequest, budget: &dyn QueryBudget) -> Result<RoaringBitmap, StoreError> {
    let reader = part.index()?;
    let rows = select_rows(reader, &request.matchers, budget)?;
    if request.range.contains(part.meta.min_t) && request.range.contains(part.meta.max_t) {
        return Ok(rows);
    }
    let mut inside = RoaringBitmap::new();
    for row in rows {
        let (min_t, max_t) = reader.bounds(row)?;
        if request.range.overlaps(min_t, max_t) {
            inside.insert(row);
        }
    }
    Ok(inside)
}

/// The rows of a memtable that match and may have samples in the range, and whether it is known that all have.
fn memtable_rows(
    memtable: &Memtable,
    request: &SelectRequest,
    budget: &dyn QueryBudget,
) -> Result<(RoaringBitmap, bool), StoreError> {
    let Some(index) = memtable.index(request.tenant) else { return Ok((RoaringBitmap::new(), true)) };
    let rows = {
        let index = index.read();
        let active = index.active_rows(request.range);
        if request.matchers.is_empty() { active } else { select_rows(&*index, &request.matchers, budget)? & active }
    };
    let all = memtable.times().is_some_and(|(min, max)| request.range.contains(min) && request.range.contains(max));
    Ok((rows, all))
}

/// Looks at an index and those of its rows that are asked for; `None` for all.
type LookAtIndex<'a> = dyn FnMut(&dyn LabelIndex, Option<&Rows<'_>>) -> Result<(), StoreError> + 'a;

/// A series and where its samples are.
type Found = (Labels, Vec<Piece>);

/// What a selected series takes besides its labels: its places in list and table, and where its samples are.
const SERIES_BYTES: usize = 192;

#[derive(Default)]
struct Selection {
    by_id: FxHashMap<u64, usize>,
    series: Vec<Found>,
    /// True while nothing but rows of one part was added, which come sorted and each once.
    is_sorted: bool,
}

impl Selection {
    fn add(
        &mut self,
        id: u64,
        piece: Piece,
        budget: &dyn QueryBudget,
        labels: impl FnOnce() -> Labels,
    ) -> Result<(), StoreError> {
        match self.by_id.get(&id) {
            Some(at) => {
                budget.charge_bytes(size_of::<Piece>() as u64)?;
                self.series[*at].1.push(piece);
            }
            None => {
                budget.charge_series(1)?;
                if self.series.len().is_multiple_of(SERIES_PER_CHECK) {
                    budget.check()?;
                }
                let labels = labels();
                budget.charge_bytes((SERIES_BYTES + labels.heap_bytes()) as u64)?;
                self.is_sorted = false;
                self.by_id.insert(id, self.series.len());
                self.series.push((labels, vec![piece]));
            }
        }
        Ok(())
    }

    fn add_part(
        &mut self,
        part: &Arc<OpenPart>,
        rows: &RoaringBitmap,
        hidden: Option<&Arc<Hidden>>,
        budget: &dyn QueryBudget,
    ) -> Result<(), StoreError> {
        let reader = part.index()?;
        let hidden = |row| hidden.filter(|h| h.touched.contains(row)).cloned();
        let (mut unknown, mut ids) = (Vec::new(), Vec::new());
        for row in rows {
            let id = reader.id(row)?.0;
            match self.by_id.get(&id) {
                Some(at) => {
                    budget.charge_bytes(size_of::<Piece>() as u64)?;
                    self.series[*at].1.push(Piece::Part(Arc::clone(part), row, hidden(row)));
                }
                None => {
                    unknown.push(row);
                    ids.push(id);
                }
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        // Before their labels take memory.
        budget.charge_series(unknown.len() as u64)?;
        budget.charge_bytes((unknown.len() * SERIES_BYTES) as u64)?;
        let labels = reader.labels_of(&unknown, &|| Ok(budget.check()?))?;
        budget.charge_bytes(labels.iter().map(Labels::heap_bytes).sum::<usize>() as u64)?;
        self.is_sorted = self.series.is_empty();
        self.by_id.reserve(unknown.len());
        self.series.reserve(unknown.len());
        for ((row, id), labels) in unknown.into_iter().zip(ids).zip(labels) {
            self.by_id.insert(id, self.series.len());
            self.series.push((labels, vec![Piece::Part(Arc::clone(part), row, hidden(row))]));
        }
        Ok(())
    }

    fn add_memtable(
        &mut self,
        memtable: &Arc<Memtable>,
        rows: Vec<u32>,
        budget: &dyn QueryBudget,
    ) -> Result<(), StoreError> {
        for row in rows {
            let series = memtable.with_row(row, |r| Arc::clone(&r.series));
            self.add(series.id.0, Piece::Memtable(Arc::clone(memtable), row), budget, || series.labels.clone())?;
        }
        Ok(())
    }

    /// Sorted by labels, each once.
    fn finish(mut self) -> Vec<Found> {
        if self.is_sorted {
            return self.series;
        }
        // Stable, because rows of a part come sorted and such runs cost nothing.
        self.series.sort_by(|a, b| a.0.cmp(&b.0));
        self.series.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                // An id was lost with a damaged file and the series got another one.
                first.1.append(&mut later.1);
                first.1.sort_by_key(Piece::written);
            }
            same
        });
        self.series
    }
}

impl Inner {
    /// The request, cut to what retention leaves of any series.
    fn visible(&self, request: &SelectRequest) -> SelectRequest {
        let mut request = request.clone();
        let earliest = self.lifecycle.load().earliest(self.options.clock.now_ms());
        request.range.start_ms = request.range.start_ms.max(earliest);
        request
    }

    /// The rows of a part that match and have visible samples in the range, and what is hidden of the part.
    fn visible_rows(
        &self,
        view: &View,
        part: &OpenPart,
        request: &SelectRequest,
        budget: &dyn QueryBudget,
    ) -> Result<(RoaringBitmap, Option<Arc<Hidden>>), StoreError> {
        let mut rows = part_rows(part, request, budget)?;
        let hidden = part.hidden(&view.tombstones)?;
        part.hide(&mut rows, hidden.as_deref(), &self.lifecycle.load_full(), self.options.clock.now_ms())?;
        Ok((rows, hidden))
    }

    /// The rows of a memtable that match and may have visible samples in the range, and what tells which have.
    fn visible_memtable_rows<'a>(
        &self,
        memtable: &'a Memtable,
        request: &SelectRequest,
        budget: &dyn QueryBudget,
    ) -> Result<(RoaringBitmap, RowCheck<'a>), StoreError> {
        let (rows, all) = memtable_rows(memtable, request, budget)?;
        let (life, now_ms, range) = (self.lifecycle.load_full(), self.options.clock.now_ms(), request.range);
        if life.has_rules() && life.kept_by_all(now_ms) > range.start_ms {
            let is_visible = move |row| {
                memtable.with_row(row, |r| {
                    let start = life.visible_from(&r.series.labels, now_ms).max(range.start_ms);
                    r.overlaps(TimeRange::new(start, range.end_ms))
                })
            };
            return Ok((rows, Some(Box::new(is_visible))));
        }
        if all {
            return Ok((rows, None));
        }
        Ok((rows, Some(Box::new(move |row| memtable.with_row(row, |r| r.overlaps(range))))))
    }

    fn select(&self, requests: &[SelectRequest], budget: &dyn QueryBudget) -> Result<Vec<Found>, StoreError> {
        let view = self.view.load_full();
        let mut selections = Vec::new();
        for request in requests {
            let request = self.visible(request);
            let mut selection = Selection::default();
            for part in view.parts_of(request.tenant, request.range) {
                budget.check()?;
                let mut add = || {
                    let (rows, hidden) = self.visible_rows(&view, part, &request, budget)?;
                    selection.add_part(part, &rows, hidden.as_ref(), budget)
                };
                match add() {
                    Err(StoreError::Corrupt(what)) => {
                        part.reader_after_damage(part.index().ok()).ok_or(StoreError::Corrupt(what))??;
                        add()?;
                    }
                    other => other?,
                }
            }
            for memtable in view.memtables() {
                budget.check()?;
                let (rows, check) = self.visible_memtable_rows(memtable, &request, budget)?;
                let rows = memtable.ordered(request.tenant, Rows::new(rows, check).all());
                selection.add_memtable(memtable, rows, budget)?;
            }
            selections.push(selection.finish());
        }
        match selections.len() {
            1 => Ok(selections.pop().expect("there is one")),
            _ => {
                let mut all: Vec<_> = selections.into_iter().flatten().collect();
                all.sort_by(|a, b| a.0.cmp(&b.0));
                all.dedup_by(|a, b| a.0 == b.0);
                Ok(all)
            }
        }
    }

    /// Calls `each` with every index that overlaps and those rows that a request selects; `None` for all rows.
    fn for_each_index(
        &self,
        tenant: TenantId,
        range: TimeRange,
        requests: &[SelectRequest],
        budget: &dyn QueryBudget,
        each: &mut LookAtIndex<'_>,
    ) -> Result<(), StoreError> {
        let view = self.view.load_full();
        let all = SelectRequest { tenant, matchers: Vec::new(), range };
        let requests: Vec<SelectRequest> = match requests {
            [] => vec![self.visible(&all)],
            some => some.iter().map(|r| self.visible(r)).collect(),
        };
        for part in &view.parts {
            budget.check()?;
            let overlapping: Vec<_> = requests.iter().filter(|r| part.overlaps(r.tenant, r.range)).collect();
            if overlapping.is_empty() {
                continue;
            }
            let reader = part.index()?;
            let hidden = part.hidden(&view.tombstones)?;
            let unreadable = RefCell::new(None);
            let mut found = Vec::new();
            for r in overlapping {
                let mut rows = select_rows(reader, &r.matchers, budget)?;
                part.hide(&mut rows, hidden.as_deref(), &self.lifecycle.load_full(), self.options.clock.now_ms())?;
                let check: RowCheck<'_> = if r.range.contains(part.meta.min_t) && r.range.contains(part.meta.max_t) {
                    None
                } else {
                    Some(Box::new(|row| match reader.bounds(row) {
                        Ok((min_t, max_t)) => r.range.overlaps(min_t, max_t),
                        Err(e) => {
                            unreadable.borrow_mut().get_or_insert(e);
                            true
                        }
                    }))
                };
                found.push((rows, check));
            }
            let is_all = |(rows, check): &(RoaringBitmap, RowCheck<'_>)| {
                check.is_none() && rows.len() == u64::from(reader.rows())
            };
            if found.iter().any(is_all) {
                each(reader, None)?;
                continue;
            }
            let rows = any_of(found);
            if !rows.is_empty() {
                each(reader, Some(&rows))?;
            }
            drop(rows);
            if let Some(e) = unreadable.into_inner() {
                return Err(e);
            }
        }
        for memtable in view.memtables() {
            budget.check()?;
            let tenants: BTreeSet<TenantId> = requests.iter().map(|r| r.tenant).collect();
            for tenant in tenants {
                let Some(index) = memtable.index(tenant) else { continue };
                let mut found = Vec::new();
                for r in requests.iter().filter(|r| r.tenant == tenant) {
                    found.push(self.visible_memtable_rows(memtable, r, budget)?);
                }
                let rows = any_of(found);
                if !rows.is_empty() {
                    each(&*index.read(), Some(&rows))?;
                }
            }
        }
        Ok(())
    }
}

/// Rows that one of several requests selects.
fn any_of(mut found: Vec<(RoaringBitmap, RowCheck<'_>)>) -> Rows<'_> {
    if found.len() == 1 {
        let (rows, check) = found.pop().expect("there is one");
        return Rows::new(rows, check);
    }
    let mut all = RoaringBitmap::new();
    for (rows, _) in &found {
        all |= rows;
    }
    if found.iter().all(|(_, check)| check.is_none()) {
        return Rows::new(all, None);
    }
    let one = move |row| found.iter().any(|(rows, check)| rows.contains(row) && check.as_ref().is_none_or(|c| c(row)));
    Rows::new(all, Some(Box::new(one)))
}

/// The smallest texts of a set that may have more than `limit` (0: no limit).
struct Smallest<'a> {
    /// Ascending.
    texts: Vec<String>,
    limit: usize,
    memory: Growing<'a>,
}

/// What a text takes besides its bytes: its place in two lists, and what the allocator rounds up.
const TEXT_BYTES: usize = 2 * size_of::<String>() + 16;

impl<'a> Smallest<'a> {
    fn new(limit: usize, budget: &'a dyn QueryBudget) -> Self {
        let limit = if limit == 0 { usize::MAX - 1 } else { limit };
        Self { texts: Vec::new(), limit, memory: Growing::new(budget) }
    }

    /// Adds texts that `each` hands over ascending.
    fn merge(
        &mut self,
        each: impl FnOnce(&mut dyn FnMut(&str) -> Result<(), StoreError>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // One more than asked for, so that we know of it.
        let most = self.limit + 1;
        let mut before = std::mem::take(&mut self.texts).into_iter().peekable();
        let (texts, memory) = (&mut self.texts, &mut self.memory);
        each(&mut |text| {
            while texts.len() < most
                && let Some(smaller) = before.next_if(|b| b.as_str() < text)
            {
                texts.push(smaller);
            }
            if texts.len() < most {
                let known = before.next_if(|b| b == text);
                if known.is_none() {
                    memory.take(TEXT_BYTES + text.len())?;
                }
                texts.push(known.unwrap_or_else(|| text.to_owned()));
            }
            Ok(())
        })?;
        let room = most - self.texts.len();
        self.texts.extend(before.by_ref().take(room));
        self.memory.give(before.map(|text| TEXT_BYTES + text.len()).sum());
        Ok(())
    }

    fn finish(mut self) -> (Vec<String>, bool) {
        let cut = self.texts.len() > self.limit;
        self.texts.truncate(self.limit);
        (self.texts, cut)
    }
}

impl MetricReader for Tsdb {
    fn select(&self, request: &SelectRequest, budget: &dyn QueryBudget) -> Result<Vec<SelectedSeries>, StoreError> {
        let (life, now_ms) = (self.inner.lifecycle.load_full(), self.inner.options.clock.now_ms());
        let series = self.inner.select(std::slice::from_ref(request), budget)?;
        let earliest = life.earliest(now_ms);
        let handle = |(labels, pieces): Found| {
            let visible_from_ms = if life.has_rules() { life.visible_from(&labels, now_ms) } else { earliest };
            let source = Handle { pieces, visible_from_ms, dedup_ms: life.dedup_ms };
            SelectedSeries { labels, source: Arc::new(source) }
        };
        Ok(series.into_iter().map(handle).collect())
    }

    fn series(
        &self,
        requests: &[SelectRequest],
        limit: usize,
        budget: &dyn QueryBudget,
    ) -> Result<(Vec<Labels>, bool), StoreError> {
        if limit != 0 {
            return self.inner.first_labels(requests, limit, budget);
        }
        Ok((self.inner.select(requests, budget)?.into_iter().map(|(labels, _)| labels).collect(), false))
    }

    fn label_names(
        &self,
        tenant: TenantId,
        range: TimeRange,
        requests: &[SelectRequest],
        limit: usize,
        budget: &dyn QueryBudget,
    ) -> Result<(Vec<String>, bool), StoreError> {
        let mut names = Smallest::new(limit, budget);
        self.inner.for_each_index(tenant, range, requests, budget, &mut |index, rows| {
            names.merge(|add| index.names(rows, add))
        })?;
        Ok(names.finish())
    }

    fn label_values(
        &self,
        tenant: TenantId,
        name: &str,
        range: TimeRange,
        requests: &[SelectRequest],
        limit: usize,
        budget: &dyn QueryBudget,
    ) -> Result<(Vec<String>, bool), StoreError> {
        let mut values = Smallest::new(limit, budget);
        let mut seen = 0u32;
        // One pattern on the label itself says which values to look at.
        let wanted = match requests {
            [request] => wanted_values(&request.matchers, name),
            _ => Wanted::All,
        };
        self.inner.for_each_index(tenant, range, requests, budget, &mut |index, rows| {
            values.merge(|add| {
                index.values(name, &wanted, rows, &mut |value| {
                    seen = seen.wrapping_add(1);
                    if seen.is_multiple_of(VALUES_PER_CHECK) {
                        budget.check()?;
                    }
                    add(value)
                })
            })
        })?;
        Ok(values.finish())
    }

    fn exemplars(
        &self,
        requests: &[SelectRequest],
        budget: &dyn QueryBudget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError> {
        let requests: Vec<SelectRequest> = requests.iter().map(|r| self.inner.visible(r)).collect();
        self.inner.exemplars.lock().select(&requests, budget)
    }

    fn metadata(&self, tenant: TenantId, name: Option<&str>, limit: usize) -> Vec<MetricMetadata> {
        self.inner.metadata.lock().select(tenant, name, limit)
    }

    fn active_series(&self) -> u64 {
        let view = self.inner.view.load();
        view.memtables().map(|m| m.series()).max().unwrap_or(0)
    }

    fn is_in_memory(&self, tenant: TenantId, range: TimeRange) -> bool {
        self.inner.is_in_memory(tenant, range)
    }

    fn selects_few(&self, request: &SelectRequest, series_max: u64, budget: &dyn QueryBudget) -> bool {
        self.inner.selects_few(request, series_max, budget)
    }

    fn coarsest_interval_ms(&self, tenant: TenantId, range: TimeRange) -> i64 {
        let view = self.inner.view.load();
        let near = |p: &&Arc<OpenPart>| {
            let margin = p.rollup_ms.saturating_mul(2);
            let wide = TimeRange::new(range.start_ms.saturating_sub(margin), range.end_ms.saturating_add(margin));
            p.rollup_ms > 0 && p.overlaps(tenant, wide)
        };
        view.parts.iter().filter(near).map(|p| p.rollup_ms).max().unwrap_or(0)
    }

    fn change_mark(&self) -> Option<u64> {
        Some(self.inner.changes.mark())
    }

    fn changed_from_ms(&self, mark: u64) -> i64 {
        // A sample may hide those before it in its dedup interval.
        match self.inner.changes.since(mark) {
            i64::MAX => i64::MAX,
            earliest => earliest.saturating_sub(self.inner.lifecycle.load().dedup_ms.unwrap_or(0)),
        }
    }

    fn settled_from_ms(&self) -> i64 {
        self.inner.lifecycle.load().kept_by_all(self.inner.options.clock.now_ms())
    }
}
