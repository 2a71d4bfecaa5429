//! What a writer is doing, written down so that whoever comes after its death can undo or finish it.
//!
//! A writer holds the lock of one bucket and one record. The record's state names the bucket, so the next owner of that bucket's lock finds
//! it: under the lock, any record that names the bucket and is not one's own is a dead writer's.
//!
//! ```text
//!         begin            take_row            arm                commit                     row given back
//!  FREE p ──────► BUSY p ──────────► TAKING p ──────► UNDO p ───────────────► FREE !p
//!     ▲             │                  │                │  └─(a row leaves)─► FREEING !p ──────────► FREE !p
//!     └─────────────┴── abandoned ─────┘                │
//!  settled by another: BUSY nothing; TAKING gives the row back; UNDO writes the old words back, and the row; FREEING gives the row back
//! ```
//! The log holds the old words of everything that will change; `arm` makes it valid by one store, `commit` makes it void by one store. The
//! same store says which of the two halves of the record's figures counts: the other one was filled before. So an operation and
//! its figures happen at one instant, and the number of rows (inserts less deletes) is exact whoever dies.

use super::closure;
use super::ground::{Ground, WHAT};
use super::shared::{Half, Record};
use crate::Result;
use crate::robust::{Owned, Patience, Rest, Slices, TURN, Tag, arm, certainly_dead, disarm, me};
use crate::sync::{AtomicU64, Look, Ordering, fence, futex, owned};

/// `tag << 34 | bucket << 4 | parity << 3 | phase`. A free record has, instead of tag and bucket, a number that is another after each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(pub(super) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody's.
    Free = 0,
    /// Somebody's, and nothing has changed.
    Busy = 1,
    /// `taken` names a row that may have been taken from the pool.
    Taking = 2,
    /// The log is valid; `taken` names a row or is 0.
    Undo = 3,
    /// The change is made; `leaving` names a row that goes back to the pool.
    Freeing = 4,
}

const PARITY: u64 = 1 << 3;

impl State {
    fn new(tag: Tag, bucket: usize, phase: Phase, parity: usize) -> State {
        State(u64::from(tag.bits()) << (64 - Tag::BITS) | (bucket as u64) << 4 | (parity as u64) << 3 | phase as u64)
    }
    fn free(number: u64, parity: usize) -> State {
        State(number << 4 | (parity as u64) << 3)
    }
    pub(super) fn phase(self) -> Phase {
        match self.0 & 7 {
            0 => Phase::Free,
            1 => Phase::Busy,
            2 => Phase::Taking,
            3 => Phase::Undo,
            _ => Phase::Freeing,
        }
    }
    pub(super) fn parity(self) -> usize {
        usize::from(self.0 & PARITY != 0)
    }
    fn bucket(self) -> usize {
        (self.0 >> 4) as usize & ((1 << 30) - 1)
    }
    fn tag(self) -> Tag {
        Tag::from_bits((self.0 >> (64 - Tag::BITS)) as u32)
    }
    fn at(self, phase: Phase) -> State {
        State(self.0 & !7 | phase as u64)
    }
    fn other_half(self) -> State {
        State(self.0 ^ PARITY)
    }
}

/// What an operation adds to the figures.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) inserts: u64,
    pub(super) updates: u64,
    pub(super) deletes: u64,
    pub(super) collisions: u64,
    /// Not added: the figure is the greatest so far.
    pub(super) longest: u64,
    pub(super) recoveries: u64,
}

/// A word that changes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word {
    /// Of the bucket: 0..6 the places, 6 the overflow.
    Bucket(usize),
    /// Of a row.
    Row(u32, usize),
}

/// The number of the bucket's overflow word in a log.
pub(super) const OVERFLOW: usize = super::shared::PLACES;

/// Holds a bucket until it is dropped.
pub(super) struct Hold<'t> {
    pub(super) ground: &'t Ground,
    pub(super) bucket: usize,
    owned: Option<Owned>,
    in_order: bool,
}

impl Ground {
    /// Takes the lock of `bucket`, and settles what its last owner left if that one died.
    pub(super) fn hold(&self, bucket: usize, patience: Patience) -> Result<Hold<'_>> {
        closure::outside(self)?;
        let lock = &self.buckets[bucket].lock;
        let owned = lock.acquire(self.buckets.key(lock.cell()), WHAT, patience)?;
        // Pairs with the Acquire fence in `RobustLock::still`: who reads anything that is written from here on sees the lock taken.
        fence(Ordering::Release);
        let recovered = owned.recovered();
        let mut hold = Hold { ground: self, bucket, owned: Some(owned), in_order: !recovered };
        if recovered {
            self.repair(bucket, patience)?;
            hold.in_order = true;
        }
        Ok(hold)
    }

    /// Settles every record that names `bucket`, whose lock the caller has from a dead owner.
    #[cold]
    fn repair(&self, bucket: usize, patience: Patience) -> Result<()> {
        for (index, record) in self.records.iter().enumerate() {
            // Acquire: pairs with the Release of every change of state; what the dead one wrote before it is seen.
            let state = State(record.state.load(Ordering::Acquire));
            if state.phase() != Phase::Free && state.bucket() == bucket {
                self.settle(index, state, patience, Tally { recoveries: 1, ..Tally::default() })?;
            }
        }
        Ok(())
    }

    /// Undoes or finishes what the record says. May be broken off at any point and done again: it reads only what it does not change.
    fn settle(&self, index: usize, state: State, patience: Patience, tally: Tally) -> Result<()> {
        let record = &self.records[index];
        let bucket = state.bucket();
        match state.phase() {
            Phase::Free | Phase::Busy => {}
            Phase::Taking => self.give_noted(&record.taken, bucket, patience)?,
            Phase::Undo => {
                self.write_back(index, bucket);
                self.give_noted(&record.taken, bucket, patience)?;
            }
            Phase::Freeing => self.give_noted(&record.leaving, bucket, patience)?,
        }
        let number = record.fill_other(state.parity(), tally);
        self.set_free(record, State::free(number, 1 - state.parity()));
        Ok(())
    }

    fn give_noted(&self, noted: &AtomicU64, bucket: usize, patience: Patience) -> Result<()> {
        match owned(noted) as u32 {
            0 => Ok(()),
            row => self.give_row(row, bucket, patience),
        }
    }

    fn log_of(&self, index: usize) -> &[AtomicU64] {
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
            }
            log = next;
        }
    }

    #[inline(always)]
    fn word(&self, bucket: usize, row: u32, at: usize) -> &AtomicU64 {
        if row != 0 {
            return &self.row(row)[at];
        }
        let bucket = &self.buckets[bucket];
        bucket.places.get(at).unwrap_or(&bucket.overflow)
    }

    fn set_free(&self, record: &Record, state: State) {
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
    pub(super) fn sweep(&self) -> Result<bool> {
        let mut found = false;
        for record in self.records.iter() {
            // Acquire: as in `repair`.
            let state = State(record.state.load(Ordering::Acquire));
            if state.phase() != Phase::Free && certainly_dead(state.tag(), Look::Close) {
                drop(self.hold(state.bucket(), Patience::Endless)?);
                found = true;
            }
        }
        Ok(found)
    }

    /// Waits until a record is free: more writers than there are records are in the middle of a change. The caller holds no bucket.
    #[cold]
    pub(super) fn wait_for_record(&self) -> Result<()> {
        let mut slices = Slices::new();
        loop {
            let armed = arm(&self.head.turn);
            // Acquire: as in `repair`.
            let free = |record: &Record| State(record.state.load(Ordering::Acquire)).phase() == Phase::Free;
            if self.records.iter().any(free) || self.sweep()? {
                return Ok(());
            }
            let _: Rest = slices.rest(&self.head.turn, armed, Patience::Endless);
        }
    }
}

impl Hold<'_> {
    /// Whether the calling thread holds it still: not in a process forked meanwhile.
    pub(super) fn is_mine(&self) -> bool {
        self.owned.as_ref().is_some_and(Owned::is_mine)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let Some(owned) = self.owned.take() else { return };
        let lock = &self.ground.buckets[self.bucket].lock;
        if self.in_order { lock.release(owned) } else { lock.release_dirty(owned) }
    }
}

impl Record {
    /// Fills the half that does not count with the figures of the one that does and `more`; a number that no earlier state had.
    #[inline]
    fn fill_other(&self, parity: usize, more: Tally) -> u64 {
        let (now, other) = (&self.halves[parity], &self.halves[1 - parity]);
        let mut number = 0;
        let mut add = |field: fn(&Half) -> &AtomicU64, more: u64| {
            let sum = owned(field(now)).wrapping_add(more);
            // Relaxed: published by the state that follows.
            field(other).store(sum, Ordering::Relaxed);
            number += sum;
        };
        add(|half| &half.inserts, more.inserts);
        add(|half| &half.updates, more.updates);
        add(|half| &half.deletes, more.deletes);
        add(|half| &half.recoveries, more.recoveries);
        add(|half| &half.collisions, more.collisions);
        other.longest.store(owned(&now.longest).max(more.longest), Ordering::Relaxed); // as above
        number
    }
}

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
    /// Takes a record; None when all are taken.
    pub(super) fn begin(hold: &'h Hold<'h>) -> Result<Option<Change<'h>>> {
        let (ground, seat) = (hold.ground, me()?);
        let all = ground.records.len();
        for n in 0..all {
            let index = (seat.index() + n) % all;
            let record = &ground.records[index];
            // Relaxed: the exchange decides.
            let seen = State(record.state.load(Ordering::Relaxed));
            let state = State::new(seat.tag(), hold.bucket, Phase::Busy, seen.parity());
            // AcqRel: Acquire pairs with the Release of the last owner (its figures are seen); Release is for whoever settles this one.
            let taken = seen.phase() == Phase::Free
                && record.state.compare_exchange(seen.0, state.0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if taken {
                // Relaxed, both: they mean nothing before the next state, which publishes them.
                record.taken.store(0, Ordering::Relaxed);
                record.leaving.store(0, Ordering::Relaxed);
                let log = ground.log_of(index);
                let staged = [(Word::Bucket(0), 0); STAGED];
                return Ok(Some(Change { hold, index, record, log, state, logged: 0, staged, stages: 0 }));
            }
        }
        Ok(None)
    }

    fn enter(&mut self, phase: Phase) {
        self.state = self.state.at(phase);
        // Release: pairs with the Acquire in `repair`; whoever settles this sees what the new phase speaks of.
        self.record.state.store(self.state.0, Ordering::Release);
    }

    /// Takes a row from the pool; None when there is none.
    pub(super) fn take_row(&mut self) -> Result<Option<u32>> {
        let (ground, bucket) = (self.hold.ground, self.hold.bucket);
        ground.take_row(bucket, |row| {
            // Relaxed: published by the phase.
            self.record.taken.store(row.into(), Ordering::Relaxed);
            self.enter(Phase::Taking);
        })
    }

    /// Writes the present words down, before they change.
    pub(super) fn save(&mut self, row: u32, at: usize, len: usize) {
        let (ground, bucket) = (self.hold.ground, self.hold.bucket);
        let mut put = |value: u64| {
            // Relaxed: published by `arm`.
            self.log[self.logged].store(value, Ordering::Relaxed);
            self.logged += 1;
        };
        put(u64::from(row) << 32 | at as u64);
        put(len as u64);
        for offset in 0..len {
            put(owned(ground.word(bucket, row, at + offset)));
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

    /// Makes the change: one store.
    pub(super) fn commit(mut self, tally: Tally) -> Result<()> {
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
