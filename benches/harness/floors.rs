//! The floors: the least that the machine and the kernel ask for a kind of work, whoever writes it.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::kernel::{futex_wait, futex_wake, shared, system_call};
use super::work::Work;

/// A word on a cache line of its own, in memory of one process.
#[repr(align(64))]
struct Line(AtomicU64);

fn private() -> &'static AtomicU64 {
    &Box::leak(Box::new(Line(AtomicU64::new(0)))).0
}

/// One compare-exchange on a private word.
pub(crate) fn cas() -> Work {
    let word = private();
    Work::alone("compare_exchange", move |n| {
        let mut value = black_box(word).load(Ordering::Relaxed);
        for _ in 0..n {
            let next = value.wrapping_add(1);
            let _ = black_box(word.compare_exchange(value, next, Ordering::AcqRel, Ordering::Relaxed));
            value = next;
        }
    })
}

/// One `fetch_add` on a private word.
pub(crate) fn fetch_add() -> Work {
    let word = private();
    Work::alone("fetch_add", move |n| {
        for _ in 0..n {
            black_box(word.fetch_add(1, Ordering::AcqRel));
        }
    })
}

/// A load of a private word.
pub(crate) fn load() -> Work {
    let word = private();
    Work::alone("load", move |n| {
        for _ in 0..n {
            black_box(word.load(Ordering::Acquire));
        }
    })
}

/// A store to a private word.
pub(crate) fn store() -> Work {
    let word = private();
    Work::alone("store", move |n| {
        for i in 0..n {
            word.store(black_box(i), Ordering::Release);
        }
    })
}

/// Two processes add to one word.
pub(crate) fn fetch_add_by_two() -> Work {
    let word = shared::<AtomicU64>();
    let work = Work::together("fetch_add on one word, 2 p.", 2, move |_, n| {
        for _ in 0..n {
            black_box(word.fetch_add(1, Ordering::AcqRel));
        }
    });
    work.operations(2)
}

/// A load that depends on the one before, at a random place among `bytes`: one cache line after another, each visited once a round.
pub(crate) fn chase(name: &'static str, bytes: usize) -> Work {
    let lines = bytes / 64;
    // Sattolo's shuffle: one cycle through all lines.
    let mut order: Vec<u32> = (0..lines as u32).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for i in (1..lines).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(i, (state % i as u64) as usize);
    }
    let mut next = vec![0_u32; lines * 16];
    for (line, target) in order.iter().enumerate() {
        next[line * 16] = *target;
    }
    // It goes on where it stopped: the lines of the last sample are in the cache.
    let place = std::cell::Cell::new(0);
    Work::alone(name, move |n| {
        let mut at = place.get();
        for _ in 0..n {
            at = next[at as usize * 16];
        }
        place.set(at);
    })
}

/// Two processes in turn wake the other and sleep; a round trip.
pub(crate) fn futex_ping_pong() -> Work {
    let turn = shared::<AtomicU32>();
    Work::together("futex ping-pong", 2, move |hand, n| {
        let (mine, other) = (hand as u32, 1 - hand as u32);
        for _ in 0..n {
            while turn.load(Ordering::Acquire) != mine {
                futex_wait(turn, other, None);
            }
            turn.store(other, Ordering::Release);
            futex_wake(turn, 1);
        }
    })
}

/// Two processes in turn write one word and watch it; a round trip of its cache line.
pub(crate) fn line_ping_pong() -> Work {
    let turn = shared::<AtomicU32>();
    Work::together("cache-line ping-pong", 2, move |hand, n| {
        let (mine, other) = (hand as u32, 1 - hand as u32);
        for _ in 0..n {
            while turn.load(Ordering::Acquire) != mine {
                spin_loop();
            }
            turn.store(other, Ordering::Release);
        }
    })
}

/// The cheapest system call.
pub(crate) fn getppid() -> Work {
    Work::alone("getppid", |n| {
        for _ in 0..n {
            black_box(system_call());
        }
    })
}
