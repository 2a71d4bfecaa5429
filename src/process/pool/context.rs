//! What a worker of a pool has in its hands.
#![forbid(unsafe_code)]

use super::Shared;
use super::mail::{Mail, Message};
use super::tally::PoolStats;
use crate::process::crew::Post;
use crate::process::word::{Mouth, What};
use crate::robust::{Patience, SLICE, unhurried};
use crate::sync::clock;
use crate::sys::child;
use crate::sys::pidfd::wait_for_any;
use crate::sys::signal::SignalFd;
use crate::{Channel, Error, Notifier, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Signal, getppid};
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

/// A worker's side of its pool; what the closure of [`Pool::run`](super::Pool::run) is given.
///
/// A worker is *ready* when it first waits (`recv`, `sleep`), says so ([`ready`](Context::ready)), or returns without an error. One that dies before was never any
/// good: the next one starts after a wait that doubles, a reload does not put it in the place of one that works, and if it is so from the start, the pool gives up.
pub struct Context {
    id: usize,
    generation: u32,
    shared: Shared,
    lifeline: OwnedFd,
    mouth: Mouth,
    /// Readable once this worker was asked to leave.
    asked: SignalFd,
    ready: Cell<bool>,
    leaving: Cell<bool>,
    /// When one who receives is to ask again whether it was asked to leave.
    ask_again: Cell<u64>,
}

/// So often, in nanoseconds, at most.
const BETWEEN: u64 = 1_000_000;

/// How a wait ended.
enum Waited<R> {
    Done(R),
    Leaving,
}

impl Context {
    pub(super) fn new(post: Post, asked: SignalFd, shared: Shared) -> Context {
        let Post { member, lifeline, mouth, .. } = post;
        let (ready, leaving, ask_again) = (Cell::new(false), Cell::new(false), Cell::new(0));
        let (id, generation) = (member.index, member.generation);
        Context { id, generation, shared, lifeline, mouth, asked, ready, leaving, ask_again }
    }

    /// The worker's place: 0 .. [`workers`](Context::workers). A worker that is replaced has the same.
    #[must_use]
    pub fn id(&self) -> usize {
        self.id
    }

    /// How many workers the pool has.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.shared.places
    }

    /// Which process this is in its place: 1 for the first, and one more for each that followed.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The pool's manager: the process to send signals to.
    #[must_use]
    pub fn manager(&self) -> u32 {
        self.shared.manager.as_raw_nonzero().get().unsigned_abs()
    }

    /// Says that this worker has begun its work. Not needed by one that waits for messages.
    pub fn ready(&self) {
        if !self.ready.replace(true) {
            self.mouth.say(&What::Ready);
        }
    }

    /// Whether this worker was asked to leave: by a reload, or because the pool stops. Then it has as long as [`grace`](super::Pool::grace) says.
    #[must_use]
    pub fn exiting(&self) -> bool {
        // A descriptor that cannot be asked any more is no reason to stay.
        let asked = || wait_for_any(&[self.asked.as_fd(), self.lifeline.as_fd()], Some(0)).unwrap_or(true);
        if !self.leaving.get() {
            self.leaving.set(asked());
        }
        self.leaving.get()
    }

    /// Sleeps for `time`; false when this worker was asked to leave, which ends the sleep.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn sleep(&self, time: Duration) -> Result<bool> {
        self.ready();
        let patience = Patience::lasting(time);
        loop {
            if self.exiting() {
                return Ok(false);
            }
            match patience {
                Patience::Until { deadline, .. } if clock::now() >= deadline => return Ok(true),
                Patience::Until { deadline, .. } => {
                    wait_for_any(&[self.asked.as_fd(), self.lifeline.as_fd()], Some(deadline))?;
                }
                _ => {
                    wait_for_any(&[self.asked.as_fd(), self.lifeline.as_fd()], None)?;
                }
            }
        }
    }

    /// Sends a message to a worker, which may be this one, waiting for room in its mailbox. A worker that was asked to leave does not wait.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a worker that is not there; [`Error::TooLong`]; [`Error::Full`] when there is no room and this worker was asked to leave.
    pub fn send(&self, to: usize, message: &[u8]) -> Result<()> {
        self.post(to, message, Patience::Endless)
    }

    /// Sends a message to a worker, waiting for room for at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`send`](Context::send).
    pub fn send_timeout(&self, to: usize, message: &[u8], timeout: Duration) -> Result<()> {
        self.post(to, message, Patience::lasting(timeout))
    }

    /// Sends a message to a worker, if there is room.
    ///
    /// # Errors
    /// [`Error::Full`], and as [`send`](Context::send).
    pub fn try_send(&self, to: usize, message: &[u8]) -> Result<()> {
        let mailbox = self.shared.mail.mailbox(to)?;
        mailbox.push_now(&self.shared.mail.pack(self.id, message)?)?;
        self.shared.tally.sent(self.id);
        Ok(())
    }

    fn post(&self, to: usize, message: &[u8], patience: Patience) -> Result<()> {
        let mailbox = self.shared.mail.mailbox(to)?;
        let message = self.shared.mail.pack(self.id, message)?;
        let sent = |tried| match tried {
            Err(Error::Full { .. } | Error::Timeout { .. }) => Ok(None),
            done => done.map(Some),
        };
        // It looks for a moment whether there will be room; then it is worth the descriptors.
        if sent(mailbox.push_timeout(&message, Duration::ZERO))?.is_none() {
            match self.until(patience, || sent(mailbox.try_push(&message)), || mailbox.room_notifier())? {
                Waited::Done(()) => {}
                Waited::Leaving => return Err(Error::Full { capacity: mailbox.capacity() }),
            }
        }
        self.shared.tally.sent(self.id);
        Ok(())
    }

    /// Receives the next message, waiting for it; `None` when this worker was asked to leave. What is still in the mailbox then is for the next worker in this
    /// place, and, when the pool stops, for [`try_recv`](Context::try_recv).
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`]; [`Error::System`].
    pub fn recv(&self) -> Result<Option<Message>> {
        self.receive(Patience::Endless)
    }

    /// Receives the next message, waiting for it for at most `timeout`; `None` when this worker was asked to leave.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`recv`](Context::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Message>> {
        self.receive(Patience::lasting(timeout))
    }

    /// Receives the next message, if there is one; whether this worker was asked to leave or not.
    ///
    /// # Errors
    /// As [`recv`](Context::recv).
    pub fn try_recv(&self) -> Result<Option<Message>> {
        // The worker before this one may have been stopped in the middle of it.
        Ok(unhurried(self.mailbox()?.try_pop())?.map(|bytes| self.received(bytes)))
    }

    fn mailbox(&self) -> Result<&Channel> {
        self.shared.mail.mailbox(self.id)
    }

    fn received(&self, bytes: Vec<u8>) -> Message {
        self.shared.tally.received(self.id);
        Mail::unpack(bytes)
    }

    fn receive(&self, patience: Patience) -> Result<Option<Message>> {
        self.ready();
        // A system call, which messages that are quickly dealt with would feel.
        let now = clock::now();
        if now >= self.ask_again.get() {
            self.ask_again.set(now + BETWEEN);
            if self.exiting() {
                return Ok(None);
            }
        }
        let mailbox = self.mailbox()?;
        // It looks for a moment whether one comes; then it is worth the descriptors.
        match mailbox.pop_timeout(Duration::ZERO) {
            Ok(bytes) => return Ok(Some(self.received(bytes))),
            Err(Error::Timeout { .. }) => {}
            Err(error) => return Err(error),
        }
        match self.until(patience, || mailbox.try_pop(), || mailbox.notifier())? {
            Waited::Done(bytes) => Ok(Some(self.received(bytes))),
            Waited::Leaving => Ok(None),
        }
    }

    /// Attempts it until it is done, this worker is asked to leave, or patience has ended. Between attempts it waits for `watched`.
    fn until<'c, R>(
        &self,
        patience: Patience,
        attempt: impl Fn() -> Result<Option<R>>,
        watched: impl Fn() -> Notifier<'c>,
    ) -> Result<Waited<R>> {
        let notifier = watched();
        loop {
            if self.exiting() {
                return Ok(Waited::Leaving);
            }
            match attempt() {
                Ok(Some(done)) => return Ok(Waited::Done(done)),
                // A worker that was stopped in the middle of this very mailbox: like one that sends nothing.
                Ok(None) | Err(Error::Timeout { .. }) => {}
                Err(error) => return Err(error),
            }
            patience.check()?;
            // In slices: one who was to signal may have died between the message and the signal.
            let slice = clock::now().saturating_add(SLICE);
            let until = match patience {
                Patience::Until { deadline, .. } => slice.min(deadline),
                Patience::None | Patience::Endless => slice,
            };
            wait_for_any(&[notifier.as_fd(), self.asked.as_fd(), self.lifeline.as_fd()], Some(until))?;
        }
    }

    /// The pool's figures.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.shared.tally.stats(&self.shared.mail)
    }

    /// Asks the manager to renew all workers, one by one; this one too.
    ///
    /// # Errors
    /// [`Error::Gone`] when there is no manager any more; [`Error::System`] when this worker has not the right to (it has become another user).
    pub fn reload(&self) -> Result<()> {
        self.tell_manager(Signal::USR1)
    }

    /// Asks the manager to stop the pool.
    ///
    /// # Errors
    /// As [`reload`](Context::reload).
    pub fn shutdown(&self) -> Result<()> {
        self.tell_manager(Signal::TERM)
    }

    fn tell_manager(&self, signal: Signal) -> Result<()> {
        // While it is our parent its number is nobody else's.
        let manager = self.shared.manager;
        if getppid() == Some(manager) {
            child::signal(manager, signal)
        } else {
            Err(Error::Gone { pid: self.manager() })
        }
    }

    /// In few words, to the manager.
    pub(super) fn trouble(&self, text: String) {
        self.mouth.say(&What::Trouble(text));
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("id", &self.id).field("generation", &self.generation()).finish_non_exhaustive()
    }
}
