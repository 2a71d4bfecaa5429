//! Sessions of a channel: they give way, they end with their thread, and a fork does not copy them.

mod common;

use std::time::Duration;

use common::{Exit, die, in_child, until};
use commons::{AtomicLong, Channel, Error};

const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(20);

/// A sender and its number.
fn message(sender: u64, number: u64) -> [u8; 16] {
    let mut message = [0; 16];
    message[..8].copy_from_slice(&sender.to_le_bytes());
    message[8..].copy_from_slice(&number.to_le_bytes());
    message
}

fn parts(message: &[u8]) -> (usize, u64) {
    let (sender, number) = message.split_at(8);
    (u64::from_le_bytes(sender.try_into().unwrap()) as usize, u64::from_le_bytes(number.try_into().unwrap()))
}

/// Two sessions and a plain producer, two sessions and a plain consumer, in processes: nobody is kept out for good, nothing is lost, nothing
/// comes twice, and the order of each producer is kept by whoever pops.
#[test]
fn sessions_and_others_share_both_ends() {
    const EACH: u64 = 30_000;
    let channel = Channel::new(4096).unwrap();
    let (sum, count) = (AtomicLong::new(0).unwrap(), AtomicLong::new(0).unwrap());
    let producers: Vec<_> = (0..3)
        .map(|sender| {
            let channel = &channel;
            in_child(move || {
                let mut session = (sender > 0).then(|| channel.push_session());
                for number in 1..=EACH {
                    let message = message(sender, number);
                    match &mut session {
                        Some(session) => session.push_timeout(&message, LONG),
                        None => channel.push_timeout(&message, LONG),
                    }
                    .unwrap();
                }
            })
        })
        .collect();
    let consumers: Vec<_> = (0..3)
        .map(|consumer| {
            let (channel, sum, count) = (&channel, &sum, &count);
            in_child(move || {
                let mut session = (consumer > 0).then(|| channel.pop_session());
                let mut last = [0; 3];
                loop {
                    let popped = match &mut session {
                        Some(session) => session.pop_timeout(LONG),
                        None => channel.pop_timeout(LONG),
                    };
                    match popped {
                        Ok(message) => {
                            let (sender, number) = parts(&message);
                            assert!(number > last[sender], "{number} of {sender} after {}", last[sender]);
                            last[sender] = number;
                            sum.add(number as i64);
                            count.add(1);
                        }
                        Err(Error::Closed) => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    producers.into_iter().for_each(common::Child::join);
    channel.close().unwrap();
    consumers.into_iter().for_each(common::Child::join);
    let all = 3 * EACH as i64;
    assert_eq!((count.get(), sum.get()), (all, all / 2 * (EACH as i64 + 1)));
    let stats = channel.stats().unwrap();
    assert_eq!((stats.pushed, stats.taken, stats.waiting), (all as u64, all as u64, 0));
}

#[test]
fn an_idle_session_is_waited_for_and_its_next_message_gives_way() {
    let channel = Channel::new(4096).unwrap();
    let mut session = channel.push_session();
    channel.push(b"before").unwrap();
    session.push(b"first").unwrap();
    assert!(matches!(channel.push(b"own"), Err(Error::WouldDeadlock { .. })), "the same thread would wait for itself");
    std::thread::scope(|s| {
        let other = s.spawn(|| channel.push_timeout(b"other", SHORT));
        assert!(matches!(other.join().unwrap(), Err(Error::Timeout { .. })));
        let other = s.spawn(|| channel.push_timeout(b"other", LONG));
        // Each asks whether somebody waits; the other falls asleep some time.
        until("the other had its turn", || {
            session.push(b"next").unwrap();
            channel.drain(100, |_| ()).unwrap();
            other.is_finished()
        });
        other.join().unwrap().unwrap();
    });
    session.push(b"and on").unwrap();
    drop(session);
    channel.push(b"after").unwrap();
}

#[test]
fn a_pop_session_that_sleeps_keeps_nothing() {
    let channel = Channel::new(4096).unwrap();
    std::thread::scope(|s| {
        let other = s.spawn(|| {
            let mut session = channel.pop_session();
            let first = session.pop_timeout(LONG).unwrap();
            (first, session.pop_timeout(LONG).unwrap())
        });
        channel.push(b"one").unwrap();
        until("it took that", || channel.is_empty());
        // `stats` takes the same lock.
        assert_eq!(channel.stats().unwrap().taken, 1);
        channel.push(b"two").unwrap();
        assert_eq!(other.join().unwrap(), (b"one".to_vec(), b"two".to_vec()));
    });
    let mut session = channel.pop_session();
    assert_eq!(session.try_pop().unwrap(), None);
    assert!(matches!(session.pop_timeout(SHORT), Err(Error::Timeout { .. })));
    channel.close().unwrap();
    assert!(matches!(session.pop(), Err(Error::Closed)));
    assert!(matches!(channel.push_session().push(b""), Err(Error::Closed)));
}

/// What its own thread would wait for for ever is refused, and nothing is lost by it.
#[test]
fn beside_a_session_its_thread_is_refused() {
    let channel = Channel::new(4096).unwrap();
    let refused = |what: &str, done: commons::Result<()>| {
        assert!(matches!(done, Err(Error::WouldDeadlock { what: "channel" })), "{what}: {done:?}");
    };
    let mut session = channel.push_session();
    session.push_timeout(b"a", LONG).unwrap();
    refused("push", channel.push(b""));
    refused("try_push", channel.try_push(b""));
    refused("push_timeout", channel.push_timeout(b"", LONG));
    refused("push_many", channel.push_many(&["", ""]));
    refused("close", channel.close());
    assert_eq!(channel.pop().unwrap(), b"a", "the other end is free");
    session.push(b"b").unwrap();
    session.push(b"c").unwrap();
    drop(session);
    let mut session = channel.pop_session();
    assert_eq!(session.pop_timeout(LONG).unwrap(), b"b");
    refused("pop", channel.pop().map(drop));
    refused("try_pop", channel.try_pop().map(drop));
    refused("pop_timeout", channel.pop_timeout(LONG).map(drop));
    refused("pop_with", channel.pop_with(|_| ()));
    refused("pop_lease", channel.pop_lease().map(drop));
    refused("drain", channel.drain(1, |_| ()).map(drop));
    refused("peek", channel.peek().map(drop));
    refused("stats", channel.stats().map(drop));
    channel.push(b"d").unwrap();
    assert_eq!((session.pop().unwrap(), session.pop().unwrap()), (b"c".to_vec(), b"d".to_vec()));
    drop(session);
    let stats = channel.stats().unwrap();
    assert_eq!((stats.pushed, stats.taken, channel.len()), (4, 4, 0));
}

#[test]
fn a_session_ends_with_its_process_and_loses_nothing() {
    let channel = Channel::new(4096).unwrap();
    channel.push_many(&["a", "b"]).unwrap();
    let mut child = in_child(|| {
        let (mut push, mut pop) = (channel.push_session(), channel.pop_session());
        push.push(b"c").unwrap();
        assert_eq!(pop.pop().unwrap(), b"a");
        die();
    });
    child.until_dead();
    // Nobody recovers it: who comes finds out.
    channel.push_timeout(b"d", LONG).unwrap();
    let rest: Vec<_> = (0..3).map(|_| channel.pop_timeout(LONG).unwrap()).collect();
    assert_eq!(rest, [b"b", b"c", b"d"]);
    assert_eq!(child.wait(), Exit::Signal(9));
    let stats = channel.stats().unwrap();
    assert_eq!((stats.pushed, stats.taken), (4, 4));
}

#[test]
fn a_fork_does_not_copy_a_session() {
    let channel = Channel::new(4096).unwrap();
    let mut sessions = Some((channel.push_session(), channel.pop_session()));
    let (push, pop) = sessions.as_mut().unwrap();
    push.push(b"one").unwrap();
    push.push(b"two").unwrap();
    assert_eq!(pop.pop().unwrap(), b"one");
    let child = in_child(|| {
        // Both ends are the parent's, who does nothing. By reference: a closure that owned them would end them in the parent.
        let (push, pop) = sessions.as_mut().unwrap();
        assert!(matches!(push.push_timeout(b"child", SHORT), Err(Error::Timeout { .. })));
        assert!(matches!(pop.pop_timeout(SHORT), Err(Error::Timeout { .. })));
        drop(sessions.take());
        assert!(matches!(channel.push_timeout(b"child", SHORT), Err(Error::Timeout { .. })));
    });
    child.join();
    let (push, pop) = sessions.as_mut().unwrap();
    push.push(b"three").unwrap();
    assert_eq!((pop.pop().unwrap(), pop.pop().unwrap()), (b"two".to_vec(), b"three".to_vec()));
    drop(sessions);
    channel.push(b"four").unwrap();
    assert_eq!(channel.pop().unwrap(), b"four");
}
