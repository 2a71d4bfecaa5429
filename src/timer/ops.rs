//! What a timer can be asked for.

use std::time::Duration;

use super::shared::{Ground, Half, NEVER, State, WHAT, Who};
use super::{Timer, TimerId, TimerInfo, TimerStats};
use crate::robust::{Owned, Patience, TURN, disarm};
use crate::sync::{Ordering, clock, fence, futex, owned};
use crate::{Error, Result};

/// The shortest delay.
const MIN: Duration = Duration::from_millis(1);
/// The longest delay: a day.
const MAX: Duration = Duration::from_millis(86_400_000);

impl Timer {
    /// Fires once, `delay` from now: 1 ms ..= 86 400 000 ms, in whole or fractional milliseconds.
    ///
    /// # Errors
    /// [`Error::BadDelay`]; [`Error::Full`]; [`Error::TooManyParticipants`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let timer = commons::Timer::new(100)?;
    /// let id = timer.after(Duration::from_millis(50), 7)?;
    /// assert!(timer.exists(id) && timer.clear(id)? && !timer.exists(id));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn after(&self, delay: Duration, payload: u64) -> Result<TimerId> {
        self.ground.add(delay, 0, payload)
    }

    /// Fires every `interval`, 1 ms ..= 86 400 000 ms, first one interval from now. Keeps its phase: it does not drift, and periods in which nobody
    /// called [`expire`](Timer::expire) are skipped.
    ///
    /// # Errors
    /// As [`after`](Timer::after).
    pub fn tick(&self, interval: Duration, payload: u64) -> Result<TimerId> {
        self.ground.add(interval, interval.as_nanos() as u64, payload)
    }

    /// Ends a timer; whether it was there.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`].
    pub fn clear(&self, id: TimerId) -> Result<bool> {
        let ground = &*self.ground;
        if self.look(id).is_none() {
            return Ok(false);
        }
        let held = ground.enter()?;
        let entry = &ground.entries[id.entry as usize];
        let (state, _) = entry.held();
        if !state.is_live() || state.generation() != id.generation {
            return Ok(false);
        }
        held.end(id.entry as usize, state);
        held.settle();
        Ok(true)
    }

    /// Ends all timers; how many.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`].
    pub fn clear_all(&self) -> Result<usize> {
        let ground = &*self.ground;
        let held = ground.enter()?;
        let mut cleared = 0;
        while let Some((entry, _)) = ground.first() {
            let (state, _) = ground.entries[entry].held();
            held.end(entry, state);
            cleared += 1;
        }
        held.settle();
        Ok(cleared)
    }

    /// Whether the timer is there still.
    pub fn exists(&self, id: TimerId) -> bool {
        self.look(id).is_some()
    }

    /// When it is due, how often it comes, how often it fired, what it carries; None when it is gone. Takes no lock.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let timer = commons::Timer::new(100)?;
    /// let id = timer.tick(Duration::from_millis(50), 7)?;
    /// let info = timer.info(id).unwrap();
    /// assert_eq!((info.interval, info.fired, info.payload), (Some(Duration::from_millis(50)), 0, 7));
    /// assert!(info.due <= Duration::from_millis(50));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn info(&self, id: TimerId) -> Option<TimerInfo> {
        self.look(id)
    }

    /// All timers, those of the dead included, in no order. Takes no lock: one that comes or goes meanwhile may be listed or not.
    pub fn list(&self) -> Vec<(TimerId, TimerInfo)> {
        let all = 0..self.ground.capacity();
        all.filter_map(|entry| {
            // Acquire: pairs with the Release of whoever made the timer.
            let state = State(self.ground.entries[entry].state.load(Ordering::Acquire));
            if !state.is_live() {
                return None;
            }
            let id = TimerId { heap: self.ground.heap(), entry: entry as u32, generation: state.generation() };
            Some((id, self.look(id)?))
        })
        .collect()
    }

    /// How long until the first timer is due; zero when it is overdue, None when there is none. One load.
    pub fn next_due(&self) -> Option<Duration> {
        // Acquire: pairs with the Release in `settle`.
        match self.ground.head.next.load(Ordering::Acquire) {
            NEVER => None,
            due => Some(Duration::from_nanos(due.saturating_sub(clock::now()))),
        }
    }

    /// Figures.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`], for it takes the lock.
    pub fn stats(&self) -> Result<TimerStats> {
        let ground = &*self.ground;
        let _held = ground.enter()?;
        Ok(TimerStats { live: owned(&ground.head.live) as usize, capacity: ground.capacity() })
    }

    fn look(&self, id: TimerId) -> Option<TimerInfo> {
        let ground = &*self.ground;
        if id.heap != ground.heap() {
            return None;
        }
        let entry = ground.entries.get(id.entry as usize)?;
        loop {
            // Acquire: pairs with the Release of every change of state; what belongs to it is seen.
            let state = State(entry.state.load(Ordering::Acquire));
            if !state.is_live() || state.generation() != id.generation {
                return None;
            }
            let half = &entry.halves[state.half()];
            // Relaxed, all: between the two looks at the state.
            let due = half.due.load(Ordering::Relaxed);
            let interval = entry.interval.load(Ordering::Relaxed);
            let info = TimerInfo {
                due: Duration::from_nanos(due.saturating_sub(clock::now())),
                interval: (interval != 0).then(|| Duration::from_nanos(interval)),
                fired: half.fired.load(Ordering::Relaxed),
                payload: entry.payload.load(Ordering::Relaxed),
            };
            // Pairs with the Release fence before a half is filled: who has seen any of that sees the state that came before it.
            fence(Ordering::Acquire);
            if entry.state.load(Ordering::Relaxed) == state.0 {
                return Some(info);
            }
        }
    }

    /// Calls `f` with every timer that is due, in order of due time and, of equal ones, of creation; how many. One that fires once is gone before it is
    /// called; a timer that is made in a call, or comes round again, is not called in the same pass. The lock is not held meanwhile, so `f`
    /// may add and clear, and others may.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let timer = commons::Timer::new(100)?;
    /// timer.after(Duration::from_millis(1), 7)?;
    /// let mut seen = Vec::new();
    /// while timer.expire(|_, payload| seen.push(payload))? == 0 {
    ///     std::thread::sleep(timer.next_due().unwrap());
    /// }
    /// assert_eq!(seen, [7]);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn expire(&self, mut f: impl FnMut(TimerId, u64)) -> Result<usize> {
        let now = clock::now();
        let mut called = 0;
        // Relaxed: a look; the lock decides.
        while self.ground.head.next.load(Ordering::Relaxed) <= now {
            let Some((id, payload)) = self.ground.fire(now)? else { break };
            f(id, payload);
            called += 1;
        }
        Ok(called)
    }
}

/// Holds the lock until it is dropped.
struct Held<'g> {
    ground: &'g Ground,
    lock: Option<Owned>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            self.ground.head.lock.release(lock);
        }
    }
}

impl Ground {
    fn heap(&self) -> u32 {
        self.region.id() as u32
    }

    fn enter(&self) -> Result<Held<'_>> {
        let lock = &self.head.lock;
        let owned = lock.acquire(self.head.key(lock.cell()), WHAT, Patience::Endless)?;
        let recovered = owned.recovered();
        let held = Held { ground: self, lock: Some(owned) };
        if recovered {
            self.rebuild();
        }
        Ok(held)
    }

    fn add(&self, delay: Duration, interval: u64, payload: u64) -> Result<TimerId> {
        if !(MIN..=MAX).contains(&delay) {
            return Err(Error::BadDelay { delay });
        }
        let held = self.enter()?;
        let Some(number) = self.take_entry() else { return Err(Error::Full { capacity: self.capacity() }) };
        let entry = &self.entries[number];
        let (state, _) = entry.held();
        let made = state.made();
        let due = clock::now() + delay.as_nanos() as u64;
        let sequence = owned(&self.head.sequence);
        // Pairs with the Acquire fence in `look`: who reads any of this for an earlier timer sees that that one has ended.
        fence(Ordering::Release);
        // Relaxed, all: published by the state.
        entry.interval.store(interval, Ordering::Relaxed);
        entry.payload.store(payload, Ordering::Relaxed);
        entry.sequence.store(sequence, Ordering::Relaxed);
        entry.halves[made.half()].fill(due, 0);
        self.head.sequence.store(sequence + 1, Ordering::Relaxed);
        // The commit. Release: pairs with the Acquire in `look` and `list`.
        entry.state.store(made.0, Ordering::Release);
        self.insert(due, Who::new(sequence, number));
        held.settle();
        Ok(TimerId { heap: self.heap(), entry: number as u32, generation: made.generation() })
    }

    /// Fires the first timer, if it is due at `now`.
    fn fire(&self, now: u64) -> Result<Option<(TimerId, u64)>> {
        let held = self.enter()?;
        let Some((number, due)) = self.first().filter(|(_, due)| *due <= now) else {
            held.settle();
            return Ok(None);
        };
        let entry = &self.entries[number];
        let (state, half) = entry.held();
        let id = TimerId { heap: self.heap(), entry: number as u32, generation: state.generation() };
        let payload = owned(&entry.payload);
        match owned(&entry.interval) {
            0 => held.end(number, state),
            interval => {
                // The next instant of its phase that is not yet over.
                let next = due + interval * ((now - due) / interval + 1);
                let fired = state.fired();
                fence(Ordering::Release); // as in `add`
                entry.halves[fired.half()].fill(next, owned(&half.fired) + 1);
                entry.state.store(fired.0, Ordering::Release); // the commit, as in `add`
                self.renew(number, next);
            }
        }
        held.settle();
        Ok(Some((id, payload)))
    }
}

impl Half {
    fn fill(&self, due: u64, fired: u64) {
        // Relaxed: published by the state.
        self.due.store(due, Ordering::Relaxed);
        self.fired.store(fired, Ordering::Relaxed);
    }
}

impl Held<'_> {
    /// Ends a timer: the commit, and what follows from it.
    fn end(&self, number: usize, state: State) {
        let ground = self.ground;
        // Release: what was done before the end is seen by who finds it gone.
        ground.entries[number].state.store(state.ended().0, Ordering::Release);
        ground.remove(number);
        ground.give_entry(number);
    }

    /// Says when the next timer is due, and wakes who sleeps for longer.
    fn settle(&self) {
        let head = &self.ground.head;
        let due = self.ground.first().map_or(NEVER, |(_, due)| due);
        let before = owned(&head.next);
        if due == before {
            return;
        }
        // Release: pairs with the Acquire in `next_due`.
        head.next.store(due, Ordering::Release);
        if due < before {
            // AcqRel: pairs with `arm`; of the one who lies down and this, at least one sees the other.
            let turn = head.turn.fetch_add(TURN, Ordering::AcqRel);
            if turn & 1 == 1 && futex::wake(&head.turn, u32::MAX) == 0 {
                disarm(&head.turn, turn);
            }
            // Relaxed: whoever asks for it looks at `next` afterwards.
            if head.watched.load(Ordering::Relaxed) != 0 {
                self.ground.changed.signal();
            }
        }
    }
}
