//! The first label sets of those that requests select: no more are held than are asked for, however many match.

use trefoil_model::{Labels, QueryBudget, SelectRequest, StoreError};

use super::growing::Growing;
use crate::matching::Rows;
use crate::store::Inner;

/// Label sets after which a query looks at its deadline.
const SETS_PER_CHECK: usize = 4096;

/// The smallest label sets of those that are added.
struct First<'a> {
    budget: &'a dyn QueryBudget,
    /// Sorted and without repetition up to `sorted`.
    sets: Vec<Labels>,
    sorted: usize,
    /// So many are wanted.
    most: usize,
    /// So many were charged.
    charged: usize,
    added: usize,
    memory: Growing<'a>,
}

/// What a label set takes in a list whose memory grows, besides its bytes.
fn bytes_of(labels: &Labels) -> usize {
    labels.heap_bytes() + 2 * size_of::<Labels>()
}

impl<'a> First<'a> {
    fn new(limit: usize, budget: &'a dyn QueryBudget) -> Self {
        // One more than asked for, so that we know of it.
        Self {
            budget,
            sets: Vec::new(),
            sorted: 0,
            most: limit.saturating_add(1),
            charged: 0,
            added: 0,
            memory: Growing::new(budget),
        }
    }

    fn add(&mut self, labels: Labels) -> Result<(), StoreError> {
        self.added += 1;
        if self.added.is_multiple_of(SETS_PER_CHECK) {
            self.budget.check()?;
        }
        let is_beyond = self.sorted == self.most && self.sets.get(self.most - 1).is_some_and(|last| *last <= labels);
        if !is_beyond {
            self.memory.take(bytes_of(&labels))?;
            self.sets.push(labels);
            if self.sets.len() >= self.most.saturating_mul(2).max(SETS_PER_CHECK) {
                self.settle()?;
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.sets.sort();
        let mut freed = 0;
        self.sets.dedup_by(|later, first| {
            let same = later == first;
            freed += if same { bytes_of(later) } else { 0 };
            same
        });
        freed += self.sets.drain(self.most.min(self.sets.len())..).map(|labels| bytes_of(&labels)).sum::<usize>();
        self.memory.give(freed);
        self.sorted = self.sets.len();
        if self.sorted > self.charged {
            self.budget.charge_series((self.sorted - self.charged) as u64)?;
            self.charged = self.sorted;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Vec<Labels>, bool), StoreError> {
        self.settle()?;
        let cut = self.sets.len() == self.most;
        self.sets.truncate(self.most - 1);
        Ok((self.sets, cut))
    }
}

impl Inner {
    /// The first `limit` (at least 1) label sets in order, and whether there are more.
    pub(super) fn first_labels(
        &self,
        requests: &[SelectRequest],
        limit: usize,
        budget: &dyn QueryBudget,
    ) -> Result<(Vec<Labels>, bool), StoreError> {
        let view = self.view.load_full();
        let mut first = First::new(limit, budget);
        for request in requests {
            let request = self.visible(request);
            for part in view.parts_of(request.tenant, request.range) {
                budget.check()?;
                let (mut rows, _) = self.visible_rows(&view, part, &request, budget)?;
                // Rows of a part are in the order of their labels.
                if let Some(beyond) = u32::try_from(first.most).ok().and_then(|most| rows.select(most)) {
                    rows.remove_range(beyond..);
                }
                part.index()?.for_each_labels(&rows, &mut |_, labels| first.add(labels))?;
            }
            for memtable in view.memtables() {
                budget.check()?;
                let (rows, check) = self.visible_memtable_rows(memtable, &request, budget)?;
                for row in Rows::new(rows, check).all() {
                    first.add(memtable.with_row(row, |r| r.series.labels.clone()))?;
                }
            }
        }
        first.finish()
    }
}
