//! The world of one operation: one of every structure in a small region, and other processes that live in it.

use std::ffi::c_int;
use std::time::Duration;

use commons::{Atomic, AtomicLong, Barrier, Counter, Lock, Region, RwLock, Semaphore};

use crate::belt::Belt;
use crate::clockwork::Clockwork;
use crate::desk::Desk;
use crate::image::{RawSlot, word_at};
use crate::kit::{self, control};

/// Where the structures stand in the region: a header of 256 bytes, then 64 bytes of deed and 64 of structure each.
pub const SMALL: usize = 320;
pub const LONG: usize = SMALL + 128;
pub const LOCK: usize = LONG + 128;
pub const RW: usize = LOCK + 128;
pub const SEM: usize = RW + 128;
pub const BARRIER: usize = SEM + 128;
pub const SCRATCH: usize = BARRIER + 128;
const ROOM: usize = 8 * 128;

pub const PERMITS: u32 = 3;
/// The half of a lock word that names the owner, and the bit that says that one died.
pub const OWNER: u64 = (1 << 30) - 1;
pub const DIRTY: u64 = 1 << 30;

/// A process that lives in the world beside the traced one.
pub struct Helper {
    pub pid: c_int,
    number: usize,
}

impl Helper {
    /// What it returned from what it was to do; it stays alive afterwards.
    pub fn result(&self) -> Option<u64> {
        control().result(self.number)
    }
}

pub struct World {
    _region: Region,
    pub small: Atomic,
    pub long: AtomicLong,
    pub lock: Lock,
    pub rw: RwLock,
    pub sem: Semaphore,
    /// For two.
    pub barrier: Barrier,
    /// Nothing is ever wrong with it, but that somebody may die holding it.
    pub scratch: Lock,
    /// What a process takes in order to take part; nobody dies there.
    seat: Lock,
    pub counter: Option<Counter>,
    /// A second region, for operations on regions.
    pub field: Option<Region>,
    pub kept_small: Option<Atomic>,
    pub kept_long: Option<AtomicLong>,
    /// A table, for operations on tables.
    pub desk: Option<Desk>,
    /// A channel, for operations on channels.
    pub belt: Option<Belt>,
    /// A timer, for operations on timers.
    pub clockwork: Option<Clockwork>,
    /// Helpers that sleep are stopped, so that images depend on the traced child alone.
    pub frozen: bool,
    pub helpers: Vec<Helper>,
    /// Helpers that died and that nobody has recovered.
    pub corpses: Vec<c_int>,
    zombies: Vec<c_int>,
    base: usize,
}

impl World {
    pub fn new(frozen: bool) -> World {
        control().forget_results();
        let region = Region::new("step", ROOM).expect("a region");
        let small = Atomic::new_in(&region, 0).expect("room");
        let long = AtomicLong::new_in(&region, 0).expect("room");
        let lock = Lock::new_in(&region).expect("room");
        let rw = RwLock::new_in(&region).expect("room");
        let sem = Semaphore::new_in(&region, PERMITS).expect("room");
        let barrier = Barrier::new_in(&region, 2).expect("room");
        let scratch = Lock::new_in(&region).expect("room");
        let seat = Lock::new_in(&region).expect("room");
        assert_eq!(region.used(), ROOM, "the offsets above are wrong");
        let base = commons::harness::mapped().iter().rfind(|m| m.name == "step").expect("just made").base;
        World {
            _region: region,
            small,
            long,
            lock,
            rw,
            sem,
            barrier,
            scratch,
            seat,
            counter: None,
            field: None,
            kept_small: None,
            kept_long: None,
            desk: None,
            belt: None,
            clockwork: None,
            frozen,
            helpers: Vec::new(),
            corpses: Vec::new(),
            zombies: Vec::new(),
            base,
        }
    }

    /// A raw word of the region.
    pub fn word(&self, offset: usize) -> u64 {
        word_at(self.base + offset)
    }

    pub fn set_word(&self, offset: usize, value: u64) {
        crate::image::set_word_at(self.base + offset, value);
    }

    pub fn desk(&self) -> &Desk {
        self.desk.as_ref().expect("arranged")
    }

    pub fn belt(&self) -> &Belt {
        self.belt.as_ref().expect("arranged")
    }

    pub fn clockwork(&self) -> &Clockwork {
        self.clockwork.as_ref().expect("arranged")
    }

    /// Makes the calling thread a participant.
    pub fn sit_down(&self) {
        drop(self.seat.lock().expect("a slot is free"));
    }

    /// A helper that does `body` and stays.
    fn spawn(&mut self, body: impl FnOnce(&World) -> u64) -> usize {
        let number = kit::HELPERS + self.helpers.len();
        let pid = kit::fork(|| {
            self.sit_down();
            control().report(number, body(self));
            loop {
                // SAFETY: sleeps until a signal ends it.
                unsafe { libc::pause() };
            }
        });
        self.helpers.push(Helper { pid, number });
        self.helpers.len() - 1
    }

    /// A helper that does `body`, comes back from it, and lives on holding what it holds.
    pub fn holder(&mut self, body: impl FnOnce(&World)) -> usize {
        let index = self.spawn(|world| {
            body(world);
            0
        });
        let done = kit::within(5000, || self.helpers[index].result().is_some());
        assert!(done, "a helper does not come back: {}", control().said());
        index
    }

    /// A helper that is asleep in `body`; `asleep` tells by shared memory that it lies down. In a frozen world it is stopped there.
    pub fn sleeper(&mut self, body: impl FnOnce(&World) -> u64, asleep: impl Fn(&World, c_int) -> bool) -> usize {
        let index = self.spawn(body);
        let pid = self.helpers[index].pid;
        let settled = || asleep(self, pid) && kit::process_state(pid) == Some(b'S');
        for _ in 0..200 {
            assert!(kit::within(5000, settled), "a helper does not fall asleep: {}", control().said());
            if !self.frozen {
                return index;
            }
            kit::kill(pid, libc::SIGSTOP);
            assert!(kit::within(5000, || kit::process_state(pid) == Some(b'T')), "a helper does not stop");
            // Between two slices of its sleep it may be anywhere, even in the door.
            if asleep(self, pid) && self.word(SEM) & OWNER == 0 && self.word(SMALL + 24) & OWNER == 0 {
                return index;
            }
            kit::kill(pid, libc::SIGCONT);
        }
        panic!("a helper is never stopped asleep");
    }

    /// Kills a helper; nobody is told. `gone`: it is reaped as well, so that its number is nobody's.
    pub fn slay(&mut self, index: usize, gone: bool) -> c_int {
        let pid = self.helpers.remove(index).pid;
        kit::kill(pid, libc::SIGKILL);
        kit::wait_for_end(pid);
        if gone {
            kit::wait(pid);
        } else {
            self.zombies.push(pid);
        }
        self.corpses.push(pid);
        pid
    }

    /// One more who has died, and whom nobody has reaped or recovered.
    pub fn lay_out(&mut self, pid: c_int) {
        self.zombies.push(pid);
        self.corpses.push(pid);
    }

    /// Whether somebody died whom only a close look finds dead.
    pub fn has_zombies(&self) -> bool {
        !self.zombies.is_empty()
    }

    /// How many slots are taken by the living: the tracer's, the bystander's, the helpers'.
    pub fn living(&self) -> usize {
        2 + self.helpers.len()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for pid in self.corpses.drain(..) {
            commons::recover(pid as u32).expect("it is dead");
        }
        for pid in self.zombies.drain(..) {
            kit::wait(pid);
        }
        for helper in self.helpers.drain(..) {
            kit::end_and_recover(helper.pid);
        }
    }
}

/// For `sleeper`: its ledger says that it sleeps.
pub fn noted_asleep(_: &World, pid: c_int) -> bool {
    RawSlot::of(pid).is_some_and(RawSlot::sleeps)
}

/// A process that holds a lock, reads under another and has permits for as long as the harness runs; nothing of that may ever change.
pub struct Bystander {
    region: Region,
    pub lock: Lock,
    pub pid: c_int,
    base: usize,
    slot: RawSlot,
    was: Vec<u64>,
}

impl Bystander {
    pub fn new() -> Bystander {
        let region = Region::new("bystander", 3 * 128).expect("a region");
        let lock = Lock::new_in(&region).expect("room");
        let rw = RwLock::new_in(&region).expect("room");
        let sem = Semaphore::new_in(&region, 3).expect("room");
        // The tracer takes part as well, as managers do, and learns here how often it is to spin.
        let mine = lock.lock().expect("free");
        assert!(matches!(lock.lock(), Err(commons::Error::WouldDeadlock { .. })));
        drop(mine);
        // And what the first call of a process does for all later ones (the clock looks for its code in the kernel's page).
        drop(lock.lock_timeout(MS).expect("free"));
        let pid = kit::fork(|| {
            std::mem::forget(lock.lock());
            std::mem::forget(rw.read());
            sem.acquire().expect("free");
            sem.acquire().expect("free");
            control().report(kit::HELPERS, 0);
            loop {
                // SAFETY: sleeps until a signal ends it.
                unsafe { libc::pause() };
            }
        });
        assert!(kit::within(5000, || control().result(kit::HELPERS).is_some()), "the bystander does not settle");
        let base = commons::harness::mapped().iter().find(|m| m.name == "bystander").expect("just made").base;
        let slot = RawSlot::of(pid).expect("the layout of the slots is not what the harness believes");
        let mut bystander = Bystander { region, lock, pid, base, slot, was: Vec::new() };
        bystander.was = bystander.words();
        bystander
    }

    fn words(&self) -> Vec<u64> {
        let region = (0..256 + self.region.size()).step_by(8).map(|at| word_at(self.base + at));
        let slot = (0..512).step_by(8).map(|at| word_at(self.slot.address + at));
        region.chain(slot).collect()
    }

    /// Every word of what it holds, and of its slot, is as it was; and nobody gets its lock.
    pub fn intact(&self) -> Result<(), String> {
        kit::ensure!(self.words() == self.was, "the belongings of a living process were touched");
        let mine = self.lock.try_lock().map_err(|e| e.to_string())?;
        kit::ensure!(mine.is_none(), "the lock of a living process was taken");
        Ok(())
    }
}

pub const MS: Duration = Duration::from_millis(1);
