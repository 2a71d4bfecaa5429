//! The floors: the least that the machine and the kernel ask for a kind of work, whoever writes it.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::kernel::{futex_wait, futex_wake, huge_words, shared, shared_words, system_call};
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

/// A shared number, raised by a plain load and store: what a holder of a lock does.
#[derive(Clone, Copy)]
pub(crate) struct Guarded(&'static AtomicU64);

impl Guarded {
    pub(crate) fn new() -> Guarded {
        Guarded(shared())
    }

    #[inline]
    pub(crate) fn raise(self) {
        // Relaxed: under the lock.
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
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

/// A load that depends on the one before, at a random place among `bytes` of the process's own memory: one cache line after another, each
/// visited once a round.
pub(crate) fn chase(name: &'static str, bytes: usize) -> Work {
    let mut next = vec![0_u32; bytes / 4];
    cycle(bytes / 64, |line, target| next[line * 16] = target);
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

/// The same, in shared memory that is mapped as a structure's is. Made once, for as many works as want it.
#[derive(Clone, Copy)]
pub(crate) struct SharedChase(&'static [AtomicU64]);

impl SharedChase {
    pub(crate) fn over(bytes: usize) -> SharedChase {
        SharedChase::through(shared_words(bytes / 64 * 8))
    }

    /// The same in huge pages, if the kernel has any.
    pub(crate) fn huge(bytes: usize) -> SharedChase {
        SharedChase::through(huge_words(bytes / 64 * 8))
    }

    fn through(words: &'static [AtomicU64]) -> SharedChase {
        let bytes = words.len() * 8;
        cycle(bytes / 64, |line, target| words[line * 8].store(u64::from(target), Ordering::Relaxed));
        SharedChase(words)
    }

    pub(crate) fn work(self, name: &'static str) -> Work {
        Work::alone(name, self.walk(0))
    }

    /// Two processes side by side, begun at opposite ends.
    pub(crate) fn by_two(self, name: &'static str) -> Work {
        let hands = [self.walk(0), self.walk(self.0.len() as u64 / 16)];
        Work::together(name, 2, move |hand, n| hands[hand](n)).operations(2)
    }

    fn walk(self, from: u64) -> impl Fn(u64) + 'static {
        let (words, place) = (self.0, std::cell::Cell::new(from));
        move |n| {
            let mut at = place.get();
            for _ in 0..n {
                at = words[at as usize * 8].load(Ordering::Relaxed);
            }
            place.set(at);
        }
    }

    /// Touches every page of it.
    pub(crate) fn touch(self) {
        self.0.iter().step_by(512).for_each(|word| _ = black_box(word.load(Ordering::Relaxed)));
    }
}

/// Sattolo's shuffle: one cycle through all lines, told line by line.
fn cycle(lines: usize, mut link: impl FnMut(usize, u32)) {
    let mut order: Vec<u32> = (0..lines as u32).collect();
    let mut random = Random::new();
    for i in (1..lines).rev() {
        order.swap(i, random.below(i));
    }
    order.iter().enumerate().for_each(|(line, target)| link(line, *target));
}

/// Xorshift: the same numbers in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Random {
        Random(0x9e37_79b9_7f4a_7c15)
    }

    /// Less than `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
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

/// The same with sleeps of at most 20 ms. What the limit costs, 1.10 to 1.14 times, is that the kernel queues a timer and takes it out again; it is the same
/// for 4 ms and for 60 s, absolute or not, on any clock and with any slack. (For 1 ms it is 2.3 times: then the timer is the processor's next one, whose
/// clock is set anew.) So no limit is cheaper than another, and only none is free.
pub(crate) fn futex_ping_pong_in_slices() -> Work {
    ping_pong("futex ping-pong in slices", |_, _| ())
}

/// The same with a message in shared memory: written before the turn is given, copied out by who gets it. What a wake-up and a message cost without any
/// queue, lock or recovery.
pub(crate) fn futex_ping_pong_with(message: &'static [u8; 64]) -> Work {
    let words = shared::<[AtomicU64; 16]>();
    ping_pong("the same with 64 bytes", move |hand, send| {
        let words = &words[hand * 8..][..8];
        // Relaxed, both: published by the turn.
        if send {
            let values = message.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight")));
            words.iter().zip(values).for_each(|(word, value)| word.store(black_box(value), Ordering::Relaxed));
        } else {
            words.iter().for_each(|word| _ = black_box(word.load(Ordering::Relaxed)));
        }
    })
}

/// `carry(hand, send)`: what else is done with the turn, by one or the other.
fn ping_pong(name: &'static str, carry: impl Fn(usize, bool) + 'static) -> Work {
    let turn = shared::<AtomicU32>();
    Work::together(name, 2, move |hand, n| {
        let (mine, other) = (hand as u32, 1 - hand as u32);
        for _ in 0..n {
            while turn.load(Ordering::Acquire) != mine {
                futex_wait(turn, other, Some(Duration::from_millis(20)));
            }
            carry(1 - hand, false);
            carry(hand, true);
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
