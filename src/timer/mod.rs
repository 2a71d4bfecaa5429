//! Floor 4, the timer: who is due first, in shared memory; any process adds, lists, inspects and clears.
//!
//! # What lies in the region
//! ```text
//! head      lock, how many were made, entries in use, nodes, free entries │ when the first is due, turn
//! entries   state │ place │ payload │ due               half a cache line a timer │ the truth
//! ticks     interval │ due │ fired │ fired              as much, only for ticks   │
//! nodes     due │ entry                                 a heap with four children a node
//! ```
//! # The entries are the truth
//! A timer is made, fires, or ends by one store of its entry's state: it says of which generation the timer is, whether it lives, and, of a tick,
//! which of two halves (due, fired) counts; the other one was filled before. The heap, each entry's place in it, the free list and their counts
//! follow from the states, and there is no journal of them: **who takes the lock over from the dead builds them anew**, so it does not matter
//! where that one stopped. It costs a look at every entry that was ever in use, once for each death in the middle of a change; a journal of what
//! is moved in the heap would cost every change.
//!
//! | words | written by | read by others |
//! |---|---|---|
//! | state, payload, due, interval, fired | who holds the lock | at any time, between two looks at the state (`look`) |
//! | nodes, place, live, free | who holds the lock | never |
//! | made, fresh | who holds the lock, before the timer they are for | fresh, as a bound |
//! | next | who holds the lock | at any time: nothing is due before it |
//! | turn | who makes `next` earlier; who lies down to sleep | |
//!
//! # Sleeping until somebody is due (`drive`)
//! `next` is lowered, and the drivers are woken, *before* a timer that is due sooner is made; it is raised after one has gone. So at no instant is
//! a timer there and `next` later than it, whoever died where. The races one would fear: a driver has looked at `next` and falls asleep while it is
//! lowered (arming the turn and moving it are exchanges of one word, so one of the two sees the other); somebody makes a timer and dies before
//! he wakes anybody (there is no timer yet).
//!
//! # Death at each step
//! | dies | then |
//! |---|---|
//! | adding, before the state | there is no such timer; a driver may look once in vain |
//! | adding, after it | there is: the next owner of the lock builds the heap with it, at the latest when it is due |
//! | clearing or firing, before or after the state | it has not happened, or it has, and the heap follows |
//! | having fired, before the call, or in it | the timer has fired: it is not called again (a tick is, next time) |
//! | building anew | the next one begins again: it reads only what it does not change |
//!
//! # Reading without the lock (`look`)
//! `info` and `list` look at the state before and after; a half is only filled while the other one counts, after a fence. A generation is a number
//! of this heap that never comes again, so an id names one timer for ever; within one timer the count of firings tells the halves apart.
//!
//! # Measured
//! 100 000 timers with random deadlines (`benches/timer.rs`), on two cores of a Zen 3 under KVM under a load of eight; medians, the least in
//! brackets, beside a `BTreeMap` in a `Mutex` in memory of one process. The first line was measured apart, under another load.
//!
//! | | adding all | clearing all |
//! |---|---|---|
//! | a cache line an entry, places apart, a look at the clock in `clear` | 54 ms | 24 ms |
//! | half a line, places in it, memory never used before | 15.1 ms (11.2), 0.62 times the map's | 10.6 ms (6.4), 0.51 times |
//! | the same, memory used before: the difference is the kernel's, for 1170 pages | 10.7 ms (6.7), 0.47 times | 10.5 ms (5.1), 0.48 times |
//!
//! One timer that is made and cleared takes 399 instructions without the clock, 160 of them the lock's.

#![forbid(unsafe_code)]

mod change;
mod drive;
mod heap;
mod id;
mod look;
mod perish;
mod shared;

use std::sync::Arc;
use std::time::Duration;

pub use id::TimerId;

use crate::robust::Patience;
use crate::shm::Region;
use crate::sync::clock;
use crate::{Error, Result};
use shared::{Ground, LAST};

/// Timers in shared memory: every process that has it may add, list, inspect and clear; whoever calls [`expire`](Timer::expire) or one of the drivers
/// lets them fire.
///
/// Handles are cheap to clone and valid in every process forked after it was made. Monotonic clock, nanoseconds inside. A process that dies anywhere
/// leaves each timer wholly there or not, and those it has made stay. Memory: 80 bytes a timer, and 448; pages that are never used cost nothing.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// let timer = commons::Timer::new(1000)?; // before the fork
/// timer.after(Duration::from_millis(3), 1)?;
/// timer.after(Duration::from_millis(2), 2)?;
/// let mut seen = Vec::new();
/// timer.run_for(Duration::from_millis(10), |_, payload| seen.push(payload))?;
/// assert_eq!(seen, [2, 1]);
/// # Ok::<(), commons::Error>(())
/// ```
#[derive(Clone)]
pub struct Timer {
    ground: Arc<Ground>,
    /// Where the clock of this handle stands still; 0: it runs.
    still: u64,
}

/// A timer as it was at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimerInfo {
    /// How long until it is due; zero when it is overdue.
    pub due: Duration,
    /// How often it comes; None for one that fires once.
    pub interval: Option<Duration>,
    /// How often it has fired.
    pub fired: u64,
    /// What it carries.
    pub payload: u64,
}

/// Figures of a [`Timer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimerStats {
    /// Timers there are.
    pub live: usize,
    /// Timers there is room for.
    pub capacity: usize,
}

/// The shortest delay, in nanoseconds: a millisecond.
const MIN: u64 = 1_000_000;
/// The longest: a day.
const MAX: u64 = 86_400_000 * MIN;

impl Timer {
    /// Makes room for `capacity` timers, 1 ..= 16 777 215, shared with every process forked from now on.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; [`Error::AfterFork`] in a worker of a server, where it would be shared with nobody; [`Error::System`] when the
    /// kernel has no memory or file descriptors left.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(commons::Timer::new(1000)?.capacity(), 1000);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new(capacity: usize) -> Result<Timer> {
        Ok(Timer { ground: Arc::new(Ground::new(None, capacity)?), still: 0 })
    }

    /// Makes it in `region`: [`memory_for`](Timer::memory_for) bytes there.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the region has no room, and as [`Timer::new`].
    ///
    /// # Examples
    /// ```
    /// use commons::{Region, Timer};
    /// let region = Region::new("timers", 2 * Timer::memory_for(100))?;
    /// let (one, other) = (Timer::new_in(&region, 100)?, Timer::new_in(&region, 100)?);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new_in(region: &Region, capacity: usize) -> Result<Timer> {
        Ok(Timer { ground: Arc::new(Ground::new(Some(region), capacity)?), still: 0 })
    }

    /// The bytes of shared memory that so many timers take.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(commons::Timer::memory_for(1024), 80 * 1024 + 448);
    /// ```
    pub fn memory_for(capacity: usize) -> usize {
        Ground::bytes(capacity)
    }

    /// How many timers there is room for.
    pub fn capacity(&self) -> usize {
        self.ground.capacity()
    }

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
        let nanoseconds = whole(delay)?;
        self.make(nanoseconds, 0, payload)
    }

    /// Fires every `interval`, 1 ms ..= 86 400 000 ms, first one interval from now. Keeps its phase: it does not drift, and periods in which nobody
    /// called [`expire`](Timer::expire) are skipped.
    ///
    /// # Errors
    /// As [`after`](Timer::after).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let timer = commons::Timer::new(100)?;
    /// let id = timer.tick(Duration::from_millis(2), 7)?;
    /// while timer.info(id).unwrap().fired < 2 {
    ///     timer.run_for(Duration::from_millis(10), |_, payload| assert_eq!(payload, 7))?;
    /// }
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn tick(&self, interval: Duration, payload: u64) -> Result<TimerId> {
        let nanoseconds = whole(interval)?;
        self.make(nanoseconds, nanoseconds, payload)
    }

    #[inline]
    fn make(&self, delay: u64, interval: u64, payload: u64) -> Result<TimerId> {
        // Before the lock: it counts from the call, however long that has to wait.
        let due = self.now().saturating_add(delay).min(LAST);
        self.ground.enter(Patience::Endless)?.make(due, interval, payload)
    }

    /// Ends a timer, whoever made it; whether it was there. After that it does not fire; a call that has begun elsewhere goes on.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let timer = commons::Timer::new(100)?;
    /// let id = timer.tick(Duration::from_millis(50), 7)?;
    /// assert_eq!((timer.clear(id)?, timer.clear(id)?), (true, false));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn clear(&self, id: TimerId) -> Result<bool> {
        if self.ground.find(id).is_none() {
            return Ok(false);
        }
        Ok(self.ground.enter(Patience::Endless)?.clear(id))
    }

    /// Ends all timers; how many.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let timer = commons::Timer::new(100)?;
    /// timer.tick(Duration::from_millis(50), 7)?;
    /// assert_eq!((timer.clear_all()?, timer.clear_all()?), (1, 0));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn clear_all(&self) -> Result<usize> {
        Ok(self.ground.enter(Patience::Endless)?.clear_all())
    }

    /// Figures.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`], for it takes the lock.
    ///
    /// # Examples
    /// ```
    /// let stats = commons::Timer::new(100)?.stats()?;
    /// assert_eq!((stats.live, stats.capacity), (0, 100));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn stats(&self) -> Result<TimerStats> {
        Ok(TimerStats { live: self.ground.enter(Patience::Endless)?.live(), capacity: self.capacity() })
    }

    /// A handle to the same timers whose clock stands still, at so many nanoseconds; for harnesses, not part of the contract.
    #[doc(hidden)]
    pub fn at(&self, nanoseconds: u64) -> Timer {
        Timer { ground: self.ground.clone(), still: nanoseconds }
    }

    #[inline]
    fn now(&self) -> u64 {
        if self.still == 0 { clock::now() } else { self.still }
    }
}

/// A delay in nanoseconds.
#[inline]
fn whole(delay: Duration) -> Result<u64> {
    // Saturating: centuries are too long as well.
    let nanoseconds = delay.as_secs().saturating_mul(1_000_000_000).saturating_add(delay.subsec_nanos().into());
    if (MIN..=MAX).contains(&nanoseconds) { Ok(nanoseconds) } else { Err(Error::BadDelay { delay }) }
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").field("next_due", &self.next_due()).field("capacity", &self.capacity()).finish()
    }
}
