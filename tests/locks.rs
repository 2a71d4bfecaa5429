//! What the locks promise to the living: Swoole's conformance cases L1-L9 in our semantics, exclusion between processes and
//! between threads, fairness.

mod common;

use std::time::{Duration, Instant};

use common::{alone, in_child, until};
use commons::{
    Atomic, AtomicLong, Barrier, Counter, Error, Lock, LockGuard, ReadGuard, Region, RwLock, Semaphore, WriteGuard,
};

const LONG: Duration = Duration::from_secs(20);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn l1_trying() {
    let lock = Lock::new().unwrap();
    let guard = lock.lock().unwrap();
    in_child(|| assert!(lock.try_lock().unwrap().is_none())).join();
    drop(guard);
    assert!(lock.try_lock().unwrap().is_some());
    in_child(|| assert!(lock.try_lock().unwrap().is_some())).join();
}

#[test]
fn l2_l7_a_timeout_is_kept_in_full_and_not_by_the_wall_clock() {
    let (lock, rw, seat) = (Lock::new().unwrap(), RwLock::new().unwrap(), Semaphore::new(1).unwrap());
    let _held = (lock.lock().unwrap(), rw.write().unwrap(), seat.acquire().unwrap());
    in_child(|| {
        for wait in [2, 200] {
            let times_out = |what: &str, call: &dyn Fn() -> Option<Error>| {
                let start = Instant::now();
                let told = call();
                assert!(matches!(told, Some(Error::Timeout { after }) if after == ms(wait)), "{what}: {told:?}");
                assert!(start.elapsed() >= ms(wait), "{what} ended after {:?}", start.elapsed());
            };
            times_out("lock", &|| lock.lock_timeout(ms(wait)).err());
            times_out("read", &|| rw.read_timeout(ms(wait)).err());
            times_out("write", &|| rw.write_timeout(ms(wait)).err());
            times_out("acquire", &|| seat.acquire_timeout(ms(wait)).err());
        }
    })
    .join();
}

#[test]
fn l3_readers_read_side_by_side() {
    let rw = RwLock::new().unwrap();
    let inside = Atomic::new(0).unwrap();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            in_child(|| {
                let _reading = rw.read().unwrap();
                inside.add(1);
                until("all three are inside", || inside.get() == 3);
            })
        })
        .collect();
    readers.into_iter().for_each(|child| child.join());
}

#[test]
fn l4_the_next_owner_comes_after_the_release() {
    let (lock, step) = (Lock::new().unwrap(), Atomic::new(0).unwrap());
    let guard = lock.lock().unwrap();
    let first = in_child(|| {
        let _guard = lock.lock().unwrap();
        assert_eq!(step.get(), 1, "not before it was released");
    });
    first.until_asleep();
    std::thread::sleep(ms(50));
    assert!(first.is_asleep());
    step.set(1);
    drop(guard);
    first.join();
}

/// L6, with processes beside the threads.
#[test]
fn l6_nothing_is_lost_under_a_lock() {
    let (lock, sum) = (Lock::new().unwrap(), AtomicLong::new(0).unwrap());
    let work = |rounds: u32| {
        for _ in 0..rounds {
            let _guard = lock.lock().unwrap();
            sum.set(sum.get() + 1);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| work(100_000));
        }
    });
    assert_eq!(sum.get(), 400_000);
    let children: Vec<_> = (0..3)
        .map(|_| in_child(|| std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(|| work(20_000)))))))
        .collect();
    children.into_iter().for_each(|child| child.join());
    assert_eq!(sum.get(), 520_000);
}

/// L6 for the other two: writers exclude everybody, readers see no half of a write; a semaphore lets in as many as it says.
#[test]
fn l6_nothing_is_torn_under_a_read_write_lock() {
    let rw = RwLock::new().unwrap();
    let (left, right) = (AtomicLong::new(0).unwrap(), AtomicLong::new(0).unwrap());
    let work = || {
        for i in 0..4_000 {
            if i % 4 == 0 {
                let _writing = rw.write().unwrap();
                left.set(left.get() + 1);
                right.set(right.get() + 1);
            } else {
                let _reading = rw.read().unwrap();
                assert_eq!(left.get(), right.get());
            }
        }
    };
    let children: Vec<_> = (0..2).map(|_| in_child(work)).collect();
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    children.into_iter().for_each(|child| child.join());
    assert_eq!((left.get(), right.get()), (4_000, 4_000));
}

#[test]
fn l6_a_semaphore_lets_in_as_many_as_it_says() {
    let seats = Semaphore::new(2).unwrap();
    let (inside, most) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let work = || {
        for _ in 0..2_000 {
            seats.acquire().unwrap();
            let now = inside.add(1);
            if now > most.get() {
                most.set(now);
            }
            std::thread::yield_now();
            inside.sub(1);
            seats.release().unwrap();
        }
    };
    let children: Vec<_> = (0..2).map(|_| in_child(work)).collect();
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    children.into_iter().for_each(|child| child.join());
    assert!(most.get() <= 2, "{} were inside at once", most.get());
    assert_eq!(seats.available(), 2);
}

#[test]
fn l8_a_child_goes_on_after_the_parents_release() {
    let (lock, rw) = (Lock::new().unwrap(), RwLock::new().unwrap());
    let held = (lock.lock().unwrap(), rw.write().unwrap());
    let child = in_child(|| {
        drop(lock.lock_timeout(LONG).unwrap());
        drop(rw.read_timeout(LONG).unwrap());
        drop(rw.write_timeout(LONG).unwrap());
    });
    child.until_asleep();
    drop(held);
    child.join();
}

#[test]
fn l9_trying_on_a_held_read_write_lock() {
    let rw = RwLock::new().unwrap();
    let reading = rw.read().unwrap();
    in_child(|| assert!(rw.try_read().unwrap().is_some() && rw.try_write().unwrap().is_none())).join();
    drop(reading);
    let writing = rw.try_write().unwrap();
    assert!(writing.is_some());
    in_child(|| assert!(rw.try_read().unwrap().is_none() && rw.try_write().unwrap().is_none())).join();
}

/// Readers that come and go all the time, always at least one inside: the writer still gets in.
#[test]
fn readers_do_not_starve_a_writer_nor_writers_a_reader() {
    let rw = RwLock::new().unwrap();
    let (stop, inside) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let crowd = |read: bool| -> Vec<_> {
        (0..3)
            .map(|_| {
                in_child(|| {
                    while stop.get() == 0 {
                        let _guard = if read { (rw.read().ok(), None) } else { (None, rw.write().ok()) };
                        inside.add(1);
                        std::thread::sleep(Duration::from_micros(300));
                    }
                })
            })
            .collect()
    };
    for readers in [true, false] {
        let children = crowd(readers);
        until("they are at it", || inside.get() > 30);
        for _ in 0..20 {
            if readers {
                drop(rw.write_timeout(LONG).unwrap());
            } else {
                drop(rw.read_timeout(LONG).unwrap());
            }
        }
        stop.set(1);
        children.into_iter().for_each(|child| child.join());
        stop.set(0);
        inside.set(0);
    }
}

#[test]
fn a_barrier_serves_round_after_round() {
    let (barrier, leaders, arrived) = (Barrier::new(4).unwrap(), Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let work = || {
        for round in 1..=300 {
            arrived.add(1);
            if barrier.wait().unwrap() {
                leaders.add(1);
            }
            assert!(arrived.get() >= 4 * round, "nobody passes before all are there");
            barrier.wait().unwrap();
        }
    };
    let children: Vec<_> = (0..2).map(|_| in_child(work)).collect();
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    children.into_iter().for_each(|child| child.join());
    assert_eq!((leaders.get(), arrived.get()), (300, 1200), "one leader a round");
}

/// Contended hand-overs live on wake-ups; if one were lost, each would cost a slice of 20 ms.
#[test]
fn a_hand_over_is_a_wakeup_not_the_end_of_a_slice() {
    let _turn = alone();
    let (lock, rounds) = (Lock::new().unwrap(), Atomic::new(0).unwrap());
    let start = Instant::now();
    let work = || {
        for _ in 0..100 {
            let _guard = lock.lock().unwrap();
            rounds.add(1);
            std::thread::sleep(Duration::from_micros(200));
        }
    };
    let children: Vec<_> = (0..3).map(|_| in_child(work)).collect();
    children.into_iter().for_each(|child| child.join());
    assert_eq!(rounds.get(), 300);
    assert!(start.elapsed() < Duration::from_secs(3), "300 hand-overs in {:?}", start.elapsed());
}

#[test]
fn structures_in_one_region_are_apart() {
    let region = Region::new("all", 1 << 20).unwrap();
    let (a, b) = (Lock::new_in(&region).unwrap(), Lock::new_in(&region).unwrap());
    let (rw, seats) = (RwLock::new_in(&region).unwrap(), Semaphore::new_in(&region, 2).unwrap());
    let (barrier, n) = (Barrier::new_in(&region, 1).unwrap(), Atomic::new_in(&region, 6).unwrap());
    let (long, counter) = (AtomicLong::new_in(&region, -6).unwrap(), Counter::new_in(&region).unwrap());
    let _held = (a.lock().unwrap(), b.lock().unwrap(), rw.write().unwrap());
    seats.acquire().unwrap();
    counter.add(4);
    in_child(|| {
        assert!(a.try_lock().unwrap().is_none() && rw.try_read().unwrap().is_none());
        assert!(seats.try_acquire().unwrap() && !seats.try_acquire().unwrap() && barrier.wait().unwrap());
        counter.add(1);
        n.add(1);
        long.add(1);
    })
    .join();
    assert_eq!((n.get(), long.get(), counter.get()), (7, -5, 5));
}

/// Handles go anywhere, guards stay with their thread: decided when this file is compiled.
#[test]
fn handles_are_send_and_sync_and_guards_are_not_send() {
    fn anywhere<T: Clone + Send + Sync + std::fmt::Debug + 'static>() {}
    anywhere::<Atomic>();
    anywhere::<AtomicLong>();
    anywhere::<Counter>();
    anywhere::<Lock>();
    anywhere::<RwLock>();
    anywhere::<Semaphore>();
    anywhere::<Barrier>();
    anywhere::<Region>();

    // Ambiguous, and so an error, for a type that is Send.
    trait Stays<Marker> {
        fn stays() {}
    }
    impl<T> Stays<()> for T {}
    struct Goes;
    impl<T: Send> Stays<Goes> for T {}
    <LockGuard<'static> as Stays<_>>::stays();
    <ReadGuard<'static> as Stays<_>>::stays();
    <WriteGuard<'static> as Stays<_>>::stays();
}
