//! One preemption: A is stopped after k of its instructions, B runs whole (or until it waits for A), then A finishes.
//! See `preempt` for how.

use std::time::Duration;

use crate::image::RawSlot;
use crate::kit::{self, ensure};
use crate::num::drain;
use crate::world::{BARRIER, MS, World};

pub type Verdict = Result<(), String>;
pub type Act<'a> = Box<dyn FnOnce() -> u64 + 'a>;

pub struct Pair {
    pub name: &'static str,
    pub arrange: fn(&mut World),
    /// In A: what it does before its first mark, and the act itself.
    pub a: for<'a> fn(&'a World) -> Act<'a>,
    pub b: fn(&World) -> u64,
    /// With both results, while both processes live on.
    pub check: fn(&World, u64, u64) -> Verdict,
    /// Alone, A waits in vain.
    pub needs_b: bool,
    /// B comes around every change of memory, and not besides.
    pub brief: bool,
}

/// A waits that long for B at first, in steps.
pub const WAITING: usize = 900;

/// In such a time whoever waits for a living process that runs must get what it waits for.
pub const BOUND: Duration = Duration::from_millis(5000);

pub fn pair(
    name: &'static str,
    a: for<'a> fn(&'a World) -> Act<'a>,
    b: fn(&World) -> u64,
    check: fn(&World, u64, u64) -> Verdict,
) -> Pair {
    Pair { name, arrange: |_| {}, a, b, check, needs_b: false, brief: false }
}

impl Pair {
    pub fn arrange(self, arrange: fn(&mut World)) -> Pair {
        Pair { arrange, ..self }
    }
    pub fn brief(self) -> Pair {
        Pair { brief: true, ..self }
    }
    pub fn needs_b(self) -> Pair {
        Pair { needs_b: true, ..self }
    }
}

/// A's act, by one that takes part already.
pub fn seated<'a>(world: &'a World, act: fn(&World) -> u64) -> Act<'a> {
    world.sit_down();
    Box::new(move || act(world))
}

pub fn all() -> Vec<Pair> {
    vec![
        pair("pair_lock_lock", |w| seated(w, pass), pass, lock_is_free),
        pair("pair_lock_try_lock", |w| seated(w, pass), |w| u64::from(try_pass(w)), lock_is_free),
        pair("pair_lock_lock_timeout", |w| seated(w, pass), not_robbed, lock_is_free),
        pair("pair_add_add", |w| seated(w, |w| w.small.add(3).into()), |w| w.small.add(4).into(), both_added)
            .arrange(five),
        pair(
            "pair_cmpset_cmpset",
            |w| seated(w, |w| w.small.cmpset(5, 6).into()),
            |w| w.small.cmpset(5, 7).into(),
            one_hit,
        )
        .arrange(five),
        pair("pair_wait_wakeup", |w| seated(w, |w| w.small.wait(Some(5 * MS)).into()), wake, permit_kept),
        pair(
            "pair_wakeup_wait",
            |w| seated(w, wake),
            |w| w.small.wait(Some(30 * MS)).into(),
            |w, a, b| permit_kept(w, b, a),
        ),
        pair("pair_wakeup_wakeup", |w| seated(w, wake), wake, raised_once),
        pair("pair_wakeup_wakeup_sleeper", |w| seated(w, wake), wake, granted_once)
            .arrange(|w| _ = w.sleeper(|w| w.small.wait(None).into(), crate::world::noted_asleep)),
        pair(
            "pair_wait_while_notify",
            |w| seated(w, |w| w.small.wait_while(5, Some(BOUND)).into()),
            change,
            change_seen,
        )
        .arrange(five)
        .needs_b(),
        pair("pair_read_write", |w| seated(w, read), write, rw_is_free),
        pair("pair_write_read", |w| seated(w, write), read, rw_is_free),
        pair("pair_keep_reading_write", |w| seated(w, keep_reading), |w| u64::from(try_keep_writing(w)), not_both),
        pair("pair_keep_writing_read", |w| seated(w, keep_writing), |w| u64::from(try_keep_reading(w)), not_both),
        pair("pair_keep_writing_write", |w| seated(w, keep_writing), |w| u64::from(try_keep_writing(w)), not_both),
        pair("pair_acquire_release", |w| seated(w, acquire_release), acquire_release, one_permit_free)
            .arrange(two_held),
        pair("pair_release_acquire", release_one, acquire, one_permit_out).arrange(two_held),
        pair("pair_acquire_acquire", |w| seated(w, try_acquire), try_acquire, one_got_it).arrange(two_held),
        pair("pair_barrier_barrier", |w| seated(w, arrive), arrive, one_leads).needs_b(),
        pair("pair_claim_claim", |w| Box::new(move || pass_seated(w)), pass_seated, seats_differ),
        pair("pair_place_place", |w| seated(w, place), place, both_placed)
            .arrange(|w| w.field = Some(commons::Region::new("field", 3 * 128).expect("a region"))),
    ]
}

fn pass(world: &World) -> u64 {
    let guard = world.lock.lock_timeout(BOUND).expect("the other lets go");
    assert!(!guard.recovered(), "nobody died");
    1
}

fn try_pass(world: &World) -> bool {
    world.lock.try_lock().expect("a seat").is_some()
}

/// Whoever stands in the lock lives, and keeps it while B waits in vain.
fn not_robbed(world: &World) -> u64 {
    let owner = world.word(crate::world::LOCK) & crate::world::OWNER;
    let got = world.lock.lock_timeout(2 * MS).is_ok();
    assert!(got == (owner == 0), "the lock was owned by {owner:#x}, and waiting for it gives {got}");
    got.into()
}

fn lock_is_free(world: &World, _: u64, _: u64) -> Verdict {
    let guard = world.lock.try_lock().map_err(|e| e.to_string())?.ok_or("both are through, and the lock is held")?;
    ensure!(!guard.recovered(), "nobody died");
    Ok(())
}

fn five(world: &mut World) {
    world.small.set(5);
}

fn both_added(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(
        world.small.get() == 12 && (a, b) != (8, 9) && (a == 12 || b == 12),
        "5, 3 and 4 make {}",
        world.small.get()
    );
    Ok(())
}

fn one_hit(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(
        a + b == 1 && u64::from(world.small.get()) == 6 * a + 7 * b,
        "{a} + {b} hit, the value is {}",
        world.small.get()
    );
    Ok(())
}

fn wake(world: &World) -> u64 {
    world.small.wakeup(1) as u64
}

/// One wakeup was made, which grants one permit or raises 0 to 1; the waiter has it, or it is there.
fn permit_kept(world: &World, got: u64, _granted: u64) -> Verdict {
    let left = drain::<commons::Atomic>(world);
    ensure!(got + left == 1, "one permit was given, the waiter got {got}, {left} are left");
    Ok(())
}

fn raised_once(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a + b == 0 && world.small.get() == 1, "two wakeups with nobody asleep made 0 a {}", world.small.get());
    Ok(())
}

/// One sleeps, two wake: one of the two grants. The other meets nobody asleep, or one that has its permit already.
fn granted_once(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a + b == 1, "two wakeups granted {} permits to one sleeper", a + b);
    ensure!(kit::within(1500, || world.helpers[0].result() == Some(1)), "the sleeper with a permit sleeps on");
    let left = drain::<commons::Atomic>(world);
    ensure!(left <= 1, "{left} permits are left");
    Ok(())
}

fn change(world: &World) -> u64 {
    world.small.set(6);
    world.small.notify(1) as u64
}

fn change_seen(_: &World, a: u64, _: u64) -> Verdict {
    ensure!(a == 1, "the change was missed");
    Ok(())
}

fn read(world: &World) -> u64 {
    drop(world.rw.read_timeout(BOUND).expect("the other lets go"));
    1
}

fn write(world: &World) -> u64 {
    drop(world.rw.write_timeout(BOUND).expect("the other lets go"));
    1
}

fn rw_is_free(world: &World, _: u64, _: u64) -> Verdict {
    drop(world.rw.try_read().map_err(|e| e.to_string())?.ok_or("both are through, and no reader gets in")?);
    drop(world.rw.try_write().map_err(|e| e.to_string())?.ok_or("both are through, and no writer gets in")?);
    Ok(())
}

fn keep_reading(world: &World) -> u64 {
    world.rw.read_timeout(25 * MS).map(std::mem::forget).is_ok().into()
}

fn keep_writing(world: &World) -> u64 {
    world.rw.write_timeout(25 * MS).map(std::mem::forget).is_ok().into()
}

fn try_keep_reading(world: &World) -> bool {
    world.rw.try_read().expect("a seat").map(std::mem::forget).is_some()
}

fn try_keep_writing(world: &World) -> bool {
    world.rw.try_write().expect("a seat").map(std::mem::forget).is_some()
}

/// What they hold they hold for good, and one of the two writes.
fn not_both(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a + b <= 1, "a writer and another hold the lock at the same time");
    ensure!(a + b == 0 || !try_keep_writing(world), "a third one writes");
    Ok(())
}

fn two_held(world: &mut World) {
    world.holder(|w| (0..2).for_each(|_| w.sem.acquire().expect("free")));
}

fn acquire(world: &World) -> u64 {
    world.sem.acquire_timeout(BOUND).is_ok().into()
}

fn try_acquire(world: &World) -> u64 {
    // The other may be stopped in the door.
    world.sem.try_acquire().is_ok_and(|got| got).into()
}

fn release(world: &World) -> u64 {
    world.sem.release().is_ok().into()
}

fn release_one(world: &World) -> Act<'_> {
    world.sem.acquire().expect("free");
    Box::new(move || release(world))
}

/// Of three permits a helper holds two, and one of the pair has ended with the third.
fn one_permit_out(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a == 1 && b == 1, "the one did {a}, the other {b}");
    ensure!(!world.sem.try_acquire().map_err(|e| e.to_string())?, "three permits are held, and there is a fourth");
    ensure!(world.sem.available() == 0, "{} are said to be available", world.sem.available());
    Ok(())
}

fn acquire_release(world: &World) -> u64 {
    acquire(world) & release(world)
}

fn one_permit_free(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a == 1 && b == 1, "the one did {a}, the other {b}");
    ensure!(
        world.sem.try_acquire().map_err(|e| e.to_string())?,
        "three permits are there, two are held, and the third is not to be had"
    );
    ensure!(!world.sem.try_acquire().map_err(|e| e.to_string())?, "three permits are held, and there is a fourth");
    Ok(())
}

fn one_got_it(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a + b == 1, "of one permit {} were had", a + b);
    ensure!(!world.sem.try_acquire().map_err(|e| e.to_string())?, "three permits are held, and there is a fourth");
    Ok(())
}

fn arrive(world: &World) -> u64 {
    world.barrier.wait_timeout(BOUND).map_or(2, u64::from)
}

fn one_leads(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a + b == 1 && a != b, "two came: {a}, {b}; one is to lead (1), the other to follow (0)");
    ensure!(world.word(BARRIER + 8) == 1, "{} rounds", world.word(BARRIER + 8));
    Ok(())
}

/// Takes part, and says in which slot.
fn pass_seated(world: &World) -> u64 {
    pass(world);
    // SAFETY: a plain system call.
    RawSlot::of(unsafe { libc::getpid() }).map_or(0, |slot| slot.index as u64)
}

fn seats_differ(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a != 0 && b != 0 && a != b, "slots {a} and {b}");
    world.sit_down();
    let census = commons::harness::census();
    ensure!(census == world.living() + 3, "{census} slots are taken by {} threads", world.living() + 3);
    lock_is_free(world, a, b)
}

/// Where in the region it came to stand, by the deeds.
fn place(world: &World) -> u64 {
    let made = commons::Lock::new_in(world.field.as_ref().expect("arranged")).expect("room");
    let got = made.try_lock().map(|guard| guard.map(std::mem::forget).is_some());
    got.expect("a seat").into()
}

fn both_placed(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a == 1 && b == 1, "two locks were placed in one place");
    let region = world.field.as_ref().expect("arranged");
    ensure!(commons::Lock::new_in(region).is_ok() && commons::Lock::new_in(region).is_err(), "it holds three, exactly");
    Ok(())
}
