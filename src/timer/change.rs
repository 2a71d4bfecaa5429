//! Making, ending and firing timers: what is done under the lock.

use super::TimerId;
use super::shared::{Ground, LAST, State, WHAT};
use crate::robust::{Owned, Patience, TURN, disarm};
use crate::sync::{Ordering, fence, futex, owned};
use crate::{Error, Result};

/// Holds the lock until it is dropped.
pub(super) struct Held<'g> {
    ground: &'g Ground,
    lock: Option<Owned>,
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            self.ground.head.lock.release(lock);
        }
    }
}

impl Ground {
    /// Takes the lock, and builds anew what follows from the entries if its last owner died.
    #[inline(always)]
    pub(super) fn enter(&self, patience: Patience) -> Result<Held<'_>> {
        match self.head.lock.acquire_at_once(self.key) {
            // Who was to be taken over from would have been in the way.
            Some(lock) => Ok(Held { ground: self, lock: Some(lock) }),
            None => self.enter_slowly(patience),
        }
    }

    #[cold]
    fn enter_slowly(&self, patience: Patience) -> Result<Held<'_>> {
        let lock = self.head.lock.acquire(self.key, WHAT, patience)?;
        let recovered = lock.recovered();
        let held = Held { ground: self, lock: Some(lock) };
        if recovered {
            // Should this one die as well, the lock says so once more, and the next one begins again.
            self.rebuild();
        }
        Ok(held)
    }
}

impl Held<'_> {
    /// Makes a timer; `interval` is 0 for one that fires once.
    #[inline]
    pub(super) fn make(&self, due: u64, interval: u64, payload: u64) -> Result<TimerId> {
        let ground = self.ground;
        let Some(number) = ground.take_entry() else { return Err(Error::Full { capacity: ground.capacity() }) };
        let (head, entry) = (&ground.head, &ground.entries[number]);
        let generation = owned(&head.made) + 1;
        // Relaxed, here and below: under the lock. Before the timer, so that no other one is ever called by its id.
        head.made.store(generation, Ordering::Relaxed);
        if due < owned(&head.next) {
            self.hasten(due);
        }
        let state = State::made(generation, interval != 0);
        // Pairs with the Acquire fence in `look`: who reads any of this for an earlier timer sees that that one has ended.
        fence(Ordering::Release);
        if interval != 0 {
            ground.ticks[number].interval.store(interval, Ordering::Relaxed);
            ground.fired(number, state).store(0, Ordering::Relaxed);
        }
        entry.payload.store(payload, Ordering::Relaxed);
        ground.due(number, state).store(due, Ordering::Relaxed);
        // The commit. Release: pairs with the Acquire in `look`.
        entry.state.store(state.0, Ordering::Release);
        ground.insert(due, number);
        Ok(TimerId { heap: ground.key.bits(), entry: number as u32, generation })
    }

    /// Says that somebody will be due sooner than was known, and wakes who sleeps for longer. Before the commit: who dies in between has only had
    /// somebody look in vain, and there is no instant at which a timer is there and a driver sleeps over it.
    #[cold]
    fn hasten(&self, due: u64) {
        let head = &self.ground.head;
        // Relaxed: ordered by the turn.
        head.next.store(due, Ordering::Relaxed);
        // AcqRel: pairs with `arm`, and with the same in `notifier`; of the one who lies down and this, at least one sees what the other has written.
        let turn = head.turn.fetch_add(TURN, Ordering::AcqRel);
        if turn & 1 == 1 && futex::wake(&head.turn, u32::MAX) == 0 {
            disarm(&head.turn, turn);
        }
        // Relaxed: ordered by the turn.
        if head.watched.load(Ordering::Relaxed) != 0 {
            self.ground.changed.signal();
        }
    }

    /// Ends the timer `id`; whether it was there.
    #[inline]
    pub(super) fn clear(&self, id: TimerId) -> bool {
        let ground = self.ground;
        let number = id.entry as usize;
        let state = ground.entries[number].held();
        if !state.is_of(id.generation) {
            return false;
        }
        self.end(number, state);
        ground.remove(number);
        ground.give_entry(number);
        ground.postpone();
        true
    }

    /// The commit of an end.
    #[inline]
    fn end(&self, number: usize, state: State) {
        // Release: what was done before the end is seen by who finds it gone.
        self.ground.entries[number].state.store(state.ended().0, Ordering::Release);
    }

    /// Ends all; how many.
    pub(super) fn clear_all(&self) -> usize {
        let ground = self.ground;
        let live = owned(&ground.head.live) as usize;
        for number in 0..owned(&ground.head.fresh) as usize {
            let state = ground.entries[number].held();
            if state.is_live() {
                self.end(number, state);
            }
        }
        ground.rebuild();
        live
    }

    /// Fires the first timer, if it is due at `now`.
    pub(super) fn fire(&self, now: u64) -> Option<(TimerId, u64)> {
        let ground = self.ground;
        let Some((due, number)) = ground.first().filter(|(due, _)| *due <= now) else {
            ground.postpone();
            return None;
        };
        let entry = &ground.entries[number];
        let state = entry.held();
        let id = TimerId { heap: ground.key.bits(), entry: number as u32, generation: state.generation() };
        let payload = owned(&entry.payload);
        if state.ticks() {
            let next = following(due, owned(&ground.ticks[number].interval), now);
            let (fired, then) = (owned(ground.fired(number, state)) + 1, state.fired());
            // As in `make`; who reads any of this half for the time when it last counted sees that another one did since.
            fence(Ordering::Release);
            ground.due(number, then).store(next, Ordering::Relaxed);
            // Release: pairs with the Acquire in `look`, which sees from the count that the due time is another one.
            ground.fired(number, then).store(fired, Ordering::Release);
            // The commit. Release: pairs with the Acquire in `look`.
            entry.state.store(then.0, Ordering::Release);
            ground.renew(number, next);
        } else {
            self.end(number, state);
            ground.remove(number);
            ground.give_entry(number);
        }
        ground.postpone();
        Some((id, payload))
    }

    /// Timers there are.
    pub(super) fn live(&self) -> usize {
        owned(&self.ground.head.live) as usize
    }
}

/// The next instant of a phase that is not over at `now`, which is `due` or later.
fn following(due: u64, interval: u64, now: u64) -> u64 {
    let missed = (now - due) / interval;
    due.saturating_add(interval.saturating_mul(missed + 1)).min(LAST)
}
