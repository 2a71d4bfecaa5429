//! Messages and tasks between processes, beside a Unix socketpair that carries the same bytes. What the socketpair does not do: it takes no message back
//! when its reader dies, has no name for who sent it, and nobody counts.

use std::cell::{OnceCell, RefCell};
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use commons::harness::crew::{Address, Bus, BusSize, Inbox, Roll, Sender, TaskQueue, TaskSize, TaskWorker, Tenancy};

mod harness;

use harness::{Bar, Suite, Work};

const MESSAGE: [u8; 64] = *b"sixty-four bytes, as long as a cache line and what most send....";
const LARGE: usize = 1 << 20;
const LONG: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let mut suite = Suite::new("crew");
    suite.sample_for(4_000_000);
    suite.pair(bus("bus, 64 bytes", MESSAGE.len()), socketpair("socketpair, 64 bytes", MESSAGE.len()), Bar::Shown);
    suite.pair(bus("bus, 1 MiB", LARGE), socketpair("socketpair, 1 MiB", LARGE), Bar::Shown);
    let there_and_back = || socketpair_there_and_back("socketpair, there and back");
    suite.pair(bus_there_and_back("bus, there and back"), there_and_back(), Bar::Shown);
    suite.pair(task("task and its answer"), there_and_back(), Bar::Shown);
    let on_one = || socketpair_there_and_back("socketpair, there and back, one core").on_one_core();
    suite.pair(bus_there_and_back("bus, there and back, one core").on_one_core(), on_one(), Bar::Shown);
    suite.pair(task("task and its answer, one core").on_one_core(), on_one(), Bar::Shown);
    suite.pair(many_tasks(), there_and_back(), Bar::Shown);
    suite.run()
}

fn made() -> (Roll, Bus) {
    let roll = Roll::new(2).expect("a roll");
    let bus = Bus::new(&roll, BusSize::default()).expect("a bus");
    (roll, bus)
}

/// One's own inbox, made by the process that has it.
struct End {
    roll: Roll,
    bus: Bus,
    inbox: OnceCell<(Tenancy, Inbox)>,
}

impl End {
    fn inbox(&self, hand: usize) -> &Inbox {
        let make = || {
            let tenancy = self.roll.attach(hand as u32).expect("a slot");
            let inbox = self.bus.inbox(&tenancy).expect("an inbox");
            (tenancy, inbox)
        };
        &self.inbox.get_or_init(make).1
    }
}

fn end() -> End {
    let (roll, bus) = made();
    End { roll, bus, inbox: OnceCell::new() }
}

fn bus(name: &'static str, len: usize) -> Work {
    let (end, data) = (end(), vec![7; len]);
    Work::together(name, 2, move |hand, n| {
        for _ in 0..n {
            if hand == 0 {
                end.bus.send_timeout(Address::NOBODY, 1, black_box(&data), LONG).expect("room");
            } else {
                black_box(end.inbox(1).recv_timeout(LONG).expect("a message"));
            }
        }
    })
}

fn bus_there_and_back(name: &'static str) -> Work {
    let end = end();
    Work::together(name, 2, move |hand, n| {
        let inbox = end.inbox(hand);
        let send = || end.bus.send_timeout(Address::NOBODY, 1 - hand as u32, black_box(&MESSAGE), LONG).expect("room");
        for _ in 0..n {
            if hand == 0 {
                send();
            }
            black_box(inbox.recv_timeout(LONG).expect("a message"));
            if hand == 1 {
                send();
            }
        }
    })
}

fn socketpair(name: &'static str, len: usize) -> Work {
    let (from, to) = UnixStream::pair().expect("a socketpair");
    let (from, to, data) = (RefCell::new(from), RefCell::new(to), vec![7; len]);
    Work::together(name, 2, move |hand, n| {
        let mut message = data.clone();
        for _ in 0..n {
            if hand == 0 {
                to.borrow_mut().write_all(black_box(&data)).expect("room");
            } else {
                from.borrow_mut().read_exact(&mut message).expect("a message");
                black_box(&message);
            }
        }
    })
}

fn socketpair_there_and_back(name: &'static str) -> Work {
    let (a, b) = UnixStream::pair().expect("a socketpair");
    let ends = [RefCell::new(a), RefCell::new(b)];
    Work::together(name, 2, move |hand, n| {
        let (mut own, mut message) = (ends[hand].borrow_mut(), MESSAGE);
        for _ in 0..n {
            if hand == 0 {
                own.write_all(&message).expect("room");
            }
            own.read_exact(&mut message).expect("a message");
            if hand == 1 {
                own.write_all(&message).expect("room");
            }
        }
    })
}

/// The first hand's sender, and the other's task worker.
struct Desk {
    roll: Roll,
    queue: TaskQueue,
    sender: OnceCell<Sender>,
    worker: OnceCell<TaskWorker>,
}

impl Desk {
    fn new() -> Desk {
        let roll = Roll::new(1).expect("a roll");
        let queue = TaskQueue::new(&roll, TaskSize::default()).expect("a queue");
        Desk { roll, queue, sender: OnceCell::new(), worker: OnceCell::new() }
    }

    fn sender(&self) -> &Sender {
        let make = || self.queue.sender(&self.roll.attach(0).expect("a slot")).expect("a sender");
        self.sender.get_or_init(make)
    }

    fn work(&self, n: u64) {
        let worker = self.worker.get_or_init(|| self.queue.worker());
        for _ in 0..n {
            let task = worker.take_timeout(LONG).expect("a task");
            task.finish(&MESSAGE).expect("room");
        }
    }
}

fn task(name: &'static str) -> Work {
    let desk = Desk::new();
    Work::together(name, 2, move |hand, n| {
        if hand == 1 {
            return desk.work(n);
        }
        for _ in 0..n {
            desk.sender().try_submit(black_box(&MESSAGE)).expect("room");
            black_box(desk.sender().recv_timeout(LONG).expect("an answer").result.expect("a result"));
        }
    })
}

/// As many under way at once as a batch is long.
fn many_tasks() -> Work {
    const BATCH: u64 = 100;
    let desk = Desk::new();
    let work = Work::together("tasks and their answers, 100 at once", 2, move |hand, n| {
        if hand == 1 {
            return desk.work(n * BATCH);
        }
        for _ in 0..n {
            (0..BATCH).for_each(|_| _ = desk.sender().try_submit(black_box(&MESSAGE)).expect("room"));
            (0..BATCH).for_each(|_| _ = black_box(desk.sender().recv_timeout(LONG).expect("an answer")));
        }
    });
    work.operations(BATCH)
}
