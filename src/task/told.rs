//! Answers as they lie in a sender's box.

use super::desk::Outcome;
use crate::process::vault::Ticket;

/// What an answer begins with: sequence, generation, and what became of it.
pub(super) const HEAD: usize = 24;

/// Tries in the lower half, then the outcome, then whether the result is large.
const OUTCOME_AT: u32 = 32;
const LARGE: u64 = 1 << 40;

/// An answer without its small result, which follows, or with the ticket of its large one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) sequence: u64,
    pub(super) generation: u64,
    pub(super) outcome: Outcome,
    pub(super) tries: u32,
    pub(super) large: Ticket,
}

impl Told {
    pub(super) fn message(&self, small: &[u8]) -> Vec<u8> {
        let large = if self.large.is_none() { 0 } else { LARGE };
        let kind = u64::from(self.tries) | (self.outcome as u64) << OUTCOME_AT | large;
        let mut message = Vec::with_capacity(HEAD + small.len().max(16));
        for word in [self.sequence, self.generation, kind] {
            message.extend_from_slice(&word.to_le_bytes());
        }
        if self.large.is_none() {
            message.extend_from_slice(small);
        } else {
            message.extend(self.large.words().iter().flat_map(|word| word.to_le_bytes()));
        }
        message
    }

    pub(super) fn of(message: &[u8]) -> Told {
        let word = |at: usize| message.get(at..at + 8).and_then(|w| w.try_into().ok()).map_or(0, u64::from_le_bytes);
        let kind = word(16);
        let ticket = [word(HEAD), word(HEAD + 8)];
        Told {
            sequence: word(0),
            generation: word(8),
            outcome: Outcome::of(kind >> OUTCOME_AT & 0xff),
            tries: kind as u32,
            large: if kind & LARGE == 0 { Ticket::NONE } else { Ticket::of_words(ticket) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_out_as_it_went_in() {
        let small = Told { sequence: 7, generation: 1 << 33, outcome: Outcome::Failed, tries: 2, large: Ticket::NONE };
        let message = small.message(b"why");
        assert_eq!((Told::of(&message), &message[HEAD..]), (small, &b"why"[..]));
        let large = Told { outcome: Outcome::Result, large: Ticket::of_words([5 << 32 | 3, 99]), ..small };
        assert_eq!(Told::of(&large.message(b"")), large);
        let garbled = Told::of(b"short");
        assert_eq!((garbled.sequence, garbled.generation, garbled.large), (0, 0, Ticket::NONE));
    }
}
