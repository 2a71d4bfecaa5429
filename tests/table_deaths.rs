//! Writers of a table that stand still in the middle of a change, die there, or fork there; and many who need room at once.

#![allow(unsafe_code)]

mod common;
mod ledger;

use std::time::{Duration, Instant};

use common::dice::Dice;
use common::{Exit, die, in_child, leave, note, until};
use commons::{Atomic, Error, Outcome, RowMut, Table, recover};
use ledger::{Thrice, setting};

const LONG: Duration = Duration::from_secs(30);
const WORKERS: usize = 4;

/// One stands still holding a row: whoever can wait for a bounded time is told, the others go on.
#[test]
fn a_writer_that_is_stopped_in_a_closure_is_not_robbed() {
    let Thrice { table, n, .. } = &Thrice::new(200, 5_000);
    let keys: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    keys.iter().for_each(|key| _ = table.set(key, &[n.is(1)]).unwrap());
    let inside = Atomic::new(0).unwrap();
    let writer = in_child(|| {
        let change = |row: &mut RowMut<'_>| {
            row.set(*n, 2);
            inside.set(1);
            until("it is let go", || inside.get() == 2);
        };
        table.update_with("0", change).unwrap().unwrap();
    });
    until("it holds the row", || inside.get() == 1);
    writer.stop();
    let bound = Duration::from_millis(60);
    for _ in 0..3 {
        let since = Instant::now();
        assert!(matches!(table.get_timeout("0", bound), Err(Error::Timeout { after }) if after == bound));
        assert!((bound..LONG).contains(&since.elapsed()));
    }
    let waiter = in_child(|| assert_eq!(table.value("0", *n), Some(2), "it waits, and sees what the other has made"));
    // 5000 buckets: hardly any other key shares the one that is held.
    let free: Vec<_> = keys[1..].iter().filter(|key| table.get_timeout(key, Duration::ZERO).is_ok()).collect();
    assert!(free.len() > 90, "{}", free.len());
    for key in &free {
        assert_eq!(table.incr(key, *n, 1).unwrap(), 2);
        assert!(table.del(key) && table.set(key, &[n.is(3)]).unwrap() == Outcome::Inserted);
    }
    assert_eq!(table.len(), 100);
    assert!(!waiter.is_zombie());
    inside.set(2);
    writer.cont();
    writer.join();
    waiter.join();
    assert_eq!((table.value("0", *n), table.stats().recoveries), (Some(2), 0), "and nobody took it for dead");
}

/// Stopped anywhere in a change, time and again: a reader gets a whole row or is told that it took too long.
#[test]
fn a_writer_that_is_stopped_anywhere_leaves_whole_rows() {
    let rows = Thrice::new(50, 50);
    let seed = setting("COMMONS_CHAOS_SEED", std::process::id().into());
    let mut dice = Dice::new(seed);
    rows.set("a", 1);
    let writer = in_child(|| {
        for n in 2.. {
            rows.set("a", n);
            rows.table.del("b");
            rows.set("b", n);
        }
    });
    let (mut timeouts, mut last) = (0, 1);
    for _ in 0..150 {
        std::thread::sleep(Duration::from_micros(dice.roll(800)));
        writer.stop();
        for key in ["a", "b"] {
            match rows.table.get_timeout(key, Duration::from_millis(2)) {
                Ok(None) => assert_eq!(key, "b"),
                Ok(Some(row)) if key == "a" => {
                    let n = rows.whole(&row);
                    assert!(n >= last, "seed {seed}: {n} after {last}");
                    last = n;
                }
                Ok(Some(row)) => _ = rows.whole(&row),
                Err(Error::Timeout { .. }) => timeouts += 1,
                Err(other) => panic!("seed {seed}: {other}"),
            }
        }
        writer.cont();
    }
    assert_eq!(rows.table.stats().recoveries, 0, "seed {seed}: it was never dead");
    writer.kill();
    assert!(rows.table.get("a").is_some_and(|row| rows.whole(&row) >= last));
    note(&format!("seed {seed}: {timeouts} of 300 reads met a writer in mid-change"));
    assert!(timeouts > 0 && last > 1, "seed {seed}: {timeouts} timeouts, {last} changes");
}

/// More of them die in a closure than there are records: nobody waits for a record of the dead.
#[test]
fn the_dead_give_their_records_back() {
    let Thrice { table, n, .. } = &Thrice::new(100, 1_000);
    for key in 0..100 {
        table.set(key.to_string(), &[n.is(1)]).unwrap();
    }
    for key in 0..70 {
        let mut dead = in_child(|| {
            _ = table.update_with(key.to_string(), |row| {
                row.set(*n, 2);
                die();
            })
        });
        assert_eq!(dead.wait(), Exit::Signal(9));
    }
    in_child(|| assert!((70..100).all(|key| table.incr(key.to_string(), *n, 1).unwrap() == 2))).join();
    in_child(|| assert!((0..70).all(|key| table.value(key.to_string(), *n) == Some(1)))).join();
    let stats = table.stats();
    assert_eq!((stats.recoveries, stats.updates, stats.rows), (70, 30, 100));
}

/// Those who die with a row in their hands leave it to the others, who never find the table full before it is.
#[test]
fn the_dead_give_their_rows_back() {
    for managed in [true, false] {
        let table = Table::builder().capacity(10).buckets(1_000).build().unwrap();
        for round in 0..3 {
            for key in 0..10 {
                let mut dead = in_child(|| table.upsert_with(format!("{round} {key}"), |_| die()).unwrap());
                dead.until_dead();
                if managed {
                    recover(dead.pid()).unwrap();
                }
                assert_eq!(dead.wait(), Exit::Signal(9));
            }
            assert_eq!(table.len(), 0);
            (0..10).for_each(|key| assert!(table.add(key.to_string(), &[]).unwrap()));
            assert!(matches!(table.set("more", &[]), Err(Error::Full { capacity: 10 })));
            (0..10).for_each(|key| assert!(table.del(key.to_string())));
        }
        assert_eq!(table.stats().recoveries, 30);
    }
}

/// A process forked inside a closure holds nothing: its parent's change is made, its own is refused.
#[test]
fn a_fork_inside_a_closure() {
    let Thrice { table, n, half, .. } = &Thrice::new(10, 10);
    table.set("a", &[n.is(1)]).unwrap();
    in_child(|| {
        let mut child = -1;
        let told = table.update_with("a", |row| {
            row.set(*n, row.get(*n) + 1);
            // SAFETY: this process has one thread; the child does what stands below and leaves by `_exit`.
            child = unsafe { libc::fork() };
            if child == 0 {
                row.set(*half, 1.0);
                if !matches!(table.set("b", &[]), Err(Error::WouldDeadlock { .. })) {
                    leave(2);
                }
            }
        });
        if child == 0 {
            let refused = matches!(told, Err(Error::WrongProcess { pid, .. }) if pid == std::process::id());
            // The closure is over for it: the row is its parent's, and then anybody's.
            let free =
                table.get_timeout("a", LONG).unwrap().is_some_and(|row| row.get(*n) == 2 && row.get(*half) == 0.0);
            let works = table.incr("b", *n, 5).is_ok_and(|sum| sum == 5);
            leave(if refused && free && works { 0 } else { 3 });
        }
        told.unwrap().unwrap();
        let mut status = -1;
        // SAFETY: waits for the child forked above; the kernel writes into `status`.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!((waited, status), (child, 0), "the child's own judgement");
    })
    .join();
    let row = table.get("a").unwrap();
    assert_eq!((row.get(*n), row.get(*half), table.value("b", *n)), (2, 0.0, Some(5)));
    assert_eq!(table.stats().recoveries, 0);
}

/// Every row has expired, and as many new ones come from four processes at once: each of them finds room.
#[test]
fn expired_rows_make_room_for_all_at_once() {
    const EACH: usize = 500;
    for _ in 0..5 {
        let table = Table::builder().capacity(WORKERS * EACH).ttl().build().unwrap();
        for n in 0..WORKERS * EACH {
            table.set_ttl(n.to_string(), &[], Duration::ZERO).unwrap();
        }
        let fill = |who: usize| (0..EACH).for_each(|n| assert!(table.add(format!("{who} {n}"), &[]).unwrap()));
        let children: Vec<_> = (0..WORKERS).map(|who| in_child(move || fill(who))).collect();
        children.into_iter().for_each(|child| child.join());
        assert!(matches!(table.set("more", &[]), Err(Error::Full { .. })));
        assert_eq!((table.len(), table.stats().deletes), (WORKERS * EACH, (WORKERS * EACH) as u64));
    }
}

/// What has a timeout keeps to it when a writer stands still, and a scan that has one leaves out what it cannot read whole.
#[test]
fn a_stopped_writer_holds_up_nobody_who_is_in_a_hurry() {
    let Thrice { table, n, .. } = &Thrice::new(20, 500);
    (0..20).for_each(|key| _ = table.set(key.to_string(), &[n.is(1)]).unwrap());
    let inside = Atomic::new(0).unwrap();
    let writer = in_child(|| {
        let change = |_: &mut RowMut<'_>| {
            inside.set(1);
            common::sleep_for_ever();
        };
        table.update_with("7", change).unwrap();
    });
    until("it holds the row", || inside.get() == 1);
    writer.stop();
    let soon = Duration::from_millis(30);
    let told = table.upsert_timeout("7", soon, |_| unreachable!("the row is held"));
    assert!(matches!(told, Err(Error::Timeout { after }) if after == soon));
    let keys: Vec<_> = table.iter().timeout(soon).map(|(key, _)| key.as_str().unwrap().to_owned()).collect();
    assert!(!keys.contains(&"7".to_owned()) && (17..20).contains(&keys.len()), "{keys:?}");
    keys.iter().for_each(|key| table.upsert_timeout(key, soon, |row| row.set(*n, 2)).unwrap());
    writer.kill();
    table.upsert_timeout("7", Duration::from_secs(20), |row| row.set(*n, row.get(*n) + 1)).unwrap();
    assert_eq!((table.iter().count(), table.stats().recoveries), (20, 1));
    assert!(table.iter().all(|(key, row)| row.get(*n) == 2 || !keys.contains(&key.as_str().unwrap().to_owned())));
}
