//! A record: what a writer is doing, written down so that whoever comes after its death can undo or finish it.
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

use super::shared::{Half, Record};
use crate::robust::Tag;
use crate::sync::{AtomicU64, Ordering, owned};

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
    pub(super) fn new(tag: Tag, bucket: usize, phase: Phase, parity: usize) -> State {
        State(u64::from(tag.bits()) << (64 - Tag::BITS) | (bucket as u64) << 4 | (parity as u64) << 3 | phase as u64)
    }
    pub(super) fn free(number: u64, parity: usize) -> State {
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
    pub(super) fn bucket(self) -> usize {
        (self.0 >> 4) as usize & ((1 << 30) - 1)
    }
    pub(super) fn tag(self) -> Tag {
        Tag::from_bits((self.0 >> (64 - Tag::BITS)) as u32)
    }
    pub(super) fn at(self, phase: Phase) -> State {
        State(self.0 & !7 | phase as u64)
    }
    pub(super) fn other_half(self) -> State {
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

impl Record {
    /// Fills the half that does not count with the figures of the one that does and `more`; a number that no earlier state had.
    #[inline(always)]
    pub(super) fn fill_other(&self, parity: usize, more: Tally) -> u64 {
        let (now, other) = (&self.halves[parity], &self.halves[1 - parity]);
        let mut number = 0;
        let mut add = |field: fn(&Half) -> &AtomicU64, more: u64| {
            let sum = owned(field(now)).wrapping_add(more);
            // Release: pairs with the Acquire in `Half::read`; who sees it sees the state that made the other half count, of which this thread
            // need not have been the author.
            field(other).store(sum, Ordering::Release);
            number += sum;
        };
        add(|half| &half.inserts, more.inserts);
        add(|half| &half.updates, more.updates);
        add(|half| &half.deletes, more.deletes);
        add(|half| &half.recoveries, more.recoveries);
        add(|half| &half.collisions, more.collisions);
        other.longest.store(owned(&now.longest).max(more.longest), Ordering::Release); // as above
        number
    }
}
