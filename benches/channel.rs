//! The channel beside the floors, and beside what else carries messages: `rtrb`, `crossbeam-channel` (both inside one process), a socketpair, a
//! pipe, and `ipc-channel`. Messages of 64 bytes, copied in and copied out everywhere.
//!
//! Of all of these only ours outlives the death of whoever is in the middle of it; the two in-process ones show what the memory allows.

use std::cell::RefCell;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use commons::Channel;
use ipc_channel::ipc;

mod harness;

use harness::helper::Helper;
use harness::{Bar, Suite, Work, floors, pause};

const MESSAGE: [u8; 64] = *b"sixty-four bytes, as long as a cache line and what most send....";
/// Bytes of a ring: some 900 messages, within the nearest cache but one.
const RING: usize = 1 << 16;
/// What others have room for: as many messages.
const ROOM: usize = RING / 72;
/// Messages in a batch.
const BATCH: usize = 32;

fn main() -> ExitCode {
    let mut suite = Suite::new("channel");
    alone(&mut suite);
    suite.sample_for(4_000_000);
    across(&mut suite);
    waking(&mut suite);
    suite.run()
}

fn ring() -> Channel {
    Channel::new(RING).expect("a channel")
}

/// A push and a pop after it, by the same thread.
fn alone(suite: &mut Suite) {
    let ours = || {
        let (ring, message) = (ring(), RefCell::new(Vec::new()));
        Work::alone("push, pop_into, 1 process", move |n| {
            let mut message = message.borrow_mut();
            for _ in 0..n {
                ring.push(black_box(&MESSAGE)).expect("room");
                ring.pop_into(&mut message).expect("a message");
                black_box(&message);
            }
        })
    };
    suite.pair(ours(), floors::cas(), Bar::Shown);
    let (ends, copy) = (RefCell::new(rtrb::RingBuffer::new(ROOM)), RefCell::new(MESSAGE));
    let peer = Work::alone("rtrb, 1 thread", move |n| {
        let (producer, consumer) = &mut *ends.borrow_mut();
        for _ in 0..n {
            producer.push(*black_box(&MESSAGE)).expect("room");
            *copy.borrow_mut() = consumer.pop().expect("a message");
            black_box(&copy);
        }
    });
    suite.pair(ours(), peer, Bar::Shown);
    let (sender, receiver) = crossbeam_channel::bounded::<[u8; 64]>(ROOM);
    let peer = Work::alone("crossbeam-channel, 1 thread", move |n| {
        for _ in 0..n {
            sender.send(*black_box(&MESSAGE)).expect("room");
            black_box(receiver.recv().expect("a message"));
        }
    });
    suite.pair(ours(), peer, Bar::Shown);

    let (session, message) = (ring(), RefCell::new(Vec::new()));
    let session = Work::alone("sessions' push, pop_into, 1 process", move |n| {
        let (mut push, mut pop, mut message) = (session.push_session(), session.pop_session(), message.borrow_mut());
        for _ in 0..n {
            push.push(black_box(&MESSAGE)).expect("room");
            pop.pop_into(&mut message).expect("a message");
            black_box(&message);
        }
    });
    suite.pair(session, ours(), Bar::Shown);

    let (ring, batch) = (ring(), [MESSAGE; BATCH]);
    let batched = Work::alone("push_many, drain 32, 1 process", move |n| {
        for _ in 0..n {
            ring.push_many(black_box(&batch)).expect("room");
            let drained = ring.drain(BATCH, |message| _ = black_box(message)).expect("messages");
            assert_eq!(drained, BATCH);
        }
    });
    suite.pair(batched.operations(BATCH as u64), ours(), Bar::Shown); // the bar is of two processes
}

/// One producer, one consumer.
fn across(suite: &mut Suite) {
    suite.pair(sessions(), rtrb_threads(), Bar::Time(50.0)); // bars.md: 20 M/s; and, for the stretch, the ratio
    suite.pair(sessions(), single(), Bar::Shown);
    suite.pair(single(), rtrb_threads(), Bar::Time(50.0));
    suite.pair(single(), crossbeam_threads(), Bar::Shown);
    suite.pair(single(), socketpair(), Bar::Shown);
    suite.pair(single(), pipe(), Bar::Shown);
    suite.pair(single(), ipc(), Bar::Shown);

    let (ring, batch) = (ring(), [MESSAGE; BATCH]);
    let batched = Work::together("push_many, drain 32, 2 processes", 2, move |hand, n| {
        if hand == 0 {
            return (0..n).for_each(|_| ring.push_many(black_box(&batch)).expect("room"));
        }
        let mut left = n as usize * BATCH;
        while left > 0 {
            match ring.drain(left, |message| _ = black_box(message)).expect("messages") {
                0 => {
                    ring.pop_with(|message| _ = black_box(message)).expect("a message");
                    left -= 1;
                }
                drained => left -= drained,
            }
        }
    });
    suite.pair(batched.operations(BATCH as u64), single(), Bar::Speed(3.0)); // bars.md
}

fn single() -> Work {
    let ring = ring();
    Work::together("push, pop_into, 2 processes", 2, move |hand, n| {
        if hand == 0 {
            return (0..n).for_each(|_| ring.push(black_box(&MESSAGE)).expect("room"));
        }
        let mut message = Vec::new();
        for _ in 0..n {
            ring.pop_into(&mut message).expect("a message");
            black_box(&message);
        }
    })
}

fn sessions() -> Work {
    let ring = ring();
    Work::together("sessions' push, pop_into, 2 processes", 2, move |hand, n| {
        if hand == 0 {
            let mut session = ring.push_session();
            return (0..n).for_each(|_| session.push(black_box(&MESSAGE)).expect("room"));
        }
        let (mut session, mut message) = (ring.pop_session(), Vec::new());
        for _ in 0..n {
            session.pop_into(&mut message).expect("a message");
            black_box(&message);
        }
    })
}

fn rtrb_threads() -> Work {
    let (producer, mut consumer) = rtrb::RingBuffer::new(ROOM);
    let helper = Helper::new(move || {
        let copy = loop {
            match consumer.pop() {
                Ok(message) => break message,
                Err(_) => pause(),
            }
        };
        black_box(&copy);
    });
    let producer = RefCell::new(producer);
    Work::alone("rtrb, 2 threads", move |n| {
        let producer = &mut *producer.borrow_mut();
        helper.beside(n, || {
            while producer.push(*black_box(&MESSAGE)).is_err() {
                pause();
            }
        });
    })
}

fn crossbeam_threads() -> Work {
    let (sender, receiver) = crossbeam_channel::bounded::<[u8; 64]>(ROOM);
    let helper = Helper::new(move || _ = black_box(receiver.recv().expect("a message")));
    Work::alone("crossbeam-channel, 2 threads", move |n| {
        helper.beside(n, || sender.send(*black_box(&MESSAGE)).expect("room"));
    })
}

fn stream(name: &'static str, from: impl Read + 'static, to: impl Write + 'static) -> Work {
    let (from, to) = (RefCell::new(from), RefCell::new(to));
    Work::together(name, 2, move |hand, n| {
        if hand == 0 {
            return (0..n).for_each(|_| to.borrow_mut().write_all(black_box(&MESSAGE)).expect("room"));
        }
        let mut message = MESSAGE;
        for _ in 0..n {
            from.borrow_mut().read_exact(&mut message).expect("a message");
            black_box(&message);
        }
    })
}

fn socketpair() -> Work {
    let (from, to) = UnixStream::pair().expect("a socketpair");
    stream("socketpair", from, to)
}

fn pipe() -> Work {
    let (from, to) = std::io::pipe().expect("a pipe");
    stream("pipe", from, to)
}

fn ipc() -> Work {
    let (sender, receiver) = ipc::bytes_channel().expect("a channel");
    Work::together("ipc-channel", 2, move |hand, n| {
        if hand == 0 {
            return (0..n).for_each(|_| sender.send(black_box(&MESSAGE)).expect("room"));
        }
        (0..n).for_each(|_| _ = black_box(receiver.recv().expect("a message")));
    })
}

/// A number, there and back by two channels, at the head of a message of so many bytes.
fn there_and_back(name: &'static str, bytes: usize) -> Work {
    let rings = [ring(), ring()];
    Work::together(name, 2, move |hand, n| {
        let (own, other, mut message, mut sent) = (&rings[hand], &rings[1 - hand], Vec::new(), MESSAGE);
        for number in 0..n {
            if hand == 0 {
                sent[..8].copy_from_slice(&number.to_le_bytes());
                other.push(&sent[..bytes]).expect("room");
            }
            own.pop_into(&mut message).expect("a message");
            if hand == 1 {
                other.push(&message).expect("room");
            }
        }
        assert_eq!(message[..8], (n - 1).to_le_bytes());
    })
}

/// The same by sessions.
fn sessions_there_and_back(name: &'static str) -> Work {
    let rings = [ring(), ring()];
    Work::together(name, 2, move |hand, n| {
        let (mut pop, mut push) = (rings[hand].pop_session(), rings[1 - hand].push_session());
        let mut message = Vec::new();
        for number in 0..n {
            if hand == 0 {
                push.push(&number.to_le_bytes()).expect("room");
            }
            pop.pop_into(&mut message).expect("a message");
            if hand == 1 {
                push.push(&message).expect("room");
            }
        }
        assert_eq!(message, (n - 1).to_le_bytes());
    })
}

/// How long until the other has it. On one core each can only go on when the other sleeps, so that every message wakes; on two both spin.
fn waking(suite: &mut Suite) {
    let sleeping = || there_and_back("there and back, sleeping", 8).on_one_core();
    suite.pair(sleeping(), floors::futex_ping_pong().on_one_core(), Bar::Cost(1.15)); // bars.md
    // Ours never sleeps for longer than 20 ms in one go, so that it finds out who died; the kernel charges for that. And it carries a message.
    suite.pair(sleeping(), floors::futex_ping_pong_in_slices().on_one_core(), Bar::Shown);
    let sleeping = there_and_back("the same with 64 bytes", MESSAGE.len()).on_one_core();
    suite.pair(sleeping, floors::futex_ping_pong_with(&MESSAGE).on_one_core(), Bar::Shown);
    let sessions = sessions_there_and_back("there and back, sessions, spinning");
    suite.pair(sessions, floors::line_ping_pong(), Bar::Cost(2.0)); // bars.md
    suite.pair(there_and_back("there and back, spinning", 8), floors::line_ping_pong(), Bar::Cost(2.0)); // bars.md
}
