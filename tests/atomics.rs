//! What Atomic and AtomicLong promise: Swoole's conformance cases A1-A8 in our semantics, values, sharing, waiting.

mod common;

use std::time::{Duration, Instant};

use common::{in_child, until};
use commons::{Atomic, AtomicLong, Region};

const LONG: Option<Duration> = Some(Duration::from_secs(20));

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn a1_add_sub_get_cmpset() {
    let n = Atomic::new(1).unwrap();
    assert_eq!((n.add(199), n.sub(35), n.get()), (200, 165, 165));
    assert!(n.cmpset(165, 1) && !n.cmpset(1555, 0));
    assert_eq!(n.get(), 1);
}

#[test]
fn a2_wakeup_with_nobody_asleep() {
    let (one, zero) = (Atomic::new(1).unwrap(), Atomic::new(0).unwrap());
    assert_eq!((one.wakeup(1), one.get()), (0, 1), "a value above 0 stays");
    assert_eq!((zero.wakeup(1), zero.get()), (0, 1), "a 0 becomes 1");
    assert_eq!((zero.wakeup(5), zero.get()), (0, 1), "once");
    let none = Atomic::new(0).unwrap();
    assert_eq!((none.wakeup(0), none.get()), (0, 0), "nobody was to be woken");
}

#[test]
fn a3_wait_without_a_waker_and_on_one() {
    let n = Atomic::new(0).unwrap();
    let start = Instant::now();
    assert!(!n.wait(Some(ms(50))));
    assert!(start.elapsed() >= ms(50), "the full timeout");
    assert_eq!(n.get(), 0);
    n.set(1);
    assert!(n.wait(None), "at once");
    assert_eq!(n.get(), 0);
    n.set(3);
    assert!(n.wait(Some(Duration::ZERO)) && n.wait(Some(Duration::ZERO)), "each takes one");
    assert_eq!(n.get(), 1);
}

/// A4 and weakness L1: in Swoole all four wake and one returns true. Here all do.
#[test]
fn a4_every_woken_sleeper_is_told_true() {
    let (n, asleep, granted) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let children: Vec<_> = (0..4)
        .map(|_| {
            in_child(|| {
                asleep.add(1);
                assert!(n.wait(LONG), "it was granted");
                granted.add(1);
            })
        })
        .collect();
    children.iter().for_each(|child| child.until_asleep());
    assert_eq!(n.wakeup(4), 4);
    children.into_iter().for_each(|child| child.join());
    assert_eq!((granted.get(), n.get()), (4, 0));
}

#[test]
fn wakeup_grants_no_more_than_asked_and_no_more_than_sleep() {
    let (n, granted) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let children: Vec<_> = (0..3)
        .map(|_| {
            in_child(|| {
                assert!(n.wait(LONG));
                granted.add(1);
            })
        })
        .collect();
    children.iter().for_each(|child| child.until_asleep());
    assert_eq!(n.wakeup(2), 2);
    until("two went on", || granted.get() == 2);
    assert_eq!(children.iter().filter(|child| child.is_asleep()).count(), 1, "one still sleeps");
    assert_eq!(n.wakeup(100), 1);
    children.into_iter().for_each(|child| child.join());
    assert_eq!(n.get(), 0, "no permit is left over");
}

/// Weakness L2: two wake-ups before anybody ran do not collapse into one.
#[test]
fn two_wakeups_in_a_row_free_two_sleepers() {
    let n = Atomic::new(0).unwrap();
    let children: Vec<_> = (0..2).map(|_| in_child(|| assert!(n.wait(LONG)))).collect();
    children.iter().for_each(|child| child.until_asleep());
    children.iter().for_each(|child| child.stop());
    assert_eq!(n.wakeup(1) + n.wakeup(1), 2, "neither is lost although nobody could take the first yet");
    children.iter().for_each(|child| child.cont());
    children.into_iter().for_each(|child| child.join());
}

#[test]
fn a5_the_cell_outlives_a_child_that_waited_on_it() {
    let (n, order) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let child = in_child(|| {
        assert!(n.wait(LONG));
        assert!(order.cmpset(1, 2), "the parent came first");
    });
    child.until_asleep();
    assert!(order.cmpset(0, 1));
    assert_eq!(n.wakeup(1), 1);
    child.join();
    assert_eq!((order.get(), n.add(7)), (2, 7));
}

#[test]
fn a6_one_wakes_three_workers() {
    let (n, asleep) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            in_child(|| {
                let start = Instant::now();
                asleep.add(1);
                assert!(n.wait(None));
                assert!(start.elapsed() >= ms(100), "not before it was woken");
            })
        })
        .collect();
    waiters.iter().for_each(|child| child.until_asleep());
    std::thread::sleep(ms(110));
    in_child(|| assert_eq!(n.wakeup(3), 3)).join();
    waiters.into_iter().for_each(|child| child.join());
}

#[test]
fn a7_four_wakers_and_one_who_waits() {
    let n = Atomic::new(0).unwrap();
    let wakers: Vec<_> = (0..4).map(|_| in_child(|| assert!(n.wakeup(1) <= 1))).collect();
    assert!(n.wait(LONG));
    wakers.into_iter().for_each(|child| child.join());
    assert!(n.get() <= 1, "wake-ups for nobody leave one permit at most");
}

#[test]
fn a8_immediate_timeout_woken() {
    let n = Atomic::new(1).unwrap();
    assert!(n.wait(None));
    let start = Instant::now();
    assert!(!n.wait(Some(ms(50))) && start.elapsed() >= ms(50));
    let child = in_child(|| assert!(n.wait(LONG)));
    child.until_asleep();
    assert_eq!(n.wakeup(1), 1, "one was woken");
    child.join();
}

#[test]
fn values_wrap() {
    let (small, large) = (Atomic::new(u32::MAX).unwrap(), AtomicLong::new(i64::MAX).unwrap());
    assert_eq!((small.add(2), small.sub(3), small.get()), (1, u32::MAX - 1, u32::MAX - 1));
    assert_eq!((large.add(1), large.sub(1)), (i64::MIN, i64::MAX));
    large.set(-5);
    assert_eq!((large.get(), large.add(-5), large.sub(-20)), (-5, -10, 10));
    assert!(large.cmpset(10, i64::MIN) && !large.cmpset(10, 0));
    // A carry out of 32 bits is nowhere to be seen afterwards.
    small.set(u32::MAX);
    small.add(1);
    assert!(small.cmpset(0, 9) && small.wait(Some(Duration::ZERO)));
    assert_eq!(small.get(), 8);
    small.set(0);
    small.sub(1);
    assert_eq!(small.get(), u32::MAX);
    assert!(small.wait(None), "u32::MAX is above 0");
}

#[test]
fn a_long_waits_too_and_a_negative_value_is_no_permit() {
    let n = AtomicLong::new(-1).unwrap();
    assert!(!n.wait(Some(ms(1))));
    assert_eq!((n.wakeup(1), n.get()), (0, -1), "only a 0 becomes 1");
    let child = in_child(|| assert!(n.wait(LONG)));
    child.until_asleep();
    assert_eq!(n.wakeup(1), 1);
    child.join();
    assert_eq!(n.get(), -1, "a grant is not taken from the value");
}

#[test]
fn neighbours_do_not_disturb_each_other() {
    let region = Region::new("cells", 1 << 16).unwrap();
    let mut all: Vec<Atomic> = (0..300).map(|i| Atomic::packed(i).unwrap()).collect();
    all.extend((300..600).map(|i| Atomic::new(i).unwrap()));
    all.extend((600..900).map(|i| Atomic::new_in(&region, i).unwrap()));
    let child = in_child(|| all.iter().for_each(|n| assert!(n.sub(1000) > 0)));
    child.join();
    all.iter().for_each(|n| assert!(n.add(1000) < 900));
    assert!((0..900).all(|i| all[i as usize].get() == i));
}

#[test]
fn children_and_grandchildren_add_to_one_cell() {
    let (n, m) = (Atomic::new(0).unwrap(), AtomicLong::packed(0).unwrap());
    let work = || {
        for _ in 0..10_000 {
            n.add(1);
            m.sub(2);
        }
    };
    let children: Vec<_> = (0..3)
        .map(|_| {
            in_child(|| {
                let grandchild = in_child(work);
                work();
                grandchild.join();
            })
        })
        .collect();
    children.into_iter().for_each(|child| child.join());
    assert_eq!((n.get(), m.get()), (60_000, -120_000));
}

/// Weakness T18, as far as there is no server yet: what a child makes is the child's, and never lies where somebody else's lies.
#[test]
fn parent_and_children_never_make_the_same_cell() {
    let clashes = Atomic::new(0).unwrap();
    let make = |mark: u32| {
        let mine: Vec<_> = (0..500).map(|_| (Atomic::new(mark).unwrap(), Atomic::packed(mark).unwrap())).collect();
        std::thread::sleep(ms(20));
        clashes.add(mine.iter().filter(|(a, b)| a.get() != mark || b.get() != mark).count() as u32);
    };
    let children: Vec<_> = (1..4).map(|mark| in_child(move || make(mark))).collect();
    make(9);
    children.into_iter().for_each(|child| child.join());
    assert_eq!(clashes.get(), 0);
}

#[test]
fn wait_while_and_notify_lose_nothing() {
    const ROUNDS: u32 = 2000;
    let ball = Atomic::new(0).unwrap();
    let play = |odd: u32| {
        for round in (odd..ROUNDS).step_by(2) {
            while ball.get() != round {
                assert!(ball.wait_while(ball.get().min(round.wrapping_sub(1)), LONG));
            }
            ball.add(1);
            ball.notify(1);
        }
    };
    let start = Instant::now();
    let child = in_child(|| play(1));
    play(0);
    child.join();
    assert_eq!(ball.get(), ROUNDS);
    assert!(start.elapsed() < ms(20 * u64::from(ROUNDS) / 4), "it lived on wake-ups, not on slices that ended");
}

#[test]
fn wait_while_is_like_a_futex() {
    let n = AtomicLong::new(3).unwrap();
    assert!(n.wait_while(4, None), "another value");
    let start = Instant::now();
    assert!(!n.wait_while(3, Some(ms(45))) && start.elapsed() >= ms(45));
    assert_eq!(n.notify(usize::MAX), 0);
    let child = in_child(|| assert!(n.wait_while(3, LONG)));
    child.until_asleep();
    n.set(5);
    n.notify(1);
    child.join();
}

#[test]
fn timeouts_of_every_size() {
    let n = Atomic::new(0).unwrap();
    assert!(!n.wait(Some(Duration::ZERO)) && !n.wait(Some(Duration::from_nanos(1))));
    let child = in_child(|| {
        assert!(n.wait(Some(Duration::MAX)), "for ever, not an overflow");
        assert!(n.wait_while(0, Some(Duration::MAX)));
    });
    child.until_asleep();
    assert_eq!(n.wakeup(1), 1);
    until("it sleeps again", || child.is_asleep());
    n.set(1);
    n.notify(1);
    child.join();
}

/// What one did before `wakeup` is there for the one whose `wait` returned.
#[test]
fn a_permit_brings_along_what_was_done_before() {
    let (here, there, data) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap(), AtomicLong::new(0).unwrap());
    let child = in_child(|| {
        for round in 1..=2000 {
            assert!(here.wait(LONG));
            assert_eq!(data.get(), round);
            data.set(-round);
            there.wakeup(1);
        }
    });
    for round in 1..=2000 {
        data.set(round);
        here.wakeup(1);
        assert!(there.wait(LONG));
        assert_eq!(data.get(), -round);
    }
    child.join();
}
