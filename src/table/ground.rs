//! The table as one process has it: the placements of its region, and how to get from a key to a bucket and from a number to a row.

use std::hash::{Hasher, RandomState};

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

use super::describe;
use super::layout::{Layout, Wish};
use super::schema::{Schema, Spec};
use super::shared::{Bucket, Head, Record};
use crate::robust::prepare;
use crate::shm::{Kind, Place, Region, Row as Slice, partial, words_for};
use crate::sync::{AtomicU64, Ordering};
use crate::{Error, Result};

pub(super) const WHAT: &str = "table";

/// What all handles of one process share.
pub(super) struct Ground {
    pub(super) region: Region,
    pub(super) head: Place<Head>,
    pub(super) buckets: Slice<Bucket>,
    pub(super) records: Slice<Record>,
    pub(super) logs: Slice<AtomicU64>,
    rows: Slice<AtomicU64>,
    pub(super) layout: Layout,
    pub(super) schema: Schema,
    hasher: SharedSeed,
    start: u64,
}

/// A key and what its hash says: the upper half chooses the bucket, the lower tells keys in it apart.
#[derive(Clone, Copy)]
pub(super) struct Name<'k> {
    pub(super) key: &'k [u8],
    pub(super) bucket: usize,
    pub(super) low: u32,
}

impl Ground {
    /// Makes a table, in a region of its own or in the one given.
    pub(super) fn new(region: Option<&Region>, wish: &Wish, schema: Schema) -> Result<Ground> {
        let layout = Layout::of(wish, &schema)?;
        prepare()?;
        let region = match region {
            Some(region) => region.clone(),
            None => Region::new(WHAT, layout.bytes)?,
        };
        // All or nothing, as far as one thread can tell: a region that has no room for the whole is left as it was.
        let left = region.size().saturating_sub(region.used());
        if !crate::sync::MODELLED && layout.bytes > left {
            return Err(Error::OutOfMemory { asked: layout.bytes, left });
        }
        let head: Place<Head> = Place::new(&region, Kind::Table)?;
        let description = Slice::new(&region, Kind::TableSchema, describe::words(&schema))?;
        let buckets = Slice::new(&region, Kind::TableBuckets, layout.buckets)?;
        let records = Slice::new(&region, Kind::TableRecords, layout.records)?;
        let logs = Slice::new(&region, Kind::TableLogs, layout.records * layout.log)?;
        let rows = Slice::new(&region, Kind::TableRows, layout.capacity as usize * layout.stride)?;
        describe::write(&head, &description, &layout, &schema);
        let random = RandomState::new();
        let seed: [u64; 4] = std::array::from_fn(|n| {
            use std::hash::BuildHasher;
            // A model has to take the same way every time.
            if crate::sync::MODELLED { n as u64 } else { random.hash_one(n) }
        });
        for (word, value) in head.seed.iter().zip(seed) {
            // Relaxed: others come by the table through a fork, which orders everything before it.
            word.store(value, Ordering::Relaxed);
        }
        let (hasher, start) = (SharedSeed::from_u64(seed[0]), seed[1]);
        let ground = Ground { region, head, buckets, records, logs, rows, layout, schema, hasher, start };
        ground.expect_nothing();
        Ok(ground)
    }

    /// The key with its hash.
    ///
    /// # Errors
    /// [`Error::EmptyKey`], [`Error::KeyTooLong`].
    #[inline(always)]
    pub(super) fn name<'k>(&self, key: &'k [u8]) -> Result<Name<'k>> {
        if self.is_possible(key) { Ok(self.hashed(key)) } else { Err(self.refusal(key)) }
    }

    /// Whether there can be such a key.
    #[inline(always)]
    pub(super) fn is_possible(&self, key: &[u8]) -> bool {
        key.len().wrapping_sub(1) < self.layout.key_size
    }

    #[cold]
    pub(super) fn refusal(&self, key: &[u8]) -> Error {
        match key.len() {
            0 => Error::EmptyKey,
            len => Error::KeyTooLong { len, max: self.layout.key_size },
        }
    }

    /// The hash of a key that is possible. Apart from the refusal, for a name that travels in a `Result` goes through memory, in two halves
    /// one way and as one the other, and the processor waits for that.
    #[inline(always)]
    pub(super) fn hashed<'k>(&self, key: &'k [u8]) -> Name<'k> {
        let mut hasher = FoldHasher::with_seed(self.start, &self.hasher);
        hasher.write(key);
        let hash = hasher.finish();
        // Lemire's reduction: the upper half as a fraction of all buckets.
        let bucket = (((hash >> 32) * self.layout.buckets as u64) >> 32) as usize;
        Name { key, bucket, low: hash as u32 }
    }

    /// The words of a row, which is not 0.
    #[inline(always)]
    pub(super) fn row(&self, row: u32) -> &[AtomicU64] {
        let at = (row as usize).wrapping_sub(1).wrapping_mul(self.layout.stride);
        &self.rows[at..at + self.layout.stride]
    }

    /// The row of this number, if there is one: for numbers that may be torn.
    #[inline(always)]
    pub(super) fn try_row(&self, row: u32) -> Option<&[AtomicU64]> {
        let at = (row as usize).checked_sub(1)? * self.layout.stride;
        self.rows.get(at..at + self.layout.stride)
    }

    /// Rows that were ever taken: those beyond hold nothing.
    pub(super) fn touched(&self) -> u32 {
        // Acquire: pairs with the Release in `Pool::take`; what was put into the rows before is seen.
        let fresh = self.head.pool.fresh.load(Ordering::Acquire);
        // One more may have been taken by one who died before it counted it.
        (fresh + 1).min(self.layout.capacity.into()) as u32
    }

    /// The words of a row's key.
    #[inline(always)]
    pub(super) fn key_of<'r>(&self, row: &'r [AtomicU64]) -> &'r [AtomicU64] {
        &row[self.layout.key..self.layout.columns]
    }

    /// The words of a row's columns.
    #[inline(always)]
    pub(super) fn columns_of<'r>(&self, row: &'r [AtomicU64]) -> &'r [AtomicU64] {
        &row[self.layout.columns..self.layout.columns + self.layout.width]
    }

    /// The words of one column of a row.
    #[inline(always)]
    pub(super) fn column_of<'r>(&self, row: &'r [AtomicU64], spec: &Spec) -> &'r [AtomicU64] {
        &row[self.layout.columns + spec.at as usize..][..spec.words()]
    }

    /// Whether the words of `row` carry this name. `read` is how the caller may read words.
    #[inline(always)]
    pub(super) fn carries(&self, row: &[AtomicU64], name: Name<'_>, read: impl Fn(&AtomicU64) -> u64) -> bool {
        if read(&row[Layout::NAME]) != u64::from(name.low) << 32 | name.key.len() as u64 {
            return false;
        }
        let words = &self.key_of(row)[..words_for(name.key.len())];
        let (whole, rest) = name.key.as_chunks();
        words.iter().zip(whole).all(|(word, chunk)| read(word) == u64::from_le_bytes(*chunk))
            && (rest.is_empty() || words.last().is_some_and(|word| read(word) == partial(rest)))
    }
}
