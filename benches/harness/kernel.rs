//! What the harness asks of the kernel: shared memory, a fork, a core, a futex. The one unsafe file beside `posix`.

#![allow(unsafe_code)]

use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid};
use rustix::thread::{CpuSet, futex, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// A type for which zeroed bytes are a value and which several processes may use at once.
///
/// # Safety
/// Made only of atomics, or only handed as a pointer to code that knows it to be shared.
pub(crate) unsafe trait Zeroed: Sync {}

// SAFETY: one atomic word; zero is a value.
unsafe impl Zeroed for AtomicU32 {}
// SAFETY: as above.
unsafe impl Zeroed for AtomicU64 {}
// SAFETY: an array of such.
unsafe impl<T: Zeroed, const N: usize> Zeroed for [T; N] {}

/// A zeroed `T` on pages of its own, shared with every process forked from now on; never given back.
pub(crate) fn shared<T: Zeroed>() -> &'static T {
    assert!(align_of::<T>() <= 4096, "mmap aligns to a page");
    // SAFETY: a new mapping, at an address of the kernel's choice, touches nothing that exists.
    let at =
        unsafe { mmap_anonymous(null_mut(), size_of::<T>(), ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED) };
    let at = at.expect("mapping shared memory").cast::<T>();
    // SAFETY: mapped, zeroed (a value, by `Zeroed`), aligned to a page, long enough, and never unmapped.
    unsafe { &*at }
}

/// Zeroed words in a memfd, mapped and advised as a region of the crate is: what is measured in here pays for its memory what a structure
/// pays. Never given back.
pub(crate) fn shared_words(words: usize) -> &'static [AtomicU64] {
    let file = memfd_create("floor", MemfdFlags::CLOEXEC).expect("memfd_create");
    ftruncate(&file, words as u64 * 8).expect("ftruncate");
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, at an address of the kernel's choice, touches nothing that exists.
    let at = unsafe { mmap(null_mut(), words * 8, protection, MapFlags::SHARED, &file, 0) };
    let at = at.expect("mapping shared memory");
    // SAFETY: the mapping just made; the advice changes no contents.
    let _ = unsafe { madvise(at, words * 8, Advice::LinuxHugepage) };
    // SAFETY: mapped, zeroed, aligned to a page, `words` long, only atomics, never unmapped, and nobody else resizes the file.
    unsafe { std::slice::from_raw_parts(at.cast(), words) }
}

/// Forks; the child runs `child` and ends when it returns or panics. Only for a process with one thread.
pub(crate) fn fork(child: impl FnOnce()) -> Pid {
    let tasks = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    assert_eq!(tasks, 1, "workers are forked before anything makes threads");
    // SAFETY: one thread (checked above), so the child finds no lock held.
    let pid = unsafe { libc::fork() };
    if pid != 0 {
        return Pid::from_raw(pid).expect("fork");
    }
    let code = i32::from(std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).is_err());
    // SAFETY: ends the child without running what belongs to the parent (exit handlers, buffered output).
    unsafe { libc::_exit(code) }
}

/// Has the kernel kill this process when its parent ends.
pub(crate) fn die_with_parent() {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("PR_SET_PDEATHSIG");
}

/// The cores this process may use.
pub(crate) fn cores() -> Vec<usize> {
    let set = sched_getaffinity(None).expect("sched_getaffinity");
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// Keeps the calling thread on one core.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("sched_setaffinity");
}

/// Ends a child and takes it away.
pub(crate) fn kill(child: Pid) {
    let _ = kill_process(child, Signal::KILL);
    let _ = waitpid(Some(child), WaitOptions::empty());
}

/// Whether a child has ended; it is then reaped.
pub(crate) fn has_ended(child: Pid) -> bool {
    !matches!(waitpid(Some(child), WaitOptions::NOHANG), Ok(None))
}

/// Sleeps while `word` is `seen`, at most `limit`. Shared: never the PRIVATE flag.
#[inline]
pub(crate) fn futex_wait(word: &AtomicU32, seen: u32, limit: Option<Duration>) {
    let limit = limit.map(|limit| limit.try_into().expect("a short time"));
    let _ = futex::wait(word, futex::Flags::empty(), seen, limit.as_ref());
}

/// Wakes at most `n` sleepers.
#[inline]
pub(crate) fn futex_wake(word: &AtomicU32, n: u32) {
    let _ = futex::wake(word, futex::Flags::empty(), n.min(i32::MAX as u32));
}

/// Monotonic nanoseconds, the same clock in every process.
#[inline]
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The cheapest system call.
#[inline]
pub(crate) fn system_call() -> u64 {
    // SAFETY: getppid takes nothing and cannot fail.
    unsafe { libc::syscall(libc::SYS_getppid) as u64 }
}
