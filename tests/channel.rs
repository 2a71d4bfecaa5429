//! The channel's contract.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use commons::{Channel, Error};

#[test]
fn messages_of_any_length_come_back_in_order() {
    let channel = Channel::new(1000).unwrap();
    let (mut model, mut x, mut n) = (VecDeque::new(), 7u64, 0u8);
    for _ in 0..100_000 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        if x % 2 == 0 {
            n = n.wrapping_add(1);
            let message = vec![n; (x >> 8) as usize % 251];
            match channel.try_push(&message) {
                Ok(()) => model.push_back(message),
                Err(Error::Full { capacity: 1000 }) => assert!(channel.bytes() + message.len() + 8 > 1000 - 7),
                Err(e) => panic!("{e}"),
            }
        } else {
            assert_eq!(channel.try_pop().unwrap(), model.pop_front());
        }
        assert_eq!(channel.len(), model.len());
    }
    assert_eq!(channel.stats().unwrap().waiting, model.len() as u64);
    let mut left = Vec::new();
    assert_eq!(channel.drain(usize::MAX, |m| left.push(m.to_vec())).unwrap(), model.len());
    assert_eq!(left, Vec::from(model));
    assert!(matches!(channel.push(&[0; 251]), Err(Error::TooLong { len: 251, max: 250 })));
}

#[test]
fn threads_sleep_and_wake() {
    let channel = Channel::new(256).unwrap();
    let all: u64 = std::thread::scope(|s| {
        let producers: Vec<_> =
            (0..3).map(|_| s.spawn(|| (0..20_000u64).for_each(|n| channel.push(&n.to_le_bytes()).unwrap()))).collect();
        let consumers: Vec<_> = (0..3)
            .map(|_| {
                s.spawn(|| {
                    let mut sum = 0;
                    loop {
                        match channel.pop() {
                            Ok(m) => sum += u64::from_le_bytes(m.try_into().unwrap()),
                            Err(Error::Closed) => return sum,
                            Err(e) => panic!("{e}"),
                        }
                    }
                })
            })
            .collect();
        producers.into_iter().for_each(|p| p.join().unwrap());
        channel.close().unwrap();
        consumers.into_iter().map(|c| c.join().unwrap()).sum()
    });
    assert_eq!(all, 3 * (0..20_000).sum::<u64>());
}

#[test]
fn leases_come_back_to_the_front_and_wear_out() {
    let channel = Channel::builder().capacity(4096).max_attempts(2).build().unwrap();
    channel.push_many(&["a", "b", "c"]).unwrap();
    let a = channel.pop_lease().unwrap();
    let b = channel.pop_lease().unwrap();
    assert_eq!((&*a, &*b), (&b"a"[..], &b"b"[..]));
    assert_eq!(channel.pop().unwrap(), b"c");
    assert_eq!(channel.len(), 3, "the floor waits for a");
    let stats = channel.stats().unwrap();
    assert_eq!((stats.pushed, stats.taken, stats.leased, stats.waiting), (3, 1, 2, 0));
    drop(a);
    let a = channel.pop_lease().unwrap();
    assert_eq!((&*a, a.attempts()), (&b"a"[..], 1));
    b.ack().unwrap();
    drop(a);
    assert_eq!(channel.try_pop().unwrap(), None);
    assert!(channel.is_empty());
    let letters = channel.dead_letters().unwrap();
    assert_eq!(letters.pop().unwrap(), b"a");
    let stats = channel.stats().unwrap();
    assert_eq!((stats.pushed, stats.taken, stats.returned), (3, 3, 2));
}

/// What was taken behind a lease is gone, also when the lease comes back.
#[test]
fn nothing_comes_twice() {
    let channel = Channel::new(4096).unwrap();
    channel.push_many(&["a", "b", "c"]).unwrap();
    let lease = channel.pop_lease().unwrap();
    assert_eq!(channel.pop().unwrap(), b"b");
    drop(lease);
    assert_eq!((channel.pop().unwrap(), channel.pop().unwrap()), (b"a".to_vec(), b"c".to_vec()));
    assert_eq!(channel.try_pop().unwrap(), None);
    let stats = channel.stats().unwrap();
    assert_eq!((stats.pushed, stats.taken, channel.len()), (3, 3, 0));
}

#[test]
fn a_lease_of_a_dead_thread_comes_back() {
    let channel = Channel::new(4096).unwrap();
    channel.push(b"task").unwrap();
    std::thread::scope(|s| {
        s.spawn(|| std::mem::forget(channel.pop_lease().unwrap()));
    });
    let begun = Instant::now();
    let again = channel.pop_lease_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!((&*again, again.attempts()), (&b"task"[..], 1));
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn what_would_wait_for_itself_is_refused() {
    let channel = Channel::new(64).unwrap();
    channel.push(&[1; 16]).unwrap();
    channel.push(&[2; 16]).unwrap();
    let refused = channel
        .pop_with(|_| (channel.push(&[3; 16]).unwrap_err(), channel.pop().unwrap_err(), channel.try_push(&[3; 16])))
        .unwrap();
    assert!(matches!(refused, (Error::WouldDeadlock { .. }, Error::WouldDeadlock { .. }, Err(Error::Full { .. }))));
    assert_eq!(channel.len(), 1);
    assert!(
        std::panic::catch_unwind(|| -> commons::Result<()> { channel.pop_with(|_| panic!("in the closure")) }).is_err()
    );
    assert_eq!(channel.pop_timeout(Duration::from_millis(1)).unwrap(), [2; 16]);
    assert!(matches!(channel.pop_timeout(Duration::from_millis(1)), Err(Error::Timeout { .. })));
}

#[test]
fn select_finds_the_one_that_is_ready() {
    let (a, b) = (Channel::new(256).unwrap(), Channel::new(256).unwrap());
    let short = Some(Duration::from_millis(30));
    assert!(matches!(Channel::select(&[&a, &b], short), Err(Error::Timeout { .. })));
    std::thread::scope(|s| {
        let pusher = s.spawn(|| (0..2000).for_each(|n| [&a, &b][n % 2].push(b"x").unwrap()));
        let mut seen = [0, 0];
        while seen != [1000, 1000] {
            let n = Channel::select(&[&a, &b], Some(Duration::from_secs(10))).unwrap();
            seen[n] += [&a, &b][n].drain(10, |_| ()).unwrap();
        }
        pusher.join().unwrap();
    });
    a.close().unwrap();
    assert_eq!(Channel::select(&[&b, &a], None).unwrap(), 1);
}
