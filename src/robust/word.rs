//! The lock word: who owns the lock, and how often it has changed hands.
//!
//! ```text
//!  63                    32   31          30      29          12 11        0
//! ┌────────────────────────┬───────────┬───────┬───────────────┬───────────┐
//! │ version                │ contended │ dirty │ generation    │ slot      │
//! └────────────────────────┴───────────┴───────┴───────────────┴───────────┘
//!                           └────────── the half that sleepers watch ───────┘
//! ```
//!
//! | slot | dirty | contended | meaning |
//! |---|---|---|---|
//! | 0 | 0 | 0 | free |
//! | 0 | 1 | 0 | free; its last owner died, the next taker is told |
//! | s | 0 | 0 | owned by the thread in slot s |
//! | s | 0 | 1 | the same, and somebody may be asleep: whoever releases it wakes one |
//!
//! The version goes up by one at every release, so a reader that copies data without the lock sees whether a writer came by.

/// A thread in the form that fits a lock word: its slot, and the lower 18 bits of the slot's generation. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u32);

const SLOT_BITS: u32 = 12;
const GENERATION_BITS: u32 = 18;
const OWNER: u64 = (1 << (SLOT_BITS + GENERATION_BITS)) - 1;
const DIRTY: u64 = 1 << 30;
const CONTENDED: u64 = 1 << 31;
const VERSION: u64 = 1 << 32;

/// Slots that a tag can name; slot 0 is nobody.
pub(crate) const SLOTS: usize = 1 << SLOT_BITS;

impl Tag {
    pub(crate) fn new(slot: usize, generation: u32) -> Tag {
        Tag((generation & ((1 << GENERATION_BITS) - 1)) << SLOT_BITS | slot as u32)
    }

    /// Bits of a tag.
    pub(crate) const BITS: u32 = SLOT_BITS + GENERATION_BITS;

    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// The tag of these bits, which were one's.
    pub(crate) fn from_bits(bits: u32) -> Tag {
        Tag(bits)
    }

    /// The tag that the tenant before had: one who is gone.
    pub(crate) fn predecessor(self) -> Tag {
        Tag::new(self.slot(), (self.0 >> SLOT_BITS).wrapping_sub(1))
    }

    pub(crate) fn slot(self) -> usize {
        self.0 as usize & (SLOTS - 1)
    }

    /// Whether this tag was made for `generation` of its slot.
    pub(crate) fn is_of(self, generation: u32) -> bool {
        self == Tag::new(self.slot(), generation)
    }
}

/// A lock word as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockWord(pub(crate) u64);

impl LockWord {
    /// Free, and its last owner left it in order: the state from which the fast path takes it.
    #[inline(always)]
    pub(crate) fn is_free(self) -> bool {
        self.0 & (VERSION - 1) == 0
    }

    #[inline(always)]
    pub(crate) fn owner(self) -> Option<Tag> {
        let tag = (self.0 & OWNER) as u32;
        if tag == 0 { None } else { Some(Tag(tag)) }
    }

    pub(crate) fn contended(self) -> bool {
        self.0 & CONTENDED != 0
    }

    pub(crate) fn dirty(self) -> bool {
        self.0 & DIRTY != 0
    }

    /// Owned by `tag`; nobody asleep.
    #[inline(always)]
    pub(crate) fn taken_by(self, tag: Tag) -> LockWord {
        LockWord(self.0 & !(VERSION - 1) | u64::from(tag.0))
    }

    /// The same word with somebody, perhaps, asleep.
    pub(crate) fn with_sleepers(self) -> LockWord {
        LockWord(self.0 | CONTENDED)
    }

    /// Free, with the next version.
    #[inline(always)]
    pub(crate) fn released(self) -> LockWord {
        LockWord((self.0 & !(VERSION - 1)).wrapping_add(VERSION))
    }

    /// Free, with the next version, and the next taker is to be told.
    pub(crate) fn released_dirty(self) -> LockWord {
        LockWord(self.released().0 | DIRTY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_its_parts_apart() {
        let tag = Tag::new(SLOTS - 1, u32::MAX);
        assert_eq!(tag.slot(), SLOTS - 1);
        assert!(tag.is_of(u32::MAX) && tag.is_of((1 << 18) - 1) && !tag.is_of(0));
        let (first, last) = (Tag::new(7, 0), Tag::new(7, (1 << 18) - 1));
        assert!(first.predecessor() == last && last.predecessor() == Tag::new(7, (1 << 18) - 2));
        let word = LockWord(!(VERSION - 1));
        assert!(word.is_free() && word.owner().is_none());
        let taken = word.taken_by(tag).with_sleepers();
        assert_eq!(taken.owner(), Some(tag));
        assert!(taken.contended() && !taken.dirty() && !taken.is_free());
        assert_eq!(taken.released(), LockWord(0), "the version wraps");
        let dirty = taken.released_dirty();
        assert!(dirty.dirty() && dirty.owner().is_none() && !dirty.contended() && !dirty.is_free());
        assert!(!dirty.taken_by(tag).dirty(), "the taker is told once, and is the owner to be found dead next");
    }
}
