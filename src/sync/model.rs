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
    /// Time stands still.
    pub(crate) fn now() -> u64 {
        0
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

/// The modelled kernel, and what a model needs to let threads die.
pub mod world {
    use std::cell::{Cell, RefCell};
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::atomic::Ordering;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use loom::sync::atomic::AtomicU64;

    use crate::sys::futex::Nap;

    struct Sleeper {
        word: usize,
        ticket: usize,
        thread: loom::thread::Thread,
        woken: bool,
    }

    /// As many threads as loom has, and no id 0.
    const IDS: usize = 6;

    /// Plain memory: modelled threads take turns, and change it only between two operations.
    struct Kernel {
        ids: u32,
        tickets: usize,
        sleepers: Vec<Sleeper>,
        mortals: Vec<u32>,
        deaths: usize,
        perished: usize,
        endless: bool,
    }

    loom::lazy_static! {
        static ref KERNEL: Mutex<Kernel> = Mutex::new(Kernel {
            ids: 0,
            tickets: 0,
            sleepers: Vec::new(),
            mortals: Vec::new(),
            deaths: 0,
            perished: 0,
            endless: false,
        });
        /// By id: 1 once it is dead.
        static ref GRAVES: [AtomicU64; IDS] = std::array::from_fn(|_| AtomicU64::new(0));
    }

    loom::thread_local! {
        static ID: Cell<u32> = Cell::new(0);
        /// Operations left to this thread.
        static LIFE: Cell<u32> = Cell::new(FOR_EVER);
        static AFTER_WAKING: Cell<Option<u32>> = Cell::new(None);
        /// By word: how many deaths this thread's slices have ended for.
        static TOLD: RefCell<Vec<(usize, usize)>> = RefCell::new(Vec::new());
    }

    const FOR_EVER: u32 = u32::MAX;
    const DEAD: u32 = u32::MAX - 1;

    struct Died;

    fn kernel() -> MutexGuard<'static, Kernel> {
        KERNEL.lock().unwrap_or_else(PoisonError::into_inner)
    }

    thread_local! {
        /// What has happened in this execution, if anybody wants to know.
        static TRACE: RefCell<Option<Vec<String>>> =
            RefCell::new(std::env::var_os("COMMONS_LOOM_TRACE").map(|_| Vec::new()));
    }

    pub(super) fn trace(line: impl FnOnce() -> String) {
        TRACE.with_borrow_mut(|trace| {
            if let Some(trace) = trace {
                let id = my_id();
                trace.push(format!("{id}: {}", line()));
            }
        });
    }

    /// Every operation of the last execution, in order, if COMMONS_LOOM_TRACE is set.
    pub fn last_trace() -> Vec<String> {
        TRACE.with_borrow(|trace| trace.clone().unwrap_or_default())
    }

    thread_local! {
        static MEETINGS: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn meetings() -> bool {
        MEETINGS.get()
    }

    /// To be called first in every execution: whether words are to have meetings, see the head of this file.
    pub fn begin(meetings: bool) {
        MEETINGS.set(meetings);
        // The statics are made here, before anybody can meet there.
        kernel().endless = false;
        let _ = &*GRAVES;
        TRACE.with_borrow_mut(|trace| trace.iter_mut().for_each(Vec::clear));
    }

    /// The calling thread's id; what stands for its pid.
    pub fn my_id() -> u32 {
        ID.with(|id| {
            if id.get() == 0 {
                let mut kernel = kernel();
                kernel.ids += 1;
                id.set(kernel.ids);
            }
            id.get()
        })
    }

    /// A point at which a mortal thread may die, in what a model does by itself.
    pub fn breathe() {
        step();
    }

    /// How many have died so far in this execution because their life was over ([`perish`] does not count).
    pub fn came_of_age() -> usize {
        let kernel = kernel();
        kernel.deaths - kernel.perished
    }

    /// How many have died so far in this execution.
    pub fn deaths() -> usize {
        kernel().deaths
    }

    /// The calling thread, a mortal one, has `delay` operations to live after it has slept and been woken.
    pub fn dies_after_waking(delay: u32) {
        AFTER_WAKING.with(|after| after.set(Some(delay)));
    }

    /// How many sleep.
    pub fn asleep() -> usize {
        kernel().sleepers.len()
    }

    /// From now on, in this execution, no slice ends: whoever must be woken must be woken.
    pub fn endless_slices() {
        kernel().endless = true;
    }

    /// The end of a mortal thread, here and now.
    pub fn perish() {
        kernel().perished += 1;
        LIFE.with(|life| life.set(0));
        step();
    }

    /// Before every operation: false when the thread is dead and the operation must have no effect; dies here when its time has come.
    pub(super) fn step() -> bool {
        // A model that has failed is over; what its destructors do would only hide why.
        if std::thread::panicking() {
            return false;
        }
        // A thread that has lost its thread-locals has ended.
        let life = LIFE.try_with(|life| {
            let left = life.get();
            if left < DEAD {
                life.set(left.wrapping_sub(1));
            }
            left
        });
        match life {
            Ok(0) => die(),
            Ok(DEAD) | Err(_) => false,
            Ok(_) => true,
        }
    }

    fn die() -> bool {
        let id = my_id();
        // Release: who finds it dead sees all that it did.
        GRAVES[id as usize].store(1, Ordering::Release);
        trace(|| "dies".into());
        LIFE.with(|life| life.set(DEAD));
        let mut kernel = kernel();
        kernel.deaths += 1;
        // Whoever sleeps finds its slice at an end and looks around.
        kernel.sleepers.iter().for_each(|sleeper| sleeper.thread.unpark());
        drop(kernel);
        resume_unwind(Box::new(Died))
    }

    /// Runs `f` in a thread that dies at its `life`-th operation; None when it did. Must be the last thing its thread does.
    pub fn mortal<R>(life: u32, f: impl FnOnce() -> R) -> Option<R> {
        let id = my_id();
        kernel().mortals.push(id);
        LIFE.with(|left| left.set(life.min(DEAD - 1)));
        let result = catch_unwind(AssertUnwindSafe(f));
        if result.is_ok() {
            LIFE.with(|left| left.set(FOR_EVER));
        }
        match result {
            Ok(value) => Some(value),
            Err(death) if death.is::<Died>() => None,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Immortals cost no operation, so that they cost no interleavings either.
    pub(super) fn is_dead(id: u32) -> bool {
        let mortal = kernel().mortals.contains(&id);
        // Acquire: pairs with the Release in `die`.
        mortal && step() && GRAVES[id as usize].load(Ordering::Acquire) == 1
    }

    /// Whether somebody has died since the last slice of this thread on this word.
    fn is_news(word: usize, deaths: usize) -> bool {
        TOLD.with(|told| {
            let mut told = told.borrow_mut();
            let before = told.iter().filter(|(at, _)| *at == word).map(|(_, deaths)| *deaths).max().unwrap_or(0);
            if deaths > before {
                told.push((word, deaths));
            }
            deaths > before
        })
    }

    pub(super) fn sleep(word: usize) -> Nap {
        let ticket = {
            let mut kernel = kernel();
            kernel.tickets += 1;
            let ticket = kernel.tickets;
            kernel.sleepers.push(Sleeper { word, ticket, thread: loom::thread::current(), woken: false });
            ticket
        };
        loop {
            let mut kernel = kernel();
            let (deaths, at) = (kernel.deaths, kernel.sleepers.iter().position(|sleeper| sleeper.ticket == ticket));
            let at = at.unwrap_or_else(|| unreachable!("only the sleeper itself goes"));
            if kernel.sleepers[at].woken {
                kernel.sleepers.remove(at);
                if let Some(delay) = AFTER_WAKING.with(Cell::take) {
                    LIFE.with(|life| life.set(delay));
                }
                return Nap::Woken;
            }
            if !kernel.endless && is_news(word, deaths) {
                kernel.sleepers.remove(at);
                let mortals = kernel.mortals.clone();
                drop(kernel);
                // A slice is an eternity: from now on this thread sees who is dead, and what they did. A slice that ended for nothing would not
                // end again.
                for id in mortals {
                    let _ = GRAVES[id as usize].compare_exchange(1, 1, Ordering::Acquire, Ordering::Acquire);
                }
                return Nap::TimedOut;
            }
            drop(kernel);
            loom::thread::park();
        }
    }

    pub(super) fn wake(word: usize, n: u32) -> usize {
        let mut kernel = kernel();
        let here = kernel.sleepers.iter_mut().filter(|sleeper| sleeper.word == word && !sleeper.woken);
        let mut woken = 0;
        for sleeper in here.take(n as usize) {
            sleeper.woken = true;
            sleeper.thread.unpark();
            woken += 1;
        }
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
