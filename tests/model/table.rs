//! Table against a std HashMap: every public operation on a few keys, with writers that die in the middle of one.
//!
//! A writer dies by giving its slot away inside a closure of `update_with` or `upsert_with`, which to everybody else is what the death of a
//! process is: the bucket is locked by nobody, a record names it, and perhaps a row has been taken. What dies between two stores of a
//! change is the kill harness's business.
//!
//! Which of several expired rows is reclaimed first, and which row is evicted, is not promised: the model looks, and takes it over.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use commons::{Cell, Column, Error, Outcome, Row, RowMut, Schema, Table, TableStats};

const KEY_SIZE: usize = 20;
const KEYS: u8 = 24;
const CAPACITIES: [usize; 8] = [1, 2, 3, 6, 7, 10, 14, 19];
/// Places in a bucket; who finds them taken goes into the tree.
const PLACES: usize = 6;
const LONG: Duration = Duration::from_secs(3600);

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Shape {
    capacity: u8,
    one_bucket: bool,
    ttl: bool,
    lru: bool,
}

/// Columns, a bit each, and what to derive their values from.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Put {
    columns: u8,
    n: i8,
    len: u8,
}

/// The same for what is expected: derived, or as the model has it.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Want {
    put: Put,
    as_it_is: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Due {
    Never,
    Now,
    Later,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Op {
    Set(u8, Put),
    Add(u8, Put),
    Update(u8, Put),
    Cmpset(u8, Want, Put),
    Cmpdel(u8, Want),
    Get(u8),
    GetMany(u8, u8),
    Incr(u8, i8),
    Decr(u8, i8),
    UpdateWith(u8, Put),
    UpsertWith(u8, Put),
    Take(u8),
    Del(u8),
    SetTtl(u8, Put, bool),
    ExpireAt(u8, Due),
    Purge(u8),
    /// All that can be seen.
    Look,
    /// Operations on the second key in a closure that holds the first.
    Inside(u8, u8),
    DieInUpdate(u8, Put),
    DieInUpsert(u8, Put),
}

/// Where it happened, for when it goes wrong.
type Where<'w> = &'w dyn Fn() -> String;

#[derive(Clone, Debug, Default, PartialEq)]
struct Vals {
    hits: i64,
    /// Bits, for a table keeps each of them.
    score: u64,
    name: String,
    blob: Vec<u8>,
}

const HITS: u8 = 1;
const SCORE: u8 = 2;
const NAME: u8 = 4;
const BLOB: u8 = 8;
const FOREIGN: u8 = 16;
const TWICE: u8 = 32;
const NAME_MAX: usize = 9;
const BLOB_MAX: usize = 17;

impl Put {
    fn columns(self) -> u8 {
        let wrong = match self.columns >> 4 {
            15 => FOREIGN,
            14 => TWICE,
            _ => 0,
        };
        self.columns & 15 | wrong
    }

    /// One in eleven names and one in nineteen blobs is too long.
    fn vals(self) -> Vals {
        let score = match self.n {
            -128 => f64::from_bits(0x7ff8_0000_dead_beef),
            -127 => -0.0,
            n => f64::from(n) / 4.0,
        };
        let (name, blob) = (usize::from(self.len) % (NAME_MAX + 2), usize::from(self.len) % (BLOB_MAX + 2));
        Vals {
            hits: i64::from(self.n).wrapping_mul(0x0102_0304_0506_0708),
            score: score.to_bits(),
            name: "abcdefghij"[..name].to_owned(),
            blob: vec![self.n as u8; blob],
        }
    }
}

impl Vals {
    fn take_over(&mut self, columns: u8, from: &Vals) {
        if columns & HITS != 0 {
            self.hits = from.hits;
        }
        if columns & SCORE != 0 {
            self.score = from.score;
        }
        if columns & NAME != 0 {
            self.name.clone_from(&from.name);
        }
        if columns & BLOB != 0 {
            self.blob.clone_from(&from.blob);
        }
    }

    fn holds(&self, columns: u8, wanted: &Vals) -> bool {
        let mut same = self.clone();
        same.take_over(columns, wanted);
        same == *self
    }
}

/// What is wrong with cells like these, by the names of `kind`.
fn wrong(columns: u8, vals: &Vals) -> Vec<&'static str> {
    let long = columns & NAME != 0 && vals.name.len() > NAME_MAX || columns & BLOB != 0 && vals.blob.len() > BLOB_MAX;
    let found = [(columns & FOREIGN != 0, "foreign"), (columns & TWICE != 0, "twice"), (long, "value too long")];
    found.into_iter().filter_map(|(is, what)| is.then_some(what)).collect()
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::EmptyKey => "empty key",
        Error::KeyTooLong { len, max: KEY_SIZE } if *len > KEY_SIZE => "key too long",
        Error::ValueTooLong { len, max, .. } if len > max => "value too long",
        Error::ForeignColumn { .. } => "foreign",
        Error::DuplicateColumn { column } if column == "hits" => "twice",
        Error::Full { .. } => "full",
        Error::NotEnabled { .. } => "not enabled",
        Error::WouldDeadlock { .. } => "would deadlock",
        Error::WrongProcess { .. } => "died",
        _ => panic!("{error}"),
    }
}

fn wrong_key(key: &[u8]) -> Option<&'static str> {
    if key.is_empty() {
        return Some("empty key");
    }
    (key.len() > KEY_SIZE).then_some("key too long")
}

/// Two that no table takes, and others of every length, some of which are not text.
fn key(n: u8) -> Vec<u8> {
    match n % KEYS {
        0 => Vec::new(),
        1 => vec![b'x'; KEY_SIZE + 1],
        2 => vec![0],
        n => (0..n.min(KEY_SIZE as u8)).map(|i| i.wrapping_mul(n) ^ n).collect(),
    }
}

struct World {
    table: Table,
    hits: Column<i64>,
    score: Column<f64>,
    name: Column<str>,
    blob: Column<[u8]>,
    foreign: Column<i64>,
}

impl World {
    fn new(shape: Shape) -> World {
        let (mut schema, mut other) = (Schema::new(), Schema::new());
        let (hits, score) = (schema.int("hits"), schema.float("score"));
        let (name, blob) = (schema.string("name", NAME_MAX), schema.bytes("blob", BLOB_MAX));
        let foreign = other.int("hits");
        let mut builder = Table::builder().capacity(shape.rows()).key_size(KEY_SIZE).schema(schema);
        builder = builder.buckets(if shape.one_bucket { 1 } else { 13 });
        builder = if shape.ttl { builder.ttl() } else { builder };
        builder = if shape.lru { builder.evict_lru() } else { builder };
        World { table: builder.build().unwrap(), hits, score, name, blob, foreign }
    }

    fn cells<'v>(&self, columns: u8, vals: &'v Vals) -> Vec<Cell<'v>> {
        let all = [
            (NAME, self.name.is(&vals.name)),
            (HITS, self.hits.is(vals.hits)),
            (BLOB, self.blob.is(&vals.blob)),
            (SCORE, self.score.is(f64::from_bits(vals.score))),
            (FOREIGN, self.foreign.is(1)),
            (TWICE, self.hits.is(vals.hits)),
            (TWICE, self.hits.is(vals.hits)),
        ];
        all.into_iter().filter_map(|(bit, cell)| (columns & bit != 0).then_some(cell)).collect()
    }

    fn set_in(&self, row: &mut RowMut<'_>, columns: u8, vals: &Vals) {
        if columns & FOREIGN != 0 {
            row.set(self.foreign, 1);
        }
        if columns & HITS != 0 {
            row.set(self.hits, vals.hits);
            assert_eq!(row.get(self.hits), vals.hits);
        }
        if columns & SCORE != 0 {
            row.set(self.score, f64::from_bits(vals.score));
        }
        if columns & NAME != 0 {
            row.set(self.name, &vals.name);
        }
        if columns & BLOB != 0 {
            row.set(self.blob, &vals.blob);
        }
    }

    fn vals(&self, row: &Row) -> Vals {
        Vals {
            hits: row.get(self.hits),
            score: row.get(self.score).to_bits(),
            name: row.get(self.name).to_owned(),
            blob: row.get(self.blob).to_owned(),
        }
    }

    fn vals_in(&self, row: &RowMut<'_>) -> Vals {
        Vals {
            hits: row.get(self.hits),
            score: row.get(self.score).to_bits(),
            name: row.get(self.name).to_owned(),
            blob: row.get(self.blob).to_owned(),
        }
    }

    /// Whether every way of reading shows these values under `key`, or nothing.
    fn shows(&self, key: &[u8], vals: Option<&Vals>, at: Where<'_>) {
        let (world, table) = (self, &self.table);
        let mut row = table.row();
        assert_eq!(table.get_into(key, &mut row).then(|| world.vals(&row)).as_ref(), vals, "{key:?} {}", at());
        assert_eq!(table.exists(key), vals.is_some(), "{}", at());
        assert_eq!(table.value(key, world.hits), vals.map(|vals| vals.hits), "{}", at());
        assert_eq!(table.value(key, world.score).map(f64::to_bits), vals.map(|vals| vals.score), "{}", at());
        assert_eq!(table.value(key, world.name), vals.map(|vals| vals.name.clone()), "{}", at());
        assert_eq!(table.value(key, world.blob), vals.map(|vals| vals.blob.clone()), "{}", at());
        assert_eq!(table.value(key, world.foreign), None);
        let told = table.get_timeout(key, LONG).map_err(|error| kind(&error));
        let told = told.map(|row| row.map(|row| world.vals(&row)));
        assert_eq!(told, wrong_key(key).map_or(Ok(vals.cloned()), Err), "{}", at());
    }
}

impl Shape {
    fn rows(self) -> usize {
        CAPACITIES[usize::from(self.capacity) % CAPACITIES.len()]
    }
}

#[path = "table_map.rs"]
mod map;

/// Plays `ops` on a table of this shape and on a map.
pub(crate) fn model(shape: Shape, ops: &[Op]) {
    let world = World::new(shape);
    let mut map = map::Map::new(shape);
    for (n, op) in ops.iter().enumerate() {
        map.play(&world, *op, &|| format!("operation {n} of {shape:?} {ops:?}"));
    }
    map.look(&world, &|| format!("after {shape:?} {ops:?}"));
}
