//! Channel, leases: what the dead had in hand comes back once, with an attempt more, or goes to the dead letters; and recovery itself, which dies as
//! well.

use commons::Lease;

use crate::belt::{
    Belt, DONE, Plan, dead_leases, die, dies, got, have, helper_leases, letters_fit, maybe, number, outcome, turn, worn,
};
use crate::belt_state::How;
use crate::op::Op;

pub fn all() -> Vec<Op> {
    [leases(), ends(), returns(), after_deaths()].into_iter().flatten().map(Plan::op).collect()
}

/// Leases the first and keeps it.
fn lease(belt: &Belt, leases: Vec<Lease>) -> u64 {
    leases.into_iter().for_each(std::mem::forget);
    belt.channel.pop_lease().map_or(0, |lease| {
        let got = number(&lease);
        std::mem::forget(lease);
        got
    })
}

/// The same, and looks closely at those who have the others.
fn lease_at_once(belt: &Belt, _: Vec<Lease>) -> u64 {
    let lease = belt.channel.try_pop_lease().ok().flatten();
    lease.map_or(0, |lease| {
        let got = number(&lease);
        std::mem::forget(lease);
        got
    })
}

fn ack(_: &Belt, mut leases: Vec<Lease>) -> u64 {
    let last = leases.pop().expect("arranged");
    leases.into_iter().for_each(std::mem::forget);
    outcome(last.ack())
}

fn give_back(_: &Belt, mut leases: Vec<Lease>) -> u64 {
    drop(leases.pop());
    leases.into_iter().for_each(std::mem::forget);
    DONE
}

fn leases() -> Vec<Plan> {
    vec![
        Plan::new("channel_lease_first", number(b"a"), lease)
            .arrange(|w| have(w, &["a", "some bytes"]))
            .then(|s| s.lease(How::Child)),
        Plan::new("channel_lease_second", number(b"b"), lease)
            .arrange(|w| {
                turn(w, 13);
                have(w, &["a", "b", "some bytes"]);
                helper_leases(w);
            })
            .then(|s| s.lease(How::Child)),
        Plan::new("channel_lease_one_more", number(b"b"), lease)
            .holding(1)
            .arrange(|w| have(w, &["a", "b"]))
            .then(|s| s.lease(How::Child)),
        // Done with, and the floor waits for the lease before it.
        Plan::new("channel_pop_behind_lease", number(b"some bytes"), |b, _| got(b.channel.pop()))
            .arrange(|w| {
                have(w, &["a", "some bytes", "c"]);
                helper_leases(w);
            })
            .then(|s| s.take()),
        Plan::new("channel_drain_behind_lease", 2, |b, _| b.channel.drain(9, |_| ()).map_or(0, |n| n as u64))
            .arrange(|w| {
                have(w, &["a", "b", "c"]);
                helper_leases(w);
            })
            .then(|s| s.take())
            .then(|s| s.take()),
    ]
}

fn ends() -> Vec<Plan> {
    let worn_out: fn(commons::ChannelBuilder) -> commons::ChannelBuilder = |b| b.max_attempts(2);
    vec![
        Plan::new("channel_ack", DONE, ack).holding(1).arrange(|w| have(w, &["a"])).then(|s| s.done(0)),
        Plan::new("channel_ack_second", DONE, ack)
            .holding(2)
            .arrange(|w| have(w, &["a", "b", "c"]))
            .then(|s| s.done(1)),
        // The floor moves over what was popped behind it as well.
        Plan::new("channel_ack_before_done", DONE, ack)
            .holding(1)
            .arrange(|w| {
                turn(w, 14);
                have(w, &["a", "b", "c"]);
                drop_behind(w);
            })
            .then(|s| s.done(0)),
        // What was certainly not ready is less by what the floor has moved over.
        Plan::new("channel_ack_before_lease", DONE, |b, leases| {
            let peeked = b.channel.peek().is_ok_and(|message| message.as_deref() == Some(b"c"));
            if peeked { ack(b, leases) } else { 0 }
        })
        .holding(1)
        .arrange(|w| {
            have(w, &["a", "b", "c"]);
            let first = w.belt().channel.pop_lease().expect("one");
            w.belt.as_mut().expect("set up").states[0].lease(How::Child);
            helper_leases(w);
            drop(first);
            w.belt.as_mut().expect("set up").states[0].give_back(0);
        })
        .then(|s| s.done(0)),
        Plan::new("channel_lease_drop", DONE, give_back)
            .holding(1)
            .arrange(|w| have(w, &["a", "b"]))
            .then(|s| s.give_back(0)),
        Plan::new("channel_lease_drop_before_done", DONE, give_back)
            .holding(1)
            .arrange(|w| {
                have(w, &["a", "b", "c"]);
                drop_behind(w);
            })
            .then(|s| s.give_back(0)),
        // Its own thread has the lock: to the others it is as if that had died.
        Plan::new("channel_lease_drop_inside", DONE, |b, leases| outcome(b.channel.pop_with(|_| drop(leases))))
            .holding(1)
            .arrange(|w| have(w, &["a", "b"]))
            .then(|s| s.line[0].how = How::Dead)
            .then(|s| s.take()),
        Plan::new("channel_lease_drop_worn", DONE, give_back)
            .holding(1)
            .shape(worn_out)
            .arrange(|w| {
                turn(w, 14);
                have(w, &["a letter", "b"]);
                worn(w);
            })
            .then(|s| s.give_back(0)),
        Plan::new("channel_lease_drop_letters_full", DONE, give_back)
            .holding(1)
            .shape(worn_out)
            .arrange(|w| {
                for _ in 0..2 {
                    have(w, &[&"x".repeat(56)]);
                    worn(w);
                    let belt = w.belt.as_mut().expect("set up");
                    drop(belt.channel.pop_lease().expect("one"));
                    belt.states[0].give_back(0);
                    belt.states[0] = belt.states[0].clone().reclaimed();
                }
                have(w, &["a letter", "b"]);
                worn(w);
                letters_fit(w, 2);
            })
            .then(|s| s.give_back(0)),
    ]
}

/// The child that is to come has leased the first; this takes the next, as if behind it.
fn drop_behind(world: &mut crate::world::World) {
    // The traced child leases what is ready first when it begins; so the one behind has to be taken while somebody else has that.
    let belt = world.belt.as_mut().expect("set up");
    let first = belt.channel.pop_lease().expect("one");
    belt.channel.pop().expect("another");
    drop(first);
    belt.states[0].returned += 1;
    belt.states[0].line[0].attempts += 1;
    belt.states[0].done(1);
}

/// What the dead have in hand is taken back by the one who comes by.
fn returns() -> Vec<Plan> {
    vec![
        Plan::new("channel_pop_takes_back", number(b"a"), |b, _| maybe(b.channel.try_pop()))
            .arrange(|w| {
                have(w, &["a"]);
                dead_leases(w);
            })
            .then(|s| s.give_back(0))
            .then(|s| s.take()),
        Plan::new("channel_lease_takes_back_second", number(b"b"), lease_at_once)
            .arrange(|w| {
                have(w, &["a", "b"]);
                helper_leases(w);
                dead_leases(w);
            })
            .then(|s| s.give_back(1))
            .then(|s| s.line[1].how = How::Child),
        Plan::new("channel_peek_buries_letter", crate::belt::NONE, |b, _| maybe(b.channel.peek()))
            .shape(|b| b.max_attempts(2))
            .arrange(|w| {
                turn(w, 14);
                have(w, &["a letter"]);
                worn(w);
                dead_leases(w);
            })
            .then(|s| s.give_back(0)),
    ]
}

/// Recovery as the operation: somebody has died in the middle, and is a zombie that nobody has reaped.
fn after_deaths() -> Vec<Plan> {
    vec![
        Plan::new("channel_pop_after_death", number(b"a"), |b, _| got(b.channel.pop()))
            .arrange(|w| {
                have(w, &["a", "b"]);
                dies(w, |b| _ = b.channel.pop_with(|_| die()));
            })
            .then(|s| s.take()),
        Plan::new("channel_push_after_death", DONE, |b, _| outcome(b.channel.push(b"z")))
            .arrange(|w| {
                have(w, &["a", "b"]);
                dies(w, |b| _ = b.channel.drain(9, |_| die()));
            })
            .then(|s| s.push("z")),
        Plan::new("channel_stats_after_death", 1, |b, _| b.channel.stats().map_or(0, |stats| stats.leased)).arrange(
            move |w| {
                have(w, &["a", "b", "c"]);
                helper_leases(w);
                let belt = w.belt.as_mut().expect("set up");
                belt.channel.pop().expect("b");
                belt.states[0].done(1);
                dies(w, |b| _ = b.channel.pop_with(|_| die()));
            },
        ),
    ]
}
