//! A receiver in memory, and folders to break things in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trefoil_model::{FloatHistogram, MetricBatch, WriteReport};
use trefoil_transfer::TransferError;
use trefoil_transfer::import::{BatchSink, ImportOptions, ImportReport, Importer};

/// Time, start timestamp, value bits or a histogram.
pub(crate) type Sample = (i64, i64, Result<u64, Arc<FloatHistogram>>);

/// Keeps what it gets, by the text of the labels.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) series: BTreeMap<String, Vec<Sample>>,
    pub(crate) exemplars: usize,
    pub(crate) metadata: usize,
}

impl BatchSink for Memory {
    fn write(&mut self, batch: MetricBatch) -> Result<WriteReport, TransferError> {
        let accepted = batch.sample_count() as u64;
        for f in &batch.floats {
            let of = self.series.entry(batch.series[f.series as usize].to_string()).or_default();
            of.push((f.t_ms, f.start_ms, Ok(f.value.to_bits())));
        }
        for h in &batch.histograms {
            let of = self.series.entry(batch.series[h.series as usize].to_string()).or_default();
            of.push((h.t_ms, h.start_ms, Err(Arc::clone(&h.value))));
        }
        self.exemplars += batch.exemplars.len();
        self.metadata += batch.metadata.len();
        Ok(WriteReport { accepted, ..WriteReport::default() })
    }
}

/// Runs an import into memory.
pub(crate) fn import(
    options: ImportOptions,
    work: impl FnOnce(&mut Importer<'_>) -> Result<(), TransferError>,
) -> (Memory, Result<ImportReport, TransferError>) {
    let mut memory = Memory::default();
    let mut quiet = |_: &str| {};
    let mut importer = Importer::new(options, &mut memory, &mut quiet);
    let report = match work(&mut importer) {
        Ok(()) => importer.finish(),
        Err(e) => Err(e),
    };
    (memory, report)
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A copy of a folder below the system's temporary folder, removed when dropped.
pub(crate) struct Copy(pub(crate) PathBuf);

impl Copy {
    pub(crate) fn of(from: &Path, name: &str) -> Self {
        let to = std::env::temp_dir().join(format!("trefoil-transfer-{}-{name}", std::process::id()));
        copy(from, &to);
        Self(to)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What stays behind is in the temporary folder.
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::write(to, std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// All files below a folder.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
