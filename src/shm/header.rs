//! What a region says about itself, for whoever has only its memory.

use super::bytes::store_bytes;
use super::shared::{Pad, shared};
use crate::sync::{AtomicU64, Ordering, identity};

/// The first word of every region: "commons" and a line feed, as bytes in memory order.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"commons\n");
/// Raised with every change of the layout of header or deeds.
pub(crate) const LAYOUT: u64 = 1;
/// The longest name of a region, in bytes.
pub(crate) const NAME_MAX: usize = 64;

/// What stands in a placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Participants = 1,
    Cells = 2,
    Counter = 3,
    Lock = 4,
    RwLock = 5,
    Semaphore = 6,
    Barrier = 7,
    Table = 8,
    TableSchema = 9,
    TableBuckets = 10,
    TableRows = 11,
    TableRecords = 12,
    TableLogs = 13,
    Channel = 14,
    Ring = 15,
    Timer = 16,
    TimerEntries = 17,
    TimerNodes = 18,
    TimerTicks = 19,
    #[cfg(feature = "server")]
    Roll = 20,
    #[cfg(feature = "server")]
    Bell = 21,
    #[cfg(feature = "server")]
    Vault = 22,
    #[cfg(feature = "server")]
    VaultLockers = 23,
    #[cfg(feature = "server")]
    TaskStates = 24,
    #[cfg(feature = "server")]
    TaskRecords = 25,
    #[cfg(feature = "server")]
    TaskData = 26,
    #[cfg(feature = "server")]
    TaskHead = 27,
    #[cfg(feature = "server")]
    Board = 28,
    #[cfg(feature = "server")]
    BoardLines = 29,
}

shared! {
    /// The first 256 bytes of a region. Written once, by the process that made it, before anybody else can see it,
    /// but for `used`.
    pub(crate) struct Header {
        magic: AtomicU64,
        layout: AtomicU64,
        id: AtomicU64,
        /// Bytes for placements, deeds included.
        size: AtomicU64,
        /// A hint: bytes taken so far. The deeds are the truth.
        pub(crate) used: AtomicU64,
        creator_pid: AtomicU64,
        creator_start: AtomicU64,
        /// In the root region: how many ids were given out.
        pub(crate) ids: AtomicU64,
        name_len: AtomicU64,
        name: [AtomicU64; NAME_MAX / 8],
        pad: Pad<15>,
    }
}

impl Header {
    pub(crate) fn write(&self, id: u64, size: usize, name: &str) {
        let who = identity::current();
        // Relaxed, all of them: other processes come by the region through a fork, which orders everything before it.
        self.layout.store(LAYOUT, Ordering::Relaxed);
        self.id.store(id, Ordering::Relaxed);
        self.size.store(size as u64, Ordering::Relaxed);
        self.creator_pid.store(who.pid.into(), Ordering::Relaxed);
        self.creator_start.store(who.start, Ordering::Relaxed);
        self.name_len.store(name.len() as u64, Ordering::Relaxed);
        store_bytes(&self.name, name.as_bytes());
        // Release: a tool that finds the magic finds the rest.
        self.magic.store(MAGIC, Ordering::Release);
    }
}

shared! {
    /// The 64 bytes before a placement: what it is and how long.
    pub(crate) struct Deed {
        /// Kind in the upper 16 bits, length in bytes in the lower 48; zero where nothing stands yet.
        pub(crate) claim: AtomicU64,
        /// How many elements a slice has; 1 for a single struct.
        pub(crate) count: AtomicU64,
        pad: Pad<6>,
    }
}

/// The first word of a deed.
pub(crate) fn claim(kind: Kind, bytes: usize) -> u64 {
    (kind as u64) << 48 | bytes as u64
}

/// The length that a claim states.
pub(crate) fn claimed_bytes(claim: u64) -> usize {
    (claim & ((1 << 48) - 1)) as usize
}
