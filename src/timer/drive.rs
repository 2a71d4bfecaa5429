//! Letting timers fire: one pass, a blocking driver, and one for tokio.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::{Timer, TimerId};
use crate::robust::{Patience, arm};
use crate::sync::{Ordering, futex, wait_readable};
use crate::{Error, Result};

impl Timer {
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
        self.pass(Patience::Endless, &mut |id, payload| {
            f(id, payload);
            true
        })
    }

    /// One pass, which `f` may break off.
    fn pass(&self, patience: Patience, f: &mut impl FnMut(TimerId, u64) -> bool) -> Result<usize> {
        let (now, mut called) = (self.now(), 0);
        // A look; the lock decides.
        while self.ground.next() <= now {
            // Let go of before the call.
            let Some((id, payload)) = self.ground.enter(patience)?.fire(now) else { break };
            called += 1;
            if !f(id, payload) {
                break;
            }
        }
        Ok(called)
    }

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
        self.drive(duration, |id, payload| {
            f(id, payload);
            true
        })
    }

    /// The same until `f` returns false; for harnesses, not part of the contract.
    #[doc(hidden)]
    pub fn drive(&self, duration: Duration, mut f: impl FnMut(TimerId, u64) -> bool) -> Result<usize> {
        let patience = Patience::lasting(duration);
        let end = match patience {
            Patience::Until { deadline, .. } => deadline,
            Patience::None | Patience::Endless => u64::MAX,
        };
        let (mut called, mut on) = (0, true);
        while on {
            let pass = self.pass(patience, &mut |id, payload| {
                called += 1;
                on = f(id, payload);
                on
            });
            match pass {
                // Whoever holds the lock stands still; what is due stays so.
                Err(Error::Timeout { .. }) => break,
                other => other?,
            };
            if patience.check().is_err() || !on {
                break;
            }
            self.rest(end);
        }
        Ok(called)
    }

    /// Sleeps until the first is due or `end` has come, unless somebody is due sooner by then; for harnesses, not part of the contract.
    #[doc(hidden)]
    pub fn rest(&self, end: u64) {
        let turn = &self.ground.head.turn;
        let armed = arm(turn);
        // After the turn is armed: whoever makes it earlier from here on moves the turn.
        let next = self.ground.next().min(end);
        if next > self.now() {
            // Woken, changed or over: the caller looks again.
            let _ = futex::wait(turn, armed as u32, Some(next));
        }
    }

    /// Becomes readable when `next_due` has become earlier than it is when this returns; to be waited for by the edge, for nobody reads from it, and
    /// every signal is an event of its own. For harnesses, not part of the contract.
    #[doc(hidden)]
    pub fn notifier(&self) -> BorrowedFd<'_> {
        let head = &self.ground.head;
        // Relaxed: ordered by the turn.
        head.watched.store(1, Ordering::Relaxed);
        // AcqRel: pairs with the same in `hasten`; if that one has not seen the flag, the look at `next` that follows sees what it wrote.
        head.turn.fetch_add(0, Ordering::AcqRel);
        self.ground.changed.as_fd()
    }

    /// Waits until that descriptor is signalled; for harnesses, not part of the contract.
    ///
    /// # Errors
    /// [`Error::System`].
    #[doc(hidden)]
    pub fn await_notifier(&self) -> Result<()> {
        wait_readable(&[&self.ground.changed], u64::MAX)
    }

    /// Calls `f` for every timer as it becomes due, until the future is dropped or something fails. Must be called inside a tokio runtime with I/O
    /// enabled; its clock is not used, so that timers fire to the microsecond and not to tokio's millisecond.
    ///
    /// Dropping the future loses no timer: between two calls nothing is held.
    ///
    /// # Errors
    /// As [`expire`](Timer::expire); [`Error::System`] when the kernel refuses another descriptor.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    /// let timer = commons::Timer::new(100)?;
    /// timer.after(Duration::from_millis(2), 7)?;
    /// let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
    /// runtime.block_on(async {
    ///     tokio::select! {
    ///         stopped = timer.run(|_, payload| send.send(payload).unwrap()) => stopped.map(|_| ()),
    ///         fired = receive.recv() => Ok(assert_eq!(fired, Some(7))),
    ///     }
    /// })?;
    /// # Ok::<(), commons::Error>(())
    /// ```
    #[cfg(feature = "tokio")]
    pub async fn run(&self, mut f: impl FnMut(TimerId, u64)) -> Result<std::convert::Infallible> {
        use crate::sync::{alarm, ready};

        // Its own descriptors: each runtime watches them for itself.
        let own = self.notifier().try_clone_to_owned().map_err(Error::system("duplicating an eventfd"))?;
        let (sooner, rung, mut set) = (ready::watch(own)?, ready::watch(alarm::new()?)?, None);
        loop {
            self.expire(&mut f)?;
            let next = self.ground.next();
            if set != Some(next) {
                alarm::set(&rung, next)?;
                set = Some(next);
            }
            tokio::select! {
                changed = sooner.readable() => changed.map_err(Error::system("waiting for an eventfd"))?.clear_ready(),
                over = rung.readable() => {
                    over.map_err(Error::system("waiting for a timerfd"))?.clear_ready();
                    set = None;
                }
            }
        }
    }
}
