//! Every row, one after the other.

use std::time::Duration;

use super::Table;
use super::closure;
use super::layout::Layout;
use super::row::{Key, Row};
use crate::robust::Patience;
use crate::shm::load_bytes;
use crate::sync::{AtomicU64, Ordering, size};

/// Attempts without the lock, as in `read`.
const ATTEMPTS: usize = size(8, 1);

/// Goes through the rows of a table; see [`Table::iter`].
pub struct Iter<'t> {
    table: &'t Table,
    /// The number of the next row.
    next: u32,
    /// Rows beyond it were never taken when the scan began.
    last: u32,
    /// How long to wait for one row.
    timeout: Option<Duration>,
}

impl Table {
    /// Every row with its key, in no order: each that is there throughout the scan is met exactly once, and each as it was at one
    /// instant. Rows that come or go meanwhile may be met or not. Any number of scans may go on at once; none keeps a writer waiting. Inside a
    /// closure of this table there is nothing to meet.
    ///
    /// # Examples
    /// ```
    /// let mut schema = commons::Schema::new();
    /// let hits = schema.int("hits");
    /// let table = commons::Table::new(8, schema)?;
    /// table.set("a", &[hits.is(1)])?;
    /// table.set("b", &[hits.is(2)])?;
    /// let sum: i64 = table.iter().map(|(_, row)| row.get(hits)).sum();
    /// assert_eq!(sum, 3);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<'_> {
        Iter { table: self, next: 1, last: self.ground.touched(), timeout: None }
    }
}

impl<'t> IntoIterator for &'t Table {
    type Item = (Key, Row);
    type IntoIter = Iter<'t>;
    fn into_iter(self) -> Iter<'t> {
        self.iter()
    }
}

impl Iter<'_> {
    /// Waits at most `timeout` for each row whose writer was stopped in the middle of a change; such a row is left out.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Iter { timeout: Some(timeout), ..self }
    }
}

impl Iterator for Iter<'_> {
    type Item = (Key, Row);

    fn next(&mut self) -> Option<(Key, Row)> {
        closure::outside(&self.table.ground).ok()?;
        let (mut key, mut row) = (Key { bytes: Vec::new() }, self.table.row());
        while self.next <= self.last {
            let number = self.next;
            self.next += 1;
            if self.table.copy_row(number, &mut key, &mut row, self.timeout) {
                return Some((key, row));
            }
        }
        None
    }
}

impl Table {
    /// Copies the row of this number; false when it is nobody's, or has expired.
    fn copy_row(&self, number: u32, key: &mut Key, row: &mut Row, timeout: Option<Duration>) -> bool {
        let ground = &*self.ground;
        let words = ground.row(number);
        let mark = &words[Layout::MARK];
        let mut copy = || {
            // Relaxed: ordered by the lock, or by its version.
            let len = words[Layout::NAME].load(Ordering::Relaxed) as u32 as usize;
            key.bytes.resize(len.min(ground.layout.key_size), 0);
            load_bytes(ground.key_of(words), &mut key.bytes);
            row.copy_from(ground.columns_of(words));
        };
        let bucket = |mark: u64| mark.checked_sub(1).and_then(|bucket| ground.buckets.get(bucket as usize));
        for _ in 0..ATTEMPTS {
            // Relaxed: looked at again, in order.
            let seen = mark.load(Ordering::Relaxed);
            let Some(bucket) = bucket(seen) else { return false };
            let Some(stamp) = bucket.lock.stamp() else { break };
            // A row that belongs to the bucket while the bucket's lock is free is linked: whoever takes it, fills it and gives it back holds the
            // lock all the while. Relaxed: after `stamp`, before `still`.
            let belongs = mark.load(Ordering::Relaxed) == seen;
            copy();
            let expired = ground.has_expired(words);
            if belongs && bucket.lock.still(stamp) {
                return !expired;
            }
        }
        self.copy_held(mark, words, timeout.map_or(Patience::Endless, Patience::lasting), copy)
    }

    #[cold]
    fn copy_held(&self, mark: &AtomicU64, words: &[AtomicU64], patience: Patience, mut copy: impl FnMut()) -> bool {
        let ground = &*self.ground;
        loop {
            let seen = mark.load(Ordering::Relaxed); // as above
            let Some(bucket) = seen.checked_sub(1) else { return false };
            // Without a slot of its own this thread can take no lock, and reports what it could not read whole as not there.
            let Ok(hold) = ground.hold(bucket as usize, patience) else { return false };
            if mark.load(Ordering::Relaxed) == seen {
                copy();
                return !ground.has_expired(words);
            }
            drop(hold);
        }
    }
}
