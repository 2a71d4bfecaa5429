//! `Atomic`, `AtomicLong` and `Counter` beside the bare instructions and the bare futex.

use std::hint::black_box;
use std::process::ExitCode;

use commons::{Atomic, AtomicLong, Counter};

mod harness;

use harness::{Bar, Suite, Work, floors};

fn main() -> ExitCode {
    let mut suite = Suite::new("atomic");
    one_process(&mut suite);
    two_processes(&mut suite);
    waking(&mut suite);
    suite.run()
}

fn atomic() -> Atomic {
    Atomic::new(0).expect("an atomic")
}

fn one_process(suite: &mut Suite) {
    let hits = atomic();
    let add = Work::alone("Atomic::add", move |n| {
        for _ in 0..n {
            black_box(hits.add(1));
        }
    });
    suite.pair(add, floors::fetch_add(), Bar::Cost(1.1)); // bars.md

    let balance = AtomicLong::new(0).expect("an atomic");
    let add = Work::alone("AtomicLong::add", move |n| {
        for _ in 0..n {
            black_box(balance.add(1));
        }
    });
    suite.pair(add, floors::fetch_add(), Bar::Cost(1.1)); // the same instruction

    let value = atomic();
    let get = Work::alone("Atomic::get", move |n| {
        for _ in 0..n {
            black_box(value.get());
        }
    });
    suite.pair(get, floors::load(), Bar::Shown);

    let value = atomic();
    let set = Work::alone("Atomic::set", move |n| {
        for i in 0..n {
            value.set(black_box(i as u32));
        }
    });
    suite.pair(set, floors::store(), Bar::Shown);

    let value = atomic();
    let cmpset = Work::alone("Atomic::cmpset", move |n| {
        let mut seen = value.get();
        for _ in 0..n {
            black_box(value.cmpset(seen, seen.wrapping_add(1)));
            seen = seen.wrapping_add(1);
        }
    });
    suite.pair(cmpset, floors::cas(), Bar::Shown);

    let value = atomic();
    let notify = Work::alone("Atomic::notify, nobody asleep", move |n| {
        for _ in 0..n {
            black_box(value.notify(1));
        }
    });
    suite.pair(notify, floors::fetch_add(), Bar::Shown);

    let count = Counter::new().expect("a counter");
    let add = Work::alone("Counter::add", move |n| {
        for _ in 0..n {
            count.add(black_box(1));
        }
    });
    suite.pair(add, floors::fetch_add(), Bar::Cost(1.0)); // it exists to be cheaper
}

fn two_processes(suite: &mut Suite) {
    let hits = atomic();
    let add = Work::together("Atomic::add, 2 p.", 2, move |_, n| {
        for _ in 0..n {
            black_box(hits.add(1));
        }
    });
    suite.pair(add.operations(2), floors::fetch_add_by_two(), Bar::Shown);

    let count = Counter::new().expect("a counter");
    let add = Work::together("Counter::add, 2 p.", 2, move |_, n| {
        for _ in 0..n {
            count.add(black_box(1));
        }
    });
    suite.pair(add.operations(2), floors::fetch_add_by_two(), Bar::Cost(0.5)); // its processes never meet
}

/// A round trip, on two cores and, where both really sleep each time, on one.
fn waking(suite: &mut Suite) {
    suite.pair(wait("wakeup, wait: ping-pong"), floors::futex_ping_pong(), Bar::Shown);
    suite.pair(
        wait("wakeup, wait: ping-pong, one core").on_one_core(),
        floors::futex_ping_pong().on_one_core(),
        Bar::Shown,
    );
    suite.pair(wait_while("notify, wait_while: ping-pong"), floors::futex_ping_pong(), Bar::Shown);
    let one_core = wait_while("notify, wait_while: ping-pong, one core").on_one_core();
    suite.pair(one_core, floors::futex_ping_pong().on_one_core(), Bar::Shown);

    let turn = atomic();
    let spinning = Work::together("set, get: spinning ping-pong", 2, move |hand, n| {
        let (mine, other) = (hand as u32, 1 - hand as u32);
        for _ in 0..n {
            while turn.get() != mine {
                harness::pause();
            }
            turn.set(other);
        }
    });
    suite.pair(spinning, floors::line_ping_pong(), Bar::Shown);
}

fn wait(name: &'static str) -> Work {
    let (there, back) = (atomic(), atomic());
    Work::together(name, 2, move |hand, n| {
        for _ in 0..n {
            if hand == 0 {
                there.wakeup(1);
                back.wait(None);
            } else {
                there.wait(None);
                back.wakeup(1);
            }
        }
    })
}

fn wait_while(name: &'static str) -> Work {
    let turn = atomic();
    Work::together(name, 2, move |hand, n| {
        let other = 1 - hand as u32;
        for _ in 0..n {
            turn.wait_while(other, None);
            turn.set(other);
            turn.notify(1);
        }
    })
}
