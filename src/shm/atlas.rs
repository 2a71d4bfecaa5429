//! Names for cells that hold in every process, and the way back from a name to the cell.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::region::{Inner, Region};
use crate::Result;
use crate::sync::{AtomicU64, process_static};
use crate::sys::fork::{gated, set_once};

/// A cell of some region: 24 bits of region id, 32 bits of offset in words. Zero names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(u64);

impl Key {
    /// How many bits of a word a key takes.
    pub(crate) const BITS: u32 = 56;
    /// The largest region, so that every offset fits a key: 32 GiB.
    pub(crate) const MAX_BYTES: usize = 8 << 32;
    /// Regions that one family of processes may make, ever.
    pub(crate) const MAX_REGIONS: u64 = (1 << 24) - 1;

    pub(crate) fn new(region: u64, offset: usize) -> Key {
        Key(region << 32 | (offset / 8) as u64)
    }

    pub(crate) fn from_bits(bits: u64) -> Key {
        Key(bits & ((1 << Self::BITS) - 1))
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    fn region(self) -> u64 {
        self.0 >> 32
    }

    fn offset(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize * 8
    }

    /// Calls `f` with the cell of this name, if this process has its region.
    pub(crate) fn visit<R>(self, f: impl FnOnce(&AtomicU64) -> R) -> Option<R> {
        let region = gated(|| {
            let atlas = lock();
            atlas.iter().find(|(id, _)| *id == self.region()).and_then(|(_, region)| region.upgrade())
        })?;
        region.cell(self.offset()).map(f)
    }
}

process_static! {
    /// The one region that every process of a family has: it hands out region ids, and floor 3 keeps its participants in it.
    static ROOT: OnceLock<Region> = OnceLock::new();
}

/// Bytes of the root region; only pages that are touched cost memory.
const ROOT_BYTES: usize = 4 << 20;

/// The root region. Made by the first process that needs it, inherited by all that are forked from it afterwards; so any
/// two processes that share a structure share the root under which it was made.
pub(crate) fn root() -> Result<&'static Region> {
    if let Some(root) = ROOT.get() {
        return Ok(root);
    }
    let made = Region::with_id(1, "root", ROOT_BYTES)?;
    // Another thread may have been faster; then ours goes, before anybody saw it.
    set_once(&ROOT, made);
    Ok(ROOT.get().unwrap_or_else(|| unreachable!("set just above, by this thread or another")))
}

/// An id for a new region: unique among all processes of the family.
pub(super) fn next_id() -> Result<u64> {
    let root = root()?;
    // A modelled world has one process, and no header to count in.
    Ok(root.next_id().unwrap_or_else(|| gated(|| lock().iter().map(|(id, _)| *id).max().unwrap_or(1) + 1)))
}

process_static! {
    /// The regions that this process has mapped. Locked only inside the gate, so that a fork never copies it half written.
    static ATLAS: Mutex<Vec<(u64, Weak<Inner>)>> = Mutex::new(Vec::new());
}

fn lock() -> MutexGuard<'static, Vec<(u64, Weak<Inner>)>> {
    // Poisoned: a thread panicked between two whole states of a Vec; there is no half state to fear.
    ATLAS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a region down, and forgets those that are gone.
pub(super) fn enter(id: u64, region: Weak<Inner>) {
    gated(|| {
        let mut atlas = lock();
        atlas.retain(|(_, region)| region.strong_count() > 0);
        atlas.push((id, region));
    });
}

/// A region as it is mapped in this process; for harnesses and inspectors, not part of the contract.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Mapped {
    /// The name given.
    pub name: String,
    /// The region's id.
    pub id: u64,
    /// Where it begins in this process.
    pub base: usize,
    /// How many bytes are mapped, header included.
    pub len: usize,
    /// Its memfd.
    pub fd: std::os::fd::RawFd,
}

/// Every region that this process has mapped; for harnesses and inspectors, not part of the contract.
#[doc(hidden)]
pub fn mapped() -> Vec<Mapped> {
    let all: Vec<_> = gated(|| lock().iter().filter_map(|(_, region)| region.upgrade()).collect());
    all.iter().filter_map(|region| region.mapped()).collect()
}
