//! Waiting and waking at a number: no permit is lost, none comes from nowhere, and the dead are not counted.

use commons::{Atomic, AtomicLong};

use crate::checker::Death;
use crate::kit::{Check, ensure, report, within};
use crate::num::{Num, drain, raw_permits, usable};
use crate::op::Op;
use crate::ops_atomic::value;
use crate::world::{MS, World, noted_asleep};

pub fn all() -> Vec<Op> {
    [room::<Atomic>(), room::<AtomicLong>()].concat()
}

fn room<T: Num>() -> Vec<Op> {
    let name = |op: &str| format!("{}_{op}", T::NAME);
    let enter: fn(&World) = |w| _ = T::of(w).wakeup(0);
    let waits: fn(&World) = |w| _ = T::of(w).wait(Some(std::time::Duration::ZERO));
    let wakes: fn(&World) = |w| _ = T::of(w).wakeup(1);
    vec![
        Op::new(name("wait_ready"), |w| Box::new(move || report(T::of(w).wait(None).into())), value::<T, 1, 0>)
            .arrange(|w| T::of(w).set(1))
            .rescue(enter)
            .last(1),
        Op::new(
            name("wait_timeout"),
            |w| {
                w.sit_down();
                Box::new(move || wait(T::of(w)))
            },
            timed_out::<T>,
        )
        .rescue(waits),
        Op::new(name("wait_first_use"), |w| Box::new(move || wait(T::of(w))), timed_out::<T>).rescue(enter),
        Op::new(
            name("wait_leftover"),
            |w| {
                w.sit_down();
                Box::new(move || wait_long(T::of(w)))
            },
            leftover::<T>,
        )
        .arrange(leave_a_permit::<T>)
        .rescue(waits)
        .last(1),
        Op::new(
            name("wait_granted"),
            |w| {
                w.sit_down();
                Box::new(move || wait_long(T::of(w)))
            },
            leftover::<T>,
        )
        .arrange(sleepers::<T, 1>)
        .meanwhile(wake_and_slay::<T>)
        .rescue(enter)
        .last(1),
        Op::new(
            name("wakeup_nobody"),
            |w| {
                w.sit_down();
                Box::new(move || wake(T::of(w), 1))
            },
            value::<T, 0, 1>,
        )
        .rescue(enter)
        .last(1),
        Op::new(
            name("wakeup_positive"),
            |w| {
                w.sit_down();
                Box::new(move || wake(T::of(w), 1))
            },
            value::<T, 3, 3>,
        )
        .arrange(|w| T::of(w).set(3))
        .rescue(enter),
        Op::new(
            name("wakeup_sleeper"),
            |w| {
                w.sit_down();
                Box::new(move || wake(T::of(w), 1))
            },
            woken::<T, 1, 1>,
        )
        .arrange(sleepers::<T, 1>)
        .rescue(wakes)
        .last(1),
        Op::new(
            name("wakeup_two"),
            |w| {
                w.sit_down();
                Box::new(move || wake(T::of(w), 2))
            },
            woken::<T, 2, 2>,
        )
        .arrange(sleepers::<T, 2>)
        .rescue(enter)
        .last(2),
        Op::new(
            name("wakeup_one_of_two"),
            |w| {
                w.sit_down();
                Box::new(move || wake(T::of(w), 1))
            },
            woken::<T, 2, 1>,
        )
        .arrange(sleepers::<T, 2>)
        .rescue(enter)
        .last(1),
        Op::new(name("wakeup_first_use"), |w| Box::new(move || wake(T::of(w), 1)), woken::<T, 1, 1>)
            .arrange(sleepers::<T, 1>)
            .rescue(enter)
            .last(1),
        Op::new(
            name("wait_while_equal"),
            |w| Box::new(move || report(T::of(w).wait_while(5, Some(MS)).into())),
            value::<T, 5, 5>,
        )
        .arrange(|w| T::of(w).set(5)),
        Op::new(
            name("wait_while_different"),
            |w| Box::new(move || report(T::of(w).wait_while(4, None).into())),
            value::<T, 5, 5>,
        )
        .arrange(|w| T::of(w).set(5)),
        Op::new(name("notify_nobody"), |w| Box::new(move || report(T::of(w).notify(1) as u64)), value::<T, 5, 5>)
            .arrange(|w| T::of(w).set(5)),
        Op::new(name("notify_gone"), |w| Box::new(move || report(T::of(w).notify(1) as u64)), value::<T, 5, 5>)
            .arrange(|w| {
                T::of(w).set(5);
                // Left by one who gave up.
                w.set_word(T::AT + 16, w.word(T::AT + 16) | 1);
            }),
        Op::new(name("notify_sleeper"), |w| Box::new(move || report(T::of(w).notify(1) as u64)), notified::<T>)
            .arrange(|w| {
                T::of(w).set(5);
                w.sleeper(|w| T::of(w).wait_while(5, None).into(), |w, _| w.word(T::AT + 16) & 1 == 1);
                T::of(w).set(6);
            }),
    ]
}

fn wait<T: Num>(n: &T) {
    report(n.wait(Some(MS)).into());
}

fn wait_long<T: Num>(n: &T) {
    report(n.wait(Some(crate::checker::SOON)).into());
}

fn wake<T: Num>(n: &T, count: usize) {
    report(n.wakeup(count) as u64);
}

fn sleepers<T: Num, const N: usize>(world: &mut World) {
    for _ in 0..N {
        world.sleeper(|w| T::of(w).wait(None).into(), noted_asleep);
    }
}

/// A permit was granted to a sleeper that died before it ran.
fn leave_a_permit<T: Num>(world: &mut World) {
    let frozen = std::mem::replace(&mut world.frozen, true);
    let sleeper = world.sleeper(|w| T::of(w).wait(None).into(), noted_asleep);
    assert_eq!(T::of(world).wakeup(1), 1);
    let pid = world.slay(sleeper, true);
    commons::recover(pid as u32).expect("gone");
    world.corpses.clear();
    assert_eq!(raw_permits::<T>(world), 1);
    world.frozen = frozen;
}

/// The same, but nobody knows yet that it died: who looks has to find out. The sleeper is stopped, so it takes no permit.
fn wake_and_slay<T: Num>(world: &mut World) {
    crate::kit::kill(world.helpers[0].pid, libc::SIGSTOP);
    within(1000, || crate::kit::process_state(world.helpers[0].pid) == Some(b'T'));
    assert_eq!(T::of(world).wakeup(1), 1);
    world.slay(0, true);
}

/// It slept, and its time ran out: nothing is left of it.
fn timed_out<T: Num>(world: &World, death: &Death) -> Check {
    let n = T::of(world);
    ensure!(n.get() == 0 && raw_permits::<T>(world) == 0, "a wait that got nothing changed the value to {}", n.get());
    death.recover(world)?;
    usable::<T>(world, death)?;
    Ok(0)
}

/// One permit was there: it still is, or the dead one has taken it.
fn leftover<T: Num>(world: &World, death: &Death) -> Check {
    death.recover(world)?;
    let total = T::of(world).get() as u64 + drain::<T>(world);
    ensure!(total <= 1, "of one permit {total} are there");
    ensure!(!death.done || total == 0, "the permit that was taken is there again");
    ensure!(crate::kit::control().result(crate::kit::CHILD) != Some(0), "a permit was there, and wait returned false");
    usable::<T>(world, death)?;
    Ok(1 - total)
}

/// `S` sleep, the dead one was to wake `N` of them. Each sleeper gets exactly one permit, by whomever.
fn woken<T: Num, const S: u64, const N: u64>(world: &World, death: &Death) -> Check {
    if death.real() {
        return woken_really::<T, S>(world, death);
    }
    let n = T::of(world);
    let granted = raw_permits::<T>(world);
    ensure!(granted == 0 || granted == N || !death.first(), "{granted} permits for {N} of {S} sleepers");
    ensure!(!death.done || granted >= N, "it returned, and {granted} permits are there");
    death.recover(world)?;
    let ours = n.wakeup(9) as u64;
    ensure!(ours + granted == S, "{granted} had a permit, {ours} more got one, of {S} sleepers");
    ensure!(
        n.wakeup(9) == 0 && n.get() == 0,
        "who has a permit is granted another, or the value was raised: {}",
        n.get()
    );
    // The sleepers die as well: their permits are for whoever comes.
    for helper in &world.helpers {
        death.also(helper.pid);
    }
    let total = drain::<T>(world);
    ensure!(total == S, "of {S} permits {total} are there");
    usable::<T>(world, death)?;
    Ok(granted)
}

fn woken_really<T: Num, const S: u64>(world: &World, death: &Death) -> Check {
    let n = T::of(world);
    let ours = n.wakeup(9) as u64;
    ensure!(ours <= S, "{ours} permits were granted to {S} sleepers");
    let all = within(1500, || world.helpers.iter().all(|helper| helper.result() == Some(1)));
    ensure!(all, "a sleeper with a permit sleeps on ({ours} granted by the checker)");
    let (value, total) = (n.get() as u64, drain::<T>(world));
    // With all of them gone already, our wakeup met nobody and may have made 0 a 1.
    ensure!(value <= 1 && total == value, "{total} permits are left over, the value was {value}");
    ensure!(value == 0 || ours == 0, "a sleeper was woken and the value raised as well");
    usable::<T>(world, death)?;
    Ok(0)
}

fn notified<T: Num>(world: &World, death: &Death) -> Check {
    let n = T::of(world);
    ensure!(n.get() == 6, "notify changed the value to {}", n.get());
    if death.real() {
        let woken = within(1500, || world.helpers.iter().all(|helper| helper.result() == Some(1)));
        ensure!(woken, "a sleeper whose value has changed sleeps on");
    }
    death.recover(world)?;
    usable::<T>(world, death)?;
    Ok(0)
}
