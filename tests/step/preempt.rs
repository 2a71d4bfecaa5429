//! How a pair is run: A stops after each of some of its instructions, and B comes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::image::Land;
use crate::kit::{self, CHILD, INTRUDER, control};
use crate::pairs::{Pair, Verdict, WAITING};
use crate::trace::{Path, Stop, Tracee, Went, mark};
use crate::world::{Bystander, World};

/// Instructions before a change of memory after each of which B comes in any case. One would do, were each run of A the same to the
/// instruction; but they differ by a few, for A is a new process in a new world each time.
const JITTER: usize = 6;

/// How long B may sleep before A, for which it may be waiting, goes on: longer than the timeouts of those who are to give up meanwhile.
const ASLEEP: Duration = Duration::from_millis(8);

/// Where A changes memory, B comes around each change, and this part of the others is enough: between two changes only what A has read differs.
const BESIDE: usize = 4;

/// A pair's preemptions: those around every change of memory, and `more`, evenly spread; fewer where there are changes. How many, and how far
/// apart. Counted and not timed, so that a slow machine finds what a fast one does.
pub fn run(pair: &Pair, bystander: &Bystander, more: usize) -> (Verdict, usize, usize) {
    let limit = if pair.needs_b { WAITING } else { usize::MAX };
    let (n, Trail { changes, path }) = match schedule(pair, limit, bystander, None) {
        Ok(ran) => ran,
        Err(e) => return (Err(format!("B after A: {e}")), 1, 1),
    };
    let more = match (pair.brief, changes.is_empty()) {
        (true, _) => 0,
        (false, true) => more,
        (false, false) => more / BESIDE,
    };
    let stride = n.checked_div(more).map_or(n, |stride| stride + 1).max(1);
    let around = changes.iter().flat_map(|c| c.saturating_sub(JITTER)..=*c);
    let ks: BTreeSet<usize> = around.chain((0..n).step_by(stride)).collect();
    for (schedules, &k) in ks.iter().enumerate() {
        if let Err(e) = schedule(pair, k, bystander, Some(&path)) {
            return (Err(format!("B after instruction {k} of A: {e}")), schedules + 2, stride);
        }
    }
    (Ok(()), ks.len() + 1, stride)
}

/// What A left behind: the steps after which it had changed memory, and the way it took.
#[derive(Default)]
struct Trail {
    changes: Vec<usize>,
    path: Path,
}

impl Trail {
    /// Brings A to its instruction k, and writes down how it came there.
    fn follow(&mut self, a: &mut Tracee, k: usize) -> Went {
        let land = Land::survey();
        let mut image = land.capture();
        for steps in 0..k {
            self.path.next(a.rip());
            match a.step() {
                Stop::Stepped => {
                    if land.differs(&image) {
                        image = land.capture();
                        self.changes.push(steps + 1);
                    }
                }
                other => return Went::Stopped(steps, other),
            }
        }
        Went::There
    }
}

/// A up to its instruction k, by a known path if there is one, B, the rest of A; how many instructions A made before B came.
fn schedule(pair: &Pair, k: usize, bystander: &Bystander, path: Option<&Path>) -> Result<(usize, Trail), String> {
    let mut world = World::new(false);
    (pair.arrange)(&mut world);
    let mut a = Tracee::start(|| {
        let act = (pair.a)(&world);
        mark();
        control().report(CHILD, act());
        mark();
    })?;
    let mut trail = Trail::default();
    let went = match path {
        Some(path) => a.go(k, path),
        None => trail.follow(&mut a, k),
    };
    let (steps, over) = match went {
        Went::There => (k, false),
        Went::Stopped(steps, Stop::Marked) => (steps, true),
        Went::Stopped(_, other) => return Err(format!("A: {other:?} {}", control().said())),
        Went::Astray => {
            kit::end_and_recover(a.kill_only());
            drop(world);
            return schedule(pair, k, bystander, Some(&Path::default()));
        }
    };
    let b = kit::fork(|| {
        kit::alarm(30);
        control().report(INTRUDER, (pair.b)(&world));
        loop {
            // SAFETY: sleeps until a signal ends it.
            unsafe { libc::pause() };
        }
    });
    let gone = || kit::process_state(b) == Some(b'Z');
    // It may have to wait for A, which is stopped: then A goes on first. Not before B is seen to sleep, for on a busy machine it may be long
    // until B runs at all.
    let mut asleep = None;
    kit::within(2000, || {
        let state = kit::process_state(b);
        let waits = state == Some(b'S') && asleep.get_or_insert_with(Instant::now).elapsed() > ASLEEP;
        waits || state == Some(b'Z') || control().result(INTRUDER).is_some()
    });
    if !over {
        match a.go_on() {
            Stop::Marked => {}
            other => return Err(format!("A goes on, and: {other:?} {}", control().said())),
        }
    }
    kit::within(2000, || control().result(INTRUDER).is_some() || gone());
    let verdict = match (control().result(CHILD), control().result(INTRUDER)) {
        (Some(of_a), Some(of_b)) => examine(pair, &world, bystander, of_a, of_b),
        (of_a, of_b) => Err(format!("A came back with {of_a:?}, B with {of_b:?} {}", control().said())),
    };
    kit::end_and_recover(a.kill_only());
    kit::end_and_recover(b);
    verdict.map(|()| (steps, trail))
}

fn examine(pair: &Pair, world: &World, bystander: &Bystander, a: u64, b: u64) -> Verdict {
    control().clear();
    let checker = kit::fork(|| {
        kit::alarm(30);
        let verdict = (pair.check)(world, a, b).and_then(|()| bystander.intact());
        i32::from(verdict.map_err(|text| control().say(&text)).is_err())
    });
    kit::wait_for_end(checker);
    commons::recover(checker as u32).map_err(|e| e.to_string())?;
    let status = kit::wait(checker);
    if status == 0 { Ok(()) } else { Err(format!("status {status:#x}, A's result {a}, B's {b}: {}", control().said())) }
}
