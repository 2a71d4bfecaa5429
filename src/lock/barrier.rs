//! The process-shared, robust barrier. See the essay in `mod.rs`.

use std::time::Duration;

use crate::robust::{MAX_PARTICIPANTS, Patience, RobustLock, Slices, each_live, me, prepare};
use crate::shm::{Key, Kind, Pad, Place, Region, place_in_common, shared};
use crate::sync::{AtomicU64, Ordering, futex};
use crate::{Error, Result};

shared! {
    struct BarrierShared {
        door: RobustLock,
        /// Rounds completed. Sleepers watch its lower half.
        round: AtomicU64,
        parties: AtomicU64,
        pad: Pad<5>,
    }
}

const WHAT: &str = "barrier";

/// A point at which `n` threads of all processes wait for each other; then all go on, and it serves again.
///
/// One that dies while it waits has not arrived: the others wait for somebody in its place. Memory: 128 bytes.
///
/// # Examples
/// ```
/// let alone = commons::Barrier::new(1)?;
/// assert!(alone.wait()?, "the only one is the leader");
/// # Ok::<(), commons::Error>(())
/// ```
#[derive(Clone)]
pub struct Barrier {
    place: Place<BarrierShared>,
    door_key: Key,
    key: Key,
}

impl Barrier {
    /// Makes a barrier for `n` threads, 1 ..= 4095, shared with every process forked from now on.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; [`Error::AfterFork`] in a worker of a server, where it would be shared with nobody; [`Error::System`] when
    /// the kernel has no memory or file descriptors left.
    ///
    /// # Examples
    /// ```
    /// assert!(commons::Barrier::new(0).is_err());
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new(n: u32) -> Result<Barrier> {
        Barrier::check(n)?;
        Ok(Barrier::at(place_in_common(Kind::Barrier)?, n))
    }

    /// Makes a barrier in `region`. 128 bytes there.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the region is full, and as [`Barrier::new`].
    ///
    /// # Examples
    /// ```
    /// let region = commons::Region::new("barriers", 128)?;
    /// assert!(commons::Barrier::new_in(&region, 1)?.wait()?);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new_in(region: &Region, n: u32) -> Result<Barrier> {
        Barrier::check(n)?;
        Ok(Barrier::at(Place::new(region, Kind::Barrier)?, n))
    }

    fn check(n: u32) -> Result<()> {
        let max = MAX_PARTICIPANTS as u64;
        if n == 0 || u64::from(n) > max {
            return Err(Error::OutOfRange { what: "the number of threads at a barrier", value: n.into(), min: 1, max });
        }
        prepare()
    }

    fn at(place: Place<BarrierShared>, n: u32) -> Barrier {
        // Relaxed: nobody else has the barrier yet; others get it by a fork.
        place.parties.store(n.into(), Ordering::Relaxed);
        let (door_key, key) = (place.key(place.door.cell()), place.key(&place.round));
        Barrier { place, door_key, key }
    }

    /// Waits until `n` threads wait here; true for the one that came last.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`].
    ///
    /// # Examples
    /// ```
    /// let barrier = commons::Barrier::new(2)?;
    /// let other = barrier.clone();
    /// let thread = std::thread::spawn(move || other.wait());
    /// let leader = barrier.wait()?;
    /// assert_ne!(leader, thread.join().unwrap()?, "one of the two leads");
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn wait(&self) -> Result<bool> {
        self.wait_within(Patience::Endless)
    }

    /// The same, for at most `timeout`; one that gives up has not arrived.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`Barrier::wait`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let barrier = commons::Barrier::new(2)?;
    /// assert!(matches!(barrier.wait_timeout(Duration::from_millis(5)), Err(commons::Error::Timeout { .. })));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        self.wait_within(Patience::lasting(timeout))
    }

    fn wait_within(&self, patience: Patience) -> Result<bool> {
        let seat = me()?;
        let shared = &self.place;
        let door = shared.door.acquire(self.door_key, WHAT, patience)?;
        // Relaxed: under the door, under which alone it changes.
        let round = shared.round.load(Ordering::Relaxed);
        let others = shared.parties.load(Ordering::Relaxed) - 1;
        // The close look costs 5 µs a thread, and only matters to the one that may be the last.
        let last = self.asleep(round, false) >= others && self.asleep(round, true) >= others;
        if last {
            // The commit: with this store all have arrived. Release: pairs with the Acquire below; what each did before is seen by all, for
            // each passed through the door before this one.
            shared.round.store(round.wrapping_add(1), Ordering::Release);
        } else {
            seat.lie_down(self.key, round as u32);
        }
        shared.door.release(door);
        if last {
            futex::wake(&shared.round, u32::MAX);
            return Ok(true);
        }
        let mut slices = Slices::new();
        // Acquire: pairs with the Release above.
        while shared.round.load(Ordering::Acquire) == round {
            if let Err(over) = patience.check() {
                return self.give_up(round, over);
            }
            let _ = slices.rest(&shared.round, round, patience);
        }
        seat.get_up();
        Ok(false)
    }

    /// Leaves before the round is complete, unless it just became so.
    #[cold]
    fn give_up(&self, round: u64, over: Error) -> Result<bool> {
        let seat = me()?;
        // Under the door, so that nobody counts one who is leaving. If its owner is stopped, the entry goes all the same: who has counted it
        // completes the round, and who has not waits for one more.
        let door = self.place.door.acquire(self.door_key, WHAT, Patience::lasting(DOOR)).ok();
        // Acquire: as in `wait_within`.
        let complete = self.place.round.load(Ordering::Acquire) != round;
        seat.get_up();
        if let Some(door) = door {
            self.place.door.release(door);
        }
        if complete { Ok(false) } else { Err(over) }
    }

    /// How many threads have arrived in this round and are not known, or with a close look not found, to be dead; under the door.
    fn asleep(&self, round: u64, closely: bool) -> u64 {
        let mut count = 0;
        each_live(|other| {
            if other.sleeps_on(self.key) == Some(round as u32) && (!closely || other.is_alive()) {
                count += 1;
            }
            true
        });
        count
    }
}

const DOOR: Duration = Duration::from_millis(20);

impl std::fmt::Debug for Barrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Relaxed: a figure for a log.
        f.debug_struct("Barrier").field("parties", &self.place.parties.load(Ordering::Relaxed)).finish()
    }
}
