//! How many bytes of what: the geometry of a table, known before any memory is taken.

use super::schema::Schema;
use super::shared::{Bucket, Head, PLACES, Record};
use crate::shm::{Region, words_for};
use crate::sync::{AtomicU64, size};
use crate::{Error, Result};

/// What a table is asked to be.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) capacity: usize,
    pub(super) key_size: usize,
    pub(super) ttl: bool,
    pub(super) lru: bool,
    /// None: as many as `LOAD` asks for.
    pub(super) buckets: Option<usize>,
}

/// Rows a bucket when the table is full. Six places for four rows: 5 % of the rows of a full table then stand in a tree. With three rows a
/// bucket it would be 1 %, for 5 bytes more a row, and no faster that could be seen; see the essay in `mod.rs` for the measurements.
const LOAD: usize = 4;

/// The most rows: their numbers are 32 bits, and 0 is none.
pub(super) const CAPACITY_MAX: usize = u32::MAX as usize - 1;
/// The longest key, in bytes.
pub(super) const KEY_MAX: usize = 1 << 20;
/// Bytes of a row beside key and columns that the contract allows.
const OVERHEAD: usize = 64;
/// Words of a row before its key: see [`Layout::MARK`] and the next.
const FIXED: usize = 3;

/// Where everything stands in a row, in words, and how many there are of everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) capacity: u32,
    pub(super) key_size: usize,
    pub(super) buckets: usize,
    /// Words from one row to the next.
    pub(super) stride: usize,
    pub(super) expiry: Option<usize>,
    pub(super) used: Option<usize>,
    pub(super) key: usize,
    pub(super) columns: usize,
    /// Words of all columns.
    pub(super) width: usize,
    pub(super) records: usize,
    /// The first so many records belong to the seats 1, 2 and so on, one to each; all share the rest.
    pub(super) own: usize,
    /// Words of a record's log.
    pub(super) log: usize,
    /// Bytes of the region.
    pub(super) bytes: usize,
}

impl Layout {
    /// Free (0), or one more than the bucket that the row belongs to.
    pub(super) const MARK: usize = 0;
    /// Children in the overflow tree (left, right), or the next free row.
    pub(super) const LINKS: usize = 1;
    /// Lower half of the key's hash, length of the key.
    pub(super) const NAME: usize = 2;

    pub(super) fn of(wish: &Wish, schema: &Schema) -> Result<Layout> {
        schema.check()?;
        let within = |what, value: usize, max: usize| match value {
            0 => Err(Error::OutOfRange { what, value: 0, min: 1, max: max as u64 }),
            value if value > max => Err(Error::OutOfRange { what, value: value as u64, min: 1, max: max as u64 }),
            _ => Ok(()),
        };
        within("a table's capacity in rows", wish.capacity, CAPACITY_MAX)?;
        within("the greatest length of a key in bytes", wish.key_size, KEY_MAX)?;
        let buckets = wish.buckets.unwrap_or(wish.capacity.div_ceil(LOAD));
        within("the number of buckets", buckets, 1 << 30)?;
        let mut at = FIXED;
        let mut optional = |wanted: bool| {
            wanted.then(|| {
                at += 1;
                at - 1
            })
        };
        let (expiry, used) = (optional(wish.ttl), optional(wish.lru));
        let key = at;
        let columns = key + words_for(wish.key_size);
        let width = schema.words();
        let share = (buckets * size_of::<Bucket>()).div_ceil(wish.capacity);
        let room = (wish.key_size + width * 8 + OVERHEAD).saturating_sub(share) / 8;
        let stride = stride(columns + width, room);
        let log = width + 2 * (schema.columns.len() + PLACES + 4);
        let records = size((LOGS / (log * 8)).clamp(8, 64), 2);
        let mut layout = Layout {
            capacity: wish.capacity as u32,
            key_size: wish.key_size,
            buckets,
            stride,
            expiry,
            used,
            key,
            columns,
            width,
            records,
            own: records / 2,
            log,
            bytes: 0,
        };
        let bytes = layout.bytes_with(super::describe::words(schema));
        let max = Region::MAX_BYTES;
        match bytes {
            Some(bytes) if bytes <= max => layout.bytes = bytes,
            _ => {
                let what = "the size of a table in bytes";
                return Err(Error::OutOfRange {
                    what,
                    value: bytes.unwrap_or(usize::MAX) as u64,
                    min: 1,
                    max: max as u64,
                });
            }
        }
        Ok(layout)
    }

    fn bytes_with(&self, description: usize) -> Option<usize> {
        let rows = (self.capacity as usize).checked_mul(self.stride)?;
        rows.checked_mul(8)?;
        let logs = self.records.checked_mul(self.log)?;
        let parts = [
            Region::bytes_for::<Head>(1),
            Region::bytes_for::<AtomicU64>(description),
            Region::bytes_for::<Bucket>(self.buckets),
            Region::bytes_for::<Record>(self.records),
            Region::bytes_for::<AtomicU64>(logs),
            Region::bytes_for::<AtomicU64>(rows),
        ];
        parts.into_iter().try_fold(0, usize::checked_add)
    }
}

/// About how many bytes all logs may take together, before there are fewer of them.
const LOGS: usize = 1 << 20;

/// Words from row to row: a whole number of cache lines where the contract leaves `room` for it, else of halves of one, else as they come.
/// Aligned rows touch fewer lines; see the essay in `mod.rs`.
fn stride(words: usize, room: usize) -> usize {
    let fits = |align: &usize| words.next_multiple_of(*align) <= room;
    let align = [8, 4, 2].into_iter().find(fits).unwrap_or(1);
    words.next_multiple_of(align)
}
