//! Floor 3, the law of the land: who is alive, who owns what, and what happens when the owner dies.
//!
//! # The ledger is the truth
//! Every thread that takes part has a slot in shared memory (`participant`), and in it a ledger: one entry for
//! each thing it holds or waits for. An entry becomes valid by one store and void by one store, and only its own thread ever
//! writes it. So there is no instant at which a death leaves "who holds what" half written, and nothing has to be given
//! back on behalf of the dead: **what a dead thread held is free because its slot is not live any more**. Whatever a structure
//! stores besides (permits left, sleepers counted, a contended flag) is a cache of the ledgers, and is recounted when in doubt.
//!
//! # States of a slot
//! ```text
//!            claim (one CAS: thread id and a new generation)
//!   FREE g ───────────────────────────────────────────────► LIVE g+1
//!     ▲                                                     │      │
//!     │ bury: locks handed on, sleepers woken               │      │ leave (thread ends, holds nothing)
//!     └─────────────────────────── DEAD g+1 ◄───────────────┘      └──► FREE g+1
//!                                            found dead
//! ```
//! Everything written in a slot carries its generation, so what an earlier tenant left there names nobody. `DEAD` is set by
//! whoever finds out: the manager between a child's death and its reaping ([`recover`]), a waiter that looked closely at
//! the owner of its lock, a newcomer in search of a slot. Burying is idempotent and may be done by several at once, or
//! be broken off by another death at any point: it only exchanges words that still name the dead, wakes those who sleep on them, and tells those
//! structures of its process that wake by other means (`mourn`).
//!
//! # The lock
//! One word holds version and owner (`word`): one CAS takes it, so no instant has an owner that cannot be named. The entry in
//! the ledger is written *before* the CAS and struck after the last wake-up. Death at each step:
//!
//! | dies after | what the others find |
//! |---|---|
//! | entry written | an entry for a lock that is not its own: its burial wakes one waiter for nothing |
//! | CAS | the word names a dead owner: the next taker takes over and is told (`recovered`) |
//! | word released, sleepers not woken | burial wakes one; without a manager the sleeper's slice ends within 20 ms |
//! | taken over from a dead owner | as after the CAS: the word names a dead owner, the next taker is told |
//!
//! The race one would fear: a waiter decides that the owner is dead, and before it acts the lock has been released and taken
//! by somebody alive. The take-over is a CAS from the exact word of the dead owner, and a slot's generation never comes
//! back while a word names it (2^18 tenants of one slot would have to come and go meanwhile), so it fails then.
//!
//! # Sleeping
//! Everybody sleeps in slices of at most 20 ms ([`Slices`]) and looks around after each: that alone makes every lost wake-up and
//! every death harmless without a manager. With one, burial wakes the sleepers at once. A living owner is never robbed,
//! however long it is stopped: "dead" means gone, a zombie, or a number that the kernel has given to somebody else.
//!
//! # Who may hold how much
//! [`MAX_PARTICIPANTS`] threads over all processes; a ledger has [`MAX_HELD`] entries. A lock taken beyond the last but one is held all the
//! same (its word names the owner); only its sleepers are not woken at once should the owner die. Read locks and
//! permits need their entry and are refused.

#![forbid(unsafe_code)]

mod burial;
mod ledger;
mod lock;
mod mourn;
mod participant;
mod rest;
mod slot;
mod word;

pub use burial::recover;
pub(crate) use ledger::{Claim, Held, MAX_HELD};
pub(crate) use lock::{Owned, RobustLock, Stamp};
pub(crate) use mourn::{Mourner, mourn};
pub(crate) use participant::{
    MAX_PARTICIPANTS, Seat, certainly_dead, each_live, known_dead, me, prepare, seated, slots_in_use,
};
#[doc(hidden)]
pub use participant::{census, leave, sit};
#[cfg(feature = "tokio")]
pub(crate) use rest::unhurried;
pub(crate) use rest::{Patience, Rest, SLICE, Slices, TURN, arm, at_once, disarm};
pub(crate) use word::Tag;
