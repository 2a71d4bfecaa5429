//! Figures: how many rows, and what was done so far.

use super::Table;
use super::ground::Ground;
use super::record::State;
use super::shared::{Half, Record};
use crate::sync::{AtomicU64, Ordering, size};

/// What a table has seen since it was made; exact also after deaths. See [`Table::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableStats {
    /// Rows there are. One that has expired counts until it is reclaimed.
    pub rows: u64,
    /// Rows inserted.
    pub inserts: u64,
    /// Changes to rows that were there, with or without cells.
    pub updates: u64,
    /// Rows removed, by whatever: `del`, `take`, expiry, eviction.
    pub deletes: u64,
    /// Insertions that found the six places of their bucket taken.
    pub collisions: u64,
    /// The most rows that one bucket ever had beyond its six places.
    pub longest_chain: u64,
    /// Changes of the dead that were undone or finished.
    pub recoveries: u64,
}

/// Sums taken after the first, at most, to get two that agree; none in a model, which is to see what one is worth.
const SUMS: usize = size(8, 0);

impl Table {
    /// How many rows there are; one that has expired counts until it is reclaimed. While others write, a figure of a moment in between.
    ///
    /// Costs a look at 64 cache lines.
    ///
    /// # Examples
    /// ```
    /// let table = commons::Table::new(8, commons::Schema::new())?;
    /// table.set("b", &[])?;
    /// assert_eq!(table.len(), 1);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.stats().rows as usize
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All figures at once.
    ///
    /// # Examples
    /// ```
    /// let table = commons::Table::new(8, commons::Schema::new())?;
    /// table.set("b", &[])?;
    /// table.set("b", &[])?;
    /// let stats = table.stats();
    /// assert_eq!((stats.rows, stats.inserts, stats.updates), (1, 1, 1));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn stats(&self) -> TableStats {
        let mut last = self.ground.sum();
        for _ in 0..SUMS {
            let next = self.ground.sum();
            // The figures only grow, so two sums that agree hold for every moment in between.
            if next == last {
                break;
            }
            last = next;
        }
        last.rows = last.inserts.saturating_sub(last.deletes).min(self.capacity() as u64);
        last
    }
}

impl Ground {
    fn sum(&self) -> TableStats {
        let mut sum = TableStats::default();
        for record in self.records.iter() {
            let one = record.figures();
            sum.inserts += one.inserts;
            sum.updates += one.updates;
            sum.deletes += one.deletes;
            sum.collisions += one.collisions;
            sum.longest_chain = sum.longest_chain.max(one.longest_chain);
            sum.recoveries += one.recoveries;
        }
        sum
    }
}

impl Record {
    /// The half that counts, whole: read twice the same, and in between it counted. Its figures only grow, so what is the same was so in
    /// between. That it counts before and after would not do: it may be half filled meanwhile for the change after the next.
    fn figures(&self) -> TableStats {
        loop {
            // Relaxed: a guess.
            let parity = State(self.state.load(Ordering::Relaxed)).parity();
            let first = self.halves[parity].read();
            // Acquire: pairs with the Release of the state that made this half count; the second look sees what it published.
            let counts = State(self.state.load(Ordering::Acquire)).parity() == parity;
            if counts && self.halves[parity].read() == first {
                return first;
            }
            crate::sync::spin_hint();
        }
    }
}

impl Half {
    fn read(&self) -> TableStats {
        // Acquire: pairs with the Release in `fill_other`; who has seen any of a half that is being filled sees that it does not count.
        let word = |word: &AtomicU64| word.load(Ordering::Acquire);
        TableStats {
            rows: 0,
            inserts: word(&self.inserts),
            updates: word(&self.updates),
            deletes: word(&self.deletes),
            collisions: word(&self.collisions),
            longest_chain: word(&self.longest),
            recoveries: word(&self.recoveries),
        }
    }
}
