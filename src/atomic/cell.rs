//! The public atomics: numbers in shared memory, each with a waiting room.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::room::{Cell, Width};
use crate::Result;
use crate::robust::prepare;
use crate::shm::{Kind, Pad, Place, Region, place_in_common, shared};
use crate::sync::{AtomicU64, Ordering, process_static, size};
use crate::sys::fork::{gated, structures_allowed};

shared! {
    /// A cell with a cache line to itself.
    struct Line {
        cell: Cell,
        pad: Pad<4>,
    }
}

const LINES: usize = size(63, 2);
const PACKED: usize = size(127, 2);

shared! {
    /// A page of cells that are given out one by one; 4096 bytes.
    struct Page {
        /// Cells given out, in every process that has the page.
        next: AtomicU64,
        pad: Pad<7>,
        lines: [Line; LINES],
    }
}

shared! {
    /// The same, two cells a cache line.
    struct PackedPage {
        next: AtomicU64,
        pad: Pad<3>,
        cells: [Cell; PACKED],
    }
}

/// The pages from which a process takes its next cells.
struct Pages {
    lines: Option<Place<Page>>,
    packed: Option<Place<PackedPage>>,
}

process_static! {
    /// Locked only inside the gate, so that a fork never copies it locked.
    static PAGES: Mutex<Pages> = Mutex::new(Pages { lines: None, packed: None });
}

/// The next number of a page, or None when it is used up.
fn next(next: &AtomicU64, len: usize) -> Option<usize> {
    // Relaxed: a number that nobody else gets; the cell behind it is still zero.
    let index = next.fetch_add(1, Ordering::Relaxed);
    usize::try_from(index).ok().filter(|index| *index < len)
}

fn new_cell() -> Result<Place<Cell>> {
    prepare()?;
    structures_allowed("an atomic")?;
    let page = gated(|| PAGES.lock().unwrap_or_else(PoisonError::into_inner).lines.clone());
    if let Some(page) = page
        && let Some(index) = next(&page.next, LINES)
    {
        return Ok(page.part(|page| &page.lines[index].cell));
    }
    let page: Place<Page> = place_in_common(Kind::Cells)?;
    page.next.store(1, Ordering::Relaxed); // not yet seen by anybody else
    let cell = page.part(|page| &page.lines[0].cell);
    gated(|| PAGES.lock().unwrap_or_else(PoisonError::into_inner).lines = Some(page));
    Ok(cell)
}

fn new_packed_cell() -> Result<Place<Cell>> {
    prepare()?;
    structures_allowed("an atomic")?;
    let page = gated(|| PAGES.lock().unwrap_or_else(PoisonError::into_inner).packed.clone());
    if let Some(page) = page
        && let Some(index) = next(&page.next, PACKED)
    {
        return Ok(page.part(|page| &page.cells[index]));
    }
    let page: Place<PackedPage> = place_in_common(Kind::Cells)?;
    page.next.store(1, Ordering::Relaxed); // not yet seen by anybody else
    let cell = page.part(|page| &page.cells[0]);
    gated(|| PAGES.lock().unwrap_or_else(PoisonError::into_inner).packed = Some(page));
    Ok(cell)
}

fn cell_in(region: &Region) -> Result<Place<Cell>> {
    prepare()?;
    Ok(Place::<Line>::new(region, Kind::Cells)?.part(|line| &line.cell))
}

/// The two public types differ in their number and in nothing else.
macro_rules! atomic {
    ($(#[$meta:meta])* $name:ident($int:ty), $width:expr) => {
        $(#[$meta])*
        #[derive(Clone)]
        pub struct $name {
            cell: Place<Cell>,
        }

        impl $name {
            const WIDTH: Width = $width;

            /// Makes one with a cache line to itself, shared with every process forked from now on. 64 bytes.
            ///
            /// # Errors
            /// [`Error::AfterFork`](crate::Error::AfterFork) in a worker of a server, where it would be shared with nobody;
            /// [`Error::System`](crate::Error::System) when the kernel has no memory or file descriptors left.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("let hits = commons::", stringify!($name), "::new(1)?;")]
            /// assert_eq!(hits.add(199), 200);
            /// # Ok::<(), commons::Error>(())
            /// ```
            pub fn new(value: $int) -> Result<Self> {
                Ok(Self::with(new_cell()?, value))
            }

            /// Makes one in 32 bytes, beside another: for many that are seldom written at the same time. Two that are written by
            /// different processors at once slow each other down.
            ///
            /// # Errors
            #[doc = concat!("As [`", stringify!($name), "::new`].")]
            ///
            /// # Examples
            /// ```
            #[doc = concat!("let many = (0..1000).map(|_| commons::", stringify!($name), "::packed(0)).collect::<Result<Vec<_>, _>>()?;")]
            /// assert_eq!(many[999].add(3), 3);
            /// # Ok::<(), commons::Error>(())
            /// ```
            pub fn packed(value: $int) -> Result<Self> {
                Ok(Self::with(new_packed_cell()?, value))
            }

            /// Makes one in `region`. 128 bytes there.
            ///
            /// # Errors
            /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) when the region is full, and as
            #[doc = concat!("[`", stringify!($name), "::new`].")]
            ///
            /// # Examples
            /// ```
            /// let region = commons::Region::new("mine", 128)?;
            #[doc = concat!("let first = commons::", stringify!($name), "::new_in(&region, 7)?;")]
            /// assert_eq!(first.get(), 7);
            #[doc = concat!("assert!(commons::", stringify!($name), "::new_in(&region, 7).is_err(), \"the region is full\");")]
            /// # Ok::<(), commons::Error>(())
            /// ```
            pub fn new_in(region: &Region, value: $int) -> Result<Self> {
                Ok(Self::with(cell_in(region)?, value))
            }

            fn with(cell: Place<Cell>, value: $int) -> Self {
                let this = Self { cell };
                this.set(value);
                this
            }

            /// The value.
            ///
            /// What the writer of that value did before is seen by the reader (acquire).
            ///
            /// # Examples
            /// ```
            #[doc = concat!("assert_eq!(commons::", stringify!($name), "::new(5)?.get(), 5);")]
            /// # Ok::<(), commons::Error>(())
            /// ```
            #[inline]
            pub fn get(&self) -> $int {
                // Acquire: pairs with the Release of `set`, `add`, `sub` and `cmpset`.
                self.cell.value.load(Ordering::Acquire) as $int
            }

            /// Sets the value; wakes nobody.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("let n = commons::", stringify!($name), "::new(5)?;")]
            /// n.set(6);
            /// assert_eq!(n.get(), 6);
            /// # Ok::<(), commons::Error>(())
            /// ```
            #[inline]
            pub fn set(&self, value: $int) {
                // Release: pairs with the Acquire of `get`.
                self.cell.value.store(value as u64, Ordering::Release);
            }

            /// Adds `n` and returns the new value; wraps around. Wakes nobody.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("let n = commons::", stringify!($name), "::new(", stringify!($int), "::MAX)?;")]
            #[doc = concat!("assert_eq!(n.add(1), ", stringify!($int), "::MIN);")]
            /// # Ok::<(), commons::Error>(())
            /// ```
            #[inline]
            pub fn add(&self, n: $int) -> $int {
                // AcqRel: pairs with itself and with `get`; a counter may publish what was done before it was raised.
                (self.cell.value.fetch_add(n as u64, Ordering::AcqRel) as $int).wrapping_add(n)
            }

            /// Subtracts `n` and returns the new value; wraps around. Wakes nobody.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("let n = commons::", stringify!($name), "::new(200)?;")]
            /// assert_eq!(n.sub(35), 165);
            /// # Ok::<(), commons::Error>(())
            /// ```
            #[inline]
            pub fn sub(&self, n: $int) -> $int {
                // AcqRel: as in `add`.
                (self.cell.value.fetch_sub(n as u64, Ordering::AcqRel) as $int).wrapping_sub(n)
            }

            /// Sets the value to `new` if it is `expected`; whether it was. Wakes nobody.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("let n = commons::", stringify!($name), "::new(165)?;")]
            /// assert!(n.cmpset(165, 1));
            /// assert!(!n.cmpset(1555, 0));
            /// assert_eq!(n.get(), 1);
            /// # Ok::<(), commons::Error>(())
            /// ```
            #[inline]
            pub fn cmpset(&self, expected: $int, new: $int) -> bool {
                // AcqRel and Acquire: as in `add` and `get`.
                self.cell.exchange(Ordering::AcqRel, |seen| (seen as $int == expected).then_some(new as u64)).is_some()
            }

            /// Takes a permit: lowers a value above 0 by one and returns true at once; otherwise sleeps until a
            #[doc = concat!("[`wakeup`](", stringify!($name), "::wakeup)")]
            /// grants one. False only after the full `timeout`; with None it waits until it is granted.
            ///
            /// Signals do not end it early. A sleeper is woken once its permit is there: at once, or, if the process that woke it died while
            /// doing so, within 20 ms. When 4095 threads take part already it cannot register; it then looks every 20 ms for a value above 0.
            ///
            /// # Examples
            /// ```
            /// use std::time::Duration;
            #[doc = concat!("let n = commons::", stringify!($name), "::new(1)?;")]
            /// assert!(n.wait(None), "1 becomes 0");
            /// assert!(!n.wait(Some(Duration::from_millis(1))), "nobody wakes it");
            /// # Ok::<(), commons::Error>(())
            /// ```
            pub fn wait(&self, timeout: Option<Duration>) -> bool {
                Cell::wait(&self.cell, Self::WIDTH, timeout)
            }

            /// Grants one permit to each of at most `n` sleepers of
            #[doc = concat!("[`wait`](", stringify!($name), "::wait)")]
            /// and returns how many were granted; each of them returns true. With nobody asleep a value of 0 becomes 1, so that the next
            /// `wait` returns at once, and any other value stays.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("let n = commons::", stringify!($name), "::new(0)?;")]
            /// assert_eq!(n.wakeup(1), 0, "nobody sleeps");
            /// assert_eq!(n.get(), 1);
            /// assert!(n.wait(None));
            /// # Ok::<(), commons::Error>(())
            /// ```
            pub fn wakeup(&self, n: usize) -> usize {
                Cell::wakeup(&self.cell, Self::WIDTH, n)
            }

            /// Sleeps while the value is `value`, in the manner of a futex; true when it is another, false after the full `timeout`.
            ///
            #[doc = concat!("Who changes the value calls [`notify`](", stringify!($name), "::notify)")]
            /// afterwards; no such call is lost. A change without one is noticed within 20 ms.
            ///
            /// # Examples
            /// ```
            /// use std::time::Duration;
            #[doc = concat!("let state = commons::", stringify!($name), "::new(3)?;")]
            /// assert!(state.wait_while(4, None), "it is not 4");
            /// assert!(!state.wait_while(3, Some(Duration::from_millis(1))));
            /// # Ok::<(), commons::Error>(())
            /// ```
            pub fn wait_while(&self, value: $int, timeout: Option<Duration>) -> bool {
                self.cell.wait_while(|seen| seen as $int == value, timeout)
            }

            /// Wakes at most `n` of those who sleep in
            #[doc = concat!("[`wait_while`](", stringify!($name), "::wait_while);")]
            /// returns how many were woken. Makes no system call when nobody sleeps.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("let state = commons::", stringify!($name), "::new(3)?;")]
            /// state.set(4);
            /// assert_eq!(state.notify(usize::MAX), 0, "nobody sleeps");
            /// # Ok::<(), commons::Error>(())
            /// ```
            pub fn notify(&self, n: usize) -> usize {
                self.cell.notify(n)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.get()).finish()
            }
        }
    };
}

atomic! {
    /// A 32-bit unsigned number that forked processes share, with waiting and waking.
    ///
    /// Handles are cheap to clone and valid in every process forked after the number was made. Every operation happens at one instant;
    /// a process that dies anywhere leaves the number as it was before or after. Memory: 64 bytes, or 32 [packed](Atomic::packed).
    ///
    /// # Examples
    /// ```
    /// use commons::Atomic;
    ///
    /// let hits = Atomic::new(0)?;
    /// hits.add(2);
    /// assert_eq!(hits.sub(1), 1);
    /// # Ok::<(), commons::Error>(())
    /// ```
    Atomic(u32), Width::Low32
}

atomic! {
    /// A 64-bit signed number that forked processes share, with waiting and waking.
    ///
    /// Everything said of [`Atomic`](crate::Atomic) holds, waiting included.
    ///
    /// # Examples
    /// ```
    /// use commons::AtomicLong;
    ///
    /// let balance = AtomicLong::new(-5)?;
    /// assert_eq!(balance.add(3), -2);
    /// # Ok::<(), commons::Error>(())
    /// ```
    AtomicLong(i64), Width::Full
}
