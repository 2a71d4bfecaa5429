//! A place in the ring and all that changes with it, in one word: so one store is the whole commit of a push or a pop.
//!
//! ```text
//!  63            36 35   30 29            4   3      2        1        0
//! ┌────────────────┬───────┬───────────────┬──────┬───────┬────────┬────────┐
//! │ index          │ lap   │ count         │ flip │ armed │ closed │ asleep │
//! └────────────────┴───────┴───────────────┴──────┴───────┴────────┴────────┘
//!                      └────────── the half that sleepers watch ────────────┘
//! ```
//! `index` is a word of the ring; `lap` and `count` (of messages) go round. `flip` says which of two totals counts. `asleep`: somebody may sleep
//! until this moves; `armed`: somebody waits for the eventfd; `closed`: no more messages.

/// A place in the ring as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(pub(super) u64);

pub(super) const ASLEEP: u64 = 1;
const CLOSED: u64 = 2;
const ARMED: u64 = 4;
const FLIP: u64 = 8;
const COUNT_AT: u32 = 4;
const COUNT_BITS: u32 = 26;
const LAP_AT: u32 = COUNT_AT + COUNT_BITS;
const LAP_BITS: u32 = 6;
const INDEX_AT: u32 = LAP_AT + LAP_BITS;

/// The most words of a ring: fewer than there are counts, so that two counts tell how many messages lie between them. 512 MiB.
pub(super) const WORDS_MAX: usize = (1 << COUNT_BITS) - 1;

fn field(word: u64, at: u32, bits: u32) -> u64 {
    word >> at & ((1 << bits) - 1)
}

impl Mark {
    pub(super) fn index(self) -> usize {
        (self.0 >> INDEX_AT) as usize
    }
    /// Whether anybody waits, asleep or with epoll.
    #[inline(always)]
    pub(super) fn waited_for(self) -> bool {
        self.0 & (ASLEEP | ARMED) != 0
    }
    pub(super) fn asleep(self) -> bool {
        self.0 & ASLEEP != 0
    }
    pub(super) fn closed(self) -> bool {
        self.0 & CLOSED != 0
    }
    pub(super) fn armed(self) -> bool {
        self.0 & ARMED != 0
    }
    /// Which of the two totals counts.
    pub(super) fn half(self) -> usize {
        usize::from(self.0 & FLIP != 0)
    }
    pub(super) fn with_sleepers(self) -> Mark {
        Mark(self.0 | ASLEEP)
    }
    pub(super) fn with_eventfd(self) -> Mark {
        Mark(self.0 | ARMED)
    }
    pub(super) fn with_closed(self) -> Mark {
        Mark(self.0 | CLOSED)
    }
    /// `words` further and `messages` later, in a ring of `ring` words; nobody waits for that any more.
    #[inline(always)]
    pub(super) fn advanced(self, words: usize, messages: usize, ring: usize) -> Mark {
        let (mut index, mut lap) = (self.index() + words, field(self.0, LAP_AT, LAP_BITS));
        if index >= ring {
            index -= ring;
            lap = (lap + 1) & ((1 << LAP_BITS) - 1);
        }
        let count = (field(self.0, COUNT_AT, COUNT_BITS) + messages as u64) & ((1 << COUNT_BITS) - 1);
        let flags = (self.0 & (FLIP | CLOSED)) ^ FLIP;
        Mark((index as u64) << INDEX_AT | lap << LAP_AT | count << COUNT_AT | flags)
    }

    /// Words from `self` on to `later`, at most a whole ring.
    #[inline(always)]
    pub(super) fn words_to(self, later: Mark, ring: usize) -> usize {
        if field(self.0 ^ later.0, LAP_AT, LAP_BITS) == 0 {
            later.index().wrapping_sub(self.index())
        } else {
            later.index() + ring - self.index()
        }
    }

    /// Messages from `self` on to `later`.
    pub(super) fn messages_to(self, later: Mark) -> usize {
        let count = |mark: Mark| field(mark.0, COUNT_AT, COUNT_BITS);
        (count(later).wrapping_sub(count(self)) & ((1 << COUNT_BITS) - 1)) as usize
    }

    /// Whether both are the same place.
    #[inline(always)]
    pub(super) fn is_at(self, other: Mark) -> bool {
        (self.0 ^ other.0) >> COUNT_AT == 0
    }
}

/// The first word of a message in the ring.
///
/// ```text
///  63             34 33       28 27              0
/// ┌─────────────────┬───────────┬─────────────────┐
/// │ leased to       │ attempts  │ bytes           │
/// └─────────────────┴───────────┴─────────────────┘
/// ```
/// Leased to: nobody (0), or the tag of a thread. Attempts: how often it was leased and came back; 63 when it is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head(pub(super) u64);

const LEN_BITS: u32 = 28;
const TRIES_BITS: u32 = 6;
const DONE: u64 = (1 << TRIES_BITS) - 1;

/// The longest message, in bytes.
pub(super) const LEN_MAX: usize = (1 << LEN_BITS) - 1;
/// The most attempts that can be counted.
pub(super) const ATTEMPTS_MAX: u32 = DONE as u32 - 1;

impl Head {
    pub(super) fn new(len: usize) -> Head {
        Head(len as u64)
    }
    pub(super) fn len(self) -> usize {
        field(self.0, 0, LEN_BITS) as usize
    }
    pub(super) fn attempts(self) -> u32 {
        field(self.0, LEN_BITS, TRIES_BITS) as u32
    }
    pub(super) fn is_done(self) -> bool {
        field(self.0, LEN_BITS, TRIES_BITS) == DONE
    }
    /// The bits of the tag of who has it; 0: nobody.
    pub(super) fn holder(self) -> u32 {
        (self.0 >> (LEN_BITS + TRIES_BITS)) as u32
    }
    pub(super) fn is_ready(self) -> bool {
        self.holder() == 0 && !self.is_done()
    }
    pub(super) fn leased_to(self, tag: u32) -> Head {
        Head(self.ready().0 | u64::from(tag) << (LEN_BITS + TRIES_BITS))
    }
    fn ready(self) -> Head {
        Head(field(self.0, 0, LEN_BITS + TRIES_BITS))
    }
    /// Given back after an attempt.
    pub(super) fn returned(self) -> Head {
        let attempts = u64::from(self.attempts() + 1).min(DONE - 1);
        Head(field(self.0, 0, LEN_BITS) | attempts << LEN_BITS)
    }
    pub(super) fn done(self) -> Head {
        Head(field(self.0, 0, LEN_BITS) | DONE << LEN_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_goes_round() {
        let ring = 5;
        let (mut mark, start) = (Mark(0).with_closed(), Mark(0));
        for n in 1..1000 {
            let next = mark.with_sleepers().with_eventfd().advanced(2, 1, ring);
            assert!(!next.asleep() && !next.armed() && next.closed() && next.half() == n % 2);
            assert_eq!((mark.words_to(next, ring), mark.messages_to(next)), (2, 1));
            assert_eq!((next.index(), start.messages_to(next)), (n * 2 % ring, n));
            mark = next;
        }
        let full = mark.advanced(ring, 5, ring);
        assert_eq!((mark.words_to(full, ring), mark.index()), (ring, full.index()));
        assert!(!full.is_at(mark) && full.is_at(full.with_sleepers()));
        let (last, next) = (Mark(((1 << COUNT_BITS) - 1) << COUNT_AT), 3);
        assert_eq!(last.messages_to(last.advanced(next, next, ring)), next);
    }

    #[test]
    fn a_head_keeps_its_parts_apart() {
        let head = Head::new(LEN_MAX).leased_to((1 << 30) - 1);
        assert_eq!((head.len(), head.attempts(), head.holder()), (LEN_MAX, 0, (1 << 30) - 1));
        assert!(!head.is_ready() && !head.is_done());
        let back = head.returned();
        assert_eq!((back.len(), back.attempts(), back.is_ready()), (LEN_MAX, 1, true));
        assert!(back.done().is_done() && !back.done().is_ready() && back.done().len() == LEN_MAX);
        let worn = (0..100).fold(head, |head, _| head.returned());
        assert_eq!((worn.attempts(), worn.is_done()), (ATTEMPTS_MAX, false));
    }
}
