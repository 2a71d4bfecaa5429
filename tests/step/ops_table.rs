//! Table, one row: whatever is done to it has happened wholly, figures included, or not at all; nobody else's row is touched.

use crate::desk::{Desk, INSERTED, Plan, UPDATED, number, outcome, reads, scans, writes};
use crate::op::Op;

pub fn all() -> Vec<Op> {
    let plans = [sets(), conditional(), numbers(), closures(), readers()];
    // The dead are met by a reader, by a writer, by a scan.
    let rescues = [reads, writes, scans];
    let turns = plans.into_iter().flatten().zip(rescues.into_iter().cycle());
    turns.map(|(plan, rescue)| plan.rescue(rescue).op()).collect()
}

/// Three rows, of which the second is the one.
fn three(desk: &Desk) {
    desk.have(&["a", "k", "z"]);
}

fn sets() -> Vec<Plan> {
    let set_k: fn(&Desk) -> u64 = |d| outcome(d.set("k", 7, -2.5, "Bob"));
    vec![
        Plan::new("table_set_first_use", INSERTED, set_k).unseated().then(|_, s| s.insert("k", 7, -2.5, "Bob")),
        Plan::new("table_set_empty", INSERTED, set_k).then(|_, s| s.insert("k", 7, -2.5, "Bob")),
        Plan::new("table_set_no_cells", INSERTED, |d| outcome(d.table.set("k", &[])))
            .arrange(|d| {
                three(d);
                // What stood in the row that is used again must not shine through.
                assert!(d.table.del("k"));
            })
            .then(|_, s| s.insert("k", 0, 0.0, "")),
        Plan::new("table_set_one", UPDATED, |d| outcome(d.table.set("k", &[d.hits.is(99)])))
            .arrange(three)
            .then(|_, s| s.update("k", |row| row.0 = 99)),
        Plan::new("table_set_shorter", UPDATED, |d| outcome(d.set("k", -1, 1e300, "x")))
            .arrange(|d| {
                three(d);
                d.set("k", 1, 0.5, "twenty-four bytes, whole").expect("room");
            })
            .then(|_, s| s.update("k", |row| *row = (-1, 1e300, "x".into()))),
        Plan::new("table_set_longer", UPDATED, |d| outcome(d.set("k", -1, 1e300, "twenty-four bytes, whole")))
            .arrange(|d| {
                three(d);
                d.set("k", 1, 0.5, "x").expect("room");
            })
            .then(|_, s| s.update("k", |row| *row = (-1, 1e300, "twenty-four bytes, whole".into()))),
        Plan::new("table_touch", UPDATED, |d| outcome(d.table.set("k", &[])))
            .arrange(three)
            .then(|_, s| s.update("k", |_| {})),
        Plan::new("table_set_used_record", UPDATED, |d| outcome(d.table.set("k", &[d.hits.is(99)])))
            .arrange(|d| {
                // Whose seat and record the child has next inserted the row, and removed one that is another's now.
                d.have(&["a", "b"]);
                d.by_another(|d| {
                    d.have(&["k"]);
                    d.table.del("a");
                });
                d.have(&["z"]);
            })
            .then(|_, s| s.update("k", |row| row.0 = 99)),
        Plan::new("table_set_refused", 1, |d| d.set("k", 1, 1.0, "longer than twenty-four bytes").is_err().into())
            .arrange(three),
    ]
}

fn conditional() -> Vec<Plan> {
    vec![
        Plan::new("table_add_new", 1, |d| number(d.table.add("k", &[d.hits.is(5), d.name.is("Bob")])))
            .arrange(|d| d.have(&["a"]))
            .then(|_, s| s.insert("k", 5, 0.0, "Bob")),
        Plan::new("table_add_present", 0, |d| number(d.table.add("k", &[d.hits.is(5)]))).arrange(three),
        Plan::new("table_update_present", 1, |d| number(d.table.update("k", &[d.score.is(9.5), d.name.is("Bobby")])))
            .arrange(three)
            .then(|_, s| s.update("k", |row| *row = (2, 9.5, "Bobby".into()))),
        Plan::new("table_update_absent", 0, |d| number(d.table.update("k", &[d.hits.is(5)])))
            .arrange(|d| d.have(&["a"])),
        Plan::new("table_cmpset_hit", 1, |d| {
            let expected = [d.hits.is(2), d.name.is("a name")];
            number(d.table.cmpset("k", &expected, &[d.hits.is(3), d.name.is("another name")]))
        })
        .arrange(three)
        .then(|_, s| s.update("k", |row| *row = (3, 0.5, "another name".into()))),
        Plan::new("table_cmpset_miss", 0, |d| {
            number(d.table.cmpset("k", &[d.hits.is(2), d.name.is("a nome")], &[d.hits.is(3)]))
        })
        .arrange(three),
        Plan::new("table_cmpdel_hit", 1, |d| number(d.table.cmpdel("k", &[d.hits.is(2)])))
            .arrange(three)
            .then(|_, s| s.remove("k")),
        Plan::new("table_cmpdel_miss", 0, |d| number(d.table.cmpdel("k", &[d.hits.is(3)]))).arrange(three),
        Plan::new("table_del", 1, |d| d.table.del("k").into()).arrange(three).then(|_, s| s.remove("k")),
        Plan::new("table_del_absent", 0, |d| d.table.del("k").into()).arrange(|d| d.have(&["a"])),
        Plan::new("table_take", 2, |d| d.table.take("k").map_or(0, |row| row.get(d.hits) as u64))
            .arrange(three)
            .then(|_, s| s.remove("k")),
    ]
}

fn numbers() -> Vec<Plan> {
    vec![
        Plan::new("table_incr_new", 5, |d| d.table.incr("k", d.hits, 5).map_or(0, |n| n as u64))
            .arrange(|d| d.have(&["a"]))
            .then(|_, s| s.insert("k", 5, 0.0, "")),
        Plan::new("table_incr_int", 7, |d| d.table.incr("k", d.hits, 5).map_or(0, |n| n as u64))
            .arrange(three)
            .then(|_, s| s.update("k", |row| row.0 = 7)),
        Plan::new("table_incr_float", 2, |d| d.table.incr("k", d.score, 1.5).map_or(0, |n| n as u64))
            .arrange(three)
            .then(|_, s| s.update("k", |row| row.1 = 2.0)),
        Plan::new("table_decr_new", 1, |d| d.table.decr("k", d.score, 1.5).map_or(0, |n| u64::from(n < -1.0)))
            .arrange(|d| d.have(&["a"]))
            .then(|_, s| s.insert("k", 0, -1.5, "")),
    ]
}

fn closures() -> Vec<Plan> {
    vec![
        Plan::new("table_update_with", 1, |d| {
            let done = d.table.update_with("k", |row| {
                let hits = row.get(d.hits);
                row.set(d.hits, hits * 10);
                row.set(d.name, "from within");
            });
            u64::from(matches!(done, Ok(Some(()))))
        })
        .arrange(three)
        .then(|_, s| s.update("k", |row| *row = (20, 0.5, "from within".into()))),
        Plan::new("table_update_with_refused", 1, |d| {
            let done = d.table.update_with("k", |row| {
                row.set(d.hits, 10);
                row.set(d.name, "longer than twenty-four bytes");
            });
            done.is_err().into()
        })
        .arrange(three),
        Plan::new("table_upsert_with_new", 1, |d| {
            d.table.upsert_with("k", |row| row.set(d.name, "from within")).is_ok().into()
        })
        .arrange(|d| d.have(&["a"]))
        .then(|_, s| s.insert("k", 0, 0.0, "from within")),
        Plan::new("table_upsert_with_refused", 1, |d| {
            d.table.upsert_with("k", |row| row.set(d.name, "longer than twenty-four bytes")).is_err().into()
        })
        .arrange(|d| d.have(&["a"])),
    ]
}

/// Whose death changes nothing.
fn readers() -> Vec<Plan> {
    vec![
        Plan::new("table_get", 2, |d| d.table.get("k").map_or(0, |row| row.get(d.hits) as u64)).arrange(three),
        Plan::new("table_get_absent", 0, |d| d.table.exists("b").into()).arrange(three),
        Plan::new("table_get_many", 3, |d| {
            let mut found = 0;
            d.table.get_many(&["a", "b", "k", "z"], |_, row| found += u64::from(row.is_some()));
            found
        })
        .arrange(three),
        Plan::new("table_iter", 6, |d| d.table.iter().map(|(_, row)| row.get(d.hits) as u64).sum()).arrange(three),
        Plan::new("table_len", 3, |d| d.table.len() as u64).arrange(three),
    ]
}
