//! One preemption in a table: A is stopped anywhere, B runs whole or until it waits for A. Both live, so each gets what it asks for.

use std::time::Duration;

use crate::desk::{Desk, INSERTED, UPDATED, outcome};
use crate::kit::ensure;
use crate::pairs::{Act, Pair, Verdict, pair, seated};
use crate::world::World;

pub fn all() -> Vec<Pair> {
    vec![
        pair("pair_table_set_set", |w| seated(w, |w| write(w, 10)), |w| write(w, 20), one_after_the_other)
            .arrange(with_k),
        pair("pair_table_insert_insert", |w| seated(w, |w| write(w, 10)), |w| write(w, 20), one_inserted)
            .arrange(|w| Desk::plain(w, |_| {}, |b| b.capacity(8).buckets(1))),
        pair("pair_table_insert_beside", |w| seated(w, |w| insert(w, "k")), |w| insert(w, "l"), both_inserted)
            .arrange(|w| Desk::plain(w, |_| {}, |b| b.capacity(8).buckets(1))),
        pair("pair_table_insert_apart", |w| seated(w, |w| insert(w, "k")), |w| insert(w, "l"), both_inserted)
            .arrange(|w| Desk::plain(w, |d| assert!(d.table.set("x", &[]).is_ok() && d.table.del("x")), apart)),
        pair("pair_table_last_row", |w| seated(w, |w| insert(w, "k")), |w| insert(w, "l"), one_had_room)
            .arrange(|w| Desk::plain(w, |d| d.have(&["a"]), |b| b.capacity(2).buckets(2))),
        pair("pair_table_set_del", |w| seated(w, |w| write(w, 10)), del, set_or_gone).arrange(with_k),
        pair("pair_table_del_set", |w| seated(w, del), |w| write(w, 20), |w, a, b| set_or_gone(w, b, a))
            .arrange(with_k),
        pair("pair_table_del_incr", |w| seated(w, del), incr, gone_or_new).arrange(with_k),
        pair("pair_table_incr_incr", |w| seated(w, incr), incr, both_counted).arrange(with_k),
        pair("pair_table_set_get", |w| seated(w, |w| write(w, 10)), get_soon, whole).arrange(with_k),
        pair("pair_table_get_set", get_first, |w| write(w, 20), |w, a, b| whole(w, b, a)).arrange(with_k),
        pair("pair_table_get_reused", get_first, replace, |w, a, _| old_or_gone(w, a)).arrange(with_k),
        pair("pair_table_iter_del", |w| seated(w, scan), del, others_met_once).arrange(three),
        pair("pair_table_del_iter", |w| seated(w, del), scan, |w, a, b| others_met_once(w, b, a)).arrange(three),
        pair("pair_table_len_del", |w| seated(w, |w| w.desk().table.len() as u64), del, two_or_three).arrange(three),
    ]
}

fn apart(builder: commons::TableBuilder) -> commons::TableBuilder {
    builder.capacity(8).buckets(8)
}

fn with_k(world: &mut World) {
    Desk::plain(world, |d| d.set("k", 1, 1.0, &"1".repeat(9)).map(drop).expect("room"), |b| b.capacity(8).buckets(1));
}

fn three(world: &mut World) {
    Desk::plain(world, |d| d.have(&["a", "k", "z"]), |b| b.capacity(8).buckets(1));
}

/// All columns of a row say the same number.
fn write(world: &World, n: i64) -> u64 {
    outcome(world.desk().set("k", n, n as f64, &n.to_string().repeat(12)))
}

fn insert(world: &World, key: &str) -> u64 {
    outcome(world.desk().set(key, 5, 5.0, "5"))
}

fn del(world: &World) -> u64 {
    world.desk().table.del("k").into()
}

fn incr(world: &World) -> u64 {
    let desk = world.desk();
    desk.table.incr("k", desk.hits, 1).map_or(0, |n| n as u64)
}

/// The number that all columns of the row say; 0 when there is none, 1000 and more when they differ.
fn said(world: &World, row: Option<&commons::Row>) -> u64 {
    let Some(row) = row else { return 0 };
    let (hits, score, name) = world.desk().content(row);
    let times = if hits == 1 { 9 } else { 12 };
    if score == hits as f64 && name == hits.to_string().repeat(times) { hits as u64 } else { 1000 + hits as u64 }
}

fn get_soon(world: &World) -> u64 {
    let row = world.desk().table.get_timeout("k", Duration::from_secs(5)).expect("the other lets go");
    said(world, row.as_ref())
}

/// A reader that never took part.
fn get_first(world: &World) -> Act<'_> {
    Box::new(move || said(world, world.desk().table.get("k").as_ref()))
}

/// The row goes to another key, with other values.
fn replace(world: &World) -> u64 {
    let gone = del(world);
    gone + insert(world, "l")
}

/// What a scan met, a digit each: a, k, z.
fn scan(world: &World) -> u64 {
    let digit = |key: &str| match key {
        "a" => 1,
        "k" => 10,
        "z" => 100,
        _ => 1000,
    };
    world.desk().table.iter().map(|(key, _)| digit(key.as_str().unwrap_or("torn"))).sum()
}

/// The rows, the figures and the pool agree.
fn in_order(world: &World, inserts: u64, updates: u64, deletes: u64) -> Verdict {
    let desk = world.desk();
    let (rows, stats, base) = (desk.rows()?, desk.table.stats(), desk.states[0].figures);
    let done = (stats.inserts - base.inserts, stats.updates - base.updates, stats.deletes - base.deletes);
    ensure!(done == (inserts, updates, deletes), "done {done:?} instead of {:?}", (inserts, updates, deletes));
    ensure!(stats.recoveries == 0, "nobody died, and {} changes were repaired", stats.recoveries);
    ensure!(rows.len() as u64 == stats.rows, "{} rows are met, {} counted", rows.len(), stats.rows);
    let more = desk.spares.iter().take_while(|key| desk.table.set(key, &[]).is_ok()).count();
    ensure!(rows.len() + more == desk.table.capacity(), "{} rows, and {more} more fit", rows.len());
    Ok(())
}

fn k(world: &World) -> u64 {
    said(world, world.desk().table.get("k").as_ref())
}

fn one_after_the_other(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a == UPDATED && b == UPDATED, "outcomes {a} and {b}");
    ensure!([10, 20].contains(&k(world)), "the row says {}", k(world));
    in_order(world, 0, 2, 0)
}

fn one_inserted(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a + b == INSERTED + UPDATED && a != b, "outcomes {a} and {b}");
    let last = if a == UPDATED { 10 } else { 20 };
    ensure!(k(world) == last, "the row says {} instead of {last}", k(world));
    in_order(world, 1, 1, 0)
}

fn both_inserted(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a == INSERTED && b == INSERTED, "outcomes {a} and {b}");
    ensure!(world.desk().table.exists("k") && world.desk().table.exists("l"), "one of two rows is missing");
    in_order(world, 2, 0, 0)
}

fn one_had_room(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a + b == INSERTED + crate::desk::FULL, "outcomes {a} and {b}");
    in_order(world, 1, 0, 0)
}

/// `set` is the outcome of the write, `del` that of the removal: either may have come first.
fn set_or_gone(world: &World, set: u64, del: u64) -> Verdict {
    ensure!(del == 1, "the row was there throughout, and nothing was removed");
    match set {
        UPDATED => {
            ensure!(k(world) == 0, "removed last, and the row says {}", k(world));
            in_order(world, 0, 1, 1)
        }
        _ => {
            ensure!(set == INSERTED && [10, 20].contains(&k(world)), "outcome {set}, the row says {}", k(world));
            in_order(world, 1, 0, 1)
        }
    }
}

fn gone_or_new(world: &World, del: u64, incr: u64) -> Verdict {
    ensure!(del == 1, "the row was there throughout, and nothing was removed");
    match incr {
        2 => in_order(world, 0, 1, 1),
        _ => {
            let row = world.desk().rows()?.remove("k");
            ensure!(incr == 1 && row == Some((1, 0.0, String::new())), "a new row is {row:?} after {incr}");
            in_order(world, 1, 0, 1)
        }
    }
}

fn both_counted(world: &World, a: u64, b: u64) -> Verdict {
    ensure!(a + b == 5 && a != b, "1 was counted up to {a} and {b}");
    ensure!(world.desk().table.value("k", world.desk().hits) == Some(3), "counted to {a} and {b}");
    in_order(world, 0, 2, 0)
}

fn whole(world: &World, set: u64, seen: u64) -> Verdict {
    ensure!(set == UPDATED && [1, 10, 20].contains(&seen), "outcome {set}, and a reader saw {seen}");
    in_order(world, 0, 1, 0)
}

fn old_or_gone(world: &World, seen: u64) -> Verdict {
    ensure!(seen <= 1, "a reader saw {seen} under a key that had 1");
    in_order(world, 1, 0, 1)
}

fn others_met_once(world: &World, met: u64, del: u64) -> Verdict {
    ensure!(del == 1 && (met == 111 || met == 101), "a scan met {met}");
    in_order(world, 0, 0, 1)
}

fn two_or_three(world: &World, len: u64, del: u64) -> Verdict {
    ensure!(del == 1 && (len == 2 || len == 3), "three rows less one were counted as {len}");
    in_order(world, 0, 0, 1)
}
