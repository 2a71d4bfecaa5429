//! The table: readers without a lock, writers, and rows that change hands.

use std::ops::Deref;
use std::time::Duration;

use commons::{Column, Outcome, Schema, Table};
use loom_tests::{Stage, crowd, duet, go};

/// A table with two columns that are to hold the same.
#[derive(Clone)]
pub struct Twins {
    table: Table,
    pub one: Column<i64>,
    pub two: Column<i64>,
}

impl Deref for Twins {
    type Target = Table;
    fn deref(&self) -> &Table {
        &self.table
    }
}

impl Twins {
    pub fn new(capacity: usize, buckets: usize) -> Twins {
        Twins::with(|builder| builder.capacity(capacity).buckets(buckets))
    }

    pub fn with(build: impl FnOnce(commons::TableBuilder) -> commons::TableBuilder) -> Twins {
        let mut schema = Schema::new();
        let (one, two) = (schema.int("one"), schema.int("two"));
        let table = build(Table::builder()).key_size(1).schema(schema).build().unwrap();
        Twins { table, one, two }
    }

    /// Writes `value` to both.
    pub fn put(&self, key: &str, value: i64) -> commons::Result<Outcome> {
        self.set(key, &[self.one.is(value), self.two.is(value)])
    }

    /// What both hold.
    pub fn look(&self, key: &str) -> Option<i64> {
        let row = self.get(key)?;
        assert_eq!(row.get(self.one), row.get(self.two), "torn");
        Some(row.get(self.one))
    }

    /// What a scan meets: keys, and their first columns.
    pub fn scan(&self) -> Vec<(String, i64)> {
        self.iter().map(|(key, row)| (key.as_str().unwrap().to_owned(), row.get(self.one))).collect()
    }

    /// The first `N` keys, each of another bucket.
    pub fn strangers<const N: usize>(&self) -> [&'static str; N] {
        let mut found: Vec<&str> = Vec::new();
        for key in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"] {
            if found.iter().all(|other| self.bucket_of(other) != self.bucket_of(key)) {
                found.push(key);
            }
        }
        found.truncate(N);
        found.try_into().unwrap()
    }
}

#[test]
fn a_reader_sees_all_of_a_change_or_nothing() {
    let tally = duet("table, reader and writer").all(|tally| {
        let twins = Twins::new(1, 1);
        twins.put("a", 1).unwrap();
        let mut stage = Stage::default();
        let its = twins.clone();
        let writer = stage.seated(move || its.put("a", 2).unwrap());
        let its = twins.clone();
        let reader = stage.seated(move || its.look("a").unwrap());
        stage.begin();
        tally.count(reader.join() as usize);
        assert_eq!(writer.join(), Outcome::Updated);
        assert_eq!(twins.look("a"), Some(2));
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "each has been first");
}

#[test]
fn two_who_add_to_one_row() {
    let tally = duet("table, 2 add to one row").all(|tally| {
        let twins = Twins::new(1, 1);
        let mut stage = Stage::default();
        let adders = [(); 2].map(|()| {
            let its = twins.clone();
            stage.seated(move || its.incr("a", its.one, 1).unwrap())
        });
        stage.begin();
        let sums = adders.map(|part| part.join());
        assert!(sums == [1, 2] || sums == [2, 1], "{sums:?}");
        tally.count(sums[0] as usize);
        assert_eq!(twins.value("a", twins.one), Some(2));
        let stats = twins.stats();
        assert_eq!((stats.rows, stats.inserts, stats.updates, stats.deletes), (1, 1, 1, 0));
    });
    assert!(tally.seen(1) > 0 && tally.seen(2) > 0, "each has been first");
}

#[test]
fn a_reader_sees_a_new_row_whole_or_not_at_all() {
    let tally = duet("table, reader and inserter").all(|tally| {
        let twins = Twins::new(1, 1);
        let mut stage = Stage::default();
        let its = twins.clone();
        let writer = stage.seated(move || its.put("a", 1).unwrap());
        let its = twins.clone();
        let reader = stage.seated(move || its.look("a"));
        stage.begin();
        let seen = reader.join();
        assert!(seen.is_none() || seen == Some(1));
        tally.count(usize::from(seen.is_some()));
        assert_eq!(writer.join(), Outcome::Inserted);
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "each has been first");
}

/// The feared race: the reader has found the row's number, and the row becomes another key's, in another bucket.
#[test]
fn a_reader_never_gets_a_strangers_values() {
    let tally = duet("table, reader and a row that changes hands").all(|tally| {
        let twins = Twins::new(1, 2);
        let [mine, strange] = twins.strangers();
        twins.put(mine, 1).unwrap();
        let mut stage = Stage::default();
        let its = twins.clone();
        let mover = stage.seated(move || {
            assert!(its.del(mine));
            its.put(strange, 2).unwrap();
        });
        let its = twins.clone();
        let reader = stage.seated(move || its.look(mine));
        stage.begin();
        let seen = reader.join();
        assert!(seen.is_none() || seen == Some(1), "{seen:?} is a stranger's");
        tally.count(usize::from(seen.is_some()));
        mover.join();
        assert_eq!((twins.look(mine), twins.look(strange), twins.len()), (None, Some(2), 1));
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "it has seen the row, and has not");
}

/// The same, but two threads move the row, and the one that fills it never had the reader's bucket.
#[test]
fn a_row_is_handed_from_one_writer_to_another() {
    crowd("table, reader, deleter and inserter").all(|_| {
        // One row more, so that the inserter need not look for room.
        let twins = Twins::new(2, 2);
        let [mine, strange] = twins.strangers();
        twins.incr(mine, twins.one, 1).unwrap();
        // Of the two records the first goes with the first seat: this thread gives that up, so that both who write have one and neither waits.
        go();
        let mut stage = Stage::default();
        let its = twins.clone();
        let deleter = stage.seated(move || assert!(its.del(mine)));
        let its = twins.clone();
        let inserter = stage.seated(move || its.incr(strange, its.one, 2).unwrap());
        let its = twins.clone();
        let reader = stage.seated(move || its.value(mine, its.one));
        stage.begin();
        let seen = reader.join();
        assert!(seen.is_none() || seen == Some(1), "{seen:?} is a stranger's");
        deleter.join();
        assert_eq!(inserter.join(), 2);
        assert_eq!((twins.value(mine, twins.one), twins.value(strange, twins.one)), (None, Some(2)));
        assert_eq!(twins.len(), 1);
    });
}

/// A row that changes hands under a scan is met as the one, the other, or not.
#[test]
fn a_scan_meets_no_mixture() {
    let tally = crowd("table, scan and a row that changes hands").all(|tally| {
        let twins = Twins::new(1, 2);
        let [old, new] = twins.strangers();
        twins.incr(old, twins.one, 1).unwrap();
        let mut stage = Stage::default();
        let its = twins.clone();
        let mover = stage.seated(move || {
            assert!(its.del(old));
            its.incr(new, its.one, 2).unwrap();
        });
        let its = twins.clone();
        let scan = stage.seated(move || its.scan());
        stage.begin();
        let met = scan.join();
        mover.join();
        let known = [(old, 1), (new, 2)];
        assert!(met.len() <= 1 && met.iter().all(|(key, value)| known.contains(&(key, *value))), "{met:?}");
        tally.count(met.first().map_or(0, |(_, value)| *value as usize));
    });
    assert!((0..3).all(|what| tally.seen(what) > 0), "it has met the one, the other, and neither");
}

#[test]
fn a_scan_meets_what_stays() {
    duet("table, scan and a row that goes").all(|_| {
        let twins = Twins::new(2, 1);
        twins.incr("a", twins.one, 1).unwrap();
        twins.incr("b", twins.one, 2).unwrap();
        let mut stage = Stage::default();
        let its = twins.clone();
        let deleter = stage.seated(move || assert!(its.del("a")));
        let its = twins.clone();
        let scan = stage.seated(move || its.scan());
        stage.begin();
        let met = scan.join();
        deleter.join();
        assert_eq!(met.iter().filter(|(key, value)| key == "b" && *value == 2).count(), 1, "{met:?}");
        assert!(met.len() <= 2 && met.iter().all(|(key, value)| (*value == 2) == (key == "b")), "{met:?}");
    });
}

#[test]
fn the_last_row_is_for_one_alone() {
    let tally = duet("table, 2 want the last row").all(|tally| {
        let twins = Twins::new(1, 2);
        let keys: [_; 2] = twins.strangers();
        let mut stage = Stage::default();
        let parts = keys.map(|key| {
            let its = twins.clone();
            stage.seated(move || its.put(key, 1))
        });
        stage.begin();
        let done = parts.map(|part| part.join().is_ok());
        assert!(done[0] != done[1], "exactly one fits");
        tally.count(usize::from(done[0]));
        assert_eq!(keys.map(|key| twins.exists(key)), done);
        assert_eq!(twins.len(), 1);
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "each has had it");
}

#[test]
fn the_last_two_rows_are_for_both() {
    duet("table, 2 want the last 2 rows").all(|_| {
        let twins = Twins::new(2, 2);
        let keys: [_; 2] = twins.strangers();
        let mut stage = Stage::default();
        let parts = keys.map(|key| {
            let its = twins.clone();
            stage.seated(move || its.put(key, 1).unwrap())
        });
        stage.begin();
        assert_eq!(parts.map(|part| part.join()), [Outcome::Inserted; 2]);
        assert_eq!(keys.map(|key| twins.look(key)), [Some(1); 2]);
        assert_eq!(twins.len(), 2);
    });
}

/// What hangs below a row in the tree stays within reach while the row is cut out.
#[test]
fn a_reader_finds_its_way_while_the_tree_changes() {
    duet("table, reader and a tree that changes").all(|_| {
        let twins = Twins::new(4, 1);
        let keys = ["a", "b", "c", "d"];
        keys.iter().for_each(|key| assert!(twins.put(key, 1).is_ok()));
        let mut stage = Stage::default();
        let its = twins.clone();
        let deleter = stage.seated(move || assert!(its.del("b")));
        let its = twins.clone();
        let reader = stage.seated(move || assert_eq!((its.look("c"), its.look("d")), (Some(1), Some(1))));
        stage.begin();
        reader.join();
        deleter.join();
        assert_eq!(keys.map(|key| twins.look(key)), [Some(1), None, Some(1), Some(1)]);
    });
}

/// A row is renewed in its place when its time is over.
#[test]
fn a_reader_sees_a_renewed_row_whole() {
    let tally = duet("table, reader and a row renewed").all(|tally| {
        let twins = Twins::with(|builder| builder.capacity(1).buckets(1).ttl());
        twins.set_ttl("a", &[twins.one.is(1)], Duration::ZERO).unwrap();
        assert_eq!(twins.look("a"), None, "its time is over");
        let mut stage = Stage::default();
        let its = twins.clone();
        let writer = stage.seated(move || its.put("a", 2).unwrap());
        let its = twins.clone();
        let reader = stage.seated(move || its.look("a"));
        stage.begin();
        let seen = reader.join();
        assert!(seen.is_none() || seen == Some(2), "{seen:?}");
        tally.count(usize::from(seen.is_some()));
        assert_eq!(writer.join(), Outcome::Inserted);
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "each has been first");
}

/// Two changes, the second of which makes one row of another: there are two at any moment.
#[test]
fn the_figures_of_one_moment() {
    let tally = crowd("table, figures while one writes").all(|tally| {
        let twins = Twins::with(|builder| builder.capacity(3).buckets(1).ttl());
        twins.put("a", 1).unwrap();
        twins.set_ttl("b", &[], Duration::ZERO).unwrap();
        let mut stage = Stage::default();
        let its = twins.clone();
        let writer = stage.seated(move || {
            its.set("a", &[]).unwrap();
            its.set("b", &[]).unwrap();
        });
        let its = twins.clone();
        let reader = stage.seated(move || its.stats());
        stage.begin();
        let stats = reader.join();
        assert_eq!(stats.rows, 2, "{stats:?}");
        assert!((2..=3).contains(&stats.inserts), "{stats:?}");
        tally.count(stats.inserts as usize);
        writer.join();
        assert_eq!(twins.stats().inserts, 3);
    });
    assert!(tally.seen(2) > 0 && tally.seen(3) > 0, "it has seen the one change, and both");
}

#[test]
fn a_row_and_its_figure_go_together() {
    let tally = duet("table, figures while one deletes").all(|tally| {
        let twins = Twins::new(1, 1);
        twins.put("a", 1).unwrap();
        let mut stage = Stage::default();
        let its = twins.clone();
        let deleter = stage.seated(move || assert!(its.del("a")));
        let its = twins.clone();
        let reader = stage.seated(move || its.stats());
        stage.begin();
        let stats = reader.join();
        assert_eq!((stats.inserts, stats.rows + stats.deletes), (1, 1), "{stats:?}");
        tally.count(stats.deletes as usize);
        deleter.join();
        assert_eq!(twins.stats().deletes, 1);
    });
    assert!(tally.seen(0) > 0 && tally.seen(1) > 0, "it has seen the row, and has not");
}
