//! What is written into a row: a new one, one that changes, one whose time is over and that begins anew.

use super::change::Change;
use super::column::{Cell, Value};
use super::ground::Name;
use super::hold::Hold;
use super::index::Found;
use super::layout::Layout;
use super::record::Tally;
use super::row::words_of;
use super::write::Attempt;
use crate::Result;
use crate::shm::store_bytes;
use crate::sync::Ordering;

impl Hold<'_> {
    /// Merges `cells` into a row.
    #[inline(always)]
    pub(super) fn update(
        &self,
        change: &mut Change<'_>,
        found: Found,
        cells: &[Cell<'_>],
        due: Option<u64>,
    ) -> Result<()> {
        let ground = self.ground;
        let row = ground.row(found.row);
        for cell in cells {
            change.save(found.row, ground.layout.columns + cell.column.at as usize, words_of(cell.value));
        }
        let due = due.zip(ground.layout.expiry);
        if let Some((_, at)) = due {
            change.save(found.row, at, 1);
        }
        if !cells.is_empty() || due.is_some() {
            change.arm();
        }
        self.put(found.row, cells);
        if let Some((due, at)) = due {
            row[at].store(due, Ordering::Relaxed);
            ground.expects(due);
        }
        ground.touch(row);
        change.commit(Tally { updates: 1, ..Tally::default() })
    }

    /// Makes a row, in the place of an `expired` one or in a fresh one.
    pub(super) fn insert(
        &self,
        change: &mut Change<'_>,
        name: Name<'_>,
        expired: Option<Found>,
        cells: &[Cell<'_>],
        due: u64,
    ) -> Result<Attempt<()>> {
        if let Some(expired) = expired {
            return self.renew(change, expired, cells, due).map(Attempt::Done);
        }
        match change.take_row()? {
            None => Ok(Attempt::NoRow),
            Some(row) => self.fill(change, name, row, cells, due).map(Attempt::Done),
        }
    }

    /// Fills a fresh row and links it.
    pub(super) fn fill(
        &self,
        change: &mut Change<'_>,
        name: Name<'_>,
        number: u32,
        cells: &[Cell<'_>],
        due: u64,
    ) -> Result<()> {
        let ground = self.ground;
        let row = ground.row(number);
        row[Layout::LINKS].store(0, Ordering::Relaxed);
        row[Layout::NAME].store(u64::from(name.low) << 32 | name.key.len() as u64, Ordering::Relaxed);
        store_bytes(ground.key_of(row), name.key);
        if let Some(at) = ground.layout.expiry {
            row[at].store(due, Ordering::Relaxed);
            ground.expects(due);
        }
        ground.touch(row);
        self.clear(number);
        self.put(number, cells);
        let tally = self.plan_link(change, number, name.low);
        change.arm();
        change.commit(Tally { inserts: 1, ..tally })
    }

    /// Makes a new row of an expired one that nobody has reclaimed: one deletion and one insertion, at one instant.
    fn renew(&self, change: &mut Change<'_>, expired: Found, cells: &[Cell<'_>], due: u64) -> Result<()> {
        let ground = self.ground;
        let row = ground.row(expired.row);
        change.save(expired.row, ground.layout.columns, ground.layout.width);
        if let Some(at) = ground.layout.expiry {
            change.save(expired.row, at, 1);
        }
        change.arm();
        self.clear(expired.row);
        self.put(expired.row, cells);
        if let Some(at) = ground.layout.expiry {
            row[at].store(due, Ordering::Relaxed);
            ground.expects(due);
        }
        ground.touch(row);
        change.commit(Tally { inserts: 1, deletes: 1, ..Tally::default() })
    }

    /// Makes all columns of a row zero and empty.
    fn clear(&self, row: u32) {
        let columns = self.ground.columns_of(self.ground.row(row));
        for spec in &self.ground.schema.columns {
            columns[spec.at as usize].store(0, Ordering::Relaxed);
        }
    }

    /// Writes `cells`, which were checked.
    #[inline]
    fn put(&self, row: u32, cells: &[Cell<'_>]) {
        let columns = self.ground.columns_of(self.ground.row(row));
        for cell in cells {
            let words = &columns[cell.column.at as usize..];
            match cell.value {
                Value::Word(word) => words[0].store(word, Ordering::Relaxed),
                Value::Bytes(bytes) => {
                    words[0].store(bytes.len() as u64, Ordering::Relaxed);
                    store_bytes(&words[1..], bytes);
                }
            }
        }
    }
}
