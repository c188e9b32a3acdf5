//! Looks at everything in a part, for `trefoil tsdb verify`.

use roaring::RoaringBitmap;
use rustc_hash::{FxHashMap, FxHashSet};
use trefoil_model::{Labels, SampleBuffer, SeriesId, StoreError, TimeRange};

use super::PartReader;
use crate::matching::{LabelIndex, Wanted};
use crate::part::layout::{INDEX_FILE, PAGE_ROWS, Section};

const SECTIONS: [Section; 5] = [Section::Ids, Section::Offsets, Section::Bounds, Section::Hashes, Section::Pages];

impl PartReader {
    /// Where a row's blocks are in the file of blocks.
    pub(crate) fn row_bytes(&self, row: u32) -> Result<std::ops::Range<u64>, StoreError> {
        Ok(self.u64_at(Section::Offsets, row)?..self.u64_at(Section::Offsets, row + 1)?)
    }

    /// Checks every checksum, decodes every block, and checks orders, bounds and the index against the labels. `row`
    /// is told of every series. What is wrong goes to `found`; the rest is still looked at.
    pub(crate) fn verify(&self, row: &mut dyn FnMut(SeriesId, &Labels), found: &mut Vec<String>) {
        let index = |what: &str| format!("{}/{INDEX_FILE}: {what}", self.place);
        let mut whole = true;
        for section in SECTIONS {
            let range = self.contents.sections[section as usize].range();
            if self.section(section).is_err() {
                whole = false;
                let (a, b) = (range.start, range.end);
                found.push(index(&format!("bytes {a}..{b}: {} fail their checksum", section.name())));
            }
        }
        if !whole {
            // Without ids, offsets and pages there is nothing to go by.
            return;
        }
        let mut with_name: FxHashMap<String, u32> = FxHashMap::default();
        let mut before: Option<Labels> = None;
        let mut ids = FxHashSet::default();
        let mut end = self.row_bytes(0).map_or(0, |r| r.start);
        for page in 0..self.rows().div_ceil(PAGE_ROWS) {
            let mut rows = Vec::new();
            if let Err(error) = self.read_page(page, &mut |_| true, &mut |r, labels| rows.push((r, labels))) {
                let bytes =
                    self.u64_at(Section::Pages, page).and_then(|a| Ok(a..self.u64_at(Section::Pages, page + 1)?));
                let bytes = bytes.map(|r| format!(" (bytes {}..{})", r.start, r.end)).unwrap_or_default();
                found.push(format!("{error}{bytes}"));
                // The labels are lost, the samples may be whole.
                let first = page * PAGE_ROWS;
                for r in first..self.rows().min(first + PAGE_ROWS) {
                    self.verify_samples(r, None, &mut end, found);
                }
                before = None;
                continue;
            }
            for (r, labels) in rows {
                if before.as_ref().is_some_and(|b| *b >= labels) {
                    found.push(index(&format!("row {r}: labels {labels} are not in order")));
                }
                for (name, _) in &labels {
                    match with_name.get_mut(name) {
                        Some(n) => *n += 1,
                        None => drop(with_name.insert(name.to_owned(), 1)),
                    }
                }
                match self.id(r) {
                    Ok(id) if !ids.insert(id) => found.push(index(&format!("row {r}: id {} stands twice", id.0))),
                    Ok(id) => row(id, &labels),
                    Err(error) => found.push(error.to_string()),
                }
                if !matches!(self.find(&labels), Ok(Some(_))) {
                    found.push(index(&format!("row {r}: {labels} is not found by its hash")));
                }
                self.verify_samples(r, Some(&labels), &mut end, found);
                before = Some(labels);
            }
        }
        self.verify_dictionaries(&with_name, found);
    }

    fn verify_samples(&self, row: u32, labels: Option<&Labels>, end: &mut u64, found: &mut Vec<String>) {
        let name = labels.map_or_else(|| format!("row {row}"), Labels::to_string);
        let mut samples = SampleBuffer::default();
        let read = self.row_bytes(row).and_then(|bytes| {
            let begin = std::mem::replace(end, bytes.end);
            if bytes.start != begin || bytes.end < bytes.start {
                found.push(format!("{}/{INDEX_FILE}: row {row}: its blocks do not follow those before", self.place));
            }
            self.read(row, TimeRange::ALL, &mut samples)
        });
        if let Err(error) = read {
            return found.push(format!("{error} (of {name})"));
        }
        let ends = samples.times.first().copied().zip(samples.times.last().copied());
        if samples.times.windows(2).any(|w| w[0] >= w[1]) {
            found.push(format!("{}: times of {name} do not ascend", self.place));
        }
        match (self.bounds(row), ends) {
            (Ok(bounds), Some(ends)) if bounds == ends => {}
            (Err(error), _) => found.push(error.to_string()),
            _ => found.push(format!("{}/{INDEX_FILE}: row {row}: bounds are not those of the samples", self.place)),
        }
    }

    fn verify_dictionaries(&self, with_name: &FxHashMap<String, u32>, found: &mut Vec<String>) {
        for (at, entry) in self.contents.names.iter().enumerate() {
            let range = entry.values.range();
            let place = format!("label {:?}, dictionary in bytes {}..{}", entry.name, range.start, range.end);
            if self.dictionary(at).is_err() {
                found.push(format!("{}/{INDEX_FILE}: {place}: fails its checksum", self.place));
                continue;
            }
            let mut rows = RoaringBitmap::new();
            let values = self.for_each_value(&entry.name, &Wanted::All, &mut |_, postings_at| {
                rows |= self.postings(postings_at)?;
                Ok(())
            });
            let check = values.and_then(|()| Ok(self.rows_with_name(&entry.name)? == rows));
            match check {
                Err(error) => found.push(error.to_string()),
                Ok(true) if with_name.get(&entry.name).is_none_or(|n| u64::from(*n) == rows.len()) => {}
                Ok(_) => {
                    found.push(format!("{}/{INDEX_FILE}: {place}: does not agree with the series", self.place));
                }
            }
        }
    }
}
