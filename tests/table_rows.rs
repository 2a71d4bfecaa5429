//! What a table gives out: rows, keys, scans, what a tool reads that has only the memory; and rows that go when their time is over.

mod common;
mod memory;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::{in_child, note, until};
use commons::harness::mapped;
use commons::{Error, Outcome, Region, Row, RowMut, Schema, Table};
use memory::{deeds, words};

#[test]
fn rows_are_copies() {
    let mut schema = Schema::new();
    let (hits, score, name, blob) =
        (schema.int("hits"), schema.float("score"), schema.string("name", 8), schema.bytes("blob", 8));
    let table = Table::new(8, schema.clone()).unwrap();
    table.set("a", &[hits.is(-3), score.is(0.5), name.is("Ann"), blob.is(&[0, 255])]).unwrap();
    let row = table.get("a").unwrap();
    table.del("a");
    table.set("a", &[name.is("somebody")]).unwrap();
    assert_eq!((row.get(hits), row.get(score), row.get(name), row.get(blob)), (-3, 0.5, "Ann", &[0, 255][..]));
    assert_eq!(row.clone().get(name), "Ann");
    assert_eq!(format!("{row:?}"), r#"{"hits": -3, "score": 0.5, "name": "Ann", "blob": [0, 255]}"#);
    assert_eq!((row.try_get(hits).unwrap(), row.try_get(name).unwrap()), (-3, "Ann"));
    let foreign = Schema::new().int("hits");
    assert!(matches!(row.try_get(foreign), Err(Error::ForeignColumn { of: "i64" })) && row.get(foreign) == 0);
    // A buffer of one table is made one of another; what stood in it is gone.
    let other = Table::new(8, schema).unwrap();
    other.set("b", &[name.is("Bob")]).unwrap();
    let mut buffer: Row = row;
    assert!(other.get_into("b", &mut buffer) && buffer.get(name) == "Bob" && buffer.get(blob).is_empty());
    assert!(!other.get_into("a", &mut buffer));
    assert!(other.get_into("b", &mut buffer) && (buffer.get(name), buffer.get(hits)) == ("Bob", 0));
    // Numbers to the bit.
    let odd = f64::from_bits(0x7ff8_0000_0000_0001);
    other.set("b", &[score.is(odd)]).unwrap();
    assert!(other.cmpset("b", &[score.is(odd)], &[score.is(-0.0)]).unwrap());
    assert!(!other.cmpdel("b", &[score.is(0.0)]).unwrap() && other.cmpdel("b", &[score.is(-0.0)]).unwrap());
    assert_eq!((other.incr("c", hits, i64::MAX).unwrap(), other.incr("c", hits, 1).unwrap()), (i64::MAX, i64::MIN));
    assert_eq!((other.decr("d", hits, i64::MIN).unwrap(), other.decr("d", score, 0.5).unwrap()), (i64::MIN, -0.5));
}

#[test]
fn keys_are_bytes() {
    let table = Table::new(8, Schema::new()).unwrap();
    let keys: [&[u8]; 4] = [b"text", &[0], &[0, 0], &[0xff; 64]];
    keys.iter().for_each(|key| _ = table.set(key, &[]).unwrap());
    let mut met: Vec<_> = table.iter().map(|(key, _)| key).collect();
    met.sort();
    assert_eq!(met.iter().map(|key| &**key).collect::<Vec<_>>(), [&[0][..], &[0, 0], b"text", &[0xff; 64]]);
    assert_eq!((met[2].as_str(), met[3].as_str()), (Some("text"), None));
    assert_eq!((format!("{:?}", met[2]), format!("{:?}", met[1])), (r#""text""#.into(), r#""\x00\x00""#.into()));
    assert!(met.iter().all(|key| table.del(key)) && table.is_empty());
    assert_eq!((&table).into_iter().count(), 0);
}

/// What a closure sets it also sees, and a mistake in it makes the whole call fail.
#[test]
fn a_closure_changes_all_or_nothing() {
    let mut schema = Schema::new();
    let (hits, name) = (schema.int("hits"), schema.string("name", 4));
    let foreign = Schema::new().int("hits");
    let table = Table::new(2, schema).unwrap();
    table.set("a", &[hits.is(1)]).unwrap();
    let refused = |change: &dyn Fn(&mut RowMut<'_>)| {
        for key in ["a", "b"] {
            assert!(table.upsert_with(key, |row| change(row)).is_err());
        }
        assert_eq!((table.value("a", hits), table.exists("b")), (Some(1), false));
        table.update_with("a", |row| change(row)).unwrap_err().to_string()
    };
    let told = refused(&|row| {
        row.set(hits, 5);
        row.set(name, "Robert");
        assert_eq!((row.get(hits), row.get(name)), (5, ""), "what does not fit is not set");
    });
    assert_eq!(told, r#"the value for column "name" has 6 bytes, at most 4 are allowed"#);
    let told = refused(&|row| {
        row.set(hits, row.get(foreign) + 5);
        row.set(name, "Robert");
    });
    assert!(told.contains("another schema's"), "the first mistake is told: {told}");
    refused(&|row| row.set(foreign, 1));
    assert_eq!(table.update_with("a", |row| row.get(hits)).unwrap(), Some(1));
    assert_eq!(table.update_with("b", |_| unreachable!("there is no such row")).unwrap(), None::<()>);
    assert_eq!(table.upsert_with("b", |row| (row.set(name, "Bob"), row.get(hits)).1).unwrap(), 0);
    assert_eq!(table.value("b", name).unwrap(), "Bob");
    assert_eq!((table.stats().updates, table.stats().inserts), (1, 2));
}

/// Copies of a schema share the columns that they had in common, and no others.
#[test]
fn copies_of_a_schema_that_went_different_ways() {
    let mut ours = Schema::new();
    let common = ours.int("common");
    let mut theirs = ours.clone();
    let (a, b) = (ours.int("a"), theirs.float("b"));
    let mut thirds = theirs.clone();
    let (c, d) = (ours.int("c"), thirds.float("d"));
    let (e, f) = (theirs.float("e"), thirds.int("f"));
    let table = Table::new(4, theirs).unwrap();
    table.set("k", &[common.is(1), b.is(0.5), e.is(2.5)]).unwrap();
    let row = table.get("k").unwrap();
    assert_eq!((row.get(common), row.get(b), row.get(e)), (1, 0.5, 2.5));
    for cell in [a.is(7), c.is(7), d.is(7.0), f.is(7)] {
        assert!(matches!(table.set("k", &[cell]), Err(Error::ForeignColumn { .. })), "{cell:?}");
    }
    assert!(row.try_get(d).is_err() && row.try_get(a).is_err() && table.incr("k", f, 1).is_err());
    let update = table.update_with("k", |row| row.set(d, 7.0));
    assert!(matches!(update, Err(Error::ForeignColumn { .. })));
}

/// A tool with the memory alone, and what the head of `src/table/describe.rs` says of it.
#[test]
fn a_tool_decodes_the_rows() {
    let mut schema = Schema::new();
    let (hits, name, score, blob) =
        (schema.int("hits"), schema.string("a name", 20), schema.float("score"), schema.bytes("blob", 9));
    let builder = Table::builder().capacity(50).key_size(30).schema(schema).ttl().buckets(3);
    let region = Region::new("decoded", builder.memory().unwrap()).unwrap();
    let table = builder.build_in(&region).unwrap();
    for n in 0..40_i64 {
        let (text, nine) = ("x".repeat(n as usize % 21), [n as u8; 9]);
        let cells = [hits.is(n - 20), name.is(&text), score.is(n as f64 / 8.0), blob.is(&nine[..n as usize % 10])];
        table.set(format!("key {n}"), &cells).unwrap();
    }
    (0..40).step_by(3).for_each(|n| assert!(table.del(format!("key {n}"))));
    table.set_ttl("key 1", &[], Duration::from_secs(1000)).unwrap();

    let words = words("decoded");
    let deeds: HashMap<_, _> =
        deeds(&words).into_iter().map(|(kind, bytes, at)| (kind, &words[at..][..bytes as usize / 8])).collect();
    let (head, described, rows) = (deeds[&8], deeds[&9], deeds[&11]);
    let [capacity, key_size, stride, key, columns, count, expiry, used] =
        [0, 1, 2, 3, 4, 5, 6, 7].map(|n| head[n] as usize);
    assert_eq!((capacity, key_size, count, used), (50, 30, 4, 0));
    assert!(expiry > 0 && rows.len() == capacity * stride);
    let bytes =
        |words: &[u64], len: usize| words.iter().flat_map(|word| word.to_le_bytes()).take(len).collect::<Vec<_>>();
    let specs: Vec<_> = described
        .chunks_exact(11)
        .map(|spec| {
            let name = String::from_utf8(bytes(&spec[3..], spec[0] as u32 as usize)).unwrap();
            (name, spec[0] >> 32, spec[1] as usize, spec[2] as usize)
        })
        .collect();
    let said: Vec<_> = specs.iter().map(|(name, kind, max, _)| (name.as_str(), *kind, *max)).collect();
    assert_eq!(said, [("hits", 1, 8), ("a name", 3, 20), ("score", 2, 8), ("blob", 4, 9)]);
    let mut seen = 0;
    for row in rows.chunks_exact(stride).filter(|row| row[0] != 0) {
        let key = String::from_utf8(bytes(&row[key..], row[2] as u32 as usize)).unwrap();
        let cell = |n: usize| &row[columns + specs[n].3..];
        let string = |n: usize| bytes(&cell(n)[1..], cell(n)[0] as usize);
        let ours = table.get(&key).expect("it is a row");
        assert_eq!((cell(0)[0] as i64, f64::from_bits(cell(2)[0])), (ours.get(hits), ours.get(score)));
        assert_eq!((&*string(1), &*string(3)), (ours.get(name).as_bytes(), ours.get(blob)));
        assert_eq!(row[expiry - 1] != 0, key == "key 1");
        seen += 1;
    }
    assert_eq!((seen, table.len()), (26, 26));
    assert!(mapped().iter().any(|region| region.name == "decoded"));
}

/// While others come and go in the same buckets, every row that stays is met exactly once.
#[test]
fn a_scan_amid_heavy_change() {
    let mut schema = Schema::new();
    let n = schema.int("n");
    let table = Table::builder().capacity(300).schema(schema).buckets(20).build().unwrap();
    (0..100).for_each(|key| _ = table.set(format!("stays {key}"), &[n.is(key)]).unwrap());
    let churn = |who: usize| {
        for round in 0_usize.. {
            let key = format!("{who} {}", round * 7 % 95);
            if !table.del(&key) {
                table.set(&key, &[n.is(-1)]).unwrap();
            }
        }
    };
    let _children = [0, 1].map(|who| in_child(move || churn(who)));
    let end = Instant::now() + Duration::from_secs(2);
    let (mut scans, mut others) = (0, 0);
    while Instant::now() < end {
        let mut met = [false; 100];
        for (key, row) in &table {
            match usize::try_from(row.get(n)) {
                Ok(number) => {
                    assert_eq!(key.as_str().unwrap(), format!("stays {number}"));
                    assert!(!std::mem::replace(&mut met[number], true), "{number} twice");
                }
                Err(_) => others += 1,
            }
        }
        assert!(met.iter().all(|met| *met), "scan {scans}");
        scans += 1;
    }
    note(&format!("{scans} scans, {others} rows that come and go"));
    assert!(scans > 10 && others > 100, "{scans} scans, {others}: nothing happened");
}

#[test]
fn a_row_goes_when_its_time_is_over_and_not_before() {
    let mut schema = Schema::new();
    let n = schema.int("n");
    let table = Table::builder().capacity(2).schema(schema).ttl().build().unwrap();
    let short = Duration::from_millis(60);
    let before = Instant::now();
    table.set_ttl("a", &[n.is(1)], short).unwrap();
    table.set("b", &[n.is(2)]).unwrap();
    // Neither a plain set nor an incr touches its time.
    table.set("a", &[n.is(5)]).unwrap();
    table.incr("a", n, 1).unwrap();
    let mut full = 0;
    until("there is room", || match table.add("c", &[]) {
        Err(Error::Full { .. }) => {
            full += 1;
            false
        }
        added => added.unwrap(),
    });
    assert!(before.elapsed() >= short, "{:?}", before.elapsed());
    assert!(full > 0 && table.get("a").is_none() && table.len() == 2 && table.stats().deletes == 1);
    // Changed to later, to never, to now.
    table.set_ttl("b", &[], short).unwrap();
    assert!(table.expire_at("b", Some(Instant::now() + Duration::from_secs(1000))).unwrap());
    assert!(table.expire_at("c", None).unwrap() && !table.expire_at("a", None).unwrap());
    let later = Instant::now() + 2 * short;
    until("the first time is over", || Instant::now() > later);
    assert!(table.exists("b") && table.exists("c") && matches!(table.add("d", &[]), Err(Error::Full { .. })));
    assert!(table.expire_at("b", Some(before)).unwrap() && !table.exists("b") && !table.update("b", &[]).unwrap());
    assert_eq!((table.set("b", &[]).unwrap(), table.value("b", n)), (Outcome::Inserted, Some(0)));
    let never = table.set_ttl("b", &[], Duration::MAX).unwrap();
    assert!(never == Outcome::Updated && table.exists("b") && table.purge(100).unwrap() == 0);
    let plain = Table::new(1, Schema::new()).unwrap();
    let told = plain.set_ttl("a", &[], short).unwrap_err();
    assert_eq!(told.to_string(), "this table was made without expiry; Table::builder().ttl() asks for it");
    assert!(matches!(
        (plain.purge(1), plain.expire_at("a", None)),
        (Err(Error::NotEnabled { .. }), Err(Error::NotEnabled { .. }))
    ));
}

/// A purge looks at as many rows as it was allowed to, and goes on where the last one ended.
#[test]
fn a_purge_keeps_to_its_budget() {
    let table = Table::builder().capacity(1000).ttl().build().unwrap();
    let expired = |n: u32| n.is_multiple_of(2);
    for n in 0..1000 {
        let after = if expired(n) { Duration::ZERO } else { Duration::from_secs(1000) };
        table.set_ttl(n.to_string(), &[], after).unwrap();
    }
    assert_eq!((table.purge(0).unwrap(), table.len(), table.iter().count()), (0, 1000, 500));
    let mut gone = 0;
    for calls in 1..=100 {
        let now = table.purge(10).unwrap();
        assert_eq!(now, 5, "every other row of ten");
        gone += now;
        assert_eq!(table.len(), 1000 - gone, "after {calls} calls");
    }
    assert_eq!((gone, table.purge(usize::MAX).unwrap(), table.stats().deletes), (500, 0, 500));
    assert!((0..1000).all(|n| table.exists(n.to_string()) != expired(n)));
}

/// An insertion that finds no room does not look at every row, each time, for one that has expired.
#[test]
fn a_full_table_says_so_quickly() {
    let capacity = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    let table = Table::builder().capacity(capacity).ttl().build().unwrap();
    for n in 0..capacity {
        table.set_ttl(n.to_string(), &[], Duration::from_secs(1000 + n as u64)).unwrap();
    }
    let since = Instant::now();
    let scans = 10;
    (0..scans).for_each(|_| assert_eq!(table.purge(usize::MAX).unwrap(), 0));
    let scan = since.elapsed() / scans;
    let since = Instant::now();
    for n in 0..10_000 {
        assert!(matches!(table.add(format!("more {n}"), &[]), Err(Error::Full { .. })));
    }
    let all = since.elapsed();
    note(&format!("{capacity} rows: 10 000 refusals take {all:?}, one look at every row {scan:?}"));
    assert!(all < scan * 1000, "10 000 refusals take {all:?}, one look at every row {scan:?}");
    // One that expires is found all the same.
    assert!(table.expire_at("77", Some(Instant::now())).unwrap());
    assert!(table.add("more", &[]).unwrap() && table.len() == capacity);
    assert!(matches!(table.add("and more", &[]), Err(Error::Full { .. })));
}
