//! Regions, and recovery itself as the operation that somebody dies in.

use commons::{Error, Lock, Region};

use crate::checker::{Death, SOON};
use crate::image::{RawSlot, word_at};
use crate::kit::{Check, ensure, report};
use crate::num::{drain, usable};
use crate::op::Op;
use crate::world::{DIRTY, LOCK, OWNER, PERMITS, World, noted_asleep};

pub fn all() -> Vec<Op> {
    let three: fn(&mut World) = |w| {
        let field = Region::new("field", 3 * 128).expect("a region");
        std::mem::forget(Lock::new_in(&field).expect("room"));
        w.field = Some(field);
    };
    let places: fn(&World) = |w| drop(Lock::new_in(field(w)));
    let recovers: fn(&World) = |w| drop(commons::recover(w.corpses[0] as u32));
    vec![
        Op::new("region_new", |_| Box::new(move || report(new_region())), regions_differ),
        Op::new("region_place", |w| Box::new(move || place(w)), placed).arrange(three).rescue(places).last(1),
        Op::new("region_place_last", |w| Box::new(move || place(w)), placed)
            .arrange(|w| {
                w.field = Some(Region::new("field", 128).expect("a region"));
            })
            .rescue(places)
            .last(1),
        Op::new("region_place_full", |w| Box::new(move || refuse(w)), placed).arrange(|w| {
            w.field = Some(Region::new("field", 128).expect("a region"));
            std::mem::forget(Lock::new_in(field(w)).expect("room"));
        }),
        Op::new("region_place_hint_behind", |w| Box::new(move || place(w)), placed)
            .arrange(|w| {
                let field = Region::new("field", 3 * 128).expect("a region");
                std::mem::forget(Lock::new_in(&field).expect("room"));
                // Whoever placed the first died before it moved the hint on.
                crate::image::set_word_at(base("field") + 32, 0);
                w.field = Some(field);
            })
            .rescue(places)
            .last(1),
        Op::new(
            "recover_holder",
            |w| {
                w.sit_down();
                Box::new(move || recover(w))
            },
            recovered,
        )
        .arrange(die_holding_all)
        .rescue(recovers),
        Op::new("recover_unseated", |w| Box::new(move || recover(w)), recovered)
            .arrange(die_holding_all)
            .rescue(recovers),
        Op::new("recover_reaped", |w| Box::new(move || recover(w)), recovered)
            .arrange(|w| {
                let helper = w.holder(hold_all);
                w.slay(helper, true);
            })
            .rescue(recovers),
        Op::new("recover_woken_sleeper", |w| Box::new(move || recover(w)), permit_back)
            .arrange(|w| {
                let frozen = std::mem::replace(&mut w.frozen, true);
                let sleeper = w.sleeper(|w| w.small.wait(None).into(), noted_asleep);
                assert_eq!(w.small.wakeup(1), 1);
                w.slay(sleeper, false);
                w.frozen = frozen;
            })
            .rescue(recovers),
        Op::new("recover_living", |w| Box::new(move || recover_living(w)), still_held)
            .arrange(|w| _ = w.holder(|w| std::mem::forget(w.lock.lock()))),
    ]
}

fn field(world: &World) -> &Region {
    world.field.as_ref().expect("arranged")
}

fn base(name: &str) -> usize {
    commons::harness::mapped().iter().rfind(|m| m.name == name).expect("mapped").base
}

fn new_region() -> u64 {
    let made = Region::new("made", 64);
    let ok = made.is_ok();
    std::mem::forget(made);
    ok.into()
}

/// Ids stay unique: the dead one's is used up, or was never given out.
fn regions_differ(world: &World, death: &Death) -> Check {
    death.recover(world)?;
    let made: Vec<Region> =
        (0..3).map(|_| Region::new("more", 256)).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let mut ids: Vec<u64> = commons::harness::mapped().iter().map(|m| m.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == count, "two regions have one id");
    for region in &made {
        let lock = Lock::new_in(region).map_err(|e| e.to_string())?;
        ensure!(lock.try_lock().is_ok_and(|guard| guard.is_some()), "a lock in a new region cannot be had");
    }
    Ok(0)
}

fn place(world: &World) {
    let made = Lock::new_in(field(world));
    report(made.is_ok().into());
    std::mem::forget(made);
}

fn refuse(world: &World) {
    report(matches!(Lock::new_in(field(world)), Err(Error::OutOfMemory { .. })).into());
}

/// The deeds, one behind the other: how many placements, and where they end.
fn deeds(world: &World) -> Result<(usize, usize), String> {
    let (size, base) = (field(world).size(), base("field"));
    let (mut at, mut count) = (0, 0);
    while at < size {
        let claim = word_at(base + 256 + at);
        if claim == 0 {
            break;
        }
        ensure!(claim >> 48 == 4 && claim & 0xffff == 64, "a deed says {claim:#x}");
        at += 128;
        count += 1;
    }
    ensure!(
        (at..size).step_by(8).all(|rest| word_at(base + 256 + rest) == 0),
        "behind the last deed it is not all zero"
    );
    Ok((count, at))
}

/// The region can be walked, and filled to its last byte, and nothing stands in one place with another.
fn placed(world: &World, death: &Death) -> Check {
    let region = field(world);
    let (count, end) = deeds(world)?;
    let capacity = region.size() / 128;
    ensure!(region.used() <= end, "{} bytes are used, the deeds end at {end}", region.used());
    death.recover(world)?;
    let mut made = Vec::new();
    let full = loop {
        match Lock::new_in(region) {
            Ok(lock) => made.push(lock),
            Err(full) => break full,
        }
        ensure!(made.len() <= capacity, "more fits than there is room for");
    };
    ensure!(matches!(full, Error::OutOfMemory { .. }), "a full region says: {full}");
    ensure!(made.len() == capacity - count, "{count} of {capacity} were there, and {} fit", made.len());
    let guards: Vec<_> =
        made.iter().map(|lock| lock.try_lock()).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    ensure!(guards.iter().all(Option::is_some), "two locks stand in one place");
    drop(guards);
    let (count_now, end_now) = deeds(world)?;
    ensure!(
        count_now == capacity && end_now == region.size() && region.used() == region.size(),
        "a full region says {}",
        region.used()
    );
    // One stood there before in all but `region_place_last`.
    Ok(if capacity == 3 { count as u64 - 1 } else { count as u64 })
}

fn hold_all(world: &World) {
    std::mem::forget(world.lock.lock());
    std::mem::forget(world.rw.read());
    world.sem.acquire().expect("free");
    world.sem.acquire().expect("free");
}

fn die_holding_all(world: &mut World) {
    let helper = world.holder(hold_all);
    world.slay(helper, false);
}

fn recover(world: &World) {
    report(u64::from(commons::recover(world.corpses[0] as u32).is_ok()));
}

fn recover_living(world: &World) {
    report(u64::from(matches!(commons::recover(world.helpers[0].pid as u32), Err(Error::StillAlive { .. }))));
}

/// All that the first dead one held is free, though its rescuer died as well.
fn recovered(world: &World, death: &Death) -> Check {
    let text = |e: Error| e.to_string();
    ensure!(crate::kit::control().result(crate::kit::CHILD) != Some(0), "recovery was refused");
    let word = world.word(LOCK);
    ensure!(word & (OWNER | DIRTY) != 0, "the lock forgot that its owner died");
    death.recover(world)?;
    let managed = matches!(death.mode, crate::checker::Mode::Manager | crate::checker::Mode::RealManaged);
    if managed {
        commons::recover(world.corpses[0] as u32).map_err(text)?;
        ensure!(RawSlot::of(world.corpses[0]).is_none(), "it was recovered and its slot is taken");
        let at_once = world.lock.try_lock().map_err(text)?;
        ensure!(
            at_once.is_some_and(|guard| guard.recovered()),
            "it was recovered and its lock cannot be had, or tells nothing"
        );
    } else {
        let guard = world.lock.lock_timeout(SOON).map_err(text)?;
        ensure!(guard.recovered(), "the next owner is not told");
    }
    ensure!(!world.lock.lock_timeout(SOON).map_err(text)?.recovered(), "the owner after the next is told as well");
    let writing = world.rw.write_timeout(SOON).map_err(text)?;
    ensure!(!writing.recovered(), "a reader died, and a writer is told of it");
    drop(writing);
    for n in 0..PERMITS {
        world.sem.acquire_timeout(SOON).map_err(|e| format!("permit {n}: {e}"))?;
    }
    ensure!(!world.sem.try_acquire().map_err(text)?, "there are more permits than there are");
    (0..PERMITS).try_for_each(|_| world.sem.release()).map_err(text)?;
    Ok(0)
}

fn permit_back(world: &World, death: &Death) -> Check {
    death.recover(world)?;
    let total = drain::<commons::Atomic>(world);
    ensure!(total == 1 && world.small.get() == 0, "of one permit {total} are there");
    usable::<commons::Atomic>(world, death)?;
    Ok(0)
}

fn still_held(world: &World, death: &Death) -> Check {
    ensure!(crate::kit::control().result(crate::kit::CHILD) != Some(0), "a living process was recovered");
    let owner = world.word(LOCK) & OWNER;
    death.recover(world)?;
    ensure!(world.lock.try_lock().is_ok_and(|guard| guard.is_none()), "the lock of a living process can be had");
    ensure!(world.word(LOCK) & OWNER == owner && owner != 0, "a living process was robbed");
    Ok(0)
}
