//! Lock: whoever dies holding it hands it on, and the next one is told; who lives keeps it.

use commons::{Error, Lock, LockGuard};

use crate::checker::{Death, SOON};
use crate::image::RawSlot;
use crate::kit::{Check, ensure, report, within};
use crate::op::{Act, Op};
use crate::world::{DIRTY, LOCK, MS, OWNER, World};

pub fn all() -> Vec<Op> {
    let ops = vec![
        Op::new("lock_first_use", |w| Box::new(move || hold(w.lock.lock())), free).last(1),
        Op::new(
            "lock_uncontended",
            |w| {
                w.sit_down();
                Box::new(move || hold(w.lock.lock()))
            },
            free,
        )
        .last(1),
        Op::new("unlock", |w| release(w), free).last(2),
        Op::new(
            "lock_unlock",
            |w| {
                w.sit_down();
                Box::new(move || pass(w.lock.lock()))
            },
            free,
        )
        .last(2),
        Op::new(
            "try_lock_free",
            |w| {
                w.sit_down();
                Box::new(move || hold(w.lock.try_lock().map(Option::unwrap)))
            },
            free,
        )
        .last(1),
        Op::new(
            "try_lock_held",
            |w| {
                w.sit_down();
                Box::new(move || try_held(w))
            },
            held,
        )
        .arrange(holder),
        Op::new(
            "lock_timeout_held",
            |w| {
                w.sit_down();
                Box::new(move || timeout(w))
            },
            held,
        )
        .arrange(holder),
        Op::new("relock", |w| relock(w), free).last(1),
        Op::new(
            "lock_takeover",
            |w| {
                w.sit_down();
                Box::new(move || hold(w.lock.lock()))
            },
            free,
        )
        .arrange(holder)
        .meanwhile(|w| _ = w.slay(0, true)),
        Op::new(
            "lock_takeover_zombie",
            |w| {
                w.sit_down();
                Box::new(move || hold(w.lock.lock()))
            },
            free,
        )
        .arrange(holder)
        .meanwhile(|w| _ = w.slay(0, false)),
        Op::new(
            "try_lock_takeover",
            |w| {
                w.sit_down();
                Box::new(move || hold(w.lock.try_lock().map(Option::unwrap)))
            },
            free,
        )
        .arrange(holder)
        .meanwhile(|w| _ = w.slay(0, true)),
        Op::new(
            "lock_takeover_marked",
            |w| {
                w.sit_down();
                Box::new(move || hold(w.lock.lock()))
            },
            free,
        )
        .arrange(holder)
        .meanwhile(die_marked),
        Op::new(
            "lock_dirty",
            |w| {
                w.sit_down();
                Box::new(move || hold(w.lock.lock()))
            },
            free,
        )
        .arrange(|w| {
            die_holding(w, true);
            commons::recover(w.corpses[0] as u32).expect("gone");
        }),
        Op::new("unlock_sleeper", |w| release(w), handed_on).meanwhile(|w| {
            let waits = |w: &World| {
                let guard = w.lock.lock().expect("a seat");
                let told = guard.recovered();
                std::mem::forget(guard);
                told.into()
            };
            w.sleeper(waits, |w, _| w.word(LOCK) & (1 << 31) != 0);
        }),
        // Its first act is to bury somebody, in order to get a slot.
        Op::new("claim_buries", |w| Box::new(move || hold(w.lock.lock())), free).arrange(|w| die_holding(w, true)),
        // Somebody had this slot before, and left what it had written there.
        Op::new("lock_used_slot", |w| Box::new(move || hold(w.lock.lock())), free)
            .arrange(|w| {
                let helper = w.holder(|w| std::mem::forget(w.rw.read()));
                w.slay(helper, true);
                commons::recover(w.corpses.remove(0) as u32).expect("gone");
            })
            .last(1),
        Op::new(
            "leave",
            |w| {
                w.sit_down();
                Box::new(exit)
            },
            free,
        )
        .exits(),
        Op::new(
            "leave_holding",
            |w| {
                std::mem::forget(w.lock.lock());
                Box::new(exit)
            },
            free,
        )
        .exits(),
    ];
    let drops_by: fn(&World) = |w| drop(w.lock.try_lock());
    // Who is leaving takes itself for dead.
    let judged = |op: Op| if op.exits { op } else { op.alive(alive) };
    ops.into_iter().map(|op| judged(op).rescue(drops_by)).collect()
}

/// The child dies, or lives, owning it.
fn hold(guard: commons::Result<LockGuard>) {
    let guard = guard.expect("it can be had");
    report(guard.recovered().into());
    std::mem::forget(guard);
}

fn pass(guard: commons::Result<LockGuard>) {
    drop(guard.expect("it can be had"));
    report(0);
}

fn release(world: &World) -> Act<'_> {
    let guard = world.lock.lock().expect("free");
    Box::new(move || {
        drop(guard);
        report(0);
    })
}

fn relock(world: &World) -> Act<'_> {
    std::mem::forget(world.lock.lock());
    Box::new(move || report(matches!(world.lock.lock(), Err(Error::WouldDeadlock { .. })).into()))
}

fn exit() {
    // SAFETY: ends the process by way of the destructors of its thread.
    unsafe { libc::exit(0) }
}

fn holder(world: &mut World) {
    world.holder(|w| std::mem::forget(w.lock.lock()));
}

fn die_holding(world: &mut World, gone: bool) {
    let helper = world.holder(|w| std::mem::forget(w.lock.lock()));
    world.slay(helper, gone);
}

/// Somebody marked the owner dead and was killed before the burial.
fn die_marked(world: &mut World) {
    let slot = RawSlot::of(world.helpers[0].pid).expect("it holds a lock");
    world.slay(0, true);
    crate::image::set_word_at(slot.address, slot.state() & !3 | 2);
}

fn try_held(world: &World) {
    report(world.lock.try_lock().expect("a seat").is_some().into());
}

fn timeout(world: &World) {
    report(matches!(world.lock.lock_timeout(MS), Err(Error::Timeout { .. })).into());
}

/// The lock, at once if only the dead could have had it.
pub fn take<'a>(world: &World, lock: &'a Lock, death: &Death) -> Result<LockGuard<'a>, String> {
    if death.at_once(world) {
        let taken = lock.try_lock().map_err(|e| format!("try_lock: {e}"))?;
        return taken.ok_or_else(|| "the lock of a dead owner is not to be had at once".into());
    }
    lock.lock_timeout(SOON).map_err(|e| format!("lock: {e}"))
}

/// Nobody alive has it: it can be had, and who gets it first is told exactly if one died owning it.
fn free(world: &World, death: &Death) -> Check {
    let word = world.word(LOCK);
    // Burial has been there already in a managed death.
    let died_owning = word & (OWNER | DIRTY) != 0;
    let told = crate::kit::control().result(crate::kit::CHILD) == Some(1);
    let child = RawSlot::of(death.dead[0]);
    let noted = child.map_or(0, |slot| slot.holds(1));
    ensure!(!death.done || word & OWNER != 0 || noted == 0, "it has given the lock back, and notes {noted} locks");
    death.recover(world)?;
    let guard = take(world, &world.lock, death)?;
    ensure!(guard.recovered() == died_owning, "recovered is {}, the word was {word:#x}", guard.recovered());
    ensure!(matches!(world.lock.lock(), Err(Error::WouldDeadlock { .. })), "relocking is not refused");
    drop(guard);
    let again = world.lock.try_lock().map_err(|e| e.to_string())?;
    ensure!(
        again.is_some_and(|guard| !guard.recovered()),
        "it cannot be had a second time, or tells of the death again"
    );
    ensure!(world.corpses.is_empty() || !death.done || told, "the child took it from a dead owner and was not told");
    // Of a version: free, owned. In a played death nobody but the child has changed the word, unless there were other dead.
    Ok(if world.corpses.is_empty() { (word >> 32) * 2 + u64::from(word & OWNER != 0) } else { 0 })
}

/// A living process has it, and keeps it.
fn held(world: &World, death: &Death) -> Check {
    let slot = RawSlot::of(world.helpers[0].pid).ok_or("the holder has lost its slot")?;
    let names_holder = || world.word(LOCK) & 0xfff == slot.index as u64;
    ensure!(names_holder(), "the lock of a living owner was taken");
    death.recover(world)?;
    let tried = world.lock.try_lock().map_err(|e| e.to_string())?;
    ensure!(tried.is_none(), "the lock of a living owner can be had");
    let waited = world.lock.lock_timeout(MS);
    ensure!(matches!(waited, Err(Error::Timeout { .. })), "waiting for a living owner gives {waited:?}");
    ensure!(names_holder(), "the lock of a living owner was taken");
    Ok(0)
}

/// Somebody sleeps for it, who gets it in a real death, and is stopped in a played one.
fn handed_on(world: &World, death: &Death) -> Check {
    if !death.real() {
        return free(world, death);
    }
    let got = within(1500, || world.helpers[0].result().is_some());
    ensure!(got, "the one that sleeps for the lock of the dead is not woken");
    held(world, death)
}

/// The child is stopped, and alive: what it owns is its own.
fn alive(world: &World, death: &Death) -> Check {
    let word = world.word(LOCK);
    let child = RawSlot::of(death.dead[0]).map_or(usize::MAX, |slot| slot.index);
    if word & 0xfff != child as u64 {
        return Ok(0);
    }
    let tried = world.lock.try_lock().map_err(|e| e.to_string())?;
    ensure!(tried.is_none(), "a stopped owner was robbed");
    // Sometimes longer than a slice, after which the waiter looks closely.
    let bound = if death.nth.is_multiple_of(3) { 25 * MS } else { MS };
    let waited = world.lock.lock_timeout(bound);
    ensure!(matches!(waited, Err(Error::Timeout { .. })), "waiting for a stopped owner gives {waited:?}");
    ensure!(world.word(LOCK) & OWNER == word & OWNER, "a stopped owner was robbed");
    Ok(0)
}
