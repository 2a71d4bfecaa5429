//! The modelled eventfd: readable or not, and those who wait for it.
//!
//! It orders nothing, as the kernel promises nothing of the kind; who was really asleep comes back knowing what its waker knew, as with a futex.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::{newest, world};
use crate::{Error, Result};

#[derive(Debug)]
pub(crate) struct EventFd {
    /// Plain memory: modelled threads take turns.
    readable: Mutex<bool>,
    /// What happens to it is announced here, so that loom tries every order.
    meeting: loom::sync::atomic::AtomicU64,
}

/// The word on which all sleep who wait for an eventfd; each looks for itself whether it was for its own.
const POLL: usize = 1;

impl EventFd {
    pub(crate) fn new() -> Result<EventFd> {
        Ok(EventFd { readable: Mutex::default(), meeting: loom::sync::atomic::AtomicU64::new(0) })
    }

    fn readable(&self) -> MutexGuard<'_, bool> {
        self.readable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn signal(&self) {
        if world::step() {
            newest(&self.meeting);
            world::trace(|| "signal".into());
            *self.readable() = true;
            world::wake(POLL, u32::MAX);
        }
    }

    pub(crate) fn clear(&self) {
        if world::step() {
            newest(&self.meeting);
            world::trace(|| "clear".into());
            *self.readable() = false;
        }
    }
}

impl AsFd for EventFd {
    /// Something that can be borrowed; nobody waits for it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        static NOTHING: OnceLock<File> = OnceLock::new();
        NOTHING.get_or_init(|| File::open("/dev/null").unwrap_or_else(|e| panic!("/dev/null: {e}"))).as_fd()
    }
}

/// Waits until one of `fds` is readable, or a slice is over.
pub(crate) fn wait_readable(fds: &[&EventFd], _nanoseconds: u64) -> Result<()> {
    if !world::step() {
        return Err(Error::Closed); // the dead: no loop of theirs goes on
    }
    // Each may be signalled meanwhile; from the last of these on nobody else runs until this thread sleeps.
    for fd in fds {
        newest(&fd.meeting);
    }
    if fds.iter().all(|fd| !*fd.readable()) {
        world::trace(|| "poll".into());
        let _ = world::sleep(POLL);
        world::trace(|| "polled".into());
    }
    Ok(())
}
