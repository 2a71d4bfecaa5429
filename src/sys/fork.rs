//! Temporary stand-in for the real fork module; replaced when the branches are merged.
#![allow(unsafe_code, dead_code)]

use crate::{Error, Result};
use rustix::process::Pid;

/// Forks; runs `child` in the child and leaves with its return value by `_exit`.
pub(crate) fn fork_and_run(call: &'static str, child: impl FnOnce() -> i32) -> Result<Pid> {
    let threads = thread_count()?;
    if threads > 1 {
        return Err(Error::Threads { call, threads });
    }
    // SAFETY: this process has one thread, so the child inherits no lock that another thread holds.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(101);
        // SAFETY: `_exit` takes any number and does not return.
        unsafe { libc::_exit(code) }
    }
    Pid::from_raw(pid)
        .filter(|_| pid > 0)
        .ok_or_else(|| Error::System { call: "fork", source: std::io::Error::last_os_error() })
}

/// How many threads this process has.
pub(crate) fn thread_count() -> Result<usize> {
    let stat = rustix::fs::stat("/proc/self/task").map_err(Error::system("stat /proc/self/task"))?;
    Ok((stat.st_nlink as usize).saturating_sub(2))
}

/// From now on making shared structures in this process is an error.
pub(crate) fn seal_structures() {}
