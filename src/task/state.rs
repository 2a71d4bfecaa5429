//! The word of a record: all that decides what becomes of a task, so that every step is one exchange.
//!
//! ```text
//!  63         40 39      36 35   34      30 29              0
//! ┌─────────────┬──────────┬──────┬─────────┬────────────────┐
//! │ generation  │ phase    │ half │ tries   │ thread that    │
//! │             │          │      │         │ has it, or 0   │
//! └─────────────┴──────────┴──────┴─────────┴────────────────┘
//! ```
//! Generation: which task of this record. Tries: how often it was taken. Half: which of the record's two pairs of totals counts.

use crate::robust::{Tag, certainly_dead};
use crate::sync::Look;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody's.
    Free,
    /// A sender writes it.
    Filling,
    /// Accepted, and waits to be taken.
    Queued,
    /// A task worker runs it; of a dead one, or nobody: it waits to be taken again, before all that are queued.
    Running,
    /// It was tried as often as is allowed; somebody writes that down.
    Losing,
    /// It has its outcome, which somebody brings to the sender.
    Done,
    /// Its sender died writing it; somebody frees what belongs to it.
    Clearing,
}

const PHASES: [Phase; 7] =
    [Phase::Free, Phase::Filling, Phase::Queued, Phase::Running, Phase::Losing, Phase::Done, Phase::Clearing];
const TRIES_AT: u32 = Tag::BITS;
const TRIES_BITS: u32 = 5;
const HALF_AT: u32 = TRIES_AT + TRIES_BITS;
const PHASE_AT: u32 = HALF_AT + 1;
const GENERATION_AT: u32 = PHASE_AT + 4;
const GENERATIONS: u32 = (1 << (64 - GENERATION_AT)) - 1;

/// The most tries that can be counted.
pub(super) const TRIES_MAX: u32 = (1 << TRIES_BITS) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(pub(super) u64);

impl State {
    pub(super) fn phase(self) -> Phase {
        PHASES.get((self.0 >> PHASE_AT & 15) as usize).copied().unwrap_or(Phase::Free)
    }
    pub(super) fn generation(self) -> u32 {
        (self.0 >> GENERATION_AT) as u32
    }
    pub(super) fn tries(self) -> u32 {
        (self.0 >> TRIES_AT) as u32 & TRIES_MAX
    }
    pub(super) fn half(self) -> usize {
        (self.0 >> HALF_AT & 1) as usize
    }
    pub(super) fn tag(self) -> u32 {
        (self.0 & ((1 << Tag::BITS) - 1)) as u32
    }

    fn with(self, phase: Phase, tries: u32, tag: u32) -> State {
        let kept = self.0 & !((1 << HALF_AT) - 1) & !(15 << PHASE_AT);
        State(kept | (phase as u64) << PHASE_AT | u64::from(tries) << TRIES_AT | u64::from(tag))
    }

    /// The next task moves in.
    pub(super) fn claimed(self, tag: u32) -> State {
        let generation = self.generation().wrapping_add(1) & GENERATIONS;
        let kept = self.0 & ((1 << GENERATION_AT) - 1);
        State(u64::from(generation.max(1)) << GENERATION_AT | kept).with(Phase::Filling, 0, tag)
    }
    /// Its sender died, and this thread frees what belongs to it: from here on its ticket is no good.
    pub(super) fn clearing(self, tag: u32) -> State {
        self.with(Phase::Clearing, 0, tag)
    }
    pub(super) fn queued(self) -> State {
        self.with(Phase::Queued, 0, 0)
    }
    /// Taken once more.
    pub(super) fn taken(self, tag: u32) -> State {
        self.with(Phase::Running, (self.tries() + 1).min(TRIES_MAX), tag)
    }
    /// Nobody's again, and as if it had not been taken.
    pub(super) fn untried(self) -> State {
        self.with(Phase::Running, self.tries().saturating_sub(1), 0)
    }
    pub(super) fn losing(self, tag: u32) -> State {
        self.with(Phase::Losing, self.tries(), tag)
    }
    /// It has its outcome: from here on the other half counts.
    pub(super) fn done(self, tag: u32) -> State {
        State(self.with(Phase::Done, self.tries(), tag).0 ^ 1 << HALF_AT)
    }
    /// The same in somebody else's hands, or (0) in nobody's.
    pub(super) fn in_hands_of(self, tag: u32) -> State {
        self.with(self.phase(), self.tries(), tag)
    }
    pub(super) fn freed(self) -> State {
        self.with(Phase::Free, 0, 0)
    }

    /// Whether the one that is to do something about it is not there.
    pub(super) fn is_left(self, look: Look) -> bool {
        match self.phase() {
            Phase::Free | Phase::Queued => false,
            Phase::Filling | Phase::Running | Phase::Losing | Phase::Done | Phase::Clearing => {
                self.tag() == 0 || certainly_dead(Tag::from_bits(self.tag()), look)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_its_parts_apart() {
        let (a, b) = ((1 << Tag::BITS) - 1, 5);
        let parts = |state: State| (state.phase(), state.generation(), state.tries(), state.half(), state.tag());
        let filling = State(0).claimed(a);
        assert_eq!(parts(filling), (Phase::Filling, 1, 0, 0, a));
        assert_eq!(parts(filling.queued()), (Phase::Queued, 1, 0, 0, 0));
        let again = filling.queued().taken(a).in_hands_of(0).taken(b);
        assert_eq!(parts(again), (Phase::Running, 1, 2, 0, b));
        let done = again.losing(a).done(b);
        assert_eq!(parts(done), (Phase::Done, 1, 2, 1, b));
        assert_eq!(parts(done.in_hands_of(a)), (Phase::Done, 1, 2, 1, a));
        let next = done.freed().claimed(b);
        assert_eq!(parts(next), (Phase::Filling, 2, 0, 1, b));
        assert_eq!(parts(next.queued().taken(a).done(a)), (Phase::Done, 2, 1, 0, a));
        let worn = (0..100).fold(again, |state, _| state.taken(a));
        assert_eq!(worn.tries(), TRIES_MAX);
        assert_eq!(State(u64::MAX).claimed(1).generation(), 1, "it goes round, and leaves 0 out");
        assert!(again.in_hands_of(0).is_left(Look::Quick) && !filling.queued().is_left(Look::Close));
    }
}
