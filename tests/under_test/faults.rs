//! What goes wrong in the server under test, and where: the word after `--fault=`.

#![allow(unsafe_code)]

use std::time::Duration;

use commons::Result;

use super::server::{UnderTest, failed};

/// The handler's plain calls together.
pub(crate) const HOOKS: &[&str] = &[
    "start",
    "before_shutdown",
    "shutdown",
    "manager_start",
    "manager_stop",
    "worker_error",
    "before_reload",
    "after_reload",
];

/// What a panic may carry: it panics when it is dropped, with another one of its kind.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::panic_any(Bomb);
    }
}

impl UnderTest {
    pub(super) fn fails_at(&self, where_: &str) -> Result<()> {
        let (kind, place) = self.fault.split_once(':').unwrap_or_default();
        if place != where_ && !(place == "hooks" && HOOKS.contains(&where_)) {
            return Ok(());
        }
        match kind {
            "error" => Err(failed("failing")),
            "panic" => panic!("told to"),
            "bomb" => std::panic::panic_any(Bomb),
            "slow" => {
                std::thread::sleep(Duration::from_millis(300));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// In a call that cannot return an error; and where a process begins, for what is to last as long as it does.
    pub(super) fn plain(&self, where_: &str) {
        if self.fault == "interrupts" && ["start", "manager_start", "worker_start"].contains(&where_) {
            interrupt_me();
        }
        if where_ != "worker_start" {
            let _ = self.fails_at(where_);
        }
    }
}

extern "C" fn nothing(_: libc::c_int) {}

/// From here on a signal comes every 100 microseconds, with a handler that does nothing: each system call that can be interrupted will be.
fn interrupt_me() {
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: all zeroes is a valid sigaction: no flags, so that nothing is taken up again by the kernel.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: the handler does nothing, which it may at any instant.
    let handled = unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
    let every = libc::timeval { tv_sec: 0, tv_usec: 100 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: sets a timer of this process, nothing else.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!((handled, set), (0, 0));
}

/// Leaves behind a process that nobody knows of, with all that this one holds; it ends with the group.
pub(super) fn leak() -> i32 {
    // SAFETY: a worker has one thread.
    let pid = unsafe { libc::fork() };
    if pid != 0 {
        return pid;
    }
    loop {
        // SAFETY: waits for a signal, nothing else.
        unsafe { libc::pause() };
    }
}
