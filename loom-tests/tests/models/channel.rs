//! The channel: those who push, and those who pop. Nobody dies, and nobody has to sleep.

use std::ops::Deref;

use commons::{Channel, Error};
use loom_tests::{Data, Part, Stage, duet};

/// A channel with messages of one word: two words of the ring each.
#[derive(Clone)]
pub struct Ring {
    channel: Channel,
}

impl Deref for Ring {
    type Target = Channel;
    fn deref(&self) -> &Channel {
        &self.channel
    }
}

impl Ring {
    /// With room for so many messages.
    pub fn new(room: usize) -> Ring {
        Ring::of(room, 0)
    }

    /// The same; a message that came back so often goes to the dead letters.
    pub fn of(room: usize, max_attempts: u32) -> Ring {
        let builder = Channel::builder().capacity(room * 16).max_message(8).max_attempts(max_attempts);
        Ring { channel: builder.build().unwrap() }
    }

    /// Of so many bytes, for messages of any length.
    pub fn bytes(bytes: usize, max_message: usize) -> Ring {
        Ring { channel: Channel::builder().capacity(bytes).max_message(max_message).build().unwrap() }
    }

    /// With one message for each of `numbers`, and no more room.
    pub fn full(numbers: &[u8]) -> Ring {
        let ring = Ring::new(numbers.len());
        numbers.iter().for_each(|number| ring.put(*number));
        ring
    }

    pub fn put(&self, number: u8) {
        self.push(&message(number)).unwrap();
    }

    /// Whether there was room.
    pub fn try_put(&self, number: u8) -> bool {
        match self.try_push(&message(number)) {
            Ok(()) => true,
            Err(Error::Full { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    pub fn take(&self) -> u8 {
        number(&self.pop().unwrap())
    }

    pub fn try_take(&self) -> Option<u8> {
        self.try_pop().unwrap().map(|message| number(&message))
    }

    /// All that is left.
    pub fn rest(&self) -> Vec<u8> {
        std::iter::from_fn(|| self.try_take()).collect()
    }
}

pub fn message(number: u8) -> [u8; 8] {
    [number; 8]
}

pub fn number(message: &[u8]) -> u8 {
    assert!(message.len() == 8 && message.iter().all(|byte| *byte == message[0]), "{message:?} is torn");
    message[0]
}

/// One that takes a message, and sleeps until there is one.
pub fn taker(stage: &mut Stage, ring: &Ring) -> Part<u8> {
    let ring = ring.clone();
    stage.seated(move || ring.take())
}

#[test]
fn a_message_is_seen_whole_or_not_at_all() {
    let tally = duet("channel, 1 pushes, 1 pops").all(|tally| {
        let (ring, data) = (Ring::new(1), Data::default());
        let mut stage = Stage::default();
        let (its, its_data) = (ring.clone(), data.clone());
        let producer = stage.seated(move || {
            its_data.raise();
            its.put(1);
        });
        let (its, its_data) = (ring.clone(), data.clone());
        let consumer = stage.seated(move || {
            let taken = its.try_take();
            taken.inspect(|_| assert_eq!(its_data.whole(), 1, "what was done before the push is seen"))
        });
        stage.begin();
        producer.join();
        let taken = consumer.join();
        tally.count(usize::from(taken.is_some()));
        assert_eq!(taken.into_iter().chain(ring.rest()).collect::<Vec<_>>(), [1]);
        let stats = ring.stats().unwrap();
        assert_eq!((stats.pushed, stats.taken), (1, 1));
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "each has been first");
}

/// Room is there when what it held has been used, and not before.
#[test]
fn room_is_used_again_when_it_is_free() {
    let tally = duet("channel, 1 pops, 1 pushes").all(|tally| {
        let (ring, data) = (Ring::full(&[1]), Data::default());
        let mut stage = Stage::default();
        let (its, its_data) = (ring.clone(), data.clone());
        let consumer = stage.seated(move || {
            let shown = its.pop_with(|message| {
                its_data.raise();
                number(message)
            });
            assert_eq!(shown.unwrap(), 1);
        });
        let (its, its_data) = (ring.clone(), data.clone());
        let producer = stage.seated(move || {
            let done = its.try_put(2);
            if done {
                assert_eq!(its_data.whole(), 1, "what was done with the message happened before its room was used");
            }
            done
        });
        stage.begin();
        consumer.join();
        let done = producer.join();
        tally.count(usize::from(done));
        assert_eq!(ring.rest(), if done { vec![2] } else { vec![] });
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "each has been first");
}

#[test]
fn two_producers_and_their_messages() {
    let tally = duet("channel, 2 push").all(|tally| {
        let ring = Ring::new(2);
        let mut stage = Stage::default();
        let parts = [1, 2].map(|number| {
            let its = ring.clone();
            stage.seated(move || its.put(number))
        });
        stage.begin();
        parts.iter().for_each(Part::join);
        let stats = ring.stats().unwrap();
        assert_eq!((stats.pushed, stats.waiting, ring.len()), (2, 2, 2));
        let all = ring.rest();
        assert!(all == [1, 2] || all == [2, 1], "{all:?}");
        tally.count(usize::from(all[0]));
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "each has been first");
}

#[test]
fn the_last_room_is_for_one_alone() {
    let tally = duet("channel, 2 want the last room").all(|tally| {
        let ring = Ring::new(1);
        let mut stage = Stage::default();
        let parts = [1, 2].map(|number| {
            let its = ring.clone();
            stage.seated(move || its.try_put(number))
        });
        stage.begin();
        let done = parts.map(|part| part.join());
        assert!(done[0] != done[1], "exactly one fits");
        tally.count(usize::from(done[0]));
        assert_eq!(ring.rest(), if done[0] { [1] } else { [2] });
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "each has had it");
}

#[test]
fn a_message_is_for_one_consumer() {
    let tally = duet("channel, 2 pop").all(|tally| {
        let ring = Ring::full(&[1, 2]);
        let mut stage = Stage::default();
        let parts = [(); 2].map(|()| taker(&mut stage, &ring));
        stage.begin();
        let taken = parts.map(|part| part.join());
        assert!(taken == [1, 2] || taken == [2, 1], "{taken:?}");
        tally.count(usize::from(taken[0]));
        assert!(ring.is_empty());
        assert_eq!(ring.stats().unwrap().taken, 2);
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "each has been first");
}

#[test]
fn several_at_once_are_seen_at_once() {
    let tally = duet("channel, push_many and drain").all(|tally| {
        let ring = Ring::new(2);
        let mut stage = Stage::default();
        let its = ring.clone();
        let producer = stage.seated(move || its.push_many(&[message(1), message(2)]).unwrap());
        let its = ring.clone();
        let consumer = stage.seated(move || {
            let mut taken = Vec::new();
            let count = its.drain(usize::MAX, |message| taken.push(number(message))).unwrap();
            assert_eq!(count, taken.len());
            taken
        });
        stage.begin();
        producer.join();
        let taken = consumer.join();
        assert!(taken.is_empty() || taken == [1, 2], "{taken:?}");
        tally.count(taken.len());
        assert_eq!(ring.rest().len(), 2 - taken.len());
    });
    assert!(tally.seen(0) > 0 && tally.seen(2) > 0, "each has been first");
}

/// What was pushed before the end is there.
#[test]
fn the_end_comes_before_or_after_a_push() {
    let tally = duet("channel, closed while one pushes").all(|tally| {
        let ring = Ring::new(1);
        let mut stage = Stage::default();
        let its = ring.clone();
        let producer = stage.seated(move || its.push(&message(1)).is_ok());
        let its = ring.clone();
        let closer = stage.seated(move || its.close().unwrap());
        stage.begin();
        closer.join();
        let done = producer.join();
        tally.count(usize::from(done));
        assert!(ring.is_closed());
        assert_eq!(ring.try_pop().is_ok(), done);
        assert!(matches!(ring.try_pop(), Err(Error::Closed)));
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "each has been first");
}

#[test]
fn the_figures_of_one_moment() {
    let tally = duet("channel, figures while one pushes and pops").all(|tally| {
        let ring = Ring::new(2);
        ring.put(1);
        let mut stage = Stage::default();
        let its = ring.clone();
        let other = stage.seated(move || {
            assert_eq!(its.take(), 1);
            its.put(2);
        });
        let its = ring.clone();
        let reader = stage.seated(move || its.stats().unwrap());
        stage.begin();
        let stats = reader.join();
        assert_eq!(stats.pushed, stats.taken + stats.waiting, "{stats:?}");
        assert!(stats.pushed - 1 <= stats.taken && stats.taken <= 1, "{stats:?}");
        tally.count((stats.pushed + stats.taken) as usize);
        other.join();
    });
    assert!((1..=3).all(|what| tally.seen(what) > 0), "before, between, and after");
}
