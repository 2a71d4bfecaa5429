//! Closures that run while their row is held: `update_with` and `upsert_with`, and what they may not do.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::Table;
use super::change::Change;
use super::ground::{Ground, WHAT};
use super::row::RowMut;
use super::write::Attempt;
use crate::robust::Patience;
use crate::sync::thread_slot;
use crate::{Error, Result};

thread_slot! {
    /// How many there are in `INSIDE`: for all who are in no closure, one look at a word without a destructor.
    static DEPTH: Cell<usize> = Cell::new(0);
}

thread_slot! {
    /// The tables of which this thread holds a row in a closure, by the key of their head. A fork inside a closure copies it with the thread.
    static INSIDE: RefCell<Vec<u64>> = RefCell::new(Vec::new());
}

impl Table {
    /// Changes the row of `key` by a closure that sees and sets its columns: all that it sets is written when it returns, or nothing. None when
    /// there is no row.
    ///
    /// The closure holds the row: nobody else writes it meanwhile, so it should be short. Inside it, what asks the same table for anything
    /// finds nothing, or gets [`Error::WouldDeadlock`] if it can return an error. A panic changes nothing.
    ///
    /// # Errors
    /// As [`Table::update`]; [`Error::WrongProcess`] in a process that was forked inside the closure.
    ///
    /// # Examples
    /// ```
    /// let mut schema = commons::Schema::new();
    /// let hits = schema.int("hits");
    /// let table = commons::Table::new(8, schema)?;
    /// table.set("b", &[hits.is(4)])?;
    /// let before = table.update_with("b", |row| {
    ///     let n = row.get(hits);
    ///     row.set(hits, n * 2);
    ///     n
    /// })?;
    /// assert_eq!((before, table.value("b", hits)), (Some(4), Some(8)));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn update_with<R>(&self, key: impl AsRef<[u8]>, f: impl FnOnce(&mut RowMut<'_>) -> R) -> Result<Option<R>> {
        self.ground.with(key.as_ref(), false, Patience::Endless, f)
    }

    /// The same; a row that is not there is made, all zero, unless the closure panics.
    ///
    /// # Errors
    /// As [`Table::set`], and as [`Table::update_with`].
    ///
    /// # Examples
    /// ```
    /// let mut schema = commons::Schema::new();
    /// let hits = schema.int("hits");
    /// let table = commons::Table::new(8, schema)?;
    /// table.upsert_with("b", |row| row.set(hits, 7))?;
    /// assert_eq!(table.value("b", hits), Some(7));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn upsert_with<R>(&self, key: impl AsRef<[u8]>, f: impl FnOnce(&mut RowMut<'_>) -> R) -> Result<R> {
        self.upsert_within(key.as_ref(), Patience::Endless, f)
    }

    /// The same, waiting at most `timeout` for one that was stopped in the middle of a change. Beyond that waits only who has evicted a row and
    /// finds somebody stopped at the very point of giving one back.
    ///
    /// # Errors
    /// [`Error::Timeout`], and nothing has changed; as [`Table::upsert_with`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let mut schema = commons::Schema::new();
    /// let hits = schema.int("hits");
    /// let table = commons::Table::new(8, schema)?;
    /// table.upsert_timeout("b", Duration::from_millis(5), |row| row.set(hits, 7))?;
    /// assert_eq!(table.value("b", hits), Some(7));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn upsert_timeout<R>(
        &self,
        key: impl AsRef<[u8]>,
        timeout: Duration,
        f: impl FnOnce(&mut RowMut<'_>) -> R,
    ) -> Result<R> {
        // No time at all needs no clock.
        let patience = if timeout.is_zero() { Patience::None } else { Patience::lasting(timeout) };
        self.upsert_within(key.as_ref(), patience, f)
    }

    fn upsert_within<R>(&self, key: &[u8], patience: Patience, f: impl FnOnce(&mut RowMut<'_>) -> R) -> Result<R> {
        let done = self.ground.with(key, true, patience, f)?;
        done.ok_or(Error::Full { capacity: self.ground.layout.capacity as usize })
    }
}

impl Ground {
    fn with<R>(
        &self,
        key: &[u8],
        or_insert: bool,
        patience: Patience,
        f: impl FnOnce(&mut RowMut<'_>) -> R,
    ) -> Result<Option<R>> {
        let mut f = Some(f);
        self.in_bucket_within(key, patience, |hold, name| {
            let found = hold.find(name);
            let live = found.filter(|found| !self.has_expired(self.row(found.row)));
            if live.is_none() && !or_insert {
                return Ok(Attempt::Done(None));
            }
            // All that could be refused comes before the closure, which runs once.
            let Some(mut change) = Change::begin(hold)? else { return Ok(Attempt::NoRecord) };
            let fresh = match found {
                Some(_) => None,
                None => match change.take_row()? {
                    None => return Ok(Attempt::NoRow),
                    fresh => fresh,
                },
            };
            let Some(f) = f.take() else { return Ok(Attempt::Done(None)) };
            let mut draft = RowMut::new(self, live.map(|found| self.columns_of(self.row(found.row))));
            let inside = Inside::of(self);
            let result = f(&mut draft);
            drop(inside);
            if !hold.is_mine() {
                let (call, expected) = ("writing what a table's closure has set", "process that called it");
                return Err(Error::WrongProcess { call, expected, pid: std::process::id() });
            }
            let cells = draft.changes()?;
            match (live, fresh) {
                (Some(found), _) => hold.update(&mut change, found, &cells, None)?,
                (None, Some(fresh)) => hold.fill(&mut change, name, fresh, &cells, 0)?,
                (None, None) => {
                    let _: Attempt<()> = hold.insert(&mut change, name, found, &cells, 0)?;
                }
            }
            Ok(Attempt::Done(Some(result)))
        })
    }

    fn id(&self) -> u64 {
        self.head.key(&self.head.turn).bits()
    }
}

/// Refuses what a closure asks of the very table whose row it holds: to wait for a row while holding one would end in a circle of two sooner
/// or later.
#[inline(always)]
pub(super) fn outside(ground: &Ground) -> Result<()> {
    if is_outside(ground) { Ok(()) } else { Err(Error::WouldDeadlock { what: WHAT }) }
}

/// Whether the calling thread is in no closure of this table.
#[inline(always)]
pub(super) fn is_outside(ground: &Ground) -> bool {
    DEPTH.with(Cell::get) == 0 || is_outside_this(ground)
}

#[cold]
fn is_outside_this(ground: &Ground) -> bool {
    INSIDE.with(|inside| !inside.borrow().contains(&ground.id()))
}

/// As long as it lives, the calling thread is inside a closure of this table.
struct Inside;

impl Inside {
    fn of(ground: &Ground) -> Inside {
        INSIDE.with(|inside| inside.borrow_mut().push(ground.id()));
        DEPTH.with(|depth| depth.set(depth.get() + 1));
        Inside
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
        INSIDE.with(|inside| inside.borrow_mut().pop());
    }
}
