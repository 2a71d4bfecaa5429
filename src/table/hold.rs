//! Holding a bucket, and what its next owner does if the last one died: undo or finish what its record says.
//!
//! A writer holds the lock of one bucket and one record. The record's state names the bucket, so the next owner of that bucket's lock finds
//! it: under the lock, any record that names the bucket and is not one's own is a dead writer's. Settling a record reads only what it does
//! not change, so it may be broken off by another death at any point, and is begun again by the owner after that.

use super::closure;
use super::ground::{Ground, WHAT};
use super::record::{Phase, State, Tally};
use super::shared::Record;
use crate::Result;
use crate::robust::{Owned, Patience, Rest, Slices, TURN, arm, certainly_dead, disarm};
use crate::sync::{AtomicU64, Look, Ordering, fence, futex, owned};

/// Holds a bucket until it is dropped.
pub(super) struct Hold<'t> {
    pub(super) ground: &'t Ground,
    pub(super) bucket: usize,
    /// How long its holder will wait for what else it needs.
    pub(super) patience: Patience,
    owned: Option<Owned>,
    in_order: bool,
}

impl Ground {
    /// Takes the lock of `bucket`, and settles what its last owner left if that one died.
    pub(super) fn hold(&self, bucket: usize, patience: Patience) -> Result<Hold<'_>> {
        if let Some(hold) = self.hold_at_once(bucket, patience) {
            return Ok(hold);
        }
        closure::outside(self)?;
        let lock = &self.buckets[bucket].lock;
        let owned = lock.acquire(self.buckets.key(lock.cell()), WHAT, patience)?;
        let recovered = owned.recovered();
        let mut hold = Hold::of(self, bucket, owned, patience);
        hold.in_order = !recovered;
        if recovered {
            self.repair(bucket, patience)?;
            hold.in_order = true;
        }
        Ok(hold)
    }

    /// The same where nothing is in the way. None is no answer, but a case for `hold`.
    #[inline(always)]
    pub(super) fn hold_at_once(&self, bucket: usize, patience: Patience) -> Option<Hold<'_>> {
        if !closure::is_outside(self) {
            return None;
        }
        let lock = &self.buckets[bucket].lock;
        let owned = lock.acquire_at_once(self.buckets.key(lock.cell()))?;
        // Who was to be taken over from would have been in the way.
        Some(Hold::of(self, bucket, owned, patience))
    }

    /// Settles every record that names `bucket`, whose lock the caller has from a dead owner.
    #[cold]
    fn repair(&self, bucket: usize, patience: Patience) -> Result<()> {
        (0..self.records.len()).try_for_each(|index| self.settle_left(index, bucket, patience))
    }

    /// Settles the record if it names `bucket`, whose lock the caller has, and no record yet: then it is a dead writer's.
    fn settle_left(&self, index: usize, bucket: usize, patience: Patience) -> Result<()> {
        // Acquire: pairs with the Release of every change of state; what the dead one wrote before it is seen.
        let state = State(self.records[index].state.load(Ordering::Acquire));
        if state.phase() == Phase::Free || state.bucket() != bucket {
            return Ok(());
        }
        self.settle(index, state, patience, Tally { recoveries: 1, ..Tally::default() })
    }

    /// Undoes or finishes what the record says. May be broken off at any point and done again: it reads only what it does not change.
    pub(super) fn settle(&self, index: usize, state: State, patience: Patience, tally: Tally) -> Result<()> {
        let record = &self.records[index];
        let bucket = state.bucket();
        match state.phase() {
            Phase::Free | Phase::Busy => {}
            Phase::Taking => self.give_noted(&record.taken, bucket, patience)?,
            Phase::Undo => {
                self.write_back(index, bucket);
                // What stands there again may expire sooner than a search has read.
                if self.layout.expiry.is_some() {
                    self.expects(1);
                }
                self.give_noted(&record.taken, bucket, patience)?;
            }
            Phase::Freeing => self.give_noted(&record.leaving, bucket, patience)?,
        }
        let number = record.fill_other(state.parity(), tally);
        self.set_free(record, State::free(number, 1 - state.parity()));
        Ok(())
    }

    pub(super) fn give_noted(&self, noted: &AtomicU64, bucket: usize, patience: Patience) -> Result<()> {
        match owned(noted) as u32 {
            0 => Ok(()),
            row => self.give_row(row, bucket, patience),
        }
    }

    #[inline(always)]
    pub(super) fn log_of(&self, index: usize) -> &[AtomicU64] {
        &self.logs[index * self.layout.log..][..self.layout.log]
    }

    /// Writes the old words back.
    fn write_back(&self, index: usize, bucket: usize) {
        let mut log = &self.log_of(index)[..owned(&self.records[index].logged) as usize];
        while let [target, len, rest @ ..] = log {
            let (target, len) = (owned(target), owned(len) as usize);
            let (row, at) = ((target >> 32) as u32, target as u32 as usize);
            let (old, next) = rest.split_at(len);
            for (offset, word) in old.iter().enumerate() {
                // Release: pairs with the Acquire of whoever takes the bucket's lock next, should this thread die before it lets go.
                self.word(bucket, row, at + offset).store(owned(word), Ordering::Release);
                // The time that counts again may have been overlooked while another one stood there.
                if row != 0 && self.layout.expiry == Some(at + offset) {
                    self.expects(owned(word));
                }
            }
            log = next;
        }
    }

    #[inline(always)]
    pub(super) fn word(&self, bucket: usize, row: u32, at: usize) -> &AtomicU64 {
        if row != 0 {
            return &self.row(row)[at];
        }
        let bucket = &self.buckets[bucket];
        bucket.places.get(at).unwrap_or(&bucket.overflow)
    }

    #[inline(always)]
    pub(super) fn set_free(&self, record: &Record, state: State) {
        // Release: pairs with the Acquire of the next writer's exchange, and of those who sum up.
        record.state.store(state.0, Ordering::Release);
        // Relaxed: who waits for a record armed the word before it looked; one that is missed here looks again after its slice.
        if self.head.turn.load(Ordering::Relaxed) & 1 == 1 {
            self.wake_for_record();
        }
    }

    #[cold]
    fn wake_for_record(&self) {
        // Release: pairs with the AcqRel in `arm`.
        let before = self.head.turn.fetch_add(TURN, Ordering::Release);
        if futex::wake(&self.head.turn, 1) == 0 {
            disarm(&self.head.turn, before);
        }
    }

    /// Settles what the dead have left in any bucket; whether there was anything. The caller holds no bucket.
    #[cold]
    pub(super) fn sweep(&self, patience: Patience) -> Result<bool> {
        self.settle_where(patience, |state| state.phase() != Phase::Free && certainly_dead(state.tag(), Look::Close))
    }

    /// Waits for those who have removed a row and not yet given it back; whether there was anybody. The caller holds no bucket.
    #[cold]
    pub(super) fn await_leaving(&self, patience: Patience) -> Result<bool> {
        self.settle_where(patience, |state| state.phase() == Phase::Freeing)
    }

    /// Sees to it that no record is any more as `which` says; whether one was.
    fn settle_where(&self, patience: Patience, which: impl Fn(State) -> bool) -> Result<bool> {
        let mut found = false;
        for (index, record) in self.records.iter().enumerate() {
            // Acquire: as in `settle_left`.
            let state = State(record.state.load(Ordering::Acquire));
            if which(state) {
                // Its writer has ended, one way or the other, once the bucket is ours.
                let hold = self.hold(state.bucket(), patience)?;
                self.settle_left(index, hold.bucket, patience)?;
                found = true;
            }
        }
        Ok(found)
    }

    /// Waits until a record that all share is free: more writers than there are such records are in the middle of a change. The caller holds no bucket.
    #[cold]
    pub(super) fn wait_for_record(&self, patience: Patience) -> Result<()> {
        let mut slices = Slices::new();
        loop {
            let armed = arm(&self.head.turn);
            // Acquire: as in `settle_left`.
            let free = |record: &Record| State(record.state.load(Ordering::Acquire)).phase() == Phase::Free;
            // A seat's own record is free for nobody else, and its tenant has no need to wait.
            if self.records[self.layout.own..].iter().any(free) || self.sweep(patience)? {
                return Ok(());
            }
            patience.check()?;
            let _: Rest = slices.rest(&self.head.turn, armed, patience);
        }
    }
}

impl<'t> Hold<'t> {
    #[inline(always)]
    fn of(ground: &'t Ground, bucket: usize, owned: Owned, patience: Patience) -> Hold<'t> {
        // Pairs with the Acquire fence in `RobustLock::still`: who reads anything that is written from here on sees the lock taken.
        fence(Ordering::Release);
        Hold { ground, bucket, patience, owned: Some(owned), in_order: true }
    }

    /// Whether the calling thread holds it still: not in a process forked meanwhile.
    pub(super) fn is_mine(&self) -> bool {
        self.owned.as_ref().is_some_and(Owned::is_mine)
    }
}

impl Drop for Hold<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let Some(owned) = self.owned.take() else { return };
        let lock = &self.ground.buckets[self.bucket].lock;
        if self.in_order { lock.release(owned) } else { lock.release_dirty(owned) }
    }
}
