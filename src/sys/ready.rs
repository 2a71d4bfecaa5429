//! Descriptors of ours in tokio's event loop.
#![allow(unsafe_code)]

use crate::{Error, Result};
use rustix::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches `fd` for being readable. Must be called inside a runtime.
pub(crate) fn watch(fd: OwnedFd) -> Result<AsyncFd<OwnedFd>> {
    // SAFETY:
    // - valid and open: an `OwnedFd` owns an open descriptor, and it moves into the `AsyncFd`, which keeps it until dropped;
    // - always the same: an `OwnedFd` names one descriptor for its whole life.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Error::system("register with epoll"))
}
