//! Removing rows.

use super::Table;
use super::change::Change;
use super::column::Cell;
use super::ground::Ground;
use super::hold::Hold;
use super::index::Found;
use super::record::Tally;
use super::row::Row;
use super::write::Attempt;
use crate::Result;

impl Table {
    /// Removes the row of `key`; whether it was there. Also false where the removal is refused: [`try_del`](Table::try_del) tells.
    ///
    /// # Examples
    /// ```
    /// let table = commons::Table::new(8, commons::Schema::new())?;
    /// table.set("b", &[])?;
    /// assert!(table.del("b"));
    /// assert!(!table.del("b"));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn del(&self, key: impl AsRef<[u8]>) -> bool {
        self.try_del(key).unwrap_or(false)
    }

    /// Removes the row of `key`; whether it was there.
    ///
    /// # Errors
    /// [`Error::EmptyKey`](crate::Error::EmptyKey), [`Error::KeyTooLong`](crate::Error::KeyTooLong);
    /// [`Error::WouldDeadlock`](crate::Error::WouldDeadlock) inside a closure of this table;
    /// [`Error::TooManyParticipants`](crate::Error::TooManyParticipants).
    pub fn try_del(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.ground.remove_if(key.as_ref(), &[], |_| ()).map(|removed| removed.is_some())
    }

    /// Removes the row of `key` if each of `expected` is what it holds, to the bit; whether it did. With nothing expected every row will do.
    ///
    /// # Errors
    /// As [`Table::update`].
    ///
    /// # Examples
    /// ```
    /// let mut schema = commons::Schema::new();
    /// let hits = schema.int("hits");
    /// let table = commons::Table::new(8, schema)?;
    /// table.set("b", &[hits.is(2)])?;
    /// assert!(!table.cmpdel("b", &[hits.is(1)])?);
    /// assert!(table.cmpdel("b", &[hits.is(2)])?);
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn cmpdel(&self, key: impl AsRef<[u8]>, expected: &[Cell<'_>]) -> Result<bool> {
        self.ground.check(expected)?;
        self.ground.remove_if(key.as_ref(), expected, |_| ()).map(|removed| removed.is_some())
    }

    /// Removes the row of `key` and returns it as it was. None also where the removal is refused: [`try_take`](Table::try_take) tells.
    ///
    /// # Examples
    /// ```
    /// let mut schema = commons::Schema::new();
    /// let hits = schema.int("hits");
    /// let table = commons::Table::new(8, schema)?;
    /// table.set("b", &[hits.is(2)])?;
    /// assert_eq!(table.take("b").map(|row| row.get(hits)), Some(2));
    /// assert!(!table.exists("b"));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn take(&self, key: impl AsRef<[u8]>) -> Option<Row> {
        self.try_take(key).unwrap_or(None)
    }

    /// Removes the row of `key` and returns it as it was.
    ///
    /// # Errors
    /// As [`Table::try_del`].
    pub fn try_take(&self, key: impl AsRef<[u8]>) -> Result<Option<Row>> {
        let ground = &*self.ground;
        let mut row = self.row();
        let taken =
            ground.remove_if(key.as_ref(), &[], |number| row.copy_from(ground.columns_of(ground.row(number))))?;
        Ok(taken.map(|()| row))
    }
}

impl Ground {
    /// Removes the row of `key` if it holds what is `expected`, after `f` has seen it.
    fn remove_if<R>(&self, key: &[u8], expected: &[Cell<'_>], mut f: impl FnMut(u32) -> R) -> Result<Option<R>> {
        self.in_bucket(key, |hold, name| {
            let Some(found) = hold.find(name) else { return Ok(Attempt::Done(None)) };
            // One that has expired is absent, and so it goes as well.
            let expired = self.has_expired(self.row(found.row));
            if !expired && !self.holds(found.row, expected) {
                return Ok(Attempt::Done(None));
            }
            let Some(mut change) = Change::begin(hold)? else { return Ok(Attempt::NoRecord) };
            let seen = (!expired).then(|| f(found.row));
            hold.remove(&mut change, found)?;
            Ok(Attempt::Done(seen))
        })
    }
}

impl Hold<'_> {
    /// Cuts a row off and gives it back.
    pub(super) fn remove(&self, change: &mut Change<'_>, found: Found) -> Result<()> {
        self.plan_unlink(change, found);
        change.leave(found.row);
        change.arm();
        change.commit(Tally { deletes: 1, ..Tally::default() })
    }
}
