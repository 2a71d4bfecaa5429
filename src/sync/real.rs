//! The machine itself.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::OnceLock;

pub(crate) use std::hint::spin_loop as spin_hint;
pub(crate) use std::sync::atomic::{AtomicU64, fence};

pub(crate) use crate::sys::{clock, futex, identity};

/// Whether the world is modelled.
pub(crate) const MODELLED: bool = false;

/// Looks at a taken word before its thread goes to sleep: about 8 µs, the time in which an owner on another core usually
/// lets go. Fewer than a hundred bought nothing, and more only delay the sleep.
const SPINS: u32 = 500;

/// How often to look before sleeping: not at all on a single core, where the owner cannot run meanwhile.
pub(crate) fn spins() -> u32 {
    static BUDGET: OnceLock<u32> = OnceLock::new();
    *BUDGET.get_or_init(|| if std::thread::available_parallelism().is_ok_and(|n| n.get() > 1) { SPINS } else { 0 })
}

/// Reads a word that nobody else writes while the caller holds its lock.
#[inline(always)]
pub(crate) fn owned(word: &AtomicU64) -> u64 {
    // Relaxed: the last writer was this thread, or one before it in the lock's order.
    word.load(std::sync::atomic::Ordering::Relaxed)
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
