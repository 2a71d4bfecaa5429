//! The table beside the hardware's own floor: one dependent miss over as many bytes, mapped the same way; and beside `dashmap`.
//!
//! A million rows of a number, a float and a string of 64 bytes, under keys such as "user:123456"; a row that is read is copied whole. The
//! keys of two million random operations are written down beforehand, one after the other, so that reading them costs next to nothing.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::collections::hash_map::RandomState;
use std::hash::{Hash, Hasher as _};
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use commons::{Column, Row, Schema, Table};
use dashmap::DashMap;

mod harness;

use harness::floors::{Random, SharedChase};
use harness::{Bar, Suite, Work};

/// How many rows, and how many random operations before their keys begin again.
const ROWS: usize = 1_000_000;
const KEYS: usize = 2_000_000;

/// Keys of one `get_many`.
const BATCH: usize = 32;

/// A measurement of work that walks through memory takes three milliseconds; 101 of them are more than two million gets.
const LONG: u64 = 3_000_000;

/// A key's text in place.
#[derive(Clone, Copy)]
struct Text {
    bytes: [u8; 15],
    len: u8,
}

impl Text {
    fn of(number: usize) -> Text {
        let text = format!("user:{number}");
        let mut bytes = [0; 15];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Text { bytes, len: text.len() as u8 }
    }

    fn as_str(&self) -> &str {
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
fn motto(number: usize) -> String {
    format!("{number:-<64}")
}

#[derive(Clone)]
struct Users {
    table: Table,
    hits: Column<i64>,
    score: Column<f64>,
    name: Column<str>,
}

impl Users {
    fn new(rows: usize) -> Users {
        let mut schema = Schema::new();
        let (hits, score, name) = (schema.int("hits"), schema.float("score"), schema.string("name", 64));
        Users { table: Table::new(rows, schema).expect("a table"), hits, score, name }
    }

    #[inline]
    fn set(&self, key: &Text, number: usize, name: &str) {
        let cells = [self.hits.is(number as i64), self.score.is(number as f64), self.name.is(name)];
        black_box(self.table.set(key, &cells)).expect("room");
    }

    fn fill(&self, rows: usize) {
        (0..rows).for_each(|number| self.set(&Text::of(number), number, &motto(number)));
    }
}

/// The keys of random operations; each work goes on where it stopped.
#[derive(Clone)]
struct Keys {
    texts: Arc<[Text]>,
    at: std::cell::Cell<usize>,
}

impl Keys {
    fn of(rows: usize, keys: usize) -> Keys {
        let mut random = Random::new();
        Keys { texts: (0..keys).map(|_| Text::of(random.below(rows))).collect(), at: Default::default() }
    }

    /// The next `n`, in pieces of at most `piece`.
    #[inline]
    fn each(&self, n: u64, piece: usize, mut f: impl FnMut(&[Text])) {
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
    fn run(&self, n: u64, mut f: impl FnMut(&Text)) {
        self.each(n, usize::MAX, |texts| texts.iter().for_each(&mut f));
    }

    /// The same keys, begun elsewhere.
    fn from(&self, hand: usize) -> Keys {
        Keys { texts: self.texts.clone(), at: std::cell::Cell::new(self.texts.len() / 2 * hand) }
    }
}

fn main() -> ExitCode {
    let mut suite = Suite::new("table");
    let (rows, keys) = if suite.is_timed() { (ROWS, KEYS) } else { (1000, 2000) };
    let users = Users::new(rows);
    users.fill(rows);
    let keys = Keys::of(rows, keys);
    let miss = SharedChase::over(users.table.memory_size());
    hot(&mut suite, &users);
    suite.sample_for(LONG);
    random(&mut suite, &users, &keys, miss);
    together(&mut suite, &users, &keys);
    peers(&mut suite, &users, &keys, rows);
    coming_and_going(&mut suite, rows, miss);
    let bytes = Table::memory_for(2 * ROWS, &schema()) - Table::memory_for(ROWS, &schema());
    suite.figure("bytes a row", bytes as f64 / ROWS as f64, Bar::Cost(212.0)); // bars.md
    if suite.is_timed() {
        once(rows);
        println!("huge pages: {}", pages(users.table.memory_size()));
    }
    suite.run()
}

fn schema() -> Schema {
    let mut schema = Schema::new();
    let _ = (schema.int("hits"), schema.float("score"), schema.string("name", 64));
    schema
}

/// The least that finding a value under a hot key asks for: hash, compare, load.
fn hash_and_compare() -> Work {
    struct Line {
        hash: u64,
        key: &'static [u8],
        value: i64,
    }
    let seed = foldhash::SharedSeed::from_u64(1);
    let hash = move |key: &[u8]| {
        let mut hasher = foldhash::quality::FoldHasher::with_seed(2, &seed);
        hasher.write(key);
        hasher.finish()
    };
    let line: &Line = Box::leak(Box::new(Line { hash: hash(HOT), key: HOT, value: 7 }));
    Work::alone("hash, compare, load", move |n| {
        for _ in 0..n {
            let (key, line) = (black_box(HOT), black_box(line));
            black_box((hash(key) == line.hash && key == line.key).then_some(line.value));
        }
    })
}

const HOT: &[u8] = b"user:0";

fn hot_value(users: &Users) -> impl Fn(u64) + 'static {
    let Users { table, hits, .. } = users.clone();
    move |n| (0..n).for_each(|_| _ = black_box(table.value(black_box(HOT), hits)))
}

fn hot(suite: &mut Suite, users: &Users) {
    suite.pair(Work::alone("value, hot key", hot_value(users)), hash_and_compare(), Bar::Time(25.0)); // bars.md
    let table = users.table.clone();
    let row = std::cell::RefCell::new(table.row());
    let work = Work::alone("get_into, hot key", move |n| {
        let mut row = row.borrow_mut();
        (0..n).for_each(|_| _ = black_box(table.get_into(black_box(HOT), &mut row)));
    });
    suite.pair(work, hash_and_compare(), Bar::Time(25.0)); // bars.md
    let table = users.table.clone();
    let work = Work::alone("exists, no such key", move |n| {
        (0..n).for_each(|_| _ = black_box(table.exists(black_box("user:-1"))));
    });
    suite.pair(work, hash_and_compare(), Bar::Shown);
    let Users { table, hits, .. } = users.clone();
    let work = Work::alone("incr, hot key", move |n| (0..n).for_each(|_| _ = black_box(table.incr(HOT, hits, 1))));
    suite.pair(work, hash_and_compare(), Bar::Shown);
    let users = users.clone();
    let work = Work::alone("set of 3 columns, hot key", move |n| {
        let (key, name) = (Text::of(0), motto(0));
        (0..n).for_each(|i| users.set(&key, i as usize, &name));
    });
    suite.pair(work, hash_and_compare(), Bar::Shown);
    let table = Users::new(8).table;
    let work = Work::alone("len", move |n| (0..n).for_each(|_| _ = black_box(table.len())));
    suite.pair(work, hash_and_compare(), Bar::Shown);
}

/// One process's random gets, each a row copied whole.
fn gets(users: &Users, keys: &Keys) -> impl Fn(u64) + 'static {
    let (table, keys) = (users.table.clone(), keys.clone());
    let row: std::cell::RefCell<Row> = table.row().into();
    move |n| {
        let mut row = row.borrow_mut();
        keys.run(n, |key| _ = black_box(table.get_into(key, &mut row)));
    }
}

fn random(suite: &mut Suite, users: &Users, keys: &Keys, miss: SharedChase) {
    let floor = || miss.work("one dependent miss");
    suite.pair(Work::alone("get_into, random", gets(users, keys)), floor(), Bar::Cost(1.7)); // bars.md

    let (table, own) = (users.table.clone(), keys.clone());
    let many = Work::alone("get_many of 32, random", move |n| {
        own.each(n * BATCH as u64, BATCH, |texts| table.get_many(texts, |_, row| _ = black_box(row)));
    });
    let single = Work::alone("get_into, random", gets(users, keys));
    suite.pair(many.operations(BATCH as u64), single, Bar::Speed(2.5)); // bars.md

    let (own, of, names) = (users.clone(), keys.clone(), [motto(1), motto(2)]);
    let set = Work::alone("set of 3 columns, random", move |n| {
        let mut i = 0;
        of.run(n, |key| {
            i += 1;
            own.set(key, i, &names[i & 1]);
        });
    });
    suite.pair(set, floor(), Bar::Cost(2.1)); // bars.md

    let (Users { table, hits, .. }, of) = (users.clone(), keys.clone());
    let incr = Work::alone("incr, random", move |n| of.run(n, |key| _ = black_box(table.incr(key, hits, 1))));
    suite.pair(incr, floor(), Bar::Cost(1.9)); // bars.md

    let (Users { table, hits, .. }, of) = (users.clone(), keys.clone());
    let value = Work::alone("value, random", move |n| of.run(n, |key| _ = black_box(table.value(key, hits))));
    suite.pair(value, floor(), Bar::Shown);

    let (table, of) = (users.table.clone(), keys.clone());
    let get = Work::alone("get, random", move |n| of.run(n, |key| _ = black_box(table.get(key))));
    suite.pair(get, floor(), Bar::Shown);
}

fn together(suite: &mut Suite, users: &Users, keys: &Keys) {
    let hands = [gets(users, &keys.from(0)), gets(users, &keys.from(1))];
    let both = Work::together("get_into, random, 2 p.", 2, move |hand, n| hands[hand](n));
    suite.pair(both.operations(2), Work::alone("one process", gets(users, keys)), Bar::Speed(1.8)); // bars.md

    let value = hot_value(users);
    let both = Work::together("value, one hot key, 2 p.", 2, move |_, n| value(n));
    suite.pair(both.operations(2), Work::alone("one process", hot_value(users)), Bar::Speed(1.7)); // bars.md

    let incr = |keys: &Keys| {
        let (Users { table, hits, .. }, keys) = (users.clone(), keys.clone());
        move |n| keys.run(n, |key| _ = black_box(table.incr(key, hits, 1)))
    };
    let hands = [incr(&keys.from(0)), incr(&keys.from(1))];
    let both = Work::together("incr, random, 2 p.", 2, move |hand, n| hands[hand](n));
    suite.pair(both.operations(2), Work::alone("one process", incr(keys)), Bar::Shown);
}

/// What a user of `dashmap` would store: the same columns, with the text in place, so that it costs no further miss.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "read as a whole")]
struct User {
    hits: i64,
    score: f64,
    name: [u8; 64],
    len: u8,
}

impl User {
    fn of(number: usize) -> User {
        let name = motto(number).into_bytes().try_into().expect("64 bytes");
        User { hits: number as i64, score: number as f64, name, len: 64 }
    }
}

/// A key as long as ours may be, in place.
#[derive(PartialEq, Eq)]
struct InPlace([u8; 64], u8);

impl Hash for InPlace {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0[..usize::from(self.1)].hash(state);
    }
}

impl std::borrow::Borrow<[u8]> for InPlace {
    fn borrow(&self) -> &[u8] {
        &self.0[..usize::from(self.1)]
    }
}

fn peers(suite: &mut Suite, users: &Users, keys: &Keys, rows: usize) {
    let ours = |name| Work::alone(name, gets(users, keys));
    if suite.wants(AGAINST) {
        let map: DashMap<String, User, RandomState> = DashMap::with_capacity(rows);
        (0..rows).for_each(|n| _ = map.insert(Text::of(n).as_str().to_owned(), User::of(n)));
        let of = keys.clone();
        let get = Work::alone("dashmap, String keys", move |n| {
            of.run(n, |key| _ = black_box(map.get(key.as_str()).map(|user| *user)));
        });
        suite.pair(ours(AGAINST), get, Bar::Speed(1.0)); // bars.md

        let seed = foldhash::quality::FixedState::with_seed(1);
        let map: DashMap<InPlace, User, _> = DashMap::with_capacity_and_hasher(rows, seed);
        for n in 0..rows {
            let text = Text::of(n);
            let mut key = InPlace([0; 64], text.len);
            key.0[..15].copy_from_slice(&text.bytes);
            map.insert(key, User::of(n));
        }
        let of = keys.clone();
        let get = Work::alone("dashmap, keys in place, foldhash", move |n| {
            of.run(n, |key| {
                black_box(map.get(key.as_ref()).map(|user| *user));
            });
        });
        suite.pair(ours(AGAINST), get, Bar::Shown);
    }
}

const AGAINST: &str = "get_into, random, and dashmap";

/// What is done to a whole table, each timed once: a million times is an average of its own.
fn once(rows: usize) {
    let (users, texts, name) = (Users::new(rows), (0..rows).map(Text::of).collect::<Vec<_>>(), motto(0));
    let fill = || texts.iter().enumerate().for_each(|(number, key)| users.set(key, number, &name));
    let timed = |what: &str, work: &dyn Fn()| {
        let begin = Instant::now();
        work();
        println!("{what:<40} {:>9.1} ns a row", begin.elapsed().as_nanos() as f64 / rows as f64);
    };
    timed("insert, memory never used before", &fill);
    timed("iterate, keys and rows", &|| assert_eq!(black_box(users.table.iter().map(black_box).count()), rows));
    timed("del", &|| texts.iter().for_each(|key| assert!(users.table.del(key))));
    timed("insert, memory used before", &fill);
}

/// Insertion and removal in a table that is half full.
fn coming_and_going(suite: &mut Suite, rows: usize, miss: SharedChase) {
    let floor = || miss.work("one dependent miss");
    let (users, at) = (Users::new(rows), std::cell::Cell::new(0));
    users.fill(rows / 2);
    let name = motto(0);
    let churn = Work::alone("set of a fresh row, del of an old one", move |n| {
        for _ in 0..n {
            let old = at.get() % rows;
            at.set(old + 1);
            users.set(&Text::of((old + rows / 2) % rows), old, &name);
            black_box(users.table.del(Text::of(old)));
        }
    });
    suite.pair(churn, floor(), Bar::Shown);
}

/// How many of the mapping's bytes are in huge pages, as the kernel says.
fn pages(bytes: usize) -> String {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut lines = smaps.lines().skip_while(|line| !line.contains("memfd:commons:table"));
    let mapped = lines.find_map(|line| line.strip_prefix("ShmemPmdMapped:"));
    format!("{} of {} kB", mapped.unwrap_or("unknown").trim().trim_end_matches(" kB"), bytes / 1024)
}
