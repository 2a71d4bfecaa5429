//! The processes that come after a death: what they know, what they do first, and what must hold whatever the operation was.

use std::cell::RefCell;
use std::ffi::c_int;
use std::time::Duration;

use crate::image::{RawSlot, slot_state};
use crate::kit::{Check, alarm, control, ensure};
use crate::world::{BARRIER, Bystander, LOCK, LONG, OWNER, RW, SCRATCH, SEM, SMALL, World};

/// Who comes after the dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A supervisor calls `recover` first.
    Manager,
    /// No supervisor: a process that takes part already meets what the dead left.
    Waiter,
    /// No supervisor, and the process takes part from then on: it looks for a slot first.
    Newcomer,
    /// The child is stopped and lives.
    Alive,
    /// A real death; a supervisor has recovered it.
    RealManaged,
    /// A real death; a zombie that nobody has reaped or recovered.
    RealZombie,
}

pub struct Death<'a> {
    pub mode: Mode,
    /// The traced child, and the rescuer that died over it.
    pub dead: Vec<c_int>,
    /// The operation had returned.
    pub done: bool,
    /// Counts the checks, for what is too dear to be done every time.
    pub nth: usize,
    pub bystander: &'a Bystander,
    pub later: RefCell<Vec<c_int>>,
}

/// How long anybody may take to come by what a dead process held. The promise is 20 ms; the rest is for machines that are busy.
pub const SOON: Duration = Duration::from_millis(5000);

const LOCK_WORDS: [(&str, usize); 7] = [
    ("lock", LOCK),
    ("rwlock", RW),
    ("semaphore", SEM),
    ("barrier", BARRIER),
    ("atomic", SMALL + 24),
    ("long", LONG + 24),
    ("scratch", SCRATCH),
];

/// Whether the owner's half of a lock word (12 bits of slot, 18 of generation) is nobody or somebody in a live slot.
pub fn names_the_living(owner: u64) -> bool {
    let state = slot_state((owner & 0xfff) as usize);
    owner == 0 || (state & 3 == 1 && state >> 32 & 0x3_ffff == owner >> 12)
}

impl Death<'_> {
    pub fn first(&self) -> bool {
        self.dead.len() == 1
    }

    pub fn real(&self) -> bool {
        matches!(self.mode, Mode::RealManaged | Mode::RealZombie)
    }

    /// Whether those who only try must succeed too: to take a zombie for dead needs the close look that only waiting pays for.
    pub fn at_once(&self, world: &World) -> bool {
        self.mode != Mode::RealZombie && !world.has_zombies() && !self.nth.is_multiple_of(5)
    }

    /// What the mode does before anything is used.
    pub fn recover(&self, world: &World) -> Result<(), String> {
        if self.mode == Mode::Manager {
            self.recover_all()?;
        }
        if matches!(self.mode, Mode::Manager | Mode::RealManaged) && world.corpses.is_empty() {
            // What a supervisor has recovered needs no slice of anybody's sleep: no lock names the dead any more.
            for (name, offset) in LOCK_WORDS {
                let word = world.word(offset);
                ensure!(
                    names_the_living(word & OWNER),
                    "recovered, and the word of {name}, {word:#x}, still names the dead"
                );
            }
        }
        Ok(())
    }

    fn recover_all(&self) -> Result<(), String> {
        for pid in self.dead.iter().chain(&*self.later.borrow()) {
            commons::recover(*pid as u32).map_err(|e| format!("recover: {e}"))?;
        }
        Ok(())
    }

    /// From here on a helper counts as dead as well.
    pub fn also(&self, pid: c_int) {
        commons::harness::pretend_dead(pid as u32);
        self.later.borrow_mut().push(pid);
    }
}

/// In the checker process: the operation's own check, and what holds for all.
pub fn judge(world: &World, check: fn(&World, &Death) -> Check, death: &Death) -> c_int {
    alarm(30);
    if death.mode == Mode::Waiter {
        world.sit_down();
    }
    if death.mode != Mode::Alive && !death.real() {
        for pid in &death.dead {
            commons::harness::pretend_dead(*pid as u32);
        }
    }
    let verdict = check(world, death).and_then(|stage| epilogue(world, death).map(|()| stage));
    match verdict {
        Ok(stage) => {
            control().set_stage(stage);
            0
        }
        Err(text) => {
            control().say(&text);
            1
        }
    }
}

fn epilogue(world: &World, death: &Death) -> Result<(), String> {
    death.bystander.intact()?;
    if death.mode == Mode::Alive {
        return Ok(());
    }
    // This process takes part from here on, if it did not before; so does a newcomer, whose slot is free again when it ends.
    let guard = world.scratch.lock_timeout(SOON).map_err(|e| format!("the scratch lock: {e}"))?;
    ensure!(!guard.recovered() || death.dead.len() > 1, "nobody died holding the scratch lock");
    drop(guard);
    if death.mode == Mode::Newcomer && death.later.borrow().is_empty() {
        let mine = RawSlot::of(std::process::id() as i32).ok_or("this process takes part and has no slot")?;
        let passed = death.dead.iter().filter_map(|pid| RawSlot::of(*pid)).any(|slot| slot.index < mine.index);
        ensure!(!passed, "a newcomer looked for a slot and passed by that of a dead one");
    }
    if death.nth.is_multiple_of(2) {
        let scratch = world.scratch.clone();
        let newcomer = std::thread::spawn(move || scratch.lock_timeout(SOON).map(drop).map_err(|e| e.to_string()));
        let came = newcomer.join().map_err(|_| "a newcomer panicked".to_string())?;
        came.map_err(|e| format!("a newcomer cannot take part: {e}"))?;
    }
    death.recover_all()?;
    for corpse in &world.corpses {
        commons::recover(*corpse as u32).map_err(|e| format!("recover of one who died before: {e}"))?;
    }
    let expected = world.living() + 1 - death.later.borrow().len();
    let census = commons::harness::census();
    ensure!(census == expected, "{census} slots are taken, {expected} threads live: a slot leaks");
    for pid in &death.dead {
        let again = commons::recover(*pid as u32).map_err(|e| format!("recover again: {e}"))?;
        ensure!(again == 0, "recovering a second time found {again} threads");
    }
    Ok(())
}
