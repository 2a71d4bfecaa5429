//! The process-shared, robust counting semaphore. See the essay in `mod.rs`.

use std::time::Duration;

use crate::robust::{
    Claim, MAX_HELD, Owned, Patience, Rest, RobustLock, Seat, Slices, TURN, arm, at_once, disarm, each_live, me,
    prepare, seated,
};
use crate::shm::{Key, Kind, Pad, Place, Region, place_in_common, shared};
use crate::sync::{AtomicU64, Ordering, futex, owned};
use crate::{Error, Result};

shared! {
    struct SemaphoreShared {
        door: RobustLock,
        free: AtomicU64,
        turn: AtomicU64,
        permits: AtomicU64,
        pad: Pad<4>,
    }
}

const WHAT: &str = "semaphore";

/// A number of permits that threads of all processes share; those of a dead holder come back by themselves.
///
/// A permit belongs to the thread that acquired it, until a thread of the same process releases it or its thread ends. Handles are cheap
/// to clone and valid in every process forked after the semaphore was made. Memory: 128 bytes.
///
/// # Examples
/// ```
/// let seats = commons::Semaphore::new(2)?;
/// seats.acquire()?;
/// seats.acquire()?;
/// assert!(!seats.try_acquire()?, "all are taken");
/// seats.release()?;
/// assert!(seats.try_acquire()?);
/// # Ok::<(), commons::Error>(())
/// ```
#[derive(Clone)]
pub struct Semaphore {
    place: Place<SemaphoreShared>,
    door_key: Key,
    key: Key,
}

impl Semaphore {
    /// The most permits a semaphore can have.
    pub const MAX_PERMITS: u32 = u32::MAX;

    /// Makes a semaphore of `permits` permits, 1 ..= 2³² − 1, shared with every process forked from now on.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for 0 permits; [`Error::AfterFork`] in a worker of a server, where it would be shared with nobody;
    /// [`Error::System`] when the kernel has no memory or file descriptors left.
    ///
    /// # Examples
    /// ```
    /// assert!(commons::Semaphore::new(0).is_err());
    /// assert_eq!(commons::Semaphore::new(3)?.available(), 3);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new(permits: u32) -> Result<Semaphore> {
        Semaphore::check(permits)?;
        Ok(Semaphore::at(place_in_common(Kind::Semaphore)?, permits))
    }

    /// Makes a semaphore in `region`. 128 bytes there.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the region is full, and as [`Semaphore::new`].
    ///
    /// # Examples
    /// ```
    /// let region = commons::Region::new("seats", 128)?;
    /// let seats = commons::Semaphore::new_in(&region, 4)?;
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new_in(region: &Region, permits: u32) -> Result<Semaphore> {
        Semaphore::check(permits)?;
        Ok(Semaphore::at(Place::new(region, Kind::Semaphore)?, permits))
    }

    fn check(permits: u32) -> Result<()> {
        if permits == 0 {
            let max = Semaphore::MAX_PERMITS.into();
            return Err(Error::OutOfRange { what: "the number of permits", value: 0, min: 1, max });
        }
        prepare()
    }

    fn at(place: Place<SemaphoreShared>, permits: u32) -> Semaphore {
        // Relaxed: nobody else has the semaphore yet; others get it by a fork.
        place.permits.store(permits.into(), Ordering::Relaxed);
        place.free.store(permits.into(), Ordering::Relaxed);
        let (door_key, key) = (place.key(place.door.cell()), place.key(&place.turn));
        Semaphore { place, door_key, key }
    }

    /// Takes a permit, waiting until there is one.
    ///
    /// # Errors
    /// [`Error::TooManyHeld`]; [`Error::TooManyParticipants`].
    ///
    /// # Examples
    /// ```
    /// let seats = commons::Semaphore::new(1)?;
    /// seats.acquire()?;
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn acquire(&self) -> Result<()> {
        if self.acquire_at_once() { Ok(()) } else { self.acquire_slowly(Patience::Endless) }
    }

    /// Takes a permit if there is one; whether there was.
    ///
    /// It waits for nothing but, for a moment, another thread in the middle of a change; if that one is stopped there, the answer is
    /// [`Error::Timeout`] after 20 ms.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    ///
    /// # Examples
    /// ```
    /// assert!(commons::Semaphore::new(1)?.try_acquire()?);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn try_acquire(&self) -> Result<bool> {
        if self.acquire_at_once() { Ok(true) } else { Ok(at_once(self.acquire_slowly(Patience::None))?.is_some()) }
    }

    /// Takes a permit, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`Semaphore::acquire`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let seats = commons::Semaphore::new(1)?;
    /// seats.acquire_timeout(Duration::from_millis(5))?;
    /// assert!(matches!(seats.acquire_timeout(Duration::from_millis(5)), Err(commons::Error::Timeout { .. })));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<()> {
        if self.acquire_at_once() { Ok(()) } else { self.acquire_slowly(Patience::lasting(timeout)) }
    }

    /// Gives one permit back: one of this thread, or, if it has none, one of another thread of this process.
    ///
    /// # Errors
    /// [`Error::NotHeld`] when this process holds none.
    ///
    /// # Examples
    /// ```
    /// let seats = commons::Semaphore::new(1)?;
    /// assert!(matches!(seats.release(), Err(commons::Error::NotHeld { .. })));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn release(&self) -> Result<()> {
        if self.release_at_once() { Ok(()) } else { self.release_slowly() }
    }

    /// How many permits nobody holds, as far as known: those of a process that just died may be missing until somebody waits.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(commons::Semaphore::new(3)?.available(), 3);
    /// # Ok::<(), commons::Error>(())
    /// ```
    #[inline]
    pub fn available(&self) -> u32 {
        // Relaxed: a figure, which may be outdated when it is returned.
        self.place.free.load(Ordering::Relaxed) as u32
    }

    /// The fast path: a thread that has its seat, a door that is free and in order, a free permit, and a ledger with room. False is no
    /// answer, but a case for `acquire_slowly`.
    #[inline]
    fn acquire_at_once(&self) -> bool {
        let Some(seat) = seated() else { return false };
        let shared = &self.place;
        // Who has to wait comes in once, by the slow path.
        if self.available() == 0 {
            return false;
        }
        let Some(door) = shared.door.acquire_at_once(self.door_key) else { return false };
        let taken = owned(&shared.free) > 0 && self.take(seat);
        shared.door.release(door);
        taken
    }

    /// The fast path: a thread that has its seat and a permit of its own, and a door that is free and in order. False is no answer, but a
    /// case for `release_slowly`.
    #[inline]
    fn release_at_once(&self) -> bool {
        let Some(seat) = seated() else { return false };
        let Some(door) = self.place.door.acquire_at_once(self.door_key) else { return false };
        let turn = self.strike_own(seat).then(|| self.count_released());
        self.place.door.release(door);
        if let Some(turn) = turn {
            self.wake_one(turn);
        }
        turn.is_some()
    }

    #[cold]
    fn release_slowly(&self) -> Result<()> {
        let seat = me()?;
        let inside = self.enter(Patience::Endless)?;
        if !self.strike_own(seat) {
            self.release_of_a_sibling()?;
        }
        let turn = self.count_released();
        drop(inside);
        self.wake_one(turn);
        Ok(())
    }

    /// Takes a permit off this thread's own ledger, under the door; false when it has none.
    #[inline]
    fn strike_own(&self, seat: Seat) -> bool {
        match seat.find(Claim::Permit, self.key) {
            Some((held, 1)) => seat.strike(held),
            Some((held, count @ 2..)) => seat.recount(held, count - 1),
            Some((_, 0)) | None => return false,
        }
        true
    }

    /// Counts the permit whose entry is gone, under the door; the turn as it was.
    #[inline]
    fn count_released(&self) -> u64 {
        let shared = &self.place;
        // Between the entry and this a death leaves the door dirty, and the next one inside counts anew. Relaxed: under the door.
        shared.free.store(owned(&shared.free) + 1, Ordering::Relaxed);
        // Release: pairs with the load in `acquire_slowly`; whoever has seen the old turn looks again.
        shared.turn.fetch_add(TURN, Ordering::Release)
    }

    /// Wakes one of those who may sleep, `turn` being what it was before the release; outside the door.
    #[inline]
    fn wake_one(&self, turn: u64) {
        let shared = &self.place;
        if turn & 1 == 1 && futex::wake(&shared.turn, 1) == 0 {
            disarm(&shared.turn, turn);
        }
    }

    #[cold]
    fn acquire_slowly(&self, patience: Patience) -> Result<()> {
        let seat = me()?;
        let shared = &self.place;
        // Who only tries has no second look, so its first one is close: 5 µs for each holder, and only when no permit is free.
        let mut closely = matches!(patience, Patience::None);
        let mut slices = Slices::new();
        loop {
            let armed = {
                let _inside = self.enter(patience)?;
                let mut armed = 0;
                if owned(&shared.free) == 0 {
                    if !matches!(patience, Patience::None) {
                        // Before the count: a burial that comes too late to be counted moves the turn on, or finds the bit.
                        armed = arm(&shared.turn);
                    }
                    self.recount(closely);
                }
                if owned(&shared.free) > 0 {
                    return if self.take(seat) { Ok(()) } else { Err(Error::TooManyHeld { max: MAX_HELD }) };
                }
                armed
            };
            patience.check()?;
            seat.lie_down(self.key, 0);
            // Whom burial has found, everybody knows; the end of a slice is the time to look for others.
            closely = slices.rest(&shared.turn, armed, patience) == Rest::SliceOver;
            seat.get_up();
        }
    }

    /// Takes a free permit, under the door; false when the ledger is full.
    #[inline]
    fn take(&self, seat: Seat) -> bool {
        match seat.find(Claim::Permit, self.key) {
            Some((held, count)) => seat.recount(held, count + 1),
            None if seat.note(Claim::Permit, self.key, 1).is_none() => return false,
            None => {}
        }
        // Relaxed: under the door; as in `release`.
        self.place.free.store(owned(&self.place.free) - 1, Ordering::Relaxed);
        true
    }

    /// Takes a permit off the ledger of another thread of this process, under the door, under which alone that entry changes.
    fn release_of_a_sibling(&self) -> Result<()> {
        let mut done = false;
        each_live(|other| {
            done = other.is_of_this_process() && other.give_back(Claim::Permit, self.key);
            !done
        });
        if done { Ok(()) } else { Err(Error::NotHeld { what: WHAT }) }
    }

    /// Counts the free permits anew from the ledgers of the living, under the door.
    fn recount(&self, closely: bool) {
        let mut held = 0;
        each_live(|other| {
            if let Some(count) = other.holds(Claim::Permit, self.key)
                && (!closely || other.is_alive())
            {
                held += u64::from(count);
            }
            true
        });
        let permits = owned(&self.place.permits);
        // Relaxed: under the door.
        self.place.free.store(permits.saturating_sub(held), Ordering::Relaxed);
    }

    fn enter(&self, patience: Patience) -> Result<Inside<'_>> {
        // Trying is not waiting for a permit; it is allowed the moment that others need to let go of the door.
        let patience = if matches!(patience, Patience::None) { Patience::lasting(DOOR) } else { patience };
        let door = self.place.door.acquire(self.door_key, WHAT, patience)?;
        let recovered = door.recovered();
        let inside = Inside { semaphore: self, door: Some(door) };
        if recovered {
            // Its last owner died between an entry and `free`.
            self.recount(false);
        }
        Ok(inside)
    }
}

const DOOR: Duration = Duration::from_millis(20);

struct Inside<'a> {
    semaphore: &'a Semaphore,
    door: Option<Owned>,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if let Some(door) = self.door.take() {
            self.semaphore.place.door.release(door);
        }
    }
}

impl std::fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.available()).finish()
    }
}
