//! Threads that take their seats before the curtain rises, and what they play with.

// What counts executions is no part of the model.
#![allow(clippy::disallowed_types)]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Instant;

use commons::harness::{leave, sit, world};
use commons::recover;
use loom::cell::UnsafeCell;
use loom::thread::{Thread, current, park, spawn, yield_now};

/// What a model's executions have in common: outcomes that must have been seen at least once.
#[derive(Default)]
pub struct Tally([AtomicUsize; 8]);

impl Tally {
    /// One more execution in which `what` happened.
    pub fn count(&self, what: usize) {
        self.0[what].fetch_add(1, Ordering::Relaxed);
    }

    /// In how many executions it happened.
    pub fn seen(&self, what: usize) -> usize {
        self.0[what].load(Ordering::Relaxed)
    }
}

fn bound() -> usize {
    std::env::var("COMMONS_LOOM_BOUND").map_or(2, |bound| bound.parse().expect("COMMONS_LOOM_BOUND is a number"))
}

fn explore(play: Play, model: impl Fn() + Send + Sync + 'static) -> usize {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound());
    builder.max_branches = 20_000;
    // Nothing is explored until `Stage::begin`.
    builder.expect_explicit_explore = true;
    let executions = Arc::new(AtomicUsize::new(0));
    let count = executions.clone();
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            world::last_trace().iter().for_each(|line| eprintln!("  {line}"));
            usual(panic);
        }));
    });
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        world::begin(play.meetings);
        model();
    });
    executions.load(Ordering::Relaxed)
}

/// How a model is played.
#[derive(Clone, Copy)]
pub struct Play {
    name: &'static str,
    meetings: bool,
}

/// For two threads: no interleaving is forgotten.
pub fn duet(name: &'static str) -> Play {
    Play { name, meetings: true }
}

/// For more: without meetings, see the head of the crate's `sync/model.rs`.
pub fn crowd(name: &'static str) -> Play {
    Play { name, meetings: false }
}

impl Play {
    /// Plays `model` in every way.
    pub fn all(self, model: impl Fn(&Tally) + Send + Sync + 'static) -> Arc<Tally> {
        let start = Instant::now();
        let tally = Arc::new(Tally::default());
        let executions = explore(self, {
            let tally = tally.clone();
            move || model(&tally)
        });
        self.report(start, executions, String::new());
        tally
    }

    /// Plays `model(k, …)` in every way for k = 0, 1, 2 …, until nobody dies any more whose life is k operations long.
    pub fn each_death(self, model: impl Fn(u32, &Tally) + Send + Sync + 'static) -> Arc<Tally> {
        let start = Instant::now();
        let (model, tally) = (Arc::new(model), Arc::new(Tally::default()));
        let (mut executions, mut life) = (0, 0);
        loop {
            let deaths = Arc::new(AtomicUsize::new(0));
            executions += explore(self, {
                let (model, tally, deaths) = (model.clone(), tally.clone(), deaths.clone());
                move || {
                    model(life, &tally);
                    deaths.fetch_add(world::came_of_age(), Ordering::Relaxed);
                }
            });
            if deaths.load(Ordering::Relaxed) == 0 {
                break;
            }
            life += 1;
        }
        self.report(start, executions, format!("deaths at {life} operations, "));
        tally
    }

    /// Plays `model([i, k], …)` in every way for all i and k, until nobody dies any more whose life is i or k operations long; the model returns
    /// which of the two have died.
    pub fn each_two_deaths(self, model: impl Fn([u32; 2], &Tally) -> [bool; 2] + Send + Sync + 'static) -> Arc<Tally> {
        let start = Instant::now();
        let (model, tally) = (Arc::new(model), Arc::new(Tally::default()));
        let (mut executions, mut lives, mut longest) = (0, [0, 0], 0);
        loop {
            let deaths = Arc::new([const { AtomicUsize::new(0) }; 2]);
            executions += explore(self, {
                let (model, tally, deaths) = (model.clone(), tally.clone(), deaths.clone());
                move || {
                    for (deaths, died) in deaths.iter().zip(model(lives, &tally)) {
                        deaths.fetch_add(usize::from(died), Ordering::Relaxed);
                    }
                }
            });
            let died = |which: usize| deaths[which].load(Ordering::Relaxed) > 0;
            longest = longest.max(lives[1]);
            lives = match (died(0), died(1)) {
                (_, true) => [lives[0], lives[1] + 1],
                (true, false) => [lives[0] + 1, 0],
                (false, false) => break,
            };
        }
        self.report(start, executions, format!("deaths at {} and {longest} operations, ", lives[0]));
        tally
    }

    fn report(self, start: Instant, executions: usize, deaths: String) {
        let (name, bound, seconds) = (self.name, bound(), start.elapsed().as_secs_f32());
        println!("loom {name}: {executions} executions, {deaths}{seconds:.1} s, bound {bound}");
    }
}

/// The threads of one execution. What happens before [`Stage::begin`] happens in one way only.
pub struct Stage {
    main: Thread,
    seated: Rc<Cell<usize>>,
    open: Rc<Cell<bool>>,
    players: Vec<Thread>,
}

/// One thread's part, and what comes of it.
pub struct Part<T> {
    /// What stands for its pid.
    pub id: u32,
    outcome: Rc<RefCell<Option<T>>>,
}

impl Default for Stage {
    fn default() -> Self {
        Stage { main: current(), seated: Rc::default(), open: Rc::default(), players: Vec::new() }
    }
}

impl Stage {
    /// A thread that has its slot already.
    pub fn seated<T: 'static>(&mut self, part: impl FnOnce() -> T + 'static) -> Part<T> {
        self.enter(true, part)
    }

    /// A thread that claims its slot by what it does first.
    pub fn standing<T: 'static>(&mut self, part: impl FnOnce() -> T + 'static) -> Part<T> {
        self.enter(false, part)
    }

    /// A seated thread that dies at its `life`-th operation; None when it did.
    pub fn mortal<T: 'static>(&mut self, life: u32, part: impl FnOnce() -> T + 'static) -> Part<Option<T>> {
        self.enter(true, move || world::mortal(life, part))
    }

    /// A standing one.
    pub fn standing_mortal<T: 'static>(&mut self, life: u32, part: impl FnOnce() -> T + 'static) -> Part<Option<T>> {
        self.enter(false, move || world::mortal(life, part))
    }

    /// A seated thread that has begun already when the curtain rises: it is asleep by then, or through.
    pub fn asleep<T: 'static>(&mut self, part: impl FnOnce() -> T + 'static) -> Part<T> {
        let open = self.open.replace(true);
        let before = world::asleep();
        let part = self.enter(true, part);
        while world::asleep() == before && part.outcome.borrow().is_none() {
            yield_now();
        }
        self.open.set(open);
        part
    }

    /// The same of a mortal one, which may be dead by then.
    pub fn asleep_mortal<T: 'static>(&mut self, life: u32, part: impl FnOnce() -> T + 'static) -> Part<Option<T>> {
        self.asleep(move || world::mortal(life, part))
    }

    fn enter<T: 'static>(&mut self, seated: bool, part: impl FnOnce() -> T + 'static) -> Part<T> {
        let outcome = Rc::new(RefCell::new(None));
        let id = Rc::new(Cell::new(0));
        let (main, ready, open) = (self.main.clone(), self.seated.clone(), self.open.clone());
        let (its_outcome, its_id) = (outcome.clone(), id.clone());
        let thread = spawn(move || {
            its_id.set(world::my_id());
            if seated {
                sit().unwrap();
            }
            ready.set(ready.get() + 1);
            while !open.get() {
                park();
            }
            let result = part();
            *its_outcome.borrow_mut() = Some(result);
            main.unpark();
        });
        self.players.push(thread.thread().clone());
        while self.seated.get() < self.players.len() {
            yield_now();
        }
        Part { id: id.get(), outcome }
    }

    /// The curtain rises.
    pub fn begin(&self) {
        loom::explore();
        self.open.set(true);
        self.players.iter().for_each(Thread::unpark);
    }
}

impl<T> Part<T> {
    /// Whether the part is over.
    pub fn is_over(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    /// Waits for the end of the part; by then its thread has ended or died.
    pub fn join(&self) -> T {
        loop {
            if self.is_over() {
                return self.outcome.take().unwrap();
            }
            park();
        }
    }
}

impl<T> Part<Option<T>> {
    /// Joins a mortal part and, when it died, recovers what it left, as its manager would; at most one lock or the like.
    pub fn bury(&self) -> Option<T> {
        let outcome = self.join();
        if outcome.is_none() {
            assert!(recover(self.id).unwrap() <= 1);
        }
        outcome
    }
}

/// Two words that are equal whenever nobody is in the middle of changing them; loom fails the model when two threads come to
/// them at once, or one does not see what the last one did.
#[derive(Clone, Default)]
pub struct Data(Rc<(UnsafeCell<()>, Cell<u32>, Cell<u32>)>);

impl Data {
    /// Raises both words; a mortal thread may die before, in between, and after.
    pub fn raise(&self) {
        let (race, first, second) = &*self.0;
        world::breathe();
        race.with_mut(|_| first.set(first.get() + 1));
        world::breathe();
        race.with_mut(|_| second.set(second.get() + 1));
        world::breathe();
    }

    /// Raises one of the words alone: what is left of a change when its author dies in the middle.
    pub fn tear(&self) {
        let (race, first, _) = &*self.0;
        race.with_mut(|_| first.set(first.get() + 1));
    }

    /// Makes them equal again.
    pub fn repair(&self) {
        let (race, first, second) = &*self.0;
        race.with_mut(|_| second.set(first.get()));
    }

    /// Reads both.
    pub fn read(&self) -> (u32, u32) {
        let (race, first, second) = &*self.0;
        race.with(|_| (first.get(), second.get()))
    }

    /// Reads both, which must be equal.
    pub fn whole(&self) -> u32 {
        let (first, second) = self.read();
        assert_eq!(first, second, "torn");
        first
    }
}

/// Ends the calling thread's participation, as its end would.
pub fn go() {
    leave();
}
