//! The locks beside one compare-exchange, and beside the bare futex where they sleep. For what others' locks cost, see `peers`.

use std::process::ExitCode;

use commons::{Atomic, Barrier, Lock, RwLock, Semaphore};

mod harness;

use harness::{Bar, Suite, Work, floors};

fn main() -> ExitCode {
    let mut suite = Suite::new("lock");
    uncontended(&mut suite);
    contended(&mut suite);
    suite.run()
}

fn uncontended(suite: &mut Suite) {
    let lock = Lock::new().expect("a lock");
    let work = Work::alone("Lock::lock, drop", move |n| {
        for _ in 0..n {
            drop(lock.lock().expect("the lock"));
        }
    });
    suite.pair(work, floors::cas(), Bar::Cost(3.0)); // bars.md

    let lock = Lock::new().expect("a lock");
    let work = Work::alone("Lock::try_lock, drop", move |n| {
        for _ in 0..n {
            drop(lock.try_lock().expect("the lock"));
        }
    });
    suite.pair(work, floors::cas(), Bar::Shown);

    let lock = RwLock::new().expect("a lock");
    let work = Work::alone("RwLock::read, drop", move |n| {
        for _ in 0..n {
            drop(lock.read().expect("the lock"));
        }
    });
    suite.pair(work, floors::cas(), Bar::Shown);

    let lock = RwLock::new().expect("a lock");
    let work = Work::alone("RwLock::write, drop", move |n| {
        for _ in 0..n {
            drop(lock.write().expect("the lock"));
        }
    });
    suite.pair(work, floors::cas(), Bar::Shown);

    let seats = Semaphore::new(2).expect("a semaphore");
    let work = Work::alone("Semaphore::acquire, release", move |n| {
        for _ in 0..n {
            seats.acquire().expect("a permit");
            seats.release().expect("its end");
        }
    });
    suite.pair(work, floors::cas(), Bar::Shown);
}

fn contended(suite: &mut Suite) {
    let (lock, sum) = (Lock::new().expect("a lock"), Atomic::new(0).expect("an atomic"));
    let work = Work::together("Lock::lock, drop, 2 p. at one lock", 2, move |_, n| {
        for _ in 0..n {
            let _guard = lock.lock().expect("the lock");
            sum.set(sum.get().wrapping_add(1));
        }
    });
    suite.pair(work.operations(2), floors::line_ping_pong(), Bar::Shown);

    let lock = RwLock::new().expect("a lock");
    let work = Work::together("RwLock::read, drop, 2 p. at one lock", 2, move |_, n| {
        for _ in 0..n {
            drop(lock.read().expect("the lock"));
        }
    });
    suite.pair(work.operations(2), floors::cas(), Bar::Shown);

    let seats = Semaphore::new(1).expect("a semaphore");
    let work = Work::together("Semaphore, 2 p. for one permit", 2, move |_, n| {
        for _ in 0..n {
            seats.acquire().expect("a permit");
            seats.release().expect("its end");
        }
    });
    suite.pair(work.operations(2), floors::futex_ping_pong(), Bar::Shown);

    let barrier = Barrier::new(2).expect("a barrier");
    let work = Work::together("Barrier::wait, 2 p.", 2, move |_, n| {
        for _ in 0..n {
            barrier.wait().expect("the other");
        }
    });
    suite.pair(work, floors::futex_ping_pong(), Bar::Shown);
}
