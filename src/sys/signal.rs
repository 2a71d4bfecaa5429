//! Signals without handlers: blocked, and read from a descriptor where an event loop waits anyway.
//!
//! A handler interrupts any instruction and may then do next to nothing; a flag that a handler sets can be missed by a
//! loop that has looked at it and is about to sleep. A blocked signal stays pending in the kernel until the loop reads
//! it from its signalfd, so neither danger exists.
#![allow(unsafe_code)]

use crate::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Signal;
use std::io;
use std::mem::{MaybeUninit, size_of};

/// A set of signals.
#[derive(Clone, Copy)]
pub(crate) struct SignalSet(libc::sigset_t);

impl SignalSet {
    /// The set of just these signals.
    pub(crate) fn of(signals: &[Signal]) -> Self {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the pointer is valid for one sigset_t; the call cannot fail on a valid pointer.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: sigemptyset has just initialised it.
        Self(unsafe { set.assume_init() }).with(signals)
    }

    /// This set and these signals.
    pub(crate) fn with(mut self, signals: &[Signal]) -> Self {
        for signal in signals {
            // SAFETY: the set is initialised, and `Signal` holds only valid numbers.
            unsafe { libc::sigaddset(&raw mut self.0, signal.as_raw()) };
        }
        self
    }

    /// Adds these signals to the calling thread's mask; returns the mask as it was before.
    pub(crate) fn block(&self) -> Result<SignalSet> {
        self.apply(libc::SIG_BLOCK)
    }

    /// Makes this set the calling thread's mask; returns the mask as it was before.
    pub(crate) fn make_mask(&self) -> Result<SignalSet> {
        self.apply(libc::SIG_SETMASK)
    }

    fn apply(&self, how: libc::c_int) -> Result<SignalSet> {
        let mut before = Self::of(&[]);
        // SAFETY: both point to initialised sigset_t values that outlive the call.
        let error = unsafe { libc::pthread_sigmask(how, &raw const self.0, &raw mut before.0) };
        if error == 0 {
            Ok(before)
        } else {
            Err(Error::System { call: "sigprocmask", source: io::Error::from_raw_os_error(error) })
        }
    }
}

/// A descriptor that is readable while one of its signals is pending for this process. The signals must be blocked.
pub(crate) struct SignalFd(OwnedFd);

impl SignalFd {
    /// Makes one for `signals`, non-blocking and close-on-exec.
    pub(crate) fn new(signals: &SignalSet) -> Result<Self> {
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const signals.0, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
        if fd < 0 {
            return Err(Error::System { call: "signalfd", source: io::Error::last_os_error() });
        }
        // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next pending signal, taken off the queue; `None` when there is none (or it is one without a name).
    pub(crate) fn next(&self) -> Result<Option<Signal>> {
        let mut record = [0_u8; size_of::<libc::signalfd_siginfo>()];
        loop {
            match rustix::io::read(&self.0, &mut record) {
                Ok(_) => {
                    // `ssi_signo` is the record's first field.
                    let number = u32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
                    return Ok(i32::try_from(number).ok().and_then(Signal::from_named_raw));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(Error::system("read(signalfd)")(error)),
            }
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<SignalFd> for OwnedFd {
    fn from(fd: SignalFd) -> Self {
        fd.0
    }
}

/// Gives `signal` its default action again.
///
/// A parent must do so for SIGCHLD: whoever started it may have left it ignored, and the kernel then reaps children by
/// itself, before anybody could recover what they held.
pub(crate) fn default_action(signal: Signal) -> Result<()> {
    // SAFETY: SIG_DFL is a valid action for every signal that `Signal` can name except KILL and STOP, where it fails.
    let before = unsafe { libc::signal(signal.as_raw(), libc::SIG_DFL) };
    if before == libc::SIG_ERR {
        return Err(Error::System { call: "signal", source: io::Error::last_os_error() });
    }
    Ok(())
}

/// Has the dead children of this process wait to be reaped, should it ignore SIGCHLD (perhaps since it was started so): the kernel would reap them itself,
/// before anybody could learn how they ended. A handler stays.
pub(crate) fn keep_the_dead() -> Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: asks only; `action` has room for the answer.
    sigaction_done(unsafe { libc::sigaction(libc::SIGCHLD, std::ptr::null(), action.as_mut_ptr()) })?;
    // SAFETY: the call above filled it in.
    let mut action = unsafe { action.assume_init() };
    let ignored = action.sa_sigaction == libc::SIG_IGN;
    if ignored || action.sa_flags & libc::SA_NOCLDWAIT != 0 {
        action.sa_flags &= !libc::SA_NOCLDWAIT;
        if ignored {
            action.sa_sigaction = libc::SIG_DFL;
        }
        // SAFETY: what was there is put back, with a flag less, or the default action in the place of none.
        sigaction_done(unsafe { libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut()) })?;
    }
    Ok(())
}

fn sigaction_done(answer: libc::c_int) -> Result<()> {
    if answer == 0 { Ok(()) } else { Err(Error::System { call: "sigaction", source: io::Error::last_os_error() }) }
}
