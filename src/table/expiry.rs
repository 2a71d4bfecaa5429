//! Rows that go by themselves: those whose time is over, and, where it was asked for, those that were used longest ago.

use std::time::{Duration, Instant};

use super::Table;
use super::change::Change;
use super::column::Cell;
use super::ground::Ground;
use super::hold::Hold;
use super::layout::Layout;
use super::write::{Attempt, Outcome, When};
use crate::robust::Patience;
use crate::sync::{AtomicU64, Ordering, clock};
use crate::{Error, Result};

/// Rows among which the coldest is evicted. Five come close to the order of use that was meant (Redis, which samples as many, shows it in its
/// documentation of `maxmemory-samples`); each costs a cache miss.
const SAMPLE: usize = 5;

/// Samples in which nothing could be evicted, before the insertion itself is tried again.
const TRIES: usize = 16;

impl Table {
    /// As [`set`](Table::set), and the row expires `after` from now, on the monotonic clock. It is then absent to everything; its room is
    /// reclaimed when the key is written again, when room is needed, or by [`purge`](Table::purge). A plain `set` of an existing row leaves its
    /// time as it is.
    ///
    /// # Errors
    /// As [`Table::set`]; [`Error::NotEnabled`] when the table was built without [`ttl`](crate::TableBuilder::ttl).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let sessions = commons::Table::builder().capacity(100).ttl().build()?;
    /// sessions.set_ttl("s1", &[], Duration::from_secs(60))?;
    /// assert!(sessions.exists("s1"));
    /// sessions.set_ttl("s1", &[], Duration::ZERO)?;
    /// assert!(!sessions.exists("s1"));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn set_ttl(&self, key: impl AsRef<[u8]>, cells: &[Cell<'_>], after: Duration) -> Result<Outcome> {
        self.with_ttl()?;
        let done = self.ground.write(key.as_ref(), When::Always, &[], cells, Some(due_after(after)))?;
        Ok(done.unwrap_or(Outcome::Updated))
    }

    /// Lets the row of `key` expire at an instant, or never; false when there is no row.
    ///
    /// # Errors
    /// As [`Table::update`]; [`Error::NotEnabled`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Instant;
    /// let sessions = commons::Table::builder().capacity(100).ttl().build()?;
    /// sessions.set("s1", &[])?;
    /// assert!(sessions.expire_at("s1", Some(Instant::now()))?);
    /// assert!(!sessions.exists("s1"));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn expire_at(&self, key: impl AsRef<[u8]>, at: Option<Instant>) -> Result<bool> {
        self.with_ttl()?;
        let due = at.map_or(0, |at| due_after(at.saturating_duration_since(Instant::now())));
        Ok(self.ground.write(key.as_ref(), When::Present, &[], &[], Some(due))?.is_some())
    }

    /// Reclaims rows that have expired: looks at no more than `budget` of them, going round the table from where the last call ended; how
    /// many were reclaimed.
    ///
    /// # Errors
    /// [`Error::WouldDeadlock`] inside a closure of this table; [`Error::TooManyParticipants`]; [`Error::NotEnabled`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let sessions = commons::Table::builder().capacity(100).ttl().build()?;
    /// sessions.set_ttl("s1", &[], Duration::ZERO)?;
    /// assert_eq!((sessions.purge(100)?, sessions.len()), (1, 0));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn purge(&self, budget: usize) -> Result<usize> {
        self.with_ttl()?;
        self.ground.purge(budget, usize::MAX, Patience::Endless)
    }

    fn with_ttl(&self) -> Result<()> {
        if self.ground.layout.expiry.is_some() {
            return Ok(());
        }
        Err(Error::NotEnabled { what: "expiry", by: "Table::builder().ttl()" })
    }
}

impl Ground {
    /// Looks at `budget` rows, or until `enough` of them were reclaimed.
    fn purge(&self, budget: usize, enough: usize, patience: Patience) -> Result<usize> {
        let touched = u64::from(self.touched());
        let mut reclaimed = 0;
        for _ in 0..budget.min(touched as usize) {
            // Relaxed: whoever looks at a row twice has only lost time.
            let at = self.head.cursor.fetch_add(1, Ordering::Relaxed);
            let row = (at % touched) as u32 + 1;
            if self.has_expired(self.row(row)) && self.drop_row(row, patience, |hold| self.has_expired(hold))? {
                reclaimed += 1;
            }
            if reclaimed == enough {
                break;
            }
        }
        Ok(reclaimed)
    }

    /// Removes the row of this number if, under its lock, it is linked and `still` to go.
    fn drop_row(&self, row: u32, patience: Patience, still: impl Fn(&[AtomicU64]) -> bool) -> Result<bool> {
        loop {
            // Relaxed: checked again under the lock.
            let mark = self.row(row)[Layout::MARK].load(Ordering::Relaxed);
            let Some(bucket) = mark.checked_sub(1) else { return Ok(false) };
            let hold = self.hold(bucket as usize, patience)?;
            let done = self.drop_held(&hold, row, mark, &still)?;
            drop(hold);
            match done {
                Attempt::Done(done) => return Ok(done),
                Attempt::NoRecord | Attempt::NoRow => self.wait_for_record(patience)?,
            }
        }
    }

    fn drop_held(
        &self,
        hold: &Hold<'_>,
        row: u32,
        mark: u64,
        still: &impl Fn(&[AtomicU64]) -> bool,
    ) -> Result<Attempt<bool>> {
        // Relaxed: a row that belongs to this bucket does so until this lock is given back; one that does not has changed hands, and is left.
        let words = self.row(row);
        if words[Layout::MARK].load(Ordering::Relaxed) != mark || !still(words) {
            return Ok(Attempt::Done(false));
        }
        let Some(found) = hold.find_row(row) else { return Ok(Attempt::Done(false)) };
        let Some(mut change) = Change::begin(hold)? else { return Ok(Attempt::NoRecord) };
        hold.remove(&mut change, found)?;
        Ok(Attempt::Done(true))
    }

    /// Finds a free row for one who found none, by going through what is nobody's in truth. The caller holds no bucket.
    ///
    /// # Errors
    /// [`Error::Full`] when there is nothing of the kind.
    #[cold]
    pub(super) fn make_room(&self, patience: Patience) -> Result<()> {
        // Last, what others have given back since the caller found nothing, or are about to: a row that has expired may have been reclaimed by
        // somebody else, and then there is room.
        if self.sweep(patience)?
            || self.reclaim_one(patience)?
            || self.evict_one(patience)?
            || self.await_leaving(patience)?
            || self.has_free_row(patience)?
        {
            return Ok(());
        }
        Err(Error::Full { capacity: self.layout.capacity as usize })
    }

    /// Reclaims an expired row, if there is one.
    fn reclaim_one(&self, patience: Patience) -> Result<bool> {
        if self.layout.expiry.is_none() {
            return Ok(false);
        }
        let Some(search) = self.begin_search() else { return Ok(false) };
        if self.purge(usize::MAX, 1, patience)? == 1 {
            // There may be more, so the search stays open.
            return Ok(true);
        }
        self.end_search(&search);
        Ok(false)
    }

    /// Evicts the coldest of a few rows, where that was asked for.
    fn evict_one(&self, patience: Patience) -> Result<bool> {
        let Some(used) = self.layout.used else { return Ok(false) };
        // Relaxed: hints.
        let age = |row: &u32| self.row(*row)[used].load(Ordering::Relaxed);
        let touched = u64::from(self.touched());
        for _ in 0..TRIES {
            let start = self.head.cursor.fetch_add(SAMPLE as u64, Ordering::Relaxed);
            let sample = (start..start + SAMPLE as u64).map(|n| (scatter(n) % touched) as u32 + 1);
            let Some(coldest) = sample.min_by_key(age) else { return Ok(false) };
            if self.drop_row(coldest, patience, |_| true)? {
                return Ok(true);
            }
        }
        // All of them changed hands under this thread's eyes: there is room to be had, or there will be.
        Ok(true)
    }
}

/// Numbers in a row to numbers all over: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
fn scatter(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

/// The instant `after` from now.
fn due_after(after: Duration) -> u64 {
    // What lies beyond the clock's range (584 years) is never.
    let due = u64::try_from(after.as_nanos()).ok().and_then(|ns| clock::now().checked_add(ns));
    due.unwrap_or(u64::MAX)
}
