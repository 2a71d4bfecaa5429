//! A table's limits: what is refused by name, what just fits, how much memory it takes, and that exactly as many rows go in as were promised.
//! The longest of these run in release, or with COMMONS_LONG=1.

mod common;
mod memory;

use std::time::{Duration, Instant};

use common::dice::Dice;
use common::{note, skipped};
use commons::{Error, Outcome, Region, Schema, Table, TableBuilder};
use memory::words;

const MIB: usize = 1 << 20;

/// What a builder is refused with, whether or not it has a region, and whether or not it is only asked for its memory.
#[track_caller]
fn refused(builder: &TableBuilder, text: &str) {
    let region = Region::new("refused", 4096).unwrap();
    let told = [
        builder.memory().unwrap_err(),
        builder.clone().build().unwrap_err(),
        builder.clone().build_in(&region).unwrap_err(),
    ];
    told.iter().for_each(|told| assert_eq!(told.to_string(), text));
    assert_eq!(region.used(), 0);
}

fn of(fill: impl FnOnce(&mut Schema)) -> Schema {
    let mut schema = Schema::new();
    fill(&mut schema);
    schema
}

#[test]
fn what_is_out_of_range_is_refused_by_name() {
    let empty = || Table::builder().capacity(1);
    refused(&Table::builder(), "a table's capacity in rows is 0, allowed are 1..=4294967294");
    for wrong in [u32::MAX as usize, 1 << 32, usize::MAX] {
        refused(
            &empty().capacity(wrong),
            &format!("a table's capacity in rows is {wrong}, allowed are 1..=4294967294"),
        );
        assert_eq!(Table::memory_for(wrong, &Schema::new()), usize::MAX);
    }
    assert!(matches!(
        Table::new(0, Schema::new()),
        Err(Error::OutOfRange { value: 0, min: 1, max: 4_294_967_294, .. })
    ));
    for wrong in [0, MIB + 1, usize::MAX] {
        let text = format!("the greatest length of a key in bytes is {wrong}, allowed are 1..=1048576");
        refused(&empty().key_size(wrong), &text);
    }
    for wrong in [0, (1 << 30) + 1, usize::MAX] {
        let text = format!("the greatest length of a string column in bytes is {wrong}, allowed are 1..=1073741824");
        refused(&empty().schema(of(|schema| _ = schema.string("s", wrong))), &text);
        refused(&empty().schema(of(|schema| _ = schema.bytes("b", wrong))), &text);
    }
    let told = Table::builder().capacity(u32::MAX as usize - 1).memory().unwrap_err().to_string();
    assert!(
        told.starts_with("the size of a table in bytes is ") && told.ends_with(", allowed are 1..=34359738112"),
        "{told}"
    );
}

#[test]
fn columns_that_cannot_be_are_refused_by_name() {
    let with = |schema| Table::builder().capacity(1).schema(schema);
    for second in [Schema::int as fn(&mut Schema, &str) -> _, |schema, name| {
        schema.string(name, 8);
        schema.int("another")
    }] {
        let twice = of(|schema| {
            schema.int("hits");
            schema.int("other");
            second(schema, "hits");
            // The first mistake is the one that is told.
            schema.string("s", 0);
        });
        refused(&with(twice), r#"the column "hits" is given twice"#);
    }
    let long = "ü".repeat(32) + "n";
    let text = format!("the name {long:?} has 65 bytes, at most 64 are allowed");
    refused(&with(of(|schema| _ = schema.int(&long))), &text);
    refused(&with(of(|schema| _ = schema.int(""))), "the length of a column's name in bytes is 0, allowed are 1..=64");
    refused(&with(of(|schema| _ = schema.float("a\0b"))), r#"the name "a\0b" holds a zero byte"#);
    let many = |n| of(|schema| (0..n).for_each(|n| _ = schema.int(&n.to_string())));
    refused(&with(many(4097)), "the number of columns is 4097, allowed are 0..=4096");
    assert_eq!(with(many(4096)).build().unwrap().capacity(), 1);
    let long = of(|schema| _ = schema.int(&"n".repeat(64)));
    let table = with(long).build().unwrap();
    assert!(table.column::<i64>(&"n".repeat(64)).is_ok());
}

#[test]
fn columns_are_found_by_name() {
    let table = Table::new(8, of(|schema| _ = (schema.int("hits"), schema.bytes("blob", 9)))).unwrap();
    let (hits, blob) = (table.column::<i64>("hits").unwrap(), table.column::<[u8]>("blob").unwrap());
    table.set("a", &[hits.is(7), blob.is(b"seven")]).unwrap();
    assert_eq!((table.value("a", hits), table.value("a", blob)), (Some(7), Some(b"seven".to_vec())));
    let told = table.column::<i64>("Hits").unwrap_err();
    assert!(matches!(&told, Error::UnknownColumn { column } if column == "Hits"));
    assert_eq!(told.to_string(), r#"the table has no column "Hits""#);
    let told = table.column::<str>("blob").unwrap_err();
    assert!(matches!(told, Error::WrongType { asked: "str", holds: "[u8]", .. }));
    assert_eq!(told.to_string(), r#"the column "blob" holds values of type [u8], not str"#);
}

/// Everything that the contract lists is refused before anything is written: not a byte of the region changes.
#[test]
fn bad_input_leaves_every_byte_as_it_was() {
    let mut schema = Schema::new();
    let (hits, score, name, blob) =
        (schema.int("hits"), schema.float("score"), schema.string("name", 5), schema.bytes("blob", 9));
    let mut other = Schema::new();
    let (foreign, foreign_name) = (other.int("hits"), other.string("name", 5));
    let builder = Table::builder().capacity(10).key_size(12).schema(schema).ttl().evict_lru();
    let region = Region::new("bytes", builder.memory().unwrap()).unwrap();
    let table = builder.build_in(&region).unwrap();
    table.set("there", &[hits.is(1), name.is("Bob"), blob.is(&[1; 9])]).unwrap();
    let before = words("bytes");
    let (long, empty) = ("a key of thirteen"[..13].to_owned(), String::new());
    let deed = |told: Option<Error>, text: &str| assert_eq!(told.expect("an error").to_string(), text);
    let soon = Duration::from_secs(1);
    for (key, text) in [
        (&long, "the key has 13 bytes, at most 12 are allowed"),
        (&empty, "the key is empty; a key has at least 1 byte"),
    ] {
        let cell = [hits.is(1)];
        deed(table.set(key, &cell).err(), text);
        deed(table.add(key, &cell).err(), text);
        deed(table.update(key, &cell).err(), text);
        deed(table.cmpset(key, &cell, &cell).err(), text);
        deed(table.cmpdel(key, &cell).err(), text);
        deed(table.incr(key, hits, 1).err(), text);
        deed(table.decr(key, score, 1.0).err(), text);
        deed(table.update_with(key, |_| unreachable!("no row has this key")).err(), text);
        deed(table.upsert_with(key, |_| unreachable!("no row has this key")).err(), text);
        deed(table.set_ttl(key, &cell, soon).err(), text);
        deed(table.expire_at(key, None).err(), text);
        deed(table.try_del(key).err(), text);
        deed(table.try_take(key).err(), text);
        deed(table.get_timeout(key, soon).err(), text);
        assert!(!table.exists(key) && table.get(key).is_none() && table.value(key, hits).is_none());
        assert!(!table.del(key) && table.take(key).is_none());
    }
    for (cells, text) in [
        (vec![hits.is(2), name.is("Robert")], r#"the value for column "name" has 6 bytes, at most 5 are allowed"#),
        (vec![hits.is(2), blob.is(&[0; 10])], r#"the value for column "blob" has 10 bytes, at most 9 are allowed"#),
        (vec![hits.is(2), name.is("ünïcö")], r#"the value for column "name" has 8 bytes, at most 5 are allowed"#),
        (vec![hits.is(2), foreign.is(1)], "the column (of type i64 or f64) is another schema's than this table's"),
        (vec![foreign_name.is("x")], "the column (of type str or [u8]) is another schema's than this table's"),
        (vec![hits.is(2), score.is(1.0), hits.is(2)], r#"the column "hits" is given twice"#),
    ] {
        for key in ["there", "absent"] {
            deed(table.set(key, &cells).err(), text);
            deed(table.add(key, &cells).err(), text);
            deed(table.update(key, &cells).err(), text);
            deed(table.cmpset(key, &[], &cells).err(), text);
            deed(table.cmpset(key, &cells, &[]).err(), text);
            deed(table.cmpdel(key, &cells).err(), text);
            deed(table.set_ttl(key, &cells, soon).err(), text);
        }
    }
    assert!(matches!(table.incr("there", foreign, 1), Err(Error::ForeignColumn { of: "i64" })));
    assert!(table.value("there", foreign).is_none());
    assert_eq!(words("bytes"), before);
}

/// Where room has run out, all that can be seen is as it was.
#[test]
fn a_full_table_stays_as_it_is() {
    let mut schema = Schema::new();
    let hits = schema.int("hits");
    let table = Table::new(3, schema).unwrap();
    (0..3).for_each(|n| _ = table.set(n.to_string(), &[hits.is(n)]).unwrap());
    let (seen, stats) = (format!("{:?}", table.iter().collect::<Vec<_>>()), table.stats());
    for _ in 0..100 {
        let told = table.set("more", &[hits.is(9)]).unwrap_err();
        assert_eq!(
            told.to_string(),
            "full: all room is taken, which is 3 (rows of a table, bytes of a channel, timers)"
        );
        assert!(matches!(table.add("more", &[]), Err(Error::Full { capacity: 3 })));
        assert!(matches!(table.incr("more", hits, 1), Err(Error::Full { .. })));
        assert!(matches!(table.upsert_with("more", |_| unreachable!("there is no room")), Err(Error::Full { .. })));
        assert!(!table.update("more", &[]).unwrap() && !table.cmpset("more", &[], &[]).unwrap());
    }
    assert_eq!((format!("{:?}", table.iter().collect::<Vec<_>>()), table.stats()), (seen, stats));
}

#[test]
fn a_column_of_four_mebibytes() {
    let mut schema = Schema::new();
    let (text, n) = (schema.string("text", 4 * MIB), schema.int("n"));
    let table = Table::new(3, schema).unwrap();
    let long: String = ('a'..='z').cycle().take(4 * MIB).collect();
    table.set("a", &[text.is(&long), n.is(1)]).unwrap();
    table.set("b", &[text.is("short")]).unwrap();
    assert!(table.value("a", text).unwrap() == long && table.get("a").unwrap().get(text) == long);
    table.set("a", &[text.is(&long[..MIB + 3])]).unwrap();
    assert!(table.value("a", text).unwrap() == long[..MIB + 3] && table.value("a", n) == Some(1));
    let change = |row: &mut commons::RowMut<'_>| {
        let twice = [row.get(text), row.get(text), "."].concat();
        row.set(text, &twice);
    };
    table.update_with("a", change).unwrap().unwrap();
    let now = table.value("a", text).unwrap();
    assert!(now.len() == 2 * (MIB + 3) + 1 && now == [&long[..MIB + 3], &long[..MIB + 3], "."].concat());
    assert!(table.cmpset("a", &[text.is(&now)], &[text.is("")]).unwrap() && table.value("a", text).unwrap().is_empty());
    let told = table.set("b", &[text.is(&(long.clone() + "z"))]).unwrap_err();
    assert!(matches!(told, Error::ValueTooLong { len: 4_194_305, max: 4_194_304, .. }));
    assert_eq!(table.take("b").unwrap().get(text), "short");
    table.set("b", &[]).unwrap();
    assert_eq!(table.value("b", text).unwrap(), "", "what an earlier row held is gone");
}

#[test]
fn no_columns_and_two_hundred() {
    let set = Table::new(100, Schema::new()).unwrap();
    assert!(set.add("a", &[]).unwrap() && !set.add("a", &[]).unwrap() && set.update("a", &[]).unwrap());
    assert!(set.cmpset("a", &[], &[]).unwrap() && format!("{:?}", set.get("a").unwrap()) == "{}");
    assert_eq!(set.update_with("a", |_| 7).unwrap(), Some(7));
    assert!(set.cmpdel("a", &[]).unwrap() && set.is_empty());

    let mut schema = Schema::new();
    let ints: Vec<_> = (0..100).map(|n| schema.int(&format!("int {n}"))).collect();
    let strings: Vec<_> = (0..100).map(|n| schema.string(&format!("string {n}"), n + 1)).collect();
    let wide = Table::new(5, schema).unwrap();
    let texts: Vec<_> = (0..100).map(|n| "x".repeat(n + 1)).collect();
    let cells = |by: i64| {
        let numbers = ints.iter().zip(0..).map(move |(int, n)| int.is(n * by));
        numbers.chain(strings.iter().zip(&texts).map(|(string, text)| string.is(text))).collect::<Vec<_>>()
    };
    assert_eq!(wide.set("all", &cells(1)).unwrap(), Outcome::Inserted);
    assert_eq!(wide.set("all", &cells(3)).unwrap(), Outcome::Updated);
    wide.set("one", &[strings[99].is(&texts[99])]).unwrap();
    let row = wide.get("all").unwrap();
    assert!(ints.iter().zip(0..).all(|(int, n)| row.get(*int) == n * 3));
    assert!(strings.iter().zip(&texts).all(|(string, text)| row.get(*string) == text));
    assert!(wide.cmpset("all", &cells(3), &cells(5)).unwrap() && !wide.cmpdel("all", &cells(3)).unwrap());
    let row = wide.get("one").unwrap();
    assert!(
        ints.iter().all(|int| row.get(*int) == 0)
            && row.get(strings[99]) == texts[99]
            && row.get(strings[98]).is_empty()
    );
}

#[test]
fn a_region_that_is_too_small_is_left_alone() {
    let schema = of(|schema| _ = (schema.int("n"), schema.string("s", 30)));
    let bytes = Table::memory_for(100, &schema);
    let region = Region::new("small", bytes - 1).unwrap();
    let before = words("small");
    let told = Table::new_in(&region, 100, schema.clone()).unwrap_err();
    assert_eq!(
        told.to_string(),
        format!("out of shared memory: {bytes} bytes asked, {} bytes left in the region", bytes - 1)
    );
    assert_eq!((words("small"), region.used()), (before, 0));
    // Two of them, to the last byte.
    let region = Region::new("two", 2 * bytes).unwrap();
    let two = [(); 2].map(|()| Table::new_in(&region, 100, schema.clone()).unwrap());
    assert_eq!(region.used(), region.size());
    (0..100).for_each(|n| assert!(two.iter().all(|table| table.add(n.to_string(), &[]).unwrap())));
    assert!(two.iter().all(|table| matches!(table.add("more", &[]), Err(Error::Full { .. })) && table.len() == 100));
}

/// What is said of a table's memory is what it takes, and a row costs no more than the contract allows.
#[test]
fn memory_is_known_before_it_is_taken() {
    let mut dice = Dice::new(3);
    for round in 0..40 {
        let mut schema = Schema::new();
        let mut columns = 0;
        for n in 0..dice.roll(12) {
            let name = n.to_string();
            // A string takes its length beside, in whole words: that is what the schema says of it.
            let max = 1 + dice.roll(100) as usize;
            match dice.roll(3) {
                0 => _ = schema.int(&name),
                1 => _ = schema.float(&name),
                _ => {
                    schema.string(&name, max);
                    columns += max.next_multiple_of(8);
                }
            }
            columns += 8;
        }
        let key = 1 + dice.roll(130) as usize;
        let builder = |rows| {
            let builder = Table::builder().capacity(rows).key_size(key).schema(schema.clone());
            let builder = if round % 2 == 0 { builder.ttl() } else { builder };
            if round % 4 < 2 { builder.evict_lru() } else { builder }
        };
        // All that is not for rows, and one row.
        let fixed = builder(1).memory().unwrap();
        for rows in [2, 3, 10, 1_000, 4_096, 100_003, 1_000_000] {
            let bytes = builder(rows).memory().unwrap();
            assert!(bytes <= fixed + rows * (key + columns + 64), "{rows} rows, key {key}, columns {columns}: {bytes}");
        }
        let table = builder(1_000).build().unwrap();
        let region = table.region();
        assert_eq!(
            (table.memory_size(), region.used(), region.size()),
            (builder(1_000).memory().unwrap(), table.memory_size(), table.memory_size())
        );
        if key == 64 && round % 2 == 1 {
            assert_eq!(table.memory_size(), Table::memory_for(1_000, &schema));
        }
    }
    let schema = of(|schema| _ = (schema.int("n"), schema.float("f"), schema.string("s", 64)));
    let row = (Table::memory_for(1_000_000, &schema) - Table::memory_for(500_000, &schema)) / 500_000;
    assert!(row <= 212, "{row} bytes a row");
}

fn long_runs() -> bool {
    !cfg!(debug_assertions) || std::env::var_os("COMMONS_LONG").is_some()
}

/// Exactly `capacity` rows go in, whatever their keys, and the next is refused; every one of them is found again.
fn filled(capacity: usize, buckets: Option<usize>, key: impl Fn(u64) -> Vec<u8>) {
    let since = Instant::now();
    let mut builder = Table::builder().capacity(capacity).key_size(16);
    if let Some(buckets) = buckets {
        builder = builder.buckets(buckets);
    }
    let table = builder.build().unwrap();
    let all = capacity as u64;
    (0..all).for_each(|n| assert!(table.add(key(n), &[]).unwrap(), "row {n}"));
    for n in all..all + 10 {
        assert!(matches!(table.add(key(n), &[]), Err(Error::Full { capacity: c }) if c == capacity));
    }
    assert!((0..all).all(|n| table.exists(key(n))) && !table.exists(key(all)));
    assert_eq!((table.len(), table.iter().count()), (capacity, capacity));
    // And again after some have gone.
    let gone = (0..all).step_by(7).filter(|n| table.del(key(*n))).count();
    assert_eq!(table.len(), capacity - gone);
    (0..gone as u64).for_each(|n| assert!(table.add(key(2 * all + n), &[]).unwrap()));
    assert!(matches!(table.add(key(3 * all), &[]), Err(Error::Full { .. })));
    note(&format!(
        "{capacity} rows, buckets {buckets:?}: {:?}, longest chain {}",
        since.elapsed(),
        table.stats().longest_chain
    ));
}

#[test]
fn as_many_rows_as_promised() {
    let sequential = |n: u64| n.to_string().into_bytes();
    let random = |n: u64| {
        let mut dice = Dice::new(n ^ 0x5eed);
        // The number itself, so that no two are the same.
        [dice.roll(u64::MAX >> 31).to_le_bytes(), n.to_be_bytes()].concat()
    };
    for capacity in [1000, 4096, 100_003, 1_000_000] {
        if capacity > 100_003 && !long_runs() {
            skipped("1 000 000 rows take a minute in debug; --release or COMMONS_LONG=1 run them");
            return;
        }
        filled(capacity, None, sequential);
        filled(capacity, None, random);
        // What an attacker who knew the seed could do at worst.
        filled(capacity, Some(1), random);
    }
}
