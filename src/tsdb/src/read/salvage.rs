//! Reading past damage, for exports: what is whole is answered, what is not is noted.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use trefoil_model::{
    Exemplar, Labels, MetricMetadata, MetricReader, QueryBudget, SampleBuffer, SelectRequest, SelectedSeries,
    SeriesSource, StoreError, TenantId, TimeRange,
};

use super::{Found, Piece, Selection, merge_buffers, read_memtable, read_part};
use crate::downsample::{dedup, whole_intervals};
use crate::matching::Rows;
use crate::part::layout::PAGE_ROWS;
use crate::store::{OpenPart, Tsdb};

/// Places that are named one by one.
const PLACES_MAX: usize = 10_000;

/// Damage that kept samples out of answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The part.
    pub part: u64,
    /// UTC day of the part.
    pub day: i64,
    /// File and range, and what is wrong.
    pub place: String,
    /// Series of which something is left out because of this place.
    pub series: u64,
}

#[derive(Default)]
struct Notes {
    places: BTreeMap<(u64, String), (i64, std::collections::BTreeSet<u32>)>,
    cut: u64,
}

impl Notes {
    fn note(&mut self, part: &OpenPart, error: &StoreError, rows: impl IntoIterator<Item = u32>) {
        let key = (part.meta.id.0, trefoil_runtime::tasks::chain(error));
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&key) {
            self.cut += 1;
            return;
        }
        self.places.entry(key).or_insert_with(|| (part.meta.partition, Default::default())).1.extend(rows);
    }
}

/// A reader that leaves out what is damaged and says so. A part in an object store that is out of reach is an error, an
/// object that is missing or damaged is not.
pub struct Salvage<'a> {
    db: &'a Tsdb,
    notes: Arc<Mutex<Notes>>,
}

/// Says that a part cannot be read; one in an object store may be out of reach only, unless the store answered.
fn is_bad(part: &OpenPart, error: &StoreError) -> bool {
    use std::io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    match error {
        StoreError::Corrupt(_) => true,
        StoreError::Io { source, .. } => {
            !part.meta.is_remote() || matches!(source.kind(), InvalidData | NotFound | UnexpectedEof)
        }
        _ => false,
    }
}

/// A series that is read piece by piece when it cannot be read as a whole.
struct Source {
    whole: super::Handle,
    pieces: Vec<Piece>,
    notes: Arc<Mutex<Notes>>,
}

impl Source {
    fn read_pieces(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), StoreError> {
        let range = TimeRange::new(range.start_ms.max(self.whole.visible_from_ms), range.end_ms);
        if range.start_ms >= range.end_ms {
            return Ok(());
        }
        let wide = self.whole.dedup_ms.map_or(range, |interval_ms| whole_intervals(range, interval_ms));
        let mut buffers = Vec::new();
        for piece in &self.pieces {
            let mut samples = SampleBuffer::default();
            match piece {
                Piece::Part(part, row, hidden) => match read_part(part, *row, hidden.as_deref(), wide, &mut samples) {
                    Ok(()) => buffers.push(samples),
                    Err(error) if is_bad(part, &error) => self.notes.lock().note(part, &error, [*row]),
                    Err(error) => return Err(error),
                },
                Piece::Memtable(memtable, row) => {
                    read_memtable(memtable, *row, wide, &mut samples)?;
                    buffers.push(samples);
                }
            }
        }
        let Some(interval_ms) = self.whole.dedup_ms else {
            merge_buffers(&buffers, out);
            return Ok(());
        };
        let mut merged = SampleBuffer::default();
        merge_buffers(&buffers, &mut merged);
        dedup(&merged, interval_ms, range, out);
        Ok(())
    }
}

impl SeriesSource for Source {
    fn read(&self, range: TimeRange, out: &mut SampleBuffer) -> Result<(), StoreError> {
        let mut samples = SampleBuffer::default();
        match self.whole.read(range, &mut samples) {
            Ok(()) => merge_buffers(&[samples], out),
            Err(StoreError::Corrupt(_) | StoreError::Io { .. }) => self.read_pieces(range, out)?,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Tsdb {
    /// Returns a reader that leaves out what is damaged.
    pub fn salvage(&self) -> Salvage<'_> {
        Salvage { db: self, notes: Arc::default() }
    }
}

impl Salvage<'_> {
    /// Returns what was left out of the answers so far, and how many further places there were.
    pub fn left_out(&self) -> (Vec<LeftOut>, u64) {
        let notes = self.notes.lock();
        let places = notes.places.iter().map(|((part, place), (day, rows))| LeftOut {
            part: *part,
            day: *day,
            place: place.clone(),
            series: rows.len() as u64,
        });
        (places.collect(), notes.cut)
    }

    /// The series of a part, page by page: those of a damaged page are left out.
    fn add_part(
        &self,
        selection: &mut Selection,
        part: &Arc<OpenPart>,
        request: &SelectRequest,
        budget: &dyn QueryBudget,
    ) -> Result<(), StoreError> {
        let inner = &self.db.inner;
        let view = inner.view.load_full();
        let (rows, hidden) = match inner.visible_rows(&view, part, request, budget) {
            Ok(found) => found,
            Err(error) if is_bad(part, &error) => {
                let rows = part.index().map_or(0, |reader| reader.rows());
                self.notes.lock().note(part, &error, 0..rows);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut rest = rows;
        while let Some(first) = rest.min() {
            let end = (first / PAGE_ROWS + 1).saturating_mul(PAGE_ROWS);
            let mut page = RoaringBitmap::new();
            page.insert_range(first..end);
            page &= &rest;
            rest.remove_range(..end);
            match selection.add_part(part, &page, hidden.as_ref(), budget) {
                Ok(()) => {}
                Err(error) if is_bad(part, &error) => self.notes.lock().note(part, &error, &page),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl MetricReader for Salvage<'_> {
    fn select(&self, request: &SelectRequest, budget: &dyn QueryBudget) -> Result<Vec<SelectedSeries>, StoreError> {
        let inner = &self.db.inner;
        let (life, now_ms) = (inner.lifecycle.load_full(), inner.options.clock.now_ms());
        let request = inner.visible(request);
        let view = inner.view.load_full();
        let mut selection = Selection::default();
        for part in view.parts_of(request.tenant, request.range) {
            self.add_part(&mut selection, part, &request, budget)?;
        }
        for memtable in view.memtables() {
            let (rows, check) = inner.visible_memtable_rows(memtable, &request, budget)?;
            let rows = memtable.ordered(request.tenant, Rows::new(rows, check).all());
            selection.add_memtable(memtable, rows, budget)?;
        }
        let earliest = life.earliest(now_ms);
        let handle = |(labels, pieces): Found| {
            let visible_from_ms = if life.has_rules() { life.visible_from(&labels, now_ms) } else { earliest };
            let whole = super::Handle { pieces: pieces.clone(), visible_from_ms, dedup_ms: life.dedup_ms };
            let source = Source { whole, pieces, notes: Arc::clone(&self.notes) };
            SelectedSeries { labels, source: Arc::new(source) }
        };
        Ok(selection.finish().into_iter().map(handle).collect())
    }

    fn series(
        &self,
        requests: &[SelectRequest],
        limit: usize,
        budget: &dyn QueryBudget,
    ) -> Result<(Vec<Labels>, bool), StoreError> {
        self.db.series(requests, limit, budget)
    }

    fn label_names(
        &self,
        tenant: TenantId,
        range: TimeRange,
        requests: &[SelectRequest],
        limit: usize,
        budget: &dyn QueryBudget,
    ) -> Result<(Vec<String>, bool), StoreError> {
        self.db.label_names(tenant, range, requests, limit, budget)
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
        self.db.label_values(tenant, name, range, requests, limit, budget)
    }

    fn exemplars(
        &self,
        requests: &[SelectRequest],
        budget: &dyn QueryBudget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError> {
        self.db.exemplars(requests, budget)
    }

    fn metadata(&self, tenant: TenantId, name: Option<&str>, limit: usize) -> Vec<MetricMetadata> {
        self.db.metadata(tenant, name, limit)
    }

    fn active_series(&self) -> u64 {
        self.db.active_series()
    }

    fn coarsest_interval_ms(&self, tenant: TenantId, range: TimeRange) -> i64 {
        self.db.coarsest_interval_ms(tenant, range)
    }
}
