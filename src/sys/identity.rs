//! Who a thread is, in a way that no other thread ever is, and whether it is still alive.
//!
//! A pid alone names nobody: the kernel gives it out again. A thread is its id *and* the time at which it started (clock
//! ticks since boot, `/proc/TID/stat` field 22), within one pid namespace.
//!
//! The answer "dead" must never be wrong, for the lock of the dead is taken away; the answer "alive" may be. So whatever
//! cannot be found out (another pid namespace, a /proc that hides others) counts as alive.
//!
//! In a new root directory there may be no /proc at all. What can be asked there, of other processes than children, is a pidfd, which sees a zombie, but no number given out again; and who
//! is to go there remembers its namespace before ([`remember_namespace`]).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, test_kill_process, waitid};

/// A thread of some process, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    /// The process: what a parent waits for.
    pub(crate) pid: u32,
    /// The thread; of a process's first thread the same number.
    pub(crate) tid: u32,
    /// When the thread started, in clock ticks since boot; 0 when it is not known.
    pub(crate) start: u64,
    /// The inode of the pid namespace in which the numbers are meant; 0 when it is not known.
    pub(crate) namespace: u64,
}

/// How sure the caller has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// One system call (0.2 µs): sees that nobody has the number any more; takes a zombie, or a stranger with the same number,
    /// for alive.
    Quick,
    /// Reads `/proc/TID/stat` (5 µs): sees a zombie, and a number given out again.
    Close,
}

/// The calling thread.
pub(crate) fn current() -> Who {
    Who {
        pid: std::process::id(),
        tid: rustix::thread::gettid().as_raw_nonzero().get() as u32,
        start: stat("/proc/thread-self/stat").map_or(0, |s| s.start),
        namespace: namespace(),
    }
}

/// Whether `who` is certainly dead.
pub(crate) fn is_dead(who: &Who, look: Look) -> bool {
    // Who died before it wrote down its process id has written its thread id, which of a first thread is the same.
    if pretended_dead(if who.pid == 0 { who.tid } else { who.pid }) {
        return true;
    }
    if who.namespace != 0 && who.namespace != namespace() {
        return false;
    }
    let Some(tid) = i32::try_from(who.tid).ok().and_then(Pid::from_raw) else { return false };
    if test_kill_process(tid) == Err(Errno::SRCH) {
        return true;
    }
    if look == Look::Quick {
        return false;
    }
    // The file of the one thread: that of /proc/TID sums over all threads of its process, which with thousands of them takes 0.4 ms. Where
    // this thread's process has none of that number (any more), somebody else's may have it.
    let own = if who.pid == 0 { None } else { stat(&format!("/proc/{}/task/{}/stat", who.pid, who.tid)) };
    match own.or_else(|| stat(&format!("/proc/{}/stat", who.tid))) {
        Some(stat) => stat.has_ended() || (who.start != 0 && stat.start != who.start),
        // It went away between the two looks, or /proc does not show it to us; only the first is a death.
        None => has_ended_unseen(tid),
    }
}

/// Whether the process `pid` has ended, with all its threads: a zombie that nobody reaped, or gone.
pub(crate) fn process_is_dead(pid: u32) -> bool {
    if pretended_dead(pid) {
        return true;
    }
    let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    // Of a child the kernel tells without /proc, which a parent that has run out of descriptors cannot read; and of a
    // process whose first thread alone has ended it tells nothing yet.
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if matches!(waitid(WaitId::Pid(process), ended), Ok(Some(_))) {
        return true;
    }
    let gone = || test_kill_process(process) == Err(Errno::SRCH);
    let unseen = || has_ended_unseen(process);
    // A first thread that ended is a zombie while others of its process live, and is counted among them.
    gone() || stat(&format!("/proc/{pid}/stat")).map_or_else(unseen, |stat| stat.has_ended() && stat.threads <= 1)
}

/// Whether a process that /proc does not show has ended, with all its threads: its pidfd is readable then. Of a thread that is not the first of its
/// process nothing can be found out.
fn has_ended_unseen(pid: Pid) -> bool {
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => {
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&at_once)) == Ok(1)
        }
        Err(error) => error == Errno::SRCH,
    }
}

struct Stat {
    state: u8,
    /// Threads of the process that the kernel has not done away with, this one included.
    threads: u32,
    start: u64,
}

impl Stat {
    /// It has run its last instruction and only waits to be reaped.
    fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// State, number of threads and start time from a `stat` file: fields 3, 20 and 22, counted after the command name, which may
/// itself hold spaces and brackets and ends at the last `)`.
fn stat(path: &str) -> Option<Stat> {
    let text = std::fs::read(path).ok()?;
    let close = text.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(text.get(close + 2..)?).ok()?;
    let mut fields = rest.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    let threads = fields.nth(16)?.parse().ok()?;
    let start = fields.nth(1)?.parse().ok()?;
    Some(Stat { state, threads, start })
}

fn namespace() -> u64 {
    // Relaxed: a number that is written at most once in a process, and publishes nothing.
    rustix::fs::stat("/proc/self/ns/pid").map_or_else(|_| REMEMBERED.load(Ordering::Relaxed), |s| s.st_ino)
}

/// The namespace of a process that has no /proc any more; inherited by its children.
static REMEMBERED: AtomicU64 = AtomicU64::new(0);

/// To be called before /proc goes out of sight.
#[cfg(feature = "server")]
pub(crate) fn remember_namespace() {
    // Relaxed: see `namespace`.
    REMEMBERED.store(namespace(), Ordering::Relaxed);
}

/// Processes that this process is to take for dead; see [`pretend_dead`].
static PRETENDED: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];

fn pretended_dead(pid: u32) -> bool {
    // Relaxed: written by this process's only thread before it looks; publishes nothing.
    PRETENDED.iter().any(|p| p.load(Ordering::Relaxed) == pid && pid != 0)
}

/// Makes this process (not others) take `pid` for dead: how the kill harness judges a child that it has merely stopped.
/// False when four are pretended already.
pub fn pretend_dead(pid: u32) -> bool {
    // Relaxed: as in `pretended_dead`.
    PRETENDED.iter().any(|p| p.compare_exchange(0, pid, Ordering::Relaxed, Ordering::Relaxed).is_ok())
}
