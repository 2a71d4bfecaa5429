//! Lock, RwLock and Semaphore against a model that knows who holds what, with actors that die.
//!
//! An actor is a thread; it does what it is told and answers. It dies by ending while it holds things, which to the others is what the
//! death of a process is. Its successor is another thread.

use std::cell::RefCell;
use std::mem::{forget, take};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use arbitrary::Arbitrary;
use commons::{Error, Lock, LockGuard, ReadGuard, RwLock, Semaphore, WriteGuard};

const ACTORS: usize = 3;
const EACH: usize = 2;
const PERMITS: [u32; EACH] = [1, 3];

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Op {
    Lock(u8, u8),
    Unlock(u8, u8),
    Read(u8, u8),
    Write(u8, u8),
    /// Ends reading or writing.
    Leave(u8, u8),
    Acquire(u8, u8),
    Release(u8, u8),
    Die(u8),
}

/// What an actor is told to do, to the structure of that number.
#[derive(Clone, Copy, Debug)]
enum Order {
    Lock(usize),
    Unlock(usize),
    Read(usize),
    Write(usize),
    Leave(usize),
    Acquire(usize),
    Release(usize),
    Die,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    /// It has it; whether it was told of a death.
    Got(bool),
    Refused,
    WouldDeadlock,
    NotHeld,
}

struct World {
    locks: [Lock; EACH],
    rws: [RwLock; EACH],
    seats: [Semaphore; EACH],
}

/// Made once: thousands of cases a second use the same structures, which each case leaves as it found them.
static WORLD: LazyLock<World> = LazyLock::new(|| World {
    locks: [(); EACH].map(|()| Lock::new().unwrap()),
    rws: [(); EACH].map(|()| RwLock::new().unwrap()),
    seats: PERMITS.map(|n| Semaphore::new(n).unwrap()),
});

#[derive(Default)]
struct Hands {
    locks: [Option<LockGuard<'static>>; EACH],
    reads: [Option<ReadGuard<'static>>; EACH],
    writes: [Option<WriteGuard<'static>>; EACH],
    permits: [u32; EACH],
}

impl Hands {
    fn obey(&mut self, order: Order) -> Answer {
        fn got<G>(hand: &mut Option<G>, told: Result<Option<G>, Error>, recovered: impl Fn(&G) -> bool) -> Answer {
            match told {
                Ok(Some(guard)) => Answer::Got(recovered(hand.insert(guard))),
                Ok(None) => Answer::Refused,
                Err(Error::WouldDeadlock { .. }) => Answer::WouldDeadlock,
                Err(other) => panic!("{other}"),
            }
        }
        let world = &*WORLD;
        match order {
            Order::Lock(i) => got(&mut self.locks[i], world.locks[i].try_lock(), LockGuard::recovered),
            Order::Read(i) => got(&mut self.reads[i], world.rws[i].try_read(), ReadGuard::recovered),
            Order::Write(i) => got(&mut self.writes[i], world.rws[i].try_write(), WriteGuard::recovered),
            Order::Unlock(i) => {
                self.locks[i] = None;
                Answer::Done
            }
            Order::Leave(i) => {
                (self.reads[i], self.writes[i]) = (None, None);
                Answer::Done
            }
            Order::Acquire(i) => {
                if world.seats[i].try_acquire().unwrap() {
                    self.permits[i] += 1;
                    Answer::Got(false)
                } else {
                    Answer::Refused
                }
            }
            Order::Release(i) => match world.seats[i].release() {
                Ok(()) => {
                    self.permits[i] = self.permits[i].saturating_sub(1);
                    Answer::Done
                }
                Err(Error::NotHeld { .. }) => Answer::NotHeld,
                Err(other) => panic!("{other}"),
            },
            Order::Die => {
                forget(take(self));
                Answer::Done
            }
        }
    }
}

struct Actor {
    orders: Option<Sender<Order>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
}

impl Actor {
    fn new() -> Actor {
        let (orders, inbox) = channel();
        let (outbox, answers) = channel();
        let thread = std::thread::spawn(move || {
            let mut hands = Hands::default();
            while let Ok(order) = inbox.recv() {
                let answer = hands.obey(order);
                if outbox.send(answer).is_err() || matches!(order, Order::Die) {
                    break;
                }
            }
        });
        Actor { orders: Some(orders), answers, thread: Some(thread) }
    }

    fn tell(&mut self, order: Order) -> Answer {
        self.orders.as_ref().unwrap().send(order).unwrap();
        let answer = self.answers.recv().unwrap();
        if matches!(order, Order::Die) {
            // Joined, for the death happens a moment after the answer.
            self.thread.take().unwrap().join().unwrap();
        }
        answer
    }
}

/// One that is dismissed, for its case failed, puts down what it holds before the next case begins.
impl Drop for Actor {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

thread_local! {
    /// Between two cases: the actors, with empty hands.
    static COMPANY: RefCell<Option<[Actor; ACTORS]>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Model {
    owner: [Option<usize>; EACH],
    torn: [bool; EACH],
    writer: [Option<usize>; EACH],
    readers: [[bool; ACTORS]; EACH],
    unwritten: [bool; EACH],
    permits: [[u32; ACTORS]; EACH],
}

impl Model {
    fn answer(&mut self, who: usize, order: Order) -> Answer {
        match order {
            Order::Lock(i) => match self.owner[i] {
                Some(owner) if owner == who => Answer::WouldDeadlock,
                Some(_) => Answer::Refused,
                None => {
                    self.owner[i] = Some(who);
                    Answer::Got(take(&mut self.torn[i]))
                }
            },
            Order::Unlock(i) => {
                self.owner[i] = self.owner[i].filter(|owner| *owner != who);
                Answer::Done
            }
            Order::Read(i) | Order::Write(i) if self.readers[i][who] || self.writer[i] == Some(who) => {
                Answer::WouldDeadlock
            }
            Order::Read(i) if self.writer[i].is_none() => {
                self.readers[i][who] = true;
                Answer::Got(self.unwritten[i])
            }
            Order::Write(i) if self.writer[i].is_none() && self.readers[i] == [false; ACTORS] => {
                self.writer[i] = Some(who);
                Answer::Got(take(&mut self.unwritten[i]))
            }
            Order::Read(_) | Order::Write(_) => Answer::Refused,
            Order::Leave(i) => {
                self.readers[i][who] = false;
                self.writer[i] = self.writer[i].filter(|writer| *writer != who);
                Answer::Done
            }
            Order::Acquire(i) if self.permits[i].iter().sum::<u32>() < PERMITS[i] => {
                self.permits[i][who] += 1;
                Answer::Got(false)
            }
            Order::Acquire(_) => Answer::Refused,
            Order::Release(i) => match self.permits[i].iter().position(|n| *n > 0) {
                None => Answer::NotHeld,
                Some(other) => {
                    let from = if self.permits[i][who] > 0 { who } else { other };
                    self.permits[i][from] -= 1;
                    Answer::Done
                }
            },
            Order::Die => {
                for i in 0..EACH {
                    if self.owner[i] == Some(who) {
                        (self.owner[i], self.torn[i]) = (None, true);
                    }
                    if self.writer[i] == Some(who) {
                        (self.writer[i], self.unwritten[i]) = (None, true);
                    }
                    self.readers[i][who] = false;
                    self.permits[i][who] = 0;
                }
                Answer::Done
            }
        }
    }

    /// Which of several siblings a permit is taken from is not promised, so nobody asks for that.
    fn is_decided(&self, who: usize, order: Order) -> bool {
        match order {
            Order::Release(i) => self.permits[i][who] > 0 || self.permits[i].iter().filter(|n| **n > 0).count() <= 1,
            _ => true,
        }
    }
}

pub(crate) fn model(ops: &[Op]) {
    let mut actors = COMPANY.take().unwrap_or_else(|| std::array::from_fn(|_| Actor::new()));
    let mut model = Model::default();
    let run = |actors: &mut [Actor; ACTORS], model: &mut Model, who: usize, order: Order| {
        if model.is_decided(who, order) {
            let expected = model.answer(who, order);
            assert_eq!(actors[who].tell(order), expected, "{order:?} by {who} of {ops:?}");
        }
        if matches!(order, Order::Die) {
            actors[who] = Actor::new();
        }
    };
    for op in ops {
        let who = |n: u8| usize::from(n) % ACTORS;
        let which = |n: u8| usize::from(n) % EACH;
        let (who, order) = match *op {
            Op::Lock(a, i) => (who(a), Order::Lock(which(i))),
            Op::Unlock(a, i) => (who(a), Order::Unlock(which(i))),
            Op::Read(a, i) => (who(a), Order::Read(which(i))),
            Op::Write(a, i) => (who(a), Order::Write(which(i))),
            Op::Leave(a, i) => (who(a), Order::Leave(which(i))),
            Op::Acquire(a, i) => (who(a), Order::Acquire(which(i))),
            Op::Release(a, i) => (who(a), Order::Release(which(i))),
            Op::Die(a) => (who(a), Order::Die),
        };
        run(&mut actors, &mut model, who, order);
    }
    // Everybody puts everything down, one by one, and the last writer has heard of every death.
    for who in 0..ACTORS {
        for i in 0..EACH {
            run(&mut actors, &mut model, who, Order::Unlock(i));
            run(&mut actors, &mut model, who, Order::Leave(i));
            while model.permits[i][who] > 0 {
                run(&mut actors, &mut model, who, Order::Release(i));
            }
        }
    }
    for i in 0..EACH {
        for order in [Order::Lock(i), Order::Unlock(i), Order::Write(i), Order::Leave(i)] {
            run(&mut actors, &mut model, 0, order);
        }
    }
    COMPANY.set(Some(actors));
}
