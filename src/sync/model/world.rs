//! The modelled kernel, and what a model needs to let threads die.

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
    spins: u32,
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
        spins: 0,
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
    kernel().spins = 0;
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

/// From now on, in this execution, whoever waits looks so often before it sleeps.
pub fn looks(spins: u32) {
    kernel().spins = spins;
}

pub(super) fn spins() -> u32 {
    kernel().spins
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
