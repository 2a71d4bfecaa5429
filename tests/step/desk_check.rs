//! What must hold of a table after a death, whatever died in it.

use std::time::Duration;

use commons::{Error, Outcome, TableStats};

use crate::checker::{Death, SOON};
use crate::desk::{Desk, State};
use crate::kit::{CHILD, Check, control, ensure};
use crate::world::World;

/// The states with these figures, and how far on each is.
fn possible(desk: &Desk, figures: TableStats, death: &Death) -> Result<Vec<(u64, State)>, String> {
    let mut all: Vec<(u64, State)> = (0..).zip(desk.states.iter().cloned()).collect();
    if desk.plan.brings && !death.first() {
        // The rescuer that died was bringing a row.
        for n in 0..all.len() {
            let (stage, mut with) = all[n].clone();
            with.insert(&desk.spares[0], 0, 0.0, "");
            all.push((stage, with));
        }
    }
    all.retain(|(_, state)| state.figures == figures);
    ensure!(!all.is_empty(), "figures that never were: {figures:?}; it began with {:?}", desk.states[0].figures);
    Ok(all)
}

/// The first of the states that has these rows.
fn with_rows(desk: &Desk, possible: &[(u64, State)]) -> Result<(u64, State), String> {
    let rows = desk.rows()?;
    let found = possible.iter().find(|(_, state)| state.rows == rows).cloned();
    found.ok_or_else(|| format!("rows that never were: {rows:?} instead of {:?}", possible[0].1.rows))
}

/// While the child is stopped in the middle and lives: a reader sees it whole, or waits in vain.
pub fn alive(world: &World, death: &Death) -> Check {
    let desk = world.desk();
    let possible = possible(desk, desk.figures(), death)?;
    match desk.table.get_timeout(desk.focus(), Duration::from_micros(100)) {
        Err(Error::Timeout { .. }) => return Ok(0),
        Err(other) => return Err(other.to_string()),
        // Nobody owns its bucket now.
        Ok(row) => {
            let row = row.map(|row| desk.content(&row));
            let known = possible.iter().any(|(_, state)| state.rows.get(desk.focus()) == row.as_ref());
            ensure!(known, "a reader meets a row that never was: {row:?}");
        }
    }
    // So it has no bucket, if that is the only one.
    if desk.plan.apart { Ok(0) } else { with_rows(desk, &possible).map(|_| 0) }
}

pub fn check(world: &World, death: &Death) -> Check {
    let desk = world.desk();
    let result = control().result(CHILD);
    ensure!(result.is_none_or(|r| r == desk.plan.returns), "it returned {result:?}, not {}", desk.plan.returns);
    // Before anybody repairs anything the figures hold; and they decide what the rows must be.
    let figures = desk.figures();
    let mut possible = possible(desk, figures, death)?;
    death.recover(world)?;
    ensure!(desk.figures() == figures, "to recover the locks has changed the figures");
    match death.nth % 5 {
        0 => drop(desk.table.get(desk.focus())),
        1 => drop(desk.rows()?),
        2 => drop(desk.table.get_timeout(desk.focus(), SOON).map_err(|e| e.to_string())?),
        3 => ensure!(matches!(desk.table.update("nobody", &[]), Ok(false)), "a row that is not there was changed"),
        _ if desk.plan.evicts => {}
        _ => fill_first(desk, &mut possible)?,
    }
    let (stage, state) = with_rows(desk, &possible)?;
    ensure!(desk.figures() == state.figures, "the figures are {:?} instead of {:?}", desk.figures(), state.figures);
    let recoveries = desk.table.stats().recoveries as usize;
    let deaths = death.dead.len() + world.corpses.len();
    ensure!(recoveries <= deaths, "{recoveries} recoveries of {deaths} dead");
    for (key, content) in &state.rows {
        let row = desk.table.get(key).map(|row| desk.content(&row));
        ensure!(row.as_ref() == Some(content), "{key} is {row:?}, and in a scan {content:?}");
    }
    let others = desk.states.iter().flat_map(|state| state.rows.keys()).chain(&desk.spares);
    for key in others.filter(|key| !state.rows.contains_key(*key)) {
        ensure!(!desk.table.exists(key), "{key} is met by name and not by a scan");
    }
    if desk.plan.evicts {
        evict(desk)?
    } else {
        use_up(desk, &state)?
    }
    Ok(stage)
}

/// Whoever comes first wants a row: finds as many as there are in truth.
fn fill_first(desk: &Desk, possible: &mut Vec<(u64, State)>) -> Result<(), String> {
    let filled = fill(desk)?;
    let count = filled.len();
    let fits = |state: &State| state.rows.len() + count == desk.table.capacity();
    ensure!(possible.iter().any(|(_, state)| fits(state)), "{count} more fit into {:?}", possible[0].1);
    for key in filled {
        ensure!(desk.table.del(key), "{key} was inserted, and is gone");
    }
    possible.retain(|(_, state)| fits(state));
    let now = desk.figures();
    for (_, state) in possible {
        let figures = &mut state.figures;
        figures.inserts += count as u64;
        figures.deletes += (count + state.ghosts) as u64;
        figures.rows -= std::mem::take(&mut state.ghosts) as u64;
        // Which of them collided depends on their hashes.
        (figures.collisions, figures.longest_chain) = (now.collisions, now.longest_chain);
    }
    Ok(())
}

/// Inserts until it is full; the keys.
fn fill(desk: &Desk) -> Result<Vec<&str>, String> {
    let mut filled = Vec::new();
    for key in desk.spares[1..].iter().filter(|key| !desk.table.exists(key)) {
        match desk.table.set(key, &[desk.hits.is(77)]) {
            Ok(Outcome::Inserted) => filled.push(key.as_str()),
            Ok(Outcome::Updated) => return Err(format!("{key} is there already")),
            Err(Error::Full { capacity }) => {
                ensure!(capacity == desk.table.capacity(), "full with {capacity}");
                // What is refused changes nothing, and does not use up anything.
                let before = desk.figures();
                ensure!(desk.table.add(key, &[]).is_err(), "full, and then not");
                ensure!(desk.figures() == before, "a refusal has changed the figures");
                return Ok(filled);
            }
            Err(other) => return Err(other.to_string()),
        }
    }
    Err(format!("there is no end of rows: {}", filled.len()))
}

/// Every row of the table can be had, none twice; and again after all went back.
fn use_up(desk: &Desk, state: &State) -> Result<(), String> {
    let capacity = desk.table.capacity();
    for round in 0..2 {
        let there = if round == 0 { state.rows.len() } else { 0 };
        let count = fill(desk)?.len();
        ensure!(there + count == capacity, "round {round}: {there} were there, {count} fit, of {capacity}");
        let rows = desk.rows()?;
        ensure!(rows.len() == capacity && desk.table.len() == capacity, "full, and a scan meets {}", rows.len());
        let untouched = state.rows.iter().all(|(key, content)| rows.get(key) == Some(content));
        ensure!(round > 0 || untouched, "an insertion has changed another row");
        for key in rows.keys() {
            ensure!(desk.table.del(key), "{key} was met, and is gone");
        }
        let left = desk.rows()?;
        ensure!(left.is_empty() && desk.table.is_empty(), "all were removed, and {left:?} is left");
    }
    // Each bucket has six places; so much for those who count the rest.
    let (longest, most) = (desk.table.stats().longest_chain as usize, capacity.saturating_sub(6));
    ensure!(desk.plan.apart || longest == most, "a tree of {longest} where there is none but of {most}");
    Ok(())
}

/// The same for a table that makes room by itself.
fn evict(desk: &Desk) -> Result<(), String> {
    let capacity = desk.table.capacity();
    for key in &desk.spares[1..] {
        let done = desk.set(key, 5, 0.25, key).map_err(|e| e.to_string())?;
        ensure!(done == Outcome::Inserted && desk.table.exists(key), "{key} was there, or is not");
    }
    let rows = desk.rows()?;
    ensure!(rows.len() == capacity && desk.table.len() == capacity, "{} rows in a table for {capacity}", rows.len());
    for key in rows.keys() {
        ensure!(desk.table.del(key), "{key} was met, and is gone");
    }
    ensure!(desk.table.is_empty(), "all were removed, and something is left");
    Ok(())
}
