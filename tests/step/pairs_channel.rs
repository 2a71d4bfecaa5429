//! One preemption in a channel: A is stopped anywhere, B runs whole or until it waits for A. Both live, so each gets what it asks for.

use crate::belt::{Belt, CLOSED, DONE, FULL, NONE, TIMEOUT, got, have, maybe, number, outcome, turn, watch, worn};
use crate::belt_check::{consume, fds, readable, whole};
use crate::kit::ensure;
use crate::pairs::{Act, BOUND, Pair, Verdict, pair, seated};
use crate::world::World;

pub fn all() -> Vec<Pair> {
    // Of these B comes around every change of memory; of the first also in between.
    let (first, rest) = (thorough(), brief().into_iter().map(Pair::brief));
    first.into_iter().chain(rest).collect()
}

fn thorough() -> Vec<Pair> {
    vec![
        pair("pair_channel_push_push", |w| seated(w, push_at_once), |w| push(w, b"B"), both_pushed).arrange(at_the_end),
        pair("pair_channel_push_pop", |w| seated(w, push_at_once), pop, handed).arrange(at_the_end),
        pair("pair_channel_pop_push", |w| seated(w, pop), |w| push(w, b"some of A"), |w, a, b| handed(w, b, a))
            .arrange(at_the_end)
            .needs_b(),
        pair("pair_channel_pop_pop", |w| seated(w, pop), pop, one_each).arrange(two),
    ]
}

fn brief() -> Vec<Pair> {
    vec![
        pair("pair_channel_push_many_drain", |w| seated(w, push_many), drain, all_or_none).arrange(at_the_end),
        pair("pair_channel_full_push_pop", |w| seated(w, |w| push(w, b"some of A")), pop, room_made)
            .arrange(full)
            .needs_b(),
        pair("pair_channel_full_pop_push", |w| seated(w, pop), |w| push(w, b"some of A"), |w, a, b| room_made(w, b, a))
            .arrange(full),
        pair("pair_channel_try_pop_try_pop", |w| seated(w, try_pop), try_pop, one_had_it).arrange(|w| plain(w, &["a"])),
        pair("pair_channel_session_push", |w| seated(w, session_push), |w| push(w, b"B"), both_pushed)
            .arrange(at_the_end),
        pair("pair_channel_session_pop", |w| seated(w, session_pop), try_pop, drained).arrange(three),
        pair("pair_channel_drain_pop", |w| seated(w, drain), try_pop, drained).arrange(three),
        pair("pair_channel_lease_pop", |w| seated(w, lease), pop, one_each).arrange(two),
        pair("pair_channel_ack_pop", |w| leased(w, |lease| outcome(lease.ack())), pop, acked).arrange(two),
        pair("pair_channel_give_back_pop", |w| leased(w, dropped), pop, given_back).arrange(two),
        pair("pair_channel_letter_pop", |w| leased(w, dropped), letter, buried).arrange(|w| {
            Belt::plain(w, |_| {}, |b| b.max_attempts(2));
            have(w, &["a"]);
            worn(w);
        }),
        pair("pair_channel_close_push", |w| seated(w, shut), |w| push(w, b"B"), in_or_closed).arrange(at_the_end),
        pair(
            "pair_channel_pop_close",
            |w| seated(w, pop),
            shut,
            |_, a, b| {
                ensure!(a == CLOSED && b == DONE, "closed ({b}), and who waited got {a}");
                Ok(())
            },
        )
        .arrange(at_the_end)
        .needs_b(),
        pair("pair_channel_arm_push", |w| seated(w, try_pop), |w| push(w, b"some of A"), |w, a, b| told(w, b, a))
            .arrange(watched),
        pair("pair_channel_push_arm", |w| seated(w, push_at_once), try_pop, told).arrange(watched),
        pair("pair_channel_arm_for_room", |w| seated(w, try_push), pop, told_of_room).arrange(full_and_watched),
    ]
}

fn plain(world: &mut World, messages: &[&str]) {
    Belt::plain(world, |_| {}, |b| b);
    have(world, messages);
}

/// Empty, and what comes goes round the end.
fn at_the_end(world: &mut World) {
    plain(world, &[]);
    turn(world, crate::belt::RING - 2);
}

fn two(world: &mut World) {
    plain(world, &["a", "b"]);
}

fn three(world: &mut World) {
    at_the_end(world);
    have(world, &["a", "b", "c"]);
}

fn full(world: &mut World) {
    plain(world, &[]);
    turn(world, 3);
    have(world, &[&"x".repeat(56), &"y".repeat(56)]);
}

fn watched(world: &mut World) {
    at_the_end(world);
    watch(world);
}

fn full_and_watched(world: &mut World) {
    full(world);
    watch(world);
}

fn push(world: &World, message: &[u8]) -> u64 {
    outcome(world.belt().channel.push_timeout(message, BOUND))
}

/// A never waits for room: and a clock would make its runs differ.
fn push_at_once(world: &World) -> u64 {
    outcome(world.belt().channel.push(b"some of A"))
}

/// Keeps the producers' end until it is through, but for one who wants it.
fn session_push(world: &World) -> u64 {
    outcome(world.belt().channel.push_session().push(b"some of A"))
}

/// The letters that it gets, as of a drain.
fn session_pop(world: &World) -> u64 {
    let mut session = world.belt().channel.pop_session();
    let mut letters = 0;
    while let Ok(Some(message)) = session.try_pop() {
        letters = letters * 10 + u64::from(message[0] - b'a' + 1);
    }
    letters
}

fn try_push(world: &World) -> u64 {
    outcome(world.belt().channel.try_push(b"some of A"))
}

fn push_many(world: &World) -> u64 {
    outcome(world.belt().channel.push_many(&["a", "b", "c"]))
}

fn pop(world: &World) -> u64 {
    got(world.belt().channel.pop_timeout(BOUND))
}

fn try_pop(world: &World) -> u64 {
    maybe(world.belt().channel.try_pop())
}

/// The letters, a digit each.
fn drain(world: &World) -> u64 {
    let mut letters = 0;
    let _ = world.belt().channel.drain(9, |message| letters = letters * 10 + u64::from(message[0] - b'a' + 1));
    letters
}

fn shut(world: &World) -> u64 {
    outcome(world.belt().channel.close())
}

fn lease(world: &World) -> u64 {
    world.belt().channel.pop_lease_timeout(BOUND).map_or(0, |lease| {
        let got = number(&lease);
        lease.ack().map_or(0, |()| got)
    })
}

/// A has the first message in hand when it begins.
fn leased(world: &World, act: fn(commons::Lease) -> u64) -> Act<'_> {
    world.sit_down();
    let lease = world.belt().channel.pop_lease().expect("arranged");
    Box::new(move || act(lease))
}

fn dropped(lease: commons::Lease) -> u64 {
    drop(lease);
    DONE
}

fn letter(world: &World) -> u64 {
    maybe(world.belt().channel.dead_letters().expect("arranged").try_pop())
}

/// What is left is this; the figures say so, and the ring is whole.
fn left(world: &World, expected: &[&[u8]], returned: u64) -> Verdict {
    let channel = &world.belt().channel;
    let stats = channel.stats().map_err(|e| e.to_string())?;
    let counted = (stats.waiting, stats.leased, stats.returned);
    ensure!(counted == (expected.len() as u64, 0, returned), "{counted:?} are counted, not {expected:?}");
    let taken: Vec<Vec<u8>> = consume(channel, 0)?.into_iter().map(|(message, _)| message).collect();
    ensure!(taken == expected, "{taken:?} is left instead of {expected:?}");
    whole(channel)
}

const A: u64 = 1000 + 256 + b'a' as u64;
const B: u64 = A + 1;
const C: u64 = A + 2;

fn both_pushed(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a == DONE && b == DONE, "outcomes {a} and {b}");
    let a_first = world.belt().channel.peek().map_err(|e| e.to_string())?.as_deref() == Some(b"some of A");
    left(world, if a_first { &[b"some of A", b"B"] } else { &[b"B", b"some of A"] }, 0)
}

fn handed(world: &World, pushed: u64, popped: u64) -> Verdict {
    ensure!(pushed == DONE && popped == number(b"some of A"), "pushed {pushed}, popped {popped}");
    left(world, &[], 0)
}

fn all_or_none(world: &World, pushed: u64, drained: u64) -> Verdict {
    ensure!(pushed == DONE && (drained == 0 || drained == 123), "pushed {pushed}, drained {drained}");
    left(world, if drained == 0 { &[b"a", b"b", b"c"] } else { &[] }, 0)
}

fn room_made(world: &World, pushed: u64, popped: u64) -> Verdict {
    ensure!(pushed == DONE && popped == number(&[b'x'; 56]), "pushed {pushed}, popped {popped}");
    left(world, &[&[b'y'; 56], b"some of A"], 0)
}

fn one_each(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a + b == A + B && (a == A || a == B), "of two messages {a} and {b} were had");
    left(world, &[], 0)
}

fn one_had_it(world: &World, a: u64, b: u64) -> Verdict {
    // Who only tries waits a moment, and not for ever, for one who is stopped in the middle.
    let other = |got: u64| got == NONE || got == TIMEOUT;
    ensure!((a == A && other(b)) || (b == A && other(a)), "of one message {a} and {b} were had");
    left(world, &[], 0)
}

fn drained(world: &World, drained: u64, popped: u64) -> Verdict {
    let right = match popped {
        A => drained == 23,
        B => drained == 13,
        C => drained == 12,
        NONE | TIMEOUT => drained == 123,
        _ => false,
    };
    ensure!(right, "drained {drained}, popped {popped}");
    left(world, &[], 0)
}

fn acked(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a == DONE && b == B, "acknowledged {a}, and the other was {b}");
    left(world, &[], 0)
}

fn given_back(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a == DONE && (b == A || b == B), "given back {a}, popped {b}");
    left(world, if b == A { &[b"b"] } else { &[b"a"] }, 1)
}

fn buried(world: &World, a: u64, letter: u64) -> Verdict {
    ensure!(a == DONE && (letter == A || letter == NONE), "given back {a}, the letter was {letter}");
    let letters = consume(world.belt().channel.dead_letters().ok_or("none")?, 0)?;
    ensure!(letters.len() == usize::from(letter == NONE), "{letter} was had, and {letters:?} is there");
    left(world, &[], 2)
}

fn in_or_closed(world: &World, closed: u64, pushed: u64) -> Verdict {
    ensure!(closed == DONE && (pushed == DONE || pushed == CLOSED), "closed {closed}, pushed {pushed}");
    let taken = consume(&world.belt().channel, 0)?;
    ensure!(taken.len() == usize::from(pushed == DONE), "pushed {pushed}, and {taken:?} is there");
    Ok(())
}

/// Who found nothing is told of what came.
fn told(world: &World, pushed: u64, popped: u64) -> Verdict {
    let (fd, _) = fds(world.belt());
    ensure!(pushed == DONE, "pushed {pushed}");
    if popped == number(b"some of A") {
        return left(world, &[], 0);
    }
    ensure!(popped == NONE || popped == TIMEOUT, "popped {popped}");
    ensure!(popped == TIMEOUT || readable(fd), "something came, and who waits for the eventfd is not told");
    left(world, &[b"some of A"], 0)
}

fn told_of_room(world: &World, pushed: u64, popped: u64) -> Verdict {
    ensure!(popped == number(&[b'x'; 56]), "popped {popped}");
    if pushed == DONE {
        return left(world, &[&[b'y'; 56], b"some of A"], 0);
    }
    ensure!(pushed == FULL, "pushed {pushed}");
    ensure!(readable(fds(world.belt()).1), "there is room, and who waits for the eventfd is not told");
    left(world, &[&[b'y'; 56]], 0)
}
