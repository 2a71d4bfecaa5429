//! One wait at one end: for a while looking, then asleep.

use std::time::Duration;

use super::ground::{End, Ground};
use super::mark::Mark;
use super::pop::Consumer;
use crate::robust::{Patience, Rest, Slices, me};
use crate::sync::{AtomicU64, Ordering, futex, owned, spin_hint, spins};
use crate::{Error, Result};

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

impl Ground {
    #[cold]
    pub(super) fn tell_of_room(&self, old: Mark, messages: usize) {
        if old.asleep() {
            futex::wake(&self.ends.floor.at, u32::try_from(messages).unwrap_or(u32::MAX));
        }
        if old.armed() {
            self.emptied.signal();
        }
    }

    /// Whether there may be something to pop, or nothing ever again; looks for a while, where that has helped before. For one who has no thread to
    /// put to sleep, and asks before it is armed: a push that comes meanwhile makes no system call.
    #[cfg(feature = "tokio")]
    pub(super) fn looks_filled(&self) -> bool {
        let ends = &*self.ends;
        let filled = |tail: Mark| tail.closed() || ends.floor.mark().messages_to(tail) > 0;
        let seen = ends.tail.mark();
        if filled(seen) {
            return true;
        }
        let mut waiting = Waiting::new(&self.in_vain[0]);
        if waiting.looks() {
            waiting.look(&ends.tail, seen);
        }
        filled(ends.tail.mark())
    }

    /// Waits for a push, having found nothing under the lock, which is let go; `keep`: not while only looking.
    #[cold]
    pub(super) fn wait_for_message(
        &self,
        held: &mut Option<Consumer<'_>>,
        keep: bool,
        waiting: &mut Waiting<'_>,
        patience: Patience,
    ) -> Result<()> {
        let ends = &*self.ends;
        let Some(consumer) = held else { return Ok(()) };
        // Where the tail was when the consumer looked: a look that finds nothing has just read it.
        let tail = Mark(owned(&ends.floor.seen));
        // What is leased may come back.
        if tail.closed() && consumer.alone() {
            return Err(Error::Closed);
        }
        if matches!(patience, Patience::None) {
            // Who only tries has no slice after which it would look closely at those who have leased something, so it does now.
            if !consumer.alone() && !std::mem::replace(&mut waiting.looked, true) {
                waiting.closely = true;
                return Ok(());
            }
            if self.waited_for() && !consumer.arm(tail) {
                return Ok(());
            }
            return Err(Error::Timeout { after: Duration::ZERO });
        }
        if waiting.looks() {
            if !keep {
                *held = None;
            }
            waiting.look(&ends.tail, tail);
            return Ok(());
        }
        // Under the lock: who gives a lease back does so under it, and sees the flag.
        let Some(flagged) = ends.tail.flag(tail, Mark::with_sleepers) else { return Ok(()) };
        *held = None;
        patience.check()?;
        let seat = me()?;
        seat.lie_down(self.tail.at, 0);
        waiting.sleep(&ends.tail, flagged, patience);
        seat.get_up();
        Ok(())
    }
}
