//! The machine itself.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::atomic::{self, Ordering};

pub(crate) use crate::sys::eventfd::{EventFd, wait_readable};
pub(crate) use crate::sys::{clock, identity};

/// Whether the world is modelled.
pub(crate) const MODELLED: bool = false;

/// Looks at a taken word before its thread goes to sleep: about 8 µs, the time in which an owner on another core usually
/// lets go. Fewer than a hundred bought nothing, and more only delay the sleep.
const SPINS: u32 = 500;

/// How often to look before sleeping: not at all on a single core, where the owner cannot run meanwhile.
pub(crate) fn spins() -> u32 {
    // The number and one more; 0 while it is not known. No OnceLock: a fork in the middle of its initialiser would leave a child that waits
    // for ever. Two threads that find out at once find the same. Relaxed: nothing is published.
    static BUDGET: atomic::AtomicU32 = atomic::AtomicU32::new(0);
    if let Some(known) = BUDGET.load(Ordering::Relaxed).checked_sub(1) {
        return known;
    }
    let several = std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
    let budget = if several { SPINS } else { 0 };
    BUDGET.store(budget + 1, Ordering::Relaxed);
    budget
}

#[inline(always)]
pub(crate) fn spin_hint() {
    std::hint::spin_loop();
}

#[inline(always)]
pub(crate) fn fence(order: Ordering) {
    atomic::fence(order);
}

/// A 64-bit cell: the one kind of thing that shared memory is made of.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct AtomicU64(atomic::AtomicU64);

impl AtomicU64 {
    #[inline(always)]
    pub(crate) const fn new(value: u64) -> Self {
        AtomicU64(atomic::AtomicU64::new(value))
    }
    #[inline(always)]
    pub(crate) fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }
    #[inline(always)]
    pub(crate) fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }
    #[inline(always)]
    pub(crate) fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.0.swap(value, order)
    }
    #[inline(always)]
    pub(crate) fn compare_exchange(&self, old: u64, new: u64, yes: Ordering, no: Ordering) -> Result<u64, u64> {
        self.0.compare_exchange(old, new, yes, no)
    }
    #[inline(always)]
    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_add(value, order)
    }
    #[inline(always)]
    pub(crate) fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_sub(value, order)
    }
    #[inline(always)]
    pub(crate) fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_or(value, order)
    }
    #[inline(always)]
    pub(crate) fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_and(value, order)
    }
    #[inline(always)]
    pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_max(value, order)
    }
}

/// Reads a word that nobody else writes while the caller holds its lock.
#[inline(always)]
pub(crate) fn owned(word: &AtomicU64) -> u64 {
    // Relaxed: the last writer was this thread, or one before it in the lock's order.
    word.load(Ordering::Relaxed)
}

pub(crate) mod futex {
    use super::AtomicU64;
    use crate::sys::futex::{self, Nap};

    pub(crate) fn wait(word: &AtomicU64, seen: u32, deadline: Option<u64>) -> Nap {
        futex::wait(&word.0, seen, deadline)
    }

    pub(crate) fn wake(word: &AtomicU64, n: u32) -> usize {
        futex::wake(&word.0, n)
    }
}

/// What a model does to its threads; nothing here.
pub mod world {}

/// A static of which every process has its own, copied at fork.
macro_rules! process_static {
    ($(#[$meta:meta])* static $name:ident: $ty:ty = $init:expr;) => {
        $(#[$meta])* static $name: $ty = $init;
    };
}

/// A value of which every thread has its own.
macro_rules! thread_slot {
    ($(#[$meta:meta])* static $name:ident: $ty:ty = $init:expr;) => {
        ::std::thread_local! { $(#[$meta])* static $name: $ty = const { $init }; }
    };
}

pub(crate) use {process_static, thread_slot};
