//! Leases among messages that are taken otherwise, and in the hands of those who die.

mod common;

use std::os::fd::AsFd;
use std::time::Duration;

use common::{die, in_child, until};
use commons::{Atomic, Channel, Error};

#[test]
fn what_was_taken_behind_a_lease_does_not_come_again() {
    let channel = Channel::new(4096).unwrap();
    channel.push_many(&["a", "b", "c", "d"]).unwrap();
    let a = channel.pop_lease().unwrap();
    assert_eq!((channel.pop().unwrap(), channel.pop().unwrap()), (b"b".to_vec(), b"c".to_vec()));
    drop(a);
    let mut left = Vec::new();
    assert_eq!(channel.drain(9, |message| left.extend_from_slice(message)).unwrap(), 2);
    assert_eq!((left, channel.len()), (b"ad".to_vec(), 0));
    let stats = channel.stats().unwrap();
    assert_eq!((stats.pushed, stats.taken, stats.returned), (4, 4, 1));
}

#[test]
fn a_closure_that_forks_takes_its_message_once() {
    let channel = Channel::new(4096).unwrap();
    channel.push_many(&["a", "b", "c"]).unwrap();
    let child = channel.pop_with(|_| {
        // The child comes back from the closure as well; what it does then must not be done twice.
        // SAFETY: the child does nothing but go on here, and leaves.
        #[allow(unsafe_code)]
        unsafe {
            libc::fork()
        }
    });
    let child = child.unwrap();
    if child == 0 {
        common::leave(0);
    }
    // SAFETY: waits for a child of this process.
    #[allow(unsafe_code)]
    let reaped = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    assert_eq!(reaped, child);
    assert_eq!((channel.len(), channel.pop().unwrap()), (2, b"b".to_vec()));
}

#[test]
fn a_room_notifier_is_readable_when_there_is_room_and_not_before() {
    let channel = Channel::new(32).unwrap();
    let room = channel.room_notifier();
    let readable = || {
        let mut fds = [rustix::event::PollFd::new(&room, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    };
    while channel.try_push(b"x").is_ok() {}
    assert!(!readable());
    channel.pop().unwrap();
    assert!(readable());
    channel.push(b"x").unwrap();
    assert!(matches!(channel.try_push(b"x"), Err(Error::Full { .. })) && !readable());
    let _ = room.as_fd();
}

/// Who waits for an eventfd has no slice after which it looks by itself: the supervisor's `recover` rings. Without one, a look finds out.
#[test]
fn a_supervisor_rings_for_the_dead() {
    let channel = Channel::new(4096).unwrap();
    let notifier = channel.notifier();
    let readable = || {
        let mut fds = [rustix::event::PollFd::new(&notifier, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    };
    let leased_to_the_dead = |message: &str| {
        channel.push(message.as_bytes()).unwrap();
        let taken = Atomic::new(0).unwrap();
        let child = in_child(|| {
            std::mem::forget(channel.pop_lease().unwrap());
            taken.set(1);
            common::sleep_for_ever();
        });
        until("the child has it", || taken.get() == 1);
        assert_eq!(channel.try_pop().unwrap(), None);
        child.kill();
        assert!(!readable(), "nobody has found out");
        child
    };
    let mut child = leased_to_the_dead("one");
    assert_eq!(commons::recover(child.pid()).unwrap(), 1);
    assert!(readable());
    assert_eq!(channel.try_pop().unwrap(), Some(b"one".to_vec()));
    assert_eq!(channel.try_pop().unwrap(), None);
    assert!(!readable());
    child.wait();

    let mut child = leased_to_the_dead("two");
    assert_eq!(channel.try_pop().unwrap(), Some(b"two".to_vec()), "a look without a supervisor");
    child.wait();
}

#[test]
fn who_dies_holding_leases_gives_them_back_once() {
    let channel = Channel::builder().capacity(4096).max_attempts(2).build().unwrap();
    channel.push_many(&["a", "b"]).unwrap();
    for attempt in 0..2 {
        let mut child = in_child(|| {
            std::mem::forget((channel.pop_lease().unwrap(), channel.pop_lease().unwrap()));
            assert_eq!(channel.stats().unwrap().leased, 2);
            die();
        });
        child.wait();
        let stats = channel.stats().unwrap();
        assert_eq!((stats.waiting, stats.leased, stats.returned), (0, 2, 2 * attempt));
    }
    assert_eq!(channel.try_pop().unwrap(), None);
    let (letters, stats) = (channel.dead_letters().unwrap(), channel.stats().unwrap());
    assert_eq!((stats.pushed, stats.taken, stats.returned), (2, 2, 4));
    assert_eq!((letters.pop().unwrap(), letters.pop().unwrap(), letters.len()), (b"a".to_vec(), b"b".to_vec(), 0));
    // In the hands of a living one, none of it happens.
    channel.push(b"e").unwrap();
    let held = channel.pop_lease().unwrap();
    assert!(matches!(channel.pop_timeout(Duration::from_millis(30)), Err(Error::Timeout { .. })));
    held.ack().unwrap();
}

#[test]
fn a_lease_that_ends_where_its_thread_has_the_lock_comes_back() {
    let channel = Channel::new(4096).unwrap();
    channel.push_many(&["a", "b", "c"]).unwrap();
    let a = channel.pop_lease().unwrap();
    assert_eq!(channel.pop_with(|message| (message.to_vec(), drop(a))).unwrap().0, b"b");
    let a = channel.pop_lease().unwrap();
    assert_eq!((&*a, a.attempts()), (&b"a"[..], 1));
    let mut session = channel.pop_session();
    assert_eq!(session.pop().unwrap(), b"c");
    assert!(matches!(a.ack(), Err(Error::WouldDeadlock { .. })));
    // The session itself finds it.
    assert_eq!(session.pop().unwrap(), b"a");
    assert_eq!(session.try_pop().unwrap(), None);
    drop(session);
    let stats = channel.stats().unwrap();
    assert_eq!((stats.pushed, stats.taken, stats.leased, stats.returned, channel.bytes()), (3, 3, 0, 2, 0));
}

#[cfg(feature = "tokio")]
async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it is woken")
}

/// Nobody signals what the dead have leased: who waits with a future looks for himself.
#[cfg(feature = "tokio")]
#[test]
fn a_future_finds_what_the_dead_have_leased() {
    let channel = Channel::new(4096).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    channel.push(b"a").unwrap();
    let gone = Channel::new(64).unwrap();
    let mut child = in_child(|| {
        let held = channel.pop_lease().unwrap();
        gone.push(b"leased").unwrap();
        // Until it is killed.
        while gone.push(b"on").is_ok() {}
        drop(held);
    });
    gone.pop().unwrap();
    // It dies when the future has begun to wait, at the earliest.
    let killed = std::thread::scope(|s| {
        let killer = s.spawn(|| {
            while gone.stats().unwrap().taken == 1 {
                std::thread::yield_now();
            }
            child.kill();
            std::time::Instant::now()
        });
        let message = runtime.block_on(bounded(async {
            let mut polled = false;
            let mut future = std::pin::pin!(channel.recv());
            std::future::poll_fn(|context| {
                let now = future.as_mut().poll(context);
                if !std::mem::replace(&mut polled, true) {
                    assert!(now.is_pending(), "somebody living has it");
                    gone.pop().unwrap();
                }
                now
            })
            .await
        }));
        assert_eq!(message.unwrap(), b"a");
        killer.join().unwrap()
    });
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    assert_eq!(channel.stats().unwrap().returned, 1);
    child.wait();
}

/// A consumer that was stopped in the middle is no error to one who waits with a future.
#[cfg(feature = "tokio")]
#[test]
fn a_future_waits_out_one_who_was_stopped() {
    let [channel, inside, further] = [4096, 64, 64].map(|bytes| Channel::new(bytes).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    channel.push_many(&["a", "b"]).unwrap();
    let mut child = in_child(|| {
        let taken = channel.pop_with(|message| {
            inside.push(message).unwrap();
            // Until the parent lets go.
            further.pop_timeout(Duration::from_secs(20)).unwrap();
            message.to_vec()
        });
        assert_eq!(taken.unwrap(), b"a");
    });
    assert_eq!(inside.pop().unwrap(), b"a");
    let message = std::thread::scope(|s| {
        s.spawn(|| {
            // Longer than a call that waits for nothing allows.
            assert!(matches!(channel.try_pop(), Err(Error::Timeout { .. })));
            assert!(matches!(channel.try_pop(), Err(Error::Timeout { .. })));
            further.push(b"go on").unwrap();
        });
        runtime.block_on(bounded(channel.recv())).unwrap()
    });
    assert_eq!(message, b"b");
    assert_eq!(child.wait(), common::Exit::Code(0));
}
