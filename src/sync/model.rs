//! loom's model of the machine: every order that the memory model allows, and deaths at any operation.
//!
//! A modelled thread stands for a process. A *mortal* one ([`world::mortal`]) stops for ever at its k-th operation: from then on nothing that it
//! does has an effect, not even what its destructors do. The others learn of it as they would from the kernel: they may ask whether it
//! is dead, and after each death a slice of every sleeper ends, once on each word. Without a death a slice never ends, so a lost wake-up is a deadlock,
//! which loom reports.
//!
//! # What orders what
//! The modelled kernel orders as little as the real one promises, for an ordering that it threw in would hide one that the crate forgot:
//! `futex::wait` and `futex::wake` read the newest value of the word without acquiring anything; only one that was really put to sleep comes
//! back knowing what its waker knew. Who finds a thread dead sees all that it did.
//!
//! # Trap 1
//! loom remembers of each word the last access alone. When a thread reads a word and then writes it, the write is compared with its own read,
//! and that somebody else read the word before is forgotten: whole classes of interleavings are never tried (loom issues 166, 392). So
//! each word has a second one, its `meeting`, and every access is announced there first by a read-modify-write that changes nothing. All
//! accesses to a word thereby depend on each other, and none is forgotten. It costs four to nine times the executions, so the larger
//! models do without ([`world::begin`]): they look for what three threads do to each other, and two-thread models for the rest.

#[path = "../sys/unsynced.rs"]
mod unsynced;

use std::sync::atomic::Ordering;

pub(crate) const MODELLED: bool = true;

/// A spinning waiter never ends where time stands still; a model may ask for a look or two ([`world::looks`]), which the others do without.
pub(crate) fn spins() -> u32 {
    world::spins()
}

pub(crate) fn spin_hint() {
    loom::thread::yield_now();
}

pub(crate) fn fence(order: Ordering) {
    if world::step() {
        loom::sync::atomic::fence(order);
    }
}

/// What no word ever holds.
const NEVER: u64 = 0x5eed_dead_beef_5eed;

/// The newest value of a word, without any order: to loom it is a read-modify-write, and it changes nothing.
fn newest(word: &loom::sync::atomic::AtomicU64) -> u64 {
    word.compare_exchange(NEVER, NEVER, Ordering::Relaxed, Ordering::Relaxed).unwrap_or_else(|value| value)
}

/// A modelled 64-bit cell.
#[derive(Debug)]
pub(crate) struct AtomicU64 {
    cell: loom::sync::atomic::AtomicU64,
    meeting: Option<loom::sync::atomic::AtomicU64>,
}

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        let new = loom::sync::atomic::AtomicU64::new;
        AtomicU64 { cell: new(value), meeting: world::meetings().then(|| new(0)) }
    }
    /// Before every access; false when it must have no effect.
    fn step(&self) -> bool {
        let alive = world::step();
        if alive && let Some(meeting) = &self.meeting {
            newest(meeting);
        }
        alive
    }
    /// For the trace of a model that fails.
    fn done<T: std::fmt::Debug>(&self, what: &str, result: T) -> T {
        world::trace(|| format!("{what} {:x} -> {result:x?}", std::ptr::from_ref(self).addr() & 0xf_ffff));
        result
    }
    pub(crate) fn load(&self, order: Ordering) -> u64 {
        if self.step() { self.done("load", self.cell.load(order)) } else { 0 }
    }
    pub(crate) fn store(&self, value: u64, order: Ordering) {
        if self.step() {
            self.cell.store(value, order);
            self.done("store", value);
        }
    }
    pub(crate) fn swap(&self, value: u64, order: Ordering) -> u64 {
        if self.step() { self.done("swap", self.cell.swap(value, order)) } else { 0 }
    }
    pub(crate) fn compare_exchange(&self, old: u64, new: u64, yes: Ordering, no: Ordering) -> Result<u64, u64> {
        // The dead succeed, so that no loop of theirs goes on.
        if self.step() { self.done("exchange", self.cell.compare_exchange(old, new, yes, no)) } else { Ok(old) }
    }
    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        if self.step() { self.done("add", self.cell.fetch_add(value, order)) } else { 0 }
    }
    pub(crate) fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        if self.step() { self.done("sub", self.cell.fetch_sub(value, order)) } else { 0 }
    }
    pub(crate) fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        if self.step() { self.done("or", self.cell.fetch_or(value, order)) } else { 0 }
    }
    pub(crate) fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        if self.step() { self.done("and", self.cell.fetch_and(value, order)) } else { 0 }
    }
    pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        if self.step() { self.done("max", self.cell.fetch_max(value, order)) } else { 0 }
    }
}

/// Reads a word that nobody else writes while the caller holds its lock, and proves that nobody does.
pub(crate) fn owned(word: &AtomicU64) -> u64 {
    if world::step() { unsynced::load(&word.cell) } else { 0 }
}

pub(crate) mod clock {
    /// Time stands still, but not at 0, which to some is no time at all.
    pub(crate) fn now() -> u64 {
        1
    }
}

pub(crate) mod futex {
    use super::{AtomicU64, newest, world};
    use crate::sys::futex::Nap;

    pub(crate) fn wait(word: &AtomicU64, seen: u32, deadline: Option<u64>) -> Nap {
        // Between the look and the sleep nobody else runs: looking is the only operation here.
        if !world::step() {
            return Nap::Woken;
        }
        if newest(&word.cell) as u32 != seen {
            return Nap::Changed;
        }
        if deadline.is_some_and(|deadline| deadline <= super::clock::now()) {
            return Nap::TimedOut;
        }
        word.done("sleep", seen);
        word.done("awake", world::sleep(std::ptr::from_ref(word).addr()))
    }

    pub(crate) fn wake(word: &AtomicU64, n: u32) -> usize {
        if !world::step() {
            return 0;
        }
        // For loom: waking depends on who fell asleep on this word before.
        newest(&word.cell);
        word.done("wake", world::wake(std::ptr::from_ref(word).addr(), n))
    }
}

pub(crate) mod identity {
    use super::world;
    use crate::sys::identity::{Look, Who};

    pub(crate) fn current() -> Who {
        let id = world::my_id();
        Who { pid: id, tid: id, start: 0, namespace: 0 }
    }
    pub(crate) fn is_dead(who: &Who, _look: Look) -> bool {
        world::is_dead(who.tid)
    }
    pub(crate) fn process_is_dead(pid: u32) -> bool {
        world::is_dead(pid)
    }
}

mod eventfd;
pub mod world;

pub(crate) use eventfd::{EventFd, wait_readable};

macro_rules! process_static {
    ($(#[$meta:meta])* static $name:ident: $ty:ty = $init:expr;) => {
        loom::lazy_static! { $(#[$meta])* static ref $name: $ty = $init; }
    };
}

macro_rules! thread_slot {
    ($(#[$meta:meta])* static $name:ident: $ty:ty = $init:expr;) => {
        loom::thread_local! { $(#[$meta])* static $name: $ty = $init; }
    };
}

pub(crate) use {process_static, thread_slot};
