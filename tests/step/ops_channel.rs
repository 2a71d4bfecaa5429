//! Channel, both ends: a message is there wholly or not at all, in order, once; what was taken is gone or still there.

use commons::Error;

use crate::belt::{
    CLOSED, DONE, FULL, NONE, Plan, RING, TIMEOUT, TOO_LONG, close, comes_to_its_end, got, have, maybe, number,
    outcome, pop, refused, turn,
};
use crate::belt_state::How;
use crate::op::Op;
use crate::world::MS;

pub fn all() -> Vec<Op> {
    [pushes(), pops(), ends()].into_iter().flatten().map(Plan::op).collect()
}

/// Three words with its head.
const SOME: &str = "some bytes";

fn pushes() -> Vec<Plan> {
    let some: fn(&crate::belt::Belt, Vec<commons::Lease>) -> u64 = |b, _| outcome(b.channel.push(SOME.as_bytes()));
    let whole = || Plan::new("channel_push_last_byte", DONE, |b, _| outcome(b.channel.try_push(&[7; 80])));
    vec![
        Plan::new("channel_push_first_use", DONE, some).unseated().then(|s| s.push(SOME)),
        // The head in the last word, the bytes behind the end.
        Plan::new("channel_push_at_the_end", DONE, some).arrange(|w| turn(w, RING - 1)).then(|s| s.push(SOME)),
        // The bytes in two pieces.
        Plan::new("channel_push_round_the_end", DONE, some).arrange(|w| turn(w, RING - 2)).then(|s| s.push(SOME)),
        // What it remembers of the floor is used up, and there is just room.
        whole()
            .arrange(|w| {
                turn(w, 9);
                have(w, &["a", "b"]);
                pop(w);
                have(w, &["yyyyyyyyy"]);
            })
            .then(|s| s.push([7; 80])),
        Plan::new("channel_push_empty_message", DONE, |b, _| outcome(b.channel.try_push(b"")))
            .arrange(|w| have(w, &[&"x".repeat(56), &"y".repeat(48)]))
            .then(|s| s.push("")),
        Plan::new("channel_session_push", DONE, |b, _| {
            let mut session = b.channel.push_session();
            let first = outcome(session.push(b"a"));
            first.max(outcome(session.push(SOME.as_bytes())))
        })
        .arrange(|w| turn(w, RING - 3))
        .then(|s| s.push("a"))
        .then(|s| s.push(SOME)),
        Plan::new("channel_push_too_long", TOO_LONG, |b, _| outcome(b.channel.push(&[7; RING * 8 - 7]))),
        Plan::new("channel_push_full", FULL, |b, _| outcome(b.channel.try_push(b"")))
            .arrange(|w| have(w, &["a", &"x".repeat(48), &"y".repeat(48)])),
        Plan::new("channel_push_timeout", TIMEOUT, |b, _| outcome(b.channel.push_timeout(&[7; 80], MS)))
            .arrange(|w| have(w, &["a", &"x".repeat(32)])),
        Plan::new("channel_push_many_round_the_end", DONE, |b, _| outcome(b.channel.push_many(&["a", SOME, "", "z"])))
            .arrange(|w| {
                turn(w, RING - 3);
                have(w, &["q"]);
            })
            .then(|s| ["a", SOME, "", "z"].iter().for_each(|message| s.push(message))),
        Plan::new("channel_push_many_too_long", TOO_LONG, |b, _| outcome(b.channel.push_many(&[[7; 64], [8; 64]])))
            .arrange(|w| have(w, &["a"])),
    ]
}

fn pops() -> Vec<Plan> {
    vec![
        Plan::new("channel_pop_first", number(b"a"), |b, _| got(b.channel.pop()))
            .arrange(|w| have(w, &["a", SOME]))
            .then(|s| s.take()),
        Plan::new("channel_pop_last", number(SOME.as_bytes()), |b, _| got(b.channel.pop()))
            .arrange(|w| have(w, &[SOME]))
            .then(|s| s.take()),
        Plan::new("channel_pop_round_the_end", number(SOME.as_bytes()), |b, _| maybe(b.channel.try_pop()))
            .arrange(|w| {
                turn(w, RING - 2);
                have(w, &[SOME, "z"]);
            })
            .then(|s| s.take()),
        Plan::new("channel_pop_of_full", number(&[b'x'; 56]), |b, _| got(b.channel.pop()))
            .arrange(|w| {
                turn(w, RING - 1);
                have(w, &[&"x".repeat(56), &"y".repeat(56)]);
            })
            .then(|s| s.take()),
        Plan::new("channel_session_pop", NONE, |b, _| {
            let mut session = b.channel.pop_session();
            let both = session.pop().is_ok_and(|m| m == b"a") && session.pop().is_ok_and(|m| m == b"b");
            if both { maybe(session.try_pop()) } else { FULL }
        })
        .arrange(|w| {
            turn(w, RING - 3);
            have(w, &["a", "b"]);
        })
        .then(|s| s.take())
        .then(|s| s.take()),
        Plan::new("channel_pop_empty", NONE, |b, _| maybe(b.channel.try_pop())).arrange(|w| turn(w, 5)),
        Plan::new("channel_pop_timeout", TIMEOUT, |b, _| got(b.channel.pop_timeout(MS))).arrange(|w| turn(w, 5)),
        Plan::new("channel_pop_with", 10, |b, _| {
            let len = b.channel.pop_with(|m| {
                comes_to_its_end();
                m.len() as u64
            });
            len.unwrap_or(0)
        })
        .inside()
        .arrange(|w| have(w, &[SOME, "z"]))
        .then(|s| s.take()),
        Plan::new("channel_drain_all", 3, |b, _| {
            let last = |m: &[u8]| {
                if m == b"z" {
                    comes_to_its_end();
                }
            };
            b.channel.drain(9, last).map_or(0, |n| n as u64)
        })
        .inside()
        .arrange(|w| {
            turn(w, RING - 3);
            have(w, &["a", SOME, "z"]);
        })
        .then(|s| (0..3).for_each(|n| s.done(n))),
        Plan::new("channel_drain_two", 2, |b, _| b.channel.drain(2, |_| ()).map_or(0, |n| n as u64))
            .arrange(|w| have(w, &["a", SOME, "z"]))
            .then(|s| (0..2).for_each(|n| s.done(n))),
        Plan::new("channel_peek", number(b"a"), |b, _| maybe(b.channel.peek())).arrange(|w| have(w, &["a", SOME])),
        Plan::new("channel_stats", 2, |b, _| b.channel.stats().map_or(0, |stats| stats.waiting))
            .arrange(|w| have(w, &["a", SOME])),
    ]
}

fn ends() -> Vec<Plan> {
    vec![
        Plan::new("channel_close", DONE, |b, _| outcome(b.channel.close()))
            .arrange(|w| have(w, &["a"]))
            .then(|s| s.closed = true),
        Plan::new("channel_push_closed", CLOSED, |b, _| outcome(b.channel.push(b"z"))).arrange(|w| {
            have(w, &["a"]);
            close(w);
        }),
        Plan::new("channel_pop_closed", number(b"a"), |b, _| got(b.channel.pop()))
            .arrange(|w| {
                have(w, &["a"]);
                close(w);
            })
            .then(|s| s.done(0)),
        Plan::new("channel_drain_closed", CLOSED, |b, _| {
            b.channel.drain(9, |_| ()).map_or_else(|e: Error| refused(&e), |_| How::Done as u64)
        })
        .arrange(close),
    ]
}
