//! The name of a connection, from which any process knows who holds it.
//!
//! ```text
//!  63      52 51          34 33  32 31                0
//! ┌──────────┬──────────────┬──────┬───────────────────┐
//! │ place    │ generation   │ line │ number            │
//! └──────────┴──────────────┴──────┴───────────────────┘
//!              └── life ─────────┘
//! ```
//! A place has three lines of the board, and so three slots of the roll: in a reload several lives of it are there at once, and each holds connections. Line and
//! generation are those of the life that accepted it, so what is sent to a connection finds the one that holds it, and nobody else.
#![forbid(unsafe_code)]

use std::fmt;

use crate::process::crew::slots;
use crate::process::roll::{Address, Roll};

/// Names a connection of this server, for as long as the server lives: in which place it is held, by which life, the how-many-eth of that one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(u64);

const PLACE_BITS: u32 = 12;
const GENERATION_BITS: u32 = 18;
const LINE_BITS: u32 = 2;
const NUMBER_BITS: u32 = 64 - PLACE_BITS - GENERATION_BITS - LINE_BITS;

const LIFE: u64 = (1 << (GENERATION_BITS + LINE_BITS)) - 1;

impl ConnId {
    /// So many places can be named.
    pub(in crate::server) const PLACES: usize = 1 << PLACE_BITS;

    /// Generations count on for ever and only their last bits are kept: an id of 2^18 lives of the same line before is not told apart.
    pub(in crate::server) fn new(life: Address, number: u32) -> ConnId {
        let lines = slots(1) as u64;
        let (place, line) = (u64::from(life.slot) / lines, u64::from(life.slot) % lines);
        let life = (life.generation << LINE_BITS | line) & LIFE;
        ConnId(place << (64 - PLACE_BITS) | life << NUMBER_BITS | u64::from(number))
    }

    /// The place whose process holds it.
    pub fn worker(self) -> usize {
        (self.0 >> (64 - PLACE_BITS)) as usize
    }

    fn life(self) -> u64 {
        self.0 >> NUMBER_BITS & LIFE
    }

    /// The life that holds it; None when that one is gone, as far as anybody found out, or when there never was one.
    pub(in crate::server) fn holder(self, lines: &Roll) -> Option<Address> {
        let line = self.life() as usize & ((1 << LINE_BITS) - 1);
        if line >= slots(1) {
            return None;
        }
        let there = lines.tenant(u32::try_from(slots(self.worker()) + line).ok()?)?;
        (ConnId::new(there, 0).life() == self.life()).then_some(there)
    }
}

/// As a number, for a table or a message.
impl From<ConnId> for u64 {
    fn from(id: ConnId) -> u64 {
        id.0
    }
}

/// Of such a number; one that no connection ever had names none.
impl From<u64> for ConnId {
    fn from(id: u64) -> ConnId {
        ConnId(id)
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.worker(), self.life(), self.0 as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_finds_the_life_that_holds_it_and_no_other() {
        let roll = Roll::new(slots(3)).unwrap();
        // A line after the other, as lives of a place follow each other; the last two are there at once.
        let (first, second) = (roll.attach(3).unwrap(), roll.attach(4).unwrap());
        let id = ConnId::new(second.address(), 7);
        assert_eq!((id.worker(), id.holder(&roll)), (1, Some(second.address())));
        assert_eq!(ConnId::new(first.address(), 7).holder(&roll), Some(first.address()));
        assert_ne!(ConnId::new(first.address(), 7), id);
        assert_eq!(id.to_string(), "1.5.7");
        drop(second);
        assert_eq!(id.holder(&roll), None, "gone");
        let again = roll.attach(4).unwrap();
        assert_eq!(id.holder(&roll), None, "another one has its slot");
        assert_eq!(ConnId::new(again.address(), 7).holder(&roll), Some(again.address()));
        // Numbers that nobody gave out: a fourth line, a place that there is not, a life to come.
        for id in [1 << 52 | 3 << 32, 3 << 52 | 1 << 34, u64::MAX, 0, 1 << 52 | 5 << 34] {
            assert_eq!(ConnId::from(id).holder(&roll), None, "{id:x}");
        }
    }

    #[test]
    fn many_lives_later_an_id_still_names_its_line() {
        for generation in [1, (1 << 18) - 1, 1 << 18, (1 << 20) + 5, (1 << 30) - 1] {
            for slot in [0, 1, 2, 5, 4095] {
                let id = ConnId::new(Address { slot, generation }, u32::MAX);
                assert_eq!(id.worker(), slot as usize / 3);
                assert_eq!(id.life(), generation % (1 << 18) * 4 + u64::from(slot) % 3);
            }
        }
        // 2^18 lives of a line are told apart, and the next one is not.
        let of = |generation| ConnId::new(Address { slot: 4, generation }, 1);
        assert!(of(1) != of(1 << 18) && of(1) == of(1 + (1 << 18)));
    }
}
