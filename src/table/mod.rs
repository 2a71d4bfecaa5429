//! Floor 4, the table: a hash map with typed columns, in shared memory, that survives the death of anybody who works on it.
//!
//! # What lies in the region
//! ```text
//! head       description for tools, seed of the hash, the pool of free rows
//! schema     names, types and places of the columns
//! buckets    one cache line each: lock │ 6 places │ overflow               capacity / 4 of them
//! records    one for each writer in the middle of a change, at most 64     two cache lines each, and a log of old words;
//!            half of them belong to the first seats, one to each, and half to everybody
//! rows       mark │ links │ hash, key length │ [expiry] │ [last use] │ key │ columns        exactly `capacity` of them
//! ```
//! A place is the lower half of the key's hash and the number of its row. Rows that find no place in their bucket hang in a tree whose links lie in
//! the rows themselves (`index`), so there is no second pool that could run out before the rows do: **N rows fit, whatever they hash to.** A row
//! never moves while it is there, which is what lets a scan go by row number and meet each exactly once (`iter`).
//!
//! # Who may touch what
//! | words | written by | read by others |
//! |---|---|---|
//! | places, overflow; of its rows: links, key, columns, expiry | who holds the bucket's lock | at any time, under the lock's version |
//! | mark; links of a free row; first, fresh, given | who holds the pool's lock | mark and fresh, as hints that are checked |
//! | a record and its log | who took it: its seat's tenant by a store, of those that all share whoever exchanged its state; after its death, who holds the bucket that it names | state and figures |
//! | last use; cursor | anybody, as hints | |
//! | soonest | who gives a row a time, who searches for one that has expired (`soonest`) | at any time |
//!
//! Locks are taken in this order: one bucket, then one record, then the pool. Nobody ever holds two buckets: what needs another one (settling the
//! dead, reclaiming, evicting) is done after letting go, and then the whole operation begins again (`write`, `expiry`).
//!
//! # Reading (`read`)
//! A reader takes the lock's word, copies what it wants with plain loads, and looks whether the word is still the same. The race one would fear: it
//! finds a row's number, the row is deleted, given to another bucket and filled anew, and the reader returns a stranger's values under
//! its own key. It cannot: the deletion took the first bucket's lock, and whoever wrote the new values did so after a fence that came after that;
//! so a reader that has seen any of them sees the lock's word changed. After a few attempts it takes the lock, so that a stream
//! of writers cannot starve it; and when the lock's owner is dead it does so at once, and repairs.
//!
//! # Writing (`write`, `change`, `record`)
//! Every change goes through a record: old words into its log, one store to make the log valid, the changes, one store to make it void. That last
//! store is the commit, and it also chooses which of two sets of figures counts; so the figures are exact whoever dies, and `len` needs no lock.
//! Even the change of a single word goes this way, for the figure and the word are two.
//!
//! # Death at each step
//! | dies | then |
//! |---|---|
//! | reading | nobody notices |
//! | having the lock, before its record's log is valid | nothing has changed; a row that it had taken goes back to the pool |
//! | after that, before the commit | the next one that takes the bucket's lock writes the old words back |
//! | after the commit, a row on its way back to the pool | the next one sends it on |
//! | settling one of these | the one after it begins again: settling reads nothing that it changes |
//! | in the pool | the pool's next owner mends the list by the rows' marks (`pool`) |
//!
//! Whoever comes to the bucket next settles it: a reader too, for it finds the lock owned by the dead, or marked. Nobody has to come for the rest to be
//! right: figures only count what was committed, and an insertion that finds no row goes looking for those of the dead before it gives up.
//!
//! # Expiry and eviction (`expiry`)
//! A row whose time is over is absent to everybody, at once and without anybody doing anything. Its room is reclaimed by the next write of its key,
//! by `purge`, or by an insertion that finds no room. Eviction samples five rows and takes the one that was used longest ago.
//!
//! # Measured
//! A million rows of two numbers and a string of 64 bytes (`benches/table`), on two busy cores of a Zen 3 under KVM; in misses: the time of one
//! dependent load from as much memory in pages of 4 KiB. A busy machine says little about differences of less than a fifth.
//!
//! | chosen | instead of | what it brought |
//! |---|---|---|
//! | the place in a bucket without a jump, no error made to be dropped, names and changes not moved through memory (a load of sixteen bytes waits for two stores of eight) | loops that end where the key is, values returned by way of `Result` | hot `value` 27 → 12 ns, `get_into` 47 → 17 ns, `incr` 114 → 57 ns, three columns 190 → 88 ns; random `get_into` 2.2 → 1.4–1.75 misses |
//! | `prefault`: huge pages, on demand | pages of 4 KiB, which the table still has unless told otherwise | random `get_into` 1.4–1.6 → 0.6–1.2 misses, three columns 2.1–2.6 → 1.7–2.1, `incr` 2.2–2.5 → 1.5–1.7; a miss itself 0.8 |
//! | what the prefetch before the lock has seen is where the search under the lock begins | the same search twice | 17 to 40 instructions of 630 to 2130; `get_many` 90–115 → 72 ns a row in huge pages, 2.6 to 2.7 times as fast as single gets |
//! | a record of its own for each of the first seats, taken by a store; changes not moved through memory either | an exchange on a shared one, changes handed over by value | hot `incr` 62 → 49 ns, three columns 82 → 76 ns; in misses 1.34–1.96 → 1.36–1.68 and 1.63–2.06 → 1.58–1.89, five interleaved runs of each |
//! | rows of up to 32 words copied whole | column by column, as long as each string is | part of the first; the copy asks nothing of data that is on its way |
//! | foldhash (quality), 3.0 ns for 11 bytes, 4.8 for 64 | ahash 3.4 and 4.7, with dependencies; rapidhash v3 3.2 and 3.5; SipHash-1-3 15 and 20 | no dependencies; keyed at random like the others, but none of them except SipHash is made against one who can measure |
//! | four rows a bucket | three: 213 bytes a row, above the 212 promised | no difference beyond the noise, 1.1 and 1.8 misses a get against 1.5 and 1.5 |
//! | `get_many` in one pass, keys 12 and 24 ahead | three passes over 32 keys | 2.0 to 2.2 times as fast as single gets instead of 1.8 to 2.0, both before huge pages |
//!
//! Huge pages are had by `MADV_COLLAPSE` of memory that begins where one may begin, once all of it is there. Not by advice alone where
//! `shmem_enabled` says "never", as it does on most machines; and not by collapsing memory that was never touched, which the kernel refuses. Rows are
//! 192 bytes apart here, three cache lines; other strides, five rows a bucket, and writing without the prefetch were not measured.

#![forbid(unsafe_code)]

mod builder;
mod change;
mod closure;
mod column;
mod describe;
mod expiry;
mod fill;
mod ground;
mod hold;
mod index;
mod iter;
mod layout;
mod many;
mod pool;
mod read;
mod record;
mod remove;
mod row;
mod schema;
mod shared;
mod soonest;
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
