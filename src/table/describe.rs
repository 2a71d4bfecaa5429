//! The table's own description in its region, so that a tool with only the memory can decode rows.
//!
//! ```text
//! head     about[0..8]: capacity, key size, stride, where the key begins, where the columns begin, columns, expiry + 1, last use + 1
//!          (places in a row, in words; 0 where there is none)
//! schema   for each column: kind << 32 | length of the name;  greatest length;  place from the first column;  8 words of name
//! rows     row n (from 1) begins at word (n - 1) * stride: mark, links, hash << 32 | length of the key, …
//! ```
//! A row is there if its mark is not 0. Numbers are one word; a string is its length in bytes and then its bytes, eight a word, the first in
//! the lowest. What is read beside living writers may be torn: their buckets' locks are not asked.

use super::layout::Layout;
use super::schema::Schema;
use super::shared::Head;
use crate::shm::store_bytes;
use crate::sync::{AtomicU64, Ordering};

/// Words of a column's description.
const COLUMN: usize = 3 + 8;

/// Words of a schema's description; at least one, for a region holds nothing that is nothing.
pub(super) fn words(schema: &Schema) -> usize {
    (schema.columns.len() * COLUMN).max(1)
}

/// Writes it. The table is not yet seen by anybody else.
pub(super) fn write(head: &Head, into: &[AtomicU64], layout: &Layout, schema: &Schema) {
    let place = |at: Option<usize>| at.map_or(0, |at| at + 1);
    let about = [
        layout.capacity as usize,
        layout.key_size,
        layout.stride,
        layout.key,
        layout.columns,
        schema.columns.len(),
        place(layout.expiry),
        place(layout.used),
    ];
    // Relaxed, all of them: others come by the table through a fork, which orders everything before it.
    for (word, value) in head.about.iter().zip(about) {
        word.store(value as u64, Ordering::Relaxed);
    }
    for (words, spec) in into.chunks(COLUMN).zip(&schema.columns) {
        words[0].store((spec.kind as u64) << 32 | spec.name.len() as u64, Ordering::Relaxed);
        words[1].store(spec.max as u64, Ordering::Relaxed);
        words[2].store(spec.at.into(), Ordering::Relaxed);
        store_bytes(&words[3..], spec.name.as_bytes());
    }
}
