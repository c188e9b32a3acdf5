//! A catalog made anew: what this store knows of its parts. See [`trefoil_parts::repair`].

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::path::Path;

use roaring::RoaringBitmap;
use trefoil_model::{SampleBuffer, StoreError, TimeRange};
use trefoil_parts::repair::{Adopted, Describe, PartPlace, RepairOptions, RepairReport};
use trefoil_parts::{CatalogState, FileMeta, PartId, PartMeta};
use trefoil_runtime::SharedVfs;

use crate::error::TsdbError;
use crate::flush::KIND;
use crate::part::PartReader;
use crate::part::layout::{BLOCKS_FILE, INDEX_FILE, VERSION};
use crate::store::{FLUSH_SEQUENCE, JOURNAL_SEQUENCE, NEXT_SERIES_ID, ROLLUP_MS, SEQUENCE_LAST};

struct Samples<'a> {
    vfs: &'a SharedVfs,
    dir: &'a Path,
    /// Highest id of a series in the parts that were looked at.
    highest_id: u64,
    /// Hash of the labels that each id stands for in the parts that were admitted.
    series: HashMap<u64, u64>,
    hasher: std::hash::RandomState,
}

impl Samples<'_> {
    fn open(&self, folder: &Path) -> Result<(PartReader, Vec<FileMeta>), String> {
        let mut files = Vec::new();
        let mut content = Vec::new();
        for name in [BLOCKS_FILE, INDEX_FILE] {
            let path = folder.join(name);
            let bytes = self.vfs.map(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            files.push(FileMeta { name: name.to_owned(), len: bytes.len() as u64, crc32c: crc32c::crc32c(&bytes) });
            content.push(bytes);
        }
        let index = content.pop().expect("two files were read");
        let blocks = content.pop().expect("two files were read");
        let reader =
            PartReader::open(folder.display().to_string(), index, blocks).map_err(|error| error.to_string())?;
        Ok((reader, files))
    }
}

impl Describe for Samples<'_> {
    fn describe(&mut self, place: &PartPlace) -> Result<PartMeta, String> {
        let (reader, files) = self.open(&place.folder)?;
        if reader.day() != place.partition {
            return Err(format!("it is of day {}, not {}", reader.day(), place.partition));
        }
        let (mut min_t, mut max_t, mut items, mut rollup_ms) = (i64::MAX, i64::MIN, 0, 0);
        let mut samples = SampleBuffer::default();
        for row in 0..reader.rows() {
            let (first, last) = reader.bounds(row).map_err(|error| error.to_string())?;
            (min_t, max_t) = (min_t.min(first), max_t.max(last));
            self.highest_id = self.highest_id.max(reader.id(row).map_err(|error| error.to_string())?.0);
            samples.clear();
            // A damaged block does not keep the others out; it is an error when it is read.
            if reader.read(row, TimeRange::ALL, &mut samples).is_ok() {
                items += samples.len() as u64;
                rollup_ms = samples.rollups.iter().map(|r| r.interval_ms).fold(rollup_ms, i64::max);
            }
        }
        if reader.rows() == 0 {
            return Err("it holds no series".to_owned());
        }
        let id = place.id.0;
        let attributes = BTreeMap::from([(ROLLUP_MS.to_owned(), rollup_ms.to_string())]);
        Ok(PartMeta {
            id: PartId(id),
            tenant: place.tenant,
            partition: place.partition,
            level: 0,
            min_t,
            max_t,
            items,
            bytes: files.iter().map(|file| file.len).sum(),
            format: VERSION,
            kind: KIND.to_owned(),
            files,
            attributes,
            created_ms: max_t,
        })
    }

    /// A part that was set aside before the store went on may use ids that were given again since.
    fn admit(&mut self, folder: &Path, _: &PartMeta) -> Result<(), String> {
        // What is damaged says nothing of ids; reading it is an error for whoever needs it.
        let Ok((reader, _)) = self.open(folder) else { return Ok(()) };
        let (mut ids, mut conflict) = (Vec::new(), None);
        let all: RoaringBitmap = (0..reader.rows()).collect();
        // A damaged page says nothing either.
        let _read: Result<(), StoreError> = reader.for_each_labels(&all, &mut |row, labels| {
            let (id, hash) = (reader.id(row)?.0, self.hasher.hash_one(&labels));
            match self.series.get(&id) {
                Some(known) if *known != hash => conflict = Some(labels),
                _ => ids.push((id, hash)),
            }
            Ok(())
        });
        if let Some(labels) = conflict {
            return Err(format!("the number of its series {labels} is that of another series in another part"));
        }
        self.series.extend(ids);
        Ok(())
    }

    fn finish(&mut self, state: &mut CatalogState, adopted: &[Adopted]) {
        // It was of a commit that may be lost; what a merge took in since says nothing of the journal.
        state.attributes.remove(JOURNAL_SEQUENCE);
        let number = |text: Option<&String>| text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        // Whatever the commits say that are left: no id of a series that is there is given again.
        let moved: BTreeMap<PartId, &Path> = adopted.iter().map(|part| (part.id, part.folder.as_path())).collect();
        for meta in state.parts.values().filter(|meta| !meta.is_remote()) {
            let place = [meta.tenant.0.to_string(), meta.partition.to_string(), format!("{:020}", meta.id.0)];
            let place = place.iter().fold(self.dir.join("parts"), |path, name| path.join(name));
            if let Ok((reader, _)) = self.open(moved.get(&meta.id).copied().unwrap_or(&place)) {
                let ids = (0..reader.rows()).filter_map(|row| reader.id(row).ok());
                self.highest_id = ids.map(|id| id.0).fold(self.highest_id, u64::max);
            }
        }
        let next_id = number(state.attributes.get(NEXT_SERIES_ID)).max(self.highest_id.saturating_add(1));
        state.attributes.insert(NEXT_SERIES_ID.to_owned(), next_id.to_string());
        // A part that does not say when it was written counts as one of the flush with its own number, as parts always
        // did that say nothing. Flushes from now on are later than all of them.
        let mut last = number(state.attributes.get(FLUSH_SEQUENCE));
        for meta in state.parts.values() {
            last = last.max(meta.attributes.get(SEQUENCE_LAST).map_or(meta.id.0, |text| number(Some(text))));
        }
        state.attributes.insert(FLUSH_SEQUENCE.to_owned(), last.to_string());
    }
}

/// Makes the catalog of a store anew from its commits and parts, see [`trefoil_parts::repair::repair`]. `dir` is that of
/// the store; nobody may have it open. Where its journal begins is looked up.
pub fn repair(vfs: &SharedVfs, dir: &Path, options: RepairOptions) -> Result<RepairReport, TsdbError> {
    let journal = trefoil_journal::first_segment(vfs, &dir.join("journal"))?.into();
    let dir = dir.join("parts");
    let mut samples =
        Samples { vfs, dir: &dir, highest_id: 0, series: HashMap::new(), hasher: std::hash::RandomState::new() };
    Ok(trefoil_parts::repair::repair(vfs, &dir, &mut samples, RepairOptions { journal, ..options })?)
}
