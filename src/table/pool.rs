//! The rows that belong to nobody, and how a row changes hands so that no death loses or doubles it.
//!
//! A row's own mark is the truth: 0 is free, else the row belongs to bucket `mark - 1`. The list of free rows follows the marks and is mended
//! by whoever takes over the pool's lock from a dead owner. Who takes a row has it written down in its record *first*, so whoever settles
//! that record finds a row that is marked for the record's bucket and linked nowhere, and gives it back.
//!
//! | dies | then |
//! |---|---|
//! | taking, before the mark | the row is free and on the list; the record names it, but its mark does not name the bucket |
//! | taking, after the mark | the list begins with a row that is not free: the next owner takes it off; the record's settling gives it back |
//! | giving, before the mark | the row still belongs to the bucket: settling gives it again |
//! | giving, after the mark | `given` is free and not first on the list: the next owner puts it there |

use super::ground::{Ground, WHAT};
use super::layout::Layout;
use super::shared::Pool;
use crate::Result;
use crate::robust::Patience;
use crate::sync::{AtomicU64, Ordering, fence, owned};

impl Ground {
    fn mark(&self, row: u32) -> &AtomicU64 {
        &self.row(row)[Layout::MARK]
    }

    /// Calls `f` with the pool locked and in order.
    fn in_pool<R>(&self, patience: Patience, f: impl FnOnce(&Pool) -> R) -> Result<R> {
        let pool = &self.head.pool;
        let key = self.head.key(pool.lock.cell());
        let lock = pool.lock.acquire(key, WHAT, patience)?;
        if lock.recovered() {
            self.mend(pool);
        }
        let result = f(pool);
        pool.lock.release(lock);
        Ok(result)
    }

    /// Takes a free row for `bucket`. `note` writes its number down where settling finds it, before anything changes. None: there is none.
    pub(super) fn take_row(&self, bucket: usize, patience: Patience, note: impl FnOnce(u32)) -> Result<Option<u32>> {
        let row = self.in_pool(patience, |pool| {
            let first = owned(&pool.first) as u32;
            let fresh = owned(&pool.fresh);
            let row = if first != 0 {
                first
            } else {
                u32::try_from(fresh + 1).ok().filter(|row| *row <= self.layout.capacity)?
            };
            note(row);
            // Release, all of them: in this order, whoever dies in between. The Acquire is that of the lock, or of `touched`.
            self.mark(row).store(bucket as u64 + 1, Ordering::Release);
            if first != 0 {
                pool.first.store(owned(&self.row(row)[Layout::LINKS]), Ordering::Release);
            } else {
                pool.fresh.store(fresh + 1, Ordering::Release);
            }
            Some(row)
        })?;
        // Pairs with the Acquire fence in `RobustLock::still`: a reader that still looks at this row for the bucket that it belonged to, and
        // meets what is written now, sees that bucket's lock taken since.
        fence(Ordering::Release);
        Ok(row)
    }

    /// Whether there is a row that belongs to nobody.
    pub(super) fn has_free_row(&self, patience: Patience) -> Result<bool> {
        self.in_pool(patience, |pool| owned(&pool.first) != 0 || owned(&pool.fresh) < self.layout.capacity.into())
    }

    /// Gives `row` back if it belongs to `bucket`; else it is back already.
    pub(super) fn give_row(&self, row: u32, bucket: usize, patience: Patience) -> Result<()> {
        self.in_pool(patience, |pool| {
            if owned(self.mark(row)) != bucket as u64 + 1 {
                return;
            }
            // Relaxed: ordered by the Release of the mark.
            pool.given.store(row.into(), Ordering::Relaxed);
            self.row(row)[Layout::LINKS].store(owned(&pool.first), Ordering::Relaxed);
            // Release, both: in this order, whoever dies in between.
            self.mark(row).store(0, Ordering::Release);
            pool.first.store(row.into(), Ordering::Release);
        })
    }

    /// Puts the list right after an owner died in the middle; may itself be broken off and done again.
    #[cold]
    fn mend(&self, pool: &Pool) {
        let (first, fresh) = (owned(&pool.first) as u32, owned(&pool.fresh));
        if first != 0 && owned(self.mark(first)) != 0 {
            pool.first.store(owned(&self.row(first)[Layout::LINKS]), Ordering::Release);
        } else if fresh < self.layout.capacity.into() && owned(self.mark(fresh as u32 + 1)) != 0 {
            pool.fresh.store(fresh + 1, Ordering::Release);
        }
        let given = owned(&pool.given) as u32;
        // A free row that was given back last is first on the list, unless it never got there: who came after it would be `given` itself.
        if given != 0 && owned(self.mark(given)) == 0 && owned(&pool.first) as u32 != given {
            pool.first.store(given.into(), Ordering::Release);
        }
    }
}
