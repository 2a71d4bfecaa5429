//! Floor 1, the door: every atomic, fence, pause, futex, clock and identity of the crate comes through here.
//!
//! Behind the door stands either the machine (`real`) or loom's model of one (`model`); the code above cannot tell which,
//! and that is the point: the very instructions that run in production are the ones that loom takes apart. This file holds
//! the crate's only `cfg(commons_loom)`.
//!
//! What both sides offer:
//!
//! * `AtomicU64`, `fence`, `Ordering`; [`owned`], the read of a word that only the lock holder writes.
//! * `futex::wait` on the low half of a word, `futex::wake`; `EventFd` and `wait_readable`; `clock::now`.
//! * `identity::{current, is_dead}`: who a thread is, and whether another one died.
//! * `process_static!` and `thread_slot!`: state of one process and of one thread, which under loom are the state of one
//!   execution and of one modelled thread.
//! * `prefetch`, a hint that the model ignores as the machine may.
//! * `MODELLED`, `spins` and [`size`]: a model has room for few words and no patience for spinning.
//!
//! A word under loom has one width and is not made of zeroed bytes, which is why a region can be built cell by cell
//! (`shm::Shared::vacant`).

#[cfg(commons_loom)]
mod model;
#[cfg(not(commons_loom))]
mod real;

#[cfg(commons_loom)]
use model as behind;
#[cfg(not(commons_loom))]
use real as behind;

pub(crate) use behind::{
    AtomicU64, EventFd, MODELLED, clock, fence, futex, identity, owned, spin_hint, spins, wait_readable,
};
pub(crate) use behind::{process_static, thread_slot};
pub(crate) use std::sync::atomic::Ordering;

#[doc(hidden)]
pub use behind::world;

#[doc(hidden)]
pub use crate::sys::identity::pretend_dead;

pub(crate) use crate::sys::futex::Nap;
pub(crate) use crate::sys::identity::{Look, Who};
pub(crate) use crate::sys::prefetch::{prefetch, prefetch_to_write};
#[cfg(feature = "tokio")]
pub(crate) use crate::sys::{alarm, ready};

/// A word that stands only for its bytes: padding, never read, not worth a model of its own.
#[allow(clippy::disallowed_types)]
pub(crate) type Filler = std::sync::atomic::AtomicU64;

/// `real` in production, `model` under loom.
pub(crate) const fn size(real: usize, model: usize) -> usize {
    if MODELLED { model } else { real }
}
