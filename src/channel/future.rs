//! The same for tokio: waiting for messages and for room without holding a thread.
//!
//! Each runtime has its own copy of the eventfd and registers it once, at its first wait; the copy lives as long as the channel does in this process. All
//! futures of the runtime share it. So a wait asks the kernel for no descriptor, and where there has been a first one it cannot fail for want of them.
//!
//! A wait for a message first looks for a few microseconds, unarmed, where that has helped before; then arms, which costs one read, and sleeps. Round trips
//! a second between two processes, each in its runtime, against a descriptor made and registered for each wait: on one core, where each has to sleep,
//! 3.2 times as many [2.8 .. 3.9] (124 000, 41 000), for a wait is 2 system calls instead of 15; on two cores 1.8 millions and 18 000, for none sleeps. Without
//! the look those on two cores were 0.7 times as many, for all those system calls had been as good as a look: the message came meanwhile.
//!
//! Who is told does not forget on behalf of the others that the eventfd was readable: that is forgotten only by one who has looked afterwards and found
//! nothing, which has armed it again. The race one would fear, in a runtime of several threads: one finds nothing, and before it waits a push tells
//! those who do wait; were one of them to forget it and take the message, the first would wait unarmed for what comes next.
//!
//! The slice is kept likewise, by one timerfd a runtime for the futures of all channels: it rings for all of them at most a slice after each has begun to
//! wait, and is set again by the first that waits on.

use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use super::{Channel, Lease};
use crate::robust::{SLICE, unhurried};
use crate::sync::ready::{PerRuntime, Watched};
use crate::sync::{EventFd, alarm, clock};
use crate::{Error, Result};

impl Channel {
    /// Takes the first message, waiting for one without holding the thread. Must be called inside a tokio runtime with I/O enabled.
    ///
    /// Dropping the future loses nothing: a message is only taken when it is returned. Where another process was stopped in the middle of the ring, each
    /// attempt holds the thread for 1 ms.
    ///
    /// # Errors
    /// As [`pop`](Channel::pop); [`Error::System`] when there are no descriptors left for the first wait in a runtime.
    ///
    /// # Examples
    /// ```
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    /// let channel = commons::Channel::new(4096)?;
    /// channel.push(b"hello")?;
    /// assert_eq!(runtime.block_on(channel.recv())?, b"hello");
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub async fn recv(&self) -> Result<Vec<u8>> {
        self.until(Awaited::Message, || self.try_pop()).await
    }

    /// Leases the first message, waiting for one without holding the thread. Must be called inside a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// As [`recv`](Channel::recv).
    ///
    /// # Examples
    /// ```
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    /// let tasks = commons::Channel::new(4096)?;
    /// tasks.push(b"dig")?;
    /// runtime.block_on(tasks.recv_lease())?.ack()?;
    /// assert!(tasks.is_empty());
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub async fn recv_lease(&self) -> Result<Lease> {
        self.until(Awaited::Message, || self.try_pop_lease()).await
    }

    /// Puts a message at the end, waiting for room without holding the thread. Must be called inside a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// As [`push`](Channel::push); [`Error::System`] when there are no descriptors left for the first wait in a runtime.
    ///
    /// # Examples
    /// ```
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    /// let channel = commons::Channel::new(4096)?;
    /// runtime.block_on(channel.send(b"hello"))?;
    /// assert_eq!(channel.pop()?, b"hello");
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub async fn send(&self, message: &[u8]) -> Result<()> {
        self.send_while(message, || Ok(())).await
    }

    /// The same, for as long as `wanted`, which is asked before each attempt, does not say why not.
    pub(crate) async fn send_while(&self, message: &[u8], wanted: impl Fn() -> Result<()>) -> Result<()> {
        let attempt = || match wanted().and_then(|()| self.try_push(message)) {
            Ok(()) => Ok(Some(())),
            Err(Error::Full { .. }) => Ok(None),
            Err(other) => Err(other),
        };
        self.until(Awaited::Room, attempt).await
    }

    /// Tries, and waits for the eventfd, until there is an answer. In slices, as all who sleep here: what the dead have leased becomes ready without a
    /// signal, and one may have died between its push and the signal for it.
    async fn until<T>(&self, awaited: Awaited, attempt: impl Fn() -> Result<Option<T>>) -> Result<T> {
        // Somebody was stopped in the middle of the ring: that is waited for like anything else.
        let attempt = || unhurried(attempt());
        // A loop over a channel that always has something would let nothing else of its runtime run. Before anything is taken, so that nothing is lost with a
        // future that is dropped here.
        tokio::task::consume_budget().await;
        // Before any descriptor is made. Where there is nothing the look below says so, which one needs anyway.
        let hopeful = match awaited {
            Awaited::Message => self.ground.looks_filled(),
            Awaited::Room => true,
        };
        if hopeful && let Some(done) = attempt()? {
            return Ok(done);
        }
        let eventfd = self.eventfd(awaited);
        let own = || Watched::new(copy(eventfd)?);
        let told = self.ground.watched[awaited as usize].get(own)?;
        let slice = SLICES.get(Slice::new)?;
        loop {
            if let Some(done) = told.look(attempt)? {
                return Ok(done);
            }
            slice.begin()?;
            tokio::select! {
                told = told.readable() => told.map_err(Error::system("waiting for an eventfd"))?,
                over = slice.alarm.readable() => over.map_err(Error::system("waiting for a timerfd"))?,
            }
        }
    }

    /// What tells of it; from now on it does.
    fn eventfd(&self, awaited: Awaited) -> &EventFd {
        let ground = &*self.ground;
        // Who asks looks once more anyway, and that it has been asked for is never forgotten.
        if !ground.waited_for() {
            ground.watch(&ground.filled);
        }
        match awaited {
            Awaited::Message => &ground.filled,
            Awaited::Room => &ground.emptied,
        }
    }
}

#[derive(Clone, Copy)]
enum Awaited {
    Message,
    Room,
}

fn copy(eventfd: &EventFd) -> Result<std::os::fd::OwnedFd> {
    eventfd.as_fd().try_clone_to_owned().map_err(Error::system("duplicating an eventfd"))
}

/// The slices of all futures of one runtime.
struct Slice {
    alarm: Watched,
    /// When it rings, or has rung; 0 before it was first set. Locked while it is set, so that both say the same.
    end: Mutex<u64>,
}

static SLICES: PerRuntime<Slice> = PerRuntime::new();

impl AsRef<Watched> for Slice {
    fn as_ref(&self) -> &Watched {
        &self.alarm
    }
}

impl Slice {
    fn new() -> Result<Slice> {
        Ok(Slice { alarm: Watched::new(alarm::new()?)?, end: Mutex::new(0) })
    }

    /// Sees to it that the alarm rings, from now on and in a slice at the latest.
    fn begin(&self) -> Result<()> {
        // Poisoned: a panic cannot happen between the two steps.
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        // An old ring is forgotten, for one that is still to come stands for it, or is set now.
        let _ = self.alarm.look(|| Ok(None::<()>));
        let now = clock::now();
        if *end <= now {
            let next = now.saturating_add(SLICE);
            alarm::set(&self.alarm, next)?;
            *end = next;
        }
        Ok(())
    }
}
