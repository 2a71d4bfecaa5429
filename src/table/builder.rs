//! Making a table.

use std::sync::Arc;

use super::Table;
use super::column::{Column, ColumnType};
use super::ground::Ground;
use super::layout::{Layout, Wish};
use super::schema::Schema;
use crate::Result;
use crate::shm::Region;

/// Sets what a table is to be; see [`Table::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct TableBuilder {
    wish: Wish,
    schema: Schema,
}

/// The greatest length of a key unless the builder says otherwise, in bytes.
const KEY_SIZE: usize = 64;

impl TableBuilder {
    fn with(capacity: usize, schema: Schema) -> TableBuilder {
        let wish = Wish { capacity, key_size: KEY_SIZE, ttl: false, lru: false, buckets: None };
        TableBuilder { wish, schema }
    }

    /// How many rows there is room for, exactly: 1 ..= 2^32 - 2.
    pub fn capacity(mut self, rows: usize) -> TableBuilder {
        self.wish.capacity = rows;
        self
    }

    /// The greatest length of a key in bytes, 1 ..= 1 MiB; 64 unless said otherwise. Every row has room for it.
    pub fn key_size(mut self, bytes: usize) -> TableBuilder {
        self.wish.key_size = bytes;
        self
    }

    /// The columns; none unless said otherwise.
    pub fn schema(mut self, schema: Schema) -> TableBuilder {
        self.schema = schema;
        self
    }

    /// Lets rows expire. 8 bytes a row, and a look at the clock for each operation (20 ns).
    pub fn ttl(mut self) -> TableBuilder {
        self.wish.ttl = true;
        self
    }

    /// Lets an insertion into a full table evict the coldest of five rows taken at random, instead of failing. 8 bytes a row, and a look at the
    /// clock for each operation (20 ns), for rows remember when they were last read or written, to the millisecond.
    pub fn evict_lru(mut self) -> TableBuilder {
        self.wish.lru = true;
        self
    }

    /// For the project's own harnesses: so many buckets, to bring rows together that would not meet. Not part of the contract.
    #[doc(hidden)]
    pub fn buckets(mut self, buckets: usize) -> TableBuilder {
        self.wish.buckets = Some(buckets);
        self
    }

    /// The bytes of shared memory that the table will take.
    ///
    /// # Errors
    /// As [`build`](TableBuilder::build), for what is out of range.
    pub fn memory(&self) -> Result<usize> {
        Layout::of(&self.wish, &self.schema).map(|layout| layout.bytes)
    }

    /// Makes the table, shared with every process forked from now on.
    ///
    /// # Errors
    /// [`Error::OutOfRange`](crate::Error::OutOfRange) for a capacity, key size or column length out of range, or a table of more than 32 GiB;
    /// [`Error::DuplicateColumn`](crate::Error::DuplicateColumn), [`Error::NameTooLong`](crate::Error::NameTooLong),
    /// [`Error::BadName`](crate::Error::BadName) for a column's name; [`Error::AfterFork`](crate::Error::AfterFork) in a worker of a server,
    /// where it would be shared with nobody; [`Error::System`](crate::Error::System) when the kernel has no memory or file descriptors left.
    pub fn build(self) -> Result<Table> {
        Ok(Table { ground: Arc::new(Ground::new(None, &self.wish, self.schema)?) })
    }

    /// Makes the table in `region`, [`memory`](TableBuilder::memory) bytes of it.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) when the region has not so many left, and as [`build`](TableBuilder::build).
    pub fn build_in(self, region: &Region) -> Result<Table> {
        Ok(Table { ground: Arc::new(Ground::new(Some(region), &self.wish, self.schema)?) })
    }
}

impl Table {
    /// Makes a table with room for exactly `capacity` rows, with keys of at most 64 bytes, shared with every process forked from now on.
    ///
    /// # Errors
    /// As [`TableBuilder::build`].
    ///
    /// # Examples
    /// ```
    /// use commons::{Error, Table};
    /// let table = Table::new(2, commons::Schema::new())?;
    /// table.set("a", &[])?;
    /// table.set("b", &[])?;
    /// assert!(matches!(table.set("c", &[]), Err(Error::Full { capacity: 2 })));
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new(capacity: usize, schema: Schema) -> Result<Table> {
        TableBuilder::with(capacity, schema).build()
    }

    /// Makes a table in `region`: [`memory_for`](Table::memory_for) bytes there.
    ///
    /// # Errors
    /// As [`TableBuilder::build_in`].
    ///
    /// # Examples
    /// ```
    /// use commons::{Region, Schema, Table};
    /// let region = Region::new("mine", Table::memory_for(100, &Schema::new()))?;
    /// let table = Table::new_in(&region, 100, Schema::new())?;
    /// assert_eq!(region.used(), table.memory_size());
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn new_in(region: &Region, capacity: usize, schema: Schema) -> Result<Table> {
        TableBuilder::with(capacity, schema).build_in(region)
    }

    /// Sets what a table is to be: capacity, key size, schema, expiry, eviction.
    ///
    /// # Examples
    /// ```
    /// let mut schema = commons::Schema::new();
    /// let hits = schema.int("hits");
    /// let table = commons::Table::builder().capacity(100).key_size(200).schema(schema).ttl().build()?;
    /// table.set("a key of more than sixty-four bytes, which the builder has been told to expect", &[hits.is(1)])?;
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn builder() -> TableBuilder {
        TableBuilder::with(0, Schema::new())
    }

    /// The bytes of shared memory that [`Table::new`] takes for these; `usize::MAX` for what it refuses.
    ///
    /// # Examples
    /// ```
    /// use commons::{Schema, Table};
    /// let (few, many) = (Table::memory_for(1000, &Schema::new()), Table::memory_for(2000, &Schema::new()));
    /// assert!(many - few <= 1000 * (64 + 64), "the key, and at most 64 bytes");
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn memory_for(capacity: usize, schema: &Schema) -> usize {
        TableBuilder::with(capacity, schema.clone()).memory().unwrap_or(usize::MAX)
    }

    /// The bytes of shared memory that this table takes; the kernel only backs the pages that were written.
    pub fn memory_size(&self) -> usize {
        self.ground.layout.bytes
    }

    /// How many rows there is room for.
    pub fn capacity(&self) -> usize {
        self.ground.layout.capacity as usize
    }

    /// For the project's own harnesses: the bucket of a key's row. Not part of the contract.
    #[doc(hidden)]
    pub fn bucket_of(&self, key: impl AsRef<[u8]>) -> Option<usize> {
        self.ground.name(key.as_ref()).ok().map(|name| name.bucket)
    }

    /// The region that the table is in.
    pub fn region(&self) -> &Region {
        &self.ground.region
    }

    /// The column of this name.
    ///
    /// # Errors
    /// [`Error::UnknownColumn`](crate::Error::UnknownColumn), [`Error::WrongType`](crate::Error::WrongType).
    ///
    /// # Examples
    /// ```
    /// let mut schema = commons::Schema::new();
    /// schema.int("hits");
    /// let table = commons::Table::new(8, schema)?;
    /// let hits = table.column::<i64>("hits")?;
    /// table.set("a", &[hits.is(1)])?;
    /// assert!(table.column::<str>("hits").is_err());
    /// # Ok::<(), commons::Error>(())
    /// ```
    pub fn column<T: ColumnType + ?Sized>(&self, name: &str) -> Result<Column<T>> {
        self.ground.schema.column(name)
    }
}
