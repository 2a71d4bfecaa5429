//! The process-shared, robust mutual exclusion lock.

use std::marker::PhantomData;
use std::time::Duration;

use crate::Result;
use crate::robust::{Owned, Patience, RobustLock, at_once, prepare};
use crate::shm::{Key, Kind, Pad, Place, Region, place_in_common, shared};

shared! {
    struct LockShared {
        lock: RobustLock,
        pad: Pad<7>,
    }
}

const WHAT: &str = "lock";

/// A lock that one thread of all processes holds at a time, and that the death of its holder does not keep.
///
/// A holder that dies, anywhere, hands the lock on: the next holder's [`recovered`](LockGuard::recovered) is true. A holder that lives is
/// never robbed, even if it is stopped; bound the wait with [`lock_timeout`](Lock::lock_timeout). Handles are cheap to clone and valid in
/// every process forked after the lock was made. Memory: 128 bytes.
///
/// # Examples
/// ```
/// use commons::{AtomicLong, Lock};
///
/// let (lock, low, high) = (Lock::new()?, AtomicLong::new(0)?, AtomicLong::new(0)?);
/// let guard = lock.lock()?;
/// if guard.recovered() {
///     high.set(low.get()); // the last holder died between the two
/// }
/// low.add(1);
/// high.add(1);
/// # Ok::<(), commons::Error>(())
/// ```
#[derive(Clone)]
pub struct Lock {
    place: Place<LockShared>,
    key: Key,
}

/// Holds a [`Lock`] until it is dropped. Bound to its thread; in a process forked meanwhile, the copy does nothing.
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'a> {
    lock: &'a Lock,
    owned: Option<Owned>,
    recovered: bool,
    /// A lock is owned by a thread, so its guard must not move to another.
    not_send: PhantomData<*mut ()>,
}

impl Lock {
    /// Makes a lock, shared with every process forked from now on.
    ///
    /// # Errors
    /// [`Error::AfterFork`](crate::Error::AfterFork) in a worker of a server, where it would be shared with nobody;
    /// [`Error::System`](crate::Error::System) when the kernel has no memory or file descriptors left.
    ///
    /// # Examples
    /// ```
    /// let lock = commons::Lock::new()?;
    /// assert!(!lock.lock()?.recovered());
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new() -> Result<Lock> {
        prepare()?;
        Ok(Lock::at(place_in_common(Kind::Lock)?))
    }

    /// Makes a lock in `region`. 128 bytes there.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) when the region is full, and as [`Lock::new`].
    ///
    /// # Examples
    /// ```
    /// let region = commons::Region::new("locks", 256)?;
    /// let (a, b) = (commons::Lock::new_in(&region)?, commons::Lock::new_in(&region)?);
    /// let _both = (a.lock()?, b.lock()?);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new_in(region: &Region) -> Result<Lock> {
        prepare()?;
        Ok(Lock::at(Place::new(region, Kind::Lock)?))
    }

    fn at(place: Place<LockShared>) -> Lock {
        let key = place.key(place.lock.cell());
        Lock { place, key }
    }

    /// Takes the lock, waiting until it is free or its owner has died.
    ///
    /// # Errors
    /// [`Error::WouldDeadlock`](crate::Error::WouldDeadlock) when this thread holds it already;
    /// [`Error::TooManyParticipants`](crate::Error::TooManyParticipants).
    ///
    /// # Examples
    /// ```
    /// let lock = commons::Lock::new()?;
    /// let guard = lock.lock()?;
    /// assert!(matches!(lock.lock(), Err(commons::Error::WouldDeadlock { .. })));
    /// drop(guard);
    /// # Ok::<(), commons::Error>(())
    /// ```
    #[inline]
    pub fn lock(&self) -> Result<LockGuard<'_>> {
        // Returned from here, not merged with what the slow path returns: else the guard would pass through memory, in pieces of one size
        // and then of another, which the processor waits for longer than all the rest takes.
        if let Some(guard) = self.acquire_at_once() {
            return Ok(guard);
        }
        self.acquire(Patience::Endless)
    }

    /// Takes the lock if that needs no waiting: it is free, or its owner is found dead. None when a living thread owns it.
    ///
    /// # Errors
    /// As [`Lock::lock`].
    ///
    /// # Examples
    /// ```
    /// let lock = commons::Lock::new()?;
    /// assert!(lock.try_lock()?.is_some());
    /// # Ok::<(), commons::Error>(())
    /// ```
    #[inline]
    pub fn try_lock(&self) -> Result<Option<LockGuard<'_>>> {
        if let Some(guard) = self.acquire_at_once() {
            return Ok(Some(guard));
        }
        at_once(self.acquire(Patience::None))
    }

    /// Takes the lock, waiting at most `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`](crate::Error::Timeout), and as [`Lock::lock`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let lock = commons::Lock::new()?;
    /// let _guard = lock.lock_timeout(Duration::from_millis(5))?;
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>> {
        self.acquire(Patience::lasting(timeout))
    }

    #[inline(always)]
    fn acquire_at_once(&self) -> Option<LockGuard<'_>> {
        let owned = self.place.lock.acquire_at_once(self.key)?;
        Some(LockGuard { lock: self, owned: Some(owned), recovered: false, not_send: PhantomData })
    }

    #[cold]
    fn acquire(&self, patience: Patience) -> Result<LockGuard<'_>> {
        let owned = self.place.lock.acquire(self.key, WHAT, patience)?;
        let recovered = owned.recovered();
        Ok(LockGuard { lock: self, owned: Some(owned), recovered, not_send: PhantomData })
    }
}

impl LockGuard<'_> {
    /// Whether the previous owner died holding the lock: what it protects may be half done, and this owner is the one to repair it.
    pub fn recovered(&self) -> bool {
        self.recovered
    }
}

impl Drop for LockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(owned) = self.owned.take() {
            self.lock.place.lock.release(owned);
        }
    }
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock").field("locked", &self.place.lock.load().owner().is_some()).finish()
    }
}

impl std::fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockGuard").field("recovered", &self.recovered).finish()
    }
}
