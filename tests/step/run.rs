//! One operation, killed at every instruction.
//!
//! A SIGKILL lands between two instructions, and the stores of one core come out in program order; so what a death after k
//! instructions leaves is what memory shows after k steps, and it is enough to play the consequences through once for each
//! *distinct* image. The cross-check at the end does it the dear way: real signals, real zombies, real liveness.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::checker::{Death, Mode, judge};
use crate::image::{Image, Land, Shadow};
use crate::kit::{self, control};
use crate::op::Op;
use crate::trace::{Path, Stop, Tracee, Went, line_of, mark};
use crate::world::{Bystander, World};

/// More instructions than any operation has, and fewer than would take a minute.
const ENDLESS: usize = 400_000;

/// A build that is not optimised makes six times as many instructions: there a rescuer is stepped at every fifth image only. Odd, like whatever
/// STEP_DEEP says, for odd and even images have rescuers of different kinds.
pub const THOROUGH: usize = if cfg!(debug_assertions) { 5 } else { 1 };

#[derive(Clone, Copy, Default)]
pub struct Tally {
    /// Instructions of the operation; it was killed after each.
    pub steps: usize,
    /// Distinct images among them.
    pub images: usize,
    /// Instructions of rescuers, and distinct images they left.
    pub deep_steps: usize,
    pub deep_images: usize,
    /// Real SIGKILLs, and how far apart.
    pub real: usize,
    pub stride: usize,
    pub checks: usize,
}

pub struct Run<'a> {
    pub op: &'a Op,
    pub bystander: &'a Bystander,
    pub tally: Tally,
    /// How much the cross-check may take.
    pub budget: Duration,
    /// A rescuer is stepped at each so-manieth image.
    pub deep: usize,
}

impl Run<'_> {
    pub fn all(&mut self) -> Result<(), String> {
        let (changes, path) = self.walk()?;
        self.kill_for_real(&changes, &path)
    }

    /// Every instruction once; the steps after which memory had changed, and the way it took.
    fn walk(&mut self) -> Result<(Vec<usize>, Path), String> {
        let op = self.op;
        let mut world = World::new(true);
        (op.arrange)(&mut world);
        let mut child = start(op, &world)?;
        (op.meanwhile)(&mut world);
        let land = Land::survey();
        let (first, second) = (Shadow::of(&land), Shadow::of(&land));
        let mut deep = Deep { seen: HashSet::new(), shadow: &first, below: &second, nth: 0 };
        let mut stages = [0; 3];
        let mut changes = Vec::new();
        let mut image = land.capture();
        // Where the instruction stood that was executed last.
        let (mut steps, mut last_rip, mut path) = (0, child.rip(), Path::default());
        loop {
            let fresh = steps == 0 || land.differs(&image);
            if fresh {
                image = land.capture();
                changes.push(steps);
                let place = |e| format!("killed after instruction {steps}, at {}: {e}", line_of(last_rip));
                self.tally.images += 1;
                self.shallow(&world, &first, &image, &child, &mut stages).map_err(place)?;
                self.deep(&world, &mut deep, &image, &child).map_err(place)?;
            }
            last_rip = child.rip();
            path.next(last_rip);
            let stop = child.step();
            match stop {
                Stop::Stepped => steps += 1,
                Stop::Marked => break,
                Stop::Exited(0) if op.exits => break,
                other => return Err(format!("instruction {steps}: {other:?} {}", control().said())),
            }
            if steps > ENDLESS {
                return Err(format!("still not done after {steps} instructions, at {}", line_of(child.rip())));
            }
        }
        self.tally.steps = steps;
        if !op.exits && control().result(kit::CHILD).is_none() {
            return Err("the operation came back without a result".into());
        }
        let image = land.capture();
        let place = |e| format!("killed after it returned: {e}");
        self.shallow(&world, &first, &image, &child, &mut stages).map_err(place)?;
        if let Some(last) = op.last
            && stages != [last; 3]
        {
            return Err(format!("it returned, and the checks find the stages {stages:?} instead of {last}"));
        }
        land.untouched()?;
        if !op.exits {
            let pid = child.kill_only();
            kit::end_and_recover(pid);
        }
        drop(world);
        Ok((changes, path))
    }

    /// All who may come first after a death at `image`.
    fn shallow(
        &mut self,
        world: &World,
        shadow: &Shadow,
        image: &Image,
        child: &Tracee,
        stages: &mut [u64; 3],
    ) -> Result<(), String> {
        for (index, mode) in [Mode::Manager, Mode::Waiter, Mode::Newcomer].into_iter().enumerate() {
            self.tally.checks += 1;
            let death = self.death(mode, vec![child.pid]);
            let stage = self.examine(world, shadow, image, &death)?;
            if stage < stages[index] {
                return Err(format!("{mode:?}: what had happened (stage {}) is undone (stage {stage})", stages[index]));
            }
            stages[index] = stage;
        }
        if !self.op.exits || control().result(kit::CHILD).is_none() {
            let death = self.death(Mode::Alive, vec![child.pid]);
            self.examine(world, shadow, image, &death)?;
        }
        Ok(())
    }

    fn death(&self, mode: Mode, dead: Vec<i32>) -> Death<'_> {
        let done = control().result(kit::CHILD).is_some();
        Death { mode, dead, done, nth: self.tally.checks, bystander: self.bystander, later: Vec::new().into() }
    }

    /// Plays the consequences through in a process of its own.
    fn examine(&self, world: &World, shadow: &Shadow, image: &Image, death: &Death) -> Result<u64, String> {
        shadow.lay(image);
        control().clear();
        let check = if death.mode == Mode::Alive { self.op.alive } else { self.op.check };
        let status = crate::image::in_shadow(shadow, || judge(world, check, death));
        shadow.lay_eventfds(image);
        verdict(status, death)
    }

    /// Kills a rescuer at each of the images that *it* leaves.
    fn deep(&mut self, world: &World, deep: &mut Deep, image: &Image, child: &Tracee) -> Result<(), String> {
        deep.nth += 1;
        if self.op.brief || self.budget.is_zero() || !(deep.nth - 1).is_multiple_of(self.deep) {
            return Ok(());
        }
        // A newcomer reads /proc and steps long; its claim is an operation of its own.
        let mode = match deep.nth {
            n if n % 8 == 0 => Mode::Newcomer,
            n if n % 2 == 0 => Mode::Waiter,
            _ => Mode::Manager,
        };
        deep.shadow.lay(image);
        control().clear();
        let (pid, rescue) = (child.pid as u32, self.op.rescue);
        let mut rescuer = Tracee::start(|| {
            deep.shadow.put_on();
            // What guards a structure is freed by the manager as anything is; but it is repaired by whoever comes next.
            let repairs = world.desk.is_some() || world.belt.is_some() || world.clockwork.is_some();
            if mode == Mode::Waiter || (mode == Mode::Manager && repairs) {
                world.sit_down();
            }
            commons::harness::pretend_dead(pid);
            mark();
            match mode {
                Mode::Manager => {
                    drop(commons::recover(pid));
                    if repairs {
                        rescue(world);
                    }
                }
                _ => rescue(world),
            }
            mark();
        })?;
        let land = deep.shadow.land();
        let mut now = land.capture();
        let (mut steps, mut fresh, mut last_rip) = (0, true, 0);
        loop {
            if (fresh || land.differs(&now)) && {
                now = land.capture();
                deep.seen.insert(now.print(&land, rescuer.pid))
            } {
                self.tally.deep_images += 1;
                let alone = if self.tally.deep_images.is_multiple_of(2) { Mode::Waiter } else { Mode::Newcomer };
                for after in [Mode::Manager, alone] {
                    self.tally.checks += 1;
                    let death = self.death(after, vec![child.pid, rescuer.pid]);
                    let place =
                        |e| format!("{mode:?} rescuer killed after instruction {steps}, at {}: {e}", line_of(last_rip));
                    self.examine(world, deep.below, &now, &death).map_err(place)?;
                }
            }
            fresh = false;
            last_rip = rescuer.rip();
            match rescuer.step() {
                Stop::Stepped => steps += 1,
                Stop::Marked => break,
                other => return Err(format!("{mode:?} rescuer, instruction {steps}: {other:?} {}", control().said())),
            }
            if steps > ENDLESS {
                return Err(format!("{mode:?} rescuer: still not done, at {}", line_of(rescuer.rip())));
            }
        }
        self.tally.deep_steps += steps;
        rescuer.slay();
        deep.shadow.lay_eventfds(image);
        Ok(())
    }

    /// SIGKILL after k instructions, in a world of its own each time: at every change of memory, and at as many others as time allows.
    fn kill_for_real(&mut self, changes: &[usize], path: &Path) -> Result<(), String> {
        let n = self.tally.steps;
        let begun = Instant::now();
        // Where operations are long because they are not optimised, not even every change.
        let few = if THOROUGH > 1 { 1 + n / 5000 } else { 1 };
        for &k in changes.iter().step_by(few) {
            self.kill_at(k, path)?;
        }
        let spent = begun.elapsed().as_secs_f64() / changes.len().div_ceil(few).max(1) as f64;
        let budget = self.budget.as_secs_f64() / if self.op.brief { 4.0 } else { 1.0 };
        let mut stride = 1;
        while (n / stride) as f64 * spent > budget {
            stride += 1;
        }
        self.tally.stride = stride;
        for k in (0..n).step_by(stride).filter(|k| !changes.contains(k)) {
            self.kill_at(k, path)?;
        }
        self.kill_at(n + 1, path)
    }

    fn kill_at(&mut self, k: usize, path: &Path) -> Result<(), String> {
        let op = self.op;
        let mut world = World::new(false);
        (op.arrange)(&mut world);
        let mut child = start(op, &world)?;
        (op.meanwhile)(&mut world);
        match child.go(k, path) {
            Went::There | Went::Stopped(_, Stop::Marked) => {}
            Went::Stopped(_, Stop::Exited(0)) if op.exits => {}
            Went::Stopped(_, other) => return Err(format!("{other:?} {}", control().said())),
            Went::Astray => {
                if !child.is_over() {
                    kit::end_and_recover(child.kill_only());
                }
                drop(world);
                return self.kill_at(k, &Path::default());
            }
        }
        let exited = child.is_over();
        let pid = child.kill_only();
        self.tally.real += 1;
        self.tally.checks += 1;
        let mode = if self.tally.real.is_multiple_of(2) && !exited { Mode::RealZombie } else { Mode::RealManaged };
        let place = |e| format!("SIGKILL after instruction {k}: {e}");
        if !exited {
            kit::wait_for_end(pid);
        }
        if mode == Mode::RealManaged {
            commons::recover(pid as u32).map_err(|e| place(e.to_string()))?;
        }
        let death = self.death(mode, vec![pid]);
        control().clear();
        let checker = kit::fork(|| judge(&world, op.check, &death));
        kit::wait_for_end(checker);
        commons::recover(checker as u32).map_err(|e| place(e.to_string()))?;
        verdict(kit::wait(checker), &death).map_err(place)?;
        if !exited {
            commons::recover(pid as u32).map_err(|e| place(e.to_string()))?;
            kit::wait(pid);
        }
        Ok(())
    }
}

/// What a walk into recovery keeps over the images of one operation.
struct Deep<'a> {
    seen: HashSet<u64>,
    shadow: &'a Shadow,
    below: &'a Shadow,
    nth: usize,
}

pub fn start(op: &Op, world: &World) -> Result<Tracee, String> {
    Tracee::start(|| {
        let act = (op.child)(world);
        mark();
        act();
        mark();
    })
}

fn verdict(status: i32, death: &Death) -> Result<u64, String> {
    let who = format!("{:?}, {} dead", death.mode, death.dead.len());
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
        return Ok(control().stage());
    }
    if libc::WIFSIGNALED(status) {
        return match libc::WTERMSIG(status) {
            libc::SIGALRM => Err(format!("{who}: the checker hangs")),
            signal => Err(format!("{who}: the checker was ended by signal {signal}")),
        };
    }
    Err(format!("{who}: {}", control().said()))
}
