//! The roll: who is in which slot, and the how-many-eth it is, in shared memory.
//!
//! A slot belongs to one process for its whole life (the scoreboard's line, the inbox of the [bus](super::bus), the sender of
//! [tasks](crate::task)); the next life in it gets the next generation, counted here and nowhere else, so that a number never comes again, even if a
//! manager dies and a new one counts its forks from one.
//!
//! ```text
//!  63                          30 29                 0
//! ┌──────────────────────────────┬────────────────────┐
//! │ generation                   │ thread that has it │
//! └──────────────────────────────┴────────────────────┘
//! ```
//! One exchange moves in, one moves out; who dies has moved out, for its thread is known to be dead.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use crate::robust::{Patience, Slices, Tag, certainly_dead, known_dead, me, prepare, seated};
use crate::shm::{Kind, Pad, Region, Row, shared};
use crate::sync::{AtomicU64, Look, Ordering, futex};
use crate::{Error, Result};

shared! {
    struct Line {
        word: AtomicU64,
        pad: Pad<7>,
    }
}

const TAG: u64 = (1 << Tag::BITS) - 1;

/// The most slots of a roll.
pub(crate) const SLOTS_MAX: usize = 4096;

/// Who somebody is: a slot, and which of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The slot.
    pub slot: u32,
    /// The how-many-eth in it; 0 is nobody.
    pub generation: u64,
}

impl Address {
    /// Nobody: of one who has no slot, or wants no answer.
    pub const NOBODY: Address = Address { slot: u32::MAX, generation: 0 };
}

/// All slots; made before the fork.
#[derive(Clone)]
pub struct Roll {
    lines: Arc<Row<Line>>,
}

impl std::fmt::Debug for Roll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roll").field("slots", &self.slots()).finish()
    }
}

impl Roll {
    /// A roll of so many slots, 1 ..= 4096.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; as [`Region::new`].
    pub fn new(slots: usize) -> Result<Roll> {
        if slots == 0 || slots > SLOTS_MAX {
            let max = SLOTS_MAX as u64;
            return Err(Error::OutOfRange { what: "the number of slots", value: slots as u64, min: 1, max });
        }
        prepare()?;
        let region = Region::new("roll", Region::bytes_for::<Line>(slots))?;
        Ok(Roll { lines: Arc::new(Row::new(&region, Kind::Roll, slots)?) })
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.lines.len()
    }

    fn word(&self, slot: u32) -> Result<&AtomicU64> {
        let line = usize::try_from(slot).ok().and_then(|slot| self.lines.get(slot));
        line.map(|line| &line.word).ok_or(Error::OutOfRange {
            what: "the slot",
            value: slot.into(),
            min: 0,
            max: self.lines.len() as u64 - 1,
        })
    }

    /// The calling thread moves into a slot whose last tenant is gone. It is the tenant until the tenancy is dropped or the thread ends.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; [`Error::Occupied`] when somebody else lives there; [`Error::TooManyParticipants`].
    pub fn attach(&self, slot: u32) -> Result<Tenancy> {
        let (word, mine) = (self.word(slot)?, me()?.tag());
        // Acquire: pairs with the AcqRel below; what the last tenant did happened before.
        let mut seen = word.load(Ordering::Acquire);
        loop {
            let there = (seen & TAG) as u32;
            if there != 0 && there != mine.bits() && !certainly_dead(Tag::from_bits(there), Look::Close) {
                return Err(Error::Occupied { slot });
            }
            let generation = (seen >> Tag::BITS) + 1;
            let next = generation << Tag::BITS | u64::from(mine.bits());
            match word.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    let address = Address { slot, generation };
                    return Ok(Tenancy {
                        inner: Arc::new(Inner { roll: self.clone(), address, tag: mine, numbers: AtomicU64::new(0) }),
                    });
                }
                Err(now) => seen = now,
            }
        }
    }

    /// The same, waiting for at most `timeout` until the one who has the slot has moved out: how a successor takes over while its predecessor leaves.
    ///
    /// # Errors
    /// [`Error::Timeout`]; as [`attach`](Roll::attach), but not [`Error::Occupied`].
    pub fn attach_timeout(&self, slot: u32, timeout: Duration) -> Result<Tenancy> {
        let (word, patience, mut slices) = (self.word(slot)?, Patience::lasting(timeout), Slices::new());
        loop {
            // Relaxed: only compared; the attempt that follows decides.
            let seen = word.load(Ordering::Relaxed);
            match self.attach(slot) {
                Err(Error::Occupied { .. }) => patience.check()?,
                attached => return attached,
            }
            // Whatever it says: `attach` looks closely.
            let _ = slices.rest(word, seen, patience);
        }
    }

    /// Whether anybody who lives has the slot.
    pub(crate) fn is_occupied(&self, slot: u32) -> bool {
        // Acquire: pairs with the AcqRel in `attach`.
        let Ok(seen) = self.word(slot).map(|word| word.load(Ordering::Acquire)) else { return false };
        let tag = (seen & TAG) as u32;
        tag != 0 && !certainly_dead(Tag::from_bits(tag), Look::Close)
    }

    /// Who has the slot, as far as anybody found out: two loads.
    pub fn tenant(&self, slot: u32) -> Option<Address> {
        // Acquire: pairs with the AcqRel in `attach`.
        let seen = self.word(slot).ok()?.load(Ordering::Acquire);
        let tag = (seen & TAG) as u32;
        let lives = tag != 0 && !known_dead(Tag::from_bits(tag));
        lives.then_some(Address { slot, generation: seen >> Tag::BITS })
    }

    /// Whether that very life still has its slot, as far as anybody found out: two loads.
    pub fn is_there(&self, who: Address) -> bool {
        self.tenant(who.slot) == Some(who)
    }

    /// The same after a close look, which costs a few microseconds.
    pub fn is_certainly_there(&self, who: Address) -> bool {
        if !self.is_there(who) {
            return false;
        }
        // Relaxed: looked at a moment ago.
        let Ok(seen) = self.word(who.slot).map(|word| word.load(Ordering::Relaxed)) else { return false };
        let tag = (seen & TAG) as u32;
        seen >> Tag::BITS == who.generation && tag != 0 && !certainly_dead(Tag::from_bits(tag), Look::Close)
    }
}

/// A slot, for as long as this lives in the thread that took it.
#[derive(Clone, Debug)]
pub struct Tenancy {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    roll: Roll,
    address: Address,
    tag: Tag,
    /// Numbers given out.
    numbers: AtomicU64,
}

impl Tenancy {
    /// A number that this tenant has not had before: 1, 2, …
    pub(crate) fn number(&self) -> u64 {
        // Relaxed: it publishes nothing, and no other process has this tenancy.
        self.inner.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Who this is.
    pub fn address(&self) -> Address {
        self.inner.address
    }

    /// Whether the calling thread is the tenant; false in a process that only inherited this by a fork.
    pub(crate) fn is_mine(&self) -> bool {
        seated().is_some_and(|seat| seat.tag() == self.inner.tag)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if seated().is_none_or(|seat| seat.tag() != self.tag) {
            return; // a copy that a fork made, or another thread's; the tenant's own end moves it out
        }
        let Ok(word) = self.roll.word(self.address.slot) else { return };
        let old = self.address.generation << Tag::BITS | u64::from(self.tag.bits());
        // AcqRel: pairs with the same in `attach`. Fails when this very thread has moved in again meanwhile.
        let _ = word.compare_exchange(old, old & !TAG, Ordering::AcqRel, Ordering::Relaxed);
        futex::wake(word, u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_one_tenant_at_a_time_and_each_has_its_own_number() {
        let roll = Roll::new(2).unwrap();
        let first = roll.attach(1).unwrap();
        assert_eq!(first.address(), Address { slot: 1, generation: 1 });
        assert!(roll.is_there(first.address()) && roll.is_certainly_there(first.address()) && first.is_mine());
        let other = std::thread::scope(|scope| {
            let roll = roll.clone();
            scope.spawn(move || roll.attach(1).map(|_| ()).unwrap_err().to_string()).join().unwrap()
        });
        assert!(other.contains("slot 1"), "{other}");
        let gone = first.address();
        drop(first);
        assert!(!roll.is_there(gone) && roll.tenant(1).is_none());
        // One that ended without moving out.
        std::thread::scope(|scope| {
            let roll = roll.clone();
            scope.spawn(move || std::mem::forget(roll.attach(1).unwrap())).join().unwrap();
        });
        let third = roll.attach(1).unwrap();
        assert_eq!(third.address().generation, 3);
        assert_eq!((roll.tenant(1), roll.tenant(0), roll.tenant(2)), (Some(third.address()), None, None));
        assert!(!roll.is_there(Address { slot: 1, generation: 2 }) && !roll.is_there(Address::NOBODY));
    }

    #[test]
    fn a_successor_waits_until_the_one_before_has_moved_out() {
        let roll = Roll::new(1).unwrap();
        let first = roll.attach(0).unwrap();
        std::thread::scope(|scope| {
            let late = || roll.attach_timeout(0, Duration::from_millis(30)).map(|_| ()).unwrap_err();
            assert!(matches!(scope.spawn(late).join().unwrap(), Error::Timeout { .. }));
            let next = scope.spawn(|| roll.attach_timeout(0, Duration::from_secs(20)).unwrap().address().generation);
            drop(first);
            assert_eq!(next.join().unwrap(), 2);
        });
    }

    #[test]
    fn a_slot_that_is_not_there_is_named() {
        assert_eq!(Roll::new(0).unwrap_err().to_string(), "the number of slots is 0, allowed are 1..=4096");
        let roll = Roll::new(3).unwrap();
        assert_eq!(roll.attach(3).unwrap_err().to_string(), "the slot is 3, allowed are 0..=2");
    }
}
