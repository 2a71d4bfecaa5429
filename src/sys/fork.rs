//! Forking where it is safe, and what has to happen around every fork, whoever makes it.
//!
//! After a fork the child has one thread: the copy of the one that forked. Whatever another thread was in the middle of
//! stays in the middle for ever, so [`fork_and_run`] refuses to fork a process that has more than one. Code that is not
//! ours may fork all the same; for that there are hooks (`pthread_atfork`), there from the start: the gate, a mutex that is held
//! across every fork so that no process-local table is ever copied half written, and one function that the child runs first.
//! Whatever a process sets up once is therefore set inside the gate ([`set_once`]); nothing waits for an initialiser.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

#[cfg(feature = "server")]
use rustix::process::Pid;

use crate::{Error, Result};

static IN_CHILD: OnceLock<fn()> = OnceLock::new();
static GATE: Mutex<()> = Mutex::new(());
static SEALED: AtomicBool = AtomicBool::new(false);
static GENERATION: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The gate's guard, between the hook before a fork and the hook after it.
    static HELD: Cell<Option<MutexGuard<'static, ()>>> = const { Cell::new(None) };
}

fn lock_gate() -> MutexGuard<'static, ()> {
    // Poisoned says that a thread panicked inside; what the gate guards is only ever replaced whole.
    GATE.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn before() {
    let guard = lock_gate();
    // A thread that is being torn down has no thread-locals left; it then forks with the gate open, as if there were none.
    let _ = HELD.try_with(|held| held.set(Some(guard)));
}

extern "C" fn after_in_parent() {
    let _ = HELD.try_with(Cell::take);
}

extern "C" fn after_in_child() {
    // Relaxed: the child has one thread.
    GENERATION.fetch_add(1, Ordering::Relaxed);
    let _ = HELD.try_with(Cell::take);
    if let Some(hook) = IN_CHILD.get() {
        hook();
    }
}

/// Hangs the hooks in when the program is loaded, before `main` and before there is a second thread. Later would be too late: a fork
/// by another thread in the middle of doing it "once" leaves a child in which it is for ever being done.
extern "C" fn hang_in() {
    // SAFETY: the three functions are `extern "C"`, take nothing and never unwind: they lock a mutex, set thread-locals
    // and a number. The call itself only fails for want of memory, when the fork that follows fails as well.
    unsafe { libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) };
}

// SAFETY: the section holds addresses of functions that the loader calls once, with arguments that `hang_in` does not look at.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = hang_in;

/// How many forks lie between the first process of this program and this one: what was made in a process of another generation, and is found
/// here, was inherited.
#[cfg(feature = "tokio")]
pub(crate) fn generation() -> u64 {
    // Relaxed: it changes only where there is one thread.
    GENERATION.load(Ordering::Relaxed)
}

/// Has `in_child` run first thing in every process forked from now on. Only the first call counts: there is one such function in the crate.
pub(crate) fn run_in_children(in_child: fn()) {
    set_once(&IN_CHILD, in_child);
}

/// Sets it if nobody did yet, and never in the middle of a fork, which would leave the child with one that is for ever being set.
pub(crate) fn set_once<T>(cell: &OnceLock<T>, value: T) {
    let unused = gated(|| cell.set(value));
    // Only now, for what is dropped may need the gate itself.
    drop(unused);
}

/// Runs `f` so that no fork of this process falls into the middle of it. Not to be nested.
pub(crate) fn gated<R>(f: impl FnOnce() -> R) -> R {
    let _open = lock_gate();
    f()
}

/// From now on, making a shared structure in this process is [`Error::AfterFork`]: it would be shared with nobody.
#[cfg(feature = "server")]
pub(crate) fn seal_structures() {
    // Relaxed: called in a fresh child, before it has a second thread.
    SEALED.store(true, Ordering::Relaxed);
}

/// Runs `f`, which makes what is shared with the calling process's own children: that is allowed though the rest is sealed.
#[cfg(feature = "server")]
pub(crate) fn for_own_children<R>(f: impl FnOnce() -> R) -> R {
    // Relaxed: as in `seal_structures`; who is about to fork has one thread.
    let sealed = SEALED.swap(false, Ordering::Relaxed);
    let made = f();
    SEALED.store(sealed, Ordering::Relaxed);
    made
}

/// Refuses when [`seal_structures`] was called in this process.
pub(crate) fn structures_allowed(what: &'static str) -> Result<()> {
    // Relaxed: see `seal_structures`.
    if SEALED.load(Ordering::Relaxed) { Err(Error::AfterFork { what }) } else { Ok(()) }
}

/// How many threads this process has: the directory of its tasks has a link for each, and two of its own. 0.7 µs.
#[cfg(feature = "server")]
pub(crate) fn thread_count() -> Result<usize> {
    let stat = rustix::fs::stat("/proc/self/task").map_err(Error::system("counting the threads in /proc/self/task"))?;
    Ok((stat.st_nlink as usize).saturating_sub(2))
}

/// Refuses when the process has more than one thread.
#[cfg(feature = "server")]
pub(crate) fn one_thread(call: &'static str) -> Result<()> {
    let threads = thread_count()?;
    if threads > 1 { Err(Error::Threads { call, threads }) } else { Ok(()) }
}

/// Forks; the child runs `child` and leaves with its value by `_exit`, or with 101 when it panics.
///
/// # Errors
/// [`Error::Threads`] when the process has more than one thread, [`Error::System`] when the kernel refuses.
#[cfg(feature = "server")]
pub(crate) fn fork_and_run(call: &'static str, child: impl FnOnce() -> i32) -> Result<Pid> {
    one_thread(call)?;
    // SAFETY: the process has one thread (checked above), so the child finds no lock held and no table half written.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or_else(|payload| {
                // Dropped it could panic once more, and the child would go on in its parent's code.
                std::mem::forget(payload);
                101
            });
            // SAFETY: ends the child here and now; nothing of the parent's (exit handlers, buffered output) runs twice.
            unsafe { libc::_exit(code) }
        }
        // -1, and nothing else, is no pid.
        _ => Some(pid)
            .filter(|pid| *pid > 0)
            .and_then(Pid::from_raw)
            .ok_or_else(|| Error::System { call: "fork", source: std::io::Error::last_os_error() }),
    }
}
