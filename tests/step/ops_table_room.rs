//! Table, where rows come from and go to: the pool, rows whose time is over, rows that are evicted, and what the dead have left of all that.

use std::time::{Duration, Instant};

use commons::TableBuilder;

use crate::desk::{Desk, FULL, HOUR, INSERTED, Plan, UPDATED, number, outcome, reads, scans, writes};
use crate::op::Op;

pub fn all() -> Vec<Op> {
    let rescues = [reads, writes, scans];
    let turns = [pool(), expiry(), eviction()].into_iter().flatten().zip(rescues.into_iter().cycle());
    let turns = turns.map(|(plan, rescue)| plan.rescue(rescue).op());
    turns.chain(after_deaths().into_iter().map(Plan::op)).chain(swept().into_iter().map(Plan::op)).collect()
}

fn set_k(desk: &Desk) -> u64 {
    outcome(desk.set("k", 7, -2.5, "Bob"))
}

fn pair(builder: TableBuilder) -> TableBuilder {
    builder.capacity(2).buckets(1)
}

fn pool() -> Vec<Plan> {
    vec![
        Plan::new("table_set_last_row", INSERTED, set_k)
            .shape(pair)
            .arrange(|d| d.have(&["a"]))
            .then(|_, s| s.insert("k", 7, -2.5, "Bob")),
        Plan::new("table_set_reused_row", INSERTED, set_k)
            .arrange(|d| {
                d.have(&["a", "b", "c"]);
                assert!(d.table.del("a") && d.table.del("b"));
            })
            .then(|_, s| s.insert("k", 7, -2.5, "Bob")),
        Plan::new("table_set_long_free_row", INSERTED, set_k)
            .arrange(|d| {
                d.have(&["a", "b", "c"]);
                // The one that was given back last is in use again; the list begins with the one before.
                assert!(d.table.del("a") && d.table.del("b"));
                d.have(&["d"]);
            })
            .then(|_, s| s.insert("k", 7, -2.5, "Bob")),
        Plan::new("table_set_last_reused_row", INSERTED, set_k)
            .shape(pair)
            .arrange(|d| {
                d.have(&["a", "b"]);
                assert!(d.table.del("a"));
            })
            .then(|_, s| s.insert("k", 7, -2.5, "Bob")),
        Plan::new("table_set_full", FULL, set_k).shape(pair).arrange(|d| d.have(&["a", "b"])),
        Plan::new("table_upsert_full", FULL, |d| outcome(d.table.upsert_with("k", |_| commons::Outcome::Inserted)))
            .shape(pair)
            .arrange(|d| d.have(&["a", "b"])),
        Plan::new("table_del_of_full", 1, |d| d.table.del("k").into())
            .shape(pair)
            .arrange(|d| d.have(&["a", "k"]))
            .then(|_, s| s.remove("k")),
        Plan::new("table_del_before_freed", 1, |d| d.table.del("k").into())
            .arrange(|d| {
                d.have(&["a", "k", "b"]);
                assert!(d.table.del("a"));
            })
            .then(|_, s| s.remove("k")),
    ]
}

fn mortal(builder: TableBuilder) -> TableBuilder {
    builder.capacity(4).buckets(1).ttl()
}

/// Rows whose time is over.
fn dead(desk: &Desk, keys: &[&str]) {
    for key in keys {
        desk.table.set_ttl(key, &[desk.hits.is(5)], Duration::ZERO).expect("room");
    }
}

fn expiry() -> Vec<Plan> {
    let renewed: fn(&Desk, &mut crate::desk::State) = |_, s| {
        s.lay();
        s.insert("k", 7, 0.0, "Bob");
    };
    vec![
        Plan::new("table_set_ttl_new", INSERTED, |d| outcome(d.table.set_ttl("k", &[d.hits.is(7)], HOUR)))
            .shape(mortal)
            .arrange(|d| d.have(&["a"]))
            .then(|_, s| s.insert("k", 7, 0.0, "")),
        Plan::new("table_set_ttl_present", UPDATED, |d| outcome(d.table.set_ttl("k", &[d.hits.is(7)], HOUR)))
            .shape(mortal)
            .arrange(|d| d.have(&["a", "k"]))
            .then(|_, s| s.update("k", |row| row.0 = 7)),
        Plan::new("table_set_ttl_over", UPDATED, |d| outcome(d.table.set_ttl("k", &[d.hits.is(7)], Duration::ZERO)))
            .shape(mortal)
            .arrange(|d| d.have(&["a", "k"]))
            .then(|_, s| s.expire("k")),
        Plan::new("table_set_ttl_renews", INSERTED, |d| {
            outcome(d.table.set_ttl("k", &[d.hits.is(7), d.name.is("Bob")], HOUR))
        })
        .shape(mortal)
        .arrange(|d| {
            d.have(&["a"]);
            dead(d, &["k"]);
        })
        .then(renewed),
        Plan::new("table_upsert_renews", 1, |d| {
            let done = d.table.upsert_with("k", |row| {
                row.set(d.hits, row.get(d.hits) + 7);
                row.set(d.name, "Bob");
            });
            done.is_ok().into()
        })
        .shape(mortal)
        .arrange(|d| {
            d.have(&["a"]);
            dead(d, &["k"]);
        })
        .then(renewed),
        Plan::new("table_incr_renews", 3, |d| d.table.incr("k", d.hits, 3).map_or(0, |n| n as u64))
            .shape(mortal)
            .arrange(|d| dead(d, &["k"]))
            .then(|_, s| {
                s.lay();
                s.insert("k", 3, 0.0, "");
            }),
        Plan::new("table_expire_at", 1, |d| number(d.table.expire_at("k", Some(Instant::now()))))
            .shape(mortal)
            .arrange(|d| d.have(&["a", "k"]))
            .then(|_, s| s.expire("k")),
        Plan::new("table_expire_never", 1, |d| number(d.table.expire_at("k", None)))
            .shape(mortal)
            .arrange(|d| {
                d.have(&["a"]);
                d.table.set_ttl("k", &[], HOUR).expect("room");
            })
            .then(|_, s| s.update("k", |_| {})),
        Plan::new("table_purge", 2, |d| d.table.purge(9).map_or(0, |n| n as u64))
            .shape(mortal)
            .arrange(|d| {
                dead(d, &["x", "y"]);
                d.have(&["k"]);
            })
            .then(|_, s| s.lay())
            .then(|_, s| s.lay()),
        Plan::new("table_del_expired", 0, |d| d.table.del("k").into())
            .shape(mortal)
            .arrange(|d| {
                d.have(&["a"]);
                dead(d, &["k"]);
            })
            .then(|_, s| s.lay()),
        Plan::new("table_set_reclaims", INSERTED, set_k)
            .shape(|b| pair(b).ttl())
            .arrange(|d| dead(d, &["x", "y"]))
            .then(|_, s| s.lay())
            .then(|_, s| s.insert("k", 7, -2.5, "Bob")),
        Plan::new("table_set_full_of_mortals", FULL, set_k).shape(|b| pair(b).ttl()).arrange(|d| {
            // The soonest time is a row's that is no more, so that somebody has to search.
            dead(d, &["x"]);
            assert_eq!(d.table.purge(9).expect("one"), 1);
            d.table.set_ttl("y", &[], HOUR).expect("room");
            d.have(&["a"]);
        }),
    ]
}

fn eviction() -> Vec<Plan> {
    let lru: fn(TableBuilder) -> TableBuilder = |b| pair(b).evict_lru();
    let two: fn(&Desk) = |d| {
        d.have(&["a"]);
        // Rows remember to the millisecond when they were used last.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(2500) {}
        d.have(&["b"]);
    };
    vec![
        Plan::new("table_set_evicts", INSERTED, set_k)
            .shape(lru)
            .arrange(two)
            .evicts()
            .then(|_, s| s.remove("a"))
            .then(|_, s| s.insert("k", 7, -2.5, "Bob")),
        Plan::new("table_get_remembered", 1, |d| d.table.exists("b").into()).shape(lru).arrange(two).evicts(),
        Plan::new("table_set_remembered", UPDATED, |d| outcome(d.table.set("b", &[d.hits.is(9)])))
            .shape(lru)
            .arrange(two)
            .focus(|_| "b")
            .evicts()
            .then(|_, s| s.update("b", |row| row.0 = 9)),
    ]
}

/// Ends the process in the middle of what it does.
fn die() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

fn die_inserting(desk: &Desk) {
    let _ = desk.table.upsert_with("dead", |_| die());
}

fn die_changing(desk: &Desk) {
    let _ = desk.table.update_with("k", |_| die());
}

/// Recovery as the operation: somebody has died, and is a zombie that nobody has reaped.
fn after_deaths() -> Vec<Plan> {
    let small: fn(TableBuilder) -> TableBuilder = |b| b.capacity(3).buckets(1);
    let has: fn(&Desk) = |d| d.have(&["a", "k"]);
    vec![
        Plan::new("table_get_after_death", 2, |d| d.table.value("k", d.hits).map_or(0, |n| n as u64))
            .shape(small)
            .arrange(has)
            .before(die_inserting),
        Plan::new("table_set_after_death", UPDATED, |d| outcome(d.set("k", 7, -2.5, "Bob")))
            .shape(small)
            .arrange(has)
            .before(die_changing)
            .then(|_, s| s.update("k", |row| *row = (7, -2.5, "Bob".into()))),
        Plan::new("table_insert_after_death", INSERTED, |d| outcome(d.set("dead", 7, -2.5, "Bob")))
            .shape(small)
            .arrange(has)
            .before(die_inserting)
            .then(|_, s| s.insert("dead", 7, -2.5, "Bob")),
        Plan::new("table_iter_after_death", 3, |d| d.table.iter().map(|(_, row)| row.get(d.hits) as u64).sum())
            .shape(small)
            .arrange(has)
            .before(die_inserting)
            .rescue(scans),
        Plan::new("table_swept_after_death", INSERTED, |d| outcome(d.set(&d.spares[1], 7, -2.5, "Bob")))
            .apart()
            .arrange(|d| d.have(&[&d.keys[0], &d.spares[2], &d.spares[3]]))
            .focus(|d| &d.spares[1])
            .before(|d| _ = d.table.upsert_with(d.key(1), |_| die()))
            .then(|d, s| s.insert(&d.spares[1], 7, -2.5, "Bob")),
    ]
}

/// The dead have the last row in one bucket, and whoever needs it comes by another.
fn swept() -> Vec<Plan> {
    vec![
        Plan::new("table_set_swept", INSERTED, |d| outcome(d.set(d.key(0), 7, -2.5, "Bob")))
            .apart()
            .arrange(|d| d.have(&[&d.keys[1], &d.keys[2], &d.keys[3]]))
            .focus(|d| d.key(0))
            .then(|d, s| s.insert(d.key(0), 7, -2.5, "Bob"))
            .rescued_by_an_insertion(),
        Plan::new("table_del_swept", 1, |d| d.table.del(d.key(0)).into())
            .apart()
            .arrange(|d| d.have(&[&d.keys[0], &d.keys[1], &d.keys[2], &d.keys[3]]))
            .focus(|d| d.key(0))
            .then(|d, s| s.remove(d.key(0)))
            .rescued_by_an_insertion(),
    ]
}
