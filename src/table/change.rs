//! A change of more than one word, all or nothing: the writer's side of the journal.

use super::hold::Hold;
use super::record::{Phase, State, Tally};
use super::shared::{PLACES, Record};
use crate::Result;
use crate::robust::{Patience, Seat, me};
use crate::sync::{AtomicU64, Ordering, fence, owned};

/// A word that changes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word {
    /// Of the bucket: 0..6 the places, 6 the overflow.
    Bucket(usize),
    /// Of a row.
    Row(u32, usize),
}

/// The number of the bucket's overflow word in a log.
pub(super) const OVERFLOW: usize = PLACES;

/// Words that a change moves besides columns: places, links, the overflow.
const STAGED: usize = 6;

/// A change in the making, under a [`Hold`]. Dropped before it is committed, it has not happened.
pub(super) struct Change<'h> {
    hold: &'h Hold<'h>,
    index: usize,
    record: &'h Record,
    log: &'h [AtomicU64],
    state: State,
    logged: usize,
    staged: [(Word, u64); STAGED],
    stages: usize,
}

impl<'h> Change<'h> {
    /// Takes a record: the seat's own by two plain accesses, else one of those that all share, by an exchange; None when those are all taken.
    #[inline(always)]
    pub(super) fn begin(hold: &'h Hold<'h>) -> Result<Option<Change<'h>>> {
        let (ground, seat) = (hold.ground, me()?);
        let own = seat.index() - 1;
        if own < ground.layout.own {
            let record = &ground.records[own];
            // Acquire: pairs with the Release in `set_free`; its figures are seen. Nobody but the seat's tenant takes this record, and a new
            // tenant came by the seat after the death of the last one was found out: so what is read here is not older than what that one
            // did last, and no other can come between the load and the store. It is not free where that one died and nobody has settled it.
            let left = State(record.state.load(Ordering::Acquire));
            if left.phase() == Phase::Free {
                let state = State::new(seat.tag(), hold.bucket, Phase::Busy, left.parity());
                // Release: pairs with the Acquire of whoever settles this one.
                record.state.store(state.0, Ordering::Release);
                return Ok(Some(Change::of(hold, own, state)));
            }
        }
        Ok(Change::begin_shared(hold, seat))
    }

    /// The same for a seat that has no record of its own, or has it not yet back from its last tenant.
    fn begin_shared(hold: &'h Hold<'h>, seat: Seat) -> Option<Change<'h>> {
        let ground = hold.ground;
        let (own, all) = (ground.layout.own, ground.records.len());
        for n in 0..all - own {
            let index = own + (seat.index() + n) % (all - own);
            let record = &ground.records[index];
            // Relaxed: the exchange decides.
            let seen = State(record.state.load(Ordering::Relaxed));
            let state = State::new(seat.tag(), hold.bucket, Phase::Busy, seen.parity());
            // AcqRel: Acquire pairs with the Release of the last owner (its figures are seen); Release is for whoever settles this one.
            let taken = seen.phase() == Phase::Free
                && record.state.compare_exchange(seen.0, state.0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if taken {
                return Some(Change::of(hold, index, state));
            }
        }
        None
    }

    #[inline(always)]
    fn of(hold: &'h Hold<'h>, index: usize, state: State) -> Change<'h> {
        let record = &hold.ground.records[index];
        // Relaxed, both: they mean nothing before the next state, which publishes them.
        record.taken.store(0, Ordering::Relaxed);
        record.leaving.store(0, Ordering::Relaxed);
        let log = hold.ground.log_of(index);
        let staged = [(Word::Bucket(0), 0); STAGED];
        Change { hold, index, record, log, state, logged: 0, staged, stages: 0 }
    }

    #[inline(always)]
    fn enter(&mut self, phase: Phase) {
        self.state = self.state.at(phase);
        // Release: pairs with the Acquire in `repair`; whoever settles this sees what the new phase speaks of.
        self.record.state.store(self.state.0, Ordering::Release);
    }

    /// Takes a row from the pool; None when there is none.
    pub(super) fn take_row(&mut self) -> Result<Option<u32>> {
        let (ground, bucket) = (self.hold.ground, self.hold.bucket);
        ground.take_row(bucket, self.hold.patience, |row| {
            // Relaxed: published by the phase.
            self.record.taken.store(row.into(), Ordering::Relaxed);
            self.enter(Phase::Taking);
        })
    }

    /// Writes the present words down, before they change; of the bucket one at a time.
    #[inline(always)]
    pub(super) fn save(&mut self, row: u32, at: usize, len: usize) {
        let (ground, bucket) = (self.hold.ground, self.hold.bucket);
        let (head, log) = self.log[self.logged..][..2 + len].split_at(2);
        self.logged += 2 + len;
        // Relaxed, all: published by `arm`.
        head[0].store(u64::from(row) << 32 | at as u64, Ordering::Relaxed);
        head[1].store(len as u64, Ordering::Relaxed);
        if row == 0 {
            return log[0].store(owned(ground.word(bucket, row, at)), Ordering::Relaxed);
        }
        for (to, from) in log.iter().zip(&ground.row(row)[at..at + len]) {
            to.store(owned(from), Ordering::Relaxed);
        }
    }

    /// Plans one word's change, to be made by `arm`.
    pub(super) fn stage(&mut self, word: Word, value: u64) {
        let (row, at) = word.address();
        self.save(row, at, 1);
        self.staged[self.stages] = (word, value);
        self.stages += 1;
    }

    /// Plans that `row` goes back to the pool when the change is made.
    pub(super) fn leave(&mut self, row: u32) {
        // Relaxed: published by the phase.
        self.record.leaving.store(row.into(), Ordering::Relaxed);
    }

    /// Makes the log valid, and makes the planned changes. From here on everything that was saved may be written.
    #[inline(always)]
    pub(super) fn arm(&mut self) {
        // Relaxed: published by the phase.
        self.record.logged.store(self.logged as u64, Ordering::Relaxed);
        self.enter(Phase::Undo);
        // Nothing of the change comes before the log is valid.
        fence(Ordering::Release);
        for (word, value) in &self.staged[..self.stages] {
            let (row, at) = word.address();
            // Relaxed: readers check the lock's version; the next owner comes by them through the commit or the lock.
            self.hold.ground.word(self.hold.bucket, row, at).store(*value, Ordering::Relaxed);
        }
    }

    /// Makes the change: one store. By reference, for a change that is moved takes thirty instructions to.
    #[inline(always)]
    pub(super) fn commit(&mut self, tally: Tally) -> Result<()> {
        let ground = self.hold.ground;
        let parity = self.state.parity();
        let number = self.record.fill_other(parity, tally);
        if owned(&self.record.leaving) != 0 {
            self.state = self.state.other_half();
            self.enter(Phase::Freeing);
            ground.give_noted(&self.record.leaving, self.hold.bucket, Patience::Endless)?;
        }
        ground.set_free(self.record, State::free(number, 1 - parity));
        self.state = State(0);
        Ok(())
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        // A process forked meanwhile has only a copy; the record is its parent's.
        if self.state.phase() == Phase::Free || !self.hold.is_mine() {
            return;
        }
        // An operation that gave up, or a closure that panicked. Should the pool's lock be refused, the record stays as it is, and the
        // bucket's next owner would not look for it: but it is refused only to a thread without a slot, and this one has one.
        let _ = self.hold.ground.settle(self.index, self.state, Patience::Endless, Tally::default());
    }
}

impl Word {
    /// As the log says it: the row, or 0 for the bucket; which of its words.
    fn address(self) -> (u32, usize) {
        match self {
            Word::Bucket(at) => (0, at),
            Word::Row(row, at) => (row, at),
        }
    }
}
