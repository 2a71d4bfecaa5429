//! Those who sleep until they can push or pop, and who wakes them. Nobody dies.

use commons::Error;
use commons::harness::{sit, world};
use loom_tests::{Data, Part, Stage, crowd, duet};

use crate::channel::{Ring, message};

/// One that takes a message, asleep already.
pub fn sleeping_taker(stage: &mut Stage, ring: &Ring) -> Part<u8> {
    let ring = ring.clone();
    stage.asleep(move || ring.take())
}

pub fn sleeping_putter(stage: &mut Stage, ring: &Ring, number: u8) -> Part<()> {
    let ring = ring.clone();
    stage.asleep(move || ring.put(number))
}

#[test]
fn a_push_wakes_who_sleeps() {
    let tally = duet("channel, a consumer sleeps").all(|tally| {
        let (ring, data) = (Ring::new(1), Data::default());
        let mut stage = Stage::default();
        let (its, its_data) = (ring.clone(), data.clone());
        let consumer = stage.seated(move || {
            let taken = its.take();
            assert_eq!(its_data.whole(), 1, "what was done before the push is seen");
            taken
        });
        let (its, its_data) = (ring.clone(), data.clone());
        let producer = stage.seated(move || {
            its_data.raise();
            its.put(1);
            world::asleep()
        });
        stage.begin();
        assert_eq!(consumer.join(), 1);
        tally.count(producer.join());
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "the consumer has been late, and asleep");
}

#[test]
fn a_pop_wakes_who_waits_for_room() {
    let tally = duet("channel, a producer sleeps").all(|tally| {
        let (ring, data) = (Ring::full(&[1]), Data::default());
        let mut stage = Stage::default();
        let (its, its_data) = (ring.clone(), data.clone());
        let producer = stage.seated(move || {
            its.put(2);
            assert_eq!(its_data.whole(), 1, "what was done with the message happened before its room was used");
        });
        let (its, its_data) = (ring.clone(), data.clone());
        let consumer = stage.seated(move || {
            its.pop_with(|_| its_data.raise()).unwrap();
            world::asleep()
        });
        stage.begin();
        producer.join();
        tally.count(consumer.join());
        assert_eq!(ring.rest(), [2]);
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "the producer has been late, and asleep");
}

/// Only the first of two pushes meets the flag.
#[test]
fn two_pushes_wake_two() {
    crowd("channel, 2 consumers sleep, 2 pushes").all(|_| {
        let ring = Ring::new(2);
        sit().unwrap();
        let mut stage = Stage::default();
        let parts = [(); 2].map(|()| sleeping_taker(&mut stage, &ring));
        stage.begin();
        ring.put(1);
        ring.put(2);
        let taken = parts.map(|part| part.join());
        assert!(taken == [1, 2] || taken == [2, 1], "{taken:?}");
    });
}

#[test]
fn one_push_of_two_wakes_two() {
    crowd("channel, 2 consumers sleep, push_many").all(|_| {
        let ring = Ring::new(2);
        sit().unwrap();
        let mut stage = Stage::default();
        let parts = [(); 2].map(|()| sleeping_taker(&mut stage, &ring));
        stage.begin();
        ring.push_many(&[message(1), message(2)]).unwrap();
        let taken = parts.map(|part| part.join());
        assert!(taken == [1, 2] || taken == [2, 1], "{taken:?}");
    });
}

#[test]
fn two_pops_wake_two() {
    crowd("channel, 2 producers sleep, 2 pops").all(|_| {
        let ring = Ring::full(&[1, 2]);
        sit().unwrap();
        let mut stage = Stage::default();
        let parts = [3, 4].map(|number| sleeping_putter(&mut stage, &ring, number));
        stage.begin();
        assert_eq!((ring.take(), ring.take()), (1, 2));
        parts.iter().for_each(Part::join);
        let all = ring.rest();
        assert!(all == [3, 4] || all == [4, 3], "{all:?}");
    });
}

/// One message goes, and there is room for two.
#[test]
fn room_for_two_wakes_two() {
    crowd("channel, 2 producers sleep, 1 pop").all(|_| {
        let ring = Ring::bytes(32, 24);
        ring.push(&[1; 24]).unwrap();
        sit().unwrap();
        let mut stage = Stage::default();
        let parts = [3, 4].map(|number| sleeping_putter(&mut stage, &ring, number));
        stage.begin();
        assert_eq!(ring.pop().unwrap(), [1; 24]);
        parts.iter().for_each(Part::join);
        assert_eq!(ring.rest().len(), 2);
    });
}

#[test]
fn the_end_wakes_who_sleeps() {
    let tally = duet("channel, closed while a consumer sleeps").all(|tally| {
        let (ring, data) = (Ring::new(1), Data::default());
        let mut stage = Stage::default();
        let (its, its_data) = (ring.clone(), data.clone());
        let consumer = stage.seated(move || {
            let end = its.pop().unwrap_err().to_string();
            assert_eq!(its_data.whole(), 1, "what was done before the end is seen");
            end
        });
        let (its, its_data) = (ring.clone(), data.clone());
        let closer = stage.seated(move || {
            its_data.raise();
            its.close().unwrap();
            world::asleep()
        });
        stage.begin();
        assert_eq!(consumer.join(), Error::Closed.to_string());
        tally.count(closer.join());
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "the consumer has been late, and asleep");
}

#[test]
fn the_end_wakes_who_waits_for_room() {
    let tally = crowd("channel, closed while a producer sleeps").all(|tally| {
        let ring = Ring::full(&[1]);
        let mut stage = Stage::default();
        let its = ring.clone();
        let producer = stage.seated(move || its.push(&message(2)).unwrap_err().to_string());
        let its = ring.clone();
        let closer = stage.seated(move || {
            its.close().unwrap();
            world::asleep()
        });
        stage.begin();
        assert_eq!(producer.join(), Error::Closed.to_string());
        tally.count(closer.join());
        assert_eq!((ring.take(), ring.is_closed()), (1, true));
        assert!(matches!(ring.pop(), Err(Error::Closed)));
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "the producer has been late, and asleep");
}
