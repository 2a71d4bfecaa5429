//! What lies in the region.

use crate::robust::RobustLock;
use crate::shm::{Pad, shared};
use crate::sync::{AtomicU64, size};

/// Rows that a bucket keeps in its own cache line; a model comes to the tree with the second row.
pub(super) const PLACES: usize = size(6, 1);

shared! {
    /// One cache line: the lock of all keys that hash to it, and where their rows are.
    pub(super) struct Bucket {
        pub(super) lock: RobustLock,
        /// Each 0, or [`Entry`].
        pub(super) places: [AtomicU64; PLACES],
        /// The rows that found no place: [`Overflow`].
        pub(super) overflow: AtomicU64,
    }
}

shared! {
    /// The rows that belong to nobody. All under `lock`; the rows' own marks are the truth.
    pub(super) struct Pool {
        pub(super) lock: RobustLock,
        /// The first of the list of free rows, or 0.
        pub(super) first: AtomicU64,
        /// Rows that were never taken begin here.
        pub(super) fresh: AtomicU64,
        /// The row that was last given back, or is being so.
        pub(super) given: AtomicU64,
        pad: Pad<4>,
    }
}

shared! {
    /// What there is one of.
    pub(super) struct Head {
        /// What a tool needs that has only the memory; see `describe`.
        pub(super) about: [AtomicU64; 8],
        pub(super) seed: [AtomicU64; 4],
        /// A word of turns: moved on when a record becomes free that somebody may wait for.
        pub(super) turn: AtomicU64,
        /// Where the next search for expired rows begins.
        pub(super) cursor: AtomicU64,
        /// When the next row may expire; see `soonest`.
        pub(super) soonest: AtomicU64,
        pad: Pad<1>,
        pub(super) pool: Pool,
    }
}

shared! {
    /// What was done under a record, in the half of the two that its state names.
    pub(super) struct Half {
        pub(super) inserts: AtomicU64,
        pub(super) updates: AtomicU64,
        pub(super) deletes: AtomicU64,
        pub(super) collisions: AtomicU64,
        pub(super) longest: AtomicU64,
        pub(super) recoveries: AtomicU64,
    }
}

shared! {
    /// What a writer is doing, for whoever has to finish or undo it. See `journal`.
    pub(super) struct Record {
        pub(super) state: AtomicU64,
        /// The row taken from the pool for this change, or 0.
        pub(super) taken: AtomicU64,
        /// The row that goes back to the pool once the change is made, or 0.
        pub(super) leaving: AtomicU64,
        /// Words of the log that are valid.
        pub(super) logged: AtomicU64,
        pub(super) halves: [Half; 2],
    }
}

/// The word of a place: the lower half of the key's hash, and the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(pub(super) u64);

impl Entry {
    pub(super) fn new(hash: u32, row: u32) -> Entry {
        Entry(u64::from(hash) << 32 | u64::from(row))
    }
    pub(super) fn hash(self) -> u32 {
        (self.0 >> 32) as u32
    }
    /// 0: nobody's.
    pub(super) fn row(self) -> u32 {
        self.0 as u32
    }
}

/// The word of the overflow: how many rows, and the root of their tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overflow(pub(super) u64);

impl Overflow {
    pub(super) fn new(count: u32, root: u32) -> Overflow {
        Overflow(u64::from(count) << 32 | u64::from(root))
    }
    pub(super) fn count(self) -> u32 {
        (self.0 >> 32) as u32
    }
    /// 0: nobody.
    pub(super) fn root(self) -> u32 {
        self.0 as u32
    }
}

/// A row's children in the tree: who has a smaller hash is left, who has the same or a greater one is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Links(pub(super) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

impl Links {
    pub(super) fn get(self, side: Side) -> u32 {
        match side {
            Side::Left => (self.0 >> 32) as u32,
            Side::Right => self.0 as u32,
        }
    }
    pub(super) fn with(self, side: Side, row: u32) -> Links {
        match side {
            Side::Left => Links(u64::from(row) << 32 | self.0 & u64::from(u32::MAX)),
            Side::Right => Links(self.0 & !u64::from(u32::MAX) | u64::from(row)),
        }
    }
}
