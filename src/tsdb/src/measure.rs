//! The formats by themselves, for benchmarks: a part in memory, without a store around it.

use std::collections::BTreeMap;

use bytes::Bytes;
use trefoil_model::{Labels, SampleBuffer, SeriesId, StoreError, TimeRange, time::day_of_ms};

use crate::encoding::Effort;
use crate::encoding::block::describe_blocks;
use crate::part::layout::{blocks_header, describe_index};
use crate::part::{PartBuilder, PartReader};

/// The two files of a part.
#[derive(Debug, Clone)]
pub struct PartFiles {
    /// The file `index`.
    pub index: Bytes,
    /// The file `blocks`.
    pub blocks: Bytes,
}

impl PartFiles {
    /// Writes series of one day, sorted by labels, as a flush (`merged` false) or as a merge does.
    pub fn encode(merged: bool, series: &[(Labels, SampleBuffer)]) -> Self {
        let mut blocks = blocks_header();
        let first = series.iter().find_map(|(_, samples)| samples.times.first());
        let mut builder = PartBuilder::new(day_of_ms(first.copied().unwrap_or(0)), blocks.len());
        builder.set_effort(if merged { Effort::Merged } else { Effort::Fresh });
        for (id, (labels, samples)) in series.iter().enumerate() {
            builder.add(SeriesId(id as u64), labels, samples, &mut blocks);
        }
        Self { index: builder.index().into(), blocks: blocks.into() }
    }

    /// Calls `each` with the samples of every series, in one buffer that is used again.
    ///
    /// # Errors
    /// When the files are damaged.
    pub fn decode(&self, mut each: impl FnMut(&SampleBuffer)) -> Result<(), StoreError> {
        let part = self.open()?;
        let mut samples = SampleBuffer::default();
        for row in 0..part.rows() {
            samples.clear();
            part.read(row, TimeRange::ALL, &mut samples)?;
            each(&samples);
        }
        Ok(())
    }

    /// All series with their samples.
    ///
    /// # Errors
    /// When the files are damaged.
    pub fn series(&self) -> Result<Vec<(Labels, SampleBuffer)>, StoreError> {
        let part = self.open()?;
        let mut all = Vec::new();
        for row in 0..part.rows() {
            let mut samples = SampleBuffer::default();
            part.read(row, TimeRange::ALL, &mut samples)?;
            all.push((part.labels(row)?, samples));
        }
        Ok(all)
    }

    /// Where the bytes are: for each kind of content how often it is there and how many bytes it has in all.
    pub fn describe(&self) -> BTreeMap<String, (u64, u64)> {
        let mut found = BTreeMap::new();
        describe_blocks(&self.blocks, &mut found);
        describe_index(&self.index, &mut found);
        found
    }

    fn open(&self) -> Result<PartReader, StoreError> {
        PartReader::open("part".to_owned(), self.index.clone(), self.blocks.clone())
    }
}
