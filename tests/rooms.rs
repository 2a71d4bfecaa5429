//! Death among those who share permits, wait at a barrier or sleep on a number.

mod common;

use std::time::Duration;

use common::{alone, assert_succession, in_child, sleep_for_ever, until};
use commons::{Atomic, AtomicLong, Barrier, Semaphore, recover};

const LONG: Duration = Duration::from_secs(20);

#[test]
fn the_permits_of_the_dead_come_back_to_those_who_wait() {
    let _turn = alone();
    let seats = Semaphore::new(2).unwrap();
    let hold = || (0..2).for_each(|_| seats.acquire().unwrap());
    // Not released: the waiter's own permit comes back when it ends.
    assert_succession("semaphore", &hold, &|| seats.acquire().unwrap());
    assert!(seats.try_acquire().unwrap() && seats.try_acquire().unwrap() && !seats.try_acquire().unwrap());
}

#[test]
fn trying_finds_the_permits_of_the_dead() {
    let seats = Semaphore::new(3).unwrap();
    let held = Atomic::new(0).unwrap();
    let mut owner = in_child(|| {
        (0..3).for_each(|_| seats.acquire().unwrap());
        held.set(1);
        sleep_for_ever();
    });
    until("all are taken", || held.get() == 1);
    assert!(!seats.try_acquire().unwrap());
    owner.kill();
    assert!(seats.try_acquire().unwrap(), "not even reaped");
    owner.wait();
    assert!(seats.try_acquire().unwrap() && seats.try_acquire().unwrap() && !seats.try_acquire().unwrap());
}

/// One permit wanders among the living all the time, so no waiter ever sleeps through a slice; the dead one's permit comes back all
/// the same.
#[test]
fn the_permit_of_the_dead_comes_back_while_others_are_busy() {
    let _turn = alone();
    let seats = Semaphore::new(2).unwrap();
    let (held, both, stop) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let inside = AtomicLong::new(0).unwrap();
    let owner = in_child(|| {
        seats.acquire().unwrap();
        held.set(1);
        sleep_for_ever();
    });
    until("one is taken", || held.get() == 1);
    let busy: Vec<_> = (0..3)
        .map(|_| {
            in_child(|| {
                while stop.get() == 0 {
                    seats.acquire().unwrap();
                    if inside.add(1) == 2 {
                        both.add(1);
                    }
                    std::thread::sleep(Duration::from_millis(3));
                    inside.sub(1);
                    seats.release().unwrap();
                }
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(both.get(), 0, "one permit is the owner's");
    owner.kill();
    until("two are inside at once", || both.get() > 0);
    stop.set(1);
    busy.into_iter().for_each(|child| child.join());
}

/// A release wakes one that dies before it runs: the permit goes to the other.
#[test]
fn a_permit_for_one_that_died_asleep_goes_to_the_next() {
    let seats = Semaphore::new(1).unwrap();
    for recovering in [false, true] {
        seats.acquire().unwrap();
        let first = in_child(|| seats.acquire().unwrap());
        first.until_asleep();
        let second = in_child(|| seats.acquire().unwrap());
        second.until_asleep();
        first.stop();
        seats.release().unwrap();
        first.kill();
        if recovering {
            recover(first.pid()).unwrap();
        }
        second.join();
        until("its permit is back", || seats.try_acquire().unwrap());
        seats.release().unwrap();
    }
    assert_eq!(seats.available(), 1);
}

#[test]
fn an_ended_threads_permits_come_back() {
    let seats = Semaphore::new(2).unwrap();
    let thread = seats.clone();
    std::thread::spawn(move || (0..2).for_each(|_| thread.acquire().unwrap())).join().unwrap();
    assert!(seats.try_acquire().unwrap() && seats.try_acquire().unwrap() && !seats.try_acquire().unwrap());
}

#[test]
fn no_permit_is_lost_or_made_by_many_deaths() {
    let seats = Semaphore::new(3).unwrap();
    let inside = AtomicLong::new(0).unwrap();
    for round in 0..40 {
        let taken = Atomic::new(0).unwrap();
        let children: Vec<_> = (0..5)
            .map(|_| {
                in_child(|| {
                    while seats.acquire_timeout(LONG).is_ok() {
                        assert!(inside.get() <= 3);
                        taken.add(1);
                        seats.release().unwrap();
                    }
                })
            })
            .collect();
        until("they are at it", || taken.get() > 20 + round);
        children.iter().for_each(|child| child.kill());
        if round % 2 == 0 {
            children.iter().for_each(|child| assert!(recover(child.pid()).unwrap() <= 1));
        }
        drop(children);
        let all = (0..4).take_while(|_| seats.try_acquire().unwrap()).count();
        assert_eq!(all, 3, "round {round}");
        (0..3).for_each(|_| seats.release().unwrap());
    }
}

#[test]
fn a_party_that_dies_at_the_barrier_has_not_arrived() {
    let barrier = Barrier::new(3).unwrap();
    let passed = Atomic::new(0).unwrap();
    let arrive = || {
        in_child(|| {
            barrier.wait().unwrap();
            passed.add(1);
        })
    };
    for recovering in [false, true] {
        let (first, dying) = (arrive(), arrive());
        first.until_asleep();
        dying.until_asleep();
        dying.kill();
        if recovering {
            assert_eq!(recover(dying.pid()).unwrap(), 1);
        }
        let third = arrive();
        third.until_asleep();
        assert_eq!(passed.get(), 0, "two of three are there");
        assert!(barrier.wait().unwrap(), "the last one leads");
        first.join();
        third.join();
        assert_eq!(passed.get(), 2);
        passed.set(0);
    }
}

#[test]
fn one_that_gave_up_at_the_barrier_has_not_arrived() {
    let barrier = Barrier::new(2).unwrap();
    assert!(barrier.wait_timeout(Duration::from_millis(5)).is_err());
    let other = in_child(|| assert!(!barrier.wait().unwrap()));
    other.until_asleep();
    assert!(barrier.wait().unwrap());
    other.join();
}

#[test]
fn a_dead_sleeper_is_not_counted() {
    for reap in [false, true] {
        let n = Atomic::new(0).unwrap();
        let mut sleepers: Vec<_> = (0..4).map(|_| in_child(|| assert!(n.wait(Some(LONG))))).collect();
        sleepers.iter().for_each(|child| child.until_asleep());
        for child in &mut sleepers[..2] {
            child.kill();
            if reap {
                child.wait();
            }
        }
        assert_eq!(n.wakeup(10), 2, "reaped: {reap}");
        sleepers.drain(2..).for_each(|child| child.join());
        assert_eq!((n.wakeup(10), n.get()), (0, 1), "nobody sleeps, and none of the dead has kept a permit");
    }
}

/// One was granted a permit and dies before it runs: the other sleeper gets it.
#[test]
fn a_grant_to_the_dead_goes_to_the_next_sleeper() {
    for recovering in [false, true] {
        let n = AtomicLong::new(0).unwrap();
        let first = in_child(|| assert!(n.wait(None)));
        first.until_asleep();
        let second = in_child(|| assert!(n.wait(Some(LONG))));
        second.until_asleep();
        first.stop();
        assert_eq!(n.wakeup(1), 1, "the first or the second, who knows");
        first.kill();
        if recovering {
            recover(first.pid()).unwrap();
        }
        second.join();
        assert!(!n.wait(Some(Duration::ZERO)), "and nothing is left over");
    }
}

/// The permit of one that died with nobody else asleep is there for the next that comes.
#[test]
fn a_grant_to_the_dead_waits_for_a_newcomer() {
    let n = Atomic::new(0).unwrap();
    let first = in_child(|| assert!(n.wait(None)));
    first.until_asleep();
    first.stop();
    assert_eq!(n.wakeup(1), 1);
    first.kill();
    assert!(n.wait(Some(LONG)));
    assert!(!n.wait(Some(Duration::from_millis(1))), "one permit");
    assert_eq!((n.wakeup(1), n.get()), (0, 1), "as if nobody had ever died");
}

/// The newcomer does not take what was granted to a sleeper that lives but has not run yet.
#[test]
fn a_newcomer_does_not_rob_a_stopped_sleeper() {
    let n = Atomic::new(0).unwrap();
    let first = in_child(|| assert!(n.wait(Some(LONG))));
    first.until_asleep();
    first.stop();
    assert_eq!(n.wakeup(1), 1);
    assert!(!n.wait(Some(Duration::from_millis(60))), "the permit is the first one's");
    first.cont();
    first.join();
}

/// A permit that was granted to one who died is no claim of the living: a new sleeper is counted and granted its own.
#[test]
fn a_permit_of_the_dead_is_not_held_against_the_living() {
    let n = Atomic::new(0).unwrap();
    let sleeper = |n: &Atomic| {
        let n = n.clone();
        in_child(move || assert!(n.wait(Some(LONG))))
    };
    let first = sleeper(&n);
    first.until_asleep();
    first.stop();
    assert_eq!(n.wakeup(1), 1);
    assert_eq!(n.wakeup(1), 0, "its permit is granted already, and nobody else sleeps");
    first.kill();
    first.until_dead();
    recover(first.pid()).unwrap();
    // What was granted to the dead is there for the next.
    sleeper(&n).join();
    assert_eq!(n.get(), 0);
}
