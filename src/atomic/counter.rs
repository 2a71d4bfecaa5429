//! The striped counter: a cache line a participant.

use crate::Result;
use crate::robust::{MAX_PARTICIPANTS, Seat, me, prepare, seated, slots_in_use};
use crate::shm::{Kind, Pad, Region, Row, shared};
use crate::sync::{AtomicU64, Ordering, owned};

shared! {
    struct Stripe {
        sum: AtomicU64,
        pad: Pad<7>,
    }
}

/// A count that any number of processes raise at once without ever meeting: each thread adds to a cache line of its own.
///
/// `add` costs a plain load and store; `get` reads a line for each thread that may have taken part, so read it seldom. Memory: 256 KiB
/// of address space, of which only the pages that are touched are backed (one page for the first 63 threads).
///
/// # Examples
/// ```
/// use commons::Counter;
///
/// let total = Counter::new()?;
/// total.add(2);
/// total.add(-1);
/// assert_eq!(total.get(), 1);
/// # Ok::<(), commons::Error>(())
/// ```
#[derive(Clone)]
pub struct Counter {
    stripes: Row<Stripe>,
}

/// Stripe 0 is nobody's own: threads that find no free slot share it.
const STRIPES: usize = MAX_PARTICIPANTS + 1;

impl Counter {
    /// Makes a counter of 0, shared with every process forked from now on.
    ///
    /// # Errors
    /// [`Error::AfterFork`](crate::Error::AfterFork) in a worker of a server, [`Error::System`](crate::Error::System) when the kernel
    /// has no memory or file descriptors left.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(commons::Counter::new()?.get(), 0);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new() -> Result<Counter> {
        Counter::new_in(&Region::new("counter", Region::bytes_for::<Stripe>(STRIPES))?)
    }

    /// Makes a counter in `region`. 262 208 bytes there.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) when the region is full, and as [`Counter::new`].
    ///
    /// # Examples
    /// ```
    /// let region = commons::Region::new("counters", 1 << 20)?;
    /// let (a, b) = (commons::Counter::new_in(&region)?, commons::Counter::new_in(&region)?);
    /// a.add(1);
    /// assert_eq!((a.get(), b.get()), (1, 0));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new_in(region: &Region) -> Result<Counter> {
        prepare()?;
        Ok(Counter { stripes: Row::new(region, Kind::Counter, STRIPES)? })
    }

    /// Adds `n`, which may be negative; wraps around at 64 bits.
    ///
    /// # Examples
    /// ```
    /// let n = commons::Counter::new()?;
    /// n.add(5);
    /// assert_eq!(n.get(), 5);
    /// # Ok::<(), commons::Error>(())
    /// ```
    #[inline]
    pub fn add(&self, n: i64) {
        match seated() {
            Some(seat) => self.add_to(seat, n),
            None => self.add_newly_seated(n),
        }
    }

    #[inline(always)]
    fn add_to(&self, seat: Seat, n: i64) {
        // One writer a stripe: its tenant. Who had the slot before ordered its last store before giving it up.
        let sum = &self.stripes[seat.index()].sum;
        // Release: pairs with the Acquire in `get`.
        sum.store(owned(sum).wrapping_add(n as u64), Ordering::Release);
    }

    #[cold]
    fn add_newly_seated(&self, n: i64) {
        match me() {
            Ok(seat) => self.add_to(seat, n),
            Err(_) => {
                // Release: pairs with the Acquire in `get`.
                self.stripes[0].sum.fetch_add(n as u64, Ordering::Release);
            }
        }
    }

    /// The sum of all that was added; what is added meanwhile may or may not be in it.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(commons::Counter::new()?.get(), 0);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn get(&self) -> i64 {
        let stripes = self.stripes[..slots_in_use()].iter();
        // Acquire: pairs with the Release of `add`.
        stripes.fold(0, |sum: u64, stripe| sum.wrapping_add(stripe.sum.load(Ordering::Acquire))) as i64
    }
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Counter").field(&self.get()).finish()
    }
}
