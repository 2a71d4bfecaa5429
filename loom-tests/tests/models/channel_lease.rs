//! Leases: messages in somebody's hands, and those who wait for what comes back; and those who wait for an eventfd.

use commons::harness::world;
use commons::{Channel, Error};
use loom_tests::{Data, Part, Stage, crowd, duet};

use crate::channel::{Ring, taker};

#[test]
fn a_lease_is_one_consumers() {
    let tally = duet("lease, 1 leases, 1 pops").all(|tally| {
        let (ring, data) = (Ring::full(&[1]), Data::default());
        let mut stage = Stage::default();
        let (its, its_data) = (ring.clone(), data.clone());
        let holder = stage.seated(move || {
            let Some(lease) = its.try_pop_lease().unwrap() else { return false };
            its_data.raise();
            lease.ack().unwrap();
            true
        });
        let (its, its_data) = (ring.clone(), data.clone());
        let other = stage.seated(move || {
            let taken = its.try_take().is_some();
            if taken {
                its_data.raise();
            }
            taken
        });
        stage.begin();
        let (leased, popped) = (holder.join(), other.join());
        assert!(leased != popped, "exactly one has had it");
        tally.count(usize::from(leased));
        assert_eq!(data.whole(), 1);
        assert!(ring.is_empty());
        let stats = ring.stats().unwrap();
        assert_eq!((stats.taken, stats.leased, stats.returned), (1, 0, 0), "{stats:?}");
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "each has had it");
}

#[test]
fn what_is_given_back_wakes_who_sleeps() {
    let tally = duet("lease, given back while a consumer sleeps").all(|tally| {
        let (ring, data) = (Ring::full(&[1]), Data::default());
        let mut stage = Stage::default();
        let (its, its_data) = (ring.clone(), data.clone());
        let consumer = stage.seated(move || {
            let taken = its.take();
            its_data.raise();
            taken
        });
        let (its, its_data) = (ring.clone(), data.clone());
        let holder = stage.seated(move || {
            let lease = its.try_pop_lease().unwrap();
            if lease.is_some() {
                its_data.raise();
            }
            let asleep = world::asleep();
            drop(lease);
            asleep
        });
        stage.begin();
        assert_eq!(consumer.join(), 1);
        tally.count(holder.join());
        assert!(ring.is_empty());
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "the consumer has been late, and asleep");
}

/// Acknowledged out of order: the floor moves over both when the older goes.
#[test]
fn an_acknowledgement_makes_room() {
    let tally = crowd("lease, acknowledged while a producer sleeps").all(|tally| {
        let ring = Ring::full(&[1, 2]);
        let mut stage = Stage::default();
        let its = ring.clone();
        let producer = stage.seated(move || its.put(3));
        let its = ring.clone();
        let holder = stage.seated(move || {
            let (first, second) = (its.pop_lease().unwrap(), its.pop_lease().unwrap());
            second.ack().unwrap();
            let asleep = world::asleep();
            assert_eq!(first.attempts(), 0);
            first.ack().unwrap();
            asleep
        });
        stage.begin();
        producer.join();
        tally.count(holder.join());
        assert_eq!(ring.rest(), [3]);
        let stats = ring.stats().unwrap();
        assert_eq!((stats.pushed, stats.taken, stats.leased), (3, 3, 0), "{stats:?}");
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "the producer has been late, and asleep");
}

#[test]
fn a_letter_is_buried_once() {
    let tally = duet("lease, worn out while one pops").all(|tally| {
        let ring = Ring::of(2, 1);
        ring.put(1);
        let mut stage = Stage::default();
        let its = ring.clone();
        let holder = stage.seated(move || its.try_pop_lease().unwrap().is_some());
        let its = ring.clone();
        let other = stage.seated(move || its.try_take());
        stage.begin();
        let (leased, taken) = (holder.join(), other.join());
        assert!(leased != taken.is_some(), "exactly one has had it");
        tally.count(usize::from(leased));
        let letters = ring.dead_letters().unwrap();
        assert_eq!((ring.len(), letters.len()), (0, usize::from(leased)));
        let stats = ring.stats().unwrap();
        assert_eq!((stats.pushed, stats.taken, stats.returned), (1, 1, u64::from(leased)), "{stats:?}");
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "each has had it");
}

/// Waits for the eventfd and for nothing else: no slice ends here.
fn watcher(stage: &mut Stage, ring: &Ring) -> Part<u8> {
    let ring = ring.clone();
    stage.seated(move || watch(&ring))
}

pub fn watch(ring: &Ring) -> u8 {
    let notifier = ring.notifier();
    loop {
        if let Some(taken) = ring.try_take() {
            return taken;
        }
        notifier.wait().unwrap();
    }
}

#[test]
fn a_push_tells_who_watches() {
    let tally = duet("notifier, 1 watches, 1 pushes").all(|tally| {
        let ring = Ring::new(1);
        let mut stage = Stage::default();
        let consumer = watcher(&mut stage, &ring);
        let its = ring.clone();
        let producer = stage.seated(move || {
            its.put(1);
            world::asleep()
        });
        stage.begin();
        assert_eq!(consumer.join(), 1);
        tally.count(producer.join());
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "the consumer has been late, and asleep");
}

/// One looks while two messages are pushed; another, who watched before, is told of what is left.
#[test]
fn all_who_watch_are_told() {
    let tally = duet("notifier, 1 watches, 1 looks, 1 pushes 2").all(|tally| {
        let ring = Ring::new(2);
        let notifier = ring.notifier();
        assert_eq!(ring.try_take(), None);
        let mut stage = Stage::default();
        let its = ring.clone();
        let other = stage.seated(move || its.try_take());
        let its = ring.clone();
        let producer = stage.seated(move || its.push_many(&[[1; 8], [2; 8]]).unwrap());
        stage.begin();
        producer.join();
        let taken = other.join();
        tally.count(usize::from(taken.is_some()));
        // For ever, if it is not readable.
        notifier.wait().unwrap();
        assert_eq!(ring.try_take(), Some(if taken.is_some() { 2 } else { 1 }));
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "it has found nothing, and something");
}

#[test]
fn the_end_tells_who_watches() {
    let tally = crowd("notifier, 1 selects, closed").all(|tally| {
        let ring = Ring::new(1);
        let mut stage = Stage::default();
        let its = ring.clone();
        let consumer = stage.seated(move || {
            assert_eq!(Channel::select(&[&its], None).unwrap(), 0);
            assert!(matches!(its.try_pop(), Err(Error::Closed)));
        });
        let its = ring.clone();
        let closer = stage.seated(move || {
            its.close().unwrap();
            world::asleep()
        });
        stage.begin();
        consumer.join();
        tally.count(closer.join());
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "the consumer has been late, and asleep");
}

#[test]
fn what_is_given_back_tells_who_watches() {
    duet("notifier, given back").all(|_| {
        let ring = Ring::full(&[1]);
        let mut stage = Stage::default();
        let consumer = watcher(&mut stage, &ring);
        let its = ring.clone();
        let holder = stage.seated(move || drop(its.try_pop_lease().unwrap()));
        stage.begin();
        assert_eq!(consumer.join(), 1);
        holder.join();
    });
}

fn put_watching(ring: &Ring, number: u8) -> Result<(), Error> {
    let notifier = ring.room_notifier();
    loop {
        match ring.try_push(&[number; 8]) {
            Err(Error::Full { .. }) => notifier.wait().unwrap(),
            done => return done,
        }
    }
}

#[test]
fn a_pop_tells_who_watches_for_room() {
    let tally = duet("notifier of room, 1 watches, 1 pops").all(|tally| {
        let ring = Ring::full(&[1]);
        let mut stage = Stage::default();
        let its = ring.clone();
        let producer = stage.seated(move || put_watching(&its, 2).unwrap());
        let its = ring.clone();
        let consumer = stage.seated(move || {
            assert_eq!(its.take(), 1);
            world::asleep()
        });
        stage.begin();
        producer.join();
        tally.count(consumer.join());
        assert_eq!(ring.rest(), [2]);
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "the producer has been late, and asleep");
}

#[test]
fn the_end_tells_who_watches_for_room() {
    let tally = crowd("notifier of room, closed").all(|tally| {
        let ring = Ring::full(&[1]);
        let mut stage = Stage::default();
        let its = ring.clone();
        let producer = stage.seated(move || assert!(matches!(put_watching(&its, 2), Err(Error::Closed))));
        let its = ring.clone();
        let closer = stage.seated(move || {
            its.close().unwrap();
            world::asleep()
        });
        stage.begin();
        producer.join();
        tally.count(closer.join());
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "the producer has been late, and asleep");
}

/// What is leased may come back, so it is not the end; the acknowledgement is.
#[test]
fn the_last_acknowledgement_is_the_end() {
    duet("lease, acknowledged after the end").all(|_| {
        let ring = Ring::full(&[1]);
        let mut stage = Stage::default();
        let lease = ring.pop_lease().unwrap();
        ring.close().unwrap();
        let its = ring.clone();
        let consumer = stage.seated(move || its.pop().unwrap_err().to_string());
        stage.begin();
        lease.ack().unwrap();
        assert_eq!(consumer.join(), Error::Closed.to_string());
    });
}

/// The end is not the end while something may come back.
#[test]
fn what_is_given_back_after_the_end() {
    duet("lease, given back after the end").all(|_| {
        let ring = Ring::full(&[1]);
        let mut stage = Stage::default();
        let lease = ring.pop_lease().unwrap();
        ring.close().unwrap();
        let consumer = taker(&mut stage, &ring);
        stage.begin();
        drop(lease);
        assert_eq!(consumer.join(), 1);
    });
}

#[test]
fn the_last_acknowledgement_tells_who_watches() {
    duet("notifier, acknowledged after the end").all(|_| {
        let ring = Ring::full(&[1]);
        let mut stage = Stage::default();
        let lease = ring.pop_lease().unwrap();
        ring.close().unwrap();
        let its = ring.clone();
        let consumer = stage.seated(move || {
            assert_eq!(Channel::select(&[&its], None).unwrap(), 0);
            assert!(matches!(its.try_pop(), Err(Error::Closed)));
        });
        stage.begin();
        lease.ack().unwrap();
        consumer.join();
    });
}
