//! What must hold of a timer after a death, whatever died in it.

use std::time::Duration;

use commons::{Error, TimerId};

use crate::checker::Death;
use crate::clockwork::{BROUGHT, Clockwork, MS, NOW, Seen, State, ms};
use crate::kit::{CHILD, Check, control, ensure};
use crate::world::World;

/// The first of the states that is this one, and how far on it is.
fn which(work: &Clockwork, seen: &State, death: &Death) -> Check {
    let mut wanted = seen.clone();
    if work.plan.brings && !death.first() {
        // The rescuer that died was adding one.
        wanted.remove(&BROUGHT);
    }
    let found = work.states.iter().position(|state| *state == wanted);
    found
        .map(|n| n as u64)
        .ok_or_else(|| format!("timers that never were: {seen:?}; it began with {:?}", work.states[0]))
}

/// Without the lock: whoever looks sees each timer whole, and nobody sleeps over one.
fn at_a_glance(work: &Clockwork, death: &Death) -> Result<(u64, State), String> {
    // Before the list: one who lives may go on.
    let next = work.now.next_due();
    let seen = work.seen()?;
    let first = seen.iter().map(|seen| ms(seen.1)).min();
    ensure!(
        first.is_none() || next <= first && next.is_some(),
        "due after {first:?}, and a driver sleeps for {next:?}"
    );
    for (payload, id) in &work.ids {
        let (info, exists) = (work.now.info(*id), work.now.exists(*id));
        let listed = seen.iter().find(|seen| seen.0 == *payload);
        ensure!(
            info.map(|info| Clockwork::of(&info)).as_ref() == listed && exists == info.is_some(),
            "{payload} is {info:?}"
        );
    }
    Ok((which(work, &seen, death)?, seen))
}

/// While the child is stopped in the middle and lives.
pub fn alive(world: &World, death: &Death) -> Check {
    at_a_glance(world.clockwork(), death).map(|_| 0)
}

pub fn check(world: &World, death: &Death) -> Check {
    let work = world.clockwork();
    let result = control().result(CHILD);
    ensure!(result.is_none_or(|r| r == work.plan.returns), "it returned {result:?}, not {}", work.plan.returns);
    let (stage, mut state) = at_a_glance(work, death)?;
    death.recover(world)?;
    // Who comes first.
    let nth = death.nth / 3;
    let error = |e: Error| e.to_string();
    match nth % 5 {
        0 => {}
        1 => match work.now.after(ms(20_000), 99) {
            Ok(id) => ensure!(work.now.clear(id).map_err(error)?, "it was made, and is gone"),
            Err(refused) => ensure!(state.len() == work.now.capacity(), "{refused}, with {state:?}"),
        },
        2 => ensure!(work.now.at(NOW + MS / 2).expire(|_, _| ()).map_err(error)? == 0, "fired before its time"),
        3 => {
            if let Some((payload, id)) = work.ids.first() {
                let there = state.iter().find(|seen| seen.0 == *payload).copied();
                ensure!(work.now.clear(*id).map_err(error)? == there.is_some(), "{payload} was there: {there:?}");
                there.inspect(|there| _ = state.remove(there));
            }
        }
        _ => return all_at_once(work, &state).map(|()| stage),
    }
    in_order(work, &state)?;
    match nth % 2 {
        0 => fire_all(work, &state)?,
        _ => clear_each(work, state)?,
    }
    use_up(work)?;
    Ok(stage)
}

/// What follows from the entries does, once somebody has had the lock.
fn in_order(work: &Clockwork, state: &State) -> Result<(), String> {
    let live = work.now.stats().map_err(|e| e.to_string())?.live;
    ensure!(live == state.len(), "{live} are counted of {state:?}");
    let seen = work.seen()?;
    ensure!(seen == *state, "{seen:?} instead of {state:?}");
    let (next, first) = (work.now.next_due(), state.iter().map(|seen| ms(seen.1)).min());
    ensure!(next == first, "the next is due in {next:?}, and the first of them in {first:?}");
    Ok(())
}

/// What they carry in the order in which they are due, each once. Those that were there are told apart by their ids, and one that came by comes last.
fn order(work: &Clockwork, state: &State) -> Vec<u64> {
    let mut all: Vec<(u64, Option<TimerId>, u64)> =
        state.iter().map(|(payload, due, ..)| (*due, work.find(*payload), *payload)).collect();
    let age =
        |id: &Option<TimerId>| id.map_or(u64::MAX, |id| u64::from_le_bytes(id.to_bytes()[12..].try_into().unwrap()));
    all.sort_by_key(|(due, id, payload)| (*due, age(id), *payload));
    all.into_iter().map(|(.., payload)| payload).collect()
}

/// They fire in order of due time and age.
fn fire_all(work: &Clockwork, state: &State) -> Result<(), String> {
    let (mut fired, far) = (Vec::new(), work.now.at(NOW + 1_000_000 * MS));
    far.expire(|_, payload| fired.push(payload)).map_err(|e| e.to_string())?;
    let expected = order(work, state);
    ensure!(fired == expected, "fired in the order {fired:?} instead of {expected:?}");
    let left: Vec<Seen> = far.list().iter().map(|(_, info)| Clockwork::of(info)).collect();
    for (payload, due, interval, before) in &left {
        let was = state.iter().find(|seen| seen.0 == *payload && seen.2 == *interval).ok_or("another timer")?;
        ensure!(*interval > 0 && *before == was.3 + 1, "{payload} has fired {before} times, before {}", was.3);
        ensure!(
            (1_000_000 + due - was.1).is_multiple_of(*interval),
            "{payload} has lost its phase: {was:?}, then {due}"
        );
    }
    ensure!(left.len() == state.iter().filter(|seen| seen.2 > 0).count(), "left are {left:?}");
    far.clear_all().map(drop).map_err(|e| e.to_string())
}

/// Each is cleared by its id; the last ones first, so that the heap is taken apart from within.
fn clear_each(work: &Clockwork, mut state: State) -> Result<(), String> {
    let mut all = work.now.list();
    all.sort_by_key(|(_, info)| (info.payload % 3, info.payload));
    for (id, info) in all {
        ensure!(work.now.clear(id).map_err(|e| e.to_string())?, "{info:?} was listed, and is gone");
        ensure!(state.remove(&Clockwork::of(&info)), "{info:?} was never there");
        in_order(work, &state)?;
    }
    Ok(())
}

/// One who clears all of it needs no order.
fn all_at_once(work: &Clockwork, state: &State) -> Result<(), String> {
    let cleared = work.now.clear_all().map_err(|e| e.to_string())?;
    ensure!(cleared == state.len(), "{cleared} were cleared of {state:?}");
    in_order(work, &State::new())?;
    use_up(work)
}

/// There is room for as many as were promised, and each has an id that none ever had.
fn use_up(work: &Clockwork) -> Result<(), String> {
    let (capacity, mut known) = (work.now.capacity(), work.ids.iter().map(|(_, id)| *id).collect::<Vec<_>>());
    for round in 0..2_u64 {
        for n in 0..capacity as u64 {
            // Latest first: each is the new root.
            let id = work.now.after(ms(500 - 10 * round - n), n).map_err(|e| format!("round {round}, {n} fit: {e}"))?;
            ensure!(!known.contains(&id), "{id:?} was another's");
            known.push(id);
            ensure!(
                work.now.next_due() == Some(ms(500 - 10 * round - n)),
                "the next is due in {:?}",
                work.now.next_due()
            );
        }
        let more = work.now.after(Duration::from_millis(1), 0);
        ensure!(
            matches!(more, Err(Error::Full { capacity: c }) if c == capacity),
            "{capacity} are there, and {more:?}"
        );
        let state: State = (0..capacity as u64).map(|n| (n, 500 - 10 * round - n, 0, 0)).collect();
        in_order(work, &state)?;
        let last = &known[known.len() - capacity..];
        for id in last {
            ensure!(work.now.clear(*id).map_err(|e| e.to_string())?, "{id:?} is gone");
        }
        in_order(work, &State::new())?;
    }
    Ok(())
}
