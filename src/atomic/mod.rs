//! Floor 4, atomics: [`Atomic`] (32 bits), [`AtomicLong`] (64 bits) and the striped [`Counter`].
//!
//! # The cell
//! ```text
//! ┌─────────┬─────────────────────────┬─────────────────┬───────────┐
//! │ value   │ permits:32 │ epoch:32   │ watch           │ door      │   32 bytes, alone on a cache line unless packed
//! └─────────┴─────────────────────────┴─────────────────┴───────────┘
//! ```
//! `value` is the number itself; an `Atomic` is its lower half, so that a carry out of 32 bits is lost where nobody looks. `get`, `set`,
//! `add`, `sub` and `cmpset` are single instructions on it and touch nothing else. The rest serves those who sleep.
//!
//! # wait and wakeup (`room`)
//! Who waits and finds no positive value registers under the door (a robust lock): an entry in its own ledger, with the epoch it
//! saw. `wakeup` counts, under the door, the living sleepers that have no permit yet, adds that many `permits` and moves the epoch on, in
//! one store. A sleeper may take a permit granted in a later epoch than the one it registered in, under the door.
//!
//! The race one would fear: a newcomer takes the permit that was granted to somebody asleep. It cannot: its epoch is the current one.
//!
//! Permits belong to the cell, not to a sleeper, so the dead have nothing that must be taken from them. Death at each step:
//!
//! | dies | then |
//! |---|---|
//! | waiting, registered or not | its slot is not live: nobody counts it, and a permit granted in its time goes to the next sleeper |
//! | after striking its entry, before taking the permit | the permit stays, for the next |
//! | after taking the permit | `wait` has happened: it died with the permit in hand, as after returning |
//! | waking, before the store of `permits` | nothing has happened |
//! | waking, after it, before the system call | the sleepers find their permits at the end of their slice, at most 20 ms later |
//!
//! # wait_while and notify
//! `watch` is a word of turns (`robust::arm`): it counts notifications, its lowest bit says that somebody may be asleep. The waiter arms it and *then* looks at the value;
//! the notifier changes the value and *then* counts up, both by read-modify-writes of the same word: whichever comes second sees the other.
//!
//! # Counter (`counter`)
//! A stripe a participant, written by its tenant alone with plain loads and stores; the sum of all stripes is the count. A stripe outlives
//! its tenant, so nothing that was added is lost or added twice, whoever dies.

#![forbid(unsafe_code)]

mod cell;
mod counter;
mod room;

pub use cell::{Atomic, AtomicLong};
pub use counter::Counter;
