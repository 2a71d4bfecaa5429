//! Sessions: an end that its thread keeps from message to message, gives way with, sleeps without, and dies with.

use commons::Error;
use commons::harness::{sit, world};
use loom_tests::{Data, Part, Play, Stage, crowd, duet};

use crate::channel::{Ring, message, number, taker};
use crate::channel_sleep::{sleeping_putter, sleeping_taker};

/// What a thread does that pushes `numbers` by a session.
fn pushes<const N: usize>(ring: &Ring, numbers: [u8; N]) -> impl FnOnce() + 'static {
    let ring = ring.clone();
    move || {
        let mut session = ring.push_session();
        numbers.iter().for_each(|number| session.push(&message(*number)).unwrap());
    }
}

/// What a thread does that pops by a session, up to a message of those `last`.
fn pops(ring: &Ring, last: impl Fn(u8) -> bool + 'static) -> impl FnOnce() -> Vec<u8> + 'static {
    let ring = ring.clone();
    move || {
        let (mut session, mut taken) = (ring.pop_session(), Vec::new());
        while taken.last().is_none_or(|taken| !last(*taken)) {
            taken.push(number(&session.pop().unwrap()));
        }
        taken
    }
}

fn two_sessions(play: Play, room: usize, looks: u32) {
    let tally = play.all(move |tally| {
        let (ring, data) = (Ring::new(room), Data::default());
        let mut stage = Stage::default();
        world::looks(looks);
        let (its, its_data) = (ring.clone(), data.clone());
        let producer = stage.seated(move || {
            let mut session = its.push_session();
            its_data.raise();
            session.push(&message(1)).unwrap();
            let asleep = world::asleep();
            session.push(&message(2)).unwrap();
            asleep
        });
        let (pop, its_data) = (pops(&ring, |_| true), data.clone());
        let consumer = stage.seated(move || {
            let taken = pop();
            assert_eq!(its_data.whole(), 1, "what was done before the push is seen");
            taken
        });
        stage.begin();
        tally.count(producer.join());
        assert_eq!((consumer.join(), ring.rest()), (vec![1], vec![2]));
        let stats = ring.stats().unwrap();
        assert_eq!((stats.pushed, stats.taken), (2, 2));
        ring.put(3);
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "the consumer has been late, and asleep");
}

#[test]
fn two_sessions_and_room_for_one() {
    two_sessions(duet("session, 1 pushes 2, 1 pops"), 1, 0);
}

/// Who looks before it sleeps keeps its end meanwhile.
#[test]
fn two_sessions_that_look() {
    two_sessions(duet("session, 1 pushes 2, 1 pops, both look"), 2, 1);
}

#[test]
fn a_session_and_a_plain_producer() {
    let tally = duet("session, 1 pushes 2, 1 pushes").all(|tally| {
        let ring = Ring::new(3);
        let mut stage = Stage::default();
        let session = stage.seated(pushes(&ring, [1, 2]));
        let its = ring.clone();
        let plain = stage.seated(move || its.put(9));
        stage.begin();
        session.join();
        plain.join();
        let mut all = ring.rest();
        tally.count(all.iter().position(|number| *number == 9).unwrap());
        all.retain(|number| *number != 9);
        assert_eq!(all, [1, 2]);
        assert_eq!(ring.stats().unwrap().pushed, 3);
    });
    assert!((0..3).all(|at| tally.seen(at) > 0), "before, between, and after");
}

#[test]
fn a_session_and_a_plain_consumer() {
    let tally = duet("session, 1 pops, 1 pops").all(|tally| {
        let ring = Ring::full(&[1, 2, 3]);
        let mut stage = Stage::default();
        let its = ring.clone();
        let session = stage.seated(move || {
            let mut session = its.pop_session();
            [(); 2].map(|()| number(&session.pop().unwrap()))
        });
        let plain = taker(&mut stage, &ring);
        stage.begin();
        let (two, one) = (session.join(), plain.join());
        assert!(two[0] < two[1] && one + two[0] + two[1] == 6, "{two:?} {one}");
        tally.count(one.into());
        assert_eq!((ring.len(), ring.stats().unwrap().taken), (0, 3));
    });
    assert!((1..4).all(|which| tally.seen(which) > 0), "before, between, and after");
}

/// It sleeps already when the session comes to its next message, and the session does nothing more until it has had its turn.
#[test]
fn who_wants_the_producers_end_gets_it() {
    crowd("session, 1 wants to push").all(|_| {
        let ring = Ring::new(6);
        sit().unwrap();
        let mut session = ring.push_session();
        session.push(&message(1)).unwrap();
        let mut stage = Stage::default();
        let other = sleeping_putter(&mut stage, &ring, 9);
        stage.begin();
        session.push(&message(2)).unwrap();
        other.join();
        // For this message as well it does not keep the lock: its own thread has it.
        session.push(&message(3)).unwrap();
        ring.put(4);
        session.push(&message(5)).unwrap();
        assert!(matches!(ring.push(&message(6)), Err(Error::WouldDeadlock { .. })), "now it does");
        drop(session);
        assert_eq!(ring.rest(), [1, 2, 9, 3, 4, 5]);
    });
}

#[test]
fn who_wants_the_consumers_end_gets_it() {
    crowd("session, 1 wants to pop").all(|_| {
        let ring = Ring::full(&[1, 2, 3, 4, 5]);
        sit().unwrap();
        let mut session = ring.pop_session();
        assert_eq!(session.pop().unwrap(), message(1));
        let mut stage = Stage::default();
        let other = sleeping_taker(&mut stage, &ring);
        stage.begin();
        assert_eq!(session.pop().unwrap(), message(2));
        assert_eq!(other.join(), 3);
        assert_eq!(session.pop().unwrap(), message(4));
        assert_eq!(ring.stats().unwrap().waiting, 1);
        assert_eq!(session.pop().unwrap(), message(5));
        assert!(matches!(ring.stats(), Err(Error::WouldDeadlock { .. })), "now it keeps the lock");
    });
}

/// Who sleeps has not got the lock: somebody else takes it, and ends the sleep.
#[test]
fn a_session_that_waits_for_room_keeps_nothing() {
    let tally = crowd("session, closed while it waits for room").all(|tally| {
        let ring = Ring::full(&[1]);
        sit().unwrap();
        let mut stage = Stage::default();
        let its = ring.clone();
        let producer = stage.seated(move || its.push_session().push(&message(2)).unwrap_err().to_string());
        stage.begin();
        ring.close().unwrap();
        tally.count(world::asleep());
        assert_eq!(producer.join(), Error::Closed.to_string());
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "the producer has been late, and asleep");
}

#[test]
fn a_session_that_waits_for_a_message_keeps_nothing() {
    let tally = crowd("session, looked at while it waits for a message").all(|tally| {
        let ring = Ring::new(1);
        sit().unwrap();
        let mut stage = Stage::default();
        let consumer = stage.seated(pops(&ring, |_| true));
        stage.begin();
        assert_eq!(ring.stats().unwrap().taken, 0);
        tally.count(world::asleep());
        ring.put(1);
        assert_eq!(consumer.join(), [1]);
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "the consumer has been late, and asleep");
}

/// Only the first of two pushes meets the flag, and the one it wakes may be the session.
#[test]
fn a_session_wakes_the_next_consumer() {
    crowd("session, 2 consumers sleep, 2 pushes").all(|_| {
        let ring = Ring::new(2);
        sit().unwrap();
        let mut stage = Stage::default();
        let session = stage.asleep(pops(&ring, |_| true));
        let plain = sleeping_taker(&mut stage, &ring);
        stage.begin();
        ring.put(1);
        ring.put(2);
        let taken = [session.join()[0], plain.join()];
        assert!(taken == [1, 2] || taken == [2, 1], "{taken:?}");
    });
}

#[test]
fn a_session_wakes_the_next_producer() {
    crowd("session, 2 producers sleep, 2 pops").all(|_| {
        let ring = Ring::full(&[1, 2]);
        sit().unwrap();
        let mut stage = Stage::default();
        let parts = [stage.asleep(pushes(&ring, [3])), sleeping_putter(&mut stage, &ring, 4)];
        stage.begin();
        assert_eq!((ring.take(), ring.take()), (1, 2));
        parts.iter().for_each(Part::join);
        let all = ring.rest();
        assert!(all == [3, 4] || all == [4, 3], "{all:?}");
    });
}

/// It dies with its end in hand, between messages as well as in the middle of one.
#[test]
fn a_push_session_dies_and_a_session_pops() {
    let tally = crowd("session, pusher dies, 1 pops").each_death(|life, tally| {
        let ring = Ring::new(3);
        sit().unwrap();
        let mut stage = Stage::default();
        let consumer = stage.asleep(pops(&ring, |_| true));
        let mortal = stage.mortal(life, pushes(&ring, [1, 2]));
        stage.begin();
        let lived = mortal.join().is_some();
        if !lived {
            ring.put(9);
        }
        let mut all = consumer.join();
        all.extend(ring.rest());
        let whole = if lived { all == [1, 2] } else { [&[9][..], &[1, 9], &[1, 2, 9]].contains(&&all[..]) };
        assert!(whole, "{all:?}");
        tally.count(if lived { 0 } else { all.len() });
        assert_eq!(ring.stats().unwrap().pushed, all.len() as u64);
    });
    assert!((1..4).all(|n| tally.seen(n) > 0), "it has died before its commits, between, and after");
}

#[test]
fn a_pop_session_dies_and_a_session_pushes() {
    let tally = crowd("session, popper dies, 1 pushes").each_death(|life, tally| {
        let ring = Ring::full(&[1]);
        sit().unwrap();
        let mut stage = Stage::default();
        let producer = stage.asleep(pushes(&ring, [2]));
        let mortal = stage.asleep_mortal(life, pops(&ring, |_| true));
        stage.begin();
        let lived = mortal.join().is_some();
        // Room, should there be none.
        let mut all: Vec<_> = if lived { None } else { ring.try_take() }.into_iter().collect();
        producer.join();
        all.extend(ring.rest());
        assert!(all == [2] || (!lived && all == [1, 2]), "{all:?}");
        tally.count(if lived { 0 } else { all.len() });
        assert_eq!(ring.stats().unwrap().taken, 2);
    });
    assert!((1..3).all(|n| tally.seen(n) > 0), "it has died after its commit, and before");
}

#[test]
fn a_pop_session_dies_and_one_pops() {
    let tally = crowd("session, popper dies, 1 pops").each_death(|life, tally| {
        let ring = Ring::full(&[1, 2, 3]);
        let mut stage = Stage::default();
        let mortal = stage.mortal(life, pops(&ring, |last| last >= 2));
        let plain = taker(&mut stage, &ring);
        stage.begin();
        let taken = plain.join();
        let lived = mortal.join();
        // Those that are missing the dead one has taken.
        let mut all: Vec<_> = ring.rest().into_iter().chain([taken]).collect();
        let died = lived.is_none();
        all.extend(lived.into_iter().flatten());
        all.sort_unstable();
        let missing = 3 - all.len();
        assert!(all.is_sorted_by(|a, b| a < b) && (died || missing == 0), "{all:?}");
        tally.count(if died { 1 + missing } else { 0 });
        assert_eq!(ring.stats().unwrap().taken, 3);
    });
    assert!((1..4).all(|n| tally.seen(n) > 0), "it has died before its commits, between, and after");
}

#[test]
fn a_push_session_dies_and_one_pushes() {
    let tally = crowd("session, pusher dies, 1 pushes").each_death(|life, tally| {
        let ring = Ring::new(3);
        let mut stage = Stage::default();
        let mortal = stage.mortal(life, pushes(&ring, [1, 2]));
        let its = ring.clone();
        let plain = stage.seated(move || its.put(9));
        stage.begin();
        plain.join();
        let lived = mortal.join().is_some();
        let mut all = ring.rest();
        let before = all.len();
        all.retain(|number| *number != 9);
        assert!(before == all.len() + 1 && all == [1, 2][..all.len()] && (!lived || all.len() == 2), "{all:?}");
        tally.count(if lived { 0 } else { before });
    });
    assert!((1..4).all(|n| tally.seen(n) > 0), "it has died before its commits, between, and after");
}
