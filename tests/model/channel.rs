//! The channel against a queue: every public operation on a small ring, which goes round all the time, with producers and consumers that die in
//! the middle of one, and holders of leases that die with them.
//!
//! One dies by giving its slot away, and unwinding where it is inside a closure of `pop_with` or `drain`, or with a session whose end it keeps: the lock
//! is left behind. What dies between two stores is the kill harness's business.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use arbitrary::Arbitrary;
use commons::{Channel, ChannelStats, Error, Lease};

const CAPACITIES: [usize; 8] = [16, 17, 24, 40, 64, 96, 100, 176];
/// Leases that are held at once.
const HANDS: usize = 4;

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Shape {
    capacity: u8,
    max_message: Option<u8>,
    max_attempts: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Op {
    TryPush(u8),
    /// Waits for nothing where there is no room.
    Push(u8),
    PushMany(u8, u8, u8),
    DieInSession(u8, u8),
    TryPop,
    Pop,
    PopInto,
    PopWith,
    PanicInPop,
    DieInPop,
    Drain(u8),
    /// In the closure of the message of this number.
    PanicInDrain(u8),
    DieInDrain(u8),
    Peek,
    Lease(u8),
    Ack(u8),
    GiveBack(u8),
    /// With all that it has leased.
    Die,
    Select,
    Letter,
    CloseLetters,
    /// What a closure of `pop_with` may do, and may not.
    Inside(u8),
    /// One in sixteen.
    Close(u8),
    Look,
}

/// Where it happened, for when it goes wrong.
type Where<'w> = &'w dyn Fn() -> String;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Has {
    Nobody,
    /// The lease in this hand.
    Hand(usize),
    /// One that is dead.
    Dead,
    Done,
}

#[derive(Clone, Debug)]
struct Message {
    bytes: Vec<u8>,
    attempts: u32,
    has: Has,
}

struct World {
    channel: Channel,
    hands: [Option<Lease>; HANDS],
}

/// What the channel is to be like.
struct Queue {
    capacity: usize,
    max_message: usize,
    max_attempts: u32,
    messages: VecDeque<Message>,
    letters: VecDeque<Vec<u8>>,
    letters_closed: bool,
    closed: bool,
    stats: ChannelStats,
    /// So that no two messages are the same.
    next: u8,
}

fn words(len: usize) -> usize {
    1 + len.div_ceil(8)
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::TooLong { len, max } if len > max => "too long",
        Error::Full { .. } => "full",
        Error::Closed => "closed",
        Error::Timeout { after: Duration::ZERO } => "timeout",
        Error::WouldDeadlock { what: "channel" } => "would deadlock",
        Error::LeaseLost => "lost",
        _ => panic!("{error}"),
    }
}

fn told<T>(result: Result<T, Error>) -> Result<T, &'static str> {
    result.map_err(|error| kind(&error))
}

/// What unwinds where one dies or panics; not by `panic!`, which the fuzzer takes for a finding.
struct Gone;

/// Runs `f` to its end, or until `part_with` ends it.
fn until_gone<T>(f: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|why| assert!(why.is::<Gone>(), "a panic")).ok()
}

fn part_with(dies: bool) -> ! {
    if dies {
        commons::harness::leave();
    }
    resume_unwind(Box::new(Gone))
}

impl Shape {
    fn capacity(self) -> usize {
        CAPACITIES[usize::from(self.capacity) % CAPACITIES.len()]
    }

    fn queue(self) -> Queue {
        let capacity = self.capacity();
        let most = capacity.div_ceil(8) * 8 - 8;
        let max_message = self.max_message.map_or(capacity / 4, |n| 1 + usize::from(n) % most);
        Queue {
            capacity,
            max_message,
            max_attempts: u32::from(self.max_attempts % 4),
            messages: VecDeque::new(),
            letters: VecDeque::new(),
            letters_closed: false,
            closed: false,
            stats: ChannelStats::default(),
            next: 0,
        }
    }
}

#[path = "channel_queue.rs"]
mod queue;

/// Plays `ops` on a channel of this shape and on a queue.
pub(crate) fn model(shape: Shape, ops: &[Op]) {
    let mut queue = shape.queue();
    let mut builder = Channel::builder().capacity(queue.capacity).max_attempts(queue.max_attempts);
    builder = if shape.max_message.is_some() { builder.max_message(queue.max_message) } else { builder };
    let channel = builder.build().unwrap();
    assert_eq!((channel.capacity(), channel.max_message()), (queue.capacity, queue.max_message));
    let mut world = World { channel, hands: [const { None }; HANDS] };
    for (n, op) in ops.iter().enumerate() {
        let at = || format!("operation {n} of {shape:?}, the last {:?}", &ops[n.saturating_sub(9)..=n]);
        queue.play(&mut world, *op, &at);
        queue.shows(&world, &at);
    }
    queue.look(&world, &|| format!("after {} of {shape:?}", ops.len()));
}
