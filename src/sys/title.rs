//! The name in the process list.
//!
//! A process has two. The *name* is 15 bytes in the kernel (`ps -o comm`, `top`); one call sets it. The *command line* (`ps -o args`, `pgrep -f`,
//! `/proc/PID/cmdline`) is wherever in the process's memory the kernel was told that its arguments lie. Others write over the arguments, which Rust's
//! `std::env::args` still reads. Here the kernel is told of another place (PR_SET_MM_MAP, any user may): a page of our own; the arguments
//! stay as they are. A kernel without CONFIG_CHECKPOINT_RESTORE refuses; then there is the name alone.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::sync::atomic::{AtomicPtr, Ordering};

use memmap2::MmapMut;

/// The longest name of a process, in bytes.
pub(crate) const NAME_MAX: usize = 15;

/// Bytes of the page for the command line, the zero at the end included.
pub(crate) const LINE_MAX: usize = 4096;

/// The page, once there is one; null while somebody writes to it. Never unmapped, for the kernel reads it whenever somebody asks.
static PAGE: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

/// Names the calling thread; of a process's first thread it is the process's name.
pub(crate) fn set_name(name: &CStr) -> io::Result<()> {
    Ok(rustix::thread::set_name(name)?)
}

/// `struct prctl_mm_map` of linux/prctl.h.
#[repr(C)]
struct MemoryMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

const PR_SET_MM_MAP: libc::c_int = 14;

/// Shows `line` as this process's command line, cut at [`LINE_MAX`]. The process must have one thread: another one could move the end of the heap
/// meanwhile, which is set to where it was.
pub(crate) fn set_command_line(line: &[u8]) -> io::Result<()> {
    let mut map = current_map()?;
    // Acquire: pairs with the Release below, in a process with several threads.
    let mut page = PAGE.swap(std::ptr::null_mut(), Ordering::Acquire);
    if page.is_null() {
        let mut fresh = MmapMut::map_anon(LINE_MAX)?;
        page = fresh.as_mut_ptr();
        std::mem::forget(fresh);
    }
    let len = line.len().min(LINE_MAX - 1);
    // SAFETY: the page is LINE_MAX bytes, ours for ever, and nobody else's until it is put back below; no reference into it exists.
    unsafe { std::ptr::write_bytes(page, 0, LINE_MAX) };
    // SAFETY: as above; `line` is no part of the page, since no reference into the page exists.
    unsafe { std::ptr::copy_nonoverlapping(line.as_ptr(), page, len) };
    map.arg_start = page.addr() as u64;
    map.arg_end = map.arg_start + len as u64 + 1;
    // SAFETY: the kernel reads one `prctl_mm_map` of the size given. It checks the addresses, dereferences none of them for this process, and
    // changes what /proc shows; the end of the heap, the only one with an effect, is what it was.
    let answer = unsafe {
        libc::prctl(libc::PR_SET_MM, PR_SET_MM_MAP, &raw const map, size_of::<MemoryMap>(), 0 as libc::c_ulong)
    };
    let result = if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    PAGE.store(page, Ordering::Release);
    result
}

/// Where everything is now: the call above sets all of it at once. Numbers of fields as in proc_pid_stat(5).
fn current_map() -> io::Result<MemoryMap> {
    let unreadable = || io::Error::from(io::ErrorKind::InvalidData);
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = text.rsplit_once(") ").ok_or_else(unreadable)?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The rest begins with the third field.
    let field = |n: usize| fields.get(n - 3).and_then(|field| field.parse::<u64>().ok()).ok_or_else(unreadable);
    // SAFETY: asks for the end of the heap, and moves nothing.
    let brk = unsafe { libc::sbrk(0) }.addr() as u64;
    Ok(MemoryMap {
        start_code: field(26)?,
        end_code: field(27)?,
        start_stack: field(28)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        brk,
        arg_start: field(48)?,
        arg_end: field(49)?,
        env_start: field(50)?,
        env_end: field(51)?,
        auxv: 0,
        auxv_size: 0,
        exe_fd: u32::MAX,
    })
}
