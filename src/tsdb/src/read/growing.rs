//! The memory of an answer that grows bit by bit.

use trefoil_model::{BudgetError, QueryBudget};

/// The budget is asked for so much at once.
const PIECE_BYTES: u64 = 64 << 10;

/// Bytes that an answer holds of its query's budget. They stay with the query when this is dropped: so does the answer.
pub(super) struct Growing<'a> {
    budget: &'a dyn QueryBudget,
    used: u64,
    /// What the budget gave: at least what is used, but for the first bytes.
    drawn: u64,
}

impl<'a> Growing<'a> {
    pub(super) fn new(budget: &'a dyn QueryBudget) -> Self {
        Self { budget, used: 0, drawn: 0 }
    }

    /// Takes bytes before they are allocated.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), BudgetError> {
        let used = self.used.saturating_add(bytes as u64);
        if used > self.drawn {
            // Little answers draw little pieces.
            let more = (used - self.drawn).max((self.drawn / 8).min(PIECE_BYTES));
            self.budget.charge_bytes(more)?;
            self.drawn += more;
        }
        self.used = used;
        Ok(())
    }

    /// Gives back what was taken.
    pub(super) fn give(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes as u64);
        let spare = self.drawn - self.used;
        if spare > 2 * PIECE_BYTES {
            self.budget.release_bytes(spare - PIECE_BYTES);
            self.drawn -= spare - PIECE_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use trefoil_model::Purse;

    use super::*;

    #[test]
    fn draws_what_is_used_and_little_more() {
        let purse = Purse::of_bytes(1 << 20);
        let mut growing = Growing::new(&purse);
        (0..9000).for_each(|_| growing.take(100).unwrap());
        let drawn = purse.bytes();
        assert!((900_000..900_000 + PIECE_BYTES).contains(&drawn), "{drawn}");
        growing.give(800_000);
        let drawn = purse.bytes();
        assert!((100_000..100_000 + 2 * PIECE_BYTES).contains(&drawn), "{drawn}");
        assert_eq!(growing.take(1 << 20), Err(BudgetError::Bytes(1 << 20)));
        growing.take(1000).unwrap();
    }
}
