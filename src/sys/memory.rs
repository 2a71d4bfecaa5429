//! Memory that processes share: a memfd, sealed against resizing, mapped MAP_SHARED.
//!
//! A memfd lives as long as somebody holds it, so nothing is left behind in any file system after any kind of death. The
//! seal is what makes a `&AtomicU64` into it sound: a file that shrinks under a mapping turns a load into a SIGBUS.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use memmap2::{MmapMut, MmapOptions};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};

/// A huge page, where the others have 4 KiB: on x86-64, and on the ARM machines that are set up like it. Where it is another size, memory lies
/// no worse than it would by chance.
const HUGE: usize = 2 << 20;

/// A piece of shared memory, mapped in this process and inherited, at the same address, by every process forked from it.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: *mut u8,
    len: usize,
    /// The addresses that the memory was mapped into, a little more than it takes; unmaps all of it when dropped.
    _reserved: MmapMut,
    file: OwnedFd,
}

// SAFETY: the pointer is to memory that any thread may reach, through atomics only, which floor 2 sees to; nothing here belongs to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; and no method changes the value.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Makes and maps `len` zeroed bytes; `name` shows in `/proc/PID/maps` and `/proc/PID/fd`.
    pub(crate) fn new(name: &str, len: usize) -> io::Result<Mapping> {
        let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, len as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        // Only what begins where a huge page may begin is ever backed by one, and the kernel looks for such a place only where all of tmpfs is
        // to have them. So more addresses than needed are reserved, and the file is mapped in their middle. The reservation takes no memory.
        let spare = if len >= HUGE { HUGE } else { 0 };
        let mut reserved = MmapOptions::new().len(len + spare).no_reserve_swap().map_anon()?;
        let skipped = reserved.as_ptr().align_offset(HUGE).min(spare);
        let at = reserved[skipped..].as_mut_ptr();
        // SAFETY: the `len` bytes from `at` lie inside the reservation, which nobody else knows of and which outlives every use of them.
        let base = unsafe {
            mmap(at.cast(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::FIXED, &file, 0)?
        };
        let mapping = Mapping { base: base.cast(), len, _reserved: reserved, file };
        if spare > 0 {
            // A wish: where /sys/kernel/mm/transparent_hugepage/shmem_enabled says "never" or "deny", small pages do the same at a few more
            // misses.
            let _ = mapping.advise(Advice::LinuxHugepage);
        }
        Ok(mapping)
    }

    fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: the mapping is ours and stays; none of the advice given here changes what is in it.
        unsafe { madvise(self.base.cast(), self.len, advice) }?;
        Ok(())
    }

    /// Backs all of it with memory at once, in huge pages as far as they are to be had.
    pub(crate) fn prefault(&self) -> io::Result<()> {
        self.advise(Advice::LinuxPopulateWrite)?;
        let whole = self.len / HUGE * HUGE;
        if whole > 0 {
            // A wish: an error means small pages, as they are. Unlike the advice above this asks whatever shmem_enabled says; Linux 6.1 knows it.
            // SAFETY: as in `advise`; the kernel copies the small pages into huge ones, and whoever reaches for one meanwhile waits.
            unsafe { libc::madvise(self.base.cast(), whole, libc::MADV_COLLAPSE) };
        }
        Ok(())
    }

    /// The first byte; page-aligned, valid for [`Mapping::len`] bytes as long as this value lives.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    /// The length in bytes, as asked.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The memfd's number, for whoever inspects the memory from outside.
    pub(crate) fn fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsFd for Mapping {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
