//! Regions: made, mapped, and given out piece by piece.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use super::atlas::{self, Key, Mapped};
use super::header::{Deed, Header, Kind, NAME_MAX, claim, claimed_bytes};
use super::shared::{ALIGN, Shared, prove};
use crate::sync::{AtomicU64, MODELLED, Ordering};
use crate::sys::fork;
use crate::sys::memory::Mapping;
use crate::{Error, Result};

/// A piece of memory that this process shares with every process forked from it afterwards.
///
/// Memfd-backed, sealed against resizing, zeroed, of fixed size; it leaves nothing behind in any file system, whoever dies.
/// Cloning gives another handle to the same memory; dropping the last handle in a process unmaps it there.
///
/// Memory cost: the size asked for and a 256-byte header, in whole pages, of which the kernel only backs those touched.
///
/// # Examples
/// ```
/// use commons::{AtomicLong, Lock, Region};
///
/// let region = Region::new("till", 4096)?;
/// let money = AtomicLong::new_in(&region, 0)?;
/// let lock = Lock::new_in(&region)?;
/// let _guard = lock.lock()?;
/// money.add(5);
/// assert!(region.used() > 0 && region.used() <= region.size());
/// # Ok::<(), commons::Error>(())
/// ```
#[derive(Clone)]
pub struct Region {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    id: u64,
    name: String,
    size: usize,
    ground: Ground,
}

/// What the cells stand on.
enum Ground {
    /// Shared bytes.
    Mapped(Mapping),
    /// Single objects on the heap, where the world is modelled and bytes are not: (offset, address, length, the object).
    #[allow(clippy::type_complexity)]
    Heap(Mutex<Vec<(usize, usize, usize, Box<dyn Any + Send + Sync>)>>),
}

const HEADER: usize = size_of::<Header>();
const DEED: usize = ALIGN;

impl Region {
    /// Makes a region with room for `bytes` bytes: what is placed in it, and 64 bytes before each piece.
    ///
    /// The name, at most 64 bytes without a zero byte, shows in `/proc/PID/maps` and in the region's header.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for 0 bytes or more than 32 GiB, [`Error::NameTooLong`], [`Error::BadName`],
    /// [`Error::AfterFork`] in a server's worker, [`Error::System`] when the kernel has no memory or file descriptors left.
    ///
    /// # Examples
    /// ```
    /// let region = commons::Region::new("counters", 1 << 16)?;
    /// assert_eq!(region.size(), 65_536);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new(name: &str, bytes: usize) -> Result<Region> {
        fork::structures_allowed("a shared region")?;
        Region::with_id(atlas::next_id()?, name, bytes)
    }

    /// The same with an id that the caller answers for: the region that hands out the ids has to start somewhere.
    pub(super) fn with_id(id: u64, name: &str, bytes: usize) -> Result<Region> {
        if bytes == 0 || bytes > Self::MAX_BYTES {
            let max = Self::MAX_BYTES as u64;
            return Err(Error::OutOfRange { what: "a region's size in bytes", value: bytes as u64, min: 1, max });
        }
        if id > Key::MAX_REGIONS {
            let what = "the number of regions ever made by this family of processes";
            return Err(Error::OutOfRange { what, value: id, min: 1, max: Key::MAX_REGIONS });
        }
        if name.len() > NAME_MAX {
            return Err(Error::NameTooLong { name: name.into(), len: name.len(), max: NAME_MAX });
        }
        if name.contains('\0') {
            return Err(Error::BadName { name: name.into() });
        }
        let ground = if MODELLED {
            Ground::Heap(Mutex::new(Vec::new()))
        } else {
            let map = Mapping::new(&format!("commons:{name}"), HEADER + bytes);
            Ground::Mapped(map.map_err(Error::system("making shared memory"))?)
        };
        let inner = Arc::new(Inner { id, name: name.into(), size: bytes, ground });
        if let Some(header) = inner.header() {
            header.write(id, bytes, name);
        }
        atlas::enter(id, Arc::downgrade(&inner));
        Ok(Region { inner })
    }

    /// The largest region, in bytes.
    pub(crate) const MAX_BYTES: usize = Key::MAX_BYTES - HEADER;

    /// The bytes asked for when the region was made.
    pub fn size(&self) -> usize {
        self.inner.size
    }

    /// The bytes taken so far, 64 before each piece included; the same in every process.
    pub fn used(&self) -> usize {
        // Relaxed: a figure, which publishes nothing.
        self.inner.header().map_or(0, |header| header.used.load(Ordering::Relaxed) as usize)
    }

    /// Backs the whole region with memory now, in huge pages as far as the kernel has them, instead of page by page as it is first written.
    ///
    /// It costs the time to clear that much memory, and the memory even if it is never used. What it brings: no page fault later, no process that
    /// is killed because the machine has no memory left for what it was promised, and in a large structure fewer of the misses that every read
    /// pays for beside the cache's, because one entry of the processor's address cache (TLB) spans 2 MiB and not 4 KiB. For a region in use it
    /// changes nothing but its speed. Huge pages are asked for with `MADV_COLLAPSE` (Linux 6.1), which
    /// `/sys/kernel/mm/transparent_hugepage/shmem_enabled` does not rule; without them it is as fast as before.
    ///
    /// # Errors
    /// [`Error::System`] when there is not that much memory, or the kernel is older than Linux 5.14; the region can be used as before.
    ///
    /// # Examples
    /// ```
    /// let region = commons::Region::new("rows", 8 << 20)?;
    /// region.prefault()?;
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn prefault(&self) -> Result<()> {
        match &self.inner.ground {
            Ground::Mapped(map) => map.prefault().map_err(Error::system("backing a region with memory")),
            Ground::Heap(_) => Ok(()),
        }
    }

    /// The name given when the region was made.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub(crate) fn id(&self) -> u64 {
        self.inner.id
    }

    /// Takes the next region id; only ever asked of the root.
    pub(super) fn next_id(&self) -> Option<u64> {
        // Relaxed: a number that nobody else gets; it publishes nothing. The root itself has the id 1.
        self.inner.header().map(|header| header.ids.fetch_add(1, Ordering::Relaxed) + 2)
    }

    /// Bytes that a placement of `count` values of `T` takes from a region, its deed included.
    pub(crate) const fn bytes_for<T>(count: usize) -> usize {
        DEED + size_of::<T>().saturating_mul(count).saturating_add(ALIGN - 1) / ALIGN * ALIGN
    }

    /// Takes room for `count` values of `T`, all zero: the address of the first, and its offset.
    pub(super) fn take<T: Shared>(&self, kind: Kind, count: usize) -> Result<(*const T, usize)> {
        prove::<T>();
        match &self.inner.ground {
            Ground::Mapped(map) => {
                let offset = self.claim(kind, Self::bytes_for::<T>(count), count)?;
                Ok((map.base().wrapping_add(offset).cast_const().cast(), offset))
            }
            Ground::Heap(objects) => {
                let values: Box<Vec<T>> = Box::new((0..count).map(|_| T::vacant()).collect());
                let (at, len) = (values.as_ptr(), size_of::<T>() * count);
                let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
                let offset =
                    objects.last().map_or(HEADER, |(offset, _, len, _)| (offset + len).next_multiple_of(ALIGN));
                objects.push((offset, at.addr(), len, values));
                Ok((at, offset))
            }
        }
    }

    /// The first placement of this kind and length, made if there is none yet; all who ask at once get the same. For what a region has one
    /// of: it needs no lock that a fork could copy while it is held, and no room for those who come second.
    pub(super) fn take_once<T: Shared>(&self, kind: Kind, count: usize) -> Result<(*const T, usize)> {
        let Ground::Mapped(map) = &self.inner.ground else { return self.take(kind, count) };
        prove::<T>();
        let bytes = Self::bytes_for::<T>(count);
        let found = || self.inner.find(claim(kind, bytes - DEED));
        let offset = match found() {
            Some(offset) => offset,
            // Deeds are claimed in order of address, so the first stays the first, whoever claimed it. One that comes second leaves its own
            // unused, or finds no room for it.
            None => {
                self.claim(kind, bytes, count).or_else(|full| found().ok_or(full)).map(|own| found().unwrap_or(own))?
            }
        };
        Ok((map.base().wrapping_add(offset).cast_const().cast(), offset))
    }

    /// Claims `bytes` by writing the next free deed; the offset of what follows it.
    fn claim(&self, kind: Kind, bytes: usize, count: usize) -> Result<usize> {
        fork::structures_allowed("a structure in a shared region")?;
        let inner = &*self.inner;
        let header = inner.header().ok_or(Error::OutOfMemory { asked: bytes, left: 0 })?;
        loop {
            // Relaxed: a hint; the deed itself decides.
            let used = header.used.load(Ordering::Relaxed);
            let at = used as usize;
            let left = inner.size - at;
            if bytes > left {
                return Err(Error::OutOfMemory { asked: bytes, left });
            }
            let Some(deed) = inner.deed(HEADER + at) else {
                return Err(Error::OutOfMemory { asked: bytes, left: 0 });
            };
            // AcqRel: pairs with itself; who finds a deed taken goes on behind it.
            let taken = deed.claim.compare_exchange(0, claim(kind, bytes - DEED), Ordering::AcqRel, Ordering::Acquire);
            let next = at + taken.map_or_else(claimed_bytes, |_| bytes - DEED) + DEED;
            // The loser of this exchange finds that somebody else moved the hint on. Relaxed: as above.
            let _ = header.used.compare_exchange(used, next as u64, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() {
                // Relaxed: for inspectors; the claim is what counts.
                deed.count.store(count as u64, Ordering::Relaxed);
                return Ok(HEADER + at + DEED);
            }
        }
    }
}

impl Inner {
    fn at<T: Shared>(&self, offset: usize) -> Option<&T> {
        let Ground::Mapped(map) = &self.ground else { return None };
        if !offset.is_multiple_of(align_of::<T>()) || offset + size_of::<T>() > map.len() {
            return None;
        }
        let at = map.base().wrapping_add(offset).cast::<T>();
        // SAFETY: in bounds and aligned (checked above) of a mapping that `self` keeps and that cannot shrink (sealed);
        // T is made only of atomics, for which every bit pattern is valid and which others may write at any time.
        Some(unsafe { &*at })
    }

    fn header(&self) -> Option<&Header> {
        self.at(0)
    }

    fn deed(&self, offset: usize) -> Option<&Deed> {
        self.at(offset)
    }

    /// Where the first placement stands whose deed says `wanted`.
    fn find(&self, wanted: u64) -> Option<usize> {
        let mut at = HEADER;
        loop {
            let deed = self.deed(at).filter(|_| at < HEADER + self.size)?;
            // Acquire: pairs with the AcqRel in `claim`.
            match deed.claim.load(Ordering::Acquire) {
                0 => return None,
                claimed if claimed == wanted => return Some(at + DEED),
                claimed => at += DEED + claimed_bytes(claimed),
            }
        }
    }

    /// The 64-bit cell at `offset`, which came out of a key and so was once the offset of one.
    pub(super) fn cell(&self, offset: usize) -> Option<&AtomicU64> {
        match &self.ground {
            Ground::Mapped(_) => self.at(offset),
            Ground::Heap(objects) => {
                let objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
                let (start, at, _, _) =
                    objects.iter().find(|(start, _, len, _)| (*start..start + len).contains(&offset))?;
                let cell = std::ptr::with_exposed_provenance::<AtomicU64>(at + offset - start);
                // SAFETY: the key was made from a reference to an `AtomicU64` inside this very object, which lives on the
                // heap as long as `self`; see `Place::key`.
                Some(unsafe { &*cell })
            }
        }
    }

    pub(super) fn mapped(&self) -> Option<Mapped> {
        let Ground::Mapped(map) = &self.ground else { return None };
        Some(Mapped { name: self.name.clone(), id: self.id, base: map.base().addr(), len: map.len(), fd: map.fd() })
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region")
            .field("name", &self.name())
            .field("used", &self.used())
            .field("size", &self.size())
            .finish()
    }
}
