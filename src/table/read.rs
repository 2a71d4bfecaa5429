//! Reading: without the lock, under its version; and with it, when that does not succeed.

use std::time::Duration;

use super::Table;
use super::closure;
use super::column::{Column, ColumnType};
use super::ground::{Ground, Name};
use super::index::Glimpse;
use super::row::{Row, copy_cell};
use crate::robust::{Patience, Slices};
use crate::sync::{AtomicU64, Ordering, clock, size, spin_hint, spins};
use crate::{Error, Result};

/// Attempts without the lock before a reader takes it, so that a stream of writers cannot starve it.
const ATTEMPTS: usize = size(8, 1);

impl Table {
    /// The row of `key`: one consistent copy. None when there is none, when it has expired, or when no key is like that (empty, too long).
    ///
    /// Takes no lock unless writers keep changing the row's bucket, or one died there. Inside a closure of this table it finds nothing.
    ///
    /// # Examples
    /// ```
    /// let mut schema = commons::Schema::new();
    /// let hits = schema.int("hits");
    /// let table = commons::Table::new(8, schema)?;
    /// table.set("home", &[hits.is(2)])?;
    /// assert_eq!(table.get("home").map(|row| row.get(hits)), Some(2));
    /// assert!(table.get("away").is_none());
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Row> {
        let mut row = self.row();
        self.get_into(key, &mut row).then_some(row)
    }

    /// The same, waiting at most `timeout` for a writer that was stopped in the middle of a change.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::EmptyKey`], [`Error::KeyTooLong`]; [`Error::WouldDeadlock`] inside a closure of this table.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// let table = commons::Table::new(8, commons::Schema::new())?;
    /// assert!(table.get_timeout("away", Duration::from_millis(5))?.is_none());
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn get_timeout(&self, key: impl AsRef<[u8]>, timeout: Duration) -> Result<Option<Row>> {
        let name = self.ground.name(key.as_ref())?;
        let mut row = self.row();
        let ground = &*self.ground;
        let found = ground.read(name, Patience::lasting(timeout), |words| row.copy_from(ground.columns_of(words)))?;
        Ok(found.map(|()| row))
    }

    /// An empty row of this table, for [`get_into`](Table::get_into) to fill again and again.
    pub fn row(&self) -> Row {
        Row::new(&self.ground)
    }

    /// Copies the row of `key` into `row`, without allocating; false, and `row` as it may be, when there is none.
    ///
    /// A `row` of another table is replaced by one of this.
    ///
    /// # Examples
    /// ```
    /// let mut schema = commons::Schema::new();
    /// let hits = schema.int("hits");
    /// let table = commons::Table::new(8, schema)?;
    /// table.set("home", &[hits.is(2)])?;
    /// let mut row = table.row();
    /// assert!(table.get_into("home", &mut row) && row.get(hits) == 2);
    /// # Ok::<(), commons::Error>(())
    /// ```
    #[inline]
    pub fn get_into(&self, key: impl AsRef<[u8]>, row: &mut Row) -> bool {
        if !row.is_of(&self.ground) {
            *row = self.row();
        }
        let ground = &*self.ground;
        let key = key.as_ref();
        ground.is_possible(key)
            && ground.glance(ground.hashed(key), |words| row.copy_from(ground.columns_of(words))).is_some()
    }

    /// One value of the row of `key`: `i64`, `f64`, `String` or `Vec<u8>`. None as in [`get`](Table::get), and for a column of another
    /// schema. Allocates nothing for numbers.
    ///
    /// # Examples
    /// ```
    /// let mut schema = commons::Schema::new();
    /// let name = schema.string("name", 8);
    /// let table = commons::Table::new(8, schema)?;
    /// table.set("b", &[name.is("Bob")])?;
    /// assert_eq!(table.value("b", name), Some("Bob".to_owned()));
    /// # Ok::<(), commons::Error>(())
    /// ```
    #[inline]
    pub fn value<T: ColumnType + ?Sized>(&self, key: impl AsRef<[u8]>, column: Column<T>) -> Option<T::Owned> {
        let ground = &*self.ground;
        let spec = ground.schema.typed(column).ok()?;
        let key = key.as_ref();
        if !ground.is_possible(key) {
            return None;
        }
        let name = ground.hashed(key);
        if spec.kind.is_number() {
            let at = ground.layout.columns + spec.at as usize;
            // Relaxed: ordered by the lock's version.
            let word = ground.glance(name, |words| words[at].load(Ordering::Relaxed))?;
            return Some(T::own(T::read(&word.to_le_bytes())));
        }
        let mut cell = vec![0; spec.words() * 8];
        ground.glance(name, |words| copy_cell(spec, ground.column_of(words, spec), &mut cell))?;
        Some(T::own(T::read(&cell)))
    }

    /// Whether there is a row of `key`.
    ///
    /// # Examples
    /// ```
    /// let table = commons::Table::new(8, commons::Schema::new())?;
    /// assert!(!table.exists("home"));
    /// # Ok::<(), commons::Error>(())
    /// ```
    #[inline]
    pub fn exists(&self, key: impl AsRef<[u8]>) -> bool {
        let ground = &*self.ground;
        let key = key.as_ref();
        ground.is_possible(key) && ground.glance(ground.hashed(key), |_| ()).is_some()
    }
}

impl Ground {
    /// Reads the row of `name` with `f`, which may be called several times and has to bear words that do not belong together; what
    /// its last call returned holds.
    #[inline(always)]
    pub(super) fn glance<T>(&self, name: Name<'_>, mut f: impl FnMut(&[AtomicU64]) -> T) -> Option<T> {
        if !closure::is_outside(self) {
            return None;
        }
        match self.attempt(name, &mut f) {
            Some(answer) => answer,
            None => self.read_slowly(name, Patience::Endless, f).ok().flatten(),
        }
    }

    pub(super) fn read<T>(
        &self,
        name: Name<'_>,
        patience: Patience,
        mut f: impl FnMut(&[AtomicU64]) -> T,
    ) -> Result<Option<T>> {
        closure::outside(self)?;
        if let Some(answer) = self.attempt(name, &mut f) {
            return Ok(answer);
        }
        self.read_slowly(name, patience, f)
    }

    /// One attempt without the lock; None when it is taken, its owner died, or it changed hands meanwhile.
    #[inline(always)]
    fn attempt<T>(&self, name: Name<'_>, f: &mut impl FnMut(&[AtomicU64]) -> T) -> Option<Option<T>> {
        let bucket = &self.buckets[name.bucket];
        let stamp = bucket.lock.stamp()?;
        let found = match self.glimpse(bucket, name, stamp) {
            Glimpse::Row(row) => Some((row, self.has_expired(row), f(row))),
            Glimpse::Absent => None,
            Glimpse::Torn => return None,
        };
        if !bucket.lock.still(stamp) {
            return None;
        }
        let Some((row, expired, value)) = found else { return Some(None) };
        if expired {
            return Some(None);
        }
        self.touch(row);
        Some(Some(value))
    }

    #[cold]
    fn read_slowly<T>(
        &self,
        name: Name<'_>,
        patience: Patience,
        mut f: impl FnMut(&[AtomicU64]) -> T,
    ) -> Result<Option<T>> {
        let mut slices = Slices::new();
        loop {
            for _ in 0..ATTEMPTS {
                let mut left = spins();
                while left > 0 && self.buckets[name.bucket].lock.stamp().is_none() {
                    left -= 1;
                    spin_hint();
                }
                if let Some(answer) = self.attempt(name, &mut f) {
                    return Ok(answer);
                }
            }
            match self.hold(name.bucket, patience) {
                Ok(hold) => {
                    let Some(found) = hold.find(name) else { return Ok(None) };
                    let row = self.row(found.row);
                    if self.has_expired(row) {
                        return Ok(None);
                    }
                    self.touch(row);
                    return Ok(Some(f(row)));
                }
                // This thread cannot take locks; others can, so it looks again when one of them may have let go.
                Err(Error::TooManyParticipants { .. }) => {
                    patience.check()?;
                    let lock = &self.buckets[name.bucket].lock;
                    let _ = slices.rest(lock.cell(), lock.word(), patience);
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Whether the time of a row is over.
    #[inline(always)]
    pub(super) fn has_expired(&self, row: &[AtomicU64]) -> bool {
        let Some(at) = self.layout.expiry else { return false };
        // Relaxed: ordered by the lock, or by its version.
        let due = row[at].load(Ordering::Relaxed);
        due != 0 && due <= clock::now()
    }

    /// Notes that a row was used, if anybody wants to know.
    #[inline(always)]
    pub(super) fn touch(&self, row: &[AtomicU64]) {
        if let Some(at) = self.layout.used {
            let now = tick();
            // Relaxed, both: a hint, which may even land in a row that belongs to somebody else by now. The store only when it says something
            // new, so that readers of a hot row do not take its line from each other.
            if row[at].load(Ordering::Relaxed) != now {
                row[at].store(now, Ordering::Relaxed);
            }
        }
    }
}

/// The time in steps of 2^20 ns, about a millisecond.
pub(super) fn tick() -> u64 {
    clock::now() >> 20
}
