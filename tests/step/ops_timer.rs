//! Timer: what is made is there wholly or not at all, what is cleared or fires has gone wholly or not at all; the heap and all else follow.

use crate::clockwork::{Clockwork, FULL, MADE, Plan, State, made, ms};
use crate::op::Op;

pub fn all() -> Vec<Op> {
    [adds(), clears(), fires(), after_deaths(), readers()].into_iter().flatten().map(Plan::op).collect()
}

/// Built anew from the end, they are in the wrong order at first.
fn two(work: &Clockwork) {
    work.have(&[10, 30]);
}

/// Three levels.
fn many(work: &Clockwork) {
    work.have(&[25, 11, 32, 17, 29, 14]);
}

fn gone(state: &mut State, payload: u64) {
    let before = state.len();
    state.retain(|seen| seen.0 != payload);
    assert_eq!(state.len() + 1, before, "{payload} was not there");
}

fn add_5(work: &Clockwork) -> u64 {
    made(work.now.after(ms(5), 5))
}

fn adds() -> Vec<Plan> {
    let five_comes: fn(&mut State) = |state| assert!(state.insert((5, 5, 0, 0)));
    vec![
        Plan::new("timer_add_first", MADE, add_5).then(five_comes),
        Plan::new("timer_add_new_root", MADE, add_5).room(3).arrange(two).then(five_comes),
        Plan::new("timer_add_deep_root", MADE, add_5)
            .room(6)
            .arrange(|w| w.have(&[25, 11, 32, 17, 29]))
            .then(five_comes),
        Plan::new("timer_add_equal", MADE, |w| made(w.now.after(ms(10), 5)))
            .room(4)
            .arrange(|w| (1..4).for_each(|n| _ = w.now.after(ms(10), 10 + n).expect("room")))
            .then(|state| assert!(state.insert((5, 10, 0, 0)))),
        Plan::new("timer_add_reused_entry", MADE, |w| made(w.now.after(ms(15), 15)))
            .arrange(|w| {
                w.have(&[30]);
                // What stood in the entry that is used again must not shine through.
                let old = w.now.tick(ms(7), 1).expect("room");
                w.have(&[20]);
                assert_eq!(w.expire(8), 1);
                assert!(w.now.clear(old).expect("a seat"));
            })
            .then(|state| assert!(state.insert((15, 15, 0, 0))))
            .brings(),
        Plan::new("timer_add_full", FULL, add_5).room(1).arrange(|w| w.have(&[10])),
        Plan::new("timer_add_wakes", MADE, add_5)
            .arrange(|w| {
                w.have(&[50]);
                // Somebody has slept, and left his bit.
                assert_eq!(w.now.run_for(ms(1), |_, _| ()).expect("a seat"), 0);
            })
            .then(five_comes),
        Plan::new("timer_add_tick", MADE, |w| made(w.now.tick(ms(5), 5)))
            .arrange(|w| {
                w.have(&[30]);
                let old = w.now.tick(ms(7), 1).expect("room");
                assert_eq!((w.expire(8), w.expire(20)), (1, 1));
                assert!(w.now.clear(old).expect("a seat"));
            })
            .then(|state| assert!(state.insert((5, 5, 5, 0)))),
    ]
}

fn clear(work: &Clockwork, payload: u64) -> u64 {
    work.now.clear(work.id(payload)).map_or(9, u64::from)
}

fn clears() -> Vec<Plan> {
    vec![
        Plan::new("timer_clear_root", 1, |w| clear(w, 10)).arrange(two).then(|state| gone(state, 10)),
        Plan::new("timer_clear_last", 1, |w| clear(w, 30)).arrange(two).then(|state| gone(state, 30)).brings(),
        Plan::new("timer_clear_middle", 1, |w| clear(w, 14)).room(7).arrange(many).then(|state| gone(state, 14)),
        Plan::new("timer_clear_tick", 1, |w| clear(w, 7))
            .arrange(|w| {
                w.have(&[30, 10]);
                w.now.tick(ms(7), 7).expect("room");
                assert_eq!(w.expire(8), 7);
            })
            .then(|state| gone(state, 7)),
        Plan::new("timer_clear_gone", 0, |w| {
            let id = w.ids[0].1;
            let first = w.now.clear(id).map_or(9, u64::from);
            w.now.clear(id).map_or(9, u64::from) + first - 1
        })
        .arrange(|w| w.have(&[10]))
        .then(|state| gone(state, 10)),
        Plan::new("timer_clear_all", 2, |w| w.now.clear_all().map_or(9, |n| n as u64))
            .arrange(two)
            .then(|state| gone(state, 10))
            .then(|state| gone(state, 30)),
    ]
}

fn fires() -> Vec<Plan> {
    vec![
        Plan::new("timer_expire_none", 0, |w| w.expire(9)).arrange(two),
        Plan::new("timer_expire_one", 10, |w| w.expire(10)).arrange(two).then(|state| gone(state, 10)),
        Plan::new("timer_expire_equal", 1112, |w| w.expire(12))
            .arrange(|w| {
                [(11, 10), (12, 10)].iter().for_each(|(n, due)| _ = w.now.after(ms(*due), *n).expect("room"));
            })
            .then(|state| gone(state, 11))
            .then(|state| gone(state, 12)),
        Plan::new("timer_expire_tick", 7, |w| w.expire(25))
            .arrange(|w| {
                w.have(&[26]);
                w.now.tick(ms(7), 7).expect("room");
            })
            // It was to fire three times.
            .then(|state| {
                gone(state, 7);
                state.insert((7, 28, 7, 1));
            }),
        Plan::new("timer_expire_tick_again", 7, |w| w.expire(28))
            .arrange(|w| {
                w.have(&[30]);
                w.now.tick(ms(7), 7).expect("room");
                assert_eq!(w.expire(25), 7);
            })
            .then(|state| {
                gone(state, 7);
                state.insert((7, 35, 7, 2));
            }),
    ]
}

/// Whose lock comes from a dead one: all that follows from the entries is built anew first, and may be again.
fn after_deaths() -> Vec<Plan> {
    let mixed: fn(&Clockwork) = |w| {
        w.now.tick(ms(7), 7).expect("room");
        w.have(&[30, 10]);
        assert_eq!((w.expire(8), w.expire(10)), (7, 10));
    };
    vec![
        Plan::new("timer_rebuild", 2, |w| w.now.stats().map_or(9, |stats| stats.live as u64)).arrange(mixed).dirty(),
        Plan::new("timer_rebuild_add", MADE, add_5)
            .arrange(mixed)
            .dirty()
            .then(|state| assert!(state.insert((5, 5, 0, 0)))),
        Plan::new("timer_rebuild_expire", 7, |w| w.expire(15)).arrange(mixed).dirty().then(|state| {
            gone(state, 7);
            state.insert((7, 21, 7, 2));
        }),
    ]
}

/// Whose death changes nothing.
fn readers() -> Vec<Plan> {
    vec![
        Plan::new("timer_list", 2, |w| w.now.list().len() as u64).unseated().arrange(two),
        Plan::new("timer_info", 10, |w| w.now.info(w.id(10)).map_or(0, |info| info.payload)).arrange(two),
        Plan::new("timer_next_due", 10, |w| w.now.next_due().map_or(0, |due| due.as_millis() as u64)).arrange(two),
    ]
}
