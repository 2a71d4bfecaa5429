//! What a participant holds or waits for: one entry each, written by its own thread alone.
//!
//! An entry is two words. `what` says which structure; `tally` says how many, with the generation of the slot's tenant. The
//! entry is valid while `tally` carries the tenant's generation, so one store of `tally` makes it valid and one store makes it void.
//!
//! Readers load `tally` first and `what` second. The race one would fear: the owner strikes the entry for A and uses it for B, and
//! a reader puts B's tally down to A. The owner stores B's `what` before B's `tally` (Release), so whoever has seen B's tally
//! (Acquire) sees B's `what` or a later one.

use crate::shm::{Key, shared};
use crate::sync::{AtomicU64, Ordering, size};

/// Entries in a ledger: what one thread can hold at once.
pub(crate) const MAX_HELD: usize = size(28, 2);

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Owns the lock whose word the key names, or is about to.
    Lock = 1,
    /// Reads under the read-write lock whose drain word the key names.
    Read = 2,
    /// Holds `count` permits of the semaphore whose turn word the key names.
    Permit = 3,
    /// Sleeps on the word that the key names; `count` is the sleeper's own affair.
    Sleep = 4,
}

shared! {
    pub(crate) struct Entry {
        what: AtomicU64,
        tally: AtomicU64,
    }
}

/// A valid entry as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    what: u64,
    pub(crate) count: u32,
}

/// An entry of the calling thread's ledger, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held(pub(super) u8);

fn what(claim: Claim, key: Key) -> u64 {
    (claim as u64) << Key::BITS | key.bits()
}

impl Noted {
    pub(crate) fn is(self, claim: Claim, key: Key) -> bool {
        self.what == what(claim, key)
    }

    /// Claim and key; None for a claim that this version does not know.
    pub(super) fn parts(self) -> Option<(Claim, Key)> {
        let claim = match self.what >> Key::BITS {
            1 => Claim::Lock,
            2 => Claim::Read,
            3 => Claim::Permit,
            4 => Claim::Sleep,
            _ => return None,
        };
        Some((claim, Key::from_bits(self.what)))
    }
}

impl Entry {
    /// Makes the entry say `claim` on `key`, `count` times, for the tenant of `generation`.
    #[inline(always)]
    pub(super) fn write(&self, generation: u32, claim: Claim, key: Key, count: u32) {
        // Relaxed: published by the tally.
        self.what.store(what(claim, key), Ordering::Relaxed);
        self.recount(generation, count);
    }

    /// Changes how many.
    #[inline(always)]
    pub(super) fn recount(&self, generation: u32, count: u32) {
        // Release: pairs with the Acquire in `read`; whoever sees the tally sees what it is for.
        self.tally.store(u64::from(generation) << 32 | u64::from(count), Ordering::Release);
    }

    /// Makes the entry void.
    #[inline(always)]
    pub(super) fn strike(&self) {
        // Release: what was done under the claim happens before anybody finds it gone (Acquire in `read`).
        self.tally.store(0, Ordering::Release);
    }

    /// What the tenant of `generation` has noted here, if anything. Generations start at 1, so a void tally is nobody's.
    pub(crate) fn read(&self, generation: u32) -> Option<Noted> {
        // Acquire: pairs with the Release in `recount` and `strike`.
        let tally = self.tally.load(Ordering::Acquire);
        // Relaxed: ordered behind the tally; see the head of this file.
        let what = self.what.load(Ordering::Relaxed);
        (tally >> 32 == u64::from(generation) && generation != 0).then_some(Noted { what, count: tally as u32 })
    }
}
