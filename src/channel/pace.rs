//! Whether two ends run in step, and what is done about it.
//!
//! Each end looks where the other is only when what it knew of it is used up. When both are about as fast, that is after every message: the line with the
//! mark then goes to and fro between two caches for each of them, which costs more than the message. So an end that gained but one message
//! each time takes a breath before it looks the next time. If the other has done several meanwhile, it goes on so; if not, waiting was no use, and is left alone for a while:
//! for one who waits for an answer, or who is slow itself.

use crate::sync::size;

/// Pauses of a breath, in spin hints: about 300 ns. Where time stands still there is none: loom would take it for leave to try fewer orders.
pub(super) const BREATH: usize = size(20, 0);

/// So many looks in a row that gained little, and the next one waits.
const SMALL: u64 = size(4, 1) as u64;
/// Looks that do not wait after one that waited in vain.
const REST: u64 = size(64, 1) as u64;

/// A count of looks that gained little, up to [`SMALL`]; or, above it, of those that are left without a breath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace(pub(super) u64);

impl Pace {
    #[inline(always)]
    pub(super) fn pauses(self) -> bool {
        self.0 == SMALL
    }

    /// After a look that gained so many messages.
    #[inline(always)]
    pub(super) fn after(self, gain: usize) -> Pace {
        Pace(match self.0 {
            SMALL => {
                if gain > 2 {
                    SMALL
                } else {
                    SMALL + REST
                }
            }
            0..SMALL => {
                if gain > 2 {
                    0
                } else {
                    self.0 + 1
                }
            }
            rest => {
                if rest == SMALL + 1 {
                    0
                } else {
                    rest - 1
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_breathes_where_that_helps() {
        let after = |pace, gains: &[usize]| gains.iter().fold(pace, |pace: Pace, gain| pace.after(*gain));
        assert!(!after(Pace(0), &[1, 1, 1]).pauses() && after(Pace(0), &[1, 1, 1, 0]).pauses());
        assert!(!after(Pace(0), &[1, 1, 9, 1, 1, 1]).pauses());
        assert!(after(Pace(SMALL), &[3, 9, 4]).pauses(), "it helps");
        let resting = after(Pace(SMALL), &[1]);
        let breaths = (0..10_000).fold((resting, 0), |(pace, n), _| (pace.after(1), n + u32::from(pace.pauses()))).1;
        assert_eq!(breaths, 10_000 / (REST + SMALL + 1) as u32, "in vain");
    }
}
