//! The channel, and those who die at any operation of a push, a pop, a lease, or of making good what another dead one has left.

use commons::harness::{sit, world};
use commons::{Channel, Error};
use loom_tests::{Stage, Tally, crowd, duet};

use crate::channel::Ring;
use crate::channel_sleep::sleeping_taker;

/// What must hold when nobody is in the middle of anything: the figures are those of the messages, and as many fit as were promised.
fn in_order(ring: &Ring, room: usize, all: &[u8]) {
    let stats = ring.stats().unwrap();
    assert_eq!(
        (stats.waiting, stats.leased, stats.pushed - stats.taken),
        (all.len() as u64, 0, all.len() as u64),
        "{stats:?}"
    );
    assert_eq!(ring.rest(), all);
    assert_eq!((ring.len(), ring.bytes()), (0, 0));
    (0..room).for_each(|_| assert!(ring.try_put(9), "there is room"));
    assert!(!ring.try_put(9), "a message too many");
}

#[test]
fn a_producer_dies_and_one_pushes() {
    let tally = crowd("channel, producer dies, 1 pushes").each_death(|life, tally| {
        let ring = Ring::new(2);
        let mut stage = Stage::default();
        let its = ring.clone();
        let mortal = stage.mortal(life, move || its.put(1));
        let its = ring.clone();
        let producer = stage.seated(move || its.put(2));
        stage.begin();
        producer.join();
        let lived = mortal.join().is_some();
        let mut all = ring.rest();
        all.sort_unstable();
        assert!(all == [1, 2] || (all == [2] && !lived), "{all:?}");
        tally.count(usize::from(!lived) * all.len());
        assert_eq!(ring.stats().unwrap().pushed, all.len() as u64);
        in_order(&ring, 2, &[]);
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "it has died before its commit and after it");
}

/// Who sleeps over a message that was not announced finds it at the end of its slice, or is told by the next producer.
#[test]
fn a_producer_dies_and_one_sleeps() {
    let tally = crowd("channel, producer dies, 1 sleeps").each_death(|life, tally| {
        let ring = Ring::new(2);
        sit().unwrap();
        let mut stage = Stage::default();
        let consumer = sleeping_taker(&mut stage, &ring);
        let its = ring.clone();
        let mortal = stage.asleep_mortal(life, move || its.put(1));
        stage.begin();
        let lived = mortal.join().is_some();
        if !lived {
            ring.put(2);
        }
        let mut all = vec![consumer.join()];
        all.extend(ring.rest());
        assert!(if lived { all == [1] } else { all == [2] || all == [1, 2] }, "{all:?}");
        tally.count(usize::from(!lived) * all.len());
        in_order(&ring, 2, &[]);
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "it has died before its commit and after it");
}

#[test]
fn a_consumer_dies_and_one_pops() {
    let tally = duet("channel, consumer dies, 1 pops").each_death(|life, tally| {
        let ring = Ring::full(&[1, 2]);
        let mut stage = Stage::default();
        let its = ring.clone();
        let mortal = stage.mortal(life, move || its.take());
        let its = ring.clone();
        let consumer = stage.seated(move || its.take());
        stage.begin();
        let taken = consumer.join();
        let lived = mortal.join();
        let left = ring.rest();
        // A message is missing only if the dead one has taken it.
        let mut all: Vec<_> = left.iter().copied().chain([taken]).chain(lived).collect();
        all.sort_unstable();
        let missing = 2 - all.len();
        assert!(all == [1, 2] || (lived.is_none() && all.len() == 1), "{all:?}");
        tally.count(usize::from(lived.is_none()) * (1 + missing));
        assert_eq!(ring.stats().unwrap().taken, 2);
        in_order(&ring, 2, &[]);
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "it has died before its commit and after it");
}

#[test]
fn a_consumer_dies_and_one_waits_for_room() {
    let tally = crowd("channel, consumer dies, 1 waits for room").each_death(|life, tally| {
        let ring = Ring::full(&[1]);
        sit().unwrap();
        let mut stage = Stage::default();
        let its = ring.clone();
        let producer = stage.asleep(move || its.put(2));
        let its = ring.clone();
        let mortal = stage.asleep_mortal(life, move || its.pop_with(|_| world::breathe()).unwrap());
        stage.begin();
        let lived = mortal.join().is_some();
        let mut all = if lived { Vec::new() } else { ring.rest() };
        producer.join();
        all.extend(ring.rest());
        assert!(all == [2] || (all == [1, 2] && !lived), "{all:?}");
        tally.count(usize::from(!lived) * all.len());
        in_order(&ring, 1, &[]);
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "it has died before its commit and after it");
}

#[test]
fn who_closes_dies() {
    let tally = crowd("channel, closer dies, 1 sleeps").each_death(|life, tally| {
        let ring = Ring::new(1);
        sit().unwrap();
        let mut stage = Stage::default();
        let its = ring.clone();
        let consumer = stage.asleep(move || its.pop());
        let its = ring.clone();
        let mortal = stage.mortal(life, move || its.close().unwrap());
        stage.begin();
        let lived = mortal.join().is_some();
        let closed = ring.is_closed();
        assert!(closed || !lived);
        tally.count(usize::from(!lived) * (1 + usize::from(closed)));
        assert_eq!(ring.push(&[1; 8]).is_err(), closed);
        let taken = consumer.join();
        assert!(if closed { matches!(taken, Err(Error::Closed)) } else { taken.is_ok() }, "{taken:?}");
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "it has died before its commit and after it");
}

/// One leases and acknowledges, dying anywhere; another has the message then, unless it is done with.
#[test]
fn who_has_a_lease_dies() {
    let tally = duet("lease, holder dies, 1 waits").each_death(|life, tally| {
        let ring = Ring::full(&[1, 2]);
        let mut stage = Stage::default();
        let its = ring.clone();
        let other = stage.seated(move || {
            let leases = [Some(its.pop_lease().unwrap()), its.try_pop_lease().unwrap()];
            let seen: Vec<_> = leases.iter().flatten().map(|lease| (lease[0], lease.attempts())).collect();
            leases.into_iter().flatten().for_each(|lease| lease.ack().unwrap());
            seen
        });
        // Dead when all have their slots: a claim would bury it.
        let its = ring.clone();
        let mortal = stage.asleep_mortal(life, move || its.pop_lease().unwrap().ack().unwrap());
        stage.begin();
        let seen = other.join();
        let how = match seen[..] {
            [(2, 0)] if mortal.join().is_some() => 0,
            [(2, 0)] => 1,
            [(1, 0), (2, 0)] => 2,
            [(1, 1), (2, 0)] | [(2, 0), (1, 1)] => 3,
            _ => panic!("{seen:?}"),
        };
        tally.count(how);
        let stats = ring.stats().unwrap();
        assert_eq!((stats.returned, stats.taken), (u64::from(how == 3), 2), "{stats:?}");
        in_order(&ring, 2, &[]);
    });
    assert!(
        (0..4).all(|what| tally.seen(what) > 0),
        "alive; dead after the acknowledgement, before the lease, in between"
    );
}

/// The holder acknowledges while another looks at who has what.
#[test]
fn an_acknowledgement_and_a_look() {
    let tally = crowd("lease, holder dies while 1 looks").each_death(|life, tally| {
        let ring = Ring::full(&[1, 2]);
        let mut stage = Stage::default();
        let its = ring.clone();
        let mortal = stage.mortal(life, move || {
            let lease = its.pop_lease().unwrap();
            let index = lease[0];
            lease.ack().unwrap();
            index
        });
        let its = ring.clone();
        let other = stage.seated(move || its.try_take());
        stage.begin();
        let taken = other.join();
        let acknowledged = mortal.bury();
        let left = ring.rest();
        let all = left.len() + usize::from(taken.is_some()) + usize::from(acknowledged.is_some());
        assert!(all == 2 || (all == 1 && acknowledged.is_none()), "{taken:?} {acknowledged:?} {left:?}");
        tally.count(all);
        in_order(&ring, 2, &[]);
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "it has died after its commit and before it");
}

/// Who gives a worn-out message up dies anywhere on the way to the dead letters, and others push over what it leaves, with words that
/// would name a holder if they were taken for the head of a message.
#[test]
fn who_buries_a_letter_dies() {
    let tally = duet("lease, dies burying a letter, 1 pushes").each_death(|life, tally| {
        let channel = Channel::builder().capacity(48).max_message(16).max_attempts(1).build().unwrap();
        let long = [0xfe; 16];
        channel.push(&[1; 8]).unwrap();
        channel.pop().unwrap();
        channel.push(&[1; 8]).unwrap();
        let mut stage = Stage::default();
        let its = channel.clone();
        let mortal = stage.asleep_mortal(life, move || drop(its.pop_lease().unwrap()));
        let pushed = [(); 2].iter().filter(|()| channel.try_push(&long).is_ok()).count();
        stage.begin();
        let lived = mortal.bury().is_some();
        let left: Vec<_> = std::iter::from_fn(|| channel.try_pop().unwrap()).collect();
        let buried = channel.dead_letters().unwrap().stats().unwrap().waiting as usize;
        let kept = left.iter().filter(|message| **message == [1; 8]).count();
        assert_eq!(buried + kept, 1, "neither lost nor doubled: {left:?}");
        assert!(!lived || (buried, pushed) == (1, 2));
        assert_eq!(channel.stats().unwrap().returned, buried as u64, "it came back, or it did not");
        assert_eq!(left.iter().filter(|message| **message == long).count(), pushed, "{left:?}");
        assert_eq!(left.len(), kept + pushed, "{left:?}");
        tally.count(usize::from(!lived) * (buried + pushed));
    });
    assert!(
        (1..=3).all(|what| tally.seen(what) > 0),
        "it has died before the letter, after it, and when its room was free"
    );
}

/// Two deaths: of one that gives up a worn-out message, and of the one that makes good what that one has left.
fn both_die(tally: &Tally, [first, second]: [u32; 2]) -> [bool; 2] {
    let ring = Ring::of(1, 1);
    ring.put(1);
    let mut stage = Stage::default();
    let its = ring.clone();
    let mortal = stage.asleep_mortal(first, move || drop(its.pop_lease().unwrap()));
    let its = ring.clone();
    let rescuer = stage.mortal(second, move || its.try_take());
    stage.begin();
    let (lived, rescued) = (mortal.join(), rescuer.join());
    let died = [lived.is_none(), rescued.is_none()];
    let left = ring.rest();
    let buried = ring.dead_letters().unwrap().len();
    let taken = ring.stats().unwrap().taken as usize;
    let popped = usize::from(rescued.flatten().is_some());
    assert!(buried + popped + left.len() <= 1 && taken == 1, "doubled: {buried} {popped} {left:?}");
    // The rescuer may have popped it and died.
    assert!(buried + popped + left.len() == 1 || died[1], "lost");
    tally.count(2 * usize::from(died[0]) + usize::from(died[1]));
    in_order(&ring, 1, &[]);
    died
}

#[test]
fn who_makes_a_death_good_dies_too() {
    let tally =
        crowd("lease, dies burying a letter, rescuer dies").each_two_deaths(|lives, tally| both_die(tally, lives));
    assert!(tally.seen(2) > 20 && tally.seen(3) > 100, "one has died, and both");
}
