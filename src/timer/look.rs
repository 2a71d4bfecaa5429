//! Looking at timers, without the lock.

use std::time::Duration;

use super::shared::{Ground, NEVER, State};
use super::{Timer, TimerId, TimerInfo};
use crate::sync::{Ordering, fence};

impl Timer {
    /// Whether the timer is there still. Takes no lock.
    pub fn exists(&self, id: TimerId) -> bool {
        self.ground.find(id).is_some()
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
        self.ground.look(self.ground.find(id)?, id.generation, self.now())
    }

    /// All timers, in no order, whoever made them, the dead included. Takes no lock: one that comes or goes meanwhile may be listed or not.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let timer = commons::Timer::new(100)?;
    /// let id = timer.after(Duration::from_millis(50), 7)?;
    /// let all = timer.list();
    /// assert!(all.len() == 1 && all[0].0 == id && all[0].1.payload == 7);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn list(&self) -> Vec<(TimerId, TimerInfo)> {
        let (ground, now) = (&*self.ground, self.now());
        // Relaxed: a bound; each entry's state decides. Who has made a timer before this began has raised it before.
        let used = (ground.head.fresh.load(Ordering::Relaxed) as usize).min(ground.capacity());
        let listed = ground.entries[..used].iter().enumerate().filter_map(|(number, entry)| {
            // Relaxed: which one to look for.
            let state = State(entry.state.load(Ordering::Relaxed));
            let id = TimerId { heap: ground.key.bits(), entry: number as u32, generation: state.generation() };
            Some((id, ground.look(number, id.generation, now)?))
        });
        listed.collect()
    }

    /// How long until the first timer is due; zero when it is overdue, None when there is none. One load.
    ///
    /// Never too late: where somebody is in the middle of a change, or has died in it, perhaps too early.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let timer = commons::Timer::new(100)?;
    /// assert_eq!(timer.next_due(), None);
    /// timer.after(Duration::from_millis(50), 7)?;
    /// assert!(timer.next_due().unwrap() <= Duration::from_millis(50));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn next_due(&self) -> Option<Duration> {
        match self.ground.next() {
            NEVER => None,
            due => Some(Duration::from_nanos(due.saturating_sub(self.now()))),
        }
    }
}

impl Ground {
    /// Before this, nothing is due.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        // Relaxed: nothing is read on the strength of it; who fires takes the lock, and who sleeps is ordered by the turn.
        self.head.next.load(Ordering::Relaxed)
    }

    /// The entry that `id` names, if it lives.
    #[inline]
    pub(super) fn find(&self, id: TimerId) -> Option<usize> {
        let number = id.entry as usize;
        let entry = self.entries.get(number).filter(|_| id.heap == self.key.bits())?;
        // Acquire: pairs with the Release of the commits; who finds it gone sees what came before its end.
        let seen = entry.state.load(Ordering::Acquire);
        State(seen).is_of(id.generation).then_some(number)
    }

    /// The timer of this generation, as it was at one instant; None when it is gone.
    ///
    /// The race one would fear: a tick fires twice while somebody reads the half that counted, so that this half is written meanwhile, and counts
    /// again when that one looks at the state once more. So the count is read again as well, last: if the state is what it was because it
    /// has come round, the count in that half is not.
    fn look(&self, number: usize, generation: u64, now: u64) -> Option<TimerInfo> {
        let entry = &self.entries[number];
        loop {
            // Acquire: pairs with the Release of the commits; what belongs to the state is seen.
            let state = State(entry.state.load(Ordering::Acquire));
            if !state.is_of(generation) {
                return None;
            }
            // Acquire: pairs with the Release in `fire`; who has seen the count sees the due time that came with it, or a later one.
            let fired = || if state.ticks() { self.fired(number, state).load(Ordering::Acquire) } else { 0 };
            let before = fired();
            // Relaxed: ordered by the count before and the fence after.
            let due = self.due(number, state).load(Ordering::Relaxed);
            let interval = state.ticks().then(|| self.ticks[number].interval.load(Ordering::Relaxed));
            let payload = entry.payload.load(Ordering::Relaxed);
            // Pairs with the Release fence before anything is written: who has read any of that sees the state that came before it.
            fence(Ordering::Acquire);
            // Acquire: pairs with the commit; who sees the state come round sees the count that came with it.
            if entry.state.load(Ordering::Acquire) == state.0 && fired() == before {
                return Some(TimerInfo {
                    due: Duration::from_nanos(due.saturating_sub(now)),
                    interval: interval.map(Duration::from_nanos),
                    fired: before,
                    payload,
                });
            }
            crate::sync::spin_hint();
        }
    }
}
