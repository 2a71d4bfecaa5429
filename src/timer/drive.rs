//! Letting timers fire: a blocking driver, and one for tokio.

use std::time::Duration;

use super::{Timer, TimerId};
use crate::Result;
use crate::robust::{Patience, arm};
use crate::sync::{Ordering, clock, futex};

impl Timer {
    /// Calls `f` for every timer as it becomes due, for as long as `duration`; how many calls. Sleeps in between, and wakes for a timer that another
    /// process adds.
    ///
    /// # Errors
    /// As [`expire`](Timer::expire).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let timer = commons::Timer::new(100)?;
    /// timer.tick(Duration::from_millis(2), 7)?;
    /// assert!(timer.run_for(Duration::from_millis(20), |_, _| ())? >= 1);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn run_for(&self, duration: Duration, mut f: impl FnMut(TimerId, u64)) -> Result<usize> {
        let head = &self.ground.head;
        let end = match Patience::lasting(duration) {
            Patience::Until { deadline, .. } => deadline,
            Patience::None | Patience::Endless => u64::MAX,
        };
        let mut called = 0;
        loop {
            called += self.expire(&mut f)?;
            if clock::now() >= end {
                return Ok(called);
            }
            let armed = arm(&head.turn);
            // After the flag: whoever makes `next` earlier from here on moves the turn. Acquire: pairs with the Release in `settle`.
            let next = head.next.load(Ordering::Acquire).min(end);
            if next > clock::now() {
                let _ = futex::wait(&head.turn, armed as u32, Some(next));
            }
        }
    }

    /// Calls `f` for every timer as it becomes due, until the future is dropped or something fails. Must be called inside a tokio runtime with I/O and time
    /// enabled, whose clock has a precision of a millisecond.
    ///
    /// # Errors
    /// As [`expire`](Timer::expire); [`Error::System`](crate::Error::System) when the kernel refuses another descriptor.
    #[cfg(feature = "tokio")]
    pub async fn run(&self, mut f: impl FnMut(TimerId, u64)) -> Result<std::convert::Infallible> {
        use std::os::fd::AsFd;

        use crate::Error;

        let ground = &*self.ground;
        // Its own descriptor: each runtime watches it for itself.
        let own = ground.changed.as_fd().try_clone_to_owned().map_err(Error::system("duplicating an eventfd"))?;
        let watched = crate::sync::ready::watch(own)?;
        // Relaxed: `next` is looked at afterwards.
        ground.head.watched.store(1, Ordering::Relaxed);
        loop {
            self.expire(&mut f)?;
            let earlier = async {
                let mut guard = watched.readable().await.map_err(Error::system("waiting for an eventfd"))?;
                // Every signal is an event of its own, so nobody has to read from it; the count has room for 2^64 of them.
                guard.clear_ready();
                Ok(())
            };
            match self.next_due() {
                None => earlier.await?,
                Some(due) => tokio::select! {
                    changed = earlier => changed?,
                    () = tokio::time::sleep(due) => {}
                },
            }
        }
    }
}
