//! Floor 4, the timer: who is due first, in shared memory; any process adds, lists, inspects and clears.
//!
//! # What lies in the region
//! ```text
//! head      lock, how many, free entries, next number │ when the first is due, turn
//! entries   state │ interval │ payload │ sequence │ two halves (due, fired)      one cache line a timer: the truth
//! nodes     due, sequence and entry                                              a heap with four children a node
//! places    where each entry's node is, so that clearing needs no search
//! ```
//! # One store
//! A timer is made, fires, or ends by one store of its entry's state: it says of which generation the timer is, whether it lives, and which of
//! the two halves counts; the other one was filled before. The heap and all else follow from the entries: who takes over the lock from the dead
//! builds them anew, so it does not matter where that one stopped.
//!
//! | dies | then |
//! |---|---|
//! | adding, before the state | there is no such timer |
//! | adding, after it | there is: the next owner of the lock builds the heap with it |
//! | clearing or firing, before or after the state | it has not happened, or it has, and the heap follows |
//! | in a callback | the timer had fired before it was called: it is not called again |
//!
//! # Reading without the lock
//! `info` and `list` look at the state before and after; a half is only filled while the other one counts, after a fence. The race one would fear: a
//! timer that fires twice while somebody looks, and whose half is written meanwhile. The version in the state has moved on by two then.
//!
//! `next_due` is one load of a word that follows the heap's first node. Whoever makes it earlier moves the turn on and wakes the drivers.

#![forbid(unsafe_code)]

mod drive;
mod heap;
mod ops;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use crate::Result;
use crate::shm::Region;
use shared::Ground;

/// Timers in shared memory: every process that has it may add, list, inspect and clear; whoever calls [`expire`](Timer::expire) or one of the drivers
/// lets them fire.
///
/// Handles are cheap to clone and valid in every process forked after it was made. Monotonic clock, nanoseconds inside. Memory: 88 bytes a timer,
/// and 240.
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
}

/// Names a timer: which heap, which entry, which generation. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId {
    heap: u32,
    entry: u32,
    generation: u64,
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

impl Timer {
    /// Makes room for `capacity` timers, 1 ..= 16 777 215, shared with every process forked from now on.
    ///
    /// # Errors
    /// [`Error::OutOfRange`](crate::Error::OutOfRange); [`Error::AfterFork`](crate::Error::AfterFork) in a worker of a server, where it would be shared with
    /// nobody; [`Error::System`](crate::Error::System) when the kernel has no memory or file descriptors left.
    pub fn new(capacity: usize) -> Result<Timer> {
        Ok(Timer { ground: Arc::new(Ground::new(None, capacity)?) })
    }

    /// Makes it in `region`: [`memory_for`](Timer::memory_for) bytes there.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) when the region has no room, and as [`Timer::new`].
    pub fn new_in(region: &Region, capacity: usize) -> Result<Timer> {
        Ok(Timer { ground: Arc::new(Ground::new(Some(region), capacity)?) })
    }

    /// The bytes of shared memory that so many timers take.
    pub fn memory_for(capacity: usize) -> usize {
        Ground::bytes(capacity)
    }
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").field("next_due", &self.next_due()).field("capacity", &self.ground.capacity()).finish()
    }
}

impl std::fmt::Debug for TimerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TimerId({}:{}:{})", self.heap, self.entry, self.generation)
    }
}
