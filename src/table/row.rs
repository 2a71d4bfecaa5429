//! What comes out of a table: rows and keys as they were at one instant.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;

use super::column::{Column, ColumnType, RawColumn, Value};
use super::ground::Ground;
use super::schema::{Kind, Schema, Spec};
use crate::shm::{load_bytes, words_for};
use crate::sync::{AtomicU64, Ordering};
use crate::{Error, Result};

/// A row as it was at one instant: a copy, which nothing changes any more.
///
/// # Examples
/// ```
/// let mut schema = commons::Schema::new();
/// let (hits, name) = (schema.int("hits"), schema.string("name", 16));
/// let users = commons::Table::new(8, schema)?;
/// users.set("bob", &[name.is("Bob")])?;
/// let row = users.get("bob").unwrap();
/// assert_eq!((row.get(hits), row.get(name)), (0, "Bob"));
/// # Ok::<(), commons::Error>(())
/// ```
#[derive(Clone)]
pub struct Row {
    ground: Arc<Ground>,
    /// The columns, eight bytes a word.
    pub(super) cells: Vec<u8>,
}

impl Row {
    pub(super) fn new(ground: &Arc<Ground>) -> Row {
        Row { ground: ground.clone(), cells: vec![0; ground.layout.width * 8] }
    }

    /// The value of a column: `i64`, `f64`, `&str` or `&[u8]`. Of a column that the row does not have, being another schema's, zero or
    /// nothing; [`try_get`](Row::try_get) tells.
    #[inline]
    pub fn get<T: ColumnType + ?Sized>(&self, column: Column<T>) -> T::Ref<'_> {
        self.try_get(column).unwrap_or_default()
    }

    /// The value of a column.
    ///
    /// # Errors
    /// [`Error::ForeignColumn`] when the column is another schema's.
    #[inline]
    pub fn try_get<T: ColumnType + ?Sized>(&self, column: Column<T>) -> Result<T::Ref<'_>> {
        let spec = self.ground.schema.typed(column)?;
        Ok(T::read(spec.cell_of(&self.cells)))
    }

    pub(super) fn is_of(&self, ground: &Arc<Ground>) -> bool {
        Arc::ptr_eq(&self.ground, ground)
    }

    #[inline]
    pub(super) fn copy_from(&mut self, words: &[AtomicU64]) {
        copy_columns(&self.ground.schema, words, &mut self.cells);
    }
}

/// Made out of the way of those who need none: an error made and dropped costs more than the rest of the look-up.
#[cold]
pub(super) fn foreign(of: &'static str) -> Error {
    Error::ForeignColumn { of }
}

impl Schema {
    /// The spec of a column of this schema that holds values of type `T`.
    #[inline]
    pub(super) fn typed<T: ColumnType + ?Sized>(&self, column: Column<T>) -> Result<&Spec> {
        self.spec(column.raw).filter(|spec| spec.kind == T::KIND).ok_or_else(|| foreign(T::KIND.name()))
    }
}

/// Words of columns up to which a row is copied whole: that asks nothing of the data, so that the processor may begin with the next read
/// while this one's lines are on their way.
const NARROW: usize = 32;

/// Copies the columns of a row; of a wide one only as much of each string as there is.
#[inline]
pub(super) fn copy_columns(schema: &Schema, words: &[AtomicU64], cells: &mut [u8]) {
    if words.len() <= NARROW {
        return load_bytes(words, cells);
    }
    copy_wide(schema, words, cells);
}

#[cold]
fn copy_wide(schema: &Schema, words: &[AtomicU64], cells: &mut [u8]) {
    for spec in &schema.columns {
        let at = spec.at as usize;
        copy_cell(spec, &words[at..at + spec.words()], &mut cells[at * 8..]);
    }
}

/// Copies one column. The bytes beyond a string's length are left as they are.
#[inline]
pub(super) fn copy_cell(spec: &Spec, words: &[AtomicU64], cell: &mut [u8]) {
    // Relaxed: ordered by the lock, or by its version.
    let first = words[0].load(Ordering::Relaxed);
    let (head, rest) = cell.split_at_mut(8);
    head.copy_from_slice(&first.to_le_bytes());
    if !spec.kind.is_number() {
        // A reader without the lock may see any length that stood here once, none of them longer than the column.
        let len = (first as usize).min(spec.max);
        load_bytes(&words[1..], &mut rest[..len]);
    }
}

/// Whether a column's words are `value`, to the bit.
pub(super) fn cell_is(words: &[AtomicU64], value: Value<'_>) -> bool {
    // Relaxed: ordered by the lock.
    let first = words[0].load(Ordering::Relaxed);
    match value {
        Value::Word(word) => first == word,
        Value::Bytes(bytes) => {
            let mut chunks = bytes.chunks(8).zip(&words[1..]);
            first == bytes.len() as u64
                && chunks.all(|(chunk, word)| word.load(Ordering::Relaxed).to_le_bytes()[..chunk.len()] == *chunk)
        }
    }
}

/// How many words of a column a value of this kind overwrites.
pub(super) fn words_of(value: Value<'_>) -> usize {
    match value {
        Value::Word(_) => 1,
        Value::Bytes(bytes) => 1 + words_for(bytes.len()),
    }
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut map = f.debug_map();
        for spec in &self.ground.schema.columns {
            let cell = spec.cell_of(&self.cells);
            match spec.kind {
                Kind::Int => map.entry(&spec.name, &i64::read(cell)),
                Kind::Float => map.entry(&spec.name, &f64::read(cell)),
                Kind::Str => map.entry(&spec.name, &<str>::read(cell)),
                Kind::Bytes => map.entry(&spec.name, &<[u8]>::read(cell)),
            };
        }
        map.finish()
    }
}

/// The key of a row that was met while iterating.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub(super) bytes: Vec<u8>,
}

impl Key {
    /// The key as text, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}

impl Deref for Key {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.bytes.escape_ascii())
    }
}

/// A row in the hands of a closure: what it sets is written when it returns, all or nothing.
pub struct RowMut<'r> {
    ground: &'r Ground,
    cells: Vec<u8>,
    changed: Vec<bool>,
    wrong: RefCell<Option<Error>>,
}

impl<'r> RowMut<'r> {
    /// A row of zeroes, or the one with these words.
    pub(super) fn new(ground: &'r Ground, words: Option<&[AtomicU64]>) -> RowMut<'r> {
        let mut cells = vec![0; ground.layout.width * 8];
        if let Some(words) = words {
            copy_columns(&ground.schema, words, &mut cells);
        }
        RowMut { ground, cells, changed: vec![false; ground.schema.columns.len()], wrong: RefCell::new(None) }
    }

    /// The value of a column, as it was or as the closure has set it. Of a column of another schema, zero or nothing, and the whole
    /// call fails with [`Error::ForeignColumn`].
    pub fn get<T: ColumnType + ?Sized>(&self, column: Column<T>) -> T::Ref<'_> {
        match self.ground.schema.typed(column) {
            Ok(spec) => T::read(spec.cell_of(&self.cells)),
            Err(wrong) => {
                self.wrong.borrow_mut().get_or_insert(wrong);
                T::Ref::default()
            }
        }
    }

    /// Sets a column. A value that is too long, or a column of another schema, makes the whole call fail when the closure returns, and nothing changes.
    pub fn set<T: ColumnType + ?Sized>(&mut self, column: Column<T>, value: T::Ref<'_>) {
        let value = T::cell(value);
        let spec = self.ground.schema.typed(column).and_then(|spec| spec.fits(value).map(|()| spec));
        let spec = match spec {
            Ok(spec) => spec,
            Err(wrong) => {
                self.wrong.borrow_mut().get_or_insert(wrong);
                return;
            }
        };
        let cell = &mut self.cells[spec.at as usize * 8..];
        match value {
            Value::Word(word) => cell[..8].copy_from_slice(&word.to_le_bytes()),
            Value::Bytes(bytes) => {
                cell[..8].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
                cell[8..][..bytes.len()].copy_from_slice(bytes);
            }
        }
        self.changed[column.raw.index as usize] = true;
    }

    /// What the closure has set, or the first thing that was wrong.
    pub(super) fn changes(&self) -> Result<Vec<super::column::Cell<'_>>> {
        if let Some(wrong) = self.wrong.borrow_mut().take() {
            return Err(wrong);
        }
        let schema = &self.ground.schema;
        let changed = schema.columns.iter().zip(&self.changed).enumerate().filter(|(_, (_, changed))| **changed);
        let cells = changed.map(|(index, (spec, _))| {
            let column = RawColumn { id: spec.id, index: index as u32, at: spec.at };
            let cell = spec.cell_of(&self.cells);
            let value =
                if spec.kind.is_number() { i64::cell(i64::read(cell)) } else { <[u8]>::cell(<[u8]>::read(cell)) };
            super::column::Cell { column, value }
        });
        Ok(cells.collect())
    }
}

impl Spec {
    /// Whether the column can hold `value`.
    #[inline]
    pub(super) fn fits(&self, value: Value<'_>) -> Result<()> {
        match value {
            Value::Bytes(bytes) if bytes.len() > self.max => {
                Err(Error::ValueTooLong { column: self.name.clone(), len: bytes.len(), max: self.max })
            }
            Value::Word(_) | Value::Bytes(_) => Ok(()),
        }
    }
}
