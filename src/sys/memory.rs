//! Memory that processes share: a memfd, sealed against resizing, mapped MAP_SHARED.
//!
//! A memfd lives as long as somebody holds it, so nothing is left behind in any file system after any kind of death. The
//! seal is what makes a `&AtomicU64` into it sound: a file that shrinks under a mapping turns a load into a SIGBUS.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

/// From here on the kernel is asked for huge pages, each of this size on the machines that have them: below, one would take more memory
/// than the whole.
const HUGE: usize = 4 << 20;

/// A piece of shared memory, mapped in this process and inherited, at the same address, by every process forked from it.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: MmapRaw,
    file: OwnedFd,
}

impl Mapping {
    /// Makes and maps `len` zeroed bytes; `name` shows in `/proc/PID/maps` and `/proc/PID/fd`.
    pub(crate) fn new(name: &str, len: usize) -> io::Result<Mapping> {
        let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, len as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let file = File::from(file);
        let map = MmapOptions::new().len(len).map_raw(&file)?;
        if len >= HUGE {
            // A wish: where /sys/kernel/mm/transparent_hugepage/shmem_enabled says "never" or "deny", or an old kernel does not know it,
            // small pages do the same at a few more misses.
            let _ = map.advise(Advice::HugePage);
        }
        Ok(Mapping { map, file: OwnedFd::from(file) })
    }

    /// The first byte; page-aligned, valid for [`Mapping::len`] bytes as long as this value lives.
    pub(crate) fn base(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// The length in bytes, as asked.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
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
