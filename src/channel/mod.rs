//! Floor 4, the channel: a ring of messages of any length, many producers, many consumers, in order, in shared memory.
//!
//! # What lies in the region
//! ```text
//! tail     producers' lock, what they saw of the floor │ where the tail is, totals
//! floor    consumers' lock, what they saw of the tail, hints about leases │ where the floor is, totals
//! ring     head │ bytes in whole words,  head │ bytes …          a message may go round the end of the ring
//! ```
//! Each end has its own lock and its own cache lines, so one producer and one consumer never wait for each other; each looks at the other's place
//! only when its own memory of it is used up, and takes a breath before that when the two run in step (`pace`).
//!
//! # One store
//! A push writes beyond the tail and then moves the tail, by one exchange (`mark`): it says where, how many messages, and which of two totals counts. A
//! pop copies and then moves the floor in the same way. A producer that dies before leaves nothing; a consumer that dies before leaves the message.
//! The same exchange brings along whether anybody sleeps, so no wake-up is lost and none is made for nobody.
//!
//! # Several who sleep
//! A push wakes as many as it brings messages, a pop as many as it takes, and the flag goes with it; so a second one that comes before anybody is awake
//! meets no flag. Therefore whoever has slept and found something looks once more: where there may be more it wakes the next one, who does the same;
//! where there is not it sets the flag again. The flag is set only after a look that found nothing: a sleeper that sees its word as it left it has
//! missed nothing. (One exception, which the next pop mends, or the slice: a message too long for the room that a pop made leaves a shorter one asleep.)
//!
//! # Leases (`lease`)
//! A leased message stays in the ring, its head names who has it. The floor moves over what is done with, and so waits for the oldest lease. What
//! is known about the messages between floor and tail is in their heads; how many are not ready (leased, or done with behind a lease), and from
//! where on it is worth looking, are hints, and are worked out anew after a death.
//!
//! | dies | then |
//! |---|---|
//! | pushing, before the tail moves | nothing was pushed; the next producer writes over it |
//! | after it, before the wake-up | the message is there; who sleeps finds it at the end of its slice; the next producer is told by the lock, and tells all; for eventfds burial rings |
//! | popping, before the floor moves or the head says done | the message is there for the next |
//! | holding a lease | the next consumer takes it back: the oldest at once, others when there is nothing else to be had |
//! | giving a lease back | the next consumer finds out by the head, and by the number of dead letters, whether it has come back |
//!
//! # What it costs
//! A push takes the lock, copies, moves the mark and lets go: three locked instructions, all on its own end's lines; a pop likewise. A session (`session`) keeps
//! the lock from message to message, which leaves one. Messages of 64 bytes, nanoseconds each, in one run on two processors whose cache line comes
//! over in 35: push and then pop by one thread 42, by sessions 32 (`rtrb` 9); one producer and one consumer process 37, by sessions 29 (`rtrb` between two
//! threads 26 to 34, a pipe 420 to 480, a socketpair 1150); 32 at a time 10. Where the line takes 100: 110, by sessions 70 to 85 (`rtrb` 80 to 160).
//! Tried, and worth nothing: fetching the message while its consumer still takes the lock; fetching each message of a batch before it is written (6 % slower);
//! copying a cache line's words without asking for the end between them (13 % slower). Worth 3 %, and left: asking the clock once a sleep.
//!
//! A wake-up of one who sleeps costs 1.3 times a bare futex's, 1.17 times that of a futex with a time limit, as every sleep here has one, and as much beside
//! one that carries the message as well (1.15 to 1.18): what is left is locks, marks and ledger, not the carrying. The limit alone
//! costs 1.10 to 1.14, and the same for 4 ms and for 60 s, absolute or not, by any clock and with any slack; without it nobody would find a death out.
//! The pages that ours touches and the floor does not are worth 0.02 (16 of them), four readings of the clock 0.03 to 0.04. One who spins has
//! the message after two cache lines have come over, the mark's and the message's, where a bare ping-pong moves one: 3.7 times that.

#![forbid(unsafe_code)]

mod builder;
mod drain;
#[cfg(feature = "tokio")]
mod future;
mod ground;
mod lease;
mod mark;
mod notify;
mod pace;
mod pop;
mod push;
mod session;
mod wait;

use std::sync::Arc;

pub use builder::{ChannelBuilder, ChannelStats};
use ground::Ground;
pub use lease::Lease;
pub use notify::Notifier;
pub use session::{PopSession, PushSession};

/// A queue of messages in shared memory: any length, many producers, many consumers, first in, first out.
///
/// Handles are cheap to clone and valid in every process forked after the channel was made. A message is there for ever once its push returned, and
/// gone once its pop returned; nobody's death loses or doubles one. Memory: the ring, and 320 bytes.
///
/// # Examples
/// ```
/// let channel = commons::Channel::new(1 << 16)?; // before the fork
/// channel.push(b"one")?;
/// channel.push_many(&["two", "three"])?;
/// assert_eq!(channel.pop()?, b"one");
/// assert_eq!(channel.len(), 2);
/// # Ok::<(), commons::Error>(())
/// ```
#[derive(Clone)]
pub struct Channel {
    ground: Arc<Ground>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("len", &self.len()).field("bytes", &self.bytes()).finish()
    }
}
