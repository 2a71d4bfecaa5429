//! The fork harness: children that cannot hang a test, cannot outlive it, and whose failures are told.
//!
//! libtest always has several threads, so a forked child is the copy of one of them and must not touch what another may have
//! held at that moment. It never writes to std's stdout (a lock there hung now and then), it reports a panic through a pipe by
//! `write(2)`, and it leaves by `_exit`. An alarm ends it when it hangs, the death of the test's thread ends it too, and dropping
//! its [`Child`] kills and reaps it. Whatever a test waits for, it waits for with a bound ([`until`]).

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::print_stderr, reason = "what a failed test or a skipped one has to say")]
#![allow(unsafe_code)]

#[path = "../dice/mod.rs"]
pub(crate) mod dice;

use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, set_parent_process_death_signal, waitid,
};

/// How long anything may take that ought to be quick.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Seconds after which a child is ended by its alarm.
const ALARM: u32 = 60;

thread_local! {
    /// In a child: the pipe on which its panics are told.
    static REPORT: Cell<Option<i32>> = const { Cell::new(None) };
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

/// A forked process; killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    report: fs::File,
    exit: Option<Exit>,
}

/// Forks a process that runs `f` and leaves with 0, or with 101 when it panics.
pub(crate) fn in_child(f: impl FnOnce()) -> Child {
    tell_panics_of_children();
    let (read, write) = pipe();
    // SAFETY: the child runs only `f`, which keeps to what the head of this file says, and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        REPORT.set(Some(write.as_raw_fd()));
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        // SAFETY: sets a timer of this process, nothing else.
        unsafe { libc::alarm(ALARM) };
        let code = if catch_unwind(AssertUnwindSafe(f)).is_ok() { 0 } else { 101 };
        leave(code);
    }
    Child { pid: Pid::from_raw(pid).unwrap(), report: fs::File::from(read), exit: None }
}

/// Ends the calling process at once; no destructor and no exit handler runs.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// Ends the calling process as SIGKILL from outside would, at this very point.
pub(crate) fn die() -> ! {
    let _ = kill_process(rustix::process::getpid(), Signal::KILL);
    unreachable!("killed")
}

/// One hook for the whole process, set before its first fork: in a child it writes where the parent reads.
fn tell_panics_of_children() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match REPORT.get() {
            None => usual(info),
            Some(pipe) => {
                let text = info.to_string();
                // SAFETY: the bytes are those of `text`; a pipe that nobody reads any more does no harm.
                unsafe { libc::write(pipe, text.as_ptr().cast(), text.len().min(4000)) };
            }
        }));
    });
}

/// Reading does not block: what a child said is there once it is dead, and others may have inherited the writing end.
fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two numbers into `ends`.
    let done = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) };
    assert_eq!(done, 0, "pipe: {}", std::io::Error::last_os_error());
    // SAFETY: a fresh descriptor, owned by nobody else.
    let read = unsafe { OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: as above.
    let write = unsafe { OwnedFd::from_raw_fd(ends[1]) };
    (read, write)
}

impl Child {
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get() as u32
    }

    pub(crate) fn signal(&self, signal: Signal) {
        assert!(self.exit.is_none(), "the child was reaped already");
        kill_process(self.pid, signal).unwrap();
    }

    /// SIGKILL, and waits until the child is a zombie; it stays one.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
        until("the child is dead", || self.is_zombie());
    }

    /// SIGSTOP, and waits until it stands still.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        until("the child is stopped", || state_of(self.pid()) == Some('T'));
    }

    pub(crate) fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Dead and not reaped.
    pub(crate) fn is_zombie(&self) -> bool {
        self.look(WaitIdOptions::NOWAIT).is_some()
    }

    /// Whether it sleeps in the kernel at this instant.
    pub(crate) fn is_asleep(&self) -> bool {
        state_of(self.pid()) == Some('S')
    }

    /// Waits until it sleeps: twice seen, so that a passing page fault does not count.
    pub(crate) fn until_asleep(&self) {
        until("the child sleeps", || {
            self.is_asleep() && {
                std::thread::sleep(Duration::from_millis(1));
                self.is_asleep()
            }
        });
    }

    fn look(&self, how: WaitIdOptions) -> Option<WaitIdStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | how;
        waitid(WaitId::Pid(self.pid), options).ok().flatten()
    }

    /// Waits for its end without reaping it.
    pub(crate) fn until_dead(&self) {
        until("the child ends", || self.is_zombie());
    }

    /// Waits for its end, and reaps it.
    pub(crate) fn wait(&mut self) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        let mut status = None;
        until_within(PATIENCE * 3, "the child ends", || {
            status = self.look(WaitIdOptions::empty());
            status.is_some()
        });
        let status = status.unwrap();
        let exit = match status.exit_status() {
            Some(code) => Exit::Code(code),
            None => Exit::Signal(status.terminating_signal().unwrap_or(0)),
        };
        self.exit = Some(exit);
        exit
    }

    /// Waits for its end, which has to be a good one.
    #[track_caller]
    pub(crate) fn join(mut self) {
        let exit = self.wait();
        assert!(exit == Exit::Code(0), "the child ended with {exit:?}: {}", self.said());
    }

    /// What it panicked with.
    pub(crate) fn said(&mut self) -> String {
        let mut text = Vec::new();
        let _ = self.report.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.exit.is_none() {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED);
            if std::thread::panicking() {
                let said = self.said();
                if !said.is_empty() {
                    eprintln!("a child had said: {said}");
                }
            }
        }
    }
}

/// The state letter of a process, from `/proc/PID/stat`.
pub(crate) fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 2..].chars().next()
}

/// Polls until `done`, and fails the test when that takes longer than [`PATIENCE`].
#[track_caller]
pub(crate) fn until(what: &str, done: impl FnMut() -> bool) {
    until_within(PATIENCE, what, done);
}

#[track_caller]
pub(crate) fn until_within(limit: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < end, "waited {limit:?} in vain until {what}");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Every descriptor that the calling process, a child, may still have; of a few hundred, which it lowers its limit to.
pub(crate) fn all_descriptors() -> Vec<fs::File> {
    let (resource, most) = (rustix::process::Resource::Nofile, Some(512));
    rustix::process::setrlimit(resource, rustix::process::Rlimit { current: most, maximum: most }).unwrap();
    (0..512).map_while(|_| fs::File::open("/dev/null").ok()).collect()
}

/// Tests that measure time or count things of the whole process take turns.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says why a test did nothing.
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// Says what a test found worth knowing; seen with `--nocapture`, and when it fails.
pub(crate) fn note(what: &str) {
    eprintln!("{what}");
}

/// The middle of some times.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The monotonic clock in nanoseconds: one that processes can compare.
pub(crate) fn now() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// Sleeps until it is killed.
pub(crate) fn sleep_for_ever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// What a supervisor does about a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    /// There is none, and nobody reaps.
    Absent,
    /// Somebody reaps and does nothing else.
    Reaps,
    /// It recovers, then reaps.
    Recovers,
}

/// A process comes to `hold` something and is killed; another one waits for it in `wait`. The time from the death (or, with a
/// manager, from its call) until the second went on.
pub(crate) fn succession(manager: Manager, hold: &dyn Fn(), wait: &dyn Fn()) -> Duration {
    let (held, done) = (commons::Atomic::new(0).unwrap(), commons::AtomicLong::new(0).unwrap());
    let mut owner = in_child(|| {
        hold();
        held.set(1);
        sleep_for_ever();
    });
    until("the owner holds it", || held.get() == 1);
    let waiter = in_child(|| {
        wait();
        done.set(now());
    });
    waiter.until_asleep();
    assert_eq!(done.get(), 0, "it waits");
    owner.kill();
    let mut from = now();
    match manager {
        Manager::Absent => {}
        Manager::Reaps => drop(owner.wait()),
        Manager::Recovers => {
            from = now();
            // Whoever waits may have been faster.
            commons::recover(owner.pid()).unwrap();
        }
    }
    waiter.join();
    Duration::from_nanos(u64::try_from(done.get() - from).unwrap_or(0))
}

/// Plays a succession often enough to judge the time: within 50 ms without a manager, at once with one (far below the 20 ms after which
/// a sleeper would have looked by itself). Medians, since a busy machine delays anything now and then.
#[track_caller]
pub(crate) fn assert_succession(what: &str, hold: &dyn Fn(), wait: &dyn Fn()) {
    for (manager, rounds, limit) in [(Manager::Absent, 9, 50), (Manager::Reaps, 9, 50), (Manager::Recovers, 31, 10)] {
        let time = median((0..rounds).map(|_| succession(manager, hold, wait)).collect());
        assert!(time < Duration::from_millis(limit), "{what}, {manager:?}: {time:?}");
    }
}
