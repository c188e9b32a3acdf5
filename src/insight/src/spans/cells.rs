//! A bounded table of what is counted by label values: counters and durations, with an exemplar.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
use trefoil_model::{SpanId, TraceId};

use super::durations::{Durations, HistogramKind};

/// Label values, in the order of the names of the table.
pub(crate) type Values = Arc<[Box<str>]>;

/// A span that stands for others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Example {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) seconds: f64,
    /// Unix milliseconds.
    pub(crate) t_ms: i64,
}

/// What is counted for some label values.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) values: Values,
    pub(crate) counters: [u64; 2],
    pub(crate) durations: [Durations; 2],
    /// For each of the durations the longest since the last cut.
    pub(crate) examples: [Option<Example>; 2],
    /// When it changed last, on the monotonic clock.
    touched: Duration,
    /// The cut that has its last change.
    changed_in: u64,
    /// The cut that has it first.
    first_in: u64,
    /// When it was not yet there, in Unix milliseconds.
    born_ms: i64,
}

impl Cell {
    /// Counts a duration of one side, and keeps its span as example when it is the longest.
    pub(crate) fn observe(&mut self, side: usize, ns: u64, bounds: &[f64], example: Option<Example>) {
        self.durations[side].observe(ns, bounds);
        let Some(example) = example else { return };
        if self.examples[side].is_none_or(|known| known.seconds < example.seconds) {
            self.examples[side] = Some(example);
        }
    }
}

/// A cell as it stood at a cut.
#[derive(Debug, Clone)]
pub(crate) struct CellCut {
    pub(crate) values: Values,
    pub(crate) counters: [u64; 2],
    pub(crate) durations: [Durations; 2],
    pub(crate) examples: [Option<Example>; 2],
    /// When it was not yet there, in Unix milliseconds.
    pub(crate) born_ms: i64,
    /// Whether a sample of zero at `born_ms` is still to be written.
    pub(crate) is_new: bool,
    /// Whether it is gone since.
    pub(crate) has_ended: bool,
}

/// Where a cut is taken.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moment {
    /// Now, on the monotonic clock.
    pub(crate) now: Duration,
    /// When the last cut was taken, or the start, in Unix milliseconds.
    pub(crate) last_ms: i64,
    /// Number of the next cut.
    pub(crate) next_cut: u64,
    /// Number of the last cut that was written.
    pub(crate) written: u64,
}

/// Cells by label values.
#[derive(Debug)]
pub(crate) struct Cells {
    index: HashTable<u32>,
    cells: Vec<Option<Cell>>,
    free: Vec<u32>,
    /// Cells that are gone, until the cut that says so is written.
    ended: Vec<(u64, CellCut)>,
    kind: HistogramKind,
    bounds: Arc<[f64]>,
    /// How many of the durations of a cell are in use.
    sides: usize,
}

fn hash_of<'a>(values: impl Iterator<Item = &'a str>) -> u64 {
    let mut hasher = FxBuildHasher.build_hasher();
    for value in values {
        hasher.write(value.as_bytes());
        hasher.write_u8(0xff);
    }
    hasher.finish()
}

impl Cells {
    pub(crate) fn new(kind: HistogramKind, bounds: Arc<[f64]>, sides: usize) -> Self {
        let (index, cells, free, ended) = (HashTable::new(), Vec::new(), Vec::new(), Vec::new());
        Self { index, cells, free, ended, kind, bounds, sides }
    }

    /// Number of cells.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// The number of the cell of some values, which is made when there are fewer than `cells_max`.
    pub(crate) fn number(&mut self, values: &[&str], cells_max: usize, at: &Moment) -> Option<u32> {
        let hash = hash_of(values.iter().copied());
        let found = self.index.find(hash, |number| {
            let cell = self.cells[*number as usize].as_ref().expect("the index names cells that are there");
            cell.values.iter().map(|value| &**value).eq(values.iter().copied())
        });
        match found.copied() {
            Some(number) => Some(number),
            None if self.index.len() >= cells_max => None,
            None => Some(self.add(values, hash, at)),
        }
    }

    /// The cell of a number that [`Self::number`] just gave, to be changed.
    pub(crate) fn change(&mut self, number: u32, at: &Moment) -> &mut Cell {
        let cell = self.cells[number as usize].as_mut().expect("the number is of a cell that is there");
        cell.touched = at.now;
        cell.changed_in = at.next_cut;
        cell
    }

    fn add(&mut self, values: &[&str], hash: u64, at: &Moment) -> u32 {
        let durations = |side: usize| match side < self.sides {
            true => Durations::new(self.kind, &self.bounds),
            false => Durations::default(),
        };
        let cell = Cell {
            values: values.iter().map(|value| Box::from(*value)).collect(),
            counters: [0; 2],
            durations: [durations(0), durations(1)],
            examples: [None; 2],
            touched: at.now,
            changed_in: at.next_cut,
            first_in: at.next_cut,
            born_ms: at.last_ms,
        };
        let number = self.free.pop().unwrap_or_else(|| {
            self.cells.push(None);
            u32::try_from(self.cells.len() - 1).expect("the number of cells is limited")
        });
        self.cells[number as usize] = Some(cell);
        let cells = &self.cells;
        self.index.insert_unique(hash, number, |n| {
            let cell = cells[*n as usize].as_ref().expect("the index names cells that are there");
            hash_of(cell.values.iter().map(|value| &**value))
        });
        number
    }

    /// All cells as they stand, and those that ended since the last cut that was written. Cells that did not change for
    /// `stale_after` end.
    pub(crate) fn cut(&mut self, at: &Moment, stale_after: Duration) -> Vec<CellCut> {
        self.ended.retain(|(cut, _)| *cut > at.written);
        let mut out: Vec<CellCut> = self.ended.iter().map(|(_, cell)| cell.clone()).collect();
        for number in 0..self.cells.len() {
            let Some(cell) = &mut self.cells[number] else { continue };
            let is_stale = at.now.saturating_sub(cell.touched) >= stale_after && cell.changed_in <= at.written;
            let cut = CellCut {
                values: Arc::clone(&cell.values),
                counters: cell.counters,
                durations: cell.durations.clone(),
                examples: std::mem::take(&mut cell.examples),
                born_ms: cell.born_ms,
                is_new: cell.first_in > at.written,
                has_ended: is_stale,
            };
            if is_stale {
                let hash = hash_of(cell.values.iter().map(|value| &**value));
                if let Ok(entry) = self.index.find_entry(hash, |n| *n as usize == number) {
                    entry.remove();
                }
                self.cells[number] = None;
                self.free.push(number as u32);
                self.ended.push((at.next_cut, cut.clone()));
            }
            out.push(cut);
        }
        out
    }
}
