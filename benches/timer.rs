//! The timer beside what a single process would keep its timers in (a `BTreeMap` in memory of its own, under a `Mutex`, with the clock read as
//! often), and how late timers fire.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use commons::{Timer, TimerId};

mod harness;

use harness::floors::{self, Random};
use harness::{Bar, Suite, Work, kernel};

/// Bytes that the kernel hands out at once.
const PAGE: usize = 4096;
/// How many timers are added and cleared.
const TIMERS: usize = 100_000;

/// Rounds of ours and the peer; odd, so that the median is one of them.
const ROUNDS: usize = 15;

fn main() -> ExitCode {
    let mut suite = Suite::new("timer");
    let timers = if suite.is_timed() { TIMERS } else { 100 };
    if suite.is_timed() {
        whole_heaps(&mut suite, timers);
        after_a_death(timers);
        lateness(&mut suite);
    }
    one_by_one(&mut suite, timers);
    let bytes = Timer::memory_for(2 * TIMERS) - Timer::memory_for(TIMERS);
    suite.figure("bytes a timer", bytes as f64 / TIMERS as f64, Bar::Cost(80.0));
    suite.run()
}

/// Delays of one to a hundred seconds, the same in every run.
fn delays(timers: usize) -> Vec<Duration> {
    let mut random = Random::new();
    (0..timers).map(|_| Duration::from_nanos(1_000_000_000 + random.below(99_000_000_000) as u64)).collect()
}

/// What one process would do.
#[derive(Default)]
struct Peer {
    map: Mutex<BTreeMap<(u64, u64), u64>>,
    made: Cell<u64>,
    begun: Option<Instant>,
}

impl Peer {
    fn new() -> Peer {
        Peer { begun: Some(Instant::now()), ..Peer::default() }
    }
    fn after(&self, delay: Duration, payload: u64) -> (u64, u64) {
        let due = self.begun.map_or(0, |begun| begun.elapsed().as_nanos() as u64) + delay.as_nanos() as u64;
        self.made.set(self.made.get() + 1);
        let id = (due, self.made.get());
        self.map.lock().expect("nobody panics").insert(id, payload);
        id
    }
    fn clear(&self, id: (u64, u64)) -> bool {
        self.map.lock().expect("nobody panics").remove(&id).is_some()
    }
}

/// Milliseconds to add all, and to clear all.
fn cycle<Id: Copy>(delays: &[Duration], add: impl Fn(Duration, u64) -> Id, clear: impl Fn(Id) -> bool) -> [f64; 2] {
    let mut ids = Vec::with_capacity(delays.len());
    let begun = Instant::now();
    ids.extend(delays.iter().zip(0..).map(|(delay, payload)| add(*delay, payload)));
    let added = begun.elapsed();
    let begun = Instant::now();
    let cleared = ids.iter().filter(|id| black_box(clear(**id))).count();
    let ended = begun.elapsed();
    assert_eq!(cleared, delays.len());
    [added, ended].map(|time| time.as_secs_f64() * 1e3)
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// Adding 100 000 with random deadlines and clearing them: in memory never used before, and in memory used before.
fn whole_heaps(suite: &mut Suite, timers: usize) {
    const NAMES: [[&str; 2]; 2] = [
        ["add 100 000, fresh memory, ms", "clear 100 000, fresh memory, ms"],
        ["add 100 000, used memory, ms", "clear 100 000, used memory, ms"],
    ];
    if !NAMES.iter().flatten().any(|name| suite.wants(name)) {
        return;
    }
    let (delays, mut pages) = (delays(timers), Vec::new());
    let rounds: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let timer = Timer::new(timers).expect("a timer");
            let ours = || {
                cycle(
                    &delays,
                    |delay, n| timer.after(delay, n).expect("room"),
                    |id: TimerId| timer.clear(id).expect("a seat"),
                )
            };
            let peer = Peer::new();
            let theirs = || cycle(&delays, |delay, n| peer.after(delay, n), |id| peer.clear(id));
            pages.push(fresh_pages(Timer::memory_for(timers)));
            [[ours(), theirs()], [ours(), theirs()]]
        })
        .collect();
    println!("{:<40} {:>9} {:<22} {:>9} ratio", "the whole of it, once", "ms", "  BTreeMap in a Mutex", "ms");
    for (which, names) in NAMES.iter().enumerate() {
        for (half, name) in names.iter().enumerate() {
            let all = |whose: usize| sorted(rounds.iter().map(|round| round[which][whose][half]));
            let of = |whose: usize| all(whose)[ROUNDS / 2];
            let ratios = sorted(rounds.iter().map(|round| round[which][0][half] / round[which][1][half]));
            let (least, median, most) = (ratios[0], ratios[ROUNDS / 2], ratios[ROUNDS - 1]);
            let quiet = all(0)[0];
            println!(
                "{name:<40} {:>9.2} {:>32.2} {median:>5.2} [{least:.2} .. {most:.2}]; least {quiet:.2} ms",
                of(0),
                of(1)
            );
            suite.figure(name, of(0), Bar::Cost(12.0)); // bars.md
        }
    }
    let pages = sorted(pages.into_iter());
    println!("the kernel's share of fresh memory: {:.2} ms [{:.2} ..]", pages[ROUNDS / 2], pages[0]);
}

/// Milliseconds in which the kernel hands out so many bytes of fresh shared memory, page by page as they are touched.
fn fresh_pages(bytes: usize) -> f64 {
    let words = kernel::shared_words(bytes / size_of::<u64>());
    let begun = Instant::now();
    // Relaxed: nobody else looks.
    words.iter().step_by(PAGE / size_of::<u64>()).for_each(|word| word.store(1, Ordering::Relaxed));
    begun.elapsed().as_secs_f64() * 1e3
}

/// What the next owner of the lock does when the last one died in the middle of a change.
fn after_a_death(timers: usize) {
    let timer = Timer::new(timers).expect("a timer");
    delays(timers).iter().for_each(|delay| _ = timer.after(*delay, 0).expect("room"));
    let times = sorted((1..=ROUNDS as u64).map(|noise| {
        timer.perish(noise).expect("a seat");
        let begun = Instant::now();
        assert_eq!(timer.stats().expect("a seat").live, timers);
        begun.elapsed().as_secs_f64() * 1e3
    }));
    println!("built anew after a death, 100 000 live: {:.2} ms [{:.2} ..]", times[ROUNDS / 2], times[0]);
}

/// One operation at a time, in a heap that is half full.
fn one_by_one(suite: &mut Suite, timers: usize) {
    let delays = delays(timers);
    let timer = Timer::new(timers).expect("a timer");
    let peer = Peer::new();
    let (half, _) = delays.split_at(timers / 2);
    half.iter().for_each(|delay| {
        timer.after(*delay, 0).expect("room");
        peer.after(*delay, 0);
    });
    let churn = |work: Box<dyn Fn(Duration)>| {
        let (delays, at) = (delays.clone(), Cell::new(0));
        move |n: u64| {
            for _ in 0..n {
                at.set((at.get() + 1) % delays.len());
                work(delays[at.get()]);
            }
        }
    };
    let its = timer.clone();
    let ours = churn(Box::new(move |delay| {
        let id = its.after(delay, 1).expect("room");
        black_box(its.clear(id).expect("a seat"));
    }));
    let theirs = churn(Box::new(move |delay| {
        let id = peer.after(delay, 1);
        black_box(peer.clear(id));
    }));
    let peer = Work::alone("BTreeMap in a Mutex", theirs);
    suite.pair(Work::alone("after, clear, 50 000 live", ours), peer, Bar::Shown);
    let (its, id) = (timer.clone(), timer.after(delays[0], 1).expect("room"));
    let look = Work::alone("info", move |n| (0..n).for_each(|_| _ = black_box(its.info(black_box(id)))));
    suite.pair(look, floors::load(), Bar::Shown);
    let next = Work::alone("next_due", move |n| (0..n).for_each(|_| _ = black_box(timer.next_due())));
    let clock = Work::alone("the clock", |n| (0..n).for_each(|_| _ = black_box(harness::kernel::now())));
    suite.pair(next, clock, Bar::Shown);
}

/// How late timers fire, of which one is due every half a millisecond on average.
fn lateness(suite: &mut Suite) {
    let blocking = "lateness of run_for, p99, ms";
    let awaited = "lateness of run, p99, ms";
    if suite.wants(blocking) {
        let p99 = told("run_for", |timer, late| {
            timer.run_for(Duration::from_millis(1100), |_, due| late(due)).expect("a seat");
        });
        suite.figure(blocking, p99, Bar::Cost(2.0)); // the issue
    }
    #[cfg(feature = "tokio")]
    if suite.wants(awaited) {
        let p99 = told("run, in tokio", |timer, late| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let all = timer.run(|_, due| late(due));
                let _ = tokio::time::timeout(Duration::from_millis(1100), all).await;
            });
        });
        suite.figure(awaited, p99, Bar::Cost(2.0)); // the issue
    }
    let _ = awaited;
}

/// Lets 2000 timers fire within a second; prints how late, and returns the 99th percentile in milliseconds.
fn told(name: &str, drive: impl FnOnce(&Timer, &mut dyn FnMut(u64))) -> f64 {
    const FIRED: usize = 2000;
    let (timer, mut random, mut late) = (Timer::new(FIRED).expect("a timer"), Random::new(), Vec::new());
    for _ in 0..FIRED {
        let delay = 1_000_000 + random.below(1_000_000_000) as u64;
        // What it carries is when it is due; the clock is read a little earlier than `after` reads it.
        timer.after(Duration::from_nanos(delay), harness::kernel::now() + delay).expect("room");
    }
    drive(&timer, &mut |due| late.push((harness::kernel::now() - due) as f64 / 1e6));
    assert_eq!(late.len(), FIRED);
    let late = sorted(late.into_iter());
    let (p50, p99) = (late[FIRED / 2], late[FIRED * 99 / 100]);
    println!("{name}: lateness in ms: p50 {p50:.3}, p99 {p99:.3}, worst {:.3}", late[FIRED - 1]);
    p99
}
