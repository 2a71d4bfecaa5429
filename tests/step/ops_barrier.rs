//! Barrier for two: never lets fewer through, and one that died has not arrived.

use std::time::Duration;

use commons::Error;

use crate::checker::{Death, SOON};
use crate::kit::{Check, ensure, report, within};
use crate::op::Op;
use crate::world::{BARRIER, MS, World, noted_asleep};

pub fn all() -> Vec<Op> {
    let passes_by: fn(&World) = |w| drop(w.barrier.wait_timeout(Duration::ZERO));
    let ops = vec![
        Op::new(
            "barrier_last",
            |w| {
                w.sit_down();
                Box::new(move || lead(w))
            },
            completed,
        )
        .arrange(one_asleep)
        .last(1),
        Op::new("barrier_last_first_use", |w| Box::new(move || lead(w)), completed).arrange(one_asleep).last(1),
        Op::new(
            "barrier_alone",
            |w| {
                w.sit_down();
                Box::new(move || alone(w))
            },
            nobody_came,
        ),
        Op::new(
            "barrier_after_death",
            |w| {
                w.sit_down();
                Box::new(move || alone(w))
            },
            nobody_came,
        )
        .arrange(one_asleep)
        .meanwhile(|w| _ = w.slay(0, true)),
        Op::new(
            "barrier_after_zombie",
            |w| {
                w.sit_down();
                Box::new(move || alone(w))
            },
            nobody_came,
        )
        .arrange(one_asleep)
        .meanwhile(|w| _ = w.slay(0, false)),
    ];
    ops.into_iter().map(|op| op.rescue(passes_by)).collect()
}

fn one_asleep(world: &mut World) {
    world.sleeper(|w| w.barrier.wait().expect("a seat").into(), noted_asleep);
}

fn lead(world: &World) {
    report(world.barrier.wait().expect("a seat").into());
}

fn alone(world: &World) {
    report(matches!(world.barrier.wait_timeout(MS), Err(Error::Timeout { .. })).into());
}

fn round(world: &World) -> u64 {
    world.word(BARRIER + 8)
}

/// One slept, the dead one came last: the round is complete, or it is not and the next one to come completes it.
fn completed(world: &World, death: &Death) -> Check {
    let before = round(world);
    ensure!(before <= 1, "{before} rounds are complete, and only two ever came");
    ensure!(!death.done || before == 1, "the last one returned, and the round is not complete");
    death.recover(world)?;
    if before == 1 || (death.real() && world.helpers[0].result().is_some()) {
        if death.real() {
            let through = within(1500, || world.helpers[0].result().is_some());
            ensure!(through, "the round is complete, and a sleeper sleeps on");
        }
        let waited = world.barrier.wait_timeout(MS);
        ensure!(matches!(waited, Err(Error::Timeout { .. })), "alone in the second round, and: {waited:?}");
        ensure!(round(world) == 1, "{} rounds are complete, and three came", round(world));
        return Ok(1);
    }
    let waited = world
        .barrier
        .wait_timeout(if death.real() { SOON } else { 30 * MS })
        .map_err(|e| format!("with another asleep: {e}"))?;
    ensure!(waited && round(world) == 1, "the last one is the leader ({waited}) of round 1 ({})", round(world));
    if death.real() {
        let through = within(1500, || world.helpers[0].result() == Some(0));
        ensure!(through, "the round is complete, and a sleeper sleeps on");
    }
    Ok(0)
}

/// Only the dead ever came: who comes now is alone, and two who come are two.
fn nobody_came(world: &World, death: &Death) -> Check {
    ensure!(round(world) == 0, "a round is complete, and one came");
    ensure!(crate::kit::control().result(crate::kit::CHILD) != Some(0), "one alone was let through");
    death.recover(world)?;
    let waited = world.barrier.wait_timeout(MS);
    ensure!(matches!(waited, Err(Error::Timeout { .. })), "alone, and: {waited:?}");
    ensure!(round(world) == 0, "a round is complete, and one came");
    if death.nth.is_multiple_of(4) {
        let other = world.barrier.clone();
        let second = std::thread::spawn(move || other.wait_timeout(SOON).map_err(|e| e.to_string()));
        let mine = world.barrier.wait_timeout(SOON).map_err(|e| format!("of two: {e}"))?;
        let other = second.join().map_err(|_| "panicked".to_string())??;
        ensure!(mine != other, "of two, {} lead", u8::from(mine) + u8::from(other));
        ensure!(round(world) == 1, "{} rounds are complete", round(world));
    }
    Ok(0)
}
