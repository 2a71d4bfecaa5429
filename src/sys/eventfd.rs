//! An eventfd: a descriptor that becomes readable, for those who wait with epoll.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use crate::{Error, Result};

/// An eventfd, shared with every process forked from this one.
#[derive(Debug)]
pub(crate) struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    pub(crate) fn new() -> Result<EventFd> {
        let fd =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(Error::system("making an eventfd"))?;
        Ok(EventFd { fd })
    }

    /// Makes it readable. It cannot be refused: the count is far from its end, for whoever finds nothing takes it back to 0.
    pub(crate) fn signal(&self) {
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Makes it unreadable.
    pub(crate) fn clear(&self) {
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until one of `fds` is readable, a signal comes, or `nanoseconds` are over.
pub(crate) fn wait_readable(fds: &[&EventFd], nanoseconds: u64) -> Result<()> {
    let mut all: Vec<_> = fds.iter().map(|fd| PollFd::new(&fd.fd, PollFlags::IN)).collect();
    let time = rustix::event::Timespec {
        tv_sec: (nanoseconds / 1_000_000_000) as i64,
        tv_nsec: (nanoseconds % 1_000_000_000) as i64,
    };
    match poll(&mut all, Some(&time)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(Error::system("poll")(error)),
    }
}
