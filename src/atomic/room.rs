//! The waiting room of a cell: permits for those who `wait`, a watch word for those who `wait_while`. See the essay in `mod.rs`.

use std::time::Duration;

use crate::robust::{Owned, Patience, Rest, RobustLock, SLICE, Seat, Slices, TURN, arm, disarm, each_live, me};
use crate::shm::{Key, Place, shared};
use crate::sync::{AtomicU64, Ordering, futex};

shared! {
    pub(super) struct Cell {
        pub(super) value: AtomicU64,
        /// [`Permits`].
        permits: AtomicU64,
        /// Notifications: a word of turns, see [`arm`].
        watch: AtomicU64,
        door: RobustLock,
    }
}

/// How much of the value's word is the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Low32,
    Full,
}

impl Width {
    fn number(self, word: u64) -> i64 {
        match self {
            Width::Low32 => i64::from(word as u32),
            Width::Full => word as i64,
        }
    }
}

/// Permits granted and not yet taken, and the epoch of the last grant.
#[derive(Clone, Copy)]
struct Permits(u64);

impl Permits {
    fn count(self) -> u32 {
        (self.0 >> 32) as u32
    }
    /// The half that sleepers watch.
    fn epoch(self) -> u32 {
        self.0 as u32
    }
    fn granted(self, n: u32) -> Permits {
        Permits(u64::from(self.count().saturating_add(n)) << 32 | u64::from(self.epoch().wrapping_add(1)))
    }
    fn one_less(self) -> Option<Permits> {
        Some(Permits(u64::from(self.count().checked_sub(1)?) << 32 | u64::from(self.epoch())))
    }
}

/// Under the door of a cell: who holds it may change permits and register.
struct Inside<'a> {
    cell: &'a Place<Cell>,
    key: Key,
    door: Option<Owned>,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if let Some(door) = self.door.take() {
            self.cell.door.release(door);
        }
    }
}

const WHAT: &str = "atomic";

impl Cell {
    /// Exchanges the value for what `next` makes of it, until that succeeds or `next` declines.
    #[inline]
    pub(super) fn exchange(&self, success: Ordering, mut next: impl FnMut(u64) -> Option<u64>) -> Option<u64> {
        // Acquire: pairs with the Release of whoever wrote the value seen.
        let mut seen = self.value.load(Ordering::Acquire);
        loop {
            let new = next(seen)?;
            match self.value.compare_exchange(seen, new, success, Ordering::Acquire) {
                Ok(_) => return Some(new),
                Err(now) => seen = now,
            }
        }
    }

    /// Lowers a value above 0 by one.
    fn take_one(&self, width: Width) -> bool {
        // Acquire: pairs with the Release of `set`, `add` and `raise`; a permit brings along what was done before it was given.
        self.exchange(Ordering::Acquire, |seen| (width.number(seen) > 0).then(|| seen.wrapping_sub(1))).is_some()
    }

    /// Makes 0 a 1.
    fn raise(&self, width: Width) {
        // Release: pairs with the Acquire in `take_one`.
        self.exchange(Ordering::Release, |seen| (width.number(seen) == 0).then(|| seen.wrapping_add(1)));
    }

    fn permits(&self) -> Permits {
        // Acquire: pairs with the Release in `Inside::change`.
        Permits(self.permits.load(Ordering::Acquire))
    }

    pub(super) fn wait(this: &Place<Cell>, width: Width, timeout: Option<Duration>) -> bool {
        if this.take_one(width) {
            return true;
        }
        let patience = timeout.map_or(Patience::Endless, Patience::lasting);
        match me() {
            Ok(seat) => Cell::wait_registered(this, width, patience, seat),
            Err(_) => this.wait_unregistered(width, patience),
        }
    }

    #[cold]
    fn wait_registered(this: &Place<Cell>, width: Width, patience: Patience, seat: Seat) -> bool {
        let registered = {
            let Some(inside) = Inside::enter(this, patience) else { return this.take_one(width) };
            if this.take_one(width) || inside.take_spare(None) {
                return true;
            }
            let registered = this.permits();
            seat.lie_down(inside.key, registered.epoch());
            registered
        };
        let mut seen = registered;
        let mut slices = Slices::new();
        loop {
            let slice_over = slices.rest(&this.permits, seen.0, patience) == Rest::SliceOver;
            seen = this.permits();
            let over = patience.check().is_err();
            // A permit of a later epoch is for those who slept when it was granted, and this thread did. One of an earlier epoch is
            // free if those it was granted to have died; that takes a closer look, at the end of a slice.
            let mine = seen.count() > 0 && seen.epoch() != registered.epoch();
            if !(mine || over || (slice_over && seen.count() > 0)) {
                continue;
            }
            if let Some(granted) = Cell::collect(this, seat, registered.epoch(), patience, over) {
                return granted;
            }
            seen = this.permits();
        }
    }

    /// Takes a permit if one is there for this sleeper, gives up if its time is `over`; None: sleep on.
    fn collect(this: &Place<Cell>, seat: Seat, registered: u32, patience: Patience, over: bool) -> Option<bool> {
        let patience = if over { Patience::lasting(Duration::from_nanos(SLICE)) } else { patience };
        let Some(inside) = Inside::enter(this, patience) else {
            if !over {
                return None;
            }
            // The door's owner is alive but does not move, and the time is over. Without the door the permit goes first and the entry
            // second: a waker may count this sleeper once too often, and then leaves a permit over, but none is lost.
            let granted = this.change(|now| if now.epoch() == registered { None } else { now.one_less() });
            seat.get_up();
            return Some(granted);
        };
        if inside.take_spare(Some((seat, registered))) {
            return Some(true);
        }
        if over {
            seat.get_up();
            return Some(false);
        }
        None
    }

    /// Exchanges the permits; false when `next` declines.
    fn change(&self, mut next: impl FnMut(Permits) -> Option<Permits>) -> bool {
        let mut seen = self.permits();
        while let Some(new) = next(seen) {
            // AcqRel: Release pairs with the Acquire in `permits` (a sleeper sees what was done before it was woken), Acquire with the
            // Release of the grant that is taken.
            match self.permits.compare_exchange(seen.0, new.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => seen = Permits(now),
            }
        }
        false
    }

    pub(super) fn wakeup(this: &Place<Cell>, width: Width, n: usize) -> usize {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        let granted = match Inside::enter(this, Patience::Endless) {
            Some(inside) => inside.grant(width, n),
            None => {
                // No free slot for this thread, so it may not enter: the permit goes to whoever comes next.
                this.raise(width);
                0
            }
        };
        if granted > 0 {
            futex::wake(&this.permits, granted);
        }
        granted as usize
    }

    /// For the thread that finds no free slot: it cannot be counted as a sleeper, and so is granted nothing; it can still take what is
    /// there.
    #[cold]
    fn wait_unregistered(&self, width: Width, patience: Patience) -> bool {
        loop {
            if self.take_one(width) {
                return true;
            }
            if patience.check().is_err() {
                return false;
            }
            let _ = Slices::new().rest(&self.permits, self.permits().0, patience);
        }
    }

    pub(super) fn wait_while(&self, still: impl Fn(u64) -> bool, timeout: Option<Duration>) -> bool {
        let patience = timeout.map_or(Patience::Endless, Patience::lasting);
        loop {
            // Acquire: pairs with the Release of whoever wrote the value.
            if !still(self.value.load(Ordering::Acquire)) {
                return true;
            }
            if patience.check().is_err() {
                return false;
            }
            // Pairs with `notify`. If that comes first, this reads it and the value read next is the new one; if it comes second, it sees the bit.
            let armed = arm(&self.watch);
            // Acquire: as above.
            if !still(self.value.load(Ordering::Acquire)) {
                return true;
            }
            let _ = Slices::new().rest(&self.watch, armed, patience);
        }
    }

    pub(super) fn notify(&self, n: usize) -> usize {
        // AcqRel: pairs with `wait_while`, see there.
        let before = self.watch.fetch_add(TURN, Ordering::AcqRel);
        if before & 1 == 0 {
            return 0;
        }
        let woken = futex::wake(&self.watch, u32::try_from(n).unwrap_or(u32::MAX));
        if woken == 0 && n > 0 {
            disarm(&self.watch, before);
        }
        woken
    }
}

impl<'a> Inside<'a> {
    /// Enters; None when the time runs out, or when this thread has no slot and so cannot own a lock.
    fn enter(cell: &'a Place<Cell>, patience: Patience) -> Option<Inside<'a>> {
        let door = cell.door.acquire(cell.key(cell.door.cell()), WHAT, patience).ok()?;
        // A door left by a dead owner needs no repair: each word behind it changes as a whole.
        Some(Inside { cell, key: cell.key(&cell.permits), door: Some(door) })
    }

    /// Takes a permit that is there for the caller: one granted while it slept, if it is the sleeper registered in that epoch, or one
    /// that no living sleeper has a claim to.
    fn take_spare(&self, sleeper: Option<(Seat, u32)>) -> bool {
        let now = self.cell.permits();
        if now.count() == 0 {
            return false;
        }
        let mine = sleeper.is_some_and(|(_, registered)| registered != now.epoch());
        if !mine && now.count() <= self.sleepers(now.count(), |registered| registered != now.epoch()) {
            return false;
        }
        // The entry first: a death in between leaves the permit to the next one.
        if let Some((seat, _)) = sleeper {
            seat.get_up();
        }
        self.cell.change(Permits::one_less)
    }

    /// Grants at most `n` permits to sleepers that have none, or makes 0 a 1 when nobody sleeps.
    fn grant(&self, width: Width, n: u32) -> u32 {
        let now = self.cell.permits();
        // Those who slept when a permit was granted have a claim to it; what is left beyond that was granted to the dead, and is nobody's.
        let claimed = match now.count() {
            0 => 0,
            count => self.sleepers(count, |registered| registered != now.epoch()),
        };
        let sleepers = self.sleepers(n.saturating_add(claimed), |_| true);
        let granted = n.min(sleepers.saturating_sub(claimed));
        if granted > 0 {
            self.cell.change(|now| Some(now.granted(granted)));
        } else if n > 0 && sleepers == 0 && now.count() == 0 {
            self.cell.raise(width);
        }
        granted
    }

    /// How many living threads sleep here, of those whose epoch is `among`; no more than `enough` are counted.
    fn sleepers(&self, enough: u32, among: impl Fn(u32) -> bool) -> u32 {
        let mut count = 0;
        each_live(|other| {
            if other.sleeps_on(self.key).is_some_and(&among) && other.is_alive() {
                count += 1;
            }
            count < enough
        });
        count
    }
}
