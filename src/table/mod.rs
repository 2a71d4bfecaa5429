//! Floor 4, the table: a hash map with typed columns, in shared memory, that survives the death of anybody who works on it.
//! essay follows.

#![forbid(unsafe_code)]

mod builder;
mod closure;
mod column;
mod describe;
mod expiry;
mod ground;
mod index;
mod iter;
mod journal;
mod layout;
mod many;
mod pool;
mod read;
mod remove;
mod row;
mod schema;
mod shared;
mod stats;
mod write;

use std::sync::Arc;

pub use builder::TableBuilder;
pub use column::{Cell, Column, ColumnType, Number};
use ground::Ground;
pub use iter::Iter;
pub use row::{Key, Row, RowMut};
pub use schema::Schema;
pub use stats::TableStats;
pub use write::Outcome;

/// A hash map in shared memory: typed columns, room for exactly as many rows as promised, reads without a lock.
///
/// Handles are cheap to clone and valid in every process forked after the table was made. Every operation on one row happens at one instant. A
/// process that dies anywhere leaves each row wholly as it was or wholly as it was to be. Memory: see [`memory_for`](Table::memory_for); at most
/// key size, columns and 64 bytes a row.
///
/// # Examples
/// ```
/// use commons::{Schema, Table};
///
/// let mut schema = Schema::new();
/// let (hits, name) = (schema.int("hits"), schema.string("name", 64));
/// let users = Table::new(1024, schema)?; // before the fork
///
/// users.set("bob", &[hits.is(1), name.is("Bob")])?;
/// users.incr("bob", hits, 1)?;
/// let row = users.get("bob").unwrap();
/// assert_eq!((row.get(hits), row.get(name)), (2, "Bob"));
/// # Ok::<(), commons::Error>(())
/// ```
#[derive(Clone)]
pub struct Table {
    ground: Arc<Ground>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("rows", &self.len()).field("capacity", &self.capacity()).finish()
    }
}
