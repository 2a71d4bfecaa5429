//! Who sleeps over what one has done that died before it had told: the next one tells, or who buries it. No slice ever ends here.

use commons::harness::{sit, world};
use commons::{Atomic, recover};
use loom_tests::{Stage, crowd, duet};

use crate::channel::Ring;
use crate::channel_lease::watch;
use crate::channel_sleep::{sleeping_putter, sleeping_taker};

/// One that sleeps is woken by the manager: no slices.
#[test]
fn the_manager_wakes_those_who_wait_for_a_lease() {
    crowd("lease, holder dies, manager, no slices").all(|_| {
        let (ring, gate) = (Ring::full(&[1]), Atomic::new(0).unwrap());
        sit().unwrap();
        let mut stage = Stage::default();
        world::endless_slices();
        let (its, its_gate) = (ring.clone(), gate.clone());
        // It lives until all have their slots: a claim would bury it.
        let mortal = stage.asleep_mortal(u32::MAX, move || {
            std::mem::forget(its.pop_lease().unwrap());
            its_gate.wait(None);
            world::perish();
        });
        let its = ring.clone();
        let waiter = stage.asleep(move || its.pop_lease().unwrap().attempts());
        stage.begin();
        assert_eq!(gate.wakeup(1), 1);
        assert!(mortal.bury().is_none());
        assert_eq!(waiter.join(), 1);
    });
}

#[test]
fn a_producer_dies_and_the_next_one_tells() {
    let tally = crowd("channel, producer dies, 1 sleeps, no slices").each_death(|life, tally| {
        let ring = Ring::new(2);
        sit().unwrap();
        let mut stage = Stage::default();
        world::endless_slices();
        let consumer = sleeping_taker(&mut stage, &ring);
        let its = ring.clone();
        let mortal = stage.mortal(life, move || its.put(1));
        stage.begin();
        let lived = mortal.bury().is_some();
        if !lived {
            ring.put(2);
        }
        let taken = consumer.join();
        assert!(taken == 1 || !lived);
        tally.count(if lived { 0 } else { taken.into() });
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "it has died after its commit and before it");
}

#[test]
fn a_consumer_dies_and_the_next_one_tells() {
    let tally = crowd("channel, consumer dies, 1 waits for room, no slices").each_death(|life, tally| {
        let ring = Ring::full(&[1]);
        sit().unwrap();
        let mut stage = Stage::default();
        world::endless_slices();
        let producer = sleeping_putter(&mut stage, &ring, 2);
        let its = ring.clone();
        let mortal = stage.asleep_mortal(life, move || its.take());
        stage.begin();
        let died = mortal.bury().is_none();
        let taken = if died { ring.try_take() } else { None };
        producer.join();
        tally.count(usize::from(died) * (1 + usize::from(taken == Some(1))));
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "it has died after its commit and before it");
}

/// A producer dies before it has told the one who watches; who buries it does.
#[test]
fn a_producer_dies_and_one_watches() {
    crowd("notifier, producer dies, 1 watches").each_death(|life, _| {
        let ring = Ring::new(2);
        sit().unwrap();
        let mut stage = Stage::default();
        world::endless_slices();
        let its = ring.clone();
        let consumer = stage.asleep(move || watch(&its));
        let its = ring.clone();
        let mortal = stage.mortal(life, move || its.put(1));
        stage.begin();
        if mortal.bury().is_none() && ring.is_empty() {
            ring.put(2);
        }
        consumer.join();
    });
}

/// A consumer dies before it has told the one who watches for room; who buries it does.
#[test]
fn a_consumer_dies_and_one_watches_for_room() {
    let tally = crowd("notifier of room, consumer dies, 1 watches").each_death(|life, tally| {
        let ring = Ring::full(&[1]);
        world::endless_slices();
        let room = ring.room_notifier();
        assert!(!ring.try_put(2));
        let mut stage = Stage::default();
        let its = ring.clone();
        let mortal = stage.mortal(life, move || its.take());
        stage.begin();
        let died = mortal.bury().is_none();
        let empty = ring.is_empty();
        if empty {
            // For ever, if it is not readable.
            room.wait().unwrap();
        }
        assert!(empty || died);
        tally.count(usize::from(died) * (1 + ring.len()));
        assert_eq!(ring.try_put(2), empty);
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "it has died after its commit and before it");
}

/// One who watches dies anywhere while one pushes; another, who watched before, is told then, or by the next push.
#[test]
fn a_watcher_dies_and_another_is_told() {
    let tally = duet("notifier, a watcher dies, 1 pushes").each_death(|life, tally| {
        let ring = Ring::new(2);
        world::endless_slices();
        let notifier = ring.notifier();
        assert_eq!(ring.try_take(), None);
        let mut stage = Stage::default();
        let its = ring.clone();
        let mortal = stage.mortal(life, move || its.try_take());
        let its = ring.clone();
        let producer = stage.seated(move || its.put(1));
        stage.begin();
        producer.join();
        let seen = mortal.join();
        tally.count(seen.map_or(2, |taken| usize::from(taken.is_some())));
        if seen.is_none() {
            ring.put(2);
        }
        if !matches!(seen, Some(Some(_))) {
            // For ever, if it is not readable.
            notifier.wait().unwrap();
            if seen.is_none() {
                // Unless the push has buried it.
                assert!(recover(mortal.id).unwrap() <= 1);
            }
            assert!(ring.try_take().is_some());
        }
    });
    assert!((0..3).all(|what| tally.seen(what) > 0), "it has found nothing, something, and death");
}
