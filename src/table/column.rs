//! Columns as the caller names them, and the values that go in and out.

use std::marker::PhantomData;

use super::schema::{Kind, Spec};

/// A column of a [`Schema`](crate::Schema), holding values of type `T`: `i64`, `f64`, `str` or `[u8]`.
///
/// Made by the schema; a small `Copy` value, valid for every table of that schema.
///
/// # Examples
/// ```
/// let mut schema = commons::Schema::new();
/// let hits = schema.int("hits");
/// let table = commons::Table::new(8, schema)?;
/// table.set("home", &[hits.is(3)])?;
/// assert_eq!(table.value("home", hits), Some(3));
/// # Ok::<(), commons::Error>(())
/// ```
pub struct Column<T: ColumnType + ?Sized> {
    pub(super) raw: RawColumn,
    kind: PhantomData<fn() -> Box<T>>,
}

impl<T: ColumnType + ?Sized> Clone for Column<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ColumnType + ?Sized> Copy for Column<T> {}

impl<T: ColumnType + ?Sized> std::fmt::Debug for Column<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Column<{}>({})", T::KIND.name(), self.raw.index)
    }
}

/// A column without its type: which one it is, its number in its schema, and where it stands in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawColumn {
    pub(super) id: u64,
    pub(super) index: u32,
    /// In words, from the first column.
    pub(super) at: u32,
}

impl<T: ColumnType + ?Sized> Column<T> {
    pub(super) fn new(raw: RawColumn) -> Column<T> {
        Column { raw, kind: PhantomData }
    }
}

/// What a column can hold: `i64`, `f64`, `str`, `[u8]`. Sealed.
pub trait ColumnType: sealed::Sealed {
    /// The value as a row gives it out.
    type Ref<'a>: Copy + Default;
    /// The value as [`Table::value`](crate::Table::value) gives it out.
    type Owned;
    #[doc(hidden)]
    const KIND: Kind;
    #[doc(hidden)]
    fn read(cell: &[u8]) -> Self::Ref<'_>;
    #[doc(hidden)]
    fn own(value: Self::Ref<'_>) -> Self::Owned;
    #[doc(hidden)]
    fn cell<'a>(value: Self::Ref<'a>) -> Value<'a>
    where
        'a: 'a;
}

/// A column whose values can be added to: `i64` (wraps around) and `f64`. Sealed.
pub trait Number: ColumnType + sealed::Sealed + Copy + for<'a> ColumnType<Ref<'a> = Self> {
    #[doc(hidden)]
    fn plus(word: u64, by: Self) -> u64;
    #[doc(hidden)]
    fn negated(self) -> Self;
    #[doc(hidden)]
    fn from_word(word: u64) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for i64 {}
    impl Sealed for f64 {}
    impl Sealed for str {}
    impl Sealed for [u8] {}
}

/// The word of a number's cell.
fn word(cell: &[u8]) -> u64 {
    cell.first_chunk().copied().map_or(0, u64::from_le_bytes)
}

/// The bytes of a string's cell: eight for its length, then itself.
fn bytes(cell: &[u8]) -> &[u8] {
    let len = word(cell) as usize;
    cell.get(8..).and_then(|rest| rest.get(..len)).unwrap_or_default()
}

impl ColumnType for i64 {
    type Ref<'a> = i64;
    type Owned = i64;
    const KIND: Kind = Kind::Int;
    fn read(cell: &[u8]) -> i64 {
        word(cell) as i64
    }
    fn own(value: i64) -> i64 {
        value
    }
    fn cell<'a>(value: i64) -> Value<'a>
    where
        'a: 'a,
    {
        Value::Word(value as u64)
    }
}

impl ColumnType for f64 {
    type Ref<'a> = f64;
    type Owned = f64;
    const KIND: Kind = Kind::Float;
    fn read(cell: &[u8]) -> f64 {
        f64::from_bits(word(cell))
    }
    fn own(value: f64) -> f64 {
        value
    }
    fn cell<'a>(value: f64) -> Value<'a>
    where
        'a: 'a,
    {
        Value::Word(value.to_bits())
    }
}

impl ColumnType for str {
    type Ref<'a> = &'a str;
    type Owned = String;
    const KIND: Kind = Kind::Str;
    fn read(cell: &[u8]) -> &str {
        // Only whole strings are ever written, so the default is for memory that somebody else has scribbled over.
        std::str::from_utf8(bytes(cell)).unwrap_or_default()
    }
    fn own(value: &str) -> String {
        value.to_owned()
    }
    fn cell<'a>(value: &'a str) -> Value<'a>
    where
        'a: 'a,
    {
        Value::Bytes(value.as_bytes())
    }
}

impl ColumnType for [u8] {
    type Ref<'a> = &'a [u8];
    type Owned = Vec<u8>;
    const KIND: Kind = Kind::Bytes;
    fn read(cell: &[u8]) -> &[u8] {
        bytes(cell)
    }
    fn own(value: &[u8]) -> Vec<u8> {
        value.to_owned()
    }
    fn cell<'a>(value: &'a [u8]) -> Value<'a>
    where
        'a: 'a,
    {
        Value::Bytes(value)
    }
}

impl Number for i64 {
    fn plus(word: u64, by: i64) -> u64 {
        (word as i64).wrapping_add(by) as u64
    }
    fn negated(self) -> i64 {
        self.wrapping_neg()
    }
    fn from_word(word: u64) -> i64 {
        word as i64
    }
}

impl Number for f64 {
    fn plus(word: u64, by: f64) -> u64 {
        (f64::from_bits(word) + by).to_bits()
    }
    fn negated(self) -> f64 {
        -self
    }
    fn from_word(word: u64) -> f64 {
        f64::from_bits(word)
    }
}

/// A column and a value for it: what [`Column::is`] makes and [`Table::set`](crate::Table::set) takes.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    pub(super) column: RawColumn,
    pub(super) value: Value<'a>,
}

/// A value on its way into a row.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A number's bits.
    Word(u64),
    /// A string's bytes.
    Bytes(&'a [u8]),
}

impl Column<i64> {
    /// This column with `value`.
    pub fn is(self, value: i64) -> Cell<'static> {
        Cell { column: self.raw, value: <i64 as ColumnType>::cell(value) }
    }
}

impl Column<f64> {
    /// This column with `value`; every bit of it is kept, also of a NaN.
    pub fn is(self, value: f64) -> Cell<'static> {
        Cell { column: self.raw, value: <f64 as ColumnType>::cell(value) }
    }
}

impl Column<str> {
    /// This column with `value`. Whether it fits is asked when it is written.
    pub fn is<S: AsRef<str> + ?Sized>(self, value: &S) -> Cell<'_> {
        Cell { column: self.raw, value: Value::Bytes(value.as_ref().as_bytes()) }
    }
}

impl Column<[u8]> {
    /// This column with `value`. Whether it fits is asked when it is written.
    pub fn is<B: AsRef<[u8]> + ?Sized>(self, value: &B) -> Cell<'_> {
        Cell { column: self.raw, value: Value::Bytes(value.as_ref()) }
    }
}

impl Spec {
    /// Where the column stands among `cells`, the bytes of a row's columns.
    pub(super) fn cell_of<'a>(&self, cells: &'a [u8]) -> &'a [u8] {
        let at = self.at as usize * 8;
        cells.get(at..at + self.words() * 8).unwrap_or_default()
    }
}
