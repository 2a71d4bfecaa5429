//! What shared memory looks like at one instant, and shadows of it in which the consequences are played through.

use std::ffi::{c_int, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::kit::fork;

/// A region of this process, and how much of it is compared: the rest is proven untouched once a run.
#[derive(Clone)]
struct Plot {
    base: usize,
    len: usize,
    prefix: usize,
    fd: c_int,
}

/// All regions of this process, and its eventfds, which are as shared as they are.
pub struct Land {
    plots: Vec<Plot>,
    eventfds: Vec<c_int>,
}

/// One instant: the prefixes of all regions, one behind the other; then the counts of the eventfds.
#[derive(Clone, PartialEq, Eq)]
pub struct Image(Vec<u8>);

/// The root's participant slots begin behind its header, the deed and body of `Head`, and their own deed.
const SLOTS_AT: usize = 256 + 64 + 64 + 64;
const SLOT: usize = 512;
/// Of the root: header, and the first fifteen slots. No run has more participants at once; [`Land::untouched`] tells.
const ROOT_PREFIX: usize = 8192;

impl Land {
    pub fn survey() -> Land {
        let plots = commons::harness::mapped().into_iter().map(|region| {
            let prefix = match region.name.as_str() {
                "root" => ROOT_PREFIX,
                "counter" => 4096,
                _ => region.len,
            };
            Plot { base: region.base, len: region.len, prefix: prefix.min(region.len), fd: region.fd }
        });
        Land { plots: plots.collect(), eventfds: eventfds() }
    }

    fn bytes(plot: &Plot) -> &[u8] {
        // SAFETY: mapped as long as the world is; whoever could write is stopped, or the harness does not look.
        unsafe { std::slice::from_raw_parts(plot.base as *const u8, plot.prefix) }
    }

    pub fn capture(&self) -> Image {
        let plots = self.plots.iter().flat_map(|plot| Land::bytes(plot).iter().copied());
        Image(plots.chain(self.eventfds.iter().flat_map(|fd| count(*fd).to_ne_bytes())).collect())
    }

    pub fn differs(&self, from: &Image) -> bool {
        let mut at = 0;
        let plots = self.plots.iter().any(|plot| {
            let was = &from.0[at..at + plot.prefix];
            at += plot.prefix;
            was != Land::bytes(plot)
        });
        plots || self.eventfds.iter().zip(from.counts(&self.eventfds)).any(|(fd, was)| count(*fd) != was)
    }

    /// The first region that was written beyond what is compared. A page of a memfd that was never touched is a hole.
    pub fn untouched(&self) -> Result<(), String> {
        for plot in &self.plots {
            let beyond = plot.prefix.next_multiple_of(4096);
            if beyond >= plot.len {
                continue;
            }
            // SAFETY: a plain system call on a descriptor that this process keeps.
            let data = unsafe { libc::lseek(plot.fd, beyond as libc::off_t, libc::SEEK_DATA) };
            if data >= 0 {
                return Err(format!("the harness compares {beyond} bytes, and a page at {data} is in use"));
            }
        }
        Ok(())
    }
}

/// The descriptors of this process that are eventfds.
fn eventfds() -> Vec<c_int> {
    let all = std::fs::read_dir("/proc/self/fd").expect("there is /proc").flatten();
    let events =
        all.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to.ends_with("anon_inode:[eventfd]")));
    let mut fds: Vec<c_int> = events.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    fds.sort_unstable();
    fds
}

/// What an eventfd has counted; it goes on counting from there.
fn count(fd: c_int) -> u64 {
    let mut count = 0_u64;
    // SAFETY: eight bytes of a local; eventfds of channels never block.
    let got = unsafe { libc::read(fd, (&raw mut count).cast(), 8) };
    if got == 8 {
        add(fd, count);
        return count;
    }
    0
}

fn add(fd: c_int, count: u64) {
    // SAFETY: eight bytes of a local.
    unsafe { libc::write(fd, (&raw const count).cast(), 8) };
}

/// Memfds of the same sizes: a process puts them on in the place of its regions, and is in another world from then on.
pub struct Shadow {
    plots: Vec<Plot>,
    eventfds: Vec<c_int>,
    /// Where the shadow of each is mapped in the tracer, and its memfd.
    mine: Vec<(usize, c_int)>,
}

fn map(at: usize, len: usize, fd: c_int) -> usize {
    let fixed = if at == 0 { 0 } else { libc::MAP_FIXED };
    // SAFETY: a mapping of its own, or one that takes the place of a region in a process that wants just that.
    let got = unsafe {
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(at as *mut c_void, len, rw, libc::MAP_SHARED | fixed, fd, 0)
    };
    assert_ne!(got, libc::MAP_FAILED, "mapping a shadow: {}", std::io::Error::last_os_error());
    got as usize
}

impl Shadow {
    pub fn of(land: &Land) -> Shadow {
        let mine = land.plots.iter().map(|plot| {
            // SAFETY: plain system calls.
            let fd = unsafe { libc::memfd_create(c"shadow".as_ptr(), libc::MFD_CLOEXEC) };
            assert!(fd >= 0, "memfd: {}", std::io::Error::last_os_error());
            // SAFETY: as above.
            let cut = unsafe { libc::ftruncate(fd, plot.len as libc::off_t) };
            assert_eq!(cut, 0);
            (map(0, plot.len, fd), fd)
        });
        Shadow { plots: land.plots.clone(), eventfds: land.eventfds.clone(), mine: mine.collect() }
    }

    /// Makes the shadow show `image`, and nothing of what was played in it before.
    pub fn lay(&self, image: &Image) {
        let mut at = 0;
        for (plot, (mine, fd)) in self.plots.iter().zip(&self.mine) {
            // SAFETY: the shadow is as long as the region, and nobody else runs in it now.
            let to = unsafe { std::slice::from_raw_parts_mut(*mine as *mut u8, plot.prefix) };
            to.copy_from_slice(&image.0[at..at + plot.prefix]);
            at += plot.prefix;
            let beyond = plot.prefix.next_multiple_of(4096);
            if beyond < plot.len {
                let how = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                // SAFETY: a plain system call on a descriptor of this shadow.
                unsafe { libc::fallocate(*fd, how, beyond as libc::off_t, (plot.len - beyond) as libc::off_t) };
            }
        }
        self.lay_eventfds(image);
    }

    /// Makes the eventfds say what they did at that instant, after others have played with them: they have no shadows.
    pub fn lay_eventfds(&self, image: &Image) {
        for (fd, was) in self.eventfds.iter().zip(image.counts(&self.eventfds)) {
            let mut now = 0_u64;
            // SAFETY: as in `count`.
            unsafe { libc::read(*fd, (&raw mut now).cast(), 8) };
            if was > 0 {
                add(*fd, was);
            }
        }
    }

    /// The calling process leaves the real world for this one: same addresses, so all handles and keys hold.
    pub fn put_on(&self) {
        for (plot, (_, fd)) in self.plots.iter().zip(&self.mine) {
            map(plot.base, plot.len, *fd);
        }
    }

    /// The shadow, seen as a land of its own.
    pub fn land(&self) -> Land {
        let plots = self.plots.iter().zip(&self.mine);
        let plots = plots.map(|(plot, (base, fd))| Plot { base: *base, fd: *fd, ..plot.clone() }).collect();
        Land { plots, eventfds: self.eventfds.clone() }
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        for (plot, (at, fd)) in self.plots.iter().zip(&self.mine) {
            // SAFETY: mapped and opened in `of`, used by nobody else.
            unsafe {
                libc::munmap(*at as *mut c_void, plot.len);
                libc::close(*fd);
            }
        }
    }
}

impl Image {
    fn counts(&self, eventfds: &[c_int]) -> impl Iterator<Item = u64> {
        let tail = &self.0[self.0.len() - 8 * eventfds.len()..];
        tail.as_chunks().0.iter().map(|bytes| u64::from_ne_bytes(*bytes))
    }

    /// A number for the image in which the identity of process `pid` does not count: rescuers differ in nothing else.
    pub fn print(&self, land: &Land, pid: c_int) -> u64 {
        let mut image = self.clone();
        let root =
            land.plots.iter().take_while(|plot| plot.prefix != ROOT_PREFIX).map(|plot| plot.prefix).sum::<usize>();
        for slot in 1..slot_count() {
            let at = root + SLOTS_AT + slot * SLOT;
            let word =
                |n: usize| u64::from_ne_bytes(image.0[at + 8 * n..at + 8 * n + 8].try_into().unwrap_or_default());
            if word(0) as u32 >> 2 == pid as u32 {
                let masked = [(0, word(0) & !0xffff_fffc), (1, word(1) >> 32), (2, word(2) >> 48)];
                for (n, value) in masked {
                    image.0[at + 8 * n..at + 8 * n + 8].copy_from_slice(&u64::to_ne_bytes(value));
                }
            }
        }
        let mut hasher = DefaultHasher::new();
        image.0.hash(&mut hasher);
        hasher.finish()
    }
}

fn slot_count() -> usize {
    (ROOT_PREFIX - SLOTS_AT) / SLOT
}

/// A word of this process's memory.
pub fn word_at(address: usize) -> u64 {
    // SAFETY: an aligned word of a region that is mapped.
    unsafe { std::ptr::read_volatile(address as *const u64) }
}

pub fn set_word_at(address: usize, value: u64) {
    // SAFETY: as in `word_at`; tests put things into states that are hard to come by.
    unsafe { std::ptr::write_volatile(address as *mut u64, value) };
}

/// A participant slot, raw.
#[derive(Clone, Copy, Debug)]
pub struct RawSlot {
    pub index: usize,
    pub address: usize,
}

impl RawSlot {
    /// The slot that the process `pid` has, if any: by its thread id, which is there from the first instant.
    pub fn of(pid: c_int) -> Option<RawSlot> {
        let root = commons::harness::mapped().into_iter().find(|region| region.id == 1)?.base;
        let slots = (1..slot_count()).map(|index| RawSlot { index, address: root + SLOTS_AT + index * SLOT });
        slots.into_iter().find(|slot| slot.state() & 3 != 0 && slot.state() as u32 >> 2 == pid as u32)
    }

    pub fn state(self) -> u64 {
        word_at(self.address)
    }

    fn entry(self, n: usize) -> Option<(u64, u64)> {
        let (what, tally) = (word_at(self.address + 32 + 16 * n), word_at(self.address + 40 + 16 * n));
        (tally >> 32 == self.state() >> 32).then_some((what >> 56, tally & u64::from(u32::MAX)))
    }

    pub fn sleeps(self) -> bool {
        self.entry(0).is_some_and(|(claim, _)| claim == 4)
    }

    /// How many of a kind of claim (2 reads, 3 permits) the ledger notes.
    pub fn holds(self, claim: u64) -> u64 {
        (2..30).filter_map(|n| self.entry(n)).filter(|(kind, _)| *kind == claim).map(|(_, count)| count).sum()
    }
}

/// The state word of a slot.
pub fn slot_state(index: usize) -> u64 {
    let root = commons::harness::mapped().into_iter().find(|region| region.id == 1).expect("there is a root").base;
    word_at(root + SLOTS_AT + index * SLOT)
}

/// Runs `body` in a process that has put the shadow on; its exit status.
pub fn in_shadow(shadow: &Shadow, body: impl FnOnce() -> c_int) -> c_int {
    let pid = fork(|| {
        shadow.put_on();
        body()
    });
    crate::kit::wait(pid)
}
