//! Misuse is a clear error: what is wrong, the value, the limit. Never a hang, never a panic.

mod common;

use std::time::Duration;

use common::in_child;
use commons::{Atomic, Barrier, Error, Lock, RwLock, Semaphore};

/// A macro, for the guards differ in type: each way of asking again is refused, and what is held stays held.
macro_rules! would_deadlock {
    ($what:literal: $($call:expr),* $(,)?) => {
        $(
            let told = $call.err().expect(stringify!($call));
            assert!(matches!(told, Error::WouldDeadlock { what: $what }), "{}: {told}", stringify!($call));
            assert_eq!(told.to_string(), concat!("would deadlock: this thread already holds this ", $what));
        )*
    };
}

#[test]
fn locking_again_in_one_thread_would_deadlock() {
    let lock = Lock::new().unwrap();
    let copy = lock.clone();
    let guard = lock.lock().unwrap();
    let soon = Duration::from_millis(5);
    would_deadlock!("lock": lock.lock(), copy.lock(), lock.try_lock(), copy.lock_timeout(soon), lock.lock_timeout(Duration::MAX));
    in_child(|| assert!(lock.try_lock().unwrap().is_none(), "the first still counts")).join();
    drop(guard);
    in_child(|| assert!(lock.try_lock().unwrap().is_some())).join();
    assert!(!lock.lock().unwrap().recovered());
}

#[test]
fn all_four_ways_of_taking_a_read_write_lock_twice_would_deadlock() {
    let rw = RwLock::new().unwrap();
    let soon = Duration::from_millis(5);
    for write in [false, true] {
        let held = if write { (None, Some(rw.write().unwrap())) } else { (Some(rw.read().unwrap()), None) };
        would_deadlock!("read-write lock":
            rw.read(), rw.try_read(), rw.read_timeout(soon), rw.write(), rw.try_write(), rw.write_timeout(soon));
        in_child(|| assert!(rw.try_write().unwrap().is_none() && rw.try_read().unwrap().is_none() == write)).join();
        drop(held);
        in_child(|| assert!(rw.try_write().unwrap().is_some())).join();
    }
}

#[test]
fn a_permit_that_nobody_here_holds_is_not_released() {
    let seats = Semaphore::new(2).unwrap();
    let not_held = |told: Option<Error>| {
        let told = told.expect("an error");
        assert!(matches!(told, Error::NotHeld { what: "semaphore" }));
        assert_eq!(told.to_string(), "this process holds no permit of this semaphore");
    };
    not_held(seats.release().err());
    seats.acquire().unwrap();
    in_child(|| not_held(seats.release().err())).join();
    assert_eq!(seats.available(), 1);
    // A thread of the same process may: the permit is handed from one to the other.
    std::thread::scope(|scope| scope.spawn(|| seats.release().unwrap()).join().unwrap());
    not_held(seats.release().err());
    assert_eq!(seats.available(), 2, "never more than there are");
    in_child(|| assert!(seats.try_acquire().unwrap() && seats.try_acquire().unwrap() && !seats.try_acquire().unwrap()))
        .join();
}

#[test]
fn a_permit_handed_to_a_sibling_is_counted_once() {
    let seats = Semaphore::new(3).unwrap();
    for _ in 0..200 {
        // More kinds than a ledger has entries pass through it: entries that a sibling emptied are used again.
        let other = Semaphore::new(1).unwrap();
        other.acquire().unwrap();
        seats.acquire().unwrap();
        std::thread::scope(|scope| {
            let sibling = scope.spawn(|| {
                other.release().unwrap();
                seats.release().unwrap();
            });
            sibling.join().unwrap();
        });
        assert_eq!((seats.available(), other.available()), (3, 1));
    }
}

#[test]
fn numbers_out_of_range() {
    let told = Semaphore::new(0).unwrap_err();
    assert!(matches!(told, Error::OutOfRange { value: 0, min: 1, max: 4_294_967_295, .. }));
    assert_eq!(told.to_string(), "the number of permits is 0, allowed are 1..=4294967295");
    for n in [0, 4096, u32::MAX] {
        let told = Barrier::new(n).unwrap_err();
        assert!(matches!(told, Error::OutOfRange { min: 1, max: 4095, .. }));
        assert_eq!(told.to_string(), format!("the number of threads at a barrier is {n}, allowed are 1..=4095"));
    }
    let most = Semaphore::new(Semaphore::MAX_PERMITS).unwrap();
    most.acquire().unwrap();
    assert_eq!(most.available(), u32::MAX - 1);
    most.release().unwrap();
    assert!(Barrier::new(4095).is_ok());
}

#[test]
fn a_timeout_of_nothing_is_one_look() {
    let (lock, rw, seat) = (Lock::new().unwrap(), RwLock::new().unwrap(), Semaphore::new(1).unwrap());
    let (barrier, zero) = (Barrier::new(2).unwrap(), Duration::ZERO);
    drop((lock.lock_timeout(zero).unwrap(), rw.read_timeout(zero).unwrap()));
    drop(rw.write_timeout(zero).unwrap());
    seat.acquire_timeout(zero).unwrap();
    let _held = (lock.lock().unwrap(), rw.write().unwrap());
    in_child(|| {
        let told = lock.lock_timeout(zero).unwrap_err();
        assert!(matches!(told, Error::Timeout { after: Duration::ZERO }));
        assert_eq!(told.to_string(), "timed out after 0ns");
        assert!(matches!(rw.read_timeout(zero), Err(Error::Timeout { .. })));
        assert!(matches!(rw.write_timeout(zero), Err(Error::Timeout { .. })));
        assert!(matches!(seat.acquire_timeout(zero), Err(Error::Timeout { .. })));
        assert!(matches!(barrier.wait_timeout(zero), Err(Error::Timeout { .. })));
    })
    .join();
}

/// Longer than the clock goes: for ever, not an overflow that ends at once.
#[test]
fn the_longest_timeout_is_for_ever() {
    let (lock, rw, seat) = (Lock::new().unwrap(), RwLock::new().unwrap(), Semaphore::new(1).unwrap());
    let (barrier, done) = (Barrier::new(2).unwrap(), Atomic::new(0).unwrap());
    let guards = (lock.lock().unwrap(), rw.write().unwrap());
    seat.acquire().unwrap();
    for long in [Duration::MAX, Duration::from_secs(u64::MAX / 1_000_000_000), Duration::from_secs(1 << 40)] {
        let children = [
            in_child(|| drop(lock.lock_timeout(long).unwrap())),
            in_child(|| drop(rw.read_timeout(long).unwrap())),
            in_child(|| drop(rw.write_timeout(long).unwrap())),
            in_child(|| seat.acquire_timeout(long).unwrap()),
            in_child(|| assert!(barrier.wait_timeout(long).is_ok())),
            in_child(|| assert!(done.wait(Some(long)))),
        ];
        children.iter().for_each(|child| child.until_asleep());
        std::thread::sleep(Duration::from_millis(30));
        assert!(children.iter().all(|child| !child.is_zombie()), "they wait on");
    }
    drop(guards);
}

/// Those that the structures alone cannot meet yet.
#[test]
fn every_error_says_what_and_how_much() {
    let texts = [
        (
            Error::AfterFork { what: "a lock" },
            "a lock made in a forked worker would be shared with nobody: make it before the fork",
        ),
        (
            Error::WrongProcess { call: "reload", expected: "manager", pid: 7 },
            "reload belongs to the manager, and the caller (pid 7) is not it",
        ),
        (
            Error::Threads { call: "start", threads: 3 },
            "start forks, and this process already has 3 threads: start it before any thread or runtime",
        ),
        (
            Error::StillAlive { pid: 9 },
            "process 9 is still alive: only a dead one (a zombie before it is reaped, or one gone) is recovered",
        ),
        (Error::Timeout { after: Duration::from_millis(250) }, "timed out after 250ms"),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
    }
}
