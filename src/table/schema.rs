//! Which columns a table has: their names, types and places in a row.

use std::hash::{BuildHasher, RandomState};

use super::column::{Column, ColumnType, RawColumn};
use crate::shm::words_for;
use crate::{Error, Result};

/// The type of a column, as it is written into the region.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `i64`.
    Int = 1,
    /// `f64`.
    Float = 2,
    /// `str`.
    Str = 3,
    /// `[u8]`.
    Bytes = 4,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Int => "i64",
            Kind::Float => "f64",
            Kind::Str => "str",
            Kind::Bytes => "[u8]",
        }
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Kind::Int | Kind::Float)
    }
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    /// Tells it from every other column, also from those of copies of its schema that went on by themselves. Random, so that processes
    /// which make schemas of their own do not hand out the same.
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The most bytes of a value; 8 for a number.
    pub(super) max: usize,
    /// In words, from the first column.
    pub(super) at: u32,
}

impl Spec {
    /// Words in a row: one for a number; one for its length and the bytes, for a string.
    pub(super) fn words(&self) -> usize {
        if self.kind.is_number() { 1 } else { 1 + words_for(self.max) }
    }
}

/// The longest name of a column, in bytes.
const NAME_MAX: usize = 64;
/// The longest string or byte column: 1 GiB.
const VALUE_MAX: usize = 1 << 30;
/// The most words that the columns of a row take: 8 GiB.
const ROW_MAX: usize = 1 << 30;
/// The most columns.
const COLUMNS_MAX: usize = 4096;

/// The columns of a table, in order.
///
/// Each method adds a column and returns it. What is wrong with a column (a name twice, a length out of range) is remembered, and
/// refused by name when the table is made.
///
/// # Examples
/// ```
/// use commons::{Schema, Table};
///
/// let mut schema = Schema::new();
/// let hits = schema.int("hits");
/// let score = schema.float("score");
/// let name = schema.string("name", 64);
/// let users = Table::new(1024, schema)?;
/// users.set("bob", &[hits.is(1), score.is(0.5), name.is("Bob")])?;
/// # Ok::<(), commons::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Schema {
    pub(super) columns: Vec<Spec>,
    /// The first mistake.
    wrong: Option<Mistake>,
}

#[derive(Clone, Debug)]
enum Mistake {
    Twice(String),
    Name(String),
    Zero(String),
    Length { value: usize },
    Row { words: usize },
    Many { count: usize },
}

impl Default for Schema {
    fn default() -> Self {
        Schema::new()
    }
}

impl Schema {
    /// A schema without columns: its table is a set of keys.
    pub fn new() -> Schema {
        Schema { columns: Vec::new(), wrong: None }
    }

    /// Adds a column of 64-bit signed numbers. 8 bytes a row.
    pub fn int(&mut self, name: &str) -> Column<i64> {
        self.add(name, 8)
    }

    /// Adds a column of 64-bit floating-point numbers. 8 bytes a row.
    pub fn float(&mut self, name: &str) -> Column<f64> {
        self.add(name, 8)
    }

    /// Adds a column of UTF-8 strings of at most `max` bytes, 1 ..= 1 GiB. `max` bytes a row, in whole words, and 8 for the length.
    pub fn string(&mut self, name: &str, max: usize) -> Column<str> {
        self.add(name, max)
    }

    /// Adds a column of byte strings of at most `max` bytes, 1 ..= 1 GiB. `max` bytes a row, in whole words, and 8 for the length.
    pub fn bytes(&mut self, name: &str, max: usize) -> Column<[u8]> {
        self.add(name, max)
    }

    fn add<T: ColumnType + ?Sized>(&mut self, name: &str, max: usize) -> Column<T> {
        let at = self.words();
        let index = self.columns.len();
        let id = RandomState::new().hash_one(index);
        let spec = Spec { id, name: name.to_owned(), kind: T::KIND, max: max.min(VALUE_MAX), at: at as u32 };
        let mistake = if self.columns.iter().any(|other| other.name == name) {
            Some(Mistake::Twice(name.to_owned()))
        } else if name.is_empty() || name.len() > NAME_MAX {
            Some(Mistake::Name(name.to_owned()))
        } else if name.contains('\0') {
            Some(Mistake::Zero(name.to_owned()))
        } else if max == 0 || max > VALUE_MAX {
            Some(Mistake::Length { value: max })
        } else if at + spec.words() > ROW_MAX {
            Some(Mistake::Row { words: at + spec.words() })
        } else if index >= COLUMNS_MAX {
            Some(Mistake::Many { count: index + 1 })
        } else {
            None
        };
        // A column that is refused is still handed out, for the caller to go on with until the table is made.
        if mistake.is_none() {
            self.columns.push(spec);
        }
        self.wrong = self.wrong.take().or(mistake);
        Column::new(RawColumn { id, index: index as u32, at: at as u32 })
    }

    /// Words that the columns take in a row.
    pub(super) fn words(&self) -> usize {
        self.columns.last().map_or(0, |last| last.at as usize + last.words())
    }

    /// The first mistake made in it.
    pub(super) fn check(&self) -> Result<()> {
        let number = |what, value: usize, min: u64, max: usize| {
            Err(Error::OutOfRange { what, value: value as u64, min, max: max as u64 })
        };
        match &self.wrong {
            None => Ok(()),
            Some(Mistake::Twice(name)) => Err(Error::DuplicateColumn { column: name.clone() }),
            Some(Mistake::Name(name)) if name.is_empty() => {
                number("the length of a column's name in bytes", 0, 1, NAME_MAX)
            }
            Some(Mistake::Name(name)) => Err(Error::NameTooLong { name: name.clone(), len: name.len(), max: NAME_MAX }),
            Some(Mistake::Zero(name)) => Err(Error::BadName { name: name.clone() }),
            Some(Mistake::Length { value }) => {
                number("the greatest length of a string column in bytes", *value, 1, VALUE_MAX)
            }
            Some(Mistake::Row { words }) => {
                number("the length of a row's columns in bytes", words.saturating_mul(8), 0, ROW_MAX * 8)
            }
            Some(Mistake::Many { count }) => number("the number of columns", *count, 0, COLUMNS_MAX),
        }
    }

    /// The spec of a column of this schema; none of a foreign one.
    #[inline]
    pub(super) fn spec(&self, column: RawColumn) -> Option<&Spec> {
        self.columns.get(column.index as usize).filter(|spec| spec.id == column.id)
    }

    /// The column of this name, if it holds values of type `T`.
    pub(super) fn column<T: ColumnType + ?Sized>(&self, name: &str) -> Result<Column<T>> {
        let found = self.columns.iter().enumerate().find(|(_, spec)| spec.name == name);
        let Some((index, spec)) = found else { return Err(Error::UnknownColumn { column: name.to_owned() }) };
        if spec.kind != T::KIND {
            let (asked, holds) = (T::KIND.name(), spec.kind.name());
            return Err(Error::WrongType { column: name.to_owned(), asked, holds });
        }
        Ok(Column::new(RawColumn { id: spec.id, index: index as u32, at: spec.at }))
    }
}
