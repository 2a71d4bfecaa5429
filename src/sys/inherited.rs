//! What a process was given when it was started: descriptors above the standard three, and variables that are meant for it alone.
#![allow(unsafe_code)]

use super::fork::thread_count;
use crate::{Error, Result};
use rustix::fd::{FromRawFd, OwnedFd, RawFd};
use rustix::io::{FdFlags, fcntl_setfd};
use std::cell::Cell;

thread_local! {
    /// Descriptors below this one have been taken. Zero: none.
    static TAKEN: Cell<RawFd> = const { Cell::new(0) };
}

/// Takes over the descriptors 3, 4, … below `end`, which the starter of this program opened for it. Once in a process, and before it has a second thread.
///
/// # Errors
/// [`Error::Threads`] when there are others, which may have opened these descriptors themselves; [`Error::System`] when one is not open.
pub(crate) fn descriptors(call: &'static str, end: RawFd) -> Result<Vec<OwnedFd>> {
    let threads = thread_count()?;
    if threads > 1 {
        return Err(Error::Threads { call, threads });
    }
    let begin = TAKEN.get().max(3);
    TAKEN.set(end.max(begin));
    (begin..end)
        .map(|fd| {
            // SAFETY: fcntl with F_GETFD takes any number, and only looks.
            if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
                return Err(Error::System { call, source: std::io::Error::last_os_error() });
            }
            // SAFETY:
            // - open: it was, a line ago, and this process has no other thread that could have closed it;
            // - owned by nobody else: the starter opened it for this program and says so by the variables that the caller has read, and no number is
            //   taken twice here.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            fcntl_setfd(&fd, FdFlags::CLOEXEC).map_err(Error::system("fcntl(F_SETFD)"))?;
            Ok(fd)
        })
        .collect()
}

/// Takes variables out of the environment, so that programs which this one starts do not take them for theirs.
///
/// # Errors
/// [`Error::Threads`] when another thread could be reading the environment.
pub(crate) fn forget_variables(call: &'static str, names: &[&str]) -> Result<()> {
    let threads = thread_count()?;
    if threads > 1 {
        return Err(Error::Threads { call, threads });
    }
    for name in names {
        // SAFETY: this process has one thread, so nobody reads the environment at the same time.
        unsafe { std::env::remove_var(name) };
    }
    Ok(())
}
