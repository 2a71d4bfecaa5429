//! Semaphore: three permits, of which the living hold what they hold, and nobody else anything.

use commons::Error;

use crate::checker::{Death, SOON};
use crate::image::RawSlot;
use crate::kit::{Check, ensure, report, within};
use crate::op::{Act, Op};
use crate::world::{MS, OWNER, PERMITS, SEM, World, noted_asleep};

pub fn all() -> Vec<Op> {
    let ops = vec![
        Op::new("acquire_first_use", |w| Box::new(move || acquire(w)), one_held).arrange(|w| hold(w, 1)),
        Op::new(
            "acquire_first",
            |w| {
                w.sit_down();
                Box::new(move || acquire(w))
            },
            one_held,
        )
        .arrange(|w| hold(w, 1)),
        Op::new(
            "acquire_further",
            |w| {
                held(w, 1);
                Box::new(move || acquire(w))
            },
            one_held,
        )
        .arrange(|w| hold(w, 1)),
        Op::new("release_last", |w| releasing(w, 1), one_held).arrange(|w| hold(w, 1)),
        Op::new("release_further", |w| releasing(w, 2), one_held).arrange(|w| hold(w, 1)),
        Op::new(
            "release_not_held",
            |w| {
                w.sit_down();
                Box::new(move || not_held(w))
            },
            one_held,
        )
        .arrange(|w| hold(w, 1)),
        Op::new(
            "try_acquire_empty",
            |w| {
                w.sit_down();
                Box::new(move || try_acquire(w))
            },
            all_held,
        )
        .arrange(|w| hold(w, 3)),
        Op::new(
            "acquire_timeout_empty",
            |w| {
                w.sit_down();
                Box::new(move || timeout(w))
            },
            all_held,
        )
        .arrange(|w| hold(w, 3)),
        Op::new(
            "acquire_after_death",
            |w| {
                w.sit_down();
                Box::new(move || acquire(w))
            },
            none_held,
        )
        .arrange(|w| hold(w, 3))
        .meanwhile(|w| _ = w.slay(0, true)),
        Op::new(
            "try_acquire_after_death",
            |w| {
                w.sit_down();
                Box::new(move || try_acquire(w))
            },
            none_held,
        )
        .arrange(|w| hold(w, 3))
        .meanwhile(|w| _ = w.slay(0, false)),
        Op::new(
            "acquire_door_of_the_dead",
            |w| {
                w.sit_down();
                Box::new(move || acquire(w))
            },
            none_held,
        )
        .arrange(|w| {
            // It died between its entry and `free`.
            hold(w, 1);
            w.slay(0, true);
            w.set_word(SEM + 8, 3);
            w.set_word(SEM, w.word(SEM) | 1 << 30);
        }),
        Op::new("release_sleeper", |w| releasing(w, 3), follows).meanwhile(|w| {
            let acquires = |w: &World| {
                w.sem.acquire().expect("a seat");
                1
            };
            w.sleeper(acquires, |w, pid| noted_asleep(w, pid) && w.word(SEM) & OWNER == 0);
        }),
    ];
    let passes_by: fn(&World) = |w| {
        if w.sem.try_acquire().is_ok_and(|got| got) {
            drop(w.sem.release());
        }
    };
    ops.into_iter().map(|op| op.alive(alive).rescue(passes_by)).collect()
}

fn acquire(world: &World) {
    report(world.sem.acquire().is_ok().into());
}

fn held(world: &World, permits: usize) {
    (0..permits).for_each(|_| world.sem.acquire().expect("free"));
}

fn releasing(world: &World, permits: usize) -> Act<'_> {
    held(world, permits);
    Box::new(move || report(world.sem.release().is_ok().into()))
}

fn not_held(world: &World) {
    report(matches!(world.sem.release(), Err(Error::NotHeld { .. })).into());
}

fn try_acquire(world: &World) {
    report(world.sem.try_acquire().expect("a seat").into());
}

fn timeout(world: &World) {
    report(matches!(world.sem.acquire_timeout(MS), Err(Error::Timeout { .. })).into());
}

fn hold(world: &mut World, permits: usize) {
    world.holder(|w| held(w, permits));
}

fn one_held(world: &World, death: &Death) -> Check {
    permits(world, death, 1)
}
fn all_held(world: &World, death: &Death) -> Check {
    permits(world, death, PERMITS)
}
fn none_held(world: &World, death: &Death) -> Check {
    permits(world, death, 0)
}

/// Exactly what the living do not hold can be had, and given back, as often as one likes.
fn permits(world: &World, death: &Death, living: u32) -> Check {
    let text = |e: Error| e.to_string();
    let result = crate::kit::control().result(crate::kit::CHILD);
    // All operations here say true for what they must do; only trying at an empty semaphore says false.
    ensure!(result.is_none_or(|said| said == 1 || living == PERMITS), "the operation failed");
    death.recover(world)?;
    let mut first = true;
    for round in 0..2 {
        let mut got = 0;
        // The first one waits, for the door may be a zombie's, whom only waiting finds.
        while got <= PERMITS
            && (if first && !death.at_once(world) {
                world.sem.acquire_timeout(if living == PERMITS { MS } else { SOON }).is_ok()
            } else {
                world.sem.try_acquire().map_err(text)?
            })
        {
            first = false;
            got += 1;
        }
        ensure!(
            got == PERMITS - living,
            "round {round}: {got} permits can be had, the living hold {living} of {PERMITS}"
        );
        let waited = world.sem.acquire_timeout(MS);
        ensure!(matches!(waited, Err(Error::Timeout { .. })), "waiting at an empty semaphore gives {waited:?}");
        for _ in 0..got {
            world.sem.release().map_err(text)?;
        }
        let more = world.sem.release();
        ensure!(matches!(more, Err(Error::NotHeld { .. })), "giving back what one has not gives {more:?}");
        let available = world.sem.available();
        ensure!(available == PERMITS - living, "round {round}: {available} permits are said to be available");
    }
    for helper in &world.helpers {
        let held = RawSlot::of(helper.pid).map_or(0, |slot| slot.holds(3));
        ensure!(held == u64::from(living), "a living process holds {living} permits, its ledger says {held}");
    }
    Ok(0)
}

/// Somebody slept for a permit: gets one in a real death, is stopped in a played one.
fn follows(world: &World, death: &Death) -> Check {
    if !death.real() {
        return permits_with_a_sleeper(world, death);
    }
    let got = within(1500, || world.helpers[0].result().is_some());
    ensure!(got, "the one that sleeps for a permit of the dead is not woken");
    permits(world, death, 1)
}

fn permits_with_a_sleeper(world: &World, death: &Death) -> Check {
    permits(world, death, 0)
}

/// The child is stopped, and alive: its permits are its own.
fn alive(world: &World, death: &Death) -> Check {
    let child = RawSlot::of(death.dead[0]).map_or(0, |slot| slot.holds(3));
    let others: u64 = world.helpers.iter().filter_map(|helper| RawSlot::of(helper.pid)).map(|slot| slot.holds(3)).sum();
    let mut got = 0;
    while got <= 4 {
        match world.sem.try_acquire() {
            Ok(true) => got += 1,
            Ok(false) => break,
            // It stands in the door; that is its good right.
            Err(Error::Timeout { .. }) => return Ok(0),
            Err(e) => return Err(e.to_string()),
        }
    }
    let permits = u64::from(PERMITS);
    ensure!(
        got + child + others <= permits,
        "{got} permits were had, {child} are the stopped child's, {others} others'"
    );
    Ok(0)
}
