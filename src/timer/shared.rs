//! What lies in the region, and the timer as one process has it.

use crate::robust::RobustLock;
use crate::shm::{Key, Kind, Pad, Place, Region, Row, shared};
use crate::sync::{AtomicU64, EventFd, Ordering, owned};
use crate::{Error, Result};

shared! {
    pub(super) struct Head {
        pub(super) lock: RobustLock,
        /// How many timers were ever made; a little more, if somebody died making one. Written before the timer.
        pub(super) made: AtomicU64,
        /// Entries that were never used begin here. Written before the first use.
        pub(super) fresh: AtomicU64,
        /// Live timers: nodes of the heap. Follows from the entries, as `free` does.
        pub(super) live: AtomicU64,
        /// The first free entry and one, or 0.
        pub(super) free: AtomicU64,
        pad: Pad<3>,
        /// Nothing is due before this (monotonic, in nanoseconds); when the first one is, while nobody is in the middle of a change.
        pub(super) next: AtomicU64,
        /// A word of turns: moved on when `next` becomes earlier.
        pub(super) turn: AtomicU64,
        /// Whether anybody has ever asked for the eventfd.
        pub(super) watched: AtomicU64,
        more: Pad<5>,
    }
}

shared! {
    /// One timer, or room for one: half a cache line, all there is to one that fires once.
    pub(super) struct Entry {
        /// [`State`].
        pub(super) state: AtomicU64,
        /// Where its node is; of a free one, the next free entry and one. Follows from the states.
        pub(super) place: AtomicU64,
        pub(super) payload: AtomicU64,
        /// When it is due, while the first half counts.
        due: AtomicU64,
    }
}

shared! {
    /// What only a tick has besides: memory that is not touched where there are none.
    pub(super) struct Tick {
        /// In nanoseconds.
        pub(super) interval: AtomicU64,
        /// When it is due, while the second half counts.
        due: AtomicU64,
        /// How often it has fired, by the first half and by the second.
        fired: [AtomicU64; 2],
    }
}

shared! {
    /// A node of the heap.
    pub(super) struct Node {
        pub(super) due: AtomicU64,
        pub(super) entry: AtomicU64,
    }
}

/// ```text
///  63                                        3    2       1      0
/// ┌──────────────────────────────────────────┬───────┬──────┬──────┐
/// │ which timer of this heap, counted from 1 │ ticks │ half │ live │
/// └──────────────────────────────────────────┴───────┴──────┴──────┘
/// ```
/// | generation | live | meaning |
/// |---|---|---|
/// | 0 | 0 | never used |
/// | g | 1 | the timer of that generation; `ticks`: it has a [`Tick`], and `half` says which halves of due and fired count |
/// | g | 0 | free; that one was its last |
///
/// One store makes a timer, changes it, or ends it. A generation never comes again, in this entry or another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(pub(super) u64);

const LIVE: u64 = 1;
const HALF: u64 = 2;
const TICKS: u64 = 4;
const GENERATION: u32 = 3;

impl State {
    /// A timer moves in; its first half counts.
    #[inline]
    pub(super) fn made(generation: u64, ticks: bool) -> State {
        State(generation << GENERATION | LIVE | if ticks { TICKS } else { 0 })
    }
    /// It fires and goes on: the other half counts.
    pub(super) fn fired(self) -> State {
        State(self.0 ^ HALF)
    }
    /// It is gone.
    #[inline]
    pub(super) fn ended(self) -> State {
        State(self.0 & !LIVE)
    }
    #[inline]
    pub(super) fn is_live(self) -> bool {
        self.0 & LIVE != 0
    }
    #[inline]
    pub(super) fn ticks(self) -> bool {
        self.0 & TICKS != 0
    }
    #[inline]
    pub(super) fn generation(self) -> u64 {
        self.0 >> GENERATION
    }
    /// Whether it lives, and is the one of this generation.
    #[inline]
    pub(super) fn is_of(self, generation: u64) -> bool {
        self.is_live() && self.generation() == generation
    }
    fn half(self) -> usize {
        usize::from(self.0 & HALF != 0)
    }
}

/// The most timers: an id has 24 bits for the entry.
pub(super) const CAPACITY_MAX: usize = (1 << 24) - 1;

pub(super) const WHAT: &str = "timer";
pub(super) const NEVER: u64 = u64::MAX;
/// The last instant at which something can be due.
pub(super) const LAST: u64 = NEVER - 1;

/// Nodes left out at the start, so that the four children of each node share a cache line.
pub(super) const SHIFT: usize = 3;

/// What all handles of one process share.
pub(super) struct Ground {
    pub(super) head: Place<Head>,
    pub(super) entries: Row<Entry>,
    pub(super) ticks: Row<Tick>,
    pub(super) nodes: Row<Node>,
    /// Becomes readable when `next` becomes earlier.
    pub(super) changed: EventFd,
    /// The lock's, which also is the heap's number.
    pub(super) key: Key,
}

impl Ground {
    pub(super) fn bytes(capacity: usize) -> usize {
        Region::bytes_for::<Head>(1)
            + Region::bytes_for::<Entry>(capacity)
            + Region::bytes_for::<Tick>(capacity)
            + Region::bytes_for::<Node>(capacity.saturating_add(SHIFT))
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
        let ticks = Row::new(&region, Kind::TimerTicks, capacity)?;
        let nodes = Row::new(&region, Kind::TimerNodes, capacity + SHIFT)?;
        // Relaxed: not yet seen by anybody else.
        head.next.store(NEVER, Ordering::Relaxed);
        let key = head.key(head.lock.cell());
        Ok(Ground { head, entries, ticks, nodes, changed, key })
    }

    pub(super) fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// When the timer in this entry is due, by the half that counts under `state`.
    #[inline]
    pub(super) fn due(&self, number: usize, state: State) -> &AtomicU64 {
        if state.half() == 0 { &self.entries[number].due } else { &self.ticks[number].due }
    }

    /// How often a tick has fired, likewise.
    #[inline]
    pub(super) fn fired(&self, number: usize, state: State) -> &AtomicU64 {
        &self.ticks[number].fired[state.half()]
    }
}

impl Entry {
    /// The state, for who holds the lock.
    #[inline]
    pub(super) fn held(&self) -> State {
        State(owned(&self.state))
    }
}
