//! The process-shared, robust read-write lock. See the essay in `mod.rs`.

use std::marker::PhantomData;
use std::time::Duration;

use crate::robust::{
    Claim, Held, MAX_HELD, Owned, Patience, Rest, RobustLock, Seat, Slices, TURN, at_once, each_live, me, prepare,
    seated,
};
use crate::shm::{Key, Kind, Pad, Place, Region, place_in_common, shared};
use crate::sync::{AtomicU64, Ordering, fence, futex};
use crate::{Error, Result};

shared! {
    struct RwLockShared {
        lock: RobustLock,
        drain: AtomicU64,
        pad: Pad<6>,
    }
}

const WHAT: &str = "read-write lock";

/// A lock that many threads of all processes read under at once, or one writes under; no death keeps it.
///
/// Readers write nothing that is shared, so they do not slow each other down; a writer looks through the ledgers of all threads that take
/// part (a cache line each). Neither kind starves the other. A holder that lives is never robbed; bound the wait with the `_timeout`
/// forms. Memory: 128 bytes.
///
/// # Examples
/// ```
/// let lock = commons::RwLock::new()?;
/// assert!(!lock.read()?.recovered());
/// let writing = lock.write()?;
/// # drop(writing);
/// # Ok::<(), commons::Error>(())
/// ```
#[derive(Clone)]
pub struct RwLock {
    place: Place<RwLockShared>,
    lock_key: Key,
    drain_key: Key,
}

/// Reads under a [`RwLock`] until it is dropped. Bound to its thread; in a process forked meanwhile, the copy does nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct ReadGuard<'a> {
    lock: &'a RwLock,
    seat: Seat,
    held: Held,
    recovered: bool,
    not_send: PhantomData<*mut ()>,
}

/// Writes under a [`RwLock`] until it is dropped. Bound to its thread; in a process forked meanwhile, the copy does nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct WriteGuard<'a> {
    lock: &'a RwLock,
    owned: Option<Owned>,
    recovered: bool,
    not_send: PhantomData<*mut ()>,
}

impl RwLock {
    /// Makes a lock, shared with every process forked from now on.
    ///
    /// # Errors
    /// [`Error::AfterFork`] in a worker of a server, where it would be shared with nobody; [`Error::System`] when the kernel has no memory
    /// or file descriptors left.
    ///
    /// # Examples
    /// ```
    /// let lock = commons::RwLock::new()?;
    /// assert!(lock.try_write()?.is_some());
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new() -> Result<RwLock> {
        prepare()?;
        Ok(RwLock::at(place_in_common(Kind::RwLock)?))
    }

    /// Makes a lock in `region`. 128 bytes there.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the region is full, and as [`RwLock::new`].
    ///
    /// # Examples
    /// ```
    /// let region = commons::Region::new("locks", 128)?;
    /// let lock = commons::RwLock::new_in(&region)?;
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new_in(region: &Region) -> Result<RwLock> {
        prepare()?;
        Ok(RwLock::at(Place::new(region, Kind::RwLock)?))
    }

    fn at(place: Place<RwLockShared>) -> RwLock {
        let (lock_key, drain_key) = (place.key(place.lock.cell()), place.key(&place.drain));
        RwLock { place, lock_key, drain_key }
    }

    /// Waits until no writer holds the lock, and reads under it.
    ///
    /// # Errors
    /// [`Error::WouldDeadlock`] when this thread reads or writes under it already; [`Error::TooManyHeld`];
    /// [`Error::TooManyParticipants`].
    ///
    /// # Examples
    /// ```
    /// let lock = commons::RwLock::new()?;
    /// let _reading = lock.read()?;
    /// assert!(matches!(lock.write(), Err(commons::Error::WouldDeadlock { .. })));
    /// # Ok::<(), commons::Error>(())
    /// ```
    #[inline]
    pub fn read(&self) -> Result<ReadGuard<'_>> {
        // Returned from here, not merged with what the slow path returns: else the guard would pass through memory, in pieces of one size
        // and then of another, which the processor waits for longer than all the rest takes.
        if let Some(guard) = self.read_at_once() {
            return Ok(guard);
        }
        self.read_slowly(Patience::Endless)
    }

    /// Reads under the lock if that needs no waiting; None when a living writer has it.
    ///
    /// # Errors
    /// As [`RwLock::read`].
    ///
    /// # Examples
    /// ```
    /// let lock = commons::RwLock::new()?;
    /// assert!(lock.try_read()?.is_some());
    /// # Ok::<(), commons::Error>(())
    /// ```
    #[inline]
    pub fn try_read(&self) -> Result<Option<ReadGuard<'_>>> {
        if let Some(guard) = self.read_at_once() {
            return Ok(Some(guard));
        }
        at_once(self.read_slowly(Patience::None))
    }

    /// Reads under the lock, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`RwLock::read`].
    ///
    /// # Examples
    /// ```
    /// let lock = commons::RwLock::new()?;
    /// let _reading = lock.read_timeout(std::time::Duration::from_millis(5))?;
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn read_timeout(&self, timeout: Duration) -> Result<ReadGuard<'_>> {
        if let Some(guard) = self.read_at_once() {
            return Ok(guard);
        }
        self.read_slowly(Patience::lasting(timeout))
    }

    /// Waits until nobody else holds the lock, and writes under it.
    ///
    /// # Errors
    /// [`Error::WouldDeadlock`] when this thread reads or writes under it already; [`Error::TooManyParticipants`].
    ///
    /// # Examples
    /// ```
    /// let lock = commons::RwLock::new()?;
    /// let writing = lock.write()?;
    /// assert!(!writing.recovered());
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn write(&self) -> Result<WriteGuard<'_>> {
        self.write_within(Patience::Endless)
    }

    /// Writes under the lock if that needs no waiting; None when a living thread reads or writes under it.
    ///
    /// # Errors
    /// As [`RwLock::write`].
    ///
    /// # Examples
    /// ```
    /// let lock = commons::RwLock::new()?;
    /// assert!(lock.try_write()?.is_some());
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn try_write(&self) -> Result<Option<WriteGuard<'_>>> {
        at_once(self.write_within(Patience::None))
    }

    /// Writes under the lock, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`], and as [`RwLock::write`].
    ///
    /// # Examples
    /// ```
    /// let lock = commons::RwLock::new()?;
    /// let _writing = lock.write_timeout(std::time::Duration::from_millis(5))?;
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn write_timeout(&self, timeout: Duration) -> Result<WriteGuard<'_>> {
        self.write_within(Patience::lasting(timeout))
    }

    /// The fast path: a thread that has its seat and room in its ledger, and no writer in sight. None is no answer, but a case for
    /// `read_slowly`.
    #[inline(always)]
    fn read_at_once(&self) -> Option<ReadGuard<'_>> {
        let seat = seated()?;
        if self.place.lock.load().owner().is_some() || self.reads(seat) {
            return None;
        }
        let held = seat.note_at_once(Claim::Read, self.drain_key, 1)?;
        self.enter(seat, held)
    }

    #[cold]
    fn read_slowly(&self, patience: Patience) -> Result<ReadGuard<'_>> {
        let seat = self.outsider()?;
        let held = self.note(seat)?;
        match self.enter(seat, held) {
            Some(guard) => Ok(guard),
            None => self.read_through_the_lock(patience, seat),
        }
    }

    /// The second half of coming in: the reader is noted, and goes again if there is a writer.
    #[inline(always)]
    fn enter(&self, seat: Seat, held: Held) -> Option<ReadGuard<'_>> {
        // Pairs with the fence in `drained`: of a reader that notes itself and a writer that takes the lock at the same time, at least one
        // sees the other. An AcqRel pair would let both look at the past.
        fence(Ordering::SeqCst);
        let word = self.place.lock.load();
        if word.owner().is_none() {
            return Some(self.read_guard(seat, held, word.dirty()));
        }
        self.leave(seat, held);
        None
    }

    #[inline(always)]
    fn reads(&self, seat: Seat) -> bool {
        seat.find(Claim::Read, self.drain_key).is_some()
    }

    /// The calling thread's seat, unless it reads under this lock already. (That it writes, the lock's own word tells.)
    fn outsider(&self) -> Result<Seat> {
        let seat = me()?;
        if self.reads(seat) { Err(Error::WouldDeadlock { what: WHAT }) } else { Ok(seat) }
    }

    fn note(&self, seat: Seat) -> Result<Held> {
        seat.note(Claim::Read, self.drain_key, 1).ok_or(Error::TooManyHeld { max: MAX_HELD })
    }

    /// The slow way in: queue like a writer, and note oneself while owning the lock.
    #[cold]
    fn read_through_the_lock(&self, patience: Patience, seat: Seat) -> Result<ReadGuard<'_>> {
        let owned = self.place.lock.acquire(self.lock_key, WHAT, patience)?;
        let recovered = owned.recovered();
        let noted = self.note(seat);
        if recovered {
            // A reader repairs nothing, so it passes the news on.
            self.place.lock.release_dirty(owned);
        } else {
            self.place.lock.release(owned);
        }
        Ok(self.read_guard(seat, noted?, recovered))
    }

    fn read_guard(&self, seat: Seat, held: Held, recovered: bool) -> ReadGuard<'_> {
        ReadGuard { lock: self, seat, held, recovered, not_send: PhantomData }
    }

    /// The reader goes, and tells a writer that waits for that.
    #[inline(always)]
    fn leave(&self, seat: Seat, held: Held) {
        // It reads no more, and still says whom to wake: burial does it for one that dies before it has.
        seat.recount(held, 0);
        // Pairs with the fence in `drained`: either the writer sees that the reader is gone, or this sees that the writer may sleep.
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence.
        if self.place.drain.load(Ordering::Relaxed) & 1 == 1 {
            // Release: pairs with the writer's load; what was read is read before anything is written anew.
            self.place.drain.fetch_add(TURN, Ordering::Release);
            futex::wake(&self.place.drain, 1);
        }
        seat.strike(held);
    }

    fn write_within(&self, patience: Patience) -> Result<WriteGuard<'_>> {
        self.outsider()?;
        let owned = self.place.lock.acquire(self.lock_key, WHAT, patience)?;
        let recovered = owned.recovered();
        let guard = WriteGuard { lock: self, owned: Some(owned), recovered, not_send: PhantomData };
        match self.drained(patience) {
            Ok(()) => Ok(guard),
            Err(over) => {
                guard.abandon();
                Err(over)
            }
        }
    }

    /// Waits, owning the lock, until the last reader has left.
    fn drained(&self, patience: Patience) -> Result<()> {
        let drain = &self.place.drain;
        // Who only tries has no second look, so its first one is close.
        let mut closely = matches!(patience, Patience::None);
        let mut slices = Slices::new();
        loop {
            // The bit first, then the look, and the fence in between: see `leave`, and for the lock itself `enter`.
            // Relaxed: ordered by the fence.
            let armed = drain.fetch_or(1, Ordering::Relaxed) | 1;
            fence(Ordering::SeqCst);
            let mut reader = false;
            each_live(|other| {
                let reads = other.holds(Claim::Read, self.drain_key).is_some_and(|count| count > 0);
                reader = reads && (!closely || other.is_alive());
                !reader
            });
            let over = if reader { patience.check() } else { Ok(()) };
            if !reader || over.is_err() {
                // Relaxed: a bit too many costs a wake-up for nobody, and nobody else sets it while the lock is owned.
                drain.fetch_and(!1, Ordering::Relaxed);
                return over;
            }
            closely = slices.rest(drain, armed, patience) == Rest::SliceOver;
        }
    }
}

impl ReadGuard<'_> {
    /// Whether a writer died holding the lock, and none has had it since: what the lock protects may be half written.
    pub fn recovered(&self) -> bool {
        self.recovered
    }
}

impl Drop for ReadGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // In a process forked meanwhile, the reader is the parent.
        if seated().is_some_and(|seat| seat.tag() == self.seat.tag()) {
            self.lock.leave(self.seat, self.held);
        }
    }
}

impl WriteGuard<'_> {
    /// Whether the previous writer died holding the lock: what it protects may be half written, and this one is to repair it.
    pub fn recovered(&self) -> bool {
        self.recovered
    }

    /// Gives the lock back without having written: news of a death is passed on.
    fn abandon(mut self) {
        if let Some(owned) = self.owned.take() {
            if self.recovered { self.lock.place.lock.release_dirty(owned) } else { self.lock.place.lock.release(owned) }
        }
    }
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        if let Some(owned) = self.owned.take() {
            self.lock.place.lock.release(owned);
        }
    }
}

impl std::fmt::Debug for RwLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RwLock").field("writing", &self.place.lock.load().owner().is_some()).finish()
    }
}

impl std::fmt::Debug for ReadGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadGuard").field("recovered", &self.recovered).finish()
    }
}

impl std::fmt::Debug for WriteGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteGuard").field("recovered", &self.recovered).finish()
    }
}
