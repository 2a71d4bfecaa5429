//! Sleeping with a bound: how long a caller is willing to wait, and how long anybody sleeps in one go.
//!
//! # Words of turns
//! ```text
//!  63              32   31           1      0
//! ┌──────────────────┬────────────────┬───────────┐
//! │ armed            │ turn           │ sleepers  │
//! └──────────────────┴────────────────┴───────────┘
//!                     └── what sleepers watch ────┘
//! ```
//! Who wants to sleep arms the word ([`arm`]), looks whether there is need to, and sleeps on the word as armed. Who has changed what it
//! looked for moves the turn on, and wakes if the bit is set. The bit is cleared by who finds nobody asleep ([`disarm`]); the race one
//! would fear: somebody arms meanwhile, the bit was set already, and it is taken from under the sleeper. Therefore arming counts.

use std::time::Duration;

use crate::sync::{AtomicU64, Nap, Ordering, clock, futex};
use crate::{Error, Result};

/// The longest sleep in one go, in nanoseconds: after 20 ms a sleeper looks whether the one it waits for is still alive.
pub(crate) const SLICE: u64 = 20_000_000;

/// How long a caller waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    /// Until the monotonic clock shows `deadline`, which was `asked` from when the call began.
    Until { deadline: u64, asked: Duration },
    /// Until it happens.
    Endless,
}

impl Patience {
    /// Counts `asked` from now. What lies beyond the clock's range (584 years) is for ever.
    pub(crate) fn lasting(asked: Duration) -> Patience {
        let deadline = u64::try_from(asked.as_nanos()).ok().and_then(|ns| clock::now().checked_add(ns));
        deadline.map_or(Patience::Endless, |deadline| Patience::Until { deadline, asked })
    }

    /// [`Error::Timeout`] once the time is over.
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Patience::None => Err(Error::Timeout { after: Duration::ZERO }),
            Patience::Until { deadline, asked } if clock::now() >= deadline => Err(Error::Timeout { after: asked }),
            Patience::Until { .. } | Patience::Endless => Ok(()),
        }
    }
}

/// For the `try_` forms: None when it would have taken waiting.
pub(crate) fn at_once<T>(tried: Result<T>) -> Result<Option<T>> {
    match tried {
        Ok(done) => Ok(Some(done)),
        // Of `Patience::None`; a wait that had a bound and reached it is an error all the same.
        Err(Error::Timeout { after: Duration::ZERO }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// The same for what waits at a lock for a moment, and there met one who was stopped: then nothing can be had now.
#[cfg(feature = "tokio")]
pub(crate) fn unhurried<T>(tried: Result<Option<T>>) -> Result<Option<T>> {
    match tried {
        Err(Error::Timeout { .. }) => Ok(None),
        done => done,
    }
}

/// One step of the turn.
pub(crate) const TURN: u64 = 2;

const ARMED: u64 = 1 << 32;

/// Says in a word of turns that somebody may be asleep; the word to sleep on.
pub(crate) fn arm(word: &AtomicU64) -> u64 {
    // Relaxed: the exchange decides.
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        let armed = seen.wrapping_add(ARMED) | 1;
        // AcqRel: pairs with the same in whoever moves the turn on. If that came first, what it did is seen by the look that follows; if it
        // comes second, it sees the bit.
        match word.compare_exchange(seen, armed, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return armed,
            Err(now) => seen = now,
        }
    }
}

/// Clears the bit for one who has moved the turn on from `before`, and found nobody to wake: the bit was left by one who has gone. Fails if
/// anybody has armed since, or moved.
pub(crate) fn disarm(word: &AtomicU64, before: u64) {
    let now = before.wrapping_add(TURN);
    // Relaxed: nothing is published.
    let _ = word.compare_exchange(now, now & !1, Ordering::Relaxed, Ordering::Relaxed);
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Rest {
    /// The word changed, or somebody said so, or a signal came: look again.
    Stirred,
    /// A slice is over: look again, and look closely whether those one depends on are alive.
    SliceOver,
}

/// The slices of one wait. They are counted by the clock, not by sleeps that were left alone: a sleeper that is stirred all the time, by
/// signals or because others come and go, looks closely as often as one that is not.
pub(crate) struct Slices {
    /// When the current one is over; 0 before the first.
    end: u64,
}

impl Slices {
    pub(crate) fn new() -> Slices {
        Slices { end: 0 }
    }

    /// Sleeps for at most what is left of the slice while the low half of `word` is that of `seen`; the caller checks its patience itself,
    /// after it has looked once more.
    pub(crate) fn rest(&mut self, word: &AtomicU64, seen: u64, patience: Patience) -> Rest {
        if self.end == 0 {
            self.end = clock::now().saturating_add(SLICE);
        }
        let until = match patience {
            Patience::Until { deadline, .. } => self.end.min(deadline),
            Patience::None | Patience::Endless => self.end,
        };
        match futex::wait(word, seen as u32, Some(until)) {
            Nap::Woken | Nap::Changed if clock::now() < self.end => Rest::Stirred,
            Nap::Woken | Nap::Changed | Nap::TimedOut => {
                self.end = 0;
                Rest::SliceOver
            }
        }
    }
}
