//! When the next row may expire: one word that keeps insertions into a full table from looking at every row each time.
//!
//! ```text
//! tick << 20 | search << 1 | open
//! ```
//! **While no search is open, no row expires before `tick`** (in steps of 2^20 ns). Who gives a row a time lowers it if need be. It is raised only by a
//! search that has looked at every row:
//!
//! | step | the word |
//! |---|---|
//! | opens, unless one is open that it can join | `never`, the next search, open |
//! | looks at the rows; who sets times meanwhile lowers the word | the least of those times |
//! | found none that has expired | lowered to the least of all times; closed, unless a later search has been opened |
//!
//! While it is open everybody who needs room searches, so a search that somebody dies in, or that ends with a row in hand, stays open, and
//! nothing is overlooked. The race one would fear: a time is written into a row that the search has passed already, by one who saw the word as it
//! was before. Between the two steps of each of them is a SeqCst fence, so one of them sees the other: the writer lowers the
//! word, or the search sees the time.

use super::ground::Ground;
use super::layout::Layout;
use super::read::tick;
use crate::sync::{AtomicU64, Ordering, fence};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Soonest(u64);

const OPEN: u64 = 1;
const TICK: u32 = 20;
const NEVER: u64 = u64::MAX >> TICK;

impl Soonest {
    fn new(tick: u64, search: u64, open: u64) -> Soonest {
        Soonest(tick << TICK | (search << 1) & ((1 << TICK) - 1) | open)
    }
    fn tick(self) -> u64 {
        self.0 >> TICK
    }
    /// Searches are numbered anew after 2^19 of them; each lasts for a look at every row.
    fn search(self) -> u64 {
        (self.0 & ((1 << TICK) - 1)) >> 1
    }
    fn is_open(self) -> bool {
        self.0 & OPEN != 0
    }
}

/// A search, by its number.
#[must_use]
pub(super) struct Search(u64);

impl Ground {
    /// No row has a time.
    pub(super) fn expect_nothing(&self) {
        // Relaxed: others come by the table through a fork, which orders everything before it.
        self.head.soonest.store(Soonest::new(NEVER, 0, 0).0, Ordering::Relaxed);
    }

    /// Notes that a row will expire at `due`, which stands in the row already, and before that counts.
    #[inline]
    pub(super) fn expects(&self, due: u64) {
        if due != 0 {
            // SeqCst: the time, then the word; a search does it the other way round. See the head of this file.
            fence(Ordering::SeqCst);
            self.lower(due >> TICK);
        }
    }

    /// Exchanges the word until `next` says that nothing is to be done, or it is done.
    fn turn(&self, next: impl Fn(Soonest) -> Option<Soonest>) {
        // Relaxed, all: the fences order what has to be.
        let word: &AtomicU64 = &self.head.soonest;
        let mut seen = word.load(Ordering::Relaxed);
        while let Some(next) = next(Soonest(seen)) {
            match word.compare_exchange(seen, next.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    fn lower(&self, tick: u64) {
        self.turn(|word| (tick < word.tick()).then(|| Soonest::new(tick, word.search(), word.0 & OPEN)));
    }

    /// Opens a search, or joins the one that is open; None when no row can have expired.
    pub(super) fn begin_search(&self) -> Option<Search> {
        let now = tick();
        self.turn(|word| (!word.is_open() && word.tick() <= now).then(|| Soonest::new(NEVER, word.search() + 1, OPEN)));
        // Relaxed: ordered by the fence.
        let word = Soonest(self.head.soonest.load(Ordering::Relaxed));
        // SeqCst: the word, then the times.
        fence(Ordering::SeqCst);
        word.is_open().then_some(Search(word.search()))
    }

    /// Ends a search that has looked at every row and found none that has expired.
    pub(super) fn end_search(&self, search: &Search) {
        let at = self.layout.expiry.unwrap_or_default();
        for row in (1..=self.touched()).map(|row| self.row(row)) {
            // Relaxed: ordered by the fence, or of no account.
            let due = row[at].load(Ordering::Relaxed);
            if row[Layout::MARK].load(Ordering::Relaxed) != 0 && due != 0 {
                self.lower(due >> TICK);
            }
        }
        self.turn(|word| {
            (word.is_open() && word.search() == search.0).then(|| Soonest::new(word.tick(), word.search(), 0))
        });
    }
}
