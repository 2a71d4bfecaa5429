//! The robust lock: owner in the word, sleep on its half, take over from the dead.

use std::time::Duration;

use super::ledger::{Claim, Held};
use super::participant::{Seat, certainly_dead, known_dead, me, seated};
use super::rest::{Patience, Rest, Slices};
use super::word::LockWord;
use crate::shm::{Key, shared};
use crate::sync::{AtomicU64, Look, Ordering, fence, futex, spin_hint, spins};
use crate::{Error, Result};

shared! {
    /// Eight bytes of shared memory; zero is free.
    pub(crate) struct RobustLock {
        word: AtomicU64,
    }
}

/// The receipt of an acquisition: what is needed to release it. Two whole words, so that it stays in registers on its way through results and
/// guards: one with gaps is copied by overlapping halves, each of which waits for the stores before.
#[must_use]
#[derive(Clone, Copy)]
pub(crate) struct Owned {
    /// The word as it was when taken, which names the owner; its version does not change while it is owned.
    taken: LockWord,
    /// The number of the entry in the ledger, [`NO_ENTRY`] without one; [`RECOVERED`].
    how: u64,
}

const NO_ENTRY: u64 = 0xff;
const RECOVERED: u64 = 1 << 8;

impl Owned {
    #[inline(always)]
    fn new(taken: LockWord, held: Option<Held>, recovered: bool) -> Owned {
        let how = held.map_or(NO_ENTRY, |held| u64::from(held.0)) | if recovered { RECOVERED } else { 0 };
        Owned { taken, how }
    }

    /// Whether the previous owner died holding the lock.
    #[inline(always)]
    pub(crate) fn recovered(&self) -> bool {
        self.how & RECOVERED != 0
    }

    #[inline(always)]
    fn held(&self) -> Option<Held> {
        if self.how & NO_ENTRY == NO_ENTRY { None } else { Some(Held(self.how as u8)) }
    }

    /// Whether the calling thread is the owner; false in a process that only inherited the receipt by a fork.
    #[inline(always)]
    pub(crate) fn is_mine(&self) -> bool {
        self.seat().is_some()
    }

    /// The calling thread's seat, if it is the owner.
    #[inline(always)]
    fn seat(&self) -> Option<Seat> {
        seated().filter(|seat| self.taken.owner() == Some(seat.tag()))
    }
}

/// A lock as it was when nobody owned it.
#[derive(Clone, Copy)]
pub(crate) struct Stamp(LockWord);

impl RobustLock {
    /// The word as it is, for one who sleeps until it changes.
    pub(crate) fn word(&self) -> u64 {
        // Relaxed: only compared.
        self.word.load(Ordering::Relaxed)
    }

    /// Whether somebody sleeps until it is free, or did; for its owner, who may then give way.
    #[inline(always)]
    pub(crate) fn is_wanted(&self) -> bool {
        // Relaxed: a courtesy; the release tells for certain.
        LockWord(self.word.load(Ordering::Relaxed)).contended()
    }

    /// The cell that names the lock.
    pub(crate) fn cell(&self) -> &AtomicU64 {
        &self.word
    }

    /// Takes the lock, waiting as long as `patience` lasts.
    ///
    /// `key` names this lock's cell; `what` is the word for it in errors.
    ///
    /// # Errors
    /// [`Error::WouldDeadlock`]; [`Error::Timeout`], without patience after no time at all; [`Error::TooManyParticipants`].
    #[inline(always)]
    pub(crate) fn acquire(&self, key: Key, what: &'static str, patience: Patience) -> Result<Owned> {
        match self.acquire_at_once(key) {
            Some(owned) => Ok(owned),
            None => self.acquire_slowly(key, what, patience),
        }
    }

    /// The fast path: a thread that has its seat, and a lock that is free and in order; so the receipt says that nobody died. None is no
    /// answer, but a case for `acquire`.
    #[inline(always)]
    pub(crate) fn acquire_at_once(&self, key: Key) -> Option<Owned> {
        let seat = seated()?;
        // Relaxed: the exchange decides.
        let seen = LockWord(self.word.load(Ordering::Relaxed));
        if !seen.is_free() {
            return None;
        }
        // Before the exchange, so that a death right after it finds the lock in the ledger.
        let held = seat.note_at_once(Claim::Lock, key, 1)?;
        let taken = seen.taken_by(seat.tag());
        if !self.exchange(seen, taken) {
            seat.strike(held);
            return None;
        }
        Some(Owned::new(taken, Some(held), false))
    }

    #[inline(always)]
    fn exchange(&self, from: LockWord, to: LockWord) -> bool {
        // Acquire: pairs with the Release in `release` and in burial; what the last owner wrote is seen. Release: the entry in the ledger,
        // written before, is seen by who finds this owner dead.
        self.word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn acquire_slowly(&self, key: Key, what: &'static str, patience: Patience) -> Result<Owned> {
        let seat = me()?;
        // Before any exchange, as above. A full ledger is no obstacle: the word names the owner.
        let held = seat.note(Claim::Lock, key, 1);
        let result = self.contend(what, patience, seat);
        if let (Some(held), Err(_)) = (held, &result) {
            seat.strike(held);
        }
        let (taken, recovered) = result?;
        Ok(Owned::new(taken, held, recovered))
    }

    /// The word as taken, and whether its previous owner died.
    fn contend(&self, what: &'static str, patience: Patience, seat: Seat) -> Result<(LockWord, bool)> {
        let mut spins = spins();
        let (mut slept, mut closely) = (false, false);
        let mut slices = Slices::new();
        loop {
            // With Acquire: who sees the word name an owner must see that owner's slot live: it was
            // claimed before, and an older state of it would pass for a death, and a living owner be robbed.
            let seen = self.load();
            let Some(owner) = seen.owner() else {
                // Who slept cannot know whether others still do, and so lets the next release wake one more.
                let taken = seen.taken_by(seat.tag());
                let taken = if slept { taken.with_sleepers() } else { taken };
                if self.exchange(seen, taken) {
                    return Ok((taken, seen.dirty()));
                }
                continue;
            };
            if owner == seat.tag() {
                return Err(Error::WouldDeadlock { what });
            }
            // At the end of a slice the one to look at is whoever owns it now; it need not be the one that this thread fell asleep for.
            if known_dead(owner) || (std::mem::take(&mut closely) && certainly_dead(owner, Look::Close)) {
                let taken = seen.taken_by(seat.tag());
                let taken = if slept || seen.contended() { taken.with_sleepers() } else { taken };
                if self.exchange(seen, taken) {
                    return Ok((taken, true));
                }
                continue;
            }
            if matches!(patience, Patience::None) {
                // Who only tries has no slice after which it would look closely, so it does now (5 µs): a zombie is dead too.
                if certainly_dead(owner, Look::Close) {
                    continue;
                }
                return Err(Error::Timeout { after: Duration::ZERO });
            }
            if spins > 0 && !seen.contended() {
                spins -= 1;
                spin_hint();
                continue;
            }
            let asleep = seen.with_sleepers();
            if !seen.contended() && !self.exchange(seen, asleep) {
                continue;
            }
            // Only now, with the word saying that somebody may sleep: a waiter that gives up may have used up a wake-up meant for
            // another, which the flag makes good.
            patience.check()?;
            slept = true;
            closely = slices.rest(&self.word, asleep.0, patience) == Rest::SliceOver;
        }
    }

    /// The word, if nobody owns the lock and nobody died owning it: what a reader without the lock begins with.
    #[inline(always)]
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        let word = self.load();
        word.is_free().then_some(Stamp(word))
    }

    /// Whether nobody has owned the lock since `stamp`, so that all that was read meanwhile, without order, belongs together.
    ///
    /// A reader that is held up between the two while the lock changes hands exactly 2^32 times is deceived.
    #[inline(always)]
    pub(crate) fn still(&self, stamp: Stamp) -> bool {
        // Pairs with the writer's Release fence between its taking the lock and its first change: who has read anything of the change sees
        // the lock taken.
        fence(Ordering::Acquire);
        // Relaxed: ordered by the fence.
        self.word.load(Ordering::Relaxed) == stamp.0.0
    }

    /// Gives the lock back, and wakes one sleeper if there may be one. In a process that only inherited the receipt by a fork, nothing
    /// happens: the lock is its parent's.
    #[inline(always)]
    pub(crate) fn release(&self, owned: Owned) {
        let next = owned.taken.released();
        self.release_as(owned, next);
    }

    /// The same, and the next owner is told that one died.
    pub(crate) fn release_dirty(&self, owned: Owned) {
        let next = owned.taken.released_dirty();
        self.release_as(owned, next);
    }

    #[inline(always)]
    fn release_as(&self, owned: Owned, next: LockWord) {
        let Some(seat) = owned.seat() else { return };
        // Release: pairs with the Acquire of the next owner's exchange. A swap, not a store: it brings along the contended flag, which
        // others may have set until this very instant.
        let old = LockWord(self.word.swap(next.0, Ordering::Release));
        if old.contended() {
            futex::wake(&self.word, 1);
        }
        // Last: a death before the wake-up leaves the entry, and burial wakes in its place.
        if let Some(held) = owned.held() {
            seat.strike(held);
        }
    }

    /// Whether somebody owns it, or died owning it and nobody has taken it since.
    pub(crate) fn load(&self) -> LockWord {
        // Acquire: pairs with the Release in `release` and in `exchange`.
        LockWord(self.word.load(Ordering::Acquire))
    }
}
