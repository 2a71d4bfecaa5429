//! One wait at one end: for a while looking, then asleep.

use super::ground::End;
use super::mark::Mark;
use crate::robust::{Patience, Rest, Slices};
use crate::sync::{AtomicU64, Ordering, spin_hint, spins};

/// So many waits in a row that looking did not end, and this process sleeps at once the next times …
const ENOUGH: u64 = 8;
/// … but for one in so many, which finds out whether that still holds.
const AGAIN: u64 = 256;

/// What a wait knows of itself.
pub(super) struct Waiting<'g> {
    slices: Slices,
    /// How often in a row looking was in vain.
    in_vain: &'g AtomicU64,
    /// Looks that are left before it sleeps.
    looks: u32,
    /// Whether it has slept: then others, who sleep for the same, may not have been woken.
    pub(super) slept: bool,
    /// Whether to look closely at who is alive the next time.
    pub(super) closely: bool,
    /// Whether one who only tries has looked closely.
    pub(super) looked: bool,
}

impl<'g> Waiting<'g> {
    /// `in_vain`: what this process has learned of such waits.
    pub(super) fn new(in_vain: &'g AtomicU64) -> Waiting<'g> {
        let mut looks = spins();
        if looks > 0 {
            // Relaxed, here and below: a guess, which publishes nothing; one that is lost is made again.
            let before = in_vain.load(Ordering::Relaxed);
            if before >= ENOUGH && !before.is_multiple_of(AGAIN) {
                in_vain.store(before + 1, Ordering::Relaxed);
                looks = 0;
            }
        }
        Waiting { slices: Slices::new(), in_vain, looks, slept: false, closely: false, looked: false }
    }

    /// Whether it is still to look rather than to sleep.
    pub(super) fn looks(&self) -> bool {
        self.looks > 0
    }

    /// Looks whether `end` has moved from where it was `seen`, until it has or the looks are used up.
    pub(super) fn look(&mut self, end: &End, seen: Mark) {
        while self.looks > 0 {
            if !end.mark().is_at(seen) {
                return self.in_vain.store(0, Ordering::Relaxed);
            }
            self.looks -= 1;
            spin_hint();
        }
        self.in_vain.store(self.in_vain.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Sleeps until the flagged end moves, at most for a slice.
    pub(super) fn sleep(&mut self, end: &End, flagged: Mark, patience: Patience) {
        self.slept = true;
        self.closely = self.slices.rest(&end.at, flagged.0, patience) == Rest::SliceOver;
    }
}
