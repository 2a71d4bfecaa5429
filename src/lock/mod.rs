//! Floor 4, locks: [`Lock`], [`RwLock`], [`Semaphore`] and [`Barrier`], shared between processes and robust against their death.
//!
//! All four stand on floor 3: who holds what is in the holders' own ledgers, and sleepers sleep in slices. What each adds:
//!
//! # Lock (`mutex`)
//! The robust lock of floor 3 in a guard. Nothing else is stored, so nothing else can be torn.
//!
//! # RwLock
//! ```text
//!  lock    a robust lock: held by the writer for as long as it writes, and by a reader only in passing
//!  drain   turn of the writer that waits for the readers to leave; lowest bit: it may be asleep
//! ```
//! A reader notes itself in its own ledger, *then* looks whether the lock is held; a writer takes the lock, *then* looks through all ledgers
//! for readers. Between the two steps of each stands a full fence, so of two that come at once at least one sees the other. Readers write
//! nothing that is shared: they do not slow each other down, and their death needs no repair at all.
//! A reader that finds the lock held strikes its note and queues for the lock like a writer, notes itself while it owns it, and lets go:
//! so neither readers nor writers starve. If a writer died, every reader is told until a writer has had the lock and released it.
//!
//! | dies | then |
//! |---|---|
//! | reader, at any point | its slot is not live: writers no longer see it; burial wakes a writer that waits for it, or its slice ends |
//! | reader, leaving | its entry counts 0 from when it reads no more until it has woken the writer: as above |
//! | writer, having the lock, waiting for readers or not | the next one takes over and is told |
//!
//! # Semaphore
//! ```text
//!  door    a robust lock around every change
//!  free    permits nobody holds: a cache, the ledgers are the truth
//!  turn    a word of turns (`robust::arm`): counts releases; lowest bit: somebody may be asleep
//! ```
//! Permits are entries in the ledgers of those who hold them, so those of the dead are free at once, whenever somebody counts: after a
//! door left by a dead owner, and whenever `free` says 0, before sleeping and after every slice. Who is going to sleep arms the turn *before* it
//! counts, so that a death that is buried after the count moves the turn that it sleeps on.
//!
//! | dies | then |
//! |---|---|
//! | between the entry and `free` | the door is handed on dirty, the next inside counts anew |
//! | holding permits, asleep or just woken | the permits are not counted; burial moves the turn on and wakes all, or their slice ends |
//!
//! # Barrier
//! ```text
//!  door    a robust lock around every arrival
//!  round   rounds completed, in steps of two
//! ```
//! An arrival is the sleeper's own note (the barrier, the round). The last one to arrive counts `n - 1` living sleepers of this round and
//! completes it by one store. One that dies asleep is not counted: the barrier then waits for one more arrival, and nobody is let through early.

#![forbid(unsafe_code)]

mod barrier;
mod mutex;
mod rwlock;
mod semaphore;

pub use barrier::Barrier;
pub use mutex::{Lock, LockGuard};
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use semaphore::Semaphore;
