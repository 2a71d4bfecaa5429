//! What lies in the region, and the timer as one process has it.

use crate::robust::RobustLock;
use crate::shm::{Kind, Pad, Place, Region, Row, shared};
use crate::sync::{AtomicU64, EventFd, Ordering, owned};
use crate::{Error, Result};

shared! {
    pub(super) struct Head {
        pub(super) lock: RobustLock,
        /// Live timers: nodes of the heap. Derived from the entries, like all that follows but `turn`.
        pub(super) live: AtomicU64,
        /// The first free entry and one, or 0.
        pub(super) free: AtomicU64,
        /// Entries that were never used begin here.
        pub(super) fresh: AtomicU64,
        /// The number of the next timer that is made.
        pub(super) sequence: AtomicU64,
        pad: Pad<3>,
        /// When the first timer is due (monotonic, in nanoseconds), or never.
        pub(super) next: AtomicU64,
        /// A word of turns: moved on when `next` becomes earlier.
        pub(super) turn: AtomicU64,
        /// Whether anybody has ever asked for the eventfd.
        pub(super) watched: AtomicU64,
        more: Pad<5>,
    }
}

shared! {
    /// What changes when a timer fires.
    pub(super) struct Half {
        pub(super) due: AtomicU64,
        pub(super) fired: AtomicU64,
    }
}

shared! {
    /// One timer, or room for one: 64 bytes.
    pub(super) struct Entry {
        /// [`State`].
        pub(super) state: AtomicU64,
        /// In nanoseconds; 0 for one that fires once.
        pub(super) interval: AtomicU64,
        pub(super) payload: AtomicU64,
        pub(super) sequence: AtomicU64,
        pub(super) halves: [Half; 2],
    }
}

shared! {
    /// A node of the heap.
    pub(super) struct Node {
        pub(super) due: AtomicU64,
        /// [`Who`].
        pub(super) who: AtomicU64,
    }
}

/// `generation:40 | version:23 | live:1`. The generation goes up when a timer is made, the version when it fires; the version's lowest bit says which
/// half counts. One store makes a timer, changes it, or ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(pub(super) u64);

const VERSION_BITS: u32 = 23;

impl State {
    pub(super) fn is_live(self) -> bool {
        self.0 & 1 == 1
    }
    pub(super) fn generation(self) -> u64 {
        self.0 >> (VERSION_BITS + 1)
    }
    pub(super) fn half(self) -> usize {
        usize::from(self.0 & 2 != 0)
    }
    /// A new timer moves in.
    pub(super) fn made(self) -> State {
        State((self.generation() + 1) << (VERSION_BITS + 1) | 1)
    }
    /// It fires and goes on.
    pub(super) fn fired(self) -> State {
        let version = (self.0 + 2) & ((1 << (VERSION_BITS + 1)) - 1);
        State(self.generation() << (VERSION_BITS + 1) | version)
    }
    /// It is gone.
    pub(super) fn ended(self) -> State {
        State(self.0 & !1)
    }
}

/// `sequence:40 | entry:24`: of two that are due at the same instant, the one that was made first has the lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who(pub(super) u64);

const ENTRY_BITS: u32 = 24;

/// The most timers.
pub(super) const CAPACITY_MAX: usize = (1 << ENTRY_BITS) - 1;

impl Who {
    pub(super) fn new(sequence: u64, entry: usize) -> Who {
        Who(sequence << ENTRY_BITS | entry as u64)
    }
    pub(super) fn entry(self) -> usize {
        self.0 as usize & ((1 << ENTRY_BITS) - 1)
    }
}

pub(super) const WHAT: &str = "timer";
pub(super) const NEVER: u64 = u64::MAX;

/// Nodes left out at the start, so that the four children of each node share a cache line.
pub(super) const SHIFT: usize = 3;

/// What all handles of one process share.
pub(super) struct Ground {
    pub(super) head: Place<Head>,
    pub(super) entries: Row<Entry>,
    pub(super) nodes: Row<Node>,
    /// Where each entry's node is; for a free entry, the next free one and one.
    pub(super) places: Row<AtomicU64>,
    /// Becomes readable when `next` becomes earlier.
    pub(super) changed: EventFd,
    pub(super) region: Region,
}

impl Ground {
    pub(super) fn bytes(capacity: usize) -> usize {
        Region::bytes_for::<Head>(1)
            + Region::bytes_for::<Entry>(capacity)
            + Region::bytes_for::<Node>(capacity + SHIFT)
            + Region::bytes_for::<AtomicU64>(capacity)
    }

    pub(super) fn new(region: Option<&Region>, capacity: usize) -> Result<Ground> {
        if capacity == 0 || capacity > CAPACITY_MAX {
            let (value, max) = (capacity as u64, CAPACITY_MAX as u64);
            return Err(Error::OutOfRange { what: "the number of timers", value, min: 1, max });
        }
        crate::robust::prepare()?;
        let asked = Ground::bytes(capacity);
        let region = match region {
            Some(region) => region.clone(),
            None => Region::new(WHAT, asked)?,
        };
        let left = region.size().saturating_sub(region.used());
        if !crate::sync::MODELLED && asked > left {
            return Err(Error::OutOfMemory { asked, left });
        }
        let changed = EventFd::new()?;
        let head: Place<Head> = Place::new(&region, Kind::Timer)?;
        let entries = Row::new(&region, Kind::TimerEntries, capacity)?;
        let nodes = Row::new(&region, Kind::TimerNodes, capacity + SHIFT)?;
        let places = Row::new(&region, Kind::TimerPlaces, capacity)?;
        // Relaxed: not yet seen by anybody else.
        head.next.store(NEVER, Ordering::Relaxed);
        Ok(Ground { head, entries, nodes, places, changed, region })
    }

    pub(super) fn capacity(&self) -> usize {
        self.entries.len()
    }
}

impl Entry {
    /// What its own lock holder reads: state, and the half that counts.
    pub(super) fn held(&self) -> (State, &Half) {
        let state = State(owned(&self.state));
        (state, &self.halves[state.half()])
    }
}
