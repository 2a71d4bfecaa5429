//! `Atomic` and `AtomicLong` under one face, so that every operation is written once.

use std::time::Duration;

use commons::{Atomic, AtomicLong, Region, Result};

use crate::checker::Death;
use crate::kit::ensure;
use crate::world::{LONG, SMALL, World};

pub trait Num: Sized + Clone + Send + 'static {
    const NAME: &'static str;
    /// Where the world's one stands.
    const AT: usize;
    fn of(world: &World) -> &Self;
    fn kept(world: &mut World) -> &mut Option<Self>;
    fn keeps(world: &World) -> &Self;
    fn get(&self) -> i64;
    fn set(&self, value: i64);
    fn add(&self, n: i64) -> i64;
    fn sub(&self, n: i64) -> i64;
    fn cmpset(&self, from: i64, to: i64) -> bool;
    fn wait(&self, timeout: Option<Duration>) -> bool;
    fn wakeup(&self, n: usize) -> usize;
    fn wait_while(&self, value: i64, timeout: Option<Duration>) -> bool;
    fn notify(&self, n: usize) -> usize;
    fn new(value: i64) -> Result<Self>;
    fn packed(value: i64) -> Result<Self>;
    fn new_in(region: &Region, value: i64) -> Result<Self>;
}

macro_rules! num {
    ($ty:ty, $int:ty, $name:literal, $at:expr, $field:ident, $kept:ident) => {
        impl Num for $ty {
            const NAME: &'static str = $name;
            const AT: usize = $at;
            fn of(world: &World) -> &Self {
                &world.$field
            }
            fn kept(world: &mut World) -> &mut Option<Self> {
                &mut world.$kept
            }
            fn keeps(world: &World) -> &Self {
                world.$kept.as_ref().expect("arranged")
            }
            fn get(&self) -> i64 {
                <$ty>::get(self) as i64
            }
            fn set(&self, value: i64) {
                <$ty>::set(self, value as $int);
            }
            fn add(&self, n: i64) -> i64 {
                <$ty>::add(self, n as $int) as i64
            }
            fn sub(&self, n: i64) -> i64 {
                <$ty>::sub(self, n as $int) as i64
            }
            fn cmpset(&self, from: i64, to: i64) -> bool {
                <$ty>::cmpset(self, from as $int, to as $int)
            }
            fn wait(&self, timeout: Option<Duration>) -> bool {
                <$ty>::wait(self, timeout)
            }
            fn wakeup(&self, n: usize) -> usize {
                <$ty>::wakeup(self, n)
            }
            fn wait_while(&self, value: i64, timeout: Option<Duration>) -> bool {
                <$ty>::wait_while(self, value as $int, timeout)
            }
            fn notify(&self, n: usize) -> usize {
                <$ty>::notify(self, n)
            }
            fn new(value: i64) -> Result<Self> {
                <$ty>::new(value as $int)
            }
            fn packed(value: i64) -> Result<Self> {
                <$ty>::packed(value as $int)
            }
            fn new_in(region: &Region, value: i64) -> Result<Self> {
                <$ty>::new_in(region, value as $int)
            }
        }
    };
}

num!(Atomic, u32, "atomic", SMALL, small, kept_small);
num!(AtomicLong, i64, "long", LONG, long, kept_long);

/// Permits granted and not taken, as they stand in memory.
pub fn raw_permits<T: Num>(world: &World) -> u64 {
    world.word(T::AT + 8) >> 32
}

/// Takes what can be taken; for when nobody alive sleeps. Entering the door first may take a slice, which `wait` would not wait for.
pub fn drain<T: Num>(world: &World) -> u64 {
    let n = T::of(world);
    n.wakeup(0);
    (0..9).take_while(|_| n.wait(Some(Duration::ZERO))).count() as u64
}

/// With nobody alive asleep: a number like any other. Leaves it 0.
pub fn usable<T: Num>(world: &World, death: &Death) -> std::result::Result<(), String> {
    let n = T::of(world);
    n.set(0);
    let over = drain::<T>(world);
    ensure!(over == 0, "{over} permits too many");
    let granted = n.wakeup(1);
    ensure!(granted == 0, "the dead are counted as sleepers: {granted} granted");
    ensure!(n.get() == 1, "a wakeup with nobody asleep left {} instead of 1", n.get());
    ensure!(n.wait(None) && n.get() == 0, "a value of 1 lets nobody through");
    ensure!(!n.wait(Some(Duration::ZERO)), "a value of 0 lets somebody through");
    ensure!(!n.wait_while(0, Some(Duration::ZERO)), "it is 0, and is said to be something else");
    ensure!(n.notify(9) == 0, "a notify woke somebody who is not there");
    if death.nth.is_multiple_of(6) {
        // Somebody asleep is still woken: the room is whole.
        let sleeper = n.clone();
        let asleep = std::thread::spawn({
            let n = sleeper.clone();
            move || n.wait(Some(crate::checker::SOON))
        });
        while !asleep.is_finished() {
            sleeper.wakeup(1);
            std::thread::sleep(Duration::from_micros(50));
        }
        let got = asleep.join().map_err(|_| "a sleeper panicked".to_string())?;
        ensure!(got, "a new sleeper is not woken");
        n.set(0);
        drain::<T>(world);
    }
    Ok(())
}
