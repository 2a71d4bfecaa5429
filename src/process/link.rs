//! A line between two processes: a channel in each direction, and a descriptor by which each sees that the other has ended.
//!
//! Waiting is for both at once, a message (or room for one) and the other's end. The race one would fear: the other one sends, then dies, and its
//! death is seen first. So whoever sees the death looks into the channel once more; what was sent before it is there.
#![forbid(unsafe_code)]

use crate::robust::{Patience, SLICE, at_once};
use crate::sync::clock;
use crate::sys::pidfd::{PidFd, wait_for_any};
use crate::{Channel, Error, Notifier, Region, Result};
use std::fmt;
use std::os::fd::AsFd;
use std::time::Duration;

/// The two channels, as made before the fork.
pub(super) struct Wires {
    down: Channel,
    up: Channel,
}

/// Bytes beside the ring that a channel takes of a region, alignment and deed included.
const BESIDE: usize = 1024;

impl Wires {
    /// Two channels of `bytes` each, in one region of this name.
    pub(super) fn new(name: &str, bytes: usize, max_message: usize) -> Result<Wires> {
        let region = Region::new(name, (bytes + BESIDE) * 2 + BESIDE)?;
        let wire = || Channel::builder().capacity(bytes).max_message(max_message).build_in(&region);
        Ok(Wires { down: wire()?, up: wire()? })
    }

    /// The parent's end.
    pub(super) fn upper(self, child: PidFd, pid: u32) -> Line {
        Line { inbox: self.up, outbox: self.down, other: child, pid }
    }

    /// The child's end.
    pub(super) fn lower(self, parent: PidFd, pid: u32) -> Line {
        Line { inbox: self.down, outbox: self.up, other: parent, pid }
    }
}

/// One end of the line.
pub(super) struct Line {
    inbox: Channel,
    outbox: Channel,
    pub(super) other: PidFd,
    /// The other process's number.
    pub(super) pid: u32,
}

impl Line {
    pub(super) fn send(&self, message: &[u8], patience: Patience) -> Result<()> {
        let sent = |tried| match tried {
            Err(Error::Full { .. } | Error::Timeout { .. }) => Ok(None),
            done => done.map(Some),
        };
        // It looks for a moment whether there will be room; then it is worth the descriptors.
        match sent(self.outbox.push_timeout(message, Duration::ZERO))? {
            Some(()) => Ok(()),
            None => self.until(patience, || sent(self.outbox.try_push(message)), || self.outbox.room_notifier()),
        }
    }

    pub(super) fn receive(&self, patience: Patience) -> Result<Vec<u8>> {
        let quickly = match patience {
            Patience::None => self.inbox.try_pop(),
            // It looks for a moment whether one comes; then it is worth the descriptors.
            _ => at_once(self.inbox.pop_timeout(Duration::ZERO)),
        };
        match quickly {
            Ok(Some(message)) => Ok(message),
            Ok(None) | Err(Error::Timeout { .. }) => {
                self.until(patience, || self.inbox.try_pop(), || self.inbox.notifier())
            }
            Err(error) => Err(error),
        }
    }

    /// Attempts it until it is done, the other process has ended, or patience has. Between attempts it waits for `watched`.
    fn until<'c, R>(
        &self,
        patience: Patience,
        attempt: impl Fn() -> Result<Option<R>>,
        watched: impl Fn() -> Notifier<'c>,
    ) -> Result<R> {
        let notifier = watched();
        loop {
            // Looked at before the attempt, which therefore finds all that was sent before the end.
            let over = self.other.is_over()?;
            match attempt() {
                Ok(Some(done)) => return Ok(done),
                // A thread that was stopped in the middle of this very channel: like one that sends nothing.
                Ok(None) | Err(Error::Timeout { .. }) => {}
                Err(error) => return Err(error),
            }
            if over {
                return Err(Error::Gone { pid: self.pid });
            }
            patience.check()?;
            // In slices: one who was to signal may have died between the message and the signal.
            let slice = clock::now().saturating_add(SLICE);
            let until = match patience {
                Patience::Until { deadline, .. } => slice.min(deadline),
                Patience::None | Patience::Endless => slice,
            };
            wait_for_any(&[notifier.as_fd(), self.other.as_fd()], Some(until))?;
        }
    }

    pub(super) fn close(&self) -> Result<()> {
        self.outbox.close()
    }
}

/// The child's end of the line to its parent; what the closure of [`Process::spawn`](super::Process::spawn) is given.
pub struct Link {
    pub(super) line: Line,
}

impl Link {
    /// The parent.
    #[must_use]
    pub fn parent(&self) -> u32 {
        self.line.pid
    }

    /// Sends a message to the parent, waiting for room. What is sent to a parent that has ended, or never receives, is lost.
    ///
    /// # Errors
    /// [`Error::TooLong`]; [`Error::Closed`] after [`close`](Link::close); [`Error::Gone`] when the parent has ended.
    pub fn send(&self, message: &[u8]) -> Result<()> {
        self.line.send(message, Patience::Endless)
    }

    /// Sends a message to the parent, waiting for room for at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`send`](Link::send).
    pub fn send_timeout(&self, message: &[u8], timeout: Duration) -> Result<()> {
        self.line.send(message, Patience::lasting(timeout))
    }

    /// Receives the parent's next message, waiting for it.
    ///
    /// # Errors
    /// [`Error::Closed`] when the parent has closed its end and all was received; [`Error::Gone`].
    pub fn recv(&self) -> Result<Vec<u8>> {
        self.line.receive(Patience::Endless)
    }

    /// Receives the parent's next message, waiting for it for at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`recv`](Link::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Vec<u8>> {
        self.line.receive(Patience::lasting(timeout))
    }

    /// Receives the parent's next message, if there is one.
    ///
    /// # Errors
    /// As [`recv`](Link::recv).
    pub fn try_recv(&self) -> Result<Option<Vec<u8>>> {
        at_once(self.line.receive(Patience::None))
    }

    /// Says that nothing more is sent to the parent: its `recv` takes what is left, and is told then.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`].
    pub fn close(&self) -> Result<()> {
        self.line.close()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("parent", &self.line.pid).finish_non_exhaustive()
    }
}
