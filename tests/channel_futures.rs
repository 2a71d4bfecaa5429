//! Futures that wait for messages and for room: what they share, and what they ask the kernel for only once.
#![cfg(feature = "tokio")]

mod common;

use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use common::{PATIENCE, all_descriptors, in_child};
use commons::{Channel, Error};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_io().build().unwrap()
}

/// Has it begin to wait.
async fn begin(mut future: Pin<&mut impl Future>) {
    std::future::poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending(), "there is nothing yet");
        Poll::Ready(())
    })
    .await
}

/// Waits so often for a message that comes when two already wait, and one of them goes; how long that took.
fn waits(runtime: &Runtime, channel: &Channel, times: usize) -> Duration {
    let start = Instant::now();
    for _ in 0..times {
        runtime.block_on(async {
            let mut one = pin!(channel.recv());
            {
                let mut other = pin!(channel.recv());
                begin(one.as_mut()).await;
                begin(other.as_mut()).await;
                channel.push(b"x").unwrap();
            }
            assert_eq!(one.await.unwrap(), b"x");
        });
    }
    start.elapsed()
}

/// So many waits, each of which would have to look by itself, after 20 ms, if it were not told.
const WAITS: usize = 100;
const UNTOLD: Duration = Duration::from_secs(2);

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn futures_wait_for_messages_and_for_room() {
    let channel = Channel::new(64).unwrap();
    std::thread::scope(|s| {
        let run = |future| runtime().block_on::<std::pin::Pin<Box<dyn Future<Output = u64>>>>(future);
        let channel = &channel;
        s.spawn(move || {
            run(Box::pin(async move {
                for n in 0..20_000u64 {
                    channel.send(&n.to_le_bytes()).await.unwrap();
                }
                0
            }))
        });
        let consumers: Vec<_> = (0..2)
            .map(|_| {
                s.spawn(move || {
                    run(Box::pin(async move {
                        let mut sum = 0;
                        loop {
                            match u64::from_le_bytes(channel.recv().await.unwrap().try_into().unwrap()) {
                                u64::MAX => return sum,
                                n => sum += n,
                            }
                        }
                    }))
                })
            })
            .collect();
        let sum: u64 = {
            // The end for both, once all is there.
            while channel.stats().unwrap().pushed < 20_000 {
                std::thread::yield_now();
            }
            (0..2).for_each(|_| channel.push(&u64::MAX.to_le_bytes()).unwrap());
            consumers.into_iter().map(|c| c.join().unwrap()).sum()
        };
        assert_eq!(sum, (0..20_000).sum::<u64>());
    });
}

#[test]
fn who_has_waited_once_needs_no_descriptor_to_wait_again() {
    in_child(|| {
        let (runtime, [channel, other]) = (runtime(), [64, 64].map(|bytes| Channel::new(bytes).unwrap()));
        let message = [1; 16];
        let fill = || while channel.try_push(&message).is_ok() {};
        fill();
        runtime.block_on(begin(pin!(channel.send(&message))));
        while channel.try_pop().unwrap().is_some() {}
        runtime.block_on(begin(pin!(channel.recv())));
        let files = all_descriptors();
        assert!(waits(&runtime, &channel, WAITS) < UNTOLD);
        runtime.block_on(async {
            let mut lease = pin!(channel.recv_lease());
            begin(lease.as_mut()).await;
            channel.push(&message).unwrap();
            lease.await.unwrap().ack().unwrap();
            fill();
            let mut sent = pin!(channel.send(&message));
            begin(sent.as_mut()).await;
            channel.pop().unwrap();
            sent.await.unwrap();
            assert!(matches!(other.recv().await, Err(Error::System { call: "duplicating an eventfd", .. })));
        });
        drop(files);
        assert!(waits(&runtime, &other, WAITS) < UNTOLD);
    })
    .join();
}

/// What waits have registered goes with the channel; what they registered in a runtime that is gone, with the next wait in another.
#[test]
fn runtimes_come_and_go() {
    in_child(|| {
        let (before, channel) = (descriptors(), Channel::new(4096).unwrap());
        let one = runtime();
        waits(&one, &channel, 1);
        let first = descriptors();
        for _ in 0..10 {
            let other = runtime();
            assert!(waits(&other, &channel, 5) + waits(&one, &channel, 5) + waits(&other, &channel, 5) < UNTOLD / 10);
        }
        assert!(descriptors() <= first + 4, "{first} descriptors became {}", descriptors());
        drop(one);
        let last = runtime();
        waits(&last, &channel, 1);
        assert_eq!(descriptors(), first, "as many as with the first one");
        drop((channel, last));
        // The timerfd of the last runtime, and what keeps that of its epoll.
        assert!(descriptors() <= before + 4, "{before} descriptors became {}", descriptors());
    })
    .join();
}

/// A child that drops what it inherited must not end what its parent has registered: both have the same epoll.
#[test]
fn a_child_leaves_its_parents_waits_alone() {
    in_child(|| {
        let (parents, mut channel) = (runtime(), Some(Channel::new(4096).unwrap()));
        waits(&parents, channel.as_ref().unwrap(), 1);
        let open = descriptors();
        in_child(|| {
            let own = runtime();
            assert!(waits(&own, channel.as_ref().unwrap(), WAITS) < UNTOLD);
            drop((channel.take(), own));
            assert!(descriptors() < open + 4, "{open} descriptors became {}", descriptors());
        })
        .join();
        assert!(waits(&parents, channel.as_ref().unwrap(), WAITS) < UNTOLD);
    })
    .join();
}

/// Several threads wait in one runtime, for one channel, and all are told. In a child, which ends should one not be.
#[test]
fn threads_that_share_a_runtime_are_all_told() {
    const ROUNDS: usize = 1000;
    in_child(|| {
        let (runtime, [work, done, end]) = (runtime(), [(); 3].map(|()| Channel::new(4096).unwrap()));
        std::thread::scope(|s| {
            for _ in 0..3 {
                let (handle, work, done, end) = (runtime.handle().clone(), &work, &done, &end);
                s.spawn(move || {
                    handle.block_on(async {
                        while work.recv().await.is_ok() {
                            done.push(b"done").unwrap();
                        }
                    });
                    end.push(b"end").unwrap();
                });
            }
            // The one that drives them all, until all have ended.
            s.spawn(|| {
                runtime.block_on(async {
                    for _ in 0..3 {
                        end.recv().await.unwrap();
                    }
                })
            });
            let mut late = 0;
            for _ in 0..ROUNDS {
                let start = Instant::now();
                work.push_many(&["a", "b"]).unwrap();
                (0..2).for_each(|_| drop(done.pop_timeout(PATIENCE).unwrap()));
                late += usize::from(start.elapsed() > Duration::from_millis(10));
            }
            work.close().unwrap();
            assert!(late < ROUNDS / 20, "{late} of {ROUNDS} had to be looked for");
        });
    })
    .join();
}

/// How long the channel is when something else of the runtime runs for the first time, while `one` is awaited a thousand times.
fn when_others_run<F: Future>(channel: &Channel, one: impl Fn() -> F) -> usize {
    runtime().block_on(async {
        let channel = channel.clone();
        let other = tokio::spawn(async move { channel.len() });
        for _ in 0..1000 {
            one().await;
        }
        other.await.unwrap()
    })
}

#[test]
fn a_loop_over_a_channel_that_never_blocks_lets_others_run() {
    let channel = Channel::new(1 << 16).unwrap();
    let sent = when_others_run(&channel, async || channel.send(b"x").await.unwrap());
    assert!((1..500).contains(&sent), "{sent} were sent first");
    assert_eq!(channel.len(), 1000);
    let left = when_others_run(&channel, async || channel.recv().await.unwrap());
    assert!((501..1000).contains(&left), "{left} were left then");
    assert!(channel.is_empty());
}
