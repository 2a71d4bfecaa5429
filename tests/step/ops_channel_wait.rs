//! Channel, those who wait: a sleeper is woken, who waits for an eventfd is told, by the one who had to or by whoever comes after its death.

use crate::belt::{DONE, NONE, Plan, RING, Sleeper, got, have, maybe, number, outcome};
use crate::op::Op;
use crate::world::{MS, World};

pub fn all() -> Vec<Op> {
    [sleepers(), eventfds()].into_iter().flatten().map(Plan::op).collect()
}

fn full(world: &mut World) {
    have(world, &["three words, four", "three words, five", "three words, six.", "three words, now."]);
}

fn sleepers() -> Vec<Plan> {
    vec![
        Plan::new("channel_push_wakes", DONE, |b, _| outcome(b.channel.push(b"some bytes")))
            .sleeper(Sleeper::Pops)
            .then(|s| s.push("some bytes")),
        Plan::new("channel_push_many_wakes", DONE, |b, _| outcome(b.channel.push_many(&["a", "b"])))
            .sleeper(Sleeper::Pops)
            .then(|s| ["a", "b"].iter().for_each(|message| s.push(message))),
        Plan::new("channel_pop_wakes", number(b"three words, four"), |b, _| got(b.channel.pop()))
            .sleeper(Sleeper::Pushes)
            .arrange(full)
            .then(|s| s.done(0)),
        Plan::new("channel_close_wakes", DONE, |b, _| outcome(b.channel.close()))
            .sleeper(Sleeper::Pops)
            .then(|s| s.closed = true),
        Plan::new("channel_lease_drop_wakes", DONE, |_, leases| {
            drop(leases);
            DONE
        })
        .holding(1)
        .arrange(|w| have(w, &["a"]))
        .sleeper(Sleeper::Pops)
        .then(|s| s.give_back(0)),
    ]
}

fn eventfds() -> Vec<Plan> {
    vec![
        Plan::new("channel_push_armed", DONE, |b, _| outcome(b.channel.push(b"some bytes")))
            .watched()
            .then(|s| s.push("some bytes")),
        Plan::new("channel_push_watched", DONE, |b, _| {
            let first = outcome(b.channel.push(b"a"));
            first.min(outcome(b.channel.push(b"b")))
        })
        .watched()
        .then(|s| s.push("a"))
        .then(|s| s.push("b")),
        Plan::new("channel_pop_armed", number(b"three words, four"), |b, _| got(b.channel.pop()))
            .watched()
            .arrange(full)
            .then(|s| s.done(0)),
        Plan::new("channel_close_armed", DONE, |b, _| outcome(b.channel.close())).watched().then(|s| s.closed = true),
        Plan::new("channel_lease_drop_armed", DONE, |_, leases| {
            drop(leases);
            DONE
        })
        .holding(1)
        .watched()
        .arrange(|w| have(w, &["a"]))
        .then(|s| s.give_back(0)),
        Plan::new("channel_arm", NONE, |b, _| maybe(b.channel.try_pop())).watched(),
        Plan::new("channel_arm_for_room", crate::belt::FULL, |b, _| outcome(b.channel.try_push(&[0; RING * 8 - 8])))
            .watched()
            .arrange(full),
        Plan::new("channel_watch", NONE, |b, _| {
            let _notifier = b.channel.notifier();
            maybe(b.channel.try_pop())
        }),
        Plan::new("channel_select", 1, |b, _| u64::from(commons::Channel::select(&[&b.channel], Some(MS)).is_err())),
    ]
}
