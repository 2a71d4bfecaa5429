//! One thread's place in shared memory, and the word that says whose it is.

use super::ledger::{Entry, MAX_HELD};
use crate::shm::{Pad, shared};
use crate::sync::{AtomicU64, Ordering, Who};

shared! {
    /// One thread's place in shared memory: 512 bytes.
    pub(super) struct Slot {
        /// [`State`]: free, live or dead; generation; thread id.
        pub(super) state: AtomicU64,
        /// Process id, under the generation.
        process: AtomicU64,
        /// Start time of the thread, under the lower 16 bits of the generation.
        start: AtomicU64,
        /// Inode of the pid namespace, under the generation.
        namespace: AtomicU64,
        /// What the thread sleeps for; at most one thing at a time.
        pub(super) sleeping: Entry,
        pad: Pad<2>,
        pub(super) held: [Entry; MAX_HELD],
    }
}

/// A slot's state word: `generation << 32 | thread id << 2 | phase`. A thread id has at most 22 bits (PID_MAX_LIMIT, 2^22).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(pub(super) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Free = 0,
    Live = 1,
    Dead = 2,
}

impl State {
    pub(super) fn phase(self) -> Phase {
        match self.0 & 3 {
            0 => Phase::Free,
            1 => Phase::Live,
            _ => Phase::Dead,
        }
    }
    pub(super) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
    fn tid(self) -> u32 {
        self.0 as u32 >> 2
    }
    /// The next tenant moves in.
    pub(super) fn claimed(self, tid: u32) -> State {
        // Generation 0 is nobody's: entries of zeroed memory carry it.
        let generation = self.generation().wrapping_add(1).max(1);
        State(u64::from(generation) << 32 | u64::from(tid) << 2 | Phase::Live as u64)
    }
    pub(super) fn with(self, phase: Phase) -> State {
        State(self.0 & !3 | phase as u64)
    }
}

impl Slot {
    pub(super) fn state(&self) -> State {
        // Acquire: pairs with the AcqRel of whoever moved it on; who finds a slot dead or free sees all that its tenant wrote.
        State(self.state.load(Ordering::Acquire))
    }

    pub(super) fn advance(&self, from: State, to: State) -> bool {
        // AcqRel: Release publishes what the old phase wrote, Acquire takes over what the one before published.
        self.state.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The tenant of `state`. What it has not yet written about itself is not known (0), and then not held against it.
    pub(super) fn who(&self, state: State) -> Who {
        let generation = u64::from(state.generation());
        // Relaxed: each word carries the generation it was written under.
        let under = |word: &AtomicU64| {
            let word = word.load(Ordering::Relaxed);
            if word >> 32 == generation { word & u64::from(u32::MAX) } else { 0 }
        };
        let start = self.start.load(Ordering::Relaxed);
        let start = if start >> 48 == generation & 0xffff { start & ((1 << 48) - 1) } else { 0 };
        Who { pid: under(&self.process) as u32, tid: state.tid(), start, namespace: under(&self.namespace) }
    }

    pub(super) fn introduce(&self, generation: u32, who: &Who) {
        let under = u64::from(generation) << 32;
        // Relaxed: see `who`.
        self.start.store(u64::from(generation) << 48 | who.start & ((1 << 48) - 1), Ordering::Relaxed);
        self.namespace.store(under | who.namespace & u64::from(u32::MAX), Ordering::Relaxed);
        self.process.store(under | u64::from(who.pid), Ordering::Relaxed);
    }
}
