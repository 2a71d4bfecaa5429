//! The very first use of the crate in a process, by several threads at once and with forks in between: a fresh process a round.
//! libtest runs this file's other test in threads of its own, so the round runs in a copy of this binary.

#![allow(clippy::disallowed_types, reason = "a flag between threads of one process")]

mod common;

use std::process::Command;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use common::{in_child, skipped, until};
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use commons::{Atomic, Channel, Counter, Lock, Region, RwLock, Semaphore};

const ROUND: &str = "COMMONS_FIRST_ROUND";

#[test]
fn threads_that_race_for_the_first_structure_all_get_theirs() {
    for round in ["structures", "forks"] {
        for _ in 0..25 {
            self::round(round);
        }
    }
}

#[test]
fn whether_there_are_several_cores_is_found_out_before_a_fork() {
    if std::thread::available_parallelism().is_ok_and(|n| n.get() == 1) {
        return skipped("there is one core");
    }
    round("cores");
}

fn round(which: &str) {
    let mut copy = Command::new(std::env::current_exe().unwrap());
    copy.args(["--exact", "one_round", "--nocapture", "--test-threads=1"]).env(ROUND, which);
    let done = copy.output().unwrap();
    assert!(done.status.success(), "{which}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn one_round() {
    match std::env::var(ROUND).as_deref() {
        Ok("structures") => structures(),
        Ok("forks") => forks(),
        Ok("cores") => cores(),
        _ => {}
    }
}

/// Eight threads make and use a structure each as the process's first.
fn structures() {
    let gun = Barrier::new(8);
    std::thread::scope(|scope| {
        for i in 0..8 {
            let gun = &gun;
            scope.spawn(move || {
                gun.wait();
                match i % 5 {
                    0 => drop(Lock::new().unwrap().lock().unwrap()),
                    1 => drop(RwLock::new().unwrap().read().unwrap()),
                    2 => Semaphore::new(1).unwrap().acquire().unwrap(),
                    3 => assert_eq!(Atomic::new(4).unwrap().add(1), 5),
                    _ => Counter::new().unwrap().add(1),
                }
                Region::new("mine", 4096).unwrap();
            });
        }
    });
    // All of them are participants of one registry: one thread's lock keeps another one out.
    let lock = Lock::new().unwrap();
    let guard = lock.lock().unwrap();
    std::thread::scope(|scope| scope.spawn(|| assert!(lock.try_lock().unwrap().is_none())).join().unwrap());
    drop(guard);
}

/// Weakness T19: foreign code forks while other threads are in the middle of making structures. The child goes on.
fn forks() {
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let lock = Lock::new().unwrap();
                    let _guard = lock.lock().unwrap();
                    drop(Region::new("short", 100).unwrap());
                    Atomic::new(1).unwrap();
                }
            });
        }
        // Also when this test fails: its threads end.
        let _stop = Stop(&stop);
        for _ in 0..20 {
            let child = in_child(|| {
                for _ in 0..20 {
                    let (lock, n) = (Lock::new().unwrap(), Atomic::new(3).unwrap());
                    let guard = lock.lock().unwrap();
                    assert!(n.wait(None) && !guard.recovered());
                }
            });
            until("the child is through", || child.is_zombie());
            child.join();
        }
    });
}

/// A worker that keeps itself on one core still looks before it sleeps: the one it waits for has another. Seen by the time: its first waits in
/// vain look some hundred times each, until it has learned that they are in vain.
fn cores() {
    let channel = Channel::new(64).unwrap();
    in_child(|| {
        let (one, none) = (Duration::ZERO, Err(Duration::ZERO));
        let mut core = CpuSet::new();
        core.set(sched_getcpu());
        sched_setaffinity(None, &core).unwrap();
        assert_eq!(std::thread::available_parallelism().unwrap().get(), 1);
        let wait = || {
            let start = Instant::now();
            let waited = channel.pop_timeout(one).map_err(|_| Duration::ZERO);
            assert_eq!(waited, none);
            start.elapsed()
        };
        // The very first makes what a thread makes once.
        wait();
        let looking = (0..6).map(|_| wait()).min().unwrap();
        let at_once = (0..50).map(|_| wait()).min().unwrap();
        assert!(looking > at_once * 2, "{looking:?} and {at_once:?}: it does not look before it sleeps");
    })
    .join();
}

struct Stop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
