//! Children, seen from their parent, and the parent, seen from its children.
//!
//! A parent learns of a death by [`next_death`] *without* reaping: the child stays a zombie, its pid cannot be given to
//! anybody else, and so what is done with that pid meanwhile (recovery, a signal that was on its way) can hit nobody
//! else. [`reap`] ends that.
//!
//! Signals go by pid rather than by pidfd: only the parent reaps, and it signals only children that it has not reaped,
//! whose pids are therefore still theirs.
#![allow(unsafe_code)]

use crate::{Error, Result};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::mem::MaybeUninit;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It left by `exit` with this status.
    Exit(i32),
    /// This signal killed it.
    Signal(i32),
}

/// The next child that is dead and not reaped, if there is one. Does not wait, and does not reap: the same child is
/// named again until [`reap`].
pub(crate) fn next_death() -> Result<Option<(Pid, End)>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    loop {
        // SAFETY: `info` is valid for writing one siginfo_t; with P_ALL the id is not looked at.
        let answer =
            unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) };
        if answer == 0 {
            break;
        }
        match std::io::Error::last_os_error() {
            error if error.kind() == std::io::ErrorKind::Interrupted => {}
            // No children at all is no death either.
            error if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            source => return Err(Error::System { call: "waitid", source }),
        }
    }
    // SAFETY: all zeroes is a valid siginfo_t, and the kernel either left it so or filled it in.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid fills in the SIGCHLD fields; when nobody is dead they are the zeroes from above.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as for `si_pid`.
    let status = unsafe { info.si_status() };
    let end = if info.si_code == libc::CLD_EXITED { End::Exit(status) } else { End::Signal(status) };
    Ok(if pid > 0 { Pid::from_raw(pid).map(|pid| (pid, end)) } else { None })
}

/// Takes a dead child out of the process table. From here on its pid may name somebody else.
pub(crate) fn reap(pid: Pid) -> Result<()> {
    loop {
        match rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Err(Errno::INTR) => {}
            // Already reaped: that is what was wanted.
            Ok(_) | Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(Error::system("waitid")(error)),
        }
    }
}

/// Sends `signal` to a child that has not been reaped. A zombie takes it without effect.
pub(crate) fn signal(pid: Pid, signal: Signal) -> Result<()> {
    rustix::process::kill_process(pid, signal).map_err(Error::system("kill"))
}

/// Kills a child that has not been reaped, and waits until it is dead: a zombie, still with its number.
pub(crate) fn put_down(pid: Pid) -> Result<()> {
    signal(pid, Signal::KILL)?;
    loop {
        match rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(Error::system("waitid")(error)),
        }
    }
}

/// Binds the calling process's life to its parent's: when the parent dies, this process gets `signal`.
///
/// Returns `false` when `parent` was already gone: its death came before the request, so no signal will ever come.
/// A change of credentials clears the request; whoever drops privileges calls this afterwards.
pub(crate) fn die_with(parent: Pid, signal: Signal) -> Result<bool> {
    rustix::process::set_parent_process_death_signal(Some(signal)).map_err(Error::system("prctl(PR_SET_PDEATHSIG)"))?;
    Ok(rustix::process::getppid() == Some(parent))
}

/// Has orphaned descendants come to the calling process, which is then the one to reap them, instead of to the first process of the system.
pub(crate) fn take_orphans() -> Result<()> {
    // SAFETY: the call takes numbers and touches no memory.
    let answer = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if answer == 0 {
        Ok(())
    } else {
        Err(Error::System { call: "prctl(PR_SET_CHILD_SUBREAPER)", source: std::io::Error::last_os_error() })
    }
}
