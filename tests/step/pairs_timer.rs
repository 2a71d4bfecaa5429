//! One preemption in a timer: A is stopped anywhere, B runs whole or until it waits for A. Both live, so each gets what it asks for.

use crate::clockwork::{Clockwork, ms};
use crate::kit::ensure;
use crate::pairs::{Act, Pair, Verdict, pair, seated};
use crate::world::World;

pub fn all() -> Vec<Pair> {
    vec![
        pair("pair_timer_info_fire", info, |w| fire(w, 7), |w, seen, _| whole(w, seen, 1)).arrange(ticking),
        pair("pair_timer_info_fire_twice", info, |w| fire(w, 7) + fire(w, 14), |w, seen, _| whole(w, seen, 2))
            .arrange(ticking),
        pair("pair_timer_info_replaced", info, replace, |_, seen, _| {
            ensure!(seen == 0 || seen == 700, "a reader saw {seen} of a timer that went");
            Ok(())
        })
        .arrange(ticking),
        pair("pair_timer_add_add", |w| seated(w, |w| add(w, 20)), |w| add(w, 30), both).arrange(ticking),
        pair(
            "pair_timer_add_fire",
            |w| seated(w, |w| add(w, 8)),
            |w| fire(w, 8),
            |w, added, fired| {
                ensure!(added == 1 && (fired == 1 || fired == 2), "added {added}, fired {fired}");
                in_order(w, 4 - fired as usize)
            },
        )
        .arrange(ticking),
        pair(
            "pair_timer_clear_fire",
            |w| seated(w, clear),
            |w| fire(w, 40),
            |w, cleared, fired| {
                ensure!(cleared + fired == 2, "cleared {cleared}, fired {fired}: the one-shot twice, or never");
                in_order(w, 1)
            },
        )
        .arrange(ticking),
    ]
}

/// A tick every 7 ms, and a one-shot.
fn ticking(world: &mut World) {
    Clockwork::plain(world, |w| {
        w.now.tick(ms(7), 7).expect("room");
        w.have(&[40]);
    });
}

/// What a reader that never took part sees of the tick: 100 times its due time, and how often it fired; 0 when it is gone.
fn info(world: &World) -> Act<'_> {
    let (now, id) = (world.clockwork().now.clone(), world.clockwork().id(7));
    Box::new(move || now.info(id).map_or(0, |info| info.due.as_millis() as u64 * 100 + info.fired))
}

fn fire(world: &World, at: u64) -> u64 {
    let mut fired = 0;
    world
        .clockwork()
        .now
        .at(crate::clockwork::NOW + at * crate::clockwork::MS)
        .expire(|_, _| fired += 1)
        .expect("a seat");
    fired
}

fn add(world: &World, at: u64) -> u64 {
    world.clockwork().now.after(ms(at), at).is_ok().into()
}

fn clear(world: &World) -> u64 {
    let work = world.clockwork();
    work.now.clear(work.id(40)).expect("a seat").into()
}

/// The tick goes, and another one comes into its entry that has fired and is due at another time.
fn replace(world: &World) -> u64 {
    let work = world.clockwork();
    let gone = work.now.clear(work.id(7)).expect("a seat");
    let another = work.now.tick(ms(11), 11).is_ok();
    u64::from(gone && another) + fire(world, 12)
}

fn whole(world: &World, seen: u64, most: u64) -> Verdict {
    let (due, fired) = (seen / 100, seen % 100);
    ensure!(fired <= most && due == 7 * (fired + 1), "a reader saw it due at {due}, having fired {fired} times");
    in_order(world, 2)
}

fn both(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a == 1 && b == 1, "one of two was not made");
    in_order(world, 4)
}

/// So many are there, and counted.
fn in_order(world: &World, live: usize) -> Verdict {
    let work = world.clockwork();
    let seen = work.seen()?;
    let counted = work.now.stats().map_err(|e| e.to_string())?.live;
    ensure!(seen.len() == live && counted == live, "{seen:?}, counted {counted}, expected {live}");
    let (next, first) = (work.now.next_due(), seen.iter().map(|seen| ms(seen.1)).min());
    ensure!(next == first, "the next is due in {next:?} instead of {first:?}");
    Ok(())
}
