//! Sleeping and waking across processes.
//!
//! Never the PRIVATE flag: it keys a futex by address space, and our sleepers live in several. Deadlines are absolute
//! (FUTEX_WAIT_BITSET), so that a wait that is interrupted and taken up again does not start its time anew.

use std::sync::atomic::AtomicU64;

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Nap {
    /// Somebody woke this sleeper, or a signal did; the caller looks at its word again either way.
    Woken,
    /// The word no longer held what the caller had seen.
    Changed,
    /// The deadline came.
    TimedOut,
}

/// The address of the half of `word` that holds its low 32 bits, which is what the kernel compares.
fn low_half(word: &AtomicU64) -> *mut u32 {
    let first = word.as_ptr().cast::<u32>();
    if cfg!(target_endian = "big") { first.wrapping_add(1) } else { first }
}

/// Sleeps while the low half of `word` is `seen`, until a wake-up or `deadline` (monotonic nanoseconds).
pub(crate) fn wait(word: &AtomicU64, seen: u32, deadline: Option<u64>) -> Nap {
    let until = deadline.map(|ns| libc::timespec {
        tv_sec: (ns / 1_000_000_000).try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    });
    let until: *const libc::timespec = until.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word is borrowed, so its half is mapped and aligned for the whole call; the kernel only reads it. `until`
    // is null or points at a timespec of this frame. rustix has this call for a `&AtomicU32`, which a half of a word is not.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            low_half(word),
            libc::FUTEX_WAIT_BITSET,
            seen,
            until,
            std::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
    if result == 0 {
        return Nap::Woken;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::ETIMEDOUT) => Nap::TimedOut,
        Some(libc::EAGAIN) => Nap::Changed,
        // EINTR: a signal is no result; the caller's loop looks again and sleeps on.
        _ => Nap::Woken,
    }
}

/// Wakes at most `n` of those who sleep on `word`; the number woken.
pub(crate) fn wake(word: &AtomicU64, n: u32) -> usize {
    let n = n.min(i32::MAX as u32);
    // SAFETY: as in `wait`; waking does not touch the word.
    let woken = unsafe { libc::syscall(libc::SYS_futex, low_half(word), libc::FUTEX_WAKE, n) };
    usize::try_from(woken).unwrap_or(0)
}
