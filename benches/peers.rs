//! Ours beside what others use for the same: the process-shared objects of libc, and the crates `raw_sync` and `atomic`.
//!
//! Of all of these only libc's robust mutex survives the death of its owner; `raw_sync`'s mutex, libc's read-write lock and its semaphore
//! are blocked by it for ever. The crate `shared_memory` maps a file and offers no operation to measure.

use std::hint::black_box;
use std::process::ExitCode;

use commons::{AtomicLong, Lock, RwLock, Semaphore};

mod harness;

use harness::kernel::shared;
use harness::{Bar, Suite, Work, posix};

fn main() -> ExitCode {
    let mut suite = Suite::new("peers");
    atomics(&mut suite);
    alone(&mut suite);
    together(&mut suite);
    suite.run()
}

fn atomics(suite: &mut Suite) {
    let ours = AtomicLong::new(0).expect("an atomic");
    let ours = Work::alone("AtomicLong::add", move |n| {
        for _ in 0..n {
            black_box(ours.add(1));
        }
    });
    let peer: &atomic::Atomic<i64> = Box::leak(Box::new(atomic::Atomic::new(0)));
    let peer = Work::alone("atomic::Atomic::fetch_add", move |n| {
        for _ in 0..n {
            black_box(peer.fetch_add(1, atomic::Ordering::AcqRel));
        }
    });
    suite.pair(ours, peer, Bar::Shown);
}

fn lock(name: &'static str) -> Work {
    let lock = Lock::new().expect("a lock");
    Work::alone(name, move |n| {
        for _ in 0..n {
            drop(lock.lock().expect("the lock"));
        }
    })
}

fn alone(suite: &mut Suite) {
    let mutex = posix::Mutex::new();
    let peer = Work::alone("pthread robust mutex", move |n| (0..n).for_each(|_| mutex.with(|| ())));
    suite.pair(lock("Lock::lock, drop"), peer, Bar::Shown);

    let mutex = posix::raw_sync_mutex();
    let peer = Work::alone("raw_sync mutex, not robust", move |n| {
        for _ in 0..n {
            drop(mutex.lock().expect("the mutex"));
        }
    });
    suite.pair(lock("Lock::lock, drop"), peer, Bar::Shown);

    let ours = RwLock::new().expect("a lock");
    let ours = Work::alone("RwLock::read, drop", move |n| {
        for _ in 0..n {
            drop(ours.read().expect("the lock"));
        }
    });
    let rwlock = posix::RwLock::new();
    let peer = Work::alone("pthread_rwlock_rdlock", move |n| (0..n).for_each(|_| rwlock.read(|| ())));
    suite.pair(ours, peer, Bar::Shown);

    let ours = RwLock::new().expect("a lock");
    let ours = Work::alone("RwLock::write, drop", move |n| {
        for _ in 0..n {
            drop(ours.write().expect("the lock"));
        }
    });
    let rwlock = posix::RwLock::new();
    let peer = Work::alone("pthread_rwlock_wrlock", move |n| (0..n).for_each(|_| rwlock.write(|| ())));
    suite.pair(ours, peer, Bar::Shown);

    let ours = Semaphore::new(2).expect("a semaphore");
    let ours = Work::alone("Semaphore::acquire, release", move |n| {
        for _ in 0..n {
            ours.acquire().expect("a permit");
            ours.release().expect("its end");
        }
    });
    let sem = posix::Semaphore::new(2);
    let peer = Work::alone("sem_wait, sem_post", move |n| {
        for _ in 0..n {
            sem.acquire();
            sem.release();
        }
    });
    suite.pair(ours, peer, Bar::Shown);
}

/// Under contention the peers' fairness differs as much as their cost: who lets the other process wait longest is the fastest. Each holder
/// raises a shared number, so that no lock is empty.
fn together(suite: &mut Suite) {
    let number = shared::<std::sync::atomic::AtomicU64>;
    let raise = |word: &std::sync::atomic::AtomicU64| {
        use std::sync::atomic::Ordering::Relaxed;
        word.store(word.load(Relaxed) + 1, Relaxed); // under the lock
    };

    let (ours, word) = (Lock::new().expect("a lock"), number());
    let ours = Work::together("Lock, 2 p. at one lock", 2, move |_, n| {
        for _ in 0..n {
            let _guard = ours.lock().expect("the lock");
            raise(word);
        }
    });
    let (mutex, word) = (posix::Mutex::new(), number());
    let peer = Work::together("pthread robust mutex", 2, move |_, n| (0..n).for_each(|_| mutex.with(|| raise(word))));
    suite.pair(ours.operations(2), peer.operations(2), Bar::Shown);

    let ours = RwLock::new().expect("a lock");
    let ours = Work::together("RwLock::read, 2 p. at one lock", 2, move |_, n| {
        for _ in 0..n {
            drop(ours.read().expect("the lock"));
        }
    });
    let rwlock = posix::RwLock::new();
    let peer = Work::together("pthread_rwlock_rdlock", 2, move |_, n| (0..n).for_each(|_| rwlock.read(|| ())));
    suite.pair(ours.operations(2), peer.operations(2), Bar::Shown);

    let ours = Semaphore::new(2).expect("a semaphore");
    let ours = Work::together("Semaphore, 2 p. for two permits", 2, move |_, n| {
        for _ in 0..n {
            ours.acquire().expect("a permit");
            ours.release().expect("its end");
        }
    });
    let sem = posix::Semaphore::new(2);
    let peer = Work::together("sem_wait, sem_post", 2, move |_, n| {
        for _ in 0..n {
            sem.acquire();
            sem.release();
        }
    });
    suite.pair(ours.operations(2), peer.operations(2), Bar::Shown);
}
