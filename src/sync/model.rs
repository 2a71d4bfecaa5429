//! loom's model of the machine: every order that the memory model allows, and deaths at any operation.
//!
//! A modelled thread stands for a process. A *mortal* one ([`world::mortal`]) stops for ever at its k-th operation: from then on nothing that it
//! does has an effect, not even what its destructors do. The others learn of it as they would from the kernel: they may ask whether it
//! is dead, and a sleeper's slice ends when somebody has died meanwhile. Without a death a slice never ends, so a lost wake-up is a deadlock,
//! which loom reports.
//!
//! Only the kernel's own knowledge (who sleeps, who is dead) is synchronised here, by one modelled mutex.

#[path = "../sys/unsynced.rs"]
mod unsynced;

use std::sync::atomic::Ordering;

pub(crate) const MODELLED: bool = true;

/// A spinning waiter never ends where time stands still.
pub(crate) fn spins() -> u32 {
    0
}

pub(crate) fn spin_hint() {
    loom::thread::yield_now();
}

pub(crate) fn fence(order: Ordering) {
    if world::step() {
        loom::sync::atomic::fence(order);
    }
}

/// A modelled 64-bit cell.
#[derive(Debug)]
pub(crate) struct AtomicU64(loom::sync::atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        AtomicU64(loom::sync::atomic::AtomicU64::new(value))
    }
    pub(crate) fn load(&self, order: Ordering) -> u64 {
        if world::step() { self.0.load(order) } else { 0 }
    }
    pub(crate) fn store(&self, value: u64, order: Ordering) {
        if world::step() {
            self.0.store(value, order);
        }
    }
    pub(crate) fn swap(&self, value: u64, order: Ordering) -> u64 {
        if world::step() { self.0.swap(value, order) } else { 0 }
    }
    pub(crate) fn compare_exchange(&self, old: u64, new: u64, yes: Ordering, no: Ordering) -> Result<u64, u64> {
        // The dead succeed, so that no loop of theirs goes on.
        if world::step() { self.0.compare_exchange(old, new, yes, no) } else { Ok(old) }
    }
    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        if world::step() { self.0.fetch_add(value, order) } else { 0 }
    }
    pub(crate) fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        if world::step() { self.0.fetch_sub(value, order) } else { 0 }
    }
    pub(crate) fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        if world::step() { self.0.fetch_or(value, order) } else { 0 }
    }
    pub(crate) fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        if world::step() { self.0.fetch_and(value, order) } else { 0 }
    }
    pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        if world::step() { self.0.fetch_max(value, order) } else { 0 }
    }
}

/// Reads a word that nobody else writes while the caller holds its lock, and proves that nobody does.
pub(crate) fn owned(word: &AtomicU64) -> u64 {
    if world::step() { unsynced::load(&word.0) } else { 0 }
}

pub(crate) mod clock {
    /// Time stands still.
    pub(crate) fn now() -> u64 {
        0
    }
}

pub(crate) mod futex {
    use super::{AtomicU64, Ordering, world};
    use crate::sys::futex::Nap;

    pub(crate) fn wait(word: &AtomicU64, seen: u32, _deadline: Option<u64>) -> Nap {
        if !world::step() {
            return Nap::Woken;
        }
        // Relaxed: the kernel compares a value; it orders nothing for the caller.
        world::sleep(std::ptr::from_ref(word).addr(), || word.0.load(Ordering::Relaxed) as u32 == seen)
    }

    pub(crate) fn wake(word: &AtomicU64, n: u32) -> usize {
        if world::step() { world::wake(std::ptr::from_ref(word).addr(), n) } else { 0 }
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
        world::step() && world::is_dead(who.tid)
    }
    pub(crate) fn process_is_dead(pid: u32) -> bool {
        world::step() && world::is_dead(pid)
    }
}

/// The modelled kernel, and what a model needs to let threads die.
pub mod world {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::atomic::Ordering;

    use crate::sys::futex::Nap;

    #[derive(Default)]
    struct Kernel {
        /// Word, ticket, woken.
        sleepers: Vec<(usize, usize, bool)>,
        tickets: usize,
        dead: Vec<u32>,
    }

    loom::lazy_static! {
        static ref KERNEL: (loom::sync::Mutex<Kernel>, loom::sync::Condvar) = Default::default();
        static ref IDS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    }

    loom::thread_local! {
        static ID: Cell<u32> = Cell::new(0);
        /// Operations left to a mortal thread.
        static LIFE: Cell<Option<u32>> = Cell::new(None);
        static DEAD: Cell<bool> = Cell::new(false);
    }

    struct Died;

    /// The calling thread's id; what stands for its pid.
    pub fn my_id() -> u32 {
        ID.with(|id| {
            if id.get() == 0 {
                // Not part of the model: a name.
                id.set(IDS.fetch_add(1, Ordering::Relaxed));
            }
            id.get()
        })
    }

    /// Before every operation: false when the thread is dead and the operation must have no effect; dies here when its time has come.
    pub(super) fn step() -> bool {
        if DEAD.try_with(Cell::get).unwrap_or(true) {
            return false;
        }
        match LIFE.with(Cell::get) {
            None => true,
            Some(0) => die(),
            Some(left) => {
                LIFE.with(|life| life.set(Some(left - 1)));
                true
            }
        }
    }

    fn die() -> bool {
        let id = my_id();
        DEAD.with(|dead| dead.set(true));
        let (kernel, bell) = &*KERNEL;
        kernel.lock().unwrap().dead.push(id);
        // Whoever sleeps finds its slice at an end and looks around.
        bell.notify_all();
        resume_unwind(Box::new(Died))
    }

    /// Runs `f` in a thread that dies at its `life`-th operation; None when it did. Must be the last thing its thread does.
    pub fn mortal<R>(life: u32, f: impl FnOnce() -> R) -> Option<R> {
        my_id();
        LIFE.with(|left| left.set(Some(life)));
        let result = catch_unwind(AssertUnwindSafe(f));
        LIFE.with(|left| left.set(None));
        match result {
            Ok(value) => Some(value),
            Err(death) if death.is::<Died>() => None,
            Err(panic) => resume_unwind(panic),
        }
    }

    pub(super) fn is_dead(id: u32) -> bool {
        KERNEL.0.lock().unwrap().dead.contains(&id)
    }

    pub(super) fn sleep(word: usize, still: impl FnOnce() -> bool) -> Nap {
        let (kernel, bell) = &*KERNEL;
        let mut now = kernel.lock().unwrap();
        if !still() {
            return Nap::Changed;
        }
        let ticket = now.tickets;
        now.tickets += 1;
        let deaths = now.dead.len();
        now.sleepers.push((word, ticket, false));
        loop {
            let at = now.sleepers.iter().position(|sleeper| sleeper.1 == ticket).unwrap();
            if now.sleepers[at].2 {
                now.sleepers.remove(at);
                return Nap::Woken;
            }
            if now.dead.len() > deaths {
                now.sleepers.remove(at);
                return Nap::TimedOut;
            }
            now = bell.wait(now).unwrap();
        }
    }

    pub(super) fn wake(word: usize, n: u32) -> usize {
        let (kernel, bell) = &*KERNEL;
        let mut now = kernel.lock().unwrap();
        let here = now.sleepers.iter_mut().filter(|sleeper| sleeper.0 == word && !sleeper.2).take(n as usize);
        let woken = here.map(|sleeper| sleeper.2 = true).count();
        drop(now);
        bell.notify_all();
        woken
    }
}

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
