//! Waiting for several things at once: an eventfd for epoll, `select` over channels.
//!
//! Who finds nothing sets the `armed` flag of the tail, clears the eventfd and looks once more; a push that meets the flag takes it away and makes the
//! eventfd readable. The race one would fear: the push comes between flag and clearing, and its signal is cleared away. The look that follows sees
//! that the tail has moved, and signals again. A consumer that dies between the two would leave others asleep over a message; it dies holding
//! the consumers' lock, so the next push, which looks at that lock where there is an eventfd, signals; and so does whoever buries it.
//!
//! A producer may die between its commit and its signal, one who has leased something without ever giving it back. A sleeper finds that out at the end of
//! its slice; who waits for an eventfd has none. So burial rings ([`Mourner`]), by a supervisor's [`recover`](crate::recover) at the latest; without one,
//! and with nobody else who comes by, only a timeout helps.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use super::Channel;
use super::ground::Ground;
use super::pop::Consumer;
use crate::robust::{Mourner, Patience, SLICE, certainly_dead};
use crate::shm::Key;
use crate::sync::{EventFd, Look, Ordering, clock, futex, wait_readable};
use crate::{Error, Result};

/// Whoever buries one that died here rings for it: its push may have gone untold, and what it had leased is ready now. Nobody who waits for an
/// eventfd wakes by himself.
impl Mourner for Ground {
    fn told(&self, key: Key) {
        if [self.tail.lock, self.tail.at, self.floor.lock].contains(&key) && self.waited_for() {
            self.filled.signal();
            self.emptied.signal();
        }
    }
}

/// An eventfd that is readable when there is something to pop; see [`Channel::notifier`].
#[derive(Debug)]
pub struct Notifier<'c> {
    eventfd: &'c EventFd,
}

impl Notifier<'_> {
    /// Waits until it is readable; for the project's own harnesses, not part of the contract.
    #[doc(hidden)]
    pub fn wait(&self) -> Result<()> {
        wait_readable(&[self.eventfd], u64::MAX)
    }
}

impl AsFd for Notifier<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

impl AsRawFd for Notifier<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.eventfd.as_fd().as_raw_fd()
    }
}

impl Channel {
    /// An eventfd that becomes readable when there is something to pop, for epoll, poll and tokio.
    ///
    /// Wait for it only after a `try_pop` (or `drain`, `try_pop_lease`) that found nothing: that is what arms it, and makes it unreadable; nobody
    /// has to read from it. Ask for it once: asking makes it readable, so that who asks looks first. Several processes may wait for the same channel; all are told. A push makes a system call only if somebody waits.
    ///
    /// # Deaths
    /// A process may die after its push and before it has told of it, or holding a lease, whose message is there again then. The eventfd becomes readable
    /// when somebody finds the death out who has this channel: [`recover`](crate::recover), the next push or pop, or whoever waits for something that the dead
    /// one held. Where nobody calls `recover`, and nobody else comes by, nobody finds out: then wait with a timeout and look again, as
    /// [`pop`](Channel::pop), [`select`](Channel::select) and the futures do every 20 ms.
    ///
    /// # Examples
    /// ```
    /// use std::os::fd::AsFd;
    /// let channel = commons::Channel::new(4096)?;
    /// let notifier = channel.notifier();
    /// assert_eq!(channel.try_pop()?, None); // armed
    /// channel.push(b"hello")?;
    /// let _readable_now = notifier.as_fd();
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn notifier(&self) -> Notifier<'_> {
        self.ground.watch(&self.ground.filled);
        Notifier { eventfd: &self.ground.filled }
    }

    /// An eventfd that becomes readable when there is room again after a `try_push` found none, which is what arms it. Of deaths holds what is said
    /// of [`notifier`](Channel::notifier).
    ///
    /// # Examples
    /// ```
    /// use std::os::fd::AsFd;
    /// let channel = commons::Channel::builder().capacity(16).max_message(8).build()?;
    /// let room = channel.room_notifier();
    /// channel.push(b"it fits.")?;
    /// assert!(channel.try_push(b"more").is_err()); // armed
    /// channel.pop()?;
    /// let _readable_now = room.as_fd();
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn room_notifier(&self) -> Notifier<'_> {
        self.ground.watch(&self.ground.emptied);
        Notifier { eventfd: &self.ground.emptied }
    }

    /// Waits until one of `channels` has something to pop, or is closed, for at most `timeout`; which one, the first if there are several.
    /// Another consumer may be faster, so pop with `try_pop`.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::OutOfRange`] for no channels; [`Error::System`]; as [`try_pop`](Channel::try_pop).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use commons::Channel;
    /// let (a, b) = (Channel::new(4096)?, Channel::new(4096)?);
    /// b.push(b"hello")?;
    /// assert_eq!(Channel::select(&[&a, &b], Some(Duration::from_secs(1)))?, 1);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn select(channels: &[&Channel], timeout: Option<Duration>) -> Result<usize> {
        if channels.is_empty() {
            return Err(Error::OutOfRange {
                what: "the number of channels to wait for",
                value: 0,
                min: 1,
                max: u64::MAX,
            });
        }
        let patience = timeout.map_or(Patience::Endless, Patience::lasting);
        let notifiers: Vec<_> = channels.iter().map(|channel| channel.notifier()).collect();
        let eventfds: Vec<_> = notifiers.iter().map(|notifier| notifier.eventfd).collect();
        loop {
            for (n, channel) in channels.iter().enumerate() {
                if channel.ground.ready_or_armed()? {
                    return Ok(n);
                }
            }
            patience.check()?;
            let left = match patience {
                Patience::Until { deadline, .. } => deadline.saturating_sub(clock::now()),
                Patience::None | Patience::Endless => SLICE,
            };
            // In slices: what the dead have leased becomes ready without a signal.
            wait_readable(&eventfds, left.min(SLICE))?;
        }
    }
}

impl Ground {
    pub(super) fn watch(&self, eventfd: &EventFd) {
        // Relaxed: whoever pushes before it sees this is met by the signal below, and the look that follows it.
        if self.ends.watched.swap(1, Ordering::Relaxed) == 0 {
            self.filled.signal();
            self.emptied.signal();
        } else {
            eventfd.signal();
        }
    }

    /// Whether there is something to pop or the channel is closed; if not, the eventfd is armed.
    fn ready_or_armed(&self) -> Result<bool> {
        loop {
            let mut consumer = Consumer::enter(self, Patience::None)?;
            let tail = self.ends.tail.mark();
            // As in `next`: what is leased may come back.
            if consumer.first(true).is_some() || tail.closed() && consumer.alone() {
                return Ok(true);
            }
            if consumer.arm(tail) {
                return Ok(false);
            }
        }
    }

    /// Has everybody who waits for either end look for himself: after the death of one who may have been about to tell them, and when the channel
    /// is closed.
    #[cold]
    pub(super) fn tell_all(&self) {
        for end in [&self.ends.tail, &self.ends.floor] {
            end.quieten();
            // Whatever they were: the dead may have taken the flag away.
            futex::wake(&end.at, u32::MAX);
        }
        if self.waited_for() {
            self.filled.signal();
            self.emptied.signal();
        }
    }

    /// After a push: tells those who wait for the eventfd although its flag was gone, because the one that was to look died.
    #[inline]
    pub(super) fn signal_for_the_dead(&self) {
        if self.waited_for() {
            let word = self.ends.floor.lock.load();
            // Quickly: mostly it is a consumer that is just taking something.
            if word.dirty() || word.owner().is_some_and(|owner| certainly_dead(owner, Look::Quick)) {
                self.filled.signal();
            }
        }
    }
}
