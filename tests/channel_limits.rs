//! The channel's edges: what is refused says what, which value and which limit, and leaves the memory as it was.

#![allow(unsafe_code)] // fork

mod common;
mod memory;

use std::cell::Cell;
use std::time::Duration;

use common::{in_child, leave};
use commons::{Channel, ChannelBuilder, Error, Region};
use memory::{deeds, words};

const MOST: usize = ((1 << 26) - 1) * 8;

fn build(set: impl FnOnce(ChannelBuilder) -> ChannelBuilder) -> Result<Channel, Error> {
    set(Channel::builder().capacity(64)).build()
}

fn text<T>(result: Result<T, Error>) -> String {
    result.err().expect("it is refused").to_string()
}

#[test]
fn sizes_have_limits() {
    let size = |value| format!("a channel's size in bytes is {value}, allowed are 16..={MOST}");
    for bytes in [0, 1, 15, MOST + 1, usize::MAX] {
        assert_eq!(text(Channel::new(bytes)), size(bytes));
    }
    assert_eq!(text(Channel::builder().build()), size(0));
    assert_eq!((Channel::new(16).unwrap().capacity(), Channel::new(MOST).unwrap().capacity()), (16, MOST));

    let longest = |value, max: usize| format!("the longest message in bytes is {value}, allowed are 1..={max}");
    for bytes in [0, 57, usize::MAX] {
        assert_eq!(text(build(|builder| builder.max_message(bytes))), longest(bytes, 56));
    }
    assert_eq!(build(|builder| builder.max_message(56)).unwrap().max_message(), 56);
    let huge = |bytes| Channel::builder().capacity(MOST).max_message(bytes).build();
    assert_eq!(text(huge(1 << 28)), longest(1 << 28, (1 << 28) - 1));
    assert_eq!(huge((1 << 28) - 1).unwrap().max_message(), (1 << 28) - 1);

    for attempts in [63, u32::MAX] {
        let told = text(build(|builder| builder.max_attempts(attempts)));
        assert_eq!(told, format!("the number of attempts is {attempts}, allowed are 0..=62"));
    }
    assert!(build(|builder| builder.max_attempts(62)).unwrap().dead_letters().is_some());
}

#[test]
fn a_region_without_room_says_how_much_is_missing() {
    let region = Region::new("small", 600).unwrap();
    let before = words("small");
    let refused = Channel::new_in(&region, 400).unwrap_err();
    assert!(matches!(refused, Error::OutOfMemory { asked, left: 600 } if asked > 600 && asked < 1000), "{refused}");
    assert!(words("small") == before && region.used() == 0);
    // The dead letters need as much again.
    assert!(matches!(
        Channel::builder().capacity(64).max_attempts(1).build_in(&region),
        Err(Error::OutOfMemory { left: 600, .. })
    ));
    assert!(words("small") == before && region.used() == 0);
    assert!(Channel::builder().capacity(64).build_in(&region).is_ok());
}

/// The words of the region in which `refused` has changed anything, counted from the channel's first.
fn touched(name: &str, refused: impl Fn()) -> Vec<usize> {
    // What an end remembers of the other is brought up to date the first time.
    refused();
    let before = words(name);
    refused();
    let after = words(name);
    let (_, _, start) = deeds(&before)[0];
    let changed = (0..before.len()).filter(|at| before[*at] != after[*at]);
    changed.map(|at| at.checked_sub(start).expect("the region's head is not touched")).collect()
}

const NOTHING: [usize; 0] = [];
const PRODUCERS_LOCK: usize = 0;
const CONSUMERS_LOCK: usize = 16;
/// What an end has learned of its pace, at the end's fifth word: a hint for whoever looks next, and counted with every look in vain.
const PACE: usize = 4;

#[test]
fn what_is_refused_changes_nothing() {
    let region = Region::new("refused", 4096).unwrap();
    let channel = Channel::builder().capacity(64).max_message(48).build_in(&region).unwrap();
    channel.push(&[1; 5]).unwrap();
    let too_long = |result: Result<(), Error>, len: usize, max: usize| {
        assert_eq!(text(result), format!("the message has {len} bytes, at most {max} are allowed"));
    };
    let long = [0; 49];
    assert_eq!(touched("refused", || too_long(channel.push(&long), 49, 48)), NOTHING);
    assert_eq!(touched("refused", || too_long(channel.try_push(&long), 49, 48)), NOTHING);
    assert_eq!(touched("refused", || too_long(channel.push_timeout(&long, Duration::MAX), 49, 48)), NOTHING);
    // One of them is too long, or all together.
    assert_eq!(touched("refused", || too_long(channel.push_many(&[&long[..1], &long]), 49, 48)), NOTHING);
    assert_eq!(touched("refused", || too_long(channel.push_many(&[[0; 48]; 2]), 112, 64)), NOTHING);
    assert_eq!(touched("refused", || channel.push_many::<&[u8]>(&[]).unwrap()), NOTHING);

    // Those who have to look have had the lock, whose version tells.
    let no_room = || {
        assert!(matches!(channel.try_push(&[0; 48]), Err(Error::Full { capacity: 64 })));
        assert_eq!(
            text(channel.try_push(&[0; 48])),
            "full: all room is taken, which is 64 (rows of a table, bytes of a channel, timers)"
        );
    };
    assert_eq!(touched("refused", no_room), [PRODUCERS_LOCK, PRODUCERS_LOCK + PACE]);
    assert_eq!(channel.pop().unwrap(), [1; 5]);
    let nothing = || {
        assert_eq!((channel.try_pop().unwrap(), channel.peek().unwrap()), (None, None));
        assert!(channel.try_pop_lease().unwrap().is_none());
        assert_eq!(
            (channel.drain(0, |_| unreachable!()).unwrap(), channel.drain(9, |_| unreachable!()).unwrap()),
            (0, 0)
        );
    };
    assert_eq!(touched("refused", nothing), [CONSUMERS_LOCK, CONSUMERS_LOCK + PACE]);

    channel.close().unwrap();
    let closed = || {
        assert!(matches!(channel.push(b"x"), Err(Error::Closed)));
        assert_eq!(text(channel.try_push(b"x")), "closed: the channel takes no more, or the connection is gone");
        assert!(matches!(channel.push_timeout(b"x", Duration::MAX), Err(Error::Closed)));
        assert!(matches!(channel.push_many(&[b"x"]), Err(Error::Closed)));
    };
    assert_eq!(touched("refused", closed), [PRODUCERS_LOCK]);
    let drained = || {
        assert!(matches!(channel.pop(), Err(Error::Closed)));
        assert!(matches!(channel.try_pop(), Err(Error::Closed)));
        assert!(matches!(channel.drain(1, |_| ()), Err(Error::Closed)));
        assert!(matches!(channel.pop_lease(), Err(Error::Closed)));
    };
    assert_eq!(touched("refused", drained), [CONSUMERS_LOCK, CONSUMERS_LOCK + PACE]);
    assert_eq!(touched("refused", || too_long(channel.push(&long), 49, 48)), NOTHING);
}

/// Repair tells by the number of dead letters what one has left that died over one of them.
#[test]
fn dead_letters_are_nobodys_to_push() {
    let region = Region::new("letters", 4096).unwrap();
    let channel = Channel::builder().capacity(64).max_attempts(1).build_in(&region).unwrap();
    let letters = channel.dead_letters().unwrap();
    let is_refused = |result: Result<(), Error>| {
        assert_eq!(text(result), "dead letters take only what comes back to their channel: push to that channel");
    };
    let pushes = || {
        is_refused(letters.push(b""));
        is_refused(letters.try_push(b"own"));
        is_refused(letters.push_timeout(&[0; 99], Duration::MAX));
        is_refused(letters.push_many(&["a", "b"]));
        is_refused(letters.push_session().push(b"own"));
    };
    assert_eq!(touched("letters", pushes), NOTHING);
    assert_eq!((letters.capacity(), letters.max_message()), (channel.capacity(), channel.max_message()));
    for _ in 0..10 {
        channel.push(b"worn").unwrap();
        drop(channel.pop_lease().unwrap());
    }
    assert_eq!((letters.len(), channel.len()), (4, 0));
    assert_eq!(letters.pop_lease().unwrap().ack().map_err(|e| e.to_string()), Ok(()));
    assert_eq!(letters.push_session().try_push(b"").map_err(|e| matches!(e, Error::DeadLetters)), Err(true));
}

/// Whose `as_ref` gives more each time, and counts how often it was asked.
struct Growing {
    bytes: Vec<u8>,
    len: Cell<usize>,
    asked: Cell<u32>,
}

impl AsRef<[u8]> for Growing {
    fn as_ref(&self) -> &[u8] {
        self.asked.set(self.asked.get() + 1);
        let len = self.len.replace((self.len.get() + 8).min(self.bytes.len()));
        &self.bytes[..len]
    }
}

/// What it says the first time counts, and it is not asked again: nothing of its neighbours is written over, at any place in the ring and however
/// many there are.
#[test]
fn messages_that_grow_are_what_they_were_at_first() {
    for many in [1, 3, 32, 33, 50] {
        let words = 2 * many;
        let channel = Channel::new((words + 3) * 8).unwrap();
        for turn in 0..words {
            channel.push(b"before").unwrap();
            let growing = |n| Growing { bytes: vec![n as u8; 64], len: Cell::new(n % 9), asked: Cell::new(0) };
            let messages: Vec<_> = (0..many).map(growing).collect();
            let mut expected: Vec<_> = (0..many).map(|n| vec![n as u8; n % 9]).collect();
            channel.push_many(&messages).unwrap();
            assert!(messages.iter().all(|message| message.asked.get() == 1));
            let room = channel.try_push(b"").is_ok();
            let mut all = Vec::new();
            channel.drain(1, |message| assert_eq!(message, b"before")).unwrap();
            assert_eq!(
                channel.drain(usize::MAX, |message| all.push(message.to_vec())).unwrap(),
                many + usize::from(room)
            );
            expected.extend(room.then(Vec::new));
            assert_eq!(all, expected, "turn {turn}");
        }
    }
}

/// What the caller's `as_ref` does is not done in the middle of the ring.
#[test]
fn messages_may_push_and_panic() {
    struct Pushing<'c>(&'c Channel, u8);
    impl AsRef<[u8]> for Pushing<'_> {
        fn as_ref(&self) -> &[u8] {
            assert!(self.1 < 3, "{} is too many", self.1);
            self.0.push(&[self.1]).unwrap();
            b"outer"
        }
    }
    let channel = Channel::new(256).unwrap();
    channel.push_many(&[Pushing(&channel, 1), Pushing(&channel, 2)]).unwrap();
    let all: Vec<_> = (0..4).map(|_| channel.pop().unwrap()).collect();
    assert_eq!(all, [&[1][..], &[2], b"outer", b"outer"]);
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        channel.push_many(&[Pushing(&channel, 1), Pushing(&channel, 3)])
    }));
    assert!(panics.is_err());
    assert_eq!((channel.pop().unwrap(), channel.try_pop().unwrap()), (vec![1], None));
}

#[test]
fn waiting_ends_when_it_was_to() {
    let channel = Channel::new(16).unwrap();
    for asked in [Duration::ZERO, Duration::from_millis(3)] {
        let told = text(channel.pop_timeout(asked));
        assert_eq!(told, format!("timed out after {asked:?}"));
        assert!(matches!(channel.pop_lease_timeout(asked), Err(Error::Timeout { after }) if after == asked));
        assert!(matches!(Channel::select(&[&channel], Some(asked)), Err(Error::Timeout { after }) if after == asked));
    }
    channel.push_many(&["", ""]).unwrap();
    let asked = Duration::from_millis(3);
    assert!(matches!(channel.push_timeout(b"", asked), Err(Error::Timeout { after }) if after == asked));
    assert!(matches!(Channel::select(&[], None), Err(Error::OutOfRange { value: 0, min: 1, .. })));
}

/// They take a word each, and are messages like any other.
#[test]
fn empty_messages_are_messages() {
    let channel = Channel::builder().capacity(16).max_message(1).max_attempts(2).build().unwrap();
    for _ in 0..100 {
        channel.push(b"").unwrap();
        channel.push(b"").unwrap();
        assert!(channel.is_full() && matches!(channel.try_push(b""), Err(Error::Full { .. })));
        assert_eq!((channel.len(), channel.bytes()), (2, 16));
        let lease = channel.pop_lease().unwrap();
        assert!(lease.is_empty());
        assert_eq!(channel.pop().unwrap(), b"");
        drop(lease);
        assert_eq!(channel.drain(9, |message| assert!(message.is_empty())).unwrap(), 1);
    }
    channel.push(b"").unwrap();
    drop(channel.pop_lease().unwrap());
    drop(channel.pop_lease().unwrap());
    assert_eq!((channel.try_pop().unwrap(), channel.dead_letters().unwrap().pop().unwrap()), (None, vec![]));
    assert!(matches!(channel.push(b"12"), Err(Error::TooLong { len: 2, max: 1 })));
    assert_eq!((channel.stats().unwrap().pushed, channel.stats().unwrap().returned), (201, 102));
}

/// Of the greatest length that the ring allows, at each place where it can begin.
#[test]
fn the_longest_message_goes_round() {
    let channel = Channel::builder().capacity(96).max_message(88).build().unwrap();
    for n in 0..100_u8 {
        // One word, so that the next begins a word later.
        channel.push(b"").unwrap();
        assert_eq!(channel.pop().unwrap(), b"");
        let message: Vec<u8> = (0..88).map(|byte| byte ^ n).collect();
        channel.push(&message).unwrap();
        assert!(channel.is_full() && channel.bytes() == 96);
        assert_eq!(channel.pop().unwrap(), message);
    }
}

/// What a thread has in its hands is nobody else's, not even its child's.
#[test]
fn a_lease_is_not_inherited() {
    let channel = Channel::new(256).unwrap();
    channel.push_many(&["a", "b"]).unwrap();
    let (mut first, mut second) = (Some(channel.pop_lease().unwrap()), Some(channel.pop_lease().unwrap()));
    in_child(|| {
        let told = text(first.take().unwrap().ack());
        assert_eq!(told, "the lease is not this thread's any more");
        drop(second.take());
        assert_eq!(channel.try_pop().unwrap(), None);
    })
    .join();
    assert_eq!((channel.stats().unwrap().leased, channel.stats().unwrap().returned), (2, 0));
    first.take().unwrap().ack().unwrap();
    drop(second.take());
    assert_eq!(channel.pop().unwrap(), b"b");
}

/// A way to take messages, which shows each to the closure.
type Taking<'a> = dyn Fn(&mut dyn FnMut(&[u8])) + 'a;

/// Of a process that is forked inside a closure, and comes back from it, the message is none.
#[test]
fn a_closure_that_forks_takes_once() {
    in_child(|| {
        let channel = &Channel::new(256).unwrap();
        let both = |take: &Taking<'_>| {
            channel.push_many(&["a", "b"]).unwrap();
            let mut child = -1;
            take(&mut |_| {
                if child == -1 {
                    // SAFETY: this process has one thread; the child does what stands below and leaves by `_exit`.
                    child = unsafe { libc::fork() };
                }
            });
            if child == 0 {
                // Its parent is not done yet, or is: either way nothing is taken here.
                leave(0);
            }
            let mut status = -1;
            // SAFETY: waits for the child forked above; the kernel writes into `status`.
            let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!((waited, status), (child, 0));
        };
        both(&|f| channel.pop_with(f).unwrap());
        assert_eq!((channel.len(), channel.pop().unwrap()), (1, b"b".to_vec()));
        both(&|f| _ = channel.drain(9, f).unwrap());
        assert_eq!((channel.len(), channel.try_pop().unwrap()), (0, None));
    })
    .join();
}

/// Nor does it look any further: what it would note of the tail, without the lock, would be read as if the lock's owner had written it.
#[test]
fn a_drain_that_forks_drains_in_one_process() {
    in_child(|| {
        let region = Region::new("drained", 4096).unwrap();
        let channel = &Channel::new_in(&region, 1024).unwrap();
        let drains_in_one = |leased: bool| {
            channel.push(b"a").unwrap();
            let (mut child, mut seen, mut before) = (-1, Vec::new(), Vec::new());
            let drained = channel.drain(9, |message| {
                seen.push(message.to_vec());
                if child != -1 {
                    return;
                }
                // SAFETY: this process has one thread; the child does what stands below and leaves by `_exit`.
                child = unsafe { libc::fork() };
                if child == 0 {
                    // It is there when the child's closure returns.
                    channel.push(b"b").unwrap();
                    before = words("drained");
                    return;
                }
                let mut status = -1;
                // SAFETY: waits for the child forked above; the kernel writes into `status`.
                let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
                assert_eq!((waited, status), (child, 0), "what the child found");
            });
            if child == 0 {
                let once = drained.is_ok_and(|n| n == 1) && seen == [b"a"];
                leave(if once { i32::from(words("drained") != before) * 2 } else { 1 });
            }
            assert_eq!((drained.unwrap(), seen), (2, vec![b"a".to_vec(), b"b".to_vec()]), "leased: {leased}");
        };
        drains_in_one(false);
        channel.push(b"in hand").unwrap();
        let lease = channel.pop_lease().unwrap();
        drains_in_one(true);
        lease.ack().unwrap();
        let stats = channel.stats().unwrap();
        assert_eq!((stats.pushed, stats.taken), (5, 5));
    })
    .join();
}
