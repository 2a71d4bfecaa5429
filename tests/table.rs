//! The table's contract, one process.

use std::collections::HashMap;
use std::time::Duration;

use commons::{Column, Error, Outcome, Schema, Table};

struct Users {
    table: Table,
    hits: Column<i64>,
    score: Column<f64>,
    name: Column<str>,
    blob: Column<[u8]>,
}

fn users(capacity: usize) -> Users {
    let mut schema = Schema::new();
    let hits = schema.int("hits");
    let score = schema.float("score");
    let name = schema.string("name", 64);
    let blob = schema.bytes("blob", 20);
    Users { table: Table::new(capacity, schema).unwrap(), hits, score, name, blob }
}

#[test]
fn a_new_row_is_zero_and_set_merges() {
    let Users { table, hits, score, name, blob } = users(10);
    assert_eq!(table.set("bob", &[hits.is(1)]).unwrap(), Outcome::Inserted);
    let row = table.get("bob").unwrap();
    assert_eq!((row.get(hits), row.get(score), row.get(name), row.get(blob)), (1, 0.0, "", &[][..]));
    assert_eq!(table.set("bob", &[name.is("Bob"), blob.is(&[1, 2, 3])]).unwrap(), Outcome::Updated);
    assert_eq!(table.value("bob", name).as_deref(), Some("Bob"));
    assert_eq!(table.value("bob", blob), Some(vec![1, 2, 3]));
    assert_eq!(table.value("bob", hits), Some(1));
    assert!(table.set("bob", &[name.is("B")]).is_ok() && table.value("bob", name).unwrap() == "B");
    assert_eq!(table.len(), 1);
    assert!(table.del("bob") && table.is_empty() && table.get("bob").is_none());
    assert_eq!(table.set("bob", &[]).unwrap(), Outcome::Inserted);
    assert_eq!(table.value("bob", name).unwrap(), "", "what an earlier row held is gone");
}

#[test]
fn capacity_is_exact_for_any_keys() {
    for (capacity, buckets) in [
        (1, 1),
        (2, 1),
        (7, 1),
        (64, 1),
        (1000, 1),
        (1000, 250),
        (4096, 1),
        (4096, 1024),
        (100_003, 1),
        (100_003, 25_001),
    ] {
        let table = Table::builder().capacity(capacity).buckets(buckets).build().unwrap();
        for n in 0..capacity {
            assert_eq!(table.set(n.to_string(), &[]).unwrap(), Outcome::Inserted);
        }
        assert!(matches!(table.set("more", &[]), Err(Error::Full { capacity: c }) if c == capacity));
        assert_eq!(table.len(), capacity);
        assert!((0..capacity).all(|n| table.exists(n.to_string())));
        assert_eq!(table.iter().count(), capacity);
        for n in (0..capacity).rev().step_by(2) {
            assert!(table.del(n.to_string()));
        }
        for n in (0..capacity).rev() {
            assert_eq!(table.exists(n.to_string()), (capacity - 1 - n) % 2 == 1, "{n} of {capacity}");
        }
        for n in 0..capacity {
            table.set(n.to_string(), &[]).unwrap();
        }
        assert!(matches!(table.set("more", &[]), Err(Error::Full { .. })));
        assert_eq!(table.len(), capacity);
    }
}

#[test]
fn expired_rows_make_room() {
    let table = Table::builder().capacity(10).ttl().build().unwrap();
    for n in 0..10 {
        table.set_ttl(n.to_string(), &[], Duration::ZERO).unwrap();
    }
    assert_eq!(table.len(), 10);
    assert!(table.get("1").is_none() && !table.update("1", &[]).unwrap());
    for n in 10..20 {
        assert_eq!(table.set(n.to_string(), &[]).unwrap(), Outcome::Inserted);
    }
    assert!(matches!(table.set("more", &[]), Err(Error::Full { .. })));
    assert_eq!(table.len(), 10);
}

#[test]
fn eviction_makes_room() {
    let mut schema = Schema::new();
    let hits = schema.int("hits");
    let table = Table::builder().capacity(100).schema(schema).evict_lru().build().unwrap();
    for n in 0..1000 {
        table.set(n.to_string(), &[hits.is(n)]).unwrap();
        assert_eq!(table.value(n.to_string(), hits), Some(n));
    }
    assert_eq!(table.len(), 100);
}

#[test]
fn inside_a_closure_the_table_is_closed() {
    let Users { table, hits, .. } = users(10);
    table.set("a", &[]).unwrap();
    let inside = table.clone();
    let tried = table
        .update_with("a", |row| {
            row.set(hits, 3);
            assert!(matches!(inside.set("b", &[]), Err(Error::WouldDeadlock { .. })));
            assert!(inside.get("a").is_none());
            inside.incr("a", hits, 1)
        })
        .unwrap();
    assert!(matches!(tried, Some(Err(Error::WouldDeadlock { .. }))));
    assert_eq!(table.value("a", hits), Some(3));
    let panicked = std::panic::catch_unwind(|| {
        table.update_with("a", |row| {
            row.set(hits, 4);
            panic!("in the closure");
        })
    });
    assert!(panicked.is_err());
    assert_eq!(table.value("a", hits), Some(3));
    let panicked = std::panic::catch_unwind(|| table.upsert_with("b", |_| panic!("in the closure")));
    assert!(panicked.is_err() && !table.exists("b"));
    assert_eq!(table.stats().recoveries, 0);
    for n in 0..9 {
        table.set(n.to_string(), &[]).unwrap();
    }
    assert!(matches!(table.set("more", &[]), Err(Error::Full { .. })));
}

#[test]
fn a_map_says_the_same() {
    let Users { table, hits, .. } = users(200);
    let mut map = HashMap::new();
    let mut x = 1u64;
    for _ in 0..100_000 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let key = (x >> 8) % 300;
        let name = key.to_string();
        match x % 4 {
            0 | 1 => match table.incr(&name, hits, 1) {
                Ok(n) => {
                    let m = map.entry(key).or_insert(0);
                    *m += 1;
                    assert_eq!(*m, n);
                }
                Err(Error::Full { .. }) => assert!(map.len() == 200 && !map.contains_key(&key)),
                Err(e) => panic!("{e}"),
            },
            2 => assert_eq!(table.del(&name), map.remove(&key).is_some()),
            _ => assert_eq!(table.value(&name, hits), map.get(&key).copied()),
        }
        if x.is_multiple_of(512) {
            assert_eq!(table.len(), map.len());
        }
    }
    let seen: HashMap<_, _> =
        table.iter().map(|(key, row)| (key.as_str().unwrap().parse().unwrap(), row.get(hits))).collect();
    assert_eq!(seen, map);
}
