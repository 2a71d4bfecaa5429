//! Numbers: each operation happens at one instant, so a death leaves the value as it was before or after.

use commons::{Atomic, AtomicLong, Counter};

use crate::checker::Death;
use crate::kit::{Check, ensure, report};
use crate::num::{Num, usable};
use crate::op::Op;
use crate::world::World;

pub fn all() -> Vec<Op> {
    [numbers::<Atomic>(), numbers::<AtomicLong>(), counters()].concat()
}

/// The value is `FROM` or `TO`, and nothing else of the number has changed.
pub fn value<T: Num, const FROM: i64, const TO: i64>(world: &World, death: &Death) -> Check {
    let n = T::of(world);
    let seen = n.get();
    ensure!(seen == FROM || seen == TO, "the value is {seen}, neither {FROM} nor {TO}");
    ensure!(!death.done || seen == TO, "it returned, and the value is {seen} instead of {TO}");
    death.recover(world)?;
    ensure!(n.get() == seen, "recovery changed the value from {seen} to {}", n.get());
    usable::<T>(world, death)?;
    Ok(u64::from(seen == TO))
}

fn five<T: Num>(world: &mut World) {
    T::of(world).set(5);
}

fn numbers<T: Num>() -> Vec<Op> {
    let name = |op: &str| format!("{}_{op}", T::NAME);
    let enter: fn(&World) = |w| _ = T::of(w).wakeup(0);
    vec![
        Op::new(name("get"), |w| Box::new(move || report(T::of(w).get() as u64)), value::<T, 5, 5>)
            .arrange(five::<T>)
            .last(1),
        Op::new(name("set"), |w| Box::new(move || set::<T>(w, 9)), value::<T, 5, 9>)
            .arrange(five::<T>)
            .rescue(enter)
            .last(1),
        Op::new(name("add"), |w| Box::new(move || report(T::of(w).add(3) as u64)), value::<T, 5, 8>)
            .arrange(five::<T>)
            .last(1),
        Op::new(name("sub"), |w| Box::new(move || report(T::of(w).sub(2) as u64)), value::<T, 5, 3>)
            .arrange(five::<T>)
            .last(1),
        Op::new(name("cmpset_hit"), |w| Box::new(move || report(T::of(w).cmpset(5, 7).into())), value::<T, 5, 7>)
            .arrange(five::<T>)
            .last(1),
        Op::new(name("cmpset_miss"), |w| Box::new(move || report(T::of(w).cmpset(6, 7).into())), value::<T, 5, 5>)
            .arrange(five::<T>)
            .last(1),
        Op::new(name("new_in"), |w| Box::new(move || make_in::<T>(w)), made_in::<T>)
            .arrange(|w| w.field = Some(commons::Region::new("field", 2 * 128).expect("a region"))),
        Op::new(name("new"), |w| Box::new(move || make::<T>(w, T::new)), made::<T>).arrange(keep::<T>),
        Op::new(name("new_page"), |w| Box::new(move || make::<T>(w, T::new)), made::<T>).arrange(|w| {
            keep::<T>(w);
            for _ in 1..63 {
                drop(T::new(1));
            }
        }),
        Op::new(name("packed"), |w| Box::new(move || make::<T>(w, T::packed)), made::<T>).arrange(keep::<T>),
    ]
}

fn set<T: Num>(world: &World, value: i64) {
    T::of(world).set(value);
    report(0);
}

/// One cell of each kind of page exists, so the child takes from pages that others have too.
fn keep<T: Num>(world: &mut World) {
    *T::kept(world) = Some(T::new(77).expect("room"));
    drop(T::packed(78).expect("room"));
}

fn make<T: Num>(_: &World, new: fn(i64) -> commons::Result<T>) {
    let made = new(5).expect("room");
    report(made.get() as u64);
    std::mem::forget(made);
}

fn make_in<T: Num>(world: &World) {
    let made = T::new_in(world.field.as_ref().expect("arranged"), 5).expect("room");
    report(made.get() as u64);
    std::mem::forget(made);
}

/// What the dead one took is taken, or free; never something between.
fn made_in<T: Num>(world: &World, death: &Death) -> Check {
    let region = world.field.as_ref().expect("arranged");
    death.recover(world)?;
    let mut more = Vec::new();
    while let Ok(number) = T::new_in(region, 6) {
        ensure!(number.add(more.len() as i64) == 6 + more.len() as i64, "two numbers stand in one place");
        more.push(number);
    }
    ensure!(region.used() == region.size(), "{} of {} bytes are used", region.used(), region.size());
    ensure!(more.len() == 1 || (more.len() == 2 && !death.done), "{} fit", more.len());
    Ok(2 - more.len() as u64)
}

/// Others make numbers that are nobody else's.
fn made<T: Num>(world: &World, death: &Death) -> Check {
    death.recover(world)?;
    let make = |value: i64| {
        let made = if value % 2 == 0 { T::new(value) } else { T::packed(value) };
        made.map_err(|e| format!("making another: {e}"))
    };
    let many = (100..108).map(make).collect::<Result<Vec<_>, _>>()?;
    for (n, value) in many.iter().zip(100..) {
        ensure!(n.get() == value, "a new number shows {} instead of {value}: two stand in one place", n.get());
        ensure!(n.add(1) == value + 1, "a new number does not count");
        ensure!(n.wakeup(1) == 0, "somebody sleeps at a new number");
    }
    let kept = T::keeps(world).get();
    ensure!(kept == 77, "a number that was there before shows {kept} instead of 77");
    usable::<T>(world, death)?;
    Ok(0)
}

fn counters() -> Vec<Op> {
    let ten: fn(&mut World) = |w| {
        let region = commons::Region::new("counter", 262_208).expect("a region");
        w.counter = Some(Counter::new_in(&region).expect("room"));
        // Its tenant is gone, what it added stays.
        let helper = w.holder(|w| w.counter.as_ref().expect("just made").add(10));
        w.slay(helper, true);
    };
    vec![
        Op::new(
            "counter_add",
            |w| {
                w.sit_down();
                Box::new(move || count(w))
            },
            counted,
        )
        .arrange(ten)
        .rescue(|w| counter(w).add(0))
        .last(1),
        Op::new("counter_add_first_use", |w| Box::new(move || count(w)), counted).arrange(ten).last(1),
        Op::new("counter_get", |w| Box::new(move || report(counter(w).get() as u64)), |w, d| counted_is(w, d, 10))
            .arrange(ten),
        Op::new("counter_new_in", |w| Box::new(move || new_counter(w)), counter_made).arrange(|w| {
            w.field = Some(commons::Region::new("counter", 262_208).expect("a region"));
        }),
    ]
}

fn counter(world: &World) -> &Counter {
    world.counter.as_ref().expect("arranged")
}

fn count(world: &World) {
    counter(world).add(5);
    report(0);
}

fn counted(world: &World, death: &Death) -> Check {
    counted_is(world, death, 15)
}

fn counted_is(world: &World, death: &Death, after: i64) -> Check {
    let counter = counter(world);
    let seen = counter.get();
    ensure!(seen == 10 || seen == after, "the sum is {seen}, neither 10 nor {after}");
    ensure!(!death.done || seen == after, "it returned, and the sum is {seen} instead of {after}");
    death.recover(world)?;
    counter.add(1);
    ensure!(counter.get() == seen + 1, "after one more the sum is {} instead of {}", counter.get(), seen + 1);
    let other = counter.clone();
    let _ = std::thread::spawn(move || other.add(2)).join();
    ensure!(counter.get() == seen + 3, "a newcomer's share is lost: {} instead of {}", counter.get(), seen + 3);
    Ok(u64::from(seen == after && after != 10))
}

fn new_counter(world: &World) {
    let made = Counter::new_in(world.field.as_ref().expect("arranged"));
    report(made.is_ok().into());
    std::mem::forget(made);
}

/// The one place is taken, or free; never something between.
fn counter_made(world: &World, death: &Death) -> Check {
    death.recover(world)?;
    let region = world.field.as_ref().expect("arranged");
    let made = Counter::new_in(region);
    ensure!(!(death.done && made.is_ok()), "the place was given out twice");
    if let Ok(counter) = &made {
        counter.add(4);
        ensure!(counter.get() == 4, "a new counter shows {} instead of 4", counter.get());
    }
    ensure!(region.used() == region.size(), "{} of {} bytes are used", region.used(), region.size());
    Ok(u64::from(made.is_err()))
}
