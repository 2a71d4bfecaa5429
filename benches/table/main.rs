//! The table beside the hardware's own floor, one dependent miss over as many bytes in pages of 4 KiB; and beside `dashmap`.
//!
//! The table is prefaulted, as a large one should be: where the kernel has huge pages, it is in those, and the last line but one says how much of
//! it. The pairs named "small pages" are of a table that was not.
//!
//! A million rows of a number, a float and a string of 64 bytes, under keys such as "user:123456"; a row that is read is copied whole. The
//! keys of two million random operations are written down beforehand, one after the other, so that reading them costs next to nothing.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::hash::Hasher as _;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use commons::Table;

#[path = "../harness/mod.rs"]
mod harness;
mod peers;
mod users;

use harness::floors::SharedChase;
use harness::{Bar, Suite, Work};
use peers::peers;
use users::{BATCH, KEYS, Keys, ROWS, Text, Users, batches, gets, incrs, motto, schema, sets};

/// A measurement of work that walks through memory takes three milliseconds; 101 of them are more than two million gets.
const LONG: u64 = 3_000_000;

fn main() -> ExitCode {
    let mut suite = Suite::new("table");
    let (rows, keys) = if suite.is_timed() { (ROWS, KEYS) } else { (1000, 2000) };
    let (users, small) = (Users::prefaulted(rows), Users::new(rows));
    users.fill(rows);
    small.fill(rows);
    let keys = Keys::of(rows, keys);
    let bytes = users.table.memory_size();
    let (miss, huge) = (SharedChase::over(bytes), SharedChase::huge(bytes));
    {
        let (users, small) = (users.clone(), small.clone());
        suite.warm(move || {
            users.touch(rows);
            small.touch(rows);
            miss.touch();
            huge.touch();
        });
    }
    hot(&mut suite, &users);
    suite.sample_for(LONG);
    random(&mut suite, &users, &keys, miss);
    together(&mut suite, &users, &keys, miss);
    peers(&mut suite, &users, &keys, rows);
    coming_and_going(&mut suite, rows, miss);
    by_pages(&mut suite, &users, &small, &keys, [miss, huge]);
    let bytes = Table::memory_for(2 * ROWS, &schema()) - Table::memory_for(ROWS, &schema());
    suite.figure("bytes a row", bytes as f64 / ROWS as f64, Bar::Cost(212.0)); // bars.md
    if suite.is_timed() {
        once(rows);
        println!("huge pages: {} of {} kB", pages(), users.table.memory_size() / 1024);
    }
    suite.run()
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

fn random(suite: &mut Suite, users: &Users, keys: &Keys, miss: SharedChase) {
    let floor = || miss.work("one dependent miss");
    suite.pair(Work::alone("get_into, random", gets(users, keys)), floor(), Bar::Cost(1.7)); // bars.md

    let many = Work::alone("get_many of 32, random", batches(users, keys));
    let single = Work::alone("get_into, random", gets(users, keys));
    suite.pair(many.operations(BATCH as u64), single, Bar::Speed(2.5)); // bars.md

    suite.pair(Work::alone("set of 3 columns, random", sets(users, keys)), floor(), Bar::Cost(2.1)); // bars.md
    suite.pair(Work::alone("incr, random", incrs(users, keys)), floor(), Bar::Cost(1.9)); // bars.md

    let (Users { table, hits, .. }, of) = (users.clone(), keys.clone());
    let value = Work::alone("value, random", move |n| of.run(n, |key| _ = black_box(table.value(key, hits))));
    suite.pair(value, floor(), Bar::Shown);

    let (table, of) = (users.table.clone(), keys.clone());
    let get = Work::alone("get, random", move |n| of.run(n, |key| _ = black_box(table.get(key))));
    suite.pair(get, floor(), Bar::Shown);
}

/// The same work in pages of either size, each beside a miss in pages of its own size.
fn by_pages(suite: &mut Suite, users: &Users, small: &Users, keys: &Keys, [miss, huge]: [SharedChase; 2]) {
    suite.pair(huge.work("one dependent miss, huge pages"), miss.work("small pages"), Bar::Shown);
    let floor = || huge.work("one miss, huge pages");
    suite.pair(Work::alone("get_into, huge pages", gets(users, keys)), floor(), Bar::Shown);
    suite.pair(Work::alone("set of 3 columns, huge pages", sets(users, keys)), floor(), Bar::Shown);
    suite.pair(Work::alone("incr, huge pages", incrs(users, keys)), floor(), Bar::Shown);
    let floor = || miss.work("one miss, small pages");
    suite.pair(Work::alone("get_into, small pages", gets(small, keys)), floor(), Bar::Shown);
    suite.pair(Work::alone("set of 3 columns, small pages", sets(small, keys)), floor(), Bar::Shown);
    suite.pair(Work::alone("incr, small pages", incrs(small, keys)), floor(), Bar::Shown);
    let many = Work::alone("get_many of 32, small pages", batches(small, keys)).operations(BATCH as u64);
    suite.pair(many, Work::alone("get_into, small pages", gets(small, keys)), Bar::Shown);
}

fn together(suite: &mut Suite, users: &Users, keys: &Keys, miss: SharedChase) {
    let hands = [gets(users, &keys.from(0)), gets(users, &keys.from(1))];
    let both = Work::together("get_into, random, 2 p.", 2, move |hand, n| hands[hand](n));
    suite.pair(both.operations(2), Work::alone("one process", gets(users, keys)), Bar::Speed(1.8)); // bars.md

    // What the machine gives two processes that only wait for memory: no structure can do better.
    suite.pair(miss.by_two("one dependent miss, 2 p."), miss.work("one process"), Bar::Shown);

    let value = hot_value(users);
    let both = Work::together("value, one hot key, 2 p.", 2, move |_, n| value(n));
    suite.pair(both.operations(2), Work::alone("one process", hot_value(users)), Bar::Speed(1.7)); // bars.md

    let hands = [incrs(users, &keys.from(0)), incrs(users, &keys.from(1))];
    let both = Work::together("incr, random, 2 p.", 2, move |hand, n| hands[hand](n));
    suite.pair(both.operations(2), Work::alone("one process", incrs(users, keys)), Bar::Shown);
}

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
    let begin = Instant::now();
    let users = Users::prefaulted(rows);
    println!("{:<40} {:>9.1} ns a row", "prefault", begin.elapsed().as_nanos() as f64 / rows as f64);
    let fill = || texts.iter().enumerate().for_each(|(number, key)| users.set(key, number, &name));
    timed("insert, memory prefaulted", &fill);
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

/// Kilobytes of the tables' memory that are in huge pages, as the kernel says.
fn pages() -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut is_table = false;
    let huge = smaps.lines().filter_map(|line| {
        if line.contains('/') {
            is_table = line.contains("memfd:commons:table");
        }
        let kilobytes = line.strip_prefix("ShmemPmdMapped:").filter(|_| is_table)?;
        kilobytes.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    huge.sum()
}
