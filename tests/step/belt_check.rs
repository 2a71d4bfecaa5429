//! What must hold of a channel after a death, whatever died in it: every message whose push returned is there once, in order, what the dead had
//! in hand has come back with an attempt more, the figures say so, and the ring has all its room.

use std::time::Duration;

use commons::{Channel, Error};

use crate::belt::{BROUGHT, Belt, CLOSED, DONE, RING, SLEPT, Sleeper, number};
use crate::belt_state::{How, Item, State, words_of};
use crate::checker::{Death, Mode, SOON};
use crate::kit::{CHILD, Check, INTRUDER, control, ensure, within};
use crate::world::World;

/// The states and how far on each is; `later`: somebody has come by since, who may have taken back what the dead had leased.
fn possible(belt: &Belt, death: &Death, later: bool) -> Vec<(u64, State)> {
    let mut all: Vec<(u64, State)> = (0..).zip(belt.states.iter().cloned()).collect();
    if belt.plan.brings && !death.first() {
        for (stage, mut with) in all.clone() {
            with.push(BROUGHT);
            all.push((stage, with));
        }
    }
    let mut n = 0;
    while later && n < all.len() {
        let (stage, state) = all[n].clone();
        for (at, item) in state.line.iter().enumerate() {
            if matches!(item.how, How::Child | How::Dead) {
                let mut back = state.clone();
                back.give_back(at);
                all.push((stage, back));
            }
        }
        n += 1;
    }
    all
}

/// Whether what the child does, and what whoever comes by does about its death, look the same: then nobody may come by before the figures are
/// known.
fn ambiguous(belt: &Belt) -> bool {
    belt.states.len() > 1 && leased(&belt.states[0])
}

fn leased(state: &State) -> bool {
    state.line.iter().any(|item| matches!(item.how, How::Child | How::Dead))
}

/// What can be seen without a lock: how many, how much room they take, whether it is closed.
fn look(channel: &Channel) -> (usize, usize, bool) {
    (channel.len(), channel.bytes(), channel.is_closed())
}

fn looks_like(state: &State, seen: (usize, usize, bool)) -> bool {
    let is = |s: &State| (s.line.len(), s.words() * 8, s.closed) == seen;
    is(state) || is(&state.clone().reclaimed())
}

fn figures(channel: &Channel) -> Result<[u64; 5], String> {
    let stats = channel.stats().map_err(|e| format!("stats: {e}"))?;
    Ok([stats.pushed, stats.taken, stats.waiting, stats.leased, stats.returned])
}

/// While the child is stopped in the middle and lives: what it has nobody gets, and nobody else is in the way.
pub fn alive(world: &World, death: &Death) -> Check {
    let (belt, soon) = (world.belt(), Duration::from_micros(100));
    let seen = look(&belt.channel);
    let mut states = belt.states.clone();
    states.retain(|state| looks_like(state, seen));
    ensure!(!states.is_empty(), "{seen:?}, which never was; it began with {:?}", belt.states[0]);
    // Now and then long enough that the other is looked at closely.
    let soon = if death.nth.is_multiple_of(16) { Duration::from_millis(25) } else { soon };
    match belt.channel.pop_timeout(soon) {
        Ok(message) => {
            let first = |s: &State| s.line.iter().find(|item| item.how == How::Ready).map(|item| item.bytes.clone());
            // Somebody who died before may be found out now.
            let dead = |item: &Item| item.how == How::Dead && item.bytes == message;
            let known = states.iter().any(|s| first(s).as_ref() == Some(&message) || s.line.iter().any(dead));
            ensure!(known, "{message:?} is taken, which another has, or which is not the first");
        }
        Err(Error::Closed) => ensure!(seen.2, "closed, and it is not"),
        Err(Error::Timeout { .. }) => {}
        Err(other) => return Err(other.to_string()),
    }
    match belt.channel.push_timeout(b"while it lives", soon) {
        Ok(()) | Err(Error::Timeout { .. }) => {}
        Err(Error::Closed) => ensure!(belt.channel.is_closed(), "closed, and it is not"),
        Err(other) => return Err(other.to_string()),
    }
    Ok(0)
}

pub fn check(world: &World, death: &Death) -> Check {
    let belt = world.belt();
    let result = control().result(CHILD);
    ensure!(result.is_none_or(|r| r == belt.plan.returns), "it returned {result:?}, not {}", belt.plan.returns);
    if let Some(sleeper) = belt.plan.sleeper.filter(|_| death.real()) {
        return woken(world, death, sleeper);
    }
    // Before anybody repairs anything.
    let channel = &belt.channel;
    let seen = look(channel);
    let mut possible_now = possible(belt, death, !death.first());
    possible_now.retain(|(_, state)| looks_like(state, seen));
    ensure!(!possible_now.is_empty(), "{seen:?}, which never was; it began with {:?}", belt.states[0]);
    if belt.plan.watched && death.first() {
        // Before the lock's next owner has a chance to tell.
        told_at_once(belt, death)?;
    }
    death.recover(world)?;
    if belt.plan.watched && death.first() && matches!(death.mode, Mode::Manager | Mode::RealManaged) {
        told_by_the_supervisor(belt, seen)?;
    }
    locks_are_free(world, death)?;
    let mut extra: Vec<Vec<u8>> = Vec::new();
    match death.nth % 3 {
        // A producer comes first, and leaves no word of what is free as it was.
        0 => fill(channel, seen, &mut extra)?,
        1 if !ambiguous(belt) => {
            match channel.peek() {
                Err(Error::Closed) if seen.2 => {}
                peeked => drop(peeked.map_err(|e| format!("peek: {e}"))?),
            }
            let seen = look(channel);
            possible_now = possible(belt, death, true);
            possible_now.retain(|(_, state)| looks_like(state, seen));
        }
        _ => {}
    }
    if belt.plan.watched {
        told_in_the_end(belt, &mut extra)?;
    }
    let now = figures(channel)?;
    let n = extra.len() as u64;
    possible_now.retain(|(_, state)| {
        let is = state.figures();
        [is[0] + n, is[1], is[2] + n, is[3], is[4]] == now
    });
    ensure!(!possible_now.is_empty(), "figures {now:?} that never were; it began with {:?}", belt.states[0]);
    let taken = consume(channel, death.nth)?;
    let known = matches!(death.mode, Mode::Manager | Mode::RealManaged) && world.corpses.is_empty();
    let letters = letters(channel)?;
    let (stage, state) = possible_now
        .iter()
        .find(|(_, state)| fits(state, &taken, &extra, &letters, known))
        .ok_or_else(|| format!("taken {taken:?}, letters {letters:?}, instead of {:?}", possible_now[0].1))?;
    let inside = belt.plan.inside && control().result(INTRUDER).is_none();
    ensure!(!inside || *stage == 0, "it died inside the closure, and something has happened (stage {stage})");
    let held = state.line.iter().filter(|item| item.how == How::Helper).count() as u64;
    let back = taken.iter().filter(|(_, attempts)| attempts.is_some_and(|n| n > 0)).count();
    let end = figures(channel)?;
    ensure!(
        end[0] == now[0] && end[1] == now[0] - held && end[2] == 0 && end[3] == held,
        "all was taken, {back} of it again, and the figures are {end:?} after {now:?}"
    );
    room(channel, state)?;
    Ok(*stage)
}

/// An empty channel that nobody closed has all its room.
pub fn whole(channel: &Channel) -> Result<(), String> {
    room(channel, &State::empty())
}

/// Pushes until nothing fits, not even nothing: just as much as there is room for.
fn fill(channel: &Channel, seen: (usize, usize, bool), extra: &mut Vec<Vec<u8>>) -> Result<(), String> {
    let mut left = RING - seen.1 / 8;
    while left > 0 && !seen.2 {
        // Bytes that would pass for heads of messages that are leased to somebody, where there were heads.
        let message = vec![0xee; left.min(if extra.is_empty() { 3 } else { 4 }) * 8 - 8];
        left -= words_of(&message);
        channel.try_push(&message).map_err(|e| format!("{} words are free, but: {e}", left + words_of(&message)))?;
        extra.push(message);
    }
    let more = channel.try_push(b"");
    let right = if seen.2 { matches!(more, Err(Error::Closed)) } else { matches!(more, Err(Error::Full { .. })) };
    ensure!(right, "no word is free, and a push gives {more:?}");
    Ok(())
}

/// A message, and how often it was leased in vain, if it was leased.
type Taken = (Vec<u8>, Option<u32>);

/// Takes all there is to be had.
pub fn consume(channel: &Channel, nth: usize) -> Result<Vec<Taken>, String> {
    let mut taken = Vec::new();
    loop {
        ensure!(taken.len() <= 2 * RING, "there is no end of messages: {taken:?}");
        let one = if nth.is_multiple_of(2) {
            channel.try_pop().map(|message| message.map(|message| (message, None)))
        } else {
            let lease = channel.try_pop_lease();
            lease.and_then(|lease| {
                let Some(lease) = lease else { return Ok(None) };
                let message = (lease.to_vec(), Some(lease.attempts()));
                lease.ack().map(|()| Some(message))
            })
        };
        match one {
            Ok(Some(message)) => taken.push(message),
            Ok(None) | Err(Error::Closed) => return Ok(taken),
            Err(error) => return Err(format!("taking what is left: {error}")),
        }
    }
}

fn letters(channel: &Channel) -> Result<Vec<Vec<u8>>, String> {
    let Some(letters) = channel.dead_letters() else { return Ok(Vec::new()) };
    consume(letters, 0).map(|taken| taken.into_iter().map(|(message, _)| message).collect())
}

/// Whether what was taken is what this state leaves: what is ready in order, what the dead had once each, wherever it came back.
fn fits(state: &State, taken: &[Taken], extra: &[Vec<u8>], letters: &[Vec<u8>], known: bool) -> bool {
    let mut after = state.clone();
    for n in 0..after.line.len() {
        if matches!(after.line[n].how, How::Child | How::Dead) {
            after.give_back(n);
        }
    }
    extra.iter().for_each(|message| after.push(message));
    let is =
        |item: &Item, (bytes, attempts): &Taken| item.bytes == *bytes && attempts.is_none_or(|n| n == item.attempts);
    let (mut back, mut ready) = (Vec::new(), Vec::new());
    for (item, was) in
        after.line.iter().zip(state.line.iter().map(|item| item.how).chain(std::iter::repeat(How::Ready)))
    {
        match (item.how, was) {
            (How::Ready, How::Ready) => ready.push(item),
            (How::Ready, _) => back.push(item),
            _ => {}
        }
    }
    // The oldest comes back at once, if everybody knows of the death.
    let oldest = state.clone().reclaimed().line.first().cloned();
    let first = oldest.filter(|item| known && item.how == How::Child && back.iter().any(|b| b.bytes == item.bytes));
    if first.is_some_and(|first| taken.first().is_none_or(|(bytes, _)| *bytes != first.bytes)) {
        return false;
    }
    let mut ready = ready.into_iter().peekable();
    for one in taken {
        if ready.next_if(|item| is(item, one)).is_none() {
            let Some(n) = back.iter().position(|item| is(item, one)) else { return false };
            back.remove(n);
        }
    }
    ready.next().is_none() && back.is_empty() && after.letters == letters
}

/// Nobody has anything, or only the living: all the rest of the ring can be had, twice, and goes round its end.
fn room(channel: &Channel, state: &State) -> Result<(), String> {
    if state.closed {
        ensure!(matches!(channel.push(b""), Err(Error::Closed)), "a push into a closed channel");
        let held = state.line.iter().any(|item| item.how == How::Helper);
        ensure!(held || matches!(channel.pop(), Err(Error::Closed)), "a pop from an empty closed channel");
        return Ok(());
    }
    for round in 0..2 {
        let seen = look(channel);
        let held = state.line.iter().any(|item| item.how == How::Helper);
        ensure!(held || (seen.0, seen.1) == (0, 0), "round {round}: empty, and {seen:?}");
        let mut messages = Vec::new();
        fill(channel, seen, &mut messages)?;
        let taken = consume(channel, round)?;
        let same = taken.iter().map(|(message, _)| message).eq(&messages);
        ensure!(same, "round {round}: {messages:?} came out as {taken:?}");
        if held {
            return Ok(());
        }
    }
    let whole: Vec<u8> = (0..RING as u8 * 8 - 8).collect();
    channel.try_push(&whole).map_err(|e| format!("the longest message: {e}"))?;
    let back = channel.try_pop().map_err(|e| e.to_string())?;
    ensure!(back.as_ref() == Some(&whole) && channel.is_empty(), "the longest message came out as {back:?}");
    Ok(())
}

/// No lock names the dead when a supervisor has recovered them.
fn locks_are_free(world: &World, death: &Death) -> Result<(), String> {
    if !matches!(death.mode, Mode::Manager | Mode::RealManaged) || !world.corpses.is_empty() {
        return Ok(());
    }
    const TAIL: usize = 320;
    for region in commons::harness::mapped().iter().filter(|region| region.name == "channel") {
        for (name, at) in [("producers'", TAIL), ("consumers'", TAIL + 128)] {
            let word = crate::image::word_at(region.base + at);
            let living = crate::checker::names_the_living(word & crate::world::OWNER);
            ensure!(living, "recovered, and the {name} lock, {word:#x}, still names the dead");
        }
    }
    Ok(())
}

/// Somebody sleeps, and runs in this world.
fn woken(world: &World, death: &Death, sleeper: Sleeper) -> Check {
    let (belt, helper) = (world.belt(), &world.helpers[0]);
    let channel = &belt.channel;
    death.recover(world)?;
    let mut taken = Vec::new();
    let said = |e: Error| e.to_string();
    if death.done {
        // It returned: so whom it was to wake is awake.
        let awake = within(1500, || helper.result().is_some());
        ensure!(awake, "it returned, and a sleeper sleeps on");
    }
    let mut more = Vec::new();
    match sleeper {
        Sleeper::Pops if channel.is_closed() => {}
        Sleeper::Pops => {
            channel.push_timeout(b"wake", SOON).map_err(said)?;
            more.push(b"wake".to_vec());
        }
        Sleeper::Pushes => {
            taken.push(channel.pop_timeout(SOON).map_err(said)?);
            taken.push(channel.pop_timeout(SOON).map_err(said)?);
        }
    }
    ensure!(within(1500, || helper.result().is_some()), "a sleeper sleeps on");
    let result = helper.result().unwrap_or(0);
    taken.extend(consume(channel, 0)?.into_iter().map(|(message, _)| message));
    let letters = letters(channel)?;
    for (stage, state) in possible(belt, death, false) {
        let mut all: Vec<Taken> = taken.iter().map(|message| (message.clone(), None)).collect();
        match sleeper {
            Sleeper::Pops if result == CLOSED && state.closed => {}
            Sleeper::Pops => {
                let there = state.line.iter().map(|item| &item.bytes).chain(&more);
                let Some(first) = there.into_iter().find(|message| number(message) == result) else { continue };
                all.insert(0, (first.clone(), None));
            }
            Sleeper::Pushes if result == DONE => more = vec![SLEPT.to_vec()],
            Sleeper::Pushes => continue,
        }
        if fits(&state, &all, &more, &letters, false) {
            let mut empty = State::empty();
            empty.closed = state.closed;
            room(channel, &empty)?;
            return Ok(stage);
        }
    }
    Err(format!("the sleeper got {result}, and left is {taken:?}; it began with {:?}", belt.states[0]))
}

pub fn readable(fd: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, a local; it does not wait.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 }
}

/// The eventfds, without asking for them: the kernel's numbers do not change.
pub fn fds(belt: &Belt) -> (i32, i32) {
    belt.fds.expect("arranged")
}

/// It has returned: whoever waits for the eventfd has been told.
fn told_at_once(belt: &Belt, death: &Death) -> Result<(), String> {
    let (filled, emptied) = fds(belt);
    let (was, is) = (&belt.states[0], belt.states.last().expect("the first"));
    if death.done && is != was {
        let told = if was.line.is_empty() || leased(was) { readable(filled) } else { readable(emptied) };
        ensure!(told, "it returned, and who waits for the eventfd is not told");
    }
    Ok(())
}

/// Recovered: who waits for the eventfd needs nobody else to come by, whatever the dead had done and not told.
fn told_by_the_supervisor(belt: &Belt, seen: (usize, usize, bool)) -> Result<(), String> {
    let ((filled, emptied), was) = (fds(belt), &belt.states[0]);
    let came = (was.line.is_empty() && seen.0 > 0) || leased(was) || (seen.2 && !was.closed);
    ensure!(!came || readable(filled), "recovered, there is something to be had, and who waits for it is not told");
    let went = seen.1 < was.words() * 8 && !was.line.is_empty();
    ensure!(!went || readable(emptied), "recovered, there is room, and who waits for it is not told");
    Ok(())
}

/// Whatever died, the next one who does what was waited for tells.
fn told_in_the_end(belt: &Belt, extra: &mut Vec<Vec<u8>>) -> Result<(), String> {
    let ((filled, emptied), channel) = (fds(belt), &belt.channel);
    if channel.is_closed() {
        channel.close().map_err(|e| e.to_string())?;
        ensure!(readable(filled) && readable(emptied), "closed twice, and who waits for the eventfds is not told");
    } else if belt.states[0].line.is_empty() || leased(&belt.states[0]) {
        if channel.try_push(b"told").is_ok() {
            extra.push(b"told".to_vec());
        }
        ensure!(readable(filled), "something was pushed, and who waits for the eventfd is not told");
    } else {
        // Who holds the consumers' lock makes room, or tells for the dead.
        channel.stats().map_err(|e| e.to_string())?;
        let (was, is) = (belt.states[0].line.len(), channel.len() - extra.len());
        // Who has filled it again waits himself.
        ensure!(
            is == was || !extra.is_empty() || readable(emptied),
            "there is room, and who waits for the eventfd is not told"
        );
    }
    Ok(())
}
