//! What happens when the holder of a lock dies: its waiter goes on, is told, and everybody else is left alone.

mod common;

use std::mem::forget;
use std::time::Duration;

use common::{alone, assert_succession, in_child, sleep_for_ever, until};
use commons::{Atomic, AtomicLong, Error, Lock, RwLock, recover};

const LONG: Duration = Duration::from_secs(20);

#[test]
fn the_waiter_for_a_dead_owners_lock_goes_on() {
    let _turn = alone();
    let lock = Lock::new().unwrap();
    assert_succession("lock", &|| forget(lock.lock().unwrap()), &|| assert!(lock.lock().unwrap().recovered()));
    let timed = || assert!(lock.lock_timeout(LONG).unwrap().recovered());
    assert_succession("lock_timeout", &|| forget(lock.lock().unwrap()), &timed);
    assert!(!lock.lock().unwrap().recovered(), "told once");
}

#[test]
fn the_waiter_for_a_dead_writer_goes_on() {
    let _turn = alone();
    let lock = RwLock::new().unwrap();
    assert_succession("write", &|| forget(lock.write().unwrap()), &|| assert!(lock.write().unwrap().recovered()));
    // A reader is told too, and repairs nothing: the next writer is still told.
    assert_succession("read", &|| forget(lock.write().unwrap()), &|| assert!(lock.read().unwrap().recovered()));
    assert!(lock.write().unwrap().recovered());
    assert!(!lock.read().unwrap().recovered());
}

#[test]
fn the_writer_that_waits_for_a_dead_reader_goes_on_and_is_told_nothing() {
    let _turn = alone();
    let lock = RwLock::new().unwrap();
    let write = || assert!(!lock.write().unwrap().recovered(), "a reader changes nothing");
    assert_succession("write after a reader", &|| forget(lock.read().unwrap()), &write);
}

/// Who only tries finds out as well, also while nobody has reaped the dead.
#[test]
fn trying_finds_the_dead_owner() {
    let (lock, rw, other) = (Lock::new().unwrap(), RwLock::new().unwrap(), RwLock::new().unwrap());
    for reap in [false, true] {
        let held = Atomic::new(0).unwrap();
        let mut owner = in_child(|| {
            forget((lock.lock().unwrap(), rw.write().unwrap(), other.read().unwrap()));
            held.set(1);
            sleep_for_ever();
        });
        until("all is held", || held.get() == 1);
        assert!(lock.try_lock().unwrap().is_none());
        assert!(rw.try_write().unwrap().is_none() && rw.try_read().unwrap().is_none());
        assert!(other.try_write().unwrap().is_none() && other.try_read().unwrap().is_some());
        owner.kill();
        if reap {
            owner.wait();
        }
        assert!(lock.try_lock().unwrap().expect("its owner is dead").recovered(), "reaped: {reap}");
        assert!(rw.try_read().unwrap().expect("its writer is dead").recovered());
        assert!(rw.try_write().unwrap().expect("its writer is dead").recovered());
        assert!(!other.try_write().unwrap().expect("its reader is dead").recovered());
    }
}

#[test]
fn every_generation_of_a_dying_family_is_told_of_the_one_before() {
    let lock = Lock::new().unwrap();
    for round in 0..40 {
        let child = in_child(|| {
            let guard = lock.lock().unwrap();
            assert_eq!(guard.recovered(), round > 0);
            forget(guard);
            common::die();
        });
        child.until_dead();
    }
    assert!(lock.lock().unwrap().recovered());
}

/// A queue of five, of whom every second dies as soon as it has the lock.
#[test]
fn a_queue_survives_deaths_in_its_middle() {
    let (lock, order) = (Lock::new().unwrap(), Atomic::new(0).unwrap());
    let guard = lock.lock().unwrap();
    let queue: Vec<_> = (0..5)
        .map(|i| {
            in_child(|| {
                let guard = lock.lock().unwrap();
                order.add(1);
                if order.get() % 2 == 1 {
                    forget(guard);
                    common::die();
                }
                assert!(guard.recovered(), "the one before died ({i})");
            })
        })
        .collect();
    queue.iter().for_each(|child| child.until_asleep());
    drop(guard);
    until("all had their turn", || queue.iter().all(|child| child.is_zombie()));
    assert_eq!(order.get(), 5);
    assert!(lock.lock().unwrap().recovered(), "the fifth died");
}

/// The sleeper that a release woke dies before it ran; the next one does not wait for it.
#[test]
fn a_woken_waiter_that_never_ran_takes_no_wakeup_with_it() {
    let lock = Lock::new().unwrap();
    for recovering in [false, true] {
        let guard = lock.lock().unwrap();
        let first = in_child(|| forget(lock.lock()));
        first.until_asleep();
        let second = in_child(|| assert!(!lock.lock().unwrap().recovered()));
        second.until_asleep();
        first.stop();
        drop(guard);
        first.kill();
        if recovering {
            recover(first.pid()).unwrap();
        }
        second.join();
    }
}

#[test]
fn recover_tells_the_living_from_the_dead() {
    let lock = Lock::new().unwrap();
    let held = Atomic::new(0).unwrap();
    assert!(matches!(recover(std::process::id()), Err(Error::StillAlive { pid }) if pid == std::process::id()));
    let owner = in_child(|| {
        forget(lock.lock().unwrap());
        held.set(1);
        sleep_for_ever();
    });
    until("it is held", || held.get() == 1);
    assert!(matches!(recover(owner.pid()), Err(Error::StillAlive { .. })));
    owner.stop();
    assert!(matches!(recover(owner.pid()), Err(Error::StillAlive { .. })), "stopped is not dead");
    assert!(lock.try_lock().unwrap().is_none(), "and it still has the lock");
    owner.kill();
    assert_eq!(recover(owner.pid()).unwrap(), 1, "one thread took part");
    assert_eq!(recover(owner.pid()).unwrap(), 0, "twice is harmless");
    assert!(lock.lock().unwrap().recovered());
    let (pid, bystander) = (owner.pid(), in_child(|| {}));
    drop(owner);
    assert_eq!(recover(pid).unwrap(), 0, "also when it was reaped");
    bystander.until_dead();
    assert_eq!(recover(bystander.pid()).unwrap(), 0, "it took part in nothing");
}

/// All threads of a process die with it, whoever of them held what.
#[test]
fn a_process_dies_with_all_its_threads() {
    let locks: Vec<_> = (0..6).map(|_| Lock::new().unwrap()).collect();
    let held = Atomic::new(0).unwrap();
    let owner = in_child(|| {
        std::thread::scope(|scope| {
            for pair in locks.chunks(2) {
                scope.spawn(|| {
                    forget((pair[0].lock().unwrap(), pair[1].lock().unwrap()));
                    held.add(1);
                    sleep_for_ever();
                });
            }
        });
    });
    until("all are held", || held.get() == 3);
    owner.kill();
    assert!(recover(owner.pid()).unwrap() <= 3, "some may have been found by newcomers in search of a slot");
    assert!(locks.iter().all(|lock| lock.try_lock().unwrap().expect("free").recovered()));
}

/// A process whose first thread has ended goes on with the others: nothing of theirs is taken.
#[test]
fn a_process_lives_as_long_as_any_of_its_threads() {
    let (lock, held, go) = (Lock::new().unwrap(), Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let mut owner = in_child(|| {
        let (lock, held, go) = (lock.clone(), held.clone(), go.clone());
        std::thread::spawn(move || {
            let guard = lock.lock().unwrap();
            held.set(1);
            let told = go.wait(Some(LONG));
            drop(guard);
            common::leave(if told { 0 } else { 1 });
        });
        end_this_thread();
    });
    until("its first thread has ended", || held.get() == 1 && common::state_of(owner.pid()) == Some('Z'));
    assert!(!owner.is_zombie(), "the process is not dead");
    assert!(matches!(recover(owner.pid()), Err(Error::StillAlive { .. })));
    assert!(lock.try_lock().unwrap().is_none(), "the other thread still has the lock");
    assert_eq!(go.wakeup(1), 1);
    assert_eq!(owner.wait(), common::Exit::Code(0));
    assert!(!lock.lock().unwrap().recovered());
}

#[allow(unsafe_code)]
fn end_this_thread() -> ! {
    // SAFETY: ends the calling thread, whose stack nobody else looks at.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("ended")
}

/// What a thread holds when it ends is free, and the next one is told, as if a process had died.
#[test]
fn a_thread_that_ends_holding_a_lock_has_died() {
    let (lock, rw, money) = (Lock::new().unwrap(), RwLock::new().unwrap(), AtomicLong::new(0).unwrap());
    std::thread::scope(|scope| {
        // Joined by name: the scope's own end does not wait for what a thread does last.
        let thread = scope.spawn(|| {
            forget((lock.lock().unwrap(), rw.write().unwrap()));
            money.set(1);
        });
        thread.join().unwrap();
    });
    assert!(lock.try_lock().unwrap().expect("free").recovered());
    assert!(rw.try_write().unwrap().expect("free").recovered());
    std::thread::scope(|scope| {
        scope.spawn(|| forget(rw.read().unwrap())).join().unwrap();
    });
    assert!(!rw.try_write().unwrap().expect("free").recovered());
    assert_eq!(money.get(), 1);
}
