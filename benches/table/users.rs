//! The table that is measured: a million users, and the keys of those who are asked for.

use std::hint::black_box;
use std::sync::Arc;

use commons::{Column, Row, Schema, Table};

use crate::harness::floors::Random;

/// How many rows, and how many random operations before their keys begin again.
pub(crate) const ROWS: usize = 1_000_000;
pub(crate) const KEYS: usize = 2_000_000;

/// Keys of one `get_many`.
pub(crate) const BATCH: usize = 32;

pub(crate) fn schema() -> Schema {
    let mut schema = Schema::new();
    let _ = (schema.int("hits"), schema.float("score"), schema.string("name", 64));
    schema
}

/// A key's text in place.
#[derive(Clone, Copy)]
pub(crate) struct Text {
    pub(crate) bytes: [u8; 15],
    pub(crate) len: u8,
}

impl Text {
    pub(crate) fn of(number: usize) -> Text {
        let text = format!("user:{number}");
        let mut bytes = [0; 15];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Text { bytes, len: text.len() as u8 }
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_ref()).expect("digits")
    }
}

impl AsRef<[u8]> for Text {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A string of 64 bytes, another one for each row.
pub(crate) fn motto(number: usize) -> String {
    format!("{number:-<64}")
}

#[derive(Clone)]
pub(crate) struct Users {
    pub(crate) table: Table,
    pub(crate) hits: Column<i64>,
    pub(crate) score: Column<f64>,
    pub(crate) name: Column<str>,
}

impl Users {
    /// In pages of 4 KiB, each taken when it is first written.
    pub(crate) fn new(rows: usize) -> Users {
        let mut schema = Schema::new();
        let (hits, score, name) = (schema.int("hits"), schema.float("score"), schema.string("name", 64));
        Users { table: Table::new(rows, schema).expect("a table"), hits, score, name }
    }

    pub(crate) fn prefaulted(rows: usize) -> Users {
        let users = Users::new(rows);
        users.table.region().prefault().expect("as much memory");
        users
    }

    /// Looks at every bucket and every row.
    pub(crate) fn touch(&self, rows: usize) {
        (0..rows).for_each(|number| assert!(self.table.exists(Text::of(number))));
    }

    #[inline]
    pub(crate) fn set(&self, key: &Text, number: usize, name: &str) {
        let cells = [self.hits.is(number as i64), self.score.is(number as f64), self.name.is(name)];
        black_box(self.table.set(key, &cells)).expect("room");
    }

    pub(crate) fn fill(&self, rows: usize) {
        (0..rows).for_each(|number| self.set(&Text::of(number), number, &motto(number)));
    }
}

/// The keys of random operations; each work goes on where it stopped.
#[derive(Clone)]
pub(crate) struct Keys {
    texts: Arc<[Text]>,
    at: std::cell::Cell<usize>,
}

impl Keys {
    pub(crate) fn of(rows: usize, keys: usize) -> Keys {
        let mut random = Random::new();
        Keys { texts: (0..keys).map(|_| Text::of(random.below(rows))).collect(), at: Default::default() }
    }

    /// The next `n`, in pieces of at most `piece`.
    #[inline]
    pub(crate) fn each(&self, n: u64, piece: usize, mut f: impl FnMut(&[Text])) {
        let mut left = n as usize;
        while left > 0 {
            let at = self.at.get() % self.texts.len();
            let now = left.min(piece).min(self.texts.len() - at);
            f(&self.texts[at..at + now]);
            self.at.set(at + now);
            left -= now;
        }
    }

    /// Calls `f` with the next `n`.
    #[inline]
    pub(crate) fn run(&self, n: u64, mut f: impl FnMut(&Text)) {
        self.each(n, usize::MAX, |texts| texts.iter().for_each(&mut f));
    }

    /// The same keys, begun elsewhere.
    pub(crate) fn from(&self, hand: usize) -> Keys {
        Keys { texts: self.texts.clone(), at: std::cell::Cell::new(self.texts.len() / 2 * hand) }
    }
}

/// One process's random gets, each a row copied whole.
pub(crate) fn gets(users: &Users, keys: &Keys) -> impl Fn(u64) + 'static {
    let (table, keys) = (users.table.clone(), keys.clone());
    let row: std::cell::RefCell<Row> = table.row().into();
    move |n| {
        let mut row = row.borrow_mut();
        keys.run(n, |key| _ = black_box(table.get_into(key, &mut row)));
    }
}

/// `get_many`, a batch at a time.
pub(crate) fn batches(users: &Users, keys: &Keys) -> impl Fn(u64) + 'static {
    let (table, keys) = (users.table.clone(), keys.clone());
    move |n| keys.each(n * BATCH as u64, BATCH, |texts| table.get_many(texts, |_, row| _ = black_box(row)))
}

pub(crate) fn sets(users: &Users, keys: &Keys) -> impl Fn(u64) + 'static {
    let (users, keys, names) = (users.clone(), keys.clone(), [motto(1), motto(2)]);
    move |n| {
        let mut i = 0;
        keys.run(n, |key| {
            i += 1;
            users.set(key, i, &names[i & 1]);
        });
    }
}

pub(crate) fn incrs(users: &Users, keys: &Keys) -> impl Fn(u64) + 'static {
    let (Users { table, hits, .. }, keys) = (users.clone(), keys.clone());
    move |n| keys.run(n, |key| _ = black_box(table.incr(key, hits, 1)))
}
