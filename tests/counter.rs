//! The Counter is exact: across threads, processes, slots that change their tenant, and deaths.

mod common;

use common::{in_child, leave, until};
use commons::{AtomicLong, Counter, recover};

#[test]
fn every_thread_of_every_process_counts() {
    let counter = Counter::new().unwrap();
    let work = || {
        for i in 0..10_000 {
            counter.add(if i % 10 == 0 { -3 } else { 2 });
        }
    };
    let children: Vec<_> =
        (0..4).map(|_| in_child(|| std::thread::scope(|s| (0..3).for_each(|_| drop(s.spawn(work)))))).collect();
    std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(work))));
    children.into_iter().for_each(|child| child.join());
    assert_eq!(counter.get(), 15 * (9_000 * 2 - 1_000 * 3));
    assert_eq!(counter.clone().get(), counter.get());
}

#[test]
fn it_wraps_and_starts_at_zero() {
    let (counter, other) = (Counter::new().unwrap(), Counter::new().unwrap());
    counter.add(i64::MAX);
    in_child(|| counter.add(1)).join();
    assert_eq!((counter.get(), other.get()), (i64::MIN, 0));
}

/// Many tenants of few slots: what each added stays when the next one moves in.
#[test]
fn a_slots_next_tenant_adds_to_the_same_stripe() {
    let counter = Counter::new().unwrap();
    for _ in 0..200 {
        std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(|| counter.add(1)))));
    }
    for round in 0..60 {
        let child = in_child(|| {
            counter.add(1);
            leave(0);
        });
        child.until_dead();
        if round % 2 == 0 {
            recover(child.pid()).unwrap();
        }
    }
    assert_eq!(counter.get(), 460);
}

/// Each child notes beside the counter what it completed. A death between the two leaves the counter one ahead, never behind.
#[test]
fn kills_lose_nothing_and_count_nothing_twice() {
    let counter = Counter::new().unwrap();
    let mut total = 0;
    for round in 0..60 {
        let done: Vec<_> = (0..3).map(|_| AtomicLong::new(0).unwrap()).collect();
        let before = counter.get();
        assert!(before >= total && before <= total + 3 * round, "{before} of {total} after {round} rounds");
        let children: Vec<_> = done
            .iter()
            .map(|done| {
                in_child(|| {
                    loop {
                        counter.add(1);
                        done.add(1);
                    }
                })
            })
            .collect();
        until("they count", || done.iter().all(|done| done.get() > 100));
        children.iter().for_each(|child| child.kill());
        if round % 2 == 0 {
            children.iter().for_each(|child| assert!(recover(child.pid()).unwrap() <= 1));
        }
        total += done.iter().map(AtomicLong::get).sum::<i64>();
    }
}
