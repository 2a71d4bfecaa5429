//! A child by a descriptor that names it, and nobody who has its number after it.
//!
//! `child` serves a parent that reaps all its children; here one child is waited for among others that are none of our business.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid,
};

use super::child::End;
use super::clock;
use crate::{Error, Result};

/// A process, for ever.
#[derive(Debug)]
pub(crate) struct PidFd {
    fd: OwnedFd,
}

impl PidFd {
    /// Names the process that has the number `pid` now: a child that is not reaped, or a parent that is looked at afterwards.
    pub(crate) fn open(pid: Pid) -> Result<PidFd> {
        let fd = pidfd_open(pid, PidfdFlags::empty()).map_err(Error::system("pidfd_open"))?;
        Ok(PidFd { fd })
    }

    /// Sends a signal; `false` when the process is gone, and its number perhaps somebody else's.
    pub(crate) fn signal(&self, signal: Signal) -> Result<bool> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(error) => Err(Error::system("pidfd_send_signal")(error)),
        }
    }

    /// Whether it has ended, reaped or not; of any process.
    pub(crate) fn is_over(&self) -> Result<bool> {
        // Without a wait no signal comes in between.
        wait_for_any(&[self.fd.as_fd()], Some(0))
    }

    /// How it ended, if it did, without reaping it. A child of the calling process's only.
    pub(crate) fn end(&self) -> Result<Option<End>> {
        Ok(self.wait(WaitIdOptions::NOWAIT)?.map(|status| match status.exit_status() {
            Some(status) => End::Exit(status),
            None => End::Signal(status.terminating_signal().unwrap_or(0)),
        }))
    }

    /// Takes it out of the process table, when it is dead.
    pub(crate) fn reap(&self) -> Result<()> {
        self.wait(WaitIdOptions::empty()).map(drop)
    }

    fn wait(&self, how: WaitIdOptions) -> Result<Option<WaitIdStatus>> {
        loop {
            match waitid(WaitId::PidFd(self.fd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG | how) {
                Ok(status) => return Ok(status),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::system("waitid(P_PIDFD)")(error)),
            }
        }
    }
}

/// Readable once the process has ended.
impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until one of `fds` is readable, a signal comes, or it is `deadline` on the clock of `clock::now`; whether one is readable.
pub(crate) fn wait_for_any(fds: &[BorrowedFd<'_>], deadline: Option<u64>) -> Result<bool> {
    let mut all: Vec<_> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let time = deadline
        .map(|deadline| deadline.saturating_sub(clock::now()))
        .map(|left| Timespec { tv_sec: (left / 1_000_000_000).cast_signed(), tv_nsec: (left % 1_000_000_000) as _ });
    match poll(&mut all, time.as_ref()) {
        Ok(n) => Ok(n > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(Error::system("poll")(error)),
    }
}
