//! Writing: under the bucket's lock, through the journal.

use super::Table;
use super::change::Change;
use super::column::{Cell, Column, Number, Value};
use super::ground::{Ground, Name};
use super::hold::Hold;
use super::record::Tally;
use super::row::{cell_is, foreign};
use crate::robust::Patience;
use crate::sync::{Ordering, owned};
use crate::{Error, Result};

/// What [`Table::set`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was no such row; there is now.
    Inserted,
    /// The row was there and has been changed.
    Updated,
}

/// What a write does with the key as it finds it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Always,
    Absent,
    Present,
}

/// How one attempt under the lock ended.
pub(super) enum Attempt<R> {
    Done(R),
    /// All records are in use.
    NoRecord,
    /// All rows are in use.
    NoRow,
}

impl Table {
    /// Writes the row of `key`: inserts it, or merges the given columns into it. A new row starts all zero and empty; no cells at all make or
    /// touch a row.
    ///
    /// # Errors
    /// Refused before anything is written: [`Error::EmptyKey`], [`Error::KeyTooLong`], [`Error::ValueTooLong`], [`Error::ForeignColumn`],
    /// [`Error::DuplicateColumn`] for a column given twice. [`Error::Full`] when there are as many rows as were promised;
    /// [`Error::WouldDeadlock`] inside a closure of this table; [`Error::TooManyParticipants`].
    ///
    /// # Examples
    /// ```
    /// use commons::Outcome;
    /// let mut schema = commons::Schema::new();
    /// let (hits, name) = (schema.int("hits"), schema.string("name", 8));
    /// let table = commons::Table::new(8, schema)?;
    /// assert_eq!(table.set("b", &[hits.is(1)])?, Outcome::Inserted);
    /// assert_eq!(table.set("b", &[name.is("Bob")])?, Outcome::Updated);
    /// assert_eq!(table.value("b", hits), Some(1));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn set(&self, key: impl AsRef<[u8]>, cells: &[Cell<'_>]) -> Result<Outcome> {
        let done = self.ground.write(key.as_ref(), When::Always, &[], cells, None)?;
        Ok(done.unwrap_or(Outcome::Updated))
    }

    /// Inserts the row of `key`; false, and nothing changes, when it is there.
    ///
    /// # Errors
    /// As [`Table::set`].
    ///
    /// # Examples
    /// ```
    /// let table = commons::Table::new(8, commons::Schema::new())?;
    /// assert!(table.add("b", &[])?);
    /// assert!(!table.add("b", &[])?);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn add(&self, key: impl AsRef<[u8]>, cells: &[Cell<'_>]) -> Result<bool> {
        Ok(self.ground.write(key.as_ref(), When::Absent, &[], cells, None)?.is_some())
    }

    /// Changes the row of `key`; false when there is none.
    ///
    /// # Errors
    /// As [`Table::set`], but for [`Error::Full`].
    ///
    /// # Examples
    /// ```
    /// let mut schema = commons::Schema::new();
    /// let hits = schema.int("hits");
    /// let table = commons::Table::new(8, schema)?;
    /// assert!(!table.update("b", &[hits.is(1)])?);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn update(&self, key: impl AsRef<[u8]>, cells: &[Cell<'_>]) -> Result<bool> {
        Ok(self.ground.write(key.as_ref(), When::Present, &[], cells, None)?.is_some())
    }

    /// Changes the row of `key` if each of `expected` is what it holds, to the bit (0.0 is not -0.0, equal NaN bits match); whether it did.
    /// With nothing expected every row will do.
    ///
    /// # Errors
    /// As [`Table::update`].
    ///
    /// # Examples
    /// ```
    /// let mut schema = commons::Schema::new();
    /// let hits = schema.int("hits");
    /// let table = commons::Table::new(8, schema)?;
    /// table.set("b", &[hits.is(1)])?;
    /// assert!(table.cmpset("b", &[hits.is(1)], &[hits.is(2)])?);
    /// assert!(!table.cmpset("b", &[hits.is(1)], &[hits.is(3)])?);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn cmpset(&self, key: impl AsRef<[u8]>, expected: &[Cell<'_>], cells: &[Cell<'_>]) -> Result<bool> {
        Ok(self.ground.write(key.as_ref(), When::Present, expected, cells, None)?.is_some())
    }

    /// Adds `by` to a column and returns the new value; a row that is not there is made, all zero. `i64` wraps around.
    ///
    /// # Errors
    /// As [`Table::set`].
    ///
    /// # Examples
    /// ```
    /// let mut schema = commons::Schema::new();
    /// let hits = schema.int("hits");
    /// let table = commons::Table::new(8, schema)?;
    /// assert_eq!(table.incr("b", hits, 5)?, 5);
    /// assert_eq!(table.decr("b", hits, 2)?, 3);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn incr<T: Number>(&self, key: impl AsRef<[u8]>, column: Column<T>, by: T) -> Result<T> {
        let ground = &*self.ground;
        let at = ground.layout.columns + ground.schema.typed(column)?.at as usize;
        ground.in_bucket(key.as_ref(), |hold, name| {
            // Before the row is looked at, which is still on its way from memory.
            let Some(mut change) = Change::begin(hold)? else { return Ok(Attempt::NoRecord) };
            let found = hold.find(name);
            let live = found.filter(|found| !ground.has_expired(ground.row(found.row)));
            let Some(found) = live else {
                let sum = T::plus(0, by);
                let cell = Cell { column: column.raw, value: Value::Word(sum) };
                let inserted = hold.insert(&mut change, name, found, &[cell], 0)?;
                return Ok(inserted.map(|()| T::from_word(sum)));
            };
            let row = ground.row(found.row);
            let sum = T::plus(owned(&row[at]), by);
            change.save(found.row, at, 1);
            change.arm();
            // Relaxed, here and in all that follows of this kind: see `Change::arm`.
            row[at].store(sum, Ordering::Relaxed);
            ground.touch(row);
            change.commit(Tally { updates: 1, ..Tally::default() })?;
            Ok(Attempt::Done(T::from_word(sum)))
        })
    }

    /// Subtracts `by` from a column; else as [`Table::incr`].
    ///
    /// # Errors
    /// As [`Table::set`].
    pub fn decr<T: Number>(&self, key: impl AsRef<[u8]>, column: Column<T>, by: T) -> Result<T> {
        self.incr(key, column, by.negated())
    }
}

impl Ground {
    /// Runs `attempt` under the lock of the key's bucket until it is done, making room in between.
    #[inline(always)]
    pub(super) fn in_bucket<R>(
        &self,
        key: &[u8],
        attempt: impl FnMut(&Hold<'_>, Name<'_>) -> Result<Attempt<R>>,
    ) -> Result<R> {
        self.in_bucket_within(key, Patience::Endless, attempt)
    }

    #[inline]
    pub(super) fn in_bucket_within<R>(
        &self,
        key: &[u8],
        patience: Patience,
        mut attempt: impl FnMut(&Hold<'_>, Name<'_>) -> Result<Attempt<R>>,
    ) -> Result<R> {
        if !self.is_possible(key) {
            return Err(self.refusal(key));
        }
        let name = self.prefetch(self.hashed(key));
        loop {
            let hold = match self.hold_at_once(name.bucket, patience) {
                Some(hold) => hold,
                None => self.hold(name.bucket, patience)?,
            };
            let done = attempt(&hold, name)?;
            drop(hold);
            match done {
                Attempt::Done(result) => return Ok(result),
                Attempt::NoRecord => self.wait_for_record(patience)?,
                Attempt::NoRow => self.make_room(patience)?,
            }
        }
    }

    /// Refuses cells that cannot be written here, by name.
    #[inline]
    pub(super) fn check(&self, cells: &[Cell<'_>]) -> Result<()> {
        for (n, cell) in cells.iter().enumerate() {
            let spec = self.schema.spec(cell.column);
            let spec = spec.filter(|spec| spec.kind.is_number() == matches!(cell.value, Value::Word(_)));
            let of = if matches!(cell.value, Value::Word(_)) { "i64 or f64" } else { "str or [u8]" };
            // No error is made where none is needed: it would have to be dropped.
            let Some(spec) = spec else { return Err(foreign(of)) };
            spec.fits(cell.value)?;
            if cells[..n].iter().any(|earlier| earlier.column == cell.column) {
                return Err(Error::DuplicateColumn { column: spec.name.clone() });
            }
        }
        Ok(())
    }

    /// Whether the row holds all of `cells`, which were checked.
    pub(super) fn holds(&self, row: u32, cells: &[Cell<'_>]) -> bool {
        let columns = self.columns_of(self.row(row));
        cells.iter().all(|cell| cell_is(&columns[cell.column.at as usize..], cell.value))
    }

    /// The one write behind all of them: None when the key is not as `when` wants it, or does not hold what is `expected`. `due` is when the
    /// row expires; None leaves that as it is.
    #[inline]
    pub(super) fn write(
        &self,
        key: &[u8],
        when: When,
        expected: &[Cell<'_>],
        cells: &[Cell<'_>],
        due: Option<u64>,
    ) -> Result<Option<Outcome>> {
        self.check(expected)?;
        self.check(cells)?;
        self.in_bucket(key, |hold, name| {
            // What is certain to change something begins before the row is looked at, which is still on its way from memory.
            let mut change = if when == When::Always { Change::begin(hold)? } else { None };
            let found = hold.find(name);
            let live = found.filter(|found| !self.has_expired(self.row(found.row)));
            let wanted = match live {
                Some(found) => when != When::Absent && self.holds(found.row, expected),
                None => when != When::Present,
            };
            if !wanted {
                return Ok(Attempt::Done(None));
            }
            if when != When::Always {
                change = Change::begin(hold)?;
            }
            let Some(change) = &mut change else { return Ok(Attempt::NoRecord) };
            if let Some(found) = live {
                hold.update(change, found, cells, due)?;
                return Ok(Attempt::Done(Some(Outcome::Updated)));
            }
            let inserted = hold.insert(change, name, found, cells, due.unwrap_or(0))?;
            Ok(inserted.map(|()| Some(Outcome::Inserted)))
        })
    }
}

impl<R> Attempt<R> {
    pub(super) fn map<S>(self, f: impl FnOnce(R) -> S) -> Attempt<S> {
        match self {
            Attempt::Done(result) => Attempt::Done(f(result)),
            Attempt::NoRecord => Attempt::NoRecord,
            Attempt::NoRow => Attempt::NoRow,
        }
    }
}
