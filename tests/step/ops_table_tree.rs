//! Table, rows that share a bucket: six places, and the tree of those that found none. Whoever dies linking or cutting leaves the tree as it
//! was or as it was to be, and every row in it is found.

use crate::desk::{Desk, INSERTED, Plan, SORTED, outcome, reads, scans, writes};
use crate::op::Op;

pub fn all() -> Vec<Op> {
    let rescues = [reads, writes, reads, writes, scans];
    let turns = inserts().into_iter().chain(removals()).zip(rescues.into_iter().cycle());
    turns.map(|(plan, rescue)| plan.rescue(rescue).op()).collect()
}

const PLACED: [&str; 6] = ["p0", "p1", "p2", "p3", "p4", "p5"];

/// The places are taken, and those with the hashes of these ranks came afterwards.
fn grow(desk: &Desk, ranks: &[usize]) {
    desk.have(&PLACED);
    let keys: Vec<&str> = ranks.iter().map(|rank| desk.key(*rank)).collect();
    desk.have(&keys);
}

fn planned(name: &'static str, returns: u64, act: fn(&Desk) -> u64) -> Plan {
    Plan::new(name, returns, act).sorted().shape(|b| b.capacity(6 + SORTED + 1).buckets(1))
}

fn inserts() -> Vec<Plan> {
    vec![
        Plan::new("table_set_last_place", INSERTED, |d| outcome(d.set("k", 7, 0.5, "Bob")))
            .arrange(|d| d.have(&PLACED[..5]))
            .then(|_, s| s.insert("k", 7, 0.5, "Bob")),
        Plan::new("table_set_freed_place", INSERTED, |d| outcome(d.set("k", 7, 0.5, "Bob")))
            .arrange(|d| {
                d.have(&PLACED);
                d.have(&["t"]);
                assert!(d.table.del(PLACED[2]));
            })
            .then(|_, s| s.insert("k", 7, 0.5, "Bob")),
        planned("table_set_root", INSERTED, |d| outcome(d.set(d.key(3), 7, 0.5, "Bob")))
            .arrange(|d| grow(d, &[]))
            .focus(|d| d.key(3))
            .then(|d, s| {
                s.insert(d.key(3), 7, 0.5, "Bob");
                s.collide(1);
            }),
        planned("table_set_left", INSERTED, |d| outcome(d.set(d.key(2), 7, 0.5, "Bob")))
            .arrange(|d| grow(d, &[3, 1, 5]))
            .focus(|d| d.key(2))
            .then(|d, s| {
                s.insert(d.key(2), 7, 0.5, "Bob");
                s.collide(4);
            }),
        planned("table_set_right", INSERTED, |d| outcome(d.set(d.key(6), 7, 0.5, "Bob")))
            .arrange(|d| grow(d, &[3, 1, 5]))
            .focus(|d| d.key(6))
            .then(|d, s| {
                s.insert(d.key(6), 7, 0.5, "Bob");
                s.collide(4);
            }),
    ]
}

/// What is removed has rank 3 wherever it stands.
fn removed(name: &'static str, arrange: fn(&Desk)) -> Plan {
    planned(name, 1, |d| d.table.del(d.key(3)).into())
        .arrange(arrange)
        .focus(|d| d.key(3))
        .then(|d, s| s.remove(d.key(3)))
}

fn removals() -> Vec<Plan> {
    vec![
        removed("table_del_only", |d| grow(d, &[3])),
        removed("table_del_leaf_left", |d| grow(d, &[4, 3, 5])),
        removed("table_del_leaf_right", |d| grow(d, &[1, 0, 3])),
        removed("table_del_left_child", |d| grow(d, &[4, 3, 2, 1])),
        removed("table_del_right_child", |d| grow(d, &[1, 3, 5, 4, 6])),
        removed("table_del_direct_heir", |d| grow(d, &[0, 3, 1, 5, 6])),
        removed("table_del_distant_heir", |d| grow(d, &[0, 3, 1, 6, 4, 5])),
        removed("table_del_root_child", |d| grow(d, &[3, 1, 0, 2])),
        removed("table_del_root_direct", |d| grow(d, &[3, 1, 5, 6])),
        removed("table_del_root_distant", |d| grow(d, &[3, 1, 6, 4, 5])),
        planned("table_del_place_beside_tree", 1, |d| d.table.del(PLACED[5]).into())
            .arrange(|d| grow(d, &[3, 1, 5]))
            .focus(|_| PLACED[5])
            .then(|_, s| s.remove(PLACED[5])),
        planned("table_set_in_tree", crate::desk::UPDATED, |d| outcome(d.set(d.key(2), 99, 9.5, "another")))
            .arrange(|d| grow(d, &[3, 1, 2]))
            .focus(|d| d.key(2))
            .then(|d, s| s.update(d.key(2), |row| *row = (99, 9.5, "another".into()))),
        planned("table_get_in_tree", 3, |d| d.table.value(d.key(2), d.hits).map_or(0, |n| n as u64))
            .arrange(|d| grow(d, &[3, 1, 2]))
            .focus(|d| d.key(2)),
    ]
}
